//! What a target gets, and what it never gets.

use super::*;

#[tokio::test]
async fn a_target_gets_the_request_without_anything_of_the_gateways() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let token = stage.world.token("alice", &["engineer"]);
    let more = "cookie: a=1; __Host-weir=x; =__Host-weir; weir_session=y; b=2\r\n\
        x-forwarded-for: 1.2.3.4\r\nforwarded: for=1\r\nx-http-method-override: DELETE\r\n\
        x-original-url: /admin\r\nx-rewrite-url: /admin\r\nproxy-authorization: Basic eA==\r\n\
        connection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\nte: trailers\r\nexpect: 100-continue\r\n\
        x-own: kept\r\n";
    let got = stage.ask("GET /open/a%20b?q=%2F..&x=1", &["engineer"], more, "").await;
    assert!(got.ends_with("hello"), "{got}");
    let seen = site.seen().concat().to_ascii_lowercase();
    assert!(seen.starts_with("get /open/a%20b?q=%2f..&x=1 http/1.1\r\n"), "{seen}");
    assert!(seen.contains("authorization: basic dgfyz2v0\r\n"), "{seen}");
    assert!(seen.contains("cookie: a=1; b=2\r\n") && seen.contains("x-own: kept"), "{seen}");
    assert!(seen.contains(&format!("host: 127.0.0.1:{}\r\n", site.port)), "{seen}");
    assert!(seen.contains("x-forwarded-host: wiki.weir.test\r\n"), "{seen}");
    let never = [
        "bearer",
        "weir=",
        "weir_session",
        "1.2.3.4",
        "forwarded: for",
        "override",
        "original",
        "rewrite",
        "proxy-auth",
        "x-hop",
        "keep-alive",
        "te:",
        "expect",
        &beginning(&token).to_ascii_lowercase(),
    ];
    for word in never {
        assert!(!seen.contains(word), "{word}: {seen}");
    }
}

#[tokio::test]
async fn a_credential_anywhere_else_is_refused_and_not_recorded() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let token = stage.world.token("alice", &["writer"]);
    let head =
        format!("host: wiki.weir.test\r\nauthorization: Bearer {token}\r\nconnection: close\r\n");
    let length = token.len();
    for request in [
        format!("GET /open/x?access_token={token} HTTP/1.1\r\n{head}\r\n"),
        format!("GET /open/x HTTP/1.1\r\n{head}x-token: {token}\r\n\r\n"),
        format!("GET /open/x HTTP/1.1\r\n{head}cookie: t={token}\r\n\r\n"),
        format!("POST /open/x HTTP/1.1\r\n{head}content-length: {length}\r\n\r\n{token}"),
    ] {
        assert_eq!(status(&stage.raw(request.as_bytes()).await), "400", "{request}");
    }
    assert!(site.seen().is_empty());
    assert!(!stage.world.record().contains(&beginning(&token)));
}

/// Enough of a token to know it again.
fn beginning(token: &str) -> String {
    token.chars().take(40).collect()
}

#[tokio::test]
async fn what_two_readers_could_read_in_two_ways_is_refused() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let token = stage.world.token("alice", &["writer"]);
    let auth = format!("authorization: Bearer {token}\r\nconnection: close\r\n");
    let host = "host: wiki.weir.test\r\n";
    let targets = [
        "/open/\\x",
        "/open/%5cx",
        "/open/%00",
        "/open/;x",
        "/open/%3bx",
        "/open/../x",
        "/open/%2e%2e/x",
        "/open/.%2E/x",
        "/open/.",
        "/open/%252e",
        "/open//x",
        "/open/a%2fb",
        "/open/%zz",
        "/open/%",
        "/open/%0d%0ax",
        "http://wiki.weir.test/open/x",
        "open/x",
        "*",
        "//wiki.weir.test/open",
        "/open/\"x",
        "/open/<x",
    ];
    let mut bad: Vec<(String, &str)> = targets
        .iter()
        .map(|target| (format!("GET {target} HTTP/1.1\r\n{host}{auth}\r\n"), "400"))
        .collect();
    for (head, wanted) in [
        (format!("GET /open/x HTTP/1.1\r\n{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.1\r\n{host}{host}{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.1\r\nhost: wiki.weir.test:0\r\n{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.1\r\nhost: wiki.weir.test:99999\r\n{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.1\r\nhost: wiki.weir.test:x\r\n{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.1\r\nhost: a@wiki.weir.test\r\n{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.1\r\nhost: wiki.weir.test.\r\n{auth}\r\n"), "421"),
        (format!("GET /open/x HTTP/1.1\r\nhost: other.example\r\n{auth}\r\n"), "421"),
        (format!("GET /open/x HTTP/1.1\r\nhost: a.wiki.weir.test\r\n{auth}\r\n"), "401"),
        (format!("GET /open/x HTTP/1.1\r\nhost: nosuch.weir.test\r\n{auth}\r\n"), "401"),
        (format!("CONNECT wiki.weir.test:443 HTTP/1.1\r\n{host}{auth}\r\n"), "501"),
        (format!("GET /open/x HTTP/2.0\r\n{host}{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.2\r\n{host}{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.1\r\n{host} x: folded\r\n{auth}\r\n"), "400"),
        (format!("GET /open/x HTTP/1.1\r\n{host}x : y\r\n{auth}\r\n"), "400"),
        (
            format!(
                "POST /open/x HTTP/1.1\r\n{host}{auth}content-length: 1\r\ncontent-length: 2\r\n\r\nab"
            ),
            "400",
        ),
        (format!("POST /open/x HTTP/1.1\r\n{host}{auth}content-length: +1\r\n\r\na"), "400"),
        (
            format!(
                "POST /open/x HTTP/1.1\r\n{host}{auth}transfer-encoding: gzip, identity\r\n\r\na"
            ),
            "400",
        ),
        (
            format!(
                "POST /open/x HTTP/1.1\r\n{host}{auth}transfer-encoding: chunked\r\n\r\nzz\r\na\r\n"
            ),
            "400",
        ),
        (
            format!(
                "POST /open/x HTTP/1.1\r\n{host}{auth}transfer-encoding: chunked\r\n\r\n1\na\n0\n\n"
            ),
            "400",
        ),
        (
            format!(
                "POST /open/x HTTP/1.0\r\n{host}{auth}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            "400",
        ),
        (format!("TRACE /open/x HTTP/1.1\r\n{host}{auth}\r\n"), "5"),
        (
            format!(
                "GET /open/x HTTP/1.1\r\n{host}{auth}upgrade: websocket\r\nconnection: upgrade\r\n\r\n"
            ),
            "5",
        ),
        (format!("GET /{} HTTP/1.1\r\n{host}{auth}\r\n", "x".repeat(20_000)), "4"),
        (format!("GET /open/x HTTP/1.1\r\n{host}{auth}x: {}\r\n\r\n", "x".repeat(80_000)), "431"),
    ] {
        bad.push((head, wanted));
    }
    for (request, wanted) in bad {
        let got = stage.raw(request.as_bytes()).await;
        let shown = request.chars().take(200).collect::<String>();
        // Some of them hyper ends without a word: it costs that connection alone.
        let refused = status(&got).starts_with(wanted) || got.is_empty();
        assert!(refused, "{shown}\n{got}");
        assert!(site.seen().is_empty(), "{shown}\n{:?}", site.seen());
    }
}

