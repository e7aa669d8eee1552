//! An overlay to the entries of a run, in their order: by the path of the parent, then by name.
//!
//! Entries hang below each other or below the root, so no entry has its parent's path at hand. First the directories are
//! made out, component by component and each once; then entries are put to theirs; then the directories are gone through
//! in the order of their paths, which differs from that of a walk: `/a-b` stands between `/a` and `/a/b`. Beside the
//! overlay this takes 12 bytes for each entry and about 50 for each directory.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashTable};
use zorilla_snapshot::{Entry, Sink, Value, What, WriteError, Writer};

use super::overlay::{Kind, Overlay, ROOT};
use super::plain;
use crate::table::NONE;

/// A path that is that of a parent, or leads to one.
struct Dir {
    above: u32,
    /// Where its name stands in the name of an entry.
    slot: u32,
    name: (u32, u32),
    /// Directories directly below it.
    first: u32,
    next: u32,
    /// Its entries: how many, then where they begin.
    entries: u32,
}

/// The directory with the empty path.
const TOP: u32 = 0;

/// The directories of an overlay.
struct Dirs {
    overlay: Arc<Overlay>,
    dirs: Vec<Dir>,
    /// By the one above and the name.
    by_name: HashTable<u32>,
    /// By the entry whose path it is.
    by_slot: HashMap<u32, u32>,
    hasher: FixedState,
}

impl Dirs {
    fn new(overlay: Arc<Overlay>) -> Dirs {
        let top = Dir { above: NONE, slot: NONE, name: (0, 0), first: NONE, next: NONE, entries: 0 };
        Dirs {
            overlay,
            dirs: vec![top],
            by_name: HashTable::new(),
            by_slot: HashMap::new(),
            hasher: FixedState::with_seed(0),
        }
    }

    fn name(&self, dir: u32) -> &str {
        let Dir { slot, name: (begin, end), .. } = self.dirs[dir as usize];
        &entry_name(&self.overlay, slot)[begin as usize..end as usize]
    }

    /// The directory that an entry is in.
    fn of_entry(&mut self, slot: u32) -> u32 {
        let parent = self.overlay.nodes.get(slot).parent;
        if parent != ROOT {
            return self.at(parent);
        }
        match entry_name(&self.overlay, slot).rfind('/') {
            None => TOP,
            Some(bytes) => self.below(TOP, slot, bytes),
        }
    }

    /// The directory whose path is that of an entry.
    fn at(&mut self, slot: u32) -> u32 {
        let mut chain = Vec::new();
        let mut at = slot;
        let mut dir = loop {
            if at == ROOT {
                break TOP;
            }
            if let Some(dir) = self.by_slot.get(&at) {
                break *dir;
            }
            chain.push(at);
            at = self.overlay.nodes.get(at).parent;
        };
        while let Some(slot) = chain.pop() {
            dir = self.below(dir, slot, entry_name(&self.overlay, slot).len());
            self.by_slot.insert(slot, dir);
        }
        dir
    }

    /// The directory that the first bytes of an entry's name lead to from another one.
    fn below(&mut self, above: u32, slot: u32, bytes: usize) -> u32 {
        let overlay = self.overlay.clone();
        let name = &entry_name(&overlay, slot)[..bytes];
        let (mut dir, mut begin) = (above, 0);
        for component in name.split('/') {
            let end = begin + component.len();
            dir = self.child(dir, component, slot, (begin as u32, end as u32));
            begin = end + 1;
        }
        dir
    }

    fn child(&mut self, above: u32, component: &str, slot: u32, name: (u32, u32)) -> u32 {
        let hash = |above: u32, name: &str| {
            let mut state = self.hasher.build_hasher();
            state.write_u32(above);
            state.write(name.as_bytes());
            state.finish()
        };
        let wanted = hash(above, component);
        let is = |dir: &u32| self.dirs[*dir as usize].above == above && self.name(*dir) == component;
        if let Some(dir) = self.by_name.find(wanted, is) {
            return *dir;
        }
        let dir = self.dirs.len() as u32;
        let mut by_name = std::mem::take(&mut self.by_name);
        by_name.insert_unique(wanted, dir, |dir| hash(self.dirs[*dir as usize].above, self.name(*dir)));
        self.by_name = by_name;
        let next = std::mem::replace(&mut self.dirs[above as usize].first, dir);
        self.dirs.push(Dir { above, slot, name, first: NONE, next, entries: 0 });
        dir
    }

