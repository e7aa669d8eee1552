//! Builds the server, spawns its threads, and does what the values decide: the driver loops.
//!
//! The only place where threads begin. Each loop is short on purpose: sleep, hear, let the value decide, act. Folded, the
//! replica is called by the loop of worker 0; dedicated, it has a loop of its own; it is the same value either way.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use zorilla_proto::ids::Zxid;
use zorilla_wal::disk::{self, AnyDisk, Disk};
use zorilla_wal::{OpenError, Space, StoreId, Wal};

use crate::auth::Rules;
use crate::clock::{Clock, Now};
use crate::config::{Config, Driver, Workers};
use crate::gate::Gate;
use crate::limits::{ACCEPTED_MAX, POLL_EVENTS_MAX, STOP_FLUSH_MS_MAX, TICK_NS_MIN, WORKERS_MAX};
use crate::net::client::{Accepted, Acceptor, Admissions, ClientSockets};
use crate::ops::four_letter::{self, ConfView, View};
use crate::ops::metrics::{Count, Measure, Published, Stages, Totals, WorkerStats};
use crate::os;
use crate::replica::{self, Event, LogSpace, Out, Replica};
use crate::store::{self, Misfit, Replay, Store};
use crate::wake::{Bell, Sleeper};
use crate::worker::mailbox::{Mailbox, PostBox};
use crate::worker::{Bounds, Settings, Worker};

/// Why a server does not start, or does not go on.
#[derive(Debug)]
pub enum ServerError {
    /// A directory cannot be used.
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log cannot be opened: see its words.
    Log(OpenError),
    /// The log holds something that this server did not write.
    Misfit {
        /// Where the log lives.
        path: PathBuf,
        /// What does not fit.
        misfit: Misfit,
    },
    /// The directory holds the data of a Java server, which this release does not read.
    JavaData {
        /// Where.
        path: PathBuf,
        /// One of its files.
        file: String,
    },
    /// The client port cannot be bound.
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused something that every server needs.
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Directory { path, source } => {
                write!(f, "Unable to use the data directory {}: {source}", path.display())
            }
            ServerError::Log(error) => error.fmt(f),
            ServerError::Misfit { path, misfit } => write!(
                f,
                "{}: {misfit}. Nothing was changed. Another program wrote this log, or this program has a defect; keep \
                 the directory, and start on a copy of another server's data.",
                path.display()
            ),
            ServerError::JavaData { path, file } => write!(
                f,
                "{} holds the data of a Java server ({file}), and this release cannot read it yet. Nothing was changed. \
                 Set another dataDir and dataLogDir, or start the Java server on this one.",
                path.display()
            ),
            ServerError::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "Address already in use: {address}. Another server listens there; stop it, or set another clientPort."
            ),
            ServerError::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            ServerError::System { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::System { what, source }
}

/// How the threads of a server are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// Threads that serve connections.
    pub workers: usize,
    /// The replica runs on the thread of worker 0.
    pub folded: bool,
}

impl Arrangement {
    /// What the configuration asks for, or what was measured best for this number of CPUs (`ARCHITECTURE.md`, "Threads").
    pub fn choose(config: &Config, cpus: usize) -> Arrangement {
        let folded = match config.driver {
            Driver::Folded => true,
            Driver::Dedicated => false,
            Driver::Auto => cpus < 4,
        };
        let workers = match config.workers {
            Workers::Exactly(workers) => workers.min(WORKERS_MAX),
            Workers::Auto if cpus < 4 => 1,
            Workers::Auto => (cpus - 1).min(WORKERS_MAX),
        };
        Arrangement { workers, folded }
    }
}

/// An eventfd that ends a thread's sleep.
struct PollBell(Waker);

impl Bell for PollBell {
    fn ring(&self) {
        // Fails only if the descriptor is gone, and it lives as long as this.
        self.0.wake().expect("a thread can be woken");
    }
}

