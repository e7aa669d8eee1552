//! Requests as byte templates, replies as checked values, and a blocking connection for what is not measured.
//!
//! Guarantees: building a request is one copy and a few patched bytes; a reply is taken for good only if its body is
//! what the request must lead to. Znode data begins with a stamp that says whose it is.

use crate::limits::{CHILDREN_MAX, FRAME_BYTES_MAX, PRELOAD_PIPELINE};
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use zorilla_proto::client::{
    AclVec, ConnectRequest, ConnectResponse, CreateMode, CreateRequest, DeleteRequest, MultiHeader, MultiItem, MultiOp,
    MultiRequest, MultiVec, PathWatchRequest, ReplyHeader, RequestHeader, SetDataRequest, XID_PING,
};
use zorilla_proto::{Code, Op, SessionId, Stat, Zxid, frame, jute};

/// Bytes of [`Stamp`] at the front of a znode's data.
pub const STAMP_BYTES: usize = 24;

/// The writer that a stamp names when the znode was loaded before the run.
pub const PRELOADED: u32 = u32::MAX;

/// Digits in which a node's number ends its path.
const DIGITS: usize = 8;

/// A frame's length, the request header, and the length of the path stand before the path.
const PATH_AT: usize = 4 + RequestHeader::BYTES + 4;

const MAGIC: [u8; 8] = *b"zorilla\x1d";

/// What the data of a znode says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the znode, as its path says too.
    pub node: u32,
    /// The connection that wrote it.
    pub writer: u32,
    /// How many times it was set; 0 from its creation. Equals the version in its stat.
    pub sequence: u64,
}

impl Stamp {
    fn encode(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.node.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.writer.to_be_bytes());
        bytes[16..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    fn decode(data: &[u8]) -> Option<Stamp> {
        let (magic, rest) = data.split_first_chunk::<8>()?;
        let (node, rest) = rest.split_first_chunk()?;
        let (writer, rest) = rest.split_first_chunk()?;
        let (sequence, _) = rest.split_first_chunk()?;
        (*magic == MAGIC).then(|| Stamp {
            node: u32::from_be_bytes(*node),
            writer: u32::from_be_bytes(*writer),
            sequence: u64::from_be_bytes(*sequence),
        })
    }
}

/// Data of `bytes` that does not compress, the same for the same seed. Its front is overwritten by stamps.
pub fn filler(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..bytes).map(|_| random.next() as u8).collect()
}

/// A small generator of numbers; the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Any seed will do.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number (splitmix64: every bit is as good as another).
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// Puts `items` into an order that depends on nothing but the numbers.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u32 + 1) as usize);
        }
    }
}

/// Writes `node` as eight hexadecimal digits.
#[inline]
fn put_digits(out: &mut [u8], node: u32) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    for (at, digit) in out.iter_mut().enumerate() {
        *digit = HEX[(node >> (4 * (DIGITS - 1 - at)) & 0xf) as usize];
    }
}

/// A request whose xid, node number and stamp are filled in as it is sent.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where the digits of the node stand; 0 if the path has none.
    digits_at: usize,
    /// Where the stamp stands; 0 if there is none.
    stamp_at: usize,
    /// The bytes of the path before its digits.
    prefix_bytes: usize,
    /// How many records with a node each it has; the nodes are numbered on from the first.
    records: u32,
    /// From one record to the next.
    record_bytes: usize,
}

/// A frame around a header of this opcode and what `body` appends.
fn framed(op: Op, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let mark = frame::begin(&mut out);
    RequestHeader { xid: 0, op: op.raw() }.encode(&mut out);
    body(&mut out);
    frame::end(&mut out, mark);
    out
}

/// The path with room for the digits of a node.
fn node_path(prefix: &str) -> String {
    format!("{prefix}{:0DIGITS$}", 0)
}

fn create_request<'a>(path: &'a str, data: &'a [u8], mode: CreateMode) -> CreateRequest<'a> {
    CreateRequest { path: Some(Cow::Borrowed(path)), data: Some(data), acl: Some(AclVec::OPEN), flags: mode.raw() }
}

