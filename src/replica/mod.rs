//! This server's copy of the state: prepares writes in one order, applies what is committed, keeps the sessions.
//!
//! A value: [`Replica::handle`] takes an event and the time, appends to [`Out`] what the driver is to do, and touches no
//! socket, file or clock. It shares with the workers only the gate and the mailboxes.
//!
//! Invariants, asserted in release builds: zxids are prepared and applied in order without gaps; an outcome is delivered only
//! after `Event::Durable` covered its transaction; `Changed` comes before the `Outcome` that caused it; nothing is pending
//! exactly when the last prepared transaction is the last applied; the digest recorded with a transaction is the digest of
//! the tree once it is applied.

mod apply;
mod pending;
mod reaper;
mod solo;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;

use zorilla_proto::client::StringVec;
use zorilla_proto::code::Code;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::op::Op;
use zorilla_proto::txn::{Txn, TxnDigest, TxnHeader};
use zorilla_wal::limits::TXN_BYTES_MAX;

use self::pending::{Ahead, Pending};
use self::reaper::Reaper;
use self::solo::Agreement;
pub use self::window::{Span, Window};
use crate::auth::{Identities, Rules};
use crate::clock::Now;
use crate::gate::{Gate, State};
use crate::limits::{
    ACL_GROWTH_BYTES_MAX, CREDIT_BYTES_MAX, EPHEMERAL_PATH_BYTES_MAX, EXPIRED_PER_TICK_MAX, INFLIGHT_BYTES_MAX,
    INFLIGHT_TXNS_MAX, SLICE_BYTES_MAX, SLICE_TXNS_MAX, SPARE_ENTRY_BYTES_MAX, TXN_OVERHEAD_BYTES_MAX,
};
use crate::ops::metrics::Stages;
use crate::prep::effects::{effects, sorted_ephemerals};
use crate::prep::{self, Policy, Scratch, Verdict, Write};
use crate::session::{Home, SessionState, Sessions};
use crate::settings::{self, ContainerSettings};
use crate::store::policy::Since;
use crate::store::replay::Tail;
use crate::store::work::{Freeze, Replaced, Retired, SessionChange, Swap};
use crate::watch::ConnId;
use crate::worker::mailbox::{Ask, Delivery, Mailbox, Post, PostBox, Posted};

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
    Txn { zxid: Zxid, span: Span, digest: u64, origin: Origin, reply: Reply, prepared_ns: u64 },
    /// A read behind a write of its session: executed where it stands, with the identities it was sent with.
    Read { op: Op, span: Span, origin: Origin, session: SessionId, who: Identities },
    /// An answer that is known.
    Answer { code: Code, origin: Origin },
    /// A resume, answered once everything before it is applied. NONE: not valid.
    Resume { session: SessionId, attachment: u32, timeout_ms: u32, origin: Origin },
    /// A request that nobody waits for any more.
    Dropped { origin: Origin },
    /// A connection whose session moved to another.
    Kick { session: SessionId, worker: u16, conn: ConnId },
}

/// What the replica has to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What decides about writes.
    pub policy: Policy,
    /// When containers and znodes with a time to live are deleted.
    pub containers: ContainerSettings,
    /// The transaction that ends a session lists what goes with it.
    pub close_session_txn: bool,
    /// Transactions carry the digest of the tree.
    pub digest: bool,
    /// Persistent watches are kept.
    pub persistent_watches: bool,
}

impl Settings {
    /// From the configuration; `rules` are shared with the workers.
    pub fn new(settings: &settings::Settings, rules: Arc<Rules>) -> Settings {
        Settings {
            policy: Policy {
                rules,
                extended_types: settings.extended_types,
                enforce_quota: settings.enforce_quota,
                reconfig_enabled: settings.reconfig_enabled,
            },
            containers: settings.containers,
            close_session_txn: settings.close_session_txn,
            digest: settings.digest,
            persistent_watches: settings.persistent_watches,
        }
    }
}

