//! A disk in memory that fails on request, completes in any order, and knows what a power cut may leave.
//!
//! It is one directory, or several: [`FaultyFiles::folder`] is another one of the same disk, so that what a crash leaves of
//! both together can be looked at.
//!
//! Guarantees: it is deterministic. It promises no more than POSIX does: a write is durable after the sync of its
//! file (or the completion of a synced write), a name after the sync of its directory; before that every subset of
//! sectors and of names may survive. With recording on, [`Recording::crash`] names those subsets at every step.

use super::{Completion, Disk, Entry, Files, SyncWrite};
use crate::buffer::AlignedBuf;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

/// The smallest piece that a power cut leaves either old or new.
pub const SECTOR_BYTES: usize = 512;

/// What a directory holds: names, and the content of files by number. Cheap to copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    names: BTreeMap<String, usize>,
    contents: Vec<Arc<Vec<u8>>>,
}

impl Image {
    /// Names and contents, in order of the names. A name of another folder begins with the folder's and a slash.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.names.iter().map(|(name, at)| (name.as_str(), self.contents[*at].as_slice()))
    }

    /// The content of a file, to be changed behind the log's back.
    pub fn content_mut(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        let at = *self.names.get(name)?;
        Some(Arc::make_mut(&mut self.contents[at]))
    }

    /// Takes a file away behind the log's back.
    pub fn take_away(&mut self, name: &str) -> bool {
        self.names.remove(name).is_some()
    }

    fn write(&mut self, file: usize, offset: usize, data: &[u8]) {
        let content = Arc::make_mut(&mut self.contents[file]);
        if content.len() < offset + data.len() {
            content.resize(offset + data.len(), 0);
        }
        content[offset..offset + data.len()].copy_from_slice(data);
    }

    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Create { name, file } => {
                self.names.insert(name.clone(), *file);
            }
            NameChange::Rename { from, to, file } => {
                if self.names.get(from) == Some(file) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *file);
            }
            NameChange::Remove { name, file } => {
                if self.names.get(name) == Some(file) {
                    self.names.remove(name);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum NameChange {
    Create { name: String, file: usize },
    Rename { from: String, to: String, file: usize },
    Remove { name: String, file: usize },
}

impl NameChange {
    /// Whether it is in this folder; nothing is ever moved from one to another.
    fn is_in(&self, folder: &str) -> bool {
        let (NameChange::Create { name, .. } | NameChange::Rename { to: name, .. } | NameChange::Remove { name, .. }) =
            self;
        name.rsplit_once('/').map_or("", |(folder, _)| folder) == folder
    }
}

#[derive(Clone, Debug)]
enum Step {
    Name(NameChange),
    Write {
        file: usize,
        offset: usize,
        data: Arc<Vec<u8>>,
    },
    Sync {
        file: usize,
    },
    /// Of the folder of this name.
    SyncDirectory {
        folder: Arc<str>,
    },
    Submitted {
        token: u64,
        file: usize,
        offset: usize,
        data: Arc<Vec<u8>>,
    },
    Completed {
        token: u64,
    },
    Abandoned {
        token: u64,
    },
}

/// What goes wrong at an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails with this error of the operating system and changes nothing.
    Error(i32),
    /// A read or write moves only this many bytes; anything else fails with EIO.
    Short(usize),
}

/// Which of the writes in flight completes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The one submitted first.
    Oldest,
    /// The one submitted last.
    Newest,
    /// None, until the order is changed: a disk that hangs.
    Held,
}

struct Pending {
    file: usize,
    write: SyncWrite,
    fault: Option<Fault>,
}

struct Shared {
    image: Image,
    start: Image,
    steps: Option<Vec<Step>>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    bytes_max: Option<u64>,
    /// Places that cannot be read any more.
    unreadable: Vec<(usize, Range<usize>)>,
    pending: VecDeque<Pending>,
    order: Order,
}

impl Shared {
    /// Counts one operation; says whether it is the one that goes wrong.
    fn operation(&mut self) -> Option<Fault> {
        let at = self.operations;
        self.operations += 1;
        match self.fault {
            Some((chosen, fault)) if chosen == at => Some(fault),
            _ => None,
        }
    }

