//! Accepting connections, and what each of them has to get through first.
//!
//! [`Listener::accept`] waits for no single client: whatever one of them is slow at happens in
//! [`Incoming::begin`], which belongs in a task of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use ipnet::IpNet;
use socket2::Domain;
use socket2::SockRef;
use socket2::Socket;
use socket2::TcpKeepalive;
use socket2::Type;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

use crate::listen::Limits;
use crate::listen::Prefixed;
use crate::listen::Slot;
use crate::listen::Spoken;
use crate::listen::detect;
use crate::listen::detect::DetectError;
use crate::listen::limits::Full;
use crate::listen::limits::Slots;
use crate::listen::proxy;
use crate::listen::proxy::HeaderError;
use crate::model::Fault;
use crate::model::fault::Chain;

/// Connections that the system keeps until they are accepted.
const BACKLOG_CONNECTIONS_MAX: i32 = 1_024;
/// After this much silence the system asks whether the client is still there, …
const KEEPALIVE_TIME: Duration = Duration::from_mins(1);
/// … and again this often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How long accepting rests after an error of the system's (no file descriptors, no memory), and
/// how long at most when it goes on.
const REST_MIN: Duration = Duration::from_millis(5);
const REST_MAX: Duration = Duration::from_secs(1);
/// Refusals because of limits are logged once in this time.
const REFUSALS_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Where and how to listen.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address and port; `[::]` means IPv4 too.
    pub address: SocketAddr,
    /// Whether clients come through a relay that tells who they are.
    pub proxy: Proxy,
    /// Every bound.
    pub limits: Limits,
}

/// Whether connections begin with a PROXY header (version 2). It is never guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Proxy {
    /// Clients come straight; a header is closed like anything else that is not spoken here.
    #[default]
    Forbidden,
    /// Clients come through a relay.
    Required {
        /// The networks of the relays; connections from elsewhere are closed.
        from: Vec<IpNet>,
    },
}

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address and port.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A socket that connections come from.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    proxy: Proxy,
    limits: Limits,
    slots: Arc<Slots>,
    refusals: Refusals,
}

/// A connection of which nothing is known yet.
#[derive(Debug)]
#[must_use = "a connection that is not begun is closed"]
pub struct Incoming {
    stream: TcpStream,
    socket_peer: SocketAddr,
    local: SocketAddr,
    slot: Slot,
    deadline: Instant,
    shared: Arc<Shared>,
}

/// A connection of which it is known who it comes from and what it speaks.
#[derive(Debug)]
pub struct Accepted {
    /// The bytes, from the first one of the client's (after the PROXY header).
    pub stream: Prefixed<TcpStream>,
    /// What it speaks.
    pub spoken: Spoken,
    /// The client; behind a relay, whom the relay says. Never IPv4-mapped.
    pub peer: SocketAddr,
    /// The address of this gateway that was connected to.
    pub local: SocketAddr,
    /// The connection's place among the counted: to be kept as long as the connection.
    pub slot: Slot,
    /// When the handshake must be done.
    pub deadline: Instant,
}

/// Why a connection was closed before anything was spoken.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The deadline of the handshake passed before the PROXY header was there.
    #[error("the PROXY header took too long")]
    TooSlow,
    /// A PROXY header is required, and this is not one of the relays.
    #[error("{0} is none of the relays that connections are accepted from")]
    NoRelay(SocketAddr),
    /// The PROXY header is missing or not accepted.
    #[error("the relay did not tell who the client is")]
    Header(#[source] HeaderError),
    /// The client has too many connections. This is logged already, once in a while.
    #[error("the client has too many connections")]
    Full(#[source] Full),
    /// It is not known what the client speaks, or it is nothing that is spoken here.
    #[error("the connection was closed at its first bytes")]
    Detect(#[source] DetectError),
}

impl BeginError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooSlow
            | Self::NoRelay(_)
            | Self::Header(_)
            | Self::Full(_)
            | Self::Detect(_) => Fault::Client,
        }
    }
}

impl Listener {
    /// Listens. Needs a tokio runtime.
    pub fn bind(options: Options) -> Result<Self, BindError> {
        let address = options.address;
        let socket = bind(address).map_err(|source| BindError { address, source })?;
        let slots = Slots::new(&options.limits);
        let refusals = Refusals::default();
        let Options { proxy, limits, address: _ } = options;
        Ok(Self { socket, shared: Arc::new(Shared { proxy, limits, slots, refusals }) })
    }

