//! The gateway as an SSH host: its host key, certified by the `access` authority and certified again
//! while it runs, so that one `@cert-authority` line is all that clients need.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::daemon::StartError;
use crate::daemon::serve::Front;
use crate::identity::ssh_certificate::HostAsk;
use crate::model::Fault;
use crate::model::fault::Chain;
use crate::protocol::ssh;
use crate::session::Gateway;
use crate::target::Reach;

/// How long a host certificate is good.
const LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far before now it begins, for clients whose clocks are behind.
const SKEW: SignedDuration = SignedDuration::from_hours(1);
/// Most names in one; those of further targets are left out, and their clients need the gateway's.
const NAMES_MAX: usize = 64;
/// How often there is a new one.
const EVERY: Duration = Duration::from_hours(24);

/// Shows a fresh host certificate of the `access` authority from now on: for the gateway's name, and
/// for the names of its SSH targets below it. OpenSSH's client takes no `*` in a certificate.
pub(super) fn certify(ssh: &ssh::Server, gateway: &Gateway) -> Result<(), StartError> {
    let now = gateway.parts.clock.now();
    let version = gateway.version();
    let targets =
        version.catalogue.targets().filter(|target| matches!(target.reach(), Reach::Ssh(_)));
    let targets = targets.map(|target| format!("{}.{}", target.name(), gateway.name));
    let names = std::iter::once(gateway.name.clone()).chain(targets).take(NAMES_MAX);
    let names = names.collect::<Vec<_>>();
    let issue = |public_key: &String| {
        gateway.ssh_authority.issue_host(&HostAsk {
            public_key,
            names: &names,
            key_id: &gateway.name,
            serial: now.as_second().unsigned_abs(),
            valid_after: now.saturating_sub(SKEW).unwrap_or(now),
            valid_before: now.saturating_add(LIFE).unwrap_or(now),
        })
    };
    let issued = ssh.public_keys().iter().map(issue).collect::<Result<Vec<_>, _>>();
    let lines = issued.map_err(StartError::SshHost)?.into_iter().map(|issued| issued.line);
    ssh.certify(&lines.collect::<Vec<_>>()).map_err(StartError::Ssh)
}

/// Does that every day, and when there are other targets.
pub(super) async fn certify_again(front: Arc<Front>) {
    let mut versions = front.gateway.versions();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            Ok(()) = versions.changed() => {}
        }
        if let Err(error) = certify(&front.ssh, &front.gateway) {
            tracing::error!(fault = %Fault::Gateway, "{}", Chain(&error));
        }
    }
}
