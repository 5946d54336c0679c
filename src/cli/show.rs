//! Answers of the API, as people read them. Whatever came from outside is tamed first.

mod record;

use serde::Deserialize;
use serde_json::Value;

use crate::cli::print::line;
use crate::cli::print::table;
use crate::cli::print::tame;
use crate::cli::print::tame_lines;
use crate::model::Clock;
use crate::model::clock::System;
use crate::model::place::PlaceMethod;

pub(super) use record::entries;
pub(super) use record::erased;
pub(super) use record::record;

pub(super) fn whoami(answer: &Value) {
    let principal = &answer["principal"];
    line(&format!("{} ({})", text(principal, "name"), text(principal, "issuer")));
    line(&format!("roles:  {}", list(&principal["roles"])));
    line(&format!("entity: {}", or(text(principal, "entity"), "none")));
    let actors = principal["actors"].as_array().into_iter().flatten();
    let actors = actors.map(|actor| or(text(actor, "name"), &plain(actor))).collect::<Vec<_>>();
    if !actors.is_empty() {
        line(&format!("through: {}", actors.join(", then ")));
    }
    line(&format!("from:   {}", place(&answer["origin"])));
    let proof = &answer["authentication"];
    if proof.is_object() {
        let how = [text(proof, "acr"), list(&proof["amr"])];
        let how = how.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
        let how = if how.is_empty() { how } else { format!(" ({how})") };
        line(&format!("proved: {}{how}", age(proof["at"].as_str().unwrap_or_default())));
    }
    if answer["login"].is_string() {
        let until = second(&text(answer, "ends_at"));
        line(&format!("login:  {}, renewed until {until}", text(answer, "login")));
    }
    line(&format!("until:  {}", second(&text(answer, "expires_at"))));
}

/// How long ago something was.
fn age(at: &str) -> String {
    let Ok(then) = at.parse::<jiff::Timestamp>() else { return tame(at) };
    let minutes = System.now().duration_since(then).as_mins();
    match minutes {
        ..1 => "just now".to_owned(),
        1..120 => format!("{minutes} min ago"),
        _ => format!("{} h ago", minutes / 60),
    }
}

pub(super) fn credentials(answer: &Value) {
    let mut rows = Vec::new();
    for entry in answer.as_array().into_iter().flatten() {
        let login = &entry["login"];
        let device = &login["device"];
        let here = if entry["current"] == true { " (here)" } else { "" };
        rows.push(vec![
            text(login, "id"),
            format!("{}{here}", text(&login["principal"], "name")),
            text(device, "label"),
            text(device, "address"),
            second(&text(login, "began_at")),
            second(&text(login, "ends_at")),
        ]);
        for credential in entry["credentials"].as_array().into_iter().flatten() {
            rows.push(vec![
                format!("  {}", text(credential, "id")),
                text(credential, "form"),
                list(&credential["uses"]),
                or(text(credential, "target"), &text(credential, "host")),
                second(&text(credential, "issued_at")),
                second(&text(credential, "expires_at")),
            ]);
        }
    }
    table(&["ID", "WHO / WHAT", "DEVICE / FOR", "FROM / AT", "SINCE", "UNTIL"], &rows);
}

/// How the gateway reads a token, and what policy grants to its holder.
pub(super) fn findings(answer: &Value) {
    let read = &answer["explanation"];
    line(if read["accepted"] == true { "accepted" } else { "NOT ACCEPTED" });
    let rows = each(&read["findings"], |finding| {
        vec![text(finding, "check"), text(finding, "outcome"), text(finding, "detail")]
    });
    table(&["CHECK", "OUTCOME", ""], &rows);
    let principal = &read["principal"];
    if principal.is_object() {
        let (name, roles) = (text(principal, "name"), list(&principal["roles"]));
        let entity = or(text(principal, "entity"), "none");
        line(&format!("\n{name}; roles: {}; entity: {entity}", or(roles, "none")));
    }
    let rows = each(&answer["targets"], |target| {
        let judgement = &target["judgement"];
        let connect = &judgement["connect"];
        let may = if connect["is"] == "admit" { "yes".to_owned() } else { refusal(connect) };
        let masks = &judgement["masks"];
        let hidden = masks["hidden"].as_object().into_iter().flatten();
        let hidden = hidden.map(|(class, _)| tame(class)).collect::<Vec<_>>().join(", ");
        vec![text(target, "target"), list(&masks["shown"]), hidden, may]
    });
    if !rows.is_empty() {
        table(&["TARGET", "SHOWN", "MASKED", "MAY CONNECT"], &rows);
    }
}