    /// What comes below a directory, in the order of paths: directories themselves (`false`), and what is below them.
    fn parts(&self, dir: u32, has_entries: impl Fn(u32) -> bool) -> Vec<(u32, bool)> {
        let mut parts = Vec::new();
        let mut below = self.dirs[dir as usize].first;
        while below != NONE {
            if has_entries(below) {
                parts.push((below, false));
            }
            if self.dirs[below as usize].first != NONE {
                parts.push((below, true));
            }
            below = self.dirs[below as usize].next;
        }
        // From the last to the first.
        parts.sort_unstable_by(|a, b| self.compare(*b, *a));
        parts
    }

    /// The order of names, each with a slash behind it where it stands for what is below.
    fn compare(&self, a: (u32, bool), b: (u32, bool)) -> Ordering {
        let (first, second) = (self.name(a.0).as_bytes(), self.name(b.0).as_bytes());
        let both = first.len().min(second.len());
        let rest = |name: &'_ [u8], is_below: bool| -> [Option<u8>; 2] {
            let mut bytes = name[both..].iter().copied().chain(is_below.then_some(b'/'));
            [bytes.next(), bytes.next()]
        };
        // No name has a slash, so at most two bytes decide.
        first[..both].cmp(&second[..both]).then_with(|| rest(first, a.1).cmp(&rest(second, b.1)))
    }
}

/// The whole name of an entry: its znode's, or a path without its first slash.
fn entry_name(overlay: &Overlay, slot: u32) -> &str {
    overlay.blob(overlay.nodes.get(slot)).name()
}

/// How far a flush is.
enum Stage {
    /// Entries are being put to their directories: all slots but the root's, and the directories of the first of them.
    Sorting { slots: Vec<u32>, dirs: Vec<u32> },
    /// Entries by directory, and where the walk is: directories left at each level, and the length of the path there.
    Writing { slots: Vec<u32>, begins: Vec<u32>, walk: Vec<(usize, Vec<(u32, bool)>)>, group: Vec<(u128, u32)> },
}

/// A frozen overlay on its way to a run, step by step. For the thread that writes: it needs nothing but the overlay.
pub struct Flush {
    dirs: Dirs,
    stage: Stage,
    /// The path of the group that is being written.
    path: String,
    /// Numbers of access lists, from those of the overlay to those of the run.
    acls: HashMap<u32, u32>,
}

impl Flush {
    /// Begins with the first entry.
    pub fn new(overlay: Arc<Overlay>) -> Flush {
        let mut slots = Vec::with_capacity(overlay.entries());
        slots.extend(overlay.index.values());
        // In the order in which they came: entries and their names lie side by side.
        slots.sort_unstable();
        let stage = Stage::Sorting { dirs: Vec::with_capacity(slots.len()), slots };
        Flush { dirs: Dirs::new(overlay), stage, path: String::new(), acls: HashMap::new() }
    }

    /// Goes on with about so many entries; `true`: all are written. Then [`Writer::finish_step`] is next.
    ///
    /// # Errors
    /// The writer's.
    pub fn step<S: Sink>(&mut self, writer: &mut Writer<S>, entries: usize) -> Result<bool, WriteError> {
        let entries = entries.max(1);
        match &mut self.stage {
            Stage::Sorting { slots, dirs } => {
                let first = dirs.len();
                for slot in &slots[first..slots.len().min(first.saturating_add(entries))] {
                    let dir = self.dirs.of_entry(*slot);
                    self.dirs.dirs[dir as usize].entries += 1;
                    dirs.push(dir);
                }
                if dirs.len() == slots.len() {
                    self.stage = self.sorted();
                }
                Ok(false)
            }
            Stage::Writing { .. } => self.write(writer, entries),
        }
    }

    /// Every entry behind the others of its directory.
    fn sorted(&mut self) -> Stage {
        let Stage::Sorting { slots, dirs } = &mut self.stage else { unreachable!("entries are sorted once") };
        let mut begins = Vec::with_capacity(self.dirs.dirs.len() + 1);
        let mut begin = 0;
        for dir in &mut self.dirs.dirs {
            begins.push(begin);
            begin += std::mem::replace(&mut dir.entries, begin);
        }
        begins.push(begin);
        let mut sorted = vec![0; slots.len()];
        for (slot, dir) in slots.iter().zip(&*dirs) {
            let place = &mut self.dirs.dirs[*dir as usize].entries;
            sorted[*place as usize] = *slot;
            *place += 1;
        }
        // What was needed to make them out.
        self.dirs.by_name = HashTable::new();
        self.dirs.by_slot = HashMap::new();
        let mut group = self.group(&sorted[..begins[TOP as usize + 1] as usize]);
        // The root is the child with the empty name of the empty path.
        group.push((0, ROOT));
        let walk = vec![(0, self.dirs.parts(TOP, has_entries(&begins)))];
        Stage::Writing { slots: sorted, begins, walk, group }
    }

