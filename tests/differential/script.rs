//! What a stream is, and the text it is saved as.
//!
//! A stream is a list of steps for a few connections, each written once and played on two servers. Everything that
//! differs between servers (session ids, zxids) is symbolic here. The text is one step per line; the requests of a `send` or an
//! `await` are the indented lines below it. What is printed is read back as the same value.

use std::fmt::{self, Write as _};

use zorilla_proto::op::Op;

/// One element of a request's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    Int(i32),
    Long(i64),
    /// One byte.
    Bool(u8),
    /// A string; `$` stands for the stream's own top-level znode.
    Str(Option<String>),
    Buf(Option<Vec<u8>>),
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// The count of a vector.
    Count(i32),
    /// The last zxid the server showed, less this.
    ZxidBack(i64),
    /// The header of an operation inside a multi; `None` is the one that ends it.
    Item(Option<i32>),
}

/// One frame with a request header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Any number, also one that is no opcode.
    pub code: i32,
    /// Instead of the next one in order.
    pub xid: Option<i32>,
    pub fields: Vec<Field>,
    /// How many bytes are missing at the end of the record.
    pub cut: usize,
}

/// Which password a handshake sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// The session's own; zeros for a new session.
    Right,
    Wrong,
    Null,
    Empty,
    Long,
}

/// Which session a handshake asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    New,
    /// The session that this connection has, or last had.
    SessionOf(String),
    /// An id that no server ever gave out.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub conn: String,
    pub target: Target,
    pub password: Password,
    pub timeout_ms: i32,
    /// Added to the last zxid the server showed; `None` sends 0.
    pub seen: Option<i64>,
    pub read_only: Option<u8>,
    pub version: i32,
    /// Behind the record.
    pub extra: Vec<u8>,
    pub cut: usize,
    /// Written together with the handshake.
    pub pipelined: Vec<Request>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Connect(Connect),
    /// Requests in one write, then everything they cause.
    Send {
        conn: String,
        requests: Vec<Request>,
    },
    /// Bytes that are no well-formed frame.
    Raw {
        conn: String,
        bytes: Vec<u8>,
    },
    /// The client's end goes away without a word.
    Drop {
        conn: String,
    },
    /// Requests, then the wait until the server has deleted these znodes by itself.
    Await {
        conn: String,
        gone: Vec<String>,
        requests: Vec<Request>,
    },
    /// Silence until the server ends the connection because its session has expired.
    Expire {
        conn: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The name of the configuration it is played under.
    pub profile: String,
    pub steps: Vec<Step>,
}

impl Request {
    pub fn new(op: Op, fields: Vec<Field>) -> Request {
        Request { code: op.raw(), xid: None, fields, cut: 0 }
    }

    /// The opcode, if the number is one.
    pub fn op(&self) -> Option<Op> {
        Op::from_raw(self.code)
    }

    pub fn is(&self, op: Op) -> bool {
        self.code == op.raw()
    }
}

impl Step {
    pub fn conn(&self) -> &str {
        match self {
            Step::Connect(connect) => &connect.conn,
            Step::Send { conn, .. }
            | Step::Raw { conn, .. }
            | Step::Drop { conn }
            | Step::Await { conn, .. }
            | Step::Expire { conn } => conn,
        }
    }

    pub fn requests(&self) -> &[Request] {
        match self {
            Step::Connect(connect) => &connect.pipelined,
            Step::Send { requests, .. } | Step::Await { requests, .. } => requests,
            _ => &[],
        }
    }

    pub fn requests_mut(&mut self) -> Option<&mut Vec<Request>> {
        match self {
            Step::Connect(connect) => Some(&mut connect.pipelined),
            Step::Send { requests, .. } | Step::Await { requests, .. } => Some(requests),
            _ => None,
        }
    }
}

impl Stream {
    /// How many frames it sends.
    pub fn frames(&self) -> usize {
        self.steps.iter().map(|step| step.requests().len() + usize::from(matches!(step, Step::Connect(_)))).sum()
    }
}

