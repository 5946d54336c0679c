//! The bytes of OpenSSH's keys and certificates: strings with their length before them (RFC 4251
//! §5), the public keys of PROTOCOL, PROTOCOL.u2f and RFC 5656, and the base 64 of their lines.
//!
//! Every length is compared with a bound before anything is taken, and nothing may be left over.

use std::fmt;

use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED;
use aws_lc_rs::signature::ECDSA_P521_SHA512_FIXED;
use aws_lc_rs::signature::ParsedPublicKey;

use crate::model::encode::unbase64_exactly;

/// Longest line with a public key, in bytes; its comment included.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// Longest application of a security key, in bytes (`ssh:` and what follows).
const APPLICATION_BYTES_MAX: usize = 256;
/// An ed25519 key, in bytes (RFC 8032 §5.1.5).
pub(super) const ED25519_BYTES: usize = 32;
/// What a certificate's type adds to its key's (PROTOCOL.certkeys).
const CERTIFICATE_SUFFIX: &str = "-cert-v01@openssh.com";

/// Bytes that are not what they have to be; the text says what was read when they stopped being it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// What is left to read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    /// A string of at most `bytes_max` bytes.
    pub(super) fn string(
        &mut self,
        bytes_max: usize,
        what: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32(what)?).ok().filter(|length| *length <= bytes_max);
        let parts = length.and_then(|length| self.0.split_at_checked(length));
        let (string, rest) = parts.ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(string)
    }

    /// A string that is text: UTF-8 without control characters.
    pub(super) fn text(
        &mut self,
        bytes_max: usize,
        what: &'static str,
    ) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.string(bytes_max, what)?);
        text.ok().filter(|text| is_text(text)).ok_or(Malformed(what))
    }

    /// That nothing is left.
    pub(super) fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }

    /// What was read since `before`, of which this is what was left.
    pub(super) fn since(&self, before: &Self) -> &'a [u8] {
        let length = before.0.len().saturating_sub(self.0.len());
        before.0.split_at_checked(length).map_or(b"".as_slice(), |(read, _)| read)
    }
}

