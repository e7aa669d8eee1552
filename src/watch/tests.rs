use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, RwLock};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const DATA: WatchKind = WatchKind::Data;
const CHILD: WatchKind = WatchKind::Child;
const KINDS: [WatchKind; 2] = [DATA, CHILD];
const PATHS: [&str; 9] = ["/", "/a", "/a/b", "/a/b/c", "/a/b2", "/ab", "/ab/c", "", "no/path"];

fn zxid(raw: u64) -> Zxid {
    Zxid::from_raw(raw)
}

/// A table and its interest, used as a worker uses them.
struct Worker {
    table: WatchTable,
    interest: Interest,
}

impl Worker {
    fn new(seed: u64) -> Worker {
        Worker { table: WatchTable::new(seed), interest: Interest::new(seed ^ 1) }
    }

    fn add(&mut self, kind: WatchKind, path: &str, conn: u32, at: u64) -> bool {
        self.interest.raise(kind, path);
        let new = self.table.add(kind, path, ConnId(conn), zxid(at));
        if !new {
            self.interest.lower(kind, path);
        }
        new
    }

    fn fire(&mut self, change: Change, path: &str, at: u64) -> (Vec<Fired>, Consumed) {
        let mut fired = Vec::new();
        let consumed = self.table.fire(change, path, zxid(at), &mut fired);
        self.interest.lower_consumed(path, consumed);
        (fired, consumed)
    }

    fn forget(&mut self, conn: u32) -> BTreeSet<(WatchKind, String)> {
        let mut removed = BTreeSet::new();
        self.table.forget(ConnId(conn), &mut |kind, path| {
            self.interest.lower(kind, path);
            assert!(removed.insert((kind, path.to_owned())), "{kind:?} of {path} was named twice");
        });
        removed
    }

    /// What a script shows: events as "conn: kind path", in order.
    fn events(&mut self, change: Change, path: &str, at: u64) -> Vec<String> {
        let (fired, _) = self.fire(change, path, at);
        fired.iter().map(|fired| format!("{}: {:?} {}", fired.conn.0, fired.event, fired.path(path))).collect()
    }
}

impl WatchTable {
    /// Walks every list and holds it against counts and indexes.
    fn check(&self) {
        let mut seen = BTreeSet::new();
        let mut counts = [0; 2];
        let (mut paths, mut path_bytes) = (0, 0);
        for (id, slot) in self.paths.iter() {
            paths += 1;
            path_bytes += slot.path.len();
            assert_ne!(slot.first, [NONE; 2], "{} is kept without a watch", slot.path);
            assert_eq!(self.find_path(hash_of_path(&self.hasher, &slot.path), &slot.path), Some(id));
            for kind in KINDS {
                let (mut prev, mut next) = (NONE, slot.first[kind as usize]);
                while next != NONE {
                    let entry = &self.entries[next];
                    assert_eq!((entry.path, entry.kind, entry.path_prev), (id, kind, prev));
                    assert!(seen.insert(next), "entry {next} is in two lists");
                    assert!(self.contains(kind, &slot.path, self.conns[entry.conn].conn));
                    counts[kind as usize] += 1;
                    (prev, next) = (next, entry.path_next);
                }
            }
        }
        let mut conns = 0;
        for (id, slot) in self.conns.iter() {
            conns += 1;
            assert_eq!(self.find_conn(slot.conn), Some(id));
            let (mut prev, mut next) = (NONE, slot.first);
            assert_ne!(next, NONE, "connection {} is kept without a watch", slot.conn.0);
            while next != NONE {
                let entry = &self.entries[next];
                assert_eq!((entry.conn, entry.conn_prev), (id, prev));
                assert!(seen.remove(&next), "entry {next} belongs to no path, or to two connections");
                (prev, next) = (next, entry.conn_next);
            }
        }
        assert!(seen.is_empty(), "entries {seen:?} belong to no connection");
        assert_eq!(counts, self.counts);
        assert_eq!((paths, conns, path_bytes), (self.paths(), self.connections(), self.path_bytes()));
        assert_eq!(counts[0] + counts[1], self.len());
        assert_eq!(self.entry_index.len(), self.len());
        assert_eq!((self.path_index.len(), self.conn_index.len()), (paths, conns));
    }
}

