//! Group commit: turns many appends into few writes, and completions of writes into a durable prefix.
//!
//! Guarantees: records reach the disk in the order they were appended; what is reported durable is always a prefix
//! of it, however completions arrive; a record never crosses a batch, nor a batch a segment; at most
//! [`IN_FLIGHT_MAX`] writes are outside the durable prefix; what is built and not submitted is bounded by one batch.
//!
//! A pure value: it knows no file, ring or clock. [`crate::Wal`] performs what [`Group::next_write`] decides. When a
//! batch is cut is decided whenever somebody asks, from what is in flight; there are no timers for it.

use crate::buffer::AlignedBuf;
use crate::limits::{
    BATCH_BYTES, BATCH_BYTES_MAX, BLOCK_BYTES, IN_FLIGHT_MAX, QUIET_NS, SECOND_WRITE_BYTES, SEGMENT_BYTES_MIN,
    SEGMENT_HEADER_BYTES, SEGMENTS_AHEAD, STATE_FILE_BYTES_MAX, SYNC_NS_ASSUMED, TXN_BYTES_MAX,
};
use crate::record::{self, Epochs, Kind, RECORD_HEADER_BYTES};
use crate::segment::{BATCH_HEADER_BYTES, BatchHeader, Facts, SegmentHeader, StateHead, StoreId, VOID_NOTHING};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use zorilla_proto::Zxid;

/// How many records had been appended, counting the one it names, since the log was opened.
///
/// Zxids fall when the log is truncated and say nothing of epochs; positions only rise and count every record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

/// No room in the batch being built: poll, then try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the log has no room until writes under way complete")
    }
}

impl std::error::Error for Full {}

/// The contiguous durable prefix grew. Everything in it survives a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Durable {
    /// Every transaction up to here that was not truncated is durable.
    pub up_to: Zxid,
    /// Every record up to here is durable: the position that `append` and its companions returned.
    pub position: Position,
    /// Batches that joined the prefix with this report.
    pub batches: u32,
    /// The records in them.
    pub batch_records: u64,
    /// Their bytes as written, with the zeros up to whole blocks.
    pub batch_bytes: u64,
    /// From submission to completion, the longest of them.
    pub sync_ns: u64,
}

/// A write the group decided on. It must be durable when it is reported complete.
#[derive(Debug)]
pub struct Write {
    /// Its place in the log; [`Group::completed`] wants it back.
    pub seq: u64,
    /// The segment to write to.
    pub segment: u64,
    /// Where in it. A whole number of blocks, like `bytes`.
    pub offset_bytes: u64,
    /// How much of the buffer to write.
    pub bytes: usize,
    /// What to write; comes back with [`Group::completed`].
    pub buffer: AlignedBuf,
    /// This is the header of `segment`, and this the last transaction before it: nothing is written to an earlier
    /// segment from here on.
    pub begins_segment: Option<Zxid>,
}

/// Where a group goes on from, as recovery found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    pub(crate) store: StoreId,
    /// The segment whose header was just written.
    pub(crate) segment: NewSegment,
    pub(crate) segment_bytes: u64,
    /// The place of the next item, one above that header's.
    pub(crate) next_seq: u64,
    pub(crate) chain: u32,
    pub(crate) facts: Facts,
}

impl Start {
    /// An empty log that begins in segment 1 of `segment_bytes` bytes; for users without a disk.
    pub fn fresh(store: StoreId, segment_bytes: u64, salt: u64) -> Start {
        let segment = NewSegment { number: 1, bytes: segment_bytes, salt };
        Start { store, segment, segment_bytes, next_seq: 2, chain: 0, facts: Facts::none() }
    }
}

/// A segment that is ready to be written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewSegment {
    /// Its number, one above that of the segment before it.
    pub number: u64,
    /// Its size.
    pub bytes: u64,
    /// Drawn at random for this use of the file, so that what an earlier use left in it is known as old.
    pub salt: u64,
}

/// The batch being built.
struct Building {
    buffer: AlignedBuf,
    used: usize,
    count: u32,
    first_zxid: Zxid,
    /// When `next_write` first saw it.
    since_ns: Option<u64>,
    /// The facts after its last record.
    facts: Facts,
    /// It begins a segment that voids every transaction above this.
    voids: Option<u64>,
}

/// What a written item is to whoever waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ItemKind {
    /// Somebody waits for its records.
    Records,
    /// Nobody waits: an idle mark.
    Mark,
    /// Nobody waits: the header of a segment.
    Header,
}

/// Written, and not yet in the durable prefix.
#[derive(Debug)]
struct Item {
    seq: u64,
    segment: u64,
    kind: ItemKind,
    complete: bool,
    last_zxid: Zxid,
    position: Position,
    records: u64,
    bytes: u64,
    submitted_ns: u64,
    sync_ns: u64,
}

