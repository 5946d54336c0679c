//! `[state]`: where the gateway keeps its state, and the URL of a PostgreSQL server.
//!
//! The URL holds a password, so it stands elsewhere and no error repeats any of it. It is libpq's
//! (PostgreSQL 18 manual §34.1.1.2), as far as each word of it is understood: what is not, is
//! refused and not ignored, since it may be what somebody relies on.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::SecretString;
use serde::Deserialize;
use toml::Spanned;
use zeroize::Zeroizing;

use crate::config::secret::SecretRef;
use crate::model::Address;

/// The port where none is written.
const PORT: u16 = 5432;
const EXPECTED: &str = "expected postgres://<user>[:<password>]@<host>[:<port>]/<database>, signs \
                        such as @ : / ? # % in a name or password written as %40 and so on";

/// `[state]`: where the gateway keeps its state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Where the URL of a PostgreSQL database is kept. Left out: SQLite in the state folder.
    pub database: Option<Spanned<SecretRef>>,
}

/// A PostgreSQL database, as its URL says.
#[derive(Debug, Clone)]
pub struct Database {
    /// Where the server listens.
    pub door: Door,
    /// How it is verified.
    pub tls: Tls,
    /// The database's name.
    pub name: String,
    /// Who the gateway signs in as.
    pub login: String,
    /// The password, if there is one.
    pub password: Option<SecretString>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// At an address.
    Tcp(Address),
    /// At the unix socket in a folder.
    Socket(PathBuf),
}

/// How a server is verified: as a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// No TLS; only to this machine itself.
    Off,
    /// Certificate chain and name must be right.
    VerifyFull {
        /// Who vouches for the server's certificate besides the public authorities.
        ca_file: Option<PathBuf>,
        /// The certificate that is shown to it, and its key.
        identity: Option<(PathBuf, PathBuf)>,
    },
}

/// A URL that is none. Repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadDatabase(&'static str);

impl Database {
    /// What `weir check` shows: where, and nothing else.
    pub fn place(&self) -> String {
        match &self.door {
            Door::Tcp(address) => address.to_string(),
            Door::Socket(folder) => format!("the socket in {}", folder.display()),
        }
    }
}

impl FromStr for Database {
    type Err = BadDatabase;

    fn from_str(url: &str) -> Result<Self, BadDatabase> {
        let bad = BadDatabase(EXPECTED);
        if !url.bytes().all(|b| b.is_ascii_graphic()) || url.contains('#') {
            return Err(bad);
        }
        let rest = ["postgres://", "postgresql://"].iter().find_map(|s| url.strip_prefix(s));
        let (before, query) = match rest.ok_or(bad)?.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (rest.ok_or(bad)?, None),
        };
        let (authority, name) = before.split_once('/').ok_or(bad)?;
        // A second `@` may belong to the password: whoever guesses sends it to a wrong host.
        let (user, host) =
            authority.split_once('@').filter(|(_, h)| !h.contains('@')).ok_or(bad)?;
        let (login, password) = match user.split_once(':') {
            Some((login, password)) => (decoded(login)?, Some(decoded(password)?)),
            None => (decoded(user)?, None),
        };
        let name = decoded(name)?;
        if login.is_empty() || name.is_empty() || password.as_ref().is_some_and(|p| p.is_empty()) {
            return Err(bad);
        }
        let query = Query::read(query)?;
        let door = door(host, query.host.as_deref())?;
        Ok(Self {
            tls: query.tls(&door)?,
            door,
            name: name.to_string(),
            login: login.to_string(),
            password: password.map(|password| SecretString::from(password.as_str())),
        })
    }
}

fn door(host: &str, socket: Option<&str>) -> Result<Door, BadDatabase> {
    const SOCKET: &str = "a `host` in the URL's parameters is the folder of a unix socket; expected \
                          an absolute path, and then no other host";
    match socket {
        Some(folder) if folder.starts_with('/') && host.is_empty() => {
            Ok(Door::Socket(folder.into()))
        }
        Some(_) => Err(BadDatabase(SOCKET)),
        None => {
            let port_follows = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let full = if port_follows { host.to_owned() } else { format!("{host}:{PORT}") };
            full.parse().map(Door::Tcp).map_err(|_| BadDatabase(EXPECTED))
        }
    }
}

/// The parameters that are understood, each at most once.
#[derive(Default)]
struct Query {
    host: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    sslcert: Option<String>,
    sslkey: Option<String>,
}

