//! A request as a [`Command`]: what it does, to which objects, and why some are not carried.
//!
//! Pure: the request's head and body and what was declared of the target go in. Decides nothing:
//! policy does.

use std::collections::BTreeSet;

use crate::model::Command;
use crate::model::Effect;
use crate::model::Object;
use crate::model::digest::Digest;
use crate::protocol::kubernetes::body::Body;
use crate::protocol::kubernetes::body::Media;
use crate::protocol::kubernetes::mask::Classified;
use crate::protocol::kubernetes::query::Query;
use crate::protocol::kubernetes::request::Asked;
use crate::protocol::kubernetes::request::Request;
use crate::protocol::kubernetes::request::Verb;

/// Longest value that a detail takes over from a request, in bytes.
const DETAIL_BYTES_MAX: usize = 256;

/// Subresources that open a way past the gateway or hand out credentials. Everywhere they occur.
const REFUSED: [(&str, &str); 7] = [
    ("exec", "running a command in a pod is not carried by this gateway yet"),
    ("attach", "attaching to a pod is not carried by this gateway yet"),
    ("portforward", "forwarding a pod's port is not carried by this gateway yet"),
    (
        "proxy",
        "the API server's proxy to nodes, pods and services is not carried: it leads past \
               this gateway",
    ),
    ("ephemeralcontainers", "debug containers are not carried: what happens in them is not seen"),
    (
        "token",
        "tokens of service accounts are not handed out through this gateway: they would \
               work without it",
    ),
    ("approval", "certificates are not approved through this gateway: they would work without it"),
];

/// Kinds whose objects run code that their author chose.
const WORKLOADS: [&str; 9] = [
    "pods",
    "replicationcontrollers",
    "podtemplates",
    "deployments.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "jobs.batch",
    "cronjobs.batch",
];

/// Groups whose objects change what the API is, or look into other objects (CEL reads Secrets).
const DEFINING: [&str; 3] =
    ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"];

/// Groups whose "creates" store nothing: they are questions.
const ASKING: [&str; 2] = ["authorization.k8s.io", "authentication.k8s.io"];

/// A request as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The request line without its version: `GET /api/v1/pods?limit=500`.
    pub line: &'a str,
    /// The query, read.
    pub query: &'a Query,
    /// The body's media type, as the header says.
    pub content_type: Option<&'a str>,
    /// The body; empty where there is none.
    pub body: &'a [u8],
}

/// What a request asks, as a command. `classified` is what was declared of its kind.
pub fn command(request: &Request, classified: Option<&Classified>, said: &Said<'_>) -> Command {
    match request {
        Request::Path { method, path } => of_path(method, path, said),
        Request::Resource(asked) => of_resource(asked, classified, said),
    }
}

/// Discovery, health and version; of another path it cannot be told what it does.
fn of_path(method: &str, path: &str, said: &Said<'_>) -> Command {
    let mut command = Command::new(method.to_ascii_lowercase(), said.line);
    let below = |prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let known = ["/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"];
    let public = ["/", "/.well-known/openid-configuration", "/openid/v1/jwks"];
    let reads = matches!(method, "GET" | "HEAD")
        && (known.into_iter().any(below) || public.contains(&path));
    let effect = if reads { Effect::Read } else { Effect::Opaque };
    command.effects.insert(effect);
    command.objects.push(Object::new("path", path, effect));
    if !said.body.is_empty() {
        command.unsupported = Some("a request for this path has no body".to_owned());
    }
    command
}

