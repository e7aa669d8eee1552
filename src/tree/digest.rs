//! The digest by which servers compare their trees: the reference's, version 2.
//!
//! The digest of a znode is the CRC-32 of its path, its data and sixty bytes of its stat; that of a tree is the sum
//! over its znodes. The path and the data come first, so their share is kept with the znode ([`prefix_crc`]) and a
//! changed stat costs the sixty bytes only ([`node`]).
//!
//! Those sixty bytes are digested several times per create, and the crate that computes CRC-32 goes byte by byte below
//! 64 of them. Twenty tables of our own make three steps of it.

use super::NodeVersion;

/// The bytes of a stat that a digest covers.
const STAT_BYTES: usize = 60;
/// Bytes digested in one step.
const STEP_BYTES: usize = 20;
/// From here on the vector instructions of the crate win over our tables.
const LONG_BYTES: usize = 192;

const _: () = assert!(STAT_BYTES.is_multiple_of(STEP_BYTES));

/// `TABLES[n][b]`: what the byte `b` adds to the CRC if `n` more bytes follow in the step.
static TABLES: [[u32; 256]; STEP_BYTES] = tables();

const fn tables() -> [[u32; 256]; STEP_BYTES] {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut tables = [[0; 256]; STEP_BYTES];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < STEP_BYTES {
        let mut byte = 0;
        while byte < 256 {
            let before: u32 = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][before as usize & 0xff];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// Continues a CRC (in its inner form, inverted) over twenty bytes.
#[inline]
fn step(state: u32, bytes: &[u8; STEP_BYTES]) -> u32 {
    let state = state.to_le_bytes();
    let mut next = 0;
    for at in 0..STEP_BYTES {
        let byte = if at < 4 { bytes[at] ^ state[at] } else { bytes[at] };
        next ^= TABLES[STEP_BYTES - 1 - at][byte as usize];
    }
    next
}

/// Continues a CRC over any bytes.
fn extend(crc: u32, bytes: &[u8]) -> u32 {
    if LONG_BYTES <= bytes.len() {
        let mut hasher = crc32fast::Hasher::new_with_initial(crc);
        hasher.update(bytes);
        return hasher.finalize();
    }
    let mut state = !crc;
    let (steps, mut rest) = bytes.as_chunks::<STEP_BYTES>();
    for bytes in steps {
        state = step(state, bytes);
    }
    // Four bytes at a time take up the whole state.
    while let Some((first, others)) = rest.split_first_chunk::<4>() {
        let [a, b, c, d] = (u32::from_le_bytes(*first) ^ state).to_le_bytes();
        state = TABLES[3][a as usize] ^ TABLES[2][b as usize] ^ TABLES[1][c as usize] ^ TABLES[0][d as usize];
        rest = others;
    }
    for byte in rest {
        state = (state >> 8) ^ TABLES[0][(state as u8 ^ byte) as usize];
    }
    !state
}

/// The CRC of a path and its data, to be continued by [`node`]. The root is digested as the empty path.
pub fn prefix_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let path = if path == "/" { "" } else { path };
    extend(extend(0, path.as_bytes()), data.unwrap_or_default())
}

/// The digest of a znode whose path and data have this CRC, wherever it is in the tree.
#[inline]
pub fn node(prefix_crc: u32, version: &NodeVersion) -> u32 {
    let mut stat = [0; STAT_BYTES];
    stat[0..8].copy_from_slice(&version.czxid.raw().to_be_bytes());
    stat[8..16].copy_from_slice(&version.mzxid.raw().to_be_bytes());
    stat[16..24].copy_from_slice(&version.pzxid.raw().to_be_bytes());
    stat[24..32].copy_from_slice(&version.ctime_ms.to_be_bytes());
    stat[32..40].copy_from_slice(&version.mtime_ms.to_be_bytes());
    stat[40..44].copy_from_slice(&version.version.to_be_bytes());
    stat[44..48].copy_from_slice(&version.children_created.to_be_bytes());
    stat[48..52].copy_from_slice(&version.aversion.to_be_bytes());
    stat[52..60].copy_from_slice(&version.owner.to_be_bytes());
    let (steps, _) = stat.as_chunks::<STEP_BYTES>();
    let mut state = !prefix_crc;
    for bytes in steps {
        state = step(state, bytes);
    }
    !state
}

/// What a znode at `path` adds to the digest of the tree: nothing below `/zookeeper/`.
pub fn of(path: &str, version: &NodeVersion) -> u64 {
    short(path, version).into()
}

#[inline]
pub(super) fn short(path: &str, version: &NodeVersion) -> u32 {
    if excludes(path) { 0 } else { node(version.prefix_crc, version) }
}

/// The same for a run, where a path is in two parts.
pub fn of_entry(parent: &str, name: &str, version: &NodeVersion) -> u64 {
    let is_excluded = parent == "/zookeeper" && !name.is_empty() || excludes(parent);
    if is_excluded { 0 } else { node(version.prefix_crc, version).into() }
}

/// Whether znodes at this path count nothing in the digest of the tree.
#[inline]
pub fn excludes(path: &str) -> bool {
    path.as_bytes().starts_with(b"/zookeeper/")
}

#[cfg(test)]
mod tests {
    use zorilla_proto::ids::Zxid;

    use super::*;

    fn version(zxid: u64, time_ms: i64, children_created: i32) -> NodeVersion {
        let zxid = Zxid::from_raw(zxid);
        NodeVersion {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            version: 0,
            children_created,
            aversion: 0,
            owner: 0,
            data_bytes: 0,
            data_is_null: false,
            children: 0,
            prefix_crc: 0,
        }
    }

    /// Values that the reference printed or logged.
    #[test]
    fn digests_are_those_of_the_reference() {
        assert_eq!(node(prefix_crc("", Some(b"")), &version(0, 0, 0)), 68_323_592);
        assert_eq!(node(prefix_crc("/", None), &version(0, 0, 0)), 68_323_592);
        assert_eq!(node(prefix_crc("/zookeeper", Some(b"")), &version(0, 0, 0)), 1_303_661_912);
        assert_eq!(node(prefix_crc("/a", Some(b"hello")), &version(2, 1_700_000_000_000, 0)), 2_769_395_019);
        assert_eq!(node(prefix_crc("/a", Some(b"x")), &version(2, 1_795_309_008_753, 0)), 0x5883_6cde);
        let root = NodeVersion { pzxid: Zxid::from_raw(2), children_created: 1, ..version(0, 0, 0) };
        assert_eq!(node(prefix_crc("", Some(b"")), &root), 0x0315_78f2);
    }

    #[test]
    fn both_ways_to_digest_agree_at_every_length() {
        let bytes: Vec<u8> = (0..2 * LONG_BYTES).map(|at| (at * 131 + at / 7) as u8).collect();
        for split in [0, 1, 5, 20, 33] {
            for end in split..bytes.len() {
                let crc = extend(extend(0, &bytes[..split]), &bytes[split..end]);
                assert_eq!(crc, crc32fast::hash(&bytes[..end]), "{split} then {end} bytes");
            }
        }
    }
}
