//! What an SSH channel asks for, as a [`Command`] that can be decided.
//!
//! A command line is read only where it means the same to every shell ([`words::plain`]) and begins
//! with a program that is known with the options it is given. Everything else is **opaque**: what
//! it does cannot be told, and a policy that does not name the effect does not permit it. Opaque is
//! the honest answer, not a failure: `bash`, `xargs` and `python3 -` read commands that do not
//! exist yet, and a shell has endless ways to spell one word.
//!
//! The second net ([`seen`]) adds effects to opaque lines where `rm -rf`, `systemctl restart` and
//! their like stand in plain sight, so that an honest mistake meets the rule that is about it. It
//! is no guarantee: whoever may run opaque commands may run them all.

use std::collections::BTreeSet;

use crate::model::Command;
use crate::model::DataClass;
use crate::model::Effect;
use crate::model::Object;
use crate::protocol::ssh::programs;
use crate::protocol::ssh::programs::Reading;
use crate::protocol::ssh::upstream::Run;
use crate::protocol::ssh::upstream::Start;
use crate::protocol::ssh::words;
use crate::target::ssh::Login;

/// Longest command line, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The command that `start` asks for as `login`, at a target that holds `classes`.
pub(super) fn command(start: &Start, login: &Login, classes: &BTreeSet<DataClass>) -> Command {
    let mut command = match &start.run {
        Run::Shell => shell(),
        Run::Exec(line) => exec(line, start.terminal.is_some()),
        Run::Subsystem(name) => subsystem(name),
    };
    command.reads.clone_from(classes);
    command.details.push(("login".to_owned(), login.to_string()));
    for (name, value) in &start.environment {
        command.details.push((format!("env {name}"), value.clone()));
    }
    let terminal = if start.terminal.is_some() { "yes" } else { "no" };
    command.facts.push(("login".to_owned(), login.to_string()));
    command.facts.push(("terminal".to_owned(), terminal.to_owned()));
    command
}

/// What `line` would ask of a target that holds `classes`, for what-if questions; an empty line is
/// the login shell.
pub fn explain(line: &str, classes: &BTreeSet<DataClass>) -> Command {
    let mut command = if line.is_empty() { shell() } else { exec(line.as_bytes(), false) };
    command.reads.clone_from(classes);
    command
}

fn shell() -> Command {
    let mut command = Command::new("shell", "the login shell");
    command.effects = BTreeSet::from([Effect::Execute, Effect::Opaque]);
    command
}

fn subsystem(name: &str) -> Command {
    let shown = name.chars().filter(|sign| !sign.is_control()).take(64).collect::<String>();
    let mut command = Command::new("subsystem", shown.as_str());
    command.effects = BTreeSet::from([Effect::Execute, Effect::Opaque]);
    let what = if name == "sftp" { "file transfer (sftp)" } else { "this subsystem" };
    command.unsupported = Some(format!("this gateway does not carry {what} yet; run a command"));
    command
}

fn exec(line: &[u8], terminal: bool) -> Command {
    let shown = String::from_utf8_lossy(line.get(..LINE_BYTES_MAX).unwrap_or(line));
    let mut command = Command::new("exec", shown.as_ref());
    let reading = match std::str::from_utf8(line) {
        Ok(line) => read(line, terminal),
        Err(_) => Reading::opaque(),
    };
    command.effects = reading.effects;
    command.objects = reading.objects;
    command.unsupported = reading.unsupported;
    if let Some(program) = reading.program {
        command.facts.push(("program".to_owned(), program));
    }
    if line.len() > LINE_BYTES_MAX {
        command.unsupported =
            Some(format!("the command line has more than {LINE_BYTES_MAX} bytes"));
    } else if std::str::from_utf8(line).is_err() || line.contains(&0) {
        command.unsupported = Some("the command line is no text (UTF-8, without NUL)".to_owned());
    }
    command
}

/// Reads a command line; `terminal`: it runs at one, so programs may start a pager.
fn read(line: &str, terminal: bool) -> Reading {
    let mut reading =
        words::plain(line).map_or_else(Reading::opaque, |words| programs::read(&words, terminal));
    let (effects, objects, unsupported) = seen(line);
    reading.effects.extend(effects);
    for object in objects {
        if !reading.objects.contains(&object) {
            reading.objects.push(object);
        }
    }
    reading.unsupported = reading.unsupported.or(unsupported);
    reading
}

