//! The small language in which an operator says where a value stands in a token.
//!
//! ```text
//! groups                                   a claim by its name, or /a/pointer (RFC 6901)
//! first(email, upn)                        the first of these that is there
//! split(roles, ",")                        a text, taken apart
//! lower(email)                             in lower case
//! match(groups, "weir-*")                  of those that fit, what stands for the `*`
//! join(groups, /realm_access/roles)        one list of all
//! "fixed"                                  a text of its own
//! claim("odd (name)")                      a claim whose name has signs of this language
//! ```
//!
//! Pure, and bounded: an expression has no loop, and cannot make more texts than the token has.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::identity::ClaimPath;
use crate::identity::IdentityError;
use crate::identity::token::Claims;

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 512;
/// How deep functions may stand in functions.
const DEPTH_MAX: usize = 8;
/// Most arguments of one function.
const ARGUMENTS_MAX: usize = 16;
/// Most texts in a list that a function makes.
const TEXTS_MAX: usize = 4_096;
/// The signs that make a text more than the name of a claim.
const SIGNS: [char; 4] = ['(', ')', ',', '"'];

/// Where a value stands in a token, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    text: String,
    term: Term,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Claim(ClaimPath),
    Text(String),
    First(Vec<Self>),
    Join(Vec<Self>),
    Split(Box<Self>, String),
    Lower(Box<Self>),
    Match(Box<Self>, Pattern),
}

/// What an expression is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// For any value.
    Plain,
    /// For a text by which somebody is told from others.
    ///
    /// An e-mail address is one only if the provider says that it was verified: at some providers
    /// anybody can write somebody else's address into their own account.
    Identifying,
}

impl Expression {
    /// The expression as configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A top-level claim whose name is known to be good.
    pub(super) fn name(name: &'static str) -> Self {
        Self { text: name.to_owned(), term: Term::Claim(ClaimPath::name(name)) }
    }

    /// What it yields; `None` where the token does not have it.
    pub(super) fn value(
        &self,
        claims: &Claims,
        reading: Reading,
    ) -> Result<Option<Value>, IdentityError> {
        self.term.value(claims, reading).map_err(|problem| match problem {
            Problem::Unverified => {
                IdentityError::claim("email_verified", "is not true, so `email` is not used")
            }
            Problem::Form(problem) => IdentityError::claim(self.as_str(), problem),
        })
    }

    /// The claims that it names.
    pub(super) fn paths(&self) -> Vec<&ClaimPath> {
        let mut paths = Vec::new();
        self.term.paths(&mut paths);
        paths
    }
}

enum Problem {
    Unverified,
    Form(&'static str),
}

impl Term {
    fn value(&self, claims: &Claims, reading: Reading) -> Result<Option<Value>, Problem> {
        match self {
            Self::Claim(path) => claim(path, claims, reading),
            Self::Text(text) => Ok(Some(Value::from(text.as_str()))),
            Self::First(terms) => {
                for term in terms {
                    if let Some(value) = term.value(claims, reading)?.filter(is_something) {
                        return Ok(Some(value));
                    }
                }
                Ok(None)
            }
            Self::Join(terms) => join(terms, claims, reading),
            Self::Split(term, separator) => term.map(claims, reading, true, |text| {
                let parts = text.split(separator.as_str()).map(str::trim);
                parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
            }),
            Self::Lower(term) => term.map(claims, reading, false, |text| vec![text.to_lowercase()]),
            Self::Match(term, pattern) => term.map(claims, reading, false, |text| {
                pattern.capture(text).map(str::to_owned).into_iter().collect()
            }),
        }
    }

    /// Applies `change` to the text, or to each of the list. A text stays a text unless `as_list`;
    /// one of which nothing is left is not there.
    fn map(
        &self,
        claims: &Claims,
        reading: Reading,
        as_list: bool,
        change: impl Fn(&str) -> Vec<String>,
    ) -> Result<Option<Value>, Problem> {
        let Some(value) = self.value(claims, reading)? else { return Ok(None) };
        let changed = texts(&value)?.into_iter().flat_map(|text| change(&text)).collect::<Vec<_>>();
        if changed.len() > TEXTS_MAX {
            return Err(Problem::Form("has too many parts"));
        }
        if as_list || value.is_array() {
            return Ok(Some(changed.into()));
        }
        Ok(changed.into_iter().next().map(Value::from))
    }

