//! A tree larger than the memory that its server may use: filled under a limit, then read and written at random.

use super::cgroup::Limit;
use super::ground::{Ground, broken, known, layers, mib};
use super::{Cold, OURS, files, mntr};
use crate::compare::server::Server;
use crate::load::{self, Moment, Spec};
use crate::process;
use crate::shape::Work;
use std::io;

/// Has the server count faults under its gate.
const COUNT_GATE_FAULTS: &str = "zorilla.countGateFaults=true";

/// Fills under the limit, then reads and writes.
pub fn run(arguments: &Cold) -> io::Result<()> {
    if !matches!(arguments.shape.work, Work::Mixed | Work::Get | Work::Set) {
        return Err(io::Error::other(format!("--shape {}: expected mixed, get or set", arguments.shape)));
    }
    // Made first and dropped last: a folder with a process in it cannot be removed.
    let limit = Limit::new(arguments.limit)?;
    let mut launcher = arguments.common.launcher()?;
    launcher.cgroup = Some(limit.folder().to_owned());
    launcher.zorilla_lines.push(COUNT_GATE_FAULTS.to_owned());
    let mut ground = arguments.common.ground("cold", launcher)?;
    let mut server = ground.start(OURS)?;
    let measured = measure(arguments, &mut ground, &server, &limit);
    if let (Err(error), Ok(Some(status))) = (&measured, server.ended()) {
        let limit = mib(limit.bytes()?);
        ground.say(format!("the server ended with {status} under a limit of {limit:.0} MiB: {error}"))?;
    }
    measured?;
    ground.finish()
}

fn measure(arguments: &Cold, ground: &mut Ground, server: &Server, limit: &Limit) -> io::Result<()> {
    let (filled, tree) = ground.fill(server, arguments.znodes)?;
    let told = layers(server);
    let state = files::bytes_on_disk(&server.directory().join("data"))?;
    let data = told.count(mntr::DATA_BYTES);
    ground.say(format!(
        "{} znodes, filled in {:.1} s: paths and data {} MiB, state on disk {:.1} MiB; limit {:.1} MiB",
        tree.znodes(),
        filled.summary.seconds,
        data.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", mib(bytes))),
        mib(state),
        mib(limit.bytes()?)
    ))?;
    if data.unwrap_or(0).max(state) <= limit.bytes()? {
        ground.say("  the tree is smaller than the limit: this shows little")?;
    }
    let pid = server.pid().to_string();
    let spec = Spec { over: Some(tree), window: arguments.seconds, ..ground.spec(server, arguments.shape) };
    let (mut faults, mut before) = (0, told);
    let outcome = load::run(&spec, &mut |moment| {
        if moment == Moment::Begins {
            // A server that is gone is found out by the load.
            faults = process::major_faults(&pid).unwrap_or(0);
            before = layers(server);
        }
    })?;
    let summary = outcome.summary();
    if let Some(fault) = summary.fault() {
        return Err(broken(server, &format!("{}: {fault}", arguments.shape)));
    }
    let after = layers(server);
    let memory = server.memory()?;
    let all = process::major_faults(&pid)?;
    ground.say(format!(
        "{}: {:.0} per second over {:.0} s, p50 {:.2} ms, p99 {:.2} ms, longest {:.1} ms",
        arguments.shape,
        summary.ops_per_s,
        summary.seconds,
        summary.p50_us / 1e3,
        summary.p99_us / 1e3,
        summary.max_us / 1e3
    ))?;
    ground.say(format!(
        "major faults of the server: {} in the load, {all} in all; under the gate: {} in the load, {} in all; blocks \
         brought in ahead: {}, on the spot: {}",
        all - faults,
        known(after.since(&before, mntr::GATE_MAJOR_FAULTS)),
        known(after.count(mntr::GATE_MAJOR_FAULTS)),
        known(after.count(mntr::COLD_BROUGHT_IN)),
        known(after.count(mntr::COLD_INLINE))
    ))?;
    ground.say(format!(
        "memory: anonymous {:.1} MiB, file-backed {:.1} MiB, at most {:.1} MiB with the page cache; limit reached {} times",
        mib(memory.anonymous_bytes),
        mib(memory.file_bytes()),
        mib(limit.most_bytes()?),
        limit.reached()?
    ))
}
