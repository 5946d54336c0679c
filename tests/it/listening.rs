//! The one port: what is spoken there, what is closed, and that nobody's silence, noise or number
//! disturbs anybody else.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use crate::demo::Demo;
use crate::demo::PATIENCE_S;
use crate::demo::Ran;
use crate::demo::text;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::parts;

/// PostgreSQL's `SSLRequest`: length 8, code 80877103 (PostgreSQL 55.7).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// PostgreSQL's `GSSENCRequest`: code 80877104.
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
/// The beginning of a PROXY header, version 2, and `LOCAL` with no addresses.
const PROXY_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(PATIENCE_S))).unwrap();
    stream
}

/// Sends `bytes` and reads until the gateway closes the connection.
fn answer(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    stream.write_all(bytes).unwrap();
    until_closed(&mut stream)
}

/// Reads until the gateway closes the connection, orderly or not.
fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut part = [0; 4_096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("the gateway did not close the connection: {error}"),
        }
    }
}

fn works(gateway: &Gateway) {
    let ran = gateway.psql("alice", &["SELECT 'it works'"]);
    assert_eq!(ran.out.trim(), "it works", "{}", ran.err);
}

fn openssl(port: u16, args: &[&str], input: &[u8]) -> Ran {
    let mut openssl = Command::new(parts::program("timeout"));
    openssl.arg("30").arg(parts::program("openssl"));
    openssl.args(["s_client", "-connect", &format!("127.0.0.1:{port}")]).args(args);
    openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = openssl.spawn().unwrap();
    let _maybe_closed = child.stdin.take().unwrap().write_all(input);
    Ran::of(&child.wait_with_output().unwrap())
}

#[test]
fn what_is_not_spoken_here_costs_its_connection_alone() {
    let mut gateway = Prepared::new().start();
    let mut bystander = gateway.live("alice");
    let port = gateway.port();
    // Bytes in the clear behind the request for TLS are taken for nothing (CVE-2021-23222).
    let mut injected = SSL_REQUEST.to_vec();
    injected.extend_from_slice(b"\0\0\0\x08\0\x03\0\0");
    assert!(answer(port, &injected).len() <= 1);
    // A startup message without TLS is refused in PostgreSQL's words.
    let mut startup = vec![0, 0, 0, 20, 0, 3, 0, 0];
    startup.extend_from_slice(b"user\0alice\0\0");
    startup[3] = u8::try_from(startup.len()).unwrap();
    let said = text(&answer(port, &startup));
    assert!(said.starts_with('E') && said.contains("TLS"), "{said:?}");
    // Asking for GSSAPI gets a no, and may go on.
    let mut stream = connect(port);
    stream.write_all(&GSS_REQUEST).unwrap();
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"N");
    stream.write_all(&SSL_REQUEST).unwrap();
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"S");
    drop(stream);
    // A PROXY header, where everybody may connect.
    let mut header = PROXY_LOCAL.to_vec();
    header.extend_from_slice(&SSL_REQUEST);
    assert_eq!(text(&answer(port, &header)), "");
    // Version 1 looks like HTTP, and is answered as such.
    let said = text(&answer(port, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"));
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    // HTTP in the clear is told where to go.
    let said = text(&answer(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("use https"), "{said}");
    // Lengths that cannot be, and noise of every beginning.
    for length in [0_u32, 1, 7, 10_001, 0x7fff_ffff, 0xffff_ffff] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 3, 0, 0, 1, 2, 3]);
        let mut stream = connect(port);
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        until_closed(&mut stream);
    }
    for first in 0..=255_u8 {
        let mut stream = connect(port);
        let _maybe_closed = stream.write_all(&[first; 40]);
        let _maybe_closed = stream.shutdown(Shutdown::Write);
        until_closed(&mut stream);
    }
    bystander.say("SELECT 'all ' || 'well';");
    bystander.wait("all well");
    assert!(gateway.lives());
    assert!(!gateway.log().contains("a panic"), "{}", gateway.log());
}

