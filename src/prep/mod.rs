//! From a request to a transaction, or to the error that the client gets.
//!
//! Pure: [`decide`] looks at a request, at what the worker found out about it without the tree ([`Verdict`]) and at a
//! [`View`] of the tree that includes every earlier transaction, applied or not. It picks the first failing check in the
//! reference's order (`client-protocol.md` 9): failed writes consume zxids, so the order is visible. [`effects`] says what a
//! transaction does to the tree, once, for the leader that prepares it, for the learner that hears of it and for recovery.

pub mod effects;

use std::borrow::Cow;
use std::fmt::Write as _;

use zorilla_proto::client::{CreateRequest, DeleteRequest, SetDataRequest};
use zorilla_proto::code::Code;
use zorilla_proto::ids::SessionId;
use zorilla_proto::jute::Reader;
use zorilla_proto::op::Op;
use zorilla_proto::txn::Txn;

use crate::auth::{self, AclFault};
use crate::tree::{Effect, NodeVersion, Tree, path};

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

/// The tree as the next transaction will find it.
pub trait View {
    /// The newest version of a znode.
    fn find(&self, path: &str) -> Option<Found<'_>>;
    /// Makes `effect` part of what the next `find` shows.
    fn apply(&mut self, effect: &Effect<'_>, before: Before);
    /// Paths of the ephemeral znodes of a session, in any order.
    fn ephemerals(&self, owner: SessionId, each: &mut dyn FnMut(&str));
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
}

/// What a worker found out about a write without the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The path has a `/` and no U+0000 (create, delete), and for delete names none of the special znodes.
    pub path_rough: bool,
    /// The path, with a sequence number where one will be appended, follows every rule.
    pub path_full: bool,
    /// The ACL list, for creates.
    pub acl: Option<AclFault>,
}

/// Examines a write whose record has been cut out of its frame. `None`: the record cannot be decoded and the reference finds
/// out before the request takes a zxid, so the answer is MARSHALLINGERROR without one.
pub fn examine(op: Op, body: &[u8]) -> Option<Verdict> {
    let mut reader = Reader::new(body);
    // That create and delete need one is found out only when they take their zxid.
    let without_path = Verdict { path_rough: false, path_full: false, acl: None };
    match op {
        Op::Create | Op::Create2 => {
            let request = CreateRequest::decode(&mut reader).ok()?;
            let Some(path) = request.path.as_deref() else { return Some(without_path) };
            let sequential = matches!(request.flags, 2 | 3);
            let path_full = if sequential { path::check_sequential(path) } else { path::check_full(path) };
            let acl = auth::check(request.acl.as_ref()).err();
            Some(Verdict { path_rough: path::check_rough_create(path), path_full, acl })
        }
        Op::Delete => {
            let request = DeleteRequest::decode(&mut reader).ok()?;
            let Some(path) = request.path.as_deref() else { return Some(without_path) };
            let path_rough = path::check_rough_create(path) && !path::is_special(path);
            Some(Verdict { path_rough, path_full: path_rough, acl: None })
        }
        Op::SetData => {
            let request = SetDataRequest::decode(&mut reader).ok()?;
            let path_full = request.path.as_deref().is_some_and(path::check_full);
            Some(Verdict { path_rough: path_full, path_full, acl: None })
        }
        _ => Some(Verdict { path_rough: true, path_full: true, acl: None }),
    }
}

/// One write, at the point where it will take its zxid.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Its opcode: one of those that [`examine`] knows.
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
}

/// Memory that [`decide`] reuses: the final path of a sequential create, the reduced ACL list.
#[derive(Debug, Default)]
pub struct Scratch {
    path: String,
    acl: Vec<u8>,
}

/// The transaction that a write becomes, or the error that it is answered and logged with.
pub fn decide<'a>(write: &Write<'a>, view: &impl View, scratch: &'a mut Scratch) -> Result<Txn<'a>, Code> {
    let verdict = write.verdict;
    let mut reader = Reader::new(write.body);
    match write.op {
        Op::Create | Op::Create2 => {
            let request = CreateRequest::decode(&mut reader).map_err(|_| Code::MarshallingError)?;
            let kind = CreateKind::of(request.flags)?;
            if !write.session_open {
                return Err(Code::SessionExpired);
            }
            create(write, request, kind, view, scratch)
        }
        Op::Delete => {
            let request = DeleteRequest::decode(&mut reader).map_err(|_| Code::MarshallingError)?;
            if !write.session_open {
                return Err(Code::SessionExpired);
            }
            delete(verdict, request, view)
        }
        Op::SetData => {
            let request = SetDataRequest::decode(&mut reader).map_err(|_| Code::MarshallingError)?;
            if !write.session_open {
                return Err(Code::SessionExpired);
            }
            set_data(verdict, request, view)
        }
        _ => unreachable!("{:?} reached prep: the worker answers opcodes that are not served", write.op),
    }
}

