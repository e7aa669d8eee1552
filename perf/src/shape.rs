//! Shapes: what is asked for, with how much data, by how many clients, how deep. Written `create-100:128x32`.
//!
//! `OP-SIZE:CLIENTSxPIPELINE[@RATE]`, with the sizes `100`, `1k` or any number of bytes. With a rate, requests are
//! due at fixed times whatever the server does (open loop); without, every reply makes room for a request.

use crate::limits::{CLIENTS_MAX, DATA_BYTES_MAX, PIPELINE_MAX};
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
}

impl Work {
    const ALL: [(Work, &'static str); 5] = [
        (Work::Ping, "ping"),
        (Work::Create, "create"),
        (Work::Set, "set"),
        (Work::Get, "get"),
        (Work::Mixed, "mixed"),
    ];

    /// Its name in the text form of a shape.
    pub fn name(self) -> &'static str {
        Work::ALL.iter().find(|(work, _)| *work == self).map_or("?", |(_, name)| name)
    }

    /// Whether it works on znodes that have to be there before.
    pub fn needs_keys(self) -> bool {
        matches!(self, Work::Set | Work::Get | Work::Mixed)
    }
}

/// One row of the comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// What is asked for.
    pub work: Work,
    /// The data of a znode. 0 for pings only.
    pub data_bytes: usize,
    /// Connections.
    pub clients: u32,
    /// Requests in flight on each connection at most.
    pub pipeline: u32,
    /// Requests per second over all connections; `None` is the closed loop.
    pub rate: Option<u32>,
}

/// Clients and pipeline of the comparison's matrix.
pub const MATRIX: [(u32, u32); 5] = [(1, 1), (16, 1), (128, 1), (16, 32), (128, 32)];

/// Every shape of the comparison: the matrix for each kind of work, the ping that single writes are judged by, and a
/// fixed rate that every server can keep up with, which shows latency without queues.
pub fn all() -> Vec<Shape> {
    let works = [
        (Work::Create, 100),
        (Work::Create, 1024),
        (Work::Set, 100),
        (Work::Set, 1024),
        (Work::Get, 1024),
        (Work::Mixed, 1024),
    ];
    let mut shapes = vec![Shape { work: Work::Ping, data_bytes: 0, clients: 1, pipeline: 1, rate: None }];
    for (work, data_bytes) in works {
        for (clients, pipeline) in MATRIX {
            shapes.push(Shape { work, data_bytes, clients, pipeline, rate: None });
        }
    }
    shapes.push(Shape { work: Work::Mixed, data_bytes: 1024, clients: 64, pipeline: 32, rate: Some(20_000) });
    shapes
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.work.name())?;
        match self.data_bytes {
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
            .ok_or_else(|| wrong("ping, create, set, get or mixed in front"))?;
        let data_bytes = match size.strip_suffix('k') {
            Some(count) => count.parse::<usize>().ok().and_then(|count| count.checked_mul(1024)),
            None => size.parse::<usize>().ok(),
        };
        let data_bytes = data_bytes
            .filter(|bytes| match work {
                Work::Ping => *bytes == 0,
                _ => (STAMP_BYTES..=DATA_BYTES_MAX).contains(bytes),
            })
            .ok_or_else(|| wrong(&format!("a size of {STAMP_BYTES} to {DATA_BYTES_MAX} bytes (none for ping)")))?;
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
        Ok(Shape { work, data_bytes, clients, pipeline, rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read_back_from_its_text() {
        let shapes = all();
        assert_eq!(shapes.len(), 32);
        for shape in shapes {
            assert_eq!(shape.to_string().parse::<Shape>(), Ok(shape));
        }
        let odd = Shape { work: Work::Set, data_bytes: 700, clients: 3, pipeline: 2, rate: Some(5) };
        assert_eq!(odd.to_string(), "set-700:3x2@5");
        assert_eq!("set-700:3x2@5".parse::<Shape>(), Ok(odd));
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("create-100", "OP-SIZE"),
            ("drop-100:1x1", "ping, create"),
            ("create-3:1x1", "a size of"),
            ("create:1x1", "a size of"),
            ("ping-100:1x1", "a size of"),
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
