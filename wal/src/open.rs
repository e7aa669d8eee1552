//! Opening: reads the log from its first segment to its end, hands every record on, and begins a new segment.
//!
//! Guarantees: what was read is durable before anybody hears that the log is open; nothing is ever written behind a
//! bad batch; everything that recovery writes can itself be cut by a crash at any point and leads to the same
//! history again. What the bytes mean is decided by [`crate::recover`].

use crate::buffer::AlignedBuf;
use crate::disk::{Disk, Files};
use crate::error::OpenError;
use crate::group::{NewSegment, Start};
use crate::limits::{BATCH_BYTES_MAX, BLOCK_BYTES, CHUNK_BYTES, SEGMENT_HEADER_BYTES};
use crate::log::{Options, Salts};
use crate::record::{self, Epochs, Kind, Records};
use crate::recover::{Damage, Later, Place, Successor, Verdict, decide};
use crate::segment::{
    BATCH_HEADER_BYTES, BatchHeader, Facts, Name, SegmentHeader, SegmentSeen, StateHead, StoreId, VOID_NOTHING,
};
use crate::space::{Prepare, Prepared};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use zorilla_proto::Zxid;

/// One record, as recovery hands it on. What a later truncation voids is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordRef<'a> {
    /// A transaction.
    Txn {
        /// Its place in history.
        zxid: Zxid,
        /// The bytes that were appended.
        payload: &'a [u8],
    },
    /// The epochs, from here on.
    Epochs(Epochs),
    /// A state file is complete up to `zxid`.
    StateHead {
        /// Its name.
        file: &'a str,
        /// How far it goes.
        zxid: Zxid,
        /// It replaced the whole history before it.
        replaces_history: bool,
    },
}

/// Whoever takes the records cannot go on. What the reason is, it knows itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop;

/// What recovery dropped: never acknowledged, torn by a crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The file in which the log ended.
    pub segment: PathBuf,
    /// Where in it.
    pub offset_bytes: u64,
    /// How much of what stood there and behind was recognisable.
    pub bytes: u64,
}

/// What recovery found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The last transaction.
    pub last_zxid: Zxid,
    /// The transaction before the first one the log still has. A state must reach at least to it.
    pub begins_after: Zxid,
    /// The epochs.
    pub epochs: Epochs,
    /// The newest state head.
    pub state_head: Option<StateHead>,
    /// Transactions handed on.
    pub txns: u64,
    /// Bytes of the batches read.
    pub bytes: u64,
    /// Segments in use, the new one included.
    pub segments: u32,
    /// The log was closed on purpose, by a seal.
    pub sealed: bool,
    /// What was dropped at the end.
    pub torn: Option<Torn>,
    /// There was no log before.
    pub fresh: bool,
}

/// The log, ready to be written on.
pub(crate) struct Opened<F: Files> {
    pub(crate) start: Start,
    pub(crate) file: F::File,
    pub(crate) ahead: VecDeque<Prepared<F>>,
    /// Every segment in use with the last transaction before it, oldest first.
    pub(crate) segments: VecDeque<(u64, Zxid)>,
    pub(crate) recovered: Recovered,
}

/// Which store the log in this directory belongs to, if there is one.
pub fn store_of<F: Files>(files: &F) -> Result<Option<StoreId>, OpenError> {
    let found = find_segments(files)?;
    Ok(found.iter().find_map(|found| found.header().map(|(header, _)| header.store)))
}

/// The state head that the newest segment of the log in this directory begins with. Records in it may name a newer one, but
/// no older one counts.
pub fn state_of<F: Files>(files: &F) -> Result<Option<StateHead>, OpenError> {
    let found = find_segments(files)?;
    let newest = found.iter().rev().find_map(|found| found.header());
    Ok(newest.and_then(|(header, _)| header.facts.state_head.as_deref().cloned()))
}

