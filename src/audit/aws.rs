//! Requests in AWS's own way: signed with Signature Version 4, by the code that `object_store` signs
//! with. Stores and key services share it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::CredentialProvider;
use object_store::aws::AwsAuthorizer;
use object_store::aws::AwsCredential;
use object_store::client::HttpRequestBody;
use secrecy::ExposeSecret;

use crate::audit::storage::AwsKeys;
use crate::audit::storage::Secret;
use crate::audit::storage::SecretError;

/// A request that could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Signing failed.
    #[error("the request cannot be signed")]
    Sign(#[source] object_store::Error),
}

impl AwsKeys {
    /// Reads the keys, now.
    pub(super) fn read(&self) -> Result<AwsCredential, SecretError> {
        Ok(AwsCredential {
            key_id: plain(&self.id)?,
            secret_key: plain(&self.secret)?,
            token: self.token.as_ref().map(plain).transpose()?,
        })
    }

    /// Signs a request to `service` in `region`. Its URL is a configured one, with a host.
    pub(super) fn sign(
        &self,
        request: http::Request<Bytes>,
        service: &str,
        region: &str,
    ) -> Result<http::Request<Bytes>, SignError> {
        let keys = self.read()?;
        let mut request = request.map(HttpRequestBody::from);
        AwsAuthorizer::new(&keys, service, region)
            .try_authorize(&mut request, None)
            .map_err(SignError::Sign)?;
        Ok(request.map(|body| body.as_bytes().cloned().unwrap_or_default()))
    }
}

#[async_trait]
impl CredentialProvider for AwsKeys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let read = self.read().map(Arc::new);
        read.map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })
    }
}

/// The secret's text, if it can stand in a header.
fn plain(secret: &Secret) -> Result<String, SecretError> {
    let text = secret.read()?;
    let text = text.expose_secret();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(secret.error("it has signs that no access key has"))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn keys(secret: &'static str) -> AwsKeys {
        let given = |text: &'static str| {
            Secret::new("a test", move || Ok::<_, std::io::Error>(SecretString::from(text)))
        };
        AwsKeys { id: given("AKIAEXAMPLE"), secret: given(secret), token: None }
    }

    #[test]
    fn a_signed_request_carries_no_secret() {
        let request = http::Request::post("https://kms.example/").body(Bytes::from("{}")).unwrap();
        let signed = keys("planted-secret").sign(request, "kms", "eu-central-1").unwrap();
        let head = format!("{:?}", signed.headers());
        assert!(head.contains("AKIAEXAMPLE") && head.contains("/eu-central-1/kms/aws4_request"));
        assert!(!head.contains("planted"), "{head}");
        assert_eq!(signed.body(), "{}");
    }

    #[test]
    fn a_key_that_cannot_stand_in_a_header_is_refused_without_being_shown() {
        let request = http::Request::get("https://kms.example/").body(Bytes::new()).unwrap();
        let error = keys("planted secret\n").sign(request, "kms", "eu-central-1").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("planted"));
    }
}
