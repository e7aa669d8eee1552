//! Room for the log: segments are prepared ahead and purged behind, both by another thread.
//!
//! Guarantees: a segment that is part of the log has been written full once and synced, under a name that is
//! durable, and begins with a blank header; only here can the disk turn out to be full. Names go away oldest first,
//! each durably before the next, so a crash never leaves a gap between segments.
//!
//! [`Prepare`] and [`Purge`] are values to be run by one and the same thread, one after the other.

use crate::buffer::AlignedBuf;
use crate::disk::Files;
use crate::limits::{CHUNK_BYTES, SEGMENT_HEADER_BYTES, SEGMENTS_SPARE_MAX};
use crate::segment::Name;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A segment that should be prepared: run it, and hand what comes out to [`crate::Wal::segment_prepared`].
#[derive(Debug)]
pub struct Prepare<F: Files> {
    pub(crate) files: F,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
}

/// A segment that is ready to be written to.
#[derive(Debug)]
pub struct Prepared<F: Files> {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) file: F::File,
    /// An old file was used again, nothing had to be filled.
    pub recycled: bool,
}

/// Why there is no new segment.
#[derive(Debug)]
pub enum PrepareError {
    /// The disk is full. The log asks again after a while.
    NoSpace {
        /// The file that found no room.
        path: PathBuf,
        /// How large it should have become.
        bytes: u64,
    },
    /// The operating system refused `op` on `path`. The log ends.
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl fmt::Display for PrepareError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrepareError::NoSpace { path, bytes } => write!(
                out,
                "{}: the disk has no room for the next {bytes} bytes of the log. Free some space on it; writes resume \
                 by themselves.",
                path.display()
            ),
            PrepareError::Io { op, path, source } => write!(
                out,
                "{}: could not {op} a segment of the log ahead of its use: {source}. Check the disk before the server \
                 is started again.",
                path.display()
            ),
        }
    }
}

impl std::error::Error for PrepareError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PrepareError::NoSpace { .. } => None,
            PrepareError::Io { source, .. } => Some(source),
        }
    }
}

fn full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Gives operating system errors their place.
struct At<'f, F: Files> {
    files: &'f F,
    bytes: u64,
}

impl<F: Files> At<'_, F> {
    fn failed(&self, op: &'static str, name: &str, source: io::Error) -> PrepareError {
        let path = self.files.path(name);
        if full(&source) {
            PrepareError::NoSpace { path, bytes: self.bytes }
        } else {
            PrepareError::Io { op, path, source }
        }
    }

    fn spares(&self) -> Result<Vec<(u64, u64)>, PrepareError> {
        let entries = self.files.list().map_err(|failed| self.failed("list", "", failed))?;
        let mut spares: Vec<(u64, u64)> = entries
            .iter()
            .filter_map(|entry| match Name::parse(&entry.name) {
                Some(Name::Spare(number)) => Some((number, entry.bytes)),
                _ => None,
            })
            .collect();
        spares.sort_unstable();
        Ok(spares)
    }

    /// Overwrites the first `bytes` of a file with zeros, and syncs it.
    fn fill(&self, file: &F::File, name: &str, bytes: u64) -> Result<(), PrepareError> {
        let chunk_bytes = usize::try_from(bytes).map_or(CHUNK_BYTES, |bytes| bytes.min(CHUNK_BYTES));
        let zeros = AlignedBuf::new(chunk_bytes);
        let mut offset = 0;
        while offset < bytes {
            let chunk = &zeros[..usize::try_from(bytes - offset).map_or(chunk_bytes, |rest| rest.min(chunk_bytes))];
            let written =
                self.files.write_at(file, offset, chunk).map_err(|failed| self.failed("write", name, failed))?;
            if written < chunk.len() {
                // A disk that is almost full takes a part first and says why with the next write. Whatever it says,
                // this file is not going to be used.
                let rest = offset + written as u64 / SEGMENT_HEADER_BYTES as u64 * SEGMENT_HEADER_BYTES as u64;
                let why = match self.files.write_at(file, rest, &zeros[..SEGMENT_HEADER_BYTES]) {
                    Err(why) => why,
                    Ok(part) if part < SEGMENT_HEADER_BYTES => io::ErrorKind::StorageFull.into(),
                    Ok(_) => io::Error::new(io::ErrorKind::WriteZero, "it took only a part of a write"),
                };
                return Err(self.failed("write", name, why));
            }
            offset += chunk.len() as u64;
        }
        self.files.sync(file).map_err(|failed| self.failed("sync", name, failed))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), PrepareError> {
        self.files.rename(from, to).map_err(|failed| self.failed("rename", from, failed))?;
        self.sync_directory(to)
    }

    fn remove(&self, name: &str) -> Result<(), PrepareError> {
        self.files.remove(name).map_err(|failed| self.failed("remove", name, failed))?;
        self.sync_directory(name)
    }

    /// A directory whose sync failed is in a state nobody knows, whatever the reason was.
    fn sync_directory(&self, name: &str) -> Result<(), PrepareError> {
        let path = self.files.path(name);
        self.files.sync_directory().map_err(|source| PrepareError::Io { op: "sync the directory of", path, source })
    }
}

