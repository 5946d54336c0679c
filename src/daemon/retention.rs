//! Lets recordings go whose time is over: at the start, and daily; and finishes what was begun.

use std::sync::Arc;
use std::time::Duration;

use jiff::ToSpan;

use crate::audit::archive::Archive;
use crate::model::fault::Chain;
use crate::store::Store;

/// How often it is looked for recordings whose time is over, in hours.
const EXPIRED_EVERY_H: u64 = 24;
const DAY_H: i64 = 24;

/// How long is waited before what could not be finished is tried again.
const UNFINISHED_RETRY: Duration = Duration::from_mins(10);

/// Does what the ledger says to be erased and an earlier run did not come to.
pub(super) async fn finish(archive: Arc<Archive>, store: Store) {
    loop {
        match store.finish_erasures(&archive).await {
            Ok(0) => return,
            Ok(finished) => {
                tracing::warn!(finished, "recordings are erased now, as the ledger says already");
                return;
            }
            Err(error) => {
                let cause = Chain(&error).to_string();
                let what = "not all is erased that the ledger says to be";
                tracing::error!(fault = "gateway", cause, "{what}");
                tokio::time::sleep(UNFINISHED_RETRY).await;
            }
        }
    }
}

/// Erases recordings that are older than `days`, until it is ended.
pub(super) async fn keep(archive: Arc<Archive>, store: Store, days: u32) {
    loop {
        let hours = i64::from(days).saturating_mul(DAY_H).hours();
        let before = archive.audit().clock().now().checked_sub(hours);
        if let Ok(before) = before {
            match store.expire(&archive, before, days).await {
                Ok(0) => {}
                Ok(expired) => tracing::info!(expired, days, "recordings expired"),
                Err(error) => {
                    let cause = Chain(&error).to_string();
                    tracing::error!(fault = "gateway", cause, "some recordings did not expire");
                }
            }
        }
        tokio::time::sleep(Duration::from_hours(EXPIRED_EVERY_H)).await;
    }
}
