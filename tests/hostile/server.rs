//! A connection that sends whatever it is told to, and what is expected of an answer.

use std::io::{self, Write};
use std::net::TcpStream;

use zorilla_proto::client::ConnectResponse;
use zorilla_proto::{Code, Op, Reader, SessionId};

use crate::common::scratch::Scratch;
pub use crate::common::server::Server;
use crate::common::wire;
pub use crate::common::wire::{Reply, framed};
use crate::record::{Field::*, of, request, with_xid};

/// So long that no session expires while a test runs: that would take a zxid in the middle of it.
const SESSION_MS: i32 = 600_000;

impl Server {
    /// Starts one with a directory of its own, these further lines in its configuration, and a znode `/kept`.
    pub fn start(more: &str) -> Server {
        let home = Scratch::new("hostile");
        let lines = format!("maxSessionTimeout={SESSION_MS}\nextendedTypesEnabled=true\n{more}");
        let server = Server::launch(&home, &home.join("data"), &lines);
        let mut bystander = server.bystander();
        bystander.0.send(&of(Op::Create, &[Str("/kept"), Raw(b"kept"), Open, Int(0)]));
        assert_eq!(bystander.0.reply().map(|reply| reply.code), Some(0));
        server
    }

    /// A connection with a session.
    pub fn connect(&self) -> Conn {
        let mut conn = self.raw();
        conn.send(&connect_request());
        let payload = conn.frame().expect("a session");
        let response = ConnectResponse::decode(&mut Reader::new(&payload)).expect("a connect response");
        assert_eq!(response.timeout_ms, SESSION_MS);
        conn
    }

    /// A connection that has said nothing yet.
    pub fn raw(&self) -> Conn {
        Conn { stream: self.socket() }
    }

    /// A client that does nothing wrong.
    pub fn bystander(&self) -> Bystander {
        Bystander(self.connect())
    }
}

/// A handshake that asks for a new session.
pub fn connect_request() -> Vec<u8> {
    wire::connect_request(SessionId::NONE, &[0; 16], SESSION_MS)
}

/// Who must be served whatever others send.
pub struct Bystander(Conn);

impl Bystander {
    /// Reads what is kept.
    pub fn is_served(&mut self) {
        self.0.send(&of(Op::GetData, &[Str("/kept"), Bool(0)]));
        let reply = self.0.reply().expect("a bystander is answered");
        assert_eq!((reply.xid, reply.code, &reply.body[..8]), (crate::record::XID, 0, &b"\0\0\0\x04kept"[..]));
    }

    /// Reads and writes, at the end of a test.
    pub fn is_served_fully(&mut self) {
        self.0.send(&of(Op::SetData, &[Str("/kept"), Raw(b"kept"), Int(-1)]));
        assert_eq!(self.0.reply().map(|reply| reply.code), Some(0), "a bystander's write is answered");
        self.is_served();
    }
}

/// A connection that sends what it is told to.
pub struct Conn {
    pub stream: TcpStream,
}

impl Conn {
    /// Sends bytes as they are. Whether they arrive is for the answer to tell: the server may have closed already.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame.
    pub fn send(&mut self, payload: &[u8]) {
        self.send_raw(&framed(payload));
    }

    /// The payload of the next frame; `None` when the server ended the connection instead.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        match wire::next_frame(&mut self.stream) {
            Ok(payload) => payload,
            // Bytes that nobody reads any more are answered with a reset.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }

    /// The next reply.
    pub fn reply(&mut self) -> Option<Reply> {
        self.frame().map(|payload| Reply::decode(&payload))
    }

    /// The last zxid applied, as a ping shows it; the connection must be open.
    pub fn ping(&mut self) -> i64 {
        // A ping is answered with its own xid, whatever it had.
        self.send(&with_xid(12_345, Op::Ping.raw(), &[]));
        let reply = self.reply().expect("the connection is open");
        assert_eq!((reply.xid, reply.code, reply.body.len()), (-2, 0, 0), "no ping is answered so");
        reply.zxid
    }

    /// Ends the session, so that it does not expire later.
    pub fn close(mut self) {
        self.send(&request(Op::CloseSession.raw(), &[]));
        assert_eq!(self.reply().map(|reply| reply.code), Some(0));
        assert_eq!(self.frame(), None);
    }
}

/// The zxid of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zx {
    /// The one before: nothing happened.
    Same,
    /// One more: it took one, whether it succeeded or not.
    Bumped,
    /// Exactly this; nothing happened.
    Is(i64),
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing: the connection ends.
    End,
    /// This header without a body, and the connection goes on.
    Header(Zx, i32),
    /// This header with this body, and the connection goes on.
    Body(Zx, Vec<u8>),
    /// This header of a success with some body or none, and the connection goes on.
    Success(Zx),
    /// This header without a body, and the connection ends.
    Last(Zx, i32),
}

pub use Answer::{Body, End, Header, Last, Success};

/// A failure that leaves the connection open.
pub fn fails(zxid: Zx, code: Code) -> Answer {
    Header(zxid, code.raw())
}

/// A record that cannot be decoded.
pub fn undecodable() -> Answer {
    fails(Zx::Same, Code::MarshallingError)
}

/// The same, found out after a zxid was taken.
pub fn undecodable_late() -> Answer {
    fails(Zx::Bumped, Code::MarshallingError)
}

/// Sends one request on a connection of its own and judges everything that follows: the reply to the last byte, the zxid,
/// whether the connection goes on, and that a bystander is served.
pub fn judge(server: &Server, bystander: &mut Bystander, what: &str, payload: &[u8], answer: &Answer) {
    judge_with_xid(server, bystander, what, payload, crate::record::XID, answer);
}

/// As [`judge`], where the reply has another xid.
pub fn judge_with_xid(
    server: &Server,
    bystander: &mut Bystander,
    what: &str,
    payload: &[u8],
    xid: i32,
    answer: &Answer,
) {
    let mut conn = server.connect();
    let before = conn.ping();
    conn.send(payload);
    let reply = conn.reply();
    let zxid = |zx: Zx| match zx {
        Zx::Same => (before, before),
        Zx::Bumped => (before + 1, before + 1),
        Zx::Is(zxid) => (zxid, before),
    };
    let header = |zx: Zx, code: i32, body: Vec<u8>| Some(Reply { xid, zxid: zxid(zx).0, code, body });
    let (goes_on, after) = match answer {
        End => {
            assert_eq!(reply, None, "{what}");
            (false, before)
        }
        Header(zx, code) | Last(zx, code) => {
            assert_eq!(reply, header(*zx, *code, Vec::new()), "{what}: {answer:?} after {before:#x}");
            (matches!(answer, Header(..)), zxid(*zx).1)
        }
        Body(zx, body) => {
            assert_eq!(reply, header(*zx, 0, body.clone()), "{what}: {answer:?} after {before:#x}");
            (true, zxid(*zx).1)
        }
        Success(zx) => {
            let body = reply.as_ref().map(|reply| reply.body.clone()).unwrap_or_default();
            assert_eq!(reply, header(*zx, 0, body), "{what}: {answer:?} after {before:#x}");
            (true, zxid(*zx).1)
        }
    };
    bystander.is_served();
    if goes_on {
        assert_eq!(conn.ping(), after, "{what}: the zxid afterwards");
        conn.close();
    } else {
        assert_eq!(conn.frame(), None, "{what}: nothing comes behind the last answer");
        let mut other = server.connect();
        // This session took one, and nothing else did.
        assert_eq!(other.ping(), after + 1, "{what}: the zxid afterwards");
        other.close();
    }
}
