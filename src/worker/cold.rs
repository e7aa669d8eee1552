//! What a request looks at must be in memory before it is served: nobody waits for the disk while he holds the gate.
//!
//! Before a read is answered and before a write is posted, every znode that it looks at is asked for ([`Tree::probe`]). If
//! a block is missing the request is held, and the worker wishes for the block ([`super::Worker::next_wish`]); its driver has
//! it brought in and says so ([`super::Worker::brought`]). A tree without runs is asked nothing.
//!
//! Looked up without being asked for, and then waited for in place: the znodes below one whose descendants are counted, and
//! the places where a name is not found that is not known before its write is prepared.

use std::ops::ControlFlow;
use std::sync::Arc;

use zorilla_proto::client::{
    CreateRequest, CreateTtlRequest, DeleteRequest, MultiOp, MultiVec, PathRequest, PathWatchRequest, SetAclRequest,
    SetDataRequest, SetWatches, SetWatches2, StringVec,
};
use zorilla_proto::ids::SessionId;
use zorilla_proto::jute::Reader;
use zorilla_proto::op::Op;
use zorilla_snapshot::{Cold, RunId};

use super::hold::Until;
use super::{Core, Worker};
use crate::limits::COLD_WAITS_MAX;
use crate::read;
use crate::store::{BringIn, ColdDoor};
use crate::tree::{Needed, Tree, path};
use crate::wake::Sleeper;
use crate::watch::ConnId;

/// Says of paths that what they need is missing, although the tree has it: for tests.
#[derive(Clone)]
pub struct Chill(pub Arc<Chilling>);

/// What a path is asked: what it is said to need.
pub type Chilling = dyn Fn(&str) -> Result<(), Needed> + Send + Sync;

impl std::fmt::Debug for Chill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chill")
    }
}

/// How far the znodes of one request have been asked for.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Probed {
    /// This many were there.
    there: usize,
    /// How often it had to wait since.
    waits: u32,
}

/// What a reconfig looks at.
const CONFIG: &str = "/zookeeper/config";

/// A block, by its run.
pub(super) type BlockId = (u64, u32);

impl Core {
    /// Whether anything may have to be brought in.
    #[inline]
    pub(super) fn may_be_cold(&self) -> bool {
        self.layered || self.settings.chill.is_some()
    }

    /// Asks for everything that a request looks at; if a block is missing it is what the request has to wait for.
    #[cold]
    pub(super) fn probe(&mut self, tree: &Tree, op: Op, record: &[u8], session: SessionId) -> Result<(), BlockId> {
        let Probed { there, waits } = self.probed;
        if COLD_WAITS_MAX < waits {
            // What is brought in is gone again before it is used: then it is waited for in place.
            return Ok(());
        }
        let mut asked = 0;
        let mut missing = None;
        let chill = self.settings.chill.as_ref();
        let names_max = self.settings.listing_names;
        let mut ask = |path: &str| {
            asked += 1;
            if asked <= there {
                return ControlFlow::Continue(());
            }
            let chilled = chill.map_or(Ok(()), |chill| (chill.0)(path));
            let there = chilled.and_then(|()| match op {
                Op::GetChildren | Op::GetChildren2 | Op::MultiRead => {
                    tree.probe(path)?;
                    // A longer one is asked for as it is gathered.
                    if tree.find(path).is_some_and(|node| node.version().children as usize <= names_max) {
                        tree.probe_children(path, None, names_max)?;
                    }
                    Ok(())
                }
                op if read::answers(op) => tree.probe(path),
                _ => tree.probe_write(path),
            });
            match there {
                Ok(()) => ControlFlow::Continue(()),
                Err(needed) => {
                    missing = Some(needed);
                    ControlFlow::Break(())
                }
            }
        };
        match op {
            Op::GetEphemerals | Op::CloseSession => missing = tree.probe_ephemerals(session).err(),
            _ => for_each(op, record, tree, &mut ask),
        }
        let Some(needed) = missing else { return Ok(()) };
        let there = asked.saturating_sub(1).max(there);
        let waits = if self.probed.there < there { 1 } else { waits + 1 };
        self.probed = Probed { there, waits };
        Err(self.wish(needed))
    }

    /// Wishes for a block, unless somebody did.
    pub(super) fn wish(&mut self, needed: Needed) -> BlockId {
        let id = (needed.run.id().0, needed.cold.block);
        if !self.cold.contains_key(&id) {
            self.cold.insert(id, Vec::new());
            self.wishes.push_back(needed);
        }
        id
    }

    /// A connection waits for a block that was wished for.
    pub(super) fn wait_for(&mut self, id: BlockId, conn: ConnId) {
        self.cold.entry(id).or_default().push(conn);
    }
}

impl Worker {
    /// The next block that somebody waits for: the driver has it brought in, and answers with [`Worker::brought`]. Each is
    /// wished for once.
    pub fn next_wish(&mut self) -> Option<Needed> {
        self.core.wishes.pop_front()
    }

    /// This wish cannot be told to anybody now: it is the first again.
    pub fn wish_again(&mut self, needed: Needed) {
        self.core.wishes.push_front(needed);
    }

