//! What was published against rivals of Weir's and the libraries that it could use, tried on Weir.
//!
//! | published | of | tried here by |
//! |---|---|---|
//! | CVE-2021-23214, -23222, -3935, -43766 | PostgreSQL, `PgBouncer`, Odyssey: plaintext before TLS | [`plaintext_before_tls_ends_the_connection`] |
//! | CVE-2024-27304, CVE-2026-32286 | pgx, pgproto3: lengths that wrap or are negative | [`lengths_that_wrap_cost_that_connection_alone`] |
//! | CVE-2025-12819 | `PgBouncer`: `search_path` of the startup packet | [`a_startup_packet_sets_no_search_path`] |
//! | CVE-2023-48795 (Terrapin) | SSH | [`ssh_offers_nothing_that_terrapin_or_a_bomb_needs`], [`strict_key_exchange_is_kept`] |
//! | CVE-2026-46702 | russh: compression bomb | [`ssh_offers_nothing_that_terrapin_or_a_bomb_needs`] |
//! | CVE-2024-43410 | russh: length of a packet taken on trust | [`an_ssh_packets_length_is_not_taken_on_trust`] |
//! | GHSA-3cjp, CVE-2024-45337 | Warpgate, x/crypto: an offered key taken for a login | [`an_offered_key_is_no_login`] |
//! | CVE-2026-46705 | russh: the user changed during sign-in | [`who_changes_the_user_during_sign_in_gets_the_last_one_alone`] |
//! | CVE-2026-42189 | russh: count of keyboard-interactive answers | [`answers_nobody_asked_for_are_no_login`] |
//! | CVE-2024-35175 | sshpiper: PROXY header from anybody | [`nobody_chooses_their_country`] |
//! | CVE-2021-41230, Teleport 16.4.6 | Pomerium, Teleport: stale rights | [`a_session_does_not_outlive_its_permission`] |
//! | CVE-2025-4366, RUSTSEC-2026-0034 | Pingora: request smuggling | [`no_request_hides_in_another`] |
//! | CVE-2018-1002105, RUSTSEC-2026-0033 | Kubernetes, Pingora: bytes behind an upgrade | [`no_request_hides_in_another`] |
//! | CVE-2023-44487, CVE-2024-27316 | HTTP/2: rapid reset, CONTINUATION flood | [`http2_floods_end_their_connection`] |
//! | CVE-2024-12289, CVE-2026-7776, Warpgate #2462 | Boundary, Warpgate: half a handshake | [`half_a_handshake_keeps_nobody_waiting`] |
//! | CVE-2024-11738, CVE-2024-32650 | rustls: hostile handshakes | [`hostile_handshakes_cost_that_connection_alone`] |
//! | CVE-2023-42442 | `JumpServer`: recordings without sign-in | [`no_record_without_sign_in`] |

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use russh::client::KeyboardInteractiveAuthResponse as Answered;
use rustls::ClientConnection;
use rustls::StreamOwned;
use rustls::pki_types::ServerName;
use weir::tls;

use crate::demo::Demo;
use crate::demo::PATIENCE_S;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::parts;

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn tcp(demo: &Demo) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", demo.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(PATIENCE_S))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(PATIENCE_S))).unwrap();
    stream
}

fn over_tls(demo: &Demo, host: &str, alpn: &[u8]) -> Tls {
    let roots = tls::Roots::Bundle(tls::Pem::bytes(std::fs::read(demo.ca_file()).unwrap()));
    let config = tls::client(&roots, &[alpn], None).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), tcp(demo))
}

/// All that still comes until the gateway closes; it must close.
fn rest(stream: &mut impl Read) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(error) => {
                let waits = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!waits, "the connection is still open after {} bytes", all.len());
                return all;
            }
        }
    }
}

/// The gateway is the same process as before and serves others.
fn assert_serves(demo: &Demo) {
    assert!(Path::new(&format!("/proc/{}", demo.pid())).exists());
    demo.weir_json("alice", &["whoami"]);
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

#[test]
fn plaintext_before_tls_ends_the_connection() {
    let demo = Demo::shared();
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut stream = tcp(demo);
        stream.write_all(&[&request[..], b"Q\0\0\0\x0dSELECT 1\0"].concat()).unwrap();
        let answer = rest(&mut stream);
        // At most the one byte that says whether there is encryption, and nothing about the rest.
        assert!(answer.len() < 2, "{answer:?}");
    }
    // A client that asks for the other encryption first is told no and goes on (Warpgate #2373).
    let mut stream = tcp(demo);
    let mut answer = [0];
    for (request, expected) in [(GSSENC_REQUEST, b'N'), (SSL_REQUEST, b'S')] {
        stream.write_all(&request).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [expected]);
    }
    assert_serves(demo);
}

fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in pairs {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &body].concat()
}

/// One message of the server's: its type and body.
fn message(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}

fn postgres(demo: &Demo, more: &[(&str, &str)]) -> Tls {
    let mut stream = over_tls(demo, "localhost", b"postgresql");
    let pairs = [&[("user", "alice"), ("database", "customers")], more].concat();
    stream.write_all(&startup(&pairs)).unwrap();
    assert_eq!(message(&mut stream), (b'R', vec![0, 0, 0, 3]));
    let token = demo.token("alice");
    let length = u32::try_from(token.len() + 5).unwrap();
    stream.write_all(&[b"p", &length.to_be_bytes()[..], token.as_bytes(), b"\0"].concat()).unwrap();
    loop {
        let (kind, body) = message(&mut stream);
        match kind {
            b'Z' => return stream,
            b'E' => panic!("{}", printable(&body)),
            _ => {}
        }
    }
}

#[test]
fn lengths_that_wrap_cost_that_connection_alone() {
    let demo = Demo::shared();
    let query = b"Q\0\0\0\x29SELECT 'hidden-behind-a-length' AS x  \0";
    for (kind, length) in [
        (b'Q', 0_u32),
        (b'P', 3),
        (b'Q', u32::MAX),
        (b'B', 0x7fff_ffff),
        (b'P', 0x8000_0000),
        (b'B', 0x4000_0000),
        (b'd', u32::MAX),
        (b'F', 0xffff_fffb),
    ] {
        let mut stream = postgres(demo, &[]);
        stream.write_all(&[&[kind][..], &length.to_be_bytes(), query].concat()).unwrap();
        stream.flush().unwrap();
        let answer = rest(&mut stream);
        assert!(answer.first() == Some(&b'E') && !printable(&answer).contains("hidden-behind"));
    }
    // Bind: one parameter that is said to be longer than its message, and less than none.
    for length in [i32::MAX, -2, i32::MIN] {
        let mut stream = postgres(demo, &[]);
        let parse = b"P\0\0\0\x12\0SELECT $1\0\0\0";
        let mut bind = b"\0\0\0\0\0\x01".to_vec();
        bind.extend_from_slice(&length.to_be_bytes());
        bind.extend_from_slice(b"hidden-behind-a-length\0\0");
        let size = u32::try_from(bind.len() + 4).unwrap();
        let all = [&parse[..], b"B", &size.to_be_bytes(), &bind, b"X\0\0\0\x04"].concat();
        stream.write_all(&all).unwrap();
        let answer = printable(&rest(&mut stream));
        assert!(answer.contains("ERROR") || answer.contains("FATAL"), "{answer}");
        assert!(!answer.contains("hidden-behind"), "{answer}");
    }
    for first in [[0, 0, 0, 0], [0x7f, 0xff, 0xff, 0xff], [0xff; 4], [0, 0, 0, 7]] {
        let mut stream = over_tls(demo, "localhost", b"postgresql");
        stream.write_all(&[&first[..], &[0, 3, 0, 0]].concat()).unwrap();
        stream.flush().unwrap();
        rest(&mut stream);
    }
    assert!(!read(demo.text("/direct/postgres/log_file")).contains("hidden-behind-a-length"));
    assert_serves(demo);
}

#[test]
fn a_startup_packet_sets_no_search_path() {
    let demo = Demo::shared();
    for options in ["-c search_path=evil", "-csearch_path=evil", "--search-path=evil"] {
        let mut psql = demo.psql_at(demo.port(), "alice");
        psql.env("PGOPTIONS", options).args(["-At", "-c", "SHOW search_path"]);
        assert!(!Ran::of(&psql.output().unwrap()).out.contains("evil"), "{options}");
    }
    let mut stream = over_tls(demo, "localhost", b"postgresql");
    let pairs = [("user", "alice"), ("database", "customers"), ("search_path", "evil")];
    stream.write_all(&startup(&pairs)).unwrap();
    let (kind, body) = message(&mut stream);
    if kind == b'E' {
        assert!(printable(&body).contains("search_path"), "{}", printable(&body));
        return;
    }
    let mut stream = postgres(demo, &pairs[2..]);
    stream.write_all(b"Q\0\0\0\x15SHOW search_path\0").unwrap();
    message(&mut stream);
    let (_, row) = message(&mut stream);
    assert!(!printable(&row).contains("evil"), "{}", printable(&row));
}

