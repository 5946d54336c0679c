//! The configuration as a whole: the example, and a table of mistakes.

use std::fs;
use std::path::Path;

use super::*;

const EXAMPLE: &str = include_str!("../../config/weir.toml");

/// Loads the example with the first `old` in it replaced by `new`.
fn load_with(old: &str, new: &str) -> Result<Loaded, Problems> {
    assert!(EXAMPLE.contains(old), "the example has {old:?}");
    load_text(&EXAMPLE.replacen(old, new, 1))
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.toml");
    fs::write(&path, text).unwrap();
    load(&path)
}

/// Where `wanted` first stands in `text`: line and column, from 1.
fn position(text: &str, wanted: &str) -> (usize, usize) {
    let (line, text) = text.lines().enumerate().find(|(_, line)| line.contains(wanted)).unwrap();
    (line + 1, text.split(wanted).next().unwrap().chars().count() + 1)
}

/// A mistake in the example: what is replaced by what, where the error points (a text that
/// begins there), and what it says.
type Mistake = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Mistakes of form: a value that is none of its kind.
const FORM: &[Mistake] = &[
    ("id = \"weir-eu-1\"", "id = ", "#", &["string values must be quoted", "expected"]),
    ("id = \"weir-eu-1\"", "idd = \"x\"", "idd", &["unknown field `idd`", "expected one of `id`"]),
    (
        "[audit]",
        "[[audit.events]]\nto = \"ftp://siem.example\"",
        "\"ftp://siem",
        &["is no destination", "expected \"stdout\""],
    ),
    ("[audit]", "[audits]", "audits]", &["unknown field `audits`", "expected one of `gateway`"]),
    ("id = \"weir-eu-1\"", "", "[gateway]", &["missing field `id`"]),
    ("# log = \"info\"", "log = 3 #", "3 #", &["integer `3`", "expected a string"]),
    ("\"0.0.0.0:8443\"", "\"8443\"", "\"8443\"", &["invalid socket address"]),
    ("proxy = \"required\"", "proxy = \"maybe\"", "\"maybe\"", &["`maybe`", "`required`"]),
    (
        "\"weir.example\"  ",
        "\"127.1\"",
        "\"127.1\"",
        &["`127.1` is no host name", "use DNS labels"],
    ),
    ("# connections_max = 10000 ", "connections_max = 0", "0", &["`0`", "from 1 to 1000000"]),
    ("# idle_s_max = 28800", "idle_s_max = -1", "-1", &["`-1`", "from 10 to 604800"]),
    ("# idle_s_max = 28800", "idle_s_max = \"1h\"", "\"1h\"", &["\"1h\"", "from 10 to 604800"]),
    (
        "country = \"DE\"\nnet",
        "country = \"de\"\nnet",
        "\"de\"",
        &["`de` is no country", "ISO 3166"],
    ),
    ("[\"10.1.0.0/16\",", "[\"10.1.2.0/16\",", "\"10.1.2.0/16\"", &["expected `10.1.0.0/16`"]),
    ("[\"10.1.0.0/16\",", "[\"10.1\",", "\"10.1\"", &["is no network", "expected an address"]),
    ("[\"10.1.0.0/16\",", "[\"::ffff:0:0/96\",", "\"::ffff", &["IPv4 in IPv6", "expected"]),
    ("\"10.65.0.0/16\" = \"SG\"", "\"10.65.0.1/16\" = \"SG\"", "\"10.65.0.1", &["10.65.0.0/16"]),
    (
        "# algorithms = [\"ES256\", \"RS256\"]",
        "algorithms = [\"none\"]",
        "\"none\"",
        &["`none`", "`RS256`"],
    ),
    (
        "# algorithms = [\"ES256\", \"RS256\"]",
        "algorithms = [\"HS256\"]",
        "\"HS256\"",
        &["`ES256`"],
    ),
    (
        "\"https://login.example/realms/acme\"",
        "\"http://login.example\"",
        "\"http:",
        &["this machine", "https://"],
    ),
    (
        "\"https://login.example/realms/acme\"",
        "\"login.example\"",
        "\"login.ex",
        &["expected https://"],
    ),
    (
        "valid_from = 2026-03-01",
        "valid_from = \"2026-03-01\"",
        "\"2026-03-01\"",
        &["without quotes"],
    ),
    (
        "valid_from = 2026-03-01",
        "valid_from = 2026-03-01T10:00:00Z",
        "2026-03-01T",
        &["more than a date"],
    ),
    ("document_sha256 = \"ba7816bf", "document_sha256 = \"", "\"8f01", &["64 hexadecimal"]),
    (
        "[targets.web-1]",
        "[targets.\"web.1\"]\n[targets.web-1]",
        "\"web.1\"",
        &["`web.1` is no target name", "DNS label"],
    ),
    ("\"db-1.internal:5432\"\n", "\"db-1.internal\"\n", "\"db-1.internal\"", &["<host>:<port>"]),
    ("email = \"pii.email\"\nssn", "email = \"PII\"\nssn", "\"PII\"", &["`PII` is no data class"]),
    (
        "without_basis = \"mask\"",
        "without_basis = \"no\"",
        "\"no\"",
        &["`no`", "`refuse`", "`mask`"],
    ),
    ("[targets.wiki]\n", "[targets.web-1]\n", "web-1]", &["duplicate key"]),
];

