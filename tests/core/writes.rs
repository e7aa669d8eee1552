//! How the naive server executes writes: the first check that fails decides (`client-protocol.md` 9 and 10).

use std::rc::Rc;

use crate::acl::{self, Who};
use crate::model::*;
use crate::quota;
use crate::requests::{AclList, Ask, multi_header, string};
use crate::watches::{Change, Changed};

/// A write under way: a state of its own, which is thrown away if it fails.
struct Writing<'a> {
    rules: &'a Rules,
    asker: &'a Asker<'a>,
    open: bool,
    state: State,
    zxid: u64,
    changes: Vec<Changed>,
    /// What is written and not applied yet.
    pending: &'a [Done],
    /// Hard limits that were compared, and those that were taken from the server.
    quotas_judged: usize,
    quotas_open: usize,
    /// Which part of a multi it is at.
    part: usize,
}

/// The type of the result in a multi, and its record.
type Outcome = Result<(i32, Vec<u8>), i32>;

/// What flags and opcode of a create ask for.
struct Wanted {
    kind: Kind,
    sequential: bool,
    stat: bool,
    result: i32,
}

impl Model {
    /// Executes a write that takes the next zxid.
    pub fn write(&mut self, ask: &Ask, asker: &Asker<'_>) {
        let mut writing = Writing {
            rules: &self.rules,
            asker,
            open: asker.session_open && self.newest().sessions.contains_key(&asker.session),
            state: self.newest().clone(),
            zxid: self.last() + 1,
            changes: Vec::new(),
            pending: &self.history[asker.applied as usize + 1..],
            quotas_judged: 0,
            quotas_open: 0,
            part: 0,
        };
        let mut done = Done::new(asker.xid, asker.session, Vec::new());
        match ask {
            Ask::Multi(parts) => writing.multi(ask, parts, &mut done),
            Ask::Malformed(_) => done.code = MARSHALLING,
            _ => match writing.plain(ask) {
                Ok((_, body)) => done.body = body,
                Err(code) => done.code = code,
            },
        }
        let Writing { state, changes, quotas_judged, quotas_open, .. } = writing;
        self.quotas_judged += quotas_judged;
        self.quotas_open += quotas_open;
        if done.code == OK && done.failed_part.is_none() {
            done.changes = changes;
            self.push(state, done);
        } else {
            self.push(self.newest().clone(), done);
        }
    }
}

