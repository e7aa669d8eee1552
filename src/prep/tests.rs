//! What prep decides, check by check.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use zorilla_proto::client::{Acl, AclVec, CreateTtlRequest, MultiOp, MultiVec, Request};
use zorilla_proto::ids::Zxid;
use zorilla_proto::jute;
use zorilla_proto::txn::{MultiTxn, TxnHeader};

use super::effects::effects;
use super::*;

const OWNER: SessionId = SessionId::from_raw(0x77);

static LOCAL: LazyLock<Identities> = LazyLock::new(|| Identities::of_peer(Ipv4Addr::LOCALHOST.into()));

/// A server that nobody configured.
fn policy() -> Policy {
    let rules = Arc::new(Rules::open());
    Policy { rules, extended_types: false, enforce_quota: false, reconfig_enabled: false }
}

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
    decided_by(&policy(), &LOCAL, request, session_open, tree)
}

fn decided_by(
    policy: &Policy,
    who: &Identities,
    request: &Request<'_>,
    session_open: bool,
    tree: &Tree,
) -> Result<String, Code> {
    let mut body = Vec::new();
    request.encode(&mut body);
    let verdict = examine(request.op(), &body, &policy.rules, who).expect("it can be decoded");
    let write = Write {
        op: request.op(),
        body: &body,
        verdict,
        session: SessionId::from_raw(0x55),
        session_open,
        ephemeral_bytes_left: 30,
        who,
        policy,
    };
    let mut scratch = Scratch::default();
    decide(&write, tree, &mut scratch).map(|txn| match txn {
        Txn::Create { path, ephemeral, parent_cversion, .. } => {
            format!("create {path} {ephemeral} {parent_cversion}")
        }
        Txn::Delete { path } => format!("delete {path}"),
        Txn::SetData { path, version, .. } => format!("set {path} {version}"),
        Txn::SetAcl { path, version, acl } => format!("acl {path} {version} {}", acl.unwrap().len()),
        Txn::CreateContainer { path, parent_cversion, .. } => format!("container {path} {parent_cversion}"),
        Txn::CreateTtl { path, parent_cversion, ttl_ms, .. } => format!("ttl {path} {parent_cversion} {ttl_ms}"),
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
    let foreign = [Acl::new(31, "nonsense", "a:b")];
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
            assert_eq!(examine(op, &body[..cut], &Rules::open(), &LOCAL), None, "{op:?} with {cut} bytes");
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
    let verdict = examine(Op::Create, &body, &policy().rules, &LOCAL).unwrap();
    let (session, op) = (OWNER, Op::Create);
    let (who, policy) = (&*LOCAL, &policy());
    let write = Write { op, body: &body, verdict, session, session_open: true, ephemeral_bytes_left: 0, who, policy };
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
    assert!(examine(Op::SetData, &body, &Rules::open(), &LOCAL).unwrap().path_full);
}

fn open_acl(raw: &mut Vec<u8>) -> Option<AclVec<'_>> {
    Some(AclVec::build(raw, &[Acl::new(31, "world", "anyone")]))
}

#[test]
fn opcode_and_flags_say_what_a_create_makes() {
    let tree = tree(&[("/a", 31, false)]);
    let mut raw = Vec::new();
    let acl = open_acl(&mut raw);
    let extended = Policy { extended_types: true, ..policy() };
    let container = |policy: &Policy, flags| {
        let request = CreateRequest { path: Some("/a/c".into()), data: None, acl, flags };
        decided_by(policy, &LOCAL, &Request::CreateContainer(request), true, &tree)
    };
    for (flags, made) in [
        (0, Ok("container /a/c 1")),
        (1, Ok("container /a/c 1")),
        (2, Ok("container /a/c0000000000 1")),
        (3, Ok("container /a/c0000000000 1")),
        (4, Ok("container /a/c 1")),
        (5, Err(Code::Unimplemented)),
        (7, Err(Code::BadArguments)),
        (-1, Err(Code::BadArguments)),
    ] {
        assert_eq!(container(&policy(), flags), made.map(String::from), "flags {flags}");
    }
    assert_eq!(container(&extended, 5), Err(Code::BadArguments));
    let ttl = |policy: &Policy, flags, ttl_ms| {
        let request = CreateTtlRequest { path: Some("/a/t".into()), data: None, acl, flags, ttl_ms };
        decided_by(policy, &LOCAL, &Request::CreateTtl(request), true, &tree)
    };
    for (flags, ttl_ms, made) in [
        (5, 1, Ok("ttl /a/t 1 1")),
        (6, TTL_MS_MAX, Ok("ttl /a/t0000000000 1 1099511627775")),
        (5, 0, Err(Code::BadArguments)),
        (5, -1, Err(Code::BadArguments)),
        (6, TTL_MS_MAX + 1, Err(Code::BadArguments)),
        (0, 5, Err(Code::BadArguments)),
        (4, -1, Err(Code::BadArguments)),
        (7, 5, Err(Code::BadArguments)),
    ] {
        assert_eq!(ttl(&extended, flags, ttl_ms), made.map(String::from), "flags {flags}, {ttl_ms} ms");
    }
    assert_eq!(ttl(&policy(), 5, 0), Err(Code::Unimplemented));
    assert_eq!(ttl(&policy(), 0, 5), Err(Code::BadArguments));
}

#[test]
fn the_first_failing_check_of_a_set_of_an_acl_wins() {
    let mut raw = Vec::new();
    let open = open_acl(&mut raw);
    let tree = tree(&[("/a", 31, false), ("/mine", auth::READ, false)]);
    let set = |path: Option<&'static str>, acl, version, session_open| {
        let request = SetAclRequest { path: path.map(Cow::Borrowed), acl, version };
        decided(&Request::SetAcl(request), session_open, &tree)
    };
    let mut raw = Vec::new();
    let unknown = Some(AclVec::build(&mut raw, &[Acl::new(31, "nonsense", "x")]));
    assert_eq!(set(Some("a"), None, 9, false), Err(Code::SessionExpired));
    assert_eq!(set(None, None, 9, true), Err(Code::BadArguments));
    assert_eq!(set(Some("/x/"), None, 9, true), Err(Code::BadArguments));
    assert_eq!(set(Some("/x"), None, 9, true), Err(Code::InvalidAcl));
    assert_eq!(set(Some("/x"), unknown, 9, true), Err(Code::InvalidAcl));
    assert_eq!(set(Some("/x"), open, 9, true), Err(Code::NoNode));
    assert_eq!(set(Some("/mine"), open, 9, true), Err(Code::NoAuth));
    assert_eq!(set(Some("/a"), open, 9, true), Err(Code::BadVersion));
    assert_eq!(set(Some("/a"), open, 0, true).unwrap(), "acl /a 1 1");
    assert_eq!(set(Some("/zookeeper/config"), open, -1, true), Err(Code::NoAuth));
}

