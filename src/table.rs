//! Tables that grow in steps: [`StepTable`], a hash index of `u32` values, and [`Slab`], numbered storage.
//!
//! Guarantees: no single call moves more than [`PAGE_VALUES`] values, however large the table is; memory goes back to
//! the allocator when the values leave; a removal leaves no tombstone that only a rebuild would clear. (The standard
//! maps double: one insert among millions then moves everything, and a write waits for it.)
//!
//! `StepTable` is extendible hashing. A directory, indexed by the low bits of the hash, names fixed pages of 2 KiB; a
//! page that is full splits in two by the next bit of the hash, two siblings that have become sparse are joined. A page
//! is 32 buckets of one cache line each: twelve tags, twelve values. A lookup reads one directory entry and, nearly
//! always, one bucket. What still grows with the table is the directory, four bytes for about 250 values, which is
//! copied when it doubles: 256 KiB at ten million values.
//!
//! Knows nothing of keys: the caller hashes and compares.

use std::mem;

/// The end of a chain of slots, and no slot at all.
pub const NONE: u32 = u32::MAX;

/// A slab that holds no more than this keeps it when its last slot is freed.
const KEPT_BYTES: usize = 4096;

/// A value that can live in a [`Slab`]. While its slot is free, the slab keeps its free list in it.
pub trait Slot: Default {
    /// What `set_link` stored.
    fn link(&self) -> u32;
    /// Stores the number of the next free slot of the chunk.
    fn set_link(&mut self, next: u32);
}

/// Storage of equal slots, numbered by `u32`, in chunks of `1 << BITS` slots that never move once they are in use.
///
/// The number of a slot is its chunk's number and its place in the chunk. A chunk whose slots are all free goes back to
/// the allocator; one such chunk is kept while the slab is well filled, so that a program that adds and removes around
/// the edge of a chunk does not allocate every time.
pub struct Slab<T, const BITS: u32> {
    chunks: Vec<Chunk<T>>,
    /// Chunks that may have a free slot; the last is used first. A chunk is listed at most once (`Chunk::listed`).
    roomy: Vec<u32>,
    /// Numbers of chunks without memory.
    vacant: Vec<u32>,
    /// The empty chunk that is kept.
    spare: Option<u32>,
    len: usize,
    reserved: usize,
}

struct Chunk<T> {
    slots: Vec<T>,
    free: u32,
    live: u32,
    listed: bool,
}

impl<T: Slot, const BITS: u32> Default for Slab<T, BITS> {
    fn default() -> Self {
        Slab::new()
    }
}

impl<T: Slot, const BITS: u32> Slab<T, BITS> {
    const CHUNK_SLOTS: usize = 1 << BITS;

    /// An empty slab; it owns no memory yet.
    pub const fn new() -> Self {
        Slab { chunks: Vec::new(), roomy: Vec::new(), vacant: Vec::new(), spare: None, len: 0, reserved: 0 }
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.reserved * size_of::<T>()
            + self.chunks.capacity() * size_of::<Chunk<T>>()
            + (self.roomy.capacity() + self.vacant.capacity()) * size_of::<u32>()
    }

    /// The value in a slot that is in use.
    #[inline]
    pub fn get(&self, slot: u32) -> &T {
        &self.chunks[(slot >> BITS) as usize].slots[slot as usize & (Self::CHUNK_SLOTS - 1)]
    }

    /// See [`Slab::get`].
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> &mut T {
        &mut self.chunks[(slot >> BITS) as usize].slots[slot as usize & (Self::CHUNK_SLOTS - 1)]
    }

    /// Stores a value and returns the number of its slot.
    #[inline]
    pub fn insert(&mut self, value: T) -> u32 {
        loop {
            let Some(&number) = self.roomy.last() else {
                self.add_chunk();
                continue;
            };
            let chunk = &mut self.chunks[number as usize];
            let place = if chunk.free != NONE {
                let place = chunk.free;
                let slot = &mut chunk.slots[place as usize];
                chunk.free = slot.link();
                *slot = value;
                place
            } else if chunk.slots.len() < chunk.slots.capacity() {
                chunk.slots.push(value);
                chunk.slots.len() as u32 - 1
            } else {
                if !Self::make_room(chunk, number, &mut self.reserved) {
                    chunk.listed = false;
                    self.roomy.pop();
                }
                continue;
            };
            chunk.live += 1;
            if self.spare == Some(number) {
                self.spare = None;
            }
            self.len += 1;
            return number << BITS | place;
        }
    }