    fn paths<'a>(&'a self, paths: &mut Vec<&'a ClaimPath>) {
        match self {
            Self::Claim(path) => paths.push(path),
            Self::Text(_) => {}
            Self::First(terms) | Self::Join(terms) => {
                for term in terms {
                    term.paths(paths);
                }
            }
            Self::Split(term, _) | Self::Lower(term) | Self::Match(term, _) => term.paths(paths),
        }
    }
}

fn claim(path: &ClaimPath, claims: &Claims, reading: Reading) -> Result<Option<Value>, Problem> {
    let Some(value) = claims.at(path) else { return Ok(None) };
    let verified = || claims.named("email_verified").and_then(Value::as_bool) == Some(true);
    let is_address = matches!(path.as_str(), "email" | "/email");
    if reading == Reading::Identifying && is_address && !verified() {
        return Err(Problem::Unverified);
    }
    Ok(Some(value.clone()))
}

fn join(terms: &[Term], claims: &Claims, reading: Reading) -> Result<Option<Value>, Problem> {
    let mut all: Option<Vec<String>> = None;
    for term in terms {
        let Some(value) = term.value(claims, reading)? else { continue };
        let all = all.get_or_insert_default();
        all.extend(texts(&value)?);
        if all.len() > TEXTS_MAX {
            return Err(Problem::Form("has too many parts"));
        }
    }
    Ok(all.map(Value::from))
}

fn is_something(value: &Value) -> bool {
    value.as_str().is_none_or(|text| !text.is_empty())
        && value.as_array().is_none_or(|list| !list.is_empty())
}

fn texts(value: &Value) -> Result<Vec<String>, Problem> {
    const WRONG: Problem = Problem::Form("is neither a text nor a list of texts");
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(values) => {
            values.iter().map(|value| value.as_str().map(str::to_owned).ok_or(WRONG)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(WRONG),
    }
}

// === Pattern ===

/// A text with at most one `*`, which stands for any signs, none too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    after: Option<String>,
}

impl Pattern {
    /// Of a text that fits, what stands for the `*`; all of it where the pattern has none.
    pub fn capture<'a>(&self, text: &'a str) -> Option<&'a str> {
        match &self.after {
            None => (text == self.before).then_some(text),
            Some(after) => text.strip_prefix(self.before.as_str())?.strip_suffix(after.as_str()),
        }
    }
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('*') {
            None if text.is_empty() => Err("expected a pattern: it is empty"),
            None => Ok(Self { before: text.to_owned(), after: None }),
            Some((_, after)) if after.contains('*') => Err("expected at most one `*` in a pattern"),
            Some((before, after)) => {
                Ok(Self { before: before.to_owned(), after: Some(after.to_owned()) })
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        self.after.as_ref().map_or(Ok(()), |after| write!(f, "*{after}"))
    }
}

// === Parser ===

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at sign {} of the expression", self.sign)]
pub struct ExpressionError {
    what: &'static str,
    /// Before which sign, from 1.
    sign: usize,
    /// Before which byte, from 0.
    byte: usize,
}

