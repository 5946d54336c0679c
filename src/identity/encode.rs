//! Base 64 (RFC 4648), as HTTP's `Basic` and hashes in tokens write it.

const COMMON: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// With `+`, `/` and padding (§4).
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut text = encode(bytes, '+', '/');
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// With `-` and `_`, and no padding (§5).
pub(super) fn base64url(bytes: &[u8]) -> String {
    encode(bytes, '-', '_')
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

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 §10.
    #[test]
    fn it_writes_what_the_specification_says() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(base64url(bytes.as_bytes()), text.trim_end_matches('='));
        }
        assert_eq!((base64(&[251, 255]), base64url(&[251, 255])), ("+/8=".into(), "-_8".into()));
    }
}
