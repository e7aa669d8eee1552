//! The store thread's side: writes what was frozen, merges runs, publishes heads, removes what nobody needs.
//!
//! A value over the folder of the state: [`Work::step`] does a bounded piece and says what came of it. Guarantees: a file has
//! the name of a run or a head only once it is durable; a merge has the digest of what it merges, or nothing comes of it; a
//! full disk costs nothing but time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_snapshot::merge::MergeError;
use zorilla_snapshot::{Cold, Merge, Meta, Run, RunId, Sink, Spec, WriteError as RunError, Writer, Written};
use zorilla_wal::disk::Files;

use super::SERVER_ID;
use super::head::{Head, Name, RunFact, WriteError, rename};
use super::recover::{Found, StateError, StateFiles};
use super::{Figures, policy};
use crate::limits::{FLUSH_STEP_BYTES, FLUSH_STEP_ENTRIES, MERGE_STEP_BYTES, RUN_SYNC_BYTES, WARM_STEP_BLOCKS};
use crate::tree::{Flush, Overlay, digest};

/// A session that began or ended since the last freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// With this timeout, ms.
    Opened(SessionId, u32),
    /// It is gone.
    Closed(SessionId),
}

/// What the replica froze, at one zxid.
pub struct Freeze {
    /// What changed since the freeze before.
    pub overlay: Arc<Overlay>,
    /// What holds for the whole state; sessions are added here.
    pub meta: Meta,
    /// Since the freeze before, in the order of history.
    pub sessions: Vec<SessionChange>,
}

/// A head that was published, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadName {
    /// Its number.
    pub number: u64,
    /// The name of its file.
    pub file: String,
    /// The state is complete up to it.
    pub zxid: Zxid,
}

/// What a run takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The frozen overlay.
    Frozen,
    /// These runs, newest first.
    Runs(Vec<RunId>),
}

/// A run is durable and named by a durable head: it takes the place of what it was made from.
pub struct Swap {
    /// What it replaces.
    pub replaced: Replaced,
    /// The run.
    pub run: Arc<Run>,
    /// The head that names it.
    pub head: HeadName,
    /// Runs in force now.
    pub runs: usize,
    /// A merge goes on or begins.
    pub merging: bool,
}

/// What nobody looks at any more: to be dropped where dropping may take long.
pub enum Retired {
    /// An overlay whose run is in force.
    Overlay(Arc<Overlay>),
    /// Merged runs.
    Runs(Vec<Arc<Run>>),
}

/// What a step came to.
pub enum Progress {
    /// There is nothing to do.
    Idle,
    /// There is more to do.
    More,
    /// The disk takes nothing at present; try again after a while.
    Later,
    /// Some blocks were brought in that nobody waits for: there are more, and no hurry.
    Warmed,
    /// See [`Swap`].
    Swap(Swap),
}

/// The bytes of a run on their way to a file.
struct FilesSink<F: Files> {
    files: F,
    file: F::File,
    name: String,
    at: u64,
    synced: u64,
    /// The same as `at`, for who has given the sink away.
    taken: Arc<AtomicU64>,
}

impl<F: Files> FilesSink<F> {
    fn create(files: &F, name: String) -> Result<FilesSink<F>, WriteError> {
        let file = files.create(&name);
        let file = file.map_err(|source| WriteError { op: "create", path: files.path(&name), source })?;
        Ok(FilesSink { files: files.clone(), file, name, at: 0, synced: 0, taken: Arc::default() })
    }

    /// Makes it durable and gives it its name.
    fn publish(self, number: u64) -> Result<(), WriteError> {
        self.files.sync(&self.file).map_err(|source| WriteError {
            op: "sync",
            path: self.files.path(&self.name),
            source,
        })?;
        rename(&self.files, &self.name, &Name::Run(number).to_string())
    }
}

