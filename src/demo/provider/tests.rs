//! The demo's provider, seen from its clients.

use secrecy::ExposeSecret;

use super::*;
use crate::identity::ClientOptions;
use crate::identity::Fetch;
use crate::identity::FetchError;
use crate::identity::Identity;
use crate::identity::IdentityError;
use crate::identity::LOCAL_TOKEN_BYTES_MAX;
use crate::identity::Options;
use crate::identity::Pending;
use crate::identity::ProviderOptions;
use crate::identity::Request;
use crate::identity::Response;
use crate::identity::SignedIn;
use crate::model::login::StepUp;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

const BACK: &str = "https://localhost:8443/oauth/callback";

/// Asks the desk without a socket.
struct Direct(Arc<Desk>);

impl Direct {
    fn say(&self, method: &Method, url: &str, fields: &Fields) -> Response {
        let uri = url.parse::<http::Uri>().unwrap();
        let now_s = clock::System.now().as_second();
        match said(&self.0, method, uri.path(), fields, now_s) {
            Said::Json(status, value) => {
                Response { status: status.as_u16(), body: value.to_string().into() }
            }
            Said::Page(..) | Said::Elsewhere(_) => panic!("{url}"),
        }
    }
}

impl Fetch for Direct {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Response, FetchError>> {
        let answer = self.say(&Method::GET, url, &Fields::new());
        async move { Ok(answer) }.boxed()
    }

    fn send<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, FetchError>> {
        let form = request.form.as_ref().unwrap().expose_secret();
        let answer = self.say(&Method::POST, &request.url, &form::parse(form));
        async move { Ok(answer) }.boxed()
    }
}

/// The provider, and a gateway's identity that believes it.
fn both() -> (Arc<Desk>, Identity) {
    let desk = Arc::new(Desk::new(LocalIssuer::new("http://127.0.0.1:20002").unwrap()));
    let fetch: Arc<dyn Fetch> = Arc::new(Direct(Arc::clone(&desk)));
    let clock: Arc<dyn Clock> = Arc::new(clock::System);
    let mut provider = ProviderOptions::new("http://127.0.0.1:20002", AUDIENCE);
    provider.client = Some(ClientOptions::public(AUDIENCE));
    let options = Options { providers: vec![provider] };
    (desk, Identity::new(options, &fetch, &clock).unwrap())
}

/// What a browser does: opens the page, presses a button, is sent back.
fn browse(desk: &Desk, url: &str, person: &str) -> Fields {
    let uri = url.parse::<http::Uri>().unwrap();
    let mut fields = form::parse(uri.query().unwrap());
    let Said::Page(StatusCode::OK, _) = said(desk, &Method::GET, uri.path(), &fields, now_s())
    else {
        panic!("no page: {url}")
    };
    fields.insert("person".to_owned(), person.to_owned());
    let Said::Elsewhere(back) = said(desk, &Method::POST, uri.path(), &fields, now_s()) else {
        panic!("not sent back: {url}")
    };
    let (place, query) = back.split_once('?').unwrap();
    assert_eq!(place, BACK);
    form::parse(query)
}

fn now_s() -> i64 {
    clock::System.now().as_second()
}

async fn sign_in(
    desk: &Desk,
    identity: &Identity,
    person: &str,
    step_up: Option<&StepUp>,
) -> Result<(Pending, String, SignedIn), IdentityError> {
    let (url, pending) = identity.start(None, BACK, step_up).await?;
    let back = browse(desk, &url, person);
    pending.answered(&back["state"], back.get("iss").map(String::as_str))?;
    let signed_in = identity.finish(&pending, &back["code"]).await?;
    Ok((pending, back["code"].clone(), signed_in))
}

#[tokio::test]
async fn a_person_signs_in_and_is_renewed_until_it_is_ended() {
    let (desk, identity) = both();
    let (pending, code, dana) = sign_in(&desk, &identity, "dana", None).await.unwrap();
    assert_eq!(dana.verified.principal().name, "dana");
    assert!(dana.sid.is_some());
    // A code counts once.
    let again = identity.finish(&pending, &code).await;
    assert!(matches!(again, Err(IdentityError::CodeRefused { .. })));
    let issuer = desk.issuer().issuer();
    let first = dana.refresh.unwrap();
    let renewed = identity.refresh(issuer, &first).await.unwrap().who();
    assert_eq!(renewed.sid, dana.sid);
    // So does a refresh token.
    let used = identity.refresh(issuer, &first).await;
    assert!(matches!(used, Err(IdentityError::RefreshRefused)));
    let tokens = desk.end("dana", now_s()).unwrap();
    let order = identity.logout_order(&tokens[0]).await.unwrap();
    assert_eq!((order.sid, order.subject.as_deref()), (dana.sid, Some("dana")));
    let ended = identity.refresh(issuer, &renewed.refresh.unwrap()).await;
    assert!(matches!(ended, Err(IdentityError::RefreshRefused)));
}

