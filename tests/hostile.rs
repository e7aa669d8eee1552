//! What malformed and hostile input does to the real binary: every reply to the byte, whether it took a zxid, whether the
//! connection goes on, and that another client is served.
//!
//! The rows are those of the Java server 3.9.5, to which each was sent as well, but for the differences that
//! `docs/compatibility.md` names; where one of them shows here, a comment says so.

#[path = "common"]
mod common {
    pub mod scratch;
    pub mod server;
    pub mod wire;
}
#[path = "hostile/record.rs"]
mod record;
#[path = "hostile/server.rs"]
mod server;

use record::Field::{self, Bool, Count, Int, Long, Null, Open, Raw, Str};
use record::{END, Record, XID, multi, of, request, valid, with_xid};
use server::{
    Answer, Body, Conn, End, Header, Last, Reply, Server, Success, Zx, connect_request, fails, framed, judge,
    judge_with_xid, undecodable, undecodable_late,
};
use zorilla_proto::client::ConnectResponse;
use zorilla_proto::limits::FRAME_BYTES_MAX_DEFAULT;
use zorilla_proto::{Code, Op, Reader, SessionId};

/// Lengths and counts that no record of a few bytes has.
const WRONG: [i32; 9] = [-2, -3, i32::MIN, i32::MAX, i32::MAX - 3, 0xf_ffff, 0x10_0000, 0x1f_ffff, 0x20_0000];

/// Judges a table on one server.
fn table(rows: Vec<(String, Vec<u8>, Answer)>) {
    let server = Server::start("");
    let mut bystander = server.bystander();
    for (what, payload, answer) in &rows {
        judge(&server, &mut bystander, what, payload, answer);
    }
    bystander.is_served_fully();
    println!("{} rows", rows.len());
}

fn row(what: &str, op: Op, fields: &[Field], answer: Answer) -> (String, Vec<u8>, Answer) {
    (format!("{op}, {what}"), of(op, fields), answer)
}

fn body(fields: &[Field]) -> Vec<u8> {
    Record::of(fields).bytes
}

/// The answer to a multi whose only operation failed.
fn failed_operation(code: Code) -> Answer {
    let code = code.raw();
    Body(Zx::Bumped, body(&[&[Int(-1), Bool(0), Int(code), Int(code)], END].concat()))
}

const CREATES: [Op; 3] = [Op::Create, Op::Create2, Op::CreateContainer];

#[test]
fn nulls_are_errors_of_their_request_or_accepted_as_the_reference_does() {
    let mut rows = Vec::new();
    let invalid_acl = || fails(Zx::Bumped, Code::InvalidAcl);
    let bad_arguments = || fails(Zx::Bumped, Code::BadArguments);
    // What stands behind the ACL: flags, and for createTTL the time to live.
    let tails: [(Op, &str, &[Field]); 4] = [
        (Op::Create, "/n1", &[Int(0)]),
        (Op::Create2, "/n2", &[Int(0)]),
        (Op::CreateContainer, "/n3", &[Int(4)]),
        (Op::CreateTtl, "/n4", &[Int(5), Long(1000)]),
    ];
    for (op, new, tail) in tails {
        let mut create = |what: &str, path: Field, data: Field, acl: &[Field], answer: Answer| {
            rows.push(row(what, op, &[&[path, data], acl, tail].concat(), answer));
        };
        let entry = |scheme: Field, id: Field| [Count(1), Int(31), scheme, id];
        create("null path", Null, Raw(b"d"), &[Open], undecodable_late());
        create("null ACL", Str("/x"), Raw(b"d"), &[Null], invalid_acl());
        create("no ACL", Str("/x"), Raw(b"d"), &[Count(0)], invalid_acl());
        create("negative count of ACLs", Str("/x"), Raw(b"d"), &[Count(-2)], invalid_acl());
        create("null scheme", Str("/x"), Raw(b"d"), &entry(Null, Str("anyone")), invalid_acl());
        create("null id of world", Str("/x"), Raw(b"d"), &entry(Str("world"), Null), undecodable_late());
        create("null id of digest", Str("/x"), Raw(b"d"), &entry(Str("digest"), Null), undecodable_late());
        create("null id of ip", Str("/x"), Raw(b"d"), &entry(Str("ip"), Null), undecodable_late());
        create("null id of an unknown scheme", Str("/x"), Raw(b"d"), &entry(Str("none"), Null), invalid_acl());
        // Nobody proved anything on this connection, so `auth` means nobody, with or without an id.
        create("null id of auth", Str("/x"), Raw(b"d"), &entry(Str("auth"), Null), invalid_acl());
        create("null data", Str(new), Null, &[Open], Success(Zx::Bumped));
    }
    for op in [Op::Exists, Op::GetData, Op::GetChildren, Op::GetChildren2] {
        rows.push(row("null path", op, &[Null, Bool(0)], undecodable()));
        rows.push(row("null path with a watch", op, &[Null, Bool(1)], undecodable()));
    }
    for op in [Op::GetAcl, Op::GetAllChildrenNumber] {
        rows.push(row("null path", op, &[Null], undecodable()));
    }
    rows.push(row("null path", Op::Delete, &[Null, Int(-1)], undecodable_late()));
    rows.push(row("null path", Op::SetData, &[Null, Raw(b"d"), Int(-1)], bad_arguments()));
    rows.push(row("null data", Op::SetData, &[Str("/n1"), Null, Int(-1)], Success(Zx::Bumped)));
    rows.push(row("null path", Op::SetAcl, &[Null, Open, Int(-1)], bad_arguments()));
    rows.push(row("null ACL", Op::SetAcl, &[Str("/n1"), Null, Int(-1)], invalid_acl()));
    let null_scheme = &[Str("/n1"), Count(1), Int(31), Null, Str("anyone"), Int(-1)];
    rows.push(row("null scheme", Op::SetAcl, null_scheme, invalid_acl()));
    let null_id = &[Str("/n1"), Count(1), Int(31), Str("world"), Null, Int(-1)];
    rows.push(row("null id of world", Op::SetAcl, null_id, undecodable_late()));
    rows.push(row("null path", Op::Sync, &[Null], Body(Zx::Same, body(&[Null]))));
    rows.push(row("null prefix", Op::GetEphemerals, &[Null], Body(Zx::Same, body(&[Count(0)]))));
    // Not allowed to clients, whatever the record says (the Java server executes it).
    rows.push(row("null path", Op::DeleteContainer, &[Null], fails(Zx::Bumped, Code::NoAuth)));
    let disabled = fails(Zx::Bumped, Code::ReconfigDisabled);
    rows.push(row("nothing but null", Op::Reconfig, &[Null, Null, Null, Long(-1)], disabled));
    rows.push(row("null path", Op::CheckWatches, &[Null, Int(3)], fails(Zx::Same, Code::NoWatcher)));
    rows.push(row("null path", Op::RemoveWatches, &[Null, Int(3)], fails(Zx::Same, Code::NoWatcher)));
    for mode in [0, 1] {
        rows.push(row("null path", Op::AddWatch, &[Null, Int(mode)], Body(Zx::Same, vec![0; 4])));
    }
    for (op, lists) in [(Op::SetWatches, 3), (Op::SetWatches2, 5)] {
        for at in 0..lists {
            let with = |list: &[Field]| {
                let before = [Count(0)].repeat(at);
                let behind = [Count(0)].repeat(lists - at - 1);
                [&[Long(0)][..], &before, list, &behind].concat()
            };
            rows.push(row(&format!("list {at} null"), op, &with(&[Null]), undecodable()));
            // Java takes a null in the lists of persistent watches, which is no path of a client either.
            rows.push(row(&format!("null in list {at}"), op, &with(&[Count(1), Null]), undecodable()));
            rows.push(row(&format!("count -2 of list {at}"), op, &with(&[Count(-2)]), Header(Zx::Same, 0)));
        }
    }
    table(rows);
}

