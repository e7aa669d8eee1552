//! From frames to answers: what a connection's bytes ask, and what is done about it.
//!
//! Reads of a session with nothing under way are answered here, under the gate; everything else becomes a request in the post
//! of the turn, or ends the connection.

use zorilla_proto::client::{ConnectRequest, EventType, ReplyHeader, RequestHeader, XID_PING};
use zorilla_proto::code::Code;
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::Reader;
use zorilla_proto::op::Op;

use super::connection::{Connection, Phase};
use super::mailbox::{Ask, Mailbox, Piece, Posted};
use super::{Core, Guard, append_event};
use crate::gate::{Gate, State};
use crate::ops::four_letter::Word;
use crate::ops::metrics::WorkerStats;
use crate::prep;
use crate::read;
use crate::watch::{ConnId, WatchKind, WatchTable};

impl Core {
    pub(super) fn input(&mut self, gate: &Gate, conn: ConnId, bytes: &[u8]) {
        let connection = &mut self.connections[conn.0 as usize];
        match connection.phase {
            Phase::Ending | Phase::Dead | Phase::Free => return,
            Phase::Handshake | Phase::Connecting | Phase::Open => {}
        }
        self.stats.add_received_bytes(bytes.len() as u64);
        if !connection.input.is_empty() {
            connection.input.extend_from_slice(bytes);
            return self.take_buffered(gate, conn);
        }
        let taken = self.take(gate, conn, bytes);
        let connection = &mut self.connections[conn.0 as usize];
        if taken < bytes.len() && connection.is_alive() {
            connection.input.extend_from_slice(&bytes[taken..]);
        }
    }

