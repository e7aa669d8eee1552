//! What is committed becomes visible: one entry of the history after the other, under the gate.
//!
//! Every change is announced to the workers that may watch it before the outcome that its client waits for.

use std::sync::Arc;

use zorilla_proto::client::{EventType, MultiHeader};
use zorilla_proto::code::Code;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_proto::jute::{self, Reader};
use zorilla_proto::op::Op;
use zorilla_proto::txn::{Txn, TxnHeader};
use zorilla_snapshot::Value;

use super::pending::Pending;
use super::window::Span;
use super::{Entry, Origin, Replica, Reply, Settings};
use crate::auth::{self, Identities};
use crate::clock::Now;
use crate::gate::State;
use crate::prep::effects::sorted_ephemerals;
use crate::read::{self, Asker, Listed};
use crate::session::Home;
use crate::store::work::SessionChange;
use crate::tree::{self, NodeRef, NodeVersion, Tree};
use crate::watch::{Change, ConnId, Interest, WatchKind};
use crate::worker::mailbox::{Delivery, Item, Mailbox, Piece};

impl Replica {
    pub(super) fn apply_entry(&mut self, entry: Entry, state: &mut State, now: Now) {
        match entry {
            Entry::Txn { zxid, span, digest, origin, reply, prepared_ns } => {
                self.stages.prep.record_ns(prepared_ns.saturating_sub(origin.arrived_ns));
                self.stages.durable.record_ns(self.durable_ns.saturating_sub(prepared_ns));
                self.applied_txns += 1;
                self.apply_txn(zxid, span, digest, origin, reply, state, now);
                self.inflight_txns -= 1;
                self.window.release(span);
            }
            Entry::Read { op, span, origin, session, who } => {
                self.apply_read(op, span, origin, session, &who, state);
                self.window.release(span);
            }
            Entry::Answer { code, origin } => {
                let draft = draft(&mut self.drafts, &self.mailboxes, origin.worker);
                let body = Piece::since(draft.bytes.len(), &draft.bytes);
                draft.items.push(outcome(origin, state.applied, code, body, false, false));
            }
            Entry::Resume { session, attachment, timeout_ms, origin } => {
                self.sessions.touch(session, now.mono_ms());
                let draft = draft(&mut self.drafts, &self.mailboxes, origin.worker);
                draft.items.push(Item::Session { conn: origin.conn, session, attachment, timeout_ms });
            }
            Entry::Dropped { origin } => {
                draft(&mut self.drafts, &self.mailboxes, origin.worker).items.push(Item::Dropped { conn: origin.conn });
            }
            Entry::Kick { session, worker, conn } => {
                draft(&mut self.drafts, &self.mailboxes, worker).items.push(Item::Kick { conn, session });
            }
        }
    }

    /// A read that travelled behind a write of its session.
    fn apply_read(&mut self, op: Op, span: Span, origin: Origin, session: SessionId, who: &Identities, state: &State) {
        let zxid = state.applied;
        let record = self.window.get(span);
        let mailbox = &self.mailboxes[origin.worker as usize];
        let draft = self.drafts[origin.worker as usize].get_or_insert_with(|| mailbox.blank());
        if matches!(op, Op::CheckWatches | Op::RemoveWatches) {
            let body = Piece::push(&mut draft.bytes, record);
            let Origin { conn, xid, arrived_ns, .. } = origin;
            draft.items.push(Item::Watches { conn, xid, zxid, op, body, arrived_ns });
            return;
        }
        let at = draft.bytes.len();
        let (interest, conn) = (&mailbox.interest, origin.conn);
        let mut sink = InPlace { draft, interest, conn, zxid, body_at: at, work: 0 };
        let Settings { policy, persistent_watches, .. } = &self.settings;
        let asker = Asker { session, who, rules: &policy.rules, persistent_watches: *persistent_watches };
        let code = read::read(op, record, &state.tree, &asker, &mut sink);
        let InPlace { body_at, work, .. } = sink;
        self.slice_work += work;
        if code != Code::Ok {
            draft.bytes.truncate(body_at);
        }
        let body = Piece::since(body_at, &draft.bytes);
        draft.items.push(outcome(origin, zxid, code, body, false, false));
    }

