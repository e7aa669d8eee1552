//! The snapshot of a Java server, from a tree.
//!
//! Byte for byte what ZooKeeper 3.9.5 writes and reads (`storage-formats.md` 5): sessions, access lists, znodes with the
//! parents before their children, then the sections with the digest and with the last zxid, each sealed.

use std::collections::HashMap;
use std::io::{self, Write};

use adler2::Adler32;
use zorilla_proto::client::AclVec;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute;
use zorilla_proto::txn::TxnDigest;

use crate::tree::Tree;

const MAGIC: &[u8; 4] = b"ZKSN";
const VERSION: i32 = 2;
const DBID: i64 = -1;
/// The access list that everybody may do everything by, which is not in the table.
const OPEN: i64 = -1;

/// What is written so far, and its checksum.
struct Out<'w> {
    to: &'w mut dyn Write,
    adler: Adler32,
    bytes: u64,
    piece: Vec<u8>,
}

/// Bytes gathered before they are handed on.
const PIECE_BYTES: usize = 256 << 10;

impl Out<'_> {
    /// Hands on what was gathered, if it is enough.
    fn settle(&mut self, enough: usize) -> io::Result<()> {
        if enough <= self.piece.len() {
            self.adler.write_slice(&self.piece);
            self.to.write_all(&self.piece)?;
            self.bytes += self.piece.len() as u64;
            self.piece.clear();
        }
        Ok(())
    }

    /// Ends a section: the checksum of everything before, and a slash.
    fn seal(&mut self) -> io::Result<()> {
        self.settle(0)?;
        jute::put_i64(&mut self.piece, self.adler.checksum().into());
        jute::put_string(&mut self.piece, "/");
        self.settle(0)
    }
}

/// Writes the state after the transaction `zxid`; returns how many bytes it took. A session that has ephemerals must be
/// among `sessions` (id, timeout in ms), or a Java server deletes them at its start.
///
/// # Errors
/// `to` fails.
pub fn write_snapshot(to: &mut dyn Write, tree: &Tree, sessions: &[(SessionId, u32)], zxid: Zxid) -> io::Result<u64> {
    let mut out = Out { to, adler: Adler32::new(), bytes: 0, piece: Vec::with_capacity(2 * PIECE_BYTES) };
    out.piece.extend_from_slice(MAGIC);
    jute::put_i32(&mut out.piece, VERSION);
    jute::put_i64(&mut out.piece, DBID);
    jute::put_i32(&mut out.piece, count(sessions.len(), "sessions")?);
    for (session, timeout_ms) in sessions {
        jute::put_i64(&mut out.piece, session.raw());
        jute::put_i32(&mut out.piece, i32::try_from(*timeout_ms).unwrap_or(i32::MAX));
        out.settle(PIECE_BYTES)?;
    }
    let numbers = write_acls(&mut out, tree)?;
    write_znodes(&mut out, tree, &numbers)?;
    out.seal()?;
    // Without a transaction there is no digest to compare: the reference writes zeros.
    let digest = if zxid == Zxid::ZERO { 0 } else { tree.digest() };
    jute::put_i64(&mut out.piece, zxid.raw() as i64);
    TxnDigest::new(digest).encode(&mut out.piece);
    out.seal()?;
    jute::put_i64(&mut out.piece, zxid.raw() as i64);
    out.seal()?;
    Ok(out.bytes)
}

fn count(length: usize, what: &str) -> io::Result<i32> {
    let too_many = || io::Error::other(format!("{length} {what} do not fit a snapshot of ZooKeeper"));
    i32::try_from(length).map_err(|_| too_many())
}

/// The numbers of access lists, by their encoded elements.
type Numbers = HashMap<Box<[u8]>, i64>;

/// The table of access lists: each that a znode has, from number 1 on.
fn write_acls(out: &mut Out<'_>, tree: &Tree) -> io::Result<Numbers> {
    let mut numbers = Numbers::new();
    numbers.insert(AclVec::OPEN.raw().into(), OPEN);
    let mut lists = Vec::new();
    tree.for_each(|_, node| {
        let acl = node.acl();
        if !numbers.contains_key(acl.raw) {
            lists.push((acl.count, acl.raw.to_vec()));
            numbers.insert(acl.raw.into(), lists.len() as i64);
        }
    });
    jute::put_i32(&mut out.piece, count(lists.len(), "access lists")?);
    for (number, (entries, raw)) in lists.iter().enumerate() {
        jute::put_i64(&mut out.piece, number as i64 + 1);
        jute::put_i32(&mut out.piece, count(*entries as usize, "entries of an access list")?);
        out.piece.extend_from_slice(raw);
        out.settle(PIECE_BYTES)?;
    }
    Ok(numbers)
}

fn write_znodes(out: &mut Out<'_>, tree: &Tree, numbers: &Numbers) -> io::Result<()> {
    let mut result = Ok(());
    tree.for_each(|path, node| {
        if result.is_err() {
            return;
        }
        let version = node.version();
        let piece = &mut out.piece;
        jute::put_string(piece, if path == "/" { "" } else { path });
        jute::put_buffer(piece, node.data().as_deref());
        jute::put_i64(piece, numbers[node.acl().raw]);
        jute::put_i64(piece, version.czxid.raw() as i64);
        jute::put_i64(piece, version.mzxid.raw() as i64);
        jute::put_i64(piece, version.ctime_ms);
        jute::put_i64(piece, version.mtime_ms);
        jute::put_i32(piece, version.version);
        jute::put_i32(piece, version.children_created);
        jute::put_i32(piece, version.aversion);
        jute::put_i64(piece, version.owner);
        jute::put_i64(piece, version.pzxid.raw() as i64);
        result = out.settle(PIECE_BYTES);
    });
    result?;
    jute::put_string(&mut out.piece, "/");
    Ok(())
}
