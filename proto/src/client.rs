//! What clients and servers say to each other: the handshake, requests, replies, notifications.
//!
//! After framing, a connection carries one [`ConnectRequest`] and one [`ConnectResponse`]; from then on every
//! frame from the client is a [`RequestHeader`] and the record of its opcode, and every frame from the server
//! a [`ReplyHeader`] and, if its code is 0, the record that answers the opcode. Notifications are frames of
//! the server with xid [`XID_NOTIFICATION`] and a [`WatcherEvent`].
//!
//! Guarantees: both directions of everything. A field is null here only where the reference can meet a null;
//! whether that null is an error is for the server to say. Bytes behind a record are left in the reader,
//! because servers and clients ignore them.

use std::borrow::Cow;

use crate::ids::{SessionId, Zxid};
use crate::jute::{self, DecodeError, DecodeErrorKind, Element, Jute, LazyVec, Reader, records};
use crate::limits::PASSWORD_BYTES;
use crate::op::{Op, OpKind};
use crate::stat::Stat;

/// The xid of every notification.
pub const XID_NOTIFICATION: i32 = -1;
/// The xid of every reply to a ping, whatever xid the ping had.
pub const XID_PING: i32 = -2;
/// The xid that clients give their auth packets by convention; the server echoes what it gets.
pub const XID_AUTH: i32 = -4;
/// The xid that the C client gives setWatches; the server echoes what it gets.
pub const XID_SET_WATCHES: i32 = -8;

/// May read data and children.
pub const PERM_READ: i32 = 1;
/// May set data.
pub const PERM_WRITE: i32 = 1 << 1;
/// May create children.
pub const PERM_CREATE: i32 = 1 << 2;
/// May delete children.
pub const PERM_DELETE: i32 = 1 << 3;
/// May set the ACL.
pub const PERM_ADMIN: i32 = 1 << 4;
/// All permissions there are. Unknown bits above are stored and returned unchanged.
pub const PERM_ALL: i32 = PERM_READ | PERM_WRITE | PERM_CREATE | PERM_DELETE | PERM_ADMIN;

/// An ACL as it stands on the wire.
pub type AclVec<'a> = LazyVec<'a, Acl<'a>>;
/// Paths or names as they stand on the wire.
pub type StringVec<'a> = LazyVec<'a, Cow<'a, str>>;
/// The identities of a connection as they stand on the wire.
pub type ClientInfoVec<'a> = LazyVec<'a, ClientInfo<'a>>;
/// The operations of a multi or multiRead, checked when decoded and read when iterated.
pub type MultiRequest<'a> = MultiVec<'a, MultiOp<'a>>;
/// The results of a multi or multiRead, checked when decoded and read when iterated.
pub type MultiResponse<'a> = MultiVec<'a, MultiResult<'a>>;

// ---------------------------------------------------------------------------------------------------------
// The handshake
// ---------------------------------------------------------------------------------------------------------

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// 0; servers ignore it.
    pub protocol_version: i32,
    /// The highest zxid the client has seen. A server that is behind it must turn the client away.
    pub last_zxid_seen: Zxid,
    /// The session timeout the client asks for; any number, also a negative one.
    pub timeout_ms: i32,
    /// The session to resume, [`SessionId::NONE`] for a new one.
    pub session: SessionId,
    /// The password of the session to resume; of any length, and ignored, for a new one.
    pub password: Option<&'a [u8]>,
    /// Whether a read-only server will do; `None` where the client does not know the field. The answer then
    /// lacks it, too.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// Reads one that fills the rest of `reader`: whether `read_only` is there depends on where it ends.
    pub fn decode(reader: &mut Reader<'a>) -> Result<ConnectRequest<'a>, DecodeError> {
        let error = |error: DecodeError| error.within("ConnectRequest");
        Ok(ConnectRequest {
            protocol_version: reader.i32().map_err(error)?,
            last_zxid_seen: reader.read().map_err(error)?,
            timeout_ms: reader.i32().map_err(error)?,
            session: reader.read().map_err(error)?,
            password: reader.buffer().map_err(error)?,
            read_only: if reader.is_empty() { None } else { Some(reader.bool().map_err(error)?) },
        })
    }

    /// Appends its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        jute::put_i32(out, self.protocol_version);
        self.last_zxid_seen.encode(out);
        jute::put_i32(out, self.timeout_ms);
        self.session.encode(out);
        jute::put_buffer(out, self.password);
        if let Some(read_only) = self.read_only {
            jute::put_bool(out, read_only);
        }
    }
}

/// The answer to a [`ConnectRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The timeout that holds; 0 if the session is not valid.
    pub timeout_ms: i32,
    /// The session; [`SessionId::NONE`] if it is not valid. Some clients look at this, others at the timeout.
    pub session: SessionId,
    /// Its password. The C client reads exactly these many bytes without looking at the length.
    pub password: [u8; PASSWORD_BYTES],
    /// Whether this is a read-only server; `None` where the request lacked the field.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// What a client gets whose session is unknown, expired or closed, or whose password is wrong. The
    /// connection is closed behind it.
    pub const fn not_valid(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse { timeout_ms: 0, session: SessionId::NONE, password: [0; PASSWORD_BYTES], read_only }
    }

    /// Reads one that fills the rest of `reader`.
    pub fn decode(reader: &mut Reader<'_>) -> Result<ConnectResponse, DecodeError> {
        let error = |error: DecodeError| error.within("ConnectResponse");
        let _protocol_version = reader.i32().map_err(error)?;
        let timeout_ms = reader.i32().map_err(error)?;
        let session = reader.read().map_err(error)?;
        let offset = reader.offset();
        let password = reader.buffer().map_err(error)?.unwrap_or_default();
        let password = password.try_into().map_err(|_| {
            let kind = DecodeErrorKind::WrongLength { expected: PASSWORD_BYTES, found: password.len() };
            error(DecodeError::new(kind, offset))
        })?;
        let read_only = if reader.is_empty() { None } else { Some(reader.bool().map_err(error)?) };
        Ok(ConnectResponse { timeout_ms, session, password, read_only })
    }

    /// Appends its encoding. The protocol version is always 0.
    pub fn encode(&self, out: &mut Vec<u8>) {
        jute::put_i32(out, 0);
        jute::put_i32(out, self.timeout_ms);
        self.session.encode(out);
        jute::put_buffer(out, Some(&self.password));
        if let Some(read_only) = self.read_only {
            jute::put_bool(out, read_only);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// Headers
// ---------------------------------------------------------------------------------------------------------

/// Opens every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The client's number of the request; the reply echoes it.
    pub xid: i32,
    /// The opcode, known or not.
    pub op: i32,
}

impl RequestHeader {
    /// The size of every request header.
    pub const BYTES: usize = 8;

    /// Reads one from the front of `reader`.
    #[inline]
    pub fn decode(reader: &mut Reader<'_>) -> Result<RequestHeader, DecodeError> {
        let [x0, x1, x2, x3, o0, o1, o2, o3] =
            reader.array::<{ RequestHeader::BYTES }>().map_err(|error| error.within("RequestHeader"))?;
        Ok(RequestHeader { xid: i32::from_be_bytes([x0, x1, x2, x3]), op: i32::from_be_bytes([o0, o1, o2, o3]) })
    }

    /// Appends its encoding.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let both = (self.xid as u32 as u64) << 32 | self.op as u32 as u64;
        out.extend_from_slice(&both.to_be_bytes());
    }
}

