//! A server of real values on virtual time: workers, the replica, the log over a faulty disk, and the clients around it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use zorilla::clock::Now;
use zorilla::gate::Gate;
use zorilla::limits::SESSIONLESS_MS_MAX;
use zorilla::replica::{Event, LogSpace, Out, Replica};
use zorilla::store::Replay;
use zorilla::tree::NodeRef;
use zorilla::wake::{Bell, Sleeper};
use zorilla::worker::mailbox::{Mailbox, PostBox};
use zorilla::worker::{Settings, Worker};
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::Reader;
use zorilla_proto::txn::{Txn, TxnHeader};
use zorilla_wal::disk::Disk;
use zorilla_wal::disk::faulty::{FaultyDisk, FaultyFiles, Image, Order};
use zorilla_wal::{Options, Prepare, RecordRef, StoreId, Wal};

use crate::client::{Connection, End, World};
use crate::model::Model;
use crate::requests::{Ask, Rng, draw};

const TICK_MS: u64 = 500;
const TIMEOUT_MS: (i32, i32) = (1000, 10_000);

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// One life of the server process.
struct Server {
    gate: Arc<Gate>,
    workers: Vec<Worker>,
    replica: Replica,
    wal: Wal<FaultyDisk>,
    files: FaultyFiles,
    preparing: Option<Prepare<FaultyFiles>>,
    out: Out,
    durable: u64,
}

/// What is known of a session from outside.
#[derive(Default)]
struct SessionSeen {
    /// The shortest timeout it ever had.
    timeout_ms: u64,
    /// When it was heard of.
    heard_ms: Vec<u64>,
    /// The newest connection that was told it has the session.
    attached: Option<usize>,
    /// A connect was given up before its answer: who has the session is uncertain.
    stray: bool,
    /// Writes failed because it was closing: it has to end.
    doomed: bool,
}

/// How much a run did.
#[derive(Default, Debug, Clone, Copy)]
pub struct Tally {
    pub replies: usize,
    pub events: usize,
    pub txns: u64,
    pub expiries: usize,
    pub resumes: usize,
    pub crashes: usize,
}

struct Client {
    session: i64,
    conn: Option<usize>,
}

pub struct Sim {
    rng: Rng,
    now_ns: u64,
    wall_ms: i64,
    server: Server,
    model: Model,
    clients: Vec<Client>,
    conns: Vec<Connection>,
    sessions: BTreeMap<i64, SessionSeen>,
    asked: BTreeMap<i32, (Ask, usize)>,
    next_xid: i32,
    seen: u64,
    full: bool,
    was_full: bool,
    segment_bytes: u64,
    retry: BTreeSet<usize>,
    pub tally: Tally,
}

fn recover(
    disk: FaultyDisk,
    segment_bytes: u64,
    seed: u64,
    worker_count: usize,
    now: Now,
    check: impl FnOnce(u64, &Replay),
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
    check(wal.last_zxid().raw(), &replay);
    let (state, sessions) = replay.finish(TICK_MS, now);
    let applied = state.applied;
    let gate = Arc::new(Gate::new(state));
    let sleeper = Sleeper::new(Arc::new(Silent));
    let mailboxes: Vec<_> =
        (0..worker_count).map(|at| Mailbox::new(sleeper.clone(), applied, seed ^ at as u64)).collect();
    let postboxes: Vec<_> = (0..worker_count).map(|_| PostBox::new()).collect();
    let settings = Settings {
        frame_bytes_max: 0xf_ffff,
        session_timeout_ms_min: TIMEOUT_MS.0 as u32,
        session_timeout_ms_max: TIMEOUT_MS.1 as u32,
        report_ms: TICK_MS / 2,
    };
    let workers = (0..worker_count)
        .map(|at| {
            let (mailbox, postbox) = (mailboxes[at].clone(), postboxes[at].clone());
            Worker::new(at as u16, settings, gate.clone(), mailbox, postbox, Arc::default(), seed ^ at as u64)
        })
        .collect();
    let replica = Replica::solo(gate.clone(), mailboxes, postboxes, sessions, seed);
    Server { gate, workers, replica, wal, files, preparing: None, out: Out::new(), durable: applied.raw() }
}

