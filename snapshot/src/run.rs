//! A run that is mapped.
//!
//! Nothing here touches a block that was not brought in and verified: it says [`Cold`] instead, and the caller lets
//! [`Run::bring_in`] wait for the disk where waiting is allowed. A block that contradicts itself behind a good
//! checksum is cold as well, and bringing it in says what is wrong with it.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use zorilla_proto::ids::{SessionId, Zxid};

use crate::entry::{Entry, Value, What};
use crate::error::Fault;
use crate::layout::{
    BUCKET_BYTES, FOOTER_BYTES, Footer, GROUP, GROUP_END, HEADER_BYTES, Header, KIND_ABSENT, KIND_CHANGED,
    KIND_CREATED, SLOT_BYTES, SLOTS, SPILLED, VALUE_LOWER, VALUE_NULL, VALUE_PACKED, VALUE_PLAIN, unzigzag,
};
use crate::limits::{BLOCK_BYTES, PATH_BYTES_MAX, VALUE_BYTES_MAX};
use crate::map::Map;
use crate::meta::Meta;
use crate::version::NodeVersion;
use crate::writer::home;
use crate::{RunId, group_hash};

/// A block must be brought in first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cold {
    /// Its number in the file.
    pub block: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    map: Map,
    header: Header,
    footer: Footer,
    meta: Meta,
    crcs: Box<[u32]>,
    /// For each block: 0, or the epoch when it was brought in.
    stamps: Box<[AtomicU32]>,
    /// Stamps below it are cold.
    oldest: AtomicU32,
    epoch: AtomicU32,
    /// What a block says that cannot be.
    wrong: OnceLock<Fault>,
    brought: AtomicU64,
}

