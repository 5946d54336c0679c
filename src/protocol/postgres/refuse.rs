//! No, in PostgreSQL's words: errors and notices of the gateway's own, and the frames that stand in
//! for denied ones.
//!
//! A denied frame is replaced by one that the server is certain to reject, with an unguessable
//! token in it; the server's error that carries the token is replaced by ours. So order, skipping
//! up to Sync, rollback and the state that the client is told are the server's own. It knows
//! nothing of policy: a [`Refusal`] comes in, bytes go out.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write;

use bytes::Bytes;

use crate::model::Refusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::postgres::wire::Build;
use crate::protocol::postgres::wire::Frame;
use crate::protocol::postgres::wire::Report;
use crate::session::guard::Plumbing;
use crate::session::guard::Said;

/// Longest name that PostgreSQL keeps whole (`NAMEDATALEN` - 1), in bytes; it quotes the token in
/// its errors, so the token must not be longer.
pub const NAME_BYTES_MAX: usize = 63;

/// What is said in place of the text of an error or notice that may carry hidden values.
const WITHHELD_TEXT: &str =
    "the text of this message is withheld: it may carry values that you may not see";

/// An error or notice in the making: what the client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The SQLSTATE.
    pub code: Cow<'static, str>,
    /// The message.
    pub message: String,
    /// The rules that decided.
    pub detail: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// Where in the text, in characters from 1.
    pub position: Option<usize>,
}

/// The gateway's own message to a client: nothing in it is a target's.
#[derive(Debug)]
pub struct Own(Bytes);

impl Said for Own {}

impl Own {
    /// What a message of the gateway's own making says. Its callers are the encoders of this
    /// module and of `hello`.
    pub(super) fn made(frame: Frame) -> Self {
        Self(frame.into_bytes())
    }
}

impl From<Own> for Bytes {
    fn from(own: Own) -> Self {
        own.0
    }
}

impl Words {
    /// Words without detail, hint or position.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    /// As the `ErrorResponse` of a statement that failed.
    pub fn error(&self) -> Own {
        Own(self.encode(b'E', "ERROR").into_bytes())
    }

    /// As the `ErrorResponse` that ends a session.
    pub fn fatal(&self) -> Own {
        Own(self.encode(b'E', "FATAL").into_bytes())
    }

    /// As a `NoticeResponse`.
    pub fn notice(&self) -> Own {
        Own(self.encode(b'N', "NOTICE").into_bytes())
    }

    fn encode(&self, tag: u8, severity: &str) -> Frame {
        let mut build = Build::new(tag).byte(b'S').string(severity).byte(b'V').string(severity);
        build = build.byte(b'C').string(self.code.as_bytes());
        build = build.byte(b'M').string(&self.message);
        if let Some(detail) = &self.detail {
            build = build.byte(b'D').string(detail);
        }
        if let Some(hint) = &self.hint {
            build = build.byte(b'H').string(hint);
        }
        if let Some(position) = self.position {
            build = build.byte(b'P').string(position.to_string());
        }
        build.byte(0).done()
    }
}

impl From<&Refusal> for Words {
    fn from(refusal: &Refusal) -> Self {
        let rules = refusal.rules_text();
        Self {
            code: Cow::Borrowed(sqlstate(refusal.code)),
            message: refusal.reason.clone(),
            detail: (!rules.is_empty()).then(|| format!("decided by: {rules}")),
            hint: refusal.hint.clone(),
            position: None,
        }
    }
}

/// The SQLSTATE of a refusal. Never 0A000, 40xxx, or 08xxx and 57P0x for a single statement: pools
/// reconnect, drivers retry (they are kept for the ends of sessions).
pub fn sqlstate(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Denied
        | RefusalCode::Residency
        | RefusalCode::Declined
        | RefusalCode::Unsupported
        | RefusalCode::Withheld => "42501",
        RefusalCode::TimedOut | RefusalCode::Canceled => "57014",
        RefusalCode::Unauthenticated | RefusalCode::StepUp => "28000",
        RefusalCode::NoTarget => "3D000",
        RefusalCode::Malformed => "08P01",
        RefusalCode::TooLarge => "54000",
        RefusalCode::Unrecorded => "58030",
        RefusalCode::TargetFailed => "08006",
        RefusalCode::SessionEnded => "57P01",
    }
}

/// An error or notice of the target whose text may carry hidden values: severity and SQLSTATE stay,
/// everything else is a fixed text.
pub fn without_text(frame: &Frame, report: &Report) -> Frame {
    let build = Build::new(frame.tag()).byte(b'S').string(&report.severity);
    let build = build.byte(b'V').string(&report.severity).byte(b'C').string(&report.code);
    build.byte(b'M').string(WITHHELD_TEXT).byte(0).done()
}

/// A denied frame: what the client will read, and the token that the server's error will carry.
#[derive(Clone, PartialEq, Eq)]
pub struct Denied {
    token: String,
    words: Words,
}

