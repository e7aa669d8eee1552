//! Requests as bytes for one server, and that server's frames as observations.
//!
//! An observation keeps zxids and session ids raw, in places of their own: what they are called is known only once the step is
//! over (`crate::norm`).

use zorilla_proto::client::{ReplyHeader, RequestHeader};
use zorilla_proto::frame;
use zorilla_proto::ids::SessionId;
use zorilla_proto::jute::{self, DecodeError, Reader};
use zorilla_proto::op::Op;

use crate::script::{Connect, Field, Password, Request, hex, op_name};

/// A piece of what was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Zxid(i64),
    Session(i64),
    /// A time and the zxid that it belongs to.
    Time {
        zxid: i64,
        ms: i64,
    },
}

/// What a server did on one connection, in order.
#[derive(Clone, Debug)]
pub enum Item {
    Reply(Reply),
    Event {
        zxid: i64,
        text: String,
    },
    /// The answer to a ping that the driver added.
    Fence {
        zxid: i64,
    },
    /// The answer to a handshake.
    Connected(Vec<Part>),
    /// The server ended the connection.
    Closed,
    /// Nothing came although something was due.
    Silent,
    /// A frame that nothing asked for, or that cannot be read.
    Odd(String),
}

#[derive(Clone, Debug)]
pub struct Reply {
    /// What was asked, as printed.
    pub asked: String,
    pub op: Option<Op>,
    pub xid: i32,
    pub zxid: i64,
    pub code: i32,
    pub body: Vec<Part>,
    /// Operation and error of each result of a multi.
    pub results: Vec<(i32, i32)>,
}

// ---- requests ----------------------------------------------------------------------------------------------

/// What the symbols of a stream mean to one server.
pub struct Symbols<'a> {
    /// For `$`.
    pub prefix: &'a str,
    /// The last zxid that the server showed.
    pub last_zxid: i64,
}

fn put_field(field: &Field, symbols: &Symbols<'_>, out: &mut Vec<u8>) {
    match field {
        Field::Int(value) | Field::Count(value) => jute::put_i32(out, *value),
        Field::Long(value) => jute::put_i64(out, *value),
        Field::Bool(value) => out.push(*value),
        Field::Str(None) => jute::put_null_string(out),
        Field::Str(Some(text)) => jute::put_string(out, &text.replace('$', symbols.prefix)),
        Field::Buf(bytes) => jute::put_buffer(out, bytes.as_deref()),
        Field::Raw(bytes) => out.extend_from_slice(bytes),
        Field::ZxidBack(back) => jute::put_i64(out, symbols.last_zxid - back),
        Field::Item(code) => {
            jute::put_i32(out, code.unwrap_or(-1));
            jute::put_bool(out, code.is_none());
            jute::put_i32(out, -1);
        }
    }
}

pub fn put_request(request: &Request, xid: i32, symbols: &Symbols<'_>, out: &mut Vec<u8>) {
    let mark = frame::begin(out);
    RequestHeader { xid, op: request.code }.encode(out);
    let mut record = Vec::new();
    for field in &request.fields {
        put_field(field, symbols, &mut record);
    }
    record.truncate(record.len().saturating_sub(request.cut));
    out.extend_from_slice(&record);
    frame::end(out, mark);
}

pub fn put_connect(connect: &Connect, session: i64, last_zxid: i64, out: &mut Vec<u8>) {
    let right = if session == 0 { [0; 16] } else { SessionId::from_raw(session).password() };
    let mut wrong = right;
    wrong[15] ^= 0xff;
    let long = [right.as_slice(), &[1, 2, 3]].concat();
    let password: Option<&[u8]> = match connect.password {
        Password::Right => Some(&right),
        Password::Wrong => Some(&wrong),
        Password::Null => None,
        Password::Empty => Some(&[]),
        Password::Long => Some(&long),
    };
    let mark = frame::begin(out);
    let begin = out.len();
    // Field by field: values that no client would send are wanted as well.
    jute::put_i32(out, connect.version);
    jute::put_i64(out, connect.seen.map_or(0, |seen| last_zxid + seen));
    jute::put_i32(out, connect.timeout_ms);
    jute::put_i64(out, session);
    jute::put_buffer(out, password);
    out.extend(connect.read_only);
    out.extend_from_slice(&connect.extra);
    out.truncate(begin.max(out.len().saturating_sub(connect.cut)));
    frame::end(out, mark);
}

// ---- replies -----------------------------------------------------------------------------------------------

