//! What two servers may differ in, given common names: zxids, session ids, times.
//!
//! A zxid is its distance from the beginning of the stream. Where a server acts by its own clock (expiry, the reaper), the
//! distance is unknowable: such a time is a window, every zxid inside it has the window's name, and counting begins
//! again behind it.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::wire::{Item, Part};

/// One server's side of a stream.
#[derive(Debug, Default)]
pub struct Norm {
    /// The zxid after which each stretch begins; stretches alternate between counted and windows.
    bounds: Vec<i64>,
    sessions: HashMap<i64, String>,
    times: HashMap<i64, i64>,
    /// Zxids under which a server deletes several znodes in an order of its own.
    unordered: Vec<i64>,
}

impl Norm {
    /// A stream begins after `zxid`.
    pub fn new(zxid: i64) -> Norm {
        Norm { bounds: vec![zxid], ..Norm::default() }
    }

    /// A window begins, or ends, after `zxid`.
    pub fn bound(&mut self, zxid: i64) {
        self.bounds.push(zxid);
    }

    pub fn name_session(&mut self, session: i64, name: &str) {
        self.sessions.entry(session).or_insert_with(|| name.to_owned());
    }

    pub fn unordered(&mut self, zxid: i64) {
        self.unordered.push(zxid);
    }

    fn is_window(&self, zxid: i64) -> bool {
        self.bounds.iter().filter(|bound| **bound < zxid).count() % 2 == 0 && self.bounds[0] < zxid
    }

    pub fn zxid(&self, zxid: i64) -> String {
        if zxid <= 0 {
            return zxid.to_string();
        }
        let index = self.bounds.iter().filter(|bound| **bound < zxid).count();
        match index {
            0 => "old".to_owned(),
            _ if index % 2 == 0 => format!("w{index}"),
            1 => format!("+{}", zxid - self.bounds[0]),
            _ => format!("+{}after{index}", zxid - self.bounds[index - 1]),
        }
    }

    fn parts(&mut self, parts: &[Part]) -> String {
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Zxid(zxid) => out.push_str(&self.zxid(*zxid)),
                Part::Session(0) => out.push('0'),
                Part::Session(id) => {
                    let _ = match self.sessions.get(id) {
                        Some(name) => write!(out, "<{name}>"),
                        // The high byte of a TTL owner or a container would show here.
                        None => write!(out, "<strange {:#x}>", *id as u64 >> 56),
                    };
                }
                Part::Time { zxid, ms } => {
                    // Times say when, and cannot agree; that one transaction has one time can.
                    let known = *self.times.entry(*zxid).or_insert(*ms);
                    if known != *ms {
                        let _ = write!(out, " TWO TIMES for {}", self.zxid(*zxid));
                    }
                }
            }
        }
        out
    }

    /// The items as lines that must be equal on both servers. Stretches of events whose order means nothing are sorted.
    pub fn render(&mut self, items: &[Item]) -> Vec<String> {
        let mut lines: Vec<(bool, String)> = Vec::new();
        for item in items {
            let line = match item {
                Item::Reply(reply) => {
                    let body = self.parts(&reply.body);
                    format!(
                        "{} -> xid={} zx={} err={}{body}",
                        reply.asked,
                        reply.xid,
                        self.zxid(reply.zxid),
                        reply.code
                    )
                }
                Item::Event { zxid, text } => format!("{text} zx={}", self.zxid(*zxid)),
                Item::Fence { zxid } => format!("fence zx={}", self.zxid(*zxid)),
                Item::Connected(parts) => format!("connected {}", self.parts(parts)),
                Item::Closed => "closed".to_owned(),
                Item::Silent => "silent".to_owned(),
                Item::Odd(text) => format!("odd: {text}"),
            };
            let sortable =
                matches!(item, Item::Event { zxid, .. } if self.is_window(*zxid) || self.unordered.contains(zxid));
            lines.push((sortable, line));
        }
        for stretch in lines.chunk_by_mut(|a, b| a.0 && b.0) {
            stretch.sort();
        }
        lines.into_iter().map(|(_, line)| line).collect()
    }
}
