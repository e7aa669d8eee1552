//! What concerns subtrees: how many znodes they hold, and the counts of quotas, which follow every change.

use std::sync::atomic::Ordering;

use zorilla_snapshot::Fault;

use super::below::{self, Place};
use super::quota::{self, Quota, Track};
use super::{Needed, Tree, key, path, reap};

/// Containers and znodes with a time to live of the runs that are looked at in one go.
const REAPABLES_PER_LOOK: usize = 4096;

impl Tree {
    /// The deepest subtree with a quota that `path` belongs to (`semantics.md` 10.1).
    pub fn quota_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.quota(path).map(|(subject, _)| subject)
    }

    /// How many subtrees have a quota.
    pub fn quotas_count(&self) -> usize {
        self.quotas.len()
    }

    /// The same subtree, and what its quota says.
    pub fn quota<'p>(&self, path: &'p str) -> Option<(&'p str, &Quota)> {
        self.quotas.of(path)
    }

    /// Learns of a quota that the state on disk has.
    pub(super) fn open_quota(&mut self, subject: &str) -> Result<(), Fault> {
        let [limits, stats] = [limits_path(subject), stats_path(subject)];
        for path in [&limits, &stats] {
            while let Err(needed) = self.probe(path) {
                needed.bring_in()?;
            }
        }
        let quota = Quota { limits: self.read_track(&limits), stats: self.read_track(&stats) };
        *self.quotas.add(subject) = quota;
        Ok(())
    }

    /// The znodes that may be deleted now, `max` at most: see [`super::reap`]. In the runs only some are looked at, others
    /// the next time; `true`: there are others.
    ///
    /// # Errors
    /// What to bring in before it goes on; what was found so far is found.
    pub fn reapable(
        &self,
        now_ms: i64,
        never_used_ms: i64,
        with_ttl: bool,
        max: usize,
        each: &mut dyn FnMut(&str),
    ) -> Result<bool, Needed> {
        let mut path = String::new();
        let mut left = max;
        let total: u64 = self.below.runs.iter().map(|run| run.reapables_count()).sum();
        let mut next = self.reap_next.load(Ordering::Relaxed);
        for _ in 0..REAPABLES_PER_LOOK {
            // Half of what is wanted is left to the overlays.
            if next == total || left <= max / 2 {
                break;
            }
            let mut number = next;
            let mut runs = self.below.runs.iter().enumerate();
            let (index, run) = runs
                .find(|(_, run)| {
                    let is_here = number < run.reapables_count();
                    number -= if is_here { 0 } else { run.reapables_count() };
                    is_here
                })
                .expect("a number below the total is in a run");
            let place = Place::Run(index, below::of(run, run.reapable(number))?);
            if reap::is_due(&place.version(), now_ms, never_used_ms, with_ttl) {
                place.path(&mut path);
                if !self.hides(index, &path)? {
                    each(&path);
                    left -= 1;
                }
            }
            next += 1;
            // A round is over at the end, and the next one begins at the start.
            self.reap_next.store(if next < total { next } else { 0 }, Ordering::Relaxed);
        }
        if let Some(frozen) = &self.below.frozen {
            // Those behind get their turn when they are in a run.
            for slot in frozen.reapable.due(now_ms, never_used_ms, with_ttl).take(REAPABLES_PER_LOOK) {
                frozen.path_of(frozen.nodes.get(slot), &mut path);
                if 0 < left && self.live.slot(&path, frozen.hash(&path)).is_none() {
                    each(&path);
                    left -= 1;
                }
            }
        }
        for slot in self.live.reapable.due(now_ms, never_used_ms, with_ttl).take(left) {
            self.live.path_of(self.live.nodes.get(slot), &mut path);
            each(&path);
        }
        Ok(next < total)
    }

    /// Of the runs' candidates, numbered from the newest run on, `gone` from `first` on are `come` others now. A round goes on
    /// where it is, so that it comes to its end however often runs are replaced.
    pub(super) fn reapables_moved(&mut self, first: u64, gone: u64, come: u64) {
        let total: u64 = self.below.runs.iter().map(|run| run.reapables_count()).sum();
        let next = self.reap_next.get_mut();
        *next = match *next {
            0 => 0,
            before if before < first => before,
            before if before < first + gone => first,
            before => before - gone + come,
        };
        if total <= *next {
            *next = 0;
        }
    }

    /// Follows a change of `path`, already made, in what its quota counts; and quotas that come and go with their znodes.
    #[inline]
    pub(super) fn count_quota(&mut self, path: &str, bytes: i64, count: i64) {
        let is_below_root = path.starts_with(quota::ROOT);
        if !is_below_root && self.quotas.is_empty() {
            return;
        }
        if is_below_root {
            self.follow_quota(path, count);
        }
        let Some((subject, quota)) = self.quotas.of_mut(path) else { return };
        // Written anew even where nothing is added, as in the reference, so that a text of a client's becomes one of the
        // server's. Counts that a client has made unreadable stay as they are.
        let Some(stats) = &mut quota.stats else { return };
        stats.count = stats.count.wrapping_add(count);
        stats.bytes = stats.bytes.wrapping_add(bytes);
        let text = stats.text();
        self.write_stats(subject, &text);
    }

    /// Takes note of what the znodes of quotas say, if `path` is one that came (`count` is 1), went (−1) or was set (0).
    fn follow_quota(&mut self, path: &str, count: i64) {
        let Some((parent, name)) = path::split(path) else { return };
        let Some(subject) = quota::subject(parent) else { return };
        match (name, count) {
            (quota::LIMITS, -1) => self.quotas.remove(subject),
            (quota::LIMITS, _) => {
                let limits = self.read_track(path);
                // Counts may have come first.
                let stats = self.read_track(&stats_path(subject));
                *self.quotas.add(subject) = Quota { limits, stats };
            }
            (quota::STATS, 1) => self.recount(subject),
            (quota::STATS, _) => {
                let stats = if count == -1 { None } else { self.read_track(path) };
                if let Some(quota) = self.quotas.get_mut(subject) {
                    quota.stats = stats;
                }
            }
            _ => {}
        }
    }

    /// What stands in a znode of a quota. `None`: it is missing, or its text cannot be read.
    fn read_track(&self, path: &str) -> Option<Track> {
        Track::parse(&self.find(path)?.data().unwrap_or_default())
    }

    /// Counts a subtree from scratch: its stats znode has just been created.
    fn recount(&mut self, subject: &str) {
        let (mut count, mut bytes) = (0, 0);
        if let Some(root) = self.find(subject) {
            self.walk(root, &mut subject.to_owned(), &mut |_, node| {
                count += 1;
                bytes += i64::from(node.version().data_bytes);
            });
        }
        let stats = Track::new(count, bytes);
        self.write_stats(subject, &stats.text());
        if let Some(quota) = self.quotas.get_mut(subject) {
            quota.stats = Some(stats);
        }
    }

    /// Writes the counts of a quota straight into their znode: nothing of its stat changes but the length.
    fn write_stats(&mut self, subject: &str, text: &str) {
        let path = stats_path(subject);
        let mut version = self.find(&path).expect("there are counts while their znode is there").version();
        version.data_bytes = text.len() as u32;
        version.data_is_null = false;
        version.prefix_crc = super::digest::prefix_crc(&path, Some(text.as_bytes()));
        self.set_data(&path, Some(text.as_bytes()), &version);
    }

    /// How many znodes there are below `path`, itself not counted. `None`: there is no such znode.
    pub fn descendants(&self, path: &str) -> Option<u64> {
        let path = key(path);
        let node = self.find(path)?;
        if path.is_empty() {
            return Some(self.len() as u64 - 1);
        }
        let mut count = 0;
        self.walk(node, &mut path.to_owned(), &mut |_, _| count += 1);
        Some(count - 1)
    }
}

