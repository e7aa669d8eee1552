//! The hot path allocates nothing: decoding valid requests borrows, encoding replies fills a warm buffer.

use std::hint::black_box;

use zorilla_proto::client::*;
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::limits::FRAME_BYTES_MAX_DEFAULT;
use zorilla_proto::txn::{Entry, MultiTxnWriter};
use zorilla_proto::{AclVec, Code, Op, Reader, SessionId, Stat, StringVec, Txn, TxnDigest, TxnHeader, Zxid};

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

fn path(path: &str) -> Option<std::borrow::Cow<'_, str>> {
    Some(path.into())
}

/// One of each record that a busy client sends, as frames in one buffer.
fn frames() -> Vec<u8> {
    let data = [7; 1024];
    let mut strings = Vec::new();
    let paths = StringVec::build(&mut strings, ["/a", "/zürich/ü"]);
    let mut operations = Vec::new();
    let create = || CreateRequest { path: path("/zürich/ü"), data: Some(&data), acl: Some(AclVec::OPEN), flags: 0 };
    let multi = MultiRequest::build(
        &mut operations,
        &[MultiOp::Create2(create()), MultiOp::Delete(DeleteRequest { path: path("/a"), version: 3 })],
    );
    let watch = || PathWatchRequest { path: path("/zürich/ü"), watch: true };
    let mut out = Vec::new();
    for request in [
        Request::GetData(watch()),
        Request::Exists(watch()),
        Request::GetChildren2(watch()),
        Request::Create(create()),
        Request::SetData(SetDataRequest { path: path("/a"), data: Some(&data), version: -1 }),
        Request::Delete(DeleteRequest { path: path("/a"), version: 3 }),
        Request::SetWatches(SetWatches { relative_zxid: Zxid::ZERO, data: paths, exist: paths, child: paths }),
        Request::Multi(multi),
        Request::Ping,
    ] {
        request.encode_frame(1, &mut out);
    }
    out
}

#[test]
fn requests_are_decoded_without_an_allocation() {
    let bytes = frames();
    let mut count = 0;
    let allocated = allocations(|| {
        let mut rest = &bytes[..];
        while let Framed::Complete { payload, consumed } = frame::split(rest, FRAME_BYTES_MAX_DEFAULT) {
            let mut reader = Reader::new(payload);
            let header = RequestHeader::decode(&mut reader).unwrap();
            let request = Request::decode(Op::from_raw(header.op).unwrap(), &mut reader).unwrap();
            match &request {
                Request::Create(create) => create.acl.unwrap().iter().for_each(|acl| drop(black_box(acl))),
                Request::SetWatches(watches) => watches.data.iter().for_each(|path| drop(black_box(path))),
                Request::Multi(multi) => multi.iter().for_each(|operation| drop(black_box(operation))),
                _ => {}
            }
            black_box(request);
            rest = &rest[consumed..];
            count += 1;
        }
    });
    assert_eq!((count, allocated), (9, 0));
}

#[test]
fn a_string_that_is_no_utf8_is_the_one_thing_that_is_copied() {
    let mut bytes = Vec::new();
    Request::GetData(PathWatchRequest { path: path("/zürich"), watch: false }).encode(&mut bytes);
    let last = bytes.len() - 2;
    bytes[last] = 0xff;
    let allocated = allocations(|| drop(black_box(Request::decode(Op::GetData, &mut Reader::new(&bytes)))));
    // The copy, and once more room for it: U+FFFD is longer than what it stands for.
    assert_eq!(allocated, 2);
}

#[test]
fn refusing_bytes_allocates_nothing() {
    let bytes = frames();
    let allocated = allocations(|| {
        for &op in Op::ALL {
            for end in 0..40 {
                let _ = black_box(Request::decode(op, &mut Reader::new(&bytes[4..4 + end])));
            }
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn replies_are_encoded_into_a_warm_buffer_without_an_allocation() {
    let data = [7; 1024];
    let stat = Stat::default();
    let mut out = Vec::with_capacity(16 * 1024);
    let allocated = allocations(|| {
        let header = ReplyHeader { xid: 1, zxid: 2, code: Code::Ok.raw() };
        for response in [
            Response::GetData(GetDataResponse { data: Some(&data), stat }),
            Response::Stat(StatResponse { stat }),
            Response::Path(PathResponse { path: path("/a") }),
            Response::Create2(Create2Response { path: path("/a"), stat }),
            Response::Empty,
        ] {
            response.encode_frame(header, &mut out);
        }
        let mark = frame::begin(&mut out);
        ReplyHeader { xid: XID_NOTIFICATION, zxid: 2, code: 0 }.encode(&mut out);
        WatcherEvent::new(EventType::NodeDataChanged, "/a").encode(&mut out);
        frame::end(&mut out, mark);
        let mark = frame::begin(&mut out);
        header.encode(&mut out);
        let mut children = zorilla_proto::jute::VecWriter::new(&mut out);
        ["a", "b"].into_iter().for_each(|name| children.push_str(name));
        frame::end(&mut out, mark);
    });
    assert_eq!(allocated, 0);
    assert!(2 * 1024 < out.len() + 1024 && out.len() < 16 * 1024);
}

#[test]
fn transactions_are_written_and_read_without_an_allocation() {
    let data = [7; 1024];
    let header =
        TxnHeader { session: SessionId::NONE, cxid: 1, zxid: Zxid::new(1, 2), time_ms: 3, op: Op::Create.raw() };
    let create = || Txn::Create {
        path: "/a".into(),
        data: Some(&data),
        acl: Some(AclVec::OPEN),
        ephemeral: false,
        parent_cversion: 1,
        kind: Op::Create,
    };
    let mut out = Vec::with_capacity(16 * 1024);
    let allocated = allocations(|| {
        Entry { header, txn: create(), digest: Some(TxnDigest::new(1)) }.encode(&mut out);
        black_box(Entry::decode(&out).unwrap());
        out.clear();
        TxnHeader { op: Op::Multi.raw(), ..header }.encode(&mut out);
        let mut parts = MultiTxnWriter::new(&mut out);
        parts.push(&create());
        parts.push(&Txn::Error { code: Code::NoNode.raw() });
        let Txn::Multi(parts) = Entry::decode(&out).unwrap().txn else { panic!("a multi was written") };
        assert!(parts.has_error());
        parts.iter().for_each(|part| drop(black_box(part.txn().unwrap())));
    });
    assert_eq!(allocated, 0);
}
