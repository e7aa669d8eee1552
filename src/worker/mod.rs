//! One worker: its connections, their watches, and the reads it answers by itself.
//!
//! A value. Its driver calls, once per turn: [`Worker::begin`], [`Worker::input`] for every socket that has bytes,
//! [`Worker::finish`], which posts all writes in one message; [`Worker::drain`] takes what the replica delivered; then the
//! driver writes each connection of [`Worker::next_dirty`] once. Bytes are lent, not copied: that is why a turn is several
//! calls.
//!
//! Invariants, asserted in release builds: a read is answered only if nothing of its session is under way, under the gate,
//! and after everything delivered up to the state it sees was taken; the zxid of a connection's replies never falls; every
//! posted request is completed once, in the order of its connection.

mod bounds;
mod bucket;
mod cold;
mod connection;
mod deliver;
mod hold;
pub mod mailbox;
mod route;
#[cfg(test)]
mod tests;
mod throttle;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use zorilla_proto::client::{ConnectResponse, EventType, ReplyHeader, WatcherEvent, XID_NOTIFICATION};
use zorilla_proto::code::Code;
use zorilla_proto::frame;
use zorilla_proto::ids::{SessionId, Zxid};

pub use self::bounds::Bounds;
use self::bounds::idle_until_ms;
pub use self::cold::{Asked, Chill};
use self::cold::{BlockId, Probed};
use self::connection::{Connection, Phase};
use self::hold::Until;
use self::mailbox::{Ask, Mailbox, Post, PostBox};
use self::route::Splice;
use crate::auth::Rules;
use crate::clock::Now;
use crate::gate::{Gate, Reading};
use crate::limits::{
    CONNECTION_PENDING_MAX, CONNECTIONS_MAX, CREDIT_BYTES_MAX, CREDIT_REQUESTS_MAX, FRAME_BYTES_MAX,
    LISTING_SLICE_NAMES, OUTPUT_BYTES_FAIR, OUTPUT_BYTES_HIGH, OUTPUT_BYTES_KEPT, OUTPUT_BYTES_PER_LOOK,
    OUTPUT_BYTES_WORKER_MAX, OUTPUT_POOL_BUFFER_BYTES_MAX, OUTPUT_POOL_BUFFERS_MAX, OUTPUT_POOL_BYTES_MAX,
    SESSIONLESS_MS_MAX, SWEEP_MS_MIN, THROTTLED_INPUT_BYTES_MAX, TOUCHED_PER_POST_MAX, TURN_WORK_BYTES_MAX,
};
use crate::ops::four_letter::Word;
use crate::ops::metrics::{ConnectionStats, Count, INTEREST_READ, INTEREST_WRITE, Stages, WorkerStats};
use crate::tree::Needed;
use crate::watch::{ConnId, Fired, WatchTable};

/// What a worker has to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest request frame.
    pub frame_bytes_max: usize,
    /// Session timeouts are clamped to these.
    pub session_timeout_ms_min: u32,
    /// See `session_timeout_ms_min`.
    pub session_timeout_ms_max: u32,
    /// Time between two reports of touched sessions: half a tick.
    pub report_ms: u64,
    /// Who may do what.
    pub rules: Arc<Rules>,
    /// Persistent watches are kept.
    pub persistent_watches: bool,
    /// Names of a listing that are gathered under one hold of the gate: [`LISTING_SLICE_NAMES`], but for tests.
    pub listing_names: usize,
    /// `None`, but for tests.
    pub chill: Option<Chill>,
    /// The limits that all workers keep to together.
    pub bounds: Bounds,
}

impl Default for Settings {
    /// Of a server that nobody configured, with ticks of 3,000 ms.
    fn default() -> Settings {
        Settings {
            frame_bytes_max: FRAME_BYTES_MAX,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 60_000,
            report_ms: 1_500,
            rules: Arc::new(Rules::open()),
            persistent_watches: true,
            listing_names: LISTING_SLICE_NAMES,
            chill: None,
            bounds: Bounds::default(),
        }
    }
}

/// See the module.
pub struct Worker {
    gate: Arc<Gate>,
    core: Core,
}

