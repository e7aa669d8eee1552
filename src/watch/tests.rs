use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, RwLock};

use proptest::collection::vec;
use proptest::prelude::*;

use super::pool::{CHUNK_VALUES, CHUNKS_KEPT};
use super::*;

const DATA: WatchKind = WatchKind::Data;
const CHILD: WatchKind = WatchKind::Child;
const PERSISTENT: WatchKind = WatchKind::Persistent;
const RECURSIVE: WatchKind = WatchKind::Recursive;
const KINDS: [WatchKind; 4] = WatchKind::ALL;
const PATHS: [&str; 12] = ["/", "/a", "/a/b", "/a/b/c", "/a/b2", "/ab", "/ab/c", "", "no", "no/path", "/a/", "//"];
const CONNS: u32 = 6;

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

    fn add(&mut self, kind: WatchKind, path: &str, conn: u32, at: u64) -> Added {
        self.interest.raise(kind, path);
        let added = self.table.add(kind, path, ConnId(conn), zxid(at));
        if added != Added::New {
            self.interest.lower(kind, path);
        }
        added
    }

    /// Of a watch that must be new.
    fn watch(&mut self, kind: WatchKind, path: &str, conn: u32, at: u64) {
        assert_eq!(self.add(kind, path, conn, at), Added::New, "{kind:?} of {path} by {conn}");
    }

    fn remove(&mut self, asked: WatcherKind, path: &str, conn: u32) -> BTreeSet<WatchKind> {
        let mut removed = BTreeSet::new();
        let any = self.table.remove(asked, path, ConnId(conn), &mut |kind| {
            self.interest.lower(kind, path);
            assert!(removed.insert(kind), "{kind:?} of {path} was named twice");
        });
        assert_eq!(any, !removed.is_empty());
        removed
    }

    fn counts(&self) -> [usize; 4] {
        let table = &self.table;
        [table.data_watches(), table.child_watches(), table.data_paths(), table.data_connections()]
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
    fn holds(&self, kind: WatchKind, path: &str, conn: u32) -> bool {
        let asked = match kind {
            WatchKind::Data => WatcherKind::Data,
            WatchKind::Child => WatcherKind::Children,
            WatchKind::Persistent => WatcherKind::Persistent,
            WatchKind::Recursive => WatcherKind::PersistentRecursive,
        };
        self.has(asked, path, ConnId(conn))
    }

    /// Walks every list and holds it against counts and indexes.
    fn check(&self) {
        let mut seen = BTreeSet::new();
        let mut counts = [0; 2];
        let (mut paths, mut data_paths, mut subtrees, mut text_bytes) = (0, 0, 0, 0);
        for (id, slot) in self.paths.iter() {
            paths += 1;
            text_bytes += slot.path.capacity();
            assert_ne!(slot.first, [NONE; LISTS], "{} is kept without a watch", slot.path);
            assert_eq!(self.find_path(hash_of_path(&self.hasher, &slot.path), &slot.path), Some(id));
            data_paths += usize::from(slot.first[LIST_DATA] != NONE || slot.first[LIST_RECURSIVE] != NONE);
            let is_subtree = slot.first[LIST_RECURSIVE] != NONE;
            subtrees += usize::from(is_subtree);
            let hash = hash_of_subtree(&self.hasher, &slot.path);
            assert_eq!(self.subtree_index.find(hash, |found| found == id).is_some(), is_subtree, "{}", slot.path);
            for list in [LIST_DATA, LIST_CHILD, LIST_RECURSIVE] {
                let (mut prev, mut next) = (NONE, slot.first[list]);
                while next != NONE {
                    let entry = &self.entries[next];
                    assert_eq!((entry.path, entry.list(), entry.path_prev), (id, list, prev));
                    assert_ne!(entry.modes, Modes(0), "an entry of {} asks for nothing", slot.path);
                    assert!(seen.insert(next), "entry {next} is in two lists");
                    assert_eq!(self.find_entry(entry.table, id, entry.conn), Some(next));
                    let other = [Table::Child, Table::Data][entry.table as usize];
                    let other = self.find_entry(other, id, entry.conn);
                    assert_eq!(
                        entry.modes.has(Modes::PERSISTENT),
                        other.is_some_and(|id| self.entries[id].modes.has(Modes::PERSISTENT)),
                        "persistent in one table and not in the other"
                    );
                    counts[entry.table as usize] += 1;
                    (prev, next) = (next, entry.path_next);
                }
            }
        }
        let (mut conns, mut data_conns) = (0, 0);
        for (id, slot) in self.conns.iter() {
            conns += 1;
            assert_eq!(self.find_conn(slot.conn), Some(id));
            let (mut prev, mut next) = (NONE, slot.first);
            assert_ne!(next, NONE, "connection {} is kept without a watch", slot.conn.0);
            let (mut data_entries, mut bytes) = (0, CONN_BYTES);
            while next != NONE {
                let entry = &self.entries[next];
                assert_eq!((entry.conn, entry.conn_prev), (id, prev));
                assert!(seen.remove(&next), "entry {next} belongs to no path, or to two connections");
                data_entries += u32::from(entry.table == Table::Data);
                bytes += ENTRY_BYTES + self.paths[entry.path].path.len();
                (prev, next) = (next, entry.conn_next);
            }
            assert_eq!((data_entries, bytes), (slot.data_entries, slot.bytes));
            data_conns += usize::from(0 < data_entries);
        }
        assert!(seen.is_empty(), "entries {seen:?} belong to no connection");
        assert_eq!(counts, self.counts);
        assert_eq!(counts, [self.data_watches(), self.child_watches()]);
        assert_eq!((paths, conns, text_bytes), (self.paths(), self.connections(), self.text_bytes));
        assert_eq!((data_paths, data_conns), (self.data_paths(), self.data_connections()));
        assert_eq!(counts[0] + counts[1], self.len());
        assert_eq!(self.entry_index.len(), self.len());
        assert_eq!((self.path_index.len(), self.conn_index.len()), (paths, conns));
        assert_eq!(self.subtree_index.len(), subtrees);
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
        let mut counters = self.counters.iter().chain(&self.recursive).chain([&self.recursive_total]);
        self.total() == 0 && counters.all(|counter| counter.load(Ordering::Relaxed) == 0)
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
        worker.watch(DATA, "/a/b", 1, 5);
        worker.watch(CHILD, "/a/b", 2, 5);
        worker.watch(DATA, "/a", 3, 5);
        worker.watch(CHILD, "/a", 4, 5);
        worker.watch(DATA, "/a/b/c", 5, 5);
        worker.watch(CHILD, "/", 6, 5);
        assert_eq!(worker.events(change, "/a/b", 6), expected, "{change:?}");
        assert_eq!(worker.events(change, "/a/b", 7), [""; 0], "{change:?} again");
        assert_eq!(worker.table.len(), 6 - expected.len(), "{change:?}");
    }
}

