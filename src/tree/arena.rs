//! Names and data of znodes, packed.
//!
//! A blob is one znode's name and data in one piece:
//!
//! ```text
//! name bytes  1 + data bytes, 0 for null  name  data        (both lengths as LEB128: seven bits a byte, low first)
//! ```
//!
//! Where the data is that of a lower layer, only its length is here.
//!
//! Guarantees: a blob that is replaced by one of the same size class stays where it is and costs no allocator call; a
//! free slot is reused before a chunk is added; a chunk whose blobs are all gone goes back to the allocator.
//!
//! Sizes are rounded up to a class: steps of 16 bytes to 1 KiB, then eight classes to each doubling, to 64 KiB. Each
//! class has chunks of its own, the first of 16 KiB, doubling to 2 MiB. What is larger than 64 KiB is allocated singly.
//!
//! A blob is named by 32 bits: the highest tells the two kinds apart; then either a chunk (14) and a place in units of
//! 16 bytes (17), or the number of a large one. So at most 32 GiB of small blobs fit.

use std::str;

use crate::table::{NONE, Slab, Slot};

const UNIT_BYTES: usize = 16;
const UNIT_BITS: u32 = 17;
const CHUNK_BYTES: usize = UNIT_BYTES << UNIT_BITS;
const FIRST_CHUNK_BYTES: usize = 16 << 10;
const CHUNK_NUMBERS: usize = 1 << (31 - UNIT_BITS);
const LARGE: u32 = 1 << 31;

/// Up to here classes are one unit apart.
const FINE_BYTES: usize = 1 << 10;
const FINE_CLASSES: usize = FINE_BYTES / UNIT_BYTES;
/// The largest blob that lives in a chunk.
const SMALL_BYTES: usize = 64 << 10;
const CLASSES: usize = FINE_CLASSES + 8 * (SMALL_BYTES / FINE_BYTES).ilog2() as usize;
/// Large blobs are rounded up to whole pages of memory.
const LARGE_STEP_BYTES: usize = 4 << 10;

#[inline]
fn class_of(bytes: usize) -> usize {
    if bytes <= FINE_BYTES {
        return (bytes - 1) / UNIT_BYTES;
    }
    let last = bytes - 1;
    let doubling = last.ilog2();
    FINE_CLASSES + 8 * (doubling - FINE_BYTES.ilog2()) as usize + ((last >> (doubling - 3)) & 7)
}

#[inline]
fn class_bytes(class: usize) -> usize {
    if class < FINE_CLASSES {
        return (class + 1) * UNIT_BYTES;
    }
    let coarse = class - FINE_CLASSES;
    let doubling = FINE_BYTES.ilog2() as usize + coarse / 8;
    (9 + coarse % 8) << (doubling - 3)
}

/// One znode's name and the length of its data; and what follows them.
#[derive(Clone, Copy)]
pub(super) struct Blob<'t> {
    name: &'t [u8],
    /// 1 + bytes, 0 for null.
    length: usize,
    rest: &'t [u8],
}

impl<'t> Blob<'t> {
    #[inline]
    pub fn name_bytes(&self) -> &'t [u8] {
        self.name
    }

    #[inline]
    pub fn name(&self) -> &'t str {
        str::from_utf8(self.name).expect("a name was text when it was stored")
    }

    #[inline]
    pub fn data_bytes(&self) -> usize {
        self.length.saturating_sub(1)
    }

    #[inline]
    pub fn is_null(&self) -> bool {
        self.length == 0
    }

    /// The data, where it is not that of a lower layer.
    #[inline]
    pub fn data(&self) -> Option<&'t [u8]> {
        self.length.checked_sub(1).map(|bytes| &self.rest[..bytes])
    }
}

#[inline]
fn length_bytes(length: usize) -> usize {
    (length | 1).ilog2() as usize / 7 + 1
}

#[inline]
fn put_length(out: &mut [u8], at: &mut usize, mut length: usize) {
    while 0x80 <= length {
        out[*at] = length as u8 | 0x80;
        *at += 1;
        length >>= 7;
    }
    out[*at] = length as u8;
    *at += 1;
}

#[inline]
fn take_length(bytes: &[u8], at: &mut usize) -> usize {
    let mut length = 0;
    let mut shift = 0;
    loop {
        let byte = bytes[*at];
        *at += 1;
        length |= ((byte & 0x7f) as usize) << shift;
        if byte < 0x80 {
            return length;
        }
        shift += 7;
    }
}

