//! Adds entries to a kubeconfig and leaves everything else as it is, comments and order too: text
//! is inserted, not written anew. What came out is read again, and given up where anything but ours
//! had changed.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::protocol::kubernetes::kubeconfig::values;

/// What is to be in the kubeconfig, each with its `name`.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    pub(super) clusters: Vec<Value>,
    pub(super) contexts: Vec<Value>,
    pub(super) users: Vec<Value>,
}

impl Entries {
    fn sections(&self) -> [(&'static str, &[Value]); 3] {
        [("clusters", &self.clusters), ("contexts", &self.contexts), ("users", &self.users)]
    }
}

/// A kubeconfig of these entries alone.
pub(super) fn whole(entries: &Entries, current: &str) -> Value {
    let mut config = json!({ "apiVersion": "v1", "kind": "Config" });
    if let Some(config) = config.as_object_mut() {
        for (name, ours) in entries.sections() {
            config.insert(name.to_owned(), Value::from(ours.to_vec()));
        }
        config.insert("current-context".to_owned(), Value::from(current));
    }
    config
}

/// The same as YAML, for people.
pub(super) fn yaml(entries: &Entries, current: &str) -> String {
    let mut text = String::from("apiVersion: v1\nkind: Config\n");
    for (name, ours) in entries.sections() {
        text.push_str(name);
        text.push_str(":\n");
        for entry in ours {
            text.push_str(&item(entry, 0));
        }
    }
    text.push_str("current-context: ");
    text.push_str(&scalar(&Value::from(current)));
    text.push('\n');
    text
}

/// The kubeconfig `old` with these entries, and with this current context where one is given.
pub(super) fn merged(
    old: &str,
    entries: &Entries,
    current: Option<&str>,
) -> Result<String, &'static str> {
    let first = entries.contexts.first().and_then(|context| name_of(context)).unwrap_or_default();
    if old.trim().is_empty() {
        return Ok(yaml(entries, current.unwrap_or(first)));
    }
    let before = values(old).ok_or("it is no kubeconfig that can be read")?;
    let new = if old.trim_start().starts_with('{') {
        of_json(old, entries, current)?
    } else {
        of_yaml(old, &before, entries, current)?
    };
    let after = values(&new).ok_or("it is written in a way that cannot be added to")?;
    if after == wanted(&before, entries, current) {
        Ok(new)
    } else {
        Err("it is written in a way that cannot be added to")
    }
}

/// What the result must mean.
fn wanted(before: &Value, entries: &Entries, current: Option<&str>) -> Value {
    let alone = whole(entries, "").to_string();
    // Read in the same way, so that what is left out is left out in both.
    let ours = values(&alone).unwrap_or_default();
    let mut after = before.clone();
    if let Some(after) = after.as_object_mut() {
        for section in ["clusters", "contexts", "users"] {
            let ours = ours.get(section).and_then(Value::as_array).into_iter().flatten();
            let kept = after.entry(section).or_insert_with(|| json!([]));
            if let Some(kept) = kept.as_array_mut() {
                ours.for_each(|entry| put(kept, entry));
            }
        }
        if let Some(current) = current {
            after.insert("current-context".to_owned(), Value::from(current));
        }
    }
    after
}

/// In the place of the one with its name, else at the end.
fn put(kept: &mut Vec<Value>, entry: &Value) {
    match kept.iter_mut().find(|old| name_of(old) == name_of(entry)) {
        Some(old) => *old = entry.clone(),
        None => kept.push(entry.clone()),
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("name").and_then(Value::as_str)
}

fn of_json(old: &str, entries: &Entries, current: Option<&str>) -> Result<String, &'static str> {
    const ODD: &str = "it is written in a way that cannot be added to";
    let mut config = serde_json::from_str::<Map<String, Value>>(old).map_err(|_| ODD)?;
    for (section, ours) in entries.sections() {
        let kept = config.entry(section).or_insert_with(|| json!([]));
        if kept.is_null() {
            *kept = json!([]);
        }
        let kept = kept.as_array_mut().ok_or(ODD)?;
        for entry in ours {
            put(kept, entry);
        }
    }
    if let Some(current) = current {
        config.insert("current-context".to_owned(), Value::from(current));
    }
    serde_json::to_string_pretty(&config).map_err(|_| ODD)
}

