//! What a client says that it is: the first line it sends (RFC 4253 §4.2), read in passing, because
//! russh does not tell a sign-in. Not verified; for people who are asked whether it was them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::protocol::ssh::hello::shown;

/// The longest first line that there is, in bytes (RFC 4253 §4.2).
const LINE_BYTES_MAX: usize = 255;

/// What was overheard of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Overheard(Arc<Mutex<Vec<u8>>>);

impl Overheard {
    /// The client's software, e.g. `OpenSSH_9.2p1 Debian-2`; `an SSH client` where it says none.
    pub(super) fn said(&self) -> String {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = heard.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        // `SSH-protoversion-softwareversion SP comments`
        let software = line.splitn(3, '-').nth(2).map(shown).filter(|text| !text.is_empty());
        software.unwrap_or_else(|| "an SSH client".to_owned())
    }

    /// Hears some more; `false`: that was enough.
    fn hear(&self, bytes: &[u8]) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = LINE_BYTES_MAX.saturating_sub(heard.len());
        heard.extend(bytes.iter().take(room));
        heard.len() < LINE_BYTES_MAX && !heard.contains(&b'\n')
    }
}

/// A stream whose first line is overheard.
pub(super) struct Overhearing<S> {
    stream: S,
    overheard: Option<Overheard>,
}

impl<S> Overhearing<S> {
    /// `stream`, and what will be heard of it.
    pub(super) fn new(stream: S) -> (Self, Overheard) {
        let overheard = Overheard::default();
        (Self { stream, overheard: Some(overheard.clone()) }, overheard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overhearing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        if self.overheard.as_ref().is_some_and(|overheard| !overheard.hear(new)) {
            self.overheard = None;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overhearing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn heard(bytes: &[u8], at_once: usize) -> String {
        let pieces = bytes.chunks(at_once).fold(tokio_test_reader(), |reader, piece| {
            Box::new(reader.chain(io::Cursor::new(piece.to_vec())))
        });
        let (mut stream, overheard) = Overhearing::new(pieces);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, bytes, "what is overheard still arrives");
        overheard.said()
    }

    fn tokio_test_reader() -> Box<dyn AsyncRead + Unpin> {
        Box::new(tokio::io::empty())
    }

    #[tokio::test]
    async fn a_client_says_what_it_is() {
        let bytes = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\0\0\x05\xdcmore\nSSH-2.0-other\r\n";
        for at_once in [1, 7, 1_000] {
            assert_eq!(heard(bytes, at_once).await, "OpenSSH_9.2p1 Debian-2");
        }
        for odd in
            [&b""[..], b"\n", b"SSH-2.0-\r\n", b"SSH-2.0-\x1b\x07\r\n", b"GET / HTTP/1.1\r\n"]
        {
            assert_eq!(heard(odd, 3).await, "an SSH client", "{odd:?}");
        }
        assert_eq!(heard(&[b'-'; 5_000], 100).await.len(), 64);
    }
}
