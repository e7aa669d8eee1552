//! Work that comes in rounds: watches that all fire, and sessions that are all opened.
//!
//! A round of watches: every connection leaves its watches, and only then one more connection sets every watched znode
//! once; measured from its first set to the last event, the sets included. A round of sessions: measured from the first
//! connection to the last answered handshake; then the sessions are closed.
//!
//! Guarantees: every connection gets each event it waits for exactly once and no other; one that does not fails the
//! run. Latencies are those of a single event or handshake, counted from the round's first set and from its connect.

use crate::crowd::{self, Arrival, Crowd};
use crate::limits::{ROUNDS_MAX, ROUNDS_MIN};
use crate::load::{Changed, Moment, Outcome, Spec};
use crate::shape::Work;
use crate::stats::Tally;
use crate::tree::Tree;
use crate::wire::{self, PRELOADED, Random, Session, Stamp, Template};
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use zorilla_proto::client::{ConnectResponse, EventType, ReplyHeader, WatcherEvent, XID_NOTIFICATION};
use zorilla_proto::jute::Reader;

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Addresses that sessions come from in turn, so that no round waits for ports of the one before.
const SOURCES: u8 = 8;

/// One measured stretch.
struct Round {
    done: u64,
    took: Duration,
}

/// Runs rounds until the time of `spec` is over; those of its warm-up are not counted.
pub fn run(spec: &Spec, watch: &mut dyn FnMut(Moment)) -> io::Result<Outcome> {
    let mut tally = Tally::new(0);
    let mut rounds = Vec::new();
    let mut seconds = 0.0;
    let mut watches = match spec.shape.work {
        Work::Sessions => None,
        _ => Some(Watches::prepare(spec)?),
    };
    watch(Moment::Begins);
    let begun = Instant::now();
    for number in 0.. {
        let warm = spec.ops.is_some() || spec.warmup <= begun.elapsed();
        let enough = match spec.ops {
            Some(ops) => ops <= rounds.len() as u64,
            None => ROUNDS_MIN <= rounds.len() && spec.warmup + spec.window <= begun.elapsed(),
        };
        if enough || ROUNDS_MAX <= rounds.len() {
            break;
        }
        let mut warming = Tally::new(0);
        let counted = if warm { &mut tally } else { &mut warming };
        let mut look = |moment| {
            if warm {
                watch(moment);
            }
        };
        let round = match &mut watches {
            Some(watches) => watches.round(number, counted, &mut look)?,
            None => sessions(spec, number, counted, &mut look)?,
        };
        if tally.violations != 0 || warming.violations != 0 {
            tally.violations += warming.violations;
            tally.violation_texts.extend(warming.violation_texts);
            break;
        }
        if warm {
            let took = round.took.as_secs_f64().max(1e-9);
            seconds += took;
            tally.succeeded += round.done;
            rounds.push(round.done as f64 / took);
        }
    }
    Ok(Outcome { tally, seconds: seconds.max(1e-9), rounds, tree: Tree::default(), changed: Changed::default() })
}

