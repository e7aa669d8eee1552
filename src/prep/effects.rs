//! What a transaction does to the tree: complete new versions of every znode it touches.
//!
//! The same code serves prep (over the pending overlay), learners and recovery (over the tree), so a transaction cannot mean
//! two things. It decides nothing: a transaction that does not fit the view is [`Unfit`], which is damage when it comes from
//! a log and a broken promise when it comes from prep.

use std::fmt;

use zorilla_proto::client::AclVec;
use zorilla_proto::ids::SessionId;
use zorilla_proto::txn::{PARENT_CVERSION_UNKNOWN, Txn, TxnHeader};

use super::{Before, View};
use crate::limits::TTL_MS_MAX;
use crate::tree::{CONTAINER_OWNER, Effect, NodeVersion, digest, path, ttl_owner};

/// A transaction that the view has no place for: something it needs is missing, or something it creates is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What does not fit, in words.
    pub what: &'static str,
    /// Where.
    pub path: String,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

fn unfit(what: &'static str, path: &str) -> Unfit {
    Unfit { what, path: path.to_owned() }
}

/// Applies every effect of a transaction to `view`, in order. Sessions are not in the tree: createSession has no effect here.
pub fn effects(header: &TxnHeader, txn: &Txn<'_>, view: &mut impl View) -> Result<(), Unfit> {
    match txn {
        Txn::Create { path, data, acl, ephemeral, parent_cversion, .. } => {
            let owner = if *ephemeral { header.session.raw() } else { 0 };
            create(header, path, *data, *acl, owner, *parent_cversion, view)
        }
        Txn::CreateContainer { path, data, acl, parent_cversion } => {
            create(header, path, *data, *acl, CONTAINER_OWNER, *parent_cversion, view)
        }
        Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => {
            if !(1..=TTL_MS_MAX).contains(ttl_ms) {
                return Err(unfit("created with a time to live that no znode can have", path));
            }
            create(header, path, *data, *acl, ttl_owner(*ttl_ms), *parent_cversion, view)
        }
        Txn::Delete { path } | Txn::DeleteContainer { path } => delete(header, path, view),
        Txn::SetData { path, data, version } => set_data(header, path, *data, *version, view),
        Txn::SetAcl { path, acl, version } => set_acl(path, *acl, *version, view),
        Txn::CloseSession { paths: Some(paths) } => {
            for path in paths.iter() {
                delete(header, &path, view)?;
            }
            Ok(())
        }
        // The log does not list them: what the session has now.
        Txn::CloseSession { paths: None } => {
            for path in sorted_ephemerals(header.session, view) {
                delete(header, &path, view)?;
            }
            Ok(())
        }
        Txn::Multi(parts) if parts.has_error() => Ok(()),
        Txn::Multi(parts) => {
            for part in parts.iter() {
                let txn = part.txn().map_err(|_| unfit("a part of a multi cannot be decoded", ""))?;
                effects(header, &txn, view)?;
            }
            Ok(())
        }
        Txn::CreateSession { .. } | Txn::Check { .. } | Txn::Error { .. } => Ok(()),
        Txn::Reconfig { .. } => Err(unfit("this kind of transaction is not written by this release", "")),
    }
}

/// The ephemeral znodes of a session in the order in which its end deletes them, which must not be that of a table.
pub fn sorted_ephemerals(session: SessionId, view: &impl View) -> Vec<String> {
    let mut paths = Vec::new();
    view.ephemerals(session, &mut |path| paths.push(path.to_owned()));
    paths.sort_unstable();
    paths
}

fn create(
    header: &TxnHeader,
    path: &str,
    data: Option<&[u8]>,
    acl: Option<AclVec<'_>>,
    owner: i64,
    parent_cversion: i32,
    view: &mut impl View,
) -> Result<(), Unfit> {
    if view.find(path).is_some() {
        return Err(unfit("created, but it exists", path));
    }
    let parent_path = path::parent(path).ok_or_else(|| unfit("created, but the path has no parent", path))?;
    let Some(parent) = view.find(parent_path) else { return Err(unfit("created, but its parent is missing", path)) };
    let before = parent.version;
    let mut after = before;
    // The oldest form of a create does not say it.
    let created = if parent_cversion == PARENT_CVERSION_UNKNOWN {
        before.children_created.wrapping_add(1)
    } else {
        parent_cversion
    };
    // The counter only moves forward: at its end it stays, and no name is given out twice (`semantics.md` 6).
    if before.children_created < created {
        after.children_created = created;
        after.pzxid = header.zxid;
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
        owner,
        data_bytes: data.map_or(0, |data| data.len() as u32),
        data_is_null: data.is_none(),
        children: 0,
        prefix_crc: digest::prefix_crc(path, data),
    };
    let (acl, acl_count) = acl.map_or((&[][..], 0), |acl| (acl.raw(), acl.len() as u32));
    let effect = Effect::Create { path, data, acl, acl_count, node, parent: after };
    view.apply(&effect, Before { node: None, parent: Some(before) });
    Ok(())
}

fn delete(header: &TxnHeader, path: &str, view: &mut impl View) -> Result<(), Unfit> {
    let Some(node) = view.find(path).map(|found| found.version) else {
        return Err(unfit("deleted, but it is missing", path));
    };
    if 0 < node.children {
        return Err(unfit("deleted, but it has children", path));
    }
    let parent_path = path::parent(path).ok_or_else(|| unfit("deleted, but the path has no parent", path))?;
    let Some(parent) = view.find(parent_path) else { return Err(unfit("deleted, but its parent is missing", path)) };
    let before = parent.version;
    let mut after = before;
    after.pzxid = before.pzxid.max(header.zxid);
    after.children -= 1;
    view.apply(&Effect::Delete { path, parent: after }, Before { node: Some(node), parent: Some(before) });
    Ok(())
}

fn set_data(
    header: &TxnHeader,
    path: &str,
    data: Option<&[u8]>,
    version: i32,
    view: &mut impl View,
) -> Result<(), Unfit> {
    let Some(found) = view.find(path) else { return Err(unfit("set, but it is missing", path)) };
    let before = found.version;
    let node = NodeVersion {
        mzxid: header.zxid,
        mtime_ms: header.time_ms,
        version,
        data_bytes: data.map_or(0, |data| data.len() as u32),
        data_is_null: data.is_none(),
        prefix_crc: digest::prefix_crc(if path == "/" { "" } else { path }, data),
        ..before
    };
    view.apply(&Effect::SetData { path, data, node }, Before { node: Some(before), parent: None });
    Ok(())
}

fn set_acl(path: &str, acl: Option<AclVec<'_>>, version: i32, view: &mut impl View) -> Result<(), Unfit> {
    let Some(found) = view.find(path) else { return Err(unfit("given an ACL, but it is missing", path)) };
    let before = found.version;
    let node = NodeVersion { aversion: version, ..before };
    let (acl, acl_count) = acl.map_or((&[][..], 0), |acl| (acl.raw(), acl.len() as u32));
    view.apply(&Effect::SetAcl { path, acl, acl_count, node }, Before { node: Some(before), parent: None });
    Ok(())
}
