//! The only place that reads time. Everything else is told.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, in nanoseconds since the clock was started; never falls.
    pub mono_ns: u64,
    /// Wall clock, in milliseconds since 1970; may step either way.
    pub wall_ms: i64,
}

impl Now {
    /// The monotonic reading in milliseconds.
    pub fn mono_ms(self) -> u64 {
        self.mono_ns / 1_000_000
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts a clock whose monotonic reading begins at one second, so that "long ago" is never below zero.
    pub fn start() -> Clock {
        Clock { start: Instant::now() - Duration::from_secs(1) }
    }

    /// The monotonic reading alone, ns.
    pub fn mono_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ns: self.mono_ns(), wall_ms: wall.as_millis() as i64 }
    }
}