/// The worker without its gate, so that a guard of the gate and the rest can be held side by side.
struct Core {
    index: u16,
    settings: Settings,
    mailbox: Arc<Mailbox>,
    postbox: Arc<PostBox>,
    connections: Vec<Connection>,
    free: Vec<u32>,
    watches: WatchTable,
    post: Box<Post>,
    /// Requests that may still be posted.
    credits: usize,
    /// State that everything taken from the mailbox adds up to.
    delivered: Zxid,
    dirty: Vec<ConnId>,
    /// Connections with input that may be taken now.
    resumed: Vec<ConnId>,
    /// Bytes in the buffers of connections for what they sent.
    input_bytes: usize,
    /// Connections whose next request waits for the throttler, the longest waiting first.
    waiting: VecDeque<ConnId>,
    /// The one of them whose turn it is.
    served: Option<ConnId>,
    stalled_ms: u64,
    /// Requests that are held.
    held: usize,
    /// Connections whose request is to be served again.
    released: VecDeque<ConnId>,
    /// Connections whose long listing is gathered, or waits for that.
    listings: VecDeque<ConnId>,
    /// The tree had runs when it was last looked at.
    layered: bool,
    /// Connections whose request waits for a block, by block.
    cold: HashMap<BlockId, Vec<ConnId>>,
    /// Blocks that the driver has not been told of.
    wishes: VecDeque<Needed>,
    /// Of the request that is being served.
    probed: Probed,
    /// Something was completed since the driver asked for it last.
    made_room: bool,
    /// Bytes of the large request that is being looked at; 0: it is none, or it was posted.
    large_bytes: u64,
    words: Vec<(ConnId, Word)>,
    pool: Vec<Vec<u8>>,
    /// Their capacity.
    pool_bytes: usize,
    fired: Vec<Fired>,
    /// Of the reply that is being made; empty between two.
    splices: Vec<Splice>,
    /// Packed values of the same reply.
    packed: Vec<u8>,
    touched: Vec<ConnId>,
    now: Now,
    reported_ms: u64,
    /// When connections without a session are to be looked at.
    sweep_ms: u64,
    heard_until_ms: u64,
    listened_ms: u64,
    stopping: bool,
    replica_waits: bool,
    /// Reads answered at once in this turn, and the work they were: see [`TURN_WORK_BYTES_MAX`].
    reads: u64,
    read_work: usize,
    /// Output appended since the last look at what all connections hold.
    unlooked_bytes: usize,
    /// Outcomes taken in this turn and when the last of them was applied, for the last stage.
    outcomes: u64,
    applied_ns: u64,
    stages: Stages,
    stats: Arc<WorkerStats>,
}

type Guard<'g> = Reading<'g>;

impl Worker {
    /// A worker without connections.
    pub fn new(
        index: u16,
        settings: Settings,
        gate: Arc<Gate>,
        mailbox: Arc<Mailbox>,
        postbox: Arc<PostBox>,
        stats: Arc<WorkerStats>,
        seed: u64,
    ) -> Worker {
        let delivered = mailbox.pushed();
        let core = Core {
            index,
            settings,
            postbox,
            connections: Vec::new(),
            free: Vec::new(),
            watches: WatchTable::new(seed),
            post: Box::default(),
            credits: CREDIT_REQUESTS_MAX,
            delivered,
            dirty: Vec::new(),
            resumed: Vec::new(),
            input_bytes: 0,
            waiting: VecDeque::new(),
            served: None,
            stalled_ms: 0,
            held: 0,
            released: VecDeque::new(),
            listings: VecDeque::new(),
            layered: false,
            cold: HashMap::new(),
            wishes: VecDeque::new(),
            probed: Probed::default(),
            made_room: false,
            large_bytes: 0,
            words: Vec::new(),
            pool: Vec::new(),
            pool_bytes: 0,
            fired: Vec::new(),
            splices: Vec::new(),
            packed: Vec::new(),
            touched: Vec::new(),
            now: Now { mono_ns: 0, wall_ms: 0 },
            reported_ms: 0,
            sweep_ms: 0,
            heard_until_ms: 0,
            listened_ms: 0,
            stopping: false,
            replica_waits: false,
            reads: 0,
            read_work: 0,
            unlooked_bytes: 0,
            outcomes: 0,
            applied_ns: 0,
            stages: Stages::default(),
            stats,
            mailbox,
        };
        Worker { gate, core }
    }

