//! `Mailbox` of `src/worker/mailbox.rs`, and what `src/replica` and `src/server.rs` do with it: a replica that found no
//! room goes on once the worker has made some.
//!
//! The replica's look before it sleeps covers posts and not room, so the worker rings instead of waking.

use loom::thread;
use zorilla_models::sync::clamp_queues;

use crate::explore_bounded;
use crate::subject::*;

const PREEMPTIONS: usize = 4;

/// How the worker tells the replica of room.
#[derive(Clone, Copy, PartialEq)]
enum Driver {
    Rings,
    /// The fault: the replica may have found no room and not have announced its sleep.
    Wakes,
}

/// The replica pushes `slices` of so many bytes; the worker takes them as they come.
fn slices_flow<S: Subject>(capacity: usize, slices: u64, bytes: usize, driver: Driver) {
    clamp_queues(capacity);
    let (worker_bell, replica_bell) = (EventFd::new(), EventFd::new());
    let (worker, replica) = (S::sleeper(&worker_bell), S::sleeper(&replica_bell));
    let mailbox = S::mailbox(&worker);

    let thread = {
        let (worker, replica, mailbox) = (worker.clone(), replica.clone(), mailbox.clone());
        thread::spawn(move || {
            let mut zxid = 0;
            loop {
                while zxid < slices && S::has_room(&mailbox) {
                    zxid += 1;
                    S::deliver(&mailbox, zxid, bytes, &[]);
                    S::wake(&worker);
                }
                if zxid == slices {
                    return;
                }
                let sleep = S::fall_asleep(&replica, || true);
                replica_bell.wait(sleep);
                S::awake(&replica);
            }
        })
    };

    let mut taken = 0;
    while taken < slices {
        let sleep = S::fall_asleep(&worker, || !S::has_delivery(&mailbox));
        worker_bell.wait(sleep);
        S::awake(&worker);
        let mut replica_waits = false;
        while let Some((zxid, _, waits)) = S::take(&mailbox) {
            assert_eq!(zxid, taken + 1, "slices come in order, and none is lost");
            taken = zxid;
            replica_waits |= waits;
        }
        if replica_waits && driver == Driver::Rings {
            S::ring(&replica);
        } else if replica_waits {
            S::wake(&replica);
        }
    }
    thread.join().unwrap();
    assert!(S::take(&mailbox).is_none());
    assert!(S::has_room(&mailbox), "what was taken left its room");
}

const FULL: usize = zorilla_models::limits::MAILBOX_BYTES_MAX;

#[test]
fn a_full_queue_stops_the_replica_until_there_is_room() {
    explore_bounded(PREEMPTIONS, || slices_flow::<Source>(1, 2, 0, Driver::Rings));
}

#[test]
fn a_queue_that_fills_again_stops_it_again() {
    explore_bounded(PREEMPTIONS, || slices_flow::<Source>(1, 3, 0, Driver::Rings));
}

#[test]
fn too_many_bytes_stop_the_replica_until_there_is_room() {
    explore_bounded(PREEMPTIONS, || slices_flow::<Source>(2, 2, FULL, Driver::Rings));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_wake_instead_of_ring() {
    explore_bounded(PREEMPTIONS, || slices_flow::<Source>(1, 2, 0, Driver::Wakes));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_flag_after_the_second_look() {
    explore_bounded(PREEMPTIONS, || slices_flow::<FlagAfterTheSecondLook>(1, 2, 0, Driver::Rings));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_no_second_look() {
    explore_bounded(PREEMPTIONS, || slices_flow::<NoSecondLook>(1, 2, 0, Driver::Rings));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_no_fence_before_the_second_look() {
    explore_bounded(PREEMPTIONS, || slices_flow::<NoFenceBeforeTheSecondLook>(1, 2, 0, Driver::Rings));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_no_fence_in_give_back() {
    explore_bounded(PREEMPTIONS, || slices_flow::<NoFenceInGiveBack>(1, 2, 0, Driver::Rings));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_no_fence_in_give_back_where_bytes_are_short() {
    explore_bounded(PREEMPTIONS, || slices_flow::<NoFenceInGiveBack>(2, 2, FULL, Driver::Rings));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_flag_never_looked_at() {
    explore_bounded(PREEMPTIONS, || slices_flow::<FlagNeverLookedAt>(1, 2, 0, Driver::Rings));
}
