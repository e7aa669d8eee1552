//! Transactions: what servers write into logs and proposals, in ZooKeeper's own bytes.
//!
//! ```text
//! entry      TxnHeader | body | TxnDigest?
//! TxnHeader  session long | cxid int | zxid long | time ms long | type int          32 bytes
//! TxnDigest  version int | tree digest long                                         12 bytes
//! ```
//!
//! Guarantees: every body that a server from 3.4 to 3.10 writes is read; old forms become the same values as
//! new ones, and the new form is written. Nothing is applied or judged here.

use std::borrow::Cow;

use crate::client::{AclVec, StringVec};
use crate::ids::{SessionId, Zxid};
use crate::jute::{self, DecodeError, DecodeErrorKind, Element, Jute, LazyVec, Reader, VecWriter};
use crate::op::Op;

/// The `parent_cversion` of a create from before 3.4, which lacks it: one more than the parent has.
pub const PARENT_CVERSION_UNKNOWN: i32 = -1;

/// The elements of a multi, as they stand in the log.
pub type MultiTxn<'a> = LazyVec<'a, MultiPart<'a>>;

/// Opens every transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// The session that asked for it; [`SessionId::NONE`] where the server did by itself.
    pub session: SessionId,
    /// The xid of the request; 0 where there was none.
    pub cxid: i32,
    /// Its place in history.
    pub zxid: Zxid,
    /// When it was prepared, in milliseconds since 1970 by the leader's clock. It becomes ctime and mtime.
    pub time_ms: i64,
    /// The type of the body, an [`Op`].
    pub op: i32,
}

impl TxnHeader {
    /// The size of every transaction header.
    pub const BYTES: usize = 32;

    /// Reads one from the front of `reader`.
    #[inline]
    pub fn decode(reader: &mut Reader<'_>) -> Result<TxnHeader, DecodeError> {
        let bytes = reader.array::<{ TxnHeader::BYTES }>().map_err(|error| error.within("TxnHeader"))?;
        let mut fields = Reader::new(&bytes);
        Ok(TxnHeader {
            session: fields.read()?,
            cxid: fields.i32()?,
            zxid: fields.read()?,
            time_ms: fields.i64()?,
            op: fields.i32()?,
        })
    }

    /// Appends its encoding.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; TxnHeader::BYTES];
        bytes[0..8].copy_from_slice(&self.session.raw().to_be_bytes());
        bytes[8..12].copy_from_slice(&self.cxid.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.zxid.raw().to_be_bytes());
        bytes[20..28].copy_from_slice(&self.time_ms.to_be_bytes());
        bytes[28..32].copy_from_slice(&self.op.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

impl<'a> Jute<'a> for TxnHeader {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<TxnHeader, DecodeError> {
        TxnHeader::decode(reader)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        TxnHeader::encode(self, out);
    }
}

/// The digest of the tree after a transaction. It follows the body of most; failed ones, and all from servers
/// that compute none, lack it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnDigest {
    /// How it was computed. Only [`TxnDigest::VERSION`] can be compared.
    pub version: i32,
    /// The digest.
    pub tree: u64,
}

impl TxnDigest {
    /// The size of every digest.
    pub const BYTES: usize = 12;

    /// How digests are computed since ZooKeeper 3.6.
    pub const VERSION: i32 = 2;

    /// A digest of this version.
    #[inline]
    pub const fn new(tree: u64) -> TxnDigest {
        TxnDigest { version: TxnDigest::VERSION, tree }
    }

    /// Reads what follows a body: a digest, or, where the bytes do not suffice, none.
    #[inline]
    pub fn decode_optional(reader: &mut Reader<'_>) -> Option<TxnDigest> {
        let bytes = reader.array::<{ TxnDigest::BYTES }>().ok()?;
        let mut fields = Reader::new(&bytes);
        Some(TxnDigest { version: fields.i32().ok()?, tree: fields.i64().ok()? as u64 })
    }