/// The gateway's identification, then its KEXINIT's lists (RFC 4253 §7.1), read raw.
fn ssh(demo: &Demo) -> (TcpStream, Vec<String>) {
    let mut stream = tcp(demo);
    stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").unwrap();
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    assert!(line.starts_with(b"SSH-2.0-"), "{line:?}");
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let mut packet = vec![0; usize::try_from(u32::from_be_bytes(head)).unwrap()];
    stream.read_exact(&mut packet).unwrap();
    assert_eq!(packet[1], 20);
    let (mut lists, mut at) = (Vec::new(), 2 + 16);
    for _ in 0..10 {
        let length = u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let end = at + 4 + usize::try_from(length).unwrap();
        lists.push(printable(&packet[at + 4..end]));
        at = end;
    }
    (stream, lists)
}

/// An unencrypted packet (RFC 4253 §6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let length = u32::try_from(payload.len() + padding + 1).unwrap();
    let mut all = length.to_be_bytes().to_vec();
    all.push(u8::try_from(padding).unwrap());
    all.extend_from_slice(payload);
    all.resize(all.len() + padding, 0);
    all
}

fn kexinit(kex: &str, cipher: &str) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend_from_slice(&[7; 16]);
    let mac = "hmac-sha2-256";
    for list in [kex, "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""] {
        payload.extend_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(list.as_bytes());
    }
    payload.extend_from_slice(&[0; 5]);
    packet(&payload)
}

#[test]
fn ssh_offers_nothing_that_terrapin_or_a_bomb_needs() {
    let (_stream, lists) = ssh(Demo::shared());
    assert!(lists[0].split(',').any(|name| name == "kex-strict-s-v00@openssh.com"), "{lists:?}");
    for weak in ["chacha20", "-cbc", "sha1", "md5", "umac-64", "ssh-rsa", "ssh-dss", "zlib"] {
        let offers = |list: &&String| list.split(',').any(|name| name.contains(weak));
        assert_eq!(lists.iter().find(offers), None, "{weak}");
    }
    assert_eq!((lists[6].as_str(), lists[7].as_str()), ("none", "none"));
}

#[test]
fn strict_key_exchange_is_kept() {
    let demo = Demo::shared();
    // A message between the first KEXINIT and NEWKEYS that has no business there.
    let strict = "curve25519-sha256,kex-strict-c-v00@openssh.com";
    for stray in [&[2, 0, 0, 0, 0][..], &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 0]] {
        let (mut stream, _) = ssh(demo);
        stream.write_all(&kexinit(strict, "aes128-ctr")).unwrap();
        stream.write_all(&packet(stray)).unwrap();
        rest(&mut stream);
    }
    // Nor does anybody get a cipher that is weak without it.
    for cipher in ["chacha20-poly1305@openssh.com", "aes128-cbc"] {
        let (mut stream, _) = ssh(demo);
        stream.write_all(&kexinit("curve25519-sha256", cipher)).unwrap();
        rest(&mut stream);
    }
    assert_serves(demo);
}

#[test]
fn an_ssh_packets_length_is_not_taken_on_trust() {
    let demo = Demo::shared();
    for length in [u32::MAX, 0x7fff_ffff, 0x1000_0000, 0, 1] {
        let (mut stream, _) = ssh(demo);
        stream
            .write_all(&[&length.to_be_bytes()[..], &[4, 20, 0, 0, 0, 0, 0, 0]].concat())
            .unwrap();
        rest(&mut stream);
    }
    // An identification without an end.
    let mut stream = tcp(demo);
    let _cut = stream.write_all(&b"SSH-2.0-".repeat(8 * 1024));
    rest(&mut stream);
    assert_serves(demo);
}

