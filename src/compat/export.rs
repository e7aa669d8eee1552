//! The way back: a state as the directory of a Java server.
//!
//! [`to_folder`] makes one beside everything else; [`in_place`] puts it where the sentinel stands, so that a Java server
//! started on the same directories goes on from here. In place, the mark is written before the names are exchanged: whatever a
//! crash leaves, the next start of ours knows the files for what it wrote, or finds the sentinel as it was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zorilla_proto::ids::{SessionId, Zxid};

use super::aside::{self, Fingerprint, Mark};
use super::files::FOLDER;
use super::recover::{Dirs, Epochs};
use super::write::write_snapshot;
use super::{Fault, ImportError, SENTINEL, io_fault};
use crate::tree::Tree;

/// What is written.
pub struct State {
    /// The znodes.
    pub tree: Tree,
    /// The last transaction.
    pub applied: Zxid,
    /// The open sessions and their timeouts, ms.
    pub sessions: Vec<(SessionId, u32)>,
    /// Promises of a member of an ensemble.
    pub epochs: Option<Epochs>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// Its size.
    pub bytes: u64,
}

const PREPARED: &str = "version-2.zorilla-export";
/// While a snapshot is written. Java takes every name that begins with `snapshot.` for one.
const MAKING: &str = "zorilla-making";

/// Writes the state into `folder/version-2`, durably. `folder` may be there; a `version-2` in it must be empty.
///
/// # Errors
/// There is something already, or the disk fails; what was begun is left and named.
pub fn to_folder(state: &State, folder: &Path) -> Result<Exported, Fault> {
    let version = folder.join(FOLDER);
    fs::create_dir_all(&version).map_err(io_fault("make", &version))?;
    let mut found = fs::read_dir(&version).map_err(io_fault("list", &version))?;
    if let Some(entry) = found.next() {
        let name = entry.map_err(io_fault("list", &version))?.file_name();
        let taken = io::Error::other(format!("it holds {} already; name an empty directory", name.to_string_lossy()));
        return Err(io_fault("export into", &version)(taken));
    }
    let exported = fill(state, &version)?;
    aside::sync_folder(folder)?;
    Ok(exported)
}

/// Writes the files of a `version-2`.
fn fill(state: &State, version: &Path) -> Result<Exported, Fault> {
    let making = version.join(MAKING);
    let file = File::create(&making).map_err(io_fault("make", &making))?;
    let mut out = io::BufWriter::new(&file);
    let State { tree, applied, sessions, epochs } = state;
    let bytes = write_snapshot(&mut out, tree, sessions, *applied).map_err(io_fault("write", &making))?;
    out.flush().map_err(io_fault("write", &making))?;
    drop(out);
    file.sync_all().map_err(io_fault("synchronise", &making))?;
    let snapshot = version.join(format!("snapshot.{:x}", applied.raw()));
    fs::rename(&making, &snapshot).map_err(io_fault("rename", &making))?;
    if let Some(Epochs { accepted, current }) = epochs {
        aside::write_file(&version.join("currentEpoch"), current.to_string().as_bytes())?;
        aside::write_file(&version.join("acceptedEpoch"), accepted.to_string().as_bytes())?;
    }
    aside::sync_folder(version)?;
    Ok(Exported { snapshot, bytes })
}

/// Puts the state where a Java server looks for it, in place of the sentinel. No server may run on these directories.
///
/// # Errors
/// There are files of a Java server already, or the disk fails. It may be called again.
pub fn in_place(state: &State, dirs: &Dirs) -> Result<Exported, ImportError> {
    let mut bases = vec![dirs.data.as_path()];
    if dirs.log != dirs.data {
        bases.push(&dirs.log);
    }
    for base in &bases {
        aside::refuse_java(&base.join(FOLDER))?;
        let prepared = base.join(PREPARED);
        match fs::remove_dir_all(&prepared) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_fault("remove", &prepared)(error).into());
            }
            _ => {}
        }
        fs::create_dir(&prepared).map_err(io_fault("make", &prepared))?;
    }
    let data = dirs.data.join(PREPARED);
    let Exported { bytes, snapshot } = fill(state, &data)?;
    let print = |base: &Path| Fingerprint::of(&base.join(PREPARED));
    Mark::with(state.applied, print(&dirs.data)?, print(&dirs.log)?).write(dirs)?;
    // The folder that has the snapshot comes last: until then a Java server finds a sentinel.
    for base in bases.iter().rev() {
        let (prepared, version) = (base.join(PREPARED), base.join(FOLDER));
        aside::exchange(&prepared, &version)?;
        aside::sync_folder(base)?;
        // What was there: the sentinel's folder, or nothing.
        match fs::remove_file(prepared.join(SENTINEL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_fault("remove", &prepared)(error).into());
            }
            _ => {}
        }
        match fs::remove_dir(&prepared) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_fault("remove", &prepared)(error).into());
            }
            _ => {}
        }
        aside::sync_folder(base)?;
    }
    let name = snapshot.file_name().expect("a snapshot has a name");
    Ok(Exported { bytes, snapshot: dirs.data.join(FOLDER).join(name) })
}