fn limits_path(subject: &str) -> String {
    format!("{}{subject}/{}", quota::ROOT, quota::LIMITS)
}

pub(super) fn stats_path(subject: &str) -> String {
    format!("{}{subject}/{}", quota::ROOT, quota::STATS)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use zorilla_proto::client::AclVec;
    use zorilla_proto::ids::{SessionId, Zxid};
    use zorilla_proto::op::Op;
    use zorilla_proto::txn::{Txn, TxnHeader};

    use super::*;
    use crate::prep::effects::effects;

    struct Grown {
        tree: Tree,
        zxid: u64,
    }

    impl Grown {
        fn new() -> Grown {
            Grown { tree: Tree::new(1), zxid: 0 }
        }

        fn make(&mut self, txn: &Txn<'_>) {
            self.zxid += 1;
            let header = TxnHeader {
                session: SessionId::from_raw(7),
                cxid: 0,
                zxid: Zxid::from_raw(self.zxid),
                time_ms: 1000 + self.zxid as i64,
                op: txn.op().raw(),
            };
            effects(&header, txn, &mut self.tree).unwrap();
        }

        fn create(&mut self, path: &str, data: &[u8]) {
            let (path, acl) = (Cow::Borrowed(path), Some(AclVec::OPEN));
            let above = crate::tree::path::parent(&path).unwrap();
            let parent_cversion = self.tree.find(above).unwrap().version().children_created + 1;
            let (data, ephemeral, kind) = (Some(data), false, Op::Create);
            self.make(&Txn::Create { path, data, acl, ephemeral, parent_cversion, kind });
        }

        fn delete(&mut self, path: &str) {
            self.make(&Txn::Delete { path: Cow::Borrowed(path) });
        }

        fn text(&self, path: &str) -> String {
            String::from_utf8(self.tree.find(path).unwrap().data().unwrap().to_vec()).unwrap()
        }

        fn due(&self, now_ms: i64, never_used_ms: i64, with_ttl: bool) -> Vec<String> {
            let mut due = Vec::new();
            let looked =
                self.tree.reapable(now_ms, never_used_ms, with_ttl, 100, &mut |path| due.push(path.to_owned()));
            assert!(matches!(looked, Ok(false)));
            due
        }
    }

    #[test]
    fn a_quota_counts_its_subtree_and_what_happens_in_it() {
        let mut grown = Grown::new();
        grown.create("/a", b"12");
        grown.create("/a/b", b"345");
        grown.create("/ab", b"not of it");
        grown.create("/zookeeper/quota/a", b"");
        grown.create("/zookeeper/quota/a/zookeeper_limits", b"count=1,bytes=1");
        let stats = "/zookeeper/quota/a/zookeeper_stats";
        let digest = grown.tree.digest();
        grown.create(stats, b"whatever");
        assert_eq!(grown.tree.digest(), digest, "the digest does not cover quotas");
        assert_eq!(grown.text(stats), "count=2,bytes=5");
        let version = grown.tree.find(stats).unwrap().version();
        grown.create("/a/b/c", b"6789");
        assert_eq!(grown.text(stats), "count=3,bytes=9");
        grown.make(&Txn::SetData { path: "/a".into(), data: None, version: 1 });
        assert_eq!(grown.text(stats), "count=3,bytes=7");
        grown.delete("/a/b/c");
        grown.create("/ab/x", b"no");
        assert_eq!(grown.text(stats), "count=2,bytes=3");
        assert_eq!(grown.tree.find(stats).unwrap().version().mzxid, version.mzxid);
        // What a client writes is counted from there on; what cannot be read stays.
        grown.make(&Txn::SetData { path: stats.into(), data: Some(b"count=100"), version: 1 });
        grown.create("/a/d", b"1");
        assert_eq!(grown.text(stats), "count=101,bytes=0");
        grown.make(&Txn::SetData { path: stats.into(), data: Some(b"?"), version: 2 });
        grown.create("/a/e", b"1");
        assert_eq!(grown.text(stats), "?");
        assert_eq!(grown.tree.quota_of("/a/e"), Some("/a"));
        grown.delete("/zookeeper/quota/a/zookeeper_limits");
        assert_eq!((grown.tree.quota_of("/a/e"), grown.tree.quotas_count()), (None, 0));
    }

    #[test]
    fn what_the_znodes_of_a_quota_say_is_known_in_whatever_order_they_change() {
        let mut grown = Grown::new();
        let (limits, stats) = ("/zookeeper/quota/a/zookeeper_limits", "/zookeeper/quota/a/zookeeper_stats");
        // What is known is what a server that reads the znodes only now would know.
        let is_known = |grown: &Grown| {
            let (_, quota) = grown.tree.quota("/a/x").unwrap();
            assert_eq!(quota.limits, grown.tree.read_track(limits), "limits");
            assert_eq!(quota.stats, grown.tree.read_track(stats), "counts");
            (quota.limits.clone(), quota.stats.clone())
        };
        let set = |grown: &mut Grown, path: &'static str, text: &[u8]| {
            let version = grown.tree.find(path).unwrap().version().version + 1;
            grown.make(&Txn::SetData { path: path.into(), data: Some(text), version });
        };
        grown.create("/zookeeper/quota/a", b"");
        grown.create("/a", b"1");
        grown.create(stats, b"counts come first");
        assert_eq!(grown.text(stats), "count=1,bytes=1");
        grown.create("/a/b", b"not counted without limits");
        assert_eq!((grown.text(stats).as_str(), grown.tree.quota_of("/a")), ("count=1,bytes=1", None));
        grown.create(limits, b"count=5");
        assert_eq!(is_known(&grown), (Some(Track::new(5, -1)), Some(Track::new(1, 1))));
        grown.create("/a/c", b"22");
        set(&mut grown, limits, b"count=6");
        assert_eq!(is_known(&grown), (Some(Track::new(6, -1)), Some(Track::new(2, 3))));
        set(&mut grown, limits, b"none");
        set(&mut grown, stats, b"x=1;count=7");
        grown.create("/a/d", b"");
        assert_eq!(grown.text(stats), "count=8,bytes=-1=;x=1");
        let (unreadable, counted) = is_known(&grown);
        assert_eq!((unreadable, counted.map(|stats| stats.count)), (None, Some(8)));
        grown.delete(stats);
        grown.create("/a/e", b"");
        assert_eq!(is_known(&grown), (None, None));
        grown.create(stats, b"");
        assert_eq!(is_known(&grown), (None, Some(Track::new(5, 29))));
        grown.delete(limits);
        grown.create("/a/f", b"");
        assert_eq!((grown.text(stats).as_str(), grown.tree.quota_of("/a")), ("count=5,bytes=29", None));
    }

    #[test]
    fn texts_too_long_to_be_written_anew_with_every_write_stay_as_they_are() {
        let mut grown = Grown::new();
        let (limits, stats) = ("/zookeeper/quota/a/zookeeper_limits", "/zookeeper/quota/a/zookeeper_stats");
        let long = "k=1;".repeat(200_000) + "countHardLimit=1";
        grown.create("/a", b"");
        grown.create("/zookeeper/quota/a", b"");
        grown.create(limits, long.as_bytes());
        grown.create(stats, b"");
        grown.make(&Txn::SetData { path: stats.into(), data: Some(long.as_bytes()), version: 1 });
        let (_, quota) = grown.tree.quota("/a").unwrap();
        assert!(quota.limits.is_none() && quota.stats.is_none());
        grown.create("/a/b", b"1");
        assert_eq!(grown.text(stats), long);
        // A shorter one is counted on.
        grown.make(&Txn::SetData { path: stats.into(), data: Some(b"count=2,bytes=1"), version: 2 });
        grown.create("/a/c", b"1");
        assert_eq!(grown.text(stats), "count=3,bytes=2");
    }

    #[test]
    fn the_root_has_no_quota() {
        let mut grown = Grown::new();
        grown.create("/zookeeper/quota/zookeeper_limits", b"count=1,bytes=1");
        grown.create("/zookeeper/quota/zookeeper_stats", b"x");
        grown.create("/a", b"");
        assert_eq!(grown.tree.quotas_count(), 0);
        assert_eq!(grown.text("/zookeeper/quota/zookeeper_stats"), "x");
    }

    #[test]
    fn descendants_are_counted_without_the_znode_itself() {
        let mut grown = Grown::new();
        for path in ["/a", "/a/b", "/a/c", "/a/b/d", "/b"] {
            grown.create(path, b"");
        }
        let counted = |path| grown.tree.descendants(path);
        assert_eq!((counted("/"), counted("/a"), counted("/a/b"), counted("/b")), (Some(8), Some(3), Some(1), Some(0)));
        assert_eq!((counted("/x"), counted("")), (None, Some(8)));
    }

    #[test]
    fn what_may_go_is_known_when_its_time_comes() {
        let mut grown = Grown::new();
        let (acl, data) = (Some(AclVec::OPEN), None);
        grown.make(&Txn::CreateContainer { path: "/c".into(), data, acl, parent_cversion: 1 });
        grown.make(&Txn::CreateTtl { path: "/t".into(), data, acl, parent_cversion: 2, ttl_ms: 50 });
        assert_eq!(grown.due(10_000, 0, true), ["/t"]);
        assert_eq!(grown.due(10_000, 0, false), [""; 0]);
        assert_eq!(grown.due(1051, 0, true), [""; 0]);
        assert_eq!(grown.due(1053, 0, true), ["/t"]);
        assert_eq!(grown.due(1200, 100, false), ["/c"]);
        grown.create("/c/x", b"");
        grown.create("/t/x", b"");
        assert_eq!(grown.due(10_000, 1, true), [""; 0]);
        grown.delete("/c/x");
        grown.delete("/t/x");
        grown.make(&Txn::SetData { path: "/t".into(), data, version: 1 });
        assert_eq!(grown.due(1053, 0, true), ["/c"], "a set begins the time anew, children do not");
        assert_eq!(grown.due(10_000, 0, true), ["/t", "/c"]);
        // However many containers wait, what has expired gets its turn.
        for number in 0..10 {
            let path = format!("/c{number}");
            let parent_cversion = 3 + number;
            grown.make(&Txn::CreateContainer { path: path.as_str().into(), data, acl, parent_cversion });
            grown.create(&format!("{path}/x"), b"");
            grown.delete(&format!("{path}/x"));
        }
        assert!(grown.due(10_000, 0, true)[..2].contains(&"/t".to_owned()));
        for number in 0..10 {
            grown.make(&Txn::DeleteContainer { path: format!("/c{number}").into() });
        }
        grown.make(&Txn::DeleteContainer { path: "/c".into() });
        grown.make(&Txn::DeleteContainer { path: "/t".into() });
        assert_eq!(grown.due(i64::MAX, 1, true), [""; 0]);
    }
}