impl Run {
    /// Maps a file and verifies what it says of itself: header, footer, table of checksums, meta. No block of entries is
    /// read.
    ///
    /// # Errors
    /// It cannot be read, or it is no whole run of this number.
    pub fn open(directory: &Path, run: RunId) -> Result<Run, Fault> {
        use std::os::unix::fs::FileExt;
        let path = directory.join(run.file_name());
        let io = |offset: u64, op: &'static str| {
            let path = path.clone();
            move |error: std::io::Error| Fault::io(&path, offset, op, &error)
        };
        let file = File::open(&path).map_err(io(0, "open"))?;
        let bytes = file.metadata().map_err(io(0, "look at"))?.len();
        check_length(&path, bytes)?;
        let read = |range: Range<u64>| -> Result<Vec<u8>, Fault> {
            let mut into = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut into, range.start).map_err(io(range.start, "read"))?;
            Ok(into)
        };
        let parts = Parts::read(&path, run, bytes, &read)?;
        let map = Map::open(&file, &path).map_err(io(0, "map"))?;
        if map.bytes().len() as u64 != bytes {
            return Err(Fault::new(&path, bytes, format!("expected {bytes} bytes, mapped {}", map.bytes().len())));
        }
        Ok(Run::build(path, map, parts))
    }

    /// The same from bytes in memory; `path` is for messages.
    ///
    /// # Errors
    /// It is no whole run of this number.
    pub fn from_bytes(path: &Path, run: RunId, bytes: Vec<u8>) -> Result<Run, Fault> {
        let length = bytes.len() as u64;
        check_length(path, length)?;
        let read = |range: Range<u64>| Ok(bytes[range.start as usize..range.end as usize].to_vec());
        let parts = Parts::read(path, run, length, &read)?;
        Ok(Run::build(path.to_owned(), Map::Memory(bytes), parts))
    }

    fn build(path: PathBuf, map: Map, parts: Parts) -> Run {
        let Parts { header, footer, meta, crcs } = parts;
        let stamps = crcs.iter().map(|_| AtomicU32::new(0)).collect();
        Run {
            path,
            map,
            header,
            footer,
            meta,
            crcs,
            stamps,
            oldest: AtomicU32::new(1),
            epoch: AtomicU32::new(1),
            wrong: OnceLock::new(),
            brought: AtomicU64::new(0),
        }
    }

    /// Its number.
    pub fn id(&self) -> RunId {
        RunId(self.header.run)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What holds for the whole state at its zxid.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The seed of the hashes it is looked up by.
    pub fn seed(&self) -> u64 {
        self.header.seed
    }

    /// The store it belongs to.
    pub fn store(&self) -> u128 {
        self.header.store
    }

    /// Random, tells it from every other run.
    pub fn identity(&self) -> u64 {
        self.header.identity
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.footer.bytes
    }

    /// How many entries it has, absent ones included.
    pub fn entries_count(&self) -> u64 {
        self.footer.entries
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> u32 {
        self.crcs.len() as u32
    }

    /// Blocks that were brought in so far, some perhaps more than once.
    pub fn brought_in(&self) -> u64 {
        self.brought.load(Ordering::Relaxed)
    }

    /// Says what time it is to the kernel's memory: blocks brought in before `oldest` may have been evicted and are cold again,
    /// whether they were used since or not. `(1, 1)`: there is memory enough for all.
    pub fn set_epoch(&self, epoch: u32, oldest: u32) {
        self.epoch.store(epoch.max(1), Ordering::Relaxed);
        self.oldest.store(oldest.max(1), Ordering::Relaxed);
    }

    #[inline]
    fn ready(&self, block: usize) -> bool {
        // A place beyond the blocks can only come from bytes that contradict themselves.
        let Some(stamp) = self.stamps.get(block) else { return false };
        // A use does not renew it: it touches a page or two, and the kernel evicts the others one by one.
        self.oldest.load(Ordering::Relaxed) <= stamp.load(Ordering::Acquire)
    }

    /// Whether a block is in memory, as far as is known.
    pub fn is_in(&self, cold: Cold) -> bool {
        self.ready(cold.block as usize)
    }

    fn block_range(&self, block: u32) -> Range<usize> {
        let begin = block as usize * BLOCK_BYTES;
        begin..(begin + BLOCK_BYTES).min(self.footer.table as usize)
    }

    /// Brings a block into memory and verifies it. Waits for the disk: never under the gate.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn bring_in(&self, cold: Cold) -> Result<(), Fault> {
        if let Some(fault) = self.wrong.get() {
            return Err(fault.clone());
        }
        let Some(expected) = self.crcs.get(cold.block as usize) else {
            let at = u64::from(cold.block) * BLOCK_BYTES as u64;
            return Err(Fault::new(&self.path, at, format!("expected one of {} blocks", self.crcs.len())));
        };
        let range = self.block_range(cold.block);
        let at = range.start as u64;
        // Populating works on whole pages; a block begins on one.
        self.map.bring_in(range.clone()).map_err(|error| Fault::io(&self.path, at, "read", &error))?;
        let found = crc32c::crc32c(&self.map.bytes()[range]);
        if found != *expected {
            let what = format!("expected a block with the checksum {expected:#010x}, found {found:#010x}");
            return Err(Fault::new(&self.path, at, what));
        }
        self.brought.fetch_add(1, Ordering::Relaxed);
        self.stamps[cold.block as usize].store(self.epoch.load(Ordering::Relaxed), Ordering::Release);
        Ok(())
    }

    /// Does something as often as it takes, bringing in what it needs. Waits for the disk.
    ///
    /// # Errors
    /// What is needed cannot be read, or is damaged.
    pub fn warm<T>(&self, mut what: impl FnMut() -> Result<T, Cold>) -> Result<T, Fault> {
        loop {
            match what() {
                Ok(done) => return Ok(done),
                Err(cold) => self.bring_in(cold)?,
            }
        }
    }

    /// Brings in and verifies every block.
    ///
    /// # Errors
    /// The first one that cannot be read or is damaged.
    pub fn verify(&self) -> Result<(), Fault> {
        (0..self.blocks()).try_for_each(|block| self.bring_in(Cold { block }))
    }

    /// Something that cannot be behind a good checksum.
    #[cold]
    fn wrong(&self, at: u64, what: &str) -> Cold {
        let _ = self.wrong.set(Fault::new(&self.path, at, what.to_owned()));
        Cold { block: (at / BLOCK_BYTES as u64) as u32 }
    }

    /// What the run says of a path; `hash` is its [`crate::path_hash`].
    ///
    /// # Errors
    /// A block is cold.
    #[inline]
    pub fn find(&self, path: &str, hash: u64) -> Result<Option<EntryRef<'_>>, Cold> {
        self.look(hash, |place| {
            let entry = self.entry(place)?;
            Ok(entry.is_at(path).then_some(entry))
        })
    }

    /// The children that the run says something of, in the order of their names. `None`: none.
    ///
    /// # Errors
    /// A block is cold.
    pub fn children(&self, parent: &str, hash: u64) -> Result<Option<Children<'_>>, Cold> {
        let begin = self.look(group_hash(hash), |place| {
            let mut cursor = Cursor::new(self, place);
            if cursor.byte()? != GROUP {
                return Ok(None);
            }
            let group = cursor.group(place)?;
            Ok((group.parent == parent).then_some((group, cursor.at())))
        })?;
        Ok(begin.map(|(group, at)| Children { run: self, group, at }))
    }

    /// The listing of a parent from a place on that [`Children::place`] gave, of this parent in this run: any other place looks
    /// like damage, and a run that is damaged stays so.
    ///
    /// # Errors
    /// A block is cold.
    pub fn children_from(&self, parent: &str, hash: u64, place: u64) -> Result<Option<Children<'_>>, Cold> {
        Ok(self.children(parent, hash)?.map(|children| Children { at: place, ..children }))
    }

    /// Goes through the places that the index gives for a hash.
    #[inline]
    fn look<T>(&self, hash: u64, mut is: impl FnMut(u64) -> Result<Option<T>, Cold>) -> Result<Option<T>, Cold> {
        let mut bucket = home(hash, self.footer.buckets);
        while bucket < self.footer.buckets {
            let at = (self.footer.index + bucket * BUCKET_BYTES as u64) as usize;
            // Buckets never cross a block: both are powers of two and the index begins at a multiple.
            let block = at / BLOCK_BYTES;
            if !self.ready(block) {
                return Err(Cold { block: block as u32 });
            }
            let bytes: &[u8; BUCKET_BYTES] = self.map.bytes()[at..at + BUCKET_BYTES].try_into().expect("a bucket");
            let last = bytes[BUCKET_BYTES - 1];
            let used = (last & !SPILLED) as usize;
            if SLOTS < used {
                return Err(self.wrong(at as u64, "a bucket of the index with more slots than it has"));
            }
            for slot in bytes[..used * SLOT_BYTES].chunks_exact(SLOT_BYTES) {
                if slot[..4] != (hash as u32).to_le_bytes() {
                    continue;
                }
                let mut place = [0; 8];
                place[..5].copy_from_slice(&slot[4..]);
                if let Some(found) = is(u64::from_le_bytes(place))? {
                    return Ok(Some(found));
                }
            }
            if last & SPILLED == 0 {
                return Ok(None);
            }
            bucket += 1;
        }
        Ok(None)
    }

    /// The entry at a place, whatever its group.
    fn entry(&self, place: u64) -> Result<EntryRef<'_>, Cold> {
        let mut cursor = Cursor::new(self, place);
        let flags = cursor.byte()?;
        if GROUP <= flags {
            // The hash of a group that is equal to that of a path: as if it were another path.
            return Ok(EntryRef::of_nobody(self));
        }
        let back = cursor.varint()?;
        let group =
            place.checked_sub(back).filter(|_| 0 < back).ok_or_else(|| self.wrong(place, "a group before the file"))?;
        let mut header = Cursor::new(self, group);
        if header.byte()? != GROUP {
            return Err(self.wrong(group, "an entry whose group begins with another byte than 0xf0"));
        }
        let group = header.group(group)?;
        cursor.entry(&group, place, flags)
    }

    /// The znodes in this run that a session owns, from a position on; newer layers may say otherwise. See
    /// [`Run::ephemeral`] for each.
    ///
    /// # Errors
    /// A block is cold.
    pub fn ephemerals(&self, owner: SessionId) -> Result<Range<u64>, Cold> {
        let first = |beyond: bool| -> Result<u64, Cold> {
            let (mut low, mut high) = (0, self.footer.ephemerals_count);
            while low < high {
                let middle = (low + high) / 2;
                let (found, _) = self.ephemeral_at(middle)?;
                if found < owner.raw() || beyond && found == owner.raw() { low = middle + 1 } else { high = middle }
            }
            Ok(low)
        };
        Ok(first(false)?..first(true)?)
    }

    fn ephemeral_at(&self, index: u64) -> Result<(i64, u64), Cold> {
        let mut cursor = Cursor::new(self, self.footer.ephemerals + 16 * index);
        Ok((i64::from_le_bytes(cursor.array()?), u64::from_le_bytes(cursor.array()?)))
    }

    /// How many ephemerals this run has.
    pub fn ephemerals_count(&self) -> u64 {
        self.footer.ephemerals_count
    }

    /// The ephemeral at a position of [`Run::ephemerals`].
    ///
    /// # Errors
    /// A block is cold.
    pub fn ephemeral(&self, index: u64) -> Result<EntryRef<'_>, Cold> {
        self.entry(self.ephemeral_at(index)?.1)
    }

    /// How many containers and znodes with a time to live this run has.
    pub fn reapables_count(&self) -> u64 {
        self.footer.reapables_count
    }

    /// One of them, by position.
    ///
    /// # Errors
    /// A block is cold.
    pub fn reapable(&self, index: u64) -> Result<EntryRef<'_>, Cold> {
        let mut cursor = Cursor::new(self, self.footer.reapables + 8 * index);
        let place = u64::from_le_bytes(cursor.array()?);
        self.entry(place)
    }

    /// All entries, in key order.
    pub fn entries(&self) -> Entries<'_> {
        Entries { run: self, at: HEADER_BYTES as u64, group: None, left: self.footer.entries }
    }

    /// The access list of a number in this run.
    pub fn acl(&self, number: u32) -> Option<(u32, &[u8])> {
        self.meta.acls.get(number as usize).map(|(count, raw)| (*count, &**raw))
    }
}

