//! What recording costs: `cargo bench --bench record`. Measures, asserts nothing.
//!
//! One core's worth of appends to trails and to the ledger, bytes of results in full capture, reading
//! and verifying back; each next to what the same bytes cost as a bare `write` to a file, which is the
//! floor of any record that leaves the process.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use weir::audit::Admission;
use weir::audit::Audit;
use weir::audit::LedgerEvent;
use weir::audit::Options;
use weir::audit::Trail;
use weir::audit::TrailEvent;
use weir::audit::entry::Ending;
use weir::audit::entry::Opened;
use weir::audit::entry::TransferNote;
use weir::audit::entry::Volume;
use weir::audit::keys::KeyBytes;
use weir::audit::keys::KeyRing;
use weir::audit::keys::LedgerKey;
use weir::audit::keys::WrappingKey;
use weir::audit::recording::Seen;
use weir::audit::recording::Stream;
use weir::audit::spool::Level;
use weir::audit::verify;
use weir::identity::Verified;
use weir::model::Command;
use weir::model::Origin;
use weir::model::Protocol;
use weir::model::SessionId;
use weir::model::Verdict;
use weir::model::clock::System;
use weir::model::digest::Digest;
use weir::model::place::PlaceMethod;

type Wrong = Box<dyn Error>;

/// Commands of one session.
const COMMANDS: u64 = 200_000;
/// Commands at level `disk`, over all sessions.
const SYNCED: u64 = 2_000;
/// Sessions that append at once at level `disk`.
const SESSIONS: u64 = 16;
/// Entries of the ledger.
const ENTRIES: u64 = 200_000;
/// Bytes of results.
const RESULT_BYTES: usize = 1 << 30;

struct Someone(SessionId);

impl Admission for Someone {
    fn opened(&self) -> Opened {
        let gateway = Verified::gateway(None);
        Opened {
            session: self.0,
            principal: Arc::clone(gateway.principal()),
            origin: Origin {
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                country: None,
                method: PlaceMethod::Unknown,
            },
            target: "customers".parse().unwrap_or_else(|_| unreachable!()),
            protocol: Protocol::Postgres,
            region: "eu".parse().unwrap_or_else(|_| unreachable!()),
            snapshot: Digest::ZERO,
            rules: Vec::new(),
            transfer: TransferNote {
                outcome: "none".into(),
                rows: Vec::new(),
                reason: String::new(),
            },
            suppressed: false,
            observed: None,
            observe: false,
            proof: None,
            law: None,
        }
    }
}

fn main() -> Result<(), Wrong> {
    let dir = tempfile::tempdir()?;
    trails(&dir.path().join("process"))?;
    disk(&dir.path().join("disk"))?;
    ledger(&dir.path().join("ledger"))?;
    results(&dir.path().join("results"))?;
    Ok(())
}

fn open(dir: &Path, level: Level) -> Result<Audit, Wrong> {
    let options = Options {
        dir: dir.to_owned(),
        gateway: "bench".into(),
        region: "eu".parse()?,
        spool_bytes_max: u64::MAX,
        level,
        keys: KeyRing::new(WrappingKey::new(KeyBytes::generate()?), Vec::new())?,
        signers: vec![Arc::new(
            LedgerKey::new(KeyBytes::generate()?).named("bench.example/ledger".parse()?)?,
        )],
    };
    Ok(Audit::open(&options, Arc::new(System))?)
}

fn asked(number: u64) -> TrailEvent {
    let text = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number}");
    TrailEvent::Command {
        number,
        command: Arc::new(Command::new("query", text)),
        verdict: Verdict::Allow {
            rules: vec!["customers.read".parse().unwrap_or_else(|_| unreachable!())],
        },
        observed: false,
        snapshot: None,
    }
}

fn ended(number: u64) -> TrailEvent {
    TrailEvent::Ended {
        number,
        ending: Ending::Done { status: "SELECT 1".into() },
        volume: Volume { rows: 1, bytes: 40, masked: 0 },
        sent_bytes: 0,
        result_cut: false,
        sent_cut: false,
    }
}

fn command(trail: &Trail, number: u64) -> Result<(), Wrong> {
    trail.append(&asked(number))?;
    trail.data(number, Stream::Output, b"12345\n")?;
    trail.note(&ended(number))?;
    Ok(())
}

