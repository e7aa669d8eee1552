//! The sessions that the replica knows, where their connections are, and when they end.
//!
//! Guarantees: a session is handed out for expiry only after every worker has listened past its deadline and nothing
//! was heard, so a worker that is late, or a process that was paused, delays expiry and never causes it; a session that
//! is closing never opens again; an id that is handed out belongs to nobody. A session that is recovered from the log
//! is created like a new one and starts with its full timeout.
//!
//! Refuses to know: clocks, sockets, transactions. Times are milliseconds of one monotonic clock, which every caller
//! reads.
//!
//! Time is divided into ticks. Hearing at `t` from a session with timeout `T` puts it into the bucket
//!
//! ```text
//! E = (floor((t + T) / tick) + 1) × tick
//! ```
//!
//! as the reference does: a session ends more than `T` and at most `T + tick` after it was last heard. All arithmetic
//! saturates; a deadline beyond the clock's range is never reached.

use std::collections::{BTreeMap, BTreeSet};

use zorilla_proto::ids::SessionId;

use crate::watch::ConnId;

/// Where the connection of a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// Which worker holds it.
    pub worker: u16,
    /// Its number there.
    pub conn: ConnId,
}

/// How far a session's life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionState {
    /// It may ask, resume and expire.
    Open,
    /// Its closeSession transaction is on the way: nothing of it that comes later is accepted.
    Closing,
}

/// What is known of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// As negotiated last, or as recorded.
    pub timeout_ms: u32,
    /// How far its life has come.
    pub state: SessionState,
    /// Number of its newest attachment to a connection. What speaks for an older one is not listened to.
    pub attachment: u32,
    /// Where that connection is; `None` while there is none.
    pub home: Option<Home>,
}

#[derive(Debug)]
struct Tracked {
    session: Session,
    /// The bucket that an open session is in.
    bucket_ms: u64,
}

/// The table of sessions.
///
/// Invariant: `buckets` holds `(bucket_ms, id)` of exactly the open sessions in `table`.
///
/// Both are ordered trees: no insertion ever moves more than one of their nodes, and no order depends on hashing.
#[derive(Debug)]
pub struct Sessions {
    tick_ms: u64,
    id_next: i64,
    table: BTreeMap<SessionId, Tracked>,
    buckets: BTreeSet<(u64, SessionId)>,
}

/// The part of an id that counts; the highest byte names the server.
const ID_COUNTER_MASK: i64 = (1 << 56) - 1;

impl Sessions {
    /// An empty table whose buckets are `tick_ms` wide (at least 1) and whose ids count up from `first_id`, which
    /// carries the server's number in its highest byte.
    ///
    /// 0xff there would make every owner of an ephemeral znode look like a TTL; such a server counts under 0, which no
    /// other server may have.
    pub fn new(tick_ms: u64, first_id: i64) -> Sessions {
        assert!(0 < tick_ms, "a tick of {tick_ms} ms");
        let id_next = if (first_id as u64) >> 56 == 0xff { first_id & ID_COUNTER_MASK } else { first_id };
        Sessions { tick_ms, id_next, table: BTreeMap::new(), buckets: BTreeSet::new() }
    }

    /// An id for a new session: not known here, not 0, not the lowest negative number, and without 0xff in its highest
    /// byte.
    ///
    /// The highest byte never changes, so two servers with different numbers never hand out the same id, however long
    /// they run.
    pub fn next_id(&mut self) -> SessionId {
        loop {
            let id = SessionId::from_raw(self.id_next);
            let server = self.id_next & !ID_COUNTER_MASK;
            self.id_next = server | (self.id_next.wrapping_add(1) & ID_COUNTER_MASK);
            let reserved = id == SessionId::NONE || id.raw() == i64::MIN;
            if !reserved && !self.table.contains_key(&id) {
                return id;
            }
        }
    }

