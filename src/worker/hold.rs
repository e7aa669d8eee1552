//! Requests that cannot be answered at once, and wait at the front of their connection.
//!
//! A long listing behind a write waits until nothing of its session is under way, and every long listing for its turn: one of a
//! worker is gathered at a time, a slice in each turn, so that memory and turns stay as small as for short ones.
//! Other connections go on. What the same connection asks meanwhile waits in its buffer and in its socket.
//!
//! Invariant: a connection with a held request has nothing taken from its input, and the request is served again, as it was,
//! by [`Core::serve_held`] or [`Core::list`], or goes with its connection.

use zorilla_proto::op::Op;

use super::cold::{BlockId, Probed};
use super::connection::Phase;
use super::{Core, Guard};
use crate::gate::Gate;
use crate::read::listing::{Gathered, Slice};
use crate::watch::ConnId;

/// See the module.
#[derive(Debug)]
pub struct Held {
    pub xid: i32,
    pub op: Op,
    pub record: Vec<u8>,
    pub until: Until,
    /// Of a listing that is made in slices.
    pub gathered: Option<Gathered>,
    /// What it counts among the large requests.
    large_bytes: u64,
    probed: Probed,
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Nothing of its session is under way.
    Settled,
    /// It is its turn among the long listings.
    Listed,
    /// A block is in memory: see [`super::cold`].
    Brought(BlockId),
}

impl Core {
    /// Lets a request wait.
    pub(super) fn hold(&mut self, conn: ConnId, xid: i32, op: Op, record: &[u8], until: Until) {
        let large_bytes = std::mem::take(&mut self.large_bytes);
        let probed = std::mem::take(&mut self.probed);
        match until {
            Until::Settled => {}
            Until::Listed => self.listings.push_back(conn),
            Until::Brought(block) => self.wait_for(block, conn),
        }
        let record = record.to_vec();
        self.keep_held(conn, Box::new(Held { xid, op, record, until, gathered: None, large_bytes, probed }));
    }

    fn keep_held(&mut self, conn: ConnId, held: Box<Held>) {
        self.held += 1;
        self.input_bytes += held.record.len();
        let connection = &mut self.connections[conn.0 as usize];
        assert!(connection.held.is_none(), "a request overtakes one that is held");
        connection.held = Some(held);
    }

    /// Takes a request that was held, to serve it or to drop it.
    fn take_held(&mut self, conn: ConnId) -> Option<Box<Held>> {
        let held = self.connections[conn.0 as usize].held.take()?;
        self.held -= 1;
        self.input_bytes -= held.record.len();
        Some(held)
    }

    /// Its connection ends, and nobody waits for the answer.
    pub(super) fn drop_held(&mut self, conn: ConnId) {
        if let Some(held) = self.take_held(conn) {
            self.settings.bounds.release_large(held.large_bytes);
        }
    }

    /// What a request waited for may have come.
    pub(super) fn release_held(&mut self, conn: ConnId, came: Until) {
        let Some(held) = &mut self.connections[conn.0 as usize].held else { return };
        if held.until != came {
            return;
        }
        if held.gathered.is_some() {
            // It kept its place.
            held.until = Until::Listed;
        } else {
            self.released.push_back(conn);
        }
    }

    /// Serves requests that were held, and for which there is nothing to wait any more.
    pub(super) fn serve_held(&mut self, gate: &Gate) {
        let mut guard: Option<Guard<'_>> = None;
        // Only those that are here: one that is held again waits for the next turn.
        for _ in 0..self.released.len() {
            let Some(conn) = self.released.pop_front() else { return };
            let held = self.connections[conn.0 as usize].held.as_deref();
            if held.is_some_and(|held| held.until == Until::Listed) {
                // Another that has its number.
                continue;
            }
            let Some(held) = self.take_held(conn) else { continue };
            (self.large_bytes, self.probed) = (held.large_bytes, held.probed);
            self.serve(gate, &mut guard, conn, held.xid, held.op, &held.record);
            self.served_held(conn);
        }
    }

    /// Whether a slice of a listing can be gathered now.
    pub(super) fn may_list(&self) -> bool {
        // The first keeps its place while it waits for a block: one listing at a time.
        self.listings.front().is_some_and(|conn| {
            let held = self.connections[conn.0 as usize].held.as_ref();
            !held.is_some_and(|held| held.gathered.is_some() && matches!(held.until, Until::Brought(_)))
        })
    }

    /// Gathers a slice for the first of the long listings, and answers it if that was the last.
    pub(super) fn list(&mut self, gate: &Gate) {
        let Some(conn) = self.listings.front().copied().filter(|_| self.may_list()) else { return };
        let held = self.connections[conn.0 as usize].held.as_deref_mut();
        let Some(held) = held.filter(|held| held.until == Until::Listed) else {
            // Its connection ended meanwhile, and another may have its number.
            self.listings.pop_front();
            return;
        };
        held.gathered.get_or_insert_default().reserve();
        let mut guard = None;
        let state = self.enter(gate, &mut guard);
        if self.connections[conn.0 as usize].phase != Phase::Open {
            // What was delivered ended it, and the request with it.
            return;
        }
        let mut held = self.take_held(conn).expect("an open connection keeps its request");
        let mut gathered = held.gathered.take().expect("it was just begun");
        let asker = self.connections[conn.0 as usize].asker(&self.settings);
        let bytes = gathered.bytes();
        let step = gathered.slice(held.op, &held.record, &state.tree, &asker, self.settings.listing_names);
        self.read_work += gathered.bytes().saturating_sub(bytes);
        self.probed = held.probed;
        let session = asker.session;
        let (is_whole, missing) = match step {
            Ok(Slice::Whole) if self.may_be_cold() => {
                (true, self.probe(&state.tree, held.op, &held.record, session).err())
            }
            Ok(slice) => (slice == Slice::Whole, None),
            Err(needed) => (false, Some(self.wish(needed))),
        };
        if is_whole && missing.is_none() {
            self.listings.pop_front();
            self.large_bytes = held.large_bytes;
            self.read_at_once(gate, &mut guard, conn, held.xid, held.op, &held.record, Some(&gathered));
            drop(guard);
            return self.served_held(conn);
        }
        held.probed = std::mem::take(&mut self.probed);
        if let Some(block) = missing {
            held.until = Until::Brought(block);
            self.wait_for(block, conn);
        }
        held.gathered = Some(gathered);
        self.keep_held(conn, held);
    }

    /// A request that was held has been served, or held again.
    fn served_held(&mut self, conn: ConnId) {
        self.probed = Probed::default();
        self.settings.bounds.release_large(std::mem::take(&mut self.large_bytes));
        let connection = &self.connections[conn.0 as usize];
        let waits = !connection.input.is_empty() || connection.has_hung_up();
        if connection.held.is_none() && connection.is_alive() && waits {
            self.resume_later(conn);
        }
    }
}
