//! Where the entries of a recording come from, and whether somebody may look at them.

use std::io;
use std::sync::Arc;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::fail::Fail;
use crate::api::look::Look;
use crate::api::look::by_row;
use crate::api::purpose::Purpose;
use crate::api::transfer::Transfer;
use crate::audit::TrailEvent;
use crate::audit::archive::ReadError;
use crate::audit::archive::Reading;
use crate::audit::entry::Opened;
use crate::audit::follow::Follower;
use crate::audit::recording::Entry;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::model::SessionId;
use crate::store::SessionRow;

/// A recording that somebody may look at.
pub(super) enum Begun {
    /// It can be read, at least in part.
    Sound(Box<Sound>),
    /// Not even its beginning can be read; what is wrong, and where.
    Damaged(String),
}

/// A recording that is being read for somebody.
pub(super) struct Sound {
    pub(super) source: Source,
    pub(super) first: Entry,
    pub(super) look: Look,
    /// The look, where the ledger is told of it as a transfer.
    pub(super) transfer: Option<Transfer>,
}

impl Begun {
    /// Finds a session's recording and asks whether the caller may look, which is on record as
    /// `action`.
    pub(super) async fn of(
        resources: &Arc<Resources>,
        caller: Caller,
        session: SessionId,
        (action, purpose): (&str, &Purpose),
    ) -> Result<Self, Fail> {
        let damage = match Source::open(resources, &caller, session).await? {
            Err(damage) => damage,
            Ok(mut source) => {
                let read = blocking(move || source.next().map(|seen| (source, seen))).await;
                let (source, first) = read.map_err(|error| Fail::ours(&error))?;
                match first {
                    Seen::End => return Err(Fail::not_found("session")),
                    Seen::Damaged(damage) => damage.to_string(),
                    Seen::One(first) => match opening(&first) {
                        None => "entry 1: it does not say whose session it is".to_owned(),
                        Some(opened) => {
                            let noted = (action, purpose);
                            let (look, allowed) = Look::begin(resources, caller, opened, noted)?;
                            let transfer = look.transfer(&allowed)?;
                            let sound = Sound { source, first, look, transfer };
                            return Ok(Self::Sound(Box::new(sound)));
                        }
                    },
                }
            }
        };
        // The recording does not say whose it is, so that the index has to.
        let row = row(resources, session).await?;
        let (answer, own) = by_row(resources, &caller, &row);
        let answer = answer.and_then(|allowed| purpose.is_enough(own).map(|()| allowed));
        caller.note(resources, (action, session.to_string()), purpose.said(), &answer)?;
        answer.map(|_| Self::Damaged(damage)).map_err(Fail)
    }
}

/// Where entries come from.
pub(super) enum Source {
    /// The spool: what is written meanwhile is read too.
    Spool(Box<Follower>),
    /// The store: all is written.
    Store(Box<Reading>),
}

impl Source {
    /// Finds a session's recording, wherever it is. `Ok(Err(…))`: what is there is none, and why.
    async fn open(
        resources: &Arc<Resources>,
        caller: &Caller,
        session: SessionId,
    ) -> Result<Result<Self, String>, Fail> {
        let audit = Arc::clone(&resources.gateway.parts.audit);
        match blocking(move || Follower::begin(&audit, session)).await {
            Ok(Some(follower)) => return Ok(Ok(Self::Spool(Box::new(follower)))),
            Ok(None) => {}
            // It left the spool at this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Ok(Err(error.to_string()));
            }
            Err(error) => return Err(Fail::ours(&error)),
        }
        match resources.archive.recording(session).await {
            Ok(reading) => Ok(Ok(Self::Store(Box::new(reading)))),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(unreadable(resources, caller, session, &error).await),
        }
    }

    /// The next entry, or the end so far. Blocks.
    pub(super) fn next(&mut self) -> io::Result<Seen<Entry>> {
        match self {
            Self::Spool(follower) => follower.next(),
            Self::Store(reading) => reading.next(),
        }
    }

    /// Whether what is read up to the end is all.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Spool(follower) => follower.has_ended(),
            Self::Store(_) => true,
        }
    }
}

/// Does what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Why a recording is not shown. By whom it was erased and why is told to those alone who might have
/// looked at it.
async fn unreadable(
    resources: &Resources,
    caller: &Caller,
    session: SessionId,
    error: &ReadError,
) -> Fail {
    match error {
        ReadError::Missing(_) => Fail::not_found("session"),
        ReadError::Erased { .. } => match row(resources, session).await {
            Ok(row) if by_row(resources, caller, &row).0.is_ok() => Fail::gone(&error.to_string()),
            Ok(_) => Fail::not_found("session"),
            Err(fail) => fail,
        },
        ReadError::Storage(_)
        | ReadError::Shelf(_)
        | ReadError::Key(_)
        | ReadError::Io(_)
        | ReadError::Name(_) => Fail::ours(error),
    }
}

/// What the index says of a session.
async fn row(resources: &Resources, session: SessionId) -> Result<SessionRow, Fail> {
    let row = resources.store.session(session).await.map_err(|error| Fail::ours(&error))?;
    row.ok_or_else(|| Fail::not_found("session"))
}

/// What a recording's first entry says, if `entry` is one.
fn opening(entry: &Entry) -> Option<Opened> {
    let What::Event(event) = &entry.what else { return None };
    if let TrailEvent::Opened(opened) = &**event { Some((**opened).clone()) } else { None }
}
