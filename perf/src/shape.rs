//! Shapes: what is asked for, with how much data, by how many clients, how deep. Written `create-100:128x32`.
//!
//! `OP-SIZE:CLIENTSxPIPELINE[@RATE]`, with the sizes `100`, `1k` or any number of bytes. With a rate, requests are
//! due at fixed times whatever the server does (open loop); without, every reply makes room for a request.
//!
//! Watches and sessions come in rounds instead, the same work done again and again: `watches:100x100` are 100
//! connections with 100 watched znodes each, `sessions:2000x64` are 2,000 handshakes of which 64 are under way.

use crate::limits::{CHILDREN_MAX, CLIENTS_MAX, DATA_BYTES_MAX, PIPELINE_MAX};
use crate::wire::STAMP_BYTES;
use std::fmt;
use std::str::FromStr;

/// What the clients of a run ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Pings: the price of a round trip.
    Ping,
    /// New znodes.
    Create,
    /// New data for znodes that are there.
    Set,
    /// Data of znodes that are there.
    Get,
    /// Nine gets to one set.
    Mixed,
    /// Transactions of [`MULTI_CREATES`] creates each; a request is one of them.
    Multi,
    /// An ephemeral is created, then the one before it deleted, so that a session holds few of them.
    Ephemeral,
    /// Stats of znodes that are there.
    Exists,
    /// Names of the children of one znode.
    Children,
    /// In rounds: every connection watches znodes of its own, and each of them is set once.
    Watches,
    /// In rounds: all connections watch the same znodes, and each of them is set once.
    SharedWatches,
    /// In rounds: sessions are opened.
    Sessions,
}

/// Creates in one request of `multi10`.
pub const MULTI_CREATES: u32 = 10;

/// Data of znodes whose size does not matter to what is measured.
const SMALL_BYTES: usize = 100;

impl Work {
    const ALL: [(Work, &'static str); 12] = [
        (Work::Ping, "ping"),
        (Work::Create, "create"),
        (Work::Set, "set"),
        (Work::Get, "get"),
        (Work::Mixed, "mixed"),
        (Work::Multi, "multi10"),
        (Work::Ephemeral, "ephemeral"),
        (Work::Exists, "exists"),
        (Work::Children, "children"),
        (Work::Watches, "watches"),
        (Work::SharedWatches, "sharedwatches"),
        (Work::Sessions, "sessions"),
    ];

    /// Its name in the text form of a shape.
    pub fn name(self) -> &'static str {
        Work::ALL.iter().find(|(work, _)| *work == self).map_or("?", |(_, name)| name)
    }

    /// Whether it works on znodes that have to be there before.
    pub fn needs_keys(self) -> bool {
        matches!(self, Work::Set | Work::Get | Work::Mixed | Work::Exists)
    }

    /// Whether every connection writes below a znode of its own.
    pub fn needs_folders(self) -> bool {
        matches!(self, Work::Create | Work::Multi | Work::Ephemeral)
    }

    /// Whether it is done in rounds instead of as a stream of requests.
    pub fn is_rounds(self) -> bool {
        matches!(self, Work::Watches | Work::SharedWatches | Work::Sessions)
    }

    /// Whether the floor, which has no tree and no watches, can do it.
    pub fn runs_on_floor(self) -> bool {
        !matches!(self, Work::Children | Work::Watches | Work::SharedWatches)
    }

    /// The sizes that may stand behind its name; 0 stands for none.
    fn sizes(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Work::Ping | Work::Exists | Work::Watches | Work::SharedWatches | Work::Sessions => 0..=0,
            Work::Children => 1..=CHILDREN_MAX,
            Work::Multi => STAMP_BYTES..=DATA_BYTES_MAX / MULTI_CREATES as usize,
            _ => STAMP_BYTES..=DATA_BYTES_MAX,
        }
    }
}

/// One row of the comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// What is asked for.
    pub work: Work,
    /// The number behind the name: the data of a znode; of `children`, how many there are; 0 where there is none.
    pub size: usize,
    /// Connections.
    pub clients: u32,
    /// Requests in flight on each connection at most; of watches, how many each connection has; of sessions, how many
    /// handshakes are under way.
    pub pipeline: u32,
    /// Requests per second over all connections; `None` is the closed loop.
    pub rate: Option<u32>,
}

impl Shape {
    /// The data of the znodes it works with.
    pub fn data_bytes(&self) -> usize {
        if self.work == Work::Children || self.size == 0 { SMALL_BYTES } else { self.size }
    }
}

/// Clients and pipeline of the comparison's matrix.
pub const MATRIX: [(u32, u32); 5] = [(1, 1), (16, 1), (128, 1), (16, 32), (128, 32)];

