//! From the target to the client: what each message answers, masked and counted before a byte of it
//! goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use bytes::BytesMut;

use crate::audit::entry::Ending;
use crate::mask;
use crate::model::refusal::IntoRefusal;
use crate::model::verdict::Masks;
use crate::protocol::postgres::flow::Granted;
use crate::protocol::postgres::flow::State;
use crate::protocol::postgres::flow::What;
use crate::protocol::postgres::link::End;
use crate::protocol::postgres::link::Link;
use crate::protocol::postgres::mask::Disagreement;
use crate::protocol::postgres::mask::Plain;
use crate::protocol::postgres::mask::RowPart;
use crate::protocol::postgres::mask::Rows;
use crate::protocol::postgres::mask::Shape;
use crate::protocol::postgres::mask::Told;
use crate::protocol::postgres::refuse::without_text;
use crate::protocol::postgres::wire;
use crate::protocol::postgres::wire::Build;
use crate::protocol::postgres::wire::Frame;
use crate::protocol::postgres::wire::Piece;
use crate::protocol::postgres::wire::Report;
use crate::session::Running;
use crate::session::guard::Answer;
use crate::session::guard::Withheld;

/// Parameters that must stay as they were at sign-in: the reading of statements, or who the session
/// is, rests on them.
pub const WATCHED: [&str; 5] = [
    "client_encoding",
    "standard_conforming_strings",
    "search_path",
    "session_authorization",
    "is_superuser",
];