#[test]
fn behind_a_relay_a_header_is_required_and_from_elsewhere_nothing_is_taken() {
    let mut prepared = Prepared::new();
    let gateway = Prepared::new().start();
    let private = |gateway: &Gateway| {
        let stream = TcpStream::connect(("127.0.0.2", gateway.private_port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(PATIENCE_S))).unwrap();
        stream
    };
    let mut stream = private(&gateway);
    stream.write_all(&SSL_REQUEST).unwrap();
    stream.write_all(&[0; 16]).unwrap();
    assert_eq!(until_closed(&mut stream), b"");
    wait_for("the log", || gateway.log_lines("relay").pop());
    // With one it is served.
    let mut stream = private(&gateway);
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&[203, 0, 113, 9, 127, 0, 0, 2, 0x30, 0x39, 0x20, 0xfb]);
    header.extend_from_slice(&SSL_REQUEST);
    stream.write_all(&header).unwrap();
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"S");
    drop(gateway);
    // Somebody who is not the relay chooses no country.
    prepared.change("proxy_from = [\"127.0.0.1/32\"]", "proxy_from = [\"10.9.9.9/32\"]");
    let gateway = prepared.start();
    let mut stream = private(&gateway);
    let _maybe_closed = stream.write_all(&header);
    assert_eq!(until_closed(&mut stream), b"");
    works(&gateway);
}

#[test]
fn tls_is_1_3_and_names_and_protocols_are_those_that_are_served() {
    let gateway = Prepared::new().start();
    let port = gateway.port();
    let old = openssl(port, &["-servername", "localhost", "-tls1_2"], b"");
    assert!(old.code != 0 && old.says("alert protocol version"), "{old:?}");
    let name = openssl(port, &["-servername", "elsewhere.example"], b"");
    assert!(name.code != 0 && name.says("alert"), "{name:?}");
    // PostgreSQL directly in TLS needs its ALPN; without it, it is nothing that is spoken here.
    let startup = b"\0\0\0\x14\0\x03\0\0user\0alice\0\0";
    let direct = openssl(port, &["-servername", "customers.localhost", "-quiet"], startup);
    assert!(!direct.out.contains("SFATAL") && !direct.out.contains('R'), "{direct:?}");
    // HTTP/2 and HTTP/1.1, as the client likes.
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let ran = gateway.curl("/api/v1/whoami", &[flag, "-w", "\n%{http_code} %{http_version}"]);
        assert!(ran.out.ends_with(&format!("401 {version}")), "{ran:?}");
    }
}

#[test]
fn ssh_is_known_by_its_banner_and_by_silence() {
    let gateway = Prepared::new().start();
    let mut silent = connect(gateway.port());
    let mut banner = [0; 8];
    silent.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    let mut talking = connect(gateway.port());
    talking.write_all(b"SSH-2.0-test\r\n").unwrap();
    talking.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
}

#[test]
fn slow_clients_are_closed_in_time_and_too_many_are_refused_without_harm_to_others() {
    let mut prepared = Prepared::new();
    let limits = "drain_s_max = 2\nhandshake_ms_max = 3000\nsilence_ms = 2000\n\
        connections_per_address_max = 40";
    prepared.change("drain_s_max = 2", limits);
    let gateway = prepared.start();
    let mut bystander = gateway.live("alice");
    // Thirty who say one byte, the beginning of anything, and then nothing; some get further.
    let mut slow = (0..30_usize)
        .map(|number| {
            let mut stream = connect(gateway.port());
            let first = [&b"\x16"[..], b"\0", b"S", b"G", &SSL_REQUEST][number % 5];
            stream.write_all(first).unwrap();
            stream
        })
        .collect::<Vec<_>>();
    works(&gateway);
    bystander.say("SELECT 'not ' || 'disturbed';");
    bystander.wait("not disturbed");
    // All of them are closed by the gateway, TLS not begun after the yes as well.
    for stream in &mut slow {
        until_closed(stream);
    }
    drop(slow);
    // Too many from one address: the next one is closed at once, and told apart in the log.
    let many = (0..40).map(|_| connect(gateway.port())).collect::<Vec<_>>();
    wait_for("the limit", || gateway.log_lines("connections are refused").pop());
    bystander.say("SELECT 'still ' || 'here';");
    bystander.wait("still here");
    drop(many);
    wait_for("room", || (gateway.psql("alice", &["SELECT 1"]).code == 0).then_some(()));
}

