//! Transactions of a Java server's log on a tree that may hold some of their effects already.
//!
//! The reference writes snapshots while clients write: relative to the zxid in its name such a file holds all earlier
//! transactions and any part of later ones. So replay tolerates both what is there already and what is missing, by the
//! reference's rules:
//!
//! | transaction | what is found | what happens |
//! |---|---|---|
//! | create | no parent | nothing |
//! | | the znode | it gets the ACL; of type 1 only, the parent's cversion and pzxid move forward |
//! | | – | created; the parent's cversion and pzxid move forward only |
//! | delete | no parent | nothing |
//! | | no znode | the parent's pzxid moves forward |
//! | | children | they are later than this delete and go with it; the log makes them again |
//! | set of data or ACL | no znode | nothing |
//! | | a later version | overwritten; what follows in the log brings it forward again |
//! | closeSession | – | every listed path goes, whoever owns it now, then what the session still owns |
//! | multi | an error in it | nothing |
//!
//! Two servers that hold the same log thus end at the same tree, whatever snapshots they began with.

use std::collections::HashSet;

use zorilla_proto::client::AclVec;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::op::Op;
use zorilla_proto::txn::{PARENT_CVERSION_UNKNOWN, Txn, TxnHeader};

use crate::limits::TTL_MS_MAX;
use crate::tree::{CONTAINER_OWNER, Effect, NodeVersion, Tree, digest, path, ttl_owner};

/// The tree, and the sessions that ever owned an ephemeral znode in it.
pub(super) struct Fuzzy {
    pub tree: Tree,
    pub owners: HashSet<SessionId>,
    /// Copies of what is read from the tree and written back to it.
    acl: Vec<u8>,
    doomed: Vec<String>,
}

/// What a replay may note: nothing of it stops the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// A part of a multi that cannot be read; neither it nor what follows it in the multi was applied.
    Part,
    /// A path that no znode can have.
    Path,
    /// A time to live that no znode can have.
    Ttl,
}

impl Fuzzy {
    pub fn new(tree: Tree) -> Fuzzy {
        Fuzzy { tree, owners: HashSet::new(), acl: Vec::new(), doomed: Vec::new() }
    }

    /// Applies one transaction.
    pub fn apply(&mut self, header: &TxnHeader, txn: &Txn<'_>) -> Result<(), Odd> {
        match txn {
            Txn::Create { path, data, acl, ephemeral, parent_cversion, kind } => {
                let owner = if *ephemeral { header.session.raw() } else { 0 };
                let made = Made { path, data: *data, acl: *acl, owner, parent_cversion: *parent_cversion };
                self.create(header, &made, *kind == Op::Create)
            }
            Txn::CreateContainer { path, data, acl, parent_cversion } => {
                let owner = CONTAINER_OWNER;
                let made = Made { path, data: *data, acl: *acl, owner, parent_cversion: *parent_cversion };
                self.create(header, &made, false)
            }
            Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => {
                if !(1..=TTL_MS_MAX).contains(ttl_ms) {
                    return Err(Odd::Ttl);
                }
                let owner = ttl_owner(*ttl_ms);
                let made = Made { path, data: *data, acl: *acl, owner, parent_cversion: *parent_cversion };
                self.create(header, &made, false)
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => {
                self.delete(header.zxid, path);
                Ok(())
            }
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                self.set_data(header, path, *data, *version);
                Ok(())
            }
            Txn::SetAcl { path, acl, version } => {
                let Some(before) = self.version(path) else { return Ok(()) };
                self.set_acl(path, *acl, NodeVersion { aversion: *version, ..before });
                Ok(())
            }
            Txn::CloseSession { paths } => {
                for path in paths.iter().flatten() {
                    self.delete(header.zxid, &path);
                }
                self.delete_ephemerals(header.session, header.zxid);
                Ok(())
            }
            Txn::Multi(parts) if parts.has_error() => Ok(()),
            Txn::Multi(parts) => {
                let mut odd = Ok(());
                for part in parts.iter() {
                    // A part that cannot be read ends the multi, and what was applied stays.
                    let Ok(txn) = part.txn() else { return Err(Odd::Part) };
                    odd = self.apply(header, &txn).and(odd);
                }
                odd
            }
            Txn::CreateSession { .. } | Txn::Check { .. } | Txn::Error { .. } => Ok(()),
        }
    }

    /// Deletes every ephemeral znode of a session, as its end does; returns how many.
    pub fn delete_ephemerals(&mut self, session: SessionId, zxid: Zxid) -> usize {
        if !self.owners.contains(&session) {
            return 0;
        }
        let mut paths = Vec::new();
        self.tree.ephemerals(session, &mut |path| paths.push(path.to_owned()));
        for path in &paths {
            self.delete(zxid, path);
        }
        paths.len()
    }

