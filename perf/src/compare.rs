//! Side by side: every server, every shape, every repetition on a fresh process, on the same disk.
//!
//! Guarantees: within a repetition the servers of a shape run one right after the other, in an order that the seed
//! decides, as it decides the order of the shapes: a machine that drifts does not favour anybody. Every run is kept
//! the moment it ends, the failed ones too; what is printed is computed from the kept runs alone.

pub mod plot;
pub mod report;
pub mod server;

use crate::load::{self, Moment, Spec};
use crate::probe::{self, SyncTimes};
use crate::process::{self, Usage};
use crate::shape::Shape;
use crate::stats::Summary;
use crate::wire::Random;
use serde::{Deserialize, Serialize};
use server::{JAVA_VERSION, Kind, Launcher};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Syncs of one block that are measured before each repetition.
const PROBE_SYNCS: u32 = 1_000;

/// What is compared, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers.
    pub kinds: Vec<Kind>,
    /// The shapes.
    pub shapes: Vec<Shape>,
    /// How often.
    pub repetitions: u32,
    /// Load before the window.
    pub warmup: Duration,
    /// The measured window.
    pub window: Duration,
    /// Threads of the generator.
    pub threads: u32,
    /// Znodes that are got and set.
    pub keys: u32,
    /// Decides every order.
    pub seed: u64,
    /// Where servers keep their data.
    pub directory: PathBuf,
}

/// A line of the kept runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The machine, first.
    Machine(Box<Machine>),
    /// The disk alone, before a repetition.
    Disk {
        /// Which repetition, from 1.
        repetition: u32,
        /// Durable writes of one block.
        sync: SyncTimes,
    },
    /// One server under one shape.
    Run(Box<Run>),
}

/// Where and with what the runs were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// When the comparison began, in seconds since 1970.
    pub started_s: u64,
    /// The kernel.
    pub kernel: String,
    /// The processor.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// The file system of the servers' data.
    pub file_system: String,
    /// How the floor and the probe write.
    pub disk: String,
    /// The first line of `java -version`.
    pub java: String,
    /// The version of the reference.
    pub zookeeper: String,
    /// The revision of this repository.
    pub revision: String,
    /// Decided every order.
    pub seed: u64,
    /// Repetitions.
    pub repetitions: u32,
    /// Length of a measured window.
    pub window_s: f64,
    /// Load before it.
    pub warmup_s: f64,
    /// Threads of the generator.
    pub threads: u32,
    /// Lines added to the configuration of Zorilla.
    pub zorilla_lines: Vec<String>,
}

/// One server under one shape, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The server.
    pub server: String,
    /// The shape.
    pub shape: String,
    /// Which repetition, from 1.
    pub repetition: u32,
    /// When it began, in seconds since 1970.
    pub started_s: u64,
    /// CPU time of the server in the window.
    pub cpu_s: f64,
    /// CPU time of the generator in the window.
    pub generator_cpu_s: f64,
    /// Successful requests per CPU second of the server.
    pub ops_per_cpu_s: f64,
    /// Memory of the server without files behind it, at the end of the window.
    pub anonymous_bytes: u64,
    /// Memory of the server with files behind it.
    pub file_bytes: u64,
    /// What the generator saw.
    pub summary: Summary,
    /// Why the figures count for nothing, if they do.
    pub error: Option<String>,
}

/// What a comparison left behind.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The folder of the kept runs, the page and the picture.
    pub folder: PathBuf,
    /// The page.
    pub page: String,
    /// Runs that count for nothing.
    pub failed: usize,
}