#[test]
fn a_null_id_of_auth_means_whoever_is_connected() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    let mut conn = server.connect();
    conn.send(&of(Op::Auth, &[Int(0), Str("digest"), Raw(b"bob:pw")]));
    assert_eq!(conn.reply().map(|reply| reply.code), Some(0));
    let acl = [Count(1), Int(31), Str("auth"), Null];
    let mut ask = |payload: &[u8]| {
        conn.send(payload);
        let reply = conn.reply().expect("the connection is open");
        assert_eq!(reply.code, 0);
        reply.body
    };
    ask(&of(Op::Create, &[&[Str("/mine"), Raw(b"")], &acl[..], &[Int(0)]].concat()));
    let found = ask(&of(Op::GetAcl, &[Str("/mine")]));
    let stored = body(&[Count(1), Int(31), Str("digest"), Str("bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")]);
    assert_eq!(found.len(), stored.len() + 68);
    assert_eq!(found[..stored.len()], stored, "the ACL names the digest of whoever is connected");
    ask(&of(Op::SetAcl, &[&[Str("/mine")], &acl[..], &[Int(0)]].concat()));
    conn.close();
    judge(
        &server,
        &mut bystander,
        "of another",
        &of(Op::GetData, &[Str("/mine"), Bool(0)]),
        &fails(Zx::Same, Code::NoAuth),
    );
}

#[test]
fn nulls_in_a_multi_spoil_the_whole_request() {
    let mut rows = Vec::new();
    let mut one = |what: &str, op: Op, fields: &[Field], answer: Answer| {
        rows.push((format!("multi of {op}, {what}"), request(Op::Multi.raw(), &multi(&[(op, fields)]).bytes), answer));
    };
    for op in CREATES {
        one("null path", op, &[Null, Raw(b"d"), Open, Int(0)], undecodable_late());
        // The reference stumbles before it takes a zxid.
        one("null ACL", op, &[Str("/x"), Raw(b"d"), Null, Int(0)], undecodable());
        one("no ACL", op, &[Str("/x"), Raw(b"d"), Count(0), Int(0)], failed_operation(Code::InvalidAcl));
        let null_scheme = &[Str("/x"), Raw(b"d"), Count(1), Int(31), Null, Str("x"), Int(0)];
        one("null scheme", op, null_scheme, failed_operation(Code::InvalidAcl));
        let null_id = &[Str("/x"), Raw(b"d"), Count(1), Int(31), Str("world"), Null, Int(0)];
        one("null id of world", op, null_id, undecodable_late());
        let path = ["/m1", "/m2", "/m3"][CREATES.iter().position(|other| *other == op).unwrap_or(0)];
        one("null data", op, &[Str(path), Null, Open, Int(0)], Success(Zx::Bumped));
        for flags in [-1, 5, 6, 7, i32::MAX, i32::MIN] {
            one("flags", op, &[Str("/x"), Raw(b"d"), Open, Int(flags)], undecodable_late());
        }
    }
    let ttl = &[Int(5), Long(1000)][..];
    one("null path", Op::CreateTtl, &[&[Null, Raw(b""), Open], ttl].concat(), undecodable_late());
    let null_acl = [&[Str("/x"), Raw(b""), Null], ttl].concat();
    one("null ACL", Op::CreateTtl, &null_acl, failed_operation(Code::InvalidAcl));
    one("null data", Op::CreateTtl, &[&[Str("/m4"), Null, Open], ttl].concat(), Success(Zx::Bumped));
    one("null path", Op::Delete, &[Null, Int(-1)], undecodable_late());
    one("null path", Op::SetData, &[Null, Raw(b""), Int(-1)], undecodable_late());
    one("null data", Op::SetData, &[Str("/m1"), Null, Int(-1)], Success(Zx::Bumped));
    one("null path", Op::Check, &[Null, Int(-1)], undecodable_late());

    // An operation that would have succeeded is gone with the rest.
    let good: (Op, &[Field]) = (Op::Create, &[Str("/gone"), Raw(b""), Open, Int(0)]);
    for bad in [(Op::Delete, &[Null, Int(-1)][..]), (Op::Check, &[Null, Int(-1)])] {
        let multi = multi(&[good, bad]);
        rows.push((
            format!("multi of create and {}", bad.0),
            request(Op::Multi.raw(), &multi.bytes),
            undecodable_late(),
        ));
    }
    rows.push(row("created by a spoilt multi", Op::Exists, &[Str("/gone"), Bool(0)], fails(Zx::Same, Code::NoNode)));

    for op in [Op::GetData, Op::GetChildren] {
        // Java sends what it has of the results behind the error, which no client reads.
        let multi = multi(&[(Op::GetChildren, &[Str("/kept"), Bool(0)]), (op, &[Null, Bool(0)])]);
        rows.push((format!("multiRead of {op}, null path"), request(Op::MultiRead.raw(), &multi.bytes), undecodable()));
    }
    table(rows);
}