    /// The address and port that are listened on; the port is a real one where 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection within the limits. Connections beyond them are closed, and errors of
    /// the system are waited out. Cancel safe.
    pub async fn accept(&self) -> Incoming {
        let mut rest = REST_MIN;
        loop {
            match self.socket.accept().await {
                Ok((stream, socket_peer)) => {
                    rest = REST_MIN;
                    if let Some(incoming) = self.incoming(stream, socket_peer) {
                        return incoming;
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "connections cannot be accepted");
                    sleep(rest).await;
                    rest = rest.saturating_mul(2).min(REST_MAX);
                }
            }
        }
    }

    fn incoming(&self, stream: TcpStream, socket_peer: SocketAddr) -> Option<Incoming> {
        let shared = Arc::clone(&self.shared);
        let socket_peer = canonical(socket_peer);
        let slot = shared.slots.take().and_then(|slot| match shared.proxy {
            Proxy::Forbidden => slot.claim(socket_peer.ip()),
            // Here all clients have the address of the relay.
            Proxy::Required { .. } => Ok(slot),
        });
        let slot = slot.map_err(|full| shared.refusals.tell(full)).ok()?;
        // These fail only when the client is gone already.
        settle(&stream).ok()?;
        let local = canonical(stream.local_addr().ok()?);
        let deadline = Instant::now().checked_add(shared.limits.handshake())?;
        Some(Incoming { stream, socket_peer, local, slot, deadline, shared })
    }
}

impl Incoming {
    /// The address that the connection comes from: behind a relay, the relay's.
    pub fn socket_peer(&self) -> SocketAddr {
        self.socket_peer
    }

    /// Reads the PROXY header, if there is to be one, and tells what is spoken.
    ///
    /// Not cancel safe: what was read is lost with the future, and with it the connection.
    pub async fn begin(self) -> Result<Accepted, BeginError> {
        let Self { mut stream, socket_peer, local, mut slot, deadline, shared } = self;
        let mut peer = socket_peer;
        if let Proxy::Required { from } = &shared.proxy {
            if !from.iter().any(|network| network.contains(&socket_peer.ip())) {
                return Err(BeginError::NoRelay(socket_peer));
            }
            peer = timeout_at(deadline, proxy::read(&mut stream))
                .await
                .map_err(|_| BeginError::TooSlow)?
                .map_err(BeginError::Header)?;
            slot = slot.claim(peer.ip()).map_err(|full| {
                shared.refusals.tell(full);
                BeginError::Full(full)
            })?;
        }
        let (spoken, stream) =
            detect::detect(stream, &shared.limits, deadline).await.map_err(BeginError::Detect)?;
        Ok(Accepted { stream, spoken, peer, local, slot, deadline })
    }
}

/// Logs refusals because of limits, but not each of them: an attacker must not fill the disk.
#[derive(Debug, Default)]
struct Refusals(Mutex<RefusalsSaid>);

#[derive(Debug, Default)]
struct RefusalsSaid {
    last: Option<Instant>,
    unsaid: u64,
}

impl Refusals {
    fn tell(&self, full: Full) {
        if let Some(refused) = self.count(Instant::now()) {
            tracing::warn!(reason = %full, refused, "connections are refused");
        }
    }

    /// How many refusals are to be logged now, in one line; none if there was a line of late.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.unsaid = said.unsaid.saturating_add(1);
        if said.last.is_some_and(|last| now.duration_since(last) < REFUSALS_LOG_INTERVAL) {
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.unsaid))
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A gateway that is started again must not wait for the connections of the one before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_CONNECTIONS_MAX)?;
    TcpListener::from_std(socket.into())
}

