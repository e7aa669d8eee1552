//! A znode's statistics, as clients see them.

use crate::ids::Zxid;
use crate::jute::{DecodeError, Jute, Reader};

/// What a server tells about a znode besides its data.
///
/// `cversion`, `ephemeral_owner` and `num_children` are the client's view: the tree stores the first two
/// differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stat {
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The transaction that set its data last, or created it.
    pub mzxid: Zxid,
    /// When it was created, in milliseconds since 1970 by the leader's clock.
    pub ctime_ms: i64,
    /// When its data was set last, or it was created.
    pub mtime_ms: i64,
    /// Changes of its data.
    pub version: i32,
    /// Creations and deletions of children.
    pub cversion: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// The session that owns it if it is ephemeral, else 0.
    pub ephemeral_owner: i64,
    /// Bytes of its data, 0 for null.
    pub data_length: i32,
    /// Direct children.
    pub num_children: i32,
    /// The transaction that created or deleted a direct child last, or created it.
    pub pzxid: Zxid,
}

impl Stat {
    /// The size of every encoded stat.
    pub const BYTES: usize = 68;

    /// Reads one from the front of `reader`.
    #[inline]
    pub fn decode(reader: &mut Reader<'_>) -> Result<Stat, DecodeError> {
        // One bounds check for all fields.
        let bytes = reader.array::<{ Stat::BYTES }>().map_err(|error| error.within("Stat"))?;
        let mut fields = Reader::new(&bytes);
        Ok(Stat {
            czxid: Jute::decode(&mut fields)?,
            mzxid: Jute::decode(&mut fields)?,
            ctime_ms: fields.i64()?,
            mtime_ms: fields.i64()?,
            version: fields.i32()?,
            cversion: fields.i32()?,
            aversion: fields.i32()?,
            ephemeral_owner: fields.i64()?,
            data_length: fields.i32()?,
            num_children: fields.i32()?,
            pzxid: Jute::decode(&mut fields)?,
        })
    }

    /// Appends its encoding.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        // Built aside and appended at once: one check of the buffer's room instead of eleven.
        let mut bytes = [0; Stat::BYTES];
        bytes[0..8].copy_from_slice(&self.czxid.raw().to_be_bytes());
        bytes[8..16].copy_from_slice(&self.mzxid.raw().to_be_bytes());
        bytes[16..24].copy_from_slice(&self.ctime_ms.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.mtime_ms.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.version.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.cversion.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.aversion.to_be_bytes());
        bytes[44..52].copy_from_slice(&self.ephemeral_owner.to_be_bytes());
        bytes[52..56].copy_from_slice(&self.data_length.to_be_bytes());
        bytes[56..60].copy_from_slice(&self.num_children.to_be_bytes());
        bytes[60..68].copy_from_slice(&self.pzxid.raw().to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

impl<'a> Jute<'a> for Stat {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Stat, DecodeError> {
        Stat::decode(reader)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        Stat::encode(self, out);
    }
}
