//! The named maxima of this crate, and the relations between them that the compiler checks.
//!
//! Decoders need no table of inner limits: every inner length and count is bounded by the bytes that
//! remain in its frame, and a frame is bounded here before anything of it is read.

/// Longest frame payload a server accepts by default (`jute.maxbuffer` of ZooKeeper): 1,048,575 bytes
/// are accepted, one more is refused. It bounds requests only; replies may be longer.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 0xf_ffff;

/// Longest payload any frame can announce: the length is a signed 32-bit number.
pub const FRAME_BYTES_MAX: usize = i32::MAX as usize;

/// Bytes of the length that opens every frame.
pub const FRAME_HEADER_BYTES: usize = 4;

/// Bytes of a session password. The C client reads exactly this many, without looking at the length.
pub const PASSWORD_BYTES: usize = 16;

/// Longest time to live of a TTL node in milliseconds: 40 bits, about 34 years.
pub const TTL_MS_MAX: i64 = 0xff_ffff_ffff;

/// Bytes of an owner field that hold a time to live: the lowest five.
const TTL_BYTES: u32 = 5;

// The default is itself a length that a frame can carry.
const _: () = assert!(FRAME_BYTES_MAX_DEFAULT <= FRAME_BYTES_MAX);
// A TTL fills the low bytes of `ephemeralOwner` and never touches the marker byte above them.
const _: () = assert!(TTL_MS_MAX == (1 << (8 * TTL_BYTES)) - 1);
