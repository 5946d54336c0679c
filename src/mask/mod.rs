//! Masks: what a value that may not be seen becomes, and how a mask is known again.
//!
//! Values in, values out; names only `model`. Which value is of which class is not decided here:
//! a protocol knows its columns, paths and kinds.

pub mod path;

use crate::model::DataClass;

/// How every mask begins. A write that contains it is refused: a mask that was read must never be
/// stored in the value's place.
pub const MARK: &str = "<masked:";

/// What a text value of `class` becomes: `<masked:pii.email>`.
pub fn text(class: &DataClass) -> String {
    format!("{MARK}{class}>")
}

/// What a text value that carries several classes becomes: the mask of the first of them.
pub fn text_of<'a>(classes: impl IntoIterator<Item = &'a DataClass>) -> String {
    classes.into_iter().next().map_or_else(|| format!("{MARK}unclassified>"), text)
}

/// Whether `bytes` contain a mask: plain, escaped as JSON, forms and pages do, or in base 64 at any
/// of the three offsets.
pub fn contains_mask(bytes: &[u8]) -> bool {
    const FORMS: [&[u8]; 9] = [
        MARK.as_bytes(),
        // `<masked:` in base 64: the signs that do not depend on what stands before or behind.
        b"PG1hc2tlZD",
        b"xtYXNrZWQ6",
        b"8bWFza2VkO",
        // Go's encoder writes `<` as `\u003c`, so kubectl does.
        b"u003cmasked:",
        b"u003Cmasked:",
        b"%3Cmasked",
        b"%3cmasked",
        b"&lt;masked:",
    ];
    FORMS.iter().any(|form| memchr::memmem::find(bytes, form).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_known_again_plain_and_in_base_64() {
        let mask = text(&"pii.email".parse().unwrap());
        assert_eq!(mask, "<masked:pii.email>");
        assert!(contains_mask(format!("x{mask}y").as_bytes()));
        // What base64(1) makes of "<masked:pii.email>", " <masked:…" and "  <masked:…".
        for encoded in [
            "PG1hc2tlZDpwaWkuZW1haWw+",
            "IDxtYXNrZWQ6cGlpLmVtYWlsPg==",
            "ICA8bWFza2VkOnBpaS5lbWFpbD4=",
        ] {
            assert!(contains_mask(encoded.as_bytes()), "{encoded}");
        }
        for escaped in [
            r"\u003cmasked:pii.email\u003e",
            "m=%3Cmasked%3Apii%3E",
            "%3cmasked:x",
            "&lt;masked:pii&gt;",
        ] {
            assert!(contains_mask(escaped.as_bytes()), "{escaped}");
        }
        assert!(!contains_mask(b"masked: no"));
    }
}