fn check_length(path: &Path, bytes: u64) -> Result<(), Fault> {
    if bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
        return Err(Fault::new(path, bytes, format!("expected a run, found a file of {bytes} bytes: it is cut")));
    }
    Ok(())
}

/// What is read before a file is mapped.
struct Parts {
    header: Header,
    footer: Footer,
    meta: Meta,
    crcs: Box<[u32]>,
}

impl Parts {
    fn read(
        path: &Path,
        run: RunId,
        bytes: u64,
        read: &dyn Fn(Range<u64>) -> Result<Vec<u8>, Fault>,
    ) -> Result<Parts, Fault> {
        let array = |bytes: Vec<u8>| <[u8; HEADER_BYTES]>::try_from(bytes).expect("as many as asked for");
        let header = Header::decode(path, &array(read(0..HEADER_BYTES as u64)?))?;
        let footer = read(bytes - FOOTER_BYTES as u64..bytes)?;
        let footer = Footer::decode(path, &footer.try_into().expect("as many as asked for"), bytes)?;
        if header.run != run.0 {
            let what = format!("expected run {:#x}, found run {:#x}: another file under this name", run.0, header.run);
            return Err(Fault::new(path, 32, what));
        }
        if (header.store, header.run, header.identity) != (footer.store, footer.run, footer.identity) {
            let what = "expected a footer of the same run as the header: parts of two files".to_owned();
            return Err(Fault::new(path, bytes - FOOTER_BYTES as u64, what));
        }
        let table = read(footer.table..bytes - FOOTER_BYTES as u64)?;
        let found = crc32c::crc32c(&table);
        if found != footer.table_crc {
            let what = format!("expected checksums with the checksum {:#010x}, found {found:#010x}", footer.table_crc);
            return Err(Fault::new(path, footer.table, what));
        }
        let crcs: Box<[u32]> = table.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        // The blocks with meta are verified whole, and read once.
        let begin = footer.meta / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let blocks = read(begin..footer.table)?;
        for (index, block) in blocks.chunks(BLOCK_BYTES).enumerate() {
            let number = begin as usize / BLOCK_BYTES + index;
            let (expected, found) = (crcs[number], crc32c::crc32c(block));
            if expected != found {
                let at = (number * BLOCK_BYTES) as u64;
                let what = format!("expected a block with the checksum {expected:#010x}, found {found:#010x}");
                return Err(Fault::new(path, at, what));
            }
        }
        let meta = Meta::decode(&blocks[(footer.meta - begin) as usize..])
            .map_err(|(at, what)| Fault::new(path, footer.meta + at as u64, what))?;
        Ok(Parts { header, footer, meta, crcs })
    }
}

