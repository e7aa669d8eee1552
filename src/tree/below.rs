//! The layers below the live overlay: at most one that is frozen, and runs, the newest first.
//!
//! What a run says may be on disk only: every question here answers [`Needed`] then, and who may wait brings it in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zorilla_snapshot::run::{Cold, EntryRef};
use zorilla_snapshot::{Fault, NodeVersion, Run};

use super::acl::Acl;
use super::overlay::{Kind, Node, Overlay};

/// A block of a run that must be brought in first.
#[derive(Clone, Debug)]
pub struct Needed {
    /// The run.
    pub run: Arc<Run>,
    /// The block.
    pub cold: Cold,
}

impl Needed {
    /// Waits for the disk.
    ///
    /// # Errors
    /// The block cannot be read, or is damaged.
    pub fn bring_in(&self) -> Result<(), Fault> {
        self.run.bring_in(self.cold)
    }
}

/// Makes a cold block a [`Needed`].
pub(super) fn of<T>(run: &Arc<Run>, answer: Result<T, Cold>) -> Result<T, Needed> {
    answer.map_err(|cold| Needed { run: run.clone(), cold })
}

/// Where a znode stands.
#[derive(Clone, Copy)]
pub(super) enum Place<'t> {
    Live(&'t Overlay, &'t Node),
    Frozen(&'t Overlay, &'t Node),
    /// The run's number from the newest on.
    Run(usize, EntryRef<'t>),
}

impl<'t> Place<'t> {
    pub fn version(&self) -> NodeVersion {
        match self {
            Place::Live(overlay, node) | Place::Frozen(overlay, node) => overlay.version(node),
            Place::Run(_, entry) => entry.version().expect("an entry that is absent is no znode"),
        }
    }

    pub fn name(&self) -> &'t str {
        match self {
            Place::Live(overlay, node) | Place::Frozen(overlay, node) => overlay.name(node),
            Place::Run(_, entry) => entry.name(),
        }
    }

    /// Puts its path into `path`; the root's is empty.
    pub fn path(&self, path: &mut String) {
        match self {
            Place::Live(overlay, node) | Place::Frozen(overlay, node) => overlay.path_of(node, path),
            Place::Run(_, entry) => {
                path.clear();
                if !entry.name().is_empty() {
                    path.push_str(entry.parent());
                    path.push('/');
                    path.push_str(entry.name());
                }
            }
        }
    }
}

/// The first layer below the live overlay; [`Below::RUNS`] is that of the newest run.
const FROZEN: usize = 0;

/// See the module.
#[derive(Default)]
pub(super) struct Below {
    pub frozen: Option<Arc<Overlay>>,
    pub runs: Vec<Arc<Run>>,
    /// Whether there is any.
    pub any: bool,
    /// Blocks that had to be waited for in place.
    cold_inline: AtomicU64,
}

impl Below {
    /// The first layer that is a run.
    pub const RUNS: usize = 1;

    pub fn changed(&mut self) {
        self.any = self.frozen.is_some() || !self.runs.is_empty();
    }

    pub fn cold_inline(&self) -> u64 {
        self.cold_inline.load(Ordering::Relaxed)
    }

    /// Asks until the answer is there. What is needed is waited for in place: correct, and slow.
    pub fn wait<T>(&self, mut ask: impl FnMut() -> Result<T, Needed>) -> T {
        loop {
            match ask() {
                Ok(answer) => return answer,
                Err(needed) => self.bring_in(&needed),
            }
        }
    }

    pub fn bring_in(&self, needed: &Needed) {
        self.cold_inline.fetch_add(1, Ordering::Relaxed);
        // Damage under a znode that is needed now: there is no answer, and a wrong one is worse than none.
        needed.bring_in().unwrap_or_else(|fault| panic!("{fault}"));
    }

    /// The znode that the layers from `first` on have at `path`.
    pub fn find(&self, first: usize, path: &str, hash: u64) -> Result<Option<Place<'_>>, Needed> {
        if first == FROZEN
            && let Some(frozen) = &self.frozen
            && let Some(slot) = frozen.slot(path, hash)
        {
            let node = frozen.nodes.get(slot);
            return Ok((node.kind() != Kind::Absent).then_some(Place::Frozen(frozen, node)));
        }
        for (index, run) in self.runs.iter().enumerate().skip(first.saturating_sub(Self::RUNS)) {
            if let Some(entry) = of(run, run.find(path, hash))? {
                return Ok((!entry.is_absent()).then_some(Place::Run(index, entry)));
            }
        }
        Ok(None)
    }

    /// Whether a layer above run `end` and below the live one says something of `path`.
    pub fn says(&self, end: usize, path: &str, hash: u64) -> Result<bool, Needed> {
        if let Some(frozen) = &self.frozen
            && frozen.slot(path, hash).is_some()
        {
            return Ok(true);
        }
        for run in &self.runs[..end] {
            if of(run, run.find(path, hash))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn acl<'t>(&'t self, place: &Place<'t>) -> Acl<'t> {
        match place {
            Place::Live(overlay, node) | Place::Frozen(overlay, node) => overlay.acl(node),
            Place::Run(index, entry) => {
                let number = entry.acl().expect("an entry that is absent is no znode");
                let (count, raw) = self.runs[*index].acl(number).expect("an access list of a run is in its table");
                Acl { raw, count }
            }
        }
    }
}

/// The layer below that of a place.
pub(super) fn next_layer(place: &Place<'_>) -> usize {
    match place {
        Place::Live(..) => FROZEN,
        Place::Frozen(..) => Below::RUNS,
        Place::Run(index, _) => Below::RUNS + index + 1,
    }
}