#[test]
fn deletion_fires_data_then_children_not_told_yet_then_the_parent() {
    let mut worker = Worker::new(7);
    for conn in [1, 2] {
        worker.watch(CHILD, "/", conn, 5);
        worker.watch(CHILD, "/a", conn, 5);
    }
    worker.watch(DATA, "/a", 1, 5);
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
    worker.watch(CHILD, "/", 1, 1);
    assert_eq!(worker.events(Change::Created, "/top", 2), ["1: NodeChildrenChanged /"]);
}

#[test]
fn registering_again_is_one_watch_and_counts_from_the_newer_state() {
    let mut worker = Worker::new(7);
    assert_eq!(worker.add(DATA, "/a", 1, 5), Added::New);
    assert_eq!(worker.add(DATA, "/a", 1, 9), Added::Known);
    assert_eq!(worker.add(DATA, "/a", 1, 7), Added::Known);
    assert_eq!(worker.add(CHILD, "/a", 1, 5), Added::New);
    assert_eq!(worker.table.len(), 2);
    assert_eq!(worker.interest.total(), 2);
    assert_eq!(worker.events(Change::DataChanged, "/a", 10), ["1: NodeDataChanged /a"]);
}

#[test]
#[should_panic(expected = "the change 0x9 fired a watch of /a that was registered at 0x9")]
fn a_change_that_the_registering_read_has_seen_stops_the_server() {
    let mut worker = Worker::new(7);
    worker.watch(DATA, "/a", 1, 5);
    assert_eq!(worker.add(DATA, "/a", 1, 9), Added::Known);
    assert_eq!(worker.add(DATA, "/a", 1, 7), Added::Known);
    let _ = worker.fire(Change::DataChanged, "/a", 9);
}

