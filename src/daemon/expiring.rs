//! Tells, at the start, after every reload and daily, what of the law ends soon.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::Clock;
use crate::session::Version;

/// How often it is told, in hours.
const TOLD_EVERY_H: u64 = 24;

/// Tells of legal bases, assessments and law data that end within 30 days or have ended, as long as
/// the gateway runs.
pub(super) async fn watch(mut version: watch::Receiver<Arc<Version>>, clock: Arc<dyn Clock>) {
    loop {
        let in_force = Arc::clone(&version.borrow_and_update());
        for one in in_force.snapshot.expiring(clock.now()) {
            tracing::warn!("{one}");
        }
        tokio::select! {
            changed = version.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_hours(TOLD_EVERY_H)) => {}
        }
    }
}
