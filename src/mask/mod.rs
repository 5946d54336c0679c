//! Masks: what a value that may not be seen becomes.

pub mod path;
