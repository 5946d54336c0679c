//! Connections to a target through the gateway, and `weir proxy-command`, which carries one for ssh.

use std::io::Read;
use std::io::Write;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cli::args::access;
use crate::cli::certificate;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::client::Link;
use crate::cli::connect::target_name;
use crate::cli::ssh_config::target_of;
use crate::model::fault::Chain;
use crate::tls;
use crate::upstream::Configured;
use crate::upstream::reach;

/// How much is carried at a time, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many such wait at most, each way.
const CHUNKS_MAX: usize = 4;

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| CallError::Usage(error.to_string()))?;
    let carried = runtime.block_on(carry(&way));
    // A read of standard input that nobody will answer does not keep the process.
    runtime.shutdown_background();
    carried
}

async fn carry(way: &Way) -> Result<(), CallError> {
    let (mut from, mut to) = tokio::io::split(way.open(&[], None).await?);
    // Standard input and output block: each has a thread of its own.
    let (typed, mut input) = mpsc::channel::<Vec<u8>>(CHUNKS_MAX);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = stdin.read(&mut chunk) {
            if typed.blocking_send(chunk.get(..read).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    let (output, mut shown) = mpsc::channel::<Vec<u8>>(CHUNKS_MAX);
    let writer = tokio::task::spawn_blocking(move || {
        let mut stdout = std::io::stdout().lock();
        while let Some(chunk) = shown.blocking_recv() {
            stdout.write_all(&chunk)?;
            stdout.flush()?;
        }
        Ok::<_, std::io::Error>(())
    });
    let up = async {
        while let Some(chunk) = input.recv().await {
            to.write_all(&chunk).await?;
            to.flush().await?;
        }
        to.shutdown().await
    };
    let down = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = from.read(&mut chunk).await?;
            let carried = chunk.get(..read).unwrap_or_default().to_vec();
            if read == 0 || output.send(carried).await.is_err() {
                return Ok(());
            }
        }
    };
    let ended: std::io::Result<()> = {
        tokio::pin!(up, down);
        tokio::select! {
            ended = &mut down => ended,
            sent = &mut up => match sent {
                Ok(()) => down.await,
                Err(error) => Err(error),
            },
        }
    };
    // What has come is written before the end; that ssh has gone is fine.
    drop(output);
    drop(writer.await);
    ended.map_err(|error| CallError::Unreached(format!("the connection broke: {error}")))
}
