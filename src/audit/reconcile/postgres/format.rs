//! The three formats of PostgreSQL's log, each an iterator from lines to messages.

use std::iter::Peekable;

use serde::Deserialize;

use crate::audit::reconcile::lines::Line;
use crate::audit::reconcile::postgres::entry::Message;
use crate::audit::reconcile::postgres::prefix::KNOWN;
use crate::audit::reconcile::postgres::prefix::Parted;
use crate::audit::reconcile::postgres::prefix::Prefix;
use crate::audit::reconcile::postgres::prefix::Unparted;
use crate::audit::reconcile::postgres::prefix::stamp;
use crate::audit::reconcile::time::LogTime;

/// Longest message, in bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How many lines are looked at to find out which prefix they have.
pub const LOOKED_AT_MAX: usize = 500;

/// How a log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// `log_destination = 'stderr'`, each line with this prefix.
    Stderr(Prefix),
    /// `log_destination = 'csvlog'`.
    Csv,
    /// `log_destination = 'jsonlog'`.
    Json,
}

/// What a log says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A message.
    Message(Box<Message>),
    /// A line, or several, that could not be read.
    Unread {
        /// The first of them, from 1.
        line: u64,
        /// What stands there.
        text: String,
        /// Why it could not.
        why: &'static str,
    },
}

impl Format {
    /// The format that fits the first lines of a log best; `None` if none fits any of them.
    pub fn guess(head: &[Line], time: &LogTime) -> Option<Self> {
        let first = head.iter().find(|line| !line.text.trim().is_empty())?;
        if first.text.starts_with('{') {
            return Some(Self::Json);
        }
        let row = Csv { lines: head.iter().cloned().peekable(), time }.next();
        if matches!(row, Some(Read::Message(_))) {
            return Some(Self::Csv);
        }
        let fits = |prefix: &Prefix| {
            head.iter().filter(|line| prefix.part(&line.text, time).is_ok()).count()
        };
        let known = KNOWN.iter().filter_map(|text| text.parse::<Prefix>().ok());
        // Of those that fit equally well the first counts, which says the most.
        let best = known.rev().max_by_key(|prefix| (fits(prefix), said(prefix, head, time)))?;
        (fits(&best) > 0).then_some(Self::Stderr(best))
    }

    /// The messages in `lines`.
    pub fn read<'a, I>(&'a self, lines: I, time: &'a LogTime) -> Box<dyn Iterator<Item = Read> + 'a>
    where
        I: Iterator<Item = Line> + 'a,
    {
        let lines = lines.peekable();
        match self {
            Self::Stderr(prefix) => Box::new(Stderr { lines, prefix, time }),
            Self::Csv => Box::new(Csv { lines, time }),
            Self::Json => Box::new(Json { lines, time }),
        }
    }
}

/// How many lines tell a user by this prefix: the more a prefix tells, the better.
fn said(prefix: &Prefix, head: &[Line], time: &LogTime) -> usize {
    let parted = head.iter().filter_map(|line| prefix.part(&line.text, time).ok());
    parted.filter(|parted| parted.said.user.is_some()).count()
}

struct Stderr<'a, I: Iterator<Item = Line>> {
    lines: Peekable<I>,
    prefix: &'a Prefix,
    time: &'a LogTime,
}

impl<I: Iterator<Item = Line>> Stderr<'_, I> {
    /// What follows a message's first line: each further line begins with a tab.
    fn rest(&mut self, text: &mut String) -> bool {
        let mut whole = true;
        while let Some(line) = self.lines.next_if(|line| line.text.starts_with('\t')) {
            if text.len().saturating_add(line.text.len()) > MESSAGE_BYTES_MAX {
                whole = false;
                continue;
            }
            whole &= !line.cut;
            text.push('\n');
            text.push_str(line.text.strip_prefix('\t').unwrap_or(&line.text));
        }
        whole
    }

    /// `DETAIL`, `HINT`, `STATEMENT` and their like belong to the message before.
    fn belonging(&mut self, message: &mut Message) -> bool {
        let mut whole = true;
        loop {
            let (prefix, time) = (self.prefix, self.time);
            let belongs = |line: &Line| {
                let parted = prefix.part(&line.text, time);
                parted.is_ok_and(|parted| {
                    is_belonging(parted.severity) && parted.said.process == message.process
                })
            };
            let Some(line) = self.lines.next_if(belongs) else { return whole };
            let Ok(parted) = prefix.part(&line.text, time) else { return whole };
            let mut text = parted.message.to_owned();
            let is_statement = parted.severity == "STATEMENT";
            whole &= self.rest(&mut text) && !line.cut;
            if is_statement {
                message.statement = Some(text);
            }
        }
    }
}

