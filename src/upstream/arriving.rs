//! An answer whose body is handed on as it comes.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::upstream::FetchError;

/// The connection that an answer comes on: driven while somebody waits for the next part.
pub(super) type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An answer whose body has not come yet. Dropping it ends the exchange.
pub struct Arriving {
    host: String,
    status: u16,
    body: Incoming,
    connection: Option<Connection>,
}

impl std::fmt::Debug for Arriving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, status, .. } = self;
        f.debug_struct("Arriving")
            .field("host", host)
            .field("status", status)
            .finish_non_exhaustive()
    }
}

impl Arriving {
    pub(super) fn new(
        host: String,
        answer: http::Response<Incoming>,
        connection: Option<Connection>,
    ) -> Self {
        let status = answer.status().as_u16();
        Self { host, status, body: answer.into_body(), connection }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The next part of the body, as long as it came; `None` at its end. Waits as long as it takes.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let frame = match &mut self.connection {
                Some(connection) => tokio::select! {
                    frame = self.body.frame() => frame,
                    ended = connection => {
                        self.connection = None;
                        ended.map_err(|error| self.failed(error))?;
                        continue;
                    }
                },
                None => self.body.frame().await,
            };
            let Some(frame) = frame else { return Ok(None) };
            // Trailers say nothing here.
            if let Ok(part) = frame.map_err(|error| self.failed(error))?.into_data() {
                return Ok(Some(part));
            }
        }
    }

    fn failed(&self, source: hyper::Error) -> FetchError {
        FetchError::Exchange { host: self.host.clone(), source: Box::new(source) }
    }
}
