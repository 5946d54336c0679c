//! How deep a policy text nests, told before the engine reads it.
//!
//! The engine's parser recurses and does not bound its stack: forty brackets within each other end
//! the process in a debug build. A policy that people can read nests a handful.

/// Deepest nesting of brackets, conditions and signs in one policy.
pub(super) const NESTING_MAX: usize = 16;
/// Most operators (`&&`, `||`, `.`, `+`, `-`, `*`) in one policy: each may be a level of its tree.
pub(super) const OPERATORS_MAX: usize = 256;

/// Where a text nests deeper, or has more operators in one policy, than is read: the byte.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let (mut brackets, mut ifs, mut signs, mut operators) = (0_usize, 0_usize, 0_usize, 0_usize);
    let mut bytes = text.bytes().enumerate().peekable();
    let mut word = Vec::new();
    while let Some((at, byte)) = bytes.next() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            word.push(byte);
            signs = 0;
            continue;
        }
        ifs = ifs.saturating_add(usize::from(word.as_slice() == b"if"));
        word.clear();
        match byte {
            b'"' => {
                // A text, to its end; what a backslash protects does not end it.
                while let Some((_, inside)) = bytes.next() {
                    if inside == b'\\' {
                        bytes.next();
                    } else if inside == b'"' {
                        break;
                    }
                }
            }
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                while bytes.next_if(|(_, inside)| *inside != b'\n').is_some() {}
            }
            b'(' | b'[' | b'{' => brackets = brackets.saturating_add(1),
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            b'!' | b'-' => {
                signs = signs.saturating_add(1);
                operators = operators.saturating_add(1);
            }
            b'&' | b'|' | b'.' | b'+' | b'*' => operators = operators.saturating_add(1),
            // A policy ends.
            b';' => (brackets, ifs, operators) = (0, 0, 0),
            _ => {}
        }
        if !(byte.is_ascii_whitespace() || matches!(byte, b'!' | b'-')) {
            signs = 0;
        }
        let depth = brackets.saturating_add(ifs).saturating_add(signs);
        // `&&` and `||` are two bytes each.
        if depth > NESTING_MAX || operators > OPERATORS_MAX.saturating_mul(2) {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_too_deep_is_told_with_its_place() {
        for (open, close) in [("(", ")"), ("[", "]"), ("!", ""), ("- ", ""), ("if true then ", "")]
        {
            let text = |times: usize| {
                let (open, close) = (open.repeat(times), close.repeat(times));
                format!("permit(principal, action, resource) when {{ {open}true{close} }};")
            };
            assert_eq!(too_deep(&text(4)), None, "{open}");
            assert!(too_deep(&text(40)).is_some(), "{open}");
            assert!(too_deep(&text(100_000)).is_some(), "{open}");
        }
        assert!(too_deep(&format!("permit(a) when {{ {} }};", "a && ".repeat(2_000))).is_some());
        assert!(too_deep(&format!("permit(a) when {{ a{} }};", ".b".repeat(2_000))).is_some());
    }

    #[test]
    fn texts_comments_and_the_next_policy_do_not_count() {
        let brackets = "(".repeat(100);
        assert_eq!(too_deep(&format!("// {brackets}\n@id(\"{brackets}\\\"{brackets}\")")), None);
        assert_eq!(too_deep(&"permit(a, b) when { (a && b).c };\n".repeat(1_000)), None);
    }

    #[test]
    fn whatever_is_not_too_deep_is_read_on_a_small_stack() {
        use std::str::FromStr;
        let read = |text: String| {
            assert_eq!(too_deep(&text), None, "{text}");
            // Whether it is a policy does not matter here; that the process goes on does.
            drop(cedar_policy::PolicySet::from_str(&text));
        };
        let run = move || {
            let head = "permit(principal, action, resource) when {";
            let deep = NESTING_MAX - 2;
            read(format!("{head} {}true{} }};", "(".repeat(deep), ")".repeat(deep)));
            read(format!("{head} {}true }};", "if true then ".repeat(deep)));
            read(format!("{head} {}true }};", "true && ".repeat(OPERATORS_MAX - 8)));
            read(format!("{head} context{} }};", ".a".repeat(OPERATORS_MAX - 8)));
        };
        // tokio's workers have 2 MiB.
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run);
        thread.unwrap().join().unwrap();
    }
}
