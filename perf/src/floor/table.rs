//! The floor's znodes: a table of places in an arena.
//!
//! Guarantees: grows in small steps, because it is many small tables; a stall of the floor is then the disk's. A
//! znode costs its bytes, one entry and no call of the allocator.

use crate::limits::FLOOR_CHUNK_BYTES;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::time::{SystemTime, UNIX_EPOCH};
use zorilla_proto::{Stat, Zxid};

/// Small tables; one that doubles copies this fraction of all entries.
const SHARDS: usize = 1024;

/// Where a znode's path and data stand: the data follows the path.
#[derive(Debug)]
struct Place {
    chunk: u32,
    offset: u32,
    path_bytes: u32,
    data_bytes: u32,
    room_bytes: u32,
    version: i32,
    czxid: i64,
    mzxid: i64,
    ctime_ms: i64,
    mtime_ms: i64,
}

/// A znode as a reply shows it.
pub struct Znode<'t> {
    /// Its data.
    pub data: &'t [u8],
    /// Its stat, as far as the floor knows one.
    pub stat: Stat,
}

/// All znodes, and the zxid that the last write took.
pub struct Table {
    hasher: DefaultHashBuilder,
    shards: Vec<HashTable<Place>>,
    chunks: Vec<Box<[u8]>>,
    used: usize,
    zxid: i64,
    now_ms: i64,
}

impl Table {
    /// No znodes; parents are not looked at, so even the root is not needed.
    pub fn new() -> Table {
        let mut table = Table {
            hasher: DefaultHashBuilder::default(),
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            chunks: Vec::new(),
            used: FLOOR_CHUNK_BYTES,
            zxid: 0,
            now_ms: 0,
        };
        table.tick();
        table
    }

    /// Reads the clock, once per turn.
    pub fn tick(&mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.now_ms = since.as_millis() as i64;
    }

    /// What the last write took.
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    fn take(chunks: &mut Vec<Box<[u8]>>, used: &mut usize, bytes: usize) -> (u32, u32) {
        if FLOOR_CHUNK_BYTES < *used + bytes {
            chunks.push(vec![0; FLOOR_CHUNK_BYTES].into_boxed_slice());
            *used = 0;
        }
        let offset = *used;
        *used += bytes;
        (chunks.len() as u32 - 1, offset as u32)
    }

    /// Takes a zxid; `false` if the path is taken.
    pub fn create(&mut self, path: &[u8], data: &[u8]) -> bool {
        self.zxid += 1;
        let hash = self.hasher.hash_one(path);
        let Table { hasher, shards, chunks, used, zxid, now_ms } = self;
        let shard = &mut shards[shard_of(hash)];
        if shard.find(hash, |place| place.path(chunks) == path).is_some() {
            return false;
        }
        let (chunk, offset) = Table::take(chunks, used, path.len() + data.len());
        let memory = &mut chunks[chunk as usize][offset as usize..][..path.len() + data.len()];
        memory[..path.len()].copy_from_slice(path);
        memory[path.len()..].copy_from_slice(data);
        let place = Place {
            chunk,
            offset,
            path_bytes: path.len() as u32,
            data_bytes: data.len() as u32,
            room_bytes: data.len() as u32,
            version: 0,
            czxid: *zxid,
            mzxid: *zxid,
            ctime_ms: *now_ms,
            mtime_ms: *now_ms,
        };
        shard.insert_unique(hash, place, |place| hasher.hash_one(place.path(chunks)));
        true
    }