/// A place in a run from which values are read; it stops at blocks that are cold.
struct Cursor<'r> {
    run: &'r Run,
    /// What follows, up to the end of a block that is known to be in memory.
    rest: &'r [u8],
    /// Where `rest` ends.
    end: u64,
}

impl<'r> Cursor<'r> {
    #[inline]
    fn new(run: &'r Run, at: u64) -> Cursor<'r> {
        Cursor { run, rest: &[], end: at }
    }

    #[inline]
    fn at(&self) -> u64 {
        self.end - self.rest.len() as u64
    }

    /// Makes sure that so many bytes follow in memory.
    #[inline]
    fn need(&mut self, bytes: u64) -> Result<(), Cold> {
        if bytes <= self.rest.len() as u64 { Ok(()) } else { self.need_blocks(bytes) }
    }

    fn need_blocks(&mut self, bytes: u64) -> Result<(), Cold> {
        let at = self.at();
        let end = at.checked_add(bytes).filter(|end| *end <= self.run.footer.table);
        let Some(end) = end else { return Err(self.run.wrong(at, "a value that reaches beyond the file")) };
        let (first, last) = (at as usize / BLOCK_BYTES, (end as usize).saturating_sub(1) / BLOCK_BYTES);
        for block in first..=last.max(first) {
            if !self.run.ready(block) {
                return Err(Cold { block: block as u32 });
            }
        }
        self.end = (((last + 1) * BLOCK_BYTES) as u64).min(self.run.footer.table);
        self.rest = &self.run.map.bytes()[at as usize..self.end as usize];
        Ok(())
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Cold> {
        if self.rest.is_empty() {
            self.need_blocks(1)?;
        }
        let byte = self.rest[0];
        self.rest = &self.rest[1..];
        Ok(byte)
    }

    #[inline]
    fn bytes(&mut self, length: u64) -> Result<&'r [u8], Cold> {
        self.need(length)?;
        let (bytes, rest) = self.rest.split_at(length as usize);
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Cold> {
        Ok(self.bytes(N as u64)?.try_into().expect("as many as asked for"))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Cold> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.varint_long(),
        }
    }

    fn varint_long(&mut self) -> Result<u64, Cold> {
        if let Some((word, _)) = self.rest.split_first_chunk() {
            let word = u64::from_le_bytes(*word);
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                // All bytes up to the first whose high bit is clear, and the seven low bits of each moved together.
                let bits = ends.trailing_zeros() + 1;
                let word = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
                let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
                let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
                self.rest = &self.rest[bits as usize / 8..];
                return Ok(word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4);
            }
        }
        // More than eight bytes, or near the end of what is known to be in memory.
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.run.wrong(self.at(), "a number of more than ten bytes"))
    }

    #[inline]
    fn zigzag(&mut self) -> Result<i64, Cold> {
        Ok(unzigzag(self.varint()?))
    }

    fn int(&mut self) -> Result<i32, Cold> {
        let value = self.zigzag()?;
        i32::try_from(value).map_err(|_| self.run.wrong(self.at(), "a number that does not fit 32 bits"))
    }

    fn text(&mut self, length: u64) -> Result<&'r str, Cold> {
        let at = self.at();
        if (PATH_BYTES_MAX as u64) < length {
            return Err(self.run.wrong(at, "a path or name that is too long"));
        }
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.run.wrong(at, "a path or name that is no text"))
    }

    /// A group's header behind its first byte.
    fn group(&mut self, place: u64) -> Result<GroupRef<'r>, Cold> {
        let length = self.varint()?;
        let parent = self.text(length)?;
        let czxid = u64::from_le_bytes(self.array()?);
        let ctime_ms = i64::from_le_bytes(self.array()?);
        Ok(GroupRef { place, parent, czxid, ctime_ms })
    }

    /// An entry behind its flags and the way to its group. Its value is not touched.
    fn entry(&mut self, group: &GroupRef<'r>, place: u64, flags: u8) -> Result<EntryRef<'r>, Cold> {
        let length = self.varint()?;
        let name = self.text(length)?;
        let (kind, value) = (flags & 0xf, flags >> 4);
        let blank = EntryRef { run: self.run, place, parent: group.parent, name, present: None, end: self.at() };
        if kind == KIND_ABSENT {
            return Ok(blank);
        }
        if kind != KIND_CREATED && kind != KIND_CHANGED {
            return Err(self.run.wrong(place, "an entry of an unknown kind"));
        }
        let acl = self.varint()?;
        if self.run.meta.acls.len() as u64 <= acl {
            return Err(self.run.wrong(place, "an access list that is not in the table"));
        }
        let prefix_crc = u32::from_le_bytes(self.array()?);
        let czxid = group.czxid.wrapping_add(self.zigzag()? as u64);
        let ctime_ms = group.ctime_ms.wrapping_add(self.zigzag()?);
        let mut version = NodeVersion {
            czxid: Zxid::from_raw(czxid),
            mzxid: Zxid::from_raw(czxid),
            pzxid: Zxid::from_raw(czxid),
            ctime_ms,
            mtime_ms: ctime_ms,
            version: 0,
            children_created: 0,
            aversion: 0,
            owner: 0,
            data_bytes: 0,
            data_is_null: false,
            children: 0,
            prefix_crc,
        };
        if kind == KIND_CHANGED {
            version.mzxid = Zxid::from_raw(czxid.wrapping_add(self.zigzag()? as u64));
            version.pzxid = Zxid::from_raw(czxid.wrapping_add(self.zigzag()? as u64));
            version.mtime_ms = ctime_ms.wrapping_add(self.zigzag()?);
            version.version = self.int()?;
            version.children_created = self.int()?;
            version.aversion = self.int()?;
            version.owner = self.zigzag()?;
            let children = self.varint()?;
            version.children = u32::try_from(children).map_err(|_| self.run.wrong(place, "too many children"))?;
        }
        let (kind, frame) = match value {
            VALUE_LOWER => {
                let bytes = self.varint()?;
                version.data_bytes = self.data_bytes(bytes >> 1)?;
                version.data_is_null = bytes & 1 == 1;
                (VALUE_LOWER, 0)
            }
            VALUE_NULL => {
                version.data_is_null = true;
                (VALUE_NULL, 0)
            }
            VALUE_PLAIN => {
                let bytes = self.varint()?;
                version.data_bytes = self.data_bytes(bytes)?;
                (VALUE_PLAIN, bytes)
            }
            VALUE_PACKED => {
                let bytes = self.varint()?;
                version.data_bytes = self.data_bytes(bytes)?;
                let frame = self.varint()?;
                self.data_bytes(frame)?;
                (VALUE_PACKED, frame)
            }
            _ => return Err(self.run.wrong(place, "a value of an unknown kind")),
        };
        let data = self.at();
        let present = Present { version, acl: acl as u32, kind, data, bytes: frame };
        Ok(EntryRef { present: Some(present), end: data + frame, ..blank })
    }

    fn data_bytes(&mut self, bytes: u64) -> Result<u32, Cold> {
        if (VALUE_BYTES_MAX as u64) < bytes {
            return Err(self.run.wrong(self.at(), "a value that is too long"));
        }
        Ok(bytes as u32)
    }
}

