//! From a request to a transaction, or to the error that the client gets.
//!
//! Pure: [`decide`] looks at a request, at what the worker found out about it without the tree ([`Verdict`]) and at a
//! [`View`] of the tree that includes every earlier transaction, applied or not. It picks the first failing check in the
//! reference's order (`client-protocol.md` 9): failed writes consume zxids, so the order is visible. [`effects`] says what a
//! transaction does to the tree, once, for the leader that prepares it, for the learner that hears of it and for recovery.

pub mod effects;
pub mod multi;
mod quota;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use zorilla_proto::client::{
    AclVec, CheckVersionRequest, CreateRequest, CreateTtlRequest, DeleteRequest, ReconfigRequest, SetAclRequest,
    SetDataRequest,
};
use zorilla_proto::code::Code;
use zorilla_proto::ids::SessionId;
use zorilla_proto::jute::Reader;
use zorilla_proto::op::Op;
use zorilla_proto::txn::Txn;

use crate::auth::{self, AclFault, Identities, Rules};
#[cfg(doc)]
use crate::limits::ACL_GROWTH_BYTES_MAX;
use crate::limits::TTL_MS_MAX;
use crate::tree::{Effect, NodeKind, NodeVersion, Tree, path};

/// A znode as a view shows it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Everything but data, ACL and children.
    pub version: NodeVersion,
    /// The ACL list, encoded, without its count.
    pub acl: &'a [u8],
}

/// The versions that an effect replaces; `None` where there was no znode.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Of the znode itself.
    pub node: Option<NodeVersion>,
    /// Of its parent, for creates and deletes.
    pub parent: Option<NodeVersion>,
}

/// What prepared transactions will add to the counts of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Znodes.
    pub count: i64,
    /// Bytes of data.
    pub bytes: i64,
}

/// The tree as the next transaction will find it.
pub trait View {
    /// The newest version of a znode.
    fn find(&self, path: &str) -> Option<Found<'_>>;
    /// Makes `effect` part of what the next `find` shows.
    fn apply(&mut self, effect: &Effect<'_>, before: Before);
    /// Paths of the ephemeral znodes of a session, in any order.
    fn ephemerals(&self, owner: SessionId, each: &mut dyn FnMut(&str));
    /// The tree without what is not applied yet: quotas and their limits are those that are applied.
    fn applied(&self) -> &Tree;
    /// What the transactions that are not applied yet add to the counts of the quota of `subject`.
    fn counted_ahead(&self, subject: &str) -> Counted;
}

/// The applied tree itself: what recovery and learners prepare against.
impl View for Tree {
    fn find(&self, path: &str) -> Option<Found<'_>> {
        Tree::find(self, path).map(|node| Found { version: node.version(), acl: node.acl().raw })
    }

    fn apply(&mut self, effect: &Effect<'_>, _before: Before) {
        self.install(effect);
    }

    fn ephemerals(&self, owner: SessionId, each: &mut dyn FnMut(&str)) {
        Tree::ephemerals(self, owner, each);
    }

    fn applied(&self) -> &Tree {
        self
    }

    fn counted_ahead(&self, _subject: &str) -> Counted {
        Counted::default()
    }
}

/// The settings that decide about writes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who may do what.
    pub rules: Arc<Rules>,
    /// Znodes with a time to live may be created.
    pub extended_types: bool,
    /// Hard quotas are enforced.
    pub enforce_quota: bool,
    /// The operation reconfig is not switched off.
    pub reconfig_enabled: bool,
}

/// What a worker found out about a write without the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The path has a `/` and no U+0000 (create, delete), and for delete names none of the special znodes.
    pub path_rough: bool,
    /// The path, with a sequence number where one will be appended, follows every rule.
    pub path_full: bool,
    /// The ACL list, for creates and setACL.
    pub acl: Option<AclFault>,
    /// The transaction may be longer than the request by as much as [`ACL_GROWTH_BYTES_MAX`].
    pub expands: bool,
}

