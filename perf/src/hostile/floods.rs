//! Attacks with requests: more than is read, more than is sent, more watches than anybody needs.

use super::ground::{self, Ground, PATIENCE, TOP, Told, clear, create, delete, get, must, open, set, turn};
use crate::crowd::{Arrival, Crowd};
use crate::limits::HOSTILE_CHUNK_BYTES;
use crate::stats::histogram;
use crate::wire::{self, STAMP_BYTES, Stamp, Template, code_name};
use std::time::{Duration, Instant};
use zorilla_proto::Code;
use zorilla_proto::client::{CreateMode, EventType, ReplyHeader, Request, WatcherEvent, XID_NOTIFICATION};
use zorilla_proto::jute::Reader;

/// How long the attackers keep the server waiting.
const HOLD: Duration = Duration::from_secs(3);

fn new_crowd() -> Result<Crowd, String> {
    Crowd::new().map_err(|error| format!("poll: {error}"))
}

/// What came back to somebody who read at last.
#[derive(Default)]
struct Heard {
    replies: u64,
    bytes: u64,
    closed: bool,
    wrong: Option<String>,
}

impl Heard {
    /// Takes notice of a reply, which must be the next one and a success with `body_bytes`.
    fn take(&mut self, payload: &[u8], body_bytes: usize) {
        let header = ReplyHeader::decode(&mut Reader::new(payload));
        let expected = self.replies as i32 + 1;
        let good = header.is_ok_and(|header| header.xid == expected && header.code == 0)
            && payload.len() == ReplyHeader::BYTES + body_bytes;
        if !good && self.wrong.is_none() {
            self.wrong = Some(format!("reply {expected}: {header:?} with {} bytes", payload.len()));
        }
        self.replies += 1;
        self.bytes += payload.len() as u64 + 4;
    }
}

/// Bytes of a getData's body around the data: its length and the stat.
const AROUND_DATA_BYTES: usize = 4 + zorilla_proto::Stat::BYTES;

/// One client asks for data, a gigabyte of requests, and does not read.
pub fn pipelined_reads(ground: &Ground) -> Result<Told, String> {
    const DATA_BYTES: usize = 1024;
    let wanted: u64 = 1 << 30;
    let path = format!("{TOP}/kib");
    let mut conn = open(ground.address, 60_000)?;
    let data = wire::filler(DATA_BYTES, ground.seed);
    must(&mut conn, "creating", &create(&path, &data, CreateMode::Persistent))?;
    let mut crowd = new_crowd()?;
    let at = ground.admit(&mut crowd, 1, 1, 60_000)?[0];
    crowd.set_deaf(at, true).map_err(|error| error.to_string())?;
    let (mut xid, mut sent) = (0, 0u64);
    let mut chunk = Vec::new();
    let (mut progressed, mut accepted) = (Instant::now(), 0);
    while accepted < wanted && progressed.elapsed() < HOLD {
        while crowd.unsent(at) < HOSTILE_CHUNK_BYTES {
            chunk.clear();
            while chunk.len() < HOSTILE_CHUNK_BYTES {
                xid += 1;
                get(&path).encode_frame(xid, &mut chunk);
            }
            sent += chunk.len() as u64;
            crowd.send(at, &chunk);
        }
        turn(&mut crowd, |_, _, _| {})?;
        let now = sent - crowd.unsent(at) as u64;
        if now != accepted {
            (accepted, progressed) = (now, Instant::now());
        }
    }
    crowd.set_deaf(at, false).map_err(|error| error.to_string())?;
    let (mut heard, begun) = (Heard::default(), Instant::now());
    while heard.replies < xid as u64 && !heard.closed && begun.elapsed() < PATIENCE {
        turn(&mut crowd, |_, arrival, _| match arrival {
            Arrival::Frame(payload) => heard.take(payload, AROUND_DATA_BYTES + DATA_BYTES),
            Arrival::Closed => heard.closed = true,
        })?;
    }
    let mut told = Told::new(format!(
        "of a gigabyte of requests the server took {} MiB and read no more for {} s; then {} of {xid} replies, {} MiB, \
         came in order in {:.1} s",
        ground::mib(accepted),
        HOLD.as_secs(),
        heard.replies,
        ground::mib(heard.bytes),
        begun.elapsed().as_secs_f64()
    ));
    told.demand(accepted < wanted, || "the server took them all".to_owned());
    told.demand(heard.wrong.is_none(), || heard.wrong.clone().unwrap_or_default());
    told.demand(heard.replies == xid as u64 && !heard.closed, || {
        format!("{} of {xid} replies; closed: {}", heard.replies, heard.closed)
    });
    crowd.close(at, true);
    must(&mut conn, "deleting", &delete(&path))?;
    must(&mut conn, "closing", &Request::CloseSession)?;
    Ok(told)
}

