//! One client under load: sends writes and reads in a pipeline, checks every reply, remembers what was acknowledged.
//!
//! Every reply is compared with what [`crate::crash::model`] predicts, so a wrong answer is found before any crash.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use zorilla_proto::client::{
    AclVec, CreateRequest, DeleteRequest, PathWatchRequest, ReplyHeader, Request, Response, SetDataRequest,
};
use zorilla_proto::{Code, Op, SessionId, Zxid};

use super::conn::{Conn, Reply, Ticket};
use super::model::{Model, NUMBERS, SHARED, TOP, Write, shown};
use crate::wire::Random;

/// Long enough that no session expires while a server restarts.
pub const SESSION_TIMEOUT_MS: i32 = 60_000;
/// Shared znodes that lanes bid on.
pub const SHARED_COUNT: usize = 8;

const PIPELINE_MAX: u32 = 16;
const NAMES: u32 = 40;
/// With this many znodes in its folder or numbers in its name a lane deletes before it creates more.
const CHILDREN_MAX: usize = 60;
const NUMBERS_MAX: usize = 8;
const FLAG_EPHEMERAL: i32 = 1;
const FLAG_SEQUENTIAL: i32 = 2;

/// What the threads of a round share with the one that crashes the server.
#[derive(Default)]
pub struct Run {
    /// Set before the crash: from here on a lost connection is no surprise.
    pub crashing: AtomicBool,
    /// Set before the power is cut: a machine without power answers nobody, so a reply that is read from here on binds
    /// nobody. (A sync that meets the cut may succeed and be lost: the dying journal says yes to it.)
    pub cutting: AtomicBool,
    /// Set when the power is certainly off: a write sent from here on cannot become durable.
    pub dark: AtomicBool,
    /// Acknowledged writes so far.
    pub acked: AtomicU64,
}

/// A conditional write of a shared znode that was acknowledged.
#[derive(Clone, Debug)]
pub struct Bid {
    pub index: usize,
    pub version: i32,
    pub data: Vec<u8>,
    pub zxid: Zxid,
}

/// What one lane was told in one round.
#[derive(Default)]
pub struct Acked {
    /// The zxid of every acknowledged write, failed ones too: they also take one.
    pub zxids: Vec<Zxid>,
    /// The numbers drawn.
    pub draws: Vec<(Zxid, u32)>,
    pub bids: Vec<Bid>,
    /// Sessions whose close was acknowledged.
    pub closed: Vec<Ticket>,
}

#[derive(Debug)]
enum Sent {
    Write(Write),
    /// Reads a znode of the own folder: the reply shows exactly the writes before it.
    Read(String),
    /// Reads a shared znode, to know which version to expect.
    Look(usize),
}

#[derive(Debug)]
struct InFlight {
    xid: i32,
    sent: Sent,
    /// It was sent when the power was off already.
    in_the_dark: bool,
}

/// One client, over all rounds on one data directory.
pub struct Lane {
    pub tag: String,
    pub model: Model,
    /// The session to resume, `None` when there is none.
    pub ticket: Option<Ticket>,
    pub last_zxid: Zxid,
    pub acked: Acked,
    conn: Option<Conn>,
    random: Random,
    ops: u64,
    in_flight: VecDeque<InFlight>,
    /// Writes answered after the cut began: as good as unanswered.
    late: Vec<Write>,
    versions: [i32; SHARED_COUNT],
}

/// The folder of the lane with this index.
pub fn folder(index: usize) -> String {
    format!("{TOP}/lane-{index}")
}

impl Lane {
    /// A lane without a session whose folder was created by `czxid`.
    pub fn new(index: usize, czxid: Zxid, seed: u64) -> Lane {
        Lane {
            tag: format!("lane {index},"),
            model: Model::new(folder(index), czxid),
            ticket: None,
            last_zxid: czxid,
            acked: Acked::default(),
            conn: None,
            random: Random::new(seed),
            ops: 0,
            in_flight: VecDeque::new(),
            late: Vec::new(),
            versions: [0; SHARED_COUNT],
        }
    }

    /// Takes the writes that were sent and not answered, and forgets what was acknowledged in the round before.
    pub fn take_in_flight(&mut self) -> Vec<Write> {
        self.conn = None;
        let unanswered = self.in_flight.drain(..).filter_map(|request| match request.sent {
            Sent::Write(write) => Some(write),
            Sent::Read(_) | Sent::Look(_) => None,
        });
        self.late.drain(..).chain(unanswered).collect()
    }

