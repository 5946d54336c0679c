//! The SSH half of the `access` authority: one ed25519 key, and what it signs.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::UnparsedPublicKey;
use ipnet::IpNet;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::identity::ssh_certificate::NAME_BYTES_MAX;
use crate::identity::ssh_certificate::NETWORKS_MAX;
use crate::identity::ssh_certificate::PRINCIPALS_MAX;
use crate::identity::ssh_certificate::SIGNATURE_NAME;
use crate::identity::ssh_certificate::SOURCE_ADDRESS;
use crate::identity::ssh_certificate::SSH_CERTIFICATE_BYTES_MAX;
use crate::identity::ssh_certificate::SSH_LIFE_S_MAX;
use crate::identity::ssh_certificate::SSH_SKEW_S;
use crate::identity::ssh_certificate::TYPE_HOST;
use crate::identity::ssh_certificate::TYPE_USER;
use crate::identity::ssh_certificate::wire::BadKey;
use crate::identity::ssh_certificate::wire::ED25519_BYTES;
use crate::identity::ssh_certificate::wire::PublicKey;
use crate::identity::ssh_certificate::wire::Reader;
use crate::identity::ssh_certificate::wire::SshKeyKind;
use crate::identity::ssh_certificate::wire::is_text;
use crate::identity::ssh_certificate::wire::put;
use crate::model::Refusal;
use crate::model::digest::Digest;
use crate::model::encode::base64;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;

/// What the authority's public key is called in its line.
const COMMENT: &str = "weir-access";
/// A nonce, in bytes (PROTOCOL.certkeys: "typically 16 or 32 bytes").
const NONCE_BYTES: usize = 32;
/// An ed25519 signature, in bytes (RFC 8032 §5.1.6).
const SIGNATURE_BYTES: usize = 64;
/// Longest time that a host's certificate is good, in seconds.
const HOST_LIFE_S_MAX: i64 = 30 * 24 * 60 * 60;

/// A key that signs certificates for people and hosts.
pub struct SshAuthority {
    key: Ed25519KeyPair,
    public: SshAuthorityKey,
}

/// Why there is no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SshAuthorityError {
    /// None could be made.
    #[error("no key could be generated")]
    Generate,
    /// It cannot be read.
    #[error("the authority's key cannot be read; expected an ed25519 key in PKCS #8")]
    Unreadable,
}

/// What a person asks to have certified.
#[derive(Debug, Clone, Copy)]
pub struct UserAsk<'a> {
    /// The line of their public key.
    pub public_key: &'a str,
    /// Whom it is for.
    pub principals: &'a [String],
    /// What logs call it.
    pub key_id: &'a str,
    /// Its number.
    pub serial: u64,
    /// From when it is good.
    pub valid_after: Timestamp,
    /// When it ceases to be; seconds count.
    pub valid_before: Timestamp,
    /// The networks from which it is good; empty: from anywhere.
    pub source_address: &'a [IpNet],
    /// What it permits where somebody asks it.
    pub extensions: &'a [SshExtension],
}

/// What a host has certified.
#[derive(Debug, Clone, Copy)]
pub struct HostAsk<'a> {
    /// The line of its public key.
    pub public_key: &'a str,
    /// Its names; in OpenSSH's client a `*` stands for anything.
    pub names: &'a [String],
    /// What logs call it.
    pub key_id: &'a str,
    /// Its number.
    pub serial: u64,
    /// From when it is good.
    pub valid_after: Timestamp,
    /// When it ceases to be; seconds count.
    pub valid_before: Timestamp,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshIssued {
    /// `<type> <base 64> <key id>`, the format of `id_ed25519-cert.pub`.
    pub line: String,
    /// Of its bytes.
    pub digest: Digest,
}

/// Why no certificate is issued for what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshAskError {
    /// The public key is not taken.
    #[error("the public key cannot be certified: {0}")]
    Key(String),
    /// It would be for nobody, or for a name that others would read differently.
    #[error("a certificate needs 1 to {PRINCIPALS_MAX} names of 1 to {NAME_BYTES_MAX} signs")]
    Names,
    /// It would be good for too long, or for no time.
    #[error("a certificate cannot be good for that time")]
    Time,
    /// Too many networks.
    #[error("a certificate can be bound to at most {NETWORKS_MAX} networks")]
    Networks,
    /// It would be larger than what is read.
    #[error("the certificate would have {0} bytes; at most {SSH_CERTIFICATE_BYTES_MAX} are read")]
    TooLarge(usize),
    /// Nothing random is to be had, or the key does not sign.
    #[error("the certificate could not be signed")]
    Sign,
}

