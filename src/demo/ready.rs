//! What the demo says once it is ready: JSON for programs, lines to paste for people.

use std::fmt;
use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::demo::DemoError;
use crate::demo::cluster;
use crate::demo::folder;
use crate::demo::folder::Folder;
use crate::demo::postgres;
use crate::demo::provider::PEOPLE;
use crate::demo::provider::Token;
use crate::demo::server::loopback;
use crate::demo::server::quoted;
use crate::demo::sshd;
use crate::demo::web;

/// A demo that is ready: where everything is, and everybody's token.
pub struct Ready {
    pub(super) port: u16,
    pub(super) office_port: u16,
    pub(super) issuer: String,
    pub(super) files: Files,
    pub(super) tokens: Vec<Token>,
    pub(super) has_cluster: bool,
    pub(super) postgres: postgres::Place,
    pub(super) ssh: sshd::Place,
    pub(super) web: web::Place,
}

/// Files of the state folder, for clients.
pub(super) struct Files {
    pub(super) dir: PathBuf,
    pub(super) config: PathBuf,
}

/// The files' names in the state folder.
const KNOWN_HOSTS: &str = "known_hosts";
const SSH_CONFIG: &str = "ssh_config";
const ENVIRONMENT: &str = "env";
const KUBECONFIG: &str = "kubeconfig";

/// A question that needs neither alice nor Singapore.
const EXPLAIN: &str =
    "policy explain --as alice --from SG --target customers 'SELECT email FROM customers'";

impl Ready {
    /// What a program needs, as one value: DESIGN.md's black-box contract, and under `direct` the
    /// servers themselves, so that the way with and without the gateway can be compared.
    pub fn json(&self) -> Value {
        let people = self.tokens.iter().map(|token| (token.name.to_owned(), self.person(token)));
        json!({
            "address": loopback(self.port).to_string(),
            "office": loopback(self.office_port).to_string(),
            "issuer": self.issuer,
            "ca_file": self.path(super::CA),
            "ca_key_file": self.path(super::CA_KEY),
            "api": self.api(),
            "config_file": self.files.config,
            "policy_dir": self.path("policies"),
            "state_dir": self.files.dir,
            "known_hosts": self.path(KNOWN_HOSTS),
            "ssh_config": self.path(SSH_CONFIG),
            "env_file": self.path(ENVIRONMENT),
            "people": people.collect::<Map<_, _>>(),
            "targets": self.targets(),
            "direct": self.direct(),
        })
    }

    fn person(&self, token: &Token) -> Value {
        let mut person = json!({
            "token": token.text,
            "token_file": self.person_file(token.name, "token"),
            "askpass": self.person_file(token.name, "askpass"),
        });
        if let (true, Some(person)) = (self.has_cluster, person.as_object_mut()) {
            let path = self.person_file(token.name, "kubeconfig");
            person.insert("kubeconfig".to_owned(), json!(path));
        }
        person
    }

    fn targets(&self) -> Value {
        let mut targets = json!({
            "customers": { "protocol": "postgres", "dsn": self.dsn(self.port) },
            "web-1": { "protocol": "ssh", "command": self.ssh_command() },
            "wiki": { "protocol": "http", "url": self.wiki() },
        });
        if let (true, Some(targets)) = (self.has_cluster, targets.as_object_mut()) {
            let cluster = json!({ "protocol": "kubernetes", "kubeconfig": self.path(KUBECONFIG) });
            targets.insert("prod-cluster".to_owned(), cluster);
        }
        targets
    }

    fn direct(&self) -> Value {
        json!({
            "postgres": {
                "host": "127.0.0.1",
                "port": self.postgres.port,
                "database": postgres::DATABASE,
                "user": postgres::SUPERUSER,
                "password_file": self.postgres.superuser_password_file,
                "login": postgres::LOGIN,
                "login_password_file": self.postgres.password_file,
                "ca_file": self.path(super::UPSTREAM_CA),
                "socket_dir": self.postgres.socket_dir,
                "log_file": self.postgres.log_file,
            },
            "ssh": {
                "host": "127.0.0.1",
                "port": self.ssh.port,
                "user": sshd::LOGIN,
                "key_file": self.ssh.key_file,
                "known_hosts": self.path(KNOWN_HOSTS),
                "log_file": self.ssh.log_file,
            },
            "http": {
                "url": format!("http://{}", loopback(self.web.port)),
                "access_log_file": self.web.access_log,
                "files_dir": self.web.files,
            },
        })
    }

