//! A target's own log against the record: what one has and the other has not.
//!
//! ```text
//! lines ─▶ parser of the log ─▶ entries ─┐
//!                                        ├─▶ matcher ─▶ Report
//! trail events ─▶ RecordedSession ───────┘
//! ```
//!
//! The link between the two is what the gateway knows a connection by and the target logs: the
//! number of the backend and the gateway's own port (PostgreSQL), the port (sshd), the `Audit-ID`
//! that the gateway chose (Kubernetes). Where a session's connections are nowhere in the log,
//! because something stands in between, the same text at the same time counts, and the report says
//! how often it had to.
//!
//! Values in, values out: it opens no file, and does not know how recordings are kept.

pub mod kubernetes;
pub mod lines;
pub mod options;
pub mod postgres;
mod recorded;
mod report;
pub mod sshd;
mod time;
#[cfg(test)]
mod tests;

pub use lines::Line;
pub use lines::Lines;
pub use lines::Taken;
pub use options::Options;
pub use options::Pattern;
pub use recorded::Fate;
pub use recorded::RecordedCommand;
pub use recorded::RecordedLeg;
pub use recorded::RecordedSession;
pub use report::Finding;
pub use report::InLog;
pub use report::InRecord;
pub use report::Kind;
pub use report::Report;
pub use time::LogTime;
