//! One principal at one target: the guard every command passes, and what surrounds it.
//!
//! ```text
//! login     claim → Verified → target → policy.admit → record → Admitted { guard, target }
//! guard     command → policy.decide → record → Cleared;   answer → masks → account → Released
//! hold      commands that wait for somebody's approval
//! registry  the sessions that live now: who sees them, who ends them
//! ```
//!
//! Knows no concrete protocol: a protocol brings its frames as `F` and its answers as
//! [`guard::Answer`], and gets proofs back.

pub mod guard;
pub mod handoff;
pub mod hold;
pub mod invitation;
pub mod login;
pub mod page;
pub mod registry;
#[cfg(test)]
pub(crate) mod testing;

pub use crate::identity::Assertions;
pub use crate::identity::Claim;
pub use crate::identity::Verified;
pub use crate::identity::Wanted;
pub use crate::identity::fresh_secret;
pub use guard::Asked;
pub use guard::Cleared;
pub use guard::Guard;
pub use guard::Held;
pub use guard::Released;
pub use guard::Running;
pub use guard::Settled;
pub use hold::Decision;
pub use hold::Desk;
pub use invitation::Asks;
pub use invitation::Invitation;
pub use invitation::Invitations;
pub use login::Admitted;
pub use login::Gateway;
pub use login::Version;
pub use registry::EndReason;
pub use registry::Registry;
