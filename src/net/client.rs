//! The client sockets of one worker.
//!
//! Each turn a socket that has bytes is read until it has none, or its worker wants no more, and a connection that has
//! output is written once. Readiness is edge-triggered: a socket stays in the list of readable ones until a read came back
//! short, so a warm request costs one read and one write.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::clock::Now;
use crate::limits::{ACCEPT_PAUSE_MS, READ_BYTES, READ_BYTES_PER_TURN_MAX};
use crate::watch::ConnId;
use crate::worker::Worker;

/// Counts connections, per client address (`maxClientCnxns`) and all together (`maxCnxns`).
#[derive(Debug)]
pub struct Admissions {
    per_address_max: u32,
    max: u32,
    admitted: Mutex<Admitted>,
    rejected: AtomicU64,
}

#[derive(Debug, Default)]
struct Admitted {
    by_address: HashMap<IpAddr, u32>,
    all: u32,
}

/// One counted connection; uncounted when dropped.
#[derive(Debug)]
pub struct Admission {
    address: IpAddr,
    admissions: Arc<Admissions>,
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// There are this many already.
    All(u32),
    /// Its address has this many already.
    OfAddress(u32),
}

impl Admissions {
    /// At most `per_address_max` connections per address and `max` together; 0: any number.
    pub fn new(per_address_max: u32, max: u32) -> Arc<Admissions> {
        Arc::new(Admissions { per_address_max, max, admitted: Mutex::default(), rejected: AtomicU64::new(0) })
    }

    /// Connections that were refused.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    fn admit(self: &Arc<Admissions>, address: IpAddr) -> Result<Admission, Refusal> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = match admitted.by_address.get(&address) {
            _ if self.max != 0 && self.max <= admitted.all => Some(Refusal::All(self.max)),
            Some(count) if self.per_address_max != 0 && self.per_address_max <= *count => {
                Some(Refusal::OfAddress(self.per_address_max))
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return Err(refusal);
        }
        *admitted.by_address.entry(address).or_insert(0) += 1;
        admitted.all += 1;
        Ok(Admission { address, admissions: self.clone() })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut admitted = self.admissions.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        admitted.all -= 1;
        if let Some(count) = admitted.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                admitted.by_address.remove(&self.address);
            }
        }
    }
}

/// A socket that was accepted and counted.
#[derive(Debug)]
pub struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    admission: Admission,
}

/// The listening socket.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    admissions: Arc<Admissions>,
    /// More may wait in the kernel than was taken; when to look again, ms.
    again_ms: Option<u64>,
}

impl Acceptor {
    /// Accepts from a bound, non-blocking listener.
    pub fn new(listener: std::net::TcpListener, admissions: Arc<Admissions>) -> Acceptor {
        Acceptor { listener: TcpListener::from_std(listener), admissions, again_ms: None }
    }

    /// Asks for readiness.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.listener, token, Interest::READABLE)
    }

    /// Takes what waits. `take` gives a socket to a worker; `false`: it cannot, and the socket is closed.
    pub fn accept(&mut self, now: Now, mut take: impl FnMut(Accepted) -> bool) {
        self.again_ms = None;
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let admission = match self.admissions.admit(peer.ip()) {
                        Ok(admission) => admission,
                        Err(Refusal::OfAddress(max)) => {
                            tracing::warn!("Too many connections from {} - max is {max}", peer.ip());
                            continue;
                        }
                        Err(Refusal::All(max)) => {
                            tracing::warn!("Too many connections in all, closing that of {} - max is {max}", peer.ip());
                            continue;
                        }
                    };
                    if !take(Accepted { stream, peer, admission }) {
                        tracing::warn!("closing the connection of {peer}: every worker is full");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client gave up before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors or memory. Trying again at once would only burn the CPU.
                    tracing::error!("cannot accept connections: {error}; trying again in {ACCEPT_PAUSE_MS} ms");
                    self.again_ms = Some(now.mono_ms() + ACCEPT_PAUSE_MS);
                    return;
                }
            }
        }
    }

    /// When [`Acceptor::accept`] is to be called although nothing announced it, ms.
    pub fn again_ms(&self) -> Option<u64> {
        self.again_ms
    }
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    readable: bool,
    /// The client's end was announced: it is found by reading on, also behind a short read.
    ending: bool,
    writable: bool,
    _admission: Admission,
}

/// See the module.
#[derive(Debug)]
pub struct ClientSockets {
    registry: Registry,
    /// Token of the connection in slot 0.
    token_first: usize,
    sockets: Vec<Option<Socket>>,
    readable: Vec<ConnId>,
    /// Sockets that may have more than was read of them, in the order in which their turn comes.
    waiting: VecDeque<ConnId>,
    scratch: Box<[u8]>,
}

impl ClientSockets {
    /// No sockets yet; tokens from `token_first` on are theirs.
    pub fn new(registry: Registry, token_first: usize) -> ClientSockets {
        ClientSockets {
            registry,
            token_first,
            sockets: Vec::new(),
            readable: Vec::new(),
            waiting: VecDeque::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Gives an accepted socket to the worker.
    pub fn open(&mut self, accepted: Accepted, worker: &mut Worker, now: Now) {
        let Accepted { mut stream, peer, admission } = accepted;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("closing the connection of {peer}: cannot set TCP_NODELAY: {error}");
            return;
        }
        let Some(conn) = worker.open(peer, now) else {
            tracing::warn!("closing the connection of {peer}: this worker holds as many as it can");
            return;
        };
        let slot = conn.0 as usize;
        let token = Token(self.token_first + slot);
        if let Err(error) = self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            tracing::warn!("closing the connection of {peer}: cannot wait for it: {error}");
            worker.lost(conn);
            return;
        }
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        assert!(self.sockets[slot].is_none(), "slot {slot} was given out twice");
        self.sockets[slot] =
            Some(Socket { stream, readable: false, ending: false, writable: true, _admission: admission });
    }