impl<F: Files> Sink for FilesSink<F> {
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // A full disk takes a part first and says why the next time.
            let written = self.files.write_at(&self.file, self.at, bytes)?;
            if written == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.at += written as u64;
            bytes = &bytes[written..];
        }
        self.taken.store(self.at, Ordering::Relaxed);
        if RUN_SYNC_BYTES as u64 <= self.at - self.synced {
            self.files.sync(&self.file)?;
            self.synced = self.at;
        }
        Ok(())
    }
}

/// A frozen overlay on its way to a run.
struct Writing<F: Files> {
    number: u64,
    /// `None`: every entry is written.
    entries: Option<Flush>,
    writer: Writer<FilesSink<F>>,
    taken: Arc<AtomicU64>,
}

/// A merge under way.
struct Merging<F: Files> {
    merge: Merge<FilesSink<F>>,
    number: u64,
    inputs: Vec<RunId>,
    bottom: bool,
}

/// See the module.
pub struct Work<F: StateFiles> {
    files: F,
    store: zorilla_wal::StoreId,
    seed: u64,
    exported: Option<Zxid>,
    /// The next head says that the log has nothing before it.
    imported: bool,
    /// Newest first.
    runs: Vec<(Arc<Run>, RunFact)>,
    /// Heads that were published and not purged, oldest first, with the numbers of their runs.
    heads: VecDeque<(u64, Vec<u64>)>,
    /// The last number that a file has or had.
    number_last: u64,
    identities: u64,
    sessions: BTreeMap<SessionId, u32>,
    /// The highest id that was handed out under this server's number.
    session_last: i64,
    /// What is being written, until its run is published.
    frozen: Option<Freeze>,
    writing: Option<Writing<F>>,
    merge: Option<Merging<F>>,
    /// A run that is being brought in before it is shown, and from which block on.
    warming: Option<(Swap, u32)>,
    /// Runs that a start found, to be brought in when there is nothing else to do, and from which block on.
    to_warm: VecDeque<(RunId, u32)>,
    /// Memory that this process may use.
    memory_bytes: u64,
    /// See [`Run::set_epoch`].
    epoch: u32,
    /// The disk took nothing the last time, and that was told.
    refused: bool,
    figures: Arc<Figures>,
}

impl<F: StateFiles> fmt::Debug for Work<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs: Vec<_> = self.runs.iter().map(|(_, fact)| fact).collect();
        f.debug_struct("Work").field("runs", &runs).field("heads", &self.heads).finish_non_exhaustive()
    }
}

/// Why a run could not be written.
enum Refused {
    /// The disk: perhaps it takes it later.
    Disk(WriteError),
    /// Nothing that passes.
    Final(StateError),
}

impl From<WriteError> for Refused {
    fn from(error: WriteError) -> Refused {
        if error.may_pass() { Refused::Disk(error) } else { Refused::Final(StateError::Write(error)) }
    }
}

impl<F: StateFiles> Work<F> {
    /// Goes on from what a start found. `seed` is that of the path hashes; `entropy` a random number.
    pub fn new(files: F, found: &Found, store: zorilla_wal::StoreId, seed: u64, entropy: u64) -> Work<F> {
        let mut work = Work {
            files,
            store,
            seed,
            exported: found.head.as_ref().and_then(|head| head.exported),
            imported: false,
            runs: found.runs.clone(),
            heads: VecDeque::new(),
            number_last: found.number_last,
            identities: entropy,
            sessions: BTreeMap::new(),
            session_last: 0,
            frozen: None,
            writing: None,
            merge: None,
            warming: None,
            to_warm: found.runs.iter().map(|(run, _)| (run.id(), 0)).collect(),
            memory_bytes: u64::MAX,
            epoch: 1,
            refused: false,
            figures: Arc::default(),
        };
        if let Some((newest, _)) = found.runs.first() {
            work.sessions.extend(newest.meta().sessions.iter().copied());
            work.session_last = newest.meta().session_last;
        }
        if let Some(head) = &found.head {
            work.heads.push_back((head.number, head.runs.iter().map(|run| run.number).collect()));
            work.figures.head_zxid.store(head.zxid.raw(), Ordering::Relaxed);
        }
        work.count_runs();
        work
    }

