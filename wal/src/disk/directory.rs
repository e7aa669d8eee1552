//! A real directory: the blocking side that the ring and the blocking backend share.
//!
//! Guarantees: reads come from the medium. Direct files bypass the page cache; a buffered file is synced and its
//! clean pages dropped when it is opened, because a page whose write-back once failed stays readable, looks clean,
//! and proves nothing.

use super::{Entry, Files};
use rustix::fs::{Advice, FlockOperation, OFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "lock";

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct DirFiles {
    path: Arc<Path>,
    directory: Arc<File>,
    direct: bool,
}

/// A file of a [`DirFiles`].
#[derive(Debug)]
pub struct DirFile {
    file: File,
}

impl DirFile {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl DirFiles {
    /// Opens `path`, creating it where needed, names made durable.
    pub fn open(path: &Path, direct: bool) -> io::Result<DirFiles> {
        create_durably(path)?;
        let directory = Arc::new(File::open(path)?);
        // Without sync, a direct write would still reach the device at once, and nothing would be proved.
        let direct = direct && !cfg!(feature = "no-sync");
        Ok(DirFiles { path: path.into(), directory, direct })
    }

    /// Files are opened with `O_DIRECT` where the file system allows it.
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// Takes the directory for this process until the file is dropped. `None`: another one has it.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new().create(true).append(true).open(self.path.join(LOCK))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_with(&self, name: &str, create: bool) -> io::Result<(File, bool)> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(create);
        if self.direct {
            match options.clone().custom_flags(OFlags::DIRECT.bits() as i32).open(&path) {
                // Some file systems know no direct files; they may have made the name already.
                Err(refused) if refused.kind() == io::ErrorKind::InvalidInput => {
                    options.create_new(false).create(create);
                }
                opened => return Ok((opened?, true)),
            }
        }
        Ok((options.open(&path)?, false))
    }
}

/// Creates `path` and what is missing above it, and makes its name durable. A directory that is there already may have
/// been made by a process that was stopped before it could sync the name, so that is done all the same.
pub fn create_durably(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        // The root, and what lies in the working directory.
        None => return Ok(()),
        Some(_) => Path::new("."),
    };
    if path.is_dir() {
        return match File::open(parent).and_then(|parent| parent.sync_all()) {
            // A parent that belongs to somebody else was made durable by them.
            Err(failed) if failed.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        };
    }
    create_durably(parent)?;
    match std::fs::create_dir(path) {
        Err(failed) if failed.kind() != io::ErrorKind::AlreadyExists => return Err(failed),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

impl Files for DirFiles {
    type File = DirFile;

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && entry.file_type()?.is_file()
            {
                entries.push(Entry { name, bytes: entry.metadata()?.len() });
            }
        }
        Ok(entries)
    }

    fn open(&self, name: &str) -> io::Result<DirFile> {
        let (file, direct) = self.open_with(name, false)?;
        if !direct {
            file.sync_data()?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(DirFile { file })
    }

    fn create(&self, name: &str) -> io::Result<DirFile> {
        Ok(DirFile { file: self.open_with(name, true)?.0 })
    }

    fn read_at(&self, file: &DirFile, offset_bytes: u64, into: &mut [u8]) -> io::Result<usize> {
        file.file.read_at(into, offset_bytes)
    }

    fn write_at(&self, file: &DirFile, offset_bytes: u64, from: &[u8]) -> io::Result<usize> {
        file.file.write_at(from, offset_bytes)
    }

    fn sync(&self, file: &DirFile) -> io::Result<()> {
        file.file.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}
