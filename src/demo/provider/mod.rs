//! The demo's identity provider, on loopback: a token for everybody, and a sign-in that asks for no
//! password.
//!
//! ```text
//! GET  /authorize   a page with a button for everybody        ┐ the authorization code flow,
//! POST /authorize   back to the gateway with a code           │ with PKCE
//! POST /token       a code or a refresh token for an id token ┘
//! POST /end         person=alice: ends their logins here; gives logout tokens for the gateway
//! POST /roles       person=alice&roles=dba,approver: other roles from now on
//! ```

mod desk;
mod form;
mod page;
mod people;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::demo::DemoError;
use crate::demo::provider::desk::Desk;
use crate::demo::provider::desk::Fields;
use crate::demo::provider::desk::NoToken;
use crate::demo::provider::desk::Unasked;
use crate::demo::provider::people::Person;
use crate::identity::AUTHORIZATION_PATH;
use crate::identity::DISCOVERY_PATH;
use crate::identity::JWKS_PATH;
use crate::identity::LocalIssuer;
use crate::identity::TOKEN_PATH;
use crate::model::Clock;
use crate::model::clock;

pub(super) use crate::demo::provider::people::PEOPLE;
pub(super) use crate::demo::provider::people::Token;

/// The gateway's name at the provider.
pub(super) const AUDIENCE: &str = "weir";
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to say what it wants, in seconds.
const HEADER_S_MAX: u64 = 5;
/// Longest form that is read, in bytes.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// The provider, which listens but does not serve yet.
#[derive(Debug)]
pub(super) struct Provider {
    listener: TcpListener,
    desk: Desk,
}

impl Provider {
    /// A provider on a free port, with a fresh key.
    pub(super) async fn bind() -> Result<Self, DemoError> {
        let bind = |source| DemoError::Start { what: "the identity provider", source };
        let listener = TcpListener::bind(super::server::loopback(0)).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let issuer = LocalIssuer::new(format!("http://{address}")).map_err(DemoError::Issuer)?;
        Ok(Self { listener, desk: Desk::new(issuer) })
    }

    /// Its issuer.
    pub(super) fn issuer(&self) -> &str {
        self.desk.issuer().issuer()
    }

    /// A token for everybody, good for twelve hours from now.
    pub(super) fn tokens(&self) -> Result<Vec<Token>, DemoError> {
        let now_s = clock::System.now().as_second();
        let token = |person: &Person| {
            let claims = person.claims(&self.desk.roles(person), now_s);
            let text = self.desk.issuer().mint(&claims).map_err(DemoError::Issuer)?;
            Ok(Token { name: person.name, text })
        };
        PEOPLE.iter().map(token).collect()
    }

    /// Serves until it is dropped.
    pub(super) async fn serve(self) {
        let desk = Arc::new(self.desk);
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Ends its tasks when this future is dropped.
        let mut connections = JoinSet::new();
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let desk = Arc::clone(&desk);
            connections.spawn(async move {
                let _slot = slot;
                let answer = service_fn(move |request: http::Request<Incoming>| {
                    let desk = Arc::clone(&desk);
                    async move { Ok::<_, Infallible>(answer(&desk, request).await) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(HEADER_S_MAX))
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "the identity provider");
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

// === Answers ===

/// What the provider says, before it is HTTP.
#[derive(Debug)]
enum Said {
    Json(StatusCode, Value),
    Page(StatusCode, String),
    Elsewhere(String),
}

async fn answer(desk: &Desk, request: http::Request<Incoming>) -> http::Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let fields = if head.method == Method::POST {
        let patience = Duration::from_secs(HEADER_S_MAX);
        let read = Limited::new(body, FORM_BYTES_MAX).collect();
        match tokio::time::timeout(patience, read).await {
            Ok(Ok(body)) => form::parse(&String::from_utf8_lossy(&body.to_bytes())),
            Ok(Err(_)) | Err(_) => {
                return response(Said::Page(StatusCode::BAD_REQUEST, page::refused("no form")));
            }
        }
    } else {
        form::parse(head.uri.query().unwrap_or_default())
    };
    response(said(desk, &head.method, head.uri.path(), &fields, clock::System.now().as_second()))
}

fn said(desk: &Desk, method: &Method, path: &str, fields: &Fields, now_s: i64) -> Said {
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let ok = |value| Said::Json(StatusCode::OK, value);
    let nobody = || Said::Json(StatusCode::BAD_REQUEST, json!({"error": "nobody has that name"}));
    match (path, method == Method::POST) {
        (DISCOVERY_PATH, false) => ok(desk.issuer().discovery()),
        (JWKS_PATH, false) => ok(desk.issuer().jwks()),
        (AUTHORIZATION_PATH, posted) => match desk.asked(fields) {
            Err(Unasked::Page(why)) => Said::Page(StatusCode::BAD_REQUEST, page::refused(why)),
            Err(Unasked::Client(back)) => Said::Elsewhere(back),
            Ok(asked) if posted => match desk.chosen(asked, field("person"), now_s) {
                Some(back) => Said::Elsewhere(back),
                None => nobody(),
            },
            Ok(_) => Said::Page(StatusCode::OK, page::people(fields)),
        },
        (TOKEN_PATH, true) => match desk.token(fields, now_s) {
            Ok(answer) => ok(answer),
            Err(NoToken(error)) => Said::Json(StatusCode::BAD_REQUEST, json!({ "error": error })),
        },
        ("/end", true) => match desk.end(field("person"), now_s) {
            Ok(tokens) => ok(json!({ "logout_tokens": tokens })),
            Err(error) => {
                let error = json!({ "error": error.to_string() });
                Said::Json(StatusCode::INTERNAL_SERVER_ERROR, error)
            }
        },
        ("/roles", true) if desk.change(field("person"), field("roles")) => ok(json!({})),
        ("/roles", true) => nobody(),
        (DISCOVERY_PATH | JWKS_PATH | TOKEN_PATH | "/end" | "/roles", _) => {
            Said::Json(StatusCode::METHOD_NOT_ALLOWED, json!({}))
        }
        _ => Said::Json(StatusCode::NOT_FOUND, json!({})),
    }
}

fn response(said: Said) -> http::Response<Full<Bytes>> {
    let (status, kind, body, elsewhere) = match said {
        Said::Json(status, value) => (status, "application/json", value.to_string(), None),
        Said::Page(status, page) => (status, "text/html; charset=utf-8", page, None),
        // 303: the browser comes back with GET, and brings no form along.
        Said::Elsewhere(url) => (StatusCode::SEE_OTHER, "text/plain", String::new(), Some(url)),
    };
    let mut response = http::Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // RFC 6749 §5.1.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    if let Some(url) = elsewhere.and_then(|url| HeaderValue::try_from(url).ok()) {
        headers.insert(header::LOCATION, url);
    }
    response
}

#[cfg(test)]
mod tests;
