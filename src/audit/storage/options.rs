//! Which store: where it is, how the gateway signs in, and what must be true of it.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;

use crate::model::RegionName;

type Cause = Box<dyn Error + Send + Sync>;
type Read = dyn Fn() -> Result<SecretString, Cause> + Send + Sync;

/// The store of one region.
///
/// In which networks its addresses lie, and who vouches for its certificate, is for whoever
/// implements [`Http`](crate::audit::storage::Http): nothing is dialled here.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's region: the store is marked with it, and refused where it bears another's mark.
    pub region: RegionName,
    /// Where it is.
    pub place: Place,
    /// What must be true of it.
    pub require: Require,
}

/// What must be true of a store, or the gateway does not start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Require {
    /// Overwritten and deleted objects are kept as versions.
    pub versioning: bool,
    /// Objects cannot be changed or deleted for a while after they were written.
    pub lock: bool,
    /// How long objects are locked at least by the bucket's own default, in days.
    pub lock_days_min: u32,
}

/// Where a store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this machine. It is made when it is missing.
    Folder(PathBuf),
    /// A bucket that is spoken to by S3.
    S3(S3),
    /// A bucket of Google Cloud Storage.
    Gcs(Gcs),
    /// A container of Azure Blob Storage.
    Azure(Azure),
}

/// Who says where a bucket is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Located {
    /// The bucket itself, and it must say so.
    #[default]
    Asked,
    /// The configuration: the store cannot say, or says nothing. One that says something else is
    /// still refused.
    Attested,
}

/// A bucket that is spoken to by S3.
#[derive(Debug, Clone)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// What every object's name begins with, without a slash at its end; may be empty.
    pub prefix: String,
    /// The region that requests are signed for, and where the bucket must be: `eu-central-1`.
    pub region: String,
    /// Scheme, host and port: `https://s3.eu-central-1.amazonaws.com`. With `path_style` off, the
    /// host is the bucket's own.
    pub endpoint: String,
    /// Whether the bucket's name stands in the path, and not in the host's name.
    pub path_style: bool,
    /// Who says where the bucket is.
    pub located: Located,
    /// How the gateway signs in.
    pub keys: AwsKeys,
}

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone)]
pub struct Gcs {
    /// The bucket.
    pub bucket: String,
    /// What every object's name begins with, without a slash at its end; may be empty.
    pub prefix: String,
    /// Where the bucket must be: `europe-west3`, in upper or lower case.
    pub location: String,
    /// Scheme, host and port: `https://storage.googleapis.com`.
    pub endpoint: String,
    /// The key of a service account, as JSON. It is read once.
    pub service_account: Secret,
}

/// A container of Azure Blob Storage. Its location is attested: only Azure's management plane knows.
#[derive(Debug, Clone)]
pub struct Azure {
    /// The storage account.
    pub account: String,
    /// The container.
    pub container: String,
    /// What every object's name begins with, without a slash at its end; may be empty.
    pub prefix: String,
    /// Where the account is, as attested: `germanywestcentral`.
    pub location: String,
    /// Scheme, host and port: `https://<account>.blob.core.windows.net`.
    pub endpoint: String,
    /// The account's key, base64.
    pub key: Secret,
}

/// How requests to AWS, and to those who speak as it does, are signed.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// The access key's id.
    pub id: Secret,
    /// The access key itself.
    pub secret: Secret,
    /// The token of a session, where the key is a temporary one.
    pub token: Option<Secret>,
}

/// Where a secret is read from, late: a rotated one is used without a reload.
#[derive(Clone)]
pub struct Secret {
    place: String,
    read: Arc<Read>,
}

/// A secret that could not be read, or is none. Tells where it should be, never what was there.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret in {place}")]
pub struct SecretError {
    place: String,
    #[source]
    cause: Cause,
}

impl Secret {
    /// A secret that `read` gives whenever it is asked; `place` names where it is kept.
    pub fn new<E: Into<Cause>>(
        place: impl Into<String>,
        read: impl Fn() -> Result<SecretString, E> + Send + Sync + 'static,
    ) -> Self {
        Self { place: place.into(), read: Arc::new(move || read().map_err(Into::into)) }
    }

    /// Reads the secret, now. A short file is read: this may block for a moment.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        (self.read)().map_err(|cause| self.error(cause))
    }

    pub(in crate::audit) fn error(&self, cause: impl Into<Cause>) -> SecretError {
        SecretError { place: self.place.clone(), cause: cause.into() }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash =
            |prefix: &str| if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        match self {
            Self::Folder(path) => write!(f, "the folder {}", path.display()),
            Self::S3(s3) => write!(f, "s3://{}{} at {}", s3.bucket, slash(&s3.prefix), s3.endpoint),
            Self::Gcs(gcs) => {
                write!(f, "gs://{}{} at {}", gcs.bucket, slash(&gcs.prefix), gcs.endpoint)
            }
            Self::Azure(azure) => {
                write!(f, "az://{}{} at {}", azure.container, slash(&azure.prefix), azure.endpoint)
            }
        }
    }
}
