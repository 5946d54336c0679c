//! Small encodings: random text, percent signs, quoting for shells.

use aws_lc_rs::rand;

use crate::model::encode::base64url;

/// 256 random bits as text. `None`: the system has no random numbers.
pub(super) fn random() -> Option<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    Some(base64url(&bytes))
}

/// `application/x-www-form-urlencoded`, of pairs; good for a query as well.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{}={}", percent(name), percent(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Everything but unreserved signs (RFC 3986 §2.3) as percent signs.
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let digit = |bits: u8| char::from_digit(u32::from(bits), 16).unwrap_or('0');
            encoded.push('%');
            encoded.push(digit(byte >> 4).to_ascii_uppercase());
            encoded.push(digit(byte & 15).to_ascii_uppercase());
        }
    }
    encoded
}

/// Reads the value of one name of a query; `None` where it is missing, given twice or malformed.
pub(super) fn query(query: &str, name: &str) -> Option<String> {
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    });
    let value = values.next().filter(|_| values.next().is_none())?;
    unpercent(value)
}

fn unpercent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high << 4 | low).ok()?
            }
            b'+' => b' ',
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_given_twice_is_no_answer() {
        assert_eq!(query("code=a&state=b", "code").as_deref(), Some("a"));
        assert_eq!(query("code=a&code=b", "code"), None);
        assert_eq!(query("xcode=a", "code"), None);
        assert_eq!(query("code=%2", "code"), None);
        assert_eq!(query("code=%ff", "code"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(name in "[a-z]{1,8}", value in any::<String>()) {
            let text = form(&[("x", "1"), (&format!("k{name}"), &value)]);
            prop_assert!(text.is_ascii());
            prop_assert_eq!(query(&text, &format!("k{name}")), Some(value));
        }

        #[test]
        fn any_query_is_read_without_a_panic(text in any::<String>()) {
            query(&text, "code");
        }

        #[test]
        fn a_shell_reads_a_quoted_word_as_it_was(word in "[ -~]{0,12}") {
            let script = format!("printf %s {}", quoted(&word));
            let ran = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            prop_assert_eq!(String::from_utf8(ran.stdout).unwrap(), word);
        }
    }
}
