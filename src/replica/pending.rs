//! The tree as the next transaction will find it: full versions of every znode that a prepared and not yet applied
//! transaction touches, above the applied tree.
//!
//! Invariants: an entry carries the zxid of the last transaction that wrote it and leaves only when that transaction is
//! installed; the overlay is empty exactly when nothing is in flight; [`Pending::digest`] is the digest of the tree after the
//! last prepared transaction. Entries and their memory are reused: a warm overlay does not allocate.
//!
//! A multi is prepared on trial: [`Pending::roll_back`] takes back what its first operations did when a later one fails.

use std::collections::VecDeque;

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashTable};
use std::hash::BuildHasher;
use zorilla_proto::client::AclVec;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::txn::Txn;

use crate::limits::SPARE_ENTRY_BYTES_MAX;
use crate::prep::{Before, Counted, Found, View, ephemeral_bytes};
use crate::tree::{Effect, NodeVersion, Tree, digest};

/// One znode's newest prepared version.
#[derive(Debug)]
struct Entry {
    zxid: Zxid,
    live: bool,
    path: String,
    /// `None`: deleted.
    version: Option<NodeVersion>,
    acl: Vec<u8>,
    /// The list is the tree's, and too long to be copied for every change.
    acl_of_tree: bool,
}

/// One effect of a prepared transaction: the versions to install, and the entries that show them meanwhile.
#[derive(Debug)]
struct Step {
    node: Option<NodeVersion>,
    parent: Option<NodeVersion>,
    node_entry: u32,
    parent_entry: Option<u32>,
    /// What it adds to which quota, where there is one.
    quota: Option<Box<(Box<str>, Counted)>>,
}

impl Step {
    /// The session whose ephemeral it creates.
    fn creates_for(&self) -> Option<SessionId> {
        self.parent.and(self.node)?.ephemeral_session()
    }
}

/// What an entry was before a transaction on trial wrote over it.
#[derive(Debug)]
struct Undo {
    at: u32,
    live: bool,
    zxid: Zxid,
    version: Option<NodeVersion>,
    /// Where it was replaced.
    acl: Option<(Vec<u8>, bool)>,
}

/// Ephemeral znodes that prepared transactions create for one session.
#[derive(Clone, Debug, Default)]
struct Ephemerals {
    /// Entries of the overlay, in the order of their transactions.
    entries: VecDeque<u32>,
    path_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Pending {
    hasher: FixedState,
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    steps: VecDeque<Step>,
    ephemerals: HashMap<SessionId, Ephemerals, FixedState>,
    /// The transaction being prepared, and how many steps it has so far.
    preparing: Zxid,
    preparing_steps: u32,
    digest: u64,
    /// What prepared effects will add to the counts of quotas.
    quotas: HashMap<Box<str>, Counted, FixedState>,
    /// The transaction being prepared is on trial: its predecessor and the digest before it.
    trial: Option<(Zxid, u64)>,
    undo: Vec<Undo>,
}

/// The overlay with the tree below it, for one preparation.
pub struct Ahead<'a> {
    /// The overlay.
    pub pending: &'a mut Pending,
    /// The applied tree.
    pub tree: &'a Tree,
}

/// `/` and the empty string both name the root.
fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

impl Pending {
    /// An empty overlay above a tree with this digest.
    pub fn new(digest: u64, seed: u64) -> Pending {
        Pending {
            hasher: FixedState::with_seed(seed),
            index: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            steps: VecDeque::new(),
            ephemerals: HashMap::with_hasher(FixedState::with_seed(seed)),
            preparing: Zxid::ZERO,
            preparing_steps: 0,
            digest,
            quotas: HashMap::with_hasher(FixedState::with_seed(seed)),
            trial: None,
            undo: Vec::new(),
        }
    }