#[test]
#[should_panic(expected = "the change 0x9 fired a watch of / that was registered at 0x9")]
fn so_does_one_that_a_recursive_watch_above_has_seen() {
    let mut worker = Worker::new(7);
    worker.watch(RECURSIVE, "/", 1, 5);
    assert_eq!(worker.fire(Change::DataChanged, "/a/b", 6).0.len(), 1);
    assert_eq!(worker.add(RECURSIVE, "/", 1, 9), Added::Known);
    let _ = worker.fire(Change::DataChanged, "/a/b", 9);
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
            worker.watch(DATA, path, number as u32 % 10, 2 * round);
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
    let crowd = (CHUNKS_KEPT * CHUNK_VALUES + 1) as u32;
    for round in 0..2 {
        for number in 0..crowd {
            worker.watch(CHILD, &format!("/{number}"), number % 3, round);
        }
        assert_eq!(worker.table.entries.chunks.len(), CHUNKS_KEPT + 1);
        worker.table.check();
        for conn in 0..3 {
            worker.forget(conn);
        }
        assert_eq!(worker.table.entries.chunks.len(), CHUNKS_KEPT);
        assert_eq!(worker.table.paths.chunks.len(), CHUNKS_KEPT);
        assert_eq!(worker.table.spare_paths[0].len(), SPARE_PATHS_MAX);
        worker.table.check();
        assert!(worker.table.is_empty() && worker.interest.is_silent());
    }
}

#[test]
fn giant_paths_are_not_kept_for_reuse() {
    let mut worker = Worker::new(7);
    let giant = format!("/{}", "x".repeat(SPARE_PATH_BYTES_MAX));
    worker.watch(DATA, &giant, 1, 1);
    worker.watch(DATA, "/small", 1, 1);
    assert_eq!(worker.table.text_bytes, giant.len() + SPARE_PATH_BYTES_MIN);
    worker.forget(1);
    assert_eq!(worker.table.spare_paths.iter().map(Vec::len).sum::<usize>(), 1);
    assert_eq!(worker.table.text_bytes, 0);
}

/// What standing watches of connection 1 on /a, and of others around it, say to one change after the other.
#[test]
fn standing_watches_fire_until_they_are_removed() {
    use Change::{Created, DataChanged, Deleted};
    let mut worker = Worker::new(7);
    worker.watch(PERSISTENT, "/a", 1, 5);
    worker.watch(RECURSIVE, "/a", 2, 5);
    worker.watch(RECURSIVE, "/", 3, 5);
    worker.watch(RECURSIVE, "/ab", 4, 5);
    worker.watch(PERSISTENT, "/", 5, 5);
    let script: [(Change, &str, &[&str]); 8] = [
        (Created, "/a", &["1: NodeCreated /a", "2: NodeCreated /a", "3: NodeCreated /a", "5: NodeChildrenChanged /"]),
        (DataChanged, "/a", &["1: NodeDataChanged /a", "2: NodeDataChanged /a", "3: NodeDataChanged /a"]),
        (Created, "/a/x", &["3: NodeCreated /a/x", "2: NodeCreated /a/x", "1: NodeChildrenChanged /a"]),
        (DataChanged, "/a/x", &["3: NodeDataChanged /a/x", "2: NodeDataChanged /a/x"]),
        (Created, "/a/x/y", &["3: NodeCreated /a/x/y", "2: NodeCreated /a/x/y"]),
        (Deleted, "/a/x", &["3: NodeDeleted /a/x", "2: NodeDeleted /a/x", "1: NodeChildrenChanged /a"]),
        (Deleted, "/a", &["1: NodeDeleted /a", "2: NodeDeleted /a", "3: NodeDeleted /a", "5: NodeChildrenChanged /"]),
        (DataChanged, "/", &["5: NodeDataChanged /", "3: NodeDataChanged /"]),
    ];
    for round in 0..2 {
        for (number, (change, path, expected)) in script.into_iter().enumerate() {
            assert!(worker.interest.may_watch(change, path), "{change:?} of {path}");
            let events = worker.events(change, path, 10 * (round + 1) + number as u64);
            assert_eq!(events, expected, "round {round}, {change:?} of {path}");
        }
    }
    assert_eq!(worker.remove(WatcherKind::PersistentRecursive, "/", 3), [RECURSIVE].into());
    assert_eq!(worker.remove(WatcherKind::Persistent, "/a", 1), [PERSISTENT].into());
    assert_eq!(worker.events(Created, "/a/x", 30), ["2: NodeCreated /a/x"]);
    assert_eq!(worker.events(Created, "/q", 31), ["5: NodeChildrenChanged /"]);
    assert!(!worker.interest.may_watch(DataChanged, "/q/r"));
}

