//! Reaching targets after `weir login`: psql, ssh, git, kubectl, and `weir proxy` for what can do
//! none of this; and what a team has, turned into a catalogue.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::cluster::Cluster;
use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::read;
use crate::demo::wait_for;
use crate::gateway::Prepared;
use crate::machine::Machine;
use crate::parts;

/// A machine on which a person of the shared demo is signed in.
fn signed_in(person: &str) -> Machine {
    let demo = Demo::shared();
    let machine = Machine::at(demo.port());
    machine.login_as_program(demo, person);
    machine
}

const LOOK: &str = "SELECT name, email FROM customers WHERE id = 1";
const SEEN: &str = "Frieda Ackerbrot|<masked:pii.email>\n";

#[test]
fn psql_and_all_that_reads_its_service_file_sign_in_by_certificate() {
    let machine = signed_in("alice");
    assert_eq!(machine.ok(&["psql", "customers", "--", "-Atc", LOOK]), SEEN);
    let moved =
        ["psql", "customers", "-At", "-c", "\\c archive", "-c", "SELECT current_database()"];
    assert!(machine.ok(&moved).ends_with("archive\n"));
    let other = ["psql", "customers/archive", "-Atc", "SELECT current_database()"];
    assert_eq!(machine.ok(&other), "archive\n");
    // Its exit code is psql's.
    assert_eq!(machine.weir(&["psql", "customers", "-c", "DELETE FROM customers"]).code, 1);

    let entry = machine.ok(&["psql", "--print", "customers"]);
    assert!(!entry.contains("password"), "{entry}");
    fs::write(machine.path(".pg_service.conf"), &entry).unwrap();
    let ran = machine.run("psql", &["service=customers", "-Atc", LOOK]);
    assert_eq!(ran.out, SEEN, "{ran:?}");
    for name in ["client.key", "client.pk8", "client.crt"] {
        assert!(entry.contains(&*machine.kept(name).to_string_lossy()) || name == "client.pk8");
        let mode = fs::metadata(machine.kept(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // Renewed in place when it is due: the entry stays as it is.
    let before = read(machine.kept("client.crt"));
    machine.ok(&["psql", "--print", "customers"]);
    assert_eq!(read(machine.kept("client.crt")), before, "it is not due");
    fs::write(machine.kept("client.until"), "2026-01-01T00:00:00Z").unwrap();
    machine.ok(&["psql", "--print", "customers"]);
    assert_ne!(read(machine.kept("client.crt")), before);
    assert_eq!(machine.run("psql", &["service=customers", "-Atc", LOOK]).out, SEEN);
    let unknown = machine.weir(&["psql", "nowhere", "-c", "SELECT 1"]);
    assert!(unknown.code == 1 && unknown.err.contains("`weir targets`"), "{unknown:?}");
}

/// What ssh and its like are told: `weir ssh-config --install` wrote it. (OpenSSH looks for its
/// file in the account's home folder, whatever `HOME` says.)
fn by_config(machine: &Machine) -> [String; 4] {
    let config = machine.path(".ssh/config").to_str().unwrap().to_owned();
    ["-F".to_owned(), config, "-o".to_owned(), "BatchMode=yes".to_owned()]
}

fn ssh(machine: &Machine, more: &[&str]) -> Ran {
    let mut ssh = machine.command(&parts::program("ssh"));
    Ran::of(&ssh.args(by_config(machine)).args(more).output().unwrap())
}

#[test]
fn ssh_and_what_runs_it_ask_nothing_and_share_one_connection() {
    let machine = signed_in("alice");
    assert_eq!(machine.ok(&["ssh", "deploy@web-1", "id", "-un"]), "deploy\n");
    assert_eq!(machine.weir(&["ssh", "deploy@web-1", "exit 7"]).code, 7);
    let old = "Host elsewhere\n  User nobody\n";
    fs::create_dir(machine.path(".ssh")).unwrap();
    fs::set_permissions(machine.path(".ssh"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(machine.path(".ssh/config"), old).unwrap();
    machine.ok(&["ssh-config", "--install"]);
    machine.ok(&["ssh-config", "--install"]);
    let config = read(machine.path(".ssh/config"));
    assert!(config.ends_with(old) && config.matches("Include").count() == 1, "{config}");

    let ran = ssh(&machine, &["deploy@web-1.weir", "id -un"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "deploy\n"), "{ran:?}");
    let shared = ssh(&machine, &["-O", "check", "deploy@web-1.weir"]);
    assert!(shared.code == 0 && shared.err.contains("Master running"), "{shared:?}");
    for status in 0..20 {
        let ran = ssh(&machine, &["deploy@web-1.weir", &format!("echo again; exit {status}")]);
        assert_eq!((ran.code, ran.out.as_str()), (status, "again\n"), "{ran:?}");
    }

    // git runs `git-upload-pack` and `git-receive-pack`, which are commands like any other.
    let script = "set -e
        git init -q --bare -b main \"$1/bare.git\" && git --git-dir \"$1/bare.git\" --version";
    let place = ssh(&machine, &["deploy@web-1.weir", "mktemp -d"]);
    let place = place.out.trim();
    assert!(place.starts_with('/'), "{place}");
    let made = format!("sh -c '{script}' - {place}");
    assert_eq!(ssh(&machine, &["deploy@web-1.weir", &made]).code, 0);
    let there = format!("deploy@web-1.weir:{place}/bare.git");
    let git = |args: &[&str]| {
        let told = format!("ssh {}", by_config(&machine).join(" "));
        let mut git = machine.command(&parts::program("git"));
        git.env("GIT_SSH_COMMAND", told).env("GIT_CONFIG_NOSYSTEM", "1");
        git.args(["-c", "user.name=Alice", "-c", "user.email=alice@acme.example"]).args(args);
        let ran = Ran::of(&git.current_dir(machine.path("")).output().unwrap());
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.out
    };
    git(&["init", "-q", "-b", "main", "work"]);
    fs::write(machine.path("work/file"), "x".repeat(300_000)).unwrap();
    git(&["-C", "work", "add", "file"]);
    git(&["-C", "work", "commit", "-q", "-m", "first"]);
    git(&["-C", "work", "push", "-q", &there, "main"]);
    git(&["clone", "-q", &there, "copy"]);
    assert_eq!(read(machine.path("copy/file")).len(), 300_000);

    // Files are not carried yet, in either of scp's ways, and it says so.
    for (way, says) in [(&["-O"][..], "(scp)"), (&[], "(sftp)")] {
        let mut scp = machine.command(&parts::program("scp"));
        scp.args(by_config(&machine)).args(way).arg("deploy@web-1.weir:/etc/hostname");
        let ran = Ran::of(&scp.arg(machine.path("taken")).output().unwrap());
        assert!(ran.code != 0 && ran.err.contains(says), "{way:?}: {ran:?}");
        assert!(ran.err.contains("does not carry file transfer"), "{ran:?}");
    }

    // Signed out, the shared connection ends, and whoever cannot be asked is told what to do.
    machine.ok(&["logout"]);
    wait_for("the end of the shared connection", || {
        (ssh(&machine, &["-O", "check", "deploy@web-1.weir"]).code != 0).then_some(())
    });
    let out = ssh(&machine, &["deploy@web-1.weir", "id -un"]);
    assert!(out.code == 255 && out.err.contains("run `weir login"), "{out:?}");
}

/// A `weir proxy` that runs.
struct Proxy {
    child: Child,
    lines: Vec<String>,
}

impl Proxy {
    fn start(machine: &Machine, targets: &[&str]) -> Self {
        let mut weir = parts::ending_with_us("TERM", &parts::weir());
        weir.arg("proxy").args(targets).stdin(Stdio::null()).stdout(Stdio::piped());
        let like = machine.command(&parts::weir());
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => weir.env(name, value),
                None => weir.env_remove(name),
            };
        }
        let mut child = parts::spawn(weir);
        let out = BufReader::new(child.stdout.take().unwrap());
        let lines = out.lines().map(Result::unwrap).take(targets.len()).collect();
        Self { child, lines }
    }

    /// What follows `word` in the line of a target.
    fn said(&self, target: &str, word: &str) -> String {
        let line = self.lines.iter().find(|line| line.starts_with(&format!("{target} ("))).unwrap();
        let (_, rest) = line.split_once(word).unwrap_or_else(|| panic!("{line}"));
        rest.split([' ', ',']).next().unwrap().to_owned()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ended = self.child.wait();
    }
}

/// psql as a tool has it that knows neither TLS nor certificates.
fn plain(machine: &Machine, host: &str, port: &str) -> Ran {
    let place = format!("host={host} port={port} sslmode=disable user=alice dbname=customers");
    machine.run("psql", &[&place, "-XAtc", LOOK])
}

#[test]
fn a_proxy_serves_tools_that_cannot_sign_in_and_outlives_the_gateway() {
    let demo = Demo::shared();
    let mut gateway = Prepared::new().start();
    let machine = Machine::at(gateway.port());
    machine.login_as_program(demo, "alice");
    let socket = machine.path(".s.PGSQL.7777");
    let (by_socket, web) = (
        format!("customers=unix:{}", socket.display()),
        format!("wiki=unix:{}", machine.path("wiki.sock").display()),
    );
    let proxy = Proxy::start(&machine, &["customers", "wiki"]);
    let sockets = Proxy::start(&machine, &[&by_socket, &web]);
    let port = proxy.said("customers", "port=");
    assert_eq!(plain(&machine, "127.0.0.1", &port).out, SEEN);
    let folder = machine.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    assert_eq!(plain(&machine, folder, "7777").out, SEEN);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let wiki = format!("{}/api/people", proxy.said("wiki", "(http): "));
    let curl = |more: &[&str]| machine.run("curl", &[&["-sS", "-m", "30"], more].concat()).out;
    assert!(curl(&[&wiki]).contains("<masked:pii.email>"));
    let unix = machine.path("wiki.sock");
    let by_socket = ["--unix-socket", unix.to_str().unwrap(), "http://localhost/api/people"];
    assert!(curl(&by_socket).contains("<masked:pii.email>"));
    // A page of another site has no say, by its own name or by one that it made lead here.
    for foreign in ["Origin: https://evil.example", "Host: evil.example"] {
        let refused = curl(&["-H", foreign, "-w", "%{http_code}", &wiki]);
        assert!(refused.ends_with("403") || refused.ends_with("421"), "{foreign}: {refused}");
        assert!(!refused.contains("people"), "{refused}");
    }

    // The gateway goes away for a while, and comes back at its address.
    let address = format!("address = \"127.0.0.1:{}\"", gateway.port());
    gateway.prepared.change("address = \"127.0.0.1:0\"", &address);
    gateway.kill();
    assert_ne!(plain(&machine, "127.0.0.1", &port).code, 0);
    gateway.start();
    let again = plain(&machine, "127.0.0.1", &port);
    assert_eq!(again.out, SEEN, "{again:?}");
    assert!(curl(&[&wiki]).contains("<masked:pii.email>"));

    // What is near its end is renewed by the proxy itself, which goes on.
    let before = read(machine.kept("client.crt"));
    fs::write(machine.kept("client.until"), "2026-01-01T00:00:00Z").unwrap();
    assert_eq!(plain(&machine, "127.0.0.1", &port).out, SEEN);
    assert_ne!(read(machine.kept("client.crt")), before);
    // Logged out, nobody gets in by it any more.
    machine.ok(&["logout"]);
    assert_ne!(plain(&machine, "127.0.0.1", &port).code, 0);
    drop((proxy, sockets));
    assert!(!socket.exists(), "its sockets go with it");
    let unknown = machine.weir(&["proxy", "nowhere"]);
    assert!(unknown.code == 2 && unknown.err.contains("run `weir login"), "{unknown:?}");
}

#[test]
fn kubectl_asks_weir_for_a_credential_and_the_kubeconfig_keeps_what_was_there() {
    let cluster = Cluster::shared();
    let demo = &cluster.demo;
    let machine = Machine::of(demo, demo.port());
    machine.login_as_program(demo, "alice");
    let old = "# mine\napiVersion: v1\nkind: Config\ncontexts:\n- name: other  # stays\n  context: \
               {cluster: other, user: other}\nclusters:\n- name: other\n  cluster: {server: \
               'https://other.example'}\nusers:\n- name: other\n  user: {}\ncurrent-context: other\n";
    let file = machine.path("kubeconfig");
    fs::write(&file, old).unwrap();
    let weir = |args: &[&str]| {
        let mut weir = machine.command(&parts::weir());
        Ran::of(&weir.args(args).env("KUBECONFIG", &file).output().unwrap())
    };
    let kubectl = |args: &[&str]| {
        let mut kubectl = machine.command(&parts::part("WEIR_KUBECTL"));
        Ran::of(&kubectl.args(args).env("KUBECONFIG", &file).output().unwrap())
    };
    let merged = weir(&["kubeconfig", "--merge", "--use"]);
    assert_eq!(merged.code, 0, "{merged:?}");
    let text = read(&file);
    assert!(text.starts_with("# mine\n") && text.contains("other  # stays"), "{text}");
    assert!(!text.contains("weir_s_"), "no secret: {text}");
    let contexts = kubectl(&["config", "get-contexts", "-o", "name"]);
    assert!(contexts.out.contains("prod-cluster@") && contexts.out.contains("other\n"));
    let seen = kubectl(&["get", "secrets", "-A", "-o", "yaml"]);
    assert!(seen.code == 0 && seen.out.contains("PG1hc2tlZDpjcmVkLnNlY3JldD4="), "{seen:?}");
    assert_eq!(weir(&["kubeconfig", "--merge", "--use"]).code, 0);
    assert_eq!(read(&file), text, "once is enough");
    machine.ok(&["logout"]);
    let out = kubectl(&["get", "pods"]);
    assert!(out.code != 0 && out.err.contains("run `weir login"), "{out:?}");
}

#[test]
fn what_a_team_has_becomes_a_catalogue_once_the_gaps_are_filled_in() {
    let machine = Machine::at(1);
    let service = "[crm]\nhost=db.internal\nport=5433\ndbname=crm\nuser=app\npassword=PLANTED\n";
    let hosts = "Host app-1\n  HostName app-1.internal\n  User deploy\n  IdentityFile ~/.ssh/x\n";
    let cluster = "apiVersion: v1\nkind: Config\ncurrent-context: prod\nclusters:\n- name: c\n  \
                   cluster:\n    server: https://k8s.internal:6443\ncontexts:\n- name: prod\n  \
                   context:\n    cluster: c\n    user: u\nusers:\n- name: u\n  user:\n    token: \
                   PLANTED\n";
    let mut entries = String::new();
    let kinds = [("pg_service.conf", service), ("ssh_config", hosts), ("kubeconfig", cluster)];
    for (kind, text) in kinds {
        let file = machine.path(kind);
        fs::write(&file, text).unwrap();
        entries.push_str(&machine.ok(&["import", kind, file.to_str().unwrap()]));
    }
    assert!(!entries.contains("PLANTED"), "{entries}");

    let config = machine.path("weir");
    fs::create_dir(&config).unwrap();
    copy_policies(&config);
    let example = read(parts::repository().join("config/weir.toml"));
    let file = config.join("weir.toml");
    // What is missing is pointed at, one thing after the other, until nothing is.
    let fill = [
        ("owner = \"\"", "owner = \"acme-de\""),
        ("region = \"\"", "region = \"eu-central\""),
        ("file = \"\"", "file = \"/etc/weir/secret\""),
        (
            "host_keys = []",
            "host_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAiVm5mF/VTwd2ZbBuOrFY/Tetp3OAAkVGUXFLj8vEtD\"]",
        ),
    ];
    for (gap, filled) in fill {
        fs::write(&file, format!("{example}\n{entries}")).unwrap();
        let ran = machine.weir(&["check", file.to_str().unwrap()]);
        assert!(ran.code == 2 && ran.err.contains("weir.toml:"), "{gap}: {ran:?}");
        let name = gap.split(' ').next().unwrap();
        assert!(ran.err.contains(name) || ran.err.contains(gap), "{gap}: {ran:?}");
        entries = entries.replace(gap, filled);
    }
    fs::write(&file, format!("{example}\n{entries}")).unwrap();
    let ran = machine.weir(&["check", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}\n{entries}");
    for place in ["db.internal:5433", "app-1.internal:22"] {
        assert!(ran.out.contains(place), "{place}: {ran:?}");
    }
    let none = machine.path("none");
    fs::write(&none, "# nothing\n").unwrap();
    let ran = machine.weir(&["import", "ssh_config", none.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("names no target"), "{ran:?}");
}

/// The policies of the example, beside a configuration.
fn copy_policies(folder: &Path) {
    fs::create_dir(folder.join("policies")).unwrap();
    for entry in fs::read_dir(parts::repository().join("config/policies")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join("policies").join(path.file_name().unwrap())).unwrap();
    }
}