#[test]
fn what_only_ensembles_and_the_server_itself_do_is_refused() {
    let tree = Tree::new(1);
    let request = Request::DeleteContainer(zorilla_proto::client::PathRequest { path: Some("/a".into()) });
    assert_eq!(decided(&request, true, &tree), Err(Code::NoAuth));
    let (joining, leaving, new_members) = (None, None, None);
    let request = Request::Reconfig(ReconfigRequest { joining, leaving, new_members, config_id: -1 });
    assert_eq!(decided(&request, false, &tree), Err(Code::ReconfigDisabled));
    let enabled = Policy { reconfig_enabled: true, ..policy() };
    assert_eq!(decided_by(&enabled, &LOCAL, &request, false, &tree), Err(Code::SessionExpired));
    assert_eq!(decided_by(&enabled, &LOCAL, &request, true, &tree), Err(Code::Unimplemented));
}

/// The parts of a multi as text, or the error of the whole.
fn multi(ops: &[MultiOp<'_>], policy: &Policy, tree: &mut Tree) -> Result<Vec<String>, Code> {
    let (mut raw, mut body) = (Vec::new(), Vec::new());
    MultiVec::<MultiOp<'_>>::build(&mut raw, ops).encode(&mut body);
    multi_of(&body, policy, tree)
}

fn multi_of(body: &[u8], policy: &Policy, tree: &mut Tree) -> Result<Vec<String>, Code> {
    let Some(verdict) = examine(Op::Multi, body, &policy.rules, &LOCAL) else { return Err(Code::DataInconsistency) };
    let (session, session_open, ephemeral_bytes_left) = (SessionId::from_raw(0x55), true, 30);
    let write =
        Write { op: Op::Multi, body, verdict, session, session_open, ephemeral_bytes_left, who: &LOCAL, policy };
    let header = TxnHeader { session, cxid: 1, zxid: Zxid::from_raw(90), time_ms: 5, op: Op::Multi.raw() };
    let mut encoded = Vec::new();
    let succeeded = multi::prepare(&write, &header, tree, &mut Scratch::default(), &mut encoded, 10_000)?;
    let Ok(Txn::Multi(parts)) = Txn::decode(&header, &mut Reader::new(&encoded)) else { panic!("no multi") };
    assert_eq!(succeeded, !MultiTxn::has_error(&parts));
    let text = |part: Txn<'_>| match part {
        Txn::Create { path, ephemeral, parent_cversion, kind, .. } => {
            format!("{kind} {path} {ephemeral} {parent_cversion}")
        }
        Txn::CreateContainer { path, .. } => format!("container {path}"),
        Txn::CreateTtl { path, ttl_ms, .. } => format!("ttl {path} {ttl_ms}"),
        Txn::Delete { path } => format!("delete {path}"),
        Txn::SetData { path, version, .. } => format!("set {path} {version}"),
        Txn::Check { path, version } => format!("check {path} {version}"),
        Txn::Error { code } => code.to_string(),
        other => panic!("{other:?}"),
    };
    Ok(parts.iter().map(|part| text(part.txn().unwrap())).collect())
}

