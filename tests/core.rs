//! The server's values, driven without sockets, threads or clocks, and judged by a naive model.
//!
//! Workers, the replica and the log run on one thread: chance, from one seed, decides who turns next, how bytes are split,
//! when the disk completes, when mailboxes are drained, when connections break, when the power goes, and how the server is
//! set up, and which znodes have to be brought in first. Clients pipeline every opcode that is served, and judge every frame that comes back: replies in order, each
//! equal to the model at exactly its zxid, nothing shown before it is durable, events exactly those of the watches they
//! have and may read about and ahead of what they announce, sessions that end when they should and never before, znodes
//! that the server deletes by itself only when it may.
//!
//! `ZORILLA_SIM_SEED=n cargo test --test core` runs the one seed `n`; `ZORILLA_SIM_SEEDS=n` runs n of them.

#[path = "core/acl.rs"]
mod acl;
#[path = "core/client.rs"]
mod client;
#[path = "core/coverage.rs"]
mod coverage;
#[path = "core/draw.rs"]
mod draw;
#[path = "core/frost.rs"]
mod frost;
#[path = "core/judge.rs"]
mod judge;
#[path = "core/model.rs"]
mod model;
#[path = "core/quota.rs"]
mod quota;
#[path = "core/reads.rs"]
mod reads;
#[path = "core/requests.rs"]
mod requests;
#[path = "core/sim.rs"]
mod sim;
#[path = "core/watches.rs"]
mod watches;
#[path = "core/writes.rs"]
mod writes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use sim::{Sim, Tally};

/// Runs one seed; a failure names it.
fn run(seed: u64, steps: usize) -> Tally {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut sim = Sim::new(seed);
        sim.run(steps);
        sim.tally
    }));
    outcome.unwrap_or_else(|panic| {
        eprintln!("seed {seed} failed; replay it with: ZORILLA_SIM_SEED={seed} cargo test --test core");
        std::panic::resume_unwind(panic)
    })
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: expected a number, found {text:?}")))
}

#[test]
fn the_server_does_what_the_naive_model_does() {
    const STEPS: usize = 1200;
    if let Some(seed) = number("ZORILLA_SIM_SEED") {
        println!("seed {seed}: {:?}", run(seed, STEPS));
        return;
    }
    let seeds = number("ZORILLA_SIM_SEEDS").unwrap_or(1000);
    let next = AtomicU64::new(0);
    // Each seed is a world of its own, so two of them pass at a time.
    let work = || {
        let mut sum = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seeds <= seed {
                return sum;
            }
            sum.add(&run(seed, STEPS));
        }
    };
    let mut sum = Tally::default();
    std::thread::scope(|threads| {
        let threads = [threads.spawn(work), threads.spawn(work)];
        for thread in threads {
            sum.add(&thread.join().expect("a seed failed"));
        }
    });
    let coverage = std::mem::take(&mut sum.coverage);
    println!("{seeds} seeds: {sum:?}");
    println!("replies judged, by opcode, code×count:{}", coverage::table(&coverage));
    // A harness that checks nothing would pass as well.
    let seeds = seeds as usize;
    assert!(50 * seeds <= sum.replies && 2 * seeds <= sum.events && seeds <= sum.crashes, "the runs did too little");
    assert!(seeds <= sum.expiries && seeds <= sum.resumes, "the runs did too little");
    assert!(10 * seeds <= sum.cold && seeds <= sum.brought, "the runs did too little");
    assert!(seeds <= 4 * sum.withheld && seeds <= 4 * sum.reaped, "the runs did too little");
    if 500 <= seeds {
        assert_eq!(coverage::missing(&coverage), [], "opcodes and codes that nothing was answered with");
    }
}
