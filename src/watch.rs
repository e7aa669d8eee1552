//! The watches of one worker's connections, and what the replica knows about them.
//!
//! [`WatchTable`] belongs to one worker alone: who watches what, and whom a change concerns. Guarantees: a one-shot watch
//! fires at most once; one change gives one connection at most one event per trigger; a connection that ends leaves
//! nothing behind; no change fires a watch that was registered when the change could be read already; what all watches
//! cost stays within a bound, and no connection can use it up for the others. [`Interest`] is the only part that two
//! threads see: it lets the replica keep silent about changes that nobody behind a worker watches.
//!
//! Refuses to know: znodes, permissions, sockets, and how an event is written. It is told of applied changes, never of
//! requests, so a multi that fails fires nothing.
//!
//! | registered by | kind | stands in |
//! |---|---|---|
//! | getData; exists, whether the znode is there or not; setWatches data and exist | data, one-shot | data table |
//! | getChildren, getChildren2; setWatches child | child, one-shot | child table |
//! | addWatch 0; setWatches2 persistent | persistent | data and child table |
//! | addWatch 1; setWatches2 persistent recursive | recursive | data table |
//!
//! | change of a znode | 1st trigger | 2nd trigger | 3rd trigger |
//! |---|---|---|---|
//! | created | data, NodeCreated | | child of the parent, NodeChildrenChanged |
//! | deleted | data, NodeDeleted | child, NodeDeleted, if not told yet | child of the parent, NodeChildrenChanged |
//! | data changed | data, NodeDataChanged | | |
//!
//! A trigger of the data table concerns who stands there with the znode's path, and who stands there recursively with
//! the path of an ancestor. It costs time in proportion to the length of the path and to those it finds; as long as
//! nobody watches recursively, ancestors are not looked at.
//!
//! One entry is one connection at one path in one table; what the connection asked for there is a set of modes. Entries
//! and paths and connections lie in pools of fixed chunks, and what was used once is used again without asking the
//! allocator. One step grows: forgetting a connection, with its own watches.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use zorilla_proto::client::{AddWatchMode, EventType, WatcherKind};
use zorilla_proto::ids::Zxid;

use crate::limits::{
    INTEREST_COUNTERS, INTEREST_RECURSIVE_COUNTERS, SPARE_PATH_BYTES_MAX, SPARE_PATH_BYTES_MIN, SPARE_PATHS_MAX,
    WATCH_BYTES_CONNECTION_MAX, WATCH_BYTES_FAIR, WATCH_BYTES_WORKER_MAX,
};
use crate::sync::{AtomicU32, Ordering};
use crate::table::StepTable;

// By its path, as the tests below.
#[path = "watch/pool.rs"]
mod pool;
use pool::{NONE, Place, Pool};

/// Sizes of path buffers that are kept.
const PATH_SIZES: usize = (SPARE_PATH_BYTES_MAX / SPARE_PATH_BYTES_MIN).ilog2() as usize + 1;

/// What a value of a [`StepTable`] costs: pages of 2 KiB hold about 200 of them.
const INDEX_BYTES: usize = 12;
/// What one entry costs: a place in the pool and one in the index.
const ENTRY_BYTES: usize = size_of::<Place<Entry>>() + INDEX_BYTES;
/// What one path costs beside its text: a place in the pool and one in each of two indexes.
const PATH_BYTES: usize = size_of::<Place<PathSlot>>() + 2 * INDEX_BYTES;
/// What one connection costs that watches something.
const CONN_BYTES: usize = size_of::<Place<ConnSlot>>() + INDEX_BYTES;
// As `limits` says.
const _: () = assert!(ENTRY_BYTES == 52 && PATH_BYTES == 80 && CONN_BYTES == 52);

// One half for each table, and the halves are indexed by a mask.
const _: () = assert!(INTEREST_COUNTERS.is_power_of_two() && 2 <= INTEREST_COUNTERS);
const _: () = assert!(INTEREST_RECURSIVE_COUNTERS.is_power_of_two());
const _: () = assert!(SPARE_PATH_BYTES_MIN << (PATH_SIZES - 1) == SPARE_PATH_BYTES_MAX);
// What the pool keeps covers what the spare paths of one size can serve.
const _: () = assert!(SPARE_PATHS_MAX <= pool::KEPT_VALUES);
// No counter of interest can overflow, and no pool can run out of numbers.
const _: () = assert!((WATCH_BYTES_WORKER_MAX / ENTRY_BYTES) < (u32::MAX / 4) as usize);