#[derive(Clone, Copy, Debug)]
struct GroupRef<'r> {
    place: u64,
    parent: &'r str,
    czxid: u64,
    ctime_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Present {
    version: NodeVersion,
    acl: u32,
    kind: u8,
    data: u64,
    bytes: u64,
}

/// An entry of a run. Its version and names are in memory; its value may be cold.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'r> {
    run: &'r Run,
    place: u64,
    parent: &'r str,
    name: &'r str,
    present: Option<Present>,
    end: u64,
}

impl<'r> EntryRef<'r> {
    /// An entry that is at no path.
    fn of_nobody(run: &'r Run) -> EntryRef<'r> {
        EntryRef { run, place: 0, parent: "/", name: "", present: None, end: 0 }
    }

    fn is_at(&self, path: &str) -> bool {
        if self.name.is_empty() {
            return self.parent.is_empty() && path.is_empty();
        }
        path.strip_suffix(self.name).and_then(|rest| rest.strip_suffix('/')) == Some(self.parent)
    }

    /// Whether it says that there is no znode.
    pub fn is_absent(&self) -> bool {
        self.present.is_none()
    }

    /// The path of the parent.
    pub fn parent(&self) -> &'r str {
        self.parent
    }

    /// The name; empty for the root.
    pub fn name(&self) -> &'r str {
        self.name
    }

    /// Where it stands in the file.
    pub fn place(&self) -> u64 {
        self.place
    }

    /// The version of the znode. `None`: there is none.
    #[inline]
    pub fn version(&self) -> Option<NodeVersion> {
        self.present.map(|present| present.version)
    }

    /// The access list's number in the run's table.
    #[inline]
    pub fn acl(&self) -> Option<u32> {
        self.present.map(|present| present.acl)
    }

    /// Whether the data is that of the layer below.
    pub fn is_lower(&self) -> bool {
        self.present.is_some_and(|present| present.kind == VALUE_LOWER)
    }

    /// The data; `Null` of an absent entry.
    ///
    /// # Errors
    /// A block is cold.
    #[inline]
    pub fn value(&self) -> Result<Value<'r>, Cold> {
        let Some(Present { version, kind, data, bytes, .. }) = self.present else { return Ok(Value::Null) };
        let read = || Cursor::new(self.run, data).bytes(bytes);
        Ok(match kind {
            VALUE_LOWER => Value::Lower,
            VALUE_NULL => Value::Null,
            VALUE_PLAIN => Value::Plain(read()?),
            _ => Value::Packed { zstd: read()?, bytes: version.data_bytes },
        })
    }

    /// The whole of it.
    ///
    /// # Errors
    /// A block is cold.
    pub fn entry(&self) -> Result<Entry<'r>, Cold> {
        let what = match self.present {
            None => What::Absent,
            Some(Present { version, acl, .. }) => What::Present { version, acl, value: self.value()? },
        };
        Ok(Entry { parent: self.parent, name: self.name, what })
    }
}

