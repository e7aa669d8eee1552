//! The naive server: one map of znodes, one state for every zxid, requests executed one after the other.
//!
//! Written from the protocol's rules alone. It shares no code with what it judges, not even the path rules.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::requests::{AclList, Ask, string};

pub const OK: i32 = 0;
pub const SYSTEM_ERROR: i32 = -1;
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

#[derive(Clone, Debug, Default)]
pub struct Node {
    pub data: Option<Vec<u8>>,
    /// Permissions of `world:anyone`, entry by entry.
    pub acl: Vec<i32>,
    pub czxid: u64,
    pub mzxid: u64,
    pub pzxid: u64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub created: i32,
    pub aversion: i32,
    pub owner: i64,
}

#[derive(Clone, Debug)]
pub struct State {
    pub nodes: BTreeMap<String, Rc<Node>>,
    /// Open sessions and their recorded timeouts.
    pub sessions: BTreeMap<i64, i32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Created,
    Deleted,
    DataChanged,
}

#[derive(Clone, Debug)]
pub struct Changed {
    pub change: Change,
    pub path: String,
    pub node_readable: bool,
    pub parent_readable: bool,
}

/// One transaction of the history.
#[derive(Clone, Debug)]
pub struct Done {
    pub xid: i32,
    pub session: i64,
    pub code: i32,
    pub body: Vec<u8>,
    pub changes: Vec<Changed>,
}

/// Every state from the empty one on; the zxid is the index.
pub struct Model {
    pub states: Vec<Rc<State>>,
    pub history: Vec<Done>,
}

/// What a read leaves behind.
#[derive(Default, Debug)]
pub struct Read {
    pub code: i32,
    /// Children sorted.
    pub body: Vec<u8>,
    /// (is it a child watch, path).
    pub watches: Vec<(bool, String)>,
    /// Of a setWatches: (event, path).
    pub events: Vec<(i32, String)>,
}

fn parent(path: &str) -> Option<&str> {
    path.rfind('/').map(|slash| &path[..slash])
}

fn allows(acl: &[i32], wanted: i32) -> bool {
    acl.is_empty() || acl.iter().any(|perms| perms & wanted != 0)
}

/// The seven rules of `semantics.md` 3.1, on UTF-16 units as the reference sees them.
fn is_path(path: &str) -> bool {
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

    pub fn children(&self, path: &str) -> Vec<&str> {
        let path = if path == "/" { "" } else { path };
        self.nodes
            .keys()
            .filter(|key| !key.is_empty() && parent(key) == Some(path))
            .map(|key| &key[path.len() + 1..])
            .collect()
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
        out.extend(node.owner.to_be_bytes());
        out.extend((node.data.as_ref().map_or(0, Vec::len) as i32).to_be_bytes());
        out.extend(children.to_be_bytes());
        out.extend((node.pzxid as i64).to_be_bytes());
    }

    fn node_mut(&mut self, path: &str) -> &mut Node {
        let path = if path == "/" { "" } else { path };
        Rc::make_mut(self.nodes.get_mut(path).expect("the model changes what is there"))
    }

    fn readable(&self, path: &str) -> bool {
        self.find(path).is_none_or(|node| allows(&node.acl, 1))
    }
}

impl Model {
    pub fn new() -> Model {
        let mut nodes = BTreeMap::new();
        for (path, perms, aversion) in
            [("", 31, 0), ("/zookeeper", 31, 0), ("/zookeeper/quota", 31, 0), ("/zookeeper/config", 1, -1)]
        {
            let node = Node { data: Some(Vec::new()), acl: vec![perms], aversion, ..Node::default() };
            nodes.insert(path.to_owned(), Rc::new(node));
        }
        let none = Done { xid: 0, session: 0, code: 0, body: Vec::new(), changes: Vec::new() };
        Model { states: vec![Rc::new(State { nodes, sessions: BTreeMap::new() })], history: vec![none] }
    }

