//! The replica's side of the store: when to freeze, what to tell the log, what may be purged, and how fast writes may come.
//!
//! A value; who drives the replica does what it says. Guarantees: a head is told to the log after it was published, and
//! nothing is purged before the log's record of the head that replaces it is durable.

use zorilla_proto::ids::Zxid;
use zorilla_wal::{Position, StateHead};

use super::policy::{Policy, Since, rate_bytes};
use super::recover::Found;
use super::work::{HeadName, Swap};
use crate::limits::{BRAKE_BYTES_MAX, RUNS_MAX};

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    policy: Policy,
    /// Runs in force.
    runs: usize,
    merging: bool,
    /// A frozen overlay is being written.
    writing: bool,
    /// The newest head, unless the log was told of it.
    untold: Option<HeadName>,
    /// What the log was told last, until that is durable.
    told: Option<(Position, HeadName)>,
    /// A head that the log durably names, until what it replaces was purged.
    durable: Option<HeadName>,
    brake: Brake,
}

/// Slows writes down to what the disk takes.
#[derive(Debug, Default)]
struct Brake {
    bytes: u64,
    filled_ns: u64,
    is_on: bool,
}

/// What is to be said about the brake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Braking {
    /// It began.
    Begins,
    /// It ended.
    Ends,
}

impl Keeper {
    /// After a start that found this, with a log that names `named`.
    pub fn new(policy: Policy, found: &Found, named: Option<&StateHead>, merging: bool) -> Keeper {
        let head = found.head.as_ref().map(|head| HeadName { number: head.number, file: head.file(), zxid: head.zxid });
        let is_named = head.as_ref().is_some_and(|head| named.is_some_and(|named| named.file == head.file));
        let (untold, durable) = if is_named { (None, head) } else { (head, None) };
        let runs = found.runs.len();
        Keeper { policy, runs, merging, writing: false, untold, told: None, durable, brake: Brake::default() }
    }

    /// Whether to freeze now. If so, tell [`Keeper::froze`].
    pub fn wants_freeze(&self, since: &Since, now_ns: u64) -> bool {
        !self.writing && self.policy.wants_freeze(since, self.runs, self.merging, now_ns)
    }

    /// The overlay was frozen and is on its way to the store thread.
    pub fn froze(&mut self) {
        self.writing = true;
    }

    /// A run took the place of something.
    pub fn swapped(&mut self, swap: &Swap) {
        if swap.replaced == super::work::Replaced::Frozen {
            self.writing = false;
        }
        self.runs = swap.runs;
        self.merging = swap.merging;
        self.untold = Some(swap.head.clone());
    }

    /// The head that the log is to be told of. If it took the record, tell [`Keeper::told`].
    pub fn untold(&self) -> Option<&HeadName> {
        // One at a time, so that there always is one that becomes durable.
        self.untold.as_ref().filter(|_| self.told.is_none())
    }

    /// The log took the record of it.
    pub fn told(&mut self, position: Position) {
        let head = self.untold.take().expect("there was a head to tell of");
        self.told = Some((position, head));
    }

    /// The log is durable up to here.
    pub fn durable(&mut self, up_to: Position) {
        if let Some((_, head)) = self.told.take_if(|(position, _)| *position <= up_to) {
            self.durable = Some(head);
        }
    }

    /// The head for whose sake something may be purged now; said once. The number, and how far the state goes.
    pub fn purge_due(&mut self) -> Option<(u64, Zxid)> {
        self.durable.take().map(|head| (head.number, head.zxid))
    }

    /// When to look again at the latest.
    pub fn deadline_ns(&self, since: &Since) -> Option<u64> {
        let may_freeze = !self.writing && self.runs < RUNS_MAX;
        let freeze = self.policy.deadline_ns(since).filter(|_| may_freeze);
        // While it brakes, a little more may come every millisecond.
        let brake = self.brake.is_on.then_some(self.brake.filled_ns + 1_000_000);
        [freeze, brake].into_iter().flatten().min()
    }

