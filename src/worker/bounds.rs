//! The limits that an operator may set, as the workers of one server keep to them together.
//!
//! Each is off unless it was set, and costs the warm path a branch then. What has to be counted over all workers is
//! counted here, by relaxed atomics: they order nothing else, and a limit that is overshot by as many requests as there
//! are workers is still a limit. A worker that waits for room looks again after [`Throttle::stall_ms`] at the latest, so
//! a bell that was missed costs no more than that.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;

use super::bucket::{Asked, TokenBucket};
use crate::limits::{SESSIONLESS_MS_MAX, THROTTLED_ARRIVALS_MAX};
use crate::ops::four_letter::Summary;
use crate::settings::{RequestLimits, Settings};

/// See the module. A clone shares the counts.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// A connection without a session is closed one to two times this after it was opened.
    pub sessionless_ms: u64,
    /// Requests in process beyond which a connection that has some is not read.
    pub outstanding_max: Option<u64>,
    /// Large requests are counted.
    pub large: Option<Large>,
    /// Requests wait while too many are in process.
    pub throttle: Option<Throttle>,
    /// ConnectRequests take tokens.
    connecting: Option<Arc<Mutex<Connecting>>>,
    counts: Arc<Counts>,
}

/// What counts as a large request, and how many bytes of them may be in process.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    /// A request of more bytes is a large one.
    pub threshold: usize,
    /// Bytes of large requests in process; a connection that sends more is closed.
    pub bytes_max: u64,
}

/// The request throttler.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    /// Requests in process beyond which others wait.
    pub in_process_max: u64,
    /// How long they wait at a time, unless room is made.
    pub stall_ms: u64,
    /// A request that waited longer than its session's timeout ends its connection.
    pub drops_late: bool,
    /// A request whose client is gone is not executed.
    pub drops_orphans: bool,
    /// Whether a request that waited longer than its session's timeout counts as stale, dropped or not.
    pub counts_late: bool,
    /// Whether a request whose client is gone counts as stale, dropped or not.
    pub counts_orphans: bool,
    /// A request that waited longer is answered THROTTLEDOP, ms.
    pub wait_ms_max: Option<u64>,
}

#[derive(Debug)]
struct Connecting {
    bucket: TokenBucket,
    deficit: Summary,
}

#[derive(Debug, Default)]
struct Counts {
    /// Requests posted and not completed; counted only if a limit asks for it.
    in_process: CachePadded<AtomicU64>,
    large_bytes: CachePadded<AtomicU64>,
    /// Workers with requests that wait for room, a bit each.
    waiters: CachePadded<AtomicU64>,
}

impl Default for Bounds {
    /// Of a server that nobody configured.
    fn default() -> Bounds {
        Bounds {
            sessionless_ms: SESSIONLESS_MS_MAX,
            outstanding_max: None,
            large: None,
            throttle: None,
            connecting: None,
            counts: Arc::default(),
        }
    }
}

impl Bounds {
    /// What the settings ask for.
    pub fn new(settings: &Settings, now_ms: u64, seed: u64) -> Bounds {
        let RequestLimits {
            outstanding_max,
            large_request_threshold,
            large_request_bytes_max,
            in_process_max,
            stall_ms,
            drop_stale,
            stale_latency_check,
            stale_connection_check,
            throttled_wait_ms,
            sessionless_timeout_ms,
            ..
        } = settings.limits;
        let large = usize::try_from(large_request_threshold).ok().filter(|bytes| 0 < *bytes);
        let connecting = || {
            let bucket = TokenBucket::new(settings.throttle, now_ms, seed);
            Arc::new(Mutex::new(Connecting { bucket, deficit: Summary::default() }))
        };
        Bounds {
            sessionless_ms: u64::from(sessionless_timeout_ms.max(1)),
            outstanding_max: outstanding_max.map(u64::from),
            large: large.map(|threshold| Large { threshold, bytes_max: large_request_bytes_max }),
            throttle: (in_process_max != 0).then(|| Throttle {
                in_process_max: u64::from(in_process_max),
                stall_ms: u64::from(stall_ms.max(1)),
                drops_late: drop_stale && stale_latency_check,
                drops_orphans: drop_stale && stale_connection_check,
                counts_late: stale_latency_check,
                counts_orphans: stale_connection_check,
                wait_ms_max: (throttled_wait_ms != 0).then_some(u64::from(throttled_wait_ms)),
            }),
            connecting: (settings.throttle.tokens != 0).then(connecting),
            counts: Arc::default(),
        }
    }

