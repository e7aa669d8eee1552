//! Builds the server, spawns its threads, and does what the values decide: the driver loops.
//!
//! The only place where threads begin. Each loop is short on purpose: sleep, hear, let the value decide, act. Folded, the
//! replica is called by the loop of worker 0; dedicated, it has a loop of its own; it is the same value either way.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use zorilla_proto::ids::Zxid;
use zorilla_wal::disk::{self, AnyDisk, DirFiles};
use zorilla_wal::{OpenError, Space, StoreId, Wal};

use crate::auth::Rules;
use crate::clock::{Clock, Now};
use crate::compat::ImportError;
use crate::compat::progress::Bar;
use crate::config::{Config, Driver, Workers};
use crate::gate::Gate;
use crate::limits::{ACCEPTED_MAX, LISTING_SLICE_NAMES, POLL_EVENTS_MAX, STOP_FLUSH_MS_MAX, TICK_NS_MIN, WORKERS_MAX};
use crate::net::client::{Accepted, Acceptor, Admissions, ClientSockets};
use crate::ops::four_letter::{self, ConfView, View};
use crate::ops::metrics::{Count, Measure, Published, Stages, Totals, WorkerStats};
use crate::os;
use crate::replica::{self, Event, LogSpace, Out, Replica};
use crate::store::keeper::Braking;
use crate::store::recover::{self, Opened, StartError};
use crate::store::takeover;
use crate::store::work::Work;
use crate::store::{self, Done, Figures, Job, Keeper, Misfit, StateError, Store};
use crate::wake::{Bell, Sleeper};
use crate::worker::mailbox::{Mailbox, PostBox};
use crate::worker::{Asked, Bounds, Settings, Worker};

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
    /// The state cannot be used: see its words.
    State(StateError),
    /// The log holds something that this server did not write.
    Misfit {
        /// Where the log lives.
        path: PathBuf,
        /// What does not fit.
        misfit: Misfit,
    },
    /// What a Java server left cannot be taken over: see its words.
    Import(ImportError),
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
            ServerError::State(error) => error.fmt(f),
            ServerError::Misfit { path, misfit } => write!(
                f,
                "{}: {misfit}. Nothing was changed. Another program wrote this log, or this program has a defect; keep \
                 the directory, and start on a copy of another server's data.",
                path.display()
            ),
            ServerError::Import(error) => error.fmt(f),
            ServerError::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "Address already in use: {address}. Another server listens there; stop it, or set another clientPort."
            ),
            ServerError::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            ServerError::System { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

impl ServerError {
    fn of(error: StartError, log_folder: &Path) -> ServerError {
        match error {
            StartError::Log(error) => ServerError::Log(error),
            StartError::State(error) => ServerError::State(error),
            StartError::Misfit(misfit) => ServerError::Misfit { path: log_folder.to_owned(), misfit },
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
    figures: Arc<Figures>,
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
    /// The last transaction that was in the state on the disk.
    pub snapshot: Zxid,
    /// Transactions of the log on top of it.
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
        let log_folder = store::log_folder(&config.data_log_dir);
        let state_folder = store::state_folder(&config.data_dir);
        let state_files = DirFiles::open(&state_folder, false)
            .map_err(|source| ServerError::Directory { path: state_folder, source })?;
        let open = || {
            let disk = disk::best(&log_folder, true).map_err(ServerError::Log)?;
            let text = disk.describe();
            let store_id = StoreId(u128::from(entropy()) << 64 | u128::from(seed));
            let opened = recover::open(disk, &state_files, store_id, config.segment_bytes, seed)
                .map_err(|error| ServerError::of(error, &log_folder))?;
            Ok::<_, ServerError>((opened, text))
        };
        let (mut opened, mut log_text) = open()?;
        let imported =
            takeover::take_over(&config, &mut opened, &state_files, &mut Bar::default(), clock.now(), entropy())
                .map_err(ServerError::Import)?;
        if let Some(imported) = imported {
            for warning in &imported.report.warnings {
                tracing::warn!("{warning}");
            }
            let aside: Vec<_> = imported.aside.iter().map(|path| path.display().to_string()).collect();
            let (znodes, applied) = (imported.report.znodes, imported.applied);
            tracing::info!(
                "took over {znodes} znodes up to {applied} from a Java server; its files are unchanged in {}",
                aside.join(" and ")
            );
            // The lock of the log goes with the old one.
            drop(opened);
            (opened, log_text) = open()?;
        }
        let Opened { wal, mut replay, found, log } = opened;
        for fault in &found.passed_over {
            tracing::warn!("{fault}. The log does not need it: the state before it is used");
        }
        let dropped_bytes = log.torn.as_ref().map_or(0, |torn| torn.bytes);
        let sealed = log.sealed || log.fresh;
        let txns = replay.txns();
        let now = clock.now();
        let snapshot = found.zxid();
        let tail = replay.take_tail();
        let (state, sessions) = replay.finish(u64::from(config.tick_ms), now);
        let applied = state.applied;
        let hashes = found.head.as_ref().map_or(seed, |head| head.seed);
        let work = Work::new(state_files, &found, wal.store(), hashes, entropy());
        let keeper = Keeper::new(config.snapshot, &found, wal.state_head(), work.is_merging());
        let gate = Gate::new(state);
        let gate = Arc::new(if config.count_gate_faults { gate.counting_major_faults() } else { gate });

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

        let (store_door, store_loop) = store::store(replica_sleeper.clone(), work);
        let cold = store_door.cold();
        // Unmapping large runs takes long, so the store thread lets go of the last of them.
        drop(found);
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
            log_dropped_bytes: dropped_bytes,
            figures: store_door.figures().clone(),
            stop: AtomicBool::new(false),
            settled: AtomicUsize::new(0),
            sealed: AtomicBool::new(false),
            config,
        });
        let configured = &shared.config.settings;
        let schemes = configured.enforced_schemes.as_deref();
        let rules = Arc::new(Rules::new(&configured.auth, configured.skip_acl, schemes));
        let replica_settings = replica::Settings::new(configured, rules.clone());
        let mut replica =
            Replica::solo(replica_settings, gate.clone(), mailboxes.clone(), postboxes.clone(), sessions, seed);
        replica.begin_with(tail, now);
        let driver = ReplicaDriver::new(shared.clone(), replica, wal, store_door, keeper, postboxes.clone());

        let store = spawn("store", move || {
            if let Err(error) = store_loop.run() {
                give_up("the state cannot be kept", &error);
            }
        })?;
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
            listing_names: LISTING_SLICE_NAMES,
            chill: None,
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
                asked: Asked::new(cold.clone(), shared.workers[index].sleeper.clone()),
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
        let recovered = Recovered { zxid: applied, snapshot, txns, dropped_bytes, sealed, log: log_text, arrangement };
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
    keeper: Keeper,
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
        keeper: Keeper,
        postboxes: Vec<Arc<PostBox>>,
    ) -> ReplicaDriver {
        ReplicaDriver {
            shared,
            replica,
            wal: Some(wal),
            store,
            keeper,
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
        let keeper = self.keeper.deadline_ns(self.replica.since());
        [tick, log, keeper].into_iter().flatten().min()
    }

    /// Takes what the store thread has done.
    fn take_done(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        while let Some(done) = self.store.next_done() {
            let taken = match done {
                Done::Prepared(prepared) => {
                    self.preparing = false;
                    if let Err(error) = &prepared {
                        // Said once: the log asks again by itself, and tells when it has space.
                        if !self.full {
                            tracing::error!("cannot prepare the next segment of the log: {error}");
                        }
                    }
                    wal.segment_prepared(prepared)
                }
                Done::Purged(purged) => wal.segments_purged(purged),
                Done::Swap(swap) => {
                    let retired = self.replica.swap(&swap);
                    self.keeper.swapped(&swap);
                    self.store.ask(Job::Drop(retired));
                    Ok(())
                }
            };
            if let Err(failed) = taken {
                give_up("the log cannot be written", &failed);
            }
        }
    }

    /// Freezes and names heads to the log, as it is due.
    fn keep(&mut self, now: Now) {
        let Some(wal) = &mut self.wal else { return };
        if let Some(head) = self.keeper.untold() {
            // No room: the next turn tries again.
            if let Ok(position) = wal.append_state_head(&head.file, head.zxid) {
                self.keeper.told(position);
            }
        }
        if self.keeper.wants_freeze(self.replica.since(), now.mono_ns) {
            let freeze = self.replica.freeze(now);
            self.keeper.froze();
            self.store.ask(Job::Write(Box::new(freeze)));
        }
    }

    /// What the log may take, and the words about it.
    fn brake(&mut self, now: Now) -> Option<usize> {
        let live_bytes = self.replica.live_bytes();
        let (room, turned) = self.keeper.room(live_bytes, now.mono_ns);
        if let Some(turned) = turned {
            let braking = turned == Braking::Begins;
            let mib = live_bytes >> 20;
            if braking {
                tracing::warn!(
                    "the last snapshot is still being written, and {mib} MiB have changed since: writes are slowed down to \
                     what the disk takes"
                );
            } else {
                tracing::info!("the snapshot is written: writes are taken at full speed again");
            }
        }
        let urgent = room.is_some() || self.preparing;
        self.shared.figures.urgent.store(urgent, Ordering::Relaxed);
        room
    }

    /// One turn: disk, replica, disk.
    fn run(&mut self, now: Now) {
        self.take_done();
        self.keep(now);
        let brake = self.brake(now);
        let Some(wal) = &mut self.wal else { return };
        let mut tick = self.replica.next_tick_ms().is_some_and(|ms| ms <= now.mono_ms())
            && self.ticked_ns + TICK_NS_MIN <= now.mono_ns;
        let mut spent = 0;
        loop {
            let durable = match wal.poll(now.mono_ns) {
                Ok(durable) => durable,
                Err(failed) => give_up("the log cannot be written", &failed),
            };
            if let Some(durable) = &durable {
                self.keeper.durable(durable.position);
            }
            self.out.log_room = brake.map_or(usize::MAX, |room| room.saturating_sub(spent)).min(wal.room_bytes());
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
                spent += append.span.len();
                // The replica was told how much room there is.
                wal.append(append.zxid, self.replica.bytes(append.span)).expect("the log has the room it announced");
            }
            if !self.preparing
                && let Some(prepare) = wal.wants_segment()
            {
                self.preparing = true;
                self.store.ask(Job::Prepare(prepare));
            }
            // Once more if the disk said something, or has to be told something.
            if durable.is_none() && !appended && !tick {
                break;
            }
        }
        self.keeper.spent(spent);
        if let Some((head, zxid)) = self.keeper.purge_due() {
            self.store.ask(Job::Purge { head, log: wal.purge_before(zxid) });
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
    asked: Asked,
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
        self.asked.turn(&mut self.worker);
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
    counters.extend(shared.figures.counters());
    // Last, because the gate is not held across a system call.
    let state = shared.gate.read();
    counters.extend([
        ("bytes_received_count", totals.received_bytes),
        ("response_bytes", totals.sent_bytes),
        ("zorilla_log_dropped_bytes", shared.log_dropped_bytes),
        ("zorilla_tree_memory_bytes", state.tree.memory_bytes() as u64),
        // The root's place is always there.
        ("zorilla_overlay_entries", state.tree.live_size().0 as u64 - 1),
        ("zorilla_frozen_entries", state.tree.frozen().map_or(0, |frozen| frozen.entries() as u64)),
        ("zorilla_cold_inline", state.tree.cold_inline()),
    ]);
    counters.extend(shared.gate.major_faults().map(|count| ("zorilla_gate_major_faults", count)));
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
