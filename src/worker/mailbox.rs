//! What a worker and the replica say to each other, and the two bounded mailboxes they say it through.
//!
//! One [`Post`] per worker and turn goes to the replica; one [`Delivery`] per worker and slice of commits comes back.
//! Both boxes are used again after they were read, so a warm exchange does not allocate. Every request in a post is
//! completed by exactly one item of a delivery, in the order of its connection: that is what credits and connections
//! count.
//!
//! A delivery is pushed while the replica holds the gate for writing, and drained while a worker that answers reads
//! holds it for reading: then nothing can be pushed, and [`Mailbox::pushed`] says what must have been drained.

use crossbeam::utils::CachePadded;
use zorilla_proto::client::EventType;
use zorilla_proto::code::Code;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::op::Op;

use crate::auth::Identities;
use crate::limits::{MAILBOX_BYTES_MAX, MAILBOX_SLICES_MAX, POSTS_MAX};
use crate::prep::Verdict;
use crate::sync::{Arc, ArrayQueue, AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::wake::Sleeper;
use crate::watch::{Change, ConnId, Interest, WatchKind};

/// Part of the bytes that a post or a delivery carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    at: u32,
    bytes: u32,
}

impl Piece {
    /// The piece from `at` to the end of `bytes`.
    pub fn since(at: usize, bytes: &[u8]) -> Piece {
        Piece { at: at as u32, bytes: (bytes.len() - at) as u32 }
    }

    /// Appends `piece` to `bytes` and says where it lies.
    pub fn push(bytes: &mut Vec<u8>, piece: &[u8]) -> Piece {
        let at = bytes.len();
        bytes.extend_from_slice(piece);
        Piece::since(at, bytes)
    }

    /// The piece itself.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.at as usize..self.at as usize + self.bytes as usize]
    }
}

/// One request on its way to the replica.
#[derive(Clone, Copy, Debug)]
pub struct Posted {
    /// The connection that asks.
    pub conn: ConnId,
    /// Its session, and which attachment of it the connection is; NONE and 0 before there is one.
    pub session: SessionId,
    /// See `session`.
    pub attachment: u32,
    /// Echoed.
    pub xid: i32,
    /// What is asked.
    pub ask: Ask,
    /// The record, in the post's bytes.
    pub body: Piece,
}

/// What a posted request asks for.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// A new session.
    Open {
        /// Already clamped.
        timeout_ms: u32,
    },
    /// To go on with a session whose password was right.
    Resume {
        /// Already clamped.
        timeout_ms: u32,
    },
    /// A write.
    Write {
        /// One that prep knows.
        op: Op,
        /// What the worker found out.
        verdict: Verdict,
    },
    /// A read that has a write of its own session ahead of it.
    Read {
        /// One that `read` knows.
        op: Op,
    },
    /// An answer that is known, to be given in its place.
    Answer {
        /// The error.
        code: Code,
    },
    /// The end of the session.
    Close,
    /// The connection has these identities from now on. Not completed.
    Identify {
        /// Which, in the post's identities.
        at: u32,
    },
    /// The connection is gone. Not completed.
    Gone,
}

impl Ask {
    /// Whether an item of a delivery answers it.
    pub fn is_completed(self) -> bool {
        !matches!(self, Ask::Identify { .. } | Ask::Gone)
    }
}

/// Everything one worker asks in one turn.
#[derive(Debug, Default)]
pub struct Post {
    /// Who posts.
    pub worker: u16,
    /// When the requests were read, ns.
    pub arrived_ns: u64,
    /// The requests, in the order of their connections.
    pub requests: Vec<Posted>,
    /// Their records.
    pub bytes: Vec<u8>,
    /// What connections that identified themselves are from then on.
    pub identities: Vec<Identities>,
    /// Sessions heard of since the last report.
    pub touched: Vec<SessionId>,
    /// Every byte that had arrived by then has been read and counted, ms; 0: no report.
    pub heard_until_ms: u64,
    /// How many requests the replica has taken out already.
    pub taken: usize,
}

impl Post {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.touched.is_empty() && self.heard_until_ms == 0
    }

    /// Empties the box and keeps its memory.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.bytes.clear();
        self.identities.clear();
        self.touched.clear();
        self.heard_until_ms = 0;
        self.taken = 0;
    }
}

