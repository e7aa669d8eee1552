//! The command line: arguments in, plans out.

use crate::compare::server::{Kind, Launcher};
use crate::compare::{self, Plan, report};
use crate::fill::{self, Beside};
use crate::floor::Floor;
use crate::limits::{KEYS_MAX, SECONDS_MAX, THREADS_MAX};
use crate::load::{self, Spec};
use crate::shape::{self, Shape};
use crate::stats::Summary;
use clap::{Args, Parser, Subcommand};
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(name = "zorilla-perf", version, about = "Load, the floor, and the comparison with the Java server")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate load against a server that runs, and check every reply.
    Load(LoadArgs),
    /// Run the null server: durable group commit and nothing else.
    Floor(FloorArgs),
    /// Run the Java server, Zorilla and the floor side by side.
    Compare(CompareArgs),
    /// Fill servers with znodes at full speed, and look for stalls of writes.
    Fill(FillArgs),
    /// Make the page and the picture of a kept comparison again.
    Report {
        /// Its folder, which holds runs.jsonl.
        folder: PathBuf,
    },
    /// Kill servers under load and count losses; `crash --help` says more.
    Crash,
    /// Attack a server with hostile clients; `hostile --help` says more.
    Hostile,
    /// Starts, memory, snapshots, stalls of trees of many sizes; `state --help` says more.
    State,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("expected HOST:PORT: {error}"))?;
    found.next().ok_or_else(|| "the name has no address".to_owned())
}

/// Seconds, none as well.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("expected 0 to {SECONDS_MAX} seconds")),
    }
}

/// Seconds, more than none.
pub fn window(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("expected more than 0 seconds".to_owned()),
        window => Ok(window),
    }
}

#[derive(Debug, Args)]
struct LoadArgs {
    /// The server.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2181", value_parser = address)]
    address: SocketAddr,
    /// What to ask for: WORK-SIZE:CLIENTSxPIPELINE[@RATE], such as create-100:128x32 or mixed-1k:64x32@20000. Works:
    /// ping, create, set, get, mixed, multi10, ephemeral, exists, children; in rounds watches, sharedwatches, sessions.
    shape: Shape,
    /// The measured window in seconds.
    #[arg(long, default_value = "5", value_parser = window)]
    seconds: Duration,
    /// Load before the window, in seconds.
    #[arg(long, default_value = "2", value_parser = seconds)]
    warmup: Duration,
    /// End after this many requests (or rounds) instead of after a time; no warm-up then.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    ops: Option<u64>,
    /// Record writes above this many milliseconds as stalls.
    #[arg(long, value_name = "MS", default_value = "0")]
    stall_ms: u64,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    generator: GeneratorArgs,
}

#[derive(Debug, Args)]
struct GeneratorArgs {
    /// Threads of the generator.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=i64::from(THREADS_MAX)))]
    threads: u32,
    /// Znodes to get and set, loaded before.
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=i64::from(KEYS_MAX)))]
    keys: u32,
    /// Decides data, keys and orders.
    #[arg(long, default_value = "1")]
    seed: u64,
}

#[derive(Debug, Args)]
struct FloorArgs {
    /// Where to listen; port 0 takes any free one. The address is printed once it serves.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2181", value_parser = address)]
    address: SocketAddr,
    /// Where the log goes.
    #[arg(long, default_value = "target/perf-data/floor")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// The binary of Zorilla, for servers named ours.
    #[arg(long, value_name = "PATH")]
    zorilla: Option<PathBuf>,
    /// A line to add to the zoo.cfg of Zorilla; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    zorilla_line: Vec<String>,
    /// The java command.
    #[arg(long, value_name = "PATH", default_value = "java")]
    java: PathBuf,
    /// Where servers keep their data: on the disk that is to be measured.
    #[arg(long, default_value = "target/perf-data")]
    dir: PathBuf,
    /// Where results are kept.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// java, floor, ours[-folded|-dedicated][-WORKERS], separated by commas. Without it: java and floor, and with
    /// --zorilla also ours-folded and ours-dedicated.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// Shapes of the matrix whose name contains one of these, separated by commas, or whole shapes of your own.
    #[arg(long, value_delimiter = ',')]
    shapes: Vec<String>,
    /// How often everything runs.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// The measured window in seconds.
    #[arg(long, default_value = "5", value_parser = window)]
    seconds: Duration,
    /// Load before the window, in seconds; the Java server compiles its code meanwhile.
    #[arg(long, default_value = "4", value_parser = seconds)]
    warmup: Duration,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct FillArgs {
    /// A server that runs already; otherwise those of --servers are started.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    address: Option<SocketAddr>,
    /// The process of the server at --address, to see its memory.
    #[arg(long, requires = "address")]
    pid: Option<u32>,
    /// java, floor, ours[-folded|-dedicated][-WORKERS], separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "floor", conflicts_with = "address")]
    servers: Vec<Kind>,
    /// Znodes to create.
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u64).range(1..))]
    znodes: u64,
    /// How: a create shape of the closed loop.
    #[arg(long, default_value = "create-100:16x32")]
    shape: Shape,
    /// Writes that take longer are recorded as stalls.
    #[arg(long, value_name = "MS", default_value = "20")]
    stall_ms: u64,
    /// Sync one block of the bare disk again and again meanwhile, with this pause in between; 0 does not.
    #[arg(long, value_name = "MS", default_value = "5")]
    probe_ms: u64,
    #[command(flatten)]
    generator: GeneratorArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Load(arguments) => load(&arguments),
        Command::Floor(arguments) => floor(&arguments),
        Command::Compare(arguments) => compare(arguments),
        Command::Fill(arguments) => fill(&arguments),
        Command::Report { folder } => report::write(&folder).map(|page| {
            print!("{page}");
            true
        }),
        // `main` looks at these names before the command line is read here.
        Command::Crash => dispatched("crash"),
        Command::Hostile => dispatched("hostile"),
        Command::State => dispatched("state"),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("zorilla-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatched(name: &str) -> io::Result<bool> {
    Err(io::Error::other(format!("write `zorilla-perf {name}` with nothing in front of `{name}`")))
}