/// What all threads of a server share.
struct Shared {
    config: Config,
    clock: Clock,
    started_ms: u64,
    gate: Arc<Gate>,
    client_address: Option<SocketAddr>,
    admissions: Arc<Admissions>,
    bounds: Bounds,
    workers: Vec<WorkerDoor>,
    replica_stages: Published,
    log_folder: PathBuf,
    log_dropped_bytes: u64,
    /// A stop was asked for.
    stop: AtomicBool,
    /// Workers whose last request was completed.
    settled: AtomicUsize,
    /// The log was sealed: replies may leave, nothing more comes.
    sealed: AtomicBool,
}

/// How other threads reach a worker.
struct WorkerDoor {
    stats: Arc<WorkerStats>,
    accepted: ArrayQueue<Accepted>,
    sleeper: Sleeper,
}

/// A running server. Dropping it does not stop it: see [`Server::stop`].
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    replica: Sleeper,
    store: JoinHandle<()>,
    recovered: Recovered,
}

/// What a start found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The last transaction.
    pub zxid: Zxid,
    /// Transactions read.
    pub txns: u64,
    /// Bytes at the end that had never been acknowledged.
    pub dropped_bytes: u64,
    /// Whether the log was closed in order.
    pub sealed: bool,
    /// How the log is written.
    pub log: String,
    /// How the threads are arranged.
    pub arrangement: Arrangement,
}

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
const RING: Token = Token(2);
const SOCKET_FIRST: usize = 3;

