//! What a request asks of the Kubernetes API, by the API server's own rules
//! (`k8s.io/apiserver/pkg/endpoints/request`, `NewRequestInfo`, seen in 1.36).
//!
//! The server decides on the *decoded* path. So does this reader, once; a path that could be
//! written more plainly, or that means something else to the next reader, is refused. What is
//! forwarded is what was read, byte for byte. Knows no target, no policy and no body.

use crate::protocol::kubernetes::query::Query;

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// A request that cannot be read in exactly one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// The path does not begin with `/`, or is too long.
    #[error("the path must begin with `/` and have at most {PATH_BYTES_MAX} bytes")]
    Shape,
    /// `//`, `/./`, `/../` or a `/` at the end.
    #[error("the path has empty or dot segments, or ends with `/`")]
    Segments,
    /// An escape that is none, or that hides a plain sign, a `/`, a `%`, a `\` or a `;`.
    #[error("the path has escapes that can be read in more than one way")]
    Escapes,
    /// A sign that does not stand in a path.
    #[error("the path has signs that do not belong there")]
    Signs,
    /// The query has `;`, an escape that is none, or is too long.
    #[error("the query cannot be read in exactly one way")]
    Query,
    /// `/watch` or `/proxy` without what it is about; the server cannot read that either.
    #[error("the path names no resource")]
    NoResource,
}

/// What Kubernetes calls the verb: policies and records use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// Many objects.
    List,
    /// Changes of one or many objects, as they happen.
    Watch,
    /// A new object, or an action of a subresource.
    Create,
    /// A whole object in place of another.
    Update,
    /// A change of an object; also server-side apply.
    Patch,
    /// The end of one object.
    Delete,
    /// The end of many.
    DeleteCollection,
    /// The old way to a pod's, service's or node's own port.
    Proxy,
    /// None: OPTIONS, CONNECT, and methods that Kubernetes does not know.
    None,
}

impl Verb {
    /// The verb as Kubernetes writes it; empty for [`Verb::None`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Proxy => "proxy",
            Self::None => "",
        }
    }

    fn of_method(method: &str) -> Self {
        match method {
            "GET" | "HEAD" => Self::Get,
            "POST" => Self::Create,
            "PUT" => Self::Update,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            _ => Self::None,
        }
    }
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Objects of the API.
    Resource(Asked),
    /// Something else: discovery, health, version. The path is decoded.
    Path {
        /// The HTTP method.
        method: String,
        /// The path.
        path: String,
    },
}

/// What is asked of which objects; the API server's `RequestInfo`. All names are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The verb.
    pub verb: Verb,
    /// The HTTP method.
    pub method: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The resource's plural name.
    pub resource: String,
    /// What of it, e.g. `status` or `log`; empty for the object itself.
    pub subresource: String,
    /// The namespace; empty for all of them, and for what lies in none.
    pub namespace: String,
    /// The object's name; empty where the path and the field selector give none.
    pub name: String,
    /// Segments behind the subresource, which the server's own rules do not interpret.
    pub rest: bool,
}

