//! The composition root: configuration becomes running parts, here and nowhere else.
