//! What the server counts and measures about itself.
//!
//! No registry: whoever measures owns the numbers, and publishes them where the monitors look. Counters have one writer
//! each, so they are plain loads and stores; histograms are recorded by their owner and copied out now and then.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;
use hashbrown::HashMap;
use hdrhistogram::Histogram;

use super::four_letter::{ConnectionView, ReplyBytes, Summary};
use crate::limits::MEASURE_MAX;

/// One measured duration or size. Two significant digits are enough to act on, and keep it small.
#[derive(Clone, Debug)]
pub struct Measure {
    histogram: Histogram<u64>,
    sum: u64,
}

impl Default for Measure {
    fn default() -> Measure {
        let histogram = Histogram::new_with_bounds(1, MEASURE_MAX, 2).expect("the bounds of a measure are valid");
        Measure { histogram, sum: 0 }
    }
}

impl Measure {
    /// Records one value in the measure's own unit.
    pub fn record(&mut self, value: u64) {
        self.histogram.saturating_record(value);
        self.sum = self.sum.wrapping_add(value);
    }

    /// Records a duration given in nanoseconds, in microseconds.
    pub fn record_ns(&mut self, ns: u64) {
        self.record(ns / 1_000);
    }

    /// Records the same duration `count` times.
    pub fn record_ns_n(&mut self, ns: u64, count: u64) {
        self.histogram.saturating_record_n(ns / 1_000, count);
        self.sum = self.sum.wrapping_add((ns / 1_000).wrapping_mul(count));
    }

    fn add(&mut self, other: &Measure) {
        self.histogram.add(&other.histogram).expect("all measures have the same bounds");
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What `mntr` prints.
    pub fn summary(&self) -> Summary {
        let histogram = &self.histogram;
        Summary {
            min: if histogram.is_empty() { 0 } else { histogram.min() },
            max: histogram.max(),
            count: histogram.len(),
            sum: self.sum,
            p50: histogram.value_at_quantile(0.5),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
        }
    }
}

/// The stages of a write, in microseconds, and what is measured beside them.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// From the socket to a zxid.
    pub prep: Measure,
    /// From the zxid to the disk.
    pub durable: Measure,
    /// From the disk to the tree.
    pub applied: Measure,
    /// From the tree to the socket.
    pub written: Measure,
    /// Transactions of one batch.
    pub batch_txns: Measure,
    /// One write with its sync.
    pub sync: Measure,
}

impl Stages {
    /// Adds what another thread measured.
    pub fn add(&mut self, other: &Stages) {
        self.prep.add(&other.prep);
        self.durable.add(&other.durable);
        self.applied.add(&other.applied);
        self.written.add(&other.written);
        self.batch_txns.add(&other.batch_txns);
        self.sync.add(&other.sync);
    }

    /// By the names `mntr` prints.
    pub fn summaries(&self) -> Vec<(&'static str, Summary)> {
        vec![
            ("zorilla_stage_prep_us", self.prep.summary()),
            ("zorilla_stage_durable_us", self.durable.summary()),
            ("zorilla_stage_applied_us", self.applied.summary()),
            ("zorilla_stage_written_us", self.written.summary()),
            ("zorilla_log_batch_txns", self.batch_txns.summary()),
            ("zorilla_log_sync_us", self.sync.summary()),
        ]
    }
}

/// A place where one thread leaves its measures for the monitors.
#[derive(Debug, Default)]
pub struct Published(Mutex<Stages>);

impl Published {
    /// Replaces what was published.
    pub fn publish(&self, stages: &Stages) {
        // Copied in place: no allocation once both have grown. A thread that panicked here left numbers, nothing worse.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(stages);
    }

