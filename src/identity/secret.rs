//! Secrets of the gateway's own making: what they look like, and how a fresh one is made.

use aws_lc_rs::rand;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::model::encode;

/// How many random bytes a secret has.
const RANDOM_BYTES: usize = 32;
/// What every secret of the gateway's begins with, so that scanners find it.
const PREFIX: &str = "weir_";

/// A fresh secret that begins with `prefix`: 256 random bits. `None`: there are no random numbers.
pub fn fresh(prefix: &str) -> Option<SecretString> {
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    rand::fill(random.as_mut_slice()).ok()?;
    let signs = Zeroizing::new(encode::base64url(random.as_slice()));
    Some(SecretString::from([prefix, signs.as_str()].concat()))
}

/// Whether a text looks like a secret of the gateway's: it is never shown to a provider.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(PREFIX)
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
}
