//! Who gets in: by certificate, by a link while the connection waits, and who does not.

use ipnet::IpNet;
use jiff::SignedDuration;
use jiff::Timestamp;
use russh::client;
use russh::client::AuthResult;
use russh::client::KeyboardInteractiveAuthResponse;
use russh::keys::Certificate;
use russh::keys::PrivateKey;
use russh::server::Auth;
use secrecy::ExposeSecret;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::*;
use crate::model::Clock;
use crate::model::clock::System;
use crate::model::login::Credential;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::LoginEnd;
use crate::protocol::ssh::activity::Activity;
use crate::protocol::ssh::hello::ASKS_MAX;
use crate::protocol::ssh::hello::Hello;
use crate::protocol::ssh::hello::Shared;
use crate::protocol::ssh::hello::Tried;
use crate::protocol::ssh::overheard::Overheard;
use crate::session::testing::Wanted;
use crate::session::testing::ssh_certificate::HostAsk;
use crate::session::testing::ssh_certificate::SshAuthority;
use crate::session::testing::ssh_certificate::SshExtension;
use crate::session::testing::ssh_certificate::SshIssued;
use crate::session::testing::ssh_certificate::UserAsk;

/// Somebody's key, and what they are to be certified as.
struct Asking {
    key: Arc<PrivateKey>,
    principal: &'static str,
    from_s: i64,
    until_s: i64,
    networks: Vec<IpNet>,
}

impl Asking {
    fn alice() -> Self {
        let pem = generate_host_key().unwrap();
        let key = Arc::new(PrivateKey::from_openssh(pem.expose_secret()).unwrap());
        Self { key, principal: "alice", from_s: -30, until_s: 600, networks: Vec::new() }
    }

    fn public_key(&self) -> String {
        self.key.public_key().to_openssh().unwrap()
    }

    fn issue(&self, authority: &SshAuthority) -> SshIssued {
        let principals = ["weir:l-7kq2m9xdb4tz".to_owned(), self.principal.to_owned()];
        let ask = UserAsk {
            public_key: &self.public_key(),
            principals: &principals,
            key_id: "alice",
            serial: 1,
            valid_after: at(self.from_s),
            valid_before: at(self.until_s),
            source_address: &self.networks,
            extensions: &[SshExtension::Pty],
        };
        authority.issue_user(&ask).unwrap()
    }
}

fn at(seconds: i64) -> Timestamp {
    System.now() + SignedDuration::from_secs(seconds)
}

/// A client that believes every host.
struct Believer;

impl client::Handler for Believer {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

impl Rig {
    /// Alice, and a rig where no target takes a provider's token.
    async fn without_tokens() -> (Self, Login) {
        let rig = Self::with(POLICIES, |target| target.provider_tokens = false).await;
        let (login, _) = rig.world.sign_in("alice", &["engineer"]).await;
        (rig, login)
    }

    fn user(&self) -> String {
        format!("{}@web-1", self.login)
    }

    /// Makes a certificate known, as the API does.
    async fn keep(&self, login: &Login, issued: &SshIssued) -> Credential {
        let logins = &self.world.gateway().logins;
        let kept = (Form::SshCertificate, issued.digest);
        logins.certified(&login.id, kept, Wanted::everything(), 3_600).await.unwrap()
    }

    async fn client(&self) -> client::Handle<Believer> {
        let config = Arc::new(client::Config::default());
        client::connect(config, ("127.0.0.1", self.port), Believer).await.unwrap()
    }

    /// Whether a certificate signs in, with its key.
    async fn enters(&self, asking: &Asking, issued: &SshIssued) -> bool {
        let certificate = Certificate::from_openssh(&issued.line).unwrap();
        let mut client = self.client().await;
        let key = Arc::clone(&asking.key);
        let done = client.authenticate_openssh_cert(self.user(), key, certificate).await;
        matches!(done, Ok(AuthResult::Success))
    }

    /// `ssh` with a key and its certificate, which asks nobody anything.
    fn batch(&self, asking: &Asking, issued: &SshIssued) -> Command {
        let path = self.world.dir().join("id");
        let key = asking.key.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
        write(&path, &key, 0o600);
        write(&self.world.dir().join("id-cert.pub"), &issued.line, 0o600);
        let mut ssh = self.tool("ssh", &self.user(), "");
        ssh.args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"]).arg(path);
        ssh.env_remove("SSH_AUTH_SOCK");
        ssh
    }

