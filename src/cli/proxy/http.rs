//! HTTP for local tools, Kubernetes too: no TLS and no credential here, both at the gateway.
//!
//! A web page that somebody visits can make their browser send requests to this port. So a request
//! must be to this machine by name, and one that a page of another site made is refused.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::Mutex;

use crate::cli::client::CallError;
use crate::cli::print;
use crate::cli::proxy::Served;

type Answer = Response<BoxBody<Bytes, hyper::Error>>;
/// The connection to the gateway that the requests of one local connection share.
type Shared = Arc<Mutex<Option<SendRequest<Incoming>>>>;

/// Carries the requests of one connection; `local`: it is a port, which web pages can reach.
pub(super) async fn carry<S>(served: &Arc<Served>, stream: S, local: bool) -> Result<(), CallError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shared = Shared::default();
    let service = service_fn(|request| {
        let (served, shared) = (Arc::clone(served), Arc::clone(&shared));
        async move {
            Ok::<_, Infallible>(
                answer(&served, &shared, request, local).await.unwrap_or_else(|no| no),
            )
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A tool that goes away, or speaks something else, has not been wronged.
    drop(connection.with_upgrades().await);
    Ok(())
}

async fn answer(
    served: &Arc<Served>,
    shared: &Shared,
    mut request: Request<Incoming>,
    local: bool,
) -> Result<Answer, Answer> {
    if local && !is_ours(&request) {
        return Err(told(StatusCode::FORBIDDEN, "a page of another site asked; use 127.0.0.1"));
    }
    let unreached = |error: &CallError| {
        let why = error.to_string();
        print::progress(&format!("{}: {}", served.target, print::tame(&why)));
        told(StatusCode::BAD_GATEWAY, &why)
    };
    let token = served.source.token().await.map_err(|error| unreached(&error))?;
    let host = format!("{}:{}", served.way.host(), served.source.client.link().port());
    rewrite(&mut request, &host, token.expose_secret())
        .ok_or_else(|| told(StatusCode::BAD_REQUEST, "this is a proxy for one target alone"))?;
    let theirs = hyper::upgrade::on(&mut request);
    let mut kept = shared.lock().await;
    let mut sender = match kept.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => connect(served).await.map_err(|error| unreached(&error))?,
    };
    let broken = |error: hyper::Error| unreached(&CallError::Unreached(error.to_string()));
    sender.ready().await.map_err(broken)?;
    let mut response = sender.send_request(request).await.map_err(broken)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let ours = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(theirs), Ok(ours)) = (theirs.await, ours.await) {
                let (mut theirs, mut ours) = (TokioIo::new(theirs), TokioIo::new(ours));
                // However it ends, it has ended: both sides know by themselves.
                drop(tokio::io::copy_bidirectional(&mut theirs, &mut ours).await);
            }
        });
    } else {
        *kept = Some(sender);
    }
    Ok(response.map(BodyExt::boxed))
}

async fn connect(served: &Served) -> Result<SendRequest<Incoming>, CallError> {
    let stream = served.way.open(&[b"http/1.1"], None).await?;
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| CallError::Unreached(error.to_string()))?;
    // It ends with its sender, and what breaks it is seen there.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

/// Whether a request is to this machine by name, and no page of another site made it.
fn is_ours<B>(request: &Request<B>) -> bool {
    let loopback = |authority: &str| {
        let host = authority.parse::<http::uri::Authority>();
        host.is_ok_and(|host| ["127.0.0.1", "localhost", "[::1]"].contains(&host.host()))
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    if !host.is_some_and(loopback) || hosts.next().is_some() {
        return false;
    }
    let origins = request.headers().get_all(header::ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        // A page of another port of this machine is another site too.
        origin.is_some_and(|(_, authority)| Some(authority) == host)
    });
    let fetched = request.headers().get_all("sec-fetch-site").iter();
    origins && fetched.into_iter().all(|site| site == "same-origin" || site == "none")
}

/// Addresses a request to the target, with the person's credential and no other.
fn rewrite<B>(request: &mut Request<B>, host: &str, token: &str) -> Option<()> {
    if request.uri().authority().is_some() {
        return None;
    }
    let path = request.uri().path_and_query()?.clone();
    *request.uri_mut() = Uri::from(path);
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    bearer.set_sensitive(true);
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::try_from(host).ok()?);
    headers.insert(header::AUTHORIZATION, bearer);
    // What a browser says of the page is about this port, not about the target.
    headers.remove(header::ORIGIN);
    headers.remove(header::REFERER);
    headers.remove("sec-fetch-site");
    Some(())
}

fn told(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/api?x=1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_page_of_another_site_cannot_act_as_the_person() {
        let own = ("host", "127.0.0.1:4711");
        assert!(is_ours(&request(&[own])));
        assert!(is_ours(&request(&[("host", "localhost:4711")])));
        assert!(is_ours(&request(&[own, ("origin", "http://127.0.0.1:4711")])));
        for bad in [
            &[("host", "rebound.example:4711")][..],
            &[],
            &[own, ("host", "evil.example")],
            &[own, ("origin", "https://evil.example")],
            &[own, ("origin", "http://127.0.0.1:3000")],
            &[own, ("origin", "null")],
            &[own, ("sec-fetch-site", "cross-site")],
            &[own, ("sec-fetch-site", "same-site")],
        ] {
            assert!(!is_ours(&request(bad)), "{bad:?}");
        }
    }

    #[test]
    fn a_request_goes_to_the_target_with_the_persons_credential_and_no_other() {
        let mut asked = request(&[("host", "127.0.0.1:1"), ("authorization", "Basic eDp5")]);
        rewrite(&mut asked, "wiki.weir.example:8443", "weir_s_x").unwrap();
        assert_eq!(asked.headers()["host"], "wiki.weir.example:8443");
        let sent = asked.headers().get_all("authorization").iter().collect::<Vec<_>>();
        assert_eq!(sent, ["Bearer weir_s_x"]);
        assert_eq!(asked.uri(), "/api?x=1");
        assert!(!format!("{asked:?}").contains("weir_s_x"));
        let mut absolute = Request::get("http://elsewhere.example/").body(()).unwrap();
        assert!(rewrite(&mut absolute, "a", "b").is_none());
    }
}
