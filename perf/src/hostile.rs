//! Hostile clients: one attack after the other on a server of ours, while a well-behaved client is served.
//!
//! Guarantees: every attack prints one line with its figures and PASS or FAIL; it passes only if what it demands is
//! so, the server's anonymous memory stayed within the attack's named limit all the time, and the well-behaved client
//! had no error and was never kept waiting beyond the bounds of [`crate::limits`]. One failure makes the exit code 1.

mod connections;
mod deep;
mod floods;
mod garbage;
mod ground;

use clap::Parser;
use ground::{Ground, Side, Told};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::crash::server::Starter;
use crate::limits::{
    HOSTILE_CHURN_BYTES, HOSTILE_DEEP_BYTES, HOSTILE_GARBAGE_BYTES, HOSTILE_HALF_OPEN_BYTES, HOSTILE_IDLE_BYTES,
    HOSTILE_LORIS_BYTES, HOSTILE_PIPELINE_BYTES, HOSTILE_READERS_BYTES, HOSTILE_SIDE_MAX, HOSTILE_SIDE_P99,
    HOSTILE_SIDE_P99_DISK, HOSTILE_WATCHES_BYTES, HOSTILE_WRITES_BYTES,
};

/// One attack.
struct Attack {
    name: &'static str,
    /// By how much anonymous memory may grow meanwhile.
    memory_bytes: u64,
    /// How long the client beside it may wait at p99.
    wait: Duration,
    run: fn(&Ground) -> Result<Told, String>,
}

const fn attack(name: &'static str, memory_bytes: u64, run: fn(&Ground) -> Result<Told, String>) -> Attack {
    Attack { name, memory_bytes, wait: HOSTILE_SIDE_P99, run }
}

/// In this order: what a connection or a watch costs is only seen in a process that has not been large before.
const ATTACKS: [Attack; 10] = [
    attack("idle-connections", HOSTILE_IDLE_BYTES, connections::idle),
    attack("come-and-go", HOSTILE_CHURN_BYTES, connections::come_and_go),
    attack("slow-loris", HOSTILE_LORIS_BYTES, connections::slow_loris),
    attack("half-open", HOSTILE_HALF_OPEN_BYTES, connections::half_open),
    attack("watch-flood", HOSTILE_WATCHES_BYTES, floods::watches),
    attack("garbage-frames", HOSTILE_GARBAGE_BYTES, garbage::frames),
    attack("deep-trees", HOSTILE_DEEP_BYTES, deep::trees),
    attack("pipelined-reads", HOSTILE_PIPELINE_BYTES, floods::pipelined_reads),
    Attack {
        wait: HOSTILE_SIDE_P99_DISK,
        ..attack("pipelined-writes", HOSTILE_WRITES_BYTES, floods::pipelined_writes)
    },
    attack("slow-readers", HOSTILE_READERS_BYTES, floods::slow_readers),
];

