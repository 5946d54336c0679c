//! From the client to the target: what each message asks for, decided and recorded before a byte of
//! it goes on.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use bytes::BytesMut;

use crate::model::Command;
use crate::model::Refusal;
use crate::model::Verdict;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::model::verdict::Masks;
use crate::protocol::postgres::command;
use crate::protocol::postgres::command::Plan;
use crate::protocol::postgres::flow::Change;
use crate::protocol::postgres::flow::Portal;
use crate::protocol::postgres::flow::Prepared;
use crate::protocol::postgres::flow::Resolved;
use crate::protocol::postgres::flow::State;
use crate::protocol::postgres::flow::What;
use crate::protocol::postgres::link::End;
use crate::protocol::postgres::link::Link;
use crate::protocol::postgres::link::Pause;
use crate::protocol::postgres::link::Placed;
use crate::protocol::postgres::link::READING_BYTES_MAX;
use crate::protocol::postgres::link::READINGS_MAX;
use crate::protocol::postgres::refuse::Denied;
use crate::protocol::postgres::refuse::NAME_BYTES_MAX;
use crate::protocol::postgres::refuse::Words;
use crate::protocol::postgres::sql;
use crate::protocol::postgres::wire::Bind;
use crate::protocol::postgres::wire::Build;
use crate::protocol::postgres::wire::Frame;
use crate::protocol::postgres::wire::Incoming;
use crate::protocol::postgres::wire::Parse;
use crate::protocol::postgres::wire::Request;
use crate::protocol::postgres::wire::Which;
use crate::session::Asked;
use crate::session::Decision;
use crate::session::Settled;
use crate::session::guard::Plumbing;

/// Messages that change no data and ask for none: Describe, Close, Flush, Sync, Terminate. The test
/// of this file lists them.
#[derive(Debug)]
pub struct Plumb(Frame);

impl Plumbing for Plumb {}

impl From<Plumb> for Bytes {
    fn from(plumb: Plumb) -> Self {
        plumb.0.into_bytes()
    }
}

impl Plumb {
    /// A client's message, if it is plumbing.
    fn of(frame: Frame) -> Option<Self> {
        matches!(frame.tag(), b'D' | b'C' | b'H' | b'S' | b'X').then_some(Self(frame))
    }

    fn sync() -> Self {
        Self(Build::new(b'S').done())
    }

    fn flush() -> Self {
        Self(Build::new(b'H').done())
    }

    /// Goodbye.
    pub fn terminate() -> Self {
        Self(Build::new(b'X').done())
    }
}

/// An Execute: nothing of the command follows with it, it only says "now".
#[derive(Debug)]
struct Now(Bytes);

impl AsRef<[u8]> for Now {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl From<Now> for Bytes {
    fn from(now: Now) -> Self {
        now.0
    }
}

/// Why a hold ends before anybody decided.
#[derive(Debug, Clone, Copy)]
pub(super) enum Withdrawn {
    /// The client sent a `CancelRequest`.
    Canceled,
    /// The client sent more than is read ahead.
    TooMuch,
}

/// What came of looking at a message.
pub(super) enum Step {
    Done,
    /// It waits until everything in flight is answered.
    Wait,
}

const TOO_LONG: &str = "the message is longer than this gateway reads";

impl Link<'_> {
    /// Takes the client's messages, until one has to wait or there are no more.
    pub(super) fn take_requests(&mut self, buffer: &mut BytesMut) -> Result<(), End> {
        loop {
            if self.waiting.is_some() && !self.flow.is_idle() && !self.flow.is_skipping() {
                return Ok(());
            }
            let waited = self.waiting.take();
            if waited.is_none() && self.is_blocked() {
                return Ok(());
            }
            let next = match waited {
                Some(waited) => Some(waited),
                None => self.incomings.next(buffer).map_err(End::ClientMalformed)?,
            };
            let Some(incoming) = next else { return Ok(()) };
            match self.request(&incoming)? {
                Step::Done => {}
                Step::Wait => {
                    self.wait_for_answers()?;
                    self.waiting = Some(incoming);
                }
            }
        }
    }

