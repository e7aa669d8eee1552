//! The state that a Java server would have after a start on these directories.
//!
//! Guarantees: it reads and changes nothing; what comes out is what ZooKeeper 3.9 recovers from the same files, or a
//! refusal where that release refuses. Where the reference goes on in silence over something that a crash does not
//! leave, the report says so. Memory is bounded by [`IMPORT_CHUNK_BYTES_MAX`](crate::limits::IMPORT_CHUNK_BYTES_MAX)
//! besides the tree.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::DecodeErrorKind;
use zorilla_proto::txn::{Entry, Txn, TxnDigest};
use zorilla_snapshot::Meta;

use super::bottom::{self, Bottom, RunSpec, UNSET_RAW};
use super::files::{self, Compression, FOLDER, Kind, Named};
use super::progress::Progress;
use super::replay::{Fuzzy, Odd};
use super::snapshot::{self, Snapshot, Trailer};
use super::sort::Sorter;
use super::txnlog::{End, EndKind, Step, TxnLog};
use super::{Damage, Fault, ImportError, io_fault};
use crate::gate::Digests;
use crate::limits::{
    IMPORT_CHUNK_BYTES_MAX, IMPORT_SNAPSHOTS_MAX, IMPORT_UNSET_ACLS_MAX, IMPORT_WARNINGS_MAX, JUTE_MAXBUFFER_BYTES_MAX,
};
use crate::tree::quota::{self, Track};
use crate::tree::{NodeVersion, Tree, digest};

/// Between two looks at the progress, in records or znodes.
const PROGRESS_EVERY: u64 = 1024;

/// What an import goes by.
#[derive(Clone, Debug)]
pub struct Options {
    /// `snapshot.trust.empty`: logs without any snapshot are replayed from the beginning instead of refused.
    pub trust_empty: bool,
    /// The longest string, buffer or transaction that is no damage.
    pub length_max: usize,
    /// The secret of the tree's hashes.
    pub seed: u64,
    /// What is sorted in memory at once, in bytes; less only in tests.
    pub chunk_bytes: usize,
    /// The last transaction of Zorilla's own state, where there is one.
    pub native: Option<Zxid>,
    /// The run that gets what the snapshot holds. `None`: it is only looked at, and nothing of it stays.
    pub run: Option<RunSpec>,
}

impl Options {
    /// For a server with this `jute.maxbuffer`; the reference, too, reads twice as much from files.
    pub fn new(seed: u64, jute_maxbuffer: usize) -> Options {
        let length_max = 2 * jute_maxbuffer.min(JUTE_MAXBUFFER_BYTES_MAX);
        Options { trust_empty: false, length_max, seed, chunk_bytes: IMPORT_CHUNK_BYTES_MAX, native: None, run: None }
    }
}

/// The directories of a server, above their `version-2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirs {
    /// `dataDir`.
    pub data: PathBuf,
    /// `dataLogDir`; the same as `data` where it is not set.
    pub log: PathBuf,
}

impl Dirs {
    /// Where snapshots lie.
    pub fn snapshots(&self) -> PathBuf {
        self.data.join(FOLDER)
    }

    /// Where logs lie.
    pub fn logs(&self) -> PathBuf {
        self.log.join(FOLDER)
    }
}

/// What a member of an ensemble has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// The highest epoch it agreed to.
    pub accepted: u32,
    /// The epoch of the leader whose history it took over last.
    pub current: u32,
}

/// What the digests in the files say about what was recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There are none: they were switched off, or the server was older than 3.6.
    None,
    /// All agree with the tree.
    Right {
        /// The last transaction whose digest was compared, or the snapshot's.
        last: Zxid,
        /// How many were compared.
        compared: u64,
    },
    /// Some do not. The reference goes on, and so does the import: a hole in the history is one reason, a server that ran
    /// with another character set a harmless one.
    Wrong {
        /// The first of them.
        first: Zxid,
        /// What is recorded.
        recorded: u64,
        /// What the tree has.
        found: u64,
        /// How many do not agree.
        wrong: u64,
        /// How many were compared.
        compared: u64,
    },
    /// The logs end before the transaction at which the snapshot can be compared: it may hold parts of later ones.
    NotReached {
        /// The transaction that the snapshot names.
        at: Zxid,
    },
}

