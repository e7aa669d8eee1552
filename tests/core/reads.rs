//! What the naive server answers to reads, in the state at a zxid.

use crate::acl::{self, Acl, Who};
use crate::model::*;
use crate::requests::{Ask, buffer, multi_header, string};
use crate::watches::{Kind, Watches};

/// What a watch without a path is for: nothing, so it never fires. But it is there.
const NO_PATH: &str = "\0";

/// What a read answers, and leaves behind.
#[derive(Default, Debug)]
pub struct Read {
    pub code: i32,
    /// Lists without an order are sorted.
    pub body: Vec<u8>,
    /// Of getACL: what stands ahead of the stat in `body`.
    pub acl: Option<Acl>,
    pub watches: Vec<(Kind, String)>,
    /// Of a setWatches: (event, path).
    pub events: Vec<(i32, String)>,
    /// Of a multiRead: opcode and code of each part.
    pub parts: Vec<(i32, i32)>,
}

impl Read {
    fn failed(code: i32) -> Read {
        Read { code, ..Read::default() }
    }
}

impl Model {
    /// What a read answers in the state at `zxid`. `watches` is for those that ask about them.
    pub fn read(&self, ask: &Ask, zxid: u64, session: i64, who: &Who, watches: &mut Watches) -> Read {
        self.try_read(ask, zxid, session, who, watches).unwrap_or_else(Read::failed)
    }

    fn try_read(&self, ask: &Ask, zxid: u64, session: i64, who: &Who, watches: &mut Watches) -> Result<Read, i32> {
        let state = self.state(zxid);
        let mut read = Read::default();
        match ask {
            Ask::Exists { path, watch } => {
                let path = path.as_ref().ok_or(MARSHALLING)?;
                if path.contains('\0') {
                    return Err(BAD_ARGUMENTS);
                }
                match state.find(path) {
                    Some(node) if !self.rules.allows(&node.acl, acl::READ, who) => return Err(NO_AUTH),
                    Some(_) => state.stat(path, &mut read.body),
                    None => read.code = NO_NODE,
                }
                if *watch {
                    read.watches.push((Kind::Data, path.clone()));
                }
            }
            Ask::GetData { path, watch } => {
                let path = path.as_ref().ok_or(MARSHALLING)?;
                self.get_data(state, path, who, &mut read.body)?;
                if *watch {
                    read.watches.push((Kind::Data, path.clone()));
                }
            }
            Ask::GetChildren { path, watch, stat } => {
                let path = path.as_ref().ok_or(MARSHALLING)?;
                self.get_children(state, path, who, &mut read.body)?;
                if *stat {
                    state.stat(path, &mut read.body);
                }
                if *watch {
                    read.watches.push((Kind::Child, path.clone()));
                }
            }
            Ask::GetAcl { path } => {
                let path = path.as_ref().ok_or(MARSHALLING)?;
                let node = state.find(path).ok_or(NO_NODE)?;
                if !self.rules.allows(&node.acl, acl::READ | acl::ADMIN, who) {
                    return Err(NO_AUTH);
                }
                let is_admin = self.rules.allows(&node.acl, acl::ADMIN, who);
                read.acl = Some(if is_admin { node.acl.clone() } else { acl::masked(&node.acl) });
                state.stat(path, &mut read.body);
            }
            Ask::MultiRead(parts) => self.multi_read(ask, parts, state, who, &mut read)?,
            // Without a null list of ACLs it would have become a write.
            Ask::Multi(_) => return Err(MARSHALLING),
            Ask::Sync { path } => string(&mut read.body, path.as_deref()),
            Ask::Ping => {}
            Ask::SetWatches { two, seen, lists } => self.set_watches(state, *two, *seen, lists, &mut read),
            Ask::AddWatch { path, mode } => {
                let kind = match mode {
                    0 => Kind::Persistent,
                    1 => Kind::Recursive,
                    _ => return Err(MARSHALLING),
                };
                if !self.rules.persistent_watches {
                    return Err(MARSHALLING);
                }
                read.watches.push((kind, path.clone().unwrap_or(NO_PATH.to_owned())));
                read.body.extend(OK.to_be_bytes());
            }
            Ask::Watches { removes, path, kind } => {
                // A server that keeps no persistent watches does not know their types, and watches no null.
                let types = if self.rules.persistent_watches { 1..=5 } else { 1..=3 };
                let is_null = path.is_none() && !self.rules.persistent_watches;
                if !types.contains(kind) || is_null {
                    return Err(MARSHALLING);
                }
                if !watches.check(path.as_deref().unwrap_or(NO_PATH), *kind, *removes) {
                    return Err(NO_WATCHER);
                }
            }
            Ask::GetEphemerals { prefix } => {
                let prefix = prefix.as_deref().unwrap_or_default();
                let prefix = if matches!(prefix.trim(), "" | "/") { "" } else { prefix };
                let own = state.nodes.iter().filter(|(_, node)| node.owner() == session);
                let paths: Vec<&String> = own.map(|(path, _)| path).filter(|path| path.starts_with(prefix)).collect();
                read.body.extend((paths.len() as i32).to_be_bytes());
                for path in paths {
                    string(&mut read.body, Some(path));
                }
            }
            Ask::ChildrenNumber { path } => {
                let path = path.as_ref().ok_or(MARSHALLING)?;
                self.readable(state, path, who)?;
                let count = state.below(path).count() + usize::from(path.is_empty());
                read.body.extend((count as i32).to_be_bytes());
            }
            Ask::WhoAmI => {
                let mut pairs: Vec<(&str, &str)> = Vec::new();
                for (scheme, id) in &**who {
                    let user = match scheme.as_str() {
                        "digest" => id.split(':').next().unwrap_or_default(),
                        "ip" => id,
                        _ => "",
                    };
                    pairs.push((scheme, user));
                }
                pairs.sort_unstable();
                read.body.extend((pairs.len() as i32).to_be_bytes());
                for (scheme, user) in pairs {
                    string(&mut read.body, Some(scheme));
                    string(&mut read.body, Some(user));
                }
            }
            _ => panic!("{ask:?} is no read"),
        }
        Ok(read)
    }

