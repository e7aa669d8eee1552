//! The data tree: every znode of this server at one zxid.
//!
//! Guarantees: a change is installed whole ([`Tree::install`]); counts, child lists, ephemerals by owner and the digest
//! are always those of the znodes; no step costs more because the tree is larger, however it grew; a lookup and a set
//! of the same size call no allocator. It decides nothing: an [`Effect`] carries complete new versions, made by `prep`.
//!
//! A znode is 48 bytes, plus 64 for one that is not as it was created (set, parent, ephemeral), plus one blob with its
//! name and data, plus its place in the index, which is keyed by a seeded hash of the full path. The path itself is not
//! stored: a lookup compares names from the last component up to the root.
//!
//! Knows no clock, thread, socket or file; readers and the writer are kept apart by the gate.

mod acl;
mod arena;
pub mod digest;
pub mod path;
pub mod quota;
mod reap;
mod subtree;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher};
use std::mem;

use foldhash::quality::FixedState;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::stat::Stat;

pub use self::acl::{Acl, AclId};
use self::acl::{Acls, OPEN_RAW, READ_RAW};
use self::arena::{Arena, Blob};
use self::quota::Quotas;
use self::reap::Reapable;
use crate::limits::TTL_MS_MAX;
use crate::table::{NONE, Slab, Slot, StepTable};

/// Everything about one version of a znode but its data, its ACL and its children: stored values, of which clients see
/// some differently ([`NodeVersion::stat`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeVersion {
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The transaction that set its data last, or created it.
    pub mzxid: Zxid,
    /// The transaction that created or deleted a child last, or created it.
    pub pzxid: Zxid,
    /// When it was created, ms since 1970.
    pub ctime_ms: i64,
    /// When its data was set last, ms since 1970.
    pub mtime_ms: i64,
    /// Changes of its data.
    pub version: i32,
    /// Children ever created, deleted ones included: the next sequence number.
    pub children_created: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// Its kind: 0 is persistent, a session id is ephemeral; see [`NodeVersion::ephemeral_session`] for the others.
    pub owner: i64,
    /// Length of its data, 0 for null.
    pub data_bytes: u32,
    /// Null data is told apart from empty data.
    pub data_is_null: bool,
    /// Children that exist.
    pub children: u32,
    /// The CRC of path and data, from [`digest::prefix_crc`].
    pub prefix_crc: u32,
}

/// The owner that marks a container.
pub const CONTAINER_OWNER: i64 = i64::MIN;

/// The owner that marks a znode with this time to live.
pub fn ttl_owner(ttl_ms: i64) -> i64 {
    assert!((1..=TTL_MS_MAX).contains(&ttl_ms), "a time to live of {ttl_ms} ms has no room in the owner field");
    (0xff << 56) | ttl_ms
}

/// What keeps a znode alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// Nothing but the wish of clients.
    Persistent,
    /// This session.
    Ephemeral(SessionId),
    /// Its children, once it had one.
    Container,
    /// Children, or a change in the last so many milliseconds.
    Ttl(i64),
}

