//! Log, runs and heads together on a disk that fails and crashes on request: what a power cut leaves of them at every step,
//! what damage of any file leads to, and a disk that is full.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::path::Path;

use zorilla_proto::client::AclVec;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::op::Op;
use zorilla_proto::txn::{Txn, TxnDigest, TxnHeader};
use zorilla_snapshot::{Fault, Run, RunId};
use zorilla_wal::disk::faulty::{self, FaultyDisk, FaultyFiles, Image, SECTOR_BYTES};
use zorilla_wal::disk::{Disk, Files};
use zorilla_wal::{StoreId, Wal};

use super::keeper::Keeper;
use super::policy::{Policy, Since};
use super::recover::{self, Opened, StartError, StateFiles};
use super::replay::Replay;
use super::work::{Progress, Replaced, Retired, Work};
use crate::clock::Now;
use crate::limits::RUNS_MAX;

const STORE: StoreId = StoreId(0x51);
const SEED: u64 = 7;
const SEGMENT_BYTES: u64 = 16 * 1024;

impl StateFiles for FaultyFiles {
    fn open_run(&self, run: RunId) -> Result<Run, Fault> {
        let (name, path) = (run.file_name(), self.path(&run.file_name()));
        let io = |error: std::io::Error| Fault::new(&path, 0, format!("cannot read it: {error}"));
        let bytes =
            self.list().map_err(io)?.into_iter().find(|entry| entry.name == name).map_or(0, |entry| entry.bytes);
        let file = self.open(&name).map_err(io)?;
        let mut content = vec![0; bytes as usize];
        self.read_at(&file, 0, &mut content).map_err(io)?;
        Run::from_bytes(&path, run, content)
    }
}

/// What a state is compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fact {
    digest: u64,
    znodes: usize,
    ephemerals: usize,
    sessions: Vec<(i64, u32)>,
}

fn fact(replay: &mut Replay) -> Fact {
    let sessions = replay.sessions();
    let tree = replay.tree();
    Fact { digest: tree.digest(), znodes: tree.len(), ephemerals: tree.ephemerals_count(), sessions }
}

/// Makes transactions that fit each other, the same for the same number.
struct Author {
    /// Everything made so far, in one overlay and nothing else.
    whole: Replay,
    /// After each transaction.
    facts: BTreeMap<Zxid, Fact>,
    draws: u64,
    changes: BTreeMap<String, i32>,
    znodes: Vec<String>,
    ephemerals: Vec<(SessionId, String)>,
    sessions: Vec<SessionId>,
}

