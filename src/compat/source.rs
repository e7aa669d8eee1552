//! The bytes of one file in order, with their place and their Adler-32, unpacked where they are packed.

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use zorilla_proto::jute;

use super::files::Compression;
use super::{Damage, Fault};
use crate::limits::SNAPPY_BLOCK_BYTES_MAX;

/// What is taken from the operating system at once.
const BUFFER_BYTES: usize = 256 << 10;
/// By how much memory for a value grows while its bytes arrive.
const GROWTH_BYTES: usize = 64 << 10;

/// See the module.
pub(super) struct Source<R> {
    name: PathBuf,
    inner: Unpacked<R>,
    buffer: Box<[u8]>,
    /// What of the buffer was not taken yet.
    at: usize,
    end: usize,
    offset: u64,
    adler: adler2::Adler32,
    length_max: usize,
}

enum Unpacked<R> {
    Plain(R),
    Gz(Box<MultiGzDecoder<R>>),
    Snappy(Box<Snappy<R>>),
}

impl<R: Read> Source<R> {
    pub fn new(name: PathBuf, bytes: R, compression: Compression, length_max: usize) -> Source<R> {
        let inner = match compression {
            Compression::Plain => Unpacked::Plain(bytes),
            Compression::Gz => Unpacked::Gz(Box::new(MultiGzDecoder::new(bytes))),
            Compression::Snappy => Unpacked::Snappy(Box::new(Snappy::new(bytes))),
        };
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Source { name, inner, buffer, at: 0, end: 0, offset: 0, adler: adler2::Adler32::new(), length_max }
    }

    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The Adler-32 of everything taken so far.
    pub fn adler(&self) -> u32 {
        self.adler.checksum()
    }

    /// The same, to be continued elsewhere.
    pub fn adler_so_far(&self) -> adler2::Adler32 {
        adler2::Adler32::from_checksum(self.adler.checksum())
    }

    /// The longest string, buffer or entry that is read.
    pub fn length_max(&self) -> usize {
        self.length_max
    }

    pub fn damaged(&self, offset: u64, expected: impl Into<String>, found: impl Into<String>) -> Fault {
        let (file, expected, found) = (self.name.clone(), expected.into(), found.into());
        Fault::Damaged(Damage { file, offset, expected, found })
    }

    /// Makes sure that the buffer holds something. `false`: there is nothing more.
    fn refill(&mut self) -> Result<bool, Fault> {
        if self.at < self.end {
            return Ok(true);
        }
        loop {
            let read = match &mut self.inner {
                Unpacked::Plain(bytes) => bytes.read(&mut self.buffer),
                Unpacked::Gz(bytes) => bytes.read(&mut self.buffer),
                Unpacked::Snappy(bytes) => bytes.read(&mut self.buffer),
            };
            match read {
                Ok(read) => {
                    (self.at, self.end) = (0, read);
                    return Ok(0 < read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What unpacks names a fault of the bytes without a number of the operating system's.
                Err(error) if error.raw_os_error().is_none() && !matches!(self.inner, Unpacked::Plain(_)) => {
                    return Err(self.damaged(self.offset, "whole packed content", error.to_string()));
                }
                Err(source) => return Err(Fault::Io { what: "read", file: self.name.clone(), source }),
            }
        }
    }

    /// Takes up to `out.len()` bytes; fewer only at the end.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < out.len() && self.refill()? {
            let bytes = (out.len() - filled).min(self.end - self.at);
            out[filled..filled + bytes].copy_from_slice(&self.buffer[self.at..self.at + bytes]);
            self.at += bytes;
            filled += bytes;
        }
        self.adler.write_slice(&out[..filled]);
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Appends up to `bytes` bytes to `out`; fewer only at the end. Memory grows with what is there.
    pub fn extend(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<usize, Fault> {
        let mut taken = 0;
        while taken < bytes {
            let step = GROWTH_BYTES.min(bytes - taken);
            let begin = out.len();
            out.resize(begin + step, 0);
            let filled = self.fill(&mut out[begin..])?;
            out.truncate(begin + filled);
            taken += filled;
            if filled < step {
                break;
            }
        }
        Ok(taken)
    }

    /// Takes everything that is left: how many bytes, and where the first is that is not zero.
    pub fn rest(&mut self) -> Result<(u64, Option<u64>), Fault> {
        let (begin, mut first) = (self.offset, None);
        while self.refill()? {
            let bytes = &self.buffer[self.at..self.end];
            if first.is_none() {
                first = bytes.iter().position(|byte| *byte != 0).map(|at| self.offset + at as u64);
            }
            self.offset += bytes.len() as u64;
            self.at = self.end;
        }
        Ok((self.offset - begin, first))
    }

    /// Takes `N` bytes of `what`.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let offset = self.offset;
        let mut bytes = [0; N];
        let filled = self.fill(&mut bytes)?;
        if filled < N {
            return Err(self.damaged(offset, format!("{N} bytes of {what}"), format!("the end after {filled}")));
        }
        Ok(bytes)
    }

    pub fn i32(&mut self, what: &str) -> Result<i32, Fault> {
        self.array(what).map(i32::from_be_bytes)
    }

    pub fn i64(&mut self, what: &str) -> Result<i64, Fault> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// Takes a buffer and appends it to `out`. `None`: it is null.
    pub fn buffer(&mut self, what: &str, out: &mut Vec<u8>) -> Result<Option<usize>, Fault> {
        let offset = self.offset;
        let length = self.i32(what)?;
        if length == -1 {
            return Ok(None);
        }
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= self.length_max);
        let Some(bytes) = bytes else {
            let expected = format!("a length of {what} up to {} (jute.maxbuffer)", self.length_max);
            return Err(self.damaged(offset, expected, length.to_string()));
        };
        let taken = self.extend(out, bytes)?;
        if taken < bytes {
            return Err(self.damaged(offset, format!("{bytes} bytes of {what}"), format!("the end after {taken}")));
        }
        Ok(Some(bytes))
    }

