//! Numbers, places, header and footer: bytes to values and back.

use std::path::Path;

use crate::error::Fault;
use crate::limits::{BLOCK_BYTES, META_BYTES_MAX, RUN_BYTES_MAX};

pub const HEADER_BYTES: usize = 64;
pub const FOOTER_BYTES: usize = 128;
pub const BUCKET_BYTES: usize = 64;
pub const SLOTS: usize = 7;
/// Slots that are used on average in a bucket.
pub const SLOTS_USED: u64 = 5;
/// Buckets behind the last home: what is spilled there finds room.
pub const BUCKETS_SPARE: u64 = 64;
pub const SLOT_BYTES: usize = 9;
/// In the last byte of a bucket: what belongs here may stand in the next one.
pub const SPILLED: u8 = 0x80;

pub const GROUP: u8 = 0xf0;
pub const GROUP_END: u8 = 0xf1;

pub const KIND_ABSENT: u8 = 0;
pub const KIND_CREATED: u8 = 1;
pub const KIND_CHANGED: u8 = 2;
pub const VALUE_LOWER: u8 = 0;
pub const VALUE_NULL: u8 = 1;
pub const VALUE_PLAIN: u8 = 2;
pub const VALUE_PACKED: u8 = 3;

const MAGIC_HEADER: &[u8; 8] = b"ZORILRUN";
const MAGIC_FOOTER: &[u8; 8] = b"ZORILEND";
const VERSION: u32 = 1;

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"))
}

/// What a file begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub store: u128,
    pub run: u64,
    pub seed: u64,
    pub identity: u64,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(MAGIC_HEADER);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        out[16..32].copy_from_slice(&self.store.to_le_bytes());
        out[32..40].copy_from_slice(&self.run.to_le_bytes());
        out[40..48].copy_from_slice(&self.seed.to_le_bytes());
        out[48..56].copy_from_slice(&self.identity.to_le_bytes());
        let crc = crc32c::crc32c(&out[..56]);
        out[56..60].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(file: &Path, bytes: &[u8; HEADER_BYTES]) -> Result<Header, Fault> {
        let fault = |at, what: String| Err(Fault::new(file, at, what));
        if &bytes[..8] != MAGIC_HEADER {
            return fault(0, format!("expected {MAGIC_HEADER:?}, found {:?}: this is no run", &bytes[..8]));
        }
        let (expected, found) = (u32_at(bytes, 56), crc32c::crc32c(&bytes[..56]));
        if expected != found {
            return fault(56, format!("expected a header with the checksum {expected:#010x}, found {found:#010x}"));
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return fault(8, format!("expected version {VERSION}, found {version}: written by another release"));
        }
        let block = u32_at(bytes, 12);
        if block as usize != BLOCK_BYTES || u32_at(bytes, 60) != 0 {
            return fault(12, format!("expected blocks of {BLOCK_BYTES} bytes, found {block}"));
        }
        Ok(Header {
            store: u128_at(bytes, 16),
            run: u64_at(bytes, 32),
            seed: u64_at(bytes, 40),
            identity: u64_at(bytes, 48),
        })
    }
}

/// What a file ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footer {
    pub table_crc: u32,
    pub store: u128,
    pub run: u64,
    pub identity: u64,
    pub bytes: u64,
    pub entries: u64,
    pub index: u64,
    pub buckets: u64,
    pub ephemerals: u64,
    pub ephemerals_count: u64,
    pub reapables: u64,
    pub reapables_count: u64,
    pub meta: u64,
    pub table: u64,
}

impl Footer {
    pub fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        out[0..8].copy_from_slice(MAGIC_FOOTER);
        out[12..16].copy_from_slice(&self.table_crc.to_le_bytes());
        out[16..32].copy_from_slice(&self.store.to_le_bytes());
        let words = [
            self.run,
            self.identity,
            self.bytes,
            self.entries,
            self.index,
            self.buckets,
            self.ephemerals,
            self.ephemerals_count,
            self.reapables,
            self.reapables_count,
            self.meta,
            self.table,
        ];
        for (index, word) in words.iter().enumerate() {
            out[32 + 8 * index..40 + 8 * index].copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads it, and checks that its places are in order and within a file of `bytes`.
    pub fn decode(file: &Path, found: &[u8; FOOTER_BYTES], bytes: u64) -> Result<Footer, Fault> {
        let place = bytes - FOOTER_BYTES as u64;
        let fault = |at: u64, what: String| Err(Fault::new(file, place + at, what));
        if &found[..8] != MAGIC_FOOTER {
            return fault(
                0,
                format!("expected {MAGIC_FOOTER:?}, found {:?}: the file is cut or not a run", &found[..8]),
            );
        }
        let (expected, crc) = (u32_at(found, 8), crc32c::crc32c(&found[12..]));
        if expected != crc {
            return fault(8, format!("expected a footer with the checksum {expected:#010x}, found {crc:#010x}"));
        }
        let word = |index: usize| u64_at(found, 32 + 8 * index);
        let footer = Footer {
            table_crc: u32_at(found, 12),
            store: u128_at(found, 16),
            run: word(0),
            identity: word(1),
            bytes: word(2),
            entries: word(3),
            index: word(4),
            buckets: word(5),
            ephemerals: word(6),
            ephemerals_count: word(7),
            reapables: word(8),
            reapables_count: word(9),
            meta: word(10),
            table: word(11),
        };
        if footer.bytes != bytes {
            return fault(48, format!("expected a file of {} bytes, found {bytes}", footer.bytes));
        }
        let end =
            |begin: u64, count: u64, each: u64| count.checked_mul(each).and_then(|bytes| begin.checked_add(bytes));
        let in_order = bytes <= RUN_BYTES_MAX
            && HEADER_BYTES as u64 <= footer.index
            && footer.index.is_multiple_of(BUCKET_BYTES as u64)
            && BUCKETS_SPARE < footer.buckets
            && end(footer.index, footer.buckets, BUCKET_BYTES as u64) == Some(footer.ephemerals)
            && end(footer.ephemerals, footer.ephemerals_count, 16) == Some(footer.reapables)
            && end(footer.reapables, footer.reapables_count, 8) == Some(footer.meta)
            && footer.meta <= footer.table
            && footer.table <= bytes
            && footer.table - footer.meta <= META_BYTES_MAX
            && footer.table + 4 * footer.table.div_ceil(BLOCK_BYTES as u64) + FOOTER_BYTES as u64 == bytes;
        if !in_order {
            return fault(64, format!("expected sections in order within {bytes} bytes, found {footer:?}"));
        }
        Ok(footer)
    }
}