    pub fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub fn state(&self, zxid: u64) -> &State {
        &self.states[zxid as usize]
    }

    /// A crash: what was not on the disk never happened.
    pub fn truncate(&mut self, zxid: u64) {
        self.states.truncate(zxid as usize + 1);
        self.history.truncate(zxid as usize + 1);
    }

    pub fn open(&mut self, session: i64, timeout_ms: i32) {
        let mut state = (**self.states.last().unwrap()).clone();
        assert!(state.sessions.insert(session, timeout_ms).is_none(), "session {session:#x} opened twice");
        self.push(state, 0, session, OK, Vec::new(), Vec::new());
    }

    pub fn close(&mut self, session: i64, xid: i32) {
        let mut state = (**self.states.last().unwrap()).clone();
        assert!(state.sessions.remove(&session).is_some(), "session {session:#x} closed, but it is not open");
        let paths: Vec<String> =
            state.nodes.iter().filter(|(_, node)| node.owner == session).map(|(path, _)| path.clone()).collect();
        let mut changes = Vec::new();
        for path in paths {
            self.remove(&mut state, &path, &mut changes);
        }
        self.push(state, xid, session, OK, Vec::new(), changes);
    }

    fn push(&mut self, state: State, xid: i32, session: i64, code: i32, body: Vec<u8>, changes: Vec<Changed>) {
        self.states.push(Rc::new(state));
        self.history.push(Done { xid, session, code, body, changes });
    }

    fn remove(&self, state: &mut State, path: &str, changes: &mut Vec<Changed>) {
        let above = parent(path).expect("the root stays");
        let (node_readable, parent_readable) = (state.readable(path), state.readable(above));
        state.nodes.remove(path);
        state.node_mut(above).pzxid = self.last() + 1;
        changes.push(Changed { change: Change::Deleted, path: path.to_owned(), node_readable, parent_readable });
    }

    /// Executes a write that takes the next zxid.
    pub fn write(&mut self, ask: &Ask, xid: i32, session: i64, session_open: bool, time: i64) -> i32 {
        let mut state = (**self.states.last().unwrap()).clone();
        let mut changes = Vec::new();
        let open = session_open && state.sessions.contains_key(&session);
        let done = match ask {
            Ask::Create { two, path, data, acl, flags } => {
                self.create(&mut state, &mut changes, *two, path, data, acl, *flags, session, open, time)
            }
            Ask::Delete { path, version } => self.delete(&mut state, &mut changes, path, *version, open),
            Ask::SetData { path, data, version } => {
                self.set_data(&mut state, &mut changes, path, data, *version, open, time)
            }
            _ => panic!("{ask:?} took a zxid"),
        };
        let (code, body) = match done {
            Ok(body) => (OK, body),
            Err(code) => {
                state = (**self.states.last().unwrap()).clone();
                changes.clear();
                (code, Vec::new())
            }
        };
        self.push(state, xid, session, code, body, changes);
        code
    }