/// One client writes a gigabyte and does not read the short replies.
pub fn pipelined_writes(ground: &Ground) -> Result<Told, String> {
    const DATA_BYTES: usize = 512 << 10;
    let writes = ground.share(2_048, 128) as i32;
    let path = format!("{TOP}/large");
    let mut conn = open(ground.address, 60_000)?;
    must(&mut conn, "creating", &create(&path, b"", CreateMode::Persistent))?;
    let data = wire::filler(DATA_BYTES, ground.seed);
    let mut crowd = new_crowd()?;
    let at = ground.admit(&mut crowd, 1, 1, 60_000)?[0];
    crowd.set_deaf(at, true).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let mut chunk = Vec::new();
    let mut xid = 0;
    while (xid < writes || 0 < crowd.unsent(at)) && begun.elapsed() < 2 * PATIENCE {
        while xid < writes && crowd.unsent(at) < HOSTILE_CHUNK_BYTES {
            xid += 1;
            chunk.clear();
            set(&path, &data).encode_frame(xid, &mut chunk);
            crowd.send(at, &chunk);
        }
        turn(&mut crowd, |_, _, _| {})?;
    }
    let took = begun.elapsed();
    crowd.set_deaf(at, false).map_err(|error| error.to_string())?;
    let (mut heard, begun) = (Heard::default(), Instant::now());
    while heard.replies < writes as u64 && !heard.closed && begun.elapsed() < PATIENCE {
        turn(&mut crowd, |_, arrival, _| match arrival {
            Arrival::Frame(payload) => heard.take(payload, zorilla_proto::Stat::BYTES),
            Arrival::Closed => heard.closed = true,
        })?;
    }
    let mut told = Told::new(format!(
        "{} MiB of writes pipelined in {:.1} s without reading; then {} of {writes} replies came in order",
        ground::mib(writes as u64 * DATA_BYTES as u64),
        took.as_secs_f64(),
        heard.replies
    ));
    told.demand(heard.wrong.is_none(), || heard.wrong.clone().unwrap_or_default());
    told.demand(heard.replies == writes as u64 && !heard.closed, || {
        format!("{} of {writes} replies; closed: {}", heard.replies, heard.closed)
    });
    crowd.close(at, true);
    must(&mut conn, "deleting", &delete(&path))?;
    must(&mut conn, "closing", &Request::CloseSession)?;
    Ok(told)
}

