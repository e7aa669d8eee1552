//! Which znodes the server may delete by itself: containers that have no child any more, and znodes whose time to live has
//! passed.
//!
//! Only candidates are listed, so that looking for them costs what is found and not what the tree holds: a znode enters a
//! list when its last child goes and leaves it with its next one. Knows no clock: the caller says what time it is.

use std::collections::BTreeSet;

use super::{NodeKind, NodeVersion};

/// The lists of one overlay, by znode slot. The first number orders each.
#[derive(Debug, Default)]
pub(super) struct Reapable {
    /// Containers that had children and have none.
    emptied: BTreeSet<(i64, u32)>,
    /// Containers that never had one, by when their data was set last, ms.
    unused: BTreeSet<(i64, u32)>,
    /// Childless znodes with a time to live, by when it ends, ms.
    expiring: BTreeSet<(i64, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Emptied,
    Unused,
    Expiring,
}

/// Whether a znode of this version may go: see [`Reapable::due`].
pub(super) fn is_due(version: &NodeVersion, now_ms: i64, never_used_ms: i64, with_ttl: bool) -> bool {
    match place(version) {
        None => false,
        Some((List::Emptied, _)) => true,
        Some((List::Unused, mtime_ms)) => is_unused(mtime_ms, now_ms, never_used_ms),
        Some((List::Expiring, until_ms)) => with_ttl && until_ms < now_ms,
    }
}

fn is_unused(mtime_ms: i64, now_ms: i64, never_used_ms: i64) -> bool {
    0 < never_used_ms && never_used_ms < now_ms.saturating_sub(mtime_ms)
}

/// Where a znode of this version stands (`semantics.md` 7.2).
fn place(version: &NodeVersion) -> Option<(List, i64)> {
    if 0 < version.children {
        return None;
    }
    match version.kind() {
        NodeKind::Persistent | NodeKind::Ephemeral(_) => None,
        NodeKind::Container if 0 < version.children_created => Some((List::Emptied, 0)),
        NodeKind::Container => Some((List::Unused, version.mtime_ms)),
        // A time to live of zero, which no server writes, never ends.
        NodeKind::Ttl(0) => None,
        NodeKind::Ttl(ttl_ms) => Some((List::Expiring, version.mtime_ms.saturating_add(ttl_ms))),
    }
}

impl Reapable {
    /// A znode went from one version to another; `None`: it was not there, or is not any more.
    pub fn moved(&mut self, slot: u32, before: Option<&NodeVersion>, after: Option<&NodeVersion>) {
        let (before, after) = (before.and_then(place), after.and_then(place));
        if before == after {
            return;
        }
        if let Some((list, key)) = before {
            let removed = self.list(list).remove(&(key, slot));
            assert!(removed, "a znode that may be reaped was not listed");
        }
        if let Some((list, key)) = after {
            self.list(list).insert((key, slot));
        }
    }

    fn list(&mut self, list: List) -> &mut BTreeSet<(i64, u32)> {
        match list {
            List::Emptied => &mut self.emptied,
            List::Unused => &mut self.unused,
            List::Expiring => &mut self.expiring,
        }
    }

    /// The slots that may go now. `never_used_ms`: containers that never had a child go when they are older; 0: never.
    /// `with_ttl`: znodes with a time to live, too.
    pub fn due(&self, now_ms: i64, never_used_ms: i64, with_ttl: bool) -> impl Iterator<Item = u32> {
        let unused = self.unused.iter().take_while(move |(mtime_ms, _)| is_unused(*mtime_ms, now_ms, never_used_ms));
        let expired = self.expiring.iter().take_while(move |(until_ms, _)| with_ttl && *until_ms < now_ms);
        // In turn, so that a client that keeps emptying containers holds up nothing else.
        let (mut emptied, mut unused, mut expired) = (self.emptied.iter(), unused, expired);
        let mut turn = 0;
        std::iter::from_fn(move || {
            for _ in 0..3 {
                turn = (turn + 1) % 3;
                let next = match turn {
                    0 => emptied.next(),
                    1 => unused.next(),
                    _ => expired.next(),
                };
                if let Some((_, slot)) = next {
                    return Some(*slot);
                }
            }
            None
        })
    }

    /// Memory held, in bytes, about.
    pub fn memory_bytes(&self) -> usize {
        (self.emptied.len() + self.unused.len() + self.expiring.len()) * 2 * size_of::<(i64, u32)>()
    }
}
