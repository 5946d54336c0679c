//! What is sent to the target in place of a denied message.
//!
//! Every denial is a frame that the server rejects by itself ([`Denied`]), sent where the denied one
//! would have stood: order, skipping and the transaction's state stay the server's own.

use bytes::Bytes;

use crate::model::Command;
use crate::model::refusal::RefusalCode;
use crate::protocol::postgres::command;
use crate::protocol::postgres::flow::Change;
use crate::protocol::postgres::flow::What;
use crate::protocol::postgres::link::End;
use crate::protocol::postgres::link::Link;
use crate::protocol::postgres::link::Placed;
use crate::protocol::postgres::link::requests::Step;
use crate::protocol::postgres::refuse::Denied;
use crate::protocol::postgres::refuse::Substitute;
use crate::protocol::postgres::refuse::Words;
use crate::session::Settled;

impl Link<'_> {
    pub(super) fn substitute(&mut self, substitute: Substitute) -> Result<(), End> {
        Ok(self.to_target.send(self.parts.guard.plumb(substitute))?)
    }

    /// A denial that the server's log can tell: it carries the number of the command that was last
    /// decided, which is the denied one wherever there is one.
    pub(super) fn denied(&self, words: Words) -> Denied {
        Denied::new(self.parts.guard.last_command(), words)
    }

    pub(super) fn deny(&mut self, words: Words, placed: &Placed) -> Result<Step, End> {
        match &placed.portal {
            None => self.deny_query(words),
            Some(portal) => self.deny_bind(&portal.clone(), words),
        }
    }

    /// Denies a Query that was not asked for, on the record.
    pub(super) fn refuse_query(&mut self, text: &[u8], words: Words) -> Result<Step, End> {
        let words = self.refused("query", text, words);
        self.deny_query(words)
    }

    /// Denies a Parse of `text` that was not asked for, on the record.
    pub(super) fn refuse_parse(
        &mut self,
        name: &Bytes,
        text: &[u8],
        words: Words,
    ) -> Result<Step, End> {
        let words = self.refused("parse", text, words);
        self.deny_parse(name, words)
    }

    /// Denies a Bind that was not asked for, of a text or, where there is none, of a name, on the
    /// record.
    pub(super) fn refuse_bind(
        &mut self,
        portal: &Bytes,
        text: &[u8],
        words: Words,
    ) -> Result<Step, End> {
        let words = self.refused("bind", text, words);
        self.deny_bind(portal, words)
    }

    /// Denies an Execute, of a text or, where there is none, of a name, on the record.
    pub(super) fn refuse_execute(&mut self, text: &[u8], words: Words) -> Result<Step, End> {
        let words = self.refused("execute", text, words);
        self.deny_execute(words)
    }

    pub(super) fn deny_query(&mut self, words: Words) -> Result<Step, End> {
        let denied = self.denied(words);
        self.substitute(denied.query())?;
        self.flow.sent(What::denied_query(denied));
        Ok(Step::Done)
    }

    pub(super) fn deny_parse(&mut self, name: &Bytes, words: Words) -> Result<Step, End> {
        let denied = self.denied(words.clone());
        self.substitute(denied.parse(name))?;
        let change = Change::set(name, Err(words));
        self.flow.sent_with(What::Parse(Some(denied), None), Some(change), None);
        Ok(Step::Done)
    }

    pub(super) fn deny_bind(&mut self, portal: &Bytes, words: Words) -> Result<Step, End> {
        let denied = self.denied(words);
        self.substitute(denied.bind(portal))?;
        self.flow.sent_with(What::Bind(Some(denied), None), None, Some(Change::gone(portal)));
        Ok(Step::Done)
    }

    pub(super) fn deny_execute(&mut self, words: Words) -> Result<Step, End> {
        let denied = self.denied(words);
        self.substitute(denied.execute())?;
        self.flow.sent(What::Execute(Some(denied), None));
        Ok(Step::Done)
    }

    /// Has the guard record a refusal, and gives the words for it.
    pub(super) fn refuse(&mut self, verb: &str, text: &str, reason: &str) -> Words {
        self.refused(verb, text.as_bytes(), Words::new("42501", reason.to_owned()))
    }

    /// Has the guard record that something was refused with `words`, and gives the words for it. What
    /// the server skips, because it comes after what was denied and recorded, is not recorded.
    pub(super) fn refused(&mut self, verb: &str, text: &[u8], words: Words) -> Words {
        if self.flow.will_skip() {
            return words;
        }
        let command = command::refused(verb, &String::from_utf8_lossy(text), &words.message);
        self.refused_by(command).unwrap_or(words)
    }

    /// Asks for something that cannot be carried, so that it is recorded. Gives words only where
    /// the guard says something else, such as that the session is over.
    pub(super) fn refused_by(&mut self, command: Command) -> Option<Words> {
        match self.parts.guard.prepare(command, Bytes::new()) {
            Settled::No(refusal) if refusal.code == RefusalCode::Unsupported => None,
            Settled::No(refusal) => Some(Words::from(&refusal)),
            // It was refused before it was asked for: nothing is sent, whatever the answer.
            Settled::Go(..) => None,
        }
    }
}
