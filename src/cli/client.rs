//! Talks to a running gateway: its API with a credential, its OAuth endpoints without.

use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;

use crate::cli::args::Gateway;
use crate::cli::encode;
use crate::cli::home::Home;
use crate::cli::lines::Lines;
use crate::cli::print::tame;
use crate::cli::profile::Profile;
use crate::cli::profile::Profiles;
use crate::cli::wallet::Wallet;
use crate::model::Clock;
use crate::model::clock::System;
use crate::model::fault::Chain;
use crate::tls;
use crate::upstream::Configured;
use crate::upstream::Fetcher;

/// How long an answer may take that takes long to make, in milliseconds.
const PATIENT_MS_MAX: u64 = 300_000;

/// Why a call came to nothing; each has its exit code.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The command line, or a file, is wrong.
    #[error("{0}")]
    Usage(String),
    /// The gateway cannot be reached.
    #[error("{0}")]
    Unreached(String),
    /// The gateway said no.
    #[error("{0}")]
    Refused(String),
    /// A record is damaged.
    #[error("{0}")]
    Damaged(String),
}

/// A gateway to talk to; knows nobody's credential.
#[derive(Debug, Clone)]
pub(super) struct Link {
    base: String,
    host: String,
    port: u16,
    roots: tls::Roots,
    fetcher: Fetcher,
}

/// What an endpoint answered: its status, and its JSON.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Link {
    pub(super) fn new(profile: &Profile) -> Result<Self, CallError> {
        let base = profile.gateway.clone();
        let uri = base.parse::<http::Uri>().ok();
        let Some((uri, host)) = uri.as_ref().and_then(|uri| uri.host().map(|host| (uri, host)))
        else {
            return Err(CallError::Usage(format!("`{base}` is no URL of a gateway")));
        };
        let port = uri.port_u16().unwrap_or(443);
        let place = Configured::new("the gateway", host, port);
        let roots = match &profile.ca_file {
            Some(file) => tls::Roots::Bundle(tls::Pem::File(PathBuf::from(file))),
            None => tls::Roots::System,
        };
        tls::install();
        let client = tls::client(&roots, &[b"http/1.1"], None)
            .map_err(|error| CallError::Usage(Chain(&error).to_string()))?;
        let fetcher = Fetcher::new(place, Some(client));
        Ok(Self { host: host.to_owned(), port, base, roots, fetcher })
    }

    /// The gateway's URL, without a slash at the end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The host of the gateway's URL.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Who vouches for it.
    pub(super) fn roots(&self) -> &tls::Roots {
        &self.roots
    }

    /// What the gateway says of itself to anybody.
    pub(super) fn about(&self) -> Result<Value, CallError> {
        let answer = self.send(&Method::GET, "/.well-known/weir", None, None)?;
        if answer.status == 200 && answer.body.is_object() {
            Ok(answer.body)
        } else {
            Err(CallError::Refused(format!("{} is no gateway of this version", self.base)))
        }
    }

    /// Posts a form without a credential.
    pub(super) fn form(&self, path: &str, pairs: &[(&str, &str)]) -> Result<Answer, CallError> {
        let body = Bytes::from(encode::form(pairs));
        self.send(&Method::POST, path, None, Some(("application/x-www-form-urlencoded", body)))
    }

    /// Asks for something that comes line by line, in JSON.
    fn open(&self, path: &str, token: &SecretString) -> Result<Lines, CallError> {
        let (uri, request) = self.request(&Method::GET, path, Some(token))?;
        let runtime = runtime()?;
        let request = request
            .uri(uri)
            .body(Bytes::new())
            .map_err(|error| CallError::Usage(error.to_string()))?;
        let arriving = runtime.block_on(self.fetcher.open(request));
        Lines::begin(runtime, arriving.map_err(|error| unreached(&error))?)
    }

    /// A request to a path of the gateway, with its URL.
    fn request(
        &self,
        method: &Method,
        path: &str,
        token: Option<&SecretString>,
    ) -> Result<(http::Uri, http::request::Builder), CallError> {
        let url = format!("{}{path}", self.base);
        let uri = url
            .parse::<http::Uri>()
            .map_err(|error| CallError::Usage(format!("{url}: {error}")))?;
        let mut request = http::Request::builder().method(method);
        if let Some(token) = token {
            let mut value =
                http::HeaderValue::try_from(format!("Bearer {}", token.expose_secret().trim()))
                    .map_err(|_| CallError::Usage("the token is no token".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(http::header::AUTHORIZATION, value);
        }
        Ok((uri, request))
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        token: Option<&SecretString>,
        body: Option<(&str, Bytes)>,
    ) -> Result<Answer, CallError> {
        let (uri, mut request) = self.request(method, path, token)?;
        let mut content = Bytes::new();
        if let Some((kind, body)) = body {
            request = request.header(http::header::CONTENT_TYPE, kind);
            content = body;
        }
        let fetched = runtime()?
            .block_on(self.fetcher.call(&uri, request, content))
            .map_err(|error| unreached(&error))?;
        let body = serde_json::from_slice::<Value>(&fetched.body).unwrap_or(Value::Null);
        Ok(Answer { status: fetched.status, body })
    }
}

/// A runtime for one thing to do on this thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CallError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CallError::Unreached(error.to_string()))
}

