//! The Kubernetes API: a dialect of HTTP.
//!
//! ```text
//! request  method, path, query → verb, resource, name: as the API server reads them
//! body     what a write says, as far as deciding needs it
//! command  both → what it does, to what, and what is not carried
//! mask     every answer about a classified kind → what may be seen of it
//! headers  who asks → impersonation;   refuse → a Status;   kubeconfig → where and how
//! ```
//!
//! [`Kubernetes`] hands them to [`http`](crate::protocol::http), which moves the bytes. Where a kind
//! is not classified, its answers stream as they are.

pub mod body;
pub mod command;
pub mod headers;
pub mod json;
pub mod kubeconfig;
pub mod mask;
pub mod protobuf;
pub mod query;
pub mod refuse;
pub mod request;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header;
use rustls::ClientConfig;
use rustls::pki_types::InvalidDnsNameError;
use rustls::pki_types::ServerName;

use crate::model::Command;
use crate::model::CommandId;
use crate::model::Fault;
use crate::model::Host;
use crate::model::Principal;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::BodyNeed;
use crate::protocol::http::Dialect;
use crate::protocol::http::Head;
use crate::protocol::http::Place;
use crate::protocol::http::Reading;
use crate::protocol::http::Sent;
use crate::protocol::http::Told;
use crate::protocol::http::Unreachable;
use crate::protocol::http::Veil;
use crate::protocol::http::Worded;
use crate::protocol::kubernetes::command::Said;
use crate::protocol::kubernetes::kubeconfig::BadKubeconfig;
use crate::protocol::kubernetes::kubeconfig::Server;
use crate::protocol::kubernetes::kubeconfig::SignIn;
use crate::protocol::kubernetes::mask::Classified;
use crate::protocol::kubernetes::query::Query;
use crate::protocol::kubernetes::request::NotCanonical;
use crate::protocol::kubernetes::request::Request;
use crate::protocol::kubernetes::request::Verb;
use crate::target::KubernetesTarget;
use crate::target::Reach;
use crate::target::Target;
use crate::target::pin_host;
use crate::tls;
use crate::tls::TlsError;

/// How long what a kubeconfig said is believed without looking again, in milliseconds.
const KUBECONFIG_MS_MAX: u64 = 60_000;

/// The Kubernetes API over HTTP. One per gateway.
#[derive(Default)]
pub struct Kubernetes {
    /// What kubeconfigs said when they were read last.
    known: Mutex<BTreeMap<(PathBuf, Option<String>), Known>>,
}

/// What a kubeconfig said, and when.
struct Known {
    changed: (SystemTime, u64),
    read: Instant,
    cluster: Arc<Cluster>,
}

/// An API server, and how it is spoken to.
struct Cluster {
    server: Server,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Why a cluster is not known.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    /// Its kubeconfig cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] BadKubeconfig),
    /// Certificates that it names cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The name that its certificate must have is none.
    #[error("the API server's name is no DNS name")]
    Name(#[from] InvalidDnsNameError),
}

impl Kubernetes {
    /// The dialect.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the target is: from its kubeconfig, read again when the file has changed, and now and
    /// then, because the files that it names may have.
    fn cluster(&self, target: &KubernetesTarget) -> Result<Arc<Cluster>, Unknown> {
        let changed = kubeconfig::changed(target);
        let key = (target.kubeconfig.clone(), target.context.clone());
        let fresh = |known: &&Known| {
            Some(known.changed) == changed
                && known.read.elapsed() < Duration::from_millis(KUBECONFIG_MS_MAX)
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&key).filter(fresh) {
            return Ok(Arc::clone(&known.cluster));
        }
        let cluster = Arc::new(Cluster::read(target)?);
        if let Some(changed) = changed {
            let (read, cluster) = (Instant::now(), Arc::clone(&cluster));
            known.insert(key, Known { changed, read, cluster });
        }
        Ok(cluster)
    }
}

impl Cluster {
    fn read(target: &KubernetesTarget) -> Result<Self, Unknown> {
        let server = kubeconfig::read(target)?;
        let identity = match &server.sign_in {
            SignIn::Certificate(pair) => Some(&**pair),
            SignIn::Token(_) | SignIn::TokenFile(_) => None,
        };
        let tls = tls::client(&server.roots, &[b"http/1.1"], identity)?;
        let name = match &server.name {
            Host::Ip(ip) => ServerName::from(*ip),
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned())?,
        };
        Ok(Self { server, tls, name })
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kubernetes")
    }
}

