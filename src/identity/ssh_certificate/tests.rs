//! Our certificates, and those of OpenSSH's own `ssh-keygen`, each read by the other. Needs Debian's
//! `openssh-client` and `openssh-server`.

use std::fs;
use std::net::IpAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use jiff::SignedDuration;
use jiff::Timestamp;
use proptest::prelude::*;

use crate::identity::ssh_certificate::wire::put;
use crate::identity::ssh_certificate::*;
use crate::model::encode::base64;
use crate::model::encode::unbase64_exactly;

const NOW_S: i64 = 1_800_000_000;
/// A made-up key in a security key (PROTOCOL.u2f); there is no device to make one with.
const KEY: [u8; 32] = [7; 32];

fn now() -> Timestamp {
    Timestamp::from_second(NOW_S).unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn authority() -> SshAuthority {
    SshAuthority::from_pkcs8(&SshAuthority::generate().unwrap()).unwrap()
}

fn here() -> IpAddr {
    "192.0.2.7".parse().unwrap()
}

fn blob(line: &str) -> Vec<u8> {
    unbase64_exactly(line.split(' ').nth(1).unwrap()).unwrap()
}

fn line_of(kind: &str, fields: &[&[u8]]) -> String {
    let mut bytes = Vec::new();
    put(&mut bytes, kind.as_bytes());
    for field in fields {
        put(&mut bytes, field);
    }
    format!("{kind} {} a comment", base64(&bytes))
}

fn ed25519() -> String {
    line_of("ssh-ed25519", &[&KEY])
}

fn ask<'a>(key: &'a str, principals: &'a [String]) -> UserAsk<'a> {
    UserAsk {
        public_key: key,
        principals,
        key_id: "alice on her laptop",
        serial: 42,
        valid_after: after(-SSH_SKEW_S),
        valid_before: after(3600),
        source_address: &[],
        extensions: &[SshExtension::Pty, SshExtension::NoTouchRequired],
    }
}

fn alice() -> Vec<String> {
    vec!["weir:l-7kq2m9xdb4tz".to_owned(), "alice".to_owned()]
}

fn checked(blob: &[u8], authorities: &[&SshAuthority]) -> Result<SshChecked, SshCertificateError> {
    let keys = authorities.iter().map(|one| one.public().clone()).collect::<Vec<_>>();
    check(
        blob,
        &SshExpected { authorities: &keys, now: now(), principal: "alice", address: here() },
    )
}

/// A certificate whose every field a test chooses, rightly signed.
struct Raw {
    list: Vec<u8>,
    options: Vec<u8>,
    extensions: Vec<u8>,
    reserved: Vec<u8>,
    certificate_type: u32,
    time: (u64, u64),
    authority: Option<Vec<u8>>,
    signature_name: &'static str,
}

impl Raw {
    fn new() -> Self {
        let mut list = Vec::new();
        put(&mut list, b"alice");
        let begin = u64::try_from(NOW_S).unwrap() - 1;
        Self {
            list,
            options: Vec::new(),
            extensions: Vec::new(),
            reserved: Vec::new(),
            certificate_type: TYPE_USER,
            time: (begin, begin + 3600),
            authority: None,
            signature_name: "ssh-ed25519",
        }
    }

    fn option(mut self, name: &str, value: &[u8]) -> Self {
        put(&mut self.options, name.as_bytes());
        put(&mut self.options, value);
        self
    }

    fn extension(mut self, name: &str, value: &[u8]) -> Self {
        put(&mut self.extensions, name.as_bytes());
        put(&mut self.extensions, value);
        self
    }

    fn sources(self, list: &str) -> Self {
        let mut value = Vec::new();
        put(&mut value, list.as_bytes());
        self.option("source-address", &value)
    }

    /// What comes of signing it with a fresh authority, and of checking it against that.
    fn outcome(&self) -> Result<SshChecked, SshCertificateError> {
        let pkcs8 = SshAuthority::generate().unwrap();
        let ours = SshAuthority::from_pkcs8(&pkcs8).unwrap();
        let mut bytes = Vec::new();
        put(&mut bytes, b"ssh-ed25519-cert-v01@openssh.com");
        put(&mut bytes, &[9; 32]);
        put(&mut bytes, &KEY);
        bytes.extend(7_u64.to_be_bytes());
        bytes.extend(self.certificate_type.to_be_bytes());
        put(&mut bytes, b"alice");
        put(&mut bytes, &self.list);
        bytes.extend(self.time.0.to_be_bytes());
        bytes.extend(self.time.1.to_be_bytes());
        for part in [&self.options, &self.extensions, &self.reserved] {
            put(&mut bytes, part);
        }
        put(&mut bytes, self.authority.as_deref().unwrap_or(ours.public().blob()));
        let made = Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap().sign(&bytes);
        let mut signature = Vec::new();
        put(&mut signature, self.signature_name.as_bytes());
        put(&mut signature, made.as_ref());
        put(&mut bytes, &signature);
        checked(&bytes, &[&ours])
    }
}

#[test]
fn a_certificate_of_ours_is_good_for_whom_when_and_where_it_says() {
    let (ours, other) = (authority(), authority());
    let issued = ours.issue_user(&ask(&ed25519(), &alice())).unwrap();
    let bytes = blob(&issued.line);
    let good = checked(&bytes, &[&other, &ours]).unwrap();
    assert_eq!(good.digest, issued.digest);
    assert_eq!((good.serial, good.principals), (42, alice()));
    assert_eq!(good.expires_at, after(3600));
    assert_eq!(checked(&bytes, &[&other]), Err(SshCertificateError::Foreign));
    assert_eq!(checked(&bytes, &[]), Err(SshCertificateError::Foreign));
    let keys = [ours.public().clone()];
    let with = |principal, now, address| {
        check(&bytes, &SshExpected { authorities: &keys, now, principal, address })
    };
    for principal in ["bob", "", "Alice", "alice ", "weir:"] {
        let refused = with(principal, now(), here());
        assert_eq!(refused, Err(SshCertificateError::OtherPrincipal), "{principal:?}");
    }
    assert_eq!(with("alice", after(3600), here()), Err(SshCertificateError::Expired));
    assert_eq!(with("alice", after(-61), here()), Err(SshCertificateError::NotYet));
    assert!(with("alice", after(3599), here()).is_ok());

    let networks = ["10.0.0.0/8".parse().unwrap(), "192.0.2.7/32".parse().unwrap()];
    let key = ed25519();
    let names = alice();
    let bound = UserAsk { source_address: &networks, ..ask(&key, &names) };
    let bytes = blob(&ours.issue_user(&bound).unwrap().line);
    let from = |address: &str| {
        let address = address.parse().unwrap();
        check(&bytes, &SshExpected { authorities: &keys, now: now(), principal: "alice", address })
    };
    assert!(from("192.0.2.7").is_ok() && from("10.9.9.9").is_ok());
    assert!(from("::ffff:10.9.9.9").is_ok(), "an address is the same however it is written");
    assert!(matches!(from("192.0.2.8"), Err(SshCertificateError::OtherAddress(_))));
    assert!(matches!(from("2001:db8::1"), Err(SshCertificateError::OtherAddress(_))));
}

#[test]
fn no_byte_can_be_changed_left_out_or_added() {
    let ours = authority();
    let networks = ["192.0.2.0/24".parse().unwrap()];
    let (key, names) = (ed25519(), alice());
    let asked = UserAsk { source_address: &networks, ..ask(&key, &names) };
    let bytes = blob(&ours.issue_user(&asked).unwrap().line);
    assert!(checked(&bytes, &[&ours]).is_ok());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(checked(&changed, &[&ours]).is_err(), "bit {bit} of byte {at}");
        }
        assert!(checked(&bytes[..at], &[&ours]).is_err(), "the first {at} bytes");
        let mut longer = bytes.clone();
        longer.insert(at, 0);
        assert!(checked(&longer, &[&ours]).is_err(), "a byte more at {at}");
    }
    assert!(checked(&[&bytes[..], b"\0"].concat(), &[&ours]).is_err());
    let huge = [&bytes[..], &[0; SSH_CERTIFICATE_BYTES_MAX]].concat();
    assert_eq!(checked(&huge, &[&ours]), Err(SshCertificateError::TooLarge(huge.len())));
}

