//! Single requests from numbers: every opcode, with arguments good and bad.

use zorilla_proto::op::Op;

use crate::profile::Traits;
use crate::rng::Rng;
use crate::script::{Field, Request};
use crate::side::auth;

pub struct Requests<'a> {
    pub rng: &'a mut Rng,
    pub traits: Traits,
    pub quota: bool,
}

/// A hundred years would do as well.
const LONG_TTL_MS: i64 = 3_600_000;
const TTL_MS_MAX: i64 = 0xff_ffff_ffff;

fn text(value: impl AsRef<str>) -> Field {
    Field::Str(Some(value.as_ref().to_owned()))
}

fn one_acl(perms: i32, scheme: impl AsRef<str>, id: impl AsRef<str>) -> Vec<Field> {
    vec![Field::Int(perms), text(scheme), text(id)]
}

fn acl(entries: &[Vec<Field>]) -> Vec<Field> {
    [vec![Field::Count(entries.len() as i32)], entries.concat()].concat()
}

fn open() -> Vec<Field> {
    acl(&[one_acl(31, "world", "anyone")])
}

const PATHS: &[&str] = &[
    "$/a",
    "$/a",
    "$/a",
    "$/b",
    "$/b",
    "$/a/a",
    "$/a/b",
    "$/a/b",
    "$/a/b/a",
    "$/b/a",
    "$/e",
    "$/a/e",
    "$",
    "$/q0000000000",
    "$/a/q0000000000",
    "$/a/q0000000001",
    "$/c",
    "$/c/a",
    "$/ab",
    "$/q",
];

const ODD_PATHS: &[&str] = &[
    "",
    "/",
    "$/",
    "$//a",
    "$/a/",
    "$/./a",
    "$/../a",
    "$/.",
    "$/..",
    "$/...",
    "$/.x",
    "a",
    "a/b",
    "$/\0",
    "$/a\0b",
    "$/\u{1}",
    "$/\u{1f}",
    "$/\u{7f}",
    "$/\u{9f}",
    "$/\u{a0}",
    "$/\u{d7ff}",
    "$/\u{e000}",
    "$/\u{f8ff}",
    "$/\u{f900}",
    "$/\u{ffef}",
    "$/\u{fff0}",
    "$/\u{fffd}",
    "$/\u{1f600}",
    "$/a/\u{10ffff}",
    "$/\u{e4}\u{20ac}",
    "/zookeeper",
    "/zookeeper/config",
    "/zookeeper/quota",
    "/missing",
    "//",
    "$/a b",
    "$x",
];

const QUOTA_PATHS: &[&str] = &[
    "/zookeeper/quota$",
    "/zookeeper/quota$/a",
    "/zookeeper/quota$/zookeeper_limits",
    "/zookeeper/quota$/zookeeper_stats",
    "/zookeeper/quota$/a/zookeeper_limits",
    "/zookeeper/quota$/a/zookeeper_stats",
    "/zookeeper/quota$/a/b/zookeeper_limits",
    "/zookeeper/quota$/a/b/zookeeper_stats",
];

const LIMITS: &[&str] = &[
    "count=3,bytes=20",
    "count=-1,bytes=-1",
    "count=2,bytes=-1=;countHardLimit=3",
    "count=-1,bytes=5=;byteHardLimit=12",
    "count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=4",
    "countHardLimit=3",
    "byteHardLimit=8",
    "count=100,bytes=100=;byteHardLimit=0;countHardLimit=1",
    "count=5;;bytes=6,,",
    "",
];

