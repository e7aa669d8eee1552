//! The wire on the hot path: requests in, replies out, transactions into the log.

#![allow(missing_docs, reason = "criterion's macros make public items without docs")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use zorilla_proto::client::{AclVec, CreateRequest, PathWatchRequest, ReplyHeader, RequestHeader};
use zorilla_proto::frame;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::{self, Reader};
use zorilla_proto::op::Op;
use zorilla_proto::stat::Stat;
use zorilla_proto::txn::{Txn, TxnDigest, TxnHeader};

fn stat() -> Stat {
    Stat {
        czxid: Zxid::from_raw(1),
        mzxid: Zxid::from_raw(2),
        ctime_ms: 3,
        mtime_ms: 4,
        version: 5,
        cversion: 6,
        aversion: 7,
        ephemeral_owner: 0,
        data_length: 1024,
        num_children: 0,
        pzxid: Zxid::from_raw(8),
    }
}

fn codec(criterion: &mut Criterion) {
    let mut get = Vec::new();
    let mark = frame::begin(&mut get);
    RequestHeader { xid: 1, op: Op::GetData.raw() }.encode(&mut get);
    PathWatchRequest { path: Some("/bench/client7/n0000001234".into()), watch: false }.encode(&mut get);
    frame::end(&mut get, mark);
    criterion.bench_function("codec/split and decode a getData", |bencher| {
        bencher.iter(|| {
            let frame::Framed::Complete { payload, .. } = frame::split(black_box(&get), 1 << 20) else {
                unreachable!()
            };
            let mut reader = Reader::new(payload);
            let header = RequestHeader::decode(&mut reader).unwrap();
            let request = PathWatchRequest::decode(&mut reader).unwrap();
            black_box((header.xid, request.path.map(|path| path.len())))
        });
    });

    let data = [7u8; 1024];
    criterion.bench_function("codec/encode the reply of a getData of 1 KiB", |bencher| {
        let mut out = Vec::with_capacity(4096);
        bencher.iter(|| {
            out.clear();
            let mark = frame::begin(&mut out);
            ReplyHeader { xid: 1, zxid: 9, code: 0 }.encode(&mut out);
            jute::put_buffer(&mut out, Some(black_box(&data)));
            stat().encode(&mut out);
            frame::end(&mut out, mark);
            black_box(out.len())
        });
    });

    let mut create = Vec::new();
    let data = Some(&data[..100]);
    let request =
        CreateRequest { path: Some("/bench/client7/n0000001234".into()), data, acl: Some(AclVec::OPEN), flags: 0 };
    request.encode(&mut create);
    criterion.bench_function("codec/decode a create of 100 B", |bencher| {
        bencher.iter(|| CreateRequest::decode(&mut Reader::new(black_box(&create))).unwrap().flags);
    });

    let header = TxnHeader {
        session: SessionId::from_raw(1),
        cxid: 1,
        zxid: Zxid::from_raw(1),
        time_ms: 1,
        op: Op::Create.raw(),
    };
    criterion.bench_function("codec/encode the transaction of a create of 100 B", |bencher| {
        bencher.iter_batched_ref(
            || Vec::with_capacity(4096),
            |out| {
                header.encode(out);
                let path = "/bench/client7/n0000001234".into();
                let acl = Some(AclVec::OPEN);
                Txn::Create { path, data, acl, ephemeral: false, parent_cversion: 1, kind: Op::Create }.encode(out);
                TxnDigest::new(1).encode(out);
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);
