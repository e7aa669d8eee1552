//! Every maximum of the server, by name. A full queue slows its producer; nothing grows past what stands here.
//!
//! Facts from the reference (frame size, idle time before a handshake) are marked; the others are ours.

/// The default of `jute.maxbuffer`: the largest request frame, in bytes (ZooKeeper 3.9: 0xfffff).
pub const FRAME_BYTES_MAX: usize = 0xf_ffff;

/// The most bytes an encoded transaction may take beyond its request: header, digest, sequence number.
pub const TXN_OVERHEAD_BYTES_MAX: usize = 256;

/// The largest `jute.maxbuffer` that is accepted: a transaction made of the largest request must fit a record of the log.
pub const JUTE_MAXBUFFER_BYTES_MAX: usize =
    zorilla_wal::limits::TXN_BYTES_MAX - TXN_OVERHEAD_BYTES_MAX - ACL_GROWTH_BYTES_MAX;
/// Work that a worker does for reads in one turn, about, before it writes the replies and looks at other clients: bytes of
/// replies, and of what had to be looked at for them.
pub const TURN_WORK_BYTES_MAX: usize = 4 << 20;
/// Bytes of the text of a quota's limits or counts: a longer one is unreadable. Every write below the quota reads it.
pub const QUOTA_TEXT_BYTES_MAX: usize = 512;
/// The largest body of a reply: a listing or a multiRead that would be longer is an error.
pub const REPLY_BYTES_MAX: usize = 64 << 20;
/// Names of a listing that are gathered under one hold of the gate; a longer one goes on under the next.
pub const LISTING_SLICE_NAMES: usize = 4096;
/// Bytes of names that are gathered under one hold of the gate. One name may exceed it.
pub const LISTING_SLICE_BYTES: usize = 256 << 10;
/// How often a listing begins again because its children changed; then it is made under one hold of the gate.
pub const LISTING_RESTARTS_MAX: u32 = 3;
/// How often a request waits for blocks that one of its znodes needs; then they are waited for in place.
pub const COLD_WAITS_MAX: u32 = 64;
/// Bytes of output between two looks at the memory that all connections of a worker hold.
pub const OUTPUT_BYTES_PER_LOOK: usize = 8 << 20;
/// Bytes of output that a connection may hold however much the others do.
pub const OUTPUT_BYTES_KEPT: usize = 64 << 10;
/// Digests of earlier states that are kept.
pub const DIGESTS_MAX: usize = 1024;
/// The longest time to live of a znode, ms: the five bytes that its owner field has for it.
pub const TTL_MS_MAX: i64 = 0xff_ffff_ffff;
/// Containers and expired znodes that are looked up at once for deletion.
pub const REAP_PATHS_MAX: usize = 10_000;
/// The smallest `jute.maxbuffer` that is accepted.
pub const JUTE_MAXBUFFER_BYTES_MIN: usize = 1 << 10;

/// The largest tick, ms: twenty of them are a session timeout and must fit the protocol's int.
pub const TICK_MS_MAX: u32 = (i32::MAX / 20) as u32;

/// The smallest segment of the log that is accepted.
pub const SEGMENT_BYTES_MIN: u64 = zorilla_wal::limits::SEGMENT_BYTES_SERVER_MIN;
/// The largest segment of the log that is accepted.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// The largest configuration file that is read.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;

/// Workers: as many as the bits that say whom to wake.
pub const WORKERS_MAX: usize = 64;

/// Transactions applied under one hold of the gate.
pub const SLICE_TXNS_MAX: usize = 64;

/// Bytes of outcomes and read results gathered for one worker in one slice before the slice ends.
pub const SLICE_BYTES_MAX: usize = 1 << 20;

/// Slices that may wait in one worker's delivery mailbox.
pub const MAILBOX_SLICES_MAX: usize = 256;

/// Bytes that may wait in one worker's delivery mailbox before the replica stops applying.
pub const MAILBOX_BYTES_MAX: usize = 64 << 20;

/// Requests that one worker may have posted and not seen completed.
pub const CREDIT_REQUESTS_MAX: usize = 16 * 1024;

/// Bytes of requests that one worker may have posted and not seen completed. One frame may exceed it.
pub const CREDIT_BYTES_MAX: usize = 16 << 20;

