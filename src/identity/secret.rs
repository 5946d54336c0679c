//! Secrets of the gateway's own making: what they look like, and how a fresh one is made.

use aws_lc_rs::rand;
use secrecy::SecretString;
use zeroize::Zeroizing;

/// How many random bytes a secret has.
const RANDOM_BYTES: usize = 32;
/// The signs of base64url (RFC 4648 §5).
const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What every secret of the gateway's begins with, so that scanners find it.
const PREFIX: &str = "weir_";

/// A fresh secret that begins with `prefix`: 256 random bits. `None`: there are no random numbers.
pub fn fresh(prefix: &str) -> Option<SecretString> {
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    rand::fill(random.as_mut_slice()).ok()?;
    let mut text = Zeroizing::new(String::with_capacity(prefix.len().saturating_add(43)));
    text.push_str(prefix);
    encode(random.as_slice(), &mut text);
    Some(SecretString::from(text.as_str()))
}

/// Whether a text looks like a secret of the gateway's: it is never shown to a provider.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Base64url without padding (RFC 4648 §5), of what is no secret.
pub fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    encode(bytes, &mut text);
    text
}

fn encode(bytes: &[u8], text: &mut String) {
    for chunk in bytes.chunks(3) {
        let three = chunk.iter().copied().chain([0, 0, 0]).take(3);
        let group = three.fold(0_u32, |group, byte| (group << 8) | u32::from(byte));
        let signs = [18_u32, 12, 6, 0].map(|shift| (group >> shift) & 63);
        for sign in signs.into_iter().take(chunk.len().saturating_add(1)) {
            let sign = usize::try_from(sign).ok().and_then(|at| SIGNS.get(at)).copied();
            text.extend(sign.map(char::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn secrets_are_long_differ_and_say_what_they_are() {
        let (one, two) = (fresh("weir_s_").unwrap(), fresh("weir_s_").unwrap());
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert_eq!(one.expose_secret().len(), "weir_s_".len() + 43);
        assert!(is_ours(one.expose_secret()) && !is_ours("eyJhbGciOi"));
    }

    #[test]
    fn base64url_is_as_rfc_4648_says() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")]
        {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }
}