impl ExpressionError {
    /// Before which byte of the expression it is.
    pub fn byte(&self) -> usize {
        self.byte
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        let mut parser = Parser { text, at: 0 };
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(parser.error("expected at most 512 bytes"));
        }
        if !text.contains(SIGNS) {
            let path = ClaimPath::try_from(text.to_owned());
            let path = path.map_err(|_| parser.error("expected the name of a claim"))?;
            return Ok(Self { text: text.to_owned(), term: Term::Claim(path) });
        }
        let term = parser.term(0)?;
        parser.blanks();
        if parser.at < text.len() {
            return Err(parser.error("expected the end"));
        }
        Ok(Self { text: text.to_owned(), term })
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, ExpressionError> {
        text.parse()
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn term(&mut self, depth: usize) -> Result<Term, ExpressionError> {
        if depth > DEPTH_MAX {
            return Err(self.error("expected functions at most 8 deep"));
        }
        self.blanks();
        if self.rest().starts_with('"') {
            return self.quoted().map(Term::Text);
        }
        let start = self.at;
        let word = self.word();
        if word.is_empty() {
            return Err(self.error("expected a claim, a function or a text in quotes"));
        }
        self.blanks();
        if self.rest().starts_with('(') {
            return self.function(start, word, depth);
        }
        self.path(start, word)
    }

    fn path(&self, start: usize, name: &str) -> Result<Term, ExpressionError> {
        let path = ClaimPath::try_from(name.to_owned());
        path.map(Term::Claim).map_err(|_| self.error_at(start, "expected the name of a claim"))
    }

    fn function(
        &mut self,
        start: usize,
        name: &str,
        depth: usize,
    ) -> Result<Term, ExpressionError> {
        const KNOWN: &str = "expected one of first, join, split, lower, match, claim";
        self.sign('(', "expected `(`")?;
        let inner = depth.saturating_add(1);
        let term = match name {
            "first" => Term::First(self.list(inner)?),
            "join" => Term::Join(self.list(inner)?),
            "lower" => Term::Lower(Box::new(self.term(inner)?)),
            "split" => {
                let term = Box::new(self.term(inner)?);
                let (at, separator) = self.second()?;
                if separator.is_empty() {
                    return Err(self.error_at(at, "expected a separator: it is empty"));
                }
                Term::Split(term, separator)
            }
            "match" => {
                let term = Box::new(self.term(inner)?);
                let (at, pattern) = self.second()?;
                Term::Match(term, pattern.parse().map_err(|what| self.error_at(at, what))?)
            }
            "claim" => {
                self.blanks();
                let at = self.at;
                let name = self.quoted()?;
                self.path(at, &name)?
            }
            _ => return Err(self.error_at(start, KNOWN)),
        };
        self.sign(')', "expected `)`")?;
        Ok(term)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Term>, ExpressionError> {
        let mut terms = vec![self.term(depth)?];
        loop {
            self.blanks();
            if !self.rest().starts_with(',') {
                return Ok(terms);
            }
            if terms.len() == ARGUMENTS_MAX {
                return Err(self.error("expected at most 16 arguments"));
            }
            self.sign(',', "expected `,`")?;
            terms.push(self.term(depth)?);
        }
    }

    /// A comma and a text, and where the text begins.
    fn second(&mut self) -> Result<(usize, String), ExpressionError> {
        self.sign(',', "expected `,` and a text in quotes")?;
        self.blanks();
        Ok((self.at, self.quoted()?))
    }

    /// A text in double quotes; it has no escapes, and so no quote.
    fn quoted(&mut self) -> Result<String, ExpressionError> {
        self.sign('"', "expected a text in quotes")?;
        let Some((text, _)) = self.rest().split_once('"') else {
            return Err(self.error("expected a closing quote"));
        };
        if text.chars().any(char::is_control) {
            return Err(self.error("expected a text without control characters"));
        }
        self.at = self.at.saturating_add(text.len()).saturating_add(1);
        Ok(text.to_owned())
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let ends = |sign: char| SIGNS.contains(&sign) || sign.is_whitespace();
        let word = rest.split(ends).next().unwrap_or_default();
        self.at = self.at.saturating_add(word.len());
        word
    }

    fn sign(&mut self, sign: char, expected: &'static str) -> Result<(), ExpressionError> {
        self.blanks();
        if !self.rest().starts_with(sign) {
            return Err(self.error(expected));
        }
        self.at = self.at.saturating_add(sign.len_utf8());
        Ok(())
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at = self.at.saturating_add(rest.len().saturating_sub(rest.trim_start().len()));
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: &'static str) -> ExpressionError {
        self.error_at(self.at, what)
    }

    fn error_at(&self, byte: usize, what: &'static str) -> ExpressionError {
        let before = self.text.get(..byte).unwrap_or_default();
        ExpressionError { what, sign: before.chars().count().saturating_add(1), byte }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(expression: &str, claims: &Value) -> Option<Value> {
        let claims = serde_json::from_value::<Claims>(claims.clone()).unwrap();
        let expression = expression.parse::<Expression>().unwrap();
        expression.value(&claims, Reading::Plain).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn each_function_does_what_it_says() {
        let claims = json!({
            "upn": "Alice@Acme.Example", "empty": "", "none": [],
            "groups": ["weir-ops", "weir-dev", "admin"], "roles": "a, b,,c",
            "https://acme.example/roles": ["x"], "realm": {"roles": ["y", "weir-z"]},
            "odd (name)": "odd", "two words": 2, "sub": "system:serviceaccount:ci:build",
        });
        for (expression, expected) in [
            ("upn", json!("Alice@Acme.Example")),
            ("two words", json!(2)),
            ("https://acme.example/roles", json!(["x"])),
            ("/realm/roles", json!(["y", "weir-z"])),
            ("\"fixed\"", json!("fixed")),
            ("first(missing, empty, none, upn)", json!("Alice@Acme.Example")),
            ("first(missing, \"fixed\")", json!("fixed")),
            ("lower(upn)", json!("alice@acme.example")),
            ("lower(groups)", json!(["weir-ops", "weir-dev", "admin"])),
            ("split(roles, \",\")", json!(["a", "b", "c"])),
            ("match(groups, \"weir-*\")", json!(["ops", "dev"])),
            ("match( sub ,\"system:serviceaccount:*\" )", json!("ci:build")),
            ("match(upn, \"*@Acme.Example\")", json!("Alice")),
            ("match(groups, \"admin\")", json!(["admin"])),
            (
                "join(groups, upn, missing, /realm/roles)",
                json!(["weir-ops", "weir-dev", "admin", "Alice@Acme.Example", "y", "weir-z"]),
            ),
            (
                "match(join(groups, https://acme.example/roles, /realm/roles), \"weir-*\")",
                json!(["ops", "dev", "z"]),
            ),
            ("claim(\"odd (name)\")", json!("odd")),
        ] {
            assert_eq!(read(expression, &claims), Some(expected), "{expression}");
        }
        for nothing in [
            "missing",
            "first(missing, empty)",
            "lower(missing)",
            "join(missing)",
            "match(upn, \"x*\")",
            "split(missing, \",\")",
        ] {
            assert_eq!(read(nothing, &claims), None, "{nothing}");
        }
        assert_eq!(read("match(groups, \"x*\")", &claims), Some(json!([])));
    }

    #[test]
    fn what_is_no_text_is_refused_by_functions_and_not_made_one() {
        for wrong in [json!(1), json!(true), json!({"a": "b"}), json!(["a", 1]), json!([["a"]])] {
            let claims = serde_json::from_value::<Claims>(json!({ "x": wrong })).unwrap();
            for expression in ["lower(x)", "split(x, \",\")", "match(x, \"*\")", "join(x)"] {
                let expression = expression.parse::<Expression>().unwrap();
                assert!(expression.value(&claims, Reading::Plain).is_err(), "{expression} {wrong}");
            }
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let deep = format!("{}x{}", "lower(".repeat(9), ")".repeat(9));
        let many = format!("first({}x)", "x,".repeat(16));
        for (bad, sign, word) in [
            ("", 1, "name"),
            ("first(", 7, "claim"),
            ("first()", 7, "claim"),
            ("first(a", 8, "`)`"),
            ("first(a,)", 9, "claim"),
            ("first(a b)", 9, "`)`"),
            ("second(a)", 1, "one of first"),
            ("lower(a, b)", 8, "`)`"),
            ("split(a)", 8, "`,`"),
            ("split(a, b)", 10, "quotes"),
            ("split(ä, \"\")", 10, "separator"),
            ("match(a, \"*x*\")", 10, "one `*`"),
            ("match(a, \"\")", 10, "pattern"),
            ("match(a, \"x)", 11, "closing"),
            ("claim(a)", 7, "quotes"),
            ("claim(\"\")", 7, "name"),
            ("\"a\" b", 5, "end"),
            ("a, b", 2, "end"),
            ("a)", 2, "end"),
            (deep.as_str(), 55, "8 deep"),
            (many.as_str(), 38, "16 arguments"),
            (&"x".repeat(EXPRESSION_BYTES_MAX + 1), 1, "512"),
        ] {
            let error = bad.parse::<Expression>().unwrap_err();
            assert_eq!(error.sign, sign, "{bad}: {error}");
            assert!(error.to_string().contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn a_pattern_fits_the_whole_text_and_its_ends_do_not_overlap() {
        let fits =
            |pattern: &str, text| pattern.parse::<Pattern>().unwrap().capture(text).is_some();
        assert!(fits("acme/*", "acme/app") && fits("*", "") && fits("a*a", "aa"));
        assert!(!fits("acme/*", "acme-evil/app") && !fits("acme/*", "x/acme/app"));
        assert!(!fits("a*a", "a") && !fits("acme/app", "acme/app2") && !fits("x", "X"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_read_prints_as_it_was_written(
            text in "[a-z/*\"(), ]{0,40}|\\PC{0,60}",
            claim in "\\PC{0,20}",
        ) {
            if let Ok(expression) = text.parse::<Expression>() {
                prop_assert_eq!(expression.to_string(), text);
                let claims = json!({"a": claim, "b": [claim], "x": {"a": 1}});
                let claims = serde_json::from_value::<Claims>(claims).unwrap();
                drop(expression.value(&claims, Reading::Identifying));
            }
        }

        #[test]
        fn a_pattern_gives_what_stands_for_its_star(before in "[a-z]{0,4}", star in "\\PC{0,8}", after in "[a-z]{0,4}") {
            let pattern = format!("{before}*{after}").parse::<Pattern>().unwrap();
            let text = format!("{before}{star}{after}");
            prop_assert_eq!(pattern.capture(&text), Some(star.as_str()));
        }
    }
}