    fn readable<'s>(&self, state: &'s State, path: &str, who: &Who) -> Result<&'s Node, i32> {
        let node = state.find(path).ok_or(NO_NODE)?;
        if self.rules.allows(&node.acl, acl::READ, who) { Ok(node) } else { Err(NO_AUTH) }
    }

    fn get_data(&self, state: &State, path: &str, who: &Who, body: &mut Vec<u8>) -> Result<(), i32> {
        let node = self.readable(state, path, who)?;
        buffer(body, node.data.as_deref());
        state.stat(path, body);
        Ok(())
    }

    fn get_children(&self, state: &State, path: &str, who: &Who, body: &mut Vec<u8>) -> Result<(), i32> {
        self.readable(state, path, who)?;
        let children = state.children(path);
        body.extend((children.len() as i32).to_be_bytes());
        for child in children {
            string(body, Some(child));
        }
        Ok(())
    }

    /// Each part succeeds or fails by itself; watch flags are ignored.
    fn multi_read(&self, ask: &Ask, parts: &[Ask], state: &State, who: &Who, read: &mut Read) -> Result<(), i32> {
        if ask.is_unreadable_multi() {
            return Err(MARSHALLING);
        }
        for part in parts {
            let mut record = Vec::new();
            let done = match part {
                Ask::GetData { path, .. } => {
                    let path = path.as_ref().ok_or(MARSHALLING)?;
                    self.get_data(state, path, who, &mut record)
                }
                Ask::GetChildren { path, stat: false, .. } => {
                    let path = path.as_ref().ok_or(MARSHALLING)?;
                    self.get_children(state, path, who, &mut record)
                }
                _ => return Err(MARSHALLING),
            };
            match done {
                Ok(()) => {
                    multi_header(&mut read.body, part.op(), false, OK);
                    read.body.extend(record);
                }
                Err(code) => {
                    multi_header(&mut read.body, -1, false, code);
                    read.body.extend(code.to_be_bytes());
                }
            }
            read.parts.push((part.op(), done.err().unwrap_or(OK)));
        }
        multi_header(&mut read.body, -1, true, -1);
        Ok(())
    }

    fn set_watches(&self, state: &State, two: bool, seen: i64, lists: &[Vec<String>; 5], read: &mut Read) {
        let [data, exist, child, persistent, recursive] = lists;
        for path in data {
            match state.find(path) {
                None => read.events.push((2, path.clone())),
                Some(node) if seen < node.mzxid as i64 => read.events.push((3, path.clone())),
                Some(_) => read.watches.push((Kind::Data, path.clone())),
            }
        }
        for path in exist {
            match state.find(path) {
                None => read.watches.push((Kind::Data, path.clone())),
                Some(_) => read.events.push((1, path.clone())),
            }
        }
        for path in child {
            match state.find(path) {
                None => read.events.push((2, path.clone())),
                Some(node) if seen < node.pzxid as i64 => read.events.push((4, path.clone())),
                Some(_) => read.watches.push((Kind::Child, path.clone())),
            }
        }
        if !two {
            return;
        }
        let asks_for_more = !persistent.is_empty() || !recursive.is_empty();
        if asks_for_more && !self.rules.persistent_watches {
            // What came before in the request stays.
            read.code = MARSHALLING;
            return;
        }
        read.watches.extend(persistent.iter().map(|path| (Kind::Persistent, path.clone())));
        read.watches.extend(recursive.iter().map(|path| (Kind::Recursive, path.clone())));
    }
}