    /// Adds what was published to `sum`.
    pub fn add_to(&self, sum: &mut Stages) {
        sum.add(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Counts of one connection. Written by its worker alone.
#[derive(Debug)]
pub struct ConnectionStats {
    peer: SocketAddr,
    received: AtomicU64,
    sent: AtomicU64,
    queued: AtomicU64,
    /// What the server waits for: see [`ConnectionStats::set_interest`].
    interest: AtomicU64,
}

/// The server reads from the connection.
pub const INTEREST_READ: u64 = 1;
/// Output waits for the client to read.
pub const INTEREST_WRITE: u64 = 4;

/// For a counter with one writer: a plain addition that others may read at any time.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

fn raise(maximum: &AtomicU64, value: u64) {
    if maximum.load(Ordering::Relaxed) < value {
        maximum.store(value, Ordering::Relaxed);
    }
}

/// For a minimum that is kept as one more than itself, so that 0 can mean none.
fn lower(minimum_plus_one: &AtomicU64, value_plus_one: u64) {
    let before = minimum_plus_one.load(Ordering::Relaxed);
    if before == 0 || value_plus_one < before {
        minimum_plus_one.store(value_plus_one, Ordering::Relaxed);
    }
}

impl ConnectionStats {
    /// Of a connection that was just accepted.
    pub fn new(peer: SocketAddr) -> ConnectionStats {
        ConnectionStats {
            peer,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            interest: AtomicU64::new(INTEREST_READ),
        }
    }

    /// One packet came in.
    pub fn add_received(&self) {
        add(&self.received, 1);
    }

    /// One packet goes out.
    pub fn add_sent(&self) {
        add(&self.sent, 1);
    }

    /// Requests taken and not answered.
    pub fn set_queued(&self, queued: u64) {
        self.queued.store(queued, Ordering::Relaxed);
    }

    /// What the server waits for: a sum of [`INTEREST_READ`] and [`INTEREST_WRITE`].
    pub fn set_interest(&self, interest: u64) {
        self.interest.store(interest, Ordering::Relaxed);
    }

    /// As `stat` lists it.
    pub fn view(&self) -> ConnectionView {
        ConnectionView {
            peer: self.peer,
            interest: self.interest.load(Ordering::Relaxed) as u8,
            queued: self.queued.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }
}

/// What a worker counts of the limits that clients run into, under the names of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Connections that ended because their client went away.
    ConnectionDrop,
    /// ConnectRequests taken.
    ConnectionRequest,
    /// Connections that were refused.
    ConnectionRejected,
    /// Sessions that came back with a new connection.
    ConnectionRevalidate,
    /// Requests refused by the budget of large ones.
    LargeRequestsRejected,
    /// Operations refused because they waited too long.
    ThrottledOps,
    /// Intervals for which requests waited.
    RequestThrottleWait,
    /// Stale requests that were executed all the same.
    StaleRequests,
    /// Stale requests that were dropped with their connection.
    StaleRequestsDropped,
    /// Answers of which nobody took notice.
    StaleReplies,
}

impl Count {
    const ALL: [(Count, &'static str); 10] = [
        (Count::ConnectionDrop, "connection_drop_count"),
        (Count::ConnectionRequest, "connection_request_count"),
        (Count::ConnectionRejected, "connection_rejected"),
        (Count::ConnectionRevalidate, "connection_revalidate_count"),
        (Count::LargeRequestsRejected, "large_requests_rejected"),
        (Count::ThrottledOps, "throttled_ops"),
        (Count::RequestThrottleWait, "request_throttle_wait_count"),
        (Count::StaleRequests, "stale_requests"),
        (Count::StaleRequestsDropped, "stale_requests_dropped"),
        (Count::StaleReplies, "stale_replies"),
    ];
}

/// Counts of one worker. Written by that worker alone.
#[derive(Debug, Default)]
pub struct WorkerStats {
    received: CachePadded<AtomicU64>,
    received_bytes: AtomicU64,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    latency_ms_sum: AtomicU64,
    latency_count: AtomicU64,
    latency_ms_max: AtomicU64,
    /// One more than the shortest; 0: nothing was measured.
    latency_ms_min_plus_one: AtomicU64,
    reply_bytes_last: AtomicU64,
    reply_bytes_max: AtomicU64,
    /// One more than the smallest; 0: there was no reply.
    reply_bytes_min_plus_one: AtomicU64,
    watches: AtomicU64,
    outstanding: AtomicU64,
    /// By [`Count`].
    counts: [AtomicU64; Count::ALL.len()],
    /// Time spent working, of each 1,000 parts; exponentially smoothed. For placing connections.
    busy_permille: AtomicU64,
    connections: AtomicU64,
    listed: Mutex<HashMap<u32, Arc<ConnectionStats>>>,
    stages: Published,
}

/// Sums over all workers.
#[derive(Debug, Default)]
pub struct Totals {
    /// Packets.
    pub received: u64,
    /// Bytes.
    pub received_bytes: u64,
    /// Packets.
    pub sent: u64,
    /// Bytes.
    pub sent_bytes: u64,
    /// From arrival to reply.
    pub latency_ms: Summary,
    /// Sizes of packets sent.
    pub reply_bytes: ReplyBytes,
    /// Watches of all kinds.
    pub watches: u64,
    /// Requests posted and not completed.
    pub outstanding: u64,
    /// By [`Count`].
    counts: [u64; Count::ALL.len()],
}

impl Totals {
    /// Of one kind, from elsewhere.
    pub fn add(&mut self, count: Count, amount: u64) {
        self.counts[count as usize] += amount;
    }

    /// By the names `mntr` prints.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Count::ALL.iter().map(|(count, name)| (*name, self.counts[*count as usize]))
    }
}

impl WorkerStats {
    /// One packet came in.
    pub fn add_received(&self) {
        add(&self.received, 1);
    }

    /// Bytes came in.
    pub fn add_received_bytes(&self, bytes: u64) {
        add(&self.received_bytes, bytes);
    }

    /// One packet of `bytes` goes out.
    pub fn add_sent(&self, bytes: u64) {
        add(&self.sent, 1);
        add(&self.sent_bytes, bytes);
        self.reply_bytes_last.store(bytes, Ordering::Relaxed);
        raise(&self.reply_bytes_max, bytes);
        lower(&self.reply_bytes_min_plus_one, bytes + 1);
    }

    /// Requests were answered, each within the same time.
    pub fn add_latency_ms(&self, ms: u64, requests: u64) {
        add(&self.latency_count, requests);
        add(&self.latency_ms_sum, ms * requests);
        raise(&self.latency_ms_max, ms);
        lower(&self.latency_ms_min_plus_one, ms + 1);
    }

    /// One more of a kind.
    pub fn count(&self, count: Count) {
        add(&self.counts[count as usize], 1);
    }

    /// How many watches there are.
    pub fn set_watches(&self, watches: u64) {
        self.watches.store(watches, Ordering::Relaxed);
    }

    /// How many requests wait for the replica.
    pub fn set_outstanding(&self, outstanding: u64) {
        self.outstanding.store(outstanding, Ordering::Relaxed);
    }

    /// What share of the time since the last report was spent working.
    pub fn report_busy(&self, permille: u64) {
        let smoothed = (3 * self.busy_permille.load(Ordering::Relaxed) + permille) / 4;
        self.busy_permille.store(smoothed, Ordering::Relaxed);
    }

    /// How much this worker has to do: busy time first, then connections.
    pub fn load(&self) -> (u64, u64) {
        // In steps of 5 %: small differences are noise, and connections then decide.
        (self.busy_permille.load(Ordering::Relaxed) / 50, self.connections.load(Ordering::Relaxed))
    }

    /// Lists a connection.
    pub fn opened(&self, slot: u32, stats: Arc<ConnectionStats>) {
        add(&self.connections, 1);
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, stats);
    }

    /// Takes a connection off the list.
    pub fn closed(&self, slot: u32) {
        add(&self.connections, u64::MAX);
        self.listed.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot);
    }

    /// Leaves the measures of this worker for the monitors.
    pub fn publish(&self, stages: &Stages) {
        self.stages.publish(stages);
    }

    /// Adds this worker to the sums.
    pub fn add_to(&self, totals: &mut Totals, stages: &mut Stages) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        totals.received += read(&self.received);
        totals.received_bytes += read(&self.received_bytes);
        totals.sent += read(&self.sent);
        totals.sent_bytes += read(&self.sent_bytes);
        totals.latency_ms.count += read(&self.latency_count);
        totals.latency_ms.sum += read(&self.latency_ms_sum);
        totals.latency_ms.max = totals.latency_ms.max.max(read(&self.latency_ms_max));
        if let Some(shortest) = read(&self.latency_ms_min_plus_one).checked_sub(1) {
            let first = totals.latency_ms.count == read(&self.latency_count);
            totals.latency_ms.min = if first { shortest } else { shortest.min(totals.latency_ms.min) };
        }
        if let Some(smallest) = read(&self.reply_bytes_min_plus_one).checked_sub(1) {
            let (smallest, largest) = (smallest as i64, read(&self.reply_bytes_max) as i64);
            let before = totals.reply_bytes;
            totals.reply_bytes = ReplyBytes {
                last: read(&self.reply_bytes_last) as i64,
                min: if before.min < 0 { smallest } else { smallest.min(before.min) },
                max: largest.max(before.max),
            };
        }
        totals.watches += read(&self.watches);
        totals.outstanding += read(&self.outstanding);
        for (sum, count) in totals.counts.iter_mut().zip(&self.counts) {
            *sum += read(count);
        }
        self.stages.add_to(stages);
    }

    /// The listed connections.
    pub fn connections(&self, each: &mut dyn FnMut(&ConnectionStats)) {
        for stats in self.listed.lock().unwrap_or_else(PoisonError::into_inner).values() {
            each(stats);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_place_of_its_own() {
        for (place, (count, _)) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, place, "{count:?}");
        }
        let stats = WorkerStats::default();
        stats.count(Count::StaleReplies);
        stats.count(Count::ThrottledOps);
        stats.count(Count::ThrottledOps);
        let mut totals = Totals::default();
        stats.add_to(&mut totals, &mut Stages::default());
        totals.add(Count::ConnectionRejected, 3);
        let counted: Vec<_> = totals.counters().filter(|(_, total)| *total != 0).collect();
        assert_eq!(counted, [("connection_rejected", 3), ("throttled_ops", 2), ("stale_replies", 1)]);
    }
}