    /// The most bytes that the log may take now, with an overlay of `live_bytes` that is written to. `None`: any number.
    /// And whether braking begins or ends.
    pub fn room(&mut self, live_bytes: usize, now_ns: u64) -> (Option<usize>, Option<Braking>) {
        let rate = if self.writing { rate_bytes(live_bytes) } else { None };
        let turned = match (rate.is_some(), self.brake.is_on) {
            (true, false) => {
                self.brake.filled_ns = now_ns;
                self.brake.bytes = 0;
                Some(Braking::Begins)
            }
            (false, true) => Some(Braking::Ends),
            _ => None,
        };
        self.brake.is_on = rate.is_some();
        let room = rate.map(|rate| {
            let passed_ns = now_ns.saturating_sub(self.brake.filled_ns).min(1_000_000_000);
            self.brake.filled_ns = now_ns;
            let more = rate as u128 * u128::from(passed_ns) / 1_000_000_000;
            // Not more than the largest transaction needs: what is saved up is spent at once.
            self.brake.bytes = (self.brake.bytes + more as u64).min(BRAKE_BYTES_MAX);
            self.brake.bytes as usize
        });
        (room, turned)
    }

    /// So much was appended to the log.
    pub fn spent(&mut self, bytes: usize) {
        self.brake.bytes = self.brake.bytes.saturating_sub(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use zorilla_wal::StoreId;

    use super::*;
    use crate::limits::LIVE_BYTES_MAX;
    use crate::store::head::{Head, RunFact};

    fn head(number: u64) -> HeadName {
        HeadName { number, file: format!("head.{number:016x}"), zxid: Zxid::from_raw(number) }
    }

    /// After a start on this head, which the log names or not.
    fn started(number: u64, is_named: bool) -> Keeper {
        let HeadName { file, zxid, .. } = head(number);
        let runs = vec![RunFact { number: 1, bytes: 9, zxid, identity: 5 }];
        let of_disk = Head { number, store: StoreId(1), seed: 1, zxid, exported: None, imported: false, runs };
        let found = Found { head: Some(of_disk), ..Found::default() };
        let named = StateHead { file, zxid };
        Keeper::new(Policy::default(), &found, is_named.then_some(&named), false)
    }

    #[test]
    fn nothing_is_purged_before_the_log_durably_names_the_newer_head() {
        let mut keeper = started(3, false);
        assert_eq!(keeper.purge_due(), None);
        assert_eq!(keeper.untold(), Some(&head(3)));
        keeper.told(Position(7));
        assert_eq!(keeper.untold(), None);
        assert_eq!(keeper.purge_due(), None);
        keeper.durable(Position(6));
        assert_eq!(keeper.purge_due(), None);
        // A newer head waits until the one before is durable.
        keeper.untold = Some(head(5));
        assert_eq!(keeper.untold(), None);
        keeper.durable(Position(7));
        assert_eq!(keeper.purge_due(), Some((3, Zxid::from_raw(3))));
        assert_eq!(keeper.purge_due(), None, "it is said once");
        assert_eq!(keeper.untold(), Some(&head(5)));
    }

    #[test]
    fn a_head_that_the_log_names_is_cleaned_up_after_at_once() {
        let mut keeper = started(3, true);
        assert_eq!((keeper.untold().cloned(), keeper.purge_due()), (None, Some((3, Zxid::from_raw(3)))));
    }

    #[test]
    fn the_brake_slows_down_and_lets_the_largest_transaction_pass() {
        let mut keeper = Keeper::new(Policy::default(), &Found::default(), None, false);
        assert_eq!(keeper.room(2 * LIVE_BYTES_MAX, 5), (None, None), "nothing is being written");
        keeper.froze();
        assert_eq!(keeper.room(LIVE_BYTES_MAX / 2, 5), (None, None));
        let live = LIVE_BYTES_MAX / 4 * 3;
        assert_eq!(keeper.room(live, 1_000_000_000), (Some(0), Some(Braking::Begins)));
        let (room, _) = keeper.room(live, 1_001_000_000);
        let rate = rate_bytes(live).unwrap();
        assert_eq!(room, Some(rate / 1000));
        keeper.spent(rate / 1000);
        assert_eq!(keeper.room(live, 1_001_000_000).0, Some(0));
        assert_eq!(keeper.room(live, 9_000_000_000).0, Some(BRAKE_BYTES_MAX as usize), "a giant passes after a while");
        assert_eq!(keeper.room(0, 9_000_000_001), (None, Some(Braking::Ends)));
    }
}
