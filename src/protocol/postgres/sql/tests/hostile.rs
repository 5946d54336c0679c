//! Hostile text: deep, long, broken.

use proptest::prelude::*;

use super::*;
use crate::protocol::postgres::sql::TEXT_BYTES_MAX;
use crate::protocol::postgres::sql::Unreadable;

/// How long any text may be read for, in seconds: a guard against hanging, and no measure. None
/// takes a second on a quiet machine.
const PATIENCE_S: u64 = 300;

/// Reads on a thread with the stack of a tokio worker, in which an overflow ends the process.
fn on_small_stack(text: String) -> Result<usize, Unreadable> {
    let (done, result) = std::sync::mpsc::channel();
    let read = move || {
        let read = read(&text, &declared()).map(|reading| reading.statements.len());
        done.send(read).unwrap();
    };
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(read).unwrap();
    let patience = std::time::Duration::from_secs(PATIENCE_S);
    result.recv_timeout(patience).expect("it hangs, or it panicked")
}

#[test]
fn a_chain_of_operators_as_long_as_allowed_is_read() {
    let chain = |bytes: usize| {
        let mut text = "SELECT 'a'".to_owned();
        while text.len() + 5 <= bytes {
            text.push_str("||'a'");
        }
        text
    };
    assert_eq!(on_small_stack(chain(40_000)), Ok(1));
    assert_eq!(on_small_stack(chain(TEXT_BYTES_MAX)), Ok(1));
    assert_eq!(on_small_stack("x".repeat(TEXT_BYTES_MAX + 1)), Err(Unreadable::TooLong));
}

#[test]
fn deep_nesting_of_any_kind_harms_nobody() {
    for (head, open, middle, close) in [
        ("SELECT ", "(", "1", ")"),
        ("SELECT ", "(SELECT ", "1", ")"),
        ("", "(", "SELECT 1", ")"),
        ("SELECT ", "ARRAY[", "1", "]"),
        ("SELECT ", "f(", "1", ")"),
        ("SELECT ", "NOT ", "true", ""),
        ("SELECT ", "- ", "x", ""),
        ("SELECT ", "CASE WHEN ", "true", " THEN 1 END"),
        ("SELECT ", "ROW(", "1", ")"),
        ("SELECT ", "CAST(", "1", " AS int)"),
        ("SELECT x", "[", "1", "]"),
        ("SELECT x", "[1]", "", ""),
        ("SELECT x", "::int", "", ""),
        ("SELECT x", ".y", "", ""),
        ("SELECT 1", " COLLATE \"C\"", "", ""),
        ("SELECT 1", " UNION SELECT 1", "", ""),
        ("SELECT 1", " UNION (SELECT 1", "", ")"),
        ("SELECT 1 FROM ", "(SELECT 1 FROM ", "a", ") x"),
        ("SELECT 1 FROM ", "(", "a", " JOIN b ON true)"),
        ("SELECT 1 FROM a", " JOIN b ON true", "", ""),
        ("SELECT 1 FROM a", " JOIN customers USING (id)", "", ""),
        ("SELECT 1 FROM a", ", customers", "", ""),
        ("SELECT 1 FROM a", ", f(1)", "", ""),
        ("SELECT 1", ", customers.*", " FROM customers", ""),
        ("SELECT 1", ", id", " FROM customers", ""),
        ("", "WITH a AS (", "SELECT 1", ") SELECT 1"),
        ("WITH a AS (SELECT 1)", ", a AS (SELECT * FROM a)", " SELECT 1", ""),
        ("WITH RECURSIVE a AS (SELECT 1)", ", a AS (SELECT 1)", " SELECT 1", ""),
        ("SELECT 1 WHERE 1 IN ", "(SELECT 1 WHERE 1 IN ", "(1)", ")"),
        ("SELECT 1 GROUP BY ", "ROLLUP(", "1", ")"),
        ("SELECT 1 ORDER BY 1", ", 1", "", ""),
        ("SELECT 1 WHERE a", " AND a", "", ""),
        ("SELECT 1 WHERE a", " = a", "", ""),
        ("VALUES (1)", ", (1)", "", ""),
        ("SELECT 1", "; SELECT 1", "", ""),
        ("", ";", "", ""),
        ("EXPLAIN ", "EXPLAIN ", "SELECT 1", ""),
        ("INSERT INTO notes ", "WITH x AS (INSERT INTO notes ", "SELECT 1", ") SELECT 1"),
    ] {
        for count in [50, 3_000, 40_000] {
            let text = format!("{head}{}{middle}{}", open.repeat(count), close.repeat(count));
            if text.len() > TEXT_BYTES_MAX {
                continue;
            }
            let result = on_small_stack(text);
            assert!(!matches!(result, Err(Unreadable::Internal)), "{head}{open} {count}");
        }
    }
}

