//! Asking a store about itself: where it is, how it keeps what is written, and whether it is this
//! region's.

use bytes::Bytes;

use crate::audit::storage::Creation;
use crate::audit::storage::FindingKind;
use crate::audit::storage::Location;
use crate::audit::storage::Lock;
use crate::audit::storage::Name;
use crate::audit::storage::Report;
use crate::audit::storage::Settings;
use crate::audit::storage::Severity;
use crate::audit::storage::Storage;
use crate::audit::storage::StorageError;

/// The object that says whose store this is: created once, never changed.
const MARK: &str = "weir-store";

impl Storage {
    /// Asks the store where it is and how it keeps what is written, and marks it as this region's.
    pub async fn probe(&self) -> Report {
        let mut report = self.asked().await;
        // Nothing is written into a store that may be elsewhere.
        if report.findings.iter().all(|finding| finding.severity > Severity::Warns)
            && let Err(error) = self.mark(&mut report).await
        {
            report.add_error(&error);
        }
        self.compare(&mut report);
        report
    }

    /// Asks as [`Storage::probe`] does, and writes nothing: a store that bears no mark yet is fine.
    pub async fn look(&self) -> Report {
        let mut report = self.asked().await;
        if report.findings.iter().all(|finding| finding.severity > Severity::Warns)
            && let Ok(name) = MARK.parse::<Name>()
        {
            match self.read(&name).await {
                Ok(there) if there == self.marked() => {}
                Ok(_) => self.add_other_mark(&mut report),
                Err(StorageError::Missing { .. }) => {}
                Err(error) => report.add_error(&error),
            }
        }
        self.compare(&mut report);
        report
    }

    async fn asked(&self) -> Report {
        let mut report = Report::new(&self.shown);
        if let Err(error) = self.ask(&mut report).await {
            report.add_error(&error);
        }
        report
    }

    async fn ask(&self, report: &mut Report) -> Result<(), StorageError> {
        let about = self.about(None);
        match &self.settings {
            Settings::Folder => {
                report.location = Location::Here;
                report.versioning = Some(false);
                report.lock = Some(Lock::None);
            }
            Settings::S3(bucket) => {
                report.location = bucket.location(about).await?;
                report.versioning = Some(bucket.versioning(about).await?);
                report.lock = Some(bucket.lock(about).await?);
            }
            Settings::Gcs(bucket) => {
                let settings = bucket.settings(about).await?;
                report.location = bucket.location(about, &settings)?;
                report.versioning = Some(settings.versioning());
                report.lock = Some(settings.lock());
            }
            Settings::Azure(container) => {
                report.lock = Some(container.lock(about).await?);
                report.location = Location::Attested(self.configured.clone());
            }
        }
        if let Location::Attested(location) = &report.location {
            let what = format!("{} is in {location} as far as configuration says", self.shown);
            let next = "the store cannot be asked: make sure of it where the bucket is managed";
            report.add(FindingKind::Attested, Severity::Notes, what, next);
        }
        Ok(())
    }

    /// Creates the mark, or finds it; and tries whether a second creation fails, as it must.
    async fn mark(&self, report: &mut Report) -> Result<(), StorageError> {
        let Ok(name) = MARK.parse::<Name>() else { return Ok(()) };
        let mark = self.marked();
        let created = match self.create(&name, mark.clone()).await {
            Ok(Creation::SameAlready) => return Ok(()),
            Ok(Creation::Created) => self.create(&name, mark).await,
            Err(error) => Err(error),
        };
        match created {
            Ok(Creation::SameAlready) => Ok(()),
            Ok(Creation::Created) => {
                let what = format!("{} overwrites what is there when told to create", self.shown);
                let next = "use a store that knows conditional writes (If-None-Match)";
                report.add(FindingKind::Overwrites, Severity::Stops, what, next);
                Ok(())
            }
            Err(StorageError::Conflict { .. }) => {
                self.add_other_mark(report);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What the mark of this region's store says.
    fn marked(&self) -> Bytes {
        Bytes::from(format!("weir store 1\nregion {}\n", self.region))
    }

    fn add_other_mark(&self, report: &mut Report) {
        let what = format!(
            "{} bears the mark of another region than `{}` ({MARK})",
            self.shown, self.region
        );
        let next = "give each region a store, or a prefix in its own bucket, of its own";
        report.add(FindingKind::WrongRegion, Severity::Stops, what, next);
    }

    fn compare(&self, report: &mut Report) {
        let require = self.require;
        if require.versioning && report.versioning == Some(false) {
            let what = format!("{} keeps no versions, which is required", self.shown);
            let next = "switch versioning on, or do not require it ([audit.store] \
                        require_versioning)";
            report.add(FindingKind::Versioning, Severity::Stops, what, next);
        }
        let (wanted, next) = (
            require.lock || require.lock_days_min > 0,
            "set object lock with a default retention on the bucket, or require less ([audit.store] \
             require_lock, lock_days_min)",
        );
        match report.lock {
            Some(Lock::None) if wanted => {
                let what =
                    format!("{} does not lock what is written, which is required", self.shown);
                report.add(FindingKind::Lock, Severity::Stops, what, next);
            }
            Some(Lock::On { days: Some(days), .. }) if days < require.lock_days_min => {
                let what = format!(
                    "{} locks what is written for {days} days; {} are required",
                    self.shown, require.lock_days_min
                );
                report.add(FindingKind::Lock, Severity::Stops, what, next);
            }
            Some(Lock::On { firm, days }) if wanted && (!firm || days.is_none()) => {
                let what = format!(
                    "{} locks what is written, but {}",
                    self.shown,
                    if days.is_none() { "not for how long" } else { "some can lift the lock" }
                );
                report.add(FindingKind::Lock, Severity::Warns, what, LOOSE);
            }
            Some(Lock::None | Lock::On { .. }) | None => {}
        }
    }
}

const LOOSE: &str = "make it a lock that nobody can lift: COMPLIANCE in S3, a locked retention \
                     policy elsewhere";
