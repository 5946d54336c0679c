//! What is wrong with a configuration, and where: `file:line:column: what is wrong; what was
//! expected`, with the line and a caret, in the style of the toml crate.
//!
//! A line is shown only up to the end of what is wrong, and not at all where a secret may stand.

use std::fmt;
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;
use toml::Spanned;

use crate::config::secret::WRITTEN_OUT;
use crate::model::digest::Digest;

/// Words in a line that make it stay hidden: somebody may have written a secret after them.
const TELLTALES: [&str; 7] =
    ["credential", "password", "passwd", "secret", "token", "private", "@"];

/// The text of a configuration file, to point into.
#[derive(Clone)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The text that was read from `path`.
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the text, by which records name a configuration.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }

    /// A problem with `value`, where it was written. `what` says what is wrong and, after a
    /// semicolon, what was expected.
    pub fn problem<T>(&self, value: &Spanned<T>, what: impl Into<String>) -> Problem {
        self.at(&value.span(), what.into())
    }

    /// Reads a text of the file as another module's word, with its place in the error.
    pub fn parse<T>(&self, text: &Spanned<String>) -> Result<T, Problem>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        text.get_ref().parse().map_err(|error: T::Err| self.problem(text, error.to_string()))
    }

    /// The problem that the toml crate found with a value or a name.
    pub(super) fn value(&self, error: &toml::de::Error) -> Problem {
        let span = error.span().unwrap_or(0..0);
        let what = error.message().trim_end().replace('\n', "; ");
        let span = self.member(&span, &what).unwrap_or(span);
        self.at(&span, what)
    }

    /// The toml crate points at a whole list where one member is wrong. Finds the member that
    /// `what` names first, if it stands there once.
    fn member(&self, list: &Range<usize>, what: &str) -> Option<Range<usize>> {
        let text = self.text.get(list.clone()).filter(|text| text.starts_with('['))?;
        let member = format!("\"{}\"", what.split('`').nth(1)?);
        let (start, _) = text
            .match_indices(&member)
            .next()
            .filter(|(start, _)| text.rfind(&member).is_some_and(|last| last == *start))?;
        let start = list.start.checked_add(start)?;
        Some(start..start.checked_add(member.len())?)
    }

    /// The problem that the toml crate found with the text: this is no TOML.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> Problem {
        let mut problem = self.value(error);
        // What is quoted before the place may be a secret, whatever the setting is called: only
        // TOML that can be read tells where a value ends.
        if let Some(place) = &mut problem.place {
            place.snippet.take_if(|snippet| snippet.shown.contains(['"', '\'']));
        }
        problem
    }

    fn at(&self, span: &Range<usize>, what: String) -> Problem {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let source_line = self.text.get(line_start..).and_then(|rest| rest.lines().next());
        let place = source_line.map(|text| {
            let wrong_bytes = span.end.saturating_sub(span.start);
            let wrong_start = span.start.saturating_sub(line_start);
            Snippet::of(text, wrong_start, wrong_bytes)
        });
        let hidden = what.starts_with(WRITTEN_OUT);
        let snippet = place.flatten().filter(|_| !hidden);
        Problem { file: self.path.clone(), place: Some(Place { line, column, snippet }), what }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold what nobody should have written into it.
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    file: PathBuf,
    place: Option<Place>,
    what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Place {
    line: usize,
    column: usize,
    #[serde(skip)]
    snippet: Option<Snippet>,
}

/// A line up to the end of what is wrong in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snippet {
    shown: String,
    cut: bool,
    caret_after: usize,
    carets: usize,
}

impl Snippet {
    fn of(line: &str, wrong_start: usize, wrong_bytes: usize) -> Option<Self> {
        let end = wrong_start.saturating_add(wrong_bytes).min(line.len());
        let (shown, rest) = line.split_at_checked(end)?;
        let (before, wrong) = shown.split_at_checked(wrong_start.min(end))?;
        let lower = shown.to_lowercase();
        if TELLTALES.iter().any(|word| lower.contains(word)) {
            return None;
        }
        Some(Self {
            // A control sign could rewrite what stands on a terminal.
            shown: shown.chars().map(|s| if s.is_control() { ' ' } else { s }).collect(),
            cut: !rest.trim().is_empty(),
            caret_after: before.chars().count(),
            carets: wrong.chars().count().max(1),
        })
    }
}

impl Problem {
    /// A problem with a file as a whole.
    pub fn of_file(path: &Path, what: impl Into<String>) -> Self {
        Self { file: path.to_owned(), place: None, what: what.into() }
    }

    /// Line and column, from 1, where the problem has a place.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.place.as_ref().map(|place| (place.line, place.column))
    }

    /// What is wrong; what was expected.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        let Some(place) = &self.place else { return write!(f, " {}", self.what) };
        write!(f, "{}:{}: {}", place.line, place.column, self.what)?;
        let Some(snippet) = &place.snippet else { return Ok(()) };
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        let (indent, carets) = (" ".repeat(snippet.caret_after), "^".repeat(snippet.carets));
        write!(f, "\n{gutter} |\n{number} | {}", snippet.shown)?;
        if snippet.cut {
            f.write_str(" …")?;
        }
        write!(f, "\n{gutter} | {indent}{carets}")
    }
}

/// Everything that was found wrong, in the order of the file. Never empty when it is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// An error if there is any problem.
    pub fn none_of(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// The problems, at least one.
    pub fn all(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
