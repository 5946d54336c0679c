//! What a reconciliation is told besides the log and the record.

use std::convert::Infallible;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::audit::reconcile::time::LogTime;

/// By how much the target's clock and the gateway's may differ, where nobody says otherwise, in
/// seconds.
pub const SKEW_S_DEFAULT: i64 = 5;

/// What a reconciliation is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// By how much the target's clock and the gateway's may differ.
    pub skew: SignedDuration,
    /// Who of the log may be there without the gateway: they are counted, not listed.
    pub except: Vec<Pattern>,
    /// Nothing before this counts.
    pub since: Option<Timestamp>,
    /// Nothing after this counts.
    pub until: Option<Timestamp>,
    /// How the log's times are read.
    pub time: LogTime,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            skew: SignedDuration::from_secs(SKEW_S_DEFAULT),
            except: Vec::new(),
            since: None,
            until: None,
            time: LogTime::default(),
        }
    }
}

impl Options {
    /// Whether `who` may be in the log without the gateway.
    pub(super) fn excepts(&self, who: &str) -> bool {
        self.except.iter().any(|pattern| pattern.matches(who))
    }

    /// Whether `at` is outside of what counts.
    pub(super) fn outside(&self, at: Option<Timestamp>) -> bool {
        let before = |since: Timestamp| at.is_some_and(|at| at < since);
        let after = |until: Timestamp| at.is_some_and(|at| at > until);
        self.since.is_some_and(before) || self.until.is_some_and(after)
    }
}

/// A text in which each `*` stands for any signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// Whether it is the pattern of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            let Some((_, after)) = rest.split_once(part.as_str()) else { return false };
            rest = after;
        }
        rest.ends_with(last.as_str())
    }
}

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split('*').map(str::to_owned).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_signs() {
        let matches = |pattern: &str, text: &str| {
            let Ok(pattern) = pattern.parse::<Pattern>();
            pattern.matches(text)
        };
        assert!(matches("system:*", "system:node:a"));
        assert!(matches("*@customers", "root@customers"));
        assert!(matches("a*b*c", "a-b-b-c") && matches("*", "") && matches("a", "a"));
        assert!(!matches("system:*", "alice") && !matches("a", "ab") && !matches("a*a", "a"));
    }
}
