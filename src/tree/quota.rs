//! Quotas: which subtrees have one, and the text that limits and counts are kept in (`semantics.md` 10).
//!
//! The limits of a subtree `/p` stand in `/zookeeper/quota/p/zookeeper_limits`, what it holds in `…/zookeeper_stats` beside
//! it. Both are znodes that clients create; the server learns of a quota when the first comes, and keeps the second up to
//! date by itself.

use std::collections::BTreeMap;
use std::fmt::Write;

use hashbrown::HashMap;

use crate::limits::QUOTA_TEXT_BYTES_MAX;

/// Below it stand limits and counts.
pub const ROOT: &str = "/zookeeper/quota";
/// The name of the znode that holds the limits of a subtree.
pub const LIMITS: &str = "zookeeper_limits";
/// The name of the znode that holds what a subtree counts.
pub const STATS: &str = "zookeeper_stats";

/// The subtree that a znode below [`ROOT`] is about: `/p` for `/zookeeper/quota/p` and its child. `None`: elsewhere, or about
/// the root, which has no quota.
pub fn subject(parent: &str) -> Option<&str> {
    parent.strip_prefix(ROOT).filter(|subject| subject.starts_with('/'))
}

/// The most that a text has before its other keys.
const WIDEST_NUMBERS_BYTES: usize = "count=-9223372036854775808,bytes=-9223372036854775808=".len();

/// Limits, or counts: the same text. A number that is not set is −1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Znodes, the root of the subtree included: counted, or the soft limit.
    pub count: i64,
    /// Bytes of data: counted, or the soft limit.
    pub bytes: i64,
    count_hard: i64,
    bytes_hard: i64,
    /// All other keys as they are written, those of the hard limits among them: they never change, and a client that
    /// writes many of them gets no more memory than their text has.
    others: Box<str>,
}

impl Track {
    /// These counts.
    pub fn new(count: i64, bytes: i64) -> Track {
        Track { count, bytes, count_hard: -1, bytes_hard: -1, others: "".into() }
    }

    /// Reads `key=number` pairs, separated by any run of `,` and `;`. `None`: a pair has no number; or the text is longer
    /// than [`QUOTA_TEXT_BYTES_MAX`], or could become so when its counts change. What is read can thus always be written
    /// and read again.
    pub fn parse(text: &[u8]) -> Option<Track> {
        if QUOTA_TEXT_BYTES_MAX < text.len() {
            return None;
        }
        let text = str::from_utf8(text).ok()?;
        let mut track = Track::new(-1, -1);
        // In the order in which they are written.
        let mut others = BTreeMap::new();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let mut parts = pair.split('=');
            let key = parts.next()?;
            let number: i64 = parts.next()?.parse().ok()?;
            match key {
                "count" => track.count = number,
                "bytes" => track.bytes = number,
                _ => drop(others.insert(key, number)),
            }
        }
        if !others.is_empty() {
            let hard = |key| others.get(key).copied().unwrap_or(-1);
            (track.count_hard, track.bytes_hard) = (hard("countHardLimit"), hard("byteHardLimit"));
            let mut written = String::new();
            for (key, number) in &others {
                write!(written, ";{key}={number}").expect("a string takes all");
            }
            track.others = written.into();
        }
        (WIDEST_NUMBERS_BYTES + track.others.len() <= QUOTA_TEXT_BYTES_MAX).then_some(track)
    }

    /// The limit of the count that must not be exceeded; −1: none.
    pub fn count_hard(&self) -> i64 {
        self.count_hard
    }

    /// The limit of the bytes that must not be exceeded; −1: none.
    pub fn bytes_hard(&self) -> i64 {
        self.bytes_hard
    }

    /// The text. A `=` stands between the bytes and further keys, as in the reference.
    pub fn text(&self) -> String {
        let Track { count, bytes, others, .. } = self;
        let between = if others.is_empty() { "" } else { "=" };
        format!("count={count},bytes={bytes}{between}{others}")
    }
}

/// What is known of the quota of one subtree: what its two znodes say, read when they change and not with every write.
#[derive(Debug, Default)]
pub struct Quota {
    /// The limits. `None`: their text cannot be read.
    pub limits: Option<Track>,
    /// The counts. `None`: there are none, or their text cannot be read.
    pub stats: Option<Track>,
}

