//! Signing in at a provider: the gateway as an OpenID Connect client (OpenID Connect Core 1.0 §3.1,
//! with PKCE, RFC 7636), and renewing what it got (§12).
//!
//! ```text
//! start ── URL ──► browser ──► provider ──► browser ── code ──► finish ── code, verifier ──► provider
//!   └─ Pending (state, nonce, verifier) ─────────────────────────┘  └─ id token: nonce, azp, at_hash
//! ```

use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use openidconnect::CsrfToken;
use openidconnect::Nonce;
use openidconnect::PkceCodeChallenge;
use openidconnect::url::form_urlencoded;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;

use crate::identity::Identity;
use crate::identity::IdentityError;
use crate::identity::ProviderError;
use crate::identity::Request;
use crate::identity::Response;
use crate::identity::Verified;
use crate::identity::oidc::Metadata;
use crate::identity::provider::Provider;
use crate::identity::provider::Rests;
use crate::identity::token::CREDENTIALS;
use crate::identity::token::Claims;
use crate::identity::token::Token;
use crate::model::encode;
use crate::model::login::StepUp;

/// How long a sign-in may take, from the browser's leaving to its return, in seconds.
pub const PENDING_S_MAX: i64 = 10 * 60;
/// Longest code that is taken from a browser, in bytes.
const CODE_BYTES_MAX: usize = 4 * 1024;
/// Longest word for an error that is taken from a provider, in bytes.
const ERROR_BYTES_MAX: usize = 64;
/// The scopes where nothing is configured: who it is, their name, and a refresh token.
pub const SCOPES_DEFAULT: [&str; 3] = ["openid", "profile", "offline_access"];

/// How people sign in at a provider.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// This gateway's client id there.
    pub id: String,
    /// Its secret. `None`: a public client, which PKCE alone protects.
    pub secret: Option<ClientSecret>,
    /// What is asked for; `openid` must be among it.
    pub scopes: Vec<String>,
    /// Whether people are asked for their consent at each sign-in. Some providers give no refresh
    /// token without it (OpenID Connect Core 1.0 §11).
    pub consent: bool,
}

impl ClientOptions {
    /// A public client with the default scopes.
    pub fn public(id: impl Into<String>) -> Self {
        let scopes = SCOPES_DEFAULT.map(str::to_owned).to_vec();
        Self { id: id.into(), secret: None, scopes, consent: false }
    }

    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let plain = |text: &String| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b))
        };
        if self.id.is_empty() || self.id.chars().any(char::is_control) {
            return Err("it needs a client id");
        }
        if !self.scopes.iter().all(plain) {
            return Err("a scope is printable ASCII without blanks and quotes (RFC 6749 §3.3)");
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            return Err("without the scope `openid` there is no id token");
        }
        Ok(())
    }
}

/// A client's secret, read whenever it is needed, so that a rotated one is used without a reload.
#[derive(Clone)]
pub struct ClientSecret {
    place: String,
    read: Arc<dyn Fn() -> Result<SecretString, BoxError> + Send + Sync>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ClientSecret {
    /// The secret that `read` reads from `place`.
    pub fn new<E: Into<BoxError>>(
        place: impl Into<String>,
        read: impl Fn() -> Result<SecretString, E> + Send + Sync + 'static,
    ) -> Self {
        Self { place: place.into(), read: Arc::new(move || read().map_err(Into::into)) }
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientSecret({})", self.place)
    }
}

/// Somebody whom a provider vouches for.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The proof.
    pub verified: Verified,
    /// The provider's own session (OpenID Connect Back-Channel Logout 1.0 §2.1).
    pub sid: Option<String>,
    /// With what the sign-in is renewed: a secret that does not leave the gateway.
    pub refresh: Option<SecretString>,
}

/// A sign-in that was begun, to be kept where only the browser that began it leads to it.
#[derive(Clone)]
pub struct Pending {
    issuer: String,
    redirect_uri: String,
    state: String,
    nonce: String,
    verifier: SecretString,
    step_up: Option<StepUp>,
    answers_with_issuer: bool,
    began_at: Timestamp,
}

