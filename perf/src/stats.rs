//! What a run counted, and how runs are put together: histograms, series, stalls, medians.
//!
//! Guarantees: knows no clock and no socket. A tally of several threads is the sum of theirs.

use crate::limits::{LATENCY_NS_MAX, STALLS_KEPT, VIOLATIONS_KEPT};
use crate::wire::code_name;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// A histogram of nanoseconds with three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("constant bounds that the crate allows")
}

/// A stretch of time in which writes were late: each of them longer under way than the threshold, and overlapping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// When the first of them was sent, in nanoseconds of the run.
    pub start_ns: u64,
    /// When the last of them was acknowledged.
    pub end_ns: u64,
    /// The longest time one of them was under way.
    pub longest_ns: u64,
    /// How many they were.
    pub writes: u64,
}

/// Stalls in the order in which they were noticed.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    /// Writes that take longer are part of a stall; 0 looks for none.
    pub threshold_ns: u64,
    kept: Vec<Stall>,
    /// Stalls that found no room any more.
    pub dropped: u64,
}

impl Stalls {
    /// Looks for writes above `threshold_ns`.
    pub fn above(threshold_ns: u64) -> Stalls {
        Stalls { threshold_ns, ..Stalls::default() }
    }

    /// Takes notice of an acknowledged write.
    #[inline]
    pub fn record(&mut self, sent_ns: u64, acknowledged_ns: u64) {
        let longest_ns = acknowledged_ns.saturating_sub(sent_ns);
        if self.threshold_ns != 0 && self.threshold_ns < longest_ns {
            self.add(Stall { start_ns: sent_ns, end_ns: acknowledged_ns, longest_ns, writes: 1 });
        }
    }

    fn add(&mut self, stall: Stall) {
        let full = STALLS_KEPT <= self.kept.len();
        match self.kept.last_mut() {
            Some(last) if stall.start_ns <= last.end_ns => {
                last.start_ns = last.start_ns.min(stall.start_ns);
                last.end_ns = last.end_ns.max(stall.end_ns);
                last.longest_ns = last.longest_ns.max(stall.longest_ns);
                last.writes += stall.writes;
            }
            _ if full => self.dropped += 1,
            _ => self.kept.push(stall),
        }
    }

    /// Puts the stalls of several threads together.
    pub fn merge(&mut self, other: &Stalls) {
        let mut all = std::mem::take(&mut self.kept);
        all.extend_from_slice(&other.kept);
        all.sort_by_key(|stall| stall.start_ns);
        self.dropped += other.dropped;
        for stall in all {
            self.add(stall);
        }
    }

    /// The stalls that were kept.
    pub fn kept(&self) -> &[Stall] {
        &self.kept
    }
}