/// What the flags of create and create2 ask for (`client-protocol.md` 15.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CreateKind {
    ephemeral: bool,
    sequential: bool,
}

impl CreateKind {
    fn of(flags: i32) -> Result<CreateKind, Code> {
        match flags {
            // Flag 4 (container) in opcodes 1 and 15 makes a plain persistent znode, as in the reference.
            0 | 4 => Ok(CreateKind { ephemeral: false, sequential: false }),
            1 => Ok(CreateKind { ephemeral: true, sequential: false }),
            2 => Ok(CreateKind { ephemeral: false, sequential: true }),
            3 => Ok(CreateKind { ephemeral: true, sequential: true }),
            // Extended types are off, the reference's default.
            5 | 6 => Err(Code::Unimplemented),
            _ => Err(Code::BadArguments),
        }
    }
}

fn create<'a>(
    write: &Write<'a>,
    request: CreateRequest<'a>,
    kind: CreateKind,
    view: &impl View,
    scratch: &'a mut Scratch,
) -> Result<Txn<'a>, Code> {
    let Some(given) = request.path else { return Err(Code::MarshallingError) };
    if !write.verdict.path_rough {
        return Err(Code::BadArguments);
    }
    match write.verdict.acl {
        Some(AclFault::Invalid) => return Err(Code::InvalidAcl),
        Some(AclFault::Undecodable) => return Err(Code::MarshallingError),
        None => {}
    }
    let parent = path::parent(&given).and_then(|parent| view.find(parent)).ok_or(Code::NoNode)?;
    if !auth::allows(parent.acl, auth::CREATE) {
        return Err(Code::NoAuth);
    }
    if !write.verdict.path_full {
        return Err(Code::BadArguments);
    }
    let created = parent.version.children_created;
    let parent_is_ephemeral = parent.version.ephemeral_session().is_some();
    let Scratch { path: full_path, acl: reduced } = scratch;
    let full: Cow<'a, str> = if kind.sequential {
        full_path.clear();
        full_path.push_str(&given);
        // `%010d`: at least ten characters, the sign of a negative number among them.
        write!(full_path, "{created:010}").expect("writing to a String cannot fail");
        Cow::Borrowed(full_path)
    } else {
        given
    };
    // The root has no parent to be created below, and exists.
    if full == "/" || view.find(&full).is_some() {
        return Err(Code::NodeExists);
    }
    if parent_is_ephemeral {
        return Err(Code::NoChildrenForEphemerals);
    }
    if kind.ephemeral && write.ephemeral_bytes_left < ephemeral_bytes(&full) {
        return Err(Code::QuotaExceeded);
    }
    let mut acl = request.acl.ok_or(Code::InvalidAcl)?;
    if acl.raw() != auth::OPEN_ACL {
        acl = auth::canonical(&acl, reduced);
    }
    Ok(Txn::Create {
        path: full,
        data: request.data,
        acl: Some(acl),
        ephemeral: kind.ephemeral,
        parent_cversion: created.wrapping_add(1),
        kind: write.op,
    })
}

/// What an ephemeral path counts in its session's closeSession transaction: its bytes and their length field.
pub fn ephemeral_bytes(path: &str) -> u64 {
    path.len() as u64 + 4
}

fn delete<'a>(verdict: Verdict, request: DeleteRequest<'a>, view: &impl View) -> Result<Txn<'a>, Code> {
    let Some(path) = request.path else { return Err(Code::MarshallingError) };
    if !verdict.path_rough {
        return Err(Code::BadArguments);
    }
    let parent = path::parent(&path).and_then(|parent| view.find(parent)).ok_or(Code::NoNode)?;
    if !auth::allows(parent.acl, auth::DELETE) {
        return Err(Code::NoAuth);
    }
    let node = view.find(&path).ok_or(Code::NoNode)?;
    if request.version != -1 && request.version != node.version.version {
        return Err(Code::BadVersion);
    }
    if 0 < node.version.children {
        return Err(Code::NotEmpty);
    }
    Ok(Txn::Delete { path })
}

