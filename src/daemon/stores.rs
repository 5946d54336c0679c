//! How stores of recordings and key services are spoken to: over `upstream`, to configured places
//! alone.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::audit::storage::Failure;
use crate::audit::storage::Http;
use crate::audit::storage::HttpFailed;
use crate::upstream::DialError;
use crate::upstream::FetchError;
use crate::upstream::Fetcher;

/// How long an exchange with a store may take, in milliseconds: objects of 16 MiB over a slow line.
pub(super) const EXCHANGE_MS_MAX: u64 = 120_000;

/// Speaks to the configured stores and key services, and to nobody else.
#[derive(Debug)]
pub struct Stores(Vec<Fetcher>);

impl Stores {
    /// Speaks to these places.
    pub fn new(places: impl IntoIterator<Item = Fetcher>) -> Self {
        let patient = |place: Fetcher| place.within_ms(EXCHANGE_MS_MAX);
        Self(places.into_iter().map(patient).collect())
    }
}

impl Http for Stores {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, HttpFailed>> {
        let place = self.0.iter().find(|place| place.serves(request.uri()));
        async move {
            let Some(place) = place else {
                let host = request.uri().host().unwrap_or_default();
                let what = format!("{host} is not configured as a store or key service");
                return Err(HttpFailed::new(Failure::NotConfigured, what));
            };
            place.send(request).await.map_err(|error| HttpFailed::new(failure(&error), error))
        }
        .boxed()
    }
}

fn failure(error: &FetchError) -> Failure {
    match error {
        FetchError::NotConfigured(_) => Failure::NotConfigured,
        FetchError::Dial(DialError::Outside { .. }) => Failure::Outside,
        FetchError::Dial(DialError::Unreachable { .. } | DialError::OtherTarget { .. }) => {
            Failure::Unreachable
        }
        FetchError::Exchange { .. } => Failure::Broken,
        FetchError::Slow { .. } => Failure::Slow,
    }
}