#[test]
fn a_multi_of_what_cannot_stand_in_one_is_undecodable() {
    let mut rows = Vec::new();
    let mut add = |what: String, op: Op, record: &[u8], answer: Answer| {
        rows.push((format!("{op}: {what}"), request(op.raw(), record), answer));
    };
    let read: (Op, &[Field]) = (Op::GetData, &[Str("/kept"), Bool(0)]);
    let write: (Op, &[Field]) = (Op::Delete, &[Str("/none"), Int(-1)]);
    let end = || body(END);
    add("empty".into(), Op::Multi, &end(), Body(Zx::Bumped, end()));
    add("empty".into(), Op::MultiRead, &end(), Body(Zx::Same, end()));
    add("without an end".into(), Op::Multi, &[], undecodable_late());
    add("without an end".into(), Op::MultiRead, &[], undecodable());
    add("of a read".into(), Op::Multi, &multi(&[read]).bytes, undecodable_late());
    add("of a write".into(), Op::MultiRead, &multi(&[write]).bytes, undecodable());
    add("mixed".into(), Op::Multi, &multi(&[write, read]).bytes, undecodable_late());
    add("mixed".into(), Op::MultiRead, &multi(&[read, write]).bytes, undecodable());
    // Only `done` of the last header is looked at, and its err of none.
    add("end of another type".into(), Op::Multi, &body(&[Int(1), Bool(1), Int(77)]), Body(Zx::Bumped, end()));
    add("end of another truth".into(), Op::Multi, &body(&[Int(-1), Bool(7), Int(-1)]), Body(Zx::Bumped, end()));
    add("trailing bytes".into(), Op::Multi, &[&end()[..], b"junk"].concat(), Body(Zx::Bumped, end()));
    let odd = body(&[&[Int(Op::Delete.raw()), Bool(0), Int(77), Str("/none"), Int(-1)], END].concat());
    add("odd err".into(), Op::Multi, &odd, failed_operation(Code::NoNode));
    let invalid =
        body(&[&[Int(Op::Create.raw()), Bool(0), Int(-1), Raw(b"/\xff"), Raw(b""), Open, Int(0)], END].concat());
    add("invalid UTF-8".into(), Op::Multi, &invalid, failed_operation(Code::BadArguments));
    let invalid = body(&[&[Int(Op::Delete.raw()), Bool(0), Int(-1), Raw(b"/\xff"), Int(-1)], END].concat());
    add("invalid UTF-8".into(), Op::Multi, &invalid, failed_operation(Code::NoNode));
    let may_stand =
        [&CREATES[..], &[Op::CreateTtl, Op::Delete, Op::SetData, Op::Check, Op::GetData, Op::GetChildren]].concat();
    let others = Op::ALL.iter().filter(|op| !may_stand.contains(op)).map(|op| op.raw());
    for op in others.chain([10, 23, 99, 108, i32::MAX, i32::MIN]) {
        let record = body(&[&[Int(op), Bool(0), Int(-1), Str("/kept"), Int(0)], END].concat());
        add(format!("of type {op}"), Op::Multi, &record, undecodable_late());
        add(format!("of type {op}"), Op::MultiRead, &record, undecodable());
    }
    table(rows);
}

/// Sends damaged records of one opcode over one connection. Each is refused as undecodable, or before anybody looks at it,
/// and the connection goes on; credentials and tokens end it without an answer, and a new one takes its place.
///
/// Gives the connection back, the code of the refusals, and how many there were.
fn refuses(server: &Server, op: Op, damaged: impl IntoIterator<Item = (String, Vec<u8>)>) -> (Conn, Code, usize) {
    let (bump, code) = match op {
        Op::Multi => (1, Code::MarshallingError),
        // Not allowed to clients, whatever the record says.
        Op::DeleteContainer => (1, Code::NoAuth),
        _ => (0, Code::MarshallingError),
    };
    let (mut conn, mut zxid) = reconnected(server);
    let mut sent = 0;
    for (what, bytes) in damaged {
        sent += 1;
        conn.send(&request(op.raw(), &bytes));
        if matches!(op, Op::Auth | Op::Sasl) {
            assert_eq!(conn.frame(), None, "{op} {what} ends the connection without an answer");
            (conn, zxid) = reconnected(server);
            continue;
        }
        zxid += bump;
        let reply = conn.reply().unwrap_or_else(|| panic!("{op} {what} ends the connection"));
        let found = (reply.xid, reply.zxid, reply.code, reply.body.len());
        assert_eq!(found, (XID, zxid, code.raw(), 0), "{op} {what}");
    }
    (conn, code, sent)
}

