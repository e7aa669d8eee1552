//! The named maxima of this package, and the relations between them that the compiler checks.

/// The longest frame either side accepts, as the reference server does by default.
pub const FRAME_BYTES_MAX: usize = zorilla_proto::limits::FRAME_BYTES_MAX_DEFAULT;

/// The most data a generated znode has: frame, path and headers fit around it.
pub const DATA_BYTES_MAX: usize = 512 * 1024;

/// The most connections of one run. Both ends may be in one process, and a process has 20,000 descriptors.
pub const CLIENTS_MAX: u32 = 9_000;

/// The most requests in flight on one connection.
pub const PIPELINE_MAX: u32 = 4_096;

/// The most threads that generate load.
pub const THREADS_MAX: u32 = 64;

/// The most keys that are loaded before a run.
pub const KEYS_MAX: u32 = 16_000_000;

/// The longest run.
pub const SECONDS_MAX: f64 = 86_400.0;

/// What a connection of the generator reads at once.
pub const READ_BYTES: usize = 64 * 1024;

/// Creates in flight while keys are loaded. Their replies fit a socket buffer, so a blocking writer cannot deadlock.
pub const PRELOAD_PIPELINE: u32 = 256;

/// The longest latency a histogram tells apart; longer ones are counted there.
pub const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Wrong replies whose text is kept; all are counted.
pub const VIOLATIONS_KEPT: usize = 20;

/// Stalls kept by one thread; later ones are only counted.
pub const STALLS_KEPT: usize = 100_000;

/// Writes of the floor's log that are submitted and not complete.
pub const FLOOR_IN_FLIGHT_MAX: usize = zorilla_wal::limits::IN_FLIGHT_MAX;

/// What one batch of the floor holds.
pub const FLOOR_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// The floor's log: written full once, then written over from the start, because nobody reads it.
pub const FLOOR_LOG_BYTES: u64 = 128 * 1024 * 1024;

/// Memory of the floor's znodes is taken in pieces of this size.
pub const FLOOR_CHUNK_BYTES: usize = 1024 * 1024;

/// What a connection of the floor reads at once.
pub const FLOOR_READ_BYTES: usize = 64 * 1024;

// The largest frame fits an empty batch, and the largest znode a chunk.
const _: () = assert!(FRAME_BYTES_MAX + 4 <= FLOOR_BATCH_BYTES);
const _: () = assert!(FRAME_BYTES_MAX <= FLOOR_CHUNK_BYTES);
const _: () = assert!(DATA_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(FLOOR_LOG_BYTES.is_multiple_of(zorilla_wal::limits::BLOCK_BYTES as u64));
const _: () = assert!(FLOOR_BATCH_BYTES as u64 * 4 <= FLOOR_LOG_BYTES);
