//! A real cluster behind the gateway, met with the real kubectl and with curl.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Stdio;

use crate::cluster::Cluster;
use crate::cluster::PLANTED;
use crate::cluster::leaks;
use crate::demo::finish;
use crate::demo::wait_for;

/// The planted Secret.
const SECRET: &str = "/api/v1/namespaces/prod/secrets/db-password";

/// `kubectl get` of it.
fn one<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["get", "secret", "db-password", "-n", "prod"], more].concat()
}

fn config_map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: dev}}\n\
         data: {{key: {value}}}\n"
    )
}

#[test]
fn an_engineer_works_with_kubectl_as_always() {
    let cluster = Cluster::shared();
    let ok = |args: &[&str]| cluster.ok("alice", args);
    assert!(ok(&["get", "pods", "-A"]).contains("web-2"));
    assert!(ok(&["get", "pods", "-n", "dev", "-o", "yaml"]).contains("image: local/web:1"));
    let who = ok(&["auth", "whoami"]);
    assert!(who.contains("alice") && who.contains("weir:engineer"), "{who}");
    assert!(ok(&["api-resources"]).contains("deployments"));
    assert!(ok(&["explain", "pod.spec"]).contains("containers"));
    assert!(ok(&["version"]).contains("Server Version"));
    assert!(ok(&["auth", "can-i", "list", "pods", "-n", "dev"]).contains("yes"));
    assert!(ok(&["describe", "pod", "web-1", "-n", "dev"]).contains("Pending"));

    let mut watch = cluster.kubectl("alice");
    watch.args([
        "get",
        "configmap",
        "watched",
        "-n",
        "dev",
        "-w",
        "-o",
        "jsonpath={.data.key}{'\\n'}",
    ]);
    let file = cluster.file("watched.yaml", &config_map("watched", "one"));
    assert!(ok(&["apply", "-f", &file]).contains("created"));
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert_eq!(seen.next().unwrap().unwrap(), "one");
    let file = cluster.file("watched.yaml", &config_map("watched", "two"));
    assert!(ok(&["apply", "-f", &file]).contains("configured"));
    assert_eq!(seen.next().unwrap().unwrap(), "two");
    watch.kill().unwrap();
    watch.wait().unwrap();

    let file = cluster.file("watched.yaml", &config_map("watched", "three"));
    let applied = ok(&["apply", "--server-side", "--force-conflicts", "-f", &file]);
    assert!(applied.contains("serverside-applied"), "{applied}");
    let value = cluster.admin(&["get", "cm", "watched", "-n", "dev", "-o", "jsonpath={.data.key}"]);
    assert_eq!(value, "three");
    assert!(ok(&["delete", "configmap", "watched", "-n", "dev"]).contains("deleted"));
}

