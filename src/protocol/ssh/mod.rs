//! SSH, both roles: OpenSSH's clients on one side, its servers on the other.
//!
//! ```text
//! mod ─► connection ─► hello   sign-in (russh's server role)
//!         └► link   one command: asked ─ held ─ cleared ─► upstream (russh's client role)
//!             │                                             │ one leg for each command
//!             └► client ◄──────────── released ◄────────────┘
//! command, programs, words   a command line → model::Command
//! inbox      what a client sent and nobody took yet, bounded
//! refuse     refusals on stderr
//! peer       the gateway as a target's client: pinned host keys, nothing accepted
//! algorithms what is spoken; sever: cutting a stream; activity: when it was last used;
//!            overheard: what a client says that it is
//! ```
//!
//! A session is one connection: one principal at one target. Carried are commands and shells, with
//! or without a terminal. Refused are subsystems (sftp), file transfer by exec (scp), forwarding of
//! any kind, agents and X11.
//!
//! Makes no decision and cannot verify a claim; nothing of the client's sign-in reaches a target.

mod activity;
mod algorithms;
mod client;
mod command;
mod connection;
mod hello;
mod inbox;
mod link;
mod overheard;
mod peer;
mod programs;
mod refuse;
mod sever;
mod upstream;
mod words;

pub use command::explain;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use russh::Disconnect;
use russh::MethodKind;
use russh::MethodSet;
use russh::keys::Algorithm;
use russh::keys::Certificate;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::server;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::Origin;
use crate::model::TargetName;
use crate::protocol::ssh::activity::Activity;
use crate::protocol::ssh::connection::Connection;
use crate::protocol::ssh::hello::Entry;
use crate::protocol::ssh::hello::Hello;
use crate::protocol::ssh::hello::Shared;
use crate::protocol::ssh::hello::Tried;
use crate::protocol::ssh::link::End;
use crate::protocol::ssh::overheard::Overhearing;
use crate::session::Gateway;

/// Window for a client's data on a channel, in bytes.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// The largest packet that russh takes, in bytes.
const PACKET_BYTES_MAX: u32 = 65_535;
/// How long somebody who was not admitted may read why, in seconds.
const READING_S: u64 = 30;
/// How long a client that was told to go may take, in seconds.
const LEAVE_S_MAX: u64 = 3;
/// How long commands may take to end with their connection, in seconds.
const COMMANDS_END_S_MAX: u64 = 5;

/// Bounds of SSH connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest from the first byte to a verified claim, in seconds. Whoever is asked to sign in with
    /// a browser has the time that an invitation is open besides.
    pub login_s_max: u32,
    /// Longest that a client may take to answer a question without prompts, in seconds: it does that
    /// by itself, unless it has given up in silence.
    pub silent_s_max: u32,
    /// Most rejected sign-ins of a connection, the client's first probe and plain keys included.
    pub login_tries_max: usize,
    /// Most channels open at once in a connection.
    pub channels_max: usize,
    /// Longest without data or a request in either direction, in seconds; keep-alives do not count.
    pub idle_s_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_s_max: 120,
            silent_s_max: 20,
            login_tries_max: 10,
            channels_max: 16,
            idle_s_max: 4 * 60 * 60,
        }
    }
}

/// What a server is built from.
#[derive(Debug)]
pub struct Options {
    /// The gateway's host keys, ed25519 or ECDSA, in OpenSSH's PEM format, unencrypted.
    pub host_keys: Vec<SecretString>,
    /// Bounds.
    pub limits: Limits,
}

/// Host keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// There is none.
    #[error("there is no SSH host key; expected at least one")]
    Missing,
    /// One cannot be read.
    #[error(
        "SSH host key {number} cannot be read; expected an unencrypted private key in OpenSSH format"
    )]
    Unreadable {
        /// The how-manieth, from 1.
        number: usize,
        /// Why.
        #[source]
        source: russh::keys::ssh_key::Error,
    },
    /// One is of a kind that is not held.
    #[error("SSH host key {number} is {kind}; expected ed25519 or ECDSA, without a passphrase")]
    Kind {
        /// The how-manieth, from 1.
        number: usize,
        /// Its kind.
        kind: String,
    },
    /// None could be generated.
    #[error("no SSH host key could be generated")]
    Generate(#[source] russh::keys::ssh_key::Error),
    /// A host certificate cannot be read.
    #[error("SSH host certificate {number} cannot be read")]
    BadCertificate {
        /// The how-manieth, from 1.
        number: usize,
        /// Why.
        #[source]
        source: russh::keys::ssh_key::Error,
    },
    /// A certificate is not a host's, or not for a host key that is held.
    #[error("SSH host certificate {0} is not for a host key that is held")]
    OtherCertificate(usize),
}

