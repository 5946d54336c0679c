//! Logout tokens: a provider says that somebody's session there has ended (OpenID Connect
//! Back-Channel Logout 1.0).

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde_json::Value;

use crate::identity::Identity;
use crate::identity::IdentityError;
use crate::identity::claims;
use crate::identity::provider::Provider;
use crate::identity::provider::date;
use crate::identity::token::Claims;
use crate::identity::token::LOGOUTS;
use crate::identity::token::Token;

/// The event that makes a token a logout token (§2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How long after its issue a logout token counts, in seconds. §2.6 asks for "at most two minutes
/// in the future" of `exp`; the rest is for a provider that tries again.
const AGE_S_MAX: i64 = 5 * 60;
/// Most logout tokens that are remembered; beyond it the oldest is forgotten.
const SEEN_MAX: usize = 10_000;

/// That somebody's session at a provider ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogoutOrder {
    /// The provider.
    pub issuer: String,
    /// Whose; all their sessions where there is no `sid`.
    pub subject: Option<String>,
    /// Which.
    pub sid: Option<String>,
    /// The token's own id (`jti`).
    pub id: String,
}

impl Identity {
    /// Verifies a logout token as §2.6 says. Each counts once.
    ///
    /// Where the order could not be carried out, [`Identity::logout_failed`] lets the provider try
    /// again with the same token.
    pub async fn logout_order(&self, token: &str) -> Result<LogoutOrder, IdentityError> {
        let token = Token::read(token, LOGOUTS)?;
        let provider = self.provider(token.issuer())?;
        let claims = provider.signed(&token).await?;
        let order = provider.order(&claims)?;
        if provider.logouts().is_first(&order.id, provider.now()) {
            Ok(order)
        } else {
            Err(IdentityError::Replayed)
        }
    }

    /// Takes back that an order was given.
    pub fn logout_failed(&self, order: &LogoutOrder) {
        if let Ok(provider) = self.provider(&order.issuer) {
            provider.logouts().forget(&order.id);
        }
    }
}

impl Provider {
    fn order(&self, claims: &Claims) -> Result<LogoutOrder, IdentityError> {
        // The client's id, which need not be an audience of credentials.
        let client = self.options().client.as_ref().map(|client| client.id.as_str());
        if !client.is_some_and(|id| claims.audience().is_ok_and(|named| named.contains(&id))) {
            self.audience(claims)?;
        }
        let now = self.now();
        let issued = date(claims, "iat")?.ok_or(IdentityError::claim("iat", "is missing"))?;
        self.not_early("iat", Some(issued), now)?;
        let late = |at: Timestamp, seconds: i64| {
            let good_s = seconds.saturating_add(self.skew().as_secs());
            now.as_second().saturating_sub(at.as_second()) >= good_s
        };
        if late(issued, AGE_S_MAX) {
            return Err(IdentityError::Expired(issued));
        }
        if let Some(expires) = date(claims, "exp")?.filter(|expires| late(*expires, 0)) {
            return Err(IdentityError::Expired(expires));
        }
        let event = claims.named("events").and_then(|events| events.get(EVENT));
        if !event.is_some_and(Value::is_object) {
            return Err(IdentityError::claim("events", "does not say that a session ended"));
        }
        // So that no id token can pass for one.
        if claims.named("nonce").is_some() {
            return Err(IdentityError::claim("nonce", "is there, which it must not be"));
        }
        let text = |claim: &'static str| {
            claims.named(claim).map(|value| claims::text(claim, value)).transpose()
        };
        let (subject, sid) = (text("sub")?, text("sid")?);
        if subject.is_none() && sid.is_none() {
            return Err(IdentityError::claim("sub", "is missing, and so is `sid`"));
        }
        let id = text("jti")?.ok_or(IdentityError::claim("jti", "is missing"))?;
        Ok(LogoutOrder { issuer: self.issuer().to_owned(), subject, sid, id })
    }
}

/// The ids of logout tokens that were shown.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<String, Timestamp>>);

impl Seen {
    /// Notes an id; `false` if it was noted before and not forgotten since.
    fn is_first(&self, id: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains_key(id) {
            return false;
        }
        if seen.len() >= SEEN_MAX {
            // Twice the age, and then some: older tokens are refused for their age.
            let kept_s = AGE_S_MAX.saturating_mul(3);
            seen.retain(|_, at| now.as_second().saturating_sub(at.as_second()) < kept_s);
        }
        if seen.len() >= SEEN_MAX {
            // A logout that is carried out twice does no harm; one that is not carried out does.
            let oldest = seen.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone());
            oldest.and_then(|id| seen.remove(&id));
        }
        seen.insert(id.to_owned(), now);
        true
    }

    fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stay() {
        let seen = Seen::default();
        let at = |second: usize| Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
        for number in 0..=SEEN_MAX {
            assert!(seen.is_first(&number.to_string(), at(number / 100)));
        }
        assert_eq!(seen.0.lock().unwrap().len(), SEEN_MAX);
        assert!(!seen.is_first(&SEEN_MAX.to_string(), at(SEEN_MAX / 100)));
        seen.forget(&SEEN_MAX.to_string());
        assert!(seen.is_first(&SEEN_MAX.to_string(), at(SEEN_MAX / 100)));
    }
}
