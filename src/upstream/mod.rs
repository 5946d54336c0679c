//! The only way to a target, and to the few other places the daemon may ever dial.
//!
//! - [`dial`] takes a `Recorded<Permit>` and a [`Pinned`] address and gives a [`Leg`]: a connection
//!   that only a protocol's `upstream.rs` may open ([`OpenLeg`]), whose senders take
//!   [`Cleared`](crate::session::Cleared) frames.
//! - [`reach`] takes a [`Configured`] place: a provider, a store, a webhook. `weir check` lists
//!   every one of them; there is no other.
//!
//! Knows no protocol and makes no decision: an address that is not pinned cannot be dialled.

mod arriving;
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

pub use arriving::Arriving;
pub use fetch::FetchError;
pub use fetch::Fetched;
pub use fetch::Fetcher;

/// How long one address may take to accept a connection, in milliseconds.
pub const CONNECT_MS_MAX: u64 = 10_000;
/// Most addresses that the name of a place with declared networks may resolve to.
pub const ADDRESSES_MAX: usize = 64;

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
    /// An address lies in none of the networks that are declared for the place: nothing is dialled.
    #[error("{what}: `{host}` resolves to {address}, which lies in no network declared for it")]
    Outside {
        /// Which.
        what: String,
        /// Its host.
        host: String,
        /// The address.
        address: IpAddr,
    },
}

impl IntoRefusal for DialError {
    fn refusal(&self) -> Refusal {
        let what = match self {
            Self::OtherTarget { permitted, .. } => permitted.to_string(),
            Self::Unreachable { what, .. } | Self::Outside { what, .. } => what.clone(),
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
    networks: Vec<IpNet>,
}

impl Configured {
    /// A place that configuration names; `what` it is goes into errors and `weir check`. An IPv6
    /// address may stand in brackets, as in a URL.
    pub fn new(what: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        let host = bare(&host.into()).to_owned();
        Self { what: what.into(), host, port, networks: Vec::new() }
    }

    /// The same place, pinned: it is dialled only if every address that its name resolves to lies in
    /// one of `networks`. None: wherever it is.
    #[must_use]
    pub fn within(self, networks: Vec<IpNet>) -> Self {
        Self { networks, ..self }
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

/// A host without the brackets that an IPv6 address has in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
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
    pinned(place, addresses.collect())
}

/// The addresses that were checked are those that are dialled: resolving once more would give a
/// lying resolver its second chance.
fn pinned(place: &Configured, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, DialError> {
    if place.networks.is_empty() {
        return Ok(found);
    }
    if found.len() > ADDRESSES_MAX {
        return Err(DialError::Unreachable {
            what: place.what.clone(),
            address: place.host.clone(),
            source: io::Error::other("its name resolves to more than 64 addresses"),
        });
    }
    let canonical = |found: SocketAddr| SocketAddr::new(found.ip().to_canonical(), found.port());
    let found = found.into_iter().map(canonical).collect::<Vec<_>>();
    let inside = |ip: IpAddr| place.networks.iter().any(|network| network.contains(&ip));
    match found.iter().find(|address| !inside(address.ip())) {
        None => Ok(found),
        Some(outside) => Err(DialError::Outside {
            what: place.what.clone(),
            host: place.host.clone(),
            address: outside.ip(),
        }),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn within(networks: &[&str], found: &[&str]) -> Result<Vec<SocketAddr>, DialError> {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let place = Configured::new("the store", "store.internal", 443).within(networks);
        pinned(&place, found.iter().map(|address| address.parse().unwrap()).collect())
    }

    #[test]
    fn a_place_with_networks_is_dialled_only_within_them() {
        let networks = ["10.1.0.0/16", "2001:db8::/32"];
        assert_eq!(within(&networks, &["10.1.0.5:443", "[2001:db8::5]:443"]).unwrap().len(), 2);
        for outside in ["10.2.0.5:443", "[2001:db9::5]:443", "[::ffff:10.2.0.5]:443"] {
            let error = within(&networks, &["10.1.0.5:443", outside]).unwrap_err();
            assert!(matches!(error, DialError::Outside { .. }), "{outside}: {error}");
        }
        let mapped = within(&networks, &["[::ffff:10.1.0.5]:443"]).unwrap();
        assert_eq!(mapped, ["10.1.0.5:443".parse().unwrap()]);
    }

    #[test]
    fn a_place_without_networks_is_dialled_wherever_it_is_and_too_many_addresses_are_refused() {
        assert!(within(&[], &["192.0.2.1:443"]).is_ok());
        let many = vec!["10.1.0.5:443"; ADDRESSES_MAX + 1];
        assert!(within(&["10.1.0.0/16"], &many).is_err());
        assert!(within(&["10.1.0.0/16"], &many[1..]).is_ok());
    }
}
