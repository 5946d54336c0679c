//! Transfers as lines of CSV (RFC 4180): one a class, so that volumes can be added up.
//!
//! What a spreadsheet would take for a formula, at the beginning of a cell or behind a `;` in it, has
//! a `'` before it.

use crate::audit::entry::Volume;
use crate::audit::export::Raw;
use crate::audit::export::Transfer;
use crate::audit::transfer::PartyNote;
use crate::audit::transfer::TransferFacts;

/// The names of the columns, as [`transfer_csv`] fills them.
pub const CSV_HEAD: &str = "entry,opened_at,closed_entry,closed_at,state,session,direction,\
    outcome,exporter,exporter_role,exporter_country,importer,importer_role,importer_country,\
    issuer,subject,principal,kind,through,target,protocol,region,data_country,access_country,\
    access_country_known,class,class_rows,class_bytes,class_masked,rows,bytes,legal_rows,\
    registered_bases,documents_sha256,bases_owners,bases_valid_to,reason,approvals,rules,snapshot";

/// The lines of a transfer, each with its line feed.
pub fn transfer_csv(transfer: &Transfer) -> String {
    let before = before(transfer);
    let after = after(transfer);
    let class = |name: &str, volume: Option<&Volume>| {
        let number = |of: fn(&Volume) -> u64| volume.map(|v| of(v).to_string()).unwrap_or_default();
        let cells = [
            name.to_owned(),
            number(|volume| volume.rows),
            number(|volume| volume.bytes),
            number(|volume| volume.masked),
        ];
        line(before.iter().chain(&cells).chain(&after))
    };
    if transfer.classes.is_empty() {
        return class("", None);
    }
    transfer.classes.iter().map(|(name, volume)| class(name.as_str(), Some(volume))).collect()
}

/// An entry as it stands: its number, when, and the line itself.
pub fn entry_csv(raw: Raw<'_>) -> String {
    let text = String::from_utf8_lossy(raw.text).into_owned();
    line([raw.line.n.to_string(), raw.line.at.to_string(), text].iter())
}

fn before(transfer: &Transfer) -> Vec<String> {
    let facts = transfer.facts.as_deref();
    let of = |read: &dyn Fn(&TransferFacts) -> String| facts.map(read).unwrap_or_default();
    let role = |party: &PartyNote| {
        party
            .role
            .and_then(|role| serde_json::to_value(role).ok())
            .and_then(|role| role.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let country = |party: &PartyNote| text(party.country.as_ref());
    let kind = |kind| {
        let word = serde_json::to_value(kind).ok();
        word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let through =
        |facts: &TransferFacts| join(facts.principal.actors.iter().map(|actor| actor.name.clone()));
    vec![
        transfer.entry.to_string(),
        transfer.opened_at.to_string(),
        text(transfer.closed_entry.as_ref()),
        text(transfer.closed_at.as_ref()),
        transfer.state.as_str().to_owned(),
        transfer.session.to_string(),
        transfer.direction.clone(),
        transfer.basis.outcome.clone(),
        transfer.exporter.clone(),
        of(&|facts| role(&facts.exporter)),
        of(&|facts| country(&facts.exporter)),
        transfer.importer.clone(),
        of(&|facts| role(&facts.importer)),
        of(&|facts| country(&facts.importer)),
        of(&|facts| facts.principal.issuer.clone()),
        of(&|facts| facts.principal.subject.clone()),
        of(&|facts| facts.principal.name.clone()),
        of(&|facts| kind(facts.principal.kind)),
        of(&through),
        of(&|facts| facts.target.to_string()),
        of(&|facts| facts.protocol.to_string()),
        of(&|facts| facts.region.to_string()),
        of(&|facts| facts.data_country.to_string()),
        of(&|facts| text(facts.origin.country.as_ref())),
        of(&|facts| facts.origin.method.to_string()),
    ]
}

fn after(transfer: &Transfer) -> Vec<String> {
    let facts = transfer.facts.as_deref();
    let bases = facts.map(|facts| facts.bases.as_slice()).unwrap_or_default();
    let rules = facts.map(|facts| facts.rules.as_slice()).unwrap_or_default();
    let approvals = transfer.approvals.iter();
    vec![
        transfer.volume.rows.to_string(),
        transfer.volume.bytes.to_string(),
        join(transfer.basis.rows.iter().map(ToString::to_string)),
        join(bases.iter().map(|basis| basis.id.to_string())),
        join(bases.iter().map(|basis| basis.document.to_string())),
        join(bases.iter().map(|basis| basis.owner.clone())),
        join(bases.iter().map(|basis| basis.valid_to.to_string())),
        transfer.basis.reason.clone(),
        join(approvals.map(|approval| format!("{} by {}", approval.hold, approval.by))),
        join(rules.iter().map(ToString::to_string)),
        text(facts.map(|facts| &facts.snapshot)),
    ]
}

fn text(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}

fn line<'a>(cells: impl Iterator<Item = &'a String>) -> String {
    let mut text = cells.map(|text| cell(text)).collect::<Vec<_>>().join(",");
    text.push('\n');
    text
}

fn cell(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    // Many a spreadsheet parts cells at `;`, whatever stands in quotes before a comma.
    let parts = text.split(';').map(|part| {
        let begin = part.trim_start_matches([' ', '"']);
        let blanks = part.get(..part.len().saturating_sub(begin.len())).unwrap_or_default();
        let guard = if begin.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
        format!("{blanks}{guard}{begin}")
    });
    let plain = parts.collect::<Vec<_>>().join(";");
    if plain.contains([',', '"', '#', ' ']) {
        format!("\"{}\"", plain.replace('"', "\"\""))
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_cell_is_a_formula_for_whoever_parts_cells_elsewhere() {
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell(" @SUM(A1)"), "\" '@SUM(A1)\"");
        assert_eq!(cell("a;=cmd|' /C calc'!A0; -2"), "\"a;'=cmd|' /C calc'!A0; '-2\"");
        assert_eq!(cell("a-b;c+d"), "a-b;c+d");
    }
}
