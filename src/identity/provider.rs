//! One provider: verifies tokens that say they are from it.

use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::Error;
use jsonwebtoken::errors::ErrorKind;

use crate::identity::Algorithm;
use crate::identity::Fetch;
use crate::identity::IdentityError;
use crate::identity::OptionsError;
use crate::identity::ProviderError;
use crate::identity::ProviderOptions;
use crate::identity::SignedIn;
use crate::identity::Verified;
use crate::identity::claims;
use crate::identity::keys::KeyCache;
use crate::identity::keys::KeySet;
use crate::identity::keys::Look;
use crate::identity::keys::Wanted;
use crate::identity::oidc::Source;
use crate::identity::token::Claims;
use crate::identity::token::Token;
use crate::model::Clock;
use crate::model::fault::Chain;
use crate::model::login::Authentication;

/// A configured provider and its keys.
pub(super) struct Provider {
    options: ProviderOptions,
    source: Source,
    keys: KeyCache,
    /// Held while keys are fetched, so that one fetch serves all who wait.
    flight: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
}

impl Provider {
    /// Checks the options.
    pub(super) fn new(
        options: ProviderOptions,
        fetch: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OptionsError> {
        let (_, jwks_uri) = options.check()?;
        let source = Source::new(&options.issuer, jwks_uri, fetch)?;
        Ok(Self {
            options,
            source,
            keys: KeyCache::default(),
            flight: tokio::sync::Mutex::new(()),
            clock,
        })
    }

    /// The issuer, byte for byte as configured.
    pub(super) fn issuer(&self) -> &str {
        self.source.issuer()
    }

    /// The only origin that is contacted.
    pub(super) fn origin(&self) -> String {
        self.source.origin()
    }

    /// Verifies a token whose `iss` says that it is from this provider.
    pub(super) async fn verify(
        self: &Arc<Self>,
        token: &Token<'_>,
    ) -> Result<SignedIn, IdentityError> {
        let algorithm = self.allowed(token.algorithm())?;
        let wanted = Wanted { id: token.key_id(), algorithm };
        let keys = self.keys_for(wanted).await?;
        let claims = self.signed(token, wanted, &keys)?;
        if claims.issuer()? != self.issuer() {
            return Err(IdentityError::claim("iss", "is not the provider's"));
        }
        // A security event token (RFC 8417 §2.2), such as one for logging out, is no credential.
        if claims.named("events").is_some() {
            return Err(IdentityError::claim("events", "makes it no credential"));
        }
        let expires_at = self.times(&claims, self.clock.now())?;
        let principal = claims::principal(self.issuer(), &self.options.mapping, &claims)?;
        let authentication = authentication(&claims)?;
        let sid = claims.named("sid").and_then(serde_json::Value::as_str).map(str::to_owned);
        let verified = Verified::by_token(principal, expires_at, authentication);
        Ok(SignedIn { verified, sid, refresh: None })
    }

    /// The header's algorithm, if it is in the configured list.
    fn allowed(&self, named: jsonwebtoken::Algorithm) -> Result<Algorithm, IdentityError> {
        self.options
            .algorithms
            .iter()
            .copied()
            .find(|allowed| jsonwebtoken::Algorithm::from(*allowed) == named)
            .ok_or(IdentityError::Algorithm(algorithm_name(named)))
    }

    /// The claims, if the token is signed by one of the wanted keys and is for this gateway.
    fn signed(
        &self,
        token: &Token<'_>,
        wanted: Wanted<'_>,
        keys: &KeySet,
    ) -> Result<Claims, IdentityError> {
        let mut validation = Validation::new(wanted.algorithm.into());
        // What is not required is silently skipped when it is missing or of another type.
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[self.issuer()]);
        validation.set_audience(&[&self.options.audience]);
        // jsonwebtoken would read the system's clock; `times` asks ours.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        for key in keys.fitting(wanted) {
            match jsonwebtoken::decode::<Claims>(token.text(), key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) if is_signature(&error) => {}
                Err(error) => return Err(invalid(&error)),
            }
        }
        Err(IdentityError::Signature)
    }

    /// Checks `exp`, `nbf` and `iat` at `now`; gives until when the token is good.
    fn times(&self, claims: &Claims, now: Timestamp) -> Result<Timestamp, IdentityError> {
        let skew = SignedDuration::from_secs(self.options.skew_s.into());
        let required =
            |claim| date(claims, claim)?.ok_or(IdentityError::claim(claim, "is missing"));
        let expires = required("exp")?;
        let issued = required("iat")?;
        let later = |at: Timestamp, claim, by: SignedDuration| {
            at.checked_add(by).map_err(|_| IdentityError::claim(claim, "is out of range"))
        };
        for (claim, at) in [("nbf", date(claims, "nbf")?), ("iat", Some(issued))] {
            if let Some(at) = at.filter(|at| *at > now.saturating_add(skew).unwrap_or(now)) {
                return Err(IdentityError::Early { claim, at });
            }
        }
        let age_max = SignedDuration::from_secs(self.options.age_s_max.into());
        let good_until = later(expires.min(later(issued, "iat", age_max)?), "exp", skew)?;
        if good_until <= now {
            return Err(IdentityError::Expired(good_until));
        }
        Ok(good_until)
    }
}

// === Keys ===