#[derive(Parser)]
#[command(name = "hostile", about = "Attack a server with hostile clients while a well-behaved one is served")]
struct Cli {
    /// What serves as `<server> server <zoo.cfg>`. Default: $ZORILLA, then the binary beside this one.
    #[arg(long)]
    server: Option<String>,
    /// A line of zoo.cfg; may be repeated.
    #[arg(long)]
    conf: Vec<String>,
    /// Only attacks whose name contains one of these, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A small share of everything, for every change.
    #[arg(long)]
    quick: bool,
    /// Connections with sessions that are held at once. Server and generator each need a descriptor for one.
    /// Default: 19000, with --quick 2000.
    #[arg(long)]
    connections: Option<usize>,
    /// Decides what is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Working folder; emptied at the start. Default: target/hostile.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs the attacks; `args` are the words behind `hostile`.
pub fn main(args: Vec<String>) -> ExitCode {
    let cli = Cli::parse_from(std::iter::once("hostile".to_owned()).chain(args));
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool, String> {
    let chosen: Vec<&Attack> = ATTACKS
        .iter()
        .filter(|attack| cli.only.is_empty() || cli.only.iter().any(|part| attack.name.contains(part.as_str())))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
        return Err(format!("--only {}: in none of {}", cli.only.join(","), names.join(" ")));
    }
    ground::raise_descriptors();
    let folder = cli.dir.clone().unwrap_or_else(|| PathBuf::from("target/hostile"));
    let said = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(said)?;
    }
    std::fs::create_dir_all(folder.join("data")).map_err(said)?;
    let folder = folder.canonicalize().map_err(said)?;
    let command = match cli.server.clone().or_else(|| std::env::var("ZORILLA").ok()) {
        Some(command) => command.split_whitespace().map(str::to_owned).collect(),
        None => vec![crate::crash::beside_this_binary()?],
    };
    let starter = Starter { command, conf: cli.conf.clone(), folder: folder.clone() };
    let mut server = starter.spawn(&folder.join("data")).map_err(|error| error.to_string())?;
    server.wait_serving()?;
    let connections = cli.connections.unwrap_or(if cli.quick { 2_000 } else { 19_000 });
    let ground = Ground::prepare(server.address, server.pid(), cli.quick, connections, cli.seed)?;
    let mut side = Side::open(server.address)?;
    println!(
        "hostile: {} attacks{}; beside each a client reads and writes, with p99 within {} ms ({} ms while the log is \
         filled), none above {} ms and no error",
        chosen.len(),
        if cli.quick { ", a small share of each" } else { "" },
        HOSTILE_SIDE_P99.as_millis(),
        HOSTILE_SIDE_P99_DISK.as_millis(),
        HOSTILE_SIDE_MAX.as_millis()
    );
    let begun = Instant::now();
    let mut failed = 0;
    for attack in &chosen {
        let passed = one(&ground, &mut side, attack);
        failed += usize::from(!passed);
        if let Err(error) = side.check_alive() {
            println!("the server is gone or does not serve any more: {error}; it printed:\n{}", server.tail());
            return Ok(false);
        }
    }
    println!(
        "hostile: {} passed, {failed} failed; most connections held at once {}, largest anonymous memory {} MiB; \
         {:.0} s",
        chosen.len() - failed,
        ground.held_most.get(),
        ground::mib(ground.memory_most.get()),
        begun.elapsed().as_secs_f64()
    );
    drop(server);
    if failed == 0 {
        // The data of a failed run may be looked at; that of a good one is of no use.
        std::fs::remove_dir_all(folder.join("data")).map_err(|error| error.to_string())?;
    }
    Ok(failed == 0)
}

/// Runs one attack, prints its line, and says whether it passed.
fn one(ground: &Ground, side: &mut Side, attack: &Attack) -> bool {
    let Attack { name, memory_bytes, wait, run } = attack;
    let begun = Instant::now();
    let (before, cpu_before_s) = (ground.memory(), ground.cpu_s());
    let (told, peak, served) = ground.beside(side, *run);
    let mut told = told.unwrap_or_else(|error| Told { text: "broken off".to_owned(), faults: vec![error] });
    let after = ground.memory();
    told.demand(peak <= before + memory_bytes, || {
        format!("anonymous memory grew by {} MiB, {} allowed", ground::mib(peak - before), ground::mib(*memory_bytes))
    });
    served.judge(&mut told, *wait);
    let passed = told.faults.is_empty();
    println!(
        "{} {name}: {}; memory {} MiB, at most {}, after it {} (may grow by {}); {}; {:.1} s, of which the \
         server worked {:.1}",
        if passed { "PASS" } else { "FAIL" },
        told.text,
        ground::mib(before),
        ground::mib(peak),
        ground::mib(after),
        ground::mib(*memory_bytes),
        served.text(),
        begun.elapsed().as_secs_f64(),
        ground.cpu_s() - cpu_before_s
    );
    for fault in &told.faults {
        println!("     {name}: {fault}");
    }
    passed
}
