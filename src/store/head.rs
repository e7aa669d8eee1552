//! Heads: which runs are in force. The newest valid one is the manifest of the state.
//!
//! A head is written under the name `making.<number>`, synced, renamed to `head.<number>`, and its directory synced; its runs
//! were published so before it. Then a record in the log names it, and only when that is durable may anything go that only
//! older heads name. So what is called `head` or `run` is whole, and a head that the log names is there: anything else is
//! damage.
//!
//! # Files of the folder
//!
//! | name | what it is |
//! |---|---|
//! | `head.<number>` | a head |
//! | `run.<number>` | a run of znodes, see `zorilla_snapshot` |
//! | `making.<number>` | being written; removed at the next start |
//!
//! Numbers are sixteen hexadecimal digits, counted up over all three kinds and never used twice.
//!
//! # Format, version 1
//!
//! All integers are little-endian; `crc` is CRC-32C.
//!
//! ```text
//!   0  8  magic "ZORILHED"
//!   8  4  crc of byte 12 to the end of the file
//!  12  4  version, 1
//!  16  8  number, as in the file's name
//!  24 16  store id, as in the log and in every run
//!  40  8  seed of the path hashes
//!  48  8  zxid: the state is complete up to it
//!  56  8  zxid up to which the state was exported to a Java directory in its place; 2^64-1: never
//!  64  1  1: begun by an import, so the log has nothing before it; else 0
//!  65  3  zero
//!  68  4  count of runs, at most 6
//!  72  …  32 bytes for each run, newest first:
//!           0  8  its number
//!           8  8  its bytes
//!          16  8  its zxid, that of the newest run is the head's
//!          24  8  its identity: the checksum that stands for its whole content
//! ```

use std::fmt;
use std::io;
use std::path::PathBuf;

use zorilla_proto::ids::Zxid;
use zorilla_wal::StoreId;
use zorilla_wal::disk::Files;

use crate::limits::RUNS_MAX;

const MAGIC: &[u8; 8] = b"ZORILHED";
/// The version that is written, and the only one that is read.
pub const HEAD_VERSION: u32 = 1;
const FIXED_BYTES: usize = 72;
const RUN_BYTES: usize = 32;
const NEVER: u64 = u64::MAX;

/// What a file of the state's folder is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Which runs are in force.
    Head(u64),
    /// Znodes.
    Run(u64),
    /// Being written.
    Making(u64),
}

impl Name {
    /// `None`: no file of ours.
    pub fn parse(name: &str) -> Option<Name> {
        let (kind, digits) = name.split_once('.')?;
        let hexadecimal = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16 && hexadecimal)?;
        match kind {
            "head" => Some(Name::Head(number)),
            "run" => Some(Name::Run(number)),
            "making" => Some(Name::Making(number)),
            _ => None,
        }
    }

    /// The number in it.
    pub fn number(self) -> u64 {
        match self {
            Name::Head(number) | Name::Run(number) | Name::Making(number) => number,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Head(number) => write!(f, "head.{number:016x}"),
            Name::Run(number) => write!(f, "run.{number:016x}"),
            Name::Making(number) => write!(f, "making.{number:016x}"),
        }
    }
}

/// A run as a head names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunFact {
    /// The number in its file's name.
    pub number: u64,
    /// The size of its file.
    pub bytes: u64,
    /// It is exact at this zxid, together with the runs below it.
    pub zxid: Zxid,
    /// The checksum that stands for its content.
    pub identity: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number in its file's name.
    pub number: u64,
    /// The store that log and runs belong to.
    pub store: StoreId,
    /// Of the path hashes.
    pub seed: u64,
    /// The state is complete up to it.
    pub zxid: Zxid,
    /// The state was exported in its place up to here.
    pub exported: Option<Zxid>,
    /// The state was imported: the log has nothing before it.
    pub imported: bool,
    /// Newest first.
    pub runs: Vec<RunFact>,
}

/// What is wrong with the content of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHead {
    /// Where in the file.
    pub offset: usize,
    /// What should stand there.
    pub expected: String,
    /// What does.
    pub found: String,
}

