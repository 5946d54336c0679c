//! Secrets by reference: where a secret is kept, never the secret itself.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use serde::Deserializer;
use serde::de;

/// Largest secret, in bytes.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// What the error says when a secret itself was written. The line it stands on is never shown.
pub(super) const WRITTEN_OUT: &str = "a secret is not written into this file; expected a \
     reference to where it is kept, { env = \"NAME\" } or { file = \"path\" }";

/// Where a secret is kept: `{ env = "NAME" }` or `{ file = "path" }`.
///
/// It is read when it is needed, so that a rotated secret is used without a reload.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// In this environment variable of the gateway.
    Env(String),
    /// In this file; a line break at its end is not part of the secret.
    File(PathBuf),
}

/// A secret that could not be read. Tells where it should be, never what was there.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret in {place}")]
pub struct SecretError {
    place: String,
    #[source]
    cause: io::Error,
}

impl SecretRef {
    /// Reads the secret, now.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let read = match self {
            Self::Env(name) => read_env(name),
            Self::File(path) => read_file(path),
        };
        read.and_then(|secret| {
            let text = secret.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
            }
            Ok(SecretString::from(text))
        })
        .map_err(|cause| SecretError { place: self.to_string(), cause })
    }
}

#[expect(clippy::disallowed_methods, reason = "`config` is the one that reads the environment")]
fn read_env(name: &str) -> io::Result<zeroize::Zeroizing<String>> {
    // `VarError` holds what was there: it is dropped, not shown.
    std::env::var(name).map(Into::into).map_err(|error| match error {
        std::env::VarError::NotPresent => io::Error::new(io::ErrorKind::NotFound, "it is not set"),
        std::env::VarError::NotUnicode(_) => {
            io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")
        }
    })
}

fn read_file(path: &Path) -> io::Result<zeroize::Zeroizing<String>> {
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    // A pipe or a device would block or never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(invalid("it is not a regular file"));
    }
    let mut secret = zeroize::Zeroizing::new(String::new());
    let bytes = File::open(path)?
        .take(SECRET_BYTES_MAX + 1)
        .read_to_string(&mut secret)
        .map_err(|error| io::Error::from(error.kind()))?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes <= SECRET_BYTES_MAX) {
        Ok(secret)
    } else {
        Err(invalid("it is larger than 64 KiB"))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretRef({self})")
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reference;

        impl<'de> de::Visitor<'de> for Reference {
            type Value = SecretRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ env = \"NAME\" } or { file = \"path\" }")
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretRef, E> {
                Err(E::custom(WRITTEN_OUT))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
                // serde's own error for a wrong member would repeat the value: it may be a secret.
                let member = map.next_entry::<String, String>();
                let Ok(Some((place, name))) = member else {
                    return Err(de::Error::custom(WRITTEN_OUT));
                };
                if map.next_key::<de::IgnoredAny>()?.is_some() {
                    return Err(de::Error::custom(WRITTEN_OUT));
                }
                match place.as_str() {
                    "env" if is_variable(&name) => Ok(SecretRef::Env(name)),
                    "file" if !name.is_empty() => Ok(SecretRef::File(name.into())),
                    _ => Err(de::Error::custom(WRITTEN_OUT)),
                }
            }
        }

        deserializer.deserialize_any(Reference)
    }
}

/// Whether `name` is a portable name of an environment variable (POSIX XBD §8.1, and lower case).
fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_is_read_late_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let reference = SecretRef::File(path.clone());
        assert!(reference.read().is_err(), "there is no file yet");

        std::fs::write(&path, "planted-secret\n").unwrap();
        let secret = reference.read().unwrap();
        assert_eq!(secret.expose_secret(), "planted-secret");
        assert!(!format!("{secret:?} {reference:?} {reference}").contains("planted"));

        std::fs::write(&path, "rotated\r\n").unwrap();
        assert_eq!(reference.read().unwrap().expose_secret(), "rotated");
    }

    #[test]
    fn what_is_no_secret_is_refused_without_telling_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let too_large = vec![b'x'; usize::try_from(SECRET_BYTES_MAX).unwrap() + 1];
        for bytes in [&b""[..], b"\n", b"planted\xff", &too_large] {
            std::fs::write(&path, bytes).unwrap();
            let error = SecretRef::File(path.clone()).read().unwrap_err();
            assert!(!format!("{error:?}").contains("planted"));
        }
        assert!(SecretRef::File(folder.path().into()).read().is_err(), "a folder");
        assert!(SecretRef::Env("WEIR_TEST_SURELY_NOT_SET".into()).read().is_err());
        assert!(SecretRef::Env("PATH".into()).read().is_ok());
    }
}
