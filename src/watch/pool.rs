//! Where a watch table keeps its entries, paths and connections.
//!
//! Guarantees: a value never moves; a number that was given back is handed out again first, without asking the
//! allocator. Knows nothing of what it keeps.

use std::ops::{Index, IndexMut};

/// The end of a list, and the number that no pool hands out.
pub(super) const NONE: u32 = u32::MAX;

/// Values of one chunk.
pub(super) const CHUNK_VALUES: usize = 1024;
/// Chunks that an empty pool keeps: enough for 64 Ki watches to fire and be set again.
pub(super) const CHUNKS_KEPT: usize = 64;
/// Values for which an empty pool keeps room.
pub(super) const KEPT_VALUES: usize = CHUNK_VALUES * CHUNKS_KEPT;

/// Values by number, in chunks that never move.
pub(super) struct Pool<T> {
    pub(super) chunks: Vec<Vec<Place<T>>>,
    /// First of the places given back.
    free: u32,
    /// Numbers from here on were not handed out since the pool was last emptied.
    fresh: u32,
    /// Values in use.
    pub(super) used: usize,
}

/// Room for one value.
pub(super) enum Place<T> {
    Free { next: u32 },
    Used(T),
}

impl<T> Pool<T> {
    pub(super) fn new() -> Pool<T> {
        Pool { chunks: Vec::new(), free: NONE, fresh: 0, used: 0 }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.used += 1;
        if self.free != NONE {
            let id = self.free;
            let place = self.place(id);
            let Place::Free { next } = *place else { unreachable!("place {id} is in use and listed as free") };
            *place = Place::Used(value);
            self.free = next;
            return id;
        }
        let id = self.fresh;
        assert!(id != NONE, "a pool has handed out all its numbers");
        let chunk = id as usize / CHUNK_VALUES;
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK_VALUES));
        }
        self.chunks[chunk].push(Place::Used(value));
        self.fresh += 1;
        id
    }

    pub(super) fn remove(&mut self, id: u32) -> T {
        let next = self.free;
        let Place::Used(value) = std::mem::replace(self.place(id), Place::Free { next }) else {
            unreachable!("place {id} was given back twice")
        };
        self.free = id;
        self.used -= 1;
        if self.used == 0 && CHUNKS_KEPT < self.chunks.len() {
            // A crowd has left: keep what an ordinary day needs.
            self.chunks.truncate(CHUNKS_KEPT);
            self.chunks.iter_mut().for_each(Vec::clear);
            self.free = NONE;
            self.fresh = 0;
        }
        value
    }

    fn place(&mut self, id: u32) -> &mut Place<T> {
        &mut self.chunks[id as usize / CHUNK_VALUES][id as usize % CHUNK_VALUES]
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        match &self.chunks[id as usize / CHUNK_VALUES][id as usize % CHUNK_VALUES] {
            Place::Used(value) => value,
            Place::Free { .. } => unreachable!("place {id} is not in use"),
        }
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        match self.place(id) {
            Place::Used(value) => value,
            Place::Free { .. } => unreachable!("place {id} is not in use"),
        }
    }
}
