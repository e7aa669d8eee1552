//! One client's connection as the client sees it, and what it checks of every frame that comes back.

use std::collections::VecDeque;

use zorilla::watch::ConnId;

use crate::acl::{self, Who};
use crate::coverage::{Coverage, IN_MULTI, IN_MULTI_READ};
use crate::model::{self, Model, Rules};
use crate::requests::{Ask, string};
use crate::watches::{Fired, Watches};

/// What one request waits for.
pub struct Expected {
    pub xid: i32,
    pub ask: Ask,
    /// The newest state that anybody had seen when it was sent: the answer must not be older.
    pub seen: u64,
    /// What the connection had proved of itself by then.
    pub who: Who,
    /// Its number among everything that the connection asked.
    order: usize,
}

/// An answer that is given when the request is read, ahead of whatever is under way: auth, sasl, and what is refused for
/// want of an identity.
struct AtOnce {
    xid: i32,
    op: i32,
    code: i32,
    body: &'static [u8],
    /// What the connection has proved of itself from here on.
    who: Who,
    order: usize,
}

/// A request on its way: where it stands among the bytes, and when it arrived.
#[derive(Clone, Copy)]
pub struct Arrival {
    pub start: usize,
    pub end: usize,
    pub at_ms: u64,
    /// The session is heard of by it.
    pub touches: bool,
}

/// An event that is due.
#[derive(Debug)]
struct Due {
    zxid: u64,
    kind: i32,
    path: String,
    /// What the connection had proved when the event was delivered decides whether it is shown, and that was then not
    /// certain.
    optional: bool,
}

/// Why the server may end a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It may not.
    Unexpected,
    /// Behind the answer of a close or of an unknown opcode.
    AfterAnswers,
    /// At any time: bytes that are no frame, a connect that is refused.
    AnyTime,
}

/// What the world has to know when a frame is judged.
pub struct World<'a> {
    pub model: &'a Model,
    pub durable: u64,
    pub applied: u64,
    /// The newest state that anybody has seen.
    pub seen: &'a mut u64,
    /// Writes may have been refused for lack of room.
    pub was_full: bool,
}

pub struct Connection {
    pub worker: usize,
    pub slot: ConnId,
    pub client: usize,
    /// 0 until the server has said which.
    pub session: i64,
    pub timeout_ms: i32,
    /// When it was opened, or asked for its end.
    pub since_ms: u64,
    pub resumes: bool,
    pub connected: bool,
    pub refused: bool,
    pub knows_read_only: bool,
    /// Bytes on their way to the server.
    pub sent: Vec<u8>,
    pub arrivals: VecDeque<Arrival>,
    pub fed: usize,
    /// The client will send no more, and still reads; the server has not been told.
    pub half_closed: bool,
    /// The client has hung up.
    pub hung_up: bool,
    /// The server has.
    pub over: bool,
    pub end: End,
    pub word: bool,
    /// Its connect cannot succeed.
    pub to_be_refused: bool,
    received: Vec<u8>,
    pub expected: VecDeque<Expected>,
    at_once: VecDeque<AtOnce>,
    /// What it has proved of itself with everything that was sent.
    pub who: Who,
    /// What it has proved with everything that was answered, and what it had proved before, with the newest transaction
    /// that may have been delivered then.
    shown: Who,
    formerly: Vec<(u64, Who)>,
    asked: usize,
    zxid: u64,
    cursor: u64,
    watches: Watches,
    events: VecDeque<Due>,
    missed: Vec<(i32, String)>,
    pub replies: usize,
    pub fired: usize,
    /// Events that somebody who may not read did not get.
    pub withheld: usize,
    pub coverage: Coverage,
}

