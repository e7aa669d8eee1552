//! The watches of one worker's connections, and what the replica knows about them.
//!
//! [`WatchTable`] belongs to one worker alone: who watches what, and whom a change concerns. Guarantees: a watch fires
//! at most once; one change gives one connection at most one event per trigger; a connection that ends leaves nothing
//! behind; no change fires a watch that was registered when the change could be read already. [`Interest`] is the only
//! part that two threads see: it lets the replica keep silent about changes that nobody behind a worker watches.
//!
//! Refuses to know: znodes, permissions, sockets, and how an event is written. It is told of applied changes, never of
//! requests, so a multi that fails fires nothing.
//!
//! | registered by | table |
//! |---|---|
//! | getData; exists, whether the znode is there or not; setWatches data and exist | data |
//! | getChildren, getChildren2; setWatches child | child |
//!
//! | change of a znode | 1st trigger | 2nd trigger | 3rd trigger |
//! |---|---|---|---|
//! | created | data, NodeCreated | | child of the parent, NodeChildrenChanged |
//! | deleted | data, NodeDeleted | child, NodeDeleted, if not told yet | child of the parent, NodeChildrenChanged |
//! | data changed | data, NodeDataChanged | | |
//!
//! Entries, paths and connections lie in pools of fixed chunks, and what was used once is used again without asking the
//! allocator. One step grows: forgetting a connection, with its own watches.

use std::hash::{BuildHasher, Hasher};
use std::ops::{Index, IndexMut};

use foldhash::quality::FixedState;
use zorilla_proto::client::EventType;
use zorilla_proto::ids::Zxid;

use crate::limits::{INTEREST_COUNTERS, SPARE_PATH_BYTES_MAX, SPARE_PATH_BYTES_MIN, SPARE_PATHS_MAX};
use crate::sync::{AtomicU32, Ordering};
use crate::table::StepTable;

/// Sizes of path buffers that are kept.
const PATH_SIZES: usize = (SPARE_PATH_BYTES_MAX / SPARE_PATH_BYTES_MIN).ilog2() as usize + 1;

/// Entries of one chunk of a pool.
const POOL_CHUNK_ENTRIES: usize = 1024;
/// Chunks that an empty pool keeps: enough for 64 Ki watches to fire and be set again.
const POOL_CHUNKS_KEPT: usize = 64;

// One half for each kind, and the halves are indexed by a mask.
const _: () = assert!(INTEREST_COUNTERS.is_power_of_two() && 2 <= INTEREST_COUNTERS);
const _: () = assert!(SPARE_PATH_BYTES_MIN << (PATH_SIZES - 1) == SPARE_PATH_BYTES_MAX);
// What the pool keeps covers what the spare paths of one size can serve.
const _: () = assert!(SPARE_PATHS_MAX <= POOL_CHUNK_ENTRIES * POOL_CHUNKS_KEPT);

/// One connection of one worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u32);

/// Which of the two tables a watch is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WatchKind {
    /// The znode itself: that it appears, changes its data, or goes.
    Data,
    /// Its list of children, and that it goes.
    Child,
}

/// What an applied transaction did to one znode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Change {
    /// It is new.
    Created,
    /// It is gone, whoever removed it: a delete, a reaper, the end of its session.
    Deleted,
    /// Its data was set. A change of its ACL is no change here.
    DataChanged,
}

/// One event that one connection is to get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fired {
    /// Who gets it.
    pub conn: ConnId,
    /// What it says.
    pub event: EventType,
    /// It is about the parent of the znode that changed.
    pub on_parent: bool,
}

impl Fired {
    /// The path that the event names, given the path of the znode that changed.
    pub fn path(self, changed: &str) -> &str {
        if self.on_parent { parent(changed).unwrap_or(changed) } else { changed }
    }
}

