//! The data tree: every znode of this server at one zxid.
//!
//! Guarantees: a change is installed whole ([`Tree::install`]); counts, child lists, ephemerals by owner and the digest
//! are always those of the znodes; no step costs more because the tree is larger, however it grew; a lookup and a set
//! of the same size call no allocator. It decides nothing: an [`Effect`] carries complete new versions, made by `prep`.
//!
//! It is a stack of layers, each of which says what is other than below it: the *live* overlay, which takes all changes;
//! one that is *frozen* while it is written to a run; and the runs, which are mapped files. A tree without lower layers
//! is its live overlay. What holds for the whole tree (counts, digest, quotas) is kept here and not in the layers.
//!
//! A znode of an overlay is 48 bytes, plus 64 for one that is not as it was created (set, parent, ephemeral), plus one blob
//! with its name and data, plus its place in the index, which is keyed by a seeded hash of the full path. The path itself is
//! not stored: a lookup compares names from the last component up to the root.
//!
//! That a znode of a lower layer is gone is an entry, too, which stays until a merge of the runs reaches the lowest one. A
//! znode that is created where there was one needs no mark that hides the old children: they were deleted before it, and
//! their entries say so.
//!
//! Knows no clock, thread, socket or file; readers and the writer are kept apart by the gate.

mod acl;
mod arena;
mod below;
pub mod digest;
mod flush;
mod layers;
mod listing;
mod overlay;
mod owners;
pub mod path;
pub mod quota;
mod reap;
mod subtree;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;

use zorilla_proto::ids::{SessionId, Zxid};

pub use zorilla_snapshot::{CONTAINER_OWNER, NodeKind, NodeVersion, Value, ttl_owner};

pub use self::acl::Acl;
use self::acl::{OPEN_RAW, READ_RAW};
pub use self::below::Needed;
use self::below::{Below, Place};
pub use self::flush::Flush;
pub use self::listing::{Children, ListingPosition};
pub use self::overlay::Overlay;
use self::overlay::{Arrival, Kind, ROOT};
use self::owners::Owners;
use self::quota::Quotas;
use crate::table::NONE;

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

/// See the module.
pub struct Tree {
    live: Overlay,
    below: Below,
    owners: Owners,
    quotas: Quotas,
    digest: u64,
    /// Znodes of the whole tree, the root included.
    len: u64,
    /// Bytes of all paths and data; the root's path counts as one.
    bytes: u64,
    seed: u64,
    /// Which of the containers and znodes with a time to live in the runs is looked at next.
    reap_next: AtomicU64,
}

// The gate hands references to many threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Tree>();
};

