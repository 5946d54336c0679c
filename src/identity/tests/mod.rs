//! The verifier as a whole, against a provider that does what a test tells it to.

mod client;
mod explain;
mod hostile;
mod logout;
mod provider;
mod token;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::SignedDuration;
use jiff::Timestamp;
use jsonwebtoken::EncodingKey;
use openidconnect::url::form_urlencoded;
use secrecy::ExposeSecret;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::identity::DISCOVERY_PATH;
use crate::identity::Fetch;
use crate::identity::FetchError;
use crate::identity::Identity;
use crate::identity::IdentityError;
use crate::identity::JWKS_PATH;
use crate::identity::LocalIssuer;
use crate::identity::Options;
use crate::identity::OptionsError;
use crate::identity::ProviderOptions;
use crate::identity::Request;
use crate::identity::Response;
use crate::identity::Verified;
use crate::model::Clock;
use crate::model::clock::Standing;

const URL: &str = "https://id.example/realm";
const NOW_S: i64 = 1_700_000_000;

/// What was sent with secrets: where to, the header, the form.
#[derive(Debug, Clone)]
struct Sent {
    url: String,
    authorization: Option<String>,
    form: BTreeMap<String, String>,
}

/// A provider's web server.
struct Web {
    documents: Mutex<HashMap<String, Response>>,
    down: Mutex<bool>,
    sent: Mutex<Vec<Sent>>,
    asked: AtomicUsize,
    /// Requests are answered while there are permits.
    gate: Semaphore,
}

impl Web {
    fn new() -> Self {
        Self {
            documents: Mutex::default(),
            down: Mutex::default(),
            sent: Mutex::default(),
            asked: AtomicUsize::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }

    fn serve(&self, url: &str, document: &Value) {
        let body = document.to_string().into();
        self.documents.lock().unwrap().insert(url.to_owned(), Response { status: 200, body });
    }

    fn serve_issuer(&self, issuer: &LocalIssuer) {
        self.serve(&format!("{}{DISCOVERY_PATH}", issuer.issuer()), &issuer.discovery());
        self.serve(&format!("{}{JWKS_PATH}", issuer.issuer()), &issuer.jwks());
    }

    /// Answers at `url` with any status.
    fn answer(&self, url: &str, status: u16, body: &Value) {
        let body = body.to_string().into();
        self.documents.lock().unwrap().insert(url.to_owned(), Response { status, body });
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    fn go_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Fetch for Web {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Response, FetchError>> {
        async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            if *self.down.lock().unwrap() {
                return Err(FetchError::new("connection refused"));
            }
            let found = self.documents.lock().unwrap().get(url).cloned();
            Ok(found.unwrap_or(Response { status: 404, body: "".into() }))
        }
        .boxed()
    }

    fn send<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, FetchError>> {
        let form = request.form.as_ref().map(|form| form.expose_secret().to_owned());
        let form = form.unwrap_or_default();
        self.sent.lock().unwrap().push(Sent {
            url: request.url.clone(),
            authorization: request.authorization.as_ref().map(|s| s.expose_secret().to_owned()),
            form: form_urlencoded::parse(form.as_bytes()).into_owned().collect(),
        });
        self.get(&request.url)
    }
}

struct World {
    web: Arc<Web>,
    clock: Arc<Standing>,
    issuer: LocalIssuer,
    identity: Arc<Identity>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ProviderOptions)) -> Self {
        let web = Arc::new(Web::new());
        let clock = Arc::new(Standing::at(Timestamp::from_second(NOW_S).unwrap()));
        let issuer = LocalIssuer::new(URL).unwrap();
        web.serve_issuer(&issuer);
        let mut options = ProviderOptions::new(URL, "weir");
        change(&mut options);
        let options = Options { providers: vec![options] };
        let identity = identity(options, &web, &clock).unwrap();
        Self { web, clock, issuer, identity: Arc::new(identity) }
    }

    async fn verify(&self, token: &str) -> Result<Verified, IdentityError> {
        self.identity.verify(token).await.map(|signed_in| signed_in.verified)
    }

    /// Verifies a token that differs from a good one in `changes`; `null` takes a claim away.
    async fn verify_with(&self, changes: Value) -> Result<Verified, IdentityError> {
        self.verify(&sign(&self.issuer, &json!({}), &claims_with(&changes).to_string())).await
    }

    async fn refused_with(&self, changes: Value) -> IdentityError {
        let text = changes.to_string();
        self.verify_with(changes).await.err().unwrap_or_else(|| panic!("{text} was accepted"))
    }

    fn later(&self, seconds: i64) {
        self.clock.set(self.clock.now() + SignedDuration::from_secs(seconds));
    }
}

fn identity(
    options: Options,
    web: &Arc<Web>,
    clock: &Arc<Standing>,
) -> Result<Identity, OptionsError> {
    let fetch: Arc<dyn Fetch> = Arc::<Web>::clone(web);
    let clock: Arc<dyn Clock> = Arc::<Standing>::clone(clock);
    Identity::new(options, &fetch, &clock)
}

fn good_claims() -> Map<String, Value> {
    let claims = json!({
        "iss": URL, "sub": "u-1", "aud": "weir", "preferred_username": "alice",
        "iat": NOW_S, "exp": NOW_S + 600,
    });
    claims.as_object().unwrap().clone()
}

fn claims_with(changes: &Value) -> Value {
    let mut claims = good_claims();
    for (name, value) in changes.as_object().unwrap().clone() {
        if value.is_null() {
            claims.remove(&name);
        } else {
            claims.insert(name, value);
        }
    }
    Value::Object(claims)
}

fn token(issuer: &LocalIssuer) -> String {
    issuer.mint(&good_claims()).unwrap()
}

/// Signs exactly `payload` with the issuer's key, under a header that differs in `header`.
fn sign(issuer: &LocalIssuer, header: &Value, payload: &str) -> String {
    let mut all = json!({"alg": "ES256", "typ": "JWT", "kid": issuer.key_id()});
    all.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
    sign_as(issuer.key(), jsonwebtoken::Algorithm::ES256, &all.to_string(), payload)
}

fn sign_as(
    key: &EncodingKey,
    algorithm: jsonwebtoken::Algorithm,
    header: &str,
    payload: &str,
) -> String {
    let message = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn base64url(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            let sign = usize::try_from(group >> (18 - 6 * index) & 63).unwrap();
            text.push(char::from(SIGNS[sign]));
        }
    }
    text
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}
