//! What a start finds in the folder of the state.
//!
//! Guarantees: the state that is taken is the newest valid one, and not older than the one that the log names: what the log
//! does not have any more is in it. Anything else is an error that says which file is at fault. Nothing is changed before a
//! state was taken.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use zorilla_proto::ids::Zxid;
use zorilla_snapshot::{Fault, Run, RunId};
use zorilla_wal::disk::{DirFiles, Disk, Files};
use zorilla_wal::{OpenError, Options, RecordRef, Recovered, StateHead, Stop, StoreId, Wal};

use super::head::{Head, Name, RunFact, WriteError};
use super::replay::{Misfit, Replay};
use super::takeover;
use crate::limits::{HEAD_BYTES_MAX, LOOKS_MAX};
use crate::tree::Tree;

/// The folder of the state, whose runs can be mapped.
pub trait StateFiles: Files {
    /// Opens a run.
    fn open_run(&self, run: RunId) -> Result<Run, Fault>;
}

impl StateFiles for DirFiles {
    fn open_run(&self, run: RunId) -> Result<Run, Fault> {
        Run::open(&self.path(""), run)
    }
}

/// Why a state cannot be used, or cannot be kept.
#[derive(Debug)]
pub enum StateError {
    /// A file is not what was once written, is missing, or cannot be read.
    Damaged(Fault),
    /// The log has nothing before some transaction, and no state reaches it.
    Missing {
        /// The file that the log names.
        head: PathBuf,
        /// How far it went.
        zxid: Zxid,
    },
    /// There is a state, but no log that goes with it.
    NoLog {
        /// The head.
        head: PathBuf,
        /// How far it goes.
        zxid: Zxid,
        /// Where the log should be, and how far it goes.
        log: PathBuf,
        /// The end of the log.
        last: Zxid,
    },
    /// Log and state belong to different stores.
    Foreign {
        /// The head.
        head: PathBuf,
        /// The store of the log.
        expected: StoreId,
        /// The store of the head.
        found: StoreId,
    },
    /// The znodes of a run do not have the digest of the tree they were made from.
    Digest {
        /// Which run.
        what: String,
        /// That of the tree.
        expected: u64,
        /// That of the run.
        found: u64,
    },
    /// Znodes cannot be written as they are.
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be written, for a reason that does not pass.
    Write(WriteError),
    /// The disk has no room for a state that was imported, or takes no writes.
    NoRoom {
        /// The folder of the state.
        folder: PathBuf,
    },
    /// The log cannot be written.
    Log(zorilla_wal::Failed),
    /// The operating system refused `op` on `path`.
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

const BACKUP: &str = "Put the folder zorilla-state and the log back from one backup of both, or start with empty \
                      directories and fill them from a snapshot of another server.";

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Damaged(fault) => fault.fmt(f),
            StateError::Missing { head, zxid } => write!(
                f,
                "{}: missing. The log names it, and has dropped every transaction up to {zxid}, which only this state \
                 holds. Nothing was changed. {BACKUP}",
                head.display()
            ),
            StateError::NoLog { head, zxid, log, last } => write!(
                f,
                "{}: it holds every transaction up to {zxid}, and the log in {} ends at {last}. The log was lost or \
                 replaced, and with it what was acknowledged since. Nothing was changed. Is dataLogDir right, and its disk \
                 mounted? If so: {BACKUP}",
                head.display(),
                log.display()
            ),
            StateError::Foreign { head, expected, found } => write!(
                f,
                "{}: it belongs to store {:032x}, but the log to store {:032x}: dataDir and dataLogDir are not of one \
                 server. Nothing was changed. Set the two directories that belong together.",
                head.display(),
                found.0,
                expected.0
            ),
            StateError::Digest { what, expected, found } => write!(
                f,
                "{what}: the znodes in it have the digest {found:#x}, those it was made from {expected:#x}. It was not taken \
                 into use. Memory or disk of this machine change what they hold, or this program has a defect; the log and \
                 the state before are intact."
            ),
            StateError::Wrong { path, what } => write!(
                f,
                "{}: {what}. It was not taken into use. Memory or disk of this machine change what they hold, or this \
                 program has a defect; the log and the state before are intact.",
                path.display()
            ),
            StateError::Write(error) => write!(
                f,
                "{error}. Check the disk, then start the server again: the log and the state before are intact."
            ),
            StateError::NoRoom { folder } => write!(
                f,
                "{}: the disk has no room for the imported state, or takes no writes. Nothing of the Java server was \
                 changed. Free some space, then start again.",
                folder.display()
            ),
            StateError::Log(failed) => failed.fmt(f),
            StateError::Io { op, path, source } => write!(f, "{}: could not {op} it: {source}", path.display()),
        }
    }
}