fn create_frame(path: &str, data: &[u8], mode: CreateMode) -> Vec<u8> {
    framed(Op::Create, |out| create_request(path, data, mode).encode(out))
}

impl Template {
    /// One record, whose path of `prefix` + digits stands first in it.
    fn of_node(op: Op, prefix: &str, body: impl FnOnce(&str, &mut Vec<u8>)) -> Template {
        let path = node_path(prefix);
        Template {
            bytes: framed(op, |out| body(&path, out)),
            digits_at: PATH_AT + prefix.len(),
            prefix_bytes: prefix.len(),
            ..Template::plain(Vec::new())
        }
    }

    /// The same, with data behind the path.
    fn with_stamp(self) -> Template {
        Template { stamp_at: self.digits_at + DIGITS + 4, ..self }
    }

    /// Nothing but the xid is filled in.
    fn plain(bytes: Vec<u8>) -> Template {
        Template { bytes, digits_at: 0, stamp_at: 0, prefix_bytes: 0, records: 1, record_bytes: 0 }
    }

    /// Creates `prefix` + digits with this data.
    pub fn create(prefix: &str, data: &[u8]) -> Template {
        let body = |path: &str, out: &mut Vec<u8>| create_request(path, data, CreateMode::Persistent).encode(out);
        Template::of_node(Op::Create, prefix, body).with_stamp()
    }

    /// Creates `prefix` + digits, which goes with its session.
    pub fn ephemeral(prefix: &str, data: &[u8]) -> Template {
        let body = |path: &str, out: &mut Vec<u8>| create_request(path, data, CreateMode::Ephemeral).encode(out);
        Template::of_node(Op::Create, prefix, body).with_stamp()
    }

    /// Creates `count` znodes in one transaction, numbered on from the first.
    pub fn multi(prefix: &str, data: &[u8], count: u32) -> Template {
        let path = node_path(prefix);
        let create = MultiOp::Create(create_request(&path, data, CreateMode::Persistent));
        let mut record = Vec::new();
        create.encode(&mut record);
        let items = vec![create; count as usize];
        let mut buffer = Vec::new();
        let request: MultiRequest<'_> = MultiVec::build(&mut buffer, &items);
        let digits_at = PATH_AT + MultiHeader::BYTES + prefix.len();
        Template {
            bytes: framed(Op::Multi, |out| request.encode(out)),
            digits_at,
            stamp_at: digits_at + DIGITS + 4,
            prefix_bytes: prefix.len(),
            records: count,
            record_bytes: record.len(),
        }
    }

    /// Deletes `prefix` + digits, whatever its version.
    pub fn delete(prefix: &str) -> Template {
        Template::of_node(Op::Delete, prefix, |path, out| {
            DeleteRequest { path: Some(Cow::Borrowed(path)), version: -1 }.encode(out);
        })
    }

    /// Sets the data of `prefix` + digits, whatever its version.
    pub fn set(prefix: &str, data: &[u8]) -> Template {
        let set = Template::of_node(Op::SetData, prefix, |path, out| {
            SetDataRequest { path: Some(Cow::Borrowed(path)), data: Some(data), version: -1 }.encode(out);
        });
        set.with_stamp()
    }

    fn read(op: Op, prefix: &str, watch: bool) -> Template {
        Template::of_node(op, prefix, |path, out| {
            PathWatchRequest { path: Some(Cow::Borrowed(path)), watch }.encode(out);
        })
    }

    /// Gets the data of `prefix` + digits.
    pub fn get(prefix: &str) -> Template {
        Template::read(Op::GetData, prefix, false)
    }

    /// Gets the data of `prefix` + digits and leaves a watch.
    pub fn get_and_watch(prefix: &str) -> Template {
        Template::read(Op::GetData, prefix, true)
    }

    /// Asks for the stat of `prefix` + digits.
    pub fn exists(prefix: &str) -> Template {
        Template::read(Op::Exists, prefix, false)
    }

