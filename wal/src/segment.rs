//! Headers of segments and batches, and the names of the files they are in.
//!
//! Guarantees: a header that decodes is exactly one that was encoded for this store; everything else is told
//! apart as blank, bad, foreign or of another version. Byte layout: the crate's front page.

use crate::limits::{SEGMENT_HEADER_BYTES, STATE_FILE_BYTES_MAX};
use crate::record::Epochs;
use std::fmt;
use std::sync::Arc;
use zorilla_proto::Zxid;

/// What stands before the records of a batch.
pub const BATCH_HEADER_BYTES: usize = 72;

/// The part of a segment's header that says something; the rest of its block is zero.
pub(crate) const SEGMENT_FIELDS_BYTES: usize = 112 + STATE_FILE_BYTES_MAX;

/// The version of the format that this code writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// In a segment's header: this segment voids nothing.
pub(crate) const VOID_NOTHING: u64 = u64::MAX;

const SEGMENT_MAGIC: [u8; 8] = *b"ZORILSEG";
const BATCH_MAGIC: [u8; 8] = *b"ZORILBAT";

/// Which store a file belongs to. Drawn at random once, when the store is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StoreId(pub u128);

impl StoreId {
    /// What the checksums of batches begin with, so that bytes a client sent never pass for a batch.
    pub(crate) fn checksum_seed(self) -> u32 {
        crc32c::crc32c(&self.0.to_le_bytes())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

/// The newest state file and how far it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateHead {
    /// Its name, at most [`STATE_FILE_BYTES_MAX`] bytes.
    pub file: String,
    /// Every transaction up to here is in it.
    pub zxid: Zxid,
}

/// What the log knows at one place, without the transactions themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) last_zxid: Zxid,
    pub(crate) epochs: Epochs,
    /// Shared, because every batch carries the facts on.
    pub(crate) state_head: Option<Arc<StateHead>>,
}

impl Facts {
    pub(crate) fn none() -> Facts {
        Facts { last_zxid: Zxid::ZERO, epochs: Epochs::default(), state_head: None }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) store: StoreId,
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) salt: u64,
    pub(crate) seq: u64,
    pub(crate) durable_seq: u64,
    pub(crate) chain: u32,
    pub(crate) void_above: u64,
    /// As they were before the first record of this segment, but with what it voids already taken off.
    pub(crate) facts: Facts,
}

/// What stands where a segment's header is expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SegmentSeen {
    Valid {
        header: SegmentHeader,
        crc: u32,
    },
    /// All zero: prepared, never used.
    Blank,
    Bad,
    OtherVersion(u32),
}