/// One connection of one worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u32);

/// What one registration asks for. A connection may hold every kind on one path at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WatchKind {
    /// The next change of the znode itself: that it appears, changes its data, or goes.
    Data,
    /// The next change of its list of children, or that it goes.
    Child,
    /// All of these, again and again.
    Persistent,
    /// That it or any znode below appears, changes its data, or goes, again and again.
    Recursive,
}

impl WatchKind {
    /// Every kind.
    pub const ALL: [WatchKind; 4] = [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];

    /// The tables in which it stands, and as what.
    const fn parts(self) -> &'static [(Table, Modes)] {
        match self {
            WatchKind::Data => &[(Table::Data, Modes::STANDARD)],
            WatchKind::Child => &[(Table::Child, Modes::STANDARD)],
            WatchKind::Persistent => &[(Table::Data, Modes::PERSISTENT), (Table::Child, Modes::PERSISTENT)],
            WatchKind::Recursive => &[(Table::Data, Modes::RECURSIVE)],
        }
    }

    /// Whether checkWatches and removeWatches mean it when they ask for `asked`.
    pub const fn is_meant_by(self, asked: WatcherKind) -> bool {
        match asked {
            WatcherKind::Any => true,
            WatcherKind::Data => matches!(self, WatchKind::Data),
            WatcherKind::Children => matches!(self, WatchKind::Child),
            WatcherKind::Persistent => matches!(self, WatchKind::Persistent),
            WatcherKind::PersistentRecursive => matches!(self, WatchKind::Recursive),
        }
    }
}

impl From<AddWatchMode> for WatchKind {
    fn from(mode: AddWatchMode) -> WatchKind {
        match mode {
            AddWatchMode::Persistent => WatchKind::Persistent,
            AddWatchMode::PersistentRecursive => WatchKind::Recursive,
        }
    }
}

/// What became of a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "interest follows what was registered, and a client must not wait for a watch that was refused"]
pub enum Added {
    /// It is new: the worker's [`Interest`] counts it.
    New,
    /// The connection had it already. It is not counted a second time.
    Known,
    /// Nothing was registered: the connection, or all of the worker, watches as much as the limits allow
    /// ([`WATCH_BYTES_CONNECTION_MAX`], [`WATCH_BYTES_WORKER_MAX`]).
    Refused,
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

/// The one-shot watches that one change used up, those that gave no event included. The worker's [`Interest`] is to be
/// lowered by them: [`Interest::lower_consumed`].
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

/// One of the two tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Table {
    Data,
    Child,
}

/// What one connection asked for at one path in one table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Modes(u8);

impl Modes {
    /// To be told once.
    const STANDARD: Modes = Modes(1);
    /// To be told again and again.
    const PERSISTENT: Modes = Modes(2);
    /// The same, also about everything below.
    const RECURSIVE: Modes = Modes(4);

    const fn has(self, mode: Modes) -> bool {
        self.0 & mode.0 == mode.0
    }

    const fn with(self, mode: Modes) -> Modes {
        Modes(self.0 | mode.0)
    }

