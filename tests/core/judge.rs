//! What the simulation knows of the server from outside, and holds it to.

use zorilla::limits::SESSIONLESS_MS_MAX;
use zorilla::tree::{NodeKind, NodeRef};
use zorilla_proto::client::AclVec;
use zorilla_proto::ids::Zxid;
use zorilla_proto::jute::Reader;
use zorilla_proto::txn::{Txn, TxnDigest, TxnHeader};
use zorilla_wal::disk::faulty::Order;

use crate::acl;
use crate::client::{Connection, End};
use crate::model::{self, Asker, Kind, Rules, State};
use crate::requests::Ask;
use crate::sim::{Asked, SessionSeen, Sim, TICK_MS, TIMEOUT_MS, is_its_own_fault};

impl Sim {
    /// A connection was told that it has its session.
    pub fn attached(&mut self, conn: usize, applied: u64) {
        let connection = &self.conns[conn];
        let id = connection.session;
        if connection.refused {
            let closing = self.model.states.last().unwrap().sessions.contains_key(&id);
            let doomed = self.sessions.get_mut(&id).map(|session| {
                session.doomed |= !connection.to_be_refused;
                session.doomed
            });
            // Refused by a wrong password, because it is gone, or because it is about to be: then it must go.
            assert!(connection.to_be_refused || !closing || doomed == Some(true));
            return;
        }
        let session = self.sessions.entry(id).or_default();
        session.attached = Some(conn);
        self.clients[connection.client].session = id;
        if connection.resumes {
            self.tally.resumes += 1;
            if session.stray {
                return;
            }
            // The resume is a barrier: what the session asked elsewhere is applied, or never will be.
            let late = self.model.history.iter().enumerate().rev().find(|(_, done)| {
                done.session == id && self.asked.get(&done.xid).is_some_and(|asked| asked.conn != conn)
            });
            if let Some((zxid, _)) = late {
                assert!(zxid as u64 <= applied, "resumed at {applied}, and an earlier request of it became {zxid}");
            }
        }
    }

    pub fn ended_by_server(&mut self, conn: usize) {
        let connection = &mut self.conns[conn];
        connection.over = true;
        if connection.word || connection.hung_up || connection.refused || connection.end == End::AnyTime {
            return;
        }
        let id = connection.session;
        let gone = !self.model.states.last().unwrap().sessions.contains_key(&id);
        let elsewhere = self.sessions.get(&id).is_some_and(|session| session.stray || session.attached != Some(conn));
        let refused_full = !connection.connected && self.was_full;
        let had_time = connection.since_ms + SESSIONLESS_MS_MAX <= self.now_ns / 1_000_000;
        if connection.end == End::AfterAnswers && (connection.is_answered() || had_time) {
            return;
        }
        if !connection.connected && had_time {
            return;
        }
        assert!(
            gone || elsewhere || refused_full,
            "connection {conn} of session {id:#x} was ended, with {} requests unanswered",
            connection.expected.len()
        );
    }