    /// Asks for the stat of `prefix` + digits and leaves a watch, also where there is nothing.
    pub fn exists_and_watch(prefix: &str) -> Template {
        Template::read(Op::Exists, prefix, true)
    }

    /// Lists the children of `path`.
    pub fn children(path: &str) -> Template {
        let request = PathWatchRequest { path: Some(Cow::Borrowed(path)), watch: false };
        Template::plain(framed(Op::GetChildren, |out| request.encode(out)))
    }

    /// A ping.
    pub fn ping() -> Template {
        let mut template = Template::plain(framed(Op::Ping, |_| {}));
        template.bytes[4..8].copy_from_slice(&XID_PING.to_be_bytes());
        template
    }

    /// The end of a session.
    pub fn close() -> Template {
        Template::plain(framed(Op::CloseSession, |_| {}))
    }

    /// Appends the request. The stamp is written where the request has data.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>, xid: i32, stamp: Stamp) {
        let base = out.len();
        out.extend_from_slice(&self.bytes);
        let request = &mut out[base..];
        request[4..8].copy_from_slice(&xid.to_be_bytes());
        for record in 0..self.records {
            let stamp = Stamp { node: stamp.node.wrapping_add(record), ..stamp };
            let skip = record as usize * self.record_bytes;
            if self.digits_at != 0 {
                put_digits(&mut request[skip + self.digits_at..][..DIGITS], stamp.node);
            }
            if self.stamp_at != 0 {
                request[skip + self.stamp_at..][..STAMP_BYTES].copy_from_slice(&stamp.encode());
            }
        }
    }

    /// The prefix of the path, without the digits.
    fn prefix(&self) -> &[u8] {
        &self.bytes[self.digits_at - self.prefix_bytes..self.digits_at]
    }

    /// Whether `path` is that of `node`.
    #[inline]
    fn is_path(&self, path: &[u8], node: u32) -> bool {
        let mut digits = [0; DIGITS];
        put_digits(&mut digits, node);
        let prefix = self.prefix();
        path.len() == prefix.len() + DIGITS && path.starts_with(prefix) && path.ends_with(&digits)
    }

    /// The node that `path` names, if it is one of this template's.
    pub fn node_of(&self, path: &str) -> Option<u32> {
        let digits = path.as_bytes().strip_prefix(self.prefix())?;
        let node = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        self.is_path(path.as_bytes(), node).then_some(node)
    }

    /// Checks the body of the reply to a create: it is the path that was asked for; of a multi, it is one result for
    /// each create.
    #[inline]
    pub fn check_created(&self, body: &[u8], node: u32) -> Result<(), String> {
        if 1 < self.records {
            return self.check_multi(body, node);
        }
        let path = body
            .split_first_chunk::<4>()
            .filter(|(length, path)| u32::from_be_bytes(**length) as usize == path.len() && self.is_path(path, node));
        match path {
            Some(_) => Ok(()),
            None => Err(format!(
                "create of node {node:08x} was answered with {:?}",
                String::from_utf8_lossy(body.get(4..).unwrap_or_default())
            )),
        }
    }

    fn check_multi(&self, body: &[u8], first: u32) -> Result<(), String> {
        let mut reader = jute::Reader::new(body);
        let mut wrong = |node: u32| {
            let header = MultiHeader::decode(&mut reader).map_err(|error| error.to_string())?;
            if header.done || header.code != 0 || header.op != Op::Create.raw() {
                return Err(format!("multi: create of node {node:08x} was answered with {header:?}"));
            }
            let path = reader.buffer().map_err(|error| error.to_string())?.unwrap_or_default();
            if self.is_path(path, node) {
                return Ok(());
            }
            Err(format!("multi: create of node {node:08x} was answered with {:?}", String::from_utf8_lossy(path)))
        };
        for record in 0..self.records {
            wrong(first.wrapping_add(record))?;
        }
        let end = MultiHeader::decode(&mut reader).map_err(|error| error.to_string())?;
        if end != MultiHeader::END || !reader.is_empty() {
            return Err(format!("multi: behind {} results stands {end:?}", self.records));
        }
        Ok(())
    }
}