#[test]
fn what_is_too_deep_to_analyse_is_a_concern_and_its_effects_are_known() {
    let depth = 500;
    let text = format!("SELECT {} f(1) {}", "(SELECT ".repeat(depth), ")".repeat(depth));
    let statement = one(&text);
    assert!(refused_to(&statement, &class("pii.ssn")));
    assert!(statement.effects.contains(&crate::model::Effect::Execute));
}

#[test]
fn syntax_errors_read_as_the_server_words_them() {
    for (text, message, position) in [
        ("SELEC 1", "syntax error at or near \"SELEC\"", 1),
        ("SELECT FROM FROM x", "syntax error at or near \"FROM\"", 13),
        ("SELECT 1 FROM", "syntax error at end of input", 14),
        ("SELECT (1", "syntax error at end of input", 10),
        ("SELECT 1)", "syntax error at or near \")\"", 9),
        ("SELECT 'abc", "unterminated quoted string at or near \"'abc\"", 8),
        ("SELECT \"abc", "unterminated quoted identifier at or near \"\"abc\"", 8),
        ("SELECT /* abc", "unterminated /* comment at or near \"/* abc\"", 8),
        ("SELECT $$abc", "unterminated dollar-quoted string at or near \"$$abc\"", 8),
        ("INSERT INTO", "syntax error at end of input", 12),
        ("INSERT t VALUES (1)", "syntax error at or near \"t\"", 8),
        ("UPDATE t WHERE a = 1", "syntax error at or near \"WHERE\"", 10),
        ("DELETE t", "syntax error at or near \"t\"", 8),
        ("SELECT * FROM t WHERE", "syntax error at end of input", 22),
        ("SELECT a b c", "syntax error at or near \"c\"", 12),
        ("CREATE TABLE t (a int,)", "syntax error at or near \")\"", 23),
        ("SELECT 'é', x y z", "syntax error at or near \"z\"", 17),
        ("  SELECT 1;\n SELECT 2 FRM t u", "syntax error at or near \"t\"", 27),
        ("SELECT 1 +", "syntax error at end of input", 11),
        ("SELECT * FROM t ORDER a", "syntax error at or near \"a\"", 23),
        ("DROP TABL t", "syntax error at or near \"TABL\"", 6),
        ("SELECT 1 = = 2", "syntax error at or near \"=\"", 12),
        ("GRANT x", "syntax error at end of input", 8),
        ("SELECT 'a' 'b'", "syntax error at or near \"'b'\"", 12),
        ("SELECT NOT", "syntax error at end of input", 11),
        ("BEGIN; SELEC; COMMIT", "syntax error at or near \"SELEC\"", 8),
        ("SELECT \"\"", "zero-length delimited identifier at or near \"\"\"\"", 8),
        ("weir_denied_x", "syntax error at or near \"weir_denied_x\"", 1),
        ("SELECT a FROM b JOIN c WHERE x", "syntax error at or near \"WHERE\"", 24),
        ("VALUES", "syntax error at end of input", 7),
        ("SELECT CASE WHEN 1 THEN 2", "syntax error at end of input", 26),
        ("😀 SELECT 1", "syntax error at or near \"😀\"", 1),
        ("SELECT 1 😀😀 x y", "syntax error at or near \"x\"", 13),
    ] {
        let expected = Unreadable::Syntax { message: message.to_owned(), position: Some(position) };
        assert_eq!(read(text, &declared()).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    assert_eq!(read("SELECT 1\0; DROP TABLE x", &declared()), Err(Unreadable::Internal));
    // An escape that makes no UTF-8, and one that makes a NUL.
    for text in [r"SELECT E'\xff'", r"SELECT E'\000'", r#"SELECT U&"\D800""#] {
        assert!(read(text, &declared()).is_err(), "{text}");
    }
}

const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "customers",
    "ssn",
    "email",
    "id",
    "*",
    "(",
    ")",
    ",",
    ".",
    "c",
    "AS",
    "JOIN",
    "USING",
    "ON",
    "WHERE",
    "=",
    "||",
    "::text",
    "WITH",
    "RECURSIVE",
    "x",
    "UNION",
    "ALL",
    "ORDER BY",
    "GROUP BY",
    "1",
    "'a'",
    "INSERT INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE FROM",
    "RETURNING",
    "EXPLAIN",
    "ANALYZE",
    "PREPARE",
    "EXECUTE",
    "DECLARE",
    "CURSOR FOR",
    "LATERAL",
    "f",
    "count",
    "OVER",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "EXISTS",
    "IN",
    "DISTINCT",
    "notes",
    "pg_class",
    ";",
    "LIMIT",
    "FOR UPDATE",
    "MERGE INTO",
    "CREATE",
    "TABLE",
    "VIEW",
    "DROP",
    "ROW",
    "ARRAY",
    "[",
    "]",
    "NATURAL",
    "INTO",
    "é",
    "$1",
    "JSON_OBJECT",
    "XMLELEMENT",
    "NAME",
    "CAST",
    "COPY",
    "TO",
    "STDOUT",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        let result = read(&text, &declared());
        let nul = text.contains('\0');
        prop_assert!(nul || !matches!(result, Err(Unreadable::Internal)), "{text}");
    }

    #[test]
    fn any_heap_of_words_is_answered(words in prop::collection::vec(prop::sample::select(WORDS), 0..30)) {
        let text = words.join(" ");
        prop_assert!(!matches!(read(&text, &declared()), Err(Unreadable::Internal)), "{text}");
    }

    #[test]
    fn a_known_statement_with_a_hole_or_a_double_is_answered(
        line in prop::sample::select(include_str!("hard.txt").lines().collect::<Vec<_>>()),
        from in 0usize..200, length in 0usize..30, double: bool,
    ) {
        let signs: Vec<char> = line.split_once(" | ").unwrap().1.chars().collect();
        let from = from.min(signs.len());
        let to = (from + length).min(signs.len());
        let rest = if double { from } else { to };
        let text: String = signs[..to].iter().chain(&signs[rest..]).collect();
        prop_assert!(!matches!(read(&text, &declared()), Err(Unreadable::Internal)), "{text}");
    }

    /// Whatever expression a classified column stands in, the statement is refused.
    #[test]
    fn no_expression_hides_a_classified_column(layers in prop::collection::vec(0usize..12, 1..6)) {
        let mut expression = "ssn".to_owned();
        for layer in &layers {
            expression = match layer {
                0 => format!("upper({expression})"),
                1 => format!("({expression} || 'x')"),
                2 => format!("coalesce({expression}, 'x')"),
                3 => format!("CASE WHEN true THEN {expression} END"),
                4 => format!("(SELECT {expression})"),
                5 => format!("ARRAY[{expression}]"),
                6 => format!("({expression})::text"),
                7 => format!("max({expression}) OVER (ORDER BY id)"),
                8 => format!("ROW({expression}, 1)"),
                9 => format!("nullif({expression}, 'x')"),
                10 => format!("(ARRAY[{expression}])[1]"),
                _ => format!("greatest({expression}, 'a')"),
            };
        }
        for text in [
            format!("SELECT {expression} FROM customers"),
            format!("SELECT id FROM customers WHERE {expression} IS NOT NULL"),
            format!("SELECT z FROM (SELECT {expression} AS z FROM customers) q"),
            format!("WITH w AS (SELECT * FROM customers) SELECT id FROM w ORDER BY {expression}"),
            format!("UPDATE notes SET body = {expression} FROM customers"),
        ] {
            prop_assert!(refused_to(&one(&text), &class("pii.ssn")), "{text}");
        }
    }
}
