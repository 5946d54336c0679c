//! Reads a command's text in the words of its target's protocol, for `weir policy explain`.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::api::Reader;
use crate::model::Command;
use crate::model::TargetName;
use crate::model::verdict::Masks;
use crate::protocol::http::Dialect;
use crate::protocol::http::Head;
use crate::protocol::http::Sent;
use crate::protocol::postgres::Postgres;
use crate::protocol::ssh;
use crate::session::Gateway;
use crate::target::Reach;
use crate::target::Target;

/// The protocols' own reading of commands, without a session.
#[derive(Debug)]
pub(super) struct Protocols {
    pub(super) gateway: Arc<Gateway>,
    pub(super) postgres: Arc<Postgres>,
    pub(super) http: Arc<dyn Dialect>,
    pub(super) kubernetes: Arc<dyn Dialect>,
}

impl Reader for Protocols {
    fn read<'a>(
        &'a self,
        target: &'a TargetName,
        text: &'a str,
        masks: &'a Masks,
    ) -> BoxFuture<'a, Result<Command, String>> {
        async move {
            let version = self.gateway.version();
            let found = version.catalogue.target(target);
            let found = found.ok_or_else(|| format!("there is no target `{target}`"))?;
            match found.reach() {
                Reach::Postgres(postgres) => {
                    self.postgres.explain(found, postgres, text, masks).await
                }
                Reach::Http(_) => request(&*self.http, found, text),
                Reach::Kubernetes(_) => request(&*self.kubernetes, found, text),
                Reach::Ssh(_) => Ok(ssh::explain(text, &found.facts().classes)),
            }
        }
        .boxed()
    }
}

/// A request without a body, written as `METHOD /path?query`.
fn request(dialect: &dyn Dialect, target: &Target, text: &str) -> Result<Command, String> {
    let expected = || "expected a request such as `GET /api/people`".to_owned();
    let (method, path) = text.trim().split_once(' ').ok_or_else(expected)?;
    let method = method.parse().map_err(|_| expected())?;
    let (path, query) = match path.trim().split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (path.trim(), None),
    };
    if !path.starts_with('/') {
        return Err(expected());
    }
    let head = Head {
        method,
        path: path.to_owned(),
        query,
        headers: http::HeaderMap::new(),
        upgrade: false,
    };
    let reading = dialect.read(target, &head, Sent::Nothing);
    reading.map(|reading| reading.command).map_err(|refusal| refusal.to_string())
}