/// The gateway as an SSH server. Built once; serves every connection.
pub struct Server {
    keys: Vec<PrivateKey>,
    config: ArcSwap<server::Config>,
    public_keys: Vec<String>,
    limits: Limits,
    dials: Arc<Dials>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("public_keys", &self.public_keys)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How many connections to each target are being opened.
#[derive(Debug, Default)]
struct Dials(Mutex<BTreeMap<TargetName, Arc<Semaphore>>>);

impl Dials {
    /// The places at `target`. There are as many as targets were ever configured.
    fn of(&self, target: &TargetName) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = all
            .entry(target.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(link::OPENING_MAX)));
        Arc::clone(places)
    }
}

/// A fresh ed25519 host key, in OpenSSH's PEM format, for a gateway that has none yet.
pub fn generate_host_key() -> Result<SecretString, HostKeyError> {
    // `russh::keys::key::safe_rng` is not public; the operating system's numbers are.
    let mut seed = zeroize::Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(seed.as_mut_slice())
        .map_err(|_| HostKeyError::Generate(russh::keys::ssh_key::Error::Crypto))?;
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed);
    let pem = PrivateKey::from(pair).to_openssh(LineEnding::LF).map_err(HostKeyError::Generate)?;
    Ok(SecretString::from(pem.as_str()))
}

impl Server {
    /// A server with these host keys.
    pub fn new(options: &Options) -> Result<Self, HostKeyError> {
        let keys = options
            .host_keys
            .iter()
            .zip(1..)
            .map(|(pem, number)| host_key(pem, number))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(HostKeyError::Missing);
        }
        let public = |key: &PrivateKey| key.public_key().to_openssh().unwrap_or_default();
        let public_keys = keys.iter().map(public).collect();
        let config = ArcSwap::from_pointee(config(keys.clone(), Vec::new(), &options.limits));
        Ok(Self { keys, config, public_keys, limits: options.limits, dials: Arc::default() })
    }

    /// Shows host certificates from now on, to clients that ask for them: lines of OpenSSH's
    /// `ssh_host_ed25519_key-cert.pub`, each for one of the host keys. Those shown before are
    /// forgotten; clients that know a host key go on as they did.
    pub fn certify(&self, lines: &[String]) -> Result<(), HostKeyError> {
        let read = |(line, number): (&String, usize)| {
            let certificate = Certificate::from_openssh(line)
                .map_err(|source| HostKeyError::BadCertificate { number, source })?;
            let held = self.keys.iter().any(|key| {
                key.public_key().key_data() == certificate.public_key()
                    && certificate.cert_type().is_host()
            });
            if held { Ok(certificate) } else { Err(HostKeyError::OtherCertificate(number)) }
        };
        let certificates = lines.iter().zip(1..).map(read).collect::<Result<Vec<_>, _>>()?;
        let config = config(self.keys.clone(), certificates, &self.limits);
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// The public host keys, as lines for `known_hosts` without a host's name.
    pub fn public_keys(&self) -> &[String] {
        &self.public_keys
    }

    /// Serves one connection to its end, which is logged in one line. When this returns, its
    /// session's trail is closed; when it is dropped, the connection is cut.
    pub async fn serve<S>(&self, gateway: Arc<Gateway>, stream: S, origin: Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_at(gateway, stream, origin, None).await;
    }

    /// As [`Self::serve`], for a connection that is itself for a target: it came by that name in
    /// TLS, so that the user name need only say which login.
    pub async fn serve_at<S>(
        &self,
        gateway: Arc<Gateway>,
        stream: S,
        origin: Origin,
        at: Option<TargetName>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let knife = CancellationToken::new();
        let _cut = knife.clone().drop_guard();
        let login = Duration::from_secs(self.limits.login_s_max.into());
        let begun = tokio::time::Instant::now();
        let soon = begun.checked_add(login).unwrap_or(begun);
        let shared = Arc::new(Shared {
            entry: watch::Sender::new(None),
            patience: watch::Sender::new(soon),
            activity: Arc::new(Activity::new()),
            tasks: TaskTracker::new(),
        });
        let (stream, program) = Overhearing::new(stream);
        let hello = Hello {
            gateway,
            origin: origin.clone(),
            at,
            limits: self.limits,
            dials: Arc::clone(&self.dials),
            shared: Arc::clone(&shared),
            program,
            soon,
            tried: Tried::default(),
        };
        let connection = Connection {
            hello,
            limits: self.limits,
            shared: Arc::clone(&shared),
            channels: HashMap::new(),
            opened: 0,
            refused: 0,
        };
        let stream = sever::Severable::new(stream, knife.clone());
        let end = self.drive(stream, connection, &shared, &knife).await;
        let (session, principal) = match &*shared.entry.borrow() {
            Some(Entry::Session(session)) => {
                session.guard.ending(end.clone());
                let principal = session.guard.permit().principal().to_string();
                (session.guard.session().to_string(), principal)
            }
            Some(Entry::Refused(_)) | None => ("-".to_owned(), "-".to_owned()),
        };
        shared.tasks.close();
        let commands = Duration::from_secs(COMMANDS_END_S_MAX);
        if tokio::time::timeout(commands, shared.tasks.wait()).await.is_err() {
            tracing::warn!(session, fault = "gateway", "commands outlived their connection");
        }
        tracing::info!(session, principal, from = %origin, "SSH connection ended: {end}");
    }

    /// Drives the connection, and ends it where neither side does. Says why it ended.
    async fn drive<S>(
        &self,
        stream: S,
        connection: Connection,
        shared: &Shared,
        knife: &CancellationToken,
    ) -> String
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let login = too_late(shared.patience.subscribe());
        tokio::pin!(login);
        let begun = tokio::select! {
            begun = server::run_stream(self.config.load_full(), stream, connection) => begun,
            () = &mut login => return "no sign-in in time".to_owned(),
        };
        let mut running = match begun {
            Ok(running) => running,
            Err(error) => return format!("no SSH: {error}"),
        };
        let handle = running.handle();
        let mut entry = shared.entry.subscribe();
        let entry = tokio::select! {
            ended = &mut running => return ended_by(ended),
            () = &mut login => {
                knife.cancel();
                return "no sign-in in time".to_owned();
            }
            Ok(entry) = entry.wait_for(Option::is_some) => entry.clone(),
        };
        let idle = Duration::from_secs(self.limits.idle_s_max.into());
        let End { word, refusal } = tokio::select! {
            ended = &mut running => return ended_by(ended),
            () = shared.activity.ceased(idle) => End::idle(),
            end = over(entry) => end,
        };
        // Commands end first: they tell their clients why.
        shared.tasks.close();
        let commands = Duration::from_secs(COMMANDS_END_S_MAX);
        let told = async {
            shared.tasks.wait().await;
            let (reason, language) = (refusal.to_string(), String::new());
            handle.disconnect(Disconnect::ByApplication, reason, language).await
        };
        if tokio::time::timeout(commands, told).await.is_ok() {
            let leaving = Duration::from_secs(LEAVE_S_MAX);
            if tokio::time::timeout(leaving, &mut running).await.is_err() {
                tracing::debug!("a client did not leave");
            }
        }
        knife.cancel();
        word
    }
}

