//! What operators ask a running server, and what it counts to answer them.

pub mod four_letter;
pub mod metrics;