/// Opens every reply and every notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The xid of the request, or one of the special ones.
    pub xid: i32,
    /// The last zxid applied when the reply was made; 0 or -1 in replies that do not come from the tree.
    pub zxid: i64,
    /// A [`crate::Code`]; a record follows only if it is 0.
    pub code: i32,
}

impl ReplyHeader {
    /// The size of every reply header.
    pub const BYTES: usize = 16;

    /// Reads one from the front of `reader`.
    #[inline]
    pub fn decode(reader: &mut Reader<'_>) -> Result<ReplyHeader, DecodeError> {
        let bytes = reader.array::<{ ReplyHeader::BYTES }>().map_err(|error| error.within("ReplyHeader"))?;
        let mut fields = Reader::new(&bytes);
        Ok(ReplyHeader { xid: fields.i32()?, zxid: fields.i64()?, code: fields.i32()? })
    }

    /// Appends its encoding.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; ReplyHeader::BYTES];
        bytes[0..4].copy_from_slice(&self.xid.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.zxid.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.code.to_be_bytes());
        out.extend_from_slice(&bytes);
    }
}

impl<'a> Jute<'a> for RequestHeader {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<RequestHeader, DecodeError> {
        RequestHeader::decode(reader)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        RequestHeader::encode(self, out);
    }
}

impl<'a> Jute<'a> for ReplyHeader {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<ReplyHeader, DecodeError> {
        ReplyHeader::decode(reader)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        ReplyHeader::encode(self, out);
    }
}

// ---------------------------------------------------------------------------------------------------------
// Shared records and requests
// ---------------------------------------------------------------------------------------------------------

records! {
    /// One entry of an ACL: who may do what.
    Acl<'a> {
        /// A sum of [`PERM_READ`] and its siblings; unknown bits are kept.
        perms: i32,
        /// How the identity is proven, such as `world`, `ip` or `digest`.
        scheme: Option<Cow<'a, str>>,
        /// The identity, in the form its scheme gives it.
        id: Option<Cow<'a, str>>,
    }

    /// One identity of a connection.
    ClientInfo<'a> {
        /// How it was proven.
        scheme: Option<Cow<'a, str>>,
        /// The part of it that may be shown.
        user: Option<Cow<'a, str>>,
    }

    /// create, create2, createContainer: path, data and ACL of the new znode.
    CreateRequest<'a> {
        /// Where to create it; a sequence number is appended if the flags say so.
        path: Option<Cow<'a, str>>,
        /// Its data; null is kept as null.
        data: Option<&'a [u8]>,
        /// Its ACL.
        acl: Option<AclVec<'a>>,
        /// A [`CreateMode`].
        flags: i32,
    }

    /// createTTL: a create with a time to live.
    CreateTtlRequest<'a> {
        /// Where to create it.
        path: Option<Cow<'a, str>>,
        /// Its data.
        data: Option<&'a [u8]>,
        /// Its ACL.
        acl: Option<AclVec<'a>>,
        /// A [`CreateMode`].
        flags: i32,
        /// How long it lives without change and children.
        ttl_ms: i64,
    }

    /// delete.
    DeleteRequest<'a> {
        /// The znode to delete.
        path: Option<Cow<'a, str>>,
        /// The version it must have, -1 for any.
        version: i32,
    }

    /// exists, getData, getChildren, getChildren2: a read that may leave a watch.
    PathWatchRequest<'a> {
        /// The znode to read; empty names the root.
        path: Option<Cow<'a, str>>,
        /// Whether to register a watch.
        watch: bool,
    }

    /// getACL, sync, getEphemerals (the prefix), getAllChildrenNumber, deleteContainer.
    PathRequest<'a> {
        /// The znode to look at.
        path: Option<Cow<'a, str>>,
    }

    /// setData.
    SetDataRequest<'a> {
        /// The znode to change.
        path: Option<Cow<'a, str>>,
        /// Its new data.
        data: Option<&'a [u8]>,
        /// The version it must have, -1 for any.
        version: i32,
    }

    /// setACL.
    SetAclRequest<'a> {
        /// The znode to change.
        path: Option<Cow<'a, str>>,
        /// Its new ACL.
        acl: Option<AclVec<'a>>,
        /// The version its ACL must have, -1 for any.
        version: i32,
    }

    /// check, inside a multi.
    CheckVersionRequest<'a> {
        /// The znode that must exist.
        path: Option<Cow<'a, str>>,
        /// The version it must have, -1 for any.
        version: i32,
    }

    /// reconfig: a change of the ensemble's membership, either by difference or as a whole.
    ReconfigRequest<'a> {
        /// Servers to add, comma separated.
        joining: Option<Cow<'a, str>>,
        /// Ids of servers to remove, comma separated.
        leaving: Option<Cow<'a, str>>,
        /// The whole new membership; if given, the other two are ignored.
        new_members: Option<Cow<'a, str>>,
        /// The version the current configuration must have, -1 for any.
        config_id: i64,
    }

    /// checkWatches, removeWatches.
    WatchesRequest<'a> {
        /// The watched path.
        path: Option<Cow<'a, str>>,
        /// A [`WatcherKind`].
        kind: i32,
    }

    /// setWatches: what a client had watched before it reconnected.
    SetWatches<'a> {
        /// The last zxid the client saw: changes after it fire at once.
        relative_zxid: Zxid,
        /// Paths with a data watch.
        data: StringVec<'a>,
        /// Paths that were missing and watched.
        exist: StringVec<'a>,
        /// Paths with a child watch.
        child: StringVec<'a>,
    }

    /// setWatches2: the same with persistent watches.
    SetWatches2<'a> {
        /// The last zxid the client saw.
        relative_zxid: Zxid,
        /// Paths with a data watch.
        data: StringVec<'a>,
        /// Paths that were missing and watched.
        exist: StringVec<'a>,
        /// Paths with a child watch.
        child: StringVec<'a>,
        /// Paths with a persistent watch.
        persistent: StringVec<'a>,
        /// Paths with a persistent recursive watch.
        persistent_recursive: StringVec<'a>,
    }

    /// addWatch.
    AddWatchRequest<'a> {
        /// The path to watch.
        path: Option<Cow<'a, str>>,
        /// An [`AddWatchMode`].
        mode: i32,
    }

    /// auth: a credential for this connection.
    AuthPacket<'a> {
        /// 0; servers ignore it.
        kind: i32,
        /// The scheme that understands the credential.
        scheme: Option<Cow<'a, str>>,
        /// The credential.
        auth: Option<&'a [u8]>,
    }

    /// sasl: one token of the exchange, in either direction.
    SaslToken<'a> {
        /// The token; null from a server that does no SASL, or refuses.
        token: Option<&'a [u8]>,
    }
}

