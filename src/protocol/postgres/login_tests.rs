//! What clients meet until they have a session, over a stream in memory: every way to prove who one
//! is, and what is said to those who cannot. There is no server behind: whoever is let in hears that
//! the target cannot be reached.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;

use crate::model::Protocol;
use crate::model::login::LoginEnd;
use crate::model::login::Presented;
use crate::model::login::Use;
use crate::model::target::WithoutBasis;
use crate::protocol::postgres::Postgres;
use crate::protocol::postgres::hello::Secured;
use crate::protocol::postgres::wire::Build;
use crate::session::testing::World;
use crate::target;
use crate::target::Credential;
use crate::target::PostgresAuth;
use crate::target::PostgresTarget;
use crate::target::Reach;
use crate::target::UpstreamTls;

const POLICIES: &str = r#"
@id("t.connect") permit (principal, action == Weir::Action::"connect", resource);
"#;

const CHALLENGE: &[u8] = br#"{"status":"invalid_token","scope":"postgres","openid-configuration":"https://weir.test/.well-known/openid-configuration"}"#;

/// `customers`, which takes providers' tokens; `vault`, which does not and wants OAUTHBEARER.
async fn world() -> World {
    // Nobody listens on port 1.
    let target = |name: &str, auth: PostgresAuth, provider_tokens: bool| target::Options {
        name: name.parse().unwrap(),
        region: "here".parse().unwrap(),
        owner: "acme-de".parse().unwrap(),
        laws: BTreeSet::new(),
        us_persons: None,
        labels: BTreeSet::new(),
        classes: BTreeSet::new(),
        without_basis: WithoutBasis::Refuse,
        observe: false,
        provider_tokens,
        reach: Reach::Postgres(PostgresTarget {
            address: "127.0.0.1:1".parse().unwrap(),
            databases: vec!["main".parse().unwrap(), "archive".parse().unwrap()],
            login: "weir_app".parse().unwrap(),
            credential: Credential::new("a test", || {
                Ok::<_, std::io::Error>(SecretString::from("upstream"))
            }),
            auth,
            tls: UpstreamTls::Off,
            tables: BTreeMap::new(),
        }),
    };
    let customers = target("customers", PostgresAuth::Password, true);
    let vault = target("vault", PostgresAuth::Oauth, false);
    World::new(POLICIES, vec![customers, vault]).await
}

/// A message of the gateway's: its type and its body.
type Message = (char, Vec<u8>);

struct Client(DuplexStream);

impl Client {
    fn begin(world: &World, certificate: Option<Presented>, pairs: &[(&str, &str)]) -> Self {
        Self::of_version(world, 3 << 16, certificate, pairs)
    }