impl Provider {
    /// Keys among which are the wanted ones; fetches them if it may.
    async fn keys_for(self: &Arc<Self>, wanted: Wanted<'_>) -> Result<Arc<KeySet>, IdentityError> {
        let (look, attempts) = self.keys.look(wanted, self.clock.now());
        match look {
            Look::Known { set, aged } => {
                if aged {
                    self.refresh_behind();
                }
                return Ok(set);
            }
            Look::Failed(source) => return Err(self.unreachable(source)),
            Look::Unknown => return Err(unknown(wanted)),
            Look::Fetch => self.refresh(attempts).await?,
        }
        let now = self.clock.now();
        match self.keys.look(wanted, now).0 {
            Look::Known { set, aged: _ } => Ok(set),
            Look::Failed(source) => Err(self.unreachable(source)),
            Look::Unknown | Look::Fetch => {
                if let Some(id) = wanted.id {
                    self.keys.is_unknown(id, now);
                }
                Err(unknown(wanted))
            }
        }
    }

    /// Fetches the keys unless somebody has since `attempts` were counted; waits until it is done.
    ///
    /// In a task of its own: a client that goes away must not end a fetch that others wait for,
    /// nor use up the one that is allowed without its being done.
    async fn refresh(self: &Arc<Self>, attempts: u64) -> Result<(), IdentityError> {
        let provider = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _flight = provider.flight.lock().await;
            if provider.keys.attempts() == attempts {
                provider.fetch().await;
            }
        });
        task.await.map_err(|_| IdentityError::Stopped)
    }

    /// Fetches the keys without letting anybody wait; does nothing if they are being fetched.
    fn refresh_behind(self: &Arc<Self>) {
        let provider = Arc::clone(self);
        // Detached on purpose: it ends by itself within the bounds of `oidc.rs`.
        drop(tokio::spawn(async move {
            if let Ok(_flight) = provider.flight.try_lock() {
                provider.fetch().await;
                provider.log_failure();
            }
        }));
    }

    /// Fetches the keys now.
    pub(super) async fn warm(self: &Arc<Self>) {
        if self.refresh(self.keys.attempts()).await.is_ok() {
            self.log_failure();
        }
    }

    /// Only to be called with `flight` held.
    async fn fetch(&self) {
        let result = self.source.keys().await;
        self.keys.tried(result, self.clock.now());
    }

    fn log_failure(&self) {
        if let Some(error) = self.keys.failure() {
            let cause = Chain(error.as_ref());
            tracing::warn!(issuer = self.issuer(), %cause, "keys could not be fetched");
        }
    }

    fn unreachable(&self, source: Arc<ProviderError>) -> IdentityError {
        IdentityError::Provider { issuer: self.issuer().to_owned(), source }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("options", &self.options)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

// === Words for errors ===

fn unknown(wanted: Wanted<'_>) -> IdentityError {
    wanted.id.map_or(IdentityError::NoKeyId, |id| IdentityError::UnknownKey(id.to_owned()))
}

/// Whether another key may still verify it; a key that cannot be used at all counts as well.
fn is_signature(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat | ErrorKind::Base64(_)
    )
}

/// Words of our own, because jsonwebtoken's may quote the token.
fn invalid(error: &Error) -> IdentityError {
    let kind = error.kind();
    if let ErrorKind::MissingRequiredClaim(claim) = kind {
        IdentityError::claim(claim, "is missing or of a wrong type")
    } else if matches!(kind, ErrorKind::InvalidAudience) {
        IdentityError::claim("aud", "does not name this gateway")
    } else if matches!(kind, ErrorKind::InvalidIssuer) {
        IdentityError::claim("iss", "is not the provider's")
    } else {
        IdentityError::Malformed("it is not understood")
    }
}

fn algorithm_name(algorithm: jsonwebtoken::Algorithm) -> &'static str {
    use jsonwebtoken::Algorithm as A;
    match algorithm {
        A::HS256 | A::HS384 | A::HS512 => "a shared secret (HMAC)",
        A::ES256 => "ES256",
        A::ES384 => "ES384",
        A::RS256 => "RS256",
        A::RS384 => "RS384",
        A::RS512 => "RS512",
        A::PS256 => "PS256",
        A::PS384 => "PS384",
        A::PS512 => "PS512",
        A::EdDSA => "EdDSA",
        _ => "an unknown algorithm",
    }
}

/// How and when somebody proved who they are (OpenID Connect Core 1.0 §2).
fn authentication(claims: &Claims) -> Result<Authentication, IdentityError> {
    let at = match date(claims, "auth_time")? {
        Some(at) => at,
        None => date(claims, "iat")?.ok_or(IdentityError::claim("iat", "is missing"))?,
    };
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let methods = claims.named("amr").and_then(serde_json::Value::as_array);
    let amr = methods.into_iter().flatten().filter_map(text).collect();
    Ok(Authentication { at, acr: claims.named("acr").and_then(text), amr })
}

/// A `NumericDate` (RFC 7519 §2): seconds since the epoch, perhaps with a fraction, which is cut off.
fn date(claims: &Claims, claim: &'static str) -> Result<Option<Timestamp>, IdentityError> {
    let Some(value) = claims.named(claim) else { return Ok(None) };
    let wrong = || IdentityError::claim(claim, "is no date");
    let seconds = match value.as_i64() {
        Some(seconds) => SignedDuration::from_secs(seconds),
        None => value
            .as_f64()
            .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds.trunc()).ok())
            .ok_or_else(wrong)?,
    };
    if seconds.is_negative() {
        return Err(wrong());
    }
    Timestamp::from_duration(seconds).map(Some).map_err(|_| wrong())
}
