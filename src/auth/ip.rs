//! The scheme `ip`: addresses of peers, and the blocks of addresses that ACL entries name (`semantics.md` 4.5).
//!
//! Entries are read by the rules of the reference and not by those of the standard library: what was accepted into an ACL
//! there must grant the same here. Numbers may have a sign and leading zeros; IPv6 knows neither embedded IPv4 nor zones.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A peer's address as the reference writes it: IPv6 in eight groups, nothing left out.
pub(super) fn text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let mut text = String::with_capacity(39);
            for (index, group) in address.segments().into_iter().enumerate() {
                let colon = if index == 0 { "" } else { ":" };
                write!(text, "{colon}{group:x}").expect("writing to a String cannot fail");
            }
            text
        }
    }
}

/// Whether an ACL entry may have this id.
pub(super) fn is_valid(id: &str) -> bool {
    block(id).is_some()
}

/// Whether the block of addresses that an ACL entry names contains `peer`.
pub(super) fn matches(peer: IpAddr, entry: &str) -> bool {
    match (peer, block(entry)) {
        (IpAddr::V4(peer), Some((IpAddr::V4(address), bits))) => {
            (peer.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(peer), Some((IpAddr::V6(address), bits))) => {
            (peer.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        // An IPv4 address inside IPv6 is not that IPv4 address.
        _ => false,
    }
}

/// An address and how many of its leading bits count: all of them, unless a number behind `/` says otherwise.
fn block(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = entry.split_once('/').map_or((entry, None), |(address, bits)| (address, Some(bits)));
    let (address, bits_max) = match v4(address) {
        Some(address) => (IpAddr::V4(address), 32),
        None => (IpAddr::V6(v6(address)?), 128),
    };
    match bits {
        None => Some((address, bits_max)),
        Some(bits) => decimal(bits, bits_max).map(|bits| (address, bits)),
    }
}

/// A number of at most `max`. A sign may precede it.
fn decimal(text: &str, max: u32) -> Option<u32> {
    u32::try_from(text.parse::<i32>().ok()?).ok().filter(|number| *number <= max)
}

fn v4(text: &str) -> Option<Ipv4Addr> {
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        *byte = u8::try_from(decimal(parts.next()?, 255)?).ok()?;
    }
    if parts.next().is_some() { None } else { Some(Ipv4Addr::from(bytes)) }
}

/// Eight groups, or fewer and one `::` for at least one group of zeros.
fn v6(text: &str) -> Option<Ipv6Addr> {
    let mut segments = [0; 8];
    match text.split_once("::") {
        None => {
            if groups(text, &mut segments)? != segments.len() {
                return None;
            }
        }
        Some((left, right)) => {
            let mut tail = [0; 8];
            let left = if left.is_empty() { 0 } else { groups(left, &mut segments)? };
            let right = if right.is_empty() { 0 } else { groups(right, &mut tail)? };
            if segments.len() <= left + right {
                return None;
            }
            segments[8 - right..].copy_from_slice(&tail[..right]);
        }
    }
    Some(Ipv6Addr::from(segments))
}

/// Reads groups between `:` into the front of `segments`, and counts them.
fn groups(text: &str, segments: &mut [u16; 8]) -> Option<usize> {
    let mut count = 0;
    for group in text.split(':') {
        if 4 < group.len() {
            return None;
        }
        // At most four characters, so a number of 16 bits; of a negative one the reference takes the low 16 bits.
        *segments.get_mut(count)? = i32::from_str_radix(group, 16).ok()? as u16;
        count += 1;
    }
    Some(count)
}
