//! What `object_store` has no call for in Google Cloud Storage: where a bucket is, and how it keeps
//! what is written.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::gcp::GcpCredentialProvider;
use object_store::gcp::GoogleCloudStorageBuilder;
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::audit::storage::StorageError;
use crate::audit::storage::error::About;
use crate::audit::storage::http::Connector;
use crate::audit::storage::http::Http;
use crate::audit::storage::options::Gcs;
use crate::audit::storage::refused::Refused;
use crate::audit::storage::report::Location;
use crate::audit::storage::report::Lock;
use crate::audit::storage::retries;

/// Seconds of a day: a bucket counts its retention in seconds.
const DAY_S: u32 = 86_400;

/// A bucket's settings.
#[derive(Debug)]
pub(super) struct Bucket {
    options: Gcs,
    http: Arc<dyn Http>,
    credentials: GcpCredentialProvider,
}

/// What a bucket says of itself (Cloud Storage JSON API, Buckets).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    location: String,
    #[serde(default)]
    versioning: Versioning,
    retention_policy: Option<Retention>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versioning {
    enabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retention {
    retention_period: String,
    #[serde(default)]
    is_locked: bool,
}

impl Bucket {
    /// The bucket, and what stores and lists objects in it.
    pub(super) fn new(
        options: Gcs,
        http: Arc<dyn Http>,
    ) -> Result<(Self, Arc<dyn ObjectStore>), Box<dyn std::error::Error + Send + Sync>> {
        let account = options.service_account.read()?;
        let built = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&options.bucket)
            .with_base_url(&options.endpoint)
            .with_service_account_key(account.expose_secret())
            .with_retry(retries())
            .with_http_connector(Connector(Arc::clone(&http)))
            .build()?;
        let credentials = Arc::clone(built.credentials());
        Ok((Self { options, http, credentials }, Arc::new(built)))
    }

    /// Asks the bucket about itself.
    pub(super) async fn settings(&self, about: About<'_>) -> Result<Settings, StorageError> {
        let gcs = &self.options;
        let credential =
            self.credentials.get_credential().await.map_err(|error| about.failed(error))?;
        let url = format!(
            "{}/storage/v1/b/{}?fields=location,versioning,retentionPolicy",
            gcs.endpoint.trim_end_matches('/'),
            gcs.bucket
        );
        let unusable = |cause| StorageError::Unusable { store: about.store.to_owned(), cause };
        let bearer = format!("Bearer {}", credential.bearer);
        let mut bearer = http::HeaderValue::try_from(bearer).map_err(|e| unusable(e.into()))?;
        bearer.set_sensitive(true);
        let request = http::Request::get(url).header(http::header::AUTHORIZATION, bearer);
        let request = request.body(Bytes::new()).map_err(|error| unusable(error.into()))?;
        let answer = self.http.send(request).await;
        let answer =
            answer.map_err(|failed| about.unanswered(failed.failure(), Box::new(failed)))?;
        match Refused::in_answer(&answer) {
            Some(refused) if refused.status == 404 => {
                Err(StorageError::NoBucket { store: about.store.to_owned() })
            }
            Some(refused) => Err(about.refused(refused)),
            None => serde_json::from_slice(answer.body()).map_err(|error| StorageError::Failed {
                store: about.store.to_owned(),
                cause: Box::new(error),
            }),
        }
    }

    /// Where the bucket is.
    pub(super) fn location(
        &self,
        about: About<'_>,
        settings: &Settings,
    ) -> Result<Location, StorageError> {
        if settings.location.eq_ignore_ascii_case(&self.options.location) {
            return Ok(Location::Said(settings.location.to_ascii_lowercase()));
        }
        Err(StorageError::WrongRegion {
            store: about.store.to_owned(),
            configured: self.options.location.clone(),
            found: Some(settings.location.chars().filter(char::is_ascii_graphic).collect()),
        })
    }
}

impl Settings {
    /// Whether versions are kept.
    pub(super) fn versioning(&self) -> bool {
        self.versioning.enabled
    }

    /// Whether the bucket keeps what is written there. A policy that is not locked can be lifted.
    pub(super) fn lock(&self) -> Lock {
        match &self.retention_policy {
            None => Lock::None,
            Some(retention) => Lock::On {
                firm: retention.is_locked,
                days: retention.retention_period.parse::<u32>().ok().map(|s| s / DAY_S),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bucket_says_is_read() {
        let kept = r#"{"location":"EUROPE-WEST3","versioning":{"enabled":true},
            "retentionPolicy":{"retentionPeriod":"2678400","isLocked":true}}"#;
        let kept = serde_json::from_str::<Settings>(kept).unwrap();
        assert_eq!(
            (kept.versioning(), kept.lock()),
            (true, Lock::On { firm: true, days: Some(31) })
        );
        let plain = serde_json::from_str::<Settings>(r#"{"location":"EU"}"#).unwrap();
        assert_eq!((plain.versioning(), plain.lock()), (false, Lock::None));
    }
}