impl Dialect for Kubernetes {
    fn protocol(&self) -> Protocol {
        Protocol::Kubernetes
    }

    /// The name of what is created, and masks that come back, stand in the body.
    fn needs(&self, _: &Target, _: &Head) -> BodyNeed {
        BodyNeed::Whole
    }

    fn read(&self, target: &Target, head: &Head, sent: Sent<'_>) -> Result<Reading, Refusal> {
        let target = declared(target).ok_or_else(not_a_cluster)?;
        headers::check(&head.headers)?;
        let query = Query::read(head.query.as_deref()).map_err(malformed)?;
        let request = request::read(head.method.as_str(), &head.path, &query).map_err(malformed)?;
        let line = format!("{} {}", head.method, head.path_and_query());
        let said = Said {
            line: &line,
            query: &query,
            content_type: content_type(&head.headers)?,
            body: match sent {
                Sent::Nothing => &[],
                Sent::Whole(body) => body,
                Sent::Longer(_) => return Err(too_large()),
            },
        };
        let Request::Resource(asked) = &request else {
            let command = no_upgrade(command::command(&request, None, &said), head);
            return Ok(Reading { command, veil: unclassified() });
        };
        let classified = Classified::of(asked, target);
        let command = no_upgrade(command::command(&request, classified.as_ref(), &said), head);
        let veil = match classified {
            None => unclassified(),
            Some(classified) if asked.verb == Verb::Watch => Veil::Lines(Arc::new(classified)),
            Some(classified) => Veil::Document(Arc::new(classified)),
        };
        Ok(Reading { command, veil })
    }

    fn reach<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Place, Unreachable>> {
        async move {
            let declared = declared(target).ok_or_else(|| misplaced(target))?;
            let cluster = self
                .cluster(declared)
                .map_err(|error| Unreachable::misconfigured(target, error))?;
            let address = &cluster.server.address;
            let pinned = pin_host(target, address).await.map_err(Unreachable::pin)?;
            let tls = Some((Arc::clone(&cluster.tls), cluster.name.clone()));
            Ok(Place { pinned, tls, authority: address.to_string() })
        }
        .boxed()
    }

    fn dress(
        &self,
        target: &Target,
        (principal, command): (&Principal, CommandId),
        headers: &mut HeaderMap,
    ) -> Result<(), Unreachable> {
        let declared = declared(target).ok_or_else(|| misplaced(target))?;
        let token = self
            .cluster(declared)
            .and_then(|cluster| Ok(cluster.server.sign_in.token()?))
            .map_err(|error| Unreachable::misconfigured(target, error))?;
        // Its own audit log is held against the record by this.
        let audit_id = command.in_one_word();
        headers::dress(headers, token.as_ref(), principal, &audit_id).map_err(|refusal| {
            let cause = refusal.to_string().into();
            Unreachable { fault: Fault::Client, refusal, cause }
        })
    }

    fn word(&self, refusal: &Refusal, told: &Told<'_>) -> Worded {
        refuse::word(refusal, told)
    }
}

fn declared(target: &Target) -> Option<&KubernetesTarget> {
    match target.reach() {
        Reach::Kubernetes(kubernetes) => Some(kubernetes),
        Reach::Postgres(_) | Reach::Ssh(_) | Reach::Http(_) => None,
    }
}

/// The one media type of the body.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => one.to_str().map(Some).map_err(|_| bad("Content-Type is not ASCII")),
        (Some(_), Some(_)) => Err(bad("Content-Type stands twice")),
    }
}

fn no_upgrade(mut command: Command, head: &Head) -> Command {
    if head.upgrade && command.unsupported.is_none() {
        let reason = "going on in another protocol (Upgrade) is not carried by this gateway yet";
        command.unsupported = Some(reason.to_owned());
    }
    command
}

/// Why an answer without declared classes could not be masked; nobody asks for it to be.
fn unclassified() -> Veil {
    Veil::None("nothing was declared of what this kind of object holds".to_owned())
}

fn malformed(error: NotCanonical) -> Refusal {
    bad(error.to_string())
}

fn bad(reason: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::Malformed, reason)
}

fn too_large() -> Refusal {
    Refusal::new(RefusalCode::TooLarge, "the object is larger than this gateway reads")
}

fn not_a_cluster() -> Refusal {
    Refusal::new(RefusalCode::NoTarget, "this target is no Kubernetes cluster")
}

fn misplaced(target: &Target) -> Unreachable {
    Unreachable::misconfigured(target, "it is no Kubernetes cluster")
}

#[cfg(test)]
mod tests;
