//! What the replica delivers becomes replies and events, in the order of history.

use zorilla_proto::client::{WatcherKind, WatchesRequest};
use zorilla_proto::code::Code;
use zorilla_proto::ids::SessionId;
use zorilla_proto::jute::Reader;
use zorilla_proto::op::Op;

use super::Core;
use super::connection::Phase;
use super::mailbox::{Ask, Delivery, Item, Piece};
use crate::auth;
use crate::limits::CREDIT_REQUESTS_MAX;
use crate::ops::metrics::Count;
use crate::read;
use crate::watch::{Added, ConnId};

impl Core {
    pub(super) fn drain(&mut self) {
        while let Some(delivery) = self.mailbox.pop() {
            assert!(self.delivered <= delivery.applied, "delivered {} after {}", delivery.applied, self.delivered);
            for item in &delivery.items {
                self.item(item, &delivery);
            }
            self.delivered = delivery.applied;
            self.applied_ns = delivery.applied_ns;
            self.replica_waits |= self.mailbox.give_back(delivery);
        }
    }

    fn item(&mut self, item: &Item, delivery: &Delivery) {
        match *item {
            Item::Changed { change, path, zxid, node_acl, parent_acl } => {
                let path = text(path, delivery);
                let mut fired = std::mem::take(&mut self.fired);
                let consumed = self.watches.fire(change, path, zxid, &mut fired);
                self.mailbox.interest.lower_consumed(path, consumed);
                for event in fired.drain(..) {
                    // Consumed, but not shown to who may not read the znode it is about (`semantics.md` 12.4).
                    let acl = if event.on_parent { parent_acl } else { node_acl };
                    let who = &self.connections[event.conn.0 as usize].who;
                    let readable = |acl: Piece| self.settings.rules.allows(acl.of(&delivery.bytes), auth::READ, who);
                    if acl.is_none_or(readable) {
                        self.notify(event.conn, zxid.raw() as i64, event.event, event.path(path));
                    }
                }
                self.fired = fired;
            }
            Item::Watch { conn, kind, path, zxid } => {
                let path = text(path, delivery);
                let alive = self.connections[conn.0 as usize].is_alive();
                let added = if alive { self.watches.add(kind, path, conn, zxid) } else { Added::Known };
                if added != Added::New {
                    // Counted by the replica for a watch that there is not.
                    self.mailbox.interest.lower(kind, path);
                }
                if added == Added::Refused {
                    self.watched_too_much(conn);
                }
            }
            Item::Watches { conn, xid, zxid, op, body, arrived_ns } => {
                self.complete(conn);
                if self.connections[conn.0 as usize].is_alive() {
                    let code = self.answer_watches(conn, op, body.of(&delivery.bytes));
                    self.reply(conn, xid, zxid, code, &[]);
                    self.stats.add_latency_ms(self.now.mono_ns.saturating_sub(arrived_ns) / 1_000_000, 1);
                }
                self.settle(conn);
            }
            Item::Event { conn, event, path } => self.notify(conn, -1, event, text(path, delivery)),
            Item::Outcome { conn, xid, zxid, code, body, write, last, arrived_ns } => {
                self.outcomes += u64::from(write);
                self.complete(conn);
                let connection = &mut self.connections[conn.0 as usize];
                if connection.is_alive() {
                    if last {
                        self.end(conn);
                    }
                    self.reply(conn, xid, zxid, code, body.of(&delivery.bytes));
                    self.stats.add_latency_ms(self.now.mono_ns.saturating_sub(arrived_ns) / 1_000_000, 1);
                    if self.connections[conn.0 as usize].is_beyond_measure() {
                        // Not only when it is written next: reads that travel with writes come whether it reads or not.
                        self.abandon(conn);
                    }
                } else {
                    self.stats.count(Count::StaleReplies);
                }
                self.settle(conn);
            }
            Item::Session { conn, session, attachment, timeout_ms } => {
                self.complete(conn);
                let connection = &mut self.connections[conn.0 as usize];
                if connection.is_alive() {
                    self.answer_session(conn, session, attachment, timeout_ms);
                    if session != SessionId::NONE {
                        self.touch(conn);
                    }
                } else if session != SessionId::NONE {
                    // The client left meanwhile; the session waits for its timeout without a home.
                    connection.session = session;
                    connection.attachment = attachment;
                    self.post(conn, 0, Ask::Gone, &[]);
                }
                self.settle(conn);
            }
            Item::Dropped { conn } => {
                self.complete(conn);
                // What was asked behind it is not answered either.
                self.connections[conn.0 as usize].unimplemented = None;
                self.end(conn);
                self.settle(conn);
            }
            Item::Kick { conn, session } => {
                let connection = &self.connections[conn.0 as usize];
                // One that is resuming the session right now is newer than what it left, and may be in the same slot.
                let connected = matches!(connection.phase, Phase::Open | Phase::Ending);
                if connected && connection.session == session {
                    self.end(conn);
                }
            }
        }
    }

    /// checkWatches and removeWatches: what this worker's table says.
    pub(super) fn answer_watches(&mut self, conn: ConnId, op: Op, record: &[u8]) -> Code {
        let Ok(request) = WatchesRequest::decode(&mut Reader::new(record)) else { return Code::MarshallingError };
        let path = match request.path.as_deref() {
            Some(path) => path,
            None if self.settings.persistent_watches => read::NO_PATH,
            // Its table has no place for that.
            None => return Code::MarshallingError,
        };
        let asked = match WatcherKind::from_raw(request.kind) {
            // A watch manager that keeps no persistent watches does not know these.
            Some(WatcherKind::Persistent | WatcherKind::PersistentRecursive) | None
                if !self.settings.persistent_watches =>
            {
                return Code::MarshallingError;
            }
            None => return Code::MarshallingError,
            Some(asked) => asked,
        };
        let found = match op {
            Op::CheckWatches => self.watches.has(asked, path, conn),
            _ => {
                let Core { watches, mailbox, .. } = self;
                watches.remove(asked, path, conn, &mut |kind| mailbox.interest.lower(kind, path))
            }
        };
        if found { Code::Ok } else { Code::NoWatcher }
    }

    /// A watch was refused. The client must not wait for its event, so it loses its connection, as it would lose one to a
    /// server that died: it comes back and asks again.
    pub(super) fn watched_too_much(&mut self, conn: ConnId) {
        let peer = self.connections[conn.0 as usize].peer;
        tracing::warn!(
            "closing the connection of {peer}: it, or all clients together, watch more than fits the limits"
        );
        self.abandon(conn);
    }

    /// One posted request has been completed.
    fn complete(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        connection.pending = connection.pending.checked_sub(1).expect("a request was completed twice");
        connection.stats.set_queued(u64::from(connection.pending));
        if let Some(large) = &mut connection.large {
            if let Some(bytes) = large.completed() {
                self.settings.bounds.release_large(bytes);
            }
            if large.is_empty() {
                connection.large = None;
            }
        }
        self.settings.bounds.left();
        self.made_room = true;
        self.credits = (self.credits + 1).min(CREDIT_REQUESTS_MAX);
        if connection.phase == Phase::Dead && connection.pending == 0 {
            self.release(conn);
        }
    }
}

/// A path that the replica put into a delivery.
fn text(piece: Piece, delivery: &Delivery) -> &str {
    std::str::from_utf8(piece.of(&delivery.bytes)).expect("paths of transactions are text")
}
