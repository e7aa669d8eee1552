//! What threads share memory with, in one place, so that the models can put their own in: `models/` compiles `wake.rs`,
//! `worker/mailbox.rs` and `watch.rs` against this list as `loom` has it, and tries every order that the memory model
//! allows.

pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

pub use crossbeam::queue::ArrayQueue;
