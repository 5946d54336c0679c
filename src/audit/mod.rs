//! The record: trails, the ledger, and how both are verified.
//!
//! A **trail** is one session's append-only recording ([`recording`]): every command with its
//! verdict, every hold, what was masked, and what the principal saw. The **ledger** is one gateway's:
//! admissions, refusals to connect, transfers, approvals, changes of configuration, and the heads of
//! the trails: JSON lines ([`chain`]) that anyone can read and check with a text editor.
//!
//! ```text
//! state/gateway             the gateway's id, for whoever verifies a copy
//! state/lock                held by the one gateway that writes here
//! state/ledger.jsonl        one line an entry: {"n":7,"at":…,"prev":sha256 of line 6,"event":…}
//! state/checkpoints.jsonl   signed heads of the Merkle tree over its lines ([`ledger`])
//! state/spool/open/ID.wrec  sessions that run (after a crash: sessions that ran)
//! state/spool/open/ID.key   the session's data key, wrapped by the region's key
//! state/spool/closed/       sessions that ended, until the region's store has them
//! ```
//!
//! An entry has left the process by one `write` before the caller goes on, so that kill -9 loses no
//! record of a forwarded command; at level `disk` the disk has it. An entry that cannot be written
//! leaves the chain as it was and the caller with [`Unrecorded`]: the thing does not happen.
//!
//! This module is told verdicts; it never asks policy, and knows no protocol.

mod aws;
pub mod archive;
pub mod chain;
mod closing;
pub mod entry;
pub mod export;
pub mod follow;
pub mod keys;
pub mod kms;
pub mod ledger;
pub mod note;
pub mod ocsf;
pub mod offline;
pub mod proof;
pub mod prove;
pub mod reconcile;
pub mod record;
pub mod recorded;
pub mod recording;
mod recover;
pub mod spool;
mod spooled;
pub mod storage;
pub mod told;
pub mod trail;
pub mod transfer;
pub mod tree;
pub mod verify;
#[cfg(test)]
mod tests;

pub use entry::LedgerEvent;
pub use entry::TrailEvent;
pub use record::Audit;
pub use record::OpenError;
pub use record::Options;
pub use recorded::Admission;
pub use recorded::Recorded;
pub use trail::Trail;

use crate::model::Refusal;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;

/// How often what waits in open trails is written, in milliseconds.
pub const FLUSH_MS: u64 = 250;

/// Something could not be recorded, so it does not happen.
#[derive(Debug, thiserror::Error)]
#[error("{what} could not be recorded")]
pub struct Unrecorded {
    what: &'static str,
    #[source]
    source: std::io::Error,
}

impl Unrecorded {
    pub(crate) fn new(what: &'static str, source: std::io::Error) -> Self {
        Self { what, source }
    }

    /// Whether the record is in order, and only what was to be recorded is longer than an entry may
    /// be.
    pub fn is_too_long(&self) -> bool {
        is_too_long(&self.source)
    }
}

/// Whether an entry was not written because of its own length. The operating system says the same
/// of a file that may not grow, which is another thing.
fn is_too_long(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::FileTooLarge && error.raw_os_error().is_none()
}

impl IntoRefusal for Unrecorded {
    fn refusal(&self) -> Refusal {
        if self.is_too_long() {
            let reason = "it is longer than one entry of the record may be, and nothing goes on \
                          unrecorded";
            return Refusal::new(RefusalCode::TooLarge, reason).hint("send it in smaller parts");
        }
        Refusal::new(
            RefusalCode::Unrecorded,
            "this gateway cannot write its record now, and nothing goes on unrecorded",
        )
        .hint("try again, and tell the platform team: the gateway's log says what is wrong")
    }
}