    /// Whether somebody wants to know how many requests are in process.
    fn counts_requests(&self) -> bool {
        self.outstanding_max.is_some() || self.throttle.is_some()
    }

    /// One more request is in process.
    pub fn entered(&self) {
        if self.counts_requests() {
            self.counts.in_process.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One request was completed.
    pub fn left(&self) {
        if self.counts_requests() {
            self.counts.in_process.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a connection that has requests in process is not read.
    pub fn is_crowded(&self) -> bool {
        self.outstanding_max.is_some_and(|max| max < self.counts.in_process.load(Ordering::Relaxed))
    }

    /// Whether requests wait.
    pub fn is_full(&self) -> bool {
        let full = |throttle: Throttle| throttle.in_process_max <= self.counts.in_process.load(Ordering::Relaxed);
        self.throttle.is_some_and(full)
    }

    /// Says whether requests of this worker wait for room.
    pub fn set_waits(&self, worker: u16, waits: bool) {
        let bit = 1 << worker;
        if waits {
            self.counts.waiters.fetch_or(bit, Ordering::Relaxed);
        } else if self.counts.waiters.load(Ordering::Relaxed) & bit != 0 {
            self.counts.waiters.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// The workers that wait for room, a bit each.
    pub fn waiters(&self) -> u64 {
        self.counts.waiters.load(Ordering::Relaxed)
    }

    /// Whether a large request of this many bytes has room; it keeps it until [`Bounds::release_large`].
    pub fn reserve_large(&self, bytes: u64, bytes_max: u64) -> bool {
        let before = self.counts.large_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= bytes_max;
        if !fits {
            self.release_large(bytes);
        }
        fits
    }

    /// Whether a large request of this many bytes would have room now.
    pub fn has_room_for_large(&self, bytes: u64, bytes_max: u64) -> bool {
        self.counts.large_bytes.load(Ordering::Relaxed).saturating_add(bytes) <= bytes_max
    }

    /// A large request of this many bytes is no longer in process.
    pub fn release_large(&self, bytes: u64) {
        self.counts.large_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes the tokens of one ConnectRequest. `false`: it is to be closed without an answer.
    pub fn admits_session(&self, asked: Asked, now_ms: u64) -> bool {
        let Some(connecting) = &self.connecting else { return true };
        let mut connecting = connecting.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = connecting.bucket.admits(asked, now_ms);
        if admitted {
            let deficit = connecting.bucket.deficit();
            let seen = &mut connecting.deficit;
            seen.min = if seen.count == 0 { deficit } else { seen.min.min(deficit) };
            seen.max = seen.max.max(deficit);
            seen.count += 1;
            seen.sum = seen.sum.wrapping_add(deficit);
        }
        admitted
    }

    /// The chance that a client is dropped, and what the bucket was short of at each ConnectRequest.
    pub fn connecting(&self) -> (f64, Summary) {
        let Some(connecting) = &self.connecting else { return (0.0, Summary::default()) };
        let connecting = connecting.lock().unwrap_or_else(PoisonError::into_inner);
        (connecting.bucket.drop_probability(), connecting.deficit)
    }
}

/// The large requests of one connection that are in process.
#[derive(Debug, Default)]
pub struct LargeRequests {
    /// How many others are in process ahead of it, and its bytes.
    requests: VecDeque<(u32, u64)>,
    /// Requests in process up to and with the last large one.
    covered: u32,
}

impl LargeRequests {
    /// A large request is posted behind `pending` others.
    pub fn posted(&mut self, pending: u32, bytes: u64) {
        self.requests.push_back((pending - self.covered, bytes));
        self.covered = pending + 1;
    }

    /// The oldest request in process was completed: its bytes, if it was a large one.
    pub fn completed(&mut self) -> Option<u64> {
        self.covered = self.covered.saturating_sub(1);
        let (ahead, bytes) = self.requests.front_mut()?;
        if *ahead == 0 {
            let bytes = *bytes;
            self.requests.pop_front();
            return Some(bytes);
        }
        *ahead -= 1;
        None
    }

    /// Whether none is in process.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

/// When the bytes in the buffer of a connection that the throttler lets wait have arrived.
///
/// Invariant: the pieces add up to the buffer.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Bytes, and when they came, ms.
    pieces: VecDeque<(usize, u64)>,
    /// The client will send nothing more; it is done once what waits was taken.
    pub hung_up: bool,
}

impl Arrivals {
    /// These bytes were put behind the others.
    pub fn add(&mut self, bytes: usize, now_ms: u64) {
        // Bounded, whatever the size of the packets: of the newest bytes it is known only when the last of them came.
        // A wait is never overstated by that.
        let full = THROTTLED_ARRIVALS_MAX <= self.pieces.len();
        match self.pieces.back_mut() {
            Some((last, at_ms)) if full || *at_ms == now_ms => (*last, *at_ms) = (*last + bytes, now_ms),
            _ => self.pieces.push_back((bytes, now_ms)),
        }
    }

    /// These bytes were taken from the front.
    pub fn take(&mut self, mut bytes: usize) {
        while let Some((first, _)) = self.pieces.front_mut() {
            if bytes < *first {
                *first -= bytes;
                return;
            }
            bytes -= *first;
            self.pieces.pop_front();
        }
    }

    /// When the last of the first `bytes` came, ms; `None`: only now.
    pub fn complete_ms(&self, bytes: usize) -> Option<u64> {
        let mut end = 0;
        self.pieces.iter().find_map(|(piece, at_ms)| {
            end += piece;
            (bytes <= end).then_some(*at_ms)
        })
    }
}

/// When a connection that was idle since `since_ms` is closed: at the end of the bucket, of the width of the timeout, in
/// which the timeout falls (`client-protocol.md` 4.8).
pub fn idle_until_ms(since_ms: u64, timeout_ms: u64) -> u64 {
    ((since_ms + timeout_ms) / timeout_ms + 1) * timeout_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_end_one_to_two_widths_later_and_together() {
        for since_ms in 0..3000 {
            let until_ms = idle_until_ms(since_ms, 500);
            assert!((since_ms + 500..=since_ms + 1000).contains(&until_ms), "{since_ms}: {until_ms}");
            assert_eq!(until_ms % 500, 0);
        }
    }

    #[test]
    fn bytes_of_large_requests_come_back_with_their_own_completion() {
        let mut large = LargeRequests::default();
        // In process: small, LARGE(7), small, small, LARGE(9), LARGE(5), small.
        large.posted(1, 7);
        large.posted(4, 9);
        large.posted(5, 5);
        let freed: Vec<_> = (0..7).map(|_| large.completed()).collect();
        assert_eq!(freed, [None, Some(7), None, None, Some(9), Some(5), None]);
        assert!(large.is_empty());
        // And from the start again.
        large.posted(2, 3);
        assert_eq!([large.completed(), large.completed(), large.completed()], [None, None, Some(3)]);
    }

    #[test]
    fn a_frame_is_as_old_as_its_last_byte() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.complete_ms(1), None);
        arrivals.add(10, 100);
        arrivals.add(5, 100);
        arrivals.add(10, 200);
        assert_eq!((arrivals.complete_ms(15), arrivals.complete_ms(16)), (Some(100), Some(200)));
        assert_eq!((arrivals.complete_ms(25), arrivals.complete_ms(26)), (Some(200), None));
        arrivals.take(12);
        assert_eq!((arrivals.complete_ms(3), arrivals.complete_ms(4)), (Some(100), Some(200)));
        arrivals.take(13);
        assert_eq!(arrivals.complete_ms(1), None);
        // However it is dripped, it stays small, and the first bytes stay as old as they are.
        for now_ms in 0..100_000 {
            arrivals.add(1, now_ms);
        }
        assert!(arrivals.pieces.len() <= THROTTLED_ARRIVALS_MAX);
        assert_eq!((arrivals.complete_ms(1), arrivals.complete_ms(100_000)), (Some(0), Some(99_999)));
    }

    #[test]
    fn large_bytes_are_counted_over_all_workers() {
        let bounds = Bounds::default();
        let other = bounds.clone();
        assert!(bounds.reserve_large(60, 100));
        assert!(!other.reserve_large(41, 100) && other.has_room_for_large(40, 100));
        assert!(other.reserve_large(40, 100));
        bounds.release_large(60);
        assert!(other.reserve_large(60, 100) && !other.has_room_for_large(1, 100));
    }
}
