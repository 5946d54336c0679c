//! The gateway's own host, asked as programs and browsers ask it, on a gateway in memory.

mod looking;
mod pages;
mod retention;
mod search;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::Request;
use axum::http::StatusCode;
use axum::http::request::Builder;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::api::Api;
use crate::api::Reader;
use crate::api::Resources;
use crate::api::Signing;
use crate::api::Viewers;
use crate::api::pages::in_url;
use crate::audit::Admission;
use crate::audit::entry::Opened;
use crate::audit::entry::TransferNote;
use crate::model::Command;
use crate::model::Origin;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::clock::System;
use crate::model::digest::Digest;
use crate::model::verdict::Masks;
use crate::session::testing::World;
use crate::store;
use crate::store::Store;

/// Whoever administers credentials.
const POLICIES: &str = r#"
@id("own-things") permit (principal, action == Weir::Action::"administer", resource)
when { principal.roles.contains("admin") };
"#;

#[derive(Debug)]
struct NoReader;

impl Reader for NoReader {
    fn read<'a>(
        &'a self,
        _: &'a TargetName,
        _: &'a str,
        _: &'a Masks,
    ) -> BoxFuture<'a, Result<Command, String>> {
        async { Err("this test reads none".to_owned()) }.boxed()
    }
}

/// The gateway's own host.
struct Site {
    world: World,
    api: Api,
    resources: Arc<Resources>,
}

/// An answer, read to its end.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The value of a field of its form.
    fn field(&self, name: &str) -> String {
        let begin = format!("name=\"{name}\" value=\"");
        let after = self.text.split_once(&begin).unwrap_or_else(|| panic!("{}", self.text)).1;
        after.split('"').next().unwrap().to_owned()
    }

    /// A parameter of where it leads.
    fn leads_with(&self, name: &str) -> Option<String> {
        let (_, query) = self.header("location").split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
    }
}

impl Site {
    async fn new() -> Self {
        Self::of(World::new(POLICIES, Vec::new()).await).await
    }

    async fn of(world: World) -> Self {
        let place = store::Place::Sqlite(world.dir().join("api.db"));
        let options = store::Options { gateway: "weir-test".to_owned(), place };
        let store = Store::open(&options, Arc::new(System)).await.unwrap();
        let resources = Arc::new(Resources {
            gateway: world.gateway(),
            archive: world.archive(store.clone()),
            store,
            reindex: Arc::default(),
            reader: Arc::new(NoReader),
            ssh_host_key: "ssh-ed25519 AAAA".to_owned(),
            signing: Signing::default(),
            viewers: Viewers::of_streams(),
            searches: Viewers::of_searches(),
        });
        let api = Api::of(Arc::clone(&resources));
        Self { world, api, resources }
    }

    async fn ask(&self, request: Request<Body>) -> Got {
        self.ask_from(request, World::origin()).await
    }

    async fn ask_from(&self, request: Request<Body>, origin: Origin) -> Got {
        let (head, body) = self.api.answer(origin, request).await.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        Got { status: head.status, headers: head.headers, text }
    }

    async fn get(&self, path: &str, cookie: &str) -> Got {
        let request = Request::get(path).header("cookie", cookie);
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    /// A form that a program sends.
    async fn form(&self, path: &str, pairs: &[(&str, &str)]) -> Got {
        self.ask(post(path, pairs).body(body(pairs)).unwrap()).await
    }

    /// A form that a browser sends from a page of the gateway's.
    async fn submit(&self, path: &str, cookie: &str, pairs: &[(&str, &str)]) -> Got {
        let request = post(path, pairs).header("cookie", cookie);
        let request = request.header("sec-fetch-site", "same-origin");
        self.ask(request.body(body(pairs)).unwrap()).await
    }

    /// A call with a credential.
    async fn call(&self, method: &str, path: &str, secret: &str, json: &Value) -> Got {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {secret}"));
        let body = if json.is_null() { Body::empty() } else { Body::from(json.to_string()) };
        self.ask(request.body(body).unwrap()).await
    }

    /// The answer of a token exchange.
    async fn exchange(&self, name: &str, more: &[(&str, &str)]) -> Value {
        let token = self.world.token(name, &["engineer"]);
        let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
        let mut pairs = vec![("grant_type", grant), ("subject_token", token.as_str())];
        pairs.extend(more);
        let got = self.form("/oauth/token", &pairs).await;
        assert_eq!(got.status, 200, "{}", got.text);
        got.json()
    }
}

fn post(path: &str, _pairs: &[(&str, &str)]) -> Builder {
    Request::post(path).header("content-type", "application/x-www-form-urlencoded")
}

fn body(pairs: &[(&str, &str)]) -> Body {
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", in_url(value)));
    Body::from(pairs.collect::<Vec<_>>().join("&"))
}

fn elsewhere() -> Origin {
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    Origin { address, ..World::origin() }
}

/// A session, to be admitted as it is.
pub(super) struct Session(pub(super) Opened);

impl Admission for Session {
    fn opened(&self) -> Opened {
        self.0.clone()
    }
}

/// A session of somebody's at a target, that is about to begin.
pub(super) fn opened(principal: Arc<Principal>, target: &str) -> Opened {
    Opened {
        session: SessionId::fresh(),
        principal,
        origin: World::origin(),
        target: target.parse().unwrap(),
        protocol: Protocol::Http,
        region: "here".parse().unwrap(),
        snapshot: Digest::ZERO,
        rules: Vec::new(),
        transfer: TransferNote { outcome: "none".into(), rows: Vec::new(), reason: String::new() },
        suppressed: false,
        observed: None,
        observe: false,
        proof: None,
        law: None,
    }
}
