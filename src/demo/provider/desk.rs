//! What the provider remembers: who asked for a code, and which logins can be renewed.
//!
//! A small OpenID provider in earnest (OpenID Connect Core 1.0 §3.1, RFC 7636, RFC 9207), except
//! that it asks for no password: whoever sits before it chooses who they are. It remembers no
//! browser, so every sign-in is a fresh one.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use crate::demo::provider::AUDIENCE;
use crate::demo::provider::form;
use crate::demo::provider::people::Person;
use crate::demo::provider::people::object;
use crate::identity::IssuerError;
use crate::identity::LocalIssuer;

/// How long a code may be exchanged, in seconds.
const CODE_S: i64 = 60;
/// How long an id token is good, in seconds.
const ID_TOKEN_S: i64 = 60 * 60;
/// Most codes that wait to be exchanged.
const CODES_MAX: usize = 4_096;
/// Most logins that can be renewed.
const GRANTS_MAX: usize = 16_384;
/// Where the gateway takes its answers.
const CALLBACK_PATH: &str = "/oauth/callback";

pub(super) type Fields = BTreeMap<String, String>;

/// The provider, apart from HTTP.
pub(super) struct Desk {
    issuer: LocalIssuer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    codes: HashMap<String, Code>,
    /// By refresh token.
    grants: HashMap<String, Grant>,
    /// Other roles than those that somebody was invented with.
    roles: HashMap<&'static str, Vec<String>>,
}

/// A code, and what it was asked for.
struct Code {
    grant: Grant,
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
    until_s: i64,
}

/// Somebody's sign-in.
#[derive(Clone)]
struct Grant {
    person: &'static Person,
    sid: String,
    auth_time_s: i64,
    acr: Option<String>,
    methods: &'static [&'static str],
    renewable: bool,
}

/// A request to sign in that may be answered.
#[derive(Debug)]
pub(super) struct Asked {
    redirect_uri: String,
    state: Option<String>,
    nonce: Option<String>,
    challenge: String,
    acr: Option<String>,
    anew: bool,
    renewable: bool,
}

/// Why a request to sign in is not answered.
#[derive(Debug)]
pub(super) enum Unasked {
    /// It is not even clear who asks: the browser is told, and sent nowhere.
    Page(&'static str),
    /// The client is told: where the browser is sent.
    Client(String),
}

/// A refusal of the token endpoint (RFC 6749 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoToken(pub(super) &'static str);

impl Desk {
    pub(super) fn new(issuer: LocalIssuer) -> Self {
        Self { issuer, state: Mutex::default() }
    }

    pub(super) fn issuer(&self) -> &LocalIssuer {
        &self.issuer
    }

    /// Reads a request to sign in (OpenID Connect Core 1.0 §3.1.2.1).
    pub(super) fn asked(&self, fields: &Fields) -> Result<Asked, Unasked> {
        let field = |name: &str| fields.get(name).filter(|text| !text.is_empty()).cloned();
        if field("client_id").as_deref() != Some(AUDIENCE) {
            return Err(Unasked::Page("no such client is known here"));
        }
        let redirect_uri = field("redirect_uri").filter(|uri| is_gateways(uri));
        let Some(redirect_uri) = redirect_uri else {
            return Err(Unasked::Page("the redirect_uri is not the gateway's"));
        };
        let prompts = field("prompt").unwrap_or_default();
        let prompted = |prompt| prompts.split(' ').any(|one| one == prompt);
        let scopes = field("scope").unwrap_or_default();
        let has_scope = |scope| scopes.split(' ').any(|one| one == scope);
        let asked = Asked {
            redirect_uri,
            state: field("state"),
            nonce: field("nonce"),
            challenge: field("code_challenge").unwrap_or_default(),
            acr: field("acr_values").and_then(|values| values.split(' ').next().map(str::to_owned)),
            anew: prompted("login"),
            renewable: has_scope("offline_access"),
        };
        let error = if field("response_type").as_deref() != Some("code") {
            "unsupported_response_type"
        } else if !has_scope("openid") {
            "invalid_scope"
        } else if field("code_challenge_method").as_deref() != Some("S256")
            || asked.challenge.len() != 43
        {
            "invalid_request"
        } else if prompted("none") {
            "login_required"
        } else {
            return Ok(asked);
        };
        Err(Unasked::Client(self.back(&asked, ("error", error))))
    }

    /// Somebody says who they are: where their browser is sent.
    pub(super) fn chosen(&self, asked: Asked, name: &str, now_s: i64) -> Option<String> {
        let person = Person::named(name)?;
        let code = secret();
        let strong = asked.anew || asked.acr.is_some();
        let back = self.back(&asked, ("code", &code));
        let grant = Grant {
            person,
            sid: Uuid::new_v4().simple().to_string(),
            auth_time_s: now_s,
            acr: asked.acr,
            methods: if strong { &["pwd", "otp"] } else { &["pwd"] },
            renewable: asked.renewable,
        };
        let mut state = self.state();
        state.codes.retain(|_, code| code.until_s > now_s);
        if state.codes.len() >= CODES_MAX {
            return None;
        }
        let code_of = Code {
            grant,
            redirect_uri: asked.redirect_uri,
            challenge: asked.challenge,
            nonce: asked.nonce,
            until_s: now_s.saturating_add(CODE_S),
        };
        state.codes.insert(code, code_of);
        Some(back)
    }

