//! The log itself: performs on a [`Disk`] what [`Group`] decides.
//!
//! Guarantees: [`Durable`] is only ever reported for what the disk has confirmed, in order; the first error or short
//! write ends the log for good, nothing is tried again, and everything after it is refused.

use crate::disk::{Completion, Disk, Files, SyncWrite};
use crate::error::OpenError;
use crate::group::{Durable, Full, Group, NewSegment, Position};
use crate::limits::{BLOCK_BYTES, PREPARE_RETRY_NS, SEGMENT_BYTES, SEGMENT_BYTES_MIN, SEGMENTS_AHEAD};
use crate::open::{self, RecordRef, Recovered, Stop};
use crate::record::Epochs;
use crate::segment::{Name, StateHead, StoreId};
use crate::space::{Prepare, PrepareError, Prepared, Purge, Purged};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use zorilla_proto::Zxid;

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store the log has to belong to, and belongs to from its first segment on.
    pub store: StoreId,
    /// The size of new segments, a whole number of blocks, at least [`SEGMENT_BYTES_MIN`]; for a server at least
    /// [`crate::limits::SEGMENT_BYTES_SERVER_MIN`]. Existing ones keep theirs.
    pub segment_bytes: u64,
}

impl Options {
    /// The usual sizes.
    pub fn new(store: StoreId) -> Options {
        Options { store, segment_bytes: SEGMENT_BYTES }
    }
}

/// A write, a sync or the preparation of a segment failed. The log has ended: what was not reported durable may or
/// may not be on the disk, and only a new start can tell.
#[derive(Clone, Debug)]
pub struct Failed {
    /// What was tried.
    pub op: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// The answer.
    pub reason: Arc<str>,
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}: could not {} the log: {}. The server ends, because it cannot keep what it would acknowledge. Check \
             the disk, then start it again: everything acknowledged is read back from there.",
            self.path.display(),
            self.op,
            self.reason
        )
    }
}

impl std::error::Error for Failed {}

/// How much room the log has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// Enough.
    Plenty,
    /// The disk is full and only the reserved segment is left. Writes get an error before they take a zxid; what
    /// lets sessions close is still appended. It ends by itself when a segment can be prepared again.
    Reserve,
}

/// What the log did since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Batches of records that became durable.
    pub batches: u64,
    /// The records in them.
    pub records: u64,
    /// Everything submitted, headers, marks and padding included.
    pub bytes: u64,
    /// Idle marks submitted.
    pub marks: u64,
    /// Segments begun.
    pub segments: u64,
    /// Segments prepared, and those of them that an old file served for.
    pub prepared: u64,
    /// See `prepared`.
    pub recycled: u64,
    /// How often there was no room for the next segment.
    pub no_space: u64,
    /// Running mean of a write with its sync.
    pub sync_ns_mean: u64,
}

/// Numbers nobody can guess, from the one seed the log was opened with.
pub(crate) struct Salts {
    state: u64,
}

impl Salts {
    /// SplitMix64: every seed gives a full sequence without repetition.
    pub(crate) fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The log over a disk.
///
/// Invariant: `open` holds the file of the segment being written and, behind it, those of the segments ahead, in the
/// order of their numbers; `group` knows the same ones.
pub struct Wal<D: Disk> {
    disk: D,
    files: D::Files,
    group: Group,
    options: Options,
    salts: Salts,
    open: VecDeque<OpenSegment<D>>,
    /// Segments in use and the last transaction before each, oldest first.
    segments: VecDeque<(u64, Zxid)>,
    /// The number of the segment that somebody is preparing.
    preparing: Option<u64>,
    /// Somebody is purging.
    purging: bool,
    no_space: bool,
    retry_at_ns: u64,
    now_ns: u64,
    failed: Option<Failed>,
    stats: Stats,
}

struct OpenSegment<D: Disk> {
    number: u64,
    file: <D::Files as Files>::File,
}

impl<D: Disk> Wal<D> {
    /// Recovers and goes on: gives `each` every record that no truncation voids, in order, then begins a new segment.
    ///
    /// `entropy` is a random number; the salts of this life's segments follow from it. When this returns, everything
    /// that `each` was given is durable.
    pub fn open(
        mut disk: D,
        options: Options,
        entropy: u64,
        each: &mut dyn FnMut(RecordRef<'_>) -> Result<(), Stop>,
    ) -> Result<(Wal<D>, Recovered), OpenError> {
        let segment_bytes = options.segment_bytes;
        assert!(
            SEGMENT_BYTES_MIN <= segment_bytes && segment_bytes.is_multiple_of(BLOCK_BYTES as u64),
            "segments of {segment_bytes} bytes"
        );
        let mut salts = Salts { state: entropy };
        let opened = open::open(&mut disk, &options, &mut salts, each)?;
        let number = opened.start.segment.number;
        let mut wal = Wal {
            files: disk.files(),
            disk,
            group: Group::new(opened.start),
            options,
            salts,
            open: VecDeque::from([OpenSegment { number, file: opened.file }]),
            segments: opened.segments,
            preparing: None,
            purging: false,
            no_space: false,
            retry_at_ns: 0,
            now_ns: 0,
            failed: None,
            stats: Stats::default(),
        };
        for prepared in opened.ahead {
            wal.take_prepared(prepared);
        }
        Ok((wal, opened.recovered))
    }

    /// The largest payload a record may have; more is a fault of whoever made it.
    pub fn payload_bytes_max(&self) -> usize {
        self.group.payload_bytes_max()
    }

    /// The largest payload that [`Wal::append`] takes right now. It grows again when the batch being built leaves.
    pub fn room_bytes(&self) -> usize {
        self.group.room_bytes()
    }

    /// Copies one encoded transaction into the batch being built; [`Wal::poll`] reports later that it is durable.
    ///
    /// `zxid` is above every one before. `Full`: poll, then try again. Never blocks, makes no system call, and
    /// allocates nothing once the buffers are warm.
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) -> Result<Position, Full> {
        self.group.append(zxid, payload)
    }

