//! The composition root: configuration becomes running parts, here and nowhere else.

mod targets;
mod translate;

pub use translate::BadConfig;