impl Default for Settings {
    /// Of a server that nobody configured.
    fn default() -> Settings {
        Settings::new(&settings::Settings::default(), Arc::new(Rules::open()))
    }
}

/// See the module.
pub struct Replica {
    settings: Settings,
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
    /// What every connection has proved of itself, by worker and connection.
    identities: Vec<Vec<Option<Identities>>>,
    reaper: Reaper,
    /// Until when each worker has heard everything that arrived, ms.
    heard_until_ms: Vec<u64>,
    expired: Vec<SessionId>,
    /// The last look left a post for want of room: see [`Replica::is_blocked`].
    blocked: bool,
    encoded: Vec<u8>,
    durable_ns: u64,
    /// What the reads of this slice had to look at, bytes.
    slice_work: usize,
    /// Transactions applied since [`Replica::delivered_at`] was last called.
    applied_txns: u64,
    /// What was applied since the last freeze.
    since: Since,
    /// Sessions that began or ended since the last freeze.
    session_changes: Vec<SessionChange>,
    /// Memory of the overlay that is written to, as far as was applied.
    live_bytes: usize,
    /// How long each stage of a write took.
    pub stages: Stages,
}

impl Replica {
    /// A replica over a recovered state, of a server that is alone.
    pub fn solo(
        settings: Settings,
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
            reaper: Reaper::new(&settings.containers),
            identities: vec![Vec::new(); workers],
            settings,
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
            encoded: Vec::new(),
            durable_ns: 0,
            slice_work: 0,
            applied_txns: 0,
            since: Since::default(),
            session_changes: Vec::new(),
            live_bytes: 0,
            stages: Stages::default(),
        }
    }

    /// The state it began with is that of the disk with this on top.
    pub fn begin_with(&mut self, tail: Tail, now: Now) {
        let Tail { txns, bytes, sessions } = tail;
        self.since = Since { txns, bytes, last_ns: now.mono_ns };
        self.session_changes = sessions;
        self.live_bytes = self.gate.read().tree.live_size().1;
    }

    /// What was applied since the last freeze.
    pub fn since(&self) -> &Since {
        &self.since
    }

    /// Memory of the overlay that is written to, about.
    pub fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// Freezes what was applied so far, to be written to the disk: no step of it grows with the tree. The frozen overlay of
    /// the last time has been replaced by then.
    pub fn freeze(&mut self, now: Now) -> Freeze {
        let gate = self.gate.clone();
        let mut state = gate.write();
        let mut meta = state.tree.meta();
        meta.zxid = state.applied;
        meta.written_ms = now.wall_ms;
        meta.digests = state.digests.iter().collect();
        let overlay = state.tree.freeze();
        drop(state);
        self.since = Since::default();
        self.live_bytes = 0;
        Freeze { overlay, meta, sessions: std::mem::take(&mut self.session_changes) }
    }

    /// Puts a run into the place of what it was made from. What comes back is dropped where that may take long.
    pub fn swap(&mut self, swap: &Swap) -> Retired {
        let gate = self.gate.clone();
        let mut state = gate.write();
        match &swap.replaced {
            Replaced::Frozen => Retired::Overlay(state.tree.replace_frozen(swap.run.clone())),
            Replaced::Runs(runs) => Retired::Runs(state.tree.replace_runs(runs, swap.run.clone())),
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
        let expiry = if self.expired.is_empty() { self.sessions.next_expiry_ms() } else { Some(0) };
        let reap = self.reaper.next_ms();
        Some(expiry.map_or(reap, |expiry| expiry.min(reap)))
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
            Event::Tick => {
                self.expire(now, out);
                self.reap(now, out);
            }
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
            if let Ask::Identify { at } = posted.ask {
                self.identify(post.worker, posted.conn, post.identities[at as usize].clone());
                post.taken += 1;
                continue;
            }
            let has_room = match posted.ask {
                Ask::Close => self.has_room(self.close_bytes(posted.session, state), out),
                Ask::Write { op: Op::Multi, .. } if !refused => self.has_room(multi_bytes_max(body.len()), out),
                Ask::Write { verdict: Verdict { expands: true, .. }, .. } if !refused => {
                    self.has_room(body.len() + ACL_GROWTH_BYTES_MAX, out)
                }
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
            Ask::Gone => {
                self.sessions.detach(posted.session, posted.attachment);
                if let Some(who) = self.identities[origin.worker as usize].get_mut(posted.conn.0 as usize) {
                    *who = None;
                }
            }
            Ask::Identify { .. } => unreachable!("identities are taken with their post"),
            Ask::Answer { code } => match self.session_of(&posted) {
                Some(_) => self.inflight.push_back(Entry::Answer { code, origin }),
                None => self.inflight.push_back(Entry::Dropped { origin }),
            },
            Ask::Read { op } => match self.session_of(&posted) {
                Some(_) => {
                    self.sessions.touch(posted.session, origin.arrived_ns / 1_000_000);
                    let span = self.window.write(body.len(), |out| out.extend_from_slice(body));
                    let who = who(&self.identities, origin).clone();
                    let session = posted.session;
                    self.inflight.push_back(Entry::Read { op, span, origin, session, who });
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
                let asked = Asked {
                    op,
                    body,
                    verdict,
                    session: posted.session,
                    session_open: session_state == SessionState::Open,
                    ephemeral_bytes_left: EPHEMERAL_PATH_BYTES_MAX.saturating_sub(spent),
                };
                match op {
                    Op::Multi => self.multi(&asked, origin, state, now, out),
                    _ => self.write(&asked, origin, state, now, out),
                }
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

    fn write(&mut self, asked: &Asked<'_>, origin: Origin, state: &State, now: Now, out: &mut Out) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let write = asked.by(who(&self.identities, origin), &self.settings.policy);
        let ahead = Ahead { pending: &mut self.pending, tree: &state.tree };
        match prep::decide(&write, &ahead, &mut scratch) {
            Ok(txn) => {
                self.propose(asked.session, origin.xid, txn, origin, Reply::Write(asked.op), state, now, out);
            }
            Err(code) => {
                let txn = Txn::Error { code: code.raw() };
                self.propose(asked.session, origin.xid, txn, origin, Reply::Error(code), state, now, out);
            }
        }
        self.scratch = scratch;
    }

    /// A multi is prepared on trial, because it is all or nothing; what it becomes is one transaction either way.
    fn multi(&mut self, asked: &Asked<'_>, origin: Origin, state: &State, now: Now, out: &mut Out) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut body = std::mem::take(&mut self.encoded);
        let header = self.header(asked.session, origin.xid, Op::Multi, now);
        let write = asked.by(who(&self.identities, origin), &self.settings.policy);
        self.pending.begin_on_trial(header.zxid);
        let mut ahead = Ahead { pending: &mut self.pending, tree: &state.tree };
        let bytes_max = multi_bytes_max(asked.body.len());
        let prepared = prep::multi::prepare(&write, &header, &mut ahead, &mut scratch, &mut body, bytes_max);
        match prepared {
            Ok(succeeded) => {
                if succeeded {
                    self.pending.keep();
                } else {
                    self.pending.roll_back();
                    self.pending.begin(header.zxid);
                }
                self.append(&header, &body, true, origin, Reply::Write(Op::Multi), now, out);
            }
            Err(code) => {
                self.pending.roll_back();
                let txn = Txn::Error { code: code.raw() };
                self.propose(asked.session, origin.xid, txn, origin, Reply::Error(code), state, now, out);
            }
        }
        if SPARE_ENTRY_BYTES_MAX < body.capacity() {
            // One giant must not keep its memory.
            body = Vec::new();
        }
        self.encoded = body;
        self.scratch = scratch;
    }

    /// Prepares the end of a session that was marked closing: every ephemeral znode it has or is about to have.
    fn close(&mut self, session: SessionId, origin: Origin, reply: Reply, state: &State, now: Now, out: &mut Out) {
        if !self.settings.close_session_txn {
            let txn = Txn::CloseSession { paths: None };
            return self.propose(session, origin.xid, txn, origin, reply, state, now, out);
        }
        let ahead = Ahead { pending: &mut self.pending, tree: &state.tree };
        let paths = sorted_ephemerals(session, &ahead);
        let mut encoded = std::mem::take(&mut self.encoded);
        let txn = Txn::CloseSession { paths: Some(StringVec::build(&mut encoded, &paths)) };
        self.propose(session, origin.xid, txn, origin, reply, state, now, out);
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
        let header = self.header(session, cxid, txn.op(), now);
        self.pending.begin(header.zxid);
        let mut ahead = Ahead { pending: &mut self.pending, tree: &state.tree };
        if let Err(unfit) = effects(&header, &txn, &mut ahead) {
            panic!("prepared {}, which does not fit the tree it was decided on: {unfit}", header.zxid);
        }
        let is_error = matches!(txn, Txn::Error { .. });
        let bytes_expected = match &txn {
            Txn::Create { path, data, acl, .. }
            | Txn::CreateContainer { path, data, acl, .. }
            | Txn::CreateTtl { path, data, acl, .. } => {
                path.len() + data.map_or(0, <[u8]>::len) + acl.map_or(0, |acl| acl.raw().len())
            }
            Txn::SetData { path, data, .. } => path.len() + data.map_or(0, <[u8]>::len),
            Txn::SetAcl { path, acl, .. } => path.len() + acl.map_or(0, |acl| acl.raw().len()),
            Txn::Delete { path } | Txn::DeleteContainer { path } => path.len(),
            Txn::CloseSession { paths } => paths.map_or(0, |paths| paths.raw().len()),
            _ => 0,
        };
        self.append_with(&header, bytes_expected, |bytes| txn.encode(bytes), !is_error, origin, reply, now, out);
    }

    /// The header of the next transaction.
    fn header(&self, session: SessionId, cxid: i32, op: Op, now: Now) -> TxnHeader {
        // 2^63 transactions cannot be made in the lifetime of the disk they are written to.
        let zxid = self.agreement.next().expect("zxids are used up");
        TxnHeader { session, cxid, zxid, time_ms: now.wall_ms, op: op.raw() }
    }

    /// [`Replica::append_with`], for a body that is encoded already.
    #[allow(clippy::too_many_arguments)] // Everything that a transaction is made of, once.
    fn append(
        &mut self,
        header: &TxnHeader,
        body: &[u8],
        digest: bool,
        origin: Origin,
        reply: Reply,
        now: Now,
        out: &mut Out,
    ) {
        let encode = |bytes: &mut Vec<u8>| bytes.extend_from_slice(body);
        self.append_with(header, body.len(), encode, digest, origin, reply, now, out);
    }

    /// Encodes a transaction whose effects the overlay shows, once, and hands it to the log.
    #[allow(clippy::too_many_arguments)] // Everything that a transaction is made of, once.
    fn append_with(
        &mut self,
        header: &TxnHeader,
        bytes_expected: usize,
        encode: impl FnOnce(&mut Vec<u8>),
        with_digest: bool,
        origin: Origin,
        reply: Reply,
        now: Now,
        out: &mut Out,
    ) {
        let zxid = header.zxid;
        let digest = self.pending.digest();
        let with_digest = with_digest && self.settings.digest;
        let span = self.window.write(bytes_expected + TXN_OVERHEAD_BYTES_MAX, |bytes| {
            header.encode(bytes);
            encode(bytes);
            if with_digest {
                TxnDigest::new(digest).encode(bytes);
            }
        });
        self.agreement.propose(zxid);
        let prepared_ns = now.mono_ns;
        self.inflight.push_back(Entry::Txn { zxid, span, digest, origin, reply, prepared_ns });
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

    /// Deletes containers and znodes whose time to live has passed, at the pace that is set.
    fn reap(&mut self, now: Now, out: &mut Out) {
        let ContainerSettings { never_used_ms, .. } = self.settings.containers;
        let (never_used_ms, with_ttl) = (never_used_ms as i64, self.settings.policy.extended_types);
        if out.log_space == LogSpace::ClosesOnly || !self.reaper.is_due(now.mono_ms()) {
            return;
        }
        let gate = self.gate.clone();
        let state = gate.read();
        self.reaper.look(now.mono_ms(), &mut |max, found| {
            let mut found = |path: &str| found.push_back(path.to_owned());
            let looked = state.tree.reapable(now.wall_ms, never_used_ms, with_ttl, max, &mut found);
            looked.unwrap_or_else(|needed| {
                state.tree.bring_in(&needed);
                true
            })
        });
        while let Some(path) = self.reaper.next(now.mono_ms()) {
            if !self.has_room(path.len(), out) {
                self.reaper.put_back(path);
                return;
            }
            let ahead = Ahead { pending: &mut self.pending, tree: &state.tree };
            let Some(txn) = prep::reap(&path, now.wall_ms, never_used_ms, &ahead) else { continue };
            let origin = Origin { worker: 0, conn: ConnId(0), xid: 0, arrived_ns: now.mono_ns };
            self.propose(SessionId::NONE, 0, txn, origin, Reply::Nobody, &state, now, out);
        }
    }

    fn identify(&mut self, worker: u16, conn: ConnId, who: Identities) {
        let known = &mut self.identities[worker as usize];
        let slot = conn.0 as usize;
        if known.len() <= slot {
            known.resize(slot + 1, None);
        }
        known[slot] = Some(who);
    }

    /// Applies what is committed, slice by slice, as long as every mailbox has room for a slice.
    fn apply(&mut self, now: Now) {
        let committed = self.agreement.committed();
        while self.is_ready(committed) && self.mailboxes.iter().all(|mailbox| mailbox.has_room()) {
            let gate = self.gate.clone();
            let mut state = gate.write();
            let mut txns = 0;
            self.slice_work = 0;
            let is_long = |replica: &Replica| SLICE_BYTES_MAX <= replica.drafted_bytes() + replica.slice_work;
            while txns < SLICE_TXNS_MAX && self.is_ready(committed) && !is_long(self) {
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
            self.live_bytes = state.tree.live_size().1;
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

    fn applied_before(&self, state: &State, zxid: Zxid) -> bool {
        match &self.agreement {
            Agreement::Solo(_) => state.applied.successor() == Some(zxid),
        }
    }
}

/// How long the transaction of a multi may be: numbers in names and identities in ACLs make it longer than the request.
fn multi_bytes_max(body: usize) -> usize {
    (2 * body + ACL_GROWTH_BYTES_MAX).min(TXN_BYTES_MAX - TXN_OVERHEAD_BYTES_MAX)
}

/// A write as it was posted.
struct Asked<'a> {
    op: Op,
    body: &'a [u8],
    verdict: Verdict,
    session: SessionId,
    session_open: bool,
    ephemeral_bytes_left: u64,
}

impl<'a> Asked<'a> {
    fn by<'s>(&self, who: &'s Identities, policy: &'s Policy) -> Write<'a, 's> {
        let Asked { op, body, verdict, session, session_open, ephemeral_bytes_left } = *self;
        Write { op, body, verdict, session, session_open, ephemeral_bytes_left, who, policy }
    }
}

/// What the connection that asks has proved of itself.
fn who(identities: &[Vec<Option<Identities>>], origin: Origin) -> &Identities {
    let known = identities[origin.worker as usize].get(origin.conn.0 as usize).and_then(Option::as_ref);
    known.expect("a connection identifies itself before it asks")
}
