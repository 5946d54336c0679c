//! Certificates for whoever has a live credential: for keys of their own, and never good for more
//! than the credential itself.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use crate::api::Caller;
use crate::api::Resources;
use crate::api::Shared;
use crate::api::body::Sent;
use crate::api::fail::Fail;
use crate::api::note::Deed;
use crate::api::oauth::token::narrow;
use crate::identity::CertificateAsk;
use crate::identity::LoginError;
use crate::identity::Wanted;
use crate::identity::ssh_certificate::SshExtension;
use crate::identity::ssh_certificate::UserAsk;
use crate::model::Fault;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::digest::Digest;
use crate::model::fault::Chain;
use crate::model::login::Credential;
use crate::model::login::Form;
use crate::model::login::Login;
use crate::model::login::Use;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;

/// How far before now a certificate begins, in seconds, for clocks that are behind.
const SKEW_S: i64 = 60;
/// Longest request or public key, in bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// What an X.509 client certificate is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// A certificate signing request, PEM: its signature proves that whoever asks has the key.
    csr: String,
    /// What for. Without it, all of the credential's uses for which a certificate is shown.
    #[serde(default)]
    uses: Option<Vec<Use>>,
    /// For which target only.
    #[serde(default)]
    target: Option<TargetName>,
}

/// What an SSH certificate is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SshRequest {
    /// The line of a public key; that whoever shows the certificate has the key, SSH itself sees.
    public_key: String,
    /// For which target only.
    #[serde(default)]
    target: Option<TargetName>,
}

/// Issues a client certificate.
pub(super) async fn issue(
    State(resources): Shared,
    caller: Caller,
    Sent(request): Sent<Request>,
) -> Result<Json<Value>, Fail> {
    let csr = bounded(&request.csr)?;
    let (login, credential) = of_login(&resources, &caller).await?;
    let uses = match request.uses {
        Some(uses) => uses.into_iter().collect::<BTreeSet<_>>(),
        None => credential.scope.uses.iter().copied().filter(|usage| in_tls(*usage)).collect(),
    };
    if !uses.iter().all(|usage| in_tls(*usage)) {
        return Err(Fail::malformed(
            "a client certificate is shown to postgres, http and kubernetes targets: leave out other uses",
        ));
    }
    let wanted = Wanted { uses, target: request.target, host: None };
    let wanted = narrow(&credential.scope, wanted).map_err(|error| failed(&error))?;
    let logins = &resources.gateway.logins;
    let until = logins.certificate_ends_at(&login.id, Form::Certificate).await;
    let (from, until) = time(&resources, until.map_err(|error| failed(&error))?);
    let uri = format!("weir:{}", login.id);
    let ask = CertificateAsk { csr_pem: csr, name: &login.principal.name, uri: &uri, from, until };
    let signed = resources.gateway.certifier.sign(&ask).map_err(|error| {
        tracing::info!(fault = %Fault::Client, "{}", Chain(&error));
        unusable(
            "the certificate signing request cannot be used: it must be PEM, signed by its key",
        )
    })?;
    let kept =
        keep(&resources, &caller, &login, (Form::Certificate, Digest::of(&signed.der)), wanted);
    let kept = kept.await?;
    Ok(Json(json!({
        "certificate": signed.pem,
        "ca": resources.gateway.certifier.ca_pem(),
        "id": kept.id,
        "expires_at": kept.expires_at.min(until),
    })))
}

/// Whether clients show a TLS certificate for it: the API takes bearers, and SSH its own.
fn in_tls(usage: Use) -> bool {
    match usage {
        Use::Control | Use::Target(Protocol::Ssh) => false,
        Use::Target(Protocol::Postgres | Protocol::Http | Protocol::Kubernetes) => true,
    }
}

