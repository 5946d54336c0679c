//! The demo's identity provider: discovery and keys on loopback, and a token for everybody.
//!
//! It has no login: whoever started the demo is given everybody's token.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::demo::DemoError;
use crate::identity::DISCOVERY_PATH;
use crate::identity::JWKS_PATH;
use crate::identity::LocalIssuer;
use crate::model::Clock;
use crate::model::clock;

/// The gateway's name at the provider.
pub(super) const AUDIENCE: &str = "weir";
/// How long a token is good, in seconds.
const TOKEN_S: i64 = 12 * 60 * 60;
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to say what it wants, in seconds.
const HEADER_S_MAX: u64 = 5;

/// Somebody invented.
pub(super) struct Person {
    /// Their name.
    pub(super) name: &'static str,
    /// What they do, for people.
    pub(super) does: &'static str,
    roles: &'static [&'static str],
    entity: &'static str,
}

/// Everybody there is.
pub(super) const PEOPLE: [Person; 4] = [
    Person {
        name: "alice",
        does: "engineer at Acme GmbH",
        roles: &["engineer"],
        entity: "acme-de",
    },
    Person {
        name: "dana",
        does: "database administrator and approver at Acme GmbH",
        roles: &["dba", "approver"],
        entity: "acme-de",
    },
    Person {
        name: "olaf",
        does: "data protection officer of Acme GmbH",
        roles: &["dpo"],
        entity: "acme-de",
    },
    Person {
        name: "mei",
        does: "engineer at the sister company in Singapore",
        roles: &["engineer"],
        entity: "acme-sg",
    },
];

/// A token, and whose it is.
#[derive(Clone)]
pub(super) struct Token {
    /// Whose.
    pub(super) name: &'static str,
    /// The token: a secret.
    pub(super) text: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The provider, which listens but does not serve yet.
#[derive(Debug)]
pub(super) struct Provider {
    listener: TcpListener,
    issuer: LocalIssuer,
}

impl Provider {
    /// A provider on a free port, with a fresh key.
    pub(super) async fn bind() -> Result<Self, DemoError> {
        let bind = |source| DemoError::Start { what: "the identity provider", source };
        let listener = TcpListener::bind(super::server::loopback(0)).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let issuer = LocalIssuer::new(format!("http://{address}")).map_err(DemoError::Issuer)?;
        Ok(Self { listener, issuer })
    }

    /// Its issuer.
    pub(super) fn issuer(&self) -> &str {
        self.issuer.issuer()
    }

    /// A token for everybody, good for twelve hours from now.
    pub(super) fn tokens(&self) -> Result<Vec<Token>, DemoError> {
        let now_s = clock::System.now().as_second();
        let token = |person: &Person| {
            let text = self.issuer.mint(&claims(person, now_s)).map_err(DemoError::Issuer)?;
            Ok(Token { name: person.name, text })
        };
        PEOPLE.iter().map(token).collect()
    }

    /// Serves discovery and keys.
    pub(super) async fn serve(self) {
        let documents = Arc::new(Documents {
            discovery: self.issuer.discovery().to_string().into(),
            jwks: self.issuer.jwks().to_string().into(),
        });
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Ends its tasks when this future is dropped.
        let mut connections = JoinSet::new();
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let documents = Arc::clone(&documents);
            connections.spawn(async move {
                let _slot = slot;
                let answer = service_fn(move |request: http::Request<Incoming>| {
                    let response = documents.answer(request.method(), request.uri().path());
                    async move { Ok::<_, Infallible>(response) }
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

/// What the claims say; the demo's configuration maps them.
fn claims(person: &Person, now_s: i64) -> Map<String, Value> {
    let claims = json!({
        "sub": person.name,
        "aud": AUDIENCE,
        "iat": now_s,
        "exp": now_s.saturating_add(TOKEN_S),
        "preferred_username": person.name,
        "groups": person.roles,
        "company": person.entity,
    });
    match claims {
        Value::Object(claims) => claims,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

struct Documents {
    discovery: Bytes,
    jwks: Bytes,
}

impl Documents {
    fn answer(&self, method: &http::Method, path: &str) -> http::Response<Full<Bytes>> {
        let document = match path {
            DISCOVERY_PATH => Some(&self.discovery),
            JWKS_PATH => Some(&self.jwks),
            _ => None,
        };
        let (status, body) = match document {
            Some(body) if method == http::Method::GET => (http::StatusCode::OK, body.clone()),
            Some(_) => (http::StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
            None => (http::StatusCode::NOT_FOUND, Bytes::new()),
        };
        let mut response = http::Response::new(Full::new(body));
        *response.status_mut() = status;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::LOCAL_TOKEN_BYTES_MAX;

    #[tokio::test]
    async fn everybody_has_a_token_that_every_client_can_carry() {
        let tokens = Provider::bind().await.unwrap().tokens().unwrap();
        assert_eq!(tokens.len(), PEOPLE.len());
        for token in &tokens {
            assert!(token.text.len() < LOCAL_TOKEN_BYTES_MAX, "{}", token.text.len());
            assert!(!format!("{token:?}").contains(&token.text));
        }
    }

    #[tokio::test]
    async fn it_serves_its_documents_and_nothing_else() {
        use tokio::io::AsyncReadExt;
        use tokio::io::AsyncWriteExt;

        let provider = Provider::bind().await.unwrap();
        let port = provider.listener.local_addr().unwrap().port();
        let issuer = provider.issuer().to_owned();
        let task = tokio::spawn(provider.serve());
        for (request, status, body) in [
            (format!("GET {DISCOVERY_PATH}"), "200", issuer.as_str()),
            (format!("GET {JWKS_PATH}"), "200", "\"kid\""),
            ("GET /".to_owned(), "404", ""),
            (format!("POST {JWKS_PATH}"), "405", ""),
        ] {
            let mut stream = crate::demo::server::connect(port).await.unwrap();
            let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
            assert!(answer.contains(body), "{request}: {answer}");
        }
        task.abort();
    }
}
