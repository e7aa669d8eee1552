//! A server of real values on virtual time: workers, the replica, the log over a faulty disk, and the clients around it.
//! What all of them do is judged in `judge.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use zorilla::auth;
use zorilla::clock::Now;
use zorilla::gate::Gate;
use zorilla::limits::LISTING_SLICE_NAMES;
use zorilla::replica::{self, Event, LogSpace, Out, Replica};
use zorilla::settings::{self, AuthSettings, ContainerSettings, RequestLimits};
use zorilla::store::Replay;
use zorilla::wake::{Bell, Sleeper};

use zorilla::watch::ConnId;
use zorilla::worker::mailbox::{Mailbox, PostBox};
use zorilla::worker::{Bounds, Settings, Worker};
use zorilla_proto::ids::SessionId;
use zorilla_wal::disk::Disk;
use zorilla_wal::disk::faulty::{FaultyDisk, FaultyFiles, Image, Order};
use zorilla_wal::{Options, Prepare, RecordRef, StoreId, Wal};

use crate::acl::{self, Who};
use crate::client::{Arrival, Connection, End, World};
use crate::coverage::Coverage;
use crate::draw::{Draw, Mood};
use crate::frost::Frost;
use crate::model::{Model, Rules};
use crate::requests::{Ask, Rng, buffer};

pub const TICK_MS: u64 = 500;
pub const TIMEOUT_MS: (i32, i32) = (1000, 10_000);
/// Addresses of clients, with the identities that they give.
const PEERS: &[(&str, &str)] = &[
    ("127.0.0.1:4", "127.0.0.1"),
    ("127.0.0.1:5", "127.0.0.1"),
    ("10.1.2.3:6", "10.1.2.3"),
    ("[::1]:7", "0:0:0:0:0:0:0:1"),
];

/// Whether bytes of a connection are left in its socket because of its own client: it does not take its answers.
pub fn is_its_own_fault(worker: &Worker, conn: ConnId) -> bool {
    !worker.is_short() && !worker.wants_input(conn) && !worker.waits_for_replica(conn)
}

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// One life of the server process.
pub struct Server {
    pub gate: Arc<Gate>,
    pub workers: Vec<Worker>,
    pub replica: Replica,
    pub wal: Wal<FaultyDisk>,
    pub files: FaultyFiles,
    pub preparing: Option<Prepare<FaultyFiles>>,
    pub out: Out,
    pub seed: u64,
    pub durable: u64,
}

/// What is known of a session from outside.
#[derive(Default)]
pub struct SessionSeen {
    /// The shortest timeout it ever had, and the longest.
    pub timeout_ms: u64,
    pub timeout_max_ms: u64,
    /// When it was heard of.
    pub heard_ms: Vec<u64>,
    /// The newest connection that was told it has the session.
    pub attached: Option<usize>,
    /// A connect was given up before its answer: who has the session is uncertain.
    pub stray: bool,
    /// Writes failed because it was closing: it has to end.
    pub doomed: bool,
}

/// One request as it was sent.
#[derive(Clone)]
pub struct Asked {
    pub ask: Ask,
    pub conn: usize,
    /// What its connection had proved of itself.
    pub who: Who,
    /// The server reads it: nothing before it ends the connection.
    pub is_read: bool,
}

/// How much a run did.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub replies: usize,
    pub events: usize,
    /// Events that a connection was selected for, and may not read.
    pub withheld: usize,
    pub reaped: usize,
    /// Writes held against the hard limits of a quota; and those of which only the server knows whether one was there.
    pub quotas_judged: usize,
    pub quotas_open: usize,
    pub coverage: Coverage,
    pub txns: u64,
    pub expiries: usize,
    pub resumes: usize,
    pub crashes: usize,
    /// Requests that waited for blocks.
    pub cold: usize,
    /// Blocks that were brought in for them.
    pub brought: usize,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.replies += other.replies;
        self.events += other.events;
        self.withheld += other.withheld;
        self.reaped += other.reaped;
        self.quotas_judged += other.quotas_judged;
        self.quotas_open += other.quotas_open;
        self.txns += other.txns;
        self.expiries += other.expiries;
        self.resumes += other.resumes;
        self.crashes += other.crashes;
        self.cold += other.cold;
        self.brought += other.brought;
        for (pair, count) in &other.coverage {
            *self.coverage.entry(*pair).or_default() += count;
        }
    }
}