/// Text that a terminal shows as it is.
pub(super) fn is_text(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Writes a string with its length before it. What is written here is far below 4 GiB.
pub(super) fn put(out: &mut Vec<u8>, string: &[u8]) {
    out.extend(u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(string);
}

/// The kinds of keys that people and hosts may have. No RSA: the gateway's SSH library does not
/// verify it (`protocol/ssh` says why), so a certificate for such a key would open nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshKeyKind {
    /// `ssh-ed25519`.
    Ed25519,
    /// `ecdsa-sha2-nistp256`.
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`.
    EcdsaP384,
    /// `ecdsa-sha2-nistp521`.
    EcdsaP521,
    /// `sk-ssh-ed25519@openssh.com`: in a security key.
    SkEd25519,
    /// `sk-ecdsa-sha2-nistp256@openssh.com`: in a security key.
    SkEcdsaP256,
}

impl SshKeyKind {
    const ALL: [Self; 6] = [
        Self::Ed25519,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::SkEd25519,
        Self::SkEcdsaP256,
    ];

    /// The first word of its lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkEcdsaP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// The first word of its certificates' lines.
    pub(super) fn certificate_name(self) -> String {
        // A name with a domain keeps it at its end once: `sk-ssh-ed25519-cert-v01@openssh.com`.
        let name = self.as_str();
        format!("{}{CERTIFICATE_SUFFIX}", name.strip_suffix("@openssh.com").unwrap_or(name))
    }

    fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str().as_bytes() == name)
    }

    pub(super) fn of_certificate(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.certificate_name().as_bytes() == name)
    }

    /// Reads what follows a key's name.
    pub(super) fn read_fields(self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        match self {
            Self::Ed25519 => ed25519(reader),
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => self.ecdsa(reader),
            Self::SkEd25519 => ed25519(reader).and_then(|()| application(reader)),
            Self::SkEcdsaP256 => self.ecdsa(reader).and_then(|()| application(reader)),
        }
    }

    /// A curve's name and an uncompressed point that lies on it (RFC 5656 §3.1).
    fn ecdsa(self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        const WHAT: &str = "its ECDSA key";
        let (curve, verifies, point_bytes) = match self {
            Self::EcdsaP384 => ("nistp384", &ECDSA_P384_SHA384_FIXED, 97),
            Self::EcdsaP521 => ("nistp521", &ECDSA_P521_SHA512_FIXED, 133),
            Self::Ed25519 | Self::EcdsaP256 | Self::SkEd25519 | Self::SkEcdsaP256 => {
                ("nistp256", &ECDSA_P256_SHA256_FIXED, 65)
            }
        };
        let named = reader.string(curve.len(), WHAT)?;
        let point = reader.string(point_bytes, WHAT)?;
        let right = named == curve.as_bytes()
            && point.len() == point_bytes
            && point.first() == Some(&4)
            && ParsedPublicKey::new(verifies, point).is_ok();
        if right { Ok(()) } else { Err(Malformed(WHAT)) }
    }
}

impl fmt::Display for SshKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn ed25519(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    const WHAT: &str = "its ed25519 key";
    let key = reader.string(ED25519_BYTES, WHAT)?;
    if key.len() == ED25519_BYTES { Ok(()) } else { Err(Malformed(WHAT)) }
}

fn application(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.text(APPLICATION_BYTES_MAX, "its security key's application").map(drop)
}

/// A public key, as its line has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub(super) kind: SshKeyKind,
    /// What follows the name in its bytes.
    pub(super) fields: Vec<u8>,
}

impl PublicKey {
    /// Reads `<name> <base 64> [comment]`, the format of `id_ed25519.pub` (sshd(8)).
    pub(super) fn from_line(line: &str) -> Result<Self, BadKey> {
        if line.len() > LINE_BYTES_MAX {
            return Err(BadKey::Form);
        }
        let line = line.trim_end_matches(['\r', '\n']);
        let mut words = line.split([' ', '\t']);
        let (Some(name), Some(text)) = (words.next(), words.next()) else {
            return Err(BadKey::Form);
        };
        if line.contains(['\r', '\n']) {
            return Err(BadKey::Form);
        }
        let kind = SshKeyKind::named(name.as_bytes()).ok_or_else(|| BadKey::unsupported(name))?;
        let bytes = unbase64_exactly(text).ok_or(BadKey::Form)?;
        let mut reader = Reader::new(&bytes);
        let inner = reader.string(name.len(), "its name").map_err(|_| BadKey::Form)?;
        let fields = reader.rest().to_vec();
        kind.read_fields(&mut reader).map_err(|_| BadKey::Form)?;
        if inner != name.as_bytes() || !reader.is_empty() {
            return Err(BadKey::Form);
        }
        Ok(Self { kind, fields })
    }
}

/// Why a line is no public key that a certificate can be made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKey {
    #[error("it is no public key line, such as `ssh-ed25519 AAAAC3Nza…`")]
    Form,
    #[error("it is {0}; expected ed25519 or ECDSA, in a security key or not")]
    Kind(&'static str),
}

impl BadKey {
    fn unsupported(name: &str) -> Self {
        match name {
            "ssh-rsa" => Self::Kind("an RSA key, which this gateway does not verify"),
            "ssh-dss" => Self::Kind("a DSA key"),
            name if name.ends_with(CERTIFICATE_SUFFIX) => Self::Kind("a certificate already"),
            _ => Self::Form,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_beyond_its_bound_takes_nothing() {
        let mut reader = Reader::new(b"\0\0\0\x05hello");
        assert_eq!(reader.clone().string(4, "x"), Err(Malformed("x")));
        assert_eq!(reader.string(5, "x"), Ok(b"hello".as_slice()));
        assert!(Reader::new(b"\xff\xff\xff\xffhello").string(usize::MAX, "x").is_err());
    }

    proptest! {
        #[test]
        fn no_line_is_a_key_by_chance(line in "(ssh-ed25519|ecdsa-sha2-nistp256) [A-Za-z0-9+/]{0,200}={0,2}") {
            prop_assert!(PublicKey::from_line(&line).is_err());
        }
    }
}
