//! A buffer whose first byte lies on a block boundary, so that it can be handed to a direct write as it is.
//!
//! Guarantees: the address never changes while the buffer lives, wherever the value is moved.

use crate::limits::BLOCK_BYTES;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Whole blocks of memory, aligned to [`BLOCK_BYTES`].
///
/// It is a little larger than asked for and begins inside: that needs no unsafe code and costs one block of
/// address space, once.
pub struct AlignedBuf {
    memory: Box<[u8]>,
    start: usize,
    bytes: usize,
}

impl AlignedBuf {
    /// At least `bytes`, rounded up to whole blocks, all zero.
    pub fn new(bytes: usize) -> AlignedBuf {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let memory = vec![0u8; bytes + BLOCK_BYTES].into_boxed_slice();
        let address = memory.as_ptr() as usize;
        AlignedBuf { start: address.next_multiple_of(BLOCK_BYTES) - address, memory, bytes }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.bytes]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "AlignedBuf({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_on_a_block_and_stays_there_when_moved() {
        for bytes in [1, 4096, 4097, 1 << 20] {
            let buffer = AlignedBuf::new(bytes);
            let address = buffer.as_ptr() as usize;
            assert_eq!(address % BLOCK_BYTES, 0);
            assert_eq!(buffer.len(), bytes.next_multiple_of(BLOCK_BYTES));
            let moved = Box::new(buffer);
            assert_eq!(moved.as_ptr() as usize, address);
        }
    }
}