/// Mistakes of sense: values that do not fit together.
const SENSE: &[Mistake] = &[
    (
        "[audit]",
        "[[audit.events]]\nto = \"https://siem.example\"\nnetworks = [\"192.0.2.0/24\"]",
        "\"192.0.2.0/24\"",
        &["lies in no network of the gateway's region"],
    ),
    (
        "[audit]",
        "[[audit.events]]\nto = \"stdout\"\nnetworks = [\"10.1.0.0/16\"]",
        "\"10.1.0.0/16\"",
        &["only a destination by HTTP takes this"],
    ),
    (
        "region = \"eu-central\"  ",
        "region = \"eu-west\"",
        "\"eu-west\"",
        &["region `eu-west` is not declared", "expected one of: eu-central"],
    ),
    (
        "entity = \"acme-de\"  ",
        "entity = \"acme\"",
        "\"acme\"",
        &["entity `acme` is not declared", "acme-de, acme-sg"],
    ),
    (
        "\"Acme GmbH\" = \"acme-de\"",
        "\"Acme GmbH\" = \"acme-fr\"",
        "\"acme-fr\"",
        &["is not declared"],
    ),
    (
        "owner = \"acme-de\"\nclasses",
        "owner = \"acme-fr\"\nclasses",
        "\"acme-fr\"",
        &["is not declared"],
    ),
    ("\"127.0.0.1:8444\"", "\"0.0.0.0:8443\"", "\"0.0.0.0:8443\"", &["stands twice"]),
    ("proxy_from = [\"127.0.0.1/32\"]", "", "\"127.0.0.1:8444\"", &["expected `proxy_from`"]),
    ("proxy = \"required\"", "", "\"127.0.0.1/32\"", &["expected `proxy = \"required\"`"]),
    ("[\"10.1.0.0/16\",", "[\"0.0.0.0/0\",", "\"0.0.0.0/0\"", &["pins nothing"]),
    (
        "networks = [\"10.1.0.0/16\", \"2001:db8:1::/48\"]",
        "networks = []",
        "eu-central]",
        &["has no network"],
    ),
    (
        "[networks]",
        "[regions.far]\ncountry = \"SG\"\nnetworks = [\"10.1.9.0/24\"]\n[networks]",
        "\"10.1.9.0/24\"",
        &["another country"],
    ),
    (
        "[places]",
        "[places]\ndatabases = [\"a.mmdb\", \"b/a.mmdb\"]",
        "\"b/a.mmdb\"",
        &["two country databases are called `a.mmdb`"],
    ),
    ("audience = [\"weir\"]", "audience = []", "[] ", &["the list is empty", "expected"]),
    ("# algorithms = [\"ES256\", \"RS256\"]", "algorithms = []", "[] ", &["the list is empty"]),
    (
        "importer_country = \"SG\"",
        "importer_country = \"MY\"",
        "\"MY\"  ",
        &["is established in SG"],
    ),
    ("valid_to = 2027-02-28", "valid_to = 2026-02-28", "2026-02-28", &["expected 2026-03-01 or"]),
    ("review_by = 2027-02-10", "review_by = 2025-02-10", "2025-02-10", &["a day after 2026-02-10"]),
    (
        "[targets.web-1.ssh]",
        "[targets.web-1.http]\naddress = \"10.1.0.1:1\"\n[targets.web-1.ssh]",
        "web-1]",
        &["speaks 2 protocols"],
    ),
    (
        "[targets.web-1]",
        "[targets.none]\nregion = \"eu-central\"\nowner = \"acme-de\"\n[targets.web-1]",
        "none]",
        &["speaks 0 protocols"],
    ),
    (
        "\"10.1.0.21:22\"",
        "\"10.2.0.21:22\"",
        "\"10.2.0.21:22\"",
        &["lies outside region `eu-central`", "10.1.0.0/16"],
    ),
    ("\"10.1.0.21:22\"", "\"[2001:db8:2::1]:22\"", "\"[2001:db8:2", &["lies outside region"]),
    ("\"10.1.0.21:22\"", "\"localhost:22\"", "\"localhost:22\"", &["lies outside region"]),
    (
        "# mode = \"verify-full\" ",
        "mode = \"off\" #",
        "\"off\" #",
        &["is another machine", "`mode = \"verify-full\"`"],
    ),
    ("logins = [\"deploy\", \"app-*\"]", "logins = []", "[]  ", &["the list is empty"]),
    ("path = \"/static/**\"", "path = \"/api/people\"", "\"/api/people\"  ", &["stands twice"]),
];