    #[allow(clippy::too_many_arguments)] // The fields of one entry.
    fn apply_txn(
        &mut self,
        zxid: Zxid,
        span: Span,
        digest: u64,
        origin: Origin,
        reply: Reply,
        state: &mut State,
        now: Now,
    ) {
        assert!(self.applied_before(state, zxid), "applied {zxid} right after {}", state.applied);
        let Replica { window, pending, mailboxes, drafts, sessions, encoded: results, since, session_changes, .. } =
            self;
        let mut reader = Reader::new(window.get(span));
        // Our own bytes, encoded in this process: an error is a broken promise of the codec.
        let header = TxnHeader::decode(&mut reader).expect("a prepared transaction has a header");
        let txn = Txn::decode(&header, &mut reader).expect("a prepared transaction can be decoded");
        results.clear();
        match &txn {
            Txn::Multi(parts) => {
                let failed = parts.has_error();
                for part in parts.iter() {
                    let part = part.txn().expect("a prepared part of a multi can be decoded");
                    let version =
                        if failed { None } else { install(zxid, &part, &mut state.tree, pending, drafts, mailboxes) };
                    multi_result(&part, failed, version, results);
                }
                MultiHeader::END.encode(results);
            }
            Txn::CloseSession { paths: Some(paths) } => {
                for path in paths.iter() {
                    announce(Change::Deleted, &path, None, zxid, &state.tree, drafts, mailboxes);
                    pending.install_delete(zxid, &path, &mut state.tree);
                }
            }
            Txn::CloseSession { paths: None } => {
                for path in sorted_ephemerals(header.session, &state.tree) {
                    announce(Change::Deleted, &path, None, zxid, &state.tree, drafts, mailboxes);
                    pending.install_delete(zxid, &path, &mut state.tree);
                }
            }
            txn => {
                let version = install(zxid, txn, &mut state.tree, pending, drafts, mailboxes);
                single_result(txn, version, reply, results);
            }
        }
        state.applied = zxid;
        if self.settings.digest {
            state.digests.note(zxid, digest);
        }
        assert_eq!(state.tree.digest(), digest, "digest of the tree after {zxid}");
        since.txns += 1;
        since.bytes += span.len() as u64;
        since.last_ns = now.mono_ns;
        match txn {
            Txn::CreateSession { timeout_ms } => {
                state.sessions += 1;
                session_changes.push(SessionChange::Opened(header.session, timeout_ms.max(0) as u32));
                // Its client could not say anything before now, however long the disk took.
                sessions.touch(header.session, now.mono_ms());
            }
            Txn::CloseSession { .. } => {
                state.sessions -= 1;
                session_changes.push(SessionChange::Closed(header.session));
                let session = sessions.remove(header.session);
                // The client that asked gets its reply first; a connection that did not ask is just closed.
                let asked = matches!(reply, Reply::Close);
                if let Some(Home { worker, conn }) = session.and_then(|session| session.home).filter(|_| !asked) {
                    draft(drafts, mailboxes, worker).items.push(Item::Kick { conn, session: header.session });
                }
            }
            _ => {}
        }
        let (code, last, write) = match reply {
            Reply::Nobody => return,
            Reply::Open { attachment, timeout_ms } => {
                let (conn, session) = (origin.conn, header.session);
                draft(drafts, mailboxes, origin.worker).items.push(Item::Session {
                    conn,
                    session,
                    attachment,
                    timeout_ms,
                });
                return;
            }
            Reply::Error(code) => (code, false, true),
            Reply::Close => (Code::Ok, true, false),
            Reply::Write(_) => (Code::Ok, false, true),
        };
        let draft = draft(drafts, mailboxes, origin.worker);
        let body = Piece::push(&mut draft.bytes, results);
        draft.items.push(outcome(origin, zxid, code, body, write, last));
    }
}

/// Makes one change, and tells the workers that may watch it, with the lists of access that hold at this moment: a multi's
/// events show states that no read can see.
fn install(
    zxid: Zxid,
    txn: &Txn<'_>,
    tree: &mut Tree,
    pending: &mut Pending,
    drafts: &mut [Option<Box<Delivery>>],
    mailboxes: &[Arc<Mailbox>],
) -> Option<NodeVersion> {
    match txn {
        Txn::Create { path, acl, .. } | Txn::CreateContainer { path, acl, .. } | Txn::CreateTtl { path, acl, .. } => {
            let acl = acl.map_or(&[][..], |acl| acl.raw());
            announce(Change::Created, path, Some(acl), zxid, tree, drafts, mailboxes);
        }
        Txn::Delete { path } | Txn::DeleteContainer { path } => {
            announce(Change::Deleted, path, None, zxid, tree, drafts, mailboxes);
        }
        Txn::SetData { path, .. } => announce(Change::DataChanged, path, None, zxid, tree, drafts, mailboxes),
        _ => {}
    }
    pending.install(zxid, txn, tree)
}

/// Tells the workers that may watch it of a change that is about to be made. `acl`: of a znode that is not there yet.
fn announce(
    change: Change,
    path: &str,
    acl: Option<&[u8]>,
    zxid: Zxid,
    tree: &Tree,
    drafts: &mut [Option<Box<Delivery>>],
    mailboxes: &[Arc<Mailbox>],
) {
    for (worker, mailbox) in mailboxes.iter().enumerate() {
        if !mailbox.interest.may_watch(change, path) {
            continue;
        }
        let acl_of = |path| tree.find(path).map_or(&[][..], |node| node.acl().raw);
        let node_acl = acl.unwrap_or_else(|| acl_of(path));
        let parent_acl = tree::path::parent(path).map_or(&[][..], acl_of);
        let draft = draft(drafts, mailboxes, worker as u16);
        let mut unless_open = |acl: &[u8]| {
            if auth::allows(acl, auth::READ) {
                return None;
            }
            // A multi that changes one znode a thousand times must not carry its list a thousand times.
            match draft.acl {
                Some(piece) if piece.of(&draft.bytes) == acl => Some(piece),
                _ => {
                    draft.acl = Some(Piece::push(&mut draft.bytes, acl));
                    draft.acl
                }
            }
        };
        let (node_acl, parent_acl) = (unless_open(node_acl), unless_open(parent_acl));
        let path = Piece::push(&mut draft.bytes, path.as_bytes());
        draft.items.push(Item::Changed { change, path, zxid, node_acl, parent_acl });
    }
}

