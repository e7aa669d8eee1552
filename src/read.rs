//! Answers a read from the tree.
//!
//! Pure, and used on both sides of the gate: a worker answers a read at once when its session has nothing under way; the
//! replica answers it in its place when it travelled behind a write of its own session. What a read leaves behind (its body,
//! its watches, the events of a setWatches) goes into a [`Sink`], which knows whose it is.
//!
//! Reads do not check paths: one that breaks the rules names nothing (`client-protocol.md` 9).
//!
//! What one read may look at under one hold of the gate: listings are gathered in slices where the sink has a way
//! ([`listing`]). The ephemeral znodes of a session are listed whole: their paths are bounded ([`EPHEMERAL_PATH_BYTES_MAX`]).
//! A getAllChildrenNumber walks its whole subtree under one hold: its answer is right only for a state in which no znode came
//! or went meanwhile, anywhere below, and in slices it would begin again for ever on the servers that it is slow on.

pub mod listing;

use zorilla_proto::client::{
    AddWatchMode, AddWatchRequest, EventType, MultiHeader, MultiOp, MultiVec, PathRequest, PathWatchRequest,
    SetWatches, SetWatches2, StringVec,
};
use zorilla_proto::code::Code;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::{self, Reader};
use zorilla_proto::op::{Op, OpKind};
use zorilla_snapshot::Value;

use crate::auth::{self, Identities, Rules};
#[cfg(doc)]
use crate::limits::EPHEMERAL_PATH_BYTES_MAX;
use crate::limits::REPLY_BYTES_MAX;
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
    /// The children of a znode are about to be listed, by this operation of a multiRead. An error ends the answer, which may
    /// then be asked for again.
    fn list(&mut self, number: usize, node: &NodeRef<'_>) -> Result<Listed, Code>;
    /// This is the place for the names of a listing of which it said [`Listed::Later`].
    fn put_names(&mut self);
    /// Puts a packed value into the body: this many bytes when it is unpacked, now or later.
    fn put_packed(&mut self, zstd: &[u8], bytes: u32);
    /// Bytes of the body that will be put into it later.
    fn bytes_to_come(&self) -> usize;
    /// This many bytes had to be looked at beside those of the body: who answers reads does not go on for ever.
    fn work(&mut self, bytes: usize);
}

/// What a sink says to a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// It is to be put into the body.
    Now,
    /// The sink puts the names into the body by itself, in this place and later.
    Later,
}

/// Who asks, and by which rules it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Its session.
    pub session: SessionId,
    /// What its connection had proved of itself when it asked.
    pub who: &'a Identities,
    /// The server's settings about permissions.
    pub rules: &'a Rules,
    /// The server keeps persistent watches.
    pub persistent_watches: bool,
}

impl Asker<'_> {
    /// Whether a list of access lets it read.
    pub fn may_read(&self, acl: &[u8]) -> bool {
        self.rules.allows(acl, auth::READ, self.who)
    }
}

/// The path of a watch that names none. The reference lets clients have one; it never fires, as no znode is called so.
pub const NO_PATH: &str = "\0";

/// What looking at one byte of an ACL list, and at one znode of a subtree, costs beside copying a byte.
const ACL_WORK: usize = 8;
const ZNODE_WORK: usize = 128;

/// Whether [`read`] answers this opcode.
pub fn answers(op: Op) -> bool {
    matches!(
        op,
        Op::Exists
            | Op::GetData
            | Op::GetAcl
            | Op::GetChildren
            | Op::GetChildren2
            | Op::Sync
            | Op::Ping
            | Op::MultiRead
            | Op::SetWatches
            | Op::SetWatches2
            | Op::AddWatch
            | Op::GetEphemerals
            | Op::GetAllChildrenNumber
            | Op::WhoAmI
    )
}

/// Whether an opcode sends events ahead of its reply.
pub fn sends_events(op: Op) -> bool {
    matches!(op, Op::SetWatches | Op::SetWatches2)
}

