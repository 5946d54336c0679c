//! The gateway as a target's client: compares the host key, and accepts nothing that a target
//! begins.
//!
//! russh's own answers to agent, forwarded and other channels would be yes: a new kind of channel
//! in a new version of russh must be refused here too.

use russh::Channel;
use russh::client;
use russh::keys::PublicKey;
use russh::keys::PublicKeyOrCertificate;

use crate::model::Fault;
use crate::model::TargetName;

/// The gateway as a target's client.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) target: TargetName,
    /// Host keys that are believed.
    pub(super) pinned: Vec<PublicKey>,
}

/// What ends the connection to a target.
#[derive(Debug)]
pub(super) enum PeerError {
    /// It showed a key that is not pinned: this one.
    HostKey(String),
    /// The protocol or the connection broke.
    Ssh(russh::Error),
}

impl From<russh::Error> for PeerError {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

type Refused = Result<(), PeerError>;

impl client::Handler for Peer {
    type Error = PeerError;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, PeerError> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Err(PeerError::HostKey("a certificate".to_owned()));
        };
        if self.pinned.iter().any(|pinned| pinned.key_data() == key.key_data()) {
            return Ok(true);
        }
        let print = key.fingerprint(russh::keys::HashAlg::Sha256);
        Err(PeerError::HostKey(format!("{} {print}", key.algorithm())))
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        refuse(&self.target, "forwarded-tcpip", reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        refuse(&self.target, "forwarded-streamlocal", reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        refuse(&self.target, "auth-agent", reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        refuse(&self.target, "session", reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        refuse(&self.target, "direct-tcpip", reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        refuse(&self.target, "direct-streamlocal", reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        refuse(&self.target, "x11", reply).await
    }
}

async fn refuse(target: &TargetName, kind: &str, reply: client::ChannelOpenHandle) -> Refused {
    tracing::warn!(%target, fault = %Fault::Target, "the target asked for a {kind} channel; refused");
    reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use russh::keys::PrivateKey;
    use russh::keys::PrivateKeyWithHashAlg;
    use russh::server;
    use secrecy::ExposeSecret;
    use tokio::sync::oneshot;

    use super::*;
    use crate::protocol::ssh::algorithms;
    use crate::protocol::ssh::generate_host_key;

    /// A target that lets everybody in, and then hands over its connection.
    struct Hostile(Option<oneshot::Sender<server::Handle>>);

    impl server::Handler for Hostile {
        type Error = russh::Error;

        async fn auth_publickey(
            &mut self,
            _: &str,
            _: server::VerifiedPublicKey<'_>,
        ) -> Result<server::Auth, russh::Error> {
            Ok(server::Auth::Accept)
        }

        async fn auth_succeeded(
            &mut self,
            session: &mut server::Session,
        ) -> Result<(), russh::Error> {
            assert!(self.0.take().unwrap().send(session.handle()).is_ok());
            Ok(())
        }
    }

    fn key() -> PrivateKey {
        PrivateKey::from_openssh(generate_host_key().unwrap().expose_secret()).unwrap()
    }

    /// The far end's handle, and ours.
    async fn connect(
        pinned: PublicKey,
        shown: PrivateKey,
    ) -> Result<(server::Handle, client::Handle<Peer>), PeerError> {
        let (near, far) = tokio::io::duplex(65_536);
        let kinds = || algorithms::preferred(Cow::Borrowed(algorithms::KEYS));
        let config =
            server::Config { keys: vec![shown], preferred: kinds(), ..server::Config::default() };
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            server::run_stream(Arc::new(config), far, Hostile(Some(tell))).await?.await
        });
        let config = client::Config { preferred: kinds(), ..client::Config::default() };
        let peer = Peer { target: "web-1".parse().unwrap(), pinned: vec![pinned] };
        let mut ours = client::connect_stream(Arc::new(config), near, peer).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key()), None);
        assert!(ours.authenticate_publickey("deploy", key).await?.success());
        Ok((told.await.unwrap(), ours))
    }

    #[tokio::test]
    async fn nothing_that_a_target_begins_is_accepted() {
        let shown = key();
        let (theirs, _ours) = connect(shown.public_key().clone(), shown).await.unwrap();
        let host = "127.0.0.1";
        let begun = [
            theirs.channel_open_agent().await,
            theirs.channel_open_session().await,
            theirs.channel_open_x11(host, 1).await,
            theirs.channel_open_direct_tcpip(host, 22, host, 1).await,
            theirs.channel_open_forwarded_tcpip(host, 22, host, 1).await,
            theirs.channel_open_direct_streamlocal("/x").await,
            theirs.channel_open_forwarded_streamlocal("/x").await,
        ];
        for (index, begun) in begun.into_iter().enumerate() {
            assert!(
                matches!(begun, Err(russh::Error::ChannelOpenFailure(_))),
                "{index}: {begun:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_host_key_that_is_not_pinned_is_not_believed() {
        let refused = connect(key().public_key().clone(), key()).await;
        assert!(matches!(refused, Err(PeerError::HostKey(shown)) if shown.contains("SHA256:")));
    }
}
