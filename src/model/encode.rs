//! Base 64 (RFC 4648), as keys, tokens, certificates and documents write it.

const COMMON: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// With `+`, `/` and padding (§4).
pub fn base64(bytes: &[u8]) -> String {
    let mut text = encode(bytes, '+', '/');
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// With `-` and `_`, and no padding (§5).
pub fn base64url(bytes: &[u8]) -> String {
    encode(bytes, '-', '_')
}

/// Reads what [`base64`] writes: padded or not, white space ignored, as people's files have it.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    let signs = text.bytes().filter(|sign| !sign.is_ascii_whitespace()).collect::<Vec<_>>();
    let body = signs.strip_suffix(b"==").or(signs.strip_suffix(b"=")).unwrap_or(&signs);
    decode(body)
}

/// Reads exactly what [`base64`] writes, so that no two texts are the same bytes.
pub fn unbase64_exactly(text: &str) -> Option<Vec<u8>> {
    let bytes = decode(text.trim_end_matches('=').as_bytes())?;
    (base64(&bytes) == text).then_some(bytes)
}

fn encode(bytes: &[u8], sign62: char, sign63: char) -> String {
    let sign = |index: usize| match COMMON.get(index) {
        Some(sign) => char::from(*sign),
        None if index == 62 => sign62,
        None => sign63,
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| usize::from(chunk.get(at).copied().unwrap_or_default());
        let group = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for shift in [18, 12, 6, 0].into_iter().take(chunk.len().saturating_add(1)) {
            text.push(sign((group >> shift) & 63));
        }
    }
    text
}

fn decode(body: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(body.len());
    let (mut bits, mut held) = (0_u32, 0_u32);
    for sign in body {
        let value = match sign {
            b'+' => 62,
            b'/' => 63,
            sign => COMMON.iter().position(|known| known == sign)?,
        };
        bits = (bits & 0xff_ffff) << 6 | u32::try_from(value).ok()?;
        held = held.saturating_add(6);
        if let Some(rest) = held.checked_sub(8) {
            held = rest;
            bytes.push(u8::try_from(bits >> rest & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4648 §10.
    #[test]
    fn it_writes_what_the_specification_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(base64url(bytes.as_bytes()), text.trim_end_matches('='));
            assert_eq!(unbase64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!((base64(&[251, 255]), base64url(&[251, 255])), ("+/8=".into(), "-_8".into()));
        assert_eq!(unbase64("Zm 9v\nYg"), Some(b"foob".to_vec()));
        assert_eq!(unbase64("Z-9v"), None);
    }

    #[test]
    fn read_exactly_it_has_one_text_for_each_bytes() {
        assert_eq!(unbase64_exactly("Zm9vYg==").as_deref(), Some(b"foob".as_slice()));
        for bad in ["Zm9vYg", "Zm9vYg=", "Zm9vYh==", "Zm 9vYg==", "Zm9vYg==\n", "Zm9-", "===="] {
            assert_eq!(unbase64_exactly(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_and_text_go_both_ways(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(unbase64(&base64(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(unbase64_exactly(&base64(&bytes)), Some(bytes));
        }
    }
}