    /// The server has given a request its place in history: the model executes it there, too. `applied`: the newest state
    /// that it had applied by then.
    pub fn appended(&mut self, zxid: Zxid, bytes: &[u8], applied: u64) {
        assert_eq!(zxid.raw(), self.model.last() + 1);
        let mut reader = Reader::new(bytes);
        let header = TxnHeader::decode(&mut reader).unwrap();
        let txn = Txn::decode(&header, &mut reader).unwrap();
        assert_eq!((header.zxid, header.time_ms), (zxid, self.wall_ms));
        let id = header.session.raw();
        match &txn {
            Txn::CreateSession { timeout_ms } => {
                self.model.open(id, *timeout_ms);
                let heard_ms = vec![self.now_ms()];
                let timeout_ms = *timeout_ms as u64;
                let seen = SessionSeen { timeout_ms, timeout_max_ms: timeout_ms, heard_ms, ..SessionSeen::default() };
                assert!(self.sessions.insert(id, seen).is_none(), "session id {id:#x} given out twice");
            }
            Txn::CloseSession { paths } => {
                if header.cxid == 0 {
                    self.expired(id);
                } else {
                    assert!(matches!(self.asked[&header.cxid].ask, Ask::Close));
                    self.check_origin(id, header.cxid);
                }
                self.model.close(id, header.cxid);
                let gone = &self.model.history.last().unwrap().changes;
                let gone: Vec<String> = gone.iter().map(|changed| changed.path.clone()).collect();
                let listed: Option<Vec<String>> =
                    paths.as_ref().map(|paths| paths.iter().map(|path| path.into_owned()).collect());
                let due = self.model.rules.close_session_txn.then_some(gone);
                assert_eq!(listed, due, "the ephemerals of session {id:#x}");
            }
            Txn::DeleteContainer { path } => {
                assert_eq!((id, header.cxid), (0, 0), "{path} is deleted for somebody");
                self.reaped();
                self.model.reap(path, header.time_ms);
            }
            _ => self.written(&header, &txn, applied),
        }
        let digest = TxnDigest::decode_optional(&mut reader);
        let with_digest = self.model.rules.digest && !matches!(txn, Txn::Error { .. });
        assert_eq!(digest.is_some(), with_digest, "the digest of {txn:?}");
        // Recovery compares all of them with the tree; the model computes only some.
        if let Some(found) = digest
            && zxid.raw().is_multiple_of(8)
        {
            assert_eq!(found.tree, digest_of(self.model.newest()), "the digest of {txn:?}");
        }
    }

    fn written(&mut self, header: &TxnHeader, txn: &Txn<'_>, applied: u64) {
        let id = header.session.raw();
        self.check_origin(id, header.cxid);
        let Asked { ask, who, is_read, .. } = self.asked[&header.cxid].clone();
        assert!(is_read, "{ask:?} comes behind the end of its connection");
        let doomed = matches!(txn, Txn::Error { code } if *code == model::SESSION_EXPIRED);
        let mut said = (0, model::OK);
        // What a multi did, or the first of its parts that failed.
        let mut failed_part = None;
        match txn {
            Txn::Error { code } => said.1 = *code,
            Txn::Multi(parts) => {
                let codes = parts.iter().map(|part| match part.txn().unwrap() {
                    Txn::Error { code } => code,
                    _ => model::OK,
                });
                failed_part = codes.enumerate().find(|(_, code)| *code != model::OK);
                said = failed_part.unwrap_or(said);
            }
            _ => {}
        }
        let doomed = doomed || said.1 == model::SESSION_EXPIRED;
        self.sessions.get_mut(&id).expect("a session that asks is known").doomed |= doomed;
        let (xid, time) = (header.cxid, header.time_ms);
        self.model.write(&ask, &Asker { xid, session: id, session_open: !doomed, who: &who, time, applied, said });
        let done = self.model.history.last().unwrap();
        match txn {
            Txn::Error { code } => assert_eq!((*code, None), (done.code, done.failed_part), "{ask:?}"),
            _ => assert_eq!((model::OK, failed_part), (done.code, done.failed_part), "{ask:?} is logged as {txn:?}"),
        }
    }

    /// The server deletes a znode by itself: no sooner than it may look, and no faster than its pace.
    fn reaped(&mut self) {
        let now_ms = self.now_ms();
        let Rules { check_interval_ms, per_minute_max, .. } = self.model.rules;
        assert!(self.started_ms + check_interval_ms <= now_ms, "looked ahead of the first interval");
        if let Some(last_ms) = self.reaped_ms.last() {
            let apart_ms = 60_000 / u64::from(per_minute_max);
            assert!(last_ms + apart_ms <= now_ms, "deleted at {last_ms} and at {now_ms}");
        }
        self.reaped_ms.push(now_ms);
        self.tally.reaped += 1;
    }

    /// A request comes from its session, and from nobody who had lost it.
    fn check_origin(&self, id: i64, xid: i32) {
        let Asked { ask, conn, .. } = &self.asked[&xid];
        let session = &self.sessions[&id];
        let connection = &self.conns[*conn];
        assert!(connection.session == id || !connection.connected || connection.hung_up, "{ask:?} of another session");
        if !session.stray
            && let Some(attached) = session.attached
        {
            assert!(*conn == attached, "{ask:?} of connection {conn}, and {attached} has the session");
        }
    }

