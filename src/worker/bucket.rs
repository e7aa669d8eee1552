//! The connection throttle: a bucket of tokens of which every ConnectRequest takes some, and dropping by chance while it
//! stays empty (`semantics.md` 14).
//!
//! A value: time comes from outside, chance from a seeded generator. Refills are exact: what time has earned is never
//! lost to rounding, whatever the rhythm in which clients come.

use crate::settings::ConnectionThrottle;

/// What kind of session a ConnectRequest asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new one that the whole ensemble knows.
    Global,
    /// One that exists already.
    Renewed,
    /// A new one that only this server knows.
    Local,
}

/// See the module. One for the whole server.
#[derive(Debug)]
pub struct TokenBucket {
    settings: ConnectionThrottle,
    tokens: u64,
    tokens_max: u64,
    filled_ms: u64,
    frozen_ms: u64,
    drop_probability: f64,
    random: u64,
}

impl TokenBucket {
    /// A full bucket at this time.
    pub fn new(settings: ConnectionThrottle, now_ms: u64, seed: u64) -> TokenBucket {
        let tokens_max = u64::from(settings.tokens) * TokenBucket::scale(&settings);
        TokenBucket {
            settings,
            tokens: tokens_max,
            tokens_max,
            filled_ms: now_ms,
            frozen_ms: now_ms,
            drop_probability: 0.0,
            random: seed,
        }
    }

    /// With weights, bucket and refills are counted in tokens of which a new global session takes its weight.
    fn scale(settings: &ConnectionThrottle) -> u64 {
        if settings.weight_enabled { u64::from(settings.global_weight) } else { 1 }
    }

    /// Takes the tokens of one ConnectRequest. `false`: it is to be closed without an answer.
    pub fn admits(&mut self, asked: Asked, now_ms: u64) -> bool {
        if self.tokens_max == 0 {
            return true;
        }
        self.fill(now_ms);
        if 0 <= self.settings.freeze_ms && self.is_unlucky(now_ms) {
            return false;
        }
        let needed = match asked {
            _ if !self.settings.weight_enabled => 1,
            Asked::Global => u64::from(self.settings.global_weight),
            Asked::Renewed => u64::from(self.settings.renew_weight),
            Asked::Local => u64::from(self.settings.local_weight),
        };
        let left = self.tokens.checked_sub(needed);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    /// Tokens that the bucket is short of being full.
    pub fn deficit(&self) -> u64 {
        self.tokens_max - self.tokens
    }

    /// The chance that a client is dropped although there are tokens.
    pub fn drop_probability(&self) -> f64 {
        self.drop_probability
    }

    fn fill(&mut self, now_ms: u64) {
        let fill_ms = u64::from(self.settings.fill_ms.max(1));
        let periods = now_ms.saturating_sub(self.filled_ms) / fill_ms;
        let refill = u64::from(self.settings.fill_count) * TokenBucket::scale(&self.settings);
        self.filled_ms += periods * fill_ms;
        self.tokens = self.tokens.saturating_add(periods.saturating_mul(refill)).min(self.tokens_max);
    }

    /// Adjusts the probability, at most once per freeze time, and draws.
    fn is_unlucky(&mut self, now_ms: u64) -> bool {
        if u64::from(self.settings.freeze_ms.unsigned_abs()) < now_ms.saturating_sub(self.frozen_ms) {
            self.frozen_ms = now_ms;
            let missing_max = (self.tokens_max as f64 * self.settings.decrease_ratio).round() as u64;
            if self.tokens == 0 {
                self.drop_probability = (self.drop_probability + self.settings.drop_increase).min(1.0);
            } else if self.deficit() <= missing_max {
                self.drop_probability = (self.drop_probability - self.settings.drop_decrease).max(0.0);
            }
        }
        self.draw() < self.drop_probability
    }

    /// A number from 0 up to, not including, 1 (SplitMix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(change: impl FnOnce(&mut ConnectionThrottle)) -> TokenBucket {
        let mut settings = ConnectionThrottle { tokens: 3, fill_ms: 100, fill_count: 2, ..Default::default() };
        change(&mut settings);
        TokenBucket::new(settings, 1000, 7)
    }

    /// How many of `asked` are let in at this time.
    fn admitted(bucket: &mut TokenBucket, asked: Asked, times: usize, now_ms: u64) -> usize {
        (0..times).filter(|_| bucket.admits(asked, now_ms)).count()
    }