    /// Records the epochs, in order with the transactions. They never fall.
    pub fn append_epochs(&mut self, epochs: Epochs) -> Result<Position, Full> {
        self.group.append_epochs(epochs)
    }

    /// Voids every transaction above `to`, which is not below the newest state head.
    ///
    /// Nothing above `to` is reported durable any more until it was appended again. `Full` also while a batch is
    /// being built: a truncation begins a new segment.
    pub fn append_truncate(&mut self, to: Zxid) -> Result<Position, Full> {
        self.group.append_truncate(to)
    }

    /// Records that the state file `file` holds everything up to `zxid`. Once this is durable, [`Wal::purge_before`]
    /// gives back what lies before it.
    pub fn append_state_head(&mut self, file: &str, zxid: Zxid) -> Result<Position, Full> {
        self.group.append_state_head(file, zxid)
    }

    /// Records that the state file `file`, complete up to `zxid`, replaces the whole history before it. One record,
    /// so that no crash shows the old history gone and the new state not yet there.
    pub fn append_state_replacing_history(&mut self, file: &str, zxid: Zxid) -> Result<Position, Full> {
        self.group.append_state_replacing_history(file, zxid)
    }

    /// The store it belongs to.
    pub fn store(&self) -> StoreId {
        self.options.store
    }

    /// The last transaction appended.
    pub fn last_zxid(&self) -> Zxid {
        self.group.last_zxid()
    }

    /// The last transaction that is durable.
    pub fn durable_zxid(&self) -> Zxid {
        self.group.durable_zxid()
    }

    /// The epochs as last appended.
    pub fn epochs(&self) -> Epochs {
        self.group.epochs()
    }

    /// The state head as last appended.
    pub fn state_head(&self) -> Option<&StateHead> {
        self.group.state_head()
    }

    /// Reaps completions, submits what is due, writes an idle mark when it is due. `now_ns` is monotonic.
    ///
    /// Says how far the durable prefix grew. Call it after appending, when [`Wal::event_fd`] becomes readable, and
    /// at [`Wal::deadline_ns`].
    pub fn poll(&mut self, now_ns: u64) -> Result<Option<Durable>, Failed> {
        self.check()?;
        self.now_ns = now_ns;
        while let Some(completion) = self.disk.complete() {
            self.completed(completion)?;
        }
        while let Some(write) = self.group.next_write(now_ns) {
            if let Some(begins_after) = write.begins_segment {
                self.stats.segments += 1;
                self.segments.push_back((write.segment, begins_after));
                self.open.pop_front();
            } else if self.group.idle() {
                self.stats.marks += 1;
            }
            self.stats.bytes += write.bytes as u64;
            let Some(open) = self.open.front() else { panic!("no file is open for segment {}", write.segment) };
            assert!(open.number == write.segment, "segment {} is open, not {}", open.number, write.segment);
            let sync_write = SyncWrite {
                token: write.seq,
                offset_bytes: write.offset_bytes,
                bytes: write.bytes,
                buffer: write.buffer,
            };
            if let Err(refused) = self.disk.submit(&open.file, sync_write) {
                return Err(self.fail("write to", write.segment, &refused.to_string()));
            }
        }
        let durable = self.group.take_durable();
        if let Some(durable) = &durable {
            self.stats.batches += u64::from(durable.batches);
            self.stats.records += durable.batch_records;
        }
        self.stats.sync_ns_mean = self.group.sync_ns_mean();
        Ok(durable)
    }

