//! Waking a thread only when it sleeps.
//!
//! A wake is a system call, so a sender makes one only for a receiver that said it would sleep. The receiver announces it,
//! looks at its mailboxes once more, and only then sleeps; the sender puts its message in, and only then looks for the
//! announcement. Whichever order the two meet in, one of them sees the other (`models/` tries all of them).

use crossbeam::utils::CachePadded;

use crate::sync::{Arc, AtomicBool, Ordering, fence};

/// Ends the sleep of a thread: an eventfd in the server, a flag in a simulator or a model.
pub trait Bell: Send + Sync {
    /// Makes the sleeper's wait return, now or when it begins.
    fn ring(&self);
}

/// One thread's sleep, as its senders see it.
#[derive(Clone)]
pub struct Sleeper {
    asleep: Arc<CachePadded<AtomicBool>>,
    bell: Arc<dyn Bell>,
}

impl std::fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleeper").field("asleep", &self.asleep).finish_non_exhaustive()
    }
}

impl Sleeper {
    /// A thread that is awake and sleeps until `bell` rings.
    pub fn new(bell: Arc<dyn Bell>) -> Sleeper {
        Sleeper { asleep: Arc::new(CachePadded::new(AtomicBool::new(false))), bell }
    }

    /// The receiver is about to sleep unless `idle` finds work. `false`: there is work, do not sleep.
    pub fn fall_asleep(&self, idle: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `wake`: either this look sees the message, or the sender sees the announcement.
        fence(Ordering::SeqCst);
        if idle() {
            return true;
        }
        self.asleep.store(false, Ordering::Relaxed);
        false
    }

    /// The receiver is awake.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Ends the sleep whether the receiver announced one or not: for messages that its look at the mailboxes does not see.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// The sender has put a message in.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        // Only the first of several senders pays for the call.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.bell.ring();
        }
    }
}
