//! The sockets: limits, the PROXY header, what a connection speaks, and draining.
//!
//! Knows addresses and first bytes; knows nobody by name and no target.
//!
//! ```text
//! Listener::accept → Incoming::begin → Accepted ─ Spoken::Tls ─→ tls → detect_tls
//!       limits        PROXY header,               Spoken::Ssh
//!                     first bytes                 Spoken::Postgres
//! ```
//!
//! - [`socket`]: accepting connections, and what each of them has to get through first
//! - [`limits`]: every bound, and counting connections against them
//! - [`proxy`]: the PROXY protocol's header, version 2
//! - [`detect`]: what a connection speaks, told by its first bytes
//! - [`prefixed`]: a stream that gives back what was read ahead
//! - [`drain`]: ending in good order
//! - [`origin`]: the country of an address, and [`country`], what databases say of it

pub mod country;
pub mod detect;
pub mod drain;
pub mod limits;
pub mod origin;
pub mod prefixed;
pub mod proxy;
pub mod socket;

pub use detect::DetectError;
pub use detect::Spoken;
pub use detect::SpokenInTls;
pub use detect::detect_tls;
pub use drain::Drain;
pub use drain::Running;
pub use limits::Limits;
pub use limits::Slot;
pub use origin::Networks;
pub use prefixed::Prefixed;
pub use socket::Accepted;
pub use socket::BeginError;
pub use socket::BindError;
pub use socket::Incoming;
pub use socket::Listener;
pub use socket::Options;
pub use socket::Proxy;
