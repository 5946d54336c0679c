//! Commands that wait.

use super::*;
use crate::session::Decision;

/// Asks, and waits until the command waits.
async fn held(stage: &Stage, request: &str) -> (DuplexStream, crate::model::HoldId) {
    let mut client = stage.connect(None, Alpn::Http1);
    client.write_all(request.as_bytes()).await.unwrap();
    let desk = &stage.front.gateway.parts.desk;
    soon(|| !desk.pending().is_empty()).await;
    (client, desk.pending()[0].hold.clone())
}

#[tokio::test]
async fn an_approved_command_runs_once_and_names_its_hold() {
    let site = Site::start(|_| answer("200 OK", "", "done")).await;
    let stage = Stage::of(&site).await;
    let request = stage.request("POST /open/x", &["engineer"], "", "new");
    let (mut client, hold) = held(&stage, &request).await;
    assert!(site.seen().is_empty());
    let by = World::approver("dana", &["dba"]);
    assert!(stage.front.gateway.parts.desk.answer(&hold, Decision::Approved { by }));
    let got = read(&mut client).await;
    assert!(status(&got) == "200" && got.contains(&format!("weir-hold: {hold}")), "{got}");
    assert_eq!(site.seen().len(), 1);
    assert!(site.seen()[0].ends_with("\r\n\r\nnew"));
}

#[tokio::test]
async fn a_declined_command_never_runs() {
    let site = Site::start(|_| answer("200 OK", "", "done")).await;
    let stage = Stage::of(&site).await;
    let request = stage.request("POST /open/x", &["engineer"], "", "new");
    let (mut client, hold) = held(&stage, &request).await;
    let by = World::approver("dana", &["dba"]);
    let no = Decision::Declined { by, reason: Some("not on a Friday".to_owned()) };
    assert!(stage.front.gateway.parts.desk.answer(&hold, no));
    let got = read(&mut client).await;
    assert!(status(&got) == "403" && got.contains("not on a Friday"), "{got}");
    assert!(got.contains(hold.as_str()) && site.seen().is_empty());
}

#[tokio::test]
async fn a_held_command_whose_client_vanished_never_runs() {
    let site = Site::start(|_| answer("200 OK", "", "done")).await;
    let stage = Stage::of(&site).await;
    let request = stage.request("POST /open/x", &["engineer"], "", "new");
    // Also where the client had pipelined its next request.
    let kept = request.replace("connection: close\r\n", "");
    for request in [request.clone(), format!("{kept}{request}")] {
        let (client, hold) = held(&stage, &request).await;
        drop(client);
        let desk = &stage.front.gateway.parts.desk;
        soon(|| desk.pending().is_empty()).await;
        let by = World::approver("dana", &["dba"]);
        assert!(!desk.answer(&hold, Decision::Approved { by }));
    }
    assert!(site.seen().is_empty());
    soon(|| stage.world.open_trails() == 0).await;
    assert_eq!(stage.world.record().matches("\"withdrawn\"").count(), 2);
}

#[tokio::test]
async fn a_hold_ends_with_its_session() {
    let site = Site::start(|_| answer("200 OK", "", "done")).await;
    let stage = Stage::of(&site).await;
    let request = stage.request("POST /open/x", &["engineer"], "", "new");
    let (mut client, _) = held(&stage, &request).await;
    let killed = crate::session::EndReason::Killed { by: "dana".to_owned() };
    stage.front.gateway.parts.registry.end_all(&killed);
    let got = read(&mut client).await;
    assert!(status(&got) == "403" && got.contains("ended by dana"), "{got}");
    assert!(site.seen().is_empty() && stage.front.gateway.parts.desk.pending().is_empty());
    soon(|| stage.world.open_trails() == 0).await;
    assert!(stage.world.record().contains("killed by dana"));
}

#[tokio::test]
async fn a_client_that_sends_too_much_while_it_waits_ends_the_hold() {
    let site = Site::start(|_| answer("200 OK", "", "done")).await;
    let stage = Stage::of(&site).await;
    let request = stage.request("POST /open/x", &["engineer"], "", "new");
    let (mut client, _) = held(&stage, &request.replace("connection: close\r\n", "")).await;
    let flood = vec![b'x'; 512 * 1024];
    drop(tokio::time::timeout(Duration::from_secs(5), client.write_all(&flood)).await);
    let desk = &stage.front.gateway.parts.desk;
    soon(|| desk.pending().is_empty()).await;
    assert!(site.seen().is_empty());
}

#[tokio::test]
async fn what_is_too_long_to_be_buffered_cannot_be_held() {
    let site = Site::start(|_| answer("200 OK", "", "done")).await;
    let stage = Stage::of(&site).await;
    let body = "x".repeat(HELD_BYTES_MAX + 1);
    let got = stage.ask("POST /open/x", &["engineer"], "", &body).await;
    assert_eq!(status(&got), "413", "{got}");
    assert!(site.seen().is_empty() && stage.front.gateway.parts.desk.pending().is_empty());
    assert_eq!(status(&stage.ask("POST /open/x", &["writer"], "", &body).await), "200");
}

#[tokio::test]
async fn a_held_http2_stream_that_is_reset_never_runs_and_harms_no_other() {
    use hyper::client::conn::http2;
    use hyper_util::rt::TokioExecutor;
    use hyper_util::rt::TokioIo;

    let site = Site::start(|_| answer("200 OK", "", "done")).await;
    let stage = Stage::of(&site).await;
    let token = stage.world.token("alice", &["engineer"]);
    let client = stage.connect(None, Alpn::Http2);
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let request = |method: &str| {
        Request::builder()
            .method(method)
            .uri("https://wiki.weir.test/open/x")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::from_static(b"new")))
            .unwrap()
    };
    let waiting = tokio::spawn(sender.send_request(request("POST")));
    let desk = &stage.front.gateway.parts.desk;
    soon(|| !desk.pending().is_empty()).await;
    let hold = desk.pending()[0].hold.clone();
    let other = sender.send_request(request("GET")).await.unwrap();
    assert_eq!(other.status(), 200);
    waiting.abort();
    soon(|| desk.pending().is_empty()).await;
    let by = World::approver("dana", &["dba"]);
    assert!(!desk.answer(&hold, Decision::Approved { by }));
    assert!(site.seen().iter().all(|seen| seen.starts_with("GET")));
}
