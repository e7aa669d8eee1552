//! Jute, the encoding of everything ZooKeeper sends and stores: big-endian, unaligned, untagged.
//!
//! | type | bytes |
//! |---|---|
//! | boolean | 1: written as 0 or 1, any other value reads as true |
//! | int, long | 4 or 8, two's complement |
//! | buffer, string | int length, then the bytes; length -1 is null, which differs from empty |
//! | vector | int count, then the elements; count -1 is null, any other negative count reads as empty |
//! | record | its fields, in order, nothing between them |
//!
//! Guarantees: reading borrows; only a string that is not valid UTF-8 is copied, with U+FFFD where the
//! reference puts it. A length or count that the remaining bytes cannot hold is refused before anything is
//! reserved for it. Vectors are checked when they are decoded and read when they are iterated, so they take
//! no memory however long they are.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use crate::ids::{SessionId, Zxid};

/// The length or count that means null.
const NULL: i32 = -1;

/// What U+FFFD is in UTF-8.
const REPLACEMENT: &str = "\u{fffd}";

/// Bytes that cannot be what they were read as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    /// The field, such as `CreateRequest.path`; empty where a bare value was read.
    pub what: &'static str,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
    /// Where it begins, in bytes from where the reader began.
    pub offset: usize,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The input ends inside the field.
    Truncated {
        /// The bytes the field needs.
        needed: usize,
        /// The bytes that remain.
        remaining: usize,
    },
    /// A length below -1.
    NegativeLength(i32),
    /// A count of elements that the remaining bytes cannot hold.
    CountTooLarge {
        /// The count that was announced.
        count: usize,
        /// The bytes that remain for the elements.
        remaining: usize,
    },
    /// Null where the protocol always has a value.
    UnexpectedNull,
    /// A buffer of fixed size has another one.
    WrongLength {
        /// The size it always has.
        expected: usize,
        /// The size it has here.
        found: usize,
    },
    /// An opcode or transaction type that may not stand here.
    UnknownType(i32),
    /// Reads and writes in one multi.
    MixedMulti,
}

impl DecodeError {
    /// Whether the bytes end before the value does. In a log the reference takes that for the end of a file,
    /// and anything else for damage.
    pub const fn ran_out_of_bytes(&self) -> bool {
        matches!(self.kind, DecodeErrorKind::Truncated { .. } | DecodeErrorKind::CountTooLarge { .. })
    }

    /// The error without a field's name, which the record that owns the field adds.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(kind: DecodeErrorKind, offset: usize) -> DecodeError {
        DecodeError { what: "", kind, offset }
    }

    /// Names the field, unless a record further inside has named it already.
    #[cold]
    #[inline(never)]
    pub(crate) fn within(self, what: &'static str) -> DecodeError {
        if self.what.is_empty() { DecodeError { what, ..self } } else { self }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.what.is_empty() { "value" } else { self.what };
        write!(f, "{what} at byte {}: ", self.offset)?;
        match self.kind {
            DecodeErrorKind::Truncated { needed, remaining } => {
                write!(f, "{needed} bytes are needed, {remaining} remain")
            }
            DecodeErrorKind::NegativeLength(length) => write!(f, "negative length {length}"),
            DecodeErrorKind::CountTooLarge { count, remaining } => {
                write!(f, "{count} elements are announced, {remaining} bytes remain")
            }
            DecodeErrorKind::UnexpectedNull => f.write_str("null where a value must stand"),
            DecodeErrorKind::WrongLength { expected, found } => {
                write!(f, "{expected} bytes must stand here, found {found}")
            }
            DecodeErrorKind::UnknownType(raw) => write!(f, "type {raw} may not stand here"),
            DecodeErrorKind::MixedMulti => f.write_str("reads and writes are mixed"),
        }
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({self})")
    }
}

impl std::error::Error for DecodeError {}

