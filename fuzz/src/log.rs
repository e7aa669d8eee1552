//! What the log reads when it is opened: headers, records and names, each by itself; and a whole log on a disk in
//! memory.

use std::cell::RefCell;

use zorilla_proto::Zxid;
use zorilla_wal::disk::Disk as _;
use zorilla_wal::disk::faulty::{FaultyDisk, Image};
use zorilla_wal::{OpenError, Options, RecordRef, StoreId, Wal};

use crate::limits::{BLOCK_BYTES, SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES};
use crate::random::Source;
use crate::record::{self, Epochs, Kind, RECORD_HEADER_BYTES, Records};
use crate::segment::{
    self, BATCH_HEADER_BYTES, BatchHeader, Facts, Name, SegmentHeader, SegmentSeen, StateHead, VOID_NOTHING,
};
use crate::{Group, Outcome, Target};

const STORE: StoreId = StoreId(0x1234_5678_9abc_def0);

/// All of them.
pub fn targets() -> Vec<Target> {
    vec![
        Target { repair: repair_records, ..Target::new(Group::Log, "records of a batch", records, read_records) },
        Target { repair: repair_batch, ..Target::new(Group::Log, "batch header", batch_header, read_batch_header) },
        Target {
            repair: repair_segment,
            ..Target::new(Group::Log, "segment header", segment_header, read_segment_header)
        },
        Target::new(Group::Log, "name of a file", name, read_name),
        Target {
            // It reads and prepares segments: what it allocates does not depend on the input, which only damages them.
            encodes: false,
            allocates: (0, 64 << 20),
            ..Target::new(Group::Log, "a whole log", wounds, whole_log())
        },
    ]
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

// ---- records ---------------------------------------------------------------------------------------------

fn one_record(source: &mut Source) {
    let kind = *source.pick(&Kind::ALL);
    let zxid = Zxid::from_raw(source.draw() >> source.below(64));
    let mut payload = Vec::new();
    match kind {
        Kind::Epochs => {
            let epochs = Epochs { accepted: source.below(9) as u32, current: source.draw() as u32 };
            payload.extend_from_slice(&record::encode_epochs(epochs));
        }
        Kind::StateHead => {
            payload.push(source.below(2) as u8);
            let file: &[u8] = source.pick::<&[u8]>(&[b"state.200000001", b"", b"x"]);
            payload.extend_from_slice(file);
        }
        Kind::Txn => payload.extend((0..source.below(40)).map(|byte| byte as u8)),
        Kind::Truncate | Kind::Seal | Kind::IdleMark => {}
    }
    let start = source.out.len();
    source.out.resize(start + RECORD_HEADER_BYTES + payload.len(), 0);
    record::encode(&mut source.out[start..], kind, zxid, &[], &payload);
}

fn records(source: &mut Source) {
    for _ in 0..=source.below(3) {
        one_record(source);
    }
}

/// Gives every record whose length fits the checksum of what it holds.
#[expect(clippy::ptr_arg, reason = "other repairs change the length")]
fn repair_records(bytes: &mut Vec<u8>) {
    let mut rest = &mut bytes[..];
    while let Some(payload_bytes) = u32_at(rest, 0) {
        let end = RECORD_HEADER_BYTES.saturating_add(payload_bytes as usize);
        let Some((record, behind)) = rest.split_at_mut_checked(end) else { return };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&record[0..4]), &record[8..]);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        rest = behind;
    }
}

fn read_records(bytes: &[u8]) -> Outcome {
    let mut again = Vec::new();
    for record in Records::new(bytes) {
        let Ok(record) = record else { return Outcome::Refused };
        let is_sound = match record.kind {
            Kind::Epochs => record::decode_epochs(record.payload)
                .map(|epochs| assert_eq!(record::encode_epochs(epochs), record.payload))
                .is_ok(),
            Kind::StateHead => record::decode_state_head(record.payload).is_ok(),
            _ => true,
        };
        if !is_sound {
            return Outcome::Refused;
        }
        let start = again.len();
        again.resize(start + RECORD_HEADER_BYTES + record.payload.len(), 0);
        let (head, tail) = record.payload.split_at(record.payload.len() / 2);
        record::encode(&mut again[start..], record.kind, record.zxid, head, tail);
    }
    Outcome::of(!bytes.is_empty(), again == bytes)
}

