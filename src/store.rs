//! Log, runs and heads as one: what a start finds on the disks, and the thread that keeps the state small, the log short and
//! the next segment ready.
//!
//! | module | holds |
//! |---|---|
//! | [`head`] | which runs are in force: the format of heads, and how a file gets its name |
//! | [`policy`] | when the state is written, and which runs are merged |
//! | [`keeper`] | the replica's side: when to freeze, what to tell the log, what may be purged |
//! | [`work`] | the store thread's side: writing, merging, purging |
//! | [`recover`] | what a start finds |
//! | [`replay`] | the transactions of the log's tail on top of it |
//! | [`takeover`] | the state of a Java server becomes ours |
//!
//! A snapshot is: the replica freezes its overlay (no step that grows with it), the store thread writes it as a run and
//! publishes a head that names it, the replica takes the run in the overlay's place, a record in the log names the head, and
//! once that is durable the segments, heads and runs that only older heads need go away. Whatever is interrupted by a crash
//! leaves the older head with a longer tail of the log, or the newer one.

pub mod head;
pub mod keeper;
pub mod policy;
pub mod recover;
pub mod replay;
pub mod takeover;
pub mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, never, select};
use crossbeam::queue::ArrayQueue;
use zorilla_snapshot::{Cold, Fault, Run};
use zorilla_wal::disk::DirFiles;
use zorilla_wal::{Prepare, PrepareError, Prepared, Purge, Purged};

use crate::clock::Clock;
use crate::limits::{COLD_MAX, EPOCH_NS, JOBS_MAX, WARM_PAUSE_MS, WRITE_RETRY_MS};
use crate::os::{self, Rank};
use crate::wake::Sleeper;

pub use self::keeper::Keeper;
pub use self::policy::Policy;
pub use self::recover::StateError;
pub use self::replay::{Misfit, Replay, SERVER_ID};
use self::work::{Freeze, Progress, Retired, Swap, Work};

/// The folder of the log's segments, below `dataLogDir`.
pub const LOG_FOLDER: &str = "zorilla-log";

/// The folder of runs and heads, below `dataDir`.
pub const STATE_FOLDER: &str = "zorilla-state";

/// The folder where the log of this configuration lives.
pub fn log_folder(data_log_dir: &Path) -> PathBuf {
    data_log_dir.join(LOG_FOLDER)
}

/// The folder where the state of this configuration lives.
pub fn state_folder(data_dir: &Path) -> PathBuf {
    data_dir.join(STATE_FOLDER)
}

/// Work for the store thread.
pub enum Job {
    /// Make a segment ready for the log.
    Prepare(Prepare<DirFiles>),
    /// Write what was frozen.
    Write(Box<Freeze>),
    /// The log durably names this head: what only older ones need may go, and these segments of the log.
    Purge {
        /// The number of the head.
        head: u64,
        /// Segments of the log.
        log: Option<Purge<DirFiles>>,
    },
    /// Let go of what nobody looks at any more.
    Drop(Retired),
}

/// What came of it.
pub enum Done {
    /// A segment, or why there is none.
    Prepared(Result<Prepared<DirFiles>, PrepareError>),
    /// What became of the segments that the log gave back.
    Purged(Result<Purged, PrepareError>),
    /// A run takes the place of the frozen overlay, or of older runs.
    Swap(Swap),
}

/// A block of a run that somebody waits for.
pub struct BringIn {
    /// Of which run.
    pub run: Arc<Run>,
    /// Which block.
    pub cold: Cold,
    /// Who is rung when it is there.
    pub waiter: Sleeper,
}

/// Where blocks are asked for. Everybody who reads the tree has one.
#[derive(Clone)]
pub struct ColdDoor(Sender<BringIn>);

impl ColdDoor {
    /// Asks for a block; the waiter is rung when it is there. `false`: too many are waited for, ask again in the next turn.
    pub fn ask(&self, block: BringIn) -> bool {
        self.0.try_send(block).is_ok()
    }
}

/// The store thread's door for the replica.
pub struct Store {
    jobs: Sender<Job>,
    done: Arc<ArrayQueue<Done>>,
    cold: ColdDoor,
    figures: Arc<Figures>,
}

/// A door and its other side; `replica` is woken when something is done.
pub fn store(replica: Sleeper, work: Work<DirFiles>) -> (Store, StoreLoop) {
    let (send, receive) = bounded(JOBS_MAX);
    let (cold, colds) = bounded(COLD_MAX);
    let done = Arc::new(ArrayQueue::new(JOBS_MAX));
    let figures = work.figures();
    let hall = Hall {
        jobs: receive,
        cold: colds,
        done: done.clone(),
        replica,
        figures: figures.clone(),
        later: Vec::new(),
        fault: None,
        closed: false,
        rank: None,
    };
    (Store { jobs: send, done, cold: ColdDoor(cold), figures }, StoreLoop { hall, work })
}

impl Store {
    /// Asks for work.
    pub fn ask(&self, job: Job) {
        // Each kind is asked for again only after it was answered, and what is given back is bounded by what was answered,
        // so there is room soon; the thread ends only after this door is dropped.
        self.jobs.send(job).expect("the store thread lives as long as its door");
    }

    /// The next thing that is done.
    pub fn next_done(&self) -> Option<Done> {
        self.done.pop()
    }

    /// Whether something is done.
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// What the thread did so far.
    pub fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// Where blocks are asked for.
    pub fn cold(&self) -> ColdDoor {
        self.cold.clone()
    }
}

