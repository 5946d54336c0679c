//! The HTTP API behind the command line, on the gateway's own name and the same port.
//!
//! Every call carries the caller's credential, every answer is decided by policy for the caller and
//! the place they call from, and whatever shows or changes something is in the ledger. The API
//! reaches no target and knows no protocol; text of a command is read by a [`Reader`] that it is
//! handed.

mod body;
mod browser;
mod certificates;
mod check;
mod credentials;
mod entries;
mod explain;
mod fail;
mod filter;
mod ledger;
mod look;
mod note;
mod oauth;
mod pages;
mod purpose;
mod rates;
mod record;
mod requests;
mod retention;
mod search;
mod sessions;
mod signing;
mod source;
mod stream;
mod table;
mod transfer;
mod viewers;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::State;
use axum::http::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tower::ServiceExt;

use crate::audit::LedgerEvent;
use crate::audit::archive::Archive;
use crate::identity::Claim;
use crate::identity::Verified;
use crate::model::Command;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Refusal;
use crate::model::TargetFacts;
use crate::model::TargetName;
use crate::model::fault::Chain;
use crate::model::login::Use;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::policy;
use crate::policy::Allowed;
use crate::session::Gateway;
use crate::store::Reindex;
use crate::store::Store;

use fail::Fail;
use purpose::Purpose;

pub use signing::Signing;
pub use viewers::Viewers;

/// Longest body of a call, in bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Reads the text of a command for `weir policy explain`, in the words of the target's protocol.
pub trait Reader: Send + Sync + std::fmt::Debug {
    /// What `text` would ask of `target` from a principal who has `masks`; or why it cannot be told.
    fn read<'a>(
        &'a self,
        target: &'a TargetName,
        text: &'a str,
        masks: &'a Masks,
    ) -> BoxFuture<'a, Result<Command, String>>;
}

/// What the API needs of the gateway.
#[derive(Debug)]
pub struct Resources {
    /// The way of a connection.
    pub gateway: Arc<Gateway>,
    /// The index of sessions and holds.
    pub store: Store,
    /// The region's store, and what reads recordings from it.
    pub archive: Arc<Archive>,
    /// Who makes the index again, where somebody asks for it.
    pub reindex: Arc<Reindex>,
    /// Who reads commands.
    pub reader: Arc<dyn Reader>,
    /// The gateway's SSH host key, as a line of OpenSSH's `known_hosts` has it.
    pub ssh_host_key: String,
    /// Who is in the midst of signing in.
    pub signing: Signing,
    /// Who reads a recording as a stream now.
    pub viewers: Viewers,
    /// Who searches now.
    pub searches: Viewers,
}

/// The API, ready to answer.
#[derive(Debug, Clone)]
pub struct Api {
    router: Router,
}

type Shared = State<Arc<Resources>>;

impl Api {
    /// The API of a gateway.
    pub fn new(resources: Resources) -> Self {
        Self::of(Arc::new(resources))
    }

    fn of(resources: Arc<Resources>) -> Self {
        let router = Router::new()
            .route("/oauth/authorize", get(oauth::authorize::authorize))
            .route("/oauth/signin", get(oauth::signin::signin))
            .route("/oauth/callback", get(oauth::signin::callback))
            .route("/oauth/confirm", get(oauth::confirm::show).post(oauth::confirm::answer))
            .route("/oauth/token", post(oauth::token::token))
            .route("/oauth/device_authorization", post(oauth::device::authorization))
            .route("/device", get(oauth::device::show).post(oauth::device::typed))
            .route("/oauth/revoke", post(oauth::logout::revoke))
            .route("/oauth/backchannel_logout", post(oauth::logout::by_provider))
            .route("/login", get(oauth::login::login))
            .route("/signin", get(oauth::signin::browser))
            .route("/logout", get(oauth::logout::show).post(oauth::logout::logout))
            .route("/.well-known/openid-configuration", get(oauth::discovery::metadata))
            .route("/.well-known/oauth-authorization-server", get(oauth::discovery::metadata))
            .route("/.well-known/weir", get(oauth::discovery::about))
            .route("/.well-known/weir/jwks.json", get(oauth::discovery::keys))
            .route("/api/v1/whoami", get(credentials::whoami))
            .route("/api/v1/certificates", post(certificates::issue))
            .route("/api/v1/ssh-certificates", post(certificates::issue_ssh))
            .route("/api/v1/credentials", get(credentials::list))
            .route("/api/v1/credentials/{id}/revoke", post(credentials::revoke))
            .route("/api/v1/logout", post(credentials::logout))
            .route("/api/v1/check-token", post(check::check))
            .route("/api/v1/targets", get(targets))
            .route("/api/v1/sessions", get(sessions::list))
            .route("/api/v1/sessions/search", get(search::search))
            .route("/api/v1/sessions/{id}", get(sessions::show))
            .route("/api/v1/sessions/{id}/stream", get(stream::stream))
            .route("/api/v1/sessions/{id}/kill", post(sessions::kill))
            .route("/api/v1/sessions/{id}/hold", post(retention::hold))
            .route("/api/v1/sessions/{id}/release", post(retention::release))
            .route("/api/v1/sessions/{id}/erase", post(retention::erase))
            .route("/api/v1/requests", get(requests::list))
            .route("/api/v1/requests/{id}", get(requests::show))
            .route("/api/v1/requests/{id}/approve", post(requests::approve))
            .route("/api/v1/requests/{id}/deny", post(requests::deny))
            .route("/api/v1/ledger", get(entries::list))
            .route("/api/v1/ledger/export", get(entries::export))
            .route("/api/v1/ledger/checkpoint", get(ledger::checkpoint))
            .route("/api/v1/ledger/receipts/{id}", get(ledger::receipt))
            .route("/api/v1/audit/status", get(record::status))
            .route("/api/v1/audit/reindex", get(record::reindexing).post(record::reindex))
            .route("/api/v1/policy/explain", post(explain::explain))
            .fallback(unknown_path)
            .with_state(resources);
        Self { router }
    }