impl<T> Pool<T> {
    fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().flatten().enumerate().filter_map(|(id, place)| match place {
            Place::Used(value) => Some((id as u32, value)),
            Place::Free { .. } => None,
        })
    }
}

impl Interest {
    fn is_silent(&self) -> bool {
        self.total() == 0 && self.counters.iter().all(|counter| counter.load(Ordering::Relaxed) == 0)
    }
}

#[test]
fn each_change_fires_its_kinds_of_watches_and_no_others() {
    use Change::{Created, DataChanged, Deleted};
    // Watches on /a/b and on its parent by connections of their own, then one change: who hears what.
    let cases: [(Change, &[&str]); 3] = [
        (Created, &["1: NodeCreated /a/b", "4: NodeChildrenChanged /a"]),
        (Deleted, &["1: NodeDeleted /a/b", "2: NodeDeleted /a/b", "4: NodeChildrenChanged /a"]),
        (DataChanged, &["1: NodeDataChanged /a/b"]),
    ];
    for (change, expected) in cases {
        let mut worker = Worker::new(7);
        worker.add(DATA, "/a/b", 1, 5);
        worker.add(CHILD, "/a/b", 2, 5);
        worker.add(DATA, "/a", 3, 5);
        worker.add(CHILD, "/a", 4, 5);
        worker.add(DATA, "/a/b/c", 5, 5);
        worker.add(CHILD, "/", 6, 5);
        assert_eq!(worker.events(change, "/a/b", 6), expected, "{change:?}");
        assert_eq!(worker.events(change, "/a/b", 7), [""; 0], "{change:?} again");
        assert_eq!(worker.table.len(), 6 - expected.len(), "{change:?}");
    }
}

#[test]
fn deletion_fires_data_then_children_not_told_yet_then_the_parent() {
    let mut worker = Worker::new(7);
    for conn in [1, 2] {
        worker.add(CHILD, "/", conn, 5);
        worker.add(CHILD, "/a", conn, 5);
    }
    worker.add(DATA, "/a", 1, 5);
    let (fired, consumed) = worker.fire(Change::Deleted, "/a", 6);
    let events: Vec<_> = fired.iter().map(|fired| (fired.conn.0, fired.event)).collect();
    assert_eq!(events[..2], [(1, EventType::NodeDeleted), (2, EventType::NodeDeleted)]);
    let parents: BTreeSet<_> = events[2..].iter().copied().collect();
    assert_eq!(parents, [1, 2].map(|conn| (conn, EventType::NodeChildrenChanged)).into());
    // The child watch of connection 1 gave no event and is used up all the same.
    assert_eq!(consumed, Consumed { data: 1, child: 2, parent_child: 2 });
    assert!(worker.table.is_empty());
    assert!(worker.interest.is_silent());
}

#[test]
fn the_parent_of_a_top_level_znode_is_the_root_and_the_root_has_none() {
    for (path, expected) in
        [("/a", Some("/")), ("/a/b", Some("/a")), ("/a/b/c", Some("/a/b")), ("/", None), ("", None), ("no", None)]
    {
        assert_eq!(parent(path), expected, "{path:?}");
    }
    let mut worker = Worker::new(7);
    worker.add(CHILD, "/", 1, 1);
    assert_eq!(worker.events(Change::Created, "/top", 2), ["1: NodeChildrenChanged /"]);
}

#[test]
fn registering_again_is_one_watch_and_counts_from_the_newer_state() {
    let mut worker = Worker::new(7);
    assert!(worker.add(DATA, "/a", 1, 5));
    assert!(!worker.add(DATA, "/a", 1, 9));
    assert!(!worker.add(DATA, "/a", 1, 7));
    assert!(worker.add(CHILD, "/a", 1, 5));
    assert_eq!(worker.table.len(), 2);
    assert_eq!(worker.interest.total(), 2);
    assert_eq!(worker.events(Change::DataChanged, "/a", 10), ["1: NodeDataChanged /a"]);
}