/// The children of one parent that a run says something of, absent ones included, in the order of their names.
#[derive(Clone, Debug)]
pub struct Children<'r> {
    run: &'r Run,
    group: GroupRef<'r>,
    at: u64,
}

impl<'r> Children<'r> {
    /// The next one. After `Err` the same is tried again.
    ///
    /// # Errors
    /// A block is cold.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot be asked again after an error")]
    pub fn next(&mut self) -> Result<Option<EntryRef<'r>>, Cold> {
        loop {
            let place = self.at;
            let mut cursor = Cursor::new(self.run, place);
            let flags = cursor.byte()?;
            if flags == GROUP_END {
                return Ok(None);
            }
            let back = cursor.varint()?;
            if GROUP <= flags || place.checked_sub(back) != Some(self.group.place) {
                return Err(self.run.wrong(place, "an entry of another group"));
            }
            let entry = cursor.entry(&self.group, place, flags)?;
            self.at = entry.end;
            if !entry.name.is_empty() {
                return Ok(Some(entry));
            }
        }
    }

    /// Where the next one stands: for [`Run::children_from`].
    pub fn place(&self) -> u64 {
        self.at
    }
}

/// All entries of a run, in key order.
#[derive(Clone, Debug)]
pub struct Entries<'r> {
    run: &'r Run,
    at: u64,
    group: Option<GroupRef<'r>>,
    left: u64,
}

