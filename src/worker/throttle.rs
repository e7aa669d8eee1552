//! Requests that wait while too many are in process, and requests that are too large to wait for.
//!
//! A request waits as bytes in the buffer of its connection, and its connection in a queue of its worker: the order of a
//! connection is kept, and what waits behind the first request costs nothing but its bytes. Whoever gets its turn has one
//! request taken and goes to the end of the queue, so a client with a deep pipeline takes nobody else's place. Credentials
//! do not wait, as in the reference; a ConnectRequest does.

use zorilla_proto::client::RequestHeader;
use zorilla_proto::jute::Reader;
use zorilla_proto::op::Op;

use super::Core;
use super::connection::Phase;
use crate::gate::Gate;
use crate::ops::metrics::Count;
use crate::watch::ConnId;

/// What the throttler says to the next request of a connection.
pub(super) enum Admit {
    /// It is taken.
    Now {
        /// But only to be answered THROTTLEDOP.
        throttled: bool,
    },
    /// Its connection was put into the queue.
    Later,
    /// Its connection was ended.
    Never,
}

impl Core {
    /// Asks for room for a request that ends `end` bytes behind the front of its connection's buffer.
    #[cold]
    pub(super) fn admit(&mut self, conn: ConnId, payload: &[u8], end: usize) -> Admit {
        let Some(throttle) = self.settings.bounds.throttle else { return Admit::Now { throttled: false } };
        let connection = &self.connections[conn.0 as usize];
        if connection.phase == Phase::Open && is_credential(payload) {
            return Admit::Now { throttled: false };
        }
        let now_ms = self.now.mono_ms();
        let came_ms = connection.arrivals.as_ref().and_then(|arrivals| arrivals.complete_ms(end));
        let waited_ms = now_ms.saturating_sub(came_ms.unwrap_or(now_ms));
        let is_late = connection.timeout_ms != 0 && u64::from(connection.timeout_ms) < waited_ms;
        if is_late && throttle.drops_late {
            self.drop_stale(conn);
            return Admit::Never;
        }
        let out_of_turn = !self.waiting.is_empty() && self.served != Some(conn);
        if out_of_turn || self.settings.bounds.is_full() {
            self.wait(conn);
            return Admit::Later;
        }
        // One request at a time: the next one of this connection waits for its turn again.
        self.served = None;
        let is_orphan = self.connections[conn.0 as usize].has_hung_up();
        if (is_late && throttle.counts_late) || (is_orphan && throttle.counts_orphans) {
            self.stats.count(Count::StaleRequests);
        }
        Admit::Now { throttled: throttle.wait_ms_max.is_some_and(|max| max < waited_ms) }
    }

    fn wait(&mut self, conn: ConnId) {
        let connection = &mut self.connections[conn.0 as usize];
        if !connection.waits {
            connection.waits = true;
            if self.waiting.is_empty() {
                self.stalled_ms = self.now.mono_ms();
                self.settings.bounds.set_waits(self.index, true);
            }
            self.waiting.push_back(conn);
        }
    }

    /// Takes requests that wait, one of each connection in turn, as long as there is room.
    pub(super) fn serve_waiting(&mut self, gate: &Gate) {
        self.end_late();
        while !self.settings.bounds.is_full()
            && let Some(conn) = self.waiting.pop_front()
        {
            // A connection that ended meanwhile left its place behind.
            let connection = &mut self.connections[conn.0 as usize];
            if std::mem::take(&mut connection.waits) {
                self.served = Some(conn);
                self.take_buffered(gate, conn);
                self.served = None;
            }
        }
        self.settings.bounds.set_waits(self.index, !self.waiting.is_empty());
        let now_ms = self.now.mono_ms();
        let Some(throttle) = self.settings.bounds.throttle else { return };
        if !self.waiting.is_empty() && self.stalled_ms + throttle.stall_ms <= now_ms {
            self.stalled_ms = now_ms;
            self.stats.count(Count::RequestThrottleWait);
        }
    }

