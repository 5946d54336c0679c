//! What a client is told when the answer is no.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::model::RuleId;
use crate::model::login::StepUp;

/// Which kind of no it is; each protocol has its own code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// Policy says no (SQLSTATE 42501, HTTP 403, SSH exit status 126).
    Denied,
    /// The law says no, or it is not known which law applies (like [`RefusalCode::Denied`]).
    Residency,
    /// An approver said no.
    Declined,
    /// Nobody answered in time (SQLSTATE 57014, HTTP 408).
    TimedOut,
    /// The client took it back (SQLSTATE 57014).
    Canceled,
    /// Who asks could not be verified (SQLSTATE 28000, HTTP 401).
    Unauthenticated,
    /// Who asks must prove it again, more freshly or more strongly (SQLSTATE 28000, HTTP 401 as RFC
    /// 9470 says it).
    StepUp,
    /// No such target, or not for this principal: one answer for both (SQLSTATE 3D000, HTTP 404).
    NoTarget,
    /// Weir does not carry this (SQLSTATE 42501, HTTP 501).
    Unsupported,
    /// Not understood (SQLSTATE 08P01, HTTP 400).
    Malformed,
    /// A bound was reached (SQLSTATE 54000, HTTP 413).
    TooLarge,
    /// The answer could not be masked, so it is withheld (SQLSTATE 42501, HTTP 502).
    Withheld,
    /// It could not be recorded (SQLSTATE 58030, HTTP 503).
    Unrecorded,
    /// The target cannot be reached or broke the protocol (SQLSTATE 08006, HTTP 502).
    TargetFailed,
    /// The session ended: killed, grant over, policy changed, drain (SQLSTATE 57P01).
    SessionEnded,
}

/// What a client is told when the answer is no: why, by which rules, and what to do next.
///
/// This is the only error text that crosses to a client. It never says why a credential was nearly
/// valid, and never carries a target's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which kind of no.
    pub code: RefusalCode,
    /// The reason, a sentence for a human being.
    pub reason: String,
    /// The rules that decided.
    pub rules: Vec<RuleId>,
    /// What to do next: the one line that asks for access, or what to change.
    pub hint: Option<String>,
    /// What a fresh login must be like, where one would turn the no into a yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<Box<StepUp>>,
}

impl Refusal {
    /// A refusal for `reason`, without rules or a hint.
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), rules: Vec::new(), hint: None, step_up: None }
    }

    /// The same, with the rules that decided.
    #[must_use]
    pub fn by(mut self, rules: Vec<RuleId>) -> Self {
        self.rules = rules;
        self
    }

    /// The same, with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What an HTTP answer with status 401 says in `WWW-Authenticate` (RFC 6750 section 3): how to
    /// sign in, and what the sign-in must be like (RFC 9470 section 3).
    pub fn challenge(&self) -> String {
        let realm = "Bearer realm=\"weir\"".to_owned();
        if self.code != RefusalCode::StepUp {
            return realm;
        }
        let need = self.step_up.as_deref();
        let age = need.and_then(|need| need.age_s_max).map(|age_s| format!("max_age=\"{age_s}\""));
        // Only what needs no escape between quotes; policies can say nothing else.
        let plain = |acr: &&str| acr.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b));
        let acr = need.and_then(|need| need.acr.as_deref()).filter(plain);
        let acr = acr.map(|acr| format!("acr_values=\"{acr}\""));
        let error = "error=\"insufficient_user_authentication\"".to_owned();
        [Some(realm), Some(error), age, acr].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// The deciding rules as one text: `rule-a, rule-b`; empty where no rule decided.
    pub fn rules_text(&self) -> String {
        self.rules.iter().map(RuleId::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.rules.is_empty() {
            write!(f, " [{}]", self.rules_text())?;
        }
        Ok(())
    }
}

/// An error of which a client may be told something: what exactly, its type says here.
///
/// Not to be implemented for boxed or `anyhow` errors: whoever shows an error to a client has
/// thought about that very error.
pub trait IntoRefusal {
    /// What the client is told.
    fn refusal(&self) -> Refusal;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_what_the_next_sign_in_must_be_like() {
        let plain = Refusal::new(RefusalCode::Unauthenticated, "who?");
        assert_eq!(plain.challenge(), "Bearer realm=\"weir\"");
        let mut refusal = Refusal::new(RefusalCode::StepUp, "again");
        let begin = "Bearer realm=\"weir\", error=\"insufficient_user_authentication\"";
        assert_eq!(refusal.challenge(), begin);
        let need = |acr: &str| StepUp {
            age_s_max: Some(900),
            acr: Some(acr.to_owned()),
            ..StepUp::default()
        };
        refusal.step_up = Some(Box::new(need("phr")));
        assert_eq!(refusal.challenge(), format!("{begin}, max_age=\"900\", acr_values=\"phr\""));
        for strange in ["a\"b", "a\\", "a\r\nset-cookie: x", "\u{e9}"] {
            refusal.step_up = Some(Box::new(need(strange)));
            assert_eq!(refusal.challenge(), format!("{begin}, max_age=\"900\""));
        }
    }
}
