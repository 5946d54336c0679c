//! The proof that something is on record.

use std::ops::Deref;

use crate::audit::entry::Opened;

/// A value that is on record: the ledger has its entry, its trail is open.
///
/// Only [`crate::audit::Audit::admit`] makes one; a target is dialled with a `Recorded<Permit>`.
#[derive(Debug)]
#[must_use]
pub struct Recorded<T>(T);

impl<T> Recorded<T> {
    /// Called by the ledger alone, once the entry is written.
    pub(super) fn once_written(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Recorded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Something whose admission can be recorded.
pub trait Admission {
    /// The entry that says so.
    fn opened(&self) -> Opened;
}