impl Server {
    /// Recovers, binds, and serves.
    pub fn start(config: Config) -> Result<Server, ServerError> {
        let clock = Clock::start();
        let arrangement = Arrangement::choose(&config, os::cpus());
        let seed = entropy();
        for directory in [&config.data_dir, &config.data_log_dir] {
            disk::create_durably(directory)
                .map_err(|source| ServerError::Directory { path: directory.clone(), source })?;
        }
        refuse_java_data(&config)?;
        let log_folder = store::log_folder(&config.data_log_dir);
        let disk = disk::best(&log_folder, true).map_err(ServerError::Log)?;
        let log_text = disk.describe();
        let (wal, replay, found) = open_log(disk, &config, seed, &log_folder)?;
        let txns = replay.txns();
        let now = clock.now();
        let (state, sessions) = replay.finish(u64::from(config.tick_ms), now);
        let applied = state.applied;
        let gate = Arc::new(Gate::new(state));

        // Bound only now: whoever connects is served.
        let listener =
            config.client_addr.map(|address| bind(address, config.client_port_listen_backlog)).transpose()?;
        let client_address = match &listener {
            Some(listener) => Some(listener.local_addr().map_err(system("tell the port that was bound"))?),
            None => None,
        };

        let mut polls = Vec::new();
        let mut doors = Vec::new();
        let mut mailboxes = Vec::new();
        let mut postboxes = Vec::new();
        for worker in 0..arrangement.workers {
            let (poll, sleeper) = poll_and_sleeper()?;
            polls.push(poll);
            mailboxes.push(Mailbox::new(sleeper.clone(), applied, seed ^ worker as u64));
            postboxes.push(PostBox::new());
            doors.push(WorkerDoor { stats: Arc::default(), accepted: ArrayQueue::new(ACCEPTED_MAX), sleeper });
        }
        let replica_poll = if arrangement.folded { None } else { Some(poll_and_sleeper()?) };
        let replica_sleeper = match &replica_poll {
            Some((_, sleeper)) => sleeper.clone(),
            None => doors[0].sleeper.clone(),
        };

        let (store_door, store_loop) = store::store(replica_sleeper.clone());
        let admissions = Admissions::new(config.max_client_cnxns, config.settings.limits.cnxns_max);
        let shared = Arc::new(Shared {
            started_ms: now.mono_ms(),
            clock,
            gate: gate.clone(),
            client_address,
            admissions: admissions.clone(),
            bounds: Bounds::new(&config.settings, now.mono_ms(), seed),
            workers: doors,
            replica_stages: Published::default(),
            log_folder,
            log_dropped_bytes: found.dropped_bytes,
            stop: AtomicBool::new(false),
            settled: AtomicUsize::new(0),
            sealed: AtomicBool::new(false),
            config,
        });
        let configured = &shared.config.settings;
        let schemes = configured.enforced_schemes.as_deref();
        let rules = Arc::new(Rules::new(&configured.auth, configured.skip_acl, schemes));
        let replica_settings = replica::Settings::new(configured, rules.clone());
        let replica =
            Replica::solo(replica_settings, gate.clone(), mailboxes.clone(), postboxes.clone(), sessions, seed);
        let driver = ReplicaDriver::new(shared.clone(), replica, wal, store_door, postboxes.clone());

        let store = spawn("store", move || store_loop.run())?;
        let mut threads = Vec::new();
        let mut folded = None;
        match replica_poll {
            Some((poll, sleeper)) => {
                driver.register(&poll, RING)?;
                threads.push(spawn("replica", move || driver.run_alone(poll, &sleeper))?);
            }
            None => folded = Some(driver),
        }
        let mut acceptor = listener.map(|listener| Acceptor::new(listener, admissions));
        let settings = Settings {
            frame_bytes_max: shared.config.jute_maxbuffer,
            session_timeout_ms_min: shared.config.session_timeout_ms_min,
            session_timeout_ms_max: shared.config.session_timeout_ms_max,
            report_ms: u64::from(shared.config.tick_ms / 2).max(1),
            rules,
            persistent_watches: configured.persistent_watches,
            bounds: shared.bounds.clone(),
        };
        let pin = 4 <= os::cpus() && !os::has_cpu_quota();
        for (index, poll) in polls.into_iter().enumerate() {
            let worker = Worker::new(
                index as u16,
                settings.clone(),
                gate.clone(),
                mailboxes[index].clone(),
                postboxes[index].clone(),
                shared.workers[index].stats.clone(),
                seed ^ index as u64,
            );
            let mut acceptor = acceptor.take();
            if let Some(acceptor) = &mut acceptor {
                acceptor.register(poll.registry(), LISTENER).map_err(system("wait for connections"))?;
            }
            let replica = folded.take();
            if let Some(replica) = &replica {
                replica.register(&poll, RING)?;
            }
            let registry = poll.registry().try_clone().map_err(system("share a poll"))?;
            let worker_loop = WorkerLoop {
                index,
                shared: shared.clone(),
                sockets: ClientSockets::new(registry, SOCKET_FIRST),
                worker,
                postbox: postboxes[index].clone(),
                acceptor,
                replica,
                replica_sleeper: replica_sleeper.clone(),
                settled: false,
            };
            let core = if pin { core_affinity::get_core_ids().and_then(|ids| ids.get(index).copied()) } else { None };
            threads.push(spawn("worker", move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                worker_loop.run(poll);
            })?);
        }
        let recovered = Recovered {
            zxid: applied,
            txns,
            dropped_bytes: found.dropped_bytes,
            sealed: found.sealed,
            log: log_text,
            arrangement,
        };
        Ok(Server { shared, threads, replica: replica_sleeper, store, recovered })
    }

    /// Where clients connect.
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.shared.client_address
    }

    /// What the start found.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Takes no further request, answers what is under way, seals the log, closes the connections.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.replica.ring();
        for door in &self.shared.workers {
            door.sleeper.ring();
        }
        for thread in self.threads {
            // A thread that panicked has ended the process in the release build; under test this passes it on.
            thread.join().expect("a thread of the server ended in order");
        }
        self.store.join().expect("the store thread ended in order");
    }
}

/// A start beside a Java server's data would serve an empty tree in its place.
fn refuse_java_data(config: &Config) -> Result<(), ServerError> {
    for directory in [&config.data_dir, &config.data_log_dir] {
        let path = directory.join("version-2");
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ServerError::Directory { path, source }),
        };
        for entry in entries {
            let entry = entry.map_err(|source| ServerError::Directory { path: path.clone(), source })?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if file.starts_with("log.") || file.starts_with("snapshot.") {
                return Err(ServerError::JavaData { path, file });
            }
        }
    }
    Ok(())
}