    /// Takes a new connection; `None`: this worker holds as many as it can.
    pub fn open(&mut self, peer: SocketAddr, now: Now) -> Option<ConnId> {
        let core = &mut self.core;
        let stats = Arc::new(ConnectionStats::new(peer));
        let connection = Connection::new(peer, now.mono_ms(), stats.clone());
        let slot = match core.free.pop() {
            Some(slot) => {
                core.connections[slot as usize] = connection;
                slot
            }
            None if core.connections.len() < CONNECTIONS_MAX => {
                core.connections.push(connection);
                core.connections.len() as u32 - 1
            }
            None => return None,
        };
        core.stats.opened(slot, stats);
        Some(ConnId(slot))
    }

    /// Begins a turn.
    pub fn begin(&mut self, now: Now) {
        self.core.now = now;
        self.core.listened_ms = now.mono_ms();
        let gate = &*self.gate;
        if self.core.reported_ms + self.core.settings.report_ms <= now.mono_ms() {
            // A worker that only posts writes learns it here.
            self.core.layered = !gate.read().tree.runs().is_empty();
        }
        let mut resumed = std::mem::take(&mut self.core.resumed);
        for conn in resumed.drain(..) {
            self.core.connections[conn.0 as usize].resumed = false;
            self.core.take_buffered(gate, conn);
        }
        if self.core.resumed.is_empty() {
            self.core.resumed = resumed;
        }
        if !self.core.waiting.is_empty() {
            self.core.serve_waiting(gate);
        }
        self.core.serve_held(gate);
        self.core.list(gate);
    }

    /// The sockets were asked at this time, before the turn began. What arrived since may wait unannounced, so a report must
    /// not claim to have heard it.
    pub fn listened(&mut self, at_ms: u64) {
        self.core.listened_ms = at_ms;
    }

    /// Whether bytes of this connection would be taken now. If not, the driver leaves them in the socket and asks again in a
    /// later turn.
    pub fn wants_input(&self, conn: ConnId) -> bool {
        self.core.wants_input(conn)
    }

    /// Takes bytes that a connection received.
    pub fn input(&mut self, conn: ConnId, bytes: &[u8]) {
        self.core.input(&self.gate, conn, bytes);
    }

    /// The client will send nothing more. It may still read: what it asked for is answered first.
    pub fn hung_up(&mut self, conn: ConnId) {
        if self.core.connections[conn.0 as usize].phase != Phase::Ending {
            self.core.stats.count(Count::ConnectionDrop);
            let connection = &mut self.core.connections[conn.0 as usize];
            if connection.waits {
                self.core.orphan(conn);
            } else if connection.resumed || connection.held.is_some() {
                // Whole requests were read already and are taken when there is room for them.
                connection.arrivals.get_or_insert_default().hung_up = true;
            } else {
                self.core.end(conn);
            }
        }
    }

    /// The socket broke: [`Worker::lost`] follows.
    pub fn broke(&mut self, conn: ConnId) {
        if self.core.connections[conn.0 as usize].is_alive() {
            self.core.stats.count(Count::ConnectionDrop);
        }
    }

    /// The socket is gone.
    pub fn lost(&mut self, conn: ConnId) {
        self.core.bury(conn);
    }

    /// Ends the reading part of a turn: posts what was asked. `heard_all`: every byte that had arrived when the turn began
    /// was read, or was left because of its own client. `true`: the replica has something to look at.
    pub fn finish(&mut self, heard_all: bool) -> bool {
        self.core.finish(heard_all)
    }

    /// Takes what the replica delivered.
    pub fn drain(&mut self) {
        self.core.drain();
    }

    /// When the next turn is due although nothing happens, ms: to report touched sessions, to close connections that
    /// never open one, to look after requests that wait.
    pub fn deadline_ms(&self) -> u64 {
        let core = &self.core;
        let due_ms = (core.reported_ms + core.settings.report_ms).min(core.sweep_ms);
        if !core.wishes.is_empty() {
            // The driver had no room for them.
            return core.now.mono_ms() + 1;
        }
        match core.settings.bounds.throttle {
            Some(throttle) if !core.waiting.is_empty() => due_ms.min(core.now.mono_ms() + throttle.stall_ms),
            _ => due_ms,
        }
    }

