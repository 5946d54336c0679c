//! A stream that gives back what was read ahead of it.
//!
//! Knows bytes only.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Buf;
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// A stream whose first bytes were read already: a reader gets them once more, then what follows.
#[derive(Debug)]
pub struct Prefixed<S> {
    prefix: Bytes,
    inner: S,
}

impl<S> Prefixed<S> {
    /// `inner`, of which `prefix` was read already.
    pub fn new(prefix: impl Into<Bytes>, inner: S) -> Self {
        Self { prefix: prefix.into(), inner }
    }

    /// The bytes that were read ahead and that no reader has got yet. After an `SSLRequest` was
    /// read there must be none: they came in plaintext and must not be taken for something that
    /// was said under TLS (CVE-2021-23222).
    pub fn buffered(&self) -> &[u8] {
        &self.prefix
    }

    /// The stream beneath, past the bytes that were read ahead.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The bytes read ahead that no reader has got yet, and the stream that goes on after them.
    pub fn into_parts(self) -> (Bytes, S) {
        (self.prefix, self.inner)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let bytes = self.prefix.len().min(buf.remaining());
        buf.put_slice(self.prefix.get(..bytes).unwrap_or_default());
        self.prefix.advance(bytes);
        if self.prefix.is_empty() {
            // The memory is not needed any more, and a session may last for days.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_comes_first_and_is_seen_until_it_is_read() {
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(b" and after").await.unwrap();
        let mut stream = Prefixed::new(&b"before"[..], near);
        assert_eq!(stream.buffered(), b"before");
        let mut first = [0; 2];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!((&first, stream.buffered()), (b"be", &b"fore"[..]));
        let mut rest = [0; 14];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!((&rest, stream.buffered()), (b"fore and after", &b""[..]));
        stream.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        far.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }
}
