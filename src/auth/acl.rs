//! ACL lists: what they grant, which are accepted, what is stored of them, and what others may see of them.
//!
//! Lists arrive from clients as vectors and from the tree encoded: elements without the count. One may hold tens of
//! thousands of entries, so nothing here compares each with each.

use std::borrow::Cow;

use foldhash::quality::RandomState;
use hashbrown::HashSet;
use zorilla_proto::client::{Acl, AclVec};
use zorilla_proto::jute::{self, Reader};

use super::{Identities, Provider, Rules, digest, ip};
use crate::limits;

/// `world:anyone` with every permission, encoded: what nearly every znode has, so it is recognised without decoding.
pub const OPEN_ACL: &[u8] = b"\x00\x00\x00\x1f\x00\x00\x00\x05world\x00\x00\x00\x06anyone";
/// `world:anyone` with READ only, encoded: what `/zookeeper/config` has.
pub const READ_ACL: &[u8] = b"\x00\x00\x00\x01\x00\x00\x00\x05world\x00\x00\x00\x06anyone";

/// Entries up to which comparing each with each is cheaper than a table.
const FEW_ENTRIES: usize = 16;

/// Permissions, scheme and id: what makes entries identical.
type Parts<'a> = (i32, Option<Cow<'a, str>>, Option<Cow<'a, str>>);

/// What is wrong with an ACL list that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclFault {
    /// Null, empty, naming a scheme this server cannot check or an id the scheme cannot have, `auth` of nobody:
    /// INVALIDACL. Also a list that would grow without measure (see [`limits::ACL_GROWTH_BYTES_MAX`]).
    Invalid,
    /// An entry with a null that the reference stumbles over: MARSHALLINGERROR.
    Undecodable,
}

impl Rules {
    /// Whether `acl`, the encoded list of a znode, grants one of the `wanted` permission bits to `who`.
    ///
    /// One common bit is enough, and an empty list grants everything (`semantics.md` 4.2).
    pub fn allows(&self, acl: &[u8], wanted: i32, who: &Identities) -> bool {
        if acl == OPEN_ACL || acl.is_empty() || self.skip_acl || who.is_super() {
            return true;
        }
        let mut entries = Reader::new(acl);
        while !entries.is_empty() {
            // The tree only holds lists that were decoded when they came in; one that cannot be read grants nothing.
            let (Ok(perms), Ok(scheme), Ok(id)) = (entries.i32(), entries.buffer(), entries.buffer()) else {
                return false;
            };
            if let (true, Some(scheme), Some(id)) = (perms & wanted != 0, scheme, id)
                && self.matches(scheme, id, who)
            {
                return true;
            }
        }
        false
    }

    fn matches(&self, scheme: &[u8], id: &[u8], who: &Identities) -> bool {
        if scheme == b"world" {
            return id == b"anyone";
        }
        match self.provider(scheme) {
            Some(Provider::Digest(_) | Provider::Key) => who.contains(scheme, id),
            Some(Provider::Ip) => {
                std::str::from_utf8(id).is_ok_and(|entry| who.addresses().any(|peer| ip::matches(peer, entry)))
            }
            Some(Provider::Ensemble(_)) | None => false,
        }
    }

    /// Checks the list of a create or setACL (`semantics.md` 4.3). `who` matters to entries of the scheme `auth` only.
    pub fn check(&self, acl: Option<&AclVec<'_>>, who: &Identities) -> Result<(), AclFault> {
        let acl = acl.filter(|acl| !acl.is_empty()).ok_or(AclFault::Invalid)?;
        if acl.raw() == OPEN_ACL {
            return Ok(());
        }
        if limits::ACL_ENTRIES_MAX < acl.len() || limits::ACL_BYTES_MAX < acl.raw().len() {
            return Err(AclFault::Invalid);
        }
        check_nulls(acl)?;
        let mut expands = false;
        for entry in acl.iter() {
            match (entry.scheme.as_deref().ok_or(AclFault::Invalid)?, entry.id.as_deref()) {
                ("world", Some("anyone")) => {}
                ("auth", _) if who.authenticating(self).next().is_some() => expands = true,
                (scheme, id) => match (self.provider(scheme.as_bytes()), id) {
                    // The reference looks into the id of `world` before it looks for a provider, and these providers look
                    // into any (`key` does not, and the reference stores a list that nobody can read again).
                    (Some(Provider::Digest(_) | Provider::Ip | Provider::Key), None) => {
                        return Err(AclFault::Undecodable);
                    }
                    (None, None) if scheme == "world" => return Err(AclFault::Undecodable),
                    (Some(Provider::Digest(_)), Some(id)) if digest::is_valid(id) => {}
                    (Some(Provider::Key), Some(_)) => {}
                    (Some(Provider::Ip), Some(id)) if ip::is_valid(id) => {}
                    _ => return Err(AclFault::Invalid),
                },
            }
        }
        if expands && limits::ACL_GROWTH_BYTES_MAX < self.growth_bytes(acl, who) {
            return Err(AclFault::Invalid);
        }
        Ok(())
    }

