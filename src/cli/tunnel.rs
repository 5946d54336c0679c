//! Connections to a target through the gateway, and `weir proxy-command`, which carries one for ssh.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cli::args::access;
use crate::cli::certificate;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::client::Link;
use crate::cli::client::runtime;
use crate::cli::connect::target_name;
use crate::cli::ssh_config::target_of;
use crate::model::fault::Chain;
use crate::tls;
use crate::upstream::Configured;
use crate::upstream::reach;

/// How much is carried at a time, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// The way to one target: the gateway's address, and the target's name in TLS (SNI).
#[derive(Debug, Clone)]
pub(super) struct Way {
    place: Configured,
    roots: tls::Roots,
    host: String,
}

impl Way {
    /// The way to the target called `host`: `<target>.<gateway's name>`.
    pub(super) fn to(link: &Link, host: String) -> Self {
        let place = Configured::new("the gateway", link.host(), link.port());
        Self { place, roots: link.roots().clone(), host }
    }

    /// The target's host name.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Connects, speaking `alpn` inside, and shows `identity` where the gateway asks for one.
    pub(super) async fn open(
        &self,
        alpn: &[&[u8]],
        identity: Option<&tls::KeyPair>,
    ) -> Result<TlsStream<TcpStream>, CallError> {
        let config = tls::client(&self.roots, alpn, identity);
        let config = config.map_err(|error| CallError::Usage(Chain(&error).to_string()))?;
        self.handshake(config).await
    }

    async fn handshake(
        &self,
        config: Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, CallError> {
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|_| CallError::Usage(format!("{} is no host name", self.host)))?;
        let stream = reach(&self.place).await;
        let stream = stream.map_err(|error| CallError::Unreached(Chain(&error).to_string()))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map_err(|error| CallError::Unreached(format!("{}: {error}", self.host)))
    }
}

/// Carries one SSH connection between standard input and output and the gateway.
pub(super) fn proxy_command(args: &access::ProxyCommand) -> Result<(), CallError> {
    let client = Client::new(&args.gateway)?;
    let target = target_name(target_of(&args.host))?;
    let about = client.link().about()?;
    let host = format!("{target}.{}", certificate::gateway_name(&about)?);
    let way = Way::to(client.link(), host);
    let runtime = runtime()?;
    let carried = runtime.block_on(carry(&way));
    // A read of standard input that nobody will answer does not keep the process.
    runtime.shutdown_background();
    carried
}

async fn carry(way: &Way) -> Result<(), CallError> {
    let (mut from, mut to) = tokio::io::split(way.open(&[], None).await?);
    let up = async {
        let mut input = tokio::io::stdin();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = input.read(&mut chunk).await?;
            if read == 0 {
                return to.shutdown().await;
            }
            to.write_all(chunk.get(..read).unwrap_or_default()).await?;
            to.flush().await?;
        }
    };
    let down = async {
        let mut output = tokio::io::stdout();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = from.read(&mut chunk).await?;
            if read == 0 {
                return output.flush().await;
            }
            output.write_all(chunk.get(..read).unwrap_or_default()).await?;
            output.flush().await?;
        }
    };
    tokio::pin!(up, down);
    let ended = tokio::select! {
        ended = &mut down => ended,
        sent = &mut up => match sent {
            Ok(()) => down.await,
            Err(error) => Err(error),
        },
    };
    ended.map_err(|error| CallError::Unreached(format!("the connection broke: {error}")))
}
