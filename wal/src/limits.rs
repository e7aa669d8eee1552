//! Every maximum of the log, by name, and the relations between them that the compiler checks.

/// What a direct write is aligned to, in memory and in the file. Batches and headers are whole blocks.
pub const BLOCK_BYTES: usize = 4096;

/// The largest payload of one record: an encoded transaction with its header and digest.
///
/// Who makes a transaction checks this before it gets a zxid; a reader has no smaller limit than the writer.
pub const TXN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a batch holds unless one record alone needs more.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// The largest batch: one block for the headers, and the largest record.
pub const BATCH_BYTES_MAX: usize = TXN_BYTES_MAX + BLOCK_BYTES;

/// The header of a segment has the first block for itself.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;

/// What a segment holds unless the options say otherwise.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The smallest segment the code can work with. It is meant for tests: [`TXN_BYTES_MAX`] does not fit. A server
/// does not go below [`SEGMENT_BYTES_SERVER_MIN`].
pub const SEGMENT_BYTES_MIN: u64 = 4 * BLOCK_BYTES as u64;

/// The smallest segment in which the largest batch fits.
pub const SEGMENT_BYTES_SERVER_MIN: u64 = 8 * 1024 * 1024;

/// Writes that are submitted and not yet part of the durable prefix. Two measured best; it also bounds what a
/// crash can tear.
pub const IN_FLIGHT_MAX: usize = 2;

/// Entries of the ring: more than the log ever has in flight, so its queue of submissions is never full.
pub const RING_ENTRIES: u32 = 8;

/// With one write under way, a batch this large is worth a second one.
pub const SECOND_WRITE_BYTES: usize = 32 * 1024;

/// After this much quiet an idle mark names the durable end.
pub const QUIET_NS: u64 = 1_000_000;

/// What the mean of a sync is taken to be before the first one was seen.
pub const SYNC_NS_ASSUMED: u64 = 100_000;

/// Segments kept ready ahead of the one being written: the next, and the reserved one.
pub const SEGMENTS_AHEAD: usize = 2;

/// Purged segments kept for recycling; more are removed.
pub const SEGMENTS_SPARE_MAX: usize = 2;

/// How long to wait before a segment is asked for again after the disk was full.
pub const PREPARE_RETRY_NS: u64 = 250_000_000;

/// The longest name of a state file in a state head.
pub const STATE_FILE_BYTES_MAX: usize = 128;

/// How much is read, or filled with zeros, by one call.
pub const CHUNK_BYTES: usize = 1024 * 1024;

const _: () = assert!(IN_FLIGHT_MAX <= RING_ENTRIES as usize);
const _: () = assert!(BATCH_BYTES <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX.is_multiple_of(BLOCK_BYTES) && BATCH_BYTES.is_multiple_of(BLOCK_BYTES));
// The largest batch fits an empty segment, so no record ever crosses from one file to the next.
const _: () = assert!((SEGMENT_HEADER_BYTES + BATCH_BYTES_MAX) as u64 <= SEGMENT_BYTES_SERVER_MIN);
const _: () = assert!(SEGMENT_BYTES_SERVER_MIN <= SEGMENT_BYTES);
const _: () =
    assert!(crate::segment::BATCH_HEADER_BYTES + crate::record::RECORD_HEADER_BYTES + TXN_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(crate::segment::SEGMENT_FIELDS_BYTES <= SEGMENT_HEADER_BYTES);