impl Requests<'_> {
    pub fn path(&mut self) -> Field {
        if self.quota && self.rng.percent(12) {
            return text(self.rng.pick(QUOTA_PATHS));
        }
        match self.rng.below(1000) {
            0..=899 => text(self.rng.pick(PATHS)),
            900..=989 => text(self.rng.pick(ODD_PATHS)),
            990..=993 => Field::Str(None),
            // Not UTF-8.
            994..=996 => Field::Buf(Some(vec![b'/', 0xff, 0xfe])),
            997 => Field::Buf(Some(vec![b'/', 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80])),
            // A length that no string has, and one beyond everything.
            998 => Field::Int(-2),
            _ => Field::Int(i32::MAX),
        }
    }

    /// For writes that must stay below the stream's own znode.
    fn own_path(&mut self) -> Field {
        loop {
            let path = self.path();
            let shared = ["", "/", "/missing", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];
            match &path {
                Field::Str(Some(text)) if shared.contains(&text.as_str()) => {}
                _ => return path,
            }
        }
    }

    fn data(&mut self) -> Field {
        match self.rng.below(20) {
            0..=1 => Field::Buf(None),
            2..=4 => Field::Buf(Some(Vec::new())),
            5 => Field::Buf(Some(vec![b'x'; self.rng.between(100, 3000) as usize])),
            6 if self.quota => Field::Buf(Some(self.rng.pick(LIMITS).as_bytes().to_vec())),
            7 if self.rng.percent(10) => Field::Int(-5),
            _ => Field::Buf(Some(vec![b'd'; self.rng.between(1, 9) as usize])),
        }
    }

    fn acl(&mut self) -> Vec<Field> {
        const BOB: &str = "bob:fyVmFCwVbTJYrznoSu1koqYEYF0=";
        match self.rng.below(100) {
            0..=69 => open(),
            70..=71 => acl(&[]),
            72 => vec![Field::Count(-1)],
            73 => vec![Field::Count(*self.rng.pick(&[-2, 1_000_000, i32::MAX, i32::MIN]))],
            74..=77 => acl(&[one_acl(*self.rng.pick(&[0, 1, 2, 4, 8, 16, 27, 30, -1, 64]), "world", "anyone")]),
            78..=82 => acl(&[one_acl(31, "auth", ""), one_acl(1, "world", "anyone")]),
            83 => acl(&[vec![Field::Int(31), text("auth"), Field::Str(None)]]),
            84..=86 => acl(&[one_acl(31, "digest", BOB)]),
            87..=88 => {
                acl(&[one_acl(16, "digest", BOB), one_acl(15, "world", "anyone"), one_acl(31, "digest", "alice:x")])
            }
            89 => {
                acl(&[one_acl(31, "digest", self.rng.pick(&["a", "a:", ":b", "a:b:", "a:b:c", "a::b", "", ":", "::"]))])
            }
            90 => {
                acl(&[one_acl(31, "ip", self.rng.pick(&["127.0.0.1", "127.0.0.1/8", "10.0.0.1", "0.0.0.0/0", "::1"]))])
            }
            91 => {
                let ids = &[
                    "127.0.0.1/33",
                    "127.0.0.1/-1",
                    "1.2.3",
                    "host",
                    "",
                    "256.1.1.1",
                    "fe80::/10",
                    "::ffff:1.2.3.4",
                    "127.0.0.1/",
                    "1:2:3:4:5:6:7:8/128",
                    "::/129",
                    "127.0.0.1/8/8",
                    "127.0.0.01",
                    "::1%lo",
                ];
                acl(&[one_acl(31, "ip", self.rng.pick(ids))])
            }
            92 => acl(&[one_acl(31, self.rng.pick(&["super", "x509", "sasl", "foo", "", "WORLD", "ensemble"]), "x")]),
            93 => acl(&[one_acl(31, "world", self.rng.pick(&["everyone", "", "Anyone"]))]),
            94 => acl(&[vec![Field::Int(31), Field::Str(None), text("anyone")]]),
            95 => acl(&[vec![Field::Int(31), text("world"), Field::Str(None)]]),
            96 => acl(&[vec![Field::Int(31), text(self.rng.pick(&["digest", "ip", "foo"])), Field::Str(None)]]),
            97 => acl(&[one_acl(1, "world", "anyone"), one_acl(1, "world", "anyone"), one_acl(30, "world", "anyone")]),
            98 => acl(&[one_acl(31, "world", "anyone"), one_acl(31, "nobody", "x")]),
            _ => acl(&[one_acl(31, "digest", BOB), one_acl(31, "auth", ""), one_acl(31, "digest", BOB)]),
        }
    }

    fn version(&mut self) -> Field {
        Field::Int(self.rng.weighted(&[
            (60, -1),
            (15, 0),
            (10, 1),
            (6, 2),
            (3, 3),
            (2, -2),
            (1, i32::MAX),
            (1, i32::MIN),
        ]))
    }

    /// Where containers go away by themselves they are made by [`Requests::reaped`] alone.
    fn flags(&mut self, is_multi: bool) -> i32 {
        let flags = self.rng.weighted(&[
            (52, 0),
            (14, 1),
            (12, 2),
            (8, 3),
            (5, 4),
            (2, 5),
            (2, 6),
            (1, 7),
            (1, -1),
            (1, i32::MAX),
        ]);
        if flags == 4 && is_multi && self.traits.quick { 0 } else { flags }
    }

    pub fn plain_create(&mut self, path: &str) -> Request {
        let data = self.data();
        Request::new(Op::Create, [vec![text(path), data], open(), vec![Field::Int(0)]].concat())
    }

    pub fn ephemeral(&mut self, path: &str) -> Request {
        let flags = *self.rng.pick(&[1, 1, 3]);
        Request::new(Op::Create2, [vec![text(path), Field::Buf(None)], open(), vec![Field::Int(flags)]].concat())
    }

    /// A quota for `at`, piece by piece; the order of the last two varies.
    pub fn quota_nodes(&mut self, at: &str) -> Vec<Request> {
        let mut requests = Vec::new();
        for (index, _) in at.match_indices('/').chain([(at.len(), "")]) {
            requests.push(self.plain_create(&format!("/zookeeper/quota{}", &at[..index])));
        }
        let limits = self.rng.pick(LIMITS).as_bytes().to_vec();
        let mut last = [("zookeeper_limits", limits), ("zookeeper_stats", b"count=0,bytes=0".to_vec())];
        if self.rng.percent(30) {
            last.reverse();
        }
        for (name, data) in last {
            let head = vec![text(format!("/zookeeper/quota{at}/{name}")), Field::Buf(Some(data))];
            requests.push(Request::new(Op::Create, [head, open(), vec![Field::Int(0)]].concat()));
        }
        requests
    }

    /// Znodes that go away by themselves, and the requests that make and leave them.
    pub fn reaped(&mut self) -> (Vec<String>, Vec<Request>) {
        let number = self.rng.below(3);
        let container = format!("$/k{number}");
        let ttl = format!("$/t{number}");
        let record =
            |path: &str, flags: i32| [vec![text(path), Field::Buf(None)], open(), vec![Field::Int(flags)]].concat();
        let delete = |path: &str| Request::new(Op::Delete, vec![text(path), Field::Int(-1)]);
        let child = format!("{container}/x");
        let in_container = [
            Request::new(Op::CreateContainer, record(&container, 4)),
            Request::new(Op::Create, record(&child, 0)),
            delete(&child),
        ];
        let with_ttl = Request::new(Op::CreateTtl, [record(&ttl, 5), vec![Field::Long(40)]].concat());
        match self.rng.below(3) {
            0 => (vec![container], in_container.into()),
            1 => (vec![ttl], vec![with_ttl]),
            _ => (vec![container, ttl], [vec![with_ttl], in_container.into()].concat()),
        }
    }

    fn create_record(&mut self, op: Op, is_multi: bool) -> Vec<Field> {
        let path = self.own_path();
        let (data, acl, flags) = (self.data_at(&path), self.acl(), self.flags(is_multi));
        // Java takes a container with the flag of an ephemeral znode for one until it is applied: a race.
        let flags = if op == Op::CreateContainer && (flags == 1 || flags == 3) { 4 } else { flags };
        let path = if flags & 2 != 0 && self.rng.percent(70) {
            text(self.rng.pick(&["$/q", "$/a/q", "$/", "$/a/", "$/b/q", "$-"]))
        } else {
            path
        };
        [vec![path, data], acl, vec![Field::Int(flags)]].concat()
    }

    /// Never flags below 5 with a negative time: that stops the Java server.
    fn ttl_record(&mut self) -> Vec<Field> {
        let flags = self.rng.weighted(&[(50, 5), (25, 6), (4, 0), (2, 1), (2, 2), (2, 3), (2, 4), (2, 7), (1, -1)]);
        let ttl = self.rng.weighted(&[
            (70, LONG_TTL_MS),
            (6, TTL_MS_MAX),
            (6, TTL_MS_MAX + 1),
            (6, 0),
            (6, -1),
            (3, i64::MAX),
            (3, i64::MIN),
        ]);
        let ttl = if flags == 5 || flags == 6 { ttl } else { ttl.max(0) };
        let path = if flags == 6 { text("$/a/q") } else { self.own_path() };
        let (data, acl) = (self.data_at(&path), self.acl());
        [vec![path, data], acl, vec![Field::Int(flags), Field::Long(ttl)]].concat()
    }

    /// Data for a znode. Limits that cannot be read are for our side alone.
    fn data_at(&mut self, path: &Field) -> Field {
        let is_limits = matches!(path, Field::Str(Some(text)) if text.ends_with("zookeeper_limits"));
        if is_limits { Field::Buf(Some(self.rng.pick(LIMITS).as_bytes().to_vec())) } else { self.data() }
    }

    fn watch(&mut self) -> Field {
        Field::Bool(self.rng.weighted(&[(50, 0), (48, 1), (2, 9)]))
    }

    /// Deleting what others need is rare.
    fn delete_record(&mut self) -> Vec<Field> {
        let mut path = self.path();
        if path == text("$") && self.rng.percent(80) {
            path = text("$/a/b");
        }
        vec![path, self.version()]
    }

    fn set_data_record(&mut self) -> Vec<Field> {
        // Statistics that cannot be read afterwards are for our side alone.
        let path = loop {
            let path = self.own_path();
            if !matches!(&path, Field::Str(Some(text)) if text.ends_with("zookeeper_stats")) {
                break path;
            }
        };
        let data = self.data_at(&path);
        vec![path, data, self.version()]
    }

    fn paths(&mut self) -> Vec<Field> {
        let count = self.rng.below(4);
        let mut fields = vec![Field::Count(count as i32)];
        for _ in 0..count {
            fields.push(self.path());
        }
        fields
    }

    pub fn set_watches(&mut self, two: bool) -> Request {
        let mut fields = vec![match self.rng.below(4) {
            0 => Field::Long(0),
            1 => Field::ZxidBack(-1000),
            _ => Field::ZxidBack(self.rng.below(30) as i64),
        }];
        // A list or a path that is null is refused. Here it is the very first: Java has done by then what stands before it, and
        // we look at everything first.
        let has_null = self.rng.percent(8);
        for index in 0..if two { 5 } else { 3 } {
            fields.extend(if has_null && index == 0 { vec![Field::Count(-1)] } else { self.paths() });
        }
        for field in fields.iter_mut().skip(3).filter(|field| **field == Field::Str(None)) {
            *field = text("$/a");
        }
        let mut request = Request::new(if two { Op::SetWatches2 } else { Op::SetWatches }, fields);
        request.xid = self.rng.percent(50).then_some(-8);
        request
    }

    pub fn auth(&mut self) -> Request {
        match self.rng.below(20) {
            0..=7 => auth("digest", "bob:secret"),
            8..=10 => auth("digest", "alice:pw"),
            11..=12 => auth("digest", "super:test"),
            13 => auth("digest", self.rng.pick(&["nocolon", "", ":", "a:b:c", "\u{e4}:\u{20ac}"])),
            14 => auth("ip", self.rng.pick(&["", "10.0.0.1"])),
            15 => auth(self.rng.pick(&["foo", "sasl", "world", "auth", "super", "x509", "", "DIGEST"]), "x:y"),
            16 => Request::new(Op::Auth, vec![Field::Int(7), text("digest"), Field::Buf(None)]),
            17 => Request::new(Op::Auth, vec![Field::Int(0), Field::Str(None), Field::Buf(Some(b"x".to_vec()))]),
            18 => Request { xid: Some(-4), ..auth("digest", "bob:secret") },
            _ => Request::new(Op::Sasl, vec![Field::Buf(Some(b"token".to_vec()))]),
        }
    }

    fn multi(&mut self) -> Request {
        let mut fields = Vec::new();
        let mut is_counted = false;
        for _ in 0..self.rng.weighted(&[(1, 0u64), (4, 1), (6, 2), (6, 3), (4, 4), (2, 6), (1, 12)]) {
            let op = self.rng.weighted(&[
                (30, Op::Create),
                (12, Op::Create2),
                (18, Op::Delete),
                (24, Op::SetData),
                (14, Op::Check),
                (4, Op::CreateContainer),
                (5, Op::CreateTtl),
                (1, Op::GetData),
                (1, Op::SetAcl),
            ]);
            // Under a hard quota the operations of one multi are counted together here, and not at all in Java.
            let op = if is_counted && self.quota && self.traits.enforce_quota { Op::Check } else { op };
            is_counted |= !matches!(op, Op::Check | Op::GetData | Op::SetAcl);
            if self.traits.quick && matches!(op, Op::CreateContainer | Op::CreateTtl) {
                continue;
            }
            fields.push(Field::Item(Some(op.raw())));
            let record = match op {
                Op::Create | Op::Create2 | Op::CreateContainer => self.create_record(op, true),
                Op::CreateTtl => self.ttl_record(),
                Op::Delete => self.delete_record(),
                Op::SetData => self.set_data_record(),
                Op::GetData => vec![self.path(), self.watch()],
                Op::SetAcl => [vec![self.path()], self.acl(), vec![self.version()]].concat(),
                _ => vec![self.path(), self.version()],
            };
            // Good paths and lists, mostly: one bad record spoils the whole.
            fields.extend(if self.rng.percent(60) { tamed(record) } else { record });
        }
        if self.rng.percent(98) {
            fields.push(Field::Item(None));
        }
        Request::new(Op::Multi, fields)
    }

    fn multi_read(&mut self) -> Request {
        let mut fields = Vec::new();
        for _ in 0..self.rng.below(5) {
            let op =
                self.rng.weighted(&[(10, Op::GetData), (10, Op::GetChildren), (1, Op::GetChildren2), (1, Op::Delete)]);
            fields.push(Field::Item(Some(op.raw())));
            let record = if op == Op::Delete { self.delete_record() } else { vec![self.path(), self.watch()] };
            fields.extend(if self.rng.percent(80) { tamed(record) } else { record });
        }
        fields.push(Field::Item(None));
        Request::new(Op::MultiRead, fields)
    }

    fn reconfig(&mut self) -> Request {
        let none = || Field::Str(None);
        let joining = "server.2=127.0.0.1:2222:3333:participant;127.0.0.1:4444";
        let fields = match self.rng.below(4) {
            0 => vec![text(joining), none(), none(), Field::Long(-1)],
            1 => vec![none(), text("x"), none(), Field::Long(-1)],
            2 => vec![none(), none(), text("some thing"), Field::Long(7)],
            _ => vec![none(), none(), none(), Field::Long(0)],
        };
        Request::new(Op::Reconfig, fields)
    }

    /// Only where Java refuses as well: it deletes what it is asked to.
    fn delete_container(&mut self) -> Request {
        Request::new(Op::DeleteContainer, vec![text(self.rng.pick(&["$/none", "/", "x", "/zookeeper"]))])
    }

    fn second_handshake(&mut self) -> Request {
        // What follows would be the rest of a ConnectRequest: as a request it has the type 0.
        let mut request = Request::new(Op::Notification, vec![Field::Int(1), Field::Int(6000), Field::Long(0)]);
        request.fields.extend([Field::Buf(Some(vec![0; 16])), Field::Bool(0)]);
        request.xid = Some(0);
        request
    }

    fn unknown(&mut self) -> Request {
        let code = *self.rng.pick(&[10, 23, 99, 108, -2, -12, 1000, i32::MAX, i32::MIN]);
        Request { code, ..Request::new(Op::Notification, vec![Field::Int(1)]) }
    }

    pub fn any(&mut self) -> Request {
        let op = self.rng.weighted(&[
            (150, Op::Create),
            (60, Op::Create2),
            (70, Op::Delete),
            (40, Op::Exists),
            (60, Op::GetData),
            (90, Op::SetData),
            (25, Op::GetAcl),
            (40, Op::SetAcl),
            (30, Op::GetChildren),
            (30, Op::GetChildren2),
            (10, Op::Sync),
            (10, Op::Ping),
            (90, Op::Multi),
            (20, Op::MultiRead),
            (3, Op::Reconfig),
            (20, Op::CheckWatches),
            (20, Op::RemoveWatches),
            (16, Op::CreateContainer),
            (1, Op::DeleteContainer),
            (24, Op::CreateTtl),
            (12, Op::SetWatches),
            (12, Op::SetWatches2),
            (10, Op::GetEphemerals),
            (10, Op::GetAllChildrenNumber),
            (30, Op::AddWatch),
            (8, Op::WhoAmI),
            (1, Op::Check),
            (1, Op::Error),
            (1, Op::Notification),
        ]);
        let is_reaped = matches!(op, Op::CreateContainer | Op::CreateTtl);
        let op = if self.traits.quick && is_reaped { Op::Create } else { op };
        let mut request = match op {
            Op::Create | Op::Create2 | Op::CreateContainer => Request::new(op, self.create_record(op, false)),
            Op::CreateTtl => Request::new(op, self.ttl_record()),
            Op::Delete => Request::new(op, self.delete_record()),
            Op::SetData => Request::new(op, self.set_data_record()),
            Op::Exists | Op::GetData | Op::GetChildren | Op::GetChildren2 => {
                Request::new(op, vec![self.path(), self.watch()])
            }
            Op::GetAcl | Op::Sync | Op::GetAllChildrenNumber => Request::new(op, vec![self.path()]),
            Op::SetAcl => Request::new(op, [vec![self.own_path()], self.acl(), vec![self.version()]].concat()),
            Op::Multi => self.multi(),
            Op::MultiRead => self.multi_read(),
            Op::Reconfig => self.reconfig(),
            Op::CheckWatches | Op::RemoveWatches => {
                let kind = self.rng.weighted(&[(3, 1), (4, 2), (3, 3), (3, 4), (3, 5), (1, 0), (1, 6), (1, -1)]);
                Request::new(op, vec![self.path(), Field::Int(kind)])
            }
            Op::AddWatch => {
                let mode = self.rng.weighted(&[(8, 0), (8, 1), (1, 2), (1, -1)]);
                Request::new(op, vec![self.path(), Field::Int(mode)])
            }
            Op::SetWatches => self.set_watches(false),
            Op::SetWatches2 => self.set_watches(true),
            Op::DeleteContainer => self.delete_container(),
            Op::GetEphemerals => {
                let prefix = *self.rng.pick(&["", " ", "/", "$", "$/e", "$/a", "x"]);
                let prefix = if self.rng.percent(10) { Field::Str(None) } else { text(prefix) };
                Request::new(op, vec![prefix])
            }
            Op::Notification if self.rng.percent(50) => self.second_handshake(),
            Op::Notification => self.unknown(),
            Op::Check => Request::new(op, vec![text("$/a"), Field::Int(-1)]),
            op => Request::new(op, Vec::new()),
        };
        if op.from_client() && op != Op::DeleteContainer && request.xid.is_none() {
            self.disfigure(&mut request);
        }
        request
    }

    /// Odd xids, records that end too early or too late.
    fn disfigure(&mut self, request: &mut Request) {
        match self.rng.below(1000) {
            0..=9 => request.xid = Some(*self.rng.pick(&[0, -3, -5, -100, i32::MIN, i32::MAX, 1])),
            10..=29 if request.op() != Some(Op::Ping) => request.cut = self.rng.between(1, 30) as usize,
            30..=39 => request.fields.push(Field::Raw(vec![0xde, 0xad, 0xbe, 0xef])),
            40..=43 => request.cut = 10_000,
            _ => {}
        }
        if self.traits.quick && request.is(Op::Multi) {
            // A record of a multi that is cut could still make a container.
            request.cut = 0;
        }
    }
}

/// The same record with its bad path and list replaced.
fn tamed(record: Vec<Field>) -> Vec<Field> {
    let is_good = |field: &Field| matches!(field, Field::Str(Some(path)) if path.starts_with("$/") && path.is_ascii());
    let mut tamed = record;
    if !tamed.first().is_some_and(is_good) {
        tamed[0] = text("$/a");
    }
    tamed
}