/// Every shape of the comparison: the matrix for each kind of work, the ping that single writes are judged by, a
/// fixed rate that every server can keep up with, which shows latency without queues, and the rounds.
pub fn all() -> Vec<Shape> {
    let works = [
        (Work::Create, 100),
        (Work::Create, 1024),
        (Work::Set, 100),
        (Work::Set, 1024),
        (Work::Get, 1024),
        (Work::Mixed, 1024),
        (Work::Multi, 100),
        (Work::Ephemeral, 100),
        (Work::Exists, 0),
        (Work::Children, 100),
    ];
    let shape = |work, size, clients, pipeline| Shape { work, size, clients, pipeline, rate: None };
    let mut shapes = vec![shape(Work::Ping, 0, 1, 1)];
    for (work, size) in works {
        for (clients, pipeline) in MATRIX {
            shapes.push(shape(work, size, clients, pipeline));
        }
    }
    shapes.push(Shape { rate: Some(20_000), ..shape(Work::Mixed, 1024, 64, 32) });
    // 10,000 watches over 100 connections, on as many znodes and on 100; 2,000 sessions, some and all at once.
    shapes.push(shape(Work::Watches, 0, 100, 100));
    shapes.push(shape(Work::SharedWatches, 0, 100, 100));
    shapes.push(shape(Work::Sessions, 0, 2_000, 64));
    shapes.push(shape(Work::Sessions, 0, 2_000, 2_000));
    shapes
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.work.name())?;
        match self.size {
            0 => {}
            bytes if bytes.is_multiple_of(1024) => write!(out, "-{}k", bytes / 1024)?,
            bytes => write!(out, "-{bytes}")?,
        }
        write!(out, ":{}x{}", self.clients, self.pipeline)?;
        match self.rate {
            Some(rate) => write!(out, "@{rate}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let wrong = |what: &str| {
            format!("shape \"{text}\": expected {what}, as in create-100:128x32, get-1k:16x1 or mixed-1k:64x32@20000")
        };
        let (what, how) = text.split_once(':').ok_or_else(|| wrong("OP-SIZE:CLIENTSxPIPELINE"))?;
        let (name, size) = what.split_once('-').unwrap_or((what, "0"));
        let (work, _) = Work::ALL
            .into_iter()
            .find(|(_, known)| *known == name)
            .ok_or_else(|| wrong(&format!("one of {} in front", Work::ALL.map(|(_, name)| name).join(", "))))?;
        let size = match size.strip_suffix('k') {
            Some(count) => count.parse::<usize>().ok().and_then(|count| count.checked_mul(1024)),
            None => size.parse::<usize>().ok(),
        };
        let sizes = work.sizes();
        let size = size.filter(|size| sizes.contains(size)).ok_or_else(|| match sizes.end() {
            0 => wrong(&format!("no size behind {name}")),
            _ => wrong(&format!("a size of {} to {} behind {name}", sizes.start(), sizes.end())),
        })?;
        let (counts, rate) = match how.split_once('@') {
            Some((counts, rate)) => (counts, Some(rate)),
            None => (how, None),
        };
        let within = |text: &str, max: u32| text.parse::<u32>().ok().filter(|count| (1..=max).contains(count));
        let (clients, pipeline) = counts.split_once('x').ok_or_else(|| wrong("CLIENTSxPIPELINE"))?;
        let clients = within(clients, CLIENTS_MAX).ok_or_else(|| wrong(&format!("1 to {CLIENTS_MAX} clients")))?;
        let pipeline =
            within(pipeline, PIPELINE_MAX).ok_or_else(|| wrong(&format!("a pipeline of 1 to {PIPELINE_MAX}")))?;
        let rate = match rate {
            None => None,
            Some(rate) => {
                Some(within(rate, 100_000_000).ok_or_else(|| wrong("a rate of 1 to 100000000 requests per second"))?)
            }
        };
        if work.is_rounds() && rate.is_some() {
            return Err(wrong(&format!("no rate behind {name}, which comes in rounds")));
        }
        Ok(Shape { work, size, clients, pipeline, rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read_back_from_its_text() {
        let shapes = all();
        assert_eq!(shapes.len(), 56);
        for shape in shapes {
            assert_eq!(shape.to_string().parse::<Shape>(), Ok(shape));
        }
        let odd = Shape { work: Work::Set, size: 700, clients: 3, pipeline: 2, rate: Some(5) };
        assert_eq!(odd.to_string(), "set-700:3x2@5");
        assert_eq!("set-700:3x2@5".parse::<Shape>(), Ok(odd));
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("create-100", "OP-SIZE"),
            ("drop-100:1x1", "ping, create"),
            ("exists-100:1x1", "no size"),
            ("children-5000:1x1", "1 to 4096"),
            ("multi10-300k:1x1", "a size of"),
            ("sessions:9x3@5", "no rate"),
            ("create-3:1x1", "a size of"),
            ("create:1x1", "a size of"),
            ("ping-100:1x1", "no size"),
            ("create-99999999999999999999k:1x1", "a size of"),
            ("create-100:0x1", "clients"),
            ("create-100:1x0", "pipeline"),
            ("create-100:11", "CLIENTSxPIPELINE"),
            ("create-100:1x1@0", "a rate"),
        ] {
            let error = text.parse::<Shape>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