#[test]
#[should_panic(expected = "the change 0x9 of /a fired a watch that was registered at 0x9")]
fn a_change_that_the_registering_read_has_seen_stops_the_server() {
    let mut worker = Worker::new(7);
    worker.add(DATA, "/a", 1, 5);
    worker.add(DATA, "/a", 1, 9);
    worker.add(DATA, "/a", 1, 7);
    let _ = worker.fire(Change::DataChanged, "/a", 9);
}

#[test]
#[should_panic(expected = "interest in /a was lowered by 2 from 1")]
fn interest_that_was_never_raised_cannot_be_lowered() {
    let interest = Interest::new(7);
    interest.raise(DATA, "/a");
    interest.lower_consumed("/a", Consumed { data: 2, child: 0, parent_child: 0 });
}

#[test]
fn watches_set_again_after_firing_take_the_memory_of_the_old_ones() {
    let mut worker = Worker::new(7);
    let paths: Vec<String> = (0..3000).map(|number| format!("/services/number-{number}/leader")).collect();
    let places = |table: &WatchTable| -> (usize, usize, usize, BTreeSet<usize>) {
        let texts = table.paths.iter().map(|(_, slot)| slot.path.as_ptr() as usize).collect();
        (table.entries.chunks.len(), table.paths.chunks.len(), table.conns.chunks.len(), texts)
    };
    let mut first = None;
    for round in 0..5 {
        for (number, path) in paths.iter().enumerate() {
            assert!(worker.add(DATA, path, number as u32 % 10, 2 * round));
        }
        let now = places(&worker.table);
        assert_eq!(now.3.len(), paths.len());
        assert!(first.get_or_insert_with(|| now.clone()) == &now, "round {round} took new memory");
        for path in &paths {
            assert_eq!(worker.fire(Change::DataChanged, path, 2 * round + 1).0.len(), 1);
        }
        assert!(worker.table.is_empty());
    }
}

#[test]
fn memory_of_a_crowd_is_returned_when_all_have_left() {
    let mut worker = Worker::new(7);
    let crowd = (POOL_CHUNKS_KEPT * POOL_CHUNK_ENTRIES + 1) as u32;
    for round in 0..2 {
        for number in 0..crowd {
            worker.add(CHILD, &format!("/{number}"), number % 3, round);
        }
        assert_eq!(worker.table.entries.chunks.len(), POOL_CHUNKS_KEPT + 1);
        worker.table.check();
        for conn in 0..3 {
            worker.forget(conn);
        }
        assert_eq!(worker.table.entries.chunks.len(), POOL_CHUNKS_KEPT);
        assert_eq!(worker.table.paths.chunks.len(), POOL_CHUNKS_KEPT);
        assert_eq!(worker.table.spare_paths[0].len(), SPARE_PATHS_MAX);
        worker.table.check();
        assert!(worker.table.is_empty() && worker.interest.is_silent());
    }
}