impl Head {
    /// The bytes of its file.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.runs.len() <= RUNS_MAX, "a head of {} runs", self.runs.len());
        let mut out = Vec::with_capacity(FIXED_BYTES + RUN_BYTES * self.runs.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&HEAD_VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.store.0.to_le_bytes());
        out.extend_from_slice(&self.seed.to_le_bytes());
        out.extend_from_slice(&self.zxid.raw().to_le_bytes());
        out.extend_from_slice(&self.exported.map_or(NEVER, Zxid::raw).to_le_bytes());
        out.extend_from_slice(&[u8::from(self.imported), 0, 0, 0]);
        out.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            for field in [run.number, run.bytes, run.zxid.raw(), run.identity] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The head that a file of this number holds.
    pub fn decode(number: u64, bytes: &[u8]) -> Result<Head, BadHead> {
        let bad = |offset: usize, expected: String, found: String| BadHead { offset, expected, found };
        let size = |expected: String| bad(bytes.len(), expected, format!("{} bytes", bytes.len()));
        if bytes.len() < FIXED_BYTES {
            return Err(size(format!("at least {FIXED_BYTES} bytes")));
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if &bytes[..8] != MAGIC {
            return Err(bad(0, "the magic of a head".into(), format!("{:02x?}", &bytes[..8])));
        }
        if u32_at(12) != HEAD_VERSION {
            return Err(bad(12, format!("version {HEAD_VERSION}"), format!("version {}", u32_at(12))));
        }
        let crc = crc32c::crc32c(&bytes[12..]);
        if u32_at(8) != crc {
            return Err(bad(8, format!("checksum {crc:08x}, that of the content"), format!("{:08x}", u32_at(8))));
        }
        // From here on the content is what was once written, whole; what does not fit was written elsewhere.
        if u64_at(16) != number {
            return Err(bad(16, format!("number {number:016x}, as in the name"), format!("{:016x}", u64_at(16))));
        }
        if 1 < bytes[64] || bytes[65..68] != [0; 3] {
            return Err(bad(64, "0 or 1, then zeros".into(), format!("{:02x?}", &bytes[64..68])));
        }
        let count = u32_at(68) as usize;
        if RUNS_MAX < count {
            return Err(bad(68, format!("at most {RUNS_MAX} runs"), format!("{count}")));
        }
        if bytes.len() != FIXED_BYTES + RUN_BYTES * count {
            return Err(size(format!("{} bytes for {count} runs", FIXED_BYTES + RUN_BYTES * count)));
        }
        let runs: Vec<RunFact> = (0..count)
            .map(|index| FIXED_BYTES + RUN_BYTES * index)
            .map(|at| RunFact {
                number: u64_at(at),
                bytes: u64_at(at + 8),
                zxid: Zxid::from_raw(u64_at(at + 16)),
                identity: u64_at(at + 24),
            })
            .collect();
        let store = u128::from_le_bytes(bytes[24..40].try_into().expect("sixteen bytes"));
        let head = Head {
            number,
            store: StoreId(store),
            seed: u64_at(40),
            zxid: Zxid::from_raw(u64_at(48)),
            exported: Some(u64_at(56)).filter(|raw| *raw != NEVER).map(Zxid::from_raw),
            imported: bytes[64] == 1,
            runs,
        };
        if head.runs.first().is_none_or(|newest| newest.zxid != head.zxid) {
            return Err(bad(48, "the zxid of the newest run".into(), head.zxid.to_string()));
        }
        if !head.runs.windows(2).all(|pair| pair[1].zxid <= pair[0].zxid) {
            return Err(bad(FIXED_BYTES, "runs with falling zxids".into(), "runs out of order".into()));
        }
        Ok(head)
    }

    /// The name of its file, as the log's record has it.
    pub fn file(&self) -> String {
        Name::Head(self.number).to_string()
    }

    /// Writes it durably under its name.
    pub fn publish<F: Files>(&self, files: &F) -> Result<(), WriteError> {
        let making = Name::Making(self.number).to_string();
        let written = self.write(files, &making).and_then(|()| rename(files, &making, &self.file()));
        if written.is_err() {
            // It takes no room worth speaking of, and the next start removes it anyway.
            let _ = files.remove(&making);
        }
        written
    }

    fn write<F: Files>(&self, files: &F, making: &str) -> Result<(), WriteError> {
        let at = |op, source| WriteError { op, path: files.path(making), source };
        let file = files.create(making).map_err(|source| at("create", source))?;
        let bytes = self.encode();
        let written = files.write_at(&file, 0, &bytes).map_err(|source| at("write", source))?;
        if written != bytes.len() {
            return Err(at("write", io::ErrorKind::StorageFull.into()));
        }
        files.sync(&file).map_err(|source| at("sync", source))
    }
}

/// Gives a synced file its name, durably.
pub fn rename<F: Files>(files: &F, making: &str, name: &str) -> Result<(), WriteError> {
    let at = |op, source| WriteError { op, path: files.path(name), source };
    files.rename(making, name).map_err(|source| at("rename", source))?;
    files.sync_directory().map_err(|source| at("sync the directory of", source))
}

/// A file of the state could not be written.
#[derive(Debug)]
pub struct WriteError {
    /// What was tried.
    pub op: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The answer of the operating system.
    pub source: io::Error,
}

impl WriteError {
    /// Whether it can be tried again later: the disk has no room, or takes no writes at present. What has no name of its own
    /// yet is removed and made again, so even a failed sync of it loses nothing, and a failed rename changes nothing; of a
    /// directory nobody knows what a failed sync left.
    pub fn may_pass(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let passing = matches!(self.source.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem);
        passing && matches!(self.op, "create" | "write" | "sync" | "rename")
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: could not {} it: {}", self.path.display(), self.op, self.source)
    }
}

#[cfg(test)]
mod tests {
    use zorilla_wal::disk::Disk;
    use zorilla_wal::disk::faulty::{Fault, FaultyDisk, Image};