    /// A block is there.
    pub fn brought(&mut self, run: RunId, cold: Cold) {
        let id = (run.0, cold.block);
        for conn in self.core.cold.remove(&id).unwrap_or_default() {
            self.core.release_held(conn, Until::Brought(id));
        }
    }
}

/// The wishes of a worker that its driver has passed on to the store thread.
pub struct Asked {
    door: ColdDoor,
    waiter: Sleeper,
    open: Vec<Needed>,
}

impl Asked {
    /// None yet. `waiter`: the worker's thread.
    pub fn new(door: ColdDoor, waiter: Sleeper) -> Asked {
        Asked { door, waiter, open: Vec::new() }
    }

    /// Once in a turn: tells the worker what has been brought in, and asks for what it wishes.
    pub fn turn(&mut self, worker: &mut Worker) {
        self.open.retain(|needed| {
            let is_here = needed.run.is_in(needed.cold);
            if is_here {
                worker.brought(needed.run.id(), needed.cold);
            }
            !is_here
        });
        while let Some(needed) = worker.next_wish() {
            let block = BringIn { run: needed.run.clone(), cold: needed.cold, waiter: self.waiter.clone() };
            if !self.door.ask(block) {
                worker.wish_again(needed);
                return;
            }
            self.open.push(needed);
        }
    }
}

/// Every path that a request looks at. A record that cannot be decoded looks at nothing.
fn for_each(op: Op, record: &[u8], tree: &Tree, ask: &mut dyn FnMut(&str) -> ControlFlow<()>) {
    let mut reader = Reader::new(record);
    let reader = &mut reader;
    let _ = match op {
        Op::Exists | Op::GetData | Op::GetChildren | Op::GetChildren2 => {
            let path = PathWatchRequest::decode(reader).ok().and_then(|request| request.path);
            one(path.as_deref(), ask)
        }
        Op::GetAcl | Op::GetAllChildrenNumber => {
            one(PathRequest::decode(reader).ok().and_then(|request| request.path).as_deref(), ask)
        }
        Op::SetWatches => SetWatches::decode(reader)
            .map_or(ControlFlow::Continue(()), |request| lists([request.data, request.exist, request.child], ask)),
        Op::SetWatches2 => SetWatches2::decode(reader)
            .map_or(ControlFlow::Continue(()), |request| lists([request.data, request.exist, request.child], ask)),
        Op::Create | Op::Create2 | Op::CreateContainer => match CreateRequest::decode(reader) {
            Ok(request) => create(request.path.as_deref(), request.flags, tree, ask),
            Err(_) => ControlFlow::Continue(()),
        },
        Op::CreateTtl => match CreateTtlRequest::decode(reader) {
            Ok(request) => create(request.path.as_deref(), request.flags, tree, ask),
            Err(_) => ControlFlow::Continue(()),
        },
        Op::Delete | Op::DeleteContainer => {
            one(DeleteRequest::decode(reader).ok().and_then(|request| request.path).as_deref(), ask)
        }
        Op::Reconfig => ask(CONFIG),
        Op::SetData => one(SetDataRequest::decode(reader).ok().and_then(|request| request.path).as_deref(), ask),
        Op::SetAcl => one(SetAclRequest::decode(reader).ok().and_then(|request| request.path).as_deref(), ask),
        Op::Multi | Op::MultiRead => match MultiVec::<MultiOp<'_>>::decode(reader) {
            Ok(multi) => multi.iter().try_for_each(|op| match &op {
                MultiOp::Create(request) | MultiOp::Create2(request) | MultiOp::CreateContainer(request) => {
                    create(request.path.as_deref(), request.flags, tree, ask)
                }
                MultiOp::CreateTtl(request) => create(request.path.as_deref(), request.flags, tree, ask),
                MultiOp::Delete(request) => one(request.path.as_deref(), ask),
                MultiOp::SetData(request) => one(request.path.as_deref(), ask),
                MultiOp::Check(request) => one(request.path.as_deref(), ask),
                MultiOp::GetData(request) | MultiOp::GetChildren(request) => one(request.path.as_deref(), ask),
            }),
            Err(_) => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    };
}

fn one(path: Option<&str>, ask: &mut dyn FnMut(&str) -> ControlFlow<()>) -> ControlFlow<()> {
    path.map_or(ControlFlow::Continue(()), ask)
}

fn create(
    path: Option<&str>,
    flags: i32,
    tree: &Tree,
    ask: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some((path, parent)) = path.and_then(|path| path::parent(path).map(|parent| (path, parent))) else {
        return ControlFlow::Continue(());
    };
    if !matches!(flags, 2 | 3 | 6) {
        return ask(path);
    }
    ask(parent)?;
    // The name it gets if nothing is created before it.
    let number = tree.find(parent).map_or(0, |node| node.version().children_created);
    ask(&format!("{path}{number:010}"))
}

fn lists(lists: [StringVec<'_>; 3], ask: &mut dyn FnMut(&str) -> ControlFlow<()>) -> ControlFlow<()> {
    lists.iter().try_for_each(|list| list.iter().try_for_each(|path| ask(&path)))
}
