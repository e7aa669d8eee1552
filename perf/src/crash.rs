//! Crash rounds: load, crash, restart, and a comparison of everything acknowledged with what is there.
//!
//! `crash kill` ends the process with SIGKILL, `crash powercut` cuts the power of a disk made for it. Both run any
//! number of rounds on one data directory with many clients; a round's crash comes at a random moment under load, now
//! and then a second one while the server is still recovering. After each restart every acknowledged write must be
//! there with its zxid, every write in flight wholly or not at all and in the order of its session, sequence numbers
//! must rise and never repeat, live sessions must resume and keep their ephemerals, closed ones must be gone.
//!
//! `--expect-loss` turns the verdict around: a server that does not sync must be caught, or the rounds prove nothing.

pub mod conn;
mod ground;
mod judge;
mod lane;
mod model;
pub mod server;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use zorilla_proto::Zxid;
use zorilla_proto::client::{AclVec, CreateRequest, Request};

use conn::Conn;
use ground::{Disk, Ground};
use judge::History;
use lane::{Lane, Run, SHARED_COUNT};
use model::{NUMBERS, SHARED, TOP};
use server::{Server, Starter};

use crate::wire::Random;

/// Set for the process inside its own mount namespace.
const INSIDE: &str = "ZORILLA_CRASH_NAMESPACE";
/// A round without the wanted number of writes crashes after this time all the same.
const LOAD_TIME_MAX: Duration = Duration::from_secs(3);
/// Without a single acknowledged write for so long, the server does not serve.
const FIRST_ACK_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a server lives on without power before it is killed.
const LINGER_MS_MAX: u32 = 100;
/// The smallest segment the server makes: a round under load fills it.
const SMALL_SEGMENT_KIB: u32 = 8192;
/// Losses printed of one round; the others are counted.
const LOSSES_SHOWN: usize = 12;

#[derive(Parser)]
#[command(name = "crash", about = "Crash a server under load and count what it lost")]
struct Cli {
    #[command(subcommand)]
    how: How,
}

#[derive(Subcommand)]
enum How {
    /// kill -9 at a random moment.
    Kill(Options),
    /// A power cut: loop device, ext4, file-system shutdown, remount. Needs root.
    Powercut(Options),
}

#[derive(Args)]
struct Options {
    /// How many crashes.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Repeats the choices of an earlier run (not its timing). Default: random.
    #[arg(long)]
    seed: Option<u64>,
    /// What serves as `<server> server <zoo.cfg>`. Default: $ZORILLA, then the binary beside this one.
    #[arg(long)]
    server: Option<String>,
    /// A line of zoo.cfg; may be repeated.
    #[arg(long)]
    conf: Vec<String>,
    /// How many clients write at the same time.
    #[arg(long, default_value_t = 24)]
    clients: usize,
    /// A crash comes after at most so many acknowledged writes.
    #[arg(long, default_value_t = 6000)]
    writes_max: u32,
    /// After so many rounds a new data directory is begun, so that replay stays short. Every second one has a log of
    /// small segments, so that crashes also meet the change from one to the next.
    #[arg(long, default_value_t = 20)]
    rounds_per_directory: u32,
    /// Size of the disk for power cuts; every start of the server begins a segment of its log.
    #[arg(long, default_value_t = 2560)]
    size_mib: u64,
    /// Working folder; emptied at the start. Default: target/crash.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Succeed exactly if something was lost.
    #[arg(long)]
    expect_loss: bool,
}