impl<'a> Element<'a> for Acl<'a> {
    const BYTES_MIN: usize = 12;

    #[inline]
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        reader.i32().map_err(|error| error.within("Acl.perms"))?;
        reader.buffer().map_err(|error| error.within("Acl.scheme"))?;
        reader.buffer().map_err(|error| error.within("Acl.id"))?;
        Ok(())
    }
}

impl<'a> Element<'a> for ClientInfo<'a> {
    const BYTES_MIN: usize = 8;

    #[inline]
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        reader.buffer().map_err(|error| error.within("ClientInfo.scheme"))?;
        reader.buffer().map_err(|error| error.within("ClientInfo.user"))?;
        Ok(())
    }
}

impl<'a> Acl<'a> {
    /// An entry from its parts.
    pub fn new(perms: i32, scheme: &'a str, id: &'a str) -> Acl<'a> {
        Acl { perms, scheme: Some(Cow::Borrowed(scheme)), id: Some(Cow::Borrowed(id)) }
    }
}

impl<'a> AclVec<'a> {
    /// Everybody may do everything: the ACL that nearly every znode has.
    pub const OPEN: AclVec<'static> = LazyVec::trusted(
        1,
        &[
            0, 0, 0, 31, // PERM_ALL
            0, 0, 0, 5, b'w', b'o', b'r', b'l', b'd', //
            0, 0, 0, 6, b'a', b'n', b'y', b'o', b'n', b'e',
        ],
    );

    /// Encodes `entries` into `buffer`, which is emptied first.
    pub fn build(buffer: &'a mut Vec<u8>, entries: &[Acl<'_>]) -> AclVec<'a> {
        buffer.clear();
        for entry in entries {
            entry.encode(buffer);
        }
        LazyVec::trusted(entries.len(), buffer)
    }
}

impl<'a> StringVec<'a> {
    /// Encodes `strings` into `buffer`, which is emptied first.
    pub fn build<S: AsRef<str>>(buffer: &'a mut Vec<u8>, strings: impl IntoIterator<Item = S>) -> StringVec<'a> {
        buffer.clear();
        let mut count = 0;
        for string in strings {
            jute::put_string(buffer, string.as_ref());
            count += 1;
        }
        LazyVec::trusted(count, buffer)
    }
}

impl<'a> ClientInfoVec<'a> {
    /// Encodes `entries` into `buffer`, which is emptied first.
    pub fn build(buffer: &'a mut Vec<u8>, entries: &[ClientInfo<'_>]) -> ClientInfoVec<'a> {
        buffer.clear();
        for entry in entries {
            entry.encode(buffer);
        }
        LazyVec::trusted(entries.len(), buffer)
    }
}

// ---------------------------------------------------------------------------------------------------------
// Replies and notifications
// ---------------------------------------------------------------------------------------------------------

records! {
    /// Answers create (the path with its sequence number) and sync (the path that was sent).
    PathResponse<'a> {
        /// The path; null only where a sync sent null.
        path: Option<Cow<'a, str>>,
    }

    /// Answers create2, createContainer and createTTL.
    Create2Response<'a> {
        /// The path with its sequence number.
        path: Option<Cow<'a, str>>,
        /// The stat of the new znode.
        stat: Stat,
    }

    /// Answers exists, setData and setACL.
    StatResponse {
        /// The stat, after the change if there was one.
        stat: Stat,
    }

    /// Answers getData, and reconfig with the text of the new configuration.
    GetDataResponse<'a> {
        /// The data; null if it was created so.
        data: Option<&'a [u8]>,
        /// The stat.
        stat: Stat,
    }

    /// Answers getACL.
    GetAclResponse<'a> {
        /// The ACL, with what this client may not see blotted out.
        acl: AclVec<'a>,
        /// The stat.
        stat: Stat,
    }

    /// Answers getChildren.
    GetChildrenResponse<'a> {
        /// The names, in no particular order.
        children: StringVec<'a>,
    }

    /// Answers getChildren2.
    GetChildren2Response<'a> {
        /// The names, in no particular order.
        children: StringVec<'a>,
        /// The stat of the parent.
        stat: Stat,
    }

    /// Answers getEphemerals.
    GetEphemeralsResponse<'a> {
        /// The paths, in no particular order.
        ephemerals: StringVec<'a>,
    }

    /// Answers getAllChildrenNumber.
    GetAllChildrenNumberResponse {
        /// The number of all descendants.
        total: i32,
    }

    /// Answers whoAmI.
    WhoAmIResponse<'a> {
        /// The identities, in no particular order.
        clients: ClientInfoVec<'a>,
    }

    /// Answers addWatch, and stands for an operation that failed in the answer to a multi.
    ErrorResponse {
        /// A [`crate::Code`].
        code: i32,
    }

    /// What a notification carries behind its header.
    WatcherEvent<'a> {
        /// An [`EventType`].
        kind: i32,
        /// A [`KeeperState`]; a server sends nothing but [`KeeperState::SyncConnected`].
        state: i32,
        /// The znode the event is about, never empty: the root is `/`.
        path: Cow<'a, str>,
    }

    /// Opens every operation and every result of a multi, and ends it.
    MultiHeader {
        /// The opcode of the operation, or the type of the result; -1 for a failure and for the end.
        op: i32,
        /// Whether this is the end; nothing follows it.
        done: bool,
        /// The code of a result; -1 in requests and at the end.
        code: i32,
    }
}

