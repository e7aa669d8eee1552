//! What threads share memory with, as `loom` has it: the list of the server's `src/sync.rs`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

pub use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
/// Counting references is no part of the protocols, and `loom`'s cannot hold a trait object.
pub use std::sync::Arc;

/// A flag that is set and taken back by different threads.
///
/// `loom` keeps a partial order of the writes to a value where the memory model has a total one: an exchange may read a
/// flag as it was before a store that is not ordered with it, and a later load may still take what the exchange wrote
/// for the newest. No machine does that. A store that is an exchange too leaves no two writes unordered; as `loom`
/// tries it at every place, and loads remain free to be late, no order that is possible is left out.
#[derive(Debug)]
pub struct AtomicBool(loom::sync::atomic::AtomicBool);

impl AtomicBool {
    /// As in `std`.
    pub fn new(value: bool) -> AtomicBool {
        AtomicBool(loom::sync::atomic::AtomicBool::new(value))
    }

    /// As in `std`.
    pub fn load(&self, ordering: Ordering) -> bool {
        self.0.load(ordering)
    }

    /// As in `std`.
    pub fn store(&self, value: bool, ordering: Ordering) {
        self.0.swap(value, ordering);
    }

    /// As in `std`.
    pub fn swap(&self, value: bool, ordering: Ordering) -> bool {
        self.0.swap(value, ordering)
    }
}

thread_local! {
    static CAPACITY: Cell<usize> = const { Cell::new(1) };
}

/// Queues that are made from now on hold at most this many values, whatever they were asked for. (`loom` runs all
/// threads of a model on the thread that called it.)
pub fn clamp_queues(capacity: usize) {
    CAPACITY.set(capacity);
}

/// `crossbeam::queue::ArrayQueue` as far as its users may rely on it, and not further.
///
/// A value that is popped happened before the pop, and that is all: that a queue *looks* empty or full is a relaxed
/// load, so it orders nothing, and what it says may be out of date. A queue behind a lock would order the memory around
/// it, and the models would pass without the fences of the protocols. The values themselves lie behind a lock that
/// `loom` does not see.
#[derive(Debug)]
pub struct ArrayQueue<T> {
    values: Mutex<VecDeque<T>>,
    count: AtomicUsize,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    /// An empty queue, of [`clamp_queues`] values at most.
    pub fn new(capacity: usize) -> ArrayQueue<T> {
        let capacity = capacity.min(CAPACITY.get());
        ArrayQueue { values: Mutex::default(), count: AtomicUsize::new(0), capacity }
    }

    /// Puts a value in, or hands it back.
    pub fn push(&self, value: T) -> Result<(), T> {
        if self.is_full() {
            return Err(value);
        }
        {
            let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
            // Several threads give boxes back to a shelf: what one of them saw free may be taken by now.
            if values.len() == self.capacity {
                return Err(value);
            }
            values.push_back(value);
        }
        self.count.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Takes the oldest value out.
    pub fn pop(&self) -> Option<T> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let value = self.values.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(value)
    }

    /// Whether it looks empty.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether it looks full.
    pub fn is_full(&self) -> bool {
        self.count.load(Ordering::Relaxed) == self.capacity
    }
}
