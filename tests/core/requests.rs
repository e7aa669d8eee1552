//! What the clients of the harness ask, how it is encoded, and how it is drawn.

/// Perms, scheme and id of each entry; `None`: a null list.
pub type AclList = Option<Vec<(i32, Option<String>, Option<String>)>>;

/// One request, as the client means it.
#[derive(Clone, Debug)]
pub enum Ask {
    Create {
        two: bool,
        path: Option<String>,
        data: Option<Vec<u8>>,
        acl: AclList,
        flags: i32,
    },
    Delete {
        path: Option<String>,
        version: i32,
    },
    SetData {
        path: Option<String>,
        data: Option<Vec<u8>>,
        version: i32,
    },
    Exists {
        path: Option<String>,
        watch: bool,
    },
    GetData {
        path: Option<String>,
        watch: bool,
    },
    GetChildren {
        path: Option<String>,
        watch: bool,
        stat: bool,
    },
    Sync {
        path: Option<String>,
    },
    Ping,
    SetWatches {
        seen: i64,
        data: Vec<String>,
        exist: Vec<String>,
        child: Vec<String>,
    },
    Close,
    /// A record cut short.
    Malformed(Box<Ask>),
    /// An opcode that is not served.
    Unknown(i32),
}

/// SplitMix64: the one source of chance of a run.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

pub fn string(out: &mut Vec<u8>, text: Option<&str>) {
    buffer(out, text.map(str::as_bytes));
}

fn buffer(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.extend((-1i32).to_be_bytes()),
        Some(bytes) => {
            out.extend((bytes.len() as i32).to_be_bytes());
            out.extend(bytes);
        }
    }
}

impl Ask {
    pub fn is_write(&self) -> bool {
        matches!(self, Ask::Create { .. } | Ask::Delete { .. } | Ask::SetData { .. })
    }

    fn op(&self) -> i32 {
        match self {
            Ask::Create { two: false, .. } => 1,
            Ask::Create { two: true, .. } => 15,
            Ask::Delete { .. } => 2,
            Ask::SetData { .. } => 5,
            Ask::Exists { .. } => 3,
            Ask::GetData { .. } => 4,
            Ask::GetChildren { stat: false, .. } => 8,
            Ask::GetChildren { stat: true, .. } => 12,
            Ask::Sync { .. } => 9,
            Ask::Ping => 11,
            Ask::SetWatches { .. } => 101,
            Ask::Close => -11,
            Ask::Malformed(ask) => ask.op(),
            Ask::Unknown(op) => *op,
        }
    }

    fn record(&self, out: &mut Vec<u8>) {
        match self {
            Ask::Create { path, data, acl, flags, .. } => {
                string(out, path.as_deref());
                buffer(out, data.as_deref());
                match acl {
                    None => out.extend((-1i32).to_be_bytes()),
                    Some(list) => {
                        out.extend((list.len() as i32).to_be_bytes());
                        for (perms, scheme, id) in list {
                            out.extend(perms.to_be_bytes());
                            string(out, scheme.as_deref());
                            string(out, id.as_deref());
                        }
                    }
                }
                out.extend(flags.to_be_bytes());
            }
            Ask::Delete { path, version } => {
                string(out, path.as_deref());
                out.extend(version.to_be_bytes());
            }
            Ask::SetData { path, data, version } => {
                string(out, path.as_deref());
                buffer(out, data.as_deref());
                out.extend(version.to_be_bytes());
            }
            Ask::Exists { path, watch } | Ask::GetData { path, watch } | Ask::GetChildren { path, watch, .. } => {
                string(out, path.as_deref());
                out.push(u8::from(*watch));
            }
            Ask::Sync { path } => string(out, path.as_deref()),
            Ask::Ping | Ask::Close => {}
            Ask::Unknown(_) => out.extend([7; 9]),
            Ask::SetWatches { seen, data, exist, child } => {
                out.extend(seen.to_be_bytes());
                for list in [data, exist, child] {
                    out.extend((list.len() as i32).to_be_bytes());
                    for path in list {
                        string(out, Some(path));
                    }
                }
            }
            Ask::Malformed(ask) => {
                ask.record(out);
                out.pop();
            }
        }
    }

