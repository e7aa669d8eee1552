//! This server's copy of the state: prepares writes in one order, applies what is committed, keeps the sessions.
//!
//! A value: [`Replica::handle`] takes an event and the time, appends to [`Out`] what the driver is to do, and touches no
//! socket, file or clock. It shares with the workers only the gate and the mailboxes.
//!
//! Invariants, asserted in release builds: zxids are prepared and applied in order without gaps; an outcome is delivered only
//! after `Event::Durable` covered its transaction; `Changed` comes before the `Outcome` that caused it; nothing is pending
//! exactly when the last prepared transaction is the last applied; the digest recorded with a transaction is the digest of
//! the tree once it is applied.

mod pending;
mod solo;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;

use zorilla_proto::client::{EventType, StringVec};
use zorilla_proto::code::Code;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::{self, Reader};
use zorilla_proto::op::Op;
use zorilla_proto::txn::{Txn, TxnDigest, TxnHeader};

use self::pending::{Ahead, Pending};
use self::solo::Agreement;
pub use self::window::{Span, Window};
use crate::auth;
use crate::clock::Now;
use crate::gate::{Gate, State};
use crate::limits::{
    CREDIT_BYTES_MAX, EPHEMERAL_PATH_BYTES_MAX, EXPIRED_PER_TICK_MAX, INFLIGHT_BYTES_MAX, INFLIGHT_TXNS_MAX,
    SLICE_BYTES_MAX, SLICE_TXNS_MAX, TXN_OVERHEAD_BYTES_MAX,
};
use crate::ops::metrics::Stages;
use crate::prep::effects::effects;
use crate::prep::{self, Scratch, View, Write};
use crate::read;
use crate::session::{Home, SessionState, Sessions};
use crate::tree::{self, Tree};
use crate::watch::{Change, ConnId, Interest, WatchKind};
use crate::worker::mailbox::{Ask, Delivery, Item, Mailbox, Piece, Post, PostBox, Posted};

/// What the replica hears.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// There may be posts, or room in a mailbox that had none, or room in the log.
    Look,
    /// The log holds everything up to this zxid.
    Durable {
        /// Inclusive.
        up_to: Zxid,
    },
    /// Time has passed: judge sessions.
    Tick,
}

/// One transaction for the log, in the replica's window.
#[derive(Clone, Copy, Debug)]
pub struct Append {
    /// Above every one before.
    pub zxid: Zxid,
    /// See [`Replica::bytes`].
    pub span: Span,
}

/// Whether the log takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSpace {
    /// It does.
    Plenty,
    /// Only what lets sessions end: the disk is full.
    ClosesOnly,
}

/// What the driver tells before an event, and does after it.
#[derive(Debug)]
pub struct Out {
    /// Told: bytes that the log can take before it is polled again.
    pub log_room: usize,
    /// Told: see [`LogSpace`].
    pub log_space: LogSpace,
    /// To do, in this order: append to the log.
    pub appends: Vec<Append>,
}

impl Out {
    /// Nothing to do yet.
    pub fn new() -> Out {
        Out { log_room: 0, log_space: LogSpace::Plenty, appends: Vec::new() }
    }
}

