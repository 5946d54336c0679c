//! `PostgreSQL`: messages in both directions, startup packets, SQL, and rows on their way through a
//! mask.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bytes::Bytes;
use bytes::BytesMut;
use futures_util::FutureExt;
use secrecy::ExposeSecret;
use tokio::io::AsyncReadExt;

use crate::fuzzing::CLASSES;
use crate::fuzzing::hiding;
use crate::mask;
use crate::protocol::postgres::hello;
use crate::protocol::postgres::hello::Hello;
use crate::protocol::postgres::hello::Secured;
use crate::protocol::postgres::login::Shown;
use crate::protocol::postgres::mask::Rows;
use crate::protocol::postgres::mask::Shape;
use crate::protocol::postgres::sasl;
use crate::protocol::postgres::sql;
use crate::protocol::postgres::sql::Declared;
use crate::protocol::postgres::sql::Output;
use crate::protocol::postgres::sql::Outputs;
use crate::protocol::postgres::sql::Unreadable;
use crate::protocol::postgres::wire;
use crate::protocol::postgres::wire::Answers;
use crate::protocol::postgres::wire::Cells;
use crate::protocol::postgres::wire::Incoming;
use crate::protocol::postgres::wire::Incomings;
use crate::protocol::postgres::wire::Piece;
use crate::protocol::postgres::wire::Report;
use crate::protocol::postgres::wire::Request;
use crate::session::guard::Answer;
use crate::target::PostgresAuth;

/// Texts are read up to this many bytes in here: PostgreSQL's own grammar takes its time.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// What a client sends behind its startup packet.
pub(super) fn requests(bytes: &[u8]) {
    drop(requests_in_parts(bytes, b""));
}

pub(super) fn requests_in_parts(first: &[u8], rest: &[u8]) -> String {
    let (mut incomings, mut buffer, mut read) =
        (Incomings::default(), BytesMut::new(), String::new());
    for part in [first, rest] {
        buffer.extend_from_slice(part);
        drop(format!("{}", wire::leaves(&buffer)));
        loop {
            match incomings.next(&mut buffer) {
                Ok(Some(Incoming::Frame(frame))) => {
                    let said = format!("{:?} {:?}\n", frame.bytes(), Request::of(&frame));
                    read.push_str(&said);
                }
                Ok(Some(Incoming::Oversized(tag))) => read.push_str(&format_tag(tag)),
                Ok(None) => break,
                Err(malformed) => {
                    read.push_str(&malformed.to_string());
                    return read;
                }
            }
        }
    }
    read
}

fn format_tag(tag: u8) -> String {
    format!("too long: {tag}\n")
}

/// What a target sends.
pub(super) fn answers(bytes: &[u8]) {
    drop(answers_in_parts(bytes, b""));
}

/// Runs of rows and parts of rows fall out by chance; what is the same is their bytes.
pub(super) fn answers_in_parts(first: &[u8], rest: &[u8]) -> String {
    [true, false].map(|whole| relayed(first, rest, whole)).join("\n")
}

fn relayed(first: &[u8], rest: &[u8], whole: bool) -> String {
    let (mut answers, mut buffer, mut bytes) = (Answers::default(), BytesMut::new(), Vec::new());
    for part in [first, rest] {
        buffer.extend_from_slice(part);
        loop {
            match answers.next(&mut buffer, whole) {
                Ok(Some(Piece::Frame(frame))) => {
                    drop(wire::columns(&frame));
                    let _ = wire::ready(&frame);
                    drop(wire::parameter(&frame));
                    let _ = Report::of(&frame).map(|report| report.is_fatal());
                    drop(wire::text_of(&frame));
                    bytes.extend_from_slice(frame.bytes());
                }
                Ok(Some(Piece::Rows { bytes: run, rows })) => {
                    assert!(rows > 0 && !run.is_empty());
                    bytes.extend_from_slice(&run);
                }
                Ok(Some(Piece::Part { bytes: part, .. })) => {
                    assert!(!whole, "part of a row that was asked for whole");
                    bytes.extend_from_slice(&part);
                }
                Ok(None) => break,
                // Rows before what is malformed may already be gone, or may not.
                Err(malformed) => return malformed.to_string(),
            }
        }
    }
    let all = [first, rest].concat();
    assert!(all.starts_with(&bytes), "a byte was lost or made up");
    // What is left of a long row may be gone or wait for the rest of it.
    if whole { format!("{} bytes", bytes.len()) } else { String::new() }
}

/// A description of rows and rows of it; every second column is classified.
pub(super) fn rows(bytes: &[u8]) {
    let (mut answers, mut buffer) = (Answers::default(), BytesMut::from(bytes));
    let mut shape = None;
    while let Ok(Some(piece)) = answers.next(&mut buffer, true) {
        match piece {
            Piece::Frame(frame) => {
                let Ok(columns) = wire::columns(&frame) else { continue };
                let secret = CLASSES.iter().take(1).cloned().collect::<BTreeSet<_>>();
                let outputs = columns.iter().enumerate().map(|(at, column)| Output {
                    name: None,
                    classes: if at % 2 == 1 { secret.clone() } else { BTreeSet::new() },
                    origin: (column.table != 0).then_some((column.table, column.number)),
                });
                let outputs = Outputs::Columns(outputs.collect());
                shape = Shape::of(&columns, &outputs, &BTreeSet::new()).ok();
            }
            Piece::Rows { bytes, rows } => masked(&bytes, rows, shape.as_ref()),
            Piece::Part { .. } => {}
        }
    }
}