/// Builds batches, says when they are written, and turns completions into [`Durable`]. See the module.
///
/// Invariants: `window` holds consecutive seqs that begin one above `durable_seq`; `durable_position` and
/// `durable_zxid` never lead the appended ones.
pub struct Group {
    store: StoreId,
    checksum_seed: u32,
    batch_bytes: usize,
    batch_bytes_max: usize,

    building: Option<Building>,
    window: VecDeque<Item>,
    ahead: VecDeque<NewSegment>,

    segment: NewSegment,
    segment_used: u64,
    next_seq: u64,
    chain: u32,

    /// The facts after the last record appended, and after the last one written.
    appended: Facts,
    written: Facts,
    position: Position,

    durable_seq: u64,
    durable_zxid: Zxid,
    durable_position: Position,
    /// The newest segment whose header is durable.
    durable_segment: u64,
    /// The durable prefix as the newest written item states it, and the newest item that somebody waited for.
    noted_seq: u64,
    awaited_seq: u64,
    /// The newest state head that is on its way, and the newest that is durable.
    state_pending: Option<(Position, Zxid)>,
    state_durable: Option<Zxid>,

    /// An append was refused: the batch leaves as soon as it may.
    pressed: bool,
    quiet_since_ns: u64,
    sync_ns_mean: u64,
    news: Option<Durable>,

    /// Buffers at rest: for usual batches, for the largest, and single blocks for headers and marks. Their number
    /// is bounded by what can be built and in flight at once.
    pool: Vec<AlignedBuf>,
    pool_large: Vec<AlignedBuf>,
    pool_blocks: Vec<AlignedBuf>,
}

impl Group {
    /// Goes on from `start`, whose segment header is durable.
    pub fn new(start: Start) -> Group {
        assert!(SEGMENT_BYTES_MIN <= start.segment_bytes, "segments of {} bytes are too small", start.segment_bytes);
        let room_bytes = usize::try_from(start.segment_bytes).unwrap_or(usize::MAX) - SEGMENT_HEADER_BYTES;
        let room_bytes = room_bytes / BLOCK_BYTES * BLOCK_BYTES;
        Group {
            store: start.store,
            checksum_seed: start.store.checksum_seed(),
            batch_bytes: BATCH_BYTES.min(room_bytes),
            batch_bytes_max: BATCH_BYTES_MAX.min(room_bytes),
            building: None,
            window: VecDeque::with_capacity(IN_FLIGHT_MAX),
            ahead: VecDeque::with_capacity(SEGMENTS_AHEAD),
            segment: start.segment,
            segment_used: SEGMENT_HEADER_BYTES as u64,
            next_seq: start.next_seq,
            chain: start.chain,
            appended: start.facts.clone(),
            durable_seq: start.next_seq - 1,
            durable_zxid: start.facts.last_zxid,
            durable_position: Position(0),
            durable_segment: start.segment.number,
            // The header that was just written states that everything before it is durable.
            noted_seq: start.next_seq - 1,
            awaited_seq: 0,
            state_pending: None,
            state_durable: start.facts.state_head.as_ref().map(|head| head.zxid),
            written: start.facts,
            position: Position(0),
            pressed: false,
            quiet_since_ns: 0,
            sync_ns_mean: SYNC_NS_ASSUMED,
            news: None,
            pool: Vec::with_capacity(IN_FLIGHT_MAX + 1),
            pool_large: Vec::with_capacity(IN_FLIGHT_MAX + 1),
            pool_blocks: Vec::with_capacity(IN_FLIGHT_MAX),
        }
    }

    /// The largest payload that fits: [`TXN_BYTES_MAX`], or less where the segments are smaller than a server's.
    pub fn payload_bytes_max(&self) -> usize {
        TXN_BYTES_MAX.min(self.batch_bytes_max - BATCH_HEADER_BYTES - RECORD_HEADER_BYTES)
    }

    /// The largest payload that [`Group::append`] takes right now. It grows again when the batch being built leaves.
    /// A giant is taken as the first record of a batch only; behind any other there is the rest of [`BATCH_BYTES`].
    pub fn room_bytes(&self) -> usize {
        match &self.building {
            None => self.payload_bytes_max(),
            Some(building) => (building.buffer.len() - building.used).saturating_sub(RECORD_HEADER_BYTES),
        }
    }

    /// The last transaction appended, truncations taken into account.
    pub fn last_zxid(&self) -> Zxid {
        self.appended.last_zxid
    }

    /// The last transaction of the durable prefix.
    pub fn durable_zxid(&self) -> Zxid {
        self.durable_zxid
    }

