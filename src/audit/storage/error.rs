//! What can be wrong with a store, in one sentence each, and what to do about it.

use std::error::Error;
use std::io;

use crate::audit::aws::SignError;
use crate::audit::storage::http::Failure;
use crate::audit::storage::http::HttpFailed;
use crate::audit::storage::name::Name;
use crate::audit::storage::options::SecretError;
use crate::audit::storage::refused::Refused;

type Cause = Box<dyn Error + Send + Sync>;

/// Something could not be done with a store.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No answer, or one that says to come back later.
    #[error("{store} cannot be reached")]
    Unreachable {
        /// Which store.
        store: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// An address lies outside the declared networks: nothing was sent.
    #[error("{store} resolves to an address outside the networks declared for it")]
    Outside {
        /// Which store.
        store: String,
        /// Which address.
        #[source]
        cause: Cause,
    },
    /// The gateway's credential is wrong, or may not do this.
    #[error("{store} refuses the gateway's credential")]
    Denied {
        /// Which store.
        store: String,
        /// What it said.
        #[source]
        cause: Cause,
    },
    /// The bucket is in another region than configured.
    #[error(
        "{store} is not in region `{configured}`: it says {}",
        found.as_deref().map_or("that it is elsewhere".to_owned(), |found| format!("`{found}`"))
    )]
    WrongRegion {
        /// Which store.
        store: String,
        /// Where it should be.
        configured: String,
        /// Where it says that it is, if it says so.
        found: Option<String>,
    },
    /// There is no such bucket, container or folder.
    #[error("{store} does not exist")]
    NoBucket {
        /// Which store.
        store: String,
    },
    /// The object exists already, and is another.
    #[error("`{name}` exists already in {store}, with other content")]
    Conflict {
        /// Which store.
        store: String,
        /// Which object.
        name: Name,
    },
    /// There is no such object.
    #[error("`{name}` is not in {store}")]
    Missing {
        /// Which store.
        store: String,
        /// Which object.
        name: Name,
    },
    /// The object is kept from being deleted.
    #[error("`{name}` is locked in {store}")]
    Locked {
        /// Which store.
        store: String,
        /// Which object.
        name: Name,
    },
    /// There is no room.
    #[error("{store} is full")]
    Full {
        /// Which store.
        store: String,
        /// What it said.
        #[source]
        cause: Cause,
    },
    /// The object is longer than any of ours.
    #[error("`{name}` has {bytes} bytes, more than an object may have")]
    TooLarge {
        /// Which object.
        name: Name,
        /// Its length.
        bytes: u64,
    },
    /// There are more objects than can be listed.
    #[error("{store} has more objects under one name than are listed at a time")]
    TooMany {
        /// Which store.
        store: String,
    },
    /// What is configured cannot be used.
    #[error("{store} cannot be used as it is configured")]
    Unusable {
        /// Which store.
        store: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// Anything else.
    #[error("{store} did not do what was asked")]
    Failed {
        /// Which store.
        store: String,
        /// Why.
        #[source]
        cause: Cause,
    },
}

impl StorageError {
    /// What to do next, as one sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "look whether the store is up and reachable from here; it is tried again, and \
                 nothing is lost until the spool is full"
            }
            Self::Outside { .. } => {
                "find out why the name leads there; if that is right, declare the network under \
                 [audit.store] networks"
            }
            Self::Denied { .. } => {
                "check the credential, this machine's clock, and that it may list, read, write and \
                 delete there and read the bucket's settings (docs/storage.md)"
            }
            Self::WrongRegion { .. } => {
                "create a bucket in the gateway's region and name that one: recordings do not \
                 leave their region"
            }
            Self::NoBucket { .. } => "create it in the gateway's region; the gateway never does",
            Self::Conflict { .. } => {
                "keep both: somebody else wrote this name, or a record was changed; compare them \
                 with `weir audit verify`"
            }
            Self::Missing { .. } => {
                "look in the ledger whether it expired; if not, it was deleted by somebody else"
            }
            Self::Locked { .. } => "wait until its lock ends; nobody can delete it before",
            Self::Full { .. } => "make room or raise the quota; it is tried again until then",
            Self::TooLarge { .. } | Self::TooMany { .. } => {
                "this is no object of a gateway's: look who else writes there"
            }
            Self::Unusable { .. } => "correct [audit.store] in the configuration",
            Self::Failed { .. } => "the cause says what the store answered; it is tried again",
        }
    }

    /// Whether a request went out and its answer was lost: it may have been done.
    pub(super) fn is_lost_answer(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(one) = cause {
            if let Some(failed) = one.downcast_ref::<HttpFailed>() {
                return matches!(failed.failure(), Failure::Broken | Failure::Slow);
            }
            cause = one.source();
        }
        false
    }

    /// Whether trying again later may help without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Full { .. } | Self::Failed { .. } => true,
            Self::Outside { .. }
            | Self::Denied { .. }
            | Self::WrongRegion { .. }
            | Self::NoBucket { .. }
            | Self::Conflict { .. }
            | Self::Missing { .. }
            | Self::Locked { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Unusable { .. } => false,
        }
    }
}

