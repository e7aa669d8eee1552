//! Filling a server with znodes at full speed, looking for writes that stall while the tree grows.
//!
//! Guarantees: every write that took longer than the threshold is in a stall, with its time. With a probe beside it,
//! each stall says how long the slowest sync of the bare disk took in the same stretch of time, so that what the
//! disk did is told apart from what the server did.

use crate::load::{self, Moment, Spec};
use crate::probe::{self, Seen, SlowSync, SyncTimes};
use crate::process::Usage;
use crate::stats::{Stall, Summary};
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Syncs of the probe above this are kept, to be laid beside the stalls.
const SLOW_SYNC: Duration = Duration::from_millis(2);

/// A raw-disk probe beside the load.
#[derive(Clone, Debug)]
pub struct Beside {
    /// On the disk that the server writes to.
    pub directory: PathBuf,
    /// From the end of a sync to the next.
    pub pause: Duration,
}

/// A stall, and what the disk did meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// When the first late write was sent, in seconds of the run.
    pub at_s: f64,
    /// The longest time one of its writes was under way.
    pub longest_ms: f64,
    /// Late writes.
    pub writes: u64,
    /// The slowest sync of the probe that overlaps it; `None` without a probe.
    pub disk_ms: Option<f64>,
}

/// What came out of a fill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filled {
    /// What was filled.
    pub server: String,
    /// Znodes that were created.
    pub znodes: u64,
    /// Rates and latencies.
    pub summary: Summary,
    /// Writes slower than this are in a stall.
    pub threshold_ms: f64,
    /// Stalls in the order of time.
    pub stalls: Vec<Explained>,
    /// Stalls that found no room; not 0 means the server was slow all the time.
    pub stalls_dropped: u64,
    /// The probe's syncs during the fill.
    pub disk: Option<SyncTimes>,
    /// The server before the fill and after it, where it can be seen.
    pub usage: Option<(Usage, Usage)>,
    /// Why the figures count for nothing, if they do.
    pub error: Option<String>,
}

/// Fills; gives back the tree as well. `usage` looks at the server, if it runs here.
pub fn run(
    server: &str,
    spec: &Spec,
    beside: Option<&Beside>,
    usage: &mut dyn FnMut() -> Option<Usage>,
) -> io::Result<(Filled, Tree)> {
    let stop = AtomicBool::new(false);
    let mut begun = Instant::now();
    let (mut before, mut after) = (None, None);
    let (outcome, seen) = std::thread::scope(|scope| {
        let watching = beside.map(|it| scope.spawn(|| probe::watch(&it.directory, it.pause, SLOW_SYNC, &stop)));
        let outcome = load::run(spec, &mut |moment| match moment {
            Moment::Begins => {
                begun = Instant::now();
                before = usage();
            }
            Moment::WindowBegins => {}
            Moment::WindowEnds => after = usage(),
        });
        stop.store(true, Ordering::Relaxed);
        let seen = watching.map(|watching| watching.join().expect("the probe does not panic")).transpose();
        (outcome, seen)
    });
    let (outcome, seen) = (outcome?, seen?);
    let summary = outcome.summary();
    let filled = Filled {
        server: server.to_owned(),
        znodes: outcome.tally.succeeded,
        threshold_ms: spec.stall.as_secs_f64() * 1e3,
        stalls: explain(outcome.tally.stalls.kept(), begun, seen.as_ref()),
        stalls_dropped: outcome.tally.stalls.dropped,
        disk: seen.as_ref().map(|seen| probe::summary(&seen.times)),
        usage: before.zip(after),
        error: summary.fault(),
        summary,
    };
    Ok((filled, outcome.tree))
}

fn explain(stalls: &[Stall], begun: Instant, seen: Option<&Seen>) -> Vec<Explained> {
    let overlaps = |stall: &Stall, sync: &SlowSync| {
        let from = sync.begun.saturating_duration_since(begun).as_nanos() as u64;
        let until = (sync.begun + sync.took).saturating_duration_since(begun).as_nanos() as u64;
        from <= stall.end_ns && stall.start_ns <= until
    };
    stalls
        .iter()
        .map(|stall| Explained {
            at_s: stall.start_ns as f64 / 1e9,
            longest_ms: stall.longest_ns as f64 / 1e6,
            writes: stall.writes,
            disk_ms: seen.map(|seen| {
                let slow = seen.slow.iter().filter(|sync| overlaps(stall, sync));
                slow.map(|sync| sync.took.as_secs_f64() * 1e3).fold(0.0, f64::max)
            }),
        })
        .collect()
}