impl NodeVersion {
    /// The view of a client (`client-protocol.md` 14): `cversion` counts creations and deletions of children, only an
    /// ephemeral shows an owner.
    pub fn stat(&self) -> Stat {
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            cversion: self.children_created.wrapping_mul(2).wrapping_sub(self.children as i32),
            aversion: self.aversion,
            ephemeral_owner: self.ephemeral_session().map_or(0, SessionId::raw),
            data_length: self.data_bytes as i32,
            num_children: self.children as i32,
            pzxid: self.pzxid,
        }
    }

    /// What a znode at `path` adds to the digest of the tree: nothing below `/zookeeper/`.
    pub fn digest(&self, path: &str) -> u64 {
        self.short_digest(path).into()
    }

    fn short_digest(&self, path: &str) -> u32 {
        if digest::excludes(path) { 0 } else { digest::node(self.prefix_crc, self) }
    }

    /// The session whose end deletes this znode.
    pub fn ephemeral_session(&self) -> Option<SessionId> {
        match self.kind() {
            NodeKind::Ephemeral(session) => Some(session),
            NodeKind::Persistent | NodeKind::Container | NodeKind::Ttl(_) => None,
        }
    }

    /// Its kind, from the owner field: a container has `0x8000000000000000`, a znode with a time to live `0xff`, two zero
    /// bytes and the time in five, whatever the settings of this server are.
    pub fn kind(&self) -> NodeKind {
        match self.owner {
            0 => NodeKind::Persistent,
            CONTAINER_OWNER => NodeKind::Container,
            owner if owner as u64 >> 40 == 0xff_0000 => NodeKind::Ttl(owner & TTL_MS_MAX),
            owner => NodeKind::Ephemeral(SessionId::from_raw(owner)),
        }
    }

    /// Whether all of it follows from what every znode stores.
    fn is_as_created(&self) -> bool {
        self.mzxid == self.czxid
            && self.pzxid == self.czxid
            && self.mtime_ms == self.ctime_ms
            && self.version == 0
            && self.children_created == 0
            && self.aversion == 0
            && self.owner == 0
            && self.children == 0
    }
}

/// One change of the tree, borrowed from the transaction that makes it.
///
/// It carries the complete new versions of what it touches, so installing it decides nothing.
#[derive(Clone, Copy, Debug)]
pub enum Effect<'a> {
    /// A new znode.
    Create {
        /// Its full path.
        path: &'a str,
        /// Its data; null and empty are told apart.
        data: Option<&'a [u8]>,
        /// The encoded elements of its ACL, without the count.
        acl: &'a [u8],
        /// How many elements there are.
        acl_count: u32,
        /// Its version.
        node: NodeVersion,
        /// Its parent's version, this child counted.
        parent: NodeVersion,
    },
    /// New data of a znode.
    SetData {
        /// Its full path.
        path: &'a str,
        /// The data; null and empty are told apart.
        data: Option<&'a [u8]>,
        /// Its new version.
        node: NodeVersion,
    },
    /// A new ACL of a znode.
    SetAcl {
        /// Its full path.
        path: &'a str,
        /// The encoded elements of the list, without the count.
        acl: &'a [u8],
        /// How many elements there are.
        acl_count: u32,
        /// Its new version.
        node: NodeVersion,
    },
    /// A znode without children goes.
    Delete {
        /// Its full path.
        path: &'a str,
        /// Its parent's version, this child no longer counted.
        parent: NodeVersion,
    },
}

/// What every znode stores.
#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    next: u32,
    prev: u32,
    /// Its [`Extra`], or `NONE` while it is as it was created.
    extra: u32,
    blob: u32,
    acl: u32,
    prefix_crc: u32,
    /// Hash of the full path: a wrong candidate of a lookup ends here, and the index asks for it when it splits a page.
    hash: u32,
    czxid: Zxid,
    ctime_ms: i64,
}

const _: () = assert!(size_of::<Node>() == 48);

impl Default for Node {
    fn default() -> Node {
        Node {
            parent: NONE,
            next: NONE,
            prev: NONE,
            extra: NONE,
            blob: NONE,
            acl: NONE,
            prefix_crc: 0,
            hash: 0,
            czxid: Zxid::ZERO,
            ctime_ms: 0,
        }
    }
}

impl Slot for Node {
    fn link(&self) -> u32 {
        self.next
    }
    fn set_link(&mut self, next: u32) {
        self.next = next;
    }
}

/// The rest of a znode that is not as it was created: one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Extra {
    mzxid: Zxid,
    pzxid: Zxid,
    mtime_ms: i64,
    owner: i64,
    version: i32,
    children_created: i32,
    aversion: i32,
    children: u32,
    first_child: u32,
    /// The ephemerals of one owner, in the order of their creation.
    next_ephemeral: u32,
    prev_ephemeral: u32,
    /// What the znode adds to the digest of the tree: a parent's is needed with every child that comes or goes.
    digest: u32,
}

