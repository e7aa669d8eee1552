//! What all attacks stand on: the server as seen from outside, the client beside them, and crowds with sessions.

use crate::crash::conn::Conn;
use crate::crowd::{self, Arrival, Crowd};
use crate::limits::{HOSTILE_DESCRIPTORS_SPARE, HOSTILE_SIDE_MAX};
use crate::process;
use crate::stats::histogram;
use crate::wire::code_name;
use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use zorilla_proto::client::{
    AclVec, ConnectResponse, CreateMode, CreateRequest, DeleteRequest, PathWatchRequest, Request, SetDataRequest,
};
use zorilla_proto::jute::Reader;
use zorilla_proto::{Code, Zxid};

/// Below it everything is created.
pub const TOP: &str = "/hostile";

/// How long anything may take that is not measured.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses that crowds come from in turn: each has some 28,000 ports.
const SOURCES: usize = 16;

/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How long the client beside the attacks rests between two requests.
const REST: Duration = Duration::from_millis(2);

/// What an attack has to say.
pub struct Told {
    pub text: String,
    /// What should not be so.
    pub faults: Vec<String>,
}

impl Told {
    pub fn new(text: String) -> Told {
        Told { text, faults: Vec::new() }
    }

    pub fn demand(&mut self, so: bool, otherwise: impl FnOnce() -> String) {
        if !so {
            self.faults.push(otherwise());
        }
    }
}

/// The server that is attacked.
pub struct Ground {
    pub address: SocketAddr,
    pid: String,
    pub quick: bool,
    /// Connections with sessions to hold at once.
    pub connections: usize,
    pub seed: u64,
    /// The most connections that any attack held.
    pub held_most: Cell<usize>,
    /// The most anonymous memory that was seen.
    pub memory_most: Cell<u64>,
}

/// As many descriptors as this process may have.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // What is missing then is said by the attack that needs it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Bytes as MiB, for people.
pub fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// A create of an ordinary or an ephemeral znode.
pub fn create<'a>(path: &'a str, data: &'a [u8], mode: CreateMode) -> Request<'a> {
    let (path, acl) = (Some(path.into()), Some(AclVec::OPEN));
    Request::Create(CreateRequest { path, data: Some(data), acl, flags: mode.raw() })
}

/// A set, whatever the version.
pub fn set<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::SetData(SetDataRequest { path: Some(path.into()), data: Some(data), version: -1 })
}

/// A get without a watch.
pub fn get(path: &str) -> Request<'_> {
    Request::GetData(PathWatchRequest { path: Some(path.into()), watch: false })
}

/// A delete, whatever the version.
pub fn delete(path: &str) -> Request<'_> {
    Request::Delete(DeleteRequest { path: Some(path.into()), version: -1 })
}

/// A new session on a blocking connection.
pub fn open(address: SocketAddr, timeout_ms: i32) -> Result<Conn, String> {
    match Conn::open(address, None, Zxid::ZERO, timeout_ms) {
        Ok(Some((conn, _))) => Ok(conn),
        Ok(None) => Err("the server refuses a session".to_owned()),
        Err(error) => Err(format!("opening a session: {error}")),
    }
}

/// One request that must succeed; returns the body of the reply.
pub fn must(conn: &mut Conn, what: &str, request: &Request<'_>) -> Result<Vec<u8>, String> {
    let reply = conn.call(request).map_err(|error| format!("{what}: {error}"))?;
    match reply.header.code {
        0 => Ok(reply.body),
        code => Err(format!("{what}: {}", code_name(code))),
    }
}

impl Ground {
    pub fn prepare(
        address: SocketAddr,
        pid: u32,
        quick: bool,
        connections: usize,
        seed: u64,
    ) -> Result<Ground, String> {
        let mut conn = open(address, 30_000)?;
        must(&mut conn, "creating the top", &create(TOP, b"", CreateMode::Persistent))?;
        must(&mut conn, "closing", &Request::CloseSession)?;
        let (held_most, memory_most) = (Cell::new(0), Cell::new(0));
        Ok(Ground { address, pid: pid.to_string(), quick, connections, seed, held_most, memory_most })
    }

