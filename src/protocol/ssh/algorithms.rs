//! Which algorithms are spoken, on both sides, and why the others are not.
//!
//! No chacha20-poly1305: without strict key exchange it can be cut (CVE-2023-48795), and russh's
//! server role cannot refuse a client for the lack of that. No CBC, no SHA-1, no compression. No
//! RSA keys: russh's signing leaks their time (RUSTSEC-2023-0071). Strict key exchange is offered
//! and used with whoever knows it.

use std::borrow::Cow;

use russh::Preferred;
use russh::SshId;
use russh::cipher;
use russh::compression;
use russh::kex;
use russh::keys::Algorithm;
use russh::keys::EcdsaCurve;
use russh::mac;

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];
const MACS: &[mac::Name] =
    &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// The kinds of keys that are held and believed.
pub(super) const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

/// Whether keys of this kind are held and believed.
pub(super) fn is_supported(kind: &Algorithm) -> bool {
    KEYS.contains(kind)
}

/// Whether a person's key or certificate may be of this kind: also those in security keys.
pub(super) fn is_users(kind: &Algorithm) -> bool {
    is_supported(kind) || [Algorithm::SkEd25519, Algorithm::SkEcdsaSha2NistP256].contains(kind)
}

/// What is spoken, with host keys of `kinds`.
pub(super) fn preferred(kinds: Cow<'static, [Algorithm]>) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: kinds,
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// The first line of a connection (RFC 4253 §4.2): no version, which would only help an attacker.
pub(super) fn identification() -> SshId {
    SshId::Standard(Cow::Borrowed("SSH-2.0-Weir"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_weak_is_spoken() {
        let all = preferred(Cow::Borrowed(KEYS));
        let names = all.kex.iter().map(AsRef::as_ref).chain(all.cipher.iter().map(AsRef::as_ref));
        let names = names.chain(all.mac.iter().map(AsRef::as_ref)).collect::<Vec<&str>>();
        for weak in ["sha1", "cbc", "chacha20", "none", "3des", "group1-"] {
            assert!(names.iter().all(|name| !name.contains(weak)), "{weak}: {names:?}");
        }
        assert!(all.compression.iter().all(|name| name.as_ref() == "none"));
        assert!(all.key.iter().all(|kind| !kind.as_str().contains("rsa")));
        assert!(names.contains(&"kex-strict-s-v00@openssh.com"));
    }
}