impl<'r> Entries<'r> {
    /// The next one. After `Err` the same is tried again.
    ///
    /// # Errors
    /// A block is cold.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot be asked again after an error")]
    pub fn next(&mut self) -> Result<Option<EntryRef<'r>>, Cold> {
        while 0 < self.left {
            let place = self.at;
            let mut cursor = Cursor::new(self.run, place);
            match (cursor.byte()?, self.group) {
                (GROUP, None) => {
                    self.group = Some(cursor.group(place)?);
                    self.at = cursor.at();
                }
                (GROUP_END, Some(_)) => {
                    self.group = None;
                    self.at = cursor.at();
                }
                (flags, Some(group)) if flags < GROUP => {
                    let back = cursor.varint()?;
                    if place.checked_sub(back) != Some(group.place) {
                        return Err(self.run.wrong(place, "an entry of another group"));
                    }
                    let entry = cursor.entry(&group, place, flags)?;
                    self.at = entry.end;
                    self.left -= 1;
                    return Ok(Some(entry));
                }
                _ => return Err(self.run.wrong(place, "expected a group, an entry or the end of a group")),
            }
        }
        Ok(None)
    }

    /// Where the next one is, to go on from with [`Entries::resume`].
    pub fn position(&self) -> Position {
        Position { at: self.at, group: self.group.map(|group| group.place), left: self.left }
    }

    /// Goes on from a position.
    ///
    /// # Errors
    /// A block is cold.
    pub fn resume(run: &'r Run, position: Position) -> Result<Entries<'r>, Cold> {
        let group = match position.group {
            None => None,
            Some(place) => {
                let mut cursor = Cursor::new(run, place);
                cursor.byte()?;
                Some(cursor.group(place)?)
            }
        };
        Ok(Entries { run, at: position.at, group, left: position.left })
    }
}