    /// An operation that moves no bytes: it works or it fails.
    fn whole(&mut self) -> io::Result<()> {
        match self.operation() {
            None => Ok(()),
            Some(Fault::Error(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Short(_)) => Err(io::Error::from_raw_os_error(EIO)),
        }
    }

    fn record(&mut self, step: impl FnOnce() -> Step) {
        if let Some(steps) = &mut self.steps {
            steps.push(step());
        }
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.image.names.get(name).copied().ok_or_else(|| io::Error::from_raw_os_error(ENOENT))
    }

    fn change(&mut self, change: NameChange) {
        self.image.apply(&change);
        self.record(|| Step::Name(change));
    }

    /// How much of a write of `bytes` at `offset` finds room on the device.
    fn room(&self, file: usize, offset: usize, bytes: usize) -> usize {
        let Some(bytes_max) = self.bytes_max else { return bytes };
        let used: usize = self.image.names.values().map(|at| self.image.contents[*at].len()).sum();
        let free = usize::try_from(bytes_max).unwrap_or(usize::MAX).saturating_sub(used);
        let grows = (offset + bytes).saturating_sub(self.image.contents[file].len());
        bytes - grows.saturating_sub(free).min(bytes)
    }
}

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EEXIST: i32 = 17;
const ENOSPC: i32 = 28;

/// The disk. Its [`FaultyFiles`] and every clone of them are the same disk.
pub struct FaultyDisk {
    shared: Arc<Mutex<Shared>>,
}

/// The blocking side of a [`FaultyDisk`], and the handle to control it by.
#[derive(Clone)]
pub struct FaultyFiles {
    shared: Arc<Mutex<Shared>>,
    /// Empty for the first one.
    folder: Arc<str>,
}

/// An open file of a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyFile {
    file: usize,
}

impl fmt::Debug for FaultyFiles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "FaultyFiles after {} operations", self.operations())
    }
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files().fmt(out)
    }
}

