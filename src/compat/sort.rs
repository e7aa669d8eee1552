//! Znodes in the order of a file become znodes in key order (parent's path, name), whatever their number.
//!
//! They are collected in chunks of [`IMPORT_CHUNK_BYTES_MAX`]; a full chunk is sorted and goes to a temporary file that
//! has no name any more, and the files are merged at the end, [`IMPORT_FILES_MAX`] at a time. A znode's number of
//! children, which a snapshot does not hold, is found the same way: for each row of siblings a record with its length is
//! sorted beside the parent. A parent that is missing, and a path that comes twice, come to light in the merge.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::mem;
use std::path::{Path, PathBuf};

use zorilla_proto::ids::Zxid;

use super::snapshot::Node;
use super::{Damage, Fault, io_fault};
use crate::limits::{IMPORT_CHUNK_BYTES_MAX, IMPORT_FILES_MAX};
use crate::tree::{NodeVersion, digest};

/// What is read from and written to a temporary file at once.
const BUFFER_BYTES: usize = 128 << 10;

/// A record: its whole length, the lengths of parent and name, its kind, then these and what the kind has.
const HEAD_BYTES: usize = 13;
const NODE: u8 = 0;
const ROW: u8 = 1;
/// Offset in the snapshot, stat, index of the ACL, length of the data.
const NODE_BYTES: usize = 8 + 60 + 4 + 4;
/// Offset of the first sibling in the snapshot, length of the row.
const ROW_BYTES: usize = 8 + 4;
const NULL: u32 = u32::MAX;

/// A znode in key order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sorted<'a> {
    /// Its parent's path; the root's is empty.
    pub parent: &'a str,
    /// Its name; that of the root is empty.
    pub name: &'a str,
    /// Its full path; the root's is empty.
    pub path: &'a str,
    /// Everything but data and ACL, its children counted.
    pub version: NodeVersion,
    /// The number that was pushed with it.
    pub acl: u32,
    /// Its data.
    pub data: Option<&'a [u8]>,
}

/// Collects.
pub(super) struct Sorter {
    /// The snapshot, for messages.
    file: PathBuf,
    /// Where temporary files are made.
    folder: PathBuf,
    chunk_bytes: usize,
    records: Vec<u8>,
    /// Where each record of the chunk begins.
    index: Vec<u32>,
    spilled: Vec<Spilled>,
    /// The row of siblings that is being counted: their parent, the offset of the first, their number.
    row: (String, u64, u32),
    znodes: u64,
}

struct Spilled {
    file: File,
    bytes: u64,
    crc: u32,
}

impl Sorter {
    /// `file` is what messages name; temporary files are made in `folder`.
    pub fn new(file: PathBuf, folder: PathBuf, chunk_bytes: usize) -> Sorter {
        let row = (String::new(), 0, 0);
        let chunk_bytes = chunk_bytes.min(IMPORT_CHUNK_BYTES_MAX);
        let (records, index) = (Vec::new(), Vec::new());
        Sorter { file, folder, chunk_bytes, records, index, spilled: Vec::new(), row, znodes: 0 }
    }

    /// Adds a znode of the snapshot that begins at `offset` in it and has the ACL of this number.
    pub fn push(&mut self, node: &Node<'_>, acl: u32, offset: u64) -> Result<(), Fault> {
        let (parent, name) = if node.path.is_empty() {
            ("", "")
        } else {
            let (parent, name) = node.path.rsplit_once('/').unwrap_or(("", ""));
            if name.is_empty() || parent.ends_with('/') {
                return Err(self.damaged(offset, "a path without an empty name in it", node.path));
            }
            if self.row.2 != 0 && self.row.0 == parent {
                self.row.2 += 1;
            } else {
                self.end_row()?;
                self.row.0.clear();
                self.row.0.push_str(parent);
                (self.row.1, self.row.2) = (offset, 1);
            }
            (parent, name)
        };
        self.znodes += 1;
        let data = node.data.unwrap_or_default();
        self.begin(parent, name, NODE, NODE_BYTES + data.len())?;
        let out = &mut self.records;
        out.extend_from_slice(&offset.to_le_bytes());
        for long in [node.czxid.raw(), node.mzxid.raw(), node.pzxid.raw()] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        for long in [node.ctime_ms, node.mtime_ms, node.owner] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        for int in [node.version, node.cversion, node.aversion] {
            out.extend_from_slice(&int.to_le_bytes());
        }
        out.extend_from_slice(&acl.to_le_bytes());
        out.extend_from_slice(&node.data.map_or(NULL, |data| data.len() as u32).to_le_bytes());
        out.extend_from_slice(data);
        Ok(())
    }

