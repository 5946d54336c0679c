//! How identity's questions to providers go out: over `upstream`, to configured places alone.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use http::header::CONTENT_TYPE;
use secrecy::ExposeSecret;

use crate::identity::Fetch;
use crate::identity::FetchError;
use crate::identity::Request;
use crate::identity::Response;
use crate::upstream::Fetcher;

/// Fetches from the configured providers, and from nowhere else.
#[derive(Debug)]
pub(super) struct Providers(pub(super) Vec<Fetcher>);

impl Providers {
    fn place(&self, url: &str) -> Result<(&Fetcher, http::Uri), FetchError> {
        let uri = url.parse::<http::Uri>().map_err(FetchError::new)?;
        let place = self.0.iter().find(|place| place.serves(&uri));
        let place = place.ok_or_else(|| FetchError::new(format!("{url} is not configured")))?;
        Ok((place, uri))
    }
}

impl Fetch for Providers {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Response, FetchError>> {
        async move {
            let (place, uri) = self.place(url)?;
            let fetched = place.get(&uri).await.map_err(FetchError::new)?;
            Ok(Response { status: fetched.status, body: fetched.body })
        }
        .boxed()
    }

    fn send<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, FetchError>> {
        async move {
            let (place, uri) = self.place(&request.url)?;
            let method = if request.form.is_some() { "POST" } else { "GET" };
            let mut head = http::Request::builder().method(method);
            if let Some(secret) = &request.authorization {
                let mut value = HeaderValue::try_from(secret.expose_secret())
                    .map_err(|_| FetchError::new("a secret cannot be sent in a header"))?;
                value.set_sensitive(true);
                head = head.header(AUTHORIZATION, value);
            }
            if request.form.is_some() {
                head = head.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            }
            let body = request.form.as_ref().map(|form| form.expose_secret().to_owned());
            let body = Bytes::from(body.unwrap_or_default());
            let fetched = place.call(&uri, head, body).await.map_err(FetchError::new)?;
            Ok(Response { status: fetched.status, body: fetched.body })
        }
        .boxed()
    }
}
