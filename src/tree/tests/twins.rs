//! The layered tree against one without layers: the same changes, freezes, flushes, merges and reopenings in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_snapshot::{CONTAINER_OWNER, Merge, Meta, Progress, Run, RunId, Spec, Writer, ttl_owner};

use crate::tree::*;

const ACLS: [(&[u8], u32); 4] = [(OPEN_RAW, 1), (READ_RAW, 1), (&[], 0), (b"\0\0\0\x03another one", 1)];
const SESSIONS: [i64; 3] = [1, 0x1000_0abc_d000_0003, -5];
const NOW_MS: i64 = 1_700_000_004_000;

/// All that can be asked of a tree.
#[derive(PartialEq, Debug, Default)]
struct Facts {
    nodes: BTreeMap<String, Node>,
    ephemerals: Vec<(BTreeSet<String>, u64)>,
    reapable: BTreeSet<String>,
    quotas: BTreeSet<String>,
    limits: Vec<String>,
    whole: (u64, usize, u64, usize),
}

#[derive(PartialEq, Debug)]
struct Node {
    version: NodeVersion,
    data: Option<Vec<u8>>,
    acl: (Vec<u8>, u32),
    children: BTreeSet<String>,
}

fn node(tree: &Tree, path: &str) -> Option<Node> {
    let node = tree.find(path)?;
    let mut children = BTreeSet::new();
    for name in node.children() {
        assert!(children.insert(name.to_owned()), "{path} lists {name} twice");
    }
    assert_eq!(children.len(), node.version().children as usize, "children of {path}: {children:?}");
    Some(Node {
        version: node.version(),
        data: node.data().map(std::borrow::Cow::into_owned),
        acl: (node.acl().raw.to_vec(), node.acl().count),
        children,
    })
}

fn reapable(tree: &Tree, never_used_ms: i64) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Wherever an earlier look stopped, two of them to the end see all.
    for _ in 0..2 {
        while tree.below.wait(|| {
            tree.reapable(NOW_MS, never_used_ms, true, usize::MAX, &mut |path| {
                let _ = found.insert(path.to_owned());
            })
        }) {}
    }
    found
}

fn facts(tree: &Tree) -> Facts {
    let mut facts = Facts::default();
    tree.for_each(|path, seen| {
        let asked = node(tree, path).unwrap_or_else(|| panic!("{path} is walked to and not found"));
        assert_eq!((seen.version(), seen.data().as_deref()), (asked.version, asked.data.as_deref()), "{path}");
        assert!(facts.nodes.insert(path.to_owned(), asked).is_none(), "{path} is walked to twice");
        if let Some((subject, quota)) = tree.quota(path) {
            facts.limits.push(format!("{path} in {subject}: {quota:?}"));
        }
    });
    facts.limits.sort();
    for session in SESSIONS {
        let session = SessionId::from_raw(session);
        let mut paths = BTreeSet::new();
        tree.ephemerals(session, &mut |path| assert!(paths.insert(path.to_owned()), "{path} is listed twice"));
        facts.ephemerals.push((paths, tree.ephemeral_path_bytes(session)));
    }
    facts.reapable = reapable(tree, 2);
    facts.quotas = tree.quotas.subjects().into_iter().collect();
    facts.whole = (tree.digest(), tree.len(), tree.approximate_data_bytes(), tree.ephemerals_count());
    facts
}

fn same(found: &Facts, expected: &Facts, when: &str) {
    assert_eq!(found.nodes.keys().collect::<Vec<_>>(), expected.nodes.keys().collect::<Vec<_>>(), "znodes, {when}");
    for (path, node) in &found.nodes {
        assert_eq!(node, &expected.nodes[path], "{path}, {when}");
    }
    assert_eq!(found, expected, "{when}");
}

struct Twins {
    plain: Tree,
    tree: Tree,
    zxid: u64,
    seed: u64,
    run: u64,
    /// The overlay on its way to a run, what held when it was frozen, and how far it is.
    frozen: Option<(Meta, Facts, Flush, Writer<Vec<u8>>)>,
    epoch: u32,
}