fn set_data<'a>(verdict: Verdict, request: SetDataRequest<'a>, view: &impl View) -> Result<Txn<'a>, Code> {
    // A null path is BADARGUMENTS here, unlike in create and delete: the verdict says so.
    if !verdict.path_full {
        return Err(Code::BadArguments);
    }
    let Some(path) = request.path else { return Err(Code::BadArguments) };
    let node = view.find(&path).ok_or(Code::NoNode)?;
    if !auth::allows(node.acl, auth::WRITE) {
        return Err(Code::NoAuth);
    }
    if request.version != -1 && request.version != node.version.version {
        return Err(Code::BadVersion);
    }
    Ok(Txn::SetData { path, data: request.data, version: version_after(node.version.version) })
}

/// The version after `version`. Wraps, and skips -1, which a conditional write could not name (ZooKeeper 3.10 does the same).
fn version_after(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}

#[cfg(test)]
mod tests {
    use zorilla_proto::client::{Acl, AclVec, Request};
    use zorilla_proto::ids::Zxid;
    use zorilla_proto::jute;
    use zorilla_proto::txn::TxnHeader;

    use super::effects::effects;
    use super::*;

    const OWNER: SessionId = SessionId::from_raw(0x77);

    /// A tree after these creates: path, permissions of everybody, ephemeral.
    fn tree(creates: &[(&str, i32, bool)]) -> Tree {
        let mut tree = Tree::new(1);
        for (at, (path, perms, ephemeral)) in creates.iter().enumerate() {
            let zxid = Zxid::from_raw(at as u64 + 1);
            let header = TxnHeader { session: OWNER, cxid: 1, zxid, time_ms: 5, op: Op::Create.raw() };
            let above = Tree::find(&tree, path::parent(path).unwrap()).unwrap().version();
            let mut raw = Vec::new();
            let txn = Txn::Create {
                path: Cow::Borrowed(path),
                data: None,
                acl: Some(AclVec::build(&mut raw, &[Acl::new(*perms, "world", "anyone")])),
                ephemeral: *ephemeral,
                parent_cversion: above.children_created + 1,
                kind: Op::Create,
            };
            effects(&header, &txn, &mut tree).unwrap();
        }
        tree
    }

    fn decided(request: &Request<'_>, session_open: bool, tree: &Tree) -> Result<String, Code> {
        let mut body = Vec::new();
        request.encode(&mut body);
        let verdict = examine(request.op(), &body).expect("it can be decoded");
        let write = Write {
            op: request.op(),
            body: &body,
            verdict,
            session: SessionId::from_raw(0x55),
            session_open,
            ephemeral_bytes_left: 30,
        };
        let mut scratch = Scratch::default();
        decide(&write, tree, &mut scratch).map(|txn| match txn {
            Txn::Create { path, ephemeral, parent_cversion, .. } => {
                format!("create {path} {ephemeral} {parent_cversion}")
            }
            Txn::Delete { path } => format!("delete {path}"),
            Txn::SetData { path, version, .. } => format!("set {path} {version}"),
            other => panic!("{other:?}"),
        })
    }

