//! Who may do what: permission checks against a znode's ACL.
//!
//! Pure. Knows the scheme `world`; identities of connections and the other schemes join it with the opcodes that carry
//! them (`docs/compatibility.md`). ACL lists arrive encoded, as the tree keeps them: elements without the count.

use zorilla_proto::client::{Acl, AclVec};
use zorilla_proto::jute::Reader;

/// May read data, children and stat.
pub const READ: i32 = 1;
/// May set data.
pub const WRITE: i32 = 2;
/// May create children.
pub const CREATE: i32 = 4;
/// May delete children.
pub const DELETE: i32 = 8;
/// May set the ACL.
pub const ADMIN: i32 = 16;

/// `world:anyone` with every permission, encoded: what nearly every znode has, so it is recognised without decoding.
pub const OPEN_ACL: &[u8] = b"\x00\x00\x00\x1f\x00\x00\x00\x05world\x00\x00\x00\x06anyone";

/// Whether an ACL list grants one of the `wanted` permission bits (`semantics.md` 4.2: one common bit is enough; an empty
/// list grants everything).
pub fn allows(acl: &[u8], wanted: i32) -> bool {
    if acl == OPEN_ACL || acl.is_empty() {
        return true;
    }
    let mut entries = Reader::new(acl);
    while !entries.remaining().is_empty() {
        // The tree only holds lists that were decoded when they came in; one that cannot be read grants nothing.
        let (Ok(perms), Ok(scheme), Ok(id)) = (entries.i32(), entries.string(), entries.string()) else { return false };
        if perms & wanted != 0 && scheme.as_deref() == Some("world") && id.as_deref() == Some("anyone") {
            return true;
        }
    }
    false
}

/// What is wrong with an ACL list that a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclFault {
    /// Null, empty, or naming a scheme this server cannot check: INVALIDACL.
    Invalid,
    /// `world` with a null id, which the reference fails to decode: MARSHALLINGERROR.
    Undecodable,
}

/// Checks the list of a create (`semantics.md` 4.3). Identical entries are not reduced here: see [`canonical`].
pub fn check(acl: Option<&AclVec<'_>>) -> Result<(), AclFault> {
    let Some(acl) = acl else { return Err(AclFault::Invalid) };
    if acl.is_empty() {
        return Err(AclFault::Invalid);
    }
    if acl.raw() == OPEN_ACL {
        return Ok(());
    }
    for entry in acl.iter() {
        match (entry.scheme.as_deref(), entry.id.as_deref()) {
            (Some("world"), Some("anyone")) => {}
            (Some("world"), None) => return Err(AclFault::Undecodable),
            _ => return Err(AclFault::Invalid),
        }
    }
    Ok(())
}

/// The list with identical entries reduced to their first occurrence, encoded into `buffer`.
pub fn canonical<'b>(acl: &AclVec<'_>, buffer: &'b mut Vec<u8>) -> AclVec<'b> {
    // A frame holds tens of thousands of entries: comparing each with each would hold up every other client.
    let mut seen = hashbrown::HashSet::with_hasher(foldhash::quality::RandomState::default());
    let mut kept: Vec<Acl<'_>> = Vec::new();
    for entry in acl.iter() {
        if seen.insert((entry.perms, entry.scheme.clone(), entry.id.clone())) {
            kept.push(entry);
        }
    }
    AclVec::build(buffer, &kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(perms: i32, scheme: &str, id: &str) -> Vec<u8> {
        let mut out = Vec::new();
        zorilla_proto::jute::put_i32(&mut out, perms);
        zorilla_proto::jute::put_string(&mut out, scheme);
        zorilla_proto::jute::put_string(&mut out, id);
        out
    }

    #[test]
    fn one_common_bit_of_world_is_enough_and_other_schemes_grant_nothing() {
        assert_eq!(entry(31, "world", "anyone"), OPEN_ACL);
        assert!(allows(OPEN_ACL, DELETE));
        assert!(allows(&[], ADMIN));
        assert!(allows(&entry(READ | WRITE, "world", "anyone"), WRITE | ADMIN));
        assert!(!allows(&entry(READ, "world", "anyone"), WRITE));
        assert!(!allows(&entry(31, "digest", "a:b"), READ));
        let both = [entry(31, "ip", "127.0.0.1"), entry(READ, "world", "anyone")].concat();
        assert!(allows(&both, READ) && !allows(&both, CREATE));
    }

    #[test]
    fn a_list_cut_short_grants_nothing() {
        let list = entry(READ, "world", "anyone");
        for cut in 1..list.len() {
            assert!(!allows(&list[..cut], READ), "{cut} bytes of an entry granted READ");
        }
    }
}