/// Posts (one per worker and turn) that may wait for the replica, per worker.
pub const POSTS_MAX: usize = 256;

/// Requests of one connection that may be posted and not completed; more wait in its socket.
pub const CONNECTION_PENDING_MAX: u32 = 1024;

/// Transactions prepared and not applied.
pub const INFLIGHT_TXNS_MAX: usize = 32 * 1024;

/// Bytes of encoded transactions prepared and not applied. One transaction may exceed it.
pub const INFLIGHT_BYTES_MAX: usize = 32 << 20;

/// Size of one chunk of the window that holds encoded transactions until they are applied.
pub const WINDOW_CHUNK_BYTES: usize = 1 << 20;

/// Bytes waiting to be written to one client before its socket is no longer read.
pub const OUTPUT_BYTES_HIGH: usize = 1 << 20;

/// Bytes waiting to be written to one client, besides the newest reply, at which the connection is closed: it does not
/// read, and results that were already under way when its socket was last read have piled up.
///
/// An honest client may be owed what one look into the delivery mailbox brings at once, before the first byte of it can
/// be written, and one reply of any size: the children of a znode with millions of them are one. Nobody needs more.
pub const OUTPUT_BYTES_MAX: usize = 80 << 20;

/// Bytes waiting to be written to all clients of one worker. Beyond it, connections with much of it are closed.
pub const OUTPUT_BYTES_WORKER_MAX: usize = 256 << 20;

/// A connection with no more than this waiting is never closed for what others have waiting.
pub const OUTPUT_BYTES_FAIR: usize = 8 << 20;

/// Output buffers that a worker keeps for reuse, and the largest capacity worth keeping.
pub const OUTPUT_POOL_BUFFERS_MAX: usize = 1024;
/// See [`OUTPUT_POOL_BUFFERS_MAX`].
pub const OUTPUT_POOL_BUFFER_BYTES_MAX: usize = 256 << 10;

/// Capacity of all output buffers that a worker keeps for reuse.
pub const OUTPUT_POOL_BYTES_MAX: usize = 16 << 20;

/// Bytes read from one socket in one call, and in one turn before the next socket gets its chance.
pub const READ_BYTES: usize = 256 << 10;
/// See [`READ_BYTES`].
pub const READ_BYTES_PER_TURN_MAX: usize = 1 << 20;

/// Readiness events taken from the kernel in one call.
pub const POLL_EVENTS_MAX: usize = 1024;

/// Connections one worker may hold: bounded by descriptors long before.
pub const CONNECTIONS_MAX: usize = 1 << 20;

/// Identities of one connection; auth packets add to them, and nothing takes them away. Every check of a long ACL looks at all.
pub const IDENTITIES_MAX: usize = 128;
/// Bytes of text in the identities of one connection.
pub const IDENTITY_BYTES_MAX: usize = 8 << 10;
/// Bytes by which replacing `auth` with the identities of the connection may lengthen an ACL list.
pub const ACL_GROWTH_BYTES_MAX: usize = 16 << 10;
/// Entries of one ACL list: every permission check may have to look at all of them.
pub const ACL_ENTRIES_MAX: usize = 256;
/// Bytes of one ACL list as a client sends it: prepared transactions and events carry copies.
pub const ACL_BYTES_MAX: usize = 32 << 10;

/// A connection that has not finished its handshake after this long is closed (ZooKeeper: `nio.sessionlessCnxnTimeout`).
pub const SESSIONLESS_MS_MAX: u64 = 10_000;

/// How long the acceptor rests after the process ran out of descriptors.
pub const ACCEPT_PAUSE_MS: u64 = 100;

/// Accepted sockets that may wait for a worker to take them.
pub const ACCEPTED_MAX: usize = 4096;

/// Counters of one worker's interest filter, both tables together: 256 KiB. With ten thousand watched paths a quarter of the
/// changes of other znodes reaches the worker needlessly; none that it watches is missed.
pub const INTEREST_COUNTERS: usize = 1 << 16;

/// Counters of one worker's interest filter for recursive watches, of which there are few: 16 KiB.
pub const INTEREST_RECURSIVE_COUNTERS: usize = 1 << 12;