/// Clients that ask for much and do not read it; then every second one does.
pub fn slow_readers(ground: &Ground) -> Result<Told, String> {
    const DATA_BYTES: usize = 512 << 10;
    const REQUESTS: i32 = 64;
    let count = ground.share(100, 24);
    let path = format!("{TOP}/half-mib");
    let mut conn = open(ground.address, 60_000)?;
    let data = wire::filler(DATA_BYTES, ground.seed);
    must(&mut conn, "creating", &create(&path, &data, CreateMode::Persistent))?;
    let mut crowd = new_crowd()?;
    let guests = ground.admit(&mut crowd, count, 16, 60_000)?;
    let mut requests = Vec::new();
    for xid in 1..=REQUESTS {
        get(&path).encode_frame(xid, &mut requests);
    }
    for at in &guests {
        crowd.set_deaf(*at, true).map_err(|error| error.to_string())?;
        crowd.send(*at, &requests);
    }
    let begun = Instant::now();
    while begun.elapsed() < HOLD {
        turn(&mut crowd, |_, _, _| {})?;
    }
    // Every second one never reads and is gone with a reset; the others read at last.
    let mut heard: Vec<Heard> = guests.iter().map(|_| Heard::default()).collect();
    for (index, at) in guests.iter().enumerate() {
        match index % 2 {
            0 => crowd.set_deaf(*at, false).map_err(|error| error.to_string())?,
            _ => crowd.close(*at, true),
        }
    }
    let begun = Instant::now();
    let mut complete = 0;
    while 0 < crowd.open() && begun.elapsed() < PATIENCE {
        let mut through = Vec::new();
        turn(&mut crowd, |at, arrival, _| {
            let heard = &mut heard[at];
            match arrival {
                Arrival::Frame(payload) => {
                    heard.take(payload, AROUND_DATA_BYTES + DATA_BYTES);
                    if heard.replies == REQUESTS as u64 {
                        through.push(at);
                    }
                }
                Arrival::Closed => heard.closed = true,
            }
        })?;
        complete += through.len();
        for at in through {
            crowd.close(at, true);
        }
    }
    let cut: Vec<u64> = heard.iter().filter(|heard| heard.closed).map(|heard| heard.replies).collect();
    let mut told = Told::new(format!(
        "{count} clients asked for {} MiB each and read nothing for {} s; of {} that read then, {complete} got all of \
         it, {} had been cut off by the server's limits",
        ground::mib(REQUESTS as u64 * DATA_BYTES as u64),
        HOLD.as_secs(),
        guests.len().div_ceil(2),
        cut.len()
    ));
    let wrong = heard.iter().find_map(|heard| heard.wrong.clone());
    told.demand(wrong.is_none(), || wrong.unwrap_or_default());
    told.demand(crowd.open() == 0, || format!("{} clients were neither served nor cut off", crowd.open()));
    must(&mut conn, "deleting", &delete(&path))?;
    must(&mut conn, "closing", &Request::CloseSession)?;
    Ok(told)
}

/// What became of the watches that one client wanted.
struct Watching {
    /// The client.
    at: usize,
    /// How many it has, on the znodes from 0 on.
    watches: u32,
    /// Why there are no more.
    refusal: Option<String>,
}

/// A new client that leaves watches on missing znodes until it has `wanted` of them or is refused.
fn register(ground: &Ground, crowd: &mut Crowd, watch: &Template, wanted: u32) -> Result<Watching, String> {
    let at = ground.admit(crowd, 1, 1, 120_000)?[0];
    let (mut asked, mut watches, mut refusal) = (0, 0, None);
    let mut out = Vec::new();
    let begun = Instant::now();
    while watches < wanted && refusal.is_none() && begun.elapsed() < 2 * PATIENCE {
        if asked < wanted && asked <= watches + WATCHES_STEP {
            out.clear();
            let until = wanted.min(asked + WATCHES_STEP);
            for node in asked..until {
                watch.append(&mut out, 1, Stamp { node, writer: 0, sequence: 0 });
            }
            asked = until;
            crowd.send(at, &out);
        }
        turn(crowd, |from, arrival, _| match arrival {
            Arrival::Frame(payload) => match ReplyHeader::decode(&mut Reader::new(payload)) {
                Ok(header) if header.code == Code::NoNode.raw() => watches += 1,
                Ok(header) => refusal = refusal.take().or(Some(code_name(header.code))),
                Err(error) => refusal = Some(error.to_string()),
            },
            Arrival::Closed if from == at => refusal = refusal.take().or(Some("good-bye".to_owned())),
            Arrival::Closed => {}
        })?;
    }
    Ok(Watching { at, watches, refusal })
}

/// Watches asked for, or znodes made, at once.
const WATCHES_STEP: u32 = 1_000;

