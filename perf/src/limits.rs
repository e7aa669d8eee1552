//! The named maxima of this package, and the relations between them that the compiler checks.

use std::time::Duration;

/// The longest frame either side accepts, as the reference server does by default.
pub const FRAME_BYTES_MAX: usize = zorilla_proto::limits::FRAME_BYTES_MAX_DEFAULT;

/// The most data a generated znode has: frame, path and headers fit around it.
pub const DATA_BYTES_MAX: usize = 512 * 1024;

/// The most children that a listing is asked for; each is found in a set of bits.
pub const CHILDREN_MAX: usize = 4_096;

/// Rounds of watches or sessions that are measured at most.
pub const ROUNDS_MAX: usize = 200;

/// Rounds of watches or sessions that are measured at least, however long they take.
pub const ROUNDS_MIN: usize = 3;

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

/// The longest frame that a crowd takes from a server: replies may be longer than requests.
pub const CROWD_FRAME_BYTES_MAX: usize = 64 << 20;

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

/// The most that is read of a server's answer to `mntr`.
pub const MNTR_BYTES_MAX: u64 = 1 << 20;

/// The most znodes of a figure of state: each folder's are numbered with eight digits.
pub const ZNODES_MAX: u64 = 1_000_000_000;

// ---- hostile clients --------------------------------------------------------------------------------------

/// How long the client beside the attacks may wait, at its 99th percentile. Generator and server share a machine, and
/// most of a wait is the generator's own.
pub const HOSTILE_SIDE_P99: Duration = Duration::from_millis(400);

/// The same while somebody fills the log: a write waits for what was taken before it, some 16 MiB, at the disk's speed.
pub const HOSTILE_SIDE_P99_DISK: Duration = Duration::from_millis(1_500);

/// How long it may wait once.
pub const HOSTILE_SIDE_MAX: Duration = Duration::from_secs(3);

/// Anonymous memory that an idle connection with its session may cost.
pub const HOSTILE_CONNECTION_BYTES: u64 = 10 << 10;

/// With fewer connections than this, what a process grows by at random would count for each.
pub const HOSTILE_CONNECTIONS_COUNTED_MIN: usize = 1_000;

/// By how much anonymous memory may grow while connections are held, which includes the moment in which they come.
pub const HOSTILE_IDLE_BYTES: u64 = 256 << 20;

/// The same for connections that come and go.
pub const HOSTILE_CHURN_BYTES: u64 = 64 << 20;

/// What may be left of them.
pub const HOSTILE_RETURN_BYTES: u64 = 8 << 20;

/// The same for slow clients.
pub const HOSTILE_LORIS_BYTES: u64 = 64 << 20;

/// The same for clients that vanish.
pub const HOSTILE_HALF_OPEN_BYTES: u64 = 64 << 20;

/// The same for garbage, none of which makes room for what it announces.
pub const HOSTILE_GARBAGE_BYTES: u64 = 64 << 20;

/// The same for a chain of 10,000 znodes, whose paths are 100 MB together.
pub const HOSTILE_DEEP_BYTES: u64 = 384 << 20;

/// The same for one client that asks and does not read.
pub const HOSTILE_PIPELINE_BYTES: u64 = 64 << 20;

/// The same for one client that writes and does not read: what may be under way at each station, the log's batches.
pub const HOSTILE_WRITES_BYTES: u64 = 192 << 20;

/// The same for clients that ask for gigabytes and do not read: what the server may keep for all of them.
pub const HOSTILE_READERS_BYTES: u64 = 384 << 20;

/// The same for a million watches and their events.
pub const HOSTILE_WATCHES_BYTES: u64 = 512 << 20;

/// Descriptors beside those of the connections.
pub const HOSTILE_DESCRIPTORS_SPARE: usize = 100;

/// What a flood hands to the kernel at once.
pub const HOSTILE_CHUNK_BYTES: usize = 1 << 20;

/// Deep paths under way at once: their replies must fit a socket, because the client writes before it reads.
pub const HOSTILE_DEEP_STEP: usize = 16;

// The largest frame fits an empty batch, and the largest znode a chunk.
const _: () = assert!(FRAME_BYTES_MAX + 4 <= FLOOR_BATCH_BYTES);
const _: () = assert!(FRAME_BYTES_MAX <= FLOOR_CHUNK_BYTES);
const _: () = assert!(DATA_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(FLOOR_LOG_BYTES.is_multiple_of(zorilla_wal::limits::BLOCK_BYTES as u64));
const _: () = assert!(FLOOR_BATCH_BYTES as u64 * 4 <= FLOOR_LOG_BYTES);