    /// What is taken next is a whole history, made elsewhere, over the runs it brings along: these sessions are all there
    /// are, and the head says that the log has nothing before it.
    pub fn begin_imported(&mut self, session_last: i64) {
        self.imported = true;
        self.sessions.clear();
        self.session_last = session_last;
    }

    /// So much memory is there in all. Unless it is told, there is enough.
    pub fn set_memory(&mut self, bytes: u64) {
        self.memory_bytes = bytes;
    }

    /// Whether the runs are so large that the kernel may have to evict parts of them.
    pub fn is_pressed(&self) -> bool {
        self.memory_bytes / 2 < self.figures.run_bytes.load(Ordering::Relaxed)
    }

    /// Some time has passed: with little memory, blocks that nobody used lately count as evicted.
    pub fn tick(&mut self) {
        let pressed = self.is_pressed();
        if !pressed && self.epoch == 1 {
            return;
        }
        self.epoch = if pressed { self.epoch.saturating_add(1) } else { 1 };
        for (run, _) in &self.runs {
            run.set_epoch(self.epoch, self.epoch.saturating_sub(1));
        }
    }

    /// What was done so far.
    pub fn figures(&self) -> Arc<Figures> {
        self.figures.clone()
    }

    /// Takes what was frozen, to be written in the steps that follow.
    pub fn take(&mut self, mut freeze: Freeze) {
        assert!(self.frozen.is_none(), "frozen again before the last overlay was written");
        for change in freeze.sessions.drain(..) {
            match change {
                SessionChange::Opened(session, timeout_ms) => {
                    if session.raw() >> 56 == SERVER_ID {
                        self.session_last = self.session_last.max(session.raw());
                    }
                    self.sessions.insert(session, timeout_ms);
                }
                SessionChange::Closed(session) => {
                    self.sessions.remove(&session);
                }
            }
        }
        freeze.meta.session_last = self.session_last;
        freeze.meta.sessions = self.sessions.iter().map(|(session, timeout_ms)| (*session, *timeout_ms)).collect();
        freeze.meta.store = self.store.0;
        self.frozen = Some(freeze);
    }

    /// Whether a merge is under way or due.
    pub fn is_merging(&self) -> bool {
        self.merge.is_some() || self.merge_due().is_some()
    }

