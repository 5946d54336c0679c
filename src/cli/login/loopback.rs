//! The port of this machine that the browser comes back to.
//!
//! Other programs and web pages of this machine can reach it too. So it takes one path, on its own
//! name, with the state that only this login knows, once; everything else gets an error and changes
//! nothing. Bounded in connections, bytes and time.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cli::client::CallError;
use crate::cli::encode;
use crate::cli::print;

/// How long somebody may take to sign in, in seconds.
const LOGIN_S_MAX: u64 = 600;
/// How long one request may take, in seconds.
const REQUEST_S_MAX: u64 = 10;
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Connections at a time: browsers open some in advance.
const CONNECTIONS_MAX: usize = 16;
/// The one path.
const PATH: &str = "/callback";

/// A port that waits for one answer.
#[derive(Debug)]
pub(super) struct Loopback {
    listener: TcpListener,
    expected: Expected,
}

/// What the answer must be like.
#[derive(Debug, Clone)]
struct Expected {
    port: u16,
    state: String,
    issuer: Option<String>,
}

/// What a request is.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The one that was waited for.
    Code(String),
    /// The gateway's no, in words.
    No(String),
    /// Nothing of ours.
    Other,
}

impl Loopback {
    /// Takes a free port of 127.0.0.1.
    pub(super) async fn bind(state: String, issuer: Option<String>) -> Result<Self, CallError> {
        let bound = async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let port = listener.local_addr()?.port();
            Ok::<_, io::Error>(Self { listener, expected: Expected { port, state, issuer } })
        };
        bound.await.map_err(|error| {
            CallError::Usage(format!("no port of 127.0.0.1 is free: {error}; try --device"))
        })
    }

    /// Where the browser comes back to.
    pub(super) fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.expected.port)
    }

    /// Waits for the code.
    pub(super) async fn code(self) -> Result<String, CallError> {
        let within = Duration::from_secs(LOGIN_S_MAX);
        timeout(within, self.wait()).await.unwrap_or_else(|_| {
            Err(CallError::Refused(
                "nobody signed in within 10 minutes: run `weir login` again".to_owned(),
            ))
        })
    }

    async fn wait(self) -> Result<String, CallError> {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if requests.len() < CONNECTIONS_MAX => {
                    if let Ok((stream, _)) = accepted {
                        requests.spawn(answer(stream, self.expected.clone()));
                    }
                }
                Some(seen) = requests.join_next() => match seen.unwrap_or(Seen::Other) {
                    Seen::Code(code) => return Ok(code),
                    Seen::No(why) => return Err(CallError::Refused(why)),
                    Seen::Other => {}
                },
            }
        }
    }
}

async fn answer(mut stream: TcpStream, expected: Expected) -> Seen {
    let exchange = async {
        let head = head(&mut stream).await?;
        let seen = expected.look(&head);
        stream.write_all(page(&seen).as_bytes()).await?;
        stream.shutdown().await?;
        Ok::<_, io::Error>(seen)
    };
    let exchanged = timeout(Duration::from_secs(REQUEST_S_MAX), exchange).await;
    exchanged.ok().and_then(Result::ok).unwrap_or(Seen::Other)
}

async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut bounded = stream.take(u64::try_from(HEAD_BYTES_MAX).unwrap_or(u64::MAX));
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        if bounded.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
    }
    String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

impl Expected {
    /// What a request's head says.
    fn look(&self, head: &str) -> Seen {
        let mut lines = head.split("\r\n");
        let mut line = lines.next().unwrap_or_default().split(' ');
        let (Some("GET"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
            (line.next(), line.next(), line.next(), line.next())
        else {
            return Seen::Other;
        };
        // A name that leads here by another's DNS is not ours.
        let own = format!("127.0.0.1:{}", self.port);
        let hosts = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then_some(value.trim())
        });
        if !hosts.eq([own.as_str()]) {
            return Seen::Other;
        }
        let Some((PATH, query)) = target.split_once('?') else { return Seen::Other };
        if encode::query(query, "state").as_deref() != Some(&self.state) {
            return Seen::Other;
        }
        // RFC 9207 §2.4: an answer of another gateway is none.
        let from = encode::query(query, "iss");
        if from.is_some() && self.issuer.is_some() && from != self.issuer {
            return Seen::No("the answer came from another gateway than was asked".to_owned());
        }
        if let Some(code) = encode::query(query, "code").filter(|code| !code.is_empty()) {
            return Seen::Code(code);
        }
        let why = encode::query(query, "error_description");
        match why.or_else(|| encode::query(query, "error")) {
            Some(why) => Seen::No(print::tame(&why)),
            None => Seen::Other,
        }
    }
}