#[test]
fn giant_paths_are_not_kept_for_reuse() {
    let mut worker = Worker::new(7);
    let giant = format!("/{}", "x".repeat(SPARE_PATH_BYTES_MAX));
    worker.add(DATA, &giant, 1, 1);
    worker.add(DATA, "/small", 1, 1);
    assert_eq!(worker.table.path_bytes(), giant.len() + "/small".len());
    worker.forget(1);
    assert_eq!(worker.table.spare_paths.iter().map(Vec::len).sum::<usize>(), 1);
    assert_eq!(worker.table.path_bytes(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Add(WatchKind, &'static str, u32),
    Fire(Change, &'static str),
    Forget(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = || prop::sample::select(PATHS.to_vec());
    let kind = prop::sample::select(KINDS.to_vec());
    let change = prop::sample::select(vec![Change::Created, Change::Deleted, Change::DataChanged]);
    let step = prop_oneof![
        6 => (kind, path(), 0..6_u32).prop_map(|(kind, path, conn)| Step::Add(kind, path, conn)),
        4 => (change, path()).prop_map(|(change, path)| Step::Fire(change, path)),
        1 => (0..6_u32).prop_map(Step::Forget),
    ];
    vec(step, 0..120)
}

type Model = BTreeSet<(WatchKind, &'static str, u32)>;

/// The table of triggers once more, as plainly as it can be said. Order within a trigger is left open.
fn model_fire(model: &mut Model, change: Change, path: &'static str) -> Vec<BTreeSet<(u32, EventType, bool)>> {
    let mut watchers = |kind, path: &str| -> BTreeSet<u32> {
        let matching: Vec<_> = model.iter().filter(|watch| watch.0 == kind && watch.1 == path).copied().collect();
        matching.iter().for_each(|watch| assert!(model.remove(watch)));
        matching.iter().map(|watch| watch.2).collect()
    };
    let to = |conns: BTreeSet<u32>, event, on_parent| -> BTreeSet<(u32, EventType, bool)> {
        conns.into_iter().map(|conn| (conn, event, on_parent)).collect()
    };
    let up = match path {
        "/a" | "/ab" => Some("/"),
        "/a/b" | "/a/b2" => Some("/a"),
        "/a/b/c" => Some("/a/b"),
        "/ab/c" => Some("/ab"),
        "no/path" => Some("no"),
        _ => None,
    };
    let mut triggers = Vec::new();
    match change {
        Change::Created => triggers.push(to(watchers(DATA, path), EventType::NodeCreated, false)),
        Change::DataChanged => triggers.push(to(watchers(DATA, path), EventType::NodeDataChanged, false)),
        Change::Deleted => {
            let told = watchers(DATA, path);
            let others = watchers(CHILD, path).difference(&told).copied().collect();
            triggers.push(to(told, EventType::NodeDeleted, false));
            triggers.push(to(others, EventType::NodeDeleted, false));
        }
    }
    if let (Change::Created | Change::Deleted, Some(up)) = (change, up) {
        triggers.push(to(watchers(CHILD, up), EventType::NodeChildrenChanged, true));
    }
    triggers
}

proptest! {
    #[test]
    fn table_and_interest_agree_with_a_set_of_watches(seed: u64, steps in steps()) {
        let mut worker = Worker::new(seed);
        let mut model = Model::new();
        for (number, step) in steps.into_iter().enumerate() {
            let now = number as u64 + 1;
            match step {
                Step::Add(kind, path, conn) => {
                    prop_assert_eq!(worker.add(kind, path, conn, now), model.insert((kind, path, conn)));
                }
                Step::Fire(change, path) => {
                    let may_watch = worker.interest.may_watch(change, path);
                    let before = model.len();
                    let triggers = model_fire(&mut model, change, path);
                    let (fired, consumed) = worker.fire(change, path, now);
                    let consumed = consumed.data + consumed.child + consumed.parent_child;
                    prop_assert_eq!(consumed as usize, before - model.len());
                    prop_assert!(may_watch || consumed == 0, "the filter hid {change:?} of {path}");
                    let mut rest = fired.as_slice();
                    for expected in triggers {
                        prop_assert!(expected.len() <= rest.len(), "{fired:?} misses some of {expected:?}");
                        let (these, others) = rest.split_at(expected.len());
                        let these: BTreeSet<_> =
                            these.iter().map(|fired| (fired.conn.0, fired.event, fired.on_parent)).collect();
                        prop_assert_eq!(these, expected);
                        rest = others;
                    }
                    prop_assert!(rest.is_empty(), "nobody should have heard {rest:?}");
                }
                Step::Forget(conn) => {
                    let expected: BTreeSet<_> = model
                        .iter()
                        .filter(|watch| watch.2 == conn)
                        .map(|watch| (watch.0, watch.1.to_owned()))
                        .collect();
                    model.retain(|watch| watch.2 != conn);
                    prop_assert_eq!(worker.forget(conn), expected);
                }
            }
            worker.table.check();
            prop_assert_eq!(worker.table.len(), model.len());
            prop_assert_eq!(worker.interest.total() as usize, model.len());
            for kind in KINDS {
                for path in PATHS {
                    for conn in 0..6 {
                        let there = model.contains(&(kind, path, conn));
                        prop_assert_eq!(worker.table.contains(kind, path, ConnId(conn)), there);
                    }
                }
            }
        }
        for conn in 0..6 {
            worker.forget(conn);
        }
        worker.table.check();
        let table = &worker.table;
        prop_assert_eq!((table.len(), table.paths(), table.connections(), table.path_bytes()), (0, 0, 0, 0));
        prop_assert!(worker.interest.is_silent());
    }

    #[test]
    fn interest_never_denies_a_watch(
        seed: u64,
        watches in vec((0..2_usize, "/[a-c]{1,2}(/[a-c]{1,2})?"), 1..200),
        leave in vec(any::<bool>(), 200),
    ) {
        let interest = Interest::new(seed);
        for (kind, path) in &watches {
            interest.raise(KINDS[*kind], path);
        }
        let (left, kept): (Vec<_>, Vec<_>) = watches.iter().zip(leave).partition(|(_, leaves)| *leaves);
        for ((kind, path), _) in &left {
            interest.lower(KINDS[*kind], path);
        }
        for ((kind, path), _) in &kept {
            let below = format!("{path}/x");
            let firing: &[(Change, &str)] = match KINDS[*kind] {
                WatchKind::Data => {
                    &[(Change::Created, path), (Change::Deleted, path), (Change::DataChanged, path)]
                }
                WatchKind::Child => {
                    &[(Change::Deleted, path), (Change::Created, &below), (Change::Deleted, &below)]
                }
            };
            for (change, path) in firing {
                prop_assert!(interest.may_watch(*change, path), "{change:?} of {path} was denied");
            }
        }
        kept.iter().for_each(|((kind, path), _)| interest.lower(KINDS[*kind], path));
        prop_assert!(interest.is_silent());
    }
}

#[test]
fn few_changes_of_unwatched_znodes_pass_the_filter() {
    let interest = Interest::new(7);
    assert!(!interest.may_watch(Change::DataChanged, "/other/0"));
    for number in 0..1000 {
        interest.raise(DATA, &format!("/watched/{number}"));
    }
    let passed =
        (0..10_000).filter(|number| interest.may_watch(Change::DataChanged, &format!("/other/{number}"))).count();
    // 1,000 of 32,768 counters: 3 %.
    assert!((100..600).contains(&passed), "{passed} of 10,000 passed");
    // Kinds do not share counters.
    let passed =
        (0..1000).filter(|number| interest.may_watch(Change::Created, &format!("/watched/{number}/below"))).count();
    assert!(passed < 100, "{passed} of 1,000 passed as children of what is watched for its data");
}

#[test]
fn no_change_is_hidden_from_a_worker_that_registers_while_the_replica_applies() {
    const ROUNDS: u64 = 20_000;
    const NODES: usize = 4;
    struct Shared {
        /// What the gate protects: the zxid of the last change of each znode, and of the last change of all.
        gate: RwLock<([u64; NODES], u64)>,
        mailbox: Mutex<VecDeque<(usize, u64)>>,
        interest: Interest,
    }
    let shared =
        Shared { gate: RwLock::new(([0; NODES], 0)), mailbox: Mutex::new(VecDeque::new()), interest: Interest::new(7) };
    let path = |node: usize| format!("/node-{node}");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 1..=ROUNDS {
                let node = (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62) as usize % NODES;
                let mut state = shared.gate.write().unwrap();
                if shared.interest.may_watch(Change::DataChanged, &path(node)) {
                    shared.mailbox.lock().unwrap().push_back((node, at));
                }
                state.0[node] = at;
                state.1 = at;
            }
        });
        let mut table = WatchTable::new(7);
        let mut watched = BTreeMap::new();
        let mut fired = Vec::new();
        for turn in 0_usize.. {
            let state = shared.gate.read().unwrap();
            for (node, at) in shared.mailbox.lock().unwrap().drain(..) {
                let consumed = table.fire(Change::DataChanged, &path(node), zxid(at), &mut fired);
                shared.interest.lower_consumed(&path(node), consumed);
                watched.remove(&node);
            }
            // Whoever still waits has missed nothing.
            for (node, seen) in &watched {
                assert_eq!(state.0[*node], *seen, "a change of znode {node} was hidden");
            }
            let node = turn % NODES;
            shared.interest.raise(DATA, &path(node));
            if !table.add(DATA, &path(node), ConnId(1), zxid(state.1)) {
                shared.interest.lower(DATA, &path(node));
            }
            watched.insert(node, state.0[node]);
            if state.1 == ROUNDS {
                break;
            }
        }
        table.forget(ConnId(1), &mut |kind, path| shared.interest.lower(kind, path));
        assert!(shared.interest.is_silent());
    });
}
