//! Printing: tables and JSON to stdout, complaints to stderr. The one place that does.

use std::io;
use std::io::Write;

use serde_json::Value;

/// Prints one line to stdout. A reader that has gone is no error.
pub(super) fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _gone = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a value as JSON, for machines.
pub(super) fn json(value: &Value) {
    line(&value.to_string());
}

/// Says on stderr what went wrong.
pub(super) fn complain(text: &str) {
    let _gone = writeln!(io::stderr().lock(), "weir: {text}");
}

/// Says on stderr what is going on.
pub(super) fn progress(text: &str) {
    let _gone = writeln!(io::stderr().lock(), "{text}");
}

/// Prints text as it is, with its own line ends.
pub(super) fn raw(text: &str) {
    let mut out = io::stdout().lock();
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints bytes as they are. `false`: whoever read them has gone.
pub(super) fn bytes(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// Prints columns, each as wide as its widest cell; the last one is not padded.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths = head.iter().map(|cell| cell.chars().count()).collect::<Vec<_>>();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head = head.iter().map(ToString::to_string).collect::<Vec<_>>();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// A text as part of one line, without what a terminal would obey: control signs, line feeds among
/// them, and bidirectional overrides are shown as their code points.
pub(super) fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for sign in text.chars() {
        if sign == '\t' || !(sign.is_control() || is_unseen(sign)) {
            tamed.push(sign);
        } else {
            tamed.extend(sign.escape_unicode());
        }
    }
    tamed
}

/// Signs that change how others are read and are not seen: marks of direction, separators of lines,
/// joiners of nothing, tags.
fn is_unseen(sign: char) -> bool {
    matches!(
        sign,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// A text of several lines, each tamed. Whoever prints them sees to it that none of them can be taken
/// for a line of ours.
pub(super) fn tame_lines(text: &str) -> Vec<String> {
    text.lines().map(tame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_makes_no_line_of_its_own() {
        assert_eq!(tame("a\nb\r\u{1b}[2J\u{202e}\tc"), "a\\u{a}b\\u{d}\\u{1b}[2J\\u{202e}\tc");
        assert_eq!(tame("a\u{61c}b\u{2028}c\u{feff}"), "a\\u{61c}b\\u{2028}c\\u{feff}");
        assert_eq!(tame_lines("a\r\nb\u{7}\n"), ["a", "b\\u{7}"]);
    }
}