    fn version(&self, path: &str) -> Option<NodeVersion> {
        self.tree.find(path).map(|node| node.version())
    }

    fn create(&mut self, header: &TxnHeader, made: &Made<'_>, moves_parent: bool) -> Result<(), Odd> {
        let path = made.path;
        let (parent_path, name) = path::split(path).ok_or(Odd::Path)?;
        let Some(parent) = self.version(parent_path) else { return Ok(()) };
        let created = match made.parent_cversion {
            PARENT_CVERSION_UNKNOWN => parent.children_created.wrapping_add(1),
            created => created,
        };
        let mut after = parent;
        if parent.children_created < created {
            (after.children_created, after.pzxid) = (created, header.zxid);
        }
        if let Some(there) = self.version(path) {
            self.set_acl(path, made.acl, there);
            if moves_parent && after != parent {
                self.restamp(parent_path, after);
            }
            return Ok(());
        }
        if name.is_empty() {
            return Err(Odd::Path);
        }
        after.children += 1;
        let node = NodeVersion {
            czxid: header.zxid,
            mzxid: header.zxid,
            pzxid: header.zxid,
            ctime_ms: header.time_ms,
            mtime_ms: header.time_ms,
            version: 0,
            children_created: 0,
            aversion: 0,
            owner: made.owner,
            data_bytes: made.data.map_or(0, |data| data.len() as u32),
            data_is_null: made.data.is_none(),
            children: 0,
            prefix_crc: digest::prefix_crc(path, made.data),
        };
        self.owners.extend(node.ephemeral_session());
        let (acl, acl_count) = parts(made.acl);
        self.tree.install(&Effect::Create { path, data: made.data, acl, acl_count, node, parent: after });
        Ok(())
    }

    fn delete(&mut self, zxid: Zxid, path: &str) {
        let Some((parent_path, name)) = path::split(path) else { return };
        // Nobody deletes the root.
        let (Some(before), false) = (self.version(parent_path), name.is_empty()) else { return };
        let after = NodeVersion { pzxid: before.pzxid.max(zxid), ..before };
        match self.version(path) {
            None if after != before => self.restamp(parent_path, after),
            None => {}
            Some(node) => {
                if 0 < node.children {
                    self.clear(path);
                }
                let parent = NodeVersion { children: before.children - 1, ..after };
                self.tree.install(&Effect::Delete { path, parent });
            }
        }
    }

    /// Deletes everything below `path`.
    fn clear(&mut self, path: &str) {
        let mut doomed = std::mem::take(&mut self.doomed);
        doomed.push(path.to_owned());
        let mut at = 0;
        // Parents before their children; then from the end.
        while let Some(parent) = doomed.get(at).cloned() {
            let children = self.tree.find(&parent).into_iter().flat_map(|node| node.children());
            doomed.extend(children.map(|name| format!("{parent}/{name}")));
            at += 1;
        }
        for path in doomed.drain(1..).rev() {
            let parent_path = path::parent(&path).expect("what is below a znode has a parent");
            let parent = self.version(parent_path).expect("parents are deleted after their children");
            let parent = NodeVersion { children: parent.children - 1, ..parent };
            self.tree.install(&Effect::Delete { path: &path, parent });
        }
        doomed.clear();
        self.doomed = doomed;
    }

    fn set_data(&mut self, header: &TxnHeader, path: &str, data: Option<&[u8]>, version: i32) {
        let Some(before) = self.version(path) else { return };
        let node = NodeVersion {
            mzxid: header.zxid,
            mtime_ms: header.time_ms,
            version,
            data_bytes: data.map_or(0, |data| data.len() as u32),
            data_is_null: data.is_none(),
            prefix_crc: digest::prefix_crc(path, data),
            ..before
        };
        self.tree.install(&Effect::SetData { path, data, node });
    }

    fn set_acl(&mut self, path: &str, acl: Option<AclVec<'_>>, node: NodeVersion) {
        let (acl, acl_count) = parts(acl);
        self.tree.install(&Effect::SetAcl { path, acl, acl_count, node });
    }

    /// Gives a znode another version and nothing else.
    fn restamp(&mut self, path: &str, node: NodeVersion) {
        let found = self.tree.find(path).expect("what is restamped was found before");
        self.acl.clear();
        self.acl.extend_from_slice(found.acl().raw);
        let acl_count = found.acl().count;
        self.tree.install(&Effect::SetAcl { path, acl: &self.acl, acl_count, node });
    }
}

/// What a create makes.
struct Made<'a> {
    path: &'a str,
    data: Option<&'a [u8]>,
    acl: Option<AclVec<'a>>,
    owner: i64,
    parent_cversion: i32,
}

/// A null list is the open one.
fn parts(acl: Option<AclVec<'_>>) -> (&[u8], u32) {
    let acl = acl.unwrap_or(AclVec::OPEN);
    (acl.raw(), acl.len() as u32)
}