#[test]
fn what_is_rightly_signed_is_still_refused_where_it_says_too_much() {
    use SshCertificateError as E;
    assert!(Raw::new().outcome().is_ok());
    let of = |change: fn(&mut Raw)| {
        let mut raw = Raw::new();
        change(&mut raw);
        raw.outcome().unwrap_err()
    };
    assert_eq!(of(|raw| raw.certificate_type = TYPE_HOST), E::NotUser(2));
    assert_eq!(of(|raw| raw.certificate_type = 0), E::NotUser(0));
    assert_eq!(of(|raw| raw.list.clear()), E::OtherPrincipal, "for nobody is not for everybody");
    assert_eq!(of(|raw| raw.time = (0, u64::MAX)), E::TooLong);
    assert_eq!(of(|raw| raw.time.0 = u64::MAX), E::TooLong);
    assert_eq!(of(|raw| raw.time.1 = raw.time.0), E::TooLong);
    assert_eq!(of(|raw| raw.time.1 = raw.time.0 + 8 * 3600 + 61), E::TooLong);
    assert_eq!(of(|raw| raw.reserved.push(0)), E::Malformed("its reserved field"));
    assert_eq!(of(|raw| raw.signature_name = "ssh-ed448"), E::Forged);
    assert_eq!(of(|raw| raw.signature_name = "rsa-sha2-512"), E::Forged);
    assert_eq!(of(|raw| raw.list.extend([0, 0, 0, 0])), E::Malformed("its principals"));
    assert_eq!(of(|raw| raw.list.extend([0, 0, 0, 9, b'x'])), E::Malformed("its principals"));

    for option in ["force-command", "verify-required", "no-such@example.com", "Source-Address"] {
        let refused = Raw::new().option(option, b"").outcome();
        assert_eq!(refused, Err(E::CriticalOption(option.to_owned())));
    }
    let twice = Raw::new().sources("192.0.2.7").sources("0.0.0.0/0").outcome();
    assert_eq!(twice, Err(E::Malformed("its critical options")));
    let disordered = Raw::new().option("b", b"").option("a", b"").outcome();
    assert_eq!(disordered, Err(E::Malformed("its critical options")));
    for list in ["", ",", "192.0.2.7,", "192.0.2.7/24", "192.0.2.7/33", "!10.0.0.0/8", "*", " "] {
        let refused = Raw::new().sources(list).outcome();
        assert_eq!(refused, Err(E::Malformed("source-address")), "{list:?}");
    }
    assert!(Raw::new().sources("2001:db8::/32,192.0.2.0/24").outcome().is_ok());
    let bare = Raw::new().option("source-address", b"192.0.2.7").outcome();
    assert_eq!(bare, Err(E::Malformed("source-address")));

    // Unknown extensions are for others; known ones mean one thing.
    assert!(Raw::new().extension("login@github.com", b"alice").outcome().is_ok());
    assert!(Raw::new().extension("permit-pty", b"").outcome().is_ok());
    assert!(Raw::new().extension("permit-pty", b"x").outcome().is_err());
}