impl Verdict {
    /// For requests that have nothing to be examined, or are examined later.
    const NOTHING: Verdict = Verdict { path_rough: true, path_full: true, acl: None, expands: false };
    /// A null path: that create and delete need one is found out only when they take their zxid.
    const WITHOUT_PATH: Verdict = Verdict { path_rough: false, path_full: false, acl: None, expands: false };

    fn of_create(
        path: Option<&str>,
        sequential: bool,
        acl: Option<&AclVec<'_>>,
        rules: &Rules,
        who: &Identities,
    ) -> Verdict {
        let Some(path) = path else { return Verdict::WITHOUT_PATH };
        let path_full = if sequential { path::check_sequential(path) } else { path::check_full(path) };
        let expands = acl.is_some_and(|acl| acl.raw() != auth::OPEN_ACL);
        Verdict { path_rough: path::check_rough_create(path), path_full, acl: rules.check(acl, who).err(), expands }
    }

    fn of_delete(path: Option<&str>) -> Verdict {
        let Some(path) = path else { return Verdict::WITHOUT_PATH };
        let path_rough = path::check_rough_create(path) && !path::is_special(path);
        Verdict { path_rough, path_full: path_rough, acl: None, expands: false }
    }

    /// For setData, setACL and check, a null path is one that breaks the rules.
    fn of_full(path: Option<&str>) -> Verdict {
        let path_full = path.is_some_and(path::check_full);
        Verdict { path_rough: path_full, path_full, acl: None, expands: false }
    }
}

/// Examines a write whose record has been cut out of its frame. `None`: the record cannot be decoded and the reference finds
/// out before the request takes a zxid, so the answer is MARSHALLINGERROR without one.
pub fn examine(op: Op, body: &[u8], rules: &Rules, who: &Identities) -> Option<Verdict> {
    let mut reader = Reader::new(body);
    Some(match op {
        Op::Create | Op::Create2 | Op::CreateContainer => {
            let request = CreateRequest::decode(&mut reader).ok()?;
            let sequential = matches!(request.flags, 2 | 3);
            Verdict::of_create(request.path.as_deref(), sequential, request.acl.as_ref(), rules, who)
        }
        Op::CreateTtl => {
            let request = CreateTtlRequest::decode(&mut reader).ok()?;
            let sequential = matches!(request.flags, 2 | 3 | 6);
            Verdict::of_create(request.path.as_deref(), sequential, request.acl.as_ref(), rules, who)
        }
        Op::Delete => Verdict::of_delete(DeleteRequest::decode(&mut reader).ok()?.path.as_deref()),
        Op::SetData => Verdict::of_full(SetDataRequest::decode(&mut reader).ok()?.path.as_deref()),
        Op::SetAcl => {
            let request = SetAclRequest::decode(&mut reader).ok()?;
            let acl = rules.check(request.acl.as_ref(), who).err();
            Verdict { acl, expands: true, ..Verdict::of_full(request.path.as_deref()) }
        }
        Op::Reconfig => {
            ReconfigRequest::decode(&mut reader).ok()?;
            Verdict::NOTHING
        }
        // A multi takes its zxid before it is decoded, except that a null list of ACLs is found out before that.
        Op::Multi => {
            if multi::lacks_acl(body) {
                return None;
            }
            Verdict { expands: true, ..Verdict::NOTHING }
        }
        _ => Verdict::NOTHING,
    })
}

/// One write, at the point where it will take its zxid.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a, 's> {
    /// Its opcode: one of those that [`examine`] knows, but no multi.
    pub op: Op,
    /// Its record.
    pub body: &'a [u8],
    /// What the worker found.
    pub verdict: Verdict,
    /// Who asks.
    pub session: SessionId,
    /// The session is tracked and not closing.
    pub session_open: bool,
    /// Bytes of ephemeral paths that the session may still add.
    pub ephemeral_bytes_left: u64,
    /// What the connection has proved of itself.
    pub who: &'s Identities,
    /// The server's settings.
    pub policy: &'s Policy,
}