/// The watches that one change used up, those that gave no event included. The worker's [`Interest`] is to be lowered
/// by them: [`Interest::lower_consumed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "the worker's interest has to be lowered by what was consumed"]
pub struct Consumed {
    /// Data watches of the znode.
    pub data: u32,
    /// Child watches of the znode.
    pub child: u32,
    /// Child watches of its parent.
    pub parent_child: u32,
}

/// The parent of a znode, `/` for a top-level one. The root has none, and neither has what is no path.
fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        slash => Some(&path[..slash]),
    }
}

/// Where path buffers of this size, a power of two, are kept.
fn size_index(size: usize) -> usize {
    (size / SPARE_PATH_BYTES_MIN).ilog2() as usize
}

fn hash_of_path(hasher: &FixedState, path: &str) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(path.as_bytes());
    hasher.finish()
}

/// The end of a list, and the number that no pool hands out.
const NONE: u32 = u32::MAX;

/// One watch: `conn` is to hear of the next change of `path`.
struct Entry {
    /// Neighbours among the watches of the same kind on the same path.
    path_next: u32,
    path_prev: u32,
    /// Neighbours among the watches of the same connection.
    conn_next: u32,
    conn_prev: u32,
    path: u32,
    conn: u32,
    /// The state that the registering read has seen.
    at: Zxid,
    kind: WatchKind,
}

// The kind leaves room for the pool's mark of a free place, so marking costs no memory.
const _: () = assert!(size_of::<Place<Entry>>() == 40);

/// A path that somebody watches.
struct PathSlot {
    path: String,
    hash: u64,
    /// First entry by kind.
    first: [u32; 2],
}

/// A connection that watches something.
struct ConnSlot {
    conn: ConnId,
    first: u32,
    /// The last trigger that selected it.
    selected_by: u64,
}

/// The watches of one worker's connections.
///
/// Invariants: an entry stands in exactly one list of its path, in the list of its connection, and in the index of
/// entries; no two entries share path, kind and connection; a path or connection is here exactly while it has an entry.
pub struct WatchTable {
    hasher: FixedState,
    entries: Pool<Entry>,
    paths: Pool<PathSlot>,
    conns: Pool<ConnSlot>,
    entry_index: StepTable,
    path_index: StepTable,
    conn_index: StepTable,
    /// Entries by kind.
    counts: [usize; 2],
    path_bytes: usize,
    /// Emptied path buffers by size.
    spare_paths: [Vec<String>; PATH_SIZES],
    /// Number of the newest trigger.
    trigger: u64,
}

impl WatchTable {
    /// An empty table whose hashes follow from `seed`, so that nobody outside can choose paths that collide.
    pub fn new(seed: u64) -> WatchTable {
        WatchTable {
            hasher: FixedState::with_seed(seed),
            entries: Pool::new(),
            paths: Pool::new(),
            conns: Pool::new(),
            entry_index: StepTable::default(),
            path_index: StepTable::default(),
            conn_index: StepTable::default(),
            counts: [0; 2],
            path_bytes: 0,
            spare_paths: Default::default(),
            trigger: 0,
        }
    }

    /// Leaves a watch of `conn` on exactly this path, on behalf of a read that has seen the state `at`. The znode need
    /// not exist.
    ///
    /// The worker's [`Interest`] is raised once for each new watch, before the read lets go of the gate. `false`: the
    /// watch was there already and nothing but its age has changed, so it counts no second time.
    pub fn add(&mut self, kind: WatchKind, path: &str, conn: ConnId, at: Zxid) -> bool {
        let path = self.path_slot(path);
        let conn = self.conn_slot(conn);
        let hash = hash_of_entry(&self.hasher, kind, path, conn);
        let known = self.entry_index.find(hash, |id| {
            let entry = &self.entries[id];
            (entry.kind, entry.path, entry.conn) == (kind, path, conn)
        });
        if let Some(known) = known {
            let entry = &mut self.entries[known];
            entry.at = entry.at.max(at);
            return false;
        }

        let path_next = self.paths[path].first[kind as usize];
        let conn_next = self.conns[conn].first;
        let entry = Entry { path_next, path_prev: NONE, conn_next, conn_prev: NONE, path, conn, at, kind };
        let id = self.entries.insert(entry);
        if path_next != NONE {
            self.entries[path_next].path_prev = id;
        }
        if conn_next != NONE {
            self.entries[conn_next].conn_prev = id;
        }
        self.paths[path].first[kind as usize] = id;
        self.conns[conn].first = id;
        self.entry_index.insert(hash, id, |id| {
            let entry = &self.entries[id];
            hash_of_entry(&self.hasher, entry.kind, entry.path, entry.conn)
        });
        self.counts[kind as usize] += 1;
        true
    }

