//! The children of a znode, from all layers.
//!
//! Each child is listed once: by the runs, if the newest of them that says something of it has it and no overlay says that
//! it is gone; otherwise by the overlay in which it came. So a child that is only set or read stays where it was listed,
//! and a listing can be interrupted and goes on as long as no child comes or goes.

use zorilla_proto::ids::Zxid;
use zorilla_snapshot::run::{Children as RunChildren, EntryRef};
use zorilla_snapshot::{NodeVersion, RunId};

use super::below::{self, Needed, Place};
use super::overlay::{Kind, Node, Overlay};
use super::{NodeRef, Tree};
use crate::table::NONE;

/// Children of one run: the next one, and what follows it.
struct Head<'t> {
    run: usize,
    next: EntryRef<'t>,
    rest: RunChildren<'t>,
}

/// How far a listing is. Steps through the live overlay, the frozen one, then the runs side by side.
pub(super) struct Cursor<'t> {
    live: u32,
    frozen: u32,
    /// `None`: not opened yet.
    heads: Option<Vec<Head<'t>>>,
    /// Where to open them; `None`: from the start.
    places: Option<Vec<(RunId, u64)>>,
}

/// What an overlay says of a path.
enum Said<'t> {
    Nothing,
    Gone,
    Has(&'t Node),
}

fn said<'t>(overlay: &'t Overlay, path: &str) -> Said<'t> {
    if overlay.entries() == 1 {
        return Said::Nothing;
    }
    match overlay.slot(path, overlay.hash(path)).map(|slot| overlay.nodes.get(slot)) {
        None => Said::Nothing,
        Some(node) if node.kind() == Kind::Absent => Said::Gone,
        Some(node) => Said::Has(node),
    }
}

fn push(path: &mut String, name: &str) {
    path.push('/');
    path.push_str(name);
}

impl<'t> Cursor<'t> {
    /// Before the first child of a znode whose path this is.
    pub fn new(tree: &'t Tree, place: &Place<'t>, path: &str) -> Cursor<'t> {
        let live = match place {
            Place::Live(overlay, node) => overlay.first_child(node),
            Place::Frozen(..) | Place::Run(..) => NONE,
        };
        let frozen = match (place, &tree.below.frozen) {
            (Place::Frozen(overlay, node), _) => overlay.first_child(node),
            (Place::Live(..), Some(frozen)) => {
                let slot = frozen.slot(path, frozen.hash(path));
                slot.map_or(NONE, |slot| frozen.first_child(frozen.nodes.get(slot)))
            }
            _ => NONE,
        };
        let heads = tree.below.runs.is_empty().then(Vec::new);
        Cursor { live, frozen, heads, places: None }
    }

    /// The next child. Where there are lower layers, `path` is that of the parent, and that of the child afterwards.
    pub fn next(&mut self, tree: &'t Tree, path: &mut String) -> Result<Option<Place<'t>>, Needed> {
        if self.live != NONE {
            let node = tree.live.nodes.get(self.live);
            self.live = node.next;
            if tree.below.any {
                push(path, tree.live.name(node));
            }
            return Ok(Some(Place::Live(&tree.live, node)));
        }
        let parent_bytes = path.len();
        while self.frozen != NONE {
            let frozen = tree.below.frozen.as_ref().expect("a listing of a frozen overlay ends with it");
            let node = frozen.nodes.get(self.frozen);
            self.frozen = node.next;
            push(path, frozen.name(node));
            match said(&tree.live, path) {
                Said::Gone => path.truncate(parent_bytes),
                Said::Has(node) => return Ok(Some(Place::Live(&tree.live, node))),
                Said::Nothing => return Ok(Some(Place::Frozen(frozen, node))),
            }
        }
        if self.heads.is_none() {
            self.heads = Some(self.open(tree, path)?);
        }
        let heads = self.heads.as_mut().expect("just opened");
        while let Some(smallest) = heads.iter().map(|head| head.next.name()).min() {
            // The newest comes first among those with this name, and goes on last: what is cold can be asked again.
            let newest = heads.iter().find(|head| head.next.name() == smallest).expect("one of them is the smallest");
            let (run, entry) = (newest.run, newest.next);
            while let Some(at) = heads.iter().rposition(|head| head.next.name() == smallest) {
                advance(tree, heads, at)?;
            }
            if entry.is_absent() {
                continue;
            }
            push(path, entry.name());
            let frozen = tree.below.frozen.as_deref().map_or(Said::Nothing, |frozen| said(frozen, path));
            let place = match (frozen, said(&tree.live, path)) {
                (Said::Gone, _) | (_, Said::Gone) => None,
                (_, Said::Has(node)) => Some(Place::Live(&tree.live, node)),
                (Said::Has(node), Said::Nothing) => {
                    Some(Place::Frozen(tree.below.frozen.as_deref().expect("it has an entry"), node))
                }
                (Said::Nothing, Said::Nothing) => Some(Place::Run(run, entry)),
            };
            if place.is_some() {
                return Ok(place);
            }
            path.truncate(parent_bytes);
        }
        Ok(None)
    }

    fn open(&self, tree: &'t Tree, path: &str) -> Result<Vec<Head<'t>>, Needed> {
        let hash = tree.live.hash(path);
        let mut heads = Vec::new();
        for (run, mapped) in tree.below.runs.iter().enumerate() {
            let rest = match &self.places {
                None => mapped.children(path, hash),
                Some(places) => match places.iter().find(|(id, _)| *id == mapped.id()) {
                    Some((_, place)) => mapped.children_from(path, hash, *place),
                    // It ended before.
                    None => continue,
                },
            };
            let Some(mut rest) = below::of(mapped, rest)? else { continue };
            if let Some(next) = below::of(mapped, rest.next())? {
                heads.push(Head { run, next, rest });
            }
        }
        Ok(heads)
    }
}

/// Goes to the next child of a run, if there is one.
fn advance(tree: &Tree, heads: &mut Vec<Head<'_>>, at: usize) -> Result<(), Needed> {
    let head = &mut heads[at];
    match below::of(&tree.below.runs[head.run], head.rest.next())? {
        Some(next) => head.next = next,
        None => drop(heads.remove(at)),
    }
    Ok(())
}

/// A place in a listing, without a borrow of the tree.
#[derive(Clone, Debug)]
pub struct ListingPosition {
    /// The parent as it was: other children, another listing.
    parent: (Zxid, Zxid, i32),
    /// The next child of an overlay, by its generation.
    overlays: Vec<(u64, u32)>,
    /// Runs that have more, if they were opened, and all that there were.
    heads: Option<Vec<(RunId, u64)>>,
    runs: Vec<RunId>,
}

fn stamp(version: &NodeVersion) -> (Zxid, Zxid, i32) {
    (version.czxid, version.pzxid, version.children_created)
}

/// The names of a znode's children, in no order that means anything.
pub struct Children<'t> {
    node: NodeRef<'t>,
    cursor: Cursor<'t>,
    /// Of the parent, where there are lower layers.
    path: String,
}

