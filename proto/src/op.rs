//! The one table of opcodes.
//!
//! Guarantees: an opcode's number stands here and nowhere else; everything about an opcode that does not
//! depend on a server's configuration is in its row. The table is complete for ZooKeeper 3.9.5. The
//! development line 3.10 adds no opcode ([`Op::ADDED_BY_3_10`]), so a 3.10 client finds all it can send.

use std::fmt;

/// What a server does with an opcode, before anything about its record is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// Answered from the local tree, at its place in the order of the connection.
    Read,
    /// A transaction: it takes a zxid, whether it succeeds or fails.
    Write,
    /// Concerns the connection alone and is answered the moment it is read: auth and SASL.
    Connection,
    /// Never a request: a marker in headers, notifications and logs.
    Internal,
}

/// Defines the enum, the way from numbers, and the columns from one table.
macro_rules! ops {
    ($($(#[$doc:meta])+ $variant:ident = $raw:literal, $name:literal, $kind:ident, $who:ident, $since:literal;)+) => {
        /// An operation of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum Op {
            $($(#[$doc])+ $variant = $raw,)+
        }

        impl Op {
            /// The whole table, in ascending order of the numbers.
            pub const ALL: &'static [Op] = &[$(Op::$variant),+];

            /// The opcode of a number, `None` where the number is unused.
            #[inline]
            pub const fn from_raw(raw: i32) -> Option<Op> {
                match raw {
                    $($raw => Some(Op::$variant),)+
                    _ => None,
                }
            }

            /// The name in ZooKeeper's spelling, such as `getChildren2`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Op::$variant => $name,)+
                }
            }

            /// What a server does with it.
            #[inline]
            pub const fn kind(self) -> OpKind {
                match self {
                    $(Op::$variant => OpKind::$kind,)+
                }
            }

            /// The first ZooKeeper release whose server knew it.
            pub const fn since(self) -> &'static str {
                match self {
                    $(Op::$variant => $since,)+
                }
            }

            /// Whether a client may send it as a request of its own. The others are answered like an unknown
            /// opcode.
            #[inline]
            pub const fn from_client(self) -> bool {
                match self {
                    $(Op::$variant => ops!(@from_client $who),)+
                }
            }
        }
    };
    (@from_client client) => { true };
    (@from_client server) => { false };
}

