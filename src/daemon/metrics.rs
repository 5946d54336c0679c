//! The operators' own port: `/metrics`, and `/health` for whoever has to know whether this gateway
//! takes sessions. Plain HTTP; nobody signs in, and nothing is shown that names a person or a target.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::audit::archive::Archive;
use crate::audit::storage::Severity;
use crate::listen::BindError;
use crate::model::fault::Chain;
use crate::session::Gateway;
use crate::store::Store;
use crate::telemetry::metrics::PAGE_TYPE;
use crate::telemetry::metrics::Sheet;

/// Most connections at a time.
const CONNECTIONS_MAX: usize = 32;
/// How long a connection may take from its first byte to its answer.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// How long accepting rests after an error of the system's.
const REST: Duration = Duration::from_millis(100);

/// Listens.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// What is measured.
#[derive(Debug)]
pub(super) struct Measures {
    gateway: Arc<Gateway>,
    archive: Arc<Archive>,
    store: Store,
    started: Timestamp,
}

/// Answers until it is ended.
pub(super) async fn serve(listener: TcpListener, measures: Measures) {
    let measures = Arc::new(measures);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let measures = Arc::clone(&measures);
                tokio::spawn(async move {
                    let _late = tokio::time::timeout(EXCHANGE_MAX, measures.exchange(stream)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "connections to [metrics] cannot be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

impl Measures {
    pub(super) fn new(gateway: &Arc<Gateway>, archive: &Arc<Archive>, store: &Store) -> Self {
        let (gateway, archive) = (Arc::clone(gateway), Arc::clone(archive));
        let started = gateway.parts.clock.now();
        Self { gateway, archive, store: store.clone(), started }
    }

    async fn exchange(self: Arc<Self>, stream: TcpStream) -> Result<(), hyper::Error> {
        let answer = service_fn(|request| {
            let measures = Arc::clone(&self);
            async move { Ok::<_, Infallible>(measures.answer(&request).await) }
        });
        let mut server = http1::Builder::new();
        server.keep_alive(false).timer(TokioTimer::new());
        server.serve_connection(TokioIo::new(stream), answer).await
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/health" => match self.gateway.parts.audit.barred() {
                None => text(StatusCode::OK, "ok\n"),
                Some(why) => {
                    let what = format!("no new sessions: {why}\n");
                    text(StatusCode::SERVICE_UNAVAILABLE, what)
                }
            },
            _ => text(StatusCode::NOT_FOUND, "here are /metrics and /health\n"),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        match self.sheet().await.page() {
            Ok(page) => {
                let mut answer = text(StatusCode::OK, page);
                let kind = http::HeaderValue::from_static(PAGE_TYPE);
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                answer
            }
            Err(error) => {
                tracing::error!(fault = "gateway", %error, "no page of metrics");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the log says why\n")
            }
        }
    }

    async fn sheet(&self) -> Sheet {
        let mut sheet = Sheet::default();
        let version = env!("CARGO_PKG_VERSION");
        sheet.fact("build", "What runs here", &[("version", version)]);
        let started = number(self.started.as_second());
        sheet.gauge("started_timestamp_seconds", "When the gateway started", started);
        let live = number(self.gateway.parts.registry.list().len());
        sheet.gauge("sessions_live", "Sessions that run", live);
        self.record(&mut sheet);
        self.store(&mut sheet);
        self.index(&mut sheet).await;
        sheet
    }

    fn record(&self, sheet: &mut Sheet) {
        let audit = &self.gateway.parts.audit;
        let failures = number(audit.failures());
        sheet.counter("record_failures", "Writes of the record that failed", failures);
        let barred = flag(audit.barred().is_some());
        sheet.gauge("sessions_barred", "1: the store bars new sessions", barred);
        let entries = number(audit.head().entries);
        sheet.counter("ledger_entries", "Entries of the ledger", entries);
        let signed = audit.latest_checkpoint().and_then(|note| note.checkpoint().ok());
        let signed = number(signed.map_or(0, |checkpoint| checkpoint.size));
        sheet.counter("ledger_signed", "Entries that the latest checkpoint counts", signed);
    }

    fn store(&self, sheet: &mut Sheet) {
        let health = self.archive.health();
        let region = self.gateway.parts.audit.region().to_string();
        let labels = [("store", health.store.as_str()), ("region", region.as_str())];
        sheet.fact("store", "Where the record is kept for good", &labels);
        let used = number(health.spool_bytes);
        sheet.gauge("spool_bytes", "Recordings that are on this machine", used);
        let max = number(health.spool_bytes_max);
        sheet.gauge("spool_max_bytes", "Room for them; without any, commands are refused", max);
        let waiting = number(health.waiting);
        sheet.gauge("store_waiting", "Ended sessions that the store has not wholly", waiting);
        let stuck = number(health.stuck.len());
        let help = "Recordings that cannot be brought to the store; the log names them";
        sheet.gauge("store_stuck", help, stuck);
        let failing = flag(health.failing_since.is_some());
        sheet.gauge(
            "store_failing",
            "1: something cannot be brought to the store; the log says why",
            failing,
        );
        // Before the first time, the start is what an alert has to count from.
        let caught_up = number(health.caught_up_at.unwrap_or(self.started).as_second());
        let help = "When the store last had all that was due";
        sheet.gauge("store_caught_up_timestamp_seconds", help, caught_up);
        let findings = self.archive.findings();
        for (name, help, severity) in [
            ("store_errors", "Findings about the store that bar sessions", Severity::Stops),
            ("store_warnings", "Findings about the store to look at", Severity::Warns),
        ] {
            let found = findings.iter().filter(|finding| finding.severity == severity).count();
            sheet.gauge(name, help, number(found));
        }
    }

    /// Without the state database there is no number, and Prometheus shows none.
    async fn index(&self, sheet: &mut Sheet) {
        let heads = self.gateway.parts.audit.trail_heads();
        match self.store.index_lag(&heads).await {
            Ok(lag) => {
                let help = "Entries of running sessions that search does not find yet";
                sheet.gauge("index_behind_entries", help, number(lag.entries));
            }
            Err(error) => tracing::debug!("the index's lag is not known: {}", Chain(&error)),
        }
    }
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

/// Numbers of a page are doubles; beyond 2^53 they are rounded.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "what a page can say")]
fn number(value: impl TryInto<i64>) -> f64 {
    value.try_into().unwrap_or(i64::MAX) as f64
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