    /// Takes a zxid; `None` if there is no such path.
    pub fn set(&mut self, path: &[u8], data: &[u8]) -> Option<Stat> {
        self.zxid += 1;
        let hash = self.hasher.hash_one(path);
        let Table { shards, chunks, used, zxid, now_ms, .. } = self;
        let place = shards[shard_of(hash)].find_mut(hash, |place| place.path(chunks) == path)?;
        if (place.room_bytes as usize) < data.len() {
            // The old place is lost: sets that grow are not what the floor measures.
            let (chunk, offset) = Table::take(chunks, used, path.len() + data.len());
            chunks[chunk as usize][offset as usize..][..path.len()].copy_from_slice(path);
            (place.chunk, place.offset, place.room_bytes) = (chunk, offset, data.len() as u32);
        }
        let start = (place.offset + place.path_bytes) as usize;
        chunks[place.chunk as usize][start..start + data.len()].copy_from_slice(data);
        place.data_bytes = data.len() as u32;
        place.version = place.version.wrapping_add(1);
        place.mzxid = *zxid;
        place.mtime_ms = *now_ms;
        Some(place.stat())
    }

    /// Takes a zxid; `false` if there is no such path. The bytes of the znode stay where they are, unused.
    pub fn delete(&mut self, path: &[u8]) -> bool {
        self.zxid += 1;
        let hash = self.hasher.hash_one(path);
        let chunks = &self.chunks;
        match self.shards[shard_of(hash)].find_entry(hash, |place| place.path(chunks) == path) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Puts the zxid back to that of the transaction whose parts have each taken one.
    pub fn set_zxid(&mut self, zxid: i64) {
        assert!(zxid <= self.zxid, "zxid {zxid} was not taken yet, only {}", self.zxid);
        self.zxid = zxid;
    }

    /// Data and stat of a path.
    pub fn get(&self, path: &[u8]) -> Option<Znode<'_>> {
        let hash = self.hasher.hash_one(path);
        let place = self.shards[shard_of(hash)].find(hash, |place| place.path(&self.chunks) == path)?;
        let start = (place.offset + place.path_bytes) as usize;
        let data = &self.chunks[place.chunk as usize][start..start + place.data_bytes as usize];
        Some(Znode { data, stat: place.stat() })
    }
}

/// The small tables use the low and the topmost bits themselves.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl Place {
    fn path<'c>(&self, chunks: &'c [Box<[u8]>]) -> &'c [u8] {
        &chunks[self.chunk as usize][self.offset as usize..][..self.path_bytes as usize]
    }

    fn stat(&self) -> Stat {
        Stat {
            czxid: Zxid::from_raw(self.czxid as u64),
            mzxid: Zxid::from_raw(self.mzxid as u64),
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            data_length: self.data_bytes as i32,
            num_children: 0,
            pzxid: Zxid::from_raw(self.czxid as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn behaves_like_a_map() {
        let mut random = crate::wire::Random::new(11);
        let mut table = Table::new();
        let mut model: BTreeMap<Vec<u8>, (Vec<u8>, i32)> = BTreeMap::new();
        for step in 0..30_000u32 {
            let path = format!("/n{}", random.below(3_000)).into_bytes();
            let data = vec![step as u8; random.below(2_000) as usize];
            if random.below(4) == 0 {
                assert_eq!(table.delete(&path), model.remove(&path).is_some());
            } else if random.below(2) == 0 {
                assert_eq!(table.create(&path, &data), !model.contains_key(&path));
                model.entry(path.clone()).or_insert((data, 0));
            } else {
                let stat = table.set(&path, &data);
                assert_eq!(stat.is_some(), model.contains_key(&path));
                if let Some((known, version)) = model.get_mut(&path) {
                    *known = data;
                    *version += 1;
                }
            }
            assert_eq!(table.zxid(), i64::from(step) + 1);
            let found = table.get(&path).map(|znode| (znode.data.to_vec(), znode.stat.version));
            assert_eq!(found.as_ref(), model.get(&path));
        }
        assert!(500 < model.len());
        for (path, (data, version)) in &model {
            let znode = table.get(path).expect("every znode of the model");
            assert_eq!((znode.data, znode.stat.version), (data.as_slice(), *version));
            assert_eq!(znode.stat.data_length as usize, data.len());
        }
    }
}
