//! Who calls: a provider's token becomes a `Verified` principal, or an error.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::Principal;

/// Who calls, proven.
#[derive(Debug)]
pub struct Verified {
    principal: Arc<Principal>,
    expires_at: Timestamp,
}

impl Verified {
    /// Who calls.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Until when the proof holds.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}