#[test]
fn an_authority_is_a_key_and_no_certificate() {
    let ours = authority();
    let nested = blob(&ours.issue_user(&ask(&ours.public().to_string(), &alice())).unwrap().line);
    let refused = Raw { authority: Some(nested.clone()), ..Raw::new() }.outcome();
    assert_eq!(refused, Err(SshCertificateError::Foreign));
    let line = format!("ssh-ed25519-cert-v01@openssh.com {}", base64(&nested));
    assert!(line.parse::<SshAuthorityKey>().is_err());
    assert_eq!(ours.public_line().parse(), Ok(ours.public().clone()));
    assert!(SshAuthority::from_pkcs8(b"no key").is_err());
    let shown = format!("{ours:?}");
    assert!(shown.contains("SshAuthority") && !shown.contains("seed"), "{shown}");
}

#[test]
fn what_cannot_be_certified_is_said() {
    let ours = authority();
    let (key, names) = (ed25519(), alice());
    let none = |line: &str| ours.issue_user(&ask(line, &names)).unwrap_err();
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ== alice@laptop";
    let told = none(rsa).refusal();
    assert!(told.reason.contains("RSA key, which this gateway does not verify"), "{told}");
    assert_eq!(told.hint.as_deref(), Some("make one with `ssh-keygen -t ed25519`"));
    let good = ours.issue_user(&ask(&key, &names)).unwrap();
    assert!(none(&good.line).to_string().contains("a certificate already"));
    let off_curve = [&[4][..], &[1; 64]].concat();
    let p256 = "ecdsa-sha2-nistp256";
    for bad in [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        &format!("command=\"x\" {key}"),
        &format!("{key}\n{key}"),
        &line_of("ssh-ed25519", &[&[7; 31]]),
        &line_of("ssh-ed25519", &[&KEY, b""]),
        &line_of(p256, &[b"nistp256", &off_curve]),
        &line_of(p256, &[b"nistp384", &off_curve]),
        &line_of("ssh-ed25519", &[&KEY]).replacen("ssh-ed25519", p256, 1),
        &format!("{key}{}", "x".repeat(5000)),
    ] {
        assert!(matches!(none(bad), SshAskError::Key(_)), "{bad:?}");
    }
    let asked = ask(&key, &names);
    for (bad, why) in [
        (UserAsk { principals: &[], ..asked }, SshAskError::Names),
        (UserAsk { principals: &[String::new()], ..asked }, SshAskError::Names),
        (UserAsk { principals: &["a\nb".to_owned()], ..asked }, SshAskError::Names),
        (UserAsk { key_id: "a\u{1b}b", ..asked }, SshAskError::Names),
        (UserAsk { valid_before: asked.valid_after, ..asked }, SshAskError::Time),
        (UserAsk { valid_before: after(8 * 3600 + 1), ..asked }, SshAskError::Time),
        (UserAsk { valid_after: after(-60 - NOW_S), ..asked }, SshAskError::Time),
        (
            UserAsk { source_address: &["::/0".parse().unwrap(); 17], ..asked },
            SshAskError::Networks,
        ),
    ] {
        assert_eq!(ours.issue_user(&bad), Err(why));
    }
}