    fn request(&mut self, incoming: &Incoming) -> Result<Step, End> {
        let frame = match incoming {
            Incoming::Oversized(_) if self.flow.is_skipping() => return Ok(Step::Done),
            Incoming::Oversized(tag) => return self.oversized(*tag),
            Incoming::Frame(frame) => frame,
        };
        let request = Request::of(frame).map_err(End::ClientMalformed)?;
        if self.flow.is_skipping() {
            // The server discards these too: they are neither decided, recorded nor answered.
            match request {
                Request::Sync => {}
                Request::Terminate => return Err(End::Terminated),
                Request::Query(_)
                | Request::Parse(_)
                | Request::Bind(_)
                | Request::Describe(..)
                | Request::Execute(_)
                | Request::Close(..)
                | Request::Flush
                | Request::Function
                | Request::Copy => return Ok(Step::Done),
            }
        }
        match request {
            Request::Query(text) => self.query(&text, frame),
            Request::Parse(parse) => self.parse(&parse, frame),
            Request::Bind(bind) => self.bind(&bind, frame),
            Request::Execute(portal) => self.execute(&portal, frame),
            Request::Describe(which, name) => self.describe(which, &name, frame),
            Request::Close(which, name) => {
                self.close(which, &name, frame)?;
                Ok(Step::Done)
            }
            Request::Flush => self.plumb(frame.clone()),
            Request::Sync => {
                self.plumb(frame.clone())?;
                self.flow.synced();
                Ok(Step::Done)
            }
            Request::Terminate => Err(End::Terminated),
            Request::Function => self.function(),
            // The server ignores these outside of a COPY, and no COPY is carried.
            Request::Copy => Ok(Step::Done),
        }
    }

    /// A Query: its whole string is one command.
    fn query(&mut self, text: &Bytes, frame: &Frame) -> Result<Step, End> {
        let plan = match self.read("query", text) {
            Ok(plan) => plan,
            Err(words) => return self.deny_query(words),
        };
        let plan = match self.with_stored(plan) {
            Resolved::Unanswered => return Ok(Step::Wait),
            Resolved::Nothing => return self.refuse_query(text, no_statement(b"")),
            Resolved::Is(Err(words)) => return self.refuse_query(text, words),
            Resolved::Is(Ok(plan)) => plan,
        };
        let masks = self.masks()?;
        let mut command = plan.command("query", &self.parts.known, &masks);
        if plan.reading.statements.len() > 1 {
            command.unholdable = Some(ALONE.to_owned());
        }
        if !self.may_be_held(&mut command) {
            return Ok(Step::Wait);
        }
        let placed = Placed { plan, masks, portal: None };
        self.ask(command, frame.bytes().clone(), placed)
    }

    /// A Parse: its text is decided, so that a denied one never reaches the server; a hold waits
    /// for the Bind, where the values are known.
    fn parse(&mut self, parse: &Parse, frame: &Frame) -> Result<Step, End> {
        let name = parse.name.clone();
        if name.len() > NAME_BYTES_MAX {
            return self.refuse_parse(&Bytes::new(), &parse.text, long_name());
        }
        if self.flow.has_too_many_names() {
            let words = Words::new("54000", "this session has too many prepared statements");
            return self.refuse_parse(&name, &parse.text, words);
        }
        let plan = match self.read("parse", &parse.text) {
            Ok(plan) => plan,
            Err(words) => return self.deny_parse(&name, words),
        };
        let stored = match self.with_stored(Arc::clone(&plan)) {
            Resolved::Unanswered => return Ok(Step::Wait),
            Resolved::Nothing => {
                return self.refuse_parse(&name, &parse.text, no_statement(b""));
            }
            Resolved::Is(Err(words)) => return self.refuse_parse(&name, &parse.text, words),
            Resolved::Is(Ok(stored)) => stored,
        };
        let masks = self.masks()?;
        let command = stored.command("parse", &self.parts.known, &masks);
        match self.parts.guard.prepare(command, frame.bytes().clone()) {
            Settled::Go(running, cleared) => {
                let change = Change::set(&name, Ok(plan));
                self.flow.sent_with(What::Parse(None, Some(running)), Some(change), None);
                self.to_target.send(cleared)?;
                Ok(Step::Done)
            }
            Settled::No(refusal) => self.deny_parse(&name, Words::from(&refusal)),
        }
    }

