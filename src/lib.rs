//! The Zorilla server: an Apache ZooKeeper node.
//!
//! `ARCHITECTURE.md` is the map. What is pure (`tree`, `prep`, `session`, `watch`, `worker`, `replica`) decides; `server`
//! and `net` do what was decided.

pub mod auth;
pub mod cli;
pub mod clock;
pub mod compat;
pub mod config;
pub mod gate;
pub mod limits;
pub mod net;
pub mod ops;
pub mod os;
pub mod prep;
pub mod read;
pub mod replica;
pub mod server;
pub mod session;
pub mod settings;
pub mod store;
pub mod sync;

pub mod table;
pub mod tree;
pub mod wake;
pub mod watch;
pub mod worker;