impl Filled {
    /// The longest part of a stall that the disk does not explain, in milliseconds.
    pub fn unexplained_ms(&self) -> f64 {
        self.stalls.iter().map(|stall| stall.longest_ms - stall.disk_ms.unwrap_or(0.0)).fold(0.0, f64::max)
    }

    /// Anonymous memory that a znode cost.
    pub fn anonymous_bytes_per_znode(&self) -> Option<f64> {
        let (before, after) = self.usage?;
        let grown = after.anonymous_bytes as f64 - before.anonymous_bytes as f64;
        (self.znodes != 0).then(|| grown / self.znodes as f64)
    }

    /// The report, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.text_into(&mut text);
        text
    }

    fn text_into(&self, out: &mut String) -> std::fmt::Result {
        let summary = &self.summary;
        writeln!(
            out,
            "{}: {} znodes in {:.1} s, {:.0} per second; p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, longest {:.1} ms; \
             worst second {}",
            self.server,
            self.znodes,
            summary.seconds,
            summary.ops_per_s,
            summary.p50_us,
            summary.p99_us,
            summary.p999_us,
            summary.max_us / 1e3,
            summary.worst_second
        )?;
        if let Some((before, after)) = self.usage {
            writeln!(
                out,
                "memory: {:.0} B anonymous per znode; anonymous {:.1} MiB, file {:.1} MiB; CPU {:.1} s",
                self.anonymous_bytes_per_znode().unwrap_or(0.0),
                after.anonymous_bytes as f64 / (1u64 << 20) as f64,
                after.file_bytes as f64 / (1u64 << 20) as f64,
                after.cpu_s - before.cpu_s
            )?;
        }
        if let Some(disk) = &self.disk {
            writeln!(
                out,
                "disk beside it: {} syncs, p50 {:.0} µs, p99 {:.0} µs, longest {:.1} ms",
                disk.count,
                disk.p50_us,
                disk.p99_us,
                disk.max_us / 1e3
            )?;
        }
        writeln!(
            out,
            "stalls above {} ms: {}{}; longest beyond what the disk explains: {:.1} ms",
            self.threshold_ms,
            self.stalls.len(),
            if self.stalls_dropped == 0 { String::new() } else { format!(" and {} not kept", self.stalls_dropped) },
            self.unexplained_ms()
        )?;
        for stall in &self.stalls {
            write!(out, "  at {:9.3} s: {:7.1} ms, {} writes", stall.at_s, stall.longest_ms, stall.writes)?;
            match stall.disk_ms {
                Some(disk_ms) => writeln!(out, "; slowest sync of the disk meanwhile {disk_ms:.1} ms")?,
                None => writeln!(out)?,
            }
        }
        match &self.error {
            Some(error) => writeln!(out, "FAILED: {error}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram;

    fn stall(start_ms: u64, end_ms: u64) -> Stall {
        let ns = 1_000_000;
        Stall { start_ns: start_ms * ns, end_ns: end_ms * ns, longest_ns: (end_ms - start_ms) * ns, writes: 3 }
    }

    #[test]
    fn a_stall_is_laid_beside_the_slowest_sync_that_overlaps_it() {
        let begun = Instant::now();
        let slow = |at_ms: u64, took_ms: u64| SlowSync {
            begun: begun + Duration::from_millis(at_ms),
            took: Duration::from_millis(took_ms),
        };
        let seen = Seen { times: histogram(), slow: vec![slow(90, 15), slow(120, 25), slow(400, 70)] };
        let explained = explain(&[stall(100, 130), stall(200, 260)], begun, Some(&seen));
        assert_eq!(explained[0].disk_ms, Some(25.0));
        assert_eq!(explained[1].disk_ms, Some(0.0));
        assert_eq!((explained[0].at_s, explained[0].longest_ms), (0.1, 30.0));
        assert_eq!(explain(&[stall(100, 130)], begun, None)[0].disk_ms, None);
        let filled = Filled {
            server: "x".to_owned(),
            znodes: 1_000,
            summary: Summary::default(),
            threshold_ms: 20.0,
            stalls: explained,
            stalls_dropped: 0,
            disk: None,
            usage: Some((Usage::default(), Usage { anonymous_bytes: 190_000, ..Usage::default() })),
            error: None,
        };
        assert_eq!(filled.unexplained_ms(), 60.0);
        assert_eq!(filled.anonymous_bytes_per_znode(), Some(190.0));
        assert!(filled.text().contains("at     0.200 s:    60.0 ms, 3 writes; slowest sync"), "{}", filled.text());
    }
}
