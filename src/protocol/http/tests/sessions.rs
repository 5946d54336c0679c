//! Sessions: one per principal and target on a connection, each with its own decision and end.

use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;

use super::*;
use crate::session::EndReason;

#[tokio::test]
async fn two_requests_of_one_http2_connection_to_two_targets_are_two_sessions() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::with(vec![wiki("wiki", site.port), wiki("docs", site.port)]).await;
    let client = stage.connect(Some("weir.test"), Alpn::Http2);
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let alice = stage.world.token("alice", &["engineer"]);
    let bob = stage.world.token("bob", &["engineer"]);
    for (host, method, token, wanted) in [
        ("wiki", "GET", &alice, 200),
        ("docs", "DELETE", &alice, 403),
        ("docs", "GET", &alice, 200),
        ("wiki", "GET", &bob, 200),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{host}.weir.test/open/x"))
            .header("authorization", format!("Bearer {token}"))
            .body(http_body_util::Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), wanted, "{host} {method}");
        response.into_body().collect().await.unwrap();
    }
    let live = stage.front.gateway.parts.registry.list();
    let mut who = live.iter().map(|s| format!("{}@{}:{}", s.principal, s.target, s.commands));
    let mut who = who.by_ref().collect::<Vec<_>>();
    who.sort();
    assert_eq!(who, ["alice@docs:2", "alice@wiki:1", "bob@wiki:1"]);
    drop(sender);
    soon(|| stage.world.open_trails() == 0).await;
}

#[tokio::test]
async fn only_another_targets_name_is_misdirected() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let request = stage.request("GET /open/x", &["engineer"], "", "");
    for (sni, wanted) in [
        (Some("docs.weir.test"), "421"),
        (Some("wiki.weir.test"), "200"),
        (Some("WIKI.weir.test"), "200"),
        (Some("weir.test"), "200"),
        (Some("kubernetes"), "200"),
        (None, "200"),
    ] {
        let mut client = stage.connect(sni, Alpn::Http1);
        client.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(status(&read(&mut client).await), wanted, "{sni:?}");
    }
}

/// An answer that goes on for ever.
async fn endless() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let mut going = stream.write_all(head).await.is_ok();
                while going {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    going = stream.write_all(b"4\r\nmore\r\n").await.is_ok();
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_killed_session_ends_its_answers_and_is_not_opened_again() {
    let port = endless().await;
    let stage = Stage::with(vec![wiki("wiki", port)]).await;
    let mut client = stage.connect(None, Alpn::Http1);
    let request = stage.request("GET /open/x", &["engineer"], "", "");
    client.write_all(request.replace("connection: close\r\n", "").as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("more") {
        client.read_buf(&mut got).await.unwrap();
    }
    let registry = &stage.front.gateway.parts.registry;
    let live = registry.find(registry.list()[0].session).unwrap();
    live.end(EndReason::Killed { by: "dana".to_owned() });
    drop(live);
    let rest = read(&mut client).await;
    assert!(!rest.ends_with("0\r\n\r\n"), "the end is no proper end");
    soon(|| stage.world.open_trails() == 0).await;
    assert!(stage.world.record().contains("killed by dana"));
}

#[tokio::test]
async fn a_killed_session_stays_ended_on_its_connection() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let mut client = stage.connect(None, Alpn::Http1);
    let request = stage.request("GET /open/x", &["engineer"], "", "");
    client.write_all(request.replace("connection: close\r\n", "").as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"hello") {
        client.read_buf(&mut got).await.unwrap();
    }
    let registry = &stage.front.gateway.parts.registry;
    registry.end_all(&EndReason::Killed { by: "dana".to_owned() });
    soon(|| registry.list().is_empty()).await;
    client.write_all(request.as_bytes()).await.unwrap();
    let got = read(&mut client).await;
    assert!(status(&got) == "403" && got.contains("ended by dana"), "{got}");
    assert_eq!(site.seen().len(), 1);
}

#[tokio::test]
async fn what_may_be_seen_may_change_under_an_answer() {
    let port = endless().await;
    let stage = Stage::with(vec![wiki("wiki", port)]).await;
    let mut client = stage.connect(None, Alpn::Http1);
    let request = stage.request("GET /api/people", &["dpo"], "", "");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("more") {
        client.read_buf(&mut got).await.unwrap();
    }
    let blind = POLICIES.replace("\"reveal\", resource);", "\"reveal\", resource) when { false };");
    stage.world.reload(&blind);
    drop(read(&mut client).await);
    soon(|| stage.world.open_trails() == 0).await;
    assert!(stage.world.record().contains("\"withheld\""), "{}", stage.world.record());
}

#[tokio::test]
async fn a_draining_gateway_finishes_what_runs() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let front = Arc::clone(&stage.front);
    let (tell, begun) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        front
            .serve(
                server,
                Greeting::without_certificate(None, Alpn::Http1),
                World::origin(),
                async { drop(begun.await) },
            )
            .await
    });
    let request = stage.request("GET /open/x", &["engineer"], "", "");
    client.write_all(request.replace("connection: close\r\n", "").as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"hello") {
        client.read_buf(&mut got).await.unwrap();
    }
    tell.send(()).unwrap();
    assert_eq!(read(&mut client).await, "");
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refusal_reaches_an_http2_client_that_is_still_sending() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let token = stage.world.token("alice", &["engineer"]);
    for mebibytes in [2, 20] {
        let client = stage.connect(None, Alpn::Http2);
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method("PUT")
            .uri("https://wiki.weir.test/open/x")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::from(vec![b'x'; mebibytes * 1024 * 1024])))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 413);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("at most 1 MiB"));
    }
    assert!(site.seen().is_empty());
}