/// The text as lines, each with its end.
fn of_yaml(
    old: &str,
    before: &Value,
    entries: &Entries,
    current: Option<&str>,
) -> Result<String, &'static str> {
    let mut lines = old.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
    if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
        last.push('\n');
    }
    if lines.iter().skip(1).any(|line| line.starts_with("---") || line.starts_with("...")) {
        return Err("it has several documents");
    }
    for (section, ours) in entries.sections() {
        let kept = before.get(section).and_then(Value::as_array);
        let names = kept.into_iter().flatten().map(|entry| name_of(entry).unwrap_or_default());
        let names = names.collect::<Vec<_>>();
        lines = section_with(&lines, section, &names, ours)?;
    }
    if let Some(current) = current {
        let line = format!("current-context: {}\n", scalar(&Value::from(current)));
        match lines.iter_mut().find(|line| line.starts_with("current-context:")) {
            Some(old) => *old = line,
            None => lines.push(line),
        }
    }
    Ok(lines.concat())
}

/// The lines with `ours` in one section, of which the entries are called `names` in order.
fn section_with(
    lines: &[String],
    section: &str,
    names: &[&str],
    ours: &[Value],
) -> Result<Vec<String>, &'static str> {
    const ODD: &str = "it is written in a way that cannot be added to";
    let Some(at) = lines.iter().position(|line| head(line, section).is_some()) else {
        let mut all = lines.to_vec();
        all.push(format!("{section}:\n"));
        all.extend(ours.iter().map(|entry| item(entry, 0)));
        return Ok(all);
    };
    let value = lines.get(at).and_then(|line| head(line, section)).unwrap_or_default();
    let value = value.split(" #").next().unwrap_or_default().trim();
    let (mut all, rest) = (lines.get(..at).unwrap_or_default().to_vec(), lines.get(at + 1..));
    let rest = rest.unwrap_or_default();
    if names.is_empty() && ["[]", "null", "~", ""].contains(&value) {
        all.push(format!("{section}:\n"));
        all.extend(ours.iter().map(|entry| item(entry, 0)));
        all.extend_from_slice(rest);
        return Ok(all);
    }
    if !(value.is_empty() || value.starts_with('#')) {
        return Err("it is written in braces, to which nothing is added");
    }
    all.extend(lines.get(at).cloned());
    // The section goes on until the next key that is as far left as its own.
    let ends = |line: &String| !line.starts_with(['-', ' ', '#', '\n', '\r']);
    let end = rest.iter().position(ends).unwrap_or(rest.len());
    let (body, after) = rest.split_at_checked(end).ok_or(ODD)?;
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let deep = body.iter().find(|line| line.trim_start().starts_with("- "));
    let deep = indent(deep.ok_or(ODD)?);
    let begins = |line: &String| indent(line) == deep && line.trim_start().starts_with("- ");
    let starts = body.iter().enumerate().filter(|(_, line)| begins(line)).map(|(at, _)| at);
    let starts = starts.collect::<Vec<_>>();
    if starts.len() != names.len() {
        return Err(ODD);
    }
    // Comments and empty lines at the end of the section belong to what follows.
    let meant = |line: &&String| !(line.trim().is_empty() || line.trim_start().starts_with('#'));
    let last = body.iter().rposition(|line| meant(&line)).map_or(0, |last| last + 1);
    all.extend_from_slice(body.get(..*starts.first().unwrap_or(&0)).ok_or(ODD)?);
    for (number, (start, name)) in starts.iter().zip(names).enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(last);
        match ours.iter().find(|entry| name_of(entry) == Some(name)) {
            Some(entry) => all.push(item(entry, deep)),
            None => all.extend_from_slice(body.get(*start..end).ok_or(ODD)?),
        }
    }
    let fresh = ours.iter().filter(|entry| name_of(entry).is_some_and(|n| !names.contains(&n)));
    all.extend(fresh.map(|entry| item(entry, deep)));
    all.extend_from_slice(body.get(last..).ok_or(ODD)?);
    all.extend_from_slice(after);
    Ok(all)
}

