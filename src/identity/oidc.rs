//! OpenID Connect Discovery 1.0: from an issuer to its keys.
//!
//! Goes only to the issuer's own origin, or to the configured `jwks_uri`: a discovery document
//! cannot send the gateway anywhere else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openidconnect::IssuerUrl;
use openidconnect::core::CoreProviderMetadata;
use openidconnect::url::Url;

use crate::identity::BODY_BYTES_MAX;
use crate::identity::Fetch;
use crate::identity::OptionsError;
use crate::identity::ProviderError;
use crate::identity::keys::KeySet;

/// How long one document may take, in seconds.
const FETCH_S_MAX: u64 = 5;

/// Where a provider's keys come from.
pub(super) struct Source {
    issuer: IssuerUrl,
    discovery: Url,
    jwks_uri: Option<Url>,
    fetch: Arc<dyn Fetch>,
}

impl Source {
    /// The source for a checked issuer and, where configured, `jwks_uri`.
    pub(super) fn new(
        issuer: &str,
        jwks_uri: Option<Url>,
        fetch: Arc<dyn Fetch>,
    ) -> Result<Self, OptionsError> {
        let refused = |_| OptionsError::Url(issuer.to_owned());
        let url = IssuerUrl::new(issuer.to_owned()).map_err(refused)?;
        let discovery = url.join(".well-known/openid-configuration").map_err(refused)?;
        Ok(Self { issuer: url, discovery, jwks_uri, fetch })
    }

    /// The issuer, byte for byte as configured.
    pub(super) fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    /// The only origin that is contacted.
    pub(super) fn origin(&self) -> String {
        self.jwks_uri.as_ref().unwrap_or(&self.discovery).origin().ascii_serialization()
    }

    /// Fetches the keys.
    pub(super) async fn keys(&self) -> Result<KeySet, ProviderError> {
        let url = match &self.jwks_uri {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        KeySet::read(url.as_str(), &self.get(url.as_str()).await?)
    }

    /// Fetches the discovery document and takes from it where the keys are.
    async fn discover(&self) -> Result<Url, ProviderError> {
        let url = self.discovery.as_str();
        let body = self.get(url).await?;
        let metadata = serde_json::from_slice::<CoreProviderMetadata>(&body)
            .map_err(|source| ProviderError::NotUnderstood { url: url.to_owned(), source })?;
        // OpenID Connect Discovery 1.0 §4.3: the issuer must be exactly the one asked for.
        if metadata.issuer().as_str() != self.issuer.as_str() {
            return Err(ProviderError::OtherIssuer {
                url: url.to_owned(),
                found: metadata.issuer().as_str().to_owned(),
            });
        }
        let keys = metadata.jwks_uri().url();
        if keys.origin() != self.discovery.origin() {
            return Err(ProviderError::Elsewhere {
                url: url.to_owned(),
                found: keys.as_str().to_owned(),
            });
        }
        Ok(keys.clone())
    }

    async fn get(&self, url: &str) -> Result<Bytes, ProviderError> {
        let limit = Duration::from_secs(FETCH_S_MAX);
        let answer = tokio::time::timeout(limit, self.fetch.get(url))
            .await
            .map_err(|_| ProviderError::TimedOut { url: url.to_owned(), seconds: FETCH_S_MAX })?
            .map_err(|source| ProviderError::Fetch { url: url.to_owned(), source })?;
        if answer.status != 200 {
            return Err(ProviderError::Status { url: url.to_owned(), status: answer.status });
        }
        if answer.body.len() > BODY_BYTES_MAX {
            return Err(ProviderError::TooLong { url: url.to_owned(), bytes: answer.body.len() });
        }
        Ok(answer.body)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("issuer", &self.issuer)
            .field("jwks_uri", &self.jwks_uri)
            .finish_non_exhaustive()
    }
}
