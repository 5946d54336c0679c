//! The ledger as events for a SIEM: nothing is lost by an outage or a restart, no text leaves, and
//! nothing goes outside of the region.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::demo::Demo;
use crate::demo::wait_for;
use crate::gateway::Prepared;

/// What a SIEM would be: it takes events by POST once it is `up`, and answers 503 before.
struct Siem {
    port: u16,
    up: Arc<AtomicBool>,
    refused: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<Value>>>,
    asked_by: Arc<Mutex<String>>,
}

impl Siem {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let siem = Self {
            port: listener.local_addr().unwrap().port(),
            up: Arc::default(),
            refused: Arc::default(),
            taken: Arc::default(),
            asked_by: Arc::default(),
        };
        let (up, refused) = (Arc::clone(&siem.up), Arc::clone(&siem.refused));
        let (taken, asked_by) = (Arc::clone(&siem.taken), Arc::clone(&siem.asked_by));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let (mut length, mut line) = (0, String::new());
                while stream.read_line(&mut line).unwrap() > 2 {
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length: ") {
                        length = value.trim().parse().unwrap();
                    }
                    if lower.starts_with("authorization: ") {
                        asked_by.lock().unwrap().clone_from(&line);
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let status = if up.load(Ordering::SeqCst) {
                    let lines = String::from_utf8(body).unwrap();
                    let events = lines.lines().map(|line| serde_json::from_str(line).unwrap());
                    taken.lock().unwrap().extend(events);
                    "204 No Content"
                } else {
                    refused.store(true, Ordering::SeqCst);
                    "503 Service Unavailable"
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        siem
    }

    fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }
}

/// The events' numbers. What was delivered when the gateway was killed may have come twice, one time
/// after the other.
fn sequences(events: &[Value]) -> Vec<u64> {
    let numbers = events.iter().map(|event| event["metadata"]["sequence"].as_u64().unwrap());
    let mut numbers = numbers.collect::<Vec<_>>();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[test]
fn the_ledger_arrives_whole_though_the_siem_was_down_and_the_gateway_was_killed() {
    let siem = Siem::start();
    let mut prepared = Prepared::new();
    fs::write(prepared.path("siem.secret"), "Bearer invented-siem-token\n").unwrap();
    let config = format!(
        "\n[[audit.events]]\nto = \"http://127.0.0.1:{}/events\"\n\
         credential = {{ file = \"siem.secret\" }}\n\n[[audit.events]]\nto = \"file:ocsf.jsonl\"\n\
         commands = true\n",
        siem.port
    );
    prepared.config.push_str(&config);
    let mut gateway = prepared.start();
    let text = "SELECT id FROM customers WHERE id = 1 /* no-text-leaves */";
    assert_eq!(gateway.psql("alice", &[text]).code, 0);
    wait_for("the first try", || siem.refused.load(Ordering::SeqCst).then_some(()));
    gateway.kill();
    gateway.start();
    assert_eq!(gateway.psql("alice", &[text]).code, 0);
    siem.up.store(true, Ordering::SeqCst);
    let admitted = |events: &[Value]| {
        let is = |event: &&Value| {
            event["class_uid"] == 3002
                && event["activity_id"] == 1
                && event["user"]["name"] == "alice"
        };
        events.iter().filter(is).count()
    };
    wait_for("both sessions", || (admitted(&siem.taken()) == 2).then_some(()));
    let taken = siem.taken();
    // One after the other, and those of the ledger before the SIEM was there too.
    let whole = |events: &[Value]| {
        let numbers = sequences(events);
        assert_eq!(numbers, (1..=u64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
    };
    whole(&taken);
    assert_eq!(taken[0]["class_uid"], 6002, "the gateway's start");
    assert!(siem.asked_by.lock().unwrap().contains("invented-siem-token"));

    let path = gateway.path("ocsf.jsonl");
    let in_file = wait_for("the file", || {
        let lines = fs::read_to_string(&path).ok()?;
        let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        let events = lines.collect::<Vec<Value>>();
        let ended = events.iter().filter(|event| event["unmapped"]["is"] == "ended").count();
        (admitted(&events) == 2 && ended > 0).then_some(events)
    });
    let (ledger, commands): (Vec<Value>, Vec<Value>) =
        in_file.into_iter().partition(|event| event["metadata"]["log_name"] == "ledger");
    whole(&ledger);
    let mine = |event: &&Value| event["actor"]["user"]["name"] == "alice";
    let mine = commands.iter().filter(mine).collect::<Vec<_>>();
    assert!(mine.iter().all(|event| event["class_uid"] == 6005), "{mine:?}");
    assert!(mine.iter().any(|event| event["unmapped"]["volume"]["rows"] == 1), "{mine:?}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let all = format!("{taken:?}{ledger:?}{commands:?}{}", gateway.log());
    let signature = Demo::shared().token("alice").rsplit('.').next().unwrap();
    for secret in ["no-text-leaves", signature, "invented-siem-token"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn events_do_not_leave_the_region() {
    let mut prepared = Prepared::new();
    prepared.config.push_str("\n[[audit.events]]\nto = \"https://192.0.2.7/events\"\n");
    let ran = prepared.fails();
    assert_ne!(ran.code, 0);
    assert!(ran.says("192.0.2.7") && ran.says("lies in no network"), "{ran:?}");
}
