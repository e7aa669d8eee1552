//! Requests as byte templates, replies as checked values, and a blocking connection for what is not measured.
//!
//! Guarantees: building a request is one copy and a few patched bytes; a reply is taken for good only if its body is
//! what the request must lead to. Znode data begins with a stamp that says whose it is.

use crate::limits::{FRAME_BYTES_MAX, PRELOAD_PIPELINE};
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use zorilla_proto::client::{
    Acl, AclVec, ConnectRequest, ConnectResponse, CreateRequest, PERM_ALL, PathWatchRequest, ReplyHeader,
    RequestHeader, SetDataRequest, XID_PING,
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

fn create_frame(path: &str, data: &[u8]) -> Vec<u8> {
    let mut acl = Vec::new();
    Acl { perms: PERM_ALL, scheme: Some(Cow::Borrowed("world")), id: Some(Cow::Borrowed("anyone")) }.encode(&mut acl);
    let acl = AclVec::from_raw(&acl).expect("an ACL encoded one line above");
    let request = CreateRequest { path: Some(Cow::Borrowed(path)), data: Some(data), acl: Some(acl), flags: 0 };
    framed(Op::Create, |out| request.encode(out))
}

impl Template {
    /// Creates `prefix` + digits with this data.
    pub fn create(prefix: &str, data: &[u8]) -> Template {
        let path = node_path(prefix);
        let digits_at = PATH_AT + prefix.len();
        Template { bytes: create_frame(&path, data), digits_at, stamp_at: PATH_AT + path.len() + 4 }
    }

    /// Sets the data of `prefix` + digits, whatever its version.
    pub fn set(prefix: &str, data: &[u8]) -> Template {
        let path = node_path(prefix);
        let request = SetDataRequest { path: Some(Cow::Borrowed(&path)), data: Some(data), version: -1 };
        let bytes = framed(Op::SetData, |out| request.encode(out));
        Template { bytes, digits_at: PATH_AT + prefix.len(), stamp_at: PATH_AT + path.len() + 4 }
    }

    /// Gets the data of `prefix` + digits.
    pub fn get(prefix: &str) -> Template {
        let path = node_path(prefix);
        let request = PathWatchRequest { path: Some(Cow::Borrowed(&path)), watch: false };
        let bytes = framed(Op::GetData, |out| request.encode(out));
        Template { bytes, digits_at: PATH_AT + prefix.len(), stamp_at: 0 }
    }

    /// A ping.
    pub fn ping() -> Template {
        let mut template = Template { bytes: framed(Op::Ping, |_| {}), digits_at: 0, stamp_at: 0 };
        template.bytes[4..8].copy_from_slice(&XID_PING.to_be_bytes());
        template
    }

    /// The end of a session.
    pub fn close() -> Template {
        Template { bytes: framed(Op::CloseSession, |_| {}), digits_at: 0, stamp_at: 0 }
    }

    /// Appends the request. The stamp is written where the request has data.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>, xid: i32, stamp: Stamp) {
        let base = out.len();
        out.extend_from_slice(&self.bytes);
        let request = &mut out[base..];
        request[4..8].copy_from_slice(&xid.to_be_bytes());
        if self.digits_at != 0 {
            put_digits(&mut request[self.digits_at..self.digits_at + DIGITS], stamp.node);
        }
        if self.stamp_at != 0 {
            request[self.stamp_at..self.stamp_at + STAMP_BYTES].copy_from_slice(&stamp.encode());
        }
    }

    /// The prefix of the path, without the digits.
    fn prefix(&self) -> &[u8] {
        &self.bytes[PATH_AT..self.digits_at]
    }

    /// Checks the body of the reply to a create: it is the path that was asked for.
    #[inline]
    pub fn check_created(&self, body: &[u8], node: u32) -> Result<(), String> {
        let prefix = self.prefix();
        let mut digits = [0; DIGITS];
        put_digits(&mut digits, node);
        let path = body.split_first_chunk::<4>().filter(|(length, path)| {
            u32::from_be_bytes(**length) as usize == path.len() && path.len() == prefix.len() + DIGITS
        });
        match path {
            Some((_, path)) if path.starts_with(prefix) && path.ends_with(&digits) => Ok(()),
            _ => Err(format!(
                "create of node {node:08x} was answered with {:?}",
                String::from_utf8_lossy(body.get(4..).unwrap_or_default())
            )),
        }
    }
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

    /// Both steps.
    pub fn open(address: SocketAddr, timeout_ms: i32) -> io::Result<Session> {
        Session::established(Session::begin(address, timeout_ms)?)
    }

    /// Sends the create of one znode.
    pub fn send_create(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        let mut request = create_frame(path, data);
        self.xid += 1;
        request[4..8].copy_from_slice(&self.xid.to_be_bytes());
        self.socket.write_all(&request)
    }

    /// Reads the reply to the request sent last, which must have succeeded.
    pub fn read_success(&mut self) -> io::Result<()> {
        self.read_success_of(self.xid)
    }

    fn read_success_of(&mut self, xid: i32) -> io::Result<()> {
        let payload = read_frame(&mut self.socket)?;
        let header = ReplyHeader::decode(&mut jute::Reader::new(&payload))
            .map_err(|error| io::Error::other(error.to_string()))?;
        if header.xid != xid {
            return Err(io::Error::other(format!("reply with xid {}, expected {xid}", header.xid)));
        }
        if header.code != 0 {
            return Err(io::Error::other(format!("the server answers {}", code_name(header.code))));
        }
        Ok(())
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
