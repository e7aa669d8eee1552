//! A failing stream made small: whatever can be left out without losing the failure is left out.

use std::time::{Duration, Instant};

use crate::script::{Connect, Field, Request, Step, Stream};

/// Enough for a stream of twenty steps with ten requests each; a bound, because every try is a play on two servers.
const TRIES_MAX: usize = 400;

/// Streams that wait for a server's clock are slow.
const TIME_MAX: Duration = Duration::from_secs(40);

/// Leaves out steps, then requests, then operations of multis, then details, as long as `fails` says that what is left fails.
pub fn shrink(stream: &Stream, mut fails: impl FnMut(&Stream) -> bool) -> Stream {
    let (mut tries, begin) = (0, Instant::now());
    let mut fails = |candidate: &Stream| {
        tries += 1;
        tries <= TRIES_MAX && begin.elapsed() < TIME_MAX && fails(candidate)
    };
    let mut best = stream.clone();
    loop {
        let before = best.clone();
        best.steps =
            minimise(&best.steps, |steps| fails(&Stream { profile: before.profile.clone(), steps: steps.to_vec() }));
        for index in 0..best.steps.len() {
            // A new session instead of one that is taken up, and a handshake without anything odd.
            if let Step::Connect(connect) = &best.steps[index] {
                let plain = Connect { pipelined: connect.pipelined.clone(), ..Connect::new(&connect.conn) };
                let mut candidate = best.clone();
                candidate.steps[index] = Step::Connect(plain);
                if candidate != best && fails(&candidate) {
                    best = candidate;
                }
            }
            let requests = best.steps[index].requests().to_vec();
            let with = |best: &Stream, requests: &[Request]| {
                let mut candidate = best.clone();
                if let Some(place) = candidate.steps[index].requests_mut() {
                    *place = requests.to_vec();
                }
                candidate
            };
            let may_be_empty = matches!(best.steps[index], Step::Connect(_) | Step::Await { .. });
            let mut requests =
                minimise(&requests, |fewer| (may_be_empty || !fewer.is_empty()) && fails(&with(&best, fewer)));
            best = with(&best, &requests);
            for at in 0..requests.len() {
                for simpler in simpler(&requests[at]) {
                    let old = std::mem::replace(&mut requests[at], simpler);
                    let candidate = with(&best, &requests);
                    if fails(&candidate) {
                        best = candidate;
                    } else {
                        requests[at] = old;
                    }
                }
            }
        }
        if best == before {
            return best;
        }
    }
}

/// Removes elements, many at once first, while `fails` holds for the rest.
fn minimise<T: Clone>(elements: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut best = elements.to_vec();
    let mut size = best.len().div_ceil(2);
    while 0 < size {
        let mut at = 0;
        while at < best.len() {
            let end = (at + size).min(best.len());
            let candidate = [&best[..at], &best[end..]].concat();
            if fails(&candidate) {
                best = candidate;
            } else {
                at = end;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    best
}

/// The same request with one thing less, for each thing.
fn simpler(request: &Request) -> Vec<Request> {
    let mut all = Vec::new();
    if request.xid.is_some() {
        all.push(Request { xid: None, ..request.clone() });
    }
    let items: Vec<usize> =
        (0..request.fields.len()).filter(|at| matches!(request.fields[*at], Field::Item(_))).collect();
    // From the last to the first: what a removal shifts lies behind it.
    for pair in items.windows(2).rev() {
        let mut fewer = request.clone();
        fewer.fields.drain(pair[0]..pair[1]);
        all.push(fewer);
    }
    all
}