    const fn without(self, mode: Modes) -> Modes {
        Modes(self.0 & !mode.0)
    }
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

/// Where the root, every other ancestor of a znode, and the znode itself end in its path, each with its hash, from the
/// top down and in one pass; nothing for the empty path, which no znode has. (The hashes are those of
/// [`hash_of_subtree`], not of [`hash_of_path`].)
fn subtrees_around(hasher: &FixedState, path: &str) -> impl Iterator<Item = (usize, u64)> {
    let root = (path.starts_with('/') && path != "/").then(|| (1, hash_of_path(hasher, "/")));
    let mut hasher = hasher.build_hasher();
    let mut end = 0;
    root.into_iter().chain(std::iter::from_fn(move || {
        let rest = path.as_bytes()[end..].split_first()?.1;
        let begin = end;
        end += 1 + rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        hasher.write(&path.as_bytes()[begin..end]);
        Some((end, hasher.finish()))
    }))
}

/// The hash of a path that is watched recursively, so made that one pass over a path gives those of all its ancestors.
fn hash_of_subtree(hasher: &FixedState, path: &str) -> u64 {
    subtrees_around(hasher, path).last().map_or(0, |(_, hash)| hash)
}

/// The entries of a path stand in three lists. Those of the data table are parted, so that a change far below does not
/// walk over all who watch the znode alone.
const LISTS: usize = 3;
const LIST_DATA: usize = 0;
const LIST_CHILD: usize = 1;
const LIST_RECURSIVE: usize = 2;

/// One connection at one path in one table.
struct Entry {
    /// Neighbours in the list of the path.
    path_next: u32,
    path_prev: u32,
    /// Neighbours among the entries of the same connection.
    conn_next: u32,
    conn_prev: u32,
    path: u32,
    conn: u32,
    /// The newest state that a registering read has seen.
    at: Zxid,
    table: Table,
    /// Never empty.
    modes: Modes,
}

// The table leaves room for the pool's mark of a free place, so marking costs no memory.
const _: () = assert!(size_of::<Place<Entry>>() == 40);

impl Entry {
    /// The list of its path in which it stands.
    fn list(&self) -> usize {
        match self.table {
            Table::Child => LIST_CHILD,
            Table::Data if self.modes.has(Modes::RECURSIVE) => LIST_RECURSIVE,
            Table::Data => LIST_DATA,
        }
    }
}

/// A path that somebody watches.
struct PathSlot {
    path: String,
    hash: u64,
    /// [`hash_of_subtree`], if somebody watches recursively.
    subtree_hash: u64,
    /// First entry by list.
    first: [u32; LISTS],
}

impl PathSlot {
    fn is_in_data_table(&self) -> bool {
        self.first[LIST_DATA] != NONE || self.first[LIST_RECURSIVE] != NONE
    }
}

/// A connection that watches something.
struct ConnSlot {
    conn: ConnId,
    first: u32,
    /// The last trigger that selected it.
    selected_by: u64,
    /// What its watches would cost if nobody shared their paths.
    bytes: usize,
    /// Its entries in the data table.
    data_entries: u32,
}

/// Bounds of a table, in bytes: see `limits`.
struct Bounds {
    worker: usize,
    connection: usize,
    fair: usize,
}

/// The watches of one worker's connections.
///
/// Invariants: an entry stands in exactly one list of its path, in the list of its connection, and in the index of
/// entries; no two entries share table, path and connection; a path or connection is here exactly while it has an
/// entry; a path is in the index of subtrees exactly while somebody watches it recursively; who is persistent in one
/// table is so in the other.
pub struct WatchTable {
    hasher: FixedState,
    bounds: Bounds,
    entries: Pool<Entry>,
    paths: Pool<PathSlot>,
    conns: Pool<ConnSlot>,
    entry_index: StepTable,
    path_index: StepTable,
    conn_index: StepTable,
    subtree_index: StepTable,
    /// Entries by table.
    counts: [usize; 2],
    /// Paths and connections that have entries in the data table.
    data_paths: usize,
    data_connections: usize,
    /// What the texts of the paths take.
    text_bytes: usize,
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
            bounds: Bounds {
                worker: WATCH_BYTES_WORKER_MAX,
                connection: WATCH_BYTES_CONNECTION_MAX,
                fair: WATCH_BYTES_FAIR,
            },
            entries: Pool::new(),
            paths: Pool::new(),
            conns: Pool::new(),
            entry_index: StepTable::default(),
            path_index: StepTable::default(),
            conn_index: StepTable::default(),
            subtree_index: StepTable::default(),
            counts: [0; 2],
            data_paths: 0,
            data_connections: 0,
            text_bytes: 0,
            spare_paths: Default::default(),
            trigger: 0,
        }
    }

    /// Leaves a watch of `conn` on exactly this path, on behalf of a read that has seen the state `at`. The znode need
    /// not exist.
    ///
    /// The worker's [`Interest`] is raised once for each new watch, before the read lets go of the gate. A watch that
    /// was there already changes nothing but its age.
    pub fn add(&mut self, kind: WatchKind, path: &str, conn: ConnId, at: Zxid) -> Added {
        let hash = hash_of_path(&self.hasher, path);
        let (path_id, conn_id) = (self.find_path(hash, path), self.find_conn(conn));
        let mut entries = [None; 2];
        let (mut missing, mut is_known) = (0, true);
        for (&(table, mode), entry) in kind.parts().iter().zip(&mut entries) {
            *entry = path_id.zip(conn_id).and_then(|(path, conn)| self.find_entry(table, path, conn));
            missing += usize::from(entry.is_none());
            is_known &= entry.is_some_and(|id| self.entries[id].modes.has(mode));
        }
        if 0 < missing && !self.has_room(missing, path, path_id, conn_id) {
            return Added::Refused;
        }

        let path_id = path_id.unwrap_or_else(|| self.insert_path(hash, path));
        let conn_id = conn_id.unwrap_or_else(|| self.insert_conn(conn));
        for (&(table, mode), entry) in kind.parts().iter().zip(entries) {
            match entry {
                Some(id) => {
                    let entry = &mut self.entries[id];
                    entry.at = entry.at.max(at);
                    let modes = entry.modes.with(mode);
                    self.set_modes(id, modes);
                }
                None => self.insert_entry(table, mode, path_id, conn_id, at),
            }
        }
        if is_known { Added::Known } else { Added::New }
    }

    /// Whether so many new entries of a connection at one path fit the bounds.
    fn has_room(&self, entries: usize, path: &str, path_id: Option<u32>, conn_id: Option<u32>) -> bool {
        let of_conn = conn_id.map_or(CONN_BYTES, |id| self.conns[id].bytes) + entries * (ENTRY_BYTES + path.len());
        let of_path = path_id.map_or(PATH_BYTES + path.len().max(SPARE_PATH_BYTES_MIN).next_power_of_two(), |_| 0);
        let of_worker = self.memory_bytes() + CONN_BYTES + of_path + entries * ENTRY_BYTES;
        of_conn <= self.bounds.fair || of_conn <= self.bounds.connection && of_worker <= self.bounds.worker
    }

    /// Fires every trigger of one applied change, in the order of the module's table, and appends who is to hear what.
    /// The one-shot watches that match are used up, also those of a connection that hears of the deletion through
    /// another.
    ///
    /// A change that fires a watch is newer than its registration: the workers answer reads only when they have been
    /// told everything that those reads can see. That is asserted.
    pub fn fire(&mut self, change: Change, path: &str, zxid: Zxid, fired: &mut Vec<Fired>) -> Consumed {
        let mut consumed = Consumed::default();
        if self.is_empty() {
            return consumed;
        }
        let event = match change {
            Change::Created => EventType::NodeCreated,
            Change::Deleted => EventType::NodeDeleted,
            Change::DataChanged => EventType::NodeDataChanged,
        };
        self.trigger += 1;
        let mut firing = Firing { zxid, event, on_parent: false, fired };
        let of_znode = self.find_path(hash_of_path(&self.hasher, path), path);
        if let Some(id) = of_znode {
            consumed.data =
                self.fire_list(id, LIST_DATA, &mut firing) + self.fire_list(id, LIST_RECURSIVE, &mut firing);
        }
        if !self.subtree_index.is_empty() {
            self.fire_ancestors(path, &mut firing);
        }
        if let Some(id) = of_znode {
            // The same number of the trigger: who heard of the deletion above does not hear of it again.
            if change == Change::Deleted {
                consumed.child = self.fire_list(id, LIST_CHILD, &mut firing);
            }
            self.release_path_if_unwatched(id);
        }

        if change != Change::DataChanged
            && let Some(parent) = parent(path)
            && let Some(id) = self.find_path(hash_of_path(&self.hasher, parent), parent)
        {
            self.trigger += 1;
            (firing.event, firing.on_parent) = (EventType::NodeChildrenChanged, true);
            consumed.parent_child = self.fire_list(id, LIST_CHILD, &mut firing);
            self.release_path_if_unwatched(id);
        }
        consumed
    }

    /// Selects the connections of one list and uses up its one-shot watches. Returns how many there were. The path
    /// may be left without any entry.
    fn fire_list(&mut self, path: u32, list: usize, firing: &mut Firing<'_>) -> u32 {
        let mut consumed = 0;
        let mut next = self.paths[path].first[list];
        while next != NONE {
            let id = next;
            self.select(id, firing);
            let entry = &self.entries[id];
            next = entry.path_next;
            if entry.modes.has(Modes::STANDARD) {
                self.set_modes(id, entry.modes.without(Modes::STANDARD));
                consumed += 1;
            }
        }
        consumed
    }

    /// Selects who watches an ancestor of the path recursively.
    fn fire_ancestors(&mut self, path: &str, firing: &mut Firing<'_>) {
        let hasher = self.hasher.clone();
        for (end, hash) in subtrees_around(&hasher, path) {
            if end == path.len() {
                break;
            }
            let ancestor = &path[..end];
            let id = self.subtree_index.find(hash, |id| {
                let slot = &self.paths[id];
                slot.subtree_hash == hash && slot.path == ancestor
            });
            let mut next = id.map_or(NONE, |id| self.paths[id].first[LIST_RECURSIVE]);
            while next != NONE {
                self.select(next, firing);
                next = self.entries[next].path_next;
            }
        }
    }

    /// The connection of this entry is to hear of it, unless it does already.
    fn select(&mut self, id: u32, firing: &mut Firing<'_>) {
        let entry = &self.entries[id];
        assert!(
            entry.at < firing.zxid,
            "the change {} fired a watch of {} that was registered at {}",
            firing.zxid,
            self.paths[entry.path].path,
            entry.at
        );
        let conn = &mut self.conns[entry.conn];
        if conn.selected_by != self.trigger {
            conn.selected_by = self.trigger;
            firing.fired.push(Fired { conn: conn.conn, event: firing.event, on_parent: firing.on_parent });
        }
    }

    /// Removes the watches of a connection on exactly this path that a removeWatches means, and names each: the
    /// worker's interest is to be lowered by them. `false`: there was none.
    pub fn remove(&mut self, asked: WatcherKind, path: &str, conn: ConnId, removed: &mut dyn FnMut(WatchKind)) -> bool {
        let Some(path) = self.find_path(hash_of_path(&self.hasher, path), path) else { return false };
        let Some(conn) = self.find_conn(conn) else { return false };
        let mut any = false;
        for kind in WatchKind::ALL.into_iter().filter(|kind| kind.is_meant_by(asked)) {
            let mut found = false;
            for &(table, mode) in kind.parts() {
                if let Some(id) = self.find_entry(table, path, conn)
                    && self.entries[id].modes.has(mode)
                {
                    self.set_modes(id, self.entries[id].modes.without(mode));
                    found = true;
                }
            }
            if found {
                removed(kind);
                any = true;
            }
        }
        if any {
            self.release_path_if_unwatched(path);
        }
        any
    }

    /// Whether a connection has a watch on exactly this path that a checkWatches means.
    pub fn has(&self, asked: WatcherKind, path: &str, conn: ConnId) -> bool {
        let Some(path) = self.find_path(hash_of_path(&self.hasher, path), path) else { return false };
        let Some(conn) = self.find_conn(conn) else { return false };
        let stands = |&(table, mode): &(Table, Modes)| {
            self.find_entry(table, path, conn).is_some_and(|id| self.entries[id].modes.has(mode))
        };
        WatchKind::ALL.into_iter().any(|kind| kind.is_meant_by(asked) && kind.parts().iter().all(stands))
    }

    /// Removes every watch of a connection that has ended and names each: the worker's interest is to be lowered by
    /// them.
    pub fn forget(&mut self, conn: ConnId, removed: &mut dyn FnMut(WatchKind, &str)) {
        let Some(conn) = self.find_conn(conn) else { return };
        let mut next = self.conns[conn].first;
        while next != NONE {
            let entry = &self.entries[next];
            let (id, path) = (next, entry.path);
            next = entry.conn_next;
            for kind in WatchKind::ALL {
                // What stands in two tables is named once.
                let (table, mode) = kind.parts()[0];
                if table == entry.table && entry.modes.has(mode) {
                    removed(kind, &self.paths[path].path);
                }
            }
            self.remove_entry(id);
            self.release_path_if_unwatched(path);
        }
    }

    /// Entries of both tables, as ZooKeeper's `watch_count` counts: all that one connection asked for at one path
    /// in one table is one.
    pub fn len(&self) -> usize {
        self.entries.used
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.entries.used == 0
    }

    /// Entries of the data table, which are all that `wchs` counts.
    pub fn data_watches(&self) -> usize {
        self.counts[Table::Data as usize]
    }

    /// Entries of the child table.
    pub fn child_watches(&self) -> usize {
        self.counts[Table::Child as usize]
    }

    /// Paths that have entries in the data table.
    pub fn data_paths(&self) -> usize {
        self.data_paths
    }

    /// Connections that have entries in the data table.
    pub fn data_connections(&self) -> usize {
        self.data_connections
    }

    /// Paths that somebody watches.
    pub fn paths(&self) -> usize {
        self.paths.used
    }

    /// Connections that watch something.
    pub fn connections(&self) -> usize {
        self.conns.used
    }

    /// What all watches cost, in bytes: what is held against [`WATCH_BYTES_WORKER_MAX`].
    pub fn memory_bytes(&self) -> usize {
        self.entries.used * ENTRY_BYTES + self.paths.used * PATH_BYTES + self.conns.used * CONN_BYTES + self.text_bytes
    }

    fn find_entry(&self, table: Table, path: u32, conn: u32) -> Option<u32> {
        self.entry_index.find(hash_of_entry(&self.hasher, table, path, conn), |id| {
            let entry = &self.entries[id];
            (entry.table, entry.path, entry.conn) == (table, path, conn)
        })
    }

    fn insert_entry(&mut self, table: Table, modes: Modes, path: u32, conn: u32, at: Zxid) {
        let slot = &mut self.conns[conn];
        let conn_next = slot.first;
        let entry =
            Entry { path_next: NONE, path_prev: NONE, conn_next, conn_prev: NONE, path, conn, at, table, modes };
        let id = self.entries.insert(entry);
        slot.first = id;
        slot.bytes += ENTRY_BYTES + self.paths[path].path.len();
        if table == Table::Data {
            slot.data_entries += 1;
            self.data_connections += usize::from(slot.data_entries == 1);
        }
        if conn_next != NONE {
            self.entries[conn_next].conn_prev = id;
        }
        self.link_to_path(id);
        self.entry_index.insert(hash_of_entry(&self.hasher, table, path, conn), id, |id| {
            let entry = &self.entries[id];
            hash_of_entry(&self.hasher, entry.table, entry.path, entry.conn)
        });
        self.counts[table as usize] += 1;
    }

    /// Takes an entry out of all lists and indexes. Its connection goes with its last entry; its path is the caller's
    /// to release.
    fn remove_entry(&mut self, id: u32) {
        self.unlink_from_path(id);
        let entry = self.entries.remove(id);
        let hash = hash_of_entry(&self.hasher, entry.table, entry.path, entry.conn);
        let removed = self.entry_index.remove(hash, |other| other == id);
        assert!(removed.is_some(), "a watch of connection {} was not in the index", self.conns[entry.conn].conn.0);
        self.counts[entry.table as usize] -= 1;

        if entry.conn_next != NONE {
            self.entries[entry.conn_next].conn_prev = entry.conn_prev;
        }
        let slot = &mut self.conns[entry.conn];
        match entry.conn_prev {
            NONE => slot.first = entry.conn_next,
            prev => self.entries[prev].conn_next = entry.conn_next,
        }
        slot.bytes -= ENTRY_BYTES + self.paths[entry.path].path.len();
        if entry.table == Table::Data {
            slot.data_entries -= 1;
            self.data_connections -= usize::from(slot.data_entries == 0);
        }
        if slot.first == NONE {
            let slot = self.conns.remove(entry.conn);
            self.conn_index.remove(hash_of_conn(&self.hasher, slot.conn), |id| id == entry.conn);
        }
    }

    /// Changes what an entry asks for; nothing at all removes it.
    fn set_modes(&mut self, id: u32, modes: Modes) {
        let before = self.entries[id].modes;
        if modes == Modes(0) {
            self.remove_entry(id);
        } else if before.has(Modes::RECURSIVE) == modes.has(Modes::RECURSIVE) {
            self.entries[id].modes = modes;
        } else {
            self.unlink_from_path(id);
            self.entries[id].modes = modes;
            self.link_to_path(id);
        }
    }

    /// Puts an entry at the head of the list that its modes say.
    fn link_to_path(&mut self, id: u32) {
        let entry = &self.entries[id];
        let (path, list, table) = (entry.path, entry.list(), entry.table);
        let slot = &mut self.paths[path];
        if table == Table::Data && !slot.is_in_data_table() {
            self.data_paths += 1;
        }
        let next = std::mem::replace(&mut slot.first[list], id);
        let entry = &mut self.entries[id];
        (entry.path_prev, entry.path_next) = (NONE, next);
        if next != NONE {
            self.entries[next].path_prev = id;
        } else if list == LIST_RECURSIVE {
            let hash = hash_of_subtree(&self.hasher, &self.paths[path].path);
            self.paths[path].subtree_hash = hash;
            self.subtree_index.insert(hash, path, |id| self.paths[id].subtree_hash);
        }
    }

    fn unlink_from_path(&mut self, id: u32) {
        let entry = &self.entries[id];
        let (path, list, prev, next) = (entry.path, entry.list(), entry.path_prev, entry.path_next);
        let table = entry.table;
        if next != NONE {
            self.entries[next].path_prev = prev;
        }
        if prev != NONE {
            self.entries[prev].path_next = next;
            return;
        }
        let slot = &mut self.paths[path];
        slot.first[list] = next;
        if table == Table::Data && !slot.is_in_data_table() {
            self.data_paths -= 1;
        }
        if list == LIST_RECURSIVE && next == NONE {
            let removed = self.subtree_index.remove(slot.subtree_hash, |id| id == path);
            assert!(removed.is_some(), "{} was not in the index of subtrees", self.paths[path].path);
        }
    }

    fn find_path(&self, hash: u64, path: &str) -> Option<u32> {
        self.path_index.find(hash, |id| {
            let slot = &self.paths[id];
            slot.hash == hash && slot.path == path
        })
    }

    fn insert_path(&mut self, hash: u64, path: &str) -> u32 {
        let size = path.len().max(SPARE_PATH_BYTES_MIN).next_power_of_two();
        let mut text = match self.spare_paths.get_mut(size_index(size)).and_then(Vec::pop) {
            Some(spare) => spare,
            // What will not be kept need not be rounded up.
            None if SPARE_PATH_BYTES_MAX < size => String::with_capacity(path.len()),
            None => String::with_capacity(size),
        };
        text.push_str(path);
        self.text_bytes += text.capacity();
        let id = self.paths.insert(PathSlot { path: text, hash, subtree_hash: 0, first: [NONE; LISTS] });
        self.path_index.insert(hash, id, |id| self.paths[id].hash);
        id
    }

    fn release_path_if_unwatched(&mut self, path: u32) {
        if self.paths[path].first != [NONE; LISTS] {
            return;
        }
        let slot = self.paths.remove(path);
        self.path_index.remove(slot.hash, |id| id == path);
        self.text_bytes -= slot.path.capacity();
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

    fn insert_conn(&mut self, conn: ConnId) -> u32 {
        let slot = ConnSlot { conn, first: NONE, selected_by: 0, bytes: CONN_BYTES, data_entries: 0 };
        let id = self.conns.insert(slot);
        let hash = hash_of_conn(&self.hasher, conn);
        self.conn_index.insert(hash, id, |id| hash_of_conn(&self.hasher, self.conns[id].conn));
        id
    }
}