impl Connection {
    pub fn new(worker: usize, slot: ConnId, client: usize, session: i64, since_ms: u64, peer: &str) -> Connection {
        let who = acl::of_peer(peer);
        Connection {
            worker,
            slot,
            client,
            session,
            timeout_ms: 0,
            since_ms,
            resumes: session != 0,
            connected: false,
            refused: false,
            knows_read_only: false,
            sent: Vec::new(),
            arrivals: VecDeque::new(),
            fed: 0,
            half_closed: false,
            hung_up: false,
            over: false,
            end: End::Unexpected,
            word: false,
            to_be_refused: false,
            received: Vec::new(),
            expected: VecDeque::new(),
            at_once: VecDeque::new(),
            shown: who.clone(),
            who,
            formerly: Vec::new(),
            asked: 0,
            zxid: 0,
            cursor: 0,
            watches: Watches::default(),
            events: VecDeque::new(),
            missed: Vec::new(),
            replies: 0,
            fired: 0,
            withheld: 0,
            coverage: Coverage::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        !self.hung_up && !self.over
    }

    /// Appends bytes that arrive as one.
    pub fn push(&mut self, bytes: &[u8], at_ms: u64, touches: bool) {
        let start = self.sent.len();
        self.sent.extend_from_slice(bytes);
        self.arrivals.push_back(Arrival { start, end: self.sent.len(), at_ms, touches });
    }

    /// Up to where the bytes had arrived at a time.
    pub fn arrived_by(&self, at_ms: u64) -> usize {
        self.arrivals.iter().find(|arrival| at_ms < arrival.at_ms).map_or(self.sent.len(), |arrival| arrival.start)
    }

    /// Sends a request. `false`: it will not be read.
    pub fn ask(&mut self, ask: Ask, xid: i32, seen: u64, now_ms: u64, rules: &Rules) -> bool {
        let mut frame = Vec::new();
        ask.encode(xid, &mut frame);
        let read = self.end == End::Unexpected;
        let is_connection = matches!(ask, Ask::Auth { .. } | Ask::Sasl { .. });
        let is_let_in = rules.is_let_in(&self.who);
        self.push(&frame, now_ms, read && !is_connection && is_let_in);
        if !read {
            return false;
        }
        self.asked += 1;
        let (op, order) = (ask.op(), self.asked);
        let ends = match &ask {
            Ask::Auth { scheme, credential } => {
                let is_good = rules.authenticate(&mut self.who, scheme.as_deref(), credential.as_deref());
                let code = if is_good { model::OK } else { model::AUTH_FAILED };
                self.at_once.push_back(AtOnce { xid, op, code, body: &[], who: self.who.clone(), order });
                if is_good { End::Unexpected } else { End::AfterAnswers }
            }
            // A null token breaks the connection.
            Ask::Sasl { token: None } => End::AnyTime,
            Ask::Sasl { .. } => {
                let (code, body, who) = (model::OK, &[0xff; 4], self.who.clone());
                self.at_once.push_back(AtOnce { xid, op, code, body, who, order });
                End::Unexpected
            }
            _ if !is_let_in => {
                let (code, who) = (model::CLOSED_REQUIRE_AUTH, self.who.clone());
                self.at_once.push_back(AtOnce { xid, op, code, body: &[], who, order });
                End::AfterAnswers
            }
            _ => {
                let ends = matches!(ask, Ask::Close | Ask::Unknown(_));
                self.expected.push_back(Expected { xid, ask, seen, who: self.who.clone(), order });
                if ends { End::AfterAnswers } else { End::Unexpected }
            }
        };
        if ends != End::Unexpected {
            self.end = ends;
            self.since_ms = now_ms;
        }
        is_let_in || is_connection
    }

    /// Whether everything that is to be answered is.
    pub fn is_answered(&self) -> bool {
        self.expected.is_empty() && self.at_once.is_empty()
    }

    /// Takes what the server wrote.
    pub fn receive(&mut self, bytes: &[u8], world: &mut World<'_>) {
        self.received.extend_from_slice(bytes);
        if self.word {
            return;
        }
        let mut received = std::mem::take(&mut self.received);
        let mut at = 0;
        while let Some(length) = received[at..].first_chunk::<4>() {
            let end = at + 4 + i32::from_be_bytes(*length) as usize;
            if received.len() < end {
                break;
            }
            let frame = received[at + 4..end].to_vec();
            self.frame(&frame, world);
            at = end;
        }
        received.drain(..at);
        self.received = received;
    }

    fn frame(&mut self, frame: &[u8], world: &mut World<'_>) {
        let int = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        let long = |at: usize| i64::from_be_bytes(frame[at..at + 8].try_into().unwrap());
        assert!(!self.refused, "a frame behind a session that is not valid");
        if !self.connected {
            self.connect_response(frame, world);
            return;
        }
        let (xid, zxid, code, body) = (int(0), long(4), int(12), &frame[16..]);
        if xid == -1 {
            self.event(zxid, code, body, world);
            return;
        }
        self.replies += 1;
        if self.at_once.front().is_some_and(|due| due.xid == xid) {
            return self.answered_at_once(zxid, code, body, world);
        }
        let Expected { xid: asked, ask, seen, who, order } =
            self.expected.pop_front().expect("a reply that nobody asked for");
        assert!(self.at_once.front().is_none_or(|due| order < due.order), "{ask:?} overtakes what is answered at once");
        let asked = if matches!(ask, Ask::Ping) { -2 } else { asked };
        if xid != asked {
            let next: Vec<_> = self.expected.iter().map(|e| (e.xid, &e.ask)).take(4).collect();
            panic!("reply {xid} (zxid {zxid}, code {code}) where {asked} is due, to {ask:?}; then {next:?}");
        }
        *self.coverage.entry((ask.op(), code)).or_default() += 1;
        if let Ask::Unknown(_) = ask {
            assert_eq!((zxid, code, body), (-1, model::UNIMPLEMENTED, &[][..]));
            // What comes later is not answered.
            self.expected.clear();
            return;
        }
        let zxid = zxid as u64;
        assert!(self.zxid <= zxid, "zxid falls from {} to {zxid} with {ask:?}", self.zxid);
        assert!(zxid <= world.durable, "{ask:?} shows {zxid}, durable is only {}", world.durable);
        assert!(zxid <= world.applied, "{ask:?} shows {zxid}, applied is only {}", world.applied);
        assert!(seen <= zxid, "{ask:?} shows {zxid}, and {seen} had been seen when it was sent");
        self.zxid = zxid;
        *world.seen = zxid.max(*world.seen);
        self.advance(zxid, world.model);
        self.withheld += self.events.len();
        self.events.retain(|due| !due.optional);
        self.withheld -= self.events.len();
        assert!(self.events.is_empty(), "a reply at {zxid} ahead of the events {:?}", self.events);
        self.judge(xid, zxid, code, body, &ask, &who, world);
        if matches!(ask, Ask::Close) {
            self.expected.clear();
        }
    }

    fn answered_at_once(&mut self, zxid: i64, code: i32, body: &[u8], world: &World<'_>) {
        let due = self.at_once.pop_front().expect("it was just looked at");
        assert_eq!((zxid, code, body), (0, due.code, due.body), "opcode {}", due.op);
        *self.coverage.entry((due.op, code)).or_default() += 1;
        if due.who != self.shown {
            // What was delivered ahead of the credential was filtered without it.
            self.formerly.retain(|(until, _)| self.cursor < *until);
            self.formerly.push((world.applied, std::mem::replace(&mut self.shown, due.who)));
        }
    }

    fn connect_response(&mut self, frame: &[u8], world: &mut World<'_>) {
        let int = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        assert_eq!(frame.len(), 36 + usize::from(self.knows_read_only), "a connect response of another length");
        let (timeout_ms, password) = (int(4), &frame[20..36]);
        let session = i64::from_be_bytes(frame[8..16].try_into().unwrap());
        self.connected = true;
        if session == 0 {
            assert_eq!((timeout_ms, password), (0, &[0; 16][..]));
            assert!(self.resumes, "a new session is not valid");
            self.refused = true;
            return;
        }
        assert!(!self.to_be_refused, "a session for a client that had to be turned away");
        assert_eq!(timeout_ms, self.timeout_ms);
        if self.resumes {
            assert_eq!(session, self.session);
        } else {
            self.session = session;
            let opened = world.model.history.iter().position(|done| done.session == session && done.xid == 0);
            let opened = opened.expect("a new session is in the history") as u64;
            assert!(opened <= world.durable && opened <= world.applied, "a session answered before it is durable");
        }
        // A client that comes back has no watches; its events begin with its first read.
        self.cursor = 0;
    }

    fn event(&mut self, zxid: i64, code: i32, body: &[u8], world: &mut World<'_>) {
        let kind = i32::from_be_bytes(body[..4].try_into().unwrap());
        assert_eq!((code, &body[4..8]), (0, &3i32.to_be_bytes()[..]));
        let path = std::str::from_utf8(&body[12..]).unwrap().to_owned();
        assert_eq!(body[8..12], (path.len() as i32).to_be_bytes());
        if zxid == -1 {
            self.missed.push((kind, path));
            return;
        }
        let zxid = zxid as u64;
        assert!(zxid <= world.durable, "an event of {zxid}, durable is only {}", world.durable);
        while self.events.is_empty() && self.cursor < zxid {
            self.advance(self.cursor + 1, world.model);
            if self.cursor < zxid {
                // Of an older transaction nothing can come any more.
                self.events.retain(|due| !due.optional);
            }
        }
        let is_due = |due: &Due| (due.zxid, due.kind, &due.path) == (zxid, kind, &path);
        while self.events.front().is_some_and(|due| due.optional && !is_due(due)) {
            self.events.pop_front();
            while self.events.is_empty() && self.cursor < zxid {
                self.advance(self.cursor + 1, world.model);
            }
        }
        let due = self.events.pop_front();
        assert!(due.as_ref().is_some_and(is_due), "event {kind} of {path} at {zxid}, and {due:?} is due");
        self.zxid = zxid.max(self.zxid);
        *world.seen = zxid.max(*world.seen);
        self.fired += 1;
    }

    /// Finds the events of every transaction up to `zxid`.
    pub fn advance(&mut self, zxid: u64, model: &Model) {
        let mut fired = Vec::new();
        while self.cursor < zxid {
            self.cursor += 1;
            for changed in &model.history[self.cursor as usize].changes {
                self.watches.fire(changed, &mut fired);
            }
            for Fired { event, path, acl } in fired.drain(..) {
                let reads = |who: &Who| model.rules.allows(acl, acl::READ, who);
                if !reads(&self.shown) {
                    self.withheld += 1;
                    continue;
                }
                let optional = self.formerly.iter().any(|(until, who)| self.cursor <= *until && !reads(who));
                self.events.push_back(Due { zxid: self.cursor, kind: event, path, optional });
            }
        }
    }

    /// After everything has come to rest.
    pub fn check_nothing_is_missing(&mut self, applied: u64, model: &Model) {
        assert!(
            self.is_answered(),
            "never answered: {:?} and {} at once",
            self.expected.iter().map(|e| &e.ask).collect::<Vec<_>>(),
            self.at_once.len()
        );
        self.advance(applied, model);
        self.events.retain(|due| !due.optional);
        assert!(self.events.is_empty(), "events that never came: {:?}", self.events);
        assert!(self.received.is_empty(), "half a frame");
    }

    #[allow(clippy::too_many_arguments)] // The fields of one reply.
    fn judge(&mut self, xid: i32, zxid: u64, code: i32, body: &[u8], ask: &Ask, who: &Who, world: &World<'_>) {
        if code != 0 {
            assert_eq!(body, &[] as &[u8], "an error with a body");
        }
        if ask.is_write() || matches!(ask, Ask::Close) {
            let done = &world.model.history[zxid as usize];
            if code == model::SYSTEM_ERROR {
                assert!(world.was_full, "SYSTEMERROR with room in the log");
                assert!(world.model.history.iter().all(|done| done.xid != xid), "{ask:?} was refused and done");
                return;
            }
            assert_eq!(done.xid, xid, "the answer to {ask:?} names the zxid {zxid} of another request");
            assert_eq!(done.session, self.session);
            assert_eq!((code, body), (done.code, &done.body[..]), "{ask:?} at {zxid}");
            for (op, code) in &done.parts {
                *self.coverage.entry((IN_MULTI + op, *code)).or_default() += 1;
            }
            return;
        }
        if let Ask::Malformed(_) = ask {
            assert_eq!(code, model::MARSHALLING, "{ask:?}");
            return;
        }
        let due = world.model.read(ask, zxid, self.session, who, &mut self.watches);
        assert_eq!(code, due.code, "{ask:?} at {zxid}");
        let body = match ask {
            _ if code != model::OK => body.to_vec(),
            Ask::GetChildren { .. } | Ask::GetEphemerals { .. } => sorted(body, 1).0,
            Ask::WhoAmI => sorted(body, 2).0,
            Ask::MultiRead(_) => sorted_parts(body),
            Ask::GetAcl { .. } => {
                let (shown, stat) = acl_shown(body);
                let acl = due.acl.as_ref().expect("the model shows a list");
                assert!(acl::is_shown_as(acl, &shown), "{ask:?} at {zxid}: {shown:?} instead of {acl:?}");
                stat.to_vec()
            }
            _ => body.to_vec(),
        };
        assert_eq!(body, due.body, "{ask:?} at {zxid}");
        assert_eq!(std::mem::take(&mut self.missed), due.events, "{ask:?} at {zxid}");
        for (kind, path) in due.watches {
            self.watches.add(kind, &path);
        }
        for (op, code) in due.parts {
            *self.coverage.entry((IN_MULTI_READ + op, code)).or_default() += 1;
        }
    }
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn text(bytes: &[u8], at: &mut usize) -> String {
    let end = *at + 4 + int(bytes, *at) as usize;
    let text = std::str::from_utf8(&bytes[*at + 4..end]).unwrap().to_owned();
    *at = end;
    text
}

/// A list of tuples of strings in order, with what follows it, and where the list ended.
fn sorted(body: &[u8], strings: usize) -> (Vec<u8>, usize) {
    let mut at = 4;
    let mut items: Vec<Vec<String>> = Vec::new();
    for _ in 0..int(body, 0) {
        items.push((0..strings).map(|_| text(body, &mut at)).collect());
    }
    items.sort_unstable();
    let mut out = body[..4].to_vec();
    for item in items.iter().flatten() {
        string(&mut out, Some(item));
    }
    out.extend(&body[at..]);
    (out, at)
}

/// The answer to a multiRead with every list of children in order.
fn sorted_parts(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let header = &body[at..at + 9];
        out.extend(header);
        at += 9;
        let bytes = match int(header, 0) {
            8 => {
                let (list, bytes) = sorted(&body[at..], 1);
                out.extend(&list[..bytes]);
                at += bytes;
                continue;
            }
            4 => 4 + int(body, at).max(0) as usize + 68,
            _ if header[4] == 1 => 0,
            _ => 4,
        };
        out.extend(&body[at..at + bytes]);
        at += bytes;
    }
    out
}

/// The list of a getACL, and the stat behind it.
fn acl_shown(body: &[u8]) -> (Vec<(i32, String, String)>, &[u8]) {
    let mut at = 4;
    let mut shown = Vec::new();
    for _ in 0..int(body, 0) {
        let perms = int(body, at);
        at += 4;
        shown.push((perms, text(body, &mut at), text(body, &mut at)));
    }
    (shown, &body[at..])
}