    /// Begins a session with a full timeout from `now_ms`, attached to `home` if it has a connection.
    ///
    /// A history made elsewhere may create the same session twice: the second time gives it the new timeout, in full,
    /// and the new home, if there is one; a session that is closing goes on closing.
    pub fn create(&mut self, id: SessionId, timeout_ms: u32, now_ms: u64, home: Option<Home>) {
        let bucket_ms = self.bucket(now_ms, timeout_ms);
        match self.table.get_mut(&id) {
            None => {
                let session = Session { timeout_ms, state: SessionState::Open, attachment: 1, home };
                self.table.insert(id, Tracked { session, bucket_ms });
                self.buckets.insert((bucket_ms, id));
            }
            Some(tracked) => {
                tracked.session.timeout_ms = timeout_ms;
                if home.is_some() {
                    tracked.session.home = home;
                    tracked.session.attachment = attachment_after(tracked.session.attachment);
                }
                if tracked.session.state == SessionState::Open {
                    move_to(&mut self.buckets, id, tracked, bucket_ms);
                }
            }
        }
    }

    /// What is known of a session.
    pub fn get(&self, id: SessionId) -> Option<Session> {
        self.table.get(&id).map(|tracked| tracked.session)
    }

    /// Resumes a session on a new connection, with the timeout negotiated there, in full from `now_ms`.
    ///
    /// Returns where it was attached before, and the number of the new attachment. `None`: it is unknown or closing,
    /// and the client is to be told that it is not valid.
    pub fn attach(&mut self, id: SessionId, home: Home, timeout_ms: u32, now_ms: u64) -> Option<(Option<Home>, u32)> {
        let bucket_ms = self.bucket(now_ms, timeout_ms);
        let tracked = self.table.get_mut(&id).filter(|tracked| tracked.session.state == SessionState::Open)?;
        let former = tracked.session.home.replace(home);
        let attachment = attachment_after(tracked.session.attachment);
        tracked.session.attachment = attachment;
        tracked.session.timeout_ms = timeout_ms;
        // Into an earlier bucket, too: from here on the timeout negotiated on this connection counts, and the client,
        // which was heard right now, has all of it.
        move_to(&mut self.buckets, id, tracked, bucket_ms);
        Some((former, attachment))
    }

    /// The connection of this attachment is gone. The session lives on; it forgets the connection unless it has a newer
    /// one.
    pub fn detach(&mut self, id: SessionId, attachment: u32) {
        if let Some(tracked) = self.table.get_mut(&id)
            && tracked.session.attachment == attachment
        {
            tracked.session.home = None;
        }
    }

    /// Something was heard from the session at `heard_at_ms`. Never shortens what it has; unknown and closing sessions
    /// stay as they are.
    pub fn touch(&mut self, id: SessionId, heard_at_ms: u64) {
        let tick_ms = self.tick_ms;
        if let Some(tracked) = self.table.get_mut(&id)
            && tracked.session.state == SessionState::Open
        {
            let bucket_ms = bucket(tick_ms, heard_at_ms, tracked.session.timeout_ms);
            if tracked.bucket_ms < bucket_ms {
                move_to(&mut self.buckets, id, tracked, bucket_ms);
            }
        }
    }

    /// Marks a session as closing: it no longer expires and cannot be resumed. `false`: it is unknown or closing
    /// already.
    pub fn close(&mut self, id: SessionId) -> bool {
        match self.table.get_mut(&id) {
            Some(tracked) if tracked.session.state == SessionState::Open => {
                tracked.session.state = SessionState::Closing;
                self.buckets.remove(&(tracked.bucket_ms, id));
                true
            }
            _ => false,
        }
    }

