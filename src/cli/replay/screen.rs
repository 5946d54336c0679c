//! What a recorded terminal showed, less what would do something to the terminal it is played on.
//!
//! What a target printed may be hostile: a terminal obeys what it is shown. It may be told to put
//! something into the clipboard (OSC 52), to change its title or read it back, to type an answer as if
//! the viewer had (DA, DSR, DECRQSS, ENQ), to print, to report the mouse. So what is played is read
//! as a terminal reads it, and only what draws goes on: text, cursor, colors, scrolling, the alternate
//! screen. Everything else is left out whole, wherever the bytes are cut.
//!
//! The signs are those of ECMA-48 and of xterm's control sequences.

/// Longest sequence that goes on, in bytes.
const SEQUENCE_BYTES_MAX: usize = 128;
/// Sign that stands for bytes that are no UTF-8.
const ODD: &[u8] = "\u{fffd}".as_bytes();
/// Private modes that only draw: reverse, origin, wrap, blink, cursor, alternate screens,
/// synchronized output.
const MODES: [&str; 11] = ["5", "6", "7", "12", "25", "45", "47", "1047", "1048", "1049", "2026"];
/// Those of them that are another screen.
const OTHER_SCREENS: [&str; 3] = ["47", "1047", "1049"];

/// Reads what a terminal was shown; remembers where in a sequence the last piece ended.
#[derive(Debug, Default)]
pub(super) struct Screen {
    at: At,
    /// A sign that is not complete.
    sign: Vec<u8>,
    /// A sequence that is not complete, from its escape sign.
    sequence: Vec<u8>,
    /// The alternate screen is shown.
    elsewhere: bool,
}

/// Where in a sequence.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and a sign that says what follows.
    Between,
    /// Within CSI.
    Control,
    /// Within OSC, DCS, SOS, PM, APC or a title: nothing of it goes on.
    Words,
}