/// Answers one read. On an error whatever was appended to the body is to be dropped.
pub fn read(op: Op, record: &[u8], tree: &Tree, asker: &Asker<'_>, sink: &mut impl Sink) -> Code {
    let mut reader = Reader::new(record);
    let reader = &mut reader;
    let answered = match op {
        Op::Exists => exists(reader, tree, asker, sink),
        Op::GetData => get_data(reader, tree, asker, sink),
        Op::GetAcl => get_acl(reader, tree, asker, sink),
        Op::GetChildren => get_children(reader, tree, asker, false, sink),
        Op::GetChildren2 => get_children(reader, tree, asker, true, sink),
        Op::Sync => sync(reader, sink),
        Op::Ping => Ok(()),
        Op::MultiRead => multi_read(reader, tree, asker, sink),
        Op::SetWatches => SetWatches::decode(reader).map_err(undecodable).map(|request| {
            let SetWatches { relative_zxid, data, exist, child } = request;
            set_watches(relative_zxid, data, exist, child, tree, sink);
        }),
        Op::SetWatches2 => set_watches2(reader, tree, asker, sink),
        Op::AddWatch => add_watch(reader, asker, sink),
        Op::GetEphemerals => get_ephemerals(reader, tree, asker, sink),
        Op::GetAllChildrenNumber => get_all_children_number(reader, tree, asker, sink),
        Op::WhoAmI => who_am_i(asker, sink),
        _ => unreachable!("{op:?} is not a read that is answered here"),
    };
    answered.err().unwrap_or(Code::Ok)
}

/// A record that cannot be decoded, and a null path where one is needed.
fn undecodable<T>(_: T) -> Code {
    Code::MarshallingError
}

fn exists(reader: &mut Reader<'_>, tree: &Tree, asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
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
    readable(&node, asker, sink)?;
    if request.watch {
        sink.watch(WatchKind::Data, path);
    }
    node.version().stat().encode(sink.body());
    Ok(())
}

fn get_data(reader: &mut Reader<'_>, tree: &Tree, asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let request = PathWatchRequest::decode(reader).map_err(undecodable)?;
    let path = request.path.as_deref().ok_or(Code::MarshallingError)?;
    let node = tree.find(path).ok_or(Code::NoNode)?;
    readable(&node, asker, sink)?;
    if request.watch {
        sink.watch(WatchKind::Data, path);
    }
    put_data(&node, sink);
    Ok(())
}

fn put_data(node: &NodeRef<'_>, sink: &mut impl Sink) {
    match node.value() {
        Value::Plain(data) => jute::put_buffer(sink.body(), Some(data)),
        Value::Packed { zstd, bytes } => {
            jute::put_i32(sink.body(), bytes as i32);
            sink.put_packed(zstd, bytes);
        }
        Value::Null | Value::Lower => jute::put_buffer(sink.body(), None),
    }
    node.version().stat().encode(sink.body());
}

/// Whether a read shows a value that is packed.
pub fn is_packed(op: Op, record: &[u8], tree: &Tree) -> bool {
    let mut reader = Reader::new(record);
    let is_packed = |request: &PathWatchRequest<'_>| {
        let node = request.path.as_deref().and_then(|path| tree.find(path));
        node.is_some_and(|node| matches!(node.value(), Value::Packed { .. }))
    };
    if tree.runs().is_empty() {
        return false;
    }
    match op {
        Op::GetData => PathWatchRequest::decode(&mut reader).is_ok_and(|request| is_packed(&request)),
        Op::MultiRead => MultiVec::<MultiOp<'_>>::decode(&mut reader)
            .is_ok_and(|multi| multi.iter().any(|op| matches!(&op, MultiOp::GetData(request) if is_packed(request)))),
        _ => false,
    }
}

/// The list as it is stored; who may not change it does not see the hashes of passwords in it.
fn get_acl(reader: &mut Reader<'_>, tree: &Tree, asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let request = PathRequest::decode(reader).map_err(undecodable)?;
    let path = request.path.as_deref().ok_or(Code::MarshallingError)?;
    let node = tree.find(path).ok_or(Code::NoNode)?;
    let acl = node.acl();
    if !asker.rules.allows(acl.raw, auth::READ | auth::ADMIN, asker.who) {
        return Err(Code::NoAuth);
    }
    jute::put_i32(sink.body(), acl.count as i32);
    if asker.rules.allows(acl.raw, auth::ADMIN, asker.who) {
        sink.body().extend_from_slice(acl.raw);
    } else {
        asker.rules.masked(acl.raw, sink.body());
    }
    node.version().stat().encode(sink.body());
    Ok(())
}