    /// Appends its encoding.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; TxnDigest::BYTES];
        bytes[0..4].copy_from_slice(&self.version.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.tree.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

/// The body of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Txn<'a> {
    /// A persistent or ephemeral znode comes to be.
    Create {
        /// Its final path, with the sequence number.
        path: Cow<'a, str>,
        /// Its data.
        data: Option<&'a [u8]>,
        /// Its ACL, with `auth` replaced by identities; null reads as open.
        acl: Option<AclVec<'a>>,
        /// Whether the header's session owns it.
        ephemeral: bool,
        /// The parent's count of creates after this one, or [`PARENT_CVERSION_UNKNOWN`].
        parent_cversion: i32,
        /// [`Op::Create`] or [`Op::Create2`]: the same body under either type.
        kind: Op,
    },
    /// A container comes to be.
    CreateContainer {
        /// Its final path.
        path: Cow<'a, str>,
        /// Its data.
        data: Option<&'a [u8]>,
        /// Its ACL.
        acl: Option<AclVec<'a>>,
        /// The parent's count of creates after this one.
        parent_cversion: i32,
    },
    /// A znode with a time to live comes to be.
    CreateTtl {
        /// Its final path.
        path: Cow<'a, str>,
        /// Its data.
        data: Option<&'a [u8]>,
        /// Its ACL.
        acl: Option<AclVec<'a>>,
        /// The parent's count of creates after this one.
        parent_cversion: i32,
        /// How long it lives without change and children.
        ttl_ms: i64,
    },
    /// A znode goes.
    Delete {
        /// Its path.
        path: Cow<'a, str>,
    },
    /// The server deletes an empty container or an expired TTL znode.
    DeleteContainer {
        /// Its path.
        path: Cow<'a, str>,
    },
    /// A znode's data is replaced.
    SetData {
        /// Its path.
        path: Cow<'a, str>,
        /// Its data from now on.
        data: Option<&'a [u8]>,
        /// Its version from now on.
        version: i32,
    },
    /// The membership of the ensemble is replaced.
    Reconfig {
        /// The znode that shows it.
        path: Cow<'a, str>,
        /// The text of the new configuration.
        data: Option<&'a [u8]>,
        /// -1.
        version: i32,
    },
    /// A znode's ACL is replaced.
    SetAcl {
        /// Its path.
        path: Cow<'a, str>,
        /// Its ACL from now on.
        acl: Option<AclVec<'a>>,
        /// Its ACL's version from now on.
        version: i32,
    },
    /// A version was checked and was right; only inside a multi, and changes nothing.
    Check {
        /// The znode.
        path: Cow<'a, str>,
        /// The version that was asked for.
        version: i32,
    },
    /// A session begins.
    CreateSession {
        /// Its timeout.
        timeout_ms: i32,
    },
    /// A session ends.
    CloseSession {
        /// Its ephemeral znodes, which go with it. `None` where the log does not list them: all that it has.
        paths: Option<StringVec<'a>>,
    },
    /// Several changes at once. If one of them is an error, none of them happened.
    Multi(MultiTxn<'a>),
    /// A request that failed. It took its zxid and changes nothing.
    Error {
        /// A [`crate::Code`].
        code: i32,
    },
}

impl<'a> Txn<'a> {
    /// Reads the body that follows `header`. What is left in `reader` is the digest, if there is one.
    ///
    /// [`DecodeErrorKind::UnknownType`]: the type is none of a transaction.
    pub fn decode(header: &TxnHeader, reader: &mut Reader<'a>) -> Result<Txn<'a>, DecodeError> {
        match Op::from_raw(header.op) {
            Some(Op::CreateSession) => Ok(Txn::CreateSession { timeout_ms: field(reader, "CreateSessionTxn")? }),
            Some(Op::CloseSession) => Txn::decode_close_session(reader),
            Some(Op::Multi) => Ok(Txn::Multi(field(reader, "MultiTxn.txns")?)),
            Some(Op::Create) => {
                let mut legacy = *reader;
                match Txn::decode_body(header.op, reader) {
                    // Before 3.4 the body ended with `ephemeral`. The reference, too, tells by running out of
                    // bytes.
                    Err(DecodeError { kind: DecodeErrorKind::Truncated { .. }, .. }) => {
                        let txn = Txn::Create {
                            path: field(&mut legacy, "CreateTxn.path")?,
                            data: field(&mut legacy, "CreateTxn.data")?,
                            acl: field(&mut legacy, "CreateTxn.acl")?,
                            ephemeral: field(&mut legacy, "CreateTxn.ephemeral")?,
                            parent_cversion: PARENT_CVERSION_UNKNOWN,
                            kind: Op::Create,
                        };
                        *reader = legacy;
                        Ok(txn)
                    }
                    decoded => decoded,
                }
            }
            // A check is an element of a multi and never a transaction.
            Some(Op::Check) => Err(unknown_type(header.op, reader)),
            _ => Txn::decode_body(header.op, reader),
        }
    }

    /// Reads a body in the form that it has both by itself and inside a multi.
    fn decode_body(op: i32, reader: &mut Reader<'a>) -> Result<Txn<'a>, DecodeError> {
        Ok(match Op::from_raw(op) {
            Some(kind @ (Op::Create | Op::Create2)) => Txn::Create {
                path: field(reader, "CreateTxn.path")?,
                data: field(reader, "CreateTxn.data")?,
                acl: field(reader, "CreateTxn.acl")?,
                ephemeral: field(reader, "CreateTxn.ephemeral")?,
                parent_cversion: field(reader, "CreateTxn.parentCVersion")?,
                kind,
            },
            Some(Op::CreateContainer) => Txn::CreateContainer {
                path: field(reader, "CreateContainerTxn.path")?,
                data: field(reader, "CreateContainerTxn.data")?,
                acl: field(reader, "CreateContainerTxn.acl")?,
                parent_cversion: field(reader, "CreateContainerTxn.parentCVersion")?,
            },
            Some(Op::CreateTtl) => Txn::CreateTtl {
                path: field(reader, "CreateTTLTxn.path")?,
                data: field(reader, "CreateTTLTxn.data")?,
                acl: field(reader, "CreateTTLTxn.acl")?,
                parent_cversion: field(reader, "CreateTTLTxn.parentCVersion")?,
                ttl_ms: field(reader, "CreateTTLTxn.ttl")?,
            },
            Some(Op::Delete) => Txn::Delete { path: field(reader, "DeleteTxn.path")? },
            Some(Op::DeleteContainer) => Txn::DeleteContainer { path: field(reader, "DeleteTxn.path")? },
            Some(Op::SetData) => Txn::SetData {
                path: field(reader, "SetDataTxn.path")?,
                data: field(reader, "SetDataTxn.data")?,
                version: field(reader, "SetDataTxn.version")?,
            },
            Some(Op::Reconfig) => Txn::Reconfig {
                path: field(reader, "SetDataTxn.path")?,
                data: field(reader, "SetDataTxn.data")?,
                version: field(reader, "SetDataTxn.version")?,
            },
            Some(Op::SetAcl) => Txn::SetAcl {
                path: field(reader, "SetACLTxn.path")?,
                acl: field(reader, "SetACLTxn.acl")?,
                version: field(reader, "SetACLTxn.version")?,
            },
            Some(Op::Check) => Txn::Check {
                path: field(reader, "CheckVersionTxn.path")?,
                version: field(reader, "CheckVersionTxn.version")?,
            },
            Some(Op::Error) => Txn::Error { code: field(reader, "ErrorTxn.err")? },
            _ => return Err(unknown_type(op, reader)),
        })
    }

    /// Three forms are found in logs: a list of paths (since 3.6) and perhaps a digest, no list but a digest,
    /// nothing. The length tells them apart: read as a list, a digest would announce two strings in no more
    /// bytes than the two lengths take.
    fn decode_close_session(reader: &mut Reader<'a>) -> Result<Txn<'a>, DecodeError> {
        let rest = reader.remaining();
        let digest_alone = rest.len() == TxnDigest::BYTES && rest.starts_with(&TxnDigest::VERSION.to_be_bytes());
        let paths = if rest.is_empty() || digest_alone { None } else { field(reader, "CloseSessionTxn.paths")? };
        Ok(Txn::CloseSession { paths })
    }

    /// Its type, as the header tells it.
    pub fn op(&self) -> Op {
        match self {
            Txn::Create { kind, .. } => *kind,
            Txn::CreateContainer { .. } => Op::CreateContainer,
            Txn::CreateTtl { .. } => Op::CreateTtl,
            Txn::Delete { .. } => Op::Delete,
            Txn::DeleteContainer { .. } => Op::DeleteContainer,
            Txn::SetData { .. } => Op::SetData,
            Txn::Reconfig { .. } => Op::Reconfig,
            Txn::SetAcl { .. } => Op::SetAcl,
            Txn::Check { .. } => Op::Check,
            Txn::CreateSession { .. } => Op::CreateSession,
            Txn::CloseSession { .. } => Op::CloseSession,
            Txn::Multi(_) => Op::Multi,
            Txn::Error { .. } => Op::Error,
        }
    }

    /// Appends the body, without header and digest. A closeSession without a list appends nothing, and then
    /// only a digest of [`TxnDigest::VERSION`] may follow: anything else would read as a list.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Txn::Create { path, data, acl, ephemeral, parent_cversion, kind: _ } => {
                path.encode(out);
                data.encode(out);
                acl.encode(out);
                ephemeral.encode(out);
                parent_cversion.encode(out);
            }
            Txn::CreateContainer { path, data, acl, parent_cversion } => {
                path.encode(out);
                data.encode(out);
                acl.encode(out);
                parent_cversion.encode(out);
            }
            Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => {
                path.encode(out);
                data.encode(out);
                acl.encode(out);
                parent_cversion.encode(out);
                ttl_ms.encode(out);
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => path.encode(out),
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                path.encode(out);
                data.encode(out);
                version.encode(out);
            }
            Txn::SetAcl { path, acl, version } => {
                path.encode(out);
                acl.encode(out);
                version.encode(out);
            }
            Txn::Check { path, version } => {
                path.encode(out);
                version.encode(out);
            }
            Txn::CreateSession { timeout_ms } => timeout_ms.encode(out),
            Txn::CloseSession { paths } => {
                if let Some(paths) = paths {
                    paths.encode(out);
                }
            }
            Txn::Multi(parts) => parts.encode(out),
            Txn::Error { code } => code.encode(out),
        }
    }
}

/// One element of a multi in the log: a type and the body of that type.
///
/// The body is decoded only when it is asked for, because the reference, too, finds out only when it applies
/// it: an element it cannot read stops the multi there and not the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiPart<'a> {
    /// The type of the body.
    pub op: i32,
    /// The encoded body.
    pub body: &'a [u8],
}

impl<'a> MultiPart<'a> {
    /// The body as a value. Types other than those of a multi's operations, and errors, are unknown here.
    pub fn txn(&self) -> Result<Txn<'a>, DecodeError> {
        let mut reader = Reader::new(self.body);
        match Op::from_raw(self.op) {
            Some(
                Op::Create
                | Op::Create2
                | Op::CreateContainer
                | Op::CreateTtl
                | Op::Delete
                | Op::DeleteContainer
                | Op::SetData
                | Op::Check
                | Op::Error,
            ) => Txn::decode_body(self.op, &mut reader),
            _ => Err(unknown_type(self.op, &reader)),
        }
    }

