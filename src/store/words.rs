//! Words: how a text is cut for the index, and the part of a text that a search has found.
//!
//! A word is a run of letters and digits, in small letters: `public.customers` is two, `--dry-run`
//! is two. So whatever stands between them is no matter, and every part of an identifier is found.

use std::ops::Range;

use serde::Serialize;

/// Longest word, in bytes; what is longer is found by its beginning.
pub(super) const WORD_BYTES_MAX: usize = 256;
/// How much of a text is shown before what was found, in characters.
const BEFORE_CHARS_MAX: usize = 60;
/// How much of a text is shown from what was found on, in characters.
const AFTER_CHARS_MAX: usize = 180;

/// A part of a text, with what was found in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Context {
    /// The part.
    pub text: String,
    /// There is more before it.
    pub begins_later: bool,
    /// There is more after it.
    pub ends_earlier: bool,
    /// What was found: from and to, in characters of `text`.
    pub marks: Vec<(usize, usize)>,
}

/// The words of a text, and where each stands, in bytes.
pub(super) fn words(text: &str) -> impl Iterator<Item = (String, Range<usize>)> + '_ {
    let mut signs = text.char_indices().peekable();
    std::iter::from_fn(move || {
        while signs.next_if(|(_, sign)| !sign.is_alphanumeric()).is_some() {}
        let from = signs.peek()?.0;
        let mut word = String::new();
        let mut to = from;
        while let Some((at, sign)) = signs.next_if(|(_, sign)| sign.is_alphanumeric()) {
            to = at.saturating_add(sign.len_utf8());
            for small in sign.to_lowercase() {
                if word.len().saturating_add(small.len_utf8()) <= WORD_BYTES_MAX {
                    word.push(small);
                }
            }
        }
        Some((word, from..to))
    })
}

/// The part of `text` around the first of `phrases`, or its beginning. A phrase is words, of which
/// the last may be the beginning of one.
pub(super) fn context(text: &str, phrases: &[(&[String], bool)]) -> Context {
    let all = words(text).collect::<Vec<_>>();
    let mut found = Vec::new();
    for at in 0..all.len() {
        let rest = all.get(at..).unwrap_or_default();
        let lengths = phrases.iter().filter(|phrase| begins_with(rest, phrase));
        if let Some(longest) = lengths.map(|(words, _)| words.len()).max() {
            let last = rest.get(longest.saturating_sub(1)).or(rest.first());
            found.extend(rest.first().zip(last).map(|(a, b)| a.1.start..b.1.end));
        }
    }
    let start = found.first().map_or(0, |first| first.start);
    let before = text.get(..start).unwrap_or_default();
    let from =
        before.char_indices().rev().take(BEFORE_CHARS_MAX).last().map_or(start, |(at, _)| at);
    let after = text.get(start..).unwrap_or_default();
    let length = after.char_indices().nth(AFTER_CHARS_MAX).map_or(after.len(), |(at, _)| at);
    let to = start.saturating_add(length);
    let shown = text.get(from..to).unwrap_or_default();
    let chars = |to: usize| text.get(from..to).map_or(0, |part| part.chars().count());
    let mut marks = Vec::<(usize, usize)>::new();
    for range in found.iter().filter(|range| range.end <= to) {
        let (begin, end) = (chars(range.start), chars(range.end));
        match marks.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            Some(_) | None => marks.push((begin, end)),
        }
    }
    Context { text: shown.to_owned(), begins_later: from > 0, ends_earlier: to < text.len(), marks }
}

fn begins_with(all: &[(String, Range<usize>)], (phrase, prefix): &(&[String], bool)) -> bool {
    let Some((last, first)) = phrase.split_last() else { return false };
    let is_last = |word: &str| if *prefix { word.starts_with(last.as_str()) } else { word == last };
    let enough = all.get(..phrase.len()).and_then(<[_]>::split_last);
    enough.is_some_and(|((end, _), begin)| {
        is_last(end) && begin.iter().zip(first).all(|((word, _), asked)| word == asked)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> Vec<String> {
        words(text).map(|(word, _)| word).collect()
    }

    #[test]
    fn identifiers_options_and_paths_fall_into_their_parts() {
        assert_eq!(
            plain("SELECT * FROM public.customers"),
            ["select", "from", "public", "customers"]
        );
        assert_eq!(
            plain("pii.national_id --dry-run=1"),
            ["pii", "national", "id", "dry", "run", "1"]
        );
        assert_eq!(plain("/etc/Straße,/проверка"), ["etc", "straße", "проверка"]);
        assert_eq!(plain(" ;-- "), Vec::<String>::new());
        assert_eq!(plain(&"ä".repeat(1000))[0].len(), WORD_BYTES_MAX);
    }

    #[test]
    fn what_was_found_is_shown_with_what_is_around_it() {
        let phrase = ["customers".to_owned(), "where".to_owned()];
        let found = context("SELECT email FROM customers WHERE id = 1", &[(&phrase, false)]);
        assert_eq!(found.marks, [(18, 33)]);
        assert!(!found.begins_later && !found.ends_earlier);
        let long = format!("{} customers {}", "ä ".repeat(500), "b ".repeat(500));
        let found = context(&long, &[(&["custom".to_owned()], true)]);
        assert!(found.begins_later && found.ends_earlier);
        let (from, to) = found.marks[0];
        let marked = found.text.chars().skip(from).take(to - from).collect::<String>();
        assert_eq!(marked, "customers");
        let none = context(&long, &[(&["absent".to_owned()], false)]);
        assert!(none.marks.is_empty() && none.text.starts_with('ä'));
    }

    proptest! {
        #[test]
        fn any_text_and_phrase_give_marks_inside_the_part(
            text in ".{0,400}",
            phrase in prop::collection::vec("[a-zA-Zäß0-9]{1,3}", 1..3),
            prefix in any::<bool>(),
        ) {
            let phrase = phrase.iter().map(|word| word.to_lowercase()).collect::<Vec<_>>();
            let part = context(&text, &[(&phrase, prefix)]);
            let length = part.text.chars().count();
            prop_assert!(text.contains(&part.text));
            prop_assert!(length <= BEFORE_CHARS_MAX + AFTER_CHARS_MAX);
            prop_assert!(part.marks.iter().all(|(from, to)| from < to && *to <= length));
        }
    }
}