fn get_children(
    reader: &mut Reader<'_>,
    tree: &Tree,
    asker: &Asker<'_>,
    stat: bool,
    sink: &mut impl Sink,
) -> Result<(), Code> {
    let request = PathWatchRequest::decode(reader).map_err(undecodable)?;
    let path = request.path.as_deref().ok_or(Code::MarshallingError)?;
    let node = tree.find(path).ok_or(Code::NoNode)?;
    readable(&node, asker, sink)?;
    let listed = sink.list(0, &node)?;
    if request.watch {
        sink.watch(WatchKind::Child, path);
    }
    put_children(&node, path, listed, sink)?;
    if stat {
        node.version().stat().encode(sink.body());
    }
    Ok(())
}

fn put_children(node: &NodeRef<'_>, path: &str, listed: Listed, sink: &mut impl Sink) -> Result<(), Code> {
    let body = sink.body();
    let at = body.len();
    let children = node.version().children;
    jute::put_i32(body, children as i32);
    if listed == Listed::Later {
        sink.put_names();
        return Ok(());
    }
    let mut count = 0;
    for name in node.children() {
        jute::put_string(body, name);
        count += 1;
        if REPLY_BYTES_MAX < body.len() - at {
            return Err(Code::SystemError);
        }
    }
    assert_eq!(count, children, "{path} lists another number of children than it counts");
    Ok(())
}

fn readable(node: &NodeRef<'_>, asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let acl = node.acl().raw;
    if acl != auth::OPEN_ACL {
        sink.work(ACL_WORK * acl.len());
    }
    if asker.may_read(acl) { Ok(()) } else { Err(Code::NoAuth) }
}

/// Several reads of one state; each succeeds or fails by itself.
fn multi_read(reader: &mut Reader<'_>, tree: &Tree, asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let multi = MultiVec::<MultiOp<'_>>::decode(reader).map_err(undecodable)?;
    if multi.kind() == Some(OpKind::Write) {
        return Err(Code::MarshallingError);
    }
    let at = sink.body().len();
    for (number, op) in multi.iter().enumerate() {
        if REPLY_BYTES_MAX < sink.bytes_to_come() + sink.body().len() - at {
            // A few bytes of request must not make gigabytes of reply.
            return Err(Code::SystemError);
        }
        // The flag for a watch is ignored.
        let (MultiOp::GetData(request) | MultiOp::GetChildren(request)) = &op else {
            return Err(Code::MarshallingError);
        };
        let path = request.path.as_deref().ok_or(Code::MarshallingError)?;
        let found = tree.find(path).ok_or(Code::NoNode).and_then(|node| readable(&node, asker, sink).map(|()| node));
        match found {
            Ok(node) => {
                MultiHeader::result(op.op()).encode(sink.body());
                if let MultiOp::GetData(_) = &op {
                    put_data(&node, sink);
                } else {
                    let listed = sink.list(number, &node)?;
                    put_children(&node, path, listed, sink)?;
                }
            }
            Err(code) => {
                let body = sink.body();
                MultiHeader::error(code.raw()).encode(body);
                jute::put_i32(body, code.raw());
            }
        }
    }
    MultiHeader::END.encode(sink.body());
    Ok(())
}

/// The ephemeral znodes of the session that asks, by the beginning of the path's text: `/e` finds `/ee`, too.
fn get_ephemerals(reader: &mut Reader<'_>, tree: &Tree, asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let request = PathRequest::decode(reader).map_err(undecodable)?;
    let prefix = request.path.as_deref().unwrap_or_default();
    let prefix = if matches!(prefix.trim(), "" | "/") { "" } else { prefix };
    sink.work(tree.ephemeral_path_bytes(asker.session) as usize);
    let mut list = jute::VecWriter::new(sink.body());
    tree.ephemerals(asker.session, &mut |path| {
        if path.starts_with(prefix) {
            list.push_str(path);
        }
    });
    Ok(())
}