#[test]
fn a_secret_leaves_masked_in_every_form_that_a_client_can_ask_for() {
    let cluster = Cluster::shared();
    // The eye is open: past the gateway, and for dana, the value is seen.
    let get = ["get", "secret", "db-password", "-n", "prod", "-o", "yaml"];
    assert!(!leaks(&cluster.admin(&get)).is_empty());
    assert!(!leaks(&cluster.ok("dana", &get)).is_empty(), "dana sees secrets");
    assert!(!leaks(&cluster.curl("dana", SECRET, &[])).is_empty());

    for args in [
        one(&["-o", "yaml"]),
        one(&["-o", "json"]),
        one(&["-o", "yaml", "--show-managed-fields"]),
        one(&["-o", "jsonpath={.data.password}"]),
        one(&["-o", "jsonpath={.data}"]),
        one(&["-o", "go-template={{.data.password | base64decode}}"]),
        one(&["-o", "custom-columns=P:.data.password"]),
        one(&["-o", "wide"]),
        one(&["-o", "json", "-v=9"]),
        vec!["describe", "secret", "db-password", "-n", "prod"],
        vec!["get", "secrets", "-A", "-o", "yaml"],
        vec!["get", "secrets", "-A", "--chunk-size=1", "-o", "json"],
        vec!["get", "secrets,configmaps", "-n", "prod", "-o", "yaml"],
        vec!["get", "--raw", SECRET],
        vec!["get", "--raw", "/api/v1/secrets?limit=1"],
        vec!["patch", "secret", "db-password", "-n", "prod", "-p", "{}", "-o", "yaml"],
        vec![
            "patch",
            "secret",
            "db-password",
            "-n",
            "prod",
            "--type=merge",
            "-p",
            "{}",
            "-o",
            "json",
        ],
        vec![
            "annotate",
            "secret",
            "db-password",
            "-n",
            "prod",
            "a=b",
            "--dry-run=server",
            "-o",
            "yaml",
        ],
    ] {
        let ran = cluster.run("alice", &args);
        assert!(ran.code == 0 && !ran.out.is_empty(), "{args:?} {ran:?}");
        assert_eq!(leaks(&format!("{}{}", ran.out, ran.err)), [""; 0], "{args:?}");
    }
    let masked =
        cluster.ok("alice", &one(&["-o", "go-template={{.data.password | base64decode}}"]));
    assert_eq!(masked, "<masked:cred.secret>");

    let watched = "/api/v1/namespaces/prod/secrets?watch=1&timeoutSeconds=1";
    let streamed = "/api/v1/secrets?watch=1&timeoutSeconds=1&sendInitialEvents=true\
                    &resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let accepts = [
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/vnd.kubernetes.protobuf",
        "application/vnd.kubernetes.protobuf;stream=watch",
        "application/cbor",
        "application/cbor-seq",
        "application/yaml",
        "text/plain",
        "*/*",
    ];
    for path in
        [SECRET, "/api/v1/secrets", "/api/v1/secrets?includeObject=Object", watched, streamed]
    {
        for accept in accepts {
            let got = cluster.curl("alice", path, &["-H", &format!("Accept: {accept}")]);
            assert_eq!(leaks(&got), [""; 0], "{path} {accept}");
            assert!(got.contains("db-password"), "{path} {accept}: {got}");
        }
    }
    for more in [
        ["-H", "Accept-Encoding: gzip, deflate, br, zstd"],
        ["-H", "Range: bytes=200-4000"],
        ["-H", "If-None-Match: *"],
        ["-X", "HEAD"],
        ["-X", "OPTIONS"],
        ["-X", "POST"],
    ] {
        assert_eq!(leaks(&cluster.curl("alice", SECRET, &more)), [""; 0], "{more:?}");
    }
    let dry = cluster.curl("alice", &format!("{SECRET}?dryRun=All"), &["-X", "DELETE"]);
    assert!(dry.contains("200") && leaks(&dry).is_empty(), "{dry}");
}

#[test]
fn what_kubectl_keeps_of_an_applied_secret_is_masked_too() {
    let cluster = Cluster::shared();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: applied, namespace: dev}}\n\
         stringData: {{password: {PLANTED}}}\n"
    );
    let file = cluster.file("applied.yaml", &secret);
    for args in [
        &["apply", "-f", &file, "-o", "yaml"][..],
        &["apply", "-f", &file, "-o", "json"],
        &["apply", "view-last-applied", "secret", "applied", "-n", "dev"],
        &["apply", "--server-side", "--force-conflicts", "-f", &file, "-o", "yaml"],
        &["get", "secret", "applied", "-n", "dev", "-o", "yaml", "--show-managed-fields"],
        &["label", "secret", "applied", "-n", "dev", "x=y", "-o", "yaml"],
    ] {
        let ran = cluster.run("alice", args);
        assert!(ran.code == 0, "{args:?} {ran:?}");
        assert_eq!(leaks(&ran.out), [""; 0], "{args:?} {}", ran.out);
    }
    // The record keeps none of it either: neither what was sent nor what came back.
    let stored = cluster.admin(&["get", "secret", "applied", "-n", "dev", "-o", "yaml"]);
    assert!(!leaks(&stored).is_empty(), "what alice wrote is what is stored: {stored}");
    for session in sessions_of(cluster, "alice") {
        let show = ["sessions", "show", &session, "--purpose", "a test"];
        let shown = cluster.demo.weir_json("dana", &show);
        assert_eq!(leaks(&shown.to_string()), [""; 0], "{session}");
    }
}

