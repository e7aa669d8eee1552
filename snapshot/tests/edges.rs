//! The edges of a run: the longest names, footers that lie, blocks that grow cold, layers that contradict each other.

use std::path::Path;
use std::sync::Arc;

use zorilla_proto::ids::Zxid;
use zorilla_snapshot::limits::{BLOCK_BYTES, PATH_BYTES_MAX};
use zorilla_snapshot::merge::MergeError;
use zorilla_snapshot::{Cold, Entry, Merge, Meta, NodeVersion, Run, RunId, Spec, Value, What, Writer, path_hash};

const SEED: u64 = 3;
const PATH: &str = "/state/run.0000000000000001";

fn nothing(_: &str, _: &str, _: &NodeVersion) -> u64 {
    0
}

fn spec(run: u64) -> Spec {
    Spec { run: RunId(run), store: 1, seed: SEED, identity: run, digest_of: nothing }
}

fn version(data: Option<&[u8]>) -> NodeVersion {
    NodeVersion {
        czxid: Zxid::from_raw(1),
        mzxid: Zxid::from_raw(1),
        pzxid: Zxid::from_raw(1),
        ctime_ms: 0,
        mtime_ms: 0,
        version: 0,
        children_created: 0,
        aversion: 0,
        owner: 0,
        data_bytes: data.map_or(0, |data| data.len() as u32),
        data_is_null: data.is_none(),
        children: 0,
        prefix_crc: 0,
    }
}

/// A run with these children of the root, or `None` for one that is absent, or that has its data below.
fn write(run: u64, entries: &[(&str, Option<Value<'_>>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), spec(run));
    let acl = writer.acl(b"", 0).unwrap();
    for (name, value) in entries {
        let what = match *value {
            None => What::Absent,
            Some(value @ Value::Plain(data)) => What::Present { version: version(Some(data)), acl, value },
            Some(value) => What::Present { version: version(None), acl, value },
        };
        writer.push(&Entry { parent: "", name, what }).unwrap();
    }
    writer.finish(&Meta::default()).unwrap().1
}

fn open(run: u64, bytes: Vec<u8>) -> Run {
    Run::from_bytes(Path::new(PATH), RunId(run), bytes).unwrap()
}

#[test]
fn the_longest_name_that_can_be_written_can_be_read() {
    let name = "n".repeat(PATH_BYTES_MAX);
    let run = open(1, write(1, &[(&name, Some(Value::Null))]));
    let path = format!("/{name}");
    let found = run.warm(|| run.find(&path, path_hash(SEED, &path))).unwrap();
    assert_eq!(found.map(|entry| entry.name().len()), Some(PATH_BYTES_MAX));
}

#[test]
fn a_footer_that_lies_with_a_good_checksum_is_an_error_and_no_panic() {
    let good = write(1, &[("a", Some(Value::Null))]);
    let footer = good.len() - 128;
    let word = |index: usize| footer + 32 + 8 * index..footer + 40 + 8 * index;
    let length = good.len() as u64;
    let read = |index: usize| u64::from_le_bytes(good[word(index)].try_into().unwrap());
    // The places of index, meta and table, moved together so that they stay in order, up to where sums overflow.
    for moved in [64, 1 << 20, 1 << 40, 1 << 62, u64::MAX / 64 * 64 - 8192, u64::MAX - length] {
        for words in [&[4, 6, 8, 10, 11][..], &[10, 11], &[11]] {
            let mut bad = good.clone();
            for index in words {
                bad[word(*index)].copy_from_slice(&read(*index).wrapping_add(moved / 64 * 64).to_le_bytes());
            }
            let crc = crc32c::crc32c(&bad[footer + 12..]);
            bad[footer + 8..footer + 12].copy_from_slice(&crc.to_le_bytes());
            let fault = Run::from_bytes(Path::new(PATH), RunId(1), bad).expect_err("sections beyond the file");
            assert!(fault.to_string().contains("sections in order"), "{fault}");
        }
    }
}

/// Some blocks of entries.
fn many() -> Vec<u8> {
    let names: Vec<String> = (0..4000).map(|index| format!("n{index:05}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), Some(Value::Plain(&[7; 60][..])))).collect();
    write(1, &entries)
}

#[test]
fn what_was_not_brought_in_is_cold_and_brought_in_once() {
    let run = open(1, many());
    let hash = path_hash(SEED, "/n01234");
    let mut needed = 0;
    let entry = loop {
        match run.find("/n01234", hash) {
            Ok(found) => break found.expect("it was written"),
            Err(cold) => {
                run.bring_in(cold).unwrap();
                needed += 1;
            }
        }
    };
    assert_eq!(entry.name(), "n01234");
    // One block of the index, and those of the entry and its group.
    assert!((2..=4).contains(&needed) && run.brought_in() == needed, "{needed} blocks, {}", run.brought_in());
    assert!(run.find("/n01234", hash).is_ok());
    assert_eq!(run.brought_in(), needed);
}

#[test]
fn under_pressure_a_block_grows_cold_however_often_a_part_of_it_is_used() {
    let run = open(1, many());
    let hash = path_hash(SEED, "/n01234");
    run.set_epoch(5, 4);
    run.warm(|| run.find("/n01234", hash)).unwrap();
    for epoch in 6..12 {
        run.set_epoch(epoch, epoch - 1);
        // A use of some of its pages says nothing of the others: these may have been evicted one by one.
        let _ = run.find("/n01234", hash);
    }
    let Err(Cold { block }) = run.find("/n01234", hash) else { panic!("every page of the block is said to be there") };
    assert!(block < run.blocks());
    run.warm(|| run.find("/n01234", hash)).unwrap();
    assert!(run.find("/n01234", hash).is_ok());
    // With memory for all again, nothing is asked for twice.
    run.set_epoch(1, 1);
    assert!(run.find("/n01234", hash).is_ok());
}

#[test]
fn a_merge_refuses_data_that_no_layer_has() {
    for below in [None, Some(Value::Null)] {
        let upper = Arc::new(open(2, write(2, &[("a", Some(Value::Lower))])));
        let lower = Arc::new(open(1, write(1, &[("a", below)])));
        let mut merge = Merge::new(vec![upper, lower], false, nothing, Writer::new(Vec::new(), spec(3)));
        match (below, merge.step(1 << 20)) {
            (None, Err(MergeError::Fault(fault))) => assert!(fault.to_string().contains("absent"), "{fault}"),
            (Some(_), Ok(_)) => {}
            (below, other) => panic!("{below:?} below: {other:?}"),
        }
    }
}

#[test]
fn a_run_on_disk_that_was_cut_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(RunId(1).file_name());
    let bytes = many();
    assert!(3 * BLOCK_BYTES < bytes.len());
    std::fs::write(&path, bytes).unwrap();
    let run = Run::open(directory.path(), RunId(1)).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let fault = run.bring_in(Cold { block: 1 }).unwrap_err().to_string();
    assert!(fault.contains("at byte 65536") && !fault.contains("Bad address") && fault.contains("cut"), "{fault}");
}