impl Default for Out {
    fn default() -> Out {
        Out::new()
    }
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
struct Origin {
    worker: u16,
    conn: ConnId,
    xid: i32,
    arrived_ns: u64,
}

/// What a prepared transaction answers.
#[derive(Clone, Copy, Debug)]
enum Reply {
    /// Nobody asked: an expiry.
    Nobody,
    /// The reply of the opcode.
    Write(Op),
    /// An error that was logged.
    Error(Code),
    /// A new session.
    Open { attachment: u32, timeout_ms: u32 },
    /// A session that its client closed.
    Close,
}

/// One thing under way, in the order of history.
#[derive(Debug)]
enum Entry {
    /// A transaction on its way to the disk.
    Txn { zxid: Zxid, span: Span, steps: u32, digest: u64, origin: Origin, reply: Reply, prepared_ns: u64 },
    /// A read behind a write of its session: executed where it stands.
    Read { op: Op, span: Span, origin: Origin },
    /// An answer that is known.
    Answer { code: Code, origin: Origin },
    /// A resume, answered once everything before it is applied. NONE: not valid.
    Resume { session: SessionId, attachment: u32, timeout_ms: u32, origin: Origin },
    /// A request that nobody waits for any more.
    Dropped { origin: Origin },
    /// A connection whose session moved to another.
    Kick { session: SessionId, worker: u16, conn: ConnId },
}

/// See the module.
pub struct Replica {
    gate: Arc<Gate>,
    mailboxes: Vec<Arc<Mailbox>>,
    postboxes: Vec<Arc<PostBox>>,
    /// Posts that were begun and not finished, by worker.
    opened: Vec<Option<Box<Post>>>,
    /// Whose post is taken next, so that one worker's posts cannot keep all room from another's.
    turn: usize,
    sessions: Sessions,
    agreement: Agreement,
    pending: Pending,
    window: Window,
    inflight: VecDeque<Entry>,
    inflight_txns: usize,
    applied: Zxid,
    scratch: Scratch,
    drafts: Vec<Option<Box<Delivery>>>,
    /// Until when each worker has heard everything that arrived, ms.
    heard_until_ms: Vec<u64>,
    expired: Vec<SessionId>,
    /// The last look left a post for want of room: see [`Replica::is_blocked`].
    blocked: bool,
    paths: Vec<String>,
    encoded: Vec<u8>,
    durable_ns: u64,
    /// Transactions applied since [`Replica::delivered_at`] was last called.
    applied_txns: u64,
    /// How long each stage of a write took.
    pub stages: Stages,
}

impl Replica {
    /// A replica over a recovered state, of a server that is alone.
    pub fn solo(
        gate: Arc<Gate>,
        mailboxes: Vec<Arc<Mailbox>>,
        postboxes: Vec<Arc<PostBox>>,
        sessions: Sessions,
        seed: u64,
    ) -> Replica {
        assert_eq!(mailboxes.len(), postboxes.len(), "a mailbox and a post box for every worker");
        let (applied, digest) = {
            let state = gate.read();
            (state.applied, state.tree.digest())
        };
        let workers = mailboxes.len();
        Replica {
            gate,
            mailboxes,
            postboxes,
            opened: (0..workers).map(|_| None).collect(),
            turn: 0,
            sessions,
            agreement: Agreement::solo(applied),
            pending: Pending::new(digest, seed),
            window: Window::default(),
            inflight: VecDeque::new(),
            inflight_txns: 0,
            applied,
            scratch: Scratch::default(),
            drafts: (0..workers).map(|_| None).collect(),
            heard_until_ms: vec![0; workers],
            expired: Vec::new(),
            blocked: false,
            paths: Vec::new(),
            encoded: Vec::new(),
            durable_ns: 0,
            applied_txns: 0,
            stages: Stages::default(),
        }
    }

    /// The bytes of a transaction that is under way.
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.window.get(span)
    }

    /// Whether everything that was asked has been answered into the mailboxes.
    pub fn is_idle(&self) -> bool {
        self.inflight.is_empty()
            && self.opened.iter().all(Option::is_none)
            && self.postboxes.iter().all(|postbox| postbox.is_empty())
    }

    /// Sessions tracked, closing ones included.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// When [`Event::Tick`] is due at the latest, ms.
    pub fn next_tick_ms(&self) -> Option<u64> {
        if self.expired.is_empty() { self.sessions.next_expiry_ms() } else { Some(0) }
    }

    /// When what the last event applied had been delivered, ns: by a clock that the replica itself does not read.
    pub fn delivered_at(&mut self, at_ns: u64) {
        if 0 < self.applied_txns {
            self.stages.applied.record_ns_n(at_ns.saturating_sub(self.durable_ns), self.applied_txns);
            self.applied_txns = 0;
        }
    }