    /// The full number, or the small share.
    pub fn share(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// Anonymous memory of the server; 0 once it is gone, which the client beside the attacks notices.
    pub fn memory(&self) -> u64 {
        let bytes = process::usage(&self.pid).map_or(0, |usage| usage.anonymous_bytes);
        self.memory_most.set(self.memory_most.get().max(bytes));
        bytes
    }

    /// CPU time that the server has used, in seconds.
    pub fn cpu_s(&self) -> f64 {
        process::usage(&self.pid).map_or(0.0, |usage| usage.cpu_s)
    }

    /// Descriptors that the server has open.
    pub fn descriptors(&self) -> Result<usize, String> {
        let listed = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_err(|error| error.to_string())?;
        Ok(listed.count())
    }

    /// Notes how many connections are held.
    pub fn holds(&self, connections: usize) {
        self.held_most.set(self.held_most.get().max(connections));
    }

    /// The address that this connection comes from.
    pub fn source(&self, index: usize) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::new(127, 0, 0, 2 + (index % SOURCES) as u8))
    }

    /// Fails where this process may not open so many connections.
    pub fn check_descriptors(&self, count: usize) -> Result<(), String> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if limit < (count + HOSTILE_DESCRIPTORS_SPARE) as u64 {
            return Err(format!(
                "{count} connections need {} descriptors, a process may have {limit}: raise `ulimit -n`, or say \
                 --connections",
                count + HOSTILE_DESCRIPTORS_SPARE
            ));
        }
        Ok(())
    }

    /// Opens `count` sessions, at most `under_way` at once.
    pub fn admit(
        &self,
        crowd: &mut Crowd,
        count: usize,
        under_way: usize,
        timeout_ms: i32,
    ) -> Result<Vec<usize>, String> {
        let hello = crowd::handshake(timeout_ms);
        let mut admitted = Vec::with_capacity(count);
        let (mut begun, mut refused) = (0, 0);
        let start = Instant::now();
        while admitted.len() < count && refused == 0 {
            while begun < count && begun < admitted.len() + under_way {
                let at = crowd
                    .connect(self.address, self.source(begun))
                    .map_err(|error| format!("connection {begun}: {error}"))?;
                crowd.send(at, &hello);
                begun += 1;
            }
            turn(crowd, |at, arrival, _| match arrival {
                Arrival::Frame(payload) if granted(payload) => admitted.push(at),
                _ => refused += 1,
            })?;
            if PATIENCE < start.elapsed() {
                return Err(format!("{} of {count} sessions after {PATIENCE:?}", admitted.len()));
            }
        }
        match refused {
            0 => Ok(admitted),
            _ => Err(format!("{refused} of {count} sessions were refused")),
        }
    }

    /// Runs an attack with the client beside it; also returns the most memory that was seen.
    pub fn beside(
        &self,
        side: &mut Side,
        attack: fn(&Ground) -> Result<Told, String>,
    ) -> (Result<Told, String>, u64, Served) {
        // Relaxed: the flag and the maximum order nothing else; the joins do.
        let (stop, peak) = (AtomicBool::new(false), AtomicU64::new(self.memory()));
        let pid = &self.pid;
        let (told, served) = std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let bytes = process::usage(pid).map_or(0, |usage| usage.anonymous_bytes);
                    peak.fetch_max(bytes, Ordering::Relaxed);
                    std::thread::sleep(LOOK);
                }
            });
            let serving = scope.spawn(|| side.serve(&stop));
            let told = attack(self);
            stop.store(true, Ordering::Relaxed);
            looking.join().expect("looking does not panic");
            (told, serving.join().expect("the client does not panic"))
        });
        let peak = peak.into_inner();
        self.memory_most.set(self.memory_most.get().max(peak));
        (told, peak, served)
    }
}

/// Whether this is the answer to a handshake, and grants a session.
pub fn granted(payload: &[u8]) -> bool {
    ConnectResponse::decode(&mut Reader::new(payload)).is_ok_and(|response| 0 < response.timeout_ms)
}