    /// Digest of the tree after the last prepared transaction.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether no prepared version waits to be installed.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty() && self.steps.is_empty()
    }

    /// Bytes that the ephemeral znodes being created for a session will add to its closeSession transaction.
    pub fn ephemeral_bytes(&self, owner: SessionId) -> u64 {
        self.ephemerals.get(&owner).map_or(0, |pending| pending.path_bytes)
    }

    /// Announces the transaction whose effects come next.
    pub fn begin(&mut self, zxid: Zxid) {
        assert!(self.preparing < zxid, "prepared {zxid} after {}", self.preparing);
        self.preparing = zxid;
        self.preparing_steps = 0;
    }

    /// Like [`Pending::begin`], for a transaction that may be taken back: [`Pending::keep`] or [`Pending::roll_back`] ends
    /// the trial.
    pub fn begin_on_trial(&mut self, zxid: Zxid) {
        self.trial = Some((self.preparing, self.digest));
        self.begin(zxid);
    }

    /// The transaction on trial stays.
    pub fn keep(&mut self) {
        self.trial = None;
        self.undo.clear();
    }

    /// Takes every effect of the transaction on trial back.
    pub fn roll_back(&mut self) {
        let (before, digest) = self.trial.take().expect("only a transaction on trial is taken back");
        for _ in 0..self.preparing_steps {
            let step = self.steps.pop_back().expect("a step for every effect");
            self.uncount(&step);
            let Some(owner) = step.creates_for() else { continue };
            let pending =
                self.ephemerals.get_mut(&owner).expect("an ephemeral create was counted when it was prepared");
            let entry = pending.entries.pop_back().expect("an ephemeral create was listed when it was prepared");
            pending.path_bytes -= ephemeral_bytes(&self.entries[entry as usize].path);
            if pending.entries.is_empty() {
                self.ephemerals.remove(&owner);
            }
        }
        let mut undo = std::mem::take(&mut self.undo);
        for Undo { at, live, zxid, version, acl } in undo.drain(..).rev() {
            if !live {
                self.free(at);
                continue;
            }
            let entry = &mut self.entries[at as usize];
            entry.zxid = zxid;
            entry.version = version;
            if let Some((acl, of_tree)) = acl {
                (entry.acl, entry.acl_of_tree) = (acl, of_tree);
            }
        }
        self.undo = undo;
        self.digest = digest;
        self.preparing = before;
        self.preparing_steps = 0;
    }

    fn find(&self, path: &str) -> Option<&Entry> {
        let path = key(path);
        let hash = self.hasher.hash_one(path);
        let entry = self.index.find(hash, |entry| self.entries[*entry as usize].path == path)?;
        Some(&self.entries[*entry as usize])
    }

    /// Writes a version over whatever the overlay had for `path`.
    fn put(&mut self, path: &str, version: Option<NodeVersion>, acl: Option<&[u8]>) -> u32 {
        let path = key(path);
        let Pending { hasher, index, entries, free, .. } = self;
        let hash = hasher.hash_one(path);
        let found = index.find(hash, |entry| entries[*entry as usize].path == path).copied();
        if self.trial.is_some()
            && let Some(at) = found
        {
            let entry = &mut entries[at as usize];
            let acl = acl.map(|_| (std::mem::take(&mut entry.acl), entry.acl_of_tree));
            self.undo.push(Undo { at, live: true, zxid: entry.zxid, version: entry.version, acl });
        }
        let at = match found {
            Some(at) => at,
            None => {
                let at = free.pop().unwrap_or_else(|| {
                    entries.push(Entry {
                        zxid: Zxid::ZERO,
                        live: false,
                        path: String::new(),
                        version: None,
                        acl: Vec::new(),
                        acl_of_tree: false,
                    });
                    entries.len() as u32 - 1
                });
                let entry = &mut entries[at as usize];
                assert!(!entry.live, "a free entry of the overlay was in use");
                entry.path.clear();
                entry.path.push_str(path);
                entry.live = true;
                index.insert_unique(hash, at, |entry| hasher.hash_one(entries[*entry as usize].path.as_str()));
                if self.trial.is_some() {
                    self.undo.push(Undo { at, live: false, zxid: Zxid::ZERO, version: None, acl: None });
                }
                at
            }
        };
        let entry = &mut entries[at as usize];
        entry.zxid = self.preparing;
        entry.version = version;
        if let Some(acl) = acl {
            entry.acl.clear();
            entry.acl.extend_from_slice(acl);
            entry.acl_of_tree = false;
        }
        at
    }

    /// Installs the effects of the oldest prepared transaction, or of the next part of a multi, whose bytes say what and whose
    /// steps say how. Returns the version of the znode that it created or set.
    pub fn install(&mut self, zxid: Zxid, txn: &Txn<'_>, tree: &mut Tree) -> Option<NodeVersion> {
        let mut create = |pending: &mut Pending, path: &str, data: Option<&[u8]>, acl: &Option<AclVec<'_>>| {
            let step = pending.next_step();
            let node = step.node.expect("a create has a version");
            let parent = step.parent.expect("a create has its parent's version");
            pending.forget_ephemeral(&node, path);
            let (acl, acl_count) = acl.map_or((&[][..], 0), |acl| (acl.raw(), acl.len() as u32));
            tree.install(&Effect::Create { path, data, acl, acl_count, node, parent });
            pending.finish(&step, zxid);
            Some(node)
        };
        match txn {
            Txn::Create { path, data, acl, .. }
            | Txn::CreateContainer { path, data, acl, .. }
            | Txn::CreateTtl { path, data, acl, .. } => create(self, path, *data, acl),
            Txn::Delete { path } | Txn::DeleteContainer { path } => {
                self.install_delete(zxid, path, tree);
                None
            }
            Txn::SetData { path, data, .. } => {
                let step = self.next_step();
                let node = step.node.expect("a set has a version");
                tree.install(&Effect::SetData { path, data: *data, node });
                self.finish(&step, zxid);
                Some(node)
            }
            Txn::SetAcl { path, acl, .. } => {
                let step = self.next_step();
                let node = step.node.expect("a set of an ACL has a version");
                let (acl, acl_count) = acl.map_or((&[][..], 0), |acl| (acl.raw(), acl.len() as u32));
                tree.install(&Effect::SetAcl { path, acl, acl_count, node });
                self.finish(&step, zxid);
                // The counts of a quota may have been written anew since this was prepared, and with them the length.
                tree.find(path).map(|node| node.version())
            }
            // The parts of a multi and the paths of a closeSession come one by one.
            Txn::Multi(_) | Txn::CloseSession { .. } => unreachable!("{zxid} is installed part by part"),
            Txn::CreateSession { .. } | Txn::Check { .. } | Txn::Error { .. } | Txn::Reconfig { .. } => None,
        }
    }

    /// Installs one deletion: a transaction of its own, or one path of a closeSession.
    pub fn install_delete(&mut self, zxid: Zxid, path: &str, tree: &mut Tree) {
        let step = self.next_step();
        let parent = step.parent.expect("a delete has its parent's version");
        tree.install(&Effect::Delete { path, parent });
        self.finish(&step, zxid);
    }

    fn next_step(&mut self) -> Step {
        self.steps.pop_front().expect("a step for every effect")
    }

    /// After a step was installed.
    fn finish(&mut self, step: &Step, zxid: Zxid) {
        self.uncount(step);
        self.leave(step.node_entry, zxid);
        if let Some(parent_entry) = step.parent_entry {
            self.leave(parent_entry, zxid);
        }
    }

    fn uncount(&mut self, step: &Step) {
        let Some((subject, added)) = step.quota.as_deref() else { return };
        // What cancelled out was dropped, and comes back here with the other sign.
        let sum = self.quotas.entry_ref(&**subject).or_default();
        sum.count -= added.count;
        sum.bytes -= added.bytes;
        if *sum == Counted::default() {
            self.quotas.remove(&**subject);
        }
    }

    fn forget_ephemeral(&mut self, node: &NodeVersion, path: &str) {
        let Some(owner) = node.ephemeral_session() else { return };
        let pending = self.ephemerals.get_mut(&owner).expect("an ephemeral create was counted when it was prepared");
        pending.entries.pop_front();
        pending.path_bytes -= ephemeral_bytes(path);
        if pending.entries.is_empty() {
            self.ephemerals.remove(&owner);
        }
    }

    /// An entry leaves only if the transaction installed is the last that wrote it.
    fn leave(&mut self, at: u32, zxid: Zxid) {
        let entry = &mut self.entries[at as usize];
        if entry.live && entry.zxid == zxid {
            self.free(at);
        }
    }

    fn free(&mut self, at: u32) {
        let entry = &mut self.entries[at as usize];
        entry.live = false;
        let hash = self.hasher.hash_one(entry.path.as_str());
        let found = self.index.find_entry(hash, |candidate| *candidate == at).expect("a live entry is in the index");
        found.remove();
        // A giant path or list is not kept for the small ones that follow.
        if SPARE_ENTRY_BYTES_MAX < entry.path.capacity() {
            entry.path = String::new();
        }
        if SPARE_ENTRY_BYTES_MAX < entry.acl.capacity() {
            entry.acl = Vec::new();
        }
        self.free.push(at);
    }
}

