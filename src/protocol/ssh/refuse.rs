//! Refusals and notices in SSH's words: lines on stderr, and an exit status.
//!
//! The statuses are those that a shell's users know: 126, the command was found and may not be run;
//! 255, what `ssh` itself gives when the far end fails. Control characters never reach a terminal:
//! a reason may quote what somebody else wrote.

use bytes::Bytes;

use crate::model::Refusal;
use crate::model::refusal::RefusalCode;
use crate::session::guard::Said;

/// The exit status of a command that may not run.
pub(super) const STATUS_REFUSED: u32 = 126;
/// The exit status when the target or the gateway failed, or the session ended.
pub(super) const STATUS_FAILED: u32 = 255;

/// The gateway's own words to a client: lines on stderr, and perhaps an exit status behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) text: Bytes,
    pub(super) status: Option<u32>,
}

impl Said for Words {}

impl Words {
    /// A notice; the command goes on.
    pub(super) fn notice(text: &str) -> Self {
        Self { text: lines([("", text)]), status: None }
    }

    /// The end of a command that was refused, or that failed.
    pub(super) fn refusal(refusal: &Refusal) -> Self {
        let rules = refusal.rules_text();
        let hint = refusal.hint.as_deref().unwrap_or_default();
        let all = [("", refusal.reason.as_str()), ("rules: ", &rules), ("hint: ", hint)];
        Self { text: lines(all), status: Some(status(refusal.code)) }
    }
}

fn status(code: RefusalCode) -> u32 {
    match code {
        RefusalCode::Denied
        | RefusalCode::Residency
        | RefusalCode::Declined
        | RefusalCode::TimedOut
        | RefusalCode::Canceled
        | RefusalCode::Unauthenticated
        | RefusalCode::StepUp
        | RefusalCode::NoTarget
        | RefusalCode::Unsupported
        | RefusalCode::Malformed
        | RefusalCode::TooLarge
        | RefusalCode::Withheld
        | RefusalCode::Unrecorded => STATUS_REFUSED,
        RefusalCode::TargetFailed | RefusalCode::SessionEnded => STATUS_FAILED,
    }
}

/// `weir: <label><text>`, a line for each that has a text. CR LF, because a client's terminal is in
/// raw mode when it asked for a pty.
fn lines<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bytes {
    let mut all = String::new();
    for (label, text) in parts.into_iter().filter(|(_, text)| !text.is_empty()) {
        all.push_str("weir: ");
        all.push_str(label);
        all.extend(text.chars().map(|sign| if sign.is_control() { '?' } else { sign }));
        all.push_str("\r\n");
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_by_which_rule_and_what_to_do() {
        let refusal = Refusal::new(RefusalCode::Denied, "not this")
            .by(vec!["web.no-rm".parse().unwrap()])
            .hint("ask dana");
        let words = Words::refusal(&refusal);
        assert_eq!(
            words.text,
            "weir: not this\r\nweir: rules: web.no-rm\r\nweir: hint: ask dana\r\n"
        );
        assert_eq!(words.status, Some(126));
    }

    #[test]
    fn a_failed_target_is_told_apart_from_a_refusal() {
        let failed = Refusal::new(RefusalCode::TargetFailed, "web-1 is down");
        assert_eq!(Words::refusal(&failed).status, Some(255));
    }

    #[test]
    fn nobody_else_s_control_characters_reach_a_terminal() {
        let refusal = Refusal::new(RefusalCode::Declined, "no\u{1b}]0;x\u{7}\r\n\u{9b}31m");
        assert_eq!(Words::refusal(&refusal).text, "weir: no?]0;x????31m\r\n");
    }
}
