//! The only way to a target, and to the few other places the daemon may ever dial.
//!
//! - [`dial`] takes a `Recorded<Permit>` and a [`Pinned`] address and gives a [`Leg`]: a connection
//!   that only a protocol's `upstream.rs` may open ([`OpenLeg`]), whose senders take
//!   [`Cleared`](crate::session::Cleared) frames.
//! - [`reach`] takes a [`Configured`] place: a provider, a store, a webhook. `weir check` lists
//!   every one of them; there is no other.
//!
//! Knows no protocol and makes no decision: an address that is not pinned cannot be dialled.

mod fetch;

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;

use crate::audit::Recorded;
use crate::model::Refusal;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::policy::Permit;
use crate::target::Pinned;

pub use fetch::FetchError;
pub use fetch::Fetched;
pub use fetch::Fetcher;

/// How long one address may take to accept a connection, in milliseconds.
pub const CONNECT_MS_MAX: u64 = 10_000;

/// A connection to a session's target, not yet opened.
#[derive(Debug)]
pub struct Leg {
    session: SessionId,
    target: TargetName,
    stream: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
}

/// What may open a [`Leg`]: one type in each protocol's `upstream.rs`, and nothing else
/// (`tests/it/architecture.rs` reads who implements it).
pub trait OpenLeg {}

impl Leg {
    /// The session whose frames this leg carries: senders compare it.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The target it leads to.
    pub fn target(&self) -> &TargetName {
        &self.target
    }

    /// The address it leads from: by its port the target's log may name it.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The address it leads to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Opens the leg. The opener promises that nothing but cleared frames goes through it, and the
    /// handshake that its protocol begins with.
    pub fn open(self, _by: &impl OpenLeg) -> TcpStream {
        self.stream
    }
}

/// A target, or another place, that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The pinned address is another target's: a bug of ours, so nothing is dialled.
    #[error("the permit is for {permitted}, the address for {pinned}")]
    OtherTarget {
        /// The target that was admitted.
        permitted: TargetName,
        /// The target whose address it is.
        pinned: TargetName,
    },
    /// An address lies in none of the networks where it has to.
    #[error("{what} has the address {address}, which lies in none of the networks declared for it")]
    Outside {
        /// Which.
        what: String,
        /// The address.
        address: IpAddr,
    },
    /// No address accepted a connection.
    #[error("{what} at {address} cannot be reached")]
    Unreachable {
        /// Which.
        what: String,
        /// The last address tried.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl IntoRefusal for DialError {
    fn refusal(&self) -> Refusal {
        let what = match self {
            Self::OtherTarget { permitted, .. } => permitted.to_string(),
            Self::Outside { what, .. } | Self::Unreachable { what, .. } => what.clone(),
        };
        Refusal::new(RefusalCode::TargetFailed, format!("{what} cannot be reached by this gateway"))
            .hint(
                "the target is down or unreachable; its owner can tell, the gateway's log says why",
            )
    }
}

/// Dials a target: the address that was checked is the address that is dialled.
///
/// It borrows the permit: a cancel and a pool need second legs.
pub async fn dial(permit: &Recorded<Permit>, at: &Pinned) -> Result<Leg, DialError> {
    let permitted = &permit.target().name;
    if permitted != at.target() {
        let (permitted, pinned) = (permitted.clone(), at.target().clone());
        return Err(DialError::OtherTarget { permitted, pinned });
    }
    let (stream, peer) = connect(&permitted.to_string(), at.addresses()).await?;
    let local = stream.local_addr().map_err(|source| DialError::Unreachable {
        what: permitted.to_string(),
        address: peer.to_string(),
        source,
    })?;
    Ok(Leg { session: permit.session(), target: permitted.clone(), stream, local, peer })
}

/// A place other than a target that the daemon may dial: made from configuration alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    what: String,
    host: String,
    port: u16,
    within: Option<Vec<IpNet>>,
}

impl Configured {
    /// A place that configuration names; `what` it is goes into errors and `weir check`.
    pub fn new(what: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        Self { what: what.into(), host: host.into(), port, within: None }
    }

    /// The same place, whose every address has to lie in one of these networks, or be this
    /// machine's own: else it is not dialled.
    #[must_use]
    pub fn within(self, networks: Vec<IpNet>) -> Self {
        Self { within: Some(networks), ..self }
    }

    /// The host's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Reaches a configured place.
pub async fn reach(place: &Configured) -> Result<TcpStream, DialError> {
    let addresses = addresses(place).await?;
    connect(&place.what, &addresses).await.map(|(stream, _)| stream)
}

/// The addresses of a configured place, each where it has to lie. Dials nothing.
pub async fn addresses(place: &Configured) -> Result<Vec<SocketAddr>, DialError> {
    let lookup = tokio::net::lookup_host((place.host.as_str(), place.port));
    let addresses = within(lookup).await.map_err(|source| DialError::Unreachable {
        what: place.what.clone(),
        address: place.host.clone(),
        source,
    })?;
    let addresses = addresses.collect::<Vec<_>>();
    let outside = |address: &&SocketAddr| {
        let ip = address.ip().to_canonical();
        let Some(within) = &place.within else { return false };
        // This machine itself stands where the gateway stands.
        let lies = ip.is_loopback() || within.iter().any(|network| network.contains(&ip));
        ip.is_unspecified() || ip.is_multicast() || !lies
    };
    match addresses.iter().find(outside) {
        None => Ok(addresses),
        Some(address) => {
            Err(DialError::Outside { what: place.what.clone(), address: address.ip() })
        }
    }
}

async fn connect(
    what: &str,
    addresses: &[SocketAddr],
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut last = (String::from("no address"), io::Error::other("the name has no address"));
    for address in addresses {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that dials")]
        match within(TcpStream::connect(address)).await {
            Ok(stream) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                return Ok((stream, *address));
            }
            Err(error) => last = (address.to_string(), error),
        }
    }
    let (address, source) = last;
    Err(DialError::Unreachable { what: what.to_owned(), address, source })
}

async fn within<T>(io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(Duration::from_millis(CONNECT_MS_MAX), io)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 10 s")))
}