/// Memory that [`decide`] reuses: the final path of a sequential create, the expanded ACL list.
#[derive(Debug, Default)]
pub struct Scratch {
    path: String,
    acl: Vec<u8>,
}

/// The transaction that a write becomes, or the error that it is answered and logged with.
pub fn decide<'a>(write: &Write<'a, '_>, view: &impl View, scratch: &'a mut Scratch) -> Result<Txn<'a>, Code> {
    let extended_types = write.policy.extended_types;
    let mut reader = Reader::new(write.body);
    match write.op {
        Op::Create | Op::Create2 | Op::CreateContainer => {
            let request = CreateRequest::decode(&mut reader).map_err(|_| Code::MarshallingError)?;
            let kind = CreateKind::of(write.op, request.flags, extended_types)?;
            create(write, Creation { kind, path: request.path, data: request.data, acl: request.acl }, view, scratch)
        }
        Op::CreateTtl => {
            let request = CreateTtlRequest::decode(&mut reader).map_err(|_| Code::MarshallingError)?;
            let kind = CreateKind::of_ttl(request.flags, request.ttl_ms, extended_types)?;
            create(write, Creation { kind, path: request.path, data: request.data, acl: request.acl }, view, scratch)
        }
        Op::Delete => delete(write, DeleteRequest::decode(&mut reader).map_err(|_| Code::MarshallingError)?, view),
        Op::SetData => set_data(write, SetDataRequest::decode(&mut reader).map_err(|_| Code::MarshallingError)?, view),
        Op::SetAcl => {
            set_acl(write, SetAclRequest::decode(&mut reader).map_err(|_| Code::MarshallingError)?, view, scratch)
        }
        Op::Reconfig if !write.policy.reconfig_enabled => Err(Code::ReconfigDisabled),
        Op::Reconfig => {
            in_open_session(write)?;
            // There is no ensemble whose members could change.
            Err(Code::Unimplemented)
        }
        // What the server does by itself. From a client the reference takes it, and deletes without permission.
        Op::DeleteContainer => Err(Code::NoAuth),
        _ => unreachable!("{:?} reached prep: the worker answers opcodes that are no writes", write.op),
    }
}

fn in_open_session(write: &Write<'_, '_>) -> Result<(), Code> {
    if write.session_open { Ok(()) } else { Err(Code::SessionExpired) }
}

fn permitted(write: &Write<'_, '_>, acl: &[u8], wanted: i32) -> Result<(), Code> {
    if write.policy.rules.allows(acl, wanted, write.who) { Ok(()) } else { Err(Code::NoAuth) }
}

/// What opcode and flags of a create ask for (`client-protocol.md` 9.1, 9.2, 15.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CreateKind {
    node: Created,
    sequential: bool,
    /// The type of the transaction, and of the result in a multi.
    op: Op,
}

/// The kinds of znode that a client creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Created {
    Persistent,
    Ephemeral,
    Container,
    Ttl(i64),
}

impl CreateKind {
    /// Of create, create2 and createContainer.
    fn of(op: Op, flags: i32, extended_types: bool) -> Result<CreateKind, Code> {
        let node = match flags {
            0..=4 if op == Op::CreateContainer => Created::Container,
            // Flag 4 (container) in opcodes 1 and 15 makes a plain persistent znode, as in the reference.
            0 | 2 | 4 => Created::Persistent,
            1 | 3 => Created::Ephemeral,
            // These opcodes carry no time to live.
            5 | 6 if extended_types => return Err(Code::BadArguments),
            5 | 6 => return Err(Code::Unimplemented),
            _ => return Err(Code::BadArguments),
        };
        Ok(CreateKind { node, sequential: matches!(flags, 2 | 3), op })
    }

    /// Of createTTL.
    fn of_ttl(flags: i32, ttl_ms: i64, extended_types: bool) -> Result<CreateKind, Code> {
        match flags {
            5 | 6 if !extended_types => Err(Code::Unimplemented),
            5 | 6 if (1..=TTL_MS_MAX).contains(&ttl_ms) => {
                Ok(CreateKind { node: Created::Ttl(ttl_ms), sequential: flags == 6, op: Op::CreateTtl })
            }
            // Flags 0 to 4 with a negative time to live end the reference.
            _ => Err(Code::BadArguments),
        }
    }
}

