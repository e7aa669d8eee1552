//! One layer of the tree in memory: what changed since the layer below it.
//!
//! An entry says what holds for one path: a znode with data of its own, a znode whose data is that of the layer below, or
//! that there is none. What it does not list is as the layer below says. A tree without lower layers is one overlay that
//! lists everything.
//!
//! An entry hangs below that of its parent, or, if that one is not listed, below the root with its whole path for a name:
//! so a change deep in the tree lists nothing but itself. Only znodes that the layers below do not have are in the list of
//! their parent's children; the others are found there.

use foldhash::quality::FixedState;
use zorilla_proto::ids::Zxid;
use zorilla_snapshot::{NodeKind, NodeVersion, path_hash};

use super::acl::{Acl, Acls};
use super::arena::{Arena, Blob, Content};
use super::digest;
use super::reap::Reapable;
use crate::table::{NONE, Slab, Slot, StepTable};

/// What an entry says of its path, in relation to the layers below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A znode that the layers below do not have. Its deletion leaves nothing.
    New,
    /// A znode that hides one of the layers below.
    Over,
    /// A znode of the layers below with another version or ACL; its data is theirs.
    Lower,
    /// A znode of the layers below is gone.
    Absent,
}

/// Bits of [`Node::acl`] that number the list; the two above them are the kind.
const ACL_BITS: u32 = 30;

/// What every entry stores.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub parent: u32,
    /// The next child of its parent that the layers below do not have.
    pub next: u32,
    pub prev: u32,
    /// Its [`Extra`], or `NONE` while it is as it was created.
    pub extra: u32,
    pub blob: u32,
    /// The number of its ACL, and its kind.
    acl: u32,
    pub prefix_crc: u32,
    /// Hash of the full path: a wrong candidate of a lookup ends here, and the index asks for it when it splits a page.
    pub hash: u32,
    pub czxid: Zxid,
    pub ctime_ms: i64,
}

const _: () = assert!(size_of::<Node>() == 48);

impl Node {
    #[inline]
    pub fn kind(&self) -> Kind {
        match self.acl >> ACL_BITS {
            0 => Kind::New,
            1 => Kind::Over,
            2 => Kind::Lower,
            _ => Kind::Absent,
        }
    }

    /// The number of its ACL in its overlay.
    #[inline]
    pub fn acl(&self) -> u32 {
        self.acl & ((1 << ACL_BITS) - 1)
    }
}

#[inline]
fn tagged(acl: u32, kind: Kind) -> u32 {
    assert!(acl >> ACL_BITS == 0, "more than {} different access lists", 1_u32 << ACL_BITS);
    acl | (kind as u32) << ACL_BITS
}