/// What one trigger says, and who hears it.
struct Firing<'f> {
    zxid: Zxid,
    event: EventType,
    on_parent: bool,
    fired: &'f mut Vec<Fired>,
}

impl std::fmt::Debug for WatchTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (watches, paths, connections) = (self.len(), self.paths(), self.connections());
        write!(f, "WatchTable({watches} watches, {paths} paths, {connections} connections)")
    }
}

fn hash_of_entry(hasher: &FixedState, table: Table, path: u32, conn: u32) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u64(u64::from(path) << 32 | u64::from(conn));
    hasher.write_u8(table as u8);
    hasher.finish()
}

fn hash_of_conn(hasher: &FixedState, conn: ConnId) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(conn.0);
    hasher.finish()
}

/// What one worker may watch: a counting filter that the replica asks before it tells the worker of a change.
///
/// Never a false no. Every watch, from before its registering read lets go of the gate until it is consumed, removed or
/// forgotten, is counted; paths that share a counter make a false yes, which costs a message and nothing else.
///
/// A persistent watch is counted as what it is, a data and a child watch. Recursive ones have counters of their own,
/// because a change asks for every ancestor: in one pass over the path, and only while there are any.
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
    /// The recursive ones among them.
    recursive_total: AtomicU32,
    /// By table and hash of the path.
    counters: Box<[AtomicU32]>,
    /// Of recursive watches, by hash of the subtree.
    recursive: Box<[AtomicU32]>,
}