    /// A Bind: one command, with the text that was prepared and the values.
    fn bind(&mut self, bind: &Bind, frame: &Frame) -> Result<Step, End> {
        if bind.portal.len() > NAME_BYTES_MAX || bind.statement.len() > NAME_BYTES_MAX {
            return self.refuse_bind(&Bytes::new(), &bind.statement, long_name());
        }
        let plan = match self.flow.statement(&bind.statement) {
            Resolved::Unanswered => return Ok(Step::Wait),
            Resolved::Nothing => {
                let words = no_statement(&bind.statement);
                return self.refuse_bind(&bind.portal, &bind.statement, words);
            }
            Resolved::Is(Err(words)) => {
                return self.refuse_bind(&bind.portal, &bind.statement, words);
            }
            Resolved::Is(Ok(plan)) => plan,
        };
        let text = Arc::clone(&plan.text);
        let plan = match self.with_stored(plan) {
            Resolved::Unanswered => return Ok(Step::Wait),
            Resolved::Nothing => {
                return self.refuse_bind(&bind.portal, text.as_bytes(), no_statement(b""));
            }
            Resolved::Is(Err(words)) => {
                return self.refuse_bind(&bind.portal, text.as_bytes(), words);
            }
            Resolved::Is(Ok(plan)) => plan,
        };
        if self.flow.has_too_many_names() {
            let words = Words::new("54000", "this session has too many portals");
            return self.refuse_bind(&bind.portal, text.as_bytes(), words);
        }
        let masks = self.masks()?;
        let mut command = plan.command("query", &self.parts.known, &masks);
        command::bind(&mut command, bind);
        if !self.may_be_held(&mut command) {
            return Ok(Step::Wait);
        }
        let mut bytes = BytesMut::from(frame.bytes().as_ref());
        if masks.hides_something() {
            // The gateway's own Describe: statements are planned anew silently, and drivers keep
            // old descriptions, so the shape must be known before the first row of each execution.
            let describe = Build::new(b'D').byte(b'P').string(&bind.portal).done();
            bytes.extend_from_slice(describe.bytes());
        }
        let placed = Placed { plan, masks, portal: Some(bind.portal.clone()) };
        self.ask(command, bytes.freeze(), placed)
    }

    fn execute(&mut self, name: &Bytes, frame: &Frame) -> Result<Step, End> {
        let portal = match self.flow.portal(name) {
            Resolved::Unanswered => return Ok(Step::Wait),
            Resolved::Nothing => return self.refuse_execute(name, no_portal(name)),
            Resolved::Is(portal) => portal,
        };
        match self.still_runs(&portal.granted.plan) {
            Resolved::Unanswered => return Ok(Step::Wait),
            Resolved::Is(()) => {}
            Resolved::Nothing => {
                let text = portal.granted.plan.text.as_bytes();
                return self.refuse_execute(text, Words::new("42501", PREPARED_ANEW));
            }
        }
        match portal.granted.running.more(Now(frame.bytes().clone())) {
            Err(refusal) => self.deny_execute(Words::from(&refusal)),
            Ok(cleared) => {
                portal.executed.store(true, Ordering::Relaxed);
                let change = renamed(&portal.granted.plan);
                self.flow.sent_with(What::Execute(None, Some(portal)), change, None);
                self.to_target.send(cleared)?;
                Ok(Step::Done)
            }
        }
    }