impl Twins {
    fn new(seed: u64) -> Twins {
        Twins { plain: Tree::new(seed), tree: Tree::new(seed), zxid: 0, seed, run: 0, frozen: None, epoch: 1 }
    }

    fn install(&mut self, path: &str, effect: &Effect<'_>) {
        // What a write was probed for, it does not wait for.
        while let Err(needed) = self.tree.probe_write(path) {
            needed.bring_in().unwrap();
        }
        let before = self.tree.cold_inline();
        self.plain.install(effect);
        self.tree.install(effect);
        let counts_all = matches!(effect, Effect::Create { .. }) && path::name(path) == quota::STATS;
        if !counts_all {
            assert_eq!(self.tree.cold_inline(), before, "{effect:?} waited");
        }
    }

    fn version(&self, path: &str) -> Option<NodeVersion> {
        self.plain.find(path).map(|node| node.version())
    }

    fn create(&mut self, path: &str, data: Option<&[u8]>, owner: i64, acl: usize) {
        let above = path::parent(path).expect("not the root");
        let Some(mut parent) = self.version(above) else { return };
        if self.version(path).is_some() || parent.ephemeral_session().is_some() {
            return;
        }
        self.zxid += 1;
        let zxid = Zxid::from_raw(self.zxid);
        parent.pzxid = zxid;
        parent.children += 1;
        parent.children_created += 1;
        let time_ms = 1_700_000_000_000 + self.zxid as i64;
        let node = NodeVersion {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
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
        };
        let (raw, acl_count) = ACLS[acl];
        self.install(path, &Effect::Create { path, data, acl: raw, acl_count, node, parent });
    }

    fn set(&mut self, path: &str, data: Option<&[u8]>) {
        let Some(before) = self.version(path) else { return };
        self.zxid += 1;
        let node = NodeVersion {
            mzxid: Zxid::from_raw(self.zxid),
            mtime_ms: 1_700_000_000_000 + self.zxid as i64,
            version: before.version.wrapping_add(1),
            data_bytes: data.map_or(0, |data| data.len() as u32),
            data_is_null: data.is_none(),
            prefix_crc: digest::prefix_crc(path, data),
            ..before
        };
        self.install(path, &Effect::SetData { path, data, node });
    }

    fn set_acl(&mut self, path: &str, acl: usize) {
        let Some(before) = self.version(path) else { return };
        let node = NodeVersion { aversion: before.aversion + 1, ..before };
        let (raw, acl_count) = ACLS[acl];
        self.install(path, &Effect::SetAcl { path, acl: raw, acl_count, node });
    }

    fn delete(&mut self, path: &str) {
        let Some(version) = self.version(path) else { return };
        if version.children != 0 || path::is_special(path) {
            return;
        }
        self.zxid += 1;
        let mut parent = self.version(path::parent(path).expect("not the root")).expect("the parent is there");
        parent.pzxid = Zxid::from_raw(self.zxid);
        parent.children -= 1;
        self.install(path, &Effect::Delete { path, parent });
    }

    fn delete_all(&mut self, top: &str) {
        let mut paths = Vec::new();
        let Some(node) = self.plain.find(top) else { return };
        self.plain.walk(node, &mut top.to_owned(), &mut |path, _| paths.push(path.to_owned()));
        paths.iter().rev().for_each(|path| self.delete(path));
    }

    fn close(&mut self, session: i64) {
        let session = SessionId::from_raw(session);
        while let Err(needed) = self.tree.probe_ephemerals(session) {
            needed.bring_in().unwrap();
        }
        let before = self.tree.cold_inline();
        let mut paths = Vec::new();
        self.tree.ephemerals(session, &mut |path| paths.push(path.to_owned()));
        assert_eq!(self.tree.cold_inline(), before, "ephemerals waited");
        paths.iter().for_each(|path| self.delete(path));
        assert_eq!(self.plain.ephemeral_path_bytes(session), 0, "all ephemerals of {session:?} are gone");
    }