    fn of_version(
        world: &World,
        version: i32,
        certificate: Option<Presented>,
        pairs: &[(&str, &str)],
    ) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let postgres = Arc::new(Postgres::new(world.gateway()));
        let secured = Secured { stream: near, sni: None, certificate };
        tokio::spawn(async move { postgres.serve_tls(secured, World::origin()).await });
        let build = Build::untyped().int32(version);
        let build =
            pairs.iter().fold(build, |build, (name, value)| build.string(name).string(value));
        let packet = build.byte(0).done().into_bytes();
        let mut client = Self(far);
        // The pipe is larger than any packet here, so that this does not wait.
        futures_util::FutureExt::now_or_never(client.0.write_all(&packet)).unwrap().unwrap();
        client
    }

    async fn send(&mut self, body: &[u8]) {
        let message = Build::new(b'p').raw(body).done();
        self.0.write_all(message.bytes()).await.unwrap();
    }

    async fn initial(&mut self, data: &[u8]) {
        let length = i32::try_from(data.len()).unwrap().to_be_bytes();
        self.send(&[&b"OAUTHBEARER\0"[..], &length, data].concat()).await;
    }

    async fn read(&mut self) -> Message {
        let tag = self.0.read_u8().await.unwrap();
        let length = usize::try_from(self.0.read_u32().await.unwrap()).unwrap();
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).await.unwrap();
        (char::from(tag), body)
    }

    /// The error at the end: SQLSTATE, message, hint.
    async fn no(&mut self) -> [String; 3] {
        let (tag, body) = self.read().await;
        assert_eq!(tag, 'E', "{}", String::from_utf8_lossy(&body));
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "something behind the end");
        let field = |name: u8| {
            let mut fields = body.split(|byte| *byte == 0);
            let found = fields.find(|field| field.first() == Some(&name)).unwrap_or_default();
            String::from_utf8_lossy(found.get(1..).unwrap_or_default()).into_owned()
        };
        assert_eq!(field(b'S'), "FATAL");
        [field(b'C'), field(b'M'), field(b'H')]
    }

    /// Answers the request for a password.
    async fn password(mut self, password: &str) -> [String; 3] {
        assert_eq!(self.read().await, ('R', vec![0, 0, 0, 3]));
        self.send(&[password.as_bytes(), &[0]].concat()).await;
        self.no().await
    }

    async fn is_asked_for_oauth(&mut self) {
        let asked = [&10_i32.to_be_bytes()[..], b"OAUTHBEARER\0\0"].concat();
        assert_eq!(self.read().await, ('R', asked));
    }

    /// Hears where to get a token, and says that it has heard.
    async fn is_challenged(&mut self) {
        let challenge = [&11_i32.to_be_bytes()[..], CHALLENGE].concat();
        assert_eq!(self.read().await, ('R', challenge));
        self.send(b"\x01").await;
    }

    async fn bearer(mut self, token: &str) -> [String; 3] {
        self.is_asked_for_oauth().await;
        self.initial(format!("n,,\x01auth=Bearer {token}\x01\x01").as_bytes()).await;
        self.no().await
    }
}

const ALICE: [(&str, &str); 2] = [("user", "alice"), ("database", "customers")];
const VAULT: [(&str, &str); 2] = [("user", "alice"), ("database", "vault")];

fn with<'a>(pairs: &[(&'a str, &'a str)], more: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    [pairs, &[more]].concat()
}

/// Whoever is let in hears of the target, which is not there.
fn is_in(no: &[String; 3]) -> bool {
    no[0] == "08006" && no[1].contains("cannot be reached")
}

fn is_not_accepted(no: &[String; 3]) -> bool {
    no[0] == "28000" && no[1] == "the credential was not accepted" && no[2].contains("`weir login`")
}

fn is_no_place_for_tokens(no: &[String; 3]) -> bool {
    no[0] == "28000" && no[1].contains("provider's token") && no[2].contains("`weir login`")
}

