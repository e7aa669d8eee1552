//! One server and everything one stream holds on it: connections, sessions, and the names of both.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zorilla_proto::code::Code;
use zorilla_proto::op::Op;

use crate::link::Link;
use crate::norm::Norm;
use crate::profile::Traits;
use crate::script::{Connect, Field, Password, Request, Step, Target};
use crate::server::Server;
use crate::wire::{self, Item, Reply, Symbols};

/// For what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// For an end of a connection that is due.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);
/// For what the server does by its own clock.
const CLOCK_PATIENCE: Duration = Duration::from_secs(15);

const UNKNOWN_SESSION: i64 = 0x0100_0000_0000_7777;

pub struct Side {
    pub server: Server,
    pub traits: Traits,
    /// A session of the driver's own that outlives streams, with all rights where that is possible.
    admin: Link,
    pub links: BTreeMap<String, Link>,
    pub norm: Norm,
    prefix: String,
    /// The session that each connection has, or last had.
    session_of: BTreeMap<String, i64>,
    /// Sessions of this stream that nobody has closed.
    open_sessions: Vec<i64>,
    /// Connections with an identity that enforced authentication accepts.
    authenticated: Vec<String>,
}

/// A request that may end the connection: nothing may be pipelined behind it.
pub fn may_close(request: &Request) -> bool {
    match request.op() {
        None | Some(Op::CloseSession | Op::CreateSession | Op::Auth | Op::Sasl) => true,
        Some(op) => !op.from_client(),
    }
}

/// Whether a step can make another connection see something.
pub fn may_be_noticed(step: &Step) -> bool {
    let quiet = |request: &Request| {
        matches!(
            request.op(),
            Some(
                Op::Exists
                    | Op::GetData
                    | Op::GetAcl
                    | Op::GetChildren
                    | Op::GetChildren2
                    | Op::Ping
                    | Op::Sync
                    | Op::WhoAmI
                    | Op::AddWatch
                    | Op::CheckWatches
                    | Op::RemoveWatches
                    | Op::SetWatches
                    | Op::SetWatches2
                    | Op::MultiRead
                    | Op::GetEphemerals
                    | Op::GetAllChildrenNumber
            )
        )
    };
    !matches!(step, Step::Send { requests, .. } if requests.iter().all(quiet))
}

fn text(value: impl AsRef<str>) -> Field {
    Field::Str(Some(value.as_ref().to_owned()))
}

pub fn auth(scheme: impl AsRef<str>, credential: impl AsRef<str>) -> Request {
    Request::new(Op::Auth, vec![Field::Int(0), text(scheme), Field::Buf(Some(credential.as_ref().as_bytes().to_vec()))])
}

impl Side {
    pub fn new(server: Server, traits: Traits) -> io::Result<Side> {
        let admin = Link::open(server.address)?;
        let mut side = Side {
            server,
            traits,
            admin,
            links: BTreeMap::new(),
            norm: Norm::new(0),
            prefix: String::new(),
            session_of: BTreeMap::new(),
            open_sessions: Vec::new(),
            authenticated: Vec::new(),
        };
        let mut bytes = Vec::new();
        wire::put_connect(&Connect::new("admin"), 0, 0, &mut bytes);
        side.admin.write(&bytes);
        side.admin.expect_connected();
        side.admin.settle(PATIENCE);
        if side.admin.session.is_none() {
            return Err(io::Error::other(format!("{} gives no session", side.server.program.name())));
        }
        if side.traits.has_super && side.admin_codes(&[auth("digest", "super:test")]) != [0] {
            return Err(io::Error::other(format!("{} knows no super user", side.server.program.name())));
        }
        Ok(side)
    }