/// Checks the body of the reply to an exists on a znode that is never set.
#[inline]
pub fn check_exists(body: &[u8], zxid: i64, data_bytes: usize) -> Result<(), String> {
    let stat = whole_stat(body)?;
    if (zxid as u64) < stat.mzxid.raw() {
        return Err(format!("exists: the stat is of {}, the reply only of {zxid:#x}", stat.mzxid));
    }
    check_stat(&stat, data_bytes, Some(0))
}

/// Checks the body of the reply to a listing: every child `prefix` + digits below `count`, once, in any order.
#[inline]
pub fn check_children(body: &[u8], prefix: &str, count: usize) -> Result<(), String> {
    let wrong = |what: &str| format!("getChildren: {what}");
    let (length, mut rest) = body.split_first_chunk::<4>().ok_or_else(|| wrong("the reply has no list"))?;
    if u32::from_be_bytes(*length) as usize != count {
        return Err(wrong(&format!("{} children, expected {count}", i32::from_be_bytes(*length))));
    }
    let mut seen = [0u64; CHILDREN_MAX / 64];
    for _ in 0..count {
        let (length, from) = rest.split_first_chunk::<4>().ok_or_else(|| wrong("the list ends early"))?;
        let name = from.get(..u32::from_be_bytes(*length) as usize).ok_or_else(|| wrong("a name ends early"))?;
        rest = &from[name.len()..];
        let digits = name.strip_prefix(prefix.as_bytes()).filter(|digits| digits.len() == DIGITS);
        let child = digits.and_then(|digits| {
            digits.iter().try_fold(0usize, |node, digit| Some(node << 4 | (*digit as char).to_digit(16)? as usize))
        });
        let child = child.filter(|child| *child < count && seen[child / 64] >> (child % 64) & 1 == 0);
        let child = child.ok_or_else(|| wrong(&format!("odd or repeated {:?}", String::from_utf8_lossy(name))))?;
        seen[child / 64] |= 1 << (child % 64);
    }
    if rest.is_empty() { Ok(()) } else { Err(wrong("bytes behind the list")) }
}

/// Checks the body of the reply to a set: the stat belongs to this very write. `version` is `None` when an earlier
/// write failed, so that nobody knows how often the znode was set.
#[inline]
pub fn check_set(body: &[u8], zxid: i64, data_bytes: usize, version: Option<u64>) -> Result<(), String> {
    let stat = whole_stat(body)?;
    if stat.mzxid.raw() != zxid as u64 {
        return Err(format!("set: the reply has zxid {zxid:#x}, its stat {}", stat.mzxid));
    }
    check_stat(&stat, data_bytes, version)
}

/// Checks the body of the reply to a get, and gives back what the data says about itself.
#[inline]
pub fn check_got(body: &[u8], filler: &[u8], node: u32, zxid: i64) -> Result<Stamp, String> {
    let (length, rest) = body.split_first_chunk::<4>().ok_or("get: the reply has no data")?;
    let length = i32::from_be_bytes(*length);
    if usize::try_from(length) != Ok(filler.len()) || rest.len() < filler.len() {
        return Err(format!("get: {length} bytes of data, expected {}", filler.len()));
    }
    let (data, stat) = rest.split_at(filler.len());
    let stamp = Stamp::decode(data).ok_or("get: the data does not begin with a stamp")?;
    if stamp.node != node {
        return Err(format!("get: asked for node {node:08x}, got the data of {:08x}", stamp.node));
    }
    if data[STAMP_BYTES..] != filler[STAMP_BYTES..] {
        return Err(format!("get: the data of node {node:08x} is not what was written"));
    }
    let stat = whole_stat(stat)?;
    if (zxid as u64) < stat.mzxid.raw() {
        return Err(format!("get: the stat is of {}, the reply only of {zxid:#x}", stat.mzxid));
    }
    check_stat(&stat, data.len(), Some(stamp.sequence)).map(|()| stamp)
}

