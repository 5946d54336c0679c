//! How a token is read, check by check: for administrators, never for whoever shows the token.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::identity::Expression;
use crate::identity::Identity;
use crate::identity::IdentityError;
use crate::identity::Verified;
use crate::identity::claims;
use crate::identity::provider::Provider;
use crate::identity::provider::Rests;
use crate::identity::token::CREDENTIALS;
use crate::identity::token::Claims;
use crate::identity::token::Token;
use crate::model::Principal;
use crate::model::fault::Chain;
use crate::model::login::Authentication;

/// How a token is read. Never has the token, nor what is secret of it.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// Whether it is accepted.
    pub accepted: bool,
    /// Every check, in order.
    pub findings: Vec<Finding>,
    /// Whom it is read as: only where it is accepted.
    pub principal: Option<Principal>,
    /// How and when they signed in.
    pub authentication: Option<Authentication>,
    /// Until when it is good, the allowed skew included.
    pub expires_at: Option<Timestamp>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which: `signature`, `roles`.
    pub check: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was found, or what is wrong.
    pub detail: String,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is as it should be.
    Passed,
    /// It is not, and the token is refused.
    Failed,
    /// It was not looked at, because of what failed before.
    Skipped,
}

/// The checks that nothing may be believed before, and those that follow.
const FIRST: [&str; 5] = ["form", "issuer", "algorithm", "key", "signature"];
const THEN: [&str; 11] = [
    "audience",
    "type",
    "times",
    "required",
    "groups",
    "name",
    "person",
    "roles",
    "entity",
    "residence",
    "attributes",
];
const LAST: [&str; 2] = ["kind", "authentication"];

impl Identity {
    /// Says of every check how it goes for `token`, and how its claims are read.
    pub async fn explain(&self, token: &str) -> Explanation {
        let mut trace = Trace::default();
        // An error is in the trace already.
        let read = self.explain_signed(token, &mut trace).await.ok();
        let signed_in = read.and_then(|(provider, claims)| {
            provider.explain_claims(&claims, &mut trace);
            let signed_in = provider.believe(&claims, Rests::OnToken, None).ok();
            signed_in.filter(|_| !trace.failed())
        });
        trace.skip_the_rest();
        let verified = signed_in.map(|signed_in| signed_in.verified);
        Explanation {
            accepted: verified.is_some(),
            findings: trace.0,
            principal: verified.as_ref().map(|verified| (**verified.principal()).clone()),
            authentication: verified.as_ref().and_then(Verified::authentication),
            expires_at: verified.and_then(|verified| verified.expires_at()),
        }
    }

    async fn explain_signed(
        &self,
        text: &str,
        trace: &mut Trace,
    ) -> Result<(Arc<Provider>, Claims), IdentityError> {
        let form = |_: &Token<'_>| format!("{} bytes, three parts", text.len());
        let token = trace.note("form", Token::read(text, CREDENTIALS), form)?;
        let provider = self.provider(token.issuer()).map(Arc::clone);
        let provider = trace.note("issuer", provider, |one| one.issuer().to_owned())?;
        let allowed = provider.allowed(token.algorithm());
        trace.note("algorithm", allowed, |one| format!("{one:?}"))?;
        let keys = provider.keys_of(&token).await;
        let id = |_: &_| token.key_id().map_or("the only one".to_owned(), |id| format!("{id:?}"));
        let (wanted, keys) = trace.note("key", keys, id)?;
        let claims = provider.signed_with(&token, wanted, &keys);
        let claims = trace.note("signature", claims, |_| "it is the provider's".to_owned())?;
        Ok((provider, claims))
    }
}