    /// By how many bytes the expansion of `auth` makes a list longer.
    fn growth_bytes(&self, acl: &AclVec<'_>, who: &Identities) -> usize {
        let each: usize = who.authenticating(self).map(|one| encoded_bytes(one.scheme(), one.id())).sum();
        let mut growth = 0_usize;
        for_each_distinct(acl, |entry| {
            if entry.scheme.as_deref() == Some("auth") {
                growth = growth.saturating_add(each);
            }
        });
        growth
    }

    /// The list as it is stored, encoded into `buffer`: identical entries reduced to their first occurrence, then each
    /// entry of the scheme `auth` replaced by one per authenticating identity of `who`.
    ///
    /// Only what was given is reduced; what the expansion repeats stays, as in the reference. The list has passed
    /// [`Rules::check`] for the same `who`, which bounds how long it becomes.
    pub fn canonical<'b>(&self, acl: &AclVec<'_>, who: &Identities, buffer: &'b mut Vec<u8>) -> AclVec<'b> {
        buffer.clear();
        for_each_distinct(acl, |entry| {
            if entry.scheme.as_deref() != Some("auth") {
                entry.encode(buffer);
                return;
            }
            for identity in who.authenticating(self) {
                Acl::new(entry.perms, identity.scheme(), identity.id()).encode(buffer);
            }
        });
        AclVec::from_raw(buffer).expect("entries that were encoded just now can be read")
    }

    /// What a caller without ADMIN sees of `acl`, an encoded list: as many entries, appended to `out` without their count,
    /// with `:x` in place of the hashes (`client-protocol.md` 9.7).
    pub fn masked(&self, acl: &[u8], out: &mut Vec<u8>) {
        let mut entries = Reader::new(acl);
        while !entries.is_empty() {
            let before = entries.remaining();
            let (Ok(_), Ok(scheme), Ok(id)) = (entries.i32(), entries.buffer(), entries.buffer()) else { return };
            let (entry, _) = before.split_at(before.len() - entries.remaining().len());
            match (scheme, id) {
                (Some(b"digest"), Some(id)) if id.contains(&b':') => {
                    let user = id.split(|byte| *byte == b':').next().unwrap_or_default();
                    let (head, _) = entry.split_at(entry.len() - id.len() - 4);
                    out.extend_from_slice(head);
                    jute::put_i32(out, i32::try_from(user.len() + 2).unwrap_or(i32::MAX));
                    out.extend_from_slice(user);
                    out.extend_from_slice(b":x");
                }
                _ => out.extend_from_slice(entry),
            }
        }
    }
}

/// The bytes of one entry on the wire.
fn encoded_bytes(scheme: &str, id: &str) -> usize {
    12 + scheme.len() + id.len()
}

/// Where the reference compares entries with each other, to find identical ones, it looks into the scheme of an entry if an
/// earlier one has the same permissions, and into its id if the scheme is the same, too: a null there is its undoing.
fn check_nulls(acl: &AclVec<'_>) -> Result<(), AclFault> {
    if acl.iter().all(|entry| entry.scheme.is_some() && entry.id.is_some()) {
        return Ok(());
    }
    let mut seen_perms: HashSet<i32, RandomState> = HashSet::default();
    let mut seen: HashSet<(i32, Option<Cow<'_, str>>), RandomState> = HashSet::default();
    for entry in acl.iter() {
        let is_new_perms = seen_perms.insert(entry.perms);
        let has_null_scheme = entry.scheme.is_none();
        let is_new = seen.insert((entry.perms, entry.scheme));
        if !is_new_perms && has_null_scheme || !is_new && entry.id.is_none() {
            return Err(AclFault::Undecodable);
        }
    }
    Ok(())
}

/// Calls `each` with every entry that no earlier one is identical to, in their order.
fn for_each_distinct(acl: &AclVec<'_>, mut each: impl FnMut(Acl<'_>)) {
    if acl.len() <= FEW_ENTRIES {
        for (index, entry) in acl.iter().enumerate() {
            if !acl.iter().take(index).any(|earlier| earlier == entry) {
                each(entry);
            }
        }
        return;
    }
    // A frame holds tens of thousands of entries: comparing each with each would hold up every other client.
    let mut seen: HashSet<Parts<'_>, RandomState> = HashSet::default();
    for entry in acl.iter() {
        if seen.insert((entry.perms, entry.scheme.clone(), entry.id.clone())) {
            each(entry);
        }
    }
}