/// What the watches of one worker's connections may cost, in bytes. An entry (one connection at one path in one table)
/// costs 52, a path 80 and its text, a connection 52: room for two to three million watches on paths of their own.
pub const WATCH_BYTES_WORKER_MAX: usize = 512 << 20;
/// What the watches of one connection may cost, in bytes, each with its path: half a million of them.
pub const WATCH_BYTES_CONNECTION_MAX: usize = 64 << 20;
/// What a connection may always register, however much the others of its worker have: about two hundred watches.
pub const WATCH_BYTES_FAIR: usize = 32 << 10;

/// Path buffers of one size that a watch table keeps for reuse; 7.5 MiB if every size is.
pub const SPARE_PATHS_MAX: usize = 16 * 1024;
/// The largest path buffer worth keeping.
pub const SPARE_PATH_BYTES_MAX: usize = 256;
/// The smallest path buffer. Sizes double from here on, so that paths of about the same length can take turns.
pub const SPARE_PATH_BYTES_MIN: usize = 32;

/// The longest path or ACL list whose buffer an entry of the pending overlay keeps for its next use.
pub const SPARE_ENTRY_BYTES_MAX: usize = 1 << 10;

/// Chunks of the common size that the window of encoded transactions keeps for reuse.
pub const SPARE_CHUNKS_MAX: usize = 8;

/// Jobs of the replica that may wait for the store thread: it asks for one segment, one flush, one purge at a time, and gives
/// back what each flush and each merge retires.
pub const JOBS_MAX: usize = 16;

/// Blocks that workers and the replica may ask the store thread to bring in at once; one that finds no place is asked for
/// again in the next turn.
pub const COLD_MAX: usize = 4096;

/// Runs in force at once: what a lookup that finds nothing has to ask.
pub const RUNS_MAX: usize = 6;

/// Bytes of a head of as many runs.
pub const HEAD_BYTES_MAX: usize = 72 + 32 * RUNS_MAX;

/// Memory of the overlay that is written to while the frozen one is not on the disk yet. From half of it on, writes are
/// taken more slowly, so that it is not reached however slow the disk is.
pub const LIVE_BYTES_MAX: usize = 512 << 20;

/// What the brake of writes saves up at most, bytes of log: the largest transaction passes it.
pub const BRAKE_BYTES_MAX: u64 = 8 << 20;

/// How much of a run is written before the store thread looks what else there is to do.
pub const FLUSH_STEP_BYTES: usize = 256 << 10;
/// How many entries of it are looked at before that.
pub const FLUSH_STEP_ENTRIES: usize = 4096;
/// Blocks of runs that are brought in before that.
pub const WARM_STEP_BLOCKS: u32 = 4;
/// Between two such steps when nobody waits for them, ms: after a start, all runs are brought in at a moderate pace.
pub const WARM_PAUSE_MS: u64 = 1;
/// Where the runs are too large for the memory, a block that was not used for one to two times this long counts as evicted, ns.
pub const EPOCH_NS: u64 = 1_000_000_000;
/// How much is read for a merge before that.
pub const MERGE_STEP_BYTES: usize = 256 << 10;
/// How much of a run is written before it is synced, so that no sync is a long one.
pub const RUN_SYNC_BYTES: usize = 8 << 20;
/// How long the store thread waits before it writes again what found no room on the disk, ms.
pub const WRITE_RETRY_MS: u64 = 1000;

/// Sessions are judged at most this often, ns.
pub const TICK_NS_MIN: u64 = 10_000_000;

/// The largest value a measure tells apart, in its own unit (µs: over an hour).
pub const MEASURE_MAX: u64 = 1 << 32;

/// Sum of the paths of one session's ephemeral znodes, in bytes: its closeSession transaction lists them all and must fit.
pub const EPHEMERAL_PATH_BYTES_MAX: u64 = 1 << 20;

/// Sessions expired in one tick of the replica; the rest follows in the next.
pub const EXPIRED_PER_TICK_MAX: usize = 1024;

/// Sessions named in one report of touched sessions; the rest is named in the next.
pub const TOUCHED_PER_POST_MAX: usize = 16 * 1024;

/// After a stop was asked for, how long clients have to take their last replies, ms.
pub const STOP_FLUSH_MS_MAX: u64 = 2_000;

