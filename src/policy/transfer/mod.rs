//! The transfer decision: does this flow move personal data across a border, and on what basis?
//!
//! A pure function: values in, values out; the day is an input. [`decide`] takes a [`Flow`], the law
//! as data ([`Pack`]) and the customer's register of legal bases ([`Basis`]), and answers with an
//! [`Outcome`] for each leg (the person, the gateway, the recording, other copies, on a write the target) under
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
//! - Whom a law sees as foreign is its test: another **entity** outside its zone, any **place** outside,
//!   or the **status** of a person (28 CFR 202). Some count: numbers are declared, and one that is not
//!   counts as higher than every threshold. Some say what has to stay.
//!
//! | file | step |
//! |---|---|
//! | `flow`, `basis`, `facts` | what is asked, what is on file, what an entity may declare |
//! | `decide` | 1 known?, 2 which way?, 3 which laws?, 4 legs, 10 until when |
//! | `under`, `status` | 5 the person, 6 machines |
//! | `cover`, `count` | 7 a basis, 8 numbers |
//! | `decision` | 9 all combined, in words |
//! | `rows`, `grounds`, `limits`, `pack`, `check` | the law as data: `pack/*.toml` |
//! | `expiring` | what ends soon |
//!
//! **This is engineering input, not legal advice.** The pack holds the laws of the EU, the United
//! Kingdom, Switzerland, Brazil, China, India, the United States (28 CFR 202), Russia and Saudi Arabia,
//! and two rules of a customer's own. Another law is rows, as far as the words of the rows can say it; a
//! row with a word that the decision does not know does not load.
//!
//! Must not know: policies, targets' addresses, sessions, clocks, files.

mod basis;
mod check;
mod count;
mod cover;
mod decide;
mod decision;
mod expiring;
mod facts;
mod flow;
mod grounds;
mod limits;
mod pack;
mod rows;
mod status;
mod under;

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
pub use expiring::Ends;
pub use expiring::Expiring;
pub use expiring::WARNED_DAYS_BEFORE;
pub use expiring::expiring;
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
