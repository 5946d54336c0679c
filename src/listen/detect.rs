//! What a connection speaks, told by its first bytes.
//!
//! Knows how the protocols begin and nothing of what follows. What begins like none of them is
//! closed.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio::time::timeout;
use tokio::time::timeout_at;

use crate::listen::Limits;
use crate::listen::Prefixed;
use crate::tls::Alpn;

/// How much is read ahead at most; every protocol has told itself long before.
const READ_AHEAD_BYTES_MAX: usize = 64;
/// The longest HTTP method that is known to be one (RFC 9110, section 16.1, has shorter ones).
const METHOD_BYTES_MAX: usize = 20;

/// `SSLRequest` (PostgreSQL's documentation, "Message Formats").
const SSL_REQUEST: u32 = 80_877_103;
/// `GSSENCRequest`.
const GSSENC_REQUEST: u32 = 80_877_104;
/// `CancelRequest`: 16 bytes, or up to 256 bytes of key since protocol 3.2.
const CANCEL_REQUEST: u32 = 80_877_102;
const CANCEL_BYTES_MAX: usize = 4 + 4 + 4 + 256;

/// What is told to a client that speaks HTTP without TLS.
const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 40\r\n\
    connection: close\r\n\
    \r\n\
    This port speaks TLS: use https instead\n";
/// For sending that answer, and for the client to close after it.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// How much of the request is read away after the answer.
const LINGER_BYTES_MAX: u64 = 64 * 1024;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// TLS; what is inside is told by ALPN and [`detect_tls`].
    Tls,
    /// SSH.
    Ssh,
    /// PostgreSQL without TLS: a request for encryption, a cancel request, or a startup packet.
    Postgres,
}

/// What is spoken inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpokenInTls {
    /// PostgreSQL ("direct TLS").
    Postgres,
    /// HTTP/1.1 or HTTP/2.
    Http,
    /// SSH: `weir proxy-command` brings it so, for the name of the target in TLS.
    Ssh,
}

/// What first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// This is spoken.
    Spoken(Spoken),
    /// Nothing yet.
    NeedMore,
    /// HTTP, which is spoken here within TLS only.
    PlainHttp,
    /// Nothing that is spoken here.
    Unknown,
}

/// Why it is not known what a connection speaks.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The client went away without a word, as port scans and health checks do.
    #[error("the client went away before it said what it speaks")]
    Gone,
    /// The deadline of the handshake passed.
    #[error("the client took too long to say what it speaks")]
    TooSlow,
    /// HTTP without TLS; the client was told.
    #[error("the client speaks HTTP without TLS")]
    PlainHttp,
    /// Nothing that is spoken here.
    #[error("the client speaks nothing that is spoken here")]
    Unknown,
    /// The connection broke.
    #[error("the connection broke before the client said what it speaks")]
    Broken(#[source] io::Error),
}

/// What the first bytes of a connection tell.
pub fn first(bytes: &[u8], limits: &Limits) -> First {
    match bytes.first() {
        None => First::NeedMore,
        // RFC 8446, section 5.1: a record of the type handshake.
        Some(0x16) => First::Spoken(Spoken::Tls),
        Some(0) => postgres(bytes, limits.startup_bytes_max),
        Some(_) => match (begins(bytes, b"SSH-"), http(bytes)) {
            // RFC 4253, section 4.2.
            (Begins::Yes, _) => First::Spoken(Spoken::Ssh),
            (Begins::Perhaps, _) | (Begins::No, Begins::Perhaps) => First::NeedMore,
            (Begins::No, Begins::Yes) => First::PlainHttp,
            (Begins::No, Begins::No) => First::Unknown,
        },
    }
}

enum Begins {
    Yes,
    Perhaps,
    No,
}

fn begins(bytes: &[u8], with: &[u8]) -> Begins {
    if bytes.starts_with(with) {
        Begins::Yes
    } else if with.starts_with(bytes) {
        Begins::Perhaps
    } else {
        Begins::No
    }
}

