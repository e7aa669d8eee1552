//! What cannot be compared, because it stops the Java server or makes the two trees part: our side by itself, with the answers
//! written down.

use std::io;

use crate::pair::play_alone;
use crate::profile;
use crate::script::read_stream;
use crate::server::{Place, Program, Server};
use crate::side::Side;
use crate::wire::Item;

pub struct Alone {
    pub name: &'static str,
    /// What Java does, and why we do not.
    pub reason: &'static str,
    /// The configuration that it takes.
    profile: &'static str,
    /// What is sent on one connection with a new session, `c0`.
    script: &'static str,
    /// Everything that is seen but handshakes and fences, in order; `|` between several that will do.
    expected: &'static [&'static str],
}

pub const ALONE: &[Alone] = &[
    Alone {
        name: "ttl-negative",
        reason: "createTTL with flags 0..4 and a negative time stops Java; BADARGUMENTS here",
        profile: "extended",
        script: r#"
send c0
  createTTL s:"$/x" b:61 n:1 i:31 s:"world" s:"anyone" i:0 l:-1
  createTTL s:"$/x" b:61 n:1 i:31 s:"world" s:"anyone" i:4 l:-9
  exists s:"$/x" z:0
"#,
        expected: &["c0 err=-8", "c0 err=-8", "c0 err=-101"],
    },
    Alone {
        name: "root-quota",
        reason: "creating /zookeeper/quota/zookeeper_limits stops Java; refused or without effect here",
        profile: "extended",
        script: r#"
send c0
  create s:"/zookeeper/quota/zookeeper_limits" b:636f756e74486172644c696d69743d31 n:1 i:31 s:"world" s:"anyone" i:0
send c0
  create s:"$/x" b:61 n:1 i:31 s:"world" s:"anyone" i:0
"#,
        expected: &["c0 err=-8|c0 err=0", "c0 err=0"],
    },
    Alone {
        name: "unreadable-stats",
        reason: "a stats node that holds no statistics stops Java at the next write below the quota; the write goes on here",
        profile: "extended",
        script: r#"
send c0
  create s:"/zookeeper/quota$" b:61 n:1 i:31 s:"world" s:"anyone" i:0
  create s:"/zookeeper/quota$/zookeeper_limits" b:636f756e743d352c62797465733d35 n:1 i:31 s:"world" s:"anyone" i:0
  create s:"/zookeeper/quota$/zookeeper_stats" b:78 n:1 i:31 s:"world" s:"anyone" i:0
  setData s:"/zookeeper/quota$/zookeeper_stats" b:67617262616765 i:-1
send c0
  create s:"$/x" b:61 n:1 i:31 s:"world" s:"anyone" i:0
send c0
  setData s:"$/x" b:6262 i:-1
"#,
        expected: &["c0 err=0"; 6],
    },
    Alone {
        name: "unreadable-limits",
        reason: "limits that cannot be read make Java refuse every write below with MARSHALLINGERROR; no limit here",
        profile: "extended",
        script: r#"
send c0
  create s:"/zookeeper/quota$" b:61 n:1 i:31 s:"world" s:"anyone" i:0
  create s:"/zookeeper/quota$/zookeeper_limits" b:636f756e743d78 n:1 i:31 s:"world" s:"anyone" i:0
  create s:"/zookeeper/quota$/zookeeper_stats" b:78 n:1 i:31 s:"world" s:"anyone" i:0
send c0
  create s:"$/x" b:61 n:1 i:31 s:"world" s:"anyone" i:0
send c0
  setData s:"$/x" b:6262 i:-1
"#,
        expected: &["c0 err=0"; 5],
    },
    Alone {
        name: "delete-container",
        reason: "Java lets a client delete an empty znode by deleteContainer, without permission; refused here",
        profile: "defaults",
        script: r#"
send c0
  create s:"$/x" b:61 n:1 i:31 s:"world" s:"anyone" i:0
  deleteContainer s:"$/x"
  exists s:"$/x" z:0
"#,
        expected: &["c0 err=0", "c0 err=-102", "c0 err=0"],
    },
    Alone {
        name: "delete-container-cut",
        reason: "Java reads the record of a deleteContainer before it looks further; refused here as it stands",
        profile: "defaults",
        script: r#"
send c0
  deleteContainer s:"$/x" cut=1
"#,
        expected: &["c0 err=-102|c0 err=-5"],
    },
    Alone {
        name: "create-session",
        reason: "Java answers createSession on an open connection with another handshake; an unknown opcode here",
        profile: "defaults",
        script: r#"
send c0
  createSession i:30000
"#,
        expected: &["c0 err=-6", "c0 closed"],
    },
    Alone {
        name: "pending-acl",
        reason: "Java examines a pipelined write by the list from before a setACL that is not applied yet, if it is fast enough",
        profile: "defaults",
        script: r#"
send c0
  create s:"$/x" b:61 n:1 i:16 s:"world" s:"anyone" i:0
  create s:"$/x/a" b:61 n:1 i:31 s:"world" s:"anyone" i:0
  setACL s:"$/x" n:1 i:31 s:"world" s:"anyone" i:-1
  create s:"$/x/a" b:61 n:1 i:31 s:"world" s:"anyone" i:0
"#,
        expected: &["c0 err=0", "c0 err=-102", "c0 err=0", "c0 err=0"],
    },
    Alone {
        name: "half-set-watches",
        reason: "Java fails at a null in setWatches after it has done what stands before; nothing is done here",
        profile: "defaults",
        script: r#"
send c0
  setWatches l:0 n:1 s:"$/gone" n:1 s:"$/x" n:-1
  create s:"$/x" b:61 n:1 i:31 s:"world" s:"anyone" i:0
"#,
        expected: &["c0 err=-5", "c0 err=0"],
    },
];

fn observed(conn: &str, item: &Item) -> Option<String> {
    match item {
        Item::Reply(reply) => Some(format!("{conn} err={}", reply.code)),
        Item::Event { text, .. } => Some(format!("{conn} {text}")),
        Item::Closed => Some(format!("{conn} closed")),
        Item::Silent => Some(format!("{conn} silent")),
        Item::Odd(text) => Some(format!("{conn} {text}")),
        Item::Fence { .. } | Item::Connected(_) => None,
    }
}

impl Alone {
    /// What was seen instead of what is expected, if anything.
    pub fn run(&self, program: &Program, place: &Place) -> io::Result<Option<String>> {
        let opening = format!("profile {}\nconnect c0 new password=right timeout=60000 ro=0", self.profile);
        let stream = read_stream(&(opening + self.script)).map_err(io::Error::other)?;
        let profile = profile::find(&stream.profile).ok_or_else(|| io::Error::other("no such configuration"))?;
        let mut side = Side::new(Server::start(program, profile, place)?, profile.traits)?;
        let items = play_alone(&mut side, &stream);
        let seen: Vec<String> = items.iter().filter_map(|(conn, item)| observed(conn, item)).collect();
        let is_same = seen.len() == self.expected.len()
            && seen.iter().zip(self.expected).all(|(seen, expected)| expected.split('|').any(|one| one == seen));
        if !side.is_alive() {
            return Ok(Some(format!("the server ended: {}", side.server.said())));
        }
        Ok((!is_same).then(|| format!("expected {:?}\n     saw {seen:?}", self.expected)))
    }
}
