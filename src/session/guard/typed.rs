//! What is typed at a terminal, less what is typed at a prompt for a password.
//!
//! A recording keeps no secrets, and a terminal does not say whether it echoes. So of what is typed
//! right after a prompt that asks for a password one line is left out, and the recording says in its
//! place which line that was and how long. Where the terminal then shows what was typed, it was no
//! secret, and the recording has it.
//!
//! ```text
//! Password: ▏hunter2⏎   nothing is shown   <not recorded: line 1, 7 bytes>⏎
//! password: ▏ls -l⏎     l, s are shown     <not recorded, but shown>ls -l⏎
//! ```

/// What begins in the recording with the first key that is left out.
const LEFT_OUT: &str = "<not recorded";
/// How much of the line that is being shown is looked at, in bytes.
const LINE_BYTES_MAX: usize = 256;
/// How much of a line that is left out is compared with what is shown, in bytes.
const HELD_BYTES_MAX: usize = 256;
/// How many typed bytes must be shown before they count as echoed: one may be there by chance.
const ECHO_BYTES_MIN: usize = 2;
/// What a prompt for a secret asks for, in small letters.
const WORDS: [&str; 13] = [
    "password",
    "passwort",
    "passwd",
    "passphrase",
    "passcode",
    "pin",
    "otp",
    "token",
    "secret",
    "one-time code",
    "verification code",
    "mot de passe",
    "contraseña",
];
/// What may follow that word before the end of the prompt: of whom, for what.
const TAILS: [&str; 6] = ["for ", "of ", "to ", "(", "[", "again"];

/// The line that is being shown, and whether what is typed belongs to a prompt for a secret.
#[derive(Debug, Default)]
pub(super) struct Typed {
    line: Vec<u8>,
    hidden: Option<Hidden>,
    /// How many lines were left out so far.
    lines: u64,
}

/// A line that is left out.
#[derive(Default)]
struct Hidden {
    bytes: usize,
    /// What of it may be echoed, as long as it fits; and how much of that was.
    held: Vec<u8>,
    echoed: usize,
    /// It was ended; the echo may still be on its way.
    ended: bool,
}

/// Without what was typed.
impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hidden").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Typed {
    /// The terminal shows `bytes`. What was left out and turns out to be echoed is given back, to be
    /// recorded.
    pub(super) fn shown(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (fresh, rest) = match bytes.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')) {
            Some(at) => (true, bytes.get(at.saturating_add(1)..).unwrap_or_default()),
            None => (false, bytes),
        };
        if fresh {
            self.line.clear();
        }
        self.line.extend_from_slice(rest);
        let over = self.line.len().saturating_sub(LINE_BYTES_MAX);
        self.line.drain(..over);
        self.echoed(bytes)
    }

    /// What of `bytes`, which are typed, may be recorded.
    pub(super) fn visible(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut visible = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            // Enter, Ctrl-C and Ctrl-D end what is typed at a prompt.
            let ends = matches!(byte, b'\r' | b'\n' | 0x03 | 0x04);
            if !ends && !self.is_hiding() && self.asks() {
                // The prompt counts once: it has to be shown again for another line.
                self.line.clear();
                self.hidden = Some(Hidden::default());
                visible.extend_from_slice(LEFT_OUT.as_bytes());
            }
            match self.hidden.as_mut().filter(|hidden| !hidden.ended) {
                Some(hidden) if !ends => hidden.take(byte),
                Some(_) => {
                    visible.extend(self.end());
                    visible.push(byte);
                }
                None => visible.push(byte),
            }
            if ends {
                self.line.clear();
            }
        }
        visible
    }

    /// Ends a line that is left out: what is recorded of it.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let Some(hidden) = self.hidden.as_mut().filter(|hidden| !hidden.ended) else {
            return Vec::new();
        };
        hidden.ended = true;
        self.lines = self.lines.saturating_add(1);
        format!(": line {}, {} bytes>", self.lines, hidden.bytes).into_bytes()
    }

    fn is_hiding(&self) -> bool {
        self.hidden.as_ref().is_some_and(|hidden| !hidden.ended)
    }

    /// Compares what is shown with what is left out.
    fn echoed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(hidden) = &mut self.hidden else { return Vec::new() };
        match hidden.compare(bytes) {
            Echo::Whole => {
                let (held, ended) = (std::mem::take(&mut hidden.held), hidden.ended);
                self.hidden = None;
                let before: &[u8] = if ended { b"<it was shown: " } else { b", but shown>" };
                let after: &[u8] = if ended { b">" } else { b"" };
                [before, &held, after].concat()
            }
            Echo::Not if hidden.ended => {
                self.hidden = None;
                Vec::new()
            }
            Echo::Not | Echo::Perhaps => Vec::new(),
        }
    }

    /// Whether the line that is shown ends as a prompt for a secret.
    fn asks(&self) -> bool {
        let line = String::from_utf8_lossy(&self.line).to_lowercase();
        let text = without_escapes(&line);
        let Some(text) = text.trim_end().strip_suffix([':', '?', '：']) else { return false };
        WORDS.iter().any(|word| ends_with(text, word))
    }
}

/// Whether what was left out is shown.
enum Echo {
    Whole,
    Perhaps,
    Not,
}

impl Hidden {
    fn take(&mut self, byte: u8) {
        self.bytes = self.bytes.saturating_add(1);
        if self.bytes > HELD_BYTES_MAX {
            self.held.clear();
        } else {
            self.held.push(byte);
        }
    }