// ---- printing ----------------------------------------------------------------------------------------------

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A number's name where it is an opcode, `#number` where not.
pub fn op_name(code: i32) -> String {
    Op::from_raw(code).map_or_else(|| format!("#{code}"), |op| op.name().to_owned())
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Int(value) => write!(f, "i:{value}"),
            Field::Long(value) => write!(f, "l:{value}"),
            Field::Bool(value) => write!(f, "z:{value}"),
            Field::Str(None) => write!(f, "s:null"),
            Field::Str(Some(text)) => write!(f, "s:\"{}\"", text.escape_default()),
            Field::Buf(None) => write!(f, "b:null"),
            Field::Buf(Some(bytes)) => write!(f, "b:{}", hex(bytes)),
            Field::Raw(bytes) => write!(f, "x:{}", hex(bytes)),
            Field::Count(value) => write!(f, "n:{value}"),
            Field::ZxidBack(value) => write!(f, "zx:{value}"),
            Field::Item(None) => write!(f, "op:end"),
            Field::Item(Some(code)) => write!(f, "op:{}", op_name(*code)),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", op_name(self.code))?;
        for field in &self.fields {
            write!(f, " {field}")?;
        }
        if let Some(xid) = self.xid {
            write!(f, " xid={xid}")?;
        }
        if self.cut != 0 {
            write!(f, " cut={}", self.cut)?;
        }
        Ok(())
    }
}

const PASSWORDS: [(Password, &str); 5] = [
    (Password::Right, "right"),
    (Password::Wrong, "wrong"),
    (Password::Null, "null"),
    (Password::Empty, "empty"),
    (Password::Long, "long"),
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Connect(connect) => {
                write!(f, "connect {}", connect.conn)?;
                match &connect.target {
                    Target::New => write!(f, " new")?,
                    Target::Unknown => write!(f, " unknown")?,
                    Target::SessionOf(conn) => write!(f, " session={conn}")?,
                }
                let password = PASSWORDS.iter().find(|(known, _)| *known == connect.password).map_or("right", |p| p.1);
                write!(f, " password={password} timeout={}", connect.timeout_ms)?;
                if let Some(seen) = connect.seen {
                    write!(f, " seen={seen}")?;
                }
                if let Some(flag) = connect.read_only {
                    write!(f, " ro={flag}")?;
                }
                if connect.version != 0 {
                    write!(f, " version={}", connect.version)?;
                }
                if !connect.extra.is_empty() {
                    write!(f, " extra={}", hex(&connect.extra))?;
                }
                if connect.cut != 0 {
                    write!(f, " cut={}", connect.cut)?;
                }
            }
            Step::Send { conn, .. } => write!(f, "send {conn}")?,
            Step::Raw { conn, bytes } => write!(f, "raw {conn} {}", hex(bytes))?,
            Step::Drop { conn } => write!(f, "drop {conn}")?,
            Step::Await { conn, gone, .. } => {
                write!(f, "await {conn}")?;
                for path in gone {
                    write!(f, " {path}")?;
                }
            }
            Step::Expire { conn } => write!(f, "expire {conn}")?,
        }
        for request in self.requests() {
            write!(f, "\n  {request}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "profile {}", self.profile)?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}

// ---- reading -----------------------------------------------------------------------------------------------

pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("not hexadecimal: {text:?}");
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(wrong());
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())).collect()
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number that fits here: {text:?}"))
}

/// The inverse of [`char::escape_default`].
fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next != '\\' {
            out.push(next);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('0') => out.push('\0'),
            Some('u') => {
                let code: String = rest.by_ref().skip_while(|c| *c == '{').take_while(|c| *c != '}').collect();
                let scalar = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                out.push(scalar.ok_or_else(|| format!("no character: {code:?}"))?);
            }
            Some(other) => out.push(other),
            None => return Err(format!("ends in a backslash: {text:?}")),
        }
    }
    Ok(out)
}

