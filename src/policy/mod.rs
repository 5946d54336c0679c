//! Decisions: values in, values out, no clock, no I/O.
//!
//! ```text
//! Parts ─ Snapshot::compile ─→ Snapshot ─┬─ admit ─→ Permit ─┬─ decide ─→ Verdict
//! policies, law, catalogue               │                   └─ reveal ─→ Masks
//!                                        ├─ may: approving, listing, replaying, ending sessions
//!                                        └─ judge: all of it, for `weir policy explain`
//! ```
//!
//! - [`snapshot`]: one compiled version of policies, law and catalogue facts; its digest stands in
//!   every entry that it decided
//! - [`admit`](admit()): the only maker of a [`Permit`]
//! - [`decide`](decide()): commands, holds and masks
//! - [`control`]: questions of the control plane
//! - [`explain`]: the daemon's own verdict, by its own code
//! - [`transfer`]: the law
//! - `step_up`: the login that would turn a no into a yes; `agent`: never more than its person
//! - `rules` and `engine`: policy texts, and Cedar; `law` and `seat`: what a question rests on
//!
//! Every question is one request to Cedar, typed against `schema.cedarschema`. A forbid beats every
//! permit; without a permit the answer is no; **any error of the engine is a no**. The policies of
//! `base.cedar` are in the binary and cannot be switched off.
//!
//! A permit that does not name the effect "opaque" does not reach a command of which it cannot be
//! told what it does.
//!
//! Must not know: clocks, files, sockets, sessions, protocols, how an identity was proven.

pub mod admit;
pub mod control;
pub mod decide;
pub mod explain;
pub mod snapshot;
pub mod transfer;

mod agent;
mod engine;
mod law;
mod nesting;
mod rules;
mod seat;
mod step_up;
mod words;
mod writes;

pub use admit::Asked;
pub use admit::Permit;
pub use admit::admit;
pub use admit::readmit;
pub use control::Access;
pub use control::Allowed;
pub use control::Ask;
pub use control::Who;
pub use control::may;
pub use control::view;
pub use decide::Approval;
pub use decide::Standpoint;
pub use decide::decide;
pub use decide::reveal;
pub use decide::standpoint;
pub use explain::Judgement;
pub use explain::judge;
pub use rules::BadPolicy;
pub use snapshot::GatewayFacts;
pub use snapshot::Parts;
pub use snapshot::Snapshot;
pub use writes::write_transfer;

#[cfg(test)]
mod tests;