/// Issues an SSH certificate.
pub(super) async fn issue_ssh(
    State(resources): Shared,
    caller: Caller,
    Sent(request): Sent<SshRequest>,
) -> Result<Json<Value>, Fail> {
    let public_key = bounded(&request.public_key)?;
    let (login, credential) = of_login(&resources, &caller).await?;
    let uses = [Use::Target(Protocol::Ssh)].into();
    let wanted = Wanted { uses, target: request.target, host: None };
    let wanted = narrow(&credential.scope, wanted).map_err(|error| failed(&error))?;
    let logins = &resources.gateway.logins;
    let until = logins.certificate_ends_at(&login.id, Form::SshCertificate).await;
    let (from, until) = time(&resources, until.map_err(|error| failed(&error))?);
    let name = login.principal.name.clone();
    let ask = UserAsk {
        public_key,
        principals: &[name],
        key_id: login.id.as_str(),
        serial: Uuid::new_v4().as_u64_pair().1,
        valid_after: from,
        valid_before: until,
        source_address: &[],
        extensions: &[SshExtension::Pty, SshExtension::PortForwarding],
    };
    let issued = resources.gateway.ssh_authority.issue_user(&ask).map_err(|error| {
        tracing::info!(fault = %Fault::Client, "{}", Chain(&error));
        unusable("the public key cannot be used: send the line of a .pub file")
    })?;
    let kept =
        keep(&resources, &caller, &login, (Form::SshCertificate, issued.digest), wanted).await?;
    Ok(Json(json!({
        "certificate": issued.line,
        "ca": resources.gateway.ssh_authority.public_line(),
        "id": kept.id,
        "expires_at": kept.expires_at.min(until),
    })))
}

/// The login and the credential that a call rests on.
async fn of_login(resources: &Resources, caller: &Caller) -> Result<(Login, Credential), Fail> {
    let (Some(login), Some(id)) = (caller.verified.login(), caller.verified.credential()) else {
        let reason = "a provider's token begins a login, and only a login has certificates";
        return Err(Fail(
            Refusal::new(RefusalCode::Unauthenticated, reason).hint("run `weir login` first"),
        ));
    };
    let logins = &resources.gateway.logins;
    let login = logins.login(login).await.map_err(|error| failed(&error))?;
    let credential = logins.credential(id).await.map_err(|error| Fail::ours(&error))?;
    Ok((login, credential.ok_or_else(|| failed(&LoginError::Ended))?))
}

/// Puts a certificate into the ledger and among the credentials: one that is not there counts
/// nowhere.
async fn keep(
    resources: &Resources,
    caller: &Caller,
    login: &Login,
    (form, digest): (Form, Digest),
    wanted: Wanted,
) -> Result<Credential, Fail> {
    let (who, origin) = (&login.principal, &caller.origin);
    let of = format!("{} {}", login.id, form.as_str());
    Deed { who, origin, action: "certificate", of, rules: Vec::new() }.note(resources)?;
    let kept = resources.gateway.logins.certified(&login.id, (form, digest), wanted, u32::MAX);
    kept.await.map_err(|error| failed(&error))
}

/// From when until when; whole seconds, as certificates have them.
fn time(resources: &Resources, until: Timestamp) -> (Timestamp, Timestamp) {
    let now = resources.gateway.parts.clock.now();
    let from = now.checked_sub(SignedDuration::from_secs(SKEW_S)).unwrap_or(now);
    (from, Timestamp::from_second(until.as_second()).unwrap_or(until))
}

fn bounded(text: &str) -> Result<&str, Fail> {
    if text.len() > REQUEST_BYTES_MAX {
        let reason = format!("a key or request has at most {REQUEST_BYTES_MAX} bytes");
        return Err(Fail(Refusal::new(RefusalCode::TooLarge, reason)));
    }
    Ok(text)
}

fn unusable(reason: &str) -> Fail {
    Fail(Refusal::new(RefusalCode::Malformed, reason).hint("`weir login` makes one that can be"))
}

/// What a call is told when a login does not give what was asked of it.
pub(super) fn failed(error: &LoginError) -> Fail {
    match error {
        LoginError::Identity(error) => Fail(error.refusal()),
        LoginError::Vault(_) | LoginError::Seal(_) | LoginError::Random => Fail::ours(error),
        LoginError::Ended | LoginError::SomebodyElse => Fail(
            Refusal::new(RefusalCode::Unauthenticated, error.to_string()).hint("run `weir login`"),
        ),
        LoginError::TooMany(_) => Fail(
            Refusal::new(RefusalCode::TooLarge, error.to_string())
                .hint("end some of them with `weir credentials revoke`"),
        ),
        LoginError::TooWide => Fail(
            Refusal::new(RefusalCode::Denied, error.to_string())
                .hint("ask for less, or sign in again without a narrower scope"),
        ),
    }
}