impl SegmentHeader {
    /// Fills the whole block and returns the checksum that the next header names as its chain.
    pub(crate) fn encode(&self, block: &mut [u8]) -> u32 {
        let block = &mut block[..SEGMENT_HEADER_BYTES];
        block.fill(0);
        block[0..8].copy_from_slice(&SEGMENT_MAGIC);
        block[12..16].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[16..32].copy_from_slice(&self.store.0.to_le_bytes());
        block[32..40].copy_from_slice(&self.number.to_le_bytes());
        block[40..48].copy_from_slice(&self.bytes.to_le_bytes());
        block[48..56].copy_from_slice(&self.salt.to_le_bytes());
        block[56..64].copy_from_slice(&self.seq.to_le_bytes());
        block[64..72].copy_from_slice(&self.durable_seq.to_le_bytes());
        block[72..76].copy_from_slice(&self.chain.to_le_bytes());
        block[76..80].copy_from_slice(&self.facts.epochs.accepted.to_le_bytes());
        block[80..84].copy_from_slice(&self.facts.epochs.current.to_le_bytes());
        block[88..96].copy_from_slice(&self.facts.last_zxid.raw().to_le_bytes());
        block[96..104].copy_from_slice(&self.void_above.to_le_bytes());
        if let Some(head) = &self.facts.state_head {
            // One more than the length, so that a state with an empty name differs from no state.
            block[84..88].copy_from_slice(&(head.file.len() as u32 + 1).to_le_bytes());
            block[104..112].copy_from_slice(&head.zxid.raw().to_le_bytes());
            block[112..112 + head.file.len()].copy_from_slice(head.file.as_bytes());
        }
        let crc = crc32c::crc32c(&block[12..]);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    pub(crate) fn decode(block: &[u8]) -> SegmentSeen {
        let Some(block) = block.get(..SEGMENT_HEADER_BYTES) else { return SegmentSeen::Bad };
        if block[0..8] != SEGMENT_MAGIC {
            return if block.iter().all(|byte| *byte == 0) { SegmentSeen::Blank } else { SegmentSeen::Bad };
        }
        let crc = crc32c::crc32c(&block[12..]);
        if crc != u32_at(block, 8) {
            return SegmentSeen::Bad;
        }
        let version = u32_at(block, 12);
        if version != FORMAT_VERSION {
            return SegmentSeen::OtherVersion(version);
        }
        let state_head = match u32_at(block, 84) as usize {
            0 => None,
            more => {
                let Some(file) = block[112..].get(..more - 1) else { return SegmentSeen::Bad };
                let Ok(file) = std::str::from_utf8(file) else { return SegmentSeen::Bad };
                Some(Arc::new(StateHead { file: file.to_owned(), zxid: Zxid::from_raw(u64_at(block, 104)) }))
            }
        };
        let mut store = [0; 16];
        store.copy_from_slice(&block[16..32]);
        let header = SegmentHeader {
            store: StoreId(u128::from_le_bytes(store)),
            number: u64_at(block, 32),
            bytes: u64_at(block, 40),
            salt: u64_at(block, 48),
            seq: u64_at(block, 56),
            durable_seq: u64_at(block, 64),
            chain: u32_at(block, 72),
            void_above: u64_at(block, 96),
            facts: Facts {
                last_zxid: Zxid::from_raw(u64_at(block, 88)),
                epochs: Epochs { accepted: u32_at(block, 76), current: u32_at(block, 80) },
                state_head,
            },
        };
        SegmentSeen::Valid { header, crc }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchHeader {
    /// Of this header and the records, without the zeros up to the next block.
    pub(crate) bytes: u32,
    pub(crate) count: u32,
    pub(crate) seq: u64,
    pub(crate) salt: u64,
    pub(crate) chain: u32,
    pub(crate) durable_seq: u64,
    pub(crate) first_zxid: Zxid,
    pub(crate) last_zxid: Zxid,
}

impl BatchHeader {
    /// Fills in the header of a batch whose records already stand in `batch`, which is whole blocks with zeros
    /// after the records. Returns the checksum that the next header names as its chain.
    pub(crate) fn encode(&self, batch: &mut [u8], checksum_seed: u32) -> u32 {
        let body_crc = crc32c::crc32c(&batch[BATCH_HEADER_BYTES..]);
        let header = &mut batch[..BATCH_HEADER_BYTES];
        header[0..8].copy_from_slice(&BATCH_MAGIC);
        header[12..16].copy_from_slice(&body_crc.to_le_bytes());
        header[16..20].copy_from_slice(&self.bytes.to_le_bytes());
        header[20..24].copy_from_slice(&self.count.to_le_bytes());
        header[24..32].copy_from_slice(&self.seq.to_le_bytes());
        header[32..40].copy_from_slice(&self.salt.to_le_bytes());
        header[40..44].copy_from_slice(&self.chain.to_le_bytes());
        header[44..48].fill(0);
        header[48..56].copy_from_slice(&self.durable_seq.to_le_bytes());
        header[56..64].copy_from_slice(&self.first_zxid.raw().to_le_bytes());
        header[64..72].copy_from_slice(&self.last_zxid.raw().to_le_bytes());
        let crc = crc32c::crc32c_append(checksum_seed, &header[12..]);
        header[8..12].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The header at the start of `bytes`, its own checksum and that of its body; or nothing, if it is not one.
    pub(crate) fn decode(bytes: &[u8], checksum_seed: u32) -> Option<(BatchHeader, u32, u32)> {
        let header = bytes.get(..BATCH_HEADER_BYTES)?;
        if header[0..8] != BATCH_MAGIC {
            return None;
        }
        let crc = crc32c::crc32c_append(checksum_seed, &header[12..]);
        if crc != u32_at(header, 8) {
            return None;
        }
        let seen = BatchHeader {
            bytes: u32_at(header, 16),
            count: u32_at(header, 20),
            seq: u64_at(header, 24),
            salt: u64_at(header, 32),
            chain: u32_at(header, 40),
            durable_seq: u64_at(header, 48),
            first_zxid: Zxid::from_raw(u64_at(header, 56)),
            last_zxid: Zxid::from_raw(u64_at(header, 64)),
        };
        Some((seen, crc, u32_at(header, 12)))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// What a file in the log's directory is, by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Name {
    /// Part of the log, or prepared to become the next part.
    Segment(u64),
    /// Purged, kept to be used again.
    Spare(u64),
    /// Being filled; worthless after a crash.
    Making(u64),
}

impl Name {
    pub(crate) fn parse(name: &str) -> Option<Name> {
        let (kind, number) = name.split_once('.')?;
        if number.len() != 16 || number.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let number = u64::from_str_radix(number, 16).ok()?;
        match kind {
            "segment" => Some(Name::Segment(number)),
            "spare" => Some(Name::Spare(number)),
            "making" => Some(Name::Making(number)),
            _ => None,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Segment(number) => write!(out, "segment.{number:016x}"),
            Name::Spare(number) => write!(out, "spare.{number:016x}"),
            Name::Making(number) => write!(out, "making.{number:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment_header() -> SegmentHeader {
        SegmentHeader {
            store: StoreId(0x1234_5678_9abc_def0_1122_3344_5566_7788),
            number: 7,
            bytes: 1 << 26,
            salt: 0xfeed,
            seq: 99,
            durable_seq: 97,
            chain: 0xabcd,
            void_above: VOID_NOTHING,
            facts: Facts {
                last_zxid: Zxid::from_raw(0x2_0000_0017),
                epochs: Epochs { accepted: 3, current: 2 },
                state_head: Some(Arc::new(StateHead { file: "run.17".into(), zxid: Zxid::from_raw(0x2_0000_0001) })),
            },
        }
    }

    #[test]
    fn a_segment_header_comes_back_and_every_flipped_bit_is_found() {
        let header = segment_header();
        let mut block = vec![0xff; SEGMENT_HEADER_BYTES];
        let crc = header.encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), SegmentSeen::Valid { header, crc });
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&block), SegmentSeen::Bad, "bit {bit} went unnoticed");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// The format is a promise to files that exist: a change of layout must change the version.
    #[test]
    fn the_layout_of_both_headers_is_fixed() {
        let mut block = vec![0; SEGMENT_HEADER_BYTES];
        let crc = segment_header().encode(&mut block);
        assert_eq!(crc, GOLDEN_SEGMENT_CRC);
        let batch = BatchHeader {
            bytes: 100,
            count: 2,
            seq: 100,
            salt: 0xfeed,
            chain: crc,
            durable_seq: 98,
            first_zxid: Zxid::from_raw(0x2_0000_0018),
            last_zxid: Zxid::from_raw(0x2_0000_0019),
        };
        let mut bytes = vec![0; 4096];
        bytes[BATCH_HEADER_BYTES..100].fill(0x5a);
        assert_eq!(batch.encode(&mut bytes, StoreId(1).checksum_seed()), GOLDEN_BATCH_CRC);
        assert_eq!(BatchHeader::decode(&bytes, StoreId(1).checksum_seed()).unwrap().0, batch);
        assert!(BatchHeader::decode(&bytes, StoreId(2).checksum_seed()).is_none(), "another store's batch");
    }

    const GOLDEN_SEGMENT_CRC: u32 = 1_118_945_124;
    const GOLDEN_BATCH_CRC: u32 = 2_781_883_860;

    #[test]
    fn headers_of_other_kinds_are_told_apart() {
        let mut block = vec![0; SEGMENT_HEADER_BYTES];
        assert_eq!(SegmentHeader::decode(&block), SegmentSeen::Blank);
        assert_eq!(SegmentHeader::decode(&block[..100]), SegmentSeen::Bad);
        segment_header().encode(&mut block);
        block[12..16].copy_from_slice(&9u32.to_le_bytes());
        let crc = crc32c::crc32c(&block[12..]);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), SegmentSeen::OtherVersion(9));
    }

    #[test]
    fn only_names_as_we_write_them_are_ours() {
        for name in [Name::Segment(1), Name::Spare(0x2f), Name::Making(u64::MAX)] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for other in ["lock", "segment.1", "segment.00000000000000zz", "segment.000000000000000A", "log.200000001", ""]
        {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
