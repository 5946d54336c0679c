//! "An office in Singapore": a relay that tells the gateway, in a PROXY v2 header, that whoever
//! connects to it comes from there.
//!
//! Stands for what an operator would put in front of a gateway, and knows nothing of what it
//! carries. The gateway believes it because its listener requires the header and takes it from
//! this machine alone.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::demo::server::connect;

/// Where the office's people seem to come from: TEST-NET-3 (RFC 5737), which is nobody's.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Its network, as the demo's configuration declares it.
pub(super) const NETWORK: &str = "203.0.113.0/24";
/// Most connections at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// Relays whatever connects to `listener` to the gateway's private listener at `gateway`.
pub(super) async fn serve(listener: TcpListener, gateway: SocketAddr) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Ends its tasks when this future is dropped.
    let mut relays = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, from)) => {
                relays.spawn(async move {
                    let _slot = slot;
                    if let Err(error) = relay(client, from, gateway).await {
                        tracing::debug!(%from, %error, "the office's relay");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the office cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while relays.try_join_next().is_some() {}
    }
}

async fn relay(mut client: TcpStream, from: SocketAddr, gateway: SocketAddr) -> io::Result<()> {
    let mut far = connect(gateway.port()).await?;
    client.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let source = SocketAddrV4::new(ADDRESS, from.port());
    let destination = SocketAddrV4::new(Ipv4Addr::LOCALHOST, gateway.port());
    far.write_all(&header(source, destination)).await?;
    tokio::io::copy_bidirectional(&mut client, &mut far).await?;
    Ok(())
}

/// A PROXY header, version 2, command PROXY, TCP over IPv4 (`doc/proxy-protocol.txt` of `HAProxy`,
/// section 2.2).
fn header(source: SocketAddrV4, destination: SocketAddrV4) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    bytes.extend(source.ip().octets());
    bytes.extend(destination.ip().octets());
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::demo::server::loopback;
    use crate::listen::proxy;

    #[test]
    fn the_gateway_reads_the_header_as_singapore() {
        let source = SocketAddrV4::new(ADDRESS, 51_000);
        let bytes = header(source, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8443));
        let whole = proxy::Parsed::Header { client: source.into(), bytes: bytes.len() };
        assert_eq!(proxy::parse(&bytes), Ok(whole));
        assert!(
            NETWORK.parse::<ipnet::IpNet>().unwrap().contains(&std::net::IpAddr::from(ADDRESS))
        );
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_an_end_is_passed_on() {
        let gateway = TcpListener::bind(loopback(0)).await.unwrap();
        let office = TcpListener::bind(loopback(0)).await.unwrap();
        let at = office.local_addr().unwrap();
        let task = tokio::spawn(serve(office, gateway.local_addr().unwrap()));
        let mut client = connect(at.port()).await.unwrap();
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut seen, _) = gateway.accept().await.unwrap();
        let from = proxy::read(&mut seen).await.unwrap();
        assert_eq!(from.ip(), ADDRESS);
        let mut asked = String::new();
        seen.read_to_string(&mut asked).await.unwrap();
        seen.write_all(b"answer").await.unwrap();
        drop(seen);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((asked.as_str(), answer.as_str()), ("ask", "answer"));
        task.abort();
    }
}