/// Reads values from the front of some bytes.
///
/// After an error it stands where it stood before the value that failed, or just behind that value's length.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    total_bytes: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, total_bytes: bytes.len() }
    }

    /// What has not been read.
    #[inline]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes have been read.
    #[inline]
    pub const fn offset(&self) -> usize {
        self.total_bytes - self.rest.len()
    }

    /// Whether everything has been read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads a fixed number of bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.truncated(N)),
        }
    }

    /// Reads an int.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Reads a long.
    #[inline]
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Reads a byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// Reads a boolean; any value but zero is true, as in the reference.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }

    /// Reads a buffer; `None` is null.
    #[inline]
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = self.i32()?;
        match usize::try_from(length) {
            Ok(length) => match self.rest.split_at_checked(length) {
                Some((buffer, rest)) => {
                    self.rest = rest;
                    Ok(Some(buffer))
                }
                None => Err(self.truncated(length)),
            },
            Err(_) if length == NULL => Ok(None),
            Err(_) => Err(DecodeError::new(DecodeErrorKind::NegativeLength(length), self.offset() - 4)),
        }
    }

    /// Reads a string; `None` is null. Malformed UTF-8 is no error: each malformed sequence becomes U+FFFD.
    #[inline]
    pub fn string(&mut self) -> Result<Option<Cow<'a, str>>, DecodeError> {
        Ok(self.buffer()?.map(text))
    }

    /// Reads the count of a vector whose elements take at least `element_bytes_min` bytes each; `None` is a
    /// null vector. A count that the remaining bytes cannot hold is an error here, before any loop begins.
    #[inline]
    pub fn count(&mut self, element_bytes_min: usize) -> Result<Option<usize>, DecodeError> {
        let count = self.i32()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() / element_bytes_min.max(1) => Ok(Some(count)),
            Ok(count) => {
                let kind = DecodeErrorKind::CountTooLarge { count, remaining: self.rest.len() };
                Err(DecodeError::new(kind, self.offset() - 4))
            }
            Err(_) if count == NULL => Ok(None),
            // The reference runs its loop zero times for any other negative count.
            Err(_) => Ok(Some(0)),
        }
    }

    /// Reads any value or record by its type.
    #[inline]
    pub fn read<T: Jute<'a>>(&mut self) -> Result<T, DecodeError> {
        T::decode(self)
    }

    #[cold]
    #[inline(never)]
    fn truncated(&self, needed: usize) -> DecodeError {
        DecodeError::new(DecodeErrorKind::Truncated { needed, remaining: self.rest.len() }, self.offset())
    }
}

/// The text of `bytes`: borrowed when it is UTF-8, otherwise a copy in which each malformed sequence has
/// become U+FFFD exactly where the reference puts one.
#[inline]
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(repaired(bytes)),
    }
}

/// As `String::from_utf8_lossy`, but a surrogate, which Java writes as three bytes of their own, becomes one
/// U+FFFD and not three: an ACL id must read the same here as on the Java server beside us.
#[cold]
fn repaired(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return text;
            }
            Err(error) => {
                let (valid, malformed) = rest.split_at(error.valid_up_to());
                // The first part was just found valid, so nothing is replaced in it.
                text.push_str(&String::from_utf8_lossy(valid));
                text.push_str(REPLACEMENT);
                let skip = match malformed {
                    [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
                    [0xed, 0xa0..=0xbf, ..] => 2,
                    _ => error.error_len().unwrap_or(malformed.len()),
                };
                rest = malformed.get(skip..).unwrap_or_default();
            }
        }
    }
}

/// Appends an int.
#[inline]
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a long.
#[inline]
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a boolean.
#[inline]
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// Appends a buffer; `None` is null.
#[inline]
pub fn put_buffer(out: &mut Vec<u8>, buffer: Option<&[u8]>) {
    match buffer {
        Some(bytes) => put_bytes(out, bytes),
        None => put_i32(out, NULL),
    }
}

/// Appends a string.
#[inline]
pub fn put_string(out: &mut Vec<u8>, string: &str) {
    put_bytes(out, string.as_bytes());
}

/// Appends a null string.
#[inline]
pub fn put_null_string(out: &mut Vec<u8>) {
    put_i32(out, NULL);
}

