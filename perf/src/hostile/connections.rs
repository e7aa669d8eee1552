//! Attacks with connections: too many, too idle, too slow, gone without a word.

use super::ground::{self, Ground, PATIENCE, TOP, Told, create, must, open, turn};
use crate::crowd::{self, Arrival, Crowd};
use crate::limits::{HOSTILE_CONNECTION_BYTES, HOSTILE_CONNECTIONS_COUNTED_MIN, HOSTILE_RETURN_BYTES};
use crate::stats::histogram;
use crate::wire::{Stamp, Template};
use std::time::{Duration, Instant};
use zorilla_proto::client::{CreateMode, PathWatchRequest, ReplyHeader, Request, XID_PING};
use zorilla_proto::jute::Reader;

/// Handshakes under way while a crowd comes.
const UNDER_WAY: usize = 256;

const NOTHING: Stamp = Stamp { node: 0, writer: 0, sequence: 0 };

fn new_crowd() -> Result<Crowd, String> {
    Crowd::new().map_err(|error| format!("poll: {error}"))
}

fn goodbye() -> Vec<u8> {
    let mut out = Vec::new();
    Template::close().append(&mut out, 1, NOTHING);
    out
}

/// Many connections, each with a session, that do nothing: what one of them costs.
pub fn idle(ground: &Ground) -> Result<Told, String> {
    let count = ground.connections;
    ground.check_descriptors(count)?;
    // One connection first: what is made once is not counted for each.
    let mut crowd = new_crowd()?;
    ground.admit(&mut crowd, 1, 1, 120_000)?;
    std::thread::sleep(Duration::from_millis(500));
    let (before, descriptors_before) = (ground.memory(), ground.descriptors()?);
    let cpu_before_s = ground.cpu_s();
    let begun = Instant::now();
    let guests = ground.admit(&mut crowd, count, UNDER_WAY, 120_000)?;
    let (opened, opening_cpu_s) = (begun.elapsed(), ground.cpu_s() - cpu_before_s);
    std::thread::sleep(Duration::from_secs(if ground.quick { 1 } else { 5 }));
    let (after, descriptors) = (ground.memory(), ground.descriptors()?);
    ground.holds(descriptors - descriptors_before + 1);
    let each = after.saturating_sub(before) / count as u64;
    // All of them are there and are served.
    let mut ping = Vec::new();
    Template::ping().append(&mut ping, XID_PING, NOTHING);
    let begun = Instant::now();
    for at in &guests {
        crowd.send(*at, &ping);
    }
    let (mut answered, mut lost) = (0, 0);
    let mut latency = histogram();
    while answered + lost < count && begun.elapsed() < PATIENCE {
        turn(&mut crowd, |_, arrival, _| match arrival {
            Arrival::Frame(_) => {
                answered += 1;
                latency.saturating_record(begun.elapsed().as_nanos() as u64);
            }
            Arrival::Closed => lost += 1,
        })?;
    }
    let pinged = begun.elapsed();
    let goodbye = goodbye();
    let cpu_before_s = ground.cpu_s();
    let begun = Instant::now();
    for at in &guests {
        crowd.send(*at, &goodbye);
    }
    while 1 < crowd.open() && begun.elapsed() < PATIENCE {
        turn(&mut crowd, |_, _, _| {})?;
    }
    let mut told = Told::new(format!(
        "{count} connections with sessions held, opened in {:.1} s ({:.1} s of the server's CPU); {:.1} KiB of \
         anonymous memory each; a ping on each of them answered within {:.0} ms; all closed in {:.1} s ({:.1} s of the \
         server's CPU)",
        opened.as_secs_f64(),
        opening_cpu_s,
        each as f64 / 1024.0,
        pinged.as_secs_f64() * 1e3,
        begun.elapsed().as_secs_f64(),
        ground.cpu_s() - cpu_before_s
    ));
    told.demand(descriptors_before + count <= descriptors, || {
        format!("the server has {descriptors} descriptors, {} expected", descriptors_before + count)
    });
    told.demand(count < HOSTILE_CONNECTIONS_COUNTED_MIN || each <= HOSTILE_CONNECTION_BYTES, || {
        format!("a connection costs {each} bytes, at most {HOSTILE_CONNECTION_BYTES} allowed")
    });
    told.demand(answered == count && lost == 0, || format!("{answered} of {count} pings answered, {lost} closed"));
    told.demand(crowd.open() <= 1, || format!("{} connections outlive their session", crowd.open() - 1));
    Ok(told)
}

