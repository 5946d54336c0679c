//! What a client shows to say who it is, and what for; nothing of it is believed yet.

use std::fmt;
use std::net::IpAddr;

use crate::model::login::Use;

/// What a client shows to say who it is. Protocols carry it; only this module verifies it.
#[derive(Clone, Copy)]
pub enum Claim<'a> {
    /// A password, a bearer, an answer: a session credential (`weir_s_…`), or a provider's token.
    Secret(&'a str),
    /// An X.509 client certificate, DER, whose key the TLS handshake proved.
    Certificate {
        /// The certificate.
        der: &'a [u8],
        /// The handshake found it signed by the `access` authority, for clients, and in its time.
        ours: bool,
    },
    /// An OpenSSH certificate whose key the SSH handshake proved.
    SshCertificate {
        /// The certificate as it came over the wire.
        blob: &'a [u8],
        /// Where the client connects from.
        address: IpAddr,
    },
    /// A browser's cookie.
    Cookie {
        /// Its value.
        secret: &'a str,
        /// The host that it was sent to.
        host: &'a str,
    },
}

impl Claim<'_> {
    /// The word in the log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Secret(_) => "a token or session credential",
            Self::Certificate { .. } => "a client certificate",
            Self::SshCertificate { .. } => "an SSH certificate",
            Self::Cookie { .. } => "a cookie",
        }
    }
}

/// Says what kind of claim it is and never what it says: it may be a secret.
impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({})", self.word())
    }
}

/// What a claim is shown for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    /// For the API, or for a target of which protocol.
    pub usage: Use,
    /// For which target.
    pub target: Option<&'a str>,
    /// Whether a provider's own token counts here.
    pub tokens: bool,
}