fn whole_stat(bytes: &[u8]) -> Result<Stat, String> {
    if bytes.len() != Stat::BYTES {
        return Err(format!("a stat of {} bytes, expected {}", bytes.len(), Stat::BYTES));
    }
    Stat::decode(&mut jute::Reader::new(bytes)).map_err(|error| error.to_string())
}

fn check_stat(stat: &Stat, data_bytes: usize, version: Option<u64>) -> Result<(), String> {
    if usize::try_from(stat.data_length) != Ok(data_bytes) {
        return Err(format!("the stat says {} bytes of data, expected {data_bytes}", stat.data_length));
    }
    match version {
        Some(version) if i64::from(stat.version) != version as i64 => {
            Err(format!("the stat says version {}, expected {version}", stat.version))
        }
        _ => Ok(()),
    }
}

/// The name of an error code, as the protocol spells it, or its number.
pub fn code_name(code: i32) -> String {
    Code::from_raw(code).map_or_else(|| format!("code {code}"), |code| code.name().to_owned())
}

/// A session over a blocking socket, for what is done before and after the measuring.
#[derive(Debug)]
pub struct Session {
    /// The socket; replies that were read are complete, nothing is buffered.
    pub socket: TcpStream,
    /// The timeout the server granted.
    pub timeout_ms: i32,
    xid: i32,
}

/// How long a blocking step may take before the server is taken for dead.
const PATIENCE: Duration = Duration::from_secs(60);

impl Session {
    /// Connects and sends the handshake; [`Session::established`] reads the answer. In two steps, so that many
    /// sessions are made at once.
    pub fn begin(address: SocketAddr, timeout_ms: i32) -> io::Result<TcpStream> {
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut out = Vec::new();
        let mark = frame::begin(&mut out);
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms,
            session: SessionId::NONE,
            password: Some(&[0; 16]),
            read_only: Some(false),
        }
        .encode(&mut out);
        frame::end(&mut out, mark);
        socket.write_all(&out)?;
        Ok(socket)
    }

    /// Reads the answer to the handshake.
    pub fn established(mut socket: TcpStream) -> io::Result<Session> {
        let payload = read_frame(&mut socket)?;
        let response = ConnectResponse::decode(&mut jute::Reader::new(&payload))
            .map_err(|error| io::Error::other(error.to_string()))?;
        if response.session == SessionId::NONE || response.timeout_ms <= 0 {
            return Err(io::Error::other("the server refused a session"));
        }
        Ok(Session { socket, timeout_ms: response.timeout_ms, xid: 0 })
    }

    /// Both steps, for a server that is just starting: it may never answer a connection that it took too early.
    pub fn open_within(patience: Duration, address: SocketAddr, timeout_ms: i32) -> io::Result<Session> {
        Session::established_within(patience, Session::begin(address, timeout_ms)?)
    }

    /// Reads the answer to the handshake, if it comes in time.
    pub fn established_within(patience: Duration, socket: TcpStream) -> io::Result<Session> {
        socket.set_read_timeout(Some(patience))?;
        let session = Session::established(socket)?;
        session.socket.set_read_timeout(Some(PATIENCE))?;
        Ok(session)
    }

    /// Both steps.
    pub fn open(address: SocketAddr, timeout_ms: i32) -> io::Result<Session> {
        Session::established(Session::begin(address, timeout_ms)?)
    }

    /// Sends the create of one znode.
    pub fn send_create(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        let mut request = create_frame(path, data, CreateMode::Persistent);
        self.xid += 1;
        request[4..8].copy_from_slice(&self.xid.to_be_bytes());
        self.socket.write_all(&request)
    }

    /// Reads the reply to the request sent last, which must have succeeded.
    pub fn read_success(&mut self) -> io::Result<()> {
        self.read_success_of(self.xid)
    }

    fn read_success_of(&mut self, xid: i32) -> io::Result<()> {
        self.read_reply(xid).map(|_| ())
    }

    /// The reply to this request, which must have succeeded.
    fn read_reply(&mut self, xid: i32) -> io::Result<(ReplyHeader, Vec<u8>)> {
        let payload = read_frame(&mut self.socket)?;
        let header = ReplyHeader::decode(&mut jute::Reader::new(&payload))
            .map_err(|error| io::Error::other(error.to_string()))?;
        if header.xid != xid {
            return Err(io::Error::other(format!("reply with xid {}, expected {xid}", header.xid)));
        }
        if header.code != 0 {
            return Err(io::Error::other(format!("the server answers {}", code_name(header.code))));
        }
        Ok((header, payload))
    }

    /// Creates `count` znodes `prefix` + digits, many at a time.
    pub fn preload(&mut self, prefix: &str, data: &[u8], count: u32) -> io::Result<()> {
        let template = Template::create(prefix, data);
        let mut out = Vec::new();
        let mut next = 0;
        while next < count {
            out.clear();
            let until = count.min(next + PRELOAD_PIPELINE);
            let first = self.xid;
            for node in next..until {
                self.xid += 1;
                template.append(&mut out, self.xid, Stamp { node, writer: PRELOADED, sequence: 0 });
            }
            self.socket.write_all(&out)?;
            for xid in first + 1..=self.xid {
                self.read_success_of(xid)?;
            }
            next = until;
        }
        Ok(())
    }

    /// Reads one znode, `prefix` + digits, and checks what came against the data it must have.
    pub fn get(&mut self, prefix: &str, node: u32, filler: &[u8]) -> io::Result<Stamp> {
        self.xid += 1;
        let mut out = Vec::new();
        Template::get(prefix).append(&mut out, self.xid, Stamp { node, writer: 0, sequence: 0 });
        self.socket.write_all(&out)?;
        let (header, payload) = self.read_reply(self.xid)?;
        check_got(&payload[ReplyHeader::BYTES..], filler, node, header.zxid).map_err(io::Error::other)
    }

    /// Ends the session.
    pub fn close(mut self) -> io::Result<()> {
        let mut out = Vec::new();
        self.xid += 1;
        Template::close().append(&mut out, self.xid, Stamp { node: 0, writer: 0, sequence: 0 });
        self.socket.write_all(&out)?;
        self.read_success()
    }
}