pub(super) fn targets(answer: &Value) {
    let rows = each(answer, |target| {
        let observe = if target["observe"] == true { "observe" } else { "" };
        vec![
            text(target, "name"),
            text(target, "protocol"),
            format!("{} ({})", text(target, "region"), text(target, "country")),
            list(&target["classes"]),
            observe.to_owned(),
        ]
    });
    table(&["TARGET", "PROTOCOL", "REGION", "CLASSES", ""], &rows);
}

pub(super) fn sessions(answer: &Value) {
    let rows = each(answer, |session| {
        let ended = match session["closed_at"].as_str() {
            Some(_) => text(session, "reason"),
            None => "live".to_owned(),
        };
        let observed = if session["observe"] == true { " (observe mode)" } else { "" };
        vec![
            text(session, "session"),
            second(&text(session, "opened_at")),
            text(session, "principal"),
            format!("{} {}", or(text(session, "country"), "??"), text(session, "address")),
            text(session, "target"),
            text(session, "protocol"),
            asked(session, "commands"),
            format!("{ended}{observed}"),
        ]
    });
    table(&["SESSION", "SINCE", "WHO", "FROM", "TARGET", "PROTOCOL", "COMMANDS", "STATE"], &rows);
}

/// How often something was asked, and how often of these it was denied.
fn asked(of: &Value, times: &str) -> String {
    let times = text(of, times);
    match of["denied"].as_u64() {
        Some(denied @ 1..) => format!("{times} ({denied} denied)"),
        Some(0) | None => times,
    }
}

pub(super) fn id(answer: &Value) -> String {
    text(answer, "session")
}

pub(super) fn hits(answer: &Value) {
    let hits = answer["hits"].as_array().map(Vec::as_slice).unwrap_or_default();
    for hit in hits {
        let command = format!("{}  {} #{}", second(&text(hit, "last_at")), id(hit), hit["number"]);
        if hit["withheld"] == true {
            line(&command);
            line("    withheld: it may carry a class that you may not see");
            continue;
        }
        let country = or(text(hit, "country"), "??");
        let (who, target, verb) = (text(hit, "principal"), text(hit, "target"), text(hit, "verb"));
        let times = asked(hit, "times");
        line(&format!("{command}  {who} from {country} at {target}: {verb} ×{times}"));
        let context = &hit["context"];
        let dots = |there: &Value| if *there == true { "…" } else { "" };
        let part = context["text"].as_str().unwrap_or_default().split_whitespace();
        let part = tame(&part.collect::<Vec<_>>().join(" "));
        let (before, after) = (dots(&context["begins_later"]), dots(&context["ends_earlier"]));
        line(&format!("    {before}{part}{after}"));
    }
    if hits.is_empty() {
        line("nothing was found");
    }
    if answer["cut"] == true {
        line("there may be more: --limit says how many are shown");
    }
    if let Some(left_out @ 1..) = answer["targets_left_out"].as_u64() {
        line(&format!(
            "{left_out} targets were left out, whose sessions you may not search from here"
        ));
    }
}

pub(super) fn session(answer: &Value) {
    for entry in answer["entries"].as_array().into_iter().flatten() {
        let event = &entry["event"];
        line(&format!("{:>5}  {}  {}", entry["n"], second(&text(entry, "at")), headline(event)));
        for further in details(event) {
            line(&format!("       {further}"));
        }
    }
    if answer["results_withheld"] == true {
        line("results are left out: they may carry a class that you may not see");
    }
    if answer["cut"] == true {
        line("there are more entries than one answer carries");
    }
    if let Some(damage) = answer["damage"].as_str() {
        line(&format!("DAMAGED: {}", tame(damage)));
    }
}