    /// Fires every trigger of one applied change, in the order of the module's table, and appends who is to hear what.
    /// The watches that match are used up, also those of a connection that hears of the deletion through another.
    ///
    /// A change that fires a watch is newer than its registration: the workers answer reads only when they have been
    /// told everything that those reads can see. That is asserted.
    pub fn fire(&mut self, change: Change, path: &str, zxid: Zxid, fired: &mut Vec<Fired>) -> Consumed {
        use WatchKind::{Child, Data};

        let mut consumed = Consumed::default();
        if self.is_empty() {
            return consumed;
        }
        let of_znode: (&[WatchKind], EventType) = match change {
            Change::Created => (&[Data], EventType::NodeCreated),
            Change::Deleted => (&[Data, Child], EventType::NodeDeleted),
            Change::DataChanged => (&[Data], EventType::NodeDataChanged),
        };
        let (kinds, event) = of_znode;
        [consumed.data, consumed.child] = self.trigger(kinds, path, event, false, zxid, fired);
        if change != Change::DataChanged
            && let Some(parent) = parent(path)
        {
            let event = EventType::NodeChildrenChanged;
            [_, consumed.parent_child] = self.trigger(&[Child], parent, event, true, zxid, fired);
        }
        consumed
    }

    /// Uses up the watches of `kinds` on one path; a connection that has several of them hears once. Returns how many
    /// there were, by kind.
    fn trigger(
        &mut self,
        kinds: &[WatchKind],
        path: &str,
        event: EventType,
        on_parent: bool,
        zxid: Zxid,
        fired: &mut Vec<Fired>,
    ) -> [u32; 2] {
        let mut consumed = [0; 2];
        let Some(path) = self.find_path(hash_of_path(&self.hasher, path), path) else { return consumed };
        self.trigger += 1;
        for &kind in kinds {
            let mut next = std::mem::replace(&mut self.paths[path].first[kind as usize], NONE);
            while next != NONE {
                let entry = self.take(next);
                assert!(
                    entry.at < zxid,
                    "the change {zxid} of {} fired a watch that was registered at {}",
                    self.paths[path].path,
                    entry.at
                );
                let conn = &mut self.conns[entry.conn];
                if conn.selected_by != self.trigger {
                    conn.selected_by = self.trigger;
                    fired.push(Fired { conn: conn.conn, event, on_parent });
                }
                self.unlink_from_conn(&entry);
                consumed[kind as usize] += 1;
                next = entry.path_next;
            }
        }
        self.release_path_if_unwatched(path);
        consumed
    }

    /// Removes every watch of a connection that has ended and names each: the worker's interest is to be lowered by
    /// them.
    pub fn forget(&mut self, conn: ConnId, removed: &mut dyn FnMut(WatchKind, &str)) {
        let Some(conn) = self.find_conn(conn) else { return };
        let mut next = std::mem::replace(&mut self.conns[conn].first, NONE);
        while next != NONE {
            let entry = self.take(next);
            next = entry.conn_next;
            removed(entry.kind, &self.paths[entry.path].path);
            self.unlink_from_path(&entry);
            self.release_path_if_unwatched(entry.path);
        }
        self.release_conn_if_idle(conn);
    }

    /// Watches of both kinds.
    pub fn len(&self) -> usize {
        self.entries.used
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.entries.used == 0
    }