    fn describe(&mut self, which: Which, name: &Bytes, frame: &Frame) -> Result<Step, End> {
        // What a statement would look like is told only of one that was decided.
        let known = match which {
            Which::Statement => match self.flow.statement(name) {
                Resolved::Unanswered => return Ok(Step::Wait),
                Resolved::Nothing => Err(no_statement(name)),
                Resolved::Is(prepared) => prepared.map(drop),
            },
            Which::Portal => match self.flow.portal(name) {
                Resolved::Unanswered => return Ok(Step::Wait),
                // A cursor of SQL's own (DECLARE) is a portal too; the server knows whether there is one.
                Resolved::Nothing | Resolved::Is(_) => Ok(()),
            },
        };
        if let Err(words) = known {
            let words = self.refused("describe", name, words);
            let denied = self.denied(words);
            self.substitute(denied.describe())?;
            self.flow.sent(What::Describe(Some(denied)));
            return Ok(Step::Done);
        }
        self.plumb(frame.clone())?;
        self.flow.sent(What::Describe(None));
        Ok(Step::Done)
    }

    fn close(&mut self, which: Which, name: &Bytes, frame: &Frame) -> Result<(), End> {
        self.plumb(frame.clone())?;
        match which {
            Which::Statement => self.flow.sent_with(What::Close, Some(Change::gone(name)), None),
            Which::Portal => self.flow.sent_with(What::Close, None, Some(Change::gone(name))),
        }
        Ok(())
    }

    /// A `FunctionCall` runs any function by its number: it is not carried.
    fn function(&mut self) -> Result<Step, End> {
        let reason = "calling functions by number (the protocol's fast path) is not carried";
        let words = self.refuse("function", "FunctionCall", reason);
        let denied = self.denied(words);
        self.substitute(Denied::function())?;
        self.flow.sent(What::Function(denied));
        Ok(Step::Done)
    }

    /// A message that is longer than is read: its bytes are gone, so it cannot run.
    fn oversized(&mut self, tag: u8) -> Result<Step, End> {
        let mut words = self.refuse("query", "", TOO_LONG);
        words.code = "54000".into();
        match tag {
            b'Q' => self.deny_query(words),
            b'P' => self.deny_parse(&Bytes::new(), words),
            b'B' => self.deny_bind(&Bytes::new(), words),
            b'F' => self.function(),
            _ => Ok(Step::Done),
        }
    }

    /// Asks the guard, and sends the frame, its substitute, or the notice that it waits.
    fn ask(&mut self, command: Command, frame: Bytes, placed: Placed) -> Result<Step, End> {
        let guard = Arc::clone(&self.parts.guard);
        match guard.ask(command, frame) {
            Asked::Settled(settled) => self.settled(settled, &placed),
            Asked::Held(held) => {
                let notice = Words::new("01000", held.notice());
                self.say(notice.notice())?;
                self.pause = Some(Pause { held, place: placed });
                Ok(Step::Done)
            }
        }
    }

    fn settled(&mut self, settled: Settled<Bytes>, placed: &Placed) -> Result<Step, End> {
        match settled {
            Settled::No(refusal) => self.deny(Words::from(&refusal), placed),
            Settled::Go(running, cleared) => {
                let granted = self.granted(running, placed);
                match &placed.portal {
                    None => {
                        let change = renamed(&placed.plan);
                        self.flow.sent_with(What::query(granted), change, None);
                    }
                    Some(name) => {
                        let hides = placed.masks.hides_something();
                        let (shape, executed) = (OnceLock::new(), AtomicBool::new(false));
                        let portal = Arc::new(Portal { granted, shape, executed });
                        let change = Change::set(name, Arc::clone(&portal));
                        let what = What::Bind(None, Some(Arc::clone(&portal)));
                        self.flow.sent_with(what, None, Some(change));
                        if hides {
                            self.flow.sent(What::Shape(portal));
                        }
                    }
                }
                self.to_target.send(cleared)?;
                Ok(Step::Done)
            }
        }
    }