impl Query {
    fn read(text: Option<&str>) -> Result<Self, BadDatabase> {
        const KNOWN: &str = "the URL has a parameter that is not understood, or one twice; \
                             expected `sslmode`, `sslrootcert`, `sslcert`, `sslkey` and `host`";
        let mut query = Self::default();
        for pair in text.iter().flat_map(|text| text.split('&')) {
            let (name, value) = pair.split_once('=').ok_or(BadDatabase(KNOWN))?;
            let place = match name {
                "host" => &mut query.host,
                "sslmode" => &mut query.sslmode,
                "sslrootcert" => &mut query.sslrootcert,
                "sslcert" => &mut query.sslcert,
                "sslkey" => &mut query.sslkey,
                _ => return Err(BadDatabase(KNOWN)),
            };
            if place.replace(decoded(value)?.to_string()).is_some() {
                return Err(BadDatabase(KNOWN));
            }
        }
        Ok(query)
    }

    fn tls(&self, door: &Door) -> Result<Tls, BadDatabase> {
        const MODE: &str = "this `sslmode` leaves open who is at the other end; expected \
                            `verify-full`, which is the default, or `disable` for a server on this \
                            machine";
        const FAR: &str = "`sslmode` is `disable` and the server is another machine; expected \
                           `verify-full`: without TLS it must be on this machine (localhost, \
                           127.0.0.1)";
        const SOCKET: &str = "a unix socket has no TLS; expected no `sslmode`, and no `sslrootcert`, \
                              `sslcert` or `sslkey`";
        const FILES: &str = "TLS is off; expected no `sslrootcert`, `sslcert` or `sslkey`, or \
                             `sslmode=verify-full`";
        let files = [&self.sslrootcert, &self.sslcert, &self.sslkey];
        let has_files = files.iter().any(|file| file.is_some());
        let near = match door {
            Door::Tcp(address) => address.host.is_loopback(),
            Door::Socket(_)
                if has_files || self.sslmode.as_ref().is_some_and(|m| m != "disable") =>
            {
                return Err(BadDatabase(SOCKET));
            }
            Door::Socket(_) => true,
        };
        match self.sslmode.as_deref() {
            Some("verify-full") => self.verified(),
            Some("disable") if !near => Err(BadDatabase(FAR)),
            Some("disable") if has_files => Err(BadDatabase(FILES)),
            Some("disable") => Ok(Tls::Off),
            Some(_) => Err(BadDatabase(MODE)),
            None if near && !has_files => Ok(Tls::Off),
            None => self.verified(),
        }
    }

    fn verified(&self) -> Result<Tls, BadDatabase> {
        let file = |written: &Option<String>| match written {
            Some(path) if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
            Some(_) => Err(BadDatabase(
                "a file in the URL has no absolute path; expected one that begins with `/`",
            )),
            None => Ok(None),
        };
        let identity = match (file(&self.sslcert)?, file(&self.sslkey)?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(BadDatabase("expected `sslcert` and `sslkey` both, or none of them"));
            }
        };
        Ok(Tls::VerifyFull { ca_file: file(&self.sslrootcert)?, identity })
    }
}

