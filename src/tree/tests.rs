//! The tree against a naive one: a `BTreeMap` of paths that recomputes everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use zorilla_proto::stat::Stat;

use super::*;

mod layers;
mod twins;

const ACLS: [(&[u8], u32); 3] = [(OPEN_RAW, 1), (READ_RAW, 1), (&[], 0)];

/// One znode of the model.
#[derive(Clone, Debug)]
struct Plain {
    data: Option<Vec<u8>>,
    acl: usize,
    version: NodeVersion,
}

/// The naive tree, and the real one that is driven along with it.
struct Pair {
    model: BTreeMap<String, Plain>,
    /// Ephemerals in the order of their creation.
    ephemerals: Vec<(i64, String)>,
    tree: Tree,
    zxid: u64,
    /// What was created last.
    latest: String,
}

fn version(path: &str, data: Option<&[u8]>, zxid: u64, owner: i64) -> NodeVersion {
    let czxid = Zxid::from_raw(zxid);
    let time_ms = if zxid == 0 { 0 } else { 1_700_000_000_000 + zxid as i64 };
    NodeVersion {
        czxid,
        mzxid: czxid,
        pzxid: czxid,
        ctime_ms: time_ms,
        mtime_ms: time_ms,
        version: 0,
        children_created: 0,
        aversion: 0,
        owner,
        data_bytes: data.map_or(0, |data| data.len() as u32),
        data_is_null: data.is_none(),
        children: 0,
        prefix_crc: digest::prefix_crc(path, data),
    }
}

fn join(parent: &str, name: &str) -> String {
    format!("{}/{name}", key(parent))
}

