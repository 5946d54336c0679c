//! An answer of the gateway that comes line by line, each a JSON value.

use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::cli::client::CallError;
use crate::cli::client::problem;
use crate::cli::client::unreached;
use crate::upstream::Arriving;

/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long nothing may come, in milliseconds: a gateway says every quarter of a minute that it is
/// there.
const SILENT_MS_MAX: u64 = 60_000;

/// Lines that come.
#[derive(Debug)]
pub(super) struct Lines {
    runtime: Runtime,
    coming: Coming,
}

/// Lines that come, for whoever has the runtime.
#[derive(Debug)]
pub(super) struct Coming {
    arriving: Arriving,
    held: Vec<u8>,
    /// How much of what is held is known to have no line end.
    looked: usize,
}

impl Lines {
    /// The lines of an answer; a refusal if it is none.
    pub(super) fn begin(runtime: Runtime, arriving: Arriving) -> Result<Self, CallError> {
        let status = arriving.status();
        let mut coming = Coming { arriving, held: Vec::new(), looked: 0 };
        if (200..300).contains(&status) {
            return Ok(Self { runtime, coming });
        }
        runtime.block_on(async {
            while coming.held.len() < LINE_BYTES_MAX && coming.more().await? {}
            let answer = serde_json::from_slice(&coming.held).unwrap_or(Value::Null);
            Err(CallError::Refused(problem(status, &answer)))
        })
    }

    /// The runtime that they come on, and the lines.
    pub(super) fn parts(&mut self) -> (&Runtime, &mut Coming) {
        (&self.runtime, &mut self.coming)
    }
}

impl Coming {
    /// The next line; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, CallError> {
        loop {
            let fresh = self.held.get(self.looked..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', fresh) {
                let end = self.looked.saturating_add(at);
                let line = self.held.drain(..=end).collect::<Vec<_>>();
                self.looked = 0;
                return serde_json::from_slice(&line).map(Some).map_err(|_| odd());
            }
            self.looked = self.held.len();
            if self.held.len() > LINE_BYTES_MAX {
                return Err(odd());
            }
            if !self.more().await? {
                return if self.held.is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
    }

    /// Takes what comes next; `false` at the end.
    async fn more(&mut self) -> Result<bool, CallError> {
        let within = Duration::from_millis(SILENT_MS_MAX);
        let part = tokio::time::timeout(within, self.arriving.next()).await;
        let part = part.map_err(|_| CallError::Unreached("the gateway went silent".to_owned()))?;
        let part = part.map_err(|error| unreached(&error))?;
        self.held.extend_from_slice(part.as_deref().unwrap_or_default());
        Ok(part.is_some())
    }
}

fn odd() -> CallError {
    CallError::Unreached("the gateway's answer is not understood".to_owned())
}

/// The connection ended too early.
pub(super) fn cut() -> CallError {
    CallError::Unreached("the connection to the gateway ended before the recording did".to_owned())
}