#[tokio::test]
async fn a_session_credential_is_a_password_and_a_provider_s_token_only_where_the_target_says_so() {
    let world = world().await;
    let (login, secret) = world.sign_in("alice", &[]).await;
    let token = world.token("alice", &[]);
    for password in [&secret, &token] {
        let no = Client::begin(&world, None, &ALICE).password(password).await;
        assert!(is_in(&no), "{no:?}");
    }
    assert!(world.record().contains(login.id.as_str()), "the record names the login");
    let chosen = with(&VAULT, ("weir.auth", "password"));
    let no = Client::begin(&world, None, &chosen).password(&secret).await;
    assert!(is_in(&no), "{no:?}");
    let no = Client::begin(&world, None, &chosen).password(&token).await;
    assert!(is_no_place_for_tokens(&no), "{no:?}");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_credential_the_words_are_the_same() {
    let world = world().await;
    let (login, secret) = world.sign_in("alice", &[]).await;
    let postgres = Use::Target(Protocol::Postgres);
    let elsewhere = world.narrowed(&login, postgres, Some("vault")).await;
    let ssh = world.narrowed(&login, Use::Target(Protocol::Ssh), None).await;
    let control = world.narrowed(&login, Use::Control, None).await;
    // Another last sign than it has.
    let last = if secret.ends_with('A') { 'B' } else { 'A' };
    let nearly = format!("{}{last}", secret.strip_suffix(char::is_alphanumeric).unwrap_or(&secret));
    let mut all = BTreeSet::new();
    for password in [&elsewhere, &ssh, &control, &nearly, "weir_s_", "nonsense", ""] {
        let no = Client::begin(&world, None, &ALICE).password(password).await;
        assert!(is_not_accepted(&no), "{no:?}");
        all.insert(no);
    }
    let here = world.narrowed(&login, postgres, Some("customers")).await;
    assert!(is_in(&Client::begin(&world, None, &ALICE).password(&here).await));
    world.gateway().logins.end(&login.id, LoginEnd::LoggedOut).await.unwrap();
    all.insert(Client::begin(&world, None, &ALICE).password(&here).await);
    assert_eq!(all.len(), 1, "{all:?}");
}

#[tokio::test]
async fn a_certificate_goes_before_everything_else_and_nothing_is_asked() {
    let world = world().await;
    let (login, _) = world.sign_in("alice", &[]).await;
    world.certify(&login, b"alice's").await;
    let shown = |der: &[u8], ours: bool| Some(Presented { der: der.to_vec(), ours });
    let oauth = with(&ALICE, ("weir.auth", "oauth"));
    for pairs in [&ALICE[..], &VAULT, &oauth] {
        let no = Client::begin(&world, shown(b"alice's", true), pairs).no().await;
        assert!(is_in(&no), "{no:?}");
    }
    // It is alice's, whoever they say to be.
    let olaf = [("user", "olaf"), ("database", "customers")];
    let no = Client::begin(&world, shown(b"alice's", true), &olaf).no().await;
    assert_eq!(no[0], "28000");
    assert_eq!(no[2], "connect with user=alice");
    let unknown = Client::begin(&world, shown(b"another", true), &ALICE).no().await;
    assert!(is_not_accepted(&unknown), "{unknown:?}");
    // A foreign one is no reason to go on to the password: that is said, with the way out.
    for der in [&b"foreign"[..], b"alice's"] {
        let foreign = Client::begin(&world, shown(der, false), &ALICE).no().await;
        assert_eq!(foreign[0], "28000");
        assert!(foreign[1].contains("not one of this gateway's"), "{foreign:?}");
        assert!(foreign[2].contains("sslcertmode=disable"), "{foreign:?}");
    }
}

#[tokio::test]
async fn the_client_s_choice_goes_before_the_target_s_setting() {
    let world = world().await;
    let asks = async |pairs: &[(&str, &str)]| Client::begin(&world, None, pairs).read().await.1[3];
    assert_eq!(asks(&ALICE).await, 3);
    assert_eq!(asks(&with(&ALICE, ("options", "-c weir.auth=oauth"))).await, 10);
    assert_eq!(asks(&VAULT).await, 10);
    assert_eq!(asks(&with(&VAULT, ("weir.auth", "password"))).await, 3);
    assert_eq!(asks(&[("user", "alice"), ("database", "nosuch")]).await, 3);
    let no = Client::begin(&world, None, &with(&ALICE, ("weir.auth", "trust"))).no().await;
    assert_eq!((no[0].as_str(), no[2].as_str()), ("28000", "it takes one of: password, oauth"));
}

#[tokio::test]
async fn a_newer_protocol_is_negotiated_before_anything_else() {
    let world = world().await;
    let (login, _) = world.sign_in("alice", &[]).await;
    world.certify(&login, b"alice's").await;
    let certificate = Some(Presented { der: b"alice's".to_vec(), ours: true });
    for certificate in [None, certificate] {
        let mut client = Client::of_version(&world, 3 << 16 | 0x270f, certificate, &ALICE);
        assert_eq!(client.read().await, ('v', vec![0, 3, 0, 2, 0, 0, 0, 0]));
    }
}

#[tokio::test]
async fn whoever_has_no_token_hears_where_to_get_one_and_nothing_is_held_against_them() {
    let world = world().await;
    let mut client = Client::begin(&world, None, &VAULT);
    client.is_asked_for_oauth().await;
    client.initial(b"n,,\x01auth=\x01\x01").await;
    client.is_challenged().await;
    assert_eq!(client.no().await[0], "28000");
    assert!(world.record().is_empty(), "{}", world.record());
    let (login, secret) = world.sign_in("alice", &[]).await;
    let no = Client::begin(&world, None, &VAULT).bearer(&secret).await;
    assert!(is_in(&no), "{no:?}");
    assert!(world.record().contains(login.id.as_str()));
}

#[tokio::test]
async fn a_bad_bearer_is_challenged_and_then_told() {
    let world = world().await;
    let token = world.token("alice", &[]);
    for bad in ["weir_s_nothing", "weir_r_nothing", "nonsense", &token] {
        let mut client = Client::begin(&world, None, &VAULT);
        client.is_asked_for_oauth().await;
        client.initial(format!("n,,\x01auth=Bearer {bad}\x01\x01").as_bytes()).await;
        client.is_challenged().await;
        let no = client.no().await;
        let ours = bad.starts_with("weir_");
        assert!(if ours { is_not_accepted(&no) } else { is_no_place_for_tokens(&no) }, "{no:?}");
    }
    // Where providers' tokens count, they count in OAUTHBEARER too.
    let oauth = with(&ALICE, ("weir.auth", "oauth"));
    let no = Client::begin(&world, None, &oauth).bearer(&token).await;
    assert!(is_in(&no), "{no:?}");
}

#[tokio::test]
async fn a_client_may_wait_to_be_asked_for_its_first_message() {
    let world = world().await;
    let (_, secret) = world.sign_in("alice", &[]).await;
    let mut client = Client::begin(&world, None, &VAULT);
    client.is_asked_for_oauth().await;
    client.send(b"OAUTHBEARER\0\xff\xff\xff\xff").await;
    assert_eq!(client.read().await, ('R', vec![0, 0, 0, 11]));
    client.send(format!("n,,\x01auth=Bearer {secret}\x01\x01").as_bytes()).await;
    assert!(is_in(&client.no().await));
}

#[tokio::test]
async fn messages_out_of_place_end_the_connection() {
    let world = world().await;
    let (_, secret) = world.sign_in("alice", &[]).await;
    let token = format!("n,,\x01auth=Bearer {secret}\x01\x01");
    let binding = format!("p=tls-exporter,,\x01auth=Bearer {secret}\x01\x01");
    let other = format!("n,a=olaf,\x01auth=Bearer {secret}\x01\x01");
    for message in [&binding, &other, "n,,\x01", "", &format!("{token}x")] {
        let mut client = Client::begin(&world, None, &VAULT);
        client.is_asked_for_oauth().await;
        client.initial(message.as_bytes()).await;
        assert_eq!(client.no().await[0], "08P01", "{message:?}");
    }
    for body in [&b"SCRAM-SHA-256\0\0\0\0\0"[..], b"OAUTHBEARER", b"", token.as_bytes()] {
        let mut client = Client::begin(&world, None, &VAULT);
        client.is_asked_for_oauth().await;
        client.send(body).await;
        assert_eq!(client.no().await[0], "08P01");
    }
    // Anything but the one byte behind a challenge.
    let mut client = Client::begin(&world, None, &VAULT);
    client.is_asked_for_oauth().await;
    client.initial(b"n,,\x01auth=\x01\x01").await;
    assert_eq!(client.read().await.0, 'R');
    client.send(b"\x02").await;
    assert_eq!(client.no().await[0], "08P01");
    // A query before the password.
    let mut client = Client::begin(&world, None, &ALICE);
    assert_eq!(client.read().await.0, 'R');
    let query = Build::new(b'Q').string("SELECT 1").done();
    client.0.write_all(query.bytes()).await.unwrap();
    assert_eq!(client.no().await[0], "08P01");
}

#[tokio::test]
async fn a_database_that_is_not_offered_is_refused_with_those_that_are() {
    let world = world().await;
    let (_, secret) = world.sign_in("alice", &[]).await;
    let database = |name: &'static str| [("user", "alice"), ("database", name)];
    let no = Client::begin(&world, None, &database("customers/archive")).password(&secret).await;
    assert!(is_in(&no), "{no:?}");
    let no = Client::begin(&world, None, &database("customers/nosuch")).password(&secret).await;
    assert_eq!((no[0].as_str(), no[2].as_str()), ("3D000", "it offers: main, archive"));
    // Nothing is told of it to whoever is not known.
    let no = Client::begin(&world, None, &database("customers/nosuch")).password("x").await;
    assert!(is_not_accepted(&no), "{no:?}");
}
