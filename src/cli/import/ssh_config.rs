//! OpenSSH's client configuration (`ssh_config(5)`): every host that is named without a wildcard.

use std::collections::BTreeSet;

use crate::cli::import::BadLine;
use crate::cli::import::Entry;
use crate::cli::import::Found;
use crate::cli::import::Setting;
use crate::cli::import::address;
use crate::cli::import::list;

/// Longest line, in bytes; ssh's own limit is near.
const LINE_BYTES_MAX: usize = 4096;
/// Keywords that say how somebody connects: the gateway, and each person's ssh, have their own.
const CLIENTS: [&str; 76] = [
    "addkeystoagent",
    "addressfamily",
    "batchmode",
    "bindaddress",
    "bindinterface",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizehostname",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "casignaturealgorithms",
    "certificatefile",
    "channeltimeout",
    "checkhostip",
    "ciphers",
    "clearallforwardings",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "enablesshkeysign",
    "escapechar",
    "exitonforwardfailure",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardagent",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "globalknownhostsfile",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "hashknownhosts",
    "hostbasedacceptedalgorithms",
    "hostbasedauthentication",
    "hostkeyalgorithms",
    "hostkeyalias",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "ignoreunknown",
    "ipqos",
    "kbdinteractiveauthentication",
    "kexalgorithms",
    "knownhostscommand",
    "localcommand",
    "localforward",
    "loglevel",
    "macs",
    "nohostauthenticationforlocalhost",
    "numberofpasswordprompts",
    "passwordauthentication",
    "permitlocalcommand",
    "pkcs11provider",
    "preferredauthentications",
    "pubkeyacceptedalgorithms",
    "pubkeyauthentication",
    "rekeylimit",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "setenv",
    "stricthostkeychecking",
    "tcpkeepalive",
    "updatehostkeys",
    "usekeychain",
    "userknownhostsfile",
    "verifyhostkeydns",
];

/// A `Host` section; settings before the first one are of a section for every host.
#[derive(Debug, Default)]
struct Section {
    patterns: Vec<String>,
    host_name: Option<String>,
    user: Option<String>,
    port: Option<String>,
    jump: bool,
    left_out: BTreeSet<String>,
    unknown: BTreeSet<String>,
    /// A `Match`, which is not decided here.
    conditional: bool,
}

/// Reads the file.
pub(super) fn read(text: &str) -> Result<Found, BadLine> {
    let mut sections = vec![Section { patterns: vec!["*".to_owned()], ..Section::default() }];
    let mut remarks = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at.saturating_add(1);
        let bad = |what: String| BadLine { line: number, what };
        let Some((keyword, words)) = words(line).map_err(bad)? else { continue };
        let one = || match words.as_slice() {
            [word] if !word.is_empty() => Ok(word.clone()),
            _ => Err(bad(format!("expected one value for {keyword}"))),
        };
        match keyword.as_str() {
            "host" if words.is_empty() => return Err(bad("expected a host".to_owned())),
            "host" => sections.push(Section { patterns: words, ..Section::default() }),
            "match" => {
                remarks.push(format!("line {number}: what is in `Match` is not carried over"));
                sections.push(Section { conditional: true, ..Section::default() });
            }
            "include" => remarks
                .push(format!("line {number}: `Include` is not followed: import that file too")),
            _ => {
                let value = match keyword.as_str() {
                    "hostname" | "user" | "port" => Some(one()?),
                    _ => None,
                };
                let section = sections.last_mut().ok_or_else(|| bad("expected Host".to_owned()))?;
                section.set(&keyword, value).map_err(bad)?;
            }
        }
    }
    let named = sections.iter().flat_map(|section| &section.patterns);
    let mut seen = BTreeSet::new();
    let named = named.filter(|name| !name.contains(['*', '?', '!']) && seen.insert(*name));
    let entries = named.map(|name| entry(name, &sections)).collect();
    let unknown = sections.iter().flat_map(|section| &section.unknown).collect::<BTreeSet<_>>();
    remarks.extend(unknown.into_iter().map(|name| format!("unknown option `{name}`")));
    Ok(Found { entries, remarks })
}

