//! Targets that lie, break off, or are dead.

use super::*;

#[tokio::test]
async fn a_faulty_answer_is_told_as_the_targets_and_its_leg_dies() {
    let cases: [(&str, &str); 8] = [
        (
            "unasked 101",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        ),
        ("proxy", "HTTP/1.1 407 Proxy\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n"),
        ("status", "HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n"),
        ("garbage", "SSH-2.0-OpenSSH\r\n\r\n"),
        ("lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("nothing", ""),
        ("half a head", "HTTP/1.1 200 OK\r\nx: "),
        ("folded", "HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n"),
    ];
    for (case, said) in cases {
        let site = Site::start(move |_| (!said.is_empty()).then(|| said.as_bytes().to_vec())).await;
        let stage = Stage::of(&site).await;
        let got = stage.ask("GET /open/x", &["engineer"], "", "").await;
        assert_eq!(status(&got), "502", "{case}: {got}");
        assert!(got.contains("wiki"), "{case}: it says which side failed: {got}");
        assert!(!got.contains("proxy-authenticate"), "{case}: {got}");
        soon(|| stage.world.open_trails() == 0).await;
        assert!(stage.world.record().contains("\"cut\""), "{case}");
    }
}

#[tokio::test]
async fn a_target_that_never_comes_to_an_answer_is_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let hint = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n";
        while stream.write_all(hint).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let stage = Stage::with(vec![wiki("wiki", port)]).await;
    let got = stage.ask("GET /open/x", &["engineer"], "", "").await;
    assert!(status(&got) == "502" && !got.contains("link"), "{got}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_recorded_as_cut() {
    for said in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let site = Site::start(move |_| Some(said.as_bytes().to_vec())).await;
        let stage = Stage::of(&site).await;
        // The connection stays open on the target's side in neither case.
        let got = stage.ask("GET /open/x", &["engineer"], "", "").await;
        assert!(got.contains("half") && !got.ends_with("0\r\n\r\n"), "{got}");
        soon(|| stage.world.open_trails() == 0).await;
        assert!(stage.world.record().contains("\"cut\""), "{}", stage.world.record());
    }
}

#[tokio::test]
async fn a_dead_target_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let stage = Stage::with(vec![wiki("wiki", port)]).await;
    let got = stage.ask("GET /open/x", &["engineer"], "", "").await;
    assert!(status(&got) == "502" && got.contains("wiki cannot be reached"), "{got}");
}

#[tokio::test]
async fn a_leg_is_used_again_and_a_request_never_sent_twice() {
    let site =
        Site::start(
            |request| {
                if request.starts_with("POST") { None } else { answer("200 OK", "", "hello") }
            },
        )
        .await;
    let stage = Stage::of(&site).await;
    let get =
        stage.request("GET /open/x", &["writer"], "", "").replace("connection: close\r\n", "");
    let post = stage.request("POST /open/x", &["writer"], "", "new");
    let mut client = stage.connect(None, Alpn::Http1);
    for _ in 0..3 {
        client.write_all(get.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"hello") {
            client.read_buf(&mut got).await.unwrap();
        }
    }
    assert_eq!((site.seen().len(), site.connections()), (3, 1));
    // The target takes the request and breaks off: nobody knows whether it did it.
    client.write_all(post.as_bytes()).await.unwrap();
    let got = read(&mut client).await;
    assert_eq!(status(&got), "502", "{got}");
    let posts = site.seen().iter().filter(|seen| seen.starts_with("POST")).count();
    assert_eq!(posts, 1);
}

#[tokio::test]
async fn a_target_sets_no_cookie_of_the_gateways_and_no_rule_of_the_origin() {
    let headers = "set-cookie: __Host-weir=x; Secure; Path=/\r\nset-cookie: weir_s=1\r\n\
        set-cookie: =__Host-weir=x\r\nset-cookie: nameless\r\nset-cookie: a=1; Domain=weir.test\r\n\
        set-cookie: ok=1; Path=/\r\nalt-svc: h3=\":1\"\r\nclear-site-data: \"*\"\r\n\
        x-weir-user: x\r\nweir-hold: h-x\r\nservice-worker-allowed: /\r\nconnection: x-hop\r\n\
        x-hop: 1\r\nx-own: kept\r\n";
    let site = Site::start(move |_| answer("200 OK", headers, "hello")).await;
    let stage = Stage::of(&site).await;
    let got = stage.ask("GET /open/x", &["engineer"], "", "").await.to_ascii_lowercase();
    assert!(got.contains("set-cookie: ok=1; path=/\r\n") && got.contains("x-own: kept"), "{got}");
    assert_eq!(got.matches("set-cookie").count(), 1, "{got}");
    for word in ["weir", "alt-svc", "clear-site", "service-worker", "x-hop"] {
        assert!(!got.contains(word), "{word}: {got}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused_on_the_record() {
    let site = Site::start(|_| json("{}")).await;
    let stage = Stage::of(&site).await;
    let chunked = "transfer-encoding: chunked\r\n";
    let request = stage.request("POST /open/x", &["writer"], chunked, "");
    let (head, _) = request.split_once("\r\n\r\n").unwrap();
    let head = head.replace("content-length: 0\r\n", "");
    let got = stage.raw(format!("{head}\r\n\r\n4\r\nhalf\r\nzz\r\n").as_bytes()).await;
    assert!(got.is_empty() || status(&got) == "400", "{got}");
    soon(|| stage.world.open_trails() == 0).await;
    let record = stage.world.record();
    assert!(record.contains("\"refused\"") && record.contains("POST /open/x"), "{record}");
    assert!(record.contains("broke off"), "{record}");
    assert!(site.seen().is_empty(), "nothing of it reached the target");
}