/// What [`open_log`] found besides transactions.
struct Found {
    dropped_bytes: u64,
    sealed: bool,
}

fn open_log(
    disk: AnyDisk,
    config: &Config,
    seed: u64,
    folder: &std::path::Path,
) -> Result<(Wal<AnyDisk>, Replay, Found), ServerError> {
    let mut replay = Replay::new(seed);
    let mut misfit = None;
    let found = zorilla_wal::store_of(&disk.files()).map_err(ServerError::Log)?;
    let store = found.unwrap_or(StoreId(u128::from(entropy()) << 64 | u128::from(seed)));
    let options = zorilla_wal::Options { segment_bytes: config.segment_bytes, ..zorilla_wal::Options::new(store) };
    let opened = Wal::open(disk, options, seed, &mut |record| {
        let zorilla_wal::RecordRef::Txn { zxid, payload } = record else { return Ok(()) };
        replay.apply(zxid, payload).map_err(|found| {
            misfit = Some(found);
            zorilla_wal::Stop
        })
    });
    match (opened, misfit) {
        (_, Some(misfit)) => Err(ServerError::Misfit { path: folder.to_owned(), misfit }),
        (Err(error), None) => Err(ServerError::Log(error)),
        (Ok((wal, recovered)), None) => {
            let dropped_bytes = recovered.torn.map_or(0, |torn| torn.bytes);
            let found = Found { dropped_bytes, sealed: recovered.sealed || recovered.fresh };
            Ok((wal, replay, found))
        }
    }
}

fn bind(address: SocketAddr, backlog: i32) -> Result<TcpListener, ServerError> {
    let failed = |source| ServerError::Bind { address, source };
    let domain = if address.is_ipv4() { rustix::net::AddressFamily::INET } else { rustix::net::AddressFamily::INET6 };
    // By hand and not with `TcpListener::bind`, for the backlog.
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(domain, rustix::net::SocketType::STREAM, flags, None)
        .map_err(|error| failed(error.into()))?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).map_err(|error| failed(error.into()))?;
    rustix::net::bind(&socket, &address).map_err(|error| failed(error.into()))?;
    let backlog = if backlog < 0 { 4096 } else { backlog };
    rustix::net::listen(&socket, backlog).map_err(|error| failed(error.into()))?;
    Ok(TcpListener::from(socket))
}

fn poll_and_sleeper() -> Result<(Poll, Sleeper), ServerError> {
    let poll = Poll::new().map_err(system("create an epoll"))?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(system("create an eventfd"))?;
    Ok((poll, Sleeper::new(Arc::new(PollBell(waker)))))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ServerError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(system("start a thread"))
}

/// The one seeded source of randomness of a server.
fn entropy() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library keys its hash maps from the system's randomness.
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// The server cannot keep its promises any more: says why and ends the process. Nothing is acknowledged after this.
fn give_up(what: &str, error: &dyn fmt::Display) -> ! {
    tracing::error!("{what}: {error}. Exiting: nothing more can be acknowledged.");
    std::process::exit(1)
}

/// Performs what the replica decides, on the log.
struct ReplicaDriver {
    shared: Arc<Shared>,
    replica: Replica,
    wal: Option<Wal<AnyDisk>>,
    store: Store,
    /// A segment was asked for and has not come.
    preparing: bool,
    postboxes: Vec<Arc<PostBox>>,
    out: Out,
    ticked_ns: u64,
    published_ns: u64,
    full: bool,
}

impl ReplicaDriver {
    fn new(
        shared: Arc<Shared>,
        replica: Replica,
        wal: Wal<AnyDisk>,
        store: Store,
        postboxes: Vec<Arc<PostBox>>,
    ) -> ReplicaDriver {
        ReplicaDriver {
            shared,
            replica,
            wal: Some(wal),
            store,
            preparing: false,
            postboxes,
            out: Out::new(),
            ticked_ns: 0,
            published_ns: 0,
            full: false,
        }
    }

