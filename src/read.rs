//! Answers a read from the tree.
//!
//! Pure, and used on both sides of the gate: a worker answers a read at once when its session has nothing under way; the
//! replica answers it in its place when it travelled behind a write of its own session. What a read leaves behind (its body,
//! its watches, the events of a setWatches) goes into a [`Sink`], which knows whose it is.
//!
//! Reads do not check paths: one that breaks the rules names nothing (`client-protocol.md` 9).

use zorilla_proto::client::{EventType, PathRequest, PathWatchRequest, SetWatches};
use zorilla_proto::code::Code;
use zorilla_proto::ids::Zxid;
use zorilla_proto::jute::{self, Reader};
use zorilla_proto::op::Op;

use crate::auth;
use crate::tree::{NodeRef, Tree};
use crate::watch::WatchKind;

/// Takes what a read leaves behind. The order of calls is the order on the wire.
pub trait Sink {
    /// Where the body of the reply is appended.
    fn body(&mut self) -> &mut Vec<u8>;
    /// Leaves a watch.
    fn watch(&mut self, kind: WatchKind, path: &str);
    /// Sends an event ahead of the reply.
    fn event(&mut self, event: EventType, path: &str);
}

/// Whether [`read`] answers this opcode.
pub fn answers(op: Op) -> bool {
    matches!(op, Op::Exists | Op::GetData | Op::GetChildren | Op::GetChildren2 | Op::Sync | Op::Ping | Op::SetWatches)
}

/// Answers one read. On an error whatever was appended to the body is to be dropped.
pub fn read(op: Op, record: &[u8], tree: &Tree, sink: &mut impl Sink) -> Code {
    let mut reader = Reader::new(record);
    let answered = match op {
        Op::Exists => exists(&mut reader, tree, sink),
        Op::GetData => get_data(&mut reader, tree, sink),
        Op::GetChildren => get_children(&mut reader, tree, false, sink),
        Op::GetChildren2 => get_children(&mut reader, tree, true, sink),
        Op::Sync => sync(&mut reader, sink),
        Op::Ping => Ok(()),
        Op::SetWatches => set_watches(&mut reader, tree, sink),
        _ => unreachable!("{op:?} is not a read that is answered here"),
    };
    answered.err().unwrap_or(Code::Ok)
}

/// A record that cannot be decoded, and a null path where one is needed.
fn undecodable<T>(_: T) -> Code {
    Code::MarshallingError
}

fn exists(reader: &mut Reader<'_>, tree: &Tree, sink: &mut impl Sink) -> Result<(), Code> {
    let request = PathWatchRequest::decode(reader).map_err(undecodable)?;
    let path = request.path.as_deref().ok_or(Code::MarshallingError)?;
    if path.contains('\0') {
        return Err(Code::BadArguments);
    }
    let Some(node) = tree.find(path) else {
        // A watch is left for the znode's creation.
        if request.watch {
            sink.watch(WatchKind::Data, path);
        }
        return Err(Code::NoNode);
    };
    readable(&node)?;
    if request.watch {
        sink.watch(WatchKind::Data, path);
    }
    node.version().stat().encode(sink.body());
    Ok(())
}

fn get_data(reader: &mut Reader<'_>, tree: &Tree, sink: &mut impl Sink) -> Result<(), Code> {
    let request = PathWatchRequest::decode(reader).map_err(undecodable)?;
    let path = request.path.as_deref().ok_or(Code::MarshallingError)?;
    let node = tree.find(path).ok_or(Code::NoNode)?;
    readable(&node)?;
    if request.watch {
        sink.watch(WatchKind::Data, path);
    }
    jute::put_buffer(sink.body(), node.data());
    node.version().stat().encode(sink.body());
    Ok(())
}

fn get_children(reader: &mut Reader<'_>, tree: &Tree, stat: bool, sink: &mut impl Sink) -> Result<(), Code> {
    let request = PathWatchRequest::decode(reader).map_err(undecodable)?;
    let path = request.path.as_deref().ok_or(Code::MarshallingError)?;
    let node = tree.find(path).ok_or(Code::NoNode)?;
    readable(&node)?;
    if request.watch {
        sink.watch(WatchKind::Child, path);
    }
    let version = node.version();
    jute::put_i32(sink.body(), version.children as i32);
    let mut listed = 0;
    for name in node.children() {
        jute::put_string(sink.body(), name);
        listed += 1;
    }
    assert_eq!(listed, version.children, "{path} lists another number of children than it counts");
    if stat {
        version.stat().encode(sink.body());
    }
    Ok(())
}

fn readable(node: &NodeRef<'_>) -> Result<(), Code> {
    if auth::allows(node.acl().raw, auth::READ) { Ok(()) } else { Err(Code::NoAuth) }
}

/// Echoes the path, null included. Fresh by position: every write acknowledged before this was read has been applied.
fn sync(reader: &mut Reader<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let request = PathRequest::decode(reader).map_err(undecodable)?;
    match request.path.as_deref() {
        Some(path) => jute::put_string(sink.body(), path),
        None => jute::put_null_string(sink.body()),
    }
    Ok(())
}

/// Registers the watches of a client that came back, and sends what it missed (`client-protocol.md` 11.5).
fn set_watches(reader: &mut Reader<'_>, tree: &Tree, sink: &mut impl Sink) -> Result<(), Code> {
    let request = SetWatches::decode(reader).map_err(undecodable)?;
    // Compared as the reference does, with a sign: what is negative is behind everything.
    let seen = request.relative_zxid.raw() as i64;
    let is_newer = |zxid: Zxid| seen < zxid.raw() as i64;
    for path in request.data.iter() {
        let path = &*path;
        match tree.find(path) {
            None => sink.event(EventType::NodeDeleted, path),
            Some(node) if is_newer(node.version().mzxid) => sink.event(EventType::NodeDataChanged, path),
            Some(_) => sink.watch(WatchKind::Data, path),
        }
    }
    for path in request.exist.iter() {
        let path = &*path;
        match tree.find(path) {
            None => sink.watch(WatchKind::Data, path),
            Some(_) => sink.event(EventType::NodeCreated, path),
        }
    }
    for path in request.child.iter() {
        let path = &*path;
        match tree.find(path) {
            None => sink.event(EventType::NodeDeleted, path),
            Some(node) if is_newer(node.version().pzxid) => sink.event(EventType::NodeChildrenChanged, path),
            Some(_) => sink.watch(WatchKind::Child, path),
        }
    }
    Ok(())
}
