//! The server's maxima, some of them so small that a model reaches them.

pub use zorilla::limits::*;

/// One delivery of this size leaves no room, whatever the queue holds.
pub const MAILBOX_BYTES_MAX: usize = 16;

/// One counter for each kind of watch: `loom` follows every one of them.
pub const INTEREST_COUNTERS: usize = 2;
/// See [`INTEREST_COUNTERS`].
pub const INTEREST_RECURSIVE_COUNTERS: usize = 1;