proptest! {
    #[test]
    fn what_was_issued_reads_back(
        names in proptest::collection::vec("[^\\p{Cc}]{1,40}", 1..8),
        serial: u64,
        life_s in 1..=8 * 3600_i64,
    ) {
        let ours = authority();
        let key = line_of("sk-ssh-ed25519@openssh.com", &[&KEY, b"ssh:"]);
        let asked = UserAsk {
            serial,
            valid_before: after(life_s - SSH_SKEW_S),
            ..ask(&key, &names)
        };
        let bytes = blob(&ours.issue_user(&asked).unwrap().line);
        let read = parse(&bytes).unwrap();
        prop_assert_eq!(read.kind, SshKeyKind::SkEd25519);
        prop_assert_eq!(read.serial, serial);
        prop_assert_eq!(read.principals, names);
        let extensions = read.extensions.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        prop_assert_eq!(extensions, ["no-touch-required", "permit-pty"]);
    }

    #[test]
    fn no_bytes_are_a_certificate_by_chance(
        name in "ssh-ed25519-cert-v01@openssh.com|sk-ecdsa-sha2-nistp256-cert-v01@openssh.com|.*",
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = Vec::new();
        put(&mut bytes, name.as_bytes());
        bytes.extend(rest);
        prop_assert!(checked(&bytes, &[&authority()]).is_err());
    }
}