impl IntoRefusal for SshAskError {
    fn refusal(&self) -> Refusal {
        let refusal = Refusal::new(RefusalCode::Malformed, self.to_string());
        match self {
            Self::Key(_) => refusal.hint("make one with `ssh-keygen -t ed25519`"),
            Self::Names | Self::Time | Self::Networks | Self::TooLarge(_) | Self::Sign => refusal,
        }
    }
}

impl SshAuthority {
    /// A fresh key, PKCS #8.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, SshAuthorityError> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let made = made.map_err(|_| SshAuthorityError::Generate)?;
        Ok(Zeroizing::new(made.as_ref().to_vec()))
    }

    /// The authority with a key that [`SshAuthority::generate`] made.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SshAuthorityError> {
        let key = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| SshAuthorityError::Unreadable)?;
        let public = SshAuthorityKey::of(key.public_key().as_ref());
        let public = public.ok_or(SshAuthorityError::Unreadable)?;
        Ok(Self { key, public })
    }

    /// Its public key.
    pub fn public(&self) -> &SshAuthorityKey {
        &self.public
    }

    /// `ssh-ed25519 AAAA… weir-access`, as `TrustedUserCAKeys` and `@cert-authority` have it.
    pub fn public_line(&self) -> String {
        format!("{} {COMMENT}", self.public)
    }

    /// `SHA256:…`, as OpenSSH shows it.
    pub fn fingerprint(&self) -> String {
        self.public.fingerprint()
    }

    /// A certificate for a person.
    pub fn issue_user(&self, ask: &UserAsk<'_>) -> Result<SshIssued, SshAskError> {
        let addresses = ask.source_address.iter().map(|network| network.trunc().to_string());
        let addresses = addresses.collect::<Vec<_>>();
        let mut options = Vec::new();
        if addresses.len() > NETWORKS_MAX {
            return Err(SshAskError::Networks);
        }
        if !addresses.is_empty() {
            let mut value = Vec::new();
            put(&mut value, addresses.join(",").as_bytes());
            put(&mut options, SOURCE_ADDRESS.as_bytes());
            put(&mut options, &value);
        }
        let mut permits = ask.extensions.to_vec();
        permits.sort_unstable();
        permits.dedup();
        let mut extensions = Vec::new();
        for permit in permits {
            put(&mut extensions, permit.as_str().as_bytes());
            put(&mut extensions, b"");
        }
        let life_s_max = SSH_LIFE_S_MAX.saturating_add(SSH_SKEW_S);
        let time = Time::of(ask.valid_after, ask.valid_before, life_s_max)?;
        let names = Names { all: ask.principals, key_id: ask.key_id, serial: ask.serial };
        self.issue(TYPE_USER, ask.public_key, &names, &time, &(options, extensions))
    }

    /// A certificate for a host.
    pub fn issue_host(&self, ask: &HostAsk<'_>) -> Result<SshIssued, SshAskError> {
        let time = Time::of(ask.valid_after, ask.valid_before, HOST_LIFE_S_MAX)?;
        let names = Names { all: ask.names, key_id: ask.key_id, serial: ask.serial };
        self.issue(TYPE_HOST, ask.public_key, &names, &time, &(Vec::new(), Vec::new()))
    }

    fn issue(
        &self,
        certificate_type: u32,
        public_key: &str,
        names: &Names<'_>,
        time: &Time,
        (options, extensions): &(Vec<u8>, Vec<u8>),
    ) -> Result<SshIssued, SshAskError> {
        let key = PublicKey::from_line(public_key)
            .map_err(|bad: BadKey| SshAskError::Key(bad.to_string()))?;
        let list = names.list()?;
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SshAskError::Sign)?;
        let kind = key.kind.certificate_name();
        let mut blob = Vec::new();
        put(&mut blob, kind.as_bytes());
        put(&mut blob, &nonce);
        blob.extend(&key.fields);
        blob.extend(names.serial.to_be_bytes());
        blob.extend(certificate_type.to_be_bytes());
        put(&mut blob, names.key_id.as_bytes());
        put(&mut blob, &list);
        blob.extend(time.begin.to_be_bytes());
        blob.extend(time.end.to_be_bytes());
        put(&mut blob, options);
        put(&mut blob, extensions);
        put(&mut blob, b"");
        put(&mut blob, self.public.blob());
        let made = self.key.try_sign(&blob).map_err(|_| SshAskError::Sign)?;
        let mut signature = Vec::new();
        put(&mut signature, SIGNATURE_NAME);
        put(&mut signature, made.as_ref());
        put(&mut blob, &signature);
        if blob.len() > SSH_CERTIFICATE_BYTES_MAX {
            return Err(SshAskError::TooLarge(blob.len()));
        }
        let line = format!("{kind} {} {}", base64(&blob), names.key_id);
        Ok(SshIssued { line, digest: Digest::of(&blob) })
    }
}

