//! The error codes that replies and error transactions carry.
//!
//! Guarantees: every number that any ZooKeeper release or client knows has one name here. Numbers without a
//! name must never be sent: the Java client turns them into an exception of its own, kazoo fails while
//! looking them up.

use std::fmt;

/// Defines the enum, the way from numbers, and the names from one table.
macro_rules! codes {
    ($($(#[$doc:meta])+ $variant:ident = $raw:literal, $name:literal, $sent:literal;)+) => {
        /// Why an operation failed, or [`Code::Ok`]. The names are those of `KeeperException.Code`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum Code {
            $($(#[$doc])+ $variant = $raw,)+
        }

        impl Code {
            /// Every code, from [`Code::Ok`] downwards.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The code of a number, `None` where the number is unused.
            pub const fn from_raw(raw: i32) -> Option<Code> {
                match raw {
                    $($raw => Some(Code::$variant),)+
                    _ => None,
                }
            }

            /// The name in ZooKeeper's spelling, such as `NONODE`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Code::$variant => $name,)+
                }
            }

            /// Whether a server may put it into a reply. The others belong to client libraries, or end the
            /// connection instead of being sent.
            pub const fn is_sent_by_servers(self) -> bool {
                match self {
                    $(Code::$variant => $sent,)+
                }
            }
        }
    };
}

codes! {
    /// Success. Inside a failed multi: would have succeeded.
    Ok = 0, "OK", true;
    /// The boundary above the system errors; never sent.
    SystemError = -1, "SYSTEMERROR", false;
    /// Inside a failed multi: came after the operation that failed and was not looked at.
    RuntimeInconsistency = -2, "RUNTIMEINCONSISTENCY", true;
    /// Never sent.
    DataInconsistency = -3, "DATAINCONSISTENCY", false;
    /// Client libraries only: the connection broke while the request was on its way.
    ConnectionLoss = -4, "CONNECTIONLOSS", false;
    /// The request's record cannot be decoded.
    MarshallingError = -5, "MARSHALLINGERROR", true;
    /// Unknown opcode, TTL nodes without extended types, reconfig on a standalone server.
    Unimplemented = -6, "UNIMPLEMENTED", true;
    /// Client libraries only.
    OperationTimeout = -7, "OPERATIONTIMEOUT", false;
    /// Invalid path, flags, TTL or reconfig string.
    BadArguments = -8, "BADARGUMENTS", true;
    /// C client only.
    InvalidState = -9, "INVALIDSTATE", false;
    /// Servers report an unknown session as [`Code::SessionExpired`].
    UnknownSession = -12, "UNKNOWNSESSION", false;
    /// No quorum of the new configuration is connected and up to date.
    NewConfigNoQuorum = -13, "NEWCONFIGNOQUORUM", true;
    /// Another reconfiguration is not finished.
    ReconfigInProgress = -14, "RECONFIGINPROGRESS", true;
    /// C client only.
    SslConnectionError = -15, "SSLCONNECTIONERROR", false;
    /// The boundary above the API errors; never sent.
    ApiError = -100, "APIERROR", false;
    /// The znode, or the parent a create needs, does not exist.
    NoNode = -101, "NONODE", true;
    /// The ACL does not allow it.
    NoAuth = -102, "NOAUTH", true;
    /// The expected version is not the current one.
    BadVersion = -103, "BADVERSION", true;
    /// Ephemeral znodes have no children.
    NoChildrenForEphemerals = -108, "NOCHILDRENFOREPHEMERALS", true;
    /// The znode to create exists.
    NodeExists = -110, "NODEEXISTS", true;
    /// The znode to delete has children.
    NotEmpty = -111, "NOTEMPTY", true;
    /// The session is gone or being closed.
    SessionExpired = -112, "SESSIONEXPIRED", true;
    /// Client libraries only.
    InvalidCallback = -113, "INVALIDCALLBACK", false;
    /// The ACL list is empty, malformed, or of an unknown scheme.
    InvalidAcl = -114, "INVALIDACL", true;
    /// An auth packet or a SASL exchange failed.
    AuthFailed = -115, "AUTHFAILED", true;
    /// C client only.
    Closing = -116, "CLOSING", false;
    /// C client only.
    Nothing = -117, "NOTHING", false;
    /// The session lives on another server now. It is logged; a client sees its connection closed instead.
    SessionMoved = -118, "SESSIONMOVED", false;
    /// A write on a read-only server.
    NotReadOnly = -119, "NOTREADONLY", true;
    /// An ephemeral create on a local session that may not be upgraded.
    EphemeralOnLocalSession = -120, "EPHEMERALONLOCALSESSION", true;
    /// There is no such watch to check or to remove.
    NoWatcher = -121, "NOWATCHER", true;
    /// Client libraries only.
    RequestTimeout = -122, "REQUESTTIMEOUT", false;
    /// Reconfiguration is switched off.
    ReconfigDisabled = -123, "RECONFIGDISABLED", true;
    /// The server demands authentication this connection has not done.
    SessionClosedRequireSaslAuth = -124, "SESSIONCLOSEDREQUIRESASLAUTH", true;
    /// A hard quota would be exceeded.
    QuotaExceeded = -125, "QUOTAEXCEEDED", true;
    /// The server was too busy and did not execute the request.
    ThrottledOp = -127, "THROTTLEDOP", true;
}

impl Code {
    /// The number on the wire.
    #[inline]
    pub const fn raw(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_number_and_names_are_distinct() {
        let mut names = std::collections::BTreeSet::new();
        for &code in Code::ALL {
            assert_eq!(Code::from_raw(code.raw()), Some(code));
            assert!(names.insert(code.name()), "{} names two codes", code.name());
        }
        let known = (-1000..1000).filter_map(Code::from_raw).count();
        assert_eq!(known, Code::ALL.len());
    }

    #[test]
    fn unused_numbers_have_no_code() {
        for unused in [1, -10, -11, -16, -99, -104, -105, -106, -107, -109, -126, -128, i32::MIN, i32::MAX] {
            assert_eq!(Code::from_raw(unused), None, "{unused}");
        }
    }

    #[test]
    fn a_code_prints_its_name_and_number() {
        assert_eq!(Code::NoNode.to_string(), "NONODE (-101)");
    }
}