/// Gives `each` what [`crate::Wal::open`] would give it, and changes nothing: nobody else may have the log open.
pub fn read<F: Files>(
    files: &F,
    options: &Options,
    each: &mut dyn FnMut(RecordRef<'_>) -> Result<(), Stop>,
) -> Result<Recovered, OpenError> {
    let found = find_segments(files)?;
    let mut walk = Walk::new(files, options, &found)?;
    Ok(walk.run(each)?.recovered)
}

pub(crate) fn open<D: Disk>(
    disk: &mut D,
    options: &Options,
    salts: &mut Salts,
    each: &mut dyn FnMut(RecordRef<'_>) -> Result<(), Stop>,
) -> Result<Opened<D::Files>, OpenError> {
    let files = disk.files();
    let io = |op, path, source| OpenError::Io { op, path, source };
    if !disk.lock().map_err(|failed| io("lock", files.path(""), failed))? {
        return Err(OpenError::Locked { directory: files.path("") });
    }
    let found = find_segments(&files)?;
    let mut walk = Walk::new(&files, options, &found)?;
    let end = walk.run(each)?;
    walk.make_durable(&end)?;
    begin(&files, options, salts, &found, end)
}

/// A file called segment, and what its header says.
struct Found {
    number: u64,
    name: String,
    bytes: u64,
    /// An error where it could not be read.
    seen: Result<SegmentSeen, io::Error>,
}

impl Found {
    fn header(&self) -> Option<(&SegmentHeader, u32)> {
        match &self.seen {
            Ok(SegmentSeen::Valid { header, crc }) => Some((header, *crc)),
            _ => None,
        }
    }

    fn blank(&self) -> bool {
        matches!(self.seen, Ok(SegmentSeen::Blank))
    }
}

/// Every segment by number, with its header.
fn find_segments<F: Files>(files: &F) -> Result<Vec<Found>, OpenError> {
    let io = |op, path, source| OpenError::Io { op, path, source };
    let mut found = Vec::new();
    let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
    for entry in files.list().map_err(|failed| io("list", files.path(""), failed))? {
        let Some(Name::Segment(number)) = Name::parse(&entry.name) else { continue };
        let file = files.open(&entry.name).map_err(|failed| io("open", files.path(&entry.name), failed))?;
        let seen = read_full(files, &file, 0, &mut block).map(|()| SegmentHeader::decode(&block));
        found.push(Found { number, name: entry.name, bytes: entry.bytes, seen });
    }
    found.sort_unstable_by_key(|found| found.number);
    Ok(found)
}

fn read_full<F: Files>(files: &F, file: &F::File, offset_bytes: u64, into: &mut [u8]) -> io::Result<()> {
    let read = files.read_at(file, offset_bytes, into)?;
    if read < into.len() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends early"));
    }
    Ok(())
}

/// Reads one segment through a window of memory.
struct Reader<'f, F: Files> {
    files: &'f F,
    file: F::File,
    /// Whole blocks; a broken one at the end is not ours.
    end: u64,
    window: AlignedBuf,
    from: u64,
    held: usize,
}

impl<'f, F: Files> Reader<'f, F> {
    fn new(files: &'f F, found: &Found, window: AlignedBuf) -> Result<Reader<'f, F>, OpenError> {
        let file = files.open(&found.name).map_err(|source| OpenError::Io {
            op: "open",
            path: files.path(&found.name),
            source,
        })?;
        let end = found.bytes / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        Ok(Reader { files, file, end, window, from: 0, held: 0 })
    }

    /// `bytes` bytes at `offset`, both whole blocks; `None` beyond the end.
    fn get(&mut self, offset: u64, bytes: usize) -> io::Result<Option<&[u8]>> {
        if self.end < offset + bytes as u64 || self.window.len() < bytes {
            return Ok(None);
        }
        if offset < self.from || self.from + (self.held as u64) < offset + bytes as u64 {
            self.from = offset;
            self.held = 0;
            let rest = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
            let ahead = bytes.max(CHUNK_BYTES).min(rest).min(self.window.len());
            // Should reading ahead fail, only what was asked for decides.
            if read_full(self.files, &self.file, offset, &mut self.window[..ahead]).is_ok() {
                self.held = ahead;
            } else {
                read_full(self.files, &self.file, offset, &mut self.window[..bytes])?;
                self.held = bytes;
            }
        }
        let at = (offset - self.from) as usize;
        Ok(Some(&self.window[at..at + bytes]))
    }
}

/// What is expected at the next place.
#[derive(Clone, Copy)]
struct Expected {
    seq: u64,
    salt: u64,
    chain: u32,
    checksum_seed: u32,
}

/// A batch that is as expected.
struct GoodBatch {
    header: BatchHeader,
    crc: u32,
    /// With the zeros up to whole blocks.
    bytes: usize,
}

/// Reads the place at `offset`. The bytes are those of a good batch.
fn read_place<'r, F: Files>(
    reader: &'r mut Reader<'_, F>,
    offset: u64,
    expected: Expected,
) -> (Place, Option<GoodBatch>, &'r [u8]) {
    let nothing = &[];
    let (header, crc, body_crc) = match reader.get(offset, BLOCK_BYTES) {
        Err(_) => return (Place::Unreadable, None, nothing),
        Ok(None) => return (Place::Blank, None, nothing),
        Ok(Some(block)) => match BatchHeader::decode(block, expected.checksum_seed) {
            Some(decoded) => decoded,
            None if block.iter().all(|byte| *byte == 0) => return (Place::Blank, None, nothing),
            None => return (Place::Bad, None, nothing),
        },
    };
    if header.salt != expected.salt {
        return (Place::Blank, None, nothing);
    }
    let bytes = (header.bytes as usize).next_multiple_of(BLOCK_BYTES);
    let fits = BATCH_HEADER_BYTES <= header.bytes as usize && bytes <= BATCH_BYTES_MAX;
    if header.seq != expected.seq || header.chain != expected.chain || !fits {
        return (Place::Bad, None, nothing);
    }
    match reader.get(offset, bytes) {
        Err(_) => (Place::Unreadable, None, nothing),
        Ok(None) => (Place::Bad, None, nothing),
        Ok(Some(batch)) if crc32c::crc32c(&batch[BATCH_HEADER_BYTES..]) != body_crc => (Place::Bad, None, nothing),
        Ok(Some(batch)) => {
            let body = &batch[BATCH_HEADER_BYTES..header.bytes as usize];
            (Place::Good, Some(GoodBatch { header, crc, bytes }), body)
        }
    }
}

