//! The region's store: where recordings, the ledger and its checkpoints are kept for good.
//!
//! Objects are created once and never changed: [`Storage::create`] fails where there is another of
//! that name, and agrees where there is the same, so that an upload that was cut off is simply done
//! again. The store is in the gateway's region, and says so itself where it can: [`Storage::probe`]
//! asks.
//!
//! ```text
//! Storage ──▶ object_store ──▶ Connector ─┐
//!    └──────▶ s3, gcs, azure: settings ───┴▶ Http (the daemon's, over `upstream`)
//! ```
//!
//! Knows no sockets and no records: whoever owns a record gives bytes and a name.

mod azure;
mod error;
mod gcs;
mod http;
mod name;
mod options;
mod probe;
pub(in crate::audit) mod refused;
mod report;
mod s3;
#[cfg(test)]
mod tests;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::ObjectMeta;
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::PutMode;
use object_store::RetryConfig;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use crate::audit::storage::error::About;
use crate::model::RegionName;

pub use error::StorageError;
pub use http::Failure;
pub use http::Http;
pub use http::HttpFailed;
pub use name::BadName;
pub use name::NAME_BYTES_MAX;
pub use name::Name;
pub use options::AwsKeys;
pub use options::Azure;
pub use options::Gcs;
pub use options::Located;
pub use options::Options;
pub use options::Place;
pub use options::Require;
pub use options::S3;
pub use options::Secret;
pub use options::SecretError;
pub use report::Finding;
pub use report::FindingKind;
pub use report::Location;
pub use report::Lock;
pub use report::Report;
pub use report::Severity;

/// Largest object, in bytes. What [`Http`] reads of an answer is no less.
pub const OBJECT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most objects that are listed under one name.
pub const LISTED_MAX: usize = 1_000_000;
/// How often a request is tried again before its error is told; whoever uploads tries again later.
const RETRIES_MAX: usize = 2;
/// How long is tried at most, in seconds.
const RETRY_S_MAX: u64 = 30;

/// The region's store.
#[derive(Debug)]
pub struct Storage {
    shown: String,
    region: RegionName,
    /// Where it should be, in its own words.
    configured: String,
    prefix: String,
    require: Require,
    objects: Arc<dyn ObjectStore>,
    settings: Settings,
}

/// How a store is asked about itself.
#[derive(Debug)]
enum Settings {
    Folder,
    S3(s3::Bucket),
    Gcs(gcs::Bucket),
    Azure(azure::Container),
}

/// What became of creating an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It was created.
    Created,
    /// It was there already, byte for byte.
    SameAlready,
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// Its name.
    pub name: Name,
    /// Its length.
    pub bytes: u64,
}

impl Storage {
    /// Opens a store: dials nobody, and of a folder only makes sure that it is there.
    pub fn open(options: Options, http: Arc<dyn Http>) -> Result<Self, StorageError> {
        let shown = options.place.to_string();
        let unusable = |cause| StorageError::Unusable { store: options.place.to_string(), cause };
        let (objects, settings, configured, prefix) = match options.place.clone() {
            Place::Folder(path) => {
                let objects = folder(&path).map_err(unusable)?;
                (objects, Settings::Folder, String::new(), String::new())
            }
            Place::S3(s3) => {
                let (region, prefix) = (s3.region.clone(), s3.prefix.clone());
                let bucket = s3::Bucket::new(s3, http);
                let objects = bucket.objects().map_err(|error| unusable(error.into()))?;
                (objects, Settings::S3(bucket), region, prefix)
            }
            Place::Gcs(gcs) => {
                let (location, prefix) = (gcs.location.clone(), gcs.prefix.clone());
                let (bucket, objects) = gcs::Bucket::new(gcs, http).map_err(unusable)?;
                (objects, Settings::Gcs(bucket), location, prefix)
            }
            Place::Azure(azure) => {
                let (location, prefix) = (azure.location.clone(), azure.prefix.clone());
                let container = azure::Container::new(azure, http);
                let objects = container.objects().map_err(|error| unusable(error.into()))?;
                (objects, Settings::Azure(container), location, prefix)
            }
        };
        let prefix = prefix.trim_matches('/').to_owned();
        if !prefix.is_empty() {
            prefix.parse::<Name>().map_err(|error| unusable(error.into()))?;
        }
        let (region, require) = (options.region, options.require);
        Ok(Self { shown, region, configured, prefix, require, objects, settings })
    }

