//! OpenSSH certificates (PROTOCOL.certkeys): issued for people and hosts, and checked.
//!
//! ```text
//! authority   the SSH half of the `access` authority: an ed25519 key that signs
//! wire        the bytes: strings, keys, base 64
//! (here)      bytes ──► parse ──► check against *our* authorities, time, principal, address
//! ```
//!
//! Values in, values out: no clock, no state. That a certificate was issued by us and has not been
//! revoked is for whoever keeps credentials, by the digest that [`check`] gives; that its owner has
//! its key, the SSH handshake proved.

mod authority;
mod wire;

#[cfg(test)]
mod tests;

pub use authority::BadSshAuthorityKey;
pub use authority::HostAsk;
pub use authority::SshAskError;
pub use authority::SshAuthority;
pub use authority::SshAuthorityError;
pub use authority::SshAuthorityKey;
pub use authority::SshExtension;
pub use authority::SshIssued;
pub use authority::UserAsk;
pub use wire::SshKeyKind;

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::identity::ssh_certificate::wire::Malformed;
use crate::identity::ssh_certificate::wire::Reader;
use crate::model::Refusal;
use crate::model::digest::Digest;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;

/// Longest certificate, in bytes.
pub const SSH_CERTIFICATE_BYTES_MAX: usize = 8 * 1024;
/// Longest time that a person's certificate is good, in seconds: a working day.
pub const SSH_LIFE_S_MAX: i64 = 8 * 60 * 60;
/// How far before now a certificate may begin, in seconds, for clocks that are behind.
pub const SSH_SKEW_S: i64 = 60;
/// Most principals in one.
const PRINCIPALS_MAX: usize = 64;
/// Longest principal or key id, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// Longest nonce, in bytes; ours have 32.
const NONCE_BYTES_MAX: usize = 64;
/// Most options, and most extensions.
const OPTIONS_MAX: usize = 16;
/// Longest list of options with their values, in bytes.
const OPTIONS_BYTES_MAX: usize = 4 * 1024;
/// Most networks in `source-address`.
const NETWORKS_MAX: usize = 16;
/// Certificates for people (PROTOCOL.certkeys, `SSH_CERT_TYPE_USER`).
const TYPE_USER: u32 = 1;
/// Certificates for hosts (`SSH_CERT_TYPE_HOST`).
const TYPE_HOST: u32 = 2;
/// The one signature that an authority of ours makes.
const SIGNATURE_NAME: &[u8] = b"ssh-ed25519";

/// A certificate as it was read; nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshCertificate<'a> {
    /// Of which kind its key is.
    pub kind: SshKeyKind,
    /// Its number.
    pub serial: u64,
    /// 1 for a person's, 2 for a host's.
    pub certificate_type: u32,
    /// What logs call it.
    pub key_id: &'a str,
    /// Whom it is for.
    pub principals: Vec<&'a str>,
    /// From when it is good, in seconds since 1970.
    pub valid_after: u64,
    /// When it ceases to be, in seconds since 1970.
    pub valid_before: u64,
    /// Options that everybody must know, with their values.
    pub critical_options: Vec<(&'a str, &'a [u8])>,
    /// Options that nobody need know.
    pub extensions: Vec<(&'a str, &'a [u8])>,
    /// The bytes of the authority's public key.
    pub authority: &'a [u8],
    signed: &'a [u8],
    signature: &'a [u8],
}

/// What a person's certificate is compared with.
#[derive(Debug, Clone, Copy)]
pub struct SshExpected<'a> {
    /// The authorities that are ours.
    pub authorities: &'a [SshAuthorityKey],
    /// The time.
    pub now: Timestamp,
    /// Who is signing in: a principal of the certificate.
    pub principal: &'a str,
    /// From where.
    pub address: IpAddr,
}

