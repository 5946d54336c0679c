//! What clients are told of the gateway before they sign in: nothing of it is secret.

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use serde_json::json;

use crate::api::Shared;
use crate::api::oauth::token::GRANTS;

/// `GET /.well-known/oauth-authorization-server` (RFC 8414 §2), and the same for clients that know
/// OpenID Connect's name of it: libpq 18.
pub(in crate::api) async fn metadata(State(resources): Shared) -> Json<Value> {
    let url = &resources.gateway.url;
    let at = |path: &str| format!("{url}/oauth/{path}");
    Json(json!({
        "issuer": url,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "device_authorization_endpoint": at("device_authorization"),
        "revocation_endpoint": at("revoke"),
        "grant_types_supported": GRANTS,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["control", "postgres", "ssh", "http", "kubernetes"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
    }))
}

/// `GET /.well-known/weir`: what `weir login` asks first.
pub(in crate::api) async fn about(State(resources): Shared) -> Json<Value> {
    let gateway = &resources.gateway;
    let version = gateway.version();
    Json(json!({
        "name": gateway.name,
        "region": version.snapshot.gateway().region,
        "issuer": gateway.url,
        "providers": gateway.logins.identity().providers(),
        "ssh_host_ca": gateway.ssh_authority.public_line(),
        "ssh_host_key": resources.ssh_host_key,
        "access_ca_pem": gateway.certifier.ca_pem(),
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// `GET /.well-known/weir/jwks.json`: what targets verify `X-Weir-Identity` with.
pub(in crate::api) async fn keys(State(resources): Shared) -> Json<Value> {
    Json(resources.gateway.assertions.jwks())
}