impl Writing<'_> {
    fn who(&self) -> &Who {
        self.asker.who
    }

    fn in_session(&self) -> Result<(), i32> {
        if self.open { Ok(()) } else { Err(SESSION_EXPIRED) }
    }

    /// A request of its own.
    fn plain(&mut self, ask: &Ask) -> Outcome {
        match ask {
            Ask::Create { op, path, data, acl, flags } => {
                let kind = match (flags, op) {
                    (5 | 6, _) if !self.rules.extended_types => return Err(UNIMPLEMENTED),
                    (0..=4, 19) => Kind::Container,
                    (0 | 2 | 4, _) => Kind::Persistent,
                    (1 | 3, _) => Kind::Ephemeral(self.asker.session),
                    _ => return Err(BAD_ARGUMENTS),
                };
                let wanted = Wanted { kind, sequential: matches!(flags, 2 | 3), stat: *op != 1, result: *op };
                self.create(wanted, path, data, acl)
            }
            Ask::CreateTtl { path, data, acl, flags, ttl_ms } => {
                let wanted = self.with_ttl(*flags, *ttl_ms)?;
                self.create(wanted, path, data, acl)
            }
            Ask::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
            Ask::Reconfig { .. } if !self.rules.reconfig_enabled => Err(RECONFIG_DISABLED),
            // A server that is alone has nothing to reconfigure.
            Ask::Reconfig { .. } => self.in_session().and(Err(UNIMPLEMENTED)),
            // The server's own; refused to clients.
            Ask::DeleteContainer { .. } => Err(NO_AUTH),
            Ask::Delete { path, version } => self.delete(path, *version),
            Ask::SetData { path, data, version } => self.set_data(path, data, *version),
            _ => panic!("{ask:?} took a zxid"),
        }
    }

    fn with_ttl(&self, flags: i32, ttl_ms: i64) -> Result<Wanted, i32> {
        match flags {
            5 | 6 if !self.rules.extended_types => Err(UNIMPLEMENTED),
            5 | 6 if (1..=0xff_ffff_ffff).contains(&ttl_ms) => {
                Ok(Wanted { kind: Kind::Ttl(ttl_ms), sequential: flags == 6, stat: true, result: 15 })
            }
            _ => Err(BAD_ARGUMENTS),
        }
    }

    fn multi(&mut self, ask: &Ask, parts: &[Ask], done: &mut Done) {
        let flags_unreadable = |part: &Ask| matches!(part, Ask::Create { flags, .. } if !(0..=4).contains(flags));
        let has_reads = parts.iter().any(|part| matches!(part.op(), 4 | 8));
        // A null path spoils the whole request, wherever it stands.
        let spoils = |part: &Ask| flags_unreadable(part) || part.lacks_path();
        if ask.is_unreadable_multi() || has_reads || parts.iter().any(spoils) {
            done.code = MARSHALLING;
            return;
        }
        let mut body = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            self.part = at;
            match self.part(part) {
                Ok((result, record)) => {
                    multi_header(&mut body, result, false, OK);
                    body.extend(record);
                    done.parts.push((part.op(), OK));
                }
                // A null where there must be something undoes the whole request.
                Err(MARSHALLING) => {
                    done.code = MARSHALLING;
                    done.parts.clear();
                    return;
                }
                Err(code) => {
                    done.failed_part = Some((at, code));
                    break;
                }
            }
        }
        if let Some((failed, failed_code)) = done.failed_part {
            body.clear();
            done.parts.clear();
            for (at, part) in parts.iter().enumerate() {
                let code = match at.cmp(&failed) {
                    std::cmp::Ordering::Less => OK,
                    std::cmp::Ordering::Equal => failed_code,
                    std::cmp::Ordering::Greater => RUNTIME_INCONSISTENCY,
                };
                multi_header(&mut body, -1, false, code);
                body.extend(code.to_be_bytes());
                done.parts.push((part.op(), code));
            }
        }
        multi_header(&mut body, -1, true, -1);
        done.body = body;
    }

    /// One part of a multi: here the flags decide what a create makes.
    fn part(&mut self, part: &Ask) -> Outcome {
        match part {
            Ask::Create { op, path, data, acl, flags } => self.create(self.by_flags(*op, *flags), path, data, acl),
            Ask::CreateTtl { path, data, acl, flags, ttl_ms } => {
                let wanted = match flags {
                    0..=4 => self.by_flags(1, *flags),
                    _ => self.with_ttl(*flags, *ttl_ms)?,
                };
                self.create(wanted, path, data, acl)
            }
            Ask::Delete { path, version } => self.delete(path, *version),
            Ask::SetData { path, data, version } => self.set_data(path, data, *version),
            Ask::Check { path, version } => {
                self.in_session()?;
                let path = path.as_ref().filter(|path| is_path(path)).ok_or(BAD_ARGUMENTS)?;
                let node = self.state.find(path).ok_or(NO_NODE)?;
                self.permitted(&node.acl, acl::READ)?;
                fits(*version, node.version)?;
                Ok((13, Vec::new()))
            }
            _ => panic!("{part:?} in a multi"),
        }
    }

    fn by_flags(&self, op: i32, flags: i32) -> Wanted {
        let (kind, result) = match flags {
            // This opcode makes nothing else.
            _ if op == 19 => (Kind::Container, 15),
            4 => (Kind::Container, 15),
            1 | 3 => (Kind::Ephemeral(self.asker.session), if op == 15 { 15 } else { 1 }),
            _ => (Kind::Persistent, if op == 15 { 15 } else { 1 }),
        };
        Wanted { kind, sequential: matches!(flags, 2 | 3), stat: result == 15, result }
    }

    fn permitted(&self, acl: &acl::Acl, wanted: i32) -> Result<(), i32> {
        if self.rules.allows(acl, wanted, self.who()) { Ok(()) } else { Err(NO_AUTH) }
    }

    /// A hard limit is exact, whatever is under way; only whether a limit is there yet may be open.
    fn has_quota(&mut self, path: &str, count: i64, bytes: i64) -> Result<(), i32> {
        if !self.rules.enforce_quota {
            return Ok(());
        }
        let mut unapplied = self.pending.iter().flat_map(|done| &done.changes).chain(&self.changes);
        let settled = !unapplied.any(|changed| quota::decides(&changed.path, path));
        let exceeded = if settled {
            self.quotas_judged += usize::from(quota::limits(&self.state, path));
            quota::is_exceeded(&self.state, path, count, bytes)
        } else {
            self.quotas_open += 1;
            self.asker.said == (self.part, QUOTA_EXCEEDED)
        };
        if exceeded { Err(QUOTA_EXCEEDED) } else { Ok(()) }
    }

    fn create(&mut self, wanted: Wanted, path: &Option<String>, data: &Option<Vec<u8>>, acl: &AclList) -> Outcome {
        self.in_session()?;
        let path = path.as_ref().ok_or(MARSHALLING)?;
        if !path.contains('/') || path.contains('\0') {
            return Err(BAD_ARGUMENTS);
        }
        let acl = self.rules.accept(acl, self.who())?;
        let above = parent(path).expect("it has a slash").to_owned();
        let parent_node = self.state.find(&above).ok_or(NO_NODE)?.clone();
        self.permitted(&parent_node.acl, acl::CREATE)?;
        let full = if wanted.sequential { format!("{path}{:010}", parent_node.created) } else { path.clone() };
        if !is_path(&full) {
            return Err(BAD_ARGUMENTS);
        }
        if self.state.find(&full).is_some() {
            return Err(NODE_EXISTS);
        }
        if parent_node.owner() != 0 {
            return Err(NO_CHILDREN_FOR_EPHEMERALS);
        }
        let bytes = data.as_ref().map_or(0, Vec::len) as i64;
        self.has_quota(&full, 1, bytes)?;
        let node = Node::new(data.clone(), acl.clone(), wanted.kind, self.zxid, self.asker.time);
        self.state.nodes.insert(full.clone(), Rc::new(node));
        let parent_node = self.state.node_mut(&above);
        parent_node.created += 1;
        parent_node.pzxid = self.zxid;
        let parent_acl = parent_node.acl.clone();
        let mut body = Vec::new();
        string(&mut body, Some(&full));
        if wanted.stat {
            self.state.stat(&full, &mut body);
        }
        quota::count(&mut self.state, &full, 1, bytes);
        self.changes.push(Changed { change: Change::Created, path: full, node_acl: acl, parent_acl });
        Ok((wanted.result, body))
    }

    fn delete(&mut self, path: &Option<String>, version: i32) -> Outcome {
        self.in_session()?;
        let path = path.as_ref().ok_or(MARSHALLING)?;
        let special = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path.as_str());
        if !path.contains('/') || path.contains('\0') || special {
            return Err(BAD_ARGUMENTS);
        }
        let above = self.state.find(parent(path).expect("it has a slash")).ok_or(NO_NODE)?;
        self.permitted(&above.acl, acl::DELETE)?;
        let node = self.state.find(path).ok_or(NO_NODE)?;
        fits(version, node.version)?;
        if !self.state.children(path).is_empty() {
            return Err(NOT_EMPTY);
        }
        self.state.remove(path, self.zxid, &mut self.changes);
        Ok((2, Vec::new()))
    }

    fn set_data(&mut self, path: &Option<String>, data: &Option<Vec<u8>>, version: i32) -> Outcome {
        self.in_session()?;
        let path = path.as_ref().filter(|path| is_path(path)).ok_or(BAD_ARGUMENTS)?;
        let node = self.state.find(path).ok_or(NO_NODE)?.clone();
        self.permitted(&node.acl, acl::WRITE)?;
        let length = |data: &Option<Vec<u8>>| data.as_ref().map_or(0, Vec::len) as i64;
        let bytes = length(data) - length(&node.data);
        self.has_quota(path, 0, bytes)?;
        fits(version, node.version)?;
        let node_acl = node.acl.clone();
        let node = self.state.node_mut(path);
        node.data = data.clone();
        node.version = after(node.version);
        (node.mzxid, node.mtime) = (self.zxid, self.asker.time);
        let mut body = Vec::new();
        self.state.stat(path, &mut body);
        quota::count(&mut self.state, path, 0, bytes);
        let parent_acl = node_acl.clone();
        self.changes.push(Changed { change: Change::DataChanged, path: path.clone(), node_acl, parent_acl });
        Ok((5, body))
    }

    fn set_acl(&mut self, path: &Option<String>, acl: &AclList, version: i32) -> Outcome {
        self.in_session()?;
        let path = path.as_ref().filter(|path| is_path(path)).ok_or(BAD_ARGUMENTS)?;
        let acl = self.rules.accept(acl, self.who())?;
        let node = self.state.find(path).ok_or(NO_NODE)?;
        self.permitted(&node.acl, acl::ADMIN)?;
        fits(version, node.aversion)?;
        let node = self.state.node_mut(path);
        node.acl = acl;
        node.aversion = after(node.aversion);
        let mut body = Vec::new();
        self.state.stat(path, &mut body);
        Ok((7, body))
    }
}

fn fits(asked: i32, is: i32) -> Result<(), i32> {
    if asked == -1 || asked == is { Ok(()) } else { Err(BAD_VERSION) }
}

/// -1 is skipped: nobody could name it.
fn after(version: i32) -> i32 {
    match version.wrapping_add(1) {
        -1 => 0,
        next => next,
    }
}
