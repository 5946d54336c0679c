//! Signing in by the code flow at a certified OpenID provider: identity's client against somebody
//! else's idea of the specifications. The gateway's own pages are tested elsewhere.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::ExposeSecret;
use weir::identity::ClientOptions;
use weir::identity::Fetch;
use weir::identity::FetchError;
use weir::identity::GoesOn;
use weir::identity::Identity;
use weir::identity::IdentityError;
use weir::identity::Options;
use weir::identity::ProviderOptions;
use weir::identity::Request;
use weir::identity::Response;
use weir::identity::SignedIn;
use weir::model::Clock;
use weir::model::clock::System;
use weir::model::login::StepUp;

use crate::demo::Ran;
use crate::identity::Provider;
use crate::parts;

const BACK: &str = "http://127.0.0.1/callback";
/// Most pages of a sign-in.
const PAGES_MAX: usize = 20;

fn curl(arguments: &[&str]) -> String {
    let mut curl = Command::new(parts::program("curl"));
    curl.args(["-sS", "--max-time", "10"]).args(arguments);
    let ran = Ran::of(&curl.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out
}

/// Speaks to providers by curl.
struct Curl;

impl Fetch for Curl {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Response, FetchError>> {
        let request = Request { url: url.to_owned(), authorization: None, form: None };
        async move { Ok(exchange(&request)) }.boxed()
    }

    fn send<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, FetchError>> {
        async move { Ok(exchange(request)) }.boxed()
    }
}

fn exchange(request: &Request) -> Response {
    let header = request.authorization.as_ref();
    let header = header.map(|secret| format!("Authorization: {}", secret.expose_secret()));
    let form = request.form.as_ref().map(|form| form.expose_secret());
    let mut arguments = vec!["-w", "\n%{http_code}", request.url.as_str()];
    arguments.extend(header.iter().flat_map(|header| ["-H", header]));
    arguments.extend(form.iter().flat_map(|form| ["--data", *form]));
    let answer = curl(&arguments);
    let (body, status) = answer.rsplit_once('\n').unwrap();
    Response { status: status.parse().unwrap(), body: body.to_owned().into() }
}

/// What a browser does: follows, fills in who it is, agrees. Gives the query it comes back with.
fn browse(url: &str, jar: &Path, person: &str) -> Vec<(String, String)> {
    let jar = jar.to_str().unwrap();
    let origin = url.split('/').take(3).collect::<Vec<_>>().join("/");
    let absolute = |url: &str| match url.starts_with('/') {
        true => format!("{origin}{url}"),
        false => url.to_owned(),
    };
    let login = format!("prompt=login&login={person}&password=any");
    let mut page = curl(&["-i", "-c", jar, "-b", jar, url]);
    for _ in 0..PAGES_MAX {
        let head = page.split("\r\n\r\n").next().unwrap();
        let mut lines = head.lines().map(|line| line.split_once(": ").unwrap_or_default());
        let location = lines.find(|(name, _)| name.eq_ignore_ascii_case("location"));
        page = match location {
            Some((_, back)) if back.starts_with(BACK) => {
                let query = back.split_once('?').unwrap().1;
                let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
                return pairs.map(|(name, value)| (name.into(), value.into())).collect();
            }
            Some((_, location)) => curl(&["-i", "-c", jar, "-b", jar, &absolute(location)]),
            None => {
                let within = |begin: &str| {
                    let after = page.split_once(begin).unwrap_or_else(|| panic!("{page}")).1;
                    after.split('"').next().unwrap().to_owned()
                };
                let action = absolute(&within(" action=\""));
                let prompt = within("name=\"prompt\" value=\"");
                let agree = format!("prompt={prompt}");
                let form = if prompt == "login" { &login } else { &agree };
                curl(&["-i", "-c", jar, "-b", jar, "--data", form, &action])
            }
        };
    }
    panic!("never came back: {page}");
}

struct Client {
    identity: Identity,
    jar: tempfile::TempDir,
}

impl Client {
    fn of(provider: &Provider) -> Self {
        let fetch: Arc<dyn Fetch> = Arc::new(Curl);
        let clock: Arc<dyn Clock> = Arc::new(System);
        let mut options = ProviderOptions::new(provider.issuer(), "weir");
        options.client = Some(ClientOptions { consent: true, ..ClientOptions::public("weir") });
        options.mapping.name = "sub".parse().unwrap();
        let options = Options { providers: vec![options] };
        let identity = Identity::new(options, &fetch, &clock).unwrap();
        Self { identity, jar: tempfile::tempdir().unwrap() }
    }

    async fn sign_in(
        &self,
        person: &str,
        step_up: Option<&StepUp>,
    ) -> Result<SignedIn, IdentityError> {
        let (url, pending) = self.identity.start(None, BACK, step_up).await?;
        let back = browse(&url, &self.jar.path().join("jar"), person);
        let field = |name: &str| {
            let found = back.iter().find(|(known, _)| known == name).map(|(_, value)| value);
            found.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
        };
        pending.answered(&field("state").unwrap(), field("iss").as_deref())?;
        assert!(pending.answered(&field("state").unwrap(), None).is_err(), "it names itself");
        let code = field("code").unwrap();
        let signed_in = self.identity.finish(&pending, &code).await?;
        let again = self.identity.finish(&pending, &code).await;
        assert!(matches!(again, Err(IdentityError::CodeRefused { .. })), "{again:?}");
        Ok(signed_in)
    }
}

#[tokio::test]
async fn a_person_signs_in_at_a_certified_provider_and_is_renewed() {
    let provider = Provider::start();
    let client = Client::of(&provider);
    // The provider withdraws what a code gave when the code is shown twice (RFC 6749 §4.1.2): so
    // the refresh token of this sign-in is refused, as one that was revoked.
    let dana = client.sign_in("dana", None).await.unwrap();
    assert_eq!(dana.verified.principal().subject, "dana");
    let refused = client.identity.refresh(&provider.issuer(), &dana.refresh.unwrap()).await;
    assert!(matches!(refused, Err(IdentityError::RefreshRefused)), "{refused:?}");

    let (url, pending) = client.identity.start(None, BACK, None).await.unwrap();
    let back = browse(&url, &client.jar.path().join("other"), "alice");
    let code = &back.iter().find(|(name, _)| name == "code").unwrap().1;
    let alice = client.identity.finish(&pending, code).await.unwrap();
    let first = alice.refresh.unwrap();
    let renewed = client.identity.refresh(&provider.issuer(), &first).await.unwrap();
    let GoesOn::As(renewed) = renewed else { panic!("{renewed:?}") };
    assert_eq!(renewed.verified.principal(), alice.verified.principal());
    assert!(renewed.refresh.is_some());
}

#[tokio::test]
async fn a_step_up_is_a_fresh_sign_in_and_what_is_not_given_is_not_taken() {
    let provider = Provider::start();
    let client = Client::of(&provider);
    let fresh = StepUp { age_s_max: Some(0), ..StepUp::default() };
    client.sign_in("alice", Some(&fresh)).await.unwrap();
    let strong = StepUp { acr: Some("gold".to_owned()), ..StepUp::default() };
    let (url, pending) = client.identity.start(None, BACK, Some(&strong)).await.unwrap();
    let back = browse(&url, &client.jar.path().join("jar"), "alice");
    let code = &back.iter().find(|(name, _)| name == "code").unwrap().1;
    let error = client.identity.finish(&pending, code).await.unwrap_err();
    assert!(matches!(error, IdentityError::StepUp(_)), "{error}");
}