impl Sim {
    pub fn new(seed: u64) -> Sim {
        let mut rng = Rng::new(seed);
        let workers = 1 + rng.below(3);
        let segment_bytes = *rng.pick(&[128 << 10, 256 << 10, 1 << 20]);
        let now_ns = 1_000_000_000;
        let wall_ms = 1_700_000_000_000;
        let disk = FaultyDisk::new(Image::default(), true);
        let now = Now { mono_ns: now_ns, wall_ms };
        let server = recover(disk, segment_bytes, rng.next(), workers, now, |_, _| {});
        let clients = (0..2 + rng.below(5)).map(|_| Client { session: 0, conn: None }).collect();
        Sim {
            rng,
            now_ns,
            wall_ms,
            server,
            model: Model::new(),
            clients,
            conns: Vec::new(),
            sessions: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_xid: 1,
            seen: 0,
            full: false,
            was_full: false,
            segment_bytes,
            retry: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall_ms: self.wall_ms }
    }

    fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    /// One whole run.
    pub fn run(&mut self, steps: usize) {
        let crash_chance = if self.rng.percent(50) { 1 } else { 0 };
        for _ in 0..steps {
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
        self.tally.txns = self.model.last();
    }

    fn pass(&mut self) {
        let ms = *self.rng.pick(&[0, 1, 1, 2, 5, 20, 60, 200]);
        self.now_ns += ms * 1_000_000 + self.rng.below(1_000_000) as u64;
        // The wall clock steps either way.
        self.wall_ms += ms as i64 + *self.rng.pick(&[0, 0, 0, 0, 3, -3]);
    }

    fn disk(&mut self) {
        let order = *self.rng.pick(&[Order::Oldest, Order::Newest, Order::Held]);
        self.server.files.set_order(order);
    }

    fn full(&mut self) {
        self.full = self.rng.percent(30);
        self.was_full |= self.full;
    }

    /// The process sleeps while its clients go on pinging.
    fn pause(&mut self) {
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
        // The replica is first to wake.
        if self.rng.percent(70) {
            self.replica(true);
        }
    }

    fn send(&mut self, conn: usize, ask: Ask) {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.asked.insert(xid, (ask.clone(), conn));
        let now_ms = self.now_ms();
        self.conns[conn].ask(ask, xid, self.seen, now_ms);
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
                let op = *self.rng.pick(&[0, -1, 13, 14, 6, 999, -10, 100, 104]);
                self.send(conn, Ask::Unknown(op));
            }
            5 if self.rng.percent(30) => {
                self.conns[conn].end = End::AnyTime;
                let junk = *self.rng.pick(&[&[0xff; 8], &[0x7f; 8], &[0, 0, 0, 4, 1, 2, 3, 4]]);
                self.conns[conn].sent.extend_from_slice(junk);
            }
            _ => {
                for _ in 0..1 + self.rng.below(6) {
                    let ask = draw(&mut self.rng, self.seen);
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
        let (peer, now): (SocketAddr, Now) = ("127.0.0.1:4".parse().unwrap(), self.now());
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
        let mut connection = Connection::new(worker, slot, client, session, self.now_ms());
        if self.rng.percent(2) {
            connection.word = true;
            connection.end = End::AnyTime;
            connection.sent.extend_from_slice(b"ruok");
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
        connection.sent.extend((payload.len() as i32).to_be_bytes());
        connection.sent.extend(payload);
        let now_ms = self.now_ms();
        connection.arrivals.push_back((connection.sent.len(), now_ms));
        if let Some(seen) = self.sessions.get_mut(&session)
            && connection.end == End::Unexpected
        {
            seen.timeout_ms = seen.timeout_ms.min(connection.timeout_ms as u64);
            // Whoever has it now may lose it from here on.
            seen.attached = None;
        }
        self.conns.push(connection);
        self.clients[client].conn = Some(conn);
        if self.rng.percent(30) && self.conns[conn].end == End::Unexpected {
            let ask = draw(&mut self.rng, self.seen);
            self.send(conn, ask);
        }
    }

    /// One turn of a worker, as its driver makes it; `ragged`: with bytes split and sockets passed over at random.
    fn worker(&mut self, worker: usize, ragged: bool) {
        let now = self.now();
        self.server.workers[worker].begin(now);
        let mut heard_all = true;
        for conn in 0..self.conns.len() {
            let connection = &mut self.conns[conn];
            if connection.worker != worker || connection.over {
                continue;
            }
            let skips = ragged && self.rng.percent(20);
            let turn = &mut self.server.workers[worker];
            while !skips && turn.wants_input(connection.slot) && connection.fed < connection.sent.len() {
                let rest = connection.sent.len() - connection.fed;
                let bytes = if ragged && self.rng.percent(40) { 1 + self.rng.below(rest.min(40)) } else { rest };
                turn.input(connection.slot, &connection.sent[connection.fed..connection.fed + bytes]);
                connection.fed += bytes;
                while let Some(&(end, at_ms)) = connection.arrivals.front()
                    && end <= connection.fed
                {
                    connection.arrivals.pop_front();
                    if let Some(session) = self.sessions.get_mut(&connection.session)
                        && connection.end != End::AnyTime
                    {
                        session.heard_ms.push(at_ms);
                    }
                }
                if ragged && self.rng.percent(10) {
                    break;
                }
            }
            let unread = connection.fed < connection.sent.len();
            heard_all &= !(unread && turn.wants_input(connection.slot));
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

    /// A connection was told that it has its session.
    fn attached(&mut self, conn: usize, applied: u64) {
        let connection = &self.conns[conn];
        let id = connection.session;
        if connection.refused {
            let closing = self.model.states.last().unwrap().sessions.contains_key(&id);
            let doomed = self.sessions.get_mut(&id).map(|session| {
                session.doomed |= !connection.to_be_refused;
                session.doomed
            });
            // Refused by a wrong password, because it is gone, or because it is about to be: then it must go.
            assert!(connection.to_be_refused || !closing || doomed == Some(true));
            return;
        }
        let session = self.sessions.entry(id).or_default();
        session.attached = Some(conn);
        self.clients[connection.client].session = id;
        if connection.resumes {
            self.tally.resumes += 1;
            if session.stray {
                return;
            }
            // The resume is a barrier: what the session asked elsewhere is applied, or never will be.
            let late = self.model.history.iter().enumerate().rev().find(|(_, done)| {
                done.session == id && self.asked.get(&done.xid).is_some_and(|(_, asked_on)| *asked_on != conn)
            });
            if let Some((zxid, _)) = late {
                assert!(zxid as u64 <= applied, "resumed at {applied}, and an earlier request of it became {zxid}");
            }
        }
    }

    fn ended_by_server(&mut self, conn: usize) {
        let connection = &mut self.conns[conn];
        connection.over = true;
        if connection.word || connection.hung_up || connection.refused || connection.end == End::AnyTime {
            return;
        }
        let id = connection.session;
        let gone = !self.model.states.last().unwrap().sessions.contains_key(&id);
        let elsewhere = self.sessions.get(&id).is_some_and(|session| session.stray || session.attached != Some(conn));
        let refused_full = !connection.connected && self.was_full;
        let had_time = connection.since_ms + SESSIONLESS_MS_MAX <= self.now_ns / 1_000_000;
        if connection.end == End::AfterAnswers && (connection.expected.is_empty() || had_time) {
            return;
        }
        if !connection.connected && had_time {
            return;
        }
        assert!(
            gone || elsewhere || refused_full,
            "connection {conn} of session {id:#x} was ended, with {} requests unanswered",
            connection.expected.len()
        );
    }

    /// One turn of the replica and the log, as their driver makes it.
    fn replica(&mut self, ragged: bool) {
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
            let appends: Vec<_> = server.out.appends.drain(..).collect();
            for append in &appends {
                let bytes = self.server.replica.bytes(append.span).to_vec();
                self.appended(append.zxid, &bytes);
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

    /// The server has given a request its place in history: the model executes it there, too.
    fn appended(&mut self, zxid: Zxid, bytes: &[u8]) {
        assert_eq!(zxid.raw(), self.model.last() + 1);
        let mut reader = Reader::new(bytes);
        let header = TxnHeader::decode(&mut reader).unwrap();
        let txn = Txn::decode(&header, &mut reader).unwrap();
        assert_eq!((header.zxid, header.time_ms), (zxid, self.wall_ms));
        let id = header.session.raw();
        match txn {
            Txn::CreateSession { timeout_ms } => {
                self.model.open(id, timeout_ms);
                let heard_ms = vec![self.now_ms()];
                let seen = SessionSeen { timeout_ms: timeout_ms as u64, heard_ms, ..SessionSeen::default() };
                assert!(self.sessions.insert(id, seen).is_none(), "session id {id:#x} given out twice");
            }
            Txn::CloseSession { paths } => {
                let listed: Vec<String> =
                    paths.iter().flat_map(|paths| paths.iter()).map(|path| path.into_owned()).collect();
                if header.cxid == 0 {
                    self.expired(id);
                } else {
                    assert!(matches!(self.asked[&header.cxid].0, Ask::Close));
                    self.check_origin(id, header.cxid);
                }
                self.model.close(id, header.cxid);
                let gone: Vec<String> =
                    self.model.history.last().unwrap().changes.iter().map(|changed| changed.path.clone()).collect();
                assert_eq!(listed, gone, "the ephemerals of session {id:#x}");
            }
            _ => {
                self.check_origin(id, header.cxid);
                let (ask, _) = self.asked[&header.cxid].clone();
                let doomed = matches!(&txn, Txn::Error { code } if *code == crate::model::SESSION_EXPIRED);
                self.sessions.get_mut(&id).expect("a session that asks is known").doomed |= doomed;
                let code = self.model.write(&ask, header.cxid, id, !doomed, header.time_ms);
                match &txn {
                    Txn::Error { code: logged } => assert_eq!(*logged, code, "{ask:?}"),
                    _ => assert_eq!(code, 0, "{ask:?} is logged as {txn:?}"),
                }
            }
        }
    }

    /// A request comes from its session, and from nobody who had lost it.
    fn check_origin(&self, id: i64, xid: i32) {
        let (ask, conn) = &self.asked[&xid];
        let session = &self.sessions[&id];
        let connection = &self.conns[*conn];
        assert!(connection.session == id || !connection.connected || connection.hung_up, "{ask:?} of another session");
        if !session.stray
            && let Some(attached) = session.attached
        {
            assert!(*conn == attached, "{ask:?} of connection {conn}, and {attached} has the session");
        }
    }

    fn expired(&mut self, id: i64) {
        let now_ms = self.now_ms();
        let session = self.sessions.get_mut(&id).expect("an expired session is known");
        let mut heard_ms = session.heard_ms.clone();
        for connection in &self.conns {
            let up = !connection.over && connection.session == id && connection.connected && !connection.refused;
            if up
                && self.server.workers[connection.worker].wants_input(connection.slot)
                && connection.end == End::Unexpected
            {
                heard_ms.extend(connection.arrivals.iter().map(|(_, at_ms)| *at_ms));
            }
        }
        heard_ms.push(now_ms);
        heard_ms.sort_unstable();
        let silent_ms = heard_ms.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let timeout_ms = session.timeout_ms;
        // A connect that was given up may have taken the session from whoever went on talking in its name.
        assert!(
            session.stray || timeout_ms < silent_ms,
            "session {id:#x} expired after {silent_ms} ms of silence, its timeout is {timeout_ms} ms; heard at {heard_ms:?}"
        );
        session.heard_ms = vec![now_ms];
        self.tally.expiries += 1;
    }

    /// Power is cut: a new life on what the disk kept.
    fn crash(&mut self) {
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
        let server = recover(disk, self.segment_bytes, seed, workers, now, |_, _| {});
        let kept = server.gate.read().applied.raw();
        assert!(durable <= kept, "recovered up to {kept}, acknowledged was {durable}");
        assert!(kept <= appended, "recovered up to {kept}, written was {appended}");
        self.model.truncate(kept);
        self.server = server;
        self.check_tree();
        let now_ms = self.now_ms();
        for connection in &mut self.conns {
            self.tally.replies += std::mem::take(&mut connection.replies);
            self.tally.events += std::mem::take(&mut connection.fired);
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
            session.attached = None;
            session.doomed = false;
        }
        self.retry.clear();
        self.full = false;
    }

    /// The tree, the digest and the sessions are the model's.
    fn check_tree(&self) {
        let state = self.server.gate.read();
        let due = self.model.state(state.applied.raw());
        let mut found = 0;
        state.tree.for_each(&mut |path: &str, node: NodeRef<'_>| {
            found += 1;
            let model = due.find(path).unwrap_or_else(|| panic!("{path} should not be there"));
            assert_eq!(node.data(), model.data.as_deref(), "{path}");
            let mut stat = Vec::new();
            node.version().stat().encode(&mut stat);
            let mut due_stat = Vec::new();
            due.stat(path, &mut due_stat);
            assert_eq!(stat, due_stat, "{path}");
            assert_eq!(node.acl().count as usize, model.acl.len(), "{path}");
            let mut children: Vec<&str> = node.children().collect();
            children.sort_unstable();
            assert_eq!(children, due.children(path), "{path}");
        });
        assert_eq!(found, due.nodes.len());
        assert_eq!(state.tree.digest(), digest(due), "digest at {}", state.applied);
        assert_eq!(state.sessions, due.sessions.len());
        assert_eq!(state.tree.ephemerals_count(), due.nodes.values().filter(|node| node.owner != 0).count());
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        self.full = false;
        self.server.files.set_order(Order::Oldest);
        for _ in 0..60 {
            for worker in 0..self.server.workers.len() {
                self.worker(worker, false);
            }
            self.replica(false);
            self.now_ns += 100_000;
        }
    }

    fn check_at_rest(&mut self) {
        let applied = self.server.gate.read().applied.raw();
        assert_eq!(applied, self.model.last(), "not everything was applied");
        assert!(self.server.replica.is_idle());
        for connection in &mut self.conns {
            if connection.is_up() && connection.connected && !connection.refused {
                assert!(connection.end == End::Unexpected, "a connection that asked for its end is still there");
                connection.check_nothing_is_missing(applied, &self.model);
            }
        }
        self.check_tree();
    }

    /// Nobody says anything any more: every session ends, and takes its ephemerals along.
    fn fall_silent(&mut self) {
        let until_ms = self.now_ms() + TIMEOUT_MS.1 as u64 + 2 * TICK_MS;
        while self.now_ms() < until_ms {
            self.now_ns += 100_000_000;
            self.wall_ms += 100;
            for worker in 0..self.server.workers.len() {
                self.worker(worker, false);
            }
            self.replica(false);
        }
        self.settle();
        let last = self.model.states.last().unwrap();
        assert!(last.sessions.is_empty(), "sessions that never expired: {:x?}", last.sessions);
        assert!(last.nodes.values().all(|node| node.owner == 0), "an ephemeral znode survived its session");
        assert_eq!(self.server.replica.sessions(), 0);
        assert!(self.server.workers.iter().all(|worker| worker.is_settled()), "a request was never completed");
        self.check_tree();
        for connection in &self.conns {
            self.tally.replies += connection.replies;
            self.tally.events += connection.fired;
            assert!(connection.over || connection.session == 0, "a connection outlived its session");
        }
        for connection in &mut self.conns {
            (connection.replies, connection.fired) = (0, 0);
        }
    }
}

/// The digest as `semantics.md` 17 defines it.
fn digest(state: &crate::model::State) -> u64 {
    let mut sum = 0u64;
    for (path, node) in &state.nodes {
        if path.starts_with("/zookeeper/") {
            continue;
        }
        let mut bytes = path.as_bytes().to_vec();
        bytes.extend(node.data.as_deref().unwrap_or_default());
        for long in [node.czxid, node.mzxid, node.pzxid, node.ctime as u64, node.mtime as u64] {
            bytes.extend(long.to_be_bytes());
        }
        for int in [node.version, node.created, node.aversion] {
            bytes.extend(int.to_be_bytes());
        }
        bytes.extend(node.owner.to_be_bytes());
        sum = sum.wrapping_add(u64::from(crc32(&bytes)));
    }
    sum
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