    /// Other workers whose requests wait for room of which this one just made some, a bit each.
    pub fn waiters_elsewhere(&mut self) -> u64 {
        if std::mem::take(&mut self.core.made_room) {
            self.core.settings.bounds.waiters() & !(1 << self.core.index)
        } else {
            0
        }
    }

    /// Whether [`Worker::written`] has something to measure.
    pub fn has_outcomes(&self) -> bool {
        0 < self.core.outcomes + self.core.reads
    }

    /// After the writing part of a turn: how long the outcomes of this turn took to be written, and its reads in all.
    pub fn written(&mut self, now: Now) {
        let core = &mut self.core;
        if 0 < core.outcomes {
            core.stages.written.record_ns_n(now.mono_ns.saturating_sub(core.applied_ns), core.outcomes);
            core.outcomes = 0;
        }
        if 0 < core.reads {
            let since_ns = now.mono_ns.saturating_sub(core.now.mono_ns);
            core.stats.add_latency_ms(since_ns / 1_000_000, core.reads);
            core.reads = 0;
        }
    }

    /// Whether the replica asked to be told of room in the mailbox, and there is some now. Says so once.
    pub fn replica_waits(&mut self) -> bool {
        std::mem::take(&mut self.core.replica_waits)
    }

    /// The next connection that has something to write or is to be closed.
    pub fn next_dirty(&mut self) -> Option<ConnId> {
        let conn = self.core.dirty.pop()?;
        self.core.connections[conn.0 as usize].dirty = false;
        Some(conn)
    }

    /// What waits to be written; empty for a connection that is gone.
    pub fn output(&self, conn: ConnId) -> &[u8] {
        let connection = &self.core.connections[conn.0 as usize];
        if connection.abandoned { &[] } else { &connection.output[connection.written..] }
    }

    /// The driver has written this many bytes.
    pub fn wrote(&mut self, conn: ConnId, bytes: usize) {
        self.core.wrote(conn, bytes);
    }

    /// Whether the driver is to close the socket now, and then to call [`Worker::lost`].
    pub fn is_finished(&self, conn: ConnId) -> bool {
        let connection = &self.core.connections[conn.0 as usize];
        connection.is_finished() || (connection.is_alive() && self.core.holds_too_much(connection))
    }

    /// The next four-letter word that the driver is to answer with [`Worker::answer_word`].
    pub fn next_word(&mut self) -> Option<(ConnId, Word)> {
        self.core.words.pop()
    }

    /// The text of a four-letter word; the connection ends behind it.
    pub fn answer_word(&mut self, conn: ConnId, text: &[u8]) {
        let connection = &mut self.core.connections[conn.0 as usize];
        if connection.is_alive() {
            connection.output.extend_from_slice(text);
            connection.stats.add_sent();
            self.core.stats.add_sent(text.len() as u64);
            self.core.end(conn);
        }
    }

    /// Whether it takes nothing from any socket until the replica has caught up, or in this turn.
    pub fn is_short(&self) -> bool {
        !self.core.has_credit()
    }

    /// Whether this connection is not read because of what the replica has not done yet: what waits in its socket was not
    /// heard, and that is not its client's fault.
    pub fn waits_for_replica(&self, conn: ConnId) -> bool {
        let connection = &self.core.connections[conn.0 as usize];
        CONNECTION_PENDING_MAX <= connection.pending
            || connection.waits
            || connection.held.is_some()
            || self.core.is_crowded_out(connection)
    }

    /// The socket takes bytes again.
    pub fn retry_output(&mut self, conn: ConnId) {
        if self.core.connections[conn.0 as usize].is_alive() {
            self.core.mark_dirty(conn);
        }
    }

    /// Whether there is work that does not wait for a socket.
    pub fn is_busy(&self) -> bool {
        !self.core.mailbox.is_empty()
            // A post that was handed back leaves as soon as there is room.
            || (!self.core.post.is_empty() && self.core.postbox.has_room())
            || self.core.resumed.iter().any(|conn| self.core.wants_input(*conn))
            || (!self.core.waiting.is_empty() && !self.core.settings.bounds.is_full())
            || !self.core.released.is_empty()
            || self.core.may_list()
            || !self.core.dirty.is_empty()
            || !self.core.words.is_empty()
    }