#[test]
fn one_connection_hears_once_per_trigger_however_many_of_its_watches_match() {
    use Change::{Created, DataChanged, Deleted};
    let mut worker = Worker::new(7);
    for path in ["/", "/a", "/a/b"] {
        for kind in KINDS {
            worker.watch(kind, path, 1, 5);
        }
    }
    let deleted = ["1: NodeDeleted /a/b", "1: NodeChildrenChanged /a"];
    assert_eq!(worker.events(DataChanged, "/a/b", 6), ["1: NodeDataChanged /a/b"]);
    assert_eq!(worker.events(Deleted, "/a/b", 7), deleted);
    assert_eq!(worker.events(Created, "/a/b", 8), ["1: NodeCreated /a/b", "1: NodeChildrenChanged /a"]);
    // The one-shot watches are gone, which is not seen.
    assert_eq!(worker.events(Deleted, "/a/b", 9), deleted);
    assert_eq!(worker.remove(WatcherKind::Any, "/a/b", 1), [PERSISTENT, RECURSIVE].into());
    assert_eq!(worker.remove(WatcherKind::Any, "/a", 1), [DATA, PERSISTENT, RECURSIVE].into());
    assert_eq!(worker.events(Deleted, "/a/b", 10), ["1: NodeDeleted /a/b"]);
}

