//! The accept loop: each connection to its protocol, each in a task of its own.

use std::sync::Arc;

use crate::config::Loaded;
use crate::daemon::StartError;
use crate::listen::Drain;
use crate::listen::Listener;
use crate::listen::origin::Networks;
use crate::session::Gateway;
use crate::store::Store;
use crate::tls;

/// What connections are served with.
pub(super) struct Shared<'a> {
    pub(super) gateway: Arc<Gateway>,
    pub(super) store: Store,
    pub(super) tls: Arc<tls::Server>,
    pub(super) networks: Networks,
    pub(super) drain: Drain,
    pub(super) ssh_host_key: &'a str,
}

pub(super) struct Front {
    key: String,
}

impl Front {
    pub(super) fn new(_loaded: &Loaded, _shared: Shared<'_>) -> Result<Self, StartError> {
        Ok(Self { key: String::new() })
    }
    pub(super) fn ssh_host_key(&self) -> &str {
        &self.key
    }
}

pub(super) async fn accept(_front: Arc<Front>, _listener: Listener) {}