pub struct Client {
    pub session: i64,
    pub conn: Option<usize>,
}

pub struct Sim {
    pub rng: Rng,
    pub now_ns: u64,
    pub wall_ms: i64,
    pub server: Server,
    pub model: Model,
    pub clients: Vec<Client>,
    pub conns: Vec<Connection>,
    pub sessions: BTreeMap<i64, SessionSeen>,
    pub asked: BTreeMap<i32, Asked>,
    pub next_xid: i32,
    pub seen: u64,
    pub full: bool,
    pub was_full: bool,
    pub segment_bytes: u64,
    pub frost: Frost,
    pub mood: Mood,
    /// When the server began to live, and when it last deleted a znode by itself.
    pub started_ms: u64,
    pub reaped_ms: Vec<u64>,
    /// Since when nobody says anything that counts.
    pub silent_ms: Option<u64>,
    pub retry: BTreeSet<usize>,
    pub tally: Tally,
}

/// The rules of a run as the server is told them.
fn configured(rules: &Rules) -> settings::Settings {
    settings::Settings {
        skip_acl: rules.skip_acl,
        extended_types: rules.extended_types,
        enforce_quota: rules.enforce_quota,
        auth: AuthSettings {
            super_digest: rules.super_digest.then(|| acl::SUPER.to_owned()),
            ..AuthSettings::default()
        },
        enforced_schemes: rules.enforced.clone(),
        reconfig_enabled: rules.reconfig_enabled,
        close_session_txn: rules.close_session_txn,
        digest: rules.digest,
        persistent_watches: rules.persistent_watches,
        containers: ContainerSettings {
            check_interval_ms: rules.check_interval_ms,
            per_minute_max: rules.per_minute_max,
            never_used_ms: rules.never_used_ms,
        },
        limits: RequestLimits { outstanding_max: Some(rules.outstanding_max), ..RequestLimits::default() },
        ..settings::Settings::default()
    }
}

/// The settings of one run: most have the common ones, and each of the others comes up in some.
fn draw_rules(rng: &mut Rng) -> (Rules, Mood) {
    let enforced: &[&[&str]] = &[&["digest"], &["sasl", "digest"], &["ip"]];
    let rules = Rules {
        skip_acl: rng.percent(8),
        super_digest: rng.percent(40),
        enforced: rng.percent(10).then(|| rng.pick(enforced).iter().map(|scheme| (*scheme).to_owned()).collect()),
        extended_types: rng.percent(60),
        enforce_quota: rng.percent(40),
        reconfig_enabled: rng.percent(50),
        close_session_txn: rng.percent(80),
        digest: rng.percent(85),
        persistent_watches: rng.percent(90),
        check_interval_ms: *rng.pick(&[1, 50, 300, 1000, 60_000]),
        per_minute_max: *rng.pick(&[100_000, 10_000, 10_000, 600, 120]),
        never_used_ms: *rng.pick(&[0, 0, 400, 2000]),
        outstanding_max: *rng.pick(&[1000, 1000, 1000, 1000, 1000, 30, 9, 1]),
    };
    let quotas = if rules.enforce_quota { 8 } else { 4 };
    (rules, Mood { quotas: if rng.percent(60) { quotas } else { 1 }, acls: *rng.pick(&[4, 15, 40]) })
}

