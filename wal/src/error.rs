//! Why a log does not open, in words that tell what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use zorilla_proto::Zxid;

use crate::recover::Damage;
use crate::segment::StoreId;
use crate::space::PrepareError;

/// Why a log does not open.
#[derive(Debug)]
pub enum OpenError {
    /// Acknowledged history is damaged. A member of an ensemble resynchronises, a lone server refuses. (A torn tail is
    /// no error: it was never acknowledged; see [`crate::Recovered::torn`].)
    Damaged {
        /// The file.
        segment: PathBuf,
        /// Where in it.
        offset_bytes: u64,
        /// The last transaction before the damage.
        last_good: Zxid,
        /// The first one known behind it.
        next_known: Option<Zxid>,
        /// Intact transactions before the damage.
        txns_good: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// The segment belongs to another store. Nothing was read from it.
    Foreign {
        /// The file.
        segment: PathBuf,
        /// The store that was opened.
        expected: StoreId,
        /// The store it belongs to.
        found: StoreId,
    },
    /// The segment was written by a version whose format this one does not know.
    Version {
        /// The file.
        segment: PathBuf,
        /// The version of its format.
        found: u32,
    },
    /// Another process has the directory.
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The first segment could not be prepared.
    Prepare(PrepareError),
    /// The operating system refused `op` on `path`.
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Whoever took the records stopped at this one.
    Stopped {
        /// The file.
        segment: PathBuf,
        /// Where in it the batch begins.
        offset_bytes: u64,
        /// The last transaction before.
        after: Zxid,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Damaged { segment, offset_bytes, last_good, next_known, txns_good, damage } => {
                write!(out, "{}: ", segment.display())?;
                match damage {
                    Damage::AcknowledgedLost if *offset_bytes == 0 => write!(out, "the header is damaged")?,
                    Damage::AcknowledgedLost => write!(out, "the batch at byte {offset_bytes} is damaged")?,
                    Damage::Unreadable => write!(out, "the disk cannot read byte {offset_bytes}")?,
                    Damage::OtherHistory => write!(
                        out,
                        "the segment that follows byte {offset_bytes} belongs to another history; files may have been \
                         copied together from different times"
                    )?,
                    Damage::SegmentMissing => write!(out, "the segment before this one is missing")?,
                    Damage::SegmentCut => write!(out, "the file ends at byte {offset_bytes}, before its segment does")?,
                    Damage::Contradiction(what) => write!(out, "at byte {offset_bytes} there is {what}")?,
                }
                write!(out, "; transactions before it that are intact: {txns_good}, up to {last_good}")?;
                if let Some(next) = next_known {
                    write!(out, ", and the log goes on at {next}")?;
                }
                write!(
                    out,
                    ". If the other servers have a quorum, move this log and its data directory aside and restart to \
                     recopy. A server that stands alone has to be restored from a backup."
                )
            }
            OpenError::Foreign { segment, expected, found } => write!(
                out,
                "{}: this segment belongs to store {found}, but the data directory is store {expected}. Check that \
                 dataDir and dataLogDir belong together; nothing was read or changed.",
                segment.display()
            ),
            OpenError::Version { segment, found } => write!(
                out,
                "{}: the log is in format {found}, and this version reads format {} only. Start the version that \
                 wrote it.",
                segment.display(),
                crate::segment::FORMAT_VERSION
            ),
            OpenError::Locked { directory } => write!(
                out,
                "{}: another process has this log open. Stop the server that is running on it, or give this one a \
                 directory of its own.",
                directory.display()
            ),
            OpenError::Prepare(PrepareError::NoSpace { path, bytes }) => write!(
                out,
                "{}: the disk has no room for the {bytes} bytes with which the log goes on. Free some space on it, \
                 then start the server again; nothing is lost.",
                path.display()
            ),
            OpenError::Prepare(failed) => failed.fmt(out),
            OpenError::Io { op, path, source } => {
                write!(out, "{}: could not {op} the log: {source}. Check the disk and the rights.", path.display())
            }
            OpenError::Stopped { segment, offset_bytes, after } => write!(
                out,
                "{}: the batch at byte {offset_bytes}, after {after}, could not be taken",
                segment.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { source, .. } => Some(source),
            OpenError::Prepare(failed) => Some(failed),
            _ => None,
        }
    }
}
