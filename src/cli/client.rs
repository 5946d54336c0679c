//! Talks to a running gateway's API.

use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::cli::args::Gateway;
use crate::model::fault::Chain;
use crate::tls;
use crate::upstream::Configured;
use crate::upstream::Fetcher;

/// Why a call came to nothing; each has its exit code.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The gateway cannot be reached.
    #[error("{0}")]
    Unreached(String),
    /// The gateway said no.
    #[error("{0}")]
    Refused(String),
}

/// A gateway to talk to.
#[derive(Debug)]
pub(super) struct Client {
    base: String,
    fetcher: Fetcher,
    token: String,
}

impl Client {
    pub(super) fn new(gateway: &Gateway) -> Result<Self, CallError> {
        let usage = |what: String| CallError::Usage(what);
        let token = gateway.token.clone().ok_or_else(|| {
            usage("WEIR_TOKEN is not set: export it with your provider's token".to_owned())
        })?;
        let base = gateway.url.trim_end_matches('/').to_owned();
        let uri = base.parse::<http::Uri>().ok().filter(|u| u.scheme_str() == Some("https"));
        let host = uri.as_ref().and_then(|uri| uri.host());
        let (Some(uri), Some(host)) = (&uri, host) else {
            return Err(usage(format!("`{base}` is no URL of a gateway: use https://HOST[:PORT]")));
        };
        let place = Configured::new("the gateway", host, uri.port_u16().unwrap_or(443));
        let roots = match &gateway.ca_file {
            Some(file) => tls::Roots::Bundle(tls::Pem::File(PathBuf::from(file))),
            None => tls::Roots::System,
        };
        tls::install();
        let client = tls::client(&roots, &[b"http/1.1"], None)
            .map_err(|error| usage(Chain(&error).to_string()))?;
        Ok(Self { base, fetcher: Fetcher::new(place, Some(client)), token })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(&Method::GET, path, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(&Method::POST, path, Some(body))
    }

    fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        let url = format!("{}/api/v1{path}", self.base);
        let uri = url
            .parse::<http::Uri>()
            .map_err(|error| CallError::Usage(format!("{url}: {error}")))?;
        let mut request = http::Request::builder()
            .method(method)
            .header(http::header::AUTHORIZATION, format!("Bearer {}", self.token.trim()));
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CallError::Unreached(error.to_string()))?;
        let fetched = runtime
            .block_on(self.fetcher.call(&uri, request, body))
            .map_err(|error| CallError::Unreached(Chain(&error).to_string()))?;
        let answer = serde_json::from_slice::<Value>(&fetched.body).unwrap_or(Value::Null);
        if (200..300).contains(&fetched.status) {
            Ok(answer)
        } else {
            Err(CallError::Refused(problem(fetched.status, &answer)))
        }
    }
}

/// A refusal in words: the reason, the rules, what to do.
fn problem(status: u16, answer: &Value) -> String {
    let detail = answer.get("detail").and_then(Value::as_str);
    let mut text = detail.map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
    let rules = answer.get("rules").and_then(Value::as_array).into_iter().flatten();
    let rules = rules.filter_map(Value::as_str).collect::<Vec<_>>();
    if !rules.is_empty() {
        text.push_str(" [");
        text.push_str(&rules.join(", "));
        text.push(']');
    }
    if let Some(hint) = answer.get("hint").and_then(Value::as_str) {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    text
}