impl Asked {
    /// The resource with its group, as declared and as policies name it: `deployments.apps`.
    pub fn kind(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// Reads a request from its method, its raw path, and its query.
pub fn read(method: &str, path: &str, query: &Query) -> Result<Request, NotCanonical> {
    let path = decode_path(path)?;
    let segments = path.trim_start_matches('/').split('/').collect::<Vec<_>>();
    // A resource has a version and a name behind the prefix, and a group unless that is `api`.
    let (group, version, parts) = match segments.as_slice() {
        ["api", version, parts @ ..] if !parts.is_empty() => ("", *version, parts),
        ["apis", group, version, parts @ ..] if !parts.is_empty() => (*group, *version, parts),
        _ => return Ok(Request::Path { method: method.to_owned(), path }),
    };
    let (verb, parts) = match parts {
        ["watch", parts @ ..] => (Verb::Watch, parts),
        ["proxy", parts @ ..] => (Verb::Proxy, parts),
        parts => (Verb::of_method(method), parts),
    };
    let (namespace, parts) = match parts {
        // The namespace of a namespace is itself.
        ["namespaces", name] | ["namespaces", name, "status" | "finalize", ..] => (*name, parts),
        ["namespaces", name, parts @ ..] => (*name, parts),
        parts => ("", parts),
    };
    let (resource, name, subresource, rest) = match parts {
        [] => return Err(NotCanonical::NoResource),
        [resource] => (*resource, "", "", false),
        [resource, name] => (*resource, *name, "", false),
        // The old proxy has no subresources: what follows is a path behind it.
        [resource, name, ..] if verb == Verb::Proxy => (*resource, *name, "", true),
        [resource, name, subresource, rest @ ..] => {
            (*resource, *name, *subresource, !rest.is_empty())
        }
    };
    let selected = query.selected_name().unwrap_or_default();
    let (verb, name) = match (verb, name) {
        (Verb::Get, "") if query.watches() => (Verb::Watch, selected.as_str()),
        (Verb::Get, "") => (Verb::List, selected.as_str()),
        (Verb::Delete, "") => (Verb::DeleteCollection, ""),
        named => named,
    };
    Ok(Request::Resource(Asked {
        verb,
        method: method.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        rest,
    }))
}

/// Decodes a path, once, if it is in its canonical form: no empty or dot segments, no `/` at the
/// end, and escapes only of signs that need not be plain and separate nothing.
fn decode_path(path: &str) -> Result<String, NotCanonical> {
    if !path.starts_with('/') || path.len() > PATH_BYTES_MAX {
        return Err(NotCanonical::Shape);
    }
    let mut decoded = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let sign = match byte {
            b'%' => escaped(bytes.next(), bytes.next()).ok_or(NotCanonical::Escapes)?,
            // RFC 3986 §3.3, without `;`, which separates parameters for some readers.
            _ if byte.is_ascii_alphanumeric() || b"/-._~:@!$&'()*+,=".contains(&byte) => byte,
            _ => return Err(NotCanonical::Signs),
        };
        decoded.push(char::from(sign));
    }
    let segments = decoded.split('/').skip(1);
    if decoded != "/" && segments.into_iter().any(|s| matches!(s, "" | "." | "..")) {
        return Err(NotCanonical::Segments);
    }
    Ok(decoded)
}

/// The sign of an escape, if it may be escaped: what is unreserved is written plainly, and what
/// separates is not hidden.
fn escaped(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let byte = hex(high?)?.checked_mul(16)?.checked_add(hex(low?)?)?;
    let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let separates = b"/%\\;?#".contains(&byte);
    (byte.is_ascii_graphic() && !plain && !separates).then_some(byte)
}

/// The value of a hexadecimal sign.
pub(super) fn hex(sign: u8) -> Option<u8> {
    char::from(sign).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(method: &str, text: &str) -> Result<Request, NotCanonical> {
        let (path, query) = text.split_once('?').map_or((text, None), |(p, q)| (p, Some(q)));
        read(method, path, &Query::read(query)?)
    }

    /// `verb group/version resource/subresource namespace/name`
    fn line(method: &str, text: &str) -> String {
        match asked(method, text) {
            Ok(Request::Resource(asked)) => format!(
                "{} {}/{} {}/{} {}/{}",
                asked.verb.as_str(),
                asked.group,
                asked.version,
                asked.resource,
                asked.subresource,
                asked.namespace,
                asked.name
            ),
            Ok(Request::Path { path, .. }) => format!("path {path}"),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn a_request_is_read_as_the_api_server_reads_it() {
        // Most rows are those of the server's own test, requestinfo_test.go.
        let table = [
            ("GET", "/api/v1/namespaces", "list /v1 namespaces/ /"),
            ("GET", "/api/v1/namespaces/other", "get /v1 namespaces/ other/other"),
            ("GET", "/api/v1/namespaces/other/status", "get /v1 namespaces/status other/other"),
            (
                "PUT",
                "/api/v1/namespaces/other/finalize",
                "update /v1 namespaces/finalize other/other",
            ),
            ("DELETE", "/api/v1/namespaces/other", "delete /v1 namespaces/ other/other"),
            ("GET", "/api/v1/namespaces/other/pods", "list /v1 pods/ other/"),
            ("GET", "/api/v1/namespaces/other/pods/foo", "get /v1 pods/ other/foo"),
            ("HEAD", "/api/v1/namespaces/other/pods/foo", "get /v1 pods/ other/foo"),
            ("GET", "/api/v1/pods", "list /v1 pods/ /"),
            ("HEAD", "/api/v1/pods", "list /v1 pods/ /"),
            ("GET", "/api/v1/proxy/namespaces/other/pods/foo", "proxy /v1 pods/ other/foo"),
            ("GET", "/api/v1/proxy/namespaces/other/pods/foo/a/b", "proxy /v1 pods/ other/foo"),
            ("GET", "/api/v1/watch/pods", "watch /v1 pods/ /"),
            ("GET", "/api/v1/watch/namespaces/other/pods", "watch /v1 pods/ other/"),
            ("POST", "/api/v1/watch/namespaces/other/pods", "watch /v1 pods/ other/"),
            ("DELETE", "/api/v1/watch/namespaces/other/pods/x", "watch /v1 pods/ other/x"),
            ("GET", "/api/v1/namespaces/other/pods/foo/log", "get /v1 pods/log other/foo"),
            ("POST", "/api/v1/namespaces/other/pods/foo/exec", "create /v1 pods/exec other/foo"),
            ("GET", "/api/v1/nodes/n/proxy/run/x", "get /v1 nodes/proxy /n"),
            ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete /v1 pods/ other/foo"),
            ("DELETE", "/api/v1/namespaces/other/pods", "deletecollection /v1 pods/ other/"),
            ("POST", "/api/v1/namespaces/other/pods", "create /v1 pods/ other/"),
            ("PATCH", "/apis/apps/v1/namespaces/a/deployments/b", "patch apps/v1 deployments/ a/b"),
            (
                "PUT",
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "update apps/v1 deployments/scale a/b",
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/weir:x",
                "get rbac.authorization.k8s.io/v1 clusterroles/ /weir:x",
            ),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/weir%3Ax",
                "get rbac.authorization.k8s.io/v1 clusterroles/ /weir:x",
            ),
            ("OPTIONS", "/api/v1/pods", " /v1 pods/ /"),
            ("CONNECT", "/api/v1/pods", " /v1 pods/ /"),
            ("get", "/api/v1/pods", " /v1 pods/ /"),
            ("GET", "/", "path /"),
            ("GET", "/api", "path /api"),
            ("GET", "/api/v1", "path /api/v1"),
            ("GET", "/apis/apps", "path /apis/apps"),
            ("GET", "/apis/apps/v1", "path /apis/apps/v1"),
            ("GET", "/openapi/v3/apis/apps/v1", "path /openapi/v3/apis/apps/v1"),
            ("GET", "/API/v1/pods", "path /API/v1/pods"),
            ("GET", "/api/v1/watch", "NoResource"),
            ("GET", "/api/v1/proxy", "NoResource"),
        ];
        for (method, text, expected) in table {
            assert_eq!(line(method, text), expected, "{method} {text}");
        }
    }

    #[test]
    fn a_watch_is_whatever_the_server_takes_for_one() {
        for watch in
            ["watch=1", "watch=true", "watch=banana", "watch=f", "watch=no", "watch=", "watch"]
        {
            let text = format!("/api/v1/secrets?{watch}");
            assert_eq!(line("GET", &text), "watch /v1 secrets/ /", "{watch}");
        }
        for list in
            ["watch=0", "watch=false", "watch=FaLsE", "Watch=1", "watch=0&watch=1", "limit=5"]
        {
            let text = format!("/api/v1/secrets?{list}");
            assert_eq!(line("GET", &text), "list /v1 secrets/ /", "{list}");
        }
        assert_eq!(line("GET", "/api/v1/secrets?%77atch=1"), "watch /v1 secrets/ /");
        assert_eq!(line("GET", "/api/v1/secrets?watch=1&watch=0"), "watch /v1 secrets/ /");
        // One object is got, whatever the query says; the server looks at it only for many.
        assert_eq!(line("GET", "/api/v1/nodes/n?watch=1"), "get /v1 nodes/ /n");
    }

    #[test]
    fn a_field_selector_names_the_object_of_a_list_and_a_watch() {
        let named = |query: &str| line("GET", &format!("/api/v1/namespaces/p/secrets?{query}"));
        for query in [
            "fieldSelector=metadata.name=x",
            "fieldSelector=metadata.name%3Dx",
            "fieldSelector=metadata.name==x",
            "fieldSelector=type=Opaque,metadata.name=x",
            "fieldSelector=metadata.name=x&fieldSelector=metadata.name=y",
        ] {
            assert_eq!(named(query), "list /v1 secrets/ p/x", "{query}");
        }
        for query in [
            "fieldSelector=metadata.name!=x",
            "fieldSelector=metadata.names=x",
            "fieldSelector=metadata.name=",
            "fieldSelector=metadata.name=..",
            "fieldSelector=metadata.name=a/b",
            "fieldSelector=metadata.name=a%5C%5Cb",
            "fieldSelector=%20metadata.name=x",
            "fieldselector=metadata.name=x",
        ] {
            assert_eq!(named(query), "list /v1 secrets/ p/", "{query}");
        }
        let watched = named("watch=1&fieldSelector=metadata.name=x");
        assert_eq!(watched, "watch /v1 secrets/ p/x");
        let many = line("DELETE", "/api/v1/namespaces/p/secrets?fieldSelector=metadata.name=x");
        assert_eq!(many, "deletecollection /v1 secrets/ p/", "the server gives it no name");
    }

    #[test]
    fn what_another_reader_would_read_differently_is_refused() {
        for path in [
            "",
            "api/v1/pods",
            "//api/v1/pods",
            "/api/v1//pods",
            "/api/v1/pods/",
            "/api/./v1/pods",
            "/api/v1/../v1/pods",
            "/api/v1/namespaces/a/secrets%2Fx",
            "/api/v1/%73ecrets",
            "/api/v1/namespaces/a/pods/web%2Fexec",
            "/api/v1/namespaces/a/secrets%2fnone",
            "/api/v1/pods%",
            "/api/v1/pods%2",
            "/api/v1/pods%zz",
            "/api/v1/pods%00",
            "/api/v1/%2e%2e",
            "/api/v1/pods%2525",
            "/api/v1/pods%25",
            "/api/v1/pods;x",
            "/api/v1/pods%3bx",
            "/api/v1/p\\x",
            "/api/v1/p%5cx",
            "/api/v1/ä",
            "/api/v1/%c3%a4",
            "/api/v1/a b",
            "/api/v1/a%20b",
            "/api/v1/a\tb",
        ] {
            assert!(asked("GET", path).is_err(), "{path:?} {}", line("GET", path));
        }
        for query in ["watch=1;x", "a=%", "a=%zz", "a=%2", "a=\u{e4}", "a=b c", "a=b\n"] {
            assert!(Query::read(Some(query)).is_err(), "{query:?}");
        }
        assert_eq!(decode_path(&format!("/{}", "a".repeat(5000))), Err(NotCanonical::Shape));
    }

    proptest! {
        #[test]
        fn nothing_panics(method in ".*", text in "(/|[a-z%.?=&;2fF]|api|apis|v1|watch|namespaces){0,40}|.*") {
            drop(asked(&method, &text));
        }

        /// What was read, written down again as the server would, is read the same: there is no
        /// second meaning in what was accepted.
        #[test]
        fn a_path_that_is_read_is_read_the_same_again(
            text in "/(api|apis)(/(v1|apps|watch|proxy|namespaces|pods|a|%3A|%40|x:y|status|%2F|%73)){0,8}",
        ) {
            if let Ok(decoded) = decode_path(&text) {
                prop_assert_eq!(decode_path(&decoded), Ok(decoded.clone()));
                prop_assert_eq!(asked("GET", &decoded), asked("GET", &text));
            }
        }
    }
}