/// Reads `%40` and the like (RFC 3986 §2.1).
fn decoded(text: &str) -> Result<Zeroizing<String>, BadDatabase> {
    let bad =
        BadDatabase("the URL has a % that no two hexadecimal signs follow, or what is not UTF-8");
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || {
                let sign = char::from(rest.next()?);
                sign.to_digit(16).and_then(|digit| u8::try_from(digit).ok())
            };
            let (high, low) = (digit().ok_or(bad)?, digit().ok_or(bad)?);
            high << 4 | low
        } else {
            byte
        });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| bad)?;
    if text.chars().any(char::is_control) {
        return Err(bad);
    }
    Ok(Zeroizing::new(text.to_owned()))
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.place())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn read(url: &str) -> Result<Database, BadDatabase> {
        url.parse()
    }

    #[test]
    fn a_url_says_where_and_who() {
        let database = read("postgres://weir:p%40ss%2Fw@db-1.internal:6432/state").unwrap();
        assert_eq!(database.place(), "db-1.internal:6432");
        assert_eq!((database.login.as_str(), database.name.as_str()), ("weir", "state"));
        assert_eq!(database.password.as_ref().unwrap().expose_secret(), "p@ss/w");
        assert!(!format!("{database:?} {database}").contains("p@ss"));
        assert_eq!(read("postgresql://a@[fd00::5]/b").unwrap().place(), "[fd00::5]:5432");
        let socket = read("postgres://weir@/state?host=/run/postgresql").unwrap();
        assert_eq!(socket.door, Door::Socket("/run/postgresql".into()));
        assert_eq!(socket.tls, Tls::Off);
    }

    #[test]
    fn another_machine_is_verified_in_full_or_refused() {
        let full = Tls::VerifyFull { ca_file: None, identity: None };
        assert_eq!(read("postgres://u:p@db.internal/d").unwrap().tls, full);
        assert_eq!(read("postgres://u:p@10.1.0.5/d?sslmode=verify-full").unwrap().tls, full);
        for weak in ["disable", "allow", "prefer", "require", "verify-ca", "", "VERIFY-FULL"] {
            let url = format!("postgres://u:p@db.internal/d?sslmode={weak}");
            assert!(read(&url).is_err(), "{weak}");
        }
        let url = "postgres://u:p@db.internal/d?sslrootcert=/a/ca.pem&sslcert=/a/c&sslkey=/a/k";
        let ca_file = Some(PathBuf::from("/a/ca.pem"));
        let identity = Some((PathBuf::from("/a/c"), PathBuf::from("/a/k")));
        assert_eq!(read(url).unwrap().tls, Tls::VerifyFull { ca_file, identity });
    }

    #[test]
    fn this_machine_may_do_without_tls_and_is_verified_where_asked() {
        for near in ["localhost", "127.0.0.1", "[::1]", "db.localhost"] {
            assert_eq!(read(&format!("postgres://u@{near}/d")).unwrap().tls, Tls::Off);
            let off = format!("postgres://u@{near}/d?sslmode=disable");
            assert_eq!(read(&off).unwrap().tls, Tls::Off);
            for asked in ["sslmode=verify-full", "sslrootcert=/ca.pem"] {
                let tls = read(&format!("postgres://u@{near}/d?{asked}")).unwrap().tls;
                assert!(matches!(tls, Tls::VerifyFull { .. }), "{near} {asked}");
            }
            assert!(read(&format!("postgres://u@{near}/d?sslmode=prefer")).is_err());
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_repeated() {
        let bad = [
            "",
            "planted",
            "mysql://planted:planted@h/d",
            "postgres://planted:planted@h",
            "postgres://planted:planted@/d",
            "postgres://:planted@h/d",
            "postgres://u:@h/d",
            "postgres://h/planted",
            "postgres://u:planted@planted@h/d",
            "postgres://u:planted/x@h/d",
            "postgres://u:planted?x@h/d",
            "postgres://u:planted#x@h/d",
            "postgres://u:planted%zz@h/d",
            "postgres://u:planted%4@h/d",
            "postgres://u:planted%ff@h/d",
            "postgres://u:planted%00@h/d",
            "postgres://u:planted @h/d",
            "postgres://u:planted@h,planted/d",
            "postgres://u:planted@H/d",
            "postgres://u:planted@h:0/d",
            "postgres://u:planted@h/d?planted=planted",
            "postgres://u:planted@h/d?options=-c%20planted",
            "postgres://u:planted@h/d?sslmode",
            "postgres://u:planted@h/d?sslmode=verify-full&sslmode=verify-full",
            "postgres://u:planted@h/d?sslrootcert=planted.pem",
            "postgres://u:planted@h/d?sslcert=/planted",
            "postgres://u:planted@h/d?host=/planted",
            "postgres://u:planted@/d?host=planted",
            "postgres://u:planted@/d?host=/run&sslmode=verify-full",
            "postgres://u:planted@localhost/d?sslmode=disable&sslrootcert=/planted",
        ];
        for url in bad {
            let told = read(url).expect_err(url);
            assert!(!format!("{told} {told:?}").contains("planted"), "{url}: {told}");
            assert!(told.to_string().contains("expected") || told.to_string().contains('%'));
        }
    }

    proptest! {
        /// Whatever a password is, written with escapes it reads back, and the host stays the host.
        #[test]
        fn any_password_reads_back(password in "[^\\p{Cc}]{1,40}") {
            let mut escaped = String::new();
            for byte in password.bytes() {
                write!(escaped, "%{byte:02x}").unwrap();
            }
            let database = read(&format!("postgres://u:{escaped}@db.internal/d")).unwrap();
            prop_assert_eq!(database.password.as_ref().unwrap().expose_secret(), password);
            prop_assert_eq!(database.place(), "db.internal:5432");
        }

        #[test]
        fn nothing_panics(text in "(postgres://)?[a-z:@/?%&=\\[\\]0-9#]{0,40}") {
            if let Ok(database) = read(&text) {
                let far = matches!(&database.door, Door::Tcp(address) if !address.host.is_loopback());
                let verified = matches!(database.tls, Tls::VerifyFull { .. });
                prop_assert!(!far || verified);
            }
        }
    }
}