/// A znode that is asked for.
struct Creation<'a> {
    kind: CreateKind,
    path: Option<Cow<'a, str>>,
    data: Option<&'a [u8]>,
    acl: Option<AclVec<'a>>,
}

fn create<'a>(
    write: &Write<'a, '_>,
    creation: Creation<'a>,
    view: &impl View,
    scratch: &'a mut Scratch,
) -> Result<Txn<'a>, Code> {
    in_open_session(write)?;
    let Creation { kind, path, data, acl } = creation;
    let Some(given) = path else { return Err(Code::MarshallingError) };
    if !write.verdict.path_rough {
        return Err(Code::BadArguments);
    }
    acl_accepted(write.verdict)?;
    let parent = path::parent(&given).and_then(|parent| view.find(parent)).ok_or(Code::NoNode)?;
    permitted(write, parent.acl, auth::CREATE)?;
    if !write.verdict.path_full {
        return Err(Code::BadArguments);
    }
    let created = parent.version.children_created;
    let parent_is_ephemeral = parent.version.ephemeral_session().is_some();
    let Scratch { path: full_path, acl: expanded } = scratch;
    let path: Cow<'a, str> = if kind.sequential {
        full_path.clear();
        full_path.push_str(&given);
        // `%010d`: at least ten characters, the sign of a negative number among them.
        write!(full_path, "{created:010}").expect("writing to a String cannot fail");
        Cow::Borrowed(full_path)
    } else {
        given
    };
    // The root has no parent to be created below, and exists.
    if path == "/" || view.find(&path).is_some() {
        return Err(Code::NodeExists);
    }
    if parent_is_ephemeral {
        return Err(Code::NoChildrenForEphemerals);
    }
    if write.policy.enforce_quota {
        quota::check(view, &path, Counted { count: 1, bytes: data.map_or(0, <[u8]>::len) as i64 })?;
    }
    let ephemeral = kind.node == Created::Ephemeral;
    if ephemeral && write.ephemeral_bytes_left < ephemeral_bytes(&path) {
        return Err(Code::QuotaExceeded);
    }
    let acl = Some(expand(write, acl, expanded)?);
    let parent_cversion = created.wrapping_add(1);
    Ok(match kind.node {
        Created::Persistent | Created::Ephemeral => {
            Txn::Create { path, data, acl, ephemeral, parent_cversion, kind: kind.op }
        }
        Created::Container => Txn::CreateContainer { path, data, acl, parent_cversion },
        Created::Ttl(ttl_ms) => Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms },
    })
}

fn acl_accepted(verdict: Verdict) -> Result<(), Code> {
    match verdict.acl {
        Some(AclFault::Invalid) => Err(Code::InvalidAcl),
        Some(AclFault::Undecodable) => Err(Code::MarshallingError),
        None => Ok(()),
    }
}

/// The list that is stored: identities in the place of `auth`, equal entries once. The check bounds how much it grows.
fn expand<'a>(write: &Write<'_, '_>, acl: Option<AclVec<'a>>, buffer: &'a mut Vec<u8>) -> Result<AclVec<'a>, Code> {
    let acl = acl.ok_or(Code::InvalidAcl)?;
    if acl.raw() == auth::OPEN_ACL {
        return Ok(acl);
    }
    Ok(write.policy.rules.canonical(&acl, write.who, buffer))
}

/// What an ephemeral path counts in its session's closeSession transaction: its bytes and their length field.
pub fn ephemeral_bytes(path: &str) -> u64 {
    path.len() as u64 + 4
}

