//! The only opener of SSH legs, and the only sender towards an SSH target.
//!
//! One leg carries one command. russh's client role grants a target window as it receives and
//! cannot be told not to; with several commands on a leg, one whose client stops reading would stop
//! all. So each has its own connection, which is bounded by TCP, and ends with it.
//!
//! Nothing of the client's own sign-in is here: the gateway signs in with its own key, which is
//! read when it dials and wiped afterwards. The target's host key is one of the catalogue's or
//! there is no connection, and what a target begins of its own is refused.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::Channel;
use russh::ChannelMsg;
use russh::ChannelReadHalf;
use russh::ChannelWriteHalf;
use russh::Disconnect;
use russh::Pty;
use russh::Sig;
use russh::client;
use russh::keys::PrivateKey;
use russh::keys::PrivateKeyWithHashAlg;
use russh::keys::PublicKey;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::audit::Unrecorded;
use crate::model::Fault;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::fault::Chain;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::ssh::algorithms;
use crate::protocol::ssh::client::Output;
use crate::protocol::ssh::client::STDERR;
use crate::protocol::ssh::inbox::Size;
use crate::protocol::ssh::peer::Peer;
use crate::protocol::ssh::peer::PeerError;
use crate::protocol::ssh::sever::Severable;
use crate::session::Cleared;
use crate::session::Guard;
use crate::session::guard::Plumbing;
use crate::session::guard::WrongSession;
use crate::target;
use crate::target::CredentialError;
use crate::target::PinError;
use crate::target::SshTarget;
use crate::target::Target;
use crate::target::ssh::Login;
use crate::upstream;
use crate::upstream::DialError;
use crate::upstream::Leg;
use crate::upstream::OpenLeg;

/// Longest from a connection to a command that runs, in seconds.
const OPEN_S_MAX: u64 = 20;
/// Window for a target's output, in bytes.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// How many messages of a target wait for the client; with the packet size they bound memory.
const MESSAGES_MAX: usize = 32;
/// How often a silent target is asked whether it is there, in seconds.
const KEEPALIVE_S: u64 = 30;
/// The largest packet that russh takes, in bytes.
const PACKET_BYTES_MAX: u32 = 65_535;

/// A terminal that the client asked for (RFC 4254 §6.2).
#[derive(Debug, Clone)]
pub(super) struct Terminal {
    pub(super) name: String,
    pub(super) size: Size,
    pub(super) modes: Vec<(Pty, u32)>,
}

/// What a client asks to run.
#[derive(Debug, Clone)]
pub(super) enum Run {
    /// The login shell.
    Shell,
    /// A command line.
    Exec(Bytes),
    /// A subsystem; none is carried.
    Subsystem(String),
}

/// The beginning of a command: the frame that is decided.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) terminal: Option<Terminal>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) run: Run,
}

/// What passes without a decision of its own: about a command that was decided, and telling it
/// nothing that its client could not tell it by stdin.
///
/// | frame | why it is harmless |
/// |---|---|
/// | `Size` | the size of the client's terminal |
/// | `Signal` | reaches only the command itself; the client may end what it began |
/// | `End` | the end of stdin, whose every byte was cleared |
#[derive(Debug)]
pub(super) enum Plumb {
    /// The terminal has another size (RFC 4254 §6.7).
    Size(Size),
    /// A signal for the command (RFC 4254 §6.9).
    Signal(Sig),
    /// There is no more stdin (RFC 4254 §5.3).
    End,
}

impl Plumbing for Plumb {}

