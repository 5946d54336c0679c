//! What happens when something breaks: the disk is full, the gateway is killed, a target is not
//! the one that was meant, a session is ended in its midst.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::gateway::Gateway;
use crate::gateway::Prepared;
use crate::parts;

fn is<'a>(events: &'a [Value], what: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["is"] == what).collect()
}

/// PostgreSQL's own log of statements.
fn statements() -> String {
    read(Demo::shared().text("/direct/postgres/log_file"))
}

/// What a client is told when the record cannot be written: a system error, and why.
fn refused_unrecorded(ran: &Ran) {
    assert_ne!(ran.code, 0, "{ran:?}");
    for word in ["cannot write its record", "nothing goes on unrecorded"] {
        assert!(ran.err.contains(word), "no {word}: {}", ran.err);
    }
    // Of a connection that fails psql shows no SQLSTATE.
    assert!(ran.err.contains("58030") || ran.err.contains("connection to server"), "{}", ran.err);
}

/// A file system of a size, mounted for as long as this lives.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, bytes: u64) -> Self {
        let size = format!("size={bytes}");
        let mut mount = Command::new(parts::program("mount"));
        let ran =
            Ran::of(&mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().unwrap());
        assert_eq!(ran.code, 0, "this test mounts a small file system and needs root: {}", ran.err);
        Self(at)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _gone = Command::new(parts::program("umount")).arg("-l").arg(self.0).status();
    }
}

/// Letters that cannot be compressed.
pub(crate) fn noise(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."
                [usize::try_from(state >> 58).unwrap()],
        )
    };
    (0..bytes).map(letter).collect()
}

/// Asks one statement after the other until one is refused; then no further one may reach the
/// target: what the gateway could not record, PostgreSQL's log does not have.
fn fills_up(gateway: &mut Gateway, marker: &str, filler_bytes: usize) {
    let mut alice = gateway.live("alice");
    let filler = noise(filler_bytes);
    let mut asked = 0_u32;
    let refused = wait_for("a refusal", || {
        asked += 1;
        alice.say(&format!("SELECT 'said' || ' {marker}_{asked}' /* {filler} */;"));
        let answered = || {
            let said = alice.said();
            let last = format!("said {marker}_{asked}\n");
            (said.contains(&last)
                || said.contains("ERROR")
                || said.contains("FATAL")
                || said.contains("closed"))
            .then_some(said)
        };
        let said = wait_for("an answer", answered);
        (!said.contains(&format!("said {marker}_{asked}\n"))).then_some(asked)
    });
    assert!(refused > 1, "the record had room for something");
    let ran = alice.finish();
    for word in ["58030", "nothing goes on unrecorded"] {
        assert!(
            ran.err.contains(word),
            "no {word}: {}",
            &ran.err[ran.err.len().saturating_sub(900)..]
        );
    }
    let log = statements();
    assert!(log.contains(&format!("{marker}_{}", refused - 1)), "the last recorded one ran");
    assert!(!log.contains(&format!("{marker}_{refused}'")), "the refused one ran");
    // What ran is on record.
    let texts =
        gateway.trails().iter().map(|e| e["command"]["text"].to_string()).collect::<String>();
    for number in 1..refused {
        assert!(texts.contains(&format!("{marker}_{number}'")), "{number} is not on record");
    }
    // A new session has no room either, and says so; the gateway lives.
    let again = gateway.psql("alice", &[&format!("SELECT 'again {marker} {filler}'")]);
    refused_unrecorded(&again);
    assert!(!statements().contains(&format!("again {marker}")));
    assert!(gateway.lives());
    assert!(!gateway.log_lines("could not be recorded").is_empty());
}

#[test]
fn on_a_full_disk_a_statement_is_refused_and_never_reaches_the_target() {
    let prepared = Prepared::new();
    let at = prepared.path("state");
    fs::create_dir(&at).unwrap();
    let mounted = Tmpfs::mount(&at, 2_000_000);
    let mut gateway = prepared.start();
    fills_up(&mut gateway, "full_disk", 60_000);
    // Where there is room again, work goes on.
    let mut mount = Command::new(parts::program("mount"));
    let ran = mount.args(["-o", "remount,size=20000000"]).arg(mounted.0).status().unwrap();
    assert!(ran.success());
    let ran = gateway.psql("alice", &["SELECT 'room again'"]);
    assert_eq!(ran.out.trim(), "room again", "{}", ran.err);
    assert_eq!(gateway.verify().code, 0, "{:?}", gateway.verify());
    // What the full disk cut off is not in the way of the next start.
    gateway.signal("TERM");
    assert!(gateway.ended().success());
    gateway.start();
    assert_eq!(gateway.psql("alice", &["SELECT 1"]).code, 0);
    assert_eq!(gateway.verify().code, 0, "{:?}", gateway.verify());
    gateway.kill();
}

