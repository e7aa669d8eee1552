//! A Java server 3.9.5 on every state that an import can leave behind: it serves exactly what it had, or refuses.
//!
//! ```text
//! JAVA_CP=$(clients/java/run --provision) cargo test --test sentinel -- --nocapture
//! ```
//!
//! Without a class path only our own side is tested, and it says so.

#[path = "common/java.rs"]
#[expect(dead_code, reason = "nothing is asked but srvr")]
mod java;
#[path = "common/scratch.rs"]
mod scratch;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use scratch::Scratch;
use zorilla::compat::progress::Quiet;
use zorilla::compat::{self, Imported, Options, SENTINEL};
use zorilla_proto::ids::Zxid;

struct Case {
    name: &'static str,
    is_split: bool,
    zxid: u64,
    /// As the Java server counts, the root twice.
    znodes: u64,
}

const CASES: [Case; 2] = [
    Case { name: "two-logs-394", is_split: false, zxid: 0x13, znodes: 22 },
    Case { name: "split-394", is_split: true, zxid: 0x30, znodes: 50 },
];

struct Place {
    scratch: Arc<Scratch>,
    data: PathBuf,
    log: PathBuf,
    native: Option<Zxid>,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

impl Place {
    fn new(case: &Case) -> Place {
        let scratch = Scratch::new("sentinel");
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(case.name);
        let data = scratch.join("data");
        let log = if case.is_split { scratch.join("log") } else { data.clone() };
        copy(&corpus.join("version-2"), &data.join("version-2"));
        if case.is_split {
            copy(&corpus.join("log/version-2"), &log.join("version-2"));
        }
        Place { scratch, data, log, native: None }
    }

    /// Imports and stops before this step. The step's name, or `None` behind the last one.
    fn import_until(&mut self, stop: usize) -> (Option<String>, Option<Imported>) {
        let options = Options { native: self.native, ..Options::new(9, 0xf_ffff) };
        let (mut count, mut stopped) = (0, None);
        let mut before = |what: &str| {
            count += 1;
            if count <= stop {
                return Ok(());
            }
            stopped = Some(what.to_owned());
            Err(io::Error::other("stopped by the test"))
        };
        let native = &mut self.native;
        let mut publish = |recovered: compat::Recovered| {
            *native = Some(recovered.applied);
            Ok(())
        };
        let done = compat::import_in_steps(&self.data, &self.log, &options, &mut Quiet, &mut publish, &mut before);
        match (stopped, done) {
            (None, done) => (None, done.unwrap()),
            (Some(what), Err(_)) => (Some(what), None),
            (Some(what), Ok(_)) => panic!("{what} failed and nobody noticed"),
        }
    }

    fn is_set_aside(&self) -> bool {
        [&self.data, &self.log].iter().all(|base| {
            let names: Vec<_> = fs::read_dir(base.join("version-2")).unwrap().map(|e| e.unwrap().file_name()).collect();
            names == [SENTINEL] && base.join("version-2.before-zorilla").exists()
        })
    }

    /// Starts a Java server here; its answer to `srvr`, or what it said when it refused.
    fn java(&self, class_path: &str, flags: &[&str]) -> Result<String, String> {
        java::start(class_path, &self.scratch.join(""), &self.data, &self.log, flags).map(|java| java.srvr.clone())
    }
}

#[test]
fn a_java_server_serves_what_it_had_or_refuses_on_every_state() {
    let class_path = java::class_path();
    if class_path.is_none() {
        println!("no Java server was started: JAVA_CP is not set");
    }
    for case in &CASES {
        for stop in 0.. {
            let mut place = Place::new(case);
            let (step, _) = place.import_until(stop);
            // What Java finds first are its own files or the sentinel.
            let is_java = |base: &Path| !base.join("version-2").join(SENTINEL).exists();
            let expects_service = is_java(&place.data) && is_java(&place.log);
            if let Some(class_path) = &class_path {
                let answer = place.java(class_path, &[]);
                let (zxid, znodes) = (format!("Zxid: {:#x}\n", case.zxid), format!("Node count: {}\n", case.znodes));
                match &answer {
                    Ok(text) => assert!(expects_service && text.contains(&zxid) && text.contains(&znodes), "{text}"),
                    Err(words) => assert!(!expects_service, "before {step:?} Java must serve: {words}"),
                }
                let what = answer.map_or("refuses", |_| "serves what it had");
                println!("{}: stopped before {}: Java {what}", case.name, step.as_deref().unwrap_or("nothing"));
                if !expects_service {
                    let trusting = place.java(class_path, &["-Dzookeeper.snapshot.trust.empty=true"]);
                    assert!(trusting.is_err(), "nor when it may start without a snapshot");
                }
            }
            // The next start goes on, whether a Java server ran in between or not.
            let (left, _) = place.import_until(usize::MAX);
            assert!(left.is_none() && place.is_set_aside());
            assert_eq!(place.native, Some(Zxid::from_raw(case.zxid)));
            if step.is_none() {
                break;
            }
        }
    }
}
