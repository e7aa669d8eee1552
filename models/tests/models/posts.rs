//! `PostBox` of `src/worker/mailbox.rs`, and what `src/worker` and `src/replica` do with it: a worker with credits
//! posts requests, keeps the post that does not fit, and goes on draining; every request is completed once and in
//! order.

use loom::thread;
use zorilla_models::sync::clamp_queues;

use crate::explore_bounded;
use crate::subject::*;

/// Bytes of one request.
const REQUEST_BYTES: usize = 4;

/// What a worker does whose post does not fit, or whose credits are used up.
#[derive(Clone, Copy, PartialEq)]
enum Driver {
    KeepsItsPostAndDrains,
    /// The fault: the post that was handed back is forgotten.
    ForgetsItsPost,
    /// The fault: the look before its sleep does not cover the post that was handed back.
    SleepsOnItsPost,
    /// The fault: it waits for credits without taking what gives them.
    DrainsOnlyWithCredits,
}

/// A worker asks `requests` one per turn, with so many credits; the replica completes them, one slice for each post.
fn requests_are_completed<S: Subject>(requests: u32, credits_max: u32, driver: Driver) {
    clamp_queues(1);
    let (worker_bell, replica_bell) = (EventFd::new(), EventFd::new());
    let (worker, replica) = (S::sleeper(&worker_bell), S::sleeper(&replica_bell));
    let (mailbox, postbox) = (S::mailbox(&worker), S::postbox());
    let bytes_max = requests as usize * REQUEST_BYTES;

    let thread = {
        let (worker, replica, mailbox, postbox) = (worker.clone(), replica.clone(), mailbox.clone(), postbox.clone());
        thread::spawn(move || {
            let (mut heard, mut completed, mut slices) = (0, 0, 0);
            loop {
                while let Some(post) = S::pop(&postbox) {
                    for request in S::requests(&post) {
                        assert_eq!(request, heard + 1, "requests come in order, and none is lost");
                        heard = request;
                    }
                    S::give_back(&postbox, post);
                    let bytes = S::bytes(&postbox);
                    assert!(bytes <= bytes_max, "{bytes} bytes are posted of {bytes_max}");
                }
                if completed < heard && S::has_room(&mailbox) {
                    let done: Vec<u32> = (completed + 1..=heard).collect();
                    completed = heard;
                    slices += 1;
                    S::deliver(&mailbox, slices, 0, &done);
                    S::wake(&worker);
                }
                if completed == requests {
                    return;
                }
                let sleep = S::fall_asleep(&replica, || !S::has_post(&postbox));
                replica_bell.wait(sleep);
                S::awake(&replica);
            }
        })
    };

    let (mut asked, mut completed, mut credits) = (0, 0, credits_max);
    let mut post = S::blank(&postbox);
    while completed < requests {
        // One turn of the worker: read, post, drain.
        if asked < requests && 0 < credits {
            asked += 1;
            credits -= 1;
            S::ask(&mut post, asked, REQUEST_BYTES);
        }
        if !S::requests(&post).is_empty() {
            let full = std::mem::replace(&mut post, S::blank(&postbox));
            if let Err(kept) = S::push(&postbox, full)
                && driver != Driver::ForgetsItsPost
            {
                let blank = std::mem::replace(&mut post, kept);
                S::shelve(&postbox, blank);
            }
            S::wake(&replica);
        }
        let mut replica_waits = false;
        while (driver != Driver::DrainsOnlyWithCredits || 0 < credits)
            && let Some((_, done, waits)) = S::take(&mailbox)
        {
            for request in done {
                assert_eq!(request, completed + 1, "requests are completed in order and once");
                completed = request;
                credits += 1;
                assert!(credits <= credits_max, "more credits came back than were spent");
            }
            replica_waits |= waits;
        }
        if replica_waits {
            S::ring(&replica);
        }
        if completed < requests {
            let can_ask = asked < requests && 0 < credits;
            let can_drain = driver != Driver::DrainsOnlyWithCredits || 0 < credits;
            let keeps_post = !S::requests(&post).is_empty() && driver != Driver::SleepsOnItsPost;
            let sleep = S::fall_asleep(&worker, || {
                let can_post = keeps_post && S::takes_post(&postbox);
                !(can_ask || can_post || can_drain && S::has_delivery(&mailbox))
            });
            worker_bell.wait(sleep);
            S::awake(&worker);
        }
    }
    thread.join().unwrap();
    assert_eq!(credits, credits_max, "every request gave its credit back");
    assert_eq!(S::bytes(&postbox), 0, "every byte that was posted was given back");
    assert!(!S::has_post(&postbox));
}

#[test]
fn a_post_that_does_not_fit_is_posted_later() {
    explore_bounded(2, || requests_are_completed::<Source>(3, 3, Driver::KeepsItsPostAndDrains));
}

#[test]
fn a_worker_without_credits_goes_on_when_they_come_back() {
    explore_bounded(4, || requests_are_completed::<Source>(2, 1, Driver::KeepsItsPostAndDrains));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_a_post_that_does_not_fit_is_forgotten() {
    explore_bounded(2, || requests_are_completed::<Source>(3, 3, Driver::ForgetsItsPost));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_sleeps_on_its_post() {
    explore_bounded(2, || requests_are_completed::<Source>(3, 3, Driver::SleepsOnItsPost));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_drains_only_with_credits() {
    explore_bounded(2, || requests_are_completed::<Source>(2, 1, Driver::DrainsOnlyWithCredits));
}

#[test]
#[should_panic(expected = "bytes are posted of")]
fn fault_counted_after_the_push() {
    explore_bounded(2, || requests_are_completed::<CountedAfterThePush>(2, 2, Driver::KeepsItsPostAndDrains));
}

#[test]
#[should_panic(expected = "every byte that was posted")]
fn fault_count_kept_of_a_post_handed_back() {
    explore_bounded(2, || requests_are_completed::<CountKeptOfAPostHandedBack>(3, 3, Driver::KeepsItsPostAndDrains));
}

#[test]
#[should_panic(expected = "deadlock")]
fn fault_no_fence_in_wake() {
    explore_bounded(2, || requests_are_completed::<NoFenceInWake>(2, 1, Driver::KeepsItsPostAndDrains));
}