    /// Forgets a session, whatever its state: its closeSession transaction has been applied.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let tracked = self.table.remove(&id)?;
        if tracked.session.state == SessionState::Open {
            self.buckets.remove(&(tracked.bucket_ms, id));
        }
        Some(tracked.session)
    }

    /// Marks the sessions as closing whose bucket is due, and appends them, bucket by bucket and each in the order of
    /// ids.
    ///
    /// Due is what lies behind `now_ms` *and* behind `heard_until_ms`: until then every worker has read what had
    /// arrived, and every session it heard of was touched here before. At most `max` are appended; a later call gives
    /// the rest, unless they are heard of before that.
    pub fn expire(&mut self, now_ms: u64, heard_until_ms: u64, max: usize, expired: &mut Vec<SessionId>) {
        let judged_until_ms = now_ms.min(heard_until_ms);
        for _ in 0..max {
            let Some(&(bucket_ms, id)) = self.buckets.first() else { break };
            // The last bucket stands for every deadline beyond the range of the clock.
            if judged_until_ms < bucket_ms || bucket_ms == u64::MAX {
                break;
            }
            let closed = self.close(id);
            assert!(closed, "session {id} was in the bucket of {bucket_ms} ms and not open");
            expired.push(id);
        }
    }

    /// When the earliest bucket is due, if every worker has been heard by then.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.buckets.first().map(|(bucket_ms, _)| *bucket_ms)
    }

    /// Sessions known, closing ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All sessions in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, Session)> {
        self.table.iter().map(|(id, tracked)| (*id, tracked.session))
    }

    fn bucket(&self, heard_at_ms: u64, timeout_ms: u32) -> u64 {
        bucket(self.tick_ms, heard_at_ms, timeout_ms)
    }
}

/// The bucket of the module's formula.
fn bucket(tick_ms: u64, heard_at_ms: u64, timeout_ms: u32) -> u64 {
    let ticks = heard_at_ms.saturating_add(u64::from(timeout_ms)) / tick_ms;
    ticks.saturating_add(1).saturating_mul(tick_ms)
}

fn move_to(buckets: &mut BTreeSet<(u64, SessionId)>, id: SessionId, tracked: &mut Tracked, bucket_ms: u64) {
    if bucket_ms != tracked.bucket_ms {
        buckets.remove(&(tracked.bucket_ms, id));
        buckets.insert((bucket_ms, id));
        tracked.bucket_ms = bucket_ms;
    }
}