    #[allow(clippy::too_many_arguments)] // The fields of one request.
    fn create(
        &self,
        state: &mut State,
        changes: &mut Vec<Changed>,
        two: bool,
        path: &Option<String>,
        data: &Option<Vec<u8>>,
        acl: &AclList,
        flags: i32,
        session: i64,
        open: bool,
        time: i64,
    ) -> Result<Vec<u8>, i32> {
        let zxid = self.last() + 1;
        match flags {
            0..=4 => {}
            5 | 6 => return Err(UNIMPLEMENTED),
            _ => return Err(BAD_ARGUMENTS),
        }
        if !open {
            return Err(SESSION_EXPIRED);
        }
        let path = path.as_ref().ok_or(MARSHALLING)?;
        if !path.contains('/') || path.contains('\0') {
            return Err(BAD_ARGUMENTS);
        }
        let list = acl.as_ref().filter(|list| !list.is_empty()).ok_or(INVALID_ACL)?;
        let mut perms_kept = Vec::new();
        for (perms, scheme, id) in list {
            match (scheme.as_deref(), id.as_deref()) {
                (Some("world"), Some("anyone")) => {}
                (Some("world"), None) => return Err(MARSHALLING),
                _ => return Err(INVALID_ACL),
            }
            if !perms_kept.contains(perms) {
                perms_kept.push(*perms);
            }
        }
        let above = parent(path).unwrap().to_owned();
        let parent_node = state.find(&above).ok_or(NO_NODE)?.clone();
        if !allows(&parent_node.acl, 4) {
            return Err(NO_AUTH);
        }
        let sequential = flags == 2 || flags == 3;
        let full = if sequential { format!("{path}{:010}", parent_node.created) } else { path.clone() };
        if !is_path(&full) {
            return Err(BAD_ARGUMENTS);
        }
        if state.find(&full).is_some() {
            return Err(NODE_EXISTS);
        }
        if parent_node.owner != 0 {
            return Err(NO_CHILDREN_FOR_EPHEMERALS);
        }
        let owner = if flags == 1 || flags == 3 { session } else { 0 };
        let node = Node {
            data: data.clone(),
            acl: perms_kept,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            owner,
            ..Node::default()
        };
        let parent_readable = state.readable(&above);
        let node_readable = allows(&node.acl, 1);
        state.nodes.insert(full.clone(), Rc::new(node));
        let parent_node = state.node_mut(&above);
        parent_node.created += 1;
        parent_node.pzxid = zxid;
        changes.push(Changed { change: Change::Created, path: full.clone(), node_readable, parent_readable });
        let mut body = Vec::new();
        string(&mut body, Some(&full));
        if two {
            state.stat(&full, &mut body);
        }
        Ok(body)
    }