/// A PostgreSQL client begins with a length and a code, four bytes each.
fn postgres(bytes: &[u8], startup_bytes_max: usize) -> First {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return First::NeedMore };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if !(8..=startup_bytes_max).contains(&length) {
        return First::Unknown;
    }
    let Some(code) = rest.first_chunk::<4>() else { return First::NeedMore };
    let known = match u32::from_be_bytes(*code) {
        SSL_REQUEST | GSSENC_REQUEST => length == 8,
        CANCEL_REQUEST => (16..=CANCEL_BYTES_MAX).contains(&length),
        // A startup packet carries its version: 3 and whatever minor.
        version => version >> 16 == 3,
    };
    if known { First::Spoken(Spoken::Postgres) } else { First::Unknown }
}

/// A request line (RFC 9112, section 3), or the preface of HTTP/2 (RFC 9113, section 3.4), which
/// looks like one: a method of upper-case letters and a space.
fn http(bytes: &[u8]) -> Begins {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    if letters > METHOD_BYTES_MAX {
        return Begins::No;
    }
    match bytes.get(letters) {
        None => Begins::Perhaps,
        Some(b' ') if letters >= 3 => Begins::Yes,
        Some(_) => Begins::No,
    }
}

/// Tells what a new connection speaks. The bytes that told it can be read again from the stream.
///
/// A client that says nothing for [`Limits::silence_ms_max_before_ssh`] is an SSH client that
/// waits for the server's banner (RFC 4253, section 4.2, lets both speak first); one that says a
/// little and then nothing has until `deadline`.
///
/// Not cancel safe: what was read is lost with the future, so drop the connection with it.
pub async fn detect<S>(
    mut stream: S,
    limits: &Limits,
    deadline: Instant,
) -> Result<(Spoken, Prefixed<S>), DetectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = BytesMut::with_capacity(READ_AHEAD_BYTES_MAX);
    let silence = timeout(limits.silence_before_ssh(), more(&mut stream, &mut bytes));
    let Ok(read) = timeout_at(deadline, silence).await.map_err(|_| DetectError::TooSlow)? else {
        return Ok((Spoken::Ssh, Prefixed::new(bytes, stream)));
    };
    read?;
    loop {
        match first(&bytes, limits) {
            First::Spoken(spoken) => return Ok((spoken, Prefixed::new(bytes, stream))),
            First::NeedMore => timeout_at(deadline, more(&mut stream, &mut bytes))
                .await
                .map_err(|_| DetectError::TooSlow)??,
            First::PlainHttp => {
                // Whether the client still hears it changes nothing.
                drop(timeout(ANSWER_TIME_MAX, answer_plain_http(&mut stream)).await);
                return Err(DetectError::PlainHttp);
            }
            First::Unknown => return Err(DetectError::Unknown),
        }
    }
}

/// Tells what is spoken inside a TLS connection that began with TLS. Without ALPN that can only be
/// HTTP, or SSH: PostgreSQL 17 and later too closes direct TLS without ALPN, lest it be made to answer
/// somebody who speaks something else.
///
/// Not cancel safe: what was read is lost with the future, so drop the connection with it.
pub async fn detect_tls<S>(
    alpn: Alpn,
    mut stream: S,
    deadline: Instant,
) -> Result<(SpokenInTls, Prefixed<S>), DetectError>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = BytesMut::new();
    match alpn {
        Alpn::Postgres => return Ok((SpokenInTls::Postgres, Prefixed::new(bytes, stream))),
        Alpn::Http1 | Alpn::Http2 => return Ok((SpokenInTls::Http, Prefixed::new(bytes, stream))),
        Alpn::None => bytes.reserve(READ_AHEAD_BYTES_MAX),
    }
    loop {
        timeout_at(deadline, more(&mut stream, &mut bytes))
            .await
            .map_err(|_| DetectError::TooSlow)??;
        match (begins(&bytes, b"SSH-"), http(&bytes)) {
            (Begins::Yes, _) => return Ok((SpokenInTls::Ssh, Prefixed::new(bytes, stream))),
            (_, Begins::Yes) => return Ok((SpokenInTls::Http, Prefixed::new(bytes, stream))),
            (Begins::Perhaps, _) | (_, Begins::Perhaps) => {}
            (Begins::No, Begins::No) => return Err(DetectError::Unknown),
        }
    }
}

/// Reads some bytes more, [`READ_AHEAD_BYTES_MAX`] in all at most.
async fn more(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut BytesMut,
) -> Result<(), DetectError> {
    let room = READ_AHEAD_BYTES_MAX.saturating_sub(bytes.len());
    let mut some = stream.take(u64::try_from(room).unwrap_or(u64::MAX));
    match some.read_buf(bytes).await {
        Ok(0) => Err(DetectError::Gone),
        Ok(_) => Ok(()),
        Err(error) => Err(DetectError::Broken(error)),
    }
}

