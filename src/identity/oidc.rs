//! OpenID Connect Discovery 1.0: from an issuer to its keys and endpoints.
//!
//! Goes only to the issuer's own origin, to the configured `jwks_uri` and to the configured
//! `endpoints`: a discovery document cannot send the gateway, or a browser, anywhere else.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use openidconnect::IssuerUrl;
use openidconnect::url::Url;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::identity::BODY_BYTES_MAX;
use crate::identity::Fetch;
use crate::identity::FetchError;
use crate::identity::OptionsError;
use crate::identity::ProviderError;
use crate::identity::Request;
use crate::identity::Response;
use crate::identity::keys::KeySet;

/// How long one document may take, in seconds.
const FETCH_S_MAX: u64 = 5;
/// How long an endpoint may take to answer, in seconds: it may have to ask others.
const SEND_S_MAX: u64 = 10;
/// Known endpoints are looked up anew when they are older than this, in seconds.
const REFRESH_S: i64 = 10 * 60;
/// Known endpoints are used for this long without the provider being reached, in seconds.
const METADATA_AGE_S_MAX: i64 = 24 * 60 * 60;
/// After a failure the provider is asked again no sooner than this, in seconds.
const RETRY_S: i64 = 5;

/// Where a provider's keys come from, and where its endpoints are.
pub(super) struct Source {
    issuer: IssuerUrl,
    discovery: Url,
    jwks_uri: Option<Url>,
    /// Where else discovery may lead.
    endpoints: BTreeSet<String>,
    fetch: Arc<dyn Fetch>,
    /// Held while the document is fetched, so that one fetch serves all who wait.
    known: Mutex<Known>,
}

/// What a discovery document says, as far as it matters here.
///
/// Where the endpoints are is checked when they are used: one that nobody uses may be anywhere.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    keys: Url,
    authorization: Option<String>,
    token: Option<String>,
    userinfo: Option<String>,
    /// Whether answers to a browser name the issuer (RFC 9207 §3).
    pub(super) answers_with_issuer: bool,
    /// How a client may prove itself; empty: not said.
    pub(super) client_methods: Vec<String>,
}

#[derive(Debug, Default)]
struct Known {
    metadata: Option<(Timestamp, Arc<Metadata>)>,
    failed: Option<(Timestamp, Arc<ProviderError>)>,
}

/// The document (OpenID Connect Discovery 1.0 §3). Issuers of workloads have no endpoints.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

impl Source {
    /// The source for a checked issuer and, where configured, `jwks_uri` and other origins.
    pub(super) fn new(
        issuer: &str,
        jwks_uri: Option<Url>,
        endpoints: &[String],
        fetch: Arc<dyn Fetch>,
    ) -> Result<Self, OptionsError> {
        let refused = |_| OptionsError::Url(issuer.to_owned());
        let url = IssuerUrl::new(issuer.to_owned()).map_err(refused)?;
        let discovery = url.join(".well-known/openid-configuration").map_err(refused)?;
        let endpoints = endpoints.iter().map(|endpoint| Url::parse(endpoint).map_err(refused));
        let endpoints = endpoints.map(|url| Ok(url?.origin().ascii_serialization()));
        let endpoints = endpoints.collect::<Result<_, OptionsError>>()?;
        Ok(Self { issuer: url, discovery, jwks_uri, endpoints, fetch, known: Mutex::default() })
    }

    /// The issuer, byte for byte as configured.
    pub(super) fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    /// The only origins that are contacted. With `jwks_uri` nothing is discovered for keys alone.
    pub(super) fn origins(&self, discovers: bool) -> BTreeSet<String> {
        let issuer = (discovers || self.jwks_uri.is_none()).then_some(&self.discovery);
        let own = self.jwks_uri.iter().chain(issuer).map(|url| url.origin().ascii_serialization());
        own.chain(self.endpoints.iter().cloned()).collect()
    }

    /// Fetches the keys.
    pub(super) async fn keys(&self) -> Result<KeySet, ProviderError> {
        let url = match &self.jwks_uri {
            Some(url) => url.clone(),
            None => self.discover().await?.keys,
        };
        KeySet::read(url.as_str(), &self.get(url.as_str()).await?)
    }

