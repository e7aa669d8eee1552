//! Frames captured from a Java server: each is what we decode, and what we encode, byte for byte.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use zorilla_proto::client::*;
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::limits::FRAME_BYTES_MAX_DEFAULT;
use zorilla_proto::{Acl, AclVec, Code, Op, Reader, SessionId, Stat, StringVec, Zxid};

const SESSION: SessionId = SessionId::from_raw(0x0100_0028_d38f_0000);

/// The frames by name, and which of them a test has looked at.
struct Frames {
    bytes: BTreeMap<String, Vec<u8>>,
    seen: RefCell<BTreeSet<String>>,
}

impl Frames {
    /// Reads the fixture: a line `E1: title`, then lines of hex, two blanks, and a description.
    fn read() -> Frames {
        let mut bytes: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut name = None;
        for line in include_str!("golden/client-frames.txt").lines().filter(|line| !line.starts_with('#')) {
            if let Some((title, _)) = line.split_once(": ").filter(|_| line.starts_with('E')) {
                name = Some(title.to_owned());
            } else if !line.is_empty() {
                let (hex, _) = line.split_once("  ").expect("hex, two blanks, description");
                let frame = bytes.entry(name.clone().expect("a title comes first")).or_default();
                frame.extend(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hex")));
            }
        }
        Frames { bytes, seen: RefCell::default() }
    }

    /// A whole frame and its payload.
    fn get(&self, name: &str) -> (&[u8], &[u8]) {
        self.seen.borrow_mut().insert(name.to_owned());
        let bytes = &self.bytes[name][..];
        match frame::split(bytes, FRAME_BYTES_MAX_DEFAULT) {
            Framed::Complete { payload, consumed } if consumed == bytes.len() => (bytes, payload),
            other => panic!("{name}: {other:?}"),
        }
    }

    fn request(&self, name: &str, xid: i32, expected: Request<'_>) {
        let (bytes, payload) = self.get(name);
        let mut reader = Reader::new(payload);
        let header = RequestHeader::decode(&mut reader).unwrap();
        assert_eq!(header, RequestHeader { xid, op: expected.op().raw() }, "{name}");
        let op = Op::from_raw(header.op).unwrap();
        assert_eq!(Request::decode(op, &mut reader), Ok(expected.clone()), "{name}");
        assert!(reader.is_empty(), "{name}: {:?} is left", reader.remaining());
        assert_encodes(name, bytes, |out| expected.encode_frame(xid, out));
    }

    fn reply(&self, name: &str, op: Op, xid: i32, zxid: i64, code: Code, expected: Response<'_>) {
        let (bytes, payload) = self.get(name);
        let mut reader = Reader::new(payload);
        let header = ReplyHeader { xid, zxid, code: code.raw() };
        assert_eq!(ReplyHeader::decode(&mut reader), Ok(header), "{name}");
        if code == Code::Ok {
            assert_eq!(Response::decode(op, &mut reader), Ok(expected.clone()), "{name}");
        }
        assert!(reader.is_empty(), "{name}: {:?} is left", reader.remaining());
        assert_encodes(name, bytes, |out| expected.encode_frame(header, out));
    }

    fn notification(&self, name: &str, zxid: i64, kind: EventType) {
        let event = Response::Notification(WatcherEvent::new(kind, "/a"));
        self.reply(name, Op::Notification, XID_NOTIFICATION, zxid, Code::Ok, event);
    }

    fn connect_response(&self, name: &str, expected: ConnectResponse) {
        let (bytes, payload) = self.get(name);
        assert_eq!(ConnectResponse::decode(&mut Reader::new(payload)), Ok(expected), "{name}");
        assert_encodes(name, bytes, |out| {
            let mark = frame::begin(out);
            expected.encode(out);
            frame::end(out, mark);
        });
    }
}

fn assert_encodes(name: &str, expected: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
    // Encoders append: what the buffer holds already must stay.
    let mut out = b"before".to_vec();
    encode(&mut out);
    assert_eq!(&out[..6], b"before", "{name}");
    assert_eq!(&out[6..], expected, "{name}");
}

/// The stat of `/a` after it was created, with what later frames changed.
fn stat_a(mzxid: u64, mtime_ms: i64, version: i32, cversion: i32, data_length: i32, children: i32, pzxid: u64) -> Stat {
    Stat {
        czxid: Zxid::from_raw(2),
        mzxid: Zxid::from_raw(mzxid),
        ctime_ms: 1_795_309_901_556,
        mtime_ms,
        version,
        cversion,
        aversion: 0,
        ephemeral_owner: 0,
        data_length,
        num_children: children,
        pzxid: Zxid::from_raw(pzxid),
    }
}

fn path(path: &str) -> Option<std::borrow::Cow<'_, str>> {
    Some(path.into())
}

