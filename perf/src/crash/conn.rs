//! One blocking connection of the crash rounds: frames out, frames in, no retries.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use zorilla_proto::client::{ConnectRequest, ConnectResponse, ReplyHeader, Request, Response};
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::jute::Reader;
use zorilla_proto::{Op, SessionId, Zxid};

/// The longest a single reply may take. A server that is stalled longer than this counts as one that hangs.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Replies carry at most a listing of everything a run creates.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// What a client must show to take its session up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub session: SessionId,
    pub password: [u8; 16],
}

/// A connection with an established session.
pub struct Conn {
    socket: TcpStream,
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    next_xid: i32,
}

/// One reply or notification; `body` holds the record behind the header.
pub struct Reply {
    pub header: ReplyHeader,
    pub body: Vec<u8>,
}

impl Reply {
    /// The record of a successful reply to `op`.
    pub fn response(&self, op: Op) -> io::Result<Response<'_>> {
        Response::decode(op, &mut Reader::new(&self.body))
            .map_err(|error| io::Error::other(format!("the reply to {} cannot be decoded: {error:?}", op.name())))
    }
}

impl Conn {
    /// Opens a new session, or resumes the one of `ticket`. `None` when the server says that the session is not valid.
    pub fn open(
        address: SocketAddr,
        ticket: Option<Ticket>,
        last_zxid: Zxid,
        timeout_ms: i32,
    ) -> io::Result<Option<(Conn, Ticket)>> {
        Conn::open_within(REPLY_TIMEOUT, address, ticket, last_zxid, timeout_ms)
    }

    /// The same, for a server that may not serve yet: gives up after `patience`.
    pub fn open_within(
        patience: Duration,
        address: SocketAddr,
        ticket: Option<Ticket>,
        last_zxid: Zxid,
        timeout_ms: i32,
    ) -> io::Result<Option<(Conn, Ticket)>> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let mut conn = Conn { socket, input: Vec::new(), taken: 0, output: Vec::new(), next_xid: 1 };
        let shown = ticket.map_or([0; 16], |ticket| ticket.password);
        let mark = frame::begin(&mut conn.output);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: last_zxid,
            timeout_ms,
            session: ticket.map_or(SessionId::NONE, |ticket| ticket.session),
            password: Some(&shown),
            read_only: Some(false),
        };
        request.encode(&mut conn.output);
        frame::end(&mut conn.output, mark);
        conn.flush()?;
        let payload = conn.frame()?;
        conn.socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
        let response = ConnectResponse::decode(&mut Reader::new(&payload))
            .map_err(|error| io::Error::other(format!("the connect response cannot be decoded: {error:?}")))?;
        if response.timeout_ms <= 0 {
            return Ok(None);
        }
        Ok(Some((conn, Ticket { session: response.session, password: response.password })))
    }

    /// Queues one request and returns its xid; [`Conn::flush`] sends it.
    pub fn queue(&mut self, request: &Request<'_>) -> i32 {
        let xid = self.next_xid;
        self.next_xid += 1;
        request.encode_frame(xid, &mut self.output);
        xid
    }

    /// Sends everything queued.
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// The next reply, waiting for it.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let payload = self.frame()?;
        let mut reader = Reader::new(&payload);
        let header = ReplyHeader::decode(&mut reader)
            .map_err(|error| io::Error::other(format!("a reply header cannot be decoded: {error:?}")))?;
        let body = reader.remaining().to_vec();
        Ok(Reply { header, body })
    }

    /// Whether a whole reply is here already, so that [`Conn::reply`] would not wait.
    pub fn has_reply(&self) -> bool {
        matches!(frame::split(&self.input[self.taken..], REPLY_BYTES_MAX), Framed::Complete { .. })
    }

    /// One request and its reply.
    pub fn call(&mut self, request: &Request<'_>) -> io::Result<Reply> {
        let xid = self.queue(request);
        self.flush()?;
        let reply = self.reply()?;
        if reply.header.xid != xid {
            return Err(io::Error::other(format!("a reply with xid {} came where {xid} was due", reply.header.xid)));
        }
        Ok(reply)
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match frame::split(&self.input[self.taken..], REPLY_BYTES_MAX) {
                Framed::Complete { payload, consumed } => {
                    let payload = payload.to_vec();
                    self.taken += consumed;
                    return Ok(payload);
                }
                Framed::Partial { .. } => {}
                Framed::Bad(error) => return Err(io::Error::other(error.to_string())),
            }
            self.input.drain(..self.taken);
            self.taken = 0;
            let mut part = [0; 1 << 16];
            match self.socket.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&part[..count]),
            }
        }
    }
}