fn load(arguments: &LoadArgs) -> io::Result<bool> {
    let spec = Spec {
        threads: arguments.generator.threads,
        warmup: arguments.warmup,
        window: arguments.seconds,
        ops: arguments.ops,
        keys: arguments.generator.keys,
        seed: arguments.generator.seed,
        stall: Duration::from_millis(arguments.stall_ms),
        ..Spec::new(arguments.address, arguments.shape)
    };
    let outcome = load::run(&spec, &mut |_| {})?;
    let summary = outcome.summary();
    if arguments.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{}", text(arguments.shape, &summary));
        for stall in outcome.tally.stalls.kept() {
            println!(
                "stall at {:.3} s: {:.1} ms, {} writes",
                stall.start_ns as f64 / 1e9,
                stall.longest_ns as f64 / 1e6,
                stall.writes
            );
        }
    }
    Ok(summary.fault().is_none())
}

fn text(shape: Shape, summary: &Summary) -> String {
    let mut text = format!(
        "{shape}: {:.0} ops/s over {:.1} s, worst second {}\n\
         latency: p50 {:.1} µs, p90 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, longest {:.1} µs\nby second: {:?}\n",
        summary.ops_per_s,
        summary.seconds,
        summary.worst_second,
        summary.p50_us,
        summary.p90_us,
        summary.p99_us,
        summary.p999_us,
        summary.max_us,
        summary.series
    );
    if shape.rate.is_some() {
        text.push_str(&format!("the generator itself was late by {:.1} µs at p99\n", summary.send_lag_p99_us));
    }
    if shape.work == shape::Work::Multi {
        let creates = summary.ops_per_s * f64::from(shape::MULTI_CREATES);
        text.push_str(&format!("these are transactions: {creates:.0} creates/s\n"));
    }
    if !summary.rounds.is_empty() {
        let rounds: Vec<String> = summary.rounds.iter().map(|rate| format!("{rate:.0}")).collect();
        text.push_str(&format!("ops/s by round, of which the median counts: {}\n", rounds.join(" ")));
    }
    for (code, count) in &summary.errors {
        text.push_str(&format!("errors: {count} × {code}\n"));
    }
    for violation in &summary.violation_texts {
        text.push_str(&format!("wrong: {violation}\n"));
    }
    if let Some(fault) = summary.fault() {
        text.push_str(&format!("FAILED: {fault}\n"));
    }
    text
}

fn floor(arguments: &FloorArgs) -> io::Result<bool> {
    let floor = Floor::bind(arguments.address, &arguments.dir)?;
    println!("floor: serving {}; log: {}", floor.address(), floor.describe());
    floor.run()?;
    Ok(true)
}

/// The shapes that are meant: whole ones as they are, others of the matrix by what their names contain.
fn shapes(filters: &[String]) -> io::Result<Vec<Shape>> {
    let all = shape::all();
    if filters.is_empty() {
        return Ok(all);
    }
    let mut chosen: Vec<Shape> = Vec::new();
    for filter in filters {
        let mut found: Vec<Shape> = match filter.parse() {
            Ok(whole) => vec![whole],
            Err(_) => all.iter().copied().filter(|shape| shape.to_string().contains(filter.as_str())).collect(),
        };
        if found.is_empty() {
            let names: Vec<String> = all.iter().map(Shape::to_string).collect();
            return Err(io::Error::other(format!("--shapes {filter}: in none of {}", names.join(" "))));
        }
        found.retain(|shape| !chosen.contains(shape));
        chosen.append(&mut found);
    }
    Ok(chosen)
}