impl View for Ahead<'_> {
    fn find(&self, path: &str) -> Option<Found<'_>> {
        match self.pending.find(path) {
            Some(entry) => entry.version.map(|version| {
                let of_tree = || self.tree.find(path).expect("its list is the tree's").acl().raw;
                Found { version, acl: if entry.acl_of_tree { of_tree() } else { &entry.acl } }
            }),
            None => View::find(self.tree, path),
        }
    }

    fn apply(&mut self, effect: &Effect<'_>, before: Before) {
        let pending = &mut *self.pending;
        let digest =
            |path: &str, version: &Option<NodeVersion>| version.map_or(0, |version| digest::of(path, &version));
        let step = match *effect {
            Effect::Create { path, acl, node, parent, .. } => {
                let above = crate::tree::path::parent(path).expect("a created path has a parent");
                pending.digest = pending
                    .digest
                    .wrapping_add(digest::of(path, &node))
                    .wrapping_sub(digest(above, &before.parent))
                    .wrapping_add(digest::of(above, &parent));
                let node_entry = pending.put(path, Some(node), Some(acl));
                if let Some(owner) = node.ephemeral_session() {
                    let ephemerals = pending.ephemerals.entry(owner).or_default();
                    ephemerals.entries.push_back(node_entry);
                    ephemerals.path_bytes += ephemeral_bytes(path);
                }
                let parent_entry = put_parent(pending, self.tree, above, parent);
                let quota = pending.count(self.tree, path, 1, node.data_bytes.into());
                Step { node: Some(node), parent: Some(parent), node_entry, parent_entry: Some(parent_entry), quota }
            }
            Effect::Delete { path, parent } => {
                let above = crate::tree::path::parent(path).expect("a deleted path has a parent");
                pending.digest = pending
                    .digest
                    .wrapping_sub(digest(path, &before.node))
                    .wrapping_sub(digest(above, &before.parent))
                    .wrapping_add(digest::of(above, &parent));
                let node_entry = pending.put(path, None, None);
                let parent_entry = put_parent(pending, self.tree, above, parent);
                let bytes = before.node.map_or(0, |node| i64::from(node.data_bytes));
                let quota = pending.count(self.tree, path, -1, -bytes);
                Step { node: None, parent: Some(parent), node_entry, parent_entry: Some(parent_entry), quota }
            }
            Effect::SetData { path, node, .. } => {
                let named = key(path);
                pending.digest =
                    pending.digest.wrapping_sub(digest(named, &before.node)).wrapping_add(digest::of(named, &node));
                let node_entry = put_parent(pending, self.tree, path, node);
                let bytes = before.node.map_or(0, |node| i64::from(node.data_bytes));
                let quota = pending.count(self.tree, path, 0, i64::from(node.data_bytes) - bytes);
                Step { node: Some(node), parent: None, node_entry, parent_entry: None, quota }
            }
            Effect::SetAcl { path, acl, node, .. } => {
                let named = key(path);
                pending.digest =
                    pending.digest.wrapping_sub(digest(named, &before.node)).wrapping_add(digest::of(named, &node));
                let node_entry = pending.put(path, Some(node), Some(acl));
                Step { node: Some(node), parent: None, node_entry, parent_entry: None, quota: None }
            }
        };
        pending.steps.push_back(step);
        pending.preparing_steps += 1;
    }

    fn applied(&self) -> &Tree {
        self.tree
    }

    fn counted_ahead(&self, subject: &str) -> Counted {
        self.pending.quotas.get(subject).copied().unwrap_or_default()
    }

    fn ephemerals(&self, owner: SessionId, each: &mut dyn FnMut(&str)) {
        self.tree.ephemerals(owner, &mut |path| {
            let gone = match self.pending.find(path) {
                Some(entry) => entry.version.and_then(|version| version.ephemeral_session()) != Some(owner),
                None => false,
            };
            if !gone {
                each(path);
            }
        });
        let Some(pending) = self.pending.ephemerals.get(&owner) else { return };
        // Created, deleted and created again, an entry is listed twice.
        let mut entries: Vec<u32> = pending.entries.iter().copied().collect();
        entries.sort_unstable();
        entries.dedup();
        for entry in entries {
            let entry = &self.pending.entries[entry as usize];
            let owned = entry.version.and_then(|version| version.ephemeral_session()) == Some(owner);
            // One that the tree has too was listed above.
            let listed = self.tree.find(&entry.path).is_some_and(|node| node.version().owner == owner.raw());
            if owned && !listed {
                each(&entry.path);
            }
        }
    }
}

