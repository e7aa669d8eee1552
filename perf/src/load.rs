//! The load generator: many connections per thread, one read and one write per connection and turn.
//!
//! Guarantees: a latency begins when the request was *due*. In the closed loop that is when the reply before it made
//! room; in the open loop it is a fixed time, whatever the server or this generator did meanwhile, so a stall counts
//! for every request it held up (no coordinated omission). Every reply is checked: order of xids, zxids that never
//! fall, bodies that belong to the request, and what a connection wrote is what it reads.
//!
//! Knows nothing of the server behind the address.

mod judge;

use crate::limits::READ_BYTES;
use crate::rounds;
use crate::shape::{MULTI_CREATES, Shape, Work};
use crate::stats::{SECOND_NS, Summary, Tally, median};
use crate::tree::{Share, Tree, folder_prefix};
use crate::wire::{self, Random, Session, Stamp, Template};
use judge::Judged;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use zorilla_proto::client::XID_PING;
use zorilla_proto::frame::{self, Framed};

/// A run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The server.
    pub address: SocketAddr,
    /// What is asked for.
    pub shape: Shape,
    /// Threads that share the connections.
    pub threads: u32,
    /// Load before the measured window begins.
    pub warmup: Duration,
    /// The measured window; ignored when `ops` is set.
    pub window: Duration,
    /// Ends after this many requests instead, all of them measured.
    pub ops: Option<u64>,
    /// Znodes to get and set, loaded before the run; at least one per client.
    pub keys: u32,
    /// Gets and sets the znodes of this tree, which nobody has set yet, instead of loading any.
    pub over: Option<Tree>,
    /// What the sessions ask for.
    pub session_timeout_ms: i32,
    /// Decides keys, data and paths.
    pub seed: u64,
    /// Writes above this are recorded as stalls; zero records none.
    pub stall: Duration,
}

impl Spec {
    /// A run of `shape` with everything else as usual.
    pub fn new(address: SocketAddr, shape: Shape) -> Spec {
        Spec {
            address,
            shape,
            threads: 1,
            warmup: Duration::from_secs(2),
            window: Duration::from_secs(5),
            ops: None,
            keys: 10_000,
            over: None,
            session_timeout_ms: 30_000,
            seed: 1,
            stall: Duration::ZERO,
        }
    }

    /// The keys in use: the same number for each client.
    fn keys_each(&self) -> u32 {
        (self.keys / self.shape.clients).max(1)
    }

    /// Whether the tree of `over` is what the shape works on, in words if it is not.
    fn check_over(&self) -> Result<(), String> {
        let Some(tree) = &self.over else { return Ok(()) };
        if !matches!(self.shape.work, Work::Set | Work::Get | Work::Mixed) {
            return Err(format!("{}: only set, get and mixed work over a tree that is there", self.shape));
        }
        if self.shape.data_bytes() != tree.data_bytes {
            return Err(format!("{}: the znodes of the tree have {} bytes", self.shape, tree.data_bytes));
        }
        Ok(())
    }
}

/// Moments of a run, for who watches the server meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Everything is prepared; the load begins now.
    Begins,
    /// The measured window begins.
    WindowBegins,
    /// The measured window is over; replies in flight are still awaited. What comes in rounds has a window in each.
    WindowEnds,
}

/// What came out of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was counted.
    pub tally: Tally,
    /// Length of the measured window; of rounds, the sum of what was measured.
    pub seconds: f64,
    /// Of what comes in rounds: successes per second of each.
    pub rounds: Vec<f64>,
    /// What creates have made; of other work, the root alone.
    pub tree: Tree,
    /// What sets have done to `Spec::over`.
    pub changed: Changed,
}

/// What sets have done to a tree that was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Sets that were sent.
    pub sets: u64,
    /// Different znodes among them.
    pub znodes: u64,
}

impl Outcome {
    /// The figures.
    pub fn summary(&self) -> Summary {
        let summary = self.tally.summary(self.seconds);
        match median(&self.rounds) {
            None => summary,
            Some(ops_per_s) => Summary {
                ops_per_s,
                worst_second: self.rounds.iter().copied().fold(f64::INFINITY, f64::min) as u64,
                series: Vec::new(),
                rounds: self.rounds.clone(),
                ..summary
            },
        }
    }
}