    #[test]
    fn nothing_set_lets_everybody_in() {
        let mut bucket = TokenBucket::new(ConnectionThrottle::default(), 0, 1);
        assert_eq!(admitted(&mut bucket, Asked::Global, 10_000, 0), 10_000);
        assert_eq!((bucket.deficit(), bucket.drop_probability()), (0, 0.0));
    }

    #[test]
    fn a_bucket_empties_refills_by_time_and_is_never_more_than_full() {
        let mut bucket = bucket(|_| ());
        assert_eq!(admitted(&mut bucket, Asked::Global, 5, 1000), 3);
        assert_eq!(bucket.deficit(), 3);
        assert_eq!(admitted(&mut bucket, Asked::Global, 5, 1099), 0);
        assert_eq!(admitted(&mut bucket, Asked::Renewed, 5, 1100), 2);
        // Half a period does not get lost: the next ends 200 ms after the start.
        assert_eq!(admitted(&mut bucket, Asked::Global, 5, 1150), 0);
        assert_eq!(admitted(&mut bucket, Asked::Global, 5, 1200), 2);
        assert_eq!(admitted(&mut bucket, Asked::Global, 5, 1_000_000), 3);
    }

    #[test]
    fn kinds_of_sessions_weigh_differently_only_where_weights_are_enabled() {
        for (asked, unweighted, weighted) in [(Asked::Global, 3, 3), (Asked::Renewed, 3, 4), (Asked::Local, 3, 9)] {
            assert_eq!(admitted(&mut bucket(|_| ()), asked, 20, 1000), unweighted, "{asked:?}");
            // Nine tokens, of which the kinds take three, two and one.
            let mut heavy = bucket(|settings| settings.weight_enabled = true);
            assert_eq!(admitted(&mut heavy, asked, 20, 1000), weighted, "{asked:?}");
            admitted(&mut heavy, Asked::Local, 20, 1000);
            assert_eq!(admitted(&mut heavy, Asked::Local, 20, 1100), 6, "refills weigh, too");
        }
    }

    #[test]
    fn chance_drops_more_while_the_bucket_is_empty_and_less_when_it_is_full() {
        let mut bucket = bucket(|settings| {
            settings.freeze_ms = 10;
            settings.drop_increase = 0.25;
            settings.drop_decrease = 0.5;
        });
        assert_eq!(admitted(&mut bucket, Asked::Global, 5, 1000), 3);
        // Not more often than the freeze time says.
        for now_ms in 1001..=1010 {
            bucket.admits(Asked::Global, now_ms);
            assert_eq!(bucket.drop_probability(), 0.0, "{now_ms}");
        }
        for (now_ms, expected) in [(1011, 0.25), (1022, 0.5), (1033, 0.75), (1044, 1.0), (1055, 1.0)] {
            bucket.admits(Asked::Global, now_ms);
            assert_eq!(bucket.drop_probability(), expected, "{now_ms}");
        }
        // A token is there, but luck is not.
        assert_eq!(admitted(&mut bucket, Asked::Global, 50, 1100), 0);
        // Full again: less chance, and some get in.
        let before = bucket.drop_probability();
        bucket.admits(Asked::Global, 5000);
        assert_eq!((before, bucket.drop_probability()), (1.0, 0.5));
    }

    #[test]
    fn the_share_that_may_be_missing_counts_as_full() {
        for (ratio, expected) in [(0.0, 0.5), (0.34, 0.25), (1.0, 0.25)] {
            let mut bucket = bucket(|settings| {
                settings.freeze_ms = 0;
                settings.drop_increase = 0.5;
                settings.drop_decrease = 0.25;
                settings.decrease_ratio = ratio;
            });
            admitted(&mut bucket, Asked::Global, 3, 1000);
            bucket.admits(Asked::Global, 1001);
            assert_eq!(bucket.drop_probability(), 0.5);
            // Two of three tokens are back.
            bucket.admits(Asked::Global, 1100);
            assert_eq!(bucket.drop_probability(), expected, "{ratio}");
        }
    }

    #[test]
    fn the_same_seed_drops_the_same_clients_and_about_as_many_as_it_should() {
        let run = |seed| {
            let settings =
                ConnectionThrottle { tokens: 1_000_000, freeze_ms: 1_000_000, ..ConnectionThrottle::default() };
            let mut bucket = TokenBucket::new(settings, 0, seed);
            bucket.drop_probability = 0.3;
            (0..10_000).map(|_| bucket.admits(Asked::Global, 0)).collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
        let dropped = run(5).iter().filter(|admitted| !**admitted).count();
        assert!((2700..3300).contains(&dropped), "{dropped} of 10000 were dropped at 0.3");
    }
}
