//! `src/wake.rs`: no wake-up is lost.
//!
//! The mailboxes are bare counters without any ordering of their own: what holds here holds for every mailbox.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::subject::*;
use crate::{explore, explore_bounded};

const PREEMPTIONS: usize = 4;

/// When a sender looks for the announcement.
#[derive(Clone, Copy, PartialEq)]
enum Driver {
    AfterItsMessage,
    /// The fault.
    BeforeItsMessage,
}

/// One receiver; each sender puts its messages in one by one and wakes it after each.
fn messages_arrive<S: Subject>(senders: &'static [usize], driver: Driver) {
    let bell = EventFd::new();
    let sleeper = S::sleeper(&bell);
    let boxes: Arc<Vec<AtomicUsize>> = Arc::new(senders.iter().map(|_| AtomicUsize::new(0)).collect());
    let send = |index: usize| {
        let (sleeper, boxes) = (sleeper.clone(), boxes.clone());
        move || {
            for message in 1..=senders[index] {
                if driver == Driver::BeforeItsMessage {
                    S::wake(&sleeper);
                }
                boxes[index].store(message, Ordering::Relaxed);
                if driver == Driver::AfterItsMessage {
                    S::wake(&sleeper);
                }
            }
        }
    };
    let threads: Vec<_> = (0..senders.len()).map(|index| thread::spawn(send(index))).collect();

    let mut taken = vec![0; senders.len()];
    while taken != senders {
        let unseen = |index: usize, taken: &[usize]| taken[index] < boxes[index].load(Ordering::Relaxed);
        let sleep = S::fall_asleep(&sleeper, || !(0..senders.len()).any(|index| unseen(index, &taken)));
        bell.wait(sleep);
        S::awake(&sleeper);
        for (index, taken) in taken.iter_mut().enumerate() {
            *taken = boxes[index].load(Ordering::Relaxed);
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The receiver is told to stop by a flag that its look does not cover, while another sender wakes it.
fn a_ring_is_heard<S: Subject>() {
    let bell = EventFd::new();
    let sleeper = S::sleeper(&bell);
    let stop = Arc::new(AtomicBool::new(false));
    let message = Arc::new(AtomicBool::new(false));
    let stopper = {
        let (sleeper, stop) = (sleeper.clone(), stop.clone());
        thread::spawn(move || {
            stop.store(true, Ordering::Release);
            S::ring(&sleeper);
        })
    };
    let sender = {
        let (sleeper, message) = (sleeper.clone(), message.clone());
        thread::spawn(move || {
            message.store(true, Ordering::Relaxed);
            S::wake(&sleeper);
        })
    };
    let (mut taken, mut stopped) = (false, false);
    while !(taken && stopped) {
        let sleep = S::fall_asleep(&sleeper, || taken || !message.load(Ordering::Relaxed));
        bell.wait(sleep);
        S::awake(&sleeper);
        taken = message.load(Ordering::Relaxed);
        stopped = stop.load(Ordering::Acquire);
    }
    stopper.join().unwrap();
    sender.join().unwrap();
}

#[test]
fn a_message_of_either_sender_is_seen_without_another() {
    explore_bounded(PREEMPTIONS, || messages_arrive::<Source>(&[1, 1], Driver::AfterItsMessage));
}

#[test]
fn a_message_of_one_sender_is_seen() {
    explore(|| messages_arrive::<Source>(&[1], Driver::AfterItsMessage));
}

#[test]
fn a_receiver_that_sleeps_again_is_woken_again() {
    explore_bounded(PREEMPTIONS, || messages_arrive::<Source>(&[2], Driver::AfterItsMessage));
}

#[test]
fn a_ring_ends_a_sleep_whose_look_does_not_cover_it() {
    explore_bounded(PREEMPTIONS, a_ring_is_heard::<Source>);
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_no_fence_in_wake() {
    explore_bounded(PREEMPTIONS, || messages_arrive::<NoFenceInWake>(&[1, 1], Driver::AfterItsMessage));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_no_fence_before_the_look() {
    explore_bounded(PREEMPTIONS, || messages_arrive::<NoFenceBeforeTheLook>(&[1, 1], Driver::AfterItsMessage));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_look_before_the_announcement() {
    explore_bounded(PREEMPTIONS, || messages_arrive::<LookBeforeTheAnnouncement>(&[1, 1], Driver::AfterItsMessage));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_wake_before_the_message() {
    explore_bounded(PREEMPTIONS, || messages_arrive::<Source>(&[1, 1], Driver::BeforeItsMessage));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_ring_only_if_announced() {
    explore_bounded(PREEMPTIONS, a_ring_is_heard::<RingOnlyIfAnnounced>);
}
