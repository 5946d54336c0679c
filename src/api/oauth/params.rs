//! The parameters of OAuth requests: forms and queries, each name at most once.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use axum::Form;
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::extract::Request;
use axum::http::request::Parts;

use crate::api::oauth::fail::No;
use crate::identity::Wanted;
use crate::model::TargetName;
use crate::model::login::Use;

/// Longest value of a parameter, in bytes: a provider's token is the longest.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most parameters.
const PARAMETERS_MAX: usize = 64;
/// Longest text that is only shown, in bytes.
const SHOWN_BYTES_MAX: usize = 128;

/// Parameters by name. One without a value counts as left out (RFC 6749 §3.1).
pub(in crate::api) struct Params(BTreeMap<String, String>);

/// Says which there are; their values may be secrets.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Params {
    pub(in crate::api) fn of(pairs: Vec<(String, String)>) -> Result<Self, No> {
        if pairs.len() > PARAMETERS_MAX {
            return Err(No::request("the request has too many parameters"));
        }
        let mut all = BTreeMap::new();
        for (name, value) in pairs {
            if value.len() > VALUE_BYTES_MAX {
                return Err(No::request("a parameter is too long"));
            }
            if !value.is_empty() && all.insert(name, value).is_some() {
                return Err(No::request("a parameter stands there twice (RFC 6749 section 3.1)"));
            }
        }
        Ok(Self(all))
    }

    pub(in crate::api) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(in crate::api) fn need(&self, name: &'static str) -> Result<&str, No> {
        self.get(name).ok_or_else(|| No::request(format!("the parameter {name} is missing")))
    }

    /// A text that is shown to people: short, and without signs that move others about.
    pub(in crate::api) fn shown(&self, name: &str) -> Option<String> {
        self.get(name).map(tame).filter(|text| !text.is_empty())
    }

    /// What a credential is asked to be good for: `scope` and `target`; everything without them.
    pub(in crate::api) fn wanted(&self) -> Result<Wanted, No> {
        let mut wanted = Wanted::everything();
        if let Some(scope) = self.get("scope") {
            wanted.uses = scope_of(scope)?;
        }
        if let Some(target) = self.get("target") {
            let target = target.parse::<TargetName>();
            // RFC 8707 §2 has the word.
            let bad = |_| No::new("invalid_target", "the parameter target is no name of a target");
            wanted.target = Some(target.map_err(bad)?);
        }
        Ok(wanted)
    }
}

/// A text as it may be shown: at most [`SHOWN_BYTES_MAX`] bytes of printable signs.
pub(in crate::api) fn tame(text: &str) -> String {
    let mut tame = String::new();
    for sign in text.chars().filter(|sign| is_plain(*sign)) {
        if tame.len().saturating_add(sign.len_utf8()) > SHOWN_BYTES_MAX {
            break;
        }
        tame.push(sign);
    }
    tame.trim().to_owned()
}

/// No control character, and none that changes the direction of what stands around it.
fn is_plain(sign: char) -> bool {
    !sign.is_control()
        && !matches!(sign, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Uses, separated by blanks. `openid` and its like are for providers and change nothing here.
fn scope_of(scope: &str) -> Result<BTreeSet<Use>, No> {
    let words = scope.split(' ').filter(|word| {
        !word.is_empty() && !["openid", "profile", "email", "offline_access"].contains(word)
    });
    let uses = words.map(|word| serde_json::from_value::<Use>(word.into()));
    let uses = uses.collect::<Result<BTreeSet<_>, _>>().map_err(|_| {
        No::new("invalid_scope", "a scope is made of control, postgres, ssh, http and kubernetes")
    })?;
    if uses.is_empty() { Ok(Wanted::everything().uses) } else { Ok(uses) }
}

/// Uses as a scope.
pub(in crate::api) fn scope(uses: &BTreeSet<Use>) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The parameters of a form.
impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = No;

    async fn from_request(request: Request, state: &S) -> Result<Self, No> {
        let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
        let Form(pairs) = form.map_err(|_| {
            No::request(
                "expected a POST of application/x-www-form-urlencoded (RFC 6749 section 3.2)",
            )
        })?;
        Self::of(pairs)
    }
}

/// The parameters of a URL.
#[derive(Debug)]
pub(in crate::api) struct InUrl(pub(in crate::api) Params);

impl<S: Send + Sync> FromRequestParts<S> for InUrl {
    type Rejection = No;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, No> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = query.map_err(|_| No::request("the URL's query is not understood"))?;
        Params::of(pairs).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Result<Params, No> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Params::of(pairs.collect())
    }

    #[test]
    fn a_parameter_stands_there_once() {
        assert!(params(&[("code", "a"), ("code", "b")]).is_err());
        let one = params(&[("code", ""), ("code", "b")]).unwrap();
        assert_eq!(one.get("code"), Some("b"));
        assert!(!format!("{one:?}").contains('b'), "values may be secrets");
    }

    #[test]
    fn a_scope_is_what_a_credential_is_good_for() {
        let wanted = params(&[("scope", "control ssh"), ("target", "web-1")]).unwrap();
        let wanted = wanted.wanted().unwrap();
        assert_eq!(scope(&wanted.uses), "control ssh");
        assert_eq!(wanted.target.unwrap().as_str(), "web-1");
        let all = params(&[("scope", "openid")]).unwrap().wanted().unwrap();
        assert_eq!(all.uses, Wanted::everything().uses);
        for bad in [[("scope", "root")], [("scope", "ssh admin")], [("target", "../x")]] {
            assert!(params(&bad).unwrap().wanted().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_cannot_turn_the_page_around() {
        assert_eq!(tame(" a\u{202e}b\n<b> "), "ab<b>");
        assert_eq!(tame(&"é".repeat(500)).len(), SHOWN_BYTES_MAX);
    }
}
