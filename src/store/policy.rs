//! When the state is written and which runs are merged. Pure.

use crate::limits::{LIVE_BYTES_MAX, RUNS_MAX};

/// When to freeze, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// So many transactions after the last freeze.
    pub txns: u64,
    /// So many bytes of log after it.
    pub bytes: u64,
    /// When nothing was written for so long, and there is something to write.
    pub quiet_ns: u64,
}

impl Default for Policy {
    /// What makes a start replay at most 100,000 transactions or 32 MiB, a fraction of a second.
    fn default() -> Policy {
        Policy { txns: 100_000, bytes: 32 << 20, quiet_ns: 10_000_000_000 }
    }
}

/// What was written since the last freeze.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Transactions applied.
    pub txns: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// When the last one was applied.
    pub last_ns: u64,
}

impl Policy {
    /// Whether the overlay is to be frozen now. `runs`: those in force; `merging`: some of them are being merged.
    ///
    /// While a merge goes on the runs can only become more, so the fewer places are left, the more has to be worth one.
    pub fn wants_freeze(&self, since: &Since, runs: usize, merging: bool, now_ns: u64) -> bool {
        if since.txns == 0 || RUNS_MAX <= runs {
            return false;
        }
        let worth = if merging { 1 << runs.saturating_sub(RUNS_MAX / 2) } else { 1 };
        let much = self.txns.saturating_mul(worth) <= since.txns || self.bytes.saturating_mul(worth) <= since.bytes;
        much || since.last_ns.saturating_add(self.quiet_ns) <= now_ns
    }

    /// When [`Policy::wants_freeze`] may say yes though nothing more was written.
    pub fn deadline_ns(&self, since: &Since) -> Option<u64> {
        (0 < since.txns).then(|| since.last_ns.saturating_add(self.quiet_ns))
    }
}

/// How many of the newest runs to merge into one, given all their sizes, newest first. `None`: they may stay.
///
/// Each run is to be more than four times as large as all above it together, so that a lookup meets few of them while a byte
/// is written again only a few times in its life. Of the places where that does not hold the deepest decides.
pub fn merge(sizes: &[u64]) -> Option<usize> {
    let mut above = 0u64;
    let mut count = None;
    for (index, bytes) in sizes.iter().enumerate() {
        if 0 < index && *bytes < above.saturating_mul(4) {
            count = Some(index + 1);
        }
        above = above.saturating_add(*bytes);
    }
    // Even sizes that are in order must leave room for the next flush.
    count.or((RUNS_MAX - 1 < sizes.len()).then_some(2))
}

/// How fast the log may grow, bytes per second, when the overlay that is written to has `live_bytes` while the frozen one is
/// not on the disk yet. `None`: as fast as it can.
///
/// From half the limit on it is half of what is left: writers slow down more and more, and the limit is never reached.
pub fn rate_bytes(live_bytes: usize) -> Option<usize> {
    (LIVE_BYTES_MAX / 2 < live_bytes).then(|| LIVE_BYTES_MAX.saturating_sub(live_bytes) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_freeze_is_due_for_transactions_bytes_or_quiet() {
        let policy = Policy::default();
        let since = |txns, bytes, last_ns| Since { txns, bytes, last_ns };
        let second = 1_000_000_000;
        let cases = [
            (since(0, 0, 0), 0, false, 100 * second, false),
            (since(1, 100, 5 * second), 0, false, 14 * second, false),
            (since(1, 100, 5 * second), 0, false, 15 * second, true),
            (since(99_999, MIB, 5 * second), 2, false, 6 * second, false),
            (since(100_000, MIB, 5 * second), 2, false, 6 * second, true),
            (since(10, 32 * MIB, 5 * second), 2, false, 6 * second, true),
            // While a merge goes on, places are worth more.
            (since(100_000, MIB, 5 * second), 3, true, 6 * second, true),
            (since(100_000, MIB, 5 * second), 4, true, 6 * second, false),
            (since(200_000, MIB, 5 * second), 4, true, 6 * second, true),
            (since(300_000, MIB, 5 * second), 5, true, 6 * second, false),
            (since(400_000, MIB, 5 * second), 5, true, 6 * second, true),
            (since(9_000_000, 900 * MIB, 5 * second), 6, true, 600 * second, false),
        ];
        for (since, runs, merging, now_ns, due) in cases {
            assert_eq!(policy.wants_freeze(&since, runs, merging, now_ns), due, "{since:?} {runs} {merging} {now_ns}");
        }
    }

    #[test]
    fn runs_are_merged_by_geometric_sizes() {
        let cases: [(&[u64], Option<usize>); 10] = [
            (&[], None),
            (&[32], None),
            (&[32, 128], None),
            (&[32, 127], Some(2)),
            (&[32, 32, 1500], Some(2)),
            (&[1, 32, 32, 1500], Some(3)),
            (&[32, 128, 600], Some(3)),
            (&[32, 128, 640], None),
            (&[1, 4, 20, 100, 500], None),
            (&[1, 4, 20, 100, 500, 2500], Some(2)),
        ];
        for (sizes, count) in cases {
            assert_eq!(merge(sizes), count, "{sizes:?}");
        }
    }

    #[test]
    fn there_are_never_more_runs_than_the_limit_and_each_byte_is_written_a_few_times() {
        let (mut sizes, mut written) = (Vec::new(), 0);
        for _ in 0..300 {
            sizes.insert(0, 32 * MIB);
            assert!(sizes.len() <= RUNS_MAX, "{sizes:?}");
            written += 32 * MIB;
            while let Some(count) = merge(&sizes) {
                let merged: u64 = sizes.drain(..count).sum();
                written += merged;
                sizes.insert(0, merged);
            }
        }
        let total: u64 = sizes.iter().sum();
        assert_eq!(total, 300 * 32 * MIB);
        assert!(written / total < 12, "each byte was written {} times", written / total);
    }

    #[test]
    fn writers_slow_down_before_they_stop() {
        assert_eq!(rate_bytes(LIVE_BYTES_MAX / 2), None);
        let rate = |left| rate_bytes(LIVE_BYTES_MAX - left).unwrap();
        assert!(0 < rate(1 << 20) && rate(1 << 20) < rate(1 << 27));
        assert_eq!(rate_bytes(2 * LIVE_BYTES_MAX), Some(0));
    }
}