    /// The hold was decided: the frame goes on, or its substitute does.
    pub(super) fn settle(&mut self, decision: &Decision) -> Result<(), End> {
        if let Some(Pause { held, place }) = self.pause.take() {
            self.settled(held.settle(decision), &place)?;
        }
        Ok(())
    }

    /// Ends a hold before anybody decided it.
    pub(super) fn withdraw(&mut self, why: Withdrawn) -> Result<(), End> {
        let Some(Pause { held, place }) = self.pause.take() else { return Ok(()) };
        let reason = match why {
            Withdrawn::Canceled => "canceling statement due to user request",
            Withdrawn::TooMuch => {
                "more was sent while this command waited for an approval than is read ahead"
            }
        };
        let settled = held.settle(&Decision::Withdrawn { reason: reason.to_owned() });
        match (settled, why) {
            (Settled::No(refusal), Withdrawn::TooMuch) => {
                let mut words = Words::from(&refusal);
                words.code = "54000".into();
                self.deny(words, &place)?;
            }
            (settled, Withdrawn::Canceled | Withdrawn::TooMuch) => {
                self.settled(settled, &place)?;
            }
        }
        Ok(())
    }

    /// Reads a text, or gives the words that it is refused with. A text that cannot be read is
    /// recorded as refused.
    fn read(&mut self, verb: &str, text: &Bytes) -> Result<Arc<Plan>, Words> {
        if let Some(plan) = self.readings.get(text) {
            return Ok(Arc::clone(plan));
        }
        let Ok(utf8) = std::str::from_utf8(text) else {
            let why = "invalid byte sequence for encoding \"UTF8\"";
            let mut words = self.refuse(verb, &String::from_utf8_lossy(text), why);
            words.code = "22021".into();
            return Err(words);
        };
        match sql::read(utf8, self.parts.known.declared()) {
            Ok(reading) => {
                let plan = Plan { text: utf8.into(), reading: Arc::new(reading), stored: None };
                let plan = Arc::new(plan);
                if text.len() <= READING_BYTES_MAX {
                    if self.readings.len() >= READINGS_MAX {
                        self.readings.clear();
                    }
                    self.readings.insert(Bytes::copy_from_slice(text), Arc::clone(&plan));
                }
                Ok(plan)
            }
            Err(why) => {
                let (command, words) = command::unreadable(verb, utf8, &why);
                Err(self.refused_by(command).unwrap_or(words))
            }
        }
    }

    /// Puts what an EXECUTE runs into its plan.
    fn with_stored(&self, plan: Arc<Plan>) -> Resolved<Prepared> {
        if plan.mixes_names() {
            let words = "PREPARE and EXECUTE are carried only as the one statement of their string";
            return Resolved::Is(Err(Words::new("42501", words)));
        }
        let Some(name) = plan.executes() else { return Resolved::Is(Ok(plan)) };
        match self.flow.statement(name.as_bytes()) {
            Resolved::Unanswered => Resolved::Unanswered,
            Resolved::Nothing => Resolved::Is(Err(no_statement(name.as_bytes()))),
            Resolved::Is(Err(words)) => Resolved::Is(Err(words)),
            Resolved::Is(Ok(stored)) if stored.executes().is_some() => {
                Resolved::Is(Err(Words::new("42501", "an EXECUTE of an EXECUTE is not carried")))
            }
            Resolved::Is(Ok(stored)) => {
                let plan = Plan { stored: Some(stored), ..(*plan).clone() };
                Resolved::Is(Ok(Arc::new(plan)))
            }
        }
    }

