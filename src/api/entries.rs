//! The ledger's entries, and its transfers: for those who may read everybody's, with a purpose.
//!
//! An export comes in pages. The first says how many entries it rests on; the next are of the same,
//! so that what is written meanwhile moves no row from one page to another.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::fail::Fail;
use crate::api::filter::one_word;
use crate::api::purpose::Purpose;
use crate::audit::export;
use crate::audit::export::ExportError;
use crate::audit::export::Names;
use crate::audit::export::Statement;
use crate::audit::export::Transfers;
use crate::audit::export::Which;
use crate::audit::export::Window;
use crate::model::SessionId;
use crate::model::TargetName;
use crate::model::when::When;
use crate::policy;

/// What a policy reads where somebody reads the ledger.
const LEDGER: policy::Ask<'static> = policy::Ask::Administer { what: "ledger" };
/// Entries that one list has, where the call does not say, and at most.
const ENTRIES_DEFAULT: usize = 50;
const ENTRIES_MAX: usize = 1_000;
/// About how long an answer may get, in bytes; it has one row at least.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListQuery {
    purpose: Option<String>,
    since: Option<String>,
    until: Option<String>,
    session: Option<SessionId>,
    user: Option<String>,
    target: Option<TargetName>,
    kind: Option<String>,
    limit: Option<usize>,
}

/// Entries, newest first.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    entries: VecDeque<Box<RawValue>>,
}