fn delete<'a>(write: &Write<'_, '_>, request: DeleteRequest<'a>, view: &impl View) -> Result<Txn<'a>, Code> {
    in_open_session(write)?;
    let Some(path) = request.path else { return Err(Code::MarshallingError) };
    if !write.verdict.path_rough {
        return Err(Code::BadArguments);
    }
    let parent = path::parent(&path).and_then(|parent| view.find(parent)).ok_or(Code::NoNode)?;
    permitted(write, parent.acl, auth::DELETE)?;
    let node = view.find(&path).ok_or(Code::NoNode)?;
    of_version(request.version, node.version.version)?;
    if 0 < node.version.children {
        return Err(Code::NotEmpty);
    }
    Ok(Txn::Delete { path })
}

fn set_data<'a>(write: &Write<'_, '_>, request: SetDataRequest<'a>, view: &impl View) -> Result<Txn<'a>, Code> {
    in_open_session(write)?;
    if !write.verdict.path_full {
        return Err(Code::BadArguments);
    }
    let Some(path) = request.path else { return Err(Code::BadArguments) };
    let node = view.find(&path).ok_or(Code::NoNode)?;
    permitted(write, node.acl, auth::WRITE)?;
    if write.policy.enforce_quota {
        let bytes = request.data.map_or(0, <[u8]>::len) as i64 - i64::from(node.version.data_bytes);
        quota::check(view, &path, Counted { count: 0, bytes })?;
    }
    of_version(request.version, node.version.version)?;
    Ok(Txn::SetData { path, data: request.data, version: version_after(node.version.version) })
}

fn set_acl<'a>(
    write: &Write<'_, '_>,
    request: SetAclRequest<'a>,
    view: &impl View,
    scratch: &'a mut Scratch,
) -> Result<Txn<'a>, Code> {
    in_open_session(write)?;
    if !write.verdict.path_full {
        return Err(Code::BadArguments);
    }
    acl_accepted(write.verdict)?;
    let Some(path) = request.path else { return Err(Code::BadArguments) };
    let node = view.find(&path).ok_or(Code::NoNode)?;
    permitted(write, node.acl, auth::ADMIN)?;
    of_version(request.version, node.version.aversion)?;
    let acl = Some(expand(write, request.acl, &mut scratch.acl)?);
    Ok(Txn::SetAcl { path, acl, version: version_after(node.version.aversion) })
}

/// Only in a multi.
fn check<'a>(write: &Write<'_, '_>, request: CheckVersionRequest<'a>, view: &impl View) -> Result<Txn<'a>, Code> {
    in_open_session(write)?;
    if !write.verdict.path_full {
        return Err(Code::BadArguments);
    }
    let Some(path) = request.path else { return Err(Code::BadArguments) };
    let node = view.find(&path).ok_or(Code::NoNode)?;
    permitted(write, node.acl, auth::READ)?;
    of_version(request.version, node.version.version)?;
    Ok(Txn::Check { path, version: version_after(node.version.version) })
}

/// The end of a container or a znode with a time to live, by the server itself: it has a say only while nothing keeps the
/// znode alive, and that is looked at again here, because clients went on meanwhile.
pub fn reap<'a>(path: &'a str, now_ms: i64, never_used_ms: i64, view: &impl View) -> Option<Txn<'a>> {
    let version = view.find(path)?.version;
    let is_due = version.children == 0
        && match version.kind() {
            NodeKind::Container if 0 < version.children_created => true,
            NodeKind::Container => 0 < never_used_ms && never_used_ms < now_ms.saturating_sub(version.mtime_ms),
            NodeKind::Ttl(ttl_ms) => 0 < ttl_ms && version.mtime_ms.saturating_add(ttl_ms) < now_ms,
            NodeKind::Persistent | NodeKind::Ephemeral(_) => false,
        };
    is_due.then_some(Txn::DeleteContainer { path: Cow::Borrowed(path) })
}

/// −1 asks for no version in particular.
fn of_version(asked: i32, is: i32) -> Result<(), Code> {
    if asked == -1 || asked == is { Ok(()) } else { Err(Code::BadVersion) }
}

/// The version after `version`. Wraps, and skips -1, which a conditional write could not name (ZooKeeper 3.10 does the same).
fn version_after(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}