    /// Whether what was decided is what would run now: the server looks up the name of an EXECUTE
    /// when its portal is executed, not when it is bound.
    fn still_runs(&self, plan: &Plan) -> Resolved<()> {
        let (Some(name), Some(decided)) = (plan.executes(), &plan.stored) else {
            return Resolved::Is(());
        };
        match self.flow.statement(name.as_bytes()) {
            Resolved::Unanswered => Resolved::Unanswered,
            Resolved::Is(Ok(stored)) if Arc::ptr_eq(&stored, decided) => Resolved::Is(()),
            Resolved::Is(_) | Resolved::Nothing => Resolved::Nothing,
        }
    }

    /// Says why a command could not be held, where that is so. `false`: that is not known before
    /// what is in flight is answered, and it would be held.
    fn may_be_held(&self, command: &mut Command) -> bool {
        if command.unholdable.is_some() {
            return true;
        }
        if self.flow.is_idle() {
            if self.flow.state() != State::Idle {
                command.unholdable = Some(IN_BLOCK.to_owned());
            } else if self.flow.has_bound() {
                command.unholdable = Some(ALONE.to_owned());
            }
            return true;
        }
        match self.parts.guard.foresee(command) {
            Verdict::Allow { .. } | Verdict::Deny(_) => true,
            Verdict::Hold { .. } if self.flow.has_bound() => {
                command.unholdable = Some(ALONE.to_owned());
                true
            }
            Verdict::Hold { .. } => false,
        }
    }

    /// Makes the server answer what it keeps, so that the message that waits can go on. Where
    /// nothing is bound yet, by a Sync of the gateway's own, which also gives locks back.
    fn wait_for_answers(&mut self) -> Result<(), End> {
        if !self.flow.needs_flush() {
            return Ok(());
        }
        let guard = Arc::clone(&self.parts.guard);
        if self.flow.has_bound() {
            self.to_target.send(guard.plumb(Plumb::flush()))?;
        } else {
            self.to_target.send(guard.plumb(Plumb::sync()))?;
            self.flow.sent(What::Sync { own: true });
        }
        Ok(())
    }

    fn masks(&self) -> Result<Arc<Masks>, End> {
        self.parts.guard.masks().map_err(|error| End::Refused(error.refusal()))
    }

    fn plumb(&mut self, frame: Frame) -> Result<Step, End> {
        if let Some(plumb) = Plumb::of(frame) {
            self.to_target.send(self.parts.guard.plumb(plumb))?;
        }
        Ok(Step::Done)
    }
}

const IN_BLOCK: &str = "it needs an approval, and inside a transaction block nothing waits: it would \
                        keep locks; send it outside of BEGIN … COMMIT";
const ALONE: &str = "it needs an approval, and waits only as the one statement of its string or \
                     pipeline: what stands before it would keep locks; send it alone";

const PREPARED_ANEW: &str =
    "what its EXECUTE names was prepared anew since it was bound: bind it again";

fn renamed(plan: &Plan) -> Option<Change<Prepared>> {
    let (name, value) = plan.renames()?;
    let name = name.map(|name| Bytes::copy_from_slice(name.as_bytes()));
    Some(Change { name, value: value.map(|plan| Ok(Arc::new(plan))) })
}

fn long_name() -> Words {
    Words::new("42622", "names longer than 63 bytes are not carried: the server would cut them")
}

fn no_statement(name: &[u8]) -> Words {
    if name.is_empty() {
        return Words::new("26000", "unnamed prepared statement does not exist");
    }
    let name = String::from_utf8_lossy(name);
    Words::new("26000", format!("prepared statement \"{name}\" does not exist"))
}

fn no_portal(name: &[u8]) -> Words {
    Words::new("34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)))
}

/// The refusal of something that only a session's end can answer.
pub(super) fn ended_by(reason: &str) -> Refusal {
    Refusal::new(RefusalCode::Withheld, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plumbing_is_these_messages_and_no_others() {
        let all = (0..=u8::MAX).filter(|tag| Plumb::of(Build::new(*tag).done()).is_some());
        assert_eq!(all.collect::<Vec<_>>(), b"CDHSX");
    }
}
