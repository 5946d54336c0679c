//! The record: trails, the ledger, and how both are verified.
//!
//! A **trail** is one session's append-only file: every command with its verdict, every hold,
//! what was masked, what came back. The **ledger** is one gateway's: admissions, refusals to
//! connect, transfers, approvals, changes of configuration, and the heads of the trails. Both are
//! hash chains of JSON lines ([`chain`]), so that anyone can read and check them with a text editor
//! and `sha256sum`.
//!
//! ```text
//! state/gateway                the gateway's id, for whoever verifies a copy
//! state/ledger.jsonl            one line an entry: {"n":7,"at":…,"prev":sha256 of line 6,"event":…}
//! state/trails/open/ID.jsonl    sessions that run (after a crash: sessions that ran)
//! state/trails/closed/ID.jsonl  sessions that ended; the ledger has the hash of their last line
//! ```
//!
//! An entry has left the process by one `write` before the caller goes on, so that kill -9 loses no
//! record of a forwarded command. An entry that cannot be written leaves the chain as it was and
//! the caller with [`Unrecorded`]: the thing does not happen.
//!
//! This module is told verdicts; it never asks policy, and knows no protocol.

pub mod chain;
pub mod entry;
pub mod ledger;
pub mod ocsf;
pub mod reconcile;
pub mod recorded;
pub mod trail;
pub mod verify;
#[cfg(test)]
mod tests;

pub use entry::LedgerEvent;
pub use entry::TrailEvent;
pub use ledger::Audit;
pub use ledger::OpenError;
pub use ledger::Options;
pub use recorded::Admission;
pub use recorded::Recorded;
pub use trail::Trail;

use crate::model::Refusal;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;

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
}

impl IntoRefusal for Unrecorded {
    fn refusal(&self) -> Refusal {
        Refusal::new(
            RefusalCode::Unrecorded,
            "this gateway cannot write its record now, and nothing goes on unrecorded",
        )
        .hint("try again, and tell the platform team: the gateway's log says what is wrong")
    }
}