fn sessions_of(cluster: &Cluster, person: &str) -> Vec<String> {
    let all = cluster.demo.weir_json("dana", &["sessions", "ls"]);
    let all = all.as_array().unwrap().iter().filter(|session| session["principal"] == person);
    all.map(|session| session["session"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_mask_is_not_stored_and_no_patch_moves_a_secret() {
    let cluster = Cluster::shared();
    let masked = cluster.ok("alice", &["get", "secret", "db-password", "-n", "prod", "-o", "yaml"]);
    let file = cluster.file("masked.yaml", &masked);
    let copied = masked.replace("kind: Secret", "kind: ConfigMap").replace("type: Opaque", "");
    let copied = cluster.file("copied.yaml", &copied);
    let copy = r#"[{"op":"copy","from":"/data/password","path":"/metadata/labels"}]"#;
    let test = r#"[{"op":"test","path":"/data/username","value":"YXBw"}]"#;
    for (args, why) in [
        (&["apply", "-f", &file][..], "mask"),
        (&["apply", "--server-side", "--force-conflicts", "-f", &file], "mask"),
        (&["replace", "-f", &file], "mask"),
        (&["create", "-f", &copied], "mask"),
        (
            &["patch", "secret", "db-password", "-n", "prod", "--type=json", "-p", copy],
            "JSON Patch",
        ),
        (
            &["patch", "secret", "db-password", "-n", "prod", "--type=json", "-p", test],
            "JSON Patch",
        ),
        (&["get", "secrets", "-n", "prod", "--field-selector=data.password=x"], "selector"),
    ] {
        let ran = cluster.run("alice", args);
        assert!(ran.code == 1 && ran.err.contains(why), "{args:?} {ran:?}");
    }
    let value = ["get", "secret", "db-password", "-n", "prod", "-o", "jsonpath={.data.password}"];
    assert!(!leaks(&cluster.admin(&value)).is_empty(), "the value is what it was");
}

#[test]
fn ways_past_the_gateway_are_refused_with_a_reason() {
    let cluster = Cluster::shared();
    let pod = "/api/v1/namespaces/dev/pods/web-1";
    for (args, why) in [
        (&["exec", "-n", "dev", "web-1", "--", "id"][..], "running a command in a pod is not"),
        (&["attach", "-n", "dev", "web-1"], "attaching to a pod is not"),
        (&["debug", "-n", "dev", "web-1", "--image=a/b"], "debug containers are not"),
        (&["create", "token", "default", "-n", "dev"], "tokens of service accounts are not"),
        (&["get", "--raw", &format!("{pod}/proxy")], "proxy to nodes, pods and services"),
        (&["get", "--raw", "/api/v1/nodes/n/proxy/metrics"], "proxy to nodes, pods and services"),
        (&["get", "pods", "--as", "root"], "the header impersonate-user is not carried"),
        (&["get", "pods", "--as", "alice", "--as-group", "system:masters"], "not carried"),
        (&["get", "pods", "--as", "alice", "--as-uid", "0"], "not carried"),
        (&["create", "clusterrole", "x", "--verb=get", "--resource=pods"], "no policy permits"),
    ] {
        let ran = cluster.run("alice", args);
        assert!(ran.code == 1 && ran.err.contains(why), "{args:?} {ran:?}");
    }
    for (path, more, why) in [
        (format!("{pod}/portforward?ports=80"), &["-X", "POST"][..], "forwarding a pod's port"),
        (
            format!("{pod}/exec?command=id"),
            &["-H", "Upgrade: websocket", "-H", "Connection: upgrade"],
            "",
        ),
        (pod.to_owned(), &["-H", "Impersonate-Group: system:masters"], "impersonate-group"),
        (pod.to_owned(), &["-H", "Impersonate-Extra-scopes: x"], "impersonate-extra-scopes"),
    ] {
        let got = cluster.curl("alice", &path, more);
        let status = got.split_whitespace().nth(1).unwrap_or_default().to_owned();
        assert!(
            (status.starts_with('4') || status == "501") && got.contains(why),
            "{path} {more:?} {got}"
        );
    }
    // By this one other proxies say who somebody is: it is dropped on the way, not believed.
    let got = cluster.curl("alice", pod, &["-H", "X-Remote-User: root"]);
    assert_eq!(got.split_whitespace().nth(1), Some("200"), "{got}");
    // None of it was seen by the cluster.
    let past = |uri: &str| {
        ["/exec", "/attach", "/portforward", "/proxy", "/token", "/ephemeral"]
            .iter()
            .any(|sub| uri.contains(sub))
    };
    let seen = cluster.audit();
    let bad = seen.iter().find(|event| event["requestURI"].as_str().is_some_and(past));
    assert_eq!(bad, None);
    let root = |event: &&serde_json::Value| {
        ["/user/username", "/impersonatedUser/username"]
            .iter()
            .any(|name| event.pointer(name).is_some_and(|user| user == "root"))
    };
    assert_eq!(seen.iter().find(root), None);
}

#[test]
fn no_spelling_of_a_path_reaches_a_secret_unmasked() {
    let cluster = Cluster::shared();
    for path in [
        "//api/v1/namespaces/prod/secrets/db-password",
        "/api//v1/namespaces/prod/secrets/db-password",
        "/./api/v1/namespaces/prod/secrets/db-password",
        "/version/../api/v1/namespaces/prod/secrets/db-password",
        "/api/v1/namespaces/prod/configmaps/../secrets/db-password",
        "/api/v1/namespaces/prod/configmaps/%2e%2e/secrets/db-password",
        "/api/v1/namespaces/prod/configmaps/..%2fsecrets/db-password",
        "/api/v1/namespaces/prod/%73ecrets/db-password",
        "/api/v1/namespaces/prod/%2573ecrets/db-password",
        "/api/v1/namespaces/prod/SECRETS/db-password",
        "/api/v1/namespaces/prod/Secrets/db-password",
        "/api/v1/namespaces/prod/secret/db-password",
        "/api/v1/namespaces/prod/secrets/db%2Dpassword",
        "/api/v1/namespaces/prod/secrets%2Fdb-password",
        "/api/v1/namespaces/prod/secrets%2Fdb-password/status",
        "/api/v1/namespaces/prod%2Fsecrets/db-password",
        "/api/v1/namespaces/prod/secrets/db-password/",
        "/api/v1/namespaces/prod/secrets/db-password;x",
        "/api/v1/namespaces/prod/secrets/db-password/status",
        "/api/v1/namespaces/prod/secrets;x/db-password",
        "/api/v1/namespaces/prod/secrets\\db-password",
        "/api/v1/namespaces/prod/secrets%5Cdb-password",
        "/api/v1/namespaces/prod/secrets%00/db-password",
        "/api/v1/namespaces/prod/secrets/db-password%3Fa",
        "/api/v1/namespaces/prod/secrets/db-password%23",
        "/api/v1/namespaces/prod/secrets?fieldSelector=metadata.name%3Ddb-password",
        "/api/v1/watch/namespaces/prod/secrets/db-password?timeoutSeconds=1",
        "/api/v1/watch/secrets?timeoutSeconds=1",
        "/api/v1/secrets?watch=banana&timeoutSeconds=1",
        "/api/v1/secrets?%77atch=1&timeoutSeconds=1",
        "/api/v1/secrets?watch=0&watch=1",
        "/api/v1/proxy/namespaces/prod/secrets/db-password",
        "/api/v1/redirect/namespaces/prod/secrets/db-password",
        "/apis//v1/namespaces/prod/secrets/db-password",
        "/apis/v1/namespaces/prod/secrets/db-password",
        "/apis/core/v1/namespaces/prod/secrets/db-password",
        "/apis/%20/v1/namespaces/prod/secrets/db-password",
        "/openapi/../api/v1/secrets",
        "/healthz/..%2f..%2fapi/v1/secrets",
        "/api/v1/secrets#x",
        "/api/v1/%F0%9F%98%80/../secrets",
    ] {
        for more in [
            &[][..],
            &["--http1.1"],
            &["-X", "PATCH", "-d", "{}", "-H", "Content-Type: application/merge-patch+json"],
        ] {
            let got = cluster.curl("alice", path, more);
            assert_eq!(leaks(&got), [""; 0], "{path} {more:?}");
            assert!(got.starts_with("HTTP/"), "{path} {more:?} {got}");
        }
    }
    // A method in a header or in the query is none.
    for header in [
        "X-HTTP-Method-Override: GET",
        "X-Original-URL: /api/v1/secrets",
        "X-Rewrite-Url: /api/v1/secrets",
    ] {
        assert_eq!(
            leaks(&cluster.curl("alice", "/api/v1/namespaces/prod/configmaps", &["-H", header])),
            [""; 0]
        );
    }
}

#[test]
fn a_namespace_is_deleted_only_when_somebody_else_approves() {
    let cluster = Cluster::shared();
    let phase = |name: &str| cluster.admin(&["get", "ns", name, "-o", "jsonpath={.status.phase}"]);
    let ask = |name: &str| {
        let mut kubectl = cluster.kubectl("alice");
        kubectl.args(["delete", "namespace", name, "--wait=false"]);
        let child = kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        (child, cluster.demo.hold_of(&format!("/namespaces/{name}")))
    };

    let (child, hold) = ask("prod");
    let own = cluster.demo.weir("alice", &["approve", &hold]);
    assert!(!own.status.success(), "nobody approves for themselves");
    let denied = cluster.demo.weir("dana", &["deny", &hold, "--reason", "not on a Friday"]);
    assert!(denied.status.success());
    let ran = finish(child);
    assert!(ran.code == 1 && ran.err.contains("not on a Friday"), "{ran:?}");
    assert_eq!(phase("prod"), "Active");

    // A command whose client is gone never runs, whatever is said afterwards.
    let (mut child, hold) = ask("prod");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the hold's end", || {
        let waits = cluster.demo.waiting().iter().any(|waiting| waiting["hold"] == hold.as_str());
        (!waits).then_some(())
    });
    assert!(!cluster.demo.weir("dana", &["approve", &hold]).status.success());
    assert_eq!(phase("prod"), "Active");

    cluster.admin(&["create", "namespace", "doomed"]);
    let (child, hold) = ask("doomed");
    assert_eq!(phase("doomed"), "Active");
    assert!(cluster.demo.weir("dana", &["approve", &hold]).status.success());
    let ran = finish(child);
    assert!(ran.code == 0 && ran.out.contains("deleted"), "{ran:?}");
    assert_eq!(phase("doomed"), "Terminating");
    assert!(!cluster.demo.weir("dana", &["approve", &hold]).status.success(), "once is once");
    // Only that one reached the cluster.
    let deletes = |name: &str| {
        let uri = format!("/api/v1/namespaces/{name}");
        cluster
            .audit()
            .iter()
            .any(|event| event["verb"] == "delete" && event["requestURI"] == uri.as_str())
    };
    assert!(deletes("doomed") && !deletes("prod"));
}

#[test]
fn a_workload_that_could_read_secrets_waits_for_an_approval() {
    let cluster = Cluster::shared();
    let run = ["run", "reader", "-n", "prod", "--image=a/b"];
    let child =
        cluster.kubectl("alice").args(run).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let hold = cluster.demo.hold_of("/namespaces/prod/pods");
    assert!(cluster.demo.weir("dana", &["deny", &hold]).status.success());
    let ran = finish(child.unwrap());
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(!cluster.admin(&["get", "pods", "-n", "prod"]).contains("reader"));
}

#[test]
fn the_clusters_own_log_names_the_person_and_has_nothing_of_weirs() {
    let cluster = Cluster::shared();
    cluster.ok("alice", &["create", "configmap", "traced", "-n", "dev", "--from-literal=a=b"]);
    let log = cluster.audit();
    let made = |event: &&serde_json::Value| {
        event["verb"] == "create" && event["objectRef"]["name"] == "traced"
    };
    let event = log.iter().filter(made).find(|event| event["stage"] == "ResponseComplete").unwrap();
    assert_eq!(event["user"]["username"], "weir-gateway");
    assert_eq!(event["impersonatedUser"]["username"], "alice");
    let groups = event["impersonatedUser"]["groups"].to_string();
    assert!(groups.contains("weir:engineer") && !groups.contains("system:masters"), "{groups}");
    let text = cluster.audit_text();
    for person in ["alice", "dana", "mei"] {
        let signature = cluster.demo.token(person).rsplit('.').next().unwrap();
        assert!(!text.contains(signature), "{person}'s token");
    }
}

#[test]
fn whom_the_law_keeps_out_reads_why_in_kubectl() {
    let cluster = Cluster::shared();
    for args in [&["get", "pods", "-A"][..], &["get", "ns"], &["get", "--raw", SECRET]] {
        let ran = cluster.run("mei", args);
        assert!(ran.code == 1 && ran.err.contains("acme-sg (SG)"), "{args:?} {ran:?}");
        assert!(ran.out.is_empty(), "{ran:?}");
    }
    let seen = cluster.audit();
    assert!(!seen.iter().any(|event| event["impersonatedUser"]["username"] == "mei"));
    let anonymous = cluster.curl("mei", "/api/v1/pods", &["-H", "Authorization:"]);
    assert!(!anonymous.contains("web-1"), "{anonymous}");
}

#[test]
fn a_session_shows_its_commands_and_verdicts() {
    let cluster = Cluster::shared();
    cluster.ok("alice", &["get", "configmap", "app", "-n", "dev"]);
    cluster.run("alice", &["get", "--raw", "/api/v1/namespaces/dev/pods/shown-here/proxy"]);
    let shown = wait_for("the session", || {
        let all = sessions_of(cluster, "alice");
        let show = |id: &String| {
            cluster.demo.weir("dana", &["sessions", "show", id, "--purpose", "a test"])
        };
        let mut shown = all.iter().map(show);
        shown.find_map(|output| {
            let text = String::from_utf8(output.stdout).unwrap();
            text.contains("shown-here").then_some(text)
        })
    });
    assert!(shown.contains("deny") && shown.contains("alice from DE"), "{shown}");
    assert!(shown.contains("GET /api/v1/namespaces/dev/pods/shown-here/proxy"), "{shown}");
}
