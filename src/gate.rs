//! The one lock between the tree's writer (the replica) and its readers (the workers).
//!
//! Guarantees: under the gate the state is exactly the prefix of the history that ends at [`State::applied`]. It is never
//! held across a system call or a wait: holders compute, append to buffers, and let go. Readers of different workers do
//! not share a cache line (`ShardedLock`: a reader takes its own shard, the writer all of them).
//!
//! A gate can be told to count the page faults that made a holder wait for a disk. It asks the kernel twice per hold for
//! that, so it is for finding out and not for serving.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use zorilla_proto::ids::Zxid;

use crate::clock::Clock;
use crate::limits::DIGESTS_MAX;
use crate::ops::metrics::Measure;
use crate::os;
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
    /// Page faults of holders that waited for a disk, if they are counted.
    major_faults: Option<AtomicU64>,
}

/// Counts the faults of a hold when it ends.
struct Counting<'g> {
    all: &'g AtomicU64,
    before: u64,
}

/// The gate, held by one of its readers.
pub struct Reading<'g> {
    // Dropped first: what it counts is what happened while the gate was held.
    _counting: Option<Counting<'g>>,
    state: ShardedLockReadGuard<'g, State>,
}

/// The gate, held by its writer.
pub struct Writing<'g> {
    _counting: Option<Counting<'g>>,
    state: ShardedLockWriteGuard<'g, State>,
    gate: &'g Gate,
    since_ns: u64,
}

impl Gate {
    /// Puts a recovered state behind a gate.
    pub fn new(state: State) -> Gate {
        Gate { lock: ShardedLock::new(state), clock: Clock::start(), held_ns: Mutex::default(), major_faults: None }
    }

    /// The same gate, which also counts page faults of its holders that wait for a disk.
    pub fn counting_major_faults(self) -> Gate {
        Gate { major_faults: Some(AtomicU64::new(0)), ..self }
    }

    /// For one reader; many may hold it at once.
    pub fn read(&self) -> Reading<'_> {
        // A poisoned lock means that a thread panicked while it held the gate: the state may be half applied. The release
        // build has ended the process by then (`panic = "abort"`); under test the panic travels on.
        let state = self.lock.read().expect("a thread panicked while holding the gate");
        Reading { _counting: self.counting(), state }
    }

    /// For the one writer.
    pub fn write(&self) -> Writing<'_> {
        let state = self.lock.write().expect("a thread panicked while holding the gate");
        Writing { _counting: self.counting(), state, gate: self, since_ns: self.clock.mono_ns() }
    }

    #[inline]
    fn counting(&self) -> Option<Counting<'_>> {
        self.major_faults.as_ref().map(|all| Counting { all, before: os::thread_major_faults() })
    }

    /// Page faults of holders that waited for a disk; `None`: they are not counted.
    pub fn major_faults(&self) -> Option<u64> {
        self.major_faults.as_ref().map(|all| all.load(Ordering::Relaxed))
    }

    /// How long the writer held the gate, ns.
    pub fn held_ns(&self) -> Measure {
        self.held_ns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        // Relaxed: a count that orders nothing.
        self.all.fetch_add(os::thread_major_faults() - self.before, Ordering::Relaxed);
    }
}

impl Deref for Reading<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::tests::fault;

    fn gate() -> Gate {
        Gate::new(State { tree: Tree::new(1), applied: Zxid::ZERO, sessions: 0, digests: Digests::default() })
    }

    #[test]
    fn only_faults_of_who_holds_the_gate_are_counted() {
        let counting = gate().counting_major_faults();
        fault("outside");
        drop(counting.read());
        drop(counting.write());
        assert_eq!(counting.major_faults(), Some(0));
        let reading = counting.read();
        fault("reading");
        drop(reading);
        let of_reader = counting.major_faults().expect("it counts");
        assert!(0 < of_reader);
        let writing = counting.write();
        fault("writing");
        drop(writing);
        assert!(Some(of_reader) < counting.major_faults());
        assert_eq!(gate().major_faults(), None);
    }
}