/// How long replies are awaited after the load has ended.
const DRAIN: Duration = Duration::from_secs(10);

/// A run of a number of requests, which has no end in time, is given up when nothing was answered for this long.
const PATIENCE_NS: u64 = 60 * SECOND_NS;

/// When a run does what, in nanoseconds after `epoch`.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    epoch: Instant,
    window_from_ns: u64,
    window_until_ns: u64,
}

/// Runs the load. `watch` is called on this thread at each moment.
pub fn run(spec: &Spec, watch: &mut dyn FnMut(Moment)) -> io::Result<Outcome> {
    if spec.shape.work.is_rounds() {
        return rounds::run(spec, watch);
    }
    spec.check_over().map_err(io::Error::other)?;
    let root = match &spec.over {
        Some(tree) => tree.root.clone(),
        None => prepare(spec).map_err(|error| io::Error::new(error.kind(), format!("preparing the run: {error}")))?,
    };
    let threads = spec.threads.clamp(1, spec.shape.clients);
    let barrier = Barrier::new(threads as usize + 1);
    let timeline = OnceLock::new();
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (root, barrier, timeline, failed) = (&root, &barrier, &timeline, &failed);
                scope.spawn(move || {
                    let connected = Worker::connect(spec, root, thread, threads);
                    if connected.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    // The barriers order the flag and the timeline: everybody is past the first one before the
                    // main thread looks, and it has written before anybody is past the second one.
                    barrier.wait();
                    barrier.wait();
                    let worker = connected?;
                    match timeline.get() {
                        Some(timeline) => worker.run(*timeline),
                        // Another thread could not connect, and says why.
                        None => Ok(worker.done()),
                    }
                })
            })
            .collect();
        barrier.wait();
        let ready = !failed.load(Ordering::Relaxed);
        let epoch = Instant::now();
        let (window_from, window_until) = match spec.ops {
            Some(_) => (Duration::ZERO, Duration::MAX),
            None => (spec.warmup, spec.warmup + spec.window),
        };
        if ready {
            watch(Moment::Begins);
            let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let times = Timeline { epoch, window_from_ns: ns(window_from), window_until_ns: ns(window_until) };
            timeline.set(times).expect("the only writer");
        }
        barrier.wait();
        if ready {
            thread::sleep(window_from.saturating_sub(epoch.elapsed()));
            watch(Moment::WindowBegins);
            if spec.ops.is_none() {
                thread::sleep(window_until.saturating_sub(epoch.elapsed()));
                watch(Moment::WindowEnds);
            }
        }
        let mut tally = Tally::new(spec.stall.as_nanos() as u64);
        let mut failure = None;
        let mut tree = Tree { data_bytes: spec.shape.data_bytes(), seed: spec.seed, ..Tree::default() };
        if spec.shape.work == Work::Create {
            tree.folders = vec![0; spec.shape.clients as usize];
        }
        let mut changed = Changed::default();
        for worker in workers {
            match worker.join().expect("the generator's threads do not panic") {
                Ok(done) => {
                    tally.merge(done.tally);
                    changed.sets += done.changed.sets;
                    changed.znodes += done.changed.znodes;
                    for (index, created) in done.created {
                        tree.folders[index as usize] = created;
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let seconds = match spec.ops {
            Some(_) => {
                watch(Moment::WindowEnds);
                (tally.last_reply_ns as f64 / 1e9).max(1e-9)
            }
            None => spec.window.as_secs_f64(),
        };
        tree.root.clone_from(&root);
        Ok(Outcome { tally, seconds, rounds: Vec::new(), tree, changed })
    })
}

/// The znode whose children are listed, and what their names begin with.
const PARENT: &str = "parent";
const CHILD: &str = "n";

/// Ephemerals that a session holds before each further one is followed by the delete of the oldest.
const EPHEMERALS_HELD: u32 = 16;

/// Creates the znodes that the run works under; returns the root of its own.
fn prepare(spec: &Spec) -> io::Result<String> {
    let mut session = Session::open(spec.address, spec.session_timeout_ms)?;
    // Fixed in length, and another one for every run against the same server.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let root = format!("/load-{:08x}", Random::new(since.as_nanos() as u64 ^ spec.seed).next() as u32);
    session.send_create(&root, b"")?;
    session.read_success()?;
    if spec.shape.work.needs_keys() {
        let data = wire::filler(spec.shape.data_bytes(), spec.seed);
        session.preload(&format!("{root}/k"), &data, spec.keys_each() * spec.shape.clients)?;
    }
    if spec.shape.work == Work::Children {
        session.send_create(&format!("{root}/{PARENT}"), b"")?;
        session.read_success()?;
        let data = wire::filler(spec.shape.data_bytes(), spec.seed);
        session.preload(&format!("{root}/{PARENT}/{CHILD}"), &data, spec.shape.size as u32)?;
    }
    session.close()?;
    Ok(root)
}

/// What a request was, kept until its reply.
#[derive(Clone, Copy, Debug)]
struct Pending {
    due_ns: u64,
    /// The stamp that was written; of a get, what the reply must show as far as it is known.
    stamp: Stamp,
    xid: i32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ping,
    Create,
    Set,
    /// A znode that this connection alone sets: its stamp is known.
    GetOwn,
    Get,
    Delete,
    Exists,
    Children,
    /// Keeps the session alive and is not counted.
    KeepAlive,
    Close,
}

/// One connection.
struct Connection {
    socket: TcpStream,
    index: u32,
    /// Bytes `from..until` were received and not yet understood.
    input: Vec<u8>,
    from: usize,
    until: usize,
    output: Vec<u8>,
    written: usize,
    /// The socket took less than it was offered; it will say when it has room.
    blocked: bool,
    pending: VecDeque<Pending>,
    xid: i32,
    last_zxid: i64,
    last_write_zxid: i64,
    creates: Template,
    deletes: Template,
    created: u32,
    /// Of ephemerals, which go in the order in which they came.
    deleted: u32,
    /// How often each of its keys was set.
    sequences: Vec<u32>,
    /// Its part of a tree that was there.
    over: Option<Box<Over>>,
    /// An own write failed: versions are unknown from then on.
    inexact: bool,
    last_sent_ns: u64,
    alive: bool,
    /// The end of the session was asked for: the server closes the connection behind its answer.
    closing: bool,
}

/// A connection's part of a tree that was there.
struct Over {
    share: Share,
    gets: Template,
    sets: Template,
}

/// What a thread has counted when its run is over.
struct Done {
    tally: Tally,
    /// How many znodes each of its connections made, where creates are the work.
    created: Vec<(u32, u32)>,
    changed: Changed,
}

/// One thread's share of the run.
struct Worker<'s> {
    spec: &'s Spec,
    poll: Poll,
    connections: Vec<Connection>,
    filler: Vec<u8>,
    sets: Template,
    gets: Template,
    exists: Template,
    children: Template,
    pings: Template,
    closes: Template,
    keep_alive_ns: u64,
    thread: u32,
    threads: u32,
    /// Requests this thread may send; `u64::MAX` without a bound.
    budget: u64,
    random: Random,
    tally: Tally,
    timeline: Timeline,
}

