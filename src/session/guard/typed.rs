//! What is typed at a terminal, less what is typed at a prompt for a password.
//!
//! A recording keeps no secrets, and a terminal does not say whether it echoes. So what is typed after
//! a line that asks for a password is left out until the line ends, and the recording says that
//! something was.

/// What stands in the recording for what was typed at such a prompt.
const LEFT_OUT: &[u8] = b"<not recorded>";
/// How much of the line that is being shown is looked at, in bytes.
const LINE_BYTES_MAX: usize = 256;
/// What a line that asks for a secret has in it, in small letters.
const WORDS: [&str; 12] = [
    "password",
    "passwort",
    "passphrase",
    "passcode",
    "pin",
    "otp",
    "one-time",
    "token",
    "secret",
    "verification code",
    "mot de passe",
    "contraseña",
];

/// The line that is being shown, and whether what is typed belongs to a prompt for a secret.
#[derive(Debug, Default)]
pub(super) struct Typed {
    line: Vec<u8>,
    hiding: bool,
}

impl Typed {
    /// The terminal shows `bytes`.
    pub(super) fn shown(&mut self, bytes: &[u8]) {
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
    }

    /// What of `bytes`, which are typed, may be recorded.
    pub(super) fn visible(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut visible = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            // Enter, Ctrl-C and Ctrl-D end what is typed at a prompt.
            let ends = matches!(byte, b'\r' | b'\n' | 0x03 | 0x04);
            if !self.hiding && !ends && self.asks() {
                self.hiding = true;
                visible.extend_from_slice(LEFT_OUT);
            }
            if ends {
                self.hiding = false;
                self.line.clear();
            }
            if !self.hiding {
                visible.push(byte);
            }
        }
        visible
    }

    /// Whether the line that is shown asks for a secret: it has such a word, and ends as a prompt.
    fn asks(&self) -> bool {
        let line = String::from_utf8_lossy(&self.line).to_lowercase();
        let text = without_escapes(&line);
        let prompt = text.trim_end().ends_with([':', '?', '>', '：']);
        prompt && WORDS.iter().any(|word| text.contains(word))
    }
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

    #[test]
    fn what_is_typed_at_a_password_prompt_is_not_recorded() {
        for prompt in [
            "$ sudo -s\r\n[sudo] password for deploy: ",
            "Enter passphrase for key '/home/x/.ssh/id': ",
            "\u{1b}[1mPassword\u{1b}[0m:",
            "Verification code: ",
        ] {
            let seen = typed(prompt, &["h", "unt", "er2", "\r", "ls\r"]);
            assert_eq!(seen, "<not recorded>\rls\r", "{prompt}");
        }
        assert_eq!(typed("Password: ", &["secret\x03"]), "<not recorded>\x03");
    }

    #[test]
    fn what_is_typed_elsewhere_is() {
        assert_eq!(typed("deploy@web-1:~$ ", &["echo password:", "\r"]), "echo password:\r");
        assert_eq!(typed("password: ok\r\n$ ", &["id\r"]), "id\r");
    }

    #[test]
    fn a_prompt_in_parts_and_a_second_try_are_known() {
        let mut typed = Typed::default();
        typed.shown(b"Pass");
        typed.shown(b"word: ");
        assert_eq!(typed.visible(b"a"), LEFT_OUT);
        assert_eq!(typed.visible(b"b\r"), b"\r");
        typed.shown(b"\r\nSorry, try again.\r\n[sudo] password for deploy: ");
        assert_eq!(typed.visible(b"abc\r"), b"<not recorded>\r");
    }
}
