//! What users of `zookeeper-client` do, and what the server must answer.
//!
//! Each scenario has a server of its own; one that panics has failed. Prints one line for each, then
//! `N passed, N failed`. Arguments are substrings: only scenarios whose name contains one of them are run.

mod recipes;
mod server;
mod sessions;
mod watches;
mod writes;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use server::Server;
use tokio::time::{sleep, timeout};

const SCENARIO: Duration = Duration::from_secs(90);
/// What anything may take that a scenario waits for.
pub const WAIT: Duration = Duration::from_secs(15);

type Run = fn(Server) -> Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Scenario {
    name: &'static str,
    flags: &'static [&'static str],
    run: Run,
}

/// Entries of a table: the name of an asynchronous function, after its module, and the server's flags.
macro_rules! scenarios {
    ($module:literal: $($name:ident $(($flags:expr))?),* $(,)?) => {
        pub const SCENARIOS: &[crate::Scenario] = &[$(
            crate::Scenario {
                name: concat!($module, "/", stringify!($name)),
                flags: { #[allow(unused_mut, unused_assignments)] let mut flags: &[&str] = &[]; $(flags = $flags;)? flags },
                run: |server| Box::pin($name(server)),
            }
        ),*];
    };
}
pub(crate) use scenarios;

/// Containers and expired znodes are looked for five times a second, and TTLs are allowed.
pub const REAPER: &[&str] = &["-Dzookeeper.extendedTypesEnabled=true", "-Dznode.container.checkIntervalMs=200"];

/// Waits for what must happen soon.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT, future).await.unwrap_or_else(|_| panic!("not within {WAIT:?}: {what}"))
}

/// Polls until it holds: for what happens on the server's own time.
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let poll = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, poll).await;
}

async fn run(scenario: &'static Scenario) -> bool {
    let work = async { (scenario.run)(Server::start_new(scenario.flags).await).await };
    // A task of its own, so that a panic ends it alone.
    let mut task = tokio::spawn(work);
    match timeout(SCENARIO, &mut task).await {
        Ok(end) => end.is_ok(),
        Err(_) => {
            println!("    not done within {SCENARIO:?}");
            task.abort();
            let _ = task.await;
            false
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| println!("    {}", panic.to_string().replace('\n', "\n    "))));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let all = [writes::SCENARIOS, watches::SCENARIOS, sessions::SCENARIOS, recipes::SCENARIOS];
    let (mut passed, mut failed) = (0, 0);
    for scenario in all.into_iter().flatten() {
        if !words.is_empty() && !words.iter().any(|word| scenario.name.contains(word.as_str())) {
            continue;
        }
        let began = Instant::now();
        let good = run(scenario).await;
        passed += u32::from(good);
        failed += u32::from(!good);
        let verdict = if good { "ok" } else { "FAILED" };
        println!("{verdict:6} {:6.2} s  {}", began.elapsed().as_secs_f64(), scenario.name);
    }
    if passed + failed == 0 {
        println!("no scenario matches");
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed != 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
