//! The source of what threads share, compiled over `loom`'s primitives.
//!
//! `wake`, `mailbox` and `watch` are the files of the server, not copies: `src/wake.rs`, `src/worker/mailbox.rs` and
//! `src/watch.rs` take what threads share memory with from `crate::sync`, and here that is `loom`'s. The models
//! themselves are in `tests/models/`: each runs a protocol in every order of threads, and with every value that a load
//! may return.
//!
//! [`mutants`] are the same files with one fault each, so that a model shows that it can fail.

pub mod limits;
pub mod mutants;
pub mod sync;

#[path = "../../src/worker/mailbox.rs"]
pub mod mailbox;
#[path = "../../src/wake.rs"]
pub mod wake;
#[path = "../../src/watch.rs"]
pub mod watch;

pub use zorilla::{auth, prep, table};
