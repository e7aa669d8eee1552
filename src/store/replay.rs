//! What a start makes of the log's transactions.
//!
//! Guarantees of [`Replay`]: the tree it makes is what the log says, transaction by transaction, each checked against the
//! digest recorded with it; sessions start with their full recorded timeout. It refuses rather than guesses.

use std::fmt;

use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::Reader;
use zorilla_proto::txn::{Txn, TxnDigest, TxnHeader};
use zorilla_snapshot::Meta;

use super::work::{Freeze, SessionChange};
use crate::clock::Now;
use crate::gate::{Digests, State};
use crate::prep::effects::effects;
use crate::session::Sessions;
use crate::tree::Tree;

/// A transaction in the log that cannot have been written by this server: its checksum holds, but its content does not fit.
#[derive(Debug)]
pub struct Misfit {
    /// Which.
    pub zxid: Zxid,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {} of the log does not fit the history before it: {}", self.zxid, self.what)
    }
}

/// A state that grows while the log is read.
pub struct Replay {
    tree: Tree,
    applied: Zxid,
    timeouts: Vec<(SessionId, u32)>,
    /// The highest id that was handed out under this server's number.
    session_last: i64,
    index: hashbrown::HashMap<SessionId, usize>,
    digests: Digests,
    txns: u64,
    bytes: u64,
    /// Sessions that began or ended in the transactions applied.
    changes: Vec<SessionChange>,
}

/// What was replayed on top of a state on the disk, to be written the next time.
#[derive(Debug, Default)]
pub struct Tail {
    /// Transactions.
    pub txns: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// Sessions that began or ended in them.
    pub sessions: Vec<SessionChange>,
}

impl Replay {
    /// The state before the first transaction.
    pub fn new(seed: u64) -> Replay {
        Replay {
            tree: Tree::new(seed),
            applied: Zxid::ZERO,
            timeouts: Vec::new(),
            session_last: 0,
            digests: Digests::default(),
            index: hashbrown::HashMap::new(),
            txns: 0,
            bytes: 0,
            changes: Vec::new(),
        }
    }

    /// A state on the disk: `tree` over runs the newest of which has this meta section.
    pub fn resume(tree: Tree, meta: &Meta) -> Replay {
        let mut replay = Replay { tree, applied: meta.zxid, session_last: meta.session_last, ..Replay::new(0) };
        for (at, (session, timeout_ms)) in meta.sessions.iter().enumerate() {
            replay.timeouts.push((*session, *timeout_ms));
            replay.index.insert(*session, at);
        }
        for (zxid, digest) in &meta.digests {
            replay.digests.note(*zxid, *digest);
        }
        replay
    }

    /// The last transaction that the state holds.
    pub fn applied(&self) -> Zxid {
        self.applied
    }

