//! One connection to one server, and what came over it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zorilla_proto::client::ReplyHeader;
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::jute::Reader;
use zorilla_proto::op::{Op, OpKind};

use crate::script::Request;
use crate::wire::{Item, read_connected, read_event, read_reply};

const XID_EVENT: i32 = -1;
const XID_PING: i32 = -2;

/// Far beyond every reply of a stream.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Something this end waits for.
enum Due {
    Answer(Arc<Request>, i32),
    Fence,
}

pub struct Link {
    stream: TcpStream,
    input: Vec<u8>,
    due: VecDeque<Due>,
    /// Auth and SASL are answered the moment they are read, so they may overtake others.
    due_at_once: VecDeque<(Arc<Request>, i32)>,
    connecting: bool,
    /// The session that the handshake gave.
    pub session: Option<i64>,
    pub closed: bool,
    pub items: Vec<Item>,
    /// Answers of requests that overtook: compared as a list of their own.
    pub at_once: Vec<Item>,
    pub next_xid: i32,
    /// The highest zxid seen in a reply.
    pub last_zxid: i64,
}

impl Link {
    pub fn open(address: SocketAddr) -> io::Result<Link> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Link {
            stream,
            input: Vec::new(),
            due: VecDeque::new(),
            due_at_once: VecDeque::new(),
            connecting: false,
            session: None,
            closed: false,
            items: Vec::new(),
            at_once: Vec::new(),
            next_xid: 1,
            last_zxid: 0,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) {
        // An error is an ended connection, which the next read shows as well.
        let _ = self.stream.write_all(bytes);
    }

    pub fn shutdown(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        self.closed = true;
    }

    pub fn expect_connected(&mut self) {
        self.connecting = true;
    }

    pub fn expect(&mut self, request: &Arc<Request>, xid: i32) {
        match request.op().map(Op::kind) {
            Some(OpKind::Connection) => self.due_at_once.push_back((Arc::clone(request), xid)),
            _ => self.due.push_back(Due::Answer(Arc::clone(request), xid)),
        }
    }

    pub fn expect_fence(&mut self) {
        self.due.push_back(Due::Fence);
    }

    pub fn is_settled(&self) -> bool {
        self.closed || (!self.connecting && self.due.is_empty() && self.due_at_once.is_empty())
    }

    /// Nothing is due any more, whatever comes.
    pub fn give_up(&mut self) {
        self.items.push(Item::Silent);
        self.due.clear();
        self.due_at_once.clear();
        self.connecting = false;
    }

    /// Reads until everything due has come. Says whether it has, in time.
    pub fn settle(&mut self, patience: Duration) -> bool {
        self.read_until(patience, Link::is_settled)
    }

    pub fn read_until(&mut self, patience: Duration, done: impl Fn(&Link) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        self.split();
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.closed {
                return false;
            }
            let _ = self.stream.set_read_timeout(Some(left));
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => self.end(),
                Ok(read) => {
                    self.input.extend_from_slice(&chunk[..read]);
                    self.split();
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return false,
                    io::ErrorKind::Interrupted => {}
                    _ => self.end(),
                },
            }
        }
        true
    }

    fn end(&mut self) {
        self.closed = true;
        self.items.push(Item::Closed);
    }

    fn split(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        loop {
            match frame::split(rest, FRAME_BYTES_MAX) {
                Framed::Complete { payload, consumed } => {
                    self.take(payload);
                    rest = &rest[consumed..];
                }
                Framed::Partial { .. } => break,
                Framed::Bad(error) => {
                    self.items.push(Item::Odd(format!("a frame of {} bytes", error.frame_bytes)));
                    rest = &[];
                    break;
                }
            }
        }
        self.input = rest.to_vec();
    }

    fn take(&mut self, payload: &[u8]) {
        if std::mem::take(&mut self.connecting) {
            let (parts, session) = read_connected(payload);
            self.session = session;
            self.items.push(Item::Connected(parts));
            return;
        }
        let mut reader = Reader::new(payload);
        let Ok(header) = ReplyHeader::decode(&mut reader) else {
            self.items.push(Item::Odd(format!("a frame of {} bytes", payload.len())));
            return;
        };
        let body = reader.remaining();
        if header.xid == XID_EVENT && !matches!(self.due.front(), Some(Due::Answer(_, XID_EVENT))) {
            self.items.push(read_event(header, body));
            return;
        }
        self.last_zxid = self.last_zxid.max(header.zxid);
        if self.due_at_once.front().is_some_and(|(_, xid)| *xid == header.xid) {
            let (request, _) = self.due_at_once.pop_front().expect("it was looked at");
            self.at_once.push(Item::Reply(read_reply(&request, header, body)));
            return;
        }
        match self.due.pop_front() {
            Some(Due::Answer(request, _)) => self.items.push(Item::Reply(read_reply(&request, header, body))),
            Some(Due::Fence) if header.xid == XID_PING && header.code == 0 => {
                self.items.push(Item::Fence { zxid: header.zxid });
            }
            Some(Due::Fence) => self.items.push(Item::Odd(format!("a fence answered {header:?}"))),
            None => self.items.push(Item::Odd(format!("nothing was due, came {header:?}"))),
        }
    }
}
