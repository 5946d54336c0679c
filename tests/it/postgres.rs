//! PostgreSQL through the gateway as its users meet it: psql, pgbench, and a client that sends
//! exactly what it is told to.

use std::collections::HashMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::holds::Other;
use crate::parts;
use crate::wire;
use crate::wire::Wire;

/// psql straight to the target, as the owner of its tables or the superuser.
pub(crate) fn direct(demo: &Demo, superuser: bool) -> Command {
    let at = |name: &str| demo.text(&format!("/direct/postgres/{name}")).to_owned();
    let port = demo.ready.pointer("/direct/postgres/port").unwrap();
    let (user, password) = if superuser {
        (at("user"), read(at("password_file")))
    } else {
        (at("login"), read(at("login_password_file")))
    };
    let mut psql = Command::new(parts::program("psql"));
    psql.arg(format!("host=127.0.0.1 port={port} dbname=customers user={user} sslmode=require"));
    psql.args(["-X", "-v", "VERBOSITY=verbose"]).env("PGPASSWORD", password.trim());
    psql.stdin(Stdio::null());
    psql
}

/// What one statement gives straight from the target.
pub(crate) fn straight(demo: &Demo, text: &str) -> String {
    let ran = Ran::of(&direct(demo, true).args(["-A", "-t", "-c", text]).output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out.trim().to_owned()
}

/// Runs a script in psql, so that it goes on after errors.
fn script(mut psql: Command, text: &str) -> Ran {
    let mut child =
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    finish(child)
}

#[test]
fn a_refusal_says_why_which_rules_and_what_would_help() {
    let ran = Demo::shared().psql("alice", &["DELETE FROM customers"]);
    assert_eq!(ran.code, 1);
    for needle in [
        "ERROR:  42501: this would remove every row at once",
        "DETAIL:  decided by: customers.no-mass-delete",
        "HINT:  add a WHERE clause",
    ] {
        assert!(ran.err.contains(needle), "{needle} is not in {}", ran.err);
    }
    assert!(!ran.err.contains("weir_denied_"), "the token is the server's: {}", ran.err);
}

#[test]
fn a_syntax_error_is_worded_as_postgresql_words_it() {
    let demo = Demo::shared();
    for text in ["SELECT 1 +", "SELEC 1", "SELECT 'open", "SELECT 'ä', FROM x"] {
        let ours = demo.psql("alice", &[text]).err;
        let theirs = Ran::of(&direct(demo, false).args(["-c", text]).output().unwrap()).err;
        let told = theirs.lines().filter(|line| !line.starts_with("LOCATION:"));
        assert_eq!(ours.lines().collect::<Vec<_>>(), told.collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn a_refusal_inside_a_block_aborts_it_as_any_error_would() {
    let demo = Demo::shared();
    let ran = script(
        demo.psql_at(demo.port(), "alice"),
        "BEGIN;\nINSERT INTO notes (body) VALUES ('in-a-block');\nDELETE FROM customers;\n\
         SELECT 'not reached';\nCOMMIT;\nSELECT 'still here';\n",
    );
    assert!(ran.err.contains("42501") && ran.err.contains("25P02"), "{}", ran.err);
    assert!(ran.out.contains("ROLLBACK") && ran.out.contains("still here"), "{}", ran.out);
    assert!(!ran.out.contains("COMMIT") && !ran.out.contains("not reached"), "{}", ran.out);
    assert_eq!(straight(demo, "SELECT count(*) FROM notes WHERE body = 'in-a-block'"), "0");
}

#[test]
fn earlier_commands_under_the_same_sync_are_undone() {
    let demo = Demo::shared();
    let mut wire = Wire::of(demo, "alice");
    let insert = |body: &str| {
        let text = format!("INSERT INTO notes (body) VALUES ('{body}')");
        [wire::parse("", &text), wire::bind("", "", false), wire::execute("", 0)].concat()
    };
    let denied =
        [wire::parse("", "DELETE FROM customers"), wire::bind("", "", false), wire::execute("", 0)];
    let pipeline = [insert("one-sync-a"), denied.concat(), insert("one-sync-b"), wire::sync()];
    let answers = wire.ask(&pipeline.concat());
    assert_eq!(wire::tags(&answers), "12CEZ");
    assert_eq!(wire::state_of(&answers), "42501");
    // In an explicit block, pipelined in one write.
    let block =
        ["BEGIN", "INSERT INTO notes (body) VALUES ('one-sync-c')", "DELETE FROM customers"];
    let block = block.map(wire::query).concat();
    wire.send(&[block, wire::query("COMMIT")].concat());
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.extend(wire.until('Z'));
    }
    assert_eq!(wire::tags(&answers), "CZCZEZCZ");
    assert_eq!(answers[6].1, b"ROLLBACK\0");
    // A string of a Query is one implicit transaction too.
    let answers = wire
        .ask(&wire::query("INSERT INTO notes (body) VALUES ('one-sync-d'); DELETE FROM customers"));
    assert_eq!(wire::state_of(&answers), "42501");
    assert_eq!(wire::tags(&wire.ask(&wire::query("SELECT 1"))), "TDCZ");
    assert_eq!(straight(demo, "SELECT count(*) FROM notes WHERE body LIKE 'one-sync-%'"), "0");
}

#[test]
fn a_name_means_what_the_server_will_take_it_to_mean() {
    let demo = Demo::shared();
    let mut wire = Wire::of(demo, "alice");
    let hold = "UPDATE customers SET city = 'lied to' WHERE id = 9";
    assert_eq!(wire::tags(&wire.ask(&[wire::parse("s", hold), wire::sync()].concat())), "1Z");
    // The server skips the second Parse, because the Execute before it fails.
    let trap = [
        wire::execute("nosuch", 0),
        wire::parse("s", "SELECT 'harmless'"),
        wire::sync(),
        wire::bind("", "s", false),
        wire::execute("", 0),
        wire::sync(),
    ];
    wire.send(&trap.concat());
    let first = wire.until('Z');
    assert_eq!(wire::state_of(&first), "34000");
    // What `s` means is the UPDATE: it is held, and canceled here.
    let notice = wire.until('N');
    assert!(wire::field(&notice.last().unwrap().1, 'M').starts_with("held as h-"));
    cancel(demo, &wire.key);
    let second = wire.until('Z');
    assert_eq!(wire::state_of(&second), "57014");
    assert_ne!(straight(demo, "SELECT city FROM customers WHERE id = 9"), "lied to");
    // A denied Parse leaves no statement, and the unnamed one goes with the next Query.
    let answers = wire.ask(&[wire::parse("d", "DELETE FROM customers"), wire::sync()].concat());
    assert_eq!(wire::state_of(&answers), "42501");
    let run = [wire::bind("", "d", false), wire::execute("", 0), wire::sync()].concat();
    assert!(["26000", "42501"].contains(&wire::state_of(&wire.ask(&run)).as_str()));
    wire.ask(&[wire::parse("", "SELECT 1"), wire::sync()].concat());
    wire.ask(&wire::query("SELECT 2"));
    let run = [wire::bind("", "", false), wire::execute("", 0), wire::sync()].concat();
    assert_eq!(wire::state_of(&wire.ask(&run)), "26000");
    // The server cuts names at 63 bytes, so that two could mean one.
    let long = "n".repeat(64);
    let answers = wire.ask(&[wire::parse(&long, "SELECT 1"), wire::sync()].concat());
    assert_eq!(wire::tags(&answers), "EZ");
}

fn cancel(demo: &Demo, key: &[u8]) {
    let mut stream = wire::plain(demo.port());
    stream.write_all(&[&[0, 0, 0, 16, 4, 210, 22, 46][..], key].concat()).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "a cancel is never answered");
}

#[test]
fn statements_are_run_again_and_portals_give_their_rows_in_parts() {
    let mut wire = Wire::of(Demo::shared(), "alice");
    let prepare = wire::parse("p", "SELECT email, id FROM customers ORDER BY id");
    let describe = wire::of('D', 'S', "p");
    assert_eq!(wire::tags(&wire.ask(&[prepare, describe, wire::sync()].concat())), "1tTZ");
    for binary in [false, true] {
        let parts = [
            wire::bind("c", "p", binary),
            wire::execute("c", 7),
            wire::execute("c", 7),
            wire::of('D', 'P', "c"),
            wire::execute("c", 0),
            wire::sync(),
        ];
        let answers = wire.ask(&parts.concat());
        let wanted = ["2", &"D".repeat(7), "s", &"D".repeat(7), "sT", &"D".repeat(6), "CZ"];
        assert_eq!(wire::tags(&answers), wanted.concat());
        assert!(wire::rows(&answers).iter().all(|cell| cell == "<masked:pii.email>"));
    }
    // Closed, it is gone.
    wire.ask(&[wire::of('C', 'S', "p"), wire::sync()].concat());
    let answers = wire.ask(&[wire::bind("", "p", false), wire::sync()].concat());
    assert_eq!(wire::state_of(&answers), "26000");
}

#[test]
fn what_is_refused_unasked_has_its_own_entry_and_number() {
    let demo = Demo::shared();
    let mut wire = Wire::of(demo, "alice");
    let long = "n".repeat(64);
    let denied = wire::parse("unasked_d", "DELETE FROM customers /* unasked */");
    for (asked, state) in [
        (wire::query("SELECT 'unasked'"), ""),
        ([wire::bind("", "unasked_b", false), wire::sync()].concat(), "26000"),
        ([wire::execute("unasked_e", 0), wire::sync()].concat(), "34000"),
        ([wire::of('D', 'S', "unasked_s"), wire::sync()].concat(), "26000"),
        ([wire::parse(&long, "SELECT 'unasked long'"), wire::sync()].concat(), "42622"),
        (wire::query("EXECUTE unasked_q"), "26000"),
        (wire::query("SELECT 'unasked mixed'; EXECUTE x"), "42501"),
        ([denied, wire::bind("", "unasked_d", false), wire::sync()].concat(), "42501"),
    ] {
        assert_eq!(wire::state_of(&wire.ask(&asked)), state, "{}", String::from_utf8_lossy(&asked));
    }
    let log = read(demo.text("/direct/postgres/log_file"));
    let entries = crate::demo::recorded(&demo.state);
    let of = |entry: &Value| {
        let event = &entry["event"];
        let command = &event["command"];
        let text = command["text"].as_str().filter(|text| text.contains("unasked"))?;
        Some((command["verb"].as_str()?.to_owned(), text.to_owned(), event.clone()))
    };
    let asked = entries.iter().filter_map(of).collect::<Vec<_>>();
    let verbs = asked.iter().map(|(verb, ..)| verb.as_str()).collect::<Vec<_>>();
    // What the server skips after a denial is no entry more.
    let all = ["query", "bind", "execute", "describe", "parse", "query", "query", "parse"];
    assert_eq!(verbs, all, "{asked:#?}");
    for (_, text, event) in &asked[1..] {
        assert_eq!(event["verdict"]["is"], "deny", "{text}");
        let token = format!("weir_denied_{}_", event["number"]);
        assert!(log.contains(&token), "{token} of {text}");
    }
}

#[test]
fn what_is_not_carried_is_refused_and_the_session_goes_on() {
    let mut wire = Wire::of(Demo::shared(), "alice");
    let function = [0, 0, 4, 210, 0, 0, 0, 0, 0, 0];
    for (asked, state) in [
        (wire::query("COPY notes TO STDOUT"), "42501"),
        (wire::query("COPY notes FROM STDIN"), "42501"),
        (wire::query("COPY notes TO PROGRAM 'cat'"), "42501"),
        (wire::message('F', &function), "42501"),
        (wire::query("SET search_path = pg_temp"), "42501"),
        (wire::query("SET ROLE postgres"), "42501"),
        (wire::query("SET SESSION AUTHORIZATION postgres"), "42501"),
        (wire::query("SET standard_conforming_strings = off"), "42501"),
        (wire::query("SET client_encoding = 'LATIN1'"), "42501"),
        (wire::query("SET NAMES 'SJIS'"), "42501"),
        (wire::query("SELECT set_config('search_path', 'x', false)"), "42501"),
        (wire::query("UPDATE pg_settings SET setting = 'x' WHERE name = 'role'"), "42501"),
        (wire::query("BEGIN; DECLARE c CURSOR FOR SELECT id FROM notes; FETCH c"), "42501"),
        (wire::query(""), ""),
        (wire::message('Q', b"SELECT '\xff'\0"), "22021"),
    ] {
        assert_eq!(wire::state_of(&wire.ask(&asked)), state, "{}", String::from_utf8_lossy(&asked));
    }
    assert_eq!(wire::rows(&wire.ask(&wire::query("SELECT 'alive'"))), ["alive"]);
}

#[test]
fn a_running_query_is_canceled_with_the_right_key_alone() {
    let demo = Demo::shared();
    let mut wire = Wire::of(demo, "olaf");
    let long = "SELECT count(*) FROM generate_series(1, 2000000000) /* to-cancel */";
    wire.send(&wire::query(long));
    wait_for("the query's start", || is_running(demo).then_some(()));
    let mut wrong = wire.key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    cancel(demo, &wrong);
    // A wrong key is not answered either, and nothing came of it.
    assert!(is_running(demo));
    let key = wire.key.clone();
    cancel(demo, &key);
    let answers = wire.until('Z');
    assert_eq!(wire::state_of(&answers), "57014");
    assert_eq!(wire::rows(&wire.ask(&wire::query("SELECT 'after'"))), ["after"]);
}

fn is_running(demo: &Demo) -> bool {
    let text = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                AND query LIKE '%to-' || 'cancel%'";
    straight(demo, text) == "1"
}

#[test]
fn a_startup_packet_is_taken_or_refused_whole() {
    let demo = Demo::shared();
    let refused = |pairs: &[(&str, &str)]| {
        let mut wire = Wire::encrypted(demo);
        wire.send(&wire::startup(pairs));
        let answers = wire.rest();
        assert_eq!(wire::tags(&answers), "E", "{pairs:?}");
        wire::field(&answers[0].1, 'M')
    };
    let with =
        |name, value| refused(&[("user", "alice"), ("database", "customers"), (name, value)]);
    assert!(with("options", "-c role=postgres").contains("`role`"));
    assert!(with("options", "--search-path=x").contains("search_path"));
    assert!(with("options", "-B 128").contains("option"));
    assert!(with("Search_Path", "x").to_lowercase().contains("search_path"));
    assert!(with("session_replication_role", "replica").contains("session_replication_role"));
    assert!(with("replication", "database").contains("replication"));
    assert!(with("client_encoding", "LATIN1").contains("client_encoding"));
    with("user", "dana");
    with("database", "customers");
    // The server would cut it at 63 bytes.
    let mut wire = Wire::encrypted(demo);
    let long = format!("customers/{}", "d".repeat(64));
    wire.send(&wire::startup(&[("user", "alice"), ("database", &long)]));
    assert_eq!(wire.read().unwrap().0, 'R');
    wire.send(&wire::message('p', &[demo.token("alice").as_bytes(), &[0]].concat()));
    assert_eq!(wire::tags(&wire.rest()), "E");
    refused(&[("database", "customers")]);
    // Another person's name with alice's token; somebody's database login.
    let mut psql = demo.psql_at(demo.port(), "dana");
    let ran = Ran::of(&psql.env("PGPASSWORD", demo.token("alice")).output().unwrap());
    assert!(ran.code == 2 && ran.err.contains("FATAL"), "{ran:?}");
    assert_eq!(demo.psql("alice", &["SELECT 1"]).out, "1\n");
}

#[test]
fn encryption_comes_before_anything_else() {
    let demo = Demo::shared();
    // A startup packet in the clear.
    let mut stream = wire::plain(demo.port());
    stream.write_all(&wire::startup(&[("user", "alice"), ("database", "customers")])).unwrap();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    assert!(told.first() == Some(&b'E') && wire::field(&told[5..], 'M').contains("TLS"));
    // GSSENCRequest is answered N, and the same connection goes on.
    let mut stream = wire::plain(demo.port());
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 48]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"N");
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    let mut wire = Wire::over(stream, demo);
    wire.send(&wire::startup(&[("user", "alice"), ("database", "customers")]));
    assert_eq!(wire.read().unwrap().0, 'R');
    // Bytes behind the SSLRequest could be an attacker's (CVE-2021-23222).
    let mut stream = wire::plain(demo.port());
    let early = wire::startup(&[("user", "alice")]);
    stream.write_all(&[&[0, 0, 0, 8, 4, 210, 22, 47][..], &early].concat()).unwrap();
    let mut told = Vec::new();
    let _reset = stream.read_to_end(&mut told);
    assert!(told.len() < 2 || told.starts_with(b"E"), "{told:?}");
}