#[test]
fn an_offered_key_is_no_login() {
    let demo = Demo::shared();
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let mut keygen = Command::new(parts::program("ssh-keygen"));
    let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    // A key of one's own, and even the one by which the gateway signs in at the target.
    for key in [key.to_str().unwrap(), demo.text("/direct/ssh/key_file")] {
        let mut ssh = Command::new(parts::program("ssh"));
        ssh.args(["-F", demo.text("/ssh_config"), "-p", &demo.port().to_string(), "-i", key]);
        ssh.args(["-o", "PreferredAuthentications=publickey,none", "-o", "BatchMode=yes"]);
        ssh.args(["deploy@web-1@localhost", "echo got in"]).stdin(Stdio::null());
        let ran = Ran::of(&ssh.output().unwrap());
        assert!(ran.code == 255 && ran.err.contains("Permission denied"), "{ran:?}");
        assert_eq!(ran.out, "");
    }
}

struct Anybody;

impl russh::client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// A client that fails to sign in as each of `users` but the last, for whom it gives `answers`; what
/// `id -un` says, or `None` if it did not get in.
fn signs_in(demo: &Demo, users: &[&str], answers: Vec<String>) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Arc::new(russh::client::Config::default());
        let at = ("127.0.0.1", demo.port());
        let mut client = russh::client::connect(config, at, Anybody).await.unwrap();
        for (user, left) in users.iter().zip((0..users.len()).rev()) {
            let asked = client.authenticate_keyboard_interactive_start(*user, None).await.ok()?;
            assert!(matches!(asked, Answered::InfoRequest { .. }), "{asked:?}");
            if left > 0 {
                let wrong = vec!["wrong".to_owned()];
                let no = client.authenticate_keyboard_interactive_respond(wrong).await.ok()?;
                assert!(matches!(no, Answered::Failure { .. }), "{no:?}");
            }
        }
        let answered = client.authenticate_keyboard_interactive_respond(answers).await.ok()?;
        let Answered::Success = answered else { return None };
        let mut channel = client.channel_open_session().await.ok()?;
        channel.exec(true, "id -un").await.ok()?;
        let mut said = String::new();
        while let Some(message) = channel.wait().await {
            match message {
                russh::ChannelMsg::Data { data } | russh::ChannelMsg::ExtendedData { data, .. } => {
                    said.push_str(&printable(&data));
                }
                _ => {}
            }
        }
        Some(said)
    })
}

#[test]
fn who_changes_the_user_during_sign_in_gets_the_last_one_alone() {
    let demo = Demo::shared();
    let token = || vec![demo.token("alice").to_owned()];
    let said = signs_in(demo, &["deploy@web-1", "root@web-1"], token()).unwrap_or_default();
    assert!(!said.contains("deploy\n"), "{said}");
    let said = signs_in(demo, &["root@web-1", "deploy@web-1"], token()).unwrap_or_default();
    assert!(!said.contains("root\n"), "{said}");
    assert_eq!(signs_in(demo, &["deploy@web-1"], token()).unwrap(), "deploy\n");
}

#[test]
fn answers_nobody_asked_for_are_no_login() {
    let demo = Demo::shared();
    let token = demo.token("alice").to_owned();
    for answers in [
        Vec::new(),
        vec![String::new()],
        vec![String::new(), token.clone()],
        vec![token.clone(), token],
        vec![String::new(); 8_000],
        vec!["x".repeat(30_000)],
    ] {
        assert_eq!(signs_in(demo, &["deploy@web-1"], answers), None);
    }
    assert_serves(demo);
}

#[test]
fn nobody_chooses_their_country() {
    let demo = Demo::shared();
    // HAProxy's header, version 2: TCP over IPv4 from the office in Singapore.
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x30\x39\x20\xfb";
    for first in [&SSL_REQUEST[..], b"SSH-2.0-x\r\n", b"\x16\x03\x01"] {
        let mut stream = tcp(demo);
        stream.write_all(&[&header[..], first].concat()).unwrap();
        let answer = rest(&mut stream);
        assert!(answer != b"S" && !answer.starts_with(b"SSH-"), "{answer:?}");
    }
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["-sS", "--haproxy-protocol", "--cacert", demo.ca_file(), "-H"]);
    curl.arg(format!("Authorization: Bearer {}", demo.token("alice")));
    let ran = curl.arg(format!("{}/api/people", demo.text("/targets/wiki/url"))).output().unwrap();
    assert!(ran.stdout.is_empty() && !ran.status.success(), "{ran:?}");
    // Where the relay's header is required, nobody gets in without one.
    let config = read(demo.text("/config_file"));
    let private = config.split("proxy = \"required\"").next().unwrap().rsplit("127.0.0.1:").next();
    let port = private.unwrap().split('"').next().unwrap().parse::<u16>().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&[&SSL_REQUEST[..], &[0; 32]].concat()).unwrap();
    assert_eq!(rest(&mut stream), b"");
    assert_serves(demo);
}

