//! The disk alone: how long one durable write of a block takes, beside a server or without one.
//!
//! Guarantees: writes as the log does (same backend, direct, recycled blocks), so a sync that is slow here while a
//! server's write stalls says that the disk stalled them both.

use crate::stats::histogram;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zorilla_wal::AlignedBuf;
use zorilla_wal::disk::{self, AnyDisk, DirFile, Disk, Files, SyncWrite};
use zorilla_wal::limits::BLOCK_BYTES;

/// The file that is written; it is removed when a probe ends.
const FILE: &str = "probe";

/// Blocks of the file that is written round and round.
const BLOCKS: u64 = 1024;

/// How long durable writes of one block take on a disk that does nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncTimes {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// 99 % took no longer.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// A sync that took long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowSync {
    /// When it began.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
}

/// What a probe saw while something else was going on.
#[derive(Clone, Debug)]
pub struct Seen {
    /// All syncs, in nanoseconds.
    pub times: Histogram<u64>,
    /// Those above the threshold, in order.
    pub slow: Vec<SlowSync>,
}

struct Probe {
    disk: AnyDisk,
    file: DirFile,
    buffer: Option<AlignedBuf>,
    block: u64,
}

impl Probe {
    fn open(directory: &Path) -> io::Result<Probe> {
        let disk = disk::best(directory, true).map_err(io::Error::other)?;
        let files = disk.files();
        if files.list()?.iter().any(|entry| entry.name == FILE) {
            files.remove(FILE)?;
        }
        let file = files.create(FILE)?;
        let full = AlignedBuf::new(BLOCKS as usize * BLOCK_BYTES);
        let mut offset_bytes = 0;
        while offset_bytes < full.len() {
            offset_bytes += files.write_at(&file, offset_bytes as u64, &full[offset_bytes..])?;
        }
        files.sync(&file)?;
        files.sync_directory()?;
        Ok(Probe { disk, file, buffer: Some(AlignedBuf::new(BLOCK_BYTES)), block: 0 })
    }

    fn sync(&mut self) -> io::Result<SlowSync> {
        let buffer = self.buffer.take().ok_or_else(|| io::Error::other("the write before did not come back"))?;
        let begun = Instant::now();
        let offset_bytes = self.block * BLOCK_BYTES as u64;
        self.disk.submit(&self.file, SyncWrite { token: self.block, offset_bytes, bytes: BLOCK_BYTES, buffer })?;
        self.disk.wait()?;
        let completion = self.disk.complete().ok_or_else(|| io::Error::other("a wait without a completion"))?;
        let took = begun.elapsed();
        completion.result?;
        self.buffer = Some(completion.buffer);
        self.block = (self.block + 1) % BLOCKS;
        Ok(SlowSync { begun, took })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // A file that stays behind is written over by the next probe.
        let _ = self.disk.files().remove(FILE);
    }
}

/// Measures `count` durable writes of a block, one after the other.
pub fn measure(directory: &Path, count: u32) -> io::Result<SyncTimes> {
    let mut probe = Probe::open(directory)?;
    let mut times = histogram();
    for _ in 0..count {
        times.saturating_record(probe.sync()?.took.as_nanos() as u64);
    }
    Ok(summary(&times))
}

/// The figures of a histogram of nanoseconds.
pub fn summary(times: &Histogram<u64>) -> SyncTimes {
    SyncTimes {
        count: times.len(),
        p50_us: times.value_at_quantile(0.5) as f64 / 1e3,
        p99_us: times.value_at_quantile(0.99) as f64 / 1e3,
        max_us: times.max() as f64 / 1e3,
    }
}

/// Syncs a block every `pause` until `stop`, and remembers what took longer than `slow`.
pub fn watch(directory: &Path, pause: Duration, slow: Duration, stop: &AtomicBool) -> io::Result<Seen> {
    let mut probe = Probe::open(directory)?;
    let mut seen = Seen { times: histogram(), slow: Vec::new() };
    // Relaxed: the flag orders nothing; a sync more or less does not matter.
    while !stop.load(Ordering::Relaxed) {
        let sync = probe.sync()?;
        seen.times.saturating_record(sync.took.as_nanos() as u64);
        if slow < sync.took {
            seen.slow.push(sync);
        }
        std::thread::sleep(pause);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sync_is_counted_and_takes_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let times = measure(directory.path(), 20).expect("a sound disk");
        assert_eq!(times.count, 20);
        assert!(0.0 < times.p50_us && times.p50_us <= times.p99_us && times.p99_us <= times.max_us * 1.01);
    }

    #[test]
    fn a_watch_stops_when_told_and_keeps_what_was_slow() {
        let directory = tempfile::tempdir().expect("a directory");
        let stop = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                watch(directory.path(), Duration::from_millis(1), Duration::ZERO, &stop).expect("a sound disk")
            });
            std::thread::sleep(Duration::from_millis(100));
            stop.store(true, Ordering::Relaxed);
            watching.join().expect("no panic")
        });
        assert!(!seen.times.is_empty());
        assert_eq!(seen.slow.len() as u64, seen.times.len(), "every sync takes longer than nothing");
    }
}