    /// Whether [`Replica::delivered_at`] is waited for.
    pub fn has_delivered(&self) -> bool {
        0 < self.applied_txns
    }

    /// Takes one event. See the module.
    pub fn handle(&mut self, event: Event, now: Now, out: &mut Out) {
        match event {
            Event::Look => {}
            Event::Durable { up_to } => {
                self.agreement.durable(up_to);
                self.durable_ns = now.mono_ns;
            }
            Event::Tick => self.expire(now, out),
        }
        // What is committed first: it makes room for what is prepared next.
        self.apply(now);
        self.prepare(now, out);
        self.apply(now);
    }

    /// Takes posts while there is room for what they ask.
    fn prepare(&mut self, now: Now, out: &mut Out) {
        if self.opened.iter().all(Option::is_none) && self.postboxes.iter().all(|postbox| postbox.is_empty()) {
            return;
        }
        self.blocked = false;
        let gate = self.gate.clone();
        let state = gate.read();
        let workers = self.postboxes.len();
        // Workers in a row that had nothing.
        let mut passed = 0;
        while passed < workers {
            let worker = self.turn;
            let post = self.opened[worker].take().or_else(|| {
                let post = self.postboxes[worker].pop()?;
                self.hear(&post);
                Some(post)
            });
            match post {
                None => passed += 1,
                Some(mut post) => {
                    passed = 0;
                    if !self.take_requests(&mut post, &state, now, out) {
                        self.opened[worker] = Some(post);
                        self.blocked = true;
                        return;
                    }
                    let was_short = CREDIT_BYTES_MAX <= self.postboxes[worker].bytes();
                    self.postboxes[worker].give_back(post);
                    if was_short {
                        // It stopped reading its sockets for want of credit, and may be asleep with nothing else to come.
                        self.mailboxes[worker].sleeper.wake();
                    }
                }
            }
            self.turn = (worker + 1) % workers;
        }
    }

    /// Which sessions are alive, as one worker reports.
    fn hear(&mut self, post: &Post) {
        let heard_at_ms = post.arrived_ns / 1_000_000;
        for session in &post.touched {
            self.sessions.touch(*session, heard_at_ms);
        }
        let heard = &mut self.heard_until_ms[post.worker as usize];
        *heard = post.heard_until_ms.max(*heard);
    }

    /// Takes the rest of a post's requests. `false`: there is no room for the next one.
    fn take_requests(&mut self, post: &mut Post, state: &State, now: Now, out: &mut Out) -> bool {
        while let Some(posted) = post.requests.get(post.taken).copied() {
            let body = posted.body.of(&post.bytes);
            let refused = out.log_space == LogSpace::ClosesOnly;
            let has_room = match posted.ask {
                Ask::Close => self.has_room(self.close_bytes(posted.session, state), out),
                Ask::Open { .. } | Ask::Write { .. } if !refused => self.has_room(body.len(), out),
                // These append nothing to the log: they do not wait for it.
                _ => self.has_window(body.len()),
            };
            if !has_room {
                return false;
            }
            let origin =
                Origin { worker: post.worker, conn: posted.conn, xid: posted.xid, arrived_ns: post.arrived_ns };
            self.take(posted, body, origin, state, now, out);
            post.taken += 1;
        }
        true
    }

    /// Whether a transaction made of `bytes` can be prepared now.
    fn has_room(&self, bytes: usize, out: &Out) -> bool {
        self.has_window(bytes) && bytes + TXN_OVERHEAD_BYTES_MAX <= out.log_room
    }

    /// Whether `bytes` more may be under way.
    fn has_window(&self, bytes: usize) -> bool {
        // One giant may exceed the window's bound, alone.
        let fits = self.window.bytes() + bytes + TXN_OVERHEAD_BYTES_MAX <= INFLIGHT_BYTES_MAX;
        (fits || self.inflight.is_empty()) && self.inflight.len() < INFLIGHT_TXNS_MAX
    }

