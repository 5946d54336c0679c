//! `weir ledger …`: entries and transfers, as the gateway tells them or from a ledger's files alone.
//!
//! Both ways use the same reader, and write the same.

use std::collections::VecDeque;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::audit::LedgerEvent;
use crate::audit::chain::Line;
use crate::audit::export;
use crate::audit::export::ExportError;
use crate::audit::export::Names;
use crate::audit::export::Raw;
use crate::audit::export::Statement;
use crate::audit::export::Transfer;
use crate::audit::export::Transfers;
use crate::audit::export::Which;
use crate::audit::export::Window;
use crate::cli::args::ledger::Export;
use crate::cli::args::ledger::Format;
use crate::cli::args::ledger::Framework;
use crate::cli::args::ledger::Ledger;
use crate::cli::args::ledger::Ls;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::encode;
use crate::cli::print;
use crate::cli::show;
use crate::model::Clock;
use crate::model::clock::System;
use crate::model::fault::Chain;
use crate::model::when::When;

/// `weir ledger …`
pub(super) fn run(ledger: Ledger, as_json: bool) -> Result<(), CallError> {
    match ledger {
        Ledger::Ls(ls) => list(&ls, as_json),
        Ledger::Export(args) => write(&args),
    }
}

fn list(ls: &Ls, as_json: bool) -> Result<(), CallError> {
    let answer = if ls.files.is_empty() {
        let limit = ls.limit.to_string();
        let session = ls.session.map(|session| session.to_string());
        let target = ls.target.as_ref().map(ToString::to_string);
        let path = path(
            "/ledger",
            &[
                ("since", ls.since.as_deref()),
                ("until", ls.until.as_deref()),
                ("session", session.as_deref()),
                ("user", ls.user.as_deref()),
                ("target", target.as_deref()),
                ("kind", ls.kind.as_deref()),
                ("limit", Some(&limit)),
                ("purpose", ls.purpose.said.as_deref()),
            ],
        );
        Client::new(&ls.gateway)?.patient().get(&path)?
    } else {
        let which = Which {
            window: window(ls.since.as_deref(), ls.until.as_deref())?,
            session: ls.session,
            user: ls.user.clone(),
            target: ls.target.clone(),
            kind: ls.kind.clone(),
        };
        let (mut names, mut found) = (Names::default(), VecDeque::new());
        let read = export::read(&ls.files, u64::MAX, which.window, |raw| {
            if names.wants(&which, raw) {
                found.push_front(serde_json::from_slice::<Value>(raw.text).unwrap_or_default());
                found.truncate(ls.limit);
            }
        });
        read.map_err(failed)?;
        json!({ "entries": found })
    };
    if as_json {
        print::json(&answer);
    } else {
        show::entries(&answer);
    }
    Ok(())
}

fn write(args: &Export) -> Result<(), CallError> {
    let mut out = Out::open(args.output.as_deref(), args.format)?;
    if args.framework == Framework::Gdpr && args.format == Format::Csv {
        out.put(&format!("{}\n", export::CSV_HEAD))?;
    }
    let statement = if args.files.is_empty() {
        from_gateway(args, &mut out)
    } else {
        from_files(args, &mut out)
    };
    let statement = statement.and_then(|statement| {
        out.statement(&statement)?;
        out.end()
    });
    if statement.is_err()
        && let Some(path) = &args.output
    {
        // Half an export is none.
        let _left = std::fs::remove_file(path);
    }
    statement
}

fn from_files(args: &Export, out: &mut Out) -> Result<Statement, CallError> {
    // First of all, so that not a row is written of a ledger that is damaged.
    export::check(&args.files).map_err(failed)?;
    let window = window(args.from.as_deref(), args.to.as_deref())?;
    let (mut transfers, mut wrote) = (Transfers::within(window), Ok(()));
    let statement = export::read(&args.files, u64::MAX, window, |raw| {
        if wrote.is_err() {
            return;
        }
        wrote = match args.framework {
            Framework::Gdpr => {
                transfers.read(raw.line);
                transfers.take().iter().try_for_each(|transfer| out.transfer(transfer))
            }
            Framework::Raw if window.has(raw.line.at) => out.entry(raw),
            Framework::Raw => Ok(()),
        };
    });
    let statement = statement.map_err(failed)?;
    wrote?;
    transfers.finish().iter().try_for_each(|transfer| out.transfer(transfer))?;
    Ok(statement)
}

/// A page, as the gateway answers.
#[derive(Deserialize)]
struct Page {
    rows: Vec<Value>,
    after: Option<u64>,
    upto: u64,
    statement: Statement,
}

