//! The startup packet: what a client asks for, read into what is allowed by name, and never passed
//! on as it is (PostgreSQL documentation, Message Formats › `StartupMessage`).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::protocol::postgres::refuse::NAME_BYTES_MAX;
use crate::protocol::postgres::refuse::Words;
use crate::protocol::postgres::wire::Build;
use crate::target::PostgresAuth;

/// The newest minor version of protocol 3 that is spoken.
const MINOR: u16 = 2;
/// By what name a client says how it wants to prove who it is: the gateway's own, never a target's.
const AUTH: &str = "weir.auth";

/// A startup packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The minor version of protocol 3 that both speak.
    pub minor: u16,
    /// Who the client says to be.
    pub user: String,
    /// The database it names.
    pub database: Option<String>,
    /// Settings it may make, in lower case.
    pub settings: BTreeMap<String, String>,
    /// By what the client wants to prove who it is, if it says so.
    pub auth: Option<PostgresAuth>,
    /// What has to be negotiated, if anything.
    negotiate: Option<Vec<String>>,
}

impl Startup {
    /// What has to be said of the protocol's version before anything else (`NegotiateProtocolVersion`),
    /// once.
    pub(super) fn negotiation(&mut self) -> Option<Bytes> {
        self.negotiate.take().map(|unknown| negotiate(&unknown))
    }

    /// A startup packet that names no setting.
    #[cfg(test)]
    pub(super) fn for_test(user: &str, database: Option<&str>) -> Self {
        let (user, database) = (user.to_owned(), database.map(str::to_owned));
        Self { minor: 0, user, database, settings: BTreeMap::new(), auth: None, negotiate: None }
    }
}

fn negotiate(unknown: &[String]) -> Bytes {
    // The full version, as servers send it, not the minor alone.
    let version = i32::from(MINOR).saturating_add(3 << 16);
    let count = i32::try_from(unknown.len()).unwrap_or_default();
    let build = Build::new(b'v').int32(version).int32(count);
    unknown.iter().fold(build, Build::string).done().into_bytes()
}

/// Reads a startup packet (Message Formats › `StartupMessage`).
pub(super) fn startup(version: i32, body: &[u8]) -> Result<Startup, Words> {
    let malformed = || Words::new("08P01", "invalid startup packet layout");
    let [0, 3, high, low] = version.to_be_bytes() else {
        return Err(Words::new(
            "0A000",
            "unsupported frontend protocol: this gateway speaks 3.0 to 3.2",
        ));
    };
    let minor = u16::from_be_bytes([high, low]);
    let pairs = pairs(body).ok_or_else(malformed)?;
    let (mut user, mut database, mut options) = (None, None, None);
    let (mut settings, mut unknown, mut auth) = (BTreeMap::new(), Vec::new(), None);
    for (name, value) in pairs {
        let twice = || Words::new("28000", format!("the startup packet names `{name}` twice"));
        let place = match name {
            "user" => &mut user,
            "database" => &mut database,
            "options" => &mut options,
            "replication" => {
                return Err(Words::new("42501", "replication is not carried by this gateway"));
            }
            name if name.starts_with("_pq_.") => {
                unknown.push(name.to_owned());
                continue;
            }
            name => {
                set(&mut settings, &mut auth, name, value)?;
                continue;
            }
        };
        if place.replace(value.to_owned()).is_some() {
            return Err(twice());
        }
    }
    if let Some(options) = options {
        for (name, value) in switches(&options)? {
            set(&mut settings, &mut auth, &name, &value)?;
        }
    }
    let user = user.filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| Words::new("28000", "no user name was given"))?;
    for name in [Some(&user), database.as_ref()].into_iter().flatten() {
        // The server would cut it silently. A target's name and a slash may stand before.
        if name.len() > NAME_BYTES_MAX.saturating_mul(2).saturating_add(1) {
            return Err(Words::new("28000", "the user's or database's name is too long"));
        }
    }
    let negotiate = (minor > MINOR || !unknown.is_empty()).then_some(unknown);
    Ok(Startup { minor: minor.min(MINOR), user, database, settings, auth, negotiate })
}