/// The subtrees that have a quota, component by component: a lookup costs one step per component of the path as long as it
/// follows a quota, however deep the path is.
#[derive(Debug)]
pub(super) struct Quotas {
    nodes: HashMap<u32, Part>,
    /// By the node above and the name.
    below: HashMap<(u32, Box<str>), u32>,
    next: u32,
    count: usize,
}

#[derive(Debug)]
struct Part {
    above: u32,
    name: Box<str>,
    children: u32,
    quota: Option<Box<Quota>>,
}

const TOP: u32 = 0;

impl Quotas {
    pub fn new() -> Quotas {
        Quotas { nodes: HashMap::new(), below: HashMap::new(), next: TOP + 1, count: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many subtrees have a quota.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Every subtree that has one.
    pub fn subjects(&self) -> Vec<String> {
        let mut subjects = Vec::with_capacity(self.count);
        for part in self.nodes.values().filter(|part| part.quota.is_some()) {
            let (mut subject, mut part) = (format!("/{}", part.name), part);
            while let Some(above) = self.nodes.get(&part.above) {
                subject.insert_str(0, &above.name);
                subject.insert(0, '/');
                part = above;
            }
            subjects.push(subject);
        }
        subjects
    }

    /// The quota of `subject`, which has one from now on.
    pub fn add(&mut self, subject: &str) -> &mut Quota {
        let mut at = TOP;
        for name in subject[1..].split('/') {
            at = match self.find(at, name) {
                Some(below) => below,
                None => {
                    let id = self.next;
                    self.next += 1;
                    self.below.insert((at, name.into()), id);
                    self.nodes.insert(id, Part { above: at, name: name.into(), children: 0, quota: None });
                    if let Some(above) = self.nodes.get_mut(&at) {
                        above.children += 1;
                    }
                    id
                }
            };
        }
        let part = self.nodes.get_mut(&at).expect("a subject has a component");
        self.count += usize::from(part.quota.is_none());
        part.quota.get_or_insert_default()
    }

    pub fn remove(&mut self, subject: &str) {
        let Some(mut at) = self.place(subject) else { return };
        let part = self.nodes.get_mut(&at).expect("a listed component has a place");
        self.count -= usize::from(part.quota.take().is_some());
        // What leads to no quota any more goes.
        while let Some(part) = self.nodes.get(&at)
            && part.children == 0
            && part.quota.is_none()
        {
            let Part { above, name, .. } = self.nodes.remove(&at).expect("it was just found");
            self.below.remove(&(above, name));
            at = above;
            if let Some(above) = self.nodes.get_mut(&at) {
                above.children -= 1;
            }
        }
    }

    /// The quota of `subject` itself.
    pub fn get_mut(&mut self, subject: &str) -> Option<&mut Quota> {
        let at = self.place(subject)?;
        self.nodes.get_mut(&at)?.quota.as_deref_mut()
    }

    /// The deepest subtree with a quota that `path` is the root or a part of, and its quota: only that one counts and limits.
    pub fn of<'p>(&self, path: &'p str) -> Option<(&'p str, &Quota)> {
        let (at, subject) = self.deepest(path)?;
        Some((subject, self.nodes[&at].quota.as_deref()?))
    }

    /// The same, to change it.
    pub fn of_mut<'p>(&mut self, path: &'p str) -> Option<(&'p str, &mut Quota)> {
        let (at, subject) = self.deepest(path)?;
        Some((subject, self.nodes.get_mut(&at)?.quota.as_deref_mut()?))
    }

    fn deepest<'p>(&self, path: &'p str) -> Option<(u32, &'p str)> {
        if self.is_empty() {
            return None;
        }
        let below = path.strip_prefix('/')?;
        let (mut at, mut end, mut deepest) = (TOP, 0, None);
        for name in below.split('/') {
            let Some(next) = self.find(at, name) else { break };
            at = next;
            end += 1 + name.len();
            if self.nodes[&at].quota.is_some() {
                deepest = Some((at, &path[..end]));
            }
        }
        deepest
    }

    fn place(&self, subject: &str) -> Option<u32> {
        subject[1..].split('/').try_fold(TOP, |at, name| self.find(at, name))
    }

    /// The key is borrowed for the lookup only.
    fn find(&self, above: u32, name: &str) -> Option<u32> {
        self.below.get(&Key(above, name)).copied()
    }
}