/// The record with another number over four of its bytes.
fn damaged(record: &Record, at: usize, wrong: i32) -> (String, Vec<u8>) {
    let mut bytes = record.bytes.clone();
    bytes[at..at + 4].copy_from_slice(&wrong.to_be_bytes());
    (format!("with {wrong} at {at}"), bytes)
}

/// Every record cut at every byte, all on one connection where the connection goes on.
#[test]
fn records_that_end_too_early_are_undecodable_and_the_connection_goes_on() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    let mut cuts = 0;
    for (op, record) in valid() {
        let whole = &record.bytes;
        let cut = |end: usize| (format!("cut at {end} of {}", whole.len()), whole[..end].to_vec());
        let (mut conn, code, sent) = refuses(&server, op, (0..whole.len()).map(cut));
        cuts += sent;
        // Whole, it is answered otherwise on the same connection.
        conn.send(&request(op.raw(), whole));
        let whole = conn.reply().unwrap_or_else(|| panic!("{op} is not answered"));
        assert!(op == Op::DeleteContainer || whole.code != code.raw(), "{op}: {whole:?}");
        conn.close();
        bystander.is_served();
    }
    bystander.is_served_fully();
    println!("{cuts} cuts");
}

/// Every length of a string or buffer, and every count, replaced by one that cannot be.
#[test]
fn lengths_and_counts_that_cannot_be_are_undecodable() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    let mut tried = 0;
    for (op, record) in valid() {
        let wrong = |places: &[usize]| places.iter().flat_map(|at| WRONG.map(|wrong| (*at, wrong))).collect::<Vec<_>>();
        // A count that is negative and not -1 means none, so what follows is read as something else: see the next test.
        let counts = wrong(&record.counts).into_iter().filter(|(_, wrong)| 0 < *wrong);
        let all = wrong(&record.lengths).into_iter().chain(counts);
        let (conn, _, sent) = refuses(&server, op, all.map(|(at, wrong)| damaged(&record, at, wrong)));
        tried += sent;
        conn.close();
        bystander.is_served();
    }
    bystander.is_served_fully();
    println!("{tried} lengths and counts");
}

/// The same numbers over every four bytes of every record, whatever stands there: the answer is one a server may give.
#[test]
fn numbers_anywhere_in_a_record_get_an_answer_that_clients_know() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    let mut tried = 0;
    for (op, record) in valid() {
        let (mut conn, mut zxid) = reconnected(&server);
        for at in 0..record.bytes.len().saturating_sub(3) {
            for wrong in WRONG {
                tried += 1;
                let (what, bytes) = damaged(&record, at, wrong);
                let what = format!("{op} {what}");
                conn.send(&request(op.raw(), &bytes));
                let Some(reply) = answered(&mut conn, &what, zxid) else {
                    assert!(matches!(op, Op::Auth | Op::Sasl), "{what} ends the connection");
                    (conn, zxid) = reconnected(&server);
                    continue;
                };
                let code = Code::from_raw(reply.code).unwrap_or_else(|| panic!("{what}: {reply:?}"));
                let takes_none = matches!(op, Op::Auth | Op::Sasl);
                assert!(if takes_none { reply.zxid == 0 } else { reply.zxid <= zxid + 1 }, "{what}: {reply:?}");
                assert!(reply.code == 0 || reply.body.is_empty(), "{what}: {reply:?}");
                if code == Code::AuthFailed {
                    assert_eq!(conn.frame(), None, "{what}: nothing comes behind");
                    (conn, zxid) = reconnected(&server);
                } else if !takes_none {
                    zxid = reply.zxid;
                }
            }
        }
        conn.close();
        bystander.is_served();
    }
    bystander.is_served_fully();
    println!("{tried} numbers");
}

/// The reply to a request, past the events that a damaged setWatches may cause.
fn answered(conn: &mut Conn, what: &str, zxid: i64) -> Option<Reply> {
    loop {
        let reply = conn.reply()?;
        if reply.xid == XID {
            assert!(reply.zxid == 0 || zxid <= reply.zxid, "{what}: zxids never fall");
            return Some(reply);
        }
        assert_eq!((reply.xid, reply.zxid, reply.code), (-1, -1, 0), "{what}: what else comes is an event");
    }
}

fn reconnected(server: &Server) -> (Conn, i64) {
    let mut conn = server.connect();
    let zxid = conn.ping();
    (conn, zxid)
}

#[test]
fn bytes_behind_a_record_are_ignored() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    let mut all = valid();
    all.extend([Op::Ping, Op::WhoAmI].map(|op| (op, Record::default())));
    for (op, record) in all {
        let mut conn = server.connect();
        let mut answers = Vec::new();
        for behind in [&b""[..], b"\0", b"junk", &[0xff; 1000]] {
            conn.send(&request(op.raw(), &[&record.bytes, behind].concat()));
            let reply = conn.reply().unwrap_or_else(|| panic!("{op} with {} bytes behind it", behind.len()));
            answers.push((reply.code, reply.body));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{op}: {answers:?}");
        conn.close();
    }
    let mut leaving = server.connect();
    leaving.send(&request(Op::CloseSession.raw(), b"junk"));
    assert_eq!(leaving.reply().map(|reply| reply.code), Some(0));
    assert_eq!(leaving.frame(), None);
    bystander.is_served_fully();
}

