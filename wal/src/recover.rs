//! The recovery table: what the bytes at the end of the log mean.
//!
//! Guarantees: every combination of what can be seen matches exactly one row (the tests go through all of them);
//! nothing that a crash alone can leave is called damage, and nothing that was acknowledged, and that something
//! durable later vouches for, is dropped.
//!
//! A decision function: it knows no file. `open` looks, this decides.

/// What is read at the place where the next item is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A batch whose checksums, seq, salt and chain are those expected.
    Good,
    /// Zeros, a batch of an earlier use of the file, or the end of the segment.
    Blank,
    /// Anything else.
    Bad,
    /// The operating system could not read it.
    Unreadable,
}

/// How the next segment, if it has a valid header, continues from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Successor {
    /// There is none with a valid header.
    Absent,
    /// It begins exactly here: its header names this place and the header before it.
    BeginsHere,
    /// It names this place, but another header before it.
    OtherChain,
    /// It begins further on.
    BeginsLater,
    /// It begins at a place that was already passed.
    BeginsEarlier,
}

/// What stands anywhere behind the place, in this segment and in every following one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Later {
    /// No item of this use of the files.
    Nothing,
    /// Items, and all of them were submitted before the item expected here was durable.
    Unproven,
    /// An item that was submitted when the one expected here was already durable.
    Proves,
    /// Something that cannot be read.
    Unreadable,
}

/// Why a log is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// What stood here was durable and is gone or changed.
    AcknowledgedLost,
    /// It cannot be read.
    Unreadable,
    /// The segments do not fit each other: they come from different histories.
    OtherHistory,
    /// A segment is missing.
    SegmentMissing,
    /// The segment's file is shorter than when it was written.
    SegmentCut,
    /// The checksums hold, but the content contradicts what stands before it.
    Contradiction(&'static str),
}

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Take the batch and go on behind it.
    Take,
    /// This segment ended here, whatever stands in it: go on in the next.
    NextSegment,
    /// The log ends here.
    CleanEnd,
    /// The log ends here; what stands here or behind was never acknowledged and is dropped.
    TornTail,
    /// History is missing.
    Damaged(Damage),
}

/// One row of the table. An empty list means: whatever it is.
struct Row {
    place: &'static [Place],
    successor: &'static [Successor],
    later: &'static [Later],
    verdict: Verdict,
}

const ROWS: &[Row] = &[
    // A new segment is begun only by a log that knows it ends there. So what stands at its place in the old segment
    // counts for nothing, not even if it looks good: an earlier recovery dropped it.
    Row { place: &[], successor: &[Successor::BeginsHere], later: &[], verdict: Verdict::NextSegment },
    Row {
        place: &[],
        successor: &[Successor::OtherChain, Successor::BeginsEarlier],
        later: &[],
        verdict: Verdict::Damaged(Damage::OtherHistory),
    },
    Row {
        place: &[Place::Good],
        successor: &[Successor::Absent, Successor::BeginsLater],
        later: &[],
        verdict: Verdict::Take,
    },
    // A read error is never a clean end, wherever it is.
    Row {
        place: &[Place::Unreadable],
        successor: &[Successor::Absent, Successor::BeginsLater],
        later: &[],
        verdict: Verdict::Damaged(Damage::Unreadable),
    },
    Row {
        place: &[Place::Blank, Place::Bad],
        successor: &[Successor::Absent, Successor::BeginsLater],
        later: &[Later::Unreadable],
        verdict: Verdict::Damaged(Damage::Unreadable),
    },
    Row {
        place: &[Place::Blank, Place::Bad],
        successor: &[Successor::Absent, Successor::BeginsLater],
        later: &[Later::Proves],
        verdict: Verdict::Damaged(Damage::AcknowledgedLost),
    },
    Row {
        place: &[Place::Blank, Place::Bad],
        successor: &[Successor::Absent, Successor::BeginsLater],
        later: &[Later::Unproven],
        verdict: Verdict::TornTail,
    },
    Row {
        place: &[Place::Blank],
        successor: &[Successor::Absent],
        later: &[Later::Nothing],
        verdict: Verdict::CleanEnd,
    },
    Row { place: &[Place::Bad], successor: &[Successor::Absent], later: &[Later::Nothing], verdict: Verdict::TornTail },
    // A valid header further on is itself an item behind the place: whoever says there is none has not looked.
    Row {
        place: &[Place::Blank, Place::Bad],
        successor: &[Successor::BeginsLater],
        later: &[Later::Nothing],
        verdict: Verdict::Damaged(Damage::OtherHistory),
    },
];