impl FaultyDisk {
    /// A disk that holds `image`, all of it durable. `record` keeps every step for [`FaultyFiles::recording`].
    pub fn new(image: Image, record: bool) -> FaultyDisk {
        let shared = Shared {
            start: image.clone(),
            image,
            steps: record.then(Vec::new),
            operations: 0,
            fault: None,
            bytes_max: None,
            unreadable: Vec::new(),
            pending: VecDeque::new(),
            order: Order::Oldest,
        };
        FaultyDisk { shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock_shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // A test that panics elsewhere must not hide its message behind a second panic.
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl FaultyFiles {
    /// The `operation`th operation from the start of the disk goes wrong.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        lock(&self.shared).fault = Some((operation, fault));
    }

    /// How many operations there were. Everything but locking, and asking for completions, is one.
    pub fn operations(&self) -> u64 {
        lock(&self.shared).operations
    }

    /// The device holds no more than this from now on.
    pub fn limit_bytes(&self, bytes_max: Option<u64>) {
        lock(&self.shared).bytes_max = bytes_max;
    }

    /// Reads that touch this part of a file fail from now on.
    pub fn make_unreadable(&self, name: &str, bytes: Range<usize>) {
        let mut shared = lock(&self.shared);
        if let Ok(file) = shared.file(&self.full(name)) {
            shared.unreadable.push((file, bytes));
        }
    }

    /// Which write completes next, from now on.
    pub fn set_order(&self, order: Order) {
        lock(&self.shared).order = order;
    }

    /// Another directory of the same disk.
    pub fn folder(&self, name: &str) -> FaultyFiles {
        FaultyFiles { shared: Arc::clone(&self.shared), folder: name.into() }
    }

    /// The name as the image has it.
    fn full(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }

    /// Another handle on the same disk, for the next life of a process that was killed.
    pub fn disk(&self) -> FaultyDisk {
        FaultyDisk { shared: Arc::clone(&self.shared) }
    }

    /// The process is killed, the machine goes on: of the writes in flight, those for which `written` says so reach
    /// the file, but none of them is durable before a sync.
    pub fn kill(&self, mut written: impl FnMut(usize) -> bool) {
        let mut shared = lock(&self.shared);
        let pending = std::mem::take(&mut shared.pending);
        for (at, Pending { file, write, .. }) in pending.into_iter().enumerate() {
            shared.record(|| Step::Abandoned { token: write.token });
            if written(at) {
                let (offset, data) = (write.offset_bytes as usize, write.buffer[..write.bytes].to_vec());
                shared.image.write(file, offset, &data);
                shared.record(|| Step::Write { file, offset, data: Arc::new(data) });
            }
        }
    }

    /// Everything as it looks to a process that is still running.
    pub fn image(&self) -> Image {
        lock(&self.shared).image.clone()
    }

    /// How many steps were recorded so far.
    pub fn steps(&self) -> usize {
        lock(&self.shared).steps.as_ref().map_or(0, Vec::len)
    }

    /// What happened so far, for crashes at every step of it.
    pub fn recording(&self) -> Recording {
        let shared = lock(&self.shared);
        Recording { start: shared.start.clone(), steps: shared.steps.clone().unwrap_or_default() }
    }
}

impl Files for FaultyFiles {
    type File = FaultyFile;

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(self.full(name))
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut shared = lock(&self.shared);
        shared.whole()?;
        let entry = |(name, content): (&str, &[u8])| {
            let (folder, name) = name.rsplit_once('/').unwrap_or(("", name));
            (*folder == *self.folder).then(|| Entry { name: name.to_owned(), bytes: content.len() as u64 })
        };
        Ok(shared.image.files().filter_map(entry).collect())
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let mut shared = lock(&self.shared);
        shared.whole()?;
        Ok(FaultyFile { file: shared.file(&self.full(name))? })
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        let mut shared = lock(&self.shared);
        shared.whole()?;
        let name = self.full(name);
        if shared.image.names.contains_key(&name) {
            return Err(io::Error::from_raw_os_error(EEXIST));
        }
        let file = shared.image.contents.len();
        shared.image.contents.push(Arc::new(Vec::new()));
        shared.change(NameChange::Create { name, file });
        Ok(FaultyFile { file })
    }

    fn read_at(&self, file: &FaultyFile, offset_bytes: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut shared = lock(&self.shared);
        let most = match shared.operation() {
            None => into.len(),
            Some(Fault::Error(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Short(bytes)) => bytes,
        };
        let place = offset_bytes as usize..offset_bytes as usize + into.len();
        let rotten = |(at, range): &(usize, Range<usize>)| {
            *at == file.file && range.start < place.end && place.start < range.end
        };
        if shared.unreadable.iter().any(rotten) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let content = &shared.image.contents[file.file];
        let rest = usize::try_from(offset_bytes).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
        let bytes = rest.len().min(into.len()).min(most);
        into[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    fn write_at(&self, file: &FaultyFile, offset_bytes: u64, from: &[u8]) -> io::Result<usize> {
        let mut shared = lock(&self.shared);
        let most = match shared.operation() {
            None => from.len(),
            Some(Fault::Error(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Short(bytes)) => bytes.min(from.len()),
        };
        let (file, offset) = (file.file, offset_bytes as usize);
        let bytes = shared.room(file, offset, most);
        if bytes == 0 && 0 < most {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        shared.image.write(file, offset, &from[..bytes]);
        shared.record(|| Step::Write { file, offset, data: Arc::new(from[..bytes].to_vec()) });
        Ok(bytes)
    }

    fn sync(&self, file: &FaultyFile) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        shared.whole()?;
        shared.record(|| Step::Sync { file: file.file });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        shared.whole()?;
        let (from, to) = (self.full(from), self.full(to));
        let file = shared.file(&from)?;
        shared.change(NameChange::Rename { from, to, file });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        shared.whole()?;
        let name = self.full(name);
        let file = shared.file(&name)?;
        shared.change(NameChange::Remove { name, file });
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        shared.whole()?;
        shared.record(|| Step::SyncDirectory { folder: Arc::clone(&self.folder) });
        Ok(())
    }
}

impl Disk for FaultyDisk {
    type Files = FaultyFiles;

    fn files(&self) -> FaultyFiles {
        FaultyFiles { shared: Arc::clone(&self.shared), folder: "".into() }
    }

    fn lock(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn submit(&mut self, file: &FaultyFile, write: SyncWrite) -> io::Result<()> {
        let mut shared = self.lock_shared();
        let fault = shared.operation();
        let offset = write.offset_bytes as usize;
        // What a failed write was about to change is as unknown as with one that never completes.
        let data = || Arc::new(write.buffer[..write.bytes].to_vec());
        shared.record(|| Step::Submitted { token: write.token, file: file.file, offset, data: data() });
        shared.pending.push_back(Pending { file: file.file, write, fault });
        Ok(())
    }

    fn complete(&mut self) -> Option<Completion> {
        let mut shared = self.lock_shared();
        let pending = match shared.order {
            Order::Oldest => shared.pending.pop_front(),
            Order::Newest => shared.pending.pop_back(),
            Order::Held => None,
        };
        let Pending { file, write, fault } = pending?;
        let SyncWrite { token, offset_bytes, bytes, buffer } = write;
        let result = match fault {
            Some(Fault::Error(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Short(most)) => Ok(apply(&mut shared, file, offset_bytes, &buffer, most.min(bytes))),
            None => {
                shared.record(|| Step::Completed { token });
                Ok(apply(&mut shared, file, offset_bytes, &buffer, bytes))
            }
        };
        Some(Completion { token, bytes, buffer, result })
    }

    fn wait(&mut self) -> io::Result<()> {
        let shared = self.lock_shared();
        if shared.order == Order::Held && !shared.pending.is_empty() {
            return Err(io::Error::other("waited for a disk that is held"));
        }
        Ok(())
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn apply(shared: &mut Shared, file: usize, offset_bytes: u64, buffer: &AlignedBuf, bytes: usize) -> usize {
    shared.image.write(file, offset_bytes as usize, &buffer[..bytes]);
    bytes
}

/// What happened to a disk, step by step.
#[derive(Clone)]
pub struct Recording {
    start: Image,
    steps: Vec<Step>,
}

/// What is certain after a power cut at one step, and what is not.
#[derive(Clone)]
pub struct Crash {
    certain: Image,
    pieces: Vec<Piece>,
}

/// Something that survives as a whole or not at all, whatever becomes of the others.
#[derive(Clone)]
enum Piece {
    Bytes { file: usize, offset: usize, data: Arc<Vec<u8>>, from: usize, bytes: usize },
    Name(NameChange),
}

impl Recording {
    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// A power cut after the first `steps` steps. Writes are torn into pieces of `piece_bytes`, a multiple of
    /// [`SECTOR_BYTES`]; pieces that would change nothing are left out.
    pub fn crash(&self, steps: usize, piece_bytes: usize) -> Crash {
        let mut certain = self.start.clone();
        // Not certain yet, by the number of the step.
        let mut open: Vec<(usize, &Step)> = Vec::new();
        // Writes that became certain. What stood at the same place before cannot come back.
        let mut settled: Vec<Settled> = Vec::new();
        for (at, step) in self.steps[..steps].iter().enumerate() {
            if let Step::Name(NameChange::Create { file, .. }) = step {
                let files = certain.contents.len().max(*file + 1);
                certain.contents.resize(files, Arc::default());
            }
            let settles = |step: &Step| match step {
                Step::Write { file, .. } => matches!(self.steps[at], Step::Sync { file: synced } if synced == *file),
                Step::Submitted { token, .. } => {
                    matches!(self.steps[at], Step::Completed { token: completed } if completed == *token)
                }
                Step::Name(change) => {
                    matches!(&self.steps[at], Step::SyncDirectory { folder } if change.is_in(folder))
                }
                _ => false,
            };
            match step {
                Step::Name(_) | Step::Write { .. } | Step::Submitted { .. } => open.push((at, step)),
                Step::Abandoned { token: abandoned } => {
                    open.retain(|(_, step)| !matches!(step, Step::Submitted { token, .. } if token == abandoned));
                }
                Step::Sync { .. } | Step::SyncDirectory { .. } | Step::Completed { .. } => {
                    open.retain(|(order, step)| {
                        if !settles(step) {
                            return true;
                        }
                        match step {
                            Step::Name(change) => certain.apply(change),
                            Step::Write { file, offset, data } | Step::Submitted { file, offset, data, .. } => {
                                settle(&mut certain, *order, *file, *offset, data, &settled);
                                settled.push(Settled { order: *order, file: *file, from: *offset, bytes: data.len() });
                            }
                            _ => {}
                        }
                        false
                    })
                }
            }
        }
        let mut pieces = Vec::new();
        for (order, step) in open {
            match step {
                Step::Name(change) => pieces.push(Piece::Name(change.clone())),
                Step::Write { file, offset, data } | Step::Submitted { file, offset, data, .. } => {
                    let newer = settled.iter().filter(|settled| settled.file == *file && order < settled.order);
                    tear(&certain, *file, *offset, data, piece_bytes, newer, &mut pieces);
                }
                Step::Sync { .. } | Step::SyncDirectory { .. } | Step::Completed { .. } | Step::Abandoned { .. } => {}
            }
        }
        Crash { certain, pieces }
    }
}

/// A write that became certain, and when it was made.
struct Settled {
    order: usize,
    file: usize,
    from: usize,
    bytes: usize,
}

/// Makes a write certain, except where a later one already is.
fn settle(certain: &mut Image, order: usize, file: usize, offset: usize, data: &[u8], settled: &[Settled]) {
    let mut data = data.to_vec();
    for newer in settled.iter().filter(|settled| settled.file == file && order < settled.order) {
        let from = newer.from.max(offset);
        let end = (newer.from + newer.bytes).min(offset + data.len());
        if from < end {
            data[from - offset..end - offset].copy_from_slice(&certain.contents[file][from..end]);
        }
    }
    certain.write(file, offset, &data);
}

fn tear<'s>(
    certain: &Image,
    file: usize,
    offset: usize,
    data: &Arc<Vec<u8>>,
    piece_bytes: usize,
    newer: impl Iterator<Item = &'s Settled> + Clone,
    pieces: &mut Vec<Piece>,
) {
    assert!(0 < piece_bytes && piece_bytes.is_multiple_of(SECTOR_BYTES));
    let content = &certain.contents[file];
    if content.len() < offset + data.len() {
        // A file that grows is not in use yet; how it grows tells nothing.
        pieces.push(Piece::Bytes { file, offset, data: Arc::clone(data), from: 0, bytes: data.len() });
        return;
    }
    for from in (0..data.len()).step_by(piece_bytes) {
        let bytes = piece_bytes.min(data.len() - from);
        let place = offset + from..offset + from + bytes;
        let overwritten = newer.clone().any(|newer| newer.from < place.end && place.start < newer.from + newer.bytes);
        if !overwritten && content[place] != data[from..from + bytes] {
            pieces.push(Piece::Bytes { file, offset, data: Arc::clone(data), from, bytes });
        }
    }
}

impl Crash {
    /// How many pieces may or may not survive.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The directory if exactly the pieces for which `survives` says so survive.
    pub fn image(&self, survives: impl Fn(usize) -> bool) -> Image {
        let mut image = self.certain.clone();
        for (at, piece) in self.pieces.iter().enumerate() {
            if survives(at) {
                match piece {
                    Piece::Bytes { file, offset, data, from, bytes } => {
                        image.write(*file, offset + from, &data[*from..from + bytes]);
                    }
                    Piece::Name(change) => image.apply(change),
                }
            }
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> (FaultyFiles, FaultyFile) {
        let files = FaultyDisk::new(Image::default(), true).files();
        let file = files.create("a").unwrap();
        files.write_at(&file, 0, content).unwrap();
        (files, file)
    }

    #[test]
    fn nothing_is_certain_before_its_sync() {
        let (files, file) = written(&[1; 1024]);
        files.sync(&file).unwrap();
        let crash = files.recording().crash(3, SECTOR_BYTES);
        assert_eq!(crash.pieces(), 1, "the bytes are certain, the name is not");
        assert_eq!(crash.image(|_| false).files().count(), 0);
        files.sync_directory().unwrap();
        let crash = files.recording().crash(4, SECTOR_BYTES);
        assert_eq!(crash.pieces(), 0);
        assert_eq!(crash.image(|_| false).files().next(), Some(("a", &[1; 1024][..])));
    }

    #[test]
    fn a_write_in_flight_is_torn_into_every_subset_of_its_sectors() {
        let (files, file) = written(&[1; 4096]);
        files.sync(&file).unwrap();
        files.sync_directory().unwrap();
        let mut disk = FaultyDisk { shared: Arc::clone(&files.shared) };
        let mut buffer = AlignedBuf::new(4096);
        buffer[..1024].fill(2);
        buffer[1024..].fill(1);
        disk.submit(&file, SyncWrite { token: 7, offset_bytes: 0, bytes: 4096, buffer }).unwrap();
        let crash = files.recording().crash(5, SECTOR_BYTES);
        assert_eq!(crash.pieces(), 2, "six of eight sectors change nothing");
        let image = crash.image(|at| at == 1);
        let content = image.files().next().unwrap().1;
        assert_eq!((content[511], content[512], content[1023], content[1024]), (1, 2, 2, 1));
        disk.complete().unwrap();
        assert_eq!(files.recording().crash(6, SECTOR_BYTES).pieces(), 0);
    }

    #[test]
    fn folders_are_apart_and_each_is_synced_for_itself() {
        let (files, _) = written(&[1; 512]);
        let other = files.folder("other");
        other.create("a").unwrap();
        other.rename("a", "b").unwrap();
        let names = |files: &FaultyFiles| files.list().unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
        assert_eq!((names(&files), names(&other)), (vec!["a".to_owned()], vec!["b".to_owned()]));
        let certain = |files: &FaultyFiles| {
            let image = files.recording().crash(files.steps(), SECTOR_BYTES).image(|_| false);
            image.files().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        other.sync_directory().unwrap();
        assert_eq!(certain(&files), ["other/b"]);
        files.sync_directory().unwrap();
        assert_eq!(certain(&files), ["a", "other/b"]);
    }

    #[test]
    fn a_full_device_writes_what_fits_and_then_says_so() {
        let (files, file) = written(&[1; 1024]);
        files.limit_bytes(Some(1536));
        assert_eq!(files.write_at(&file, 1024, &[2; 1024]).unwrap(), 512);
        assert_eq!(files.write_at(&file, 1536, &[2; 512]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(files.write_at(&file, 0, &[3; 1536]).unwrap(), 1536, "overwriting needs no room");
    }
}