#[test]
fn malformed_utf_8_is_replaced_and_never_undecodable() {
    const BAD: Field = Raw(b"/\xff");
    let mut rows = Vec::new();
    let bad_arguments = || fails(Zx::Bumped, Code::BadArguments);
    let missing = || fails(Zx::Same, Code::NoNode);
    for op in CREATES {
        rows.push(row("path", op, &[BAD, Raw(b""), Open, Int(0)], bad_arguments()));
        let scheme = &[Str("/x"), Raw(b""), Count(1), Int(31), Raw(b"wor\xff"), Str("anyone"), Int(0)];
        rows.push(row("scheme", op, scheme, fails(Zx::Bumped, Code::InvalidAcl)));
    }
    rows.push(row("path", Op::CreateTtl, &[BAD, Raw(b""), Open, Int(5), Long(1000)], bad_arguments()));
    let id = &[Str("/u"), Raw(b""), Count(1), Int(31), Str("digest"), Raw(b"\xff:\xfe"), Int(0)];
    rows.push(row("id", Op::Create, id, Body(Zx::Bumped, body(&[Str("/u")]))));
    for op in [Op::Exists, Op::GetData, Op::GetChildren, Op::GetChildren2] {
        rows.push(row("path", op, &[BAD, Bool(1)], missing()));
    }
    rows.push(row("path", Op::GetAcl, &[BAD], missing()));
    rows.push(row("path", Op::GetAllChildrenNumber, &[BAD], missing()));
    rows.push(row("path", Op::Sync, &[BAD], Body(Zx::Same, body(&[Str("/\u{fffd}")]))));
    rows.push(row("prefix", Op::GetEphemerals, &[BAD], Body(Zx::Same, body(&[Count(0)]))));
    rows.push(row("path", Op::Delete, &[BAD, Int(-1)], fails(Zx::Bumped, Code::NoNode)));
    rows.push(row("path", Op::SetData, &[BAD, Raw(b""), Int(-1)], bad_arguments()));
    rows.push(row("path", Op::SetAcl, &[BAD, Open, Int(-1)], bad_arguments()));
    rows.push(row("texts", Op::Reconfig, &[BAD, BAD, BAD, Long(-1)], fails(Zx::Bumped, Code::ReconfigDisabled)));
    rows.push(row("path", Op::AddWatch, &[BAD, Int(0)], Body(Zx::Same, vec![0; 4])));
    rows.push(row("path", Op::CheckWatches, &[BAD, Int(3)], fails(Zx::Same, Code::NoWatcher)));
    rows.push(row("path", Op::RemoveWatches, &[BAD, Int(3)], fails(Zx::Same, Code::NoWatcher)));
    rows.push(row(
        "scheme",
        Op::Auth,
        &[Int(0), Raw(b"dig\xff"), Raw(b"a:b")],
        Last(Zx::Is(0), Code::AuthFailed.raw()),
    ));
    rows.push(row("credential", Op::Auth, &[Int(0), Str("digest"), Raw(b"\xff\xfe:\xff")], Header(Zx::Is(0), 0)));
    let read = multi(&[(Op::GetData, &[BAD, Bool(0)])]);
    let code = Code::NoNode.raw();
    let results = body(&[&[Int(-1), Bool(0), Int(code), Int(code)], END].concat());
    rows.push(("multiRead, path".into(), request(Op::MultiRead.raw(), &read.bytes), Body(Zx::Same, results)));
    // U+0000 is as good as no path to those that look.
    rows.push(row("U+0000", Op::Create, &[Raw(b"/a\0b"), Raw(b""), Open, Int(0)], bad_arguments()));
    rows.push(row("U+0000", Op::Delete, &[Raw(b"/a\0b"), Int(-1)], bad_arguments()));
    rows.push(row("U+0000", Op::Exists, &[Raw(b"/a\0b"), Bool(1)], fails(Zx::Same, Code::BadArguments)));
    rows.push(row("U+0000", Op::GetData, &[Raw(b"/a\0b"), Bool(1)], missing()));
    table(rows);

    // setWatches says at once that the znodes of these paths are gone, under the names it read.
    let server = Server::start("");
    let mut conn = server.connect();
    let lists = [Long(0), Count(1), BAD, Count(1), BAD, Count(1), BAD];
    conn.send(&of(Op::SetWatches, &lists));
    for _ in 0..2 {
        let event = conn.reply().expect("an event");
        assert_eq!((event.xid, event.zxid, event.code), (-1, -1, 0));
        assert_eq!(event.body, body(&[Int(2), Int(3), Str("/\u{fffd}")]));
    }
    assert_eq!(conn.reply().map(|reply| (reply.xid, reply.code, reply.body.len())), Some((XID, 0, 0)));
}

#[test]
fn unknown_opcodes_are_unimplemented_and_end_the_connection() {
    let refused = Last(Zx::Is(-1), Code::Unimplemented.raw());
    let known = |op: &i32| Op::from_raw(*op).is_some_and(Op::from_client);
    // Every number near those in use, then some of every magnitude.
    let near = (-20..=120).chain([199, 200, 500, 999, 1000, 1024]);
    let far = (7..31).flat_map(|bit| [1 << bit, -(1 << bit), (1 << bit) + 1]).chain([i32::MAX, i32::MIN, -1000]);
    let mut rows = Vec::new();
    for op in near.chain(far).filter(|op| !known(op)) {
        rows.push((format!("opcode {op}"), request(op, &[]), refused.clone()));
    }
    // With a record that would suit them: check stands only in a multi, and sessions begin with a handshake.
    rows.push(row("alone", Op::Check, &[Str("/kept"), Int(-1)], refused.clone()));
    rows.push(row("from a client", Op::CreateSession, &[Int(8000)], refused.clone()));
    rows.push(row("from a client", Op::Error, &[Int(0)], refused.clone()));
    rows.push(row("from a client", Op::Notification, &[Int(1), Int(3), Str("/kept")], refused));
    table(rows);
}

