//! What does not run, and how that is told.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_verified_learns_nothing_and_whoever_is_not_admitted_learns_why() {
    let rig = Rig::new().await;
    let user = format!("{}@web-1", rig.login);
    let with = |user: &str, token: &str| {
        let mut command = rig.tool("ssh", user, token);
        command.args(["127.0.0.1", "id"]);
        ended(command)
    };
    // A session credential: a provider's token counts at targets that take it, and at no others.
    let (_, good) = rig.world.sign_in("alice", &["engineer"]).await;
    let other = rig.world.token("mallory", &["guest"]);
    let wrong = with(&user, "nonsense").await;
    assert_eq!(wrong.status.code(), Some(255));
    assert!(err(&wrong).contains("Permission denied"), "{}", err(&wrong));
    let guest = with(&user, &other).await;
    assert_eq!(guest.status.code(), Some(126), "{}", err(&guest));
    assert!(err(&guest).starts_with("weir: "), "{}", err(&guest));
    for (user, said) in [
        ("nobody@web-1", "not offered"),
        (&format!("{}:x@web-1", rig.login), "not offered"),
        (&rig.login, "user name must say"),
        (&format!("{}@web-2", rig.login), "no target `web-2`"),
    ] {
        let done = with(user, &good).await;
        assert_eq!(
            (done.status.code(), err(&done).contains(said)),
            (Some(126), true),
            "{user}: {}",
            err(&done)
        );
    }
    assert!(!rig.world.record().contains("uid="), "nothing ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_may_be_the_token_and_a_key_is_no_sign_in() {
    let rig = Rig::new().await;
    let user = format!("{}@web-1", rig.login);
    let token = rig.world.token("alice", &["engineer"]);
    let by = |method: &str| {
        let key = rig.world.dir().join("ssh").join("gateway");
        let mut command = rig.tool("ssh", &user, &token);
        command.args(["-o", &format!("PreferredAuthentications={method}"), "-i"]).arg(key);
        command.args(["127.0.0.1", "echo in"]);
        ended(command)
    };
    assert_eq!(out(&by("password").await), "in\n");
    let key = by("publickey").await;
    assert_eq!(
        (out(&key).as_str(), key.status.code()),
        ("", Some(255)),
        "even the gateway's own key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_agents_and_file_transfer_are_refused_and_recorded() {
    let rig = Rig::new().await;
    let user = format!("{}@web-1", rig.login);
    let token = rig.world.token("alice", &["engineer"]);
    let mut forward = rig.tool("ssh", &user, &token);
    forward.args(["-W", &format!("127.0.0.1:{}", rig.sshd_port), "127.0.0.1"]);
    let done = ended(forward).await;
    assert_ne!(done.status.code(), Some(0));
    assert!(!out(&done).contains("SSH-2.0"), "nothing came through");
    rig.recorded("direct-tcpip").await;
    let mut remote = rig.tool("ssh", &user, &token);
    remote.args(["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "127.0.0.1", "id"]);
    assert_ne!(ended(remote).await.status.code(), Some(0));
    rig.recorded("tcpip-forward").await;
    let mut agent = rig.tool("ssh", &user, &token);
    agent.args(["-A", "127.0.0.1", "echo agent=$SSH_AUTH_SOCK"]);
    assert_eq!(out(&ended(agent).await), "agent=\n");
    let file = rig.world.dir().join("file");
    fs::write(&file, "x").unwrap();
    for old in [&[][..], &["-O"]] {
        let copy = rig.world.dir().join("copy");
        let mut scp = rig.tool("scp", &user, &token);
        scp.args(old).arg(&file).arg(format!("127.0.0.1:{}", copy.display()));
        let done = ended(scp).await;
        assert_ne!(done.status.code(), Some(0));
        assert!(err(&done).contains("does not carry file transfer"), "{}", err(&done));
        assert!(!copy.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_dead_or_another_is_told_apart() {
    let another =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4bHk9HjRsCHTDmL9zJYtHbGxVJPZSFwgyXQwjvQ2bM";
    let rig = Rig::with(POLICIES, |target| {
        if let Reach::Ssh(ssh) = &mut target.reach {
            ssh.host_keys = vec![another.parse().unwrap()];
        }
    })
    .await;
    let done = rig.run("id").await;
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("host key of `web-1` changed"), "{}", err(&done));
    drop(rig);
    let rig = Rig::with(POLICIES, |target| {
        if let Reach::Ssh(ssh) = &mut target.reach {
            ssh.address = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        }
    })
    .await;
    let done = rig.run("id").await;
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("web-1 cannot be reached"), "{}", err(&done));
    rig.recorded("cannot be reached").await;
    drop(rig);
    let mut rig = Rig::new().await;
    let client = tokio::spawn(ended(rig.ssh(&["echo begun; kill -9 $PPID; sleep 5"])));
    let done = client.await.unwrap();
    assert_eq!(done.status.code(), Some(255));
    assert!(err(&done).contains("the target closed the connection"), "{}", err(&done));
    rig.sshd.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_hold_hidden_data_does_not_run() {
    let rig = Rig::with(READS_ONLY, |target| {
        target.classes.insert("pii.email".parse().unwrap());
    })
    .await;
    let done = rig.run("cat /etc/passwd").await;
    assert_eq!(done.status.code(), Some(126));
    assert!(err(&done).contains("free text cannot be masked"), "{}", err(&done));
    assert!(out(&done).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_needs_a_policy_that_says_so() {
    let rig = Rig::with(READS_ONLY, |_| {}).await;
    assert_eq!(rig.run("uname").await.status.code(), Some(0));
    for line in ["uname; id", "bash", "uname $(id)"] {
        let done = rig.run(line).await;
        assert_eq!(done.status.code(), Some(126), "{line}");
        assert!(err(&done).contains("cannot be told"), "{}", err(&done));
    }
    let shell = ended(rig.ssh(&[])).await;
    assert_eq!(shell.status.code(), Some(126), "a shell on stdin is a shell");
}