/// A place in [`Entries`], without a borrow of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    at: u64,
    group: Option<u64>,
    left: u64,
}

impl Position {
    /// Before the first entry of a run.
    pub fn first(run: &Run) -> Position {
        run.entries().position()
    }

    /// Entries that are left.
    pub fn left(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{put_varint, put_zigzag};

    /// Numbers of every length: where more bytes follow, where the file ends, and across the end of a block.
    #[test]
    fn numbers_are_read_as_they_were_written_wherever_they_stand() {
        let values = (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1, u64::MAX >> bit]);
        for value in values.chain([0x0123_4567_89ab_cdef]) {
            let mut encoded = Vec::new();
            put_varint(&mut encoded, value);
            put_zigzag(&mut encoded, value as i64);
            for beyond in 0..=encoded.len() {
                for behind in [0, 1, 9] {
                    let place = BLOCK_BYTES + beyond - encoded.len();
                    let mut bytes = vec![0; place];
                    bytes.extend(&encoded);
                    bytes.extend(vec![0xff; behind]);
                    let run = in_memory(bytes);
                    let mut cursor = Cursor::new(&run, place as u64);
                    let found = (cursor.varint(), cursor.zigzag(), cursor.at());
                    let expected = (Ok(value), Ok(value as i64), (place + encoded.len()) as u64);
                    assert_eq!(found, expected, "{value:#x}, {beyond} bytes beyond a block, {behind} behind it");
                }
            }
        }
    }

    /// What is mapped are these bytes, though they are no run.
    fn in_memory(bytes: Vec<u8>) -> Run {
        let header = Header { store: 1, run: 1, seed: 1, identity: 1 };
        let footer = Footer {
            table_crc: 0,
            store: 1,
            run: 1,
            identity: 1,
            bytes: bytes.len() as u64,
            entries: 0,
            index: 0,
            buckets: 0,
            ephemerals: 0,
            ephemerals_count: 0,
            reapables: 0,
            reapables_count: 0,
            meta: 0,
            table: bytes.len() as u64,
        };
        let crcs = bytes.chunks(BLOCK_BYTES).map(|_| 0).collect();
        let parts = Parts { header, footer, meta: Meta::default(), crcs };
        let run = Run::build(PathBuf::from("/test/run"), Map::Memory(bytes), parts);
        run.stamps.iter().for_each(|stamp| stamp.store(1, Ordering::Relaxed));
        run
    }
}