impl<'s> Worker<'s> {
    fn connect(spec: &'s Spec, root: &str, thread: u32, threads: u32) -> io::Result<Worker<'s>> {
        let indexes: Vec<u32> = (0..spec.shape.clients).filter(|index| index % threads == thread).collect();
        let describe =
            |error: io::Error| io::Error::new(error.kind(), format!("connecting to {}: {error}", spec.address));
        let sockets: Vec<_> = indexes
            .iter()
            .map(|_| Session::begin(spec.address, spec.session_timeout_ms))
            .collect::<io::Result<_>>()
            .map_err(describe)?;
        let mut sessions: Vec<_> =
            sockets.into_iter().map(Session::established).collect::<io::Result<_>>().map_err(describe)?;
        if spec.shape.work.needs_folders() {
            for (session, index) in sessions.iter_mut().zip(&indexes) {
                session.send_create(&format!("{root}/c{index:04x}"), b"")?;
            }
            for session in &mut sessions {
                session.read_success()?;
            }
        }
        let timeout_ms = sessions.iter().map(|session| session.timeout_ms).min().unwrap_or(spec.session_timeout_ms);
        let poll = Poll::new()?;
        let seed = spec.over.as_ref().map_or(spec.seed, |tree| tree.seed);
        let filler = wire::filler(spec.shape.data_bytes(), seed);
        let mut connections = Vec::with_capacity(sessions.len());
        for (at, (session, index)) in sessions.into_iter().zip(&indexes).enumerate() {
            let over = match &spec.over {
                None => None,
                Some(tree) => {
                    let share = tree.share(*index, spec.shape.clients).map_err(io::Error::other)?;
                    let prefix = tree.prefix(share.folder);
                    let gets = Template::get(&prefix);
                    Some(Box::new(Over { share, gets, sets: Template::set(&prefix, &filler) }))
                }
            };
            let keys = match &over {
                Some(over) => over.share.count as usize,
                None if spec.shape.work.needs_keys() => spec.keys_each() as usize,
                None => 0,
            };
            let prefix = folder_prefix(root, *index);
            session.socket.set_read_timeout(None)?;
            session.socket.set_write_timeout(None)?;
            session.socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(session.socket);
            poll.registry().register(&mut socket, Token(at), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(Connection {
                socket,
                index: *index,
                input: vec![0; READ_BYTES],
                from: 0,
                until: 0,
                output: Vec::new(),
                written: 0,
                blocked: false,
                pending: VecDeque::with_capacity(spec.shape.pipeline as usize + 2),
                xid: 1_000,
                last_zxid: 0,
                last_write_zxid: 0,
                creates: match spec.shape.work {
                    Work::Multi => Template::multi(&prefix, &filler, MULTI_CREATES),
                    Work::Ephemeral => Template::ephemeral(&prefix, &filler),
                    _ => Template::create(&prefix, &filler),
                },
                deletes: Template::delete(&prefix),
                created: 0,
                deleted: 0,
                sequences: vec![0; keys],
                over,
                inexact: false,
                last_sent_ns: 0,
                alive: true,
                closing: false,
            });
        }
        let prefix = format!("{root}/k");
        let budget = match spec.ops {
            Some(ops) => ops / u64::from(threads) + u64::from(u64::from(thread) < ops % u64::from(threads)),
            None => u64::MAX,
        };
        Ok(Worker {
            poll,
            connections,
            sets: Template::set(&prefix, &filler),
            gets: Template::get(&prefix),
            exists: Template::exists(&prefix),
            children: Template::children(&format!("{root}/{PARENT}")),
            pings: Template::ping(),
            closes: Template::close(),
            filler,
            keep_alive_ns: u64::try_from(timeout_ms).unwrap_or(1_000) * 1_000_000 / 3,
            thread,
            threads,
            budget,
            random: Random::new(spec.seed ^ u64::from(thread) << 32),
            tally: Tally::new(spec.stall.as_nanos() as u64),
            timeline: Timeline { epoch: Instant::now(), window_from_ns: 0, window_until_ns: 0 },
            spec,
        })
    }

    fn now(&self) -> u64 {
        self.timeline.epoch.elapsed().as_nanos() as u64
    }

    fn run(mut self, timeline: Timeline) -> io::Result<Done> {
        self.timeline = timeline;
        match self.spec.shape.rate {
            None => self.closed_loop()?,
            Some(rate) => self.open_loop(rate)?,
        }
        self.drain()?;
        self.tally.unanswered = self.connections.iter().map(|connection| counted(&connection.pending)).sum();
        self.close();
        Ok(self.done())
    }

    fn done(self) -> Done {
        let creates = self.spec.shape.work == Work::Create;
        let connections = self.connections.iter();
        let created = connections.clone().filter(|_| creates).map(|it| (it.index, it.created)).collect();
        let mut changed = Changed::default();
        for connection in connections.filter(|it| it.over.is_some()) {
            changed.sets += connection.sequences.iter().map(|count| u64::from(*count)).sum::<u64>();
            changed.znodes += connection.sequences.iter().filter(|count| **count != 0).count() as u64;
        }
        Done { tally: self.tally, created, changed }
    }

    /// Every reply makes room for a request.
    fn closed_loop(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        for at in 0..self.connections.len() {
            self.refill(at);
        }
        let mut keep_alive_at = SECOND_NS;
        loop {
            let now = self.now();
            let silent = self.spec.ops.is_some() && self.tally.last_reply_ns + PATIENCE_NS <= now;
            let idle = self.budget == 0 && self.connections.iter().all(|it| !it.alive || it.pending.is_empty());
            if self.timeline.window_until_ns <= now || idle || silent || self.connections.iter().all(|it| !it.alive) {
                return Ok(());
            }
            if keep_alive_at <= now {
                keep_alive_at = now + SECOND_NS;
                self.keep_alive(now);
            }
            let wait = Duration::from_nanos(self.timeline.window_until_ns - now).min(Duration::from_millis(100));
            poll(&mut self.poll, &mut events, wait)?;
            for event in &events {
                let at = event.token().0;
                self.ready(at, event);
                self.refill(at);
            }
        }
    }

    /// Requests are due at fixed times. A connection at its bound is passed over; if all are, the request stays due,
    /// and its latency counts from then.
    fn open_loop(&mut self, rate: u32) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let due = |request: u64| (request as u128 * u128::from(SECOND_NS) / u128::from(rate)) as u64;
        let mut request = u64::from(self.thread);
        let mut turn = 0;
        let mut keep_alive_at = SECOND_NS;
        loop {
            let now = self.now();
            if self.timeline.window_until_ns <= now
                || self.budget == 0
                || (self.spec.ops.is_some() && self.tally.last_reply_ns + PATIENCE_NS <= now)
                || self.connections.iter().all(|connection| !connection.alive)
            {
                return Ok(());
            }
            while due(request) <= now && self.budget != 0 {
                let bound = self.spec.shape.pipeline as usize;
                let count = self.connections.len();
                let free = (0..count)
                    .map(|step| (turn + step) % count)
                    .find(|at| self.connections[*at].alive && self.connections[*at].pending.len() < bound);
                let Some(at) = free else { break };
                turn = at + 1;
                self.issue(at, due(request));
                if self.timeline.window_from_ns <= due(request) {
                    self.tally.send_lag.saturating_record(now - due(request));
                }
                request += u64::from(self.threads);
            }
            for at in 0..self.connections.len() {
                if self.connections[at].has_output() {
                    self.flush(at, now);
                }
            }
            if keep_alive_at <= now {
                keep_alive_at = now + SECOND_NS;
                self.keep_alive(now);
            }
            // The poll counts in milliseconds and may oversleep: close to the next request we look without waiting.
            let next = due(request).min(self.timeline.window_until_ns).saturating_sub(self.now());
            let wait = Duration::from_millis((next / 1_000_000).saturating_sub(1).min(100));
            poll(&mut self.poll, &mut events, wait)?;
            for event in &events {
                self.ready(event.token().0, event);
            }
        }
    }

    /// Awaits the replies that are still due.
    fn drain(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let until = Instant::now() + DRAIN;
        while self.connections.iter().any(|connection| connection.alive && !connection.pending.is_empty()) {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            poll(&mut self.poll, &mut events, left)?;
            for event in &events {
                self.ready(event.token().0, event);
            }
        }
        Ok(())
    }

    /// Ends the sessions, so that the server does not keep them until they expire. Whether it answers is not judged.
    fn close(&mut self) {
        for at in 0..self.connections.len() {
            let now = self.now();
            let connection = &mut self.connections[at];
            if connection.alive && connection.pending.is_empty() {
                let stamp = Stamp { node: 0, writer: 0, sequence: 0 };
                connection.request(&self.closes, Kind::Close, stamp, now);
                connection.closing = true;
                self.flush(at, now);
            }
        }
        let mut events = Events::with_capacity(1024);
        let until = Instant::now() + Duration::from_secs(2);
        while self.connections.iter().any(|connection| connection.alive && !connection.pending.is_empty()) {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            if poll(&mut self.poll, &mut events, left).is_err() {
                break;
            }
            for event in &events {
                self.ready(event.token().0, event);
            }
        }
    }

    fn keep_alive(&mut self, now: u64) {
        for at in 0..self.connections.len() {
            let connection = &mut self.connections[at];
            if connection.alive && self.keep_alive_ns <= now.saturating_sub(connection.last_sent_ns) {
                let stamp = Stamp { node: 0, writer: 0, sequence: 0 };
                connection.request(&self.pings, Kind::KeepAlive, stamp, now);
                self.flush(at, now);
            }
        }
    }

    /// Fills the pipeline of a connection and sends it.
    fn refill(&mut self, at: usize) {
        if !self.connections[at].alive {
            return;
        }
        let now = self.now();
        if now < self.timeline.window_until_ns {
            while self.connections[at].pending.len() < self.spec.shape.pipeline as usize && self.budget != 0 {
                self.issue(at, now);
            }
        }
        if self.connections[at].has_output() {
            self.flush(at, now);
        }
    }

    /// Appends one request of the shape to the connection's output.
    fn issue(&mut self, at: usize, due_ns: u64) {
        self.budget -= u64::from(self.budget != u64::MAX);
        let connection = &mut self.connections[at];
        let writer = connection.index;
        let clients = self.spec.shape.clients;
        let keys_each = connection.sequences.len() as u32;
        let get = match self.spec.shape.work {
            Work::Ping => {
                return connection.request(&self.pings, Kind::Ping, Stamp { node: 0, writer, sequence: 0 }, due_ns);
            }
            Work::Ephemeral if connection.deleted + EPHEMERALS_HELD < connection.created => {
                let stamp = Stamp { node: connection.deleted, writer, sequence: 0 };
                connection.deleted += 1;
                return connection.own(Kind::Delete, stamp, due_ns);
            }
            Work::Create | Work::Ephemeral => {
                let stamp = Stamp { node: connection.created, writer, sequence: 0 };
                connection.created += 1;
                return connection.own(Kind::Create, stamp, due_ns);
            }
            Work::Multi => {
                let stamp = Stamp { node: connection.created, writer, sequence: 0 };
                connection.created += MULTI_CREATES;
                return connection.own(Kind::Create, stamp, due_ns);
            }
            Work::Exists => {
                let node = self.random.below(keys_each * clients);
                let stamp = Stamp { node, writer, sequence: 0 };
                return connection.request(&self.exists, Kind::Exists, stamp, due_ns);
            }
            Work::Children => {
                return connection.request(
                    &self.children,
                    Kind::Children,
                    Stamp { node: 0, writer, sequence: 0 },
                    due_ns,
                );
            }
            // These do not come here: `run` gives them to `rounds`.
            Work::Watches | Work::SharedWatches | Work::Sessions => return,
            Work::Set => false,
            Work::Get => true,
            Work::Mixed => self.random.below(10) != 0,
        };
        if let Some(over) = &connection.over {
            let key = self.random.below(keys_each);
            let sequence = &mut connection.sequences[key as usize];
            *sequence += u32::from(!get);
            let stamp = Stamp { node: over.share.node(key), writer, sequence: u64::from(*sequence) };
            return connection.over(if get { Kind::GetOwn } else { Kind::Set }, stamp, due_ns);
        }
        if get {
            let node = self.random.below(keys_each * clients);
            // Only a znode's owner sets it, so the owner knows what it must read: its requests are answered in order.
            let sequence = match node % clients == writer {
                true => connection.sequences[(node / clients) as usize],
                false => 0,
            };
            let kind = if node % clients == writer { Kind::GetOwn } else { Kind::Get };
            connection.request(&self.gets, kind, Stamp { node, writer, sequence: u64::from(sequence) }, due_ns);
        } else {
            let own = self.random.below(keys_each);
            let sequence = &mut connection.sequences[own as usize];
            *sequence += 1;
            let stamp = Stamp { node: own * clients + writer, writer, sequence: u64::from(*sequence) };
            connection.request(&self.sets, Kind::Set, stamp, due_ns);
        }
    }

    fn flush(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        if connection.flush(now).is_err() {
            self.lose(at);
        }
    }

    fn lose(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.alive {
            connection.alive = false;
            // The server ends the connection behind the end of its session; that loses nothing.
            if !connection.closing {
                self.tally.connections_lost += 1;
            }
            // Deregistering fails only for a socket that the poll does not know.
            let _ = self.poll.registry().deregister(&mut connection.socket);
        }
    }

    /// The poll has something to say about a connection: reads and judges what came, sends what could not be sent.
    fn ready(&mut self, at: usize, event: &Event) {
        if !self.connections[at].alive {
            return;
        }
        if event.is_writable() && self.connections[at].blocked {
            self.connections[at].blocked = false;
            let now = self.now();
            self.flush(at, now);
        }
        if !event.is_readable() && !event.is_read_closed() {
            return;
        }
        loop {
            let connection = &mut self.connections[at];
            if !connection.alive {
                return;
            }
            connection.make_room();
            let room = connection.input.len() - connection.until;
            let read = connection.socket.read(&mut connection.input[connection.until..]);
            match read {
                Ok(0) => return self.lose(at),
                Ok(count) => {
                    connection.until += count;
                    let now = self.now();
                    self.replies(at, now);
                    // Less than there was room for: the socket is empty, and its next byte is a new event.
                    if count < room {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.lose(at),
            }
        }
    }

    /// Judges every whole reply that was received.
    fn replies(&mut self, at: usize, now: u64) {
        let connection = &mut self.connections[at];
        loop {
            let received = &connection.input[connection.from..connection.until];
            match frame::split(received, crate::limits::FRAME_BYTES_MAX) {
                Framed::Complete { payload, consumed } => {
                    let judged = Judged {
                        pending: &mut connection.pending,
                        last_zxid: &mut connection.last_zxid,
                        last_write_zxid: &mut connection.last_write_zxid,
                        inexact: &mut connection.inexact,
                        creates: &connection.creates,
                        clients: self.spec.shape.clients,
                        maker: connection.over.as_ref().map(|over| over.share.folder),
                        filler: &self.filler,
                        children: self.spec.shape.size,
                    }
                    .reply(payload, now, &self.timeline, &mut self.tally);
                    if let Err(text) = judged {
                        self.tally.violation(format!("connection {}: {text}", connection.index));
                        connection.alive = false;
                        let _ = self.poll.registry().deregister(&mut connection.socket);
                        return;
                    }
                    connection.from += consumed;
                }
                Framed::Partial { .. } => break,
                Framed::Bad(error) => {
                    self.tally.violation(format!("connection {}: {error}", connection.index));
                    connection.alive = false;
                    let _ = self.poll.registry().deregister(&mut connection.socket);
                    return;
                }
            }
        }
        if connection.from == connection.until {
            connection.from = 0;
            connection.until = 0;
        }
    }
}

/// Waits for events; a signal is no event.
fn poll(poll: &mut Poll, events: &mut Events, wait: Duration) -> io::Result<()> {
    match poll.poll(events, Some(wait)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result,
    }
}

fn counted(pending: &VecDeque<Pending>) -> u64 {
    pending.iter().filter(|pending| !matches!(pending.kind, Kind::KeepAlive | Kind::Close)).count() as u64
}

impl Connection {
    fn has_output(&self) -> bool {
        self.alive && !self.blocked && self.written < self.output.len()
    }

    fn next_xid(&mut self) -> i32 {
        self.xid = if self.xid == i32::MAX { 1 } else { self.xid + 1 };
        self.xid
    }

    fn request(&mut self, template: &Template, kind: Kind, stamp: Stamp, due_ns: u64) {
        // Pings are answered with their own xid, whatever they were sent with.
        let xid = match kind {
            Kind::Ping | Kind::KeepAlive => XID_PING,
            _ => self.next_xid(),
        };
        template.append(&mut self.output, xid, stamp);
        self.pending.push_back(Pending { due_ns, stamp, xid, kind });
    }

    /// A get or set of a znode that was there.
    fn over(&mut self, kind: Kind, stamp: Stamp, due_ns: u64) {
        let xid = self.next_xid();
        let over = self.over.as_ref().expect("only asked for by who has a part of the tree");
        let template = if kind == Kind::Set { &over.sets } else { &over.gets };
        template.append(&mut self.output, xid, stamp);
        self.pending.push_back(Pending { due_ns, stamp, xid, kind });
    }

    /// A create or delete below the znode of this connection.
    fn own(&mut self, kind: Kind, stamp: Stamp, due_ns: u64) {
        let xid = self.next_xid();
        let template = if kind == Kind::Delete { &self.deletes } else { &self.creates };
        template.append(&mut self.output, xid, stamp);
        self.pending.push_back(Pending { due_ns, stamp, xid, kind });
    }

    /// One write of all there is; the rest waits for the socket.
    fn flush(&mut self, now: u64) -> io::Result<()> {
        while self.written < self.output.len() && !self.blocked {
            match self.socket.write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.last_sent_ns = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// Makes room to read into: moves a partial frame to the front, or lets a long one grow the buffer.
    fn make_room(&mut self) {
        if self.until < self.input.len() {
            return;
        }
        if 0 < self.from {
            self.input.copy_within(self.from..self.until, 0);
            self.until -= self.from;
            self.from = 0;
        } else {
            // Bounded by the longest frame: `replies` refuses a longer one as soon as its length is there.
            self.input.resize(self.input.len() * 2, 0);
        }
    }
}
