//! What `object_store` has no call for in S3: where a bucket is, how it keeps what is written, and
//! deleting for good where versions are kept. Signed as every other request.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::aws::S3ConditionalPut;

use crate::audit::storage::StorageError;
use crate::audit::storage::error::About;
use crate::audit::storage::http::Connector;
use crate::audit::storage::http::Http;
use crate::audit::storage::name::Name;
use crate::audit::storage::options::Located;
use crate::audit::storage::options::S3;
use crate::audit::storage::refused::Refused;
use crate::audit::storage::report::Location;
use crate::audit::storage::report::Lock;
use crate::audit::storage::retries;
use crate::audit::storage::xml;

/// Most rounds of asking for an object's versions and deleting them; 1,000 versions a round.
const ROUNDS_MAX: usize = 100;
/// Days of a year, where a bucket counts its lock in years.
const YEAR_DAYS: u32 = 365;
/// The region of buckets that say none.
const UNSAID: &str = "us-east-1";

/// A bucket's settings and versions.
#[derive(Debug)]
pub(super) struct Bucket {
    options: S3,
    http: Arc<dyn Http>,
}

impl Bucket {
    pub(super) fn new(options: S3, http: Arc<dyn Http>) -> Self {
        Self { options, http }
    }

    /// What stores and lists objects in the bucket.
    pub(super) fn objects(&self) -> object_store::Result<Arc<dyn ObjectStore>> {
        let s3 = &self.options;
        let built = AmazonS3Builder::new()
            .with_bucket_name(&s3.bucket)
            .with_region(&s3.region)
            .with_endpoint(&s3.endpoint)
            .with_virtual_hosted_style_request(!s3.path_style)
            .with_allow_http(true)
            .with_credentials(Arc::new(s3.keys.clone()))
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retries())
            .with_http_connector(Connector(Arc::clone(&self.http)))
            .build()?;
        Ok(Arc::new(built))
    }

    /// Where the bucket is. One that says nothing is in `us-east-1`, or where it is attested to be.
    pub(super) async fn location(&self, about: About<'_>) -> Result<Location, StorageError> {
        let answer = self.asked(about, "?location").await?;
        let said = xml::element(&answer, "LocationConstraint").unwrap_or_default();
        let said = match (said, self.options.located) {
            ("", Located::Attested) => {
                return Ok(Location::Attested(self.options.region.clone()));
            }
            ("", Located::Asked) => UNSAID,
            ("EU", Located::Asked | Located::Attested) => "eu-west-1",
            (said, Located::Asked | Located::Attested) => said,
        };
        if said == self.options.region {
            return Ok(Location::Said(said.to_owned()));
        }
        Err(StorageError::WrongRegion {
            store: about.store.to_owned(),
            configured: self.options.region.clone(),
            found: Some(said.to_owned()),
        })
    }

    /// Whether versions are kept.
    pub(super) async fn versioning(&self, about: About<'_>) -> Result<bool, StorageError> {
        let answer = self.asked(about, "?versioning").await?;
        Ok(xml::element(&answer, "Status") == Some("Enabled"))
    }

    /// Whether the bucket locks what is written there, by default.
    pub(super) async fn lock(&self, about: About<'_>) -> Result<Lock, StorageError> {
        let answer = self.call(about, http::Method::GET, "?object-lock").await?;
        match Refused::in_answer(&answer) {
            Some(refused) if refused.status == 404 && !refused.is_without_bucket() => {
                return Ok(Lock::None);
            }
            Some(refused) => return Err(about.refused(refused)),
            None => {}
        }
        let answer = String::from_utf8_lossy(answer.body());
        let number = |name| xml::element(&answer, name).and_then(|days| days.parse::<u32>().ok());
        let years = number("Years").map(|years| years.saturating_mul(YEAR_DAYS));
        Ok(match xml::element(&answer, "Mode") {
            None => Lock::None,
            Some(mode) => Lock::On { firm: mode == "COMPLIANCE", days: number("Days").or(years) },
        })
    }

    /// Deletes an object with all its versions: a plain deletion would only hide it.
    pub(super) async fn delete(
        &self,
        about: About<'_>,
        name: &Name,
        key: &str,
    ) -> Result<(), StorageError> {
        let about = About { name: Some(name), ..about };
        for _ in 0..ROUNDS_MAX {
            let versions = self.versions(about, key).await?;
            if versions.is_empty() {
                return Ok(());
            }
            for version in versions {
                let query = format!("/{key}?versionId={version}");
                let answer = self.call(about, http::Method::DELETE, &query).await?;
                match Refused::in_answer(&answer) {
                    Some(refused) if refused.status == 404 => {}
                    Some(refused) if refused.is_denied() && self.retains(about, &query).await => {
                        let (store, name) = (about.store.to_owned(), name.clone());
                        return Err(StorageError::Locked { store, name });
                    }
                    Some(refused) => return Err(about.refused(refused)),
                    None => {}
                }
            }
        }
        Err(StorageError::TooMany { store: about.store.to_owned() })
    }

    /// Whether a version says that it is retained. Not every store says so when it refuses.
    async fn retains(&self, about: About<'_>, version: &str) -> bool {
        let query = format!("{version}&retention");
        let answer = self.asked(about, &query).await;
        answer.is_ok_and(|answer| xml::element(&answer, "RetainUntilDate").is_some())
    }

    /// The versions of one object, and the marks that hide it: some, if there are any.
    async fn versions(&self, about: About<'_>, key: &str) -> Result<Vec<String>, StorageError> {
        let answer = self.asked(about, &format!("?versions&prefix={key}")).await?;
        let all = xml::elements(&answer, "Version").chain(xml::elements(&answer, "DeleteMarker"));
        let ours = all.filter(|version| xml::element(version, "Key") == Some(key));
        // An id goes into a URL: one with other signs is none that a store gives.
        let sign = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let ids = ours.map(|version| match xml::element(version, "VersionId") {
            Some(id) if !id.is_empty() && id.bytes().all(sign) => Ok(id.to_owned()),
            Some(_) => Err(StorageError::Failed {
                store: about.store.to_owned(),
                cause: "a version has an id that cannot be asked for".into(),
            }),
            None => Ok("null".to_owned()),
        });
        ids.collect()
    }

    async fn asked(&self, about: About<'_>, query: &str) -> Result<String, StorageError> {
        let answer = self.call(about, http::Method::GET, query).await?;
        match Refused::in_answer(&answer) {
            Some(refused) => Err(about.refused(refused)),
            None => Ok(String::from_utf8_lossy(answer.body()).into_owned()),
        }
    }

    async fn call(
        &self,
        about: About<'_>,
        method: http::Method,
        rest: &str,
    ) -> Result<http::Response<Bytes>, StorageError> {
        let s3 = &self.options;
        let bucket = if s3.path_style { format!("/{}", s3.bucket) } else { String::new() };
        let slash = if rest.starts_with('/') { "" } else { "/" };
        let url = format!("{}{bucket}{slash}{rest}", s3.endpoint.trim_end_matches('/'));
        let request = http::Request::builder().method(method).uri(url).body(Bytes::new());
        let request = request.map_err(|error| StorageError::Unusable {
            store: about.store.to_owned(),
            cause: Box::new(error),
        })?;
        let signed = s3.keys.sign(request, "s3", &s3.region).map_err(|e| about.unsigned(e))?;
        let sent = self.http.send(signed).await;
        sent.map_err(|failed| about.unanswered(failed.failure(), Box::new(failed)))
    }
}