#[tokio::test]
async fn a_length_beside_chunks_cannot_smuggle_a_second_request() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let token = stage.world.token("alice", &["writer"]);
    let host = format!("host: wiki.weir.test\r\nauthorization: Bearer {token}\r\n");
    let smuggled = "0\r\n\r\nDELETE /open/x HTTP/1.1\r\n\r\n";
    let (length, chunks) =
        (format!("content-length: {}\r\n", smuggled.len()), "transfer-encoding: chunked\r\n");
    for framing in [format!("{length}{chunks}"), format!("{chunks}{length}")] {
        let request = format!("POST /open/x HTTP/1.1\r\n{host}{framing}\r\n{smuggled}");
        drop(stage.raw(request.as_bytes()).await);
        for seen in site.seen() {
            assert!(seen.starts_with("POST /open/x ") && !seen.contains("DELETE"), "{seen}");
        }
    }
}

#[tokio::test]
async fn no_credential_no_session_and_a_readable_no() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let got = stage
        .raw(b"GET /open/x HTTP/1.1\r\nhost: wiki.weir.test\r\nconnection: close\r\n\r\n")
        .await;
    assert!(status(&got) == "401" && got.contains("www-authenticate: Bearer"), "{got}");
    let bad = "GET /open/x HTTP/1.1\r\nhost: wiki.weir.test\r\nauthorization: Bearer x.y.z\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&stage.raw(bad.as_bytes()).await), "401");
    let got = stage.ask("DELETE /open/x", &["writer"], "", "").await;
    assert_eq!(status(&got), "403");
    assert!(got.contains("content-type: application/problem+json"), "{got}");
    for part in ["nothing is deleted here", "no-delete", "mark it as obsolete", "\"session\""] {
        assert!(got.contains(part), "{part}: {got}");
    }
    let page = stage.ask("DELETE /open/x", &["writer"], "accept: text/html,*/*\r\n", "").await;
    assert!(
        page.contains("text/html") && page.contains("<p>Nothing is deleted here.</p>"),
        "{page}"
    );
    assert!(site.seen().is_empty());
    soon(|| stage.world.open_trails() == 0).await;
    assert!(stage.world.record().contains("DELETE /open/x"));
}

#[tokio::test]
async fn signs_outside_ascii_are_recorded_in_one_fixed_escape() {
    let site = Site::start(|_| answer("200 OK", "", "hello")).await;
    let stage = Stage::of(&site).await;
    let got = stage.ask("GET /open/x?q=\u{e4}\\", &["engineer"], "", "").await;
    if status(&got) == "200" {
        assert!(site.seen().concat().starts_with("GET /open/x?q=\u{e4}\\ "), "{:?}", site.seen());
        let record = stage.world.record();
        assert!(record.contains(r"GET /open/x?q=\\xc3\\xa4\\x5c"), "{record}");
    } else {
        assert!(site.seen().is_empty(), "{got}");
    }
}

#[tokio::test]
async fn the_gateways_own_name_is_answered_by_the_gateway() {
    let site = Site::start(|_| None).await;
    let stage = Stage::of(&site).await;
    let got = stage
        .raw(b"GET /api/v1/whoami HTTP/1.1\r\nHost: WEIR.test:8443\r\nconnection: close\r\n\r\n")
        .await;
    assert!(got.ends_with("own /api/v1/whoami 127.0.0.1"), "{got}");
}
