//! State on disk: written once, mapped, never changed.
//!
//! A *run* is a file with znodes in the order of (parent path, name), exact at one zxid. Several runs over each other are
//! a state: an entry of a newer one hides that of an older one. Guarantees: every byte is covered by a checksum and
//! looked at before it is used; what is not in memory is never touched by a lookup, which says [`Cold`] instead;
//! damage is told with file and offset and never served.
//!
//! Refuses to know: trees, sessions' lives, the log, threads and clocks. The only unsafe code is in [`map`].
//!
//! | module | holds |
//! |---|---|
//! | [`version`] | one version of a znode |
//! | [`entry`] | what a run says of one path |
//! | [`writer`] | entries in order to the bytes of a run |
//! | [`run`] | a run that is mapped: lookups, listings, ephemerals, everything in order |
//! | [`merge`] | several runs to one, step by step |
//! | [`meta`] | what holds for the whole state: sessions, counts, access lists |
//! | [`map`] | the mapping and what may go wrong with it |
//! | `layout` | numbers, places, header and footer |
//! | [`limits`] | the named maxima |
//!
//! # Format, version 1
//!
//! All integers are little-endian; `crc` is CRC-32C; `varint` is seven bits per byte, lowest first, the high bit says
//! that more follow; `zz` is a varint of the zigzag form of a signed number. The file is cut into blocks of 65,536
//! bytes, the last one shorter; the body reaches from the header to the table of checksums.
//!
//! ```text
//! header, 64 bytes                                footer, the last 128 bytes
//!   0  8  magic "ZORILRUN"                          0  8  magic "ZORILEND"
//!   8  4  version, 1                                8  4  crc of bytes 12..128
//!  12  4  bytes of a block                         12  4  crc of the table of checksums
//!  16 16  store id                                 16 16  store id
//!  32  8  number of the run                        32  8  number of the run
//!  40  8  seed of path hashes                      40  8  identity: the same as in the header
//!  48  8  identity, random for each run            48  8  bytes of the file
//!  56  4  crc of bytes 0..56                       56  8  entries
//!  60  4  zero                                     64  8  place of the index
//!                                                  72  8  buckets of the index
//! body: groups, then from a multiple of 64         80  8  place of the ephemerals
//! the index, then ephemerals, containers and       88  8  how many
//! znodes with a time to live, meta                 96  8  place of the containers and znodes with a time to live
//!                                                 104  8  how many
//! table of checksums: 4 bytes for each block      112  8  place of the meta section
//! of everything before the table                  120  8  place of the table of checksums
//! ```
//!
//! A *group* holds the children of one parent that this run says something of: the byte 0xf0, varint length of the
//! parent's path and the path (empty for the root), the base zxid (8 bytes) and the base time (8), then entries in
//! the order of their names, then the byte 0xf1. The root itself is the child with the empty name of the empty path.
//!
//! ```text
//! entry   1 byte   kind: 0 absent, 1 as created, 2 changed since; plus 16 x value: 0 lower, 1 null, 2 plain, 3 packed
//!         varint   bytes back to the begin of its group
//!         varint   bytes of the name, then the name
//!  kinds 1 and 2:
//!         varint   access list, in the table of the meta section
//!         4        CRC-32 of path and data
//!         zz       czxid - base zxid
//!         zz       ctime - base time
//!  kind 2:
//!         zz       mzxid - czxid, pzxid - czxid, mtime - ctime, version, children created, aversion, owner
//!         varint   children
//!  value: lower    varint 2 x bytes + (1 if it is null), the data being that of the layer below
//!         plain    varint bytes, then the data
//!         packed   varint bytes, varint bytes of the zstd frame, then the frame
//! ```
//!
//! The *index* finds entries by the hash of their full path and groups by the hash of the parent's path. It is made of
//! buckets of 64 bytes: 7 slots of 4 bytes of hash (its low half) and 5 bytes of place in the file, and a last byte: how
//! many slots are used, plus 128 if what belongs here may stand in the next bucket, too. The home of a hash is
//! the high half of hash times buckets; no bucket behind the last one is needed, because there are spare ones.
//!
//! *Ephemerals* are pairs of owner and place of the entry (8 bytes each), in this order; *containers and znodes with a
//! time to live* are places (8 bytes each), in key order. *Meta*: see [`meta`].
//!
//! [`Cold`]: crate::run::Cold

pub mod entry;
pub mod error;
mod layout;
pub mod limits;
pub mod map;
pub mod merge;
pub mod meta;
pub mod run;
pub mod version;
pub mod writer;

pub use crate::entry::{Entry, Value, What};
pub use crate::error::Fault;
pub use crate::merge::{Merge, Progress};
pub use crate::meta::Meta;
pub use crate::run::{Children, Cold, Entries, EntryRef, Run};
pub use crate::version::{CONTAINER_OWNER, NodeKind, NodeVersion, ttl_owner};
pub use crate::writer::{DigestOf, FileSink, Sink, Spec, WriteError, Writer, Written};

/// The number of a run: its file is `run.<sixteen hexadecimal digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId(pub u64);

impl RunId {
    /// The name of its file.
    pub fn file_name(self) -> String {
        format!("run.{:016x}", self.0)
    }

    /// The name of its file while it is being written.
    pub fn making_name(self) -> String {
        format!("making.{:016x}", self.0)
    }
}

/// The hash by which runs find a path (the root's is the empty one): stable, a part of the format.
#[inline]
pub fn path_hash(seed: u64, path: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(path.as_bytes(), seed)
}

/// The hash by which the group of a parent is found, from the hash of the parent's path.
#[inline]
pub(crate) fn group_hash(path_hash: u64) -> u64 {
    (path_hash ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}
