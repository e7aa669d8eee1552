//! Identities: a transaction's place in history, and a client's lease.
//!
//! Guarantees: the split of a zxid into epoch and counter, and the function that turns a session id into its
//! password, exist here and nowhere else. Every id prints as operators grep for it, `0x200000017`.

use std::fmt;

use crate::limits::PASSWORD_BYTES;

/// A transaction's place in history: the epoch of the leader that proposed it in the upper 32 bits, its
/// number within that epoch in the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(u64);

impl Zxid {
    /// The zxid before every transaction: that of an empty tree.
    pub const ZERO: Zxid = Zxid(0);

    /// The highest zxid that stays positive when a Java server reads it as a `long`.
    pub const MAX: Zxid = Zxid(i64::MAX as u64);

    /// A zxid from its 64 bits as they stand on the wire.
    #[inline]
    pub const fn from_raw(raw: u64) -> Zxid {
        Zxid(raw)
    }

    /// The 64 bits as they stand on the wire.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The transaction `counter` of `epoch`.
    #[inline]
    pub const fn new(epoch: u32, counter: u32) -> Zxid {
        Zxid((epoch as u64) << 32 | counter as u64)
    }

    /// The reign of the leader that proposed it.
    #[inline]
    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Its number within that reign.
    #[inline]
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The next zxid of this epoch. `None` once the counter is used up: the leader must then resign, because
    /// only a new epoch can issue more.
    #[inline]
    pub const fn next(self) -> Option<Zxid> {
        match self.counter().checked_add(1) {
            Some(counter) => Some(Zxid::new(self.epoch(), counter)),
            None => None,
        }
    }

    /// The next zxid of a standalone server, which counts through all 64 bits as the reference does: running
    /// out of one epoch's counters leads into the next. `None` once the value would turn negative as a `long`.
    #[inline]
    pub const fn successor(self) -> Option<Zxid> {
        if Zxid::MAX.0 <= self.0 { None } else { Some(Zxid(self.0 + 1)) }
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zxid({self})")
    }
}

/// A client's lease. The reference treats it as a signed number, so the sign is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(i64);

impl SessionId {
    /// No session: what a new client sends, and what the server answers to a session that is gone.
    pub const NONE: SessionId = SessionId(0);

    /// A session id from its 64 bits as they stand on the wire.
    #[inline]
    pub const fn from_raw(raw: i64) -> SessionId {
        SessionId(raw)
    }

    /// The 64 bits as they stand on the wire.
    #[inline]
    pub const fn raw(self) -> i64 {
        self.0
    }

    /// The password of this session, which a client must show to resume it.
    ///
    /// It follows from the id alone, so that every server of an ensemble, of whatever release, accepts the
    /// passwords that any other handed out. The bytes are those of `java.util.Random.nextBytes` seeded with
    /// `id ^ 0xB3415C00`, as `ZooKeeperServer.generatePasswd` makes them.
    pub fn password(self) -> [u8; PASSWORD_BYTES] {
        const SECRET: u64 = 0xb341_5c00;
        const MULTIPLIER: u64 = 0x5_deec_e66d;
        const INCREMENT: u64 = 0xb;
        const STATE_MASK: u64 = (1 << 48) - 1;

        let mut state = (self.0 as u64 ^ SECRET ^ MULTIPLIER) & STATE_MASK;
        let mut password = [0; PASSWORD_BYTES];
        for four_bytes in password.chunks_exact_mut(4) {
            state = state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & STATE_MASK;
            // The generator's output is the upper 32 bits of its 48; it is spent least significant byte first.
            four_bytes.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
        }
        password
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zxid_splits_into_epoch_and_counter_and_prints_in_hex() {
        let zxid = Zxid::new(2, 0x17);
        assert_eq!(zxid.raw(), 0x2_0000_0017);
        assert_eq!((zxid.epoch(), zxid.counter()), (2, 0x17));
        assert_eq!(zxid.to_string(), "0x200000017");
        assert_eq!(format!("{zxid:?}"), "Zxid(0x200000017)");
    }

    #[test]
    fn next_stays_in_its_epoch_and_ends_with_the_counter() {
        assert_eq!(Zxid::new(7, 1).next(), Some(Zxid::new(7, 2)));
        assert_eq!(Zxid::new(7, u32::MAX - 1).next(), Some(Zxid::new(7, u32::MAX)));
        assert_eq!(Zxid::new(7, u32::MAX).next(), None);
    }

    #[test]
    fn successor_crosses_into_the_next_epoch_and_ends_before_the_sign() {
        assert_eq!(Zxid::new(0, u32::MAX).successor(), Some(Zxid::new(1, 0)));
        assert_eq!(Zxid::from_raw(i64::MAX as u64 - 1).successor(), Some(Zxid::MAX));
        assert_eq!(Zxid::MAX.successor(), None);
        assert_eq!(Zxid::from_raw(u64::MAX).successor(), None);
    }

    #[test]
    fn password_is_the_one_java_servers_hand_out() {
        // The first pair was read from a running Java server, the second from its captured handshake.
        for (session, password) in [
            (0x0100_0017_0d35_0000, 0x01bb_33ad_fab6_8a48_4750_eda5_d340_4105_u128),
            (0x0100_0028_d38f_0000, 0xc38a_1c36_9478_2b81_d91a_4836_fdac_8068),
        ] {
            assert_eq!(SessionId::from_raw(session).password(), password.to_be_bytes(), "session {session:#x}");
        }
    }

    #[test]
    fn session_prints_all_64_bits_even_when_negative() {
        assert_eq!(SessionId::from_raw(0x0100_0abc_d000_0003).to_string(), "0x1000abcd0000003");
        assert_eq!(SessionId::from_raw(i64::MIN).to_string(), "0x8000000000000000");
    }
}