/// Opens the sessions of one round and closes them again.
fn sessions(spec: &Spec, number: u32, tally: &mut Tally, look: &mut dyn FnMut(Moment)) -> io::Result<Round> {
    let count = spec.shape.clients as usize;
    let mut crowd = Crowd::new()?;
    let mut begun: Vec<Instant> = Vec::with_capacity(count);
    let mut granted = vec![false; count];
    let hello = crowd::handshake(spec.session_timeout_ms);
    let (mut done, mut under_way) = (0, 0usize);
    look(Moment::WindowBegins);
    let start = Instant::now();
    let mut end = start;
    while done < count && tally.violations == 0 {
        while under_way < spec.shape.pipeline as usize && begun.len() < count {
            // Loopback addresses beyond the first need not exist on other machines' interfaces.
            let own = spec.address.ip() == Ipv4Addr::LOCALHOST;
            let source = own.then(|| Ipv4Addr::new(127, 0, 0, 1 + number as u8 % SOURCES));
            begun.push(Instant::now());
            let at = crowd.connect(spec.address, source)?;
            crowd.send(at, &hello);
            under_way += 1;
        }
        if PATIENCE < start.elapsed() {
            tally.unanswered += (count - done) as u64;
            return Ok(Round { done: done as u64, took: start.elapsed() });
        }
        crowd.turn(Duration::from_millis(100), |at, arrival, _| match arrival {
            Arrival::Frame(payload) => {
                let response = ConnectResponse::decode(&mut Reader::new(payload));
                if !granted[at] && response.is_ok_and(|response| 0 < response.timeout_ms) {
                    granted[at] = true;
                    done += 1;
                    under_way -= 1;
                    end = Instant::now();
                    tally.latency.saturating_record((end - begun[at]).as_nanos() as u64);
                } else {
                    tally.violation(format!(
                        "session {at}: the answer to its handshake grants none, or is a second one"
                    ));
                }
            }
            Arrival::Closed => tally.violation(format!("session {at}: closed during its handshake")),
        })?;
    }
    look(Moment::WindowEnds);
    let mut goodbye = Vec::new();
    Template::close().append(&mut goodbye, 1, Stamp { node: 0, writer: 0, sequence: 0 });
    for at in crowd.numbers() {
        crowd.send(at, &goodbye);
    }
    let mut closed = vec![false; crowd.numbers().len()];
    let until = Instant::now() + PATIENCE;
    while !closed.iter().all(|closed| *closed) && Instant::now() < until {
        crowd.turn(Duration::from_millis(100), |at, _, _| closed[at] = true)?;
        for at in crowd.numbers() {
            if closed[at] {
                crowd.close(at, true);
            }
        }
    }
    Ok(Round { done: done as u64, took: end - start })
}

/// Connections that watch, and one that sets.
struct Watches {
    crowd: Crowd,
    /// The number of the connection that sets; those before it watch.
    writer: usize,
    gets: Template,
    sets: Template,
    watched_each: u32,
    /// The znodes are the same for all connections.
    shared: bool,
    xid: i32,
}

impl Watches {
    fn prepare(spec: &Spec) -> io::Result<Watches> {
        let describe = |error: io::Error| io::Error::new(error.kind(), format!("preparing the run: {error}"));
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let root = format!("/load-{:08x}", Random::new(since.as_nanos() as u64 ^ spec.seed).next() as u32);
        let shared = spec.shape.work == Work::SharedWatches;
        let nodes = spec.shape.pipeline * if shared { 1 } else { spec.shape.clients };
        let data = wire::filler(spec.shape.data_bytes(), spec.seed);
        let prefix = format!("{root}/k");
        let mut session = Session::open(spec.address, spec.session_timeout_ms).map_err(describe)?;
        session.send_create(&root, b"").and_then(|()| session.read_success()).map_err(describe)?;
        session.preload(&prefix, &data, nodes).map_err(describe)?;
        session.close().map_err(describe)?;
        let mut crowd = Crowd::new()?;
        let writer = spec.shape.clients as usize;
        let hello = crowd::handshake(spec.session_timeout_ms);
        for _ in 0..=writer {
            let at = crowd.connect(spec.address, None)?;
            crowd.send(at, &hello);
        }
        let mut granted = 0;
        let until = Instant::now() + PATIENCE;
        while granted <= writer && crowd.open() == writer + 1 && Instant::now() < until {
            crowd.turn(Duration::from_millis(100), |_, arrival, _| {
                let Arrival::Frame(payload) = arrival else { return };
                let response = ConnectResponse::decode(&mut Reader::new(payload));
                granted += usize::from(response.is_ok_and(|response| 0 < response.timeout_ms));
            })?;
        }
        if granted <= writer {
            return Err(io::Error::other(format!("preparing the run: {granted} of {} sessions", writer + 1)));
        }
        Ok(Watches {
            crowd,
            writer,
            gets: Template::get_and_watch(&prefix),
            sets: Template::set(&prefix, &data),
            watched_each: spec.shape.pipeline,
            shared,
            xid: 0,
        })
    }

