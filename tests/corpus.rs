//! What is recovered from the directories of real Java servers, case by case.
//!
//! `tests/corpus/README.md` says what each case is and where its `expected.json` comes from: a Java server was started on
//! the same files and every znode read back through a client. A case passes if all of it is equal, or if the start is
//! refused where that server refused.

#[path = "common/scratch.rs"]
mod scratch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use scratch::Scratch;
use serde_json::Value;
use zorilla::compat::progress::Quiet;
use zorilla::compat::{self, Dirs, Options, Recovered, Verdict};
use zorilla_proto::client::AclVec;

macro_rules! cases {
    ($($name:ident = $folder:literal,)*) => {
        /// Every case is run.
        const CASES: &[&str] = &[$($folder),*];

        $(#[test]
        fn $name() {
            run($folder);
        })*
    };
}

cases! {
    basic_380 = "basic-380",
    basic_394 = "basic-394",
    corrupt_body_394 = "corrupt-body-394",
    corrupt_checksum_394 = "corrupt-checksum-394",
    corrupt_eor_394 = "corrupt-eor-394",
    corrupt_magic_394 = "corrupt-magic-394",
    corrupt_zero_394 = "corrupt-zero-394",
    dup_zxid_394 = "dup-zxid-394",
    empty_394 = "empty-394",
    empty_log_394 = "empty-log-394",
    fuzzy_394 = "fuzzy-394",
    gap_394 = "gap-394",
    gz_394 = "gz-394",
    header_only_394 = "header-only-394",
    legacy_made = "legacy-made",
    missing_log_394 = "missing-log-394",
    no_snapshot_394 = "no-snapshot-394",
    noclosetxn_394 = "noclosetxn-394",
    nodigest_394 = "nodigest-394",
    orphan_ephemeral = "orphan-ephemeral",
    padded_394 = "padded-394",
    quorum_394 = "quorum-394",
    rolled_394 = "rolled-394",
    short_header_394 = "short-header-394",
    snap_corrupt_394 = "snap-corrupt-394",
    snap_empty_394 = "snap-empty-394",
    snap_tmp_394 = "snap-tmp-394",
    snappy_380 = "snappy-380",
    snappy_394 = "snappy-394",
    split_394 = "split-394",
    torn_body_cut_394 = "torn-body-cut-394",
    torn_checksum_cut_394 = "torn-checksum-cut-394",
    torn_checksum_only_394 = "torn-checksum-only-394",
    torn_length_cut_394 = "torn-length-cut-394",
    torn_zeroed_eor_394 = "torn-zeroed-eor-394",
    torn_zeroed_tail_394 = "torn-zeroed-tail-394",
    trust_empty_394 = "trust-empty-394",
    two_logs_394 = "two-logs-394",
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

#[test]
fn no_case_is_left_out() {
    let mut found: Vec<String> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expected.json").exists())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, CASES);
}

/// A copy of a case: nothing may write to the original.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Every file below `folder` with its content.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

fn run(case: &str) {
    let folder = corpus().join(case);
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let scratch = Scratch::new(&format!("corpus-{case}"));
    let data = scratch.join("data");
    copy(&folder, &data);
    let padded = data.join("log.1.padded.gz");
    if padded.exists() {
        let mut log = fs::File::create(data.join("version-2/log.1")).unwrap();
        std::io::copy(&mut flate2::read::GzDecoder::new(fs::File::open(&padded).unwrap()), &mut log).unwrap();
        fs::remove_file(padded).unwrap();
    }
    let log = if expected["log_dir"].is_null() { data.clone() } else { data.join("log") };
    let dirs = Dirs { data: data.clone(), log };
    let before = content(&data);
    for chunk_bytes in [1 << 20, 2_000] {
        let mut options = Options { chunk_bytes, ..Options::new(7, 0xf_ffff) };
        options.trust_empty = expected["properties"]["zookeeper.snapshot.trust.empty"] == "true";
        let recovered = compat::recover(&dirs, &options, &mut Quiet);
        match (expected["refuses"].as_str(), recovered) {
            (Some(java), Err(refusal)) => {
                let words = refusal.to_string();
                let reason = REFUSALS.iter().find(|(theirs, _)| java.contains(theirs)).expect("a reason we know").1;
                assert!(words.contains(reason) && words.contains("Nothing was changed"), "{words}");
            }
            (Some(java), Ok(_)) => panic!("Java refuses with {java}"),
            (None, Err(refusal)) => panic!("{refusal}"),
            (None, Ok(None)) => panic!("nothing was found"),
            (None, Ok(Some(recovered))) => compare(&expected, &recovered),
        }
        assert_eq!(content(&data), before, "an import that only looks changes nothing");
    }
}

/// Words of the Java server's refusals, and those of ours for the same.
const REFUSALS: &[(&str, &str)] = &[
    ("CRC check failed", "log.1: byte 617: expected the checksum 0x"),
    ("invalid magic number", "log.1: byte 0: expected 0x5a4b4c47, the magic number of a log, found 0x4b4c47"),
    ("cached out of order: 0xe is not the next proposal of 0xb", "log.e: byte 16: transaction 0xe follows 0xb"),
    ("No snapshot found, but there are log entries", "No snapshot found, but there are log entries"),
    ("EOFException", "log.1: expected a header of 16 bytes, found 9"),
];

fn number(text: &Value) -> u64 {
    u64::from_str_radix(text.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn compare(expected: &Value, recovered: &Recovered) {
    let report = &recovered.report;
    assert_eq!(recovered.applied.raw(), number(&expected["last_zxid"]), "last zxid");
    assert_eq!(recovered.tree.len() as u64, expected["node_count"].as_u64().unwrap(), "znodes");
    match expected["digest"].as_i64() {
        Some(digest) => assert_eq!(report.digest as i64, digest, "digest"),
        None => assert_eq!(report.verdict, Verdict::None, "digests are switched off"),
    }
    let is_wrong = matches!(report.verdict, Verdict::Wrong { .. });
    assert_eq!(is_wrong, expected["digest_mismatch_logged"] == true, "{:?}", report.verdict);
    let removed = expected["removed_at_startup"].as_array().map_or(0, Vec::len);
    assert_eq!(report.removed, removed as u64, "ephemerals of sessions that are gone");

    let sessions: BTreeMap<u64, u64> =
        recovered.sessions.iter().map(|(id, timeout_ms)| (id.raw() as u64, u64::from(*timeout_ms))).collect();
    let expected_sessions: BTreeMap<u64, u64> = expected["sessions"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, timeout_ms)| (number(&Value::from(id.as_str())), timeout_ms.as_u64().unwrap()))
        .collect();
    assert_eq!(sessions, expected_sessions, "sessions");

    let acls = expected["acls"].as_array().unwrap();
    let nodes = expected["nodes"].as_object().unwrap();
    recovered.tree.for_each(|path, node| {
        let Some(expected) = nodes.get(path) else { panic!("{path} is there and should not be") };
        let data = node.data().map(|data| BASE64.encode(data));
        assert_eq!(data.as_deref(), expected[0].as_str(), "data of {path}");
        let version = node.version();
        let stat = version.stat();
        let found = [
            stat.czxid.raw() as i64,
            stat.mzxid.raw() as i64,
            stat.ctime_ms,
            stat.mtime_ms,
            stat.version.into(),
            stat.cversion.into(),
            stat.aversion.into(),
            stat.ephemeral_owner,
            stat.data_length.into(),
            stat.num_children.into(),
            stat.pzxid.raw() as i64,
        ];
        let expected_stat: Vec<i64> = expected[1].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
        assert_eq!(found.as_slice(), expected_stat, "stat of {path}");
        let acl: Vec<Value> = AclVec::from_raw(node.acl().raw)
            .unwrap()
            .iter()
            .map(|acl| {
                Value::from(vec![Value::from(acl.perms), acl.scheme.as_deref().into(), acl.id.as_deref().into()])
            })
            .collect();
        assert_eq!(Value::from(acl), acls[expected[2].as_u64().unwrap() as usize], "ACL of {path}");
        assert_eq!(i64::from(version.children_created), expected[3].as_i64().unwrap(), "creates below {path}");
        assert_eq!(version.owner as u64, number(&expected[4]), "owner of {path}");
    });
}
