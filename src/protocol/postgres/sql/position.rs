//! Where a syntax error is, which the parser's binding does not tell.
//!
//! PostgreSQL's parser stops at the first token that fits no continuation, so every prefix of the
//! text that contains this token fails with the same message, and no shorter one does: the shortest
//! such prefix, found by bisection, ends with the token that the message quotes.

use crate::protocol::postgres::sql::parse;

/// Longest text of which the position of an error is sought, in bytes: it takes some 16 parses.
const SOUGHT_BYTES_MAX: usize = 64 * 1024;

/// The position of the error with this message, in characters from 1.
pub(super) fn of(text: &str, message: &str) -> Option<usize> {
    if message.ends_with(" at end of input") {
        // PostgreSQL points behind the last character.
        return text.chars().count().checked_add(1);
    }
    let (_, quoted) = message.split_once(" at or near \"")?;
    let token = quoted.strip_suffix('"')?;
    if text.len() > SOUGHT_BYTES_MAX {
        return None;
    }
    let end = shortest_failing(text, message)?;
    let before = text.get(..end)?.strip_suffix(token)?;
    before.chars().count().checked_add(1)
}

/// The length of the shortest prefix that fails with exactly this message.
fn shortest_failing(text: &str, message: &str) -> Option<usize> {
    let fails = |end: usize| {
        text.get(..end).is_some_and(|prefix| {
            parse(prefix).is_err_and(|error| error.as_deref() == Some(message))
        })
    };
    let ends: Vec<usize> =
        text.char_indices().map(|(at, sign)| at.saturating_add(sign.len_utf8())).collect();
    let index = ends.partition_point(|end| !fails(*end));
    ends.get(index).copied()
}
