//! OAUTHBEARER, the server's half: what a client says in it, and how it is told where to get a token
//! (RFC 7628; PostgreSQL documentation, SASL Authentication › SASL OAUTHBEARER Authentication).
//!
//! Bytes in, values out. Whether a token is good is not known here.

use std::fmt;

use secrecy::SecretString;
use serde_json::json;

/// The mechanism's name.
pub const OAUTHBEARER: &str = "OAUTHBEARER";
/// The sign between keys and values (RFC 7628 §3.1, `kvsep`); alone, it is what a client says to an
/// error (§3.2.3).
pub const SEPARATOR: u8 = 1;
/// Longest message of a client, in bytes: a token must fit (PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`).
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// The use that a token is needed for, as the gateway's own authorization server names it.
const SCOPE: &str = "postgres";

/// What a client shows.
#[derive(Debug)]
pub enum Shown {
    /// A bearer token.
    Token(SecretString),
    /// Nothing: it asks where to get one.
    Nothing,
}

/// A message that OAUTHBEARER has no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid OAUTHBEARER message: {0}")]
pub struct Invalid(&'static str);

/// A `SASLInitialResponse`.
#[derive(PartialEq, Eq)]
pub struct Initial<'a> {
    /// The mechanism that the client chose.
    pub mechanism: &'a [u8],
    /// Its first message; `None`: it waits to be asked for it.
    pub data: Option<&'a [u8]>,
}

/// Without the message: a token may be in it.
impl fmt::Debug for Initial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanism = String::from_utf8_lossy(self.mechanism);
        f.debug_struct("Initial").field("mechanism", &mechanism).finish_non_exhaustive()
    }
}

impl<'a> Initial<'a> {
    /// Reads the body of a `SASLInitialResponse` (Message Formats).
    pub fn of(body: &'a [u8]) -> Result<Self, Invalid> {
        let invalid = Invalid("its mechanism and its length do not fit");
        let end = memchr::memchr(0, body).ok_or(invalid)?;
        let (mechanism, rest) = body.split_at_checked(end).ok_or(invalid)?;
        let (length, data) =
            rest.get(1..).and_then(<[u8]>::split_first_chunk::<4>).ok_or(invalid)?;
        match (i32::from_be_bytes(*length), data.len()) {
            (-1, 0) => Ok(Self { mechanism, data: None }),
            (said, is) if usize::try_from(said) == Ok(is) => {
                Ok(Self { mechanism, data: Some(data) })
            }
            (_, _) => Err(invalid),
        }
    }
}

/// Reads a client's first message (RFC 7628 §3.1) from somebody who says to be `user`.
pub fn shown(message: &[u8], user: &str) -> Result<Shown, Invalid> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Invalid("it is too long"));
    }
    let message = std::str::from_utf8(message).map_err(|_| Invalid("it is not UTF-8"))?;
    let pairs = header(message, user)?;
    let mut auth = None;
    let mut rest = pairs;
    loop {
        let (pair, behind) =
            rest.split_once(char::from(SEPARATOR)).ok_or(Invalid("it has no end"))?;
        if pair.is_empty() {
            // An empty pair is the end, and nothing is behind it.
            return match (behind, auth) {
                ("", Some(auth)) => bearer(auth),
                ("", None) => Err(Invalid("it has no `auth`")),
                (_, _) => Err(Invalid("something is behind its end")),
            };
        }
        let (key, value) = pair.split_once('=').ok_or(Invalid("a key has no value"))?;
        if key.is_empty() || !key.bytes().all(|sign| sign.is_ascii_alphabetic()) {
            return Err(Invalid("a key is no word"));
        }
        if !value.bytes().all(|sign| matches!(sign, b' '..=b'~' | b'\t' | b'\r' | b'\n')) {
            return Err(Invalid("a value has signs that it may not have"));
        }
        // `host` and `port` say nothing that TLS has not said; other keys must be ignored (§3.1).
        if key == "auth" && auth.replace(value).is_some() {
            return Err(Invalid("it has `auth` twice"));
        }
        rest = behind;
    }
}