pub(super) fn requests(answer: &Value) {
    if answer.as_array().is_none_or(Vec::is_empty) {
        line("nothing waits for you, and nothing of yours waits");
    }
    for hold in answer.as_array().into_iter().flatten() {
        let who = text(&hold["principal"], "name");
        let target = text(hold, "target");
        line(&format!(
            "{}  {who} on {target}, from {}",
            text(hold, "hold"),
            place(&hold["origin"])
        ));
        let command = &hold["command"];
        for said in lines(&command["text"]) {
            line(&format!("    {said}"));
        }
        for detail in command["details"].as_array().into_iter().flatten() {
            line(&format!("    {}", pair(detail)));
        }
        line(&format!("    {}; until {}", text(hold, "reason"), second(&text(hold, "until"))));
        line(&format!("    approvers: {}", list(&hold["approvers"])));
    }
}

pub(super) fn answered(answer: &Value) {
    line(&format!("{}: {}", text(answer, "hold"), text(answer, "decision")));
}

pub(super) fn judgement(answer: &Value) {
    let (who, target) = (text(answer, "principal"), text(answer, "target"));
    line(&format!("{who}, from {}, at {target}", place(&answer["from"])));
    let connect = &answer["connect"];
    if connect["is"] == "admit" {
        line(&format!("connect: yes [{}]", list(&connect["rules"])));
    } else {
        line(&format!("connect: no, {}", refusal(connect)));
    }
    let transfer = &answer["transfer"];
    if !transfer.is_null() {
        line(&format!("transfer: {} [{}]", outcome(&transfer["outcome"]), list(&transfer["rows"])));
        let legs = transfer["legs"].as_array().into_iter().flatten();
        for leg in legs.filter(|leg| !leg["regime"].is_null()) {
            line(&format!(
                "  {}, {} in {}: {} [{}]",
                text(leg, "regime"),
                text(leg, "leg"),
                text(leg, "place"),
                outcome(&leg["outcome"]),
                list(&leg["rows"])
            ));
        }
    }
    if !answer["command"].is_null() {
        line(&format!("command: {}", verdict(&answer["command"])));
    }
    let masks = &answer["masks"];
    line(&format!("shown:  {}", or(list(&masks["shown"]), "nothing classified")));
    let hidden = masks["hidden"].as_object().into_iter().flatten();
    let hidden = hidden.map(|(class, _)| tame(class)).collect::<Vec<_>>();
    line(&format!("masked: {}", or(hidden.join(", "), "nothing")));
    if answer["observe"] == true {
        line("the target is in observe mode: this is recorded, not applied");
    }
    line(&format!("snapshot: {}", text(answer, "version")));
}

pub(super) fn headline(event: &Value) -> String {
    let number = plain(&event["number"]);
    match event["is"].as_str().unwrap_or_default() {
        "opened" => format!(
            "opened: {} from {} at {} ({})",
            text(&event["principal"], "name"),
            place(&event["origin"]),
            text(event, "target"),
            text(event, "protocol")
        ),
        "command" => format!(
            "#{number} {} -> {}{}",
            text(&event["command"], "verb"),
            verdict(&event["verdict"]),
            if event["observed"] == true { " (observe mode: not applied)" } else { "" }
        ),
        "held" => format!("#{number} held as {}", text(event, "hold")),
        "hold-ended" => {
            let ending = &event["ending"];
            let by = ending["by"].as_str().map(|by| format!(" by {}", tame(by)));
            format!("#{number} {}{}", text(ending, "how"), by.unwrap_or_default())
        }
        "masks" => {
            let hidden = event["hidden"].as_object().into_iter().flatten();
            let hidden = hidden.map(|(class, _)| tame(class)).collect::<Vec<_>>();
            format!("masked from now on: {}", or(hidden.join(", "), "nothing"))
        }
        "ended" => {
            let volume = &event["volume"];
            format!(
                "#{number} {} {}, {} rows, {} bytes, {} values masked",
                text(&event["ending"], "how"),
                or(text(&event["ending"], "status"), &text(&event["ending"], "reason")),
                plain(&volume["rows"]),
                plain(&volume["bytes"]),
                plain(&volume["masked"])
            )
        }
        "refused" => format!("refused {}: {}", text(event, "what"), refusal(&event["refusal"])),
        "closed" => format!("closed: {}", text(event, "reason")),
        other => tame(other),
    }
}

