//! From frames to answers: what a connection's bytes ask, and what is done about it.
//!
//! Reads of a session with nothing under way are answered here, under the gate; everything else becomes a request in the post
//! of the turn, or ends the connection.

use std::ops::Range;

use zorilla_proto::client::{AuthPacket, ConnectRequest, EventType, ReplyHeader, RequestHeader, SaslToken, XID_PING};
use zorilla_proto::code::Code;
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::Reader;
use zorilla_proto::limits::FRAME_HEADER_BYTES;
use zorilla_proto::op::Op;
use zorilla_snapshot::Value;

use super::bucket::Asked;
use super::connection::{Connection, Phase};
use super::hold::Until;
use super::mailbox::{Ask, Mailbox, Piece, Posted};
use super::throttle::Admit;
use super::{Core, Guard, Settings, append_event};
use crate::auth::{AuthOutcome, KEY_PATH};
use crate::gate::{Gate, State};
use crate::limits::{INPUT_BYTES_FAIR, INPUT_BYTES_WORKER_MAX, INPUT_SPARE_BYTES_MAX, OUTPUT_POOL_BUFFER_BYTES_MAX};
use crate::ops::four_letter::Word;
use crate::ops::metrics::{ConnectionStats, Count, WorkerStats};
use crate::prep;
use crate::read::listing::{self, AsOf, Gathered, Ready};
use crate::read::{self, Asker, Listed};
use crate::tree::{NodeRef, Tree};
use crate::watch::{Added, ConnId, WatchKind, WatchTable};

impl Core {
    pub(super) fn input(&mut self, gate: &Gate, conn: ConnId, bytes: &[u8]) {
        let connection = &mut self.connections[conn.0 as usize];
        match connection.phase {
            Phase::Ending | Phase::Dead | Phase::Free => return,
            Phase::Handshake | Phase::Connecting | Phase::Open => {}
        }
        self.stats.add_received_bytes(bytes.len() as u64);
        if !connection.input.is_empty() {
            self.keep(conn, bytes);
            let connection = &self.connections[conn.0 as usize];
            if !connection.waits && !connection.input.is_empty() {
                self.take_buffered(gate, conn);
            }
            return;
        }
        let taken = self.take(gate, conn, bytes);
        if taken < bytes.len() && self.connections[conn.0 as usize].is_alive() {
            self.keep(conn, &bytes[taken..]);
        }
    }

    /// Puts bytes into a connection's own buffer.
    fn keep(&mut self, conn: ConnId, bytes: &[u8]) {
        let connection = &mut self.connections[conn.0 as usize];
        connection.input.extend_from_slice(bytes);
        self.input_bytes += bytes.len();
        if INPUT_BYTES_WORKER_MAX < self.input_bytes && INPUT_BYTES_FAIR < connection.input.len() {
            let peer = connection.peer;
            tracing::warn!(
                "closing the connection of {peer}: too many bytes of unfinished requests wait for their end"
            );
            return self.abandon(conn);
        }
        if self.settings.bounds.throttle.is_some() {
            connection.arrivals.get_or_insert_default().add(bytes.len(), self.now.mono_ms());
        }
    }

    /// Takes what waits in a connection's own buffer.
    pub(super) fn take_buffered(&mut self, gate: &Gate, conn: ConnId) {
        let mut input = std::mem::take(&mut self.connections[conn.0 as usize].input);
        self.input_bytes -= input.len();
        let taken = self.take(gate, conn, &input);
        let connection = &mut self.connections[conn.0 as usize];
        if !connection.is_alive() || connection.phase == Phase::Ending {
            return;
        }
        if let Some(arrivals) = &mut connection.arrivals {
            arrivals.take(taken);
            if arrivals.hung_up && !connection.waits && !connection.resumed && connection.held.is_none() {
                // What is left is no whole request, and none will come.
                return self.end(conn);
            }
        }
        if taken == input.len() {
            // Dropped rather than kept: an idle connection holds no buffer.
            if connection.held.is_none() {
                connection.arrivals = None;
            }
            return;
        }
        input.drain(..taken);
        if INPUT_SPARE_BYTES_MAX < input.capacity() - input.len() {
            input.shrink_to_fit();
        }
        self.input_bytes += input.len();
        connection.input = input;
    }

