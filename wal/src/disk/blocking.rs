//! Blocking writes: for kernels and containers that forbid io_uring.
//!
//! A write is done, sync included, before `submit` returns; its completion is there at once. Same guarantees as the
//! ring, one write at a time.

use super::{Completion, DirFile, DirFiles, Disk, SyncWrite};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Writes within `submit`.
#[derive(Debug)]
pub struct BlockingDisk {
    files: DirFiles,
    event: OwnedFd,
    ready: VecDeque<Completion>,
    locked: Option<File>,
}

impl BlockingDisk {
    /// A disk over `files`.
    pub fn new(files: DirFiles) -> io::Result<BlockingDisk> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(BlockingDisk { files, event, ready: VecDeque::new(), locked: None })
    }
}

/// One system call for the write and its sync where the kernel has it, two where it has not.
fn write_synced(file: &DirFile, write: &SyncWrite) -> io::Result<usize> {
    use rustix::io::{Errno, ReadWriteFlags, pwrite, pwritev2};
    let bytes = &write.buffer[..write.bytes];
    if cfg!(feature = "no-sync") {
        return Ok(pwrite(file.fd(), bytes, write.offset_bytes)?);
    }
    match pwritev2(file.fd(), &[io::IoSlice::new(bytes)], write.offset_bytes, ReadWriteFlags::DSYNC) {
        Err(Errno::NOSYS | Errno::OPNOTSUPP) => {
            let written = pwrite(file.fd(), bytes, write.offset_bytes)?;
            rustix::fs::fdatasync(file.fd())?;
            Ok(written)
        }
        result => Ok(result?),
    }
}

impl Disk for BlockingDisk {
    type Files = DirFiles;

    fn files(&self) -> DirFiles {
        self.files.clone()
    }

    fn lock(&mut self) -> io::Result<bool> {
        self.locked = self.files.lock()?;
        Ok(self.locked.is_some())
    }

    fn submit(&mut self, file: &DirFile, write: SyncWrite) -> io::Result<()> {
        let result = write_synced(file, &write);
        self.ready.push_back(Completion { token: write.token, bytes: write.bytes, buffer: write.buffer, result });
        rustix::io::write(&self.event, &1u64.to_ne_bytes())?;
        Ok(())
    }

    fn complete(&mut self) -> Option<Completion> {
        let completion = self.ready.pop_front();
        if completion.is_some() && self.ready.is_empty() {
            // The count goes back to zero, and the descriptor is readable again with the next completion only. There is
            // nothing to be done about a failure: it would wake somebody in vain.
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
        completion
    }

    fn wait(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.event.as_fd())
    }
}