impl Pending {
    /// What the answer must repeat as `state`.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// At which provider.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Checks what the browser brought along with the code: `state`, and `iss` where the provider
    /// says it (RFC 9207 §2.4), so that no other provider's code is taken for this one's.
    pub fn answered(&self, state: &str, issuer: Option<&str>) -> Result<(), IdentityError> {
        if !same(state, &self.state) {
            return Err(IdentityError::Answer("has another state"));
        }
        match issuer {
            Some(issuer) if issuer != self.issuer => {
                Err(IdentityError::Answer("is of another issuer"))
            }
            None if self.answers_with_issuer => {
                Err(IdentityError::Answer("does not name its issuer"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("issuer", &self.issuer)
            .field("step_up", &self.step_up)
            .field("began_at", &self.began_at)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The issuers that people can sign in at.
    pub fn providers(&self) -> Vec<&str> {
        let providers = self.all().filter(|provider| provider.options().client.is_some());
        providers.map(|provider| provider.issuer()).collect()
    }

    /// What people call a provider: its configured name, or its issuer.
    pub fn provider_name(&self, issuer: &str) -> Option<&str> {
        let provider = self.all().find(|provider| provider.issuer() == issuer)?;
        Some(provider.options().name.as_deref().unwrap_or(provider.issuer()))
    }

    /// Begins a sign-in at `issuer`, or at the first provider: the URL that the browser is sent to,
    /// and what to keep until it comes back to `redirect_uri`.
    pub async fn start(
        &self,
        issuer: Option<&str>,
        redirect_uri: &str,
        step_up: Option<&StepUp>,
    ) -> Result<(String, Pending), IdentityError> {
        let wanted = |provider: &&Arc<Provider>| {
            provider.options().client.is_some()
                && issuer.is_none_or(|issuer| provider.issuer() == issuer)
        };
        let unknown =
            || IdentityError::NoLogin(issuer.unwrap_or("any").chars().take(256).collect());
        self.all().find(wanted).ok_or_else(unknown)?.start(redirect_uri, step_up).await
    }

    /// Ends a sign-in with the code that the browser brought back. [`Pending::answered`] must have
    /// been asked before.
    pub async fn finish(&self, pending: &Pending, code: &str) -> Result<SignedIn, IdentityError> {
        self.provider(&pending.issuer)?.finish(pending, code).await
    }

    /// Renews a sign-in.
    ///
    /// [`IdentityError::RefreshRefused`]: the provider says no, and the login is over.
    /// [`IdentityError::Provider`]: it cannot be asked, and may be tried again. Where the new token
    /// does not say when somebody signed in, the time is the epoch: what was known before holds.
    pub async fn refresh(
        &self,
        issuer: &str,
        refresh: &SecretString,
    ) -> Result<GoesOn, IdentityError> {
        self.provider(issuer)?.refresh_login(refresh).await
    }
}

/// What a provider says of a login that it renews.
#[derive(Debug)]
pub enum GoesOn {
    /// Who they are now.
    As(Box<SignedIn>),
    /// Nothing of who they are: an id token may be left out (OpenID Connect Core 1.0 §12.2), and
    /// some providers do. With what they can be asked next time, where that is another.
    Unsaid(Option<SecretString>),
}

impl GoesOn {
    /// Who they are now, where that was said.
    #[cfg(test)]
    pub(crate) fn who(self) -> SignedIn {
        match self {
            Self::As(signed_in) => *signed_in,
            Self::Unsaid(_) => panic!("the provider did not say who"),
        }
    }
}

/// What a token endpoint gives (RFC 6749 §5.1, OpenID Connect Core 1.0 §3.1.3.3).
#[derive(Deserialize)]
struct Answer {
    access_token: SecretString,
    token_type: String,
    id_token: Option<SecretString>,
    refresh_token: Option<SecretString>,
}

impl Provider {
    async fn start(
        self: &Arc<Self>,
        redirect_uri: &str,
        step_up: Option<&StepUp>,
    ) -> Result<(String, Pending), IdentityError> {
        let client = self.client()?;
        let metadata = self.metadata().await?;
        let endpoint = self.source().authorization(&metadata);
        let mut url = endpoint.map_err(|error| self.unreachable(Arc::new(error)))?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let pending = Pending {
            issuer: self.issuer().to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            state: CsrfToken::new_random_len(32).into_secret(),
            nonce: Nonce::new_random_len(32).secret().clone(),
            verifier: SecretString::from(verifier.into_secret()),
            step_up: step_up.cloned(),
            answers_with_issuer: metadata.answers_with_issuer,
            began_at: self.now(),
        };
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("scope", &client.scopes.join(" "))
            .append_pair("state", &pending.state)
            .append_pair("nonce", &pending.nonce)
            .append_pair("code_challenge", challenge.as_str())
            .append_pair("code_challenge_method", "S256");
        let prompts = [(client.consent, "consent"), (step_up.is_some(), "login")];
        let prompts = prompts.iter().filter(|(wanted, _)| *wanted).map(|(_, prompt)| *prompt);
        let prompts = prompts.collect::<Vec<_>>().join(" ");
        if !prompts.is_empty() {
            query.append_pair("prompt", &prompts);
        }
        if let Some(age_s) = step_up.and_then(|step_up| step_up.age_s_max) {
            query.append_pair("max_age", &age_s.to_string());
        }
        if let Some(acr) = step_up.and_then(|step_up| step_up.acr.as_deref()) {
            query.append_pair("acr_values", acr);
        }
        drop(query);
        Ok((url.into(), pending))
    }

    async fn finish(
        self: &Arc<Self>,
        pending: &Pending,
        code: &str,
    ) -> Result<SignedIn, IdentityError> {
        let patience = SignedDuration::from_secs(PENDING_S_MAX);
        if self.now().duration_since(pending.began_at).abs() > patience {
            return Err(IdentityError::Answer("comes too late"));
        }
        if code.is_empty() || code.len() > CODE_BYTES_MAX || !code.bytes().all(is_visible) {
            return Err(IdentityError::Answer("has no code"));
        }
        let refused = |error| {
            let issuer = self.issuer().to_owned();
            IdentityError::CodeRefused { issuer, error }
        };
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", pending.redirect_uri.as_str()),
            ("code_verifier", pending.verifier.expose_secret()),
        ];
        let (answer, metadata) = self.exchange(&form, &refused).await?;
        let claims = self.id_token(&answer, Some(&pending.nonce)).await?;
        if let Some(step_up) = &pending.step_up {
            self.stepped_up(&claims, step_up)?;
        }
        self.complete(claims, answer, &metadata, Rests::OnToken).await
    }

    async fn refresh_login(
        self: &Arc<Self>,
        refresh: &SecretString,
    ) -> Result<GoesOn, IdentityError> {
        let refused = |error: String| {
            tracing::info!(issuer = self.issuer(), error, "a login is not renewed");
            IdentityError::RefreshRefused
        };
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.expose_secret())];
        let (answer, metadata) = self.exchange(&form, &refused).await?;
        if answer.id_token.is_none() {
            return Ok(GoesOn::Unsaid(answer.refresh_token));
        }
        let claims = self.id_token(&answer, None).await?;
        let signed_in = self.complete(claims, answer, &metadata, Rests::OnRenewal).await?;
        Ok(GoesOn::As(Box::new(signed_in)))
    }

    /// Adds what only the userinfo endpoint tells, and believes the whole.
    async fn complete(
        self: &Arc<Self>,
        mut claims: Claims,
        answer: Answer,
        metadata: &Metadata,
        rests: Rests,
    ) -> Result<SignedIn, IdentityError> {
        if self.options().userinfo {
            let more = self.userinfo(&answer.access_token, &claims, metadata).await?;
            claims.complete(&more);
        }
        self.believe(&claims, rests, answer.refresh_token)
    }

    /// The claims of an answer's id token (OpenID Connect Core 1.0 §3.1.3.7), but for those that
    /// [`Provider::believe`] checks.
    async fn id_token(
        self: &Arc<Self>,
        answer: &Answer,
        nonce: Option<&str>,
    ) -> Result<Claims, IdentityError> {
        let missing = || self.unreachable(Arc::new(ProviderError::Missing("id_token")));
        let text = answer.id_token.as_ref().ok_or_else(missing)?;
        let token = Token::read(text.expose_secret(), CREDENTIALS)?;
        if token.issuer() != self.issuer() {
            return Err(IdentityError::claim("iss", "is not the provider's"));
        }
        let claims = self.signed_firsthand(&token).await?;
        Self::credential(&claims)?;
        let client = self.client()?.id.as_str();
        let named = claims.audience()?;
        let party = claims.named("azp");
        if !named.contains(&client) {
            return Err(IdentityError::claim("aud", "does not name this gateway's client"));
        }
        if party.is_none() && named.len() > 1 {
            return Err(IdentityError::claim("azp", "is missing, and `aud` names several"));
        }
        if party.is_some_and(|party| party.as_str() != Some(client)) {
            return Err(IdentityError::claim("azp", "is not this gateway's client"));
        }
        // §12.2: a token of a renewal need not repeat the nonce.
        let said = claims.named("nonce");
        if nonce.is_some_and(|nonce| {
            !said.and_then(|said| said.as_str()).is_some_and(|said| same(said, nonce))
        }) {
            return Err(IdentityError::claim("nonce", "is not the one that was sent"));
        }
        if let Some(hash) = claims.named("at_hash") {
            let own = half_hash(token.algorithm(), answer.access_token.expose_secret());
            if hash.as_str() != own.as_deref() {
                return Err(IdentityError::claim("at_hash", "is not that of the access token"));
            }
        }
        Ok(claims)
    }

    /// Whether somebody signed in as freshly and as strongly as was asked for.
    fn stepped_up(&self, claims: &Claims, wanted: &StepUp) -> Result<(), IdentityError> {
        // §3.1.2.1: with `max_age` an `auth_time` must be there; `iat` proves nothing here.
        let proved = self.authentication(claims, Rests::OnRenewal)?;
        if let Some(age_s) = wanted.age_s_max {
            let age = SignedDuration::from_secs(i64::try_from(age_s).unwrap_or(i64::MAX));
            let oldest = age.saturating_add(self.skew());
            if self.now().duration_since(proved.at) > oldest {
                return Err(IdentityError::StepUp("`auth_time` is missing or too long ago"));
            }
        }
        if wanted.acr.is_some() && proved.acr != wanted.acr {
            return Err(IdentityError::StepUp("`acr` is another one"));
        }
        if !wanted.amr.is_subset(&proved.amr) {
            return Err(IdentityError::StepUp("`amr` lacks a method"));
        }
        Ok(())
    }
}

// === Endpoints ===

impl Provider {
    fn client(&self) -> Result<&ClientOptions, IdentityError> {
        let client = self.options().client.as_ref();
        client.ok_or_else(|| IdentityError::NoLogin(self.issuer().to_owned()))
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, IdentityError> {
        self.source().metadata(self.now()).await.map_err(|error| self.unreachable(error))
    }

    /// Asks the token endpoint (RFC 6749 §4.1.3, §6).
    async fn exchange(
        &self,
        form: &[(&str, &str)],
        refused: &(dyn Fn(String) -> IdentityError + Sync),
    ) -> Result<(Answer, Arc<Metadata>), IdentityError> {
        let metadata = self.metadata().await?;
        let url = self.source().token(&metadata);
        let url = url.map_err(|error| self.unreachable(Arc::new(error)))?;
        let request = self.token_request(url.as_str(), form, &metadata)?;
        let sent = self.source().send(&request).await;
        let answer = sent.map_err(|error| self.unreachable(Arc::new(error)))?;
        if answer.status != 200 {
            return Err(self.refused(url.as_str(), &answer, refused));
        }
        // serde's error could repeat a token.
        let answer = serde_json::from_slice::<Answer>(&answer.body).ok();
        let bearer = |answer: &Answer| answer.token_type.eq_ignore_ascii_case("bearer");
        match answer.filter(bearer) {
            Some(answer) => Ok((answer, metadata)),
            None => Err(self.no_answer(url.as_str(), "is not understood")),
        }
    }

    /// A request to the token endpoint; the client proves itself as RFC 6749 §2.3.1 says.
    fn token_request(
        &self,
        url: &str,
        form: &[(&str, &str)],
        metadata: &Metadata,
    ) -> Result<Request, IdentityError> {
        let client = self.client()?;
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let mut authorization = None;
        if let Some(secret) = &client.secret {
            let secret = (secret.read)().map_err(|source| {
                let issuer = self.issuer().to_owned();
                IdentityError::ClientSecret { issuer, source }
            })?;
            let methods = &metadata.client_methods;
            let takes = |method: &str| methods.iter().any(|known| known == method);
            // OpenID Connect Discovery 1.0 §3: where nothing is said, it is `client_secret_basic`.
            if methods.is_empty() || takes("client_secret_basic") || !takes("client_secret_post") {
                let [id, secret] = [&client.id, secret.expose_secret()].map(encoded);
                let pair = encode::base64(format!("{id}:{secret}").as_bytes());
                authorization = Some(SecretString::from(format!("Basic {pair}")));
            } else {
                body.append_pair("client_id", &client.id);
                body.append_pair("client_secret", secret.expose_secret());
            }
        } else {
            body.append_pair("client_id", &client.id);
        }
        let form = Some(SecretString::from(body.finish()));
        Ok(Request { url: url.to_owned(), authorization, form })
    }

    /// What a refusal of the token endpoint means (RFC 6749 §5.2): that the person must sign in
    /// again, that this gateway is no client of the provider's, or that the provider has a problem.
    fn refused(
        &self,
        url: &str,
        answer: &Response,
        refused: &(dyn Fn(String) -> IdentityError + Sync),
    ) -> IdentityError {
        #[derive(Deserialize)]
        struct Refused {
            error: String,
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        let said = serde_json::from_slice::<Refused>(&answer.body).ok().map(|said| said.error);
        let said = said.filter(|said| said.len() <= ERROR_BYTES_MAX && said.bytes().all(word));
        let issuer = self.issuer().to_owned();
        match (answer.status, said) {
            // The last three are of providers that ask more of somebody only when a login is renewed.
            (400..=403, Some(error)) => match error.as_str() {
                "invalid_grant"
                | "interaction_required"
                | "login_required"
                | "consent_required" => refused(error),
                "invalid_client"
                | "unauthorized_client"
                | "unsupported_grant_type"
                | "invalid_scope"
                | "invalid_request" => IdentityError::ClientRefused { issuer, error },
                _ => self.no_answer(url, "is an error that is not known"),
            },
            (status, _) => {
                let url = url.to_owned();
                self.unreachable(Arc::new(ProviderError::Status { url, status }))
            }
        }
    }

    /// What the userinfo endpoint says (OpenID Connect Core 1.0 §5.3).
    async fn userinfo(
        &self,
        access_token: &SecretString,
        claims: &Claims,
        metadata: &Metadata,
    ) -> Result<Claims, IdentityError> {
        let url = self.source().userinfo(metadata);
        let url = String::from(url.map_err(|error| self.unreachable(Arc::new(error)))?);
        let bearer = SecretString::from(format!("Bearer {}", access_token.expose_secret()));
        let request = Request { url, authorization: Some(bearer), form: None };
        let sent = self.source().send(&request).await;
        let answer = sent.map_err(|error| self.unreachable(Arc::new(error)))?;
        if answer.status != 200 {
            let error = ProviderError::Status { url: request.url, status: answer.status };
            return Err(self.unreachable(Arc::new(error)));
        }
        let more = serde_json::from_slice::<Claims>(&answer.body)
            .map_err(|_| self.no_answer(&request.url, "is no JSON object without doubles"))?;
        // §5.3.2: what is told about somebody else must not be used.
        let subject = |claims: &Claims| claims.named("sub").cloned();
        if subject(&more).is_none() || subject(&more) != subject(claims) {
            return Err(self.no_answer(&request.url, "is about somebody else"));
        }
        Ok(more)
    }

    fn no_answer(&self, url: &str, problem: &'static str) -> IdentityError {
        self.unreachable(Arc::new(ProviderError::Answer { url: url.to_owned(), problem }))
    }
}

/// `at_hash` (OpenID Connect Core 1.0 §3.1.3.6): the left half of the hash that belongs to the
/// token's algorithm. `None` for what no token may be signed with.
fn half_hash(algorithm: jsonwebtoken::Algorithm, text: &str) -> Option<String> {
    use aws_lc_rs::digest;
    use jsonwebtoken::Algorithm as A;
    let hash = match algorithm {
        A::ES256 | A::RS256 | A::PS256 => &digest::SHA256,
        A::ES384 | A::RS384 | A::PS384 => &digest::SHA384,
        // Ed25519 hashes with SHA-512 itself (RFC 8032 §5.1).
        A::RS512 | A::PS512 | A::EdDSA => &digest::SHA512,
        A::HS256 | A::HS384 | A::HS512 | _ => return None,
    };
    let digest = digest::digest(hash, text.as_bytes());
    digest.as_ref().get(..hash.output_len() / 2).map(encode::base64url)
}

/// Compares without telling by the time it takes where the difference is.
fn same(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn is_visible(byte: u8) -> bool {
    // RFC 6749 §A.11.
    matches!(byte, 0x20..=0x7e)
}