    /// Takes frames from the front of `bytes` as long as the connection wants them; returns how many bytes.
    fn take(&mut self, gate: &Gate, conn: ConnId, bytes: &[u8]) -> usize {
        let mut guard: Option<Guard<'_>> = None;
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let phase = self.connections[conn.0 as usize].phase;
            match phase {
                Phase::Ending => return bytes.len(),
                Phase::Connecting | Phase::Dead | Phase::Free => return taken,
                Phase::Handshake | Phase::Open => {}
            }
            if rest.is_empty() {
                return taken;
            }
            if !self.wants_input(conn) {
                // Nothing will announce bytes that are here already.
                self.resume_later(conn);
                return taken;
            }
            if phase == Phase::Handshake
                && let Some(word) = rest.first_chunk::<4>().and_then(|first| Word::parse(*first))
            {
                self.word(conn, word);
                return bytes.len();
            }
            match frame::split(rest, self.settings.frame_bytes_max) {
                Framed::Complete { payload, consumed } => {
                    let mut throttled = false;
                    if self.settings.bounds.throttle.is_some() {
                        match self.admit(conn, payload, taken + consumed) {
                            Admit::Now { throttled: late } => throttled = late,
                            Admit::Later => return taken,
                            Admit::Never => return bytes.len(),
                        }
                    }
                    taken += consumed;
                    if !self.has_room_for(payload.len() as u64) {
                        drop(guard.take());
                        self.too_large(conn, payload.len());
                        return bytes.len();
                    }
                    self.connections[conn.0 as usize].stats.add_received();
                    self.stats.add_received();
                    if phase == Phase::Handshake {
                        self.handshake(gate, conn, payload);
                    } else {
                        self.request(gate, &mut guard, conn, payload, throttled);
                    }
                    if self.large_bytes != 0 {
                        // Answered at once, or refused.
                        self.settings.bounds.release_large(std::mem::take(&mut self.large_bytes));
                    }
                }
                Framed::Partial { needed } => {
                    // What will not be taken is not waited for.
                    let payload = (rest.len() + needed).saturating_sub(FRAME_HEADER_BYTES);
                    if FRAME_HEADER_BYTES <= rest.len() && self.is_too_large(payload as u64) {
                        drop(guard.take());
                        self.too_large(conn, payload);
                        return bytes.len();
                    }
                    return taken;
                }
                Framed::Bad(error) => {
                    // A log line is a system call, and the gate is not held across one.
                    drop(guard.take());
                    let peer = self.connections[conn.0 as usize].peer;
                    tracing::warn!("closing the connection of {peer}: {error}");
                    self.abandon(conn);
                    return bytes.len();
                }
            }
        }
    }

    pub(super) fn resume_later(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if !connection.resumed {
            connection.resumed = true;
            self.resumed.push(conn);
        }
    }

    fn word(&mut self, conn: ConnId, word: Word) {
        let connection = &mut self.connections[conn.0 as usize];
        tracing::debug!("Processing {} command from {}", word.name(), connection.peer);
        connection.stats.add_received();
        connection.stats.set_interest(0);
        self.stats.add_received();
        // Nothing more is read; the driver's answer ends the connection.
        connection.phase = Phase::Connecting;
        self.words.push((conn, word));
    }

    fn handshake(&mut self, gate: &Gate, conn: ConnId, payload: &[u8]) {
        let Ok(request) = ConnectRequest::decode(&mut Reader::new(payload)) else { return self.abandon(conn) };
        let peer = self.connections[conn.0 as usize].peer;
        let asked = if request.session == SessionId::NONE { Asked::Global } else { Asked::Renewed };
        if !self.settings.bounds.admits_session(asked, self.now.mono_ms()) {
            self.stats.count(Count::ConnectionRejected);
            tracing::debug!("closing the connection of {peer}: the connection throttle has no token for it");
            return self.abandon(conn);
        }
        self.stats.count(Count::ConnectionRequest);
        let applied = gate.read().applied;
        // A negative one is behind everything, as in the reference.
        if (applied.raw() as i64) < request.last_zxid_seen.raw() as i64 {
            // In the reference's words: tools look for them.
            tracing::info!(
                "Refusing session(0x{:x}) request for client {peer} as it has seen zxid {} our last zxid is {applied} \
                 client must try another server",
                request.session.raw(),
                request.last_zxid_seen
            );
            return self.abandon(conn);
        }
        let asked_ms = request.timeout_ms.max(0) as u32;
        let timeout_ms = asked_ms.clamp(self.settings.session_timeout_ms_min, self.settings.session_timeout_ms_max);
        let connection = &mut self.connections[conn.0 as usize];
        connection.phase = Phase::Connecting;
        connection.since_ms = self.now.mono_ms();
        connection.knows_read_only = request.read_only.is_some();
        let session = request.session;
        if session == SessionId::NONE {
            self.identify(conn);
            return self.post(conn, 0, Ask::Open { timeout_ms }, &[]);
        }
        // Checked before anything happens to the session: in the reference a wrong password still throws out the rightful
        // client (`semantics.md` 20).
        if request.password != Some(&session.password()[..]) {
            return self.answer_session(conn, SessionId::NONE, 0, 0);
        }
        connection.session = session;
        self.stats.count(Count::ConnectionRevalidate);
        // It came back in time, even if the replica gets to the resume only later.
        self.post.touched.push(session);
        self.identify(conn);
        self.post(conn, 0, Ask::Resume { timeout_ms }, &[]);
    }

    /// One request of an open connection. `guard`: the gate, once a read of these bytes needed it.
    /// `throttled`: it waited too long to be executed.
    fn request<'g>(
        &mut self,
        gate: &'g Gate,
        guard: &mut Option<Guard<'g>>,
        conn: ConnId,
        payload: &[u8],
        throttled: bool,
    ) {
        let mut reader = Reader::new(payload);
        let Ok(RequestHeader { xid, op }) = RequestHeader::decode(&mut reader) else { return self.abandon(conn) };
        let body = reader.remaining();
        let served = Op::from_raw(op).filter(|op| op.from_client());
        match served {
            Some(Op::Auth) => return self.authenticate(gate, guard, conn, xid, body),
            Some(Op::Sasl) => return self.sasl(conn, xid, body),
            _ => {}
        }
        if !self.settings.rules.satisfies_enforced(&self.connections[conn.0 as usize].who) {
            self.reply_at_once(conn, xid, Code::SessionClosedRequireSaslAuth, &[]);
            return self.end(conn);
        }
        self.touch(conn);
        match served {
            // As in the reference: these keep a session alive, or end it.
            Some(op) if throttled && !matches!(op, Op::Ping | Op::CloseSession) => {
                self.stats.count(Count::ThrottledOps);
                self.answer(gate, guard, conn, xid, Code::ThrottledOp);
            }
            Some(op) => self.serve(gate, guard, conn, xid, op, body),
            None => self.unimplemented(conn, xid),
        }
    }

    /// A request that is let in, when it was read or after it was held.
    pub(super) fn serve<'g>(
        &mut self,
        gate: &'g Gate,
        guard: &mut Option<Guard<'g>>,
        conn: ConnId,
        xid: i32,
        op: Op,
        body: &[u8],
    ) {
        match op {
            op if read::answers(op) => self.read(gate, guard, conn, xid, op, body),
            Op::CheckWatches | Op::RemoveWatches => self.watches(gate, guard, conn, xid, op, body),
            Op::Create
            | Op::Create2
            | Op::CreateContainer
            | Op::CreateTtl
            | Op::Delete
            | Op::DeleteContainer
            | Op::SetData
            | Op::SetAcl
            | Op::Multi
            | Op::Reconfig => {
                let who = &self.connections[conn.0 as usize].who;
                match prep::examine(op, body, &self.settings.rules, who) {
                    Some(verdict) => {
                        if self.is_there(gate, guard, conn, xid, op, body) {
                            self.post(conn, xid, Ask::Write { op, verdict }, body);
                        }
                    }
                    None => self.answer(gate, guard, conn, xid, Code::MarshallingError),
                }
            }
            Op::CloseSession if self.is_there(gate, guard, conn, xid, op, body) => {
                self.post(conn, xid, Ask::Close, &[]);
                self.end(conn);
            }
            Op::CloseSession => {}
            // Internal.
            _ => self.unimplemented(conn, xid),
        }
    }

    /// Whether what a write looks at is in memory. If not it is held, or its connection has just ended.
    #[inline]
    fn is_there<'g>(
        &mut self,
        gate: &'g Gate,
        guard: &mut Option<Guard<'g>>,
        conn: ConnId,
        xid: i32,
        op: Op,
        body: &[u8],
    ) -> bool {
        if !self.may_be_cold() {
            return true;
        }
        let state = self.enter(gate, guard);
        if self.connections[conn.0 as usize].phase != Phase::Open {
            return false;
        }
        let session = self.connections[conn.0 as usize].session;
        match self.probe(&state.tree, op, body, session) {
            Ok(()) => true,
            Err(block) => {
                self.hold(conn, xid, op, body, Until::Brought(block));
                false
            }
        }
    }

    fn unimplemented(&mut self, conn: ConnId, xid: i32) {
        self.connections[conn.0 as usize].unimplemented = Some(xid);
        self.end(conn);
        self.settle(conn);
    }

    /// A credential. Answered when it is read, ahead of whatever is under way, and for everything that is read after it.
    fn authenticate<'g>(&mut self, gate: &'g Gate, guard: &mut Option<Guard<'g>>, conn: ConnId, xid: i32, body: &[u8]) {
        let Ok(packet) = AuthPacket::decode(&mut Reader::new(body)) else { return self.abandon(conn) };
        let scheme = packet.scheme.as_deref();
        let rules = self.settings.rules.clone();
        let before = self.connections[conn.0 as usize].who.clone();
        let outcome = if rules.needs_key(scheme) {
            let state = self.enter(gate, guard);
            let key = state.tree.find(KEY_PATH).map(|node| node.data().unwrap_or_default());
            let mut who = self.connections[conn.0 as usize].who.clone();
            let outcome = rules.authenticate_by_key(&mut who, packet.auth, key.as_deref());
            self.connections[conn.0 as usize].who = who;
            outcome
        } else {
            let connection = &mut self.connections[conn.0 as usize];
            rules.authenticate(&mut connection.who, scheme, packet.auth, connection.peer.ip())
        };
        if !self.connections[conn.0 as usize].is_alive() {
            // What was delivered meanwhile ended it.
            return;
        }
        match outcome {
            AuthOutcome::Ok => {
                if self.connections[conn.0 as usize].who != before {
                    // Only what is new, of which there is a bound: the replica is not told the same a million times.
                    self.identify(conn);
                }
                self.reply_at_once(conn, xid, Code::Ok, &[]);
            }
            AuthOutcome::Failed => {
                self.reply_at_once(conn, xid, Code::AuthFailed, &[]);
                self.end(conn);
            }
            AuthOutcome::CloseSilently => self.abandon(conn),
        }
    }

    /// No mechanism of SASL is configured: every token is answered with none, and gives no identity.
    fn sasl(&mut self, conn: ConnId, xid: i32, body: &[u8]) {
        match SaslToken::decode(&mut Reader::new(body)) {
            Ok(SaslToken { token: Some(_) }) => {
                let mut none = Vec::new();
                SaslToken { token: None }.encode(&mut none);
                self.reply_at_once(conn, xid, Code::Ok, &none);
            }
            _ => self.abandon(conn),
        }
    }

    /// Tells the replica what a connection has proved of itself, ahead of the next request.
    fn identify(&mut self, conn: ConnId) {
        let at = self.post.identities.len() as u32;
        self.post.identities.push(self.connections[conn.0 as usize].who.clone());
        self.post(conn, 0, Ask::Identify { at }, &[]);
    }

    pub(super) fn touch(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if !connection.touched {
            connection.touched = true;
            self.touched.push(conn);
        }
    }

    /// Puts one request into the post of this turn.
    pub(super) fn post(&mut self, conn: ConnId, xid: i32, ask: Ask, body: &[u8]) {
        let connection = &mut self.connections[conn.0 as usize];
        let (session, attachment) = (connection.session, connection.attachment);
        if ask.is_completed() {
            if self.large_bytes != 0 {
                let bytes = std::mem::take(&mut self.large_bytes);
                connection.large.get_or_insert_default().posted(connection.pending, bytes);
            }
            self.settings.bounds.entered();
            connection.pending += 1;
            connection.stats.set_queued(u64::from(connection.pending));
            // `wants_input` was asked before the request was taken; resumes and closes are bounded by their connections.
            self.credits = self.credits.saturating_sub(1);
        }
        let body = Piece::push(&mut self.post.bytes, body);
        self.post.requests.push(Posted { conn, session, attachment, xid, ask, body });
    }

    /// The gate for reading, with everything delivered so far taken: what is read is not ahead of any event.
    pub(super) fn enter<'g, 'a>(&mut self, gate: &'g Gate, guard: &'a mut Option<Guard<'g>>) -> &'a State {
        if guard.is_none() {
            // Most of it without the gate, so that the writer waits for little.
            self.drain();
            *guard = Some(gate.read());
            // Once: while the gate is held for reading the replica cannot push.
            self.drain();
        }
        let state = guard.as_ref().expect("the gate was just entered");
        self.layered = !state.tree.runs().is_empty();
        let pushed = self.mailbox.pushed();
        assert!(self.delivered == pushed, "read at {pushed} with only {} delivered", self.delivered);
        assert!(pushed <= state.applied, "delivered {pushed} ahead of {}", state.applied);
        state
    }

    fn read<'g>(&mut self, gate: &'g Gate, guard: &mut Option<Guard<'g>>, conn: ConnId, xid: i32, op: Op, body: &[u8]) {
        let xid = if op == Op::Ping { XID_PING } else { xid };
        if 0 < self.connections[conn.0 as usize].pending {
            if !listing::lists(op) && !self.may_be_cold() {
                return self.post(conn, xid, Ask::Read { op }, body);
            }
            // One that is long, or waits for the disk, would hold up everybody's writes where it stands. What is delivered
            // meanwhile may be what it waited for.
            let state = self.enter(gate, guard);
            let connection = &self.connections[conn.0 as usize];
            let names_max = self.settings.listing_names;
            if connection.phase != Phase::Open {
                return;
            }
            if 0 < connection.pending {
                let session = connection.session;
                let is_long = |tree: &Tree| names_max < listing::names(op, body, tree, names_max);
                return if self.may_be_cold()
                    && let Err(block) = self.probe(&state.tree, op, body, session)
                {
                    self.hold(conn, xid, op, body, Until::Brought(block));
                } else if listing::lists(op) && is_long(&state.tree) || read::is_packed(op, body, &state.tree) {
                    self.hold(conn, xid, op, body, Until::Settled);
                } else {
                    self.post(conn, xid, Ask::Read { op }, body);
                };
            }
        }
        self.read_at_once(gate, guard, conn, xid, op, body, None);
    }

    /// A read of a session that has nothing under way. `gathered`: what was made ready for it.
    #[allow(clippy::too_many_arguments)] // A request, and what it is answered from.
    pub(super) fn read_at_once<'g>(
        &mut self,
        gate: &'g Gate,
        guard: &mut Option<Guard<'g>>,
        conn: ConnId,
        xid: i32,
        op: Op,
        body: &[u8],
        gathered: Option<&Gathered>,
    ) {
        let state = self.enter(gate, guard);
        if self.connections[conn.0 as usize].phase != Phase::Open {
            // What was delivered ended it.
            return;
        }
        assert_eq!(self.connections[conn.0 as usize].pending, 0, "a read overtakes a request of its own session");
        if self.may_be_cold() && gathered.is_none() {
            let session = self.connections[conn.0 as usize].session;
            if let Err(block) = self.probe(&state.tree, op, body, session) {
                return self.hold(conn, xid, op, body, Until::Brought(block));
            }
        }
        let zxid = state.applied;
        self.ready_output(conn);
        let Core { connections, watches, mailbox, stats, settings, splices, packed, .. } = self;
        let connection = &mut connections[conn.0 as usize];
        let Connection { session, who, output, stats: own_stats, .. } = connection;
        let Settings { rules, persistent_watches, listing_names, .. } = settings;
        let asker = Asker { session: *session, who, rules, persistent_watches: *persistent_watches };
        let mut sink = AtOnce {
            output,
            own_stats,
            watches,
            mailbox,
            stats,
            conn,
            zxid,
            refused: false,
            work: 0,
            gathered,
            names_left: *listing_names,
            is_long: false,
            ready: None,
            packed,
            splices,
            bytes_to_come: 0,
        };
        // Events of a setWatches stand ahead of its reply; nothing else has any.
        let early = read::sends_events(op).then(|| read::read(op, body, &state.tree, &asker, &mut sink));
        let mark = frame::begin(sink.output);
        let header = sink.output.len();
        ReplyHeader { xid, zxid: zxid.raw() as i64, code: 0 }.encode(sink.output);
        let at = sink.output.len();
        let code = early.unwrap_or_else(|| read::read(op, body, &state.tree, &asker, &mut sink));
        if sink.is_long {
            sink.output.truncate(mark);
            sink.splices.clear();
            sink.packed.clear();
            return self.hold(conn, xid, op, body, Until::Listed);
        }
        if code != Code::Ok {
            sink.output.truncate(header);
            sink.splices.clear();
            sink.packed.clear();
            ReplyHeader { xid, zxid: zxid.raw() as i64, code: code.raw() }.encode(sink.output);
            debug_assert_eq!(sink.output.len(), at);
        }
        let AtOnce { refused, work, .. } = sink;
        if !splices.is_empty() {
            // The gate is not held while values are unpacked and names are moved.
            drop(guard.take());
            put_in_place(&mut connection.output, splices, packed, gathered);
        }
        frame::end(&mut connection.output, mark);
        let bytes = connection.output.len() - mark;
        self.replied(conn, zxid, mark);
        self.reads += 1;
        self.read_work += bytes + work;
        if refused {
            // A log line is a system call, and the gate is not held across one.
            drop(guard.take());
            self.watched_too_much(conn);
        }
    }

    /// checkWatches and removeWatches: answered from the worker's own table, once everything that may have used a watch up
    /// was taken.
    fn watches<'g>(
        &mut self,
        gate: &'g Gate,
        guard: &mut Option<Guard<'g>>,
        conn: ConnId,
        xid: i32,
        op: Op,
        body: &[u8],
    ) {
        if 0 < self.connections[conn.0 as usize].pending {
            return self.post(conn, xid, Ask::Read { op }, body);
        }
        let zxid = self.enter(gate, guard).applied;
        if self.connections[conn.0 as usize].phase == Phase::Open {
            let code = self.answer_watches(conn, op, body);
            self.reply(conn, xid, zxid, code, &[]);
            self.reads += 1;
        }
    }

    /// An error that is known without the tree, in its place.
    fn answer<'g>(&mut self, gate: &'g Gate, guard: &mut Option<Guard<'g>>, conn: ConnId, xid: i32, code: Code) {
        if 0 < self.connections[conn.0 as usize].pending {
            return self.post(conn, xid, Ask::Answer { code }, &[]);
        }
        let zxid = self.enter(gate, guard).applied;
        if self.connections[conn.0 as usize].phase == Phase::Open {
            self.reply(conn, xid, zxid, code, &[]);
        }
    }
}

