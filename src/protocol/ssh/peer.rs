//! The gateway as a target's client: compares the host key, and accepts nothing that a target
//! begins.
//!
//! russh's own answers to agent, forwarded and other channels would be yes: a new kind of channel
//! in a new version of russh must be refused here too.

use std::sync::Arc;

use russh::Channel;
use russh::client;
use russh::keys::PublicKey;
use russh::keys::PublicKeyOrCertificate;

use crate::audit::Unrecorded;
use crate::model::Fault;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::refusal::RefusalCode;
use crate::session::Guard;

/// How many channels a target may open on a leg before it is disconnected: each is an entry of the
/// trail.
const REFUSED_MAX: u32 = 100;

/// The gateway as a target's client.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) target: TargetName,
    /// Where what the target begins is recorded as refused.
    pub(super) guard: Arc<Guard>,
    /// How often that was.
    pub(super) refused: u32,
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
    /// What the target began could not be recorded.
    Unrecorded(Unrecorded),
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
        self.refuse("forwarded-tcpip", reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        self.refuse("forwarded-streamlocal", reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        self.refuse("auth-agent", reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        self.refuse("session", reply).await
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
        self.refuse("direct-tcpip", reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        self.refuse("direct-streamlocal", reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Refused {
        self.refuse("x11", reply).await
    }
}

impl Peer {
    async fn refuse(&mut self, kind: &str, reply: client::ChannelOpenHandle) -> Refused {
        let target = &self.target;
        tracing::warn!(%target, fault = %Fault::Target, "the target asked for a {kind} channel; refused");
        let refusal = Refusal::new(
            RefusalCode::Unsupported,
            "nothing that a target begins is carried: no forwarding, no agent, no X11",
        );
        let what = format!("a {kind} channel, which the target opened");
        self.guard.refused(what, &refusal).map_err(PeerError::Unrecorded)?;
        reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
        self.refused = self.refused.saturating_add(1);
        if self.refused >= REFUSED_MAX {
            return Err(russh::Error::Disconnect.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use russh::keys::PrivateKey;
    use russh::keys::PrivateKeyWithHashAlg;
    use russh::server;
    use secrecy::ExposeSecret;
    use tokio::sync::oneshot;

    use super::*;
    use crate::identity::Verified;
    use crate::model::Principal;
    use crate::model::Protocol;
    use crate::model::SessionId;
    use crate::policy;
    use crate::protocol::ssh::algorithms;
    use crate::protocol::ssh::generate_host_key;
    use crate::session::testing::World;

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

    /// A session of the world's only target.
    fn guard(world: &World) -> Arc<Guard> {
        let parts = world.gateway().parts.clone();
        let snapshot = Arc::clone(&parts.version.borrow().snapshot);
        let mut principal = Principal::clone(&World::approver("alice", &[]));
        principal.entity = Some("acme-de".parse().unwrap());
        let now = parts.clock.now();
        let soon = now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
        let verified = Verified::for_test(principal, Some(soon));
        let (target, origin) = ("web-1".parse().unwrap(), World::origin());
        let asked = policy::Asked {
            session: SessionId::fresh(),
            target: &target,
            protocol: Protocol::Http,
            origin: &origin,
        };
        Guard::open(policy::admit(&verified, asked, &snapshot, now).unwrap(), parts).unwrap()
    }

    async fn world() -> World {
        let connect = r#"permit (principal, action == Weir::Action::"connect", resource);"#;
        World::new(connect, vec![World::target("web-1", &[])]).await
    }

    /// The far end's handle, and ours.
    async fn connect(
        guard: Arc<Guard>,
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
        let (target, pinned) = ("web-1".parse().unwrap(), vec![pinned]);
        let peer = Peer { target, guard, refused: 0, pinned };
        let mut ours = client::connect_stream(Arc::new(config), near, peer).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key()), None);
        assert!(ours.authenticate_publickey("deploy", key).await?.success());
        Ok((told.await.unwrap(), ours))
    }

    #[tokio::test]
    async fn nothing_that_a_target_begins_is_accepted() {
        let shown = key();
        let world = world().await;
        let public = shown.public_key().clone();
        let (theirs, _ours) = connect(guard(&world), public, shown).await.unwrap();
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
        let record = world.record();
        assert_eq!(record.matches("channel, which the target opened").count(), 7, "{record}");
    }

    #[tokio::test]
    async fn a_host_key_that_is_not_pinned_is_not_believed() {
        let guard = guard(&world().await);
        let refused = connect(guard, key().public_key().clone(), key()).await;
        assert!(matches!(refused, Err(PeerError::HostKey(shown)) if shown.contains("SHA256:")));
    }
}