/// Appends the count of a vector; its elements follow.
///
/// # Panics
///
/// If the count is larger than one can be on the wire: no frame could hold the elements.
#[inline]
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    put_i32(out, length_i32(count));
}

#[inline]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(4 + bytes.len());
    put_i32(out, length_i32(bytes.len()));
    out.extend_from_slice(bytes);
}

/// A length of our own making as it stands on the wire. Lengths of what others sent have passed through a
/// frame and fit.
#[inline]
fn length_i32(length: usize) -> i32 {
    assert!(length <= i32::MAX as usize, "length {length}, the wire carries at most {}", i32::MAX);
    length as i32
}

/// A value or record with one encoding.
pub trait Jute<'a>: Sized {
    /// Reads one from the front of `reader`. What follows it is left there.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Appends its encoding.
    fn encode(&self, out: &mut Vec<u8>);
}

impl<'a> Jute<'a> for i32 {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<i32, DecodeError> {
        reader.i32()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_i32(out, *self);
    }
}

impl<'a> Jute<'a> for i64 {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<i64, DecodeError> {
        reader.i64()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, *self);
    }
}

impl<'a> Jute<'a> for bool {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<bool, DecodeError> {
        reader.bool()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_bool(out, *self);
    }
}

impl<'a> Jute<'a> for Zxid {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Zxid, DecodeError> {
        Ok(Zxid::from_raw(reader.i64()? as u64))
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.raw() as i64);
    }
}

impl<'a> Jute<'a> for SessionId {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<SessionId, DecodeError> {
        Ok(SessionId::from_raw(reader.i64()?))
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.raw());
    }
}

impl<'a> Jute<'a> for Option<&'a [u8]> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
        reader.buffer()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_buffer(out, *self);
    }
}

impl<'a> Jute<'a> for Option<Cow<'a, str>> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, DecodeError> {
        reader.string()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_buffer(out, self.as_ref().map(|string| string.as_bytes()));
    }
}

/// A string that is never null.
impl<'a> Jute<'a> for Cow<'a, str> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Cow<'a, str>, DecodeError> {
        match reader.string()? {
            Some(string) => Ok(string),
            None => Err(DecodeError::new(DecodeErrorKind::UnexpectedNull, reader.offset() - 4)),
        }
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, self);
    }
}

/// What a vector can hold.
pub trait Element<'a>: Jute<'a> {
    /// The fewest bytes one can take, by which a count is judged before any element is looked at.
    const BYTES_MIN: usize;

    /// Passes over one and fails exactly where decoding it would, without building it.
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError>;
}

impl<'a> Element<'a> for Cow<'a, str> {
    const BYTES_MIN: usize = 4;

    #[inline]
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match reader.buffer()? {
            Some(_) => Ok(()),
            None => Err(DecodeError::new(DecodeErrorKind::UnexpectedNull, reader.offset() - 4)),
        }
    }
}

/// A vector that stays as it was encoded: checked when it was made, read when it is iterated.
///
/// Invariant: `raw` is exactly `count` elements, each of which decodes.
pub struct LazyVec<'a, T> {
    count: usize,
    raw: &'a [u8],
    // Holds no `T`: it makes them.
    element: PhantomData<fn() -> T>,
}