    /// Watches in the data table.
    pub fn data_watches(&self) -> usize {
        self.counts[WatchKind::Data as usize]
    }

    /// Watches in the child table.
    pub fn child_watches(&self) -> usize {
        self.counts[WatchKind::Child as usize]
    }

    /// Paths that somebody watches.
    pub fn paths(&self) -> usize {
        self.paths.used
    }

    /// Sum of the lengths of those paths.
    pub fn path_bytes(&self) -> usize {
        self.path_bytes
    }

    /// Connections that watch something.
    pub fn connections(&self) -> usize {
        self.conns.used
    }

    /// Whether this watch is there.
    pub fn contains(&self, kind: WatchKind, path: &str, conn: ConnId) -> bool {
        let Some(path) = self.find_path(hash_of_path(&self.hasher, path), path) else { return false };
        let Some(conn) = self.find_conn(conn) else { return false };
        let hash = hash_of_entry(&self.hasher, kind, path, conn);
        let same = |id| {
            let entry = &self.entries[id];
            (entry.kind, entry.path, entry.conn) == (kind, path, conn)
        };
        self.entry_index.find(hash, same).is_some()
    }

    /// Takes an entry out of pool and index. Its neighbours are the caller's to mend.
    fn take(&mut self, id: u32) -> Entry {
        let entry = self.entries.remove(id);
        let hash = hash_of_entry(&self.hasher, entry.kind, entry.path, entry.conn);
        let removed = self.entry_index.remove(hash, |other| other == id);
        assert!(removed.is_some(), "a watch of connection {} was not in the index", self.conns[entry.conn].conn.0);
        self.counts[entry.kind as usize] -= 1;
        entry
    }

    fn unlink_from_conn(&mut self, entry: &Entry) {
        match entry.conn_prev {
            NONE => self.conns[entry.conn].first = entry.conn_next,
            prev => self.entries[prev].conn_next = entry.conn_next,
        }
        if entry.conn_next != NONE {
            self.entries[entry.conn_next].conn_prev = entry.conn_prev;
        }
        self.release_conn_if_idle(entry.conn);
    }

    fn unlink_from_path(&mut self, entry: &Entry) {
        match entry.path_prev {
            NONE => self.paths[entry.path].first[entry.kind as usize] = entry.path_next,
            prev => self.entries[prev].path_next = entry.path_next,
        }
        if entry.path_next != NONE {
            self.entries[entry.path_next].path_prev = entry.path_prev;
        }
    }

    fn find_path(&self, hash: u64, path: &str) -> Option<u32> {
        self.path_index.find(hash, |id| {
            let slot = &self.paths[id];
            slot.hash == hash && slot.path == path
        })
    }

    fn path_slot(&mut self, path: &str) -> u32 {
        let hash = hash_of_path(&self.hasher, path);
        if let Some(known) = self.find_path(hash, path) {
            return known;
        }
        let size = path.len().max(SPARE_PATH_BYTES_MIN).next_power_of_two();
        let mut text = match self.spare_paths.get_mut(size_index(size)).and_then(Vec::pop) {
            Some(spare) => spare,
            // What will not be kept need not be rounded up.
            None if SPARE_PATH_BYTES_MAX < size => String::with_capacity(path.len()),
            None => String::with_capacity(size),
        };
        text.push_str(path);
        self.path_bytes += path.len();
        let id = self.paths.insert(PathSlot { path: text, hash, first: [NONE; 2] });
        self.path_index.insert(hash, id, |id| self.paths[id].hash);
        id
    }

    fn release_path_if_unwatched(&mut self, path: u32) {
        if self.paths[path].first != [NONE; 2] {
            return;
        }
        let slot = self.paths.remove(path);
        self.path_index.remove(slot.hash, |id| id == path);
        self.path_bytes -= slot.path.len();
        let mut text = slot.path;
        let size = text.len().max(SPARE_PATH_BYTES_MIN).next_power_of_two();
        if let Some(spare) = self.spare_paths.get_mut(size_index(size))
            && spare.len() < SPARE_PATHS_MAX
        {
            text.clear();
            spare.push(text);
        }
    }