    /// Ends connections whose first request waited longer than their session's timeout, if the operator wants that.
    fn end_late(&mut self) {
        if !self.settings.bounds.throttle.is_some_and(|throttle| throttle.drops_late) {
            return;
        }
        let now_ms = self.now.mono_ms();
        for at in 0..self.waiting.len() {
            let conn = self.waiting[at];
            let connection = &self.connections[conn.0 as usize];
            let came_ms = connection.arrivals.as_ref().and_then(|arrivals| arrivals.complete_ms(1));
            let waited_ms = now_ms.saturating_sub(came_ms.unwrap_or(now_ms));
            // By its first byte, so it may be younger: then it is looked at more closely when its turn comes.
            let timeout_ms = u64::from(connection.timeout_ms);
            if connection.waits && timeout_ms != 0 && timeout_ms < waited_ms && self.is_first_late(conn) {
                self.drop_stale(conn);
            }
        }
        let connections = &self.connections;
        self.waiting.retain(|conn| connections[conn.0 as usize].waits);
    }

    /// Whether the first request in the buffer of a connection waited longer than its session's timeout.
    fn is_first_late(&self, conn: ConnId) -> bool {
        let connection = &self.connections[conn.0 as usize];
        let Some(length) = connection.input.first_chunk::<4>() else { return false };
        let end = 4 + u32::from_be_bytes(*length) as usize;
        let came_ms = connection.arrivals.as_ref().and_then(|arrivals| arrivals.complete_ms(end));
        came_ms.is_some_and(|came_ms| came_ms + u64::from(connection.timeout_ms) < self.now.mono_ms())
    }

    /// The client of a connection that waits has gone.
    pub(super) fn orphan(&mut self, conn: ConnId) {
        if self.settings.bounds.throttle.is_some_and(|throttle| throttle.drops_orphans) {
            return self.drop_stale(conn);
        }
        self.connections[conn.0 as usize].arrivals.get_or_insert_default().hung_up = true;
    }

    /// Drops a request that waited, with everything behind it, or the order of its connection would have a hole. What is
    /// in process is answered.
    fn drop_stale(&mut self, conn: ConnId) {
        self.stats.count(Count::StaleRequestsDropped);
        self.end(conn);
    }

    /// Whether a request of this many bytes is a large one for which there is no room.
    #[inline]
    pub(super) fn is_too_large(&self, bytes: u64) -> bool {
        let bounds = &self.settings.bounds;
        bounds
            .large
            .is_some_and(|large| (large.threshold as u64) < bytes && !bounds.has_room_for_large(bytes, large.bytes_max))
    }

    /// Counts a request of this many bytes if it is a large one. `false`: there is no room for it.
    #[inline]
    pub(super) fn has_room_for(&mut self, bytes: u64) -> bool {
        match self.settings.bounds.large {
            Some(large) if (large.threshold as u64) < bytes => {
                let fits = self.settings.bounds.reserve_large(bytes, large.bytes_max);
                self.large_bytes = if fits { bytes } else { 0 };
                fits
            }
            _ => true,
        }
    }

    /// Closes a connection for a request that is too large.
    #[cold]
    pub(super) fn too_large(&mut self, conn: ConnId, bytes: usize) {
        self.stats.count(Count::LargeRequestsRejected);
        let peer = self.connections[conn.0 as usize].peer;
        tracing::warn!(
            "closing the connection of {peer}: a request of {bytes} bytes, and the large requests in process, exceed \
             largeRequestMaxBytes"
        );
        self.abandon(conn);
    }
}

/// Whether this is one of the packets that are answered when they are read.
fn is_credential(payload: &[u8]) -> bool {
    let header = RequestHeader::decode(&mut Reader::new(payload));
    header.is_ok_and(|header| matches!(Op::from_raw(header.op), Some(Op::Auth | Op::Sasl)))
}