fn pairs(body: &[u8]) -> Option<Vec<(&str, &str)>> {
    // Pairs of strings, each with its NUL, and a NUL at the end.
    let texts = body.strip_suffix(b"\0")?;
    if texts.is_empty() {
        return Some(Vec::new());
    }
    let texts = texts.strip_suffix(b"\0")?;
    let texts = texts.split(|byte| *byte == 0).map(|text| std::str::from_utf8(text).ok());
    let texts = texts.collect::<Option<Vec<_>>>()?;
    let pairs = texts.chunks(2).map(|pair| match pair {
        [name, value] if !name.is_empty() => Some((*name, *value)),
        _ => None,
    });
    pairs.collect()
}

/// Settings that a client may make at the beginning, in lower case. Those that the reading of
/// statements rests on are not among them.
const SETTINGS: [&str; 10] = [
    "application_name",
    "datestyle",
    "intervalstyle",
    "timezone",
    "extra_float_digits",
    "client_encoding",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_read_only",
];

fn set(
    settings: &mut BTreeMap<String, String>,
    auth: &mut Option<PostgresAuth>,
    name: &str,
    value: &str,
) -> Result<(), Words> {
    let lower = name.to_ascii_lowercase();
    let twice = || Words::new("28000", format!("the startup packet names `{name}` twice"));
    if lower == AUTH {
        let way = PostgresAuth::from_word(value).ok_or_else(no_such_way)?;
        return auth.replace(way).map_or(Ok(()), |_| Err(twice()));
    }
    if !SETTINGS.contains(&lower.as_str()) {
        let shown = name.chars().take(64).collect::<String>();
        let mut words =
            Words::new("42501", format!("this gateway does not pass on the setting `{shown}`"));
        words.hint = Some(format!("leave it out; these may be set: {}", SETTINGS.join(", ")));
        return Err(words);
    }
    if lower == "client_encoding" {
        // psql asks for SQL_ASCII where the locale is C; it follows what it is then told.
        let plain = value.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        return match plain.to_ascii_lowercase().as_str() {
            "utf8" | "unicode" | "sqlascii" => Ok(()),
            _ => Err(Words::new("42501", "this gateway speaks client_encoding UTF8 only")),
        };
    }
    settings.insert(lower, value.to_owned()).map_or(Ok(()), |_| Err(twice()))
}

fn no_such_way() -> Words {
    let ways = PostgresAuth::ALL.map(PostgresAuth::word).join(", ");
    let mut words = Words::new("28000", format!("`{AUTH}` names no way to sign in"));
    words.hint = Some(format!("it takes one of: {ways}"));
    words
}