#[test]
fn the_example_loads_and_its_report_lists_every_address() {
    let loaded = load_text(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    let dials: Vec<_> = loaded.report().dials.into_iter().map(|dial| dial.address).collect();
    assert!(dials[0].contains("/etc/weir/cluster.kubeconfig"), "{dials:?}");
    let rest = ["db-1.internal:5432", "10.1.0.21:22", "wiki.internal:443", "login.example:443"];
    assert_eq!(dials[1..], rest);
}

#[test]
fn check_reads_the_example_where_it_stands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/weir.toml");
    let report = check(&path).unwrap_or_else(|problems| panic!("{problems}"));
    let text = report.to_string();
    assert!(text.contains("target customers (postgres, region eu-central): db-1.internal:5432"));
}

fn is_setting(text: &str) -> bool {
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.split_once(" = ").is_some_and(|(name, _)| is_name(name))
}

#[test]
fn what_the_example_shows_as_a_default_is_the_default() {
    let shown: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) && !setting.contains("example") => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    // What holds "…" stands for something else.
    let shown = shown.replace("tls = { ca_file = \"…\", server_name = \"…\" }", "");
    let written = load_text(&shown).unwrap_or_else(|problems| panic!("{problems}")).file;
    let left_out = load_text(EXAMPLE).unwrap().file;
    assert_eq!(format!("{:?}", written.limits), format!("{:?}", left_out.limits));
    assert_eq!(format!("{:?}", written.audit), format!("{:?}", left_out.audit));
    assert_eq!(format!("{:?}", written.holds), format!("{:?}", left_out.holds));
    assert_eq!(format!("{:?}", written.login), format!("{:?}", left_out.login));
    let settings = |line: &&str| line.contains("_max = ") && !line.contains("example");
    assert_eq!(EXAMPLE.lines().filter(settings).count(), 15, "none was left out of the example");
    let (written, left_out) = (&written.providers[0], &left_out.providers[0]);
    assert_eq!(written.algorithms, left_out.algorithms);
    assert_eq!(format!("{:?}", written.claims), format!("{:?}", left_out.claims));
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_was_expected() {
    for (old, new, place, words) in FORM.iter().chain(SENSE) {
        let text = EXAMPLE.replacen(old, new, 1);
        let problems = load_with(old, new).expect_err(new);
        let told = problems.to_string();
        for word in *words {
            assert!(told.contains(word), "{new}: {word:?} in\n{told}");
        }
        let pointed = problems.all().iter().any(|problem| {
            let (line, column) = problem.position().expect("a place");
            let rest: String = text
                .lines()
                .nth(line - 1)
                .unwrap()
                .chars()
                .skip(column - 1)
                .chain(['\n'])
                .collect();
            rest.starts_with(place)
        });
        assert!(pointed, "{new}: points at {place:?}:\n{told}");
        assert!(!told.contains("TOML parse error"), "one style: {told}");
    }
}

#[test]
fn an_error_looks_as_the_toml_crates() {
    let problems = load_with("region = \"eu-central\"  ", "region = \"eu-west\"").unwrap_err();
    let (line, _) = position(EXAMPLE, "region = \"eu-central\"  ");
    let expected = format!(
        "weir.toml:{line}:10: region `eu-west` is not declared; expected one of: eu-central\n   |\n\
         {line} | region = \"eu-west\" …\n   |          ^^^^^^^^^"
    );
    assert!(problems.to_string().ends_with(&expected), "{problems}\n{expected}");
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = EXAMPLE.replace("acme-sg\"", "acme-xx\"").replacen("acme-de", "acme-yy", 1);
    let problems = load_text(&text).unwrap_err();
    let places: Vec<_> = problems.all().iter().map(Problem::position).collect();
    assert_eq!(places.len(), 3, "{problems}");
    assert!(places.is_sorted());
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml: cannot read it"), "{missing}");
    assert!(load(folder.path()).is_err(), "a folder");
    let path = folder.path().join("weir.toml");
    fs::write(&path, b"id = \"\xff\"").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("not UTF-8"));
    fs::write(&path, vec![b'#'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("too large"));
}