/// One client that watches a million znodes that are missing, or as many as it may; then all of them appear, and it
/// does not read.
pub fn watches(ground: &Ground) -> Result<Told, String> {
    let wanted = ground.share(1_000_000, 50_000) as u32;
    let folder = format!("{TOP}/watched");
    let mut conn = open(ground.address, 120_000)?;
    must(&mut conn, "creating", &create(&folder, b"", CreateMode::Persistent))?;
    let prefix = format!("{folder}/");
    let watch = Template::exists_and_watch(&prefix);
    let creates = Template::create(&prefix, &[0; STAMP_BYTES]);
    let deletes = Template::delete(&prefix);
    let mut crowd = new_crowd()?;
    let writer = ground.admit(&mut crowd, 1, 1, 120_000)?[0];
    let before = ground.memory();
    let begun = Instant::now();
    let flood = register(ground, &mut crowd, &watch, wanted)?;
    let registered = begun.elapsed();
    let grown = ground.memory().saturating_sub(before);
    // Who was cut off has no watches left: somebody else stays below that.
    let Watching { at: watcher, watches: watching, .. } = match flood.refusal {
        None => Watching { refusal: None, ..flood },
        Some(_) => {
            crowd.close(flood.at, true);
            register(ground, &mut crowd, &watch, flood.watches / 4 * 3)?
        }
    };
    let mut out = Vec::new();
    // Everything is fired at somebody who does not listen. What is created is deleted at once, so the tree stays small.
    crowd.set_deaf(watcher, true).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let (mut written, mut done, mut failed, mut lost) = (0, 0, None, false);
    while done < 2 * watching && failed.is_none() && begun.elapsed() < 3 * PATIENCE {
        if written < watching && 2 * written <= done + 2 * WATCHES_STEP {
            out.clear();
            let until = watching.min(written + WATCHES_STEP);
            for node in written..until {
                let stamp = Stamp { node, writer: 0, sequence: 0 };
                creates.append(&mut out, 1, stamp);
                deletes.append(&mut out, 1, stamp);
            }
            written = until;
            crowd.send(writer, &out);
        }
        turn(&mut crowd, |at, arrival, _| match arrival {
            Arrival::Frame(payload) => match ReplyHeader::decode(&mut Reader::new(payload)) {
                Ok(header) if header.code == 0 => done += 1,
                Ok(header) => failed = Some(code_name(header.code)),
                Err(error) => failed = Some(error.to_string()),
            },
            Arrival::Closed if at == watcher => lost = true,
            Arrival::Closed => failed = Some("the writer was closed".to_owned()),
        })?;
    }
    let fired = begun.elapsed();
    crowd.set_deaf(watcher, false).map_err(|error| error.to_string())?;
    let mut delay = histogram();
    let (mut events, mut odd) = (0, 0);
    let begun = Instant::now();
    while events < watching && !lost && begun.elapsed() < PATIENCE {
        turn(&mut crowd, |_, arrival, _| match arrival {
            Arrival::Frame(payload) => {
                let mut reader = Reader::new(payload);
                let header = ReplyHeader::decode(&mut reader).is_ok_and(|header| header.xid == XID_NOTIFICATION);
                let event = WatcherEvent::decode(&mut reader);
                // In the order of the creates, so the next one is known.
                let expected = event.is_ok_and(|event| {
                    event.kind == EventType::NodeCreated.raw() && watch.node_of(&event.path) == Some(events)
                });
                odd += u32::from(!header || !expected);
                events += 1;
                delay.saturating_record(begun.elapsed().as_nanos() as u64);
            }
            Arrival::Closed => lost = true,
        })?;
    }
    let mut told = Told::new(format!(
        "{} watches of one client in {:.1} s{}, {} MiB of memory; {watching} of one client fired in {:.1} s without \
         being read; then {events} events in {:.1} s{}",
        flood.watches,
        registered.as_secs_f64(),
        flood.refusal.as_ref().map_or_else(String::new, |said| format!(", then the server said {said}")),
        ground::mib(grown),
        fired.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        if lost { "; then the server had cut it off" } else { "" }
    ));
    told.demand(failed.is_none(), || format!("a write failed: {}", failed.unwrap_or_default()));
    told.demand(done == 2 * watching, || format!("{done} of {} writes done", 2 * watching));
    told.demand(odd == 0, || format!("{odd} events were not the next one"));
    told.demand(events == watching || lost, || format!("{events} of {watching} events, and the connection is open"));
    told.demand(0 < watching, || "not one watch was left".to_owned());
    clear(&mut conn, &folder)?;
    must(&mut conn, "closing", &Request::CloseSession)?;
    Ok(told)
}