impl Default for Node {
    fn default() -> Node {
        Node {
            parent: NONE,
            next: NONE,
            prev: NONE,
            extra: NONE,
            blob: NONE,
            acl: 0,
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
pub(super) struct Extra {
    mzxid: Zxid,
    pzxid: Zxid,
    mtime_ms: i64,
    pub owner: i64,
    version: i32,
    children_created: i32,
    aversion: i32,
    children: u32,
    pub first_child: u32,
    /// The ephemerals of one owner in this overlay, in the order of their creation.
    pub next_ephemeral: u32,
    pub prev_ephemeral: u32,
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

/// Slots in a chunk of znodes, as a power of two: one allocation for 4,096 of them.
const NODE_CHUNK_BITS: u32 = 12;

/// The slot of the root: it is the first entry of an overlay and never goes.
pub(super) const ROOT: u32 = 0;

/// See the module.
pub struct Overlay {
    pub(super) nodes: Slab<Node, NODE_CHUNK_BITS>,
    pub(super) extras: Slab<Extra, NODE_CHUNK_BITS>,
    pub(super) arena: Arena,
    pub(super) acls: Acls,
    /// Slots of all entries but the root, by path.
    pub(super) index: StepTable,
    pub(super) reapable: Reapable,
    /// Counts the overlays of a tree.
    pub(super) generation: u64,
    hasher: FixedState,
    seed: u64,
}

/// A znode that comes into an overlay, or back.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub kind: Kind,
    pub data: Content<'a>,
    pub acl: Acl<'a>,
    pub version: &'a NodeVersion,
    pub digest: u32,
}

/// The index takes 64 bits of hash; an entry keeps 32. The product is as mixed as they are.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
fn fold(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

impl Overlay {
    /// An overlay without entries; the root must come first.
    pub(super) fn new(seed: u64, generation: u64) -> Overlay {
        let hasher = FixedState::with_seed(seed);
        Overlay {
            nodes: Slab::new(),
            extras: Slab::new(),
            arena: Arena::new(),
            acls: Acls::new(&hasher),
            index: StepTable::new(),
            reapable: Reapable::default(),
            generation,
            hasher,
            seed,
        }
    }

    /// How many paths it says something of, the root among them.
    pub fn entries(&self) -> usize {
        self.nodes.len()
    }

    /// Memory held, in bytes; what is reserved and not touched yet is included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Overlay>()
            + self.nodes.memory_bytes()
            + self.extras.memory_bytes()
            + self.arena.memory_bytes()
            + self.acls.memory_bytes()
            + self.index.memory_bytes()
            + self.reapable.memory_bytes()
    }

    #[inline]
    pub(super) fn hash(&self, path: &str) -> u64 {
        path_hash(self.seed, path)
    }

    #[inline]
    pub(super) fn blob(&self, node: &Node) -> Blob<'_> {
        self.arena.get(node.blob)
    }

    #[inline]
    pub(super) fn acl(&self, node: &Node) -> Acl<'_> {
        self.acls.get(node.acl())
    }

    /// The entry of a path, whatever it says.
    #[inline]
    pub(super) fn slot(&self, path: &str, hash: u64) -> Option<u32> {
        if path.is_empty() {
            return Some(ROOT);
        }
        let hash = fold(hash);
        self.index.find(spread(hash), |slot| {
            let node = self.nodes.get(slot);
            node.hash == hash && self.has_path(node, path)
        })
    }

    /// Whether `path` is the path of an entry that is not the root's: name by name, from the last to the first.
    pub(super) fn has_path(&self, node: &Node, path: &str) -> bool {
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

    /// Puts the path of an entry into `path`; the root's is empty.
    pub(super) fn path_of(&self, node: &Node, path: &mut String) {
        path.clear();
        if node.parent == NONE {
            return;
        }
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
        let mut bytes = std::mem::take(path).into_bytes();
        bytes.resize(end, b'/');
        for name in names() {
            bytes[end - name.len()..end].copy_from_slice(name);
            end -= name.len() + 1;
        }
        *path = String::from_utf8(bytes).expect("names are text and so is a path of them");
    }

    /// The name of a znode: the last component of what its entry is called.
    pub(super) fn name(&self, node: &Node) -> &str {
        let name = self.blob(node).name();
        // Only below the root is there more than a name.
        if node.parent != ROOT {
            return name;
        }
        name.rsplit_once('/').map_or(name, |(_, name)| name)
    }

    pub(super) fn version(&self, node: &Node) -> NodeVersion {
        let blob = self.blob(node);
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
            data_bytes: blob.data_bytes() as u32,
            data_is_null: blob.is_null(),
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

    #[inline]
    pub(super) fn children_of(&self, slot: u32) -> u32 {
        match self.nodes.get(slot).extra {
            NONE => 0,
            extra => self.extras.get(extra).children,
        }
    }

    /// The first child that the layers below do not have.
    #[inline]
    pub(super) fn first_child(&self, node: &Node) -> u32 {
        match node.extra {
            NONE => NONE,
            extra => self.extras.get(extra).first_child,
        }
    }

    #[inline]
    pub(super) fn extra_of(&mut self, slot: u32) -> &mut Extra {
        let extra = self.nodes.get(slot).extra;
        self.extras.get_mut(extra)
    }

    /// What a znode adds to the digest of the tree.
    #[inline]
    pub(super) fn digest_of(&self, slot: u32, path: &str) -> u32 {
        let node = self.nodes.get(slot);
        match node.extra {
            NONE => digest::short(path, &self.version(node)),
            extra => self.extras.get(extra).digest,
        }
    }

    /// Adds an entry for a path that has none, below `parent`; the root has `NONE` there.
    pub(super) fn add(&mut self, parent: u32, name: &str, hash: u64, arrival: Arrival<'_>) -> u32 {
        let Arrival { kind, data, acl, version, digest } = arrival;
        let hash = fold(hash);
        let blob = self.arena.insert(name, data);
        let acl = tagged(self.acls.intern(acl.raw, acl.count, &self.hasher), kind);
        let NodeVersion { prefix_crc, czxid, ctime_ms, .. } = *version;
        let node = Node { parent, next: NONE, prev: NONE, extra: NONE, blob, acl, prefix_crc, hash, czxid, ctime_ms };
        let slot = self.nodes.insert(node);
        if !version.is_as_created() {
            self.store_extra(slot, version, digest);
        }
        if parent != NONE {
            self.enter(slot, hash);
            if kind == Kind::New {
                let next = std::mem::replace(&mut self.extra_of(parent).first_child, slot);
                if next != NONE {
                    self.nodes.get_mut(next).prev = slot;
                    self.nodes.get_mut(slot).next = next;
                }
            }
        }
        self.reapable.moved(slot, None, Some(version));
        slot
    }

    #[inline]
    fn enter(&mut self, slot: u32, hash: u32) {
        let Overlay { index, nodes, .. } = self;
        index.insert(spread(hash), slot, |slot| spread(nodes.get(slot).hash));
    }

    /// Says that a path that has no entry has no znode any more.
    pub(super) fn add_absent(&mut self, parent: u32, name: &str, hash: u64) {
        let hash = fold(hash);
        let blob = self.arena.insert(name, Content::lower(0, true));
        let node = Node { parent, blob, acl: tagged(0, Kind::Absent), hash, ..Node::default() };
        let slot = self.nodes.insert(node);
        self.enter(slot, hash);
    }

    /// A znode comes where there was none any more; `path` is its own.
    pub(super) fn revive(&mut self, slot: u32, path: &str, arrival: Arrival<'_>) {
        let Arrival { data, acl, version, digest, .. } = arrival;
        let acl = tagged(self.acls.intern(acl.raw, acl.count, &self.hasher), Kind::Over);
        let blob = self.put_blob(slot, path, data);
        let node = self.nodes.get_mut(slot);
        assert!(node.kind() == Kind::Absent, "{path} is created and exists already");
        node.acl = acl;
        node.blob = blob;
        node.prefix_crc = version.prefix_crc;
        node.czxid = version.czxid;
        node.ctime_ms = version.ctime_ms;
        if !version.is_as_created() {
            self.store_extra(slot, version, digest);
        }
        self.reapable.moved(slot, None, Some(version));
    }

    /// Other data below the same name.
    #[inline]
    fn put_blob(&mut self, slot: u32, path: &str, data: Content<'_>) -> u32 {
        let blob = self.nodes.get(slot).blob;
        // The name is the last part of the path, or all of it but the first slash.
        let name = &path[path.len() - self.arena.get(blob).name_bytes().len()..];
        self.arena.replace(blob, name, data)
    }

    /// Gives a znode data of its own.
    #[inline]
    pub(super) fn set_data(&mut self, slot: u32, path: &str, data: Option<&[u8]>, prefix_crc: u32) {
        let blob = self.put_blob(slot, path, data.into());
        let node = self.nodes.get_mut(slot);
        node.blob = blob;
        node.prefix_crc = prefix_crc;
        if node.kind() == Kind::Lower {
            node.acl = tagged(node.acl(), Kind::Over);
        }
    }

    pub(super) fn set_acl(&mut self, slot: u32, raw: &[u8], count: u32) {
        let acl = self.acls.intern(raw, count, &self.hasher);
        let node = self.nodes.get_mut(slot);
        let before = node.acl();
        node.acl = tagged(acl, node.kind());
        self.acls.release(before, &self.hasher);
    }

    /// A znode goes: without a trace, or to hide that of the layers below.
    pub(super) fn delete(&mut self, slot: u32, path: &str, version: &NodeVersion) {
        let Node { parent, next, prev, extra, blob, hash, .. } = *self.nodes.get(slot);
        let (kind, acl) = (self.nodes.get(slot).kind(), self.nodes.get(slot).acl());
        self.reapable.moved(slot, Some(version), None);
        self.acls.release(acl, &self.hasher);
        if extra != NONE {
            self.extras.remove(extra);
        }
        if kind != Kind::New {
            let blob = self.put_blob(slot, path, Content::lower(0, true));
            let node = self.nodes.get_mut(slot);
            *node = Node { parent, blob, acl: tagged(0, Kind::Absent), hash, ..Node::default() };
            return;
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
        self.arena.remove(blob);
        self.nodes.remove(slot);
    }

    /// Gives a znode a new version; its data is not touched. Returns what it added to the digest before.
    #[inline]
    pub(super) fn restamp(&mut self, slot: u32, path: &str, version: &NodeVersion, digest: u32) -> u32 {
        let before = self.digest_of(slot, path);
        let node = self.nodes.get(slot);
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
        if extra != NONE || !version.is_as_created() {
            self.store_extra(slot, version, digest);
        }
        before
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
}
