//! What a run judged: replies by opcode and error, and those that must not be missing.

use std::collections::BTreeMap;

use crate::model::*;

/// Replies by opcode and code; parts of multis under [`IN_MULTI`] plus their opcode.
pub type Coverage = BTreeMap<(i32, i32), usize>;

pub const IN_MULTI: i32 = 1000;
pub const IN_MULTI_READ: i32 = 2000;

const CREATES: &[i32] = &[
    OK,
    MARSHALLING,
    BAD_ARGUMENTS,
    NO_NODE,
    NO_AUTH,
    NO_CHILDREN_FOR_EPHEMERALS,
    NODE_EXISTS,
    INVALID_ACL,
    UNIMPLEMENTED,
    QUOTA_EXCEEDED,
];
const CREATES_IN_MULTI: &[i32] =
    &[OK, RUNTIME_INCONSISTENCY, BAD_ARGUMENTS, NO_NODE, NO_AUTH, NO_CHILDREN_FOR_EPHEMERALS, NODE_EXISTS, INVALID_ACL];

/// Opcodes and the codes that each of them has to have been answered with.
const DUE: &[(i32, &[i32])] = &[
    (1, CREATES),
    (15, CREATES),
    (19, CREATES),
    (21, CREATES),
    (1, &[SESSION_EXPIRED]),
    (2, &[OK, MARSHALLING, BAD_ARGUMENTS, NO_NODE, NO_AUTH, BAD_VERSION, NOT_EMPTY]),
    (3, &[OK, MARSHALLING, BAD_ARGUMENTS, NO_NODE, NO_AUTH]),
    (4, &[OK, MARSHALLING, NO_NODE, NO_AUTH]),
    (5, &[OK, MARSHALLING, BAD_ARGUMENTS, NO_NODE, NO_AUTH, BAD_VERSION, QUOTA_EXCEEDED]),
    (6, &[OK, MARSHALLING, NO_NODE, NO_AUTH]),
    (7, &[OK, MARSHALLING, BAD_ARGUMENTS, NO_NODE, NO_AUTH, BAD_VERSION, INVALID_ACL]),
    (8, &[OK, MARSHALLING, NO_NODE, NO_AUTH]),
    (9, &[OK, MARSHALLING]),
    (11, &[OK]),
    (12, &[OK, MARSHALLING, NO_NODE, NO_AUTH]),
    (14, &[OK, MARSHALLING]),
    (16, &[MARSHALLING, UNIMPLEMENTED, RECONFIG_DISABLED]),
    (17, &[OK, MARSHALLING, NO_WATCHER]),
    (18, &[OK, MARSHALLING, NO_WATCHER]),
    (20, &[NO_AUTH]),
    (22, &[OK, MARSHALLING]),
    (100, &[OK, AUTH_FAILED]),
    (101, &[OK, MARSHALLING]),
    (102, &[OK]),
    (103, &[OK, MARSHALLING]),
    (104, &[OK, MARSHALLING, NO_NODE, NO_AUTH]),
    (105, &[OK, MARSHALLING]),
    (106, &[OK, MARSHALLING]),
    (107, &[OK]),
    (-11, &[OK]),
    (999, &[UNIMPLEMENTED]),
    (-10, &[UNIMPLEMENTED]),
    (13, &[UNIMPLEMENTED]),
    (1, &[CLOSED_REQUIRE_AUTH]),
    (2, &[CLOSED_REQUIRE_AUTH]),
    (4, &[CLOSED_REQUIRE_AUTH]),
    (5, &[CLOSED_REQUIRE_AUTH]),
    (14, &[CLOSED_REQUIRE_AUTH]),
    (IN_MULTI + 1, CREATES_IN_MULTI),
    (IN_MULTI + 15, CREATES_IN_MULTI),
    (IN_MULTI + 19, CREATES_IN_MULTI),
    (IN_MULTI + 21, &[OK, UNIMPLEMENTED, RUNTIME_INCONSISTENCY, BAD_ARGUMENTS, NODE_EXISTS]),
    (IN_MULTI + 2, &[OK, RUNTIME_INCONSISTENCY, BAD_ARGUMENTS, NO_NODE, NO_AUTH, BAD_VERSION, NOT_EMPTY]),
    (IN_MULTI + 5, &[OK, RUNTIME_INCONSISTENCY, BAD_ARGUMENTS, NO_NODE, NO_AUTH, BAD_VERSION, QUOTA_EXCEEDED]),
    (IN_MULTI + 13, &[OK, RUNTIME_INCONSISTENCY, BAD_ARGUMENTS, NO_NODE, NO_AUTH, BAD_VERSION]),
    (IN_MULTI_READ + 4, &[OK, NO_NODE, NO_AUTH]),
    (IN_MULTI_READ + 8, &[OK, NO_NODE, NO_AUTH]),
];

/// The table as text, one opcode a line.
pub fn table(coverage: &Coverage) -> String {
    let mut text = String::new();
    let mut op_last = None;
    for ((op, code), count) in coverage {
        if op_last != Some(*op) {
            let (place, number) = match *op {
                op if IN_MULTI_READ < op => ("in a multiRead ", op - IN_MULTI_READ),
                op if IN_MULTI < op => ("in a multi ", op - IN_MULTI),
                op => ("", op),
            };
            text += &format!("\n{place}{number}:");
            op_last = Some(*op);
        }
        text += &format!(" {code}×{count}");
    }
    text
}

/// What should have been answered and was not.
pub fn missing(coverage: &Coverage) -> Vec<(i32, i32)> {
    let due = DUE.iter().flat_map(|(op, codes)| codes.iter().map(|code| (*op, *code)));
    due.filter(|pair| !coverage.contains_key(pair)).collect()
}