    fn writer(&mut self) -> Writer<Vec<u8>> {
        self.run += 1;
        let spec =
            Spec { run: RunId(self.run), store: 5, seed: self.seed, identity: self.run, digest_of: digest::of_entry };
        Writer::new(Vec::new(), spec)
    }

    fn open_run(&self, bytes: Vec<u8>, run: RunId) -> Arc<Run> {
        Arc::new(Run::from_bytes(Path::new("run"), run, bytes).expect("what was written can be read"))
    }

    fn freeze(&mut self) {
        if self.frozen.is_none() {
            let meta = self.tree.meta();
            let overlay = self.tree.freeze();
            self.frozen = Some((meta, facts(&self.plain), Flush::new(overlay), self.writer()));
        }
    }

    /// Writes some entries of the frozen overlay; with the last ones it becomes a run.
    fn flush(&mut self, entries: usize) {
        let Some((meta, then, mut flush, mut writer)) = self.frozen.take() else { return };
        if !flush.step(&mut writer, entries).unwrap() {
            self.frozen = Some((meta, then, flush, writer));
            return;
        }
        let (written, bytes) = writer.finish(&meta).unwrap();
        let run = self.open_run(bytes, written.run);
        self.tree.replace_frozen(run);
        let opened = Tree::open(self.seed, self.tree.runs().to_vec()).unwrap();
        same(&facts(&opened), &then, "of the runs as of the freeze");
    }

    fn flush_all(&mut self) {
        while self.frozen.is_some() {
            self.flush(usize::MAX);
        }
        self.freeze();
        while self.frozen.is_some() {
            self.flush(usize::MAX);
        }
    }

    fn reopen(&mut self) {
        self.flush_all();
        self.tree = Tree::open(self.seed, self.tree.runs().to_vec()).unwrap();
    }

    /// Merges some runs that lie over each other.
    fn merge(&mut self, first: usize, count: usize) {
        let runs = self.tree.runs().to_vec();
        if runs.len() < 2 {
            return;
        }
        let first = first % (runs.len() - 1);
        let end = (first + 2 + count % runs.len()).min(runs.len());
        let inputs = runs[first..end].to_vec();
        let old: Vec<RunId> = inputs.iter().map(|run| run.id()).collect();
        let is_bottom = end == runs.len();
        let writer = self.writer();
        let mut merge = Merge::new(inputs, is_bottom, digest::of_entry, writer);
        let written = loop {
            if let Progress::Done(written) = merge.step(1000).unwrap() {
                break written;
            }
        };
        let run = self.open_run(merge.into_sink().unwrap(), written.run);
        if is_bottom {
            assert_eq!(run.meta().entries_digest, run.meta().digest, "digest of the merged tree");
            let mut entries = run.entries();
            while let Some(entry) = run.warm(|| entries.next()).unwrap() {
                assert!(!entry.is_absent() && !entry.is_lower(), "{:?} at the bottom", (entry.parent(), entry.name()));
            }
        }
        let gone = self.tree.replace_runs(&old, run);
        assert_eq!(gone.iter().map(|run| run.id()).collect::<Vec<_>>(), old);
    }

    /// All blocks are cold again.
    fn cool(&mut self) {
        self.epoch += 1;
        for run in self.tree.runs() {
            run.set_epoch(self.epoch, self.epoch);
        }
    }