impl<'a, T: Element<'a>> LazyVec<'a, T> {
    /// The vector without elements.
    pub const EMPTY: LazyVec<'a, T> = LazyVec { count: 0, raw: &[], element: PhantomData };

    /// The vector of `count` elements that this crate has just encoded into `raw`, or wrote down by hand.
    #[inline]
    pub(crate) const fn trusted(count: usize, raw: &'a [u8]) -> LazyVec<'a, T> {
        LazyVec { count, raw, element: PhantomData }
    }

    /// The vector whose encoded elements, without their count, fill `raw`.
    pub fn from_raw(raw: &'a [u8]) -> Result<LazyVec<'a, T>, DecodeError> {
        let mut reader = Reader::new(raw);
        let mut count = 0;
        while !reader.is_empty() {
            T::skip(&mut reader)?;
            count += 1;
        }
        Ok(LazyVec { count, raw, element: PhantomData })
    }

    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded elements without their count.
    #[inline]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The elements, decoded one by one.
    #[inline]
    pub fn iter(&self) -> LazyIter<'a, T> {
        LazyIter { reader: Reader::new(self.raw), left: self.count, element: PhantomData }
    }

    /// Reads a vector; `None` is null.
    fn decode_nullable(reader: &mut Reader<'a>) -> Result<Option<LazyVec<'a, T>>, DecodeError> {
        let Some(count) = reader.count(T::BYTES_MIN)? else {
            return Ok(None);
        };
        let elements = reader.remaining();
        for _ in 0..count {
            T::skip(reader)?;
        }
        let (raw, _) = elements.split_at(elements.len() - reader.remaining().len());
        Ok(Some(LazyVec { count, raw, element: PhantomData }))
    }
}

/// A vector that is never null.
impl<'a, T: Element<'a>> Jute<'a> for LazyVec<'a, T> {
    fn decode(reader: &mut Reader<'a>) -> Result<LazyVec<'a, T>, DecodeError> {
        let offset = reader.offset();
        match LazyVec::decode_nullable(reader)? {
            Some(vector) => Ok(vector),
            None => Err(DecodeError::new(DecodeErrorKind::UnexpectedNull, offset)),
        }
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(4 + self.raw.len());
        put_count(out, self.count);
        out.extend_from_slice(self.raw);
    }
}

impl<'a, T: Element<'a>> Jute<'a> for Option<LazyVec<'a, T>> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Option<LazyVec<'a, T>>, DecodeError> {
        LazyVec::decode_nullable(reader)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Some(vector) => vector.encode(out),
            None => put_i32(out, NULL),
        }
    }
}

impl<T> Clone for LazyVec<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for LazyVec<'_, T> {}

/// Vectors are equal when their encodings are.
impl<T> PartialEq for LazyVec<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.raw == other.raw
    }
}

impl<T> Eq for LazyVec<'_, T> {}

impl<'a, T: Element<'a> + fmt::Debug> fmt::Debug for LazyVec<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Element<'a>> IntoIterator for LazyVec<'a, T> {
    type Item = T;
    type IntoIter = LazyIter<'a, T>;

    #[inline]
    fn into_iter(self) -> LazyIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Element<'a>> IntoIterator for &LazyVec<'a, T> {
    type Item = T;
    type IntoIter = LazyIter<'a, T>;

    #[inline]
    fn into_iter(self) -> LazyIter<'a, T> {
        self.iter()
    }
}

/// Decodes the elements of a [`LazyVec`] one by one.
pub struct LazyIter<'a, T> {
    reader: Reader<'a>,
    left: usize,
    element: PhantomData<fn() -> T>,
}

impl<'a, T: Element<'a>> Iterator for LazyIter<'a, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        // Every element was checked when the vector was made, so this ends only behind the last one.
        T::decode(&mut self.reader).ok()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a, T: Element<'a>> ExactSizeIterator for LazyIter<'a, T> {}

/// Writes a vector whose count is known only when the last element has been written. The count is right after
/// every element, so a writer may be dropped at any time.
#[derive(Debug)]
pub struct VecWriter<'o> {
    out: &'o mut Vec<u8>,
    mark: usize,
    count: usize,
}

impl<'o> VecWriter<'o> {
    /// Begins a vector at the end of `out`.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>) -> VecWriter<'o> {
        let mark = out.len();
        put_i32(out, 0);
        VecWriter { out, mark, count: 0 }
    }

    /// Appends one element.
    #[inline]
    pub fn push<'a>(&mut self, element: &impl Jute<'a>) {
        self.push_with(|out| element.encode(out));
    }

    /// Appends one string.
    #[inline]
    pub fn push_str(&mut self, string: &str) {
        self.push_with(|out| put_string(out, string));
    }

    /// Appends one element that `encode` writes.
    #[inline]
    pub fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(self.out);
        self.count += 1;
        let count = length_i32(self.count).to_be_bytes();
        self.out[self.mark..self.mark + count.len()].copy_from_slice(&count);
    }

    /// The number of elements so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes written so far, the count among them.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.out.len() - self.mark
    }

    /// Whether there are no elements yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Defines records by their fields, in the order in which they are encoded: the struct, and both directions
