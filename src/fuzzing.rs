//! One entry point per parser, for fuzzing and for replaying the corpus.
//!
//! Each takes whatever bytes there are, throws away what was read, and panics where a parser does
//! what it must not: where two readings of the same bytes differ, where a document is no document
//! after masking, where something hidden is left. Knows every parser and no part of the gateway's
//! work; nothing but tests calls it.

mod audit;
mod http;
mod kubernetes;
mod operator;
mod postgres;
mod reconcile;

use std::sync::LazyLock;

use crate::identity;
use crate::identity::ssh_certificate::SshAuthorityKey;
use crate::identity::ssh_certificate::parse;
use crate::listen::Limits;
use crate::listen::country;
use crate::listen::detect;
use crate::listen::proxy;
use crate::listen::proxy::Parsed;
use crate::model::DataClass;
use crate::model::verdict::Masks;
use crate::protocol::ssh;
use crate::store;

/// Something that reads bytes, and panics only where it is wrong.
pub type Reads = fn(&[u8]);

/// Something that reads bytes that come in two parts, and says what it has read. It must say the
/// same wherever the parts meet.
pub type ReadsParts = fn(&[u8], &[u8]) -> String;

/// Every parser, by the name of its folder in `tests/corpus`.
pub const ALL: &[(&str, Reads)] = &[
    ("audit", audit::chain),
    ("config", operator::config),
    ("country_database", country::read_and_ask),
    ("detect", first_bytes),
    ("http_head", http::head),
    ("http_json", http::json),
    ("json_path", operator::json_path),
    ("kubernetes_answer", kubernetes::answer),
    ("kubernetes_audit", reconcile::kubernetes_audit),
    ("kubernetes_body", kubernetes::body),
    ("kubernetes_request", kubernetes::request),
    ("law_pack", operator::law_pack),
    ("names", operator::names),
    ("policy", operator::policy),
    ("postgres_answers", postgres::answers),
    ("postgres_log", reconcile::postgres_log),
    ("postgres_requests", postgres::requests),
    ("postgres_rows", postgres::rows),
    ("postgres_sasl", postgres::sasl),
    ("postgres_sql", postgres::sql),
    ("postgres_startup", postgres::startup),
    ("proxy", proxy_header),
    ("receipt", audit::receipt),
    ("record_key", audit::record_key),
    ("search", search),
    ("signed_note", audit::signed_note),
    ("ssh_certificate", ssh_certificate),
    ("ssh_command", ssh_command),
    ("sshd_log", reconcile::sshd_log),
    ("token", token),
];

/// The parsers whose bytes come from a socket, so that they may be split anywhere.
pub const IN_PARTS: &[(&str, ReadsParts)] = &[
    ("detect", first_bytes_in_parts),
    ("kubernetes_answer", kubernetes::lines_in_parts),
    ("postgres_answers", postgres::answers_in_parts),
    ("postgres_requests", postgres::requests_in_parts),
    ("postgres_rows", postgres::answers_in_parts),
    ("postgres_startup", postgres::startup_in_parts),
    ("proxy", proxy_header_in_parts),
];

/// Gives `bytes` to the parser called `name`; an unknown name is nothing.
pub fn read(name: &str, bytes: &[u8]) {
    for (_, reads) in ALL.iter().filter(|(known, _)| *known == name) {
        reads(bytes);
    }
}

fn proxy_header(bytes: &[u8]) {
    match proxy::parse(bytes) {
        Ok(Parsed::Header { bytes: length, .. }) => assert!(length <= bytes.len()),
        Ok(Parsed::NeedMore(missing)) => assert!(missing > 0),
        Err(_) => {}
    }
}

/// What a part of a header says may not be taken back by the rest of it.
fn proxy_header_in_parts(first: &[u8], rest: &[u8]) -> String {
    let whole = [first, rest].concat();
    let read = proxy::parse(&whole);
    match proxy::parse(first) {
        Ok(Parsed::NeedMore(_)) => {}
        early => assert_eq!(early, read, "a later byte changed what a header says"),
    }
    format!("{read:?}")
}

fn first_bytes(bytes: &[u8]) {
    drop(format!("{:?}", detect::first(bytes, &Limits::default())));
}

fn first_bytes_in_parts(first: &[u8], rest: &[u8]) -> String {
    let limits = Limits::default();
    let read = detect::first(&[first, rest].concat(), &limits);
    let early = detect::first(first, &limits);
    let undecided = early == detect::First::NeedMore;
    assert!(undecided || early == read, "a later byte changed what is spoken");
    format!("{read:?}")
}

/// Reads bytes as a certificate, which has no shorter one in it, and as an authority's line.
fn ssh_certificate(bytes: &[u8]) {
    if parse(bytes).is_ok() {
        let shorter = bytes.split_last().map(|(_, shorter)| shorter);
        assert!(shorter.is_some_and(|shorter| parse(shorter).is_err()), "bytes after its end");
    }
    let line = String::from_utf8_lossy(bytes);
    if let Ok(key) = line.parse::<SshAuthorityKey>() {
        assert_eq!(key.to_string().parse(), Ok(key), "{line:?} was written as another key");
    }
}

fn ssh_command(bytes: &[u8]) {
    let line = String::from_utf8_lossy(bytes);
    let command = ssh::explain(&line, &CLASSES.iter().cloned().collect());
    assert!(!command.effects.is_empty(), "a line that does nothing");
}

fn search(bytes: &[u8]) {
    store::query::read_and_forget(&String::from_utf8_lossy(bytes));
}

fn token(bytes: &[u8]) {
    identity::read_and_forget(bytes);
}

/// Classes that nobody may see in here, as `hiding` says.
static CLASSES: LazyLock<Vec<DataClass>> = LazyLock::new(|| {
    ["pii.email", "pii.name", "pii.national_id", "cred.secret"]
        .into_iter()
        .filter_map(|class| class.parse().ok())
        .collect()
});

fn hiding() -> Masks {
    let mut masks = Masks::none_asked();
    for class in CLASSES.iter() {
        masks.hide(class.clone(), Vec::new());
    }
    masks
}