    /// Takes no further request; answers what is under way.
    pub fn stop(&mut self) {
        self.core.stopping = true;
    }

    /// After [`Worker::stop`]: whether everything posted was completed.
    pub fn is_settled(&self) -> bool {
        self.core.credits == CREDIT_REQUESTS_MAX && self.core.post.requests.is_empty() && self.core.held == 0
    }

    /// Ends every connection once its output is written.
    pub fn end_all(&mut self) {
        for slot in 0..self.core.connections.len() {
            self.core.end(ConnId(slot as u32));
        }
    }

    /// Whether no connection is left.
    pub fn is_empty(&self) -> bool {
        self.core.connections.iter().all(|connection| !connection.is_alive())
    }

    /// Publishes what monitors ask for.
    pub fn publish(&mut self) {
        let core = &mut self.core;
        core.stats.set_watches(core.watches.len() as u64);
        core.stats.set_outstanding((CREDIT_REQUESTS_MAX - core.credits) as u64);
        core.stats.publish(&core.stages);
    }
}

impl Core {
    fn wants_input(&self, conn: ConnId) -> bool {
        let connection = &self.connections[conn.0 as usize];
        if connection.waits {
            // Read on, so that it is known when the next requests came, and that the client is still there.
            return connection.input.len() < THROTTLED_INPUT_BYTES_MAX && !connection.has_hung_up();
        }
        if connection.held.is_some() {
            return false;
        }
        match connection.phase {
            Phase::Handshake => !self.stopping && self.has_credit(),
            // Read to see the end of the socket; what comes is thrown away.
            Phase::Ending => true,
            Phase::Open => {
                !self.stopping
                    && self.has_credit()
                    && connection.unwritten() < OUTPUT_BYTES_HIGH
                    && connection.pending < CONNECTION_PENDING_MAX
                    && !self.is_crowded_out(connection)
            }
            Phase::Connecting | Phase::Dead | Phase::Free => false,
        }
    }

    /// Whether a connection is not read because it has requests in process, and the server has too many.
    fn is_crowded_out(&self, connection: &Connection) -> bool {
        0 < connection.pending && self.settings.bounds.is_crowded()
    }

    /// Whether a connection is to be closed for the memory that its output takes.
    fn holds_too_much(&self, connection: &Connection) -> bool {
        let unwritten = connection.unwritten();
        if unwritten <= OUTPUT_BYTES_FAIR {
            return false;
        }
        // Summed up only for the few that are this slow: the bound itself keeps them few.
        let all = || self.connections.iter().map(Connection::unwritten).sum::<usize>();
        connection.is_beyond_measure() || OUTPUT_BYTES_WORKER_MAX < all()
    }

    fn has_credit(&self) -> bool {
        0 < self.credits
            && self.post.bytes.len() + self.postbox.bytes() < CREDIT_BYTES_MAX
            && self.read_work < TURN_WORK_BYTES_MAX
    }

    /// Appends one reply.
    fn reply(&mut self, conn: ConnId, xid: i32, zxid: Zxid, code: Code, body: &[u8]) {
        if self.connections[conn.0 as usize].abandoned {
            // Nobody will read it.
            return;
        }
        self.ready_output(conn);
        let output = &mut self.connections[conn.0 as usize].output;
        let mark = frame::begin(output);
        ReplyHeader { xid, zxid: zxid.raw() as i64, code: code.raw() }.encode(output);
        if code == Code::Ok {
            output.extend_from_slice(body);
        }
        frame::end(output, mark);
        self.replied(conn, zxid, mark);
    }

    /// Appends a reply that does not wait for its turn and says nothing about the state: its zxid is 0.
    fn reply_at_once(&mut self, conn: ConnId, xid: i32, code: Code, body: &[u8]) {
        self.ready_output(conn);
        let connection = &mut self.connections[conn.0 as usize];
        let mark = frame::begin(&mut connection.output);
        ReplyHeader { xid, zxid: 0, code: code.raw() }.encode(&mut connection.output);
        connection.output.extend_from_slice(body);
        frame::end(&mut connection.output, mark);
        connection.stats.add_sent();
        self.stats.add_sent((self.connections[conn.0 as usize].output.len() - mark) as u64);
        self.mark_dirty(conn);
    }