    fn damaged(&self, offset: u64, expected: &str, found: &str) -> Fault {
        let (file, expected, found) = (self.file.clone(), expected.to_owned(), found.to_owned());
        Fault::Damaged(Damage { file, offset, expected, found })
    }

    fn end_row(&mut self) -> Result<(), Fault> {
        let (path, offset, count) = mem::take(&mut self.row);
        if 0 < count {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", ""));
            self.begin(parent, name, ROW, ROW_BYTES)?;
            self.records.extend_from_slice(&offset.to_le_bytes());
            self.records.extend_from_slice(&count.to_le_bytes());
        }
        self.row.0 = path;
        Ok(())
    }

    /// Begins a record, in the next chunk if it does not fit this one.
    fn begin(&mut self, parent: &str, name: &str, kind: u8, bytes: usize) -> Result<(), Fault> {
        let whole = HEAD_BYTES + parent.len() + name.len() + bytes;
        if self.chunk_bytes < self.records.len() + whole && !self.index.is_empty() {
            self.spill()?;
        }
        self.index.push(self.records.len() as u32);
        let out = &mut self.records;
        out.extend_from_slice(&(whole as u32).to_le_bytes());
        out.extend_from_slice(&(parent.len() as u32).to_le_bytes());
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.push(kind);
        out.extend_from_slice(parent.as_bytes());
        out.extend_from_slice(name.as_bytes());
        Ok(())
    }

    fn sort(&mut self) {
        let records = &self.records;
        self.index.sort_unstable_by(|a, b| {
            let (a, b) = (Record::at(records, *a as usize), Record::at(records, *b as usize));
            a.order(&b)
        });
    }

    fn spill(&mut self) -> Result<(), Fault> {
        self.sort();
        let mut file = Temporary::create(&self.folder)?;
        for begin in &self.index {
            file.write(Record::at(&self.records, *begin as usize).bytes)?;
        }
        self.spilled.push(file.finish()?);
        self.records.clear();
        self.index.clear();
        if IMPORT_FILES_MAX <= self.spilled.len() {
            let mut merge = Merge::new(&self.folder, mem::take(&mut self.spilled), Vec::new(), Vec::new())?;
            let mut file = Temporary::create(&self.folder)?;
            while let Some(record) = merge.next()? {
                file.write(record.bytes)?;
            }
            self.spilled.push(file.finish()?);
        }
        Ok(())
    }

    /// How many znodes were pushed.
    pub fn znodes(&self) -> u64 {
        self.znodes
    }

    /// Calls `each` with the path and the length of the data of every znode, in no order.
    pub fn scan(&mut self, mut each: impl FnMut(&str, usize)) -> Result<(), Fault> {
        let mut path = String::new();
        let mut visit = |record: &Record<'_>| {
            if record.kind == NODE {
                path_of(record, &mut path);
                each(&path, record.rest.len() - NODE_BYTES);
            }
        };
        for begin in &self.index {
            visit(&Record::at(&self.records, *begin as usize));
        }
        for spilled in mem::take(&mut self.spilled) {
            let mut cursor = Cursor::new(&self.folder, spilled)?;
            while cursor.advance()? {
                visit(&Record::at(&cursor.record, 0));
            }
            self.spilled.push(cursor.into_spilled());
        }
        Ok(())
    }

    /// Everything in key order.
    pub fn finish(mut self) -> Result<Ordered, Fault> {
        self.end_row()?;
        self.sort();
        let merge = Merge::new(&self.folder, self.spilled, self.records, self.index)?;
        Ok(Ordered { file: self.file, merge, current: Vec::new(), ahead: Vec::new(), path: String::new() })
    }
}

/// A record that was taken apart.
struct Record<'a> {
    bytes: &'a [u8],
    parent: &'a [u8],
    name: &'a [u8],
    kind: u8,
    rest: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

