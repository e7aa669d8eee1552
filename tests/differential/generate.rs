//! Streams from numbers, skewed towards what is hard: few paths, few sessions, many errors, everything pipelined.
//!
//! What is never made: requests that stop the Java server, and requests after which the two trees would differ on purpose
//! (`crate::known`). Requests that race with themselves are not made either: an auth packet behind requests whose events it would
//! filter, and several writes at once under a quota that counts only what is applied.

use zorilla_proto::op::{Op, OpKind};

use crate::profile::Profile;
use crate::requests::Requests;
use crate::rng::Rng;
use crate::script::{Connect, Field, Password, Request, Step, Stream, Target};
use crate::side::{auth, may_close};

pub struct Generator<'a> {
    rng: Rng,
    profile: &'static Profile,
    /// Only these opcodes, if any are named.
    only: &'a [Op],
    steps: Vec<Step>,
    conns: Vec<Conn>,
    /// Numbers connections.
    next: u32,
    /// The stream plays with quotas.
    quota: bool,
}

#[derive(Clone, Debug)]
struct Conn {
    name: String,
    /// Identified, where that is needed.
    identified: bool,
}

impl<'a> Generator<'a> {
    pub fn stream(seed: u64, profile: &'static Profile, only: &'a [Op]) -> Stream {
        let mut rng = Rng::new(seed);
        let quota = only.is_empty() && rng.percent(if profile.traits.enforce_quota { 50 } else { 15 });
        let mut generator = Generator { rng, profile, only, steps: Vec::new(), conns: Vec::new(), next: 0, quota };
        generator.fill();
        Stream { profile: profile.name.to_owned(), steps: generator.steps }
    }

    fn allows(&self, op: Op) -> bool {
        self.only.is_empty() || self.only.contains(&op)
    }

