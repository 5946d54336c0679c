//! How the gateway signs in at a target: read when it dials, and kept nowhere.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use secrecy::SecretString;

type Cause = Box<dyn Error + Send + Sync>;
type Read = dyn Fn() -> Result<SecretString, Cause> + Send + Sync;

/// Where a credential is read from, late: a rotated one is used without a reload.
#[derive(Clone)]
pub struct Credential {
    place: String,
    read: Arc<Read>,
}

/// A credential that could not be read. Tells where it should be, never what was there.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the credential in {place}")]
pub struct CredentialError {
    place: String,
    #[source]
    cause: Cause,
}

impl Credential {
    /// A credential that `read` gives whenever it is asked; `place` names where it is kept.
    pub fn new<E: Into<Cause>>(
        place: impl Into<String>,
        read: impl Fn() -> Result<SecretString, E> + Send + Sync + 'static,
    ) -> Self {
        Self { place: place.into(), read: Arc::new(move || read().map_err(Into::into)) }
    }

    /// Reads the credential, now. A short file is read: this may block for a moment.
    pub fn read(&self) -> Result<SecretString, CredentialError> {
        (self.read)().map_err(|cause| CredentialError { place: self.place.clone(), cause })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.place)
    }
}
