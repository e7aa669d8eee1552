//! Which error of which operation must have been seen, from the tables of the protocol.

use std::collections::BTreeSet;

use zorilla_proto::code::Code::{self, *};
use zorilla_proto::op::Op;

use crate::pair::Seen;
use crate::wire::pair_name;

/// What every way to create a znode can say.
const CREATE: &[Code] = &[
    Ok,
    MarshallingError,
    Unimplemented,
    BadArguments,
    NoNode,
    NoAuth,
    NoChildrenForEphemerals,
    NodeExists,
    InvalidAcl,
    SessionClosedRequireSaslAuth,
    QuotaExceeded,
    RuntimeInconsistency,
];

/// What a read of one existing or missing znode can say.
const READ: &[Code] = &[Ok, MarshallingError, NoNode, NoAuth, SessionClosedRequireSaslAuth];

/// Every operation that a client may send, with every error that a lone server gives for it.
///
/// Not here, because a lone server never says them: EPHEMERALONLOCALSESSION (it lets local sessions have ephemeral znodes), SESSIONEXPIRED (its requests are dropped), SESSIONMOVED, NOTREADONLY,
/// RECONFIGINPROGRESS, NEWCONFIGNOQUORUM; and THROTTLEDOP, which depends on how long a request has waited.
pub const REQUIRED: &[(Op, &[Code])] = &[
    (Op::Create, CREATE),
    (Op::Create2, CREATE),
    (Op::CreateContainer, CREATE),
    (Op::CreateTtl, CREATE),
    (
        Op::Delete,
        &[
            Ok,
            MarshallingError,
            BadArguments,
            NoNode,
            NoAuth,
            BadVersion,
            NotEmpty,
            SessionClosedRequireSaslAuth,
            RuntimeInconsistency,
        ],
    ),
    (Op::Exists, &[Ok, MarshallingError, BadArguments, NoNode, NoAuth, SessionClosedRequireSaslAuth]),
    (Op::GetData, READ),
    (
        Op::SetData,
        &[
            Ok,
            MarshallingError,
            BadArguments,
            NoNode,
            NoAuth,
            BadVersion,
            QuotaExceeded,
            SessionClosedRequireSaslAuth,
            RuntimeInconsistency,
        ],
    ),
    (Op::GetAcl, READ),
    (
        Op::SetAcl,
        &[Ok, MarshallingError, BadArguments, NoNode, NoAuth, BadVersion, InvalidAcl, SessionClosedRequireSaslAuth],
    ),
    (Op::GetChildren, READ),
    (Op::GetChildren2, READ),
    (Op::Sync, &[Ok, MarshallingError, SessionClosedRequireSaslAuth]),
    (Op::Ping, &[Ok, SessionClosedRequireSaslAuth]),
    (Op::Check, &[Ok, BadArguments, NoNode, NoAuth, BadVersion, Unimplemented, RuntimeInconsistency]),
    (Op::Multi, &[Ok, MarshallingError, SessionClosedRequireSaslAuth]),
    (Op::Reconfig, &[ReconfigDisabled, Unimplemented, MarshallingError, SessionClosedRequireSaslAuth]),
    (Op::CheckWatches, &[Ok, MarshallingError, NoWatcher, SessionClosedRequireSaslAuth]),
    (Op::RemoveWatches, &[Ok, MarshallingError, NoWatcher, SessionClosedRequireSaslAuth]),
    (Op::MultiRead, &[Ok, MarshallingError, SessionClosedRequireSaslAuth]),
    (Op::Auth, &[Ok, AuthFailed]),
    (Op::Sasl, &[Ok]),
    (Op::SetWatches, &[Ok, MarshallingError, SessionClosedRequireSaslAuth]),
    (Op::SetWatches2, &[Ok, MarshallingError, SessionClosedRequireSaslAuth]),
    (Op::GetEphemerals, &[Ok, MarshallingError, SessionClosedRequireSaslAuth]),
    (Op::GetAllChildrenNumber, READ),
    (Op::AddWatch, &[Ok, MarshallingError, SessionClosedRequireSaslAuth]),
    (Op::WhoAmI, &[Ok, SessionClosedRequireSaslAuth]),
    (Op::CloseSession, &[Ok, SessionClosedRequireSaslAuth]),
    (Op::DeleteContainer, &[BadArguments, NoNode, NotEmpty]),
    (Op::Notification, &[Unimplemented]),
    (Op::Error, &[Unimplemented]),
];

/// The pairs of the table, as numbers; only for these opcodes if any are named.
pub fn required(only: &[Op]) -> BTreeSet<(i32, i32)> {
    let rows = REQUIRED.iter().filter(|(op, _)| only.is_empty() || only.contains(op));
    rows.flat_map(|(op, codes)| codes.iter().map(|code| (op.raw(), code.raw()))).collect()
}

/// What is in the table and was never seen.
pub fn missing(seen: &Seen, only: &[Op]) -> Vec<String> {
    let missing = required(only).into_iter().filter(|pair| !seen.contains_key(pair));
    missing.map(|(op, code)| pair_name(op, code)).collect()
}
