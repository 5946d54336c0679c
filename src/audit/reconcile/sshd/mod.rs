//! sshd's log against sessions: logins, and what was begun in them.
//!
//! What was begun is there at `LogLevel VERBOSE`; which command line it was, sshd does not say.

mod entry;
mod matcher;

pub use entry::Entry;
pub use entry::Peer;
pub use entry::Read;
pub use entry::Says;
pub use entry::entries;
pub use matcher::Sshd;