/// What a scan behind a place found.
#[derive(Default)]
struct Behind {
    items: u64,
    bytes: u64,
    proves: bool,
    unreadable: bool,
    next_known: Option<Zxid>,
}

impl Behind {
    fn item(&mut self, seq: u64, durable_seq: u64, bytes: u64, first_zxid: Option<Zxid>) {
        self.items += 1;
        self.bytes += bytes;
        if seq <= durable_seq {
            self.proves = true;
            self.next_known = self.next_known.or(first_zxid);
        }
    }

    fn later(&self) -> Later {
        match self {
            Behind { proves: true, .. } => Later::Proves,
            Behind { unreadable: true, .. } => Later::Unreadable,
            Behind { items: 0, .. } => Later::Nothing,
            _ => Later::Unproven,
        }
    }
}

/// Where the log ends.
struct End {
    /// The segment it ends in, as an index; `None` for a log that never began.
    at: Option<usize>,
    /// That segment holds nothing but its header.
    empty: bool,
    next_seq: u64,
    chain: u32,
    facts: Facts,
    recovered: Recovered,
}

/// Goes through the log from its first segment on.
struct Walk<'f, F: Files> {
    files: &'f F,
    options: &'f Options,
    found: &'f [Found],
    checksum_seed: u32,
    window: Option<AlignedBuf>,
    /// For each segment, the highest zxid in it that no later segment voids.
    void_above: Vec<u64>,
    /// The last segment whose voiding was taken into account.
    void_last: Option<usize>,

    at: usize,
    offset: u64,
    next_seq: u64,
    chain: u32,
    facts: Facts,
    recovered: Recovered,
}