/// from the same list, so that they cannot disagree.
macro_rules! records {
    () => {};
    (
        $(#[$doc:meta])+
        $name:ident<$lt:lifetime> { $($(#[$field_doc:meta])+ $field:ident: $type:ty,)+ }
        $($rest:tt)*
    ) => {
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name<$lt> {
            $($(#[$field_doc])+ pub $field: $type,)+
        }

        impl<$lt> $name<$lt> {
            /// Reads one from the front of `reader`. What follows it is left there.
            #[inline]
            pub fn decode(reader: &mut $crate::jute::Reader<$lt>) -> Result<Self, $crate::jute::DecodeError> {
                Ok($name {
                    $($field: <$type as $crate::jute::Jute<$lt>>::decode(reader)
                        .map_err(|error| error.within(concat!(stringify!($name), ".", stringify!($field))))?,)+
                })
            }

            /// Appends its encoding.
            #[inline]
            pub fn encode(&self, out: &mut Vec<u8>) {
                $($crate::jute::Jute::encode(&self.$field, out);)+
            }
        }

        impl<$lt> $crate::jute::Jute<$lt> for $name<$lt> {
            #[inline]
            fn decode(reader: &mut $crate::jute::Reader<$lt>) -> Result<Self, $crate::jute::DecodeError> {
                $name::decode(reader)
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $name::encode(self, out);
            }
        }

        $crate::jute::records! { $($rest)* }
    };
    (
        $(#[$doc:meta])+
        $name:ident { $($(#[$field_doc:meta])+ $field:ident: $type:ty,)+ }
        $($rest:tt)*
    ) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])+ pub $field: $type,)+
        }

        impl $name {
            /// Reads one from the front of `reader`. What follows it is left there.
            #[inline]
            pub fn decode(reader: &mut $crate::jute::Reader<'_>) -> Result<Self, $crate::jute::DecodeError> {
                Ok($name {
                    $($field: <$type as $crate::jute::Jute<'_>>::decode(reader)
                        .map_err(|error| error.within(concat!(stringify!($name), ".", stringify!($field))))?,)+
                })
            }

            /// Appends its encoding.
            #[inline]
            pub fn encode(&self, out: &mut Vec<u8>) {
                $($crate::jute::Jute::encode(&self.$field, out);)+
            }
        }

        impl<'a> $crate::jute::Jute<'a> for $name {
            #[inline]
            fn decode(reader: &mut $crate::jute::Reader<'a>) -> Result<Self, $crate::jute::DecodeError> {
                $name::decode(reader)
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $name::encode(self, out);
            }
        }

        $crate::jute::records! { $($rest)* }
    };
}

pub(crate) use records;

#[cfg(test)]
mod tests {
    use super::*;

    type Strings<'a> = LazyVec<'a, Cow<'a, str>>;

    #[test]
    fn malformed_utf8_is_replaced_where_java_replaces_it() {
        // What `new String(bytes, UTF_8)` gives for the same bytes.
        for (bytes, expected) in [
            (&b"/a"[..], "/a"),
            (b"\xff", "\u{fffd}"),
            (b"a\x80b", "a\u{fffd}b"),
            (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xe2\x82x", "\u{fffd}x"),
            (b"\xf0\x9f\x98", "\u{fffd}"),
            (b"\xe0\x80\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xf0\x9fx", "\u{fffd}x"),
            (b"\xed", "\u{fffd}"),
            (b"\xf8\x88\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xed\xa0\xbd\xed\xb8\x80", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0\xbd.", "\u{fffd}."),
            (b"\xed\xa0", "\u{fffd}"),
            (b"\xed\xa0x", "\u{fffd}x"),
            (b"\xf0\x9f\x98\x80", "\u{1f600}"),
        ] {
            assert_eq!(text(bytes), expected, "{bytes:02x?}");
        }
        assert!(matches!(text("zürich".as_bytes()), Cow::Borrowed(_)));
    }

    #[test]
    fn null_and_empty_differ() {
        let mut reader = Reader::new(b"\xff\xff\xff\xff\x00\x00\x00\x00");
        assert_eq!(reader.buffer(), Ok(None));
        assert_eq!(reader.buffer(), Ok(Some(&b""[..])));
        let mut out = Vec::new();
        put_buffer(&mut out, None);
        put_buffer(&mut out, Some(b""));
        put_null_string(&mut out);
        put_string(&mut out, "");
        assert_eq!(out, b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00");
    }

    #[test]
    fn lengths_and_counts_are_refused_before_anything_is_reserved() {
        let error = Reader::new(b"\x7f\xff\xff\xffab").buffer().unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::Truncated { needed: 0x7fff_ffff, remaining: 2 });
        let error = Reader::new(b"\xff\xff\xff\xfe").string().unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::NegativeLength(-2));
        let error = Reader::new(b"\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00").read::<Strings<'_>>().unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::CountTooLarge { count: 2, remaining: 7 });
        assert_eq!(error.offset, 0);
    }

    #[test]
    fn only_minus_one_is_a_null_vector() {
        assert_eq!(Reader::new(b"\xff\xff\xff\xff").read::<Option<Strings<'_>>>(), Ok(None));
        for count in [&b"\x00\x00\x00\x00"[..], b"\xff\xff\xff\xfe", b"\x80\x00\x00\x00"] {
            assert_eq!(Reader::new(count).read::<Option<Strings<'_>>>(), Ok(Some(LazyVec::EMPTY)));
        }
        let error = Reader::new(b"\xff\xff\xff\xff").read::<Strings<'_>>().unwrap_err();
        assert_eq!((error.kind, error.offset), (DecodeErrorKind::UnexpectedNull, 0));
    }

    #[test]
    fn a_vector_is_checked_whole_and_read_piece_by_piece() {
        let bytes = b"\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bcrest";
        let mut reader = Reader::new(bytes);
        let vector: Strings<'_> = reader.read().unwrap();
        assert_eq!(vector.iter().collect::<Vec<_>>(), ["a", "bc"]);
        assert_eq!((vector.len(), vector.is_empty(), vector.iter().len()), (2, false, 2));
        assert_eq!(vector.raw(), &bytes[4..15]);
        assert_eq!(reader.remaining(), b"rest");
        assert_eq!(LazyVec::from_raw(vector.raw()), Ok(vector));
        assert_eq!(format!("{vector:?}"), r#"["a", "bc"]"#);

        let null_element = b"\x00\x00\x00\x01\xff\xff\xff\xff";
        let error = Reader::new(null_element).read::<Strings<'_>>().unwrap_err();
        assert_eq!((error.kind, error.offset), (DecodeErrorKind::UnexpectedNull, 4));
    }

    #[test]
    fn a_streamed_vector_is_the_vector_of_its_elements() {
        let mut out = b"before".to_vec();
        let mut writer = VecWriter::new(&mut out);
        assert!(writer.is_empty());
        writer.push_str("a");
        writer.push(&Cow::Borrowed("bc"));
        assert_eq!(writer.len(), 2);
        assert_eq!(out, b"before\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x02bc");
    }

    #[test]
    fn an_error_says_where_what_and_why() {
        let error = Reader::new(b"\x00\x00").i32().map_err(|error| error.within("RequestHeader.xid")).unwrap_err();
        assert_eq!(error.within("Outer.field"), error);
        assert_eq!(error.to_string(), "RequestHeader.xid at byte 0: 4 bytes are needed, 2 remain");
    }

    #[test]
    fn any_nonzero_boolean_is_true_and_one_is_written() {
        assert_eq!(Reader::new(b"\x02").bool(), Ok(true));
        assert_eq!(Reader::new(b"\x00").bool(), Ok(false));
        let mut out = Vec::new();
        put_bool(&mut out, true);
        assert_eq!(out, [1]);
    }
}