/// A frame that the server is certain to reject, in place of a denied one.
#[derive(Debug)]
pub struct Substitute(Bytes);

impl Plumbing for Substitute {}

impl From<Substitute> for Bytes {
    fn from(substitute: Substitute) -> Self {
        substitute.0
    }
}

impl Denied {
    /// A denial with a fresh token; `number` makes it easy to find in the server's log.
    pub fn new(number: u64, words: Words) -> Self {
        let mut nonce = [0_u8; 12];
        // The operating system's random numbers do not fail once the process runs; if they did, the
        // token would be guessable, and a guessed token only rewords an error.
        if aws_lc_rs::rand::fill(&mut nonce).is_err() {
            nonce
                .copy_from_slice(uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap_or(&[0; 12]));
        }
        let mut token = format!("weir_denied_{number}_");
        for byte in nonce {
            // Writing into a string does not fail.
            let _written = write!(token, "{byte:02x}");
        }
        Self { token, words }
    }

    /// Instead of a Query: a syntax error (42601), whatever the state.
    pub fn query(&self) -> Substitute {
        Substitute(Build::new(b'Q').string(&self.token).done().into_bytes())
    }

    /// Instead of a Parse of the statement `name`: a syntax error (42601).
    pub fn parse(&self, name: &[u8]) -> Substitute {
        let build = Build::new(b'P').string(name).string(&self.token).int16(0);
        Substitute(build.done().into_bytes())
    }

    /// Instead of a Bind of `portal`: a statement that does not exist (26000).
    pub fn bind(&self, portal: &[u8]) -> Substitute {
        let build = Build::new(b'B').string(portal).string(&self.token);
        Substitute(build.int16(0).int16(0).int16(0).done().into_bytes())
    }

    /// Instead of an Execute: a portal that does not exist (34000).
    pub fn execute(&self) -> Substitute {
        Substitute(Build::new(b'E').string(&self.token).int32(0).done().into_bytes())
    }

    /// Instead of a Describe: a statement that does not exist (26000).
    pub fn describe(&self) -> Substitute {
        Substitute(Build::new(b'D').byte(b'S').string(&self.token).done().into_bytes())
    }

    /// Instead of a `FunctionCall`: a function that does not exist (42883; 25P02 in a failed block).
    /// It carries no token and is known by its place in the order.
    pub fn function() -> Substitute {
        let build = Build::new(b'F').int32(0).int16(0).int16(0).int16(0);
        Substitute(build.done().into_bytes())
    }

    /// Whether the server's error is the answer to this denial's token.
    pub fn is_in(&self, report: &Report) -> bool {
        memchr::memmem::find(&report.message, self.token.as_bytes()).is_some()
    }

    /// What the client reads.
    pub fn words(&self) -> &Words {
        &self.words
    }
}

/// Without the token: a log is no place for it while it can still be matched.
impl fmt::Debug for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denied").field("words", &self.words).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_an_error_of_postgresql() {
        let refusal = Refusal::new(RefusalCode::Denied, "DELETE needs a WHERE")
            .by(vec!["no-mass-delete".parse().unwrap()])
            .hint("add a WHERE");
        let own = Bytes::from(Words::from(&refusal).error());
        let text = String::from_utf8(own[5..].to_vec()).unwrap();
        assert_eq!(
            text,
            "SERROR\0VERROR\0C42501\0MDELETE needs a WHERE\0Ddecided by: no-mass-delete\0\
             Hadd a WHERE\0\0"
        );
    }

    #[test]
    fn a_token_is_quoted_whole_and_differs_each_time() {
        let words = Words::new("42501", "no");
        let (one, two) = (Denied::new(u64::MAX, words.clone()), Denied::new(u64::MAX, words));
        assert!(one.token.len() <= NAME_BYTES_MAX, "{}", one.token.len());
        assert_ne!(one.token, two.token);
        let report = Report {
            severity: "ERROR".into(),
            code: "42601".into(),
            message: format!("syntax error at or near \"{}\"", one.token).into(),
        };
        assert!(one.is_in(&report));
        assert!(!two.is_in(&report));
    }

    #[test]
    fn a_withheld_text_keeps_severity_and_sqlstate_alone() {
        let error = Build::new(b'E').byte(b'V').string("ERROR").byte(b'C').string("22P02");
        let error = error.byte(b'M').string("invalid input: \"219-09-9999\"").byte(b'D');
        let error = error.string("219-09-9999").byte(0).done();
        let report = Report::of(&error).unwrap();
        let told = without_text(&error, &report);
        assert!(memchr::memmem::find(told.bytes(), b"219-09").is_none());
        let told = Report::of(&told).unwrap();
        assert_eq!((told.severity.as_str(), told.code.as_str()), ("ERROR", "22P02"));
    }

    #[test]
    fn no_text_ends_a_field_early() {
        let words = Words::new("42501", "a\0Hinjected");
        let own = Bytes::from(words.error());
        assert!(memchr::memmem::find(&own, b"injected").is_none());
    }
}