/// Why a target could not be reached, or a command not be begun there.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Pin(Box<PinError>),
    #[error(transparent)]
    Dial(Box<DialError>),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(
        "the private key for target `{0}` is not usable: expected an unencrypted ed25519 or ECDSA key in OpenSSH format"
    )]
    Key(TargetName),
    #[error("target `{0}` has no pinned host key of a kind that is supported (ed25519, ECDSA)")]
    NoHostKey(TargetName),
    #[error("the host key of target `{target}` is not a pinned one, it is {shown}")]
    HostKey { target: TargetName, shown: String },
    #[error("target `{target}` does not let the gateway sign in as {login}")]
    SignIn { target: TargetName, login: Login },
    #[error("target `{0}` refused to begin the command")]
    NotBegun(TargetName),
    #[error("target `{0}` took more than {OPEN_S_MAX} s to begin")]
    TimedOut(TargetName),
    #[error("the SSH connection to target `{target}` failed")]
    Ssh {
        target: TargetName,
        #[source]
        source: russh::Error,
    },
    #[error(transparent)]
    Wrong(#[from] WrongSession),
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

impl OpenError {
    fn of(error: PeerError, target: &TargetName) -> Self {
        let target = target.clone();
        match error {
            PeerError::HostKey(shown) => Self::HostKey { target, shown },
            PeerError::Ssh(source) => Self::Ssh { target, source },
            PeerError::Unrecorded(error) => Self::Unrecorded(error),
        }
    }
}

impl IntoRefusal for OpenError {
    fn refusal(&self) -> Refusal {
        let failed = |reason: String| {
            Refusal::new(RefusalCode::TargetFailed, reason)
                .hint("its owner can tell; the gateway's log says more")
        };
        match self {
            Self::Pin(error) => error.refusal(),
            Self::Dial(error) => error.refusal(),
            Self::Unrecorded(error) => error.refusal(),
            Self::HostKey { target, .. } => Refusal::new(
                RefusalCode::TargetFailed,
                format!("the host key of `{target}` changed: it is none of those in the catalogue"),
            )
            .hint("if its owner changed the key, the catalogue needs the new one; if not, somebody else answers there"),
            Self::Credential(_) | Self::Key(_) | Self::NoHostKey(_) | Self::Wrong(_) => {
                failed("this gateway is not set up to reach the target".to_owned())
            }
            Self::SignIn { .. } | Self::NotBegun(_) | Self::TimedOut(_) => failed(self.to_string()),
            Self::Ssh { target, .. } => failed(format!("the connection to `{target}` failed")),
        }
    }
}

/// The opener of SSH legs.
struct Opener;

impl OpenLeg for Opener {}

/// A command that runs at a target, and the leg that carries it.
pub(super) struct Remote {
    session: SessionId,
    target: TargetName,
    write: ChannelWriteHalf<client::Msg>,
    handle: client::Handle<Peer>,
    /// Cuts the leg when this is dropped, whatever russh waits for.
    _knife: DropGuard,
}

/// What a command that runs says.
pub(super) struct Said(ChannelReadHalf);

impl Remote {
    /// Dials the session's target, signs in as `login` and begins what was cleared, the command with
    /// this number.
    pub(super) async fn open(
        guard: &Arc<Guard>,
        target: &Target,
        ssh: &SshTarget,
        login: &Login,
        (number, start): (u64, Cleared<Start>),
    ) -> Result<(Self, Said), OpenError> {
        let name = target.name().clone();
        let opening = async {
            let pinned = target::pin(target).await.map_err(|e| OpenError::Pin(Box::new(e)))?;
            let leg = upstream::dial(guard.permit(), &pinned).await;
            let leg = leg.map_err(|e| OpenError::Dial(Box::new(e)))?;
            guard.leg((leg.local(), leg.peer()), None, Some(number))?;
            let start = start.unseal(leg.session())?;
            begin(leg, Arc::clone(guard), ssh, login, start).await
        };
        let opened = tokio::time::timeout(Duration::from_secs(OPEN_S_MAX), opening)
            .await
            .unwrap_or(Err(OpenError::TimedOut(name)));
        opened.inspect_err(|error| {
            let session = guard.session();
            tracing::warn!(%session, fault = %Fault::Target, "{}", Chain(error));
        })
    }

    /// Sends a part of what follows the command. Waits for the target's window.
    pub(super) async fn send_input(&self, part: Cleared<Bytes>) -> Result<(), OpenError> {
        let part = part.unseal(self.session)?;
        self.write.data_bytes(part).await.map_err(|source| self.failed(source))
    }

    /// Sends what passes without a decision of its own.
    pub(super) async fn send_plumbing(&self, frame: Cleared<Plumb>) -> Result<(), OpenError> {
        let sent = match frame.unseal(self.session)? {
            Plumb::Size(size) => {
                let Size { columns, rows, width_pixels, height_pixels } = size;
                self.write.window_change(columns, rows, width_pixels, height_pixels).await
            }
            Plumb::Signal(signal) => self.write.signal(signal).await,
            Plumb::End => self.write.eof().await,
        };
        sent.map_err(|source| self.failed(source))
    }

    /// Ends the leg.
    pub(super) async fn close(self) {
        let ending = async {
            self.write.close().await?;
            self.handle.disconnect(Disconnect::ByApplication, "done", "").await?;
            self.handle.await
        };
        // A target that reads nothing any more is cut.
        let ended = tokio::time::timeout(Duration::from_secs(1), ending).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::debug!(target = %self.target, "a leg was cut");
        }
    }

    fn failed(&self, source: russh::Error) -> OpenError {
        OpenError::Ssh { target: self.target.clone(), source }
    }
}