/// One thing a worker is told. Items of one delivery, and deliveries, are in the order of history.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    /// A znode that this worker may watch has changed.
    Changed {
        /// How.
        change: Change,
        /// Which.
        path: Piece,
        /// By which transaction.
        zxid: Zxid,
        /// Its ACL, unless it lets everybody read it: an event about it is shown to nobody else.
        node_acl: Option<Piece>,
        /// The same of its parent, for events about children.
        parent_acl: Option<Piece>,
    },
    /// A read of `conn` that travelled with a write leaves a watch. Already counted in the worker's interest.
    Watch {
        /// Whose.
        conn: ConnId,
        /// Which table.
        kind: WatchKind,
        /// On which path.
        path: Piece,
        /// As of which state.
        zxid: Zxid,
    },
    /// An event found by a setWatches that travelled with a write.
    Event {
        /// For whom.
        conn: ConnId,
        /// Its kind.
        event: EventType,
        /// Its path.
        path: Piece,
    },
    /// Completes a checkWatches or removeWatches that travelled with a write: the answer is in the worker's table.
    Watches {
        /// Whose.
        conn: ConnId,
        /// Echoed.
        xid: i32,
        /// State as of which it is answered.
        zxid: Zxid,
        /// Which of the two.
        op: Op,
        /// The record.
        body: Piece,
        /// When the request was read, ns.
        arrived_ns: u64,
    },
    /// Completes a request: write or read, success or failure.
    Outcome {
        /// Whose.
        conn: ConnId,
        /// Echoed.
        xid: i32,
        /// State that the answer reflects.
        zxid: Zxid,
        /// Zero or an error.
        code: Code,
        /// What follows the reply header.
        body: Piece,
        /// A write, for the statistics.
        write: bool,
        /// The connection ends after this reply.
        last: bool,
        /// When the request was read, ns.
        arrived_ns: u64,
    },
    /// Completes an open or a resume.
    Session {
        /// Whose.
        conn: ConnId,
        /// NONE: the session is not valid.
        session: SessionId,
        /// Number of this attachment.
        attachment: u32,
        /// As negotiated.
        timeout_ms: u32,
    },
    /// Completes a request of an older attachment or of a session that is gone: there is nobody to answer.
    Dropped {
        /// Whose.
        conn: ConnId,
    },
    /// The session of this connection ended or moved to another: close it. Completes nothing.
    Kick {
        /// Whose.
        conn: ConnId,
        /// The session that left; a connection that has another by now stays.
        session: SessionId,
    },
}

/// What one slice of commits has for one worker.
#[derive(Debug, Default)]
pub struct Delivery {
    /// In the order of history.
    pub items: Vec<Item>,
    /// Bodies and paths.
    pub bytes: Vec<u8>,
    /// The list of access that was put into the bytes last.
    pub acl: Option<Piece>,
    /// State after the slice.
    pub applied: Zxid,
    /// When the slice was applied, ns.
    pub applied_ns: u64,
}

impl Delivery {
    fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
        self.acl = None;
    }
}

/// From the replica to one worker.
#[derive(Debug)]
pub struct Mailbox {
    queue: ArrayQueue<Box<Delivery>>,
    spare: ArrayQueue<Box<Delivery>>,
    /// Zxid after the newest slice pushed. Written under the gate for writing, read under it for reading.
    pushed: CachePadded<AtomicU64>,
    bytes: CachePadded<AtomicUsize>,
    /// The replica found no room here and wants to hear of it.
    wanted: AtomicBool,
    /// Wakes the worker.
    pub sleeper: Sleeper,
    /// What this worker may watch.
    pub interest: Interest,
}