/// What was read, in numbers and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The snapshot that was used.
    pub snapshot: Option<PathBuf>,
    /// The logs that were read.
    pub logs: Vec<PathBuf>,
    /// Transactions that were replayed.
    pub txns: u64,
    /// Znodes of the recovered tree, the root counted once.
    pub znodes: u64,
    /// Ephemeral znodes among them.
    pub ephemerals: u64,
    /// Ephemeral znodes of sessions that are gone, which every start removes.
    pub removed: u64,
    /// The digest of the tree before these were removed.
    pub digest: u64,
    /// What the recorded digests say.
    pub verdict: Verdict,
    /// Bytes at the end of the last log that were never acknowledged.
    pub torn_bytes: u64,
    /// What should be known. Nothing of it stops the reference.
    pub warnings: Vec<String>,
    /// Warnings beyond these.
    pub warnings_more: u64,
}

/// A recovered state.
pub struct Recovered {
    /// The znodes.
    pub tree: Tree,
    /// The last transaction.
    pub applied: Zxid,
    /// The open sessions and their timeouts in ms, by id.
    pub sessions: Vec<(SessionId, u32)>,
    /// The highest session id in the files under the number of a server that is alone.
    pub session_last: i64,
    /// Digests at zxids that are whole multiples of 128.
    pub digests: Digests,
    /// Promises of a member of an ensemble.
    pub epochs: Option<Epochs>,
    /// What was read.
    pub report: Report,
}

/// The files that there are.
pub(super) struct Survey {
    /// Ascending.
    snapshots: Vec<Named>,
    /// Ascending.
    logs: Vec<Named>,
    epochs: Option<Epochs>,
}

/// Looks for what a Java server would take for its own. `None`: nothing.
pub(super) fn survey(dirs: &Dirs) -> Result<Option<Survey>, ImportError> {
    let list = |folder: &Path, kind| files::list(folder, kind).map_err(io_fault("list", folder));
    let (data, log) = (dirs.snapshots(), dirs.logs());
    if data != log {
        // The reference asks for the beginning of the names only.
        for (folder, kind, key) in [(&log, Kind::Snapshot, "dataLogDir"), (&data, Kind::Log, "dataDir")] {
            if let Some(file) = any_of(folder, kind).map_err(io_fault("list", folder))? {
                return Err(ImportError::Misplaced { folder: folder.clone(), file, key });
            }
        }
    }
    let (snapshots, logs) = (list(&data, Kind::Snapshot)?, list(&log, Kind::Log)?);
    let epochs = read_epochs(&data)?;
    if snapshots.is_empty() && logs.is_empty() && epochs.is_none() {
        return Ok(None);
    }
    Ok(Some(Survey { snapshots, logs, epochs }))
}

/// The name of a file in `folder` that begins as those of this kind do.
fn any_of(folder: &Path, kind: Kind) -> io::Result<Option<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(kind.prefix()).is_some_and(|rest| rest.starts_with('.')) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn read_epochs(folder: &Path) -> Result<Option<Epochs>, ImportError> {
    let read = |name: &str| -> Result<Option<u32>, ImportError> {
        let file = folder.join(name);
        let mut text = String::new();
        match File::open(&file).map(|file| file.take(64).read_to_string(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_fault("open", &file)(error).into()),
            Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => {
                return Err(io_fault("read", &file)(error).into());
            }
            Ok(_) => {}
        }
        let line = text.lines().next().unwrap_or_default();
        match line.trim().parse::<u32>() {
            Ok(epoch) => Ok(Some(epoch)),
            Err(_) => {
                let (expected, found) = ("an epoch as a decimal number".to_owned(), format!("{line:?}"));
                Err(Fault::Damaged(Damage { file, offset: 0, expected, found }).into())
            }
        }
    };
    match (read("acceptedEpoch")?, read("currentEpoch")?) {
        (None, None) => Ok(None),
        // The reference makes a missing one from the epoch of the last transaction, which is no higher than the other.
        (Some(accepted), current) => Ok(Some(Epochs { accepted, current: current.unwrap_or(0) })),
        (None, Some(current)) => Ok(Some(Epochs { accepted: current, current })),
    }
}