ops! {
    /// Ends a session and deletes its ephemeral znodes.
    CloseSession = -11, "closeSession", Write, client, "3.0.0";
    /// Begins a session. Clients ask for it by the handshake, never by a request.
    CreateSession = -10, "createSession", Write, server, "3.0.0";
    /// In logs and multi results: an operation that failed.
    Error = -1, "error", Internal, server, "3.0.0";
    /// A watch event, from server to client.
    Notification = 0, "notification", Internal, server, "3.0.0";
    /// Creates a znode; answers its path.
    Create = 1, "create", Write, client, "3.0.0";
    /// Deletes a znode.
    Delete = 2, "delete", Write, client, "3.0.0";
    /// Answers a znode's stat; its watch also waits for a znode that is missing.
    Exists = 3, "exists", Read, client, "3.0.0";
    /// Answers a znode's data and stat.
    GetData = 4, "getData", Read, client, "3.0.0";
    /// Replaces a znode's data.
    SetData = 5, "setData", Write, client, "3.0.0";
    /// Answers a znode's ACL.
    GetAcl = 6, "getACL", Read, client, "3.0.0";
    /// Replaces a znode's ACL.
    SetAcl = 7, "setACL", Write, client, "3.0.0";
    /// Answers the names of a znode's children.
    GetChildren = 8, "getChildren", Read, client, "3.0.0";
    /// Answered once this server has applied all that was committed when the leader saw it.
    Sync = 9, "sync", Read, client, "3.0.0";
    /// Keeps the session alive.
    Ping = 11, "ping", Read, client, "3.0.0";
    /// Answers children and stat.
    GetChildren2 = 12, "getChildren2", Read, client, "3.3.0";
    /// Checks a version, only inside a multi.
    Check = 13, "check", Write, server, "3.4.0";
    /// Several writes, all or nothing.
    Multi = 14, "multi", Write, client, "3.4.0";
    /// Creates a znode; answers path and stat.
    Create2 = 15, "create2", Write, client, "3.5.0";
    /// Changes the membership of the ensemble.
    Reconfig = 16, "reconfig", Write, client, "3.5.0";
    /// Asks whether this connection has such a watch.
    CheckWatches = 17, "checkWatches", Read, client, "3.5.0";
    /// Removes a watch of this connection.
    RemoveWatches = 18, "removeWatches", Read, client, "3.5.0";
    /// Creates a znode that the server deletes once its last child has gone.
    CreateContainer = 19, "createContainer", Write, client, "3.5.1";
    /// Deletes an empty container or an expired TTL znode. The server's own; the reference takes it from
    /// clients too, so it is refused there as an operation without permission and not as unknown.
    DeleteContainer = 20, "deleteContainer", Write, client, "3.5.1";
    /// Creates a znode that the server deletes after a time without change.
    CreateTtl = 21, "createTTL", Write, client, "3.5.3";
    /// Several reads of one state of the tree.
    MultiRead = 22, "multiRead", Read, client, "3.6.0";
    /// Adds an identity to the connection.
    Auth = 100, "auth", Connection, client, "3.0.0";
    /// Registers watches again after a reconnect.
    SetWatches = 101, "setWatches", Read, client, "3.2.0";
    /// One round of a SASL exchange.
    Sasl = 102, "sasl", Connection, client, "3.4.0";
    /// Answers the paths of the session's ephemeral znodes.
    GetEphemerals = 103, "getEphemerals", Read, client, "3.6.0";
    /// Answers the number of all descendants.
    GetAllChildrenNumber = 104, "getAllChildrenNumber", Read, client, "3.6.0";
    /// Registers watches again, persistent ones included.
    SetWatches2 = 105, "setWatches2", Read, client, "3.6.0";
    /// Registers a persistent watch.
    AddWatch = 106, "addWatch", Read, client, "3.6.0";
    /// Answers the identities of the connection.
    WhoAmI = 107, "whoAmI", Read, client, "3.7.0";
}

impl Op {
    /// What the development line 3.10 adds to the table of 3.9.5: nothing.
    pub const ADDED_BY_3_10: &'static [Op] = &[];

    /// The number on the wire.
    #[inline]
    pub const fn raw(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_comes_back_from_its_number_in_ascending_order() {
        for &op in Op::ALL {
            assert_eq!(Op::from_raw(op.raw()), Some(op));
        }
        assert!(Op::ALL.windows(2).all(|pair| pair[0].raw() < pair[1].raw()));
        let known = (-1000..1000).filter_map(Op::from_raw).count();
        assert_eq!(known, Op::ALL.len());
    }

    #[test]
    fn the_table_is_the_one_of_3_9_5() {
        let numbers: Vec<i32> = Op::ALL.iter().map(|op| op.raw()).collect();
        let expected: Vec<i32> = [-11, -10, -1].into_iter().chain(0..=9).chain(11..=22).chain(100..=107).collect();
        assert_eq!(numbers, expected);
        assert!(Op::ADDED_BY_3_10.iter().all(|op| Op::ALL.contains(op)));
    }

    #[test]
    fn only_these_are_closed_to_clients() {
        let closed: Vec<&str> = Op::ALL.iter().filter(|op| !op.from_client()).map(|op| op.name()).collect();
        assert_eq!(closed, ["createSession", "error", "notification", "check"]);
    }

    #[test]
    fn writes_are_the_operations_that_take_a_zxid() {
        let writes: Vec<i32> = Op::ALL.iter().filter(|op| op.kind() == OpKind::Write).map(|op| op.raw()).collect();
        assert_eq!(writes, [-11, -10, 1, 2, 5, 7, 13, 14, 15, 16, 19, 20, 21]);
    }
}
