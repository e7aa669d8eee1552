//! What state costs: starts, memory, disk, snapshots and merges beside writes, stalls, trees larger than memory.
//!
//! Every figure has a command of its own, which fills servers itself, on the disk of `--dir`, and sweeps them away.
//! What is printed is kept in a folder of the results, too. A server that does not tell of runs yet (`mntr`) is
//! measured all the same, and what it does not tell stands as `-`.
//!
//! Guarantees: every reply is checked, like those of any load; after a start, random znodes are read back.

mod cgroup;
mod cold;
mod files;
mod ground;
mod layers;
mod memory;
mod mntr;
mod snapshots;
mod stall;
mod start;

use crate::cli::{seconds, window};
use crate::compare::server::{Kind, Launcher};
use crate::limits::ZNODES_MAX;
use crate::shape::{Shape, Work};
use clap::{Args, Parser, Subcommand};
use ground::Ground;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(
    name = "state",
    about = "What state costs: starts, memory, disk, snapshots, stalls, trees larger than memory"
)]
struct Cli {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Subcommand)]
enum Figure {
    /// From exec to the reply of the first read, for trees of several sizes.
    Start(Start),
    /// Bytes per znode: anonymous, file-backed, on disk.
    Memory(Memory),
    /// Write throughput by second while snapshots and merges run.
    Snapshots(Snapshots),
    /// The longest stall of a write while a tree grows.
    Stall(Stall),
    /// Reads of znodes in memory beside reads of znodes in runs.
    Layers(Layers),
    /// A tree larger than the memory the server may use; needs root and cgroup v1.
    Cold(Cold),
}

#[derive(Args)]
struct Common {
    /// Zorilla's binary. Default: $ZORILLA, then the binary beside this one.
    #[arg(long, value_name = "PATH")]
    zorilla: Option<PathBuf>,
    /// A line to add to its zoo.cfg; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    conf: Vec<String>,
    /// Where servers keep their data: on the disk that is to be measured.
    #[arg(long, default_value = "target/perf-data/state")]
    dir: PathBuf,
    /// Where what is printed is kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
    /// How the tree is filled: a create shape of the closed loop.
    #[arg(long, default_value = "create-100:16x32", value_parser = fill_shape)]
    fill: Shape,
    /// Threads of the generator.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Decides data, keys and orders.
    #[arg(long, default_value = "1")]
    seed: u64,
}

#[derive(Args)]
struct Java {
    /// Class path of the Java server 3.9.5, to measure it beside. Default: $JAVA_CP; without it Java is left out.
    #[arg(long, value_name = "CLASSPATH")]
    java_cp: Option<String>,
    /// The java command.
    #[arg(long, value_name = "PATH", default_value = "java")]
    java: PathBuf,
    /// Its heap.
    #[arg(long, default_value = "1g")]
    java_heap: String,
    /// Larger trees are left to Zorilla.
    #[arg(long, default_value = "1m", value_parser = count)]
    java_znodes_max: u64,
}

