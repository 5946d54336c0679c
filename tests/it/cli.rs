//! The command line: help, exit codes, errors that say what to do.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use crate::demo::Ran;
use crate::parts;

fn weir(args: &[&str]) -> Ran {
    let mut weir = Command::new(parts::weir());
    for name in ["WEIR_GATEWAY", "WEIR_PROFILE", "WEIR_CA_FILE", "WEIR_TOKEN"] {
        weir.env_remove(name);
    }
    // Whoever runs the tests may be signed in somewhere.
    let home = std::env::temp_dir().join("weir-tests-without-a-login");
    weir.env("HOME", &home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
    Ran::of(&weir.args(args).env("COLUMNS", "100").output().unwrap())
}

/// Compares with a file below `tests/golden/cli`; `UPDATE_GOLDEN=1` writes it instead.
fn golden(name: &str, text: &str) {
    let path = parts::repository().join("tests/golden/cli").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{name}: if the change is meant, run with UPDATE_GOLDEN=1");
}

#[test]
fn every_command_has_help() {
    fn all(command: &clap_free::Help, texts: &mut String) {
        writeln!(texts, "$ weir {} --help\n{}", command.path.join(" "), command.text).unwrap();
        for below in command.below() {
            all(&below, texts);
        }
    }
    let mut texts = String::new();
    all(&clap_free::Help::of(&[]), &mut texts);
    golden("help.txt", &texts);
}

/// Help texts as a user gets them: by asking the binary.
mod clap_free {
    use super::weir;

    pub(crate) struct Help {
        pub(crate) path: Vec<String>,
        pub(crate) text: String,
    }

    impl Help {
        pub(crate) fn of(path: &[String]) -> Self {
            let mut args = path.iter().map(String::as_str).collect::<Vec<_>>();
            args.push("--help");
            let ran = weir(&args);
            assert_eq!(ran.code, 0, "{path:?}: {}", ran.err);
            Self { path: path.to_vec(), text: ran.out }
        }

        /// The commands that this one's help lists.
        pub(crate) fn below(&self) -> Vec<Self> {
            let listed = self.text.split("Commands:\n").nth(1).unwrap_or_default();
            let names = listed.lines().take_while(|line| line.starts_with("  "));
            let names = names.filter(|line| !line.starts_with("   "));
            let names = names.filter_map(|line| line.split_whitespace().next());
            names
                .filter(|name| *name != "help")
                .map(|name| Self::of(&[&self.path[..], &[name.to_owned()]].concat()))
                .collect()
        }
    }
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    assert_eq!(weir(&["--version"]).code, 0);
    assert_eq!(weir(&["nonsense"]).code, 2);
    let ran = weir(&["whoami"]);
    assert!(ran.code == 2 && ran.err.contains("WEIR_TOKEN"), "{ran:?}");
    let ran = weir(&["whoami", "--gateway", "https://127.0.0.1:1", "--token", "x"]);
    assert!(ran.code == 3 && ran.err.contains("127.0.0.1:1"), "{ran:?}");
    let ran = weir(&["whoami", "--gateway", "http://localhost", "--token", "x"]);
    assert!(ran.code == 2 && ran.err.contains("https://"), "{ran:?}");
    assert_eq!(weir(&["audit", "verify", "/nonexistent"]).code, 2);
}

#[test]
fn completions_are_printed_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let ran = weir(&["completions", shell]);
        assert!(ran.code == 0 && ran.out.contains("weir"), "{shell}");
    }
}

#[test]
fn check_accepts_the_commented_example() {
    let example = parts::repository().join("config/weir.toml");
    let ran = weir(&["check", example.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("login.example") && ran.out.ends_with("ok\n"), "{}", ran.out);
}

#[test]
fn check_names_file_line_column_and_what_was_expected() {
    let example = parts::repository().join("config");
    let text = fs::read_to_string(example.join("weir.toml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("policies");
    fs::create_dir(&policies).unwrap();
    let file = dir.path().join("weir.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        weir(&["check", file.to_str().unwrap()])
    };
    let line_of = |needle: &str| text.lines().position(|line| line.contains(needle)).unwrap() + 1;
    for (sound, broken, expected) in [
        ("region = \"eu-central\"           #", "region = \"nowhere\"           #", "nowhere"),
        ("email = \"pii.email\"", "email = \"PII email\"", "data class"),
        ("\"10.65.0.0/16\" = \"SG\"", "\"10.65.0.0/16\" = \"Singapore\"", "ISO 3166-1"),
        ("logins = [\"deploy\", \"app-*\"]", "logins = [\"deploy:x\"]", "login"),
        ("path = \"/api/people\"", "path = \"api/people\"", "expected"),
    ] {
        let ran = check(&text.replacen(sound, broken, 1));
        let place = format!("weir.toml:{}:", line_of(sound));
        assert_eq!(ran.code, 2, "{broken}");
        assert!(ran.err.contains(&place), "{broken}: no {place} in {}", ran.err);
        assert!(ran.err.contains(expected), "{broken}: no {expected} in {}", ran.err);
    }
    fs::write(policies.join("broken.cedar"), "@id(\"x\")\npermit(principal, action resource);\n")
        .unwrap();
    let ran = check(&text);
    assert!(ran.code == 2 && ran.err.contains("broken.cedar:2:"), "{}", ran.err);
}