    fn check(&self) -> Result<(), Failed> {
        match &self.failed {
            Some(failed) => Err(failed.clone()),
            None => Ok(()),
        }
    }

    fn completed(&mut self, completion: Completion) -> Result<(), Failed> {
        let Completion { token, bytes, buffer, result } = completion;
        let segment = self.open.front().map_or(0, |open| open.number);
        match result {
            Ok(written) if written == bytes => {
                self.group.completed(token, buffer, self.now_ns);
                Ok(())
            }
            Ok(written) => Err(self.fail("write to", segment, &format!("{written} of {bytes} bytes were taken"))),
            Err(failed) => Err(self.fail("write to", segment, &failed.to_string())),
        }
    }

    fn fail(&mut self, op: &'static str, segment: u64, reason: &str) -> Failed {
        let path = self.files.path(&Name::Segment(segment).to_string());
        self.fail_with(Failed { op, path, reason: reason.into() })
    }

    /// The first failure stays: what comes later may only be its consequence.
    fn fail_with(&mut self, failed: Failed) -> Failed {
        self.failed.get_or_insert(failed).clone()
    }

    /// When [`Wal::poll`] has to be called even if nothing completes: for an idle mark, or to ask again for room.
    pub fn deadline_ns(&self) -> Option<u64> {
        if self.failed.is_some() {
            return None;
        }
        let retry = (self.no_space && self.preparing.is_none()).then_some(self.retry_at_ns);
        [self.group.mark_due_ns(), retry].into_iter().flatten().min()
    }

    /// Readable while completions wait for [`Wal::poll`], for edge- and level-triggered pollers alike. The same for the
    /// whole life of the log.
    ///
    /// With io_uring the kernel interrupts a wait to complete a write: a wait that ends with `EINTR` is an occasion to
    /// poll the log, and no error. The completion is there by then.
    pub fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.disk.event_fd()
    }

    /// Nothing is built, and nothing that anybody waits for is in flight.
    pub fn idle(&self) -> bool {
        self.group.idle()
    }

    /// When the oldest write that is not durable yet was submitted. A server whose log has hung for long must not lead.
    pub fn waiting_since_ns(&self) -> Option<u64> {
        self.group.waiting_since_ns()
    }

    /// A segment that somebody should prepare. Each is asked for once; the outcome goes to
    /// [`Wal::segment_prepared`]. Ask after polling.
    pub fn wants_segment(&mut self) -> Option<Prepare<D::Files>> {
        let enough = SEGMENTS_AHEAD <= self.group.segments_ahead();
        let later = self.no_space && self.now_ns < self.retry_at_ns;
        if self.failed.is_some() || self.preparing.is_some() || enough || later {
            return None;
        }
        let number = self.open.back().map_or(1, |open| open.number + 1);
        self.preparing = Some(number);
        Some(Prepare { files: self.files.clone(), number, bytes: self.options.segment_bytes })
    }

    /// The outcome of [`Prepare::run`]. A full disk is waited out; any other error ends the log.
    pub fn segment_prepared(&mut self, outcome: Result<Prepared<D::Files>, PrepareError>) -> Result<(), Failed> {
        self.check()?;
        assert!(self.preparing.take().is_some(), "a segment was prepared that nobody asked for");
        match outcome {
            Ok(prepared) => {
                self.no_space = false;
                self.stats.prepared += 1;
                self.stats.recycled += u64::from(prepared.recycled);
                self.take_prepared(prepared);
                Ok(())
            }
            Err(PrepareError::NoSpace { .. }) => {
                self.no_space = true;
                self.stats.no_space += 1;
                self.retry_at_ns = self.now_ns.saturating_add(PREPARE_RETRY_NS);
                Ok(())
            }
            Err(PrepareError::Io { op, path, source }) => {
                Err(self.fail_with(Failed { op, path, reason: source.to_string().into() }))
            }
        }
    }

    fn take_prepared(&mut self, prepared: Prepared<D::Files>) {
        let salt = self.salts.draw();
        self.group.offer_segment(NewSegment { number: prepared.number, bytes: prepared.bytes, salt });
        self.open.push_back(OpenSegment { number: prepared.number, file: prepared.file });
    }

