//! The floor's group commit: many appends, one durable write, the same policy as Zorilla's log.
//!
//! Idle: a batch is submitted at once. With one write in flight a second is submitted when it is large or has waited
//! for half a mean sync. `durable` advances over the contiguous prefix only. The log is one file, written full once
//! and then written over from the start; there is no checksum, because nobody reads it.

use super::SECOND_LOOK;
use crate::limits::{FLOOR_BATCH_BYTES, FLOOR_IN_FLIGHT_MAX, FLOOR_LOG_BYTES};
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use zorilla_wal::AlignedBuf;
use zorilla_wal::disk::{self, AnyDisk, DirFile, Disk, Files, SyncWrite};
use zorilla_wal::limits::{BLOCK_BYTES, CHUNK_BYTES, SECOND_WRITE_BYTES, SYNC_NS_ASSUMED};

const FILE: &str = "floor.log";

/// A write that is submitted and not part of the durable prefix yet.
struct InFlight {
    batch: u64,
    begun: Instant,
    done: bool,
}

/// Appends in, durable batches out.
pub struct Commit {
    disk: AnyDisk,
    file: DirFile,
    offset_bytes: u64,
    building: AlignedBuf,
    built_bytes: usize,
    /// When the first append of the batch being built was made.
    first: Option<Instant>,
    spare: Vec<AlignedBuf>,
    /// The number of the batch being built.
    batch: u64,
    durable: u64,
    in_flight: VecDeque<InFlight>,
    sync_ns_mean: u64,
}

impl Commit {
    /// Takes `directory`, which no other process may use, and writes the file full.
    pub fn open(directory: &Path) -> io::Result<Commit> {
        let mut disk = disk::best(directory, true).map_err(io::Error::other)?;
        if !disk.lock()? {
            return Err(io::Error::other(format!("{} is in use by another server", directory.display())));
        }
        let files = disk.files();
        if files.list()?.iter().any(|entry| entry.name == FILE) {
            files.remove(FILE)?;
        }
        let file = files.create(FILE)?;
        let zeros = AlignedBuf::new(CHUNK_BYTES);
        let mut offset_bytes = 0;
        while offset_bytes < FLOOR_LOG_BYTES {
            offset_bytes += files.write_at(&file, offset_bytes, &zeros)? as u64;
        }
        files.sync(&file)?;
        files.sync_directory()?;
        Ok(Commit {
            disk,
            file,
            offset_bytes: 0,
            building: AlignedBuf::new(FLOOR_BATCH_BYTES),
            built_bytes: 0,
            first: None,
            spare: (0..FLOOR_IN_FLIGHT_MAX).map(|_| AlignedBuf::new(FLOOR_BATCH_BYTES)).collect(),
            batch: 1,
            durable: 0,
            in_flight: VecDeque::new(),
            sync_ns_mean: SYNC_NS_ASSUMED,
        })
    }

    /// Which backend writes.
    pub fn describe(&self) -> String {
        self.disk.describe()
    }

    /// Becomes readable with every completion.
    pub fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.disk.event_fd()
    }

    /// The last batch that is durable with all before it.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Adds a record; says which batch it is in. `None`: the batch is full, reap and submit first.
    #[inline]
    pub fn append(&mut self, record: &[u8]) -> Option<u64> {
        let end = self.built_bytes + 4 + record.len();
        if FLOOR_BATCH_BYTES < end {
            return None;
        }
        let to = &mut self.building[self.built_bytes..end];
        to[..4].copy_from_slice(&(record.len() as u32).to_le_bytes());
        to[4..].copy_from_slice(record);
        self.built_bytes = end;
        if self.first.is_none() {
            self.first = Some(Instant::now());
        }
        Some(self.batch)
    }

    /// Takes completions. Whether the durable prefix has grown.
    pub fn reap(&mut self) -> io::Result<bool> {
        while let Some(completion) = self.disk.complete() {
            let written = completion.result?;
            if written != completion.bytes {
                return Err(io::Error::other(format!("the disk took {written} of {} bytes", completion.bytes)));
            }
            self.spare.push(completion.buffer);
            for write in &mut self.in_flight {
                if write.batch == completion.token {
                    write.done = true;
                    let took_ns = write.begun.elapsed().as_nanos() as u64;
                    self.sync_ns_mean = self.sync_ns_mean - self.sync_ns_mean / 8 + took_ns / 8;
                }
            }
        }
        let before = self.durable;
        while self.in_flight.front().is_some_and(|write| write.done) {
            self.in_flight.pop_front();
            self.durable += 1;
        }
        Ok(before != self.durable)
    }

    /// Submits the batch being built if the policy says so.
    pub fn submit(&mut self) -> io::Result<()> {
        let Some(first) = self.first else { return Ok(()) };
        let due = match self.in_flight.len() {
            0 => true,
            FLOOR_IN_FLIGHT_MAX.. => false,
            _ => {
                SECOND_WRITE_BYTES <= self.built_bytes
                    || u128::from(self.sync_ns_mean / 2) <= first.elapsed().as_nanos()
            }
        };
        if !due {
            return Ok(());
        }
        let Some(spare) = self.spare.pop() else { return Ok(()) };
        let bytes = self.built_bytes.next_multiple_of(BLOCK_BYTES);
        if FLOOR_LOG_BYTES < self.offset_bytes + bytes as u64 {
            self.offset_bytes = 0;
        }
        let buffer = std::mem::replace(&mut self.building, spare);
        self.in_flight.push_back(InFlight { batch: self.batch, begun: Instant::now(), done: false });
        let write = SyncWrite { token: self.batch, offset_bytes: self.offset_bytes, bytes, buffer };
        self.disk.submit(&self.file, write)?;
        self.offset_bytes += bytes as u64;
        self.built_bytes = 0;
        self.first = None;
        self.batch += 1;
        Ok(())
    }

    /// The batch being built has nothing in it, and so has room for any record.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How long the loop may sleep: without a bound unless a young batch waits for its turn behind one write. The
    /// completion of that write ends the sleep anyway, so a coarse bound is enough.
    pub fn wait(&self) -> Option<Duration> {
        self.first.map(|_| SECOND_LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_durable_prefix_covers_every_batch_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut commit = Commit::open(directory.path()).expect("a log");
        let record = vec![7; 100_000];
        let mut last = 0;
        let mut durable = 0;
        for _ in 0..2_000 {
            // More than the file holds: it is written over.
            match commit.append(&record) {
                Some(batch) => {
                    assert!(batch == last || batch == last + 1, "{batch} after {last}");
                    last = batch;
                }
                None => commit.disk.wait().expect("a completion"),
            }
            commit.reap().expect("a sound disk");
            commit.submit().expect("a sound disk");
            assert!(durable <= commit.durable() && commit.durable() <= last);
            durable = commit.durable();
        }
        while commit.durable() < last {
            commit.disk.wait().expect("a completion");
            commit.reap().expect("a sound disk");
            commit.submit().expect("a sound disk");
        }
        assert!(1 < last);
        let name = directory.path().join(FILE);
        assert_eq!(std::fs::metadata(name).expect("the log").len(), FLOOR_LOG_BYTES);
        let taken = Commit::open(directory.path()).map(|_| ()).expect_err("the directory is taken");
        assert!(taken.to_string().contains("in use"), "{taken}");
    }
}