/// The keyword in lower case and its values. `None`: an empty line, or a comment.
fn words(line: &str) -> Result<Option<(String, Vec<String>)>, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let ends = |c: char| c.is_whitespace() || c == '=';
    let (keyword, rest) =
        line.split_at_checked(line.find(ends).unwrap_or(line.len())).unwrap_or((line, ""));
    if keyword.is_empty() || !keyword.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err("expected a keyword".to_owned());
    }
    // One `=` may stand between, with blanks around it.
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let (mut words, mut word, mut quotes, mut begun) = (Vec::new(), String::new(), false, false);
    for c in rest.chars() {
        match c {
            '"' => {
                quotes = !quotes;
                begun = true;
            }
            c if c.is_whitespace() && !quotes => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            // OpenSSH 8.5 and later: a comment behind values.
            '#' if !quotes && !begun => break,
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if quotes {
        return Err("a quote is not closed".to_owned());
    }
    if begun {
        words.push(word);
    }
    Ok(Some((keyword.to_ascii_lowercase(), words)))
}

impl Section {
    fn set(&mut self, keyword: &str, value: Option<String>) -> Result<(), String> {
        match keyword {
            // ssh takes the first value that it finds.
            "hostname" => self.host_name = self.host_name.take().or(value),
            "user" => self.user = self.user.take().or(value),
            "port" => {
                let number = value.as_deref().and_then(|port| port.parse::<u16>().ok());
                if number.is_none_or(|port| port == 0) {
                    return Err("expected a port from 1 to 65535".to_owned());
                }
                self.port = self.port.take().or(value);
            }
            "proxyjump" | "proxycommand" | "proxyusefdpass" => self.jump = true,
            known if CLIENTS.contains(&known) => {
                self.left_out.insert(known.to_owned());
            }
            unknown => {
                self.unknown.insert(unknown.to_owned());
            }
        }
        Ok(())
    }

    /// Whether it is for a host: some pattern fits, and none with a `!` does (`PATTERNS`).
    fn is_for(&self, host: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_prefix('!') {
            Some(pattern) => glob(pattern.as_bytes(), host.as_bytes()).then_some(false),
            None => glob(pattern.as_bytes(), host.as_bytes()).then_some(true),
        };
        let all = self.patterns.iter().filter_map(fits).collect::<Vec<_>>();
        !self.conditional && all.contains(&true) && !all.contains(&false)
    }
}

/// `*` is anything, `?` is one sign.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read, mut star) = (0_usize, 0_usize, None);
    while let Some(sign) = text.get(read) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at = at.saturating_add(1);
            }
            Some(want) if *want == b'?' || want == sign => {
                at = at.saturating_add(1);
                read = read.saturating_add(1);
            }
            Some(_) | None => {
                // The last star takes one sign more.
                let Some((begun, from)) = star else { return false };
                let next = usize::saturating_add(from, 1);
                star = Some((begun, next));
                (at, read) = (usize::saturating_add(begun, 1), next);
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|sign| *sign == b'*')
}

