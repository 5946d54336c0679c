//! The beginning of a connection: TLS, the startup packet, the password; each step once and in
//! order (PostgreSQL documentation, Message Flow › Start-up, SSL Session Encryption).
//!
//! ```text
//! plain ─ SSLRequest ─► encrypted ─ StartupMessage ─► asked ─ password ─► claimed
//!   └── CancelRequest ──────┴──► cancel
//! ```
//!
//! The client's startup packet is parsed into what was allowed by name, never passed on. It carries
//! claims and can verify none.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use secrecy::SecretString;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::model::login::Presented;
use crate::protocol::postgres::refuse::NAME_BYTES_MAX;
use crate::protocol::postgres::refuse::Own;
use crate::protocol::postgres::refuse::Words;
use crate::protocol::postgres::wire::Build;

/// Longest startup packet (`MAX_STARTUP_PACKET_LENGTH`), in bytes.
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// Longest password message, in bytes: a token must fit.
pub const PASSWORD_BYTES_MAX: usize = 65_535;
/// How long a client may take until its password is here, in milliseconds.
pub const HELLO_MS_MAX: u64 = 60_000;
/// The newest minor version of protocol 3 that is spoken.
const MINOR: u16 = 2;
/// Longest secret key of a `CancelRequest` (protocol 3.2), in bytes.
const CANCEL_KEY_BYTES_MAX: usize = 256;

/// The gateway's TLS, as the composition root hands it over.
pub trait Encrypt<S>: Send {
    /// The encrypted stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Does the handshake on a stream whose `SSLRequest` was answered.
    fn encrypt(self, stream: S) -> impl Future<Output = io::Result<Secured<Self::Stream>>> + Send;
}

/// A stream inside TLS, and what the handshake told.
#[derive(Debug)]
pub struct Secured<S> {
    /// The stream.
    pub stream: S,
    /// The host that the client asked for, in lower case.
    pub sni: Option<String>,
    /// The certificate that the client showed.
    pub certificate: Option<Presented>,
}

/// Why a connection ended before a session was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The client went away, or broke TLS.
    #[error("the client went away before it asked for a session")]
    Gone(#[from] io::Error),
    /// It sent what no beginning is; there is no answer to that.
    #[error("the client sent {0}")]
    Nonsense(&'static str),
    /// It was refused, in these words.
    #[error("{}", .0.message)]
    Refused(Words),
}

impl From<Words> for HelloError {
    fn from(words: Words) -> Self {
        Self::Refused(words)
    }
}

impl<S> Secured<S> {
    /// A stream on which no certificate was shown.
    pub fn without_certificate(stream: S, sni: Option<String>) -> Self {
        Self { stream, sni, certificate: None }
    }
}

/// What a client asks for.
#[derive(Debug)]
pub enum Hello<S> {
    /// A session.
    Session(Asked<S>),
    /// That a session be canceled; its connection is kept open until that is done.
    Cancel {
        /// The session's process id.
        process: i32,
        /// Its secret key.
        key: Bytes,
    },
}

/// A client that asked for a session inside TLS.
#[derive(Debug)]
pub struct Asked<S> {
    /// The connection.
    pub stream: S,
    /// The host that TLS was asked for.
    pub sni: Option<String>,
    /// The certificate that it showed.
    pub certificate: Option<Presented>,
    /// What it asked for.
    pub startup: Startup,
}

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
    /// What has to be negotiated, if anything.
    negotiate: Option<Vec<String>>,
}

enum Opening {
    Ssl,
    Gss,
    Cancel { process: i32, key: Bytes },
    Startup { version: i32, body: Vec<u8> },
}

/// Begins on a connection in the clear, whose first bytes nobody has taken.
pub async fn plain<S, E>(mut stream: S, encrypt: E) -> Result<Hello<E::Stream>, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: Encrypt<S>,
{
    let mut gss_asked = false;
    loop {
        // Exactly one request is read, so that bytes behind it are never taken for what was said
        // inside TLS (CVE-2021-23222): they are left to the handshake, which fails on them.
        match opening(&mut stream).await? {
            Opening::Ssl => {
                send(&mut stream, b"S").await?;
                return encrypted(encrypt.encrypt(stream).await?).await;
            }
            Opening::Gss if !gss_asked => {
                gss_asked = true;
                send(&mut stream, b"N").await?;
            }
            Opening::Gss => return Err(HelloError::Nonsense("GSSENCRequest twice")),
            Opening::Cancel { process, key } => return Ok(Hello::Cancel { process, key }),
            Opening::Startup { .. } => {
                let mut words = Words::new("28000", "this gateway needs TLS");
                words.hint = Some("connect with sslmode=verify-full".to_owned());
                return Err(told(&mut stream, words).await);
            }
        }
    }
}