impl Link<'_> {
    /// Takes the target's messages, until the client cannot take more or there are no more.
    pub(super) fn take_answers(&mut self, buffer: &mut BytesMut) -> Result<(), End> {
        if buffer.is_empty() {
            return Ok(());
        }
        let masks = self.parts.guard.masks();
        let masks = masks.map_err(|error| End::Refused(error.refusal()))?;
        while !self.to_client.queue.is_full() {
            let whole = masks.hides_something();
            let Some(piece) = self.answers.next(buffer, whole).map_err(End::TargetMalformed)?
            else {
                return Ok(());
            };
            match piece {
                Piece::Rows { bytes, rows } => self.rows(bytes, rows, &masks)?,
                Piece::Part { bytes, first } => {
                    self.release(RowPart { bytes, first }, &masks, 'D')?;
                }
                Piece::Frame(frame) => self.answer(frame, &masks)?,
            }
        }
        Ok(())
    }

    fn answer(&mut self, frame: Frame, masks: &Arc<Masks>) -> Result<(), End> {
        match frame.tag() {
            b'C' | b'I' => self.completed(frame, masks),
            b'Z' => self.ready(frame),
            b'T' => self.described(frame, masks),
            b'1' | b'2' | b'3' | b'n' | b't' | b's' => self.acknowledged(frame),
            b'E' => self.error(&frame, masks),
            b'N' => self.notice(&frame, masks),
            b'S' => self.parameter(frame),
            b'A' => self.notification(frame, masks),
            b'G' | b'H' | b'W' => Err(End::Refused(
                Withheld::unmaskable("the target began a COPY, which this gateway does not carry")
                    .0,
            )),
            other => Err(End::TargetUnexpected(char::from(other))),
        }
    }

    /// A run of rows: of the Query or the Execute at the head.
    fn rows(&mut self, bytes: Bytes, rows: u64, masks: &Arc<Masks>) -> Result<(), End> {
        let shape = match self.flow.head() {
            Some(What::Query { shape, .. }) => shape.clone(),
            Some(What::Execute(_, Some(portal))) => portal.shape.get().cloned(),
            Some(_) | None => return Err(End::TargetUnexpected('D')),
        };
        self.release(Rows { bytes, rows, shape }, masks, 'D')
    }

    /// A `CommandComplete`, or the answer to an empty text.
    fn completed(&mut self, frame: Frame, masks: &Arc<Masks>) -> Result<(), End> {
        let tag = if frame.tag() == b'C' { wire::text_of(&frame) } else { String::new() };
        let sign = char::from(frame.tag());
        self.release(Plain { bytes: frame.into_bytes(), counts: true }, masks, sign)?;
        match self.flow.head() {
            Some(What::Query { done, shape, status, granted, .. }) => {
                self.defined |= granted.as_ref().is_some_and(|it| it.plan.defines_at(*done));
                (*done, *shape) = (done.saturating_add(1), None);
                *status = Ok(tag);
                Ok(())
            }
            Some(What::Execute(_, Some(portal))) => {
                self.defined |= portal.granted.plan.defines();
                end(&portal.granted.running, Ending::Done { status: tag })?;
                self.flow.succeeded();
                Ok(())
            }
            Some(_) | None => Err(End::TargetUnexpected(sign)),
        }
    }

    fn ready(&mut self, frame: Frame) -> Result<(), End> {
        let state = State::of(wire::ready(&frame).map_err(End::TargetMalformed)?);
        let own = match self.flow.head() {
            Some(What::Sync { own }) => *own,
            Some(What::Function(_)) => false,
            Some(What::Query { granted, status, .. }) => {
                if let Some(granted) = granted {
                    let ending = match status.clone() {
                        Ok(status) => Ending::Done { status },
                        Err(status) => Ending::Failed { status },
                    };
                    end(&granted.running, ending)?;
                }
                false
            }
            Some(_) | None => return Err(End::TargetUnexpected('Z')),
        };
        let failed = matches!(self.flow.head(), Some(What::Query { status: Err(_), .. }));
        if failed {
            self.flow.failed()
        } else {
            self.flow.succeeded()
        };
        self.flow.ready(state);
        if self.defined && state == State::Idle {
            self.defined = false;
            self.doubt();
        }
        if own { Ok(()) } else { self.pass(frame.into_bytes(), false) }
    }

    fn described(&mut self, frame: Frame, masks: &Arc<Masks>) -> Result<(), End> {
        match self.flow.head() {
            Some(What::Query { granted: Some(granted), done, shape, .. }) => {
                if masks.hides_something() {
                    *shape = match shape_of(&frame, granted, *done)? {
                        Ok(shape) => Some(shape),
                        Err(disagreement) => return self.withhold(&disagreement),
                    };
                }
                self.release(Plain { bytes: frame.into_bytes(), counts: true }, masks, 'T')
            }
            Some(What::Describe(None)) => {
                self.flow.succeeded();
                self.pass(frame.into_bytes(), true)
            }
            Some(What::Shape(portal)) => {
                let portal = Arc::clone(portal);
                match shape_of(&frame, &portal.granted, 0)? {
                    // Described once in its life; a second shape would be another statement's.
                    Ok(shape) => drop(portal.shape.set(shape)),
                    Err(disagreement) => return self.withhold(&disagreement),
                }
                self.flow.succeeded();
                Ok(())
            }
            Some(_) | None => Err(End::TargetUnexpected('T')),
        }
    }

    /// Messages that say that something was done, and nothing else.
    fn acknowledged(&mut self, frame: Frame) -> Result<(), End> {
        let tag = frame.tag();
        let fits = match (tag, self.flow.head()) {
            (b'1', Some(What::Parse(None, running))) => {
                if let Some(running) = running {
                    end(running, Ending::Done { status: "PARSE".to_owned() })?;
                }
                true
            }
            // A suspended portal (`s`) stays, with its command, until it is run to its end or closed.
            (b'2', Some(What::Bind(None, _)))
            | (b'3', Some(What::Close))
            | (b'n', Some(What::Describe(None)))
            | (b's', Some(What::Execute(None, _))) => true,
            // What follows is the description itself.
            (b't', Some(What::Describe(None))) => return self.pass(frame.into_bytes(), false),
            (b'n', Some(What::Shape(_))) => {
                self.flow.succeeded();
                return Ok(());
            }
            _ => false,
        };
        if !fits {
            return Err(End::TargetUnexpected(char::from(tag)));
        }
        self.flow.succeeded();
        self.pass(frame.into_bytes(), false)
    }

    fn error(&mut self, frame: &Frame, masks: &Arc<Masks>) -> Result<(), End> {
        let report = Report::of(frame).map_err(End::TargetMalformed)?;
        self.tell_error(frame, &report, masks)?;
        if report.is_fatal() {
            return Err(End::TargetEnded(report.code));
        }
        match self.flow.head() {
            Some(What::Query { status, .. }) => *status = Err(report.code),
            // Their own `ReadyForQuery` follows; a Sync fails when what it commits does.
            Some(What::Sync { own: false } | What::Function(_)) | None => {}
            Some(What::Sync { own: true }) => drop(self.flow.skipped()),
            Some(_) => {
                let status = report.code;
                let failed = self.flow.failed();
                if let Some(running) = failed.as_ref().and_then(What::running) {
                    end(running, Ending::Failed { status })?;
                }
                for skipped in self.flow.skipped() {
                    if let Some(running) = skipped.running() {
                        end(running, Ending::Skipped)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells the client of an error: in the gateway's words where it answers a denial, without its
    /// text where that may carry hidden values, else as it is.
    fn tell_error(
        &mut self,
        frame: &Frame,
        report: &Report,
        masks: &Arc<Masks>,
    ) -> Result<(), End> {
        let by_order = matches!(self.flow.head(), Some(What::Function(_)));
        let denied = self.flow.head().and_then(|head| head.denied());
        let words = denied.filter(|denied| by_order || denied.is_in(report));
        if let Some(words) = words.map(|denied| denied.words().clone()) {
            return self.say(words.error());
        }
        self.tell(frame, report, masks)
    }

    fn notice(&mut self, frame: &Frame, masks: &Arc<Masks>) -> Result<(), End> {
        let report = Report::of(frame).map_err(End::TargetMalformed)?;
        self.tell(frame, &report, masks)
    }

    /// Tells the client of an error or notice of the target's: of the command at the head, if there
    /// is one.
    fn tell(&mut self, frame: &Frame, report: &Report, masks: &Arc<Masks>) -> Result<(), End> {
        let told = self.without_hidden(frame, report, masks);
        if self.flow.head().is_some_and(|head| head.granted().is_some()) {
            self.release(Told(told), masks, char::from(frame.tag()))
        } else {
            self.pass(told.into_bytes(), true)
        }
    }

    /// An error or notice, without its text where that may carry what is hidden: the message of a
    /// statement over classified tables, and one that belongs to no statement that was read.
    fn without_hidden(&mut self, frame: &Frame, report: &Report, masks: &Masks) -> Frame {
        let clear = match self.flow.head() {
            Some(What::Parse(..) | What::Describe(_) | What::Close) => true,
            Some(What::Bind(_, Some(portal))) => !portal.granted.plan.touches_classified(),
            Some(head) => head.granted().is_some_and(|granted| !granted.plan.touches_classified()),
            None => false,
        };
        let fatal = report.is_fatal() && report.code.starts_with("57P");
        if !masks.hides_something() || clear || fatal {
            frame.clone()
        } else {
            without_text(frame, report)
        }
    }

    /// A parameter's status. Some must not change: then the session ends, since what is read of the
    /// next statement could be wrong.
    fn parameter(&mut self, frame: Frame) -> Result<(), End> {
        let (name, value) = wire::parameter(&frame).map_err(End::TargetMalformed)?;
        if let Some(kept) = self.parts.watched.get(&name)
            && *kept != value
        {
            let reason = format!("the setting `{name}` was changed, which this gateway keeps");
            return Err(End::Refused(super::requests::ended_by(&reason)));
        }
        self.pass(frame.into_bytes(), false)
    }

    /// A notification: where something is hidden, what it carries could be that.
    fn notification(&mut self, frame: Frame, masks: &Masks) -> Result<(), End> {
        if !masks.hides_something() {
            return self.pass(frame.into_bytes(), true);
        }
        let body = frame.body();
        let malformed = || End::TargetMalformed(wire::Malformed::Format(b'A'));
        let (process, rest) = body.split_first_chunk::<4>().ok_or_else(malformed)?;
        let channel = rest.split(|byte| *byte == 0).next().ok_or_else(malformed)?;
        let masked = Build::new(b'A').raw(process).string(channel);
        let masked = masked.string(mask::text_of([])).done();
        self.pass(masked.into_bytes(), true)
    }

    /// Releases an answer to the command at the head.
    fn release<A: Answer<Out = Bytes>>(
        &mut self,
        answer: A,
        masks: &Arc<Masks>,
        sign: char,
    ) -> Result<(), End> {
        let granted = self.flow.head().and_then(|head| head.granted());
        let Some(granted) = granted else { return Err(End::TargetUnexpected(sign)) };
        let running = Arc::clone(&granted.running);
        // Decided under other masks than those of now: it may show what it was not asked about.
        let changed = !Arc::ptr_eq(&granted.masks, masks);
        let stale = changed && granted.plan.concern(masks).is_some();
        let released = if stale {
            Err(Withheld::unmaskable("what you may see has changed while this command ran"))
        } else {
            running.release(masks, answer)
        };
        match released {
            Ok(released) => Ok(self.to_client.send(released)?),
            Err(withheld) => {
                end(&running, Ending::Withheld { reason: withheld.0.reason.clone() })?;
                Err(withheld.into())
            }
        }
    }

    /// Lets pass what belongs to no command's answer.
    pub(super) fn pass(&mut self, bytes: Bytes, counts: bool) -> Result<(), End> {
        let released = self.parts.guard.pass(Plain { bytes, counts })?;
        Ok(self.to_client.send(released)?)
    }

    /// The server's columns are not those that were read. The session ends: the statement has run,
    /// or is about to, and an error in its answer's place would tell of another state than the
    /// server's.
    fn withhold(&mut self, why: &Disagreement) -> Result<(), End> {
        self.doubt();
        let withheld = Withheld::unmaskable(why.to_string());
        if let Some(granted) = self.flow.head().and_then(|head| head.granted()) {
            end(&granted.running, Ending::Withheld { reason: why.to_string() })?;
        }
        Err(withheld.into())
    }

    /// What is known of the tables may be old.
    fn doubt(&mut self) {
        self.doubts.fetch_add(1, Ordering::Release);
    }
}

fn shape_of(
    frame: &Frame,
    granted: &Granted,
    index: usize,
) -> Result<Result<Shape, Disagreement>, End> {
    let columns = wire::columns(frame).map_err(End::TargetMalformed)?;
    let exposure = granted.plan.exposure(index);
    Ok(match exposure {
        Some(exposure) => Shape::of(&columns, &exposure.outputs, granted.known.tables()),
        None => Err(Disagreement::unread()),
    })
}

/// Records how a command ended; a trail that cannot be written ends the session.
fn end(running: &Running, ending: Ending) -> Result<(), End> {
    running.end(ending).map_err(|error| End::Refused(error.refusal()))
}