impl std::error::Error for StateError {}

/// What is there.
#[derive(Debug, Default)]
pub struct Found {
    /// The head in force. `None`: there never was one.
    pub head: Option<Head>,
    /// Its runs, newest first.
    pub runs: Layers,
    /// The highest number that a file has.
    pub number_last: u64,
    /// Newer heads than the one in force, and why they are not.
    pub passed_over: Vec<Fault>,
}

impl Found {
    /// The state is complete up to it.
    pub fn zxid(&self) -> Zxid {
        self.head.as_ref().map_or(Zxid::ZERO, |head| head.zxid)
    }

    /// The runs alone.
    pub fn layers(&self) -> Vec<Arc<Run>> {
        self.runs.iter().map(|(run, _)| run.clone()).collect()
    }

    /// What the log's tail is applied to: the state, or an empty one whose hashes have this seed.
    fn replay(&self, seed: u64) -> Result<Replay, StartError> {
        let (Some(head), Some((newest, _))) = (&self.head, self.runs.first()) else { return Ok(Replay::new(seed)) };
        let damaged = |fault| StartError::State(StateError::Damaged(fault));
        let tree = Tree::open(head.seed, self.layers()).map_err(damaged)?;
        Ok(Replay::resume(tree, newest.meta()))
    }

    /// Whether the log may end with this state: `named` is what it names last, `log` where it lives, `last` its end.
    pub fn check_log<F: Files>(
        &self,
        files: &F,
        named: Option<&StateHead>,
        log: PathBuf,
        last: Zxid,
    ) -> Result<(), StateError> {
        let number = self.head.as_ref().map_or(0, |head| head.number);
        if let Some(named) = named
            && number < number_of(named)
        {
            return Err(self.unfit(files, named));
        }
        match &self.head {
            Some(head) if last < head.zxid && !self.is_unnamed_import(named) => {
                Err(StateError::NoLog { head: files.path(&head.file()), zxid: head.zxid, log, last })
            }
            _ => Ok(()),
        }
    }

    /// Whether a crash came between an import and the log's word about it.
    fn is_unnamed_import(&self, named: Option<&StateHead>) -> bool {
        let head = self.head.as_ref().filter(|head| head.imported);
        head.is_some_and(|head| named.is_none_or(|named| number_of(named) < head.number))
    }

    /// The log begins with `first`, which this state does not reach.
    fn gap<F: Files>(&self, files: &F, named: Option<StateHead>, first: Zxid) -> StateError {
        match self.passed_over.first() {
            Some(fault) => StateError::Damaged(fault.clone()),
            None => {
                let head = files.path(named.as_ref().map_or("", |named| named.file.as_str()));
                StateError::Missing { head, zxid: Zxid::from_raw(first.raw() - 1) }
            }
        }
    }

    /// What is wrong with a head that the log names.
    fn unfit<F: Files>(&self, files: &F, named: &StateHead) -> StateError {
        let path = files.path(&named.file);
        match self.passed_over.iter().find(|fault| fault.file == path) {
            Some(fault) => StateError::Damaged(fault.clone()),
            None => match self.passed_over.first() {
                Some(fault) => StateError::Damaged(fault.clone()),
                None => StateError::Missing { head: path, zxid: named.zxid },
            },
        }
    }
}

