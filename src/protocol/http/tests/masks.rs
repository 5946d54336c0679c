//! What leaves and what does not.

use super::*;

#[tokio::test]
async fn declared_members_are_masked_and_the_rest_stays_as_the_target_wrote_it() {
    let site = Site::start(|_| json(&people())).await;
    let stage = Stage::of(&site).await;
    let masked = stage.ask("GET /api/people", &["engineer"], "", "").await;
    assert!(
        masked.ends_with(
            "{\"people\": [{\"id\": 1.0, \"email\": \"<masked:pii.email>\"}, \
         {\"id\": 2, \"email\": \"<masked:pii.email>\"}]}"
        ),
        "{masked}"
    );
    assert!(masked.contains("cache-control: private, no-store"), "{masked}");
    let clear = stage.ask("GET /api/people", &["dpo"], "", "").await;
    assert!(clear.ends_with(&people()), "{clear}");
    soon(|| stage.world.open_trails() == 0).await;
    let record = stage.world.record();
    let kept = record.lines().filter(|line| line.contains(SECRET)).count();
    assert_eq!(kept, 1, "the record has what each of them saw: {record}");
    assert!(record.contains("GET /api/people") && record.contains("\"masked\":2"), "{record}");
}

#[tokio::test]
async fn what_must_be_masked_but_cannot_be_is_withheld() {
    let typed = |media: &'static str, body: String| {
        move |_: &str| answer("200 OK", &format!("content-type: {media}\r\n"), &body)
    };
    let people = people();
    let cases: Vec<(&str, Box<Script>)> = vec![
        ("ndjson", Box::new(typed("application/x-ndjson", people.clone()))),
        ("sse", Box::new(typed("text/event-stream", format!("data: {people}\n\n")))),
        ("html", Box::new(typed("text/html", SECRET.to_owned()))),
        ("charset", Box::new(typed("application/json; charset=utf-16", people.clone()))),
        ("second", Box::new(typed("application/json", format!("{people}{people}")))),
        ("undeclared", Box::new(typed("application/json", format!("{{\"x\":\"{SECRET}\"}}")))),
        ("scalar", Box::new(typed("application/json", format!("\"{SECRET}\"")))),
        ("lied", Box::new(typed("application/json", format!("\u{feff}{people}")))),
        (
            "encoded",
            Box::new(|_: &str| {
                answer(
                    "200 OK",
                    "content-type: application/json\r\ncontent-encoding: gzip\r\n",
                    SECRET,
                )
            }),
        ),
        (
            "two types",
            Box::new(|_: &str| {
                answer(
                    "200 OK",
                    "content-type: application/json\r\ncontent-type: text/html\r\n",
                    SECRET,
                )
            }),
        ),
        (
            "part",
            Box::new({
                let people = people.clone();
                move |_: &str| {
                    answer("206 Partial Content", "content-type: application/json\r\n", &people)
                }
            }),
        ),
        (
            "error page",
            Box::new(|_: &str| {
                answer("500 Oops", "content-type: text/plain\r\n", &format!("no such: {SECRET}"))
            }),
        ),
        (
            "long",
            Box::new({
                let long = format!("{{\"people\":[{}]}}", " ".repeat(MASKED_BYTES_MAX));
                move |_: &str| json(&long)
            }),
        ),
    ];
    for (case, script) in cases {
        let site = Site::start(script).await;
        let stage = Stage::of(&site).await;
        let got = stage.ask("GET /api/people", &["engineer"], "range: bytes=0-5\r\n", "").await;
        assert_eq!(status(&got), "502", "{case}: {got}");
        assert!(!got.contains(SECRET) && got.contains("\"code\":\"withheld\""), "{case}: {got}");
        let seen = site.seen().concat();
        assert!(!seen.contains("range:") && seen.contains("accept-encoding: identity"), "{seen}");
        soon(|| stage.world.open_trails() == 0).await;
        let record = stage.world.record();
        assert!(!record.contains(SECRET) && record.contains("\"withheld\""), "{case}: {record}");
    }
}

#[tokio::test]
async fn headers_of_a_masked_answer_carry_nothing_of_the_target() {
    let headers = format!(
        "content-type: application/json\r\nx-person: {SECRET}\r\nlink: <{SECRET}>\r\n\
         etag: \"{SECRET}\"\r\ndigest: {SECRET}\r\nset-cookie: a={SECRET}\r\n\
         warning: 299 - {SECRET}\r\nlast-modified: {SECRET}\r\n"
    );
    let site = Site::start(move |_| answer(&format!("200 {SECRET}"), &headers, &people())).await;
    let stage = Stage::of(&site).await;
    for line in ["GET /api/people", "HEAD /api/people"] {
        let got = stage.ask(line, &["engineer"], "", "").await;
        assert!(status(&got) == "200" && !got.contains(SECRET), "{got}");
    }
}