    /// The tree so far.
    pub fn tree(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// Applies the next transaction of the log.
    pub fn apply(&mut self, zxid: Zxid, bytes: &[u8]) -> Result<(), Misfit> {
        let misfit = |what: String| Misfit { zxid, what };
        let mut reader = Reader::new(bytes);
        let header = TxnHeader::decode(&mut reader).map_err(|error| misfit(error.to_string()))?;
        if header.zxid != zxid {
            return Err(misfit(format!("its header says {}", header.zxid)));
        }
        if self.applied.successor() != Some(zxid) {
            return Err(misfit(format!("it follows {}", self.applied)));
        }
        let txn = Txn::decode(&header, &mut reader).map_err(|error| misfit(error.to_string()))?;
        effects(&header, &txn, &mut self.tree).map_err(|unfit| misfit(unfit.to_string()))?;
        match txn {
            Txn::CreateSession { timeout_ms } => {
                let at = self.timeouts.len();
                if header.session.raw() >> 56 == SERVER_ID {
                    self.session_last = self.session_last.max(header.session.raw());
                }
                let timeout_ms = timeout_ms.max(0) as u32;
                self.timeouts.push((header.session, timeout_ms));
                self.changes.push(SessionChange::Opened(header.session, timeout_ms));
                if self.index.insert(header.session, at).is_some() {
                    return Err(misfit(format!("it opens session {}, which is open", header.session)));
                }
            }
            Txn::CloseSession { .. } => {
                let Some(at) = self.index.remove(&header.session) else {
                    return Err(misfit(format!("it closes session {}, which is not open", header.session)));
                };
                self.timeouts.swap_remove(at);
                self.changes.push(SessionChange::Closed(header.session));
                if let Some((moved, _)) = self.timeouts.get(at) {
                    self.index.insert(*moved, at);
                }
            }
            _ => {}
        }
        if let Some(recorded) = TxnDigest::decode_optional(&mut reader)
            && recorded.tree != self.tree.digest()
        {
            let found = self.tree.digest();
            return Err(misfit(format!("the tree after it has digest {found}, recorded is {}", recorded.tree)));
        }
        self.digests.note(zxid, self.tree.digest());
        self.applied = zxid;
        self.txns += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Freezes what was applied so far, to be written to the disk.
    pub fn freeze(&mut self, written_ms: i64) -> Freeze {
        let mut meta = self.tree.meta();
        meta.zxid = self.applied;
        meta.written_ms = written_ms;
        meta.digests = self.digests.iter().collect();
        Freeze { overlay: self.tree.freeze(), meta, sessions: std::mem::take(&mut self.changes) }
    }

    /// What was applied on top of the state on the disk; said once.
    pub fn take_tail(&mut self) -> Tail {
        Tail { txns: self.txns, bytes: self.bytes, sessions: std::mem::take(&mut self.changes) }
    }

    /// The highest session id that was handed out under this server's number.
    pub fn session_last(&self) -> i64 {
        self.session_last
    }

    /// The open sessions and their timeouts, by number.
    pub fn sessions(&self) -> Vec<(i64, u32)> {
        let mut sessions: Vec<_> = self.timeouts.iter().map(|(id, timeout_ms)| (id.raw(), *timeout_ms)).collect();
        sessions.sort_unstable();
        sessions
    }

    /// How many transactions were applied.
    pub fn txns(&self) -> u64 {
        self.txns
    }

    /// The tree, and the open sessions with their timeouts, ms, by id.
    pub fn into_tree(self) -> (Tree, Vec<(SessionId, u32)>) {
        let mut sessions = self.timeouts;
        sessions.sort_unstable_by_key(|(id, _)| id.raw());
        (self.tree, sessions)
    }

    /// The state, and its sessions at the start of their timeouts.
    pub fn finish(self, tick_ms: u64, now: Now) -> (State, Sessions) {
        // Not below what the log has seen, or a clock that was set back would hand out the id, and with it the password, of
        // a session that some client once had.
        let first_id = first_session_id(now.wall_ms).max(self.session_last + 1);
        let mut sessions = Sessions::new(tick_ms, first_id);
        for (id, timeout_ms) in &self.timeouts {
            sessions.create(*id, *timeout_ms, now.mono_ms(), None);
        }
        let Replay { tree, applied, timeouts, digests, .. } = self;
        (State { tree, applied, sessions: timeouts.len(), digests }, sessions)
    }
}

/// The number of a server that is alone, in the highest byte of its session ids.
pub const SERVER_ID: i64 = 1;

/// The first session id of a server that starts now: its number (1, alone) in the high byte, then 40 bits of time, as the
/// reference makes them. The wall clock and not the monotonic one, so that a machine that was restarted does not hand out the
/// ids of sessions that are still in the log or in a client's hands.
fn first_session_id(wall_ms: i64) -> i64 {
    ((((wall_ms as u64) << 24) >> 8) as i64) | SERVER_ID << 56
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use zorilla_proto::client::{AclVec, StringVec};
    use zorilla_proto::op::Op;

    use super::*;

    /// One transaction as it stands in the log; `digest`: the recorded one.
    fn bytes(zxid: u64, session: i64, txn: &Txn<'_>, digest: Option<u64>) -> Vec<u8> {
        let session = SessionId::from_raw(session);
        let header = TxnHeader { session, cxid: 1, zxid: Zxid::from_raw(zxid), time_ms: 9, op: txn.op().raw() };
        let mut out = Vec::new();
        header.encode(&mut out);
        txn.encode(&mut out);
        if let Some(tree) = digest {
            TxnDigest::new(tree).encode(&mut out);
        }
        out
    }

    fn create(path: &str, cversion: i32, ephemeral: bool) -> Txn<'_> {
        let (path, acl) = (Cow::Borrowed(path), Some(AclVec::OPEN));
        Txn::Create { path, data: None, acl, ephemeral, parent_cversion: cversion, kind: Op::Create }
    }

    fn apply(replay: &mut Replay, zxid: u64, session: i64, txn: &Txn<'_>) -> Result<(), Misfit> {
        replay.apply(Zxid::from_raw(zxid), &bytes(zxid, session, txn, None))
    }

    /// Session 5 is open, and owns /e; /a is there.
    fn begun() -> Replay {
        let mut replay = Replay::new(1);
        apply(&mut replay, 1, 5, &Txn::CreateSession { timeout_ms: 4000 }).unwrap();
        apply(&mut replay, 2, 5, &create("/a", 1, false)).unwrap();
        apply(&mut replay, 3, 5, &create("/e", 2, true)).unwrap();
        replay
    }

    #[test]
    fn a_transaction_that_does_not_fit_is_refused() {
        let mut raw = Vec::new();
        let missing = StringVec::build(&mut raw, ["/missing"]);
        let delete = |path: &'static str| Txn::Delete { path: Cow::Borrowed(path) };
        let set = Txn::SetData { path: Cow::Borrowed("/missing"), data: None, version: 1 };
        let misfits: [(u64, i64, Txn<'_>, &str); 11] = [
            (5, 5, create("/b", 3, false), "follows 0x3"),
            (3, 5, create("/b", 3, false), "follows 0x3"),
            (4, 5, create("/a", 3, false), "it exists"),
            (4, 5, create("/b/c", 1, false), "parent is missing"),
            (4, 5, delete("/b"), "it is missing"),
            (4, 5, delete("/zookeeper"), "it has children"),
            (4, 5, set, "it is missing"),
            (4, 5, Txn::CreateSession { timeout_ms: 1 }, "which is open"),
            (4, 6, Txn::CloseSession { paths: None }, "which is not open"),
            (4, 5, Txn::CloseSession { paths: Some(missing) }, "it is missing"),
            (4, 5, Txn::Check { path: Cow::Borrowed("/a"), version: 0 }, "may not stand here"),
        ];
        for (zxid, session, txn, words) in misfits {
            let misfit = apply(&mut begun(), zxid, session, &txn).expect_err("it does not fit");
            assert_eq!(misfit.zxid.raw(), zxid);
            assert!(misfit.to_string().contains(words), "{words:?} is not in {misfit}");
        }
    }

    #[test]
    fn bytes_that_say_something_else_are_refused() {
        let good = bytes(4, 5, &create("/b", 3, false), None);
        // Without its last field it would be a create of ZooKeeper 3.3.
        for cut in 0..good.len() - 4 {
            assert!(begun().apply(Zxid::from_raw(4), &good[..cut]).is_err(), "{cut} of {} bytes", good.len());
        }
        let elsewhere = begun().apply(Zxid::from_raw(4), &bytes(9, 5, &create("/b", 3, false), None)).unwrap_err();
        assert!(elsewhere.to_string().contains("its header says 0x9"), "{elsewhere}");
        let mut replay = begun();
        replay.apply(Zxid::from_raw(4), &good).unwrap();
        let digest = replay.tree.digest();
        begun().apply(Zxid::from_raw(4), &bytes(4, 5, &create("/b", 3, false), Some(digest))).unwrap();
        let other = begun().apply(Zxid::from_raw(4), &bytes(4, 5, &create("/b", 3, false), Some(digest ^ 1)));
        assert!(other.unwrap_err().to_string().contains("digest"));
    }

    #[test]
    fn no_session_id_is_handed_out_twice_when_the_clock_was_set_back() {
        let now = Now { mono_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        let (_, mut sessions) = Replay::new(1).finish(1000, now);
        let (first, second) = (sessions.next_id(), sessions.next_id());
        for back_ms in [0, 1, 3_600_000] {
            let mut replay = Replay::new(1);
            for (zxid, session) in [(1, first), (2, second)] {
                let session = session.raw();
                apply(&mut replay, 2 * zxid - 1, session, &Txn::CreateSession { timeout_ms: 4000 }).unwrap();
                apply(&mut replay, 2 * zxid, session, &Txn::CloseSession { paths: None }).unwrap();
            }
            let (_, mut sessions) = replay.finish(1000, Now { wall_ms: now.wall_ms - back_ms, ..now });
            assert!(second < sessions.next_id(), "the clock was set back by {back_ms} ms");
        }
    }

    #[test]
    fn sessions_start_a_full_timeout_and_closed_ones_are_gone() {
        let mut replay = begun();
        for (zxid, session, timeout_ms) in [(4, 6, 7000), (5, 7, 8000)] {
            apply(&mut replay, zxid, session, &Txn::CreateSession { timeout_ms }).unwrap();
        }
        let mut raw = Vec::new();
        let paths = Some(StringVec::build(&mut raw, ["/e"]));
        apply(&mut replay, 6, 5, &Txn::CloseSession { paths }).unwrap();
        apply(&mut replay, 7, 6, &Txn::Error { code: -101 }).unwrap();
        apply(&mut replay, 8, 6, &Txn::CloseSession { paths: None }).unwrap();
        assert_eq!(replay.txns(), 8);
        let now = Now { mono_ns: 50_000_000_000, wall_ms: 1_700_000_000_000 };
        let (state, mut sessions) = replay.finish(1000, now);
        assert_eq!((state.applied.raw(), state.sessions, state.tree.ephemerals_count()), (8, 1, 0));
        assert!(state.tree.find("/e").is_none() && state.tree.find("/a").is_some());
        let open: Vec<_> = sessions.iter().map(|(id, session)| (id.raw(), session.timeout_ms, session.home)).collect();
        assert_eq!(open, [(7, 8000, None)]);
        assert_eq!(sessions.next_expiry_ms(), Some(59_000));
        assert_eq!(sessions.next_id().raw() >> 56, 1, "the server's number is in the high byte");
    }
}
