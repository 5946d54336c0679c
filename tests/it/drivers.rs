//! Drivers of other languages: they connect with the settings that everybody has, and see nothing
//! of the gateway but masks and errors of their own kinds.

use std::process::Command;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::parts;
use crate::postgres::straight;

fn run(demo: &Demo, mut program: Command, script: &str) {
    let script = parts::repository().join("tests/it/drivers").join(script);
    program.arg(script).env("PORT", demo.port().to_string()).env("CA", demo.ca_file());
    for person in ["alice", "olaf", "dana"] {
        program.env(person.to_uppercase(), demo.token(person));
    }
    let ran = Ran::of(&program.output().unwrap());
    assert!(ran.code == 0 && ran.out.ends_with("done\n"), "{}\n{}", ran.out, ran.err);
}

fn none_left(demo: &Demo, begin: &str) {
    let text = format!("SELECT count(*) FROM notes WHERE body LIKE '{begin}%'");
    assert_eq!(straight(demo, &text), "0");
}

#[test]
fn psycopg_works_and_maps_refusals_to_its_exceptions() {
    let demo = Demo::shared();
    run(demo, Command::new(parts::part("WEIR_PYTHON")), "psycopg_client.py");
    none_left(demo, "psycopg-");
}

#[test]
fn asyncpg_works_and_maps_refusals_to_its_exceptions() {
    let demo = Demo::shared();
    run(demo, Command::new(parts::part("WEIR_PYTHON")), "asyncpg_client.py");
    none_left(demo, "asyncpg-");
}

#[test]
fn node_postgres_works_and_gives_codes_and_hints() {
    let demo = Demo::shared();
    let mut node = Command::new(parts::part("WEIR_NODE"));
    node.env("NODE_PATH", parts::part("WEIR_DRIVERS_MODULES"));
    run(demo, node, "node_client.js");
    none_left(demo, "node-");
}

/// What node-postgres makes of binary values may be odd; it is as odd without the gateway.
#[test]
fn node_postgres_reads_the_same_through_the_gateway_as_without() {
    let demo = Demo::shared();
    let mut node = Command::new(parts::part("WEIR_NODE"));
    node.env("NODE_PATH", parts::part("WEIR_DRIVERS_MODULES"));
    let at = |name: &str| demo.text(&format!("/direct/postgres/{name}")).to_owned();
    let port = demo.ready.pointer("/direct/postgres/port").unwrap();
    node.env("DIRECT_PORT", port.to_string()).env("DIRECT_USER", at("login"));
    node.env("DIRECT_PASSWORD", crate::demo::read(at("login_password_file")).trim());
    run(demo, node, "node_binary.js");
}
