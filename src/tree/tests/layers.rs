//! Layers of every kind and in every order, against the same naive tree.

use std::sync::Arc;

use zorilla_snapshot::{Merge, Meta, Progress, Run, RunId, Spec, Writer};

use super::*;

/// A tree with its layers, which the store would write: here runs are bytes in memory.
struct Stack {
    pair: Pair,
    seed: u64,
    frozen: Option<(Arc<Overlay>, Meta)>,
    runs: u64,
    epoch: u32,
}

impl Stack {
    fn new(seed: u64) -> Stack {
        Stack { pair: Pair::new(seed), seed, frozen: None, runs: 0, epoch: 1 }
    }

    fn writer(&mut self) -> Writer<Vec<u8>> {
        self.runs += 1;
        let spec = Spec { run: RunId(self.runs), store: 7, seed: self.seed, identity: 1, digest_of: digest::of_entry };
        Writer::new(Vec::new(), spec)
    }

    fn opened(&self, bytes: Vec<u8>) -> Arc<Run> {
        Arc::new(Run::from_bytes("run".as_ref(), RunId(self.runs), bytes).unwrap_or_else(|fault| panic!("{fault}")))
    }

    fn freeze(&mut self) {
        if self.frozen.is_none() {
            let meta = self.pair.tree.meta();
            self.frozen = Some((self.pair.tree.freeze(), meta));
        }
    }

    fn flush(&mut self, entries: usize) {
        let Some((overlay, meta)) = self.frozen.take() else { return };
        let mut writer = self.writer();
        let mut flush = Flush::new(overlay);
        while !flush.step(&mut writer, entries).unwrap() {}
        let (written, bytes) = writer.finish(&meta).unwrap();
        assert_eq!(written.bytes as usize, bytes.len());
        let run = self.opened(bytes);
        self.pair.tree.replace_frozen(run);
    }

    /// Merges `count` runs from the `first` newest on.
    fn merge(&mut self, first: usize, count: usize) {
        let runs = self.pair.tree.runs().to_vec();
        if runs.is_empty() {
            return;
        }
        let first = first % runs.len();
        let merged = &runs[first..runs.len().min(first + count)];
        let is_bottom = first + merged.len() == runs.len();
        let writer = self.writer();
        let mut merge = Merge::new(merged.to_vec(), is_bottom, digest::of_entry, writer);
        while matches!(merge.step(1000).unwrap(), Progress::More) {}
        let run = self.opened(merge.into_sink().unwrap());
        let old: Vec<RunId> = merged.iter().map(|run| run.id()).collect();
        let retired = self.pair.tree.replace_runs(&old, run);
        assert_eq!(retired.len(), merged.len());
    }

    /// Writes everything to runs and begins again with them.
    fn reopen(&mut self) {
        self.flush(100);
        self.freeze();
        self.flush(100);
        let before = std::mem::replace(&mut self.pair.tree, Tree::new(0));
        let runs = before.runs().to_vec();
        self.pair.tree = Tree::open(self.seed, runs).unwrap_or_else(|fault| panic!("{fault}"));
        let facts = |tree: &Tree| {
            let mut meta = tree.meta();
            meta.owners.sort_unstable();
            meta.quotas.sort_unstable();
            meta
        };
        assert_eq!(facts(&self.pair.tree), facts(&before));
    }

    /// Nothing is in memory any more, and what is probed for needs no waiting.
    fn cool(&mut self) {
        self.epoch += 2;
        let tree = &self.pair.tree;
        tree.runs().iter().for_each(|run| run.set_epoch(self.epoch, self.epoch));
        let bring_in = |needed: &Needed| needed.bring_in().unwrap_or_else(|fault| panic!("{fault}"));
        let waited = tree.cold_inline();
        for path in self.pair.model.keys() {
            while let Err(needed) = tree.probe(path) {
                bring_in(&needed);
            }
            drop(tree.find(path).expect("it is there").data());
            while let Err(needed) = tree.probe_write(&join(path, "missing")) {
                bring_in(&needed);
            }
            assert!(tree.find(&join(path, "missing")).is_none());
            while let Err(needed) = tree.probe_children(path, None, usize::MAX) {
                bring_in(&needed);
            }
            tree.find(path).expect("it is there").children().for_each(drop);
        }
        for session in SESSIONS.map(SessionId::from_raw) {
            while let Err(needed) = tree.probe_ephemerals(session) {
                bring_in(&needed);
            }
            tree.ephemerals(session, &mut |_| ());
        }
        assert_eq!(tree.cold_inline(), waited, "what was probed for had to be waited for");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Freeze => self.freeze(),
            Step::Flush { entries } => self.flush(entries),
            Step::Merge { first, count } => self.merge(first, count),
            Step::Reopen => self.reopen(),
            Step::Cool => self.cool(),
            _ => self.pair.step(step),
        }
    }

    /// The live overlay becomes a run.
    fn settle(&mut self) {
        self.freeze();
        self.flush(100);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn layers_agree_with_a_map(steps in steps(), seed in any::<u64>()) {
        let mut stack = Stack::new(seed);
        for step in &steps {
            stack.step(step);
            prop_assert_eq!(stack.pair.tree.digest(), stack.pair.digest());
        }
        stack.pair.check();
        stack.reopen();
        stack.pair.check();
    }
}