    /// The first chunk starts small and doubles, so that a small table is small; the others are whole from the start.
    #[cold]
    fn make_room(chunk: &mut Chunk<T>, number: u32, reserved: &mut usize) -> bool {
        let before = chunk.slots.capacity();
        if number != 0 || Self::CHUNK_SLOTS <= before {
            return false;
        }
        chunk.slots.reserve_exact(before);
        *reserved += chunk.slots.capacity() - before;
        true
    }

    #[cold]
    fn add_chunk(&mut self) {
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.chunks.push(Chunk { slots: Vec::new(), free: NONE, live: 0, listed: false });
            self.chunks.len() as u32 - 1
        });
        // The last number of all stays unused: it is `NONE`.
        assert!(number < u32::MAX >> BITS, "a table is full: {} slots are in use", self.len);
        let slots = if number == 0 { Self::CHUNK_SLOTS.min(4) } else { Self::CHUNK_SLOTS };
        let chunk = &mut self.chunks[number as usize];
        chunk.slots = Vec::with_capacity(slots);
        chunk.listed = true;
        self.reserved += chunk.slots.capacity();
        self.roomy.push(number);
    }

    /// Frees a slot that is in use and returns its value.
    #[inline]
    pub fn remove(&mut self, slot: u32) -> T {
        let number = slot >> BITS;
        let place = slot & (Self::CHUNK_SLOTS as u32 - 1);
        let chunk = &mut self.chunks[number as usize];
        let value = mem::take(&mut chunk.slots[place as usize]);
        chunk.slots[place as usize].set_link(chunk.free);
        chunk.free = place;
        chunk.live -= 1;
        self.len -= 1;
        if !chunk.listed {
            chunk.listed = true;
            self.roomy.push(number);
        }
        if chunk.live == 0 {
            self.chunk_emptied(number);
        } else if self.len < Self::CHUNK_SLOTS
            && let Some(spare) = self.spare.take()
        {
            self.release(spare);
        }
        value
    }

    #[cold]
    fn chunk_emptied(&mut self, number: u32) {
        // What is small anyway is kept, or a table around empty would allocate every time.
        if self.memory_bytes() <= KEPT_BYTES {
            return;
        }
        if self.spare.is_none() && Self::CHUNK_SLOTS <= self.len {
            self.spare = Some(number);
        } else {
            self.release(number);
            if self.len < Self::CHUNK_SLOTS
                && let Some(spare) = self.spare.take()
            {
                self.release(spare);
            }
        }
    }

    fn release(&mut self, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        assert_eq!(chunk.live, 0, "a chunk was released that is in use");
        self.reserved -= chunk.slots.capacity();
        chunk.slots = Vec::new();
        chunk.free = NONE;
        chunk.listed = false;
        let listed = self.roomy.iter().rposition(|roomy| *roomy == number).expect("a chunk with free slots is listed");
        self.roomy.swap_remove(listed);
        self.vacant.push(number);
        if self.len == 0 {
            // Nothing refers to any chunk: start again from nothing.
            *self = Slab::new();
        }
    }
}

/// The most values that one call of [`StepTable`] moves: those of one full page.
pub const PAGE_VALUES: usize = 512;

const BUCKET_SLOTS: usize = 12;
const BUCKETS: usize = 32;
/// Values in a page at which it splits: seven of eight slots.
const SPLIT_VALUES: u32 = (BUCKETS * BUCKET_SLOTS) as u32 / 8 * 7;
/// Values in two sibling pages at which they are joined, so that they are far from the next split.
const JOIN_VALUES: u32 = SPLIT_VALUES / 2;
/// Bits of the hash that choose the page. More would mean that the hashes are no hashes.
const DEPTH_BITS: u32 = 28;
const PAGE_CHUNK_BITS: u32 = 6;

const _: () = assert!(SPLIT_VALUES as usize <= PAGE_VALUES);
const _: () = assert!(size_of::<Bucket>() == 64);

/// One cache line. A value sits in its home bucket or, if that was full, in one after it (cyclically).
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 where the slot is free.
    tags: [u8; BUCKET_SLOTS],
    /// Values that found this bucket full and sit further on: where it is 0, a search ends.
    passed: u32,
    values: [u32; BUCKET_SLOTS],
}

#[derive(Clone, Copy, Default)]
struct Page {
    buckets: [Bucket; BUCKETS],
    len: u32,
    /// Low bits of the hash that all values of the page share; also the free list of the slab.
    depth: u32,
}

