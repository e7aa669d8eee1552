//! One client's connection as the client sees it, and what it checks of every frame that comes back.

use std::collections::VecDeque;

use zorilla::watch::ConnId;

use crate::model::{self, Model, Watches};
use crate::requests::{Ask, string};

/// What one request waits for.
pub struct Expected {
    pub xid: i32,
    pub ask: Ask,
    /// The newest state that anybody had seen when it was sent: the answer must not be older.
    pub seen: u64,
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
    /// Bytes on their way to the server, and where requests end in them, with the time they arrived there.
    pub sent: Vec<u8>,
    pub arrivals: VecDeque<(usize, u64)>,
    pub fed: usize,
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
    zxid: u64,
    cursor: u64,
    watches: Watches,
    events: VecDeque<(u64, i32, String)>,
    missed: Vec<(i32, String)>,
    pub replies: usize,
    pub fired: usize,
}

impl Connection {
    pub fn new(worker: usize, slot: ConnId, client: usize, session: i64, since_ms: u64) -> Connection {
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
            hung_up: false,
            over: false,
            end: End::Unexpected,
            word: false,
            to_be_refused: false,
            received: Vec::new(),
            expected: VecDeque::new(),
            zxid: 0,
            cursor: 0,
            watches: Watches::default(),
            events: VecDeque::new(),
            missed: Vec::new(),
            replies: 0,
            fired: 0,
        }
    }

    pub fn is_up(&self) -> bool {
        !self.hung_up && !self.over
    }

    pub fn ask(&mut self, ask: Ask, xid: i32, seen: u64, now_ms: u64) {
        ask.encode(xid, &mut self.sent);
        self.arrivals.push_back((self.sent.len(), now_ms));
        match ask {
            Ask::Close | Ask::Unknown(_) if self.end == End::Unexpected => {
                self.end = End::AfterAnswers;
                self.since_ms = now_ms;
            }
            _ => {}
        }
        self.expected.push_back(Expected { xid, ask, seen });
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
        let Expected { xid: asked, ask, seen } = self.expected.pop_front().expect("a reply that nobody asked for");
        let asked = if matches!(ask, Ask::Ping) { -2 } else { asked };
        if xid != asked {
            let next: Vec<_> = self.expected.iter().map(|e| (e.xid, &e.ask)).take(4).collect();
            panic!("reply {xid} (zxid {zxid}, code {code}) where {asked} is due, to {ask:?}; then {next:?}");
        }
        self.replies += 1;
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
        assert!(self.events.is_empty(), "a reply at {zxid} ahead of the events {:?}", self.events);
        self.judge(xid, zxid, code, body, &ask, world);
        if matches!(ask, Ask::Close) {
            self.expected.clear();
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
        }
        let due = self.events.pop_front();
        assert_eq!(due, Some((zxid, kind, path)), "another event is due");
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
            for (event, path) in fired.drain(..) {
                self.events.push_back((self.cursor, event, path));
            }
        }
    }

    /// After everything has come to rest.
    pub fn check_nothing_is_missing(&mut self, applied: u64, model: &Model) {
        assert!(
            self.expected.is_empty(),
            "never answered: {:?}",
            self.expected.iter().map(|e| &e.ask).collect::<Vec<_>>()
        );
        self.advance(applied, model);
        assert!(self.events.is_empty(), "events that never came: {:?}", self.events);
        assert!(self.received.is_empty(), "half a frame");
    }

    fn judge(&mut self, xid: i32, zxid: u64, code: i32, body: &[u8], ask: &Ask, world: &World<'_>) {
        if code != 0 {
            assert_eq!(body, &[] as &[u8], "an error with a body");
        }
        if let Ask::Malformed(_) = ask {
            assert_eq!(code, model::MARSHALLING, "{ask:?}");
            return;
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
            return;
        }
        let due = world.model.read(ask, zxid);
        assert_eq!(code, due.code, "{ask:?} at {zxid}");
        if let Ask::GetChildren { .. } = ask
            && code == 0
        {
            assert_eq!(sorted(body), due.body, "{ask:?} at {zxid}");
        } else {
            assert_eq!(body, due.body, "{ask:?} at {zxid}");
        }
        assert_eq!(std::mem::take(&mut self.missed), due.events, "{ask:?} at {zxid}");
        for (is_child, path) in due.watches {
            if is_child {
                self.watches.child.insert(path)
            } else {
                self.watches.data.insert(path)
            };
        }
    }
}

/// A list of children with its names in order.
fn sorted(body: &[u8]) -> Vec<u8> {
    let int = |at: usize| i32::from_be_bytes(body[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 4;
    let mut names = Vec::new();
    for _ in 0..int(0) {
        let end = at + 4 + int(at);
        names.push(std::str::from_utf8(&body[at + 4..end]).unwrap());
        at = end;
    }
    names.sort_unstable();
    let mut out = body[..4].to_vec();
    for name in names {
        string(&mut out, Some(name));
    }
    out.extend(&body[at..]);
    out
}