    use super::*;

    fn head() -> Head {
        let run =
            |number, zxid| RunFact { number, bytes: 65_536 * number, zxid: Zxid::from_raw(zxid), identity: !number };
        Head {
            number: 0x1f,
            store: StoreId(7 << 70 | 9),
            seed: 11,
            zxid: Zxid::from_raw(90),
            exported: None,
            imported: false,
            runs: vec![run(0x1e, 90), run(0x10, 70), run(3, 70)],
        }
    }

    #[test]
    fn a_head_comes_back_as_it_was_written() {
        let marked = Head { exported: Some(Zxid::from_raw(88)), imported: true, ..head() };
        for head in [head(), marked] {
            assert_eq!(Head::decode(0x1f, &head.encode()), Ok(head));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let good = head().encode();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                Head::decode(0x1f, &bytes).expect_err("a bit was flipped");
            }
            Head::decode(0x1f, &good[..at]).expect_err("it was cut");
        }
        Head::decode(0x1f, &[&good[..], &[0]].concat()).expect_err("it is too long");
    }

    #[test]
    fn a_head_that_does_not_fit_says_where_and_what() {
        let place = |head: &Head| Head::decode(0x1f, &head.encode()).expect_err("it does not fit");
        let other = place(&Head { number: 0x20, ..head() });
        assert_eq!((other.offset, other.found.as_str()), (16, "0000000000000020"));
        assert_eq!(place(&Head { zxid: Zxid::from_raw(91), ..head() }).offset, 48);
        assert_eq!(place(&Head { runs: Vec::new(), ..head() }).offset, 48);
        let mut turned = head();
        turned.runs.swap(1, 2);
        turned.runs[1].zxid = Zxid::from_raw(60);
        assert_eq!(place(&turned).offset, 72);
    }

    #[test]
    fn names_are_read_back_and_others_are_not_ours() {
        for name in [Name::Head(0), Name::Run(0xabc), Name::Making(u64::MAX)] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for other in
            ["head.1", "head.00000000000000AB", "run.", "run.00000000000000011", "lock", "heads.0000000000000001"]
        {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_head_without_room_leaves_nothing_behind_and_may_be_tried_again() {
        for operation in 0..4 {
            let files = FaultyDisk::new(Image::default(), false).files();
            files.fail_at(operation, Fault::Error(28));
            let refused = head().publish(&files).expect_err("there was no room");
            assert!(refused.may_pass(), "{refused}");
            assert_eq!(files.image().files().count(), 0);
            head().publish(&files).expect("there is room again");
            assert_eq!(files.image().files().next().map(|(name, _)| name), Some("head.000000000000001f"));
        }
        let files = FaultyDisk::new(Image::default(), false).files();
        files.fail_at(4, Fault::Error(28));
        assert!(!head().publish(&files).expect_err("nobody knows what is there").may_pass());
    }
}
