//! Sessions that own ephemerals: how many in the whole tree, and the lists of those in each overlay.
//!
//! The lists run through the overlays' entries, in the order of creation. There are at most two overlays, and their
//! generations follow each other, so the lists of one are at even places and those of the other at odd ones.

use std::hash::{BuildHasher, Hasher};
use std::mem;

use foldhash::quality::FixedState;
use zorilla_proto::ids::SessionId;

use super::overlay::{Extra, Overlay};
use crate::table::{NONE, Slab, Slot, StepTable};

/// The ephemerals of a session in the overlay of one generation.
#[derive(Clone, Copy)]
struct List {
    generation: u64,
    first: u32,
    last: u32,
}

#[derive(Clone, Copy)]
struct Owner {
    session: SessionId,
    /// Of its ephemerals in all layers.
    path_bytes: u64,
    count: u32,
    link: u32,
    lists: [List; 2],
}

impl Default for Owner {
    fn default() -> Owner {
        let lists = [List { generation: 0, first: NONE, last: NONE }; 2];
        Owner { session: SessionId::NONE, path_bytes: 0, count: 0, link: NONE, lists }
    }
}

impl Slot for Owner {
    fn link(&self) -> u32 {
        self.link
    }
    fn set_link(&mut self, next: u32) {
        self.link = next;
    }
}

impl Owner {
    fn list(&mut self, generation: u64) -> &mut List {
        let list = &mut self.lists[generation as usize & 1];
        if list.generation != generation {
            *list = List { generation, first: NONE, last: NONE };
        }
        list
    }
}

/// See the module.
pub(super) struct Owners {
    owners: Slab<Owner, 8>,
    index: StepTable,
    hasher: FixedState,
    /// Ephemerals of all sessions.
    count: u64,
}

#[inline]
fn hash(hasher: &FixedState, session: SessionId) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_i64(session.raw());
    state.finish()
}

fn unlink(list: &mut List, live: &mut Overlay, slot: u32) {
    let Extra { next_ephemeral: next, prev_ephemeral: prev, .. } = *live.extra_of(slot);
    match prev {
        NONE => list.first = next,
        prev => live.extra_of(prev).next_ephemeral = next,
    }
    match next {
        NONE => list.last = prev,
        next => live.extra_of(next).prev_ephemeral = prev,
    }
}

impl Owners {
    pub fn new(seed: u64) -> Owners {
        Owners { owners: Slab::new(), index: StepTable::new(), hasher: FixedState::with_seed(seed), count: 0 }
    }

    /// Ephemerals of all sessions.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn memory_bytes(&self) -> usize {
        self.owners.memory_bytes() + self.index.memory_bytes()
    }

    fn find(&self, session: SessionId) -> Option<u32> {
        self.index.find(hash(&self.hasher, session), |owner| self.owners.get(owner).session == session)
    }

    fn find_or_add(&mut self, session: SessionId) -> u32 {
        self.find(session).unwrap_or_else(|| {
            let Owners { owners, index, hasher, .. } = self;
            let owner = owners.insert(Owner { session, ..Owner::default() });
            index.insert(hash(hasher, session), owner, |owner| hash(hasher, owners.get(owner).session));
            owner
        })
    }

    /// What is known of a session from a run.
    pub fn open(&mut self, session: SessionId, count: u32, path_bytes: u64) {
        let number = self.find_or_add(session);
        let owner = self.owners.get_mut(number);
        self.count = self.count - u64::from(owner.count) + u64::from(count);
        (owner.count, owner.path_bytes) = (count, path_bytes);
    }

    /// A session has one more ephemeral.
    pub fn count_one(&mut self, session: SessionId, path: &str) -> u32 {
        let number = self.find_or_add(session);
        let owner = self.owners.get_mut(number);
        owner.count += 1;
        owner.path_bytes += crate::prep::ephemeral_bytes(path);
        self.count += 1;
        number
    }

    /// Puts an entry of the live overlay into the list of its owner, which [`Owners::count_one`] named.
    pub fn link(&mut self, owner: u32, live: &mut Overlay, slot: u32) {
        let list = self.owners.get_mut(owner).list(live.generation);
        let last = mem::replace(&mut list.last, slot);
        if last == NONE {
            list.first = slot;
        } else {
            live.extra_of(last).next_ephemeral = slot;
        }
        live.extra_of(slot).prev_ephemeral = last;
    }

    /// The same for a znode that counts already and gets an entry.
    pub fn link_known(&mut self, session: SessionId, live: &mut Overlay, slot: u32) {
        let owner = self.find(session).expect("the owner of an ephemeral is known");
        self.link(owner, live, slot);
    }

    /// A session has one ephemeral less; `slot`: its entry in the live overlay, where it has one.
    pub fn remove(&mut self, session: SessionId, path: &str, live: &mut Overlay, slot: Option<u32>) {
        let number = self.find(session).expect("the owner of an ephemeral is known");
        let owner = self.owners.get_mut(number);
        owner.count -= 1;
        owner.path_bytes -= crate::prep::ephemeral_bytes(path);
        self.count -= 1;
        if let Some(slot) = slot {
            unlink(owner.list(live.generation), live, slot);
        }
        if owner.count == 0 {
            self.owners.remove(number);
            let removed = self.index.remove(hash(&self.hasher, session), |owner| owner == number);
            assert_eq!(removed, Some(number), "the owner of an ephemeral is in the index");
        }
    }

    /// What a session's ephemerals take in its closeSession transaction, in bytes.
    pub fn path_bytes(&self, session: SessionId) -> u64 {
        self.find(session).map_or(0, |owner| self.owners.get(owner).path_bytes)
    }

    /// The first entry of a session in an overlay. `None`: it has no ephemerals in the whole tree.
    pub fn first(&self, session: SessionId, generation: u64) -> Option<u32> {
        let list = self.owners.get(self.find(session)?).lists[generation as usize & 1];
        Some(if list.generation == generation { list.first } else { NONE })
    }

    /// Every session with ephemerals: how many and their bytes.
    pub fn all(&self) -> Vec<(SessionId, u32, u64)> {
        let mut all = Vec::with_capacity(self.owners.len());
        all.extend(self.index.values().map(|owner| {
            let Owner { session, count, path_bytes, .. } = *self.owners.get(owner);
            (session, count, path_bytes)
        }));
        all
    }
}