    /// Goes on with the session that was resumed on `conn`.
    pub fn resumed(&mut self, conn: Conn) {
        self.conn = Some(conn);
    }

    /// Sends until the server is gone. An error is a broken promise of the server, in words.
    pub fn load(&mut self, address: SocketAddr, run: &Run) -> Result<(), String> {
        let pipeline = 1 + self.random.below(PIPELINE_MAX) as usize;
        loop {
            match self.turn(address, pipeline, run) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Other => {
                    return Err(format!("{}: {error}", self.model.folder));
                }
                Err(_) if run.crashing.load(Ordering::Acquire) => return Ok(()),
                Err(error) => {
                    return Err(format!("{}: lost its connection before the crash: {error}", self.model.folder));
                }
            }
        }
    }

    /// Fills the pipeline, then takes at least one reply.
    fn turn(&mut self, address: SocketAddr, pipeline: usize, run: &Run) -> io::Result<()> {
        if self.conn.is_none() {
            self.connect(address)?;
        }
        while self.in_flight.len() < pipeline && !self.is_closing() {
            // Acquire pairs with the Release after the cut: what is sent now was sent after it.
            let in_the_dark = run.dark.load(Ordering::Acquire);
            let sent = self.choose();
            self.send(sent, in_the_dark);
        }
        self.conn().flush()?;
        loop {
            let reply = self.conn().reply()?;
            self.take(&reply, run).map_err(io::Error::other)?;
            if self.conn.is_none() || !self.conn().has_reply() {
                return Ok(());
            }
        }
    }

    fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("turn() connects first")
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<()> {
        let Some((conn, ticket)) = Conn::open(address, None, self.last_zxid, SESSION_TIMEOUT_MS)? else {
            return Err(io::Error::other("a new session was answered as not valid"));
        };
        self.model.session = ticket.session;
        self.ticket = Some(ticket);
        self.conn = Some(conn);
        Ok(())
    }

    /// Nothing may follow a close: the server would not answer it.
    fn is_closing(&self) -> bool {
        matches!(self.in_flight.back(), Some(InFlight { sent: Sent::Write(Write::Close), .. }))
            || matches!(self.late.last(), Some(Write::Close))
    }

    fn choose(&mut self) -> Sent {
        let crowded = CHILDREN_MAX <= self.model.children.len();
        match self.random.below(1000) {
            0..5 => Sent::Write(Write::Close),
            5..150 => Sent::Read(self.name()),
            150..200 => Sent::Look(self.random.below(SHARED_COUNT as u32) as usize),
            200..260 => {
                let index = self.random.below(SHARED_COUNT as u32) as usize;
                Sent::Write(Write::Bid { index, data: self.data(), version: self.versions[index] })
            }
            260..360 => match self.model.numbers.keys().next().cloned() {
                Some(path) if NUMBERS_MAX <= self.model.numbers.len() => Sent::Write(Write::Drop { path }),
                _ => Sent::Write(Write::Draw { data: self.data() }),
            },
            360..660 if crowded => Sent::Write(Write::Delete { name: self.any_child(), version: -1 }),
            360..540 => {
                let ephemeral = self.random.below(4) == 0;
                Sent::Write(Write::Create { name: self.name(), data: self.data(), ephemeral })
            }
            540..660 => {
                let ephemeral = self.random.below(3) == 0;
                Sent::Write(Write::CreateSequential { data: self.data(), ephemeral })
            }
            660..880 => {
                let name = self.name();
                let version = self.version(&name);
                Sent::Write(Write::Set { name, data: self.data(), version })
            }
            _ => {
                let name = if self.random.below(2) == 0 { self.name() } else { self.any_child() };
                let version = self.version(&name);
                Sent::Write(Write::Delete { name, version })
            }
        }
    }

    fn name(&mut self) -> String {
        format!("n-{}", self.random.below(NAMES))
    }

    fn any_child(&mut self) -> String {
        let count = self.model.children.len() as u32;
        if count == 0 {
            return self.name();
        }
        let index = self.random.below(count) as usize;
        self.model.children.keys().nth(index).expect("below the count").clone()
    }

    /// Any version, or the one that is right when the sets in flight are done, or one that is likely wrong.
    fn version(&mut self, name: &str) -> i32 {
        let known = self.model.children.get(name).map_or(0, |known| known.version);
        let sets_it = |sent: &Sent| matches!(sent, Sent::Write(Write::Set { name: of, .. }) if of == name);
        let ahead = self.in_flight.iter().filter(|request| sets_it(&request.sent)).count() as i32;
        match self.random.below(10) {
            0..5 => -1,
            5..9 => known + ahead,
            _ => known + ahead + 1,
        }
    }

    /// Data that only this write carries. Now and then it spans many disk sectors.
    fn data(&mut self) -> Vec<u8> {
        self.ops += 1;
        let bytes = match self.random.below(100) {
            0..90 => self.random.below(200),
            90..99 => self.random.below(4000),
            _ => self.random.below(40_000),
        };
        let mut data = format!("{}{};", self.tag, self.ops).into_bytes();
        let mark = self.ops.to_le_bytes();
        data.extend((0..bytes as usize).map(|at| mark[at % mark.len()] ^ at as u8));
        data
    }

    fn send(&mut self, sent: Sent, in_the_dark: bool) {
        let folder = self.model.folder.clone();
        let create = |path: String, data, flags| CreateRequest {
            path: Some(path.into()),
            data: Some(data),
            acl: Some(AclVec::OPEN),
            flags,
        };
        let read = |path: String| Request::GetData(PathWatchRequest { path: Some(path.into()), watch: false });
        let request = match &sent {
            Sent::Read(name) => read(format!("{folder}/{name}")),
            Sent::Look(index) => read(shared_path(*index)),
            Sent::Write(write) => match write {
                Write::Create { name, data, ephemeral } => {
                    let flags = if *ephemeral { FLAG_EPHEMERAL } else { 0 };
                    Request::Create(create(format!("{folder}/{name}"), data, flags))
                }
                Write::CreateSequential { data, ephemeral } => {
                    let flags = FLAG_SEQUENTIAL | if *ephemeral { FLAG_EPHEMERAL } else { 0 };
                    Request::Create(create(format!("{folder}/q-"), data, flags))
                }
                Write::Set { name, data, version } => Request::SetData(SetDataRequest {
                    path: Some(format!("{folder}/{name}").into()),
                    data: Some(data),
                    version: *version,
                }),
                Write::Delete { name, version } => {
                    Request::Delete(DeleteRequest { path: Some(format!("{folder}/{name}").into()), version: *version })
                }
                Write::Draw { data } => Request::Create(create(format!("{NUMBERS}/n-"), data, FLAG_SEQUENTIAL)),
                Write::Drop { path } => Request::Delete(DeleteRequest { path: Some(path.into()), version: -1 }),
                Write::Bid { index, data, version } => Request::SetData(SetDataRequest {
                    path: Some(shared_path(*index).into()),
                    data: Some(data),
                    version: *version,
                }),
                Write::Close => Request::CloseSession,
            },
        };
        let xid = self.conn.as_mut().expect("turn() connects first").queue(&request);
        self.in_flight.push_back(InFlight { xid, sent, in_the_dark });
    }

    fn take(&mut self, reply: &Reply, run: &Run) -> Result<(), String> {
        let ReplyHeader { xid, zxid, code } = reply.header;
        let Some(InFlight { xid: expected, sent, in_the_dark }) = self.in_flight.pop_front() else {
            return Err(format!("a reply with xid {xid} came where none was due"));
        };
        let code = Code::from_raw(code).ok_or_else(|| format!("unknown error code {code}"))?;
        let zxid = u64::try_from(zxid).map(Zxid::from_raw).map_err(|_| format!("a reply carries zxid {zxid}"))?;
        if xid != expected {
            return Err(format!("a reply with xid {xid} came where {expected} was due"));
        }
        // The flag is read after the reply: not set means that the reply is from before the cut.
        if run.cutting.load(Ordering::Acquire) {
            return match sent {
                Sent::Write(write) if in_the_dark => Err(format!("{write} was sent without power and got {zxid}")),
                Sent::Write(write) => {
                    self.late.push(write);
                    Ok(())
                }
                Sent::Read(_) | Sent::Look(_) => Ok(()),
            };
        }
        if zxid < self.last_zxid {
            return Err(format!("the zxid of the replies fell from {} to {zxid}", self.last_zxid));
        }
        self.last_zxid = zxid;
        match sent {
            Sent::Write(write) => {
                if zxid <= self.model.acked {
                    return Err(format!("{write} got {zxid}, the write before it {}", self.model.acked));
                }
                self.acknowledge(&write, zxid, code, reply)?;
                self.model.acked = zxid;
                self.acked.zxids.push(zxid);
                run.acked.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Sent::Read(name) => self.check_read(&name, code, reply),
            Sent::Look(index) => {
                let Response::GetData(there) = decoded(reply, Op::GetData)? else { unreachable!("decoded as GetData") };
                if code != Code::Ok || there.stat.version < self.versions[index] {
                    let version = self.versions[index];
                    return Err(format!(
                        "{} had version {version}, now {code:?} {}",
                        shared_path(index),
                        there.stat.version
                    ));
                }
                self.versions[index] = there.stat.version;
                Ok(())
            }
        }
    }

    fn acknowledge(&mut self, write: &Write, zxid: Zxid, code: Code, reply: &Reply) -> Result<(), String> {
        let next_sequential = self.model.next_sequential();
        let expected = self.model.apply(write, Some(zxid));
        let bid_failed = matches!(write, Write::Bid { .. }) && code == Code::BadVersion;
        if code != expected && !bid_failed {
            return Err(format!("{write} was answered {}, expected {}", code.name(), expected.name()));
        }
        if code != Code::Ok {
            return Ok(());
        }
        match write {
            Write::Create { name, .. } => self.check_path(reply, &format!("{}/{name}", self.model.folder)),
            Write::CreateSequential { .. } => {
                self.check_path(reply, &format!("{}/{next_sequential}", self.model.folder))
            }
            Write::Draw { .. } => {
                let Response::Path(there) = decoded(reply, Op::Create)? else { unreachable!("decoded as Path") };
                let path = there.path.ok_or("a create was answered with a null path")?;
                let number = number_of(&path).ok_or_else(|| format!("a draw was answered with {path}"))?;
                self.model.drew(&path, zxid);
                self.acked.draws.push((zxid, number));
                Ok(())
            }
            Write::Set { name, .. } => {
                let version = self.model.children[name].version;
                self.check_stat(write, reply, zxid, version)
            }
            Write::Bid { index, data, version } => {
                self.check_stat(write, reply, zxid, version + 1)?;
                self.versions[*index] = version + 1;
                self.acked.bids.push(Bid { index: *index, version: version + 1, data: data.clone(), zxid });
                Ok(())
            }
            Write::Close => {
                self.acked.closed.extend(self.ticket.take());
                self.conn = None;
                Ok(())
            }
            Write::Delete { .. } | Write::Drop { .. } => Ok(()),
        }
    }

    fn check_path(&self, reply: &Reply, expected: &str) -> Result<(), String> {
        match decoded(reply, Op::Create)? {
            Response::Path(there) if there.path.as_deref() == Some(expected) => Ok(()),
            other => Err(format!("{expected} was created as {other:?}")),
        }
    }

    fn check_stat(&self, write: &Write, reply: &Reply, zxid: Zxid, version: i32) -> Result<(), String> {
        match decoded(reply, Op::SetData)? {
            Response::Stat(there) if (there.stat.mzxid, there.stat.version) == (zxid, version) => Ok(()),
            other => Err(format!("{write} with {zxid} was answered {other:?}, expected version {version}")),
        }
    }

    fn check_read(&self, name: &str, code: Code, reply: &Reply) -> Result<(), String> {
        let path = format!("{}/{name}", self.model.folder);
        let Some(known) = self.model.children.get(name) else {
            return match code {
                Code::NoNode => Ok(()),
                _ => Err(format!("{path} was read with {}, it should not exist", code.name())),
            };
        };
        if code != Code::Ok {
            return Err(format!("{path} was read with {}, it should exist", code.name()));
        }
        let Response::GetData(there) = decoded(reply, Op::GetData)? else { unreachable!("decoded as GetData") };
        let data = there.data.unwrap_or_default();
        let same = data == known.data
            && there.stat.version == known.version
            && Some(there.stat.mzxid) == known.mzxid
            && there.stat.ephemeral_owner == known.owner.raw();
        if !same {
            return Err(format!(
                "{path} was read as {} {:?}, expected {} version {} mzxid {:?} owner {}",
                shown(data),
                there.stat,
                shown(&known.data),
                known.version,
                known.mzxid,
                known.owner
            ));
        }
        Ok(())
    }
}

/// The path of a shared znode.
pub fn shared_path(index: usize) -> String {
    format!("{SHARED}/{index}")
}

/// The number in the path of a drawn number.
pub fn number_of(path: &str) -> Option<u32> {
    path.strip_prefix(NUMBERS)?.strip_prefix("/n-")?.parse().ok()
}

/// The owner of a Stat as the id it is.
pub fn owner_of(raw: i64) -> SessionId {
    SessionId::from_raw(raw)
}

fn decoded(reply: &Reply, op: Op) -> Result<Response<'_>, String> {
    if reply.header.code != Code::Ok as i32 {
        return Err(format!("{} failed with {}", op.name(), reply.header.code));
    }
    reply.response(op).map_err(|error| error.to_string())
}
