//! From exec to the reply of the first read: after a quiet time, with and without the page cache, and after a kill -9
//! in the middle of full write load.
//!
//! The first read is a getData of a random znode in a new session, over a new connection, tried again and again from
//! the moment of exec on; what it finds is checked, and then a thousand more.

use super::ground::{Ground, known, layers, mib, ms};
use super::{Start, files, mntr};
use crate::compare::server::{End, Kind, Server};
use crate::load::{self, Moment, Spec};
use crate::shape::{Shape, Work};
use crate::stats::median;
use crate::tree::Tree;
use crate::wire::{self, Random, Session};
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::thread;
use std::time::Duration;

/// How long one handshake may take until another is tried: the Java server forgets connections that it took while it
/// was starting.
const HANDSHAKE_PATIENCE: Duration = Duration::from_millis(500);

/// How long a server may take.
const START_MAX: Duration = Duration::from_secs(900);

/// Between two connections that are refused.
const PAUSE: Duration = Duration::from_micros(500);

/// When what was reached, since exec.
struct FirstRead {
    connected: Duration,
    session: Duration,
    read: Duration,
}

/// Measures all sizes.
pub fn run(arguments: &Start) -> io::Result<()> {
    let (launcher, kinds) = arguments.common.launcher_beside(&arguments.java)?;
    let mut ground = arguments.common.ground("start", launcher)?;
    for znodes in &arguments.znodes {
        for kind in &kinds {
            if *kind != Kind::Java || *znodes <= arguments.java.java_znodes_max {
                size(arguments, &mut ground, *kind, *znodes)?;
            }
        }
    }
    ground.finish()
}

fn size(arguments: &Start, ground: &mut Ground, kind: Kind, znodes: u64) -> io::Result<()> {
    let mut server = ground.start(kind)?;
    let (filled, tree) = ground.fill(&server, znodes)?;
    thread::sleep(arguments.quiet);
    let told = layers(&server);
    ground.say(format!(
        "{kind}, {znodes} znodes: filled in {:.1} s; after {:.0} quiet s: {} runs, the newest exact at {}, {} entries in \
         memory only; state {:.1} MiB, log {:.1} MiB",
        filled.summary.seconds,
        arguments.quiet.as_secs_f64(),
        known(told.count(mntr::RUNS)),
        told.count(mntr::HEAD_ZXID).map_or_else(|| "-".to_owned(), |zxid| format!("{zxid:#x}")),
        known(told.count(mntr::OVERLAY_ENTRIES)),
        mib(files::bytes_on_disk(&server.directory().join("data"))?),
        mib(files::bytes_on_disk(&server.directory().join("log"))?),
    ))?;
    let mut ways = vec![(End::Kill, false), (End::Term, false)];
    if arguments.cold {
        ways.push((End::Kill, true));
    }
    for (end, cold) in ways {
        let mut times = Vec::new();
        for _ in 0..arguments.starts {
            server.end(end)?;
            times.push(again(ground, &mut server, &tree, cold)?);
        }
        let cache = if cold { "cold page cache" } else { "warm page cache" };
        said(ground, &format!("after {}, {cache}", end.name()), &times)?;
    }
    if arguments.kill_under_load {
        let mut times = Vec::new();
        for round in 0..arguments.starts {
            let rate = kill_under_load(arguments, ground, &server, tree.part(round, arguments.starts))?;
            // Gathers the exit status.
            server.end(End::Kill)?;
            times.push(again(ground, &mut server, &tree, false)?);
            ground.say(format!("  killed after {:.0} s of {rate:.0} sets per second", arguments.load.as_secs_f64()))?;
        }
        said(ground, "after kill -9 at full write load", &times)?;
    }
    Ok(())
}

/// Starts an ended server, and waits for its first read.
fn again(ground: &Ground, server: &mut Server, tree: &Tree, cold: bool) -> io::Result<FirstRead> {
    if cold {
        files::drop_page_cache(server.directory())?;
    }
    ground.launcher.again(server)?;
    first_read(ground, server, tree).map_err(|error| {
        io::Error::new(error.kind(), format!("{} did not come back: {error}\n{}", server.kind(), server.tail()))
    })
}

fn first_read(ground: &Ground, server: &mut Server, tree: &Tree) -> io::Result<FirstRead> {
    let filler = wire::filler(tree.data_bytes, tree.seed);
    let (folder, node) = tree.pick(&mut Random::new(u64::from(server.pid())));
    let prefix = tree.prefix(folder);
    let begun = server.begun();
    loop {
        let refused = match Session::begin(server.address(), 10_000) {
            Err(error) => error,
            Ok(socket) => {
                let connected = begun.elapsed();
                match Session::established_within(HANDSHAKE_PATIENCE, socket) {
                    Err(error) => error,
                    Ok(mut opened) => {
                        let session = begun.elapsed();
                        opened.get(&prefix, node, &filler)?;
                        let read = begun.elapsed();
                        ground.read_back(&mut opened, tree)?;
                        opened.close()?;
                        return Ok(FirstRead { connected, session, read });
                    }
                }
            }
        };
        if let Some(status) = server.ended()? {
            return Err(io::Error::other(format!("it ended with {status}")));
        }
        if START_MAX < begun.elapsed() {
            return Err(refused);
        }
        thread::sleep(PAUSE);
    }
}

/// Full write load, and a kill -9 in its middle; gives back the rate of its whole seconds.
fn kill_under_load(arguments: &Start, ground: &Ground, server: &Server, tree: Tree) -> io::Result<f64> {
    let fill = arguments.common.fill;
    let spec = Spec {
        warmup: Duration::ZERO,
        // It is over long before.
        window: arguments.load + Duration::from_secs(1),
        over: Some(tree),
        ..ground.spec(server, Shape { work: Work::Set, ..fill })
    };
    let pid = Pid::from_raw(server.pid() as i32).ok_or_else(|| io::Error::other("a pid of 0"))?;
    let mut killed = Ok(());
    let outcome = thread::scope(|scope| {
        let mut killing = None;
        let outcome = load::run(&spec, &mut |moment| {
            if moment == Moment::Begins {
                killing = Some(scope.spawn(move || {
                    thread::sleep(arguments.load);
                    kill_process(pid, Signal::KILL)
                }));
            }
        });
        if let Some(killing) = killing {
            killed = killing.join().expect("the killer does not panic");
        }
        outcome
    })?;
    killed?;
    // Connections are lost and requests unanswered, as they should be; a wrong reply is none the better for it.
    if let Some(text) = outcome.tally.violation_texts.first() {
        return Err(io::Error::other(format!("before the kill: {text}")));
    }
    Ok(outcome.tally.succeeded as f64 / arguments.load.as_secs_f64())
}

fn said(ground: &mut Ground, what: &str, times: &[FirstRead]) -> io::Result<()> {
    let all: Vec<f64> = times.iter().map(|it| ms(it.read)).collect();
    let each: Vec<String> = times
        .iter()
        .map(|it| format!("{:.1} (connected {:.1}, session {:.1})", ms(it.read), ms(it.connected), ms(it.session)))
        .collect();
    ground.say(format!(
        "  {what}: first read {:.1} ms (median of {}), longest {:.1}; each: {}",
        median(&all).unwrap_or_default(),
        all.len(),
        all.iter().copied().fold(0.0, f64::max),
        each.join(", ")
    ))
}