    /// Answers one request of a caller from `origin`.
    pub async fn answer<B>(&self, origin: Origin, request: Request<B>) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Read first: over HTTP/2 an answer before the end of the body reads as a broken stream.
        let (head, body) = request.into_parts();
        let body = match body::whole(Body::new(body)).await {
            Ok(body) => body,
            Err(fail) => return fail.into_response(),
        };
        let mut request = Request::from_parts(head, Body::from(body));
        request.extensions_mut().insert(origin);
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Who calls, verified, and from where.
struct Caller {
    verified: Verified,
    origin: Origin,
}

impl Caller {
    fn principal(&self) -> &Arc<Principal> {
        self.verified.principal()
    }

    /// Asks policy.
    fn decide(&self, resources: &Resources, ask: &policy::Ask<'_>) -> Result<Allowed, Refusal> {
        let snapshot = Arc::clone(&resources.gateway.version().snapshot);
        let authentication = self.verified.authentication();
        let who = policy::Who {
            principal: self.principal(),
            origin: &self.origin,
            authentication: authentication.as_ref(),
        };
        policy::may(&snapshot, who, ask, resources.gateway.parts.clock.now())
    }

    /// Puts into the ledger what was asked and answered. What cannot be recorded is not done.
    fn note(
        &self,
        resources: &Resources,
        (action, of): (&str, String),
        purpose: Option<&str>,
        answer: &Result<Allowed, Refusal>,
    ) -> Result<(), Fail> {
        let event = LedgerEvent::Control {
            principal: Arc::clone(self.principal()),
            origin: self.origin.clone(),
            action: action.to_owned(),
            of,
            rules: answer.as_ref().map(|allowed| allowed.rules.clone()).unwrap_or_default(),
            refusal: answer.as_ref().err().cloned(),
            purpose: purpose.map(str::to_owned),
        };
        let recorded = resources.gateway.parts.audit.record(&event);
        recorded.map(drop).map_err(|error| {
            tracing::error!(fault = "gateway", "{}", Chain(&error));
            Fail(error.refusal())
        })
    }

    /// Asks policy, and puts the answer into the ledger when it concerns somebody's data or
    /// changes something.
    fn may(
        &self,
        resources: &Resources,
        ask: &policy::Ask<'_>,
        noted: Option<(&str, String)>,
    ) -> Result<Allowed, Fail> {
        let answer = self.decide(resources, ask);
        if let Some(noted) = noted {
            self.note(resources, noted, None, &answer)?;
        }
        answer.map_err(Fail)
    }

    /// Likewise, of a look at what somebody did. If that is not the caller, a purpose is needed as
    /// well as a permit.
    fn may_look(
        &self,
        resources: &Resources,
        ask: &policy::Ask<'_>,
        noted: (&str, String),
        (purpose, own): (&Purpose, bool),
    ) -> Result<Allowed, Fail> {
        let answer = self.decide(resources, ask);
        let answer = answer.and_then(|allowed| purpose.is_enough(own).map(|()| allowed));
        self.note(resources, noted, purpose.said(), &answer)?;
        answer.map_err(Fail)
    }

    /// Whether the caller may list everybody's sessions; a refusal if not even their own.
    fn may_list_all(&self, resources: &Resources) -> Result<bool, Fail> {
        if self.decide(resources, &policy::Ask::ListSessions { own_only: false }).is_ok() {
            return Ok(true);
        }
        self.may(resources, &policy::Ask::ListSessions { own_only: true }, None)?;
        Ok(false)
    }
}

impl FromRequestParts<Arc<Resources>> for Caller {
    type Rejection = Fail;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Resources>) -> Result<Self, Fail> {
        let origin = parts.extensions.get::<Origin>().cloned().ok_or_else(no_credential)?;
        let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
        let (Some(header), None) = (headers.next(), headers.next()) else {
            return Err(no_credential());
        };
        let token = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(no_credential)?;
        let claim = Claim::Secret(token);
        let verified = state.gateway.verify(&claim, Use::Control, None, &origin);
        let verified = verified.await.map_err(Fail)?;
        Ok(Self { verified, origin })
    }
}

fn no_credential() -> Fail {
    Fail(
        Refusal::new(RefusalCode::Unauthenticated, "this call carries no credential")
            .hint("sign in with `weir login`, or set WEIR_TOKEN"),
    )
}

async fn unknown_path() -> Fail {
    Fail(
        Refusal::new(RefusalCode::NoTarget, "the API has no such path")
            .hint("use the `weir` command line of this gateway's version"),
    )
}

/// The targets that the caller may reach from where they are.
async fn targets(State(resources): Shared, caller: Caller) -> Json<Vec<Arc<TargetFacts>>> {
    let version = resources.gateway.version();
    let now = resources.gateway.parts.clock.now();
    let authentication = caller.verified.authentication();
    let who = policy::Who {
        principal: caller.principal(),
        origin: &caller.origin,
        authentication: authentication.as_ref(),
    };
    let may_connect = |facts: &Arc<TargetFacts>| {
        let judged = policy::judge(&version.snapshot, who, &facts.name, None, now);
        // Whoever would have to sign in again may know of it.
        judged.connect.admits() || judged.connect.asks_for_login()
    };
    let all = version.catalogue.targets().map(|target| Arc::clone(target.facts()));
    Json(all.filter(may_connect).collect())
}