    /// Whether posts wait for room that only the disk or a worker can make.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// What the closeSession transaction of a session lists at most, bytes.
    fn close_bytes(&self, session: SessionId, state: &State) -> usize {
        (state.tree.ephemeral_path_bytes(session) + self.pending.ephemeral_bytes(session)) as usize
    }

    fn take(&mut self, posted: Posted, body: &[u8], origin: Origin, state: &State, now: Now, out: &mut Out) {
        match posted.ask {
            Ask::Open { timeout_ms } => self.open(timeout_ms, origin, state, now, out),
            Ask::Resume { timeout_ms } => self.resume(posted.session, timeout_ms, origin, now),
            Ask::Gone => self.sessions.detach(posted.session, posted.attachment),
            Ask::Answer { code } => match self.session_of(&posted) {
                Some(_) => self.inflight.push_back(Entry::Answer { code, origin }),
                None => self.inflight.push_back(Entry::Dropped { origin }),
            },
            Ask::Read { op } => match self.session_of(&posted) {
                Some(_) => {
                    self.sessions.touch(posted.session, origin.arrived_ns / 1_000_000);
                    let span = self.window.write(body.len(), |out| out.extend_from_slice(body));
                    self.inflight.push_back(Entry::Read { op, span, origin });
                }
                None => self.inflight.push_back(Entry::Dropped { origin }),
            },
            Ask::Write { op, verdict } => {
                let Some(session_state) = self.session_of(&posted) else {
                    self.inflight.push_back(Entry::Dropped { origin });
                    return;
                };
                if out.log_space == LogSpace::ClosesOnly {
                    self.inflight.push_back(Entry::Answer { code: Code::SystemError, origin });
                    return;
                }
                self.sessions.touch(posted.session, origin.arrived_ns / 1_000_000);
                let spent =
                    state.tree.ephemeral_path_bytes(posted.session) + self.pending.ephemeral_bytes(posted.session);
                let write = Write {
                    op,
                    body,
                    verdict,
                    session: posted.session,
                    session_open: session_state == SessionState::Open,
                    ephemeral_bytes_left: EPHEMERAL_PATH_BYTES_MAX.saturating_sub(spent),
                };
                self.write(&write, origin, state, now, out);
            }
            Ask::Close => match self.session_of(&posted) {
                Some(SessionState::Open) => {
                    self.sessions.close(posted.session);
                    self.close(posted.session, origin, Reply::Close, state, now, out);
                }
                // It is being closed already; the connection is closed with it.
                Some(SessionState::Closing) | None => self.inflight.push_back(Entry::Dropped { origin }),
            },
        }
    }

    /// The state of the session that a request names, if the request comes from its newest attachment.
    fn session_of(&self, posted: &Posted) -> Option<SessionState> {
        let session = self.sessions.get(posted.session)?;
        (session.attachment == posted.attachment).then_some(session.state)
    }

    fn open(&mut self, timeout_ms: u32, origin: Origin, state: &State, now: Now, out: &mut Out) {
        let (worker, conn) = (origin.worker, origin.conn);
        if out.log_space == LogSpace::ClosesOnly {
            // Its connection is closed, not answered "not valid": the client tries again, here or elsewhere.
            self.inflight.push_back(Entry::Dropped { origin });
            return;
        }
        let id = self.sessions.next_id();
        self.sessions.create(id, timeout_ms, now.mono_ms(), Some(Home { worker, conn }));
        let attachment = self.sessions.get(id).expect("the session was just created").attachment;
        let txn = Txn::CreateSession { timeout_ms: timeout_ms as i32 };
        self.propose(id, 0, txn, origin, Reply::Open { attachment, timeout_ms }, state, now, out);
    }