    fn symbols(&self, last_zxid: i64) -> Symbols<'_> {
        Symbols { prefix: &self.prefix, last_zxid }
    }

    // ---- the driver's own session --------------------------------------------------------------------------

    /// Asks as the driver; what comes back, in order.
    pub fn admin(&mut self, requests: &[Request]) -> Vec<Reply> {
        let mut bytes = Vec::new();
        for request in requests {
            let xid = self.admin.next_xid;
            self.admin.next_xid += 1;
            let symbols = Symbols { prefix: &self.prefix, last_zxid: self.admin.last_zxid };
            wire::put_request(request, xid, &symbols, &mut bytes);
            self.admin.expect(&Arc::new(request.clone()), xid);
        }
        self.admin.write(&bytes);
        self.admin.settle(PATIENCE);
        let items = self.admin.items.drain(..).chain(self.admin.at_once.drain(..));
        // How often the driver itself had to ask is no part of what is compared.
        let unnumbered = |item| if let Item::Reply(reply) = item { Some(Reply { xid: 0, ..reply }) } else { None };
        items.filter_map(unnumbered).collect()
    }

    fn admin_codes(&mut self, requests: &[Request]) -> Vec<i32> {
        self.admin(requests).iter().map(|reply| reply.code).collect()
    }

    pub fn is_alive(&mut self) -> bool {
        !self.admin.closed && self.server.is_running()
    }

    /// The last zxid the server has applied.
    pub fn last_zxid(&mut self) -> i64 {
        self.admin(&[Request::new(Op::Sync, vec![text("/")])]).first().map_or(0, |reply| reply.zxid)
    }

    // ---- a stream ------------------------------------------------------------------------------------------

    pub fn begin(&mut self, prefix: &str) {
        self.prefix = prefix.to_owned();
        self.links.clear();
        self.session_of.clear();
        self.open_sessions.clear();
        self.authenticated.clear();
        let open = vec![Field::Count(1), Field::Int(31), text("world"), text("anyone")];
        let create = [vec![text("$"), Field::Buf(Some(Vec::new()))], open, vec![Field::Int(0)]].concat();
        let replies = self.admin(&[Request::new(Op::Create, create), Request::new(Op::Sync, vec![text("/")])]);
        self.norm = Norm::new(replies.last().map_or(0, |reply| reply.zxid));
    }

    fn last_seen(&self) -> i64 {
        self.links.values().map(|link| link.last_zxid).max().unwrap_or_default().max(self.admin.last_zxid)
    }

    fn put(&mut self, conn: &str, requests: &[Request], fence: bool, bytes: &mut Vec<u8>) {
        let last_zxid = self.last_seen();
        let Some(mut link) = self.links.remove(conn) else { return };
        let ping = Request::new(Op::Ping, Vec::new());
        for request in requests {
            let xid = request.xid.unwrap_or(link.next_xid);
            link.next_xid += 1;
            wire::put_request(request, xid, &self.symbols(last_zxid), bytes);
            link.expect(&Arc::new(request.clone()), xid);
        }
        if fence {
            wire::put_request(&ping, -2, &self.symbols(last_zxid), bytes);
            link.expect_fence();
        }
        self.links.insert(conn.to_owned(), link);
    }

    pub fn is_open(&self, conn: &str) -> bool {
        self.links.get(conn).is_some_and(|link| !link.closed)
    }

    fn can_fence(&self, conn: &str) -> bool {
        let accepted = || self.authenticated.iter().any(|known| known == conn);
        self.is_open(conn) && (!self.traits.enforced_auth || accepted())
    }

    /// The first half of a step: everything is written.
    pub fn write(&mut self, step: &Step) {
        match step {
            Step::Connect(connect) => {
                let session = match &connect.target {
                    Target::New => 0,
                    Target::Unknown => UNKNOWN_SESSION,
                    Target::SessionOf(conn) => self.session_of.get(conn).copied().unwrap_or(UNKNOWN_SESSION),
                };
                if let Some(mut old) = self.links.remove(&connect.conn) {
                    old.shutdown();
                }
                // Java ends the owner's connection although the password is wrong; we do not, so there is none.
                if connect.password != Password::Right && session != 0 {
                    let owners: Vec<String> = self
                        .session_of
                        .iter()
                        .filter(|(_, id)| **id == session)
                        .map(|(conn, _)| conn.clone())
                        .collect();
                    for mut owner in owners.iter().filter_map(|owner| self.links.remove(owner)) {
                        owner.shutdown();
                    }
                }
                self.authenticated.retain(|known| *known != connect.conn);
                let Ok(mut link) = Link::open(self.server.address) else { return };
                let mut bytes = Vec::new();
                let last_zxid = self.last_seen();
                wire::put_connect(connect, session, last_zxid, &mut bytes);
                link.expect_connected();
                link.last_zxid = last_zxid;
                self.links.insert(connect.conn.clone(), link);
                let fence = !connect.pipelined.is_empty() && !self.traits.enforced_auth;
                self.put(&connect.conn, &connect.pipelined, fence, &mut bytes);
                self.link(&connect.conn).write(&bytes);
            }
            Step::Send { conn, requests } if self.is_open(conn) => {
                let mut bytes = Vec::new();
                let fence = self.can_fence(conn) && !requests.last().is_some_and(may_close);
                self.put(conn, requests, fence, &mut bytes);
                self.link(conn).write(&bytes);
            }
            Step::Await { conn, requests, .. } if self.is_open(conn) => {
                let zxid = self.last_zxid();
                self.norm.bound(zxid);
                let mut bytes = Vec::new();
                self.put(conn, requests, false, &mut bytes);
                self.link(conn).write(&bytes);
            }
            Step::Expire { conn } if self.is_open(conn) => {
                let zxid = self.last_zxid();
                self.norm.bound(zxid);
            }
            Step::Raw { conn, bytes } if self.is_open(conn) => self.link(conn).write(bytes),
            Step::Drop { conn } => {
                if let Some(mut link) = self.links.remove(conn) {
                    link.shutdown();
                }
            }
            _ => {}
        }
    }

    fn link(&mut self, conn: &str) -> &mut Link {
        self.links.get_mut(conn).expect("the connection was looked up before")
    }

    fn settle(&mut self, conn: &str) {
        let link = self.link(conn);
        if !link.settle(PATIENCE) && !link.closed {
            link.give_up();
        }
        self.note_identity(conn);
    }

    fn note_identity(&mut self, conn: &str) {
        let accepted =
            |item: &Item| matches!(item, Item::Reply(reply) if reply.code == 0 && reply.asked.contains("digest"));
        if self.link(conn).at_once.iter().any(accepted) {
            self.authenticated.push(conn.to_owned());
        }
    }

    /// Waits for the end of a connection that may be ending.
    fn await_close(&mut self, conn: &str) {
        self.link(conn).read_until(CLOSE_PATIENCE, |link| link.closed);
    }

    /// The second half: everything the step causes on its own connection has come.
    pub fn read(&mut self, step: &Step) {
        let conn = step.conn().to_owned();
        if !self.links.contains_key(&conn) {
            return;
        }
        match step {
            Step::Connect(connect) => {
                self.settle(&conn);
                let link = self.link(&conn);
                let Some(session) = link.session else {
                    // Without a session the connection has nothing to stay open for.
                    self.await_close(&conn);
                    return;
                };
                if let Target::SessionOf(_) = connect.target {
                    let others = self.session_of.iter().filter(|(other, id)| **id == session && **other != conn);
                    let others: Vec<String> = others
                        .filter(|(other, _)| self.links.contains_key(*other))
                        .map(|(other, _)| other.clone())
                        .collect();
                    for other in &others {
                        self.await_close(other);
                    }
                } else {
                    self.norm.name_session(session, &conn);
                    self.open_sessions.push(session);
                }
                self.session_of.insert(conn.clone(), session);
            }
            Step::Send { requests, .. } => {
                self.settle(&conn);
                let closing = requests.last().is_some_and(|last| match last.op() {
                    Some(Op::Auth | Op::Sasl) => self.link(&conn).at_once.iter().any(is_error),
                    _ => may_close(last),
                });
                if closing || !self.can_fence(&conn) && !requests.last().is_some_and(is_accepted_kind) {
                    self.await_close(&conn);
                }
                self.note_closed_sessions(&conn);
            }
            Step::Raw { .. } => self.await_close(&conn),
            Step::Await { gone, .. } => {
                self.settle(&conn);
                self.note_closed_sessions(&conn);
                let begin = Instant::now();
                for path in gone {
                    let exists = Request::new(Op::Exists, vec![text(path), Field::Bool(0)]);
                    while self.admin_codes(std::slice::from_ref(&exists)) != [Code::NoNode.raw()] {
                        if CLOCK_PATIENCE < begin.elapsed() {
                            self.link(&conn).items.push(Item::Odd(format!("{path} is still there")));
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
                let zxid = self.last_zxid();
                self.norm.bound(zxid);
            }
            Step::Expire { .. } => {
                if !self.link(&conn).closed {
                    self.link(&conn).read_until(CLOCK_PATIENCE, |link| link.closed);
                }
                // What its own end makes it see races with that end.
                self.link(&conn).items.retain(|item| matches!(item, Item::Closed));
                let zxid = self.last_zxid();
                self.norm.bound(zxid);
            }
            Step::Drop { .. } => {}
        }
    }

    fn note_closed_sessions(&mut self, conn: &str) {
        let link = self.links.get(conn).expect("the connection was looked up before");
        let mut is_closed = false;
        for item in &link.items {
            if let Item::Reply(reply) = item
                && reply.op == Some(Op::CloseSession)
                && reply.code == 0
            {
                self.norm.unordered(reply.zxid);
                is_closed = true;
            }
        }
        if is_closed && let Some(session) = self.session_of.get(conn) {
            self.open_sessions.retain(|open| open != session);
        }
    }

    /// Asks every other connection for a sign of life: behind it comes nothing the step has caused.
    pub fn write_fences(&mut self, step: &Step) {
        let conns: Vec<String> = self.links.keys().cloned().collect();
        for conn in conns {
            let is_fenced = matches!(step, Step::Send { .. }) && conn == step.conn();
            let is_fenced = is_fenced && !step.requests().last().is_some_and(may_close);
            if is_fenced || !self.can_fence(&conn) {
                continue;
            }
            let mut bytes = Vec::new();
            self.put(&conn, &[], true, &mut bytes);
            self.link(&conn).write(&bytes);
        }
    }

    pub fn read_fences(&mut self) {
        let conns: Vec<String> = self.links.keys().cloned().collect();
        for conn in conns {
            if self.is_open(&conn) {
                self.settle(&conn);
            }
        }
    }

    /// What has come on every connection since the last call.
    pub fn take_items(&mut self) -> BTreeMap<String, (Vec<Item>, Vec<Item>)> {
        let taken = self
            .links
            .iter_mut()
            .map(|(conn, link)| (conn.clone(), (std::mem::take(&mut link.items), std::mem::take(&mut link.at_once))));
        taken.filter(|(_, (items, at_once))| !items.is_empty() || !at_once.is_empty()).collect()
    }

    // ---- the end of a stream -------------------------------------------------------------------------------

    /// Closes every session of the stream; says of each whether it was still valid.
    pub fn close_sessions(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        let close = Arc::new(Request::new(Op::CloseSession, Vec::new()));
        let sessions = std::mem::take(&mut self.open_sessions);
        self.links.clear();
        for (index, session) in sessions.into_iter().enumerate() {
            let Ok(mut link) = Link::open(self.server.address) else { continue };
            let mut bytes = Vec::new();
            let connect = Connect {
                target: Target::SessionOf(String::new()),
                password: Password::Right,
                ..Connect::new("closer")
            };
            wire::put_connect(&connect, session, 0, &mut bytes);
            if self.traits.enforced_auth {
                let identify = auth("digest", "super:test");
                wire::put_request(&identify, 1, &self.symbols(0), &mut bytes);
                link.expect(&Arc::new(identify), 1);
            }
            wire::put_request(&close, 2, &self.symbols(0), &mut bytes);
            link.expect_connected();
            link.expect(&close, 2);
            link.write(&bytes);
            link.settle(PATIENCE);
            said.push(format!("session {index} valid={}", link.session.is_some()));
        }
        said
    }

    /// Everything below the given znodes, the nearest first, and what each of them is.
    pub fn walk(&mut self, roots: &[String]) -> (Vec<String>, Vec<Item>) {
        let (mut paths, mut items, mut level) = (Vec::new(), Vec::new(), roots.to_vec());
        while !level.is_empty() {
            let requests: Vec<Request> = level
                .iter()
                .flat_map(|path| {
                    let watch = || vec![text(path), Field::Bool(0)];
                    [
                        Request::new(Op::GetData, watch()),
                        Request::new(Op::GetAcl, vec![text(path)]),
                        Request::new(Op::GetChildren2, watch()),
                    ]
                })
                .collect();
            let replies = self.admin(&requests);
            let mut below = Vec::new();
            for (index, reply) in replies.iter().enumerate() {
                if index % 3 != 2 {
                    continue;
                }
                let parent = &level[index / 3];
                let parent = if parent == "/" { "" } else { parent.as_str() };
                below.extend(children(reply).map(|name| format!("{parent}/{name}")));
            }
            items.extend(replies.into_iter().map(Item::Reply));
            paths.append(&mut level);
            level = below;
        }
        (paths, items)
    }

    /// The znodes of this stream outside its own top-level znode, and that one.
    pub fn tops(&mut self) -> Vec<String> {
        let mut tops = Vec::new();
        let name = self.prefix.trim_start_matches('/').to_owned();
        let list = |path: &str| Request::new(Op::GetChildren2, vec![text(path), Field::Bool(0)]);
        let replies = self.admin(&[list("/"), list("/zookeeper/quota")]);
        for (parent, reply) in ["", "/zookeeper/quota"].iter().zip(&replies) {
            let ours = children(reply).filter(|child| child.starts_with(&name));
            tops.extend(ours.map(|child| format!("{parent}/{child}")));
        }
        tops
    }

    /// Deletes what [`Side::walk`] found; deepest first.
    pub fn clean(&mut self, paths: &[String]) {
        let deletes: Vec<Request> =
            paths.iter().rev().map(|path| Request::new(Op::Delete, vec![text(path), Field::Int(-1)])).collect();
        for chunk in deletes.chunks(200) {
            self.admin(chunk);
        }
    }
}

fn is_error(item: &Item) -> bool {
    matches!(item, Item::Reply(reply) if reply.code != 0)
}

/// A request that a connection may send before it has shown who it is.
fn is_accepted_kind(request: &Request) -> bool {
    matches!(request.op(), Some(Op::Auth | Op::Sasl))
}

/// The names in a getChildren2 reply, as `wire` printed them.
fn children(reply: &Reply) -> impl Iterator<Item = String> {
    let mut names = Vec::new();
    if let Some(wire::Part::Text(text)) = reply.body.first()
        && let Some(list) = text.strip_prefix(" children=[").and_then(|rest| rest.strip_suffix(']'))
    {
        names.extend(crate::script::quoted(list));
    }
    names.into_iter()
}