/// Words at spaces, where what stands in quotes is one word.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for next in line.chars() {
        if next == ' ' && !quoted {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        if next == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = next == '\\' && !escaped;
        word.push(next);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn op_code(name: &str) -> Result<i32, String> {
    if let Some(raw) = name.strip_prefix('#') {
        return number(raw);
    }
    Op::ALL.iter().find(|op| op.name() == name).map(|op| op.raw()).ok_or_else(|| format!("no opcode: {name:?}"))
}

fn read_field(word: &str) -> Result<Field, String> {
    let (kind, value) = word.split_once(':').ok_or_else(|| format!("not a field: {word:?}"))?;
    Ok(match (kind, value) {
        ("i", _) => Field::Int(number(value)?),
        ("l", _) => Field::Long(number(value)?),
        ("z", _) => Field::Bool(number(value)?),
        ("n", _) => Field::Count(number(value)?),
        ("zx", _) => Field::ZxidBack(number(value)?),
        ("s", "null") => Field::Str(None),
        ("s", _) => {
            let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            Field::Str(Some(unescape(inner.ok_or_else(|| format!("not quoted: {value:?}"))?)?))
        }
        ("b", "null") => Field::Buf(None),
        ("b", _) => Field::Buf(Some(unhex(value)?)),
        ("x", _) => Field::Raw(unhex(value)?),
        ("op", "end") => Field::Item(None),
        ("op", _) => Field::Item(Some(op_code(value)?)),
        _ => return Err(format!("no such kind of field: {word:?}")),
    })
}

fn read_request(line: &str) -> Result<Request, String> {
    let words = words(line);
    let (name, rest) = words.split_first().ok_or("an empty request")?;
    let mut request = Request { code: op_code(name)?, xid: None, fields: Vec::new(), cut: 0 };
    for word in rest {
        if let Some(xid) = word.strip_prefix("xid=") {
            request.xid = Some(number(xid)?);
        } else if let Some(cut) = word.strip_prefix("cut=") {
            request.cut = number(cut)?;
        } else {
            request.fields.push(read_field(word)?);
        }
    }
    Ok(request)
}

fn read_connect(conn: &str, rest: &[String]) -> Result<Connect, String> {
    let mut connect = Connect { conn: conn.to_owned(), ..Connect::new(conn) };
    for word in rest {
        match word.split_once('=') {
            None if word == "new" => connect.target = Target::New,
            None if word == "unknown" => connect.target = Target::Unknown,
            Some(("session", conn)) => connect.target = Target::SessionOf(conn.to_owned()),
            Some(("password", name)) => {
                let known = PASSWORDS.iter().find(|(_, known)| *known == name);
                connect.password = known.ok_or_else(|| format!("no such password: {name:?}"))?.0;
            }
            Some(("timeout", ms)) => connect.timeout_ms = number(ms)?,
            Some(("seen", zxid)) => connect.seen = Some(number(zxid)?),
            Some(("ro", flag)) => connect.read_only = Some(number(flag)?),
            Some(("version", version)) => connect.version = number(version)?,
            Some(("extra", bytes)) => connect.extra = unhex(bytes)?,
            Some(("cut", cut)) => connect.cut = number(cut)?,
            _ => return Err(format!("a handshake has no {word:?}")),
        }
    }
    Ok(connect)
}

impl Connect {
    /// A new session with nothing unusual about it.
    pub fn new(conn: &str) -> Connect {
        Connect {
            conn: conn.to_owned(),
            target: Target::New,
            password: Password::Right,
            timeout_ms: 60_000,
            seen: None,
            read_only: Some(0),
            version: 0,
            extra: Vec::new(),
            cut: 0,
            pipelined: Vec::new(),
        }
    }
}

/// Reads what [`Stream`] prints; lines that begin with `;` are comments.
pub fn read_stream(text: &str) -> Result<Stream, String> {
    let mut stream = Stream { profile: "defaults".to_owned(), steps: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let at = |what: String| format!("line {}: {what}", index + 1);
        if line.trim().is_empty() || line.starts_with(';') {
            continue;
        }
        if line.starts_with(' ') {
            let request = read_request(line.trim()).map_err(at)?;
            let requests = stream.steps.last_mut().and_then(Step::requests_mut);
            requests.ok_or_else(|| at("a request below no step that has any".to_owned()))?.push(request);
            continue;
        }
        let words = words(line);
        let (verb, rest) = words.split_first().expect("the line is not empty");
        let (conn, rest) = rest.split_first().ok_or_else(|| at("names no connection".to_owned()))?;
        let conn_name = conn.clone();
        let step = match verb.as_str() {
            "profile" => {
                stream.profile = conn_name;
                continue;
            }
            "connect" => {
                let mut connect = read_connect(conn, rest).map_err(at)?;
                // Absent in the text means absent on the wire.
                if !rest.iter().any(|word| word.starts_with("ro=")) {
                    connect.read_only = None;
                }
                Step::Connect(connect)
            }
            "send" => Step::Send { conn: conn_name, requests: Vec::new() },
            "await" => Step::Await { conn: conn_name, gone: rest.to_vec(), requests: Vec::new() },
            "drop" => Step::Drop { conn: conn_name },
            "expire" => Step::Expire { conn: conn_name },
            "raw" => {
                let bytes = unhex(rest.first().map_or("", String::as_str)).map_err(at)?;
                Step::Raw { conn: conn_name, bytes }
            }
            other => return Err(at(format!("no such step: {other:?}"))),
        };
        stream.steps.push(step);
    }
    Ok(stream)
}

/// The strings of a list of quoted strings, as `{:?}` prints them.
pub fn quoted(list: &str) -> Vec<String> {
    words(list)
        .iter()
        .filter_map(|word| word.strip_prefix('"')?.strip_suffix('"').and_then(|inner| unescape(inner).ok()))
        .collect()
}
