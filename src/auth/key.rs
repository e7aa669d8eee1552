//! The scheme `key`: whoever names a multiple of the number that the znode [`PATH`] holds is the one identity it knows.

/// The znode whose data is the key. Without it, or with null data, any credential will do, so that it can be written first.
pub const PATH: &str = "/key";

/// Whether `credential` is good for `key`, the data of the znode.
pub(super) fn accepts(key: Option<&[u8]>, credential: &[u8]) -> bool {
    let Some(key) = key else { return true };
    match (number(key), number(credential)) {
        (Some(0), Some(_)) => true,
        (Some(key), Some(credential)) => credential.wrapping_rem(key) == 0,
        _ => false,
    }
}

fn number(text: &[u8]) -> Option<i32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