/// The data of a blob.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    /// 1 + bytes, 0 for null.
    length: usize,
    /// All of it; nothing where it is that of a lower layer.
    stored: &'a [u8],
}

impl Content<'_> {
    /// Data of a lower layer, of this length.
    #[inline]
    pub fn lower(bytes: u32, is_null: bool) -> Content<'static> {
        Content { length: if is_null { 0 } else { bytes as usize + 1 }, stored: &[] }
    }
}

impl<'a> From<Option<&'a [u8]>> for Content<'a> {
    #[inline]
    fn from(data: Option<&'a [u8]>) -> Content<'a> {
        match data {
            None => Content { length: 0, stored: &[] },
            Some(data) => Content { length: data.len() + 1, stored: data },
        }
    }
}

#[inline]
fn blob_bytes(name: &str, data: Content<'_>) -> usize {
    length_bytes(name.len()) + length_bytes(data.length) + name.len() + data.stored.len()
}

#[inline]
fn write(out: &mut [u8], name: &str, data: Content<'_>) {
    let mut at = 0;
    put_length(out, &mut at, name.len());
    put_length(out, &mut at, data.length);
    out[at..at + name.len()].copy_from_slice(name.as_bytes());
    at += name.len();
    out[at..at + data.stored.len()].copy_from_slice(data.stored);
}

/// Where a small blob starts in its chunk.
#[inline]
fn start_of(blob: u32) -> usize {
    (blob as usize & ((1 << UNIT_BITS) - 1)) * UNIT_BYTES
}

/// A piece of memory for blobs of one class.
struct Chunk {
    bytes: Vec<u8>,
    class: u32,
    /// Slots that fit.
    slots: u32,
    /// Slots handed out at least once: those behind them were never touched.
    used: u32,
    live: u32,
    /// The first free slot among the used ones; each holds the number of the next.
    free: u32,
    listed: bool,
}

#[derive(Default)]
struct Class {
    /// Chunks with a free slot; the last is used first.
    roomy: Vec<u32>,
    chunks: u32,
    live: usize,
    /// An empty chunk that is kept while the class is well filled, as in a [`Slab`].
    spare: Option<u32>,
}

#[derive(Default)]
struct LargeBlob {
    bytes: Box<[u8]>,
    next: u32,
}

impl Slot for LargeBlob {
    fn link(&self) -> u32 {
        self.next
    }
    fn set_link(&mut self, next: u32) {
        self.next = next;
    }
}

/// The blobs of a tree.
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// Numbers of chunks without memory.
    vacant: Vec<u32>,
    classes: Box<[Class]>,
    large: Slab<LargeBlob, 10>,
    /// Memory of chunks and of large blobs.
    reserved: usize,
}

impl Arena {
    pub fn new() -> Arena {
        let classes = (0..CLASSES).map(|_| Class::default()).collect();
        Arena { chunks: Vec::new(), vacant: Vec::new(), classes, large: Slab::new(), reserved: 0 }
    }

    pub fn memory_bytes(&self) -> usize {
        let roomy: usize = self.classes.iter().map(|class| class.roomy.capacity()).sum();
        self.reserved
            + self.large.memory_bytes()
            + self.chunks.capacity() * size_of::<Chunk>()
            + size_of_val(&*self.classes)
            + (self.vacant.capacity() + roomy) * size_of::<u32>()
    }

    #[inline]
    fn bytes(&self, blob: u32) -> &[u8] {
        if blob & LARGE != 0 {
            return &self.large.get(blob & !LARGE).bytes;
        }
        &self.chunks[(blob >> UNIT_BITS) as usize].bytes[start_of(blob)..]
    }

