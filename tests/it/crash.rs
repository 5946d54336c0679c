//! kill -9 at any moment, under load: what the target ran is on record, always.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::demo::Demo;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::parts;

/// How often the gateway is killed, unless WEIR_KILLS says otherwise (`make test-long`: 300).
const KILLS: u32 = 8;

/// Statements of a round in PostgreSQL's own log, from a byte of it on, by text.
fn ran(log: &Path, from: u64, marker: &str) -> BTreeMap<String, usize> {
    let mut file = File::open(log).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).read_to_end(&mut bytes).unwrap();
    let mut all = BTreeMap::new();
    for line in String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(marker)) {
        let text = line
            .split_once("statement: ")
            .or_else(|| line.split_once("execute ").and_then(|(_, rest)| rest.split_once(": ")));
        if let Some((_, text)) = text {
            *all.entry(text.trim_end().to_owned()).or_default() += 1;
        }
    }
    all
}

/// Statements of a round that were allowed and recorded, by text.
fn kept(state: &Path, marker: &str) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    // What the crash left in the spool, opened with the region's key.
    let mut weir = Command::new(parts::weir());
    weir.args(["audit", "read"]).arg(state.join("spool"));
    let read = weir.arg("--wrapping-key").arg(state.join("wrapping.key")).output().unwrap();
    for line in String::from_utf8(read.stdout).unwrap().lines() {
        let entry = serde_json::from_str::<serde_json::Value>(line).unwrap();
        let event = &entry["event"];
        let text = event["command"]["text"].as_str().unwrap_or_default();
        if event["is"] == "command" && event["command"]["verb"] == "query" && text.contains(marker)
        {
            *all.entry(text.to_owned()).or_default() += 1;
        }
    }
    all
}

fn pgbench(gateway: &Gateway, script: &Path, protocol: &str) -> Command {
    let demo = Demo::shared();
    let mut bench = parts::ending_with_us("KILL", &parts::program("pgbench"));
    bench.env("PGPASSWORD", demo.token("alice")).env("PGSSLROOTCERT", demo.ca_file());
    bench.env("PGHOST", "localhost").env("PGHOSTADDR", "127.0.0.1").env("PGSSLMODE", "verify-full");
    bench.env("PGPORT", gateway.port().to_string()).env("PGUSER", "alice");
    bench.env("PGDATABASE", "customers").stdin(Stdio::null());
    bench.args(["-n", "-M", protocol, "-c", "3", "-t", "1000000", "-f"]).arg(script);
    bench.stdout(Stdio::null()).stderr(Stdio::null());
    bench
}

#[test]
fn after_every_kill_each_statement_in_the_targets_log_has_its_record() {
    let rounds = parts::variable("WEIR_KILLS").map_or(KILLS, |n| n.parse().unwrap());
    let log = Path::new(Demo::shared().text("/direct/postgres/log_file")).to_owned();
    let mut prepared = Prepared::new();
    prepared.config.push_str("\n[audit]\nresult_bytes_max = 1024\n");
    let mut gateway = prepared.start();
    // Moments that look random and are the same in each run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..rounds {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let until = 20 + usize::try_from(state % 400).unwrap();
        let marker = format!("AS kill_{round}_of");
        let script = gateway.path("burst.sql");
        let text = format!("\\set n random(1, 1000000000)\nSELECT :n {marker};\n");
        std::fs::write(&script, text).unwrap();
        let from = std::fs::metadata(&log).unwrap().len();
        let protocol = ["simple", "extended", "prepared"][usize::try_from(round % 3).unwrap()];
        let mut bench = parts::spawn(pgbench(&gateway, &script, protocol));
        wait_for("statements of the round", || {
            (ran(&log, from, &marker).values().sum::<usize>() >= until).then_some(())
        });
        gateway.kill();
        bench.wait().unwrap();
        let kept = kept(&gateway.path("state"), &marker);
        let lost = ran(&log, from, &marker)
            .into_iter()
            .filter(|(text, times)| kept.get(text).unwrap_or(&0) < times)
            .collect::<Vec<_>>();
        assert_eq!(lost, [], "round {round}, {protocol}, of {} kept", kept.len());
        gateway.start();
        let verified = gateway.verify();
        assert_eq!(verified.code, 0, "round {round}: {verified:?}");
    }
    assert!(gateway.ledger().iter().any(|event| event["is"] == "trail-recovered"));
}