fn read_frame(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if FRAME_BYTES_MAX < length {
        return Err(io::Error::other(format!("a frame of {length} bytes, at most {FRAME_BYTES_MAX} are expected")));
    }
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload)?;
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zorilla_proto::client::{ErrorResponse, MultiResponse, MultiResult, PathResponse};
    use zorilla_proto::jute::Reader;

    const STAMP: Stamp = Stamp { node: 0x00c0_ffee, writer: 7, sequence: 9 };

    fn payload(out: &[u8]) -> &[u8] {
        match frame::split(out, FRAME_BYTES_MAX) {
            frame::Framed::Complete { payload, consumed } if consumed == out.len() => payload,
            other => panic!("not one frame: {other:?}"),
        }
    }

    #[test]
    fn templates_are_what_the_codec_would_have_written() {
        let data = filler(100, 1);
        let mut out = Vec::new();
        Template::create("/load/c-", &data).append(&mut out, 77, STAMP);
        let mut reader = Reader::new(payload(&out));
        assert_eq!(RequestHeader::decode(&mut reader), Ok(RequestHeader { xid: 77, op: Op::Create.raw() }));
        let create = CreateRequest::decode(&mut reader).expect("a create");
        assert_eq!(create.path.as_deref(), Some("/load/c-00c0ffee"));
        assert_eq!(create.flags, 0);
        assert_eq!(create.acl.expect("an ACL").len(), 1);
        let sent = create.data.expect("data");
        assert_eq!(Stamp::decode(sent), Some(STAMP));
        assert_eq!(sent[STAMP_BYTES..], data[STAMP_BYTES..]);
        assert!(reader.is_empty());

        out.clear();
        Template::set("/k", &data).append(&mut out, 1, STAMP);
        let mut reader = Reader::new(payload(&out));
        assert_eq!(RequestHeader::decode(&mut reader), Ok(RequestHeader { xid: 1, op: Op::SetData.raw() }));
        let set = SetDataRequest::decode(&mut reader).expect("a set");
        assert_eq!((set.path.as_deref(), set.version), (Some("/k00c0ffee"), -1));
        assert_eq!(set.data.and_then(Stamp::decode), Some(STAMP));

        out.clear();
        Template::get("/k").append(&mut out, -5, STAMP);
        let mut reader = Reader::new(payload(&out));
        assert_eq!(RequestHeader::decode(&mut reader), Ok(RequestHeader { xid: -5, op: Op::GetData.raw() }));
        let get = PathWatchRequest::decode(&mut reader).expect("a get");
        assert_eq!((get.path.as_deref(), get.watch), (Some("/k00c0ffee"), false));
    }

    fn got(stamp: Stamp, filler: &[u8], stat: Stat) -> Vec<u8> {
        let mut data = filler.to_vec();
        data[..STAMP_BYTES].copy_from_slice(&stamp.encode());
        let mut body = Vec::new();
        jute::put_buffer(&mut body, Some(&data));
        stat.encode(&mut body);
        body
    }

    fn stat(mzxid: u64, version: i32, data_length: i32) -> Stat {
        Stat {
            czxid: Zxid::from_raw(1),
            mzxid: Zxid::from_raw(mzxid),
            ctime_ms: 0,
            mtime_ms: 0,
            version,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: 0,
            data_length,
            num_children: 0,
            pzxid: Zxid::from_raw(1),
        }
    }

    #[test]
    fn every_kind_of_wrong_get_is_noticed() {
        let filler = filler(100, 3);
        let good = got(STAMP, &filler, stat(50, 9, 100));
        assert_eq!(check_got(&good, &filler, STAMP.node, 60), Ok(STAMP));
        assert_eq!(check_got(&good, &filler, STAMP.node, 50), Ok(STAMP));
        let wrong = |body: &[u8], node: u32, zxid: i64| check_got(body, &filler, node, zxid).expect_err("wrong");
        assert!(wrong(&good, STAMP.node, 49).contains("0x31"), "a stat from the future");
        assert!(wrong(&good, 1, 60).contains("asked for node 00000001"));
        assert!(wrong(&good[..50], STAMP.node, 60).contains("expected 100"));
        assert!(wrong(&good[..good.len() - 1], STAMP.node, 60).contains("a stat of 67 bytes"));
        assert!(wrong(&[], STAMP.node, 60).contains("no data"));
        let mut flipped = good.clone();
        flipped[4 + 99] ^= 1;
        assert!(wrong(&flipped, STAMP.node, 60).contains("not what was written"));
        let mut flipped = good;
        flipped[5] ^= 1;
        assert!(wrong(&flipped, STAMP.node, 60).contains("begin with a stamp"));
        assert!(wrong(&got(STAMP, &filler, stat(50, 8, 100)), STAMP.node, 60).contains("version 8, expected 9"));
        assert!(wrong(&got(STAMP, &filler, stat(50, 9, 99)), STAMP.node, 60).contains("99 bytes of data"));
    }

    #[test]
    fn every_kind_of_wrong_write_is_noticed() {
        let mut body = Vec::new();
        stat(50, 3, 100).encode(&mut body);
        assert_eq!(check_set(&body, 50, 100, Some(3)), Ok(()));
        assert_eq!(check_set(&body, 50, 100, None), Ok(()));
        assert!(check_set(&body, 51, 100, Some(3)).is_err());
        assert!(check_set(&body, 50, 101, Some(3)).is_err());
        assert!(check_set(&body, 50, 100, Some(4)).is_err());
        assert!(check_set(&body[1..], 50, 100, Some(3)).is_err());

        let template = Template::create("/load/c-", &filler(100, 1));
        let mut body = Vec::new();
        jute::put_string(&mut body, "/load/c-0000001f");
        assert_eq!(template.check_created(&body, 0x1f), Ok(()));
        assert!(template.check_created(&body, 0x2f).is_err());
        assert!(template.check_created(&body[..body.len() - 1], 0x1f).is_err());
        assert!(template.check_created(&[], 0x1f).is_err());
    }

    #[test]
    fn a_multi_is_numbered_on_and_each_of_its_results_is_looked_at() {
        let data = filler(100, 1);
        let template = Template::multi("/c/", &data, 3);
        let mut out = Vec::new();
        template.append(&mut out, 5, STAMP);
        let mut reader = Reader::new(payload(&out));
        assert_eq!(RequestHeader::decode(&mut reader), Ok(RequestHeader { xid: 5, op: Op::Multi.raw() }));
        let sent = MultiRequest::decode(&mut reader).expect("a multi");
        assert_eq!(sent.len(), 3);
        let mut results = Vec::new();
        for (node, op) in (STAMP.node..).zip(sent.iter()) {
            let MultiOp::Create(create) = op else { panic!("not a create: {op:?}") };
            assert_eq!(create.path.as_deref(), Some(format!("/c/{node:08x}").as_str()));
            assert_eq!(create.data.and_then(Stamp::decode), Some(Stamp { node, ..STAMP }));
            results.push(MultiResult::Create(PathResponse { path: create.path }));
        }
        let reply = |results: &[MultiResult<'_>]| {
            let mut buffer = Vec::new();
            let mut body = Vec::new();
            MultiResponse::build(&mut buffer, results).encode(&mut body);
            body
        };
        let good = reply(&results);
        assert_eq!(template.check_created(&good, STAMP.node), Ok(()));
        assert!(template.check_created(&good, STAMP.node + 1).is_err());
        assert!(template.check_created(&good[..good.len() - 1], STAMP.node).is_err());
        assert!(template.check_created(&reply(&results[..2]), STAMP.node).is_err(), "one result is missing");
        let failed = [results[0].clone(), MultiResult::Error(ErrorResponse { code: -110 }), results[2].clone()];
        assert!(template.check_created(&reply(&failed), STAMP.node).expect_err("failed").contains("-110"));
    }

    #[test]
    fn every_kind_of_wrong_listing_and_stat_is_noticed() {
        let list = |names: &[&str]| {
            let mut body = Vec::new();
            jute::put_i32(&mut body, names.len() as i32);
            names.iter().for_each(|name| jute::put_string(&mut body, name));
            body
        };
        let check = |names: &[&str]| check_children(&list(names), "n", 3);
        assert_eq!(check(&["n00000002", "n00000000", "n00000001"]), Ok(()));
        assert!(check(&["n00000002", "n00000000"]).expect_err("missing").contains("2 children"));
        assert!(check(&["n00000002", "n00000000", "n00000000"]).expect_err("twice").contains("repeated"));
        assert!(check(&["n00000002", "n00000000", "n00000003"]).expect_err("unknown").contains("odd"));
        assert!(check(&["n00000002", "n00000000", "x00000001"]).expect_err("foreign").contains("odd"));
        let whole = list(&["n00000002", "n00000000", "n00000001"]);
        assert!(check_children(&whole[..whole.len() - 1], "n", 3).expect_err("cut off").contains("early"));
        assert!(check_children(&[&whole[..], &[0]].concat(), "n", 3).expect_err("more").contains("behind"));

        let mut body = Vec::new();
        stat(50, 0, 100).encode(&mut body);
        assert_eq!(check_exists(&body, 50, 100), Ok(()));
        assert!(check_exists(&body, 49, 100).is_err());
        assert!(check_exists(&body, 50, 99).is_err());
        assert!(check_exists(&body[1..], 50, 100).is_err());
        let template = Template::get("/k");
        assert_eq!(template.node_of("/k0000001f"), Some(0x1f));
        for path in ["/k0000001", "/k0000001g", "/l0000001f", "/k+000001f"] {
            assert_eq!(template.node_of(path), None, "{path}");
        }
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_its_seed_decides() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..50).collect();
            Random::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<u32>>());
        let mut random = Random::new(4);
        assert!((0..1000).all(|_| random.below(3) < 3));
    }
}