#[test]
fn the_api_answers_only_the_known_and_says_what_is_wrong_with_a_call() {
    let demo = Demo::shared();
    let gateway = Prepared::new().start();
    let bearer = |person: &str| format!("Authorization: Bearer {}", demo.token(person));
    let alice = bearer("alice");
    let call = |path: &str, args: &[&str], status: &str| {
        let ran = gateway.curl(path, args);
        let (body, got) = ran.out.rsplit_once('\n').unwrap();
        assert_eq!(got, status, "{path} {args:?}: {ran:?}");
        body.to_owned()
    };
    for path in ["whoami", "targets", "sessions", "requests"] {
        let body = call(&format!("/api/v1/{path}"), &[], "401");
        let problem = serde_json::from_str::<serde_json::Value>(&body).unwrap();
        assert!(problem["detail"].is_string() && problem["status"] == 401, "{body}");
    }
    // No credential is told nothing, wherever it asks.
    let nothing = "00000000-0000-0000-0000-000000000000";
    for (path, verb) in [("kill", "sessions"), ("approve", "requests"), ("deny", "requests")] {
        call(&format!("/api/v1/{verb}/{nothing}/{path}"), &["-X", "POST", "-d", "{}"], "401");
    }
    call("/api/v1/whoami", &["-H", "Authorization: Basic YWxpY2U6eA=="], "401");
    call("/api/v1/whoami", &["-H", &alice, "-H", &alice], "401");
    call("/api/v1/whoami", &["-H", &alice, "-X", "DELETE"], "405");
    call("/api/v1/nowhere", &["-H", &alice], "404");
    call("/", &["-H", &alice], "404");
    call("/api/v1/whoami", &["-H", &alice, "-H", "Host: elsewhere.example"], "421");
    // A body that is too large, and one that is none.
    let big = gateway.path("big");
    std::fs::write(&big, format!("{{\"target\":\"{}\"}}", "x".repeat(2 * 1024 * 1024))).unwrap();
    let json = "Content-Type: application/json";
    let at = format!("@{}", big.display());
    call("/api/v1/policy/explain", &["-H", &alice, "-H", json, "--data-binary", &at], "413");
    let body =
        call("/api/v1/policy/explain", &["-H", &alice, "-H", json, "-d", "{nonsense"], "400");
    assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "a problem: {body}");
    let body = call("/api/v1/sessions?limit=many", &["-H", &alice], "400");
    assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "a problem: {body}");
    // What people and programs rely on.
    let who = gateway.weir_json("alice", &["whoami"]);
    assert!(who["principal"]["subject"].is_string() && who["origin"]["country"] == "DE", "{who}");
    assert!(who["expires_at"].is_string());
    gateway.psql("alice", &["SELECT 1"]);
    let sessions = gateway.weir_json("alice", &["sessions", "ls"]);
    let session = sessions[0].as_object().unwrap();
    for member in ["session", "principal", "target", "protocol", "country", "opened_at"] {
        assert!(session.contains_key(member), "no {member}: {session:?}");
    }
}

#[test]
fn whatever_changes_something_by_the_api_is_decided_by_policy_and_in_the_ledger() {
    let gateway = Prepared::new().start();
    let mut alice = gateway.live("alice");
    let hold = |alice: &mut crate::gateway::Live, text: &str| {
        alice.say(text);
        wait_for("the hold", || {
            let all = gateway.weir_json("dana", &["requests"]);
            let mut all = all.as_array().unwrap().iter();
            let found = all.find(|h| {
                text.contains(h["command"]["text"].as_str().unwrap().trim_end_matches(';'))
            });
            found.map(|hold| hold["hold"].as_str().unwrap().to_owned())
        })
    };
    let id = hold(&mut alice, "UPDATE customers SET city = city WHERE id = -1;");
    // Neither who asked, nor who has no right.
    for person in ["alice", "olaf"] {
        for verb in ["approve", "deny"] {
            let ran = gateway.weir(person, &[verb, &id]);
            assert_eq!(ran.code, 1, "{person} {verb}: {ran:?}");
        }
    }
    assert_eq!(gateway.weir_json("dana", &["requests"]).as_array().unwrap().len(), 1);
    assert_eq!(gateway.weir("dana", &["approve", &id]).code, 0);
    alice.wait("UPDATE 0");
    assert_ne!(gateway.weir("dana", &["approve", &id]).code, 0, "once");
    let id = hold(&mut alice, "UPDATE customers SET city = city WHERE id = -2;");
    assert_eq!(gateway.weir("dana", &["deny", &id]).code, 0);
    alice.wait("ERROR");
    let ledger = gateway.ledger();
    let control = |action: &str, refused: bool| {
        let of = |e: &&serde_json::Value| {
            e["is"] == "control" && e["action"] == action && e["refusal"].is_object() == refused
        };
        ledger.iter().filter(of).count()
    };
    assert_eq!((control("approve", true), control("deny", true)), (2, 2), "{ledger:?}");
    assert_eq!((control("approve", false), control("deny", false)), (1, 1), "{ledger:?}");
    assert_eq!(ledger.iter().filter(|e| e["is"] == "hold-ended").count(), 2);
}
