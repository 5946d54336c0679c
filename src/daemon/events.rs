//! The ledger as events: one task for each destination, which follows the ledger by itself.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use http::header::CONTENT_TYPE;
use ipnet::IpNet;
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;

use crate::audit::ocsf::BATCH_EVENTS_MAX;
use crate::audit::ocsf::Deliver;
use crate::audit::ocsf::Fed;
use crate::audit::ocsf::Feed;
use crate::audit::ocsf::Product;
use crate::audit::ocsf::Rotated;
use crate::audit::ocsf::Stdout;
use crate::audit::ocsf::Tail;
use crate::audit::ocsf::TailError;
use crate::audit::ocsf::Told;
use crate::config::Loaded;
use crate::config::Problem;
use crate::config::SecretRef;
use crate::config::events::Destination;
use crate::config::events::Events;
use crate::daemon::BadConfig;
use crate::daemon::StartError;
use crate::daemon::translate;
use crate::daemon::translate::Files;
use crate::model::fault::Chain;
use crate::tls;
use crate::upstream;
use crate::upstream::Configured;
use crate::upstream::DialError;
use crate::upstream::Fetcher;

/// How often the ledger is looked at for new entries.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a destination that took nothing is left alone at first, and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Where commands are offered, and the ends of those destinations that asked for them.
pub(super) fn feed(loaded: &Loaded) -> (Feed, Vec<Fed>) {
    let asked = loaded.file.audit.events.iter().filter(|events| events.commands);
    Feed::new(asked.map(|events| events.include_text))
}

/// Starts the delivery of events. A destination outside of the region stops the start.
pub(super) async fn start(
    loaded: &Loaded,
    fed: Vec<Fed>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let gateway = &loaded.file.gateway;
    let (mut tasks, mut fed) = (Vec::new(), fed.into_iter());
    for events in &loaded.file.audit.events {
        let commands = if events.commands { fed.next() } else { None };
        let made = destination(loaded, events, Files::Needed).map_err(BadConfig::from)?;
        let Some((to, place)) = made else { continue };
        if let Some(place) = place {
            match upstream::addresses(&place).await {
                Ok(_) => {}
                Err(error @ DialError::Outside { .. }) => return Err(StartError::Events(error)),
                // A destination that is down now must not keep the gateway from starting: each
                // delivery looks again where its addresses lie.
                Err(error) => tracing::warn!("{}", Chain(&error)),
            }
        }
        let product = Product {
            gateway: gateway.id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            include_text: events.include_text,
        };
        let tail = Tail::open(&gateway.state_dir, &events.key(), product);
        let tail = tail.map_err(StartError::EventsPlace)?;
        let shown = events.shown();
        let (first, waiting, failing) = (None, Vec::new(), false);
        let way = Way { tail, to, shown, commands, first, waiting, failing };
        tasks.push(tokio::spawn(way.follow()));
    }
    Ok(tasks)
}

/// Checks what can be checked without the network.
pub(super) fn check(loaded: &Loaded) -> Result<(), BadConfig> {
    for events in &loaded.file.audit.events {
        destination(loaded, events, Files::MayBeMissing)?;
    }
    Ok(())
}

/// The way of events to one destination.
struct Way {
    tail: Tail,
    to: Box<dyn Deliver>,
    shown: String,
    /// The commands, where they were asked for.
    commands: Option<Fed>,
    /// The command that ended the wait.
    first: Option<Told>,
    /// Events of commands that were not taken yet.
    waiting: Vec<u8>,
    failing: bool,
}

impl Way {
    async fn follow(mut self) {
        let mut wait = RETRY_FIRST;
        loop {
            match self.deliver().await {
                Ok(()) => {
                    if self.failing {
                        let (destination, entry) = (&self.shown, self.tail.progress().entry);
                        tracing::info!(destination, entry, "events are delivered again");
                    }
                    (self.failing, wait) = (false, RETRY_FIRST);
                    self.first = self.next().await;
                }
                Err(error) => {
                    if !self.failing || matches!(error, TailError::Entry { .. }) {
                        let (destination, entry) = (&self.shown, self.tail.progress().entry);
                        let fault = "gateway";
                        tracing::error!(
                            fault,
                            destination,
                            entry,
                            "events wait: {}",
                            Chain(&error)
                        );
                    }
                    self.failing = true;
                    tokio::time::sleep(wait).await;
                    wait = wait.saturating_mul(2).min(RETRY_MAX);
                }
            }
        }
    }