impl Author {
    fn new() -> Author {
        let mut whole = Replay::new(SEED);
        let facts = BTreeMap::from([(Zxid::ZERO, fact(&mut whole))]);
        Author {
            whole,
            facts,
            draws: 11,
            changes: BTreeMap::new(),
            znodes: Vec::new(),
            ephemerals: Vec::new(),
            sessions: Vec::new(),
        }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.draws >> 33) as usize % below
    }

    /// The next transaction, as it stands in the log.
    fn next(&mut self) -> (Zxid, Vec<u8>) {
        let zxid = self.whole.applied().successor().expect("few transactions");
        let number = zxid.raw();
        let data = vec![number as u8; self.draw(60)];
        let mut session = SessionId::NONE;
        let txn = match self.draw(10) {
            0 => {
                session = SessionId::from_raw(1 << 56 | number as i64);
                self.sessions.push(session);
                Txn::CreateSession { timeout_ms: 4000 + number as i32 }
            }
            1 if !self.sessions.is_empty() => {
                let at = self.draw(self.sessions.len());
                session = self.sessions.swap_remove(at);
                self.ephemerals.retain(|(owner, _)| *owner != session);
                Txn::CloseSession { paths: None }
            }
            2 | 3 if !self.znodes.is_empty() => {
                let at = self.draw(self.znodes.len());
                // Its children, if there are any, were made later.
                let path = self.znodes[at].clone();
                let is_parent = |other: &String| other.starts_with(&format!("{path}/"));
                if self.znodes.iter().any(is_parent) {
                    Txn::SetData { path: path.into(), data: Some(&data), version: number as i32 }
                } else {
                    self.znodes.remove(at);
                    Txn::Delete { path: path.into() }
                }
            }
            4 | 5 if !self.znodes.is_empty() => {
                let path = self.znodes[self.draws as usize % self.znodes.len()].clone();
                Txn::SetData { path: path.into(), data: Some(&data), version: number as i32 }
            }
            6 if !self.sessions.is_empty() => {
                session = self.sessions[0];
                let path = format!("/e{number}");
                self.ephemerals.push((session, path.clone()));
                self.create(path, "", true, &data)
            }
            _ => {
                let parent = match self.znodes.len() {
                    0 => String::new(),
                    len => match self.draw(3) {
                        0 => self.znodes[self.draws as usize % len].clone(),
                        _ => String::new(),
                    },
                };
                let path = format!("{parent}/n{}", number % 701);
                if self.znodes.contains(&path) {
                    Txn::Error { code: -110 }
                } else {
                    self.znodes.push(path.clone());
                    self.create(path, &parent, false, &data)
                }
            }
        };
        let header = TxnHeader { session, cxid: 1, zxid, time_ms: 9 + number as i64, op: txn.op().raw() };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        txn.encode(&mut bytes);
        self.whole.apply(zxid, &bytes).expect("it fits");
        TxnDigest::new(self.whole.tree().digest()).encode(&mut bytes);
        self.facts.insert(zxid, fact(&mut self.whole));
        (zxid, bytes)
    }

    fn create<'a>(&mut self, path: String, parent: &str, ephemeral: bool, data: &'a [u8]) -> Txn<'a> {
        let changes = self.changes.entry(parent.to_owned()).or_default();
        *changes += 1;
        let (parent_cversion, acl) = (*changes, Some(AclVec::OPEN));
        Txn::Create { path: Cow::Owned(path), data: Some(data), acl, ephemeral, parent_cversion, kind: Op::Create }
    }
}

/// A server without clients: what the driver, the replica and the store thread do, in one thread.
struct Machine {
    wal: Wal<FaultyDisk>,
    log: FaultyFiles,
    replay: Replay,
    keeper: Keeper,
    work: Work<FaultyFiles>,
    since: Since,
    appended: VecDeque<(Zxid, Vec<u8>)>,
    /// After so many steps of the recording, this was acknowledged.
    acknowledged: Vec<(usize, Zxid)>,
    now_ns: u64,
    swaps: Vec<Replaced>,
    /// The most runs there were.
    runs: usize,
}

impl Machine {
    fn start(disk: FaultyDisk, state: &FaultyFiles, policy: Policy) -> Result<Machine, StartError> {
        let log = disk.files();
        let Opened { wal, mut replay, found, .. } = recover::open(disk, state, STORE, SEGMENT_BYTES, SEED)?;
        let seed = found.head.as_ref().map_or(SEED, |head| head.seed);
        let work = Work::new(state.clone(), &found, STORE, seed, 3);
        let keeper = Keeper::new(policy, &found, wal.state_head(), work.is_merging());
        let since = Since { txns: replay.txns(), ..Since::default() };
        let applied = replay.applied();
        assert!(!replay.tree().digest().eq(&0) || applied == Zxid::ZERO);
        let acknowledged = vec![(log.steps(), applied)];
        Ok(Machine {
            wal,
            log,
            replay,
            keeper,
            work,
            since,
            appended: VecDeque::new(),
            acknowledged,
            now_ns: 1_000_000,
            swaps: Vec::new(),
            runs: found.runs.len(),
        })
    }

    fn append(&mut self, (zxid, bytes): (Zxid, Vec<u8>)) {
        while self.wal.append(zxid, &bytes).is_err() {
            self.turn();
        }
        self.appended.push_back((zxid, bytes));
    }