fn compare(arguments: CompareArgs) -> io::Result<bool> {
    let mut kinds = arguments.servers;
    if kinds.is_empty() {
        let names: &[&str] = match arguments.server.zorilla {
            Some(_) => &["java", "floor", "ours-folded", "ours-dedicated"],
            None => &["java", "floor"],
        };
        kinds = names.iter().map(|name| name.parse()).collect::<Result<_, String>>().map_err(io::Error::other)?;
    }
    let plan = Plan {
        shapes: shapes(&arguments.shapes)?,
        repetitions: arguments.repetitions,
        warmup: arguments.warmup,
        window: arguments.seconds,
        threads: arguments.generator.threads,
        keys: arguments.generator.keys,
        seed: arguments.generator.seed,
        directory: arguments.server.dir,
        kinds,
    };
    let launcher =
        Launcher::prepare(&plan.kinds, arguments.server.java, arguments.server.zorilla, arguments.server.zorilla_line)?;
    let compared = compare::run(&plan, &launcher, &arguments.server.results)?;
    println!("{}\nkept in {}", compared.page, compared.folder.display());
    Ok(compared.failed == 0)
}

fn fill(arguments: &FillArgs) -> io::Result<bool> {
    if arguments.shape.work != shape::Work::Create || arguments.shape.rate.is_some() {
        return Err(io::Error::other(format!("--shape {}: a fill creates, in the closed loop", arguments.shape)));
    }
    let spec = |address| Spec {
        threads: arguments.generator.threads,
        ops: Some(arguments.znodes),
        seed: arguments.generator.seed,
        stall: Duration::from_millis(arguments.stall_ms),
        ..Spec::new(address, arguments.shape)
    };
    let beside = (arguments.probe_ms != 0).then(|| Beside {
        directory: arguments.server.dir.join("probe"),
        pause: Duration::from_millis(arguments.probe_ms),
    });
    fs::create_dir_all(&arguments.server.dir)?;
    let folder = compare::new_folder(&arguments.server.results, compare::now_s(), "-fill")?;
    let mut good = true;
    let mut report = String::new();
    let mut lines = String::new();
    let mut done = |filled: fill::Filled| -> io::Result<()> {
        print!("{}", filled.text());
        good &= filled.error.is_none();
        report.push_str(&filled.text());
        lines.push_str(&serde_json::to_string(&filled)?);
        lines.push('\n');
        fs::write(folder.join("fills.jsonl"), &lines)?;
        fs::write(folder.join("report.txt"), &report)
    };
    match arguments.address {
        Some(address) => {
            let pid = arguments.pid.map(|pid| pid.to_string());
            let mut usage = || crate::process::usage(pid.as_deref()?).ok();
            done(fill::run(&address.to_string(), &spec(address), beside.as_ref(), &mut usage)?.0)?;
        }
        None => {
            let launcher = Launcher::prepare(
                &arguments.servers,
                arguments.server.java.clone(),
                arguments.server.zorilla.clone(),
                arguments.server.zorilla_line.clone(),
            )?;
            for kind in &arguments.servers {
                let name = kind.to_string();
                let server = launcher.start(*kind, &arguments.server.dir.join(&name))?;
                let mut usage = || server.usage().ok();
                done(fill::run(&name, &spec(server.address()), beside.as_ref(), &mut usage)?.0)?;
            }
        }
    }
    println!("kept in {}", folder.display());
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn filters_choose_shapes_of_the_matrix_or_add_their_own() {
        let chosen = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
            shapes(&filters).map(|shapes| shapes.iter().map(Shape::to_string).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).expect("all").len(), 56);
        assert_eq!(chosen(&["create-100"]).expect("five").len(), 5);
        assert_eq!(chosen(&["watches"]).expect("both").len(), 2);
        assert_eq!(chosen(&["get-1k:16x1"]).expect("a whole shape"), ["get-1k:16x1"]);
        assert_eq!(chosen(&["get-1k:128x", "get-1k:128x1"]).expect("no doubles"), ["get-1k:128x1", "get-1k:128x32"]);
        assert_eq!(chosen(&["set-700:3x2"]).expect("an own shape"), ["set-700:3x2"]);
        assert!(chosen(&["delete"]).expect_err("unknown").to_string().contains("in none of ping:1x1 create-100:1x1"));
    }
}
