//! The floor: a null server that shows what this kernel, this disk and this generator allow.
//!
//! One epoll loop, one table, durable group commit, and nothing else: no sessions to expire, no ACLs, no parents, no
//! watches, no recovery. It speaks enough of the protocol for connect, create (alone and in a multi), delete, setData,
//! getData, exists, ping and closeSession. Replies to writes are held until the disk has the write, and with them every
//! later reply of the connection. One read and one write per connection and turn, buffers reused.
//!
//! Guarantees: nothing about data. It is a measure, not a store.

mod commit;
mod table;

use crate::limits::{FLOOR_READ_BYTES, FRAME_BYTES_MAX};
use commit::Commit;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;
use table::Table;
use zorilla_proto::client::{
    ConnectRequest, ConnectResponse, MultiHeader, MultiOp, MultiRequest, ReplyHeader, RequestHeader, XID_PING,
};
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::jute::{self, Reader};
use zorilla_proto::{Code, Op, SessionId};

const LISTENER: Token = Token(usize::MAX - 1);
const DISK: Token = Token(usize::MAX - 2);

/// A null server that is bound and not running yet.
pub struct Floor {
    poll: Poll,
    listener: TcpListener,
    address: SocketAddr,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    table: Table,
    commit: Commit,
    sessions: i64,
    /// Which connections have a write in which batch, in the order of the batches.
    waiting: VecDeque<(u64, usize)>,
    /// Connections with something to send this turn.
    dirty: Vec<usize>,
    /// Connections that stopped being read because the batch was full.
    stalled: Vec<usize>,
    /// Connections that were closed this turn: their places are free only in the next one, because events of this
    /// turn may still name them.
    closed: Vec<usize>,
}

struct Connection {
    socket: TcpStream,
    greeted: bool,
    input: Vec<u8>,
    from: usize,
    until: usize,
    /// Replies; the first `written` bytes are gone.
    output: Vec<u8>,
    written: usize,
    /// For each batch in which this connection has a write: where in `output` its first reply begins. Everything
    /// behind the first mark waits for that batch.
    marks: VecDeque<(u64, usize)>,
    dirty: bool,
    stalled: bool,
    /// The socket took less than it was offered.
    blocked: bool,
    /// Closed once everything is sent.
    leaving: bool,
}

