//! The client's side of one channel: what may be sent there is released, or the gateway's own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelWriteHalf;
use russh::Sig;
use russh::server;

use crate::audit::entry::Volume;
use crate::audit::recording::Stream;
use crate::model::SessionId;
use crate::model::verdict::Masks;
use crate::protocol::ssh::activity::Activity;
use crate::protocol::ssh::inbox::Inbox;
use crate::protocol::ssh::refuse::Words;
use crate::session::Released;
use crate::session::guard::Answer;
use crate::session::guard::Masked;
use crate::session::guard::Withheld;
use crate::session::guard::WrongSession;
use crate::session::guard::beginning;

/// The stderr of RFC 4254 §5.2.
pub(super) const STDERR: u32 = 1;
/// How long a client may take to read the gateway's own words, in seconds.
const TELL_S_MAX: u64 = 5;

/// What a target's command says. The end of its output is not among it: see [`Client::close`].
#[derive(Debug)]
pub(super) enum Output {
    /// Its stdout.
    Stdout(Bytes),
    /// Its stderr.
    Stderr(Bytes),
    /// It ended, with this status.
    Status(u32),
    /// It was ended by this signal.
    Signal(Sig),
}

impl Answer for Output {
    type Out = Self;

    /// Free text cannot be masked: it goes out as it is, or not at all.
    fn masked(self, masks: &Masks, room: usize) -> Result<Masked<Self>, Withheld> {
        let (bytes, stream) = match &self {
            Self::Stdout(data) => (data.clone(), Stream::Output),
            Self::Stderr(data) => (data.clone(), Stream::Error),
            Self::Status(_) | Self::Signal(_) => (Bytes::new(), Stream::Output),
        };
        if !bytes.is_empty() && masks.hides_something() {
            return Err(Withheld::unmaskable(UNMASKABLE));
        }
        let volume =
            Volume { rows: 0, bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX), masked: 0 };
        let shown = beginning(&bytes, room);
        Ok(Masked { out: self, volume, shown, stream })
    }
}

/// Why the output of a command is withheld.
pub(super) const UNMASKABLE: &str =
    "what this target says may hold data that you may not see, and free text cannot be masked";

/// The client's side of one channel.
pub(super) struct Client {
    pub(super) write: ChannelWriteHalf<server::Msg>,
    pub(super) handle: server::Handle,
    pub(super) inbox: Arc<Inbox>,
    pub(super) activity: Arc<Activity>,
}

/// The client cannot be told any more.
#[derive(Debug)]
pub(super) struct Gone;

impl From<russh::Error> for Gone {
    fn from(_: russh::Error) -> Self {
        Self
    }
}

impl From<()> for Gone {
    fn from((): ()) -> Self {
        Self
    }
}

impl From<WrongSession> for Gone {
    fn from(error: WrongSession) -> Self {
        tracing::error!(fault = "gateway", "{error}");
        Self
    }
}

impl Client {
    /// Sends what the target's command said. Waits for the client's window.
    pub(super) async fn send_output(
        &self,
        session: SessionId,
        output: Released<Output>,
    ) -> Result<(), Gone> {
        let id = self.write.id();
        self.activity.now();
        match output.unseal(session)? {
            Output::Stdout(data) => self.write.data_bytes(data).await?,
            Output::Stderr(data) => self.write.extended_data_bytes(STDERR, data).await?,
            Output::Status(status) => self.write.exit_status(status).await?,
            Output::Signal(signal) => {
                let (message, language) = (String::new(), String::new());
                self.handle.exit_signal_request(id, signal, false, message, language).await?;
            }
        }
        Ok(())
    }

    /// Says the gateway's own words. A client that does not read them is not waited for.
    pub(super) async fn send_words(&self, session: SessionId, words: Released<Words>) {
        if let Ok(words) = words.unseal(session) {
            self.tell(words).await;
        }
    }

    /// Says why there is no session, so no guard either.
    pub(super) async fn send_refusal_without_session(&self, words: Words) {
        self.tell(words).await;
    }

    /// Ends the channel, behind everything that was said: RFC 4254 §6.10 sends the exit status
    /// before §5.3's end. A client whose stdin is over closes its channel at the end of the output,
    /// and russh answers a close at once, so that a status behind it would be lost, and a command
    /// that goes on without its output would be taken for one whose client went away.
    pub(super) async fn close(&self) {
        let closing = async {
            self.write.eof().await?;
            self.write.close().await
        };
        if closing.await.is_err() {
            tracing::debug!("a client was gone before its channel was closed");
        }
        self.inbox.done();
    }

    async fn tell(&self, words: Words) {
        let telling = async {
            self.write.extended_data_bytes(STDERR, words.text).await?;
            match words.status {
                Some(status) => self.write.exit_status(status).await,
                None => Ok(()),
            }
        };
        let told = tokio::select! {
            told = tokio::time::timeout(Duration::from_secs(TELL_S_MAX), telling) => told.is_ok_and(|told| told.is_ok()),
            () = self.inbox.closed() => false,
        };
        if !told {
            tracing::debug!("a client did not read what it was told");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.inbox.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_may_hold_what_is_hidden_is_withheld() {
        let mut masks = Masks::none_asked();
        let said = || Output::Stdout(Bytes::from_static(b"abc"));
        let passed = said().masked(&masks, 2).unwrap();
        assert!(matches!(passed.out, Output::Stdout(data) if data == "abc"));
        assert_eq!((passed.volume.bytes, passed.shown), (3, Bytes::from_static(b"abc")));
        masks.hide("pii.email".parse().unwrap(), Vec::new());
        assert!(said().masked(&masks, 2).is_err());
        assert!(Output::Status(0).masked(&masks, 0).is_ok(), "a status is no data");
    }
}