/// Text as it came. Java writes a character beyond U+FFFF as two surrogates of three bytes; such text is marked, so that the
/// comparison can tell it from UTF-8.
fn text(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut units = Vec::new();
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (0xed, [second, third, tail @ ..]) if *second & 0xe0 == 0xa0 => {
                units.push(0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f));
                rest = tail;
            }
            _ => {
                let len = match first {
                    0..=0x7f => 1,
                    0xc0..=0xdf => 2,
                    0xe0..=0xef => 3,
                    _ => 4,
                };
                let len = len.min(rest.len());
                match std::str::from_utf8(&rest[..len]) {
                    Ok(text) => units.extend(text.encode_utf16()),
                    Err(_) => return format!("bytes:{}", hex(bytes)),
                }
                rest = &rest[len..];
            }
        }
    }
    String::from_utf16(&units).map_or_else(|_| format!("bytes:{}", hex(bytes)), |text| format!("cesu:{text}"))
}

/// Collects the parts of one body.
struct Body<'a> {
    reader: Reader<'a>,
    parts: Vec<Part>,
}

impl Body<'_> {
    fn say(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Text(text.into()));
    }

    fn take_string(&mut self) -> Result<String, DecodeError> {
        Ok(self.reader.buffer()?.map_or("null".to_owned(), |bytes| format!("{:?}", text(bytes))))
    }

    fn string(&mut self, label: &str) -> Result<(), DecodeError> {
        let text = self.take_string()?;
        self.say(format!(" {label}={text}"));
        Ok(())
    }

    fn buffer(&mut self, label: &str) -> Result<(), DecodeError> {
        let bytes = self.reader.buffer()?.map_or("null".to_owned(), hex);
        self.say(format!(" {label}={bytes}"));
        Ok(())
    }

    fn stat(&mut self) -> Result<(), DecodeError> {
        let reader = &mut self.reader;
        let (czxid, mzxid, ctime, mtime) = (reader.i64()?, reader.i64()?, reader.i64()?, reader.i64()?);
        let (version, cversion, aversion, owner) = (reader.i32()?, reader.i32()?, reader.i32()?, reader.i64()?);
        let (length, children, pzxid) = (reader.i32()?, reader.i32()?, reader.i64()?);
        for (label, zxid) in [("cz", czxid), ("mz", mzxid), ("pz", pzxid)] {
            self.say(format!(" {label}="));
            self.parts.push(Part::Zxid(zxid));
        }
        self.parts.push(Part::Time { zxid: czxid, ms: ctime });
        self.parts.push(Part::Time { zxid: mzxid, ms: mtime });
        self.say(format!(" v={version} cv={cversion} av={aversion} owner="));
        self.parts.push(Part::Session(owner));
        self.say(format!(" len={length} kids={children}"));
        Ok(())
    }

    /// Strings whose order means nothing.
    fn set(&mut self, label: &str) -> Result<(), DecodeError> {
        let Some(count) = self.reader.count(4)? else {
            self.say(format!(" {label}=null"));
            return Ok(());
        };
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.take_string()?);
        }
        names.sort();
        self.say(format!(" {label}=[{}]", names.join(" ")));
        Ok(())
    }

    fn acl(&mut self) -> Result<(), DecodeError> {
        let Some(count) = self.reader.count(12)? else {
            self.say(" acl=null");
            return Ok(());
        };
        self.say(" acl=[");
        for index in 0..count {
            let perms = self.reader.i32()?;
            let (scheme, id) = (self.take_string()?, self.take_string()?);
            let gap = if index == 0 { "" } else { " " };
            self.say(format!("{gap}{perms}:{scheme}:{id}"));
        }
        self.say("]");
        Ok(())
    }

    fn identities(&mut self) -> Result<(), DecodeError> {
        let count = self.reader.count(8)?.unwrap_or_default();
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(format!("{}:{}", self.take_string()?, self.take_string()?));
        }
        all.sort();
        self.say(format!(" ids=[{}]", all.join(" ")));
        Ok(())
    }

    fn record(&mut self, op: Op) -> Result<(), DecodeError> {
        match op {
            Op::Create | Op::Sync => self.string("path"),
            Op::Create2 | Op::CreateContainer | Op::CreateTtl => self.string("path").and_then(|()| self.stat()),
            Op::Exists | Op::SetData | Op::SetAcl => self.stat(),
            Op::GetData | Op::Reconfig => self.buffer("data").and_then(|()| self.stat()),
            Op::GetAcl => self.acl().and_then(|()| self.stat()),
            Op::GetChildren => self.set("children"),
            Op::GetChildren2 => self.set("children").and_then(|()| self.stat()),
            Op::GetEphemerals => self.set("ephemerals"),
            Op::GetAllChildrenNumber | Op::AddWatch => {
                let number = self.reader.i32()?;
                self.say(format!(" number={number}"));
                Ok(())
            }
            Op::WhoAmI => self.identities(),
            Op::Sasl => self.buffer("token"),
            _ => Ok(()),
        }
    }

    fn multi(&mut self, asked: &[i32], read: bool) -> Result<Vec<(i32, i32)>, DecodeError> {
        let mut results = Vec::new();
        loop {
            let (kind, done, code) = (self.reader.i32()?, self.reader.u8()?, self.reader.i32()?);
            if done != 0 {
                self.say(format!("; end kind={kind} done={done} err={code}"));
                return Ok(results);
            }
            self.say(format!("; kind={kind} err={code}"));
            let op = Op::from_raw(kind);
            if op == Some(Op::Error) {
                let inner = self.reader.i32()?;
                self.say(format!(" error={inner}"));
                results.push((asked.get(results.len()).copied().unwrap_or_default(), inner));
            } else {
                results.push((asked.get(results.len()).copied().unwrap_or(kind), 0));
                match op {
                    Some(Op::GetData) if read => self.record(Op::GetData)?,
                    // A result of a multi has no data where getData has.
                    Some(op) => self.record(op)?,
                    None => self.say(" an unknown kind of result"),
                }
            }
        }
    }
}

