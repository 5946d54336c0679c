//! A stream that can be cut from outside.
//!
//! russh owns its connection in a task of its own that cannot be ended while it waits for a peer.
//! Cutting the stream under it ends it, whatever it waits for.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A stream that reads and writes nothing any more once its knife fell.
pub(super) struct Severable<S> {
    stream: S,
    knife: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Severable<S> {
    /// `stream`, until `knife` is canceled.
    pub(super) fn new(stream: S, knife: CancellationToken) -> Self {
        Self { stream, knife: Box::pin(knife.cancelled_owned()) }
    }

    fn whole(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.knife.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.whole(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.whole(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_by_the_cut() {
        let (near, _far) = tokio::io::duplex(8);
        let knife = CancellationToken::new();
        let mut stream = Severable::new(near, knife.clone());
        let reading = tokio::spawn(async move {
            let failed = stream.read_u8().await.unwrap_err().kind();
            (failed, stream.write_u8(1).await.is_err())
        });
        tokio::task::yield_now().await;
        knife.cancel();
        assert_eq!(reading.await.unwrap(), (io::ErrorKind::ConnectionAborted, true));
    }
}
