//! The digest of a server's tree, computed from what a client sees and compared with what the server says (`hash`).
//!
//! Digests of two servers differ, because zxids and times do; so each server's is checked against its own tree. A server keeps
//! digests of the zxids that 128 divides: failing requests move it to the next of these.

use zorilla_proto::op::Op;

use crate::script::{Field, Request, unhex};
use crate::side::Side;
use crate::wire::{Part, Reply};

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// The server does not show its digests.
    NotShown(String),
    Wrong(String),
}

/// Between two zxids whose digests are kept.
const INTERVAL: i64 = 128;

const TTL_MS: i64 = 1 << 30;

fn crc32(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn text(value: &str) -> Field {
    Field::Str(Some(value.to_owned()))
}

/// The number behind `label` in a printed stat.
fn number(texts: &str, label: &str) -> i64 {
    let after = texts.split(label).nth(1).unwrap_or_default();
    let end = after.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(after.len());
    after[..end].parse().unwrap_or_default()
}

/// One znode's share, from its getData reply.
fn share(path: &str, reply: &Reply) -> u64 {
    let (mut texts, mut zxids, mut times, mut owner) = (String::new(), Vec::new(), Vec::new(), 0);
    for part in &reply.body {
        match part {
            Part::Text(text) => texts.push_str(text),
            Part::Zxid(zxid) => zxids.push(*zxid),
            Part::Time { ms, .. } => times.push(*ms),
            Part::Session(id) => owner = *id,
        }
    }
    let data = texts.trim_start_matches(" data=").split(' ').next().unwrap_or_default();
    let created = (number(&texts, " cv=") + number(&texts, " kids=")) / 2;
    // What kind of znode it is does not show: the name says it.
    let owner = match path.rsplit('/').next() {
        Some("container") => i64::MIN,
        Some("ttl") => (0xff << 56) | TTL_MS,
        _ => owner,
    };
    let mut bytes = if path == "/" { Vec::new() } else { path.as_bytes().to_vec() };
    bytes.extend(unhex(data).unwrap_or_default());
    for long in [zxids[0], zxids[1], zxids[2], times[0], times[1]] {
        bytes.extend(long.to_be_bytes());
    }
    for int in [number(&texts, " v="), created, number(&texts, " av=")] {
        bytes.extend((int as i32).to_be_bytes());
    }
    bytes.extend(owner.to_be_bytes());
    u64::from(crc32(bytes))
}

/// Furnishes the tree, and compares its digest.
pub fn verify(side: &mut Side, has_ttl: bool) -> Verdict {
    let create = |op: Op, path: &str, data: Option<&[u8]>, flags: i32| {
        let head = vec![text(path), Field::Buf(data.map(<[u8]>::to_vec)), Field::Count(1), Field::Int(31)];
        let mut fields = [head, vec![text("world"), text("anyone"), Field::Int(flags)]].concat();
        if op == Op::CreateTtl {
            fields.push(Field::Long(TTL_MS));
        }
        Request::new(op, fields)
    };
    let mut paths = vec!["/digest", "/digest/null", "/digest/ephemeral", "/digest/container", "/digest/container/a"];
    let mut requests = vec![
        create(Op::Create, paths[0], Some(b"data"), 0),
        create(Op::Create, paths[1], None, 0),
        create(Op::Create, paths[2], Some(b""), 1),
        create(Op::CreateContainer, paths[3], None, 4),
        create(Op::Create, paths[4], Some(b"x"), 0),
        create(Op::Create, "/digest/gone", Some(b"x"), 0),
        Request::new(Op::Delete, vec![text("/digest/gone"), Field::Int(-1)]),
        Request::new(Op::SetData, vec![text("/digest"), Field::Buf(Some(b"more".to_vec())), Field::Int(0)]),
    ];
    if has_ttl {
        paths.push("/digest/ttl");
        requests.push(create(Op::CreateTtl, "/digest/ttl", Some(b"t"), 5));
    }
    if let Some(failed) = side.admin(&requests).iter().find(|reply| reply.code != 0) {
        return Verdict::Wrong(format!("{} failed: {}", failed.asked, failed.code));
    }
    let missing = INTERVAL - side.last_zxid() % INTERVAL;
    let fail = Request::new(Op::Delete, vec![text("/digest/none"), Field::Int(-1)]);
    side.admin(&vec![fail; missing as usize]);
    let zxid = side.last_zxid();
    let all = [vec!["/", "/zookeeper"], paths.clone()].concat();
    let reads: Vec<Request> =
        all.iter().map(|path| Request::new(Op::GetData, vec![text(path), Field::Bool(0)])).collect();
    let replies = side.admin(&reads);
    let mut expected = 0u64;
    for (path, reply) in all.iter().zip(&replies) {
        if reply.code != 0 {
            return Verdict::Wrong(format!("{path} cannot be read: {}", reply.code));
        }
        expected = expected.wrapping_add(share(path, reply));
    }
    let said = side.server.word("hash").unwrap_or_default();
    let deletes: Vec<Request> =
        paths.iter().rev().map(|path| Request::new(Op::Delete, vec![text(path), Field::Int(-1)])).collect();
    side.admin(&deletes);
    if said.contains("not served") {
        return Verdict::NotShown(said.trim().to_owned());
    }
    let line = format!("{zxid:x}: {expected}");
    if said.lines().any(|known| known.trim_start_matches("0x") == line) {
        return Verdict::Same;
    }
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    Verdict::Wrong(format!("computed {line:?}, and hash says {last:?}"))
}