fn keygen(dir: &Path, args: &[&str]) -> String {
    let ran = Command::new("ssh-keygen").current_dir(dir).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "ssh-keygen {args:?}: {said}");
    String::from_utf8(ran.stdout).unwrap()
}

fn new_key(dir: &Path, name: &str, kind: &[&str]) -> String {
    keygen(dir, &[&["-q", "-N", "", "-C", "alice", "-f", name, "-t"], kind].concat());
    fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap()
}

#[test]
fn ssh_keygen_reads_what_we_issue() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let networks = ["192.0.2.0/24".parse().unwrap()];
    let (names, hosts) = (alice(), vec!["weir.example".to_owned(), "*.weir.example".to_owned()]);
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")] {
        let name = format!("{kind}{bits}");
        let key = new_key(dir.path(), &name, &[kind, "-b", bits]);
        let asked = UserAsk { source_address: &networks, ..ask(&key, &names) };
        let issued = ours.issue_user(&asked).unwrap();
        assert!(checked(&blob(&issued.line), &[&ours]).is_ok(), "{name}");
        fs::write(dir.path().join("cert.pub"), format!("{}\n", issued.line)).unwrap();
        let shown = keygen(dir.path(), &["-L", "-f", "cert.pub"]);
        let signer = format!("Signing CA: ED25519 {} (using ssh-ed25519)", ours.fingerprint());
        for part in [
            "user certificate",
            &signer,
            "Key ID: \"alice on her laptop\"",
            "Serial: 42",
            "weir:l-7kq2m9xdb4tz",
            "source-address 192.0.2.0/24",
            "permit-pty",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let asked = HostAsk {
            public_key: &key,
            names: &hosts,
            key_id: "weir.example",
            serial: 1,
            valid_after: now(),
            valid_before: after(24 * 3600),
        };
        let issued = ours.issue_host(&asked).unwrap();
        fs::write(dir.path().join("host.pub"), format!("{}\n", issued.line)).unwrap();
        let shown = keygen(dir.path(), &["-L", "-f", "host.pub"]);
        assert!(shown.contains("host certificate") && shown.contains("*.weir.example"), "{shown}");
        let refused = checked(&blob(&issued.line), &[&ours]);
        assert_eq!(refused, Err(SshCertificateError::NotUser(2)));
    }
    fs::write(dir.path().join("ca.pub"), ours.public_line()).unwrap();
    let shown = keygen(dir.path(), &["-l", "-f", "ca.pub"]);
    assert!(shown.contains(&ours.fingerprint()) && shown.contains("weir-access"), "{shown}");
}

