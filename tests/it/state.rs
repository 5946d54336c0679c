//! State in a PostgreSQL that gateways share: who sees whose rows, who closes them, and what stops
//! the start.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::parts;
use crate::postgres::straight;

const PASSWORD: &str = "planted-p%40ss-word";

/// The database `name`, new, with an owner of its own; its port.
fn database(name: &str) -> u64 {
    let demo = Demo::shared();
    let password = PASSWORD.replace("%40", "@");
    straight(demo, &format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"));
    straight(demo, &format!("CREATE DATABASE {name} OWNER {name}"));
    demo.ready.pointer("/direct/postgres/port").unwrap().as_u64().unwrap()
}

/// The URL of the database `name`, new, for [`prepared`].
pub(crate) fn url(name: &str) -> String {
    let port = database(name);
    format!("postgres://{name}:{PASSWORD}@localhost:{port}/{name}?sslrootcert=@CA@")
}

/// A gateway with an id of its own and this URL of a state database, `@CA@` replaced.
pub(crate) fn prepared(id: &str, url: &str) -> Prepared {
    let mut prepared = Prepared::new();
    let ca = prepared.path("upstream-ca.pem");
    fs::write(prepared.path("state.url"), url.replace("@CA@", ca.to_str().unwrap())).unwrap();
    prepared.change("id = \"weir-demo\"", &format!("id = \"{id}\""));
    prepared.config.push_str("\n[state]\ndatabase = { file = \"state.url\" }\n");
    prepared
}

/// People's sessions as a gateway lists them: gateway, principal, and how each ended.
fn sessions(gateway: &Gateway) -> Vec<(String, String, Option<String>)> {
    let Value::Array(rows) = gateway.weir_json("dana", &["sessions", "ls"]) else { panic!() };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let row = |row: &Value| {
        (text(&row["gateway"]).unwrap(), text(&row["principal"]).unwrap(), text(&row["reason"]))
    };
    let mut all = rows.iter().map(row).filter(|row| row.1 != "gateway").collect::<Vec<_>>();
    all.sort();
    all
}

fn row(gateway: &str, who: &str, reason: Option<&str>) -> (String, String, Option<String>) {
    (gateway.to_owned(), who.to_owned(), reason.map(str::to_owned))
}

#[test]
fn gateways_that_share_a_database_see_each_others_sessions_and_close_only_their_own() {
    let url = url("state_shared");
    let mut one = prepared("weir-1", &url).start();
    let mut two = prepared("weir-2", &url).start();
    assert!(!one.path("state/state.db").exists(), "there is no second truth");
    let _alice = one.live("alice");
    let _olaf = two.live("olaf");
    let live = [row("weir-1", "alice", None), row("weir-2", "olaf", None)];
    wait_for("both sessions at the first", || (sessions(&one) == live).then_some(()));
    wait_for("both sessions at the second", || (sessions(&two) == live).then_some(()));
    // Killed, the first can close nothing; the second leaves its row alone.
    one.kill();
    assert_eq!(sessions(&two), live);
    one.start();
    let closed = [row("weir-1", "alice", Some("unclean")), row("weir-2", "olaf", None)];
    wait_for("the end of the first's own session", || (sessions(&one) == closed).then_some(()));
    assert_eq!(sessions(&two), closed);
    assert_eq!(one.log_lines("an earlier run did not end in order").len(), 1);
    assert!(two.log_lines("an earlier run did not end in order").is_empty());
    for gateway in [&mut one, &mut two] {
        assert!(gateway.lives());
        assert!(!gateway.log().contains("planted"), "{}", gateway.log());
    }
}

#[test]
fn a_database_that_cannot_be_had_stops_the_start_and_no_password_is_shown() {
    let port = database("state_refused");
    let at =
        |user: &str, more: &str| format!("postgres://{user}@localhost:{port}/state_refused?{more}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let whole = format!("state_refused:{PASSWORD}");
    let cases = [
        // A wrong password.
        (at("state_refused:planted", "sslrootcert=@CA@"), "state_refused at localhost"),
        // An authority that did not sign the server's certificate.
        (at(&whole, "sslmode=verify-full"), "state_refused at localhost"),
        // Without TLS, which this server refuses.
        (at(&whole, "sslmode=disable"), "state_refused at localhost"),
        (format!("postgres://{whole}@{nobody}/state"), "state at 127.0.0.1"),
        // What stands elsewhere: it holds what people asked.
        ("postgres://weir:planted@192.0.2.7/state?sslrootcert=@CA@".to_owned(), "192.0.2.7"),
        // What says too little about who is at the other end.
        (at(&whole, "sslmode=require"), "verify-full"),
        (format!("postgres://{whole}@db.internal/state?sslmode=disable"), "another machine"),
        (format!("postgres://{whole}/state"), "expected postgres://"),
    ];
    for (url, expected) in cases {
        let ran = prepared("weir-1", &url).fails();
        assert_eq!(ran.code, 2, "{url}: {ran:?}");
        assert!(ran.says(expected) && !ran.says("planted"), "{url}: {ran:?}");
    }
}

#[test]
fn check_lists_the_state_database_among_what_may_be_dialed() {
    let check = |prepared: &Prepared| {
        fs::write(prepared.path("weir.toml"), &prepared.config).unwrap();
        let mut weir = Command::new(parts::weir());
        Ran::of(&weir.arg("check").arg(prepared.path("weir.toml")).output().unwrap())
    };
    let url = format!("postgres://weir:{PASSWORD}@db-2.internal/weir?sslrootcert=@CA@");
    let prepared = prepared("weir-1", &url);
    let ran = check(&prepared);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.says("  state database: db-2.internal:5432\n"), "{ran:?}");
    // What the daemon would refuse, this does.
    let weak = url.replace("sslrootcert=@CA@", "sslmode=prefer");
    fs::write(prepared.path("state.url"), weak).unwrap();
    let weak = check(&prepared);
    assert_eq!(weak.code, 2);
    assert!(weak.says("weir.toml:") && weak.says("verify-full"), "{weak:?}");
    // The configuration may be for another machine.
    fs::remove_file(prepared.path("state.url")).unwrap();
    let gone = check(&prepared);
    assert_eq!(gone.code, 0);
    assert!(gone.says("state database: the server that the file"), "{gone:?}");
    assert!(![ran, weak, gone].iter().any(|ran| ran.says("planted")));
}