    /// Takes what waits in a connection's own buffer.
    pub(super) fn take_buffered(&mut self, gate: &Gate, conn: ConnId) {
        let mut input = std::mem::take(&mut self.connections[conn.0 as usize].input);
        let taken = self.take(gate, conn, &input);
        let connection = &mut self.connections[conn.0 as usize];
        if !connection.is_alive() || taken == input.len() {
            // Dropped rather than kept: an idle connection holds no buffer.
            return;
        }
        input.drain(..taken);
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
                    taken += consumed;
                    self.connections[conn.0 as usize].stats.add_received();
                    self.stats.add_received();
                    if phase == Phase::Handshake {
                        self.handshake(gate, conn, payload);
                    } else {
                        self.request(gate, &mut guard, conn, payload);
                    }
                }
                Framed::Partial { .. } => return taken,
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
            return self.post(conn, 0, Ask::Open { timeout_ms }, &[]);
        }
        // Checked before anything happens to the session: in the reference a wrong password still throws out the rightful
        // client (`semantics.md` 20).
        if request.password != Some(&session.password()[..]) {
            return self.answer_session(conn, SessionId::NONE, 0, 0);
        }
        connection.session = session;
        // It came back in time, even if the replica gets to the resume only later.
        self.post.touched.push(session);
        self.post(conn, 0, Ask::Resume { timeout_ms }, &[]);
    }

    /// One request of an open connection. `guard`: the gate, once a read of these bytes needed it.
    fn request<'g>(&mut self, gate: &'g Gate, guard: &mut Option<Guard<'g>>, conn: ConnId, payload: &[u8]) {
        let mut reader = Reader::new(payload);
        let Ok(RequestHeader { xid, op }) = RequestHeader::decode(&mut reader) else { return self.abandon(conn) };
        let body = reader.remaining();
        self.touch(conn);
        let served = Op::from_raw(op).filter(|op| op.from_client());
        match served {
            Some(op) if read::answers(op) => self.read(gate, guard, conn, xid, op, body),
            Some(op @ (Op::Create | Op::Create2 | Op::Delete | Op::SetData)) => match prep::examine(op, body) {
                Some(verdict) => self.post(conn, xid, Ask::Write { op, verdict }, body),
                None => self.answer(gate, guard, conn, xid, Code::MarshallingError),
            },
            Some(Op::CloseSession) => {
                self.post(conn, xid, Ask::Close, &[]);
                self.end(conn);
            }
            // Unknown, internal, or not served yet (`docs/compatibility.md`).
            _ => {
                self.connections[conn.0 as usize].unimplemented = Some(xid);
                self.end(conn);
                self.settle(conn);
            }
        }
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
        if !matches!(ask, Ask::Gone) {
            connection.pending += 1;
            connection.stats.set_queued(u64::from(connection.pending));
            // `wants_input` was asked before the request was taken; resumes and closes are bounded by their connections.
            self.credits = self.credits.saturating_sub(1);
        }
        let body = Piece::push(&mut self.post.bytes, body);
        self.post.requests.push(Posted { conn, session, attachment, xid, ask, body });
    }

    /// The gate for reading, with everything delivered so far taken: what is read is not ahead of any event.
    fn enter<'g, 'a>(&mut self, gate: &'g Gate, guard: &'a mut Option<Guard<'g>>) -> &'a State {
        if guard.is_none() {
            // Most of it without the gate, so that the writer waits for little.
            self.drain();
            *guard = Some(gate.read());
            // Once: while the gate is held for reading the replica cannot push.
            self.drain();
        }
        let state = guard.as_ref().expect("the gate was just entered");
        let pushed = self.mailbox.pushed();
        assert!(self.delivered == pushed, "read at {pushed} with only {} delivered", self.delivered);
        assert!(pushed <= state.applied, "delivered {pushed} ahead of {}", state.applied);
        state
    }

    fn read<'g>(&mut self, gate: &'g Gate, guard: &mut Option<Guard<'g>>, conn: ConnId, xid: i32, op: Op, body: &[u8]) {
        let xid = if op == Op::Ping { XID_PING } else { xid };
        if 0 < self.connections[conn.0 as usize].pending {
            return self.post(conn, xid, Ask::Read { op }, body);
        }
        let state = self.enter(gate, guard);
        if self.connections[conn.0 as usize].phase != Phase::Open {
            // What was delivered ended it.
            return;
        }
        assert_eq!(self.connections[conn.0 as usize].pending, 0, "a read overtakes a request of its own session");
        let zxid = state.applied;
        self.ready_output(conn);
        let Core { connections, watches, mailbox, stats, .. } = self;
        let connection = &mut connections[conn.0 as usize];
        let mut sink = AtOnce { connection, watches, mailbox, stats, conn, zxid };
        // Events of a setWatches stand ahead of its reply; nothing else has any.
        let early = (op == Op::SetWatches).then(|| read::read(op, body, &state.tree, &mut sink));
        let mark = frame::begin(&mut sink.connection.output);
        let header = sink.connection.output.len();
        ReplyHeader { xid, zxid: zxid.raw() as i64, code: 0 }.encode(&mut sink.connection.output);
        let at = sink.connection.output.len();
        let code = early.unwrap_or_else(|| read::read(op, body, &state.tree, &mut sink));
        if code != Code::Ok {
            sink.connection.output.truncate(header);
            ReplyHeader { xid, zxid: zxid.raw() as i64, code: code.raw() }.encode(&mut sink.connection.output);
            debug_assert_eq!(sink.connection.output.len(), at);
        }
        frame::end(&mut connection.output, mark);
        self.replied(conn, zxid, mark);
        self.reads += 1;
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
    connection: &'a mut Connection,
    watches: &'a mut WatchTable,
    mailbox: &'a Mailbox,
    stats: &'a WorkerStats,
    conn: ConnId,
    zxid: Zxid,
}

impl read::Sink for AtOnce<'_> {
    fn body(&mut self) -> &mut Vec<u8> {
        &mut self.connection.output
    }

    fn watch(&mut self, kind: WatchKind, path: &str) {
        if self.watches.add(kind, path, self.conn, self.zxid) {
            self.mailbox.interest.raise(kind, path);
        }
    }

    fn event(&mut self, event: EventType, path: &str) {
        let bytes = append_event(&mut self.connection.output, -1, event, path);
        self.connection.stats.add_sent();
        self.stats.add_sent(bytes as u64);
    }
}
