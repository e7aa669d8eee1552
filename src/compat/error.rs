//! Why a Java server's directories are not taken over, each with what can be done.

use std::fmt;
use std::path::PathBuf;

use zorilla_proto::ids::Zxid;

use super::recover::Epochs;
use super::{Damage, Fault};

/// See the module. Nothing was changed.
#[derive(Debug)]
pub enum ImportError {
    /// A file cannot be read.
    Fault(Fault),
    /// A log is damaged where a crash does not damage it.
    DamagedLog {
        /// Where.
        damage: Damage,
        /// The last transaction before it.
        last: Zxid,
    },
    /// A log has less than a header and is not the newest, or has a part of one.
    ShortLog {
        /// Which.
        file: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Transactions are missing between two that are there.
    Gap {
        /// Where the later one stands.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// The earlier one.
        last: Zxid,
        /// The later one.
        found: Zxid,
    },
    /// There are logs and no snapshot.
    NoSnapshot {
        /// Where snapshots should be.
        folder: PathBuf,
        /// One of the logs.
        log: PathBuf,
    },
    /// No snapshot can be read.
    NoValidSnapshot {
        /// Where they are.
        folder: PathBuf,
        /// What is wrong with each.
        faults: Vec<String>,
    },
    /// A snapshot lies where only logs may, or the other way round.
    Misplaced {
        /// Where.
        folder: PathBuf,
        /// Which file.
        file: String,
        /// The key that names the directory.
        key: &'static str,
    },
    /// The promises of a member of an ensemble contradict each other or its history.
    Epochs {
        /// Where they are kept.
        folder: PathBuf,
        /// What they say.
        epochs: Epochs,
        /// The last transaction.
        applied: Zxid,
    },
    /// A folder holds both the sentinel and files of a Java server.
    Mixed {
        /// Which.
        folder: PathBuf,
    },
    /// The sentinel is there, and the state that it guards is not.
    StateMissing {
        /// Where the sentinel is.
        folder: PathBuf,
        /// Where the state should be.
        state: PathBuf,
    },
    /// Java's files and our own state have each gone on alone.
    TwoHistories {
        /// Java's files.
        folder: PathBuf,
        /// Our last transaction.
        native: Zxid,
        /// Up to which transaction both were the same, if that is known.
        mark: Option<Zxid>,
    },
    /// The mark that tells Java's files apart is not one that was written.
    BadMark {
        /// Where it is.
        file: PathBuf,
    },
    /// The files changed while they were read: a Java server runs on them.
    Changed {
        /// Where.
        folder: PathBuf,
    },
    /// Every name for what is set aside is taken.
    NoName {
        /// The first of them.
        folder: PathBuf,
    },
    /// The state that was recovered could not be made durable. Java's files are as they were.
    Publish(String),
}

impl From<Fault> for ImportError {
    fn from(fault: Fault) -> ImportError {
        ImportError::Fault(fault)
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Fault(fault @ Fault::Damaged(_)) => write!(
                f,
                "{fault}. Nothing was changed. No Java server starts on this either; put the file back from a backup, or \
                 copy the data of another server of the ensemble."
            ),
            ImportError::Fault(fault) => write!(f, "{fault}. Nothing was changed."),
            ImportError::DamagedLog { damage, last } => write!(
                f,
                "{damage}. The transactions up to {last} before it are intact. Nothing was changed. No Java server starts \
                 on this either: copy the data of another server of the ensemble, or give up what follows with \
                 `zorilla txnlog chop` and start on the shorter log."
            ),
            ImportError::ShortLog { file, bytes } => write!(
                f,
                "{}: expected a header of {} bytes, found {bytes}. Nothing was changed. It holds no transaction: if a crash \
                 or a full disk left it, remove it.",
                file.display(),
                super::txnlog::HEADER_BYTES
            ),
            ImportError::Gap { file, offset, last, found } => write!(
                f,
                "{}: byte {offset}: transaction {found} follows {last}, and those between are missing. Nothing was \
                 changed. A log before this one was cut or lost: put it back, or copy the data of another server of the \
                 ensemble.",
                file.display()
            ),
            ImportError::NoSnapshot { folder, log } => write!(
                f,
                "No snapshot found, but there are log entries: {} holds no whole snapshot, and {} is there. Nothing was \
                 changed. Check dataDir and dataLogDir; if the server never made a snapshot (3.4 and older), start once \
                 with snapshot.trust.empty=true.",
                folder.display(),
                log.display()
            ),
            ImportError::NoValidSnapshot { folder, faults } => {
                write!(f, "Not able to find valid snapshots in {}", folder.display())?;
                for fault in faults {
                    write!(f, "; {fault}")?;
                }
                f.write_str(". Nothing was changed. Put one back from a backup, or copy the data of another server.")
            }
            ImportError::Misplaced { folder, file, key } => {
                let (kind, other) =
                    if *key == "dataLogDir" { ("Log directory", "snapshot") } else { ("Snapshot directory", "log") };
                write!(
                    f,
                    "{kind} has {other} files. Check if dataLogDir and dataDir configuration is correct: {} holds {file}. \
                     Nothing was changed.",
                    folder.display()
                )
            }
            ImportError::Epochs { folder, epochs: Epochs { accepted, current }, applied } => write!(
                f,
                "{}: acceptedEpoch is {accepted}, currentEpoch {current}, and the last transaction {applied}: expected \
                 accepted ≥ current ≥ the epoch of the last transaction, {}. Nothing was changed. Copy the data of another \
                 server of the ensemble.",
                folder.display(),
                applied.epoch()
            ),
            ImportError::Mixed { folder } => write!(
                f,
                "{} holds both a file of Zorilla ({}) and files of a Java server. Nothing was changed. Keep what is valid and \
                 move the rest elsewhere.",
                folder.display(),
                super::SENTINEL
            ),
            ImportError::StateMissing { folder, state } => write!(
                f,
                "{} says that Zorilla owns this data, but {} holds no state. Nothing was changed. Put that folder back; or, \
                 to go back to the day of the import, replace version-2 by version-2.before-zorilla.",
                folder.display(),
                state.display()
            ),
            ImportError::TwoHistories { folder, native, mark } => {
                write!(
                    f,
                    "{} holds files of a Java server beside Zorilla's state, which ends at {native}",
                    folder.display()
                )?;
                if let Some(mark) = mark {
                    write!(f, "; both were the same up to {mark} and have each gone on since")?;
                }
                write!(
                    f,
                    ". Nothing was changed. To keep Zorilla's, move {} elsewhere; to keep Java's, move the folders {} and \
                     zorilla-log elsewhere.",
                    folder.display(),
                    super::STATE_FOLDER
                )
            }
            ImportError::BadMark { file } => write!(
                f,
                "{}: expected a mark as Zorilla writes it, found something else. Nothing was changed. It tells whether \
                 version-2 holds what Zorilla has taken over: if no Java server has run on it since, move version-2 \
                 elsewhere and start again.",
                file.display()
            ),
            ImportError::Changed { folder } => write!(
                f,
                "{} changed while it was read. Nothing was changed by Zorilla. Stop the Java server that runs on it.",
                folder.display()
            ),
            ImportError::NoName { folder } => write!(
                f,
                "{} and the names after it are taken. Remove those that are not needed any more.",
                folder.display()
            ),
            ImportError::Publish(why) => {
                write!(f, "the imported state cannot be written: {why}. Java's files are as they were.")
            }
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImportError::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}
