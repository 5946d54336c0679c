//! Signing in with the command line: what people type, where it is kept, how it is renewed, how it
//! ends, and what is said when it cannot be.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ChildStdin;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;

use crate::demo::Demo;
use crate::demo::Ran;
use crate::demo::finish;
use crate::demo::read;
use crate::demo::wait_for;
use crate::gateway::Prepared;
use crate::machine::Machine;
use crate::machine::at_provider;
use crate::parts;

/// The secrets of a login, as a file keeps them.
fn kept(machine: &Machine) -> Value {
    serde_json::from_str(&read(machine.kept("credentials.json"))).unwrap()
}

/// Makes what is kept look as if it were near its end.
fn age(machine: &Machine) {
    let mut kept = kept(machine);
    kept["expires_at"] = json!("2026-01-01T00:00:00Z");
    fs::write(machine.kept("credentials.json"), kept.to_string()).unwrap();
}

/// The living credentials of this login, by form.
fn forms(machine: &Machine) -> Vec<String> {
    let all = machine.json(&["credentials"]);
    let here = all.as_array().unwrap().iter().find(|entry| entry["current"] == true).unwrap();
    let credentials = here["credentials"].as_array().unwrap().iter();
    let mut forms = credentials.map(|c| c["form"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    forms.sort();
    forms
}

/// Whether nobody else can read anything below a folder.
fn assert_private(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{}", path.display());
        if metadata.is_dir() {
            assert_private(&path);
        }
    }
}

#[test]
fn somebody_signs_in_in_the_browser_once_and_is_known() {
    let demo = Demo::shared();
    let machine = Machine::at(demo.port());
    let visitor = machine.visitor();
    let ran = machine.login(&visitor, "alice", &[]);
    assert!(ran.out.starts_with("signed in as alice at https://localhost:"), "{ran:?}");
    assert!(ran.out.contains("kept in a file that only you may read"), "{ran:?}");

    let who = machine.ok(&["whoami"]);
    for part in ["alice (", "engineer", "acme-de", "DE, by configured network 127.0.0.0/8", "pwd"] {
        assert!(who.contains(part), "{part}: {who}");
    }
    let who = machine.json(&["whoami"]);
    assert_eq!(who["principal"]["name"], "alice");
    assert_eq!(who["login"], kept(&machine)["login"]);
    let targets = machine.ok(&["targets"]);
    assert!(["customers", "web-1", "wiki"].iter().all(|t| targets.contains(t)), "{targets}");
    assert_eq!(forms(&machine), ["renewal", "session"]);

    // What is secret is in the one file, and nobody else reads that, or anything beside it.
    assert_private(&machine.path(".local/state/weir"));
    assert!(kept(&machine)["refresh_token"].as_str().unwrap().starts_with("weir_r_"));
    let profiles = machine.path(".config/weir/config.toml");
    assert!(!read(&profiles).contains("weir_"), "{}", read(&profiles));
    fs::set_permissions(machine.kept("credentials.json"), fs::Permissions::from_mode(0o644))
        .unwrap();
    let open = machine.weir(&["whoami"]);
    assert!(open.code == 2 && open.err.contains("credentials.json"), "{open:?}");
}

#[test]
fn nothing_is_given_to_whoever_does_not_confirm() {
    let machine = Machine::at(Demo::shared().port());
    let visitor = machine.visitor();
    let asking = machine.asks(&["login", "--no-browser"]);
    let page = at_provider(&visitor, visitor.visit(&asking.url), "alice");
    assert!(page.body.contains("Who asks") && page.body.contains("127.0.0.1"), "{page:?}");
    // Looking at the page again changes nothing; saying no ends it.
    let page = visitor.visit(&page.url);
    assert!(page.body.contains("Is it you who asks?"), "{page:?}");
    let no = visitor.submit(&page, &[("answer", "decline")]);
    if let Ok(back) = visitor.follow(no, "http://127.0.0.1:") {
        assert!(!back.contains("code="), "{back}");
        visitor.visit(&back);
    }
    let ran = asking.finish();
    assert!(ran.code == 1 && !ran.out.contains("signed in"), "{ran:?}");
    assert_eq!(machine.weir(&["whoami"]).code, 2);
}

#[test]
fn the_browser_that_is_there_is_opened() {
    let machine = Machine::at(Demo::shared().port());
    let opened = machine.path("opened");
    let script = machine.script("browser", &format!("printf %s \"$1\" > '{}'", opened.display()));
    let mut weir = machine.command(&parts::weir());
    let child = weir.arg("login").env("BROWSER", script).spawn().unwrap();
    let url = wait_for("the browser", || {
        fs::read_to_string(&opened).ok().filter(|url| url.starts_with("https://"))
    });
    let visitor = machine.visitor();
    let page = at_provider(&visitor, visitor.visit(&url), "olaf");
    let back = visitor.follow(visitor.submit(&page, &[]), "http://127.0.0.1:").unwrap();
    // Others of this machine may knock at the port; they get nothing, and end nothing.
    let (address, _) = back.split_once('?').unwrap();
    assert!(visitor.visit(&format!("{address}?code=weir_a_x&state=guessed")).status >= 400);
    assert_eq!(visitor.visit(&back).status, 200);
    let ran = finish(child);
    assert!(ran.code == 0 && ran.out.contains("signed in as olaf"), "{ran:?}");
}

#[test]
fn without_a_browser_a_code_signs_in_and_profiles_live_side_by_side() {
    let demo = Demo::shared();
    let machine = Machine::at(demo.port());
    machine.login_as_program(demo, "alice");
    // Over SSH, there is no browser to open: it is as if `--device` had been said.
    let mut asking = machine.asks(&["login", "--profile", "second"]);
    let code = asking.line().split_once("code:").unwrap().1.trim().to_owned();
    let visitor = machine.visitor();
    let page = visitor.visit(&format!("{}?code={code}", asking.url));
    assert!(page.status == 200 && page.body.contains(&code), "{page:?}");
    let page = at_provider(&visitor, visitor.submit(&page, &[("code", &code)]), "dana");
    assert!(page.body.contains("weir-cli") && page.body.contains("127.0.0.1"), "{page:?}");
    assert!(asking.child.try_wait().unwrap().is_none(), "nobody has confirmed");
    assert_eq!(visitor.submit(&page, &[]).status, 200);
    let ran = asking.finish();
    assert!(ran.code == 0 && ran.out.contains("signed in as dana"), "{ran:?}");
    let again = visitor.visit(&page.url);
    assert!(!again.body.contains("Is it you who asks?"), "a code counts once: {again:?}");

    let name = |args: &[&str]| machine.json(args)["principal"]["name"].clone();
    assert_eq!(name(&["whoami", "--profile", "second"]), "dana");
    let all = machine.json(&["profiles"]);
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    machine.ok(&["profiles", "use", "second"]);
    let mut weir = machine.command(&parts::weir());
    let ran = weir.env_remove("WEIR_GATEWAY").env_remove("WEIR_CA_FILE").arg("whoami").output();
    let ran = Ran::of(&ran.unwrap());
    assert!(ran.code == 0 && ran.out.starts_with("dana ("), "{ran:?}");
    // One ends; the other does not.
    let refused = machine.weir(&["profiles", "rm", "second"]);
    assert!(
        refused.code == 2 && refused.err.contains("weir logout --profile second"),
        "{refused:?}"
    );
    machine.ok(&["logout", "--profile", "second"]);
    machine.ok(&["profiles", "rm", "second"]);
    let first = machine.gateway().trim_start_matches("https://").replace(':', "-");
    assert_eq!(name(&["whoami", "--profile", &first]), "alice");
}

#[test]
fn a_job_signs_in_with_the_token_it_is_given() {
    let demo = Demo::shared();
    let machine = Machine::at(demo.port());
    let nothing = machine.weir(&["login", "--workload"]);
    assert!(nothing.code == 2 && nothing.err.contains("--token-file"), "{nothing:?}");
    let missing = machine.weir(&["login", "--workload", "--token-file", "/nowhere"]);
    assert!(missing.code == 2 && missing.err.contains("/nowhere: no such file"), "{missing:?}");
    let bad = machine.path("bad.token");
    let (head, _) = demo.token("alice").rsplit_once('.').unwrap();
    fs::write(&bad, format!("{head}.AAAA")).unwrap();
    let bad = bad.to_str().unwrap();
    let refused = machine.weir(&["login", "--workload", "--token-file", bad]);
    assert!(refused.code == 1 && refused.err.contains("weir check --token"), "{refused:?}");
    assert!(!refused.err.contains("signature"), "not how nearly it was good: {refused:?}");
    let mut weir = machine.command(&parts::weir());
    let ran = weir.args(["login", "--workload"]).env("WEIR_ID_TOKEN", demo.token("alice")).output();
    assert_eq!(Ran::of(&ran.unwrap()).code, 0);
    assert_eq!(machine.json(&["whoami"])["principal"]["name"], "alice");

    // An administrator reads why, from the daemon's own checks.
    let good = demo.text("/people/mei/token_file");
    let dana = Machine::at(demo.port());
    dana.login_as_program(demo, "dana");
    let read = dana.weir(&["check", "--token", bad]);
    assert!(read.code == 1 && read.out.contains("NOT ACCEPTED"), "{read:?}");
    assert!(read.out.lines().any(|l| l.contains("signature") && l.contains("failed")), "{read:?}");
    let config = demo.text("/config_file");
    let read = dana.ok(&["check", config, "--token", good]);
    for part in ["ok\n", "accepted", "mei; roles: engineer; entity: acme-sg", "customers", "wiki"] {
        assert!(read.contains(part), "{part}: {read}");
    }
    assert_eq!(machine.weir(&["check", "--token", good]).code, 1, "alice does not administer");
}

#[test]
fn whoever_comes_first_renews_and_the_others_use_that() {
    let demo = Demo::shared();
    let machine = Machine::at(demo.port());
    machine.login_as_program(demo, "alice");
    let before = kept(&machine);
    age(&machine);
    let all =
        (0..5).map(|_| machine.command(&parts::weir()).args(["whoami", "--json"]).spawn().unwrap());
    for child in all.collect::<Vec<_>>() {
        let ran = finish(child);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let after = kept(&machine);
    assert_eq!(after["login"], before["login"]);
    assert_ne!(after["refresh_token"], before["refresh_token"]);
    // Had two of them renewed, a used secret had been shown again, and the login would have ended.
    assert_eq!(forms(&machine).iter().filter(|form| *form == "renewal").count(), 1);
    assert_private(&machine.path(".local/state/weir"));

    // A copy that is shown later is somebody else's: nobody goes on with it.
    fs::write(machine.kept("credentials.json"), before.to_string()).unwrap();
    age(&machine);
    let stolen = machine.weir(&["whoami"]);
    assert!(stolen.code == 1 && stolen.err.contains("your login has ended"), "{stolen:?}");
    assert!(stolen.err.contains("weir login --profile"), "{stolen:?}");
    assert!(!machine.kept("credentials.json").exists());
    let out = machine.weir(&["whoami"]);
    assert!(out.code == 2 && out.err.contains("run `weir login --profile"), "{out:?}");
}

#[test]
fn a_fresh_proof_makes_the_same_login_stronger_and_logging_out_ends_what_is_open() {
    let demo = Demo::shared();
    let machine = Machine::at(demo.port());
    let visitor = machine.visitor();
    machine.login(&visitor, "alice", &[]);
    let before = machine.json(&["whoami"]);
    let mut psql = machine.command(&parts::weir());
    psql.args(["psql", "customers", "-At"]).stdin(Stdio::piped());
    let mut psql = psql.spawn().unwrap();
    let mut typed = psql.stdin.take().unwrap();
    let mut shown = BufReader::new(psql.stdout.take().unwrap());
    let mut say = |typed: &mut ChildStdin, line: &str| {
        writeln!(typed, "{line}").unwrap();
        let mut answer = String::new();
        shown.read_line(&mut answer).unwrap();
        answer
    };
    assert_eq!(say(&mut typed, "SELECT 'open';"), "open\n");
    machine.login(&visitor, "alice", &["--fresh"]);
    let after = machine.json(&["whoami"]);
    assert_eq!(after["login"], before["login"]);
    assert_eq!(after["authentication"]["amr"], json!(["otp", "pwd"]), "{after}");
    assert_eq!(say(&mut typed, "SELECT 'still open';"), "still open\n");
    let public = machine.kept("client.crt");
    assert!(public.exists(), "what belongs to the login stays");

    assert!(machine.ok(&["logout"]).starts_with("logged out"));
    // psql says so once it is typed to: within a second, the gateway has closed.
    let mut said = BufReader::new(psql.stderr.take().unwrap()).lines().map(Result::unwrap);
    wait_for("the end of psql", || {
        let _gone = writeln!(typed, "SELECT 1;");
        psql.try_wait().unwrap()
    });
    let said = said.by_ref().collect::<Vec<_>>().join("\n");
    assert!(said.contains("logged out") && said.contains("`weir login`"), "{said}");
    for secret in ["credentials.json", "client.key", "client.crt"] {
        assert!(!machine.kept(secret).exists(), "{secret}");
    }
    assert_eq!(machine.weir(&["whoami"]).code, 2);
    assert!(machine.ok(&["logout"]).contains("nobody was signed in here"));
}

#[test]
fn a_login_can_be_ended_from_another_device_and_everywhere_at_once() {
    let demo = Demo::shared();
    let gateway = Prepared::new().start();
    let (here, there) = (Machine::at(gateway.port()), Machine::at(gateway.port()));
    here.login_as_program(demo, "alice");
    there.login_as_program(demo, "alice");
    let id = kept(&there)["login"].as_str().unwrap().to_owned();
    assert!(here.ok(&["credentials"]).contains(&id));
    here.ok(&["credentials", "revoke", &id]);
    let ended = there.weir(&["whoami"]);
    assert!(ended.code == 1 && ended.err.contains("weir login"), "{ended:?}");
    there.login_as_program(demo, "alice");
    here.ok(&["logout", "--everywhere"]);
    let ended = there.weir(&["whoami"]);
    assert!(ended.code == 1 && ended.err.contains("weir login"), "{ended:?}");
    let nonsense = here.weir(&["credentials", "revoke", "../x"]);
    assert!(
        nonsense.code == 2 && nonsense.err.contains("`weir credentials` lists"),
        "{nonsense:?}"
    );
}

#[test]
fn secrets_rest_in_the_keyring_where_there_is_one() {
    let demo = Demo::shared();
    let machine = Machine::at(demo.port());
    let (weir, file) = (parts::weir(), demo.text("/people/alice/token_file"));
    let script = format!(
        "printf %s unlocking | gnome-keyring-daemon --unlock --components=secrets >&2
        {weir} login --workload --token-file {file}
        {weir} whoami
        test ! -e {kept} && echo no file
        secret-tool lookup service weir profile localhost-{port} | grep -c weir_r_
        {weir} logout
        secret-tool lookup service weir profile localhost-{port} || echo nothing left",
        weir = weir.display(),
        kept = machine.kept("credentials.json").display(),
        port = demo.port(),
    );
    let mut run = machine.command(&parts::program("dbus-run-session"));
    run.args(["--", "sh", "-ec", &script]).env_remove("XDG_DATA_HOME");
    let ran = Ran::of(&run.env("XDG_RUNTIME_DIR", machine.path("")).output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in ["the system's keyring", "alice (", "no file\n1\n", "logged out", "nothing left"] {
        assert!(ran.out.contains(part), "{part}: {ran:?}");
    }
}

#[test]
fn whoever_cannot_be_reached_or_believed_is_named_with_the_one_thing_to_do() {
    let demo = Demo::shared();
    let machine = Machine::at(demo.port());
    let out = machine.weir(&["whoami"]);
    let run = format!("run `weir login --gateway https://localhost:{}`", demo.port());
    assert!(out.code == 2 && out.err.contains(&run), "{out:?}");
    for (args, says) in [
        (&["--gateway", "https://localhost:1"][..], "hint: see that the address is the gateway's"),
        (&["--ca-file", demo.text("/direct/postgres/ca_file")], "by --ca-file"),
        (&["--gateway", &format!("https://not.localhost:{}", demo.port())], "by --gateway"),
    ] {
        let ran = machine.weir(&[&["login", "--device"], args].concat());
        assert!(ran.code == 3 && ran.err.contains(says), "{args:?}: {ran:?}");
        assert_eq!(ran.err.matches("hint: ").count(), 1, "{ran:?}");
    }
    // A certificate of yesterday: of the right authority, so only the clock can be wrong.
    let ca = demo.text("/ca_file");
    let script = format!(
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out r \
           -subj /CN=localhost
        printf 'subjectAltName=DNS:localhost\\n' > x
        openssl x509 -req -in r -CA '{ca}' -CAkey '{key}' -set_serial 7 -days -1 -extfile x -out c
        exec openssl s_server -accept 127.0.0.1:0 -cert c -key k",
        key = demo.text("/ca_key_file"),
    );
    let mut old = machine.command(&parts::program("sh"));
    old.args(["-ec", &script]).current_dir(machine.path("")).stdin(Stdio::piped());
    let mut old = old.spawn().unwrap();
    let mut lines = BufReader::new(old.stdout.take().unwrap()).lines().map(Result::unwrap);
    let port = lines.find_map(|l| l.strip_prefix("ACCEPT 127.0.0.1:").map(str::to_owned)).unwrap();
    let ran =
        machine.weir(&["login", "--device", "--gateway", &format!("https://localhost:{port}")]);
    old.kill().unwrap();
    old.wait().unwrap();
    assert!(ran.code == 3 && ran.err.contains("set the clock"), "{ran:?}");
}
