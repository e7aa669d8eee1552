//! Every maximum of a run, by name.

/// The unit of checksums and of residency, bytes.
pub const BLOCK_BYTES: usize = 64 << 10;
/// The largest run: what an index slot can address.
pub const RUN_BYTES_MAX: u64 = 1 << 40;
/// The longest parent path or name.
pub const PATH_BYTES_MAX: usize = 16 << 20;
/// The longest value.
pub const VALUE_BYTES_MAX: usize = 256 << 20;
/// Values from here on are compressed if that makes them smaller.
pub const PACK_BYTES_MIN: usize = 4 << 10;
/// Effort of the compression: zstd's level.
pub const PACK_LEVEL: i32 = 1;
/// The largest meta section that is read.
pub const META_BYTES_MAX: u64 = 4 << 30;
/// Different access lists in a run.
pub const ACLS_MAX: usize = u32::MAX as usize >> 4;
/// Runs that may be mapped at once by a process.
pub const MAPPINGS_MAX: usize = 256;
/// The longest time to live of a znode, ms: the five bytes that its owner field has for it.
pub const TTL_MS_MAX: i64 = 0xff_ffff_ffff;
