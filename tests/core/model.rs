//! The naive server: one map of znodes, one state for every zxid, requests executed one after the other.
//!
//! Written from the protocol's rules alone. It shares no code with what it judges, not even the path rules.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::acl::{self, Acl, Who};
use crate::quota;
use crate::watches::{Change, Changed};

pub const OK: i32 = 0;
pub const SYSTEM_ERROR: i32 = -1;
pub const RUNTIME_INCONSISTENCY: i32 = -2;
pub const MARSHALLING: i32 = -5;
pub const UNIMPLEMENTED: i32 = -6;
pub const BAD_ARGUMENTS: i32 = -8;
pub const NO_NODE: i32 = -101;
pub const NO_AUTH: i32 = -102;
pub const BAD_VERSION: i32 = -103;
pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
pub const NODE_EXISTS: i32 = -110;
pub const NOT_EMPTY: i32 = -111;
pub const SESSION_EXPIRED: i32 = -112;
pub const INVALID_ACL: i32 = -114;
pub const AUTH_FAILED: i32 = -115;
pub const NO_WATCHER: i32 = -121;
pub const RECONFIG_DISABLED: i32 = -123;
pub const CLOSED_REQUIRE_AUTH: i32 = -124;
pub const QUOTA_EXCEEDED: i32 = -125;

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct Rules {
    pub skip_acl: bool,
    pub super_digest: bool,
    pub enforced: Option<Vec<String>>,
    pub extended_types: bool,
    pub enforce_quota: bool,
    pub reconfig_enabled: bool,
    pub close_session_txn: bool,
    pub digest: bool,
    pub persistent_watches: bool,
    pub check_interval_ms: u64,
    pub per_minute_max: u32,
    pub never_used_ms: u64,
    /// How many requests may be in process before connections that have some are not read.
    pub outstanding_max: u32,
}

/// What keeps a znode alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    #[default]
    Persistent,
    Ephemeral(i64),
    Container,
    Ttl(i64),
}

#[derive(Clone, Debug)]
pub struct Node {
    pub data: Option<Vec<u8>>,
    pub acl: Acl,
    pub czxid: u64,
    pub mzxid: u64,
    pub pzxid: u64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub created: i32,
    pub aversion: i32,
    pub kind: Kind,
}

impl Node {
    pub fn new(data: Option<Vec<u8>>, acl: Acl, kind: Kind, zxid: u64, time: i64) -> Node {
        let (czxid, mzxid, pzxid, ctime, mtime) = (zxid, zxid, zxid, time, time);
        let (version, created, aversion) = (0, 0, 0);
        Node { data, acl, czxid, mzxid, pzxid, ctime, mtime, version, created, aversion, kind }
    }

    /// The session that it ends with; 0: none.
    pub fn owner(&self) -> i64 {
        if let Kind::Ephemeral(owner) = self.kind { owner } else { 0 }
    }
}

#[derive(Clone, Debug)]
pub struct State {
    pub nodes: BTreeMap<String, Rc<Node>>,
    /// Open sessions and their recorded timeouts.
    pub sessions: BTreeMap<i64, i32>,
}

/// One transaction of the history.
#[derive(Clone, Debug)]
pub struct Done {
    pub xid: i32,
    pub session: i64,
    pub code: i32,
    pub body: Vec<u8>,
    pub changes: Vec<Changed>,
    /// Of a multi that failed: which of its parts, and how.
    pub failed_part: Option<(usize, i32)>,
    /// Of a multi: opcode and code of each part.
    pub parts: Vec<(i32, i32)>,
}

impl Done {
    pub fn new(xid: i32, session: i64, changes: Vec<Changed>) -> Done {
        Done { xid, session, code: OK, body: Vec::new(), changes, failed_part: None, parts: Vec::new() }
    }
}

/// Every state from the empty one on; the zxid is the index.
pub struct Model {
    pub rules: Rules,
    pub states: Vec<Rc<State>>,
    pub history: Vec<Done>,
    /// Writes that were held against a hard limit, and those of which the server alone knew whether there was one.
    pub quotas_judged: usize,
    pub quotas_open: usize,
}

pub fn parent(path: &str) -> Option<&str> {
    path.rfind('/').map(|slash| &path[..slash])
}

/// The seven rules of `semantics.md` 3.1, on UTF-16 units as the reference sees them.
pub fn is_path(path: &str) -> bool {
    if !path.starts_with('/') {
        return false;
    }
    if path == "/" {
        return true;
    }
    let units_good =
        path.encode_utf16().all(|unit| !matches!(unit, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..=0xffff));
    units_good && path[1..].split('/').all(|name| !name.is_empty() && name != "." && name != "..")
}

impl State {
    pub fn find(&self, path: &str) -> Option<&Rc<Node>> {
        self.nodes.get(if path == "/" { "" } else { path })
    }

    /// Everything below a path, in order.
    pub fn below(&self, path: &str) -> impl Iterator<Item = &str> {
        let start = format!("{}/", if path == "/" { "" } else { path });
        let first = start.clone();
        self.nodes.range(first..).map(|(key, _)| key.as_str()).take_while(move |key| key.starts_with(&start))
    }

    pub fn children(&self, path: &str) -> Vec<&str> {
        let length = if path == "/" { 0 } else { path.len() };
        let names = self.below(path).map(|key| &key[length + 1..]);
        names.filter(|name| !name.contains('/')).collect()
    }

