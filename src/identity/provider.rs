//! One provider: verifies tokens that say they are from it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::Error;
use jsonwebtoken::errors::ErrorKind;
use secrecy::SecretString;
use serde_json::Value;

use crate::identity::Algorithm;
use crate::identity::Fetch;
use crate::identity::IdentityError;
use crate::identity::OptionsError;
use crate::identity::ProviderError;
use crate::identity::ProviderOptions;
use crate::identity::SignedIn;
use crate::identity::Verified;
use crate::identity::claims;
use crate::identity::expression::Reading;
use crate::identity::keys::KeyCache;
use crate::identity::keys::KeySet;
use crate::identity::keys::Look;
use crate::identity::keys::Wanted;
use crate::identity::logout::Seen;
use crate::identity::oidc::Source;
use crate::identity::token::Claims;
use crate::identity::token::Token;
use crate::model::Clock;
use crate::model::fault::Chain;
use crate::model::login::Authentication;

/// Most methods (`amr`) that are kept of a sign-in.
const METHODS_MAX: usize = 16;

/// A configured provider and its keys.
pub(super) struct Provider {
    options: ProviderOptions,
    source: Source,
    keys: KeyCache,
    logouts: Seen,
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
        let source = Source::new(&options.issuer, jwks_uri, &options.endpoints, fetch)?;
        Ok(Self {
            options,
            source,
            keys: KeyCache::default(),
            flight: tokio::sync::Mutex::new(()),
            logouts: Seen::default(),
            clock,
        })
    }

    /// The issuer, byte for byte as configured.
    pub(super) fn issuer(&self) -> &str {
        self.source.issuer()
    }

    /// The only origins that are contacted.
    pub(super) fn origins(&self) -> BTreeSet<String> {
        self.source.origins(self.options.client.is_some())
    }

    /// What was configured.
    pub(super) fn options(&self) -> &ProviderOptions {
        &self.options
    }

    /// Where its documents and endpoints are.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The logout tokens that were shown.
    pub(super) fn logouts(&self) -> &Seen {
        &self.logouts
    }

    /// Now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Verifies a token whose `iss` says that it is from this provider.
    pub(super) async fn verify(
        self: &Arc<Self>,
        token: &Token<'_>,
    ) -> Result<SignedIn, IdentityError> {
        let claims = self.signed(token).await?;
        self.audience(&claims)?;
        Self::credential(&claims)?;
        self.believe(&claims, Rests::OnToken, None)
    }

    /// What claims say that were signed by the provider for this gateway: the last of the checks.
    pub(super) fn believe(
        &self,
        claims: &Claims,
        rests: Rests,
        refresh: Option<SecretString>,
    ) -> Result<SignedIn, IdentityError> {
        let expires_at = self.times(claims)?;
        self.required(claims)?;
        let principal = claims::principal(self.issuer(), &self.options.mapping, claims)?;
        let authentication = self.authentication(claims, rests)?;
        let sid = claims.named("sid").map(|sid| claims::text("sid", sid)).transpose()?;
        let verified = Verified::by_token(principal, expires_at, authentication);
        Ok(SignedIn { verified, sid, refresh })
    }

    /// The claims of a token, if the provider signed it. All the rest is still to be checked.
    pub(super) async fn signed(
        self: &Arc<Self>,
        token: &Token<'_>,
    ) -> Result<Claims, IdentityError> {
        let (wanted, keys) = self.keys_of(token).await?;
        self.signed_with(token, wanted, &keys)
    }

    /// The same for a token that the provider itself has just given us. Nobody else can make us fetch
    /// keys with it, so a key that is not known is fetched at once: a renewal that failed only
    /// because keys have just changed would lose the provider's new refresh token.
    pub(super) async fn signed_firsthand(
        self: &Arc<Self>,
        token: &Token<'_>,
    ) -> Result<Claims, IdentityError> {
        match self.signed(token).await {
            Err(IdentityError::UnknownKey(_)) => {
                self.refresh(self.keys.attempts()).await?;
                self.signed(token).await
            }
            done => done,
        }
    }

    /// The keys that a token may be signed with.
    pub(super) async fn keys_of<'a>(
        self: &Arc<Self>,
        token: &'a Token<'_>,
    ) -> Result<(Wanted<'a>, Arc<KeySet>), IdentityError> {
        let algorithm = self.allowed(token.algorithm())?;
        let wanted = Wanted { id: token.key_id(), algorithm };
        Ok((wanted, self.keys_for(wanted).await?))
    }

    /// The header's algorithm, if it is in the configured list.
    pub(super) fn allowed(
        &self,
        named: jsonwebtoken::Algorithm,
    ) -> Result<Algorithm, IdentityError> {
        self.options
            .algorithms
            .iter()
            .copied()
            .find(|allowed| jsonwebtoken::Algorithm::from(*allowed) == named)
            .ok_or(IdentityError::Algorithm(algorithm_name(named)))
    }

    /// The claims, if the token is signed by one of the wanted keys.
    pub(super) fn signed_with(
        &self,
        token: &Token<'_>,
        wanted: Wanted<'_>,
        keys: &KeySet,
    ) -> Result<Claims, IdentityError> {
        let mut validation = Validation::new(wanted.algorithm.into());
        // What is not required is silently skipped when it is missing or of another type.
        validation.set_required_spec_claims(&["iss"]);
        validation.set_issuer(&[self.issuer()]);
        // `audience` and `times` look closer, and at our clock.
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.validate_nbf = false;
        for key in keys.fitting(wanted) {
            match jsonwebtoken::decode::<Claims>(token.text(), key, &validation) {
                Ok(token) if token.claims.issuer()? == self.issuer() => return Ok(token.claims),
                Ok(_) => return Err(IdentityError::claim("iss", "is not the provider's")),
                Err(error) if is_signature(&error) => {}
                Err(error) => return Err(invalid(&error)),
            }
        }
        Err(IdentityError::Signature)
    }
}

