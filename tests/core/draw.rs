//! How requests are drawn from chance.

use crate::acl::CREDENTIALS;
use crate::model::State;
use crate::requests::{AclList, Ask, Rng};

const PATHS: &[&str] =
    &["/a", "/b", "/c", "/a/x", "/a/y", "/a/x/p", "/a/x/q", "/b/x", "/b/y", "/c/\u{e9}", "/a/x/p/deep"];
const ODD_PATHS: &[&str] = &[
    "/",
    "/",
    "",
    "a",
    "/zookeeper",
    "/zookeeper/config",
    "/zookeeper/quota",
    "/zookeeper/new",
    "/zookeeper/quota/zookeeper_limits",
    "/a/",
    "/a//x",
    "//x",
    "/a/..",
    "/a/./x",
    "/t\0",
    "/a/\u{1}",
    "/a/\u{f000}",
    "/a/\u{ffef}",
    "/a/\u{fff0}",
    "/a/\u{1f600}",
    "/missing/x",
];
const QUOTA_PATHS: &[&str] = &[
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/quota/a/x",
    "/zookeeper/quota/a/x/zookeeper_limits",
    "/zookeeper/quota/a/x/zookeeper_stats",
    "/zookeeper/quota/b",
    "/zookeeper/quota/b/zookeeper_limits",
    "/zookeeper/quota/b/zookeeper_stats",
];
const SEQUENTIAL: &[&str] = &["/s-", "/a/s-", "/b/"];

/// What the server of a run makes more likely.
#[derive(Clone, Copy, Default)]
pub struct Mood {
    /// Percent of paths that are about quotas.
    pub quotas: usize,
    /// Percent of lists that are not open to the world.
    pub acls: usize,
}

pub struct Draw<'a> {
    pub rng: &'a mut Rng,
    pub mood: Mood,
    /// What has been written so far, seen by somebody or not.
    pub newest: &'a State,
    /// The newest state that anybody has seen.
    pub seen: u64,
}

