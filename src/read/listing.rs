//! Long listings, gathered in slices: nobody holds the gate for a million names.
//!
//! A listing is the children of a znode at one time. They are gathered over several holds of the gate, and what was gathered
//! counts only as long as the children are the same: a create or delete among them ([`AsOf`]) makes it begin again, and so do
//! new layers of the tree.
//! So what a client gets is the listing as of the state in which its read is answered, as if it had been read in one go.

use std::ops::{ControlFlow, Range};

use zorilla_proto::client::{MultiOp, MultiVec, PathWatchRequest};
use zorilla_proto::ids::Zxid;
use zorilla_proto::jute::{self, Reader};
use zorilla_proto::op::Op;

use super::Asker;
use crate::limits::{LISTING_RESTARTS_MAX, LISTING_SLICE_BYTES, REPLY_BYTES_MAX};
use crate::tree::{ListingPosition, Needed, NodeRef, NodeVersion, Tree};

/// Whether an opcode lists children, whose number nothing bounds.
pub fn lists(op: Op) -> bool {
    matches!(op, Op::GetChildren | Op::GetChildren2 | Op::MultiRead)
}

/// How many names a read lists, about: more than `max` is not told apart.
pub fn names(op: Op, record: &[u8], tree: &Tree, max: usize) -> usize {
    let mut names = 0;
    for_each(op, record, &mut |_, path| {
        names += tree.find(path).map_or(0, |node| node.version().children as usize);
        if max < names { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    names
}

/// Every znode whose children a read lists, with its number among the operations of a multiRead.
fn for_each(op: Op, record: &[u8], each: &mut dyn FnMut(usize, &str) -> ControlFlow<()>) {
    let mut reader = Reader::new(record);
    if op != Op::MultiRead {
        let request = PathWatchRequest::decode(&mut reader);
        if let Some(path) = request.ok().and_then(|request| request.path) {
            let _ = each(0, &path);
        }
        return;
    }
    let Ok(multi) = MultiVec::<MultiOp<'_>>::decode(&mut reader) else { return };
    for (number, op) in multi.iter().enumerate() {
        let path = match op {
            MultiOp::GetChildren(request) => request.path,
            MultiOp::GetData(_) => continue,
            // What does not belong here ends the answer.
            _ => return,
        };
        let Some(path) = path else { return };
        if each(number, &path).is_break() {
            return;
        }
    }
}

/// The names for one read.
#[derive(Debug, Default)]
pub struct Gathered {
    /// In the order of the operations.
    parts: Vec<Part>,
    /// Encoded, those of one part behind those of the one before.
    names: Vec<u8>,
    restarts: u32,
    too_long: bool,
}

/// The children of a znode at one time: as long as it is the same, they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsOf {
    czxid: Zxid,
    pzxid: Zxid,
    children_created: i32,
    children: u32,
}

impl AsOf {
    /// Those of this znode now.
    pub fn of(node: &NodeRef<'_>) -> AsOf {
        let NodeVersion { czxid, pzxid, children_created, children, .. } = node.version();
        AsOf { czxid, pzxid, children_created, children }
    }
}

#[derive(Debug)]
struct Part {
    number: usize,
    as_of: AsOf,
    start: usize,
    end: usize,
    listed: u32,
    /// `None`: all names are there.
    next: Option<ListingPosition>,
}

/// How far a listing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slice {
    /// Everything is there, and may be answered under this hold of the gate.
    Whole,
    /// Another slice follows.
    Part,
}

/// What there is for one listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ready {
    /// These names, of all its children.
    Names(Range<usize>),
    /// It does not fit a reply.
    TooLong,
}

impl Gathered {
    /// Reserves what a slice adds: growing is not done under the gate.
    pub fn reserve(&mut self) {
        self.names.reserve(2 * LISTING_SLICE_BYTES);
    }

    /// Gathers `names_max` names more, or until [`LISTING_SLICE_BYTES`] are there.
    ///
    /// # Errors
    /// What comes next must be brought in first; what was gathered stays.
    pub fn slice(
        &mut self,
        op: Op,
        record: &[u8],
        tree: &Tree,
        asker: &Asker<'_>,
        names_max: usize,
    ) -> Result<Slice, Needed> {
        let mut left = names_max;
        let mut missing = None;
        let (mut at, mut whole) = (0, true);
        let bytes_max = self.names.len() + LISTING_SLICE_BYTES;
        for_each(op, record, &mut |number, path| {
            let node = tree.find(path).filter(|node| asker.may_read(node.acl().raw));
            let as_of = node.as_ref().map(AsOf::of);
            if self.parts.get(at).is_some_and(|part| part.number != number || Some(part.as_of) != as_of) {
                self.begin_again(at);
            }
            let Some((node, as_of)) = node.zip(as_of) else { return ControlFlow::Continue(()) };
            let known = self.parts.get(at).map(|part| part.next.as_ref());
            let children = match known {
                // All of them are there.
                Some(None) => {
                    at += 1;
                    return ControlFlow::Continue(());
                }
                Some(Some(position)) => node.children_from(position),
                None => None,
            };
            if known.is_some() && children.is_none() {
                // The layers of the tree are others.
                self.begin_again(at);
            }
            if at == self.parts.len() {
                let start = self.names.len();
                self.parts.push(Part { number, as_of, start, end: start, listed: 0, next: None });
            }
            let mut children = children.unwrap_or_else(|| node.children());
            let part = &mut self.parts[at];
            at += 1;
            loop {
                if left == 0 || bytes_max <= self.names.len() {
                    part.next = Some(children.position());
                    whole = false;
                    break;
                }
                match children.try_next() {
                    Ok(Some(name)) => jute::put_string(&mut self.names, name),
                    Ok(None) => {
                        assert_eq!(part.listed, as_of.children, "names gathered of {path}");
                        part.next = None;
                        break;
                    }
                    Err(needed) => {
                        part.next = Some(children.position());
                        missing = Some(needed);
                        break;
                    }
                }
                part.listed += 1;
                left -= 1;
            }
            part.end = self.names.len();
            if whole && missing.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.too_long = REPLY_BYTES_MAX < self.names.len();
        if LISTING_RESTARTS_MAX < self.restarts {
            // It changes all the time: what is missing is listed in one go.
            self.begin_again(0);
            return Ok(Slice::Whole);
        }
        match missing {
            Some(needed) if !self.too_long => Err(needed),
            _ if whole || self.too_long => Ok(Slice::Whole),
            _ => Ok(Slice::Part),
        }
    }

    /// Forgets what was gathered from this part on.
    fn begin_again(&mut self, part: usize) {
        self.restarts += 1;
        self.names.truncate(self.parts.get(part).map_or(0, |part| part.start));
        self.parts.truncate(part);
    }

    /// What there is for this operation, whose znode has these children now.
    pub fn ready(&self, number: usize, as_of: AsOf) -> Option<Ready> {
        let at = self.parts.binary_search_by_key(&number, |part| part.number).ok()?;
        let part = &self.parts[at];
        if part.as_of != as_of {
            None
        } else if self.too_long {
            Some(Ready::TooLong)
        } else {
            part.next.is_none().then_some(Ready::Names(part.start..part.end))
        }
    }

    /// The names that [`Gathered::ready`] spoke of.
    pub fn names(&self, range: Range<usize>) -> &[u8] {
        &self.names[range]
    }

    /// Bytes gathered so far.
    pub fn bytes(&self) -> usize {
        self.names.len()
    }
}
