//! The programs of which it is known what they do, with the options of which it is known.
//!
//! A list of what is allowed, never of what is not: an option that is not listed makes the command
//! opaque, because many a reader of files can write or run something (`sort -o`, `find -exec`,
//! `journalctl --vacuum-size`, `date -s`). Left out on purpose: whatever reads commands, starts
//! pagers or editors, or takes a program's name.
//!
//! Must not know shells; the words come from [`super::words`].

use std::collections::BTreeSet;

use crate::model::Effect;
use crate::model::Object;

/// What could be read out of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Everything it does.
    pub(super) effects: BTreeSet<Effect>,
    /// Everything it touches.
    pub(super) objects: Vec<Object>,
    /// The program, where it is known.
    pub(super) program: Option<String>,
    /// Why it cannot be carried.
    pub(super) unsupported: Option<String>,
}

impl Reading {
    /// What it does cannot be told.
    pub(super) fn opaque() -> Self {
        Self::of([Effect::Execute, Effect::Opaque])
    }

    fn of(effects: impl IntoIterator<Item = Effect>) -> Self {
        Self {
            effects: effects.into_iter().collect(),
            objects: Vec::new(),
            program: None,
            unsupported: None,
        }
    }
}

/// Where a program of the system's lies. A copy elsewhere may be anything.
const FOLDERS: [&str; 4] = ["/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/"];

/// Programs that only read, with every option and operand they have.
const READERS: [&str; 38] = [
    "arch",
    "basename",
    "cat",
    "cmp",
    "cut",
    "df",
    "dirname",
    "du",
    "echo",
    "false",
    "free",
    "getent",
    "grep",
    "groups",
    "head",
    "id",
    "last",
    "ls",
    "lsblk",
    "lscpu",
    "lsmod",
    "md5sum",
    "nproc",
    "printenv",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "sha1sum",
    "sha256sum",
    "sha512sum",
    "stat",
    "tail",
    "tr",
    "true",
    "uname",
    "uptime",
    "whoami",
];

/// Those of them whose operands are paths.
const FILE_READERS: [&str; 12] = [
    "cat",
    "cmp",
    "du",
    "head",
    "ls",
    "md5sum",
    "readlink",
    "realpath",
    "sha1sum",
    "sha256sum",
    "stat",
    "tail",
];

/// Verbs of systemctl that only read.
const SYSTEMCTL_READS: [&str; 12] = [
    "cat",
    "get-default",
    "is-active",
    "is-enabled",
    "is-failed",
    "is-system-running",
    "list-dependencies",
    "list-timers",
    "list-unit-files",
    "list-units",
    "show",
    "status",
];

/// Verbs of systemctl that act on units.
const SYSTEMCTL_ACTS: [&str; 21] = [
    "condrestart",
    "disable",
    "enable",
    "force-reload",
    "freeze",
    "isolate",
    "kill",
    "mask",
    "reenable",
    "reload",
    "reload-or-restart",
    "reset-failed",
    "restart",
    "revert",
    "start",
    "stop",
    "thaw",
    "try-reload-or-restart",
    "try-restart",
    "unmask",
    "clean",
];

/// Verbs of systemctl that act on the machine.
const SYSTEMCTL_MACHINE: [&str; 14] = [
    "daemon-reexec",
    "daemon-reload",
    "default",
    "emergency",
    "exit",
    "halt",
    "hibernate",
    "kexec",
    "poweroff",
    "reboot",
    "rescue",
    "set-default",
    "soft-reboot",
    "suspend",
];

/// Options of systemctl that change nothing of what its verb does.
const SYSTEMCTL_OPTIONS: [&str; 15] = [
    "--all",
    "--full",
    "--lines",
    "--no-block",
    "--no-legend",
    "--no-pager",
    "--now",
    "--plain",
    "--property",
    "--quiet",
    "--state",
    "--type",
    "-a",
    "-l",
    "-q",
];

/// Options of journalctl that only choose and show, as they are written before a `=`.
const JOURNALCTL_OPTIONS: [&str; 26] = [
    "--boot",
    "--catalog",
    "--dmesg",
    "--follow",
    "--grep",
    "--identifier",
    "--lines",
    "--no-pager",
    "--output",
    "--priority",
    "--reverse",
    "--since",
    "--unit",
    "--until",
    "--utc",
    "-S",
    "-U",
    "-b",
    "-e",
    "-f",
    "-g",
    "-k",
    "-n",
    "-o",
    "-r",
    "-u",
];