    pub(crate) fn epochs(&self) -> Epochs {
        self.appended.epochs
    }

    pub(crate) fn state_head(&self) -> Option<&StateHead> {
        self.appended.state_head.as_deref()
    }

    pub(crate) fn state_durable(&self) -> Option<Zxid> {
        self.state_durable
    }

    pub(crate) fn durable_segment(&self) -> u64 {
        self.durable_segment
    }

    pub(crate) fn sync_ns_mean(&self) -> u64 {
        self.sync_ns_mean
    }

    /// Copies one encoded transaction into the batch being built.
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) -> Result<Position, Full> {
        let last_zxid = self.appended.last_zxid;
        assert!(last_zxid < zxid, "appended {zxid} after {last_zxid}");
        let building = self.room(payload.len())?;
        building.put(Kind::Txn, zxid, payload, &[]);
        building.facts.last_zxid = zxid;
        if building.first_zxid == Zxid::ZERO {
            building.first_zxid = zxid;
        }
        self.appended.last_zxid = zxid;
        Ok(self.advance())
    }

    /// Records the epochs. They never fall.
    pub fn append_epochs(&mut self, epochs: Epochs) -> Result<Position, Full> {
        let before = self.appended.epochs;
        assert!(
            before.accepted <= epochs.accepted && before.current <= epochs.current,
            "epochs {epochs:?} after {before:?}"
        );
        assert!(epochs.current <= epochs.accepted, "took over epoch {} without a promise", epochs.current);
        let building = self.room(8)?;
        building.put(Kind::Epochs, Zxid::ZERO, &record::encode_epochs(epochs), &[]);
        building.facts.epochs = epochs;
        self.appended.epochs = epochs;
        Ok(self.advance())
    }

    /// Voids every transaction above `to`. It begins a new segment, so nothing may be in the batch being built:
    /// `Full` until it has left.
    pub fn append_truncate(&mut self, to: Zxid) -> Result<Position, Full> {
        let last_zxid = self.appended.last_zxid;
        assert!(to <= last_zxid, "truncated to {to}, beyond the end {last_zxid}");
        if let Some(head) = &self.appended.state_head {
            assert!(head.zxid <= to, "truncated to {to}, below the state {} at {}", head.file, head.zxid);
        }
        let building = self.room_in_new_segment(0, to)?;
        building.put(Kind::Truncate, to, &[], &[]);
        building.facts.last_zxid = to;
        self.appended.last_zxid = to;
        self.fall_to(to);
        Ok(self.advance())
    }

    /// Records that the state file `file` holds every transaction up to `zxid`, which is in the log.
    pub fn append_state_head(&mut self, file: &str, zxid: Zxid) -> Result<Position, Full> {
        let last_zxid = self.appended.last_zxid;
        assert!(zxid <= last_zxid, "a state at {zxid}, beyond the end {last_zxid}");
        if let Some(head) = &self.appended.state_head {
            assert!(head.zxid <= zxid, "a state at {zxid} after one at {}", head.zxid);
        }
        assert!(file.len() <= STATE_FILE_BYTES_MAX, "the name {file} is too long");
        let building = self.room(1 + file.len())?;
        building.put(Kind::StateHead, zxid, &[0], file.as_bytes());
        Ok(self.advance_state_head(file, zxid))
    }

    /// Records that the state file `file` replaces the whole history: every transaction before it is void, and
    /// the log goes on after `zxid`. Like a truncation it begins a new segment.
    pub fn append_state_replacing_history(&mut self, file: &str, zxid: Zxid) -> Result<Position, Full> {
        assert!(file.len() <= STATE_FILE_BYTES_MAX, "the name {file} is too long");
        let building = self.room_in_new_segment(1 + file.len(), Zxid::ZERO)?;
        building.put(Kind::StateHead, zxid, &[1], file.as_bytes());
        building.facts.last_zxid = zxid;
        self.appended.last_zxid = zxid;
        self.fall_to(Zxid::ZERO);
        Ok(self.advance_state_head(file, zxid))
    }

    /// The last record of this life.
    pub(crate) fn append_seal(&mut self) -> Result<Position, Full> {
        let building = self.room(0)?;
        building.put(Kind::Seal, Zxid::ZERO, &[], &[]);
        Ok(self.advance())
    }

    fn advance(&mut self) -> Position {
        self.position.0 += 1;
        self.position
    }

    fn advance_state_head(&mut self, file: &str, zxid: Zxid) -> Position {
        let head = Some(Arc::new(StateHead { file: file.to_owned(), zxid }));
        if let Some(building) = &mut self.building {
            building.facts.state_head.clone_from(&head);
        }
        self.appended.state_head = head;
        let position = self.advance();
        self.state_pending = Some((position, zxid));
        position
    }

    /// The mark falls with the log: from here on nothing above `to` counts as durable until it is written again,
    /// also not through writes that are still under way.
    fn fall_to(&mut self, to: Zxid) {
        for item in &mut self.window {
            item.last_zxid = item.last_zxid.min(to);
        }
        if let Some(news) = &mut self.news {
            news.up_to = news.up_to.min(to);
        }
        self.durable_zxid = self.durable_zxid.min(to);
    }

    fn room_in_new_segment(&mut self, payload_bytes: usize, void_above: Zxid) -> Result<&mut Building, Full> {
        if self.building.is_some() {
            self.pressed = true;
            return Err(Full);
        }
        let building = self.room(payload_bytes)?;
        building.voids = Some(void_above.raw());
        Ok(building)
    }

    /// The batch being built, with room for one more record of `payload_bytes`.
    fn room(&mut self, payload_bytes: usize) -> Result<&mut Building, Full> {
        let payload_bytes_max = self.payload_bytes_max();
        assert!(
            payload_bytes <= payload_bytes_max,
            "a record of {payload_bytes} bytes; its maker must keep to {payload_bytes_max}"
        );
        let record_bytes = RECORD_HEADER_BYTES + payload_bytes;
        if self.building.is_none() {
            let fits = BATCH_HEADER_BYTES + record_bytes <= self.batch_bytes;
            let (pool, bytes) =
                if fits { (&mut self.pool, self.batch_bytes) } else { (&mut self.pool_large, self.batch_bytes_max) };
            self.building = Some(Building {
                buffer: pool.pop().unwrap_or_else(|| AlignedBuf::new(bytes)),
                used: BATCH_HEADER_BYTES,
                count: 0,
                first_zxid: Zxid::ZERO,
                since_ns: None,
                facts: self.appended.clone(),
                voids: None,
            });
        }
        match &mut self.building {
            Some(building) if building.used + record_bytes <= building.buffer.len() => Ok(building),
            _ => {
                self.pressed = true;
                Err(Full)
            }
        }
    }

    /// A prepared segment, to be begun when the current one is full or a truncation asks for a new one.
    pub fn offer_segment(&mut self, segment: NewSegment) {
        let before = self.ahead.back().map_or(self.segment.number, |last| last.number);
        assert!(segment.number == before + 1, "segment {} was offered after {before}", segment.number);
        self.ahead.push_back(segment);
    }

    /// How many prepared segments are left.
    pub fn segments_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// How much of the current segment is left.
    pub fn segment_room_bytes(&self) -> u64 {
        self.segment.bytes.saturating_sub(self.segment_used)
    }

    /// Nothing is built and nothing that anybody waits for is in flight.
    pub fn idle(&self) -> bool {
        self.building.is_none() && self.awaited() == 0
    }

    /// Writes in flight, also those nobody waits for.
    pub fn in_flight(&self) -> usize {
        self.window.iter().filter(|item| !item.complete).count()
    }

    /// When the oldest write outside the durable prefix was submitted.
    pub fn waiting_since_ns(&self) -> Option<u64> {
        self.window.front().map(|item| item.submitted_ns)
    }

    fn awaited(&self) -> usize {
        self.window.iter().filter(|item| item.kind == ItemKind::Records).count()
    }

    /// Something is built and cannot be written because no segment is ready.
    pub(crate) fn starved(&self) -> bool {
        let starved = |building: &Building| self.needs_segment(building) && self.ahead.is_empty();
        self.building.as_ref().is_some_and(starved)
    }

    fn needs_segment(&self, building: &Building) -> bool {
        let bytes = building.used.next_multiple_of(BLOCK_BYTES) as u64;
        building.voids.is_some() || self.segment_room_bytes() < bytes
    }

    /// Makes the batch being built leave with the next free place in flight, however small it is.
    pub(crate) fn press(&mut self) {
        self.pressed = true;
    }

    /// Takes back [`Group::press`] if nothing came of it.
    pub(crate) fn release(&mut self) {
        self.pressed = false;
    }

    /// When a mark is due, if nothing happens until then.
    pub fn mark_due_ns(&self) -> Option<u64> {
        let wanted = self.building.is_none() && self.window.is_empty() && self.noted_seq < self.awaited_seq;
        let possible = BLOCK_BYTES as u64 <= self.segment_room_bytes() || !self.ahead.is_empty();
        (wanted && possible).then(|| self.quiet_since_ns.saturating_add(QUIET_NS))
    }

    /// What is to be written now, if anything is. Ask until it says `None`.
    pub fn next_write(&mut self, now_ns: u64) -> Option<Write> {
        if IN_FLIGHT_MAX <= self.window.len() {
            return None;
        }
        if let Some(building) = &mut self.building {
            let since_ns = *building.since_ns.get_or_insert(now_ns);
            // Idle, or only a mark or header under way: at once. Otherwise a second write pays only when it is
            // large, or when waiting for the first would cost its records more than they save.
            let due = self.awaited() == 0
                || self.pressed
                || self.building.as_ref().is_some_and(|building| SECOND_WRITE_BYTES <= building.used)
                || self.sync_ns_mean / 2 < now_ns.saturating_sub(since_ns);
            return if due { self.write_building(now_ns) } else { None };
        }
        if self.mark_due_ns()? <= now_ns { self.write_mark(now_ns) } else { None }
    }

    fn write_building(&mut self, now_ns: u64) -> Option<Write> {
        let building = self.building.as_ref()?;
        if self.needs_segment(building) {
            return self.begin_segment(now_ns);
        }
        let building = self.building.take()?;
        self.pressed = false;
        let padded = building.used.next_multiple_of(BLOCK_BYTES);
        let header = BatchHeader {
            bytes: building.used as u32,
            count: building.count,
            seq: self.next_seq,
            salt: self.segment.salt,
            chain: self.chain,
            durable_seq: self.durable_seq,
            first_zxid: building.first_zxid,
            last_zxid: building.facts.last_zxid,
        };
        let mut buffer = building.buffer;
        // The buffer is used again and again: what an earlier batch left behind the records must not be written.
        buffer[building.used..padded].fill(0);
        self.chain = header.encode(&mut buffer[..padded], self.checksum_seed);
        self.awaited_seq = self.next_seq;
        self.written = building.facts;
        let records = u64::from(building.count);
        Some(self.submit(ItemKind::Records, records, buffer, padded, now_ns))
    }

    /// An idle mark: an empty-handed batch whose header names the durable end.
    fn write_mark(&mut self, now_ns: u64) -> Option<Write> {
        if self.segment_room_bytes() < BLOCK_BYTES as u64 {
            // The header of the next segment names it as well.
            return self.begin_segment(now_ns);
        }
        let mut buffer = self.pool_blocks.pop().unwrap_or_else(|| AlignedBuf::new(BLOCK_BYTES));
        let bytes = record::encode(&mut buffer[BATCH_HEADER_BYTES..], Kind::IdleMark, Zxid::ZERO, &[], &[]);
        let used = BATCH_HEADER_BYTES + bytes;
        buffer[used..].fill(0);
        let header = BatchHeader {
            bytes: used as u32,
            count: 1,
            seq: self.next_seq,
            salt: self.segment.salt,
            chain: self.chain,
            durable_seq: self.durable_seq,
            first_zxid: Zxid::ZERO,
            last_zxid: self.written.last_zxid,
        };
        self.chain = header.encode(&mut buffer, self.checksum_seed);
        Some(self.submit(ItemKind::Mark, 0, buffer, BLOCK_BYTES, now_ns))
    }

    fn begin_segment(&mut self, now_ns: u64) -> Option<Write> {
        let segment = self.ahead.pop_front()?;
        let void_above = match &mut self.building {
            Some(building) => building.voids.take().unwrap_or(VOID_NOTHING),
            None => VOID_NOTHING,
        };
        let mut facts = self.written.clone();
        let begins_after = facts.last_zxid.min(Zxid::from_raw(void_above));
        facts.last_zxid = begins_after;
        let header = SegmentHeader {
            store: self.store,
            number: segment.number,
            bytes: segment.bytes,
            salt: segment.salt,
            seq: self.next_seq,
            durable_seq: self.durable_seq,
            chain: self.chain,
            void_above,
            facts,
        };
        let mut buffer = self.pool_blocks.pop().unwrap_or_else(|| AlignedBuf::new(BLOCK_BYTES));
        self.chain = header.encode(&mut buffer);
        self.segment = segment;
        self.segment_used = 0;
        let mut write = self.submit(ItemKind::Header, 0, buffer, SEGMENT_HEADER_BYTES, now_ns);
        write.begins_segment = Some(begins_after);
        Some(write)
    }

    fn submit(&mut self, kind: ItemKind, records: u64, buffer: AlignedBuf, bytes: usize, now_ns: u64) -> Write {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.noted_seq = self.durable_seq;
        self.window.push_back(Item {
            seq,
            segment: self.segment.number,
            kind,
            complete: false,
            last_zxid: self.written.last_zxid,
            position: self.position_written(kind),
            records,
            bytes: bytes as u64,
            submitted_ns: now_ns,
            sync_ns: 0,
        });
        let offset_bytes = self.segment_used;
        self.segment_used += bytes as u64;
        assert!(self.segment_used <= self.segment.bytes, "a batch crosses the end of segment {}", self.segment.number);
        Write { seq, segment: self.segment.number, offset_bytes, bytes, buffer, begins_segment: None }
    }

    /// The position an item vouches for: with a batch of records, everything appended so far is written, for the
    /// batch being built was just taken.
    fn position_written(&self, kind: ItemKind) -> Position {
        match kind {
            ItemKind::Records => self.position,
            ItemKind::Mark | ItemKind::Header => Position(0),
        }
    }

    /// The write `seq` is durable, as a whole. [`Group::take_durable`] says what follows from it.
    pub fn completed(&mut self, seq: u64, buffer: AlignedBuf, now_ns: u64) {
        self.recycle(buffer);
        let item = self.window.iter_mut().find(|item| item.seq == seq && !item.complete);
        let Some(item) = item else { panic!("write {seq} completed, but it is not in flight") };
        item.complete = true;
        item.sync_ns = now_ns.saturating_sub(item.submitted_ns);
        self.sync_ns_mean = (self.sync_ns_mean * 7 + item.sync_ns) / 8;
        while let Some(item) = self.window.pop_front_if(|item| item.complete) {
            assert!(item.seq == self.durable_seq + 1, "durable {} after {}", item.seq, self.durable_seq);
            self.durable_seq = item.seq;
            self.quiet_since_ns = now_ns;
            match item.kind {
                ItemKind::Records => self.advance_durable(&item),
                ItemKind::Header => self.durable_segment = item.segment,
                ItemKind::Mark => {}
            }
        }
    }

    fn advance_durable(&mut self, item: &Item) {
        assert!(self.durable_position < item.position && item.position <= self.position);
        self.durable_position = item.position;
        // A truncation that is still under way already holds its place down; see `fall_to`.
        self.durable_zxid = item.last_zxid;
        if let Some((position, zxid)) = self.state_pending
            && position <= item.position
        {
            self.state_durable = Some(zxid);
            self.state_pending = None;
        }
        let news = self.news.get_or_insert(Durable {
            up_to: Zxid::ZERO,
            position: Position(0),
            batches: 0,
            batch_records: 0,
            batch_bytes: 0,
            sync_ns: 0,
        });
        news.up_to = item.last_zxid;
        news.position = item.position;
        news.batches += 1;
        news.batch_records += item.records;
        news.batch_bytes += item.bytes;
        news.sync_ns = news.sync_ns.max(item.sync_ns);
    }

    fn recycle(&mut self, buffer: AlignedBuf) {
        // A segment so small that two of the sizes coincide only makes the pools equivalent.
        if buffer.len() == BLOCK_BYTES {
            self.pool_blocks.push(buffer);
        } else if buffer.len() == self.batch_bytes {
            self.pool.push(buffer);
        } else if self.pool_large.is_empty() {
            // The largest ones are rare: one is worth keeping.
            self.pool_large.push(buffer);
        }
    }

    /// How far the durable prefix grew since this was last asked.
    pub fn take_durable(&mut self) -> Option<Durable> {
        self.news.take()
    }
}