#[test]
fn what_comes_behind_an_unknown_opcode_or_a_closed_session_is_not_answered() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    let behind = |payload: &[u8]| {
        let mut conn = server.connect();
        let ping = request(Op::Ping.raw(), &[]);
        let frames = [&ping[..], payload, &ping, &ping];
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        conn.send_raw(&bytes);
        let answers: Vec<(i32, i32)> =
            std::iter::from_fn(|| conn.reply()).map(|reply| (reply.xid, reply.code)).collect();
        answers
    };
    let ping = (-2, 0);
    assert_eq!(behind(&request(10, &[])), [ping, (XID, Code::Unimplemented.raw())]);
    assert_eq!(behind(&request(Op::CloseSession.raw(), &[])), [ping, (XID, 0)]);
    // Credentials are answered when they are read, and may overtake what came before.
    let mut refused = behind(&of(Op::Auth, &[Int(0), Str("none"), Raw(b"")]));
    refused.sort();
    assert_eq!(refused, [ping, (XID, Code::AuthFailed.raw())]);
    // What is no request at all ends the connection at once; the answer to the first ping may be lost with it.
    for payload in [&of(Op::Sasl, &[Null])[..], &[0; 7]] {
        let answers = behind(payload);
        assert!(matches!(answers[..], [] | [(-2, 0)]), "{answers:?}");
    }
    bystander.is_served_fully();
}

#[test]
fn kinds_and_modes_of_watches_out_of_range_are_undecodable() {
    let mut rows = Vec::new();
    let numbers = (-5..=12).chain([127, 128, 255, 256, 65_536, i32::MAX, i32::MIN]);
    for number in numbers {
        let answer = match number {
            1..=5 => fails(Zx::Same, Code::NoWatcher),
            _ => undecodable(),
        };
        for op in [Op::CheckWatches, Op::RemoveWatches] {
            rows.push(row(&format!("kind {number}"), op, &[Str("/kept"), Int(number)], answer.clone()));
        }
        let answer = if matches!(number, 0 | 1) { Body(Zx::Same, vec![0; 4]) } else { undecodable() };
        rows.push(row(&format!("mode {number}"), Op::AddWatch, &[Str("/kept"), Int(number)], answer));
    }
    table(rows);
}

#[test]
fn credentials_and_tokens_that_are_none_end_the_connection() {
    let failed = || Last(Zx::Is(0), Code::AuthFailed.raw());
    let accepted = || Header(Zx::Is(0), 0);
    let no_token = || Body(Zx::Is(0), body(&[Null]));
    table(vec![
        row("null scheme", Op::Auth, &[Int(0), Null, Raw(b"x")], failed()),
        row("null credential", Op::Auth, &[Int(0), Str("digest"), Null], failed()),
        row("unknown scheme", Op::Auth, &[Int(0), Str("none"), Raw(b"x")], failed()),
        row("empty scheme", Op::Auth, &[Int(0), Str(""), Raw(b"x")], failed()),
        row("sasl", Op::Auth, &[Int(0), Str("sasl"), Raw(b"x")], failed()),
        row("world", Op::Auth, &[Int(0), Str("world"), Raw(b"anyone")], failed()),
        row("auth", Op::Auth, &[Int(0), Str("auth"), Raw(b"")], failed()),
        row("super", Op::Auth, &[Int(0), Str("super"), Raw(b"")], failed()),
        row("no fields", Op::Auth, &[], End),
        row("no credential", Op::Auth, &[Int(0), Str("digest")], End),
        row("ip needs none", Op::Auth, &[Int(0), Str("ip"), Null], accepted()),
        row("any type", Op::Auth, &[Int(-77), Str("digest"), Raw(b"a:b")], accepted()),
        row("no colon", Op::Auth, &[Int(0), Str("digest"), Raw(b"a")], accepted()),
        row("empty", Op::Auth, &[Int(0), Str("digest"), Raw(b"")], accepted()),
        row("null", Op::Sasl, &[Null], End),
        row("no fields", Op::Sasl, &[], End),
        row("empty", Op::Sasl, &[Raw(b"")], no_token()),
        row("any token", Op::Sasl, &[Raw(b"\xff\0token")], no_token()),
    ]);
}

#[test]
fn requests_that_end_a_java_server_are_refused_or_harmless() {
    let mut rows = Vec::new();
    let bad_arguments = || fails(Zx::Bumped, Code::BadArguments);
    for flags in [-1, 0, 1, 2, 3, 4, 7, i32::MAX, i32::MIN] {
        for ttl in [-1, i64::MIN, 0, 1, 1 << 40, i64::MAX] {
            let record = &[Str("/ttl"), Raw(b""), Open, Int(flags), Long(ttl)];
            rows.push(row(&format!("flags {flags}, {ttl} ms"), Op::CreateTtl, record, bad_arguments()));
        }
    }
    for ttl in [0, -1, i64::MIN, 1 << 40, i64::MAX] {
        let record = &[Str("/ttl"), Raw(b""), Open, Int(5), Long(ttl)];
        rows.push(row(&format!("flags 5, {ttl} ms"), Op::CreateTtl, record, bad_arguments()));
    }
    let longest = &[Str("/ttl"), Raw(b""), Open, Int(5), Long((1 << 40) - 1)];
    rows.push(row("the longest time", Op::CreateTtl, longest, Success(Zx::Bumped)));
    for (path, data) in
        [("/zookeeper/quota/zookeeper_limits", &b"count=1"[..]), ("/zookeeper/quota/zookeeper_stats", b"x")]
    {
        let record = &[Str(path), Raw(data), Open, Int(0)];
        rows.push(row("quota of the root", Op::Create, record, Body(Zx::Bumped, body(&[Str(path)]))));
    }
    // No limit came of it.
    for path in ["/q1", "/q2", "/q3"] {
        let record = &[Str(path), Raw(b""), Open, Int(0)];
        rows.push(row("behind a quota of the root", Op::Create, record, Body(Zx::Bumped, body(&[Str(path)]))));
    }
    rows.push(row("of a container", Op::DeleteContainer, &[Str("/kept")], fails(Zx::Bumped, Code::NoAuth)));
    table(rows);
}

