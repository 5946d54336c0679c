//! What `object_store` has no call for in Azure Blob Storage: whether a container keeps what is
//! written. Where it is, and for how long it keeps, only Azure's management plane knows.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::CredentialProvider;
use object_store::ObjectStore;
use object_store::azure::AzureAccessKey;
use object_store::azure::AzureAuthorizer;
use object_store::azure::AzureCredential;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpRequestBody;
use secrecy::ExposeSecret;

use crate::audit::storage::StorageError;
use crate::audit::storage::error::About;
use crate::audit::storage::http::Connector;
use crate::audit::storage::http::Http;
use crate::audit::storage::options::Azure;
use crate::audit::storage::options::Secret;
use crate::audit::storage::refused::Refused;
use crate::audit::storage::report::Lock;
use crate::audit::storage::retries;

const STORE: &str = "Azure";

/// A container's settings.
#[derive(Debug)]
pub(super) struct Container {
    options: Azure,
    http: Arc<dyn Http>,
}

/// Reads the account's key late, so that a rotated one is used.
#[derive(Debug)]
struct Key(Secret);

#[async_trait]
impl CredentialProvider for Key {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        let key = self.0.read();
        let key = key.map_err(|error| object_store::Error::Generic {
            store: STORE,
            source: Box::new(error),
        })?;
        // The error of a key that is no base64 tells which sign is wrong: that is dropped.
        let key = AzureAccessKey::try_new(key.expose_secret());
        let key = key.map_err(|_| object_store::Error::Generic {
            store: STORE,
            source: Box::new(self.0.error("it is no base64, as an account's key is")),
        })?;
        Ok(Arc::new(AzureCredential::AccessKey(key)))
    }
}

impl Container {
    pub(super) fn new(options: Azure, http: Arc<dyn Http>) -> Self {
        Self { options, http }
    }

    /// What stores and lists objects in the container.
    pub(super) fn objects(&self) -> object_store::Result<Arc<dyn ObjectStore>> {
        let built = MicrosoftAzureBuilder::new()
            .with_account(&self.options.account)
            .with_container_name(&self.options.container)
            .with_endpoint(self.options.endpoint.clone())
            .with_allow_http(true)
            .with_credentials(Arc::new(Key(self.options.key.clone())))
            .with_retry(retries())
            .with_http_connector(Connector(Arc::clone(&self.http)))
            .build()?;
        Ok(Arc::new(built))
    }

    /// Whether the container keeps what is written there (Get Container Properties). A policy's
    /// length, and whether it can be lifted, is not said.
    pub(super) async fn lock(&self, about: About<'_>) -> Result<Lock, StorageError> {
        let url = format!(
            "{}/{}?restype=container",
            self.options.endpoint.trim_end_matches('/'),
            self.options.container
        );
        let unusable = |cause| StorageError::Unusable { store: about.store.to_owned(), cause };
        let request = http::Request::get(url).body(HttpRequestBody::empty());
        let mut request = request.map_err(|error| unusable(error.into()))?;
        let key = Key(self.options.key.clone());
        let credential = key.get_credential().await.map_err(|error| about.failed(error))?;
        AzureAuthorizer::new(&credential, &self.options.account)
            .try_authorize(&mut request)
            .map_err(|error| unusable(error.into()))?;
        let answer = self.http.send(request.map(|_| Bytes::new())).await;
        let answer =
            answer.map_err(|failed| about.unanswered(failed.failure(), Box::new(failed)))?;
        if let Some(refused) = Refused::in_answer(&answer) {
            return Err(about.refused(refused));
        }
        let says = |name| answer.headers().get(name).is_some_and(|value| value == "true");
        let locked = says("x-ms-has-immutability-policy")
            || says("x-ms-immutable-storage-with-versioning-enabled");
        Ok(if locked { Lock::On { firm: false, days: None } } else { Lock::None })
    }
}
