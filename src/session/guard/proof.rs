//! The proofs that nothing crosses undecided: [`Cleared`] towards a target, [`Released`] towards a
//! client.
//!
//! Their fields are private and their only makers are visible to the guard alone, so that forging
//! one is a compile error anywhere else in the crate (`tests/it/forgery.rs` puts a forger beside
//! this very file and watches the compiler refuse). Both carry the session they were made for, and
//! whoever sends compares it: a proof cannot cross from one session to another.

use crate::model::SessionId;

/// Bytes that may go to the target: the decision on them was made *and recorded*.
#[derive(Debug)]
#[must_use]
pub struct Cleared<F> {
    session: SessionId,
    frame: F,
}

/// Bytes that may go to the client: masks are applied, the volume is counted, and a transfer, if it
/// is one, is in the ledger.
#[derive(Debug)]
#[must_use]
pub struct Released<A> {
    session: SessionId,
    answer: A,
}

/// A proof of another session was presented: a bug of ours, so nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a proof of session {of} was presented in session {to}")]
pub struct WrongSession {
    of: SessionId,
    to: SessionId,
}

impl<F> Cleared<F> {
    pub(in crate::session::guard) fn once_recorded(session: SessionId, frame: F) -> Self {
        Self { session, frame }
    }

    /// Takes out what may be sent, for the leg of `session`. Only senders call it.
    pub fn unseal(self, session: SessionId) -> Result<F, WrongSession> {
        if self.session == session {
            Ok(self.frame)
        } else {
            Err(WrongSession { of: self.session, to: session })
        }
    }
}

impl<A> Released<A> {
    pub(in crate::session::guard) fn once_masked(session: SessionId, answer: A) -> Self {
        Self { session, answer }
    }

    /// Takes out what may be sent, to the client of `session`. Only senders call it.
    pub fn unseal(self, session: SessionId) -> Result<A, WrongSession> {
        if self.session == session {
            Ok(self.answer)
        } else {
            Err(WrongSession { of: self.session, to: session })
        }
    }
}