    /// Whether it is an operation that failed, or was not looked at because another had.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.op == Op::Error.raw()
    }
}

impl<'a> Jute<'a> for MultiPart<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<MultiPart<'a>, DecodeError> {
        let op = field(reader, "Txn.type")?;
        let offset = reader.offset();
        match field(reader, "Txn.data")? {
            Some(body) => Ok(MultiPart { op, body }),
            None => Err(DecodeError::new(DecodeErrorKind::UnexpectedNull, offset).within("Txn.data")),
        }
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        jute::put_i32(out, self.op);
        jute::put_buffer(out, Some(self.body));
    }
}

impl<'a> Element<'a> for MultiPart<'a> {
    const BYTES_MIN: usize = 8;

    #[inline]
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        MultiPart::decode(reader).map(|_| ())
    }
}

impl<'a> MultiTxn<'a> {
    /// Whether an element is an error: then nothing of the multi may be applied.
    pub fn has_error(&self) -> bool {
        self.iter().any(|part| part.is_error())
    }

    /// Encodes `parts` into `buffer`, which is emptied first.
    pub fn build(buffer: &'a mut Vec<u8>, parts: &[Txn<'_>]) -> MultiTxn<'a> {
        buffer.clear();
        let mut scratch = Vec::new();
        for part in parts {
            scratch.clear();
            part.encode(&mut scratch);
            MultiPart { op: part.op().raw(), body: &scratch }.encode(buffer);
        }
        LazyVec::trusted(parts.len(), buffer)
    }
}