/// Tests of find that only choose and print.
const FIND_OPTIONS: [&str; 16] = [
    "-empty",
    "-group",
    "-iname",
    "-ls",
    "-maxdepth",
    "-mindepth",
    "-mmin",
    "-mtime",
    "-name",
    "-newer",
    "-path",
    "-perm",
    "-print",
    "-size",
    "-type",
    "-user",
];

/// What the plain words `words` do; `terminal`: pagers may start.
pub(super) fn read(words: &[String], terminal: bool) -> Reading {
    let Some((first, rest)) = words.split_first() else { return Reading::opaque() };
    let Some(name) = system_program(first) else { return Reading::opaque() };
    let mut reading = match name {
        "sudo" => return sudo(rest, terminal),
        "rm" | "rmdir" => rm(name, rest),
        "systemctl" => systemctl(rest, terminal),
        "service" => service(rest),
        "journalctl" => only(rest, &JOURNALCTL_OPTIONS, paged(rest, terminal)),
        "find" => only(rest, &FIND_OPTIONS, false),
        "hostname" => only(rest, &["-f", "-s", "-d", "-i", "-I", "-A"], has_operand(rest)),
        "date" => only(rest, &["-u", "-R", "-I"], rest.iter().any(|w| !w.starts_with(['+', '-']))),
        "mkdir" | "touch" => {
            let mut reading = Reading::of([Effect::Write]);
            reading.objects = paths(rest, Effect::Write);
            reading
        }
        _ if READERS.contains(&name) => {
            let mut reading = Reading::of([Effect::Read]);
            if FILE_READERS.contains(&name) {
                reading.objects = paths(rest, Effect::Read);
            }
            reading
        }
        _ => Reading::opaque(),
    };
    reading.objects.insert(0, Object::new("program", name, Effect::Execute));
    reading.program = Some(name.to_owned());
    reading
}

/// The name of a program as the system has it: bare, or in a folder of the system's.
fn system_program(word: &str) -> Option<&str> {
    let name = FOLDERS.iter().find_map(|folder| word.strip_prefix(folder)).unwrap_or(word);
    (!name.contains('/')).then_some(name)
}

/// Running as another is running; only `sudo [-n] [--] program …` is read.
fn sudo(words: &[String], terminal: bool) -> Reading {
    let at = words.iter().take_while(|w| ["-n", "--"].contains(&w.as_str())).count();
    let inner = words.get(at..).unwrap_or_default();
    let mut reading = match inner.first() {
        Some(first) if !first.starts_with('-') && !first.contains('=') => read(inner, terminal),
        Some(_) | None => Reading::opaque(),
    };
    reading.effects.insert(Effect::Execute);
    reading
}

fn rm(name: &str, words: &[String]) -> Reading {
    const OPTIONS: [&str; 9] = [
        "--dir",
        "--force",
        "--interactive",
        "--no-preserve-root",
        "--one-file-system",
        "--preserve-root",
        "--recursive",
        "--verbose",
        "--ignore-fail-on-non-empty",
    ];
    let known = |word: &&String| {
        let short =
            word.strip_prefix('-').is_some_and(|s| s.chars().all(|c| "dfiIprRv".contains(c)));
        let long = word.split('=').next().unwrap_or(word);
        short || OPTIONS.iter().any(|option| long.len() > 2 && option.starts_with(long))
    };
    let options = options(words).filter(|word| word.as_str() != "--");
    let strange = options.into_iter().any(|word| !known(&word));
    let mut reading = Reading::of(rm_effects(words));
    if name == "rmdir" {
        reading.effects.remove(&Effect::Destroy);
    }
    reading.objects = paths(words, Effect::Delete);
    if strange {
        reading.effects.extend([Effect::Execute, Effect::Opaque]);
    }
    reading
}

/// What `rm` does with these words behind it. Recursion is destruction with or without force:
/// where no terminal asks, `-r` alone removes as much.
pub(super) fn rm_effects(words: &[String]) -> BTreeSet<Effect> {
    let recursive = |word: &String| {
        let long = word.len() > 2 && "--recursive".starts_with(word.as_str());
        let short = !word.starts_with("--") && word.contains(['r', 'R']);
        long || short
    };
    let mut effects = BTreeSet::from([Effect::Delete]);
    if options(words).any(recursive) {
        effects.insert(Effect::Destroy);
    }
    effects
}