fn entry(name: &str, sections: &[Section]) -> Entry {
    let mine = sections.iter().filter(|section| section.is_for(name)).collect::<Vec<_>>();
    let first = |of: fn(&Section) -> Option<&String>| mine.iter().find_map(|section| of(section));
    let mut remarks = Vec::new();
    let host = first(|section| section.host_name.as_ref()).map_or(name, String::as_str);
    // `%h` is what was typed, `%%` a percent sign (`HostName`, TOKENS).
    let host = host.replace("%h", name).replace("%%", "%").to_ascii_lowercase();
    let port = first(|section| section.port.as_ref()).map_or("22", String::as_str);
    let user = first(|section| section.user.as_ref());
    let logins = user.map_or_else(|| "[]".to_owned(), |user| list(&[user.as_str()]));
    let settings = vec![
        Setting::known("address", &address(&host, port)),
        Setting::missing("logins", &logins, "those offered: exact names, or app-*"),
        Setting::missing(
            "host_keys",
            "[]",
            "its lines of `ssh-keyscan`, compared with what the host itself says",
        ),
        Setting::missing("credential", "{ file = \"\" }", "a private key of the gateway's own"),
    ];
    if mine.iter().any(|section| section.jump) {
        remarks.push("was reached through another host: the gateway dials it directly".to_owned());
    }
    let left_out = mine.iter().flat_map(|section| &section.left_out).collect::<BTreeSet<_>>();
    if !left_out.is_empty() {
        let names = left_out.into_iter().cloned().collect::<Vec<_>>().join(", ");
        remarks.push(format!("not carried over, a client's own: {names}"));
    }
    let unknown = mine.iter().flat_map(|section| &section.unknown).collect::<BTreeSet<_>>();
    if !unknown.is_empty() {
        let names = unknown.into_iter().cloned().collect::<Vec<_>>().join(", ");
        remarks.push(format!("unknown options: {names}"));
    }
    Entry { called: name.to_owned(), table: "ssh", settings, remarks }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use proptest::prelude::*;

    use crate::cli::import::catalogue;

    use super::*;

    #[test]
    fn a_host_is_a_target_with_what_ssh_would_make_of_it() {
        let file = "User root\nHost web-1 web_2\n  HostName=%h.internal\n  Port 2222 # x\n  \
                    IdentityFile ~/.ssh/id\nHost web* !web-1\n User \"deploy\"\nHost *\n  Port 1\n  \
                    Frobnicate yes\n  ProxyJump bastion\n";
        let file = file.replacen("User root\n", "", 1);
        let found = read(&file).unwrap();
        assert_eq!(found.remarks, ["unknown option `frobnicate`"]);
        let text = catalogue(&found.entries, Path::new("f"));
        for line in [
            "[targets.web-1]",
            "address = \"web-1.internal:2222\"",
            "[targets.web-2]\n# was called web_2",
            "logins = []",
            "logins = [\"deploy\"]",
            "# was reached through another host",
            "identityfile",
            "# unknown options: frobnicate",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        assert!(!text.contains("targets.web]"), "a pattern is no target");
    }

    #[test]
    fn ssh_itself_reads_the_same_host_user_and_port() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let file = "Host a.b c?\nHost *.b !x.b\n  User one\nHost c? *\n  User = two\n  Port \"7\"\n\
                    Host a* c1\n  HostName real-%h.example\n  Port 9\nHost c1 d\nUser three\n";
        std::fs::write(&path, file).unwrap();
        for entry in read(file).unwrap().entries {
            let ssh = Command::new("ssh").args(["-G", "-F"]).arg(&path).arg(&entry.called).output();
            let said = String::from_utf8(ssh.unwrap().stdout).unwrap();
            let of = |name: &str| {
                said.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap()
            };
            let wanted = format!("\"{}:{}\"", of("hostname"), of("port"));
            assert_eq!(entry.settings[0].value, wanted, "{}", entry.called);
            assert_eq!(entry.settings[1].value, format!("[\"{}\"]", of("user")));
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        for (file, line) in [
            ("Host", 1),
            ("\nHost \"a\n", 2),
            ("Port x", 1),
            ("Port 0", 1),
            ("Host a\nHostName", 2),
            ("Host a\nUser a b", 2),
            ("=x", 1),
            ("Ho\u{e4}st a", 1),
        ] {
            assert_eq!(read(file).unwrap_err().line, line, "{file}");
        }
    }

    #[test]
    fn what_is_not_followed_is_said() {
        let found = read("Include other\nMatch user x\n  User y\nHost a\n").unwrap();
        assert_eq!(found.remarks.len(), 2);
        assert!(!catalogue(&found.entries, Path::new("f")).contains("\"y\""));
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(
            file in "((Host|HostName|User|Port|Match|X)?[ =]?[a-z*?!\"#%]{0,4}\n){0,12}",
        ) {
            drop(read(&file));
        }

        #[test]
        fn stars_are_anything(
            text in "[ab]{0,8}", cut in 0_usize..8, other in "[ab]{0,8}",
        ) {
            let cut = cut.min(text.len());
            let (left, right) = text.split_at(cut);
            let (pattern, with) = (format!("{left}*{right}"), format!("{left}{other}{right}"));
            prop_assert!(glob(pattern.as_bytes(), with.as_bytes()));
            let sure = format!("c{with}");
            prop_assert_eq!(glob(pattern.as_bytes(), sure.as_bytes()), pattern.starts_with('*'));
        }
    }
}
