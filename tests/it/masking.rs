//! What is hidden stays hidden, whatever way it is asked for: nothing of a planted e-mail or
//! national id is in any byte that alice's client gets, and nothing was changed on the way.

use crate::demo::Demo;
use crate::postgres::straight;
use crate::wire;
use crate::wire::Message;
use crate::wire::Wire;

/// Of the customer 1: what alice may not see.
const EMAIL: &str = "frieda.ackerbrot@example.com";
const NATIONAL_ID: &str = "DEMO-4815-0001";

/// Ways out: each gives a hidden value (or a bit of it), or destroys rows, on the direct way.
const WAYS_OUT: &str = include_str!("masking.sql");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap()
}

/// The forms in which a hidden value is looked for.
fn needles() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for secret in [EMAIL, NATIONAL_ID, "DEMO-4815", "frieda.ackerbrot", "4815"] {
        all.push(secret.to_owned());
        all.push(secret.to_uppercase());
        all.push(secret.chars().rev().collect());
        all.push(hex(secret.as_bytes()));
    }
    // `encode(email::bytea, 'base64')` at three offsets, its md5, its first signs as code points.
    for known in ["ZnJpZWRhLmFja2VyYnJvd", "JpZWRhLmFja2VyYnJvd", "mcmllZGEuYWNrZXJicm90"] {
        all.push(known.to_owned());
    }
    all.into_iter().map(String::into_bytes).collect()
}

fn leaks(seen: &[u8]) -> Option<String> {
    let found = needles().into_iter().find(|needle| memchr::memmem::find(seen, needle).is_some());
    found.map(|needle| String::from_utf8_lossy(&needle).into_owned())
}

/// What may have changed by something that got through.
fn everything(demo: &Demo) -> String {
    straight(
        demo,
        "SELECT md5(string_agg(c::text, ';' ORDER BY id)) FROM customers c WHERE id IN (1, 2); \
         SELECT count(*) FROM customers; SELECT count(*) FROM notes WHERE body ~ 'DEMO-|@example'; \
         SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class \
         WHERE relnamespace = 'public'::regnamespace OR relname LIKE 'z\\_%'",
    )
}

#[test]
fn alice_gets_masks_and_olaf_values() {
    let demo = Demo::shared();
    let text = ["SELECT email, national_id, name FROM customers WHERE id = 1"];
    let alice = demo.psql("alice", &text);
    assert_eq!(alice.out, "<masked:pii.email>|<masked:pii.national_id>|Frieda Ackerbrot\n");
    assert_eq!(demo.psql("olaf", &text).out, format!("{EMAIL}|{NATIONAL_ID}|Frieda Ackerbrot\n"));
}

/// Sends a text in one of the protocol's ways; everything up to its end.
fn send(wire: &mut Wire, text: &str, way: &str) -> Vec<Message> {
    match way {
        "simple" => wire.send(&wire::query(text)),
        "text" | "binary" => {
            let binary = way == "binary";
            let messages = [
                wire::parse("", text),
                wire::bind("", "", binary),
                wire::of('D', 'P', ""),
                wire::execute("", 0),
                wire::sync(),
            ];
            wire.send(&messages.concat());
        }
        // A named statement, without any Describe of the client's.
        _ => {
            let messages = [
                wire::parse("n", text),
                wire::bind("p", "n", false),
                wire::execute("p", 0),
                wire::of('C', 'S', "n"),
                wire::sync(),
            ];
            wire.send(&messages.concat());
        }
    }
    let mut answers = Vec::new();
    loop {
        let Some((tag, body)) = wire.read() else { return answers };
        // A hold: nobody approves it, and the client goes.
        let ends = tag == 'Z' || (tag == 'N' && wire::field(&body, 'M').starts_with("held as"));
        answers.push((tag, body));
        if ends {
            return answers;
        }
    }
}