    /// A create with `acl`: null, empty, or entries.
    fn create(
        path: Option<&str>,
        acl: Option<&[Acl<'_>]>,
        flags: i32,
        session_open: bool,
        tree: &Tree,
    ) -> Result<String, Code> {
        let mut raw = Vec::new();
        let acl = acl.map(|entries| AclVec::build(&mut raw, entries));
        let path = path.map(Cow::Borrowed);
        decided(&Request::Create(CreateRequest { path, data: Some(b"x"), acl, flags }), session_open, tree)
    }

    #[test]
    fn the_first_failing_check_of_a_create_wins() {
        let open = [Acl::new(31, "world", "anyone")];
        let foreign = [Acl::new(31, "digest", "a:b")];
        let half = [Acl { perms: 31, scheme: Some("world".into()), id: None }];
        let tree = tree(&[
            ("/a", 31, false),
            ("/closed", 27, false),
            ("/closed-not", 31, false),
            ("/brief", 31, true),
            ("/a/x", 31, false),
            ("/brief-closed", 27, true),
        ]);
        let tree = &tree;
        // Each line fails its own check and every later one that can fail along with it.
        for (path, acl, flags, session_open, code) in [
            (None, None, 7, false, Code::BadArguments),
            (None, None, -1, false, Code::BadArguments),
            (None, None, 5, false, Code::Unimplemented),
            (None, None, 6, false, Code::Unimplemented),
            (None, None, 0, false, Code::SessionExpired),
            (None, None, 1, true, Code::MarshallingError),
            (Some("a"), None, 0, true, Code::BadArguments),
            (Some("/missing/\0"), None, 0, true, Code::BadArguments),
            (Some("/missing/.."), None, 0, true, Code::InvalidAcl),
            (Some("/missing/.."), Some(&[][..]), 0, true, Code::InvalidAcl),
            (Some("/missing/.."), Some(&foreign[..]), 0, true, Code::InvalidAcl),
            (Some("/missing/.."), Some(&half[..]), 0, true, Code::MarshallingError),
            (Some("/missing/.."), Some(&open[..]), 0, true, Code::NoNode),
            (Some("/a//x"), Some(&open[..]), 0, true, Code::NoNode),
            (Some("/brief-closed/.."), Some(&open[..]), 1, true, Code::NoAuth),
            (Some("/closed/"), Some(&open[..]), 0, true, Code::NoAuth),
            (Some("/brief/.."), Some(&open[..]), 1, true, Code::BadArguments),
            (Some("/a/"), Some(&open[..]), 0, true, Code::BadArguments),
            (Some("/a/x"), Some(&open[..]), 1, true, Code::NodeExists),
            (Some("/"), Some(&open[..]), 0, true, Code::NodeExists),
            (Some("/brief/a-name-that-is-long-too-long"), Some(&open[..]), 1, true, Code::NoChildrenForEphemerals),
            (Some("/a/a-name-that-is-long-too-long"), Some(&open[..]), 1, true, Code::QuotaExceeded),
        ] {
            let found = create(path, acl, flags, session_open, tree);
            assert_eq!(found, Err(code), "{path:?} {acl:?} {flags} {session_open}");
        }
        let open = Some(&open[..]);
        assert_eq!(create(Some("/a/y"), open, 0, true, tree).unwrap(), "create /a/y false 2");
        assert_eq!(create(Some("/a/y"), open, 1, true, tree).unwrap(), "create /a/y true 2");
        assert_eq!(create(Some("/a/y"), open, 2, true, tree).unwrap(), "create /a/y0000000001 false 2");
        assert_eq!(create(Some("/a/"), open, 3, true, tree).unwrap(), "create /a/0000000001 true 2");
        assert_eq!(create(Some("/a/y"), open, 4, true, tree).unwrap(), "create /a/y false 2");
        assert_eq!(create(Some("/"), open, 2, true, tree).unwrap(), "create /0000000005 false 6");
    }

    #[test]
    fn a_record_cut_short_takes_no_zxid() {
        let mut body = Vec::new();
        Request::Delete(DeleteRequest { path: Some("/a".into()), version: -1 }).encode(&mut body);
        for op in [Op::Create, Op::Create2, Op::Delete, Op::SetData] {
            for cut in 0..6 {
                assert_eq!(examine(op, &body[..cut]), None, "{op:?} with {cut} bytes");
            }
        }
    }

    #[test]
    fn the_first_failing_check_of_a_delete_wins() {
        let tree = tree(&[("/a", 31, false), ("/a/x", 31, false), ("/closed", 23, false)]);
        for (path, version, session_open, code) in [
            (None, 7, false, Code::SessionExpired),
            (None, 7, true, Code::MarshallingError),
            (Some("a"), 7, true, Code::BadArguments),
            (Some("/missing/\0"), 7, true, Code::BadArguments),
            (Some("/"), 7, true, Code::BadArguments),
            (Some("/zookeeper"), 7, true, Code::BadArguments),
            (Some("/zookeeper/config"), 7, true, Code::BadArguments),
            (Some("/zookeeper/quota"), 7, true, Code::BadArguments),
            (Some("/missing/x"), 7, true, Code::NoNode),
            (Some("/closed/x"), 7, true, Code::NoAuth),
            (Some("/a/y"), 7, true, Code::NoNode),
            (Some("/a/"), 7, true, Code::NoNode),
            (Some("/a"), 7, true, Code::BadVersion),
            (Some("/a"), -2, true, Code::BadVersion),
            (Some("/a"), 0, true, Code::NotEmpty),
        ] {
            let request = Request::Delete(DeleteRequest { path: path.map(Cow::Borrowed), version });
            assert_eq!(decided(&request, session_open, &tree), Err(code), "{path:?} {version} {session_open}");
        }
        for version in [-1, 0] {
            let request = Request::Delete(DeleteRequest { path: Some("/a/x".into()), version });
            assert_eq!(decided(&request, true, &tree).unwrap(), "delete /a/x");
        }
    }

    #[test]
    fn the_first_failing_check_of_a_set_wins() {
        let tree = tree(&[("/a", 31, false), ("/closed", 29, false)]);
        for (path, version, session_open, code) in [
            (None, 7, false, Code::SessionExpired),
            (None, 7, true, Code::BadArguments),
            (Some("/missing/"), 7, true, Code::BadArguments),
            (Some("/missing"), 7, true, Code::NoNode),
            (Some("/closed"), 7, true, Code::NoAuth),
            (Some("/a"), 7, true, Code::BadVersion),
            (Some("/zookeeper/config"), -1, true, Code::NoAuth),
        ] {
            let request = Request::SetData(SetDataRequest { path: path.map(Cow::Borrowed), data: None, version });
            assert_eq!(decided(&request, session_open, &tree), Err(code), "{path:?} {version} {session_open}");
        }
        for (path, version) in [("/a", -1), ("/a", 0), ("/", -1), ("/zookeeper", 0)] {
            let request = Request::SetData(SetDataRequest { path: Some(path.into()), data: None, version });
            assert_eq!(decided(&request, true, &tree).unwrap(), format!("set {path} 1"));
        }
    }

    #[test]
    fn versions_skip_what_cannot_be_asked_for() {
        assert_eq!(version_after(0), 1);
        assert_eq!(version_after(i32::MAX), i32::MIN);
        assert_eq!(version_after(-2), 0);
    }

    #[test]
    fn identical_entries_of_an_acl_are_kept_once() {
        let entry = |perms| Acl::new(perms, "world", "anyone");
        let mut raw = Vec::new();
        let given = AclVec::build(&mut raw, &[entry(1), entry(2), entry(1), entry(4), entry(2)]);
        let mut body = Vec::new();
        Request::Create(CreateRequest { path: Some("/n".into()), data: None, acl: Some(given), flags: 0 })
            .encode(&mut body);
        let verdict = examine(Op::Create, &body).unwrap();
        let (session, op) = (OWNER, Op::Create);
        let write = Write { op, body: &body, verdict, session, session_open: true, ephemeral_bytes_left: 0 };
        let mut scratch = Scratch::default();
        let Ok(Txn::Create { acl: Some(kept), .. }) = decide(&write, &Tree::new(1), &mut scratch) else { panic!() };
        assert_eq!(kept.iter().map(|entry| entry.perms).collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn a_sequence_that_has_ended_gives_no_name_twice() {
        let mut tree = tree(&[("/a", 31, false)]);
        let mut above = Tree::find(&tree, "/a").unwrap().version();
        // A history made elsewhere may have come this far.
        let header = TxnHeader { session: OWNER, cxid: 1, zxid: Zxid::from_raw(9), time_ms: 5, op: Op::Create.raw() };
        let first = Txn::Create {
            path: Cow::Borrowed("/a/first"),
            data: None,
            acl: Some(AclVec::OPEN),
            ephemeral: false,
            parent_cversion: i32::MAX,
            kind: Op::Create,
        };
        effects(&header, &first, &mut tree).unwrap();
        let open = [Acl::new(31, "world", "anyone")];
        let name = create(Some("/a/s"), Some(&open), 2, true, &tree).unwrap();
        assert_eq!(name, format!("create /a/s2147483647 false {}", i32::MIN));
        let header = TxnHeader { zxid: Zxid::from_raw(10), ..header };
        let last = Txn::Create {
            path: Cow::Borrowed("/a/s2147483647"),
            data: None,
            acl: Some(AclVec::OPEN),
            ephemeral: false,
            parent_cversion: i32::MIN,
            kind: Op::Create,
        };
        effects(&header, &last, &mut tree).unwrap();
        above = NodeVersion { pzxid: Zxid::from_raw(9), children: 2, children_created: i32::MAX, ..above };
        assert_eq!(Tree::find(&tree, "/a").unwrap().version(), above);
        assert_eq!(create(Some("/a/s"), Some(&open), 2, true, &tree), Err(Code::NodeExists));
        assert!(create(Some("/a/other"), Some(&open), 0, true, &tree).is_ok());
    }

    #[test]
    fn what_follows_a_record_is_ignored() {
        let mut body = Vec::new();
        Request::SetData(SetDataRequest { path: Some("/a".into()), data: None, version: 0 }).encode(&mut body);
        jute::put_i32(&mut body, 9);
        assert!(examine(Op::SetData, &body).unwrap().path_full);
    }
}
