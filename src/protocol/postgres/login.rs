//! How a client proves who it is, once it has asked for a session: by the certificate that it showed
//! in TLS; else by what it chose with `weir.auth`; else by what its target is set to.
//!
//! ```text
//! certificate ─────────────────────────────────────────────► shown
//! password   AuthenticationCleartextPassword ─ password ───► shown
//! oauth      AuthenticationSASL ─ OAUTHBEARER with a token ─► shown
//!                               └ without one ─► challenge: where to get one; the client comes back
//! ```
//!
//! It carries claims and can verify none.

use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use zeroize::Zeroizing;

use crate::model::Refusal;
use crate::model::login::Presented;
use crate::protocol::postgres::hello::Asked;
use crate::protocol::postgres::hello::HelloError;
use crate::protocol::postgres::hello::send;
use crate::protocol::postgres::hello::told;
use crate::protocol::postgres::refuse::Words;
use crate::protocol::postgres::sasl;
use crate::protocol::postgres::sasl::Initial;
use crate::protocol::postgres::wire::Build;
use crate::session::Claim;
use crate::target::PostgresAuth;

/// Longest password message, in bytes: a token must fit.
pub const PASSWORD_BYTES_MAX: usize = 65_535;

/// What a client shows to say who it is; nothing of it is believed yet.
#[derive(Debug)]
pub enum Shown {
    /// The certificate of its TLS handshake.
    Certificate(Presented),
    /// A password.
    Password(SecretString),
    /// A bearer token, in OAUTHBEARER.
    Bearer(SecretString),
    /// Nothing yet: it asks, in OAUTHBEARER, where to get a token.
    Nothing,
}

impl Shown {
    /// As what is verified; `None`: there is nothing to verify.
    pub fn claim(&self) -> Option<Claim<'_>> {
        match self {
            Self::Certificate(Presented { der, ours }) => {
                Some(Claim::Certificate { der, ours: *ours })
            }
            Self::Password(secret) | Self::Bearer(secret) => {
                Some(Claim::Secret(secret.expose_secret()))
            }
            Self::Nothing => None,
        }
    }

    /// A refusal of this, with what a PostgreSQL client can do about it.
    pub fn refused(&self, refusal: Refusal) -> Refusal {
        match self {
            // Clients show whatever certificate lies in its usual place: that has to be said.
            Self::Certificate(Presented { ours: false, .. }) => Refusal {
                reason: "the client certificate is not one of this gateway's, or its time is over"
                    .to_owned(),
                ..refusal
            }
            .hint("connect as `weir psql --print` shows, or without it: sslcertmode=disable"),
            Self::Certificate(_) | Self::Password(_) | Self::Bearer(_) | Self::Nothing => refusal,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Asked<S> {
    /// Takes what the client shows; `way`: what its target is set to.
    pub async fn prove(&mut self, way: PostgresAuth) -> Result<Shown, HelloError> {
        if let Some(negotiation) = self.startup.negotiation() {
            send(&mut self.stream, &negotiation).await?;
        }
        if let Some(certificate) = self.certificate.take() {
            return Ok(Shown::Certificate(certificate));
        }
        match self.startup.auth.unwrap_or(way) {
            PostgresAuth::Password => self.password().await.map(Shown::Password),
            PostgresAuth::Oauth => self.bearer().await,
        }
    }

    /// Tells a client in OAUTHBEARER that it has no good token and where to get one, and waits for
    /// its word that it has heard (RFC 7628 §3.2.3). The refusal is said behind this.
    pub async fn challenge(&mut self, url: &str) -> Result<(), HelloError> {
        let challenge = Build::new(b'R').int32(11).raw(sasl::challenge(url).as_bytes()).done();
        send(&mut self.stream, challenge.bytes()).await?;
        match self.proof(1).await?.as_slice() {
            [sasl::SEPARATOR] => Ok(()),
            _ => Err(self.broken("invalid answer to an OAUTHBEARER error").await),
        }
    }

    /// A session credential or a provider's token (`AuthenticationCleartextPassword`).
    async fn password(&mut self) -> Result<SecretString, HelloError> {
        let ask = Build::new(b'R').int32(3).done();
        send(&mut self.stream, ask.bytes()).await?;
        let body = self.proof(PASSWORD_BYTES_MAX).await?;
        let password = body.strip_suffix(b"\0").filter(|text| !text.contains(&0));
        let password = password.and_then(|text| std::str::from_utf8(text).ok());
        match password {
            Some(password) => Ok(SecretString::from(password.to_owned())),
            None => Err(self.broken("invalid password message").await),
        }
    }

    /// OAUTHBEARER up to the client's token (`AuthenticationSASL`).
    async fn bearer(&mut self) -> Result<Shown, HelloError> {
        let ask = Build::new(b'R').int32(10).string(sasl::OAUTHBEARER).byte(0).done();
        send(&mut self.stream, ask.bytes()).await?;
        let body = self.proof(PASSWORD_BYTES_MAX).await?;
        let initial = match Initial::of(&body) {
            Ok(initial) if initial.mechanism == sasl::OAUTHBEARER.as_bytes() => initial,
            Ok(_) => return Err(self.broken("only OAUTHBEARER was offered").await),
            Err(invalid) => return Err(self.broken(&invalid.to_string()).await),
        };
        let asked_for;
        let message = if let Some(message) = initial.data {
            message
        } else {
            // A client without a first message is asked for it (RFC 4422 §5.1).
            let empty = Build::new(b'R').int32(11).done();
            send(&mut self.stream, empty.bytes()).await?;
            asked_for = self.proof(PASSWORD_BYTES_MAX).await?;
            &asked_for
        };
        match sasl::shown(message, &self.startup.user) {
            Ok(sasl::Shown::Token(token)) => Ok(Shown::Bearer(token)),
            Ok(sasl::Shown::Nothing) => Ok(Shown::Nothing),
            Err(invalid) => Err(self.broken(&invalid.to_string()).await),
        }
    }

    /// The body of the next message, which must be one of those that prove (`p`).
    async fn proof(&mut self, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, HelloError> {
        let tag = self.stream.read_u8().await?;
        let length = self.stream.read_u32().await?;
        let length = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
        let Some(length) = length.filter(|length| *length <= bytes_max && tag == b'p') else {
            return Err(self.broken("an authentication message was expected").await);
        };
        let mut body = Zeroizing::new(vec![0; length]);
        self.stream.read_exact(&mut body).await?;
        Ok(body)
    }

    async fn broken(&mut self, what: &str) -> HelloError {
        told(&mut self.stream, Words::new("08P01", what)).await
    }
}