    /// Where the endpoints are, as known for a while or as the provider says now.
    pub(super) async fn metadata(
        &self,
        now: Timestamp,
    ) -> Result<Arc<Metadata>, Arc<ProviderError>> {
        let mut known = self.known.lock().await;
        let within = |at: Timestamp, seconds| {
            at <= now && now.as_second().saturating_sub(at.as_second()) < seconds
        };
        let young = |known: &Known, seconds| {
            let young = known.metadata.as_ref().filter(|(at, _)| within(*at, seconds));
            young.map(|(_, metadata)| Arc::clone(metadata))
        };
        if let Some(metadata) = young(&known, REFRESH_S) {
            return Ok(metadata);
        }
        if known.failed.as_ref().is_none_or(|(at, _)| !within(*at, RETRY_S)) {
            match self.discover().await {
                Ok(metadata) => {
                    let metadata = Arc::new(metadata);
                    *known = Known { metadata: Some((now, Arc::clone(&metadata))), failed: None };
                    return Ok(metadata);
                }
                Err(error) => known.failed = Some((now, Arc::new(error))),
            }
        }
        let failure = known.failed.as_ref().map(|(_, error)| Arc::clone(error));
        young(&known, METADATA_AGE_S_MAX)
            .ok_or_else(|| failure.unwrap_or_else(|| Arc::new(ProviderError::TooOld)))
    }

    /// Fetches the discovery document.
    async fn discover(&self) -> Result<Metadata, ProviderError> {
        let url = self.discovery.as_str();
        let body = self.get(url).await?;
        let document = serde_json::from_slice::<Document>(&body)
            .map_err(|source| ProviderError::NotUnderstood { url: url.to_owned(), source })?;
        // OpenID Connect Discovery 1.0 §4.3: the issuer must be exactly the one asked for.
        if document.issuer != self.issuer.as_str() {
            return Err(ProviderError::OtherIssuer { url: url.to_owned(), found: document.issuer });
        }
        let keys = match &self.jwks_uri {
            Some(configured) => configured.clone(),
            None => self.endpoint("jwks_uri", Some(&document.jwks_uri))?,
        };
        Ok(Metadata {
            keys,
            authorization: document.authorization_endpoint,
            token: document.token_endpoint,
            userinfo: document.userinfo_endpoint,
            answers_with_issuer: document.authorization_response_iss_parameter_supported,
            client_methods: document.token_endpoint_auth_methods_supported,
        })
    }

    /// Where browsers are sent to sign in.
    pub(super) fn authorization(&self, metadata: &Metadata) -> Result<Url, ProviderError> {
        self.endpoint("authorization_endpoint", metadata.authorization.as_ref())
    }

    /// Where codes and refresh tokens are exchanged.
    pub(super) fn token(&self, metadata: &Metadata) -> Result<Url, ProviderError> {
        self.endpoint("token_endpoint", metadata.token.as_ref())
    }

    /// Where more is known about somebody.
    pub(super) fn userinfo(&self, metadata: &Metadata) -> Result<Url, ProviderError> {
        self.endpoint("userinfo_endpoint", metadata.userinfo.as_ref())
    }

    /// An endpoint, which must be where we may go.
    fn endpoint(&self, what: &'static str, found: Option<&String>) -> Result<Url, ProviderError> {
        let found = found.ok_or(ProviderError::Missing(what))?;
        let may_go = |url: &Url| {
            let origin = url.origin();
            (origin == self.discovery.origin()
                || self.endpoints.contains(&origin.ascii_serialization()))
                && url.username().is_empty()
                && url.password().is_none()
                && url.fragment().is_none()
        };
        Url::parse(found).ok().filter(may_go).ok_or_else(|| ProviderError::Elsewhere {
            url: self.discovery.as_str().to_owned(),
            what,
            found: found.clone(),
        })
    }

    async fn get(&self, url: &str) -> Result<Bytes, ProviderError> {
        let answer = bounded(url, FETCH_S_MAX, self.fetch.get(url)).await?;
        if answer.status != 200 {
            return Err(ProviderError::Status { url: url.to_owned(), status: answer.status });
        }
        Ok(answer.body)
    }

    /// Sends a request to an endpoint of [`Source::metadata`]; any status is an answer.
    pub(super) async fn send(&self, request: &Request) -> Result<Response, ProviderError> {
        bounded(&request.url, SEND_S_MAX, self.fetch.send(request)).await
    }
}

async fn bounded(
    url: &str,
    seconds: u64,
    answer: impl Future<Output = Result<Response, FetchError>>,
) -> Result<Response, ProviderError> {
    let answer = tokio::time::timeout(Duration::from_secs(seconds), answer)
        .await
        .map_err(|_| ProviderError::TimedOut { url: url.to_owned(), seconds })?
        .map_err(|source| ProviderError::Fetch { url: url.to_owned(), source })?;
    if answer.body.len() > BODY_BYTES_MAX {
        return Err(ProviderError::TooLong { url: url.to_owned(), bytes: answer.body.len() });
    }
    Ok(answer)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("issuer", &self.issuer)
            .field("jwks_uri", &self.jwks_uri)
            .finish_non_exhaustive()
    }
}