/// A file whose progress is told.
struct Counted {
    file: File,
    bytes: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(out)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

/// Opens a file and tells of it.
fn open(named: &Named, progress: &mut dyn Progress) -> Result<(Counted, Rc<Cell<u64>>), Fault> {
    let file = File::open(&named.path).map_err(io_fault("open", &named.path))?;
    let size = file.metadata().map_err(io_fault("look at", &named.path))?.len();
    progress.begin(&named.name(), size);
    let bytes = Rc::new(Cell::new(0));
    Ok((Counted { file, bytes: bytes.clone() }, bytes))
}

/// What a snapshot holds.
struct Loaded {
    tree: Fuzzy,
    sessions: Vec<(SessionId, i32)>,
    trailer: Trailer,
    /// Paths whose ACL the file names and does not hold.
    unset: Vec<String>,
}

/// Znodes' ACLs as numbers of our own, in the order of their first use.
struct AclNumbers {
    lists: HashMap<i64, usize>,
    numbers: HashMap<i64, u32>,
    /// Of each number: which list of the file, or one of the two that are in no file.
    used: Vec<Used>,
}

#[derive(Clone, Copy)]
enum Used {
    Open,
    Unset,
    List(usize),
}

impl AclNumbers {
    fn new(lists: &[snapshot::AclList]) -> AclNumbers {
        let lists = lists.iter().enumerate().map(|(at, list)| (list.id, at)).collect();
        AclNumbers { lists, numbers: HashMap::new(), used: Vec::new() }
    }

    /// The number of a list, and whether it is one that the file does not hold.
    fn of(&mut self, id: i64) -> (u32, bool) {
        let used = match self.lists.get(&id) {
            _ if id == snapshot::ACL_OPEN => Used::Open,
            Some(at) => Used::List(*at),
            None => Used::Unset,
        };
        let number = *self.numbers.entry(id).or_insert_with(|| {
            self.used.push(used);
            self.used.len() as u32 - 1
        });
        (number, matches!(used, Used::Unset))
    }

    fn raw<'a>(&self, number: u32, lists: &'a [snapshot::AclList]) -> (&'a [u8], u32) {
        match self.used[number as usize] {
            Used::Open => bottom::open(),
            Used::Unset => (UNSET_RAW, 1),
            Used::List(at) => (&lists[at].raw, lists[at].count),
        }
    }
}

/// Reads a whole snapshot and judges it.
fn load(named: &Named, folder: &Path, options: &Options, progress: &mut dyn Progress) -> Result<Loaded, Fault> {
    let (file, bytes) = open(named, progress)?;
    let compression = Compression::of(&named.name());
    let mut snapshot = Snapshot::open(&named.path, file, compression, options.length_max)?;
    let lists = snapshot.acls().to_vec();
    let mut acls = AclNumbers::new(&lists);
    let mut sorter = Sorter::new(named.path.clone(), folder.to_path_buf(), options.chunk_bytes);
    let (mut owners, mut unset) = (std::collections::HashSet::new(), Vec::new());
    let mut counts: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    loop {
        let offset = snapshot.offset();
        let Some(node) = snapshot.next()? else { break };
        let (acl, is_unset) = acls.of(node.acl);
        if is_unset {
            if IMPORT_UNSET_ACLS_MAX <= unset.len() {
                let (file, expected) = (named.path.clone(), "an ACL list that the file holds".to_owned());
                let found = format!("{} and {IMPORT_UNSET_ACLS_MAX} others that it does not", node.acl);
                return Err(Fault::Damaged(Damage { file, offset, expected, found }));
            }
            unset.push(node.path.to_owned());
        }
        owners.extend(owner(node.owner));
        if let Some(subject) = bottom::limited(node.path) {
            counts.insert(subject.to_owned(), (0, 0));
        }
        sorter.push(&node, acl, offset)?;
        if sorter.znodes().is_multiple_of(PROGRESS_EVERY) {
            progress.reached(bytes.get());
        }
    }
    let sessions = snapshot.sessions().to_vec();
    let trailer = snapshot.finish()?;
    let quotas: Vec<String> = counts.keys().cloned().collect();
    let stats = count_quotas(&mut sorter, counts)?;
    let mut bottom = Bottom::new(&named.path, options.seed, options.run.as_ref(), folder)?;
    let mut ordered = sorter.finish()?;
    while let Some(mut node) = ordered.next()? {
        if let Some(text) = stats.get(node.path) {
            node.data = Some(text.as_bytes());
            node.version = NodeVersion {
                data_bytes: text.len() as u32,
                data_is_null: false,
                prefix_crc: digest::prefix_crc(node.path, node.data),
                ..node.version
            };
        }
        bottom.push(&node, acls.raw(node.acl, &lists))?;
    }
    let timeouts = sessions.iter().map(|(id, timeout_ms)| (*id, (*timeout_ms).max(0) as u32)).collect();
    let about = Meta { zxid: named.zxid, sessions: timeouts, quotas, ..Meta::default() };
    let mut tree = Fuzzy::new(bottom.finish(about)?);
    tree.owners = owners;
    Ok(Loaded { tree, sessions, trailer, unset })
}