/// Reads the frame that answers `request`.
pub fn read_reply(request: &Request, header: ReplyHeader, body: &[u8]) -> Reply {
    let op = request.op();
    let mut reply = Reply {
        asked: request.to_string(),
        op,
        xid: header.xid,
        zxid: header.zxid,
        code: header.code,
        body: Vec::new(),
        results: Vec::new(),
    };
    let mut reader = Body { reader: Reader::new(body), parts: Vec::new() };
    // A failed SASL exchange is the one error with a body.
    let has_body = header.code == 0 || (op == Some(Op::Sasl) && !body.is_empty());
    let read = match op {
        Some(op @ (Op::Multi | Op::MultiRead)) if has_body => {
            let mut asked = Vec::new();
            for field in &request.fields {
                if let Field::Item(Some(code)) = field {
                    asked.push(*code);
                }
            }
            reader.multi(&asked, op == Op::MultiRead).map(|results| reply.results = results)
        }
        // Java sends what it has so far, which nobody reads.
        Some(Op::MultiRead) if !body.is_empty() => {
            reader.say(" and then results".to_owned());
            reader.reader = Reader::new(&[]);
            Ok(())
        }
        Some(op) if has_body => reader.record(op),
        _ => Ok(()),
    };
    match read {
        Ok(()) if reader.reader.is_empty() => {}
        Ok(()) => {
            let left = hex(reader.reader.remaining());
            reader.say(format!(" and then {left}"));
        }
        Err(error) => reader.say(format!(" unreadable ({error:?}): {}", hex(body))),
    }
    reply.body = reader.parts;
    reply
}

/// Reads the body of a notification.
pub fn read_event(header: ReplyHeader, body: &[u8]) -> Item {
    let mut reader = Reader::new(body);
    let mut read = || -> Result<String, DecodeError> {
        let (kind, state) = (reader.i32()?, reader.i32()?);
        let path = reader.buffer()?.map_or("null".to_owned(), |bytes| format!("{:?}", text(bytes)));
        let left = if reader.is_empty() { String::new() } else { format!(" and then {}", hex(reader.remaining())) };
        let name = match kind {
            1 => "created",
            2 => "deleted",
            3 => "data",
            4 => "children",
            _ => "?",
        };
        Ok(format!("event {kind} {name} state={state} err={} path={path}{left}", header.code))
    };
    match read() {
        Ok(text) => Item::Event { zxid: header.zxid, text },
        Err(error) => Item::Odd(format!("an event that cannot be read ({error:?}): {}", hex(body))),
    }
}

/// Reads the answer to a handshake, and the session that it gives.
pub fn read_connected(body: &[u8]) -> (Vec<Part>, Option<i64>) {
    let mut reader = Reader::new(body);
    let mut read = || -> Result<(Vec<Part>, Option<i64>), DecodeError> {
        let (version, timeout, session) = (reader.i32()?, reader.i32()?, reader.i64()?);
        let password = reader.buffer()?.map(<[u8]>::to_vec);
        let is_right = session != 0 && password.as_deref() == Some(&SessionId::from_raw(session).password()[..]);
        let password = if is_right { "right".to_owned() } else { password.map_or("null".to_owned(), |p| hex(&p)) };
        let before = format!("version={version} timeout={timeout} session=");
        let after = format!(" password={password} then={}", hex(reader.remaining()));
        Ok((vec![Part::Text(before), Part::Session(session), Part::Text(after)], (session != 0).then_some(session)))
    };
    read().unwrap_or_else(|error| (vec![Part::Text(format!("unreadable ({error:?}): {}", hex(body)))], None))
}

/// The name of an operation and of an error.
pub fn pair_name(code: i32, error: i32) -> String {
    let name = zorilla_proto::code::Code::from_raw(error).map_or("?", |known| known.name());
    format!("{} {name}", op_name(code))
}