impl Draw<'_> {
    fn path(&mut self) -> Option<String> {
        if self.rng.percent(self.mood.quotas) {
            return Some((*self.rng.pick(QUOTA_PATHS)).to_owned());
        }
        match self.rng.below(100) {
            0 => None,
            1..11 => Some((*self.rng.pick(ODD_PATHS)).to_owned()),
            11..15 => Some(format!("{}{:010}", self.rng.pick(SEQUENTIAL), self.rng.below(6))),
            15..60 => self.existing(),
            _ => Some((*self.rng.pick(PATHS)).to_owned()),
        }
    }

    /// One that has been written.
    fn existing(&mut self) -> Option<String> {
        let at = self.rng.below(self.newest.nodes.len());
        self.newest.nodes.keys().nth(at).cloned()
    }

    fn paths(&mut self) -> Vec<String> {
        (0..self.rng.below(4)).filter_map(|_| self.path()).collect()
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        let bytes = match self.rng.below(20) {
            0 => return None,
            1 => 0,
            2 => 1500,
            3 if self.rng.percent(20) => 30_000,
            _ => 1 + self.rng.below(60),
        };
        let salt = self.rng.next();
        Some((0..bytes).map(|at| (at as u64 ^ salt) as u8).collect())
    }

    /// What is written to `path`: numbers, if it is one that holds limits or counts.
    fn data_for(&mut self, path: &Option<String>) -> Option<Vec<u8>> {
        let is_track = path.as_ref().is_some_and(|path| path.contains("/zookeeper_"));
        if !is_track || self.rng.percent(5) {
            return self.data();
        }
        let text = match self.rng.below(12) {
            0 => "count=5,bytes=100".to_owned(),
            1 => "bytes=7;;count=nonsense".to_owned(),
            2 => "count".to_owned(),
            3 => ",;count=1;;bytes=2,".to_owned(),
            4 => format!("count=-1,bytes=-1=;byteHardLimit={}", self.rng.below(400)),
            5 => format!("bytes=3,other=7,byteHardLimit={},countHardLimit=9", self.rng.below(3000)),
            6 => String::new(),
            _ => format!("count=2,bytes=100=;countHardLimit={}", 1 + self.rng.below(7)),
        };
        Some(text.into_bytes())
    }

    fn acl(&mut self) -> AclList {
        let entry = |perms: i32, scheme: &str, id: &str| (perms, Some(scheme.to_owned()), Some(id.to_owned()));
        let world = |perms| entry(perms, "world", "anyone");
        if !self.rng.percent(self.mood.acls) {
            return Some(vec![world(31)]);
        }
        let digest = self.rng.pick(CREDENTIALS).1;
        let perms = *self.rng.pick(&[31, 31, 31, 1, 3, 15, 16, 30, 0, 1 << 20 | 1]);
        Some(match self.rng.below(44) {
            0 => return None,
            1 => vec![],
            2 => vec![world(31), (31, None, Some("anyone".to_owned()))],
            3 => vec![world(31), (30, None, Some("anyone".to_owned()))],
            4 => vec![(31, Some("world".to_owned()), None)],
            5 => vec![world(1), (1, Some("world".to_owned()), None)],
            6 => vec![entry(31, "digest", self.rng.pick::<&str>(&["a", "a:", "a:b:c", "a::b", ":", ""]))],
            7 => vec![entry(31, "digest", self.rng.pick::<&str>(&["a:b", ":b", "a:b:"])), world(perms)],
            8 => vec![(31, Some("digest".to_owned()), None)],
            9 => vec![entry(31, self.rng.pick::<&str>(&["super", "sasl", "x509", "nonsense", ""]), "a:b")],
            10 => vec![entry(31, "world", "nobody")],
            11 => {
                vec![entry(
                    31,
                    "ip",
                    self.rng.pick::<&str>(&["1.2.3", "127.0.0.1/33", "::1/129", "host", "", "127.0.0.1/-1"]),
                )]
            }
            12..14 => vec![world(1), world(2), world(1), world(12), world(2)],
            14 => vec![(31, Some("ip".to_owned()), None)],
            15..17 => vec![world(30)],
            17..19 => vec![world(27)],
            19 => vec![world(23)],
            20 => vec![world(29)],
            21..26 => {
                let block =
                    *self.rng.pick(&["127.0.0.1", "127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", "::1", "fe80::/10"]);
                vec![entry(perms, "ip", block)]
            }
            26..33 => vec![entry(perms, "digest", digest)],
            33..36 => vec![entry(31, "digest", digest), world(1)],
            36 => vec![entry(perms, "digest", digest), entry(31, "auth", ""), entry(3, "auth", "any"), world(16)],
            _ => vec![(perms, Some("auth".to_owned()), self.rng.percent(50).then(String::new))],
        })
    }

    fn version(&mut self) -> i32 {
        *self.rng.pick(&[-1, -1, -1, -1, -1, 0, 0, 1, 1, 2, 3, -7])
    }

    fn create(&mut self) -> Ask {
        let op = *self.rng.pick(&[1, 1, 1, 15, 15, 15, 19]);
        let flags = *self.rng.pick(&[0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, -1]);
        let path = self.name(matches!(flags, 2 | 3));
        let (data, acl) = (self.data_for(&path), self.acl());
        Ask::Create { op, path, data, acl, flags }
    }

    fn create_ttl(&mut self) -> Ask {
        let flags = *self.rng.pick(&[5, 5, 5, 5, 6, 6, 0, 1, 4, 7]);
        let ttl_ms = *self.rng.pick(&[1, 50, 200, 1000, 1000, 5000, 0xff_ffff_ffff, 0x100_0000_0000, 0, -1]);
        let path = self.name(flags == 6);
        let (data, acl) = (self.data_for(&path), self.acl());
        Ask::CreateTtl { path, data, acl, flags, ttl_ms }
    }

    fn name(&mut self, sequential: bool) -> Option<String> {
        if sequential && self.rng.percent(70) {
            return Some((*self.rng.pick(SEQUENTIAL)).to_owned());
        }
        if self.newest.nodes.len() < 50 && self.rng.percent(35) {
            // Below one that has been written, and not always for the first time.
            let above = self.existing()?;
            return Some(format!("{above}/{}", self.rng.pick(&["x", "y", "p", "q", "\u{e9}"])));
        }
        self.path()
    }

    /// A whole quota at once.
    fn quota(&mut self) -> Ask {
        let subject = *self.rng.pick(&["/a", "/a", "/a/x", "/b"]);
        let node = |path: String, data: String| Ask::Create {
            op: 1,
            path: Some(path),
            data: Some(data.into_bytes()),
            acl: Some(vec![(31, Some("world".to_owned()), Some("anyone".to_owned()))]),
            flags: 0,
        };
        let limits = match self.rng.below(3) {
            0 => format!("count=3,bytes=100=;byteHardLimit={}", self.rng.below(400)),
            1 => format!("byteHardLimit={};countHardLimit={}", self.rng.below(600), 2 + self.rng.below(9)),
            _ => format!("count=2,countHardLimit={}", 1 + self.rng.below(7)),
        };
        let above = format!("/zookeeper/quota{subject}");
        let mut parts = vec![
            node(format!("{above}/zookeeper_limits"), limits),
            node(format!("{above}/zookeeper_stats"), String::new()),
        ];
        if self.newest.find(&above).is_none() {
            parts.insert(0, node(above, String::new()));
        }
        Ask::Multi(parts)
    }

    fn delete(&mut self) -> Ask {
        Ask::Delete { path: self.path(), version: self.version() }
    }

    fn set_data(&mut self) -> Ask {
        let path = self.path();
        let data = self.data_for(&path);
        Ask::SetData { path, data, version: self.version() }
    }

    fn multi(&mut self) -> Ask {
        let sort = self.rng.below(100);
        let parts = 0..*self.rng.pick(&[0, 1, 2, 2, 3, 3, 4, 6]);
        let parts = parts.map(|_| match self.rng.below(100) {
            0..34 if sort < 90 => self.create(),
            34..42 if sort < 90 => self.create_ttl(),
            42..58 if sort < 90 => self.delete(),
            58..84 if sort < 90 => self.set_data(),
            0..30 => Ask::GetData { path: self.path(), watch: true },
            30..60 => Ask::GetChildren { path: self.path(), watch: true, stat: false },
            60..65 if 96 < sort => Ask::Exists { path: self.path(), watch: true },
            65..70 if 96 < sort => Ask::GetChildren { path: self.path(), watch: true, stat: true },
            70..75 if 96 < sort => Ask::SetAcl { path: self.path(), acl: self.acl(), version: -1 },
            _ => Ask::Check { path: self.path(), version: self.version() },
        });
        let mut parts: Vec<Ask> = parts.collect();
        // Most can be read, and most of those have a chance to succeed.
        for part in &mut parts {
            if let Ask::Create { flags, acl, path, .. } = part
                && self.rng.percent(90)
            {
                *flags = (*flags).clamp(0, 4);
                *acl = acl.take().or(Some(vec![(31, Some("world".to_owned()), Some("anyone".to_owned()))]));
                *path = path.take().or(Some("/c".to_owned()));
            }
        }
        Ask::Multi(parts)
    }

    fn multi_read(&mut self) -> Ask {
        let parts = 0..self.rng.below(5);
        let parts = parts.map(|_| match self.rng.below(100) {
            0..49 => Ask::GetData { path: self.path(), watch: true },
            49..98 => Ask::GetChildren { path: self.path(), watch: true, stat: false },
            98 => Ask::Exists { path: self.path(), watch: true },
            _ => self.delete(),
        });
        Ask::MultiRead(parts.collect())
    }

    /// A credential: one that is good in nine of ten.
    pub fn auth(&mut self) -> Ask {
        let text = |text: &str| Some(text.to_owned());
        let credential = Some(self.rng.pick(CREDENTIALS).0.as_bytes().to_vec());
        let (scheme, credential) = match self.rng.below(20) {
            0 => (text(self.rng.pick::<&str>(&["nonsense", "sasl", "world", "auth", "super", ""])), credential),
            1 => (if self.rng.percent(50) { None } else { text("digest") }, None),
            2..5 => (text("ip"), None),
            _ => (text("digest"), credential),
        };
        Ask::Auth { scheme, credential }
    }

    /// A request of a session that is to go on.
    pub fn ask(&mut self) -> Ask {
        let watch = self.rng.percent(50);
        match self.rng.below(200) {
            0..36 => self.create(),
            36..43 => self.create_ttl(),
            43..65 => self.delete(),
            65..91 => self.set_data(),
            91..99 => Ask::SetAcl { path: self.path(), acl: self.acl(), version: self.version() },
            99..101 if self.rng.percent(9 * self.mood.quotas) => self.quota(),
            99..111 => self.multi(),
            111..122 => Ask::Exists { path: self.path(), watch },
            122..134 => Ask::GetData { path: self.path(), watch },
            134..147 => Ask::GetChildren { path: self.path(), watch, stat: self.rng.percent(50) },
            147..153 => Ask::GetAcl { path: self.path() },
            153..157 => self.multi_read(),
            157..161 => Ask::Sync { path: self.path() },
            161..167 => Ask::Ping,
            167..172 => {
                let seen = self.seen as i64 - self.rng.below(9) as i64;
                let two = self.rng.percent(50);
                let lists = [self.paths(), self.paths(), self.paths(), self.paths(), self.paths()];
                Ask::SetWatches { two, seen, lists }
            }
            172..178 => Ask::AddWatch { path: self.path(), mode: *self.rng.pick(&[0, 0, 0, 1, 1, 1, 1, 2, -1]) },
            178..184 => {
                let kind = *self.rng.pick(&[1, 2, 3, 4, 5, 5, 0, 6]);
                Ask::Watches { removes: self.rng.percent(60), path: self.path(), kind }
            }
            184..186 => {
                let prefix =
                    self.rng.pick(&[None, Some(""), Some("  "), Some("/"), Some("/a"), Some("/a/"), Some("/b/0")]);
                Ask::GetEphemerals { prefix: prefix.map(str::to_owned) }
            }
            186..188 => Ask::ChildrenNumber { path: self.path() },
            188..190 => Ask::WhoAmI,
            190 => Ask::Reconfig { joining: self.rng.percent(50).then(|| "server.4=h:1:2;3".to_owned()), config: -1 },
            191 => Ask::DeleteContainer { path: self.path().unwrap_or_default() },
            192..194 => self.auth(),
            194 => Ask::Sasl { token: (!self.rng.percent(20)).then(|| b"token".to_vec()) },
            _ => loop {
                let ask = self.ask();
                // Those without a record cannot be cut short; the others end the connection, or are refused unread.
                if !matches!(
                    ask,
                    Ask::Ping
                        | Ask::WhoAmI
                        | Ask::DeleteContainer { .. }
                        | Ask::Auth { .. }
                        | Ask::Sasl { .. }
                        | Ask::Malformed(_)
                ) {
                    return Ask::Malformed(Box::new(ask));
                }
            },
        }
    }
}
