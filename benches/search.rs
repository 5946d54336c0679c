//! How fast commands are indexed and found: `cargo bench --bench search`. Measures, asserts nothing.
//!
//! `WEIR_BENCH_COMMANDS`: how many different commands, 1,000,000 where it is not set.
//! `WEIR_BENCH_POSTGRES`: the folder of a PostgreSQL's socket, to measure there as well; the database
//! `weir_bench` of its user `weir` must be there, and empty.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use weir::audit::TrailEvent;
use weir::audit::entry::Opened;
use weir::audit::entry::TransferNote;
use weir::model::Command;
use weir::model::Effect;
use weir::model::Object;
use weir::model::Origin;
use weir::model::Principal;
use weir::model::Protocol;
use weir::model::SessionId;
use weir::model::Verdict;
use weir::model::clock::System;
use weir::model::digest::Digest;
use weir::model::place::PlaceMethod;
use weir::model::principal::Kind;
use weir::store::Collector;
use weir::store::Door;
use weir::store::Filter;
use weir::store::Options;
use weir::store::Owner;
use weir::store::Place;
use weir::store::Server;
use weir::store::ServerTls;
use weir::store::Store;
use weir::store::Whose;

type Wrong = Box<dyn Error>;

/// How many different commands there are where nobody says otherwise.
const COMMANDS_DEFAULT: u64 = 1_000_000;
/// How many commands a session asks.
const SESSION_COMMANDS: u64 = 500;
/// How often each search is done.
const ROUNDS: u32 = 20;
/// Words of which commands are made.
const TABLES: [&str; 8] =
    ["customers", "orders", "invoices", "people", "payments", "audit_log", "sessions", "tickets"];

fn main() -> Result<(), Wrong> {
    let count = env::var_os("WEIR_BENCH_COMMANDS").and_then(|text| text.into_string().ok());
    let count = count.map_or(Ok(COMMANDS_DEFAULT), |text| text.parse())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("state.db");
    println!("SQLite, {count} different commands");
    runtime.block_on(measure(Place::Sqlite(file.clone()), count))?;
    println!("  {:.0} bytes a command", ratio(size(&file)?, count));
    if let Some(socket) = env::var_os("WEIR_BENCH_POSTGRES") {
        println!("PostgreSQL, {count} different commands");
        let server = Server {
            door: Door::Socket(PathBuf::from(socket)),
            tls: ServerTls::Off,
            database: "weir_bench".to_owned(),
            login: "weir".to_owned(),
            password: None,
        };
        runtime.block_on(measure(Place::Postgres(Box::new(server)), count))?;
    }
    Ok(())
}

async fn measure(place: Place, count: u64) -> Result<(), Wrong> {
    let options = Options { gateway: "weir-bench".to_owned(), place };
    let store = Store::open(&options, Arc::new(System)).await?;
    let begin = Instant::now();
    let mut done = 0;
    while done < count {
        index_session(&store, done, SESSION_COMMANDS.min(count - done)).await?;
        done += SESSION_COMMANDS;
    }
    let took = begin.elapsed();
    println!("  {:28} {:10.0} commands/s", "indexing", rate(count, took));
    let alice = Owner {
        issuer: "https://login.example".to_owned(),
        subject: "user-7".to_owned(),
        acting: "person".to_owned(),
    };
    let all = || Filter { limit: Some(50), ..Filter::default() };
    let searches = [
        ("one of them", "marker4711", all()),
        ("a rare phrase", "\"drop table tickets\"", all()),
        ("a prefix", "marker47*", all()),
        ("two common words", "customers AND email", all()),
        ("a word of all", "select", all()),
        ("a word of all, of one person", "select", Filter { whose: Whose::Own(alice), ..all() }),
        ("a word of all, left out", "select NOT public", all()),
        ("nothing", "customers AND absent", all()),
    ];
    for (what, query, filter) in searches {
        search(&store, what, query, &filter).await?;
    }
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        store.sessions(&all()).await?;
    }
    println!("  {:28} {:10.2} ms", "list of sessions", millis(begin.elapsed()));
    Ok(())
}

