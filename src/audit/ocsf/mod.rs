//! The ledger as OCSF events (Open Cybersecurity Schema Framework, 1.3), for whoever watches.
//!
//! ```text
//! ledger.jsonl ──tail──▶ Mapper ──▶ one JSON object a line ──▶ Deliver: stdout, a file, HTTP
//!                  └── state/events/<destination>.json: the last entry that was delivered
//! ```
//!
//! | class | of what |
//! |---|---|
//! | Authentication 3002 | sessions admitted, refused, ended |
//! | Entity Management 3004 | policy, law and catalogue changed |
//! | API Activity 6003 | control of the gateway, holds and their answers; commands to Kubernetes |
//! | Datastore Activity 6005 | commands to PostgreSQL |
//! | SSH Activity 4007, HTTP Activity 4002 | commands to SSH and HTTP targets |
//! | Application Lifecycle 6002 | the gateway started and stopped |
//! | Compliance Finding 2003 | transfers: opened, volumes, closed |
//! | Detection Finding 2004 | a record that was found torn or open |
//! | Base Event 0 | what this version has no class for |
//!
//! No event carries a value: no result ever, and no command's text unless that was asked for. What an
//! event says is listed here, word by word; what an entry says beyond that is left out, so that a new
//! member of an entry does not leave by itself. Events of the ledger are delivered at least once and in
//! order: `metadata.sequence` counts them without a gap, `metadata.uid` is the entry's number. Events of
//! commands come from memory ([`Feed`]), have numbers of their own, and are dropped where a
//! destination is behind: a missing number says so, and the gateway's log how many.
//!
//! It reads entries as JSON, not as the types that wrote them: a ledger holds entries of all versions.

mod base;
mod command;
mod deliver;
mod feed;
mod ledger;
mod tail;
#[cfg(test)]
mod tests;

pub use base::Product;
pub use deliver::Deliver;
pub use deliver::Rotated;
pub use deliver::Stdout;
pub use feed::Fed;
pub use feed::Feed;
pub use feed::Told;
pub use ledger::Mapper;
pub use tail::BATCH_EVENTS_MAX;
pub use tail::Progress;
pub use tail::Tail;
pub use tail::TailError;
