//! From a request to a transaction, and its effects: what the replica does for every write before the disk.

#![allow(missing_docs, reason = "criterion's macros make public items without docs")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use zorilla::auth::{Identities, Rules};
use zorilla::prep::effects::effects;
use zorilla::prep::{self, Policy, Scratch, Write};
use zorilla::tree::Tree;
use zorilla_proto::client::{AclVec, CreateRequest, SetDataRequest};
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::op::Op;
use zorilla_proto::txn::TxnHeader;

/// A server that nobody configured, and a client that said nothing of itself.
static POLICY: LazyLock<(Policy, Identities)> = LazyLock::new(|| {
    let rules = Arc::new(Rules::open());
    let policy = Policy { rules, extended_types: false, enforce_quota: false, reconfig_enabled: false };
    (policy, Identities::of_peer(Ipv4Addr::LOCALHOST.into()))
});

fn write(op: Op, body: &[u8]) -> Write<'_, 'static> {
    let (policy, who) = &*POLICY;
    Write {
        op,
        body,
        verdict: prep::examine(op, body, &policy.rules, who).expect("the record can be decoded"),
        who,
        policy,
        session: SessionId::from_raw(1),
        session_open: true,
        ephemeral_bytes_left: 1 << 20,
    }
}

fn header(zxid: u64) -> TxnHeader {
    TxnHeader { session: SessionId::from_raw(1), cxid: 1, zxid: Zxid::from_raw(zxid), time_ms: 1, op: 0 }
}

fn apply(tree: &mut Tree, zxid: u64, op: Op, body: &[u8]) {
    let mut scratch = Scratch::default();
    let txn = prep::decide(&write(op, body), tree, &mut scratch).expect("the write is decided");
    effects(&header(zxid), &txn, tree).expect("the transaction fits");
}

fn create(path: &str, flags: i32) -> Vec<u8> {
    let mut body = Vec::new();
    CreateRequest { path: Some(path.into()), data: Some(&[7; 100]), acl: Some(AclVec::OPEN), flags }.encode(&mut body);
    body
}

fn prepare(criterion: &mut Criterion) {
    let mut tree = Tree::new(1);
    apply(&mut tree, 1, Op::Create, &create("/bench", 0));
    for number in 0..10_000 {
        apply(&mut tree, number + 2, Op::Create, &create(&format!("/bench/n{number:010}"), 0));
    }
    let sequential = create("/bench/s-", 2);
    let (policy, who) = &*POLICY;
    criterion.bench_function("prep/examine a create", |bencher| {
        bencher.iter(|| prep::examine(Op::Create, black_box(&sequential), &policy.rules, who));
    });
    criterion.bench_function("prep/decide a sequential create", |bencher| {
        let mut scratch = Scratch::default();
        let write = write(Op::Create, &sequential);
        bencher.iter(|| prep::decide(black_box(&write), &tree, &mut scratch).is_ok());
    });
    let mut set = Vec::new();
    SetDataRequest { path: Some("/bench/n0000000007".into()), data: Some(&[8; 1024]), version: -1 }.encode(&mut set);
    criterion.bench_function("prep/decide a set of 1 KiB", |bencher| {
        let mut scratch = Scratch::default();
        let write = write(Op::SetData, &set);
        bencher.iter(|| prep::decide(black_box(&write), &tree, &mut scratch).is_ok());
    });
    let mut zxid = 1_000_000;
    criterion.bench_function("prep/decide, derive and install a create", |bencher| {
        bencher.iter_batched(
            || {
                zxid += 1;
                (zxid, create(&format!("/bench/m{zxid:010}"), 0))
            },
            |(zxid, body)| apply(&mut tree, zxid, Op::Create, &body),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, prepare);
criterion_main!(benches);
