//! What runs cost: a lookup that hits, one that misses, an entry written and one merged.

#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use zorilla_proto::ids::Zxid;
use zorilla_snapshot::{Entry, Merge, Meta, NodeVersion, Progress, Run, RunId, Spec, Value, What, Writer, path_hash};

const SEED: u64 = 7;
const ZNODES: u64 = 200_000;

fn nothing(_: &str, _: &str, _: &NodeVersion) -> u64 {
    0
}

fn spec(run: u64) -> Spec {
    Spec { run: RunId(run), store: 1, seed: SEED, identity: run, digest_of: nothing }
}

fn version(czxid: u64) -> NodeVersion {
    NodeVersion {
        czxid: Zxid::from_raw(czxid),
        mzxid: Zxid::from_raw(czxid),
        pzxid: Zxid::from_raw(czxid),
        ctime_ms: 1_700_000_000_000,
        mtime_ms: 1_700_000_000_000,
        version: 0,
        children_created: 0,
        aversion: 0,
        owner: 0,
        data_bytes: 100,
        data_is_null: false,
        children: 0,
        prefix_crc: czxid as u32,
    }
}

fn name(index: u64) -> String {
    format!("n{index:010}")
}

fn write(run: u64, each: u64) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), spec(run));
    let acl = writer.acl(b"open", 1).unwrap();
    for index in (0..ZNODES).filter(|index| index.is_multiple_of(each)) {
        let what = What::Present { version: version(index), acl, value: Value::Plain(&[7; 100]) };
        writer.push(&Entry { parent: "/bench", name: &name(index), what }).unwrap();
    }
    writer.finish(&Meta::default()).unwrap().1
}

fn open(run: u64, each: u64) -> Arc<Run> {
    let run = Run::from_bytes(Path::new("/bench"), RunId(run), write(run, each)).unwrap();
    run.verify().unwrap();
    Arc::new(run)
}

fn runs(c: &mut Criterion) {
    let run = open(1, 1);
    println!("bytes per znode with 100 bytes of data: {:.1}", run.file_bytes() as f64 / ZNODES as f64);
    let paths: Vec<String> = (0..4096).map(|index| format!("/bench/{}", name(index * 7919 % ZNODES))).collect();
    let mut at = 0;
    c.bench_function("run find, there", |b| {
        b.iter(|| {
            at = (at + 1) % paths.len();
            let path = &paths[at];
            let entry = run.find(path, path_hash(SEED, path)).unwrap().unwrap();
            black_box(entry.value().unwrap());
            black_box(entry.version())
        });
    });
    let others: Vec<String> = paths.iter().map(|path| format!("{path}x")).collect();
    c.bench_function("run find, not there", |b| {
        b.iter(|| {
            at = (at + 1) % others.len();
            let path = &others[at];
            assert!(black_box(run.find(path, path_hash(SEED, path)).unwrap()).is_none());
        });
    });
    let mut group = c.benchmark_group("run entries");
    group.throughput(Throughput::Elements(ZNODES)).sample_size(10);
    group.bench_function("written", |b| b.iter(|| black_box(write(1, 1))));
    let upper = open(2, 5);
    group.bench_function("merged", |b| {
        b.iter_batched(
            || Merge::new(vec![upper.clone(), run.clone()], true, nothing, Writer::new(Vec::new(), spec(3))),
            |mut merge| while merge.step(1 << 20).unwrap() == Progress::More {},
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, runs);
criterion_main!(benches);
