//! `weir import`: what a team has, as entries of a gateway's catalogue.
//!
//! What a file cannot say (the region, whose data it is, its classes) is left empty, with a comment
//! that says what goes there: `weir check` points at every one until it is filled in. A secret is
//! never printed, only that there was one, and where its like is to be kept.

mod kubeconfig;
mod pg_service;
mod ssh_config;

use std::fmt;
use std::path::Path;

use crate::cli::args::access;
use crate::cli::args::access::ImportKind;
use crate::cli::client::CallError;
use crate::cli::files;
use crate::cli::print;
use crate::model::TargetName;

/// Longest DNS label, in bytes (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// One target, as far as the file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// What it was called.
    called: String,
    /// The table of its protocol: `postgres`, `ssh`, `kubernetes`.
    table: &'static str,
    /// That table's settings, and tables below it, each with what there is to say.
    settings: Vec<Setting>,
    /// What there is to say about the whole.
    remarks: Vec<String>,
}

/// A line of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    /// `address`, or `tls.ca_file`.
    name: &'static str,
    /// In TOML.
    value: String,
    /// What is missing, or where it comes from.
    remark: Option<String>,
}

impl Setting {
    fn known(name: &'static str, value: &str) -> Self {
        Self { name, value: quoted(value), remark: None }
    }

    fn missing(name: &'static str, value: &str, remark: impl Into<String>) -> Self {
        Self { name, value: value.to_owned(), remark: Some(remark.into()) }
    }
}

/// What a file holds: targets, and what there is to say about what is none.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<Entry>,
    remarks: Vec<String>,
}

/// A line that cannot be read. What stands there is not shown: it may be a password.
#[derive(Debug, PartialEq, Eq)]
struct BadLine {
    line: usize,
    what: String,
}

/// Prints the entries for a file.
pub(super) fn run(args: &access::Import, as_json: bool) -> Result<(), CallError> {
    let text = files::text(&args.file)?;
    let path = super::profile::absolute(&args.file);
    let found = match args.kind {
        ImportKind::PgService => pg_service::read(&text),
        ImportKind::SshConfig => ssh_config::read(&text),
        ImportKind::Kubeconfig => kubeconfig::read(&text, &path),
    };
    let found = found.map_err(|BadLine { line, what }| {
        CallError::Usage(format!("{}:{line}: {what}", args.file.display()))
    })?;
    for remark in &found.remarks {
        print::progress(&print::tame(&format!("{}: {remark}", args.file.display())));
    }
    if found.entries.is_empty() {
        return Err(CallError::Usage(format!("{} names no target", args.file.display())));
    }
    let text = print::tame_lines(&catalogue(&found.entries, &args.file)).join("\n") + "\n";
    if as_json {
        print::json(&serde_json::json!({ "toml": text, "remarks": found.remarks }));
    } else {
        print::raw(&text);
    }
    Ok(())
}

/// The entries in TOML, each name once.
fn catalogue(entries: &[Entry], from: &Path) -> String {
    let from = comment(&from.display().to_string());
    let mut text = format!(
        "# From {from}. Fill in what is empty, then `weir check`.\n# Until its classes are \
         declared, what a target holds is unknown, and unknown is refused.\n"
    );
    let mut taken = Vec::new();
    for entry in entries {
        let name = label(&entry.called, &taken);
        text.push_str(&Written { entry, name: &name }.to_string());
        taken.push(name);
    }
    text
}

/// An entry under its name.
struct Written<'a> {
    entry: &'a Entry,
    name: &'a str,
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, name } = self;
        writeln!(f, "\n[targets.{name}]")?;
        if *name != entry.called {
            writeln!(f, "# was called {}", comment(&entry.called))?;
        }
        for remark in &entry.remarks {
            writeln!(f, "# {}", comment(remark))?;
        }
        writeln!(f, "region = \"\"  # one of [regions]: where it stands")?;
        writeln!(f, "owner = \"\"  # one of [entities]: who answers for its data")?;
        writeln!(f, "classes = []  # such as \"pii.email\": what it holds")?;
        writeln!(f, "\n[targets.{name}.{}]", entry.table)?;
        for Setting { name, value, remark } in &entry.settings {
            match remark {
                Some(remark) => writeln!(f, "{name} = {value}  # {}", comment(remark))?,
                None => writeln!(f, "{name} = {value}")?,
            }
        }
        Ok(())
    }
}