    /// Asks to be woken by the disk.
    fn register(&self, poll: &Poll, token: Token) -> Result<(), ServerError> {
        use std::os::fd::AsFd;
        let Some(fd) = self.wal.as_ref().and_then(|wal| wal.event_fd()) else { return Ok(()) };
        let raw = fd.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&raw), token, Interest::READABLE).map_err(system("wait for the disk"))
    }

    /// Whether something waits that no descriptor announces.
    fn is_busy(&self) -> bool {
        // Posts that wait for room are not work: the disk, a segment or a mailbox will say when there is some.
        let posts = !self.replica.is_blocked() && self.postboxes.iter().any(|postbox| !postbox.is_empty());
        posts || self.store.has_done()
    }

    /// When [`ReplicaDriver::run`] is to be called at the latest, ns.
    fn deadline_ns(&self) -> Option<u64> {
        let tick = self.replica.next_tick_ms().map(|ms| (ms * 1_000_000).max(self.ticked_ns + TICK_NS_MIN));
        let log = self.wal.as_ref().and_then(|wal| wal.deadline_ns());
        [tick, log].into_iter().flatten().min()
    }

    /// One turn: disk, replica, disk.
    fn run(&mut self, now: Now) {
        let Some(wal) = &mut self.wal else { return };
        while let Some(done) = self.store.next_done() {
            self.preparing = false;
            if let Err(error) = &done {
                // Said once: the log asks again by itself, and tells when it has space.
                if !self.full {
                    tracing::error!("cannot prepare the next segment of the log: {error}");
                }
            }
            if let Err(failed) = wal.segment_prepared(done) {
                give_up("the log cannot be written", &failed);
            }
        }
        let mut tick = self.replica.next_tick_ms().is_some_and(|ms| ms <= now.mono_ms())
            && self.ticked_ns + TICK_NS_MIN <= now.mono_ns;
        loop {
            let durable = match wal.poll(now.mono_ns) {
                Ok(durable) => durable,
                Err(failed) => give_up("the log cannot be written", &failed),
            };
            self.out.log_room = wal.room_bytes();
            self.out.log_space = match wal.space() {
                Space::Plenty => LogSpace::Plenty,
                Space::Reserve => LogSpace::ClosesOnly,
            };
            let full = self.out.log_space == LogSpace::ClosesOnly;
            if full != self.full {
                self.full = full;
                let folder = self.shared.log_folder.display();
                if full {
                    tracing::error!("no space for the log in {folder}: writes are refused until there is; reads go on");
                } else {
                    tracing::info!("there is space for the log in {folder} again: writes are taken");
                }
            }
            let event = match &durable {
                Some(durable) => {
                    let stages = &mut self.replica.stages;
                    stages.sync.record_ns(durable.sync_ns);
                    stages.batch_txns.record(durable.batch_records / u64::from(durable.batches.max(1)));
                    Event::Durable { up_to: durable.up_to }
                }
                None if tick => {
                    tick = false;
                    self.ticked_ns = now.mono_ns;
                    Event::Tick
                }
                None => Event::Look,
            };
            self.replica.handle(event, now, &mut self.out);
            if self.replica.has_delivered() {
                self.replica.delivered_at(self.shared.clock.mono_ns());
            }
            let appended = !self.out.appends.is_empty();
            for append in self.out.appends.drain(..) {
                // The replica was told how much room there is.
                wal.append(append.zxid, self.replica.bytes(append.span)).expect("the log has the room it announced");
            }
            if !self.preparing
                && let Some(prepare) = wal.wants_segment()
            {
                self.preparing = true;
                self.store.prepare(prepare);
            }
            // Once more if the disk said something, or has to be told something.
            if durable.is_none() && !appended && !tick {
                break;
            }
        }
        if self.published_ns + 500_000_000 <= now.mono_ns {
            self.published_ns = now.mono_ns;
            self.shared.replica_stages.publish(&self.replica.stages);
        }
    }

    /// Whether everything asked was answered and everything written is durable.
    fn is_settled(&self) -> bool {
        self.replica.is_idle() && self.wal.as_ref().is_none_or(|wal| wal.idle())
    }

    /// Closes the log in order.
    fn seal(&mut self, now: Now) {
        let Some(wal) = self.wal.take() else { return };
        if let Err(failed) = wal.seal(now.mono_ns) {
            give_up("the log cannot be closed", &failed);
        }
        self.shared.sealed.store(true, Ordering::SeqCst);
        for door in &self.shared.workers {
            door.sleeper.ring();
        }
    }

    /// Seals once every worker has settled. `true`: done.
    fn try_stop(&mut self, now: Now) -> bool {
        let stopping = self.shared.stop.load(Ordering::SeqCst);
        let settled = self.shared.settled.load(Ordering::SeqCst) == self.shared.workers.len();
        if stopping && settled && self.is_settled() {
            self.seal(now);
        }
        self.wal.is_none()
    }

    /// The loop of a replica that has a thread of its own.
    fn run_alone(mut self, mut poll: Poll, sleeper: &Sleeper) {
        let mut events = Events::with_capacity(16);
        loop {
            let now = self.shared.clock.now();
            self.run(now);
            if self.try_stop(now) {
                return;
            }
            let sleep = sleeper.fall_asleep(|| !self.is_busy());
            let timeout = if sleep { timeout(self.deadline_ns(), self.shared.clock.mono_ns()) } else { Duration::ZERO };
            wait(&mut poll, &mut events, timeout);
            sleeper.awake();
        }
    }
}

