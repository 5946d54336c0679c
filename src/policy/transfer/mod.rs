//! The transfer decision: does this flow move personal data across a border, and on what basis?
//!
//! A pure function: values in, values out; the day is an input. [`decide`] takes a [`Flow`], the law
//! as data ([`Pack`]) and the customer's register of legal bases ([`Basis`]), and answers with an
//! [`Outcome`] for each leg (the person, the gateway, the recording, on a write the target) under
//! each law, always with the rows that decided.
//!
//! ```text
//! flow ─ known? ─ which way? ─ which laws? ─┬─ person ────┐
//!        STEP-1    STEP-2        STEP-3     ├─ gateway ───┤ each: none | none+log |
//!                                           ├─ recording ─┤ transfer(rows) | forbidden(why, rows)
//!                                           └─ target ────┘ the strictest of all is the answer
//! ```
//!
//! - **Unknown is no.** A country, class or entity that is not known is refused. So is data in a
//!   country whose transfer law is not in the pack (`unknown-regime`): "none" would claim that its law
//!   allows the flow. Only a `no_regime` row, which is declared knowledge with a source, says that a
//!   country has no such law; it may name countries toward which even that is not known.
//! - Laws add, they never remove: a basis under one law never serves another.
//! - A law attaches where the data lies, where the exporter is established, and where the target
//!   declares it, because law follows the data. On a write the data comes from the country of the
//!   principal's entity.
//! - An employee of the exporter's own entity may travel (`none+log` under EU law); machines never
//!   "travel": a gateway abroad needs a basis, a recording abroad is always refused.
//! - What is declared (entities, certifications, contracts, assessments) is believed and cited as
//!   declared. Whether processing is lawful, or a contract was truly signed, is not answered here.
//!
//! **This is engineering input, not legal advice.** The pack holds EU law only: the zone, adequacy
//! decisions, and mechanisms of Art. 46, 47 and 49 GDPR. Another law is rows, as far as the words of
//! the rows can say it; a row with a word that the decision does not know does not load.
//!
//! Must not know: policies, targets' addresses, sessions, clocks, files.

mod basis;
mod cover;
mod decide;
mod decision;
mod flow;
mod pack;
mod rows;

pub use basis::Assessment;
pub use basis::Basis;
pub use basis::NeedsMask;
pub use decide::decide;
pub use decision::Decision;
pub use decision::Leg;
pub use decision::LegDecision;
pub use decision::Obligation;
pub use decision::Outcome;
pub use decision::Party;
pub use decision::Remedy;
pub use decision::Why;
pub use flow::Asker;
pub use flow::Data;
pub use flow::Flow;
pub use flow::Link;
pub use flow::Op;
pub use flow::Path;
pub use flow::Suppression;
pub use pack::BadPack;
pub use pack::PACK_BYTES_MAX;
pub use pack::Pack;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod properties;