fn of_resource(asked: &Asked, classified: Option<&Classified>, said: &Said<'_>) -> Command {
    let body = (!said.body.is_empty()).then(|| Body::read(said.content_type, said.body));
    let body = body.as_ref();
    let mut command = Command::new(asked.verb.as_str(), said.line);
    command.effects = effects(asked);
    let main = main_effect(&command.effects);
    let objects = std::iter::once(Object::new(asked.kind(), object_name(asked, body), main));
    command.objects.extend(objects);
    if let Some(classified) = classified {
        // Every answer of every verb can carry the object.
        command.reads = classified.classes().cloned().collect();
        if writes(asked.verb) {
            command.writes.clone_from(&command.reads);
        }
    }
    command.details = details(said);
    command.facts = facts(asked, body, said.query);
    let oracle = classified.is_some() && said.query.selects_fields();
    let why = unsupported(asked, classified.is_some(), body);
    let why = why.or(oracle.then_some(
        "objects of a kind with classified fields are selected by name, namespace and type only: \
         another field selector would tell what the fields hold",
    ));
    command.unsupported = why.map(str::to_owned);
    command
}

/// What it does.
fn effects(asked: &Asked) -> BTreeSet<Effect> {
    let kind = asked.kind();
    let group = asked.group.as_str();
    let own = match asked.verb {
        Verb::Get | Verb::List | Verb::Watch => return BTreeSet::from([Effect::Read]),
        Verb::Create if ASKING.contains(&group) => return BTreeSet::from([Effect::Read]),
        Verb::Proxy | Verb::None => return BTreeSet::from([Effect::Opaque]),
        Verb::Delete => Effect::Delete,
        Verb::DeleteCollection => Effect::Destroy,
        // An eviction is a DELETE that asks first.
        Verb::Create if asked.subresource == "eviction" => Effect::Delete,
        Verb::Create | Verb::Update | Verb::Patch => Effect::Write,
    };
    let mut effects = BTreeSet::from([own]);
    match asked.subresource.as_str() {
        "" | "status" | "scale" | "eviction" | "binding" | "resize" => {}
        "finalize" => drop(effects.insert(Effect::Destroy)),
        // An action that some extension gave a name to.
        _ => drop(effects.insert(Effect::Opaque)),
    }
    if own == Effect::Destroy {
        effects.insert(Effect::Delete);
    }
    // Its objects go with it.
    let holds_others = ["namespaces", "customresourcedefinitions.apiextensions.k8s.io"];
    if own == Effect::Delete && holds_others.contains(&kind.as_str()) {
        effects.insert(Effect::Destroy);
    }
    if own == Effect::Write && asked.subresource.is_empty() && WORKLOADS.contains(&kind.as_str()) {
        effects.insert(Effect::Execute);
    }
    if DEFINING.contains(&group) {
        effects.insert(Effect::Define);
    }
    if group == "rbac.authorization.k8s.io" {
        effects.insert(Effect::Grant);
    }
    effects
}

/// The one effect that is told of the object: the gravest.
fn main_effect(effects: &BTreeSet<Effect>) -> Effect {
    let gravest = [Effect::Opaque, Effect::Destroy, Effect::Delete, Effect::Write];
    gravest.into_iter().find(|effect| effects.contains(effect)).unwrap_or(Effect::Read)
}

/// `prod/db-password`; `prod/*` and `*` for many; the bare name of what lies in no namespace.
fn object_name(asked: &Asked, body: Option<&Body>) -> String {
    let created = || body.filter(|_| asked.verb == Verb::Create).and_then(|body| body.name.clone());
    let own = Some(asked.name.clone()).filter(|name| !name.is_empty());
    let name = own.or_else(created).unwrap_or_else(|| "*".to_owned());
    let is_namespace = asked.resource == "namespaces" && asked.group.is_empty();
    if asked.namespace.is_empty() || is_namespace {
        name
    } else {
        format!("{}/{name}", asked.namespace)
    }
}

/// What else belongs to the exact thing asked.
fn details(said: &Said<'_>) -> Vec<(String, String)> {
    let mut details = Vec::new();
    if let Some(kind) = said.content_type {
        let kind = kind.chars().take(DETAIL_BYTES_MAX).collect::<String>();
        details.push(("content-type".to_owned(), kind));
    }
    if !said.body.is_empty() {
        details.push(("body-sha256".to_owned(), Digest::of(said.body).to_string()));
    }
    details
}

