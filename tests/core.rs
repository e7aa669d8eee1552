//! The server's values, driven without sockets, threads or clocks, and judged by a naive model.
//!
//! Workers, the replica and the log run on one thread: chance, from one seed, decides who turns next, how bytes are split,
//! when the disk completes, when mailboxes are drained, when connections break and when the power goes. Clients pipeline
//! every opcode that is served, and judge every frame that comes back: replies in order, each equal to the model at exactly
//! its zxid, nothing shown before it is durable, events exactly those of one-shot watches and ahead of what they announce,
//! sessions that end when they should and never before.
//!
//! `ZORILLA_SIM_SEED=n cargo test --test core` runs the one seed `n`; `ZORILLA_SIM_SEEDS=n` runs n of them.

#[path = "core/client.rs"]
mod client;
#[path = "core/model.rs"]
mod model;
#[path = "core/requests.rs"]
mod requests;
#[path = "core/sim.rs"]
mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};

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
    const STEPS: usize = 700;
    if let Some(seed) = number("ZORILLA_SIM_SEED") {
        println!("seed {seed}: {:?}", run(seed, STEPS));
        return;
    }
    let seeds = number("ZORILLA_SIM_SEEDS").unwrap_or(1000);
    let mut sum = Tally::default();
    for seed in 0..seeds {
        let tally = run(seed, STEPS);
        sum.replies += tally.replies;
        sum.events += tally.events;
        sum.txns += tally.txns;
        sum.expiries += tally.expiries;
        sum.resumes += tally.resumes;
        sum.crashes += tally.crashes;
    }
    println!("{seeds} seeds: {sum:?}");
    // A harness that checks nothing would pass as well.
    let seeds = seeds as usize;
    assert!(50 * seeds <= sum.replies && 2 * seeds <= sum.events && seeds <= sum.crashes, "the runs did too little");
    assert!(seeds <= sum.expiries && seeds <= sum.resumes, "the runs did too little");
}
