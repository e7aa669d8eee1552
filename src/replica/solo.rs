//! Agreement of a server that is alone: what its own disk has is committed.
//!
//! The one variant of [`Agreement`] until ensembles join it. Knows no disk: it is told what became durable.

use zorilla_proto::ids::Zxid;

/// How a server agrees with its ensemble on the next transaction.
#[derive(Debug)]
pub enum Agreement {
    /// There is no ensemble.
    Solo(Solo),
}

/// See the module. Invariant: committed ≤ proposed.
#[derive(Debug)]
pub struct Solo {
    proposed: Zxid,
    committed: Zxid,
}

impl Agreement {
    /// A lone server whose recovered history ends at `last`.
    pub fn solo(last: Zxid) -> Agreement {
        Agreement::Solo(Solo { proposed: last, committed: last })
    }

    /// The zxid of the next proposal. `None` when there is no further one.
    pub fn next(&self) -> Option<Zxid> {
        match self {
            // A lone server counts on in 64 bits; it has no epochs (`semantics.md` 2.1).
            Agreement::Solo(solo) => solo.proposed.successor(),
        }
    }

    /// `zxid`, as [`Agreement::next`] gave it, has been handed to the log.
    pub fn propose(&mut self, zxid: Zxid) {
        match self {
            Agreement::Solo(solo) => {
                assert!(solo.proposed < zxid, "proposed {zxid} after {}", solo.proposed);
                solo.proposed = zxid;
            }
        }
    }

    /// The log of this server holds everything up to `up_to`.
    pub fn durable(&mut self, up_to: Zxid) {
        match self {
            Agreement::Solo(solo) => {
                assert!(up_to <= solo.proposed, "durable up to {up_to}, proposed only {}", solo.proposed);
                assert!(solo.committed <= up_to, "durable up to {up_to} after {}", solo.committed);
                solo.committed = up_to;
            }
        }
    }

    /// The last zxid that is committed.
    pub fn committed(&self) -> Zxid {
        match self {
            Agreement::Solo(solo) => solo.committed,
        }
    }

    /// The last zxid that was proposed.
    pub fn proposed(&self) -> Zxid {
        match self {
            Agreement::Solo(solo) => solo.proposed,
        }
    }
}