fn trails(dir: &Path) -> Result<(), Wrong> {
    let audit = open(dir, Level::Process)?;
    let (_recorded, trail) = audit.admit(Someone(SessionId::fresh()))?;
    let took = timed(|| (1..=COMMANDS).try_for_each(|number| command(&trail, number)))?;
    told("trail, level process: commands with result and end", COMMANDS, took);
    let line = serde_json::to_vec(&asked(1))?;
    let mut file = File::create(dir.join("floor"))?;
    let floor =
        timed(|| (0..COMMANDS).try_for_each(|_| file.write_all(&line)).map_err(Wrong::from))?;
    told("  floor: the same JSON by a bare write", COMMANDS, floor);
    println!("  ratio: {:.2}", took.as_secs_f64() / floor.as_secs_f64());
    Ok(())
}

fn disk(dir: &Path) -> Result<(), Wrong> {
    let audit = open(dir, Level::Disk)?;
    let mut trails = Vec::new();
    for _ in 0..SESSIONS {
        trails.push(audit.admit(Someone(SessionId::fresh()))?.1);
    }
    let each = SYNCED / SESSIONS;
    let took = timed(|| {
        std::thread::scope(|scope| {
            let running = trails.iter().map(|trail| {
                scope.spawn(move || {
                    (1..=each).try_for_each(|n| command(trail, n).map_err(|e| e.to_string()))
                })
            });
            let running = running.collect::<Vec<_>>();
            for thread in running {
                thread.join().map_err(|_| "a thread ended badly")??;
            }
            Ok(())
        })
    })?;
    told(&format!("trail, level disk: commands, {SESSIONS} sessions at once"), SYNCED, took);
    let mut file = File::create(dir.join("floor"))?;
    let floor = timed(|| {
        for _ in 0..each {
            file.write_all(b"x")?;
            file.sync_data()?;
        }
        Ok(())
    })?;
    told("  floor: write and fdatasync of one file", each, floor);
    Ok(())
}

fn ledger(dir: &Path) -> Result<(), Wrong> {
    let audit = open(dir, Level::Process)?;
    let event = LedgerEvent::TrailClosed {
        session: SessionId::fresh(),
        head: weir::audit::chain::Head { entries: 12, digest: Digest::ZERO },
    };
    let took = timed(|| {
        (0..ENTRIES).try_for_each(|_| audit.record(&event).map(|_| ()).map_err(Wrong::from))
    })?;
    told("ledger: entries, with their tree and a checkpoint every 10,000", ENTRIES, took);
    audit.checkpoint()?;
    let options = verify::Options { files: vec![dir.to_owned()], ..verify::Options::default() };
    let started = Instant::now();
    let _report = verify::verify(&options, &mut |_| ());
    told("verify: entries of a ledger", ENTRIES, started.elapsed());
    Ok(())
}

fn results(dir: &Path) -> Result<(), Wrong> {
    let audit = Arc::new(open(dir, Level::Process)?);
    let (_recorded, trail) = audit.admit(Someone(SessionId::fresh()))?;
    let row = b"4711\tFrieda Ackerbrot\tfrieda@example.org\t2026-11-29 12:00:00\tBonn\n";
    let part = row.iter().copied().cycle().take(64 * 1024).collect::<Vec<_>>();
    let rounds = RESULT_BYTES / part.len();
    let took = timed(|| {
        (0..rounds).try_for_each(|_| trail.data(1, Stream::Output, &part).map_err(Wrong::from))
    })?;
    mib("full capture: result recorded", RESULT_BYTES, took);
    let last = TrailEvent::Closed { reason: "done".into(), commands: 1, volume: Volume::default() };
    audit.close(&trail, &last)?;
    let started = Instant::now();
    if let Some(mut entries) = audit.spooled(trail.session())? {
        while let Seen::One(_) = entries.next()? {}
    }
    mib("full capture: read back, decrypted", RESULT_BYTES, started.elapsed());
    let mut file = File::create(dir.join("floor"))?;
    let floor = timed(|| (0..rounds).try_for_each(|_| file.write_all(&part)).map_err(Wrong::from))?;
    mib("  floor: the same bytes by a bare write", RESULT_BYTES, floor);
    println!("  ratio: {:.2}", took.as_secs_f64() / floor.as_secs_f64());
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<(), Wrong>) -> Result<Duration, Wrong> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

fn told(what: &str, times: u64, took: Duration) {
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for people")]
    let times = times as f64;
    let (each, rate) = (took.as_secs_f64() * 1e6 / times, times / took.as_secs_f64());
    println!("{what}: {rate:.0}/s, {each:.2} µs each");
}

fn mib(what: &str, bytes: usize, took: Duration) {
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for people")]
    let mib = bytes as f64 / 1_048_576.0;
    println!(
        "{what}: {:.0} MiB/s, {:.2} ms a MiB",
        mib / took.as_secs_f64(),
        took.as_secs_f64() * 1e3 / mib
    );
}
