//! How a target is verified: declared data, from which `tls` makes a configuration.

use std::fmt;

use crate::model::Host;

/// How a target is verified. There is nothing in between.
#[derive(Clone, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Certificate chain and name must be right (`verify-full`).
    Verified {
        /// Who vouches for the certificate, PEM. `None`: the system's roots.
        ca_pem: Option<Vec<u8>>,
        /// The name that must stand in the certificate.
        server_name: Host,
    },
    /// No TLS: every address of the target must be a loopback address.
    Off,
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified { ca_pem: Some(_), server_name } => {
                write!(f, "Verified({server_name}, own roots)")
            }
            Self::Verified { ca_pem: None, server_name } => {
                write!(f, "Verified({server_name}, system roots)")
            }
            Self::Off => f.write_str("Off"),
        }
    }
}