    /// The whole frame.
    pub fn encode(&self, xid: i32, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        payload.extend(xid.to_be_bytes());
        payload.extend(self.op().to_be_bytes());
        self.record(&mut payload);
        // What follows a record is ignored.
        if !matches!(self, Ask::Malformed(_)) && xid % 17 == 0 {
            payload.extend([0xaa; 3]);
        }
        buffer(out, Some(&payload));
    }
}

const PATHS: &[&str] =
    &["/a", "/b", "/c", "/a/x", "/a/y", "/a/x/p", "/a/x/q", "/b/x", "/b/y", "/c/\u{e9}", "/a/x/p/deep"];
const ODD_PATHS: &[&str] = &[
    "/",
    "",
    "a",
    "/zookeeper",
    "/zookeeper/config",
    "/zookeeper/quota",
    "/zookeeper/new",
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

fn path(rng: &mut Rng) -> Option<String> {
    match rng.below(100) {
        0..2 => None,
        2..12 => Some((*rng.pick(ODD_PATHS)).to_owned()),
        12..20 => Some(format!("{}{:010}", rng.pick(&["/s-", "/a/s-", "/b/"]), rng.below(6))),
        _ => Some((*rng.pick(PATHS)).to_owned()),
    }
}

fn paths(rng: &mut Rng) -> Vec<String> {
    (0..rng.below(4)).filter_map(|_| path(rng)).collect()
}

fn data(rng: &mut Rng) -> Option<Vec<u8>> {
    let bytes = match rng.below(20) {
        0 => return None,
        1 => 0,
        2 => 1500,
        3 if rng.percent(20) => 30_000,
        _ => 1 + rng.below(60),
    };
    Some((0..bytes).map(|at| (at as u64 ^ rng.0) as u8).collect())
}

fn acl(rng: &mut Rng) -> AclList {
    let world = |perms| (perms, Some("world".to_owned()), Some("anyone".to_owned()));
    Some(match rng.below(100) {
        0 => return None,
        1 => vec![],
        2 => vec![world(31), (31, None, Some("anyone".to_owned()))],
        3 => vec![(31, Some("world".to_owned()), None)],
        4 => vec![(31, Some("digest".to_owned()), Some("a:b".to_owned()))],
        5 => vec![world(1), world(2), world(1), world(12), world(2)],
        6..9 => vec![world(30)],
        9..12 => vec![world(27)],
        12..14 => vec![world(23)],
        14..16 => vec![world(29)],
        _ => vec![world(31)],
    })
}

fn version(rng: &mut Rng) -> i32 {
    *rng.pick(&[-1, -1, -1, -1, 0, 0, 1, 1, 2, 3, -7])
}

/// A request of a session that is to go on.
pub fn draw(rng: &mut Rng, seen: u64) -> Ask {
    let watch = rng.percent(50);
    match rng.below(100) {
        0..26 => {
            let flags = *rng.pick(&[0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, -1]);
            let path = if (2..4).contains(&flags) && rng.percent(70) {
                Some((*rng.pick(&["/s-", "/a/s-", "/b/"])).to_owned())
            } else {
                path(rng)
            };
            Ask::Create { two: rng.percent(50), path, data: data(rng), acl: acl(rng), flags }
        }
        26..38 => Ask::Delete { path: path(rng), version: version(rng) },
        38..54 => Ask::SetData { path: path(rng), data: data(rng), version: version(rng) },
        54..63 => Ask::Exists { path: path(rng), watch },
        63..73 => Ask::GetData { path: path(rng), watch },
        73..84 => Ask::GetChildren { path: path(rng), watch, stat: rng.percent(50) },
        84..88 => Ask::Sync { path: path(rng) },
        88..94 => Ask::Ping,
        94..97 => {
            let seen = seen as i64 - rng.below(9) as i64;
            Ask::SetWatches { seen, data: paths(rng), exist: paths(rng), child: paths(rng) }
        }
        _ => loop {
            let ask = draw(rng, seen);
            if !matches!(ask, Ask::Ping | Ask::Malformed(_)) {
                return Ask::Malformed(Box::new(ask));
            }
        },
    }
}
