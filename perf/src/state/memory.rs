//! Bytes per znode: anonymous and file-backed memory right after the fill and after a quiet time, and what state and
//! log take on disk.

use super::ground::{Ground, known, layers, mib};
use super::{Memory, files, mntr};
use crate::compare::server::{End, Kind, Server};
use crate::process;
use std::io;
use std::thread;

/// Measures every server.
pub fn run(arguments: &Memory) -> io::Result<()> {
    let (launcher, kinds) = arguments.common.launcher_beside(&arguments.java)?;
    let mut ground = arguments.common.ground("memory", launcher)?;
    for kind in kinds {
        if kind != Kind::Java || arguments.znodes <= arguments.java.java_znodes_max {
            one(arguments, &mut ground, kind)?;
        }
    }
    ground.finish()
}

fn one(arguments: &Memory, ground: &mut Ground, kind: Kind) -> io::Result<()> {
    let mut server = ground.start(kind)?;
    let empty = server.memory()?;
    let (filled, tree) = ground.fill(&server, arguments.znodes)?;
    let znodes = tree.znodes();
    ground.say(format!(
        "{kind}, {znodes} znodes of {} B, filled in {:.1} s; before: anonymous {:.1} MiB, file-backed {:.1} MiB",
        tree.data_bytes,
        filled.summary.seconds,
        mib(empty.anonymous_bytes),
        mib(empty.file_bytes())
    ))?;
    look(ground, &server, "right after the fill", empty, znodes)?;
    thread::sleep(arguments.quiet);
    look(ground, &server, &format!("after {:.0} quiet s", arguments.quiet.as_secs_f64()), empty, znodes)?;
    let on_disk = |folder: &str| files::bytes_on_disk(&server.directory().join(folder));
    let (state, log) = (on_disk("data")?, on_disk("log")?);
    let each = |bytes: u64| bytes as f64 / znodes as f64;
    ground.say(format!(
        "  on disk: state {:.1} MiB ({:.0} B per znode), log {:.1} MiB ({:.0} B per znode)",
        mib(state),
        each(state),
        mib(log),
        each(log)
    ))?;
    if kind == Kind::Java {
        // It writes a snapshot of everything when it starts, and none when it is quiet or stops.
        server.end(End::Term)?;
        ground.launcher.again(&mut server)?;
        server.await_session()?;
        let snapshot = files::largest(&server.directory().join("data"), "snapshot.")?.unwrap_or_default();
        ground.say(format!("  its snapshot: {:.1} MiB ({:.0} B per znode)", mib(snapshot), each(snapshot)))?;
    }
    Ok(())
}

/// Memory now. Per znode counts what came on top of the empty server.
fn look(ground: &mut Ground, server: &Server, when: &str, empty: process::Memory, znodes: u64) -> io::Result<()> {
    let now = server.memory()?;
    let told = layers(server);
    let each = |now: u64, empty: u64| (now as f64 - empty as f64) / znodes as f64;
    ground.say(format!(
        "  {when}: anonymous {:.0} B per znode ({:.1} MiB), file-backed {:.0} B per znode ({:.1} MiB), resident {:.1} \
         MiB; {} entries in memory only, {} runs",
        each(now.anonymous_bytes, empty.anonymous_bytes),
        mib(now.anonymous_bytes),
        each(now.file_bytes(), empty.file_bytes()),
        mib(now.file_bytes()),
        mib(now.resident_bytes),
        known(told.count(mntr::OVERLAY_ENTRIES)),
        known(told.count(mntr::RUNS))
    ))
}