fn recover(
    disk: FaultyDisk,
    segment_bytes: u64,
    seed: u64,
    worker_count: usize,
    now: Now,
    rules: &Rules,
    frost: &Frost,
) -> Server {
    let mut replay = Replay::new(seed);
    let files = disk.files();
    let options = Options { segment_bytes, ..Options::new(StoreId(7)) };
    let (wal, _) = Wal::open(disk, options, seed, &mut |record| {
        if let RecordRef::Txn { zxid, payload } = record {
            replay.apply(zxid, payload).unwrap_or_else(|misfit| panic!("{misfit}"));
        }
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    let (state, sessions) = replay.finish(TICK_MS, now);
    let applied = state.applied;
    let gate = Arc::new(Gate::new(state));
    let sleeper = Sleeper::new(Arc::new(Silent));
    let mailboxes: Vec<_> =
        (0..worker_count).map(|at| Mailbox::new(sleeper.clone(), applied, seed ^ at as u64)).collect();
    let postboxes: Vec<_> = (0..worker_count).map(|_| PostBox::new()).collect();
    let configured = configured(rules);
    let auth =
        Arc::new(auth::Rules::new(&configured.auth, configured.skip_acl, configured.enforced_schemes.as_deref()));
    let settings = Settings {
        frame_bytes_max: 0xf_ffff,
        session_timeout_ms_min: TIMEOUT_MS.0 as u32,
        session_timeout_ms_max: TIMEOUT_MS.1 as u32,
        report_ms: TICK_MS / 2,
        rules: auth.clone(),
        persistent_watches: rules.persistent_watches,
        listing_names: frost.listing_names,
        chill: Some(frost.chill()),
        bounds: Bounds::new(&configured, now.mono_ms(), seed),
    };
    let workers = (0..worker_count)
        .map(|at| {
            let (mailbox, postbox) = (mailboxes[at].clone(), postboxes[at].clone());
            Worker::new(at as u16, settings.clone(), gate.clone(), mailbox, postbox, Arc::default(), seed ^ at as u64)
        })
        .collect();
    let settings = replica::Settings::new(&configured, auth);
    let replica = Replica::solo(settings, gate.clone(), mailboxes, postboxes, sessions, seed);
    Server { gate, workers, replica, wal, files, preparing: None, out: Out::new(), seed, durable: applied.raw() }
}

impl Sim {
    pub fn new(seed: u64) -> Sim {
        let mut rng = Rng::new(seed);
        let (rules, mood) = draw_rules(&mut rng);
        let workers = 1 + rng.below(3);
        let listing_names = *rng.pick(&[1, 1, 2, 3, LISTING_SLICE_NAMES]);
        let frost = Frost::new(*rng.pick(&[0, 0, 10, 40]), listing_names, rng.next());
        let segment_bytes = *rng.pick(&[512 << 10, 1 << 20]);
        let now_ns = 1_000_000_000;
        let wall_ms = 1_700_000_000_000;
        let disk = FaultyDisk::new(Image::default(), true);
        let now = Now { mono_ns: now_ns, wall_ms };
        let server = recover(disk, segment_bytes, rng.next(), workers, now, &rules, &frost);
        let clients = (0..2 + rng.below(5)).map(|_| Client { session: 0, conn: None }).collect();
        Sim {
            rng,
            now_ns,
            wall_ms,
            server,
            model: Model::new(rules),
            clients,
            conns: Vec::new(),
            sessions: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_xid: 1,
            seen: 0,
            full: false,
            was_full: false,
            segment_bytes,
            frost,
            mood,
            started_ms: now_ns / 1_000_000,
            reaped_ms: Vec::new(),
            silent_ms: None,
            retry: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    pub fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall_ms: self.wall_ms }
    }

    pub fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    /// One whole run.
    pub fn run(&mut self, steps: usize) {
        let crash_chance = if self.rng.percent(50) { 1 } else { 0 };
        let is_layered = self.rng.percent(50);
        for _ in 0..steps {
            if self.rng.percent(20) {
                let worker = self.rng.below(self.server.workers.len());
                let percent = *self.rng.pick(&[0, 30, 100]);
                self.store(worker, percent);
            }
            match self.rng.below(200) {
                0..=1 if is_layered => self.frost.layer(&self.server.gate, self.server.seed),
                2 => self.frost.freeze_over(&self.server.gate),
                _ => {}
            }
            match self.rng.below(100) {
                0..40 => self.client(),
                40..65 => {
                    let worker = self.rng.below(self.server.workers.len());
                    self.worker(worker, true);
                }
                65..85 => self.replica(true),
                85..97 => self.pass(),
                97 => self.disk(),
                98 => self.pause(),
                _ if self.rng.percent(10 * crash_chance) => self.crash(),
                _ => self.full(),
            }
        }
        self.settle();
        self.check_at_rest();
        self.fall_silent();
        self.crash();
        self.tally.cold = self.frost.waits();
        self.tally.brought = self.frost.brought;
        self.tally.txns = self.model.last();
        self.tally.quotas_judged = self.model.quotas_judged;
        self.tally.quotas_open = self.model.quotas_open;
        for connection in &self.conns {
            for (pair, count) in &connection.coverage {
                *self.tally.coverage.entry(*pair).or_default() += count;
            }
        }
    }

    /// The store thread brings in some of the blocks that a worker wishes for, in any order.
    pub fn store(&mut self, worker: usize, percent: usize) {
        self.frost.bring_in(worker, &mut self.server.workers[worker], &mut self.rng, percent);
    }

    fn pass(&mut self) {
        let mut ms = *self.rng.pick(&[0, 1, 1, 2, 5, 20, 60, 200]);
        if self.rng.percent(10)
            && let Some(left_ms) = self.model.next_reapable_ms(self.wall_ms)
        {
            // To the last moment at which a znode must stay, or the first at which it may go.
            ms = left_ms + self.rng.below(2) as u64;
            self.now_ns += ms * 1_000_000;
            self.wall_ms += ms as i64;
            self.replica(true);
            return;
        }
        self.now_ns += ms * 1_000_000 + self.rng.below(1_000_000) as u64;
        // The wall clock steps either way.
        self.wall_ms += ms as i64 + *self.rng.pick(&[0, 0, 0, 0, 3, -3]);
    }

    fn disk(&mut self) {
        let order = *self.rng.pick(&[Order::Oldest, Order::Newest, Order::Held]);
        self.server.files.set_order(order);
    }

    fn full(&mut self) {
        self.full = self.rng.percent(12);
        self.was_full |= self.full;
    }

    /// The process sleeps while its clients go on pinging.
    fn pause(&mut self) {
        let since_ms = self.now_ms();
        let rounds = self.rng.below(40);
        for _ in 0..rounds {
            self.now_ns += 300_000_000;
            self.wall_ms += 300;
            for client in 0..self.clients.len() {
                if let Some(conn) = self.clients[client].conn
                    && self.conns[conn].connected
                    && self.conns[conn].is_up()
                    && self.conns[conn].end == End::Unexpected
                    && client % 3 != 0
                {
                    self.send(conn, Ask::Ping);
                }
            }
        }
        // Workers may have been put to sleep between asking their sockets and their turn.
        if self.rng.percent(50) {
            for worker in 0..self.server.workers.len() {
                self.turn(worker, true, Some(since_ms));
            }
        }
        // The replica is first to wake.
        if self.rng.percent(70) {
            self.replica(true);
        }
    }

    pub fn send(&mut self, conn: usize, ask: Ask) {
        let mut xid = self.next_xid;
        self.next_xid += 1;
        if matches!(ask, Ask::Auth { .. }) && self.rng.percent(70) {
            xid = -4;
        }
        let now_ms = self.now_ms();
        let connection = &mut self.conns[conn];
        let is_read = connection.ask(ask.clone(), xid, self.seen, now_ms, &self.model.rules);
        self.asked.insert(xid, Asked { ask, conn, who: connection.who.clone(), is_read });
    }

    fn drawn(&mut self) -> Draw<'_> {
        Draw { rng: &mut self.rng, mood: self.mood, newest: self.model.newest(), seen: self.seen }
    }

    fn draw(&mut self) -> Ask {
        self.drawn().ask()
    }

    /// Proves something: what most clients begin with.
    fn prove(&mut self, conn: usize) {
        let ask = self.drawn().auth();
        self.send(conn, ask);
    }

    fn client(&mut self) {
        let at = self.rng.below(self.clients.len());
        let conn = self.clients[at].conn.filter(|conn| self.conns[*conn].is_up());
        let Some(conn) = conn else { return self.connect(at) };
        if self.conns[conn].refused {
            self.clients[at].session = 0;
            return self.connect(at);
        }
        if self.conns[conn].end != End::Unexpected {
            // It waits for the end, or goes before it.
            if self.rng.percent(10) {
                self.hang_up(conn);
            }
            return;
        }
        match self.rng.below(100) {
            0..2 => self.hang_up(conn),
            2 if self.conns[conn].connected => self.connect(at),
            3 if self.rng.percent(50) => self.send(conn, Ask::Close),
            4 if self.rng.percent(30) => {
                let op = *self.rng.pick(&[0, -1, 13, 999, -10, 10, 23, 108]);
                self.send(conn, Ask::Unknown(op));
            }
            5 if self.rng.percent(30) => {
                self.conns[conn].end = End::AnyTime;
                let junk = *self.rng.pick(&[&[0xff; 8], &[0x7f; 8], &[0, 0, 0, 4, 1, 2, 3, 4]]);
                let now_ms = self.now_ms();
                self.conns[conn].push(junk, now_ms, false);
            }
            // HALF: with these limits, requests that the worker has taken already are lost.
            6 if self.conns[conn].connected && self.model.rules.outstanding_max == 1000 && self.rng.percent(30) => {
                // It says that it is through, and waits for what it asked.
                self.conns[conn].end = End::AfterAnswers;
                self.conns[conn].half_closed = true;
                self.conns[conn].since_ms = self.now_ms();
            }
            _ => {
                for _ in 0..1 + self.rng.below(6) {
                    let ask = self.draw();
                    self.send(conn, ask);
                }
            }
        }
    }

    fn hang_up(&mut self, conn: usize) {
        let connection = &mut self.conns[conn];
        connection.hung_up = true;
        if !connection.connected
            && connection.resumes
            && let Some(session) = self.sessions.get_mut(&connection.session)
        {
            session.stray = true;
        }
    }

    fn connect(&mut self, client: usize) {
        let worker = self.rng.below(self.server.workers.len());
        let (peer, address) = *self.rng.pick(PEERS);
        let (peer, now): (SocketAddr, Now) = (peer.parse().unwrap(), self.now());
        let slot = self.server.workers[worker].open(peer, now).expect("there is room for a connection");
        let former = self.clients[client].conn;
        let mut session = self.clients[client].session;
        if let Some(former) = former {
            // A client that hung up before its answer came does not know its session.
            session = if self.conns[former].connected && !self.conns[former].refused {
                self.conns[former].session
            } else {
                session
            };
            if self.conns[former].end == End::AfterAnswers && self.rng.percent(80) {
                session = 0;
            }
            if self.conns[former].is_up() && self.rng.percent(30) {
                self.hang_up(former);
            }
        }
        self.clients[client].session = session;
        let conn = self.conns.len();
        let mut connection = Connection::new(worker, slot, client, session, self.now_ms(), address);
        if self.rng.percent(2) {
            connection.word = true;
            connection.end = End::AnyTime;
            connection.push(b"ruok", now.mono_ms(), false);
            self.conns.push(connection);
            return;
        }
        let asked_ms = *self.rng.pick(&[2000, 2000, 2000, 4000, 0, -5, 1_000_000]);
        connection.timeout_ms = asked_ms.clamp(TIMEOUT_MS.0, TIMEOUT_MS.1);
        connection.knows_read_only = self.rng.percent(50);
        let mut password = SessionId::from_raw(session).password();
        if session != 0 && self.rng.percent(4) {
            password[3] ^= 1;
            connection.to_be_refused = true;
        }
        let last_seen = match self.rng.below(60) {
            0 => {
                connection.to_be_refused = true;
                i64::MAX
            }
            1 => -1,
            _ => self.model.last().min(self.seen) as i64,
        };
        if connection.to_be_refused {
            connection.end = End::AnyTime;
        }
        let mut payload = Vec::new();
        payload.extend(0i32.to_be_bytes());
        payload.extend(last_seen.to_be_bytes());
        payload.extend(asked_ms.to_be_bytes());
        payload.extend(session.to_be_bytes());
        payload.extend(16i32.to_be_bytes());
        payload.extend(password);
        if connection.knows_read_only {
            payload.push(0);
        }
        let mut frame = Vec::new();
        buffer(&mut frame, Some(&payload));
        connection.push(&frame, now.mono_ms(), true);
        if let Some(seen) = self.sessions.get_mut(&session)
            && connection.end == End::Unexpected
        {
            seen.timeout_ms = seen.timeout_ms.min(connection.timeout_ms as u64);
            seen.timeout_max_ms = seen.timeout_max_ms.max(connection.timeout_ms as u64);
            // Whoever has it now may lose it from here on.
            seen.attached = None;
        }
        self.conns.push(connection);
        self.clients[client].conn = Some(conn);
        let proves = if self.model.rules.is_let_in(&self.conns[conn].who) { 40 } else { 90 };
        if self.conns[conn].end == End::Unexpected {
            if self.rng.percent(proves) {
                self.prove(conn);
            }
            if self.rng.percent(30) {
                let ask = self.draw();
                self.send(conn, ask);
            }
        }
    }

    /// One turn of a worker, as its driver makes it; `ragged`: with bytes split and sockets passed over at random.
    pub fn worker(&mut self, worker: usize, ragged: bool) {
        let late_ms = *self.rng.pick(&[0, 0, 0, 0, 0, 0, 1, 20, 300, 900]);
        let listened_ms = self.now_ms().saturating_sub(late_ms);
        self.turn(worker, ragged, (ragged && late_ms != 0).then_some(listened_ms));
    }

    /// `listened_ms`: the sockets were asked a while ago, and what came since has not been announced.
    fn turn(&mut self, worker: usize, ragged: bool, listened_ms: Option<u64>) {
        let now = self.now();
        self.server.workers[worker].begin(now);
        if let Some(listened_ms) = listened_ms {
            self.server.workers[worker].listened(listened_ms);
        }
        let listened_ms = listened_ms.unwrap_or(now.mono_ms());
        let mut heard_all = true;
        for conn in 0..self.conns.len() {
            let connection = &mut self.conns[conn];
            if connection.worker != worker || connection.over {
                continue;
            }
            let skips = ragged && self.rng.percent(20);
            let turn = &mut self.server.workers[worker];
            let announced = connection.arrived_by(listened_ms);
            while !skips && turn.wants_input(connection.slot) && connection.fed < announced {
                let rest = announced - connection.fed;
                let bytes = if ragged && self.rng.percent(40) { 1 + self.rng.below(rest.min(40)) } else { rest };
                turn.input(connection.slot, &connection.sent[connection.fed..connection.fed + bytes]);
                connection.fed += bytes;
                while let Some(&Arrival { end, at_ms, touches, .. }) = connection.arrivals.front()
                    && end <= connection.fed
                {
                    connection.arrivals.pop_front();
                    if touches
                        && let Some(session) = self.sessions.get_mut(&connection.session)
                        && connection.end != End::AnyTime
                    {
                        session.heard_ms.push(at_ms);
                    }
                }
                if ragged && self.rng.percent(10) {
                    break;
                }
            }
            let unread = connection.fed < announced;
            heard_all &= !unread || is_its_own_fault(turn, connection.slot);
            if connection.half_closed && !unread && connection.fed == connection.sent.len() {
                connection.half_closed = false;
                turn.hung_up(connection.slot);
            }
            if connection.hung_up && (!unread || (ragged && self.rng.percent(30))) {
                connection.over = true;
                turn.lost(connection.slot);
            }
        }
        self.server.workers[worker].finish(heard_all);
        if !ragged || self.rng.percent(80) {
            self.server.workers[worker].drain();
        }
        while let Some((slot, word)) = self.server.workers[worker].next_word() {
            assert_eq!(word.name(), "ruok");
            self.server.workers[worker].answer_word(slot, b"imok");
        }
        self.server.workers[worker].replica_waits();
        self.write(worker, ragged);
    }

    fn write(&mut self, worker: usize, ragged: bool) {
        let waiting: Vec<usize> = std::mem::take(&mut self.retry).into_iter().collect();
        for conn in waiting {
            if self.conns[conn].worker == worker && !self.conns[conn].over {
                self.server.workers[worker].retry_output(self.conns[conn].slot);
            } else if !self.conns[conn].over {
                self.retry.insert(conn);
            }
        }
        while let Some(slot) = self.server.workers[worker].next_dirty() {
            let conn = self.conns.iter().rposition(|conn| conn.worker == worker && conn.slot == slot && !conn.over);
            let Some(conn) = conn else { continue };
            let output = self.server.workers[worker].output(slot).to_vec();
            let bytes = if ragged && self.rng.percent(15) { self.rng.below(output.len() + 1) } else { output.len() };
            let applied = self.server.gate.read().applied.raw();
            let fresh = !self.conns[conn].connected;
            if !self.conns[conn].hung_up {
                let world = &mut World {
                    model: &self.model,
                    durable: self.server.durable,
                    applied,
                    seen: &mut self.seen,
                    was_full: self.was_full,
                };
                self.conns[conn].receive(&output[..bytes], world);
            }
            if 0 < bytes {
                self.server.workers[worker].wrote(slot, bytes);
            }
            if bytes < output.len() {
                self.retry.insert(conn);
            }
            if fresh && self.conns[conn].connected {
                self.attached(conn, applied);
            }
            if self.server.workers[worker].is_finished(slot) {
                self.ended_by_server(conn);
                self.server.workers[worker].lost(slot);
            }
        }
    }

    /// One turn of the replica and the log, as their driver makes it.
    pub fn replica(&mut self, ragged: bool) {
        let now = self.now();
        let server = &mut self.server;
        if let Some(prepare) = server.preparing.take_if(|_| !ragged || self.rng.percent(50)) {
            server.wal.segment_prepared(prepare.run()).unwrap();
        }
        let mut tick = server.replica.next_tick_ms().is_some_and(|ms| ms <= now.mono_ms());
        loop {
            let server = &mut self.server;
            let durable = server.wal.poll(now.mono_ns).unwrap();
            server.out.log_room = server.wal.room_bytes();
            if ragged && self.rng.percent(10) {
                server.out.log_room = server.out.log_room.min(self.rng.below(3000));
            }
            server.out.log_space = if self.full { LogSpace::ClosesOnly } else { LogSpace::Plenty };
            let event = match &durable {
                Some(durable) => {
                    server.durable = durable.up_to.raw();
                    Event::Durable { up_to: durable.up_to }
                }
                None if std::mem::take(&mut tick) => Event::Tick,
                None => Event::Look,
            };
            server.replica.handle(event, now, &mut server.out);
            let applied = server.gate.read().applied.raw();
            let appends: Vec<_> = server.out.appends.drain(..).collect();
            for append in &appends {
                let bytes = self.server.replica.bytes(append.span).to_vec();
                self.appended(append.zxid, &bytes, applied);
                self.server.wal.append(append.zxid, &bytes).expect("the log has the room it announced");
            }
            let server = &mut self.server;
            if server.preparing.is_none() {
                server.preparing = server.wal.wants_segment();
            }
            if durable.is_none() && appends.is_empty() && !tick {
                break;
            }
        }
    }

    /// Power is cut: a new life on what the disk kept.
    pub fn crash(&mut self) {
        self.tally.crashes += 1;
        let recording = self.server.files.recording();
        let steps = recording.steps();
        let crash = recording.crash(steps, 512);
        let chance = *self.rng.pick(&[0, 30, 100]);
        let survives: Vec<bool> = (0..crash.pieces()).map(|_| self.rng.percent(chance)).collect();
        let disk = FaultyDisk::new(crash.image(|piece| survives[piece]), true);
        let (durable, appended) = (self.server.durable, self.model.last());
        let seed = self.rng.next();
        let workers = 1 + self.rng.below(3);
        let now = self.now();
        let server = recover(disk, self.segment_bytes, seed, workers, now, &self.model.rules, &self.frost);
        let kept = server.gate.read().applied.raw();
        assert!(durable <= kept, "recovered up to {kept}, acknowledged was {durable}");
        assert!(kept <= appended, "recovered up to {kept}, written was {appended}");
        self.model.truncate(kept);
        self.server = server;
        self.frost.forget();
        self.started_ms = now.mono_ms();
        self.reaped_ms.clear();
        self.check_tree();
        let now_ms = self.now_ms();
        for connection in &mut self.conns {
            self.tally.replies += std::mem::take(&mut connection.replies);
            self.tally.events += std::mem::take(&mut connection.fired);
            self.tally.withheld += std::mem::take(&mut connection.withheld);
            connection.over = true;
        }
        let open = self.model.states.last().unwrap().sessions.clone();
        for client in &mut self.clients {
            // One that was not told of its session begins anew.
            client.session = client.conn.map_or(0, |conn| self.conns[conn].session);
            client.conn = None;
            if client.session != 0 && !self.sessions.contains_key(&client.session) {
                client.session = 0;
            }
        }
        self.sessions.retain(|id, _| open.contains_key(id));
        for (id, session) in &mut self.sessions {
            session.heard_ms = vec![now_ms];
            session.timeout_ms = session.timeout_ms.min(open[id] as u64);
            session.timeout_max_ms = session.timeout_max_ms.max(open[id] as u64);
            session.attached = None;
            session.doomed = false;
        }
        self.retry.clear();
        self.full = false;
    }
}