// ---- headers and names -----------------------------------------------------------------------------------

fn batch_header(source: &mut Source) {
    let header = BatchHeader {
        bytes: source.draw() as u32 >> source.below(32),
        count: source.below(9) as u32,
        seq: source.draw() >> source.below(64),
        salt: source.draw(),
        chain: source.draw() as u32,
        durable_seq: source.draw() >> source.below(64),
        first_zxid: Zxid::from_raw(source.draw() >> source.below(64)),
        last_zxid: Zxid::from_raw(source.draw() >> source.below(64)),
    };
    source.out.resize(BATCH_HEADER_BYTES + 32, 0);
    header.encode(&mut source.out, store_seed());
}

fn store_seed() -> u32 {
    segment::StoreId(STORE.0).checksum_seed()
}

#[expect(clippy::ptr_arg, reason = "other repairs change the length")]
fn repair_batch(bytes: &mut Vec<u8>) {
    if BATCH_HEADER_BYTES <= bytes.len() {
        let crc = crc32c::crc32c_append(store_seed(), &bytes[12..BATCH_HEADER_BYTES]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

fn read_batch_header(bytes: &[u8]) -> Outcome {
    let Some((header, crc, body_crc)) = BatchHeader::decode(bytes, store_seed()) else { return Outcome::Refused };
    let mut again = bytes.to_vec();
    let is_whole = header.encode(&mut again, store_seed()) == crc && u32_at(&again, 12) == Some(body_crc);
    Outcome::of(true, is_whole && again == bytes)
}

fn segment_header(source: &mut Source) {
    let state_head = source.once_in(2).then(|| {
        let file = (*source.pick(&["", "state.200000001", "\u{e9}"])).to_owned();
        StateHead { file, zxid: Zxid::from_raw(source.draw()) }.into()
    });
    let header = SegmentHeader {
        store: segment::StoreId(STORE.0),
        number: source.draw() >> source.below(64),
        bytes: source.draw() >> source.below(64),
        salt: source.draw(),
        seq: source.draw(),
        durable_seq: source.draw(),
        chain: source.draw() as u32,
        void_above: if source.once_in(2) { VOID_NOTHING } else { source.draw() },
        facts: Facts {
            last_zxid: Zxid::from_raw(source.draw()),
            epochs: Epochs { accepted: source.draw() as u32, current: source.below(3) as u32 },
            state_head,
        },
    };
    source.out.resize(SEGMENT_HEADER_BYTES, 0);
    header.encode(&mut source.out);
    // The length of the name is the one field that says where another ends.
    if source.is_daring && source.once_in(2) {
        let length = if source.once_in(2) { source.below(4096) as u32 } else { source.draw() as u32 };
        source.out[84..88].copy_from_slice(&length.to_le_bytes());
    }
}

fn repair_segment(bytes: &mut Vec<u8>) {
    bytes.resize(SEGMENT_HEADER_BYTES, 0);
    let crc = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

fn read_segment_header(bytes: &[u8]) -> Outcome {
    match SegmentHeader::decode(bytes) {
        SegmentSeen::Valid { header, crc } => {
            // A name that is too long for the block was refused; one that is longer than ours are still fits it.
            let mut again = vec![0xff; SEGMENT_HEADER_BYTES];
            let is_same = header.encode(&mut again) == crc && bytes.starts_with(&again);
            assert_eq!(
                SegmentHeader::decode(&again),
                SegmentSeen::Valid { crc: u32_at(&again, 8).unwrap_or(0), header }
            );
            Outcome::of(true, is_same)
        }
        SegmentSeen::Blank => {
            assert!(bytes[..SEGMENT_HEADER_BYTES].iter().all(|byte| *byte == 0));
            Outcome::Refused
        }
        SegmentSeen::Bad | SegmentSeen::OtherVersion(_) => Outcome::Refused,
    }
}

fn name(source: &mut Source) {
    let number = source.draw() >> source.below(64);
    let name = *source.pick(&[Name::Segment(number), Name::Spare(number), Name::Making(number)]);
    source.raw(name.to_string().as_bytes());
}

fn read_name(bytes: &[u8]) -> Outcome {
    let text = zorilla_proto::jute::text(bytes);
    match Name::parse(&text) {
        Some(name) => Outcome::of(true, name.to_string().as_bytes() == bytes),
        None => Outcome::Refused,
    }
}

// ---- a whole log -----------------------------------------------------------------------------------------

/// Wounds: where, and what is written there.
fn wounds(source: &mut Source) {
    for _ in 0..source.below(3) {
        let place = source.draw() as u32;
        source.raw(&place.to_le_bytes());
        let byte = source.draw() as u8;
        source.out.push(byte);
    }
}

/// The log of a few lives: transactions over several segments, an epoch, a truncation, and no seal at the end.
fn lived() -> Image {
    let files = FaultyDisk::new(Image::default(), false).files();
    let options = Options { store: STORE, segment_bytes: SEGMENT_BYTES_MIN };
    let mut last = Zxid::ZERO;
    for life in 0..3_u64 {
        let (mut wal, recovered) =
            Wal::open(files.disk(), options.clone(), life, &mut |_| Ok(())).expect("a log that is whole opens");
        last = recovered.last_zxid.max(last);
        for number in 0..20 {
            last = last.successor().expect("there is another zxid");
            wal.append(last, &[number; 300]).expect("there is room");
            wal.flush(0).expect("the disk works");
            while let Some(prepare) = wal.wants_segment() {
                wal.segment_prepared(prepare.run()).expect("there is room");
            }
        }
    }
    files.image()
}

/// Opens it wounded: whatever it says, what it hands on was appended, in order, without a gap.
fn whole_log() -> impl Fn(&[u8]) -> Outcome {
    let image = RefCell::new(None);
    move |bytes| {
        let mut image = image.borrow_mut().get_or_insert_with(lived).clone();
        let names: Vec<String> = image.files().map(|(name, _)| name.to_owned()).collect();
        for wound in bytes.chunks_exact(5) {
            let place = u32_at(wound, 0).unwrap_or(0) as usize;
            let name = &names[place % names.len()];
            let content = image.content_mut(name).expect("a file that was just listed");
            // Mostly among the headers and records, which stand at the beginning of blocks.
            let at = place / names.len() % content.len().max(1);
            let at = if place.is_multiple_of(4) { at } else { at / BLOCK_BYTES * BLOCK_BYTES + at % 128 };
            if let Some(byte) = content.get_mut(at) {
                *byte = wound[4];
            }
        }
        let mut last = Zxid::ZERO;
        let options = Options { store: STORE, segment_bytes: SEGMENT_BYTES_MIN };
        let opened = Wal::open(FaultyDisk::new(image, false), options, 99, &mut |record| {
            if let RecordRef::Txn { zxid, payload } = record {
                assert_eq!(last.successor(), Some(zxid), "a transaction is missing before {zxid}");
                assert!(payload.len() == 300 && payload.iter().all(|byte| *byte == payload[0]), "{zxid} was changed");
                last = zxid;
            }
            Ok(())
        });
        match opened {
            Ok((_, recovered)) => {
                assert_eq!(recovered.last_zxid, last);
                Outcome::Decoded
            }
            Err(OpenError::Io { op, path, source }) => panic!("{op} {}: {source}", path.display()),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                Outcome::Refused
            }
        }
    }
}
