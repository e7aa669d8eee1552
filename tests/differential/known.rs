//! The differences we know and want, each with its reason. Everything else that differs is a fault.
//!
//! An entry excuses one pair of lines: what Java did, and what Zorilla did. Its predicate is as narrow as it can be, because what
//! it lets through is not looked at again. A difference after which the trees themselves would differ cannot be listed
//! here: the generator does not make it, and `tests/differential/alone.rs` checks our side by itself.

use std::collections::BTreeMap;

use crate::profile::Profile;

/// How often each entry was needed.
pub type Uses = BTreeMap<&'static str, u64>;

pub struct Known {
    pub name: &'static str,
    pub reason: &'static str,
    excuses: fn(&Profile, java: &str, ours: &str) -> bool,
}

pub const KNOWN: &[Known] = &[
    Known {
        name: "multiRead-body",
        reason: "Java sends the results so far, which nobody reads, behind the error of a multiRead that failed as a whole",
        excuses: |_, java, ours| {
            ours.starts_with("multiRead ")
                && ours.ends_with(" err=-5")
                && java.starts_with(ours)
                && java[ours.len()..].starts_with(" and then ")
        },
    },
    Known {
        name: "utf-8",
        reason: "Java writes a character beyond U+FFFF as two surrogates of three bytes each, which is no UTF-8",
        excuses: |_, java, ours| java.contains("\"cesu:") && java.replace("\"cesu:", "\"") == ours,
    },
    Known {
        name: "deleteContainer",
        reason: "Java lets every client delete empty znodes without permission; we refuse the request as such",
        excuses: |_, java, ours| {
            let refused = |line: &str| {
                line.split(" -> ").nth(1).and_then(|reply| reply.rsplit_once(" err=-")).map(|(head, _)| head.to_owned())
            };
            java.starts_with("deleteContainer ")
                && ours.ends_with(" err=-102")
                && refused(java).is_some()
                && refused(java) == refused(ours)
        },
    },
];

/// A difference that is no pair of lines: the optimized watch manager of Java numbers the connections of its two tables apart
/// and takes the numbers of one for those of the other when a znode is deleted, so that a connection hears of it twice or not
/// at all. Events of deletions are not compared in its profile.
pub const OPTIMIZED_DELETIONS: &str = "optimized-deletions";

/// Whether a line can be compared.
pub fn is_comparable(profile: &Profile, line: &str) -> bool {
    profile.name != "oneshot" || !line.starts_with("event 2 deleted ")
}

/// The entry that excuses a pair, if one does.
pub fn excuse(profile: &Profile, java: &str, ours: &str) -> Option<&'static str> {
    KNOWN.iter().find(|known| (known.excuses)(profile, java, ours)).map(|known| known.name)
}