/// The second net: what stands in plain sight in a line, plain or not.
fn seen(line: &str) -> (BTreeSet<Effect>, Vec<Object>, Option<String>) {
    let mut effects = BTreeSet::new();
    let mut objects = Vec::new();
    let mut unsupported = None;
    for part in words::visible(line) {
        for (at, word) in part.iter().enumerate() {
            let rest = part.get(at.saturating_add(1)..).unwrap_or_default();
            match base(word) {
                "rm" => effects.extend(programs::rm_effects(rest)),
                "systemctl" => {
                    if let Some(units) = programs::systemctl_changes(rest) {
                        effects.extend([Effect::Execute, Effect::Server]);
                        objects.extend(units);
                    }
                }
                "service" => {
                    if let Some(unit) = programs::service_changes(rest) {
                        effects.extend([Effect::Execute, Effect::Server]);
                        objects.push(unit);
                    }
                }
                "reboot" | "shutdown" | "poweroff" | "halt" if at == 0 => {
                    effects.extend([Effect::Execute, Effect::Server]);
                }
                "sftp-server" => unsupported = Some(file_transfer("sftp-server")),
                "scp" if rest.iter().any(|word| programs::is_scp_server(word)) => {
                    unsupported = Some(file_transfer("scp"));
                }
                _ => {}
            }
        }
    }
    (effects, objects, unsupported)
}