impl<'f, F: Files> Walk<'f, F> {
    fn new(files: &'f F, options: &'f Options, found: &'f [Found]) -> Result<Walk<'f, F>, OpenError> {
        let largest = found.iter().map(|found| found.bytes).max().unwrap_or(0);
        let window_bytes = usize::try_from(largest).unwrap_or(usize::MAX).min(BATCH_BYTES_MAX + CHUNK_BYTES);
        let facts = Facts::none();
        Ok(Walk {
            files,
            options,
            found,
            checksum_seed: options.store.checksum_seed(),
            window: Some(AlignedBuf::new(window_bytes.max(BLOCK_BYTES))),
            void_above: vec![VOID_NOTHING; found.len()],
            void_last: None,
            at: 0,
            offset: 0,
            next_seq: 1,
            chain: 0,
            recovered: Recovered {
                last_zxid: Zxid::ZERO,
                begins_after: Zxid::ZERO,
                epochs: Epochs::default(),
                state_head: None,
                txns: 0,
                bytes: 0,
                segments: 0,
                sealed: false,
                torn: None,
                fresh: false,
            },
            facts,
        })
    }

    fn damaged(&self, at: usize, offset_bytes: u64, damage: Damage) -> OpenError {
        let name = self.found.get(at).map_or("", |found| found.name.as_str());
        OpenError::Damaged {
            segment: self.files.path(name),
            offset_bytes,
            last_good: self.facts.last_zxid,
            next_known: None,
            txns_good: self.recovered.txns,
            damage,
        }
    }

    fn run(&mut self, each: &mut dyn FnMut(RecordRef<'_>) -> Result<(), Stop>) -> Result<End, OpenError> {
        self.check_files()?;
        let Some(first) = self.found.first() else { return Ok(self.end_fresh()) };
        let Some((header, crc)) = first.header() else { return self.end_without_beginning() };
        self.next_seq = header.seq + 1;
        self.chain = crc;
        self.facts = header.facts.clone();
        let begins_after = header.facts.last_zxid;
        let from_the_start = header.seq == 1;
        self.find_voids()?;
        self.walk(each)?;
        self.recovered.begins_after = begins_after.min(Zxid::from_raw(self.void_above[0]));
        let covered = self.facts.state_head.as_ref().is_some_and(|head| self.recovered.begins_after <= head.zxid);
        if !from_the_start && !covered {
            return Err(self.damaged(0, 0, Damage::SegmentMissing));
        }
        self.recovered.last_zxid = self.facts.last_zxid;
        self.recovered.epochs = self.facts.epochs;
        self.recovered.state_head = self.facts.state_head.as_deref().cloned();
        let chain_before = self.found[self.at].header().map_or(0, |(header, _)| header.chain);
        let empty = self.offset == SEGMENT_HEADER_BYTES as u64;
        Ok(End {
            at: Some(self.at),
            empty,
            // An empty segment is begun again, so its header's own place is the next one.
            next_seq: if empty { self.next_seq - 1 } else { self.next_seq },
            chain: if empty { chain_before } else { self.chain },
            facts: self.facts.clone(),
            recovered: self.recovered.clone(),
        })
    }

    /// What can be told from names, sizes and headers alone.
    fn check_files(&self) -> Result<(), OpenError> {
        for (at, found) in self.found.iter().enumerate() {
            if 0 < at && self.found[at - 1].number + 1 != found.number {
                return Err(self.damaged(at, 0, Damage::SegmentMissing));
            }
            if let Ok(SegmentSeen::OtherVersion(version)) = &found.seen {
                return Err(OpenError::Version { segment: self.files.path(&found.name), found: *version });
            }
            let Some((header, _)) = found.header() else { continue };
            if header.store != self.options.store {
                return Err(OpenError::Foreign {
                    segment: self.files.path(&found.name),
                    expected: self.options.store,
                    found: header.store,
                });
            }
            if header.number != found.number {
                return Err(self.damaged(at, 0, Damage::OtherHistory));
            }
            // A segment is written full before it gets its name: no crash makes it shorter.
            if found.bytes < header.bytes {
                return Err(self.damaged(at, found.bytes, Damage::SegmentCut));
            }
        }
        Ok(())
    }

    fn end_fresh(&mut self) -> End {
        self.recovered.fresh = true;
        End { at: None, empty: false, next_seq: 1, chain: 0, facts: Facts::none(), recovered: self.recovered.clone() }
    }

    /// The first segment has no valid header. That is a log that never began, if it is the first one there ever was
    /// and nothing in it or behind it says otherwise.
    fn end_without_beginning(&mut self) -> Result<End, OpenError> {
        let first = &self.found[0];
        if first.number != 1 {
            let damage = if first.seen.is_err() { Damage::Unreadable } else { Damage::AcknowledgedLost };
            return Err(self.damaged(0, 0, damage));
        }
        let place = match &first.seen {
            Err(_) => Place::Unreadable,
            Ok(SegmentSeen::Blank) => Place::Blank,
            Ok(_) => Place::Bad,
        };
        let successor = self.successor(0);
        let mut behind = Behind::default();
        let mut failed = None;
        let verdict = decide(place, successor, || match self.scan(None, 0, &mut behind) {
            Ok(()) => behind.later(),
            Err(error) => {
                failed = Some(error);
                Later::Unreadable
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        match verdict {
            Verdict::CleanEnd | Verdict::TornTail => Ok(self.end_fresh()),
            Verdict::Damaged(damage) => Err(self.damaged(0, 0, damage)),
            // A log begins with a header, and there is none.
            Verdict::Take | Verdict::NextSegment => Err(self.damaged(0, 0, Damage::OtherHistory)),
        }
    }

    fn reader(&mut self, at: usize) -> Result<Reader<'f, F>, OpenError> {
        let window = self.window.take().unwrap_or_else(|| AlignedBuf::new(BLOCK_BYTES));
        Reader::new(self.files, &self.found[at], window)
    }

    fn put_back(&mut self, reader: Reader<'f, F>) {
        self.window = Some(reader.window);
    }

    /// A truncation begins a segment and is named in its header, so that what it voids is known before it is
    /// reached. It counts only if its record is there: the header alone may have survived a crash.
    fn find_voids(&mut self) -> Result<(), OpenError> {
        let mut lowest = VOID_NOTHING;
        for at in (0..self.found.len()).rev() {
            self.void_above[at] = lowest;
            let Some((header, crc)) = self.found[at].header() else { continue };
            if header.void_above == VOID_NOTHING {
                continue;
            }
            let (void_above, salt, seq) = (header.void_above, header.salt, header.seq + 1);
            let expected = Expected { seq, salt, chain: crc, checksum_seed: self.checksum_seed };
            let mut reader = self.reader(at)?;
            let (place, _, _) = read_place(&mut reader, SEGMENT_HEADER_BYTES as u64, expected);
            self.put_back(reader);
            if place == Place::Good {
                lowest = lowest.min(void_above);
                self.void_last = self.void_last.max(Some(at));
            }
        }
        Ok(())
    }

    /// How the segment after `at` continues from the current place.
    fn successor(&self, at: usize) -> Successor {
        let Some((header, _)) = self.found.get(at + 1).and_then(Found::header) else { return Successor::Absent };
        match header.seq.cmp(&self.next_seq) {
            std::cmp::Ordering::Less => Successor::BeginsEarlier,
            std::cmp::Ordering::Greater => Successor::BeginsLater,
            std::cmp::Ordering::Equal if header.chain == self.chain => Successor::BeginsHere,
            std::cmp::Ordering::Equal => Successor::OtherChain,
        }
    }

    fn walk(&mut self, each: &mut dyn FnMut(RecordRef<'_>) -> Result<(), Stop>) -> Result<(), OpenError> {
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.recovered.segments = 1;
        loop {
            let mut reader = self.reader(self.at)?;
            let verdict = self.walk_segment(&mut reader, each);
            self.put_back(reader);
            match verdict? {
                Verdict::NextSegment => self.enter(self.at + 1)?,
                _ => break,
            }
        }
        // A truncation was taken into account that the log does not reach.
        match self.void_last {
            Some(last) if self.at < last => Err(self.damaged(last, 0, Damage::OtherHistory)),
            _ => Ok(()),
        }
    }

    fn enter(&mut self, at: usize) -> Result<(), OpenError> {
        let found = self.found;
        let Some((header, crc)) = found[at].header() else { return Err(self.damaged(at, 0, Damage::OtherHistory)) };
        let mut facts = self.facts.clone();
        facts.last_zxid = facts.last_zxid.min(Zxid::from_raw(header.void_above));
        if facts != header.facts {
            return Err(self.damaged(at, 0, Damage::Contradiction("a header that names other facts than the log")));
        }
        self.at = at;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.next_seq = header.seq + 1;
        self.chain = crc;
        self.recovered.segments += 1;
        Ok(())
    }

    /// Takes batches to the end of the segment. Anything but `NextSegment` is the end of the log.
    fn walk_segment(
        &mut self,
        reader: &mut Reader<'f, F>,
        each: &mut dyn FnMut(RecordRef<'_>) -> Result<(), Stop>,
    ) -> Result<Verdict, OpenError> {
        let found = self.found;
        let Some((header, _)) = found[self.at].header() else {
            return Err(self.damaged(self.at, 0, Damage::OtherHistory));
        };
        let (salt, end) = (header.salt, header.bytes);
        reader.end = reader.end.min(end);
        loop {
            let expected = Expected { seq: self.next_seq, salt, chain: self.chain, checksum_seed: self.checksum_seed };
            let successor = self.successor(self.at);
            let (place, good, body) = read_place(reader, self.offset, expected);
            if let (Some(good), Verdict::Take) = (good, decide(place, successor, || Later::Nothing)) {
                self.take(good, body, each)?;
                continue;
            }
            let mut behind = Behind::default();
            let mut failed = None;
            let verdict = decide(place, successor, || {
                scan_segment(reader, self.offset, Some(salt), self.next_seq, self.checksum_seed, &mut behind);
                failed = self.scan(Some(self.at), self.next_seq, &mut behind).err();
                behind.later()
            });
            if let Some(error) = failed {
                return Err(error);
            }
            match verdict {
                Verdict::Damaged(damage) => {
                    // Where a batch might as well not be there, a broken header of the next segment is to blame.
                    let broken = |next: &Found| next.header().is_none() && !next.blank();
                    let blame_next = place == Place::Blank && found.get(self.at + 1).is_some_and(broken);
                    let (at, offset) = if blame_next { (self.at + 1, 0) } else { (self.at, self.offset) };
                    let mut error = self.damaged(at, offset, damage);
                    if let OpenError::Damaged { next_known, .. } = &mut error {
                        *next_known = behind.next_known;
                    }
                    return Err(error);
                }
                Verdict::TornTail => {
                    let place_bytes = if place == Place::Bad { BLOCK_BYTES as u64 } else { 0 };
                    self.recovered.torn = Some(Torn {
                        segment: self.files.path(&self.found[self.at].name),
                        offset_bytes: self.offset,
                        bytes: behind.bytes.max(place_bytes),
                    });
                    return Ok(verdict);
                }
                Verdict::CleanEnd | Verdict::NextSegment | Verdict::Take => return Ok(verdict),
            }
        }
    }

    /// Looks at every segment after `at` for items that were written when the one at `seq` was durable.
    fn scan(&mut self, at: Option<usize>, seq: u64, behind: &mut Behind) -> Result<(), OpenError> {
        let seq = seq.max(1);
        for later in at.map_or(0, |at| at + 1)..self.found.len() {
            if self.found[later].seen.is_err() {
                behind.unreadable = true;
            }
            let salt = self.found[later].header().map(|(header, _)| header.salt);
            if let Some((header, _)) = self.found[later].header() {
                behind.item(seq, header.durable_seq, SEGMENT_HEADER_BYTES as u64, None);
            }
            let mut reader = match self.window.take() {
                Some(window) => Reader::new(self.files, &self.found[later], window)?,
                // The walk holds the window while it scans.
                None => {
                    let bytes = usize::try_from(self.found[later].bytes).unwrap_or(CHUNK_BYTES);
                    let window = AlignedBuf::new(bytes.clamp(BLOCK_BYTES, CHUNK_BYTES));
                    Reader::new(self.files, &self.found[later], window)?
                }
            };
            if salt.is_none() {
                // Prepared, most likely. Were it not, its first batch would stand near its beginning.
                reader.end = reader.end.min((SEGMENT_HEADER_BYTES + BATCH_BYTES_MAX) as u64);
            }
            scan_segment(&mut reader, SEGMENT_HEADER_BYTES as u64, salt, seq, self.checksum_seed, behind);
            self.put_back(reader);
        }
        Ok(())
    }

    /// Takes one batch into the facts, and hands its records on.
    fn take(
        &mut self,
        good: GoodBatch,
        body: &[u8],
        each: &mut dyn FnMut(RecordRef<'_>) -> Result<(), Stop>,
    ) -> Result<(), OpenError> {
        let void_above = Zxid::from_raw(self.void_above[self.at]);
        let mut count = 0;
        let mut first_zxid = Zxid::ZERO;
        for record in Records::new(body) {
            let contradiction = |what| self.damaged(self.at, self.offset, Damage::Contradiction(what));
            let record = record.map_err(contradiction)?;
            let surviving = match record.kind {
                Kind::Txn => {
                    if record.zxid <= self.facts.last_zxid {
                        return Err(contradiction("a transaction that does not come after the one before it"));
                    }
                    self.facts.last_zxid = record.zxid;
                    if first_zxid == Zxid::ZERO {
                        first_zxid = record.zxid;
                    }
                    let txn = RecordRef::Txn { zxid: record.zxid, payload: record.payload };
                    (record.zxid <= void_above).then_some(txn)
                }
                Kind::Epochs => {
                    self.facts.epochs = record::decode_epochs(record.payload).map_err(contradiction)?;
                    Some(RecordRef::Epochs(self.facts.epochs))
                }
                Kind::Truncate => {
                    if self.facts.last_zxid < record.zxid {
                        return Err(contradiction("a truncation to a place beyond the end"));
                    }
                    self.facts.last_zxid = record.zxid;
                    None
                }
                Kind::StateHead => {
                    let (replaces_history, file) = record::decode_state_head(record.payload).map_err(contradiction)?;
                    if replaces_history {
                        self.facts.last_zxid = record.zxid;
                    }
                    self.facts.state_head = Some(Arc::new(StateHead { file: file.to_owned(), zxid: record.zxid }));
                    let head = RecordRef::StateHead { file, zxid: record.zxid, replaces_history };
                    (record.zxid <= void_above).then_some(head)
                }
                Kind::Seal | Kind::IdleMark => None,
            };
            self.recovered.sealed = record.kind == Kind::Seal;
            count += 1;
            if let Some(record) = surviving {
                self.recovered.txns += u64::from(matches!(record, RecordRef::Txn { .. }));
                each(record).map_err(|Stop| OpenError::Stopped {
                    segment: self.files.path(&self.found[self.at].name),
                    offset_bytes: self.offset,
                    after: self.facts.last_zxid,
                })?;
            }
        }
        let header = good.header;
        if count != header.count || first_zxid != header.first_zxid || self.facts.last_zxid != header.last_zxid {
            let damage = Damage::Contradiction("a batch whose header does not describe its records");
            return Err(self.damaged(self.at, self.offset, damage));
        }
        self.offset += good.bytes as u64;
        self.next_seq += 1;
        self.chain = good.crc;
        self.recovered.bytes += good.bytes as u64;
        Ok(())
    }

    /// A process that was killed leaves writes in the page cache that no sync covers. They were read, so they become
    /// history now, and history is durable. Items outside the durable prefix span no more than three segments.
    fn make_durable(&self, end: &End) -> Result<(), OpenError> {
        let Some(last) = end.at else { return Ok(()) };
        for found in &self.found[last.saturating_sub(2)..=last] {
            let io = |op, source| OpenError::Io { op, path: self.files.path(&found.name), source };
            let file = self.files.open(&found.name).map_err(|failed| io("open", failed))?;
            self.files.sync(&file).map_err(|failed| io("sync", failed))?;
        }
        Ok(())
    }
}

/// Goes through the blocks of a segment for headers of batches: with `salt`, or, where the salt is not known, any of
/// this store that could not be from before `seq`.
fn scan_segment<F: Files>(
    reader: &mut Reader<'_, F>,
    from: u64,
    salt: Option<u64>,
    seq: u64,
    checksum_seed: u32,
    behind: &mut Behind,
) {
    let mut offset = from;
    loop {
        match reader.get(offset, BLOCK_BYTES) {
            Ok(None) => return,
            Err(_) => behind.unreadable = true,
            Ok(Some(block)) => {
                if let Some((header, _, _)) = BatchHeader::decode(block, checksum_seed) {
                    let ours = match salt {
                        Some(salt) => header.salt == salt,
                        None => seq <= header.seq,
                    };
                    if ours {
                        let first = (header.first_zxid != Zxid::ZERO).then_some(header.first_zxid);
                        let bytes = (header.bytes as usize).next_multiple_of(BLOCK_BYTES) as u64;
                        behind.item(seq, header.durable_seq, bytes, first);
                        if behind.proves {
                            return;
                        }
                    }
                }
            }
        }
        offset += BLOCK_BYTES as u64;
    }
}

/// Begins a new segment where the log ended. Every step may be the last one before a crash:
/// what stands behind the end is blanked from the newest backwards, so that no header is ever left behind one that
/// it does not continue; the new header comes last.
fn begin<F: Files>(
    files: &F,
    options: &Options,
    salts: &mut Salts,
    found: &[Found],
    end: End,
) -> Result<Opened<F>, OpenError> {
    let io = |op, name: &str, source| OpenError::Io { op, path: files.path(name), source };
    remove_leftovers(files)?;

    let usable = |found: &Found| found.bytes == options.segment_bytes;
    // The segment that goes on: one that holds nothing but its header is begun again.
    let again = end.at.filter(|at| end.empty && usable(&found[*at]));
    let behind = end.at.map_or(0, |at| at + 1);
    let kept = found[behind..].iter().take_while(|found| usable(found)).count();
    for dropped in found[behind + kept..].iter().rev() {
        files.remove(&dropped.name).map_err(|failed| io("remove", &dropped.name, failed))?;
        files.sync_directory().map_err(|failed| io("sync the directory of", &dropped.name, failed))?;
    }
    let zeros = AlignedBuf::new(SEGMENT_HEADER_BYTES);
    let mut ahead = VecDeque::new();
    for (at, found) in found.iter().enumerate().take(behind + kept).skip(behind).rev() {
        let file = files.open(&found.name).map_err(|failed| io("open", &found.name, failed))?;
        let overwritten_next = at == behind && again.is_none();
        if !found.blank() && !overwritten_next {
            write_whole(files, &file, &found.name, &zeros)?;
        }
        ahead.push_front(Prepared { number: found.number, bytes: found.bytes, file, recycled: true });
    }
    // An empty segment of another size stays in the log: its header is one of its items.
    let (next_seq, chain) = match (end.at, again) {
        (Some(at), None) if end.empty => match found[at].header() {
            Some((_, crc)) => (end.next_seq + 1, crc),
            None => (end.next_seq, end.chain),
        },
        _ => (end.next_seq, end.chain),
    };
    let prepared = match again {
        Some(at) => {
            let file = files.open(&found[at].name).map_err(|failed| io("open", &found[at].name, failed))?;
            Prepared { number: found[at].number, bytes: found[at].bytes, file, recycled: true }
        }
        None => match ahead.pop_front() {
            Some(prepared) => prepared,
            None => {
                let number = end.at.map_or(1, |at| found[at].number + 1);
                let prepare = Prepare { files: files.clone(), number, bytes: options.segment_bytes };
                prepare.run().map_err(OpenError::Prepare)?
            }
        },
    };

    let header = SegmentHeader {
        store: options.store,
        number: prepared.number,
        bytes: prepared.bytes,
        salt: salts.draw(),
        seq: next_seq,
        durable_seq: next_seq - 1,
        chain,
        void_above: VOID_NOTHING,
        facts: end.facts.clone(),
    };
    let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
    let crc = header.encode(&mut block);
    write_whole(files, &prepared.file, &Name::Segment(prepared.number).to_string(), &block)?;

    let in_use = end.at.map_or(0, |at| if again.is_some() { at } else { at + 1 });
    let mut segments: VecDeque<(u64, Zxid)> = found[..in_use]
        .iter()
        .filter_map(|found| found.header().map(|(header, _)| (found.number, header.facts.last_zxid)))
        .collect();
    segments.push_back((prepared.number, end.facts.last_zxid));
    let mut recovered = end.recovered;
    recovered.segments = segments.len() as u32;
    let start = Start {
        store: options.store,
        segment: NewSegment { number: prepared.number, bytes: prepared.bytes, salt: header.salt },
        segment_bytes: options.segment_bytes,
        next_seq: next_seq + 1,
        chain: crc,
        facts: end.facts,
    };
    Ok(Opened { start, file: prepared.file, ahead, segments, recovered })
}

fn write_whole<F: Files>(files: &F, file: &F::File, name: &str, block: &[u8]) -> Result<(), OpenError> {
    let io = |op, source| OpenError::Io { op, path: files.path(name), source };
    let written = files.write_at(file, 0, block).map_err(|failed| io("write", failed))?;
    if written < block.len() {
        return Err(io("write", io::Error::new(io::ErrorKind::WriteZero, "it took only a part of a write")));
    }
    files.sync(file).map_err(|failed| io("sync", failed))
}

/// Segments that were being filled when the process ended are worth nothing.
fn remove_leftovers<F: Files>(files: &F) -> Result<(), OpenError> {
    let entries = files.list().map_err(|source| OpenError::Io { op: "list", path: files.path(""), source })?;
    for entry in entries {
        if let Some(Name::Making(_)) = Name::parse(&entry.name) {
            files.remove(&entry.name).map_err(|source| OpenError::Io {
                op: "remove",
                path: files.path(&entry.name),
                source,
            })?;
        }
    }
    Ok(())
}