impl Mailbox {
    /// An empty mailbox of a worker that sleeps with `sleeper`; the state starts at `applied`.
    pub fn new(sleeper: Sleeper, applied: Zxid, seed: u64) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            queue: ArrayQueue::new(MAILBOX_SLICES_MAX),
            spare: ArrayQueue::new(MAILBOX_SLICES_MAX),
            pushed: CachePadded::new(AtomicU64::new(applied.raw())),
            bytes: CachePadded::new(AtomicUsize::new(0)),
            wanted: AtomicBool::new(false),
            sleeper,
            interest: Interest::new(seed),
        })
    }

    /// Whether one more slice fits. Only the replica pushes, so what fits now fits until it pushes. If not, the worker
    /// will wake the replica after it has drained.
    pub fn has_room(&self) -> bool {
        let room = || !self.queue.is_full() && self.bytes.load(Ordering::Acquire) < MAILBOX_BYTES_MAX;
        if room() {
            return true;
        }
        // Announced, and a second look. The fence pairs with the one in `give_back`: either the worker that drains now
        // sees the flag, or this look sees the room.
        self.wanted.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        room()
    }

    /// An empty box to fill.
    pub fn blank(&self) -> Box<Delivery> {
        self.spare.pop().unwrap_or_default()
    }

    /// Puts a filled box in. The caller holds the gate for writing and has asked [`Mailbox::has_room`].
    pub fn push(&self, delivery: Box<Delivery>) {
        let applied = delivery.applied;
        let bytes = delivery.bytes.len();
        assert!(self.pushed() <= applied, "delivered {applied} after {}", self.pushed());
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let pushed = self.queue.push(delivery);
        assert!(pushed.is_ok(), "a slice was pushed into a full mailbox");
        // Relaxed: who reads it holds the gate, which orders it.
        self.pushed.store(applied.raw(), Ordering::Relaxed);
    }

    /// State after the newest slice that has something for this worker.
    pub fn pushed(&self) -> Zxid {
        Zxid::from_raw(self.pushed.load(Ordering::Relaxed))
    }

    /// The oldest box.
    pub fn pop(&self) -> Option<Box<Delivery>> {
        let delivery = self.queue.pop()?;
        self.bytes.fetch_sub(delivery.bytes.len(), Ordering::AcqRel);
        Some(delivery)
    }

    /// Whether something waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Gives a box back that was read. `true`: the replica waits for room and must be woken.
    pub fn give_back(&self, mut delivery: Box<Delivery>) -> bool {
        delivery.clear();
        // A box that held a giant reply is not worth keeping; when the shelf is full the box is dropped.
        if delivery.bytes.capacity() <= 4 * crate::limits::SLICE_BYTES_MAX {
            let _ = self.spare.push(delivery);
        }
        // Between making room, in `pop`, and looking for who waits for it: see `has_room`.
        fence(Ordering::SeqCst);
        self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed)
    }
}

/// From one worker to the replica.
#[derive(Debug)]
pub struct PostBox {
    queue: ArrayQueue<Box<Post>>,
    spare: ArrayQueue<Box<Post>>,
    bytes: CachePadded<AtomicUsize>,
}

impl PostBox {
    /// An empty box.
    pub fn new() -> Arc<PostBox> {
        Arc::new(PostBox {
            queue: ArrayQueue::new(POSTS_MAX),
            spare: ArrayQueue::new(POSTS_MAX),
            bytes: CachePadded::new(AtomicUsize::new(0)),
        })
    }

    /// An empty post to fill.
    pub fn blank(&self) -> Box<Post> {
        self.spare.pop().unwrap_or_default()
    }

    /// Posts, or hands the post back when the replica is behind: it is posted in a later turn.
    pub fn push(&self, post: Box<Post>) -> Result<(), Box<Post>> {
        let bytes = post.bytes.len();
        // Counted before it can be given back, or the count could fall below zero.
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.queue.push(post).inspect_err(|_| {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        })
    }

    /// Whether one more post fits. Only the worker pushes, so what fits now fits until it does; one that sleeps with a
    /// post that was handed back covers this with its look, for the room may come with the last thing that would have
    /// woken it.
    pub fn has_room(&self) -> bool {
        !self.queue.is_full()
    }

    /// Bytes posted and not given back.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// The oldest post.
    pub fn pop(&self) -> Option<Box<Post>> {
        self.queue.pop()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Gives a post back that was popped and read.
    pub fn give_back(&self, post: Box<Post>) {
        self.bytes.fetch_sub(post.bytes.len(), Ordering::AcqRel);
        self.shelve(post);
    }

    /// Keeps an empty post for reuse.
    pub fn shelve(&self, mut post: Box<Post>) {
        post.clear();
        if post.bytes.capacity() <= 4 * crate::limits::SLICE_BYTES_MAX {
            let _ = self.spare.push(post);
        }
    }
}