    /// A read and a listing in slices after probes: neither waits.
    fn read(&mut self, path: &str, slice: usize) {
        self.cool();
        let tree = &self.tree;
        let bring = |needed: Needed| needed.bring_in().unwrap();
        while let Err(needed) = tree.probe(path) {
            bring(needed);
        }
        let before = tree.cold_inline();
        let found = tree.find(path);
        let expected = self.plain.find(path);
        assert_eq!(found.is_some(), expected.is_some(), "{path}");
        let (Some(found), Some(expected)) = (found, expected) else { return };
        assert_eq!(found.data(), expected.data(), "{path}");
        assert_eq!(found.acl(), expected.acl(), "{path}");
        let mut names = Vec::new();
        let mut position = None;
        loop {
            while let Err(needed) = tree.probe_children(path, position.as_ref(), slice) {
                bring(needed);
            }
            let node = tree.find(path).expect("it is there");
            let mut children = match &position {
                None => node.children(),
                Some(position) => node.children_from(position).expect("nothing changed"),
            };
            let got: Vec<&str> = children.by_ref().take(slice).collect();
            let is_last = got.len() < slice;
            names.extend(got);
            if is_last {
                break;
            }
            position = Some(children.position());
        }
        assert_eq!(tree.cold_inline(), before, "what was probed for was waited for: {path}");
        names.sort_unstable();
        let mut due: Vec<&str> = expected.children().collect();
        due.sort_unstable();
        assert_eq!(names, due, "{path} in slices");
    }

