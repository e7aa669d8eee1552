//! The layers of a tree: how they come, go and are asked without waiting.

use std::mem;
use std::sync::Arc;

use zorilla_proto::ids::SessionId;
use zorilla_snapshot::{Fault, Meta, Run, RunId};

use super::arena::Content;
use super::below::{self, Place};
use super::overlay::{Arrival, Kind, Node, Overlay, ROOT};
use super::subtree::stats_path;
use super::{ListingPosition, Needed, Tree, Value, digest, key, path, plain, quota};
use crate::table::NONE;

impl Tree {
    /// The tree of these runs, the newest first; without any, that of an empty server. What holds for all of it comes from the
    /// newest; nothing is scanned.
    ///
    /// # Errors
    /// The runs do not belong together, or what is needed of them is damaged.
    pub fn open(seed: u64, runs: Vec<Arc<Run>>) -> Result<Tree, Fault> {
        let Some(newest) = runs.first().cloned() else { return Ok(Tree::new(seed)) };
        for run in &runs {
            if run.seed() != seed {
                let what = format!("expected a run with the seed {seed:#018x}, found {:#018x}", run.seed());
                return Err(Fault::new(run.path(), 40, what));
            }
        }
        let mut tree = Tree::without_root(seed);
        tree.below.runs = runs;
        tree.below.changed();
        let meta = newest.meta();
        (tree.digest, tree.len, tree.bytes) = (meta.digest, meta.znodes, meta.data_bytes);
        for (session, count, path_bytes) in &meta.owners {
            tree.owners.open(*session, *count, *path_bytes);
        }
        if tree.owners.count() != meta.ephemerals {
            let what =
                format!("expected {} ephemerals of all sessions, found {}", meta.ephemerals, tree.owners.count());
            return Err(Fault::new(newest.path(), newest.file_bytes(), what));
        }
        tree.bring_root(&newest)?;
        for subject in &meta.quotas {
            tree.open_quota(subject)?;
        }
        Ok(tree)
    }

    /// The root has an entry in every overlay.
    fn bring_root(&mut self, newest: &Run) -> Result<(), Fault> {
        let hash = self.live.hash("");
        let root = loop {
            match self.below.find(0, "", hash) {
                Ok(Some(place)) => break place,
                Ok(None) => {
                    return Err(Fault::new(
                        newest.path(),
                        0,
                        "expected the root in this run or in one below it, found none",
                    ));
                }
                Err(needed) => needed.bring_in()?,
            }
        };
        let version = root.version();
        let data = Content::lower(version.data_bytes, version.data_is_null);
        let (acl, digest) = (self.below.acl(&root), digest::short("", &version));
        let arrival = Arrival { kind: Kind::Lower, data, acl, version: &version, digest };
        let slot = self.live.add(NONE, "", hash, arrival);
        assert_eq!(slot, ROOT, "the root has the first slot");
        Ok(())
    }

    /// The live overlay becomes the frozen one, to be written to a run; an empty one takes the changes from now on.
    pub fn freeze(&mut self) -> Arc<Overlay> {
        assert!(self.below.frozen.is_none(), "the tree is frozen while the last frozen overlay is still there");
        let next = Overlay::new(self.seed, self.live.generation + 1);
        let frozen = Arc::new(mem::replace(&mut self.live, next));
        let root = frozen.nodes.get(ROOT);
        let version = frozen.version(root);
        let data = Content::lower(version.data_bytes, version.data_is_null);
        let digest = digest::short("", &version);
        let arrival = Arrival { kind: Kind::Lower, data, acl: frozen.acl(root), version: &version, digest };
        let hash = self.live.hash("");
        let slot = self.live.add(NONE, "", hash, arrival);
        assert_eq!(slot, ROOT, "the root has the first slot");
        self.below.frozen = Some(frozen.clone());
        self.below.changed();
        frozen
    }

    /// What holds for the whole tree now: the part of a run's meta that the tree knows. To be taken with [`Tree::freeze`].
    pub fn meta(&self) -> Meta {
        Meta {
            digest: self.digest,
            znodes: self.len,
            data_bytes: self.bytes,
            ephemerals: self.owners.count(),
            owners: self.owners.all(),
            quotas: self.quotas.subjects(),
            ..Meta::default()
        }
    }