impl Building {
    fn put(&mut self, kind: Kind, zxid: Zxid, head: &[u8], tail: &[u8]) {
        self.used += record::encode(&mut self.buffer[self.used..], kind, zxid, head, tail);
        self.count += 1;
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Group")
            .field("segment", &self.segment)
            .field("segment_used", &self.segment_used)
            .field("next_seq", &self.next_seq)
            .field("durable_seq", &self.durable_seq)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SEGMENT_BYTES;
    use crate::segment::SegmentSeen;

    const STORE: StoreId = StoreId(3);

    fn group() -> Group {
        Group::new(Start::fresh(STORE, SEGMENT_BYTES, 77))
    }

    fn zxid(counter: u32) -> Zxid {
        Zxid::new(1, counter)
    }

    fn header(write: &Write) -> BatchHeader {
        BatchHeader::decode(&write.buffer, STORE.checksum_seed()).expect("the header of a batch").0
    }

    #[test]
    fn idle_means_at_once() {
        let mut group = group();
        assert!(group.next_write(0).is_none());
        group.append(zxid(1), b"x").unwrap();
        let write = group.next_write(0).expect("nothing is in flight");
        assert_eq!((write.segment, write.offset_bytes, write.bytes, write.seq), (1, 4096, 4096, 2));
        assert!(group.next_write(0).is_none());
        assert!(!group.idle());
        group.completed(write.seq, write.buffer, 90_000);
        let durable = group.take_durable().unwrap();
        assert_eq!((durable.up_to, durable.position, durable.sync_ns), (zxid(1), Position(1), 90_000));
        assert!(group.idle() && group.take_durable().is_none());
    }

    #[test]
    fn a_second_write_leaves_when_it_is_large_or_old_and_never_a_third() {
        let mut group = group();
        group.append(zxid(1), b"x").unwrap();
        let first = group.next_write(0).unwrap();
        group.append(zxid(2), b"y").unwrap();
        assert!(group.next_write(10).is_none(), "small and young");
        assert!(group.next_write(10 + SYNC_NS_ASSUMED / 2).is_none(), "not yet older than half a sync");
        let old = group.next_write(11 + SYNC_NS_ASSUMED / 2).expect("older than half a sync");
        group.append(zxid(3), &[0; SECOND_WRITE_BYTES]).unwrap();
        assert!(group.next_write(1 << 40).is_none(), "two are in flight");
        assert_eq!(group.waiting_since_ns(), Some(0), "h35: how long the disk has kept us waiting");
        group.completed(first.seq, first.buffer, 1 << 20);
        let large = group.next_write(1 << 20).expect("large, and one in flight");
        assert_eq!(large.bytes, (SECOND_WRITE_BYTES + 4096).next_multiple_of(4096));
        group.completed(large.seq, large.buffer, 1 << 20);
        assert!(group.next_write(1 << 40).is_none());
        assert_eq!(group.in_flight(), 1);
        group.completed(old.seq, old.buffer, 1 << 20);
        assert_eq!(group.take_durable().unwrap().up_to, zxid(3));
        assert_eq!(group.waiting_since_ns(), None);
    }

    #[test]
    fn h36_the_later_completion_releases_nothing_and_is_not_counted_as_room() {
        let mut group = group();
        group.append(zxid(1), b"x").unwrap();
        let first = group.next_write(0).unwrap();
        group.append(zxid(2), &[0; SECOND_WRITE_BYTES]).unwrap();
        let second = group.next_write(0).unwrap();
        assert_eq!((header(&first).durable_seq, header(&second).durable_seq), (1, 1));
        group.completed(second.seq, second.buffer, 50);
        assert_eq!(group.take_durable(), None);
        assert_eq!(group.durable_zxid(), Zxid::ZERO);
        group.append(zxid(3), &[0; SECOND_WRITE_BYTES]).unwrap();
        assert!(group.next_write(1 << 30).is_none(), "the window reaches from the oldest write on");
        group.completed(first.seq, first.buffer, 60);
        let durable = group.take_durable().unwrap();
        assert_eq!((durable.up_to, durable.batches, durable.batch_records), (zxid(2), 2, 2));
        assert_eq!(header(&group.next_write(1 << 30).unwrap()).durable_seq, 3);
    }

    #[test]
    fn h34_the_durable_mark_falls_with_a_truncation_also_for_writes_under_way() {
        let mut group = group();
        for counter in 1..=5 {
            group.append(zxid(counter), b"x").unwrap();
        }
        let write = group.next_write(0).unwrap();
        group.offer_segment(NewSegment { number: 2, bytes: SEGMENT_BYTES, salt: 78 });
        group.append_truncate(zxid(3)).unwrap();
        group.append(zxid(4), b"another").unwrap();
        group.completed(write.seq, write.buffer, 10);
        assert_eq!(group.take_durable().unwrap().up_to, zxid(3), "4 and 5 are void, and the new 4 is not durable");
        let begin = group.next_write(10).unwrap();
        assert_eq!(begin.begins_segment, Some(zxid(3)));
        let SegmentSeen::Valid { header, .. } = SegmentHeader::decode(&begin.buffer) else { panic!("no header") };
        assert_eq!((header.void_above, header.salt, header.number), (zxid(3).raw(), 78, 2));
        let write = group.next_write(10).expect("a header under way holds nothing up");
        group.completed(write.seq, write.buffer, 20);
        assert_eq!(group.take_durable(), None, "the segment's header comes first");
        group.completed(begin.seq, begin.buffer, 30);
        assert_eq!(group.take_durable().unwrap().up_to, zxid(4));
    }

    #[test]
    fn a_mark_follows_one_quiet_millisecond_and_only_one() {
        let mut group = group();
        assert_eq!(group.mark_due_ns(), None, "nothing to mark");
        group.append(zxid(1), b"x").unwrap();
        let write = group.next_write(0).unwrap();
        assert_eq!(group.mark_due_ns(), None, "not quiet");
        group.completed(write.seq, write.buffer, 100);
        group.take_durable().unwrap();
        assert_eq!(group.mark_due_ns(), Some(100 + QUIET_NS));
        assert!(group.next_write(99 + QUIET_NS).is_none());
        let mark = group.next_write(100 + QUIET_NS).expect("quiet for a millisecond");
        assert_eq!(header(&mark).durable_seq, 2);
        assert!(group.idle(), "nobody waits for a mark");
        group.append(zxid(2), b"y").unwrap();
        let write = group.next_write(101 + QUIET_NS).expect("a mark under way holds nothing up");
        group.completed(write.seq, write.buffer, 200 + QUIET_NS);
        assert_eq!(group.take_durable(), None, "but what is behind it is durable only with it");
        group.completed(mark.seq, mark.buffer, 300 + QUIET_NS);
        assert_eq!(group.take_durable().unwrap().up_to, zxid(2));
        let mark = group.next_write(300 + 2 * QUIET_NS).unwrap();
        group.completed(mark.seq, mark.buffer, 400 + 2 * QUIET_NS);
        assert_eq!(group.mark_due_ns(), None, "a mark needs no mark");
        assert!(group.next_write(u64::MAX).is_none());
    }

    #[test]
    fn what_is_built_is_bounded_and_a_record_that_does_not_fit_makes_the_batch_leave() {
        let mut group = group();
        let first = {
            group.append(zxid(1), b"x").unwrap();
            group.next_write(0).unwrap()
        };
        group.append(zxid(2), b"y").unwrap();
        assert!(group.next_write(1).is_none());
        assert_eq!(group.append(zxid(3), &vec![0; TXN_BYTES_MAX]), Err(Full));
        let second = group.next_write(1).expect("it makes room for the large one");
        group.append(zxid(3), &vec![0; TXN_BYTES_MAX]).unwrap();
        assert_eq!(group.append(zxid(4), &[0; 8192]), Err(Full));
        assert!(group.next_write(1).is_none(), "two are in flight");
        group.completed(first.seq, first.buffer, 2);
        let large = group.next_write(2).unwrap();
        assert_eq!(large.bytes, BATCH_BYTES_MAX);
        group.completed(second.seq, second.buffer, 3);
        group.completed(large.seq, large.buffer, 3);
        assert_eq!(group.take_durable().unwrap().up_to, zxid(3));
        let mut built = 0;
        while group.append(zxid(4 + built), &[0; 1000]).is_ok() {
            built += 1;
        }
        assert!(built as usize * 1020 <= BATCH_BYTES, "{built}");
    }

    #[test]
    fn what_is_announced_as_room_is_taken_and_not_a_byte_more() {
        let mut group = group();
        assert_eq!(group.room_bytes(), TXN_BYTES_MAX);
        let mut counter = 0;
        for bytes in [10, 5_000, 300_000, 700_000, 0, usize::MAX] {
            let room_bytes = group.room_bytes();
            counter += 1;
            if bytes < room_bytes {
                group.append(zxid(counter), &vec![0; bytes]).unwrap();
            } else {
                assert_eq!(group.append(zxid(counter), &vec![0; room_bytes + 1]), Err(Full));
                group.append(zxid(counter), &vec![0; room_bytes]).unwrap();
            }
        }
        assert_eq!(group.room_bytes(), 0);
        assert_eq!(group.append(zxid(counter + 1), b""), Err(Full));
    }

    #[test]
    fn without_a_segment_ahead_a_full_one_holds_everything_back() {
        let mut group = Group::new(Start::fresh(STORE, SEGMENT_BYTES_MIN, 77));
        for counter in 1..=3 {
            group.append(zxid(counter), &[0; 3000]).unwrap();
            let write = group.next_write(0).unwrap();
            group.completed(write.seq, write.buffer, 1);
        }
        group.append(zxid(4), &[0; 3000]).unwrap();
        assert!(group.next_write(0).is_none() && group.starved());
        group.offer_segment(NewSegment { number: 2, bytes: SEGMENT_BYTES_MIN, salt: 1 });
        assert!(!group.starved());
        let begin = group.next_write(0).unwrap();
        assert_eq!((begin.segment, begin.offset_bytes, begin.begins_segment), (2, 0, Some(zxid(3))));
        assert_eq!(group.next_write(0).unwrap().offset_bytes, 4096);
    }

    #[test]
    #[should_panic(expected = "appended 0x100000001 after 0x100000001")]
    fn a_zxid_that_does_not_rise_is_a_broken_promise() {
        let mut group = group();
        group.append(zxid(1), b"x").unwrap();
        let _ = group.append(zxid(1), b"x");
    }

    #[test]
    #[should_panic(expected = "its maker must keep to")]
    fn h71_a_record_beyond_the_limit_is_a_broken_promise() {
        let _ = group().append(zxid(1), &vec![0; TXN_BYTES_MAX + 1]);
    }
}
