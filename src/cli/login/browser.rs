//! Signing in with a browser on this machine: authorization code with PKCE (RFC 7636) and a
//! redirect to a port of this machine (RFC 8252 §7.3).

use std::process::Command;
use std::process::Stdio;

use secrecy::ExposeSecret;
use serde_json::Value;

use crate::cli::client::CallError;
use crate::cli::client::Link;
use crate::cli::client::problem;
use crate::cli::client::runtime;
use crate::cli::encode;
use crate::cli::home::variable;
use crate::cli::login::Asks;
use crate::cli::login::loopback::Loopback;
use crate::cli::login::opener;
use crate::cli::print;
use crate::cli::wallet::CLIENT_ID;
use crate::model::digest::Digest;
use crate::model::encode::base64url;

/// Signs in; the gateway's token answer.
pub(super) fn sign_in(
    link: &Link,
    about: &Value,
    asks: &Asks,
    open: bool,
) -> Result<Value, CallError> {
    let random = || {
        let missing = || CallError::Usage("the system has no random numbers".to_owned());
        encode::random().ok_or_else(missing)
    };
    let (state, verifier) = (random()?, random()?);
    let challenge = base64url(Digest::of(verifier.as_bytes()).as_bytes());
    let runtime = runtime()?;
    let issuer = about.get("issuer").and_then(Value::as_str).map(str::to_owned);
    let loopback = runtime.block_on(Loopback::bind(state.clone(), issuer))?;
    let redirect = loopback.redirect_uri();
    let mut pairs = asks.pairs();
    pairs.extend([
        ("response_type", "code"),
        ("redirect_uri", redirect.as_str()),
        ("state", &state),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let url = format!("{}/oauth/authorize?{}", link.base(), encode::form(&pairs));
    let opened = open && show(&url);
    print::progress(if opened {
        "Your browser opens to sign you in. If it does not, open this link on this machine:"
    } else {
        "Open this link on this machine to sign in:"
    });
    print::progress(&format!("  {url}"));
    let code = runtime.block_on(loopback.code())?;
    let mut exchange = vec![
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT_ID),
        ("code", &code),
        ("redirect_uri", &redirect),
        ("code_verifier", &verifier),
    ];
    let stronger = asks.step_up_of.as_ref().map(ExposeSecret::expose_secret);
    exchange.extend(stronger.map(|secret| ("step_up_of", secret)));
    let answer = link.form("/oauth/token", &exchange)?;
    if answer.status == 200 {
        Ok(answer.body)
    } else {
        Err(CallError::Refused(problem(answer.status, &answer.body)))
    }
}

/// Opens a link; whether something took it.
fn show(url: &str) -> bool {
    // What `BROWSER` names is asked first, as other programs do.
    let named = variable("BROWSER").map(Into::into);
    let Some(program) = named.or_else(opener) else { return false };
    let mut command = Command::new(program);
    let command = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().is_ok()
}
