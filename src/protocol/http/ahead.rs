//! Seeing a client leave while its command waits.
//!
//! On HTTP/1 hyper looks for the end of the client only while nothing is buffered: a client that
//! pipelined its next request and then vanished would not be missed (hyper's
//! `mid_message_detect_eof`). So while a command waits this reads ahead on hyper's behalf, up to a
//! bound, and tells when the client's end is seen or the bound is reached.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// How much is read ahead while a command waits, in bytes.
pub const AHEAD_BYTES_MAX: usize = 64 * 1024;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

struct Inner {
    stream: Box<dyn Duplex>,
    ahead: VecDeque<u8>,
    end: bool,
    /// Whoever reads for hyper; woken when bytes were read ahead, which took its registration.
    reader: Option<Waker>,
}

/// A client's stream, from which its watcher may read ahead.
pub struct Watched(Arc<Mutex<Inner>>);

/// Reads ahead of a [`Watched`] stream.
#[derive(Clone)]
pub struct Ahead(Arc<Mutex<Inner>>);

/// Why nothing more is read ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The client has gone.
    Gone,
    /// The bound is reached: a client whose bytes are not read cannot be seen to leave.
    Full,
}

/// A stream, and what reads ahead of it.
pub fn watched(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> (Watched, Ahead) {
    let stream = Box::new(stream);
    let inner = Inner { stream, ahead: VecDeque::new(), end: false, reader: None };
    let inner = Arc::new(Mutex::new(inner));
    (Watched(Arc::clone(&inner)), Ahead(inner))
}

impl Ahead {
    /// Reads ahead until the client goes or the bound is reached. Cancel safe: what was read is
    /// kept for the stream's own reader.
    pub async fn stop(&self) -> Stop {
        std::future::poll_fn(|cx| lock(&self.0).read_ahead(cx)).await
    }
}

impl Inner {
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        loop {
            if self.end {
                return Poll::Ready(Stop::Gone);
            }
            let room = AHEAD_BYTES_MAX.saturating_sub(self.ahead.len());
            if room == 0 {
                return Poll::Ready(Stop::Full);
            }
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(bytes.get_mut(..room.min(4096)).unwrap_or_default());
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.ahead.extend(buffer.filled()),
                // A broken connection has gone, too.
                Ok(()) | Err(_) => self.end = true,
            }
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        if !inner.ahead.is_empty() {
            let (first, _) = inner.ahead.as_slices();
            let length = first.len().min(buffer.remaining());
            buffer.put_slice(first.get(..length).unwrap_or_default());
            inner.ahead.drain(..length);
            return Poll::Ready(Ok(()));
        }
        if inner.end {
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut inner.stream).poll_read(cx, buffer);
        if read.is_pending() {
            inner.reader = Some(cx.waker().clone());
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut lock(&self.0).stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut lock(&self.0).stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).stream.is_write_vectored()
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ahead")
    }
}
