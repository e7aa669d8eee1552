//! Watches: what it costs to leave them, to fire them, to forget them, and to ask whether there are any.
//!
//! The crowd is the one of the whole-server figure: 10,000 watches of 100 connections, 100 watchers on each of 100
//! znodes. Throughput is in watches (or in questions); everything is warm, as after the first round of a running
//! server.

#![allow(missing_docs, reason = "criterion's macros make public items without docs")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zorilla::watch::{Added, Change, ConnId, Fired, Interest, WatchKind, WatchTable};
use zorilla_proto::ids::Zxid;

const CONNECTIONS: u32 = 100;
const ZNODES: usize = 100;
const WATCHES: u64 = CONNECTIONS as u64 * ZNODES as u64;
const SEED: u64 = 0x2077_a111_a5ee_d000;

/// A worker's watches, its interest, and the znodes of the crowd.
struct Crowd {
    table: WatchTable,
    interest: Interest,
    paths: Vec<String>,
    fired: Vec<Fired>,
    zxid: Zxid,
}

impl Crowd {
    fn new() -> Crowd {
        let paths = (0..ZNODES).map(|number| format!("/services/search/shard-{number:04}/leader")).collect();
        let (table, interest) = (WatchTable::new(SEED), Interest::new(SEED));
        let mut crowd = Crowd { table, interest, paths, fired: Vec::new(), zxid: Zxid::ZERO };
        // One round warms every pool.
        crowd.arm();
        crowd.fire();
        crowd
    }

    fn arm(&mut self) {
        for path in &self.paths {
            for conn in 0..CONNECTIONS {
                self.interest.raise(WatchKind::Data, path);
                assert_eq!(self.table.add(WatchKind::Data, path, ConnId(conn), self.zxid), Added::New);
            }
        }
    }

    fn fire(&mut self) {
        self.fired.clear();
        for path in &self.paths {
            self.zxid = self.zxid.successor().expect("a benchmark ends before zxids do");
            let consumed = self.table.fire(Change::DataChanged, path, self.zxid, &mut self.fired);
            self.interest.lower_consumed(path, consumed);
        }
        assert_eq!(self.fired.len() as u64, WATCHES);
    }

    fn forget(&mut self) {
        for conn in 0..CONNECTIONS {
            self.table.forget(ConnId(conn), &mut |kind, path| self.interest.lower(kind, path));
        }
        assert!(self.table.is_empty());
    }
}

/// Times `measured` alone, with `prepare` before and `restore` after each round.
fn rounds(
    count: u64,
    crowd: &mut Crowd,
    prepare: fn(&mut Crowd),
    measured: fn(&mut Crowd),
    restore: fn(&mut Crowd),
) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..count {
        prepare(crowd);
        let start = Instant::now();
        measured(crowd);
        spent += start.elapsed();
        restore(crowd);
    }
    spent
}

fn crowd(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch/10k_of_100_connections");
    group.throughput(Throughput::Elements(WATCHES));
    let mut crowd = Crowd::new();
    group.bench_function("fire", |bencher| {
        bencher.iter_custom(|count| rounds(count, &mut crowd, Crowd::arm, Crowd::fire, |_| {}));
    });
    group.bench_function("add", |bencher| {
        bencher.iter_custom(|count| rounds(count, &mut crowd, |_| {}, Crowd::arm, Crowd::fire));
    });
    group.bench_function("forget", |bencher| {
        bencher.iter_custom(|count| rounds(count, &mut crowd, Crowd::arm, Crowd::forget, |_| {}));
    });
    group.finish();
}

fn one(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch/one");
    group.throughput(Throughput::Elements(1));
    // The life of most watches: left by a read, fired by the next write, beside ten thousand others that stay.
    let mut crowd = Crowd::new();
    crowd.arm();
    group.bench_function("add_then_fire", |bencher| {
        bencher.iter(|| {
            let path = black_box("/locks/queue/lock-0000000017");
            crowd.interest.raise(WatchKind::Data, path);
            assert_eq!(crowd.table.add(WatchKind::Data, path, ConnId(7), crowd.zxid), Added::New);
            crowd.zxid = crowd.zxid.successor().expect("a benchmark ends before zxids do");
            crowd.fired.clear();
            let consumed = crowd.table.fire(Change::Deleted, path, crowd.zxid, &mut crowd.fired);
            crowd.interest.lower_consumed(path, consumed);
            crowd.fired.len()
        });
    });
    group.bench_function("fire_where_nobody_watches", |bencher| {
        bencher.iter(|| {
            let path = black_box("/locks/queue/lock-0000000018");
            crowd.table.fire(Change::Created, path, crowd.zxid, &mut crowd.fired)
        });
    });
    group.bench_function("may_watch_no", |bencher| {
        bencher.iter(|| crowd.interest.may_watch(Change::Created, black_box("/locks/queue/lock-0000000018")));
    });
    // Somebody watches a subtree: every change looks at its ancestors.
    crowd.interest.raise(WatchKind::Recursive, "/services/search");
    assert_eq!(crowd.table.add(WatchKind::Recursive, "/services/search", ConnId(8), crowd.zxid), Added::New);
    group.bench_function("fire_below_a_recursive_watch", |bencher| {
        bencher.iter(|| {
            crowd.zxid = crowd.zxid.successor().expect("a benchmark ends before zxids do");
            crowd.fired.clear();
            let path = black_box("/services/search/nodes/host-17/state");
            let consumed = crowd.table.fire(Change::DataChanged, path, crowd.zxid, &mut crowd.fired);
            crowd.interest.lower_consumed(path, consumed);
            crowd.fired.len()
        });
    });
    group.bench_function("fire_beside_a_recursive_watch", |bencher| {
        bencher.iter(|| {
            let path = black_box("/locks/queue/lock-0000000018");
            crowd.table.fire(Change::Created, path, crowd.zxid, &mut crowd.fired)
        });
    });
    group.bench_function("may_watch_no_beside_a_recursive_watch", |bencher| {
        bencher.iter(|| crowd.interest.may_watch(Change::Created, black_box("/locks/queue/lock-0000000018")));
    });
    let nobody = Interest::new(SEED);
    group.bench_function("may_watch_no_watches_at_all", |bencher| {
        bencher.iter(|| nobody.may_watch(Change::Created, black_box("/locks/queue/lock-0000000018")));
    });
    group.finish();
}

criterion_group!(benches, crowd, one);
criterion_main!(benches);