/// What the store thread did since the start, for the monitors.
#[derive(Debug, Default)]
pub struct Figures {
    /// Runs in force.
    pub runs: AtomicU64,
    /// Their bytes.
    pub run_bytes: AtomicU64,
    /// The zxid of the newest head.
    pub head_zxid: AtomicU64,
    /// Overlays written.
    pub flushes: AtomicU64,
    /// Merges.
    pub merges: AtomicU64,
    /// Bytes of runs written.
    pub written_bytes: AtomicU64,
    /// Blocks brought in because somebody waited for them.
    pub brought_in: AtomicU64,
    /// Attempts to write a run that were given up because the disk took nothing.
    pub given_up: AtomicU64,
    /// Set by the replica: the log waits for a segment, or writes for the frozen overlay to be on the disk.
    pub urgent: AtomicBool,
}

impl Figures {
    /// Names and values, as `mntr` shows them.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("zorilla_runs", of(&self.runs)),
            ("zorilla_run_bytes", of(&self.run_bytes)),
            ("zorilla_head_zxid", of(&self.head_zxid)),
            ("zorilla_flushes", of(&self.flushes)),
            ("zorilla_merges", of(&self.merges)),
            ("zorilla_run_written_bytes", of(&self.written_bytes)),
            ("zorilla_cold_brought_in", of(&self.brought_in)),
            ("zorilla_flushes_given_up", of(&self.given_up)),
        ]
        .into_iter()
    }
}

/// Jobs and blocks that wait, and where their outcome goes.
struct Hall {
    jobs: Receiver<Job>,
    cold: Receiver<BringIn>,
    done: Arc<ArrayQueue<Done>>,
    replica: Sleeper,
    figures: Arc<Figures>,
    /// Jobs that wait for the end of the step under way.
    later: Vec<Job>,
    /// A block that is damaged.
    fault: Option<Fault>,
    /// No further jobs can come.
    closed: bool,
    /// Of the store thread, once it runs.
    rank: Option<Rank>,
}

impl Hall {
    /// Does what others wait for, and keeps the rest for later. `false`: the thread is to end.
    fn look(&mut self) -> bool {
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.take(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.closed = true;
                    break;
                }
            }
        }
        while let Ok(block) = self.cold.try_recv() {
            self.bring_in(&block);
            if let Ok(job) = self.jobs.try_recv() {
                self.take(job);
            }
        }
        self.set_rank();
        !self.closed && self.fault.is_none()
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Prepare(prepare) => {
                self.set_behind(false);
                self.tell(Done::Prepared(prepare.run()));
            }
            other => self.later.push(other),
        }
    }

    fn bring_in(&mut self, block: &BringIn) {
        match block.run.bring_in(block.cold) {
            Ok(()) => {
                self.figures.brought_in.fetch_add(1, Ordering::Relaxed);
                block.waiter.ring();
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    fn tell(&self, done: Done) {
        assert!(self.done.push(done).is_ok(), "the store thread has more to say than was asked for");
        self.replica.wake();
    }

    /// Sleeps until there is something, or for so long.
    fn wait(&mut self, at_most: Option<Duration>) {
        // A thread that stands behind the others is late to wake, and the log may use up its reserve before it is told that
        // the disk is full.
        self.set_behind(false);
        let timer = at_most.map_or_else(never, crossbeam::channel::after);
        select! {
            recv(self.jobs) -> job => match job {
                Ok(job) => self.take(job),
                Err(_) => self.closed = true,
            },
            recv(self.cold) -> block => if let Ok(block) = block {
                self.bring_in(&block);
            },
            recv(timer) -> _ => {}
        }
    }

    /// Behind the others as long as nobody has to wait for what is written here.
    fn set_rank(&mut self) {
        let urgent = self.figures.urgent.load(Ordering::Relaxed);
        self.set_behind(!urgent);
    }

    fn set_behind(&mut self, behind: bool) {
        self.rank.get_or_insert_with(Rank::of_this_thread).set_behind(behind);
    }
}

/// The other side of the door: what the thread runs.
pub struct StoreLoop {
    hall: Hall,
    work: Work<DirFiles>,
}

impl StoreLoop {
    /// Works until the door is dropped. What is under way then is given up: the next start has the log for it.
    ///
    /// # Errors
    /// A file of the state is damaged, or cannot be written for a reason that does not pass.
    pub fn run(mut self) -> Result<(), StateError> {
        let clock = Clock::start();
        let mut ticked_ns = clock.mono_ns();
        self.work.set_memory(os::memory_bytes());
        loop {
            if ticked_ns + EPOCH_NS <= clock.mono_ns() {
                ticked_ns = clock.mono_ns();
                self.work.tick();
            }
            let goes_on = self.hall.look();
            if let Some(fault) = self.hall.fault.take() {
                return Err(StateError::Damaged(fault));
            }
            if !goes_on {
                return Ok(());
            }
            for job in std::mem::take(&mut self.hall.later) {
                match job {
                    Job::Prepare(prepare) => self.hall.tell(Done::Prepared(prepare.run())),
                    Job::Write(freeze) => self.work.take(*freeze),
                    Job::Purge { head, log } => {
                        self.work.purge(head);
                        if let Some(purge) = log {
                            self.hall.tell(Done::Purged(purge.run()));
                        }
                    }
                    Job::Drop(retired) => drop(retired),
                }
            }
            match self.work.step()? {
                Progress::More => {}
                Progress::Swap(swap) => self.hall.tell(Done::Swap(swap)),
                Progress::Later => self.hall.wait(Some(Duration::from_millis(WRITE_RETRY_MS))),
                Progress::Warmed => self.hall.wait(Some(Duration::from_millis(WARM_PAUSE_MS))),
                Progress::Idle => {
                    let tick = self.work.is_pressed().then_some(Duration::from_nanos(EPOCH_NS));
                    self.hall.wait(tick);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