/// What one thread counted, or all of them.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Latency of successful requests answered in the measured window.
    pub latency: Histogram<u64>,
    /// In the open loop: how late the generator itself sent.
    pub send_lag: Histogram<u64>,
    /// Successful requests by second of the window.
    pub series: Vec<u64>,
    /// Requests of the whole run that were answered with success.
    pub succeeded: u64,
    /// Requests of the whole run that were answered with an error, by code.
    pub errors: BTreeMap<i32, u64>,
    /// Requests that were never answered.
    pub unanswered: u64,
    /// Connections that ended before the run did.
    pub connections_lost: u64,
    /// Replies that the protocol does not allow.
    pub violations: u64,
    /// The first of them, in words.
    pub violation_texts: Vec<String>,
    /// Stalls of writes.
    pub stalls: Stalls,
    /// When the last reply came, in nanoseconds of the run.
    pub last_reply_ns: u64,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(stall_threshold_ns: u64) -> Tally {
        Tally {
            latency: histogram(),
            send_lag: histogram(),
            series: Vec::new(),
            succeeded: 0,
            errors: BTreeMap::new(),
            unanswered: 0,
            connections_lost: 0,
            violations: 0,
            violation_texts: Vec::new(),
            stalls: Stalls::above(stall_threshold_ns),
            last_reply_ns: 0,
        }
    }

    /// A success `at_ns` after the window began.
    #[inline]
    pub fn success(&mut self, at_ns: u64, latency_ns: u64) {
        self.latency.saturating_record(latency_ns);
        let second = (at_ns / SECOND_NS) as usize;
        if self.series.len() <= second {
            self.series.resize(second + 1, 0);
        }
        self.series[second] += 1;
    }

    /// A reply that the protocol does not allow.
    pub fn violation(&mut self, text: String) {
        self.violations += 1;
        if self.violation_texts.len() < VIOLATIONS_KEPT {
            self.violation_texts.push(text);
        }
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: Tally) {
        self.latency += &other.latency;
        self.send_lag += &other.send_lag;
        if self.series.len() < other.series.len() {
            self.series.resize(other.series.len(), 0);
        }
        for (sum, more) in self.series.iter_mut().zip(&other.series) {
            *sum += more;
        }
        self.succeeded += other.succeeded;
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.connections_lost += other.connections_lost;
        self.violations += other.violations;
        self.violation_texts.extend(other.violation_texts);
        self.violation_texts.truncate(VIOLATIONS_KEPT);
        self.stalls.merge(&other.stalls);
        self.last_reply_ns = self.last_reply_ns.max(other.last_reply_ns);
    }

    /// The figures of a window of `seconds`.
    pub fn summary(&self, seconds: f64) -> Summary {
        let us = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        // A second that the window covers only in part would look slow.
        let whole = (seconds + 1e-6) as usize;
        let mut series = self.series.clone();
        series.resize(series.len().max(whole), 0);
        let ops = self.latency.len();
        Summary {
            seconds,
            ops,
            ops_per_s: ops as f64 / seconds,
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.latency.max() as f64 / 1e3,
            worst_second: series[..whole].iter().min().copied().unwrap_or_else(|| (ops as f64 / seconds) as u64),
            send_lag_p99_us: if self.send_lag.is_empty() {
                0.0
            } else {
                self.send_lag.value_at_quantile(0.99) as f64 / 1e3
            },
            series,
            rounds: Vec::new(),
            errors: self.errors.iter().map(|(code, count)| (code_name(*code), *count)).collect(),
            unanswered: self.unanswered,
            connections_lost: self.connections_lost,
            violations: self.violations,
            violation_texts: self.violation_texts.clone(),
        }
    }
}

/// The figures of one run, as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Length of the measured window.
    pub seconds: f64,
    /// Successful requests in it.
    pub ops: u64,
    /// The same per second.
    pub ops_per_s: f64,
    /// Median latency.
    pub p50_us: f64,
    /// 90 % were answered within this time.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The longest latency.
    pub max_us: f64,
    /// The fewest successes in one whole second of the window.
    pub worst_second: u64,
    /// Open loop: by how much the generator was late itself, at its 99th percentile.
    pub send_lag_p99_us: f64,
    /// Successes by second.
    pub series: Vec<u64>,
    /// Of what comes in rounds: the rate of each. `ops_per_s` is their median then, and `worst_second` the slowest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<f64>,
    /// Error replies by the name of their code, over the whole run.
    pub errors: BTreeMap<String, u64>,
    /// Requests that were never answered.
    pub unanswered: u64,
    /// Connections that ended before the run did.
    pub connections_lost: u64,
    /// Replies that the protocol does not allow.
    pub violations: u64,
    /// The first of them.
    pub violation_texts: Vec<String>,
}

