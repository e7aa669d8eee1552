//! The one lock between the tree's writer (the replica) and its readers (the workers).
//!
//! Guarantees: under the gate the state is exactly the prefix of the history that ends at [`State::applied`]. It is never
//! held across a system call or a wait: holders compute, append to buffers, and let go. Readers of different workers do
//! not share a cache line (`ShardedLock`: a reader takes its own shard, the writer all of them).

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crossbeam::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use zorilla_proto::ids::Zxid;

use crate::clock::Clock;
use crate::limits::DIGESTS_MAX;
use crate::ops::metrics::Measure;
use crate::tree::Tree;

/// What the gate protects: one server's copy of the state at one zxid.
pub struct State {
    /// The znodes.
    pub tree: Tree,
    /// The zxid of the last transaction applied, failed ones included.
    pub applied: Zxid,
    /// Sessions created and not closed, for the monitors.
    pub sessions: usize,
    /// Digests of earlier states.
    pub digests: Digests,
}

/// The digests of the tree at zxids that are whole multiples of [`DIGEST_EVERY`], the newest [`DIGESTS_MAX`] of them: what
/// `hash` shows, so that servers of an ensemble can be compared by hand.
#[derive(Debug)]
pub struct Digests(VecDeque<(Zxid, u64)>);

/// Between two digests that are kept.
const DIGEST_EVERY: u64 = 128;

impl Default for Digests {
    fn default() -> Digests {
        // All at once, so that no write has to wait for the allocator.
        Digests(VecDeque::with_capacity(DIGESTS_MAX))
    }
}

impl Digests {
    /// The tree has this digest after `zxid`.
    pub fn note(&mut self, zxid: Zxid, digest: u64) {
        if !zxid.raw().is_multiple_of(DIGEST_EVERY) {
            return;
        }
        if self.0.len() == DIGESTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((zxid, digest));
    }

    /// The oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Zxid, u64)> {
        self.0.iter().copied()
    }
}

/// See the module.
pub struct Gate {
    lock: ShardedLock<State>,
    /// Times holds and decides nothing.
    clock: Clock,
    held_ns: Mutex<Measure>,
}

/// The gate, held by its writer.
pub struct Writing<'g> {
    state: ShardedLockWriteGuard<'g, State>,
    gate: &'g Gate,
    since_ns: u64,
}

impl Gate {
    /// Puts a recovered state behind a gate.
    pub fn new(state: State) -> Gate {
        Gate { lock: ShardedLock::new(state), clock: Clock::start(), held_ns: Mutex::default() }
    }

    /// For one reader; many may hold it at once.
    pub fn read(&self) -> ShardedLockReadGuard<'_, State> {
        // A poisoned lock means that a thread panicked while it held the gate: the state may be half applied. The release
        // build has ended the process by then (`panic = "abort"`); under test the panic travels on.
        self.lock.read().expect("a thread panicked while holding the gate")
    }

    /// For the one writer.
    pub fn write(&self) -> Writing<'_> {
        let state = self.lock.write().expect("a thread panicked while holding the gate");
        Writing { state, gate: self, since_ns: self.clock.mono_ns() }
    }

    /// How long the writer held the gate, ns.
    pub fn held_ns(&self) -> Measure {
        self.held_ns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Deref for Writing<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let held_ns = self.gate.clock.mono_ns() - self.since_ns;
        // Uncontended but for a monitor that copies it: the writer is one thread.
        self.gate.held_ns.lock().unwrap_or_else(PoisonError::into_inner).record(held_ns);
    }
}