    pub fn expired(&mut self, id: i64) {
        let now_ms = self.now_ms();
        let session = self.sessions.get_mut(&id).expect("an expired session is known");
        let mut heard_ms = session.heard_ms.clone();
        for connection in &self.conns {
            let up = !connection.over && connection.session == id && connection.connected && !connection.refused;
            if up
                && !is_its_own_fault(&self.server.workers[connection.worker], connection.slot)
                && connection.end == End::Unexpected
            {
                let touching = connection.arrivals.iter().filter(|arrival| arrival.touches);
                heard_ms.extend(touching.map(|arrival| arrival.at_ms));
            }
        }
        heard_ms.push(now_ms);
        heard_ms.sort_unstable();
        let silent_ms = heard_ms.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let timeout_ms = session.timeout_ms;
        // A connect that was given up may have taken the session from whoever went on talking in its name.
        assert!(
            session.stray || timeout_ms < silent_ms,
            "session {id:#x} expired after {silent_ms} ms of silence, its timeout is {timeout_ms} ms; heard at {heard_ms:?}"
        );
        // A tick's rounding up, half a tick between two reports, and some turns of this harness.
        let due_ms = self.silent_ms.map(|silent_ms| silent_ms + session.timeout_max_ms + 2 * TICK_MS + 300);
        assert!(due_ms.is_none_or(|due_ms| now_ms <= due_ms), "session {id:#x} ends at {now_ms}, not by {due_ms:?}");
        session.heard_ms = vec![now_ms];
        self.tally.expiries += 1;
    }