#[test]
fn any_xid_is_echoed_except_of_a_ping() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    for xid in [0, 1, -1, -2, -4, -8, i32::MAX, i32::MIN] {
        let payload = with_xid(xid, Op::Sync.raw(), &body(&[Str("/kept")]));
        let answer = Body(Zx::Same, body(&[Str("/kept")]));
        judge_with_xid(&server, &mut bystander, "sync", &payload, xid, &answer);
        let payload = with_xid(xid, Op::Auth.raw(), &body(&[Int(0), Str("digest"), Raw(b"a:b")]));
        judge_with_xid(&server, &mut bystander, "auth", &payload, xid, &Header(Zx::Is(0), 0));
        let payload = with_xid(xid, 10, &[]);
        let refused = Last(Zx::Is(-1), Code::Unimplemented.raw());
        judge_with_xid(&server, &mut bystander, "unknown", &payload, xid, &refused);
        let payload = with_xid(xid, Op::Ping.raw(), &[]);
        judge_with_xid(&server, &mut bystander, "ping", &payload, -2, &Header(Zx::Same, 0));
    }
}

// ---- frames and the handshake ----------------------------------------------------------------------------

#[test]
fn frames_up_to_the_limit_are_served_and_one_byte_more_is_not() {
    for (more, limit) in [("", FRAME_BYTES_MAX_DEFAULT), ("jute.maxbuffer=4096", 4096)] {
        let server = Server::start(more);
        let mut bystander = server.bystander();
        let fields = [Str("/big"), Raw(b""), Open, Int(0)];
        let empty = of(Op::Create, &fields).len();
        for (payload_bytes, path) in [(limit - 1, "/b1"), (limit, "/b2"), (limit + 1, "/b3"), (limit + 1000, "/b4")] {
            let data: &'static [u8] = Vec::leak(vec![0x5a; payload_bytes - (empty - 1)]);
            let payload = of(Op::Create, &[Str(path), Raw(data), Open, Int(0)]);
            assert_eq!(payload.len(), payload_bytes);
            let is_served = payload_bytes <= limit;
            let answer = if is_served { Body(Zx::Bumped, body(&[Str(path)])) } else { End };
            judge(&server, &mut bystander, &format!("{payload_bytes} bytes"), &payload, &answer);
            if is_served {
                // What fitted comes back, although the answer is longer than what a client may send.
                let mut conn = server.connect();
                conn.send(&of(Op::GetData, &[Str(path), Bool(0)]));
                let reply = conn.reply().expect("it is there");
                assert_eq!((reply.code, reply.body.len()), (0, 4 + data.len() + 68));
                assert_eq!(&reply.body[4..4 + data.len()], data);
                conn.close();
            }

            // The same before the handshake, whose record is followed by bytes that nobody reads.
            let mut conn = server.raw();
            let mut connect = connect_request();
            connect.resize(payload_bytes, 0x5a);
            conn.send(&connect);
            assert_eq!(conn.frame().is_some(), is_served, "a handshake of {payload_bytes} bytes");
        }
        bystander.is_served_fully();
    }
}

#[test]
fn lengths_of_frames_that_cannot_be_end_the_connection_without_an_answer() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    // Among them the words of operators, which are lengths once a session is open.
    let words = [*b"ruok", *b"stat", *b"mntr", *b"RUOK", *b"GET ", [0x16, 3, 1, 2], [0xff, 0xf4, 0xff, 0xfd]];
    let lengths = [-1, -2, i32::MIN, i32::MIN + 1, i32::MAX, FRAME_BYTES_MAX_DEFAULT as i32 + 1].map(i32::to_be_bytes);
    for length in lengths.into_iter().chain(words) {
        let is_word = matches!(&length, b"ruok" | b"stat" | b"mntr" | [0xff, 0xf4, 0xff, 0xfd]);
        for behind in [&b""[..], b"junk"] {
            let bytes = [&length[..], behind].concat();
            let mut conn = server.connect();
            let before = conn.ping();
            conn.send_raw(&bytes);
            assert_eq!(conn.frame(), None, "{length:x?} on an open session");
            let mut other = server.connect();
            assert_eq!(other.ping(), before + 1, "{length:x?}: only the new session took a zxid");
            other.close();
            if !is_word {
                let mut conn = server.raw();
                conn.send_raw(&bytes);
                assert_eq!(conn.frame(), None, "{length:x?} instead of a handshake");
            }
        }
        bystander.is_served();
    }
    bystander.is_served_fully();
}

#[test]
fn frames_shorter_than_a_header_end_the_connection() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    for bytes in 0..8 {
        judge(&server, &mut bystander, &format!("{bytes} bytes"), &vec![0; bytes], &End);
        let ping = request(Op::Ping.raw(), &[]);
        judge(&server, &mut bystander, &format!("{bytes} bytes of a ping"), &ping[..bytes], &End);
    }
    bystander.is_served_fully();
}

/// What a handshake is answered with.
#[derive(Debug, PartialEq, Eq)]
enum Greeting {
    /// A new session with this timeout. Whether the answer has the field `readOnly`.
    Session(i32, bool),
    /// The session is not valid, and the connection ends.
    NotValid,
    /// The connection ends.
    Nothing,
}