    fn find_conn(&self, conn: ConnId) -> Option<u32> {
        self.conn_index.find(hash_of_conn(&self.hasher, conn), |id| self.conns[id].conn == conn)
    }

    fn conn_slot(&mut self, conn: ConnId) -> u32 {
        if let Some(known) = self.find_conn(conn) {
            return known;
        }
        let id = self.conns.insert(ConnSlot { conn, first: NONE, selected_by: 0 });
        let hash = hash_of_conn(&self.hasher, conn);
        self.conn_index.insert(hash, id, |id| hash_of_conn(&self.hasher, self.conns[id].conn));
        id
    }

    fn release_conn_if_idle(&mut self, conn: u32) {
        if self.conns[conn].first == NONE {
            let slot = self.conns.remove(conn);
            self.conn_index.remove(hash_of_conn(&self.hasher, slot.conn), |id| id == conn);
        }
    }
}

impl std::fmt::Debug for WatchTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (watches, paths, connections) = (self.len(), self.paths(), self.connections());
        write!(f, "WatchTable({watches} watches, {paths} paths, {connections} connections)")
    }
}

fn hash_of_entry(hasher: &FixedState, kind: WatchKind, path: u32, conn: u32) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u64(u64::from(path) << 32 | u64::from(conn));
    hasher.write_u8(kind as u8);
    hasher.finish()
}

fn hash_of_conn(hasher: &FixedState, conn: ConnId) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(conn.0);
    hasher.finish()
}

/// What one worker may watch: a counting filter that the replica asks before it tells the worker of a change.
///
/// Never a false no. Every watch, from before its registering read lets go of the gate until it is consumed or
/// forgotten, is counted; paths that share a counter make a false yes, which costs a message and nothing else.
///
/// All accesses are `Relaxed`. What must be seen is a raise, by the transactions that are applied after the read that
/// raised; the read holds the gate for reading, the transaction for writing, and handing the gate over orders the two.
/// (A read that the replica itself executes raises on the thread that asks.) A lowering that is seen late is a false
/// yes. Raise and lower are single read-modify-writes, so worker and replica, which both raise, lose none of each
/// other's.
#[derive(Debug)]
pub struct Interest {
    hasher: FixedState,
    /// The watches counted, so that a worker nobody uses for watching costs one look.
    total: AtomicU32,
    /// By kind and hash of the path.
    counters: Box<[AtomicU32]>,
}