/// A person's certificate that one of our authorities signed, and that is good now, for this
/// principal, from this address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshChecked {
    /// Of its bytes.
    pub digest: Digest,
    /// Its number.
    pub serial: u64,
    /// What logs call it.
    pub key_id: String,
    /// Whom it is for.
    pub principals: Vec<String>,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// Why a certificate is none, or none to sign in with; for the log only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshCertificateError {
    /// Larger than any of ours.
    #[error("the certificate has {0} bytes; at most {SSH_CERTIFICATE_BYTES_MAX} are read")]
    TooLarge(usize),
    /// Not as PROTOCOL.certkeys has it.
    #[error("the certificate cannot be read: {0}")]
    Malformed(&'static str),
    /// Signed by somebody else, perhaps with another algorithm or by a certificate.
    #[error("the certificate is of another authority")]
    Foreign,
    /// The signature is not the authority's.
    #[error("the certificate's signature is wrong")]
    Forged,
    /// A host's, or of an unknown type.
    #[error("the certificate is not a person's: its type is {0}")]
    NotUser(u32),
    /// Good for longer than any of ours.
    #[error("the certificate is good for too long, or for no time")]
    TooLong,
    /// Not good yet.
    #[error("the certificate is not good yet")]
    NotYet,
    /// Not good any more.
    #[error("the certificate has expired")]
    Expired,
    /// For nobody, which OpenSSH takes for anybody, or for somebody else.
    #[error("the certificate is not for this principal")]
    OtherPrincipal,
    /// An option that must be known and is not obeyed here.
    #[error("the certificate has the critical option `{0}`, which is not taken here")]
    CriticalOption(String),
    /// From an address that it is not good for.
    #[error("the certificate is not good for the address {0}")]
    OtherAddress(IpAddr),
}

impl IntoRefusal for SshCertificateError {
    /// The same for all: what was nearly right is for the log.
    fn refusal(&self) -> Refusal {
        let code = RefusalCode::Unauthenticated;
        Refusal::new(code, "the SSH certificate was not accepted").hint("run `weir login`")
    }
}

impl From<Malformed> for SshCertificateError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

/// Checks a person's certificate, whose key the SSH handshake proved.
pub fn check(blob: &[u8], expected: &SshExpected<'_>) -> Result<SshChecked, SshCertificateError> {
    let certificate = parse(blob)?;
    let authority = expected.authorities.iter().find(|key| key.blob() == certificate.authority);
    let authority = authority.ok_or(SshCertificateError::Foreign)?;
    if !authority.verifies(certificate.signed, certificate.signature) {
        return Err(SshCertificateError::Forged);
    }
    if certificate.certificate_type != TYPE_USER {
        return Err(SshCertificateError::NotUser(certificate.certificate_type));
    }
    let expires_at = in_time(&certificate, expected.now)?;
    if !certificate.principals.contains(&expected.principal) {
        return Err(SshCertificateError::OtherPrincipal);
    }
    for (name, value) in &certificate.critical_options {
        obey(name, value, expected.address)?;
    }
    Ok(SshChecked {
        digest: Digest::of(blob),
        serial: certificate.serial,
        key_id: certificate.key_id.to_owned(),
        principals: certificate.principals.iter().map(|name| (*name).to_owned()).collect(),
        expires_at,
    })
}

/// Reads a certificate: every field within its bound, options in order and once, and nothing
/// behind the signature (PROTOCOL.certkeys).
pub fn parse(blob: &[u8]) -> Result<SshCertificate<'_>, SshCertificateError> {
    if blob.len() > SSH_CERTIFICATE_BYTES_MAX {
        return Err(SshCertificateError::TooLarge(blob.len()));
    }
    let whole = Reader::new(blob);
    let mut reader = whole;
    let name = reader.string(NAME_BYTES_MAX, "its type")?;
    let kind = SshKeyKind::of_certificate(name).ok_or(Malformed("its type"))?;
    reader.string(NONCE_BYTES_MAX, "its nonce")?;
    kind.read_fields(&mut reader)?;
    let serial = reader.u64("its serial number")?;
    let certificate_type = reader.u32("whom it is for")?;
    let key_id = reader.text(NAME_BYTES_MAX, "its key id")?;
    let principals = principals(reader.string(SSH_CERTIFICATE_BYTES_MAX, "its principals")?)?;
    let valid_after = reader.u64("when it begins")?;
    let valid_before = reader.u64("when it ends")?;
    let critical_options = options(&mut reader, "its critical options")?;
    let extensions = options(&mut reader, "its extensions")?;
    // Reserved for what may come; what it would mean is not known, so it has to be empty.
    reader.string(0, "its reserved field")?;
    let authority = reader.string(NAME_BYTES_MAX, "its authority")?;
    let signed = reader.since(&whole);
    let signature = reader.string(NAME_BYTES_MAX, "its signature")?;
    reader.end("what follows its signature")?;
    Ok(SshCertificate {
        kind,
        serial,
        certificate_type,
        key_id,
        principals,
        valid_after,
        valid_before,
        critical_options,
        extensions,
        authority,
        signed,
        signature,
    })
}