    /// Lines to paste, for people: every one works as it stands, in any terminal that has read the
    /// first.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _written = self.write_lines(&mut text);
        text
    }

    fn write_lines(&self, out: &mut String) -> fmt::Result {
        let dir = &self.files.dir;
        let state = quoted(dir);
        writeln!(out, "The demo is ready.  Ctrl-C ends it.")?;
        writeln!(out, "  gateway              https://localhost:{}", self.port)?;
        writeln!(out, "  office in Singapore  port {}", self.office_port)?;
        writeln!(out, "  configuration        {}", self.files.config.display())?;
        writeln!(out, "\nPeople, and their tokens (good for 12 hours):")?;
        for person in &PEOPLE {
            let variable = format!("${}", person.name.to_uppercase());
            writeln!(out, "  {variable:<7}{}: {}", person.name, person.does)?;
        }
        writeln!(out, "\nFirst, in every terminal:")?;
        writeln!(out, "  . {}", quoted(&dir.join(ENVIRONMENT)))?;
        self.write_login(out)?;
        self.write_postgres(out)?;
        self.write_ssh(out)?;
        self.write_http(out)?;
        self.write_cluster(out)?;
        writeln!(out, "\nWho did what, and why it was allowed or not:")?;
        for (who, words) in [("DANA", "sessions ls"), ("DANA", "requests"), ("DANA", EXPLAIN)] {
            writeln!(out, "  WEIR_TOKEN=${who} weir {words}")?;
        }
        writeln!(out, "  weir audit verify {state}")
    }

    fn write_login(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nAs people work: sign in once (choose alice), then use what you know:")?;
        writeln!(out, "  weir login")?;
        writeln!(out, "  weir psql customers -c 'SELECT * FROM customers LIMIT 5'")?;
        // What is installed in a home folder would be left there when the demo is gone.
        let config = quoted(&self.path("login.ssh_config"));
        let ssh = format!("ssh -F {config} {}@web-1.weir uname -n", sshd::LOGIN);
        writeln!(out, "  weir ssh-config > {config} && {ssh}")?;
        writeln!(out, "  weir logout")?;
        writeln!(out, "in a browser, that trusts {}:", self.path(super::CA).display())?;
        writeln!(out, "  {}/api/people", self.wiki())?;
        writeln!(out, "\nAs programs may that bring the provider's token, where a target says so:")
    }

    fn write_postgres(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nPostgreSQL: masked for alice, clear for olaf:")?;
        let psql = |name: &str, port: u16| {
            let variable = name.to_uppercase();
            format!("PGPASSWORD=${variable} psql \"{} user={name}\"", self.dsn(port))
        };
        let read = "-c 'SELECT * FROM customers LIMIT 5'";
        writeln!(out, "  {} {read}", psql("alice", self.port))?;
        writeln!(out, "  {} {read}", psql("olaf", self.port))?;
        writeln!(out, "refused, with the reason:")?;
        writeln!(out, "  {} -c 'DELETE FROM customers'", psql("alice", self.port))?;
        writeln!(out, "held until dana says `weir approve ID` in another terminal:")?;
        let update = "-c \"UPDATE customers SET city = 'Bremen' WHERE id = 3\"";
        writeln!(out, "  {} {update}", psql("alice", self.port))?;
        writeln!(out, "  WEIR_TOKEN=$DANA weir approve ID")?;
        writeln!(out, "from the office in Singapore: mei is refused, alice is on a trip:")?;
        writeln!(out, "  {} {read}", psql("mei", self.office_port))?;
        writeln!(out, "  {} {read}", psql("alice", self.office_port))
    }

    fn write_ssh(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nSSH: a shell, one command, one that is held, one that is refused:")?;
        let askpass = quoted(&self.person_file("alice", "askpass"));
        let ssh = format!("SSH_ASKPASS={askpass} SSH_ASKPASS_REQUIRE=force {}", self.ssh_command());
        for command in ["", " 'uname -a'", " 'systemctl restart nginx'", " 'rm -rf /'"] {
            writeln!(out, "  {ssh}{command}")?;
        }
        Ok(())
    }

    fn write_http(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nHTTP: masked for alice; deleting is refused:")?;
        let ca = quoted(&self.path(super::CA));
        let curl = format!("curl --cacert {ca} -H \"Authorization: Bearer $ALICE\"");
        writeln!(out, "  {curl} {}/api/people", self.wiki())?;
        writeln!(out, "  {curl} -X DELETE {}/api/articles/1", self.wiki())
    }

    fn write_cluster(&self, out: &mut String) -> fmt::Result {
        if !self.has_cluster {
            return Ok(());
        }
        writeln!(
            out,
            "\nKubernetes: contexts alice, dana, olaf and mei. Its user must be allowed to"
        )?;
        writeln!(out, "impersonate; people come as groups weir:engineer, weir:dba and so on,")?;
        writeln!(out, "which get their rights from the cluster's own roles:")?;
        let kubectl = format!("kubectl --kubeconfig {}", quoted(&self.path(KUBECONFIG)));
        writeln!(out, "  {kubectl} get pods -A")?;
        writeln!(out, "  {kubectl} get secrets -A -o yaml")?;
        writeln!(out, "  {kubectl} --context dana get secrets -A -o yaml")
    }

    /// Writes what clients need into the state folder.
    pub(super) fn write_files(&self, state: &Folder, host_key: &str) -> Result<(), DemoError> {
        let known = [
            (self.port, host_key),
            (self.office_port, host_key),
            (self.ssh.port, self.ssh.host_key.as_str()),
        ];
        let known =
            known.map(|(port, key)| format!("[localhost]:{port},[127.0.0.1]:{port} {key}\n"));
        state.write(KNOWN_HOSTS, known.concat().as_bytes())?;
        state.write(SSH_CONFIG, self.ssh_config().as_bytes())?;
        state.write(ENVIRONMENT, self.environment().as_bytes())?;
        let people = state.folder("people")?;
        for token in &self.tokens {
            let file = people.join(format!("{}.token", token.name));
            folder::write(&file, 0o600, token.text.as_bytes())?;
            let script = format!("#!/bin/sh\nexec cat {}\n", quoted(&file));
            folder::write(
                &people.join(format!("{}.askpass", token.name)),
                0o700,
                script.as_bytes(),
            )?;
        }
        if self.has_cluster {
            self.write_kubeconfigs(state, &people)?;
        }
        Ok(())
    }

    fn write_kubeconfigs(&self, state: &Folder, people: &Path) -> Result<(), DemoError> {
        let ca_file = self.path(super::CA);
        let all = cluster::kubeconfig(self.port, &ca_file, &self.tokens);
        state.write(KUBECONFIG, all.to_string().as_bytes())?;
        for token in &self.tokens {
            let own = cluster::kubeconfig(self.port, &ca_file, std::slice::from_ref(token));
            let path = people.join(format!("{}.kubeconfig", token.name));
            folder::write(&path, 0o600, own.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// A file for a shell to read.
    fn environment(&self) -> String {
        let mut text = String::from("# For a shell: `. env`. Tokens are secrets.\n");
        let variables = self.tokens.iter().map(|token| (token.name.to_uppercase(), &token.text));
        for (name, value) in variables {
            let _written = writeln!(text, "export {name}={}", quoted(value));
        }
        let ca = quoted(&self.path(super::CA));
        let _written = writeln!(text, "export WEIR_GATEWAY={} WEIR_CA_FILE={ca}", self.api());
        // `weir` itself, wherever it was built.
        let own = std::env::current_exe().ok();
        if let Some(bin) = own.as_deref().and_then(Path::parent) {
            let _written = writeln!(text, "PATH=\"$PATH\":{}", quoted(bin));
        }
        text
    }

    fn ssh_config(&self) -> String {
        let known_hosts = self.path(KNOWN_HOSTS).display().to_string().replace('%', "%%");
        format!(
            "Host *\n  UserKnownHostsFile \"{known_hosts}\"\n  StrictHostKeyChecking yes\n  \
             PreferredAuthentications keyboard-interactive\n  NumberOfPasswordPrompts 1\n"
        )
    }

    fn ssh_command(&self) -> String {
        let config = quoted(&self.path(SSH_CONFIG));
        format!("ssh -F {config} -p {} {}@web-1@localhost", self.port, sshd::LOGIN)
    }

    /// For libpq, without user and password.
    fn dsn(&self, port: u16) -> String {
        let ca = self.path(super::CA).display().to_string();
        // libpq's quoting: backslashes within single quotes.
        let plain = ca.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
        let ca =
            if plain { ca } else { format!("'{}'", ca.replace('\\', r"\\").replace('\'', r"\'")) };
        format!("host=localhost port={port} dbname=customers sslmode=verify-full sslrootcert={ca}")
    }

    fn api(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn wiki(&self) -> String {
        format!("https://wiki.localhost:{}", self.port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.dir.join(name)
    }

    fn person_file(&self, name: &str, kind: &str) -> PathBuf {
        self.files.dir.join("people").join(format!("{name}.{kind}"))
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("port", &self.port)
            .field("office_port", &self.office_port)
            .field("state_dir", &self.files.dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn ready(dir: &Path, has_cluster: bool) -> Ready {
        let token = |name| Token { name, text: format!("eyJ.{name}.sig") };
        let log = dir.join("log");
        Ready {
            port: 8443,
            office_port: 8444,
            issuer: "http://127.0.0.1:1".to_owned(),
            files: Files { dir: dir.to_owned(), config: dir.join("weir.toml") },
            tokens: PEOPLE.iter().map(|person| token(person.name)).collect(),
            has_cluster,
            postgres: postgres::Place {
                port: 1,
                socket_dir: log.clone(),
                log_file: log.clone(),
                password_file: log.clone(),
                superuser_password_file: log.clone(),
            },
            ssh: sshd::Place {
                port: 2,
                host_key: "ssh-ed25519 B".to_owned(),
                key_file: log.clone(),
                log_file: log.clone(),
            },
            web: web::Place { port: 3, access_log: log.clone(), files: log },
        }
    }

    #[test]
    fn the_contract_is_kept() {
        let json = ready(Path::new("/s"), true).json();
        for pointer in [
            "/address",
            "/office",
            "/issuer",
            "/ca_file",
            "/ca_key_file",
            "/api",
            "/config_file",
            "/policy_dir",
            "/state_dir",
            "/people/alice/token",
            "/people/dana/token",
            "/people/olaf/token",
            "/people/mei/token",
            "/people/mei/kubeconfig",
            "/targets/customers/dsn",
            "/targets/web-1/command",
            "/targets/wiki/url",
            "/targets/prod-cluster/kubeconfig",
            "/direct/postgres/log_file",
        ] {
            assert!(json.pointer(pointer).is_some_and(Value::is_string), "{pointer}: {json}");
        }
        let dsn = json["targets"]["customers"]["dsn"].as_str().unwrap();
        assert!(!dsn.contains("user=") && !dsn.contains("password="), "{dsn}");
        assert!(!json.to_string().contains('\n'));
        let without = ready(Path::new("/s"), false).json();
        assert!(without.pointer("/targets/prod-cluster").is_none());
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", ready(Path::new("/s"), true)).contains("eyJ"));
    }

    #[test]
    fn the_files_work_in_a_folder_with_an_awkward_name() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("it's $HOME \"here\"");
        let state = Folder::state(Some(&path)).unwrap();
        let ready = ready(state.path(), true);
        ready.write_files(&state, "ssh-ed25519 A").unwrap();
        let sh = |script: &str| {
            let output = Command::new("/bin/sh").args(["-eu", "-c", script]).output().unwrap();
            assert!(output.status.success(), "{script}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let env = quoted(&state.join(ENVIRONMENT));
        assert_eq!(sh(&format!(". {env}; echo $MEI")), "eyJ.mei.sig\n");
        let askpass = quoted(&ready.person_file("dana", "askpass"));
        assert_eq!(sh(&format!("exec {askpass} 'Token: '")), "eyJ.dana.sig");
        let lines = ready.lines();
        assert!(lines.contains("weir approve ID") && !lines.contains("eyJ"), "{lines}");
    }
}