/// Runs one of the commands; `args` are the words behind `crash`.
pub fn main(args: Vec<String>) -> ExitCode {
    let cli = Cli::parse_from(std::iter::once("crash".to_owned()).chain(args.iter().cloned()));
    let (name, options) = match &cli.how {
        How::Kill(options) => ("kill", options),
        How::Powercut(options) => ("powercut", options),
    };
    if name == "powercut" && std::env::var_os(INSIDE).is_none() {
        if let Err(error) = ground::check_power_can_be_cut() {
            eprintln!("crash powercut: {error}");
            return ExitCode::FAILURE;
        }
        // Mounts of a namespace end with its last process, however that ends.
        let me = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        let error = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(me)
            .arg("crash")
            .args(&args)
            .env(INSIDE, "1")
            .exec();
        eprintln!("crash powercut: a mount namespace is needed, unshare: {error}");
        return ExitCode::FAILURE;
    }
    match Rounds::new(name, options).and_then(|mut rounds| rounds.run()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crash {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Rounds<'o> {
    name: &'static str,
    options: &'o Options,
    folder: PathBuf,
    starter: Starter,
    ground: Ground,
    random: Random,
    seed: u64,
    acked: u64,
    crashes_in_recovery: u32,
    lives: u32,
    losses: usize,
    /// How long the last start took: crashes during recovery are spread over it.
    start_time: Duration,
}

/// One data directory: its server, which is running between rounds, and its clients.
struct Life {
    history: History,
    lanes: Vec<Lane>,
    server: Server,
}

impl<'o> Rounds<'o> {
    fn new(name: &'static str, options: &'o Options) -> Result<Rounds<'o>, String> {
        if options.clients == 0 || options.writes_max == 0 || options.rounds_per_directory == 0 {
            return Err("--clients, --writes-max and --rounds-per-directory must be at least 1".into());
        }
        let command = match options.server.clone().or_else(|| std::env::var("ZORILLA").ok()) {
            Some(command) => command.split_whitespace().map(str::to_owned).collect(),
            None => vec![beside_this_binary()?],
        };
        let folder = options.dir.clone().unwrap_or_else(|| PathBuf::from("target/crash").join(name));
        let said = |error| format!("{}: {error}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(said)?;
        }
        fs::create_dir_all(&folder).map_err(said)?;
        let folder = folder.canonicalize().map_err(said)?;
        let ground = match name {
            "powercut" => Ground::Disk(Disk::new(&folder, options.size_mib)),
            _ => Ground::Folder(folder.clone()),
        };
        let seed = options.seed.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64 % 1_000_000_000)
        });
        let starter = Starter { command, conf: options.conf.clone(), folder: folder.clone() };
        Ok(Rounds {
            name,
            options,
            folder,
            starter,
            ground,
            random: Random::new(seed),
            seed,
            acked: 0,
            crashes_in_recovery: 0,
            lives: 0,
            losses: 0,
            start_time: Duration::from_millis(50),
        })
    }

    fn run(&mut self) -> Result<ExitCode, String> {
        println!("crash {}: {} rounds, seed {}", self.name, self.options.rounds, self.seed);
        let started = Instant::now();
        let mut life: Option<Life> = None;
        let mut rounds = 0;
        for round in 1..=self.options.rounds {
            if (round - 1) % self.options.rounds_per_directory == 0 {
                life = None;
            }
            let mut current = match life.take() {
                Some(life) => life,
                None => self.begin(round)?,
            };
            let losses = self.round(&mut current)?;
            rounds = round;
            if losses.is_empty() {
                life = Some(current);
            } else {
                self.report(round, &losses, &mut current.server);
                if self.options.expect_loss {
                    break;
                }
            }
            if round % 10 == 0 {
                let seconds = started.elapsed().as_secs();
                println!("{round} rounds, {} acknowledged writes, {} losses, {seconds} s", self.acked, self.losses);
            }
        }
        println!(
            "crash {}: {rounds} rounds ({} crashes during recovery), {} acknowledged writes checked, {} losses, \
             seed {}, {:.0} s",
            self.name,
            self.crashes_in_recovery,
            self.acked,
            self.losses,
            self.seed,
            started.elapsed().as_secs_f64()
        );
        if self.acked == 0 {
            return Err("no write was ever acknowledged: nothing was shown".into());
        }
        match (self.options.expect_loss, self.losses) {
            (false, 0) => Ok(ExitCode::SUCCESS),
            (true, 0) => Err("losses were expected and none was found: these rounds would not notice one".into()),
            (expected, _) => Ok(if expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        }
    }

    /// A new data directory with everything the lanes need.
    fn begin(&mut self, round: u32) -> Result<Life, String> {
        self.ground.clear()?;
        self.lives += 1;
        self.starter.conf.clone_from(&self.options.conf);
        if self.lives.is_multiple_of(2) {
            self.starter.conf.push(format!("preAllocSize={SMALL_SEGMENT_KIB}"));
        }
        let mut server = self.starter.spawn(&self.ground.data_dir()).map_err(|error| error.to_string())?;
        let (mut conn, _) = server.wait_serving()?;
        let mut lanes = Vec::new();
        for path in [TOP, NUMBERS, SHARED] {
            create(&mut conn, path)?;
        }
        for index in 0..SHARED_COUNT {
            create(&mut conn, &lane::shared_path(index))?;
        }
        for index in 0..self.options.clients {
            let czxid = create(&mut conn, &lane::folder(index))?;
            let seed = self.random.next() ^ u64::from(round);
            lanes.push(Lane::new(index, czxid, seed));
        }
        let (tree, zxid) = judge::read_tree(&mut conn)?;
        let history = History::new(&tree, zxid);
        Ok(Life { history, lanes, server })
    }

    /// Loads the server, crashes it, starts it again, and returns everything it has lost.
    fn round(&mut self, life: &mut Life) -> Result<Vec<String>, String> {
        let armed = self.ground.arm()?;
        let wanted = u64::from(1 + self.random.below(self.options.writes_max));
        // Some crashes come when hardly anything has happened, some between two batches.
        let wanted = if self.random.below(8) == 0 { 1 + wanted % 50 } else { wanted };
        let pause = Duration::from_micros(u64::from(self.random.below(2000)));
        let linger = Duration::from_millis(u64::from(self.random.below(LINGER_MS_MAX)));
        let Life { history, lanes, server } = life;
        let run = Run::default();
        let address = server.address;
        let broken = std::thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || lane.load(address, run))).collect();
            let started = Instant::now();
            loop {
                let acked = run.acked.load(Ordering::Relaxed);
                let limit = if acked == 0 { FIRST_ACK_TIME_MAX } else { LOAD_TIME_MAX };
                if wanted <= acked || limit < started.elapsed() || threads.iter().all(|thread| thread.is_finished()) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(pause);
            let crashed = self.ground.crash(armed, server, linger, run);
            let joined = threads.into_iter().map(|thread| thread.join().expect("a lane does not panic"));
            let broken: Vec<String> = joined.filter_map(Result::err).collect();
            crashed.map(|()| broken)
        })?;
        self.acked += run.acked.load(Ordering::Relaxed);
        if !broken.is_empty() {
            return Ok(broken);
        }
        let data_dir = self.ground.data_dir();
        if self.random.below(6) == 0 {
            self.crashes_in_recovery += 1;
            let armed = self.ground.arm()?;
            let mut recovering = self.starter.spawn(&data_dir).map_err(|error| error.to_string())?;
            std::thread::sleep(self.start_time.mul_f64(f64::from(self.random.below(1200)) / 1000.0));
            self.ground.crash(armed, &mut recovering, Duration::ZERO, &Run::default())?;
        }
        let started = Instant::now();
        *server = self.starter.spawn(&data_dir).map_err(|error| error.to_string())?;
        let mut conn = match server.wait_serving() {
            Ok((conn, _)) => conn,
            Err(error) => return Ok(vec![error]),
        };
        self.start_time = started.elapsed();
        let losses = judge::judge(&mut conn, server.address, history, lanes);
        // The session of this check ends with it: hundreds of rounds would leave hundreds of sessions.
        if let Err(error) = conn.call(&Request::CloseSession) {
            return Err(format!("the check's own session cannot be closed: {error}"));
        }
        Ok(losses)
    }

    /// Prints the losses of one round and keeps the directory they happened in.
    fn report(&mut self, round: u32, losses: &[String], server: &mut Server) {
        self.losses += losses.len();
        println!("round {round}: {} LOSSES (seed {})", losses.len(), self.seed);
        for loss in losses.iter().take(LOSSES_SHOWN) {
            println!("  {loss}");
        }
        println!("  the server printed:\n{}", server.tail());
        // Killed first: a running server changes the directory under the copy.
        server.kill();
        let kept = self.folder.join(format!("lost-in-round-{round}"));
        match self.ground.keep(&kept) {
            Ok(()) => println!("  the data directory, as the next start has left it, is kept in {}", kept.display()),
            Err(error) => println!("  the data directory cannot be kept: {error}"),
        }
    }
}

fn create(conn: &mut Conn, path: &str) -> Result<Zxid, String> {
    let request = CreateRequest { path: Some(path.into()), data: Some(b""), acl: Some(AclVec::OPEN), flags: 0 };
    let reply = conn.call(&Request::Create(request)).map_err(|error| format!("creating {path}: {error}"))?;
    if reply.header.code != 0 {
        return Err(format!("creating {path} failed with {}", reply.header.code));
    }
    Ok(Zxid::from_raw(reply.header.zxid as u64))
}

/// The server's binary, which cargo puts beside this one.
pub fn beside_this_binary() -> Result<String, String> {
    let me = std::env::current_exe().map_err(|error| format!("where this binary is: {error}"))?;
    let server = me.parent().unwrap_or(Path::new(".")).join("zorilla");
    if !server.exists() {
        return Err(format!("{} does not exist: build it, or name a server with --server", server.display()));
    }
    Ok(server.display().to_string())
}