impl Summary {
    /// What makes the figures worthless, if anything does.
    pub fn fault(&self) -> Option<String> {
        if self.violations != 0 {
            let first = self.violation_texts.first().map_or("", String::as_str);
            return Some(format!("{} replies were wrong; the first: {first}", self.violations));
        }
        if self.connections_lost != 0 {
            return Some(format!("{} connections were lost", self.connections_lost));
        }
        if self.unanswered != 0 {
            return Some(format!("{} requests were never answered", self.unanswered));
        }
        if let Some((code, count)) = self.errors.iter().next() {
            return Some(format!("{count} replies say {code}"));
        }
        if self.ops == 0 {
            return Some("nothing was answered in the measured window".to_owned());
        }
        None
    }
}

/// The middle value; the mean of the two middle ones if their number is even. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count.is_multiple_of(2) => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 3.0, 5.0]), Some(4.0));
    }

    #[test]
    fn percentiles_and_the_worst_second_are_those_of_a_sort() {
        let mut tally = Tally::new(0);
        let mut latencies: Vec<u64> = (1..=10_000).map(|n| n * 1_000).collect();
        crate::wire::Random::new(1).shuffle(&mut latencies);
        for (at, latency) in latencies.iter().enumerate() {
            // Second 0 gets 6,000, second 1 gets 1,000, the started second 2 the rest.
            let at_ns = match at {
                0..6_000 => 1,
                6_000..7_000 => SECOND_NS,
                _ => 2 * SECOND_NS,
            };
            tally.success(at_ns, *latency);
        }
        let summary = tally.summary(2.5);
        assert_eq!(summary.ops, 10_000);
        assert_eq!(summary.ops_per_s, 4_000.0);
        assert_eq!(summary.series, [6_000, 1_000, 3_000]);
        assert_eq!(summary.worst_second, 1_000);
        for (found, exact) in
            [(summary.p50_us, 5_000.0), (summary.p99_us, 9_900.0), (summary.p999_us, 9_990.0), (summary.max_us, 1e4)]
        {
            assert!((found - exact).abs() <= exact * 0.001, "{found} {exact}");
        }
    }

    #[test]
    fn a_second_without_any_success_is_the_worst() {
        let mut tally = Tally::new(0);
        tally.success(5, 1_000);
        assert_eq!(tally.summary(3.0).worst_second, 0);
        assert_eq!(tally.summary(3.0).series, [1, 0, 0]);
    }

    #[test]
    fn a_merge_is_the_sum() {
        let mut a = Tally::new(20);
        a.success(0, 1_000);
        a.errors.insert(-101, 2);
        a.stalls.record(0, 50);
        let mut b = Tally::new(20);
        b.success(SECOND_NS, 3_000);
        b.errors.insert(-101, 1);
        b.violation("odd".to_owned());
        b.stalls.record(40, 100);
        b.stalls.record(500, 510);
        b.stalls.record(600, 700);
        a.merge(b);
        let summary = a.summary(2.0);
        assert_eq!(summary.series, [1, 1]);
        assert_eq!(summary.errors, BTreeMap::from([(code_name(-101), 3)]));
        assert_eq!(summary.violation_texts, ["odd"]);
        assert_eq!(
            a.stalls.kept(),
            [
                Stall { start_ns: 0, end_ns: 100, longest_ns: 60, writes: 2 },
                Stall { start_ns: 600, end_ns: 700, longest_ns: 100, writes: 1 }
            ]
        );
    }

    #[test]
    fn whatever_spoils_a_run_is_named() {
        let good = Summary { ops: 1, ..Summary::default() };
        assert_eq!(good.fault(), None);
        let faults = [
            (Summary { violations: 1, ..good.clone() }, "wrong"),
            (Summary { connections_lost: 1, ..good.clone() }, "lost"),
            (Summary { unanswered: 1, ..good.clone() }, "never answered"),
            (Summary { errors: BTreeMap::from([("NONODE".to_owned(), 4)]), ..good.clone() }, "4 replies say NONODE"),
            (Summary { ops: 0, ..good }, "nothing"),
        ];
        for (summary, expected) in faults {
            assert!(summary.fault().expect(expected).contains(expected));
        }
    }
}