    /// What the driver does in a turn.
    fn turn(&mut self) {
        self.now_ns += 100_000;
        if let Some(head) = self.keeper.untold()
            && let Ok(position) = self.wal.append_state_head(&head.file, head.zxid)
        {
            self.keeper.told(position);
        }
        for _ in 0..2 {
            if let Some(durable) = self.wal.poll(self.now_ns).expect("the log is written") {
                self.keeper.durable(durable.position);
                self.acknowledged.push((self.log.steps(), durable.up_to));
                while let Some((zxid, bytes)) = self.appended.pop_front_if(|(zxid, _)| *zxid <= durable.up_to) {
                    self.replay.apply(zxid, &bytes).expect("it fits");
                    self.since.txns += 1;
                    self.since.bytes += bytes.len() as u64;
                    self.since.last_ns = self.now_ns;
                }
            }
        }
        if let Some(prepare) = self.wal.wants_segment() {
            self.wal.segment_prepared(prepare.run()).expect("there is room");
        }
        if let Some((head, zxid)) = self.keeper.purge_due() {
            self.work.purge(head);
            if let Some(purge) = self.wal.purge_before(zxid) {
                self.wal.segments_purged(purge.run()).expect("segments can be purged");
            }
        }
        if self.keeper.wants_freeze(&self.since, self.now_ns) {
            self.keeper.froze();
            self.since = Since::default();
            self.work.take(self.replay.freeze(5));
        }
    }

    /// What the store thread does until the disk notices. `false`: there is nothing to do.
    fn store_step(&mut self) -> bool {
        let operations = self.log.operations();
        let mut progress = self.work.step().expect("the state can be kept");
        while matches!(progress, Progress::More | Progress::Warmed) && self.log.operations() == operations {
            progress = self.work.step().expect("the state can be kept");
        }
        match progress {
            Progress::Swap(swap) => {
                let tree = self.replay.tree();
                match &swap.replaced {
                    Replaced::Frozen => drop(Retired::Overlay(tree.replace_frozen(swap.run.clone()))),
                    Replaced::Runs(runs) => drop(Retired::Runs(tree.replace_runs(runs, swap.run.clone()))),
                }
                self.keeper.swapped(&swap);
                self.swaps.push(swap.replaced);
                self.runs = self.runs.max(swap.runs);
                true
            }
            Progress::More | Progress::Warmed => true,
            Progress::Later | Progress::Idle => false,
        }
    }

