//! Whether the store may be written to: by what it said of itself when it was last asked.

use bytes::Bytes;
use tokio::sync::watch;

use crate::audit::archive::Archive;
use crate::audit::archive::ArchiveError;
use crate::audit::entry::LedgerEvent;
use crate::audit::storage::Creation;
use crate::audit::storage::Finding;
use crate::audit::storage::Name;
use crate::audit::storage::Report;
use crate::audit::storage::Severity;
use crate::model::fault::Chain;

/// How the store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has to be asked: it was not yet, did not answer all, or failed since.
    Unasked,
    /// It gave all its answers, and may be written to.
    Fit,
    /// It may not be written to, and no session may begin, until it gives all its answers again and
    /// none of them bars it.
    Barred {
        /// Why.
        why: String,
    },
}

impl Archive {
    /// Asks the store about itself, and notes what follows: whether anything is brought there, and
    /// whether sessions may begin. The log and the ledger are told what is new. A bar is lifted only
    /// by a store that gives all its answers: one that is silent may still be elsewhere.
    pub async fn ask(&self) -> Report {
        let _one_at_a_time = self.asking.lock().await;
        let report = self.storage.probe().await;
        let worst = report.findings.iter().find(|finding| finding.severity == Severity::Stops);
        if let Some(finding) = worst {
            let why = format!("{}: {}", report.store, finding.what);
            self.audit.bar(Some(why.clone()));
            self.standing.send_replace(Standing::Barred { why });
        } else if report.is_whole() {
            self.audit.bar(None);
            self.standing.send_replace(Standing::Fit);
        } else {
            self.doubt();
        }
        let before = self.looked().replace(report.findings.clone());
        if before.as_ref() != Some(&report.findings) {
            if report.findings.is_empty() && before.is_some() {
                tracing::info!(store = report.store, "the store is as it has to be again");
            }
            self.tell(&report);
        }
        report
    }

    /// What the store last said of itself.
    pub fn findings(&self) -> Vec<Finding> {
        self.looked().clone().unwrap_or_default()
    }

    /// Whether the store may be written to, as far as is known.
    pub fn is_fit(&self) -> bool {
        *self.standing.borrow() == Standing::Fit
    }

    /// Makes sure that the store may be written to; asks it, if it has to be asked.
    pub(super) async fn fit(&self) -> Result<(), ArchiveError> {
        if *self.standing.borrow() == Standing::Unasked {
            self.ask().await;
        }
        let standing = self.standing.borrow().clone();
        match standing {
            Standing::Fit => Ok(()),
            Standing::Barred { why } => Err(ArchiveError::Unfit { why }),
            Standing::Unasked => {
                let findings = self.findings();
                let silent = findings.iter().find(|found| found.severity == Severity::Warns);
                let why = silent.map_or_else(unasked, |found| found.what.clone());
                Err(ArchiveError::Unfit { why })
            }
        }
    }

    /// The store has to be asked before anything more is brought there. A bar stays.
    pub(super) fn doubt(&self) {
        self.standing.send_if_modified(|standing| {
            let was_fit = *standing == Standing::Fit;
            if was_fit {
                *standing = Standing::Unasked;
            }
            was_fit
        });
    }

    /// Creates an object, as long as the store may be written to: what is on its way is cut off once
    /// the store turns out to be elsewhere.
    pub(super) async fn put(&self, name: &Name, bytes: Bytes) -> Result<Creation, ArchiveError> {
        let mut standing = self.standing.subscribe();
        match standing.borrow_and_update().clone() {
            Standing::Fit => {}
            Standing::Barred { why } => return Err(ArchiveError::Unfit { why }),
            Standing::Unasked => return Err(ArchiveError::Unfit { why: unasked() }),
        }
        tokio::select! {
            biased;
            why = barred(&mut standing) => Err(ArchiveError::Unfit { why }),
            created = self.storage.create(name, bytes) => created.map_err(Into::into),
        }
    }

    /// Says in the log and in the ledger what asking the store found.
    fn tell(&self, report: &Report) {
        let store = report.store.clone();
        for finding in &report.findings {
            let (what, next) = (&finding.what, finding.next);
            match finding.severity {
                Severity::Stops => tracing::error!(fault = "gateway", store, next, "{what}"),
                Severity::Warns => tracing::warn!(fault = "gateway", store, next, "{what}"),
                Severity::Notes => tracing::info!(store, "{what}"),
            }
        }
        let findings = report.findings.iter().map(|finding| finding.what.clone()).collect();
        let event = LedgerEvent::StoreChecked { store, findings, barred: report.stops() };
        if let Err(error) = self.audit.record(&event) {
            tracing::error!(fault = "gateway", "{}", Chain(&error));
        }
    }
}

fn unasked() -> String {
    "it has to say first where it is".to_owned()
}

/// Waits until the store is barred; why it is.
async fn barred(standing: &mut watch::Receiver<Standing>) -> String {
    let is_barred = |standing: &Standing| matches!(standing, Standing::Barred { .. });
    if let Ok(standing) = standing.wait_for(is_barred).await
        && let Standing::Barred { why } = &*standing
    {
        return why.clone();
    }
    // Nobody can bar it any more.
    std::future::pending().await
}