/// One turn of a crowd.
pub fn turn(crowd: &mut Crowd, on: impl FnMut(usize, Arrival<'_>, &mut Vec<u8>)) -> Result<(), String> {
    crowd.turn(Duration::from_millis(20), on).map_err(|error| format!("poll: {error}"))
}

/// The well-behaved client: one session, which sets a znode and reads it back.
pub struct Side {
    conn: Conn,
    address: SocketAddr,
    sequence: u64,
}

/// What the well-behaved client saw during one attack.
pub struct Served {
    latency: Histogram<u64>,
    errors: Vec<String>,
}

const SIDE: &str = "/beside";

impl Side {
    pub fn open(address: SocketAddr) -> Result<Side, String> {
        let mut conn = open(address, 30_000)?;
        must(&mut conn, "creating the znode beside", &create(SIDE, b"", CreateMode::Persistent))?;
        Ok(Side { conn, address, sequence: 0 })
    }

    fn serve(&mut self, stop: &AtomicBool) -> Served {
        let mut served = Served { latency: histogram(), errors: Vec::new() };
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.write_and_read(&mut served.latency) {
                served.errors.push(error);
                std::thread::sleep(Duration::from_millis(100));
                if let Ok(conn) = open(self.address, 30_000) {
                    self.conn = conn;
                }
            }
            std::thread::sleep(REST);
        }
        served
    }

    fn write_and_read(&mut self, latency: &mut Histogram<u64>) -> Result<(), String> {
        self.sequence += 1;
        let data = self.sequence.to_be_bytes();
        let begun = Instant::now();
        must(&mut self.conn, "set", &set(SIDE, &data))?;
        latency.saturating_record(begun.elapsed().as_nanos() as u64);
        let begun = Instant::now();
        let body = must(&mut self.conn, "get", &get(SIDE))?;
        latency.saturating_record(begun.elapsed().as_nanos() as u64);
        match Reader::new(&body).buffer() {
            Ok(Some(read)) if read == data => Ok(()),
            other => Err(format!("get: {other:?} is not what was set, {data:?}")),
        }
    }

    /// Whether the server still serves.
    pub fn check_alive(&mut self) -> Result<(), String> {
        self.write_and_read(&mut histogram())
    }
}

impl Served {
    pub fn judge(&self, told: &mut Told, wait: Duration) {
        let (p99, most) = self.times();
        told.demand(self.errors.is_empty(), || {
            format!("{} errors of the client beside it; the first: {}", self.errors.len(), self.errors[0])
        });
        told.demand(!self.latency.is_empty(), || "the client beside it was not served once".to_owned());
        told.demand(p99 <= wait, || format!("the client beside it waited {p99:?} at p99"));
        told.demand(most <= HOSTILE_SIDE_MAX, || format!("the client beside it once waited {most:?}"));
    }

    fn times(&self) -> (Duration, Duration) {
        let p99 = if self.latency.is_empty() { 0 } else { self.latency.value_at_quantile(0.99) };
        (Duration::from_nanos(p99), Duration::from_nanos(self.latency.max()))
    }

    pub fn text(&self) -> String {
        let (p99, most) = self.times();
        format!(
            "beside it {} requests, p99 {:.1} ms, longest {:.1} ms, {} errors",
            self.latency.len(),
            p99.as_secs_f64() * 1e3,
            most.as_secs_f64() * 1e3,
            self.errors.len()
        )
    }
}

/// Deletes a znode and its children, if they are there.
pub fn clear(conn: &mut Conn, path: &str) -> Result<(), String> {
    let request = Request::GetChildren(PathWatchRequest { path: Some(path.into()), watch: false });
    let reply = conn.call(&request).map_err(|error| format!("listing {path}: {error}"))?;
    if reply.header.code == Code::NoNode.raw() {
        return Ok(());
    }
    for child in children(&reply.body)? {
        must(conn, "deleting a child", &delete(&format!("{path}/{child}")))?;
    }
    must(conn, "deleting", &delete(path)).map(|_| ())
}

/// The names in the reply to a getChildren.
pub fn children(body: &[u8]) -> Result<Vec<String>, String> {
    let mut reader = Reader::new(body);
    let wrong = |error: zorilla_proto::jute::DecodeError| format!("a list of children: {error}");
    let count = reader.i32().map_err(wrong)?;
    (0..count)
        .map(|_| {
            let name = reader.buffer().map_err(wrong)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(name).into_owned())
        })
        .collect()
}