    /// Goes on until everything is durable and nothing is to be done.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.turn();
            let busy = self.store_step();
            if !busy && self.wal.idle() && self.appended.is_empty() && self.keeper.untold().is_none() {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn last(&self) -> Zxid {
        self.acknowledged.last().expect("there is one").1
    }
}

fn policy(txns: u64) -> Policy {
    Policy { txns, bytes: u64::MAX, quiet_ns: u64::MAX }
}

/// Writes `txns` transactions, with a snapshot every few, and merges and purges under way most of the time.
fn write(machine: &mut Machine, author: &mut Author, txns: usize) {
    for number in 0..txns {
        machine.append(author.next());
        if number % 3 != 0 {
            machine.turn();
        }
        if number % 2 == 0 {
            machine.store_step();
        }
    }
}

fn open(image: Image) -> (FaultyDisk, FaultyFiles) {
    let disk = FaultyDisk::new(image, false);
    let state = disk.files().folder("state");
    (disk, state)
}

/// A start on this image holds exactly a prefix of what was written, at least up to `acknowledged`.
fn check(image: Image, author: &Author, acknowledged: Zxid, context: &dyn Fn() -> String) -> Zxid {
    let (disk, state) = open(image);
    let opened = recover::open(disk, &state, STORE, SEGMENT_BYTES, 5);
    let Opened { mut replay, found, .. } = opened.unwrap_or_else(|error| panic!("{}: {error}", context()));
    let applied = replay.applied();
    assert!(acknowledged <= applied, "{}: {applied} of {acknowledged}", context());
    assert!(found.passed_over.is_empty(), "{}: {:?}", context(), found.passed_over);
    assert_eq!(fact(&mut replay), author.facts[&applied], "{} at {applied}", context());
    applied
}

#[test]
fn every_state_that_a_power_cut_can_leave_holds_what_was_acknowledged() {
    let disk = FaultyDisk::new(Image::default(), true);
    let files = disk.files();
    let mut author = Author::new();
    let mut machine = Machine::start(disk, &files.folder("state"), policy(6)).unwrap();
    write(&mut machine, &mut author, 300);
    let merges = machine.swaps.iter().filter(|swap| matches!(swap, Replaced::Runs(_))).count();
    let flushes = machine.swaps.len() - merges;
    assert!(5 < flushes && 2 < merges, "{flushes} flushes and {merges} merges");
    let recording = files.recording();
    let keys = RandomState::new();
    let mut seen = HashSet::new();
    let (mut states, mut acknowledged) = (0, Zxid::ZERO);
    for steps in 0..=recording.steps() {
        let known = machine.acknowledged.iter().rev().find(|(at, _)| *at <= steps);
        acknowledged = known.map_or(Zxid::ZERO, |(_, zxid)| *zxid).max(acknowledged);
        let crash = recording.crash(steps, SECTOR_BYTES);
        let pieces = crash.pieces();
        let subsets: Vec<u64> = if pieces <= 7 {
            (0..1 << pieces).collect()
        } else {
            let all = (1 << pieces.min(63)) - 1;
            let each = (0..pieces.min(63)).flat_map(|piece| [1 << piece, all & !(1 << piece)]);
            [0, all].into_iter().chain(each).collect()
        };
        for subset in subsets {
            let image = crash.image(|piece| subset & (1 << piece.min(63)) != 0);
            let mut hasher = keys.build_hasher();
            for file in image.files() {
                file.hash(&mut hasher);
            }
            if !seen.insert((hasher.finish(), acknowledged)) {
                continue;
            }
            states += 1;
            check(image, &author, acknowledged, &|| format!("step {steps}, pieces {subset:#b} of {pieces}"));
        }
    }
    assert!(1000 < states, "{states} states");
    println!("{states} states, {flushes} flushes, {merges} merges, {} steps", recording.steps());
}

#[test]
fn a_second_life_goes_on_where_the_first_was_cut() {
    let mut author = Author::new();
    let mut image = Image::default();
    for life in 0..6 {
        let (disk, state) = open(image);
        let files = disk.files();
        let mut machine = Machine::start(disk, &state, policy(9)).unwrap();
        assert_eq!(machine.last(), author.whole.applied(), "life {life}");
        write(&mut machine, &mut author, 40);
        // Everything is acknowledged, but the store thread is cut off where it is.
        while !machine.appended.is_empty() || !machine.wal.idle() {
            machine.turn();
        }
        assert!(machine.runs <= RUNS_MAX);
        image = files.image();
        check(image.clone(), &author, machine.last(), &|| format!("life {life}"));
    }
}

#[test]
fn segments_heads_and_runs_that_nothing_needs_are_purged() {
    let (disk, state) = open(Image::default());
    let log = disk.files();
    let mut author = Author::new();
    let mut machine = Machine::start(disk, &state, policy(10)).unwrap();
    write(&mut machine, &mut author, 1500);
    machine.settle();
    let names: Vec<String> = state.list().unwrap().into_iter().map(|entry| entry.name).collect();
    let of = |kind: &str| names.iter().filter(|name| name.starts_with(kind)).count();
    assert_eq!((of("head."), of("making.")), (1, 0), "{names:?}");
    assert!(of("run.") <= RUNS_MAX, "{names:?}");
    let segments = log.list().unwrap().iter().filter(|entry| entry.name.starts_with("segment.")).count();
    assert!(segments <= 6, "{segments} segments");
    check(log.image(), &author, machine.last(), &|| "purged".to_owned());
}

/// A store with several runs, all of it durable, and its author.
fn settled() -> (Image, Author, Zxid) {
    let (disk, state) = open(Image::default());
    let files = disk.files();
    let mut author = Author::new();
    let mut machine = Machine::start(disk, &state, policy(1500)).unwrap();
    write(&mut machine, &mut author, 1500);
    machine.settle();
    drop(machine);
    let mut machine = Machine::start(files.disk(), &state, policy(10)).unwrap();
    write(&mut machine, &mut author, 10);
    machine.settle();
    let last = machine.last();
    (files.image(), author, last)
}

#[test]
fn damage_of_any_file_of_the_state_is_told_with_its_name_and_never_served() {
    let (image, author, last) = settled();
    let names: Vec<String> =
        image.files().map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("state/")).collect();
    assert!(names.iter().any(|name| name.starts_with("state/head.")) && 1 < names.len(), "{names:?}");
    let refused = |image: Image, name: &str, what: &str| {
        let (disk, state) = open(image.clone());
        let error = match recover::open(disk, &state, STORE, SEGMENT_BYTES, 5) {
            Err(error) => error.to_string(),
            // What is read later is found where it is read.
            Ok(Opened { found, .. }) => match found.layers().iter().find_map(|run| run.verify().err()) {
                Some(fault) => fault.to_string(),
                None => panic!("{what} of {name} was not found"),
            },
        };
        let file = Path::new(name).file_name().unwrap().to_str().unwrap().to_owned();
        assert!(error.contains(&file), "{what} of {name}: {error}");
        assert!(error.contains("backup"), "{what} of {name} has no remedy: {error}");
    };
    for name in &names {
        let bytes = image.files().find(|(other, _)| other == name).unwrap().1.len();
        for at in (0..bytes).step_by((bytes / 97).max(1)) {
            let mut flipped = image.clone();
            flipped.content_mut(name).unwrap()[at] ^= 0x10;
            refused(flipped, name, &format!("a flipped bit at {at}"));
        }
        for length in [0, bytes / 2, bytes - 1] {
            let mut cut = image.clone();
            cut.content_mut(name).unwrap().truncate(length);
            refused(cut, name, &format!("a cut to {length} bytes"));
        }
        let mut missing = image.clone();
        assert!(missing.take_away(name));
        refused(missing, name, "the absence");
    }
    check(image, &author, last, &|| "undamaged".to_owned());
}