    /// The first znode that this connection watches.
    fn first_of(&self, at: usize) -> u32 {
        if self.shared { 0 } else { at as u32 * self.watched_each }
    }

    fn round(&mut self, number: u32, tally: &mut Tally, look: &mut dyn FnMut(Moment)) -> io::Result<Round> {
        let each = self.watched_each as usize;
        let mut out = Vec::new();
        for at in 0..self.writer {
            out.clear();
            for node in 0..self.watched_each {
                let stamp = Stamp { node: self.first_of(at) + node, writer: PRELOADED, sequence: 0 };
                self.gets.append(&mut out, self.xid + 1 + node as i32, stamp);
            }
            self.crowd.send(at, &out);
        }
        self.collect(tally, self.writer * each, 0, None)?;
        out.clear();
        let nodes = if self.shared { self.watched_each } else { self.watched_each * self.writer as u32 };
        for node in 0..nodes {
            let stamp = Stamp { node, writer: 0, sequence: u64::from(number) + 1 };
            self.sets.append(&mut out, self.xid + 1 + node as i32, stamp);
        }
        look(Moment::WindowBegins);
        let start = Instant::now();
        self.crowd.send(self.writer, &out);
        let end = self.collect(tally, nodes as usize, self.writer * each, Some(start))?;
        look(Moment::WindowEnds);
        // Wraps long before the numbers run out, and no two requests under way share one.
        self.xid = (self.xid + nodes as i32 + 1) % (1 << 30);
        Ok(Round { done: (self.writer * each) as u64, took: end - start })
    }

    /// Waits for replies, which must all be successes, and for events; returns when the last event came.
    fn collect(
        &mut self,
        tally: &mut Tally,
        replies: usize,
        events: usize,
        start: Option<Instant>,
    ) -> io::Result<Instant> {
        let each = self.watched_each as usize;
        let mut seen = vec![false; self.writer * each];
        let (mut replied, mut fired) = (0, 0);
        let begun = Instant::now();
        let mut end = begun;
        let (writer, shared) = (self.writer, self.shared);
        let Watches { crowd, sets, .. } = self;
        while (replied < replies || fired < events) && tally.violations == 0 {
            if PATIENCE < begun.elapsed() {
                tally.unanswered += (replies - replied + events - fired) as u64;
                return Ok(Instant::now());
            }
            crowd.turn(Duration::from_millis(100), |at, arrival, _| {
                let Arrival::Frame(payload) = arrival else { return tally.connections_lost += 1 };
                let mut reader = Reader::new(payload);
                let header = match ReplyHeader::decode(&mut reader) {
                    Ok(header) => header,
                    Err(error) => return tally.violation(format!("connection {at}: {error}")),
                };
                if header.xid != XID_NOTIFICATION {
                    replied += 1;
                    if header.code != 0 {
                        *tally.errors.entry(header.code).or_default() += 1;
                    }
                    return;
                }
                let first = if shared { 0 } else { at * each };
                let event = WatcherEvent::decode(&mut reader).ok();
                let node = event.filter(|event| event.kind == EventType::NodeDataChanged.raw());
                let node = node.and_then(|event| sets.node_of(&event.path)).map(|node| node as usize);
                let node = node.filter(|node| at < writer && (first..first + each).contains(node));
                match node.map(|node| &mut seen[at * each + node - first]) {
                    Some(seen) if !*seen && start.is_some() => *seen = true,
                    _ => return tally.violation(format!("connection {at}: an event it does not wait for, or twice")),
                }
                fired += 1;
                end = Instant::now();
                if let Some(start) = start {
                    tally.latency.saturating_record((end - start).as_nanos() as u64);
                }
            })?;
            if tally.connections_lost != 0 {
                return Ok(Instant::now());
            }
        }
        Ok(end)
    }
}