fn file_transfer(program: &str) -> String {
    format!("this gateway does not carry file transfer ({program}) yet; run a command")
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn effects(line: &str) -> Vec<&'static str> {
        read(line, false).effects.into_iter().map(Effect::as_str).collect()
    }

    fn start(run: Run) -> Start {
        Start { terminal: None, environment: Vec::new(), run }
    }

    fn told(run: Run) -> Command {
        command(&start(run), &"deploy".parse().unwrap(), &BTreeSet::new())
    }

    #[test]
    fn plain_reads_stay_readable() {
        for line in [
            "uname -a",
            "ls -l /srv",
            "tail -n 100 f",
            "tail -f /var/log/syslog",
            "cat /etc/hosts",
            "df -h",
            "ps aux",
            "id",
            "hostname",
            "hostname -f",
            "uptime",
            "date",
            "date +%s",
            "systemctl status nginx",
            "systemctl is-active nginx",
            "journalctl -u nginx -n 50",
            "find /srv -name x -type f",
            "grep -r 'a b' /srv",
            "/bin/ls",
            "/usr/bin/id -u",
            "echo hello",
            "sha256sum f",
        ] {
            assert_eq!(effects(line), ["read"], "{line:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_opaque() {
        for line in [
            "",
            "bash",
            "python3 -",
            "xargs rm",
            "find . -exec id +",
            "find . -delete",
            "find . -fprint f",
            "./ls",
            "/tmp/ls",
            "/srv/bin/ls",
            "PATH=. ls",
            "ls | sh",
            "ls; id",
            "hostname evil",
            "date -s 0",
            "date 01010000",
            "sort -o f",
            "journalctl --vacuum-size=1",
            "journalctl --rotate",
            "systemctl -H other status x",
            "systemctl edit x",
            "env ls",
            "sudo",
            "sudo -u root ls",
            "sudo -s",
            "ls $(id)",
            "git status",
            "less f",
            "printf -v a b",
            "eval ls",
            "exec ls",
            "command ls",
            "nice ls",
        ] {
            assert!(effects(line).contains(&"opaque"), "{line:?}: {:?}", effects(line));
            assert!(effects(line).contains(&"execute"), "{line:?}: {:?}", effects(line));
        }
    }

    #[test]
    fn a_pager_at_a_terminal_can_run_anything() {
        for line in ["systemctl status nginx", "journalctl -u nginx"] {
            assert!(read(line, true).effects.contains(&Effect::Opaque), "{line:?}");
            let quiet = format!("{line} --no-pager");
            assert_eq!(read(&quiet, true).effects, BTreeSet::from([Effect::Read]), "{quiet:?}");
        }
    }

    #[test]
    fn acting_on_services_is_acting_on_the_server() {
        for line in [
            "systemctl restart nginx",
            "systemctl stop nginx.service",
            "systemctl --no-block start nginx",
            "service nginx restart",
            "sudo systemctl restart nginx",
            "sudo -n service nginx reload",
            "/bin/systemctl restart nginx",
            "cd / && systemctl restart nginx",
            "sh -c 'systemctl reload nginx'",
        ] {
            let reading = read(line, false);
            assert!(
                reading.effects.is_superset(&[Effect::Execute, Effect::Server].into()),
                "{line:?}"
            );
            let unit = Object::new("unit", "nginx", Effect::Server);
            assert!(reading.objects.contains(&unit), "{line:?}: {:?}", reading.objects);
        }
        assert_eq!(effects("systemctl restart nginx"), ["execute", "server"]);
        assert!(effects("systemctl daemon-reexec").contains(&"server"));
        assert!(
            effects("sudo reboot").contains(&"server") || effects("reboot").contains(&"server")
        );
    }

    #[test]
    fn removing_much_is_destruction_however_it_is_spelled() {
        for line in [
            "rm -rf /srv",
            "rm -fr x",
            "rm -r -f x",
            "rm -f -r x",
            "rm -Rf x",
            "rm --recursive --force x",
            "rm --rec --for x",
            "rm x -rf",
            "sudo rm -rf x",
            "sudo -n rm -fr .",
            "/bin/rm -r -f x",
            "rm -vrf x",
            "cd /x && rm -rf .",
            "true;rm -rf x",
            "sudo -u root rm -rf x",
            "ls | xargs rm -rf",
            "$(rm -rf x)",
            "r\\m -rf x",
            "'rm' -r\"f\" x",
            "nohup rm -rf x &",
            "rm -rf \"$HOME\"",
            "sh -c 'rm -rf x'",
            "bash -c \"cd / ; rm -r x\"",
            "rm -r x",
        ] {
            let effects = effects(line);
            assert!(
                effects.contains(&"destroy") && effects.contains(&"delete"),
                "{line:?}: {effects:?}"
            );
        }
        assert_eq!(effects("rm f"), ["delete"]);
        assert_eq!(effects("rm -f f"), ["delete"]);
        assert_eq!(effects("rm -- -rf"), ["delete"], "a file called -rf");
        assert!(effects("rm --frobnicate f").contains(&"opaque"));
    }

    #[test]
    fn file_transfer_by_exec_is_refused_as_by_subsystem() {
        for line in [
            "scp -t /srv",
            "scp -f x",
            "scp -r -p -t .",
            "scp -vpt /x",
            "/usr/lib/openssh/sftp-server",
            "/usr/lib/sftp-server -e",
            "cd /x; scp -t .",
            "sudo /usr/lib/openssh/sftp-server",
        ] {
            assert!(read(line, false).unsupported.is_some(), "{line:?}");
        }
        assert!(read("ls scp", false).unsupported.is_none());
        assert!(told(Run::Subsystem("sftp".into())).unsupported.is_some());
    }

    #[test]
    fn the_exact_thing_is_what_is_decided() {
        let told = told(Run::Exec(Bytes::from_static(b"ls  -l")));
        assert_eq!((told.verb.as_str(), told.text.as_str()), ("exec", "ls  -l"));
        assert!(told.details.contains(&("login".to_owned(), "deploy".to_owned())));
    }

    #[test]
    fn a_shell_is_opaque() {
        let shell = told(Run::Shell);
        assert_eq!(shell.effects, BTreeSet::from([Effect::Execute, Effect::Opaque]));
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused() {
        assert!(told(Run::Exec(Bytes::from_static(b"ls \xff"))).unsupported.is_some());
        assert!(told(Run::Exec(Bytes::from_static(b"ls \0"))).unsupported.is_some());
        assert!(told(Run::Exec(vec![b'a'; LINE_BYTES_MAX + 1].into())).unsupported.is_some());
    }

    proptest! {
        #[test]
        fn reading_never_panics(line in any::<Vec<u8>>()) {
            told(Run::Exec(line.into()));
        }

        #[test]
        fn more_commands_never_take_opaque_or_destruction_away(
            before in "(ls|id|foo|rm -rf x|cat f)",
            parting in "(;|&&|\\|| & |\n)",
            after in any::<String>(),
        ) {
            let both = read(&format!("{before}{parting} {after}"), false).effects;
            prop_assert!(both.contains(&Effect::Opaque));
            let alone = read(&before, false).effects;
            prop_assert!(!alone.contains(&Effect::Destroy) || both.contains(&Effect::Destroy));
        }

        #[test]
        fn an_effect_is_never_missing(line in any::<String>()) {
            prop_assert!(!read(&line, false).effects.is_empty());
        }
    }
}
