//! `zorilla export`: the state as the directory of a Java server.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use zorilla_wal::disk::blocking::BlockingDisk;
use zorilla_wal::disk::{DirFiles, Disk};

use super::configure;
use crate::cli::exit_code;
use crate::compat::export::{Exported, State, in_place, to_folder};
use crate::compat::{Dirs, Epochs};
use crate::config::Config;
use crate::store::{self, recover};

/// What was typed behind `export`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(
    override_usage = "zorilla export [--format zookeeper] [-Dname=value …] DIR CONFIG\n       \
                      zorilla export [--format zookeeper] [-Dname=value …] DIR DATADIR [DATALOGDIR]\n       \
                      zorilla export --in-place [-Dname=value …] CONFIG\n       \
                      zorilla export --in-place [-Dname=value …] DATADIR [DATALOGDIR]",
    after_help = "DIR         where `version-2` is made; a server may be running on the state that is read\n\
                  CONFIG      a zoo.cfg, for its dataDir and dataLogDir\n\
                  DATADIR     the directory with zorilla-state\n\
                  DATALOGDIR  the directory with zorilla-log, if it lies apart\n\n\
                  With --in-place the server must be stopped: a Java server started on the same directories goes on from \
                  here. If Zorilla is started instead, it goes on as before; if both were, it refuses.\n\n\
                  Exit codes: 0 exported; 3 the state cannot be read or the directory not be written; 2 wrong arguments \
                  or configuration."
)]
pub struct Export {
    /// The format of the files
    #[arg(long, default_value = "zookeeper", value_parser = ["zookeeper"])]
    format: String,
    /// Put them where a Java server with the same configuration looks for them
    #[arg(long)]
    in_place: bool,
    #[arg(short = 'D', hide = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
    #[arg(hide = true, required = true, num_args = 1..=3)]
    paths: Vec<PathBuf>,
}

impl Export {
    /// Exports. What to print, on standard output or, with an exit code, on standard error.
    pub fn run(&self) -> Result<String, (String, u8)> {
        let typed = |what: &str| (format!("{what}; see zorilla export --help\n"), exit_code::BAD_CONFIG);
        let (folder, from) = match self.paths.as_slice() {
            from if self.in_place => (None, from),
            [folder, from @ ..] => (Some(folder), from),
            [] => return Err(typed("a directory is missing")),
        };
        let config = match from {
            [from] => configure(from, None, &self.flags),
            [from, log] => configure(from, Some(log), &self.flags),
            _ => return Err(typed("a CONFIG, or a DATADIR and perhaps a DATALOGDIR, is expected")),
        };
        let config = config.map_err(|text| (text, exit_code::BAD_CONFIG))?;
        let failed = |text: String| (format!("{text}\n"), exit_code::DATA_DIRECTORY);
        // Held until the files are in their place.
        let _lock = if self.in_place { Some(lock(&config).map_err(failed)?) } else { None };
        let state = read(&config).map_err(failed)?;
        let Exported { snapshot, bytes } = match folder {
            Some(folder) => to_folder(&state, folder).map_err(|fault| failed(fault.to_string()))?,
            None => {
                let dirs = Dirs { data: config.data_dir.clone(), log: config.data_log_dir.clone() };
                in_place(&state, &dirs).map_err(|error| failed(error.to_string()))?
            }
        };
        let State { tree, applied, sessions, .. } = &state;
        Ok(format!(
            "snapshot      {}, {bytes} bytes\ntransactions  up to {applied}\nznodes        {}, {} of them ephemeral\n\
             sessions      {}\ndigest        {}\n",
            snapshot.display(),
            tree.len(),
            tree.ephemerals_count(),
            sessions.len(),
            // As the reference prints it.
            tree.digest() as i64
        ))
    }
}

fn files(path: &Path) -> Result<DirFiles, String> {
    if !path.is_dir() {
        return Err(format!("{}: there is no state of Zorilla here", path.display()));
    }
    DirFiles::open(path, false).map_err(|error| format!("{}: cannot open it: {error}", path.display()))
}

/// Takes the log, so that no server runs on it.
fn lock(config: &Config) -> Result<BlockingDisk, String> {
    let folder = store::log_folder(&config.data_log_dir);
    let io = |error| format!("{}: cannot lock it: {error}", folder.display());
    let mut disk = BlockingDisk::new(files(&folder)?).map_err(io)?;
    if !disk.lock().map_err(io)? {
        return Err(format!("{}: a server is running on it; stop it first", folder.display()));
    }
    Ok(disk)
}

fn read(config: &Config) -> Result<State, String> {
    let log = files(&store::log_folder(&config.data_log_dir))?;
    let state = files(&store::state_folder(&config.data_dir))?;
    let looked = recover::look(&log, &state, 0).map_err(|error| error.to_string())?;
    let applied = looked.replay.applied();
    let zorilla_wal::Epochs { accepted, current } = looked.epochs;
    let epochs = (accepted != 0).then_some(Epochs { accepted, current });
    let (tree, sessions) = looked.replay.into_tree();
    Ok(State { tree, applied, sessions, epochs })
}
