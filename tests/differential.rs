//! The differential test: the Java server and Zorilla are given the same streams of requests, and whatever a client could
//! notice is compared.
//!
//! ```text
//! cargo test --release --test differential -- --java-cp CLASSPATH --requests 200000 --seed 7
//! ```
//!
//! Without a class path (`--java-cp` or `JAVA_CP`) only the test's own parts are tested, and it says so: there is nothing to
//! compare with. `--help` lists the options.

#[path = "differential/alone.rs"]
mod alone;
#[path = "differential/coverage.rs"]
mod coverage;
#[path = "differential/digest.rs"]
mod digest;
#[path = "differential/generate.rs"]
mod generate;
#[path = "differential/known.rs"]
mod known;
#[path = "differential/link.rs"]
mod link;
#[path = "differential/norm.rs"]
mod norm;
#[path = "differential/pair.rs"]
mod pair;
#[path = "differential/profile.rs"]
mod profile;
#[path = "differential/requests.rs"]
mod requests;
#[path = "differential/rng.rs"]
mod rng;
#[path = "differential/run.rs"]
mod run;
#[path = "differential/script.rs"]
mod script;
#[path = "differential/selftest.rs"]
mod selftest;
#[path = "differential/server.rs"]
mod server;
#[path = "differential/shrink.rs"]
mod shrink;
#[path = "differential/side.rs"]
mod side;
#[path = "differential/wire.rs"]
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match run::Options::read(&arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", run::HELP);
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("{what}\n\n{}", run::HELP);
            return ExitCode::from(2);
        }
    };
    if let Some(stream) = options.printed() {
        print!("{stream}");
        return ExitCode::SUCCESS;
    }
    if !selftest::run(options.filter.as_deref()) {
        return ExitCode::FAILURE;
    }
    if options.filter.is_some() {
        return ExitCode::SUCCESS;
    }
    let Some(programs) = options.programs() else {
        println!("the comparison did not run: no class path of a Java server was given (--java-cp or JAVA_CP)");
        return ExitCode::SUCCESS;
    };
    if run::run(&options, &programs) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