#[test]
fn who_hears_of_a_deletion_from_above_does_not_hear_of_it_as_a_watcher_of_children() {
    let mut worker = Worker::new(7);
    worker.watch(RECURSIVE, "/", 1, 5);
    worker.watch(CHILD, "/a/b", 1, 5);
    worker.watch(CHILD, "/a/b", 2, 5);
    let (fired, consumed) = worker.fire(Change::Deleted, "/a/b", 6);
    assert_eq!(fired.iter().map(|fired| fired.conn.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(consumed, Consumed { data: 0, child: 2, parent_child: 0 });
}

/// As Java 3.9.5 answers: with each set of kinds on a path, which of the types 1 to 5 checkWatches finds, and what a
/// removeWatches of each leaves.
#[test]
fn each_type_finds_and_removes_its_own_kind_and_any_all_of_them() {
    let types = [CHILD, DATA, PERSISTENT, RECURSIVE].into_iter().zip([
        WatcherKind::Children,
        WatcherKind::Data,
        WatcherKind::Persistent,
        WatcherKind::PersistentRecursive,
    ]);
    for held in 0..16_u8 {
        let held: BTreeSet<WatchKind> =
            KINDS.into_iter().enumerate().filter(|(bit, _)| held >> bit & 1 == 1).map(|(_, kind)| kind).collect();
        for (own, asked) in types.clone().map(|(kind, asked)| (Some(kind), asked)).chain([(None, WatcherKind::Any)]) {
            let mut worker = Worker::new(7);
            for &kind in &held {
                worker.watch(kind, "/a", 1, 5);
                worker.watch(kind, "/a/b", 1, 5);
                worker.watch(kind, "/a", 2, 5);
            }
            let meant: BTreeSet<WatchKind> =
                held.iter().copied().filter(|kind| own.is_none_or(|own| own == *kind)).collect();
            assert_eq!(worker.table.has(asked, "/a", ConnId(1)), !meant.is_empty(), "{asked:?} of {held:?}");
            assert_eq!(worker.remove(asked, "/a", 1), meant, "{asked:?} of {held:?}");
            assert_eq!(worker.remove(asked, "/a", 1), BTreeSet::new(), "{asked:?} of {held:?} again");
            worker.table.check();
            for kind in KINDS {
                assert_eq!(worker.table.holds(kind, "/a", 1), held.contains(&kind) && !meant.contains(&kind));
                assert_eq!(worker.table.holds(kind, "/a", 2), held.contains(&kind));
                assert_eq!(worker.table.holds(kind, "/a/b", 1), held.contains(&kind));
            }
            assert_eq!(worker.interest.total() as usize, 3 * held.len() - meant.len());
            assert!(!worker.table.has(WatcherKind::Any, "/never", ConnId(1)));
            assert!(!worker.table.has(WatcherKind::Any, "/a", ConnId(3)));
        }
    }
}

/// `watch_count` and `wchs` of Java 3.9.5 after the same steps, but for one thing: there a connection whose last data
/// watch has fired still counts as one that watches.
#[test]
fn what_a_connection_asks_for_at_one_path_counts_once_in_each_table() {
    let mut worker = Worker::new(7);
    let steps = [(DATA, [1, 0, 1, 1]), (CHILD, [1, 1, 1, 1]), (PERSISTENT, [1, 1, 1, 1]), (RECURSIVE, [1, 1, 1, 1])];
    for (kind, expected) in steps {
        worker.watch(kind, "/a", 1, 5);
        assert_eq!(worker.counts(), expected, "{kind:?}");
    }
    worker.watch(DATA, "/b", 1, 5);
    worker.watch(DATA, "/b", 2, 5);
    worker.watch(CHILD, "/c", 3, 5);
    assert_eq!(worker.counts(), [3, 2, 2, 2]);
    worker.events(Change::DataChanged, "/b", 6);
    worker.events(Change::DataChanged, "/a", 6);
    assert_eq!(worker.counts(), [1, 2, 1, 1]);
    worker.remove(WatcherKind::Persistent, "/a", 1);
    assert_eq!(worker.counts(), [1, 2, 1, 1]);
    worker.remove(WatcherKind::PersistentRecursive, "/a", 1);
    assert_eq!(worker.counts(), [0, 2, 0, 0]);
}

#[test]
fn a_path_of_many_components_costs_one_pass() {
    const COMPONENTS: usize = 500_000;
    let deep = "/a".repeat(COMPONENTS);
    let mut worker = Worker::new(7);
    worker.watch(RECURSIVE, &deep[..COMPONENTS], 1, 5);
    worker.watch(RECURSIVE, "/b", 2, 5);
    let start = std::time::Instant::now();
    assert!(worker.interest.may_watch(Change::Created, &deep));
    assert_eq!(worker.fire(Change::Created, &deep, 6).0.len(), 1);
    assert_eq!(worker.fire(Change::Created, &deep[..COMPONENTS - 2], 7).0.len(), 0);
    // What compared or hashed every ancestor from its beginning would take a minute.
    assert!(start.elapsed().as_secs() < 5, "it took {:?}", start.elapsed());
}

/// Registers on paths of this length until it is refused.
fn fill(worker: &mut Worker, conn: u32, path_bytes: usize) -> usize {
    for number in 0.. {
        let path = format!("/{conn}/{number:08}{}", "x".repeat(path_bytes));
        match worker.add(KINDS[number % 4], &path, conn, 1) {
            Added::New => {}
            Added::Refused => return number,
            Added::Known => panic!("{path} was new"),
        }
    }
    unreachable!()
}

#[test]
fn a_connection_that_registers_without_end_is_refused_and_others_are_not() {
    let mut worker = Worker::new(7);
    worker.table.bounds = Bounds { worker: 1 << 20, connection: 256 << 10, fair: 8 << 10 };
    let first = fill(&mut worker, 0, 92);
    let first_path = format!("/0/{:08}{}", 0, "x".repeat(92));
    assert!((1000..1500).contains(&first), "{first}");
    let bytes = |worker: &Worker, conn| worker.table.conns[worker.table.find_conn(ConnId(conn)).unwrap()].bytes;
    assert!((255 << 10..=256 << 10).contains(&bytes(&worker, 0)));
    // What it has already costs nothing more.
    assert_eq!(worker.add(DATA, &first_path, 0, 2), Added::Known);
    assert_eq!(worker.add(RECURSIVE, &first_path, 0, 2), Added::New);
    assert_eq!(worker.add(CHILD, &first_path, 0, 2), Added::Refused);
    for conn in 1..10 {
        fill(&mut worker, conn, 92);
        assert!(bytes(&worker, conn) <= 256 << 10);
    }
    // The worker is full: the last ones have got their fair share.
    assert!(worker.table.memory_bytes() <= (1 << 20) + 10 * (2 * (8 << 10)), "{}", worker.table.memory_bytes());
    assert!((1 << 20) - 512 <= worker.table.memory_bytes());
    assert!((7 << 10..=8 << 10).contains(&bytes(&worker, 9)), "{}", bytes(&worker, 9));
    worker.table.check();
    worker.forget(0);
    assert!(8 << 10 < bytes(&worker, 1));
    fill(&mut worker, 9, 93);
    assert!(8 << 10 < bytes(&worker, 9));
    for conn in 1..10 {
        worker.forget(conn);
    }
    worker.table.check();
    assert_eq!((worker.table.memory_bytes(), worker.interest.is_silent()), (0, true));
}

#[test]
fn paths_as_large_as_requests_fill_a_connections_share() {
    let mut worker = Worker::new(7);
    let count = fill(&mut worker, 1, 1 << 20);
    // Every fourth is persistent, stands in both tables and costs twice.
    assert!((50..=52).contains(&count), "{count} paths of a MiB were registered");
}

#[derive(Clone, Debug)]
enum Step {
    Add(WatchKind, &'static str, u32),
    Fire(Change, &'static str),
    Remove(WatcherKind, &'static str, u32),
    Forget(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = || prop::sample::select(PATHS.to_vec());
    let kind = prop::sample::select(KINDS.to_vec());
    let asked = prop::sample::select(WatcherKind::ALL.to_vec());
    let change = prop::sample::select(vec![Change::Created, Change::Deleted, Change::DataChanged]);
    // A client may watch the empty path, but no znode has it.
    let changed = path().prop_filter("no znode has it", |path| !path.is_empty());
    let step = prop_oneof![
        12 => (kind, path(), 0..CONNS).prop_map(|(kind, path, conn)| Step::Add(kind, path, conn)),
        8 => (change, changed).prop_map(|(change, path)| Step::Fire(change, path)),
        3 => (asked, path(), 0..CONNS).prop_map(|(asked, path, conn)| Step::Remove(asked, path, conn)),
        1 => (0..CONNS).prop_map(Step::Forget),
    ];
    vec(step, 0..120)
}

/// The registrations that stand, and nothing else.
#[derive(Default)]
struct Model(BTreeSet<(WatchKind, &'static str, u32)>);

/// What one trigger says to whom. Order within a trigger is left open.
type Trigger = BTreeSet<(u32, EventType, bool)>;

impl Model {
    fn who(&self, watches: impl Fn(WatchKind, &str) -> bool) -> BTreeSet<u32> {
        self.0.iter().filter(|(kind, path, _)| watches(*kind, path)).map(|(_, _, conn)| *conn).collect()
    }

    /// The table of triggers once more, as plainly as it can be said.
    fn fire(&mut self, change: Change, path: &'static str) -> Vec<Trigger> {
        let is_below = |path: &str, above: &str| match above {
            "" => false,
            "/" => path.starts_with('/') && path != "/",
            above => path.starts_with(&format!("{above}/")),
        };
        let up = match path {
            "/a" | "/ab" | "//" => Some("/"),
            "/a/b" | "/a/b2" | "/a/" => Some("/a"),
            "/a/b/c" => Some("/a/b"),
            "/ab/c" => Some("/ab"),
            "no/path" => Some("no"),
            _ => None,
        };
        let of_data = self.who(|kind, at| match kind {
            WatchKind::Data | WatchKind::Persistent => at == path,
            WatchKind::Recursive => at == path || is_below(path, at),
            WatchKind::Child => false,
        });
        let of_children = |path| self.who(|kind, at| at == path && matches!(kind, CHILD | PERSISTENT));
        let (also, of_parent) = (of_children(path), up.map(of_children).unwrap_or_default());
        let used_up = |&(kind, at, _): &(WatchKind, &str, u32)| match (kind, change) {
            (DATA, _) => at == path,
            (CHILD, Change::Deleted) => at == path || Some(at) == up,
            (CHILD, Change::Created) => Some(at) == up,
            _ => false,
        };
        self.0.retain(|watch| !used_up(watch));

        let to = |conns: &BTreeSet<u32>, event, on_parent| -> Trigger {
            conns.iter().map(|conn| (*conn, event, on_parent)).collect()
        };
        match change {
            Change::DataChanged => vec![to(&of_data, EventType::NodeDataChanged, false)],
            Change::Created => {
                vec![to(&of_data, EventType::NodeCreated, false), to(&of_parent, EventType::NodeChildrenChanged, true)]
            }
            Change::Deleted => vec![
                to(&of_data, EventType::NodeDeleted, false),
                to(&also.difference(&of_data).copied().collect(), EventType::NodeDeleted, false),
                to(&of_parent, EventType::NodeChildrenChanged, true),
            ],
        }
    }

    /// What [`Worker::counts`] is to say.
    fn counts(&self) -> [usize; 4] {
        let of = |table: [WatchKind; 3]| self.0.iter().filter(move |watch| table.contains(&watch.0));
        let data = || of([DATA, PERSISTENT, RECURSIVE]).map(|(_, path, conn)| (path, conn));
        let child: BTreeSet<_> = of([CHILD, PERSISTENT, CHILD]).map(|(_, path, conn)| (path, conn)).collect();
        let paths: BTreeSet<_> = data().map(|(path, _)| path).collect();
        let conns: BTreeSet<_> = data().map(|(_, conn)| conn).collect();
        [data().collect::<BTreeSet<_>>().len(), child.len(), paths.len(), conns.len()]
    }
}

fn agree(seed: u64, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut worker = Worker::new(seed);
    let mut model = Model::default();
    for (number, step) in steps.into_iter().enumerate() {
        let now = number as u64 + 1;
        match step {
            Step::Add(kind, path, conn) => {
                let expected = if model.0.insert((kind, path, conn)) { Added::New } else { Added::Known };
                prop_assert_eq!(worker.add(kind, path, conn, now), expected);
            }
            Step::Fire(change, path) => {
                let may_watch = worker.interest.may_watch(change, path);
                let before = model.0.len();
                let triggers = model.fire(change, path);
                let (fired, consumed) = worker.fire(change, path, now);
                let consumed = consumed.data + consumed.child + consumed.parent_child;
                prop_assert_eq!(consumed as usize, before - model.0.len());
                prop_assert!(may_watch || consumed == 0 && fired.is_empty(), "the filter hid {change:?} of {path}");
                let mut rest = fired.as_slice();
                for expected in triggers {
                    prop_assert!(expected.len() <= rest.len(), "{fired:?} misses some of {expected:?}");
                    let (these, others) = rest.split_at(expected.len());
                    let these: Trigger =
                        these.iter().map(|fired| (fired.conn.0, fired.event, fired.on_parent)).collect();
                    prop_assert_eq!(these, expected);
                    rest = others;
                }
                prop_assert!(rest.is_empty(), "nobody should have heard {rest:?}");
            }
            Step::Remove(asked, path, conn) => {
                let mut meant = model.0.clone();
                meant.retain(|&(kind, at, by)| {
                    let is_meant = match asked {
                        WatcherKind::Any => true,
                        WatcherKind::Children => kind == CHILD,
                        WatcherKind::Data => kind == DATA,
                        WatcherKind::Persistent => kind == PERSISTENT,
                        WatcherKind::PersistentRecursive => kind == RECURSIVE,
                    };
                    is_meant && (at, by) == (path, conn)
                });
                model.0.retain(|watch| !meant.contains(watch));
                prop_assert_eq!(worker.table.has(asked, path, ConnId(conn)), !meant.is_empty());
                prop_assert_eq!(worker.remove(asked, path, conn), meant.iter().map(|watch| watch.0).collect());
            }
            Step::Forget(conn) => {
                let expected: BTreeSet<_> =
                    model.0.iter().filter(|watch| watch.2 == conn).map(|watch| (watch.0, watch.1.to_owned())).collect();
                model.0.retain(|watch| watch.2 != conn);
                prop_assert_eq!(worker.forget(conn), expected);
            }
        }
        worker.table.check();
        prop_assert_eq!(worker.counts(), model.counts());
        prop_assert_eq!(worker.interest.total() as usize, model.0.len());
    }
    for kind in KINDS {
        for path in PATHS {
            for conn in 0..CONNS {
                prop_assert_eq!(worker.table.holds(kind, path, conn), model.0.contains(&(kind, path, conn)));
            }
        }
    }
    for conn in 0..CONNS {
        worker.forget(conn);
    }
    worker.table.check();
    let table = &worker.table;
    prop_assert_eq!((table.len(), table.paths(), table.connections(), table.memory_bytes()), (0, 0, 0, 0));
    prop_assert!(worker.interest.is_silent());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn table_and_interest_agree_with_a_set_of_registrations(seed: u64, steps in steps()) {
        agree(seed, steps)?;
    }
}

proptest! {
    #[test]
    fn interest_never_denies_a_watch(
        seed: u64,
        watches in vec((0..4_usize, "/[a-c]{1,2}(/[a-c]{1,2})?"), 1..200),
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
            let far_below = format!("{path}/x/y/z");
            let of_data = [Change::Created, Change::Deleted, Change::DataChanged];
            let of_children = [Change::Created, Change::Deleted];
            let mut firing: Vec<(Change, &str)> = Vec::new();
            if KINDS[*kind] != CHILD {
                firing.extend(of_data.map(|change| (change, path.as_str())));
            }
            if matches!(KINDS[*kind], CHILD | PERSISTENT) {
                firing.push((Change::Deleted, path));
                firing.extend(of_children.map(|change| (change, below.as_str())));
            }
            if KINDS[*kind] == RECURSIVE {
                firing.extend(of_data.map(|change| (change, below.as_str())));
                firing.extend(of_data.map(|change| (change, far_below.as_str())));
            }
            for (change, path) in firing {
                prop_assert!(interest.may_watch(change, path), "{change:?} of {path} was denied");
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
    // Neither do recursive watches, and what is beside them is not below them.
    for number in 0..10 {
        interest.raise(RECURSIVE, &format!("/services/{number}"));
    }
    let passed = |prefix: &str| {
        let changes = (0..1000).filter(|number| {
            interest.may_watch(Change::DataChanged, &format!("{prefix}{}/below/{number}", number % 10))
        });
        changes.count()
    };
    assert_eq!(passed("/services/"), 1000);
    assert!(passed("/servants/") < 100, "{} of 1,000 passed beside what is watched", passed("/servants/"));
}

#[test]
fn no_change_is_hidden_from_a_worker_that_registers_while_the_replica_applies() {
    // What is watched for the changes of a znode, and where.
    nothing_is_hidden(|node| (DATA, node));
    nothing_is_hidden(|node| (PERSISTENT, node));
    nothing_is_hidden(|_| (RECURSIVE, "/"));
}

/// The worker drops every watch now and then, so that standing ones are registered again and again, too.
fn nothing_is_hidden(watch_for: fn(&str) -> (WatchKind, &str)) {
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
        // By watch: what was seen of the znodes for which it was left.
        let mut watched: BTreeMap<usize, u64> = BTreeMap::new();
        let mut fired = Vec::new();
        for turn in 0_usize.. {
            let state = shared.gate.read().unwrap();
            for (node, at) in shared.mailbox.lock().unwrap().drain(..) {
                fired.clear();
                let consumed = table.fire(Change::DataChanged, &path(node), zxid(at), &mut fired);
                shared.interest.lower_consumed(&path(node), consumed);
                // A standing watch may hear of znodes that were not read.
                assert!(!watched.contains_key(&node) || fired.len() == 1, "the change of znode {node} was not told");
                if consumed.data == 0 {
                    watched.entry(node).and_modify(|seen| *seen = at);
                } else {
                    watched.remove(&node);
                }
            }
            // Whoever still waits has missed nothing.
            for (node, seen) in &watched {
                assert_eq!(state.0[*node], *seen, "a change of znode {node} was hidden");
            }
            let node = turn % NODES;
            let changed = path(node);
            let (kind, watched_path) = watch_for(&changed);
            shared.interest.raise(kind, watched_path);
            match table.add(kind, watched_path, ConnId(1), zxid(state.1)) {
                Added::New => {}
                Added::Known => shared.interest.lower(kind, watched_path),
                Added::Refused => panic!("four watches are too many"),
            }
            watched.insert(node, state.0[node]);
            let is_last = state.1 == ROUNDS;
            drop(state);
            if is_last || turn % 64 == 63 {
                table.forget(ConnId(1), &mut |kind, path| shared.interest.lower(kind, path));
                watched.clear();
            }
            if is_last {
                break;
            }
        }
        assert!(shared.interest.is_silent());
    });
}