fn facts(asked: &Asked, body: Option<&Body>, query: &Query) -> Vec<(String, String)> {
    let dry = query.is_dry_run() || body.is_some_and(Body::is_dry_run);
    let namespace = if asked.namespace.is_empty() { "*" } else { &asked.namespace };
    let known = [
        ("namespace", namespace),
        ("version", &asked.version),
        ("subresource", &asked.subresource),
        ("dry-run", if dry { "yes" } else { "" }),
        ("field-manager", query.first("fieldManager").unwrap_or_default()),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Why it is not carried, whatever policy says.
fn unsupported(asked: &Asked, classified: bool, body: Option<&Body>) -> Option<&'static str> {
    if asked.verb == Verb::None {
        return Some("the Kubernetes API does not know this method");
    }
    if asked.verb == Verb::Proxy {
        return Some("the API server's proxy is not carried: it leads past this gateway");
    }
    if asked.verb == Verb::Watch && !matches!(asked.method.as_str(), "GET" | "HEAD") {
        return Some("a watch is asked for with GET");
    }
    let signing = asked.group == "certificates.k8s.io" && asked.subresource == "status";
    if signing {
        return Some("certificates are not signed through this gateway");
    }
    let refused = REFUSED.iter().find(|(name, _)| *name == asked.subresource);
    if let Some((_, why)) = refused {
        return Some(why);
    }
    if asked.rest {
        return Some("the path goes on behind what the Kubernetes API defines");
    }
    let body = body?;
    if matches!(asked.verb, Verb::Get | Verb::List | Verb::Watch) {
        return Some("a request that reads has no body");
    }
    if body.masked {
        return Some(
            "what you send contains a mask of this gateway (`<masked:…>`, perhaps in base 64): \
             stored, it would replace the value that is hidden from you; send only the fields \
             that you change",
        );
    }
    if !classified || !writes(asked.verb) {
        return None;
    }
    match body.media {
        Media::Json => None,
        Media::Protobuf if asked.verb != Verb::Patch => None,
        Media::JsonPatch => Some(
            "a JSON Patch on a kind with classified fields can copy and compare what it may not \
             show; send a merge patch (`kubectl patch --type=merge`)",
        ),
        Media::Protobuf | Media::Other => Some(
            "objects of a kind with classified fields are sent as JSON, which this gateway reads",
        ),
    }
}

fn writes(verb: Verb) -> bool {
    match verb {
        Verb::Create | Verb::Update | Verb::Patch => true,
        Verb::Get
        | Verb::List
        | Verb::Watch
        | Verb::Delete
        | Verb::DeleteCollection
        | Verb::Proxy
        | Verb::None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use crate::model::Declared;
    use crate::protocol::kubernetes::request;
    use crate::target::KubernetesTarget;

    use super::*;

    fn target() -> KubernetesTarget {
        let class = Declared::Class("cred.secret".parse().unwrap());
        let fields = vec![("$.data.*".parse().unwrap(), class)];
        KubernetesTarget {
            kubeconfig: "cluster.kubeconfig".into(),
            context: None,
            kinds: BTreeMap::from([("secrets".parse().unwrap(), fields)]),
        }
    }

    fn read(method: &str, text: &str, kind: &str, body: &str) -> Command {
        let (path, raw) = text.split_once('?').map_or((text, None), |(p, q)| (p, Some(q)));
        let query = Query::read(raw).unwrap();
        let request = request::read(method, path, &query).unwrap();
        let line = format!("{method} {text}");
        let content_type = (!kind.is_empty()).then_some(kind);
        let said = Said { line: &line, query: &query, content_type, body: body.as_bytes() };
        let classified = match &request {
            Request::Resource(asked) => Classified::of(asked, &target()),
            Request::Path { .. } => None,
        };
        command(&request, classified.as_ref(), &said)
    }

    /// `effects kind:name`
    fn line(method: &str, text: &str, body: &str) -> String {
        let command = read(method, text, "", body);
        let effects = command.effects.iter().map(|e| e.as_str()).collect::<Vec<_>>().join("+");
        let objects = command.objects.iter().map(|o| format!("{}:{}", o.kind, o.name));
        format!("{effects} {}", objects.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_command_says_what_it_does_to_what() {
        let create = r#"{"metadata":{"name":"x"}}"#;
        let table = [
            ("GET", "/api/v1/namespaces/prod/secrets/db", "", "read secrets:prod/db"),
            ("GET", "/api/v1/namespaces/prod/secrets", "", "read secrets:prod/*"),
            ("GET", "/api/v1/secrets?watch=", "", "read secrets:*"),
            ("GET", "/api/v1/namespaces/prod/pods/p/log", "", "read pods:prod/p"),
            ("POST", "/api/v1/namespaces/prod/secrets", create, "write secrets:prod/x"),
            ("POST", "/api/v1/namespaces/prod/secrets", "{}", "write secrets:prod/*"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/b",
                "{}",
                "write+execute deployments.apps:a/b",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "{}",
                "write deployments.apps:a/b",
            ),
            ("POST", "/api/v1/namespaces/prod/pods", create, "write+execute pods:prod/x"),
            ("POST", "/api/v1/namespaces/prod/pods/x/eviction", "{}", "delete pods:prod/x"),
            ("DELETE", "/api/v1/namespaces/prod/secrets/db", "", "delete secrets:prod/db"),
            ("DELETE", "/api/v1/namespaces/prod/pods", "", "delete+destroy pods:prod/*"),
            ("DELETE", "/api/v1/namespaces/prod", "", "delete+destroy namespaces:prod"),
            ("DELETE", "/api/v1/namespaces", "", "delete+destroy namespaces:*"),
            ("PUT", "/api/v1/namespaces/prod/finalize", "{}", "write+destroy namespaces:prod"),
            ("POST", "/api/v1/namespaces", create, "write namespaces:x"),
            (
                "POST",
                "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                create,
                "write+grant clusterrolebindings.rbac.authorization.k8s.io:x",
            ),
            (
                "DELETE",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/x",
                "",
                "delete+grant clusterroles.rbac.authorization.k8s.io:x",
            ),
            (
                "POST",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                create,
                "write+define customresourcedefinitions.apiextensions.k8s.io:x",
            ),
            (
                "DELETE",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x",
                "",
                "delete+define+destroy customresourcedefinitions.apiextensions.k8s.io:x",
            ),
            (
                "PATCH",
                "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/x",
                "{}",
                "write+define validatingadmissionpolicies.admissionregistration.k8s.io:x",
            ),
            (
                "POST",
                "/apis/apiregistration.k8s.io/v1/apiservices",
                create,
                "write+define apiservices.apiregistration.k8s.io:x",
            ),
            (
                "POST",
                "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                "{}",
                "read selfsubjectreviews.authentication.k8s.io:*",
            ),
            (
                "PUT",
                "/apis/x.example/v1/namespaces/a/machines/b/start",
                "{}",
                "write+opaque machines.x.example:a/b",
            ),
            ("GET", "/version", "", "read path:/version"),
            ("GET", "/apis/apps/v1", "", "read path:/apis/apps/v1"),
            ("GET", "/openapi/v3/api/v1", "", "read path:/openapi/v3/api/v1"),
            ("GET", "/", "", "read path:/"),
            ("GET", "/metrics", "", "opaque path:/metrics"),
            ("GET", "/logs/kube-apiserver.log", "", "opaque path:/logs/kube-apiserver.log"),
            ("GET", "/debug/pprof", "", "opaque path:/debug/pprof"),
            ("POST", "/version", "", "opaque path:/version"),
            ("GET", "/apisx/a", "", "opaque path:/apisx/a"),
        ];
        for (method, text, body, expected) in table {
            assert_eq!(line(method, text, body), expected, "{method} {text}");
        }
    }

    #[test]
    fn every_verb_on_a_classified_kind_reads_its_classes_and_writes_carry_them() {
        for (method, text, body, writes) in [
            ("GET", "/api/v1/namespaces/prod/secrets/db", "", 0),
            ("GET", "/api/v1/secrets?watch=1", "", 0),
            ("HEAD", "/api/v1/namespaces/prod/secrets/db", "", 0),
            ("PATCH", "/api/v1/namespaces/prod/secrets/db?dryRun=All", "{}", 1),
            ("POST", "/api/v1/namespaces/prod/secrets", "{}", 1),
            ("PUT", "/api/v1/namespaces/prod/secrets/db", "{}", 1),
            ("DELETE", "/api/v1/namespaces/prod/secrets/db", "{}", 0),
            ("DELETE", "/api/v1/namespaces/prod/secrets?dryRun=All", "", 0),
        ] {
            let command = read(method, text, "", body);
            assert_eq!((command.reads.len(), command.writes.len()), (1, writes), "{method} {text}");
            assert_eq!(command.unsupported, None);
        }
        assert!(read("GET", "/api/v1/pods", "", "").reads.is_empty());
        assert!(read("GET", "/apis/x.example/v1/secrets", "", "").reads.is_empty());
    }

    #[test]
    fn ways_past_the_gateway_are_not_carried() {
        for (method, text) in [
            ("POST", "/api/v1/namespaces/a/pods/b/exec?command=id"),
            ("GET", "/api/v1/namespaces/a/pods/b/exec?command=id"),
            ("POST", "/api/v1/namespaces/a/pods/b/attach"),
            ("POST", "/api/v1/namespaces/a/pods/b/portforward"),
            ("GET", "/api/v1/namespaces/a/pods/b/proxy/x"),
            ("GET", "/api/v1/namespaces/a/services/b/proxy"),
            ("GET", "/api/v1/nodes/n/proxy/run/x"),
            ("HEAD", "/api/v1/nodes/n/proxy"),
            ("GET", "/api/v1/proxy/nodes/n"),
            ("GET", "/api/v1/proxy/namespaces/a/pods/b"),
            ("POST", "/api/v1/namespaces/a/serviceaccounts/b/token"),
            ("PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/x/approval"),
            ("PATCH", "/apis/certificates.k8s.io/v1/certificatesigningrequests/x/status"),
            ("PATCH", "/api/v1/namespaces/a/pods/b/ephemeralcontainers"),
            ("DELETE", "/api/v1/watch/namespaces/a/secrets/b"),
            ("POST", "/api/v1/watch/secrets"),
            ("OPTIONS", "/api/v1/pods"),
            ("CONNECT", "/api/v1/pods"),
            ("FOO", "/api/v1/pods"),
            ("GET", "/api/v1/namespaces/a/pods/b/log/c"),
        ] {
            assert!(read(method, text, "", "").unsupported.is_some(), "{method} {text}");
        }
        assert!(read("GET", "/api/v1/pods", "", "{}").unsupported.is_some());
        assert!(read("GET", "/version", "", "{}").unsupported.is_some());
    }

    #[test]
    fn a_mask_is_never_written_back_to_any_kind() {
        let mask = r#"{"data":{"a":"PG1hc2tlZDpjcmVkLnNlY3JldD4="}}"#;
        for (method, text) in [
            ("PUT", "/api/v1/namespaces/prod/secrets/db"),
            ("POST", "/api/v1/namespaces/prod/secrets"),
            ("PATCH", "/api/v1/namespaces/prod/secrets/db"),
            ("POST", "/api/v1/namespaces/prod/configmaps"),
            ("POST", "/api/v1/namespaces/prod/pods?dryRun=All"),
        ] {
            let why = read(method, text, "application/json", mask).unsupported.unwrap();
            assert!(why.contains("mask"), "{why}");
        }
        let yaml = "data: {a: \"<masked:cred.secret>\"}";
        let sent = read("POST", "/api/v1/namespaces/prod/configmaps", "application/yaml", yaml);
        assert!(sent.unsupported.is_some());
    }

    #[test]
    fn what_a_classified_kind_is_sent_must_be_read_and_must_not_read() {
        let path = "/api/v1/namespaces/prod/secrets/db";
        let copy = r#"[{"op":"copy","from":"/data/password","path":"/metadata/labels/x"}]"#;
        for (kind, body) in [
            ("application/json-patch+json", copy),
            ("application/json-patch+json", "[]"),
            ("application/apply-patch+yaml", "kind: Secret"),
            ("application/vnd.kubernetes.protobuf", "k8s\0"),
            ("application/cbor", "\u{d9}"),
            ("application/json", r#"{"data":{},"data":{}}"#),
        ] {
            assert!(read("PATCH", path, kind, body).unsupported.is_some(), "{kind} {body}");
            let other = read("PATCH", "/api/v1/namespaces/prod/configmaps/a", kind, body);
            assert_eq!(other.unsupported, None, "{kind} {body}");
        }
        let binary = "k8s\0\u{12}\u{9}\n\u{3}\n\u{1}x\u{12}\u{2}\n\0";
        let kind = "application/vnd.kubernetes.protobuf";
        let create = read("POST", "/api/v1/namespaces/prod/secrets", kind, binary);
        assert_eq!((create.unsupported, create.objects[0].name.as_str()), (None, "prod/x"));
        let masked = format!("{binary}\"\u{14}<masked:cred.secret>");
        let create = read("POST", "/api/v1/namespaces/prod/secrets", kind, &masked);
        assert!(create.unsupported.is_some_and(|why| why.contains("mask")));
        let apply = read("PATCH", path, "application/apply-patch+yaml", r#"{"kind":"Secret"}"#);
        assert_eq!(apply.unsupported, None, "kubectl writes its YAML as JSON");
    }

    #[test]
    fn a_selector_does_not_ask_what_a_classified_field_holds() {
        let selected = |text: &str| read("GET", text, "", "").unsupported.is_some();
        assert!(selected("/api/v1/secrets?fieldSelector=data.password%3Dx"));
        assert!(selected("/api/v1/secrets?fieldSelector=type=Opaque,spec.ssn!%3D7&watch=1"));
        assert!(selected("/api/v1/secrets?fieldSelector=a%5C,metadata.name=x"));
        assert!(!selected("/api/v1/secrets?fieldSelector=metadata.name%3Dx,type!=Opaque"));
        assert!(!selected("/api/v1/secrets?fieldSelector="));
        assert!(!selected("/api/v1/pods?fieldSelector=spec.nodeName%3Dn"));
    }

    #[test]
    fn an_approval_is_for_the_body_too() {
        let path = "/api/v1/namespaces/prod/configmaps/a";
        let one = read("PUT", path, "application/json", r#"{"data":{"a":"1"}}"#);
        let other = read("PUT", path, "application/json", r#"{"data":{"a":"2"}}"#);
        assert_ne!(one.details, other.details);
        assert_eq!(one.text, format!("PUT {path}"));
    }

    proptest! {
        #[test]
        fn nothing_panics(
            method in "GET|POST|PUT|PATCH|DELETE|X",
            path in "/(api|apis)(/(v1|apps|secrets|watch|proxy|namespaces|pods|a|exec)){0,8}",
            kind in "(application/(json|yaml|json-patch\\+json))?",
            body in ".*",
        ) {
            let query = Query::default();
            if request::read(&method, &path, &query).is_ok() {
                let command = read(&method, &path, &kind, &body);
                prop_assert!(!command.effects.is_empty() && !command.objects.is_empty());
            }
        }
    }
}
