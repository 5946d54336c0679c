//! What a reconciliation found.

use jiff::Timestamp;
use serde::Serialize;

use crate::audit::reconcile::options::Options;
use crate::audit::reconcile::recorded::Fate;
use crate::audit::reconcile::recorded::RecordedCommand;
use crate::audit::reconcile::recorded::RecordedSession;
use crate::model::SessionId;

/// Most findings that are listed; further ones are counted.
pub(super) const FINDINGS_MAX: usize = 10_000;
/// Longest text that a finding shows, in characters.
pub(super) const SHOWN_CHARS_MAX: usize = 400;

/// What kind of mismatch it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is in the target's log and not in the record: it did not come by the gateway.
    Unrecorded,
    /// A login in the target's log that no session has.
    Login,
    /// It is in the record, and went to the target, and is not in the target's log.
    Unlogged,
    /// The record says that it was denied, and the target's log that it ran.
    RanThoughDenied,
    /// Both have it, and say different things of it.
    Differs,
    /// A line of the log that could not be read, so that nobody can say what it stands for.
    Unread,
}

impl Kind {
    /// A few words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unrecorded => "not through the gateway",
            Self::Login => "login not through the gateway",
            Self::Unlogged => "not in the target's log",
            Self::RanThoughDenied => "ran although it was denied",
            Self::Differs => "log and record differ",
            Self::Unread => "line not understood",
        }
    }
}

/// One mismatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// Which of the logs, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<usize>,
    /// The line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The session, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The command's number in the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Who: the principal, or whoever the log names.
    pub who: String,
    /// What, as far as it is shown.
    pub what: String,
    /// What else is to be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was counted in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InLog {
    /// Statements, logins or requests.
    pub items: u64,
    /// Those that a session's connection leads to.
    pub matched: u64,
    /// Those of them for which the same text at the same time had to do.
    pub matched_by_text: u64,
    /// What stood in for denied commands, and what else the gateway does to keep order.
    pub gateways_own: u64,
    /// Those that need no record, as was said.
    pub excepted: u64,
    /// Those outside of the time that counts.
    pub outside: u64,
    /// Logins that the target refused.
    pub refused: u64,
}

/// What was counted in the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InRecord {
    /// Sessions with a target of the log's kind.
    pub sessions: u64,
    /// Their commands.
    pub commands: u64,
    /// Those that the log has.
    pub matched: u64,
    /// Those that did not go to the target.
    pub denied: u64,
    /// Those that the target need not log: they were prepared, skipped or cut.
    pub not_due: u64,
    /// Those outside of the time that the log covers.
    pub outside: u64,
}

/// What a reconciliation found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The time of the log's first entry that has one.
    pub first: Option<Timestamp>,
    /// The time of its last one.
    pub last: Option<Timestamp>,
    /// What was counted in the log.
    pub log: InLog,
    /// What was counted in the record.
    pub record: InRecord,
    /// The mismatches: those of the log by line, then those of the record.
    pub findings: Vec<Finding>,
    /// How many mismatches there are beyond those listed.
    pub more: u64,
}

impl Report {
    /// Whether each has what the other has.
    pub fn all_matched(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn find(&mut self, mut finding: Finding) {
        if self.findings.len() >= FINDINGS_MAX {
            self.more = self.more.saturating_add(1);
            return;
        }
        finding.what = shown(&finding.what);
        self.findings.push(finding);
    }

    /// A line of the `log` could not be read.
    pub(super) fn unread(&mut self, log: usize, line: u64, text: String, why: &str) {
        self.find(Finding {
            kind: Kind::Unread,
            log: Some(log),
            line: Some(line),
            session: None,
            number: None,
            at: None,
            who: "the log".to_owned(),
            what: text,
            note: Some(why.to_owned()),
        });
    }

    /// A command of a session, and whether the log `has` it. Where it ran, `is_due` and the log has it
    /// not, that is a mismatch.
    pub(super) fn command(
        &mut self,
        options: &Options,
        (session, command): (&RecordedSession, &RecordedCommand),
        (has, is_due): (bool, bool),
    ) {
        // Where nobody says which time counts, it is the time that the log covers.
        let first = self.first.filter(|_| options.since.is_none());
        let last = self.last.filter(|_| options.until.is_none());
        let outside = options.outside(Some(command.at))
            || first.is_some_and(|first| command.at < first)
            || last.is_some_and(|last| command.at > last);
        let record = &mut self.record;
        record.commands = record.commands.saturating_add(1);
        let count = match (has, command.fate()) {
            (_, Fate::Kept) => &mut record.denied,
            (true, Fate::Ran | Fate::Unsure) => &mut record.matched,
            (false, Fate::Unsure) => &mut record.not_due,
            (false, Fate::Ran) if !is_due => &mut record.not_due,
            (false, Fate::Ran) if outside => &mut record.outside,
            (false, Fate::Ran) => {
                return self.find(Finding {
                    kind: Kind::Unlogged,
                    log: None,
                    line: None,
                    session: Some(session.session),
                    number: Some(command.number),
                    at: Some(command.at),
                    who: session.principal.clone(),
                    what: command.text.clone(),
                    note: None,
                });
            }
        };
        *count = count.saturating_add(1);
    }

    pub(super) fn saw(&mut self, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }

    pub(super) fn sorted(mut self) -> Self {
        let place = |f: &Finding| (f.line.is_none(), f.log, f.line, f.session, f.number);
        self.findings.sort_by_key(place);
        self
    }
}

/// The beginning of a text.
pub(super) fn shown(text: &str) -> String {
    let mut signs = text.chars();
    let mut shown = signs.by_ref().take(SHOWN_CHARS_MAX).collect::<String>();
    if signs.next().is_some() {
        shown.push('…');
    }
    shown
}