#[test]
fn runs_in_each_others_place_are_found() {
    let (image, _, _) = settled();
    let runs: Vec<String> =
        image.files().map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("state/run.")).collect();
    assert!(1 < runs.len(), "{runs:?}");
    let mut swapped = image.clone();
    let content = |name: &str| image.files().find(|(other, _)| *other == name).unwrap().1.to_vec();
    *swapped.content_mut(&runs[0]).unwrap() = content(&runs[1]);
    *swapped.content_mut(&runs[1]).unwrap() = content(&runs[0]);
    let (disk, state) = open(swapped);
    let error = recover::open(disk, &state, STORE, SEGMENT_BYTES, 5).err().expect("they are swapped").to_string();
    assert!(error.contains("run."), "{error}");
}

#[test]
fn a_state_without_its_log_is_refused() {
    let (image, author, last) = settled();
    let mut lost = image.clone();
    let log: Vec<String> =
        image.files().map(|(name, _)| name.to_owned()).filter(|name| !name.starts_with("state/")).collect();
    for name in &log {
        lost.take_away(name);
    }
    let (disk, state) = open(lost);
    let error = recover::open(disk, &state, STORE, SEGMENT_BYTES, 5).err().expect("the log is gone").to_string();
    assert!(error.contains("dataLogDir") && error.contains("head."), "{error}");
    // The log of another store.
    let (disk, _) = open(Image::default());
    let files = disk.files();
    drop(recover::open(disk, &files.folder("state"), StoreId(0x99), SEGMENT_BYTES, SEED).unwrap());
    let error = recover::open(files.disk(), &open(image.clone()).1, STORE, SEGMENT_BYTES, 5).err();
    let error = error.expect("it is another store's log").to_string();
    assert!(error.contains("belongs to store"), "{error}");
    check(image, &author, last, &|| "whole".to_owned());
}

