//! The only way to a target.
