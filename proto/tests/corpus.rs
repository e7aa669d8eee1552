//! Logs written by Java servers: every transaction decodes, says what the Java tools say, and encodes to the
//! same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use zorilla_proto::jute::text;
use zorilla_proto::txn::{Entry, MultiTxn, MultiTxnWriter, PARENT_CVERSION_UNKNOWN};
use zorilla_proto::{AclVec, Code, DecodeErrorKind, Op, Reader, SessionId, Txn, TxnDigest, TxnHeader, Zxid};

const LOG_HEADER: &[u8] = b"ZKLG\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00";

macro_rules! log {
    ($name:literal) => {
        entries(include_bytes!(concat!("corpus/", $name, ".log")))
    };
}

/// The entries of a log file: after 16 bytes of header, checksum, length, entry and `B`, again and again.
fn entries(log: &[u8]) -> Vec<&[u8]> {
    assert!(log.starts_with(LOG_HEADER));
    let mut reader = Reader::new(&log[LOG_HEADER.len()..]);
    let mut entries = Vec::new();
    while !reader.is_empty() {
        let checksum = reader.i64().unwrap();
        let entry = reader.buffer().unwrap().unwrap();
        assert_eq!(checksum, adler32(entry), "checksum of entry {}", entries.len());
        assert_eq!(reader.u8(), Ok(b'B'));
        entries.push(entry);
    }
    entries
}

fn adler32(bytes: &[u8]) -> i64 {
    let (mut a, mut b) = (1, 0);
    for &byte in bytes {
        a = (a + i64::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

fn decoded<'a>(entries: &[&'a [u8]]) -> Vec<Entry<'a>> {
    entries.iter().map(|entry| Entry::decode(entry).unwrap()).collect()
}

fn encoded(entry: &Entry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    entry.encode(&mut out);
    out
}