fn names<'t>(children: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut names: Vec<&str> = children.collect();
    names.sort_unstable();
    names
}

#[test]
fn parent_that_comes_again_has_no_old_children() {
    let mut stack = Stack::new(1);
    for path in ["/a", "/a/b", "/a/b/c", "/a/d"] {
        stack.pair.create(path, Some(b"old".to_vec()), 0, 0);
    }
    stack.settle();
    for path in ["/a/b/c", "/a/b", "/a/d", "/a"] {
        stack.pair.delete(path);
    }
    stack.freeze();
    stack.pair.create("/a", Some(b"new".to_vec()), 0, 1);
    stack.pair.create("/a/d", None, 0, 0);
    stack.pair.check();
    assert_eq!(names(stack.pair.tree.find("/a").unwrap().children()), ["d"]);
    stack.flush(1);
    stack.pair.check();
    stack.pair.delete("/a/d");
    stack.pair.delete("/a");
    stack.settle();
    stack.pair.check();
    assert_eq!(stack.pair.tree.runs().len(), 3);
    stack.merge(0, 3);
    stack.pair.check();
    assert_eq!(stack.pair.tree.runs()[0].entries_count(), 4, "no tombstone is left at the bottom");
}

#[test]
fn tombstone_hides_what_is_frozen_and_what_is_in_a_run() {
    let mut stack = Stack::new(2);
    stack.pair.create("/a", Some(b"1".to_vec()), SESSIONS[0], 0);
    stack.settle();
    stack.pair.set("/a", Some(b"2".to_vec()));
    stack.freeze();
    stack.pair.check();
    stack.pair.delete("/a");
    stack.pair.check();
    stack.flush(1);
    stack.pair.check();
    stack.settle();
    stack.pair.check();
    // Another znode of another session in its place.
    stack.pair.create("/a", None, SESSIONS[1], 2);
    stack.pair.check();
    stack.reopen();
    stack.pair.check();
}

#[test]
fn data_is_found_below_several_layers_that_have_the_stat_only() {
    let mut stack = Stack::new(3);
    let long: Vec<u8> = b"packed ".repeat(2000);
    stack.pair.create("/a", Some(long.clone()), 0, 0);
    stack.pair.create("/a/b", None, 0, 0);
    stack.pair.create("/e", Some(Vec::new()), 0, 0);
    stack.settle();
    for acl in [1, 2] {
        stack.pair.set_acl("/a", acl);
        stack.pair.set_acl("/a/b", acl);
        stack.pair.set_acl("/e", acl);
        stack.settle();
    }
    stack.pair.set_acl("/a", 0);
    stack.freeze();
    stack.pair.create("/a/c", None, 0, 0);
    stack.pair.check();
    let value = stack.pair.tree.find("/a").unwrap().value();
    assert!(matches!(value, Value::Packed { bytes, .. } if bytes as usize == long.len()), "{value:?}");
    let (entries, bytes) = stack.pair.tree.live_size();
    assert!(entries == 3 && bytes < 100_000, "{entries} entries of {bytes} bytes");
    stack.flush(1);
    stack.merge(0, 2);
    stack.pair.check();
    stack.merge(0, 9);
    stack.pair.check();
}

#[test]
fn large_parent_that_gains_a_child_costs_one_entry() {
    const CHILDREN: usize = 100_000;
    let mut stack = Stack::new(4);
    stack.pair.create("/p", Some(vec![7; 5000]), 0, 0);
    for child in 0..CHILDREN {
        stack.pair.create(&format!("/p/child-{child:06}"), None, 0, 0);
    }
    stack.settle();
    let tree = &stack.pair.tree;
    let (entries, before) = tree.live_size();
    assert_eq!(entries, 1);
    stack.pair.create("/p/another", None, 0, 0);
    let (entries, after) = stack.pair.tree.live_size();
    assert_eq!(entries, 3, "the root, the parent and the child");
    assert!(after - before < 40_000, "{} bytes for one child", after - before);
    let parent = stack.pair.tree.find("/p").unwrap();
    assert_eq!(parent.version().children as usize, CHILDREN + 1);
    let started = Instant::now();
    let listed = names(parent.children());
    println!("{} children are listed in {:?}", listed.len(), started.elapsed());
    assert_eq!(listed.len(), CHILDREN + 1);
    assert_eq!((listed[0], listed[CHILDREN]), ("another", "child-099999"));
}

