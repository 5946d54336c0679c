//! What is sent to the target in place of a denied message.
//!
//! Every denial is a frame that the server rejects by itself ([`Denied`]), sent where the denied one
//! would have stood: order, skipping and the transaction's state stay the server's own.

use bytes::Bytes;

use crate::protocol::postgres::flow::Change;
use crate::protocol::postgres::flow::What;
use crate::protocol::postgres::link::End;
use crate::protocol::postgres::link::Link;
use crate::protocol::postgres::link::Placed;
use crate::protocol::postgres::link::requests::Step;
use crate::protocol::postgres::refuse::Denied;
use crate::protocol::postgres::refuse::Substitute;
use crate::protocol::postgres::refuse::Words;

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
}