/// The number in the name that the log has for a head; a name that is none is of a later version, and newer than all.
fn number_of(named: &StateHead) -> u64 {
    match Name::parse(&named.file) {
        Some(Name::Head(number)) => number,
        _ => u64::MAX,
    }
}

/// Finds the newest valid state that is not older than `named`, the head that the log names, in the log's store.
pub fn find<F: StateFiles>(files: &F, store: Option<StoreId>, named: Option<&StateHead>) -> Result<Found, StateError> {
    let entries = files.list().map_err(|source| StateError::Io { op: "list", path: files.path(""), source })?;
    let names: Vec<Name> = entries.iter().filter_map(|entry| Name::parse(&entry.name)).collect();
    let number_last = names.iter().map(|name| name.number()).max().unwrap_or(0);
    let mut found = Found { number_last, ..Found::default() };
    let mut heads: Vec<u64> =
        names.iter().filter_map(|name| if let Name::Head(number) = name { Some(*number) } else { None }).collect();
    heads.sort_unstable_by(|left, right| right.cmp(left));
    for number in heads {
        match open_head(files, number) {
            Ok((head, runs)) => {
                if let Some(expected) = store.filter(|store| *store != head.store) {
                    let path = files.path(&head.file());
                    return Err(StateError::Foreign { head: path, expected, found: head.store });
                }
                (found.head, found.runs) = (Some(head), runs);
                break;
            }
            Err(fault) => found.passed_over.push(fault),
        }
    }
    let number = found.head.as_ref().map_or(0, |head| head.number);
    match named {
        Some(named) if number < number_of(named) => Err(found.unfit(files, named)),
        // Without a word of the log, no head that was ever published may be missing its state.
        None if found.head.is_none() && !found.passed_over.is_empty() => {
            Err(StateError::Damaged(found.passed_over.swap_remove(0)))
        }
        _ => Ok(found),
    }
}

/// Runs with what a head says of them, newest first.
pub type Layers = Vec<(Arc<Run>, RunFact)>;

/// Reads a head and opens the runs it names.
fn open_head<F: StateFiles>(files: &F, number: u64) -> Result<(Head, Layers), Fault> {
    let name = Name::Head(number).to_string();
    let path = files.path(&name);
    let refused = |op: &str, error: io::Error| Fault::new(&path, 0, format!("cannot {op} it: {error}"));
    let file = files.open(&name).map_err(|error| refused("open", error))?;
    let mut bytes = vec![0; HEAD_BYTES_MAX + 1];
    let read = files.read_at(&file, 0, &mut bytes).map_err(|error| refused("read", error))?;
    let head = Head::decode(number, &bytes[..read]).map_err(|bad| {
        Fault::new(&path, bad.offset as u64, format!("expected {}, found {}", bad.expected, bad.found))
    })?;
    let mut runs = Vec::with_capacity(head.runs.len());
    for fact in &head.runs {
        let run = files.open_run(RunId(fact.number))?;
        check(&run, fact, &head)?;
        runs.push((Arc::new(run), *fact));
    }
    Ok((head, runs))
}

/// Whether a run is the one that a head names.
fn check(run: &Run, fact: &RunFact, head: &Head) -> Result<(), Fault> {
    let differs = |what: &str, expected: String, found: String| {
        let head = head.file();
        Err(Fault::new(run.path(), 0, format!("expected {what} {expected}, which {head} names, found {found}")))
    };
    let hexadecimal = |number: u64| format!("{number:#x}");
    if run.store() != head.store.0 {
        return differs("store", format!("{:032x}", head.store.0), format!("{:032x}", run.store()));
    }
    if run.seed() != head.seed {
        return differs("seed", hexadecimal(head.seed), hexadecimal(run.seed()));
    }
    if run.identity() != fact.identity {
        return differs("the run with the identity", hexadecimal(fact.identity), hexadecimal(run.identity()));
    }
    if run.file_bytes() != fact.bytes {
        return differs("bytes", fact.bytes.to_string(), run.file_bytes().to_string());
    }
    if run.meta().zxid != fact.zxid {
        return differs("zxid", fact.zxid.to_string(), run.meta().zxid.to_string());
    }
    Ok(())
}