/// What errors are told about: which store, where it should be, and which object.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) store: &'a str,
    pub(super) configured: &'a str,
    pub(super) name: Option<&'a Name>,
}

impl About<'_> {
    /// What an error of `object_store` means. What the store itself said is somewhere in its causes.
    pub(super) fn failed(&self, error: object_store::Error) -> StorageError {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(one) = cause {
            if let Some(refused) = one.downcast_ref::<Refused>() {
                let refused = refused.clone();
                return self.refused(refused);
            }
            if let Some(failed) = one.downcast_ref::<HttpFailed>() {
                let failure = failed.failure();
                return self.unanswered(failure, Box::new(error));
            }
            if one.downcast_ref::<SecretError>().is_some() {
                return StorageError::Denied { store: self.store(), cause: Box::new(error) };
            }
            if let Some(failed) = one.downcast_ref::<io::Error>() {
                let kind = failed.kind();
                return self.io(kind, Box::new(error));
            }
            cause = one.source();
        }
        match (&error, self.name) {
            (object_store::Error::NotFound { .. }, Some(name)) => {
                StorageError::Missing { store: self.store(), name: name.clone() }
            }
            (object_store::Error::NotFound { .. }, None) => {
                StorageError::NoBucket { store: self.store() }
            }
            _ => StorageError::Failed { store: self.store(), cause: Box::new(error) },
        }
    }

    /// What a refusal means.
    pub(super) fn refused(&self, refused: Refused) -> StorageError {
        let store = self.store();
        let region = refused.region.clone();
        let contradicts = region.is_some_and(|region| region != self.configured);
        if refused.is_elsewhere() || (contradicts && refused.is_denied()) {
            let (configured, found) = (self.configured.to_owned(), refused.region);
            return StorageError::WrongRegion { store, configured, found };
        }
        if refused.is_without_bucket() {
            return StorageError::NoBucket { store };
        }
        if let Some(name) = self.name.filter(|_| refused.is_locked()) {
            return StorageError::Locked { store, name: name.clone() };
        }
        let cause = Box::new(refused.clone());
        if refused.is_full() {
            StorageError::Full { store, cause }
        } else if refused.is_denied() {
            StorageError::Denied { store, cause }
        } else if refused.is_passing() {
            StorageError::Unreachable { store, cause }
        } else {
            StorageError::Failed { store, cause }
        }
    }

    /// What it means that there was no answer.
    pub(super) fn unanswered(&self, failure: Failure, cause: Cause) -> StorageError {
        let store = self.store();
        match failure {
            Failure::Unreachable | Failure::Slow | Failure::Broken => {
                StorageError::Unreachable { store, cause }
            }
            Failure::Outside => StorageError::Outside { store, cause },
            Failure::NotConfigured => StorageError::Unusable { store, cause },
        }
    }

    /// What it means that a request could not be signed.
    pub(super) fn unsigned(&self, error: SignError) -> StorageError {
        StorageError::Denied { store: self.store(), cause: Box::new(error) }
    }

    fn io(&self, kind: io::ErrorKind, cause: Cause) -> StorageError {
        let store = self.store();
        match (kind, self.name) {
            (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _) => {
                StorageError::Full { store, cause }
            }
            (io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem, _) => {
                StorageError::Denied { store, cause }
            }
            (io::ErrorKind::NotFound, Some(name)) => {
                StorageError::Missing { store, name: name.clone() }
            }
            (io::ErrorKind::NotFound, None) => StorageError::NoBucket { store },
            _ => StorageError::Failed { store, cause },
        }
    }

    fn store(&self) -> String {
        self.store.to_owned()
    }
}