/// Runs the plan; keeps everything in a new folder of `results`.
pub fn run(plan: &Plan, launcher: &Launcher, results: &Path) -> io::Result<Compared> {
    fs::create_dir_all(&plan.directory)?;
    let machine = machine(plan, launcher)?;
    let folder = new_folder(results, machine.started_s, "")?;
    let mut kept = OpenOptions::new().create_new(true).append(true).open(folder.join("runs.jsonl"))?;
    keep(&mut kept, &Record::Machine(Box::new(machine)))?;
    let mut random = Random::new(plan.seed);
    let runs_on = |kind: Kind, shape: &Shape| kind != Kind::Floor || shape.work.runs_on_floor();
    let runs = plan.shapes.iter().flat_map(|shape| plan.kinds.iter().map(move |kind| (*kind, shape)));
    let total = plan.repetitions as usize * runs.filter(|(kind, shape)| runs_on(*kind, shape)).count();
    let (mut done, mut failed) = (0, 0);
    eprintln!("{total} runs, seed {}, kept in {}", plan.seed, folder.display());
    for repetition in 1..=plan.repetitions {
        let sync = probe::measure(&plan.directory.join("probe"), PROBE_SYNCS)?;
        eprintln!("repetition {repetition}: a durable block takes {:.0} µs (p50)", sync.p50_us);
        keep(&mut kept, &Record::Disk { repetition, sync })?;
        let mut shapes = plan.shapes.clone();
        random.shuffle(&mut shapes);
        for shape in shapes {
            let mut kinds = plan.kinds.clone();
            random.shuffle(&mut kinds);
            for kind in kinds.into_iter().filter(|kind| runs_on(*kind, &shape)) {
                let run = one(plan, launcher, kind, shape, repetition);
                done += 1;
                failed += usize::from(run.error.is_some());
                eprintln!("[{done}/{total}] {}", line(&run));
                keep(&mut kept, &Record::Run(Box::new(run)))?;
            }
        }
    }
    let page = report::write(&folder)?;
    Ok(Compared { folder, page, failed })
}

/// One run. What goes wrong is part of it: the comparison goes on.
fn one(plan: &Plan, launcher: &Launcher, kind: Kind, shape: Shape, repetition: u32) -> Run {
    let mut run =
        Run { server: kind.to_string(), shape: shape.to_string(), repetition, started_s: now_s(), ..Run::default() };
    if let Err(error) = measure(plan, launcher, kind, shape, &mut run) {
        run.error = Some(error.to_string());
    }
    run
}

fn measure(plan: &Plan, launcher: &Launcher, kind: Kind, shape: Shape, run: &mut Run) -> io::Result<()> {
    let server = launcher.start(kind, &plan.directory.join(kind.to_string()))?;
    let spec = Spec {
        threads: plan.threads,
        warmup: plan.warmup,
        window: plan.window,
        keys: plan.keys,
        seed: plan.seed,
        ..Spec::new(server.address(), shape)
    };
    let mut usages: Vec<io::Result<(Usage, Usage)>> = Vec::new();
    let rounds = shape.work.is_rounds();
    let both = || {
        let (mut of_server, mut of_generator) = (server.usage()?, process::usage("self")?);
        if rounds {
            of_server.cpu_s = server.running_s()?;
            of_generator.cpu_s = process::running_s("self")?;
        }
        Ok((of_server, of_generator))
    };
    let outcome = load::run(&spec, &mut |moment| {
        if moment != Moment::Begins {
            usages.push(both());
        }
    })?;
    run.summary = outcome.summary();
    // One window, or one in each round.
    let usages: Vec<(Usage, Usage)> = usages.into_iter().collect::<io::Result<_>>()?;
    for window in usages.chunks(2) {
        let [(before, generator_before), (after, generator_after)] = window else {
            return Err(io::Error::other("the server was not watched to the end"));
        };
        run.cpu_s += after.cpu_s - before.cpu_s;
        run.generator_cpu_s += generator_after.cpu_s - generator_before.cpu_s;
        run.anonymous_bytes = after.anonymous_bytes;
        run.file_bytes = after.file_bytes;
    }
    // The kernel counts in hundredths; a server that used none of them has no rate.
    run.ops_per_cpu_s = if run.cpu_s <= 0.0 { 0.0 } else { run.summary.ops as f64 / run.cpu_s };
    run.error = run.summary.fault();
    Ok(())
}