impl<'t> Children<'t> {
    pub(super) fn new(node: NodeRef<'t>) -> Children<'t> {
        let mut path = String::new();
        if node.tree.below.any {
            node.place.path(&mut path);
        }
        Children { cursor: Cursor::new(node.tree, &node.place, &path), node, path }
    }

    /// The next name, without waiting for the disk. After `Err` the same one is tried again.
    ///
    /// # Errors
    /// A block is needed first.
    pub fn try_next(&mut self) -> Result<Option<&'t str>, Needed> {
        let parent_bytes = self.path.len();
        let next = self.cursor.next(self.node.tree, &mut self.path);
        self.path.truncate(parent_bytes);
        Ok(next?.map(|place| place.name()))
    }

    /// Where the next child is, to go on from later with [`NodeRef::children_from`].
    pub fn position(&self) -> ListingPosition {
        let (tree, cursor) = (self.node.tree, &self.cursor);
        let mut overlays = vec![(tree.live.generation, cursor.live)];
        overlays.extend(tree.below.frozen.as_ref().map(|frozen| (frozen.generation, cursor.frozen)));
        let heads = match &cursor.heads {
            None => cursor.places.clone(),
            Some(heads) => {
                let place = |head: &Head<'_>| (tree.below.runs[head.run].id(), head.next.place());
                Some(heads.iter().map(place).collect())
            }
        };
        let runs = tree.below.runs.iter().map(|run| run.id()).collect();
        ListingPosition { parent: stamp(&self.node.version()), overlays, heads, runs }
    }

    /// Goes on from a position. `None`: children came or went, or the layers are others; the listing must start again.
    pub(super) fn resume(node: NodeRef<'t>, position: &ListingPosition) -> Option<Children<'t>> {
        let tree = node.tree;
        let mut children = Children::new(node);
        if position.parent != stamp(&node.version()) {
            return None;
        }
        // An overlay that is not there any more must be through; one that has come since has no new child.
        let (live, frozen) = (tree.live.generation, tree.below.frozen.as_ref().map(|frozen| frozen.generation));
        (children.cursor.live, children.cursor.frozen) = (NONE, NONE);
        for (generation, next) in &position.overlays {
            if *generation == live {
                children.cursor.live = *next;
            } else if Some(*generation) == frozen {
                children.cursor.frozen = *next;
            } else if *next != NONE {
                return None;
            }
        }
        let same_runs = tree.below.runs.iter().map(|run| run.id()).eq(position.runs.iter().copied());
        if !same_runs {
            return None;
        }
        if position.heads.is_some() {
            children.cursor.places.clone_from(&position.heads);
        }
        Some(children)
    }
}

impl<'t> Iterator for Children<'t> {
    type Item = &'t str;

    #[inline]
    fn next(&mut self) -> Option<&'t str> {
        let tree = self.node.tree;
        if self.cursor.live != NONE {
            let node = tree.live.nodes.get(self.cursor.live);
            self.cursor.live = node.next;
            // What the layers below do not have hangs below its parent, by its name alone.
            return Some(tree.live.blob(node).name());
        }
        if tree.below.any { tree.below.wait(|| self.try_next()) } else { None }
    }
}

impl Tree {
    /// A znode and all below it with their paths, parents before their children. `path` is that of the first.
    pub(super) fn walk<'t>(&'t self, top: NodeRef<'t>, path: &mut String, each: &mut dyn FnMut(&str, NodeRef<'t>)) {
        each(path, top);
        let mut open = vec![(path.len(), Cursor::new(self, &top.place, path))];
        while let Some((parent_bytes, cursor)) = open.last_mut() {
            path.truncate(*parent_bytes);
            let Some(place) = self.below.wait(|| cursor.next(self, path)) else {
                open.pop();
                continue;
            };
            if !self.below.any {
                push(path, place.name());
            }
            each(path, NodeRef { tree: self, place });
            if 0 < place.version().children {
                open.push((path.len(), Cursor::new(self, &place, path)));
            }
        }
    }

    /// Every znode with its full path (`/` for the root), parents before their children.
    pub fn for_each(&self, mut each: impl FnMut(&str, NodeRef<'_>)) {
        let mut each = |path: &str, node: NodeRef<'_>| each(if path.is_empty() { "/" } else { path }, node);
        self.walk(self.root(), &mut String::new(), &mut each);
    }
}