    /// The next command, or nothing once it is time to look at the ledger.
    async fn next(&mut self) -> Option<Told> {
        let Some(commands) = &mut self.commands else {
            tokio::time::sleep(LOOK_EVERY).await;
            return None;
        };
        tokio::time::timeout(LOOK_EVERY, commands.next()).await.ok().flatten()
    }

    /// Delivers all of the ledger that there is, which has the admissions of the commands' sessions,
    /// then commands.
    async fn deliver(&mut self) -> Result<(), TailError> {
        while self.tail.step(&mut *self.to).await? {}
        let Some(commands) = &mut self.commands else { return Ok(()) };
        let dropped = commands.dropped();
        if dropped > 0 {
            let (fault, destination) = ("gateway", &self.shown);
            tracing::error!(fault, destination, dropped, "events of commands were dropped");
        }
        loop {
            // What was not taken is given again as it was.
            if self.waiting.is_empty() {
                self.fill();
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            let entry = self.tail.progress().entry;
            let taken = self.to.deliver(&self.waiting).await;
            taken.map_err(|source| TailError::Delivery { entry, source })?;
            self.waiting.clear();
        }
    }

    fn fill(&mut self) {
        for _ in 0..BATCH_EVENTS_MAX {
            let next = self.first.take().or_else(|| self.commands.as_mut().and_then(Fed::now));
            let Some(told) = next else { return };
            if let Some(event) = self.tail.command(&told) {
                self.waiting.extend_from_slice(event.to_string().as_bytes());
                self.waiting.push(b'\n');
            }
        }
    }
}

type Made = (Box<dyn Deliver>, Option<Configured>);

/// Makes a destination; `None` where a file that it needs is not here and need not be.
fn destination(loaded: &Loaded, events: &Events, files: Files) -> Result<Option<Made>, Problem> {
    let url = match events.to.get_ref() {
        Destination::Stdout => return Ok(Some((Box::new(Stdout), None))),
        Destination::File(path) => {
            let rotated = Rotated::new(path.clone(), events.file_bytes_max.get());
            return Ok(Some((Box::new(rotated), None)));
        }
        Destination::Http(url) => url,
    };
    let address = url.address();
    let place = Configured::new("a destination of events", address.host.to_string(), address.port)
        .within(networks(loaded, events));
    let client = if url.as_str().starts_with("http:") {
        None
    } else {
        let roots = match &events.ca_file {
            Some(file) => match files.read(loaded, file)? {
                Some(pem) => tls::Roots::Bundle(tls::Pem::bytes(pem)),
                None => return Ok(None),
            },
            None => tls::Roots::System,
        };
        let client = tls::client(&roots, &[b"http/1.1"], None);
        Some(client.map_err(|e| loaded.source.problem(&events.to, Chain(&e).to_string()))?)
    };
    let uri = url.as_str().parse::<http::Uri>();
    let uri = uri.map_err(|e| loaded.source.problem(&events.to, e.to_string()))?;
    let credential = events.credential.as_ref().map(|secret| secret.get_ref().clone());
    let fetcher = Fetcher::new(place.clone(), client);
    Ok(Some((Box::new(Posted { fetcher, uri, credential }), Some(place))))
}

/// The networks in which a destination has to lie: its own, else its region's.
fn networks(loaded: &Loaded, events: &Events) -> Vec<IpNet> {
    if events.networks.is_empty() {
        return translate::region_networks(loaded);
    }
    let narrow = events.networks.iter().map(|network| network.get_ref().net());
    narrow.chain(translate::this_machine()).collect()
}

/// A place that takes events by POST, one JSON object a line.
#[derive(Debug)]
struct Posted {
    fetcher: Fetcher,
    uri: http::Uri,
    credential: Option<SecretRef>,
}

impl Deliver for Posted {
    fn deliver<'a>(&'a mut self, lines: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        async move {
            let mut request =
                http::Request::post(&self.uri).header(CONTENT_TYPE, "application/x-ndjson");
            if let Some(credential) = &self.credential {
                let secret = credential.read().map_err(io::Error::other)?;
                let value = HeaderValue::try_from(secret.expose_secret().trim());
                let mut value = value
                    .map_err(|_| io::Error::other("its credential cannot be sent in a header"))?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let sent = self.fetcher.call(&self.uri, request, Bytes::copy_from_slice(lines)).await;
            let fetched = sent.map_err(io::Error::other)?;
            match fetched.status {
                200..=299 => Ok(()),
                status => Err(io::Error::other(format!("it answered {status}"))),
            }
        }
        .boxed()
    }
}