#[test]
fn when_the_record_is_as_large_as_it_may_be_a_statement_is_refused() {
    let mut prepared = Prepared::new();
    // The store does not answer, so all stays here.
    fs::write(prepared.path("store.key"), "any").unwrap();
    prepared.config.push_str(
        "\n[audit]\nspool_bytes_max = 1048576\n[audit.store]\nurl = \"s3://recordings/eu\"\n\
         region = \"eu-central-1\"\nendpoint = \"http://127.0.0.1:1\"\n\
         access_key = { file = \"store.key\" }\n\
         secret_key = { file = \"store.key\" }\n",
    );
    let mut gateway = prepared.start();
    fills_up(&mut gateway, "full_spool", 60_000);
    assert_eq!(gateway.verify().code, 0, "{:?}", gateway.verify());
}

#[test]
fn kill_9_loses_no_record_of_a_statement_that_reached_the_target() {
    let mut gateway = Prepared::new().start();
    for round in 0..3 {
        let mut clients = (0..4)
            .map(|client| {
                let text = |n| format!("SELECT 'burst_{round}_{client}_{n}';");
                let texts = (0..400).map(text).collect::<Vec<_>>().join("\n");
                let file = gateway.path(&format!("burst_{round}_{client}.sql"));
                fs::write(&file, texts).unwrap();
                let mut psql = Demo::shared().psql_at(gateway.port(), "alice");
                psql.arg("-At").arg("-f").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
                psql.spawn().unwrap()
            })
            .collect::<Vec<_>>();
        wait_for("the burst", || {
            statements().contains(&format!("burst_{round}_2_20'")).then_some(())
        });
        gateway.kill();
        for client in &mut clients {
            let _status = client.wait().unwrap();
        }
        // What the target was asked, the trails have.
        let asked = statements();
        let recorded = gateway.trails();
        let recorded = recorded
            .iter()
            .filter_map(|event| event["command"]["text"].as_str())
            .collect::<std::collections::BTreeSet<_>>();
        let mut count = 0;
        for text in
            asked.split("SELECT '").filter(|text| text.starts_with(&format!("burst_{round}_")))
        {
            let name = text.split('\'').next().unwrap();
            assert!(
                recorded.contains(format!("SELECT '{name}'").as_str())
                    || recorded.contains(format!("SELECT '{name}';").as_str()),
                "{name} is not on record"
            );
            count += 1;
        }
        assert!(count > 20, "{count} statements ran");
        let sound = gateway.verify();
        assert_eq!(sound.code, 0, "{sound:?}");
        gateway.start();
        let ledger = gateway.ledger();
        assert!(!is(&ledger, "trail-recovered").is_empty());
        let sound = gateway.verify();
        assert_eq!(sound.code, 0, "{sound:?}");
    }
    // Every session that was cut is accounted for. One that was killed between the two files may
    // be known to the trails alone.
    let ledger = gateway.ledger();
    let ended = is(&ledger, "trail-recovered").len() + is(&ledger, "trail-closed").len();
    assert!(is(&ledger, "admitted").len() >= 12 && ended >= 12, "{ended}");
    assert_eq!(crate::demo::open_recordings(&gateway.path("state")), 0);
    assert_eq!(gateway.psql("alice", &["SELECT 1"]).code, 0);
}