pub(super) fn details(event: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if event["is"] == "opened" {
        let transfer = &event["transfer"];
        lines.push(format!(
            "transfer: {} [{}]",
            text(transfer, "outcome"),
            list(&transfer["rows"])
        ));
    }
    if event["is"] == "command" {
        let command = &event["command"];
        if command["withheld"] == true {
            lines
                .push("its text is left out: it may carry a class that you may not see".to_owned());
        }
        lines.extend(self::lines(&command["text"]));
        for detail in command["details"].as_array().into_iter().flatten() {
            lines.push(pair(detail));
        }
    }
    for (name, mark) in [("sent", "<"), ("result", ">")] {
        let sample = &event[name];
        if let Some(kept) = sample["text"].as_str() {
            lines.extend(tame_lines(kept).iter().map(|kept| format!("{mark} {kept}")));
            if sample["cut"] == true {
                lines.push(format!("{mark} [cut: more than is kept]"));
            }
        }
    }
    lines
}

fn verdict(verdict: &Value) -> String {
    match verdict["is"].as_str().unwrap_or_default() {
        "allow" => format!("allow [{}]", list(&verdict["rules"])),
        "hold" => format!(
            "hold for {}: {} [{}]",
            list(&verdict["approvers"]),
            text(verdict, "reason"),
            list(&verdict["rules"])
        ),
        _ => format!("deny: {}", refusal(verdict)),
    }
}

fn refusal(refusal: &Value) -> String {
    let hint = refusal["hint"].as_str().map(|hint| format!(" (hint: {})", tame(hint)));
    format!("{} [{}]{}", text(refusal, "reason"), list(&refusal["rules"]), hint.unwrap_or_default())
}

fn outcome(outcome: &Value) -> String {
    match outcome.as_str() {
        Some(word) => tame(word),
        None => format!("forbidden ({})", text(&outcome["forbidden"], "why")),
    }
}

/// `SG, by configured network 10.65.0.0/16 (10.65.0.7)`, or why the country is unknown.
fn place(origin: &Value) -> String {
    let address = text(origin, "address");
    let how = PlaceMethod::deserialize(&origin["method"]).map(|method| method.to_string());
    let how = how
        .map_or_else(|_| "in a way that this version does not know".to_owned(), |how| tame(&how));
    match origin["country"].as_str() {
        Some(country) => format!("{}, {how} ({address})", tame(country)),
        None => format!("unknown: {how} ({address})"),
    }
}

/// One detail of a command: `name = value`.
/// The lines of a text; whoever prints them indents them.
fn lines(text: &Value) -> Vec<String> {
    tame_lines(text.as_str().unwrap_or_default())
}

fn pair(detail: &Value) -> String {
    detail.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>().join(" = ")
}

fn each(answer: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    answer.as_array().into_iter().flatten().map(row).collect()
}

fn text(value: &Value, name: &str) -> String {
    plain(&value[name])
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => tame(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn list(value: &Value) -> String {
    value.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>().join(", ")
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

/// A time without its fractions of a second.
fn second(time: &str) -> String {
    match time.split_once('.') {
        Some((second, _)) => format!("{second}Z"),
        None => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_client_sent_makes_no_line_of_the_record() {
        let forged = "7\n2026-11-29T09:12:44Z  #9 query -> allow [forged]";
        let command =
            json!({ "verb": forged, "text": "SELECT 1\n#8", "details": [["$1", forged]] });
        let verdict = json!({ "is": "allow", "rules": [forged] });
        let event = json!({ "is": "command", "number": 1, "command": command, "verdict": verdict });
        assert!(!headline(&event).contains('\n'), "{}", headline(&event));
        let told = details(&event);
        assert!(told.iter().all(|line| !line.contains('\n')), "{told:?}");
        assert_eq!(told.get(..2), Some(&["SELECT 1".to_owned(), "#8".to_owned()][..]));
        assert_eq!(told.len(), 3, "a value is one line: {told:?}");
        let withheld = json!({ "is": "command", "command": { "verb": "query", "withheld": true } });
        assert!(details(&withheld).concat().contains("left out"));
    }
}