    /// Output has grown. From time to time, also in the middle of a delivery, it is asked whether all connections together
    /// hold too much: then those that hold the most are let go. A few bytes of one client's multi can become gigabytes of
    /// events for a thousand others, and no client may make this server keep them.
    fn appended(&mut self, bytes: usize) {
        self.unlooked_bytes += bytes;
        if self.unlooked_bytes < OUTPUT_BYTES_PER_LOOK {
            return;
        }
        self.unlooked_bytes = 0;
        let all: usize = self.connections.iter().map(Connection::unwritten).sum();
        if all <= OUTPUT_BYTES_WORKER_MAX {
            return;
        }
        let holders = self.connections.iter().filter(|connection| OUTPUT_BYTES_KEPT < connection.unwritten()).count();
        let share = (OUTPUT_BYTES_WORKER_MAX / 2 / holders.max(1)).max(OUTPUT_BYTES_KEPT);
        for slot in 0..self.connections.len() {
            if share < self.connections[slot].unwritten() {
                self.abandon(ConnId(slot as u32));
            }
        }
    }

    /// Counts a reply that was appended at `mark`, and checks the promise about its zxid.
    fn replied(&mut self, conn: ConnId, zxid: Zxid, mark: usize) {
        let connection = &mut self.connections[conn.0 as usize];
        let zxid = zxid.raw() as i64;
        assert!(connection.zxid_last <= zxid, "zxid of replies falls from {:#x} to {zxid:#x}", connection.zxid_last);
        connection.zxid_last = zxid;
        // A frame is no longer than 31 bits say.
        let bytes = connection.output.len() - mark;
        connection.reply_bytes = bytes as u32;
        connection.stats.add_sent();
        self.stats.add_sent(bytes as u64);
        self.mark_dirty(conn);
        self.appended(bytes);
    }

    /// Gives a connection a buffer of the pool before its first reply.
    fn ready_output(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if connection.output.capacity() == 0
            && let Some(buffer) = self.pool.pop()
        {
            self.pool_bytes -= buffer.capacity();
            connection.output = buffer;
        }
    }

