//! What for: whoever looks at what somebody else did says it, and it is in the ledger.

use crate::api::fail::Fail;
use crate::model::Refusal;
use crate::model::refusal::RefusalCode;

/// Longest purpose, in characters.
pub(super) const PURPOSE_CHARS_MAX: usize = 500;

/// What somebody looks for, in their words, if they said so.
#[derive(Debug, Clone, Default)]
pub(super) struct Purpose(Option<String>);

impl Purpose {
    /// Reads the parameter `purpose` of a call.
    pub(super) fn of(said: Option<&str>) -> Result<Self, Fail> {
        let said = said.map(str::trim).filter(|said| !said.is_empty());
        let bad = |said: &str| {
            said.chars().count() > PURPOSE_CHARS_MAX || said.chars().any(char::is_control)
        };
        if said.is_some_and(bad) {
            let what = format!("a purpose is one line of at most {PURPOSE_CHARS_MAX} characters");
            return Err(Fail::malformed(&what));
        }
        Ok(Self(said.map(str::to_owned)))
    }

    /// As it was said.
    pub(super) fn said(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Nobody needs one for what is their own; a refusal where one is needed and was not said.
    pub(super) fn is_enough(&self, own: bool) -> Result<(), Refusal> {
        if own || self.0.is_some() {
            return Ok(());
        }
        let reason = "looking at what somebody else did needs a purpose, which is recorded";
        let hint =
            "say what for: --purpose \"TEXT\" (in a call to the API: the parameter `purpose`)";
        Err(Refusal::new(RefusalCode::Denied, reason).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_is_seen_without_a_purpose() {
        let none = Purpose::of(Some("  ")).unwrap();
        none.is_enough(true).unwrap();
        assert!(none.is_enough(false).unwrap_err().hint.unwrap().contains("--purpose"));
        let some = Purpose::of(Some(" incident 7 ")).unwrap();
        some.is_enough(false).unwrap();
        assert_eq!(some.said(), Some("incident 7"));
        for bad in ["a\nb", &"ä".repeat(PURPOSE_CHARS_MAX + 1)] {
            Purpose::of(Some(bad)).unwrap_err();
        }
    }
}