    fn delete(
        &self,
        state: &mut State,
        changes: &mut Vec<Changed>,
        path: &Option<String>,
        version: i32,
        open: bool,
    ) -> Result<Vec<u8>, i32> {
        if !open {
            return Err(SESSION_EXPIRED);
        }
        let path = path.as_ref().ok_or(MARSHALLING)?;
        let special = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path.as_str());
        if !path.contains('/') || path.contains('\0') || special {
            return Err(BAD_ARGUMENTS);
        }
        let above = state.find(parent(path).unwrap()).ok_or(NO_NODE)?;
        if !allows(&above.acl, 8) {
            return Err(NO_AUTH);
        }
        let node = state.find(path).ok_or(NO_NODE)?;
        if version != -1 && version != node.version {
            return Err(BAD_VERSION);
        }
        if !state.children(path).is_empty() {
            return Err(NOT_EMPTY);
        }
        self.remove(state, path, changes);
        Ok(Vec::new())
    }

    #[allow(clippy::too_many_arguments)] // The fields of one request.
    fn set_data(
        &self,
        state: &mut State,
        changes: &mut Vec<Changed>,
        path: &Option<String>,
        data: &Option<Vec<u8>>,
        version: i32,
        open: bool,
        time: i64,
    ) -> Result<Vec<u8>, i32> {
        if !open {
            return Err(SESSION_EXPIRED);
        }
        let path = path.as_ref().filter(|path| is_path(path)).ok_or(BAD_ARGUMENTS)?;
        let node = state.find(path).ok_or(NO_NODE)?;
        if !allows(&node.acl, 2) {
            return Err(NO_AUTH);
        }
        if version != -1 && version != node.version {
            return Err(BAD_VERSION);
        }
        let node_readable = state.readable(path);
        let zxid = self.last() + 1;
        let node = state.node_mut(path);
        node.data = data.clone();
        node.version += 1;
        node.mzxid = zxid;
        node.mtime = time;
        changes.push(Changed { change: Change::DataChanged, path: path.clone(), node_readable, parent_readable: true });
        let mut body = Vec::new();
        state.stat(path, &mut body);
        Ok(body)
    }

    /// What a read answers in the state at `zxid`.
    pub fn read(&self, ask: &Ask, zxid: u64) -> Read {
        let state = self.state(zxid);
        let mut read = Read::default();
        let failed = |code| Read { code, ..Read::default() };
        match ask {
            Ask::Exists { path, watch } => {
                let Some(path) = path else { return failed(MARSHALLING) };
                if path.contains('\0') {
                    return failed(BAD_ARGUMENTS);
                }
                match state.find(path) {
                    Some(node) if !allows(&node.acl, 1) => return failed(NO_AUTH),
                    Some(_) => state.stat(path, &mut read.body),
                    None => read.code = NO_NODE,
                }
                if *watch {
                    read.watches.push((false, path.clone()));
                }
            }
            Ask::GetData { path, watch } => {
                let Some(path) = path else { return failed(MARSHALLING) };
                let Some(node) = state.find(path) else { return failed(NO_NODE) };
                if !allows(&node.acl, 1) {
                    return failed(NO_AUTH);
                }
                match &node.data {
                    None => read.body.extend((-1i32).to_be_bytes()),
                    Some(data) => {
                        read.body.extend((data.len() as i32).to_be_bytes());
                        read.body.extend(data);
                    }
                }
                state.stat(path, &mut read.body);
                if *watch {
                    read.watches.push((false, path.clone()));
                }
            }
            Ask::GetChildren { path, watch, stat } => {
                let Some(path) = path else { return failed(MARSHALLING) };
                let Some(node) = state.find(path) else { return failed(NO_NODE) };
                if !allows(&node.acl, 1) {
                    return failed(NO_AUTH);
                }
                let children = state.children(path);
                read.body.extend((children.len() as i32).to_be_bytes());
                for child in children {
                    string(&mut read.body, Some(child));
                }
                if *stat {
                    state.stat(path, &mut read.body);
                }
                if *watch {
                    read.watches.push((true, path.clone()));
                }
            }
            Ask::Sync { path } => string(&mut read.body, path.as_deref()),
            Ask::Ping => {}
            Ask::SetWatches { seen, data, exist, child } => {
                for path in data {
                    match state.find(path) {
                        None => read.events.push((2, path.clone())),
                        Some(node) if *seen < node.mzxid as i64 => read.events.push((3, path.clone())),
                        Some(_) => read.watches.push((false, path.clone())),
                    }
                }
                for path in exist {
                    match state.find(path) {
                        None => read.watches.push((false, path.clone())),
                        Some(_) => read.events.push((1, path.clone())),
                    }
                }
                for path in child {
                    match state.find(path) {
                        None => read.events.push((2, path.clone())),
                        Some(node) if *seen < node.pzxid as i64 => read.events.push((4, path.clone())),
                        Some(_) => read.watches.push((true, path.clone())),
                    }
                }
            }
            _ => panic!("{ask:?} is no read"),
        }
        read
    }
}

/// The watches of one connection.
#[derive(Default)]
pub struct Watches {
    pub data: BTreeSet<String>,
    pub child: BTreeSet<String>,
}

impl Watches {
    /// What one change fires, in order: (event, path).
    pub fn fire(&mut self, changed: &Changed, events: &mut Vec<(i32, String)>) {
        let path = &changed.path;
        let selected = match changed.change {
            Change::Created => self.data.remove(path).then_some(1),
            Change::DataChanged => self.data.remove(path).then_some(3),
            Change::Deleted => {
                let (data, child) = (self.data.remove(path), self.child.remove(path));
                (data || child).then_some(2)
            }
        };
        if let Some(event) = selected
            && changed.node_readable
        {
            events.push((event, path.clone()));
        }
        if changed.change != Change::DataChanged
            && let Some(above) = parent(path)
        {
            let above = if above.is_empty() { "/" } else { above };
            if self.child.remove(above) && changed.parent_readable {
                events.push((4, above.to_owned()));
            }
        }
    }
}
