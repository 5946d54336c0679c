//! What a call says of the sessions that it is about.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Deserialize;

use crate::api::fail::Fail;
use crate::model::Country;
use crate::model::DataClass;
use crate::model::Protocol;
use crate::model::TargetName;
use crate::model::when::When;
use crate::store::Filter;
use crate::store::LIST_ROWS_MAX;

/// Longest name that somebody looks for, in characters.
const NAME_CHARS_MAX: usize = 256;
/// How many rows are returned where the call does not say.
const ROWS_DEFAULT: u32 = 50;

/// The parameters of a list of sessions, and of a search.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a call")]
pub(super) struct Asked {
    /// What is searched for.
    pub(super) q: Option<String>,
    /// What for.
    pub(super) purpose: Option<String>,
    /// Only the caller's own sessions.
    pub(super) own: bool,
    user: Option<String>,
    target: Option<TargetName>,
    protocol: Option<Protocol>,
    since: Option<String>,
    until: Option<String>,
    denied: bool,
    held: bool,
    class: Option<DataClass>,
    country: Option<Country>,
    live: bool,
    limit: Option<u32>,
}

/// Refuses what is no name: it would be noted in the ledger as it stands, line feeds and all.
pub(super) fn one_word(parameter: &str, said: Option<&str>) -> Result<(), Fail> {
    let bad =
        |said: &str| said.chars().count() > NAME_CHARS_MAX || said.chars().any(char::is_control);
    if said.is_some_and(bad) {
        let what = format!("`{parameter}` is one line of at most {NAME_CHARS_MAX} characters");
        return Err(Fail::malformed(&what));
    }
    Ok(())
}

impl Asked {
    /// The filter that is asked for, without what the caller may see.
    pub(super) fn filter(&self, now: Timestamp) -> Result<Filter, Fail> {
        let time = |text: &Option<String>| {
            let when = text.as_deref().map(str::parse::<When>).transpose();
            let when = when.map_err(|bad| Fail::malformed(&bad.to_string()))?;
            Ok::<_, Fail>(when.map(|when| when.before(now)))
        };
        one_word("user", self.user.as_deref())?;
        Ok(Filter {
            user: self.user.clone(),
            target: self.target.clone(),
            protocol: self.protocol,
            since: time(&self.since)?,
            until: time(&self.until)?,
            denied: self.denied,
            held: self.held,
            class: self.class.clone(),
            country: self.country.clone(),
            live: self.live,
            limit: Some(self.limit.unwrap_or(ROWS_DEFAULT).min(LIST_ROWS_MAX)),
            ..Filter::default()
        })
    }

    /// Only the sessions at a target, if that is asked for.
    pub(super) fn target(&self) -> Option<&TargetName> {
        self.target.as_ref()
    }

    /// What is looked for and where, for the ledger.
    pub(super) fn in_words(&self) -> String {
        // Signs between words mean nothing to a search, so that they may as well be blanks here.
        let mut words = self.q.as_deref().unwrap_or_default().replace(char::is_control, " ");
        let flag = |set: bool| set.then(String::new);
        let given = [
            ("own", flag(self.own)),
            ("user", self.user.clone()),
            ("target", self.target.as_ref().map(ToString::to_string)),
            ("protocol", self.protocol.map(|protocol| protocol.to_string())),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
            ("denied", flag(self.denied)),
            ("held", flag(self.held)),
            ("class", self.class.as_ref().map(ToString::to_string)),
            ("country", self.country.as_ref().map(ToString::to_string)),
            ("live", flag(self.live)),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                let value = if value.is_empty() { value } else { format!(" {value}") };
                // Writing to a `String` cannot fail.
                let _written = write!(words, "; {name}{value}");
            }
        }
        words
    }
}
