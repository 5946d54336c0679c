//! What a login is like, and what another one must be like for a no to become a yes.
//!
//! Derived like a hold: the same question, asked as if somebody had just signed in as the policies'
//! `@step_up` says, and no better than that. Knows nothing of how anybody signs in.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::login::Authentication;
use crate::model::login::StepUp;
use crate::model::principal::Kind;
use crate::policy::engine::Answer;
use crate::policy::engine::Facts;
use crate::policy::rules::Rule;

/// The fact that says how old a login is.
pub(super) const AGE: &str = "auth_age_s";
const ACR: &str = "acr";
const AMR: &str = "amr";

/// How old a login is of which that is not known: ten thousand years, in seconds.
pub(super) const AGE_UNKNOWN_S: i64 = 315_576_000_000;
/// Longest age that a policy may ask for, in seconds: a year.
const AGE_S_MAX: u64 = 31_622_400;
/// Longest word of an `acr` or `amr`, in bytes.
const WORD_BYTES_MAX: usize = 256;
/// Most methods that a policy may ask for at once.
const METHODS_MAX: usize = 16;
/// Most different permits of which it is tried whether another login would make them say yes.
const TRIES_MAX: usize = 16;

/// What an annotation looks like.
pub(super) const EXPECTED: &str =
    "expected one or more of `max_age=SECONDS`, `acr=WORD` and `amr=WORD,WORD`, parted by `;`";

/// How and when whoever asks last proved who they are, as of the moment of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proven {
    age_s: i64,
    acr: Option<String>,
    amr: BTreeSet<String>,
    /// There is a person who can sign in again.
    may_repeat: bool,
}

impl Proven {
    /// As of `now`.
    pub(super) fn at(kind: Kind, authentication: Option<&Authentication>, now: Timestamp) -> Self {
        let may_repeat = match kind {
            Kind::Person | Kind::Agent => true,
            Kind::Workload | Kind::Gateway => false,
        };
        let Some(Authentication { at, acr, amr }) = authentication else {
            let amr = BTreeSet::new();
            return Self { age_s: AGE_UNKNOWN_S, acr: None, amr, may_repeat };
        };
        // The provider's clock may be ahead of ours.
        let age_s = now.duration_since(*at).as_secs().clamp(0, AGE_UNKNOWN_S);
        Self { age_s, acr: acr.clone(), amr: amr.clone(), may_repeat }
    }

    /// The same, but no older than `other` was.
    pub(super) fn no_older_than(mut self, other: &Self) -> Self {
        self.age_s = self.age_s.min(other.age_s);
        self
    }

    /// What policies read of it.
    pub(super) fn tell(&self, facts: &mut Facts) {
        facts.number(AGE, self.age_s);
        if let Some(acr) = &self.acr {
            facts.text(ACR, acr);
        }
        facts.set(AMR, self.amr.iter().cloned());
    }

    /// After another login that is just as `need` says: an annotation that promises too much does
    /// not send anybody to sign in for nothing.
    fn after(&self, need: &StepUp) -> Self {
        let oldest = need.age_s_max.and_then(|age| i64::try_from(age).ok());
        // One second below, so that `< 900` and `<= 900` are both what `max_age=900` means.
        let oldest = oldest.map_or(self.age_s, |age| age.saturating_sub(1));
        Self {
            age_s: self.age_s.min(oldest),
            acr: need.acr.clone().or_else(|| self.acr.clone()),
            amr: self.amr.union(&need.amr).cloned().collect(),
            may_repeat: self.may_repeat,
        }
    }
}

/// A no that another login would lift.
#[derive(Debug)]
pub(super) struct Lifted<'s> {
    /// What that login must be like.
    pub(super) need: StepUp,
    /// The rules that ask for it.
    pub(super) rules: Vec<&'s Rule>,
}

/// Whether `no` would be a yes after another login. `ask` asks the same question again; `permits`
/// are those that might say yes then.
pub(super) fn lift<'s>(
    no: &Answer<'s>,
    permits: impl FnOnce() -> Vec<&'s Rule>,
    proven: &Proven,
    ask: impl Fn(&Proven) -> Answer<'s>,
) -> Option<Lifted<'s>> {
    if !proven.may_repeat || no.allowed || !no.broken.is_empty() {
        return None;
    }
    // Every forbid must be lifted, and one that does not say how cannot be.
    let mut forbids = StepUp::default();
    for forbid in &no.rules {
        forbids = both(&forbids, forbid.step_up.as_ref()?)?;
    }
    let mut needs = Vec::new();
    if forbids != StepUp::default() {
        needs.push(forbids.clone());
    }
    for permit in permits() {
        let need = permit.step_up.as_ref().and_then(|need| both(&forbids, need));
        needs.extend(need.filter(|need| !needs.contains(need)));
    }
    needs.into_iter().take(TRIES_MAX).find_map(|need| {
        let answer = ask(&proven.after(&need));
        answer.allowed.then(|| {
            let asking = answer.rules.iter().filter(|permit| permit.step_up.is_some());
            let mut rules = no.rules.iter().chain(asking).copied().collect::<Vec<_>>();
            rules.sort_by_key(|rule| rule.order);
            Lifted { need, rules }
        })
    })
}