impl Slot for Page {
    fn link(&self) -> u32 {
        self.depth
    }
    fn set_link(&mut self, next: u32) {
        self.depth = next;
    }
}

/// Bit `8 i + 7` is set where byte `i` of `tags` equals the tag that `pattern` repeats; exact, no false hits.
#[inline]
fn equal_bytes(tags: u64, pattern: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let difference = tags ^ pattern;
    !(((difference & LOW) + LOW) | difference | LOW)
}

impl Bucket {
    /// One bit per slot, at `8 i + 7`: the first eight slots, then the other four.
    #[inline]
    fn matches(&self, tag: u8) -> (u64, u64) {
        let pattern = u64::from(tag) * 0x0101_0101_0101_0101;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.tags;
        let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let rest = u64::from(u32::from_le_bytes([i, j, k, l]));
        (equal_bytes(first, pattern), equal_bytes(rest, pattern) & 0xffff_ffff)
    }

    /// The first slot with this tag whose value passes.
    #[inline]
    fn position(&self, tag: u8, mut is: impl FnMut(u32) -> bool) -> Option<usize> {
        let (mut first, mut rest) = self.matches(tag);
        while first != 0 {
            let slot = first.trailing_zeros() as usize / 8;
            if is(self.values[slot]) {
                return Some(slot);
            }
            first &= first - 1;
        }
        while rest != 0 {
            let slot = 8 + rest.trailing_zeros() as usize / 8;
            if is(self.values[slot]) {
                return Some(slot);
            }
            rest &= rest - 1;
        }
        None
    }

    #[inline]
    fn put(&mut self, tag: u8, value: u32) -> bool {
        let Some(slot) = self.position(0, |_| true) else { return false };
        self.tags[slot] = tag;
        self.values[slot] = value;
        true
    }
}

impl Page {
    /// Puts a value into `bucket` or the first after it that has room.
    #[inline]
    fn put(&mut self, bucket: usize, tag: u8, value: u32) {
        let mut at = bucket;
        while !self.buckets[at].put(tag, value) {
            self.buckets[at].passed += 1;
            at = (at + 1) % BUCKETS;
        }
        self.len += 1;
    }

    fn values(&self) -> impl Iterator<Item = u32> {
        self.buckets
            .iter()
            .flat_map(|bucket| (0..BUCKET_SLOTS).filter(|slot| bucket.tags[*slot] != 0).map(|slot| bucket.values[slot]))
    }
}

/// Where a hash leads inside a page, by its upper half: the lower chooses the page.
#[inline]
fn place(hash: u64) -> (usize, u8) {
    ((hash >> 32) as usize % BUCKETS, ((hash >> 56) as u8).max(1))
}

/// A hash index of `u32` values; see the module. Hashes must be well mixed in all 64 bits.
#[derive(Default)]
pub struct StepTable {
    directory: Vec<u32>,
    /// Low bits of the hash that index the directory.
    depth: u32,
    pages: Slab<Page, PAGE_CHUNK_BITS>,
    /// Pages by how many bits of the hash their values share.
    pages_at: [u32; DEPTH_BITS as usize + 1],
    len: usize,
    moved_max: usize,
}

impl StepTable {
    /// An empty table; it owns no memory yet.
    pub const fn new() -> StepTable {
        StepTable {
            directory: Vec::new(),
            depth: 0,
            pages: Slab::new(),
            pages_at: [0; DEPTH_BITS as usize + 1],
            len: 0,
            moved_max: 0,
        }
    }

