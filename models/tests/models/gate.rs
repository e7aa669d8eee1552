//! The gate with `src/worker/mailbox.rs` and `src/watch.rs` below it, as `src/replica` and `src/worker` hold it:
//! whoever reads the state has been told of every change that the state has, and no watch misses the change that
//! follows its read.
//!
//! The gate is `loom`'s lock in place of the sharded one, which gives the same order between a writer and each reader.

use std::sync::Arc;

use loom::sync::RwLock;
use loom::thread;
use zorilla_models::mailbox::{Item, Mailbox, Piece};
use zorilla_models::mutants;
use zorilla_models::sync::clamp_queues;
use zorilla_models::wake::{Bell, Sleeper};
use zorilla_models::watch::{Added, Change, ConnId, Fired, Interest, WatchKind, WatchTable};
use zorilla_proto::ids::Zxid;

use crate::subject::EventFd;
use crate::{explore, explore_bounded};

const PREEMPTIONS: usize = 4;

const PATH: &str = "/a";
const CONN: ConnId = ConnId(1);
const DATA: WatchKind = WatchKind::Data;

/// What is done outside the gate.
#[derive(Clone, Copy, PartialEq)]
enum Driver {
    Sound,
    /// The fault: the replica delivers after it has let go.
    PushesOutside,
    /// The fault: the worker drains before it enters.
    DrainsOutside,
    /// The fault: the worker counts its watch after it has let go.
    RaisesOutside,
}

/// One znode, whose version is the number of its changes.
struct State {
    applied: Zxid,
    version: u64,
}

struct Ring(EventFd);

impl Bell for Ring {
    fn ring(&self) {
        self.0.ring();
    }
}

/// The replica's part: one hold of the gate for each slice. A `read` of the worker's connection that travelled with
/// the first transaction leaves a watch between it and the next.
fn replica(gate: &RwLock<State>, mailbox: &Mailbox, slices: &[u64], read: bool, driver: Driver) {
    for txns in slices {
        assert!(mailbox.has_room(), "the models of room are elsewhere");
        let mut state = gate.write().unwrap();
        let mut draft = None;
        for _ in 0..*txns {
            let zxid = state.applied.successor().unwrap();
            if mailbox.interest.may_watch(Change::DataChanged, PATH) {
                let draft = draft.get_or_insert_with(|| mailbox.blank());
                let path = Piece::push(&mut draft.bytes, PATH.as_bytes());
                let change = Change::DataChanged;
                draft.items.push(Item::Changed { change, path, zxid, node_acl: None, parent_acl: None });
            }
            state.version += 1;
            state.applied = zxid;
            if read && state.version == 1 {
                mailbox.interest.raise(DATA, PATH);
                let draft = draft.get_or_insert_with(|| mailbox.blank());
                let path = Piece::push(&mut draft.bytes, PATH.as_bytes());
                draft.items.push(Item::Watch { conn: CONN, kind: DATA, path, zxid });
            }
        }
        let Some(mut delivery) = draft else { continue };
        delivery.applied = state.applied;
        if driver == Driver::PushesOutside {
            drop(state);
            mailbox.push(delivery);
        } else {
            mailbox.push(delivery);
            drop(state);
        }
        mailbox.sleeper.wake();
    }
}

struct Worker {
    mailbox: Arc<Mailbox>,
    bell: EventFd,
    watches: WatchTable,
    delivered: Zxid,
    fired: Vec<Fired>,
}

impl Worker {
    /// As `Core::drain` and `Core::item`.
    fn drain(&mut self) {
        while let Some(delivery) = self.mailbox.pop() {
            for item in &delivery.items {
                match *item {
                    Item::Changed { change, path, zxid, .. } => {
                        let path = std::str::from_utf8(path.of(&delivery.bytes)).unwrap();
                        let consumed = self.watches.fire(change, path, zxid, &mut self.fired);
                        self.mailbox.interest.lower_consumed(path, consumed);
                    }
                    Item::Watch { conn, kind, path, zxid } => {
                        let path = std::str::from_utf8(path.of(&delivery.bytes)).unwrap();
                        if self.watches.add(kind, path, conn, zxid) != Added::New {
                            self.mailbox.interest.lower(kind, path);
                        }
                    }
                    other => panic!("{other:?} was never delivered"),
                }
            }
            self.delivered = delivery.applied;
            self.mailbox.give_back(delivery);
        }
    }

    /// Reads the version and leaves a watch, as `Core::enter` and `AtOnce::watch`.
    fn read(&mut self, gate: &RwLock<State>, driver: Driver) -> u64 {
        if driver == Driver::DrainsOutside {
            self.drain();
        }
        let state = gate.read().unwrap();
        if driver != Driver::DrainsOutside {
            self.drain();
        }
        let pushed = self.mailbox.pushed();
        assert!(self.delivered == pushed, "read at {pushed} with only {} delivered", self.delivered);
        assert!(pushed <= state.applied, "delivered {pushed} ahead of {}", state.applied);
        let version = state.version;
        let is_new = self.watches.add(DATA, PATH, CONN, state.applied) == Added::New;
        if driver == Driver::RaisesOutside {
            drop(state);
            if is_new {
                self.mailbox.interest.raise(DATA, PATH);
            }
        } else if is_new {
            self.mailbox.interest.raise(DATA, PATH);
        }
        version
    }
}