    /// What the store is called in logs and errors.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Creates an object. Where there is one of that name already, with the same bytes, that is fine;
    /// with others it is [`StorageError::Conflict`], and nothing was changed.
    pub async fn create(&self, name: &Name, bytes: Bytes) -> Result<Creation, StorageError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > OBJECT_BYTES_MAX {
            return Err(StorageError::TooLarge { name: name.clone(), bytes: length });
        }
        let (path, mode) = (self.path(name), PutMode::Create.into());
        match self.objects.put_opts(&path, bytes.clone().into(), mode).await {
            Ok(_) => Ok(Creation::Created),
            Err(object_store::Error::AlreadyExists { .. }) => {
                self.compared(name, &bytes, self.read(name).await)
            }
            // What is missing when something is created is the bucket.
            Err(error) => match self.about(None).failed(error) {
                // Whoever refuses before it has read everything may hang up before the refusal is
                // read; and an answer may be lost though all was done.
                error if error.is_lost_answer() => match self.read(name).await {
                    Ok(there) => self.compared(name, &bytes, Ok(there)),
                    Err(_) => Err(error),
                },
                error => Err(error),
            },
        }
    }

    fn compared(
        &self,
        name: &Name,
        bytes: &Bytes,
        there: Result<Bytes, StorageError>,
    ) -> Result<Creation, StorageError> {
        match there {
            Ok(there) if there == *bytes => Ok(Creation::SameAlready),
            // One that cannot be ours is another's.
            Ok(_) | Err(StorageError::TooLarge { .. }) => {
                Err(StorageError::Conflict { store: self.shown.clone(), name: name.clone() })
            }
            Err(error) => Err(error),
        }
    }

    /// Reads an object.
    pub async fn read(&self, name: &Name) -> Result<Bytes, StorageError> {
        let about = self.about(Some(name));
        let found = self.objects.get(&self.path(name)).await.map_err(|e| about.failed(e))?;
        if found.meta.size > OBJECT_BYTES_MAX {
            return Err(StorageError::TooLarge { name: name.clone(), bytes: found.meta.size });
        }
        found.bytes().await.map_err(|error| about.failed(error))
    }

    /// The objects in the folder `under`, at any depth, or all, by name. Objects whose names cannot
    /// be a gateway's are left out.
    pub async fn list(&self, under: Option<&Name>) -> Result<Vec<Stored>, StorageError> {
        let mut all = Vec::new();
        let mut listed = self.listed(under, None);
        while let Some(found) = listed.next().await {
            if all.len() >= LISTED_MAX {
                return Err(StorageError::TooMany { store: self.shown.clone() });
            }
            all.extend(found?);
        }
        all.sort();
        Ok(all)
    }

    /// The folders in the folder `under`, not those in them.
    pub async fn folders(&self, under: &Name) -> Result<Vec<Name>, StorageError> {
        let listed = self.objects.list_with_delimiter(Some(&self.path(under))).await;
        let listed = listed.map_err(|error| self.about(None).failed(error))?;
        let folders = listed.common_prefixes.iter();
        Ok(folders.filter_map(|path| self.name(path)).collect())
    }

    /// The last object by name in the folder `under`, among those behind `behind`. However many there
    /// are, one is in memory.
    pub async fn last(&self, under: &Name, behind: &Name) -> Result<Option<Stored>, StorageError> {
        let mut last = None;
        let mut listed = self.listed(Some(under), Some(behind));
        while let Some(found) = listed.next().await {
            last = last.max(found?);
        }
        Ok(last)
    }

    /// The objects in the folder `under`, or all, those behind `behind`, in the store's order; `None`
    /// for one whose name cannot be a gateway's.
    fn listed(
        &self,
        under: Option<&Name>,
        behind: Option<&Name>,
    ) -> BoxStream<'_, Result<Option<Stored>, StorageError>> {
        let prefix = match under {
            Some(name) => Some(self.path(name)),
            None => (!self.prefix.is_empty()).then(|| Path::from(self.prefix.as_str())),
        };
        let listed = match behind {
            Some(name) => self.objects.list_with_offset(prefix.as_ref(), &self.path(name)),
            None => self.objects.list(prefix.as_ref()),
        };
        let stored = move |found: Result<ObjectMeta, object_store::Error>| {
            let found = found.map_err(|error| self.about(None).failed(error))?;
            let name = self.name(&found.location);
            Ok(name.map(|name| Stored { name, bytes: found.size }))
        };
        listed.map(stored).boxed()
    }

    /// Deletes an object for good: in S3, with all its versions. One that is not there is fine; one
    /// that is locked is [`StorageError::Locked`]. Google and Azure keep versions, where they are
    /// told to, until the bucket's own rules end them.
    pub async fn delete(&self, name: &Name) -> Result<(), StorageError> {
        let (path, about) = (self.path(name), self.about(Some(name)));
        if let Settings::S3(bucket) = &self.settings {
            return bucket.delete(about, name, path.as_ref()).await;
        }
        match self.objects.delete(&path).await.map_err(|error| about.failed(error)) {
            Ok(()) | Err(StorageError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What a path is called without the prefix; `None` where that cannot be a gateway's name.
    fn name(&self, path: &Path) -> Option<Name> {
        let cut = if self.prefix.is_empty() { 0 } else { self.prefix.len().saturating_add(1) };
        path.as_ref().get(cut..)?.parse().ok()
    }

    fn path(&self, name: &Name) -> Path {
        if self.prefix.is_empty() {
            Path::from(name.as_str())
        } else {
            Path::from(format!("{}/{name}", self.prefix))
        }
    }

    fn about<'a>(&'a self, name: Option<&'a Name>) -> About<'a> {
        About { store: &self.shown, configured: &self.configured, name }
    }
}

fn folder(
    path: &std::path::Path,
) -> Result<Arc<dyn ObjectStore>, Box<dyn std::error::Error + Send + Sync>> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let objects = LocalFileSystem::new_with_prefix(path)?.with_fsync(true);
    Ok(Arc::new(objects.with_automatic_cleanup(true)))
}

/// How requests are tried again.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: Duration::from_secs(RETRY_S_MAX),
        ..RetryConfig::default()
    }
}
