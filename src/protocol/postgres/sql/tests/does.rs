//! Effects, objects, kinds.

use super::*;
use crate::protocol::postgres::sql::Kind;

fn words(text: &str) -> String {
    let statement = one(text);
    statement.effects.iter().map(|effect| effect.as_str()).collect::<Vec<_>>().join(" ")
}

fn objects(text: &str) -> String {
    let statement = one(text);
    let object = |object: &crate::model::Object| {
        format!("{} {} {}", object.effect, object.kind, object.name)
    };
    statement.objects.iter().map(object).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_statement_says_what_it_does() {
    let mut wrong = Vec::new();
    for (text, expected) in [
        ("SELECT 1", "read"),
        ("VALUES (1)", "read"),
        ("SELECT upper(a), count(*) FROM t", "read"),
        ("SELECT a FROM t FOR UPDATE", "read"),
        ("SELECT f(1)", "read execute"),
        ("SELECT <%> 1", "read execute"),
        ("SELECT nextval('s')", "read write"),
        ("SELECT set_config('my.x', 'y', false)", "read session"),
        ("SELECT pg_terminate_backend(1)", "read execute server"),
        ("SELECT pg_read_file('/etc/passwd')", "read execute export"),
        ("SELECT lo_unlink(1)", "read delete"),
        ("SELECT query_to_xml('x', true, true, '')", "read execute opaque"),
        ("SELECT * FROM dblink('', '') AS t(a int)", "read execute export"),
        ("SELECT a INTO t2 FROM t", "read write define"),
        ("INSERT INTO t VALUES (1)", "write"),
        ("INSERT INTO t SELECT * FROM u", "read write"),
        ("INSERT INTO t VALUES (1) RETURNING a", "read write"),
        ("UPDATE t SET a = 1 WHERE b = 2", "write"),
        ("DELETE FROM t WHERE a = 1", "delete"),
        ("DELETE FROM t", "delete destroy"),
        ("DELETE FROM t WHERE true", "delete destroy"),
        ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "read write delete"),
        ("TRUNCATE t, u CASCADE", "delete destroy"),
        ("WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x", "read delete destroy"),
        (
            "SELECT (WITH x AS (SELECT 1) SELECT * FROM x WHERE EXISTS (SELECT f(1)))",
            "read execute",
        ),
        ("EXPLAIN DELETE FROM t", "read"),
        ("EXPLAIN ANALYZE DELETE FROM t", "read delete destroy"),
        ("EXPLAIN (ANALYZE false) DELETE FROM t", "read"),
        ("EXPLAIN (ANALYZE 1) INSERT INTO t VALUES (1)", "read write"),
        ("PREPARE p AS DELETE FROM t WHERE a = $1", "delete session"),
        ("EXECUTE p(f(1))", "execute"),
        ("DECLARE c CURSOR FOR SELECT * FROM t", "read session"),
        ("DO $$ begin end $$", "execute opaque"),
        ("CALL f(1)", "execute"),
        ("COPY t TO STDOUT", "read export"),
        (
            "COPY (DELETE FROM t RETURNING *) TO PROGRAM 'x'",
            "read delete execute export destroy server",
        ),
        ("COPY t FROM STDIN", "write"),
        ("CREATE TABLE t (a int DEFAULT f(1))", "define"),
        ("CREATE TABLE t AS SELECT * FROM u", "read write define"),
        ("CREATE TABLE t AS EXECUTE p", "write define execute"),
        ("CREATE VIEW v AS SELECT * FROM u", "read define"),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM u", "read write define"),
        ("CREATE RULE r AS ON INSERT TO t DO INSTEAD DELETE FROM u", "delete define destroy"),
        ("CREATE SCHEMA s CREATE TABLE t (a int) GRANT SELECT ON t TO x", "define grant"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "define execute opaque"),
        ("CREATE FUNCTION f() RETURNS int RETURN 1", "define execute opaque"),
        ("CREATE TRIGGER x BEFORE UPDATE ON t EXECUTE FUNCTION f()", "define execute"),
        ("CREATE INDEX ON t (f(a))", "define execute"),
        ("CREATE EXTENSION dblink", "define execute opaque"),
        ("CREATE TYPE c AS ENUM ('a')", "define"),
        ("CREATE SERVER s FOREIGN DATA WRAPPER w", "define export"),
        ("CREATE FOREIGN TABLE f (a int) SERVER s", "opaque"),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p", "define export"),
        ("DROP TABLE t", "define destroy"),
        ("DROP SCHEMA s", "define destroy"),
        ("DROP DATABASE d", "define destroy server"),
        ("DROP INDEX i", "define"),
        ("DROP FUNCTION f CASCADE", "define destroy"),
        ("ALTER TABLE t ADD COLUMN a int", "define"),
        ("ALTER TABLE t DROP COLUMN a", "define destroy"),
        ("ALTER TABLE t OWNER TO x", "define grant"),
        ("ALTER TABLE t RENAME TO u", "define"),
        ("GRANT SELECT ON t TO x", "grant"),
        ("GRANT USAGE ON SCHEMA s TO x", "grant"),
        ("GRANT a TO b", "grant"),
        ("CREATE ROLE r", "grant"),
        ("ALTER ROLE r SET work_mem = 1", "grant server"),
        ("DROP OWNED BY x", "define grant destroy"),
        ("VACUUM t", "server"),
        ("ANALYZE", "server"),
        ("ALTER SYSTEM SET work_mem = 1", "server"),
        ("CHECKPOINT", "server"),
        ("REINDEX TABLE t", "server"),
        ("LOAD 'x'", "execute server"),
        ("LOCK TABLE t IN ACCESS SHARE MODE", "read"),
        ("LOCK TABLE t", "write"),
        ("NOTIFY c", "write"),
        ("LISTEN c", "session"),
        ("BEGIN", "transaction"),
        ("PREPARE TRANSACTION 'x'", "transaction"),
        ("SET work_mem = 1", "session"),
        ("SHOW ALL", "read"),
        ("DISCARD ALL", "session"),
        ("FETCH ALL FROM c", "read"),
        ("REFRESH MATERIALIZED VIEW v", "write"),
        ("COMMENT ON TABLE t IS 'x'", "define"),
        ("SELECT JSON_VALUE(jsonb '1', '$')", "read execute"),
        ("SELECT * FROM t TABLESAMPLE system (1), XMLTABLE('/a' PASSING x COLUMNS b int)", "read"),
    ] {
        wrong.extend((words(text) != expected).then(|| format!("{text}: {}", words(text))));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn objects_are_named_with_their_schema() {
    for (text, expected) in [
        (
            "SELECT * FROM a, s.b, pg_class",
            "read table pg_catalog.pg_class, read table public.a, read table s.b",
        ),
        ("SELECT * FROM \"A.b\"", "read table public.\"A.b\""),
        ("WITH x AS (SELECT * FROM t) SELECT * FROM x", "read table public.t"),
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", "read table public.t"),
        // A name in a WITH clause elsewhere does not hide the table here.
        ("SELECT * FROM t, LATERAL (WITH t AS (SELECT 1) SELECT 1) x", "read table public.t"),
        ("WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", ""),
        ("WITH x AS (SELECT 1) INSERT INTO x SELECT 1", "write table public.x"),
        ("SELECT f(1), s.g(2), upper('x')", "execute function public.f, execute function s.g"),
        ("DELETE FROM t USING u WHERE t.a = u.a", "delete table public.t, read table public.u"),
        (
            "DROP TABLE a, s.b",
            "define table public.a, define table s.b, destroy table public.a, destroy table s.b",
        ),
        ("DROP SCHEMA s", "define schema s, destroy schema s"),
        ("CREATE ROLE r", "grant role r"),
        ("SET TIME ZONE 'UTC'", "session setting timezone"),
        ("COMMENT ON COLUMN s.t.c IS 'x'", "define table s.t"),
        ("SELECT 1 FROM t FOR UPDATE OF t", "read table public.t"),
        ("CALL p(1)", "execute function public.p"),
    ] {
        let mut found: Vec<String> = objects(text).split(", ").map(str::to_owned).collect();
        found.sort();
        assert_eq!(found.join(", "), expected, "{text}");
    }
}

#[test]
fn facts_say_what_policies_ask() {
    let fact = |text: &str| {
        one(text).facts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(fact("DELETE FROM t"), ["where=no"]);
    assert_eq!(fact("UPDATE t SET a = 1"), ["where=no"]);
    assert_eq!(fact("UPDATE t SET a = 1 WHERE b"), Vec::<String>::new());
    assert_eq!(fact("WITH x AS (DELETE FROM t) SELECT 1"), ["where=no"]);
    assert_eq!(fact("EXPLAIN ANALYZE DELETE FROM t"), ["where=no"]);
    assert_eq!(fact("SELECT 1 FROM t FOR NO KEY UPDATE"), ["lock=update"]);
}

#[test]
fn the_session_learns_what_it_must_know() {
    for (text, expected) in [
        ("BEGIN", Kind::Begin),
        ("COMMIT AND CHAIN", Kind::Commit { chain: true }),
        ("END", Kind::Commit { chain: false }),
        ("ROLLBACK TO SAVEPOINT \"A\"", Kind::RollbackTo { name: "A".to_owned() }),
        ("DEALLOCATE ALL", Kind::Deallocate { name: None }),
        ("DEALLOCATE P", Kind::Deallocate { name: Some("p".to_owned()) }),
        ("CLOSE ALL", Kind::CloseCursor { name: None }),
        ("MOVE 5 IN c", Kind::Fetch { name: "c".to_owned() }),
        ("DISCARD ALL", Kind::Discard { all: true }),
        ("SHOW TimeZone", Kind::Show { name: "timezone".to_owned() }),
        ("RESET ALL", Kind::Reset { name: None }),
        (
            "SET LOCAL work_mem TO '4MB'",
            Kind::Set {
                name: Some("work_mem".to_owned()),
                value: Some("4MB".to_owned()),
                local: true,
            },
        ),
        (
            "EXECUTE p(f(1))",
            Kind::ExecutePrepared {
                name: "p".to_owned(),
                parameters: BTreeSet::from([crate::model::Effect::Execute]),
            },
        ),
    ] {
        assert_eq!(one(text).kind, expected, "{text}");
    }
    let Kind::DeclareCursor { hold, binary, inner, .. } =
        one("DECLARE c BINARY CURSOR WITH HOLD FOR SELECT 1").kind
    else {
        panic!()
    };
    assert!(hold && binary);
    assert_eq!(inner.kind, Kind::Query);
    assert!(matches!(one("EXPLAIN ANALYZE SELECT 1").kind, Kind::Explain { analyze: true, .. }));
}

#[test]
fn forced_settings_cannot_be_changed_in_any_way() {
    for text in [
        "SET search_path = x",
        "SET LOCAL search_path TO x, public",
        "SET SCHEMA 'x'",
        "SET NAMES 'SJIS'",
        "SET client_encoding TO 'LATIN1'",
        "SET standard_conforming_strings = off",
        "SET ROLE admin",
        "SET ROLE NONE",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION x",
        "RESET SESSION AUTHORIZATION",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET search_path FROM CURRENT",
        "SET log_statement = 'all'",
        "SET client_min_messages = debug5",
        "SET debug_print_plan = on",
        "SELECT set_config('search_path', 'x', false)",
        "SELECT set_config($1, 'x', false)",
        "SELECT 1 FROM (SELECT pg_catalog.set_config('role', 'x', true)) q",
        "ALTER ROLE x SET search_path = y",
        "ALTER ROLE x RESET ALL",
        "ALTER DATABASE d SET role = y",
        "ALTER SYSTEM SET log_statement = 'all'",
        "UPDATE pg_settings SET setting = 'x' WHERE name = 'role'",
        "PREPARE p AS SELECT set_config('role', 'x', true)",
        "EXPLAIN SELECT set_config('role', 'x', true)",
        "COPY t TO STDOUT",
    ] {
        assert!(one(text).unsupported.is_some(), "{text}");
    }
    for text in [
        "SET search_path = public",
        "SET NAMES 'UTF8'",
        "RESET search_path",
        "SET search_path TO DEFAULT",
        "RESET ALL",
        "DISCARD ALL",
        "SET datestyle = 'ISO'",
        "SELECT set_config('my.x', 'y', false)",
        "ALTER ROLE x SET work_mem = 1",
    ] {
        assert_eq!(one(text).unsupported, None, "{text}");
    }
}

#[test]
fn statements_of_a_string_are_told_apart() {
    let text = " SELECT 1 ; /* c */ DELETE FROM t;; ";
    let found = statements(text);
    assert_eq!(found.len(), 2);
    assert_eq!(text.get(found[0].text_range.clone()), Some("SELECT 1"));
    assert!(text.get(found[1].text_range.clone()).unwrap().ends_with("DELETE FROM t"));
    assert!(statements("").is_empty());
    assert!(statements(" ; -- nothing").is_empty());
}
