//! Framing: where one message ends and the next begins.
//!
//! A frame is a signed 32-bit big-endian length and as many bytes of payload; frames follow one another
//! without padding. Guarantees: the length is judged before a byte of the payload is looked at, so a peer
//! cannot make a server wait for, or make room for, a frame it would refuse.

use std::fmt;

use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};

/// What stands at the beginning of some received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A whole frame.
    Complete {
        /// Its payload, without the length.
        payload: &'a [u8],
        /// The bytes it takes up, with the length: where the next frame begins.
        consumed: usize,
    },
    /// The beginning of a frame.
    Partial {
        /// How many more bytes are needed before asking again can help: the rest of the length, or, once
        /// that is known, the rest of the frame.
        needed: usize,
    },
    /// No frame this server accepts; the connection cannot be understood from here on.
    Bad(FrameError),
}

/// A length that is negative or above the maximum. The connection is closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// The length that was announced.
    pub frame_bytes: i32,
    /// The largest one that is accepted.
    pub frame_bytes_max: usize,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame of {} bytes announced, 0 to {} are accepted", self.frame_bytes, self.frame_bytes_max)
    }
}

impl std::error::Error for FrameError {}

/// Looks for one frame at the beginning of `bytes`; its payload may have up to `frame_bytes_max` bytes.
#[inline]
pub fn split(bytes: &[u8], frame_bytes_max: usize) -> Framed<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Framed::Partial { needed: FRAME_HEADER_BYTES - bytes.len() };
    };
    let frame_bytes = i32::from_be_bytes(*length);
    match usize::try_from(frame_bytes) {
        Ok(length) if length <= frame_bytes_max => match rest.split_at_checked(length) {
            Some((payload, _)) => Framed::Complete { payload, consumed: FRAME_HEADER_BYTES + length },
            None => Framed::Partial { needed: length - rest.len() },
        },
        _ => Framed::Bad(FrameError { frame_bytes, frame_bytes_max }),
    }
}

/// Begins a frame at the end of `out`: leaves room for its length, and returns the mark for [`end`].
#[inline]
pub fn begin(out: &mut Vec<u8>) -> usize {
    let mark = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    mark
}

/// Ends the frame that [`begin`] began at `mark`: all that was appended since is its payload.
///
/// # Panics
///
/// If the payload is longer than a length can say, or `mark` is not from [`begin`] on this buffer. Both are
/// the caller's own doing: it bounds what it puts into a frame.
#[inline]
pub fn end(out: &mut [u8], mark: usize) {
    let payload = mark + FRAME_HEADER_BYTES;
    assert!(payload <= out.len(), "frame ends at byte {} before its payload at {payload}", out.len());
    let length = out.len() - payload;
    assert!(length <= FRAME_BYTES_MAX, "frame of {length} bytes, a length says at most {FRAME_BYTES_MAX}");
    out[mark..payload].copy_from_slice(&(length as i32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_frame_is_split_off_again_and_the_next_one_follows() {
        let mut out = Vec::new();
        for payload in [&b"first"[..], b"", b"third"] {
            let mark = begin(&mut out);
            out.extend_from_slice(payload);
            end(&mut out, mark);
        }
        let mut rest = &out[..];
        for expected in [&b"first"[..], b"", b"third"] {
            let Framed::Complete { payload, consumed } = split(rest, 5) else { panic!("no frame in {rest:?}") };
            assert_eq!(payload, expected);
            rest = &rest[consumed..];
        }
        assert_eq!(split(rest, 5), Framed::Partial { needed: 4 });
    }

    #[test]
    fn every_prefix_says_how_much_is_missing() {
        let frame = [0, 0, 0, 3, b'a', b'b', b'c'];
        for have in 0..4 {
            assert_eq!(split(&frame[..have], 3), Framed::Partial { needed: 4 - have });
        }
        for have in 4..7 {
            assert_eq!(split(&frame[..have], 3), Framed::Partial { needed: 7 - have });
        }
        assert_eq!(split(&frame, 3), Framed::Complete { payload: b"abc", consumed: 7 });
    }

    #[test]
    fn the_length_is_judged_before_the_payload_arrives() {
        for (length, max) in [(-1, 100), (i32::MIN, 100), (101, 100), (i32::MAX, 100), (1, 0), (0x7275_6f6b, 0xf_ffff)]
        {
            let expected = Framed::Bad(FrameError { frame_bytes: length, frame_bytes_max: max });
            assert_eq!(split(&length.to_be_bytes(), max), expected);
        }
        assert_eq!(split(&100_i32.to_be_bytes(), 100), Framed::Partial { needed: 100 });
        assert_eq!(split(&0_i32.to_be_bytes(), 0), Framed::Complete { payload: b"", consumed: 4 });
    }
}
