//! When the server deletes containers and znodes with a time to live by itself: how often it looks, and how fast it goes on
//! (`semantics.md` 7.2).
//!
//! A value. What may be deleted is the tree's to say, and prep's once more.

use std::collections::VecDeque;

use crate::limits::REAP_PATHS_MAX;
use crate::settings::ContainerSettings;

/// Between two looks at parts of a large state, ms.
const LOOK_AGAIN_MS: u64 = 10;

/// See the module.
#[derive(Debug)]
pub struct Reaper {
    interval_ms: u64,
    /// Between two deletions, ms.
    pace_ms: u64,
    /// When it looks next, ms; `None`: it has not been asked yet.
    look_at_ms: Option<u64>,
    found: VecDeque<String>,
    /// The next deletion comes no earlier, ms; and what this was before the last one.
    next_at_ms: u64,
    before_ms: u64,
}

impl Reaper {
    pub fn new(settings: &ContainerSettings) -> Reaper {
        Reaper {
            interval_ms: settings.check_interval_ms.max(1),
            pace_ms: 60_000 / u64::from(settings.per_minute_max).max(1),
            look_at_ms: None,
            found: VecDeque::new(),
            next_at_ms: 0,
            before_ms: 0,
        }
    }

    /// When it wants to be asked, ms.
    pub fn next_ms(&self) -> u64 {
        match self.look_at_ms {
            None => 0,
            Some(look_at_ms) if self.found.is_empty() => look_at_ms,
            Some(_) => self.next_at_ms,
        }
    }

    /// Whether there is something to do now. The first look comes one interval after the first question.
    pub fn is_due(&mut self, now_ms: u64) -> bool {
        if self.look_at_ms.is_none() {
            self.look_at_ms = Some(now_ms + self.interval_ms);
            return false;
        }
        self.next_ms() <= now_ms
    }

    /// Looks, if it is time to: `find` gets how many paths are wanted at most, and where they go; it says whether there is
    /// more to look at.
    pub fn look(&mut self, now_ms: u64, find: &mut dyn FnMut(usize, &mut VecDeque<String>) -> bool) {
        if !self.found.is_empty() || self.look_at_ms.is_some_and(|at_ms| now_ms < at_ms) {
            return;
        }
        let is_more = find(REAP_PATHS_MAX, &mut self.found);
        // What was cut off is looked for again as soon as this is through.
        let wait_ms = match self.found.len() {
            REAP_PATHS_MAX.. => 0,
            _ if is_more => LOOK_AGAIN_MS.min(self.interval_ms),
            _ => self.interval_ms,
        };
        self.look_at_ms = Some(now_ms + wait_ms);
    }

    /// The next path to delete, if the pace allows it.
    pub fn next(&mut self, now_ms: u64) -> Option<String> {
        if self.found.is_empty() || now_ms < self.next_ms() {
            return None;
        }
        self.before_ms = std::mem::replace(&mut self.next_at_ms, now_ms + self.pace_ms);
        self.found.pop_front()
    }

    /// It could not be deleted yet.
    pub fn put_back(&mut self, path: String) {
        self.next_at_ms = self.before_ms;
        self.found.push_front(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaper(check_interval_ms: u64, per_minute_max: u32) -> Reaper {
        Reaper::new(&ContainerSettings { check_interval_ms, per_minute_max, never_used_ms: 0 })
    }

    #[test]
    fn it_looks_once_an_interval_and_deletes_at_its_pace() {
        let mut reaper = reaper(1000, 600);
        assert!(!reaper.is_due(5000));
        assert_eq!(reaper.next_ms(), 6000);
        assert!(!reaper.is_due(5999) && reaper.is_due(6000));
        reaper.look(6000, &mut |_, found| {
            found.extend(["/a", "/b", "/c"].map(String::from));
            false
        });
        assert_eq!(reaper.next(6000).as_deref(), Some("/a"));
        assert_eq!((reaper.next(6000), reaper.next_ms()), (None, 6100));
        assert_eq!(reaper.next(6100).as_deref(), Some("/b"));
        reaper.put_back("/b".into());
        assert_eq!(reaper.next(6150).as_deref(), Some("/b"));
        assert_eq!(reaper.next(6249), None, "it does not make up for what it was late");
        assert_eq!(reaper.next(7000).as_deref(), Some("/c"));
        assert_eq!(reaper.next_ms(), 7000, "the next look is due");
        let mut looks = 0;
        reaper.look(6999, &mut |_, _| {
            looks += 1;
            false
        });
        reaper.look(7000, &mut |_, _| {
            looks += 1;
            false
        });
        assert_eq!((looks, reaper.next_ms()), (1, 8000));
    }

    #[test]
    fn the_pace_is_kept_across_looks() {
        let mut reaper = reaper(1, 600);
        assert!(!reaper.is_due(0));
        for (at, deletes) in [(1, true), (2, false), (101, true), (102, false)] {
            reaper.look(at, &mut |_, found| {
                found.push_back("/a".into());
                false
            });
            assert_eq!(reaper.next(at).is_some(), deletes, "at {at} ms");
        }
    }

    #[test]
    fn more_than_it_takes_at_once_is_looked_for_again_at_once() {
        let mut reaper = reaper(1000, u32::MAX);
        assert!(!reaper.is_due(0));
        reaper.look(1000, &mut |max, found| {
            found.extend((0..max).map(|number| number.to_string()));
            false
        });
        while reaper.next(1000).is_some() {}
        assert!(reaper.is_due(1001));
    }
}
