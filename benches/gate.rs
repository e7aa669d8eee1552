//! The gate: what it costs to enter, for a reader and for the writer, alone and in each other's way.

#![allow(missing_docs, reason = "criterion's macros make public items without docs")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use zorilla::gate::{Digests, Gate, State};
use zorilla::tree::Tree;
use zorilla_proto::ids::Zxid;

fn gate(criterion: &mut Criterion) {
    let gate = Arc::new(Gate::new(State {
        tree: Tree::new(1),
        applied: Zxid::ZERO,
        sessions: 0,
        digests: Digests::default(),
    }));
    criterion.bench_function("gate/read", |bencher| bencher.iter(|| gate.read().applied));
    criterion.bench_function("gate/write", |bencher| bencher.iter(|| gate.write().sessions += 1));
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (gate, stop) = (gate.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::black_box(gate.read().applied);
            }
        }
    });
    criterion.bench_function("gate/write beside a busy reader", |bencher| bencher.iter(|| gate.write().sessions += 1));
    stop.store(true, Ordering::Relaxed);
    reader.join().expect("the reader ends");
}

criterion_group!(benches, gate);
criterion_main!(benches);