    /// Values in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table has no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.directory.capacity() * size_of::<u32>() + self.pages.memory_bytes()
    }

    /// The most values that a single call has moved so far.
    pub fn moved_max(&self) -> usize {
        self.moved_max
    }

    #[inline]
    fn page_of(&self, hash: u64) -> u32 {
        self.directory[hash as usize & (self.directory.len() - 1)]
    }

    /// The value with this hash that `is` the one.
    #[inline]
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.directory.is_empty() {
            return None;
        }
        let page = self.pages.get(self.page_of(hash));
        let (mut at, tag) = place(hash);
        for _ in 0..BUCKETS {
            let bucket = &page.buckets[at];
            if let Some(slot) = bucket.position(tag, &mut is) {
                return Some(bucket.values[slot]);
            }
            if bucket.passed == 0 {
                return None;
            }
            at = (at + 1) % BUCKETS;
        }
        None
    }

    /// Adds a value; equal ones are the caller's to prevent. `hash_of` is asked for the values of a page that splits.
    #[inline]
    pub fn insert(&mut self, hash: u64, value: u32, mut hash_of: impl FnMut(u32) -> u64) {
        if self.directory.is_empty() {
            let page = self.pages.insert(Page::default());
            self.directory.push(page);
            self.pages_at[0] = 1;
        }
        loop {
            let number = self.page_of(hash);
            let page = self.pages.get_mut(number);
            if page.len < SPLIT_VALUES {
                let (bucket, tag) = place(hash);
                page.put(bucket, tag, value);
                self.len += 1;
                return;
            }
            self.split(number, hash, &mut hash_of);
        }
    }

    /// Splits the page that `hash` leads to by the next bit of its values' hashes.
    #[cold]
    #[inline(never)]
    fn split(&mut self, number: u32, hash: u64, hash_of: &mut dyn FnMut(u32) -> u64) {
        let full = *self.pages.get(number);
        let depth = full.depth;
        assert!(depth < DEPTH_BITS, "{} values share {depth} bits of their hashes: they are not mixed", full.len);
        // All hashes first: they are independent of each other, so their cache misses overlap.
        let mut values = [(0, 0); BUCKETS * BUCKET_SLOTS];
        let mut count = 0;
        for value in full.values() {
            values[count] = (hash_of(value), value);
            count += 1;
        }
        let mut halves = [Page { depth: depth + 1, ..Page::default() }; 2];
        for (hash, value) in &values[..count] {
            let (bucket, tag) = place(*hash);
            halves[(*hash >> depth) as usize & 1].put(bucket, tag, *value);
        }
        self.moved_max = self.moved_max.max(count);
        let [low, high] = halves;
        *self.pages.get_mut(number) = low;
        let added = self.pages.insert(high);
        if depth == self.depth {
            self.directory.reserve_exact(self.directory.len());
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        self.point(hash as usize & ((1 << depth) - 1) | 1 << depth, depth + 1, added);
        self.pages_at[depth as usize] -= 1;
        self.pages_at[depth as usize + 1] += 2;
    }

    /// Makes every entry of the directory whose low `depth` bits are `first` name `page`.
    fn point(&mut self, first: usize, depth: u32, page: u32) {
        for entry in self.directory[first..].iter_mut().step_by(1 << depth) {
            *entry = page;
        }
    }

    /// Removes the value with this hash that `is` the one.
    #[inline]
    pub fn remove(&mut self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.directory.is_empty() {
            return None;
        }
        let number = self.page_of(hash);
        let page = self.pages.get_mut(number);
        let (home, tag) = place(hash);
        let mut at = home;
        for _ in 0..BUCKETS {
            let bucket = &mut page.buckets[at];
            if let Some(slot) = bucket.position(tag, &mut is) {
                let value = bucket.values[slot];
                bucket.tags[slot] = 0;
                let mut passed = home;
                while passed != at {
                    page.buckets[passed].passed -= 1;
                    passed = (passed + 1) % BUCKETS;
                }
                page.len -= 1;
                self.len -= 1;
                if page.len <= JOIN_VALUES / 2 {
                    self.join(hash);
                }
                return Some(value);
            }
            if bucket.passed == 0 {
                return None;
            }
            at = (at + 1) % BUCKETS;
        }
        None
    }

    /// Joins the page that `hash` leads to with its sibling, while the two are sparse.
    #[cold]
    #[inline(never)]
    fn join(&mut self, hash: u64) {
        let mut moved = 0;
        loop {
            let number = self.page_of(hash);
            let page = self.pages.get(number);
            let depth = page.depth;
            if depth == 0 {
                break;
            }
            let sibling_number = self.page_of(hash ^ 1 << (depth - 1));
            let sibling = self.pages.get(sibling_number);
            if sibling.depth != depth || JOIN_VALUES < page.len + sibling.len {
                break;
            }
            let (kept, gone) = if page.len < sibling.len { (sibling_number, number) } else { (number, sibling_number) };
            // A value stays in the bucket it is in, home or not, and takes along what it counts for in the buckets it
            // passed: so its home need not be known.
            let source = self.pages.get(gone);
            let mut joined = *self.pages.get(kept);
            for (at, bucket) in source.buckets.iter().enumerate() {
                joined.buckets[at].passed += bucket.passed;
                for slot in (0..BUCKET_SLOTS).filter(|slot| bucket.tags[*slot] != 0) {
                    joined.put(at, bucket.tags[slot], bucket.values[slot]);
                }
            }
            // Unless a value came round to its home, and would count everywhere for ever. Then it passed every bucket,
            // which takes hashes that hardly differ: such pages stay two until they are emptier.
            if joined.buckets.iter().all(|bucket| bucket.passed != 0) {
                break;
            }
            moved += source.len as usize;
            joined.depth = depth - 1;
            *self.pages.get_mut(kept) = joined;
            self.pages.remove(gone);
            self.point(hash as usize & ((1 << (depth - 1)) - 1), depth - 1, kept);
            self.pages_at[depth as usize] -= 2;
            self.pages_at[depth as usize - 1] += 1;
            while 0 < self.depth && self.pages_at[self.depth as usize] == 0 {
                self.depth -= 1;
                // Both halves of the directory name the same pages now.
                self.directory.truncate(1 << self.depth);
            }
        }
        if self.directory.len() * 4 <= self.directory.capacity() {
            self.directory.shrink_to(self.directory.len() * 2);
        }
        self.moved_max = self.moved_max.max(moved);
    }

    /// Every value, in no order that means anything.
    pub fn values(&self) -> impl Iterator<Item = u32> {
        // A page is named by several entries; the first of them is the one whose index fits in the page's own bits.
        self.directory.iter().enumerate().flat_map(|(index, number)| {
            let page = self.pages.get(*number);
            let first = index >> page.depth == 0;
            page.values().filter(move |_| first)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A mixed hash of a small number (splitmix64).
    fn mix(key: u32) -> u64 {
        let mut hash = u64::from(key).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ hash >> 31
    }

    /// The page structure: every value is found, counters are true, the directory is as small as it can be.
    fn check(table: &StepTable, hash_of: impl Fn(u32) -> u64) {
        let mut deepest = 0;
        let mut values = 0;
        for (index, number) in table.directory.iter().enumerate() {
            let page = table.pages.get(*number);
            assert_eq!(table.directory[index & ((1 << page.depth) - 1)], *number, "entries of one page agree");
            if index >> page.depth != 0 {
                continue;
            }
            deepest = deepest.max(page.depth);
            values += page.len as usize;
            let mut passed = [0; BUCKETS];
            let mut len = 0;
            for (at, bucket) in page.buckets.iter().enumerate() {
                for slot in (0..BUCKET_SLOTS).filter(|slot| bucket.tags[*slot] != 0) {
                    let hash = hash_of(bucket.values[slot]);
                    assert_eq!(hash as usize & ((1 << page.depth) - 1), index, "a value is in the page of its hash");
                    let (mut home, tag) = place(hash);
                    assert_eq!(bucket.tags[slot], tag);
                    while home != at {
                        passed[home] += 1;
                        home = (home + 1) % BUCKETS;
                    }
                    len += 1;
                }
            }
            assert_eq!(page.len, len);
            assert_eq!(page.buckets.map(|bucket| bucket.passed), passed);
        }
        assert_eq!(values, table.len());
        assert_eq!(deepest, table.depth);
        assert!(table.directory.is_empty() || table.directory.len() == 1 << table.depth);
    }

    #[test]
    fn values_are_found_in_a_table_that_grew_and_memory_is_given_back() {
        let mut table = StepTable::new();
        let count = 200_000;
        for key in 0..count {
            table.insert(mix(key), key, mix);
        }
        check(&table, mix);
        let full = table.memory_bytes();
        assert!(full <= 13 * count as usize, "{full} bytes for {count} values");
        for key in 0..count {
            assert_eq!(table.find(mix(key), |value| value == key), Some(key));
            assert_eq!(table.find(mix(count + key), |value| value == count + key), None);
        }
        // Every third stays: the structure shrinks around those.
        for key in (0..count).filter(|key| key % 3 != 0) {
            assert_eq!(table.remove(mix(key), |value| value == key), Some(key));
            assert_eq!(table.remove(mix(key), |value| value == key), None);
        }
        check(&table, mix);
        for key in 0..count {
            let expected = (key % 3 == 0).then_some(key);
            assert_eq!(table.find(mix(key), |value| value == key), expected);
        }
        for key in (0..count).filter(|key| key % 3 == 0) {
            assert_eq!(table.remove(mix(key), |value| value == key), Some(key));
        }
        check(&table, mix);
        assert_eq!((table.len(), table.depth), (0, 0));
        let left = table.memory_bytes();
        assert!(left <= full / 8 && left <= (3 << PAGE_CHUNK_BITS) * size_of::<Page>(), "{left} bytes left of {full}");
        assert!(table.moved_max() <= PAGE_VALUES, "{} values moved at once", table.moved_max());
    }

    /// Values of one page that share their home bucket overflow into the others, and find their way back.
    #[test]
    fn values_with_one_home_are_all_found() {
        let one_home = |key: u32| u64::from(key) | 7 << 32 | 9 << 56;
        let mut table = StepTable::new();
        for key in 0..5000 {
            table.insert(one_home(key), key, one_home);
        }
        check(&table, one_home);
        for key in (0..5000).step_by(2) {
            assert_eq!(table.remove(one_home(key), |value| value == key), Some(key));
        }
        check(&table, one_home);
        for key in 0..5000 {
            assert_eq!(table.find(one_home(key), |value| value == key).is_some(), key % 2 == 1);
        }
    }

    #[test]
    #[should_panic(expected = "they are not mixed")]
    fn hashes_that_are_none_are_refused() {
        let mut table = StepTable::new();
        for key in 0..500 {
            table.insert(1, key, |_| 1);
        }
    }

    fn pick_key(model: &BTreeMap<u32, u64>, pick: usize) -> Option<u32> {
        model.keys().nth(pick % model.len().max(1)).copied()
    }

    #[derive(Default)]
    struct Number {
        value: u64,
        next: u32,
    }

    impl Slot for Number {
        fn link(&self) -> u32 {
            self.next
        }
        fn set_link(&mut self, next: u32) {
            self.next = next;
        }
    }

    #[test]
    fn slab_around_the_edge_of_a_chunk_keeps_its_memory() {
        let mut slab = Slab::<Number, 9>::new();
        for value in 0..1024 {
            slab.insert(Number { value, next: 0 });
        }
        let added = slab.insert(Number::default());
        let memory = slab.memory_bytes();
        for _ in 0..3 {
            slab.remove(added);
            assert_eq!(slab.memory_bytes(), memory);
            assert_eq!(slab.insert(Number::default()), added);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a map, through phases of growth and decline; keys repeat, so values with equal hashes meet too, though
        /// never a page full of them.
        #[test]
        fn table_agrees_with_a_map(
            phases in prop::collection::vec((0..4000_usize, 0..4000_usize, 100..3000_u32, any::<u64>()), 1..5),
        ) {
            let mut table = StepTable::new();
            // Values are places in this list of keys.
            let mut keys: Vec<u32> = Vec::new();
            let mut model: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for (inserts, removals, range, seed) in phases {
                for at in 0..inserts {
                    let key = (mix(at as u32) ^ seed) as u32 % range;
                    let value = keys.len() as u32;
                    keys.push(key);
                    table.insert(mix(key), value, |value| mix(keys[value as usize]));
                    model.entry(key).or_default().push(value);
                }
                for at in 0..removals {
                    let key = (mix(at as u32 ^ 0x5555) ^ seed) as u32 % range;
                    let expected = model.get_mut(&key).and_then(Vec::pop);
                    let removed = table.remove(mix(key), |value| Some(value) == expected);
                    prop_assert_eq!(removed, expected);
                }
                check(&table, |value| mix(keys[value as usize]));
                let mut expected: Vec<u32> = model.values().flatten().copied().collect();
                let mut found: Vec<u32> = table.values().collect();
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }

        /// Against a map: what is stored stays in its slot, and an empty slab holds next to nothing.
        #[test]
        fn slab_agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), any::<u16>(), 1..200_u32), 1..60)) {
            let mut slab = Slab::<Number, 5>::new();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut next = 0;
            for (grow, pick, count) in steps {
                for at in 0..count {
                    if grow {
                        next += 1;
                        let slot = slab.insert(Number { value: next, next: 0 });
                        prop_assert_eq!(model.insert(slot, next), None, "slot {} was in use", slot);
                    } else if let Some(slot) = pick_key(&model, pick as usize + at as usize) {
                        prop_assert_eq!(Some(slab.remove(slot).value), model.remove(&slot));
                    }
                }
                prop_assert_eq!(slab.len(), model.len());
                for (slot, value) in &model {
                    prop_assert_eq!(slab.get(*slot).value, *value);
                }
            }
            for slot in model.keys() {
                slab.remove(*slot);
            }
            prop_assert!(slab.is_empty());
            prop_assert!(slab.memory_bytes() <= 2 * KEPT_BYTES, "{} bytes left", slab.memory_bytes());
        }
    }
}
