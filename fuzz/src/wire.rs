//! The wire: a description of every record's fields, apart from the decoders, and the decoders of `zorilla-proto`.

use zorilla_proto::frame::{Framed::Bad, split};
use zorilla_proto::limits::FRAME_BYTES_MAX_DEFAULT;
use zorilla_proto::{Op, TxnDigest, TxnHeader};

use crate::decoders::{self, Decoder};
use crate::random::Source;
use crate::{Group, Make, Outcome, Target};

/// What may stand in a multi, and in a multiRead.
const WRITES: &[Op] =
    &[Op::Create, Op::Create2, Op::CreateContainer, Op::CreateTtl, Op::Delete, Op::SetData, Op::Check];
const READS: &[Op] = &[Op::GetData, Op::GetChildren];
/// What may stand in the answer to either.
const RESULTS: &[Op] =
    &[Op::Create, Op::Create2, Op::Delete, Op::SetData, Op::Check, Op::GetData, Op::GetChildren, Op::Error];
/// What may stand in a multi of the log.
const PARTS: &[Op] = &[
    Op::Create,
    Op::Create2,
    Op::CreateContainer,
    Op::CreateTtl,
    Op::Delete,
    Op::DeleteContainer,
    Op::SetData,
    Op::Check,
    Op::Error,
];

/// Every decoder whose opcode has a record. For the others there is nothing to decode: they have no record, or are
/// refused for their opcode alone.
pub fn targets() -> Vec<Target> {
    let groups = [
        (Group::Connection, decoders::connection()),
        (Group::Requests, decoders::requests()),
        (Group::Replies, decoders::responses()),
        (Group::Txns, decoders::txns()),
    ];
    let mut targets = Vec::new();
    for (group, decoders) in groups {
        for decoder in decoders {
            let name = match decoder.op {
                Op::Notification if group != Group::Replies => decoder.name.to_owned(),
                op => format!("{} {op}", decoder.name),
            };
            if let Some(make) = maker(&decoder) {
                let run = move |bytes: &[u8]| {
                    // Frames are read up to the first that is none: that is no value only where nothing stands before it.
                    let is_frame = decoder.name != "frames" || !matches!(split(bytes, FRAME_BYTES_MAX_DEFAULT), Bad(_));
                    let is_decoded = decoder.read(bytes) && is_frame;
                    Outcome::of(is_decoded, is_decoded && decoder.check(bytes))
                };
                targets.push(Target { allocates: (128, 512), ..Target::new(group, name, make, run) });
            }
        }
    }
    targets
}

/// How to make input for a decoder; `None` where its opcode has no record.
fn maker(decoder: &Decoder) -> Option<Make> {
    let op = decoder.op;
    let fields =
        |schema: &'static str| -> Option<Make> { Some(Box::new(move |source: &mut Source| record(source, schema))) };
    match decoder.name {
        "frames" => Some(Box::new(frames)),
        "ConnectRequest" => Some(Box::new(connect_request)),
        "ConnectResponse" => Some(Box::new(connect_response)),
        "RequestHeader" => fields("ii"),
        "ReplyHeader" => fields("ili"),
        "MultiHeader" => fields("izi"),
        "Stat" => fields("S"),
        "Acl" => fields("iss"),
        "ClientInfo" => fields("ss"),
        "AclVec::from_raw" => Some(Box::new(|source| (0..source.below(5)).for_each(|_| record(source, "iss")))),
        "StringVec::from_raw" => Some(Box::new(|source| (0..source.below(5)).for_each(|_| source.string()))),
        "Request" => fields(request(op)?),
        "Response" => fields(response(op)?),
        "TxnHeader" => fields("lilli"),
        "Entry" => Some(Box::new(entry)),
        "Txn" => {
            let schema = txn(op)?;
            Some(Box::new(move |source| {
                record(source, schema);
                if op == Op::CloseSession || source.once_in(2) {
                    digest(source);
                }
            }))
        }
        "MultiPart" if PARTS.contains(&op) => fields(txn(op).or(part(op))?),
        "MultiPart" => None,
        other => panic!("the decoder {other} has no description"),
    }
}

/// The fields of a request's record, by one letter each (see [`record`]).
fn request(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Create | Op::Create2 | Op::CreateContainer => "sbAi",
        Op::CreateTtl => "sbAil",
        Op::Delete | Op::CheckWatches | Op::RemoveWatches | Op::AddWatch => "si",
        Op::Exists | Op::GetData | Op::GetChildren | Op::GetChildren2 => "sz",
        Op::SetData => "sbi",
        Op::GetAcl | Op::Sync | Op::GetEphemerals | Op::GetAllChildrenNumber | Op::DeleteContainer => "s",
        Op::SetAcl => "sAi",
        Op::Multi => "M",
        Op::MultiRead => "m",
        Op::Reconfig => "sssl",
        Op::Auth => "isb",
        Op::Sasl => "b",
        Op::SetWatches => "lVVV",
        Op::SetWatches2 => "lVVVVV",
        Op::Ping | Op::WhoAmI | Op::CloseSession => return None,
        Op::CreateSession | Op::Error | Op::Notification | Op::Check => return None,
    })
}