#[test]
fn operations_of_a_multi_see_each_other_and_the_first_failure_ends_them() {
    let mut raw = Vec::new();
    let acl = open_acl(&mut raw);
    let create = |path: &'static str, flags| CreateRequest { path: Some(path.into()), data: None, acl, flags };
    let set = |path: &'static str, version| {
        MultiOp::SetData(SetDataRequest { path: Some(path.into()), data: Some(b"x"), version })
    };
    let delete = |path: &'static str| MultiOp::Delete(DeleteRequest { path: Some(path.into()), version: -1 });
    let check = |path: &'static str, version| MultiOp::Check(CheckVersionRequest { path: Some(path.into()), version });
    let start = || tree(&[("/a", 31, false)]);
    let ops = [
        MultiOp::Create(create("/b", 0)),
        MultiOp::Create2(create("/b/s-", 2)),
        MultiOp::Create(create("/b/s-", 3)),
        set("/b", 0),
        check("/b", 1),
        delete("/b/s-0000000000"),
        MultiOp::CreateContainer(create("/c", 0)),
        MultiOp::Create(create("/d", 4)),
    ];
    let parts = multi(&ops, &policy(), &mut start()).unwrap();
    assert_eq!(
        parts,
        [
            "create /b false 2",
            "create2 /b/s-0000000000 false 1",
            "create /b/s-0000000001 true 2",
            "set /b 1",
            "check /b 2",
            "delete /b/s-0000000000",
            "container /c",
            "container /d",
        ]
    );
    let failing = [MultiOp::Create(create("/b", 0)), delete("/missing"), check("/b", 7), set("/a", 0)];
    let parts = multi(&failing, &policy(), &mut start()).unwrap();
    assert_eq!(parts, ["create /b false 2", "-101", "-2", "-2"]);
    assert_eq!(multi(&[], &policy(), &mut start()).unwrap(), [""; 0]);
    let crowded: Vec<_> = ["/e1-3456789", "/e2-3456789", "/e3-3456789"].map(|path| create(path, 1)).to_vec();
    let crowded: Vec<_> = crowded.into_iter().map(MultiOp::Create).collect();
    let parts = multi(&crowded, &policy(), &mut start()).unwrap();
    assert_eq!(parts[1..], ["create /e2-3456789 true 3", "-125"], "the ephemerals of one multi are counted together");
}

