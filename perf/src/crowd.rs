//! Many connections on one thread, none of which waits for another.
//!
//! Guarantees: a connection costs its socket and what is half received or not yet sent, nothing else; what a server
//! does to one of them is told as an arrival and is no error. Knows frames, and nothing of what is in them.

use crate::limits::{CROWD_FRAME_BYTES_MAX, READ_BYTES};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;
use zorilla_proto::SessionId;
use zorilla_proto::Zxid;
use zorilla_proto::client::ConnectRequest;
use zorilla_proto::frame::{self, Framed};

/// What came on a connection.
#[derive(Debug)]
pub enum Arrival<'a> {
    /// A frame.
    Frame(&'a [u8]),
    /// The server has closed it, or it never came about; it is gone from the crowd.
    Closed,
}

/// The connections. They are named by their numbers, which are not used again.
pub struct Crowd {
    poll: Poll,
    events: Events,
    peers: Vec<Option<Peer>>,
    open: usize,
    scratch: Box<[u8]>,
}

struct Peer {
    socket: TcpStream,
    /// The beginning of a frame.
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// The socket took less than it was offered; it will say when it has room.
    blocked: bool,
    /// Nothing is read.
    deaf: bool,
}

/// A connection that is being made, without waiting for it. With a `source`, from that address of this machine: each
/// has ports of its own.
pub fn begin(address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(source) = source {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(TcpStream::from_std(std::net::TcpStream::from(socket)))
}

/// Closing this socket sends a reset and leaves nothing behind in the kernel.
pub fn close_with_reset(socket: &TcpStream) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// The handshake for a new session.
pub fn handshake(timeout_ms: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let mark = frame::begin(&mut out);
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms,
        session: SessionId::NONE,
        password: Some(&[0; 16]),
        read_only: Some(false),
    };
    request.encode(&mut out);
    frame::end(&mut out, mark);
    out
}

impl Crowd {
    /// Nobody yet.
    pub fn new() -> io::Result<Crowd> {
        Ok(Crowd {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            peers: Vec::new(),
            open: 0,
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    /// Begins a connection and returns its number.
    pub fn connect(&mut self, address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<usize> {
        let mut socket = begin(address, source)?;
        let at = self.peers.len();
        self.poll.registry().register(&mut socket, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        let (input, output) = (Vec::new(), Vec::new());
        // It is writable once it is made.
        self.peers.push(Some(Peer { socket, input, output, written: 0, blocked: true, deaf: false }));
        self.open += 1;
        Ok(at)
    }

    /// Connections that are open or being made.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Whether this one is among them.
    pub fn is_open(&self, at: usize) -> bool {
        self.peers[at].is_some()
    }

    /// The numbers of all connections so far.
    pub fn numbers(&self) -> std::ops::Range<usize> {
        0..self.peers.len()
    }

    /// Sends bytes, now or when there is room. Nothing happens on a connection that is gone.
    pub fn send(&mut self, at: usize, bytes: &[u8]) {
        let Some(peer) = self.peers[at].as_mut() else { return };
        peer.output.extend_from_slice(bytes);
        // What is wrong with the socket is told when it is read.
        let _ = peer.flush();
    }

    /// Bytes given to [`Crowd::send`] that the kernel has not taken.
    pub fn unsent(&self, at: usize) -> usize {
        self.peers[at].as_ref().map_or(0, |peer| peer.output.len() - peer.written)
    }

    /// Stops reading a connection, or takes it up again; then what has come meanwhile arrives in the next turn.
    pub fn set_deaf(&mut self, at: usize, deaf: bool) -> io::Result<()> {
        let Some(peer) = self.peers[at].as_mut() else { return Ok(()) };
        peer.deaf = deaf;
        // Registering again announces what is there already.
        self.poll.registry().reregister(&mut peer.socket, Token(at), Interest::READABLE | Interest::WRITABLE)
    }

    /// Closes a connection, in order or with a reset.
    pub fn close(&mut self, at: usize, reset: bool) {
        if let Some(peer) = self.peers[at].take() {
            self.open -= 1;
            if reset {
                // Without the option it is closed in order, which is only slower.
                let _ = close_with_reset(&peer.socket);
            }
        }
    }

    /// Waits for something to happen, at most for `wait`, and tells what has arrived. What `on` appends to the bytes
    /// it is given is sent on the same connection.
    pub fn turn(&mut self, wait: Duration, mut on: impl FnMut(usize, Arrival<'_>, &mut Vec<u8>)) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            let at = event.token().0;
            let Some(peer) = self.peers.get_mut(at).and_then(Option::as_mut) else { continue };
            if event.is_writable() {
                peer.blocked = false;
            }
            let mut alive = true;
            if !peer.deaf && (event.is_readable() || event.is_read_closed() || event.is_error()) {
                alive = peer.receive(&mut self.scratch, |payload, output| on(at, Arrival::Frame(payload), output));
            }
            if peer.flush().is_err() && !peer.deaf {
                alive = false;
            }
            if !alive {
                self.peers[at] = None;
                self.open -= 1;
                on(at, Arrival::Closed, &mut Vec::new());
            }
        }
        Ok(())
    }
}

impl Peer {
    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.output.len() && !self.blocked {
            match self.socket.write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.written == self.output.len() {
            self.written = 0;
            // A crowd is large: who has nothing to say keeps no room for it.
            if READ_BYTES < self.output.capacity() { self.output = Vec::new() } else { self.output.clear() }
        }
        Ok(())
    }

    /// Reads until the socket is empty. `false`: it is closed, or says what no server may.
    fn receive(&mut self, scratch: &mut [u8], mut on: impl FnMut(&[u8], &mut Vec<u8>)) -> bool {
        loop {
            let count = match self.socket.read(scratch) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            let mut received = &scratch[..count];
            // A frame that began earlier is completed byte for byte, so that the rest is read where it stands.
            while !self.input.is_empty() && !received.is_empty() {
                let needed = match frame::split(&self.input, CROWD_FRAME_BYTES_MAX) {
                    Framed::Partial { needed } => needed.min(received.len()),
                    _ => return false,
                };
                let (part, rest) = received.split_at(needed);
                self.input.extend_from_slice(part);
                received = rest;
                match frame::split(&self.input, CROWD_FRAME_BYTES_MAX) {
                    Framed::Complete { payload, .. } => {
                        on(payload, &mut self.output);
                        self.input = Vec::new();
                    }
                    Framed::Partial { .. } => {}
                    Framed::Bad(_) => return false,
                }
            }
            loop {
                match frame::split(received, CROWD_FRAME_BYTES_MAX) {
                    Framed::Complete { payload, consumed } => {
                        on(payload, &mut self.output);
                        received = &received[consumed..];
                    }
                    Framed::Partial { .. } => break,
                    Framed::Bad(_) => return false,
                }
            }
            if !received.is_empty() {
                self.input.extend_from_slice(received);
            }
        }
    }
}
