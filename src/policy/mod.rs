//! Decisions: values in, values out, no clock, no I/O.

pub mod admit;
pub mod control;
pub mod decide;
pub mod explain;
pub mod snapshot;
pub mod transfer;

pub use admit::Asked;
pub use admit::Permit;
pub use admit::admit;
pub use admit::readmit;
pub use control::Ask;
pub use control::may;
pub use decide::Approval;
pub use decide::decide;
pub use decide::reveal;
pub use explain::Judgement;
pub use explain::judge;
pub use snapshot::BadPolicy;
pub use snapshot::GatewayFacts;
pub use snapshot::Parts;
pub use snapshot::Snapshot;

pub mod writes;
pub use writes::write_transfer;