impl Said {
    /// What the command says next; `None` once its channel is closed.
    pub(super) async fn next(&mut self) -> Option<Output> {
        loop {
            let said = self.0.wait().await?;
            if matches!(said, ChannelMsg::Close) {
                return None;
            }
            if let Some(output) = output(said) {
                return Some(output);
            }
        }
    }
}

/// What of a channel's messages means something to a client that runs a command. The end of its
/// output means nothing before the command has ended too (`Client::close`).
fn output(said: ChannelMsg) -> Option<Output> {
    if let ChannelMsg::Data { data } = said {
        return Some(Output::Stdout(data));
    }
    if let ChannelMsg::ExtendedData { data, ext: STDERR } = said {
        return Some(Output::Stderr(data));
    }
    if let ChannelMsg::ExitStatus { exit_status } = said {
        return Some(Output::Status(exit_status));
    }
    // Its message and language are the target's own words and say no more.
    if let ChannelMsg::ExitSignal { signal_name, .. } = said {
        return Some(Output::Signal(known(signal_name)));
    }
    None
}

/// A signal's name as RFC 4254 §6.10 has it; a target's own names do not reach a client.
fn known(signal: Sig) -> Sig {
    match signal {
        Sig::Custom(_) => Sig::Custom("UNKNOWN".to_owned()),
        Sig::ABRT
        | Sig::ALRM
        | Sig::FPE
        | Sig::HUP
        | Sig::ILL
        | Sig::INT
        | Sig::KILL
        | Sig::PIPE
        | Sig::QUIT
        | Sig::SEGV
        | Sig::TERM
        | Sig::USR1 => signal,
    }
}

async fn begin(
    leg: Leg,
    guard: Arc<Guard>,
    ssh: &SshTarget,
    login: &Login,
    start: Start,
) -> Result<(Remote, Said), OpenError> {
    let (session, target) = (leg.session(), leg.target().clone());
    let pinned = host_keys(ssh);
    if pinned.is_empty() {
        return Err(OpenError::NoHostKey(target));
    }
    let config = Arc::new(config(&pinned));
    let knife = CancellationToken::new();
    let stream = Severable::new(leg.open(&Opener), knife.clone());
    let knife = knife.drop_guard();
    let peer = Peer { target: target.clone(), guard, refused: 0, pinned };
    let mut handle = client::connect_stream(config, stream, peer)
        .await
        .map_err(|error| OpenError::of(error, &target))?;
    let ssh_failed = |source| OpenError::Ssh { target: target.clone(), source };
    let key = private_key(ssh, &target)?;
    let key = PrivateKeyWithHashAlg::new(key, None);
    let signed_in = handle.authenticate_publickey(login.as_str(), key).await.map_err(ssh_failed)?;
    if !signed_in.success() {
        return Err(OpenError::SignIn { target, login: login.clone() });
    }
    let mut channel = handle.channel_open_session().await.map_err(ssh_failed)?;
    let replies = ask(&channel, &start).await.map_err(ssh_failed)?;
    if !granted(&mut channel, replies).await {
        return Err(OpenError::NotBegun(target));
    }
    let (read, write) = channel.split();
    Ok((Remote { session, target, write, handle, _knife: knife }, Said(read)))
}

