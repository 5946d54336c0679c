//! PostgreSQL for local tools: no TLS and no password here, TLS with the person's certificate at
//! the gateway.

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::cli::client::CallError;
use crate::cli::proxy::Served;
use crate::tls;

/// `SSLRequest`, `GSSENCRequest` and `CancelRequest` (PostgreSQL's documentation, "Message
/// Formats").
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// Longest startup packet, in bytes, as the gateway has it.
const STARTUP_BYTES_MAX: usize = 32 * 1024;
/// How often a client may ask for encryption before it begins.
const REQUESTS_MAX: usize = 4;
/// What is spoken inside TLS.
const ALPN: &[&[u8]] = &[b"postgresql"];

/// What a client begins with.
#[derive(Debug, PartialEq, Eq)]
enum Begin {
    /// A session: the packet, as it came.
    Startup(Vec<u8>),
    /// That another session's command be canceled: the packet, as it came.
    Cancel(Vec<u8>),
}

/// Carries one connection.
pub(super) async fn carry<S>(served: &Served, stream: &mut S) -> Result<(), CallError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A tool that goes away at once, or speaks something else, has not been wronged.
    let Ok(begin) = begin(stream).await else { return Ok(()) };
    let (packet, cancels) = match begin {
        Begin::Startup(packet) => (packet, false),
        Begin::Cancel(packet) => (packet, true),
    };
    // A cancel carries its own secret; no certificate is asked for.
    let identity = if cancels { Ok(None) } else { served.source.certificate().await.map(Some) };
    let opened = match identity {
        Ok(identity) => connect(served, identity.as_ref(), &packet).await,
        Err(error) => Err(error),
    };
    let mut gateway = match opened {
        Ok(gateway) => gateway,
        Err(error) => {
            // Whether the client still hears it changes nothing.
            drop(stream.write_all(&fatal(&error.to_string())).await);
            return Err(error);
        }
    };
    // However it ends, it has ended: both sides know by themselves.
    drop(tokio::io::copy_bidirectional(stream, &mut gateway).await);
    Ok(())
}

async fn connect(
    served: &Served,
    identity: Option<&tls::KeyPair>,
    packet: &[u8],
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, CallError> {
    let mut gateway = served.way.open(ALPN, identity).await?;
    let sent = async {
        gateway.write_all(packet).await?;
        gateway.flush().await
    };
    sent.await.map_err(|error| CallError::Unreached(error.to_string()))?;
    Ok(gateway)
}

/// Reads what a client begins with; encryption is declined, since this is a socket of this machine.
async fn begin<S>(stream: &mut S) -> std::io::Result<Begin>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let odd = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    for _ in 0..=REQUESTS_MAX {
        let length = stream.read_u32().await?;
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        let rest = bytes.checked_sub(4).filter(|_| (8..=STARTUP_BYTES_MAX).contains(&bytes));
        let mut body = vec![0; rest.ok_or_else(odd)?];
        stream.read_exact(&mut body).await?;
        let code = body.first_chunk::<4>().copied().map(u32::from_be_bytes).ok_or_else(odd)?;
        let packet = [length.to_be_bytes().as_slice(), &body].concat();
        match code {
            SSL_REQUEST | GSSENC_REQUEST if bytes == 8 => stream.write_all(b"N").await?,
            CANCEL_REQUEST => return Ok(Begin::Cancel(packet)),
            version if version >> 16 == 3 => return Ok(Begin::Startup(packet)),
            _ => return Err(odd()),
        }
    }
    Err(odd())
}

/// `ErrorResponse`: the gateway was not reached, or nobody is signed in.
fn fatal(text: &str) -> Vec<u8> {
    let (text, hint) = text.split_once("\nhint: ").unwrap_or((text, "weir login"));
    let mut body = Vec::new();
    let fields = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "08006"), (b'M', text), (b'H', hint)];
    for (field, value) in fields {
        body.push(field);
        body.extend(value.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len().saturating_add(4)).unwrap_or(u32::MAX);
    [b"E".as_slice(), &length.to_be_bytes(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(rest.len() + 8).unwrap();
        [length.to_be_bytes().as_slice(), &code.to_be_bytes(), rest].concat()
    }

    async fn read(bytes: &[u8], cut: usize) -> (std::io::Result<Begin>, Vec<u8>) {
        let (mut client, mut proxy) = tokio::io::duplex(64 * 1024);
        let (one, two) = bytes.split_at(cut);
        let (one, two) = (one.to_vec(), two.to_vec());
        let said = tokio::spawn(async move {
            client.write_all(&one).await.unwrap();
            client.flush().await.unwrap();
            tokio::task::yield_now().await;
            client.write_all(&two).await.unwrap();
            client.shutdown().await.unwrap();
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            said
        });
        let begun = begin(&mut proxy).await;
        drop(proxy);
        (begun, said.await.unwrap())
    }

    #[tokio::test]
    async fn encryption_is_declined_and_what_follows_is_taken_as_it_came_wherever_it_is_cut() {
        let startup = packet(3 << 16, b"user\0alice\0\0");
        let all = [packet(GSSENC_REQUEST, b""), packet(SSL_REQUEST, b""), startup.clone()].concat();
        for cut in 0..=all.len() {
            let (begun, said) = read(&all, cut).await;
            assert_eq!(begun.unwrap(), Begin::Startup(startup.clone()), "{cut}");
            assert_eq!(said, b"NN");
        }
        let cancel = packet(CANCEL_REQUEST, &[1; 36]);
        assert_eq!(read(&cancel, 3).await.0.unwrap(), Begin::Cancel(cancel));
    }

    #[tokio::test]
    async fn nonsense_and_endless_requests_are_dropped() {
        for bad in [
            packet(2 << 16, b""),
            packet(SSL_REQUEST, b"x"),
            vec![0, 0, 0, 4],
            vec![0xff; 8],
            packet(SSL_REQUEST, b"").repeat(REQUESTS_MAX + 1),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ] {
            assert!(read(&bad, 0).await.0.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tool_is_told_why_and_what_to_do() {
        let text =
            String::from_utf8(fatal("your login has ended\nhint: run `weir login`")).unwrap();
        assert!(text.contains("Myour login has ended\0Hrun `weir login`\0\0"), "{text:?}");
    }
}