const _: () = assert!(size_of::<Extra>() == 64);

impl Default for Extra {
    fn default() -> Extra {
        Extra {
            mzxid: Zxid::ZERO,
            pzxid: Zxid::ZERO,
            mtime_ms: 0,
            owner: 0,
            version: 0,
            children_created: 0,
            aversion: 0,
            children: 0,
            first_child: NONE,
            next_ephemeral: NONE,
            prev_ephemeral: NONE,
            digest: 0,
        }
    }
}

impl Slot for Extra {
    fn link(&self) -> u32 {
        self.first_child
    }
    fn set_link(&mut self, next: u32) {
        self.first_child = next;
    }
}

/// A session that owns ephemerals.
#[derive(Clone, Copy, Default)]
struct Owner {
    session: SessionId,
    path_bytes: u64,
    count: u32,
    first: u32,
    last: u32,
}

impl Slot for Owner {
    fn link(&self) -> u32 {
        self.first
    }
    fn set_link(&mut self, next: u32) {
        self.first = next;
    }
}

/// Slots in a chunk of znodes, as a power of two: one allocation for 4,096 of them.
const NODE_CHUNK_BITS: u32 = 12;
const OWNER_CHUNK_BITS: u32 = 8;

/// The slot of the root: it is the first znode of a tree and never goes.
const ROOT: u32 = 0;

/// See the module.
pub struct Tree {
    nodes: Slab<Node, NODE_CHUNK_BITS>,
    extras: Slab<Extra, NODE_CHUNK_BITS>,
    arena: Arena,
    acls: Acls,
    /// Slots of all znodes but the root, by path.
    index: StepTable,
    owners: Slab<Owner, OWNER_CHUNK_BITS>,
    owner_index: StepTable,
    hasher: FixedState,
    digest: u64,
    /// Bytes of all paths and data; the root's path counts as one.
    bytes: u64,
    ephemerals: usize,
    reapable: Reapable,
    quotas: Quotas,
}

// The gate hands references to many threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Tree>();
};

/// The index takes 64 bits of hash; a znode keeps 32. The product is as mixed as they are.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
fn hash_owner(hasher: &FixedState, session: SessionId) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_i64(session.raw());
    state.finish()
}

/// The root is known by two paths; inside it has the empty one, as in the digest.
#[inline]
fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

impl Tree {
    /// The tree of an empty server: its four initial znodes (`client-protocol.md` 14.4). `seed` makes its hashes its
    /// own, so that no client can choose paths that collide.
    pub fn new(seed: u64) -> Tree {
        let hasher = FixedState::with_seed(seed);
        let acls = Acls::new(&hasher);
        let mut tree = Tree {
            nodes: Slab::new(),
            extras: Slab::new(),
            arena: Arena::new(),
            acls,
            index: StepTable::new(),
            owners: Slab::new(),
            owner_index: StepTable::new(),
            hasher,
            digest: 0,
            bytes: 0,
            ephemerals: 0,
            reapable: Reapable::default(),
            quotas: Quotas::new(),
        };
        // Creating them counts nowhere: only the number of children of a parent changes.
        let initial = |path: &str, children: u32, aversion: i32| NodeVersion {
            czxid: Zxid::ZERO,
            mzxid: Zxid::ZERO,
            pzxid: Zxid::ZERO,
            ctime_ms: 0,
            mtime_ms: 0,
            version: 0,
            children_created: 0,
            aversion,
            owner: 0,
            data_bytes: 0,
            data_is_null: false,
            children,
            prefix_crc: digest::prefix_crc(path, Some(&[])),
        };
        let root = tree.add_node(NONE, "", "", Some(&[]), (OPEN_RAW, 1), &initial("", 0, 0));
        assert_eq!(root, ROOT, "the root has the first slot");
        tree.bytes += "/".len() as u64;
        let zookeeper = "/zookeeper";
        for (path, acl, aversion, parent) in [
            (zookeeper, OPEN_RAW, 0, initial("", 1, 0)),
            ("/zookeeper/quota", OPEN_RAW, 0, initial(zookeeper, 1, 0)),
            ("/zookeeper/config", READ_RAW, -1, initial(zookeeper, 2, 0)),
        ] {
            let node = initial(path, 0, aversion);
            tree.install(&Effect::Create { path, data: Some(&[]), acl, acl_count: 1, node, parent });
        }
        tree
    }