/// The settings in `options`: `-c name=value` and `--name=value` (`pg_split_opts`: parted at white
/// space, a backslash keeps the next sign).
fn switches(options: &str) -> Result<Vec<(String, String)>, Words> {
    let mut words = vec![String::new()];
    let mut signs = options.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => {
                if let (Some(word), Some(next)) = (words.last_mut(), signs.next()) {
                    word.push(next);
                }
            }
            sign if sign.is_ascii_whitespace() => words.push(String::new()),
            sign => {
                if let Some(word) = words.last_mut() {
                    word.push(sign);
                }
            }
        }
    }
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") if word == "-c" => words.next(),
            Some(rest) => Some(rest.to_owned()),
            None => None,
        };
        let pair = setting.as_deref().and_then(|setting| setting.split_once('='));
        let Some((name, value)) = pair else {
            return Err(Words::new("42501", "`options` may only set settings, by -c name=value"));
        };
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(pairs: &[(&str, &str)]) -> Vec<u8> {
        let build = Build::untyped().int32(3 << 16);
        let build =
            pairs.iter().fold(build, |build, (name, value)| build.string(name).string(value));
        build.byte(0).done().into_bytes().to_vec()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Startup, Words> {
        startup(3 << 16, &packet(pairs)[8..])
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        assert!(read(&[("user", "mallory"), ("user", "root")]).is_err());
        assert!(read(&[("user", "a"), ("TimeZone", "UTC"), ("timezone", "CET")]).is_err());
        assert!(
            read(&[("user", "a"), ("timezone", "UTC"), ("options", "-c TimeZone=CET")]).is_err()
        );
    }

    #[test]
    fn settings_pass_by_allow_list_however_they_are_written() {
        let good = read(&[
            ("user", "alice"),
            ("DateStyle", "ISO"),
            ("options", r"-c application_name=my\ tool --extra-float-digits=2 -cTimeZone=UTC"),
            ("client_encoding", "'utf-8'"),
        ]);
        let settings = good.unwrap().settings;
        assert_eq!(settings["application_name"], "my tool");
        assert_eq!(settings["extra_float_digits"], "2");
        assert_eq!(settings["timezone"], "UTC");
        assert!(!settings.contains_key("client_encoding"), "it is kept by force");
        for bad in ["-c role=admin", "--Search_Path=x", "-B 128", "-c", "-c x", "stray"] {
            assert!(read(&[("user", "a"), ("options", bad)]).is_err(), "{bad}");
        }
        for name in ["role", "Search_Path", "replication", "session_authorization", "User"] {
            let words = read(&[("user", "a"), (name, "x")]).unwrap_err();
            assert!(words.message.contains(name), "{}", words.message);
        }
        assert!(read(&[("user", "a"), ("client_encoding", "SJIS")]).is_err());
    }

    #[test]
    fn a_newer_protocol_is_negotiated_and_an_older_refused() {
        let body = &packet(&[("user", "a"), ("_pq_.grease", "1")])[8..];
        let startup = startup(3 << 16 | 0x270f, body).unwrap();
        assert_eq!(startup.minor, 2);
        let said = negotiate(&startup.negotiate.unwrap());
        assert_eq!(&said[5..13], &[0, 3, 0, 2, 0, 0, 0, 1]);
        assert!(said.ends_with(b"_pq_.grease\0"));
        assert!(super::startup(2 << 16, body).is_err());
        assert!(
            super::startup(3 << 16, &packet(&[("user", "a")])[8..]).unwrap().negotiate.is_none()
        );
    }

    #[test]
    fn a_client_chooses_its_way_once_and_no_target_hears_of_it() {
        for pairs in [
            [("user", "a"), ("weir.auth", "oauth")],
            [("user", "a"), ("Weir.Auth", "oauth")],
            [("user", "a"), ("options", "-c weir.auth=oauth")],
            [("user", "a"), ("options", "--weir.auth=oauth")],
        ] {
            let startup = read(&pairs).unwrap();
            assert_eq!(startup.auth, Some(PostgresAuth::Oauth));
            assert!(startup.settings.is_empty(), "{:?}", startup.settings);
        }
        let password = read(&[("user", "a"), ("weir.auth", "password")]).unwrap();
        assert_eq!(password.auth, Some(PostgresAuth::Password));
        assert_eq!(read(&[("user", "a")]).unwrap().auth, None);
        for unknown in ["", "OAUTH", "trust", "oauth "] {
            let words = read(&[("user", "a"), ("weir.auth", unknown)]).unwrap_err();
            assert!(words.hint.unwrap().contains("password, oauth"), "{unknown:?}");
        }
        let twice = [("user", "a"), ("weir.auth", "oauth"), ("options", "-c weir.auth=oauth")];
        assert!(read(&twice).unwrap_err().message.contains("twice"));
    }

    proptest! {
        #[test]
        fn no_startup_packet_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), minor in any::<u16>()) {
            drop(startup(3 << 16 | i32::from(minor), &body));
        }

        #[test]
        fn no_options_make_it_panic(text in ".{0,60}") {
            drop(switches(&text));
        }
    }
}