    #[inline]
    pub fn get(&self, blob: u32) -> Blob<'_> {
        let bytes = self.bytes(blob);
        let mut at = 0;
        let name_bytes = take_length(bytes, &mut at);
        let length = take_length(bytes, &mut at);
        let (name, rest) = bytes[at..].split_at(name_bytes);
        Blob { name, length, rest }
    }

    #[inline]
    pub fn insert(&mut self, name: &str, data: Content<'_>) -> u32 {
        let bytes = blob_bytes(name, data);
        if SMALL_BYTES < bytes {
            return self.insert_large(bytes, name, data);
        }
        let class = class_of(bytes);
        let number = match self.classes[class].roomy.last() {
            Some(number) => *number,
            None => self.add_chunk(class),
        };
        let slot_bytes = class_bytes(class);
        let in_class = &mut self.classes[class];
        let chunk = &mut self.chunks[number as usize];
        let slot = if chunk.free == NONE {
            chunk.used += 1;
            chunk.used - 1
        } else {
            let slot = chunk.free;
            let next = chunk.bytes[slot as usize * slot_bytes..].first_chunk().expect("a slot has room for a number");
            chunk.free = u32::from_le_bytes(*next);
            slot
        };
        let start = slot as usize * slot_bytes;
        write(&mut chunk.bytes[start..start + slot_bytes], name, data);
        chunk.live += 1;
        in_class.live += 1;
        if chunk.live == chunk.slots {
            chunk.listed = false;
            in_class.roomy.pop();
        }
        if in_class.spare == Some(number) {
            in_class.spare = None;
        }
        number << UNIT_BITS | (start / UNIT_BYTES) as u32
    }

    #[cold]
    fn insert_large(&mut self, bytes: usize, name: &str, data: Content<'_>) -> u32 {
        let mut large = vec![0; bytes.next_multiple_of(LARGE_STEP_BYTES)].into_boxed_slice();
        write(&mut large, name, data);
        self.reserved += large.len();
        let number = self.large.insert(LargeBlob { bytes: large, next: NONE });
        assert!(number & LARGE == 0, "more than {LARGE} large blobs");
        number | LARGE
    }

    #[cold]
    fn add_chunk(&mut self, class: usize) -> u32 {
        let in_class = &mut self.classes[class];
        let slot_bytes = class_bytes(class);
        let doublings = in_class.chunks.min((CHUNK_BYTES / FIRST_CHUNK_BYTES).ilog2());
        let slots = ((FIRST_CHUNK_BYTES << doublings) / slot_bytes).max(1);
        let chunk = Chunk {
            bytes: vec![0; slots * slot_bytes],
            class: class as u32,
            slots: slots as u32,
            used: 0,
            live: 0,
            free: NONE,
            listed: true,
        };
        self.reserved += chunk.bytes.len();
        in_class.chunks += 1;
        let number = match self.vacant.pop() {
            Some(number) => {
                self.chunks[number as usize] = chunk;
                number
            }
            None => {
                assert!(self.chunks.len() < CHUNK_NUMBERS, "names and data of the znodes fill {CHUNK_NUMBERS} chunks");
                self.chunks.push(chunk);
                self.chunks.len() as u32 - 1
            }
        };
        in_class.roomy.push(number);
        number
    }

    /// Puts other data (and the same name) into a blob; the blob moves if it changes its size class.
    #[inline]
    pub fn replace(&mut self, blob: u32, name: &str, data: Content<'_>) -> u32 {
        let bytes = blob_bytes(name, data);
        if blob & LARGE != 0 {
            let large = self.large.get_mut(blob & !LARGE);
            if SMALL_BYTES < bytes && bytes.next_multiple_of(LARGE_STEP_BYTES) == large.bytes.len() {
                write(&mut large.bytes, name, data);
                return blob;
            }
        } else if bytes <= SMALL_BYTES {
            let class = class_of(bytes);
            let chunk = &mut self.chunks[(blob >> UNIT_BITS) as usize];
            if class as u32 == chunk.class {
                let start = start_of(blob);
                write(&mut chunk.bytes[start..start + class_bytes(class)], name, data);
                return blob;
            }
        }
        self.remove(blob);
        self.insert(name, data)
    }

    #[inline]
    pub fn remove(&mut self, blob: u32) {
        if blob & LARGE != 0 {
            self.reserved -= self.large.remove(blob & !LARGE).bytes.len();
            return;
        }
        let number = blob >> UNIT_BITS;
        let start = start_of(blob);
        let chunk = &mut self.chunks[number as usize];
        let class = chunk.class as usize;
        chunk.bytes[start..start + 4].copy_from_slice(&chunk.free.to_le_bytes());
        chunk.free = (start / class_bytes(class)) as u32;
        chunk.live -= 1;
        let in_class = &mut self.classes[class];
        in_class.live -= 1;
        if !chunk.listed {
            chunk.listed = true;
            in_class.roomy.push(number);
        }
        if chunk.live == 0 {
            // It becomes the spare one, and the spare one is looked at below.
            if let Some(other) = in_class.spare.replace(number) {
                self.release(other);
            }
        }
        self.trim(class);
    }

    /// Lets the spare chunk go unless it is small, or at most half of what its class holds.
    #[inline]
    fn trim(&mut self, class: usize) {
        let in_class = &mut self.classes[class];
        let Some(number) = in_class.spare else { return };
        let chunk = &self.chunks[number as usize];
        let is_small = chunk.bytes.len() <= FIRST_CHUNK_BYTES;
        if !is_small && in_class.live < chunk.slots as usize {
            in_class.spare = None;
            self.release(number);
        }
    }

    #[cold]
    fn release(&mut self, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        assert_eq!(chunk.live, 0, "a chunk was released that is in use");
        self.reserved -= chunk.bytes.len();
        chunk.bytes = Vec::new();
        chunk.listed = false;
        let class = &mut self.classes[chunk.class as usize];
        let listed = class.roomy.iter().rposition(|roomy| *roomy == number).expect("a chunk with free slots is listed");
        class.roomy.swap_remove(listed);
        class.chunks -= 1;
        self.vacant.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class_that_holds_it() {
        assert_eq!(class_bytes(CLASSES - 1), SMALL_BYTES);
        for bytes in 1..=SMALL_BYTES {
            let class = class_of(bytes);
            assert!(bytes <= class_bytes(class), "{bytes} bytes do not fit class {class}");
            assert!(class == 0 || class_bytes(class - 1) < bytes, "{bytes} bytes would fit below class {class}");
            assert!(class_bytes(class).is_multiple_of(UNIT_BYTES));
        }
    }

    #[test]
    fn blobs_of_every_size_keep_their_bytes_and_give_their_memory_back() {
        let mut arena = Arena::new();
        let baseline = arena.memory_bytes();
        let data: Vec<u8> = (0..300_001_u32).map(|at| (at * 7 + at / 251) as u8).collect();
        let sizes = [0, 1, 12, 100, 127, 128, 1000, 1008, 1009, 16_383, 65_000, 65_536, 70_000, 300_000];
        let mut blobs = Vec::new();
        for round in 0..40 {
            for size in sizes {
                let name = "n".repeat(1 + round * 7);
                blobs.push((arena.insert(&name, Some(&data[..size]).into()), name.clone(), Some(size)));
                blobs.push((arena.insert(&name, None::<&[u8]>.into()), name, None));
            }
        }
        let check = |arena: &Arena, blob: u32, name: &str, size: Option<usize>| {
            let found = arena.get(blob);
            assert_eq!((found.name(), found.data()), (name, size.map(|size| &data[..size])));
        };
        for (blob, name, size) in &blobs {
            check(&arena, *blob, name, *size);
        }
        // A third of them changes to another size, the others to another content of the same size and back.
        for (at, (blob, name, size)) in blobs.iter_mut().enumerate() {
            if at % 3 == 0 {
                *size = Some(sizes[at * 5 % sizes.len()]);
                *blob = arena.replace(*blob, name, size.map(|size| &data[..size]).into());
            } else if let Some(size) = *size {
                let before = *blob;
                *blob = arena.replace(*blob, name, Some(&data[1..=size]).into());
                assert_eq!(*blob, before, "same size, same place");
                assert_eq!(arena.get(*blob).data(), Some(&data[1..=size]));
                *blob = arena.replace(*blob, name, Some(&data[..size]).into());
            }
        }
        for (blob, name, size) in blobs.drain(..) {
            check(&arena, blob, &name, size);
            arena.remove(blob);
        }
        // One small chunk may stay with each class that was used.
        let left = arena.memory_bytes() - baseline;
        assert!(left <= CLASSES * FIRST_CHUNK_BYTES, "{left} bytes left");
        assert!(arena.large.is_empty() && arena.classes.iter().all(|class| class.live == 0));
    }

    #[test]
    fn adding_and_removing_at_the_edge_of_a_chunk_keeps_the_chunk() {
        let mut arena = Arena::new();
        let data = Some(&[1; 100][..]);
        let class = class_of(blob_bytes("name", data.into()));
        let mut blobs = 0;
        // The next one needs a new chunk.
        while blobs < 20_000 || !arena.classes[class].roomy.is_empty() {
            arena.insert("name", data.into());
            blobs += 1;
        }
        let blob = arena.insert("name", data.into());
        let reserved = arena.reserved;
        for _ in 0..3 {
            arena.remove(blob);
            assert_eq!(arena.reserved, reserved, "the chunk stays for the next blob");
            assert_eq!(arena.insert("name", data.into()), blob);
        }
    }
}
