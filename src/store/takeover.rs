//! A state that comes from elsewhere becomes this store's: what a Java server left, at the first start on it.
//!
//! Its runs are published under a head that says that the log has nothing before it; then one record in the log replaces
//! the whole history by that head. A crash between the two leaves such a head and a log that does not name it: the next
//! start writes the record.

use std::sync::Arc;

use zorilla_proto::ids::Zxid;
use zorilla_snapshot::{Run, RunId};
use zorilla_wal::StateHead;
use zorilla_wal::disk::Disk;

use super::head::RunFact;
use super::recover::{Found, Opened, StateError, StateFiles};
use super::work::{Freeze, HeadName, Progress, SessionChange, Work};
use crate::clock::Now;
use crate::compat::progress::Progress as Bar;
use crate::compat::{self, ImportError, Imported, Recovered, RunSpec};
use crate::config::Config;

/// Takes over what a Java server left in the directories of this configuration. `None`: there is nothing, or nothing newer
/// than our own state. After `Some` log and state are to be opened again.
///
/// # Errors
/// It cannot be imported; Java's files are where they were.
pub fn take_over<D: Disk, F: StateFiles>(
    config: &Config,
    opened: &mut Opened<D>,
    state_files: &F,
    progress: &mut dyn Bar,
    now: Now,
    entropy: u64,
) -> Result<Option<Imported>, ImportError> {
    let number = opened.found.number_last + 1;
    let seed = opened.found.head.as_ref().map_or(entropy, |head| head.seed);
    let mut options = compat::Options::new(seed, config.jute_maxbuffer);
    options.trust_empty = config.snapshot_trust_empty;
    options.native = opened.has_history().then(|| opened.replay.applied());
    options.run = Some(RunSpec {
        folder: state_files.path(""),
        run: RunId(number),
        store: opened.wal.store().0,
        identity: entropy,
        written_ms: now.wall_ms,
    });
    let mut publish = |recovered: Recovered| {
        adopt(opened, state_files, recovered, number, now, (seed, entropy)).map_err(|error| error.to_string())
    };
    compat::import(&config.data_dir, &config.data_log_dir, &options, progress, &mut publish)
}

/// Makes a recovered state that of this store, durably.
fn adopt<D: Disk, F: StateFiles>(
    opened: &mut Opened<D>,
    state_files: &F,
    recovered: Recovered,
    number: u64,
    now: Now,
    (seed, entropy): (u64, u64),
) -> Result<(), StateError> {
    let Recovered { mut tree, applied, sessions, session_last, digests, epochs, .. } = recovered;
    let runs: Vec<(Arc<Run>, RunFact)> = tree.runs().iter().map(|run| (run.clone(), fact(run))).collect();
    let found = Found { runs, number_last: number, ..Found::default() };
    let mut work = Work::new(state_files.clone(), &found, opened.wal.store(), seed, entropy ^ number);
    work.begin_imported(session_last);
    let mut meta = tree.meta();
    meta.zxid = applied;
    meta.written_ms = now.wall_ms;
    meta.digests = digests.iter().collect();
    let sessions = sessions.into_iter().map(|(id, timeout_ms)| SessionChange::Opened(id, timeout_ms)).collect();
    work.take(Freeze { overlay: tree.freeze(), meta, sessions });
    let head = loop {
        match work.step()? {
            Progress::Swap(swap) => break swap.head,
            Progress::More | Progress::Warmed => {}
            Progress::Later | Progress::Idle => return Err(StateError::NoRoom { folder: state_files.path("") }),
        }
    };
    if let Some(compat::Epochs { accepted, current }) = epochs {
        let known = opened.wal.epochs();
        let (accepted, current) = (accepted.max(known.accepted), current.max(known.current));
        let epochs = zorilla_wal::Epochs { accepted: accepted.max(current), current };
        while opened.wal.append_epochs(epochs).is_err() {
            opened.wal.flush(now.mono_ns).map_err(StateError::Log)?;
        }
    }
    replace_history(opened, &head, now.mono_ns)
}

/// Records that this head replaces the whole history, and waits until that is durable.
fn replace_history<D: Disk>(opened: &mut Opened<D>, head: &HeadName, now_ns: u64) -> Result<(), StateError> {
    opened.wal.flush(now_ns).map_err(StateError::Log)?;
    while opened.wal.append_state_replacing_history(&head.file, head.zxid).is_err() {
        opened.wal.flush(now_ns).map_err(StateError::Log)?;
    }
    opened.wal.flush(now_ns).map_err(StateError::Log)?;
    Ok(())
}

/// Finishes a takeover that a crash interrupted between the head and the log's record of it.
///
/// # Errors
/// The log cannot be written.
pub fn finish<D: Disk>(opened: &mut Opened<D>, named: Option<&StateHead>, last: Zxid) -> Result<(), StateError> {
    let Some(head) = opened.found.head.as_ref().filter(|head| head.imported) else { return Ok(()) };
    let (file, zxid, number) = (head.file(), head.zxid, head.number);
    if named.is_some_and(|named| named.file == file) || zxid < last {
        return Ok(());
    }
    replace_history(opened, &HeadName { number, file, zxid }, 0)
}

fn fact(run: &Run) -> RunFact {
    RunFact { number: run.id().0, bytes: run.file_bytes(), zxid: run.meta().zxid, identity: run.identity() }
}