fn settle(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether an error is about the one connection that was to be accepted (accept(2)), so that the
/// next one may be tried at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpSocket;

    use super::*;
    use crate::listen::proxy::tests::TCP4;
    use crate::listen::proxy::tests::header;

    const SHORT: Limits = Limits {
        connections_max: 100,
        connections_per_address_max: 100,
        handshake_ms_max: 300,
        startup_bytes_max: 10_000,
        silence_ms_max_before_ssh: 100,
        idle_ms_max: 1_000,
        drain_ms_max: 1_000,
    };

    fn listener(proxy: Proxy, limits: Limits) -> Listener {
        let address = "127.0.0.1:0".parse().unwrap();
        Listener::bind(Options { address, proxy, limits }).unwrap()
    }

    fn from(network: &str) -> Proxy {
        Proxy::Required { from: vec![network.parse().unwrap()] }
    }

    async fn dial(listener: &Listener, bytes: &[u8]) -> TcpStream {
        let address = listener.local_addr().unwrap();
        let mut stream = TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn is_closed(stream: &mut TcpStream) -> bool {
        matches!(stream.read(&mut [0]).await, Ok(0) | Err(_))
    }

    #[tokio::test]
    async fn a_connection_tells_what_it_speaks_and_where_it_comes_from() {
        let listener = listener(Proxy::Forbidden, SHORT);
        let client = dial(&listener, b"SSH-2.0-x\r\n").await;
        let accepted = listener.accept().await.begin().await.unwrap();
        assert_eq!(accepted.spoken, Spoken::Ssh);
        assert_eq!(accepted.peer, client.local_addr().unwrap());
        assert_eq!(accepted.local, listener.local_addr().unwrap());
        assert_eq!(accepted.stream.buffered(), b"SSH-2.0-x\r\n");
        assert!(accepted.stream.get_ref().nodelay().unwrap());
    }

    #[tokio::test]
    async fn behind_a_relay_the_client_is_whom_the_relay_says() {
        let listener = listener(from("127.0.0.0/8"), SHORT);
        let bytes = [&header(0x21, 0x11, &TCP4)[..], b"\x16\x03\x01"].concat();
        let _client = dial(&listener, &bytes).await;
        let accepted = listener.accept().await.begin().await.unwrap();
        assert_eq!(accepted.peer, "203.0.113.7:51000".parse().unwrap());
        assert_eq!(
            (accepted.spoken, accepted.stream.buffered()),
            (Spoken::Tls, &b"\x16\x03\x01"[..])
        );
    }

    #[tokio::test]
    async fn a_header_is_believed_only_where_it_is_required_and_from_whom() {
        let tcp4 = header(0x21, 0x11, &TCP4);
        for (proxy, bytes) in [
            (Proxy::Forbidden, &tcp4[..]),
            (from("192.0.2.0/24"), &tcp4[..]),
            (Proxy::Required { from: Vec::new() }, &tcp4[..]),
            (from("127.0.0.0/8"), b"SSH-2.0-x\r\n"),
            (from("127.0.0.0/8"), b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\nSSH-2.0-x\r\n"),
            (from("127.0.0.0/8"), &header(0x20, 0, &[])[..]),
            // A second header is no client of ours.
            (from("127.0.0.0/8"), &[&tcp4[..], &tcp4[..]].concat()[..]),
            // Silence is no SSH client where a header is required.
            (from("127.0.0.0/8"), b""),
        ] {
            let listener = listener(proxy.clone(), SHORT);
            let mut client = dial(&listener, bytes).await;
            let begun = listener.accept().await.begin().await;
            assert!(begun.is_err(), "{proxy:?} {bytes:?} {begun:?}");
            assert!(is_closed(&mut client).await);
        }
    }

    #[tokio::test]
    async fn one_slow_client_keeps_no_other_waiting() {
        let listener = listener(from("127.0.0.0/8"), SHORT);
        let mut slow = dial(&listener, b"\r\n\r\n").await;
        let slow_begins = tokio::spawn(listener.accept().await.begin());
        let bytes = [&header(0x21, 0x11, &TCP4)[..], b"SSH-"].concat();
        let _client = dial(&listener, &bytes).await;
        assert!(listener.accept().await.begin().await.is_ok());
        assert!(matches!(slow_begins.await.unwrap(), Err(BeginError::TooSlow)));
        assert!(is_closed(&mut slow).await);
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_of_an_address_are_closed_and_places_freed() {
        let limits = Limits { connections_per_address_max: 1, ..SHORT };
        let listener = listener(Proxy::Forbidden, limits);
        let _first = dial(&listener, b"SSH-").await;
        let kept = listener.accept().await.begin().await.unwrap();
        let mut second = dial(&listener, b"SSH-").await;
        tokio::select! {
            _ = listener.accept() => panic!("accepted beyond the limit"),
            closed = is_closed(&mut second) => assert!(closed),
        }
        drop(kept);
        let _third = dial(&listener, b"SSH-").await;
        assert!(listener.accept().await.begin().await.is_ok());
    }

    #[tokio::test]
    async fn behind_a_relay_each_client_is_counted_for_itself() {
        let limits = Limits { connections_per_address_max: 1, ..SHORT };
        let listener = listener(from("127.0.0.0/8"), limits);
        let mut kept = Vec::new();
        for (last, wanted) in [(7, true), (8, true), (7, false)] {
            let mut body = TCP4;
            body[3] = last;
            let bytes = [&header(0x21, 0x11, &body)[..], b"SSH-"].concat();
            let client = dial(&listener, &bytes).await;
            let begun = listener.accept().await.begin().await;
            assert_eq!(begun.is_ok(), wanted, "{begun:?}");
            kept.push((client, begun));
        }
    }

    #[test]
    fn a_flood_of_refusals_is_one_line_of_log() {
        let refusals = Refusals::default();
        let now = Instant::now();
        assert_eq!(refusals.count(now), Some(1));
        assert_eq!((0..1_000).find_map(|_| refusals.count(now)), None);
        assert_eq!(refusals.count(now + REFUSALS_LOG_INTERVAL), Some(1_001));
    }
}