    /// The frozen overlay is in this run now. What is returned is to be dropped where time does not matter.
    pub fn replace_frozen(&mut self, run: Arc<Run>) -> Arc<Overlay> {
        let frozen = self.below.frozen.take().expect("a frozen overlay is replaced");
        assert_eq!(run.seed(), self.seed, "seed of a run");
        let come = run.reapables_count();
        self.below.runs.insert(0, run);
        self.below.changed();
        self.reapables_moved(0, 0, come);
        frozen
    }

    /// Runs that lie directly over each other, `old`, the newest first, are merged into this one. What is returned is to be
    /// dropped where time does not matter.
    pub fn replace_runs(&mut self, old: &[RunId], new: Arc<Run>) -> Vec<Arc<Run>> {
        assert_eq!(new.seed(), self.seed, "seed of a run");
        let runs = &mut self.below.runs;
        let first =
            runs.windows(old.len().max(1)).position(|window| window.iter().map(|run| run.id()).eq(old.iter().copied()));
        let first = first.expect("merged runs are runs of the tree, side by side");
        let come = new.reapables_count();
        let retired: Vec<Arc<Run>> = runs.splice(first..first + old.len(), [new]).collect();
        let count = |runs: &[Arc<Run>]| runs.iter().map(|run| run.reapables_count()).sum();
        let (above, gone) = (count(&runs[..first]), count(&retired));
        self.reapables_moved(above, gone, come);
        retired
    }

