//! Reads a command's text in the words of its target's protocol, for `weir policy explain`.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::api::Reader;
use crate::model::Command;
use crate::model::TargetName;
use crate::model::verdict::Masks;
use crate::protocol::postgres::Postgres;
use crate::session::Gateway;
use crate::target::Reach;

/// The protocols' own reading of commands, without a session.
#[derive(Debug)]
pub(super) struct Protocols {
    pub(super) gateway: Arc<Gateway>,
    pub(super) postgres: Arc<Postgres>,
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
                Reach::Ssh(_) | Reach::Http(_) | Reach::Kubernetes(_) => Err("".to_owned()),
            }
        }
        .boxed()
    }
}
