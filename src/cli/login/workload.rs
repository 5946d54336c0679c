//! Signing in as a workload: the token that CI, or a cluster, gives to a job is exchanged for a
//! credential of the gateway (RFC 8693).

use std::path::Path;

use bytes::Bytes;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;

use crate::cli::client::CallError;
use crate::cli::client::Link;
use crate::cli::client::problem;
use crate::cli::client::runtime;
use crate::cli::encode;
use crate::cli::files;
use crate::cli::home::variable;
use crate::cli::login::Asks;
use crate::cli::wallet::has_ended;
use crate::model::fault::Chain;
use crate::tls;
use crate::upstream::Configured;
use crate::upstream::Fetcher;

/// Where GitHub Actions makes tokens, and the token for asking.
const GITHUB_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// A token in a variable: what `id_tokens:` of a GitLab job is to name.
const TOKEN: &str = "WEIR_ID_TOKEN";
/// A token that Kubernetes projects for the gateway, and the one that every pod has.
const KUBERNETES: [&str; 2] =
    ["/var/run/secrets/weir/token", "/var/run/secrets/kubernetes.io/serviceaccount/token"];

/// Signs in; the gateway's token answer.
pub(super) fn sign_in(
    link: &Link,
    asks: &Asks,
    file: Option<&Path>,
    audience: &str,
) -> Result<Value, CallError> {
    let token = match file {
        Some(file) => SecretString::from(files::text(file)?.trim()),
        None => found(audience)?,
    };
    let mut pairs = asks.pairs();
    pairs.extend([
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", token.expose_secret()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ]);
    let answer = link.form("/oauth/token", &pairs)?;
    if answer.status == 200 {
        Ok(answer.body)
    } else if has_ended(&answer) {
        // Signing in is what the job just did: it cannot be told to.
        Err(CallError::Refused(
            "the gateway does not accept this job's token\nhint: an administrator sees why by \
             `weir check --token FILE`"
                .to_owned(),
        ))
    } else {
        Err(CallError::Refused(problem(answer.status, &answer.body)))
    }
}

/// The token that is here, in the usual order.
fn found(audience: &str) -> Result<SecretString, CallError> {
    if let (Some(url), Some(token)) = (variable(GITHUB_URL), variable(GITHUB_TOKEN)) {
        return github(&url, &SecretString::from(token), audience);
    }
    if let Some(token) = variable(TOKEN) {
        return Ok(SecretString::from(token));
    }
    for path in KUBERNETES.map(Path::new) {
        if path.exists() {
            return Ok(SecretString::from(files::text(path)?.trim()));
        }
    }
    Err(CallError::Usage(format!(
        "this job has no token: on GitHub give it `permissions: id-token: write`, on GitLab \
         `id_tokens: {{{TOKEN}: {{aud: {audience}}}}}`, in Kubernetes project a token to {}; or \
         name a file by --token-file",
        KUBERNETES[0]
    )))
}

/// Asks GitHub Actions for a token ("Security hardening with OpenID Connect").
fn github(url: &str, token: &SecretString, audience: &str) -> Result<SecretString, CallError> {
    let wrong = || CallError::Usage(format!("{GITHUB_URL} is no URL that could be asked"));
    let joint = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{joint}{}", encode::form(&[("audience", audience)]));
    let url = url.parse::<http::Uri>().map_err(|_| wrong())?;
    let host = url.host().filter(|_| url.scheme_str() == Some("https")).ok_or_else(wrong)?;
    let place = Configured::new("GitHub Actions", host, url.port_u16().unwrap_or(443));
    tls::install();
    let client = tls::client(&tls::Roots::System, &[b"http/1.1"], None)
        .map_err(|error| CallError::Usage(Chain(&error).to_string()))?;
    let request = http::Request::get(&url)
        .header(http::header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
    let fetched = runtime()?
        .block_on(Fetcher::new(place, Some(client)).call(&url, request, Bytes::new()))
        .map_err(|error| CallError::Unreached(Chain(&error).to_string()))?;
    let answer = serde_json::from_slice::<Value>(&fetched.body).unwrap_or_default();
    let value = answer.get("value").and_then(Value::as_str);
    value.map(SecretString::from).ok_or_else(|| {
        CallError::Refused(format!("GitHub Actions gave no token: it answered {}", fetched.status))
    })
}