impl Interest {
    /// A worker that watches nothing. The hashes follow from `seed`, so that nobody outside can choose paths that
    /// collide.
    pub fn new(seed: u64) -> Interest {
        let counters = |count| (0..count).map(|_| AtomicU32::new(0)).collect();
        Interest {
            hasher: FixedState::with_seed(seed),
            total: AtomicU32::new(0),
            recursive_total: AtomicU32::new(0),
            counters: counters(INTEREST_COUNTERS),
            recursive: counters(INTEREST_RECURSIVE_COUNTERS),
        }
    }

    /// Counts one watch. The caller still holds the gate under which the watched state was read.
    pub fn raise(&self, kind: WatchKind, path: &str) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.each_counter(kind, path, &mut |counter| {
            let before = counter.fetch_add(1, Ordering::Relaxed);
            assert!(before != u32::MAX, "more than 2^32 watches are counted in one place");
        });
    }

    /// Takes one watch back that was raised: it was removed or forgotten, was there already or was refused, or its
    /// connection is gone by now.
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
        let watched = |table, path| self.counter(table, path).load(Ordering::Relaxed) != 0;
        let parent_watched = || parent(path).is_some_and(|parent| watched(Table::Child, parent));
        let nearby = match change {
            Change::Created => watched(Table::Data, path) || parent_watched(),
            Change::Deleted => watched(Table::Data, path) || watched(Table::Child, path) || parent_watched(),
            Change::DataChanged => watched(Table::Data, path),
        };
        nearby || self.recursive_total.load(Ordering::Relaxed) != 0 && self.may_watch_recursively(path)
    }

    fn may_watch_recursively(&self, path: &str) -> bool {
        let watched = |(_, hash)| self.recursive_counter(hash).load(Ordering::Relaxed) != 0;
        subtrees_around(&self.hasher, path).any(watched)
    }

    /// Watches counted, those on their way to the worker included. Here a persistent watch is one.
    pub fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    fn lower_by(&self, kind: WatchKind, path: &str, count: u32) {
        if count == 0 {
            return;
        }
        self.each_counter(kind, path, &mut |counter| {
            let before = counter.fetch_sub(count, Ordering::Relaxed);
            // A counter below zero would let a later watch look like none.
            assert!(count <= before, "interest in {path} was lowered by {count} from {before}");
        });
        self.total.fetch_sub(count, Ordering::Relaxed);
    }

    /// The counters, besides the total, in which a watch is counted.
    fn each_counter(&self, kind: WatchKind, path: &str, each: &mut dyn FnMut(&AtomicU32)) {
        match kind {
            WatchKind::Data => each(self.counter(Table::Data, path)),
            WatchKind::Child => each(self.counter(Table::Child, path)),
            WatchKind::Persistent => {
                each(self.counter(Table::Data, path));
                each(self.counter(Table::Child, path));
            }
            WatchKind::Recursive => {
                each(&self.recursive_total);
                each(self.recursive_counter(hash_of_subtree(&self.hasher, path)));
            }
        }
    }

    fn counter(&self, table: Table, path: &str) -> &AtomicU32 {
        const HALF: usize = INTEREST_COUNTERS / 2;
        let index = hash_of_path(&self.hasher, path) as usize & (HALF - 1);
        &self.counters[table as usize * HALF + index]
    }

    fn recursive_counter(&self, hash: u64) -> &AtomicU32 {
        &self.recursive[hash as usize & (INTEREST_RECURSIVE_COUNTERS - 1)]
    }
}

#[cfg(test)]
// By its path, so that the models can compile this file from elsewhere.
#[path = "watch/tests.rs"]
mod tests;