#[test]
fn listing_goes_on_where_it_was_as_long_as_no_child_comes_or_goes() {
    let mut stack = Stack::new(5);
    stack.pair.create("/p", None, 0, 0);
    let create = |stack: &mut Stack, from: usize| {
        (from..from + 5).for_each(|child| stack.pair.create(&format!("/p/c{child}"), Some(vec![1]), 0, 0));
    };
    create(&mut stack, 0);
    stack.settle();
    create(&mut stack, 5);
    stack.settle();
    create(&mut stack, 10);
    stack.freeze();
    create(&mut stack, 15);
    let expected: Vec<String> = (0..20).map(|child| format!("/p/c{child}")).collect();
    let mut listed = Vec::new();
    let mut position = None;
    loop {
        let node = stack.pair.tree.find("/p").unwrap();
        let mut children = match &position {
            None => node.children(),
            Some(position) => node.children_from(position).expect("no child came or went"),
        };
        let Some(child) = children.next() else { break };
        listed.push(format!("/p/{child}"));
        position = Some(children.position());
        // Whatever else changes: those listed, those that are still to come, the znode itself.
        for path in [&expected[listed.len() - 1], &expected[expected.len() - listed.len()], "/p"] {
            stack.pair.set(path, Some(vec![listed.len() as u8; 100]));
        }
    }
    listed.sort_unstable();
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    assert_eq!(listed, sorted);

    let goes_on = |stack: &Stack, position: &ListingPosition| {
        stack.pair.tree.find("/p").unwrap().children_from(position).map(|children| names(children).len())
    };
    let position = |stack: &Stack, after: usize| {
        let node = stack.pair.tree.find("/p").unwrap();
        let mut children = node.children();
        children.by_ref().take(after).for_each(drop);
        children.position()
    };
    let (early, late) = (position(&stack, 2), position(&stack, 7));
    assert_eq!((goes_on(&stack, &early), goes_on(&stack, &late)), (Some(18), Some(13)));
    stack.flush(3);
    assert_eq!(goes_on(&stack, &late), None, "the layer is gone in whose midst it was");
    let early = position(&stack, 3);
    stack.freeze();
    assert_eq!(goes_on(&stack, &early), Some(17), "what was live is frozen now");
    stack.pair.create("/p/x", None, 0, 0);
    assert_eq!(goes_on(&stack, &early), None, "a child came");
}

#[test]
fn groups_come_in_the_order_of_their_paths() {
    let mut stack = Stack::new(6);
    for path in ["/a", "/a/b", "/a/b/c", "/a-b", "/a-b/c", "/a-b-c", "/a-b-c/x", "/a b", "/a b/y", "/ab", "/ab/z"] {
        stack.pair.create(path, None, 0, 0);
    }
    stack.settle();
    // Deep changes list nothing but themselves.
    for path in ["/a/b/c", "/a-b/c", "/a b/y", "/ab"] {
        stack.pair.set(path, Some(vec![2]));
    }
    assert_eq!(stack.pair.tree.live_size().0, 5);
    stack.pair.create("/a/b/c/d", None, 0, 0);
    stack.settle();
    let run = stack.pair.tree.runs()[0].clone();
    run.verify().unwrap();
    let mut entries = run.entries();
    let mut listed = Vec::new();
    while let Some(entry) = entries.next().unwrap() {
        listed.push((entry.parent(), entry.name()));
    }
    let expected = [("", ""), ("", "ab"), ("/a b", "y"), ("/a-b", "c"), ("/a/b", "c"), ("/a/b/c", "d")];
    assert_eq!(listed, expected);
    stack.pair.check();
    stack.reopen();
    stack.pair.check();
}

