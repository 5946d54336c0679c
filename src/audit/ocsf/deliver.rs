//! Where events go: this process's standard output, a file that is rotated by its size, or whatever
//! else implements [`Deliver`].

use std::fmt;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// How many files there are at most: the one that is written, and those before it.
const FILES_MAX: u32 = 5;

/// Takes events for good.
pub trait Deliver: Send + fmt::Debug {
    /// Delivers events, one JSON object a line, each ending with a line feed. Once it returns `Ok`
    /// they need not be given again; after an error all of them are given again.
    fn deliver<'a>(&'a mut self, lines: &'a [u8]) -> BoxFuture<'a, io::Result<()>>;
}

/// Standard output, which is nobody else's in a daemon.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdout;

impl Deliver for Stdout {
    fn deliver<'a>(&'a mut self, lines: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        let lines = lines.to_vec();
        async move {
            // Whoever reads it may be slow, or stop reading: that keeps one of the threads for such
            // things, and no worker.
            let written = tokio::task::spawn_blocking(move || {
                let mut out = io::stdout().lock();
                out.write_all(&lines)?;
                out.flush()
            });
            written.await.map_err(io::Error::other)?
        }
        .boxed()
    }
}

/// A file that only its owner can read; once it is full, it becomes `<name>.1`, and so on.
#[derive(Debug)]
pub struct Rotated {
    path: PathBuf,
    bytes_max: u64,
}

impl Rotated {
    /// The file at `path`, of at most `bytes_max` bytes.
    pub fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self { path, bytes_max }
    }

    fn write(&self, lines: &[u8]) -> io::Result<()> {
        let length = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let taken = fs::metadata(&self.path).map_or(0, |found| found.len());
        if taken > 0 && taken.saturating_add(length) > self.bytes_max {
            self.rotate()?;
        }
        let mut file =
            fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let whole = file.metadata()?.len();
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a batch would be given again behind its own first half.
            file.set_len(whole)?;
        }
        written
    }

    fn rotate(&self) -> io::Result<()> {
        let numbered = |number: u32| {
            if number == 0 {
                self.path.clone()
            } else {
                self.path.with_added_extension(number.to_string())
            }
        };
        for number in (0..FILES_MAX.saturating_sub(1)).rev() {
            let from = numbered(number);
            if from.exists() {
                fs::rename(from, numbered(number.saturating_add(1)))?;
            }
        }
        Ok(())
    }
}

impl Deliver for Rotated {
    fn deliver<'a>(&'a mut self, lines: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        async move { self.write(lines) }.boxed()
    }
}