/// The fields of the record that answers a request.
fn response(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Create | Op::Sync => "s",
        Op::Create2 | Op::CreateContainer | Op::CreateTtl => "sS",
        Op::Exists | Op::SetData | Op::SetAcl => "S",
        Op::GetData | Op::Reconfig => "bS",
        Op::GetAcl => "AS",
        Op::GetChildren | Op::GetEphemerals => "V",
        Op::GetChildren2 => "VS",
        Op::Multi | Op::MultiRead => "R",
        Op::Sasl => "b",
        Op::GetAllChildrenNumber | Op::AddWatch => "i",
        Op::WhoAmI => "C",
        Op::Notification => "iis",
        Op::CloseSession
        | Op::CreateSession
        | Op::Error
        | Op::Delete
        | Op::Ping
        | Op::Check
        | Op::CheckWatches
        | Op::RemoveWatches
        | Op::DeleteContainer
        | Op::Auth
        | Op::SetWatches
        | Op::SetWatches2 => return None,
    })
}

/// The fields of a transaction's body.
fn txn(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Create | Op::Create2 => "sbAzi",
        Op::CreateContainer => "sbAi",
        Op::CreateTtl => "sbAil",
        Op::Delete | Op::DeleteContainer => "s",
        Op::SetData | Op::Reconfig => "sbi",
        Op::SetAcl => "sAi",
        Op::CreateSession | Op::Error => "i",
        Op::CloseSession => "V",
        Op::Multi => "T",
        _ => return None,
    })
}

/// The fields of the one body that only a multi may hold.
fn part(op: Op) -> Option<&'static str> {
    (op == Op::Check).then_some("si")
}

/// Appends a record: `i` and `l` are numbers, `z` a truth, `s` a string, `b` a buffer, `A` an ACL, `V` strings, `C`
/// identities, `S` a stat, `M` and `m` the operations of a multi and of a multiRead, `R` their results, `T` a multi of
/// the log.
fn record(source: &mut Source, schema: &str) {
    for field in schema.bytes() {
        match field {
            b'i' => source.i32(),
            b'l' => source.i64(),
            b'z' => source.bool(),
            b's' => source.string(),
            b'b' => source.buffer(),
            b'A' => source.vector(|source| record(source, "iss")),
            b'V' => source.vector(Source::string),
            b'C' => source.vector(|source| record(source, "ss")),
            b'S' => record(source, "lllliiiliil"),
            b'M' => operations(source, WRITES),
            b'm' => operations(source, READS),
            b'R' => results(source),
            b'T' => source.vector(|source| {
                let op = source.op(PARTS);
                source.within(|source| record(source, txn(op).or(part(op)).expect("every part has a body")));
            }),
            other => panic!("no field is described by {other}"),
        }
    }
}

fn operations(source: &mut Source, known: &[Op]) {
    for _ in 0..source.below(5) {
        let op = source.op(known);
        source.raw(&[0, 0xff, 0xff, 0xff, 0xff]);
        record(source, request(op).unwrap_or("si"));
    }
    source.raw(&[0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff]);
}

fn results(source: &mut Source) {
    for _ in 0..source.below(5) {
        let op = source.op(RESULTS);
        source.bool_false();
        source.i32();
        match op {
            Op::Delete | Op::Check => {}
            Op::Error => source.i32(),
            _ => record(source, response(op).expect("every other result has a record")),
        }
    }
    source.raw(&[0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff]);
}

fn frames(source: &mut Source) {
    for _ in 0..source.below(5) {
        let bytes = source.below(40);
        source.count(bytes);
        if source.once_in(2) {
            source.raw(&[0; 40][..bytes]);
        } else {
            let end = source.out.len() + bytes;
            while source.out.len() < end {
                let byte = source.draw() as u8;
                source.out.push(byte);
            }
        }
    }
}

fn connect_request(source: &mut Source) {
    record(source, "ilil");
    if source.once_in(2) {
        source.buffer();
    } else {
        source.raw(&[0, 0, 0, 16]);
        record(source, "ll");
    }
    if source.once_in(2) {
        source.bool();
    }
}

fn connect_response(source: &mut Source) {
    // Servers always say 0 here, and nobody looks.
    if source.once_in(2) {
        source.raw(&[0; 4])
    } else {
        source.i32()
    }
    record(source, "il");
    source.count(16);
    record(source, "ll");
    if source.once_in(2) {
        source.bool();
    }
}

/// A digest, mostly of the version that servers write. Zeros are what the decoders' own check puts behind a body.
fn digest(source: &mut Source) {
    if source.once_in(4) {
        record(source, "il");
    } else {
        source.raw(&TxnDigest::VERSION.to_be_bytes());
        source.raw(&[0; 8]);
    }
}

fn entry(source: &mut Source) {
    const OPS: &[Op] = &[
        Op::Create,
        Op::Create2,
        Op::CreateContainer,
        Op::CreateTtl,
        Op::Delete,
        Op::DeleteContainer,
        Op::SetData,
        Op::Reconfig,
        Op::SetAcl,
        Op::CreateSession,
        Op::CloseSession,
        Op::Multi,
        Op::Error,
    ];
    record(source, "lill");
    let op = source.op(OPS);
    debug_assert!(source.out.len() <= TxnHeader::BYTES);
    record(source, txn(op).expect("every transaction has a body"));
    if !source.once_in(8) {
        digest(source);
    }
}
