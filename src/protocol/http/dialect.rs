//! What is spoken over HTTP: plain HTTP itself, or an API with rules of its own.
//!
//! [`link`](super::link) drives every exchange the same way; a [`Dialect`] says what a request
//! means, where the target is, and how an answer is masked and a refusal worded. It moves no bytes
//! and makes no decision.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::Method;
use http::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::model::Command;
use crate::model::CommandId;
use crate::model::Fault;
use crate::model::HoldId;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::fault::Chain;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::session::guard::Withheld;
use crate::target::CredentialError;
use crate::target::PinError;
use crate::target::Pinned;
use crate::target::Target;
use crate::tls::TlsError;

/// What is spoken over HTTP to targets of one [`Protocol`].
pub trait Dialect: fmt::Debug + Send + Sync {
    /// The protocol of the targets that speak it.
    fn protocol(&self) -> Protocol;

    /// How much of a request's body has to be there before the request is read and decided.
    fn needs(&self, target: &Target, head: &Head) -> BodyNeed;

    /// What a request asks of `target`, or why it cannot be told.
    ///
    /// The path is forwarded as it stands in `head`, byte for byte, so whatever the target could
    /// read differently is refused here. What was understood but is not carried is a command with
    /// [`Command::unsupported`], so that it is recorded; an error is recorded as refused.
    ///
    /// Pure: read twice, a request gives the same command.
    fn read(&self, target: &Target, head: &Head, sent: Sent<'_>) -> Result<Reading, Refusal>;

    /// Where the target is now: asked before each dial.
    fn reach<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Place, Unreachable>>;

    /// Adds what the target signs the gateway in with, who asks where the target is to know, and by
    /// which id its log shall name the command, where it takes one.
    ///
    /// `headers` are the client's, already without its credentials, without hop-by-hop and
    /// forwarding headers, and, where the answer is masked, with `accept` and `accept-encoding`
    /// already set; what the dialect does not want forwarded it removes here.
    fn dress(
        &self,
        target: &Target,
        asker: (&Principal, CommandId),
        headers: &mut HeaderMap,
    ) -> Result<(), Unreachable>;

    /// Words a refusal in the way its clients read.
    fn word(&self, refusal: &Refusal, told: &Told<'_>) -> Worded;
}

/// A request's head, as it is read and decided. Nothing of it was decoded or normalized.
#[derive(Debug, Clone)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path, beginning with `/`: these very bytes are forwarded.
    pub path: String,
    /// What follows the first `?`, if there is one.
    pub query: Option<String>,
    /// The client's headers, without those that carry a credential of the gateway's, frame the
    /// message or belong to the connection.
    pub headers: HeaderMap,
    /// The client asked to go on in another protocol (`Upgrade`); [`link`](super::link) makes that
    /// [`Command::unsupported`] where the dialect did not.
    pub upgrade: bool,
}

impl Head {
    /// Path and query as they are forwarded.
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

/// How much of a request's body has to be there before the request is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyNeed {
    /// Up to [`HELD_BYTES_MAX`](super::HELD_BYTES_MAX), so that a hold sees its client leave. What
    /// is longer streams once allowed, and cannot be held.
    Begun,
    /// All of it: what is longer than [`HELD_BYTES_MAX`](super::HELD_BYTES_MAX) is refused (413).
    Whole,
}

/// What is there of a request's body when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent<'a> {
    /// There is no body.
    Nothing,
    /// All of it.
    Whole(&'a [u8]),
    /// It is longer than is buffered; this is how it begins.
    Longer(&'a [u8]),
}

/// What a request asks, and how its answer is masked.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The command. Its [`reads`](Command::reads) are the classes that the answer may carry: where
    /// all of them may be seen, the answer streams as it is; else it goes through the veil.
    pub command: Command,
    /// Who masks the answer, whatever its status, where a class may not be seen.
    pub veil: Veil,
}

/// How an answer is masked.
#[derive(Debug, Clone)]
pub enum Veil {
    /// It cannot be: a request whose answer would have to be masked is refused for this reason.
    None(String),
    /// It is one JSON document, buffered up to [`MASKED_BYTES_MAX`](super::MASKED_BYTES_MAX).
    Document(Arc<dyn Masker>),
    /// It is JSON documents that each end with a line feed, masked one by one as they come. An
    /// answer with a status other than 200 is one document.
    Lines(Arc<dyn Masker>),
}

/// Masks documents of one answer.
pub trait Masker: fmt::Debug + Send + Sync {
    /// Masks one whole document, or says why it cannot be. `status` is the answer's.
    fn mask(
        &self,
        masks: &Masks,
        status: StatusCode,
        document: &[u8],
    ) -> Result<MaskedDocument, Withheld>;
}

/// A document after masking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedDocument {
    /// What is left.
    pub document: Bytes,
    /// How many values were masked.
    pub masked: u64,
    /// How many records it holds: items of a list; 1 for a single object.
    pub rows: u64,
}

/// Where a target is and how it is spoken to.
#[derive(Clone)]
pub struct Place {
    /// Its checked addresses.
    pub pinned: Pinned,
    /// TLS and the name in the certificate; `None`: plain HTTP.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What stands in `Host`.
    pub authority: String,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.tls.as_ref().map(|(_, name)| name);
        f.debug_struct("Place")
            .field("pinned", &self.pinned)
            .field("tls", &tls)
            .field("authority", &self.authority)
            .finish()
    }
}

/// The target cannot be reached or signed in at.
#[derive(Debug, thiserror::Error)]
#[error("the target cannot be reached")]
pub struct Unreachable {
    /// Whose fault it is.
    pub fault: Fault,
    /// What the client is told.
    pub refusal: Refusal,
    /// Why, for the log.
    #[source]
    pub cause: Box<dyn Error + Send + Sync>,
}

impl Unreachable {
    /// A mistake in what the gateway was configured with, about which a client learns nothing.
    pub fn misconfigured(target: &Target, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let refusal = Refusal::new(
            RefusalCode::TargetFailed,
            format!("this gateway is not configured to reach {}", target.name()),
        )
        .hint("tell the platform team: the gateway's log says what is wrong");
        Self { fault: Fault::Gateway, refusal, cause: cause.into() }
    }

    /// An address that could not be pinned.
    pub fn pin(error: PinError) -> Self {
        Self { fault: error.fault(), refusal: error.refusal(), cause: Box::new(error) }
    }

    /// A credential that could not be read.
    pub fn credential(target: &Target, error: CredentialError) -> Self {
        Self::misconfigured(target, error)
    }

    /// A TLS configuration that could not be made.
    pub fn tls(target: &Target, error: TlsError) -> Self {
        Self::misconfigured(target, error)
    }

    /// Causes, for the log.
    pub fn chain(&self) -> String {
        Chain(self).to_string()
    }
}

/// Whom a refusal is told to.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The status of the answer.
    pub status: StatusCode,
    /// The request's head, as far as it was read.
    pub head: Option<&'a Head>,
    /// The target, as far as it is known.
    pub target: Option<&'a Target>,
    /// The session, once there is one.
    pub session: Option<SessionId>,
    /// The hold that the refusal ends.
    pub hold: Option<&'a HoldId>,
}

/// A refusal in words. Status, `cache-control` and challenge are the link's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worded {
    /// The body's media type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}