fn masked(bytes: &Bytes, rows: u64, shape: Option<&Shape>) {
    for room in [0, 7, 4096] {
        let run = Rows { bytes: bytes.clone(), rows, shape: shape.cloned() };
        let Ok(masked) = run.masked(&hiding(), room) else { continue };
        assert!(shape.is_some(), "rows of no known shape were shown");
        let (mut answers, mut buffer) = (Answers::default(), BytesMut::from(masked.out));
        let mut seen = 0_u64;
        while let Ok(Some(Piece::Rows { bytes, rows })) = answers.next(&mut buffer, true) {
            seen = seen.saturating_add(rows);
            let mut rest = bytes;
            while let Some(length) = rest.get(1..wire::HEAD_BYTES).and_then(<[u8]>::first_chunk) {
                let total = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(0);
                let row = rest.split_to(total.saturating_add(1).min(rest.len()));
                hidden(&row);
            }
        }
        assert!(buffer.is_empty() && seen == rows, "masking broke a row");
    }
}

fn hidden(row: &[u8]) {
    for cell in Cells::of(row).into_iter().flatten().skip(1).step_by(2).flatten() {
        assert!(mask::contains_mask(cell), "a hidden value is left");
    }
}

/// A startup packet, and the password or OAUTHBEARER messages behind it, inside TLS.
pub(super) fn startup(bytes: &[u8]) {
    drop(startup_in_parts(bytes, b""));
}

pub(super) fn startup_in_parts(first: &[u8], rest: &[u8]) -> String {
    let bytes = |part: &[u8]| std::io::Cursor::new(part.to_vec());
    let stream = tokio::io::join(bytes(first).chain(bytes(rest)), tokio::io::sink());
    let read = async {
        match hello::encrypted(Secured::without_certificate(stream, None)).await {
            Ok(Hello::Cancel { process, key, .. }) => format!("cancel {process} {key:?}"),
            Ok(Hello::Session(mut asked)) => {
                let shown = match asked.prove(PostgresAuth::Password).await {
                    Ok(Shown::Nothing) => {
                        let heard = asked.challenge("https://weir.example").await;
                        format!("nothing {heard:?}")
                    }
                    Ok(Shown::Password(secret) | Shown::Bearer(secret)) => {
                        secret.expose_secret().to_owned()
                    }
                    other => format!("{other:?}"),
                };
                format!("{:?} {shown:?}", asked.startup)
            }
            Err(error) => format!("{error:?}"),
        }
    };
    read.now_or_never().unwrap_or_else(|| "it waits".to_owned())
}

/// A first message of OAUTHBEARER, from `alice`.
pub(super) fn sasl(bytes: &[u8]) {
    drop(sasl::Initial::of(bytes));
    if let Ok(sasl::Shown::Token(token)) = sasl::shown(bytes, "alice") {
        let token = token.expose_secret();
        assert!(!token.is_empty() && token.bytes().all(|sign| sign.is_ascii_graphic()));
    }
}

pub(super) fn sql(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > TEXT_BYTES_MAX {
        return;
    }
    match sql::read(text, &DECLARED) {
        Ok(reading) => {
            for statement in &reading.statements {
                assert!(!statement.effects.is_empty(), "a statement that does nothing");
            }
        }
        Err(Unreadable::Internal) => assert!(text.contains('\0'), "the reading failed"),
        Err(Unreadable::Syntax { message, .. }) => assert!(!message.is_empty()),
        Err(Unreadable::TooLong) => {}
    }
}

/// Columns and their classes; an empty class is none.
type Columns = [(&'static str, &'static str)];

/// The demo's customers and orders.
static DECLARED: LazyLock<Declared> = LazyLock::new(|| {
    let mut all = Declared::new(CLASSES.iter().cloned().collect());
    let tables: [(&str, u32, &Columns); 3] = [
        (
            "customers",
            16_401,
            &[
                ("id", ""),
                ("name", "pii.name"),
                ("email", "pii.email"),
                ("national_id", "pii.national_id"),
                ("city", ""),
                ("created_at", ""),
            ],
        ),
        ("orders", 16_402, &[("id", ""), ("customer_id", ""), ("amount", ""), ("ordered_at", "")]),
        ("notes", 16_403, &[("id", ""), ("body", "")]),
    ];
    for (name, oid, columns) in tables {
        let columns = columns.iter().zip(1..).map(|((name, class), number)| sql::Column {
            name: (*name).to_owned(),
            number,
            classes: Some(class.parse().into_iter().collect()),
        });
        all.declare("public", name, sql::Table { oid, columns: columns.collect() });
    }
    all
});
