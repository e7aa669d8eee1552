//! What all figures stand on: servers on the measured disk, trees, and the page that is printed and kept.

use super::mntr::Mntr;
use super::{Common, OURS};
use crate::compare::server::{Kind, Launcher, Server};
use crate::compare::{self, revision};
use crate::fill::{self, Beside, Filled};
use crate::load::Spec;
use crate::shape::Shape;
use crate::tree::Tree;
use crate::wire::{self, Random, Session};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Random znodes that are read back to see that a server has what it should.
const READ_BACK: u32 = 1_000;

/// See the module.
pub struct Ground {
    pub launcher: Launcher,
    fill: Shape,
    threads: u32,
    seed: u64,
    /// Where servers keep their data.
    pub directory: PathBuf,
    /// Where the page is kept.
    results: PathBuf,
    page: String,
}

impl Ground {
    /// Makes the folders and begins the page.
    pub fn prepare(name: &'static str, common: &Common, launcher: Launcher) -> io::Result<Ground> {
        fs::create_dir_all(&common.dir)?;
        let now_s = compare::now_s();
        let mut ground = Ground {
            launcher,
            fill: common.fill,
            threads: common.threads,
            seed: common.seed,
            directory: common.dir.canonicalize()?,
            results: compare::new_folder(&common.results, now_s, &format!("-state-{name}"))?,
            page: String::new(),
        };
        let conf = if common.conf.is_empty() { String::new() } else { format!("; {}", common.conf.join(" ")) };
        ground.say(format!(
            "state {name}, {}, revision {}, {} CPUs, {}{conf}",
            compare::stamp(now_s),
            revision(),
            std::thread::available_parallelism().map_or(0, usize::from),
            load_average()
        ))?;
        Ok(ground)
    }

    /// Prints a line and keeps it.
    pub fn say(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        let line = line.as_ref().trim_end();
        println!("{line}");
        self.page.push_str(line);
        self.page.push('\n');
        fs::write(self.results.join("report.txt"), &self.page)
    }

    /// Says how busy the machine was at the end, and where the page is.
    pub fn finish(mut self) -> io::Result<()> {
        self.say(format!("at the end {}", load_average()))?;
        println!("kept in {}", self.results.display());
        Ok(())
    }

    /// Starts a server with nothing in it.
    pub fn start(&self, kind: Kind) -> io::Result<Server> {
        self.start_as(kind, &kind.to_string())
    }

    /// Starts a server with nothing in it, in a folder of this name.
    pub fn start_as(&self, kind: Kind, folder: &str) -> io::Result<Server> {
        self.launcher.start(kind, &self.directory.join(folder))
    }

    /// A load on a server, with everything as it was asked for.
    pub fn spec(&self, server: &Server, shape: Shape) -> Spec {
        Spec { threads: self.threads, seed: self.seed, ..Spec::new(server.address(), shape) }
    }

    /// Fills a server; one wrong reply is an error.
    pub fn fill(&self, server: &Server, znodes: u64) -> io::Result<(Filled, Tree)> {
        self.fill_beside(server, znodes, None, Duration::ZERO)
    }

    /// The same, with a probe of the disk, and stalls above a threshold.
    pub fn fill_beside(
        &self,
        server: &Server,
        znodes: u64,
        beside: Option<&Beside>,
        stall: Duration,
    ) -> io::Result<(Filled, Tree)> {
        let spec = Spec { ops: Some(znodes), stall, ..self.spec(server, self.fill) };
        let mut usage = || server.usage().ok();
        let (filled, tree) = fill::run(&server.kind().to_string(), &spec, beside, &mut usage)?;
        match &filled.error {
            None => Ok((filled, tree)),
            Some(error) => {
                let what = format!("the fill ended after {} of {znodes} znodes: {error}", filled.znodes);
                Err(broken(server, &what))
            }
        }
    }

    /// Reads random znodes of the tree back.
    pub fn read_back(&self, session: &mut Session, tree: &Tree) -> io::Result<()> {
        let filler = wire::filler(tree.data_bytes, tree.seed);
        let mut random = Random::new(self.seed);
        for _ in 0..READ_BACK {
            let (folder, node) = tree.pick(&mut random);
            session.get(&tree.prefix(folder), node, &filler)?;
        }
        Ok(())
    }
}

/// The error of a load that broke off, with what the server has printed: it may have ended.
pub fn broken(server: &Server, what: &str) -> io::Error {
    io::Error::other(format!("{}: {what}; it printed:\n{}", server.kind(), server.tail()))
}

/// What a server of ours says about its layers; of others, and of one that says nothing, nothing.
pub fn layers(server: &Server) -> Mntr {
    match server.kind() == OURS {
        true => Mntr::read(server.address()).unwrap_or_default(),
        false => Mntr::default(),
    }
}

/// How busy the machine is: figures of a shared one are not those of an idle one.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load average {}", text.split(' ').next().unwrap_or_default())
}

/// Bytes as MiB, for people.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A count that may be unknown, for people.
pub fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

/// Milliseconds, for people.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