fn from_gateway(args: &Export, out: &mut Out) -> Result<Statement, CallError> {
    let client = Client::new(&args.gateway)?.patient();
    let framework = match args.framework {
        Framework::Gdpr => "gdpr",
        Framework::Raw => "raw",
    };
    // Resolved once: seen from each page's own now, `7d` would leave out other rows than the one
    // before did.
    let Window { from, to } = window(args.from.as_deref(), args.to.as_deref())?;
    let (from, to) = (from.map(|at| at.to_string()), to.map(|at| at.to_string()));
    let (mut upto, mut after) = (None::<String>, None::<String>);
    loop {
        let path = path(
            "/ledger/export",
            &[
                ("framework", Some(framework)),
                ("from", from.as_deref()),
                ("to", to.as_deref()),
                ("upto", upto.as_deref()),
                ("after", after.as_deref()),
                ("purpose", args.purpose.said.as_deref()),
            ],
        );
        let odd = |error: &dyn std::fmt::Display| {
            CallError::Unreached(format!("the gateway's answer is not understood: {error}"))
        };
        let page = serde_json::from_value::<Page>(client.get(&path)?);
        let page = page.map_err(|error| odd(&error))?;
        for row in page.rows {
            match args.framework {
                Framework::Gdpr => {
                    let transfer = serde_json::from_value::<Transfer>(row);
                    out.transfer(&transfer.map_err(|error| odd(&error))?)?;
                }
                Framework::Raw => {
                    let text = row.as_str().unwrap_or_default();
                    let line = serde_json::from_str::<Line<LedgerEvent>>(text);
                    let line = line.map_err(|error| odd(&error))?;
                    out.entry(Raw { line: &line, text: text.as_bytes() })?;
                }
            }
        }
        let Some(rows) = page.after else { return Ok(page.statement) };
        (upto, after) = (Some(page.upto.to_string()), Some(rows.to_string()));
    }
}

/// Where an export goes, and how it is written.
struct Out {
    to: BufWriter<Box<dyn Write>>,
    format: Format,
}

impl Out {
    fn open(path: Option<&Path>, format: Format) -> Result<Self, CallError> {
        let to: Box<dyn Write> = match path {
            Some(path) => Box::new(fresh(path)?),
            None => Box::new(io::stdout()),
        };
        Ok(Self { to: BufWriter::new(to), format })
    }

    fn transfer(&mut self, transfer: &Transfer) -> Result<(), CallError> {
        let text = match self.format {
            Format::Csv => export::transfer_csv(transfer),
            Format::Jsonl => format!("{}\n", json!(transfer)),
        };
        self.put(&text)
    }

    fn entry(&mut self, raw: Raw<'_>) -> Result<(), CallError> {
        let text = match self.format {
            Format::Csv => export::entry_csv(raw),
            Format::Jsonl => format!("{}\n", String::from_utf8_lossy(raw.text)),
        };
        self.put(&text)
    }

    /// What the export rests on: comments at the end of CSV, the last object of JSON lines.
    fn statement(&mut self, statement: &Statement) -> Result<(), CallError> {
        let text = match self.format {
            Format::Jsonl => format!("{}\n", json!({ "statement": statement })),
            Format::Csv => {
                let note = statement.checkpoint.as_deref().unwrap_or_default();
                let lines = std::iter::once(statement.text.as_str()).chain(note.lines());
                lines.fold(String::new(), |text, line| text + "# " + line + "\n")
            }
        };
        self.put(&text)
    }

    fn put(&mut self, text: &str) -> Result<(), CallError> {
        self.to.write_all(text.as_bytes()).map_err(unwritten)
    }

    fn end(mut self) -> Result<(), CallError> {
        self.to.flush().map_err(unwritten)
    }
}

fn fresh(path: &Path) -> Result<File, CallError> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    made.map_err(|error| CallError::Usage(format!("{} cannot be written: {error}", path.display())))
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unwritten(error: io::Error) -> CallError {
    CallError::Usage(format!("the export cannot be written: {error}"))
}

fn window(from: Option<&str>, to: Option<&str>) -> Result<Window, CallError> {
    let now = System.now();
    let moment = |text: Option<&str>| {
        let when = text.map(str::parse::<When>).transpose();
        when.map(|when| when.map(|when| when.before(now)))
            .map_err(|bad| CallError::Usage(bad.to_string()))
    };
    Ok(Window { from: moment(from)?, to: moment(to)? })
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failed(error: ExportError) -> CallError {
    let text = Chain(&error).to_string();
    match error {
        ExportError::Damaged(_) => CallError::Damaged(text),
        ExportError::Files(_) | ExportError::Several(_) | ExportError::Nothing => {
            CallError::Usage(text)
        }
    }
}

fn path(of: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    format!("{of}?{}", encode::form(&given.collect::<Vec<_>>()))
}