pub(super) async fn list(
    State(resources): Shared,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Listed>, Fail> {
    let Query(query) = query.map_err(|error| Fail::malformed(&error.body_text()))?;
    let purpose = Purpose::of(query.purpose.as_deref())?;
    for (name, said) in [("user", &query.user), ("kind", &query.kind)] {
        one_word(name, said.as_deref())?;
    }
    let window = window(&resources, query.since.as_deref(), query.until.as_deref())?;
    let which = Which {
        window,
        session: query.session,
        user: query.user.clone(),
        target: query.target.clone(),
        kind: query.kind.clone(),
    };
    let noted = ("ledger", in_words(&which));
    caller.may_look(&resources, &LEDGER, noted, (&purpose, false))?;
    let limit = query.limit.unwrap_or(ENTRIES_DEFAULT).min(ENTRIES_MAX);
    let entries = in_background(&resources, move |resources| newest(resources, &which, limit));
    Ok(Json(Listed { entries: entries.await? }))
}

/// The newest entries that are asked for, newest first.
fn newest(
    resources: &Resources,
    which: &Which,
    limit: usize,
) -> Result<VecDeque<Box<RawValue>>, ExportError> {
    let audit = &resources.gateway.parts.audit;
    let (mut names, mut found, mut bytes) = (Names::default(), VecDeque::new(), 0_usize);
    let upto = audit.head().entries;
    export::read(&export::files_beside(&audit.ledger_path()), upto, which.window, |raw| {
        if limit == 0 || !names.wants(which, raw) {
            return;
        }
        let text = String::from_utf8_lossy(raw.text).into_owned();
        let Ok(value) = RawValue::from_string(text) else { return };
        bytes = bytes.saturating_add(raw.text.len());
        found.push_front(value);
        while found.len() > limit || (bytes > PAGE_BYTES_MAX && found.len() > 1) {
            let oldest = found.pop_back().map_or(0, |value| value.get().len());
            bytes = bytes.saturating_sub(oldest);
        }
    })?;
    Ok(found)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Framework {
    /// Every transfer.
    #[default]
    Gdpr,
    /// Every entry, as it stands.
    Raw,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExportQuery {
    purpose: Option<String>,
    framework: Framework,
    from: Option<String>,
    to: Option<String>,
    /// How many entries the export rests on, as its first page said.
    upto: Option<u64>,
    /// How many rows the pages before had.
    after: Option<u64>,
}

/// A page of an export.
#[derive(Debug, Serialize)]
pub(super) struct Exported {
    rows: Vec<Value>,
    /// For the next page; `None`: this is the last.
    after: Option<u64>,
    upto: u64,
    statement: Statement,
}

pub(super) async fn export(
    State(resources): Shared,
    caller: Caller,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Json<Exported>, Fail> {
    let Query(query) = query.map_err(|error| Fail::malformed(&error.body_text()))?;
    let purpose = Purpose::of(query.purpose.as_deref())?;
    let (from, to) = (query.from.as_deref(), query.to.as_deref());
    if query.after.is_some() && [from, to].into_iter().flatten().any(is_relative) {
        let what = "`after` counts rows of one window: give `from` and `to` as moments, the same for \
                    each page";
        return Err(Fail::malformed(what));
    }
    let window = window(&resources, from, to)?;
    let framework = match query.framework {
        Framework::Gdpr => "gdpr",
        Framework::Raw => "raw",
    };
    let words = in_words(&Which { window, ..Which::default() });
    let page = query.after.map_or_else(String::new, |after| format!("; after {after}"));
    let noted = ("ledger-export", format!("{framework}{words}{page}"));
    caller.may_look(&resources, &LEDGER, noted, (&purpose, false))?;
    if query.upto.is_none() {
        // So that what is exported is counted by a checkpoint wholly.
        let audit = Arc::clone(&resources.gateway.parts.audit);
        let signed = tokio::task::spawn_blocking(move || audit.checkpoint()).await;
        signed.map_err(|error| Fail::ours(&error))?.map_err(|error| Fail::ours(&error))?;
    }
    let page = in_background(&resources, move |resources| exported(resources, &query, window));
    Ok(Json(page.await?))
}

fn exported(
    resources: &Resources,
    query: &ExportQuery,
    window: Window,
) -> Result<Exported, ExportError> {
    let audit = &resources.gateway.parts.audit;
    let head = audit.head().entries;
    let upto = query.upto.unwrap_or_else(|| checkpointed(resources).unwrap_or(head)).min(head);
    let mut page = Page { skip: query.after.unwrap_or(0), seen: 0, bytes: 0, rows: Vec::new() };
    let mut transfers = Transfers::within(window);
    let files = export::files_beside(&audit.ledger_path());
    let statement = export::read(&files, upto, window, |raw| match query.framework {
        Framework::Gdpr => {
            transfers.read(raw.line);
            transfers.take().iter().for_each(|transfer| page.add(|| json!(transfer)));
        }
        Framework::Raw if window.has(raw.line.at) => {
            page.add(|| Value::String(String::from_utf8_lossy(raw.text).into_owned()));
        }
        Framework::Raw => {}
    })?;
    transfers.finish().iter().for_each(|transfer| page.add(|| json!(transfer)));
    let given = page.skip.saturating_add(u64::try_from(page.rows.len()).unwrap_or(u64::MAX));
    let after = (page.seen > given).then_some(given);
    Ok(Exported { rows: page.rows, after, upto, statement })
}

fn checkpointed(resources: &Resources) -> Option<u64> {
    let note = resources.gateway.parts.audit.latest_checkpoint()?;
    note.checkpoint().ok().map(|checkpoint| checkpoint.size)
}

/// The rows of one page.
struct Page {
    skip: u64,
    seen: u64,
    bytes: usize,
    rows: Vec<Value>,
}

impl Page {
    fn add(&mut self, row: impl FnOnce() -> Value) {
        self.seen = self.seen.saturating_add(1);
        if self.seen <= self.skip || self.bytes >= PAGE_BYTES_MAX {
            return;
        }
        let row = row();
        self.bytes = self.bytes.saturating_add(row.to_string().len());
        self.rows.push(row);
    }
}

/// Whether a time is another one each time that it is asked for.
fn is_relative(text: &str) -> bool {
    matches!(text.parse(), Ok(When::Ago(_)))
}

fn window(resources: &Resources, from: Option<&str>, to: Option<&str>) -> Result<Window, Fail> {
    let now = resources.gateway.parts.clock.now();
    let moment = |text: Option<&str>| -> Result<Option<Timestamp>, Fail> {
        let when = text.map(str::parse::<When>).transpose();
        let when = when.map_err(|bad| Fail::malformed(&bad.to_string()))?;
        Ok(when.map(|when| when.before(now)))
    };
    Ok(Window { from: moment(from)?, to: moment(to)? })
}

/// What is looked for, for the ledger itself.
fn in_words(which: &Which) -> String {
    let given = [
        ("since", which.window.from.map(|at| at.to_string())),
        ("until", which.window.to.map(|at| at.to_string())),
        ("session", which.session.map(|session| session.to_string())),
        ("user", which.user.clone()),
        ("target", which.target.as_ref().map(ToString::to_string)),
        ("kind", which.kind.clone()),
    ];
    let words = given.into_iter().filter_map(|(name, value)| Some(format!("; {name} {}", value?)));
    words.collect()
}

/// Reads the ledger where that does not stop others.
async fn in_background<T: Send + 'static>(
    resources: &Arc<Resources>,
    work: impl FnOnce(&Resources) -> Result<T, ExportError> + Send + 'static,
) -> Result<T, Fail> {
    let resources = Arc::clone(resources);
    let done = tokio::task::spawn_blocking(move || work(&resources)).await;
    done.map_err(|error| Fail::ours(&error))?.map_err(|error| Fail::ours(&error))
}
