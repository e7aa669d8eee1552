//! Identities, ACL lists and what they allow, in the naive server.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use crate::model::{INVALID_ACL, MARSHALLING, Rules};
use crate::requests::AclList;

pub const READ: i32 = 1;
pub const WRITE: i32 = 2;
pub const CREATE: i32 = 4;
pub const DELETE: i32 = 8;
pub const ADMIN: i32 = 16;

/// Credentials of the scheme digest and the identities that they become, worked out elsewhere.
pub const CREDENTIALS: &[(&str, &str)] = &[
    ("bob:secret", "bob:fyVmFCwVbTJYrznoSu1koqYEYF0="),
    ("alice:a:b", "alice:VPqXOa8rQli3XMm1B9tdlwTaY50="),
    ("super:test", "super:D/InIHSb7yEEbrWz8b9l71RjZJU="),
    ("lone", "lone:Z4kB+Wo4h9AI3JM/efaUG1sUlyM="),
    (":empty", ":d28FdgWGP7/+uHX3M9UcKTYVL90="),
];
/// The digest of whoever may do everything, where the server has one.
pub const SUPER: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// One entry of a stored list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub perms: i32,
    pub scheme: String,
    pub id: String,
    /// Entries that came from the same `auth` have no defined order among them; 0: given as it is.
    pub group: usize,
}

pub type Acl = Rc<Vec<Entry>>;

/// What a connection has proved of itself: pairs of scheme and id, each once.
pub type Who = Rc<Vec<(String, String)>>;

pub fn world(perms: i32) -> Acl {
    Rc::new(vec![Entry { perms, scheme: "world".to_owned(), id: "anyone".to_owned(), group: 0 }])
}

pub fn of_peer(address: &str) -> Who {
    Rc::new(vec![("ip".to_owned(), address.to_owned())])
}

impl Rules {
    /// Takes a credential. `false`: the connection is told AUTHFAILED and closed.
    pub fn authenticate(&self, who: &mut Who, scheme: Option<&str>, credential: Option<&[u8]>) -> bool {
        let mut add = |scheme: &str, id: &str| {
            let pair = (scheme.to_owned(), id.to_owned());
            if !who.contains(&pair) {
                Rc::make_mut(who).push(pair);
            }
        };
        match (scheme, credential) {
            (Some("ip"), _) => true,
            (Some("digest"), Some(credential)) => {
                let known = CREDENTIALS.iter().find(|(text, _)| text.as_bytes() == credential);
                let (_, id) = known.expect("the harness knows the digests of its credentials");
                add("digest", id);
                if self.super_digest && *id == SUPER {
                    add("super", "");
                }
                true
            }
            _ => false,
        }
    }

    /// Whether a connection may do anything at all.
    pub fn is_let_in(&self, who: &Who) -> bool {
        self.enforced.as_ref().is_none_or(|schemes| who.iter().any(|(scheme, _)| schemes.contains(scheme)))
    }

    /// `semantics.md` 4.2.
    pub fn allows(&self, acl: &Acl, wanted: i32, who: &Who) -> bool {
        let is_super = who.iter().any(|(scheme, _)| scheme == "super");
        self.skip_acl || is_super || acl.is_empty() || acl.iter().any(|entry| grants(entry, wanted, who))
    }

