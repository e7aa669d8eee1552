//! Every record comes back from its own encoding, whatever its fields hold, and leaves what follows it.
//!
//! A failure prints the smallest values that show it, the seed, and the command that replays it.

mod seed;

use std::borrow::Cow;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use zorilla_proto::client::*;
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::jute::{Jute, VecWriter};
use zorilla_proto::txn::{Entry, MultiTxn, MultiTxnWriter};
use zorilla_proto::{Acl, AclVec, Op, Reader, SessionId, Stat, StringVec, Txn, TxnDigest, TxnHeader, Zxid};

/// What stands behind every record.
const TAIL: &[u8] = b"what follows";

/// Values of every type, from which a test fills its records.
#[derive(Clone, Debug)]
struct Pool {
    strings: Vec<Option<String>>,
    data: Vec<Option<Vec<u8>>>,
    lists: Vec<Vec<String>>,
    acls: Vec<(i32, Option<String>, Option<String>)>,
    ints: Vec<i32>,
    longs: Vec<i64>,
    bools: Vec<bool>,
}

fn pool() -> impl Strategy<Value = Pool> {
    let string = || vec(any::<char>(), 0..12).prop_map(String::from_iter);
    let int = || prop_oneof![Just(-1), Just(0), Just(i32::MIN), Just(i32::MAX), any::<i32>()];
    let long = prop_oneof![Just(-1), Just(0), Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    (
        vec(option::weighted(0.8, string()), 4),
        vec(option::weighted(0.8, vec(any::<u8>(), 0..40)), 2),
        vec(vec(string(), 0..5), 5),
        vec((int(), option::weighted(0.9, string()), option::weighted(0.9, string())), 0..5),
        vec(int(), 6),
        vec(long, 5),
        vec(any::<bool>(), 2),
    )
        .prop_map(|(strings, data, lists, acls, ints, longs, bools)| Pool {
            strings,
            data,
            lists,
            acls,
            ints,
            longs,
            bools,
        })
}

impl Pool {
    fn string(&self, index: usize) -> Option<Cow<'_, str>> {
        self.strings[index].as_deref().map(Cow::Borrowed)
    }

    fn path(&self) -> Cow<'_, str> {
        self.string(0).unwrap_or_default()
    }

    fn data(&self, index: usize) -> Option<&[u8]> {
        self.data[index].as_deref()
    }

    fn zxid(&self, index: usize) -> Zxid {
        Zxid::from_raw(self.longs[index] as u64)
    }

    fn session(&self) -> SessionId {
        SessionId::from_raw(self.longs[3])
    }

    fn entries(&self) -> Vec<Acl<'_>> {
        self.acls
            .iter()
            .map(|(perms, scheme, id)| Acl {
                perms: *perms,
                scheme: scheme.as_deref().map(Cow::Borrowed),
                id: id.as_deref().map(Cow::Borrowed),
            })
            .collect()
    }

    fn stat(&self) -> Stat {
        Stat {
            czxid: self.zxid(0),
            mzxid: self.zxid(1),
            ctime_ms: self.longs[2],
            mtime_ms: self.longs[3],
            version: self.ints[0],
            cversion: self.ints[1],
            aversion: self.ints[2],
            ephemeral_owner: self.longs[4],
            data_length: self.ints[3],
            num_children: self.ints[4],
            pzxid: self.zxid(2),
        }
    }

    fn header(&self, op: Op) -> TxnHeader {
        TxnHeader {
            session: self.session(),
            cxid: self.ints[0],
            zxid: self.zxid(0),
            time_ms: self.longs[1],
            op: op.raw(),
        }
    }
}