    fn resume(&mut self, session: SessionId, timeout_ms: u32, origin: Origin, now: Now) {
        let home = Home { worker: origin.worker, conn: origin.conn };
        match self.sessions.attach(session, home, timeout_ms, now.mono_ms()) {
            None => {
                let (session, attachment) = (SessionId::NONE, 0);
                self.inflight.push_back(Entry::Resume { session, attachment, timeout_ms: 0, origin });
            }
            Some((former, attachment)) => {
                if let Some(Home { worker, conn }) = former {
                    self.inflight.push_back(Entry::Kick { session, worker, conn });
                }
                self.inflight.push_back(Entry::Resume { session, attachment, timeout_ms, origin });
            }
        }
    }

    fn write(&mut self, write: &Write<'_>, origin: Origin, state: &State, now: Now, out: &mut Out) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let ahead = Ahead { pending: &mut self.pending, tree: &state.tree };
        match prep::decide(write, &ahead, &mut scratch) {
            Ok(txn) => {
                self.propose(write.session, origin.xid, txn, origin, Reply::Write(write.op), state, now, out);
            }
            Err(code) => {
                let txn = Txn::Error { code: code.raw() };
                self.propose(write.session, origin.xid, txn, origin, Reply::Error(code), state, now, out);
            }
        }
        self.scratch = scratch;
    }

    /// Prepares the end of a session that was marked closing: every ephemeral znode it has or is about to have.
    fn close(&mut self, session: SessionId, origin: Origin, reply: Reply, state: &State, now: Now, out: &mut Out) {
        let mut paths = std::mem::take(&mut self.paths);
        let ahead = Ahead { pending: &mut self.pending, tree: &state.tree };
        ahead.ephemerals(session, &mut |path| paths.push(path.to_owned()));
        // A fixed order: the transaction must not show the order of a hash table.
        paths.sort_unstable();
        let mut encoded = std::mem::take(&mut self.encoded);
        let txn = Txn::CloseSession { paths: Some(StringVec::build(&mut encoded, &paths)) };
        self.propose(session, origin.xid, txn, origin, reply, state, now, out);
        paths.clear();
        self.paths = paths;
        self.encoded = encoded;
    }

    /// Gives a transaction its zxid, shows its effects to the next one, and hands it to the log.
    #[allow(clippy::too_many_arguments)] // Everything that a transaction is made of, once.
    fn propose(
        &mut self,
        session: SessionId,
        cxid: i32,
        txn: Txn<'_>,
        origin: Origin,
        reply: Reply,
        state: &State,
        now: Now,
        out: &mut Out,
    ) {
        // 2^63 transactions cannot be made in the lifetime of the disk they are written to.
        let zxid = self.agreement.next().expect("zxids are used up");
        let header = TxnHeader { session, cxid, zxid, time_ms: now.wall_ms, op: txn.op().raw() };
        self.pending.begin(zxid);
        let mut ahead = Ahead { pending: &mut self.pending, tree: &state.tree };
        if let Err(unfit) = effects(&header, &txn, &mut ahead) {
            panic!("prepared {zxid}, which does not fit the tree it was decided on: {unfit}");
        }
        let digest = self.pending.digest();
        let is_error = matches!(txn, Txn::Error { .. });
        let bytes_expected = match &txn {
            Txn::Create { path, data, acl, .. } => {
                path.len() + data.map_or(0, <[u8]>::len) + acl.map_or(0, |acl| acl.raw().len())
            }
            Txn::SetData { path, data, .. } => path.len() + data.map_or(0, <[u8]>::len),
            Txn::Delete { path } => path.len(),
            Txn::CloseSession { paths } => paths.map_or(0, |paths| paths.raw().len()),
            _ => 0,
        };
        let span = self.window.write(bytes_expected + TXN_OVERHEAD_BYTES_MAX, |bytes| {
            header.encode(bytes);
            txn.encode(bytes);
            if !is_error {
                TxnDigest::new(digest).encode(bytes);
            }
        });
        let steps = self.pending.steps();
        self.agreement.propose(zxid);
        let prepared_ns = now.mono_ns;
        self.inflight.push_back(Entry::Txn { zxid, span, steps, digest, origin, reply, prepared_ns });
        self.inflight_txns += 1;
        // The log has room for one giant or for a batch of others: what it told goes for the first record alone.
        out.log_room =
            out.log_room.min(zorilla_wal::limits::BATCH_BYTES).saturating_sub(span.len() + TXN_OVERHEAD_BYTES_MAX);
        out.appends.push(Append { zxid, span });
    }