    /// Takes a string that is not null and appends its text to `out`, malformed sequences replaced as everywhere.
    pub fn string(&mut self, what: &str, out: &mut Vec<u8>) -> Result<usize, Fault> {
        let (offset, begin) = (self.offset, out.len());
        let Some(bytes) = self.buffer(what, out)? else {
            return Err(self.damaged(offset, what, "null"));
        };
        match jute::text(&out[begin..]) {
            Cow::Borrowed(_) => Ok(bytes),
            Cow::Owned(text) => {
                out.truncate(begin);
                out.extend_from_slice(text.as_bytes());
                Ok(text.len())
            }
        }
    }
}

/// How every stream of the snappy-java library begins: a magic number, its version, and the oldest that can read it.
pub(super) const SNAPPY_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";

/// The stream format of the snappy-java library: a header of 16 bytes, then blocks, each its packed length and its
/// bytes. Where streams were put behind each other the header stands again in place of a length.
struct Snappy<R> {
    bytes: R,
    begun: bool,
    packed: Vec<u8>,
    block: Vec<u8>,
    at: usize,
}

fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<R: Read> Snappy<R> {
    fn new(bytes: R) -> Snappy<R> {
        Snappy { bytes, begun: false, packed: Vec::new(), block: Vec::new(), at: 0 }
    }

    /// Takes all of `out`, or nothing at the very end.
    fn take(&mut self, out: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < out.len() {
            match self.bytes.read(&mut out[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(malformed("a snappy stream that ends inside a block")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Unpacks the next block. `false`: there is none.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut head = [0; 4];
        loop {
            if !self.take(&mut head)? {
                return if self.begun { Ok(false) } else { Err(malformed("an empty file")) };
            }
            if head == SNAPPY_MAGIC[..4] {
                let mut header = [0; 12];
                if !self.take(&mut header)? || header[..4] != SNAPPY_MAGIC[4..] {
                    return Err(malformed("a damaged header of a snappy stream"));
                }
                self.begun = true;
                continue;
            }
            break;
        }
        if !self.begun {
            return Err(malformed("no header of a snappy stream"));
        }
        let length = u32::from_be_bytes(head) as usize;
        if snap::raw::max_compress_len(SNAPPY_BLOCK_BYTES_MAX) < length {
            return Err(malformed(format!("a packed block of {length} bytes")));
        }
        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(length, 0);
        let taken = 0 < length && self.take(&mut packed)?;
        self.packed = packed;
        if !taken {
            return Err(malformed("a snappy stream that ends inside a block"));
        }
        let plain = snap::raw::decompress_len(&self.packed).map_err(|error| malformed(error.to_string()))?;
        if SNAPPY_BLOCK_BYTES_MAX < plain {
            return Err(malformed(format!("a block that unpacks to {plain} bytes")));
        }
        self.block.resize(plain, 0);
        self.at = 0;
        snap::raw::Decoder::new()
            .decompress(&self.packed, &mut self.block)
            .map_err(|error| malformed(error.to_string()))?;
        Ok(true)
    }
}

impl<R: Read> Read for Snappy<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let bytes = out.len().min(self.block.len() - self.at);
        out[..bytes].copy_from_slice(&self.block[self.at..self.at + bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}
