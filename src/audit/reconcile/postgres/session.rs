//! A session and its commands, as PostgreSQL's log can know them.

use std::collections::HashMap;
use std::collections::VecDeque;

use crate::audit::entry::Ending;
use crate::audit::reconcile::recorded::Fate;
use crate::audit::reconcile::recorded::RecordedCommand;
use crate::audit::reconcile::recorded::RecordedSession;
use crate::model::digest::Digest;

/// The verb of what is only prepared: PostgreSQL logs it with durations alone.
pub(super) const PREPARES: &str = "parse";

#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) recorded: &'a RecordedSession,
    /// A backend of its was seen.
    pub(super) linked: bool,
    pub(super) commands: Vec<Held<'a>>,
    /// Commands that nothing was matched with yet, by text.
    open: HashMap<Digest, VecDeque<usize>>,
    /// What the log said last.
    pub(super) last: Option<Last>,
}

/// The statement that the log said last in a session: an error tells its statement again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub(super) digest: Digest,
    /// The command that it was matched with.
    pub(super) command: Option<usize>,
    /// Its error was told.
    pub(super) failed: bool,
}

#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) recorded: &'a RecordedCommand,
    pub(super) digest: Digest,
    pub(super) matched: bool,
}

impl<'a> Session<'a> {
    pub(super) fn of(recorded: &'a RecordedSession) -> Self {
        let held = |recorded: &'a RecordedCommand| {
            let digest = Digest::of(recorded.text.as_bytes());
            Held { recorded, digest, matched: false }
        };
        let commands = recorded.commands.iter().map(held).collect::<Vec<_>>();
        let mut open = HashMap::<Digest, VecDeque<usize>>::new();
        for (at, held) in commands.iter().enumerate() {
            if held.recorded.fate() != Fate::Kept {
                open.entry(held.digest).or_default().push_back(at);
            }
        }
        Self { recorded, linked: false, commands, open, last: None }
    }

    /// Whether it asked for a text, in whatever way, and that went to the target.
    pub(super) fn asked(&self, digest: Digest) -> bool {
        let sent = |held: &Held<'_>| held.digest == digest && held.recorded.fate() != Fate::Kept;
        self.commands.iter().any(sent)
    }

    /// Whether the gateway kept the place of something that it denied, under this number: that of the
    /// command, or, of what is no command or was denied before, of the last one before it.
    pub(super) fn denied(&self, number: Option<u64>) -> bool {
        let kept = |held: &Held<'_>| held.recorded.fate() == Fate::Kept;
        let last = self.commands.last().map_or(0, |held| held.recorded.number);
        number.is_some_and(|number| number <= last)
            && (self.recorded.refusals > 0 || self.commands.iter().any(kept))
    }

    /// Matches a command with this text that nothing was matched with: the first of those that the
    /// first of `kinds` is about, else of the second, and so on.
    pub(super) fn take(
        &mut self,
        digest: Digest,
        kinds: &[fn(&RecordedCommand) -> bool],
    ) -> Option<usize> {
        let open = self.open.get_mut(&digest)?;
        let found = kinds.iter().find_map(|is| {
            open.iter().position(|at| self.commands.get(*at).is_some_and(|held| is(held.recorded)))
        })?;
        let at = open.remove(found)?;
        self.commands.get_mut(at)?.matched = true;
        Some(at)
    }

    /// Whether an error is about the statement that was logged last, which tells nothing new. It is
    /// about another with the same text where that one ended well and one that failed is left.
    pub(super) fn failed_again(&mut self, digest: Digest) -> bool {
        let Some(last) = self.last.filter(|last| last.digest == digest && !last.failed) else {
            return false;
        };
        let command = |at: usize| self.commands.get(at).map(|held| held.recorded);
        let went_well = last.command.and_then(command).is_some_and(|c| !has_failed(c));
        let mut left = self.open.get(&digest).into_iter().flatten();
        if went_well && left.any(|at| command(*at).is_some_and(has_failed)) {
            return false;
        }
        self.last = Some(Last { failed: true, ..last });
        true
    }
}

pub(super) fn prepares(command: &RecordedCommand) -> bool {
    command.verb == PREPARES
}

pub(super) fn runs(command: &RecordedCommand) -> bool {
    command.verb != PREPARES
}

pub(super) fn has_failed(command: &RecordedCommand) -> bool {
    matches!(command.ending, Some(Ending::Failed { .. }))
}

/// Whether a command that ran must be in the log: PostgreSQL logs no empty statement of the
/// extended protocol, and what is prepared with durations alone.
pub(super) fn is_due(command: &RecordedCommand) -> bool {
    command.verb != PREPARES && !is_blank(&command.text)
}

/// Whether nothing but white space, semicolons and comments stands in a text.
fn is_blank(text: &str) -> bool {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|sign: char| sign.is_whitespace() || sign == ';');
        if rest.is_empty() {
            return true;
        } else if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let Some(after) = after_comment(comment) else { return true };
            rest = after;
        } else {
            return false;
        }
    }
}

/// What follows a comment that has begun; comments nest.
fn after_comment(mut rest: &str) -> Option<&str> {
    let mut depth = 1_u32;
    while depth > 0 {
        let (open, close) = (rest.find("/*"), rest.find("*/")?);
        let (at, opens) = match open {
            Some(open) if open < close => (open, true),
            Some(_) | None => (close, false),
        };
        depth = if opens { depth.saturating_add(1) } else { depth.saturating_sub(1) };
        rest = rest.get(at.saturating_add(2)..)?;
    }
    Some(rest)
}
