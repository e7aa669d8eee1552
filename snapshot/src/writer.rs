//! Entries in key order to the bytes of a run.
//!
//! Memory is bounded but for the index, 16 bytes per entry and group until the end, and the places of ephemerals, containers
//! and znodes with a time to live.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};

use crate::RunId;
use crate::entry::{Entry, Value, What, is_packable};
use crate::layout::{
    BUCKET_BYTES, BUCKETS_SPARE, FOOTER_BYTES, Footer, GROUP, GROUP_END, Header, KIND_ABSENT, KIND_CHANGED,
    KIND_CREATED, SLOT_BYTES, SLOTS, SLOTS_USED, SPILLED, VALUE_LOWER, VALUE_NULL, VALUE_PACKED, VALUE_PLAIN,
    put_varint, put_zigzag,
};
use crate::limits::{ACLS_MAX, BLOCK_BYTES, PACK_LEVEL, PATH_BYTES_MAX, RUN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::meta::Meta;
use crate::version::{NodeKind, NodeVersion};
use crate::{group_hash, path_hash};

/// Where the bytes of a run go, in order.
pub trait Sink {
    /// Takes all of these bytes, or fails for good.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A file.
#[derive(Debug)]
pub struct FileSink(pub File);

impl Sink for FileSink {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// What a znode (parent's path, name, version) adds to the digest of the tree.
pub type DigestOf = fn(&str, &str, &NodeVersion) -> u64;

/// What is known of a run before its first entry.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its number.
    pub run: RunId,
    /// The store it belongs to.
    pub store: u128,
    /// The seed of [`path_hash`]: the same for all runs of a store.
    pub seed: u64,
    /// Random.
    pub identity: u64,
    /// What a znode adds to the digest.
    pub digest_of: DigestOf,
}

/// Why a run cannot be written.
#[derive(Debug)]
pub enum WriteError {
    /// The disk: where in the file, and what it said.
    Io(u64, io::Error),
    /// Entries that are out of order or too large: a fault of the caller.
    Wrong(String),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Io(at, error) => write!(f, "writing at byte {at}: {error}"),
            WriteError::Wrong(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for WriteError {}

/// A run that is complete, though perhaps not durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Its number.
    pub run: RunId,
    /// Bytes of the file.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Random, tells it from every other run.
    pub identity: u64,
}

/// Hash and place, to be sorted: parts of the index by the high bits of the hash, so that no step sorts all of it.
const PARTS: usize = 1024;

/// See the module.
pub struct Writer<S> {
    sink: S,
    spec: Spec,
    /// Bytes that are not a whole block yet.
    block: Vec<u8>,
    /// Bytes before `block`.
    begun: u64,
    crcs: Vec<u32>,
    parent: String,
    name: String,
    parent_hash: u64,
    /// Where the group begins; 0: no group yet.
    group: u64,
    base: (u64, i64),
    entries: u64,
    entries_digest: u64,
    index: Vec<Vec<(u64, u64)>>,
    slots: u64,
    ephemerals: Vec<(i64, u64)>,
    reapables: Vec<u64>,
    acls: Vec<(u32, Box<[u8]>)>,
    acl_numbers: HashMap<(u32, Box<[u8]>), u32>,
    /// The entry that is being encoded, and its path.
    scratch: Vec<u8>,
    path: String,
    end: End,
}

/// How far the end is.
enum End {
    Entries,
    Index { part: usize, bucket: u64, carried: Vec<(u64, u64)>, footer: Footer },
    Done,
}

impl<S> fmt::Debug for Writer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("spec", &self.spec).field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl<S: Sink> Writer<S> {
    /// Begins a run.
    pub fn new(sink: S, spec: Spec) -> Writer<S> {
        let Spec { run, store, seed, identity, .. } = spec;
        let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
        block.extend(Header { store, run: run.0, seed, identity }.encode());
        Writer {
            sink,
            spec,
            block,
            begun: 0,
            crcs: Vec::new(),
            parent: String::new(),
            name: String::new(),
            parent_hash: path_hash(seed, ""),
            group: 0,
            base: (0, 0),
            entries: 0,
            entries_digest: 0,
            index: vec![Vec::new(); PARTS],
            slots: 0,
            ephemerals: Vec::new(),
            reapables: Vec::new(),
            acls: Vec::new(),
            acl_numbers: HashMap::new(),
            scratch: Vec::new(),
            path: String::new(),
            end: End::Entries,
        }
    }

    /// The number of an access list in this run's table: the encoded elements and how many they are.
    ///
    /// # Errors
    /// More different lists than a run may have.
    pub fn acl(&mut self, raw: &[u8], count: u32) -> Result<u32, WriteError> {
        if let Some((last, known)) = self.acls.last()
            && *last == count
            && **known == *raw
        {
            return Ok(self.acls.len() as u32 - 1);
        }
        let key = (count, Box::from(raw));
        if let Some(number) = self.acl_numbers.get(&key) {
            return Ok(*number);
        }
        if ACLS_MAX <= self.acls.len() {
            return Err(WriteError::Wrong(format!("more than {ACLS_MAX} different access lists")));
        }
        let number = self.acls.len() as u32;
        self.acls.push(key.clone());
        self.acl_numbers.insert(key, number);
        Ok(number)
    }

    fn at(&self) -> u64 {
        self.begun + self.block.len() as u64
    }

    /// Writes whole blocks.
    fn settle(&mut self) -> Result<(), WriteError> {
        let whole = self.block.len() / BLOCK_BYTES * BLOCK_BYTES;
        if whole == 0 {
            return Ok(());
        }
        for block in self.block[..whole].chunks(BLOCK_BYTES) {
            self.crcs.push(crc32c::crc32c(block));
        }
        self.sink.put(&self.block[..whole]).map_err(|error| WriteError::Io(self.begun, error))?;
        self.begun += whole as u64;
        self.block.drain(..whole);
        if RUN_BYTES_MAX / 2 < self.begun {
            return Err(WriteError::Wrong(format!("a run of more than {} bytes", RUN_BYTES_MAX / 2)));
        }
        Ok(())
    }

    fn note(&mut self, hash: u64, place: u64) {
        self.index[(hash >> 54) as usize].push((hash, place));
        self.slots += 1;
    }

    /// Adds the next entry, in the order of parent and name.
    ///
    /// # Errors
    /// The sink fails, or the entry is out of order or too large.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<(), WriteError> {
        let Entry { parent, name, what } = *entry;
        let is_same = self.group != 0 && parent == self.parent;
        let in_order =
            if is_same { self.name.as_str() < name } else { self.group == 0 || self.parent.as_str() < parent };
        let fits = parent.len() <= PATH_BYTES_MAX && name.len() <= PATH_BYTES_MAX;
        if !in_order || !fits || (name.is_empty() && !parent.is_empty()) {
            let after = (&self.parent, &self.name);
            return Err(WriteError::Wrong(format!("an entry {parent:?} {name:?} cannot follow {after:?} in a run")));
        }
        if !is_same {
            self.begin_group(parent, &what)?;
        }
        self.name.clear();
        self.name.push_str(name);
        let place = self.at();
        let hash = if name.is_empty() {
            self.parent_hash
        } else {
            self.path.truncate(parent.len() + 1);
            self.path.push_str(name);
            path_hash(self.spec.seed, &self.path)
        };
        self.note(hash, place);
        self.entries += 1;
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let result = self.encode(parent, name, &what, place, &mut out);
        self.block.extend_from_slice(&out);
        self.scratch = out;
        result?;
        self.settle()
    }

    fn begin_group(&mut self, parent: &str, what: &What<'_>) -> Result<(), WriteError> {
        if self.group != 0 {
            self.block.push(GROUP_END);
        }
        self.parent.clear();
        self.parent.push_str(parent);
        self.path.clear();
        self.path.push_str(parent);
        self.path.push('/');
        self.group = self.at();
        self.parent_hash = path_hash(self.spec.seed, parent);
        self.note(group_hash(self.parent_hash), self.group);
        self.base = match what {
            What::Present { version, .. } => (version.czxid.raw(), version.ctime_ms),
            What::Absent => (0, 0),
        };
        self.block.push(GROUP);
        put_varint(&mut self.block, parent.len() as u64);
        self.block.extend_from_slice(parent.as_bytes());
        self.block.extend(self.base.0.to_le_bytes());
        self.block.extend(self.base.1.to_le_bytes());
        self.settle()
    }

    fn encode(
        &mut self,
        parent: &str,
        name: &str,
        what: &What<'_>,
        place: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        let head = |out: &mut Vec<u8>, flags: u8| {
            out.push(flags);
            put_varint(out, place - self.group);
            put_varint(out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
        };
        let What::Present { version, acl, value } = what else {
            head(out, KIND_ABSENT);
            return Ok(());
        };
        let mut packed = None;
        let (kind_of_value, bytes) = match value {
            Value::Lower => (VALUE_LOWER, version.data_bytes as usize),
            Value::Null => (VALUE_NULL, 0),
            Value::Plain(data) => {
                if is_packable(data.len()) {
                    packed = zstd::bulk::compress(data, PACK_LEVEL).ok().filter(|frame| frame.len() < data.len());
                }
                (if packed.is_some() { VALUE_PACKED } else { VALUE_PLAIN }, data.len())
            }
            Value::Packed { bytes, .. } => (VALUE_PACKED, *bytes as usize),
        };
        let is_null = matches!(value, Value::Null);
        let fits = version.data_bytes as usize == bytes
            && bytes <= VALUE_BYTES_MAX
            && (matches!(value, Value::Lower) || version.data_is_null == is_null)
            && (*acl as usize) < self.acls.len();
        if !fits {
            return Err(WriteError::Wrong(format!(
                "the entry {parent:?} {name:?} has {bytes} bytes of data and access list {acl}, and says {version:?}"
            )));
        }
        let kind = if version.is_as_created() { KIND_CREATED } else { KIND_CHANGED };
        head(out, kind | kind_of_value << 4);
        put_varint(out, u64::from(*acl));
        out.extend(version.prefix_crc.to_le_bytes());
        let from = |later: u64, earlier: u64| later.wrapping_sub(earlier) as i64;
        put_zigzag(out, from(version.czxid.raw(), self.base.0));
        put_zigzag(out, version.ctime_ms.wrapping_sub(self.base.1));
        if kind == KIND_CHANGED {
            put_zigzag(out, from(version.mzxid.raw(), version.czxid.raw()));
            put_zigzag(out, from(version.pzxid.raw(), version.czxid.raw()));
            put_zigzag(out, version.mtime_ms.wrapping_sub(version.ctime_ms));
            put_zigzag(out, version.version.into());
            put_zigzag(out, version.children_created.into());
            put_zigzag(out, version.aversion.into());
            put_zigzag(out, version.owner);
            put_varint(out, version.children.into());
        }
        match (value, packed) {
            (Value::Lower, _) => put_varint(out, u64::from(version.data_bytes) << 1 | u64::from(version.data_is_null)),
            (Value::Null, _) => {}
            (Value::Plain(_), Some(frame)) => put_packed(out, version.data_bytes, &frame),
            (Value::Plain(data), None) => {
                put_varint(out, data.len() as u64);
                out.extend_from_slice(data);
            }
            (Value::Packed { zstd, bytes }, _) => put_packed(out, *bytes, zstd),
        }
        self.entries_digest = self.entries_digest.wrapping_add((self.spec.digest_of)(parent, name, version));
        match version.kind() {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(session) => self.ephemerals.push((session.raw(), place)),
            NodeKind::Container | NodeKind::Ttl(_) => self.reapables.push(place),
        }
        Ok(())
    }

    /// The sum of the digests of the znodes so far.
    pub fn entries_digest(&self) -> u64 {
        self.entries_digest
    }

    /// Writes a part of what comes behind the entries; `Some` when the run is complete. To be called until then, with the same
    /// `meta` (its access lists and sum of digests come from the writer). Each call is a bounded step.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish_step(&mut self, meta: &Meta) -> Result<Option<Written>, WriteError> {
        match std::mem::replace(&mut self.end, End::Done) {
            End::Entries => {
                if self.group != 0 {
                    self.block.push(GROUP_END);
                }
                while !self.at().is_multiple_of(BUCKET_BYTES as u64) {
                    self.block.push(0);
                }
                self.settle()?;
                let footer = Footer {
                    table_crc: 0,
                    store: self.spec.store,
                    run: self.spec.run.0,
                    identity: self.spec.identity,
                    bytes: 0,
                    entries: self.entries,
                    index: self.at(),
                    buckets: self.slots / SLOTS_USED + 1 + BUCKETS_SPARE,
                    ephemerals: 0,
                    ephemerals_count: self.ephemerals.len() as u64,
                    reapables: 0,
                    reapables_count: self.reapables.len() as u64,
                    meta: 0,
                    table: 0,
                };
                self.end = End::Index { part: 0, bucket: 0, carried: Vec::new(), footer };
                Ok(None)
            }
            End::Index { part, mut bucket, mut carried, footer } if part < PARTS => {
                let mut slots = std::mem::take(&mut self.index[part]);
                slots.sort_unstable();
                for (hash, place) in slots {
                    let home = home(hash, footer.buckets);
                    while bucket < home {
                        self.put_bucket(&mut carried);
                        bucket += 1;
                    }
                    carried.push((hash, place));
                }
                self.settle()?;
                self.end = End::Index { part: part + 1, bucket, carried, footer };
                Ok(None)
            }
            End::Index { mut bucket, mut carried, mut footer, .. } => {
                while bucket < footer.buckets {
                    self.put_bucket(&mut carried);
                    bucket += 1;
                }
                if !carried.is_empty() {
                    // Thousands of paths with one hash: impossible by chance, and the seed is secret.
                    return Err(WriteError::Wrong(format!("{} entries find no room in the index", carried.len())));
                }
                self.settle()?;
                self.tail(meta, &mut footer).map(Some)
            }
            End::Done => Err(WriteError::Wrong("the run is complete already".to_owned())),
        }
    }

    fn tail(&mut self, meta: &Meta, footer: &mut Footer) -> Result<Written, WriteError> {
        footer.ephemerals = self.at();
        self.ephemerals.sort_unstable();
        for (owner, place) in std::mem::take(&mut self.ephemerals) {
            self.block.extend(owner.to_le_bytes());
            self.block.extend(place.to_le_bytes());
            self.settle()?;
        }
        footer.reapables = self.at();
        for place in std::mem::take(&mut self.reapables) {
            self.block.extend(place.to_le_bytes());
            self.settle()?;
        }
        footer.meta = self.at();
        let acls = std::mem::take(&mut self.acls);
        let meta = Meta { acls, entries_digest: self.entries_digest, ..meta.clone() };
        let mut encoded = Vec::new();
        meta.encode(&mut encoded);
        for piece in encoded.chunks(BLOCK_BYTES) {
            self.block.extend_from_slice(piece);
            self.settle()?;
        }
        footer.table = self.at();
        if !self.block.is_empty() {
            self.crcs.push(crc32c::crc32c(&self.block));
        }
        let table: Vec<u8> = self.crcs.iter().flat_map(|crc| crc.to_le_bytes()).collect();
        footer.table_crc = crc32c::crc32c(&table);
        footer.bytes = footer.table + (table.len() + FOOTER_BYTES) as u64;
        self.block.extend(table);
        self.block.extend(footer.encode());
        self.sink.put(&self.block).map_err(|error| WriteError::Io(self.begun, error))?;
        self.block.clear();
        Ok(Written { run: self.spec.run, bytes: footer.bytes, entries: self.entries, identity: self.spec.identity })
    }

    /// [`Writer::finish_step`] until the end, and the sink.
    ///
    /// # Errors
    /// The sink fails.
    pub fn finish(mut self, meta: &Meta) -> Result<(Written, S), WriteError> {
        loop {
            if let Some(written) = self.finish_step(meta)? {
                return Ok((written, self.sink));
            }
        }
    }

    /// The sink, for syncing a complete run or giving up an incomplete one.
    pub fn into_sink(self) -> S {
        self.sink
    }

    /// One bucket with the first of what is carried.
    fn put_bucket(&mut self, carried: &mut Vec<(u64, u64)>) {
        let used = carried.len().min(SLOTS);
        let mut bucket = [0; BUCKET_BYTES];
        for (slot, (hash, place)) in carried.drain(..used).enumerate() {
            let slot = &mut bucket[slot * SLOT_BYTES..][..SLOT_BYTES];
            slot[..4].copy_from_slice(&(hash as u32).to_le_bytes());
            slot[4..].copy_from_slice(&place.to_le_bytes()[..5]);
        }
        bucket[BUCKET_BYTES - 1] = used as u8 | if carried.is_empty() { 0 } else { SPILLED };
        self.block.extend_from_slice(&bucket);
    }
}

fn put_packed(out: &mut Vec<u8>, bytes: u32, frame: &[u8]) {
    put_varint(out, bytes.into());
    put_varint(out, frame.len() as u64);
    out.extend_from_slice(frame);
}

/// The bucket where a hash belongs.
#[inline]
pub(crate) fn home(hash: u64, buckets: u64) -> u64 {
    ((hash >> 32) * (buckets - BUCKETS_SPARE)) >> 32
}