/// The session that an owner field names.
fn owner(owner: i64) -> Option<SessionId> {
    let zero = Zxid::ZERO;
    let version = NodeVersion {
        czxid: zero,
        mzxid: zero,
        pzxid: zero,
        ctime_ms: 0,
        mtime_ms: 0,
        version: 0,
        children_created: 0,
        aversion: 0,
        owner,
        data_bytes: 0,
        data_is_null: true,
        children: 0,
        prefix_crc: 0,
    };
    version.ephemeral_session()
}

/// What quotas count is not kept in step with a snapshot: every start counts anew. Path and text of the znodes that show
/// it.
fn count_quotas(
    sorter: &mut Sorter,
    mut counts: BTreeMap<String, (i64, i64)>,
) -> Result<BTreeMap<String, String>, Fault> {
    if !counts.is_empty() {
        sorter.scan(|path, bytes| {
            for end in path.match_indices('/').skip(1).map(|(at, _)| at).chain([path.len()]) {
                if let Some((count, sum)) = counts.get_mut(&path[..end]) {
                    *count += 1;
                    *sum += bytes as i64;
                }
            }
        })?;
    }
    let text = |(subject, (count, bytes))| {
        (format!("{}{subject}/{}", quota::ROOT, quota::STATS), Track::new(count, bytes).text())
    };
    Ok(counts.into_iter().map(text).collect())
}

/// A recovery under way.
struct Recovery {
    fuzzy: Fuzzy,
    /// What the snapshot holds for certain: earlier transactions are passed over.
    begun: Zxid,
    applied: Zxid,
    /// The last transaction that was replayed, for the search for gaps.
    last: Option<Zxid>,
    sessions: HashMap<SessionId, u32>,
    session_last: i64,
    digests: Digests,
    /// The digest in the snapshot, until its transaction is reached.
    ahead: Option<snapshot::Recorded>,
    /// Paths whose ACL the snapshot named and did not hold.
    unset: Vec<String>,
    report: Report,
}

