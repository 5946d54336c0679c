//! What asking a store about itself found.

use std::fmt;

use serde::Serialize;

use crate::audit::storage::StorageError;
use crate::model::fault::Chain;

/// What a store is, as it says itself, and what is wrong with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which store.
    pub store: String,
    /// Where it is, and who says so.
    pub location: Location,
    /// Whether versions are kept. `None`: it was not said.
    pub versioning: Option<bool>,
    /// Whether objects are locked. `None`: it was not said.
    pub lock: Option<Lock>,
    /// What is worth telling, the worst first.
    pub findings: Vec<Finding>,
}

/// Where a store is, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On this machine.
    Here,
    /// The store says so itself.
    Said(String),
    /// The configuration says so; the store says nothing.
    Attested(String),
    /// Nobody said.
    Unknown,
}

/// Whether objects are locked when they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// They are not.
    None,
    /// They are.
    On {
        /// Nobody can lift it, whatever rights they have.
        firm: bool,
        /// How long, in days. `None`: it was not said.
        days: Option<u32>,
    },
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The gateway does not start; one that runs takes no new sessions.
    Stops,
    /// It goes on, and somebody should look.
    Warns,
    /// It is worth knowing.
    Notes,
}

/// What kind of finding it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The store is in another region than configured, or bears the mark of another region.
    WrongRegion,
    /// An address lies outside the declared networks.
    Outside,
    /// The credential is wrong, or may not do what is needed.
    Denied,
    /// There is no such bucket, or what is configured cannot be used.
    Unusable,
    /// Creating an object does not fail where there is one: a record could be overwritten.
    Overwrites,
    /// Objects are not locked, not long enough, or not firmly.
    Lock,
    /// Versions are not kept.
    Versioning,
    /// The store cannot be reached, or is full.
    Unreachable,
    /// Where the store is, is what the configuration says, and nobody else.
    Attested,
}

/// One thing that asking a store about itself found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// How bad.
    pub severity: Severity,
    /// What was found, as a sentence.
    pub what: String,
    /// What to do next.
    pub next: &'static str,
}

impl Report {
    /// Whether the gateway may not start with this store.
    pub fn stops(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Stops)
    }

    /// Whether the store answered all that it was asked.
    pub fn is_whole(&self) -> bool {
        self.finding(FindingKind::Unreachable).is_none()
    }

    /// The finding of a kind, if there is one.
    pub fn finding(&self, kind: FindingKind) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.kind == kind)
    }

    pub(super) fn new(store: &str) -> Self {
        Self {
            store: store.to_owned(),
            location: Location::Unknown,
            versioning: None,
            lock: None,
            findings: Vec::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        kind: FindingKind,
        severity: Severity,
        what: impl Into<String>,
        next: &'static str,
    ) {
        let found = Finding { kind, severity, what: what.into(), next };
        if !self.findings.contains(&found) {
            self.findings.push(found);
        }
        self.findings.sort_by_key(|finding| (finding.severity, finding.kind));
    }

    /// Adds what an error means for starting.
    pub(super) fn add_error(&mut self, error: &StorageError) {
        let Finding { kind, severity, what, next } = Finding::of(error);
        self.add(kind, severity, what, next);
    }
}

impl Finding {
    /// What an error means for starting: whatever may pass by itself does not stop it.
    pub fn of(error: &StorageError) -> Self {
        let (kind, severity) = match error {
            StorageError::Unreachable { .. }
            | StorageError::Full { .. }
            | StorageError::Failed { .. } => (FindingKind::Unreachable, Severity::Warns),
            StorageError::Outside { .. } => (FindingKind::Outside, Severity::Stops),
            StorageError::Denied { .. } => (FindingKind::Denied, Severity::Stops),
            StorageError::WrongRegion { .. } => (FindingKind::WrongRegion, Severity::Stops),
            StorageError::NoBucket { .. }
            | StorageError::Conflict { .. }
            | StorageError::Missing { .. }
            | StorageError::Locked { .. }
            | StorageError::TooLarge { .. }
            | StorageError::TooMany { .. }
            | StorageError::Unusable { .. } => (FindingKind::Unusable, Severity::Stops),
        };
        Self { kind, severity, what: Chain(error).to_string(), next: error.advice() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.next)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("on this machine"),
            Self::Said(location) => write!(f, "in {location}, as it says itself"),
            Self::Attested(location) => write!(f, "in {location}, as the configuration says"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::On { firm, days } = self else { return f.write_str("locks nothing") };
        f.write_str("locks what is written")?;
        if let Some(days) = days {
            write!(f, " for {days} days")?;
        }
        f.write_str(if *firm { ", and nobody can lift that" } else { ", which some can lift" })
    }
}