    /// The token endpoint. A code and a refresh token each count once.
    pub(super) fn token(&self, fields: &Fields, now_s: i64) -> Result<Value, NoToken> {
        const INVALID: NoToken = NoToken("invalid_grant");
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        if field("client_id") != AUDIENCE {
            return Err(NoToken("invalid_client"));
        }
        match field("grant_type") {
            "authorization_code" => {
                let code = self.state().codes.remove(field("code")).ok_or(INVALID)?;
                // RFC 7636 §4.6.
                let proved = challenge_of(field("code_verifier")) == code.challenge;
                let here = field("redirect_uri") == code.redirect_uri;
                if !proved || !here || code.until_s <= now_s {
                    return Err(INVALID);
                }
                self.answer(code.grant, code.nonce.as_deref(), now_s)
            }
            "refresh_token" => {
                let grant = self.state().grants.remove(field("refresh_token")).ok_or(INVALID)?;
                self.answer(grant, None, now_s)
            }
            _ => Err(NoToken("unsupported_grant_type")),
        }
    }

    fn answer(&self, grant: Grant, nonce: Option<&str>, now_s: i64) -> Result<Value, NoToken> {
        let mut claims = grant.person.claims(&self.roles(grant.person), now_s);
        claims.extend(object(json!({
            "exp": now_s.saturating_add(ID_TOKEN_S),
            "auth_time": grant.auth_time_s,
            "amr": grant.methods,
            "sid": grant.sid,
        })));
        let optional = [("nonce", nonce), ("acr", grant.acr.as_deref())];
        for (name, value) in optional {
            claims.extend(value.map(|value| (name.to_owned(), json!(value))));
        }
        let id_token = self.issuer.mint(&claims).map_err(|_| NoToken("server_error"))?;
        let mut answer = json!({
            "access_token": secret(), "token_type": "Bearer", "expires_in": ID_TOKEN_S,
            "id_token": id_token,
        });
        let mut state = self.state();
        if grant.renewable && state.grants.len() < GRANTS_MAX {
            let refresh = secret();
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("refresh_token".to_owned(), json!(refresh));
            }
            state.grants.insert(refresh, grant);
        }
        Ok(answer)
    }

    /// Ends somebody's logins here: they are not renewed. Gives a logout token for each (OpenID
    /// Connect Back-Channel Logout 1.0 §2.4), to be carried to the gateway.
    pub(super) fn end(&self, name: &str, now_s: i64) -> Result<Vec<String>, IssuerError> {
        let mut state = self.state();
        let of = |grant: &Grant| grant.person.name == name;
        let sids = state.grants.values().filter(|grant| of(grant)).map(|grant| grant.sid.clone());
        let sids = sids.collect::<Vec<_>>();
        state.grants.retain(|_, grant| !of(grant));
        drop(state);
        let logout = |sid: String| {
            self.issuer.mint(&object(json!({
                "sub": name, "aud": AUDIENCE, "iat": now_s, "exp": now_s.saturating_add(120),
                "jti": secret(), "sid": sid,
                "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
            })))
        };
        sids.into_iter().map(logout).collect()
    }

    /// From now on somebody has these roles. `false`: nobody has that name.
    pub(super) fn change(&self, name: &str, roles: &str) -> bool {
        let roles = roles.split(',').filter(|role| !role.is_empty()).map(str::to_owned);
        let Some(person) = Person::named(name) else { return false };
        self.state().roles.insert(person.name, roles.collect());
        true
    }

    /// Somebody's roles now.
    pub(super) fn roles(&self, person: &Person) -> Vec<String> {
        let invented = || person.roles.iter().map(|role| (*role).to_owned()).collect();
        self.state().roles.get(person.name).cloned().unwrap_or_else(invented)
    }

    /// Where the browser is sent back to. Every answer names the issuer (RFC 9207 §2).
    fn back(&self, asked: &Asked, word: (&str, &str)) -> String {
        let mut fields = vec![word, ("iss", self.issuer.issuer())];
        fields.extend(asked.state.as_deref().map(|state| ("state", state)));
        format!("{}?{}", asked.redirect_uri, form::query(&fields))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Gateways of this machine, at any port, are the provider's one client.
fn is_gateways(uri: &str) -> bool {
    uri.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https")
            && matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"))
            && uri.path() == CALLBACK_PATH
            && uri.query().is_none()
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    })
}

/// `S256` (RFC 7636 §4.2).
fn challenge_of(verifier: &str) -> String {
    LocalIssuer::challenge(verifier)
}

fn secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