/// How many entries of each type, by name.
fn types(entries: &[Entry<'_>]) -> BTreeMap<&'static str, usize> {
    let mut types = BTreeMap::new();
    for entry in entries {
        assert_eq!(entry.header.op, entry.txn.op().raw());
        *types.entry(entry.txn.op().name()).or_default() += 1;
    }
    types
}

/// What the reference's log tool prints for a transaction, but for the date.
fn dump(entry: &Entry<'_>) -> String {
    let TxnHeader { session, cxid, zxid, .. } = entry.header;
    let body = match &entry.txn {
        Txn::CreateSession { timeout_ms } => timeout_ms.to_string(),
        Txn::CloseSession { paths } => {
            let paths: Vec<_> = paths.unwrap().iter().map(|path| format!("'{path}")).collect();
            format!("v{{{}}}", paths.join(","))
        }
        Txn::Create { path, data, acl, ephemeral, parent_cversion, .. } => {
            format!("{path},{},{},{ephemeral},{parent_cversion}", dump_data(*data), dump_acl(acl))
        }
        Txn::CreateContainer { path, data, acl, parent_cversion } => {
            format!("{path},{},{},{parent_cversion}", dump_data(*data), dump_acl(acl))
        }
        Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => {
            format!("{path},{},{},{parent_cversion},{ttl_ms}", dump_data(*data), dump_acl(acl))
        }
        Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
            format!("{path},{},{version}", dump_data(*data))
        }
        Txn::SetAcl { path, acl, version } => {
            let acl: Vec<_> = acl
                .unwrap()
                .iter()
                .map(|acl| format!("s{{{},s{{'{},'{}}}}}", acl.perms, acl.scheme.unwrap(), acl.id.unwrap()))
                .collect();
            format!("'{path},v{{{}}},{version}", acl.join(","))
        }
        Txn::Delete { path } | Txn::DeleteContainer { path } => format!("'{path}"),
        Txn::Error { code } => code.to_string(),
        Txn::Multi(parts) => {
            let parts: Vec<_> =
                parts.iter().map(|part| format!("{}:{}", Op::from_raw(part.op).unwrap(), text(part.body))).collect();
            parts.join(";")
        }
        Txn::Check { .. } => unreachable!("only inside a multi"),
    };
    format!("session {session} cxid {cxid:#x} zxid {zxid} {} {body}", entry.txn.op())
}

fn dump_data(data: Option<&[u8]>) -> String {
    text(data.unwrap_or_default()).into_owned()
}

fn dump_acl(acl: &Option<AclVec<'_>>) -> String {
    let acl: Vec<_> = acl
        .unwrap()
        .iter()
        .map(|acl| format!("{},s{{'{},'{}}}\n", acl.perms, acl.scheme.unwrap(), acl.id.unwrap()))
        .collect();
    format!("[{}]", acl.join(", "))
}

#[test]
fn every_transaction_says_what_the_java_log_tool_says() {
    let mut ours = String::from("ZooKeeper Transactional Log File with dbid 0 txnlog format version 2\n");
    let log = log!("basic-3.9.4");
    for entry in decoded(&log) {
        writeln!(ours, "{}", dump(&entry)).unwrap();
    }
    writeln!(ours, "EOF reached after {} txns.", log.len()).unwrap();

    let java: Vec<_> = include_str!("corpus/basic-3.9.4.dump.txt")
        .split('\n')
        .map(|line| line.split_once(" UTC ").filter(|_| line.starts_with("11/22/26, ")).map_or(line, |(_, rest)| rest))
        .collect();
    let ours: Vec<_> = ours.split('\n').collect();
    for (index, (ours, java)) in ours.iter().zip(&java).enumerate() {
        assert_eq!(ours, java, "line {}", index + 1);
    }
    assert_eq!(ours.len(), java.len());
}

#[test]
fn every_transaction_encodes_to_the_bytes_java_wrote() {
    let mut count = 0;
    for log in [
        log!("basic-3.9.4"),
        log!("basic-3.8.0"),
        log!("close-session-without-list"),
        log!("without-digest"),
        log!("undecodable-requests"),
        log!("ensemble-reconfig"),
    ] {
        for (bytes, entry) in log.iter().zip(decoded(&log)) {
            assert_eq!(encoded(&entry), *bytes, "{entry:?}");
            if let Txn::Multi(parts) = entry.txn {
                // Also one by one, as a leader writes them.
                let parts: Vec<_> = parts.iter().map(|part| part.txn().unwrap()).collect();
                let mut buffer = Vec::new();
                let rebuilt = Entry { txn: Txn::Multi(MultiTxn::build(&mut buffer, &parts)), ..entry };
                assert_eq!(encoded(&rebuilt), *bytes);
                let mut out = Vec::new();
                entry.header.encode(&mut out);
                let mut writer = MultiTxnWriter::new(&mut out);
                parts.iter().for_each(|part| writer.push(part));
                assert_eq!(writer.len(), parts.len());
                entry.digest.unwrap().encode(&mut out);
                assert_eq!(out, *bytes);
            }
            count += 1;
        }
    }
    assert_eq!(count, 206);
}

#[test]
fn a_log_of_every_type_a_standalone_server_writes() {
    let log = log!("basic-3.9.4");
    let entries = decoded(&log);
    let expected = [
        ("closeSession", 2),
        ("create", 42),
        ("create2", 1),
        ("createContainer", 3),
        ("createSession", 4),
        ("createTTL", 4),
        ("delete", 7),
        ("deleteContainer", 2),
        ("error", 5),
        ("multi", 3),
        ("setACL", 1),
        ("setData", 6),
    ];
    assert_eq!(types(&entries), BTreeMap::from(expected));
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry.header.zxid, Zxid::from_raw(index as u64 + 1));
        // A failed request changes nothing and says nothing about the tree.
        let has_digest = !matches!(entry.txn, Txn::Error { .. });
        assert_eq!(entry.digest.is_some(), has_digest, "{entry:?}");
        assert!(entry.digest.is_none_or(|digest| digest.version == TxnDigest::VERSION));
    }
    // An empty tree's digest is the same everywhere; the last one is what the server had when it was stopped.
    assert_eq!(entries[0].digest, Some(TxnDigest::new(1_371_985_504)));
    assert_eq!(entries[79].digest, Some(TxnDigest::new(90_535_734_074)));

    let multis: Vec<_> =
        entries.iter().filter_map(|entry| if let Txn::Multi(parts) = entry.txn { Some(parts) } else { None }).collect();
    assert_eq!(multis.iter().map(MultiTxn::has_error).collect::<Vec<_>>(), [false, false, true]);
    let failed: Vec<_> = multis[2].iter().map(|part| part.txn().unwrap()).collect();
    assert!(matches!(&failed[0], Txn::Create { path, .. } if path == "/multi/x"));
    assert!(matches!(failed[1], Txn::Error { code } if Code::from_raw(code).is_some_and(|code| code != Code::Ok)));
    assert_eq!(failed[2], Txn::Error { code: Code::RuntimeInconsistency.raw() });
}