#[test]
fn quotas_are_known_again_and_go_on_counting() {
    let mut stack = Stack::new(9);
    let text = |text: &str| Some(text.as_bytes().to_vec());
    for (path, data) in [
        ("/a", text("12")),
        ("/a/b", text("345")),
        ("/zookeeper/quota/a", None),
        ("/zookeeper/quota/a/zookeeper_limits", text("count=9")),
        ("/zookeeper/quota/a/zookeeper_stats", None),
        ("/zookeeper/quota/a/b", None),
        ("/zookeeper/quota/a/b/zookeeper_limits", text("unreadable")),
    ] {
        stack.pair.create(path, data, 0, 0);
    }
    stack.settle();
    let counted = |stack: &Stack| {
        let data = stack.pair.tree.find("/zookeeper/quota/a/zookeeper_stats").unwrap().data();
        String::from_utf8(data.unwrap().into_owned()).unwrap()
    };
    stack.pair.create("/a/c", text("6789"), 0, 0);
    assert_eq!(counted(&stack), "count=3,bytes=9");
    stack.reopen();
    let tree = &stack.pair.tree;
    assert_eq!((tree.quotas_count(), counted(&stack).as_str()), (2, "count=3,bytes=9"));
    assert_eq!((tree.quota_of("/a/b/x"), tree.quota_of("/a/c")), (Some("/a/b"), Some("/a")));
    assert!(tree.quota("/a/b").unwrap().1.limits.is_none());
    stack.pair.delete("/a/c");
    assert_eq!(counted(&stack), "count=2,bytes=5");
    assert_eq!((stack.pair.tree.descendants("/a"), stack.pair.tree.descendants("/")), (Some(1), Some(10)));
}

/// A change far below costs its path, in whatever layer the znodes above it are.
#[test]
fn deep_paths_cost_their_depth_in_every_layer() {
    const LEVELS: usize = 2_000;
    let mut stack = Stack::new(10);
    let whole = "/d".repeat(LEVELS);
    for level in 1..=LEVELS {
        stack.pair.create(&whole[..2 * level], None, 0, 0);
    }
    stack.settle();
    let started = Instant::now();
    stack.pair.set(&whole, Some(vec![1]));
    stack.pair.set(&whole[..LEVELS], Some(vec![2]));
    let took = started.elapsed();
    println!("two sets {LEVELS} levels deep: {took:?}");
    assert!(took < Duration::from_millis(50), "{took:?} for two sets");
    assert_eq!(stack.pair.tree.live_size().0, 3, "the root and what was set");
    // One below an entry with a whole path for a name, and one above it.
    stack.pair.create(&format!("{}/e", &whole[..LEVELS]), None, SESSIONS[0], 0);
    stack.pair.set(&whole[..LEVELS - 2], Some(vec![3]));
    let mut deepest = 0;
    stack.pair.tree.for_each(|path, _| deepest = deepest.max(path.len()));
    assert_eq!(deepest, whole.len());
    stack.settle();
    stack.merge(0, 2);
    stack.reopen();
    for (path, data) in [(&whole[..], 1), (&whole[..LEVELS], 2), (&whole[..LEVELS - 2], 3)] {
        assert_eq!(stack.pair.tree.find(path).unwrap().data().as_deref(), Some(&[data][..]));
    }
    assert_eq!(stack.pair.tree.digest(), stack.pair.digest());
}

#[test]
fn runs_that_do_not_belong_together_are_refused() {
    let mut stack = Stack::new(7);
    stack.settle();
    let runs = stack.pair.tree.runs().to_vec();
    let Err(fault) = Tree::open(8, runs) else { panic!("a run with another seed is opened") };
    assert!(fault.to_string().contains("seed"), "{fault}");
}

/// What a server does all day, and how fast it gets to a run.
#[test]
fn overlay_of_many_znodes_is_written_fast() {
    const COUNT: u32 = 300_000;
    let mut tree = Tree::new(11);
    fill(&mut tree, COUNT);
    let meta = tree.meta();
    let started = Instant::now();
    let overlay = tree.freeze();
    let froze = started.elapsed();
    let mut flush = Flush::new(overlay);
    let spec = Spec { run: RunId(1), store: 7, seed: 11, identity: 1, digest_of: digest::of_entry };
    let mut writer = Writer::new(Vec::new(), spec);
    let (mut steps, mut slowest) = (0, Duration::ZERO);
    let sorted = loop {
        let began = Instant::now();
        let is_done = flush.step(&mut writer, 2000).unwrap();
        slowest = slowest.max(began.elapsed());
        steps += 1;
        if is_done {
            break started.elapsed();
        }
    };
    let (written, bytes) = writer.finish(&meta).unwrap();
    println!("{COUNT} znodes: frozen in {froze:?}, {steps} steps, the slowest {slowest:?}, {sorted:?} in all");
    assert_eq!(written.entries as usize, tree.len());
    assert!(froze < Duration::from_millis(50), "{froze:?} for a freeze");
    let run = Run::from_bytes("run".as_ref(), RunId(1), bytes).unwrap();
    tree.replace_frozen(Arc::new(run));
    let node = tree.find("/folder-00007/node-0007123").unwrap();
    assert_eq!(node.data().as_deref(), Some(&[7123_u32 as u8; 100][..]));
}