/// A borrowed key of `below`.
#[derive(Hash)]
struct Key<'a>(u32, &'a str);

impl hashbrown::Equivalent<(u32, Box<str>)> for Key<'_> {
    fn equivalent(&self, key: &(u32, Box<str>)) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_written_as_in_the_reference() {
        let limits = Track::parse(b"count=5,bytes=100=;byteHardLimit=20;countHardLimit=4").unwrap();
        assert_eq!((limits.count, limits.bytes, limits.count_hard(), limits.bytes_hard()), (5, 100, 4, 20));
        assert_eq!(limits.text(), "count=5,bytes=100=;byteHardLimit=20;countHardLimit=4");
        assert_eq!(Track::parse(b"bytes=7").unwrap().text(), "count=-1,bytes=7");
        assert_eq!(Track::parse(b"").unwrap(), Track::new(-1, -1));
        assert_eq!(Track::parse(b",;count=1;;bytes=2,").unwrap(), Track::new(1, 2));
        for unreadable in ["count", "count=", "count=x", "bytes=1.5", "=,", "count=1,nonsense"] {
            assert_eq!(Track::parse(unreadable.as_bytes()), None, "{unreadable}");
        }
        assert_eq!(Track::parse(&[0xff]), None);
        let long = "k=1;".repeat(QUOTA_TEXT_BYTES_MAX / 4);
        assert!(Track::parse(long.as_bytes()).is_some());
        assert_eq!(Track::parse(format!("{long};").as_bytes()), None, "nobody can make writes cost what they like");
    }

    #[test]
    fn a_text_that_is_or_could_become_too_long_is_unreadable() {
        let padded = |bytes: usize| format!("{:,<bytes$}", "count=1");
        assert_eq!(Track::parse(padded(QUOTA_TEXT_BYTES_MAX).as_bytes()), Some(Track::new(1, -1)));
        assert_eq!(Track::parse(padded(QUOTA_TEXT_BYTES_MAX + 1).as_bytes()), None);
        // What is left for one other key.
        let key_bytes = QUOTA_TEXT_BYTES_MAX - WIDEST_NUMBERS_BYTES - ";=5".len();
        let with_key = |bytes: usize| format!("{}=5", "k".repeat(bytes));
        assert_eq!(Track::parse(with_key(key_bytes + 1).as_bytes()), None);
        let mut longest = Track::parse(with_key(key_bytes).as_bytes()).unwrap();
        (longest.count, longest.bytes) = (i64::MIN, i64::MIN);
        let text = longest.text();
        assert_eq!(text.len(), QUOTA_TEXT_BYTES_MAX);
        assert_eq!(Track::parse(text.as_bytes()), Some(longest));
    }

    #[test]
    fn the_deepest_quota_of_a_path_is_found_component_by_component() {
        let mut quotas = Quotas::new();
        let subject = |quotas: &Quotas, path| quotas.of(path).map(|(subject, _)| subject);
        assert_eq!(subject(&quotas, "/a"), None);
        quotas.add("/a");
        quotas.add("/a/b/c");
        quotas.add("/a/b/c");
        assert_eq!(quotas.len(), 2);
        for (path, root) in [
            ("/a", Some("/a")),
            ("/a/b", Some("/a")),
            ("/ab", None),
            ("/a/b/c", Some("/a/b/c")),
            ("/a/b/c/d/e", Some("/a/b/c")),
            ("/a/b/cc", Some("/a")),
            ("/", None),
            ("", None),
            ("/b", None),
        ] {
            assert_eq!(subject(&quotas, path), root, "{path}");
        }
        quotas.remove("/a/b");
        quotas.remove("/x");
        quotas.remove("/a");
        assert_eq!((subject(&quotas, "/a/b"), subject(&quotas, "/a/b/c/d")), (None, Some("/a/b/c")));
        quotas.remove("/a/b/c");
        assert!(quotas.is_empty() && quotas.nodes.is_empty() && quotas.below.is_empty());
    }

    #[test]
    fn subjects_are_subtrees() {
        assert_eq!(subject("/zookeeper/quota/a/b"), Some("/a/b"));
        assert_eq!(subject("/zookeeper/quota"), None);
        assert_eq!(subject("/zookeeper/quotas/a"), None);
        assert_eq!(subject("/a"), None);
    }
}