    /// Whether writes should still be taken.
    pub fn space(&self) -> Space {
        if !self.no_space {
            return Space::Plenty;
        }
        match self.group.segments_ahead() {
            0 => Space::Reserve,
            // What was accepted already, two writes in flight and a full batch, must not need the reserved one.
            1 if self.group.segment_room_bytes() < self.options.segment_bytes / 4 => Space::Reserve,
            _ => Space::Plenty,
        }
    }

    /// Gives back the segments that hold nothing above `keep_after`, nor anything above the newest durable state
    /// head. To be run by the thread that prepares segments; the outcome goes to [`Wal::segments_purged`], and before
    /// that there is no further one.
    pub fn purge_before(&mut self, keep_after: Zxid) -> Option<Purge<D::Files>> {
        if self.purging || self.failed.is_some() {
            return None;
        }
        let limit = self.group.state_durable()?.min(keep_after);
        // A segment is not needed when the one after it is durably begun and begins at or below the limit.
        while let [_, (next, begins_after), ..] = *self.segments.make_contiguous()
            && next <= self.group.durable_segment()
            && begins_after <= limit
        {
            self.segments.pop_front();
            self.purging = true;
        }
        let (before, _) = *self.segments.front()?;
        self.purging.then(|| Purge { files: self.files.clone(), before })
    }

    /// The outcome of [`Purge::run`]. What a full disk did not let go is taken by the next purge; any other error ends
    /// the log.
    pub fn segments_purged(&mut self, outcome: Result<Purged, PrepareError>) -> Result<(), Failed> {
        self.check()?;
        assert!(self.purging, "segments were purged that nobody gave back");
        self.purging = false;
        match outcome {
            Ok(_) | Err(PrepareError::NoSpace { .. }) => Ok(()),
            Err(PrepareError::Io { op, path, source }) => {
                Err(self.fail_with(Failed { op, path, reason: source.to_string().into() }))
            }
        }
    }

    /// Segments in use.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// What the log did since it was opened.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The disk the log is on.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Blocks until everything appended is durable, preparing a segment itself if it must. For start, shutdown and
    /// tools; a server polls.
    pub fn flush(&mut self, now_ns: u64) -> Result<Option<Durable>, Failed> {
        let mut sum: Option<Durable> = None;
        loop {
            self.group.press();
            if let Some(durable) = self.poll(now_ns)? {
                sum = Some(match sum {
                    None => durable,
                    Some(before) => Durable {
                        batches: before.batches + durable.batches,
                        batch_records: before.batch_records + durable.batch_records,
                        batch_bytes: before.batch_bytes + durable.batch_bytes,
                        sync_ns: before.sync_ns.max(durable.sync_ns),
                        ..durable
                    },
                });
            }
            if self.group.idle() && self.group.in_flight() == 0 {
                self.group.release();
                return Ok(sum);
            }
            if 0 < self.group.in_flight() {
                if let Err(failed) = self.disk.wait() {
                    let segment = self.open.front().map_or(0, |open| open.number);
                    return Err(self.fail("wait for", segment, &failed.to_string()));
                }
            } else if self.group.starved() {
                self.prepare_now()?;
            }
        }
    }

    fn prepare_now(&mut self) -> Result<(), Failed> {
        self.retry_at_ns = self.now_ns;
        let Some(prepare) = self.wants_segment() else {
            let segment = self.open.back().map_or(0, |open| open.number + 1);
            return Err(self.fail("begin the next segment of", segment, "it is still being prepared"));
        };
        match prepare.run() {
            Err(PrepareError::NoSpace { path, .. }) => {
                let reason = "the disk is full".into();
                Err(self.fail_with(Failed { op: "begin the next segment of", path, reason }))
            }
            outcome => self.segment_prepared(outcome),
        }
    }

    /// Waits for everything in flight, then writes a seal and waits for it: the next start knows that nothing is
    /// missing at the end.
    pub fn seal(mut self, now_ns: u64) -> Result<(), Failed> {
        self.flush(now_ns)?;
        // Nothing is built after a flush, so there is room for the smallest record there is.
        while self.group.append_seal().is_err() {
            self.flush(now_ns)?;
        }
        self.flush(now_ns)?;
        Ok(())
    }
}

impl<D: Disk> fmt::Debug for Wal<D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Wal")
            .field("group", &self.group)
            .field("segments", &self.segments)
            .field("failed", &self.failed)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