/// What the gateway answers to nothing, and to a token that is not accepted (RFC 7628 §3.2.2): where
/// a client finds out how to get one. libpq goes on only where this is its `oauth_issuer`, byte for
/// byte.
pub fn challenge(url: &str) -> String {
    json!({
        "status": "invalid_token",
        "scope": SCOPE,
        "openid-configuration": format!("{url}/.well-known/openid-configuration"),
    })
    .to_string()
}

/// Takes the GS2 header off (RFC 5801 §4): no channel binding, and nobody else's name.
fn header<'a>(message: &'a str, user: &str) -> Result<&'a str, Invalid> {
    let rest = match message.strip_prefix(['n', 'y']) {
        Some(rest) => rest,
        None if message.starts_with('p') => {
            return Err(Invalid("OAUTHBEARER has no channel binding"));
        }
        None => return Err(Invalid("it does not begin with a GS2 header")),
    };
    let rest = rest.strip_prefix(',').ok_or(Invalid("its GS2 header is broken"))?;
    let (name, rest) = rest.split_once(',').ok_or(Invalid("its GS2 header is broken"))?;
    match name.strip_prefix("a=") {
        None if name.is_empty() => {}
        Some(name) if unescaped(name).as_deref() == Some(user) => {}
        Some(_) => return Err(Invalid("it names somebody else than the startup packet")),
        None => return Err(Invalid("its GS2 header is broken")),
    }
    rest.strip_prefix(char::from(SEPARATOR)).ok_or(Invalid("its GS2 header has no end"))
}

/// A `saslname` (RFC 5801 §4): `,` and `=` stand as `=2C` and `=3D`.
fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            (_, _) => return None,
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    Some(plain)
}