#[test]
fn a_newer_head_that_is_damaged_is_passed_over_as_long_as_the_log_needs_it_not() {
    let (image, author, last) = settled();
    let head = image.files().map(|(name, _)| name).find(|name| name.starts_with("state/head.")).unwrap().to_owned();
    let (disk, state) = open(image);
    let number = u64::from_str_radix(head.rsplit_once('.').unwrap().1, 16).unwrap();
    let name = format!("head.{:016x}", number + 1);
    let file = state.create(&name).unwrap();
    state.write_at(&file, 0, b"never written by us").unwrap();
    let Opened { mut replay, found, .. } = recover::open(disk, &state, STORE, SEGMENT_BYTES, 5).unwrap();
    assert_eq!(fact(&mut replay), author.facts[&last]);
    assert!(found.passed_over.len() == 1 && found.passed_over[0].to_string().contains(&name));
    assert!(number < found.number_last, "its number is not used again");
}

#[test]
fn a_full_disk_gives_up_the_run_and_nothing_else() {
    // How many operations the state's disk sees in all.
    let run = |fail_at: Option<u64>| {
        let state = FaultyDisk::new(Image::default(), false).files();
        let disk = FaultyDisk::new(Image::default(), false);
        let log = disk.files();
        let mut author = Author::new();
        let mut machine = Machine::start(disk, &state, policy(8)).unwrap();
        if let Some(operation) = fail_at {
            state.fail_at(operation, faulty::Fault::Error(28));
        }
        let step = |machine: &mut Machine| match machine.work.step() {
            Ok(Progress::Swap(swap)) => {
                match &swap.replaced {
                    Replaced::Frozen => drop(machine.replay.tree().replace_frozen(swap.run.clone())),
                    Replaced::Runs(runs) => drop(machine.replay.tree().replace_runs(runs, swap.run.clone())),
                }
                machine.keeper.swapped(&swap);
                Ok(true)
            }
            Ok(Progress::More | Progress::Later | Progress::Warmed) => Ok(true),
            Ok(Progress::Idle) => Ok(false),
            Err(error) => Err(error),
        };
        let mut left = 70;
        loop {
            if 0 < left {
                machine.append(author.next());
                left -= 1;
            }
            machine.turn();
            match step(&mut machine) {
                Ok(false) if left == 0 && machine.appended.is_empty() => break,
                Ok(_) => {}
                Err(error) => {
                    // Only of a directory nobody knows what a failed sync left, and what cannot be read is damaged.
                    let told = error.to_string();
                    assert!(told.contains("Check the disk") || told.contains("cannot read"), "{fail_at:?}: {told}");
                    return (state.operations(), true);
                }
            }
        }
        state.fail_at(u64::MAX, faulty::Fault::Error(28));
        machine.settle();
        let making = state.list().unwrap().iter().filter(|entry| entry.name.starts_with("making.")).count();
        assert_eq!(making, 0, "{fail_at:?}");
        let opened = recover::open(log.disk(), &state, STORE, SEGMENT_BYTES, 5);
        let mut replay = opened.unwrap_or_else(|error| panic!("{fail_at:?}: {error}")).replay;
        assert_eq!(fact(&mut replay), author.facts[&machine.last()], "{fail_at:?}");
        (state.operations(), false)
    };
    let (operations, _) = run(None);
    let ended = (0..operations).filter(|operation| run(Some(*operation)).1).count();
    assert!(0 < ended && ended * 2 < operations as usize, "{ended} of {operations} ended it");
}

#[test]
fn what_the_next_life_needs_of_sessions_is_in_the_state() {
    let (image, mut author, last) = settled();
    let (disk, state) = open(image);
    let Opened { mut replay, .. } = recover::open(disk, &state, STORE, SEGMENT_BYTES, 5).unwrap();
    let tail = replay.take_tail();
    // A clock that was set back hands out no id twice, though the log has forgotten the sessions.
    let now = Now { mono_ns: 1, wall_ms: -1_000_000 };
    let (state, mut sessions) = replay.finish(1000, now);
    let highest = author.sessions_ever();
    assert!(highest < sessions.next_id(), "{highest}");
    assert_eq!(state.sessions, author.facts[&last].sessions.len());
    assert!(tail.txns < 10, "{} transactions were replayed", tail.txns);
}

impl Author {
    /// The highest session that ever was.
    fn sessions_ever(&mut self) -> SessionId {
        SessionId::from_raw(self.whole.session_last())
    }
}
