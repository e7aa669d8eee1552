//! Snapshots of Java servers, znode by znode.
//!
//! ```text
//! magic int "ZKSN" | version int 2 | dbid long
//! sessions    int count, then each: id long, timeout int
//! ACL lists   int count, then each: id long, vector of ACLs
//! znodes      path string | data buffer | ACL id long | czxid mzxid ctime mtime long |
//!             version cversion aversion int | owner long | pzxid long;  parents first, the root is ""
//! end         string "/"
//! seal        checksum long, string "/"
//! digest?     zxid long | version int | digest long, then a seal
//! last zxid?  zxid long, then a seal
//! ```
//!
//! A seal's checksum is the Adler-32 of everything before it. Which of the last two sections are there is told by the
//! number of bytes behind the first seal. The whole may be packed with gzip or snappy.

use std::io::Read;
use std::path::PathBuf;

use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute;

use super::Fault;
use super::files::Compression;
use super::source::Source;

const MAGIC: i32 = i32::from_be_bytes(*b"ZKSN");
/// The ACL id of a znode that everybody may do everything with.
pub const ACL_OPEN: i64 = -1;
const SEAL_BYTES: usize = 13;
const DIGEST_BYTES: usize = 20 + SEAL_BYTES;
const LAST_ZXID_BYTES: usize = 8 + SEAL_BYTES;

/// An ACL list of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclList {
    /// The number by which znodes of this file name it.
    pub id: i64,
    /// How many elements it has.
    pub count: u32,
    /// Its elements, encoded, without the count.
    pub raw: Box<[u8]>,
}

/// A znode of the file, with its values as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Its full path; the root's is empty.
    pub path: &'a str,
    /// Its data; null and empty are told apart.
    pub data: Option<&'a [u8]>,
    /// [`ACL_OPEN`], or the id of a list. A file written while clients write may name one that it does not hold.
    pub acl: i64,
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The transaction that set its data last.
    pub mzxid: Zxid,
    /// When it was created, ms since 1970.
    pub ctime_ms: i64,
    /// When its data was set last, ms since 1970.
    pub mtime_ms: i64,
    /// Changes of its data.
    pub version: i32,
    /// Children ever created; clients see another number.
    pub cversion: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// The session that owns it, or a mark of its kind.
    pub owner: i64,
    /// The transaction that changed its children last.
    pub pzxid: Zxid,
}

/// The digest in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The last transaction applied when it was written; zero where none was since the server had started, and then the
    /// digest says nothing.
    pub zxid: Zxid,
    /// How it was computed.
    pub version: i32,
    /// The digest of the tree once everything up to `zxid` is applied to it.
    pub tree: u64,
}

/// What stands behind the znodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Written since 3.6.
    pub digest: Option<Recorded>,
    /// The last transaction applied when it was written; since 3.9. A start goes by the name of the file instead.
    pub last_zxid: Option<Zxid>,
    /// The size of the whole, unpacked.
    pub bytes: u64,
}

/// A snapshot that is being read.
pub struct Snapshot<R> {
    source: Source<R>,
    version: i32,
    dbid: i64,
    sessions: Vec<(SessionId, i32)>,
    acls: Vec<AclList>,
    /// Path and data of the znode that was read last.
    node: Vec<u8>,
    ended: bool,
}

impl<R: Read> Snapshot<R> {
    /// Reads what stands before the znodes. `length_max`: the longest string or buffer that is no damage; `name` is for
    /// messages only.
    pub fn open(
        name: impl Into<PathBuf>,
        bytes: R,
        compression: Compression,
        length_max: usize,
    ) -> Result<Snapshot<R>, Fault> {
        let mut source = Source::new(name.into(), bytes, compression, length_max);
        let magic = source.i32("the magic number of a snapshot")?;
        if magic != MAGIC {
            return Err(source.damaged(
                0,
                format!("{MAGIC:#x}, the magic number of a snapshot"),
                format!("{magic:#x}"),
            ));
        }
        let version = source.i32("the version of a snapshot")?;
        let dbid = source.i64("the dbid of a snapshot")?;
        let mut snapshot =
            Snapshot { source, version, dbid, sessions: Vec::new(), acls: Vec::new(), node: Vec::new(), ended: false };
        snapshot.read_sessions()?;
        snapshot.read_acls()?;
        Ok(snapshot)
    }

    fn read_sessions(&mut self) -> Result<(), Fault> {
        // As in the reference, a negative count is none.
        for _ in 0..self.source.i32("the number of sessions")? {
            let id = SessionId::from_raw(self.source.i64("a session's id")?);
            self.sessions.push((id, self.source.i32("a session's timeout")?));
        }
        Ok(())
    }

    fn read_acls(&mut self) -> Result<(), Fault> {
        for _ in 0..self.source.i32("the number of ACL lists")? {
            let id = self.source.i64("the id of an ACL list")?;
            let offset = self.source.offset();
            let count = self.source.i32("the length of an ACL list")?;
            let Ok(count) = u32::try_from(count) else {
                return Err(self.source.damaged(offset, "the length of an ACL list", count.to_string()));
            };
            let mut raw = Vec::new();
            for _ in 0..count {
                jute::put_i32(&mut raw, self.source.i32("the permissions of an ACL")?);
                for what in ["the scheme of an ACL", "the id of an ACL"] {
                    let at = raw.len();
                    jute::put_i32(&mut raw, 0);
                    let bytes = self.source.string(what, &mut raw)?;
                    raw[at..at + 4].copy_from_slice(&(bytes as u32).to_be_bytes());
                }
                if self.source.length_max() < raw.len() {
                    let expected = format!("an ACL list of at most {} bytes", self.source.length_max());
                    return Err(self.source.damaged(offset, expected, format!("{count} elements")));
                }
            }
            self.acls.push(AclList { id, count, raw: raw.into() });
        }
        Ok(())
    }