/// Writes the body of a multi at the end of a buffer, one element at a time. It may be dropped at any time:
/// the body is whole after every element.
#[derive(Debug)]
pub struct MultiTxnWriter<'o>(VecWriter<'o>);

impl<'o> MultiTxnWriter<'o> {
    /// Begins the body at the end of `out`.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>) -> MultiTxnWriter<'o> {
        MultiTxnWriter(VecWriter::new(out))
    }

    /// Appends one element.
    #[inline]
    pub fn push(&mut self, txn: &Txn<'_>) {
        self.0.push_with(|out| {
            jute::put_i32(out, txn.op().raw());
            // A buffer is framed as a message is: a length, then as many bytes.
            let mark = crate::frame::begin(out);
            txn.encode(out);
            crate::frame::end(out, mark);
        });
    }

    /// The number of elements so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no elements yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The length of the body so far.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// A whole transaction as logs and proposals carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The header.
    pub header: TxnHeader,
    /// The body.
    pub txn: Txn<'a>,
    /// The digest, if there is one.
    pub digest: Option<TxnDigest>,
}

impl<'a> Entry<'a> {
    /// Reads an entry that fills `bytes`; what follows the digest is ignored, as by the reference.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Entry<'a>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let header = TxnHeader::decode(&mut reader)?;
        let txn = Txn::decode(&header, &mut reader)?;
        let digest = TxnDigest::decode_optional(&mut reader);
        Ok(Entry { header, txn, digest })
    }

    /// Appends its encoding.
    ///
    /// # Panics
    ///
    /// If the header announces another type than the body has.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let op = self.txn.op();
        assert!(self.header.op == op.raw(), "the header says type {}, the body is {op}", self.header.op);
        self.header.encode(out);
        self.txn.encode(out);
        if let Some(digest) = &self.digest {
            digest.encode(out);
        }
    }
}

/// Reads one field and names it in an error.
#[inline]
fn field<'a, T: Jute<'a>>(reader: &mut Reader<'a>, what: &'static str) -> Result<T, DecodeError> {
    T::decode(reader).map_err(|error| error.within(what))
}

#[cold]
fn unknown_type(op: i32, reader: &Reader<'_>) -> DecodeError {
    DecodeError::new(DecodeErrorKind::UnknownType(op), reader.offset()).within("TxnHeader.type")
}
