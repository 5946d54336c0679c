//! `weir proxy`: local ports, or sockets, for tools that cannot sign in by themselves.
//!
//! Every connection is opened anew at the gateway with a credential that is good just then, so a
//! proxy runs as long as the login lasts and survives a gateway that goes away for a while.
//!
//! Whoever may connect to a local port acts as whoever runs the proxy: ports are on 127.0.0.1 alone
//! and every user of the machine can reach those, so a socket, which is its owner's alone, is safer.

mod http;
mod place;
mod postgres;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Semaphore;

use crate::cli::args::access;
use crate::cli::certificate;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::connect::target_name;
use crate::cli::print;
use crate::cli::proxy::place::Listening;
use crate::cli::proxy::place::Place;
use crate::cli::tunnel::Way;
use crate::model::Protocol;
use crate::model::TargetName;
use crate::tls;

/// Connections of one target at a time.
const CONNECTIONS_MAX: usize = 256;
/// How long a credential is used without looking whether it must be renewed, in seconds.
const LOOK_AGAIN_S: u64 = 30;

/// One target that is served.
#[derive(Debug)]
struct Served {
    target: TargetName,
    protocol: Protocol,
    way: Way,
    source: Arc<Source>,
    slots: Arc<Semaphore>,
}

/// Where credentials come from, good for some minutes each time.
#[derive(Debug)]
struct Source {
    client: Client,
    token: Mutex<Option<(SecretString, Instant)>>,
}

impl Source {
    /// A session credential.
    async fn token(self: &Arc<Self>) -> Result<SecretString, CallError> {
        let lately = {
            let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
            kept.clone().filter(|(_, at)| at.elapsed() < Duration::from_secs(LOOK_AGAIN_S))
        };
        if let Some((token, _)) = lately {
            return Ok(token);
        }
        let token = self.blocking(Client::token).await?;
        let fresh = Some((token.clone(), Instant::now()));
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(token)
    }

    /// A client certificate.
    async fn certificate(self: &Arc<Self>) -> Result<tls::KeyPair, CallError> {
        let files = self.blocking(certificate::x509).await?;
        let (chain, key) = (tls::Pem::File(files.certificate), tls::Pem::File(files.key));
        Ok(tls::KeyPair { chain, key })
    }

    /// Files, locks and the keyring block: not on a thread that carries connections.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        ask: fn(&Client) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let source = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || ask(&source.client)).await;
        asked.unwrap_or_else(|_| Err(CallError::Usage("the credential was not read".to_owned())))
    }
}

/// Serves targets until a signal.
pub(super) fn run(args: &access::Proxy, as_json: bool) -> Result<(), CallError> {
    let client = Client::new(&args.gateway)?;
    let mut wanted = Vec::new();
    for text in &args.targets {
        let (target, place) = match text.split_once('=') {
            Some((target, place)) => (target, place.parse::<Place>().map_err(CallError::Usage)?),
            None => (text.as_str(), Place::Port(0)),
        };
        wanted.push((target_name(target)?, place));
    }
    let about = client.link().about()?;
    let name = certificate::gateway_name(&about)?.to_owned();
    let reachable = client.get("/targets")?;
    let source = Arc::new(Source { client, token: Mutex::new(None) });
    let mut served = Vec::new();
    for (target, place) in wanted {
        let protocol = protocol(&reachable, &target)?;
        let way = Way::to(source.client.link(), format!("{target}.{name}"));
        let (source, slots) = (Arc::clone(&source), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        served.push((Served { target, protocol, way, source, slots }, place));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CallError::Usage(error.to_string()))?;
    let ended = runtime.block_on(serve(served, as_json));
    runtime.shutdown_background();
    ended
}

pub(super) fn protocol(reachable: &Value, target: &TargetName) -> Result<Protocol, CallError> {
    let all = reachable.as_array().into_iter().flatten();
    let found = all.into_iter().find(|facts| facts.get("name") == Some(&json!(target)));
    let protocol = found.and_then(|facts| facts.get("protocol").cloned());
    let protocol = protocol.and_then(|word| serde_json::from_value(word).ok());
    protocol.ok_or_else(|| {
        CallError::Refused(format!(
            "you may not reach `{target}` from here: `weir targets` lists those that you may"
        ))
    })
}

async fn serve(served: Vec<(Served, Place)>, as_json: bool) -> Result<(), CallError> {
    let mut lines = Vec::new();
    let mut listening = Vec::new();
    let mut has_port = false;
    for (served, place) in served {
        has_port |= matches!(place, Place::Port(_));
        let listener = Listening::bind(&place).await.map_err(CallError::Usage)?;
        let at = listener.address();
        lines.push((served.target.clone(), served.protocol, at));
        listening.push((Arc::new(served), listener));
    }
    if as_json {
        let all = lines.iter().map(|(target, protocol, at)| {
            json!({ "target": target, "protocol": protocol, "address": at })
        });
        print::json(&Value::Array(all.collect()));
    } else {
        for (target, protocol, at) in &lines {
            print::line(&format!("{target} ({protocol}): {}", usage(*protocol, at)));
        }
    }
    if has_port {
        print::progress(
            "every user of this machine can reach a port, and would act as you: where several \
             work on it, use TARGET=unix:PATH",
        );
    }
    let failed = |error: std::io::Error| CallError::Usage(error.to_string());
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let all = listening.iter().map(|(served, listener)| listener.accept(served));
    tokio::select! {
        _never = futures_util::future::join_all(all) => {}
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(failed)?,
    }
    // Sockets are removed with their listeners.
    drop(listening);
    Ok(())
}

/// How a tool uses it.
fn usage(protocol: Protocol, at: &str) -> String {
    match (protocol, at.rsplit_once(':')) {
        (Protocol::Postgres, Some(("127.0.0.1", port))) => {
            format!("host=127.0.0.1 port={port} sslmode=disable, user=YOUR NAME")
        }
        (Protocol::Ssh, Some(("127.0.0.1", port))) => format!("ssh -p {port} LOGIN@127.0.0.1"),
        (Protocol::Http | Protocol::Kubernetes, Some(("127.0.0.1", _))) => format!("http://{at}"),
        (_, _) => at.to_owned(),
    }
}

/// Carries one connection of a local tool. What goes wrong is said on stderr.
async fn carry<S>(served: Arc<Served>, mut stream: S, local: bool)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Ok(_slot) = Arc::clone(&served.slots).try_acquire_owned() else {
        print::progress(&format!("{}: {CONNECTIONS_MAX} connections are open", served.target));
        return;
    };
    let carried = match served.protocol {
        Protocol::Postgres => postgres::carry(&served, &mut stream).await,
        Protocol::Http | Protocol::Kubernetes => http::carry(&served, stream, local).await,
        Protocol::Ssh => ssh(&served, &mut stream).await,
    };
    if let Err(error) = carried {
        print::progress(&format!("{}: {}", served.target, print::tame(&error.to_string())));
    }
}

/// SSH signs in by itself: its bytes are carried as they are.
async fn ssh<S>(served: &Served, stream: &mut S) -> Result<(), CallError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut gateway = served.way.open(&[], None).await?;
    // However it ends, it has ended.
    drop(tokio::io::copy_bidirectional(stream, &mut gateway).await);
    Ok(())
}
