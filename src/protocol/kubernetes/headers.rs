//! Which of a client's headers are refused, and what the gateway tells the cluster in their place:
//! who it is, and who asks.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header;
use secrecy::ExposeSecret;
use secrecy::SecretString;

use crate::model::Principal;
use crate::model::Refusal;
use crate::model::refusal::RefusalCode;

/// How a role becomes a group, so that no role can become `system:masters`.
const GROUP_PREFIX: &str = "weir:";
/// Names that Kubernetes keeps for itself; nobody is impersonated under one.
const RESERVED_PREFIX: &str = "system:";

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Refuses what speaks for somebody else: the cluster would add it to what the gateway says.
pub fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let speaks = |name: &&HeaderName| {
        let name = name.as_str();
        name.starts_with("impersonate-") || name.starts_with("x-remote-")
    };
    if let Some(name) = headers.keys().find(speaks) {
        let reason = format!("the header {name} is not carried: the cluster is told who you are");
        return Err(Refusal::new(RefusalCode::Denied, reason)
            .hint("leave out --as, --as-group and --as-uid, in the kubeconfig too"));
    }
    // A credential that a browser puts where no bearer can stand.
    let names_token = |value: &HeaderValue| {
        let value = value.as_bytes().to_ascii_lowercase();
        memchr::memmem::find(&value, b"bearer.authorization").is_some()
    };
    if headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().any(names_token) {
        let reason = "a credential in Sec-WebSocket-Protocol is not taken";
        return Err(
            Refusal::new(RefusalCode::Unsupported, reason).hint("send it as Authorization: Bearer")
        );
    }
    Ok(())
}

/// Tells the cluster who the gateway is (`token`), who asks, and by which id its audit log shall
/// name the request.
pub fn dress(
    headers: &mut HeaderMap,
    token: Option<&SecretString>,
    principal: &Principal,
    audit_id: &str,
) -> Result<(), Refusal> {
    let foreign = |name: &&HeaderName| {
        let name = name.as_str();
        name.starts_with("impersonate-") || name.starts_with("x-remote-")
    };
    for name in headers.keys().filter(foreign).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    headers.remove(header::COOKIE);
    headers.remove(header::AUTHORIZATION);
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| unspeakable("the gateway's own token"))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    if principal.name.starts_with(RESERVED_PREFIX) {
        return Err(unspeakable("your name"));
    }
    headers.insert(IMPERSONATE_USER, plain(&principal.name, "your name")?);
    for role in &principal.roles {
        let group = plain(&format!("{GROUP_PREFIX}{role}"), "one of your roles")?;
        headers.append(IMPERSONATE_GROUP, group);
    }
    headers.insert(AUDIT_ID, plain(audit_id, "the request's id")?);
    Ok(())
}

/// A value that every reader of headers reads the same: printable ASCII, no blank at its ends.
fn plain(text: &str, what: &str) -> Result<HeaderValue, Refusal> {
    let printable = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    let value = HeaderValue::try_from(text).ok().filter(|_| printable && text.trim() == text);
    value.ok_or_else(|| unspeakable(what))
}

fn unspeakable(what: &str) -> Refusal {
    Refusal::new(RefusalCode::Denied, format!("{what} cannot be told to a cluster"))
        .hint("names are printable ASCII, and none begins with `system:`")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use crate::model::principal::Kind;

    use super::*;

    fn principal(name: &str, roles: &[&str]) -> Principal {
        Principal {
            issuer: "https://idp.example".to_owned(),
            subject: "1".to_owned(),
            name: name.to_owned(),
            kind: Kind::Person,
            roles: roles.iter().map(|role| (*role).to_owned()).collect::<BTreeSet<_>>(),
            entity: None,
            residence: None,
            person: name.to_owned(),
            attributes: BTreeMap::new(),
            actors: Vec::new(),
        }
    }

    #[test]
    fn the_cluster_is_told_who_asks_and_nothing_of_the_clients() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer clients"),
            ("cookie", "a=b"),
            ("audit-id", "theirs"),
            ("impersonate-group", "system:masters"),
            ("impersonate-extra-scopes", "all"),
            ("x-remote-user", "root"),
            ("user-agent", "kubectl"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let token = SecretString::from("gateways");
        let alice = principal("alice", &["engineer", "oncall"]);
        dress(&mut headers, Some(&token), &alice, "id-1").unwrap();
        let all = |name: &str| {
            let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>()
        };
        assert_eq!(all("authorization"), ["Bearer gateways"]);
        assert_eq!(all("impersonate-user"), ["alice"]);
        assert_eq!(all("impersonate-group"), ["weir:engineer", "weir:oncall"]);
        assert_eq!(all("audit-id"), ["id-1"]);
        assert_eq!(all("user-agent"), ["kubectl"]);
        assert_eq!(headers.len(), 6);
        assert!(!format!("{headers:?}").contains("gateways"));
    }

    #[test]
    fn a_client_speaks_for_nobody() {
        for name in [
            "Impersonate-User",
            "impersonate-group",
            "IMPERSONATE-UID",
            "Impersonate-Extra-scopes",
            "X-Remote-User",
            "X-Remote-Extra-x",
        ] {
            let mut headers = HeaderMap::new();
            let name = name.parse::<HeaderName>().unwrap();
            headers.insert(name, HeaderValue::from_static("x"));
            assert!(check(&headers).is_err(), "{headers:?}");
        }
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_static("v4, base64url.Bearer.authorization.k8s.io.dG9rZW4");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        assert!(check(&headers).is_err());
        assert!(check(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn no_name_becomes_one_of_the_clusters_own() {
        for name in ["system:admin", "system:serviceaccount:a:b", "", " a", "a\r\nb", "ä"] {
            let told = dress(&mut HeaderMap::new(), None, &principal(name, &[]), "id");
            assert!(told.is_err(), "{name:?}");
        }
        let mut headers = HeaderMap::new();
        dress(&mut headers, None, &principal("a", &["system:masters"]), "id").unwrap();
        assert_eq!(headers.get("impersonate-group").unwrap(), "weir:system:masters");
        let bad = principal("a", &["x\ny"]);
        assert!(dress(&mut HeaderMap::new(), None, &bad, "id").is_err());
    }
}
