//! The rules of ARCHITECTURE.md that a compiler cannot know: which module may name which, which
//! crate lives where, who makes proofs, what senders take. Each reads the source text.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Longest file, in lines without its tests.
const FILE_LINES_MAX: usize = 620;

struct Source {
    /// Path below `src/`.
    path: String,
    /// Its text without comments and without its test module.
    code: String,
    /// Its text as it is.
    text: String,
}

impl Source {
    /// `policy` of `policy/admit.rs`, `daemon` of `daemon.rs`.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// `postgres` of `protocol/postgres/wire.rs`.
    fn protocol(&self) -> Option<&str> {
        self.path.strip_prefix("protocol/")?.split('/').next()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            Source { path, code: code_of(&text), text }
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn code_of(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Test-only files say so by their name or their place in a `#[cfg(test)]` module.
fn is_test(source: &Source) -> bool {
    let name = source.path.rsplit('/').next().unwrap();
    ["tests.rs", "cases.rs", "properties.rs"].contains(&name)
        || name.ends_with("_tests.rs")
        || source.path.contains("/tests/")
}

#[test]
fn modules_name_only_what_they_may() {
    // What a module may name besides itself. `lib.rs`, `main.rs` and the composition root may name
    // everything.
    let may: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("model", &[][..]),
        ("telemetry", &[]),
        ("mask", &["model"]),
        ("policy", &["model", "identity"]),
        ("identity", &["model"]),
        ("listen", &["model", "tls"]),
        ("tls", &["model"]),
        ("target", &["model", "mask"]),
        ("audit", &["model"]),
        ("store", &["model", "audit", "identity"]),
        ("upstream", &["model", "policy", "audit", "target"]),
        ("session", &["model", "identity", "policy", "audit", "store", "target", "upstream"]),
        ("protocol", &["model", "session", "upstream", "target", "mask", "tls", "audit"]),
        ("api", &["model", "session", "policy", "audit", "store", "identity"]),
        ("config", &["model"]),
    ]);
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(allowed) = may.get(source.module()) else { continue };
        for named in named_modules(&source.code) {
            if named != source.module() && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{} names {named}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn named_modules(code: &str) -> BTreeSet<String> {
    code.match_indices("crate::")
        .map(|(at, prefix)| &code[at + prefix.len()..])
        .map(|rest| {
            rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
        })
        .filter(|name| name.chars().next().is_some_and(|c| c.is_ascii_lowercase()))
        .collect()
}

#[test]
fn only_admit_names_identity_in_policy() {
    for source in sources() {
        if source.module() == "policy"
            && !is_test(&source)
            && source.code.contains("crate::identity")
        {
            assert_eq!(source.path, "policy/admit.rs", "the one extra arrow is admit's");
        }
    }
}

#[test]
fn no_protocol_names_another_but_kubernetes_http() {
    for source in sources() {
        let Some(own) = source.protocol().filter(|p| *p != "mod.rs") else { continue };
        for other in ["postgres", "ssh", "http", "kubernetes"] {
            let named = source.code.contains(&format!("protocol::{other}"));
            let fine = other == own || (own == "kubernetes" && other == "http");
            assert!(!named || fine, "{} names protocol::{other}", source.path);
        }
    }
}

#[test]
fn protocols_cannot_verify_or_admit() {
    for source in sources().iter().filter(|s| s.module() == "protocol") {
        for banned in ["policy::admit", "policy::decide", "identity::Identity"] {
            assert!(!source.code.contains(banned), "{} names {banned}", source.path);
        }
    }
}

#[test]
fn third_party_crates_stay_at_home() {
    let homes: &[(&str, &[&str])] = &[
        ("sqlx", &["store/"]),
        ("axum", &["api/"]),
        ("clap", &["cli/", "main.rs"]),
        ("clap_complete", &["cli/"]),
        ("russh", &["protocol/ssh/"]),
        ("kube", &["protocol/kubernetes/"]),
        ("cedar_policy", &["policy/"]),
        ("openidconnect", &["identity/"]),
        ("jsonwebtoken", &["identity/"]),
        ("pg_raw_parse", &["protocol/postgres/sql/"]),
        ("tokio_postgres", &["protocol/postgres/catalogue.rs"]),
        ("rcgen", &["tls/"]),
        ("object_store", &["audit/"]),
        ("maxminddb", &["listen/"]),
        ("object_store", &["audit/"]),
        ("zstd", &["audit/recording/"]),
        ("notify", &["config/"]),
        ("tracing_subscriber", &["telemetry/"]),
        ("prometheus_client", &["telemetry/metrics.rs"]),
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, places) in homes {
            let path = format!("{name}::");
            let named = source.code.match_indices(&path).any(|(at, _)| {
                let before = source.code[..at].chars().next_back();
                !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
            });
            if named && !places.iter().any(|place| source.path.starts_with(place)) {
                wrong.push(format!("{} names {name}, which lives in {places:?}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rustls_configurations_are_made_in_tls_only() {
    for source in sources() {
        for maker in ["ServerConfig::builder", "ClientConfig::builder"] {
            let made = source.code.contains(maker);
            assert!(!made || source.module() == "tls", "{} makes a {maker}", source.path);
        }
    }
}

#[test]
fn proofs_have_one_maker_each() {
    let makers: &[(&str, &[&str])] = &[
        ("once_recorded(", &["session/guard/"]),
        ("once_masked(", &["session/guard/"]),
        ("once_written(", &["audit/record.rs", "audit/recorded.rs"]),
        ("Permit {", &["policy/admit.rs"]),
        // `target::tls` has a variant of that name, which proves nothing.
        ("Verified {", &["identity/verified.rs", "target/tls.rs"]),
        ("Pinned {", &["target/"]),
        // An event of that name says that there was one.
        ("Leg {", &["upstream/mod.rs", "policy/transfer/", "audit/entry.rs"]),
    ];
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !is_test(s)) {
        for (maker, places) in makers {
            let made = source.code.lines().any(|line| {
                let heads = ["impl", "struct", "pub struct", "pub enum", "enum", "fn "];
                let declares = heads.iter().any(|h| line.trim_start().starts_with(h));
                let at = line.find(maker);
                let whole = at.is_some_and(|at| {
                    !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == ':')
                });
                whole && !declares && !line.contains("-> ")
            });
            if made && !places.iter().any(|place| source.path.starts_with(place)) {
                wrong.push(format!("{} makes `{maker}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_upstream_files_open_legs() {
    for source in sources() {
        let opens = source.code.contains("OpenLeg for");
        let home = source.path.starts_with("protocol/") && source.path.ends_with("/upstream.rs");
        assert!(!opens || home, "{} opens legs", source.path);
        let dials = source.code.contains("TcpStream::connect");
        assert!(
            !dials
                || source.path == "upstream/mod.rs"
                || source.path.starts_with("demo/")
                || source.path.starts_with("cli/"),
            "{} dials",
            source.path
        );
    }
}

#[test]
fn what_an_open_leg_sends_is_cleared() {
    let mut senders = 0;
    for source in sources().iter().filter(|s| s.path.ends_with("/upstream.rs")) {
        for signature in signatures(&source.code) {
            let name = signature.split("fn ").nth(1).unwrap_or_default();
            let name = name.split(['(', '<']).next().unwrap();
            let public = signature.starts_with("pub");
            let sends = ["send", "write", "forward"].iter().any(|verb| name.starts_with(verb));
            if public && sends {
                senders += 1;
                assert!(signature.contains("Cleared<"), "{}: `{signature}`", source.path);
            }
        }
    }
    assert!(senders >= 3, "no senders were found: does this test still read the right files?");
}

fn signatures(code: &str) -> Vec<String> {
    code.split('\n')
        .collect::<Vec<_>>()
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains("fn "))
        .map(|(at, _)| {
            let rest = code.split('\n').skip(at).collect::<Vec<_>>().join(" ");
            rest.split(['{', ';']).next().unwrap().trim().to_owned()
        })
        .collect()
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    for source in sources() {
        let opens = source.text.starts_with("//!") || source.text.starts_with("#![doc");
        assert!(opens, "{} does not begin with its purpose", source.path);
        let body = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = body.lines().count();
        assert!(lines <= FILE_LINES_MAX || is_test(&source), "{} has {lines} lines", source.path);
    }
}