#[tokio::test]
async fn a_step_up_is_answered_as_it_was_asked_for() {
    let (desk, identity) = both();
    let amr = ["otp".to_owned()].into();
    let wanted = StepUp { age_s_max: Some(0), acr: Some("gold".to_owned()), amr };
    let (_, _, alice) = sign_in(&desk, &identity, "alice", Some(&wanted)).await.unwrap();
    assert_eq!(alice.verified.authentication().unwrap().acr.as_deref(), Some("gold"));
}

#[tokio::test]
async fn a_request_that_is_not_the_gateways_is_sent_nowhere() {
    let (desk, identity) = both();
    let (url, _) = identity.start(None, BACK, None).await.unwrap();
    let good = form::parse(url.split_once('?').unwrap().1);
    let with = |name: &str, value: &str| {
        let mut fields = good.clone();
        fields.insert(name.to_owned(), value.to_owned());
        desk.asked(&fields)
    };
    assert!(with("state", "x").is_ok());
    for (name, value) in [
        ("client_id", "other"),
        ("redirect_uri", "https://evil.example/oauth/callback"),
        ("redirect_uri", "https://localhost@evil.example/oauth/callback"),
        ("redirect_uri", "https://localhost.evil.example/oauth/callback"),
        ("redirect_uri", "http://localhost/oauth/callback"),
        ("redirect_uri", "https://localhost/oauth/callback?x"),
        ("redirect_uri", "https://localhost/other"),
        ("redirect_uri", ""),
    ] {
        assert!(matches!(with(name, value), Err(Unasked::Page(_))), "{name} {value}");
    }
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("scope", "profile", "invalid_scope"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("prompt", "none", "login_required"),
    ] {
        let Err(Unasked::Client(back)) = with(name, value) else { panic!("{name} {value}") };
        assert!(back.starts_with(BACK) && back.contains(error) && back.contains("iss="), "{back}");
    }
    // Nobody but who has the verifier gets a token for a code.
    let code = desk.chosen(desk.asked(&good).unwrap(), "mei", now_s()).unwrap();
    let code = form::parse(code.split_once('?').unwrap().1)["code"].clone();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", "weir"),
        ("code", &code),
        ("redirect_uri", BACK),
        ("code_verifier", "guessed"),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(desk.token(&fields, now_s()), Err(NoToken("invalid_grant")));
}

#[tokio::test]
async fn everybody_has_a_token_that_every_client_can_carry() {
    let provider = Provider::bind().await.unwrap();
    let tokens = provider.tokens().unwrap();
    assert_eq!(tokens.len(), PEOPLE.len());
    for token in &tokens {
        assert!(token.text.len() < LOCAL_TOKEN_BYTES_MAX, "{}", token.text.len());
        assert!(!format!("{token:?} {provider:?}").contains(&token.text));
    }
}

#[tokio::test]
async fn it_serves_its_documents_and_nothing_else() {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;

    let provider = Provider::bind().await.unwrap();
    let port = provider.listener.local_addr().unwrap().port();
    let issuer = provider.issuer().to_owned();
    let task = tokio::spawn(provider.serve());
    for (request, status, body) in [
        (format!("GET {DISCOVERY_PATH}"), "200", issuer.as_str()),
        (format!("GET {JWKS_PATH}"), "200", "\"kid\""),
        ("GET /".to_owned(), "404", ""),
        ("GET /token".to_owned(), "405", ""),
        ("GET /authorize?client_id=x".to_owned(), "400", "no such client"),
        (format!("POST {JWKS_PATH}"), "405", ""),
        ("POST /token".to_owned(), "400", "invalid_client"),
        ("POST /roles".to_owned(), "400", "nobody"),
    ] {
        let mut stream = crate::demo::server::connect(port).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains(body), "{request}: {answer}");
    }
    task.abort();
}