#[test]
fn nothing_hidden_gets_out_by_any_way_of_asking() {
    let demo = Demo::shared();
    let (pid, before) = (demo.pid(), everything(demo));
    let texts = WAYS_OUT.lines().filter(|line| !line.is_empty() && !line.starts_with("--"));
    let texts = texts.collect::<Vec<_>>();
    assert!(texts.len() > 90, "{}", texts.len());
    let mut open = Vec::new();
    for way in ["simple", "text", "binary", "named"] {
        let mut wire = Wire::of(demo, "alice");
        for text in &texts {
            let answers = send(&mut wire, text, way);
            if let Some(leak) = leaks(&wire.seen) {
                open.push(format!("{way}: {text}: {leak}"));
            }
            // What computes with a hidden value is refused, and not only masked.
            let refused = answers.iter().any(|(tag, _)| *tag == 'E');
            let held = answers.iter().any(|(tag, _)| *tag == 'N');
            let masked = leaks(&wire.seen).is_none() && text.contains("/* masked */");
            if !refused && !held && !masked {
                open.push(format!("{way}: {text}: answered {}", wire::tags(&answers)));
            }
            wire.seen.clear();
            // A session of its own after whatever leaves state, holds or ends.
            if held || answers.last().is_none_or(|(tag, body)| *tag != 'Z' || body != b"I") {
                wire = Wire::of(demo, "alice");
            }
        }
    }
    assert!(open.is_empty(), "{}", open.join("\n"));
    assert_eq!(everything(demo), before);
    assert_eq!(demo.pid(), pid);
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_refusal_does_not_depend_on_the_guess() {
    let demo = Demo::shared();
    let mut wire = Wire::of(demo, "alice");
    for text in [
        "SELECT 1 FROM customers WHERE id = 1 AND national_id LIKE 'DEMO-{}%'",
        "SELECT EXISTS (SELECT FROM customers WHERE id = 1 AND starts_with(national_id, 'DEMO-{}'))",
        "SELECT count(*) FILTER (WHERE national_id ~ '^DEMO-{}') FROM customers WHERE id = 1",
        "INSERT INTO notes (body) SELECT 'x' FROM customers WHERE id = 1 AND national_id ^@ 'DEMO-{}'",
        "SELECT 1 FROM customers WHERE id = 1 AND position('DEMO-{}' in national_id) = 1 FOR UPDATE",
        "SELECT id FROM customers WHERE id = 1 ORDER BY national_id > 'DEMO-{}'",
        "SELECT 1 / (SELECT (national_id LIKE 'DEMO-{}%')::int FROM customers WHERE id = 1)",
        "UPDATE notes SET body = body WHERE (SELECT national_id FROM customers WHERE id = 1) < 'DEMO-{}'",
    ] {
        let mut told = ["4", "9"].map(|guess| {
            let answers = wire.ask(&wire::query(&text.replace("{}", guess)));
            assert_eq!(wire::state_of(&answers), "42501", "{text}");
            let error = answers.into_iter().find(|(tag, _)| *tag == 'E').unwrap().1;
            String::from_utf8_lossy(&error).replace(&format!("DEMO-{guess}"), "?")
        });
        told.sort();
        assert_eq!(told[0], told[1], "{text}");
    }
}

#[test]
fn forty_kilobytes_of_concatenation_end_in_an_answer() {
    let demo = Demo::shared();
    let pid = demo.pid();
    let mut wire = Wire::of(demo, "alice");
    let long = "||'a'".repeat(8_000);
    for text in [
        format!("SELECT 'a'{long}"),
        format!("SELECT email{long} FROM customers"),
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT {}1", "- ".repeat(20_000)),
        format!("SELECT {}", "NOT ".repeat(10_000) + "true"),
        format!("SELECT 1 WHERE {}true", "true AND ".repeat(5_000)),
        format!("{}SELECT 1", "SELECT 1 UNION ALL ".repeat(3_000)),
        format!("SELECT {}email FROM customers{}", "(SELECT ".repeat(3_000), ")".repeat(3_000)),
        format!("SELECT ARRAY{}{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("SELECT CASE{} END", " WHEN true THEN 1".repeat(4_000)),
        "EXPLAIN ".repeat(5_000) + "SELECT 1",
    ] {
        let answers = wire.ask(&wire::query(&text));
        assert_eq!(wire::tags(&answers).chars().last(), Some('Z'));
        assert_eq!(leaks(&wire.seen), None);
    }
    assert_eq!(wire::rows(&wire.ask(&wire::query("SELECT 'alive'"))), ["alive"]);
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_column_that_changed_its_meaning_is_not_believed() {
    // A driver keeps its prepared statement while somebody renames and adds columns.
    let demo = Demo::start(&[]);
    let mut wire = Wire::of(&demo, "alice");
    let text = "SELECT city FROM customers WHERE id = 1";
    let run = [wire::bind("", "s", false), wire::execute("", 0), wire::sync()].concat();
    wire.ask(&[wire::parse("s", text), wire::sync()].concat());
    assert_eq!(wire::rows(&wire.ask(&run)), ["Bremen"]);
    straight(
        &demo,
        "ALTER TABLE customers RENAME city TO town; ALTER TABLE customers RENAME email TO city",
    );
    wire.send(&run);
    while let Some((tag, _)) = wire.read() {
        if tag == 'Z' {
            break;
        }
    }
    assert_eq!(leaks(&wire.seen), None);
    let mut wire = Wire::of(&demo, "alice");
    for text in [text, "SELECT * FROM customers", "SELECT town, city FROM customers"] {
        wire.send(&wire::query(text));
        while let Some((tag, _)) = wire.read() {
            if tag == 'Z' {
                break;
            }
        }
        assert_eq!(leaks(&wire.seen), None, "{text}");
    }
}

#[test]
fn the_record_holds_what_the_client_saw_and_not_what_was_hidden() {
    let demo = Demo::shared();
    demo.psql("alice", &["SELECT * FROM customers WHERE id = 2 /* kept-masked */"]);
    let recorded = crate::demo::recorded(&demo.state);
    let asked = recorded.iter().find(|entry| entry.to_string().contains("kept-masked")).unwrap();
    let of_it = recorded.iter().filter(|entry| entry["session"] == asked["session"]);
    let text = of_it.map(ToString::to_string).collect::<String>();
    assert!(text.contains("kept-masked") && text.contains("Jonas Birkenfels"));
    assert!(!text.contains("jonas.birkenfels@") && !text.contains("DEMO-1623"));
}