impl Interest {
    /// A worker that watches nothing. The hashes follow from `seed`, so that nobody outside can choose paths that
    /// collide.
    pub fn new(seed: u64) -> Interest {
        Interest {
            hasher: FixedState::with_seed(seed),
            total: AtomicU32::new(0),
            counters: (0..INTEREST_COUNTERS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Counts one watch. The caller still holds the gate under which the watched state was read.
    pub fn raise(&self, kind: WatchKind, path: &str) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let before = self.counter(kind, path).fetch_add(1, Ordering::Relaxed);
        assert!(before != u32::MAX, "more than 2^32 watches are counted in one place");
    }

    /// Takes one watch back that was raised: it was forgotten, was there already, or its connection is gone by now.
    pub fn lower(&self, kind: WatchKind, path: &str) {
        self.lower_by(kind, path, 1);
    }

    /// Takes back the watches that a change of `path` has consumed.
    pub fn lower_consumed(&self, path: &str, consumed: Consumed) {
        self.lower_by(WatchKind::Data, path, consumed.data);
        self.lower_by(WatchKind::Child, path, consumed.child);
        if let Some(parent) = parent(path) {
            self.lower_by(WatchKind::Child, parent, consumed.parent_child);
        }
    }

    /// Whether this change may fire a watch of the worker. The caller holds the gate for writing.
    pub fn may_watch(&self, change: Change, path: &str) -> bool {
        if self.total.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let watched = |kind, path| self.counter(kind, path).load(Ordering::Relaxed) != 0;
        let parent_watched = || parent(path).is_some_and(|parent| watched(WatchKind::Child, parent));
        match change {
            Change::Created => watched(WatchKind::Data, path) || parent_watched(),
            Change::Deleted => watched(WatchKind::Data, path) || watched(WatchKind::Child, path) || parent_watched(),
            Change::DataChanged => watched(WatchKind::Data, path),
        }
    }

    /// Watches counted, those on their way to the worker included.
    pub fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    fn lower_by(&self, kind: WatchKind, path: &str, count: u32) {
        if count == 0 {
            return;
        }
        let before = self.counter(kind, path).fetch_sub(count, Ordering::Relaxed);
        // A counter below zero would let a later watch look like none.
        assert!(count <= before, "interest in {path} was lowered by {count} from {before}");
        self.total.fetch_sub(count, Ordering::Relaxed);
    }

    fn counter(&self, kind: WatchKind, path: &str) -> &AtomicU32 {
        const HALF: usize = INTEREST_COUNTERS / 2;
        let index = hash_of_path(&self.hasher, path) as usize & (HALF - 1);
        &self.counters[kind as usize * HALF + index]
    }
}

/// Values by number, in chunks that never move; a number that was given back is handed out again first.
struct Pool<T> {
    chunks: Vec<Vec<Place<T>>>,
    /// First of the places given back.
    free: u32,
    /// Numbers from here on were not handed out since the pool was last emptied.
    fresh: u32,
    used: usize,
}

enum Place<T> {
    Free { next: u32 },
    Used(T),
}

impl<T> Pool<T> {
    fn new() -> Pool<T> {
        Pool { chunks: Vec::new(), free: NONE, fresh: 0, used: 0 }
    }

    fn insert(&mut self, value: T) -> u32 {
        self.used += 1;
        if self.free != NONE {
            let id = self.free;
            let place = self.place(id);
            let Place::Free { next } = *place else { unreachable!("place {id} is in use and listed as free") };
            *place = Place::Used(value);
            self.free = next;
            return id;
        }
        let id = self.fresh;
        assert!(id != NONE, "a pool has handed out all its numbers");
        let chunk = id as usize / POOL_CHUNK_ENTRIES;
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(POOL_CHUNK_ENTRIES));
        }
        self.chunks[chunk].push(Place::Used(value));
        self.fresh += 1;
        id
    }

    fn remove(&mut self, id: u32) -> T {
        let next = self.free;
        let Place::Used(value) = std::mem::replace(self.place(id), Place::Free { next }) else {
            unreachable!("place {id} was given back twice")
        };
        self.free = id;
        self.used -= 1;
        if self.used == 0 && POOL_CHUNKS_KEPT < self.chunks.len() {
            // A crowd has left: keep what an ordinary day needs.
            self.chunks.truncate(POOL_CHUNKS_KEPT);
            self.chunks.iter_mut().for_each(Vec::clear);
            self.free = NONE;
            self.fresh = 0;
        }
        value
    }

    fn place(&mut self, id: u32) -> &mut Place<T> {
        &mut self.chunks[id as usize / POOL_CHUNK_ENTRIES][id as usize % POOL_CHUNK_ENTRIES]
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        match &self.chunks[id as usize / POOL_CHUNK_ENTRIES][id as usize % POOL_CHUNK_ENTRIES] {
            Place::Used(value) => value,
            Place::Free { .. } => unreachable!("place {id} is not in use"),
        }
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        match self.place(id) {
            Place::Used(value) => value,
            Place::Free { .. } => unreachable!("place {id} is not in use"),
        }
    }
}

#[cfg(test)]
// By its path, so that the models can compile this file from elsewhere.
#[path = "watch/tests.rs"]
mod tests;
