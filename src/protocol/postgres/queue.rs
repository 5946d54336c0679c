//! Bytes that wait to be written: small ones are joined, so that one wake-up is one write, and
//! large ones are kept as they are, so that a run of rows is never copied.

use std::collections::VecDeque;
use std::io;

use bytes::Buf;
use bytes::Bytes;
use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

/// Bytes that wait at most before their source is no longer read, in bytes.
pub(super) const QUEUE_BYTES_MAX: usize = 256 * 1024;
/// Chunks up to this size are joined, in bytes.
const SMALL_BYTES_MAX: usize = 8 * 1024;

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    waiting: usize,
    unflushed: bool,
}

impl Queue {
    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.waiting = self.waiting.saturating_add(bytes.len());
        if bytes.len() <= SMALL_BYTES_MAX {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.close_tail();
            self.chunks.push_back(bytes);
        }
    }

    /// Whether enough waits already.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= QUEUE_BYTES_MAX
    }

    /// Whether nothing waits, not even to be flushed.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0 && !self.unflushed
    }

    /// Writes what waits, and flushes. Cancel-safe: what was written is known to be.
    pub(super) async fn drain(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            if self.chunks.is_empty() {
                self.close_tail();
            }
            let Some(chunk) = self.chunks.front_mut() else { break };
            let written = to.write(chunk).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            chunk.advance(written.min(chunk.len()));
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            self.waiting = self.waiting.saturating_sub(written);
            self.unflushed = true;
        }
        to.flush().await?;
        self.unflushed = false;
        Ok(())
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn bytes_leave_in_order_through_a_narrow_pipe() {
        let mut queue = Queue::default();
        let mut expected = Vec::new();
        for size in [1, 9_000, 3, 4, 20_000, 5] {
            let bytes = vec![u8::try_from(size % 251).unwrap(); size];
            expected.extend_from_slice(&bytes);
            queue.push(bytes.into());
        }
        let (mut near, mut far) = tokio::io::duplex(100);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        queue.drain(&mut near).await.unwrap();
        assert!(queue.is_idle());
        drop(near);
        assert_eq!(reading.await.unwrap(), expected);
    }
}