#[test]
fn a_session_does_not_outlive_its_permission() {
    let demo = Demo::start(&[]);
    let line = format!("{} 'echo begun; sleep 600'", demo.text("/targets/web-1/command"));
    let mut ssh = Command::new("/bin/sh");
    ssh.args(["-c", &line]).env("SSH_ASKPASS", demo.text("/people/alice/askpass"));
    ssh.env("SSH_ASKPASS_REQUIRE", "force").stdin(Stdio::null());
    let mut child = ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    let policy = "@id(\"web.closed\") @reason(\"web-1 is closed for the audit\")\n\
        forbid (principal, action == Weir::Action::\"connect\", resource == Weir::Target::\"web-1\");";
    std::fs::write(Path::new(demo.text("/policy_dir")).join("closed.cedar"), policy).unwrap();
    let ran = finish(child);
    assert!(ran.code != 0 && ran.err.contains("closed for the audit"), "{ran:?}");
}

#[test]
fn no_request_hides_in_another() {
    let demo = Demo::shared();
    let hidden = format!(
        "DELETE /api/articles/smuggled HTTP/1.1\r\nHost: wiki.localhost:{}\r\n\
         Authorization: Bearer {}\r\n\r\n",
        demo.port(),
        demo.token("alice")
    );
    let length = hidden.len();
    let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    let cases = [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked".to_owned(),
            format!("0\r\n\r\n{hidden}"),
        ),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"), chunk.clone()),
        ("Transfer-Encoding: xchunked".to_owned(), chunk.clone()),
        ("Transfer-Encoding : chunked".to_owned(), chunk.clone()),
        ("Transfer-Encoding:\x0bchunked".to_owned(), chunk.clone()),
        ("Transfer-Encoding: chunked, identity".to_owned(), chunk.clone()),
        ("X: y\r\n Transfer-Encoding: chunked".to_owned(), chunk),
        (format!("Content-Length: 0\r\nContent-Length: {length}"), hidden.clone()),
        (format!("Content-Length: 0, {length}"), hidden.clone()),
        ("Content-Length: +0".to_owned(), hidden.clone()),
        ("Content-Length: 0x0".to_owned(), hidden.clone()),
        ("Content-Length: -1".to_owned(), hidden.clone()),
        ("X: y\nContent-Length: 0".to_owned(), hidden.clone()),
        ("X: y\r\rContent-Length: 0".to_owned(), hidden.clone()),
        ("Transfer-Encoding: chunked".to_owned(), format!("0\n\n{hidden}")),
        ("Transfer-Encoding: chunked".to_owned(), format!("0;a\nb\r\n\r\n{hidden}")),
        ("Transfer-Encoding: chunked".to_owned(), format!("ffffffffffffffff1\r\n{hidden}")),
        (
            "Transfer-Encoding: chunked".to_owned(),
            format!("0\r\nContent-Length: 9\r\n\r\n{hidden}"),
        ),
        ("Connection: Upgrade\r\nUpgrade: websocket".to_owned(), hidden.clone()),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c".to_owned(), hidden.clone()),
        ("Expect: 100-continue\r\nContent-Length: 0".to_owned(), hidden),
    ];
    for (header, body) in cases {
        let mut stream = over_tls(demo, "wiki.localhost", b"http/1.1");
        let request = format!(
            "GET /api/articles?at=outer HTTP/1.1\r\nHost: wiki.localhost:{}\r\n\
             Authorization: Bearer {}\r\n{header}\r\n\r\n{body}\
             GET / HTTP/1.1\r\nHost: wiki.localhost\r\nConnection: close\r\n\r\n",
            demo.port(),
            demo.token("alice")
        );
        stream.sock.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _open = stream.read_to_end(&mut answer);
        let answer = printable(&answer);
        assert!(answer.starts_with("HTTP/1.1 "), "{header}: {answer}");
    }
    let log = read(demo.text("/direct/http/access_log_file"));
    assert!(!log.contains("smuggled"), "{log}");
    assert_serves(demo);
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn http2_floods_end_their_connection() {
    let demo = Demo::shared();
    let begin = || {
        let mut stream = over_tls(demo, "wiki.localhost", b"h2");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(4, 0, 0, &[])).unwrap();
        stream
    };
    // `:method GET`, `:scheme https`, `:path /`, `:authority wiki.localhost` (RFC 7541).
    let head = [&[0x82, 0x87, 0x84, 0x41, 14][..], b"wiki.localhost"].concat();
    let mut resets = Vec::new();
    for id in (1..20_000).step_by(2) {
        resets.extend(frame(1, 5, id, &head));
        resets.extend(frame(3, 0, id, &[0, 0, 0, 8]));
    }
    let mut continued = frame(1, 1, 1, &head);
    for _ in 0..4_000 {
        let field = [&[0x00, 1, b'x', 100][..], &[b'y'; 100]].concat();
        continued.extend(frame(9, 0, 1, &field));
    }
    for flood in [resets, continued] {
        let mut stream = begin();
        let _cut = stream.write_all(&flood);
        let _cut = stream.flush();
        rest(&mut stream);
    }
    assert_serves(demo);
}

