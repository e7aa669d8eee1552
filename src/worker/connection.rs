//! One client's connection, as its worker sees it: bytes in, bytes out, and what is under way between them.
//!
//! Knows no socket. Invariants: `pending` counts exactly the requests that were posted and not completed; a slot is not used
//! again before it is zero, so an item always finds the connection it is for, or its grave.

use std::net::SocketAddr;
use std::sync::Arc;

use zorilla_proto::ids::SessionId;

use super::Settings;
use super::bounds::{Arrivals, LargeRequests};
use super::hold::Held;
use crate::auth::Identities;
use crate::limits::OUTPUT_BYTES_MAX;
use crate::ops::metrics::ConnectionStats;
use crate::read::Asker;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing but a ConnectRequest or a four-letter word may come.
    Handshake,
    /// The session is being opened or resumed; what comes meanwhile waits.
    Connecting,
    /// Requests are served.
    Open,
    /// Nothing is taken from its input any more; it is closed once what is under way was answered and written.
    Ending,
    /// The socket is gone; the slot waits for what is under way.
    Dead,
    /// The slot is free.
    Free,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    pub phase: Phase,
    pub peer: SocketAddr,
    /// When it was opened, asked for its session, or began to end, ms.
    pub since_ms: u64,
    /// Bytes of a request that has not arrived completely, or that waits.
    pub input: Vec<u8>,
    /// Replies and events that have not been written, from `written` on.
    pub output: Vec<u8>,
    pub written: usize,
    /// Of the newest reply.
    pub reply_bytes: u32,
    pub session: SessionId,
    pub attachment: u32,
    /// Of its session, as negotiated.
    pub timeout_ms: u32,
    /// What it has proved of itself. The replica hears of every change before the next request.
    pub who: Identities,
    /// Whether the ConnectRequest had the readOnly field: the response must then have it too.
    pub knows_read_only: bool,
    pub pending: u32,
    /// The last zxid of an ordinary reply.
    pub zxid_last: i64,
    /// An unknown opcode is answered behind everything that is under way: its xid.
    pub unimplemented: Option<i32>,
    /// Closed without another byte, whatever is under way.
    pub abandoned: bool,
    /// The session is named in the next report.
    pub touched: bool,
    /// In the worker's list of connections that have something to write or to close.
    pub dirty: bool,
    /// In the worker's list of connections whose buffered input is to be looked at.
    pub resumed: bool,
    /// In the worker's queue of connections whose next request waits for room.
    pub waits: bool,
    /// When the bytes of `input` came, while the throttler lets them wait.
    pub arrivals: Option<Box<Arrivals>>,
    /// The request ahead of `input`, if it cannot be answered yet.
    pub held: Option<Box<Held>>,
    /// Its large requests in process.
    pub large: Option<Box<LargeRequests>>,
    pub stats: Arc<ConnectionStats>,
}

impl Connection {
    pub fn new(peer: SocketAddr, since_ms: u64, stats: Arc<ConnectionStats>) -> Connection {
        Connection {
            phase: Phase::Handshake,
            peer,
            since_ms,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            reply_bytes: 0,
            session: SessionId::NONE,
            attachment: 0,
            timeout_ms: 0,
            who: Identities::of_peer(peer.ip()),
            knows_read_only: false,
            pending: 0,
            zxid_last: 0,
            unimplemented: None,
            abandoned: false,
            touched: false,
            dirty: false,
            resumed: false,
            waits: false,
            arrivals: None,
            held: None,
            large: None,
            stats,
        }
    }

    /// Who asks by it.
    pub fn asker<'a>(&'a self, settings: &'a Settings) -> Asker<'a> {
        let Settings { rules, persistent_watches, .. } = settings;
        Asker { session: self.session, who: &self.who, rules, persistent_watches: *persistent_watches }
    }

    /// Bytes that wait to be written.
    pub fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Whether the client will send nothing more, and what it sent waits.
    pub fn has_hung_up(&self) -> bool {
        self.arrivals.as_ref().is_some_and(|arrivals| arrivals.hung_up)
    }

    /// Whether more waits to be written than any honest client leaves: the newest reply, whatever its size, does not count.
    pub fn is_beyond_measure(&self) -> bool {
        OUTPUT_BYTES_MAX < self.unwritten().saturating_sub(self.reply_bytes as usize)
    }

    /// Whether the socket is still there.
    pub fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Dead | Phase::Free)
    }

    /// Whether the socket is to be closed: everything was answered and written, or nobody waits for it.
    pub fn is_finished(&self) -> bool {
        let answered = self.pending == 0 && self.unwritten() == 0 && self.unimplemented.is_none();
        self.phase == Phase::Ending && (answered || self.abandoned)
    }
}
