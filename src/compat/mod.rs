//! The files of Java servers: what they hold, and how a state is taken over from them.
//!
//! [`snapshot`] and [`txnlog`] are decoders over any source of bytes: they judge form and checksums, reserve nothing
//! for a length before the bytes are there, and name file, offset, what was expected and what was found. [`files`]
//! knows the names.

mod aside;
mod bottom;
pub mod command;
mod error;
pub mod export;
pub mod files;
pub mod progress;
mod recover;
mod replay;
pub mod snapshot;
mod sort;
mod source;
#[cfg(test)]
mod tests;
pub mod txnlog;
pub mod write;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zorilla_proto::ids::Zxid;

use self::aside::Standing;
pub use self::aside::{Mark, SENTINEL, STATE_FOLDER};
pub use self::bottom::RunSpec;
pub use self::error::ImportError;
use self::progress::Progress;
pub use self::recover::{Dirs, Epochs, Options, Recovered, Report, Verdict};

/// What a Java server would recover from these directories; nothing is changed. `None`: there is nothing of a Java server.
///
/// The tree is one of a run that holds the snapshot ([`Options::run`]; without a snapshot there is none), and of what the logs
/// changed since in memory. Temporary files are made in `dirs.data`; nothing is left of them.
pub fn recover(dirs: &Dirs, options: &Options, progress: &mut dyn Progress) -> Result<Option<Recovered>, ImportError> {
    let Some(survey) = recover::survey(dirs)? else { return Ok(None) };
    recover::recover(&survey, dirs, &dirs.data, options, progress).map(Some)
}

/// A finished import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The last transaction.
    pub applied: Zxid,
    /// What was read.
    pub report: Report,
    /// Where Java's files are now.
    pub aside: Vec<PathBuf>,
}

/// Takes over what a Java server left, if there is something.
///
/// `publish` gets the recovered state and returns when it is durable and would be found by the next start.
///
/// `Ok(Some)`: it was imported just now, `publish` was called once, and Java's files are set aside. `Ok(None)`:
/// there is nothing to import; what a crash left of setting aside is done. In both cases `version-2` of either
/// directory holds nothing but the sentinel, if a Java server was ever there. `Err`: Java's files are where they were;
/// what `publish` made is to be found or not, as it left it, and the next call goes on from there. The server must not
/// serve before this has returned `Ok`, and should hold its client port, so that no Java server runs at the same time.
///
/// [`Options::native`] must be the last transaction of our own state, `None` only if there is none. If it is set and
/// `publish` is called, the recovered state replaces that one: a Java server has gone on from it.
pub fn import(
    data_dir: &Path,
    data_log_dir: &Path,
    options: &Options,
    progress: &mut dyn Progress,
    publish: &mut dyn FnMut(Recovered) -> Result<(), String>,
) -> Result<Option<Imported>, ImportError> {
    import_in_steps(data_dir, data_log_dir, options, progress, publish, &mut |_| Ok(()))
}

/// [`import`], with `before` called ahead of each step that changes the disk; an error of its ends the import there, as a
/// crash would. What tests make their crash states with.
pub fn import_in_steps(
    data_dir: &Path,
    data_log_dir: &Path,
    options: &Options,
    progress: &mut dyn Progress,
    publish: &mut dyn FnMut(Recovered) -> Result<(), String>,
    before: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<Option<Imported>, ImportError> {
    let dirs = Dirs { data: data_dir.to_path_buf(), log: data_log_dir.to_path_buf() };
    match aside::standing(&dirs, options.native)? {
        Standing::Settled => return Ok(None),
        Standing::SetAside => {
            aside::set_aside(&dirs, before)?;
            return Ok(None);
        }
        Standing::Import => {}
    }
    let unread = Mark::of(&dirs, Zxid::ZERO)?;
    let Some(recovered) = recover(&dirs, options, progress)? else { return Ok(None) };
    let (applied, report) = (recovered.applied, recovered.report.clone());
    let is_unchanged = || match Mark::of(&dirs, Zxid::ZERO)? == unread {
        true => Ok(()),
        false => Err(ImportError::Changed { folder: dirs.snapshots() }),
    };
    is_unchanged()?;
    let step = |before: aside::Before<'_>, what| before(what).map_err(|error| ImportError::Publish(error.to_string()));
    step(before, "write the mark")?;
    unread.at(applied).write(&dirs)?;
    step(before, "publish")?;
    publish(recovered).map_err(ImportError::Publish)?;
    is_unchanged()?;
    let aside = aside::set_aside(&dirs, before)?;
    Ok(Some(Imported { applied, report, aside }))
}

/// Why a file of a Java server cannot be read to its end.
#[derive(Debug)]
pub enum Fault {
    /// Its bytes are not what must stand there.
    Damaged(Damage),
    /// The operating system refused `what`.
    Io {
        /// What, such as `read`.
        what: &'static str,
        /// On which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The fault that the operating system refused `what` on `file`.
fn io_fault(what: &'static str, file: &Path) -> impl FnOnce(io::Error) -> Fault {
    let file = file.to_path_buf();
    move |source| Fault::Io { what, file, source }
}

/// Where the bytes of a file are not what must stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Where, in bytes from its beginning; in a compressed file of what it unpacks to.
    pub offset: u64,
    /// What must stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Damaged(damage) => damage.fmt(f),
            Fault::Io { what, file, source } => write!(f, "{}: cannot {what} it: {source}", file.display()),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, offset, expected, found } = self;
        write!(f, "{}: byte {offset}: expected {expected}, found {found}", file.display())
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Fault::Damaged(_) => None,
            Fault::Io { source, .. } => Some(source),
        }
    }
}
