//! What is wrong with a file, in one sentence.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Damage, or what cannot be read: which file, where, what was expected, what was found, and what helps.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong: expected and found.
    pub what: String,
}

impl Fault {
    /// A fault at some place of a file.
    pub fn new(file: &Path, offset: u64, what: impl Into<String>) -> Fault {
        Fault { file: file.to_owned(), offset, what: what.into() }
    }

    pub(crate) fn io(file: &Path, offset: u64, op: &str, error: &io::Error) -> Fault {
        Fault::new(file, offset, format!("cannot {op} it: {error}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "state file {} at byte {}: {}; this file must be whole: put it back from a backup together with the head that names \
             it, or start this server with empty directories and restore a snapshot",
            self.file.display(),
            self.offset,
            self.what
        )
    }
}

impl std::error::Error for Fault {}
