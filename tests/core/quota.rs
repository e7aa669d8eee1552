//! Quotas in the naive server (`semantics.md` 10): two znodes of text beside each other, and what they count.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::model::{State, parent};

const ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";

/// What one of the two znodes says, key by key.
struct Track(BTreeMap<String, i64>);

impl Track {
    fn parse(text: &[u8]) -> Option<Track> {
        let text = std::str::from_utf8(text).ok()?;
        let mut track = BTreeMap::new();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let mut parts = pair.split('=');
            let key = parts.next().unwrap_or_default().to_owned();
            track.insert(key, parts.next()?.parse().ok()?);
        }
        Some(Track(track))
    }

    fn get(&self, key: &str) -> i64 {
        self.0.get(key).copied().unwrap_or(-1)
    }

    fn text(&self) -> String {
        let mut text = format!("count={},bytes={}", self.get("count"), self.get("bytes"));
        let others: Vec<_> = self.0.iter().filter(|(key, _)| *key != "count" && *key != "bytes").collect();
        if !others.is_empty() {
            text += "=";
        }
        for (key, number) in others {
            text += &format!(";{key}={number}");
        }
        text
    }
}

fn track(state: &State, subject: &str, name: &str) -> Option<Track> {
    let node = state.find(&format!("{ROOT}{subject}{name}"))?;
    Track::parse(node.data.as_deref().unwrap_or_default())
}

/// The deepest of a path and its ancestors that has a quota.
fn subject<'a>(state: &State, path: &'a str) -> Option<&'a str> {
    let mut at = path;
    while !at.is_empty() && at != "/" {
        if state.nodes.contains_key(&format!("{ROOT}{at}{LIMITS}")) {
            return Some(at);
        }
        at = parent(at).unwrap_or_default();
    }
    None
}

/// Follows a change that was just made at `path`.
pub fn count(state: &mut State, path: &str, count: i64, bytes: i64) {
    if count == 1
        && let Some(about) = path.strip_prefix(ROOT).and_then(|path| path.strip_suffix(STATS))
        && !about.is_empty()
    {
        let below = format!("{about}/");
        let inside = state.nodes.iter().filter(|(path, _)| *path == about || path.starts_with(&below));
        let lengths: Vec<usize> = inside.map(|(_, node)| node.data.as_ref().map_or(0, Vec::len)).collect();
        let text = format!("count={},bytes={}", lengths.len(), lengths.iter().sum::<usize>());
        store(state, about, text);
    }
    let Some(subject) = subject(state, path) else { return };
    let Some(mut track) = track(state, subject, STATS) else { return };
    let sums = (track.get("count").wrapping_add(count), track.get("bytes").wrapping_add(bytes));
    track.0.insert("count".to_owned(), sums.0);
    track.0.insert("bytes".to_owned(), sums.1);
    store(state, subject, track.text());
}

fn store(state: &mut State, subject: &str, text: String) {
    let node = state.nodes.get_mut(&format!("{ROOT}{subject}{STATS}")).expect("it was just found");
    Rc::make_mut(node).data = Some(text.into_bytes());
}

/// Whether a write that adds this much would pass a hard limit.
pub fn is_exceeded(state: &State, path: &str, count: i64, bytes: i64) -> bool {
    let Some(subject) = subject(state, path) else { return false };
    let (limits, stats) = (track(state, subject, LIMITS), track(state, subject, STATS));
    let (Some(limits), Some(stats)) = (limits, stats) else { return false };
    let passes = |limit: i64, is: i64, added: i64| added != 0 && -1 < limit && limit < is.saturating_add(added);
    passes(limits.get("countHardLimit"), stats.get("count"), count)
        || passes(limits.get("byteHardLimit"), stats.get("bytes"), bytes)
}

/// Whether a path has a quota that could be passed.
pub fn limits(state: &State, path: &str) -> bool {
    let limits = subject(state, path).and_then(|subject| track(state, subject, LIMITS));
    limits.is_some_and(|limits| limits.get("countHardLimit").max(limits.get("byteHardLimit")) != -1)
}

/// Whether a change of `changed` may decide which quota `path`, or a neighbour that counts for the same one, has, and what
/// it allows: quotas that come or go in a subtree at the root.
pub fn decides(changed: &str, path: &str) -> bool {
    let Some(about) = changed.strip_prefix(ROOT) else { return false };
    let subject = about.strip_suffix(LIMITS).or_else(|| about.strip_suffix(STATS));
    subject.is_some_and(|subject| subject.split('/').nth(1) == path.split('/').nth(1))
}