impl<'a> Record<'a> {
    /// The record at `begin`, which this module wrote there.
    fn at(bytes: &'a [u8], begin: usize) -> Record<'a> {
        let bytes = &bytes[begin..begin + u32_at(bytes, begin) as usize];
        let (head, rest) = bytes.split_at(HEAD_BYTES);
        let (parent, rest) = rest.split_at(u32_at(head, 4) as usize);
        let (name, rest) = rest.split_at(u32_at(head, 8) as usize);
        Record { bytes, parent, name, kind: head[12], rest }
    }

    fn order(&self, other: &Record<'_>) -> Ordering {
        (self.parent, self.name, self.kind).cmp(&(other.parent, other.name, other.kind))
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("a path that was pushed is text")
}

fn path_of(record: &Record<'_>, path: &mut String) {
    path.clear();
    if !record.name.is_empty() {
        path.push_str(text(record.parent));
        path.push('/');
        path.push_str(text(record.name));
    }
}

/// A file that is being written and has no name any more.
struct Temporary {
    name: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl Temporary {
    fn create(folder: &Path) -> Result<Temporary, Fault> {
        let mut number = 0u32;
        let (name, file) = loop {
            let name = folder.join(format!("zorilla-import.{number}.tmp"));
            match fs::OpenOptions::new().read(true).write(true).create_new(true).open(&name) {
                // Left by a crash in the moment before it lost its name, or another import's.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => number += 1,
                Err(error) => return Err(io_fault("make", &name)(error)),
                Ok(file) => break (name, file),
            }
        };
        // Gone at once, so that nothing is left whatever happens; the space is given back with the last handle.
        fs::remove_file(&name).map_err(io_fault("remove", &name))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Temporary { name, file, bytes: 0, crc: crc32fast::Hasher::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(io_fault("write", &self.name))
    }

    fn finish(self) -> Result<Spilled, Fault> {
        let Temporary { name, file, bytes, crc } = self;
        let file = file.into_inner().map_err(|error| io_fault("write", &name)(error.into_error()))?;
        Ok(Spilled { file, bytes, crc: crc.finalize() })
    }
}

/// A spilled file that is being read.
struct Cursor {
    name: PathBuf,
    file: BufReader<File>,
    left: u64,
    bytes: u64,
    wanted: u32,
    crc: crc32fast::Hasher,
    record: Vec<u8>,
}

impl Cursor {
    fn new(folder: &Path, spilled: Spilled) -> Result<Cursor, Fault> {
        let name = folder.join("a temporary file of the import");
        let Spilled { mut file, bytes, crc } = spilled;
        file.rewind().map_err(io_fault("read", &name))?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let hasher = crc32fast::Hasher::new();
        Ok(Cursor { name, file, left: bytes, bytes, wanted: crc, crc: hasher, record: Vec::new() })
    }

    /// Reads the next record. `false`: there is none, and the file was what had been written.
    fn advance(&mut self) -> Result<bool, Fault> {
        let changed = || Fault::Io {
            what: "trust",
            file: self.name.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, "it does not hold what was written to it"),
        };
        if self.left == 0 {
            return if self.crc.clone().finalize() == self.wanted { Ok(false) } else { Err(changed()) };
        }
        self.record.resize(4, 0);
        self.file.read_exact(&mut self.record).map_err(io_fault("read", &self.name))?;
        let whole = u32_at(&self.record, 0) as usize;
        if whole < HEAD_BYTES || self.left < whole as u64 {
            return Err(changed());
        }
        self.record.resize(whole, 0);
        self.file.read_exact(&mut self.record[4..]).map_err(io_fault("read", &self.name))?;
        let names = u64::from(u32_at(&self.record, 4)) + u64::from(u32_at(&self.record, 8));
        if (whole - HEAD_BYTES) as u64 <= names {
            return Err(changed());
        }
        self.crc.update(&self.record);
        self.left -= whole as u64;
        Ok(true)
    }

    fn into_spilled(self) -> Spilled {
        Spilled { file: self.file.into_inner(), bytes: self.bytes, crc: self.wanted }
    }
}

/// A cursor, ordered by its record.
struct Head(Cursor);

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        Record::at(&self.0.record, 0).order(&Record::at(&other.0.record, 0))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// Spilled files and one sorted chunk in memory, record by record in key order.
struct Merge {
    heads: BinaryHeap<Reverse<Head>>,
    records: Vec<u8>,
    index: Vec<u32>,
    at: usize,
    /// The record that was returned last, if it came from a file.
    taken: Option<Cursor>,
}

impl Merge {
    fn new(folder: &Path, spilled: Vec<Spilled>, records: Vec<u8>, index: Vec<u32>) -> Result<Merge, Fault> {
        let mut heads = BinaryHeap::with_capacity(spilled.len());
        for spilled in spilled {
            let mut cursor = Cursor::new(folder, spilled)?;
            if cursor.advance()? {
                heads.push(Reverse(Head(cursor)));
            }
        }
        Ok(Merge { heads, records, index, at: 0, taken: None })
    }

    fn next(&mut self) -> Result<Option<Record<'_>>, Fault> {
        if let Some(mut cursor) = self.taken.take()
            && cursor.advance()?
        {
            self.heads.push(Reverse(Head(cursor)));
        }
        let in_memory = self.index.get(self.at).map(|begin| Record::at(&self.records, *begin as usize));
        let from_file = match (&in_memory, self.heads.peek()) {
            (Some(record), Some(Reverse(Head(cursor)))) => Record::at(&cursor.record, 0).order(record).is_lt(),
            (_, head) => head.is_some(),
        };
        if from_file {
            self.taken = self.heads.pop().map(|Reverse(Head(cursor))| cursor);
            return Ok(self.taken.as_ref().map(|cursor| Record::at(&cursor.record, 0)));
        }
        self.at += usize::from(in_memory.is_some());
        Ok(in_memory)
    }
}

/// Everything that was pushed, in key order.
pub(super) struct Ordered {
    file: PathBuf,
    merge: Merge,
    /// The record of the znode that is returned, and the record behind it.
    current: Vec<u8>,
    ahead: Vec<u8>,
    path: String,
}

impl Ordered {
    /// The next znode.
    pub fn next(&mut self) -> Result<Option<Sorted<'_>>, Fault> {
        if self.ahead.is_empty() && !take(&mut self.merge, &mut self.ahead)? {
            return Ok(None);
        }
        mem::swap(&mut self.current, &mut self.ahead);
        let mut children = 0u32;
        // Everything that is known of the same path stands behind it.
        while take(&mut self.merge, &mut self.ahead)? {
            let (node, next) = (Record::at(&self.current, 0), Record::at(&self.ahead, 0));
            if (node.parent, node.name) != (next.parent, next.name) {
                break;
            }
            if next.kind == NODE {
                path_of(&node, &mut self.path);
                let found = format!("{} a second time", self.path);
                return Err(self.damaged(u64_at(next.rest, 0), "each path once", &found));
            }
            children = children.saturating_add(u32_at(next.rest, 8));
        }
        let record = Record::at(&self.current, 0);
        path_of(&record, &mut self.path);
        if record.kind == ROW {
            let expected = format!("a parent {} of what stands here", self.path);
            return Err(self.damaged(u64_at(record.rest, 0), &expected, "none in the file"));
        }
        let (stat, data) = record.rest.split_at(NODE_BYTES);
        let (long, int) = (|at| u64_at(stat, at), |at| u32_at(stat, at));
        let data = (int(72) != NULL).then_some(data);
        let version = NodeVersion {
            czxid: Zxid::from_raw(long(8)),
            mzxid: Zxid::from_raw(long(16)),
            pzxid: Zxid::from_raw(long(24)),
            ctime_ms: long(32) as i64,
            mtime_ms: long(40) as i64,
            owner: long(48) as i64,
            version: int(56) as i32,
            children_created: int(60) as i32,
            aversion: int(64) as i32,
            data_bytes: data.map_or(0, |data| data.len() as u32),
            data_is_null: data.is_none(),
            children,
            prefix_crc: digest::prefix_crc(&self.path, data),
        };
        let (parent, name) = (text(record.parent), text(record.name));
        Ok(Some(Sorted { parent, name, path: &self.path, version, acl: int(68), data }))
    }

    fn damaged(&self, offset: u64, expected: &str, found: &str) -> Fault {
        let (file, expected, found) = (self.file.clone(), expected.to_owned(), found.to_owned());
        Fault::Damaged(Damage { file, offset, expected, found })
    }
}

/// Copies the next record into `out`, which is left empty when there is none.
fn take(merge: &mut Merge, out: &mut Vec<u8>) -> Result<bool, Fault> {
    out.clear();
    if let Some(record) = merge.next()? {
        out.extend_from_slice(record.bytes);
    }
    Ok(!out.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn node(path: &str, zxid: u64) -> Node<'_> {
        let zxid = Zxid::from_raw(zxid);
        Node {
            path,
            data: (!path.ends_with('0')).then_some(path.as_bytes()),
            acl: -1,
            czxid: zxid,
            mzxid: zxid,
            ctime_ms: 5,
            mtime_ms: 6,
            version: 7,
            cversion: 8,
            aversion: 9,
            owner: 0,
            pzxid: zxid,
        }
    }

    /// The paths of a made-up tree, parents first.
    fn paths() -> Vec<String> {
        let mut paths = vec![String::new()];
        for a in 0..23 {
            paths.push(format!("/a{a}"));
            for b in 0..a {
                paths.push(format!("/a{a}/b-{b}"));
                paths.extend((0..b % 5).map(|c| format!("/a{a}/b-{b}/{c}")));
            }
        }
        paths
    }

    #[test]
    fn any_size_of_chunk_gives_key_order_and_counts_children() {
        let paths = paths();
        let mut children = BTreeMap::new();
        for path in &paths[1..] {
            *children.entry(path.rsplit_once('/').unwrap().0).or_insert(0u32) += 1;
        }
        let mut expected: Vec<(&str, &str, u32)> = paths
            .iter()
            .map(|path| {
                let (parent, name) = path.rsplit_once('/').unwrap_or_default();
                (parent, name, children.get(path.as_str()).copied().unwrap_or(0))
            })
            .collect();
        expected.sort_unstable();
        // The smallest: every record goes to a file of its own, and files are merged before the end, too.
        for chunk_bytes in [1, 300, 5_000, 1 << 20] {
            let mut sorter = Sorter::new("snapshot.1".into(), std::env::temp_dir(), chunk_bytes);
            for (at, path) in paths.iter().enumerate() {
                sorter.push(&node(path, at as u64), at as u32, at as u64).unwrap();
            }
            let mut scanned = 0;
            sorter.scan(|_, bytes| scanned += 1 + bytes).unwrap();
            let bytes: usize = paths.iter().filter(|path| !path.ends_with('0')).map(String::len).sum();
            assert_eq!(scanned, paths.len() + bytes);
            let mut ordered = sorter.finish().unwrap();
            let mut found = Vec::new();
            while let Some(sorted) = ordered.next().unwrap() {
                let at = sorted.acl as usize;
                assert_eq!((sorted.path, sorted.version.czxid.raw()), (paths[at].as_str(), at as u64));
                assert_eq!(sorted.data, node(&paths[at], 0).data);
                assert_eq!(sorted.version.prefix_crc, digest::prefix_crc(sorted.path, sorted.data));
                found.push((sorted.parent.to_owned(), sorted.name.to_owned(), sorted.version.children));
            }
            let found: Vec<_> = found.iter().map(|(parent, name, count)| (&**parent, &**name, *count)).collect();
            assert_eq!(found, expected, "chunks of {chunk_bytes} bytes");
        }
    }

    #[test]
    fn a_missing_parent_and_a_path_twice_are_damage() {
        let judge = |paths: &[&str]| {
            let mut sorter = Sorter::new("snapshot.1".into(), std::env::temp_dir(), 64);
            for (at, path) in paths.iter().enumerate() {
                sorter.push(&node(path, 1), 0, 100 + at as u64)?;
            }
            let mut ordered = sorter.finish()?;
            while ordered.next()?.is_some() {}
            Ok::<_, Fault>(())
        };
        judge(&["", "/a", "/a/b"]).unwrap();
        for (paths, words) in [
            (
                ["", "/a", "/b/c"],
                "snapshot.1: byte 102: expected a parent /b of what stands here, found none in the file",
            ),
            (["/a", "/b", "/a/c"], "byte 100: expected a parent  of what"),
            (["", "/a", "/a"], "byte 102: expected each path once, found /a a second time"),
            (["", "/a", "/a/"], "byte 102: expected a path without an empty name in it, found /a/"),
            (["", "/a", "/a//b"], "byte 102: expected a path without"),
        ] {
            let fault = judge(&paths).unwrap_err().to_string();
            assert!(fault.contains(words), "{fault}");
        }
    }
}
