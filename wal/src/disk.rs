//! The seam between the log and whatever keeps its bytes.
//!
//! [`Disk`] takes the writes of the log, one at a time and completed in any order; [`Files`] is the blocking rest:
//! names, reads, and the writes of segments that are not in use yet. Files may be used from another thread.
//!
//! Implementations: [`ring::RingDisk`], [`blocking::BlockingDisk`], the choice between them [`AnyDisk`], and
//! [`faulty::FaultyDisk`], which lives in memory, fails on request and knows what a power cut may leave.

pub mod blocking;
pub mod directory;
pub mod faulty;
pub mod ring;

use crate::buffer::AlignedBuf;
use crate::error::OpenError;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

pub use directory::{DirFile, DirFiles, create_durably};

/// A file as its directory lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name. Names that are not Unicode are nobody's here and are left out.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// One directory of files, with blocking operations. A value of it can be handed to another thread.
///
/// Offsets, lengths and addresses of reads and writes are whole blocks; see [`AlignedBuf`].
pub trait Files: Clone + fmt::Debug + Send + 'static {
    /// An open file.
    type File: fmt::Debug + Send;

    /// Where `name` is, for messages.
    fn path(&self, name: &str) -> PathBuf;
    /// Every file of the directory, in no particular order.
    fn list(&self) -> io::Result<Vec<Entry>>;
    /// Opens for reading and writing. What is read comes from the medium, not from a cache above it.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Creates and opens; it is an error if the name is taken.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// One read; fewer bytes than asked for mean the end of the file.
    fn read_at(&self, file: &Self::File, offset_bytes: u64, into: &mut [u8]) -> io::Result<usize>;
    /// One write; says how much was written. Not durable before `sync`.
    fn write_at(&self, file: &Self::File, offset_bytes: u64, from: &[u8]) -> io::Result<usize>;
    /// Makes what was written to the file durable.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives a file another name, replacing a file of that name. Not durable before `sync_directory`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name. Not durable before `sync_directory`.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
}

/// A write that is durable when it completes.
#[derive(Debug)]
pub struct SyncWrite {
    /// Comes back with the completion. Unique among the writes in flight.
    pub token: u64,
    /// Where in the file.
    pub offset_bytes: u64,
    /// How much of the buffer.
    pub bytes: usize,
    /// What to write.
    pub buffer: AlignedBuf,
}

/// What became of a write.
#[derive(Debug)]
pub struct Completion {
    /// Which write it was.
    pub token: u64,
    /// How much was to be written.
    pub bytes: usize,
    /// The buffer, free again.
    pub buffer: AlignedBuf,
    /// How much was written and is durable.
    pub result: io::Result<usize>,
}

/// Takes durable writes and says later what became of them.
///
/// The order of completions is not the order of submissions. At most [`crate::limits::IN_FLIGHT_MAX`] writes are
/// given to it at once.
pub trait Disk {
    /// The blocking side of the same directory.
    type Files: Files;

    /// The blocking side of the same directory.
    fn files(&self) -> Self::Files;
    /// Takes the directory for this process, until the disk is dropped. `false`: another one has it.
    fn lock(&mut self) -> io::Result<bool>;
    /// Begins a write. An error is final, as a failed completion is.
    fn submit(&mut self, file: &<Self::Files as Files>::File, write: SyncWrite) -> io::Result<()>;
    /// A completion, if one is there. Never blocks.
    fn complete(&mut self) -> Option<Completion>;
    /// Blocks until [`Disk::complete`] has something, if anything is in flight.
    fn wait(&mut self) -> io::Result<()>;
    /// Readable while completions wait to be taken. The same for the whole life of the disk.
    fn event_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// The best backend this kernel allows: the ring, or else blocking writes.
#[derive(Debug)]
pub enum AnyDisk {
    /// io_uring.
    Ring(Box<ring::RingDisk>),
    /// Blocking writes, and why the ring is not used.
    Blocking(blocking::BlockingDisk, String),
}

/// Opens `directory`, creating it where needed, with the best backend this kernel allows.
///
/// `direct` asks for `O_DIRECT`; where a file does not open with it, buffered writes take its place.
pub fn best(directory: &Path, direct: bool) -> Result<AnyDisk, OpenError> {
    let refused = |source| OpenError::Io { op: "open the directory of", path: directory.to_owned(), source };
    let files = DirFiles::open(directory, direct).map_err(refused)?;
    match ring::RingDisk::new(files.clone()) {
        Ok(ring) => Ok(AnyDisk::Ring(Box::new(ring))),
        Err(why) => {
            let why = format!("io_uring is not available here: {why}");
            Ok(AnyDisk::Blocking(blocking::BlockingDisk::new(files).map_err(refused)?, why))
        }
    }
}

impl AnyDisk {
    /// What was chosen and why, for the log of the server.
    pub fn describe(&self) -> String {
        let unsynced = if cfg!(feature = "no-sync") { ", WITHOUT SYNC: loses writes in a power cut" } else { "" };
        let (backend, files) = match self {
            AnyDisk::Ring(ring) => ("io_uring".to_owned(), ring.files()),
            AnyDisk::Blocking(blocking, why) => (format!("blocking writes ({why})"), blocking.files()),
        };
        let direct = if files.direct() { "direct" } else { "buffered" };
        format!("{backend}, {direct}{unsynced}")
    }
}

impl Disk for AnyDisk {
    type Files = DirFiles;

    fn files(&self) -> DirFiles {
        match self {
            AnyDisk::Ring(ring) => ring.files(),
            AnyDisk::Blocking(blocking, _) => blocking.files(),
        }
    }

    fn lock(&mut self) -> io::Result<bool> {
        match self {
            AnyDisk::Ring(ring) => ring.lock(),
            AnyDisk::Blocking(blocking, _) => blocking.lock(),
        }
    }

    fn submit(&mut self, file: &DirFile, write: SyncWrite) -> io::Result<()> {
        match self {
            AnyDisk::Ring(ring) => ring.submit(file, write),
            AnyDisk::Blocking(blocking, _) => blocking.submit(file, write),
        }
    }

    fn complete(&mut self) -> Option<Completion> {
        match self {
            AnyDisk::Ring(ring) => ring.complete(),
            AnyDisk::Blocking(blocking, _) => blocking.complete(),
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        match self {
            AnyDisk::Ring(ring) => ring.wait(),
            AnyDisk::Blocking(blocking, _) => blocking.wait(),
        }
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            AnyDisk::Ring(ring) => ring.event_fd(),
            AnyDisk::Blocking(blocking, _) => blocking.event_fd(),
        }
    }
}
