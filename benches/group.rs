//! Group commit: what the log costs per transaction without a disk, and one batch with a disk under it.

#![allow(missing_docs, reason = "criterion's macros make public items without docs")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use zorilla_proto::ids::Zxid;
use zorilla_wal::disk::best;
use zorilla_wal::{Group, Options, Start, StoreId, Wal};

fn group(criterion: &mut Criterion) {
    let payload = [7u8; 250];
    criterion.bench_function("group/append 64 transactions of 250 B and cut a batch", |bencher| {
        bencher.iter_batched_ref(
            || Group::new(Start::fresh(StoreId(1), 64 << 20, 7)),
            |group| {
                for zxid in 1..=64 {
                    group.append(Zxid::from_raw(zxid), &payload).expect("a new batch has room");
                }
                group.next_write(1).expect("an idle log writes at once").bytes
            },
            BatchSize::LargeInput,
        );
    });

    let directory = std::env::temp_dir().join(format!("zorilla-bench-group-{}", std::process::id()));
    let mut wal = open(&directory);
    let mut zxid = 0u64;
    for batch in [1u64, 64, 1024] {
        criterion.bench_function(&format!("group/{batch} transactions made durable"), |bencher| {
            bencher.iter(|| {
                for _ in 0..batch {
                    zxid += 1;
                    wal.append(Zxid::from_raw(zxid), &payload).expect("the batch fits");
                }
                if let Some(prepare) = wal.wants_segment() {
                    let prepared = prepare.run();
                    wal.segment_prepared(prepared).expect("the disk works");
                }
                wal.flush(zxid).expect("the disk works")
            });
        });
    }
    drop(wal);
    std::fs::remove_dir_all(&directory).expect("the directory was made here");
}

fn open(directory: &std::path::Path) -> Wal<zorilla_wal::disk::AnyDisk> {
    let disk = best(directory, true).expect("a directory for the log");
    Wal::open(disk, Options::new(StoreId(1)), 7, &mut |_| Ok(())).expect("an empty directory opens").0
}

criterion_group!(benches, group);
criterion_main!(benches);
