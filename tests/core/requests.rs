//! What the clients of the harness ask, and how it is encoded.

/// Perms, scheme and id of each entry; `None`: a null list.
pub type AclList = Option<Vec<(i32, Option<String>, Option<String>)>>;

/// One request, as the client means it.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `op`: 1, 15 or 19.
    Create {
        op: i32,
        path: Option<String>,
        data: Option<Vec<u8>>,
        acl: AclList,
        flags: i32,
    },
    CreateTtl {
        path: Option<String>,
        data: Option<Vec<u8>>,
        acl: AclList,
        flags: i32,
        ttl_ms: i64,
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
    SetAcl {
        path: Option<String>,
        acl: AclList,
        version: i32,
    },
    /// Only in a multi.
    Check {
        path: Option<String>,
        version: i32,
    },
    Multi(Vec<Ask>),
    Reconfig {
        joining: Option<String>,
        config: i64,
    },
    DeleteContainer {
        path: String,
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
    GetAcl {
        path: Option<String>,
    },
    MultiRead(Vec<Ask>),
    Sync {
        path: Option<String>,
    },
    Ping,
    /// Data, exist and child watches; with opcode 105 persistent and recursive ones as well.
    SetWatches {
        two: bool,
        seen: i64,
        lists: [Vec<String>; 5],
    },
    AddWatch {
        path: Option<String>,
        mode: i32,
    },
    Watches {
        removes: bool,
        path: Option<String>,
        kind: i32,
    },
    GetEphemerals {
        prefix: Option<String>,
    },
    ChildrenNumber {
        path: Option<String>,
    },
    WhoAmI,
    Auth {
        scheme: Option<String>,
        credential: Option<Vec<u8>>,
    },
    Sasl {
        token: Option<Vec<u8>>,
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

pub fn buffer(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.extend((-1i32).to_be_bytes()),
        Some(bytes) => {
            out.extend((bytes.len() as i32).to_be_bytes());
            out.extend(bytes);
        }
    }
}

/// Precedes each part of a multi, and ends it.
pub fn multi_header(out: &mut Vec<u8>, op: i32, done: bool, code: i32) {
    out.extend(op.to_be_bytes());
    out.push(u8::from(done));
    out.extend(code.to_be_bytes());
}

fn acl_list(out: &mut Vec<u8>, acl: &AclList) {
    let Some(list) = acl else { return out.extend((-1i32).to_be_bytes()) };
    out.extend((list.len() as i32).to_be_bytes());
    for (perms, scheme, id) in list {
        out.extend(perms.to_be_bytes());
        string(out, scheme.as_deref());
        string(out, id.as_deref());
    }
}

/// Whether a create without a list of ACLs is the first thing that is wrong with a multi: then it takes no zxid.
fn is_stopped_by_acl(parts: &[Ask]) -> bool {
    for part in parts {
        match part {
            Ask::Create { flags, .. } if !(0..=6).contains(flags) => return false,
            Ask::Create { acl: None, .. } => return true,
            Ask::Create { flags: 5 | 6, .. } => return false,
            _ if !part.is_known_in_multi() => return false,
            _ => {}
        }
    }
    false
}

impl Ask {
    /// Whether it takes a zxid, whatever becomes of it.
    pub fn is_write(&self) -> bool {
        match self {
            Ask::Create { .. } | Ask::CreateTtl { .. } | Ask::Delete { .. } | Ask::SetData { .. } => true,
            Ask::SetAcl { .. } | Ask::Reconfig { .. } | Ask::DeleteContainer { .. } => true,
            Ask::Multi(parts) => !is_stopped_by_acl(parts),
            // One that cannot be decoded is found out after that.
            Ask::Malformed(ask) => matches!(&**ask, Ask::Multi(parts) if !is_stopped_by_acl(parts)),
            _ => false,
        }
    }

    fn is_known_in_multi(&self) -> bool {
        matches!(self.op(), 1 | 2 | 4 | 5 | 8 | 13 | 15 | 19 | 21)
    }

    /// Whether it is without the path that it needs.
    pub fn lacks_path(&self) -> bool {
        match self {
            Ask::Create { path, .. } | Ask::CreateTtl { path, .. } | Ask::Delete { path, .. } => path.is_none(),
            Ask::SetData { path, .. } | Ask::Check { path, .. } => path.is_none(),
            _ => false,
        }
    }

    /// Parts that no multi can have: the reader stops at them.
    pub fn is_unreadable_multi(&self) -> bool {
        let (Ask::Multi(parts) | Ask::MultiRead(parts)) = self else { return false };
        let reads = parts.iter().filter(|part| matches!(part.op(), 4 | 8)).count();
        !parts.iter().all(Ask::is_known_in_multi) || (reads != 0 && reads != parts.len())
    }

    pub fn op(&self) -> i32 {
        match self {
            Ask::Create { op, .. } => *op,
            Ask::CreateTtl { .. } => 21,
            Ask::Delete { .. } => 2,
            Ask::SetData { .. } => 5,
            Ask::SetAcl { .. } => 7,
            Ask::Check { .. } => 13,
            Ask::Multi(_) => 14,
            Ask::Reconfig { .. } => 16,
            Ask::DeleteContainer { .. } => 20,
            Ask::Exists { .. } => 3,
            Ask::GetData { .. } => 4,
            Ask::GetChildren { stat: false, .. } => 8,
            Ask::GetChildren { stat: true, .. } => 12,
            Ask::GetAcl { .. } => 6,
            Ask::MultiRead(_) => 22,
            Ask::Sync { .. } => 9,
            Ask::Ping => 11,
            Ask::SetWatches { two: false, .. } => 101,
            Ask::SetWatches { two: true, .. } => 105,
            Ask::AddWatch { .. } => 106,
            Ask::Watches { removes: false, .. } => 17,
            Ask::Watches { removes: true, .. } => 18,
            Ask::GetEphemerals { .. } => 103,
            Ask::ChildrenNumber { .. } => 104,
            Ask::WhoAmI => 107,
            Ask::Auth { .. } => 100,
            Ask::Sasl { .. } => 102,
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
                acl_list(out, acl);
                out.extend(flags.to_be_bytes());
            }
            Ask::CreateTtl { path, data, acl, flags, ttl_ms } => {
                string(out, path.as_deref());
                buffer(out, data.as_deref());
                acl_list(out, acl);
                out.extend(flags.to_be_bytes());
                out.extend(ttl_ms.to_be_bytes());
            }
            Ask::Delete { path, version } | Ask::Check { path, version } => {
                string(out, path.as_deref());
                out.extend(version.to_be_bytes());
            }
            Ask::SetData { path, data, version } => {
                string(out, path.as_deref());
                buffer(out, data.as_deref());
                out.extend(version.to_be_bytes());
            }
            Ask::SetAcl { path, acl, version } => {
                string(out, path.as_deref());
                acl_list(out, acl);
                out.extend(version.to_be_bytes());
            }
            Ask::Multi(parts) | Ask::MultiRead(parts) => {
                for part in parts {
                    multi_header(out, part.op(), false, -1);
                    part.record(out);
                }
                multi_header(out, -1, true, -1);
            }
            Ask::Reconfig { joining, config } => {
                string(out, joining.as_deref());
                string(out, None);
                string(out, None);
                out.extend(config.to_be_bytes());
            }
            Ask::DeleteContainer { path } => string(out, Some(path)),
            Ask::Exists { path, watch } | Ask::GetData { path, watch } | Ask::GetChildren { path, watch, .. } => {
                string(out, path.as_deref());
                out.push(u8::from(*watch));
            }
            Ask::Sync { path } | Ask::GetAcl { path } | Ask::ChildrenNumber { path } => string(out, path.as_deref()),
            Ask::GetEphemerals { prefix } => string(out, prefix.as_deref()),
            Ask::Ping | Ask::Close | Ask::WhoAmI => {}
            Ask::Unknown(_) => out.extend([7; 9]),
            Ask::SetWatches { two, seen, lists } => {
                out.extend(seen.to_be_bytes());
                for list in &lists[..if *two { 5 } else { 3 }] {
                    out.extend((list.len() as i32).to_be_bytes());
                    for path in list {
                        string(out, Some(path));
                    }
                }
            }
            Ask::AddWatch { path, mode: number } | Ask::Watches { path, kind: number, .. } => {
                string(out, path.as_deref());
                out.extend(number.to_be_bytes());
            }
            Ask::Auth { scheme, credential } => {
                out.extend(0i32.to_be_bytes());
                string(out, scheme.as_deref());
                buffer(out, credential.as_deref());
            }
            Ask::Sasl { token } => buffer(out, token.as_deref()),
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
