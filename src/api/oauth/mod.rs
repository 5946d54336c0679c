//! Signing in: the gateway as an OAuth 2 authorization server for its own clients.
//!
//! ```text
//! program ─ authorize ──► browser ─► provider ─► callback ─► confirm (POST) ─► code ─┐
//! program ─ device_authorization ─► link, code ─► /device ─► provider ─► confirm ──┤
//! program ─ a provider's token ────────────────────────────────────────────────────┴► token
//! ```
//!
//! Clients are programs on people's machines and keep no secret (RFC 8252 §8.5): what protects them
//! is PKCE, a page that says who asks, and codes that count once.

pub(super) mod authorize;
pub(super) mod confirm;
pub(super) mod device;
pub(super) mod discovery;
pub(super) mod fail;
pub(super) mod login;
pub(super) mod logout;
pub(super) mod params;
pub(super) mod signin;
pub(super) mod token;

use crate::model::login::Device;

/// The client that signs in by a browser on the same machine.
pub(super) const CLIENT: &str = "weir-cli";

/// The device of a login, as its program calls it.
pub(super) fn device_of(origin: &crate::model::Origin, label: Option<String>) -> Device {
    Device { address: origin.address, label: label.unwrap_or_else(|| "a program".to_owned()) }
}