/// The body of the reply to a write.
fn single_result(txn: &Txn<'_>, version: Option<NodeVersion>, reply: Reply, body: &mut Vec<u8>) {
    let Reply::Write(op) = reply else { return };
    let path = match txn {
        Txn::Create { path, .. } | Txn::CreateContainer { path, .. } | Txn::CreateTtl { path, .. } => Some(path),
        _ => None,
    };
    if let Some(path) = path {
        jute::put_string(body, path);
    }
    match (op, version) {
        (Op::Create, _) | (_, None) => {}
        (_, Some(version)) => version.stat().encode(body),
    }
}

/// One result of a multi: of a failed one every result is an error, 0 where nothing was wrong.
fn multi_result(part: &Txn<'_>, failed: bool, version: Option<NodeVersion>, body: &mut Vec<u8>) {
    let error = match part {
        Txn::Error { code } => Some(*code),
        _ if failed => Some(Code::Ok.raw()),
        _ => None,
    };
    if let Some(code) = error {
        MultiHeader::error(code).encode(body);
        jute::put_i32(body, code);
        return;
    }
    let stat = |body: &mut Vec<u8>| version.expect("what was written has a version").stat().encode(body);
    match part {
        Txn::Create { path, kind: Op::Create, .. } => {
            MultiHeader::result(Op::Create).encode(body);
            jute::put_string(body, path);
        }
        Txn::Create { path, .. } | Txn::CreateContainer { path, .. } | Txn::CreateTtl { path, .. } => {
            MultiHeader::result(Op::Create2).encode(body);
            jute::put_string(body, path);
            stat(body);
        }
        Txn::SetData { .. } => {
            MultiHeader::result(Op::SetData).encode(body);
            stat(body);
        }
        part => MultiHeader::result(part.op()).encode(body),
    }
}

fn draft<'d>(
    drafts: &'d mut [Option<Box<Delivery>>],
    mailboxes: &[Arc<Mailbox>],
    worker: u16,
) -> &'d mut Box<Delivery> {
    drafts[worker as usize].get_or_insert_with(|| mailboxes[worker as usize].blank())
}

fn outcome(origin: Origin, zxid: Zxid, code: Code, body: Piece, write: bool, last: bool) -> Item {
    let Origin { conn, xid, arrived_ns, .. } = origin;
    Item::Outcome { conn, xid, zxid, code, body, write, last, arrived_ns }
}

/// Where a read that travelled with a write leaves its results: in the delivery of its worker.
struct InPlace<'a> {
    draft: &'a mut Box<Delivery>,
    interest: &'a Interest,
    conn: ConnId,
    zxid: Zxid,
    /// Where the body begins: paths of watches and events lie before it.
    body_at: usize,
    work: usize,
}

impl read::Sink for InPlace<'_> {
    fn body(&mut self) -> &mut Vec<u8> {
        &mut self.draft.bytes
    }

    fn watch(&mut self, kind: WatchKind, path: &str) {
        // Raised here and not by the worker: the next transaction of this slice may change the path already.
        self.interest.raise(kind, path);
        let piece = Piece::push(&mut self.draft.bytes, path.as_bytes());
        self.body_at = self.draft.bytes.len();
        self.draft.items.push(Item::Watch { conn: self.conn, kind, path: piece, zxid: self.zxid });
    }

    fn list(&mut self, _: usize, _: &NodeRef<'_>) -> Result<Listed, Code> {
        // Its worker kept those that were long when they were posted; what was prepared since adds as much as may be under way.
        Ok(Listed::Now)
    }

    fn put_names(&mut self) {
        unreachable!("nothing is put in place later");
    }

    fn put_packed(&mut self, zstd: &[u8], bytes: u32) {
        // Rare: its worker kept those that were packed when they were posted.
        let data = Value::unpack(zstd, bytes).unwrap_or_else(|error| panic!("a packed value of the state: {error}"));
        self.draft.bytes.extend_from_slice(&data);
    }

    fn bytes_to_come(&self) -> usize {
        0
    }

    fn work(&mut self, bytes: usize) {
        self.work += bytes;
    }

    fn event(&mut self, event: EventType, path: &str) {
        let piece = Piece::push(&mut self.draft.bytes, path.as_bytes());
        self.body_at = self.draft.bytes.len();
        self.draft.items.push(Item::Event { conn: self.conn, event, path: piece });
    }
}