impl Floor {
    /// Binds the address and prepares the log in `directory`, which is written full once: that takes a moment.
    pub fn bind(address: SocketAddr, directory: &Path) -> io::Result<Floor> {
        let commit = Commit::open(directory)?;
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        // Listening again changes how many may wait.
        rustix::net::listen(&listener, i32::from(crate::compare::server::LISTEN_BACKLOG))?;
        let address = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        if let Some(event) = commit.event_fd() {
            let raw: RawFd = event.as_raw_fd();
            poll.registry().register(&mut SourceFd(&raw), DISK, Interest::READABLE)?;
        }
        Ok(Floor {
            poll,
            listener,
            address,
            connections: Vec::new(),
            free: Vec::new(),
            table: Table::new(),
            commit,
            sessions: 0x00f1_0000_0000_0000,
            waiting: VecDeque::new(),
            dirty: Vec::new(),
            stalled: Vec::new(),
            closed: Vec::new(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the log is written.
    pub fn describe(&self) -> String {
        self.commit.describe()
    }

    /// Serves until the disk or the poll fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            // Stalled connections and an empty batch: there is work that no event will announce.
            let unannounced = !self.stalled.is_empty() && self.commit.is_empty();
            let wait = if unannounced { Some(Duration::ZERO) } else { self.commit.wait() };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            self.free.append(&mut self.closed);
            self.table.tick();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    DISK => {}
                    Token(at) => {
                        if let Some(connection) = self.connections[at].as_mut() {
                            if event.is_writable() && connection.blocked {
                                connection.blocked = false;
                                self.mark_dirty(at);
                            }
                            if event.is_readable() || event.is_read_closed() {
                                self.receive(at);
                            }
                        }
                    }
                }
            }
            if self.commit.reap()? {
                self.release();
            }
            if !self.stalled.is_empty() && self.commit.is_empty() {
                for at in std::mem::take(&mut self.stalled) {
                    if let Some(connection) = self.connections[at].as_mut() {
                        connection.stalled = false;
                        self.receive(at);
                    }
                }
            }
            // Submitted before the replies are written: the disk works meanwhile.
            self.commit.submit()?;
            // A blocking backend has completed already.
            if self.commit.reap()? {
                self.release();
            }
            while let Some(at) = self.dirty.pop() {
                self.send(at);
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut socket, _)) => {
                    socket.set_nodelay(true)?;
                    let at = self.free.pop().unwrap_or_else(|| {
                        self.connections.push(None);
                        self.connections.len() - 1
                    });
                    self.poll.registry().register(&mut socket, Token(at), Interest::READABLE | Interest::WRITABLE)?;
                    self.connections[at] = Some(Connection {
                        socket,
                        greeted: false,
                        input: vec![0; FLOOR_READ_BYTES],
                        from: 0,
                        until: 0,
                        output: Vec::new(),
                        written: 0,
                        marks: VecDeque::new(),
                        dirty: false,
                        stalled: false,
                        blocked: false,
                        leaving: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The client gave up in between; that concerns nobody else.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn mark_dirty(&mut self, at: usize) {
        if let Some(connection) = self.connections[at].as_mut()
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(at);
        }
    }

    fn close(&mut self, at: usize) {
        // Dropping the socket takes it out of the poll.
        if self.connections[at].take().is_some() {
            self.closed.push(at);
        }
    }

    /// Reads until the socket is empty, and does what the requests say.
    fn receive(&mut self, at: usize) {
        loop {
            let Some(connection) = self.connections[at].as_mut() else { return };
            if connection.stalled {
                return;
            }
            if let Err(_hang_up) = self.requests(at) {
                return self.close(at);
            }
            let Some(connection) = self.connections[at].as_mut() else { return };
            if connection.stalled || connection.leaving {
                return;
            }
            connection.make_room();
            let room = connection.input.len() - connection.until;
            match connection.socket.read(&mut connection.input[connection.until..]) {
                Ok(0) => return self.close(at),
                Ok(count) => {
                    connection.until += count;
                    // Less than there was room for: the socket is empty, and its next byte is a new event.
                    if count < room {
                        if self.requests(at).is_err() {
                            self.close(at);
                        }
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.close(at),
            }
        }
    }

    /// Does every whole request that was received, until the batch is full.
    fn requests(&mut self, at: usize) -> Result<(), HangUp> {
        let Some(connection) = self.connections[at].as_mut() else { return Ok(()) };
        let before = connection.output.len();
        while !connection.leaving {
            let received = &connection.input[connection.from..connection.until];
            let (payload, consumed) = match frame::split(received, FRAME_BYTES_MAX) {
                Framed::Complete { payload, consumed } => (payload, consumed),
                Framed::Partial { .. } => break,
                Framed::Bad(_) => return Err(HangUp),
            };
            if connection.greeted {
                let mut answer = Answer {
                    at,
                    waiting: &mut self.waiting,
                    output: &mut connection.output,
                    marks: &mut connection.marks,
                    leaving: &mut connection.leaving,
                    table: &mut self.table,
                    commit: &mut self.commit,
                };
                if !answer.request(payload)? {
                    connection.stalled = true;
                    self.stalled.push(at);
                    break;
                }
            } else {
                let request = ConnectRequest::decode(&mut Reader::new(payload)).map_err(|_| HangUp)?;
                self.sessions += 1;
                let session = SessionId::from_raw(self.sessions);
                let mark = frame::begin(&mut connection.output);
                ConnectResponse {
                    timeout_ms: request.timeout_ms.clamp(4_000, 40_000),
                    session,
                    password: session.password(),
                    read_only: request.read_only.map(|_| false),
                }
                .encode(&mut connection.output);
                frame::end(&mut connection.output, mark);
                connection.greeted = true;
            }
            connection.from += consumed;
        }
        if connection.from == connection.until {
            connection.from = 0;
            connection.until = 0;
        }
        if connection.output.len() != before && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(at);
        }
        Ok(())
    }

    /// More batches are durable: connections that waited for them have something to send.
    fn release(&mut self) {
        let durable = self.commit.durable();
        while let Some((_, at)) = self.waiting.pop_front_if(|(batch, _)| *batch <= durable) {
            // A place may have a new connection by now; it has no marks that old.
            let Some(connection) = self.connections[at].as_mut() else { continue };
            while connection.marks.pop_front_if(|(batch, _)| *batch <= durable).is_some() {}
            if !connection.dirty {
                connection.dirty = true;
                self.dirty.push(at);
            }
        }
    }

    /// One write of everything that may go.
    fn send(&mut self, at: usize) {
        let Some(connection) = self.connections[at].as_mut() else { return };
        connection.dirty = false;
        let until = connection.marks.front().map_or(connection.output.len(), |(_, start)| *start);
        while connection.written < until && !connection.blocked {
            match connection.socket.write(&connection.output[connection.written..until]) {
                Ok(0) => return self.close(at),
                Ok(count) => connection.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.close(at),
            }
        }
        if connection.written == connection.output.len() {
            connection.output.clear();
            connection.written = 0;
            if connection.leaving {
                self.close(at);
            }
        } else if connection.output.len() / 2 < connection.written {
            // Held replies move to the front, at most once per doubling, so this costs a copy per byte.
            let gone = connection.written;
            connection.output.drain(..gone);
            connection.written = 0;
            for (_, start) in &mut connection.marks {
                *start -= gone;
            }
        }
    }
}

impl Connection {
    fn make_room(&mut self) {
        if self.until < self.input.len() {
            return;
        }
        if 0 < self.from {
            self.input.copy_within(self.from..self.until, 0);
            self.until -= self.from;
            self.from = 0;
        } else {
            // Bounded by the longest frame: a longer one is refused as soon as its length is there.
            self.input.resize(self.input.len() * 2, 0);
        }
    }
}

/// The client sends what nobody understands; its connection ends.
#[derive(Debug)]
struct HangUp;

/// What one request may touch.
struct Answer<'a> {
    at: usize,
    waiting: &'a mut VecDeque<(u64, usize)>,
    output: &'a mut Vec<u8>,
    marks: &'a mut VecDeque<(u64, usize)>,
    leaving: &'a mut bool,
    table: &'a mut Table,
    commit: &'a mut Commit,
}

impl Answer<'_> {
    /// Does one request. `false`: the batch is full, nothing was done; again later.
    fn request(&mut self, payload: &[u8]) -> Result<bool, HangUp> {
        let mut reader = Reader::new(payload);
        let header = RequestHeader::decode(&mut reader).map_err(|_| HangUp)?;
        let start = self.output.len();
        match Op::from_raw(header.op) {
            Some(Op::GetData) => {
                let path = reader.buffer().ok().flatten().ok_or(HangUp)?;
                let zxid = self.table.zxid();
                match self.table.get(path) {
                    Some(znode) => reply(self.output, header.xid, zxid, Code::Ok, |out| {
                        jute::put_buffer(out, Some(znode.data));
                        znode.stat.encode(out);
                    }),
                    None => reply(self.output, header.xid, zxid, Code::NoNode, |_| {}),
                }
            }
            Some(Op::Create) => {
                let path = reader.buffer().ok().flatten().ok_or(HangUp)?;
                let data = reader.buffer().ok().flatten().unwrap_or_default();
                let Some(batch) = self.commit.append(payload) else { return Ok(false) };
                let code = if self.table.create(path, data) { Code::Ok } else { Code::NodeExists };
                self.reply(header.xid, code, |out| {
                    if code == Code::Ok {
                        jute::put_buffer(out, Some(path));
                    }
                });
                self.hold(batch, start);
            }
            Some(Op::SetData) => {
                let path = reader.buffer().ok().flatten().ok_or(HangUp)?;
                let data = reader.buffer().ok().flatten().unwrap_or_default();
                let Some(batch) = self.commit.append(payload) else { return Ok(false) };
                match self.table.set(path, data) {
                    Some(stat) => self.reply(header.xid, Code::Ok, |out| stat.encode(out)),
                    None => self.reply(header.xid, Code::NoNode, |_| {}),
                }
                self.hold(batch, start);
            }
            Some(Op::Exists) => {
                let path = reader.buffer().ok().flatten().ok_or(HangUp)?;
                let zxid = self.table.zxid();
                match self.table.get(path) {
                    Some(znode) => reply(self.output, header.xid, zxid, Code::Ok, |out| znode.stat.encode(out)),
                    None => reply(self.output, header.xid, zxid, Code::NoNode, |_| {}),
                }
            }
            Some(Op::Delete) => {
                let path = reader.buffer().ok().flatten().ok_or(HangUp)?;
                let Some(batch) = self.commit.append(payload) else { return Ok(false) };
                let code = if self.table.delete(path) { Code::Ok } else { Code::NoNode };
                self.reply(header.xid, code, |_| {});
                self.hold(batch, start);
            }
            Some(Op::Multi) => {
                let multi = MultiRequest::decode(&mut reader).map_err(|_| HangUp)?;
                let Some(batch) = self.commit.append(payload) else { return Ok(false) };
                let zxid = self.table.zxid() + 1;
                reply(self.output, header.xid, zxid, Code::Ok, |out| {
                    for op in multi.iter() {
                        let created = match &op {
                            MultiOp::Create(create) => create
                                .path
                                .as_deref()
                                .filter(|path| self.table.create(path.as_bytes(), create.data.unwrap_or_default())),
                            _ => None,
                        };
                        match created {
                            Some(path) => {
                                MultiHeader::result(Op::Create).encode(out);
                                jute::put_string(out, path);
                            }
                            None => {
                                MultiHeader::error(Code::NodeExists.raw()).encode(out);
                                jute::put_i32(out, Code::NodeExists.raw());
                            }
                        }
                    }
                    MultiHeader::END.encode(out);
                });
                self.table.set_zxid(zxid.min(self.table.zxid()));
                self.hold(batch, start);
            }
            Some(Op::Ping) => self.reply(XID_PING, Code::Ok, |_| {}),
            Some(Op::CloseSession) => {
                self.reply(header.xid, Code::Ok, |_| {});
                *self.leaving = true;
            }
            _ => self.reply(header.xid, Code::Unimplemented, |_| {}),
        }
        Ok(true)
    }

    #[inline]
    fn reply(&mut self, xid: i32, code: Code, body: impl FnOnce(&mut Vec<u8>)) {
        reply(self.output, xid, self.table.zxid(), code, body);
    }

    /// The reply that begins at `start` waits for this batch.
    fn hold(&mut self, batch: u64, start: usize) {
        if self.marks.back().is_none_or(|(last, _)| *last < batch) {
            self.marks.push_back((batch, start));
            self.waiting.push_back((batch, self.at));
        }
    }
}

#[inline]
fn reply(output: &mut Vec<u8>, xid: i32, zxid: i64, code: Code, body: impl FnOnce(&mut Vec<u8>)) {
    let mark = frame::begin(output);
    ReplyHeader { xid, zxid, code: code.raw() }.encode(output);
    body(output);
    frame::end(output, mark);
}

/// How long the loop may sleep when the log wants to be looked at without an event.
const SECOND_LOOK: Duration = Duration::from_millis(1);