/// Where a read that is answered at once leaves its results: in its connection and its worker's tables.
struct AtOnce<'a> {
    output: &'a mut Vec<u8>,
    own_stats: &'a ConnectionStats,
    watches: &'a mut WatchTable,
    mailbox: &'a Mailbox,
    stats: &'a WorkerStats,
    conn: ConnId,
    zxid: Zxid,
    /// A watch had no room.
    refused: bool,
    work: usize,
    /// Names that were made ready, if this was found to be long before.
    gathered: Option<&'a Gathered>,
    /// Names that may still be listed now.
    names_left: usize,
    /// It lists more than that.
    is_long: bool,
    /// The names that are put in place next.
    ready: Option<Range<usize>>,
    /// The packed values of this reply.
    packed: &'a mut Vec<u8>,
    splices: &'a mut Vec<Splice>,
    bytes_to_come: usize,
}

/// What belongs into a reply, and where.
#[derive(Debug)]
pub(super) struct Splice {
    /// In the output of the connection.
    at: usize,
    what: Spliced,
}

#[derive(Debug)]
enum Spliced {
    /// Names that were gathered.
    Names(Range<usize>),
    /// A packed value, and its length when it is unpacked.
    Packed(Range<usize>, u32),
}

/// Completes the reply at the end of `output`.
fn put_in_place(output: &mut Vec<u8>, splices: &mut Vec<Splice>, packed: &mut Vec<u8>, gathered: Option<&Gathered>) {
    let Some(begin) = splices.first().map(|first| first.at) else { return };
    let rest = output.split_off(begin);
    let bytes = |splice: &Splice| match &splice.what {
        Spliced::Names(names) => names.len(),
        Spliced::Packed(_, bytes) => *bytes as usize,
    };
    output.reserve_exact(rest.len() + splices.iter().map(bytes).sum::<usize>());
    let mut from = 0;
    for Splice { at, what } in splices.drain(..) {
        output.extend_from_slice(&rest[from..at - begin]);
        from = at - begin;
        match what {
            Spliced::Names(names) => output.extend_from_slice(gathered.expect("names were gathered").names(names)),
            Spliced::Packed(zstd, bytes) => {
                // Its block has a good checksum: what does not unpack was never written so.
                let data = Value::unpack(&packed[zstd], bytes);
                output.extend_from_slice(&data.unwrap_or_else(|error| panic!("a packed value of the state: {error}")));
            }
        }
    }
    output.extend_from_slice(&rest[from..]);
    packed.clear();
    if OUTPUT_POOL_BUFFER_BYTES_MAX < packed.capacity() {
        *packed = Vec::new();
    }
}