    /// The tree, the digest and the sessions are the model's.
    pub fn check_tree(&self) {
        let state = self.server.gate.read();
        let due = self.model.state(state.applied.raw());
        let mut found = 0;
        state.tree.for_each(&mut |path: &str, node: NodeRef<'_>| {
            found += 1;
            let model = due.find(path).unwrap_or_else(|| panic!("{path} should not be there"));
            assert_eq!(node.data().as_deref(), model.data.as_deref(), "{path}");
            let mut stat = Vec::new();
            node.version().stat().encode(&mut stat);
            let mut due_stat = Vec::new();
            due.stat(path, &mut due_stat);
            assert_eq!(stat, due_stat, "{path}");
            let acl = AclVec::from_raw(node.acl().raw).unwrap();
            let shown = acl.iter().map(|entry| {
                let (scheme, id) = (entry.scheme.unwrap(), entry.id.unwrap_or_default());
                (entry.perms, scheme.into_owned(), id.into_owned())
            });
            let shown: Vec<_> = shown.collect();
            assert!(acl::is_shown_as(&model.acl, &shown), "{path}: {shown:?} instead of {:?}", model.acl);
            let kind = match node.version().kind() {
                NodeKind::Persistent => Kind::Persistent,
                NodeKind::Ephemeral(owner) => Kind::Ephemeral(owner.raw()),
                NodeKind::Container => Kind::Container,
                NodeKind::Ttl(ttl_ms) => Kind::Ttl(ttl_ms),
            };
            assert_eq!(kind, model.kind, "{path}");
            let mut children: Vec<&str> = node.children().collect();
            children.sort_unstable();
            assert_eq!(children, due.children(path), "{path}");
        });
        assert_eq!(found, due.nodes.len());
        assert_eq!(state.tree.digest(), digest_of(due), "digest at {}", state.applied);
        assert_eq!(state.sessions, due.sessions.len());
        assert_eq!(state.tree.ephemerals_count(), due.nodes.values().filter(|node| node.owner() != 0).count());
    }

    /// Lets everything that is under way come to its end.
    pub fn settle(&mut self) {
        self.full = false;
        self.server.files.set_order(Order::Oldest);
        for round in 0..5000 {
            self.replica(false);
            for worker in 0..self.server.workers.len() {
                self.store(worker, 100);
                self.worker(worker, false);
            }
            // The server begins something by itself now and then, and what it has answered may make room for more.
            let applied = self.server.gate.read().applied.raw();
            let is_open = |conn: &Connection| conn.connected && conn.is_up() && !conn.refused;
            let waits = |conn: &Connection| is_open(conn) && (!conn.is_answered() || conn.end != End::Unexpected);
            let through = applied == self.model.last() && self.server.replica.is_idle();
            let is_drained = |conn: &Connection| conn.over || !conn.hung_up;
            if 60 <= round && through && !self.conns.iter().any(waits) && self.conns.iter().all(is_drained) {
                break;
            }
            self.now_ns += 100_000;
        }
    }

    pub fn check_at_rest(&mut self) {
        let applied = self.server.gate.read().applied.raw();
        assert_eq!(applied, self.model.last(), "not everything was applied");
        assert!(self.server.replica.is_idle(), "the replica is not through");
        for connection in &mut self.conns {
            if connection.is_up() && connection.connected && !connection.refused {
                assert!(connection.end == End::Unexpected, "a connection that asked for its end is still there");
                connection.check_nothing_is_missing(applied, &self.model);
            }
        }
        self.check_tree();
    }

    /// Nobody says anything any more: every session ends, and takes its ephemerals along.
    pub fn fall_silent(&mut self) {
        // Then there is time for containers to go one after the other, each once it is the innermost.
        let until_ms = self.now_ms() + TIMEOUT_MS.1 as u64 + 2 * TICK_MS + 6000;
        self.silent_ms = Some(self.now_ms());
        while self.now_ms() < until_ms {
            // Credentials keep no session alive.
            for conn in 0..self.conns.len() {
                let connection = &self.conns[conn];
                if connection.connected && connection.is_up() && connection.end == End::Unexpected && conn % 2 == 0 {
                    self.send(conn, Ask::Auth { scheme: Some("ip".to_owned()), credential: None });
                }
            }
            self.now_ns += 100_000_000;
            self.wall_ms += 100;
            for worker in 0..self.server.workers.len() {
                self.worker(worker, false);
            }
            self.replica(false);
        }
        self.settle();
        let last = self.model.newest();
        assert!(last.sessions.is_empty(), "sessions that never expired: {:x?}", last.sessions);
        assert!(last.nodes.values().all(|node| node.owner() == 0), "an ephemeral znode survived its session");
        if self.model.rules.check_interval_ms <= 1000 && 10_000 <= self.model.rules.per_minute_max {
            // There was time enough to look, again and again.
            let overdue = |path: &&String| self.model.is_reapable(path, self.wall_ms - 2000);
            let left = last.nodes.keys().find(overdue);
            assert_eq!(
                left,
                None,
                "{:?} should be gone, by {:?}",
                left.map(|path| &last.nodes[path]),
                self.model.rules
            );
        }
        assert_eq!(self.server.replica.sessions(), 0);
        assert!(self.server.workers.iter().all(|worker| worker.is_settled()), "a request was never completed");
        self.check_tree();
        for connection in &self.conns {
            self.tally.replies += connection.replies;
            self.tally.events += connection.fired;
            self.tally.withheld += connection.withheld;
            assert!(connection.over || connection.session == 0, "a connection outlived its session");
        }
        for connection in &mut self.conns {
            (connection.replies, connection.fired, connection.withheld) = (0, 0, 0);
        }
    }
}

/// The digest as `semantics.md` 17 defines it.
fn digest_of(state: &State) -> u64 {
    let mut sum = 0u64;
    for (path, node) in &state.nodes {
        if path.starts_with("/zookeeper/") {
            continue;
        }
        let mut bytes = path.as_bytes().to_vec();
        bytes.extend(node.data.as_deref().unwrap_or_default());
        for long in [node.czxid, node.mzxid, node.pzxid, node.ctime as u64, node.mtime as u64] {
            bytes.extend(long.to_be_bytes());
        }
        for int in [node.version, node.created, node.aversion] {
            bytes.extend(int.to_be_bytes());
        }
        bytes.extend(stored_owner(node.kind).to_be_bytes());
        sum = sum.wrapping_add(u64::from(crc32(&bytes)));
    }
    sum
}

/// What is stored in the place of an owner.
fn stored_owner(kind: Kind) -> i64 {
    match kind {
        Kind::Persistent => 0,
        Kind::Ephemeral(owner) => owner,
        Kind::Container => i64::MIN,
        Kind::Ttl(ttl_ms) => 0xff << 56 | ttl_ms,
    }
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