/// The worker follows the znode as a client does: it reads, leaves a watch, and reads again when it is told of a
/// change.
fn every_change_is_told(slices: &'static [u64], read: bool, driver: Driver) {
    clamp_queues(2);
    let bell = EventFd::new();
    let mailbox = Mailbox::new(Sleeper::new(Arc::new(Ring(bell.clone()))), Zxid::ZERO, 0);
    let gate = Arc::new(RwLock::new(State { applied: Zxid::ZERO, version: 0 }));
    let thread = {
        let (gate, mailbox) = (gate.clone(), mailbox.clone());
        thread::spawn(move || replica(&gate, &mailbox, slices, read, driver))
    };
    let watches = WatchTable::new(0);
    let mut worker = Worker { mailbox, bell, watches, delivered: Zxid::ZERO, fired: Vec::new() };
    while worker.read(&gate, driver) < slices.iter().sum() {
        while worker.fired.is_empty() {
            let sleep = worker.mailbox.sleeper.fall_asleep(|| worker.mailbox.is_empty());
            worker.bell.wait(sleep);
            worker.mailbox.sleeper.awake();
            worker.drain();
        }
        worker.fired.clear();
    }
    thread.join().unwrap();
    worker.drain();
    assert_eq!(worker.mailbox.interest.total() as usize, worker.watches.len(), "interest counts the watches there are");
    assert!(worker.mailbox.interest.may_watch(Change::DataChanged, PATH), "the last watch is still counted");
}

/// A worker takes a watch back while the replica counts another one of the same path. (`lower` needs no gate.)
fn counts_add_up<I: Send + Sync + 'static>(new: fn(u64) -> I, raise: fn(&I), lower: fn(&I), may_watch: fn(&I) -> bool) {
    let interest = Arc::new(new(0));
    raise(&interest);
    let thread = {
        let interest = interest.clone();
        thread::spawn(move || raise(&interest))
    };
    lower(&interest);
    thread.join().unwrap();
    assert!(may_watch(&interest), "a watch is counted");
    lower(&interest);
    assert!(!may_watch(&interest), "no watch is left");
}

#[test]
fn every_watch_hears_of_the_next_change() {
    explore_bounded(PREEMPTIONS, || every_change_is_told(&[1, 1], false, Driver::Sound));
}

#[test]
fn a_watch_left_by_the_replica_hears_of_the_next_change() {
    explore(|| every_change_is_told(&[2], true, Driver::Sound));
}

#[test]
fn watches_left_by_both_are_counted_while_changes_use_them_up() {
    explore_bounded(PREEMPTIONS, || every_change_is_told(&[2, 1], true, Driver::Sound));
}

#[test]
fn worker_and_replica_count_in_one_place() {
    explore(|| {
        let may_watch = |interest: &Interest| interest.may_watch(Change::DataChanged, PATH);
        counts_add_up(
            Interest::new,
            |interest| interest.raise(DATA, PATH),
            |interest| interest.lower(DATA, PATH),
            may_watch,
        );
    });
}

#[test]
fn they_count_subtrees_in_one_place_too() {
    explore(|| {
        let may_watch = |interest: &Interest| interest.may_watch(Change::DataChanged, PATH);
        counts_add_up(
            Interest::new,
            |interest| interest.raise(WatchKind::Recursive, "/"),
            |interest| interest.lower(WatchKind::Recursive, "/"),
            may_watch,
        );
    });
}

#[test]
#[should_panic(expected = "a watch is counted")]
fn fault_raise_in_two_steps() {
    use mutants::raise_in_two_steps::watch::{Change, Interest, WatchKind};
    explore(|| {
        let may_watch = |interest: &Interest| interest.may_watch(Change::DataChanged, PATH);
        let raise = |interest: &Interest| interest.raise(WatchKind::Data, PATH);
        let lower = |interest: &Interest| interest.lower(WatchKind::Data, PATH);
        counts_add_up(Interest::new, raise, lower, may_watch);
    });
}

#[test]
#[should_panic(expected = "delivered")]
fn fault_push_outside_the_gate() {
    explore_bounded(PREEMPTIONS, || every_change_is_told(&[1, 1], false, Driver::PushesOutside));
}

#[test]
#[should_panic(expected = "delivered")]
fn fault_drain_outside_the_gate() {
    explore_bounded(PREEMPTIONS, || every_change_is_told(&[1, 1], false, Driver::DrainsOutside));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_raise_outside_the_gate() {
    explore_bounded(PREEMPTIONS, || every_change_is_told(&[1, 1], false, Driver::RaisesOutside));
}