    fn mark_dirty(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(conn);
        }
    }

    fn wrote(&mut self, conn: ConnId, bytes: usize) {
        let connection = &mut self.connections[conn.0 as usize];
        connection.written += bytes;
        let waits = connection.unwritten() != 0;
        connection.stats.set_interest(if waits { INTEREST_READ | INTEREST_WRITE } else { INTEREST_READ });
        if waits && 0 < bytes {
            // A client that takes its replies is there, even if what it sends is not read meanwhile; and one that is
            // being sent off gets the time it needs.
            connection.since_ms = self.now.mono_ms();
            self.touch(conn);
        }
        let connection = &mut self.connections[conn.0 as usize];
        if !waits {
            connection.written = 0;
            let mut buffer = std::mem::take(&mut connection.output);
            let capacity = buffer.capacity();
            if self.pool.len() < OUTPUT_POOL_BUFFERS_MAX
                && capacity <= OUTPUT_POOL_BUFFER_BYTES_MAX
                && self.pool_bytes + capacity <= OUTPUT_POOL_BYTES_MAX
            {
                buffer.clear();
                self.pool_bytes += capacity;
                self.pool.push(buffer);
            }
        } else if OUTPUT_BYTES_HIGH < connection.written && connection.unwritten() / 4 <= connection.written {
            // What was written is given up once it is worth the move of the rest: whatever piles up, each byte of it is
            // moved a few times at most, and the buffer is not much longer than what waits.
            connection.output.drain(..connection.written);
            connection.written = 0;
            let bytes = connection.output.len();
            if 2 * bytes + OUTPUT_BYTES_HIGH < connection.output.capacity() {
                connection.output.shrink_to(bytes);
            }
        }
        if connection.is_finished() {
            self.mark_dirty(conn);
        }
    }

    fn finish(&mut self, heard_all: bool) -> bool {
        self.read_work = 0;
        let now_ms = self.now.mono_ms();
        if heard_all {
            self.heard_until_ms = self.listened_ms;
        }
        if self.reported_ms + self.settings.report_ms <= now_ms {
            self.reported_ms = now_ms;
            self.report();
            self.publish_counts();
        }
        if self.sweep_ms <= now_ms {
            self.sweep(now_ms);
        }
        if self.post.is_empty() {
            return false;
        }
        self.post.worker = self.index;
        self.post.arrived_ns = self.now.mono_ns;
        let post = std::mem::replace(&mut self.post, self.postbox.blank());
        match self.postbox.push(post) {
            Ok(()) => true,
            Err(post) => {
                // The replica is behind by as many posts as there may be: this one grows until it is taken, and while it
                // holds too much no socket is read.
                let blank = std::mem::replace(&mut self.post, post);
                self.postbox.shelve(blank);
                true
            }
        }
    }

    /// Names the sessions heard of since the last report.
    fn report(&mut self) {
        // Who waits for the answer to its connect cannot be heard: its silence counts only from then on.
        let connecting = self.connections.iter().filter(|connection| connection.phase == Phase::Connecting);
        let waits_since_ms = connecting.map(|connection| connection.since_ms).min().unwrap_or(u64::MAX);
        self.post.heard_until_ms = self.heard_until_ms.min(waits_since_ms);
        for at in 0..self.waiting.len() {
            // The throttler keeps its requests waiting: that is no silence of the client.
            self.touch(self.waiting[at]);
        }
        if 0 < self.held {
            for slot in 0..self.connections.len() {
                if self.connections[slot].held.is_some() {
                    self.touch(ConnId(slot as u32));
                }
            }
        }
        while self.post.touched.len() < TOUCHED_PER_POST_MAX
            && let Some(conn) = self.touched.pop()
        {
            let connection = &mut self.connections[conn.0 as usize];
            connection.touched = false;
            if connection.is_alive() && connection.session != SessionId::NONE {
                self.post.touched.push(connection.session);
            }
        }
        if !self.touched.is_empty() {
            // Not everybody was named: what was heard of the others must not count as silence.
            self.post.heard_until_ms = 0;
        }
    }

    fn publish_counts(&mut self) {
        self.stats.set_watches(self.watches.len() as u64);
        self.stats.set_outstanding((CREDIT_REQUESTS_MAX - self.credits) as u64);
        self.stats.publish(&self.stages);
    }

    /// Closes connections that did not finish their handshake in time, or that do not take their last bytes.
    fn sweep(&mut self, now_ms: u64) {
        let sessionless_ms = self.settings.bounds.sessionless_ms;
        // Who connects from now on has at least this long.
        let mut next_ms = now_ms + sessionless_ms.min(SESSIONLESS_MS_MAX);
        for slot in 0..self.connections.len() {
            let connection = &self.connections[slot];
            let until_ms = match connection.phase {
                Phase::Handshake if !connection.waits => idle_until_ms(connection.since_ms, sessionless_ms),
                Phase::Ending if connection.pending == 0 => connection.since_ms + SESSIONLESS_MS_MAX,
                _ => continue,
            };
            if until_ms <= now_ms {
                self.abandon(ConnId(slot as u32));
            } else {
                next_ms = next_ms.min(until_ms);
            }
        }
        self.sweep_ms = next_ms.max(now_ms + SWEEP_MS_MIN);
    }

    /// Answers a ConnectRequest. NONE: the session is not valid, and the connection ends.
    fn answer_session(&mut self, conn: ConnId, session: SessionId, attachment: u32, timeout_ms: u32) {
        self.ready_output(conn);
        let connection = &mut self.connections[conn.0 as usize];
        let read_only = connection.knows_read_only.then_some(false);
        let response = if session == SessionId::NONE {
            connection.phase = Phase::Ending;
            connection.since_ms = self.now.mono_ms();
            ConnectResponse::not_valid(read_only)
        } else {
            // A client that hung up meanwhile is told its session, and no more.
            if connection.phase != Phase::Ending {
                connection.phase = Phase::Open;
            }
            connection.session = session;
            connection.attachment = attachment;
            connection.timeout_ms = timeout_ms;
            let password = session.password();
            ConnectResponse { timeout_ms: timeout_ms as i32, session, password, read_only }
        };
        let mark = frame::begin(&mut connection.output);
        response.encode(&mut connection.output);
        frame::end(&mut connection.output, mark);
        connection.stats.add_sent();
        self.stats.add_sent((self.connections[conn.0 as usize].output.len() - mark) as u64);
        self.mark_dirty(conn);
        if !self.connections[conn.0 as usize].input.is_empty() {
            self.resume_later(conn);
        }
    }

    /// Appends one watch event.
    fn notify(&mut self, conn: ConnId, zxid: i64, event: EventType, path: &str) {
        let connection = &self.connections[conn.0 as usize];
        if !connection.is_alive() || connection.abandoned {
            return;
        }
        self.ready_output(conn);
        let connection = &mut self.connections[conn.0 as usize];
        let bytes = append_event(&mut connection.output, zxid, event, path);
        connection.stats.add_sent();
        self.stats.add_sent(bytes as u64);
        self.mark_dirty(conn);
        self.appended(bytes);
    }

    /// Takes nothing more from this connection; it is closed once everything under way is answered and written.
    fn end(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if connection.is_alive() {
            connection.phase = Phase::Ending;
            connection.since_ms = self.now.mono_ms();
            self.input_bytes -= std::mem::take(&mut connection.input).len();
            connection.waits = false;
            connection.arrivals = None;
            self.drop_held(conn);
            self.mark_dirty(conn);
        }
    }

    /// Closes without another byte.
    fn abandon(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if connection.is_alive() {
            connection.written = 0;
            connection.output = Vec::new();
            connection.unimplemented = None;
            // Nobody waits for what is under way: the socket closes now, the slot when it is through. What is completed
            // meanwhile is not written, or the client would see a reply behind a hole.
            connection.abandoned = true;
            self.end(conn);
        }
    }

    /// After a completion: says what waited for everything under way.
    fn settle(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if !connection.is_alive() || 0 < connection.pending {
            return;
        }
        if connection.held.is_some() {
            return self.release_held(conn, Until::Settled);
        }
        if let Some(xid) = connection.unimplemented.take() {
            self.ready_output(conn);
            let connection = &mut self.connections[conn.0 as usize];
            let mark = frame::begin(&mut connection.output);
            ReplyHeader { xid, zxid: -1, code: Code::Unimplemented.raw() }.encode(&mut connection.output);
            frame::end(&mut connection.output, mark);
            connection.stats.add_sent();
            self.stats.add_sent((self.connections[conn.0 as usize].output.len() - mark) as u64);
            self.mark_dirty(conn);
        } else if connection.phase == Phase::Ending {
            self.mark_dirty(conn);
        }
    }

    /// The socket is gone: watches go with it, the session stays.
    fn bury(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if !connection.is_alive() {
            return;
        }
        let announced = connection.session != SessionId::NONE && connection.attachment != 0;
        if announced && std::mem::take(&mut connection.touched) {
            // What was heard of it must not be forgotten with it: the session lives on from its last request.
            self.post.touched.push(connection.session);
        }
        connection.phase = Phase::Dead;
        self.input_bytes -= std::mem::take(&mut connection.input).len();
        connection.waits = false;
        connection.arrivals = None;
        connection.output = Vec::new();
        connection.written = 0;
        connection.unimplemented = None;
        self.drop_held(conn);
        self.stats.closed(conn.0);
        let Core { watches, mailbox, .. } = self;
        watches.forget(conn, &mut |kind, path| mailbox.interest.lower(kind, path));
        if announced {
            self.post(conn, 0, Ask::Gone, &[]);
        }
        if self.connections[conn.0 as usize].pending == 0 {
            self.release(conn);
        }
    }

    fn release(&mut self, conn: ConnId) {
        self.connections[conn.0 as usize].phase = Phase::Free;
        self.free.push(conn.0);
    }
}

fn append_event(output: &mut Vec<u8>, zxid: i64, event: EventType, path: &str) -> usize {
    let mark = frame::begin(output);
    ReplyHeader { xid: XID_NOTIFICATION, zxid, code: 0 }.encode(output);
    WatcherEvent::new(event, path).encode(output);
    frame::end(output, mark);
    output.len() - mark
}