impl Provider {
    fn explain_claims(&self, claims: &Claims, trace: &mut Trace) {
        let mapping = &self.options().mapping;
        let named =
            |claims: &Claims| claims.audience().map(|all| all.join(", ")).unwrap_or_default();
        trace.look("audience", &self.audience(claims), |()| named(claims));
        trace.look("type", &Self::credential(claims), |()| "a credential".to_owned());
        trace.look("times", &self.times(claims), |until| format!("good until {until}"));
        let required = self.options().require.len();
        trace.look("required", &self.required(claims), |()| match required {
            0 => "nothing is required".to_owned(),
            count => format!("{count} claims are as required"),
        });
        trace.look("groups", &claims::overflow(mapping, claims), |()| "in the token".to_owned());
        let by = |expression: &Expression, value: &str| format!("{value} (by {expression})");
        let name = claims::identifier(&mapping.name, claims);
        trace.look("name", &name, |name| by(&mapping.name, name));
        let person = claims::identifier(&mapping.person, claims);
        trace.look("person", &person, |person| by(&mapping.person, person));
        let none = || "no claim is configured for it".to_owned();
        trace.look("roles", &claims::roles(mapping, claims), |roles| {
            let Some(mapped) = &mapping.roles else { return none() };
            let roles = roles.as_ref().map(|roles| roles.iter().cloned().collect::<Vec<_>>());
            match roles.map(|roles| roles.join(", ")) {
                None => by(&mapped.claim, "none: the token has no such claim"),
                Some(roles) if roles.is_empty() => {
                    by(&mapped.claim, "none: no word of the claim is configured")
                }
                Some(roles) => by(&mapped.claim, &roles),
            }
        });
        trace.look("entity", &claims::entity(mapping, claims), |entity| {
            let Some(mapped) = &mapping.entity else { return none() };
            let none = "none: the claim is missing, or its word is not configured";
            by(&mapped.claim, entity.as_ref().map_or(none, |entity| entity.as_str()))
        });
        trace.look("residence", &claims::residence(mapping, claims), |country| {
            let Some(expression) = &mapping.residence else { return none() };
            by(expression, country.as_ref().map_or("unknown", |country| country.as_str()))
        });
        trace.look("attributes", &claims::attributes(mapping, claims), listed);
        let principal = claims::principal(self.issuer(), mapping, claims);
        trace.look("kind", &principal, |principal| {
            let kind = format!("{:?}", principal.kind).to_lowercase();
            if principal.actors.is_empty() { kind } else { format!("{kind}: {principal}") }
        });
        trace.look("authentication", &self.authentication(claims, Rests::OnToken), |proved| {
            let methods = proved.amr.iter().cloned().collect::<Vec<_>>().join(", ");
            let acr = proved.acr.as_deref().unwrap_or("none");
            format!("at {}, acr {acr}, amr {methods}", proved.at)
        });
    }
}

fn listed(attributes: &BTreeMap<String, String>) -> String {
    let listed = attributes.iter().map(|(name, value)| format!("{name} = {value}"));
    let listed = listed.collect::<Vec<_>>().join(", ");
    if listed.is_empty() { "none".to_owned() } else { listed }
}

#[derive(Default)]
struct Trace(Vec<Finding>);

impl Trace {
    /// Notes how a check went, and passes on what it gave.
    fn note<T>(
        &mut self,
        check: &'static str,
        result: Result<T, IdentityError>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<T, IdentityError> {
        self.look(check, &result, detail);
        result
    }

    /// Notes how a check went.
    fn look<T>(
        &mut self,
        check: &'static str,
        result: &Result<T, IdentityError>,
        detail: impl FnOnce(&T) -> String,
    ) {
        let (outcome, detail) = match result {
            Ok(value) => (Outcome::Passed, detail(value)),
            Err(error) => (Outcome::Failed, Chain(error).to_string()),
        };
        self.0.push(Finding { check, outcome, detail });
    }

    fn failed(&self) -> bool {
        self.0.iter().any(|finding| finding.outcome == Outcome::Failed)
    }

    fn skip_the_rest(&mut self) {
        let all = FIRST.into_iter().chain(THEN).chain(LAST);
        for check in all.skip(self.0.len()).collect::<Vec<_>>() {
            let detail = "not looked at".to_owned();
            self.0.push(Finding { check, outcome: Outcome::Skipped, detail });
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}