fn is_belonging(severity: &str) -> bool {
    ["DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "STATEMENT", "BACKTRACE"].contains(&severity)
}

impl<I: Iterator<Item = Line>> Iterator for Stderr<'_, I> {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        loop {
            let line = self.lines.next()?;
            if line.text.trim().is_empty() {
                continue;
            }
            let unread = |why| Read::Unread { line: line.number, text: line.text.clone(), why };
            let parted = match self.prefix.part(&line.text, self.time) {
                Ok(parted) => parted,
                Err(Unparted::Other) => return Some(unread("it does not begin with the prefix")),
                Err(Unparted::Several) => {
                    return Some(unread("its prefix can be read in several ways"));
                }
            };
            let Parted { said, severity, message } = parted;
            if is_belonging(severity) {
                return Some(unread("it belongs to no message before it"));
            }
            let mut message = Message {
                line: line.number,
                at: said.at,
                process: said.process,
                user: said.user,
                database: said.database,
                remote: said.remote,
                port: said.port,
                severity: severity.to_owned(),
                text: message.to_owned(),
                statement: None,
            };
            let whole = self.rest(&mut message.text) && !line.cut;
            if !(self.belonging(&mut message) && whole) {
                return Some(unread("it is longer than is read"));
            }
            if message.at.is_none() {
                return Some(unread("its time cannot be read: say the log's zone"));
            }
            return Some(Read::Message(Box::new(message)));
        }
    }
}

struct Csv<'a, I: Iterator<Item = Line>> {
    lines: Peekable<I>,
    time: &'a LogTime,
}

impl<I: Iterator<Item = Line>> Iterator for Csv<'_, I> {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        let first = self.lines.find(|line| !line.text.trim().is_empty())?;
        let (number, mut row, mut whole) = (first.number, first.text, !first.cut);
        let quotes = |text: &str| memchr::memchr_iter(b'"', text.as_bytes()).count();
        let mut open = quotes(&row) % 2 == 1;
        while open {
            let Some(line) = self.lines.next() else {
                whole = false;
                break;
            };
            open ^= quotes(&line.text) % 2 == 1;
            if row.len().saturating_add(line.text.len()) > MESSAGE_BYTES_MAX {
                whole = false;
                continue;
            }
            whole &= !line.cut;
            row.push('\n');
            row.push_str(&line.text);
        }
        let message = whole.then(|| csv_message(number, &row, self.time)).flatten();
        Some(message.map_or_else(
            || Read::Unread { line: number, text: row, why: "it is no row of a csvlog" },
            |message| Read::Message(Box::new(message)),
        ))
    }
}

/// The columns are those of the documentation, "Using CSV-Format Log Output"; newer versions only
/// add to their end.
fn csv_message(line: u64, row: &str, time: &LogTime) -> Option<Message> {
    let cells = cells(row)?;
    let cell = |at: usize| cells.get(at).map(String::as_str);
    let known = |at: usize| cell(at).filter(|text| !text.is_empty()).map(str::to_owned);
    if cells.len() < 23 {
        return None;
    }
    let (remote, port) = match cell(4)?.rsplit_once(':') {
        Some((host, port)) => (Some(host.to_owned()), port.parse().ok()),
        None => (known(4), None),
    };
    Some(Message {
        line,
        at: Some(stamp(cell(0)?, time)?),
        process: cell(3)?.parse().ok(),
        user: known(1),
        database: known(2),
        remote,
        port,
        severity: cell(11)?.to_owned(),
        text: cell(13)?.to_owned(),
        statement: known(19),
    })
}

/// The cells of one row (RFC 4180); `None` if a quote stands where none may.
fn cells(row: &str) -> Option<Vec<String>> {
    let mut cells = Vec::new();
    let mut rest = row;
    loop {
        let mut cell = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (text, after) = quoted.split_once('"')?;
                cell.push_str(text);
                let Some(more) = after.strip_prefix('"') else {
                    rest = after;
                    break;
                };
                cell.push('"');
                quoted = more;
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (text, after) = rest.split_at_checked(end)?;
            cell.push_str(text);
            rest = after;
        }
        cells.push(cell);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Some(cells),
            None => return None,
        }
    }
}

struct Json<'a, I: Iterator<Item = Line>> {
    lines: Peekable<I>,
    time: &'a LogTime,
}

/// What is read of a line of a jsonlog.
#[derive(Debug, Deserialize)]
struct JsonLine {
    timestamp: String,
    error_severity: String,
    #[serde(default)]
    message: String,
    pid: Option<i64>,
    user: Option<String>,
    dbname: Option<String>,
    remote_host: Option<String>,
    remote_port: Option<u16>,
    statement: Option<String>,
}

impl<I: Iterator<Item = Line>> Iterator for Json<'_, I> {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        let line = self.lines.find(|line| !line.text.trim().is_empty())?;
        let read = serde_json::from_str::<JsonLine>(&line.text).ok().filter(|_| !line.cut);
        let message = read.and_then(|read| {
            Some(Message {
                line: line.number,
                at: Some(stamp(&read.timestamp, self.time)?),
                process: read.pid,
                user: read.user,
                database: read.dbname,
                remote: read.remote_host,
                port: read.remote_port,
                severity: read.error_severity,
                text: read.message,
                statement: read.statement,
            })
        });
        Some(message.map_or_else(
            || Read::Unread {
                line: line.number,
                text: line.text,
                why: "it is no line of a jsonlog",
            },
            |message| Read::Message(Box::new(message)),
        ))
    }
}
