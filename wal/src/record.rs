//! Records: what one append puts into a batch.
//!
//! Guarantees: what is encoded here decodes to the same record; a flipped bit anywhere in it is found. Any bytes
//! decode to records or to an error, never to a panic. Byte layout: the crate's front page.

use crate::limits::STATE_FILE_BYTES_MAX;
use zorilla_proto::Zxid;

/// What stands before the payload of a record.
pub const RECORD_HEADER_BYTES: usize = 20;

/// What a record says. The numbers are in the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One encoded transaction.
    Txn = 1,
    /// The epochs this server promised and took over.
    Epochs = 2,
    /// Every transaction above a zxid is void.
    Truncate = 3,
    /// A state file is complete up to a zxid.
    StateHead = 4,
    /// The log was closed on purpose; nothing follows in this life.
    Seal = 5,
    /// Nothing new: names the durable end after a quiet moment.
    IdleMark = 6,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Kind; 6] = [Kind::Txn, Kind::Epochs, Kind::Truncate, Kind::StateHead, Kind::Seal, Kind::IdleMark];

    fn from_raw(raw: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u32 == raw)
    }
}

/// The epochs of one server: the highest it promised to accept, and the one whose history it took over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Epochs {
    /// The highest epoch promised (`acceptedEpoch` in ZooKeeper).
    pub accepted: u32,
    /// The epoch of the last leader whose history was taken over (`currentEpoch`).
    pub current: u32,
}

/// One record as it stands in a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raw<'a> {
    /// What it says.
    pub kind: Kind,
    /// The transaction's zxid, what is truncated to, or what a state is complete up to. Zero where none applies.
    pub zxid: Zxid,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// Writes one record to the start of `out` and says how long it is. The payload is `head` and then `tail`.
pub(crate) fn encode(out: &mut [u8], kind: Kind, zxid: Zxid, head: &[u8], tail: &[u8]) -> usize {
    let payload_bytes = head.len() + tail.len();
    let end = RECORD_HEADER_BYTES + payload_bytes;
    let split = RECORD_HEADER_BYTES + head.len();
    out[0..4].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    out[8..12].copy_from_slice(&(kind as u32).to_le_bytes());
    out[12..20].copy_from_slice(&zxid.raw().to_le_bytes());
    out[RECORD_HEADER_BYTES..split].copy_from_slice(head);
    out[split..end].copy_from_slice(tail);
    let crc = checksum(&out[..end]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    end
}

/// Covers everything of a record but the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[0..4]), &record[8..])
}

pub(crate) fn encode_epochs(epochs: Epochs) -> [u8; 8] {
    let mut out = [0; 8];
    out[0..4].copy_from_slice(&epochs.accepted.to_le_bytes());
    out[4..8].copy_from_slice(&epochs.current.to_le_bytes());
    out
}

pub(crate) fn decode_epochs(payload: &[u8]) -> Result<Epochs, &'static str> {
    let bytes: [u8; 8] = payload.try_into().map_err(|_| "a record of epochs that is not eight bytes long")?;
    let [a, b, c, d, e, f, g, h] = bytes;
    Ok(Epochs { accepted: u32::from_le_bytes([a, b, c, d]), current: u32::from_le_bytes([e, f, g, h]) })
}

/// The payload of a state head: whether it replaces the history before it, and the name of the file.
pub(crate) fn decode_state_head(payload: &[u8]) -> Result<(bool, &str), &'static str> {
    let (replaces, file) = payload.split_first().ok_or("an empty state head")?;
    if STATE_FILE_BYTES_MAX < file.len() {
        return Err("a state head whose file name is too long");
    }
    let file = std::str::from_utf8(file).map_err(|_| "a state head whose file name is not text")?;
    match replaces {
        0 => Ok((false, file)),
        1 => Ok((true, file)),
        _ => Err("a state head that neither keeps nor replaces the history"),
    }
}

/// The records of one batch body, in order. Ends after the first error.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Records<'a> {
        Records { rest: body }
    }

    fn read(&mut self) -> Result<Raw<'a>, &'static str> {
        let header = self.rest.get(..RECORD_HEADER_BYTES).ok_or("half a record header at the end of a batch")?;
        let payload_bytes = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let end = RECORD_HEADER_BYTES.checked_add(payload_bytes).ok_or("a record of impossible length")?;
        let record = self.rest.get(..end).ok_or("a record that is longer than its batch")?;
        if checksum(record) != u32::from_le_bytes([header[4], header[5], header[6], header[7]]) {
            return Err("a record whose checksum differs");
        }
        let kind = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let kind = Kind::from_raw(kind).ok_or("a record of unknown kind")?;
        let mut zxid = [0; 8];
        zxid.copy_from_slice(&header[12..20]);
        self.rest = &self.rest[end..];
        Ok(Raw { kind, zxid: Zxid::from_raw(u64::from_le_bytes(zxid)), payload: &record[RECORD_HEADER_BYTES..] })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Raw<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_went_in() {
        let mut body = vec![0; 4096];
        let mut used = 0;
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            used += encode(&mut body[used..], kind, Zxid::from_raw(at as u64), b"he", &vec![at as u8; at * 7]);
        }
        let records: Vec<_> = Records::new(&body[..used]).map(Result::unwrap).collect();
        assert_eq!(records.len(), Kind::ALL.len());
        for (at, record) in records.iter().enumerate() {
            assert_eq!(record.kind, Kind::ALL[at]);
            assert_eq!(record.zxid, Zxid::from_raw(at as u64));
            assert_eq!(&record.payload[..2], b"he");
            assert_eq!(record.payload.len(), 2 + at * 7);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut record = vec![0; 64];
        let used = encode(&mut record, Kind::Txn, Zxid::from_raw(0x2_0000_0017), b"", b"payload");
        for bit in 0..used * 8 {
            let mut flipped = record[..used].to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Records::new(&flipped).any(|read| read.is_err()), "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn any_cut_of_a_record_is_an_error_and_ends_the_batch() {
        let mut record = vec![0; 64];
        let used = encode(&mut record, Kind::Txn, Zxid::from_raw(1), b"", b"payload");
        for bytes in 1..used {
            let mut records = Records::new(&record[..bytes]);
            assert!(records.next().unwrap().is_err(), "{bytes} bytes of {used} were taken for a record");
            assert!(records.next().is_none());
        }
    }

    #[test]
    fn payloads_of_other_shapes_are_refused() {
        assert_eq!(decode_epochs(&encode_epochs(Epochs { accepted: 7, current: 5 })).unwrap().current, 5);
        assert!(decode_epochs(&[0; 7]).is_err());
        assert_eq!(decode_state_head(b"\x01state.7").unwrap(), (true, "state.7"));
        assert!(decode_state_head(b"").is_err());
        assert!(decode_state_head(b"\x02x").is_err());
        assert!(decode_state_head(b"\x00\xff").is_err());
        assert!(decode_state_head(&[0; STATE_FILE_BYTES_MAX + 2]).is_err());
    }
}
