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

/// How long a host certificate is good.
const LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far before now it begins, for clients whose clocks are behind.
const SKEW: SignedDuration = SignedDuration::from_hours(1);
/// How often there is a new one.
const EVERY: Duration = Duration::from_hours(24);

/// Shows a fresh host certificate of the `access` authority from now on: for the gateway's name and
/// for all names below it.
pub(super) fn certify(ssh: &ssh::Server, gateway: &Gateway) -> Result<(), StartError> {
    let now = gateway.parts.clock.now();
    let names = [gateway.name.clone(), format!("*.{}", gateway.name)];
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

/// Does that every day.
pub(super) async fn certify_again(front: Arc<Front>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = certify(&front.ssh, &front.gateway) {
            tracing::error!(fault = %Fault::Gateway, "{}", Chain(&error));
        }
    }
}