    /// The list that is stored, or the error (`semantics.md` 4.3).
    pub fn accept(&self, acl: &AclList, who: &Who) -> Result<Acl, i32> {
        let given = acl.as_ref().filter(|list| !list.is_empty()).ok_or(INVALID_ACL)?;
        let mut kept: Vec<&(i32, Option<String>, Option<String>)> = Vec::new();
        for entry in given {
            // Comparing it with what is kept is what the reference stumbles over.
            for earlier in &kept {
                let same_perms = earlier.0 == entry.0;
                let same_scheme = same_perms && earlier.1 == entry.1;
                if (same_perms && entry.1.is_none()) || (same_scheme && entry.2.is_none()) {
                    return Err(MARSHALLING);
                }
            }
            if !kept.contains(&entry) {
                kept.push(entry);
            }
        }
        let mut stored = Vec::new();
        for (group, (perms, scheme, id)) in kept.into_iter().enumerate() {
            let scheme = scheme.as_deref().ok_or(INVALID_ACL)?;
            if scheme == "auth" {
                let before = stored.len();
                for (_, id) in who.iter().filter(|(scheme, _)| scheme == "digest") {
                    let (scheme, id) = ("digest".to_owned(), id.clone());
                    stored.push(Entry { perms: *perms, scheme, id, group: group + 1 });
                }
                if stored.len() == before {
                    return Err(INVALID_ACL);
                }
                continue;
            }
            let valid = match (scheme, id.as_deref()) {
                ("world" | "digest" | "ip", None) => return Err(MARSHALLING),
                ("world", Some(id)) => id == "anyone",
                ("digest", Some(id)) => {
                    let mut parts: Vec<&str> = id.split(':').collect();
                    while parts.last().is_some_and(|part| part.is_empty()) {
                        parts.pop();
                    }
                    parts.len() == 2
                }
                ("ip", Some(id)) => block(id).is_some(),
                _ => false,
            };
            if !valid {
                return Err(INVALID_ACL);
            }
            let (scheme, id) = (scheme.to_owned(), id.clone().unwrap_or_default());
            stored.push(Entry { perms: *perms, scheme, id, group: 0 });
        }
        Ok(Rc::new(stored))
    }
}

fn grants(entry: &Entry, wanted: i32, who: &Who) -> bool {
    entry.perms & wanted != 0
        && match entry.scheme.as_str() {
            "world" => true,
            "ip" => who.iter().any(|(scheme, id)| scheme == "ip" && contains(&entry.id, id)),
            scheme => who.iter().any(|(own, id)| own == scheme && *id == entry.id),
        }
}

/// The bits of an address, how many it has, and how many of them count.
fn block(entry: &str) -> Option<(u128, u32, u32)> {
    let (address, counted) = entry.split_once('/').map_or((entry, None), |(address, bits)| (address, Some(bits)));
    let (bits, length) = match address.parse::<Ipv4Addr>() {
        Ok(address) => (u128::from(address.to_bits()), 32),
        Err(_) => (address.parse::<Ipv6Addr>().ok()?.to_bits(), 128),
    };
    let counted = counted.map_or(Some(length), |counted| counted.parse().ok())?;
    (counted <= length).then_some((bits, length, counted))
}

fn contains(entry: &str, peer: &str) -> bool {
    let (Some((bits, length, counted)), Some((own, own_length, _))) = (block(entry), block(peer)) else { return false };
    length == own_length && (0..counted).all(|at| (bits ^ own) >> (length - 1 - at) & 1 == 0)
}

/// As it is shown to who may not change it.
pub fn masked(acl: &Acl) -> Acl {
    let mask = |entry: &Entry| {
        let id = match (entry.scheme.as_str(), entry.id.split_once(':')) {
            ("digest", Some((user, _))) => format!("{user}:x"),
            _ => entry.id.clone(),
        };
        Entry { id, ..entry.clone() }
    };
    Rc::new(acl.iter().map(mask).collect())
}

/// Whether a list that somebody shows is this one: in its order, except where there is none.
pub fn is_shown_as(acl: &Acl, shown: &[(i32, String, String)]) -> bool {
    let mut due: Vec<_> = acl.iter().map(|entry| (entry.perms, entry.scheme.clone(), entry.id.clone())).collect();
    let mut shown = shown.to_vec();
    if due.len() != shown.len() {
        return false;
    }
    let mut start = 0;
    while start < acl.len() {
        let mut end = start + 1;
        while acl[start].group != 0 && end < acl.len() && acl[end].group == acl[start].group {
            end += 1;
        }
        due[start..end].sort();
        shown[start..end].sort();
        start = end;
    }
    due == shown
}
