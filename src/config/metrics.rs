//! `[metrics]`: where the gateway shows what it measures of itself.

use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;

/// `[metrics]`: where the gateway shows what it measures of itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// The address to listen on, with plain HTTP. Left out: nowhere.
    pub address: Option<Spanned<SocketAddr>>,
}
