//! Signing in with a code on another device (RFC 8628): a link, the code, and a QR code of both.

use std::io::IsTerminal;
use std::time::Duration;

use qrcode::EcLevel;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::Value;

use crate::cli::client::Answer;
use crate::cli::client::CallError;
use crate::cli::client::Link;
use crate::cli::client::problem;
use crate::cli::login::Asks;
use crate::cli::print;
use crate::cli::print::tame;
use crate::cli::wallet::CLIENT_ID;

/// How often is asked where the gateway does not say, in seconds (RFC 8628 §3.2).
const INTERVAL_S: u64 = 5;
/// By how much longer after `slow_down`, in seconds (RFC 8628 §3.5).
const SLOWER_S: u64 = 5;
/// The longest pause, whatever the gateway says, in seconds.
const INTERVAL_S_MAX: u64 = 60;
/// How long is asked at most, whatever the gateway says, in seconds.
const WAIT_S_MAX: u64 = 1_800;

/// Signs in; the gateway's token answer.
pub(super) fn sign_in(link: &Link, asks: &Asks) -> Result<Value, CallError> {
    let answer = link.form("/oauth/device_authorization", &asks.pairs())?;
    if answer.status != 200 {
        return Err(CallError::Refused(problem(answer.status, &answer.body)));
    }
    let word = |name: &str| answer.body.get(name).and_then(Value::as_str);
    let (Some(device_code), Some(code), Some(url)) =
        (word("device_code"), word("user_code"), word("verification_uri"))
    else {
        return Err(CallError::Refused("the gateway's answer holds no code".to_owned()));
    };
    let whole = word("verification_uri_complete");
    print::progress("To sign in, open this link on any device:");
    print::progress(&format!("  {}", tame(url)));
    print::progress(&format!("and type this code:  {}", tame(code)));
    if std::io::stderr().is_terminal()
        && let Some(picture) = picture(whole.unwrap_or(url))
    {
        print::progress("\nor scan this:\n");
        print::progress(&picture);
    }
    print::progress("The page says who asks. Go on only if it is you, and this machine.");
    let pairs = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", device_code),
        ("client_id", CLIENT_ID),
    ];
    let number = |name: &str| answer.body.get(name).and_then(Value::as_u64);
    let mut polling = Polling::new(number("interval"), number("expires_in"));
    loop {
        match polling.next(None)? {
            Some(pause_s) => std::thread::sleep(Duration::from_secs(pause_s)),
            None => return Err(expired()),
        }
        match link.form("/oauth/token", &pairs) {
            Ok(answer) if answer.status == 200 => return Ok(answer.body),
            Ok(answer) => drop(polling.next(Some(&answer))?),
            Err(CallError::Unreached(_)) => polling.slow_down(),
            Err(error) => return Err(error),
        }
    }
}

/// How often is asked, and how long (RFC 8628 §3.5).
#[derive(Debug)]
struct Polling {
    interval_s: u64,
    left_s: u64,
}

impl Polling {
    fn new(interval_s: Option<u64>, expires_s: Option<u64>) -> Self {
        let interval_s = interval_s.unwrap_or(INTERVAL_S).clamp(1, INTERVAL_S_MAX);
        Self { interval_s, left_s: expires_s.unwrap_or(WAIT_S_MAX).min(WAIT_S_MAX) }
    }

    /// With an answer: whether it ends the login. Without: how long to wait before asking again;
    /// `None` once there is no time left.
    fn next(&mut self, answer: Option<&Answer>) -> Result<Option<u64>, CallError> {
        let Some(answer) = answer else {
            let Some(left_s) = self.left_s.checked_sub(self.interval_s) else { return Ok(None) };
            self.left_s = left_s;
            return Ok(Some(self.interval_s));
        };
        match answer.body.get("error").and_then(Value::as_str) {
            Some("authorization_pending") => {}
            Some("slow_down") => self.slow_down(),
            Some("expired_token") => return Err(expired()),
            // A gateway in trouble is asked again, less often.
            _ if answer.status >= 500 || answer.status == 429 => self.slow_down(),
            _ => return Err(CallError::Refused(problem(answer.status, &answer.body))),
        }
        Ok(None)
    }

    fn slow_down(&mut self) {
        self.interval_s = self.interval_s.saturating_add(SLOWER_S).min(INTERVAL_S_MAX);
    }
}

fn expired() -> CallError {
    CallError::Refused("nobody signed in with that code in time: run `weir login` again".to_owned())
}

/// A QR code for dark and light terminals: light on dark, with a margin.
fn picture(url: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(url, EcLevel::L).ok()?;
    let mut drawn = code.render::<Dense1x2>();
    let drawn = drawn.dark_color(Dense1x2::Dark).light_color(Dense1x2::Light);
    // Dark is drawn as nothing, so that the picture is right where text is light on dark; the
    // margin makes it readable elsewhere too.
    Some(drawn.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, error: &str) -> Answer {
        Answer { status, body: json!({ "error": error }) }
    }

    #[test]
    fn polling_keeps_the_interval_and_slows_down_when_told() {
        let mut polling = Polling::new(None, Some(600));
        assert_eq!(polling.next(None).unwrap(), Some(5));
        polling.next(Some(&answer(400, "authorization_pending"))).unwrap();
        assert_eq!(polling.next(None).unwrap(), Some(5));
        polling.next(Some(&answer(400, "slow_down"))).unwrap();
        assert_eq!(polling.next(None).unwrap(), Some(10));
        polling.next(Some(&answer(503, ""))).unwrap();
        assert_eq!(polling.next(None).unwrap(), Some(15));
    }

    #[test]
    fn a_no_and_an_old_code_end_it() {
        let mut polling = Polling::new(Some(1), Some(600));
        for (status, error) in
            [(400, "access_denied"), (400, "expired_token"), (400, ""), (302, "")]
        {
            let ended = polling.next(Some(&answer(status, error)));
            assert!(matches!(ended, Err(CallError::Refused(_))), "{error}");
        }
        let mut polling = Polling::new(Some(0), Some(2));
        assert_eq!(polling.next(None).unwrap(), Some(1));
        assert_eq!(polling.next(None).unwrap(), Some(1));
        assert_eq!(polling.next(None).unwrap(), None);
        assert_eq!(Polling::new(Some(u64::MAX), None).next(None).unwrap(), Some(INTERVAL_S_MAX));
    }

    #[test]
    fn a_link_becomes_a_square_of_half_blocks() {
        let picture = picture("https://weir.example/device?code=ABCD-EFGH").unwrap();
        let widths = picture.lines().map(|line| line.chars().count()).collect::<Vec<_>>();
        assert!(widths.len() > 10 && widths.iter().all(|width| *width == widths[0]));
        assert!(picture.chars().all(|sign| " ▄▀█\n".contains(sign)));
    }
}
