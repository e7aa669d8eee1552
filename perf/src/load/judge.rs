//! Replies, judged one by one: order, zxids, codes, and bodies that belong to their requests.

use super::{CHILD, Kind, Pending, Timeline};
use crate::stats::Tally;
use crate::wire::{self, PRELOADED, Template};
use std::collections::VecDeque;
use zorilla_proto::client::{ReplyHeader, XID_NOTIFICATION};
use zorilla_proto::jute::Reader;

/// What the replies of one connection are judged by.
pub(super) struct Judged<'a> {
    pub(super) pending: &'a mut VecDeque<Pending>,
    pub(super) last_zxid: &'a mut i64,
    pub(super) last_write_zxid: &'a mut i64,
    pub(super) inexact: &'a mut bool,
    pub(super) creates: &'a Template,
    pub(super) clients: u32,
    /// Who made the znodes, if they belong to a tree that was there.
    pub(super) maker: Option<u32>,
    pub(super) filler: &'a [u8],
    pub(super) children: usize,
}

impl Judged<'_> {
    /// Takes the reply to the request that was sent first of those under way; an error says what is wrong with it.
    #[inline]
    pub(super) fn reply(self, payload: &[u8], now: u64, timeline: &Timeline, tally: &mut Tally) -> Result<(), String> {
        let header = ReplyHeader::decode(&mut Reader::new(payload)).map_err(|error| error.to_string())?;
        let body = &payload[ReplyHeader::BYTES..];
        if header.xid == XID_NOTIFICATION {
            return Err("a notification, though no watch was set".to_owned());
        }
        let Some(pending) = self.pending.pop_front() else {
            return Err(format!("a reply with xid {} to no request", header.xid));
        };
        if header.xid != pending.xid {
            return Err(format!("a reply with xid {}, expected {}", header.xid, pending.xid));
        }
        if header.zxid < *self.last_zxid {
            return Err(format!("the zxid fell from {:#x} to {:#x}", self.last_zxid, header.zxid));
        }
        *self.last_zxid = header.zxid;
        if header.code != 0 {
            if !body.is_empty() {
                return Err(format!("{} with a body", wire::code_name(header.code)));
            }
            *self.inexact = true;
            *tally.errors.entry(header.code).or_default() += 1;
            return Ok(());
        }
        match pending.kind {
            Kind::Create => self.creates.check_created(body, pending.stamp.node)?,
            Kind::Set => {
                let version = (!*self.inexact).then_some(pending.stamp.sequence);
                wire::check_set(body, header.zxid, self.filler.len(), version)?;
            }
            Kind::Get | Kind::GetOwn => {
                let found = wire::check_got(body, self.filler, pending.stamp.node, header.zxid)?;
                let (owner, maker) = match self.maker {
                    // Only their own connection reads them.
                    Some(maker) => (pending.stamp.writer, maker),
                    None => (pending.stamp.node % self.clients, PRELOADED),
                };
                let writer = if found.sequence == 0 { maker } else { owner };
                if found.writer != writer {
                    return Err(format!("get: node {:08x} was written by {}", found.node, found.writer));
                }
                if pending.kind == Kind::GetOwn && !*self.inexact && found.sequence != pending.stamp.sequence {
                    return Err(format!(
                        "get: node {:08x} shows write {} of this connection, not its latest, {}",
                        found.node, found.sequence, pending.stamp.sequence
                    ));
                }
            }
            Kind::Exists => wire::check_exists(body, header.zxid, self.filler.len())?,
            Kind::Children => wire::check_children(body, CHILD, self.children)?,
            Kind::Ping | Kind::KeepAlive | Kind::Close | Kind::Delete => {
                if !body.is_empty() {
                    return Err(format!("{:?} was answered with a body", pending.kind));
                }
            }
        }
        if matches!(pending.kind, Kind::KeepAlive | Kind::Close) {
            return Ok(());
        }
        if matches!(pending.kind, Kind::Create | Kind::Set | Kind::Delete) {
            if header.zxid <= *self.last_write_zxid {
                return Err(format!("a write has {:#x}, the one before {:#x}", header.zxid, self.last_write_zxid));
            }
            *self.last_write_zxid = header.zxid;
            tally.stalls.record(pending.due_ns, now);
        }
        tally.succeeded += 1;
        tally.last_reply_ns = now;
        if timeline.window_from_ns <= now && now < timeline.window_until_ns {
            tally.success(now - timeline.window_from_ns, now.saturating_sub(pending.due_ns));
        }
        Ok(())
    }
}
