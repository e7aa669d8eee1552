//! Feeds every decoder with made input, as many times as is asked for, and prints what came of it.
//!
//!   drive [--executions N] [--seed S] [--decoder PART-OF-A-NAME] [--first N]
//!
//! Exit code 0: no decoder broke a promise, each succeeded at least once, and each that has an encoding gave the same
//! bytes back at least once. Everything that is fed is a function of the seed and a number: a failure prints the line
//! that repeats it alone. It also fails if one execution takes longer than [`PATIENCE`].

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zorilla_fuzz::random::Source;
use zorilla_fuzz::{Outcome, Target, targets};

/// No input of these sizes keeps a decoder busy for this long on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Asked {
    executions: u64,
    seed: u64,
    decoder: String,
    first: u64,
}

fn main() -> ExitCode {
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(what) => {
            eprintln!("{what}\ndrive [--executions N] [--seed S] [--decoder PART-OF-A-NAME] [--first N]");
            return ExitCode::from(2);
        }
    };
    println!("seed {:#x}; {} executions of each decoder", asked.seed, asked.executions);
    println!("{:<32} {:>12} {:>12} {:>12} {:>8}", "decoder", "executions", "decoded", "same bytes", "seconds");
    let (mut count, mut failed, mut executions) = (0, 0, 0);
    for target in targets().iter().filter(|target| target.name.contains(&asked.decoder)) {
        count += 1;
        match drive(target, &asked) {
            Ok(done) => executions += done,
            Err(why) => {
                failed += 1;
                println!("{:<32} FAILED: {why}", target.name);
            }
        }
    }
    println!("{count} decoders, {executions} executions, {failed} failed");
    if count == 0 || failed != 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Feeds one decoder. How often, or what is wrong with it.
fn drive(target: &Target, asked: &Asked) -> Result<u64, String> {
    let executions = asked.executions.max(1);
    let begun = Instant::now();
    let watch = Watch::start(target.name.clone(), asked.seed, asked.first);
    let mut source = Source::default();
    let (mut decoded, mut same, mut number) = (0_u64, 0_u64, asked.first);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        while number < asked.first + executions {
            target.make(asked.seed, number, &mut source);
            match target.execute(&source.out) {
                Outcome::Refused => {}
                Outcome::Decoded => decoded += 1,
                Outcome::Same => (decoded, same) = (decoded + 1, same + 1),
            }
            number += 1;
            if number.is_multiple_of(1024) {
                watch.progress.store(number, Ordering::Relaxed);
            }
        }
    }));
    if outcome.is_err() {
        return Err(format!("{} on {:02x?}", repeat(&target.name, asked.seed, number), source.out));
    }
    let shown = if target.encodes { same.to_string() } else { "-".into() };
    let seconds = begun.elapsed().as_secs();
    println!("{:<32} {executions:>12} {decoded:>12} {shown:>12} {seconds:>8}", target.name);
    if executions == 1 {
        return Ok(1);
    }
    match (decoded, same) {
        (0, _) => Err("nothing that was fed was a value: it is not tested".into()),
        (_, 0) if target.encodes => Err("no value came back as the same bytes".into()),
        _ if decoded == executions => Err("everything that was fed was a value: no error of it is tested".into()),
        _ => Ok(executions),
    }
}

fn repeat(name: &str, seed: u64, number: u64) -> String {
    format!("repeat with --decoder '{name}' --seed {seed:#x} --first {number} --executions 1")
}

/// Ends the process when no execution comes to an end. A thread that hangs cannot be stopped otherwise.
struct Watch {
    progress: Arc<AtomicU64>,
}

impl Watch {
    fn start(name: String, seed: u64, first: u64) -> Watch {
        let progress = Arc::new(AtomicU64::new(first));
        let weak = Arc::downgrade(&progress);
        std::thread::spawn(move || {
            let (mut seen, mut since) = (first, Instant::now());
            // The decoder is done when nobody holds the counter any more.
            while let Some(now) = weak.upgrade().map(|progress| progress.load(Ordering::Relaxed)) {
                if now != seen {
                    (seen, since) = (now, Instant::now());
                }
                if PATIENCE < since.elapsed() {
                    println!("{name} FAILED: hangs within 1024 executions of {}", repeat(&name, seed, seen));
                    std::process::exit(1);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Watch { progress }
    }
}

fn asked(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let drawn = RandomState::new().build_hasher().finish();
    let mut asked = Asked { executions: 100_000, seed: drawn, decoder: String::new(), first: 0 };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
        match name.as_str() {
            "--executions" => asked.executions = number(&value)?,
            "--seed" => asked.seed = number(&value)?,
            "--first" => asked.first = number(&value)?,
            "--decoder" => asked.decoder = value,
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(asked)
}

fn number(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("expected a number such as 17 or 0x11, found {text:?}"))
}
