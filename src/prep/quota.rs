//! Whether a write would exceed the hard limits of a quota (`semantics.md` 10.4).
//!
//! What is not applied yet counts: the reference looks only at what is, so that a burst of writes passes any limit.

use zorilla_proto::code::Code;

use super::{Counted, View};
use crate::tree::quota::Quota;

/// QUOTAEXCEEDED if the quota of `path` has no room for what a write adds. Limits or counts that are missing or cannot be
/// read limit nothing.
pub fn check(view: &impl View, path: &str, added: Counted) -> Result<(), Code> {
    let Some((subject, quota)) = view.applied().quota(path) else { return Ok(()) };
    let Quota { limits: Some(limits), stats: Some(stats) } = quota else { return Ok(()) };
    let ahead = view.counted_ahead(subject);
    let exceeds = |limit: i64, is: i64, ahead: i64, added: i64| {
        added != 0 && -1 < limit && limit < is.saturating_add(ahead).saturating_add(added)
    };
    let too_many = exceeds(limits.count_hard(), stats.count, ahead.count, added.count);
    let too_large = exceeds(limits.bytes_hard(), stats.bytes, ahead.bytes, added.bytes);
    if too_many || too_large { Err(Code::QuotaExceeded) } else { Ok(()) }
}