#[derive(Args)]
struct Start {
    /// Sizes, separated by commas.
    #[arg(long, default_value = "100k,1m", value_delimiter = ',', value_parser = count)]
    znodes: Vec<u64>,
    /// Quiet seconds between the fill and the first end.
    #[arg(long, default_value = "60", value_parser = seconds)]
    quiet: Duration,
    /// Starts of each kind; all are printed.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1000))]
    starts: u32,
    /// Also start with the page cache of the server's files dropped.
    #[arg(long)]
    cold: bool,
    /// Also kill -9 in the middle of full write load, and start.
    #[arg(long)]
    kill_under_load: bool,
    /// How long that load runs before.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = window)]
    load: Duration,
    #[command(flatten)]
    java: Java,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Memory {
    /// Znodes to create.
    #[arg(long, default_value = "1m", value_parser = count)]
    znodes: u64,
    /// Quiet seconds between the fill and the second look.
    #[arg(long, default_value = "60", value_parser = seconds)]
    quiet: Duration,
    #[command(flatten)]
    java: Java,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Snapshots {
    /// Znodes that are there before.
    #[arg(long, default_value = "1m", value_parser = count)]
    znodes: u64,
    /// The measured window in seconds.
    #[arg(long, default_value = "60", value_parser = window)]
    seconds: Duration,
    /// Load before the window, in seconds.
    #[arg(long, default_value = "3", value_parser = seconds)]
    warmup: Duration,
    /// The writes: a set, create or mixed shape.
    #[arg(long, default_value = "set-100:16x32")]
    shape: Shape,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Stall {
    /// Znodes to create.
    #[arg(long, default_value = "10m", value_parser = count)]
    znodes: u64,
    /// Writes that take longer are listed.
    #[arg(long, value_name = "MS", default_value = "20")]
    stall_ms: u64,
    /// The bare disk is synced again and again meanwhile, with this pause in between.
    #[arg(long, value_name = "MS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..))]
    probe_ms: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Layers {
    /// Znodes to read.
    #[arg(long, default_value = "1m", value_parser = count)]
    znodes: u64,
    /// The measured window in seconds.
    #[arg(long, default_value = "5", value_parser = window)]
    seconds: Duration,
    /// Load before the window, in seconds.
    #[arg(long, default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// How often each of the two is read, in turns.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// The reads: a get shape.
    #[arg(long, default_value = "get-100:16x32")]
    shape: Shape,
    /// Lines of zoo.cfg with which a server writes no run of its own accord.
    #[arg(long, value_name = "KEY=VALUE", default_values_t = layers::hold())]
    hold: Vec<String>,
    /// How long a server may take until everything is in runs.
    #[arg(long, default_value = "120", value_parser = seconds)]
    quiet: Duration,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Cold {
    /// Znodes to create; they should be larger than the limit.
    #[arg(long, default_value = "4m", value_parser = count)]
    znodes: u64,
    /// Memory that the server may use, with its page cache: bytes, or with k, m or g behind.
    #[arg(long, default_value = "256m", value_parser = bytes)]
    limit: u64,
    /// The measured window of random reads and writes, in seconds.
    #[arg(long, default_value = "30", value_parser = window)]
    seconds: Duration,
    /// The load over the tree: a mixed, get or set shape.
    #[arg(long, default_value = "mixed-100:16x4")]
    shape: Shape,
    #[command(flatten)]
    common: Common,
}

/// `100k`, `1m`, `10000000`.
fn count(text: &str) -> Result<u64, String> {
    scaled(text, 1_000)
        .filter(|count| (1..=ZNODES_MAX).contains(count))
        .ok_or_else(|| format!("expected 1 to {ZNODES_MAX} znodes, such as 5000, 100k or 10m"))
}

/// `268435456`, `256m`.
fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, 1_024)
        .filter(|bytes| 1 << 20 <= *bytes)
        .ok_or_else(|| "expected at least 1m bytes, such as 268435456, 256m or 1g".to_owned())
}

fn scaled(text: &str, thousand: u64) -> Option<u64> {
    let power = match text.chars().last()? {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        _ => 0,
    };
    let number = if power == 0 { text } else { &text[..text.len() - 1] };
    number.parse::<u64>().ok()?.checked_mul(thousand.pow(power))
}

fn fill_shape(text: &str) -> Result<Shape, String> {
    let shape: Shape = text.parse()?;
    match shape.work == Work::Create && shape.rate.is_none() {
        true => Ok(shape),
        false => Err(format!("{shape}: a fill creates, in the closed loop")),
    }
}

/// The one server of ours that is measured.
const OURS: Kind = Kind::Ours { driver: None, workers: 0 };

impl Common {
    fn zorilla(&self) -> io::Result<PathBuf> {
        match (&self.zorilla, std::env::var_os("ZORILLA")) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(path)) => Ok(path.into()),
            (None, None) => crate::crash::beside_this_binary().map(PathBuf::from).map_err(io::Error::other),
        }
    }

    /// Zorilla alone.
    fn launcher(&self) -> io::Result<Launcher> {
        Launcher::prepare(&[OURS], PathBuf::from("java"), Some(self.zorilla()?), self.conf.clone())
    }

    /// Zorilla, and Java if it can be had.
    fn launcher_beside(&self, java: &Java) -> io::Result<(Launcher, Vec<Kind>)> {
        let Some(class_path) = java.java_cp.clone().or_else(|| std::env::var("JAVA_CP").ok()) else {
            return Ok((self.launcher()?, vec![OURS]));
        };
        let kinds = vec![OURS, Kind::Java];
        let (program, zorilla) = (java.java.clone(), Some(self.zorilla()?));
        let mut launcher = Launcher::with_class_path(&kinds, program, class_path, zorilla, self.conf.clone())?;
        launcher.java_heap.clone_from(&java.java_heap);
        Ok((launcher, kinds))
    }

    fn ground(&self, name: &'static str, launcher: Launcher) -> io::Result<Ground> {
        Ground::prepare(name, self, launcher)
    }
}

/// Measures one figure; `args` are the words behind `state`.
pub fn main(args: Vec<String>) -> ExitCode {
    let done = match Cli::parse_from(std::iter::once("state".to_owned()).chain(args)).figure {
        Figure::Start(arguments) => start::run(&arguments),
        Figure::Memory(arguments) => memory::run(&arguments),
        Figure::Snapshots(arguments) => snapshots::run(&arguments),
        Figure::Stall(arguments) => stall::run(&arguments),
        Figure::Layers(arguments) => layers::run(&arguments),
        Figure::Cold(arguments) => cold::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zorilla-perf state: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["state", "start", "--znodes", "100k,1m,10m", "--cold"]).is_ok());
    }

    #[test]
    fn counts_and_bytes_have_their_own_thousands() {
        assert_eq!((count("100k"), count("10m"), count("7")), (Ok(100_000), Ok(10_000_000), Ok(7)));
        assert_eq!((bytes("256m"), bytes("1g")), (Ok(256 << 20), Ok(1 << 30)));
        for text in ["", "0", "m", "1.5m", "-1", "2g", "99999999999999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
        assert!(bytes("1000k").is_err() && bytes("99999999999g").is_err());
        assert!(fill_shape("create-100:1x1").is_ok());
        for text in ["set-100:1x1", "create-100:1x1@5"] {
            assert!(fill_shape(text).is_err(), "{text}");
        }
    }
}