fn get_all_children_number(
    reader: &mut Reader<'_>,
    tree: &Tree,
    asker: &Asker<'_>,
    sink: &mut impl Sink,
) -> Result<(), Code> {
    let request = PathRequest::decode(reader).map_err(undecodable)?;
    let path = request.path.as_deref().ok_or(Code::MarshallingError)?;
    let node = tree.find(path).ok_or(Code::NoNode)?;
    readable(&node, asker, sink)?;
    let below = tree.descendants(path).ok_or(Code::NoNode)?;
    sink.work(below as usize * ZNODE_WORK);
    // By the empty name the root counts as one of its own descendants, in the reference.
    let count = below + u64::from(path.is_empty());
    jute::put_i32(sink.body(), i32::try_from(count).unwrap_or(i32::MAX));
    Ok(())
}

fn who_am_i(asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let mut list = jute::VecWriter::new(sink.body());
    for (scheme, user) in asker.who.whoami(asker.rules) {
        list.push_with(|out| {
            jute::put_string(out, scheme);
            jute::put_string(out, user);
        });
    }
    Ok(())
}

fn add_watch(reader: &mut Reader<'_>, asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let request = AddWatchRequest::decode(reader).map_err(undecodable)?;
    let path = request.path.as_deref().unwrap_or(NO_PATH);
    let kind = match AddWatchMode::from_raw(request.mode) {
        Some(AddWatchMode::Persistent) => WatchKind::Persistent,
        Some(AddWatchMode::PersistentRecursive) => WatchKind::Recursive,
        None => return Err(Code::MarshallingError),
    };
    if !asker.persistent_watches {
        return Err(Code::MarshallingError);
    }
    sink.watch(kind, path);
    // Clients read an error code here although the header has one.
    jute::put_i32(sink.body(), Code::Ok.raw());
    Ok(())
}

fn set_watches2(reader: &mut Reader<'_>, tree: &Tree, asker: &Asker<'_>, sink: &mut impl Sink) -> Result<(), Code> {
    let request = SetWatches2::decode(reader).map_err(undecodable)?;
    let SetWatches2 { relative_zxid, data, exist, child, persistent, persistent_recursive } = request;
    set_watches(relative_zxid, data, exist, child, tree, sink);
    let asks_for_more = !persistent.is_empty() || !persistent_recursive.is_empty();
    if asks_for_more && !asker.persistent_watches {
        return Err(Code::MarshallingError);
    }
    for path in persistent.iter() {
        sink.watch(WatchKind::Persistent, &path);
    }
    for path in persistent_recursive.iter() {
        sink.watch(WatchKind::Recursive, &path);
    }
    Ok(())
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
fn set_watches(
    relative_zxid: Zxid,
    data: StringVec<'_>,
    exist: StringVec<'_>,
    child: StringVec<'_>,
    tree: &Tree,
    sink: &mut impl Sink,
) {
    // Compared as the reference does, with a sign: what is negative is behind everything.
    let seen = relative_zxid.raw() as i64;
    let is_newer = |zxid: Zxid| seen < zxid.raw() as i64;
    for path in data.iter() {
        let path = &*path;
        match tree.find(path) {
            None => sink.event(EventType::NodeDeleted, path),
            Some(node) if is_newer(node.version().mzxid) => sink.event(EventType::NodeDataChanged, path),
            Some(_) => sink.watch(WatchKind::Data, path),
        }
    }
    for path in exist.iter() {
        let path = &*path;
        match tree.find(path) {
            None => sink.watch(WatchKind::Data, path),
            Some(_) => sink.event(EventType::NodeCreated, path),
        }
    }
    for path in child.iter() {
        let path = &*path;
        match tree.find(path) {
            None => sink.event(EventType::NodeDeleted, path),
            Some(node) if is_newer(node.version().pzxid) => sink.event(EventType::NodeChildrenChanged, path),
            Some(_) => sink.watch(WatchKind::Child, path),
        }
    }
}
