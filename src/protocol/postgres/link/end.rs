//! How a session ends: why, whose fault, and what is still said.

use std::io;

use crate::model::Fault;
use crate::model::Refusal;
use crate::model::refusal::IntoRefusal;
use crate::protocol::postgres::refuse::Words;
use crate::protocol::postgres::wire::Malformed;
use crate::session::EndReason;
use crate::session::guard::Withheld;
use crate::session::guard::WrongSession;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The client said goodbye.
    #[error("the client said goodbye")]
    Terminated,
    /// The client's connection ended.
    #[error("the client went away")]
    ClientGone(#[source] Option<io::Error>),
    /// The client sent bytes that are no message.
    #[error("the client broke the protocol")]
    ClientMalformed(#[source] Malformed),
    /// The target's connection ended without a word.
    #[error("the target went away")]
    TargetGone(#[source] Option<io::Error>),
    /// The target ended the session, and said so.
    #[error("the target ended the session with SQLSTATE {0}")]
    TargetEnded(String),
    /// The target sent bytes that are no message.
    #[error("the target broke the protocol")]
    TargetMalformed(#[source] Malformed),
    /// The target sent a message that answers nothing.
    #[error("the target sent message {0:?}, which answers nothing")]
    TargetUnexpected(char),
    /// The guard says so.
    #[error("{}", .0.word())]
    Ended(EndReason),
    /// It cannot go on without telling an untruth or showing what may not be seen.
    #[error("{0}")]
    Refused(Refusal),
    /// A proof of another session.
    #[error("a bug of the gateway")]
    Bug(#[from] WrongSession),
}

impl End {
    /// Whose fault it is; `None`: nobody's.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Terminated | Self::Ended(_) | Self::Refused(_) => None,
            Self::ClientGone(_) | Self::ClientMalformed(_) => Some(Fault::Client),
            Self::TargetGone(_)
            | Self::TargetEnded(_)
            | Self::TargetMalformed(_)
            | Self::TargetUnexpected(_) => Some(Fault::Target),
            Self::Bug(_) => Some(Fault::Gateway),
        }
    }

    /// The FATAL error that the client reads; `None`: it is gone, or was told by the target.
    pub fn words(&self) -> Option<Words> {
        match self {
            Self::Terminated | Self::ClientGone(_) | Self::TargetEnded(_) => None,
            Self::ClientMalformed(why) => Some(Words::new("08P01", why.to_string())),
            Self::TargetGone(_) => Some(Words::new("08006", "the target closed its connection")),
            Self::TargetMalformed(_) | Self::TargetUnexpected(_) => {
                Some(Words::new("08006", "the target broke PostgreSQL's protocol"))
            }
            Self::Ended(reason) => Some(Words::from(&reason.refusal())),
            Self::Refused(refusal) => Some(Words::from(refusal)),
            Self::Bug(_) => Some(Words::new("XX000", "this gateway failed")),
        }
    }

    /// Whether the client may still be there.
    pub fn reaches_client(&self) -> bool {
        !matches!(self, Self::Terminated | Self::ClientGone(_))
    }

    /// Whether the target may still be there.
    pub fn reaches_target(&self) -> bool {
        !matches!(self, Self::TargetGone(_) | Self::TargetEnded(_))
    }
}

impl From<Withheld> for End {
    fn from(withheld: Withheld) -> Self {
        Self::Refused(withheld.0)
    }
}