/// The digest of a znode in the words of the specification, by the other implementation of CRC-32.
fn naive_digest(path: &str, data: Option<&[u8]>, version: &NodeVersion) -> u64 {
    if path.starts_with("/zookeeper/") {
        return 0;
    }
    let mut bytes = key(path).as_bytes().to_vec();
    bytes.extend_from_slice(data.unwrap_or_default());
    for zxid in [version.czxid, version.mzxid, version.pzxid] {
        bytes.extend_from_slice(&zxid.raw().to_be_bytes());
    }
    bytes.extend_from_slice(&version.ctime_ms.to_be_bytes());
    bytes.extend_from_slice(&version.mtime_ms.to_be_bytes());
    for counter in [version.version, version.children_created, version.aversion] {
        bytes.extend_from_slice(&counter.to_be_bytes());
    }
    bytes.extend_from_slice(&version.owner.to_be_bytes());
    crc32fast::hash(&bytes).into()
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let mut model = BTreeMap::new();
        for (path, acl, aversion, children) in
            [("/", 0, 0, 1), ("/zookeeper", 0, 0, 2), ("/zookeeper/quota", 0, 0, 0), ("/zookeeper/config", 1, -1, 0)]
        {
            let version = NodeVersion { aversion, children, ..version(key(path), Some(b""), 0, 0) };
            model.insert(path.to_owned(), Plain { data: Some(Vec::new()), acl, version });
        }
        Pair { model, ephemerals: Vec::new(), tree: Tree::new(seed), zxid: 0, latest: "/".to_owned() }
    }

    fn parent_of(path: &str) -> String {
        match path::parent(path).expect("a path below the root") {
            "" => "/".to_owned(),
            parent => parent.to_owned(),
        }
    }

    fn create(&mut self, path: &str, data: Option<Vec<u8>>, owner: i64, acl: usize) {
        self.zxid += 1;
        let zxid = Zxid::from_raw(self.zxid);
        let above = self.model.get_mut(&Pair::parent_of(path)).expect("the parent is there");
        above.version.pzxid = zxid;
        above.version.children_created += 1;
        above.version.children += 1;
        let parent = above.version;
        let node = version(path, data.as_deref(), self.zxid, owner);
        let (raw, acl_count) = ACLS[acl];
        self.tree.install(&Effect::Create { path, data: data.as_deref(), acl: raw, acl_count, node, parent });
        self.model.insert(path.to_owned(), Plain { data, acl, version: node });
        if let Some(session) = node.ephemeral_session() {
            self.ephemerals.push((session.raw(), path.to_owned()));
        }
    }

    fn set(&mut self, path: &str, data: Option<Vec<u8>>) {
        self.zxid += 1;
        let plain = self.model.get_mut(path).expect("it is there");
        plain.version = NodeVersion {
            mzxid: Zxid::from_raw(self.zxid),
            mtime_ms: self.zxid as i64,
            version: plain.version.version.wrapping_add(1),
            data_bytes: data.as_ref().map_or(0, |data| data.len() as u32),
            data_is_null: data.is_none(),
            prefix_crc: digest::prefix_crc(path, data.as_deref()),
            ..plain.version
        };
        self.tree.install(&Effect::SetData { path, data: data.as_deref(), node: plain.version });
        plain.data = data;
    }

    fn set_acl(&mut self, path: &str, acl: usize) {
        self.zxid += 1;
        let plain = self.model.get_mut(path).expect("it is there");
        plain.version.aversion += 1;
        plain.acl = acl;
        let (raw, acl_count) = ACLS[acl];
        self.tree.install(&Effect::SetAcl { path, acl: raw, acl_count, node: plain.version });
    }

    fn delete(&mut self, path: &str) {
        self.zxid += 1;
        self.model.remove(path).expect("it is there");
        let above = self.model.get_mut(&Pair::parent_of(path)).expect("the parent is there");
        above.version.pzxid = Zxid::from_raw(self.zxid);
        above.version.children -= 1;
        self.tree.install(&Effect::Delete { path, parent: above.version });
        self.ephemerals.retain(|(_, ephemeral)| ephemeral != path);
    }

    fn digest(&self) -> u64 {
        let digests = self.model.iter().map(|(path, plain)| naive_digest(path, plain.data.as_deref(), &plain.version));
        digests.fold(0, u64::wrapping_add)
    }

    fn check(&self) {
        let tree = &self.tree;
        assert_eq!(tree.len(), self.model.len());
        assert_eq!(tree.digest(), self.digest(), "digest of the tree");
        let bytes = |(path, plain): (&String, &Plain)| path.len() + plain.data.as_ref().map_or(0, Vec::len);
        assert_eq!(tree.approximate_data_bytes(), self.model.iter().map(bytes).sum::<usize>() as u64);

        let mut children: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for path in self.model.keys().filter(|path| *path != "/") {
            children.entry(Pair::parent_of(path)).or_default().insert(path::name(path));
        }
        for (path, plain) in &self.model {
            let node = tree.find(path).unwrap_or_else(|| panic!("{path} is missing"));
            assert_eq!(node.version(), plain.version, "{path}");
            assert_eq!(node.data().as_deref(), plain.data.as_deref(), "{path}");
            assert_eq!((node.acl().raw, node.acl().count), ACLS[plain.acl], "{path}");
            assert_eq!(
                digest::of(path, &node.version()),
                naive_digest(path, plain.data.as_deref(), &plain.version),
                "{path}"
            );
            let listed: Vec<&str> = node.children().collect();
            assert_eq!(listed.len(), plain.version.children as usize, "{path}");
            let expected = children.remove(path).unwrap_or_default();
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected, "{path}");
            for missing in [format!("{path}/"), join(path, "missing"), format!("{path}x"), path[1..].to_owned()] {
                let known = self.model.contains_key(&missing) || missing.is_empty();
                assert_eq!(tree.find(&missing).is_some(), known, "{missing:?}");
            }
        }
        let mut walked = BTreeSet::new();
        tree.for_each(|path, node| {
            assert_eq!(node.version(), self.model[path].version, "{path}");
            assert!(path == "/" || walked.contains(&Pair::parent_of(path)), "{path} comes before its parent");
            assert!(walked.insert(path.to_owned()), "{path} comes twice");
        });
        assert_eq!(walked.len(), self.model.len());

        let (now_ms, never_used_ms) = (1_700_000_000_000 + self.zxid as i64 / 2 + 2500, 2500);
        let mut reapable = BTreeSet::new();
        // All of a small tree is looked at in one go, but for what has to be brought in.
        while let Err(needed) = tree.reapable(now_ms, never_used_ms, true, 10_000, &mut |path| {
            assert!(reapable.insert(path.to_owned()), "{path} may go twice");
        }) {
            tree.bring_in(&needed);
        }
        let may_go = |(_, plain): &(&String, &Plain)| match plain.version {
            NodeVersion { children: 1.., .. } => false,
            NodeVersion { owner: CONTAINER_OWNER, children_created: 0, mtime_ms, .. } => {
                never_used_ms < now_ms - mtime_ms
            }
            NodeVersion { owner: CONTAINER_OWNER, .. } => true,
            NodeVersion { owner, mtime_ms, .. } => owner == OWNERS[8] && mtime_ms + 5000 < now_ms,
        };
        let expected: BTreeSet<String> = self.model.iter().filter(may_go).map(|(path, _)| path.clone()).collect();
        assert_eq!(reapable, expected, "what may go");

        assert_eq!(tree.ephemerals_count(), self.ephemerals.len());
        for session in SESSIONS {
            let mine = |(owner, _): &&(i64, String)| *owner == session;
            let mut expected: Vec<&str> = self.ephemerals.iter().filter(mine).map(|(_, path)| &**path).collect();
            let mut found = Vec::new();
            tree.ephemerals(SessionId::from_raw(session), &mut |path| found.push(path.to_owned()));
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "ephemerals of {session:#x}");
            let bytes = expected.iter().map(|path| crate::prep::ephemeral_bytes(path)).sum::<u64>();
            assert_eq!(tree.ephemeral_path_bytes(SessionId::from_raw(session)), bytes);
        }
    }
}

