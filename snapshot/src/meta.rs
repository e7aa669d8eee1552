//! What holds for the whole state at the zxid of a run, so that a start scans nothing.
//!
//! Encoded as the fields stand in [`Meta`]: numbers of 8 bytes, 16 for the store; a list is its length (8) and its elements;
//! bytes and texts are their length (4) and themselves; an access list is its count of entries (4) and its bytes; a session
//! is id (8) and timeout (4); an owner is id (8), count (4) and bytes (8); a digest is zxid (8) and digest (8).

use zorilla_proto::ids::{SessionId, Zxid};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// The state is that after this transaction.
    pub zxid: Zxid,
    /// The digest of the whole tree.
    pub digest: u64,
    /// The sum of the digests of the znodes in this run; written by the writer.
    pub entries_digest: u64,
    /// Znodes of the whole tree.
    pub znodes: u64,
    /// Bytes of all paths and data of the whole tree.
    pub data_bytes: u64,
    /// Ephemerals of the whole tree.
    pub ephemerals: u64,
    /// The store this belongs to.
    pub store: u128,
    /// The highest session id handed out under this server's number.
    pub session_last: i64,
    /// When it was written, ms since 1970.
    pub written_ms: i64,
    /// The access lists of this run: entries, and encoded elements. Written by the writer.
    pub acls: Vec<(u32, Box<[u8]>)>,
    /// Open sessions and their timeouts, ms.
    pub sessions: Vec<(SessionId, u32)>,
    /// Sessions with ephemerals: how many, and what their paths take in a closeSession, bytes.
    pub owners: Vec<(SessionId, u32, u64)>,
    /// The subtrees that have a quota.
    pub quotas: Vec<String>,
    /// Digests of earlier states.
    pub digests: Vec<(Zxid, u64)>,
}

impl Meta {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let u64s = [self.zxid.raw(), self.digest, self.entries_digest, self.znodes, self.data_bytes, self.ephemerals];
        for word in u64s {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.store.to_le_bytes());
        out.extend(self.session_last.to_le_bytes());
        out.extend(self.written_ms.to_le_bytes());
        let length = |out: &mut Vec<u8>, length: usize| out.extend((length as u64).to_le_bytes());
        let bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        };
        length(out, self.acls.len());
        for (count, raw) in &self.acls {
            out.extend(count.to_le_bytes());
            bytes(out, raw);
        }
        length(out, self.sessions.len());
        for (session, timeout_ms) in &self.sessions {
            out.extend(session.raw().to_le_bytes());
            out.extend(timeout_ms.to_le_bytes());
        }
        length(out, self.owners.len());
        for (session, count, path_bytes) in &self.owners {
            out.extend(session.raw().to_le_bytes());
            out.extend(count.to_le_bytes());
            out.extend(path_bytes.to_le_bytes());
        }
        length(out, self.quotas.len());
        for subject in &self.quotas {
            bytes(out, subject.as_bytes());
        }
        length(out, self.digests.len());
        for (zxid, digest) in &self.digests {
            out.extend(zxid.raw().to_le_bytes());
            out.extend(digest.to_le_bytes());
        }
    }

    /// `Err`: where it cannot be read, and what was expected.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Meta, (usize, String)> {
        let mut from = From { bytes, at: 0 };
        let mut meta = Meta {
            zxid: Zxid::from_raw(from.u64()?),
            digest: from.u64()?,
            entries_digest: from.u64()?,
            znodes: from.u64()?,
            data_bytes: from.u64()?,
            ephemerals: from.u64()?,
            store: u128::from_le_bytes(from.array()?),
            session_last: from.u64()? as i64,
            written_ms: from.u64()? as i64,
            ..Meta::default()
        };
        for _ in 0..from.count(8)? {
            let count = from.u32()?;
            meta.acls.push((count, from.bytes()?.into()));
        }
        for _ in 0..from.count(12)? {
            meta.sessions.push((SessionId::from_raw(from.u64()? as i64), from.u32()?));
        }
        for _ in 0..from.count(20)? {
            meta.owners.push((SessionId::from_raw(from.u64()? as i64), from.u32()?, from.u64()?));
        }
        for _ in 0..from.count(4)? {
            let at = from.at;
            let subject =
                std::str::from_utf8(from.bytes()?).map_err(|error| (at, format!("expected a path: {error}")))?;
            meta.quotas.push(subject.to_owned());
        }
        for _ in 0..from.count(16)? {
            meta.digests.push((Zxid::from_raw(from.u64()?), from.u64()?));
        }
        if from.at != bytes.len() {
            return Err((from.at, format!("expected the end, found {} bytes more", bytes.len() - from.at)));
        }
        Ok(meta)
    }
}

struct From<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> From<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], (usize, String)> {
        let rest = &self.bytes[self.at..];
        let taken =
            rest.get(..length).ok_or_else(|| (self.at, format!("expected {length} bytes, found {}", rest.len())))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], (usize, String)> {
        Ok(self.take(N)?.try_into().expect("as many as asked for"))
    }

    fn u64(&mut self) -> Result<u64, (usize, String)> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, (usize, String)> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], (usize, String)> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// The length of a list whose elements have so many bytes at least.
    fn count(&mut self, each: usize) -> Result<u64, (usize, String)> {
        let at = self.at;
        let count = self.u64()?;
        let room = (self.bytes.len() - self.at) / each;
        if room < usize::try_from(count).unwrap_or(usize::MAX) {
            return Err((at, format!("expected room for {count} elements, found it for {room}")));
        }
        Ok(count)
    }
}