#[test]
fn what_a_multi_cannot_mean_is_an_error_of_the_whole() {
    let mut raw = Vec::new();
    let acl = open_acl(&mut raw);
    let create = |flags| CreateRequest { path: Some("/b".into()), data: None, acl, flags };
    let ttl = |flags, ttl_ms| {
        MultiOp::CreateTtl(CreateTtlRequest { path: Some("/t".into()), data: None, acl, flags, ttl_ms })
    };
    let made = |ops: &[MultiOp<'_>], policy: &Policy| multi(ops, policy, &mut Tree::new(1));
    for flags in [5, 6, 7, -1] {
        assert_eq!(made(&[MultiOp::Create(create(flags))], &policy()), Err(Code::MarshallingError), "{flags}");
    }
    let without_acl = CreateRequest { acl: None, ..create(0) };
    assert_eq!(made(&[MultiOp::Create(without_acl)], &policy()), Err(Code::DataInconsistency), "takes no zxid");
    let without_path = DeleteRequest { path: None, version: 0 };
    assert_eq!(made(&[MultiOp::Delete(without_path)], &policy()), Err(Code::MarshallingError));
    let read = zorilla_proto::client::PathWatchRequest { path: Some("/".into()), watch: false };
    assert_eq!(made(&[MultiOp::GetData(read)], &policy()), Err(Code::MarshallingError));
    assert_eq!(multi_of(&[0; 3], &policy(), &mut Tree::new(1)), Err(Code::MarshallingError));
    let extended = Policy { extended_types: true, ..policy() };
    for (op, is) in [
        (ttl(0, 5), "create /t false 1"),
        (ttl(3, -1), "create /t0000000000 true 1"),
        (ttl(4, 5), "container /t"),
        (ttl(5, 5), "-6"),
        (ttl(9, 5), "-8"),
    ] {
        assert_eq!(made(std::slice::from_ref(&op), &policy()).unwrap(), [is], "{op:?}");
    }
    assert_eq!(made(&[ttl(6, 5)], &extended).unwrap(), ["ttl /t0000000000 5"]);
    assert_eq!(made(&[ttl(5, 0)], &extended).unwrap(), ["-8"]);
}

#[test]
fn a_hard_quota_is_exact_and_comes_before_the_version() {
    let mut tree = tree(&[("/q", 31, false), ("/zookeeper/quota/q", 31, false)]);
    let set = |tree: &mut Tree, name: &str, data: &[u8]| {
        let path = format!("/zookeeper/quota/q/{name}");
        let header = TxnHeader { session: OWNER, cxid: 1, zxid: Zxid::from_raw(50), time_ms: 5, op: 1 };
        let parent_cversion = Tree::find(tree, "/zookeeper/quota/q").unwrap().version().children_created + 1;
        let (path, data, acl) = (path.into(), Some(data), Some(AclVec::OPEN));
        let create = Txn::Create { path, data, acl, ephemeral: false, parent_cversion, kind: Op::Create };
        effects(&header, &create, tree).unwrap();
    };
    set(&mut tree, "zookeeper_limits", b"count=1,bytes=1=;byteHardLimit=5;countHardLimit=2");
    set(&mut tree, "zookeeper_stats", b"");
    let enforced = Policy { enforce_quota: true, ..policy() };
    let mut raw = Vec::new();
    let acl = open_acl(&mut raw);
    let create = |policy: &Policy, path: &'static str, data: &'static [u8], tree: &Tree| {
        let request = CreateRequest { path: Some(path.into()), data: Some(data), acl, flags: 0 };
        decided_by(policy, &LOCAL, &Request::Create(request), true, tree)
    };
    let set_data = |data: &'static [u8], version, tree: &Tree| {
        let request = SetDataRequest { path: Some("/q".into()), data: Some(data), version };
        decided_by(&enforced, &LOCAL, &Request::SetData(request), true, tree)
    };
    assert!(create(&enforced, "/q/a", b"12345", &tree).is_ok());
    assert_eq!(create(&enforced, "/q/a", b"123456", &tree), Err(Code::QuotaExceeded));
    assert!(create(&policy(), "/q/a", b"123456", &tree).is_ok());
    assert!(create(&enforced, "/r", b"123456", &tree).is_ok());
    assert_eq!(set_data(b"123456", 77, &tree), Err(Code::QuotaExceeded));
    assert_eq!(set_data(b"12345", 77, &tree), Err(Code::BadVersion));
    let added = Txn::Create {
        path: "/q/a".into(),
        data: None,
        acl: Some(AclVec::OPEN),
        ephemeral: false,
        parent_cversion: 1,
        kind: Op::Create,
    };
    let header = TxnHeader { session: OWNER, cxid: 1, zxid: Zxid::from_raw(60), time_ms: 5, op: 1 };
    effects(&header, &added, &mut tree).unwrap();
    assert_eq!(create(&enforced, "/q/b", b"", &tree), Err(Code::QuotaExceeded));
}

#[test]
fn the_reaper_asks_again_before_it_deletes() {
    let mut tree = Tree::new(1);
    let header = TxnHeader { session: OWNER, cxid: 1, zxid: Zxid::from_raw(1), time_ms: 100, op: 1 };
    let (data, acl) = (None, Some(AclVec::OPEN));
    effects(&header, &Txn::CreateContainer { path: "/c".into(), data, acl, parent_cversion: 1 }, &mut tree).unwrap();
    let header = TxnHeader { zxid: Zxid::from_raw(2), ..header };
    let ttl = Txn::CreateTtl { path: "/t".into(), data, acl, parent_cversion: 2, ttl_ms: 50 };
    effects(&header, &ttl, &mut tree).unwrap();
    let goes = |path, now_ms, never_used_ms| reap(path, now_ms, never_used_ms, &tree).is_some();
    assert!(!goes("/c", 1000, 0) && goes("/c", 1000, 899) && !goes("/c", 1000, 900));
    assert!(!goes("/t", 150, 0) && goes("/t", 151, 0));
    assert!(!goes("/zookeeper", 1000, 1) && !goes("/missing", 1000, 1));
}