/// Goes on, or begins, inside TLS.
pub async fn encrypted<S>(secured: Secured<S>) -> Result<Hello<S>, HelloError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Secured { mut stream, sni, certificate } = secured;
    match opening(&mut stream).await? {
        Opening::Cancel { process, key } => Ok(Hello::Cancel { process, key }),
        Opening::Ssl | Opening::Gss => {
            let words = Words::new("08P01", "encryption was asked for inside of TLS");
            Err(told(&mut stream, words).await)
        }
        Opening::Startup { version, body } => match startup(version, &body) {
            Ok(startup) => Ok(Hello::Session(Asked { stream, sni, certificate, startup })),
            Err(words) => Err(told(&mut stream, words).await),
        },
    }
}

impl Startup {
    /// A startup packet that names no setting.
    #[cfg(test)]
    pub(super) fn for_test(user: &str, database: Option<&str>) -> Self {
        let (user, database) = (user.to_owned(), database.map(str::to_owned));
        Self { minor: 0, user, database, settings: BTreeMap::new(), negotiate: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Asked<S> {
    /// Asks for the password: the provider's token (`AuthenticationCleartextPassword`).
    pub async fn password(&mut self) -> Result<SecretString, HelloError> {
        if let Some(unknown) = self.startup.negotiate.take() {
            send(&mut self.stream, &negotiate(&unknown)).await?;
        }
        let ask = Build::new(b'R').int32(3).done();
        send(&mut self.stream, ask.bytes()).await?;
        let tag = self.stream.read_u8().await?;
        let length = self.stream.read_u32().await?;
        let length = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
        let length = length.filter(|length| *length <= PASSWORD_BYTES_MAX);
        let Some(length) = length.filter(|_| tag == b'p') else {
            let words = Words::new("08P01", "a password message was expected");
            return Err(told(&mut self.stream, words).await);
        };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let password = body.strip_suffix(b"\0").filter(|text| !text.contains(&0));
        let password = password.and_then(|text| std::str::from_utf8(text).ok());
        let password = password.map(|text| SecretString::from(text.to_owned()));
        zeroize::Zeroize::zeroize(&mut body);
        if let Some(password) = password {
            return Ok(password);
        }
        let words = Words::new("08P01", "invalid password message");
        Err(told(&mut self.stream, words).await)
    }

    /// Tells the client that there is no session, and why.
    pub async fn refuse(&mut self, words: &Words) -> io::Result<()> {
        send(&mut self.stream, &Bytes::from(words.fatal())).await
    }
}

/// The words at the end of a sign-in that succeeded.
pub fn signed_in() -> Own {
    Own::made(Build::new(b'R').int32(0).done())
}

/// By which the client can cancel.
pub fn key_data(process: i32, key: &[u8]) -> Own {
    Own::made(Build::new(b'K').int32(process).raw(key).done())
}

/// The first word that a session is ready, outside a transaction.
pub fn ready() -> Own {
    Own::made(Build::new(b'Z').byte(b'I').done())
}

fn negotiate(unknown: &[String]) -> Bytes {
    // The full version, as servers send it, not the minor alone.
    let version = i32::from(MINOR).saturating_add(3 << 16);
    let count = i32::try_from(unknown.len()).unwrap_or_default();
    let build = Build::new(b'v').int32(version).int32(count);
    unknown.iter().fold(build, Build::string).done().into_bytes()
}

async fn opening<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Opening, HelloError> {
    let length = stream.read_u32().await?;
    let size = usize::try_from(length).ok().filter(|n| (8..=STARTUP_BYTES_MAX).contains(n));
    let Some(size) = size.and_then(|size| size.checked_sub(8)) else {
        return Err(HelloError::Nonsense("a startup packet of invalid length"));
    };
    let code = stream.read_i32().await?;
    match (code, size) {
        (80_877_103, 0) => Ok(Opening::Ssl),
        (80_877_104, 0) => Ok(Opening::Gss),
        (80_877_103 | 80_877_104, _) => {
            Err(HelloError::Nonsense("an encryption request with more"))
        }
        (80_877_102, size) if (8..=CANCEL_KEY_BYTES_MAX.saturating_add(4)).contains(&size) => {
            let process = stream.read_i32().await?;
            let mut key = vec![0; size.saturating_sub(4)];
            stream.read_exact(&mut key).await?;
            Ok(Opening::Cancel { process, key: key.into() })
        }
        (80_877_102, _) => Err(HelloError::Nonsense("a cancel request of invalid length")),
        (version, size) => {
            let mut body = vec![0; size];
            stream.read_exact(&mut body).await?;
            Ok(Opening::Startup { version, body })
        }
    }
}

/// Reads a startup packet (Message Formats › `StartupMessage`).
fn startup(version: i32, body: &[u8]) -> Result<Startup, Words> {
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
    let (mut settings, mut unknown) = (BTreeMap::new(), Vec::new());
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
                set(&mut settings, name, value)?;
                continue;
            }
        };
        if place.replace(value.to_owned()).is_some() {
            return Err(twice());
        }
    }
    if let Some(options) = options {
        for (name, value) in switches(&options)? {
            set(&mut settings, &name, &value)?;
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
    Ok(Startup { minor: minor.min(MINOR), user, database, settings, negotiate })
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

fn set(settings: &mut BTreeMap<String, String>, name: &str, value: &str) -> Result<(), Words> {
    let lower = name.to_ascii_lowercase();
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
    match settings.insert(lower, value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(Words::new("28000", format!("the startup packet names `{name}` twice"))),
    }
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

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn told<S: AsyncWrite + Unpin>(stream: &mut S, words: Words) -> HelloError {
    match send(stream, &Bytes::from(words.fatal())).await {
        Ok(()) => HelloError::Refused(words),
        Err(error) => HelloError::Gone(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::DuplexStream;

    use super::*;

    struct NoTls;

    impl Encrypt<DuplexStream> for NoTls {
        type Stream = DuplexStream;

        async fn encrypt(self, stream: DuplexStream) -> io::Result<Secured<DuplexStream>> {
            Ok(Secured::without_certificate(stream, Some("customers.weir.example".to_owned())))
        }
    }

    fn packet(pairs: &[(&str, &str)]) -> Vec<u8> {
        let build = Build::untyped().int32(3 << 16);
        let build =
            pairs.iter().fold(build, |build, (name, value)| build.string(name).string(value));
        build.byte(0).done().into_bytes().to_vec()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Startup, Words> {
        startup(3 << 16, &packet(pairs)[8..])
    }

    async fn talk(sent: &[u8]) -> (Result<Hello<DuplexStream>, HelloError>, Vec<u8>) {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        far.write_all(sent).await.unwrap();
        far.shutdown().await.unwrap();
        let hello = plain(near, NoTls).await;
        let mut said = Vec::new();
        if !matches!(hello, Ok(Hello::Session(_))) {
            far.read_to_end(&mut said).await.unwrap();
        }
        (hello, said)
    }

    const SSL: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
    const GSS: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];

    #[tokio::test]
    async fn gss_is_declined_and_tls_follows_on_the_same_connection() {
        let sent = [&GSS[..], &SSL, &packet(&[("user", "alice")])].concat();
        let (hello, _) = talk(&sent).await;
        let Ok(Hello::Session(asked)) = hello else { panic!("{hello:?}") };
        assert_eq!(asked.startup.user, "alice");
        assert_eq!(asked.sni.as_deref(), Some("customers.weir.example"));
        let (hello, said) = talk(&[&GSS[..], &GSS].concat()).await;
        assert!(matches!(hello, Err(HelloError::Nonsense(_))));
        assert_eq!(said, b"N");
        let (hello, _) = talk(&[&SSL[..], &SSL].concat()).await;
        assert!(matches!(hello, Err(HelloError::Refused(_))), "SSL inside TLS");
    }

    #[tokio::test]
    async fn without_tls_there_is_a_cancel_and_nothing_else() {
        let (hello, said) = talk(&packet(&[("user", "alice")])).await;
        assert!(matches!(hello, Err(HelloError::Refused(_))));
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("C28000") && said.contains("sslmode=verify-full"), "{said}");
        let cancel = [&[0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 7][..], b"abcd"].concat();
        let (hello, said) = talk(&cancel).await;
        assert!(matches!(hello, Ok(Hello::Cancel { process: 7, key }) if &key[..] == b"abcd"));
        assert!(said.is_empty(), "a cancel is never answered");
    }

    #[tokio::test]
    async fn packets_out_of_bounds_end_without_an_answer() {
        for length in [0_u32, 7, 10_001, 0x7fff_ffff, 0xffff_ffff] {
            let mut sent = length.to_be_bytes().to_vec();
            sent.extend([0; 32]);
            let (hello, said) = talk(&sent).await;
            assert!(matches!(hello, Err(HelloError::Nonsense(_))), "{length}");
            assert!(said.is_empty());
        }
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