    /// Ends the sessions that were not heard of in time, as far as every worker has listened.
    fn expire(&mut self, now: Now, out: &mut Out) {
        let heard_until_ms = self.heard_until_ms.iter().copied().min().unwrap_or(0);
        let gate = self.gate.clone();
        for _ in 0..EXPIRED_PER_TICK_MAX {
            // One at a time, because each may fill the log's room; one that finds none is first in the next tick.
            if self.expired.is_empty() {
                self.sessions.expire(now.mono_ms(), heard_until_ms, 1, &mut self.expired);
            }
            let Some(session) = self.expired.last().copied() else { break };
            let state = gate.read();
            if !self.has_room(self.close_bytes(session, &state), out) {
                break;
            }
            self.expired.pop();
            let origin = Origin { worker: 0, conn: ConnId(0), xid: 0, arrived_ns: now.mono_ns };
            self.close(session, origin, Reply::Nobody, &state, now, out);
            // Outside the gate: a log line is a system call.
            drop(state);
            tracing::info!("Expiring session {session}, its timeout has passed");
        }
    }

    /// Applies what is committed, slice by slice, as long as every mailbox has room for a slice.
    fn apply(&mut self, now: Now) {
        let committed = self.agreement.committed();
        while self.is_ready(committed) && self.mailboxes.iter().all(|mailbox| mailbox.has_room()) {
            let gate = self.gate.clone();
            let mut state = gate.write();
            let mut txns = 0;
            while txns < SLICE_TXNS_MAX && self.is_ready(committed) && self.drafted_bytes() < SLICE_BYTES_MAX {
                let entry = self.inflight.pop_front().expect("a ready entry is there");
                self.apply_entry(entry, &mut state, now);
                txns += 1;
            }
            let mut woken = 0u64;
            for (worker, draft) in self.drafts.iter_mut().enumerate() {
                let Some(mut delivery) = draft.take() else { continue };
                delivery.applied = state.applied;
                delivery.applied_ns = now.mono_ns;
                self.mailboxes[worker].push(delivery);
                woken |= 1 << worker;
            }
            self.applied = state.applied;
            drop(state);
            for (worker, mailbox) in self.mailboxes.iter().enumerate() {
                if woken & (1 << worker) != 0 {
                    mailbox.sleeper.wake();
                }
            }
        }
        assert_eq!(
            self.inflight_txns == 0,
            self.agreement.proposed() == self.applied,
            "in flight: {}, prepared {}, applied {}",
            self.inflight_txns,
            self.agreement.proposed(),
            self.applied
        );
        assert_eq!(self.inflight_txns == 0, self.inflight_txns == 0 && self.pending.is_empty());
    }

    fn is_ready(&self, committed: Zxid) -> bool {
        match self.inflight.front() {
            Some(Entry::Txn { zxid, .. }) => *zxid <= committed,
            Some(_) => true,
            None => false,
        }
    }

    fn drafted_bytes(&self) -> usize {
        self.drafts.iter().flatten().map(|draft| draft.bytes.len()).max().unwrap_or(0)
    }

