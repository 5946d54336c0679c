//! What runs, what waits, and how it ends.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_with_its_output_stderr_and_status() {
    let rig = Rig::new().await;
    let done = rig.run("uname -s").await;
    assert_eq!((out(&done).as_str(), done.status.code()), ("Linux\n", Some(0)), "{}", err(&done));
    let done = rig.run("echo out; echo err >&2; exit 7").await;
    assert_eq!((out(&done), err(&done)), ("out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(done.status.code(), Some(7));
    let record = rig.recorded("exit 7").await;
    assert!(record.contains(r#""text":"uname -s""#) && record.contains("Linux"), "{record}");
    assert!(record.contains("exit 0"));
    let killed = rig.run("kill -9 $$").await;
    assert_eq!(killed.status.code(), Some(255), "ssh gives 255 for a signal");
    rig.recorded("signal KILL").await;
    until("the end of all trails", || (rig.world.open_trails() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_reaches_the_command_whole() {
    let rig = Rig::new().await;
    let mut command = rig.ssh(&["cat | sha256sum"]);
    command.stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let data = (0..40_000_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>();
    let writing = tokio::spawn(async move { stdin.write_all(&data).await.unwrap() });
    let done = client.wait_with_output().await.unwrap();
    writing.await.unwrap();
    let expected = std::process::Command::new("sh")
        .args(["-c", "python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256))*156250)' | sha256sum"])
        .output()
        .unwrap();
    assert_eq!(out(&done), String::from_utf8(expected.stdout).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_stdin_stops_neither_its_output_nor_another_channel() {
    let rig = Rig::new().await;
    let control = rig.world.dir().join("control");
    let mux = ["-o", &format!("ControlPath={}", control.display()), "-o"].map(ToOwned::to_owned);
    let with = |rest: &[&str]| {
        let mut words = mux.iter().map(String::as_str).collect::<Vec<_>>();
        words.extend(rest);
        let token = rig.world.token("alice", &["engineer"]);
        let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
        command.args(words);
        command
    };
    let go = rig.world.dir().join("go");
    let line = format!("until [ -e {} ]; do sleep 0.05; done; seq 1000000", go.display());
    let mut first = with(&["ControlMaster=yes", "127.0.0.1", &line]);
    let mut yes = std::process::Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
    first.stdin(Stdio::from(yes.stdout.take().unwrap()));
    let first = tokio::spawn(ended(first));
    // Beyond all that anybody on the way reads ahead while nobody reads.
    until("a stuck stdin", || (written(&yes) > STUCK_BYTES).then_some(())).await;
    let other = ended(with(&["ControlMaster=no", "127.0.0.1", "echo alive"])).await;
    assert_eq!(out(&other), "alive\n", "{}", err(&other));
    assert!(!first.is_finished(), "the other channel was served while the first was stuck");
    write(&go, "", 0o644);
    let done = first.await.unwrap();
    yes.kill().unwrap();
    yes.wait().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert_eq!(out(&done).lines().count(), 1_000_000);
    assert!(out(&done).ends_with("1000000\n"));
}

/// More than is read ahead at the gateway, and the window of the target besides, in bytes.
const STUCK_BYTES: u64 = 6 * 1024 * 1024;

/// How much a process has written, in bytes (proc(5), `/proc/pid/io`).
fn written(process: &std::process::Child) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", process.id())).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    line.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_at_a_terminal_works() {
    let rig = Rig::new().await;
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
    command.args(["-tt", "127.0.0.1"]).env("TERM", "xterm").stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"tty; echo term=$TERM; echo $((6*7)); exit 3\n").await.unwrap();
    let done = in_time(client.wait_with_output()).await.unwrap();
    let said = out(&done);
    assert!(
        said.contains("/dev/pts/") && said.contains("term=xterm") && said.contains("\n42\r"),
        "{said}"
    );
    assert_eq!(done.status.code(), Some(3));
    let record = rig.recorded("exit 3").await;
    assert!(record.contains(r#""verb":"shell""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_locale_reaches_the_target_and_no_token_does() {
    let rig = Rig::new().await;
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
    command.args(["-o", "SendEnv=*", "127.0.0.1", "env"]);
    command.env("LC_TIME", "C").env("WEIR_TOKEN", &token).env("EVIL", "1");
    let done = ended(command).await;
    let said = out(&done);
    assert!(said.contains("LC_TIME=C"), "{said}");
    assert!(!said.contains("EVIL") && !said.contains("WEIR") && !said.contains(&token), "{said}");
    let log = fs::read_to_string(rig.world.dir().join("ssh").join("log")).unwrap_or_default();
    assert!(!log.contains(&token) && !rig.world.record().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_on_stderr_with_126() {
    let rig = Rig::new().await;
    let file = rig.world.dir().join("keep");
    fs::create_dir(&file).unwrap();
    for line in ["rm -rf", "cd / && rm -fr", "/bin/rm -r -f"] {
        let done = rig.run(&format!("{line} {}", file.display())).await;
        assert_eq!(done.status.code(), Some(126), "{}", err(&done));
        assert!(err(&done).contains("nothing is removed beyond undoing"), "{}", err(&done));
        assert!(err(&done).contains("t.destroy") && err(&done).contains("ask olaf"));
        assert!(out(&done).is_empty() && file.exists());
    }
    rig.recorded("t.destroy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_command_runs_once_and_exactly_then() {
    let rig = Rig::new().await;
    let client = rig.ssh(&["systemctl restart nginx"]);
    let client = tokio::spawn(ended(client));
    let pending = rig.held().await;
    assert_eq!(pending.command.text, "systemctl restart nginx");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.restarts(), "", "nothing runs while it waits");
    assert!(rig.approve(&pending));
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert!(err(&done).contains("weir: held as h-") && err(&done).contains("weir approve h-"));
    assert_eq!(rig.restarts(), "restart nginx\n");
    assert!(!rig.approve(&pending), "an approval is for once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_command_that_is_declined_or_left_never_runs() {
    let rig = Rig::new().await;
    let client = tokio::spawn(ended(rig.ssh(&["systemctl restart nginx"])));
    let pending = rig.held().await;
    let declined = Decision::Declined {
        by: World::approver("dana", &["approver"]),
        reason: Some("not now".into()),
    };
    assert!(rig.world.gateway().parts.desk.answer(&pending.hold, declined));
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(126));
    assert!(err(&done).contains("dana said no: not now"), "{}", err(&done));

    let mut client = rig.ssh(&["systemctl restart nginx"]).spawn().unwrap();
    let pending = rig.held().await;
    client.kill().await.unwrap();
    rig.recorded("the client went away").await;
    assert!(!rig.approve(&pending), "nobody can approve what no longer waits");

    // More than is read ahead.
    let mut flood = rig.ssh(&["systemctl restart nginx"]);
    let zero = fs::File::open("/dev/zero").unwrap();
    flood.stdin(Stdio::from(zero));
    let done = ended(flood).await;
    assert_eq!(done.status.code(), Some(126));
    assert!(err(&done).contains("read ahead"), "{}", err(&done));

    // Ctrl-C at a terminal.
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
    command.args(["-tt", "127.0.0.1", "systemctl restart nginx"]).stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    rig.held().await;
    client.stdin.as_mut().unwrap().write_all(&[3]).await.unwrap();
    let done = client.wait_with_output().await.unwrap();
    assert_eq!(done.status.code(), Some(126));
    assert!(err(&done).contains("canceled by the client"), "{}", err(&done));
    assert_eq!(rig.restarts(), "");
}

/// Begins a command that runs long; its client, and its process.
async fn long_command(rig: &Rig) -> (Child, String) {
    let mut client = rig.ssh(&["echo $$; sleep 1000 | sleep 1000"]).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.as_mut().unwrap()).lines();
    let pid = lines.next_line().await.unwrap().unwrap();
    assert!(Path::new("/proc").join(&pid).exists());
    (client, pid)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_session_ends_its_command_on_the_target() {
    let rig = Rig::of(account(), POLICIES, |_| {}).await;
    let (client, pid) = long_command(&rig).await;
    let live = rig.world.gateway().parts.registry.list();
    let live = rig.world.gateway().parts.registry.find(live[0].session).unwrap();
    live.end(EndReason::Killed { by: "dana".to_owned() });
    let done = client.wait_with_output().await.unwrap();
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("ended by dana"), "{}", err(&done));
    assert_gone(&pid).await;
    rig.recorded("killed by dana; it ended on the target by TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_command_on_the_target() {
    let rig = Rig::of(account(), POLICIES, |_| {}).await;
    let (mut client, pid) = long_command(&rig).await;
    client.kill().await.unwrap();
    assert_gone(&pid).await;
    rig.recorded("the client went away; it ended on the target by TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_of_the_client_reaches_the_command() {
    let rig = Rig::of(account(), POLICIES, |_| {}).await;
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool("ssh", &format!("{}@web-1", rig.login), &token);
    let line = "trap 'echo hup; exit 4' HUP INT; echo ready; while :; do sleep 0.1; done";
    command.args(["-tt", "127.0.0.1", line]).stdin(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap().trim(), "ready");
    client.stdin.as_mut().unwrap().write_all(&[3]).await.unwrap();
    assert!(lines.next_line().await.unwrap().unwrap().contains("hup"));
    assert_eq!(client.wait().await.unwrap().code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_sign_in_is_sent_away() {
    let rig = Rig::new().await;
    let limits = Limits { login_s_max: 1, ..Limits::default() };
    let options = Options { host_keys: vec![generate_host_key().unwrap()], limits };
    let server = Server::new(&options).unwrap();
    for greeting in [&b""[..], b"SSH-2.0-x\r\n"] {
        let (near, mut far) = tokio::io::duplex(4_096);
        far.write_all(greeting).await.unwrap();
        in_time(server.serve(rig.world.gateway(), near, World::origin())).await;
        drop(far);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_ends_and_says_so() {
    let rig = Rig::new().await;
    let limits = Limits { idle_s_max: 1, ..Limits::default() };
    let options = Options { host_keys: vec![generate_host_key().unwrap()], limits };
    let server = Server::new(&options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let token = rig.world.token("alice", &["engineer"]);
    let mut command = rig.tool_at(port, "ssh", &format!("{}@web-1", rig.login), &token);
    let known = rig.world.dir().join("known_hosts");
    write(&known, &format!("[127.0.0.1]:{port} {}\n", server.public_keys()[0]), 0o600);
    command.args(["127.0.0.1", "sleep 1000"]);
    let client = tokio::spawn(ended(command));
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        server.serve(rig.world.gateway(), stream, World::origin()).await;
    };
    in_time(serving).await;
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("too long"), "{}", err(&done));
    assert!(rig.world.record().contains(r#""reason":"idle""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_ends_the_session() {
    let rig = Rig::new().await;
    let client = tokio::spawn(ended(rig.ssh(&["echo begun; sleep 1000"])));
    rig.recorded("echo begun").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.world.reload(NOBODY);
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("web-1 is closed today"), "{}", err(&done));
}

async fn assert_gone(pid: &str) {
    let process = PathBuf::from("/proc").join(pid);
    until("the end of a process", || (!process.exists()).then_some(())).await;
}