    #[inline]
    fn hash(&self, path: &str) -> u32 {
        let mut state = self.hasher.build_hasher();
        state.write(path.as_bytes());
        let hash = state.finish();
        (hash ^ hash >> 32) as u32
    }

    #[inline]
    fn blob(&self, node: &Node) -> Blob<'_> {
        self.arena.get(node.blob)
    }

    #[inline]
    fn slot(&self, path: &str) -> Option<u32> {
        let path = key(path);
        if path.is_empty() {
            return Some(ROOT);
        }
        self.slot_below(path, self.hash(path))
    }

    /// The slot of a path that is not the root's.
    #[inline]
    fn slot_below(&self, path: &str, hash: u32) -> Option<u32> {
        self.index.find(spread(hash), |slot| {
            let node = self.nodes.get(slot);
            node.hash == hash && self.has_path(node, path)
        })
    }

    /// Whether `path` is the path of a znode that is not the root: name by name, from the last to the first.
    fn has_path(&self, node: &Node, path: &str) -> bool {
        let mut node = node;
        let mut rest = path.as_bytes();
        loop {
            let Some(above) = rest.strip_suffix(self.blob(node).name_bytes()) else { return false };
            let Some((b'/', above)) = above.split_last() else { return false };
            rest = above;
            if node.parent == ROOT {
                return rest.is_empty();
            }
            node = self.nodes.get(node.parent);
        }
    }

    /// The znode at `path`. Both the empty path and `/` name the root; a path that breaks the rules names nothing.
    #[inline]
    pub fn find(&self, path: &str) -> Option<NodeRef<'_>> {
        let slot = self.slot(path)?;
        Some(NodeRef { tree: self, node: self.nodes.get(slot) })
    }

    /// Makes one change. What it says must fit the tree: the znode missing or there, its parent there and of that
    /// version. What quotas count follows by itself.
    pub fn install(&mut self, effect: &Effect<'_>) {
        match *effect {
            Effect::Create { path, data, acl, acl_count, ref node, ref parent } => {
                self.create(path, data, (acl, acl_count), node, parent);
                self.count_quota(path, node.data_bytes.into(), 1);
            }
            Effect::SetData { path, data, ref node } => {
                let before = self.set_data(key(path), data, node);
                self.count_quota(path, i64::from(node.data_bytes) - before as i64, 0);
            }
            Effect::SetAcl { path, acl, acl_count, ref node } => self.set_acl(key(path), (acl, acl_count), node),
            Effect::Delete { path, ref parent } => {
                let before = self.delete(path, parent);
                self.count_quota(path, -(before as i64), -1);
            }
        }
    }

    fn create(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: (&[u8], u32),
        version: &NodeVersion,
        parent_version: &NodeVersion,
    ) {
        let (parent_path, name) = path::split(path).unwrap_or_else(|| panic!("{path} is created without a parent"));
        assert!(!name.is_empty(), "{path} is created without a name");
        let Some(parent) = self.slot(parent_path) else { panic!("{path} is created and its parent is missing") };
        assert_eq!(version.children, 0, "children of {path}, which is created");
        let children = self.children_of(parent);
        assert_eq!(parent_version.children, children + 1, "children of {parent_path} after the create of {path}");
        self.restamp(parent, parent_path, parent_version);
        self.add_node(parent, path, name, data, acl, version);
    }

    /// Adds a znode below one whose version counts it already.
    fn add_node(
        &mut self,
        parent: u32,
        path: &str,
        name: &str,
        data: Option<&[u8]>,
        (acl, acl_count): (&[u8], u32),
        version: &NodeVersion,
    ) -> u32 {
        check_data(path, data, version);
        let hash = self.hash(path);
        assert!(self.slot_below(path, hash).is_none(), "{path} is created and exists already");
        let blob = self.arena.insert(name, data);
        let acl = self.acls.intern(acl, acl_count, &self.hasher);
        let NodeVersion { prefix_crc, czxid, ctime_ms, .. } = *version;
        let node = Node { parent, next: NONE, prev: NONE, extra: NONE, blob, acl, prefix_crc, hash, czxid, ctime_ms };
        let slot = self.nodes.insert(node);
        let digest = version.short_digest(path);
        self.digest = self.digest.wrapping_add(digest.into());
        self.bytes += path.len() as u64 + u64::from(version.data_bytes);
        if !version.is_as_created() {
            self.store_extra(slot, version, digest);
        }
        if parent != NONE {
            let Tree { index, nodes, .. } = self;
            index.insert(spread(hash), slot, |slot| spread(nodes.get(slot).hash));
            let next = mem::replace(&mut self.extra_of(parent).first_child, slot);
            if next != NONE {
                self.nodes.get_mut(next).prev = slot;
                self.nodes.get_mut(slot).next = next;
            }
        }
        match version.kind() {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(session) => self.add_ephemeral(slot, session, path),
            NodeKind::Container | NodeKind::Ttl(_) => self.reapable.moved(slot, None, Some(version)),
        }
        slot
    }

    /// Returns how many bytes of data the znode had.
    fn set_data(&mut self, path: &str, data: Option<&[u8]>, version: &NodeVersion) -> u64 {
        let Some(slot) = self.slot(path) else { panic!("{path} is set and is missing") };
        check_data(path, data, version);
        assert_eq!(version.children, self.children_of(slot), "children of {path} after a set of its data");
        let blob = self.nodes.get(slot).blob;
        let before = self.arena.get(blob).data_bytes() as u64;
        self.restamp(slot, path, version);
        let blob = self.arena.replace(blob, path::name(path), data);
        let node = self.nodes.get_mut(slot);
        node.blob = blob;
        node.prefix_crc = version.prefix_crc;
        self.bytes = self.bytes - before + u64::from(version.data_bytes);
        before
    }

    fn set_acl(&mut self, path: &str, (acl, acl_count): (&[u8], u32), version: &NodeVersion) {
        let Some(slot) = self.slot(path) else { panic!("the ACL of {path} is set and it is missing") };
        assert_eq!(version.children, self.children_of(slot), "children of {path} after a set of its ACL");
        self.restamp(slot, path, version);
        let acl = self.acls.intern(acl, acl_count, &self.hasher);
        let before = mem::replace(&mut self.nodes.get_mut(slot).acl, acl);
        self.acls.release(before, &self.hasher);
    }

    /// Returns how many bytes of data the znode had.
    fn delete(&mut self, path: &str, parent_version: &NodeVersion) -> u64 {
        let Some(slot) = self.slot(path) else { panic!("{path} is deleted and is missing") };
        assert_ne!(slot, ROOT, "the root is deleted");
        let parent_path = path::parent(path).expect("a znode that is not the root has a parent");
        let Node { parent, next, prev, extra, blob, acl, hash, .. } = *self.nodes.get(slot);
        let children = self.children_of(parent);
        assert_eq!(parent_version.children + 1, children, "children of {parent_path} before the delete of {path}");
        let version = self.version(self.nodes.get(slot));
        assert_eq!(version.children, 0, "children of {path}, which is deleted");

        self.bytes -= path.len() as u64 + u64::from(version.data_bytes);
        self.digest = self.digest.wrapping_sub(self.digest_of(slot, path).into());
        match version.kind() {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(session) => self.remove_ephemeral(slot, session, path),
            NodeKind::Container | NodeKind::Ttl(_) => self.reapable.moved(slot, Some(&version), None),
        }
        if prev == NONE {
            self.extra_of(parent).first_child = next;
        } else {
            self.nodes.get_mut(prev).next = next;
        }
        if next != NONE {
            self.nodes.get_mut(next).prev = prev;
        }
        let removed = self.index.remove(spread(hash), |candidate| candidate == slot);
        assert_eq!(removed, Some(slot), "{path} is in the index");
        if extra != NONE {
            self.extras.remove(extra);
        }
        self.arena.remove(blob);
        self.acls.release(acl, &self.hasher);
        self.nodes.remove(slot);
        self.restamp(parent, parent_path, parent_version);
        u64::from(version.data_bytes)
    }

    fn children_of(&self, slot: u32) -> u32 {
        match self.nodes.get(slot).extra {
            NONE => 0,
            extra => self.extras.get(extra).children,
        }
    }

    fn extra_of(&mut self, slot: u32) -> &mut Extra {
        let extra = self.nodes.get(slot).extra;
        self.extras.get_mut(extra)
    }

    /// What a znode adds to the digest of the tree.
    fn digest_of(&self, slot: u32, path: &str) -> u32 {
        let node = self.nodes.get(slot);
        match node.extra {
            NONE => self.version(node).short_digest(path),
            extra => self.extras.get(extra).digest,
        }
    }

    /// Gives a znode a new version, and its share of the digest.
    fn restamp(&mut self, slot: u32, path: &str, version: &NodeVersion) {
        let before = self.digest_of(slot, path);
        let node = self.nodes.get_mut(slot);
        assert!(
            node.czxid == version.czxid && node.ctime_ms == version.ctime_ms,
            "{path} was created by {} and is given a version created by {}",
            node.czxid,
            version.czxid
        );
        let extra = node.extra;
        let owner = if extra == NONE { 0 } else { self.extras.get(extra).owner };
        assert_eq!(version.owner, owner, "owner of {path} in a new version");
        if matches!(version.kind(), NodeKind::Container | NodeKind::Ttl(_)) {
            let before = self.version(self.nodes.get(slot));
            self.reapable.moved(slot, Some(&before), Some(version));
        }
        let digest = version.short_digest(path);
        self.digest = self.digest.wrapping_sub(before.into()).wrapping_add(digest.into());
        if extra != NONE || !version.is_as_created() {
            self.store_extra(slot, version, digest);
        }
    }

    fn store_extra(&mut self, slot: u32, version: &NodeVersion, digest: u32) {
        let node = self.nodes.get_mut(slot);
        if node.extra == NONE {
            node.extra = self.extras.insert(Extra::default());
        }
        let extra = self.extras.get_mut(node.extra);
        extra.mzxid = version.mzxid;
        extra.pzxid = version.pzxid;
        extra.mtime_ms = version.mtime_ms;
        extra.owner = version.owner;
        extra.version = version.version;
        extra.children_created = version.children_created;
        extra.aversion = version.aversion;
        extra.children = version.children;
        extra.digest = digest;
    }

    fn version(&self, node: &Node) -> NodeVersion {
        let data = self.blob(node).data;
        let as_created = NodeVersion {
            czxid: node.czxid,
            mzxid: node.czxid,
            pzxid: node.czxid,
            ctime_ms: node.ctime_ms,
            mtime_ms: node.ctime_ms,
            version: 0,
            children_created: 0,
            aversion: 0,
            owner: 0,
            data_bytes: data.map_or(0, |data| data.len() as u32),
            data_is_null: data.is_none(),
            children: 0,
            prefix_crc: node.prefix_crc,
        };
        if node.extra == NONE {
            return as_created;
        }
        let extra = self.extras.get(node.extra);
        NodeVersion {
            mzxid: extra.mzxid,
            pzxid: extra.pzxid,
            mtime_ms: extra.mtime_ms,
            version: extra.version,
            children_created: extra.children_created,
            aversion: extra.aversion,
            owner: extra.owner,
            children: extra.children,
            ..as_created
        }
    }

    fn owner(&self, session: SessionId) -> Option<u32> {
        let hash = hash_owner(&self.hasher, session);
        self.owner_index.find(hash, |owner| self.owners.get(owner).session == session)
    }

    fn add_owner(&mut self, session: SessionId) -> u32 {
        let Tree { owners, owner_index, hasher, .. } = self;
        let owner = owners.insert(Owner { session, path_bytes: 0, count: 0, first: NONE, last: NONE });
        let hash = hash_owner(hasher, session);
        owner_index.insert(hash, owner, |owner| hash_owner(hasher, owners.get(owner).session));
        owner
    }

    fn add_ephemeral(&mut self, slot: u32, session: SessionId, path: &str) {
        let number = self.owner(session).unwrap_or_else(|| self.add_owner(session));
        let owner = self.owners.get_mut(number);
        owner.count += 1;
        owner.path_bytes += crate::prep::ephemeral_bytes(path);
        let last = mem::replace(&mut owner.last, slot);
        if last == NONE {
            owner.first = slot;
        } else {
            self.extra_of(last).next_ephemeral = slot;
        }
        self.extra_of(slot).prev_ephemeral = last;
        self.ephemerals += 1;
    }

    fn remove_ephemeral(&mut self, slot: u32, session: SessionId, path: &str) {
        let number = self.owner(session).expect("the owner of an ephemeral is known");
        let Extra { next_ephemeral: next, prev_ephemeral: prev, .. } = *self.extra_of(slot);
        if prev == NONE {
            self.owners.get_mut(number).first = next;
        } else {
            self.extra_of(prev).next_ephemeral = next;
        }
        if next == NONE {
            self.owners.get_mut(number).last = prev;
        } else {
            self.extra_of(next).prev_ephemeral = prev;
        }
        let owner = self.owners.get_mut(number);
        owner.count -= 1;
        owner.path_bytes -= crate::prep::ephemeral_bytes(path);
        if owner.count == 0 {
            self.owners.remove(number);
            let removed = self.owner_index.remove(hash_owner(&self.hasher, session), |owner| owner == number);
            assert_eq!(removed, Some(number), "the owner of an ephemeral is in the index");
        }
        self.ephemerals -= 1;
    }

    /// The digest of the tree, as the reference computes it (`semantics.md` 17).
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Znodes, the root included.
    #[expect(clippy::len_without_is_empty, reason = "a tree is never empty")]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Bytes of all paths and data: what the reference reports as `approximate_data_size`.
    pub fn approximate_data_bytes(&self) -> u64 {
        self.bytes
    }

    /// Ephemerals of all sessions.
    pub fn ephemerals_count(&self) -> usize {
        self.ephemerals
    }

    /// The full paths of a session's ephemerals, in the order of their creation.
    pub fn ephemerals(&self, owner: SessionId, each: &mut dyn FnMut(&str)) {
        let Some(number) = self.owner(owner) else { return };
        let mut path = String::new();
        let mut slot = self.owners.get(number).first;
        while slot != NONE {
            let node = self.nodes.get(slot);
            self.path_of(node, &mut path);
            each(&path);
            slot = self.extras.get(node.extra).next_ephemeral;
        }
    }

    /// What a session's ephemerals take in its closeSession transaction, in bytes.
    pub fn ephemeral_path_bytes(&self, owner: SessionId) -> u64 {
        self.owner(owner).map_or(0, |owner| self.owners.get(owner).path_bytes)
    }

    /// Puts the path of a znode that is not the root into `path`.
    fn path_of(&self, node: &Node, path: &mut String) {
        let names = || {
            let mut following = Some(node);
            std::iter::from_fn(move || {
                let node = following?;
                following = (node.parent != ROOT).then(|| self.nodes.get(node.parent));
                Some(self.blob(node).name_bytes())
            })
        };
        // Names come last to first, so they are put in place from the end.
        let mut end = names().map(|name| 1 + name.len()).sum();
        let mut bytes = mem::take(path).into_bytes();
        bytes.clear();
        bytes.resize(end, b'/');
        for name in names() {
            bytes[end - name.len()..end].copy_from_slice(name);
            end -= name.len() + 1;
        }
        *path = String::from_utf8(bytes).expect("names are text and so is a path of them");
    }

    /// Memory held, in bytes; what is reserved and not touched yet is included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Tree>()
            + self.nodes.memory_bytes()
            + self.extras.memory_bytes()
            + self.arena.memory_bytes()
            + self.acls.memory_bytes()
            + self.index.memory_bytes()
            + self.owners.memory_bytes()
            + self.owner_index.memory_bytes()
            + self.reapable.memory_bytes()
    }

    /// Different ACLs in use, the open one always among them.
    pub fn acls_count(&self) -> usize {
        self.acls.len()
    }

    /// Every znode with its full path (`/` for the root), parents before their children.
    pub fn for_each(&self, mut each: impl FnMut(&str, NodeRef<'_>)) {
        let mut path = String::new();
        let mut node = self.nodes.get(ROOT);
        loop {
            each(if path.is_empty() { "/" } else { &path }, NodeRef { tree: self, node });
            let mut following = match node.extra {
                NONE => NONE,
                extra => self.extras.get(extra).first_child,
            };
            while following == NONE {
                if node.parent == NONE {
                    return;
                }
                let above = path.rfind('/').expect("a path below the root has a slash");
                path.truncate(above);
                following = node.next;
                if following == NONE {
                    node = self.nodes.get(node.parent);
                }
            }
            node = self.nodes.get(following);
            path.push('/');
            path.push_str(self.blob(node).name());
        }
    }
}