impl<'a> WatcherEvent<'a> {
    /// An event as servers send it.
    #[inline]
    pub fn new(kind: EventType, path: &'a str) -> WatcherEvent<'a> {
        WatcherEvent { kind: kind.raw(), state: KeeperState::SyncConnected.raw(), path: Cow::Borrowed(path) }
    }
}

impl MultiHeader {
    /// The size of every multi header.
    pub const BYTES: usize = 9;

    /// Ends every multi, in both directions.
    pub const END: MultiHeader = MultiHeader { op: Op::Error.raw(), done: true, code: -1 };

    /// Opens an operation of a request.
    #[inline]
    pub const fn request(op: Op) -> MultiHeader {
        MultiHeader { op: op.raw(), done: false, code: -1 }
    }

    /// Opens the result of an operation that succeeded.
    #[inline]
    pub const fn result(op: Op) -> MultiHeader {
        MultiHeader { op: op.raw(), done: false, code: 0 }
    }

    /// Opens the result of an operation that failed.
    #[inline]
    pub const fn error(code: i32) -> MultiHeader {
        MultiHeader { op: Op::Error.raw(), done: false, code }
    }
}

// ---------------------------------------------------------------------------------------------------------
// Multi
// ---------------------------------------------------------------------------------------------------------

/// What stands between two headers of a multi.
pub trait MultiItem<'a>: Sized {
    /// Reads what follows `header`, which is not the end.
    fn decode_after(header: MultiHeader, reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Appends header and record.
    fn encode(&self, out: &mut Vec<u8>);

    /// Whether it reads or writes; `None` if it does not matter.
    fn kind(&self) -> Option<OpKind>;
}

/// A multi that stays as it was encoded: checked when it was decoded, read when it is iterated.
///
/// Invariant: `raw` is exactly `count` headers with their records, each of which decodes, without the end.
pub struct MultiVec<'a, T> {
    count: usize,
    raw: &'a [u8],
    item: std::marker::PhantomData<fn() -> T>,
}

impl<'a, T: MultiItem<'a>> MultiVec<'a, T> {
    /// Reads a whole multi up to and including its end. A type that may not stand in one, and a mixture of
    /// reads and writes, are errors.
    pub fn decode(reader: &mut Reader<'a>) -> Result<MultiVec<'a, T>, DecodeError> {
        let start = reader.remaining();
        let mut count = 0;
        let mut first_kind = None;
        loop {
            let before = reader.remaining().len();
            let offset = reader.offset();
            let header = MultiHeader::decode(reader)?;
            if header.done {
                let (raw, _) = start.split_at(start.len() - before);
                return Ok(MultiVec { count, raw, item: std::marker::PhantomData });
            }
            let kind = T::decode_after(header, reader)?.kind();
            if kind != *first_kind.get_or_insert(kind) {
                return Err(DecodeError::new(DecodeErrorKind::MixedMulti, offset).within("MultiHeader.op"));
            }
            count += 1;
        }
    }

    /// Appends its encoding, with the end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.raw);
        MultiHeader::END.encode(out);
    }

    /// Encodes `items` into `buffer`, which is emptied first. Reads and writes must not be mixed.
    pub fn build<'i>(buffer: &'a mut Vec<u8>, items: &[impl MultiItem<'i>]) -> MultiVec<'a, T> {
        buffer.clear();
        for item in items {
            item.encode(buffer);
        }
        MultiVec { count: items.len(), raw: buffer, item: std::marker::PhantomData }
    }

    /// The number of operations or results.
    #[inline]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it reads or writes; `None` for results, and for an empty multi, which is either.
    pub fn kind(&self) -> Option<OpKind> {
        self.iter().next().and_then(|item| item.kind())
    }

    /// The operations or results, decoded one by one.
    #[inline]
    pub fn iter(&self) -> MultiIter<'a, T> {
        MultiIter { reader: Reader::new(self.raw), left: self.count, item: std::marker::PhantomData }
    }
}

impl<T> Clone for MultiVec<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MultiVec<'_, T> {}

/// Multis are equal when their encodings are.
impl<T> PartialEq for MultiVec<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.raw == other.raw
    }
}

impl<T> Eq for MultiVec<'_, T> {}

impl<'a, T: MultiItem<'a> + std::fmt::Debug> std::fmt::Debug for MultiVec<'a, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: MultiItem<'a>> Jute<'a> for MultiVec<'a, T> {
    fn decode(reader: &mut Reader<'a>) -> Result<MultiVec<'a, T>, DecodeError> {
        MultiVec::decode(reader)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        MultiVec::encode(self, out);
    }
}

impl<'a, T: MultiItem<'a>> IntoIterator for MultiVec<'a, T> {
    type Item = T;
    type IntoIter = MultiIter<'a, T>;

    #[inline]
    fn into_iter(self) -> MultiIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: MultiItem<'a>> IntoIterator for &MultiVec<'a, T> {
    type Item = T;
    type IntoIter = MultiIter<'a, T>;

    #[inline]
    fn into_iter(self) -> MultiIter<'a, T> {
        self.iter()
    }
}

/// Decodes the items of a [`MultiVec`] one by one.
pub struct MultiIter<'a, T> {
    reader: Reader<'a>,
    left: usize,
    item: std::marker::PhantomData<fn() -> T>,
}