/// Tells a browser what is wrong, and reads on for a moment: closing a socket with unread bytes
/// resets the connection, and the answer would be lost.
async fn answer_plain_http(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(PLAIN_HTTP_ANSWER).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::DuplexStream;
    use tokio::io::duplex;

    use super::*;

    fn request(length: u32, code: u32) -> Vec<u8> {
        [length.to_be_bytes(), code.to_be_bytes()].concat()
    }

    fn told(bytes: &[u8]) -> First {
        first(bytes, &Limits::default())
    }

    fn deadline() -> Instant {
        Instant::now() + Limits::default().handshake()
    }

    const TLS: First = First::Spoken(Spoken::Tls);
    const SSH: First = First::Spoken(Spoken::Ssh);
    const POSTGRES: First = First::Spoken(Spoken::Postgres);

    fn examples() -> Vec<(Vec<u8>, First)> {
        vec![
            (b"\x16\x03\x01\x02\x00\x01".to_vec(), TLS),
            (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), SSH),
            (request(8, SSL_REQUEST), POSTGRES),
            (request(8, GSSENC_REQUEST), POSTGRES),
            (request(16, CANCEL_REQUEST), POSTGRES),
            (request(268, CANCEL_REQUEST), POSTGRES),
            (request(41, 0x0003_0000), POSTGRES),
            (request(10_000, 0x0003_0002), POSTGRES),
            (request(9, SSL_REQUEST), First::Unknown),
            (request(12, CANCEL_REQUEST), First::Unknown),
            (request(269, CANCEL_REQUEST), First::Unknown),
            (request(41, 0x0002_0000), First::Unknown),
            (request(41, 80_877_105), First::Unknown),
            (request(7, SSL_REQUEST), First::Unknown),
            (request(0, SSL_REQUEST), First::Unknown),
            (request(10_001, 0x0003_0000), First::Unknown),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), First::PlainHttp),
            (b"OPTIONS * HTTP/1.1\r\n".to_vec(), First::PlainHttp),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), First::PlainHttp),
            (b"SSH 2".to_vec(), First::PlainHttp),
            (b"get / HTTP/1.1".to_vec(), First::Unknown),
            (b"PROXY TCP4 192.0.2.1".to_vec(), First::PlainHttp),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec(), First::Unknown),
            (b"ABCDEFGHIJKLMNOPQRSTU".to_vec(), First::Unknown),
            (b"\xff\xff\xff\xff".to_vec(), First::Unknown),
            (b"\x80\x2e\x01".to_vec(), First::Unknown),
        ]
    }

    #[test]
    fn a_protocol_is_told_by_how_it_begins() {
        for (bytes, wanted) in examples() {
            assert_eq!(told(&bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_arrive() {
        for (bytes, wanted) in examples() {
            let answers: Vec<First> = (0..=bytes.len())
                .map(|split| told(&bytes[..split]))
                .filter(|answer| *answer != First::NeedMore)
                .collect();
            assert!(answers.iter().all(|answer| *answer == wanted), "{bytes:?}: {answers:?}");
            assert!(!answers.is_empty());
        }
    }

    #[tokio::test]
    async fn nothing_is_consumed_and_bytes_before_tls_are_seen() {
        // CVE-2021-23222: a startup packet stuffed behind the request for TLS.
        let stuffed = [request(8, SSL_REQUEST), request(41, 0x0003_0000)].concat();
        let (mut far, near) = duplex(256);
        far.write_all(&stuffed).await.unwrap();
        let (spoken, mut stream) = detect(near, &Limits::default(), deadline()).await.unwrap();
        assert_eq!((spoken, stream.buffered()), (Spoken::Postgres, &stuffed[..]));
        let mut head = [0; 8];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(stream.buffered(), &stuffed[8..], "whoever begins TLS must see these");
    }

    #[tokio::test]
    async fn a_stream_cut_into_single_bytes_is_told_and_read_in_full() {
        for (bytes, wanted) in examples() {
            let (far, near) = duplex(1);
            let (mut answers, mut far) = tokio::io::split(far);
            let written = bytes.clone();
            let sender = tokio::spawn(async move {
                let sending = async {
                    drop(far.write_all(&written).await);
                    drop(far.shutdown().await);
                };
                let mut answer = Vec::new();
                drop(tokio::join!(sending, answers.read_to_end(&mut answer)));
                answer
            });
            match (detect(near, &Limits::default(), deadline()).await, wanted) {
                (Ok((spoken, mut stream)), First::Spoken(wanted)) => {
                    assert_eq!(spoken, wanted);
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).await.unwrap();
                    assert_eq!(all, bytes);
                }
                (Err(DetectError::PlainHttp), First::PlainHttp) => {
                    assert_eq!(sender.await.unwrap(), PLAIN_HTTP_ANSWER);
                }
                (Err(DetectError::Unknown), First::Unknown) => {
                    assert_eq!(sender.await.unwrap(), b"");
                }
                (other, wanted) => panic!("{other:?} instead of {wanted:?}"),
            }
        }
    }

    #[test]
    fn the_answer_to_plain_http_is_as_long_as_it_says() {
        let text = std::str::from_utf8(PLAIN_HTTP_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }

    #[tokio::test]
    async fn silence_is_ssh_but_a_client_that_stalls_is_closed() {
        let limits =
            Limits { silence_ms_max_before_ssh: 50, handshake_ms_max: 150, ..Limits::default() };
        let start = Instant::now();
        let (_far, near) = duplex(64);
        let (spoken, stream) = detect(near, &limits, start + limits.handshake()).await.unwrap();
        assert_eq!((spoken, stream.buffered()), (Spoken::Ssh, &b""[..]));
        assert!(start.elapsed() >= limits.silence_before_ssh());

        for little in [&[0][..], b"SSH", b"GET"] {
            let start = Instant::now();
            let (mut far, near) = duplex(64);
            far.write_all(little).await.unwrap();
            let stalled = detect(near, &limits, start + limits.handshake()).await;
            assert!(matches!(stalled, Err(DetectError::TooSlow)));
            assert!(start.elapsed() >= limits.handshake());
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_no_ssh_client() {
        let (far, near) = duplex(64);
        drop(far);
        let gone = detect(near, &Limits::default(), deadline()).await;
        assert!(matches!(gone, Err(DetectError::Gone)));
    }

    async fn in_tls(alpn: Alpn, bytes: &[u8]) -> Result<(SpokenInTls, Vec<u8>), DetectError> {
        let (mut far, near): (DuplexStream, _) = duplex(1);
        let sent = bytes.to_vec();
        tokio::spawn(async move { drop(far.write_all(&sent).await) });
        let (spoken, mut stream) = detect_tls(alpn, near, deadline()).await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        Ok((spoken, all))
    }

    #[tokio::test]
    async fn inside_tls_alpn_decides_and_without_it_there_is_http_or_ssh() {
        let startup = request(8, 0x0003_0000);
        let (spoken, all) = in_tls(Alpn::Postgres, &startup).await.unwrap();
        assert_eq!((spoken, all), (SpokenInTls::Postgres, startup.clone()));
        for alpn in [Alpn::Http1, Alpn::Http2, Alpn::None] {
            for line in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
                let (spoken, all) = in_tls(alpn, line).await.unwrap();
                assert_eq!((spoken, &all[..]), (SpokenInTls::Http, line));
            }
        }
        let (spoken, all) = in_tls(Alpn::None, b"SSH-2.0-x\r\n").await.unwrap();
        assert_eq!((spoken, &all[..]), (SpokenInTls::Ssh, &b"SSH-2.0-x\r\n"[..]));
        for refused in [&startup[..], b"SSL-2.0-x\r\n", b"\x16\x03\x01", b"get / HTTP/1.1"] {
            let answer = in_tls(Alpn::None, refused).await;
            assert!(matches!(answer, Err(DetectError::Unknown)), "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_change_what_was_told(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            zero in any::<bool>(),
        ) {
            let bytes = if zero { [vec![0, 0], bytes].concat() } else { bytes };
            let mut before = First::NeedMore;
            for split in 0..=bytes.len() {
                let now = told(&bytes[..split]);
                prop_assert!(before == First::NeedMore || before == now);
                before = now;
            }
            prop_assert!(bytes.len() < READ_AHEAD_BYTES_MAX || before != First::NeedMore);
        }
    }
}
