//! The longest stall of a write while a tree grows, beside the longest sync of the bare disk.

use super::ground::{known, layers};
use super::{OURS, Stall, mntr};
use crate::fill::Beside;
use std::io;
use std::time::Duration;

/// Fills, and says what stalled.
pub fn run(arguments: &Stall) -> io::Result<()> {
    let mut ground = arguments.common.ground("stall", arguments.common.launcher()?)?;
    let server = ground.start(OURS)?;
    let beside = Beside { directory: ground.directory.join("probe"), pause: Duration::from_millis(arguments.probe_ms) };
    let stall = Duration::from_millis(arguments.stall_ms);
    let (filled, _) = ground.fill_beside(&server, arguments.znodes, Some(&beside), stall)?;
    let told = layers(&server);
    ground.say(filled.text())?;
    let disk_ms = filled.disk.as_ref().map_or(0.0, |disk| disk.max_us / 1e3);
    ground.say(format!(
        "longest stall of a write {:.1} ms, p99.9 {:.2} ms, p99 {:.2} ms; longest sync of the disk {disk_ms:.1} ms; {} \
         flushes, {} merges",
        filled.summary.max_us / 1e3,
        filled.summary.p999_us / 1e3,
        filled.summary.p99_us / 1e3,
        known(told.count(mntr::FLUSHES)),
        known(told.count(mntr::MERGES))
    ))?;
    ground.finish()
}