#[test]
fn a_kill_ends_a_running_query_and_a_held_command_and_needs_the_right() {
    let demo = Demo::shared();
    let mut gateway = Prepared::new().start();
    let session_of = |gateway: &Gateway, principal: &str| {
        wait_for("the session", || {
            let all = gateway.weir_json("dana", &["sessions", "ls"]);
            let live = all
                .as_array()
                .unwrap()
                .iter()
                .find(|s| s["principal"] == principal && s["closed_at"].is_null());
            live.map(|session| session["session"].as_str().unwrap().to_owned())
        })
    };
    // A running query of dana's: alice may not end it, dana may.
    let mut bystander = gateway.live("olaf");
    let mut running = gateway.live("dana");
    running.say("SELECT pg_sleep(300) /* kill-me */;");
    wait_for("the query", || statements().contains("kill-me").then_some(()));
    let id = session_of(&gateway, "dana");
    let ran = gateway.weir("alice", &["sessions", "kill", &id]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(gateway.weir("dana", &["sessions", "kill", &id]).code, 0);
    let ran = running.finish();
    assert!(ran.err.contains("57P01") && ran.err.contains("ended by dana"), "{ran:?}");
    // The target does not go on with it.
    wait_for("the query's end", || {
        let direct = &demo.ready["direct"]["postgres"];
        let mut psql = Command::new(parts::program("psql"));
        psql.env("PGPASSWORD", read(direct["password_file"].as_str().unwrap()).trim());
        psql.args(["-At", "-h", "127.0.0.1", "-U", "postgres", "-d", "customers", "-p"]);
        psql.arg(direct["port"].to_string()).arg("-c");
        psql.arg("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%kill-me%' AND pid <> pg_backend_pid()");
        let ran = Ran::of(&psql.output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.err);
        (ran.out.trim() == "0").then_some(())
    });
    // A held command: it never runs.
    let mut waiter = gateway.live("alice");
    waiter.say("UPDATE customers SET city = 'Killed' WHERE id = 2;");
    let waiting = wait_for("the hold", || {
        gateway.weir_json("dana", &["requests"]).as_array().unwrap().first().cloned()
    });
    let id = session_of(&gateway, "alice");
    assert_eq!(gateway.weir("dana", &["sessions", "kill", &id]).code, 0);
    let ran = waiter.finish();
    assert!(ran.err.contains("ended by dana"), "{ran:?}");
    let hold = waiting["hold"].as_str().unwrap();
    assert_ne!(gateway.weir("dana", &["approve", hold]).code, 0, "it waits no longer");
    assert!(!statements().contains("'Killed'"));
    // Refusals and kills are in the ledger; whoever had no part in it goes on.
    let ledger = gateway.ledger();
    let kills =
        ledger.iter().filter(|e| e["is"] == "control" && e["action"] == "kill").collect::<Vec<_>>();
    assert_eq!(kills.len(), 3, "{kills:?}");
    assert!(kills[0]["refusal"].is_object() && kills[1]["refusal"].is_null());
    bystander.say("SELECT 'olaf ' || 'stays';");
    bystander.wait("olaf stays");
    assert!(gateway.lives());
}

#[test]
fn a_target_that_is_not_the_one_that_was_meant_is_not_reached_and_the_client_told() {
    let demo = Demo::shared();
    let refused = |prepared: Prepared, words: &[&str]| {
        let gateway = prepared.start();
        let ran = gateway.psql("alice", &["SELECT 'not reached'"]);
        assert!(ran.code != 0 && ran.out.is_empty(), "{ran:?}");
        for word in words {
            assert!(ran.err.contains(word), "no {word}: {}", ran.err);
        }
        gateway
    };
    let port = demo.ready["direct"]["postgres"]["port"].to_string();
    let address = format!("address = \"127.0.0.1:{port}\"");
    // An address outside the region's networks stops the start, where it is written.
    let elsewhere = "[regions.elsewhere]\ncountry = \"DE\"\nnetworks = [\"192.0.2.0/24\"]\n";
    let outside = || {
        let mut outside = Prepared::new();
        outside.config.push_str(elsewhere);
        let here = "[targets.customers]\nregion = \"eu-central\"";
        outside.change(here, "[targets.customers]\nregion = \"elsewhere\"");
        outside
    };
    let written = outside();
    let line = written.config.lines().position(|line| line == address).unwrap() + 1;
    let ran = written.fails();
    assert!(ran.code == 2 && ran.err.contains(&format!("weir.toml:{line}:")), "{}", ran.err);
    assert!(ran.err.contains("127.0.0.1") && ran.err.contains("elsewhere"), "{}", ran.err);
    // A name that resolves to such an address is refused whenever it is dialled.
    let mut resolved = outside();
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    resolved.change(&address, &format!("address = \"{}:{port}\"", name.trim()));
    let gateway = refused(resolved, &["region"]);
    let said = gateway.log_lines("region");
    assert!(said.iter().any(|line| line.to_string().contains("elsewhere")), "{}", gateway.log());
    drop(gateway);
    // A certificate by another CA.
    let stranger = Prepared::new();
    fs::copy(demo.ca_file(), stranger.path("upstream-ca.pem")).unwrap();
    let gateway = refused(stranger, &["the target could not be verified by TLS"]);
    assert!(gateway.log().contains("\"fault\":\"target\""), "{}", gateway.log());
    drop(gateway);
    // A dead one.
    let mut dead = Prepared::new();
    dead.change(&address, "address = \"127.0.0.1:1\"");
    drop(refused(dead, &["target"]));
    // An SSH host key that is another's.
    let mut other = Prepared::new();
    let key = other.path("other");
    let mut keygen = Command::new(parts::program("ssh-keygen"));
    assert!(
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap().success()
    );
    let public = read(key.with_extension("pub"));
    let public = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let start = other.config.find("host_keys = [\"").unwrap() + "host_keys = [\"".len();
    let end = start + other.config[start..].find('"').unwrap();
    other.config.replace_range(start..end, &public);
    let gateway = other.start();
    let child = ssh(&gateway, "uname");
    let ran = finish(child);
    assert!(ran.code != 0 && ran.err.contains("host key"), "{ran:?}");
    assert!(!ran.out.contains("Linux"));
}

/// `ssh` as alice, to run one command.
fn ssh(gateway: &Gateway, command: &str) -> std::process::Child {
    let demo = Demo::shared();
    let mut ssh = Command::new(parts::program("ssh"));
    ssh.args(["-p", &gateway.port().to_string(), "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "NumberOfPasswordPrompts=1"]);
    ssh.args(["-o", "PreferredAuthentications=keyboard-interactive", "deploy@web-1@127.0.0.1"]);
    ssh.arg(command);
    ssh.env("SSH_ASKPASS", demo.text("/people/alice/askpass")).env("SSH_ASKPASS_REQUIRE", "force");
    ssh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