/// What stands on the line of a section's name, behind its colon.
fn head<'a>(line: &'a str, section: &str) -> Option<&'a str> {
    line.strip_prefix(section).and_then(|rest| rest.strip_prefix(':')).map(str::trim)
}

/// One member of a list, in lines.
fn item(entry: &Value, indent: usize) -> String {
    let mut text = String::new();
    let mut first = true;
    for (name, value) in entry.as_object().into_iter().flatten() {
        let mark = if first { "- " } else { "  " };
        first = false;
        member(&mut text, indent, mark, name, value);
    }
    text
}

fn member(text: &mut String, indent: usize, mark: &str, name: &str, value: &Value) {
    let margin = " ".repeat(indent);
    text.push_str(&format_args!("{margin}{mark}{name}:").to_string());
    let deeper = indent + mark.len();
    match value {
        Value::Object(members) if !members.is_empty() => {
            text.push('\n');
            for (name, value) in members {
                member(text, deeper, "  ", name, value);
            }
        }
        Value::Array(members) if !members.is_empty() => {
            text.push('\n');
            let margin = " ".repeat(deeper);
            for value in members {
                text.push_str(&format_args!("{margin}- {}\n", scalar(value)).to_string());
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => text.push_str(&format_args!(" {}\n", scalar(value)).to_string()),
    }
}

/// A value on one line. JSON is YAML; what needs no quotes gets none.
fn scalar(value: &Value) -> String {
    match value.as_str() {
        Some(text) if is_plain(text) => text.to_owned(),
        Some(_) | None => value.to_string(),
    }
}

/// Whether YAML reads a text as itself without quotes: begins with a letter, has no sign with a
/// meaning, and is no word with one.
fn is_plain(text: &str) -> bool {
    let sign = |b: u8| b.is_ascii_alphanumeric() || b"-_./@+=".contains(&b);
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(sign)
        && !word.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn entries(names: &[&str]) -> Entries {
        let mut entries = Entries::default();
        for name in names {
            entries.clusters.push(json!({ "name": name, "cluster": {
                "server": format!("https://{name}.weir.example:8443"),
                "certificate-authority-data": "LS0tLS1CRUdJTg==",
            } }));
            entries
                .contexts
                .push(json!({ "name": name, "context": { "cluster": name, "user": "weir@eu" } }));
        }
        entries.users.push(json!({ "name": "weir@eu", "user": { "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/usr/bin/weir",
            "args": ["kube-credential", "--gateway", "https://weir.example: 8443", "yes", "1"],
            "interactiveMode": "Never", "provideClusterInfo": false,
        } } }));
        entries
    }

    const THEIRS: &str = "# my clusters\napiVersion: v1\nclusters:\n- cluster:\n    server: https://b.example\n  \
        name: b   # the old one\n- name: a\n  cluster:\n    server: https://a.example\n\n# contexts, by age\ncontexts:\n  \
        - context: {cluster: b, user: me}\n    name: b\ncurrent-context: b\nkind: Config\npreferences: {}\nusers:\n- name: me\n  \
        user:\n    token: secret\n";

    #[test]
    fn everything_that_was_there_stays_as_it_was_comments_and_order_too() {
        let new = merged(THEIRS, &entries(&["prod@eu"]), None).unwrap();
        // What is there of the old text is all of it, in order.
        let mut left = new.lines();
        for line in THEIRS.lines() {
            assert!(left.any(|found| found == line), "`{line}` is lost in\n{new}");
        }
        let config = values(&new).unwrap();
        let names = config["clusters"].as_array().unwrap().iter().map(|c| &c["name"]);
        assert_eq!(names.collect::<Vec<_>>(), ["b", "a", "prod@eu"]);
        assert_eq!(config["current-context"], "b");
        assert_eq!(config["users"][0]["user"]["token"], "secret");
    }

    #[test]
    fn merging_again_changes_nothing_and_a_changed_entry_is_replaced_where_it_is() {
        let once = merged(THEIRS, &entries(&["prod@eu", "test@eu"]), Some("prod@eu")).unwrap();
        assert_eq!(merged(&once, &entries(&["prod@eu"]), None).unwrap(), once);
        let mut moved = entries(&["prod@eu"]);
        moved.clusters[0]["cluster"]["server"] = json!("https://elsewhere.example");
        let twice = merged(&once, &moved, Some("test@eu")).unwrap();
        let config = values(&twice).unwrap();
        assert_eq!(config["clusters"][2]["cluster"]["server"], "https://elsewhere.example");
        assert_eq!(config["clusters"][3]["name"], "test@eu");
        assert_eq!(config["current-context"], "test@eu");
    }

    #[test]
    fn kubectl_reads_the_same_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        for old in ["", THEIRS, "clusters: []\nusers: null\ncontexts:\n", "{\"clusters\": null}"] {
            let new = merged(old, &entries(&["prod@eu"]), Some("prod@eu")).unwrap();
            std::fs::write(&file, &new).unwrap();
            let mut kubectl = Command::new("kubectl");
            let kubectl = kubectl.args(["config", "view", "--raw", "-o", "json", "--kubeconfig"]);
            let ran = kubectl.arg(&file).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            let seen = serde_json::from_slice::<Value>(&ran.stdout).unwrap();
            let of = |section: &str, name: &str| {
                let all = seen[section].as_array().unwrap();
                all.iter().find(|entry| entry["name"] == name).cloned().unwrap_or_default()
            };
            let cluster = of("clusters", "prod@eu");
            assert_eq!(cluster["cluster"]["server"], "https://prod@eu.weir.example:8443", "{new}");
            let exec = &of("users", "weir@eu")["user"]["exec"];
            assert_eq!(exec["command"], "/usr/bin/weir", "{new}");
            assert_eq!(exec["args"][3], "yes");
            assert_eq!(seen["current-context"], "prod@eu");
            assert_eq!(of("users", "me").is_null(), old != THEIRS);
        }
    }

    #[test]
    fn what_cannot_be_added_to_safely_is_left_alone() {
        for old in [
            "clusters: [{name: a, cluster: {server: 'https://a'}}]\n",
            "apiVersion: v1\n---\napiVersion: v1\n",
            "clusters: &all\n- name: a\n  cluster: {server: x}\n",
            "clusters:\n- name: a\n  cluster: {server: x}\nclusters:\n- name: b\n",
            "- a\n",
            "clusters: {",
            "\u{0}",
        ] {
            assert!(merged(old, &entries(&["p"]), None).is_err(), "{old:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_whatever_comes_out_has_all_that_was_there(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("clusters:\n"), Just("users:\n"), Just("contexts:\n"), Just("- name: a\n"),
                    Just("  - name: b\n"), Just("  cluster:\n"), Just("    server: x\n"), Just("# c\n"),
                    Just("\n"), Just("kind: Config\n"), Just("clusters: []\n"), Just("  user: {}\n"),
                    Just("x: |\n"), Just("  - name: c\n"), Just("current-context: a"),
                ], 0..12),
        ) {
            let old = parts.concat();
            if let Ok(new) = merged(&old, &entries(&["p"]), None) {
                for line in old.lines().map(str::trim).filter(|line| line.starts_with('#')) {
                    prop_assert!(new.contains(line));
                }
                let names = |text: &str, section: &str| {
                    let all = values(text).unwrap_or_default()[section].clone();
                    let all = all.as_array().cloned().unwrap_or_default();
                    all.iter().map(|e| e["name"].clone()).filter(|n| n != "p").collect::<Vec<_>>()
                };
                if !old.trim().is_empty() {
                    prop_assert_eq!(names(&new, "clusters"), names(&old, "clusters"));
                }
            }
        }
    }
}