/// Recovers from what a survey found. Temporary files are made in `folder`, and nothing is left of them.
pub(super) fn recover(
    survey: &Survey,
    dirs: &Dirs,
    folder: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Recovered, ImportError> {
    let mut recovery = begin(survey, dirs, folder, options, progress)?;
    let (logs, last) = chosen_logs(survey, recovery.begun)?;
    for named in logs {
        recovery.replay(named, last == Some(named), options, progress)?;
    }
    progress.end();
    recovery.finish(survey.epochs, &dirs.snapshots())
}

fn begin(
    survey: &Survey,
    dirs: &Dirs,
    folder: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Recovery, ImportError> {
    let mut faults: Vec<String> = Vec::new();
    let mut tried = 0;
    for named in survey.snapshots.iter().rev() {
        if tried == IMPORT_SNAPSHOTS_MAX {
            break;
        }
        match files::looks_whole(&named.path) {
            Ok(true) => tried += 1,
            Ok(false) => {
                faults.push(format!("{}: it was never finished", named.path.display()));
                continue;
            }
            Err(error) => return Err(io_fault("read", &named.path)(error).into()),
        }
        match load(named, folder, options, progress) {
            Ok(loaded) => return Ok(Recovery::from_snapshot(named, loaded, faults)),
            Err(Fault::Damaged(damage)) => faults.push(damage.to_string()),
            // A disk that does not answer is no reason to take an older state.
            Err(fault @ Fault::Io { .. }) => return Err(fault.into()),
        }
    }
    if 0 < tried {
        return Err(ImportError::NoValidSnapshot { folder: dirs.snapshots(), faults });
    }
    match survey.logs.first() {
        Some(log) if !options.trust_empty => {
            Err(ImportError::NoSnapshot { folder: dirs.snapshots(), log: log.path.clone() })
        }
        _ => Ok(Recovery::new(Fuzzy::new(Tree::new(options.seed)), Zxid::ZERO, faults)),
    }
}

/// Those that may hold transactions after `begun`, and the newest of all.
fn chosen_logs(survey: &Survey, begun: Zxid) -> Result<(Vec<&Named>, Option<&Named>), ImportError> {
    let mut logs: Vec<&Named> = survey.logs.iter().collect();
    // The newest, if it is empty: its server crashed right after it had made it.
    if let Some(newest) = logs.last()
        && size(newest)? == 0
    {
        logs.pop();
    }
    let below = logs.iter().filter(|log| log.zxid <= begun).count();
    let logs = logs.split_off(below.saturating_sub(1));
    for log in &logs {
        let bytes = size(log)?;
        if bytes < super::txnlog::HEADER_BYTES {
            return Err(ImportError::ShortLog { file: log.path.clone(), bytes });
        }
    }
    let last = logs.last().copied();
    Ok((logs, last))
}

fn size(named: &Named) -> Result<u64, Fault> {
    Ok(std::fs::metadata(&named.path).map_err(io_fault("look at", &named.path))?.len())
}

impl Recovery {
    fn new(fuzzy: Fuzzy, begun: Zxid, faults: Vec<String>) -> Recovery {
        let report = Report {
            snapshot: None,
            logs: Vec::new(),
            txns: 0,
            znodes: 0,
            ephemerals: 0,
            removed: 0,
            digest: 0,
            verdict: Verdict::None,
            torn_bytes: 0,
            warnings: Vec::new(),
            warnings_more: 0,
        };
        let mut recovery = Recovery {
            fuzzy,
            begun,
            applied: begun,
            last: None,
            sessions: HashMap::new(),
            session_last: 0,
            digests: Digests::default(),
            ahead: None,
            unset: Vec::new(),
            report,
        };
        for fault in faults {
            recovery.warn(format!("passed over a snapshot: {fault}"));
        }
        recovery
    }

    fn from_snapshot(named: &Named, loaded: Loaded, faults: Vec<String>) -> Recovery {
        let Loaded { tree, sessions, trailer, unset } = loaded;
        let mut recovery = Recovery::new(tree, named.zxid, faults);
        recovery.report.snapshot = Some(named.path.clone());
        for (id, timeout_ms) in sessions {
            recovery.open_session(id, timeout_ms);
        }
        recovery.unset = unset;
        // A digest of no transaction, or of one before the name, says nothing.
        if let Some(recorded) = trailer.digest
            && recorded.version == TxnDigest::VERSION
            && recorded.zxid != Zxid::ZERO
            && named.zxid <= recorded.zxid
        {
            if recorded.zxid == named.zxid {
                recovery.compare(recorded.zxid, recorded.tree);
            } else {
                recovery.ahead = Some(recorded);
            }
        }
        recovery
    }

    fn warn(&mut self, warning: String) {
        if self.report.warnings.len() < IMPORT_WARNINGS_MAX {
            self.report.warnings.push(warning);
        } else {
            self.report.warnings_more += 1;
        }
    }

    fn open_session(&mut self, id: SessionId, timeout_ms: i32) {
        self.sessions.insert(id, timeout_ms.max(0) as u32);
        if id.raw() >> 56 == crate::store::SERVER_ID {
            self.session_last = self.session_last.max(id.raw());
        }
    }

    fn compare(&mut self, zxid: Zxid, recorded: u64) {
        let tree = self.fuzzy.tree.digest();
        let (last_right, counted) = match self.report.verdict {
            Verdict::Right { compared, .. } => (true, compared),
            Verdict::Wrong { compared, .. } => (false, compared),
            Verdict::None | Verdict::NotReached { .. } => (true, 0),
        };
        let compared = counted + 1;
        self.report.verdict = match self.report.verdict {
            Verdict::Wrong { first, recorded: known, found, wrong, .. } => {
                let wrong = wrong + u64::from(tree != recorded);
                Verdict::Wrong { first, recorded: known, found, wrong, compared }
            }
            _ if last_right && tree == recorded => Verdict::Right { last: zxid, compared },
            _ => Verdict::Wrong { first: zxid, recorded, found: tree, wrong: 1, compared },
        };
    }

    /// Replays one log.
    fn replay(
        &mut self,
        named: &Named,
        is_last: bool,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<(), ImportError> {
        let (file, bytes) = open(named, progress)?;
        let mut log = TxnLog::open(&named.path, file, options.length_max)?;
        self.report.logs.push(named.path.clone());
        let mut records = 0u64;
        let end = loop {
            let record = match log.next()? {
                Step::Record(record) => record,
                Step::End(end) => break end,
            };
            if !record.is_intact() {
                let expected = format!("the checksum {:#x} of the {} bytes", record.computed, record.entry.len());
                let found = format!("{:#x}", record.stored);
                let (file, offset) = (named.path.clone(), record.offset);
                return Err(ImportError::DamagedLog {
                    damage: Damage { file, offset, expected, found },
                    last: self.applied,
                });
            }
            let offset = record.offset;
            match Entry::decode(record.entry) {
                Ok(entry) => self.entry(&entry, named, offset)?,
                // The reference takes an entry that is shorter than its type needs for the end of the file.
                Err(error) if error.ran_out_of_bytes() => {
                    self.warn(format!(
                        "{}: byte {offset}: a transaction that is shorter than its type needs ({error}); the file is read \
                         no further",
                        named.path.display()
                    ));
                    break End { offset, how: EndKind::File };
                }
                Err(error) => {
                    let expected = match error.kind {
                        DecodeErrorKind::UnknownType(_) => "a type of transaction that 3.4 to 3.9 write",
                        _ => "a transaction",
                    };
                    let (file, expected, found) = (named.path.clone(), expected.to_owned(), error.to_string());
                    return Err(ImportError::DamagedLog {
                        damage: Damage { file, offset, expected, found },
                        last: self.applied,
                    });
                }
            }
            records += 1;
            if records.is_multiple_of(PROGRESS_EVERY) {
                progress.reached(bytes.get());
            }
        };
        let (_, behind) = log.rest()?;
        self.ended(named, end, behind, is_last);
        Ok(())
    }

    /// Says what is strange about the end of a log.
    fn ended(&mut self, named: &Named, end: End, behind: Option<u64>, is_last: bool) {
        let file = named.path.display();
        if let Some(behind) = behind {
            self.warn(format!(
                "{file}: it ends at byte {} with {}, but byte {behind} is not zero. A crash does not leave this: \
                 transactions after {} may be lost.",
                end.offset, end.how, self.applied
            ));
        } else if !matches!(end.how, EndKind::File | EndKind::Padding) {
            if is_last {
                self.report.torn_bytes = size(named).map_or(0, |bytes| bytes - end.offset);
            } else {
                self.warn(format!("{file}: it ends at byte {} with {}, and is not the last log", end.offset, end.how));
            }
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, named: &Named, offset: u64) -> Result<(), ImportError> {
        let Entry { header, txn, digest } = entry;
        let zxid = header.zxid;
        if zxid <= self.begun {
            return Ok(());
        }
        match self.last {
            // Later ones of a higher epoch may begin anywhere.
            Some(last) if last < zxid && last.successor() != Some(zxid) && last.epoch() == zxid.epoch() => {
                return Err(ImportError::Gap { file: named.path.clone(), offset, last, found: zxid });
            }
            Some(last) if zxid < last => self.warn(format!(
                "{}: byte {offset}: transaction {zxid} follows {last}; it is applied all the same",
                named.path.display()
            )),
            Some(_) => {}
            None if self.begun.successor() != Some(zxid) && self.begun.epoch() == zxid.epoch() => self.warn(format!(
                "{}: the first transaction after {}, up to which the snapshot goes, is {zxid}: those between are in no \
                 log",
                named.path.display(),
                self.begun
            )),
            None => {}
        }
        self.last = self.last.max(Some(zxid));
        if let Err(odd) = self.fuzzy.apply(header, txn) {
            let what = match odd {
                Odd::Part => "a part of a multi cannot be read, and the rest of it is left out",
                Odd::Path => "a create of a path that no znode can have is left out",
                Odd::Ttl => "a create with a time to live that no znode can have is left out",
            };
            self.warn(format!("{}: byte {offset}: transaction {zxid}: {what}", named.path.display()));
        }
        match txn {
            Txn::CreateSession { timeout_ms } => self.open_session(header.session, *timeout_ms),
            Txn::CloseSession { .. } => drop(self.sessions.remove(&header.session)),
            _ => {}
        }
        self.applied = self.applied.max(zxid);
        self.report.txns += 1;
        match (self.ahead, digest) {
            (Some(recorded), _) if recorded.zxid == zxid => {
                self.ahead = None;
                self.compare(zxid, recorded.tree);
                self.digests.note(zxid, self.fuzzy.tree.digest());
            }
            // Until then the tree holds parts of what comes.
            (Some(_), _) => {}
            (None, digest) => {
                if let Some(digest) = digest
                    && digest.version == TxnDigest::VERSION
                {
                    self.compare(zxid, digest.tree);
                }
                self.digests.note(zxid, self.fuzzy.tree.digest());
            }
        }
        Ok(())
    }

    fn finish(mut self, epochs: Option<Epochs>, folder: &Path) -> Result<Recovered, ImportError> {
        if let Some(epochs) = epochs {
            check_epochs(epochs, self.applied, folder)?;
        }
        if let Some(recorded) = self.ahead {
            self.report.verdict = Verdict::NotReached { at: recorded.zxid };
        }
        let unset = std::mem::take(&mut self.unset);
        let unset =
            unset.iter().filter(|path| self.fuzzy.tree.find(path).is_some_and(|node| node.acl().raw == UNSET_RAW));
        let unset: Vec<&str> = unset.map(String::as_str).collect();
        if let Some(first) = unset.first() {
            let warning = format!(
                "{} znodes, {first} among them, have an ACL that is neither in the snapshot nor in the logs: only the \
                 super user may use them until it is set",
                unset.len()
            );
            self.warn(warning);
        }
        self.report.digest = self.fuzzy.tree.digest();
        let mut gone: Vec<SessionId> =
            self.fuzzy.owners.iter().copied().filter(|owner| !self.sessions.contains_key(owner)).collect();
        gone.sort_unstable();
        for session in gone {
            self.report.removed += self.fuzzy.delete_ephemerals(session, self.applied) as u64;
        }
        let mut sessions: Vec<(SessionId, u32)> = self.sessions.into_iter().collect();
        sessions.sort_unstable();
        let tree = self.fuzzy.tree;
        self.report.znodes = tree.len() as u64;
        self.report.ephemerals = tree.ephemerals_count() as u64;
        Ok(Recovered {
            tree,
            applied: self.applied,
            sessions,
            session_last: self.session_last,
            digests: self.digests,
            epochs,
            report: self.report,
        })
    }
}

/// A member may not start with promises that its history contradicts.
fn check_epochs(epochs: Epochs, applied: Zxid, folder: &Path) -> Result<(), ImportError> {
    let Epochs { accepted, current } = epochs;
    if accepted < current || current < applied.epoch() {
        return Err(ImportError::Epochs { folder: folder.to_path_buf(), epochs, applied });
    }
    Ok(())
}