/// Numbers are only compared for equality, and none is reused while anything of its time can be under way. 0 is
/// nobody's.
fn attachment_after(attachment: u32) -> u32 {
    attachment.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TICK_MS: u64 = 500;

    fn id(raw: i64) -> SessionId {
        SessionId::from_raw(raw)
    }

    fn home(conn: u32) -> Home {
        Home { worker: (conn % 2) as u16, conn: ConnId(conn) }
    }

    fn expired(sessions: &mut Sessions, now_ms: u64, heard_until_ms: u64, max: usize) -> Vec<SessionId> {
        let mut expired = Vec::new();
        sessions.expire(now_ms, heard_until_ms, max, &mut expired);
        expired
    }

    impl Sessions {
        fn check(&self) {
            let open: BTreeSet<_> = self
                .table
                .iter()
                .filter(|(_, tracked)| tracked.session.state == SessionState::Open)
                .map(|(id, tracked)| (tracked.bucket_ms, *id))
                .collect();
            assert_eq!(open, self.buckets);
        }
    }

    #[test]
    fn expiry_is_rounded_up_to_the_next_tick() {
        for (timeout_ms, heard_ms, due_ms) in
            [(1000, 0, 1500), (1000, 499, 1500), (1000, 500, 2000), (1200, 0, 1500), (2000, 0, 2500), (0, 0, 500)]
        {
            let mut sessions = Sessions::new(TICK_MS, 1);
            sessions.create(id(1), timeout_ms, heard_ms, None);
            assert_eq!(sessions.next_expiry_ms(), Some(due_ms));
            assert_eq!(expired(&mut sessions, due_ms - 1, due_ms - 1, 9), []);
            assert_eq!(expired(&mut sessions, due_ms, due_ms, 9), [id(1)], "{timeout_ms} ms from {heard_ms} ms");
            assert_eq!(sessions.get(id(1)).unwrap().state, SessionState::Closing);
            assert_eq!(sessions.next_expiry_ms(), None);
        }
    }

    #[test]
    fn a_late_worker_delays_expiry() {
        let mut sessions = Sessions::new(TICK_MS, 1);
        sessions.create(id(1), 1000, 0, None);
        assert_eq!(expired(&mut sessions, 1_000_000, 1499, 9), []);
        // Nor does a worker that is ahead of the clock hasten it.
        assert_eq!(expired(&mut sessions, 1499, 1_000_000, 9), []);
        assert_eq!(expired(&mut sessions, 1500, 1500, 9), [id(1)]);
    }

    #[test]
    fn a_pause_of_a_minute_followed_by_touches_expires_nobody() {
        let mut sessions = Sessions::new(TICK_MS, 1);
        for raw in 1..=100 {
            sessions.create(id(raw), 4000, 0, None);
        }
        // The process wakes up: the clock has moved, what had arrived was not read yet.
        assert_eq!(expired(&mut sessions, 60_000, 900, 1000), []);
        for raw in 1..=99 {
            sessions.touch(id(raw), 60_000);
        }
        assert_eq!(expired(&mut sessions, 60_010, 60_000, 1000), [id(100)], "only who stayed silent");
        assert_eq!(sessions.next_expiry_ms(), Some(64_500));
    }

    #[test]
    fn sessions_due_together_are_handed_out_in_order_and_in_portions() {
        let mut sessions = Sessions::new(TICK_MS, 1);
        for raw in [5, 3, -7, 4, 9] {
            sessions.create(id(raw), 1000, 0, None);
        }
        sessions.create(id(100), 100, 0, None);
        assert_eq!(expired(&mut sessions, 9000, 9000, 0), []);
        assert_eq!(expired(&mut sessions, 9000, 9000, 3), [id(100), id(-7), id(3)]);
        // Heard of before its turn: lives on.
        sessions.touch(id(4), 8000);
        assert_eq!(expired(&mut sessions, 9000, 9000, 9), [id(5), id(9)]);
        assert_eq!(sessions.len(), 6);
        assert_eq!(sessions.iter().map(|(id, _)| id.raw()).collect::<Vec<_>>(), [-7, 3, 4, 5, 9, 100]);
    }

    #[test]
    fn a_closing_session_cannot_be_resumed_touched_or_expired() {
        let mut sessions = Sessions::new(TICK_MS, 1);
        sessions.create(id(1), 1000, 0, Some(home(3)));
        assert!(sessions.close(id(1)));
        assert!(!sessions.close(id(1)));
        assert_eq!(sessions.attach(id(1), home(4), 1000, 10), None);
        sessions.touch(id(1), 10);
        assert_eq!(sessions.next_expiry_ms(), None);
        assert_eq!(expired(&mut sessions, u64::MAX, u64::MAX, 9), []);
        sessions.create(id(1), 2000, 0, None);
        assert_eq!(sessions.get(id(1)).unwrap().state, SessionState::Closing, "a repeated create revives nobody");
        let removed = sessions.remove(id(1)).unwrap();
        assert_eq!((removed.home, removed.state), (Some(home(3)), SessionState::Closing));
        assert_eq!(sessions.remove(id(1)), None);
        assert_eq!(sessions.attach(id(1), home(4), 1000, 10), None);
        assert!(!sessions.close(id(1)));
        assert!(sessions.is_empty());
    }

    #[test]
    fn resuming_names_the_former_home_and_only_the_newest_attachment_is_detached() {
        let mut sessions = Sessions::new(TICK_MS, 1);
        sessions.create(id(1), 1000, 0, None);
        assert_eq!(sessions.get(id(1)).unwrap().attachment, 1);
        assert_eq!(sessions.attach(id(1), home(3), 1000, 10), Some((None, 2)));
        assert_eq!(sessions.attach(id(1), home(4), 2000, 20), Some((Some(home(3)), 3)));
        sessions.detach(id(1), 2);
        let session = Session { timeout_ms: 2000, state: SessionState::Open, attachment: 3, home: Some(home(4)) };
        assert_eq!(sessions.get(id(1)), Some(session));
        sessions.detach(id(1), 3);
        assert_eq!(sessions.get(id(1)), Some(Session { home: None, ..session }));
        assert_eq!(sessions.attach(id(1), home(5), 2000, 30), Some((None, 4)));
    }

    #[test]
    fn the_timeout_negotiated_on_resuming_counts_from_then_on() {
        let mut sessions = Sessions::new(TICK_MS, 1);
        sessions.create(id(1), 40_000, 0, None);
        sessions.attach(id(1), home(1), 4000, 1000);
        assert_eq!(sessions.next_expiry_ms(), Some(5500));
        // Reported late by the worker of the former connection.
        sessions.touch(id(1), 900);
        assert_eq!(sessions.next_expiry_ms(), Some(5500));
        sessions.touch(id(1), 2000);
        assert_eq!(sessions.next_expiry_ms(), Some(6500));
    }

    #[test]
    fn ids_are_new_and_keep_clear_of_the_reserved_ones() {
        let raws = |first: i64, known: &[i64], count: usize| -> Vec<i64> {
            let mut sessions = Sessions::new(TICK_MS, first);
            known.iter().for_each(|raw| sessions.create(id(*raw), 1000, 0, None));
            (0..count).map(|_| sessions.next_id().raw()).collect()
        };
        assert_eq!(raws(0x0100_0000_0001_0000, &[], 2), [0x0100_0000_0001_0000, 0x0100_0000_0001_0001]);
        assert_eq!(raws(-1, &[], 2), [0x00ff_ffff_ffff_ffff, 1], "a TTL mark, then zero");
        assert_eq!(raws(i64::MIN, &[], 1), [i64::MIN + 1]);
        assert_eq!(raws(7, &[7, 8, 10], 3), [9, 11, 12]);
        // Every counter used: it goes round under the same server, not on into the next server's ids.
        assert_eq!(
            raws(0x01ff_ffff_ffff_ffff, &[0x0100_0000_0000_0000], 2),
            [0x01ff_ffff_ffff_ffff, 0x0100_0000_0000_0001]
        );
        assert_eq!(raws(0xfeff_ffff_ffff_ffff_u64 as i64, &[], 2), [0xfeff_ffff_ffff_ffff_u64 as i64, 0xfe00 << 48]);
    }

    #[test]
    fn absurd_times_and_timeouts_saturate() {
        for tick_ms in [1, 2000, u64::MAX] {
            let mut sessions = Sessions::new(tick_ms, 1);
            sessions.create(id(1), u32::MAX, u64::MAX, None);
            sessions.create(id(2), 0, u64::MAX - 1, None);
            sessions.touch(id(2), u64::MAX);
            assert_eq!(sessions.next_expiry_ms(), Some(u64::MAX), "tick of {tick_ms} ms");
            assert_eq!(expired(&mut sessions, u64::MAX, u64::MAX, 9), [], "tick of {tick_ms} ms");
        }
        // Ten years in, the longest timeout still ends when it should.
        let ten_years_ms = 10 * 366 * 86_400_000;
        let mut sessions = Sessions::new(2000, 1);
        sessions.create(id(1), u32::MAX, ten_years_ms, None);
        let due_ms = sessions.next_expiry_ms().unwrap();
        assert!(ten_years_ms + u64::from(u32::MAX) < due_ms);
        assert!(due_ms <= ten_years_ms + u64::from(u32::MAX) + 2000);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Create {
            raw: i64,
            timeout_ms: u32,
            home: Option<u32>,
        },
        Attach {
            raw: i64,
            timeout_ms: u32,
            conn: u32,
        },
        Detach {
            raw: i64,
            attachment: u32,
        },
        /// Reported some time after it was heard.
        Touch {
            raw: i64,
            ago_ms: u64,
        },
        Close {
            raw: i64,
        },
        Remove {
            raw: i64,
        },
        /// Some time passes; every worker has listened until some time ago.
        Expire {
            later_ms: u64,
            behind_ms: u64,
            max: usize,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let raw = || 1..8_i64;
        let timeout_ms = || prop_oneof![4 => 0..6000_u32, 1 => any::<u32>()];
        let step = prop_oneof![
            4 => (raw(), timeout_ms(), prop::option::of(0..9_u32))
                .prop_map(|(raw, timeout_ms, home)| Step::Create { raw, timeout_ms, home }),
            3 => (raw(), timeout_ms(), 0..9_u32)
                .prop_map(|(raw, timeout_ms, conn)| Step::Attach { raw, timeout_ms, conn }),
            1 => (raw(), 1..5_u32).prop_map(|(raw, attachment)| Step::Detach { raw, attachment }),
            6 => (raw(), 0..3000_u64).prop_map(|(raw, ago_ms)| Step::Touch { raw, ago_ms }),
            1 => raw().prop_map(|raw| Step::Close { raw }),
            2 => raw().prop_map(|raw| Step::Remove { raw }),
            6 => (
                prop_oneof![8 => 0..2000_u64, 1 => Just(60_000_u64), 1 => any::<u64>()],
                prop_oneof![3 => Just(0_u64), 2 => 0..5000_u64],
                prop_oneof![1 => 0..3_usize, 3 => Just(99_usize)],
            )
                .prop_map(|(later_ms, behind_ms, max)| Step::Expire { later_ms, behind_ms, max }),
        ];
        vec(step, 0..150)
    }

    /// One session of the naive model.
    #[derive(Clone, Copy)]
    struct Known {
        session: Session,
        due_ms: u128,
        /// When it was last heard of since its timeout changed, for the second opinion.
        heard_ms: u64,
    }

    /// The formula in numbers that cannot overflow.
    fn due_ms(tick_ms: u64, heard_ms: u64, timeout_ms: u32) -> u128 {
        let tick_ms = u128::from(tick_ms);
        ((u128::from(heard_ms) + u128::from(timeout_ms)) / tick_ms + 1) * tick_ms
    }

    proptest! {
        #[test]
        fn sessions_agree_with_a_plain_list(
            tick_ms in prop_oneof![Just(500_u64), 1..4000_u64],
            steps in steps(),
        ) {
            let mut sessions = Sessions::new(tick_ms, 1);
            let mut model: BTreeMap<i64, Known> = BTreeMap::new();
            let mut now_ms = 1000_u64;
            let mut judged_ms = 0;
            for step in steps {
                match step {
                    Step::Create { raw, timeout_ms, home: conn } => {
                        let home = conn.map(home);
                        sessions.create(id(raw), timeout_ms, now_ms, home);
                        let due_ms = due_ms(tick_ms, now_ms, timeout_ms);
                        let fresh = Session { timeout_ms, state: SessionState::Open, attachment: 0, home: None };
                        let known = model.entry(raw).or_insert(Known { session: fresh, due_ms, heard_ms: now_ms });
                        known.session.timeout_ms = timeout_ms;
                        (known.due_ms, known.heard_ms) = (due_ms, now_ms);
                        if home.is_some() || known.session.attachment == 0 {
                            known.session.home = home;
                            known.session.attachment += 1;
                        }
                    }
                    Step::Attach { raw, timeout_ms, conn } => {
                        let open = model.get_mut(&raw).filter(|known| known.session.state == SessionState::Open);
                        let expected = open.map(
                            |known| {
                                let former = known.session.home;
                                known.session.home = Some(home(conn));
                                known.session.attachment += 1;
                                known.session.timeout_ms = timeout_ms;
                                (known.due_ms, known.heard_ms) = (due_ms(tick_ms, now_ms, timeout_ms), now_ms);
                                (former, known.session.attachment)
                            },
                        );
                        prop_assert_eq!(sessions.attach(id(raw), home(conn), timeout_ms, now_ms), expected);
                    }
                    Step::Detach { raw, attachment } => {
                        sessions.detach(id(raw), attachment);
                        let newest = model.get_mut(&raw).filter(|known| known.session.attachment == attachment);
                        if let Some(known) = newest {
                            known.session.home = None;
                        }
                    }
                    Step::Touch { raw, ago_ms } => {
                        let heard_ms = now_ms.saturating_sub(ago_ms);
                        sessions.touch(id(raw), heard_ms);
                        if let Some(known) = model.get_mut(&raw) {
                            known.due_ms = due_ms(tick_ms, heard_ms, known.session.timeout_ms).max(known.due_ms);
                            known.heard_ms = heard_ms.max(known.heard_ms);
                        }
                    }
                    Step::Close { raw } => {
                        let known = model.get_mut(&raw).filter(|known| known.session.state == SessionState::Open);
                        let expected = known.is_some();
                        if let Some(known) = known {
                            known.session.state = SessionState::Closing;
                        }
                        prop_assert_eq!(sessions.close(id(raw)), expected);
                    }
                    Step::Remove { raw } => {
                        prop_assert_eq!(sessions.remove(id(raw)), model.remove(&raw).map(|known| known.session));
                    }
                    Step::Expire { later_ms, behind_ms, max } => {
                        now_ms = now_ms.saturating_add(later_ms);
                        let heard_until_ms = now_ms.saturating_sub(behind_ms);
                        judged_ms = heard_until_ms.max(judged_ms);
                        let mut due: Vec<_> = model
                            .iter()
                            .filter(|(_, known)| known.session.state == SessionState::Open)
                            // What the clock cannot reach never comes; the last bucket stands for all of it.
                            .filter(|(_, known)| {
                                known.due_ms <= u128::from(heard_until_ms) && known.due_ms < u128::from(u64::MAX)
                            })
                            .map(|(raw, known)| (known.due_ms, *raw))
                            .collect();
                        due.sort_unstable();
                        due.truncate(max);
                        let expected: Vec<_> = due.iter().map(|(_, raw)| id(*raw)).collect();
                        prop_assert_eq!(&expired(&mut sessions, now_ms, heard_until_ms, max), &expected);
                        for session in &expected {
                            let known = model.get_mut(&session.raw()).unwrap();
                            known.session.state = SessionState::Closing;
                            // A second opinion, without the formula: all workers listened through a whole timeout of
                            // silence.
                            let silent_until_ms = known.heard_ms.saturating_add(u64::from(known.session.timeout_ms));
                            prop_assert!(silent_until_ms < heard_until_ms, "{session} ended too early");
                        }
                        if 99 <= max {
                            for (raw, known) in &model {
                                let end_ms = known.heard_ms.saturating_add(u64::from(known.session.timeout_ms));
                                let ended = known.session.state == SessionState::Closing;
                                let overdue = end_ms.saturating_add(tick_ms) <= heard_until_ms.min(u64::MAX - 1);
                                prop_assert!(ended || !overdue, "{raw} lives on");
                            }
                        }
                    }
                }
                sessions.check();
                let all: Vec<_> = model.iter().map(|(raw, known)| (id(*raw), known.session)).collect();
                prop_assert_eq!(sessions.iter().collect::<Vec<_>>(), all);
                prop_assert_eq!(sessions.len(), model.len());
                let next = model.values().filter(|known| known.session.state == SessionState::Open);
                let next = next.map(|known| known.due_ms.min(u128::from(u64::MAX)) as u64).min();
                prop_assert_eq!(sessions.next_expiry_ms(), next);
                let fresh = sessions.next_id();
                prop_assert!(sessions.get(fresh).is_none() && fresh != SessionId::NONE);
            }
            for raw in 1..8 {
                sessions.remove(id(raw));
            }
            sessions.check();
            prop_assert!(sessions.is_empty() && sessions.buckets.is_empty());
        }

        #[test]
        fn a_worker_that_is_behind_only_ever_delays(
            timeouts_ms in vec(0..5000_u32, 1..20),
            looks in vec((1..1500_u64, 0..4000_u64), 1..40),
        ) {
            let mut prompt = Sessions::new(TICK_MS, 1);
            let mut late = Sessions::new(TICK_MS, 1);
            for (raw, timeout_ms) in timeouts_ms.iter().enumerate() {
                prompt.create(id(raw as i64 + 1), *timeout_ms, 0, None);
                late.create(id(raw as i64 + 1), *timeout_ms, 0, None);
            }
            let (mut now_ms, mut heard_until_ms) = (0, 0);
            let (mut by_prompt, mut by_late) = (Vec::new(), Vec::new());
            for (later_ms, behind_ms) in looks {
                now_ms += later_ms;
                heard_until_ms = now_ms.saturating_sub(behind_ms).max(heard_until_ms);
                prompt.expire(now_ms, now_ms, 99, &mut by_prompt);
                late.expire(now_ms, heard_until_ms, 99, &mut by_late);
                prop_assert!(by_late.iter().all(|id| by_prompt.contains(id)), "{by_late:?} against {by_prompt:?}");
            }
            late.expire(now_ms, now_ms, 99, &mut by_late);
            prop_assert_eq!(by_late, by_prompt, "once the worker has caught up, the same have ended");
        }
    }
}