#[test]
fn half_a_handshake_keeps_nobody_waiting() {
    let demo = Demo::shared();
    let beginnings = [
        &b"\x16"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"\0\0\0",
        b"SSH-",
        b"SSH-2.0-slow\r\n",
        b"",
    ];
    let open = beginnings.iter().flat_map(|beginning| {
        (0..15).map(|_| {
            let mut stream = tcp(demo);
            stream.write_all(beginning).unwrap();
            stream
        })
    });
    let open = open.collect::<Vec<_>>();
    let mut slow = over_tls(demo, "wiki.localhost", b"http/1.1");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: wi").unwrap();
    // All others are served meanwhile, by every protocol.
    assert_serves(demo);
    assert_eq!(demo.psql("alice", &["SELECT 1"]).out.trim(), "1");
    let token = vec![demo.token("alice").to_owned()];
    assert_eq!(signs_in(demo, &["deploy@web-1"], token).unwrap(), "deploy\n");
    // Whoever never gets on with TLS is sent away.
    for mut stream in open.into_iter().take(45) {
        rest(&mut stream);
    }
}

#[test]
fn hostile_handshakes_cost_that_connection_alone() {
    let demo = Demo::shared();
    for first in [
        // A ClientHello of no bytes, of records without contents, and one that is far too long.
        &b"\x16\x03\x01\0\x04\x01\0\0\0"[..],
        b"\x16\x03\x01\0\0\x16\x03\x01\0\0\x16\x03\x01\0\0\x16\x03\x01\0\x01\x01",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\0\x04\x01\xff\xff\xff",
        b"\x15\x03\x01\0\x02\x01\0",
        b"\x16\x03\x01\0\x05\x02\0\0\x01\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = tcp(demo);
        stream.write_all(first).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        rest(&mut stream);
    }
    assert_serves(demo);
}

#[test]
fn no_record_without_sign_in() {
    let demo = Demo::shared();
    demo.psql("alice", &["SELECT 'kept for replay'"]);
    let id = wait_for("a session", || {
        let all = demo.weir_json("alice", &["sessions", "ls"]);
        Some(all[0]["session"].as_str()?.to_owned())
    });
    let open = "sessions requests requests/h-xxxxxxxx targets whoami %73essions".split(' ');
    let one = ["", "/", "?token=x"].map(|end| format!("sessions/{id}{end}"));
    for path in open.map(str::to_owned).chain(one) {
        let mut curl = Command::new(parts::program("curl"));
        curl.args(["-sS", "--path-as-is", "-w", "%{http_code}", "--cacert", demo.ca_file()]);
        let ran = curl.arg(format!("{}/api/v1/{path}", demo.text("/api"))).output().unwrap();
        let said = printable(&ran.stdout);
        assert!(said.ends_with("401") || said.ends_with("404"), "{path}: {said}");
        assert!(!said.contains(&id) && !said.contains("alice"), "{path}: {said}");
    }
}
