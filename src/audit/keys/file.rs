//! Keys as text, one line with what the key is for; and files with one, for their owner's eyes only.

use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::audit::keys::KEY_BYTES;
use crate::audit::keys::KeyBytes;
use crate::audit::keys::KeyError;
use crate::model::encode::base64;
use crate::model::encode::unbase64_exactly;

/// Largest key file, in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 1024;

/// The word that a key's text begins with.
const FIRST_WORD: &str = "weir-key";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Wrapping the data keys of a region.
    Wrapping,
    /// Signing the checkpoints of a ledger.
    Ledger,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Wrapping, Self::Ledger];

    /// As keys' texts have it: with the version of what is done with the key.
    fn word(self) -> &'static str {
        match self {
            Self::Wrapping => "wrapping-v1",
            Self::Ledger => "ledger-v1",
        }
    }

    /// As people write it.
    fn name(self) -> &'static str {
        match self {
            Self::Wrapping => "wrapping",
            Self::Ledger => "ledger",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Purpose {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|known| known.name() == text);
        known.ok_or("expected `wrapping` or `ledger`")
    }
}

pub(super) fn parse(text: &str, expected: Purpose) -> Result<KeyBytes, KeyError> {
    let bad = |what| KeyError::NoKey { expected, what };
    let line = text.strip_suffix('\n').unwrap_or(text);
    let mut words = line.split(' ');
    if words.next() != Some(FIRST_WORD) {
        return Err(bad("it begins with another word"));
    }
    let word = words.next().unwrap_or_default();
    match Purpose::ALL.into_iter().find(|known| known.word() == word) {
        Some(found) if found == expected => {}
        Some(found) => return Err(KeyError::Purpose { expected, found }),
        None => return Err(bad("what it is for is not known here")),
    }
    let (Some(text), None) = (words.next(), words.next()) else {
        return Err(bad("it has not three words"));
    };
    let bytes = unbase64_exactly(text).map(Zeroizing::new).ok_or(bad("its key is no base 64"))?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if bytes.len() != KEY_BYTES {
        return Err(bad("its key has not 32 bytes"));
    }
    key.copy_from_slice(&bytes);
    Ok(KeyBytes::new(key))
}

pub(super) fn read(path: &Path, purpose: Purpose) -> Result<KeyBytes, KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), verb: "read", source };
    // A pipe would block: what is opened is looked at first, and again once it is open.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")));
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(128));
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let text = std::str::from_utf8(&bytes);
    let key = match text {
        Ok(text) => parse(text, purpose),
        Err(_) => Err(KeyError::NoKey { expected: purpose, what: "it is no text" }),
    };
    key.map_err(|source| KeyError::File { path: path.to_owned(), source: Box::new(source) })
}

pub(super) fn create(path: &Path, purpose: Purpose, key: &KeyBytes) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), verb: "made", source };
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let encoded = Zeroizing::new(base64(key.expose()));
    let text = Zeroizing::new(format!("{FIRST_WORD} {purpose} {}\n", encoded.as_str()));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|source| {
        // Half a key is of no use, and would be in the way of the next attempt.
        drop(fs::remove_file(path));
        failed(source)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::fault::Chain;

    #[test]
    fn a_key_file_is_its_owners_alone_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        for purpose in Purpose::ALL {
            let path = dir.path().join(purpose.name());
            let key = KeyBytes::create(&path, purpose).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            assert!(KeyBytes::read(&path, purpose).unwrap().same(&key));
            assert!(!KeyBytes::generate().unwrap().same(&key));
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with(&format!("weir-key {}-v1 ", purpose.name())), "{text}");
            assert!(matches!(KeyBytes::create(&path, purpose), Err(KeyError::Io { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it was not written over");
        }
    }

    #[test]
    fn a_key_for_another_purpose_is_refused_and_the_error_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        KeyBytes::create(&path, Purpose::Ledger).unwrap();
        let error = KeyBytes::read(&path, Purpose::Wrapping).unwrap_err();
        let text = Chain(&error).to_string();
        assert!(text.contains("ledger-v1") && text.contains("wrapping-v1"), "{text}");
        assert!(text.contains("two purposes") && text.contains("key file"), "{text}");
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        KeyBytes::create(&path, Purpose::Ledger).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = KeyBytes::read(&path, Purpose::Ledger).unwrap_err();
            assert!(error.to_string().contains("chmod go="), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        KeyBytes::read(&path, Purpose::Ledger).unwrap();
        assert!(KeyBytes::read(dir.path(), Purpose::Ledger).is_err());
        assert!(KeyBytes::read(&dir.path().join("none"), Purpose::Ledger).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let good = format!("weir-key wrapping-v1 {}", base64(&[7; KEY_BYTES]));
        assert!(KeyBytes::parse(&good, Purpose::Wrapping).is_ok());
        assert!(KeyBytes::parse(&format!("{good}\n"), Purpose::Wrapping).is_ok());
        for bad in [
            String::new(),
            good.replace("weir-key", "other-key"),
            good.replace("wrapping-v1", "wrapping-v2"),
            good.replace("wrapping-v1 ", ""),
            good.replace("wrapping-v1 ", "wrapping-v1  "),
            good.replace('=', ""),
            format!("{good}\n\n"),
            format!("{good} more"),
            format!("weir-key wrapping-v1 {}", base64(&[7; 31])),
            format!("weir-key wrapping-v1 {}", base64(&[7; 33])),
        ] {
            let error = KeyBytes::parse(&bad, Purpose::Wrapping).expect_err(&bad);
            assert!(!error.to_string().contains("Bwc"), "{error}");
        }
    }
}
