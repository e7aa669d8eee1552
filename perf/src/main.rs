//! Whole-server performance: how fast, how steady, and against what.
//!
//! `load` is a generator far cheaper than any server; `floor` is the null server that shows what this kernel and
//! this generator allow; `compare` runs the Java server, Zorilla and the floor side by side; `fill` looks for stalls
//! of writes while the tree grows; `report` renders kept runs again; `crash` kills servers and counts losses;
//! `hostile` attacks one while a well-behaved client is served; `state` measures what trees of many sizes cost.
//!
//! Guarantees: a reply that is not what the protocol promises makes a run fail, however fast it was.

#![forbid(unsafe_code)]

mod cli;
mod compare;
mod crash;
mod crowd;
mod fill;
mod floor;
mod hostile;
mod limits;
mod load;
mod probe;
mod process;
mod rounds;
mod shape;
mod state;
mod stats;
mod tree;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    // The crash rounds, the attacks and the figures of state have command lines of their own.
    match arguments.get(1).map(String::as_str) {
        Some("crash") => crash::main(arguments[2..].to_vec()),
        Some("hostile") => hostile::main(arguments[2..].to_vec()),
        Some("state") => state::main(arguments[2..].to_vec()),
        _ => cli::main(),
    }
}
