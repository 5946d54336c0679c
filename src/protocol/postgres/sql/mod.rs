//! What an SQL string does, read with PostgreSQL's own grammar.
//!
//! [`read`] is the whole of it: text in, plain values out; no I/O, no clock, no session. It knows
//! only [`crate::model`]; who asks, and what policy says, is decided elsewhere with what it finds:
//!
//! - **effects and objects** of every statement, complete at any depth (`effects`, `utility`);
//!   what is not known is [`crate::model::Effect::Opaque`];
//! - **exposure**: whether a statement shows classified columns only as plain output columns
//!   (`exposed`, `select`, `from`, `change`, `expression`, `scope`). Everything on its way is an allow-list
//!   (`builtin`, `catalog`); what is not on it is a [`Concern`] about all classes.
//!
//! ```text
//! text ─ parse ─┬─ effects ── what it does, for every principal
//!               └─ exposed ── concerns and outputs, for whoever may not see all classes
//! ```
//!
//! Hostile text: it is bounded ([`TEXT_BYTES_MAX`]), nothing recurses along an expression, nesting
//! of queries is bounded, and a panic of the parser's binding becomes [`Unreadable::Internal`].
//!
//! The reading rests on settings that the gateway keeps by force ([`forced_setting`]):
//! `search_path = public`, `standard_conforming_strings = on`, `client_encoding = UTF8`.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use pg_raw_parse::ParseResult;

mod administer;
mod builtin;
mod catalog;
mod change;
mod declared;
mod effects;
mod exposed;
mod exposure;
mod expression;
mod from;
mod names;
mod object;
mod position;
mod scope;
mod select;
mod settings;
mod statement;
mod utility;

#[cfg(test)]
mod tests;

pub use declared::Column;
pub use declared::Declared;
pub use declared::Table;
pub use exposure::Classes;
pub use exposure::Concern;
pub use exposure::Exposure;
pub use exposure::Output;
pub use exposure::Outputs;
pub use settings::forced_setting;
pub use statement::Kind;
pub use statement::Statement;

/// Longest text that is read, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// What a text does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Its statements in order; none for an empty text.
    pub statements: Vec<Statement>,
}

/// Why a text could not be read. It must not reach the server then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not SQL as PostgreSQL reads it (SQLSTATE 42601).
    #[error("{message}")]
    Syntax {
        /// PostgreSQL's own message.
        message: String,
        /// Where, in characters from 1; known for "at or near" and "at end of input".
        position: Option<usize>,
    },
    /// It is longer than [`TEXT_BYTES_MAX`].
    #[error("the text is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// The gateway's reading of it failed.
    #[error("the statement could not be read")]
    Internal,
}

/// Reads what `text` does to a database of which `declared` is known.
pub fn read(text: &str, declared: &Declared) -> Result<Reading, Unreadable> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Unreadable::TooLong);
    }
    // The binding panics where a tree is not as it expects; no state of ours outlives that.
    catch_unwind(AssertUnwindSafe(|| read_parsed(text, declared)))
        .unwrap_or(Err(Unreadable::Internal))
}

fn read_parsed(text: &str, declared: &Declared) -> Result<Reading, Unreadable> {
    let parsed = parse(text).map_err(|message| match message {
        Some(message) => {
            let position = position::of(text, &message);
            Unreadable::Syntax { message, position }
        }
        None => Unreadable::Internal,
    })?;
    let statements = parsed
        .iter()
        .map(|raw| {
            let range = range(text, raw.stmt_location, raw.stmt_len);
            statement::read(raw.stmt(), &range, text, declared)
        })
        .collect();
    Ok(Reading { statements })
}

/// Parses; an error is PostgreSQL's message, or `None` where there is none.
fn parse(text: &str) -> Result<ParseResult, Option<String>> {
    pg_raw_parse::parse(text).map_err(|error| match error {
        pg_raw_parse::Error::Parse(error) => Some(error.to_string()),
        pg_raw_parse::Error::PgError(_) | pg_raw_parse::Error::StatementContainedNul(_) => None,
    })
}

/// The bytes of a statement without white space around it; a length of 0 means up to the end.
fn range(text: &str, location: i32, length: i32) -> Range<usize> {
    let start = usize::try_from(location).unwrap_or(0).min(text.len());
    let end = match usize::try_from(length) {
        Ok(0) | Err(_) => text.len(),
        Ok(length) => start.saturating_add(length).min(text.len()),
    };
    let Some(slice) = text.get(start..end) else { return start..end };
    let blank = |sign: char| sign.is_ascii_whitespace();
    let lead = slice.len().saturating_sub(slice.trim_start_matches(blank).len());
    let trail = slice.len().saturating_sub(slice.trim_end_matches(blank).len());
    let start = start.saturating_add(lead).min(end);
    start..end.saturating_sub(trail).max(start)
}