    fn check(&self, when: &str) {
        same(&facts(&self.tree), &facts(&self.plain), when);
        for path in ["/", "/a", "/a/b", "/zookeeper"] {
            assert_eq!(self.tree.descendants(path), self.plain.descendants(path), "{path}, {when}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create { path: usize, data: usize, owner: usize, acl: usize },
    Set { path: usize, data: usize },
    SetAcl { path: usize, acl: usize },
    Delete { path: usize },
    DeleteAll { path: usize },
    Close { session: usize },
    Quota { path: usize, comes: bool },
    Freeze,
    Flush { entries: usize },
    Merge { first: usize, count: usize },
    Reopen,
    Read { path: usize, slice: usize },
    Cool,
    Check,
}

/// Few enough that znodes come again where others went; siblings whose order as paths is not that of a walk.
fn paths() -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for a in ["a", "a-b", "a0", "é"] {
        paths.push(format!("/{a}"));
        for b in ["b", "b!", "bb", "common-prefix-0000000001", "common-prefix-0000000002"] {
            paths.push(format!("/{a}/{b}"));
            for c in ["c", "日本語", "c\u{10ffff}"] {
                paths.push(format!("/{a}/{b}/{c}"));
            }
        }
    }
    paths.push("/a/b/c/d".to_owned());
    paths.push("/a/b/c/d/e".to_owned());
    paths
}

fn data(number: usize) -> Option<Vec<u8>> {
    match number {
        0 => None,
        1 => Some(Vec::new()),
        // It is packed in a run.
        2 => Some(b"again and ".repeat(900)),
        // It crosses blocks, and cannot be packed.
        3 => {
            let mut state = 1_u32;
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            Some((0..90_000).map(next).collect())
        }
        number => Some(vec![number as u8; number]),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = || any::<usize>();
    let data = || prop_oneof![12 => 4..40_usize, 3 => 0..3_usize, 1 => Just(3)];
    let step = prop_oneof![
        40 => (path(), data(), 0..12_usize, 0..ACLS.len())
            .prop_map(|(path, data, owner, acl)| Step::Create { path, data, owner, acl }),
        12 => (path(), data()).prop_map(|(path, data)| Step::Set { path, data }),
        6 => (path(), 0..ACLS.len()).prop_map(|(path, acl)| Step::SetAcl { path, acl }),
        14 => path().prop_map(|path| Step::Delete { path }),
        2 => path().prop_map(|path| Step::DeleteAll { path }),
        2 => (0..SESSIONS.len()).prop_map(|session| Step::Close { session }),
        3 => (path(), any::<bool>()).prop_map(|(path, comes)| Step::Quota { path, comes }),
        6 => Just(Step::Freeze),
        10 => (1..30_usize).prop_map(|entries| Step::Flush { entries }),
        3 => (any::<usize>(), any::<usize>()).prop_map(|(first, count)| Step::Merge { first, count }),
        1 => Just(Step::Reopen),
        4 => (path(), 1..4_usize).prop_map(|(path, slice)| Step::Read { path, slice }),
        2 => Just(Step::Cool),
        2 => Just(Step::Check),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn layers_make_no_difference(steps in steps(), seed in any::<u64>()) {
        let mut twins = Twins::new(seed);
        let paths = paths();
        let owners = [SESSIONS[0], SESSIONS[1], SESSIONS[2], CONTAINER_OWNER, ttl_owner(20), ttl_owner(1 << 30)];
        for step in steps {
            let at = |path: usize| paths[path % paths.len()].as_str();
            match step {
                Step::Create { path, data: bytes, owner, acl } => {
                    let owner = owners.get(owner).copied().unwrap_or(0);
                    twins.create(at(path), data(bytes).as_deref(), owner, acl);
                }
                Step::Set { path, data: bytes } => twins.set(at(path), data(bytes).as_deref()),
                Step::SetAcl { path, acl } => twins.set_acl(at(path), acl),
                Step::Delete { path } => twins.delete(at(path)),
                Step::DeleteAll { path } => twins.delete_all(at(path)),
                Step::Close { session } => twins.close(SESSIONS[session]),
                Step::Quota { path, comes: true } => {
                    let subject = at(path);
                    let mut above = quota::ROOT.to_owned();
                    for name in subject[1..].split('/') {
                        above = format!("{above}/{name}");
                        twins.create(&above, Some(b""), 0, 0);
                    }
                    twins.create(&format!("{above}/{}", quota::LIMITS), Some(b"count=5,bytes=7"), 0, 0);
                    twins.create(&format!("{above}/{}", quota::STATS), Some(b""), 0, 0);
                }
                Step::Quota { path, comes: false } => {
                    let above = format!("{}{}", quota::ROOT, at(path));
                    twins.delete(&format!("{above}/{}", quota::LIMITS));
                    twins.delete(&format!("{above}/{}", quota::STATS));
                    twins.delete(&above);
                }
                Step::Freeze => twins.freeze(),
                Step::Flush { entries } => twins.flush(entries * entries / 10 + 1),
                Step::Merge { first, count } => twins.merge(first, count),
                Step::Reopen => twins.reopen(),
                Step::Read { path, slice } => twins.read(at(path), slice),
                Step::Cool => twins.cool(),
                Step::Check => twins.check("in between"),
            }
            if 5 < twins.tree.runs().len() {
                twins.merge(0, 2);
            }
            prop_assert_eq!(twins.tree.digest(), twins.plain.digest());
        }
        twins.check("at the end");
        twins.flush_all();
        twins.check("in runs");
        twins.merge(0, usize::MAX - 1);
        twins.merge(0, twins.tree.runs().len());
        twins.check("merged");
        twins.reopen();
        twins.check("opened again");
        for path in ["/a", "/a-b", "/a0", "/é", "/zookeeper/quota/a", "/zookeeper/quota/a-b", "/zookeeper/quota/a0", "/zookeeper/quota/é"] {
            twins.delete_all(path);
        }
        twins.reopen();
        twins.check("emptied");
        prop_assert_eq!(twins.tree.len(), 4);
        while 1 < twins.tree.runs().len() {
            twins.merge(0, twins.tree.runs().len());
        }
        prop_assert_eq!(twins.tree.runs()[0].entries_count(), 4);
    }
}

#[test]
fn a_look_for_what_may_go_comes_to_its_end_while_runs_come_and_go() {
    let mut twins = Twins::new(11);
    let paths: Vec<String> = (0..20_000).map(|number| format!("/t{number:05}")).collect();
    for path in &paths {
        twins.create(path, None, ttl_owner(1), 0);
    }
    twins.flush_all();
    let mut found = BTreeSet::new();
    for look in 0..5 {
        let asked = twins
            .tree
            .below
            .wait(|| twins.tree.reapable(i64::MAX, 0, true, 20_000, &mut |path| drop(found.replace(path.to_owned()))));
        assert_eq!(asked, look < 4, "whether there are more after look {look}");
        // Something else is written, with candidates of its own.
        twins.create(&format!("/x{look}"), None, ttl_owner(1), 0);
        twins.flush_all();
        if look == 1 {
            twins.merge(0, 0);
        }
    }
    assert_eq!(paths.iter().filter(|path| !found.contains(*path)).count(), 0, "paths that were not looked at");
}
