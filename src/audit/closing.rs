//! The ends of trails: the last entry, the head in the ledger, the file with the closed ones; and what
//! is tried again where that fails.

use std::fs;
use std::io;
use std::sync::Arc;

use crate::audit::Audit;
use crate::audit::LedgerEvent;
use crate::audit::Trail;
use crate::audit::TrailEvent;
use crate::audit::Unrecorded;
use crate::audit::record::Failed;
use crate::audit::record::lock;
use crate::audit::spool;
use crate::audit::spool::Folders;
use crate::model::SessionId;
use crate::model::fault::Chain;

/// A session that ended, whose trail could not be closed yet.
#[derive(Debug)]
pub(super) struct Unclosed {
    trail: Arc<Trail>,
    last: TrailEvent,
}

impl Audit {
    /// Closes a trail: its last entry, its head in the ledger, its file with the closed ones. What
    /// fails is tried again when heads are noted.
    pub fn close(&self, trail: &Arc<Trail>, last: &TrailEvent) -> Result<(), Unrecorded> {
        let closed = self.try_close(trail, last, None);
        if closed.is_err() {
            let unclosed = Unclosed { trail: Arc::clone(trail), last: last.clone() };
            lock(&self.unclosed).insert(trail.session(), unclosed);
        }
        closed
    }

    /// `given_up`: why the last entry is not waited for any longer.
    fn try_close(
        &self,
        trail: &Trail,
        last: &TrailEvent,
        given_up: Option<String>,
    ) -> Result<(), Unrecorded> {
        let session = trail.session();
        let event = match trail.finish(last) {
            Ok(head) => LedgerEvent::TrailClosed { session, head },
            Err(error) => match given_up {
                None => return Err(error),
                damage => LedgerEvent::TrailRecovered { session, head: trail.head(), damage },
            },
        };
        match self.append(&event) {
            Ok(_) | Err(Failed::With(_)) => {}
            Err(Failed::Without(error)) => return Err(error),
        }
        lock(&self.open).remove(&session);
        lock(&self.noted).remove(&session);
        self.put_away(session).map_err(|source| Unrecorded::new("the end of a trail", source))
    }

    /// Closes what could not be closed before; a last entry that still cannot be written is given up,
    /// and the ledger says so.
    pub(super) fn close_again(&self) {
        let unclosed = std::mem::take(&mut *lock(&self.unclosed));
        for (session, Unclosed { trail, last }) in unclosed {
            let why = Some("its end could not be written".to_owned());
            if let Err(error) = self.try_close(&trail, &last, why) {
                tracing::error!(fault = "gateway", %session, "a trail cannot be closed: {}", Chain(&error));
                lock(&self.unclosed).insert(session, Unclosed { trail, last });
            }
        }
    }

    /// Moves a recording and its key to the closed ones.
    pub(super) fn put_away(&self, session: SessionId) -> io::Result<()> {
        let Folders { open, closed } = &self.folders;
        let key = spool::key_of(open, session);
        if key.exists() {
            fs::rename(key, spool::key_of(closed, session))?;
        }
        match fs::rename(spool::recording_of(open, session), spool::recording_of(closed, session)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It was moved when the rest failed.
                let moved = spool::recording_of(closed, session).exists();
                if moved { Ok(()) } else { Err(error) }
            }
            renamed => renamed,
        }
    }
}
