//! Access lists, stored once each.
//!
//! Nearly every znode of a server has one of a handful of lists. A znode holds a number; equal lists of an overlay share one;
//! a list whose last znode went is dropped. What a list says is not known here.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use crate::table::{NONE, Slab, Slot, StepTable};

/// A znode's access list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acl<'t> {
    /// Its encoded elements, without the count.
    pub raw: &'t [u8],
    /// How many elements there are.
    pub count: u32,
}

/// world:anyone with all permissions, encoded.
pub(super) const OPEN_RAW: &[u8] = b"\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone";
/// world:anyone with READ only, encoded.
pub(super) const READ_RAW: &[u8] = b"\0\0\0\x01\0\0\0\x05world\0\0\0\x06anyone";

#[derive(Default)]
struct Entry {
    raw: Box<[u8]>,
    count: u32,
    /// Znodes that have this list; the open one counts once more, so that it stays.
    users: u32,
}

impl Slot for Entry {
    fn link(&self) -> u32 {
        self.count
    }
    fn set_link(&mut self, next: u32) {
        self.count = next;
    }
}

/// The lists in use.
pub(super) struct Acls {
    entries: Slab<Entry, 8>,
    index: StepTable,
    /// The list that was asked for last: creates in a row mostly ask for the same.
    last: u32,
    raw_bytes: usize,
}

fn hash(hasher: &FixedState, raw: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(raw);
    state.finish()
}

impl Acls {
    pub fn new(hasher: &FixedState) -> Acls {
        let mut acls = Acls { entries: Slab::new(), index: StepTable::new(), last: NONE, raw_bytes: 0 };
        let open = acls.intern(OPEN_RAW, 1, hasher);
        assert_eq!(open, 0, "the first list has the first number");
        acls
    }

    /// The number of a list, counting one more user.
    #[inline]
    pub fn intern(&mut self, raw: &[u8], count: u32, hasher: &FixedState) -> u32 {
        if self.last != NONE {
            let entry = self.entries.get_mut(self.last);
            if entry.count == count && *entry.raw == *raw {
                entry.users += 1;
                return self.last;
            }
        }
        self.intern_other(raw, count, hasher)
    }

    fn intern_other(&mut self, raw: &[u8], count: u32, hasher: &FixedState) -> u32 {
        let Acls { entries, index, .. } = self;
        let wanted = hash(hasher, raw);
        let found = index.find(wanted, |id| {
            let entry = entries.get(id);
            entry.count == count && *entry.raw == *raw
        });
        let id = match found {
            Some(id) => {
                entries.get_mut(id).users += 1;
                id
            }
            None => {
                let id = entries.insert(Entry { raw: raw.into(), count, users: 1 });
                index.insert(wanted, id, |id| hash(hasher, &entries.get(id).raw));
                self.raw_bytes += raw.len();
                id
            }
        };
        self.last = id;
        id
    }

    /// Counts one user less.
    #[inline]
    pub fn release(&mut self, id: u32, hasher: &FixedState) {
        let entry = self.entries.get_mut(id);
        entry.users -= 1;
        if entry.users == 0 {
            let entry = self.entries.remove(id);
            let removed = self.index.remove(hash(hasher, &entry.raw), |candidate| candidate == id);
            assert_eq!(removed, Some(id), "a stored access list is in its index");
            self.raw_bytes -= entry.raw.len();
            if self.last == id {
                self.last = NONE;
            }
        }
    }

    pub fn get(&self, id: u32) -> Acl<'_> {
        let entry = self.entries.get(id);
        Acl { raw: &entry.raw, count: entry.count }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes() + self.index.memory_bytes() + self.raw_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_share_a_number_and_unused_ones_are_dropped() {
        let hasher = FixedState::with_seed(7);
        let mut acls = Acls::new(&hasher);
        assert_eq!(acls.intern(OPEN_RAW, 1, &hasher), 0);
        acls.release(0, &hasher);
        assert_eq!(acls.get(0).raw, OPEN_RAW, "the open list stays without a user");

        let lists: Vec<Vec<u8>> = (0..3000_u32).map(|list| [OPEN_RAW, &list.to_be_bytes()].concat()).collect();
        let ids: Vec<u32> = lists.iter().map(|raw| acls.intern(raw, 1, &hasher)).collect();
        for (raw, id) in lists.iter().zip(&ids) {
            assert_eq!(acls.intern(raw, 1, &hasher), *id);
            assert_eq!(acls.get(*id).raw, &raw[..]);
        }
        assert_ne!(acls.intern(&lists[0], 2, &hasher), ids[0], "another count is another list");
        assert_eq!(acls.len(), 3002);
        let full = acls.memory_bytes();
        acls.release(acls.last, &hasher);
        for id in ids.iter().chain(&ids) {
            acls.release(*id, &hasher);
        }
        assert_eq!(acls.len(), 1);
        assert!(acls.memory_bytes() < full / 4, "{} bytes left of {full}", acls.memory_bytes());
        let empty = acls.intern(&[], 0, &hasher);
        assert_eq!(acls.get(empty), Acl { raw: &[], count: 0 });
    }
}