#[test]
fn what_ssh_keygen_issues_is_read_and_refused_where_it_must_be() {
    use SshCertificateError as E;
    let dir = tempfile::tempdir().unwrap();
    let at = |at: Timestamp| at.strftime("%Y%m%d%H%M%SZ").to_string();
    let ca = new_key(dir.path(), "ca", &["ed25519"]).parse::<SshAuthorityKey>().unwrap();
    for kind in [&["ed25519"][..], &["ecdsa", "-b", "521"]] {
        drop(fs::remove_file(dir.path().join("id")));
        new_key(dir.path(), "id", kind);
        let good = format!("{}:{}", at(after(-30)), at(after(600)));
        let outcome = |ca_name: &str, more: &[&str]| {
            let args = [&["-q", "-s", ca_name, "-I", "alice"], more, &["id.pub"]].concat();
            keygen(dir.path(), &args);
            let line = fs::read_to_string(dir.path().join("id-cert.pub")).unwrap();
            let keys = [ca.clone()];
            let (now, address) = (now(), here());
            check(
                &blob(&line),
                &SshExpected { authorities: &keys, now, principal: "alice", address },
            )
        };
        let signed =
            |more: &[&str]| outcome("ca", &[&["-n", "alice,bob", "-V", &good], more].concat());
        let read = signed(&["-z", "7", "-O", "source-address=192.0.2.0/24"]).unwrap();
        assert_eq!((read.serial, read.principals.len()), (7, 2));
        assert_eq!(signed(&["-h"]), Err(E::NotUser(2)));
        assert!(matches!(signed(&["-O", "source-address=10.0.0.0/8"]), Err(E::OtherAddress(_))));
        for (option, name) in [
            ("force-command=/bin/true", "force-command"),
            ("verify-required", "verify-required"),
            ("critical:new@example.com=x", "new@example.com"),
        ] {
            assert_eq!(signed(&["-O", option]), Err(E::CriticalOption(name.to_owned())));
        }
        assert!(signed(&["-O", "extension:new@example.com=x"]).is_ok());
        assert_eq!(outcome("ca", &["-V", &good]), Err(E::OtherPrincipal), "no principal at all");
        assert_eq!(outcome("ca", &["-n", "alice"]), Err(E::TooLong), "for ever");
        for (from, to, why) in [
            (after(-600), after(-1), E::Expired),
            (after(1), after(600), E::NotYet),
            (after(-1), after(24 * 3600), E::TooLong),
        ] {
            let time = format!("{}:{}", at(from), at(to));
            assert_eq!(outcome("ca", &["-n", "alice", "-V", &time]), Err(why));
        }
        for (other, kind) in [("other", "ed25519"), ("rsa", "rsa"), ("ec", "ecdsa")] {
            if !dir.path().join(other).exists() {
                new_key(dir.path(), other, &[kind]);
            }
            assert!(outcome(other, &["-n", "alice", "-V", &good]).is_err(), "{other}");
        }
    }
}

/// sshd as whoever runs the tests, which trusts the authority; it reads the time itself.
#[test]
#[expect(clippy::disallowed_methods, reason = "sshd has the system's clock and nothing else")]
fn a_real_sshd_takes_what_we_issue_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let me = Command::new("id").arg("-un").output().unwrap();
    let me = String::from_utf8(me.stdout).unwrap().trim().to_owned();
    if me == "root" {
        fs::create_dir_all("/run/sshd").unwrap();
    }
    new_key(home, "host", &["ed25519"]);
    let key = new_key(home, "id", &["ed25519"]);
    let ours = authority();
    fs::write(home.join("trusted"), ours.public_line()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let root = home.display();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {root}/host\nTrustedUserCAKeys {root}/trusted\n\
         AuthorizedKeysFile none\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    );
    fs::write(home.join("config"), config).unwrap();
    let mut sshd = Command::new("/usr/sbin/sshd")
        .args(["-D", "-E", &format!("{root}/log"), "-f", &format!("{root}/config")])
        .spawn()
        .expect("these tests need openssh-server");
    while TcpListener::bind(("127.0.0.1", port)).is_ok() {
        assert!(sshd.try_wait().unwrap().is_none(), "sshd did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let now = Timestamp::now();
    let principals = [me.clone()];
    let enters = |authority: &SshAuthority| {
        let asked = UserAsk {
            valid_after: now - SignedDuration::from_secs(SSH_SKEW_S),
            valid_before: now + SignedDuration::from_secs(600),
            ..ask(&key, &principals)
        };
        fs::write(home.join("id-cert.pub"), authority.issue_user(&asked).unwrap().line).unwrap();
        let ran = Command::new("ssh")
            .args(["-F", "none", "-p", &port.to_string(), "-l", &me])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-i"])
            .arg(home.join("id"))
            .args(["127.0.0.1", "echo in"])
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (String::from_utf8_lossy(&ran.stdout).into_owned(), ran.status.code())
    };
    let (good, foreign) = (enters(&ours), enters(&authority()));
    sshd.kill().unwrap();
    sshd.wait().unwrap();
    let log = fs::read_to_string(home.join("log")).unwrap();
    assert_eq!(good, ("in\n".to_owned(), Some(0)), "{log}");
    assert_eq!(foreign, (String::new(), Some(255)), "{log}");
}