async fn search(store: &Store, what: &str, query: &str, filter: &Filter) -> Result<(), Wrong> {
    let query = query.parse()?;
    let mut slowest = Duration::ZERO;
    let mut found = 0;
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        let one = Instant::now();
        found = match store.search(&query, false, filter).await {
            Ok(hits) => hits.len(),
            Err(error) => {
                println!("  {what:28} {error}");
                return Ok(());
            }
        };
        slowest = slowest.max(one.elapsed());
    }
    let mean = millis(begin.elapsed());
    let slowest = slowest.as_secs_f64() * 1e3;
    println!("  {what:28} {mean:10.2} ms, slowest {slowest:.2} ms, {found} found");
    Ok(())
}

/// A session of which every command is another.
async fn index_session(store: &Store, first: u64, commands: u64) -> Result<(), Wrong> {
    let session = SessionId::fresh();
    let begun = Timestamp::from_second(1_795_262_400)?;
    let at = |n: u64| -> Result<Timestamp, Wrong> {
        Ok(begun.checked_add(Duration::from_millis(first + n))?)
    };
    let mut collector = Collector::new(session, 0);
    collector.read(1, at(0)?, &TrailEvent::Opened(Box::new(opened(session, first)?)));
    for number in 1..=commands {
        let serial = first + number;
        let table = TABLES.iter().cycle().nth(usize::try_from(serial % 8)?).copied();
        let table = table.unwrap_or_default();
        let text = if serial % 10_000 == 9_999 {
            format!("DROP TABLE {table} -- marker{serial}")
        } else {
            format!(
                "SELECT id, email, national_id FROM public.{table} WHERE id = {serial} \
                 AND note = 'marker{serial}' ORDER BY id LIMIT 10"
            )
        };
        let mut command = Command::new("query", text);
        command.objects.push(Object::new("table", format!("public.{table}"), Effect::Read));
        let event = TrailEvent::Command {
            number,
            command: Arc::new(command),
            verdict: Verdict::Allow { rules: Vec::new() },
            observed: false,
            snapshot: None,
        };
        collector.read(number + 1, at(number)?, &event);
        if collector.is_full() {
            store.index_commands(&collector.take()).await?;
        }
    }
    store.index_commands(&collector.take()).await?;
    Ok(())
}

fn opened(session: SessionId, first: u64) -> Result<Opened, Wrong> {
    let subject = format!("user-{}", first / SESSION_COMMANDS % 100);
    Ok(Opened {
        session,
        principal: Arc::new(Principal {
            issuer: "https://login.example".to_owned(),
            subject: subject.clone(),
            name: subject.clone(),
            kind: Kind::Person,
            roles: std::collections::BTreeSet::new(),
            entity: None,
            residence: None,
            person: subject,
            attributes: BTreeMap::new(),
            actors: Vec::new(),
        }),
        origin: Origin {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            country: Some("DE".parse()?),
            method: PlaceMethod::Assumed,
        },
        target: "customers".parse()?,
        protocol: Protocol::Postgres,
        region: "eu-central".parse()?,
        snapshot: Digest::ZERO,
        rules: Vec::new(),
        transfer: TransferNote {
            outcome: "none".to_owned(),
            rows: Vec::new(),
            reason: String::new(),
        },
        suppressed: false,
        observed: None,
        observe: false,
        proof: None,
        law: None,
    })
}

fn size(file: &Path) -> Result<u64, Wrong> {
    Ok(std::fs::metadata(file)?.len())
}

fn ratio(one: u64, other: u64) -> f64 {
    let seconds = |count: u64| Duration::from_nanos(count).as_secs_f64();
    seconds(one) / seconds(other)
}

fn rate(count: u64, took: Duration) -> f64 {
    Duration::from_secs(count).as_secs_f64() / took.as_secs_f64()
}

/// Of each of the rounds.
fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3 / f64::from(ROUNDS)
}