    fn requests(&mut self) -> Requests<'_> {
        Requests { rng: &mut self.rng, traits: self.profile.traits, quota: self.quota }
    }

    fn fill(&mut self) {
        for _ in 0..self.rng.between(2, 3) {
            self.connect_new();
        }
        if self.rng.percent(70) {
            self.furnish();
        }
        if self.quota {
            self.install_quota();
        }
        for _ in 0..self.rng.between(8, 40) {
            self.step();
        }
    }

    fn fresh_name(&mut self) -> String {
        self.next += 1;
        format!("c{}", self.next - 1)
    }

    fn connect_new(&mut self) {
        let name = self.fresh_name();
        let mut connect = Connect::new(&name);
        if self.rng.percent(20) {
            connect.timeout_ms = *self.rng.pick(&[50_000, 59_999, 60_001, 1_000_000, i32::MAX]);
            connect.read_only = *self.rng.pick(&[None, Some(0), Some(1), Some(7)]);
            connect.version = *self.rng.pick(&[0, 0, 1, -1]);
            connect.password = *self.rng.pick(&[Password::Right, Password::Null, Password::Empty, Password::Long]);
            connect.seen = self.rng.percent(50).then_some(0);
            connect.extra =
                if connect.read_only.is_some() && self.rng.percent(30) { vec![1, 2, 3] } else { Vec::new() };
        }
        if self.rng.percent(25) && !self.profile.traits.enforced_auth {
            connect.pipelined = self.batch(4);
            connect.pipelined.retain(|request| !may_close(request));
        }
        self.steps.push(Step::Connect(connect));
        self.conns.push(Conn { name, identified: false });
        self.identify(self.conns.len() - 1, 92);
    }

    /// What a client of a server with enforced authentication does first, mostly.
    fn identify(&mut self, index: usize, chance: u64) {
        if !self.profile.traits.enforced_auth || !self.rng.percent(chance) {
            return;
        }
        let credential = *self.rng.pick(&["bob:secret", "alice:pw"]);
        let conn = self.conns[index].name.clone();
        self.conns[index].identified = true;
        self.steps.push(Step::Send { conn, requests: vec![auth("digest", credential)] });
    }

    fn any_conn(&mut self) -> Option<usize> {
        (!self.conns.is_empty()).then(|| self.rng.below(self.conns.len() as u64) as usize)
    }

    /// Some znodes, so that not everything is missing.
    fn furnish(&mut self) {
        let requests: Vec<Request> =
            ["$/a", "$/b", "$/a/a", "$/a/b", "$/a/b/a"].map(|path| self.requests().plain_create(path)).into();
        let Some(index) = self.any_conn() else { return };
        self.send(index, requests);
    }

    fn install_quota(&mut self) {
        let Some(index) = self.any_conn() else { return };
        let at = *self.rng.pick(&["$", "$/a", "$/a/b"]);
        let conn = self.conns[index].name.clone();
        for request in self.requests().quota_nodes(at) {
            self.steps.push(Step::Send { conn: conn.clone(), requests: vec![request] });
        }
    }

    fn send(&mut self, index: usize, mut requests: Vec<Request>) {
        let Conn { name, identified } = self.conns[index].clone();
        if self.profile.traits.enforced_auth && !identified {
            // Answered with an error and an end; what is pipelined behind it would race with the end.
            requests.truncate(1);
        }
        if let Some(last) = requests.iter().position(may_close) {
            let is_early_auth = last == 0 && requests[0] == auth("digest", "bob:secret") && 1 < requests.len();
            if !is_early_auth {
                requests.truncate(last + 1);
            }
        }
        // An opcode that nobody may send is answered the moment it is read, and the end of the connection loses what is under
        // way: it stands alone.
        if 1 < requests.len() && requests.last().is_some_and(is_refused_at_once) {
            let last = requests.split_off(requests.len() - 1);
            self.steps.push(Step::Send { conn: name.clone(), requests });
            requests = last;
        }
        if requests.is_empty() {
            return;
        }
        let ends = requests.last().is_some_and(|last| self.surely_ends(last, identified));
        self.steps.push(Step::Send { conn: name, requests });
        if ends {
            self.lose(index);
        }
    }

    /// The connection is over after this; its session may not be.
    fn surely_ends(&self, last: &Request, identified: bool) -> bool {
        match last.op() {
            Some(Op::Auth | Op::Sasl) => false,
            _ => may_close(last) || (self.profile.traits.enforced_auth && !identified),
        }
    }

    /// A connection that has ended is taken up again, or replaced.
    fn lose(&mut self, index: usize) {
        if self.rng.percent(70) {
            self.resume(index);
        } else {
            self.conns.remove(index);
            if self.conns.len() < 2 {
                self.connect_new();
            }
        }
    }

    fn resume(&mut self, index: usize) {
        let old = self.conns[index].name.clone();
        let name = self.fresh_name();
        let mut connect = Connect::new(&name);
        connect.target = Target::SessionOf(old);
        connect.seen = Some(0);
        if self.rng.percent(20) {
            connect.timeout_ms = *self.rng.pick(&[55_000, 100_000]);
            connect.read_only = None;
        }
        if self.rng.percent(40) && !self.profile.traits.enforced_auth {
            connect.pipelined = self.batch(5);
            connect.pipelined.retain(|request| !may_close(request));
        }
        self.steps.push(Step::Connect(connect));
        self.conns[index] = Conn { name: name.clone(), identified: false };
        self.identify(index, 96);
        if self.allows(Op::SetWatches) && self.rng.percent(70) {
            let two = self.allows(Op::SetWatches2) && self.rng.percent(50);
            let request = self.requests().set_watches(two);
            self.send(index, vec![request]);
        }
    }

    fn step(&mut self) {
        let Some(index) = self.any_conn() else {
            self.connect_new();
            return;
        };
        let quick = self.profile.traits.quick;
        match self.rng.below(100) {
            0..=4 => {
                // Lost and taken up again; sometimes before the server has noticed.
                if self.rng.percent(50) {
                    self.steps.push(Step::Drop { conn: self.conns[index].name.clone() });
                }
                self.resume(index);
            }
            5..=6 => self.odd_handshake(index),
            7..=8 if self.allows(Op::CloseSession) => {
                let mut requests = self.batch(5);
                requests.retain(|request| !may_close(request));
                requests.push(Request::new(Op::CloseSession, Vec::new()));
                self.send(index, requests);
            }
            9..=10 => self.bad_frame(index),
            11..=16 if self.allows(Op::Auth) => self.auth(index),
            17..=25 if quick && self.only.is_empty() => self.reaped(index),
            31..=33 if quick => self.expiring(),
            _ => {
                let most = *self.rng.pick(&[1, 3, 8, 15, 25]);
                let requests = self.batch(most);
                self.send(index, requests);
            }
        }
    }

    fn auth(&mut self, index: usize) {
        let request = self.requests().auth();
        let conn = self.conns[index].name.clone();
        let mut requests = vec![request];
        let is_plain = requests[0] == auth("digest", "bob:secret");
        if is_plain && self.rng.percent(50) {
            // What is pipelined behind it has the identity already.
            let more = self.batch(5);
            requests.extend(more.into_iter().filter(|request| !may_close(request)));
        }
        let is_good = is_plain || requests[0] == auth("digest", "alice:pw");
        self.steps.push(Step::Send { conn, requests });
        self.conns[index].identified |= is_good;
        if !is_good && self.rng.percent(60) {
            // Probably ended.
            self.lose(index);
        }
    }

    /// Handshakes that do not get what they ask for, or should not.
    fn odd_handshake(&mut self, index: usize) {
        let name = self.fresh_name();
        let mut connect = Connect::new(&name);
        match self.rng.below(7) {
            0 => connect.target = Target::Unknown,
            1 => {
                // The owner is dropped first: Java ends its connection although the password is wrong.
                self.steps.push(Step::Drop { conn: self.conns[index].name.clone() });
                connect.target = Target::SessionOf(self.conns[index].name.clone());
                connect.password = *self.rng.pick(&[Password::Wrong, Password::Null, Password::Empty, Password::Long]);
                self.steps.push(Step::Connect(connect));
                self.resume(index);
                return;
            }
            2 => connect.seen = Some(1_000_000),
            3 => connect.cut = self.rng.between(2, 44) as usize,
            4 => connect.timeout_ms = *self.rng.pick(&[0, -1, i32::MIN]),
            5 => connect.read_only = None,
            _ => {
                connect.read_only = None;
                connect.cut = self.rng.between(1, 30) as usize;
            }
        }
        self.steps.push(Step::Connect(connect));
    }

    fn bad_frame(&mut self, index: usize) {
        let short = self.rng.below(8) as usize;
        let bytes = match self.rng.below(6) {
            0 => vec![0xff; 4],
            1 => vec![0x80, 0, 0, 0],
            2 => vec![0, 0x10, 0, 0],
            3 => b"ruok".to_vec(),
            4 => vec![0x7f, 0xff, 0xff, 0xff],
            _ => [&[0, 0, 0, short as u8][..], &vec![0; short]].concat(),
        };
        self.steps.push(Step::Raw { conn: self.conns[index].name.clone(), bytes });
        self.lose(index);
    }

    /// Znodes that the server takes away.
    fn reaped(&mut self, index: usize) {
        let conn = self.conns[index].name.clone();
        let (gone, requests) = self.requests().reaped();
        self.steps.push(Step::Await { conn, gone, requests });
    }

    /// A session that nobody keeps alive.
    fn expiring(&mut self) {
        let name = self.fresh_name();
        self.steps.push(Step::Connect(Connect { timeout_ms: 800, ..Connect::new(&name) }));
        let mut requests = self.batch(8);
        requests.retain(|request| !may_close(request));
        let ephemerals = ["$/e", "$/a/e", "$/q"].map(|path| self.requests().ephemeral(path));
        requests.extend(ephemerals);
        self.steps.push(Step::Send { conn: name.clone(), requests });
        self.steps.push(Step::Expire { conn: name.clone() });
        let target = Target::SessionOf(name);
        let again = self.fresh_name();
        self.steps.push(Step::Connect(Connect { target, ..Connect::new(&again) }));
    }

    fn batch(&mut self, most: u64) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::new();
        let count = self.rng.between(1, most);
        let is_counted = self.quota && self.profile.traits.enforce_quota;
        let mut writes = 0;
        for _ in 0..count {
            let mut request = self.requests().any();
            let mut tries = 0;
            while request.op().is_none_or(|op| !self.allows(op)) && !self.only.is_empty() {
                request = self.requests().any();
                tries += 1;
                assert!(tries < 100_000, "none of the opcodes that are allowed is ever made");
            }
            let is_write = request.op().is_some_and(|op| op.kind() == OpKind::Write);
            if is_write && is_counted {
                writes += 1;
                if 1 < writes {
                    continue;
                }
            }
            if is_write && requests.iter().any(leaves_java_unsettled) {
                continue;
            }
            let ends = may_close(&request);
            requests.push(request);
            if ends {
                break;
            }
        }
        requests
    }
}

fn is_refused_at_once(request: &Request) -> bool {
    may_close(request) && !matches!(request.op(), Some(Op::Auth | Op::Sasl | Op::CloseSession))
}

/// After these, Java examines writes in the same breath by a state that never was, if its log is slow enough (defects, so the
/// outcome is a race): it does not see the new list of a setACL that is not applied yet, and it sees what a multi did that
/// broke off over a null it did not expect.
fn leaves_java_unsettled(request: &Request) -> bool {
    request.is(Op::SetAcl) || (request.is(Op::Multi) && request.fields.contains(&Field::Str(None)))
}
