//! The keys of the record: what they are for, where they come from, and what wraps what.
//!
//! ```text
//! ledger key      signs checkpoints                        one a gateway    file, never leaves
//! wrapping key    wraps the data keys of a region          one a region     file, or from a KMS
//! data key        encrypts one session's recording         one a session    kept wrapped only
//! ```
//!
//! A key is for one purpose: its text says which, and [`KeyRing::refuse_shared`] compares the bytes.
//! Knows no session's content; sealing chunks with a [`DataKey`] is the recording's.

mod file;
mod wrapping;

pub use file::KEY_FILE_BYTES_MAX;
pub use file::Purpose;
pub use wrapping::DataKey;
pub use wrapping::KeyRing;
pub use wrapping::WrappedKey;
pub use wrapping::WrappingKey;
pub use wrapping::WrappingKeyId;

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::audit::note::KeyName;
use crate::audit::note::NoteKey;

/// Length of every key of the record, in bytes.
pub const KEY_BYTES: usize = 32;

/// Why a key cannot be had or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system says no.
    #[error("the key file {} cannot be {verb}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others may read or write the file.
    #[error(
        "the key file {0} is open to others (mode {mode:o}), who may know the key: if nobody else \
         had access to this machine, run `chmod go= {0}`; else make a new key",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What the file says is no such key.
    #[error("the key file {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<Self>,
    },
    /// The text is no key.
    #[error(
        "expected one line `weir-key {expected} BASE64`, as `weir audit keygen` writes it: {what}"
    )]
    NoKey {
        /// What it should be for.
        expected: Purpose,
        /// What is wrong.
        what: &'static str,
    },
    /// The text is a key for something else.
    #[error(
        "this key is for {found}, and {expected} is wanted: no key is ever used for two purposes"
    )]
    Purpose {
        /// What it should be for.
        expected: Purpose,
        /// What it is for.
        found: Purpose,
    },
    /// Two keys are the same.
    #[error(
        "{0} are the same key: no key is ever used twice, make another with `weir audit keygen`"
    )]
    Shared(&'static str),
    /// A data key was wrapped by a key that is not here.
    #[error("it was wrapped by the key {0}, which is not among this region's")]
    UnknownWrappingKey(WrappingKeyId),
    /// A wrapped data key does not open.
    #[error("the wrapped key was changed, or is another session's or another region's")]
    Unwrap,
    /// The library cannot do it: it is out of memory, or of random numbers.
    #[error("the cryptographic library failed")]
    Library,
}

/// The bytes of a key, wiped when dropped. Nothing shows them.
#[derive(Clone)]
pub struct KeyBytes(Zeroizing<[u8; KEY_BYTES]>);

impl KeyBytes {
    /// A key from these bytes, such as a KMS gave.
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    /// A random key.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| KeyError::Library)?;
        Ok(Self(bytes))
    }

    /// Reads a key's text: `weir-key PURPOSE BASE64`, for example from an environment variable.
    pub fn parse(text: &str, purpose: Purpose) -> Result<Self, KeyError> {
        file::parse(text, purpose)
    }

    /// Reads a key file, which nobody but its owner may read.
    pub fn read(path: &Path, purpose: Purpose) -> Result<Self, KeyError> {
        file::read(path, purpose)
    }

    /// Makes a key and a file with it, which must not be there yet.
    pub fn create(path: &Path, purpose: Purpose) -> Result<Self, KeyError> {
        let key = Self::generate()?;
        file::create(path, purpose, &key)?;
        Ok(key)
    }

    /// The bytes, for whoever computes with them.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Whether they are the same, in constant time.
    fn same(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.expose(), other.expose()).is_ok()
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes")
    }
}

/// The key that signs a ledger's checkpoints.
#[derive(Debug, Clone)]
pub struct LedgerKey(KeyBytes);

impl LedgerKey {
    /// A ledger key with this seed.
    pub fn new(seed: KeyBytes) -> Self {
        Self(seed)
    }

    /// The key under the name that its notes carry: the origin of the ledger.
    pub fn named(&self, name: KeyName) -> Result<NoteKey, KeyError> {
        NoteKey::new(name, self.0.expose()).ok_or(KeyError::Library)
    }
}