impl read::Sink for AtOnce<'_> {
    fn body(&mut self) -> &mut Vec<u8> {
        self.output
    }

    fn watch(&mut self, kind: WatchKind, path: &str) {
        match self.watches.add(kind, path, self.conn, self.zxid) {
            Added::New => self.mailbox.interest.raise(kind, path),
            Added::Known => {}
            Added::Refused => self.refused = true,
        }
    }

    fn list(&mut self, number: usize, node: &NodeRef<'_>) -> Result<Listed, Code> {
        match self.gathered.map(|gathered| gathered.ready(number, AsOf::of(node))) {
            Some(Some(Ready::Names(names))) => {
                self.ready = Some(names);
                return Ok(Listed::Later);
            }
            Some(Some(Ready::TooLong)) => return Err(Code::SystemError),
            // Its children change all the time.
            Some(None) => return Ok(Listed::Now),
            None => {}
        }
        match self.names_left.checked_sub(node.version().children as usize) {
            Some(left) => {
                self.names_left = left;
                Ok(Listed::Now)
            }
            None => {
                self.is_long = true;
                Err(Code::SystemError)
            }
        }
    }

    fn put_names(&mut self) {
        let names = self.ready.take().expect("names were made ready");
        self.bytes_to_come += names.len();
        self.splices.push(Splice { at: self.output.len(), what: Spliced::Names(names) });
    }

    fn put_packed(&mut self, zstd: &[u8], bytes: u32) {
        let at = self.packed.len();
        self.packed.extend_from_slice(zstd);
        self.bytes_to_come += bytes as usize;
        let what = Spliced::Packed(at..self.packed.len(), bytes);
        self.splices.push(Splice { at: self.output.len(), what });
    }

    fn bytes_to_come(&self) -> usize {
        self.bytes_to_come
    }

    fn work(&mut self, bytes: usize) {
        self.work += bytes;
    }

    fn event(&mut self, event: EventType, path: &str) {
        let bytes = append_event(self.output, -1, event, path);
        self.own_stats.add_sent();
        self.stats.add_sent(bytes as u64);
    }
}
