//! Words of a command line, as a shell would read them; or the admission that only a shell can.
//!
//! [`plain`] reads a line that means the same to every shell: words of harmless signs, and quotes
//! with nothing in them that a shell expands. Anything else is not read at all, because a reader
//! that is nearly right is worse than none. [`visible`] is a second net over lines that are not
//! plain: it sees words, and is no guarantee, because `a=rm; $a -rf .` shows no `rm -rf`.
//!
//! Must not know what a program does.

use std::mem;

/// The words of a line that means the same to every shell; `None` if a shell is needed to tell.
pub(super) fn plain(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut begun = false;
    let mut signs = line.chars();
    while let Some(sign) = signs.next() {
        match sign {
            ' ' | '\t' => {
                if mem::take(&mut begun) {
                    words.push(mem::take(&mut word));
                }
                continue;
            }
            '\'' | '"' => quoted(sign, &mut signs, &mut word)?,
            // zsh reads `=ls` as the path of ls.
            '=' if !begun => return None,
            _ if is_harmless(sign) => word.push(sign),
            _ => return None,
        }
        begun = true;
    }
    if begun {
        words.push(word);
    }
    // `PATH=. ls` runs another ls.
    words.first().is_some_and(|first| !first.contains('=')).then_some(words)
}

/// Reads up to the closing quote.
fn quoted(quote: char, signs: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        let sign = signs.next()?;
        if sign == quote {
            return Some(());
        }
        let expands = quote == '"' && matches!(sign, '$' | '`' | '\\' | '!');
        // csh expands `!` in single quotes too.
        let graphic = sign.is_ascii_graphic() || sign == ' ';
        if expands || !graphic || sign == '!' {
            return None;
        }
        word.push(sign);
    }
}

/// Signs that no shell gives a meaning to, wherever they stand in a word.
fn is_harmless(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || "_-./:,+@%=".contains(sign)
}

/// What can be seen of a line that is not plain: its words, parted where commands may part.
///
/// Quotes and backslashes are left out, so that `r\m` and `"rm"` are seen as `rm`.
pub(super) fn visible(line: &str) -> Vec<Vec<String>> {
    let mut parts = vec![Vec::new()];
    let mut word = String::new();
    for sign in line.chars().chain([';']) {
        let ends_word = sign.is_whitespace() || sign.is_control() || "=,{}$<>".contains(sign);
        let ends_part = ";&|()`\n\r".contains(sign);
        if ends_word || ends_part {
            if !word.is_empty() {
                let word = mem::take(&mut word);
                if let Some(part) = parts.last_mut() {
                    part.push(word);
                }
            }
        } else if !"'\"\\".contains(sign) {
            word.push(sign);
        }
        if ends_part {
            parts.push(Vec::new());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        plain(line)
    }

    #[test]
    fn plain_words_are_read() {
        assert_eq!(words("ls -l /srv").unwrap(), ["ls", "-l", "/srv"]);
        assert_eq!(words("  tail\t-n 100 f ").unwrap(), ["tail", "-n", "100", "f"]);
        assert_eq!(words("grep 'a  b' \"c d\"e f=g").unwrap(), ["grep", "a  b", "c de", "f=g"]);
        assert_eq!(words("ls ''").unwrap(), ["ls", ""]);
    }

    #[test]
    fn what_a_shell_would_change_is_not_read() {
        for line in [
            "",
            " ",
            "ls;id",
            "ls&&id",
            "ls|id",
            "ls &",
            "ls >f",
            "ls <f",
            "ls $HOME",
            "ls `id`",
            "ls $(id)",
            "ls *",
            "ls ?",
            "ls [a]",
            "ls {a,b}",
            "ls ~",
            "ls \\a",
            "ls \"$a\"",
            "ls \"`id`\"",
            "ls \"a\\\"\"",
            "ls 'a",
            "ls \"a",
            "PATH=. ls",
            "a=b",
            "ls\nid",
            "ls\r\nid",
            "ls #x",
            "ls !x",
            "=ls",
            "ls =id",
            "(ls)",
            "ls\0",
            "ls \u{a0}",
            "ｌs",
            "ls ^a",
            "ls 'a\u{1b}'",
        ] {
            assert_eq!(words(line), None, "{line:?}");
        }
    }

    #[test]
    fn words_are_visible_in_lines_that_are_not_plain() {
        assert_eq!(visible("cd /x && rm -rf ."), [vec!["cd", "/x"], vec!["rm", "-rf", "."]]);
        assert_eq!(visible("r\\m '-'rf \"/a\""), [vec!["rm", "-rf", "/a"]]);
        assert_eq!(visible("a=$(rm -r x)"), [vec!["a"], vec!["rm", "-r", "x"]]);
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in any::<String>()) {
            plain(&line);
            visible(&line);
        }

        #[test]
        fn text_behind_a_sign_of_the_shell_never_makes_a_line_plain(
            before in "[a-z /-]{0,12}",
            sign in "[;&|<>$`*?~#(){}!^\\\\\n]|\\[|\\]",
            after in any::<String>(),
        ) {
            prop_assert_eq!(plain(&format!("{before}{sign}{after}")), None);
        }
    }
}
