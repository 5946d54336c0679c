//! Tells, at the start, after every reload and daily, what of the law ends soon: in the log each time,
//! in the ledger once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::audit::Audit;
use crate::audit::LedgerEvent;
use crate::model::RuleId;
use crate::model::fault::Chain;
use crate::policy::transfer::Ends;
use crate::policy::transfer::Expiring;
use crate::session::Version;

/// How often it is told, in hours.
const TOLD_EVERY_H: u64 = 24;

/// Tells of legal bases, assessments and law data that end within 30 days or have ended, as long as
/// the gateway runs. The ledger is told of each once a start, and again when its day is over.
pub(super) async fn watch(mut version: watch::Receiver<Arc<Version>>, audit: Arc<Audit>) {
    let mut told = BTreeSet::new();
    loop {
        let in_force = Arc::clone(&version.borrow_and_update());
        for one in in_force.snapshot.expiring(audit.clock().now()) {
            tracing::warn!("{one}");
            if told.contains(&one) {
                continue;
            }
            let recorded = event(&one).map_or(Ok(()), |event| audit.record(&event).map(drop));
            match recorded {
                Ok(()) => drop(told.insert(one)),
                Err(error) => tracing::error!(fault = "gateway", "{}", Chain(&error)),
            }
        }
        tokio::select! {
            changed = version.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_hours(TOLD_EVERY_H)) => {}
        }
    }
}

/// What the ledger is told. `None`: its name is none for a ledger.
fn event(one: &Expiring) -> Option<LedgerEvent> {
    let (id, what) = match &one.what {
        Ends::Basis(id) => (id.clone(), "basis"),
        Ends::Assessment(id) => (id.clone(), "assessment"),
        Ends::Mechanism { basis, .. } => (basis.clone(), "mechanism"),
        Ends::Pack { version } => (version.parse::<RuleId>().ok()?, "law data"),
    };
    Some(LedgerEvent::BasisEnds { id, what: what.to_owned(), last_day: one.last_day })
}