fn line(run: &Run) -> String {
    let what = format!("{:<22} {:<16}", run.shape, run.server);
    match &run.error {
        Some(error) => format!("{what} FAILED: {error}"),
        None => format!(
            "{what} {:>9.0} ops/s {:>9.0} per CPU s  p50 {:>7.0} µs  p99 {:>7.0} µs",
            run.summary.ops_per_s, run.ops_per_cpu_s, run.summary.p50_us, run.summary.p99_us
        ),
    }
}

fn keep(kept: &mut File, record: &Record) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    kept.write_all(&line)
}

/// Now, in seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A folder named after the time, which did not exist before.
pub fn new_folder(results: &Path, at_s: u64, suffix: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(results)?;
    let stamp = stamp(at_s);
    for attempt in 0..100 {
        let again = if attempt == 0 { String::new() } else { format!("-{attempt}") };
        let folder = results.join(format!("{stamp}{suffix}{again}"));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(|()| folder),
        }
    }
    Err(io::Error::other(format!("{} has too many folders of {stamp}", results.display())))
}

/// `20260131-235959`, in UTC.
pub fn stamp(at_s: u64) -> String {
    let (days, second) = (at_s / 86_400, at_s % 86_400);
    // Days are counted from a first of March, so that the leap day is the last of its year.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", second / 3_600, second / 60 % 60, second % 60)
}

fn machine(plan: &Plan, launcher: &Launcher) -> io::Result<Machine> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let memory_kib: u64 = field(&meminfo, "MemTotal").trim_end_matches("kB").trim().parse().unwrap_or(0);
    let java = if plan.kinds.contains(&Kind::Java) {
        let output = Command::new(&launcher.java).arg("-version").output()?;
        String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned()
    } else {
        String::new()
    };
    Ok(Machine {
        started_s: now_s(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        cpu: field(&cpuinfo, "model name"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: memory_kib * 1024,
        file_system: file_system(&plan.directory)?,
        disk: zorilla_wal::disk::best(&plan.directory, true).map_err(io::Error::other)?.describe(),
        java,
        zookeeper: JAVA_VERSION.to_owned(),
        revision: revision(),
        seed: plan.seed,
        repetitions: plan.repetitions,
        window_s: plan.window.as_secs_f64(),
        warmup_s: plan.warmup.as_secs_f64(),
        threads: plan.threads,
        zorilla_lines: launcher.zorilla_lines.clone(),
    })
}

/// Type and options of the file system that holds `directory`.
fn file_system(directory: &Path) -> io::Result<String> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mut best = (0, String::new());
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split(' ').collect();
        if let [_, point, kind, options, ..] = fields[..]
            && directory.starts_with(point)
            && best.0 <= point.len()
        {
            best = (point.len(), format!("{kind} ({options})"));
        }
    }
    Ok(best.1)
}

/// The commit of this source tree, and whether the tree differs from it.
pub fn revision() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        None => "unknown".to_owned(),
        Some(commit) => match git(&["status", "--porcelain"]) {
            Some(changes) if changes.is_empty() => commit,
            _ => format!("{commit} with changes"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_dates() {
        for (at_s, expected) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (1_767_225_599, "20251231-235959"),
            (4_107_542_400, "21000301-000000"),
        ] {
            assert_eq!(stamp(at_s), expected);
        }
    }

    #[test]
    fn two_comparisons_of_one_second_do_not_share_a_folder() {
        let results = tempfile::tempdir().expect("a directory");
        let first = new_folder(results.path(), 0, "").expect("a folder");
        let second = new_folder(results.path(), 0, "").expect("a folder");
        assert_ne!(first, second);
        assert!(first.is_dir() && second.is_dir());
    }

    #[test]
    fn the_machine_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(file_system(directory.path()).expect("/proc").contains('('));
        assert!(!revision().is_empty());
    }
}