/// Asserts that a value comes back, by the decoder of its type or another, and leaves the tail.
macro_rules! assert_returns {
    ($value:expr, |$reader:ident| $decode:expr) => {{
        let value = $value;
        let mut out = b"before".to_vec();
        value.encode(&mut out);
        out.extend_from_slice(TAIL);
        let mut reader = Reader::new(&out[b"before".len()..]);
        let $reader = &mut reader;
        prop_assert_eq!($decode, Ok(value));
        prop_assert_eq!(reader.remaining(), TAIL);
    }};
    ($value:expr, $type:ident) => {
        assert_returns!($value, |reader| $type::decode(reader))
    };
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed::seed("properties")),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn headers_and_handshake_return(pool in pool(), password in any::<[u8; 16]>(), flag in option::of(any::<bool>())) {
        assert_returns!(RequestHeader { xid: pool.ints[0], op: pool.ints[1] }, RequestHeader);
        assert_returns!(ReplyHeader { xid: pool.ints[0], zxid: pool.longs[0], code: pool.ints[1] }, ReplyHeader);
        assert_returns!(MultiHeader { op: pool.ints[0], done: pool.bools[0], code: pool.ints[1] }, MultiHeader);
        assert_returns!(pool.stat(), Stat);
        assert_returns!(pool.header(Op::Create), TxnHeader);

        // These two end where their frame ends: that is how an absent flag is told.
        let request = ConnectRequest {
            protocol_version: pool.ints[0],
            last_zxid_seen: pool.zxid(0),
            timeout_ms: pool.ints[1],
            session: pool.session(),
            password: pool.data(0),
            read_only: flag,
        };
        let mut out = Vec::new();
        request.encode(&mut out);
        prop_assert_eq!(ConnectRequest::decode(&mut Reader::new(&out)), Ok(request));
        let response = ConnectResponse {
            timeout_ms: pool.ints[0],
            session: pool.session(),
            password,
            read_only: flag,
        };
        let mut out = Vec::new();
        response.encode(&mut out);
        prop_assert_eq!(out.len(), 36 + usize::from(flag.is_some()));
        prop_assert_eq!(ConnectResponse::decode(&mut Reader::new(&out)), Ok(response));
    }

    #[test]
    fn every_request_returns(pool in pool(), null_acl in any::<bool>(), xid in any::<i32>()) {
        let entries = pool.entries();
        let mut buffer = Vec::new();
        let acl = AclVec::build(&mut buffer, &entries);
        prop_assert_eq!(acl.iter().collect::<Vec<_>>(), entries);
        let acl = if null_acl { None } else { Some(acl) };
        let mut buffers = [const { Vec::new() }; 5];
        let mut lists = Vec::new();
        for (buffer, list) in buffers.iter_mut().zip(&pool.lists) {
            let strings = StringVec::build(buffer, list);
            prop_assert_eq!(strings.iter().collect::<Vec<_>>(), list.clone());
            lists.push(strings);
        }

        let path = || pool.string(0);
        let create = || CreateRequest { path: path(), data: pool.data(0), acl, flags: pool.ints[0] };
        let create_ttl = || CreateTtlRequest {
            path: path(), data: pool.data(0), acl, flags: pool.ints[0], ttl_ms: pool.longs[0],
        };
        let delete = || DeleteRequest { path: path(), version: pool.ints[0] };
        let set_data = || SetDataRequest { path: path(), data: pool.data(1), version: pool.ints[1] };
        let watch = || PathWatchRequest { path: path(), watch: pool.bools[0] };
        let only_path = || PathRequest { path: path() };
        let watches = || WatchesRequest { path: path(), kind: pool.ints[2] };
        let writes = [
            MultiOp::Create(create()),
            MultiOp::Create2(create()),
            MultiOp::CreateContainer(create()),
            MultiOp::CreateTtl(create_ttl()),
            MultiOp::Delete(delete()),
            MultiOp::SetData(set_data()),
            MultiOp::Check(CheckVersionRequest { path: path(), version: pool.ints[3] }),
        ];
        let reads = [MultiOp::GetData(watch()), MultiOp::GetChildren(watch())];
        let (mut buffer, mut read_buffer) = (Vec::new(), Vec::new());
        let multi = MultiRequest::build(&mut buffer, &writes);
        let multi_read = MultiRequest::build(&mut read_buffer, &reads);
        prop_assert_eq!(multi.iter().collect::<Vec<_>>(), writes);
        prop_assert_eq!(multi_read.iter().collect::<Vec<_>>(), reads);

        let requests = [
            Request::Create(create()),
            Request::Create2(create()),
            Request::CreateContainer(create()),
            Request::CreateTtl(create_ttl()),
            Request::Delete(delete()),
            Request::DeleteContainer(only_path()),
            Request::Exists(watch()),
            Request::GetData(watch()),
            Request::SetData(set_data()),
            Request::GetAcl(only_path()),
            Request::SetAcl(SetAclRequest { path: path(), acl, version: pool.ints[0] }),
            Request::GetChildren(watch()),
            Request::GetChildren2(watch()),
            Request::Sync(only_path()),
            Request::Ping,
            Request::Multi(multi),
            Request::MultiRead(multi_read),
            Request::Reconfig(ReconfigRequest {
                joining: pool.string(1),
                leaving: pool.string(2),
                new_members: pool.string(3),
                config_id: pool.longs[0],
            }),
            Request::CheckWatches(watches()),
            Request::RemoveWatches(watches()),
            Request::Auth(AuthPacket { kind: pool.ints[0], scheme: pool.string(1), auth: pool.data(0) }),
            Request::Sasl(SaslToken { token: pool.data(0) }),
            Request::SetWatches(SetWatches {
                relative_zxid: pool.zxid(0),
                data: lists[0],
                exist: lists[1],
                child: lists[2],
            }),
            Request::SetWatches2(SetWatches2 {
                relative_zxid: pool.zxid(0),
                data: lists[0],
                exist: lists[1],
                child: lists[2],
                persistent: lists[3],
                persistent_recursive: lists[4],
            }),
            Request::AddWatch(AddWatchRequest { path: path(), mode: pool.ints[0] }),
            Request::GetEphemerals(only_path()),
            Request::GetAllChildrenNumber(only_path()),
            Request::WhoAmI,
            Request::CloseSession,
        ];
        // No opcode a client may send is forgotten.
        for op in Op::ALL.iter().filter(|op| op.from_client()) {
            prop_assert!(requests.iter().any(|request| request.op() == *op), "{}", op);
        }
        for request in requests {
            let op = request.op();
            let mut out = Vec::new();
            request.encode_frame(xid, &mut out);
            let Framed::Complete { payload, consumed } = frame::split(&out, usize::MAX) else {
                return Err(TestCaseError::fail("no frame"));
            };
            prop_assert_eq!(consumed, out.len());
            let mut reader = Reader::new(payload);
            prop_assert_eq!(RequestHeader::decode(&mut reader), Ok(RequestHeader { xid, op: op.raw() }));
            prop_assert_eq!(Request::decode(op, &mut reader), Ok(request.clone()));
            prop_assert!(reader.is_empty());
            assert_returns!(request, |reader| Request::decode(op, reader));
        }
    }

    #[test]
    fn every_response_returns(pool in pool()) {
        let entries = pool.entries();
        let (mut acl, mut names, mut clients) = (Vec::new(), Vec::new(), Vec::new());
        let acl = AclVec::build(&mut acl, &entries);
        let children = StringVec::build(&mut names, &pool.lists[0]);
        let identities: Vec<_> =
            entries.into_iter().map(|acl| ClientInfo { scheme: acl.scheme, user: acl.id }).collect();
        let clients = ClientInfoVec::build(&mut clients, &identities);
        prop_assert_eq!(clients.iter().collect::<Vec<_>>(), identities);

        let stat = pool.stat();
        let path = || PathResponse { path: pool.string(0) };
        let create2 = || Create2Response { path: pool.string(0), stat };
        let data = || GetDataResponse { data: pool.data(0), stat };
        let error = ErrorResponse { code: pool.ints[0] };
        let results = [
            MultiResult::Create(path()),
            MultiResult::Create2(create2()),
            MultiResult::Delete,
            MultiResult::SetData(StatResponse { stat }),
            MultiResult::Check,
            MultiResult::GetData(data()),
            MultiResult::GetChildren(GetChildrenResponse { children }),
            MultiResult::Error(error),
        ];
        let mut buffer = Vec::new();
        let multi = MultiResponse::build(&mut buffer, &results);
        prop_assert_eq!(multi.iter().collect::<Vec<_>>(), results);

        for (op, response) in [
            (Op::Delete, Response::Empty),
            (Op::Create, Response::Path(path())),
            (Op::Sync, Response::Path(path())),
            (Op::Create2, Response::Create2(create2())),
            (Op::CreateContainer, Response::Create2(create2())),
            (Op::CreateTtl, Response::Create2(create2())),
            (Op::Exists, Response::Stat(StatResponse { stat })),
            (Op::SetData, Response::Stat(StatResponse { stat })),
            (Op::SetAcl, Response::Stat(StatResponse { stat })),
            (Op::GetData, Response::GetData(data())),
            (Op::Reconfig, Response::GetData(data())),
            (Op::GetAcl, Response::GetAcl(GetAclResponse { acl, stat })),
            (Op::GetChildren, Response::GetChildren(GetChildrenResponse { children })),
            (Op::GetChildren2, Response::GetChildren2(GetChildren2Response { children, stat })),
            (Op::Multi, Response::Multi(multi)),
            (Op::MultiRead, Response::Multi(multi)),
            (Op::Sasl, Response::Sasl(SaslToken { token: pool.data(0) })),
            (Op::GetEphemerals, Response::GetEphemerals(GetEphemeralsResponse { ephemerals: children })),
            (
                Op::GetAllChildrenNumber,
                Response::GetAllChildrenNumber(GetAllChildrenNumberResponse { total: pool.ints[0] }),
            ),
            (Op::AddWatch, Response::AddWatch(error)),
            (Op::WhoAmI, Response::WhoAmI(WhoAmIResponse { clients })),
            (
                Op::Notification,
                Response::Notification(WatcherEvent { kind: pool.ints[0], state: pool.ints[1], path: pool.path() }),
            ),
        ] {
            assert_returns!(response, |reader| Response::decode(op, reader));
        }
    }

    #[test]
    fn every_transaction_returns(pool in pool(), null_acl in any::<bool>(), tree in option::of(any::<u64>())) {
        let entries = pool.entries();
        let mut buffer = Vec::new();
        let acl = AclVec::build(&mut buffer, &entries);
        let acl = if null_acl { None } else { Some(acl) };
        let mut paths = Vec::new();
        // A log lists paths, and none of them is empty; two empty ones would look like a digest.
        let paths = StringVec::build(&mut paths, pool.lists[0].iter().map(|path| format!("/{path}")));

        let path = || pool.path();
        let data = pool.data(0);
        let (parent_cversion, version) = (pool.ints[0], pool.ints[1]);
        let create =
            |kind| Txn::Create { path: path(), data, acl, ephemeral: pool.bools[0], parent_cversion, kind };
        let parts = [
            create(Op::Create),
            create(Op::Create2),
            Txn::CreateContainer { path: path(), data, acl, parent_cversion },
            Txn::CreateTtl { path: path(), data, acl, parent_cversion, ttl_ms: pool.longs[0] },
            Txn::Delete { path: path() },
            Txn::DeleteContainer { path: path() },
            Txn::SetData { path: path(), data, version },
            Txn::Check { path: path(), version },
            Txn::Error { code: pool.ints[2] },
        ];
        let mut buffer = Vec::new();
        let multi = MultiTxn::build(&mut buffer, &parts);
        let read: Result<Vec<_>, _> = multi.iter().map(|part| part.txn()).collect();
        prop_assert_eq!(read.as_deref(), Ok(&parts[..]));
        let mut whole = Vec::new();
        let mut writer = MultiTxnWriter::new(&mut whole);
        parts.iter().for_each(|part| writer.push(part));
        assert_returns!(multi, MultiTxn);
        let mut built = Vec::new();
        multi.encode(&mut built);
        prop_assert_eq!(whole, built);

        let alone = parts.into_iter().filter(|txn| txn.op() != Op::Check);
        for txn in alone.chain([
            Txn::Reconfig { path: path(), data, version },
            Txn::SetAcl { path: path(), acl, version },
            Txn::CreateSession { timeout_ms: pool.ints[3] },
            Txn::CloseSession { paths: None },
            Txn::CloseSession { paths: Some(paths) },
            Txn::Multi(multi),
        ]) {
            let entry = Entry { header: pool.header(txn.op()), txn, digest: tree.map(TxnDigest::new) };
            let mut out = b"before".to_vec();
            entry.encode(&mut out);
            prop_assert_eq!(Entry::decode(&out[6..]), Ok(entry));
        }
    }

    #[test]
    fn vectors_written_one_by_one_are_the_vectors_built_at_once(pool in pool()) {
        let mut streamed = Vec::new();
        let mut writer = VecWriter::new(&mut streamed);
        pool.lists[0].iter().for_each(|string| writer.push_str(string));
        let mut buffer = Vec::new();
        let strings = StringVec::build(&mut buffer, &pool.lists[0]);
        let mut built = Vec::new();
        strings.encode(&mut built);
        prop_assert_eq!(&streamed, &built);
        prop_assert_eq!(StringVec::from_raw(strings.raw()), Ok(strings));

        let mut streamed = Vec::new();
        let mut writer = VecWriter::new(&mut streamed);
        pool.entries().iter().for_each(|entry| writer.push(entry));
        prop_assert_eq!(writer.len(), pool.acls.len());
        let mut buffer = Vec::new();
        let acl = AclVec::build(&mut buffer, &pool.entries());
        let mut built = Vec::new();
        acl.encode(&mut built);
        prop_assert_eq!(&streamed, &built);
        prop_assert_eq!(AclVec::from_raw(acl.raw()), Ok(acl));
    }

    #[test]
    fn frames_split_where_they_were_joined_however_the_bytes_arrive(
        payloads in vec(vec(any::<u8>(), 0..50), 0..6), cut in any::<prop::sample::Index>()
    ) {
        let mut bytes = Vec::new();
        for payload in &payloads {
            let mark = frame::begin(&mut bytes);
            bytes.extend_from_slice(payload);
            frame::end(&mut bytes, mark);
        }
        let (mut position, mut received, mut found) = (0, cut.index(bytes.len() + 1), Vec::new());
        loop {
            match frame::split(&bytes[position..received], 50) {
                Framed::Complete { payload, consumed } => {
                    found.push(payload.to_vec());
                    position += consumed;
                }
                Framed::Partial { needed } if received + needed <= bytes.len() => received += needed,
                Framed::Partial { needed } => {
                    prop_assert_eq!((received, needed), (bytes.len(), 4));
                    break;
                }
                Framed::Bad(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        prop_assert_eq!(found, payloads);
    }

    #[test]
    fn zxids_keep_epoch_and_counter_and_grow(epoch in any::<u32>(), counter in any::<u32>()) {
        let zxid = Zxid::new(epoch, counter);
        prop_assert_eq!((zxid.epoch(), zxid.counter()), (epoch, counter));
        prop_assert_eq!(Zxid::from_raw(zxid.raw()), zxid);
        if let Some(next) = zxid.next() {
            prop_assert!(zxid < next && next.epoch() == epoch);
        }
        if let Some(successor) = zxid.successor() {
            prop_assert_eq!(successor.raw(), zxid.raw() + 1);
        }
    }
}
