//! Reads of random znodes from memory beside reads from runs: two servers with the same tree, read in turns.
//!
//! One is told to write no run of its own accord, the other is left alone until all is in runs. Both run all the time,
//! so that a machine that drifts favours neither.

use super::ground::{Ground, broken, known, layers};
use super::{Layers, OURS, mntr};
use crate::compare::server::{Launcher, Server};
use crate::load::{self, Moment, Spec};
use crate::shape::Work;
use crate::stats::median;
use crate::tree::Tree;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// The lines that keep everything in memory.
pub fn hold() -> Vec<String> {
    ["txns", "bytes", "quietMs"].map(|what| format!("zorilla.snapshot.{what}=1000000000000")).to_vec()
}

/// One of the two, and what it did.
struct Side {
    name: &'static str,
    server: Server,
    tree: Tree,
    per_s: Vec<f64>,
    per_cpu_s: Vec<f64>,
}

/// Fills both, and reads them in turns.
pub fn run(arguments: &Layers) -> io::Result<()> {
    if arguments.shape.work != Work::Get {
        return Err(io::Error::other(format!("--shape {}: expected get", arguments.shape)));
    }
    let launcher = arguments.common.launcher()?;
    let mut holding = launcher.clone();
    holding.zorilla_lines.extend(arguments.hold.iter().cloned());
    let mut ground = arguments.common.ground("layers", launcher.clone())?;
    let mut sides = [
        side(arguments, &mut ground, "memory", holding, Duration::ZERO)?,
        side(arguments, &mut ground, "runs", launcher, arguments.quiet)?,
    ];
    for _ in 0..arguments.repetitions {
        for side in &mut sides {
            read(arguments, &ground, side)?;
        }
    }
    for side in &sides {
        ground.say(format!(
            "from {}: {:.0} per second, {:.0} per CPU second (medians of {})",
            side.name,
            median(&side.per_s).unwrap_or_default(),
            median(&side.per_cpu_s).unwrap_or_default(),
            side.per_s.len()
        ))?;
    }
    let [memory, runs] = &sides;
    let share = |runs: &[f64], memory: &[f64]| match (median(runs), median(memory)) {
        (Some(runs), Some(memory)) if memory != 0.0 => format!("{:.0} %", 100.0 * runs / memory),
        _ => "-".to_owned(),
    };
    ground.say(format!(
        "runs / memory: {} per second, {} per CPU second",
        share(&runs.per_s, &memory.per_s),
        share(&runs.per_cpu_s, &memory.per_cpu_s)
    ))?;
    ground.finish()
}

/// Fills one, and waits until it says that nothing is in memory only.
fn side(
    arguments: &Layers,
    ground: &mut Ground,
    name: &'static str,
    launcher: Launcher,
    quiet: Duration,
) -> io::Result<Side> {
    ground.launcher = launcher;
    let server = ground.start_as(OURS, name)?;
    let (_, tree) = ground.fill(&server, arguments.znodes)?;
    let begun = Instant::now();
    let entries = loop {
        let entries = layers(&server).count(mntr::OVERLAY_ENTRIES);
        if quiet <= begun.elapsed() || entries.is_none_or(|entries| entries == 0) {
            break entries;
        }
        thread::sleep(Duration::from_millis(200));
    };
    ground.say(format!(
        "{name}: {} znodes, {} entries in memory only, {} runs",
        tree.znodes(),
        known(entries),
        known(layers(&server).count(mntr::RUNS))
    ))?;
    Ok(Side { name, server, tree, per_s: Vec::new(), per_cpu_s: Vec::new() })
}

fn read(arguments: &Layers, ground: &Ground, side: &mut Side) -> io::Result<()> {
    let server = &side.server;
    let spec = Spec {
        warmup: arguments.warmup,
        window: arguments.seconds,
        over: Some(side.tree.clone()),
        ..ground.spec(server, arguments.shape)
    };
    let mut cpu_s = Vec::new();
    let outcome = load::run(&spec, &mut |moment| {
        if moment != Moment::Begins {
            cpu_s.push(server.running_s());
        }
    })?;
    let summary = outcome.summary();
    if let Some(fault) = summary.fault() {
        return Err(broken(server, &format!("{}: {fault}", arguments.shape)));
    }
    let cpu_s: Vec<f64> = cpu_s.into_iter().collect::<io::Result<_>>()?;
    let [before, after] = cpu_s[..] else { return Err(io::Error::other("the server was not watched to the end")) };
    side.per_s.push(summary.ops_per_s);
    side.per_cpu_s.push(summary.ops as f64 / (after - before).max(1e-9));
    Ok(())
}