/// What a login must be like to be as both say; `None`: none can be.
pub(super) fn both(one: &StepUp, other: &StepUp) -> Option<StepUp> {
    let acr = match (&one.acr, &other.acr) {
        (Some(one), Some(other)) if one != other => return None,
        (Some(acr), _) | (None, Some(acr)) => Some(acr.clone()),
        (None, None) => None,
    };
    Some(StepUp {
        age_s_max: one.age_s_max.into_iter().chain(other.age_s_max).min(),
        acr,
        amr: one.amr.union(&other.amr).cloned().collect(),
    })
}

/// The facts that a policy with this need must look at.
pub(super) fn facts_of(need: &StepUp) -> impl Iterator<Item = &'static str> + use<> {
    let age = need.age_s_max.is_some().then_some(AGE);
    let acr = need.acr.is_some().then_some(ACR);
    let amr = (!need.amr.is_empty()).then_some(AMR);
    [age, acr, amr].into_iter().flatten()
}

/// Reads `max_age=900; acr=phr; amr=hwk,otp`, or says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<StepUp, String> {
    let mut need = StepUp::default();
    for part in text.split(';').map(str::trim) {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` in @step_up is not `key=value`"))?;
        let (key, value) = (key.trim(), value.trim());
        let twice = match key {
            "max_age" => need.age_s_max.replace(age(value)?).is_some(),
            "acr" => need.acr.replace(word(value)?).is_some(),
            "amr" => !std::mem::replace(&mut need.amr, methods(value)?).is_empty(),
            _ => return Err(format!("@step_up knows no `{key}`")),
        };
        if twice {
            return Err(format!("`{key}` stands twice in @step_up"));
        }
    }
    Ok(need)
}

fn age(text: &str) -> Result<u64, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let age = text.parse::<u64>().ok().filter(|age| digits && (1..=AGE_S_MAX).contains(age));
    age.ok_or_else(|| format!("`max_age={text}` in @step_up is no number from 1 to {AGE_S_MAX}"))
}

fn methods(text: &str) -> Result<BTreeSet<String>, String> {
    let methods = text.split(',').map(str::trim).map(word).collect::<Result<BTreeSet<_>, _>>()?;
    if methods.len() > METHODS_MAX {
        return Err(format!("`amr` in @step_up has more than {METHODS_MAX} methods"));
    }
    Ok(methods)
}

/// A word that fits a command line as it is.
fn word(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+%=@".contains(&byte);
    let plain = (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits);
    if plain { Ok(text.to_owned()) } else { Err(format!("`{text}` in @step_up is no word")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_annotation_is_read_strictly() {
        let need = parse("max_age=900; acr=urn:acme:phr;amr=hwk, otp").unwrap();
        assert_eq!(need.age_s_max, Some(900));
        assert_eq!(need.acr.as_deref(), Some("urn:acme:phr"));
        assert_eq!(need.amr, ["hwk", "otp"].map(str::to_owned).into());
        for wrong in [
            "",
            ";",
            "max_age=900;",
            "max_age",
            "max_age=",
            "max_age=0",
            "max_age=+900",
            "max_age=-1",
            "max_age=15m",
            "max_age=31622401",
            "max_age=99999999999999999999",
            "max_age=900; max_age=60",
            "acr=",
            "acr=a b",
            "acr=a\"; rm",
            "acr=a;acr=a",
            "amr=",
            "amr=hwk,",
            "amr=hwk; amr=otp",
            "age=900",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn needs_add_up_or_contradict() {
        let need = |text| parse(text).unwrap();
        let sum = both(&need("max_age=900; amr=hwk"), &need("max_age=60; acr=a; amr=otp"));
        assert_eq!(sum.unwrap(), need("max_age=60; acr=a; amr=hwk,otp"));
        assert_eq!(both(&need("acr=a"), &need("acr=b")), None);
    }

    #[test]
    fn what_is_not_known_is_old_and_the_future_is_now() {
        let now = "2026-11-21T12:00:00Z".parse::<Timestamp>().unwrap();
        assert_eq!(Proven::at(Kind::Person, None, now).age_s, AGE_UNKNOWN_S);
        let at = |at| Authentication { at, acr: None, amr: BTreeSet::new() };
        let age = |then: Timestamp| Proven::at(Kind::Person, Some(&at(then)), now).age_s;
        assert_eq!(age("2026-11-21T12:00:20Z".parse().unwrap()), 0);
        assert_eq!(age("2026-11-21T11:45:00Z".parse().unwrap()), 900);
        assert!((0..=AGE_UNKNOWN_S).contains(&age(Timestamp::MIN)));
        assert_eq!(age(Timestamp::MAX), 0);
    }

    proptest! {
        #[test]
        fn any_annotation_is_read_or_refused(text in "[a-z_=;, 0-9\u{e9}]{0,60}") {
            if let Ok(need) = parse(&text) {
                prop_assert!(need != StepUp::default());
                prop_assert!(need.age_s_max.is_none_or(|age| age > 0));
            }
        }
    }
}