/// A gateway's API, and who asks.
#[derive(Debug)]
pub(super) struct Client {
    link: Link,
    profile: Profile,
    home: Home,
    /// From `--token` or `WEIR_TOKEN`: goes before what is kept.
    given: Option<SecretString>,
}

impl Client {
    pub(super) fn new(gateway: &Gateway) -> Result<Self, CallError> {
        let home = Home::of_environment()?;
        let profile = Profiles::load(&home)?.choose(gateway)?;
        let link = Link::new(&profile)?;
        let given = gateway.token.clone().filter(|token| !token.expose_secret().trim().is_empty());
        Ok(Self { link, profile, home, given })
    }

    /// The same, which waits longer: for answers that take long to make.
    pub(super) fn patient(self) -> Self {
        let fetcher = self.link.fetcher.clone().within_ms(PATIENT_MS_MAX);
        Self { link: Link { fetcher, ..self.link }, ..self }
    }

    /// The way to the gateway.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The profile that was chosen.
    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Where things are kept.
    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// A credential that is good for some minutes at least.
    pub(super) fn token(&self) -> Result<SecretString, CallError> {
        match &self.given {
            Some(token) => Ok(token.clone()),
            None => Wallet::open(&self.home, &self.profile)?.token(&self.link),
        }
    }

    /// Whether the credential was given, and is nobody's to renew.
    pub(super) fn is_given(&self) -> bool {
        self.given.is_some()
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(&Method::GET, path, None)
    }

    /// Asks for something that comes line by line.
    pub(super) fn lines(&self, path: &str) -> Result<Lines, CallError> {
        self.link.open(&format!("/api/v1{path}"), &self.token()?)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(&Method::POST, path, Some(body))
    }

    fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        let token = self.token()?;
        let body = body.map(|body| ("application/json", Bytes::from(body.to_string())));
        let answer = self.link.send(method, &format!("/api/v1{path}"), Some(&token), body)?;
        if (200..300).contains(&answer.status) {
            Ok(answer.body)
        } else {
            Err(CallError::Refused(problem(answer.status, &answer.body)))
        }
    }
}

/// That the gateway was not reached: why, and what to do about it.
pub(super) fn unreached(error: &(dyn std::error::Error + 'static)) -> CallError {
    let hint = match tls::doubt(error) {
        Some(tls::Doubt::Time) => format!(
            "the gateway's certificate is not good at {:.0}, which is the time here: if it is not, \
             set the clock",
            System.now()
        ),
        Some(tls::Doubt::Name) => {
            "use the name of the gateway that its certificate has, by --gateway".to_owned()
        }
        Some(tls::Doubt::Issuer) => {
            "name the file of the authority that you know to have signed its certificate, by \
             --ca-file"
                .to_owned()
        }
        None => "see that the address is the gateway's, and that this machine can reach it; \
                 another one is named by --gateway"
            .to_owned(),
    };
    CallError::Unreached(format!("{}\nhint: {hint}", Chain(error)))
}

/// A refusal in words: the reason, the rules, what to do.
pub(super) fn problem(status: u16, answer: &Value) -> String {
    let word = |name: &str| answer.get(name).and_then(Value::as_str);
    // `error_description` and `error` are OAuth's words (RFC 6749 §5.2).
    let detail = word("detail").or_else(|| word("error_description")).or_else(|| word("error"));
    let mut text = detail.map_or_else(|| format!("the gateway answered {status}"), tame);
    let rules = answer.get("rules").and_then(Value::as_array).into_iter().flatten();
    let rules = rules.filter_map(Value::as_str).collect::<Vec<_>>();
    if !rules.is_empty() {
        text.push_str(" [");
        text.push_str(&rules.join(", "));
        text.push(']');
    }
    if let Some(hint) = word("hint") {
        text.push_str("\nhint: ");
        text.push_str(&tame(hint));
    }
    text
}