impl Screen {
    /// What of `bytes` may be shown.
    pub(super) fn shown(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.byte(byte, &mut out);
        }
        out
    }

    /// What puts a terminal back to normal after what was shown so far.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let elsewhere = std::mem::take(self).elsewhere;
        let back: &[u8] = if elsewhere { b"\x1b[?1049l" } else { b"" };
        // Attributes, insertion, origin, margins, wrapping, the cursor, ASCII.
        [back, b"\x1b[0m\x1b[4l\x1b[?6l\x1b7\x1b[r\x1b8\x1b[?7h\x1b[?25h\x1b(B\x0f"].concat()
    }

    /// What empties a terminal, to begin anew.
    pub(super) fn emptied(&mut self) -> Vec<u8> {
        let mut all = self.rest();
        all.extend_from_slice(b"\x1b[2J\x1b[H");
        all
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte < 0x80 {
            if !self.sign.is_empty() {
                self.sign.clear();
                self.odd(out);
            }
            self.ascii(byte, out);
            return;
        }
        let begins = byte >= 0xc0;
        if begins && !self.sign.is_empty() {
            self.sign.clear();
            self.odd(out);
        }
        self.sign.push(byte);
        match std::str::from_utf8(&self.sign) {
            Ok(text) => {
                let sign = text.chars().next();
                let bytes = std::mem::take(&mut self.sign);
                self.wide(sign, &bytes, out);
            }
            // Not complete yet.
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                self.sign.clear();
                self.odd(out);
            }
        }
    }

    fn odd(&mut self, out: &mut Vec<u8>) {
        self.wide(Some('\u{fffd}'), ODD, out);
    }

    /// A sign beyond ASCII.
    fn wide(&mut self, sign: Option<char>, bytes: &[u8], out: &mut Vec<u8>) {
        match sign {
            // The controls that are one sign (C1) mean what ESC and a letter mean.
            Some('\u{9c}') => self.begin(At::Text),
            Some('\u{9b}') => {
                self.begin(At::Control);
                self.sequence.extend_from_slice(b"\x1b[");
            }
            Some('\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}') => self.begin(At::Words),
            Some('\u{80}'..='\u{9f}') | None => {
                if self.at != At::Words {
                    self.begin(At::Text);
                }
            }
            Some(_) => match self.at {
                At::Text => out.extend_from_slice(bytes),
                At::Words => {}
                // No sequence has such a sign.
                At::Escape | At::Between | At::Control => {
                    self.begin(At::Text);
                    out.extend_from_slice(bytes);
                }
            },
        }
    }

    fn ascii(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x1b => {
                self.begin(At::Escape);
                self.sequence.push(byte);
            }
            // CAN and SUB end any sequence.
            0x18 | 0x1a => self.begin(At::Text),
            0x07 if self.at == At::Words => self.begin(At::Text),
            // Bell, backspace, tab, line ends, shifts.
            0x07..=0x0f if self.at == At::Text => out.push(byte),
            // ENQ asks for an answer; the others mean nothing, or something within a sequence.
            0x00..=0x1f | 0x7f => {}
            _ => self.sign_of(byte, out),
        }
    }

    fn sign_of(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.at {
            At::Text => out.push(byte),
            At::Words => {}
            At::Escape => match byte {
                b'[' => self.goes_on(byte, At::Control),
                b']' | b'P' | b'X' | b'^' | b'_' | b'k' => self.begin(At::Words),
                0x20..=0x2f => self.goes_on(byte, At::Between),
                _ => self.ends(byte, escape_draws(byte), out),
            },
            At::Between => match byte {
                0x20..=0x2f => self.goes_on(byte, At::Between),
                _ => self.ends(byte, charset(&self.sequence), out),
            },
            At::Control => {
                if (0x20..=0x3f).contains(&byte) {
                    self.goes_on(byte, At::Control);
                } else {
                    let kept = self.control(byte);
                    self.begin(At::Text);
                    out.extend_from_slice(&kept);
                }
            }
        }
    }

    fn begin(&mut self, at: At) {
        self.at = at;
        self.sequence.clear();
    }

    fn goes_on(&mut self, byte: u8, at: At) {
        self.at = at;
        // One that is too long is never shown: its beginning is kept, to be known as too long.
        if self.sequence.len() < SEQUENCE_BYTES_MAX {
            self.sequence.push(byte);
        }
    }

    fn ends(&mut self, byte: u8, draws: bool, out: &mut Vec<u8>) {
        if draws && self.sequence.len() < SEQUENCE_BYTES_MAX {
            out.extend_from_slice(&self.sequence);
            out.push(byte);
        }
        self.begin(At::Text);
    }

    /// A control sequence that ends with `last`, as far as it draws.
    fn control(&mut self, last: u8) -> Vec<u8> {
        if self.sequence.len() >= SEQUENCE_BYTES_MAX {
            return Vec::new();
        }
        let inner = self.sequence.get(2..).unwrap_or_default();
        let Ok(inner) = std::str::from_utf8(inner) else { return Vec::new() };
        let kept = match (inner.strip_prefix('?'), last) {
            (Some(modes), b'h' | b'l') => {
                let modes = modes.split(';').filter(|mode| MODES.contains(mode));
                let modes = modes.collect::<Vec<_>>();
                if modes.iter().any(|mode| OTHER_SCREENS.contains(mode)) {
                    self.elsewhere = last == b'h';
                }
                (!modes.is_empty()).then(|| format!("?{}", modes.join(";")))
            }
            (Some(plain), b'J' | b'K') => numbers(plain).then(|| inner.to_owned()),
            (Some(_), _) => None,
            (None, last) => draws(inner, last).then(|| inner.to_owned()),
        };
        let Some(kept) = kept else { return Vec::new() };
        [b"\x1b[", kept.as_bytes(), &[last]].concat()
    }
}

/// ESC and one sign that draws: cursor and its memory, lines, tabs, keypad, reset.
fn escape_draws(last: u8) -> bool {
    matches!(last, b'7' | b'8' | b'=' | b'>' | b'D' | b'E' | b'H' | b'M' | b'c')
}

/// Choosing a character set, or the alignment pattern; not leaving UTF-8, nor asking for answers of
/// another form.
fn charset(sequence: &[u8]) -> bool {
    matches!(sequence, [0x1b, b'(' | b')' | b'*' | b'+' | b'#'])
}

/// A control sequence without a private mark that draws.
fn draws(inner: &str, last: u8) -> bool {
    match last {
        b'@'
        | b'A'..=b'M'
        | b'P'
        | b'S'
        | b'X'
        | b'Z'
        | b'`'
        | b'a'
        | b'b'
        | b'd'..=b'g'
        | b'm'
        | b'r'
        | b's'
        | b'u' => numbers(inner),
        // With more than one number it reports the mouse.
        b'T' => numbers(inner) && !inner.contains(';'),
        b'h' | b'l' => inner == "4" || inner == "20",
        // The cursor's form, and a soft reset.
        b'q' => inner.strip_suffix(' ').is_some_and(numbers),
        b'p' => inner == "!",
        _ => false,
    }
}