    pub fn stat(&self, path: &str, out: &mut Vec<u8>) {
        let node = self.find(path).expect("the model looks at what is there");
        let children = self.children(path).len() as i32;
        for long in [node.czxid as i64, node.mzxid as i64, node.ctime, node.mtime] {
            out.extend(long.to_be_bytes());
        }
        for int in [node.version, node.created.wrapping_mul(2).wrapping_sub(children), node.aversion] {
            out.extend(int.to_be_bytes());
        }
        out.extend(node.owner().to_be_bytes());
        out.extend((node.data.as_ref().map_or(0, Vec::len) as i32).to_be_bytes());
        out.extend(children.to_be_bytes());
        out.extend((node.pzxid as i64).to_be_bytes());
    }

    pub fn node_mut(&mut self, path: &str) -> &mut Node {
        let path = if path == "/" { "" } else { path };
        Rc::make_mut(self.nodes.get_mut(path).expect("the model changes what is there"))
    }

    pub fn remove(&mut self, path: &str, zxid: u64, changes: &mut Vec<Changed>) {
        let above = parent(path).expect("the root stays");
        let parent_acl = self.nodes[above].acl.clone();
        let node = self.nodes.remove(path).expect("the model removes what is there");
        self.node_mut(above).pzxid = zxid;
        quota::count(self, path, -1, -(node.data.as_ref().map_or(0, Vec::len) as i64));
        let (change, path, node_acl) = (Change::Deleted, path.to_owned(), node.acl.clone());
        changes.push(Changed { change, path, node_acl, parent_acl });
    }
}

impl Model {
    pub fn new(rules: Rules) -> Model {
        let mut nodes = BTreeMap::new();
        for (path, perms, aversion) in
            [("", 31, 0), ("/zookeeper", 31, 0), ("/zookeeper/quota", 31, 0), ("/zookeeper/config", 1, -1)]
        {
            let mut node = Node::new(Some(Vec::new()), acl::world(perms), Kind::Persistent, 0, 0);
            node.aversion = aversion;
            nodes.insert(path.to_owned(), Rc::new(node));
        }
        let first = State { nodes, sessions: BTreeMap::new() };
        let (states, history) = (vec![Rc::new(first)], vec![Done::new(0, 0, Vec::new())]);
        Model { rules, states, history, quotas_judged: 0, quotas_open: 0 }
    }

    pub fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub fn state(&self, zxid: u64) -> &State {
        &self.states[zxid as usize]
    }

    pub fn newest(&self) -> &State {
        self.state(self.last())
    }

    /// A crash: what was not on the disk never happened.
    pub fn truncate(&mut self, zxid: u64) {
        self.states.truncate(zxid as usize + 1);
        self.history.truncate(zxid as usize + 1);
    }

    pub fn open(&mut self, session: i64, timeout_ms: i32) {
        let mut state = self.newest().clone();
        assert!(state.sessions.insert(session, timeout_ms).is_none(), "session {session:#x} opened twice");
        self.push(state, Done::new(0, session, Vec::new()));
    }

    pub fn close(&mut self, session: i64, xid: i32) {
        let mut state = self.newest().clone();
        assert!(state.sessions.remove(&session).is_some(), "session {session:#x} closed, but it is not open");
        let own = |(path, node): (&String, &Rc<Node>)| (node.owner() == session).then(|| path.clone());
        let paths: Vec<String> = state.nodes.iter().filter_map(own).collect();
        let mut changes = Vec::new();
        for path in paths {
            state.remove(&path, self.last() + 1, &mut changes);
        }
        self.push(state, Done::new(xid, session, changes));
    }

    /// Whether the server may delete a znode by itself now (`semantics.md` 7.2).
    pub fn is_reapable(&self, path: &str, time: i64) -> bool {
        let state = self.newest();
        let Some(node) = state.find(path) else { return false };
        let age_ms = time - node.mtime;
        let never_used_ms = self.rules.never_used_ms as i64;
        state.children(path).is_empty()
            && match node.kind {
                Kind::Container => 0 < node.created || (0 < never_used_ms && never_used_ms < age_ms),
                Kind::Ttl(ttl_ms) => self.rules.extended_types && ttl_ms < age_ms,
                Kind::Persistent | Kind::Ephemeral(_) => false,
            }
    }

    /// How long until some znode may be deleted by age.
    pub fn next_reapable_ms(&self, time: i64) -> Option<u64> {
        let state = self.newest();
        let until = state.nodes.iter().filter_map(|(path, node)| {
            let age_ms = match node.kind {
                Kind::Ttl(ttl_ms) => ttl_ms,
                Kind::Container if node.created == 0 => self.rules.never_used_ms as i64,
                _ => return None,
            };
            let left_ms = node.mtime + age_ms - time;
            ((0..3000).contains(&left_ms) && state.children(path).is_empty()).then_some(left_ms as u64)
        });
        until.min()
    }

    pub fn reap(&mut self, path: &str, time: i64) {
        assert!(self.is_reapable(path, time), "the server deletes {path} at {time}: {:?}", self.newest().find(path));
        let mut state = self.newest().clone();
        let mut changes = Vec::new();
        state.remove(path, self.last() + 1, &mut changes);
        self.push(state, Done::new(0, 0, changes));
    }

    pub fn push(&mut self, state: State, done: Done) {
        self.states.push(Rc::new(state));
        self.history.push(done);
    }
}

/// Who asks for a write, and where in history it stands.
pub struct Asker<'a> {
    pub xid: i32,
    pub session: i64,
    pub session_open: bool,
    pub who: &'a Who,
    pub time: i64,
    /// The newest state that the server has applied.
    pub applied: u64,
    /// What the server says of it: code, and which part of a multi. Looked at only where the model cannot know whether the
    /// znodes of a quota count already.
    pub said: (usize, i32),
}