impl Pending {
    /// Counts what an effect will add to the quota of `path`.
    fn count(&mut self, tree: &Tree, path: &str, count: i64, bytes: i64) -> Option<Box<(Box<str>, Counted)>> {
        let subject = tree.quota_of(path)?;
        let added = Counted { count, bytes };
        if added == Counted::default() {
            return None;
        }
        let sum = self.quotas.entry_ref(subject).or_default();
        sum.count += count;
        sum.bytes += bytes;
        Some(Box::new((subject.into(), added)))
    }
}

/// Writes a new version of a znode whose ACL does not change: taken over from the tree when the overlay has none yet.
fn put_parent(pending: &mut Pending, tree: &Tree, path: &str, version: NodeVersion) -> u32 {
    match pending.find(path) {
        Some(_) => pending.put(path, Some(version), None),
        None => {
            let acl = tree.find(path).expect("a changed znode is in the overlay or in the tree").acl().raw;
            let is_long = SPARE_ENTRY_BYTES_MAX < acl.len();
            let entry = pending.put(path, Some(version), Some(if is_long { &[] } else { acl }));
            pending.entries[entry as usize].acl_of_tree = is_long;
            entry
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use zorilla_proto::client::{Acl, AclVec, StringVec};
    use zorilla_proto::op::Op;
    use zorilla_proto::txn::{MultiTxn, TxnHeader};

    use super::*;
    use crate::prep::effects::{effects, sorted_ephemerals};

    /// Transactions that are prepared above a tree and installed later, beside a tree in which each is applied at once.
    struct Both {
        pending: Pending,
        tree: Tree,
        ahead: Tree,
        waiting: VecDeque<(TxnHeader, Vec<u8>)>,
        zxid: u64,
        deepest: usize,
    }

    impl Both {
        fn new() -> Both {
            let (tree, ahead) = (Tree::new(1), Tree::new(2));
            let pending = Pending::new(tree.digest(), 3);
            Both { pending, tree, ahead, waiting: VecDeque::new(), zxid: 0, deepest: 0 }
        }

        fn prepare(&mut self, session: SessionId, txn: &Txn<'_>) {
            self.zxid += 1;
            let zxid = Zxid::from_raw(self.zxid);
            let header = TxnHeader { session, cxid: 1, zxid, time_ms: self.zxid as i64, op: txn.op().raw() };
            self.pending.begin(zxid);
            effects(&header, txn, &mut Ahead { pending: &mut self.pending, tree: &self.tree }).unwrap();
            effects(&header, txn, &mut self.ahead).unwrap();
            let mut bytes = Vec::new();
            txn.encode(&mut bytes);
            self.waiting.push_back((header, bytes));
            self.deepest = self.deepest.max(self.waiting.len());
        }

        /// A multi of these, which is prepared on trial, and taken back where `fails`.
        fn multi(&mut self, session: SessionId, txns: &[Txn<'_>], fails: bool) {
            let mut raw = Vec::new();
            let multi = Txn::Multi(MultiTxn::build(&mut raw, txns));
            let zxid = Zxid::from_raw(self.zxid + 1);
            let header = TxnHeader { session, cxid: 1, zxid, time_ms: self.zxid as i64 + 1, op: Op::Multi.raw() };
            self.pending.begin_on_trial(zxid);
            effects(&header, &multi, &mut Ahead { pending: &mut self.pending, tree: &self.tree }).unwrap();
            if fails {
                self.pending.roll_back();
                return;
            }
            self.pending.keep();
            self.zxid += 1;
            effects(&header, &multi, &mut self.ahead).unwrap();
            let mut bytes = Vec::new();
            multi.encode(&mut bytes);
            self.waiting.push_back((header, bytes));
        }

        fn install(&mut self) {
            let Some((header, bytes)) = self.waiting.pop_front() else { return };
            let Both { pending, tree, .. } = self;
            match Txn::decode(&header, &mut zorilla_proto::jute::Reader::new(&bytes)).unwrap() {
                Txn::CloseSession { paths: Some(paths) } => {
                    paths.iter().for_each(|path| pending.install_delete(header.zxid, &path, tree));
                }
                Txn::CloseSession { paths: None } => {
                    for path in sorted_ephemerals(header.session, tree) {
                        pending.install_delete(header.zxid, &path, tree);
                    }
                }
                Txn::Multi(parts) => {
                    for part in parts.iter() {
                        pending.install(header.zxid, &part.txn().unwrap(), tree);
                    }
                }
                txn => drop(pending.install(header.zxid, &txn, tree)),
            }
        }

        fn check(&mut self, paths: &[&str], sessions: &[SessionId]) {
            let ahead = Ahead { pending: &mut self.pending, tree: &self.tree };
            for path in paths {
                let found = View::find(&ahead, path).map(|found| (found.version, found.acl.to_vec()));
                let due = View::find(&self.ahead, path).map(|found| (found.version, found.acl.to_vec()));
                assert_eq!(found, due, "{path} after {}", self.zxid);
            }
            for session in sessions {
                let mut found = Vec::new();
                View::ephemerals(&ahead, *session, &mut |path| found.push(path.to_owned()));
                let mut due = Vec::new();
                self.ahead.ephemerals(*session, &mut |path| due.push(path.to_owned()));
                found.sort();
                due.sort();
                assert_eq!(found, due, "ephemerals of {session} after {}", self.zxid);
            }
            assert_eq!(self.pending.digest(), self.ahead.digest(), "after {}", self.zxid);
            assert!(!self.waiting.is_empty() || self.pending.is_empty());
            if self.waiting.is_empty() {
                assert_eq!(self.tree.digest(), self.ahead.digest());
                assert!(self.pending.ephemerals.is_empty() && self.pending.quotas.is_empty());
                assert_eq!(self.pending.free.len(), self.pending.entries.len());
            }
        }
    }

    #[test]
    fn the_overlay_shows_what_the_tree_will_be() {
        let paths = ["", "/", "/a", "/b", "/a/x", "/a/y", "/a/x/p", "/b/x", "/zookeeper", "/zookeeper/q", "/missing"];
        let sessions = [SessionId::from_raw(11), SessionId::from_raw(12)];
        let mut deepest = 0;
        for seed in 0..60u64 {
            let mut both = Both::new();
            let mut state = seed;
            let mut below = |bound: usize| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize % bound
            };
            for _ in 0..400 {
                let path = paths[2 + below(paths.len() - 3)];
                let session = sessions[below(2)];
                let found = View::find(&both.ahead, path).map(|found| found.version);
                let above =
                    View::find(&both.ahead, crate::tree::path::parent(path).unwrap()).map(|found| found.version);
                let data = vec![7; below(40)];
                match (below(10), found, above) {
                    (0..4, None, Some(above)) if above.ephemeral_session().is_none() => {
                        let create = Txn::Create {
                            path: Cow::Borrowed(path),
                            data: (0 < below(4)).then_some(&data[..]),
                            acl: Some(AclVec::OPEN),
                            ephemeral: 0 < below(2),
                            parent_cversion: above.children_created + 1,
                            kind: Op::Create2,
                        };
                        both.prepare(session, &create);
                    }
                    (0..3, Some(found), Some(_)) if found.children == 0 && path != "/zookeeper" => {
                        both.prepare(session, &Txn::Delete { path: Cow::Borrowed(path) });
                    }
                    (3..6, Some(found), _) => {
                        let set =
                            Txn::SetData { path: Cow::Borrowed(path), data: Some(&data), version: found.version + 1 };
                        both.prepare(session, &set);
                    }
                    (6, None, Some(above)) if above.ephemeral_session().is_none() && below(2) == 0 => {
                        // Created, set, given another ACL and deleted, in one: some of it.
                        let mut other = Vec::new();
                        let other = AclVec::build(&mut other, &[Acl::new(1, "ip", "127.0.0.1")]);
                        let create = |ephemeral, parent_cversion| Txn::Create {
                            path: Cow::Borrowed(path),
                            data: Some(&data),
                            acl: Some(if ephemeral { other } else { AclVec::OPEN }),
                            ephemeral,
                            parent_cversion,
                            kind: Op::Create,
                        };
                        let first = above.children_created + 1;
                        let mut parts = vec![
                            create(true, first),
                            Txn::SetData { path: Cow::Borrowed(path), data: None, version: 1 },
                            Txn::Delete { path: Cow::Borrowed(path) },
                            create(false, first + 1),
                        ];
                        parts.truncate(1 + below(4));
                        let fails = below(2) == 0;
                        both.multi(session, &parts, fails);
                    }
                    (6, Some(found), _) if below(2) == 0 => {
                        let mut raw = Vec::new();
                        let acl = Some(AclVec::build(&mut raw, &[Acl::new(below(32) as i32, "world", "anyone")]));
                        both.prepare(session, &Txn::SetAcl { path: path.into(), acl, version: found.aversion + 1 });
                    }
                    (6, ..) if below(6) == 0 => both.prepare(session, &Txn::CloseSession { paths: None }),
                    (6, ..) if below(4) == 0 => {
                        let mut owned = Vec::new();
                        let ahead = Ahead { pending: &mut both.pending, tree: &both.tree };
                        View::ephemerals(&ahead, session, &mut |path| owned.push(path.to_owned()));
                        owned.sort();
                        let mut raw = Vec::new();
                        let paths = Some(StringVec::build(&mut raw, &owned));
                        both.prepare(session, &Txn::CloseSession { paths });
                    }
                    (7.., ..) => {
                        for _ in 0..below(5) {
                            both.install();
                        }
                    }
                    _ => both.prepare(session, &Txn::Error { code: -101 }),
                }
                both.check(&paths, &sessions);
            }
            while !both.waiting.is_empty() {
                both.install();
                both.check(&paths, &sessions);
            }
            deepest = deepest.max(both.deepest);
        }
        assert!(30 < deepest, "at most {deepest} transactions were ever waiting");
    }

    #[test]
    fn an_entry_leaves_with_the_last_transaction_that_wrote_it() {
        let mut both = Both::new();
        let session = SessionId::from_raw(11);
        let create = |cversion| Txn::Create {
            path: Cow::Borrowed("/a"),
            data: None,
            acl: Some(AclVec::OPEN),
            ephemeral: true,
            parent_cversion: cversion,
            kind: Op::Create,
        };
        both.prepare(session, &create(1));
        both.prepare(session, &Txn::Delete { path: Cow::Borrowed("/a") });
        both.prepare(SessionId::from_raw(12), &create(2));
        both.install();
        let owner = |both: &mut Both| {
            let ahead = Ahead { pending: &mut both.pending, tree: &both.tree };
            View::find(&ahead, "/a").map(|found| found.version.owner)
        };
        assert_eq!((both.tree.find("/a").unwrap().version().owner, owner(&mut both)), (11, Some(12)));
        assert_eq!(both.pending.ephemeral_bytes(session), 0, "the create was installed");
        both.check(&["/a"], &[session, SessionId::from_raw(12)]);
        both.install();
        assert!(both.tree.find("/a").is_none());
        assert_eq!(owner(&mut both), Some(12));
        both.install();
        both.check(&["/a"], &[session, SessionId::from_raw(12)]);
    }
}