/// How long to sleep until a deadline. At most a second, so that nothing waits for ever for a lost wake-up.
fn timeout(deadline_ns: Option<u64>, now_ns: u64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(1);
    deadline_ns.map_or(LONGEST, |deadline| Duration::from_nanos(deadline.saturating_sub(now_ns)).min(LONGEST))
}

fn wait(poll: &mut Poll, events: &mut Events, timeout: Duration) {
    match poll.poll(events, Some(timeout)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => give_up("cannot wait for sockets", &error),
    }
}

/// The loop of one worker, with the replica if it is folded in.
struct WorkerLoop {
    index: usize,
    shared: Arc<Shared>,
    sockets: ClientSockets,
    worker: Worker,
    postbox: Arc<PostBox>,
    acceptor: Option<Acceptor>,
    replica: Option<ReplicaDriver>,
    replica_sleeper: Sleeper,
    settled: bool,
}

impl WorkerLoop {
    fn run(mut self, mut poll: Poll) {
        let mut events = Events::with_capacity(POLL_EVENTS_MAX);
        let sleeper = self.shared.workers[self.index].sleeper.clone();
        let mut stop_until_ns = None;
        let mut busy = Busy::default();
        loop {
            let before_ns = self.shared.clock.mono_ns();
            let sleep = sleeper.fall_asleep(|| !self.is_busy());
            let timeout = if sleep { timeout(self.deadline_ns(), before_ns) } else { Duration::ZERO };
            wait(&mut poll, &mut events, timeout);
            sleeper.awake();
            let now = self.shared.clock.now();
            busy.slept(before_ns, now.mono_ns, &self.shared.workers[self.index].stats);
            self.hear(&events, now);
            let heard_all = events.iter().count() < POLL_EVENTS_MAX;
            self.turn(now, before_ns / 1_000_000, heard_all);
            if self.shared.stop.load(Ordering::SeqCst) && self.stopped(now, &mut stop_until_ns) {
                return;
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.worker.is_busy()
            || !self.shared.workers[self.index].accepted.is_empty()
            || self.sockets.has_readable(&self.worker)
            || self.replica.as_ref().is_some_and(ReplicaDriver::is_busy)
    }

    fn deadline_ns(&self) -> Option<u64> {
        let accept = self.acceptor.as_ref().and_then(|acceptor| acceptor.again_ms()).map(|ms| ms * 1_000_000);
        let replica = self.replica.as_ref().and_then(ReplicaDriver::deadline_ns);
        let report = self.worker.deadline_ms() * 1_000_000;
        [accept, replica, Some(report)].into_iter().flatten().min()
    }

    fn hear(&mut self, events: &Events, now: Now) {
        let mut accept =
            self.acceptor.as_ref().and_then(|acceptor| acceptor.again_ms()).is_some_and(|ms| ms <= now.mono_ms());
        for event in events {
            match event.token() {
                WAKER | RING => {}
                LISTENER => accept = true,
                token => {
                    // An error or a hang-up is found by reading.
                    let ending = event.is_error() || event.is_read_closed();
                    self.sockets.ready(token, event.is_readable(), ending, event.is_writable(), &mut self.worker);
                }
            }
        }
        if accept && !self.shared.stop.load(Ordering::SeqCst) {
            self.accept(now);
        }
        while let Some(accepted) = self.shared.workers[self.index].accepted.pop() {
            self.sockets.open(accepted, &mut self.worker, now);
        }
    }

    /// Takes new connections and gives each to the worker with the least to do.
    fn accept(&mut self, now: Now) {
        let Some(acceptor) = &mut self.acceptor else { return };
        let WorkerLoop { shared, sockets, worker, index, .. } = self;
        acceptor.accept(now, |accepted| {
            let least = (0..shared.workers.len()).min_by_key(|worker| shared.workers[*worker].load());
            let least = least.expect("there is at least one worker");
            if least == *index {
                sockets.open(accepted, worker, now);
                return true;
            }
            let taken = shared.workers[least].accepted.push(accepted).is_ok();
            shared.workers[least].sleeper.wake();
            taken
        });
    }

    fn turn(&mut self, now: Now, listened_ms: u64, heard_events: bool) {
        self.worker.begin(now);
        self.worker.listened(listened_ms);
        let heard_all = self.sockets.read(&mut self.worker) && heard_events;
        let posted = self.worker.finish(heard_all);
        if let Some(replica) = &mut self.replica {
            // The time again: reading the sockets took some, and that is the first stage of a write.
            let now = if posted { self.shared.clock.now() } else { now };
            replica.run(now);
        } else if posted {
            self.replica_sleeper.wake();
        }
        self.worker.drain();
        self.announce_room();
        while let Some((conn, word)) = self.worker.next_word() {
            let mut text = Vec::new();
            let view = word.needs_view().then(|| self.view(now));
            four_letter::answer(word, self.shared.config.four_letter, view.as_ref(), &os::environment, &mut text);
            self.worker.answer_word(conn, &text);
        }
        if self.worker.replica_waits() {
            match &mut self.replica {
                Some(replica) => replica.run(now),
                // Rung, not woken: room in a mailbox is not what the replica looks at before it sleeps.
                None => self.replica_sleeper.ring(),
            }
        }
        self.sockets.write(&mut self.worker);
        if self.worker.has_outcomes() {
            self.worker.written(self.shared.clock.now());
        }
    }

    /// Tells workers whose requests wait for others to be completed that some were.
    fn announce_room(&mut self) {
        let mut waiters = self.worker.waiters_elsewhere();
        while waiters != 0 {
            let other = waiters.trailing_zeros() as usize;
            waiters &= waiters - 1;
            self.shared.workers[other].sleeper.wake();
        }
    }

    /// The stopping part of a turn. `true`: the thread is done.
    fn stopped(&mut self, now: Now, until_ns: &mut Option<u64>) -> bool {
        self.acceptor = None;
        self.worker.stop();
        if !self.settled && self.worker.is_settled() && self.postbox.is_empty() {
            self.settled = true;
            self.shared.settled.fetch_add(1, Ordering::SeqCst);
            self.replica_sleeper.ring();
        }
        if let Some(replica) = &mut self.replica {
            replica.try_stop(now);
        }
        if !self.shared.sealed.load(Ordering::SeqCst) {
            return false;
        }
        if until_ns.is_none() {
            *until_ns = Some(now.mono_ns + STOP_FLUSH_MS_MAX * 1_000_000);
            self.worker.end_all();
            self.sockets.write(&mut self.worker);
        }
        self.worker.is_empty() || until_ns.is_some_and(|until| until <= now.mono_ns)
    }

    /// What the monitors ask for.
    fn view(&mut self, now: Now) -> View {
        self.worker.publish();
        if let Some(replica) = &self.replica {
            self.shared.replica_stages.publish(&replica.replica.stages);
        }
        view(&self.shared, now)
    }
}

/// How much of its time a worker works, over windows of 100 ms.
#[derive(Default)]
struct Busy {
    since_ns: u64,
    slept_ns: u64,
}

impl Busy {
    fn slept(&mut self, from_ns: u64, to_ns: u64, stats: &WorkerStats) {
        self.slept_ns += to_ns - from_ns;
        let window_ns = to_ns - self.since_ns;
        if 100_000_000 <= window_ns {
            stats.report_busy(1000 - (1000 * self.slept_ns / window_ns).min(1000));
            *self = Busy { since_ns: to_ns, slept_ns: 0 };
        }
    }
}

impl WorkerDoor {
    fn load(&self) -> (u64, u64) {
        let (busy, connections) = self.stats.load();
        (busy, connections + self.accepted.len() as u64)
    }
}

fn view(shared: &Shared, now: Now) -> View {
    let mut totals = Totals::default();
    let mut stages = Stages::default();
    let mut connections = Vec::new();
    shared.replica_stages.add_to(&mut stages);
    for door in &shared.workers {
        door.stats.add_to(&mut totals, &mut stages);
        door.stats.connections(&mut |stats| connections.push(stats.view()));
    }
    totals.add(Count::ConnectionRejected, shared.admissions.rejected());
    let (drop_probability, token_deficit) = shared.bounds.connecting();
    let mut counters: Vec<_> = totals.counters().collect();
    let mut summaries = stages.summaries();
    let held: Measure = shared.gate.held_ns();
    summaries.push(("zorilla_gate_held_ns", held.summary()));
    let config = &shared.config;
    let log_bytes = os::directory_bytes(&shared.log_folder);
    let data_bytes = os::directory_bytes(&config.data_dir);
    let descriptors_open = os::descriptors_open();
    // Last, because the gate is not held across a system call.
    let state = shared.gate.read();
    counters.extend([
        ("bytes_received_count", totals.received_bytes),
        ("response_bytes", totals.sent_bytes),
        ("zorilla_log_dropped_bytes", shared.log_dropped_bytes),
        ("zorilla_tree_memory_bytes", state.tree.memory_bytes() as u64),
    ]);
    let absolute = |path: &std::path::Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    View {
        mode: "standalone",
        latency_ms: totals.latency_ms,
        received: totals.received,
        sent: totals.sent,
        connections,
        outstanding: totals.outstanding,
        zxid: state.applied.raw(),
        // The reference counts the root under both of its names.
        znodes: state.tree.len() as u64 + 1,
        ephemerals: state.tree.ephemerals_count() as u64,
        watches: totals.watches,
        data_bytes: state.tree.approximate_data_bytes(),
        sessions: state.sessions as u64,
        uptime_ms: now.mono_ms() - shared.started_ms,
        descriptors_open,
        descriptors_max: os::descriptors_max(),
        reply_bytes: totals.reply_bytes,
        digests: state.digests.iter().map(|(zxid, digest)| (zxid.raw(), digest)).collect(),
        drop_probability,
        token_deficit,
        conf: ConfView {
            client_port: shared.client_address.map(|address| address.port()),
            data_dir: absolute(&config.data_dir).display().to_string(),
            data_dir_bytes: data_bytes,
            data_log_dir: absolute(&shared.log_folder).display().to_string(),
            data_log_dir_bytes: log_bytes,
            tick_ms: config.tick_ms,
            max_client_cnxns: config.max_client_cnxns,
            session_timeout_ms_min: config.session_timeout_ms_min,
            session_timeout_ms_max: config.session_timeout_ms_max,
            client_port_listen_backlog: config.client_port_listen_backlog,
            server_id: 0,
        },
        counters,
        summaries,
    }
}