impl Row {
    fn covers(&self, place: Place, successor: Successor) -> bool {
        (self.place.is_empty() || self.place.contains(&place))
            && (self.successor.is_empty() || self.successor.contains(&successor))
    }

    fn covers_later(&self, later: Later) -> bool {
        self.later.is_empty() || self.later.contains(&later)
    }
}

/// Decides. `later` costs a scan of everything behind the place, so it is looked at only where the table needs it.
pub fn decide(place: Place, successor: Successor, later: impl FnOnce() -> Later) -> Verdict {
    let mut rows = ROWS.iter().filter(|row| row.covers(place, successor));
    let row = match rows.clone().find(|row| row.later.is_empty()) {
        Some(row) => Some(row),
        None => {
            let later = later();
            rows.find(|row| row.covers_later(later))
        }
    };
    // The test of totality below goes through every combination there is.
    row.expect("the recovery table has a row for everything").verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [Place; 4] = [Place::Good, Place::Blank, Place::Bad, Place::Unreadable];
    const SUCCESSORS: [Successor; 5] = [
        Successor::Absent,
        Successor::BeginsHere,
        Successor::OtherChain,
        Successor::BeginsLater,
        Successor::BeginsEarlier,
    ];
    const LATERS: [Later; 4] = [Later::Nothing, Later::Unproven, Later::Proves, Later::Unreadable];

    #[test]
    fn every_combination_matches_exactly_one_row_and_every_row_is_met() {
        let mut met = vec![0; ROWS.len()];
        let mut combinations = 0;
        for place in PLACES {
            for successor in SUCCESSORS {
                for later in LATERS {
                    let rows: Vec<usize> = (0..ROWS.len())
                        .filter(|at| ROWS[*at].covers(place, successor) && ROWS[*at].covers_later(later))
                        .collect();
                    assert_eq!(rows.len(), 1, "{place:?} {successor:?} {later:?} matches rows {rows:?}");
                    assert_eq!(decide(place, successor, || later), ROWS[rows[0]].verdict);
                    met[rows[0]] += 1;
                    combinations += 1;
                }
            }
        }
        assert!(met.iter().all(|times| 0 < *times), "rows that nothing matches: {met:?}");
        println!("recovery table: {combinations} combinations, {} rows, each combination matches one", ROWS.len());
    }

    #[test]
    fn the_scan_is_only_asked_for_where_the_table_needs_it() {
        for place in PLACES {
            for successor in SUCCESSORS {
                let mut asked = false;
                decide(place, successor, || {
                    asked = true;
                    Later::Unproven
                });
                let open_end = matches!(place, Place::Blank | Place::Bad)
                    && matches!(successor, Successor::Absent | Successor::BeginsLater);
                assert_eq!(asked, open_end, "{place:?} {successor:?}");
            }
        }
    }

    #[test]
    fn h27_a_crash_tail_and_corruption_are_told_apart() {
        let verdict = |later| decide(Place::Bad, Successor::Absent, || later);
        assert_eq!(verdict(Later::Nothing), Verdict::TornTail);
        assert_eq!(verdict(Later::Unproven), Verdict::TornTail);
        assert_eq!(verdict(Later::Proves), Verdict::Damaged(Damage::AcknowledgedLost));
    }

    #[test]
    fn h33_what_an_earlier_recovery_dropped_stays_dropped_however_good_it_looks() {
        for place in PLACES {
            for later in LATERS {
                assert_eq!(decide(place, Successor::BeginsHere, || later), Verdict::NextSegment);
            }
        }
    }

    #[test]
    fn a_read_error_is_never_an_end() {
        assert_eq!(
            decide(Place::Unreadable, Successor::Absent, || Later::Nothing),
            Verdict::Damaged(Damage::Unreadable)
        );
        assert_eq!(decide(Place::Blank, Successor::Absent, || Later::Unreadable), Verdict::Damaged(Damage::Unreadable));
    }
}