fn systemctl(words: &[String], terminal: bool) -> Reading {
    let strange = options(words).any(|word| {
        let name = word.split('=').next().unwrap_or(word);
        !SYSTEMCTL_OPTIONS.contains(&name)
    });
    let verb = operands(words).next().map_or("list-units", String::as_str);
    let mut reading = match systemctl_changes(words) {
        Some(units) => {
            let mut reading = Reading::of([Effect::Execute, Effect::Server]);
            reading.objects = units;
            reading
        }
        None if SYSTEMCTL_READS.contains(&verb) => Reading::of([Effect::Read]),
        None => Reading::opaque(),
    };
    let reads = reading.effects.contains(&Effect::Read);
    if strange || (reads && paged(words, terminal)) {
        reading.effects.extend([Effect::Execute, Effect::Opaque]);
    }
    reading
}

/// The units that a systemctl with these words acts on; `None` if it does not act.
pub(super) fn systemctl_changes(words: &[String]) -> Option<Vec<Object>> {
    let mut operands = operands(words).map(String::as_str);
    let verb = operands.find(|word| {
        [SYSTEMCTL_ACTS.as_slice(), &SYSTEMCTL_MACHINE, &SYSTEMCTL_READS]
            .iter()
            .any(|verbs| verbs.contains(word))
    })?;
    if SYSTEMCTL_MACHINE.contains(&verb) {
        return Some(vec![Object::new("unit", verb, Effect::Server)]);
    }
    SYSTEMCTL_ACTS.contains(&verb).then(|| operands.map(unit).collect())
}

fn service(words: &[String]) -> Reading {
    match (service_changes(words), words) {
        (Some(unit), [_, _]) => {
            let mut reading = Reading::of([Effect::Execute, Effect::Server]);
            reading.objects.push(unit);
            reading
        }
        // The script of the service runs, whatever it does.
        (None, [name, verb]) if verb == "status" && !name.starts_with('-') => {
            Reading::of([Effect::Execute, Effect::Read])
        }
        _ => Reading::opaque(),
    }
}

/// The unit that a service with these words acts on; `None` if it does not act.
pub(super) fn service_changes(words: &[String]) -> Option<Object> {
    const ACTS: [&str; 6] = ["force-reload", "reload", "restart", "start", "stop", "try-restart"];
    match words {
        [name, verb, ..] if ACTS.contains(&verb.as_str()) => Some(unit(name)),
        _ => None,
    }
}

/// `nginx` and `nginx.service` are one unit.
fn unit(name: &str) -> Object {
    Object::new("unit", name.strip_suffix(".service").unwrap_or(name), Effect::Server)
}

/// Whether `word` is the option that makes scp the far end of a copy.
pub(super) fn is_scp_server(word: &str) -> bool {
    word.strip_prefix('-')
        .is_some_and(|s| s.contains(['t', 'f']) && s.chars().all(|c| "dfprtv".contains(c)))
}

/// Reads, if every option is one of `known` and nothing else is `wrong`.
fn only(words: &[String], known: &[&str], wrong: bool) -> Reading {
    let strange = words.iter().filter(|word| word.starts_with('-')).any(|word| {
        let name = word.split('=').next().unwrap_or(word);
        // `-n50`: an option of one sign with its value.
        let short = name.get(..2).filter(|_| {
            name.get(2..).is_some_and(|value| value.bytes().all(|b| b.is_ascii_digit()))
        });
        !known.contains(&name) && !short.is_some_and(|short| known.contains(&short))
    });
    if strange || wrong {
        return Reading::opaque();
    }
    Reading::of([Effect::Read])
}

/// Whether a pager may start: less runs whatever it is told to.
fn paged(words: &[String], terminal: bool) -> bool {
    terminal && !words.iter().any(|word| word == "--no-pager")
}

fn has_operand(words: &[String]) -> bool {
    operands(words).next().is_some()
}

/// Words before `--` that begin with `-`.
fn options(words: &[String]) -> impl Iterator<Item = &String> {
    words
        .iter()
        .take_while(|word| *word != "--")
        .filter(|word| word.len() > 1 && word.starts_with('-'))
}

/// Words that are no options; behind `--` all are.
fn operands(words: &[String]) -> impl Iterator<Item = &String> {
    let mut behind = false;
    words.iter().filter(move |word| {
        if behind {
            return true;
        }
        behind = *word == "--";
        !behind && (word.len() < 2 || !word.starts_with('-'))
    })
}

/// The operands as paths; at most as many as a person would look at.
fn paths(words: &[String], effect: Effect) -> Vec<Object> {
    const PATHS_MAX: usize = 64;
    operands(words).take(PATHS_MAX).map(|path| Object::new("path", path.as_str(), effect)).collect()
}
