//! Transaction logs of Java servers, record by record.
//!
//! ```text
//! header   magic int "ZKLG" | version int 2 | dbid long
//! record   checksum long | length int | entry | 0x42
//! entry    as in `zorilla_proto::txn`
//! padding  zeros up to the end of the file
//! ```
//!
//! The checksum is the Adler-32 of the entry. Where the log ends is told as the reference tells it ([`End`]); whether
//! that end is what a crash leaves is for the caller to judge, with the help of [`TxnLog::rest`].

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Fault;
use super::files::Compression;
use super::source::Source;

const MAGIC: i32 = i32::from_be_bytes(*b"ZKLG");
/// The size of the header.
pub const HEADER_BYTES: u64 = 16;
const RECORD_END: u8 = 0x42;
const HEAD_BYTES: usize = 12;

/// A record whose end is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins in the file.
    pub offset: u64,
    /// The checksum that stands before it.
    pub stored: u64,
    /// The checksum of its entry.
    pub computed: u32,
    /// Its entry: header, body and perhaps a digest, for [`zorilla_proto::txn::Entry::decode`].
    pub entry: &'a [u8],
}

impl Record<'_> {
    /// Whether its entry is what was written.
    pub fn is_intact(&self) -> bool {
        self.stored == u64::from(self.computed)
    }
}

/// Where the records of a log end, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Where the record would begin that is not there.
    pub offset: u64,
    /// How it was told.
    pub how: EndKind,
}

/// What stands where the next record would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// Nothing.
    File,
    /// A length of zero: padding, or a checksum whose record was never written.
    Padding,
    /// Less than a checksum and a length.
    CutHead {
        /// How many bytes of them.
        bytes: usize,
    },
    /// Less of an entry than its length says.
    CutEntry {
        /// How much of it.
        bytes: usize,
        /// Its length.
        length: usize,
    },
    /// A whole entry and nothing behind it.
    NoRecordEnd,
    /// A whole entry, and behind it another byte than the one that ends a record.
    OtherRecordEnd(u8),
}

impl fmt::Display for EndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndKind::File => f.write_str("the end of the file"),
            EndKind::Padding => f.write_str("a record of length 0"),
            EndKind::CutHead { bytes } => write!(f, "{bytes} of the {HEAD_BYTES} bytes before an entry"),
            EndKind::CutEntry { bytes, length } => write!(f, "{bytes} of an entry's {length} bytes"),
            EndKind::NoRecordEnd => f.write_str("an entry without its end byte"),
            EndKind::OtherRecordEnd(byte) => {
                write!(f, "an entry that ends with {byte:#04x} instead of {RECORD_END:#04x}")
            }
        }
    }
}

/// What comes next in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record.
    Record(Record<'a>),
    /// No more records. The step after it is the same.
    End(End),
}

/// A log that is being read.
pub struct TxnLog<R> {
    source: Source<R>,
    version: i32,
    dbid: i64,
    entry: Vec<u8>,
    /// Where it ended, and what stands before the entry there, if that is whole.
    tail: Option<(End, Option<Head>)>,
}

/// What is known of an entry besides its bytes.
#[derive(Clone, Copy)]
struct Head {
    offset: u64,
    stored: u64,
    computed: u32,
}

impl<R: Read> TxnLog<R> {
    /// Reads the header. `length_max`: the longest entry that is no damage; `name` is for messages only.
    pub fn open(name: impl Into<PathBuf>, bytes: R, length_max: usize) -> Result<TxnLog<R>, Fault> {
        let mut source = Source::new(name.into(), bytes, Compression::Plain, length_max);
        let magic = source.i32("the magic number of a log")?;
        if magic != MAGIC {
            return Err(source.damaged(0, format!("{MAGIC:#x}, the magic number of a log"), format!("{magic:#x}")));
        }
        let version = source.i32("the version of a log")?;
        let dbid = source.i64("the dbid of a log")?;
        Ok(TxnLog { source, version, dbid, entry: Vec::new(), tail: None })
    }

    /// The file, as it was named.
    pub fn name(&self) -> &Path {
        self.source.name()
    }

    /// The version in its header: 2. The reference does not look at it.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// The database id in its header: 0.
    pub fn dbid(&self) -> i64 {
        self.dbid
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// The next record, its checksum not judged, or where they end. An error: a length that no entry can have.
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows from it")]
    pub fn next(&mut self) -> Result<Step<'_>, Fault> {
        if let Some((end, _)) = self.tail {
            return Ok(Step::End(end));
        }
        let offset = self.source.offset();
        let mut head = [0; HEAD_BYTES];
        let how = match self.source.fill(&mut head)? {
            0 => EndKind::File,
            HEAD_BYTES => {
                let stored = u64::from_be_bytes(std::array::from_fn(|at| head[at]));
                let length = i32::from_be_bytes(std::array::from_fn(|at| head[8 + at]));
                if length == 0 {
                    EndKind::Padding
                } else {
                    return self.entry(offset, stored, length);
                }
            }
            bytes => EndKind::CutHead { bytes },
        };
        Ok(self.end(End { offset, how }, None))
    }

    fn end(&mut self, end: End, whole: Option<Head>) -> Step<'_> {
        self.tail = Some((end, whole));
        Step::End(end)
    }

    fn entry(&mut self, offset: u64, stored: u64, length: i32) -> Result<Step<'_>, Fault> {
        let length_max = self.source.length_max();
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= length_max) else {
            let expected = format!("a length of an entry up to {length_max} (jute.maxbuffer)");
            return Err(self.source.damaged(offset + 8, expected, length.to_string()));
        };
        self.entry.clear();
        let bytes = self.source.extend(&mut self.entry, length)?;
        if bytes < length {
            return Ok(self.end(End { offset, how: EndKind::CutEntry { bytes, length } }, None));
        }
        let computed = adler2::adler32_slice(&self.entry);
        let mut last = [0];
        let how = match self.source.fill(&mut last)? {
            0 => EndKind::NoRecordEnd,
            _ if last == [RECORD_END] => {
                return Ok(Step::Record(Record { offset, stored, computed, entry: &self.entry }));
            }
            _ => EndKind::OtherRecordEnd(last[0]),
        };
        Ok(self.end(End { offset, how }, Some(Head { offset, stored, computed })))
    }

    /// The entry at the end of the log that is whole and lacks only the right byte behind it. No server replays it; the
    /// tools print it.
    pub fn unfinished(&self) -> Option<Record<'_>> {
        let Head { offset, stored, computed } = self.tail.as_ref()?.1?;
        Some(Record { offset, stored, computed, entry: &self.entry })
    }

    /// Reads to the end of the file: how many bytes, and where the first is that is not zero. Behind the end of a log that
    /// a crash left there are only zeros.
    pub fn rest(&mut self) -> Result<(u64, Option<u64>), Fault> {
        self.source.rest()
    }
}
