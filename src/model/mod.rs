//! The vocabulary: plain values that every other module speaks in.
//!
//! Values only: nothing here reads a clock, a file, a socket or the environment (the one exception
//! is [`clock::System`], the real clock behind a trait), and nothing here names another module of
//! this crate. Whoever wants to understand a signature elsewhere finds its words here:
//!
//! - [`name`]: names of targets, regions, rules, entities; identifiers of sessions and commands
//! - [`address`]: hosts and ports, as configured and not yet resolved
//! - [`place`]: countries, and how it became known where somebody is
//! - [`class`]: data classes such as `pii.email`
//! - [`principal`]: who asks
//! - [`target`]: what may be reached, as far as a decision needs to know it
//! - [`command`]: one thing asked of a target, its effects and the objects it touches
//! - [`verdict`]: policy's answer
//! - [`refusal`]: what a client is told when the answer is no
//! - [`fault`]: whose fault an error is, and how a chain of causes is printed
//! - [`clock`]: time, as an input
//! - [`digest`]: SHA-256 values as they stand in records
//! - [`encode`]: base 64
//! - [`login`]: what somebody has after signing in
//! - [`when`]: times as people name them

pub mod address;
pub mod class;
pub mod clock;
pub mod command;
pub mod digest;
pub mod encode;
pub mod fault;
pub mod login;
pub mod name;
pub mod place;
pub mod principal;
pub mod refusal;
pub mod target;
pub mod verdict;
pub mod when;

pub use address::Address;
pub use address::Host;
pub use class::DataClass;
pub use class::Declared;
pub use clock::Clock;
pub use command::Command;
pub use command::Effect;
pub use command::Object;
pub use fault::Fault;
pub use login::CredentialId;
pub use login::LoginId;
pub use name::CommandId;
pub use name::EntityId;
pub use name::HoldId;
pub use name::HostName;
pub use name::RegionName;
pub use name::RuleId;
pub use name::SessionId;
pub use name::TargetName;
pub use place::Country;
pub use place::Origin;
pub use principal::Principal;
pub use refusal::Refusal;
pub use target::LawFacts;
pub use target::Protocol;
pub use target::TargetFacts;
pub use verdict::Verdict;