/// The root is known by two paths; inside it has the empty one, as in the digest.
#[inline]
fn key(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

impl Tree {
    /// The tree of an empty server: its four initial znodes (`client-protocol.md` 14.4). `seed` makes its hashes its
    /// own, so that no client can choose paths that collide.
    pub fn new(seed: u64) -> Tree {
        let mut tree = Tree::without_root(seed);
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
        let version = initial("", 0, 0);
        tree.add_new(NONE, "", "", (Some(&[]), Acl { raw: OPEN_RAW, count: 1 }, &version));
        let zookeeper = "/zookeeper";
        for (path, acl, aversion, parent) in [
            (zookeeper, OPEN_RAW, 0, initial("", 1, 0)),
            ("/zookeeper/quota", OPEN_RAW, 0, initial(zookeeper, 1, 0)),
            ("/zookeeper/config", READ_RAW, -1, initial(zookeeper, 2, 0)),
        ] {
            let node = initial(path, 0, aversion);
            tree.install(&Effect::Create { path, data: Some(&[]), acl, acl_count: 1, node, parent });
        }
        // The root's path counts as one.
        tree.bytes += "/".len() as u64;
        tree
    }

    /// What has to get a root first.
    fn without_root(seed: u64) -> Tree {
        Tree {
            live: Overlay::new(seed, 1),
            below: Below::default(),
            owners: Owners::new(seed),
            quotas: Quotas::new(),
            digest: 0,
            len: 0,
            bytes: 0,
            seed,
            reap_next: AtomicU64::new(0),
        }
    }

    /// The znode at `path`. Both the empty path and `/` name the root; a path that breaks the rules names nothing. What is on
    /// disk only is waited for: [`Tree::probe`] tells before.
    #[inline]
    pub fn find(&self, path: &str) -> Option<NodeRef<'_>> {
        let path = key(path);
        let hash = self.live.hash(path);
        let place = match self.live.slot(path, hash).map(|slot| self.live.nodes.get(slot)) {
            Some(node) if node.kind() == Kind::Absent => return None,
            Some(node) => Place::Live(&self.live, node),
            None if !self.below.any => return None,
            None => self.below.wait(|| self.below.find(0, path, hash))?,
        };
        Some(NodeRef { tree: self, place })
    }

    fn root(&self) -> NodeRef<'_> {
        NodeRef { tree: self, place: Place::Live(&self.live, self.live.nodes.get(ROOT)) }
    }

    /// The entry in the live overlay of a znode that is about to change, brought there if it is not.
    #[inline]
    fn writable(&mut self, path: &str) -> Option<u32> {
        let path = key(path);
        let hash = self.live.hash(path);
        match self.live.slot(path, hash) {
            Some(slot) => (self.live.nodes.get(slot).kind() != Kind::Absent).then_some(slot),
            None if !self.below.any => None,
            None => self.bring_up(path, hash),
        }
    }

    /// Makes one change. What it says must fit the tree: the znode missing or there, its parent there and of that
    /// version. What quotas count follows by itself.
    pub fn install(&mut self, effect: &Effect<'_>) {
        match *effect {
            Effect::Create { path, data, acl, acl_count, ref node, ref parent } => {
                self.create(path, data, Acl { raw: acl, count: acl_count }, node, parent);
                self.count_quota(path, node.data_bytes.into(), 1);
            }
            Effect::SetData { path, data, ref node } => {
                let before = self.set_data(key(path), data, node);
                self.count_quota(path, i64::from(node.data_bytes) - i64::from(before), 0);
            }
            Effect::SetAcl { path, acl, acl_count, ref node } => self.set_acl(key(path), (acl, acl_count), node),
            Effect::Delete { path, ref parent } => {
                let before = self.delete(key(path), parent);
                self.count_quota(path, -i64::from(before), -1);
            }
        }
    }

    fn create(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: Acl<'_>,
        version: &NodeVersion,
        parent_version: &NodeVersion,
    ) {
        let (parent_path, name) = path::split(path).unwrap_or_else(|| panic!("{path} is created without a parent"));
        assert!(!name.is_empty(), "{path} is created without a name");
        let Some(parent) = self.writable(parent_path) else { panic!("{path} is created and its parent is missing") };
        assert_eq!(version.children, 0, "children of {path}, which is created");
        let children = self.live.children_of(parent);
        assert_eq!(parent_version.children, children + 1, "children of {parent_path} after the create of {path}");
        self.restamp(parent, parent_path, parent_version);
        self.add_new(parent, path, name, (data, acl, version));
    }

    /// Adds a znode below one whose version counts it already.
    fn add_new(
        &mut self,
        parent: u32,
        path: &str,
        name: &str,
        (data, acl, version): (Option<&[u8]>, Acl<'_>, &NodeVersion),
    ) -> u32 {
        check_data(path, data, version);
        let hash = self.live.hash(path);
        let digest = digest::short(path, version);
        let arrival = Arrival { kind: Kind::New, data: data.into(), acl, version, digest };
        let known = if parent == NONE { None } else { self.live.slot(path, hash) };
        let slot = match known {
            Some(slot) => {
                self.live.revive(slot, path, arrival);
                slot
            }
            None => {
                debug_assert!(
                    !self.below.any || self.below.wait(|| self.below.find(0, path, hash)).is_none(),
                    "{path} is created and exists already"
                );
                self.live.add(parent, name, hash, arrival)
            }
        };
        self.digest = self.digest.wrapping_add(digest.into());
        self.bytes += path.len() as u64 + u64::from(version.data_bytes);
        self.len += 1;
        if let Some(session) = version.ephemeral_session() {
            let owner = self.owners.count_one(session, path);
            self.owners.link(owner, &mut self.live, slot);
        }
        slot
    }

    /// Returns how many bytes of data the znode had.
    fn set_data(&mut self, path: &str, data: Option<&[u8]>, version: &NodeVersion) -> u32 {
        let Some(slot) = self.writable(path) else { panic!("{path} is set and is missing") };
        check_data(path, data, version);
        assert_eq!(version.children, self.live.children_of(slot), "children of {path} after a set of its data");
        let before = self.live.blob(self.live.nodes.get(slot)).data_bytes() as u32;
        self.restamp(slot, path, version);
        self.live.set_data(slot, path, data, version.prefix_crc);
        self.bytes = self.bytes - u64::from(before) + u64::from(version.data_bytes);
        before
    }

    fn set_acl(&mut self, path: &str, (acl, acl_count): (&[u8], u32), version: &NodeVersion) {
        let Some(slot) = self.writable(path) else { panic!("the ACL of {path} is set and it is missing") };
        assert_eq!(version.children, self.live.children_of(slot), "children of {path} after a set of its ACL");
        self.restamp(slot, path, version);
        self.live.set_acl(slot, acl, acl_count);
    }

    /// Returns how many bytes of data the znode had.
    fn delete(&mut self, path: &str, parent_version: &NodeVersion) -> u32 {
        assert!(!path.is_empty(), "the root is deleted");
        let hash = self.live.hash(path);
        let slot = self.live.slot(path, hash);
        let (version, digest) = match slot {
            Some(slot) if self.live.nodes.get(slot).kind() != Kind::Absent => {
                (self.live.version(self.live.nodes.get(slot)), self.live.digest_of(slot, path))
            }
            None if self.below.any => {
                let found = self.below.wait(|| self.below.find(0, path, hash));
                let Some(place) = found else { panic!("{path} is deleted and is missing") };
                let version = place.version();
                (version, digest::short(path, &version))
            }
            _ => panic!("{path} is deleted and is missing"),
        };
        let (parent_path, name) = path::split(path).expect("a znode that is not the root has a parent");
        let Some(parent) = self.writable(parent_path) else { panic!("{path} is deleted and its parent is missing") };
        let children = self.live.children_of(parent);
        assert_eq!(parent_version.children + 1, children, "children of {parent_path} before the delete of {path}");
        assert_eq!(version.children, 0, "children of {path}, which is deleted");

        self.bytes -= path.len() as u64 + u64::from(version.data_bytes);
        self.len -= 1;
        self.digest = self.digest.wrapping_sub(digest.into());
        if let Some(session) = version.ephemeral_session() {
            self.owners.remove(session, path, &mut self.live, slot);
        }
        match slot {
            Some(slot) => self.live.delete(slot, path, &version),
            None => self.live.add_absent(parent, name, hash),
        }
        self.restamp(parent, parent_path, parent_version);
        version.data_bytes
    }

    /// Gives a znode a new version, and its share of the digest.
    fn restamp(&mut self, slot: u32, path: &str, version: &NodeVersion) {
        let digest = digest::short(path, version);
        let before = self.live.restamp(slot, path, version, digest);
        self.digest = self.digest.wrapping_sub(before.into()).wrapping_add(digest.into());
    }

    /// The digest of the tree, as the reference computes it (`semantics.md` 17).
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Znodes, the root included.
    #[expect(clippy::len_without_is_empty, reason = "a tree is never empty")]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Bytes of all paths and data: what the reference reports as `approximate_data_size`.
    pub fn approximate_data_bytes(&self) -> u64 {
        self.bytes
    }

    /// Ephemerals of all sessions.
    pub fn ephemerals_count(&self) -> usize {
        self.owners.count() as usize
    }

    /// The full paths of a session's ephemerals, in no order that means anything.
    pub fn ephemerals(&self, owner: SessionId, each: &mut dyn FnMut(&str)) {
        if self.below.runs.is_empty() {
            return self.below.wait(|| self.each_ephemeral(owner, each));
        }
        // What has to be waited for is asked again from the start.
        let paths = self.below.wait(|| {
            let mut paths = Vec::new();
            self.each_ephemeral(owner, &mut |path| paths.push(path.to_owned())).map(|()| paths)
        });
        paths.iter().for_each(|path| each(path));
    }

    /// What a session's ephemerals take in its closeSession transaction, in bytes.
    pub fn ephemeral_path_bytes(&self, owner: SessionId) -> u64 {
        self.owners.path_bytes(owner)
    }

    /// Memory held, in bytes; what is reserved and not touched yet is included. Runs are files.
    pub fn memory_bytes(&self) -> usize {
        let frozen = self.below.frozen.as_ref().map_or(0, |frozen| frozen.memory_bytes());
        size_of::<Tree>() - size_of::<Overlay>() + self.live.memory_bytes() + frozen + self.owners.memory_bytes()
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
    place: Place<'t>,
}

impl<'t> NodeRef<'t> {
    /// Its version.
    #[inline]
    pub fn version(&self) -> NodeVersion {
        self.place.version()
    }

    /// Its data, perhaps packed: unpacking is work that belongs off the gate. Never [`Value::Lower`].
    #[inline]
    pub fn value(&self) -> Value<'t> {
        match self.place {
            Place::Live(overlay, node) if node.kind() != Kind::Lower => plain(overlay.blob(node).data()),
            _ => self.tree.below.wait(|| self.tree.value_of(&self.place)),
        }
    }

    /// Its data; null and empty are told apart. What is packed is unpacked on the spot.
    #[inline]
    pub fn data(&self) -> Option<Cow<'t, [u8]>> {
        match self.value() {
            Value::Null | Value::Lower => None,
            Value::Plain(data) => Some(Cow::Borrowed(data)),
            Value::Packed { zstd, bytes } => {
                let data = Value::unpack(zstd, bytes);
                Some(Cow::Owned(data.unwrap_or_else(|error| panic!("a value behind a good checksum: {error}"))))
            }
        }
    }

    /// Its ACL.
    #[inline]
    pub fn acl(&self) -> Acl<'t> {
        self.tree.below.acl(&self.place)
    }

    /// The names of its children, in no order that means anything.
    pub fn children(&self) -> Children<'t> {
        Children::new(*self)
    }

    /// The children from a position on that [`Children::position`] gave. `None`: children came or went, or the layers are
    /// others since; the listing must start again.
    pub fn children_from(&self, position: &ListingPosition) -> Option<Children<'t>> {
        Children::resume(*self, position)
    }
}

fn plain(data: Option<&[u8]>) -> Value<'_> {
    data.map_or(Value::Null, Value::Plain)
}