    /// The seed of the hashes of paths: that of all runs, too.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The runs, the newest first.
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.below.runs
    }

    /// The overlay that is being written to a run.
    pub fn frozen(&self) -> Option<&Arc<Overlay>> {
        self.below.frozen.as_ref()
    }

    /// How many paths the live overlay says something of, and the memory it takes, in bytes.
    pub fn live_size(&self) -> (usize, usize) {
        (self.live.entries(), self.live.memory_bytes())
    }

    /// Blocks that had to be waited for in place because nobody had probed for them.
    pub fn cold_inline(&self) -> u64 {
        self.below.cold_inline()
    }

    /// Whether everything that a read of `path` asks for is in memory.
    ///
    /// # Errors
    /// What to bring in before it is asked again.
    pub fn probe(&self, path: &str) -> Result<(), Needed> {
        if !self.below.any {
            return Ok(());
        }
        match self.try_find(path)? {
            Some(place) => self.value_of(&place).map(drop),
            None => Ok(()),
        }
    }

    /// The same for a write: it asks for the znode and its parent, and not for data; and for what quotas count with it.
    /// Only the first count of a quota, which goes through all of its subtree, may wait all the same.
    ///
    /// # Errors
    /// What to bring in before it is asked again.
    pub fn probe_write(&self, path: &str) -> Result<(), Needed> {
        if !self.below.any {
            return Ok(());
        }
        self.try_find(path)?;
        let Some((parent, _)) = path::split(path) else { return Ok(()) };
        self.try_find(parent)?;
        if let Some(subject) = self.quota_of(path) {
            self.try_find(&stats_path(subject))?;
        }
        // A quota that comes is read from both of its znodes.
        quota::subject(parent).map_or(Ok(()), |subject| self.probe(&stats_path(subject)))
    }

    /// The same for a listing: the next `max` children of `path`, from the start or a position on.
    ///
    /// # Errors
    /// What to bring in before it is asked again.
    pub fn probe_children(&self, path: &str, from: Option<&ListingPosition>, max: usize) -> Result<(), Needed> {
        if self.below.runs.is_empty() {
            return Ok(());
        }
        let Some(place) = self.try_find(path)? else { return Ok(()) };
        let node = super::NodeRef { tree: self, place };
        let children = match from {
            None => Some(node.children()),
            Some(position) => node.children_from(position),
        };
        let Some(mut children) = children else { return Ok(()) };
        for _ in 0..max {
            if children.try_next()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The same for the ephemerals of a session.
    ///
    /// # Errors
    /// What to bring in before it is asked again.
    pub fn probe_ephemerals(&self, owner: SessionId) -> Result<(), Needed> {
        if self.below.runs.is_empty() { Ok(()) } else { self.each_ephemeral(owner, &mut |_| ()) }
    }

    /// Waits in place for what a question needed; damage ends the process.
    pub fn bring_in(&self, needed: &Needed) {
        self.below.bring_in(needed);
    }

    fn try_find(&self, path: &str) -> Result<Option<Place<'_>>, Needed> {
        let path = key(path);
        let hash = self.live.hash(path);
        match self.live.slot(path, hash).map(|slot| self.live.nodes.get(slot)) {
            Some(node) if node.kind() == Kind::Absent => Ok(None),
            Some(node) => Ok(Some(Place::Live(&self.live, node))),
            None => self.below.find(0, path, hash),
        }
    }

    /// The data of a znode, from the first layer that has it.
    pub(super) fn value_of<'t>(&'t self, place: &Place<'t>) -> Result<Value<'t>, Needed> {
        let own = |place: &Place<'t>| match place {
            Place::Live(_, node) | Place::Frozen(_, node) if node.kind() == Kind::Lower => Ok(Value::Lower),
            Place::Live(overlay, node) | Place::Frozen(overlay, node) => Ok(plain(overlay.blob(node).data())),
            Place::Run(index, entry) => below::of(&self.below.runs[*index], entry.value()),
        };
        let mut value = own(place)?;
        if value != Value::Lower {
            return Ok(value);
        }
        let mut path = String::new();
        place.path(&mut path);
        let hash = self.live.hash(&path);
        let mut place = *place;
        while value == Value::Lower {
            let below = self.below.find(below::next_layer(&place), &path, hash)?;
            place = below.unwrap_or_else(|| panic!("the data of {path} is in no layer"));
            value = own(&place)?;
        }
        Ok(value)
    }

    /// Gives a znode of a lower layer an entry in the live overlay, with its stat only.
    #[inline(never)]
    pub(super) fn bring_up(&mut self, path: &str, hash: u64) -> Option<u32> {
        let Tree { below, live, owners, .. } = self;
        let place = below.wait(|| below.find(0, path, hash))?;
        let version = place.version();
        let (parent, name) = anchor(live, path);
        let data = Content::lower(version.data_bytes, version.data_is_null);
        let (acl, digest) = (below.acl(&place), digest::short(path, &version));
        let slot = live.add(parent, name, hash, Arrival { kind: Kind::Lower, data, acl, version: &version, digest });
        if let Some(session) = version.ephemeral_session() {
            owners.link_known(session, live, slot);
        }
        Some(slot)
    }

    /// The ephemerals of a session in all layers: each where it is not hidden.
    pub(super) fn each_ephemeral(&self, owner: SessionId, each: &mut dyn FnMut(&str)) -> Result<(), Needed> {
        let Some(mut slot) = self.owners.first(owner, self.live.generation) else { return Ok(()) };
        let mut path = String::new();
        let next = |overlay: &Overlay, node: &Node| overlay.extras.get(node.extra).next_ephemeral;
        while slot != NONE {
            let node = self.live.nodes.get(slot);
            self.live.path_of(node, &mut path);
            each(&path);
            slot = next(&self.live, node);
        }
        if let Some(frozen) = &self.below.frozen {
            let mut slot = self.owners.first(owner, frozen.generation).unwrap_or(NONE);
            while slot != NONE {
                let node = frozen.nodes.get(slot);
                frozen.path_of(node, &mut path);
                if self.live.slot(&path, frozen.hash(&path)).is_none() {
                    each(&path);
                }
                slot = next(frozen, node);
            }
        }
        for (index, run) in self.below.runs.iter().enumerate() {
            for number in below::of(run, run.ephemerals(owner))? {
                let place = Place::Run(index, below::of(run, run.ephemeral(number))?);
                place.path(&mut path);
                if !self.hides(index, &path)? {
                    each(&path);
                }
            }
        }
        Ok(())
    }

    /// Whether a layer above a run says something of `path`.
    pub(super) fn hides(&self, run: usize, path: &str) -> Result<bool, Needed> {
        let hash = self.live.hash(path);
        Ok(self.live.slot(path, hash).is_some() || self.below.says(run, path, hash)?)
    }
}

/// Where the entry of a path hangs, and by which name.
fn anchor<'p>(live: &Overlay, path: &'p str) -> (u32, &'p str) {
    let (parent, name) = path::split(path).expect("a znode that is not the root has a parent");
    match live.slot(parent, live.hash(parent)) {
        Some(slot) => (slot, name),
        None => (ROOT, &path[1..]),
    }
}