/// What the browser shows. Nothing of the request is in it.
fn page(seen: &Seen) -> String {
    let (status, title, text) = match seen {
        Seen::Code(_) => {
            ("200 OK", "Back to your terminal", "The login goes on there. You may close this page.")
        }
        Seen::No(_) => {
            ("403 Forbidden", "Not signed in", "Your terminal says why. You may close this page.")
        }
        Seen::Other => ("404 Not Found", "Nothing here", "This is no page to open by hand."),
    };
    let body = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} · Weir</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;margin:20vh auto;max-width:30rem;\
         padding:0 1rem}}</style><h1>{title}</h1><p>{text}</p></html>"
    );
    let bytes = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {bytes}\r\n\
         content-security-policy: default-src 'none'; style-src 'unsafe-inline'; \
         frame-ancestors 'none'\r\nreferrer-policy: no-referrer\r\ncache-control: no-store\r\n\
         connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expected() -> Expected {
        Expected { port: 4711, state: "s1".to_owned(), issuer: Some("https://eu".to_owned()) }
    }

    fn look(line: &str, host: &str) -> Seen {
        expected().look(&format!("{line}\r\nHost: {host}\r\nAccept: */*\r\n\r\n"))
    }

    #[test]
    fn one_path_with_the_right_state_on_its_own_name_brings_the_code() {
        let own = "127.0.0.1:4711";
        let good = "GET /callback?code=c1&state=s1&iss=https%3A%2F%2Feu HTTP/1.1";
        assert_eq!(look(good, own), Seen::Code("c1".to_owned()));
        for (line, host) in [
            ("GET /callback?code=c1&state=s2 HTTP/1.1", own),
            ("GET /callback?code=c1 HTTP/1.1", own),
            ("GET /callback?code=c1&state=s1&state=s1 HTTP/1.1", own),
            ("GET /callback?code=c1&code=c2&state=s1 HTTP/1.1", own),
            ("POST /callback?code=c1&state=s1 HTTP/1.1", own),
            ("GET /other?code=c1&state=s1 HTTP/1.1", own),
            ("GET /callback HTTP/1.1", own),
            (good, "evil.example"),
            (good, "127.0.0.1:4712"),
            (good, "127.0.0.1:4711\r\nHost: evil.example"),
            ("", own),
        ] {
            assert_eq!(look(line, host), Seen::Other, "{line} {host}");
        }
        let no = "GET /callback?error=access_denied&error_description=no%1b&state=s1 HTTP/1.1";
        assert!(matches!(look(no, own), Seen::No(why) if !why.contains('\u{1b}')));
        let foreign = "GET /callback?code=c1&state=s1&iss=https%3A%2F%2Fevil HTTP/1.1";
        assert!(matches!(look(foreign, own), Seen::No(_)));
    }

    proptest! {
        #[test]
        fn no_request_panics_or_brings_a_code_without_the_state(head in "[ -~\r\n]{0,200}") {
            prop_assert!(!matches!(expected().look(&head), Seen::Code(_)));
        }
    }

    #[tokio::test]
    async fn a_silent_and_a_foreign_connection_do_not_keep_the_browser_away() {
        let loopback = Loopback::bind("s1".to_owned(), None).await.unwrap();
        let at = ("127.0.0.1", loopback.expected.port);
        let url = loopback.redirect_uri();
        assert!(url.starts_with("http://127.0.0.1:") && url.ends_with(PATH));
        let waiting = tokio::spawn(loopback.code());
        let connect = || async {
            #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
            TcpStream::connect(at).await.unwrap()
        };
        let _silent = connect().await;
        for (path, status) in [("/favicon.ico", "404"), ("/callback?code=c1&state=s1", "200")] {
            let mut stream = connect().await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", at.1);
            // However the bytes come.
            for byte in request.as_bytes() {
                stream.write_all(&[*byte]).await.unwrap();
            }
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(!answer.contains("c1"));
        }
        assert_eq!(waiting.await.unwrap().unwrap(), "c1");
    }
}