    /// Notes what the kernel announced.
    pub fn ready(&mut self, token: Token, readable: bool, ending: bool, writable: bool, worker: &mut Worker) {
        let slot = token.0 - self.token_first;
        let Some(socket) = self.sockets.get_mut(slot).and_then(Option::as_mut) else { return };
        let conn = ConnId(slot as u32);
        socket.ending |= ending;
        if (readable || ending) && !socket.readable {
            socket.readable = true;
            self.readable.push(conn);
        }
        if writable && !socket.writable {
            socket.writable = true;
            worker.retry_output(conn);
        }
    }

    /// Whether a socket has bytes that could be read now.
    pub fn has_readable(&self, worker: &Worker) -> bool {
        self.readable.iter().chain(&self.waiting).any(|conn| worker.wants_input(*conn))
    }

    /// Reads every socket that has bytes, as far as its worker wants them. `true`: all that had arrived was heard, or waits
    /// because of its own client.
    pub fn read(&mut self, worker: &mut Worker) -> bool {
        let mut heard_all = true;
        let waiting = self.waiting.len();
        // Who has just sent something is not kept waiting by those that always have more.
        let fresh = std::mem::take(&mut self.readable);
        for conn in &fresh {
            heard_all &= self.read_or_wait(*conn, worker);
        }
        self.readable = fresh;
        self.readable.clear();
        for _ in 0..waiting {
            if worker.is_short() {
                // Those that are left are first in the next turn.
                return false;
            }
            let conn = self.waiting.pop_front().expect("they were counted");
            heard_all &= self.read_or_wait(conn, worker);
        }
        heard_all
    }

    /// Reads one socket, which waits for the next turn if there may be more in it. `false`: because of the server.
    fn read_or_wait(&mut self, conn: ConnId, worker: &mut Worker) -> bool {
        if !self.read_one(conn, worker) {
            return true;
        }
        self.waiting.push_back(conn);
        !worker.is_short() && !worker.wants_input(conn) && !worker.waits_for_replica(conn)
    }

    /// Reads one socket. `true`: there may be more in it.
    fn read_one(&mut self, conn: ConnId, worker: &mut Worker) -> bool {
        let slot = conn.0 as usize;
        let Some(socket) = self.sockets[slot].as_mut() else { return false };
        let mut read_bytes = 0;
        while worker.wants_input(conn) {
            match socket.stream.read(&mut self.scratch) {
                Ok(0) => {
                    socket.readable = false;
                    worker.hung_up(conn);
                    return false;
                }
                Ok(bytes) => {
                    worker.input(conn, &self.scratch[..bytes]);
                    read_bytes += bytes;
                    if bytes < self.scratch.len() && !socket.ending {
                        // A short read emptied it; what comes later is announced.
                        socket.readable = false;
                        return false;
                    }
                    if READ_BYTES_PER_TURN_MAX <= read_bytes {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.readable = false;
                    return false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!("connection {}: {error}", conn.0);
                    worker.broke(conn);
                    self.close(conn, worker);
                    return false;
                }
            }
        }
        true
    }

    /// Writes every connection that has output, once, and closes those that are through.
    pub fn write(&mut self, worker: &mut Worker) {
        while let Some(conn) = worker.next_dirty() {
            let Some(socket) = self.sockets.get_mut(conn.0 as usize).and_then(Option::as_mut) else { continue };
            let output = worker.output(conn);
            if socket.writable && !output.is_empty() {
                match socket.stream.write(output) {
                    Ok(bytes) => {
                        // A short write means that the kernel has no more room; it announces when it has.
                        socket.writable = bytes == output.len();
                        worker.wrote(conn, bytes);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable = false,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                        worker.retry_output(conn);
                        continue;
                    }
                    Err(error) => {
                        tracing::debug!("connection {}: {error}", conn.0);
                        self.close(conn, worker);
                        continue;
                    }
                }
            }
            if worker.is_finished(conn) {
                self.close(conn, worker);
            }
        }
    }

    fn close(&mut self, conn: ConnId, worker: &mut Worker) {
        if let Some(mut socket) = self.sockets[conn.0 as usize].take() {
            // Closing the descriptor would end the registration too; an error here changes nothing.
            let _ = self.registry.deregister(&mut socket.stream);
        }
        worker.lost(conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_per_address_and_together() {
        let admissions = Admissions::new(2, 3);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
        let first = admissions.admit(one).unwrap();
        let _second = admissions.admit(one).unwrap();
        assert_eq!(admissions.admit(one).unwrap_err(), Refusal::OfAddress(2));
        let _third = admissions.admit(other).unwrap();
        assert_eq!(admissions.admit(other).unwrap_err(), Refusal::All(3));
        assert_eq!(admissions.rejected(), 2);
        drop(first);
        let again = admissions.admit(other).unwrap();
        assert_eq!(admissions.admit(one).unwrap_err(), Refusal::All(3));
        drop(again);
        assert!(admissions.admit(one).is_ok());
        let unlimited = Admissions::new(0, 0);
        let many: Vec<_> = (0..100).map(|_| unlimited.admit(one).unwrap()).collect();
        assert_eq!((many.len(), unlimited.rejected()), (100, 0));
    }
}