impl<'a, T: MultiItem<'a>> Iterator for MultiIter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        // Every item was checked when the multi was decoded, so this ends only behind the last one.
        let header = MultiHeader::decode(&mut self.reader).ok()?;
        T::decode_after(header, &mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'a, T: MultiItem<'a>> ExactSizeIterator for MultiIter<'a, T> {}

/// One operation of a multi or multiRead.
///
/// A multi's flags decide what a create becomes, unlike those of a create alone; that is the server's
/// business and not undone here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiOp<'a> {
    /// [`Op::Create`].
    Create(CreateRequest<'a>),
    /// [`Op::Create2`].
    Create2(CreateRequest<'a>),
    /// [`Op::CreateContainer`].
    CreateContainer(CreateRequest<'a>),
    /// [`Op::CreateTtl`].
    CreateTtl(CreateTtlRequest<'a>),
    /// [`Op::Delete`].
    Delete(DeleteRequest<'a>),
    /// [`Op::SetData`].
    SetData(SetDataRequest<'a>),
    /// [`Op::Check`].
    Check(CheckVersionRequest<'a>),
    /// [`Op::GetData`]; its watch flag is ignored.
    GetData(PathWatchRequest<'a>),
    /// [`Op::GetChildren`]; its watch flag is ignored.
    GetChildren(PathWatchRequest<'a>),
}

impl MultiOp<'_> {
    /// Its opcode.
    pub fn op(&self) -> Op {
        match self {
            MultiOp::Create(_) => Op::Create,
            MultiOp::Create2(_) => Op::Create2,
            MultiOp::CreateContainer(_) => Op::CreateContainer,
            MultiOp::CreateTtl(_) => Op::CreateTtl,
            MultiOp::Delete(_) => Op::Delete,
            MultiOp::SetData(_) => Op::SetData,
            MultiOp::Check(_) => Op::Check,
            MultiOp::GetData(_) => Op::GetData,
            MultiOp::GetChildren(_) => Op::GetChildren,
        }
    }
}

impl<'a> MultiItem<'a> for MultiOp<'a> {
    fn decode_after(header: MultiHeader, reader: &mut Reader<'a>) -> Result<MultiOp<'a>, DecodeError> {
        Ok(match Op::from_raw(header.op) {
            Some(Op::Create) => MultiOp::Create(CreateRequest::decode(reader)?),
            Some(Op::Create2) => MultiOp::Create2(CreateRequest::decode(reader)?),
            Some(Op::CreateContainer) => MultiOp::CreateContainer(CreateRequest::decode(reader)?),
            Some(Op::CreateTtl) => MultiOp::CreateTtl(CreateTtlRequest::decode(reader)?),
            Some(Op::Delete) => MultiOp::Delete(DeleteRequest::decode(reader)?),
            Some(Op::SetData) => MultiOp::SetData(SetDataRequest::decode(reader)?),
            Some(Op::Check) => MultiOp::Check(CheckVersionRequest::decode(reader)?),
            Some(Op::GetData) => MultiOp::GetData(PathWatchRequest::decode(reader)?),
            Some(Op::GetChildren) => MultiOp::GetChildren(PathWatchRequest::decode(reader)?),
            _ => return Err(unknown_multi_type(header, reader)),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        MultiHeader::request(self.op()).encode(out);
        match self {
            MultiOp::Create(request) | MultiOp::Create2(request) | MultiOp::CreateContainer(request) => {
                request.encode(out);
            }
            MultiOp::CreateTtl(request) => request.encode(out),
            MultiOp::Delete(request) => request.encode(out),
            MultiOp::SetData(request) => request.encode(out),
            MultiOp::Check(request) => request.encode(out),
            MultiOp::GetData(request) | MultiOp::GetChildren(request) => request.encode(out),
        }
    }

    fn kind(&self) -> Option<OpKind> {
        Some(self.op().kind())
    }
}

/// One result of a multi or multiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiResult<'a> {
    /// A create.
    Create(PathResponse<'a>),
    /// A create2, createContainer or createTTL.
    Create2(Create2Response<'a>),
    /// A delete.
    Delete,
    /// A setData.
    SetData(StatResponse),
    /// A check.
    Check,
    /// A getData.
    GetData(GetDataResponse<'a>),
    /// A getChildren.
    GetChildren(GetChildrenResponse<'a>),
    /// An operation that failed; or, in a multi that failed, one before (0) or after (-2) that.
    Error(ErrorResponse),
}

impl<'a> MultiItem<'a> for MultiResult<'a> {
    fn decode_after(header: MultiHeader, reader: &mut Reader<'a>) -> Result<MultiResult<'a>, DecodeError> {
        Ok(match Op::from_raw(header.op) {
            Some(Op::Create) => MultiResult::Create(PathResponse::decode(reader)?),
            Some(Op::Create2) => MultiResult::Create2(Create2Response::decode(reader)?),
            Some(Op::Delete) => MultiResult::Delete,
            Some(Op::SetData) => MultiResult::SetData(StatResponse::decode(reader)?),
            Some(Op::Check) => MultiResult::Check,
            Some(Op::GetData) => MultiResult::GetData(GetDataResponse::decode(reader)?),
            Some(Op::GetChildren) => MultiResult::GetChildren(GetChildrenResponse::decode(reader)?),
            Some(Op::Error) => MultiResult::Error(ErrorResponse::decode(reader)?),
            _ => return Err(unknown_multi_type(header, reader)),
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            MultiResult::Create(response) => {
                MultiHeader::result(Op::Create).encode(out);
                response.encode(out);
            }
            MultiResult::Create2(response) => {
                MultiHeader::result(Op::Create2).encode(out);
                response.encode(out);
            }
            MultiResult::Delete => MultiHeader::result(Op::Delete).encode(out),
            MultiResult::SetData(response) => {
                MultiHeader::result(Op::SetData).encode(out);
                response.encode(out);
            }
            MultiResult::Check => MultiHeader::result(Op::Check).encode(out),
            MultiResult::GetData(response) => {
                MultiHeader::result(Op::GetData).encode(out);
                response.encode(out);
            }
            MultiResult::GetChildren(response) => {
                MultiHeader::result(Op::GetChildren).encode(out);
                response.encode(out);
            }
            MultiResult::Error(response) => {
                MultiHeader::error(response.code).encode(out);
                response.encode(out);
            }
        }
    }

    fn kind(&self) -> Option<OpKind> {
        None
    }
}

#[cold]
fn unknown_multi_type(header: MultiHeader, reader: &Reader<'_>) -> DecodeError {
    let offset = reader.offset() - MultiHeader::BYTES;
    DecodeError::new(DecodeErrorKind::UnknownType(header.op), offset).within("MultiHeader.op")
}

// ---------------------------------------------------------------------------------------------------------
// All of them
// ---------------------------------------------------------------------------------------------------------

/// Any request a client can send after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// [`Op::Create`].
    Create(CreateRequest<'a>),
    /// [`Op::Create2`].
    Create2(CreateRequest<'a>),
    /// [`Op::CreateContainer`].
    CreateContainer(CreateRequest<'a>),
    /// [`Op::CreateTtl`].
    CreateTtl(CreateTtlRequest<'a>),
    /// [`Op::Delete`].
    Delete(DeleteRequest<'a>),
    /// [`Op::DeleteContainer`]; its path is encoded as a buffer, in the same bytes as a string.
    DeleteContainer(PathRequest<'a>),
    /// [`Op::Exists`].
    Exists(PathWatchRequest<'a>),
    /// [`Op::GetData`].
    GetData(PathWatchRequest<'a>),
    /// [`Op::SetData`].
    SetData(SetDataRequest<'a>),
    /// [`Op::GetAcl`].
    GetAcl(PathRequest<'a>),
    /// [`Op::SetAcl`].
    SetAcl(SetAclRequest<'a>),
    /// [`Op::GetChildren`].
    GetChildren(PathWatchRequest<'a>),
    /// [`Op::GetChildren2`].
    GetChildren2(PathWatchRequest<'a>),
    /// [`Op::Sync`].
    Sync(PathRequest<'a>),
    /// [`Op::Ping`].
    Ping,
    /// [`Op::Multi`].
    Multi(MultiRequest<'a>),
    /// [`Op::MultiRead`].
    MultiRead(MultiRequest<'a>),
    /// [`Op::Reconfig`].
    Reconfig(ReconfigRequest<'a>),
    /// [`Op::CheckWatches`].
    CheckWatches(WatchesRequest<'a>),
    /// [`Op::RemoveWatches`].
    RemoveWatches(WatchesRequest<'a>),
    /// [`Op::Auth`].
    Auth(AuthPacket<'a>),
    /// [`Op::Sasl`].
    Sasl(SaslToken<'a>),
    /// [`Op::SetWatches`].
    SetWatches(SetWatches<'a>),
    /// [`Op::SetWatches2`].
    SetWatches2(SetWatches2<'a>),
    /// [`Op::AddWatch`].
    AddWatch(AddWatchRequest<'a>),
    /// [`Op::GetEphemerals`].
    GetEphemerals(PathRequest<'a>),
    /// [`Op::GetAllChildrenNumber`].
    GetAllChildrenNumber(PathRequest<'a>),
    /// [`Op::WhoAmI`].
    WhoAmI,
    /// [`Op::CloseSession`].
    CloseSession,
}

impl<'a> Request<'a> {
    /// Reads the record of `op`, which follows the request header. An opcode that no client may send is an
    /// unknown type here.
    pub fn decode(op: Op, reader: &mut Reader<'a>) -> Result<Request<'a>, DecodeError> {
        Ok(match op {
            Op::Create => Request::Create(CreateRequest::decode(reader)?),
            Op::Create2 => Request::Create2(CreateRequest::decode(reader)?),
            Op::CreateContainer => Request::CreateContainer(CreateRequest::decode(reader)?),
            Op::CreateTtl => Request::CreateTtl(CreateTtlRequest::decode(reader)?),
            Op::Delete => Request::Delete(DeleteRequest::decode(reader)?),
            Op::DeleteContainer => Request::DeleteContainer(PathRequest::decode(reader)?),
            Op::Exists => Request::Exists(PathWatchRequest::decode(reader)?),
            Op::GetData => Request::GetData(PathWatchRequest::decode(reader)?),
            Op::SetData => Request::SetData(SetDataRequest::decode(reader)?),
            Op::GetAcl => Request::GetAcl(PathRequest::decode(reader)?),
            Op::SetAcl => Request::SetAcl(SetAclRequest::decode(reader)?),
            Op::GetChildren => Request::GetChildren(PathWatchRequest::decode(reader)?),
            Op::GetChildren2 => Request::GetChildren2(PathWatchRequest::decode(reader)?),
            Op::Sync => Request::Sync(PathRequest::decode(reader)?),
            Op::Ping => Request::Ping,
            Op::Multi => Request::Multi(MultiRequest::decode(reader)?),
            Op::MultiRead => Request::MultiRead(MultiRequest::decode(reader)?),
            Op::Reconfig => Request::Reconfig(ReconfigRequest::decode(reader)?),
            Op::CheckWatches => Request::CheckWatches(WatchesRequest::decode(reader)?),
            Op::RemoveWatches => Request::RemoveWatches(WatchesRequest::decode(reader)?),
            Op::Auth => Request::Auth(AuthPacket::decode(reader)?),
            Op::Sasl => Request::Sasl(SaslToken::decode(reader)?),
            Op::SetWatches => Request::SetWatches(SetWatches::decode(reader)?),
            Op::SetWatches2 => Request::SetWatches2(SetWatches2::decode(reader)?),
            Op::AddWatch => Request::AddWatch(AddWatchRequest::decode(reader)?),
            Op::GetEphemerals => Request::GetEphemerals(PathRequest::decode(reader)?),
            Op::GetAllChildrenNumber => Request::GetAllChildrenNumber(PathRequest::decode(reader)?),
            Op::WhoAmI => Request::WhoAmI,
            Op::CloseSession => Request::CloseSession,
            Op::CreateSession | Op::Error | Op::Notification | Op::Check => {
                let kind = DecodeErrorKind::UnknownType(op.raw());
                return Err(DecodeError::new(kind, reader.offset()).within("RequestHeader.op"));
            }
        })
    }

    /// Its opcode.
    pub fn op(&self) -> Op {
        match self {
            Request::Create(_) => Op::Create,
            Request::Create2(_) => Op::Create2,
            Request::CreateContainer(_) => Op::CreateContainer,
            Request::CreateTtl(_) => Op::CreateTtl,
            Request::Delete(_) => Op::Delete,
            Request::DeleteContainer(_) => Op::DeleteContainer,
            Request::Exists(_) => Op::Exists,
            Request::GetData(_) => Op::GetData,
            Request::SetData(_) => Op::SetData,
            Request::GetAcl(_) => Op::GetAcl,
            Request::SetAcl(_) => Op::SetAcl,
            Request::GetChildren(_) => Op::GetChildren,
            Request::GetChildren2(_) => Op::GetChildren2,
            Request::Sync(_) => Op::Sync,
            Request::Ping => Op::Ping,
            Request::Multi(_) => Op::Multi,
            Request::MultiRead(_) => Op::MultiRead,
            Request::Reconfig(_) => Op::Reconfig,
            Request::CheckWatches(_) => Op::CheckWatches,
            Request::RemoveWatches(_) => Op::RemoveWatches,
            Request::Auth(_) => Op::Auth,
            Request::Sasl(_) => Op::Sasl,
            Request::SetWatches(_) => Op::SetWatches,
            Request::SetWatches2(_) => Op::SetWatches2,
            Request::AddWatch(_) => Op::AddWatch,
            Request::GetEphemerals(_) => Op::GetEphemerals,
            Request::GetAllChildrenNumber(_) => Op::GetAllChildrenNumber,
            Request::WhoAmI => Op::WhoAmI,
            Request::CloseSession => Op::CloseSession,
        }
    }

    /// Appends the record, without a header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Create(record) | Request::Create2(record) | Request::CreateContainer(record) => {
                record.encode(out);
            }
            Request::CreateTtl(record) => record.encode(out),
            Request::Delete(record) => record.encode(out),
            Request::Exists(record)
            | Request::GetData(record)
            | Request::GetChildren(record)
            | Request::GetChildren2(record) => record.encode(out),
            Request::SetData(record) => record.encode(out),
            Request::GetAcl(record)
            | Request::DeleteContainer(record)
            | Request::Sync(record)
            | Request::GetEphemerals(record)
            | Request::GetAllChildrenNumber(record) => record.encode(out),
            Request::SetAcl(record) => record.encode(out),
            Request::Multi(record) | Request::MultiRead(record) => record.encode(out),
            Request::Reconfig(record) => record.encode(out),
            Request::CheckWatches(record) | Request::RemoveWatches(record) => record.encode(out),
            Request::Auth(record) => record.encode(out),
            Request::Sasl(record) => record.encode(out),
            Request::SetWatches(record) => record.encode(out),
            Request::SetWatches2(record) => record.encode(out),
            Request::AddWatch(record) => record.encode(out),
            Request::Ping | Request::WhoAmI | Request::CloseSession => {}
        }
    }

    /// Appends a whole frame: length, header, record.
    pub fn encode_frame(&self, xid: i32, out: &mut Vec<u8>) {
        let mark = crate::frame::begin(out);
        RequestHeader { xid, op: self.op().raw() }.encode(out);
        self.encode(out);
        crate::frame::end(out, mark);
    }
}

/// Any record that can follow a reply header whose code is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// No record: delete, ping, auth, setWatches and others are answered by their header alone.
    Empty,
    /// Answers create and sync.
    Path(PathResponse<'a>),
    /// Answers create2, createContainer and createTTL.
    Create2(Create2Response<'a>),
    /// Answers exists, setData and setACL.
    Stat(StatResponse),
    /// Answers getData and reconfig.
    GetData(GetDataResponse<'a>),
    /// Answers getACL.
    GetAcl(GetAclResponse<'a>),
    /// Answers getChildren.
    GetChildren(GetChildrenResponse<'a>),
    /// Answers getChildren2.
    GetChildren2(GetChildren2Response<'a>),
    /// Answers multi and multiRead.
    Multi(MultiResponse<'a>),
    /// Answers sasl.
    Sasl(SaslToken<'a>),
    /// Answers getEphemerals.
    GetEphemerals(GetEphemeralsResponse<'a>),
    /// Answers getAllChildrenNumber.
    GetAllChildrenNumber(GetAllChildrenNumberResponse),
    /// Answers addWatch.
    AddWatch(ErrorResponse),
    /// Answers whoAmI.
    WhoAmI(WhoAmIResponse<'a>),
    /// Not an answer: what a notification carries.
    Notification(WatcherEvent<'a>),
}

impl<'a> Response<'a> {
    /// Reads the record that follows the header of a successful reply to `op`.
    pub fn decode(op: Op, reader: &mut Reader<'a>) -> Result<Response<'a>, DecodeError> {
        Ok(match op {
            Op::Create | Op::Sync => Response::Path(PathResponse::decode(reader)?),
            Op::Create2 | Op::CreateContainer | Op::CreateTtl => Response::Create2(Create2Response::decode(reader)?),
            Op::Exists | Op::SetData | Op::SetAcl => Response::Stat(StatResponse::decode(reader)?),
            Op::GetData | Op::Reconfig => Response::GetData(GetDataResponse::decode(reader)?),
            Op::GetAcl => Response::GetAcl(GetAclResponse::decode(reader)?),
            Op::GetChildren => Response::GetChildren(GetChildrenResponse::decode(reader)?),
            Op::GetChildren2 => Response::GetChildren2(GetChildren2Response::decode(reader)?),
            Op::Multi | Op::MultiRead => Response::Multi(MultiResponse::decode(reader)?),
            Op::Sasl => Response::Sasl(SaslToken::decode(reader)?),
            Op::GetEphemerals => Response::GetEphemerals(GetEphemeralsResponse::decode(reader)?),
            Op::GetAllChildrenNumber => Response::GetAllChildrenNumber(GetAllChildrenNumberResponse::decode(reader)?),
            Op::AddWatch => Response::AddWatch(ErrorResponse::decode(reader)?),
            Op::WhoAmI => Response::WhoAmI(WhoAmIResponse::decode(reader)?),
            Op::Notification => Response::Notification(WatcherEvent::decode(reader)?),
            Op::CloseSession
            | Op::CreateSession
            | Op::Error
            | Op::Delete
            | Op::Ping
            | Op::Check
            | Op::CheckWatches
            | Op::RemoveWatches
            | Op::DeleteContainer
            | Op::Auth
            | Op::SetWatches
            | Op::SetWatches2 => Response::Empty,
        })
    }

    /// Appends the record, without a header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Response::Empty => {}
            Response::Path(record) => record.encode(out),
            Response::Create2(record) => record.encode(out),
            Response::Stat(record) => record.encode(out),
            Response::GetData(record) => record.encode(out),
            Response::GetAcl(record) => record.encode(out),
            Response::GetChildren(record) => record.encode(out),
            Response::GetChildren2(record) => record.encode(out),
            Response::Multi(record) => record.encode(out),
            Response::Sasl(record) => record.encode(out),
            Response::GetEphemerals(record) => record.encode(out),
            Response::GetAllChildrenNumber(record) => record.encode(out),
            Response::AddWatch(record) => record.encode(out),
            Response::WhoAmI(record) => record.encode(out),
            Response::Notification(record) => record.encode(out),
        }
    }

    /// Appends a whole frame: length, header, record.
    pub fn encode_frame(&self, header: ReplyHeader, out: &mut Vec<u8>) {
        let mark = crate::frame::begin(out);
        header.encode(out);
        self.encode(out);
        crate::frame::end(out, mark);
    }
}

// ---------------------------------------------------------------------------------------------------------
// Numbers with names
// ---------------------------------------------------------------------------------------------------------

/// Defines an enum of numbers on the wire with the way there and back.
macro_rules! numbers {
    ($($(#[$doc:meta])+ $name:ident { $($(#[$variant_doc:meta])+ $variant:ident = $raw:literal,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum $name {
            $($(#[$variant_doc])+ $variant = $raw,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The one with this number, `None` where there is none.
            #[inline]
            pub const fn from_raw(raw: i32) -> Option<$name> {
                match raw {
                    $($raw => Some($name::$variant),)+
                    _ => None,
                }
            }

            /// The number on the wire.
            #[inline]
            pub const fn raw(self) -> i32 {
                self as i32
            }
        }
    )+};
}

numbers! {
    /// What kind of znode a create makes.
    CreateMode {
        /// Stays until it is deleted.
        Persistent = 0,
        /// Goes with its session.
        Ephemeral = 1,
        /// Stays, with a number appended to its name.
        PersistentSequential = 2,
        /// Goes with its session, with a number appended to its name.
        EphemeralSequential = 3,
        /// Goes once its last child has gone.
        Container = 4,
        /// Goes after a time without change and children.
        PersistentWithTtl = 5,
        /// The same, with a number appended to its name.
        PersistentSequentialWithTtl = 6,
    }

    /// What happened to a watched znode.
    EventType {
        /// Only in clients: the connection changed its state.
        None = -1,
        /// It was created.
        NodeCreated = 1,
        /// It was deleted.
        NodeDeleted = 2,
        /// Its data was set.
        NodeDataChanged = 3,
        /// A child was created or deleted.
        NodeChildrenChanged = 4,
        /// Only in clients.
        DataWatchRemoved = 5,
        /// Only in clients.
        ChildWatchRemoved = 6,
        /// Only in clients.
        PersistentWatchRemoved = 7,
    }

    /// A connection's state as events tell it.
    KeeperState {
        /// Only in clients: the session is gone.
        Expired = -112,
        /// Out of use.
        Unknown = -1,
        /// Only in clients.
        Disconnected = 0,
        /// Out of use.
        NoSyncConnected = 1,
        /// Connected; the only state a server sends.
        SyncConnected = 3,
        /// Only in clients.
        AuthFailed = 4,
        /// Only in clients.
        ConnectedReadOnly = 5,
        /// Only in clients.
        SaslAuthenticated = 6,
        /// Only in clients.
        Closed = 7,
    }

    /// Which watches checkWatches and removeWatches mean.
    WatcherKind {
        /// Of getChildren and getChildren2.
        Children = 1,
        /// Of getData and exists.
        Data = 2,
        /// Any watch on exactly this path.
        Any = 3,
        /// Persistent, not recursive.
        Persistent = 4,
        /// Persistent and recursive.
        PersistentRecursive = 5,
    }

    /// Which watch addWatch leaves.
    AddWatchMode {
        /// Fires again and again for the znode and its children list.
        Persistent = 0,
        /// Fires again and again for the znode and all its descendants.
        PersistentRecursive = 1,
    }
}

impl CreateMode {
    /// Whether the znode goes with its session.
    #[inline]
    pub const fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    /// Whether a number is appended to its name.
    #[inline]
    pub const fn is_sequential(self) -> bool {
        use CreateMode::{EphemeralSequential, PersistentSequential, PersistentSequentialWithTtl};
        matches!(self, PersistentSequential | EphemeralSequential | PersistentSequentialWithTtl)
    }

    /// Whether it has a time to live.
    #[inline]
    pub const fn is_ttl(self) -> bool {
        matches!(self, CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_acl_is_world_anyone_with_all_permissions() {
        let mut buffer = Vec::new();
        assert_eq!(AclVec::build(&mut buffer, &[Acl::new(PERM_ALL, "world", "anyone")]), AclVec::OPEN);
        assert_eq!(AclVec::from_raw(AclVec::OPEN.raw()), Ok(AclVec::OPEN));
    }

    #[test]
    fn every_named_number_comes_back() {
        assert!(CreateMode::ALL.iter().all(|&mode| CreateMode::from_raw(mode.raw()) == Some(mode)));
        assert!(EventType::ALL.iter().all(|&kind| EventType::from_raw(kind.raw()) == Some(kind)));
        assert!(KeeperState::ALL.iter().all(|&state| KeeperState::from_raw(state.raw()) == Some(state)));
        assert!(WatcherKind::ALL.iter().all(|&kind| WatcherKind::from_raw(kind.raw()) == Some(kind)));
        assert!(AddWatchMode::ALL.iter().all(|&mode| AddWatchMode::from_raw(mode.raw()) == Some(mode)));
        assert_eq!(CreateMode::from_raw(7), None);
        assert_eq!(WatcherKind::from_raw(0), None);
    }

    #[test]
    fn every_opcode_a_client_may_send_has_a_request_record_and_no_other() {
        let empty = [0; 64];
        for &op in Op::ALL {
            match Request::decode(op, &mut Reader::new(&empty)) {
                Ok(request) => assert_eq!(request.op(), op),
                // A multi's header is nine bytes and zero is no operation of one.
                Err(error) if op.from_client() => {
                    assert!(matches!(op, Op::Multi | Op::MultiRead), "{op}: {error}");
                    assert_eq!(error.kind, DecodeErrorKind::UnknownType(0));
                }
                Err(error) => assert_eq!(error.kind, DecodeErrorKind::UnknownType(op.raw())),
            }
        }
    }

    #[test]
    fn a_multi_of_reads_and_writes_is_refused() {
        let mut buffer = Vec::new();
        let mixed: MultiRequest<'_> = MultiVec::build(
            &mut buffer,
            &[
                MultiOp::Check(CheckVersionRequest { path: Some("/a".into()), version: 1 }),
                MultiOp::GetData(PathWatchRequest { path: Some("/a".into()), watch: false }),
            ],
        );
        let mut bytes = Vec::new();
        mixed.encode(&mut bytes);
        let error = MultiRequest::decode(&mut Reader::new(&bytes)).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::MixedMulti);
        assert_eq!(error.what, "MultiHeader.op");
    }

    #[test]
    fn a_multi_refuses_what_may_not_stand_in_one() {
        for op in [Op::SetAcl, Op::Exists, Op::GetChildren2, Op::Multi, Op::Error] {
            let mut bytes = Vec::new();
            MultiHeader::request(op).encode(&mut bytes);
            bytes.extend_from_slice(&[0; 32]);
            let error = MultiRequest::decode(&mut Reader::new(&bytes)).unwrap_err();
            assert_eq!((error.kind, error.offset), (DecodeErrorKind::UnknownType(op.raw()), 0));
        }
    }

    #[test]
    fn an_error_inside_a_record_names_the_field_and_the_byte() {
        // A path of five bytes where two remain.
        let error = CreateRequest::decode(&mut Reader::new(b"\x00\x00\x00\x05/a")).unwrap_err();
        assert_eq!(error.to_string(), "CreateRequest.path at byte 4: 5 bytes are needed, 2 remain");
    }
}
