//! The encoded transactions that are under way, and the records of reads that wait behind them.
//!
//! Guarantees: bytes are written once and do not move until they are released, oldest first. Chunks are recycled, so a warm
//! window does not allocate.

use std::collections::VecDeque;

use crate::limits::{SPARE_CHUNKS_MAX, WINDOW_CHUNK_BYTES};

/// Where some bytes lie in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    chunk: u64,
    at: u32,
    bytes: u32,
}

impl Span {
    /// How many bytes.
    pub fn len(self) -> usize {
        self.bytes as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.bytes == 0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Window {
    chunks: VecDeque<Vec<u8>>,
    /// Number of the chunk at the front.
    first: u64,
    spare: Vec<Vec<u8>>,
    bytes: usize,
}

impl Window {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends what `encode` writes: at most about `bytes_expected`, or the chunk is moved while it grows.
    pub fn write(&mut self, bytes_expected: usize, encode: impl FnOnce(&mut Vec<u8>)) -> Span {
        let fits = self.chunks.back().is_some_and(|chunk| bytes_expected <= chunk.capacity() - chunk.len());
        if !fits {
            let chunk = match self.spare.pop() {
                Some(chunk) if bytes_expected <= chunk.capacity() => chunk,
                _ => Vec::with_capacity(bytes_expected.max(WINDOW_CHUNK_BYTES)),
            };
            self.chunks.push_back(chunk);
        }
        let chunk = self.first + self.chunks.len() as u64 - 1;
        let buffer = self.chunks.back_mut().expect("a chunk was pushed where none fitted");
        let at = buffer.len();
        encode(buffer);
        let bytes = buffer.len() - at;
        self.bytes += bytes;
        Span { chunk, at: at as u32, bytes: bytes as u32 }
    }

    /// The bytes of a span that has not been released.
    pub fn get(&self, span: Span) -> &[u8] {
        if span.is_empty() {
            // Its chunk may be gone: nothing of it holds the chunk.
            return &[];
        }
        assert!(self.first <= span.chunk, "span of chunk {} read after its release", span.chunk);
        let chunk = &self.chunks[(span.chunk - self.first) as usize];
        &chunk[span.at as usize..span.at as usize + span.bytes as usize]
    }

    /// Releases a span; every span written before it has been released, or is empty.
    pub fn release(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        self.bytes -= span.len();
        while self.first < span.chunk {
            self.pop();
        }
        if self.bytes == 0 {
            while 1 < self.chunks.len() {
                self.pop();
            }
            // Nothing refers to the last chunk either: it is written from its start again.
            if let Some(last) = self.chunks.front_mut() {
                last.clear();
                self.first += 1;
            }
        }
    }

    fn pop(&mut self) {
        let Some(mut chunk) = self.chunks.pop_front() else { return };
        self.first += 1;
        if self.spare.len() < SPARE_CHUNKS_MAX && chunk.capacity() <= WINDOW_CHUNK_BYTES {
            chunk.clear();
            self.spare.push(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_place_until_released_in_order() {
        let mut window = Window::default();
        let mut spans = VecDeque::new();
        for number in 0u32..20_000 {
            let bytes = if number % 1000 == 7 { 3 * WINDOW_CHUNK_BYTES / 2 } else { 300 };
            let span = window.write(bytes, |out| out.resize(out.len() + bytes, number as u8));
            spans.push_back((number, bytes, span));
            if 50 < spans.len() {
                let (number, bytes, span) = spans.pop_front().unwrap();
                assert_eq!(window.get(span).len(), bytes);
                assert!(window.get(span).iter().all(|byte| *byte == number as u8));
                window.release(span);
            }
        }
        while let Some((_, _, span)) = spans.pop_front() {
            window.release(span);
        }
        assert_eq!(window.bytes(), 0);
        assert!(window.chunks.len() <= 1);
    }

    #[test]
    fn an_empty_span_outlives_the_bytes_before_it() {
        let mut window = Window::default();
        let write = window.write(10, |out| out.extend_from_slice(&[1; 10]));
        let pings = [window.write(0, |_| {}), window.write(0, |_| {})];
        window.release(write);
        for ping in pings {
            assert_eq!(window.get(ping), &[] as &[u8]);
            window.release(ping);
        }
        let write = window.write(10, |out| out.extend_from_slice(&[2; 10]));
        assert_eq!(window.get(write), &[2; 10]);
        window.release(write);
        assert_eq!(window.bytes(), 0);
    }
}