impl<F: Files> Prepare<F> {
    /// Does the blocking work: takes a spare file or fills a new one, syncs it, and gives it its name.
    pub fn run(self) -> Result<Prepared<F>, PrepareError> {
        let at = At { files: &self.files, bytes: self.bytes };
        let segment = Name::Segment(self.number).to_string();
        for (number, bytes) in at.spares()? {
            let spare = Name::Spare(number).to_string();
            if bytes != self.bytes {
                at.remove(&spare)?;
                continue;
            }
            let file = self.files.open(&spare).map_err(|failed| at.failed("open", &spare, failed))?;
            // Blank before it gets the name: a file called segment never begins with the header of another use.
            at.fill(&file, &spare, SEGMENT_HEADER_BYTES as u64)?;
            at.rename(&spare, &segment)?;
            return Ok(Prepared { number: self.number, bytes: self.bytes, file, recycled: true });
        }
        let making = Name::Making(self.number).to_string();
        let made = self.make(&at, &making);
        if let Err(PrepareError::NoSpace { .. }) = made {
            // Half a segment would only keep the room from others. Should this fail as well, the next start or the
            // next attempt removes it.
            let _ = self.files.remove(&making);
        }
        let file = made?;
        at.rename(&making, &segment)?;
        Ok(Prepared { number: self.number, bytes: self.bytes, file, recycled: false })
    }

    fn make(&self, at: &At<'_, F>, making: &str) -> Result<F::File, PrepareError> {
        let created = match self.files.create(making) {
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {
                self.files.remove(making).map_err(|failed| at.failed("remove", making, failed))?;
                self.files.create(making)
            }
            created => created,
        };
        let file = created.map_err(|failed| at.failed("create", making, failed))?;
        at.fill(&file, making, self.bytes)?;
        Ok(file)
    }
}

/// Segments that nothing needs any more: run it, and hand what comes out to [`crate::Wal::segments_purged`].
#[derive(Debug)]
pub struct Purge<F: Files> {
    pub(crate) files: F,
    /// The oldest segment that is still needed.
    pub(crate) before: u64,
}

/// What became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Purged {
    /// Kept to be used again.
    pub recycled: u32,
    /// Removed.
    pub removed: u32,
}

impl<F: Files> Purge<F> {
    /// Takes them out of the log, oldest first. It goes by what the directory holds, so that what an earlier purge
    /// had to leave goes first.
    pub fn run(self) -> Result<Purged, PrepareError> {
        let at = At { files: &self.files, bytes: 0 };
        let mut spares = 0;
        let mut numbers = Vec::new();
        for entry in self.files.list().map_err(|failed| at.failed("list", "", failed))? {
            match Name::parse(&entry.name) {
                Some(Name::Spare(_)) => spares += 1,
                Some(Name::Segment(number)) if number < self.before => numbers.push(number),
                _ => {}
            }
        }
        numbers.sort_unstable();
        let mut purged = Purged::default();
        for number in numbers {
            let segment = Name::Segment(number).to_string();
            if spares < SEGMENTS_SPARE_MAX {
                at.rename(&segment, &Name::Spare(number).to_string())?;
                spares += 1;
                purged.recycled += 1;
            } else {
                at.remove(&segment)?;
                purged.removed += 1;
            }
        }
        Ok(purged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::faulty::{FaultyDisk, FaultyFiles, Image};

    const BYTES: u64 = 64 * 1024;

    fn prepare(files: &FaultyFiles, number: u64) -> Result<Prepared<FaultyFiles>, PrepareError> {
        Prepare { files: files.clone(), number, bytes: BYTES }.run()
    }

    fn names(files: &FaultyFiles) -> Vec<String> {
        files.image().files().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn a_new_segment_is_full_of_zeros_and_a_purged_one_is_used_again() {
        let files = FaultyDisk::new(Image::default(), false).files();
        for number in 1..=4 {
            assert!(!prepare(&files, number).unwrap().recycled);
        }
        assert!(files.image().files().all(|(_, content)| content.len() == BYTES as usize));
        let old = files.open(&Name::Segment(1).to_string()).unwrap();
        files.write_at(&old, 0, &[7; 8192]).unwrap();
        let purged = Purge { files: files.clone(), before: 4 }.run().unwrap();
        assert_eq!(purged, Purged { recycled: 2, removed: 1 });
        assert!(prepare(&files, 5).unwrap().recycled);
        let image = files.image();
        let (_, content) = image.files().find(|(name, _)| *name == Name::Segment(5).to_string()).unwrap();
        assert!(content[..4096].iter().all(|byte| *byte == 0), "the header of the earlier use is gone");
        assert!(content[4096..8192].iter().all(|byte| *byte == 7), "the rest was left as it was");
        assert_eq!(names(&files), ["segment.0000000000000004", "segment.0000000000000005", "spare.0000000000000002"]);
    }

    #[test]
    fn a_spare_of_another_size_is_removed() {
        let files = FaultyDisk::new(Image::default(), false).files();
        let spare = files.create(&Name::Spare(1).to_string()).unwrap();
        files.write_at(&spare, 0, &[1; 4096]).unwrap();
        assert!(!prepare(&files, 2).unwrap().recycled);
        assert_eq!(names(&files), ["segment.0000000000000002"]);
    }

    #[test]
    fn h30_a_full_disk_is_no_space_at_every_byte_and_leaves_nothing_behind() {
        for limit in (0..BYTES).step_by(512) {
            let files = FaultyDisk::new(Image::default(), false).files();
            files.limit_bytes(Some(limit));
            let refused = prepare(&files, 1).unwrap_err();
            assert!(matches!(refused, PrepareError::NoSpace { .. }), "{limit}: {refused}");
            assert!(refused.to_string().contains("resume by themselves"));
            assert_eq!(names(&files), [""; 0]);
            files.limit_bytes(None);
            prepare(&files, 1).unwrap();
        }
    }
}