    /// The entries of a directory, from the last name to the first: with what tells most names apart.
    fn group(&self, slots: &[u32]) -> Vec<(u128, u32)> {
        let overlay = &self.dirs.overlay;
        let name = |slot: u32| overlay.name(overlay.nodes.get(slot)).as_bytes();
        let mut common = slots.first().map_or(&[][..], |slot| name(*slot));
        for slot in slots {
            let shared = name(*slot).iter().zip(common).take_while(|(a, b)| a == b).count();
            common = &common[..shared];
        }
        let key = |slot: u32| {
            let rest = &name(slot)[common.len()..];
            let mut key = [0; 16];
            let bytes = rest.len().min(key.len());
            key[..bytes].copy_from_slice(&rest[..bytes]);
            u128::from_be_bytes(key)
        };
        let mut group: Vec<(u128, u32)> = slots.iter().map(|slot| (key(*slot), *slot)).collect();
        group.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| name(b.1).cmp(name(a.1))));
        group
    }

    fn write<S: Sink>(&mut self, writer: &mut Writer<S>, entries: usize) -> Result<bool, WriteError> {
        let mut left = entries;
        loop {
            let Stage::Writing { group, .. } = &mut self.stage else { unreachable!("entries are written once sorted") };
            while let Some((_, slot)) = group.last() {
                if left == 0 {
                    return Ok(false);
                }
                left -= 1;
                push(&self.dirs.overlay, &self.path, *slot, &mut self.acls, writer)?;
                group.pop();
            }
            if !self.next_group() {
                return Ok(true);
            }
        }
    }

    /// Goes to the next directory with entries; `false`: there is none.
    fn next_group(&mut self) -> bool {
        let Flush { dirs, stage, path, .. } = self;
        let Stage::Writing { begins, walk, .. } = stage else { unreachable!("entries are written once sorted") };
        let dir = loop {
            let Some((bytes, parts)) = walk.last_mut() else { return false };
            path.truncate(*bytes);
            let Some((dir, is_below)) = parts.pop() else {
                walk.pop();
                continue;
            };
            path.push('/');
            path.push_str(dirs.name(dir));
            if !is_below {
                break dir;
            }
            let parts = dirs.parts(dir, has_entries(begins));
            walk.push((path.len(), parts));
        };
        let Stage::Writing { slots, begins, .. } = &self.stage else { unreachable!("entries are written once sorted") };
        let entries = self.group(&slots[begins[dir as usize] as usize..begins[dir as usize + 1] as usize]);
        let Stage::Writing { group, .. } = &mut self.stage else { unreachable!("entries are written once sorted") };
        *group = entries;
        true
    }
}

fn has_entries(begins: &[u32]) -> impl Fn(u32) -> bool {
    |dir| begins[dir as usize] < begins[dir as usize + 1]
}

fn push<S: Sink>(
    overlay: &Overlay,
    parent: &str,
    slot: u32,
    acls: &mut HashMap<u32, u32>,
    writer: &mut Writer<S>,
) -> Result<(), WriteError> {
    let node = overlay.nodes.get(slot);
    let what = match node.kind() {
        Kind::Absent => What::Absent,
        kind => {
            let acl = match acls.get(&node.acl()) {
                Some(number) => *number,
                None => {
                    let acl = overlay.acl(node);
                    let number = writer.acl(acl.raw, acl.count)?;
                    acls.insert(node.acl(), number);
                    number
                }
            };
            let value = if kind == Kind::Lower { Value::Lower } else { plain(overlay.blob(node).data()) };
            What::Present { version: overlay.version(node), acl, value }
        }
    };
    writer.push(&Entry { parent, name: overlay.name(node), what })
}

impl Overlay {
    /// All of it at once.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_run<S: Sink>(self: &Arc<Overlay>, writer: &mut Writer<S>) -> Result<(), WriteError> {
        let mut flush = Flush::new(self.clone());
        while !flush.step(writer, usize::MAX)? {}
        Ok(())
    }
}