#[test]
fn forms_from_before_3_6_become_the_same_values() {
    let log = log!("before-3.6");
    let entries = decoded(&log);
    let expected = [("closeSession", 1), ("create", 5), ("createSession", 2), ("delete", 1), ("setData", 1)];
    assert_eq!(types(&entries), BTreeMap::from(expected));
    let mut without_cversion = 0;
    for (entry, bytes) in entries.iter().zip(&log) {
        assert_eq!(entry.digest, None);
        match &entry.txn {
            Txn::CloseSession { paths } => assert_eq!(*paths, None),
            Txn::Create { parent_cversion: PARENT_CVERSION_UNKNOWN, .. } => {
                // The new form is written: the old bytes, and the field they lacked.
                assert_eq!(encoded(entry), [bytes, &b"\xff\xff\xff\xff"[..]].concat());
                without_cversion += 1;
            }
            _ => assert_eq!(encoded(entry), *bytes),
        }
    }
    assert_ne!(without_cversion, 0);
}

#[test]
fn a_close_session_without_a_list_keeps_its_digest() {
    let log = log!("close-session-without-list");
    let entries = decoded(&log);
    let closed: Vec<_> = entries.iter().filter(|entry| entry.txn.op() == Op::CloseSession).collect();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].txn, Txn::CloseSession { paths: None });
    assert!(closed[0].digest.is_some_and(|digest| digest.version == TxnDigest::VERSION));
}

#[test]
fn a_server_that_computes_no_digests_writes_none() {
    let log = log!("without-digest");
    assert!(decoded(&log).iter().all(|entry| entry.digest.is_none()));
}

#[test]
fn requests_java_could_not_decode_repeat_the_zxid_before_them() {
    let log = log!("undecodable-requests");
    let entries = decoded(&log);
    let repeated: Vec<_> =
        entries.windows(2).filter(|pair| pair[0].header.zxid == pair[1].header.zxid).map(|pair| &pair[1].txn).collect();
    assert!(!repeated.is_empty());
    assert!(repeated.iter().all(|txn| **txn == Txn::Error { code: Code::MarshallingError.raw() }), "{repeated:?}");
}

#[test]
fn a_reconfiguration_of_an_ensemble() {
    let log = log!("ensemble-reconfig");
    let entries = decoded(&log);
    assert_eq!(types(&entries), BTreeMap::from([("create", 15), ("createSession", 1), ("reconfig", 1)]));
    assert!(entries.iter().all(|entry| entry.header.zxid.epoch() == 1));
    let reconfig = entries.iter().find(|entry| entry.txn.op() == Op::Reconfig).unwrap();
    let Txn::Reconfig { path, data, version } = &reconfig.txn else { panic!("{reconfig:?}") };
    assert_eq!((&**path, *version), ("/zookeeper/config", -1));
    assert!(text(data.unwrap()).starts_with("server.1="));
}

#[test]
fn types_that_are_no_transactions_are_unknown() {
    let header = |op| TxnHeader { session: SessionId::NONE, cxid: 0, zxid: Zxid::ZERO, time_ms: 0, op };
    let known = [-11, -10, -1, 1, 2, 5, 7, 14, 15, 16, 19, 20, 21];
    for op in -20..120 {
        let unknown = match Txn::decode(&header(op), &mut Reader::new(&[0; 64])) {
            Err(error) => error.kind == DecodeErrorKind::UnknownType(op),
            Ok(_) => false,
        };
        assert_eq!(unknown, !known.contains(&op), "type {op}");
    }
}

#[test]
fn every_shorter_transaction_is_an_error_or_lacks_its_digest() {
    let log = log!("basic-3.9.4");
    let mut cut_count = 0;
    for bytes in log.iter().filter(|bytes| bytes.len() < 500) {
        let whole = Entry::decode(bytes).unwrap();
        let body_end = bytes.len() - whole.digest.map_or(0, |_| TxnDigest::BYTES);
        for end in 0..bytes.len() {
            let cut = Entry::decode(&bytes[..end]);
            // Two bodies may be shorter: a create was, before 3.4, and a closeSession may be empty.
            let optional = match whole.txn.op() {
                Op::Create => body_end - 4..body_end,
                Op::CloseSession => TxnHeader::BYTES..TxnHeader::BYTES + 1,
                _ => 0..0,
            };
            if end < body_end && !optional.contains(&end) {
                assert!(cut.unwrap_err().ran_out_of_bytes(), "{:?} cut to {end}", whole.txn);
            } else {
                assert_eq!(cut.unwrap().digest, None, "{:?} cut to {end}", whole.txn);
            }
            cut_count += 1;
        }
    }
    assert!(5_000 < cut_count, "{cut_count} cuts");
}