#[tokio::test]
async fn an_undeclared_member_passes_only_in_writing() {
    let body = format!("{{\"note\":\"open\",\"people\":[{{\"email\":\"{SECRET}\",\"n\":\"x\"}}]}}");
    let site = Site::start(move |_| json(&body)).await;
    let stage = Stage::of(&site).await;
    let got = stage.ask("GET /api/loose", &["engineer"], "", "").await;
    assert!(
        got.ends_with(r#"{"note":"open","people":[{"email":"<masked:pii.email>","n":"x"}]}"#),
        "{got}"
    );
    assert_eq!(status(&stage.ask("GET /api/people", &["engineer"], "", "").await), "502");
}

#[tokio::test]
async fn a_path_that_nobody_declared_is_asked_for_only_by_whoever_may_see_all() {
    let site = Site::start(|_| json(&people())).await;
    let stage = Stage::of(&site).await;
    let got = stage.ask("GET /secret", &["engineer"], "", "").await;
    assert!(status(&got) != "200" && site.seen().is_empty(), "{got}");
    assert_eq!(status(&stage.ask("GET /secret", &["dpo"], "", "").await), "200");
    // A route without fields holds nothing classified.
    assert_eq!(status(&stage.ask("GET /open/x", &["engineer"], "", "").await), "200");
}

#[tokio::test]
async fn a_mask_never_comes_back_in_a_write() {
    let site = Site::start(|_| answer("204 No Content", "", "")).await;
    let stage = Stage::of(&site).await;
    let mask = "<masked:pii.email>";
    for body in [mask, r"\u003cmasked:pii.email\u003e", "e=%3Cmasked%3Apii.email%3E"] {
        let got = stage.ask("POST /open/x", &["writer"], "", body).await;
        assert!(status(&got).starts_with(['4', '5']) && got.contains("mask"), "{got}");
    }
    assert!(site.seen().is_empty());
    // Too long to be buffered: it is found on its way, wherever it is cut.
    for cut in 0..=mask.len() {
        let mut client = stage.connect(None, Alpn::Http1);
        let head = stage.request("POST /open/x", &["writer"], "transfer-encoding: chunked\r\n", "");
        client.write_all(head.as_bytes()).await.unwrap();
        let first = "x".repeat(HELD_BYTES_MAX + 1);
        let (begun, rest) = mask.split_at(cut);
        for part in [&first, begun, rest, "end"] {
            if !part.is_empty() {
                let chunk = format!("{:x}\r\n{part}\r\n", part.len());
                // The refusal may come before all is sent.
                drop(client.write_all(chunk.as_bytes()).await);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        drop(client.write_all(b"0\r\n\r\n").await);
        let got = read(&mut client).await;
        assert_eq!(status(&got), "403", "{cut}: {got}");
    }
    assert!(site.seen().is_empty(), "no write was completed");
}

#[tokio::test]
async fn unmasked_bodies_stream_in_constant_memory_both_ways() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 4096;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; CHUNK];
        let mut got = Vec::new();
        while !got.windows(4).any(|w| w == b"\r\n\r\n") {
            let n = stream.read(&mut buffer).await.unwrap();
            got.extend_from_slice(&buffer[..n]);
        }
        let mut left = CHUNK * CHUNKS
            - (got.len() - got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() - 4);
        while left > 0 {
            left -= stream.read(&mut buffer).await.unwrap();
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", CHUNK * CHUNKS);
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..CHUNKS {
            stream.write_all(&buffer).await.unwrap();
        }
    });
    let stage = Stage::with(vec![wiki("wiki", port)]).await;
    let mut client = stage.connect(None, Alpn::Http1);
    let length = format!("content-length: {}\r\n", CHUNK * CHUNKS);
    let head = stage.request("POST /open/x", &["writer"], &length, "");
    client.write_all(head.as_bytes()).await.unwrap();
    let before = peak_kib();
    let chunk = vec![b'x'; CHUNK];
    for _ in 0..CHUNKS {
        client.write_all(&chunk).await.unwrap();
    }
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    loop {
        let n = client.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        received += n;
    }
    assert!(received > CHUNK * CHUNKS, "{received}");
    // Other tests run beside this one; the bodies are 256 MiB each.
    assert!(peak_kib() - before < 96 * 1024, "{} KiB more", peak_kib() - before);
    drop(client);
    soon(|| stage.world.open_trails() == 0).await;
    let sent = format!("\"sent_bytes\":{}", CHUNK * CHUNKS);
    assert!(stage.world.record().contains(&sent));
}

/// The most memory this process ever had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
