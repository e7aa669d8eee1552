//! The log: many appends, one write, one sync.
//!
//! Guarantees: records become durable in the order they were appended, and [`Durable`] is reported only for what the
//! disk has confirmed, all of it up to there. After any crash the log opens again with at least everything that was
//! reported and nothing that was never appended. Damage to what was reported is found and never taken for the end of
//! the log (see "What cannot be told"). The first error of a write or a sync ends the log; nothing is tried again.
//!
//! Refuses to know: what a transaction means, sockets, threads and clocks. Time comes in as an argument, randomness as
//! a seed. The only unsafe code is in [`disk::ring`], around io_uring.
//!
//! | module | holds |
//! |---|---|
//! | [`Wal`] (`log`) | the log over a disk: performs what the group decides |
//! | [`group`] | group commit, a pure value: what is written when, and what is durable then |
//! | `open` | reading a log from its beginning to its end, and beginning a new segment |
//! | [`recover`] | the recovery table, a pure decision: what the bytes at the end mean |
//! | `space` | segments prepared ahead and purged behind, by another thread |
//! | [`record`], `segment` | bytes to values and back |
//! | [`disk`] | the seam below: io_uring, blocking writes, and a disk in memory that fails and crashes on request |
//! | [`limits`] | the named maxima |
//!
//! # Use
//!
//! ```
//! use zorilla_proto::Zxid;
//! use zorilla_wal::{Options, RecordRef, StoreId, Wal, disk};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let (directory, entropy, mut now_ns) = (directory.path(), 7, 0);
//! let disk = disk::best(directory, true)?;
//! let (mut wal, recovered) = Wal::open(disk, Options::new(StoreId(1)), entropy, &mut |record| {
//!     if let RecordRef::Txn { zxid, payload } = record {
//!         println!("{zxid}: {} bytes", payload.len());
//!     }
//!     Ok(())
//! })?;
//! let next = recovered.last_zxid.successor().unwrap();
//! wal.append(next, b"an encoded transaction").unwrap();
//! let durable = loop {
//!     now_ns += 1;
//!     if let Some(durable) = wal.poll(now_ns)? {
//!         break durable;
//!     }
//! };
//! assert_eq!(durable.up_to, next);
//! wal.seal(now_ns)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Files
//!
//! | name | what it is |
//! |---|---|
//! | `segment.<number>` | part of the log, or prepared to become the next part; numbers have no gap |
//! | `spare.<number>` | purged, to be used again |
//! | `making.<number>` | being filled; removed at the next start |
//! | `lock` | held by the process that has the log open |
//!
//! Numbers are sixteen hexadecimal digits. A segment is written full once and synced before it is called one, or it is
//! a spare whose first block was overwritten with zeros; the directory is synced after every change of a name. So a
//! segment never grows, shrinks or vanishes in a crash, and its first block is zero or the header of its present use.
//!
//! # Format, version 1
//!
//! All integers are little-endian; `crc` is CRC-32C. A segment is one block of 4096 bytes for its header and then
//! batches, each beginning on a block. Headers and batches are *items*; each item has a *seq*, one above the item
//! before it, from 1 on; the header of a segment takes part in this like any batch.
//!
//! ```text
//! segment header                                   batch header
//!   0  8  magic "ZORILSEG"                           0  8  magic "ZORILBAT"
//!   8  4  crc of bytes 12..4096                      8  4  crc of the store's id, then bytes 12..72
//!  12  4  version, 1                                12  4  crc of byte 72 to the end of the last block
//!  16 16  store id                                  16  4  bytes of header and records, without the zeros behind
//!  32  8  segment number                            20  4  count of records
//!  40  8  bytes of the segment                      24  8  seq
//!  48  8  salt, random for each use of the file     32  8  salt of the segment
//!  56  8  seq                                       40  4  chain: the crc at byte 8 of the item before
//!  64  8  durable seq                               44  4  zero
//!  72  4  chain: the crc at byte 8 of the item      48  8  durable seq
//!         before, zero for the first                56  8  zxid of the first transaction, or zero
//!  76  4  accepted epoch                            64  8  zxid of the last transaction of the log so far
//!  80  4  current epoch                             72  …  records, then zeros to the end of the block
//!  84  4  1 + bytes of the state file's name,
//!         0 without a state head                  record
//!  88  8  zxid of the last transaction before       0  4  bytes of the payload
//!  96  8  every transaction above this in earlier   4  4  crc of bytes 0..4, then 8..20 and the payload
//!         segments is void; 2^64-1: none            8  4  kind
//! 104  8  zxid of the state head                   12  8  zxid, or zero
//! 112  …  name of the state file, zeros to 4096    20  …  payload
//! ```
//!
//! | kind | zxid | payload |
//! |---|---|---|
//! | 1 transaction | its own | the encoded transaction |
//! | 2 epochs | 0 | accepted epoch, current epoch, 4 bytes each |
//! | 3 truncate | truncated to | – ; always the first record of a segment whose header names the same zxid at 96 |
//! | 4 state head | complete up to | 1 byte: 1 if it replaces the history (as a truncation to 0 does), then the file's name |
//! | 5 seal | 0 | – |
//! | 6 idle mark | 0 | – |
//!
//! *Durable seq* is the end of the contiguous durable prefix at the moment the item was submitted: whoever finds it
//! knows that everything up to there was acknowledged. Two items are outside the prefix at most, so a crash tears two
//! at most. *Salt* tells the batches of this use of a file from those of an earlier one. The *store's id* in the crc of
//! batches is what nobody outside knows: no payload of a client passes for a batch.
//!
//! # What the end means
//!
//! [`recover`] has the table. The log ends at the first place where no batch is as expected. If something behind it,
//! in this segment or a later one, states a durable seq that reaches the place, then what stood there was acknowledged
//! and is damaged or lost. Otherwise it was torn by a crash, and is dropped. Every start, truncation and replaced
//! history begins a segment with a new salt, at the seq where the log ended: nothing is ever written behind a bad
//! batch, and what was dropped once stays dropped, because the header of the new segment names the place.
//!
//! Opening makes durable what it read before it says that the log is open: a killed process leaves batches in the page
//! cache that no sync covered.
//!
//! # What cannot be told
//!
//! When the very last acknowledged batch rots before anything was written behind it, it looks like a torn tail. After
//! [`limits::QUIET_NS`] of quiet an idle mark is written that names the durable end, and a clean shutdown writes a
//! seal; from then on the same damage is found. Nor can it be told that the newest segment was deleted together with
//! every segment prepared behind it.
//!
//! # Room
//!
//! The log keeps [`limits::SEGMENTS_AHEAD`] segments prepared: the next, and one in reserve. Only
//! preparing can meet a full disk: then [`Wal::space`] says [`Space::Reserve`] when the reserved segment is about to be
//! needed, and the log asks for a segment again every [`limits::PREPARE_RETRY_NS`] until there is room.
//!
//! [`Wal::purge_before`] gives back segments whose every transaction is in a durable state head, once the segment
//! behind them has durably begun; its header carries on what else they said. [`Prepare`] and [`Purge`] are run by one
//! other thread, and their outcome is handed back: an error of theirs other than a full disk ends the log as well.

pub mod buffer;
pub mod disk;
mod error;
pub mod group;
pub mod limits;
mod log;
mod open;
pub mod record;
pub mod recover;
mod segment;
mod space;

pub use crate::buffer::AlignedBuf;
pub use crate::error::OpenError;
pub use crate::group::{Durable, Full, Group, NewSegment, Position, Start, Write};
pub use crate::log::{Failed, Options, Space, Stats, Wal};
pub use crate::open::{RecordRef, Recovered, Stop, Torn, read, state_of, store_of};
pub use crate::record::Epochs;
pub use crate::recover::Damage;
pub use crate::segment::{FORMAT_VERSION, StateHead, StoreId};
pub use crate::space::{Prepare, PrepareError, Prepared, Purge, Purged};