#[test]
fn every_captured_frame_is_what_we_decode_and_what_we_encode() {
    let frames = Frames::read();
    assert_eq!(frames.bytes.len(), 40);

    // The handshake.
    let connect = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 6000,
        session: SessionId::NONE,
        password: Some(&[0; 16]),
        read_only: Some(false),
    };
    let (bytes, payload) = frames.get("E1");
    assert_eq!(ConnectRequest::decode(&mut Reader::new(payload)), Ok(connect.clone()));
    assert_encodes("E1", bytes, |out| {
        let mark = frame::begin(out);
        connect.encode(out);
        frame::end(out, mark);
    });
    let password = SESSION.password();
    let accepted = ConnectResponse { timeout_ms: 6000, session: SESSION, password, read_only: Some(false) };
    frames.connect_response("E2", accepted);
    frames.connect_response("E3", ConnectResponse::not_valid(Some(false)));

    // One znode's life.
    let watch_a = PathWatchRequest { path: path("/a"), watch: true };
    frames.request("E4", 1, Request::Exists(watch_a.clone()));
    frames.reply("E5", Op::Exists, 1, 1, Code::NoNode, Response::Empty);
    let create = CreateRequest {
        path: path("/a"),
        data: Some(b"hello"),
        acl: Some(AclVec::OPEN),
        flags: CreateMode::Persistent.raw(),
    };
    frames.request("E6", 2, Request::Create(create));
    frames.notification("E7", 2, EventType::NodeCreated);
    frames.reply("E8", Op::Create, 2, 2, Code::Ok, Response::Path(PathResponse { path: path("/a") }));
    frames.request("E9", 3, Request::GetData(watch_a));
    let stat = stat_a(2, 1_795_309_901_556, 0, 0, 5, 0, 2);
    let got = GetDataResponse { data: Some(b"hello"), stat };
    frames.reply("E10", Op::GetData, 3, 2, Code::Ok, Response::GetData(got));
    frames.request("E11", 4, Request::SetData(SetDataRequest { path: path("/a"), data: Some(b"x"), version: 0 }));
    frames.notification("E12", 3, EventType::NodeDataChanged);
    let stat = stat_a(3, 1_795_309_901_575, 1, 0, 1, 0, 2);
    frames.reply("E13", Op::SetData, 4, 3, Code::Ok, Response::Stat(StatResponse { stat }));

    // The connection.
    frames.request("E14", XID_PING, Request::Ping);
    frames.reply("E15", Op::Ping, XID_PING, 3, Code::Ok, Response::Empty);
    let auth = AuthPacket { kind: 0, scheme: path("digest"), auth: Some(b"u:p") };
    frames.request("E16", XID_AUTH, Request::Auth(auth));
    frames.reply("E17", Op::Auth, XID_AUTH, 0, Code::Ok, Response::Empty);
    frames.reply("E18", Op::Auth, XID_AUTH, 0, Code::AuthFailed, Response::Empty);

    // Other kinds of znode.
    let stat = Stat {
        czxid: Zxid::from_raw(5),
        mzxid: Zxid::from_raw(5),
        ctime_ms: 1_795_309_901_592,
        mtime_ms: 1_795_309_901_592,
        ephemeral_owner: SESSION.raw(),
        pzxid: Zxid::from_raw(5),
        ..Stat::default()
    };
    let created = Create2Response { path: path("/a/s-0000000000"), stat };
    frames.reply("E19", Op::Create2, 5, 5, Code::Ok, Response::Create2(created));
    let create = CreateTtlRequest {
        path: path("/a/t"),
        data: None,
        acl: Some(AclVec::OPEN),
        flags: CreateMode::PersistentWithTtl.raw(),
        ttl_ms: 60_000,
    };
    frames.request("E20", 6, Request::CreateTtl(create));

    // Several at once.
    let operations = [
        MultiOp::Check(CheckVersionRequest { path: path("/a"), version: 1 }),
        MultiOp::Create(CreateRequest { path: path("/a/b"), data: Some(b""), acl: Some(AclVec::OPEN), flags: 0 }),
        MultiOp::SetData(SetDataRequest { path: path("/a"), data: Some(b"q"), version: -1 }),
        MultiOp::Delete(DeleteRequest { path: path("/a/b"), version: -1 }),
    ];
    let mut buffer = Vec::new();
    let multi = MultiRequest::build(&mut buffer, &operations);
    assert_eq!(multi.iter().collect::<Vec<_>>(), operations);
    frames.request("E21", 7, Request::Multi(multi));
    let stat = stat_a(7, 1_795_309_901_611, 2, 3, 1, 3, 7);
    let results = [
        MultiResult::Check,
        MultiResult::Create(PathResponse { path: path("/a/b") }),
        MultiResult::SetData(StatResponse { stat }),
        MultiResult::Delete,
    ];
    let mut buffer = Vec::new();
    let multi = MultiResponse::build(&mut buffer, &results);
    assert_eq!(multi.iter().collect::<Vec<_>>(), results);
    frames.reply("E22", Op::Multi, 7, 7, Code::Ok, Response::Multi(multi));
    let failed = [Code::Ok, Code::NoNode, Code::RuntimeInconsistency]
        .map(|code| MultiResult::Error(ErrorResponse { code: code.raw() }));
    let mut buffer = Vec::new();
    let multi = MultiResponse::build(&mut buffer, &failed);
    frames.reply("E23", Op::Multi, 8, 8, Code::Ok, Response::Multi(multi));
    let stat = stat_a(7, 1_795_309_901_611, 2, 4, 1, 2, 7);
    let mut names = Vec::new();
    let results = [
        MultiResult::GetData(GetDataResponse { data: Some(b"q"), stat }),
        MultiResult::GetChildren(GetChildrenResponse { children: StringVec::build(&mut names, ["config", "quota"]) }),
        MultiResult::Error(ErrorResponse { code: Code::NoNode.raw() }),
    ];
    let mut buffer = Vec::new();
    let multi = MultiResponse::build(&mut buffer, &results);
    frames.reply("E24", Op::MultiRead, 9, 8, Code::Ok, Response::Multi(multi));

    // Watches.
    let add = AddWatchRequest { path: path("/a"), mode: AddWatchMode::PersistentRecursive.raw() };
    frames.request("E25", 10, Request::AddWatch(add));
    frames.reply("E26", Op::AddWatch, 10, 8, Code::Ok, Response::AddWatch(ErrorResponse { code: 0 }));
    let remove = WatchesRequest { path: path("/a"), kind: WatcherKind::PersistentRecursive.raw() };
    frames.request("E27", 11, Request::RemoveWatches(remove));
    frames.reply("E28", Op::RemoveWatches, 12, 8, Code::NoWatcher, Response::Empty);
    let mut paths = Vec::new();
    let set = SetWatches {
        relative_zxid: Zxid::from_raw(1),
        data: StringVec::build(&mut paths, ["/a"]),
        exist: StringVec::EMPTY,
        child: StringVec::EMPTY,
    };
    frames.request("E29", XID_SET_WATCHES, Request::SetWatches(set));
    frames.notification("E30", -1, EventType::NodeDataChanged);
    frames.reply("E31", Op::SetWatches, XID_SET_WATCHES, 8, Code::Ok, Response::Empty);

    // Other reads.
    let identities = [
        ClientInfo { scheme: path("ip"), user: path("127.0.0.1") },
        ClientInfo { scheme: path("digest"), user: path("u") },
    ];
    let mut buffer = Vec::new();
    let who = WhoAmIResponse { clients: ClientInfoVec::build(&mut buffer, &identities) };
    assert_eq!(who.clients.iter().collect::<Vec<_>>(), identities);
    frames.reply("E32", Op::WhoAmI, 13, 8, Code::Ok, Response::WhoAmI(who));
    let mut buffer = Vec::new();
    let ephemerals = GetEphemeralsResponse { ephemerals: StringVec::build(&mut buffer, ["/a/s-0000000000"]) };
    frames.reply("E33", Op::GetEphemerals, 14, 8, Code::Ok, Response::GetEphemerals(ephemerals));
    let number = Response::GetAllChildrenNumber(GetAllChildrenNumberResponse { total: 6 });
    frames.reply("E34", Op::GetAllChildrenNumber, 15, 8, Code::Ok, number);
    let mut buffer = Vec::new();
    let acl = AclVec::build(&mut buffer, &[Acl::new(PERM_ALL, "world", "anyone")]);
    let stat = stat_a(7, 1_795_309_901_611, 2, 4, 1, 2, 7);
    frames.reply("E35", Op::GetAcl, 16, 8, Code::Ok, Response::GetAcl(GetAclResponse { acl, stat }));
    let mut buffer = Vec::new();
    let children = StringVec::build(&mut buffer, ["a", "zookeeper"]);
    let stat = Stat { num_children: 2, pzxid: Zxid::from_raw(2), ..Stat::default() };
    let root = Response::GetChildren2(GetChildren2Response { children, stat });
    frames.reply("E36", Op::GetChildren2, 17, 8, Code::Ok, root);
    frames.reply("E37", Op::Sync, 18, 8, Code::Ok, Response::Path(PathResponse { path: path("/a") }));

    // The end.
    frames.request("E38", 19, Request::CloseSession);
    frames.reply("E39", Op::CloseSession, 19, 9, Code::Ok, Response::Empty);
    frames.reply("E40", Op::Error, 1, -1, Code::Unimplemented, Response::Empty);

    assert_eq!(frames.seen.borrow().len(), 40, "every frame of the fixture is looked at");
}