    /// Does the next piece: what was frozen first, then a merge.
    pub fn step(&mut self) -> Result<Progress, StateError> {
        if let Some((swap, from)) = self.warming.take() {
            return self.warm_step(swap, from);
        }
        let outcome = if self.frozen.is_some() {
            self.write_step()
        } else if self.merge.is_some() {
            self.merge_step()
        } else if let Some(count) = self.merge_due() {
            self.begin_merge(count)
        } else {
            return self.warm_found();
        };
        match outcome {
            Ok(progress) => {
                if self.refused {
                    self.refused = false;
                    tracing::info!("the state can be written to {} again", self.files.path("").display());
                }
                Ok(progress)
            }
            Err(Refused::Final(error)) => Err(error),
            Err(Refused::Disk(error)) => {
                self.figures.given_up.fetch_add(1, Ordering::Relaxed);
                if !self.refused {
                    self.refused = true;
                    tracing::error!(
                        "{error}. The state stays in memory and in the log, which grows; writing it is tried again every \
                         second. Free some space, or make the file system writable."
                    );
                }
                Ok(Progress::Later)
            }
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number_last += 1;
        self.number_last
    }

    fn spec(&mut self, number: u64) -> Spec {
        // SplitMix64.
        self.identities = self.identities.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.identities ^ (self.identities >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let identity = mixed ^ (mixed >> 31);
        Spec { run: RunId(number), store: self.store.0, seed: self.seed, identity, digest_of: digest::of_entry }
    }

    /// Gives up a file that is being made.
    fn abandon(&self, number: u64) {
        // Should this fail as well, the next start removes it.
        let _ = self.files.remove(&Name::Making(number).to_string());
    }

    fn write_step(&mut self) -> Result<Progress, Refused> {
        let Some(mut writing) = self.writing.take() else { return self.begin_write() };
        let freeze = self.frozen.as_ref().expect("what is written was frozen");
        match write_on(&mut writing, &freeze.meta) {
            Ok(None) => {
                self.writing = Some(writing);
                Ok(Progress::More)
            }
            Ok(Some(written)) => {
                let number = writing.number;
                let ended = self.end_write(writing, written).inspect_err(|_| self.abandon(number));
                ended.map(|swap| self.show(swap))
            }
            Err(error) => {
                self.abandon(writing.number);
                Err(self.refused_by(writing.number, error))
            }
        }
    }

    /// Has a new run brought in before anybody asks for it: it was just written, so that is quick.
    fn show(&mut self, swap: Swap) -> Progress {
        if self.is_pressed() {
            return Progress::Swap(swap);
        }
        self.warming = Some((swap, 0));
        Progress::More
    }

    fn warm_step(&mut self, swap: Swap, from: u32) -> Result<Progress, StateError> {
        let end = (from + WARM_STEP_BLOCKS).min(swap.run.blocks());
        warm(&swap.run, from..end)?;
        if end == swap.run.blocks() {
            return Ok(Progress::Swap(swap));
        }
        self.warming = Some((swap, end));
        Ok(Progress::More)
    }

    /// Brings in and verifies what a start found, as long as there is memory enough.
    fn warm_found(&mut self) -> Result<Progress, StateError> {
        while let Some((run, from)) = self.to_warm.pop_front() {
            // It may be merged by now.
            let Some((run, _)) = self.runs.iter().find(|(kept, _)| kept.id() == run) else { continue };
            if from == run.blocks() || self.is_pressed() {
                continue;
            }
            let end = (from + WARM_STEP_BLOCKS).min(run.blocks());
            warm(run, from..end)?;
            self.to_warm.push_front((run.id(), end));
            return Ok(Progress::Warmed);
        }
        Ok(Progress::Idle)
    }

    fn begin_write(&mut self) -> Result<Progress, Refused> {
        let number = self.next_number();
        let sink = FilesSink::create(&self.files, Name::Making(number).to_string())?;
        let taken = sink.taken.clone();
        let writer = Writer::new(sink, self.spec(number));
        let freeze = self.frozen.as_ref().expect("what is written was frozen");
        let entries = Some(Flush::new(freeze.overlay.clone()));
        self.writing = Some(Writing { number, entries, writer, taken });
        Ok(Progress::More)
    }

    fn end_write(&mut self, writing: Writing<F>, written: Written) -> Result<Swap, Refused> {
        writing.writer.into_sink().publish(writing.number)?;
        let (run, fact) = self.open(written)?;
        if self.runs.is_empty() {
            check_digest(&run)?;
        }
        let mut runs = self.runs.clone();
        runs.insert(0, (run.clone(), fact));
        let head = self.publish(runs, writing.number)?;
        self.frozen = None;
        self.figures.flushes.fetch_add(1, Ordering::Relaxed);
        let (runs, merging) = (self.runs.len(), self.is_merging());
        Ok(Swap { replaced: Replaced::Frozen, run, head, runs, merging })
    }

    /// A run that was just published.
    fn open(&mut self, written: Written) -> Result<(Arc<Run>, RunFact), Refused> {
        let run = self.files.open_run(written.run).map_err(|fault| Refused::Final(StateError::Damaged(fault)))?;
        let zxid = run.meta().zxid;
        let fact = RunFact { number: written.run.0, bytes: written.bytes, zxid, identity: written.identity };
        self.figures.written_bytes.fetch_add(written.bytes, Ordering::Relaxed);
        Ok((Arc::new(run), fact))
    }

    /// Publishes the head that names these runs, which are in force from then on. `run` is the new one among them.
    fn publish(&mut self, runs: Vec<(Arc<Run>, RunFact)>, run: u64) -> Result<HeadName, Refused> {
        let number = self.next_number();
        let facts: Vec<RunFact> = runs.iter().map(|(_, fact)| *fact).collect();
        let head = Head {
            number,
            store: self.store,
            seed: self.seed,
            zxid: facts.first().map_or(Zxid::ZERO, |fact| fact.zxid),
            exported: self.exported,
            imported: self.imported,
            runs: facts,
        };
        if let Err(error) = head.publish(&self.files) {
            // A run without a head is only in the way. Should this fail as well, the next purge removes it.
            let _ = self.files.remove(&Name::Run(run).to_string());
            return Err(error.into());
        }
        self.runs = runs;
        self.imported = false;
        self.heads.push_back((number, head.runs.iter().map(|run| run.number).collect()));
        self.figures.head_zxid.store(head.zxid.raw(), Ordering::Relaxed);
        self.count_runs();
        Ok(HeadName { number, file: head.file(), zxid: head.zxid })
    }

    fn count_runs(&self) {
        self.figures.runs.store(self.runs.len() as u64, Ordering::Relaxed);
        let bytes = self.runs.iter().map(|(_, fact)| fact.bytes).sum();
        self.figures.run_bytes.store(bytes, Ordering::Relaxed);
    }

    fn merge_due(&self) -> Option<usize> {
        let sizes: Vec<u64> = self.runs.iter().map(|(_, fact)| fact.bytes).collect();
        policy::merge(&sizes)
    }

    fn begin_merge(&mut self, count: usize) -> Result<Progress, Refused> {
        let number = self.next_number();
        let bottom = count == self.runs.len();
        let inputs: Vec<Arc<Run>> = self.runs[..count].iter().map(|(run, _)| run.clone()).collect();
        let ids = inputs.iter().map(|run| run.id()).collect();
        let sink = FilesSink::create(&self.files, Name::Making(number).to_string())?;
        let writer = Writer::new(sink, self.spec(number));
        let merge = Merge::new(inputs, bottom, digest::of_entry, writer);
        self.merge = Some(Merging { merge, number, inputs: ids, bottom });
        Ok(Progress::More)
    }

    fn merge_step(&mut self) -> Result<Progress, Refused> {
        let mut merging = self.merge.take().expect("a merge is under way");
        match merging.merge.step(MERGE_STEP_BYTES) {
            Ok(zorilla_snapshot::Progress::More) => {
                self.merge = Some(merging);
                Ok(Progress::More)
            }
            Ok(zorilla_snapshot::Progress::Done(written)) => {
                let number = merging.number;
                let merged = self.end_merge(merging, written).inspect_err(|_| self.abandon(number));
                merged.map(|swap| self.show(swap))
            }
            Err(error) => {
                self.abandon(merging.number);
                Err(match error {
                    MergeError::Fault(fault) => Refused::Final(StateError::Damaged(fault)),
                    MergeError::Write(error) => self.refused_by(merging.number, error),
                    MergeError::Digest { what, expected, found } => {
                        Refused::Final(StateError::Digest { what, expected, found })
                    }
                })
            }
        }
    }

    fn end_merge(&mut self, merging: Merging<F>, written: Written) -> Result<Swap, Refused> {
        let Merging { merge, number, inputs, bottom } = merging;
        let sink = merge.into_sink().expect("a complete merge has its sink");
        sink.publish(number)?;
        let at = self.runs.iter().position(|(run, _)| run.id() == inputs[0]).expect("merged runs are in force");
        let (run, fact) = self.open(written)?;
        if bottom {
            check_digest(&run)?;
        }
        let mut runs = self.runs.clone();
        runs.splice(at..at + inputs.len(), [(run.clone(), fact)]);
        let head = self.publish(runs, number)?;
        self.figures.merges.fetch_add(1, Ordering::Relaxed);
        let (runs, merging) = (self.runs.len(), self.is_merging());
        Ok(Swap { replaced: Replaced::Runs(inputs), run, head, runs, merging })
    }

    fn refused_by(&self, number: u64, error: RunError) -> Refused {
        let path = self.files.path(&Name::Making(number).to_string());
        match error {
            RunError::Io(_, source) => WriteError { op: "write", path, source }.into(),
            // What was pushed was in order when it was read: the znodes in memory or in the runs are not what they were.
            RunError::Wrong(what) => Refused::Final(StateError::Wrong { path, what }),
        }
    }

    /// Removes heads before this one, and the runs that only they name. A file that cannot be removed is tried again the
    /// next time.
    pub fn purge(&mut self, head: u64) {
        while self.heads.front().is_some_and(|(number, _)| *number < head) {
            self.heads.pop_front();
        }
        if let Err(error) = self.remove_unnamed() {
            tracing::warn!("{error}. It takes room, and is tried again after the next snapshot");
        }
    }

    fn remove_unnamed(&self) -> Result<(), WriteError> {
        let at = |op, name: &str, source| WriteError { op, path: self.files.path(name), source };
        let names = self.files.list().map_err(|source| at("list", "", source))?;
        let names: Vec<Name> = names.iter().filter_map(|entry| Name::parse(&entry.name)).collect();
        let named = |number: u64| self.heads.iter().any(|(_, runs)| runs.contains(&number));
        let heads =
            |name: &Name| matches!(name, Name::Head(number) if !self.heads.iter().any(|(kept, _)| kept == number));
        let runs = |name: &Name| matches!(name, Name::Run(number) if !named(*number));
        // Heads first: a head whose runs are gone would look like damage.
        for unneeded in [&heads as &dyn Fn(&Name) -> bool, &runs] {
            let mut removed = false;
            for name in names.iter().filter(|name| unneeded(name)) {
                let name = name.to_string();
                self.files.remove(&name).map_err(|source| at("remove", &name, source))?;
                removed = true;
            }
            if removed {
                self.files.sync_directory().map_err(|source| at("sync the directory of", "", source))?;
            }
        }
        Ok(())
    }
}

fn warm(run: &Run, mut blocks: Range<u32>) -> Result<(), StateError> {
    blocks.try_for_each(|block| run.bring_in(Cold { block })).map_err(StateError::Damaged)
}

/// Writes a piece. `Some`: it was the last.
fn write_on<F: Files>(writing: &mut Writing<F>, meta: &Meta) -> Result<Option<Written>, RunError> {
    let Writing { entries, writer, taken, .. } = writing;
    let Some(flush) = entries else { return writer.finish_step(meta) };
    let until = taken.load(Ordering::Relaxed) + FLUSH_STEP_BYTES as u64;
    for _ in 0..FLUSH_STEP_ENTRIES / FLUSH_ENTRIES {
        if flush.step(writer, FLUSH_ENTRIES)? {
            *entries = None;
            break;
        }
        if until <= taken.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(None)
}

/// Entries between two looks at how many bytes they made.
const FLUSH_ENTRIES: usize = 64;

/// A run with nothing below it is the whole tree.
fn check_digest(run: &Run) -> Result<(), Refused> {
    let Meta { digest, entries_digest, .. } = run.meta();
    if digest == entries_digest {
        return Ok(());
    }
    let what = run.path().display().to_string();
    Err(Refused::Final(StateError::Digest { what, expected: *digest, found: *entries_digest }))
}
