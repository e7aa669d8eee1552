//! The tree at a million znodes of 100 bytes in 1,000 folders: what a read looks up, what a commit installs.
//!
//! Znodes are picked at random, so their cache lines are cold, as they are for a server of that size.

#![allow(missing_docs, reason = "criterion's macros make public items without docs")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use zorilla::tree::{Effect, NodeVersion, Tree, digest, path};
use zorilla_proto::client::AclVec;
use zorilla_proto::ids::Zxid;

const FOLDERS: u32 = 1000;
const DATA: [u8; 100] = [7; 100];

fn version(path: &str, data: &[u8], zxid: u64) -> NodeVersion {
    let zxid = Zxid::from_raw(zxid);
    NodeVersion {
        czxid: zxid,
        mzxid: zxid,
        pzxid: zxid,
        ctime_ms: 1,
        mtime_ms: 1,
        version: 0,
        children_created: 0,
        aversion: 0,
        owner: 0,
        data_bytes: data.len() as u32,
        data_is_null: false,
        children: 0,
        prefix_crc: digest::prefix_crc(path, Some(data)),
    }
}

fn parent_version(tree: &Tree, path: &str) -> NodeVersion {
    let parent = path::parent(path).expect("a path below the root");
    tree.find(parent).expect("the parent is there").version()
}

/// A create as `prep` hands it on: everything is known, installing it is what is measured.
fn create<'a>(tree: &Tree, path: &'a str, data: &'a [u8], zxid: u64) -> Effect<'a> {
    let mut parent = parent_version(tree, path);
    parent.children += 1;
    parent.children_created += 1;
    parent.pzxid = Zxid::from_raw(zxid);
    let acl = AclVec::OPEN;
    let node = version(path, data, zxid);
    Effect::Create { path, data: Some(data), acl: acl.raw(), acl_count: acl.len() as u32, node, parent }
}

fn delete<'a>(tree: &Tree, path: &'a str) -> Effect<'a> {
    let mut parent = parent_version(tree, path);
    parent.children -= 1;
    Effect::Delete { path, parent }
}

fn set<'a>(tree: &Tree, path: &'a str, data: &'a [u8]) -> Effect<'a> {
    let before = tree.find(path).expect("the znode is there").version();
    let node = NodeVersion {
        version: before.version.wrapping_add(1),
        data_bytes: data.len() as u32,
        prefix_crc: digest::prefix_crc(path, Some(data)),
        ..before
    };
    Effect::SetData { path, data: Some(data), node }
}

fn node_path(number: u32) -> String {
    format!("/folder-{:03}/node-{number:07}", number % FOLDERS)
}

/// Installs one effect after the other and counts only that. What an effect says of a parent holds for the tree as it
/// is now, so each is made when its turn has come.
fn install_each<'a>(tree: &mut Tree, paths: &'a [String], make: impl Fn(&Tree, &'a str) -> Effect<'a>) -> Duration {
    let mut took = Duration::ZERO;
    for path in paths {
        let effect = make(tree, path);
        let started = Instant::now();
        tree.install(black_box(&effect));
        took += started.elapsed();
    }
    took
}

fn tree(criterion: &mut Criterion) {
    // `cargo test` runs every benchmark once: there a small tree does.
    let znodes: u32 = if std::env::args().any(|argument| argument == "--bench") { 1_000_000 } else { 10_000 };
    let mut tree = Tree::new(1);
    for folder in 0..FOLDERS {
        let path = format!("/folder-{folder:03}");
        let effect = create(&tree, &path, &[], 1);
        tree.install(&effect);
    }
    for number in 0..znodes {
        let path = node_path(number);
        let effect = create(&tree, &path, &DATA, u64::from(number) + 2);
        tree.install(&effect);
    }
    println!("{znodes} znodes: {} bytes each", tree.memory_bytes() / znodes as usize);

    // A prime step leads through all of them in an order that no prefetcher guesses.
    let scattered: Vec<String> = (0..1 << 16).map(|at| node_path((at * 7919_u64 % u64::from(znodes)) as u32)).collect();
    let mut next = 0;
    let mut pick = move || {
        next = (next + 1) % scattered.len();
        scattered[next].clone()
    };
    criterion.bench_function("tree/find", |bencher| {
        let paths: Vec<String> = (0..1 << 16).map(|_| pick()).collect();
        let mut at = 0;
        bencher.iter(|| {
            at = (at + 1) % paths.len();
            tree.find(black_box(&paths[at])).map(|node| node.version().mzxid)
        });
    });
    criterion.bench_function("tree/find one again and again", |bencher| {
        let path = pick();
        bencher.iter(|| tree.find(black_box(&path)).map(|node| node.version().mzxid));
    });
    criterion.bench_function("tree/find what is missing", |bencher| {
        let mut at = 0;
        let paths: Vec<String> = (0..1 << 12).map(|at| format!("/folder-{:03}/none-{at}", at % FOLDERS)).collect();
        bencher.iter(|| {
            at = (at + 1) % paths.len();
            tree.find(black_box(&paths[at])).is_some()
        });
    });
    criterion.bench_function("tree/list 1,000 children", |bencher| {
        let folder = tree.find("/folder-007").expect("the folder is there");
        bencher.iter(|| folder.children().map(str::len).sum::<usize>());
    });
    criterion.bench_function("tree/install a set of the same size", |bencher| {
        bencher.iter_custom(|count| {
            let paths: Vec<String> = (0..count).map(|_| pick()).collect();
            install_each(&mut tree, &paths, |tree, path| set(tree, path, &DATA))
        });
    });
    criterion.bench_function("tree/install a create", |bencher| {
        bencher.iter_custom(|count| {
            let paths: Vec<String> = (0..count as u32).map(|number| node_path(znodes + number)).collect();
            let took = install_each(&mut tree, &paths, |tree, path| create(tree, path, &DATA, 9));
            install_each(&mut tree, &paths, delete);
            took
        });
    });
    criterion.bench_function("tree/install a delete", |bencher| {
        bencher.iter_custom(|count| {
            let paths: Vec<String> = (0..count as u32).map(|number| node_path(znodes + number)).collect();
            install_each(&mut tree, &paths, |tree, path| create(tree, path, &DATA, 9));
            install_each(&mut tree, &paths, delete)
        });
    });
    criterion.bench_function("tree/digest of a znode", |bencher| {
        let version = version("/a", b"x", 7);
        bencher.iter(|| digest::node(black_box(version.prefix_crc), black_box(&version)));
    });
    criterion.bench_function("tree/CRC of a path and 100 bytes", |bencher| {
        bencher.iter(|| digest::prefix_crc(black_box("/folder-007/node-0000007"), Some(black_box(&DATA))));
    });
}

criterion_group!(benches, tree);
criterion_main!(benches);