const SESSIONS: [i64; 3] = [1, 0x1000_0abc_d000_0003, -5];
/// Persistent mostly; then the sessions, a container, a TTL znode.
const OWNERS: [i64; 9] =
    [0, 0, 0, 0, SESSIONS[0], SESSIONS[1], SESSIONS[2], i64::MIN, (0xff00_0000_0000_0000_u64 | 5000) as i64];
const NAMES: [&str; 8] = ["a", "b", "n-0000000001", "zookeeper", "é", "日本語", "…", "a b"];

#[derive(Clone, Debug)]
enum Step {
    Create {
        above: Option<usize>,
        name: usize,
        data: Option<usize>,
        owner: usize,
        acl: usize,
    },
    Set {
        pick: usize,
        data: Option<usize>,
    },
    SetAcl {
        pick: usize,
        acl: usize,
    },
    Delete {
        pick: usize,
    },
    Close {
        session: usize,
    },
    Check,
    /// The rest only where there are layers.
    Freeze,
    Flush {
        entries: usize,
    },
    Merge {
        first: usize,
        count: usize,
    },
    Reopen,
    Cool,
}

fn data(bytes: Option<usize>, fill: u64) -> Option<Vec<u8>> {
    bytes.map(|bytes| (0..bytes).map(|at| (at as u64 * 31 + fill) as u8).collect())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || {
        prop_oneof![
            1 => Just(None),
            2 => Just(Some(0)),
            8 => (1..200_usize).prop_map(Some),
            3 => (200..5000_usize).prop_map(Some),
            1 => (60_000..150_000_usize).prop_map(Some),
        ]
    };
    // Without a pick the znode created last is the parent, so that trees grow deep too.
    let create = (prop::option::of(any::<usize>()), 0..40_usize, bytes(), 0..OWNERS.len(), 0..ACLS.len())
        .prop_map(|(above, name, data, owner, acl)| Step::Create { above, name, data, owner, acl });
    let step = prop_oneof![
        20 => create,
        6 => (any::<usize>(), bytes()).prop_map(|(pick, data)| Step::Set { pick, data }),
        2 => (any::<usize>(), 0..ACLS.len()).prop_map(|(pick, acl)| Step::SetAcl { pick, acl }),
        8 => any::<usize>().prop_map(|pick| Step::Delete { pick }),
        1 => (0..SESSIONS.len()).prop_map(|session| Step::Close { session }),
        1 => Just(Step::Check),
        2 => Just(Step::Freeze),
        2 => (1..40_usize).prop_map(|entries| Step::Flush { entries }),
        1 => (any::<usize>(), 1..4_usize).prop_map(|(first, count)| Step::Merge { first, count }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Cool),
    ];
    prop::collection::vec(step, 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn tree_agrees_with_a_map(steps in steps(), seed in any::<u64>()) {
        let mut pair = Pair::new(seed);
        let baseline = pair.tree.memory_bytes();
        pair.check();
        for step in &steps {
            pair.step(step);
            prop_assert_eq!(pair.tree.digest(), pair.digest());
        }
        pair.check();
        let paths: Vec<String> = pair.model.keys().rev().filter(|path| !path::is_special(path)).cloned().collect();
        paths.iter().for_each(|path| pair.delete(path));
        pair.check();
        prop_assert_eq!(pair.tree.len(), 4);
        // A small chunk may stay with each size class that was used, and a small table of each kind.
        let left = pair.tree.memory_bytes().saturating_sub(baseline);
        prop_assert!(left <= 2 << 20, "{} bytes left", left);
    }
}

impl Pair {
    fn step(&mut self, step: &Step) {
        let pick = |pick: usize| self.model.keys().nth(pick % self.model.len()).expect("never empty").clone();
        match *step {
            Step::Create { above, name, data: bytes, owner, acl } => {
                let above = above.map_or_else(|| self.latest.clone(), pick);
                let Some(parent) = self.model.get(&above) else { return };
                if parent.version.ephemeral_session().is_some() {
                    return;
                }
                let name = NAMES.get(name).map_or_else(|| format!("n{name}"), |name| (*name).to_owned());
                let path = join(&above, &name);
                if !self.model.contains_key(&path) {
                    self.create(&path, data(bytes, self.zxid), OWNERS[owner], acl);
                    self.latest = path;
                }
            }
            Step::Set { pick: picked, data: bytes } => {
                let path = pick(picked);
                self.set(&path, data(bytes, self.zxid));
            }
            Step::SetAcl { pick: picked, acl } => {
                let path = pick(picked);
                self.set_acl(&path, acl);
            }
            Step::Delete { pick: picked } => {
                let path = pick(picked);
                if self.model[&path].version.children == 0 && !path::is_special(&path) {
                    self.delete(&path);
                }
            }
            Step::Close { session } => {
                let mut paths = Vec::new();
                let session = SessionId::from_raw(SESSIONS[session]);
                self.tree.ephemerals(session, &mut |path| paths.push(path.to_owned()));
                paths.iter().for_each(|path| self.delete(path));
            }
            Step::Check => self.check(),
            Step::Freeze | Step::Flush { .. } | Step::Merge { .. } | Step::Reopen | Step::Cool => {}
        }
    }
}

#[test]
fn empty_tree_has_the_digest_and_stats_of_the_reference() {
    let tree = Tree::new(0);
    assert_eq!(tree.digest(), 1_371_985_504);
    assert_eq!((tree.len(), tree.approximate_data_bytes(), tree.ephemerals_count()), (4, 44, 0));
    let cversions =
        [("/", -1, 1), ("", -1, 1), ("/zookeeper", -2, 2), ("/zookeeper/quota", 0, 0), ("/zookeeper/config", 0, 0)];
    for (path, cversion, children) in cversions {
        let stat = tree.find(path).unwrap_or_else(|| panic!("{path} is missing")).version().stat();
        let aversion = if path == "/zookeeper/config" { -1 } else { 0 };
        assert_eq!(stat, Stat { cversion, num_children: children, aversion, ..Stat::default() }, "{path}");
    }
    let root = tree.find("/").expect("the root is there");
    assert_eq!(root.acl(), Acl { raw: OPEN_RAW, count: 1 });
    assert_eq!(root.data().as_deref(), Some(&[][..]), "empty, not null");
    assert_eq!(tree.find("/zookeeper/config").map(|node| node.acl().raw), Some(READ_RAW));
}

/// `create /a "x"` as a server of the reference logged it, with the digest it logged.
#[test]
fn first_create_of_the_reference_gives_its_digest() {
    let mut tree = Tree::new(3);
    let zxid = Zxid::from_raw(2);
    let time_ms = 1_795_309_008_753;
    let mut parent = tree.find("/").expect("the root is there").version();
    parent.children_created += 1;
    parent.children += 1;
    parent.pzxid = zxid;
    let node = NodeVersion { ctime_ms: time_ms, mtime_ms: time_ms, ..version("/a", Some(b"x"), 2, 0) };
    tree.install(&Effect::Create { path: "/a", data: Some(b"x"), acl: OPEN_RAW, acl_count: 1, node, parent });
    assert_eq!(tree.digest(), 2_840_408_872);
    assert_eq!(digest::of("/a", &node), 1_485_008_094);
    assert_eq!(digest::of("", &parent), 51_738_866);
    assert_eq!(digest::of("/zookeeper/a", &node), 0, "below /zookeeper nothing counts");
}

#[test]
fn owner_tells_the_kind_of_a_znode() {
    let kinds = [
        (0, None),
        (i64::MIN, None),
        (0xff00_0000_0000_1388_u64 as i64, None),
        (0xff00_00ff_ffff_ffff_u64 as i64, None),
        (0xff00_0100_0000_0000_u64 as i64, Some(0xff00_0100_0000_0000_u64 as i64)),
        (0x0100_0abc_def0_0001, Some(0x0100_0abc_def0_0001)),
        (-5, Some(-5)),
    ];
    for (owner, session) in kinds {
        let version = version("/a", None, 1, owner);
        assert_eq!(version.ephemeral_session().map(SessionId::raw), session, "{owner:#x}");
        assert_eq!(version.stat().ephemeral_owner, session.unwrap_or(0), "{owner:#x}");
    }
}

#[test]
fn cversion_wraps_as_the_reference_does() {
    let version = NodeVersion { children_created: i32::MAX, children: 3, ..version("/a", None, 1, 0) };
    assert_eq!(version.stat().cversion, -5);
}

/// Two paths may share a hash; then the names decide, all of them.
#[test]
fn candidate_of_a_lookup_is_compared_as_a_whole() {
    let mut pair = Pair::new(2);
    for path in ["/a", "/a/b", "/a/b/a", "/ba"] {
        pair.create(path, None, 0, 0);
    }
    let tree = &pair.tree;
    for path in ["/a", "/a/b", "/a/b/a", "/ba"] {
        let Place::Live(overlay, node) = tree.find(path).expect("it was created").place else { panic!("it is live") };
        for other in
            ["", "/", "a", "/a", "x/a", "/x/a", "//a", "a/b", "/a/b", "/b", "/a/b/a", "/b/a", "/ba", "/a/", "ba"]
        {
            assert_eq!(overlay.has_path(node, other), path == other, "{path} and {other:?}");
        }
    }
}

/// Hundred thousand levels: nothing recurses, and a lookup is one walk to the root.
#[test]
fn deep_paths_cost_their_depth() {
    const LEVELS: usize = 100_000;
    let mut tree = Tree::new(1);
    let whole = "/d".repeat(LEVELS);
    // Through `install` each level would walk all those above it; below the door the parent is at hand.
    let mut above = ROOT;
    for level in 1..=LEVELS {
        let path = &whole[..2 * level];
        let above_version = tree.live.version(tree.live.nodes.get(above));
        let counted = NodeVersion { children: above_version.children + 1, ..above_version };
        tree.restamp(above, &whole[..2 * level - 2], &counted);
        let acl = Acl { raw: OPEN_RAW, count: 1 };
        above = tree.add_new(above, path, "d", (None, acl, &version(path, None, 1, 0)));
    }
    assert_eq!(tree.len(), 4 + LEVELS);
    let started = Instant::now();
    let deepest = tree.find(&whole).expect("the deepest is there");
    assert_eq!(deepest.version().children, 0);
    assert!(tree.find(&whole[1..]).is_none());
    assert!(tree.find(&format!("{whole}/d")).is_none());
    let took = started.elapsed();
    println!("three lookups {LEVELS} levels deep: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?} for three lookups");

    let mut deepest = 0;
    tree.for_each(|path, _| deepest = deepest.max(path.len()));
    assert_eq!(deepest, whole.len());
    let parent_path = &whole[..whole.len() - 2];
    let parent = tree.find(parent_path).expect("its parent is there").version();
    let (path, owner) = (format!("{parent_path}/e"), 77);
    let parent = NodeVersion { children: 2, ..parent };
    let node = version(&path, None, 2, owner);
    tree.install(&Effect::Create { path: &path, data: None, acl: OPEN_RAW, acl_count: 1, node, parent });
    let mut listed = String::new();
    tree.ephemerals(SessionId::from_raw(owner), &mut |path| listed.push_str(path));
    assert_eq!(listed, path);
    tree.install(&Effect::Delete { path: &path, parent: NodeVersion { children: 1, ..parent } });
    assert!(tree.find(&path).is_none() && tree.find(&whole).is_some());
}

/// Creates `count` znodes of 100 bytes in one folder per 1,000, and says how long the slowest took.
fn fill(tree: &mut Tree, count: u32) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut root = tree.find("/").expect("the root is there").version();
    let mut folder_path = String::new();
    let mut folder = root;
    for at in 0..count {
        if at % 1000 == 0 {
            folder_path = format!("/folder-{:05}", at / 1000);
            root.children += 1;
            folder = version(&folder_path, None, 1, 0);
            let effect = Effect::Create {
                path: &folder_path,
                data: None,
                acl: OPEN_RAW,
                acl_count: 1,
                node: folder,
                parent: root,
            };
            tree.install(&effect);
        }
        folder.children += 1;
        let path = format!("{folder_path}/node-{at:07}");
        let data = Some(&[at as u8; 100][..]);
        let node = version(&path, data, 1, 0);
        let started = Instant::now();
        tree.install(&Effect::Create { path: &path, data, acl: OPEN_RAW, acl_count: 1, node, parent: folder });
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

/// Deletes what [`fill`] created.
fn empty(tree: &mut Tree, count: u32) {
    let mut root = tree.find("/").expect("the root is there").version();
    for first in (0..count).step_by(1000) {
        let folder_path = format!("/folder-{:05}", first / 1000);
        let mut folder = tree.find(&folder_path).expect("the folder is there").version();
        for at in first..count.min(first + 1000) {
            folder.children -= 1;
            tree.install(&Effect::Delete { path: &format!("{folder_path}/node-{at:07}"), parent: folder });
        }
        root.children -= 1;
        tree.install(&Effect::Delete { path: &folder_path, parent: root });
    }
}

/// Twelve bytes of name, a hundred of data: what one znode may cost, at every fill of the tables.
#[test]
fn znode_is_compact_and_memory_is_given_back() {
    let mut tree = Tree::new(5);
    let baseline = tree.memory_bytes();
    let digest = tree.digest();
    for count in [120_000, 170_000, 200_000, 250_000] {
        fill(&mut tree, count);
        let each = (tree.memory_bytes() - baseline) as f64 / f64::from(count);
        println!("{count} znodes: {each:.1} bytes each");
        assert!(each <= 200.0, "{each:.1} bytes for each of {count} znodes");
        empty(&mut tree, count);
        assert_eq!(tree.len(), 4);
        assert_eq!(tree.digest(), digest);
        let left = tree.memory_bytes() - baseline;
        assert!(left <= 512 << 10, "{left} bytes left of {count} znodes");
    }
}

/// A table of two million grew without a step that moved more than a page of it.
#[test]
fn no_create_costs_more_because_the_tree_is_large() {
    const COUNT: u32 = 2_000_000;
    let mut tree = Tree::new(9);
    let slowest = fill(&mut tree, COUNT);
    let moved = tree.live.index.moved_max();
    println!("{COUNT} creates: the slowest took {slowest:?}, at most {moved} entries of the index moved at once");
    assert!(0 < moved && moved <= crate::table::PAGE_VALUES);
    assert_eq!(tree.len(), 4 + COUNT as usize + COUNT as usize / 1000);
    for at in (0..COUNT).step_by(99_991) {
        let path = format!("/folder-{:05}/node-{at:07}", at / 1000);
        let data = tree.find(&path).and_then(|node| node.data());
        assert_eq!(data.as_deref(), Some(&[at as u8; 100][..]), "{path}");
    }
}

fn misuse(effect: &Effect<'_>) {
    Tree::new(0).install(effect);
}

#[test]
#[should_panic(expected = "/a/b is created and its parent is missing")]
fn create_without_a_parent_is_a_broken_promise() {
    let node = version("/a/b", None, 1, 0);
    misuse(&Effect::Create { path: "/a/b", data: None, acl: &[], acl_count: 0, node, parent: node });
}

#[test]
#[should_panic(expected = "/zookeeper is created and exists already")]
fn second_create_is_a_broken_promise() {
    let node = version("/zookeeper", None, 1, 0);
    let parent = NodeVersion { children: 2, ..version("", Some(b""), 0, 0) };
    misuse(&Effect::Create { path: "/zookeeper", data: None, acl: &[], acl_count: 0, node, parent });
}

#[test]
#[should_panic(expected = "/a is deleted and is missing")]
fn delete_of_nothing_is_a_broken_promise() {
    misuse(&Effect::Delete { path: "/a", parent: version("", Some(b""), 0, 0) });
}

#[test]
#[should_panic(expected = "children of /zookeeper, which is deleted")]
fn delete_of_a_parent_is_a_broken_promise() {
    misuse(&Effect::Delete { path: "/zookeeper", parent: version("", Some(b""), 0, 0) });
}
