//! One version of a znode, and what it says of the znode's kind.

use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::stat::Stat;

use crate::limits::TTL_MS_MAX;

/// Everything about one version of a znode but its data, its ACL and its children: stored values, of which clients see
/// some differently ([`NodeVersion::stat`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeVersion {
    /// The transaction that created it.
    pub czxid: Zxid,
    /// The transaction that set its data last, or created it.
    pub mzxid: Zxid,
    /// The transaction that created or deleted a child last, or created it.
    pub pzxid: Zxid,
    /// When it was created, ms since 1970.
    pub ctime_ms: i64,
    /// When its data was set last, ms since 1970.
    pub mtime_ms: i64,
    /// Changes of its data.
    pub version: i32,
    /// Children ever created, deleted ones included: the next sequence number.
    pub children_created: i32,
    /// Changes of its ACL.
    pub aversion: i32,
    /// Its kind: 0 is persistent, a session id is ephemeral; see [`NodeVersion::ephemeral_session`] for the others.
    pub owner: i64,
    /// Length of its data, 0 for null.
    pub data_bytes: u32,
    /// Null data is told apart from empty data.
    pub data_is_null: bool,
    /// Children that exist.
    pub children: u32,
    /// The CRC of path and data with which the digest of the znode begins.
    pub prefix_crc: u32,
}

/// The owner that marks a container.
pub const CONTAINER_OWNER: i64 = i64::MIN;

/// The owner that marks a znode with this time to live.
pub fn ttl_owner(ttl_ms: i64) -> i64 {
    assert!((1..=TTL_MS_MAX).contains(&ttl_ms), "a time to live of {ttl_ms} ms has no room in the owner field");
    (0xff << 56) | ttl_ms
}

/// What keeps a znode alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// Nothing but the wish of clients.
    Persistent,
    /// This session.
    Ephemeral(SessionId),
    /// Its children, once it had one.
    Container,
    /// Children, or a change in the last so many milliseconds.
    Ttl(i64),
}

impl NodeVersion {
    /// The view of a client (`client-protocol.md` 14): `cversion` counts creations and deletions of children, only an
    /// ephemeral shows an owner.
    pub fn stat(&self) -> Stat {
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            cversion: self.children_created.wrapping_mul(2).wrapping_sub(self.children as i32),
            aversion: self.aversion,
            ephemeral_owner: self.ephemeral_session().map_or(0, SessionId::raw),
            data_length: self.data_bytes as i32,
            num_children: self.children as i32,
            pzxid: self.pzxid,
        }
    }

    /// The session whose end deletes this znode.
    pub fn ephemeral_session(&self) -> Option<SessionId> {
        match self.kind() {
            NodeKind::Ephemeral(session) => Some(session),
            NodeKind::Persistent | NodeKind::Container | NodeKind::Ttl(_) => None,
        }
    }

    /// Its kind, from the owner field: a container has `0x8000000000000000`, a znode with a time to live `0xff`, two zero
    /// bytes and the time in five, whatever the settings of this server are.
    pub fn kind(&self) -> NodeKind {
        match self.owner {
            0 => NodeKind::Persistent,
            CONTAINER_OWNER => NodeKind::Container,
            owner if owner as u64 >> 40 == 0xff_0000 => NodeKind::Ttl(owner & TTL_MS_MAX),
            owner => NodeKind::Ephemeral(SessionId::from_raw(owner)),
        }
    }

    /// Whether all of it follows from czxid, ctime and data.
    pub fn is_as_created(&self) -> bool {
        self.mzxid == self.czxid
            && self.pzxid == self.czxid
            && self.mtime_ms == self.ctime_ms
            && self.version == 0
            && self.children_created == 0
            && self.aversion == 0
            && self.owner == 0
            && self.children == 0
    }
}