fn principals(list: &[u8]) -> Result<Vec<&str>, Malformed> {
    const WHAT: &str = "its principals";
    let mut reader = Reader::new(list);
    let mut principals = Vec::new();
    while !reader.is_empty() {
        let principal = reader.text(NAME_BYTES_MAX, WHAT)?;
        if principal.is_empty() || principals.len() >= PRINCIPALS_MAX {
            return Err(Malformed(WHAT));
        }
        principals.push(principal);
    }
    Ok(principals)
}

/// Names with values, "lexically ordered by name", each once.
fn options<'a>(
    reader: &mut Reader<'a>,
    what: &'static str,
) -> Result<Vec<(&'a str, &'a [u8])>, Malformed> {
    let mut list = Reader::new(reader.string(OPTIONS_BYTES_MAX, what)?);
    let mut options = Vec::<(&str, &[u8])>::new();
    while !list.is_empty() {
        let name = list.text(NAME_BYTES_MAX, what)?;
        let value = list.string(OPTIONS_BYTES_MAX, what)?;
        let ordered = options.last().is_none_or(|(before, _)| *before < name);
        if !ordered || name.is_empty() || options.len() >= OPTIONS_MAX {
            return Err(Malformed(what));
        }
        options.push((name, value));
    }
    let odd =
        |(name, value): &(&str, &[u8])| SshExtension::named(name).is_some() && !value.is_empty();
    if options.iter().any(odd) { Err(Malformed(what)) } else { Ok(options) }
}

/// That it is good now, and for no longer than any of ours. Says until when.
fn in_time(
    certificate: &SshCertificate<'_>,
    now: Timestamp,
) -> Result<Timestamp, SshCertificateError> {
    // "For ever" is 0 to 2^64 - 1 (PROTOCOL.certkeys), which is no time that we ever gave.
    let seconds = |at: u64| i64::try_from(at).ok().and_then(|at| Timestamp::from_second(at).ok());
    let begin = seconds(certificate.valid_after).ok_or(SshCertificateError::TooLong)?;
    let end = seconds(certificate.valid_before).ok_or(SshCertificateError::TooLong)?;
    let life_s = end.as_second().saturating_sub(begin.as_second());
    if !(1..=SSH_LIFE_S_MAX.saturating_add(SSH_SKEW_S)).contains(&life_s) {
        return Err(SshCertificateError::TooLong);
    }
    if now < begin {
        return Err(SshCertificateError::NotYet);
    }
    if now >= end { Err(SshCertificateError::Expired) } else { Ok(end) }
}

/// Obeys a critical option. `force-command` would be a command that policy never saw;
/// `verify-required` asks for what the SSH library does not tell. Neither is ever issued here.
fn obey(name: &str, value: &[u8], address: IpAddr) -> Result<(), SshCertificateError> {
    if name != SOURCE_ADDRESS {
        return Err(SshCertificateError::CriticalOption(name.to_owned()));
    }
    let mut reader = Reader::new(value);
    let list = reader.text(OPTIONS_BYTES_MAX, SOURCE_ADDRESS)?;
    reader.end(SOURCE_ADDRESS)?;
    let networks = networks(list).ok_or(Malformed(SOURCE_ADDRESS))?;
    let address = address.to_canonical();
    if networks.iter().any(|network| network.contains(&address)) {
        Ok(())
    } else {
        Err(SshCertificateError::OtherAddress(address))
    }
}

/// The critical option that says from where a certificate is good.
const SOURCE_ADDRESS: &str = "source-address";

/// A list of addresses and networks (ssh-keygen(1), `source-address`). A network whose address has
/// bits beyond its mask is malformed, as for OpenSSH.
fn networks(list: &str) -> Option<Vec<IpNet>> {
    let network = |text: &str| match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().ok().filter(|network| *network == network.trunc()),
    };
    let networks = list.split(',').map(network).collect::<Option<Vec<_>>>()?;
    (networks.len() <= NETWORKS_MAX).then_some(networks)
}