    fn compare(&mut self, shown: &[u8]) -> Echo {
        let held = drawn(&self.held);
        for sign in drawn(without_escapes(&String::from_utf8_lossy(shown)).as_bytes()) {
            if held.get(self.echoed) != Some(&sign) {
                self.echoed = 0;
                return Echo::Not;
            }
            self.echoed = self.echoed.saturating_add(1);
        }
        let whole = self.echoed >= ECHO_BYTES_MIN && self.echoed == held.len();
        if whole { Echo::Whole } else { Echo::Perhaps }
    }
}

/// The bytes that a terminal draws.
fn drawn(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| *byte >= b' ' && *byte != 0x7f).collect()
}

/// Whether `text` ends with `word` as a word of its own, and perhaps with whose or for what it is.
fn ends_with(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let (before, rest) = text.split_at(at);
        let after = rest.strip_prefix(word).unwrap_or_default();
        let begins = before.chars().next_back().is_none_or(|sign| " \t([\"'".contains(sign));
        let (tail, spaced) = (after.trim(), after.starts_with([' ', '\t']));
        let ends = tail.is_empty() || spaced && TAILS.iter().any(|begin| tail.starts_with(begin));
        begins && ends
    })
}

/// The line without what moves the cursor and colors it (ECMA-48 §5.4).
fn without_escapes(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut signs = line.chars();
    while let Some(sign) = signs.next() {
        if sign != '\u{1b}' {
            text.push(sign);
        } else if signs.next() == Some('[') {
            let _end = signs.find(|sign| ('@'..='~').contains(sign));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(prompt: &str, keys: &[&str]) -> String {
        let mut typed = Typed::default();
        typed.shown(prompt.as_bytes());
        let visible = keys.iter().flat_map(|key| typed.visible(key.as_bytes()));
        String::from_utf8(visible.collect()).unwrap()
    }

    /// What is recorded of keys that a terminal echoes, at a prompt.
    fn echoed(prompt: &str, keys: &[&str]) -> String {
        let mut typed = Typed::default();
        typed.shown(prompt.as_bytes());
        let mut seen = Vec::new();
        for key in keys {
            seen.extend(typed.visible(key.as_bytes()));
            seen.extend(typed.shown(key.as_bytes()));
        }
        String::from_utf8(seen).unwrap()
    }

    #[test]
    fn what_is_typed_at_a_password_prompt_is_counted_and_not_recorded() {
        for prompt in [
            "$ sudo -s\r\n[sudo] password for deploy: ",
            "Enter passphrase for key '/home/x/.ssh/id': ",
            "\u{1b}[1mPassword\u{1b}[0m:",
            "(deploy@web-1) Password: ",
            "deploy@web-1's password: ",
            "One-time password (OATH) for `deploy': ",
            "New password again: ",
            "Enter PIN for authenticator: ",
            "Mot de passe : ",
            "Verification code: ",
        ] {
            let seen = typed(prompt, &["h", "unt", "er2", "\r", "ls\r"]);
            assert_eq!(seen, "<not recorded: line 1, 7 bytes>\rls\r", "{prompt}");
        }
        let seen = typed("Password: ", &["secret\x03"]);
        assert_eq!(seen, "<not recorded: line 1, 6 bytes>\x03");
    }

    #[test]
    fn what_is_typed_elsewhere_is_recorded() {
        assert_eq!(typed("deploy@web-1:~$ ", &["echo password:", "\r"]), "echo password:\r");
        for prompt in [
            "password: ok\r\n$ ",
            "shipping=> ",
            "pin=> ",
            "root@token-1:~/secret# ",
            "the token is gone. Go on? ",
            "passwords: ",
            "deploy@secret:",
        ] {
            assert_eq!(typed(prompt, &["id\r"]), "id\r", "{prompt}");
        }
    }

    #[test]
    fn a_prompt_in_parts_and_a_second_try_are_known() {
        let mut typed = Typed::default();
        typed.shown(b"Pass");
        typed.shown(b"word: ");
        assert_eq!(typed.visible(b"a"), b"<not recorded");
        assert_eq!(typed.visible(b"b\r"), b": line 1, 2 bytes>\r");
        typed.shown(b"\r\nSorry, try again.\r\n[sudo] password for deploy: ");
        assert_eq!(typed.visible(b"abc\r"), b"<not recorded: line 2, 3 bytes>\r");
    }

    #[test]
    fn a_prompt_hides_one_line_and_must_be_shown_again() {
        let mut typed = Typed::default();
        typed.shown(b"password: ");
        assert_eq!(typed.visible(b"abc\rid\r"), b"<not recorded: line 1, 3 bytes>\rid\r");
        typed.shown(b"\r\n");
        assert_eq!(typed.visible(b"id\r"), b"id\r");
    }

    #[test]
    fn what_the_terminal_echoes_is_recorded() {
        // A shell whose prompt is chosen so that it looks like one for a password.
        assert_eq!(
            echoed("password: ", &["l", "s", " -l", "\r"]),
            "<not recorded, but shown>ls -l\r"
        );
        // Everything at once: the echo comes when the line is ended.
        let late = echoed("token: ", &["rm -rf x\r"]);
        assert_eq!(late, "<not recorded: line 1, 8 bytes>\r<it was shown: rm -rf x>");
        // Stars are no echo, and what comes afterwards is none either.
        let mut typed = Typed::default();
        typed.shown(b"PIN: ");
        for key in [b"1", b"2", b"3"] {
            typed.visible(key);
            assert!(typed.shown(b"*").is_empty());
        }
        assert_eq!(typed.visible(b"\r"), b": line 1, 3 bytes>\r");
        assert!(typed.shown(b"\r\nwelcome 123").is_empty());
    }
}