/// Connections that come and go in every way: nothing of them stays.
pub fn come_and_go(ground: &Ground) -> Result<Told, String> {
    const WAYS: usize = 5;
    let count = ground.share(10_000, 1_000);
    let (before, descriptors_before) = (ground.memory(), ground.descriptors()?);
    let (hello, goodbye) = (crowd::handshake(4_000), goodbye());
    let mut crowd = new_crowd()?;
    let (mut begun, mut granted, mut gone) = (0, 0, vec![false; count]);
    let mut to_close: Vec<usize> = Vec::new();
    let start = Instant::now();
    while begun < count || 0 < crowd.open() {
        while begun < count && crowd.open() < UNDER_WAY {
            let at = crowd.connect(ground.address, ground.source(begun)).map_err(|error| error.to_string())?;
            match begun % WAYS {
                // Says nothing, or half of what it has to, and is gone at the end of this turn.
                3 => to_close.push(at),
                4 => {
                    crowd.send(at, &hello[..hello.len() / 2]);
                    to_close.push(at);
                }
                _ => crowd.send(at, &hello),
            }
            begun += 1;
        }
        turn(&mut crowd, |at, arrival, output| match arrival {
            Arrival::Frame(payload) if at % WAYS == 0 && ground::granted(payload) => {
                granted += 1;
                output.extend_from_slice(&goodbye);
            }
            // The answer to the goodbye, behind which the server closes.
            Arrival::Frame(_) if at % WAYS == 0 => {}
            Arrival::Frame(_) => {
                granted += 1;
                to_close.push(at);
            }
            Arrival::Closed => gone[at] = true,
        })?;
        for at in to_close.drain(..) {
            // Every second one with a reset, the others in order.
            crowd.close(at, at % 2 == 0);
        }
        if PATIENCE < start.elapsed() {
            return Err(format!("{} connections are still open after {PATIENCE:?}", crowd.open()));
        }
    }
    let took = start.elapsed();
    // Sessions that were not closed end with their timeout; and a moment for what was freed.
    let mut left = (0, 0);
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        left = (ground.descriptors()?, ground.memory());
        if left.0 <= descriptors_before && left.1 <= before + HOSTILE_RETURN_BYTES {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut told = Told::new(format!(
        "{count} connections came and went in {:.1} s, {granted} with a session; then the server has {} descriptors \
         more and {} MiB of memory more than before",
        took.as_secs_f64(),
        left.0.saturating_sub(descriptors_before),
        ground::mib(left.1.saturating_sub(before))
    ));
    told.demand(left.0 <= descriptors_before, || format!("{} descriptors stay open", left.0 - descriptors_before));
    told.demand(left.1 <= before + HOSTILE_RETURN_BYTES, || format!("{} MiB stay", ground::mib(left.1 - before)));
    let expected = count / WAYS * 3;
    told.demand(expected <= granted, || format!("{granted} sessions granted, {expected} asked for"));
    Ok(told)
}

/// Connections that say one byte a second, or nothing.
pub fn slow_loris(ground: &Ground) -> Result<Told, String> {
    const KINDS: usize = 3;
    let count = ground.share(3_000, 600);
    let hello = crowd::handshake(60_000);
    let mut request = Vec::new();
    ground::get(TOP).encode_frame(1, &mut request);
    let mut crowd = new_crowd()?;
    let mut opened = Vec::with_capacity(count);
    for index in 0..count {
        let at = crowd.connect(ground.address, ground.source(index)).map_err(|error| error.to_string())?;
        opened.push(Instant::now());
        // The third kind has a session, and drips a request.
        if at % KINDS == 2 {
            crowd.send(at, &hello);
        }
    }
    ground.holds(count);
    let mut closed: Vec<Option<Duration>> = vec![None; count];
    let mut welcome = 0;
    let start = Instant::now();
    let mut dripped = 0;
    while start.elapsed() < Duration::from_millis(21_500) {
        let all = (0..count).filter(|at| at % KINDS != 2).all(|at| closed[at].is_some());
        if all {
            break;
        }
        if dripped < start.elapsed().as_secs() as usize {
            for at in 0..count {
                match at % KINDS {
                    1 if dripped < hello.len() => crowd.send(at, &hello[dripped..=dripped]),
                    2 if dripped < request.len() - 1 => crowd.send(at, &request[dripped..=dripped]),
                    _ => {}
                }
            }
            dripped += 1;
        }
        turn(&mut crowd, |at, arrival, _| match arrival {
            Arrival::Frame(_) => welcome += 1,
            Arrival::Closed => closed[at] = Some(opened[at].elapsed()),
        })?;
    }
    // Those with a session may be slow as long as they like, and are answered in the end.
    let slow = (0..count).filter(|at| at % KINDS == 2);
    for at in slow.clone() {
        crowd.send(at, &request[dripped.min(request.len() - 1)..]);
    }
    let (mut answered, begun) = (0, Instant::now());
    while answered < slow.clone().count() && begun.elapsed() < Duration::from_secs(5) {
        turn(&mut crowd, |at, arrival, _| match arrival {
            Arrival::Frame(payload) => {
                let header = ReplyHeader::decode(&mut Reader::new(payload));
                answered += usize::from(header.is_ok_and(|header| header.xid == 1 && header.code == 0));
            }
            Arrival::Closed => closed[at] = Some(opened[at].elapsed()),
        })?;
    }
    let times = |kind: usize| {
        let times: Vec<f64> = (0..count)
            .filter(|at| at % KINDS == kind)
            .map(|at| closed[at].map_or(f64::INFINITY, |after| after.as_secs_f64()))
            .collect();
        (times.iter().copied().fold(f64::INFINITY, f64::min), times.iter().copied().fold(0.0, f64::max))
    };
    let (silent, dripping) = (times(0), times(1));
    let slow_closed = slow.clone().filter(|at| closed[*at].is_some()).count();
    let mut told = Told::new(format!(
        "{count} connections; without a session: silent ones closed after {:.1}–{:.1} s, those with a byte a second \
         after {:.1}–{:.1} s; with a session: {welcome} welcomed, {slow_closed} closed, {answered} slow requests \
         answered",
        silent.0, silent.1, dripping.0, dripping.1
    ));
    for (kind, (first, last)) in [("silent", silent), ("dripping", dripping)] {
        // Some tenths of a second pass until a close is seen.
        told.demand(9.5 <= first && last <= 20.5, || {
            format!("{kind} connections without a session were closed after {first:.1}–{last:.1} s, not 10–20 s")
        });
    }
    let expected = slow.count();
    told.demand(welcome == expected && answered == expected && slow_closed == 0, || {
        format!("{expected} slow clients with a session: {welcome} welcomed, {answered} answered, {slow_closed} closed")
    });
    Ok(told)
}

/// Clients that have a session and ephemerals, and vanish without closing anything.
pub fn half_open(ground: &Ground) -> Result<Told, String> {
    let folder = format!("{TOP}/half-open");
    let count = ground.share(1_500, 150);
    let mut conn = open(ground.address, 60_000)?;
    must(&mut conn, "creating", &create(&folder, b"", CreateMode::Persistent))?;
    let mut crowd = new_crowd()?;
    let guests = ground.admit(&mut crowd, count, UNDER_WAY, 4_000)?;
    for (index, at) in guests.iter().enumerate() {
        let mut out = Vec::new();
        create(&format!("{folder}/{index}"), b"mine", CreateMode::Ephemeral).encode_frame(1, &mut out);
        crowd.send(*at, &out);
    }
    let (mut created, begun) = (0, Instant::now());
    while created < count && begun.elapsed() < PATIENCE {
        turn(&mut crowd, |_, arrival, _| {
            let Arrival::Frame(payload) = arrival else { return };
            let header = ReplyHeader::decode(&mut Reader::new(payload));
            created += usize::from(header.is_ok_and(|header| header.code == 0));
        })?;
    }
    let vanished = Instant::now();
    let mut silent = 0;
    for (index, at) in guests.iter().enumerate() {
        match index % 3 {
            // As if the cable was cut: nothing is sent, nothing is read, nothing is closed.
            0 => {
                crowd.set_deaf(*at, true).map_err(|error| error.to_string())?;
                silent += 1;
            }
            // The machine restarted and answers what it does not know with a reset.
            1 => crowd.close(*at, true),
            _ => crowd.close(*at, false),
        }
    }
    let listing = Request::GetChildren(PathWatchRequest { path: Some(folder.as_str().into()), watch: false });
    let mut first = None;
    let mut left = created;
    while left != 0 && vanished.elapsed() < Duration::from_secs(20) {
        left = ground::children(&must(&mut conn, "listing", &listing)?)?.len();
        if left < created && first.is_none() {
            first = Some(vanished.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let last = vanished.elapsed();
    // The server has closed the connections that nobody closed.
    for at in crowd.numbers() {
        crowd.set_deaf(at, false).map_err(|error| error.to_string())?;
    }
    let begun = Instant::now();
    while 0 < crowd.open() && begun.elapsed() < Duration::from_secs(5) {
        turn(&mut crowd, |_, _, _| {})?;
    }
    let first = first.unwrap_or(last);
    let mut told = Told::new(format!(
        "{count} clients with an ephemeral each vanished, {silent} of them without a word; sessions of 4 s expired \
         after {:.1}–{:.1} s, {left} ephemerals and {} connections stay",
        first.as_secs_f64(),
        last.as_secs_f64(),
        crowd.open()
    ));
    told.demand(created == count, || format!("{created} of {count} ephemerals created"));
    told.demand(left == 0, || format!("{left} ephemerals of dead sessions stay"));
    told.demand(Duration::from_millis(1_500) <= first, || format!("a session expired after {first:?}"));
    told.demand(last <= Duration::from_secs(12), || format!("the last session expired only after {last:?}"));
    told.demand(crowd.open() == 0, || format!("{} connections of dead sessions stay", crowd.open()));
    ground::clear(&mut conn, &folder)?;
    must(&mut conn, "closing", &Request::CloseSession)?;
    Ok(told)
}