    fn apply_entry(&mut self, entry: Entry, state: &mut State, now: Now) {
        match entry {
            Entry::Txn { zxid, span, steps, digest, origin, reply, prepared_ns } => {
                self.stages.prep.record_ns(prepared_ns.saturating_sub(origin.arrived_ns));
                self.stages.durable.record_ns(self.durable_ns.saturating_sub(prepared_ns));
                self.applied_txns += 1;
                self.apply_txn(zxid, span, steps, digest, origin, reply, state, now);
                self.inflight_txns -= 1;
                self.window.release(span);
            }
            Entry::Read { op, span, origin } => {
                let zxid = state.applied;
                let mailbox = &self.mailboxes[origin.worker as usize];
                let draft = self.drafts[origin.worker as usize].get_or_insert_with(|| mailbox.blank());
                let at = draft.bytes.len();
                let mut sink = InPlace { draft, interest: &mailbox.interest, conn: origin.conn, zxid, body_at: at };
                let code = read::read(op, self.window.get(span), &state.tree, &mut sink);
                let body_at = sink.body_at;
                if code != Code::Ok {
                    draft.bytes.truncate(body_at);
                }
                let body = Piece::since(body_at, &draft.bytes);
                draft.items.push(outcome(origin, zxid, code, body, false, false));
                self.window.release(span);
            }
            Entry::Answer { code, origin } => {
                let draft = draft(&mut self.drafts, &self.mailboxes, origin.worker);
                let body = Piece::since(draft.bytes.len(), &draft.bytes);
                draft.items.push(outcome(origin, state.applied, code, body, false, false));
            }
            Entry::Resume { session, attachment, timeout_ms, origin } => {
                self.sessions.touch(session, now.mono_ms());
                let draft = draft(&mut self.drafts, &self.mailboxes, origin.worker);
                draft.items.push(Item::Session { conn: origin.conn, session, attachment, timeout_ms });
            }
            Entry::Dropped { origin } => {
                draft(&mut self.drafts, &self.mailboxes, origin.worker).items.push(Item::Dropped { conn: origin.conn });
            }
            Entry::Kick { session, worker, conn } => {
                draft(&mut self.drafts, &self.mailboxes, worker).items.push(Item::Kick { conn, session });
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // The fields of one entry.
    fn apply_txn(
        &mut self,
        zxid: Zxid,
        span: Span,
        steps: u32,
        digest: u64,
        origin: Origin,
        reply: Reply,
        state: &mut State,
        now: Now,
    ) {
        assert!(self.applied_before(state, zxid), "applied {zxid} right after {}", state.applied);
        let Replica { window, pending, mailboxes, drafts, sessions, .. } = self;
        let mut reader = Reader::new(window.get(span));
        // Our own bytes, encoded in this process: an error is a broken promise of the codec.
        let header = TxnHeader::decode(&mut reader).expect("a prepared transaction has a header");
        let txn = Txn::decode(&header, &mut reader).expect("a prepared transaction can be decoded");
        let tree = &state.tree;
        changes(&txn, &mut |change, path| {
            for (worker, mailbox) in mailboxes.iter().enumerate() {
                if mailbox.interest.may_watch(change, path) {
                    let node_readable = match &txn {
                        Txn::Create { acl: Some(acl), .. } => auth::allows(acl.raw(), auth::READ),
                        _ => readable(tree, path),
                    };
                    let parent_readable = tree::path::parent(path).is_none_or(|parent| readable(tree, parent));
                    let draft = draft(drafts, mailboxes, worker as u16);
                    let path = Piece::push(&mut draft.bytes, path.as_bytes());
                    draft.items.push(Item::Changed { change, path, zxid, node_readable, parent_readable });
                }
            }
        });
        let written = pending.install(zxid, &txn, steps, &mut state.tree);
        state.applied = zxid;
        assert_eq!(state.tree.digest(), digest, "digest of the tree after {zxid}");
        match txn {
            Txn::CreateSession { .. } => {
                state.sessions += 1;
                // Its client could not say anything before now, however long the disk took.
                sessions.touch(header.session, now.mono_ms());
            }
            Txn::CloseSession { .. } => {
                state.sessions -= 1;
                let session = sessions.remove(header.session);
                // The client that asked gets its reply first; a connection that did not ask is just closed.
                let asked = matches!(reply, Reply::Close);
                if let Some(Home { worker, conn }) = session.and_then(|session| session.home).filter(|_| !asked) {
                    draft(drafts, mailboxes, worker).items.push(Item::Kick { conn, session: header.session });
                }
            }
            _ => {}
        }
        let (code, last, write) = match reply {
            Reply::Nobody => return,
            Reply::Open { attachment, timeout_ms } => {
                let (conn, session) = (origin.conn, header.session);
                draft(drafts, mailboxes, origin.worker).items.push(Item::Session {
                    conn,
                    session,
                    attachment,
                    timeout_ms,
                });
                return;
            }
            Reply::Error(code) => (code, false, true),
            Reply::Close => (Code::Ok, true, false),
            Reply::Write(_) => (Code::Ok, false, true),
        };
        let draft = draft(drafts, mailboxes, origin.worker);
        let at = draft.bytes.len();
        match (reply, &txn, written) {
            (Reply::Write(Op::Create), Txn::Create { path, .. }, _) => jute::put_string(&mut draft.bytes, path),
            (Reply::Write(Op::Create2), Txn::Create { path, .. }, Some(version)) => {
                jute::put_string(&mut draft.bytes, path);
                version.stat().encode(&mut draft.bytes);
            }
            (Reply::Write(Op::SetData), Txn::SetData { .. }, Some(version)) => {
                version.stat().encode(&mut draft.bytes);
            }
            _ => {}
        }
        let body = Piece::since(at, &draft.bytes);
        draft.items.push(outcome(origin, zxid, code, body, write, last));
    }

    fn applied_before(&self, state: &State, zxid: Zxid) -> bool {
        match &self.agreement {
            Agreement::Solo(_) => state.applied.successor() == Some(zxid),
        }
    }
}

/// The changes of a transaction that fire watches, in order.
fn changes(txn: &Txn<'_>, each: &mut dyn FnMut(Change, &str)) {
    match txn {
        Txn::Create { path, .. } => each(Change::Created, path),
        Txn::Delete { path } => each(Change::Deleted, path),
        Txn::SetData { path, .. } => each(Change::DataChanged, path),
        Txn::CloseSession { paths: Some(paths) } => {
            for path in paths.iter() {
                each(Change::Deleted, &path);
            }
        }
        _ => {}
    }
}

fn readable(tree: &Tree, path: &str) -> bool {
    tree.find(path).is_none_or(|node| auth::allows(node.acl().raw, auth::READ))
}

fn draft<'d>(
    drafts: &'d mut [Option<Box<Delivery>>],
    mailboxes: &[Arc<Mailbox>],
    worker: u16,
) -> &'d mut Box<Delivery> {
    drafts[worker as usize].get_or_insert_with(|| mailboxes[worker as usize].blank())
}

fn outcome(origin: Origin, zxid: Zxid, code: Code, body: Piece, write: bool, last: bool) -> Item {
    let Origin { conn, xid, arrived_ns, .. } = origin;
    Item::Outcome { conn, xid, zxid, code, body, write, last, arrived_ns }
}

/// Where a read that travelled with a write leaves its results: in the delivery of its worker.
struct InPlace<'a> {
    draft: &'a mut Box<Delivery>,
    interest: &'a Interest,
    conn: ConnId,
    zxid: Zxid,
    /// Where the body begins: paths of watches and events lie before it.
    body_at: usize,
}

impl read::Sink for InPlace<'_> {
    fn body(&mut self) -> &mut Vec<u8> {
        &mut self.draft.bytes
    }

    fn watch(&mut self, kind: WatchKind, path: &str) {
        // Raised here and not by the worker: the next transaction of this slice may change the path already.
        self.interest.raise(kind, path);
        let piece = Piece::push(&mut self.draft.bytes, path.as_bytes());
        self.body_at = self.draft.bytes.len();
        self.draft.items.push(Item::Watch { conn: self.conn, kind, path: piece, zxid: self.zxid });
    }

    fn event(&mut self, event: EventType, path: &str) {
        let piece = Piece::push(&mut self.draft.bytes, path.as_bytes());
        self.body_at = self.draft.bytes.len();
        self.draft.items.push(Item::Event { conn: self.conn, event, path: piece });
    }
}