// === What claims must say ===

/// What a sign-in rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rests {
    /// On a token that was issued because somebody signed in.
    OnToken,
    /// On a renewal, for which nobody did anything.
    OnRenewal,
}

impl Provider {
    /// `aud` must name this gateway.
    pub(super) fn audience(&self, claims: &Claims) -> Result<(), IdentityError> {
        let named = claims.audience()?;
        if self.options.audiences.iter().any(|ours| named.contains(&ours.as_str())) {
            Ok(())
        } else {
            Err(IdentityError::claim("aud", "does not name this gateway"))
        }
    }

    /// A security event token (RFC 8417 §2.2), such as one for logging out, is no credential.
    pub(super) fn credential(claims: &Claims) -> Result<(), IdentityError> {
        match claims.named("events") {
            None => Ok(()),
            Some(_) => Err(IdentityError::claim("events", "makes it no credential")),
        }
    }

    /// What the configuration demands of claims.
    pub(super) fn required(&self, claims: &Claims) -> Result<(), IdentityError> {
        for (expression, patterns) in &self.options.require {
            let value = expression.value(claims, Reading::Plain)?;
            let fits = |value: &Value| {
                let text = value.as_str().map(str::to_owned);
                let text = text.or_else(|| value.as_bool().map(|value| value.to_string()));
                text.is_some_and(|text| patterns.iter().any(|one| one.capture(&text).is_some()))
            };
            let fitting = match &value {
                None => false,
                Some(Value::Array(list)) => list.iter().any(fits),
                Some(value) => fits(value),
            };
            if !fitting {
                let what = "is none of those that the configuration requires";
                return Err(IdentityError::claim(expression.as_str(), what));
            }
        }
        Ok(())
    }

    /// Checks `exp`, `nbf` and `iat`; gives until when the token is good.
    pub(super) fn times(&self, claims: &Claims) -> Result<Timestamp, IdentityError> {
        let now = self.now();
        let required =
            |claim| date(claims, claim)?.ok_or(IdentityError::claim(claim, "is missing"));
        let expires = required("exp")?;
        let issued = required("iat")?;
        let later = |at: Timestamp, claim, by: SignedDuration| {
            at.checked_add(by).map_err(|_| IdentityError::claim(claim, "is out of range"))
        };
        self.not_early("nbf", date(claims, "nbf")?, now)?;
        self.not_early("iat", Some(issued), now)?;
        let age_max = SignedDuration::from_secs(self.options.age_s_max.into());
        let good_until = later(expires.min(later(issued, "iat", age_max)?), "exp", self.skew())?;
        if good_until <= now {
            return Err(IdentityError::Expired(good_until));
        }
        Ok(good_until)
    }

    /// How and when somebody proved who they are.
    ///
    /// A renewal without `auth_time` proves nothing anew: its time is the epoch, older than any.
    pub(super) fn authentication(
        &self,
        claims: &Claims,
        rests: Rests,
    ) -> Result<Authentication, IdentityError> {
        let proved = date(claims, "auth_time")?;
        self.not_early("auth_time", proved, self.now())?;
        let at = match (proved, rests) {
            (Some(at), Rests::OnToken | Rests::OnRenewal) => at,
            (None, Rests::OnToken) => date(claims, "iat")?.unwrap_or(Timestamp::UNIX_EPOCH),
            (None, Rests::OnRenewal) => Timestamp::UNIX_EPOCH,
        };
        let known = |value: &Value| claims::text("acr", value).ok();
        let methods = claims.named("amr").and_then(Value::as_array);
        Ok(Authentication {
            at,
            acr: claims.named("acr").and_then(known),
            amr: methods.into_iter().flatten().filter_map(known).take(METHODS_MAX).collect(),
        })
    }

    /// A date that must not lie in the future.
    pub(super) fn not_early(
        &self,
        claim: &'static str,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        match at.filter(|at| *at > now.saturating_add(self.skew()).unwrap_or(now)) {
            Some(at) => Err(IdentityError::Early { claim, at }),
            None => Ok(()),
        }
    }

    /// How far its clock may be off.
    pub(super) fn skew(&self) -> SignedDuration {
        SignedDuration::from_secs(self.options.skew_s.into())
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

    pub(super) fn unreachable(&self, source: Arc<ProviderError>) -> IdentityError {
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

/// A `NumericDate` (RFC 7519 §2): seconds since the epoch, perhaps with a fraction, which is cut off.
pub(super) fn date(
    claims: &Claims,
    claim: &'static str,
) -> Result<Option<Timestamp>, IdentityError> {
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