/// Waits until a sign-in has taken too long.
async fn too_late(mut patience: watch::Receiver<tokio::time::Instant>) {
    loop {
        let at = *patience.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            // The sender outlives this.
            Ok(()) = patience.changed() => {}
        }
    }
}

/// Waits until the session has to end. Who has none may read why, and is then sent away.
async fn over(entry: Option<Entry>) -> End {
    match entry {
        Some(Entry::Session(session)) => End::of(&session.guard).await,
        Some(Entry::Refused(refusal)) => {
            tokio::time::sleep(Duration::from_secs(READING_S)).await;
            End { word: format!("not admitted: {refusal}"), refusal }
        }
        None => std::future::pending().await,
    }
}

fn ended_by(ended: Result<(), russh::Error>) -> String {
    match ended {
        Ok(()) => "the client left".to_owned(),
        Err(error) => format!("the connection broke: {error}"),
    }
}

fn host_key(pem: &SecretString, number: usize) -> Result<PrivateKey, HostKeyError> {
    let key = PrivateKey::from_openssh(pem.expose_secret())
        .map_err(|source| HostKeyError::Unreadable { number, source })?;
    let kind = key.algorithm();
    if key.is_encrypted() || !algorithms::is_supported(&kind) {
        return Err(HostKeyError::Kind { number, kind: kind.to_string() });
    }
    Ok(key)
}

fn config(
    keys: Vec<PrivateKey>,
    certificates: Vec<Certificate>,
    limits: &Limits,
) -> server::Config {
    let kinds: Cow<'static, [Algorithm]> = Cow::Borrowed(algorithms::KEYS);
    let methods = [MethodKind::PublicKey, MethodKind::KeyboardInteractive, MethodKind::Password];
    server::Config {
        server_id: algorithms::identification(),
        methods: MethodSet::from(methods.as_slice()),
        // `Hello` takes its time itself: for whatever is verified, and for nothing else.
        auth_rejection_time: Duration::ZERO,
        keys,
        certificates,
        window_size: u32::try_from(WINDOW_BYTES).unwrap_or(u32::MAX),
        maximum_packet_size: PACKET_BYTES_MAX,
        preferred: algorithms::preferred(kinds),
        max_auth_attempts: limits.login_tries_max,
        // Ours counts data and requests, not keep-alives: `Limits::idle_s_max`.
        inactivity_timeout: None,
        // russh would ask while somebody still reads a prompt, and OpenSSH's client dies of a request
        // before it is signed in (RFC 4252 §6). `listen` has TCP ask, below SSH.
        keepalive_interval: None,
        nodelay: true,
        ..server::Config::default()
    }
}
