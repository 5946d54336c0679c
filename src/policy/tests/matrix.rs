//! Who may do what where, as one table to read: `tests/golden/policy/matrix.txt`.

use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::policy::reveal;

const GOLDEN: &str = "tests/golden/policy/matrix.txt";

fn commands() -> Vec<(&'static str, Command)> {
    use Effect::Define;
    use Effect::Delete;
    use Effect::Destroy;
    use Effect::Execute;
    use Effect::Export;
    use Effect::Grant;
    use Effect::Opaque;
    use Effect::Read;
    use Effect::Server;
    use Effect::Transaction;
    use Effect::Write;
    let table = |name| Some(("table", name));
    let people = Some(("path", "/api/people"));
    let mut get = command("GET", "GET /api/people", &[Read], people);
    get.reads = classes(&["pii.email", "pii.phone"]);
    let mut secret = command("get", "get secret x", &[Read], Some(("secrets", "prod/x")));
    secret.reads = classes(&["cred.secret"]);
    let delete = command(
        "query",
        "DELETE FROM customers WHERE id = 1",
        &[Delete],
        table("public.customers"),
    );
    let workload = Some(("deployments.apps", "prod/web"));
    let namespace = Some(("namespaces", "prod"));
    let unit = Some(("unit", "nginx"));
    vec![
        ("customers", command("query", "BEGIN", &[Transaction], None)),
        ("customers", select()),
        ("customers", command("query", "SELECT * FROM notes", &[Read], table("public.notes"))),
        ("customers", command("query", "INSERT INTO notes …", &[Write], table("public.notes"))),
        ("customers", update()),
        ("customers", delete),
        ("customers", delete_all()),
        ("customers", command("query", "CREATE TABLE t …", &[Define], table("public.t"))),
        ("customers", command("query", "GRANT … TO …", &[Grant], table("public.t"))),
        ("customers", command("query", "SELECT f()", &[Read, Execute], None)),
        ("customers", command("query", "DO $$…$$", &[Execute, Opaque], None)),
        ("customers", command("query", "SELECT pg_read_file(…)", &[Execute, Export], None)),
        ("web-1", command("shell", "(shell)", &[Execute, Opaque], None)),
        ("web-1", command("exec", "uname -a", &[Execute, Opaque], Some(("program", "uname")))),
        ("web-1", command("exec", "systemctl restart nginx", &[Execute, Server], unit)),
        ("web-1", command("exec", "rm -rf /srv", &[Execute, Destroy], Some(("path", "/srv")))),
        ("wiki", get),
        ("wiki", command("POST", "POST /api/people", &[Write], people)),
        ("wiki", command("DELETE", "DELETE /api/people/1", &[Delete], people)),
        ("prod-cluster", command("list", "get pods -A", &[Read], Some(("pods", "")))),
        ("prod-cluster", command("patch", "apply map", &[Write], Some(("configmaps", "prod/app")))),
        ("prod-cluster", command("patch", "apply workload", &[Write, Execute], workload)),
        ("prod-cluster", secret),
        ("prod-cluster", command("delete", "delete pod", &[Delete], Some(("pods", "prod/web")))),
        ("prod-cluster", command("delete", "delete ns prod", &[Delete, Destroy], namespace)),
        ("prod-cluster", command("create", "create crd", &[Define], Some(("crds", "x")))),
    ]
}

fn sign(
    snapshot: &Arc<Snapshot>,
    who: &Principal,
    origin: &Origin,
    (target, command): &(&str, Command),
) -> char {
    let protocol = snapshot.target(&name(target)).unwrap().protocol;
    let Ok(permit) = ask(snapshot, who, origin, target, protocol) else { return '-' };
    let masks = reveal(&permit, snapshot, &command.reads, now());
    match decide(&permit, snapshot, command, None, now()) {
        Verdict::Allow { .. } if masks.hides_any(&command.reads) => '~',
        Verdict::Allow { .. } => '✔',
        Verdict::Hold { .. } => '?',
        Verdict::Deny(_) => '✘',
    }
}

fn matrix() -> String {
    let snapshot = demo();
    let admin = person("ada", &["admin"], Some("acme-de"));
    let stranger = person("eve", &[], Some("acme-de"));
    let people = [
        ("alice", alice(), "DE"),
        ("alice/SG", alice(), "SG"),
        ("alice/??", alice(), ""),
        ("dana", dana(), "DE"),
        ("olaf", olaf(), "DE"),
        ("mei/SG", mei(), "SG"),
        ("ada", admin, "DE"),
        ("eve", stranger, "DE"),
    ];
    let mut text = String::from(
        "Who may do what, by config/policies and the law in the binary.\n\
         ✔ allowed   ~ allowed, some of it masked   ? held   ✘ denied   - not admitted\n\
         /SG: from Singapore; /??: from an unknown country; all others from Germany.\n\
         alice: engineer; dana: engineer, dba, approver; olaf: dpo; mei: engineer of acme-sg;\n\
         ada: admin; eve: no role.\n\n",
    );
    write!(text, "{:13} {:58}", "target", "command").unwrap();
    for (who, ..) in &people {
        write!(text, " {who:^8}").unwrap();
    }
    text.push('\n');
    for line in commands() {
        let (target, command) = &line;
        write!(text, "{target:13} {:58}", command.text).unwrap();
        for (_, who, country) in &people {
            write!(text, " {:^8}", sign(&snapshot, who, &from(country), &line)).unwrap();
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE_GOLDEN=1 rewrites golden files")]
fn the_matrix_is_as_reviewed() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    let matrix = matrix();
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|update| update == "1") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &matrix).unwrap();
    }
    let reviewed = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(matrix, reviewed, "UPDATE_GOLDEN=1 rewrites {GOLDEN}; then read the difference");
}