/// Why a start goes no further.
#[derive(Debug)]
pub enum StartError {
    /// The log.
    Log(OpenError),
    /// The state.
    State(StateError),
    /// A transaction of the log does not fit the history before it.
    Misfit(Misfit),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Log(error) => error.fmt(f),
            StartError::State(error) => error.fmt(f),
            StartError::Misfit(misfit) => misfit.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Log and state, opened.
pub struct Opened<D: Disk> {
    /// Ready to be written on.
    pub wal: Wal<D>,
    /// The state at the end of the log.
    pub replay: Replay,
    /// What of it was on the disk.
    pub found: Found,
    /// What was found of the log.
    pub log: Recovered,
}

impl<D: Disk> Opened<D> {
    /// Whether this store ever held anything.
    pub fn has_history(&self) -> bool {
        self.found.head.is_some() || self.replay.applied() != Zxid::ZERO
    }
}

/// Finds the newest state, and applies the log's tail to it.
///
/// `new_store` is the id of a store that begins now; `entropy` a random number.
///
/// # Errors
/// The log or the state is damaged, or the two do not fit each other.
pub fn open<D: Disk, F: StateFiles>(
    disk: D,
    state_files: &F,
    new_store: StoreId,
    segment_bytes: u64,
    entropy: u64,
) -> Result<Opened<D>, StartError> {
    let log_files = disk.files();
    let log_folder = log_files.path("");
    let of_log = zorilla_wal::store_of(&log_files).map_err(StartError::Log)?;
    let named = zorilla_wal::state_of(&log_files).map_err(StartError::Log)?;
    let options = Options { segment_bytes, ..Options::new(of_log.unwrap_or(new_store)) };
    let newest_named = || newest_named(&log_files, &options).or(named.clone());
    let found = find(state_files, of_log, named.as_ref()).map_err(|error| match (error, newest_named()) {
        (StateError::Missing { .. }, Some(StateHead { file, zxid })) => {
            StartError::State(StateError::Missing { head: state_files.path(&file), zxid })
        }
        (error, _) => StartError::State(error),
    })?;
    if let (None, Some(head)) = (of_log, &found.head) {
        let (head, zxid) = (state_files.path(&head.file()), head.zxid);
        return Err(StartError::State(StateError::NoLog { head, zxid, log: log_folder, last: Zxid::ZERO }));
    }
    let mut replay = found.replay(entropy)?;
    let snapshot = found.zxid();
    let mut misfit = None;
    let opened = Wal::open(disk, options.clone(), entropy, &mut |record| {
        apply_beyond(snapshot, record, &mut replay, &mut misfit)
    });
    match (opened, misfit) {
        (_, Some(misfit)) if replay.txns() == 0 && snapshot.successor().is_none_or(|next| next < misfit.zxid) => {
            Err(StartError::State(found.gap(state_files, newest_named(), misfit.zxid)))
        }
        (_, Some(misfit)) => Err(StartError::Misfit(misfit)),
        (Err(error), None) => Err(StartError::Log(error)),
        (Ok((wal, log)), None) => {
            let (named, last) = (log.state_head.as_ref(), log.last_zxid);
            found.check_log(state_files, named, log_folder, last).map_err(StartError::State)?;
            clean(state_files).map_err(StartError::State)?;
            let (named, last) = (log.state_head.clone(), log.last_zxid);
            let mut opened = Opened { wal, replay, found, log };
            takeover::finish(&mut opened, named.as_ref(), last).map_err(StartError::State)?;
            Ok(opened)
        }
    }
}

/// Applies a record of the log, unless the state goes up to `snapshot` and holds it.
fn apply_beyond(
    snapshot: Zxid,
    record: RecordRef<'_>,
    replay: &mut Replay,
    misfit: &mut Option<Misfit>,
) -> Result<(), Stop> {
    let RecordRef::Txn { zxid, payload } = record else { return Ok(()) };
    if zxid <= snapshot {
        return Ok(());
    }
    replay.apply(zxid, payload).map_err(|found| {
        *misfit = Some(found);
        Stop
    })
}

/// Log and state, read and left as they are.
pub struct Looked {
    /// The state at the end of the log.
    pub replay: Replay,
    /// The epochs.
    pub epochs: zorilla_wal::Epochs,
    /// There is neither a log nor a state.
    pub fresh: bool,
}

/// Reads the same as [`open`] without taking the log, so that a server may be running on it: what is read then is what it had
/// written at some moment. Files that it removes in the meantime make it begin again.
///
/// # Errors
/// The log or the state is damaged, or the two do not fit each other.
pub fn look<L: Files, F: StateFiles>(log_files: &L, state_files: &F, seed: u64) -> Result<Looked, StartError> {
    let mut attempts = 1..LOOKS_MAX;
    loop {
        match look_once(log_files, state_files, seed) {
            Err(_) if attempts.next().is_some() => {}
            result => return result,
        }
    }
}

fn look_once<L: Files, F: StateFiles>(log_files: &L, state_files: &F, seed: u64) -> Result<Looked, StartError> {
    let of_log = zorilla_wal::store_of(log_files).map_err(StartError::Log)?;
    let named = zorilla_wal::state_of(log_files).map_err(StartError::Log)?;
    let found = find(state_files, of_log, named.as_ref()).map_err(StartError::State)?;
    let mut replay = found.replay(seed)?;
    let Some(store) = of_log else { return Ok(Looked { replay, epochs: zorilla_wal::Epochs::default(), fresh: true }) };
    let snapshot = found.zxid();
    let mut misfit = None;
    let read = zorilla_wal::read(log_files, &Options::new(store), &mut |record| {
        apply_beyond(snapshot, record, &mut replay, &mut misfit)
    });
    match (read, misfit) {
        (_, Some(misfit)) => Err(StartError::Misfit(misfit)),
        (Err(error), None) => Err(StartError::Log(error)),
        (Ok(log), None) => {
            let (named, last) = (log.state_head.as_ref(), log.last_zxid);
            found.check_log(state_files, named, log_files.path(""), last).map_err(StartError::State)?;
            Ok(Looked { replay, epochs: log.epochs, fresh: false })
        }
    }
}

/// The head that the log names last, as far as it can be read.
fn newest_named<F: Files>(log: &F, options: &Options) -> Option<StateHead> {
    let read = zorilla_wal::read(log, options, &mut |_| Ok(()));
    read.ok().and_then(|recovered| recovered.state_head)
}

/// Removes what was being written when the process before this one ended.
pub fn clean<F: Files>(files: &F) -> Result<(), StateError> {
    let io = |op, path, source| StateError::Io { op, path, source };
    let entries = files.list().map_err(|source| io("list", files.path(""), source))?;
    let making = |name: &str| matches!(Name::parse(name), Some(Name::Making(_)));
    for entry in entries.iter().filter(|entry| making(&entry.name)) {
        files.remove(&entry.name).map_err(|source| io("remove", files.path(&entry.name), source))?;
    }
    Ok(())
}

/// Marks the state as exported up to `zxid`: a head like the newest one, that says so. `None`: there is no state to mark.
///
/// # Errors
/// The state is damaged, or the head cannot be written.
pub fn mark_exported<F: StateFiles>(files: &F, zxid: Zxid) -> Result<Option<Head>, StateError> {
    let Found { head, number_last, .. } = find(files, None, None)?;
    let Some(head) = head else { return Ok(None) };
    let marked = Head { number: number_last + 1, exported: Some(zxid), ..head };
    marked.publish(files).map_err(StateError::Write)?;
    Ok(Some(marked))
}