fn numbers(inner: &str) -> bool {
    inner.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(bytes: &[u8]) -> String {
        String::from_utf8(Screen::default().shown(bytes)).unwrap()
    }

    #[test]
    fn what_draws_goes_on_as_it_is() {
        for drawing in [
            "plain text\r\n\ttab \u{8}bell\u{7} ä € 😀",
            "\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3mrgb\x1b[m",
            "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[?25l\x1b[?1049h\x1b[5 q\x1b[!p",
            "\x1b7\x1b8\x1bM\x1b(0lqk\x1b(B\x1b[1;24r\x1b[3S\x1b[2T\x1b[4h",
        ] {
            assert_eq!(shown(drawing.as_bytes()), drawing);
        }
    }

    #[test]
    fn what_does_something_to_the_viewers_terminal_is_left_out() {
        for (hostile, left) in [
            ("a\x1b]52;c;ZXZpbA==\x07b", "ab"),
            ("a\x1b]52;c;ZXZpbA==\x1b\\b", "ab"),
            ("a\x1b]0;title\x07\x1b]8;;http://x\x07b", "ab"),
            ("a\x1b[c\x1b[>c\x1b[=c\x1b[6n\x1b[?6n\x1b[5n\x1bZ\x05b", "ab"),
            ("a\x1b[22;0t\x1b[21t\x1b[8;1;1tb", "ab"),
            ("a\x1bP$qm\x1b\\\x1bP+q544e\x1b\\b", "ab"),
            ("a\x1b_G payload\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\\x1bktitle\x1b\\b", "ab"),
            ("a\x1b[?1000h\x1b[?1006h\x1b[?1004h\x1b[?2004h\x1b[2h\x1b[5i\x1b[>4;2mb", "ab"),
            ("a\x1b[?25;1000lb", "a\x1b[?25lb"),
            ("a\u{9d}52;c;ZXZpbA==\u{9c}b\u{9b}6nc\u{9b}1md", "abc\x1b[1md"),
            ("a\x1b%@\x1b Gb\x1b[$p\x1b[1;1;1;1;1;1*yc", "abc"),
            ("a\x1b[1\x1b]52;c;eA==\x07mb", "amb"),
        ] {
            assert_eq!(shown(hostile.as_bytes()), left, "{hostile:?}");
        }
        assert_eq!(
            shown(b"a\x9d52;c;x\x07b\x80\xff\xc3("),
            "a\u{fffd}52;c;x\x07b\u{fffd}\u{fffd}\u{fffd}("
        );
        let long = format!("a\x1b[{}mb", "1;".repeat(200));
        assert_eq!(shown(long.as_bytes()), "ab");
    }

    #[test]
    fn the_terminal_is_left_as_it_was() {
        let mut screen = Screen::default();
        screen.shown(b"\x1b[?1049h");
        assert!(screen.rest().starts_with(b"\x1b[?1049l"));
        assert!(!screen.rest().starts_with(b"\x1b[?1049l"));
    }

    /// Reads what goes on as a simple terminal would, and says whether all of it draws.
    fn only_draws(bytes: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        if text.chars().any(|sign| ('\u{80}'..='\u{9f}').contains(&sign) || sign == '\u{5}') {
            return false;
        }
        text.split('\x1b').skip(1).all(|after| {
            let mut signs = after.chars();
            match signs.next() {
                Some('[') => {
                    let last = signs.clone().find(|sign| ('\u{40}'..='\u{7e}').contains(sign));
                    let inner = signs.take_while(|sign| !('\u{40}'..='\u{7e}').contains(sign));
                    let inner = inner.collect::<String>();
                    last.is_some_and(|last| {
                        !"cntixRyqpw".contains(last)
                            || " q!p".contains(&format!(
                                "{}{last}",
                                inner.chars().last().unwrap_or_default()
                            ))
                    }) && !inner.contains(['>', '=', '<', '$', '*', '"'])
                        && !["1000", "1002", "1003", "1004", "1006", "2004"].iter().any(|m| {
                            inner.contains('?') && inner.split(['?', ';']).any(|i| i == *m)
                        })
                }
                Some(sign) => "78=>DEHMc()*+#".contains(sign),
                None => false,
            }
        })
    }

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\x1b]52;c;".to_vec()),
            Just(b"\x1b[".to_vec()),
            Just(b"\x1b".to_vec()),
            Just(b"\x1bP".to_vec()),
            Just(b"\x1b\\".to_vec()),
            Just(b"\x07".to_vec()),
            Just(b"?1000h".to_vec()),
            Just(b"6n".to_vec()),
            Just(b"1;31m".to_vec()),
            Just("\u{9b}\u{9d}ä€".as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
            "[ -~]{0,4}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_but_drawing_comes_through_however_it_is_cut(
            bytes in pieces(),
            cuts in proptest::collection::vec(0_usize..64, 0..8),
        ) {
            let whole = Screen::default().shown(&bytes);
            let mut screen = Screen::default();
            let (mut rest, mut parts) = (bytes.as_slice(), Vec::new());
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.extend(screen.shown(part));
                rest = after;
            }
            parts.extend(screen.shown(rest));
            prop_assert_eq!(&parts, &whole);
            prop_assert!(only_draws(&whole), "{:?} from {:?}", String::from_utf8_lossy(&whole), bytes);
        }
    }
}