/// Asks for everything in `start`; says how many answers will come.
async fn ask(channel: &Channel<client::Msg>, start: &Start) -> Result<u32, russh::Error> {
    let mut replies = 1;
    if let Some(Terminal { name, size, modes }) = &start.terminal {
        let Size { columns, rows, width_pixels, height_pixels } = *size;
        channel.request_pty(true, name, columns, rows, width_pixels, height_pixels, modes).await?;
        replies = 2;
    }
    for (name, value) in &start.environment {
        channel.set_env(false, name, value).await?;
    }
    match &start.run {
        Run::Shell => channel.request_shell(true).await?,
        Run::Exec(line) => channel.exec(true, line.to_vec()).await?,
        // Refused before; asking for it here would be a bug, and so fails.
        Run::Subsystem(_) => return Err(russh::Error::Inconsistent),
    }
    Ok(replies)
}

/// Whether the target grants all that was asked for. It answers in order (RFC 4254 §5.4).
async fn granted(channel: &mut Channel<client::Msg>, replies: u32) -> bool {
    let mut left = replies;
    while left > 0 {
        match channel.wait().await {
            Some(ChannelMsg::Success) => left -= 1,
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            // A target that talks before it answered breaks the protocol.
            Some(_) | None => return false,
        }
    }
    true
}

fn config(pinned: &[PublicKey]) -> client::Config {
    let kinds = pinned.iter().map(PublicKey::algorithm).collect::<Vec<_>>();
    client::Config {
        client_id: algorithms::identification(),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES_MAX,
        channel_buffer_size: MESSAGES_MAX,
        preferred: algorithms::preferred(Cow::Owned(kinds)),
        keepalive_interval: Some(Duration::from_secs(KEEPALIVE_S)),
        ..client::Config::default()
    }
}

/// The pinned host keys of kinds that are supported.
fn host_keys(ssh: &SshTarget) -> Vec<PublicKey> {
    let parse = |key: &target::ssh::HostKey| PublicKey::from_openssh(key.as_str()).ok();
    let supported = |key: &PublicKey| algorithms::is_supported(&key.algorithm());
    ssh.host_keys.iter().filter_map(parse).filter(supported).collect()
}

/// Reads the gateway's private key. It is wiped when dropped, and so is the text it was read from.
fn private_key(ssh: &SshTarget, target: &TargetName) -> Result<Arc<PrivateKey>, OpenError> {
    let text = ssh.credential.read()?;
    let key = PrivateKey::from_openssh(text.expose_secret())
        .ok()
        .filter(|key| !key.is_encrypted() && algorithms::is_supported(&key.algorithm()))
        .ok_or_else(|| OpenError::Key(target.clone()))?;
    Ok(Arc::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table at [`Plumb`], once more: whoever adds a frame comes by here, and says there why
    /// it needs no decision.
    #[test]
    fn plumbing_is_what_the_table_says() {
        let row = |frame: &Plumb| match frame {
            Plumb::Size(_) => "Size",
            Plumb::Signal(_) => "Signal",
            Plumb::End => "End",
        };
        let table = include_str!("upstream.rs");
        let size = Size { columns: 80, rows: 24, width_pixels: 0, height_pixels: 0 };
        for frame in [Plumb::Size(size), Plumb::Signal(Sig::INT), Plumb::End] {
            assert!(table.contains(&format!("/// | `{}` |", row(&frame))));
        }
        assert_eq!(table.matches("\n/// | `").count(), 3);
    }

    #[test]
    fn a_target_s_own_names_of_signals_do_not_reach_a_client() {
        assert!(
            matches!(known(Sig::Custom("x\u{1b}".to_owned())), Sig::Custom(n) if n == "UNKNOWN")
        );
        assert!(matches!(known(Sig::TERM), Sig::TERM));
    }
}