    /// `ssh` of somebody who has nothing, and shows what it is told.
    fn bare(&self, answer: &str) -> Command {
        let tool = self.tool("ssh", &self.user(), answer);
        // The first value of an option counts for OpenSSH: ours go first.
        let mut ssh = Command::new("ssh");
        ssh.args(["-o", "LogLevel=INFO", "-o", "IdentitiesOnly=yes"]);
        ssh.args(tool.as_std().get_args()).arg("127.0.0.1");
        ssh.envs(tool.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        ssh.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null()).kill_on_drop(true);
        ssh.stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh
    }
}

/// Reads until there is a code, which is given; and everything read so far.
async fn code(child: &mut Child) -> (String, String) {
    let mut told = String::new();
    let err = child.stderr.as_mut().unwrap();
    loop {
        let mut piece = [0; 512];
        let read = in_time(err.read(&mut piece)).await.unwrap();
        assert_ne!(read, 0, "no link was shown: {told}");
        told.push_str(&String::from_utf8_lossy(&piece[..read]));
        if let Some((_, rest)) = told.split_once("show the code ")
            && let Some((code, _)) = rest.split_once('.')
        {
            return (code.to_owned(), told);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_signs_in_without_a_question_until_it_is_revoked() {
    let (rig, login) = Rig::without_tokens().await;
    let gateway = rig.world.gateway();
    let asking = Asking::alice();
    let issued = asking.issue(&gateway.ssh_authority);
    let mut unknown = rig.batch(&asking, &issued);
    unknown.args(["127.0.0.1", "echo in"]);
    assert_eq!(ended(unknown).await.status.code(), Some(255), "it is not known yet");
    let credential = rig.keep(&login, &issued).await;
    let mut known = rig.batch(&asking, &issued);
    known.args(["127.0.0.1", "echo in"]);
    let done = ended(known).await;
    assert_eq!((out(&done).as_str(), done.status.code()), ("in\n", Some(0)), "{}", err(&done));

    // While it is used: the session ends, and says why.
    let mut long = rig.batch(&asking, &issued);
    long.args(["127.0.0.1", "echo begun; sleep 600"]);
    let mut child = long.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("begun"));
    let by = LoginEnd::Revoked { by: "dana".to_owned() };
    assert!(gateway.logins.revoke(&credential.id, by).await.unwrap());
    let done = in_time(child.wait_with_output()).await.unwrap();
    assert_ne!(done.status.code(), Some(0));
    assert!(err(&done).contains("revoked by dana"), "{}", err(&done));
    assert!(!rig.enters(&asking, &issued).await, "afterwards");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_opened_with_a_certificate_carries_many_commands() {
    let (rig, login) = Rig::without_tokens().await;
    let asking = Asking::alice();
    let issued = asking.issue(&rig.world.gateway().ssh_authority);
    rig.keep(&login, &issued).await;
    let control = format!("ControlPath={}", rig.world.dir().join("c").display());
    let with = |words: &[&str]| {
        let mut ssh = rig.batch(&asking, &issued);
        ssh.args(["-o", &control]).args(words);
        ssh
    };
    let mut master = with(&["-o", "ControlMaster=yes", "-fN", "127.0.0.1"]);
    // It goes into the background once it is signed in, and would keep its pipes.
    master.stdout(Stdio::null()).stderr(Stdio::null());
    assert!(in_time(master.status()).await.unwrap().success());
    for word in ["one", "two"] {
        let done = ended(with(&["127.0.0.1", &format!("echo {word}")])).await;
        assert_eq!(out(&done), format!("{word}\n"), "{}", err(&done));
        assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    }
    // A channel of a shared connection is closed by OpenSSH as soon as both directions are over.
    let done = ended(with(&["127.0.0.1", "echo out; exec >&- 2>&-; sleep 0.5; exit 4"])).await;
    assert_eq!((out(&done).as_str(), done.status.code()), ("out\n", Some(4)), "{}", err(&done));
    let record = rig.world.record();
    assert!(record.contains("exit 4") && !record.contains("went away"), "{record}");
    assert_eq!(rig.world.open_trails(), 1, "it is one session");
    ended(with(&["-O", "exit", "127.0.0.1"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_good_here_are_refused_though_their_login_stands() {
    let (rig, login) = Rig::without_tokens().await;
    let ours = Arc::clone(&rig.world.gateway().ssh_authority);
    let foreign = SshAuthority::from_pkcs8(&SshAuthority::generate().unwrap()).unwrap();
    let good = Asking { networks: vec!["127.0.0.0/8".parse().unwrap()], ..Asking::alice() };
    let issued = good.issue(&ours);
    rig.keep(&login, &issued).await;
    assert!(rig.enters(&good, &issued).await);
    // Somebody else's key with a good certificate.
    assert!(!rig.enters(&Asking::alice(), &issued).await, "the key was not proved");
    let alice = Asking::alice;
    let elsewhere = vec!["192.0.2.0/24".parse().unwrap()];
    for (what, asking) in [
        ("another's", Asking { principal: "bob", ..alice() }),
        ("expired", Asking { from_s: -600, until_s: -1, ..alice() }),
        ("not yet good", Asking { from_s: 60, ..alice() }),
        ("for elsewhere", Asking { networks: elsewhere, ..alice() }),
    ] {
        // Each is known, so that nothing but what it says is in its way.
        let issued = asking.issue(&ours);
        rig.keep(&login, &issued).await;
        assert!(!rig.enters(&asking, &issued).await, "{what}");
    }
    let asking = alice();
    let issued = asking.issue(&foreign);
    rig.keep(&login, &issued).await;
    assert!(!rig.enters(&asking, &issued).await, "another authority's");
    let host = HostAsk {
        public_key: &asking.public_key(),
        names: &["alice".to_owned()],
        key_id: "alice",
        serial: 1,
        valid_after: at(-30),
        valid_before: at(600),
    };
    let issued = ours.issue_host(&host).unwrap();
    rig.keep(&login, &issued).await;
    assert!(!rig.enters(&asking, &issued).await, "a host's");
    let of_other_form = asking.issue(&ours);
    let kept = (Form::Certificate, of_other_form.digest);
    let logins = &rig.world.gateway().logins;
    logins.certified(&login.id, kept, Wanted::everything(), 3_600).await.unwrap();
    assert!(!rig.enters(&asking, &of_other_form).await, "known as something else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_shown_straight_to_the_target_opens_nothing() {
    let (rig, login) = Rig::without_tokens().await;
    let asking = Asking::alice();
    let issued = asking.issue(&rig.world.gateway().ssh_authority);
    rig.keep(&login, &issued).await;
    let mut direct = rig.batch(&asking, &issued);
    let (port, user) = (rig.sshd_port, &rig.login);
    let mut words = vec!["-o".to_owned(), "StrictHostKeyChecking=no".to_owned()];
    words.extend(["-l".to_owned(), user.clone(), "-p".to_owned(), port.to_string()]);
    // The first value of an option counts for OpenSSH: ours go first.
    let mut first = Command::new("ssh");
    first.args(words).args(["-o", "UserKnownHostsFile=/dev/null"]);
    first.args(direct.as_std().get_args()).args(["127.0.0.1", "echo in"]);
    first.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
    first.stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = ended(first).await;
    assert_eq!((out(&done).as_str(), done.status.code()), ("", Some(255)));
    assert!(err(&done).contains("Permission denied"), "{}", err(&done));
    direct.args(["127.0.0.1", "echo in"]);
    assert_eq!(out(&ended(direct).await), "in\n", "by the gateway it does");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_is_all_that_is_needed_to_know_the_gateway() {
    let (rig, login) = Rig::without_tokens().await;
    let asking = Asking::alice();
    let ours = Arc::clone(&rig.world.gateway().ssh_authority);
    let issued = asking.issue(&ours);
    rig.keep(&login, &issued).await;
    let known = rig.world.dir().join("known_by_authority");
    let line = format!("@cert-authority *.weir.test,weir.test {}\n", ours.public_line());
    write(&known, &line, 0o600);
    let with = |alias: &str| {
        let batch = rig.batch(&asking, &issued);
        let mut ssh = Command::new("ssh");
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        ssh.arg("-o").arg(format!("HostKeyAlias={alias}"));
        ssh.args(batch.as_std().get_args()).args(["127.0.0.1", "echo in"]);
        ssh.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        ssh.stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(ssh)
    };
    let plain = with("weir.test").await;
    assert!(err(&plain).contains("Host key verification failed"), "{}", err(&plain));
    // OpenSSH takes a `*` in its own line, and none in a certificate.
    let names = ["weir.test".to_owned(), "web-1.weir.test".to_owned()];
    let line = |public_key: &str| {
        let ask = HostAsk {
            public_key,
            names: &names,
            key_id: "weir.test",
            serial: 1,
            valid_after: at(-30),
            valid_before: at(600),
        };
        ours.issue_host(&ask).unwrap().line
    };
    rig.server.certify(&[line(&rig.server.public_keys()[0])]).unwrap();
    for name in ["weir.test", "web-1.weir.test"] {
        let done = with(name).await;
        assert_eq!(out(&done), "in\n", "{name}: {}", err(&done));
    }
    let other = with("web-2.weir.test").await;
    assert_eq!((out(&other).as_str(), other.status.code()), ("", Some(255)));
    // Who knows the key itself goes on as before.
    let mut key = rig.batch(&asking, &issued);
    key.args(["127.0.0.1", "echo in"]);
    assert_eq!(out(&ended(key).await), "in\n");
    // Only for a key that is held, and only a host's.
    let foreign = rig.server.certify(&[line(&asking.public_key())]);
    assert!(foreign.is_err() && rig.server.certify(std::slice::from_ref(&issued.line)).is_err());
    assert!(rig.server.certify(&["nonsense".to_owned()]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_nothing_signs_in_by_a_link_and_the_same_connection_goes_on() {
    let (rig, _) = Rig::without_tokens().await;
    let gateway = rig.world.gateway();
    let mut child = rig.bare("").arg("echo in").spawn().unwrap();
    let (code, told) = code(&mut child).await;
    assert!(told.contains(&format!("https://weir.test/device?code={code}")), "{told}");
    assert!(told.contains("what is done here is recorded"), "{told}");
    let open = gateway.invitations.find(&code, System.now()).unwrap();
    assert_eq!(open.asks.target.as_deref(), Some("web-1"));
    assert!(open.asks.program.starts_with("OpenSSH_"), "{}", open.asks.program);
    let token = rig.world.token("alice", &["engineer"]);
    let signed_in = gateway.logins.identity().verify(&token).await.unwrap();
    assert!(gateway.invitations.accept(&code, signed_in.verified, System.now()));
    let done = child.wait_with_output().await.unwrap();
    assert_eq!((out(&done).as_str(), done.status.code()), ("in\n", Some(0)), "{}", err(&done));
    assert!(rig.world.record().contains("alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_declined_or_left_lets_nobody_in() {
    let (rig, _) = Rig::without_tokens().await;
    let gateway = rig.world.gateway();
    let mut child = rig.bare("").arg("echo in").spawn().unwrap();
    let (first, _) = code(&mut child).await;
    assert!(gateway.invitations.decline(&first, System.now()));
    let done = child.wait_with_output().await.unwrap();
    assert_eq!((out(&done).as_str(), done.status.code()), ("", Some(255)));
    assert!(err(&done).contains("says that it was not them"), "{}", err(&done));

    let mut child = rig.bare("").arg("echo in").spawn().unwrap();
    let (second, _) = code(&mut child).await;
    child.kill().await.unwrap();
    let gone = || gateway.invitations.find(&second, System.now()).is_none();
    until("the end of an invitation", || gone().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tokens_are_taken_enter_is_pressed_or_one_is_pasted() {
    let rig = Rig::new().await;
    let gateway = rig.world.gateway();
    let mut child = rig.bare("").arg("echo in").spawn().unwrap();
    let (code, _) = code(&mut child).await;
    let token = rig.world.token("alice", &["engineer"]);
    let signed_in = gateway.logins.identity().verify(&token).await.unwrap();
    assert!(gateway.invitations.accept(&code, signed_in.verified, System.now()));
    assert_eq!(out(&child.wait_with_output().await.unwrap()), "in\n");
    let mut pasted = rig.bare(&token);
    pasted.arg("echo in");
    assert_eq!(out(&ended(pasted).await), "in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tokens_are_not_taken_a_session_credential_is_the_password() {
    let (rig, _) = Rig::without_tokens().await;
    let (_, credential) = rig.world.sign_in("alice", &["engineer"]).await;
    let token = rig.world.token("alice", &["engineer"]);
    for (secret, enters) in [(&credential, true), (&token, false)] {
        let mut ssh = rig.tool("ssh", &rig.user(), secret);
        ssh.args(["-o", "PreferredAuthentications=password", "127.0.0.1", "echo in"]);
        let done = ended(ssh).await;
        assert_eq!(out(&done) == "in\n", enters, "{}", err(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_key_is_no_sign_in_and_leaves_the_others_open() {
    let (rig, _) = Rig::without_tokens().await;
    let (_, credential) = rig.world.sign_in("alice", &["engineer"]).await;
    let mut client = rig.client().await;
    let asking = Asking::alice();
    for left in [true, true, false] {
        let key = russh::keys::PrivateKeyWithHashAlg::new(Arc::clone(&asking.key), None);
        let done = client.authenticate_publickey(rig.user(), key).await.unwrap();
        let AuthResult::Failure { remaining_methods, .. } = done else { panic!("signed in") };
        assert_eq!(remaining_methods.contains(&russh::MethodKind::PublicKey), left);
    }
    let done = client.authenticate_password(rig.user(), credential).await.unwrap();
    assert!(matches!(done, AuthResult::Success));
}

/// russh's own client, told to try another method while it is asked something, waits for an answer
/// to the question inside its loop: it drops what it is told, sends nothing and reads nothing, until
/// it is dropped itself. So the gateway hears of it by silence alone.
#[tokio::test]
async fn a_client_that_abandons_a_question_is_sent_away() {
    let (rig, _) = Rig::without_tokens().await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let limits = Limits { silent_s_max: 1, ..Limits::default() };
    let options = Options { host_keys: vec![generate_host_key().unwrap()], limits };
    let (server, gateway) = (Server::new(&options).unwrap(), rig.world.gateway());
    let serving = tokio::spawn(async move { server.serve(gateway, far, World::origin()).await });
    let config = Arc::new(client::Config::default());
    let mut client = client::connect_stream(config, near, Believer).await.unwrap();
    let asked = client.authenticate_keyboard_interactive_start(rig.user(), None).await.unwrap();
    let KeyboardInteractiveAuthResponse::InfoRequest { prompts, instructions, .. } = asked else {
        panic!("{asked:?}")
    };
    assert!(prompts.is_empty() && instructions.contains("To sign in, open"), "{instructions}");
    let second = client.authenticate_password(rig.user(), "weir_s_x");
    tokio::select! {
        ended = in_time(serving) => ended.unwrap(),
        answer = second => panic!("russh sends it now: {answer:?}"),
    }
}

#[test]
fn nobody_is_asked_for_life_before_they_are_signed_in() {
    // OpenSSH's client dies of a global request while it signs in (RFC 4252 §6).
    let config = crate::protocol::ssh::config(Vec::new(), Vec::new(), &Limits::default());
    assert_eq!(config.keepalive_interval, None);
}

/// A client may begin again and again without answering, which russh counts as no try: each time
/// another name is invited to sign in.
#[tokio::test]
async fn nobody_is_asked_without_end() {
    let (rig, _) = Rig::without_tokens().await;
    let (gateway, soon) = (rig.world.gateway(), tokio::time::Instant::now());
    let shared = Arc::new(Shared {
        entry: watch::Sender::new(None),
        patience: watch::Sender::new(soon),
        activity: Arc::new(Activity::new()),
        tasks: TaskTracker::new(),
    });
    let mut hello = Hello {
        gateway: Arc::clone(&gateway),
        origin: World::origin(),
        at: None,
        limits: Limits::default(),
        dials: Arc::default(),
        shared,
        program: Overheard::default(),
        soon,
        tried: Tried::default(),
    };
    let mut ask = |number: u32| hello.ask(&format!("login-{number}@web-1"));
    for number in 0..ASKS_MAX {
        assert!(matches!(ask(number), Auth::Partial { .. }), "{number}");
        let open = format!("{:?}", gateway.invitations);
        assert!(open.contains("open: 1"), "one at a time, whatever the name: {open}");
    }
    assert!(matches!(ask(ASKS_MAX), Auth::Reject { .. }));
    assert!(format!("{:?}", gateway.invitations).contains("open: 0"), "nobody waits");
}