#[inline]
fn check_data(path: &str, data: Option<&[u8]>, version: &NodeVersion) {
    let bytes = data.map_or(0, <[u8]>::len);
    assert!(
        version.data_bytes as usize == bytes && version.data_is_null == data.is_none(),
        "{path} is given {bytes} bytes of data and a version with {} (null: {})",
        version.data_bytes,
        version.data_is_null
    );
    debug_assert_eq!(version.prefix_crc, digest::prefix_crc(path, data), "CRC of {path} and its data");
}

/// A znode of a tree that is not changing.
#[derive(Clone, Copy)]
pub struct NodeRef<'t> {
    tree: &'t Tree,
    node: &'t Node,
}

impl<'t> NodeRef<'t> {
    /// Its version.
    #[inline]
    pub fn version(&self) -> NodeVersion {
        self.tree.version(self.node)
    }

    /// Its data; null and empty are told apart.
    #[inline]
    pub fn data(&self) -> Option<&'t [u8]> {
        self.tree.blob(self.node).data
    }

    /// Its ACL.
    #[inline]
    pub fn acl(&self) -> Acl<'t> {
        self.tree.acls.get(self.node.acl)
    }

    /// The names of its children, in no order that means anything; the latest come first.
    pub fn children(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let tree = self.tree;
        let mut slot = match self.node.extra {
            NONE => NONE,
            extra => tree.extras.get(extra).first_child,
        };
        std::iter::from_fn(move || {
            if slot == NONE {
                return None;
            }
            let node = tree.nodes.get(slot);
            slot = node.next;
            Some(tree.blob(node).name())
        })
    }
}