/// The credentials of `auth` (RFC 6750 §2.1): `Bearer`, blanks, and a `b64token`.
fn bearer(auth: &str) -> Result<Shown, Invalid> {
    if auth.is_empty() {
        return Ok(Shown::Nothing);
    }
    let invalid = Invalid("its `auth` is no bearer token");
    let (scheme, token) = auth.split_once(' ').ok_or(invalid)?;
    let token = token.trim_start_matches(' ');
    let signs = token.trim_end_matches('=');
    let allowed = |sign: u8| sign.is_ascii_alphanumeric() || b"-._~+/".contains(&sign);
    if !scheme.eq_ignore_ascii_case("bearer") || signs.is_empty() || !signs.bytes().all(allowed) {
        return Err(invalid);
    }
    Ok(Shown::Token(SecretString::from(token.to_owned())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    /// The token, `-` for none, or why it is refused.
    fn read(message: &str) -> Result<String, Invalid> {
        shown(message.as_bytes(), "alice").map(|shown| match shown {
            Shown::Token(token) => token.expose_secret().to_owned(),
            Shown::Nothing => "-".to_owned(),
        })
    }

    #[test]
    fn a_token_is_taken_out_of_its_framing() {
        for (message, token) in [
            (
                "n,,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01",
                "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
            ),
            ("y,,\x01auth=bearer   weir_s_a-b\x01\x01", "weir_s_a-b"),
            ("n,a=alice,\x01host=db.example\x01port=5432\x01auth=Bearer x\x01\x01", "x"),
            ("n,,\x01auth=Bearer x\x01later=what=ever\x01\x01", "x"),
            ("n,,\x01auth=\x01\x01", "-"),
            ("n,a=alice,\x01host=x\x01auth=\x01\x01", "-"),
        ] {
            assert_eq!(read(message).as_deref(), Ok(token), "{message:?}");
        }
        assert!(shown(b"n,a=a=3Db=2Cc,\x01auth=\x01\x01", "a=b,c").is_ok());
    }

    #[test]
    fn what_is_not_exactly_so_is_refused() {
        for message in [
            "",
            "\x01",
            "n",
            "n,",
            "n,,",
            "n,,\x01",
            "n,,\x01\x01",
            "n,,auth=Bearer x\x01\x01",
            "p=tls-server-end-point,,\x01auth=Bearer x\x01\x01",
            "x,,\x01auth=Bearer x\x01\x01",
            "n,a=bob,\x01auth=Bearer x\x01\x01",
            "n,a=,\x01auth=Bearer x\x01\x01",
            "n,a=alic=65,\x01auth=Bearer x\x01\x01",
            "n,alice,\x01auth=Bearer x\x01\x01",
            "n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
            "n,,\x01auth=\x01auth=Bearer y\x01\x01",
            "n,,\x01auth=Bearer x\x01",
            "n,,\x01auth=Bearer x",
            "n,,\x01auth=Bearer x\x01\x01n",
            "n,,\x01auth=Bearer x\x01\x01\x01",
            "n,,\x01auth\x01\x01",
            "n,,\x01=x\x01\x01",
            "n,,\x01a1=x\x01auth=Bearer x\x01\x01",
            "n,,\x01auth=Bearer\x01\x01",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Bearer ==\x01\x01",
            "n,,\x01auth=Bearer x=y\x01\x01",
            "n,,\x01auth=Bearer x y\x01\x01",
            "n,,\x01auth=Basic eA==\x01\x01",
            "n,,\x01auth=Bearer ü\x01\x01",
            "n,,\x01auth=Bearer x\0\x01\x01",
        ] {
            assert!(read(message).is_err(), "{message:?}");
        }
        let long = format!("n,,\x01auth=Bearer {}\x01\x01", "x".repeat(MESSAGE_BYTES_MAX));
        assert!(read(&long).is_err());
    }

    #[test]
    fn an_initial_response_says_how_long_it_is() {
        let read = |length: i32, data: &[u8]| {
            let body = [&b"OAUTHBEARER\0"[..], &length.to_be_bytes(), data].concat();
            Initial::of(&body).map(|initial| initial.data.map(<[u8]>::to_vec))
        };
        assert_eq!(read(3, b"n,,"), Ok(Some(b"n,,".to_vec())));
        assert_eq!(read(-1, b""), Ok(None));
        for (length, data) in
            [(2, &b"n,,"[..]), (4, b"n,,"), (-1, b"n"), (-2, b""), (i32::MAX, b"")]
        {
            assert!(read(length, data).is_err(), "{length}");
        }
        assert!(Initial::of(b"OAUTHBEARER").is_err());
        assert!(Initial::of(b"OAUTHBEARER\0\0\0\0").is_err());
    }

    #[test]
    fn a_challenge_says_where_the_gateway_itself_gives_tokens() {
        assert_eq!(
            challenge("https://weir.example:8443"),
            r#"{"status":"invalid_token","scope":"postgres","openid-configuration":"https://weir.example:8443/.well-known/openid-configuration"}"#
        );
    }

    #[test]
    fn no_debug_text_has_a_token() {
        let body = b"OAUTHBEARER\0\0\0\0\x18n,,\x01auth=Bearer secret\x01\x01";
        let initial = Initial::of(&body[..]);
        let seen = format!("{initial:?} {:?}", shown(b"n,,\x01auth=Bearer secret\x01\x01", "a"));
        assert!(!seen.contains("secret"), "{seen}");
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            drop(format!("{:?} {:?}", Initial::of(&bytes), shown(&bytes, "alice")));
        }

        #[test]
        fn only_what_is_a_token_comes_out(
            head in "[nyp],(a=[a-z=]{0,5})?,", body in "(auth|host|x)?[=]?(Bearer )?[\\x00-\\x7f]{0,12}"
        ) {
            if let Ok(Shown::Token(token)) = shown(format!("{head}\x01{body}\x01\x01").as_bytes(), "alice") {
                let token = token.expose_secret();
                prop_assert!(!token.is_empty() && token.bytes().all(|sign| sign.is_ascii_graphic()));
            }
        }
    }
}