impl fmt::Debug for SshAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshAuthority").field("public", &self.public).finish_non_exhaustive()
    }
}

struct Names<'a> {
    all: &'a [String],
    key_id: &'a str,
    serial: u64,
}

impl Names<'_> {
    /// The names as a certificate has them. None at all would mean everybody.
    fn list(&self) -> Result<Vec<u8>, SshAskError> {
        let fits = |name: &str| name.len() <= NAME_BYTES_MAX && is_text(name);
        let good = (1..=PRINCIPALS_MAX).contains(&self.all.len())
            && self.all.iter().all(|name| !name.is_empty() && fits(name))
            && fits(self.key_id);
        if !good {
            return Err(SshAskError::Names);
        }
        let mut list = Vec::new();
        for name in self.all {
            put(&mut list, name.as_bytes());
        }
        Ok(list)
    }
}

/// From when until when, in seconds since 1970.
struct Time {
    begin: u64,
    end: u64,
}

impl Time {
    fn of(after: Timestamp, before: Timestamp, life_s_max: i64) -> Result<Self, SshAskError> {
        let life_s = before.as_second().saturating_sub(after.as_second());
        let begin = u64::try_from(after.as_second());
        let end = u64::try_from(before.as_second());
        match (begin, end) {
            (Ok(begin), Ok(end)) if (1..=life_s_max).contains(&life_s) => Ok(Self { begin, end }),
            _ => Err(SshAskError::Time),
        }
    }
}

/// What a person's certificate permits where somebody asks it (ssh-keygen(1)); the gateway asks its
/// policy instead. In the order that certificates have them in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SshExtension {
    /// A security key need not be touched.
    NoTouchRequired,
    /// X11 forwarding.
    X11Forwarding,
    /// Agent forwarding.
    AgentForwarding,
    /// Port forwarding.
    PortForwarding,
    /// A terminal.
    Pty,
    /// `~/.ssh/rc`.
    UserRc,
}

impl SshExtension {
    const ALL: [Self; 6] = [
        Self::NoTouchRequired,
        Self::X11Forwarding,
        Self::AgentForwarding,
        Self::PortForwarding,
        Self::Pty,
        Self::UserRc,
    ];

    /// Its name in a certificate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTouchRequired => "no-touch-required",
            Self::X11Forwarding => "permit-X11-forwarding",
            Self::AgentForwarding => "permit-agent-forwarding",
            Self::PortForwarding => "permit-port-forwarding",
            Self::Pty => "permit-pty",
            Self::UserRc => "permit-user-rc",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.as_str() == name)
    }
}

/// The public key of an authority; ed25519, and never a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAuthorityKey {
    blob: Vec<u8>,
    key: Vec<u8>,
}

/// A text that is no authority's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no authority's key; expected a line such as `ssh-ed25519 AAAAC3Nza…`")]
pub struct BadSshAuthorityKey;

impl SshAuthorityKey {
    fn of(key: &[u8]) -> Option<Self> {
        let mut blob = Vec::new();
        put(&mut blob, SIGNATURE_NAME);
        put(&mut blob, key);
        (key.len() == ED25519_BYTES).then(|| Self { blob, key: key.to_vec() })
    }

    /// Its bytes, as certificates have them.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `SHA256:…`, as OpenSSH shows it.
    pub fn fingerprint(&self) -> String {
        let digest = Digest::of(&self.blob);
        format!("SHA256:{}", base64(digest.as_bytes()).trim_end_matches('='))
    }

    /// Whether it signed `signed`. No other algorithm than its own is looked at.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let read = || {
            let mut reader = Reader::new(signature);
            let name = reader.string(SIGNATURE_NAME.len(), "a signature").ok()?;
            let made = reader.string(SIGNATURE_BYTES, "a signature").ok()?;
            reader.end("a signature").ok()?;
            (name == SIGNATURE_NAME).then_some(made)
        };
        read().is_some_and(|made| {
            UnparsedPublicKey::new(&ED25519, &self.key).verify(signed, made).is_ok()
        })
    }
}

impl FromStr for SshAuthorityKey {
    type Err = BadSshAuthorityKey;

    fn from_str(line: &str) -> Result<Self, BadSshAuthorityKey> {
        let key = PublicKey::from_line(line).map_err(|_| BadSshAuthorityKey)?;
        let mut reader = Reader::new(&key.fields);
        let bytes = reader.string(ED25519_BYTES, "its key").map_err(|_| BadSshAuthorityKey)?;
        Self::of(bytes).filter(|_| key.kind == SshKeyKind::Ed25519).ok_or(BadSshAuthorityKey)
    }
}

impl fmt::Display for SshAuthorityKey {
    /// Its line, without a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", SshKeyKind::Ed25519, base64(&self.blob))
    }
}