#[test]
fn a_secret_that_was_written_into_the_file_is_not_repeated() {
    let reference = "{ file = \"/etc/weir/customers.password\" }";
    let wrong = [
        "\"planted\"",
        "{ value = \"planted\" }",
        "{ file = \"a\", env = \"planted\" }",
        "{ env = \"planted secret\" }",
        "{ env = [\"planted\"] }",
        "[\"planted\"]",
        "\"planted",
        "\"planted\" \"planted\"",
    ];
    for wrong in wrong {
        let told = load_with(reference, wrong).unwrap_err();
        assert!(!format!("{told} {told:?}").contains("planted"), "{wrong}: {told}");
    }
    let told = load_with(reference, "{ env = 271828 }").unwrap_err();
    assert!(!format!("{told} {told:?}").contains("271828"), "{told}");
    for line in ["password = \"planted\"", "api_key = \"planted\"", "pass = \"planted"] {
        let line = format!("login = \"weir\"\n{line}");
        let told = load_with("login = \"weir\"", &line).unwrap_err();
        assert!(!format!("{told} {told:?}").contains("planted"), "{line}: {told}");
    }
    for url in
        ["\"postgres://u:planted@h/d\"", "\"postgres://u:planted@h/d", "postgres://u:planted@h/d"]
    {
        let told = load_with("# database = {", &format!("database = {url} # {{")).unwrap_err();
        assert!(!format!("{told} {told:?}").contains("planted"), "{url}: {told}");
    }
    let user = "\"https://alice:planted@login.example\"";
    let told = load_with("\"https://login.example/realms/acme\"", user).unwrap_err();
    assert!(!format!("{told} {told:?}").contains("planted"), "{told}");
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.toml");
    let text = EXAMPLE.replace("/etc/weir/customers.password", "customers.password");
    fs::write(&path, text.replace("/etc/weir/tls.crt", "tls.crt")).unwrap();
    fs::write(folder.path().join("tls.crt"), "PEM").unwrap();
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.read(&loaded.file.tls.certificate_file).unwrap(), b"PEM");
    assert_eq!(loaded.file.tls.key_file.get_ref(), Path::new("/etc/weir/tls.key"));
    let told = loaded.read(&loaded.file.tls.key_file).unwrap_err().to_string();
    assert!(told.contains("weir.toml:") && told.contains("tls.key"), "{told}");
    let customers = loaded.file.targets.iter().find(|(name, _)| name.to_string() == "customers");
    let credential = &customers.unwrap().1.postgres.as_ref().unwrap().credential;
    let expected = SecretRef::File(folder.path().join("customers.password"));
    assert_eq!(*credential.get_ref(), expected);
}

#[test]
fn another_modules_word_keeps_its_place_in_the_error() {
    let loaded = load_text(EXAMPLE).unwrap();
    let wiki = loaded.file.targets.values().find_map(|target| target.http.as_ref()).unwrap();
    let path = &wiki.routes[0].path;
    assert_eq!(loaded.source.parse::<String>(path).unwrap(), "/api/people");
    let told = loaded.source.parse::<u16>(path).unwrap_err();
    assert_eq!(told.position(), Some(position(EXAMPLE, "\"/api/people\"")));
}

#[test]
fn what_is_allowed_and_worth_a_second_look_is_warned_of() {
    let cases = [
        ("# observe = false", "observe = true", "only observes"),
        ("# unlisted = \"refuse\"", "unlisted = \"clear\"", "that no route names pass unmasked"),
        ("# undeclared = \"refuse\"", "undeclared = \"clear\"", "no field of this route names"),
        ("classes = [\"pii\"] ", "#", "target `web-1` declares no data class"),
        ("entity = \"company\"", "", "its people have no entity"),
        (
            "[networks]",
            "[regions.x]\ncountry = \"FR\"\nnetworks = [\"10.9.0.0/16\"]\n[networks]",
            "nothing stands in region `x`",
        ),
        (
            "[entities.acme-sg]",
            "[entities.x]\ncountry = \"FR\"\nrole = \"controller\"\n[entities.acme-sg]",
            "nothing refers to entity `x`",
        ),
        ("/etc/weir/tls.crt", "/nowhere/tls.crt", "cannot read /nowhere/tls.crt"),
    ];
    let before = load_text(EXAMPLE).unwrap().report().to_string();
    for (old, new, words) in cases {
        let told = load_with(old, new).unwrap_or_else(|told| panic!("{told}")).report().to_string();
        assert!(told.contains(words), "{words}: {told}");
        assert!(!before.contains(words), "{words}: {before}");
    }
}
