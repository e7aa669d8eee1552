//! What a run says of one path.

use crate::limits::PACK_BYTES_MIN;
use crate::version::NodeVersion;

/// The data of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// That of the layer below.
    Lower,
    /// Null.
    Null,
    /// These bytes.
    Plain(&'a [u8]),
    /// A zstd frame.
    Packed {
        /// The frame.
        zstd: &'a [u8],
        /// Bytes of the data.
        bytes: u32,
    },
}

impl Value<'_> {
    /// The data of a packed value; unpacking belongs off the gate.
    ///
    /// # Errors
    /// The frame is no frame or has another length: impossible behind a good checksum.
    pub fn unpack(zstd: &[u8], bytes: u32) -> Result<Vec<u8>, String> {
        let data = zstd::bulk::decompress(zstd, bytes as usize).map_err(|error| error.to_string())?;
        if data.len() != bytes as usize {
            return Err(format!("a value of {bytes} bytes unpacks to {}", data.len()));
        }
        Ok(data)
    }
}

/// Whether a plain value of this length is worth trying to pack.
pub(crate) fn is_packable(bytes: usize) -> bool {
    PACK_BYTES_MIN <= bytes
}

/// Whether there is a znode, and which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What<'a> {
    /// There is none, whatever the layers below say.
    Absent,
    /// There is this one.
    Present {
        /// Its version.
        version: NodeVersion,
        /// Its access list, in the table of the run.
        acl: u32,
        /// Its data.
        value: Value<'a>,
    },
}

/// What a run says of one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The path of the parent; empty for children of the root, and for the root.
    pub parent: &'a str,
    /// Empty for the root.
    pub name: &'a str,
    /// What it says.
    pub what: What<'a>,
}
