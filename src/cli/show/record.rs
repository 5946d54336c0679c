//! The ledger, and how the record does.

use serde_json::Value;

use super::list;
use super::place;
use super::plain;
use super::refusal;
use super::second;
use super::text;
use crate::cli::print::line;
use crate::cli::print::table;

/// Longest account of an entry that is shown, in characters.
const ACCOUNT_CHARS_MAX: usize = 160;

/// Entries of the ledger, newest first.
pub(in crate::cli) fn entries(answer: &Value) {
    let rows = answer["entries"].as_array().into_iter().flatten().map(|entry| {
        let event = &entry["event"];
        let account = account(event).chars().take(ACCOUNT_CHARS_MAX).collect();
        vec![plain(&entry["n"]), second(&text(entry, "at")), text(event, "is"), account]
    });
    table(&["ENTRY", "AT", "KIND", "WHAT"], &rows.collect::<Vec<_>>());
}

/// What an entry says, in some words.
fn account(event: &Value) -> String {
    let who = || text(&event["principal"], "name");
    let by = || text(&event["by"], "name");
    match event["is"].as_str().unwrap_or_default() {
        "started" => format!("gateway {}", text(event, "gateway")),
        "stopped" | "erased" | "legal-hold" | "legal-hold-lifted" if event["by"].is_object() => {
            format!("{} by {}: {}", text(event, "session"), by(), text(event, "reason"))
        }
        "stopped" => text(event, "reason"),
        "admitted" => format!(
            "{} at {} from {}, {}",
            who(),
            text(event, "target"),
            place(&event["origin"]),
            text(event, "session")
        ),
        "refused" => {
            format!("{} at {}: {}", who(), text(event, "target"), refusal(&event["refusal"]))
        }
        "transfer-opened" => format!(
            "{} {} to {} in {}: {}, {}",
            text(event, "direction"),
            text(event, "from"),
            text(event, "to"),
            text(event, "place"),
            list(&event["classes"]),
            text(&event["basis"], "outcome"),
        ),
        "transfer-volume" | "transfer-unclean" => {
            let volume = &event["volume"];
            let (rows, bytes) = (plain(&volume["rows"]), plain(&volume["bytes"]));
            format!("{}: {rows} rows, {bytes} bytes", text(event, "session"))
        }
        "control" => {
            let no = if event["refusal"].is_null() { "" } else { ", refused" };
            format!("{} {} {}{no}", who(), text(event, "action"), text(event, "of"))
        }
        "expired" => {
            format!("{} after {} days", text(event, "session"), plain(&event["kept_days"]))
        }
        "heads" => {
            let running = event["trails"].as_object().map_or(0, serde_json::Map::len);
            format!("{running} recordings")
        }
        _ => {
            let fields = event.as_object().into_iter().flatten();
            let plain_ones = fields.filter(|(name, value)| {
                *name != "is" && !value.is_object() && !value.is_array() && !value.is_null()
            });
            let words = plain_ones.map(|(name, value)| format!("{name} {}", plain(value)));
            words.collect::<Vec<_>>().join(", ")
        }
    }
}

/// How the record does.
pub(in crate::cli) fn record(answer: &Value) {
    let store = &answer["store"];
    line(&format!("region:     {}, at level {}", text(answer, "region"), text(answer, "level")));
    line(&format!("store:      {}", text(store, "store")));
    match store["failing_since"].as_str() {
        Some(since) => {
            line(&format!("            FAILS since {}: {}", second(since), text(store, "error")));
        }
        None => line(&format!("            all there {}", second(&text(store, "caught_up_at")))),
    }
    for stuck in store["stuck"].as_array().into_iter().flatten() {
        line(&format!("            stays here: {}", text(stuck, "why")));
    }
    let findings = answer["findings"].as_array().into_iter().flatten();
    for finding in findings {
        line(&format!("            {}: {}", text(finding, "severity"), text(finding, "what")));
    }
    line(&format!(
        "spool:      {} of {} bytes, {} ended sessions wait for the store",
        plain(&store["spool_bytes"]),
        plain(&store["spool_bytes_max"]),
        plain(&store["waiting"])
    ));
    let index = &answer["index"];
    line(&format!(
        "index:      {} entries of {} sessions behind",
        plain(&index["entries"]),
        plain(&index["sessions"])
    ));
    let ledger = &answer["ledger"];
    line(&format!(
        "ledger:     {} entries, the latest checkpoint counts {}",
        plain(&ledger["entries"]),
        plain(&ledger["checkpointed"])
    ));
    line(&format!("signed by:  {}", text(ledger, "verifier")));
    line(&format!("wrapped by: {}", list(&answer["wrapping_keys"])));
}

/// What erasing a recording did.
pub(in crate::cli) fn erased(answer: &Value) {
    line(&format!("{} is erased: nobody can read it any more", text(answer, "session")));
    match answer["locked_objects"].as_u64() {
        None | Some(0) => {}
        Some(left) => line(&format!(
            "{left} objects, unreadable, stay in the store until its lock lets go of them"
        )),
    }
}