// A post is made of at least one request, so posts cannot run out before requests do by more than reports do.
const _: () = assert!(SLICE_BYTES_MAX < MAILBOX_BYTES_MAX);
// What is under way for one worker fits what the replica may hold.
const _: () = assert!(CREDIT_REQUESTS_MAX <= INFLIGHT_TXNS_MAX);
// Whoever is below the high mark when a mailbox is drained is not closed for what was in it.
const _: () = assert!(OUTPUT_BYTES_HIGH + MAILBOX_BYTES_MAX + SLICE_BYTES_MAX < OUTPUT_BYTES_MAX);
// Whatever a client may ask for passes the brake.
const _: () = assert!((zorilla_wal::limits::TXN_BYTES_MAX + TXN_OVERHEAD_BYTES_MAX) as u64 <= BRAKE_BYTES_MAX);
// One connection may fill its own share.
const _: () = assert!(OUTPUT_BYTES_FAIR < OUTPUT_BYTES_MAX && OUTPUT_BYTES_MAX < OUTPUT_BYTES_WORKER_MAX);
// A closeSession transaction fits a record of the log.
const _: () = assert!(EPHEMERAL_PATH_BYTES_MAX as usize + TXN_OVERHEAD_BYTES_MAX <= zorilla_wal::limits::TXN_BYTES_MAX);
// One entry of the scheme `auth` fits, whoever sends it.
const _: () = assert!(IDENTITIES_MAX * 32 + IDENTITY_BYTES_MAX <= ACL_GROWTH_BYTES_MAX);
// One connection leaves room for others, and its own fair share is the least of it.
const _: () =
    assert!(WATCH_BYTES_FAIR < WATCH_BYTES_CONNECTION_MAX && WATCH_BYTES_CONNECTION_MAX < WATCH_BYTES_WORKER_MAX);

/// Bytes of requests that are buffered for one connection while the throttler lets its first one wait; the rest waits in
/// its socket. One read may exceed it.
pub const THROTTLED_INPUT_BYTES_MAX: usize = 64 << 10;

/// Pieces of that buffer whose time of arrival is known apart.
pub const THROTTLED_ARRIVALS_MAX: usize = 64;

/// Connections without a session are looked at no more often than this, ms.
pub const SWEEP_MS_MIN: u64 = 20;

/// Unused capacity of the buffer of an unfinished request that is worth keeping.
pub const INPUT_SPARE_BYTES_MAX: usize = 64 << 10;

/// Bytes of unfinished and waiting requests of all connections of one worker. Beyond it, a connection that adds to them
/// and has more than [`INPUT_BYTES_FAIR`] is closed: clients that begin large requests and do not end them must not take
/// the memory of all.
pub const INPUT_BYTES_WORKER_MAX: usize = 256 << 20;
/// A connection with no more than this of an unfinished request is never closed for what others have.
pub const INPUT_BYTES_FAIR: usize = 128 << 10;

// Many of the largest requests may arrive at once; waiting for the throttler is never what closes a connection.
const _: () = assert!(16 * JUTE_MAXBUFFER_BYTES_MAX <= INPUT_BYTES_WORKER_MAX);
const _: () = assert!(THROTTLED_INPUT_BYTES_MAX <= INPUT_BYTES_FAIR);

/// What one block of a Java server's snappy stream unpacks to; the library makes blocks of 32 KiB.
pub const SNAPPY_BLOCK_BYTES_MAX: usize = 1 << 20;
/// What an import sorts in memory at once, in bytes: 64 MiB, and half as much again for its index. One znode may exceed
/// it.
pub const IMPORT_CHUNK_BYTES_MAX: usize = 64 << 20;
/// Sorted temporary files of an import that are merged at once.
pub const IMPORT_FILES_MAX: usize = 64;
/// Snapshots of a Java server that are tried, the newest first, as by the reference.
pub const IMPORT_SNAPSHOTS_MAX: usize = 100;
/// Warnings of an import that are kept; of the others only the number is.
pub const IMPORT_WARNINGS_MAX: usize = 100;
/// Znodes of a snapshot whose ACL it does not hold. Only those made while it was written can lack it.
pub const IMPORT_UNSET_ACLS_MAX: usize = 1 << 20;
/// Folders of Java's files that were set aside beside each other: one for each time that they came back.
pub const ASIDE_MAX: u32 = 99;

/// Attempts to read the files of a server that is running, which may remove some of them meanwhile.
pub const LOOKS_MAX: u32 = 8;