fn greeting(server: &Server, payload: &[u8]) -> Greeting {
    let mut conn = server.raw();
    conn.send(payload);
    let Some(answer) = conn.frame() else { return Greeting::Nothing };
    let response = ConnectResponse::decode(&mut Reader::new(&answer)).expect("a connect response");
    assert_eq!(answer[..4], [0; 4], "the protocol's version is 0");
    assert_eq!(answer.len(), 36 + usize::from(response.read_only.is_some()));
    assert_ne!(response.read_only, Some(true));
    if response.session == SessionId::NONE {
        assert_eq!((response.timeout_ms, response.password), (0, [0; 16]));
        assert_eq!(conn.frame(), None, "nothing comes behind a session that is not valid");
        return Greeting::NotValid;
    }
    assert_eq!(response.password, response.session.password());
    conn.ping();
    conn.close();
    Greeting::Session(response.timeout_ms, response.read_only.is_some())
}

/// A handshake with everything a client may say in it.
fn handshake(version: i32, seen: i64, timeout_ms: i32, session: i64, password: Field, behind: &[Field]) -> Vec<u8> {
    body(&[&[Int(version), Long(seen), Int(timeout_ms), Long(session), password], behind].concat())
}

#[test]
fn handshakes_cut_short_end_the_connection_and_odd_ones_are_served() {
    const ZEROS: Field = Raw(&[0; 16]);
    let server = Server::start("");
    let mut bystander = server.bystander();
    let check = |what: &str, payload: &[u8], expected: Greeting| {
        assert_eq!(greeting(&server, payload), expected, "{what}");
    };
    let whole = handshake(0, 0, 8000, 0, ZEROS, &[Bool(0)]);
    assert_eq!(whole.len(), 45);
    for bytes in 0..44 {
        check(&format!("{bytes} bytes"), &whole[..bytes], Greeting::Nothing);
    }
    check("without readOnly", &whole[..44], Greeting::Session(8000, false));
    check("with readOnly", &whole, Greeting::Session(8000, true));
    check("trailing bytes", &[&whole[..], &[0xff; 80]].concat(), Greeting::Session(8000, true));
    for read_only in [1, 2, 255] {
        let payload = handshake(0, 0, 8000, 0, ZEROS, &[Bool(read_only)]);
        check(&format!("readOnly {read_only}"), &payload, Greeting::Session(8000, true));
    }
    for version in [1, -1, i32::MAX, i32::MIN, 0x7275_6f6b] {
        let payload = handshake(version, 0, 8000, 0, ZEROS, &[Bool(0)]);
        check(&format!("version {version}"), &payload, Greeting::Session(8000, true));
    }
    for (asked, given) in [(0, 1000), (-1, 1000), (i32::MIN, 1000), (1, 1000), (5000, 5000), (i32::MAX, 600_000)] {
        let payload = handshake(0, 0, asked, 0, ZEROS, &[Bool(0)]);
        check(&format!("{asked} ms"), &payload, Greeting::Session(given, true));
    }
    for seen in [-1, i64::MIN] {
        let payload = handshake(0, seen, 8000, 0, ZEROS, &[Bool(0)]);
        check(&format!("zxid {seen}"), &payload, Greeting::Session(8000, true));
    }
    for seen in [1_000_000, i64::MAX] {
        let payload = handshake(0, seen, 8000, 0, ZEROS, &[Bool(0)]);
        check(&format!("zxid {seen}"), &payload, Greeting::Nothing);
    }
    let passwords: [(&str, Field); 6] = [
        ("null", Null),
        ("empty", Raw(b"")),
        ("15 bytes", Raw(&[0; 15])),
        ("17 bytes", Raw(&[0; 17])),
        ("1,000 bytes", Raw(&[1; 1000])),
        ("another", Raw(b"0123456789abcdef")),
    ];
    for (what, password) in passwords {
        let new = handshake(0, 0, 8000, 0, password, &[Bool(0)]);
        check(&format!("{what} as password"), &new, Greeting::Session(8000, true));
        let resumed = handshake(0, 0, 8000, 0x1234, password, &[Bool(0)]);
        check(&format!("{what} as password of a session"), &resumed, Greeting::NotValid);
    }
    for length in [-2, i32::MIN, i32::MAX, 0x10_0000] {
        for session in [0, 0x1234] {
            let payload = handshake(0, 0, 8000, session, Int(length), &[Bool(0)]);
            check(&format!("{length} as length of the password"), &payload, Greeting::Nothing);
        }
    }
    for session in [1, -1, i64::MIN, i64::MAX] {
        let payload = handshake(0, 0, 8000, session, ZEROS, &[Bool(0)]);
        check(&format!("session {session}"), &payload, Greeting::NotValid);
        let password: &'static [u8] = Vec::leak(SessionId::from_raw(session).password().to_vec());
        let payload = handshake(0, 0, 8000, session, Raw(password), &[Bool(0)]);
        check(&format!("session {session} with its password"), &payload, Greeting::NotValid);
    }
    bystander.is_served_fully();
}

#[test]
fn requests_before_the_handshake_end_the_connection() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    let mut all = valid();
    all.extend([Op::Ping, Op::WhoAmI, Op::CloseSession].map(|op| (op, Record::default())));
    for (op, record) in all {
        // What is long enough passes for a handshake; where the session would stand is then no session of anybody.
        let payload = request(op.raw(), &record.bytes);
        let found = greeting(&server, &payload);
        assert!(matches!(found, Greeting::Nothing | Greeting::NotValid), "{op}: {found:?}");
        bystander.is_served();
    }
    bystander.is_served_fully();
}

#[test]
fn a_second_handshake_is_an_unknown_request() {
    let server = Server::start("");
    let mut bystander = server.bystander();
    // Its first field is read as the xid, its second as the opcode.
    let refused = Last(Zx::Is(-1), Code::Unimplemented.raw());
    for seen in [0, 1, 0x1234] {
        let payload = handshake(0, seen, 8000, 0, Raw(&[0; 16]), &[Bool(0)]);
        judge_with_xid(&server, &mut bystander, "second handshake", &payload, 0, &refused);
    }
    bystander.is_served_fully();
}