/// The name of a target: a DNS label that no other has.
fn label(called: &str, taken: &[String]) -> String {
    let sign = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }
    };
    let name = called.chars().map(sign).take(LABEL_BYTES_MAX).collect::<String>();
    let name = name.trim_matches('-');
    let name = if name.parse::<TargetName>().is_ok() { name } else { "target" };
    if !taken.iter().any(|other| other == name) {
        return name.to_owned();
    }
    let short = name.chars().take(LABEL_BYTES_MAX.saturating_sub(5)).collect::<String>();
    let numbered = (2_u32..).map(|number| format!("{}-{number}", short.trim_end_matches('-')));
    let mut free = numbered.filter(|name| !taken.contains(name));
    free.next().unwrap_or(short)
}

/// Text for a comment: one line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A TOML list of strings.
fn list(members: &[&str]) -> String {
    let members = members.iter().map(|member| quoted(member)).collect::<Vec<_>>();
    format!("[{}]", members.join(", "))
}

/// A host and a port, as an address is written.
fn address(host: &str, port: &str) -> String {
    let bare = host.trim_matches(['[', ']']);
    if bare.contains(':') { format!("[{bare}]:{port}") } else { format!("{bare}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gateway's own reader takes what was printed, once what is missing is filled in.
    fn assert_loads(found: &Found) {
        let example = include_str!("../../../config/weir.toml");
        let rest = example.split("# Targets. The name is one DNS label.").next().unwrap();
        let ours = catalogue(&found.entries, Path::new("/their file"))
            .replace("region = \"\"", "region = \"eu-central\"")
            .replace("owner = \"\"", "owner = \"acme-de\"")
            .replace("host_keys = []", "host_keys = [\"ssh-ed25519 AAAA\"]")
            .replace("logins = []", "logins = [\"deploy\"]")
            .replace("login = \"\"", "login = \"weir\"")
            .replace("databases = []", "databases = [\"x\"]")
            .replace("{ file = \"\" }", "{ file = \"/etc/weir/secret\" }");
        let text = format!("{rest}\n{ours}");
        let loaded = crate::config::parse(Path::new("/etc/weir/weir.toml"), text.clone());
        let names = loaded.unwrap_or_else(|problems| panic!("{problems}\n{text}")).file.targets;
        assert_eq!(names.len(), found.entries.len());
    }

    #[test]
    fn the_gateway_reads_what_was_imported() {
        assert_loads(&pg_service::read("[a]\nhost=10.1.2.3\ndbname=b\nuser=c\n").unwrap());
        let two = "[a]\nhost=2001:db8:1::5\nport=1\npassword=p\n[A]\nhost=db.internal\n";
        assert_loads(&pg_service::read(two).unwrap());
        assert_loads(&ssh_config::read("Host a b\n HostName 10.1.0.1\n User u\n").unwrap());
        let file = "clusters: [{name: c, cluster: {server: 'https://c'}}]\n\
                    contexts: [{name: a/b, context: {cluster: c, user: u}}]\n\
                    users: [{name: u, user: {token: s3cret}}]\n";
        assert_loads(&kubeconfig::read(file, Path::new("/etc/k \"x\"")).unwrap());
    }

    #[test]
    fn every_name_is_a_label_and_no_two_are_alike() {
        let mut taken = Vec::new();
        for (called, name) in [
            ("Web_1", "web-1"),
            ("web.1", "web-1-2"),
            ("WEB-1", "web-1-3"),
            ("", "target"),
            ("ü", "target-2"),
            ("-", "target-3"),
        ] {
            let label = label(called, &taken);
            assert_eq!(label, name, "{called}");
            taken.push(label);
        }
        assert!(label(&"x".repeat(200), &["x".repeat(63)]).parse::<TargetName>().is_ok());
    }

    #[test]
    fn a_name_cannot_break_out_of_its_comment() {
        let found = pg_service::read("[a b]\nhost=x\n").unwrap();
        let mut entries = found.entries;
        entries[0].called = "a\n[gateway]\nid = 'x'".to_owned();
        let text = catalogue(&entries, Path::new("/x\ny"));
        assert!(!text.lines().any(|line| line.starts_with("[gateway]")), "{text}");
    }
}