    /// The version in its header: 2. The reference does not look at it.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// The database id in its header: −1.
    pub fn dbid(&self) -> i64 {
        self.dbid
    }

    /// The sessions and their timeouts in ms, in no order.
    pub fn sessions(&self) -> &[(SessionId, i32)] {
        &self.sessions
    }

    /// The ACL lists, in no order.
    pub fn acls(&self) -> &[AclList] {
        &self.acls
    }

    /// Bytes read so far, unpacked.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// The next znode, in the order of the file; `None` behind the last one.
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows from it")]
    pub fn next(&mut self) -> Result<Option<Node<'_>>, Fault> {
        if self.ended {
            return Ok(None);
        }
        let Snapshot { source, node, .. } = self;
        node.clear();
        let offset = source.offset();
        let path_bytes = source.string("a znode's path", node)?;
        if node == b"/" {
            self.ended = true;
            return Ok(None);
        }
        if node.first().is_some_and(|first| *first != b'/') {
            let found = jute::text(node).into_owned();
            return Err(source.damaged(offset, "a path that begins with a slash, or the root's", found));
        }
        let data_bytes = source.buffer("a znode's data", node)?;
        let acl = source.i64("the id of a znode's ACL list")?;
        let stat: [u8; 60] = source.array("a znode's stat")?;
        let int = |at: usize| i32::from_be_bytes(std::array::from_fn(|i| stat[at + i]));
        let long = |at: usize| i64::from_be_bytes(std::array::from_fn(|i| stat[at + i]));
        let zxid = |at: usize| Zxid::from_raw(long(at) as u64);
        let (path, data) = self.node.split_at(path_bytes);
        Ok(Some(Node {
            path: str::from_utf8(path).expect("what was read as a string is text"),
            data: data_bytes.map(|_| data),
            acl,
            czxid: zxid(0),
            mzxid: zxid(8),
            ctime_ms: long(16),
            mtime_ms: long(24),
            version: int(32),
            cversion: int(36),
            aversion: int(40),
            owner: long(44),
            pzxid: zxid(52),
        }))
    }

    /// Reads and judges what stands behind the znodes, passing over those that were not asked for.
    pub fn finish(mut self) -> Result<Trailer, Fault> {
        while self.next()?.is_some() {}
        self.seal()?;
        let offset = self.source.offset();
        // The sections are taken whole first: their number follows from their length. The checksum of each covers the
        // earlier ones, so it is continued over what was taken.
        let mut adler = self.source.adler_so_far();
        let mut rest = Vec::new();
        self.source.extend(&mut rest, DIGEST_BYTES + LAST_ZXID_BYTES + 1)?;
        let (with_digest, with_last_zxid) = match rest.len() {
            0 => (false, false),
            LAST_ZXID_BYTES => (false, true),
            DIGEST_BYTES => (true, false),
            bytes if bytes == DIGEST_BYTES + LAST_ZXID_BYTES => (true, true),
            bytes => {
                let expected = format!(
                    "0, {LAST_ZXID_BYTES}, {DIGEST_BYTES} or {} bytes behind the first seal",
                    DIGEST_BYTES + LAST_ZXID_BYTES
                );
                return Err(self.source.damaged(offset, expected, format!("{bytes} or more")));
            }
        };
        let long = |at: usize| i64::from_be_bytes(std::array::from_fn(|i| rest[at + i]));
        let mut at = 0;
        let mut section = |bytes: usize| -> Result<usize, Fault> {
            let begin = at;
            adler.write_slice(&rest[begin..begin + bytes]);
            let (stored, computed) = (long(begin + bytes) as u64, adler.checksum());
            if stored != u64::from(computed) {
                let (expected, found) = (format!("the checksum {computed:#x}"), format!("{stored:#x}"));
                return Err(self.source.damaged(offset + (begin + bytes) as u64, expected, found));
            }
            adler.write_slice(&rest[begin + bytes..begin + bytes + SEAL_BYTES]);
            at = begin + bytes + SEAL_BYTES;
            Ok(begin)
        };
        let mut digest = None;
        if with_digest {
            let at = section(DIGEST_BYTES - SEAL_BYTES)?;
            let version = i32::from_be_bytes(std::array::from_fn(|i| rest[at + 8 + i]));
            digest = Some(Recorded { zxid: Zxid::from_raw(long(at) as u64), version, tree: long(at + 12) as u64 });
        }
        let mut last_zxid = None;
        if with_last_zxid {
            let at = section(LAST_ZXID_BYTES - SEAL_BYTES)?;
            last_zxid = Some(Zxid::from_raw(long(at) as u64));
        }
        Ok(Trailer { digest, last_zxid, bytes: self.source.offset() })
    }

    fn seal(&mut self) -> Result<(), Fault> {
        let (offset, computed) = (self.source.offset(), self.source.adler());
        let stored = self.source.i64("a checksum")? as u64;
        if stored != u64::from(computed) {
            let (expected, found) = (format!("the checksum {computed:#x}"), format!("{stored:#x}"));
            return Err(self.source.damaged(offset, expected, found));
        }
        // What the string says is not looked at, as in the reference; it is covered by the next seal.
        self.node.clear();
        self.source.string("the end of a seal", &mut self.node)?;
        Ok(())
    }
}