#[test]
fn old_clients_leave_the_read_only_flag_out_and_get_an_answer_without_it() {
    let frames = Frames::read();
    let (_, payload) = frames.get("E1");
    let old = &payload[..payload.len() - 1];
    let request = ConnectRequest::decode(&mut Reader::new(old)).unwrap();
    assert_eq!(request.read_only, None);
    let mut out = Vec::new();
    request.encode(&mut out);
    assert_eq!(out, old);

    let (_, payload) = frames.get("E2");
    let old = &payload[..payload.len() - 1];
    let response = ConnectResponse::decode(&mut Reader::new(old)).unwrap();
    assert_eq!(response.read_only, None);
    let mut out = Vec::new();
    response.encode(&mut out);
    assert_eq!((out.len(), &out[..]), (36, old));
}

#[test]
fn bytes_behind_a_record_are_ignored() {
    let frames = Frames::read();
    let (_, payload) = frames.get("E9");
    let longer = [payload, b"from a later release"].concat();
    let mut reader = Reader::new(&longer);
    RequestHeader::decode(&mut reader).unwrap();
    let request = Request::decode(Op::GetData, &mut reader).unwrap();
    assert_eq!(request, Request::GetData(PathWatchRequest { path: path("/a"), watch: true }));
    assert_eq!(reader.remaining(), b"from a later release");
}

#[test]
fn every_shorter_frame_is_an_error_and_names_the_field() {
    let frames = Frames::read();
    let mut cut_count = 0;
    for name in ["E4", "E6", "E11", "E16", "E20", "E21", "E25", "E27", "E29"] {
        let (_, payload) = frames.get(name);
        let op = Op::from_raw(RequestHeader::decode(&mut Reader::new(payload)).unwrap().op).unwrap();
        for end in RequestHeader::BYTES..payload.len() {
            let error = Request::decode(op, &mut Reader::new(&payload[RequestHeader::BYTES..end])).unwrap_err();
            assert!(!error.what.is_empty(), "{name} cut to {end} bytes: {error}");
            assert!(error.offset <= end, "{name} cut to {end} bytes: {error}");
            cut_count += 1;
        }
    }
    assert!(250 < cut_count, "{cut_count} cuts");
}