#[test]
fn hostile_bytes_cost_their_connection_alone() {
    let demo = Demo::shared();
    let mut bystander = Wire::of(demo, "alice");
    for bytes in [
        &[0, 0, 0, 7, 0, 3, 0][..],
        &[0, 0, 0, 4, 0, 3, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        &[0, 0, 39, 17, 0, 3, 0, 0],
        &[0, 0, 0, 8, 0, 2, 0, 0],
        &[0, 0, 0, 16, 4, 210, 22, 46, 1],
        &[0; 64],
        &[0xff; 4096],
    ] {
        let mut stream = wire::plain(demo.port());
        stream.write_all(bytes).unwrap();
        let _gone = stream.shutdown(Shutdown::Write);
        let mut told = Vec::new();
        let _reset = stream.read_to_end(&mut told);
    }
    // After signing in: unknown types, lying lengths, broken bodies.
    for bytes in [
        &b"?\0\0\0\x04"[..],
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        b"Q\0\0\0\x05x",
        b"B\0\0\0\x06\0\0",
        b"P\0\0\0\x05\0",
        b"E\0\0\0\x05\0",
        b"D\0\0\0\x06?\0",
        b"p\0\0\0\x05\0",
    ] {
        let mut wire = Wire::of(demo, "alice");
        wire.send(bytes);
        let answers = wire.rest();
        assert!(wire::state_of(&answers).starts_with("08"), "{bytes:?}: {answers:?}");
    }
    assert_eq!(wire::rows(&bystander.ask(&wire::query("SELECT 'unharmed'"))), ["unharmed"]);
}

#[test]
fn psql_s_own_commands_work_where_something_is_masked() {
    let demo = Demo::shared();
    for (asked, told) in [
        ("\\d", "public|customers|table|weir_app"),
        ("\\dt", "public|notes|table|weir_app"),
        ("\\d customers", "\"customers_pkey\" PRIMARY KEY, btree (id)"),
        ("\\d+ orders", "FOREIGN KEY (customer_id) REFERENCES customers(id)"),
        ("\\d customer_codes", "code|text"),
        ("\\df", "public|customer_email|text|wanted integer|func"),
        ("\\l", "customers|weir_app|UTF8"),
        ("\\dn", "public|"),
        ("\\du", "weir_app"),
        ("\\conninfo", "as user \"alice\""),
        ("\\c customers", "You are now connected to database \"customers\" as user \"alice\""),
    ] {
        let mut psql = demo.psql_at(demo.port(), "alice");
        let ran = Ran::of(&psql.args(["-A", "-c", asked]).output().unwrap());
        let all = format!("{}{}", ran.out, ran.err);
        assert!(ran.code == 0 && all.contains(told), "{asked}: {all}");
    }
}

#[test]
fn whoever_may_see_everything_sees_what_the_server_says() {
    let demo = Demo::shared();
    let text = "SELECT * FROM customers WHERE id < 8 OR id > 10 ORDER BY id;\n\
        SELECT lower(email), length(national_id) FROM customers WHERE email LIKE 'f%';\n\
        SELECT * FROM customer_codes ORDER BY id;\n\
        TABLE orders;\nSELECT 1/0;\nSELECT nosuch FROM customers;\n\
        SELECT 'a' AS \"weird ' name\", NULL, '', 1.50::numeric, '{1,2}'::int[], now() > '2020-01-01';\n\
        SELECT;\n;\nBEGIN;\nSELECT email::int FROM customers WHERE id = 1;\nCOMMIT;\n\
        BEGIN;\nDECLARE c CURSOR FOR SELECT email FROM customers ORDER BY id;\nFETCH 2 FROM c;\n\
        MOVE 3 FROM c;\nFETCH 1 FROM c;\nROLLBACK;\n\
        PREPARE p AS SELECT name FROM customers WHERE id = $1;\nEXECUTE p(2);\nDEALLOCATE p;\n\
        SHOW server_version;\nEXPLAIN (COSTS OFF) SELECT * FROM customers WHERE id = 1;\n\
        SELECT 1 AS a\\; SELECT 2 AS b;\n\\d customers\nSELECT 1 +;\n\\gdesc\n";
    let through = script(demo.psql_at(demo.port(), "olaf"), text);
    let straight = script(direct(demo, false), text);
    assert_eq!(through.out, straight.out);
    // LOCATION is of the server's source; the gateway words what it cannot read itself.
    let plain = |err: &str| {
        err.lines().filter(|l| !l.starts_with("LOCATION")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(plain(&through.err), plain(&straight.err));
}

/// Every statement that reached the target, from its log, by text.
fn logged(demo: &Demo, needle: &str) -> HashMap<String, usize> {
    let mut all = HashMap::new();
    let log = read(demo.text("/direct/postgres/log_file"));
    for line in log.lines().filter(|line| line.contains(needle)) {
        let text = line
            .split_once("statement: ")
            .or_else(|| line.split_once("execute ").and_then(|(_, rest)| rest.split_once(": ")));
        if let Some((_, text)) = text {
            *all.entry(text.trim_end().to_owned()).or_default() += 1;
        }
    }
    all
}

/// Every allowed command of a trail, by text.
fn recorded(demo: &Demo, needle: &str) -> HashMap<String, usize> {
    let mut all = HashMap::new();
    for entry in crate::demo::recorded(&demo.state) {
        let event = &entry["event"];
        if event["is"] == "command" && event["command"]["verb"] == "query" {
            let text = event["command"]["text"].as_str().unwrap();
            if text.contains(needle) {
                *all.entry(text.to_owned()).or_default() += 1;
            }
        }
    }
    all
}

#[test]
fn a_killed_gateway_has_recorded_every_statement_that_the_target_ran() {
    let demo = Demo::start(&[]);
    let script = demo.state.join("burst.sql");
    std::fs::write(
        &script,
        "\\set n random(1, 1000000000)\nSELECT :n AS burst, count(*) FROM orders;\n",
    )
    .unwrap();
    let mut children = ["simple", "prepared"].map(|protocol| {
        let mut bench = pgbench(&demo, "alice");
        bench.args(["-n", "-M", protocol, "-c", "2", "-t", "100000", "-f"]).arg(&script);
        bench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    });
    let many = |all: &HashMap<String, usize>| all.values().sum::<usize>() > 400;
    wait_for("a few hundred statements", || many(&logged(&demo, " AS burst")).then_some(()));
    let pid = demo.pid().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    for child in &mut children {
        child.wait().unwrap();
    }
    let ran = logged(&demo, " AS burst");
    let kept = recorded(&demo, " AS burst");
    let missing = ran.iter().filter(|(text, count)| kept.get(*text).unwrap_or(&0) < count);
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<(&String, &usize)>::new());
}

fn pgbench(demo: &Demo, person: &str) -> Command {
    let mut bench = Command::new(parts::program("pgbench"));
    bench.env("PGPASSWORD", demo.token(person)).env("PGSSLROOTCERT", demo.ca_file());
    bench.env("PGHOST", "localhost").env("PGHOSTADDR", "127.0.0.1").env("PGSSLMODE", "verify-full");
    bench.env("PGPORT", demo.port().to_string()).env("PGUSER", person);
    bench.env("PGDATABASE", "customers").stdin(Stdio::null());
    bench
}

#[test]
fn pgbench_runs_without_an_error() {
    let demo = Demo::start(&[]);
    let fill = "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, \
                filler char(84)); CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, \
                filler char(88)); CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, \
                tbalance int, filler char(84)); INSERT INTO pgbench_branches VALUES (1, 0, ''); \
                INSERT INTO pgbench_accounts SELECT n, 1, 0, '' FROM generate_series(1, 100000) n; \
                GRANT ALL ON ALL TABLES IN SCHEMA public TO weir_app";
    straight(&demo, fill);
    for (person, protocol) in [("olaf", "simple"), ("olaf", "extended"), ("dana", "prepared")] {
        let mut bench = pgbench(&demo, person);
        bench.args(["-S", "-n", "-s", "1", "-M", protocol, "-c", "4", "-t", "100"]);
        let ran = Ran::of(&bench.output().unwrap());
        assert_eq!(ran.code, 0, "{protocol}: {}", ran.err);
        assert!(ran.out.contains("processed: 400/400"), "{}", ran.out);
    }
}

#[test]
fn a_dead_target_is_named_as_the_side_that_failed() {
    // The demo ends with its servers; the other gateway stays.
    let demo = Demo::start(&[]);
    let other = Other::start(&demo, "");
    let mut psql = demo.psql_at(other.port, "alice");
    let mut child =
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"SELECT 'first';\n").unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("first") {
        assert_ne!(told.read_line(&mut line).unwrap(), 0, "{line}");
    }
    let dir = demo.text("/direct/postgres/socket_dir").to_owned();
    let pid = postmaster(&demo, &dir);
    assert!(Command::new("kill").args(["-QUIT", &pid]).status().unwrap().success());
    // Its input ends at the end of this: what it is told is read before.
    wait_for("the target's end", || {
        let ran =
            Ran::of(&demo.psql_at(other.port, "alice").args(["-c", "SELECT 1"]).output().unwrap());
        assert!(ran.code == 2 && ran.err.contains("FATAL"), "{ran:?}");
        ran.err.contains("target").then_some(())
    });
    let _ended = input.write_all(b"SELECT 'second';\n");
    drop(input);
    let ran = finish(child);
    assert!(ran.code != 0 && ran.err.contains("FATAL"), "{ran:?}");
}

fn postmaster(demo: &Demo, socket_dir: &str) -> String {
    let port = demo.ready.pointer("/direct/postgres/port").unwrap();
    let lock = std::path::Path::new(socket_dir).join(format!(".s.PGSQL.{port}.lock"));
    read(lock).lines().next().unwrap().to_owned()
}
