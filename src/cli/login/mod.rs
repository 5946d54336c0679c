//! `weir login`, `weir logout`, `weir credentials`, `weir profiles`.
//!
//! - [`browser`]: authorization code with PKCE, back to a port of this machine (RFC 8252)
//! - [`device`]: a code to type on another device (RFC 8628)
//! - [`workload`]: the token that CI or a cluster gives to a job (RFC 8693)

mod browser;
mod device;
mod loopback;
mod workload;

use std::path::Path;

use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;
use serde_json::json;

use crate::cli::args::Gateway;
use crate::cli::args::access;
use crate::cli::args::access::CredentialsList;
use crate::cli::args::access::CredentialsVerb;
use crate::cli::args::access::ProfilesVerb;
use crate::cli::certificate;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::client::Link;
use crate::cli::client::problem;
use crate::cli::home::Home;
use crate::cli::home::program;
use crate::cli::home::variable;
use crate::cli::print;
use crate::cli::profile::Profiles;
use crate::cli::show;
use crate::cli::wallet::CLIENT_ID;
use crate::cli::wallet::Tokens;
use crate::cli::wallet::Wallet;
use crate::model::Clock;
use crate::model::clock::System;

/// What a login is for: everything that this program does with it.
const SCOPE: &str = "control postgres ssh http kubernetes";

/// How to sign in, as the gateway is told.
#[derive(Debug)]
struct Asks {
    provider: Option<String>,
    acr: Option<String>,
    fresh: bool,
    device: String,
    /// The session credential of the login that is to be made stronger, instead of a new one.
    step_up_of: Option<SecretString>,
}

impl Asks {
    /// The parameters that every way of signing in has.
    fn pairs(&self) -> Vec<(&'static str, &str)> {
        let mut pairs =
            vec![("client_id", CLIENT_ID), ("scope", SCOPE), ("device", self.device.as_str())];
        // The gateway's own word: which provider.
        pairs.extend(self.provider.as_deref().map(|issuer| ("provider", issuer)));
        // OpenID Connect Core 1.0 §3.1.2.1.
        pairs.extend(self.acr.as_deref().map(|acr| ("acr_values", acr)));
        if self.fresh {
            pairs.push(("prompt", "login"));
        }
        pairs
    }
}

/// Signs in, and keeps what that brings.
pub(super) fn login(args: access::Login, as_json: bool) -> Result<(), CallError> {
    let home = Home::of_environment()?;
    let mut profiles = Profiles::load(&home)?;
    let mut profile = profiles.choose(&args.gateway)?;
    if args.provider.is_some() {
        profile.provider = args.provider;
    }
    let link = Link::new(&profile)?;
    let wallet = Wallet::open(&home, &profile)?;
    // Reached and verified, before somebody is sent to a browser.
    let about = link.about()?;
    let mut asks = Asks {
        provider: profile.provider.clone(),
        acr: args.acr,
        fresh: args.fresh,
        device: format!("weir on {}", machine()),
        step_up_of: None,
    };
    let by_browser = !(args.workload || args.device) && (args.no_browser || has_browser());
    if by_browser && (asks.fresh || asks.acr.is_some()) {
        // A login that has ended cannot be made stronger: a new one begins.
        asks.step_up_of = wallet.tokens(&link).ok().map(|tokens| tokens.access);
    }
    let answer = if args.workload {
        workload::sign_in(&link, &asks, args.token_file.as_deref(), &args.audience)?
    } else if !by_browser {
        device::sign_in(&link, &asks)?
    } else {
        browser::sign_in(&link, &about, &asks, !args.no_browser)?
    };
    let fresh = Tokens::of_answer(&answer, &profile.gateway, System.now());
    let mut fresh = fresh
        .ok_or_else(|| CallError::Refused("the gateway's answer holds no credential".to_owned()))?;
    let replaced = {
        let _lock = wallet.lock()?;
        let kept = wallet.kept()?;
        let same =
            kept.as_ref().filter(|kept| !fresh.login.is_empty() && kept.login == fresh.login);
        if let Some(same) = same {
            // The same login, made stronger: its certificates and its renewal go on.
            fresh.renewal = fresh.renewal.or_else(|| same.renewal.clone());
            wallet.keep(&fresh)?;
            None
        } else {
            certificate::forget(wallet.dir())?;
            wallet.keep(&fresh)?;
            kept
        }
    };
    if let Some(old) = replaced {
        // Nobody would use it any more. That it has ended already is fine.
        drop(revoke(&link, &old));
    }
    profiles.keep(&profile);
    profiles.save(&home)?;
    if as_json {
        print::json(&json!({
            "profile": profile.name, "gateway": profile.gateway, "principal": fresh.principal,
            "login": fresh.login, "expires_at": fresh.expires_at,
        }));
    } else {
        let (who, at) = (print::tame(&fresh.principal), &profile.gateway);
        print::line(&format!("signed in as {who} at {at} (profile {})", profile.name));
        print::line(&format!(
            "kept in {}; renewed as long as the login lasts",
            wallet.place().is()
        ));
    }
    Ok(())
}

/// Ends a login at the gateway by its renewal secret, or by its session credential.
fn revoke(link: &Link, tokens: &Tokens) -> Result<(), CallError> {
    // RFC 7009 §2.1.
    let (token, hint) = match &tokens.renewal {
        Some(renewal) => (renewal, "refresh_token"),
        None => (&tokens.access, "access_token"),
    };
    let pairs =
        [("token", token.expose_secret()), ("token_type_hint", hint), ("client_id", CLIENT_ID)];
    let answer = link.form("/oauth/revoke", &pairs)?;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(CallError::Refused(problem(answer.status, &answer.body)))
    }
}

/// Ends the login at the gateway, and forgets what is kept of it, whatever the gateway says.
pub(super) fn logout(args: &access::Logout, as_json: bool) -> Result<(), CallError> {
    let client = Client::new(&args.gateway)?;
    let wallet = Wallet::open(client.home(), client.profile())?;
    let kept = wallet.kept()?;
    let ended = if args.everywhere {
        client.post("/logout", &json!({ "everywhere": true })).map(|_| ())
    } else if let Some(tokens) = &kept {
        revoke(client.link(), tokens)
    } else {
        Ok(())
    };
    {
        let _lock = wallet.lock()?;
        wallet.place().clear()?;
        certificate::forget(wallet.dir())?;
    }
    match ended {
        Ok(()) => {}
        Err(error) => {
            let why = format!(
                "what was kept here is removed, but the gateway did not end the login: {error}\n\
                 hint: `weir credentials` on another device can end it; else it ends by itself"
            );
            return Err(match error {
                CallError::Usage(_) => CallError::Usage(why),
                CallError::Unreached(_) => CallError::Unreached(why),
                CallError::Refused(_) => CallError::Refused(why),
                CallError::Damaged(_) => CallError::Damaged(why),
            });
        }
    }
    let was = kept.is_some() || args.everywhere;
    if as_json {
        print::json(&json!({ "logged_out": was, "everywhere": args.everywhere }));
    } else if was {
        let whence = if args.everywhere { " everywhere" } else { "" };
        print::line(&format!("logged out{whence}; its sessions end"));
    } else {
        print::line("nobody was signed in here");
    }
    Ok(())
}

/// Lists or ends logins and credentials.
pub(super) fn credentials(args: access::Credentials, as_json: bool) -> Result<(), CallError> {
    match args.verb.unwrap_or(CredentialsVerb::Ls(args.list)) {
        CredentialsVerb::Ls(CredentialsList { all, gateway }) => {
            let path = if all { "/credentials?all=true" } else { "/credentials" };
            let answer = Client::new(&gateway)?.get(path)?;
            if as_json {
                print::json(&answer);
            } else {
                show::credentials(&answer);
            }
        }
        CredentialsVerb::Revoke { id, gateway } => {
            let shaped = |id: &str| {
                let sign = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
                let rest = id.strip_prefix("l-").or_else(|| id.strip_prefix("c-"));
                rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(sign))
            };
            if !shaped(&id) {
                return Err(CallError::Usage(format!(
                    "`{id}` is no id of a login or credential: `weir credentials` lists them"
                )));
            }
            let answer =
                Client::new(&gateway)?.post(&format!("/credentials/{id}/revoke"), &json!({}))?;
            if as_json {
                print::json(&answer);
            } else {
                print::line(&format!("{id} is revoked; its sessions end"));
            }
        }
    }
    Ok(())
}

/// Lists profiles, chooses one, forgets one.
pub(super) fn profiles(args: access::Profiles, as_json: bool) -> Result<(), CallError> {
    let home = Home::of_environment()?;
    let mut profiles = Profiles::load(&home)?;
    let missing = |name: &str| {
        CallError::Usage(format!("there is no profile `{name}`: `weir profiles` lists them"))
    };
    match args.verb.unwrap_or(ProfilesVerb::Ls) {
        ProfilesVerb::Ls => list(&home, &profiles, as_json)?,
        ProfilesVerb::Use { name } => {
            if !profiles.profiles.contains_key(&name) {
                return Err(missing(&name));
            }
            profiles.default = Some(name.clone());
            profiles.save(&home)?;
            print::line(&format!("{name} is the default now"));
        }
        ProfilesVerb::Rm { name } => {
            let gateway =
                Gateway { url: None, profile: Some(name.clone()), ca_file: None, token: None };
            let wallet = Wallet::open(&home, &profiles.choose(&gateway)?)?;
            if wallet.kept()?.is_some() {
                return Err(CallError::Usage(format!(
                    "you are signed in there: run `weir logout --profile {name}` first"
                )));
            }
            profiles.profiles.remove(&name).ok_or_else(|| missing(&name))?;
            profiles.default = profiles.default.filter(|default| *default != name);
            profiles.save(&home)?;
            print::line(&format!("{name} is forgotten"));
        }
    }
    Ok(())
}

fn list(home: &Home, profiles: &Profiles, as_json: bool) -> Result<(), CallError> {
    let mut rows = Vec::new();
    for (name, entry) in &profiles.profiles {
        let asked = Gateway { url: None, profile: Some(name.clone()), ca_file: None, token: None };
        let kept = Wallet::open(home, &profiles.choose(&asked)?)?.kept()?;
        let who = kept.map(|tokens| tokens.principal);
        let default = profiles.default.as_ref() == Some(name);
        rows.push((name, entry, who, default));
    }
    if as_json {
        let all = rows.iter().map(|(name, entry, who, default)| {
            json!({
                "name": name, "gateway": entry.gateway, "ca_file": entry.ca_file,
                "provider": entry.provider, "principal": who, "default": default,
            })
        });
        print::json(&Value::Array(all.collect()));
    } else if rows.is_empty() {
        print::line("no profiles yet: `weir login --gateway URL` makes one");
    } else {
        let rows = rows.into_iter().map(|(name, entry, who, default)| {
            let mark = if default { "default" } else { "" };
            let who = who.map_or_else(|| "-".to_owned(), |who| print::tame(&who));
            vec![name.clone(), entry.gateway.clone(), who, mark.to_owned()]
        });
        print::table(&["PROFILE", "GATEWAY", "SIGNED IN AS", ""], &rows.collect::<Vec<_>>());
    }
    Ok(())
}

/// Asks the gateway how it reads a provider's token.
pub(super) fn check_token(gateway: &Gateway, file: &Path, as_json: bool) -> Result<(), CallError> {
    let token = super::files::text(file)?;
    let answer = Client::new(gateway)?.post("/check-token", &json!({ "token": token.trim() }))?;
    if as_json {
        print::json(&answer);
    } else {
        show::findings(&answer);
    }
    if answer.pointer("/explanation/accepted") == Some(&Value::Bool(true)) {
        Ok(())
    } else {
        Err(CallError::Refused(
            "this gateway does not accept the token\nhint: mend what the first failed check names"
                .to_owned(),
        ))
    }
}

/// Whether a browser can be opened here: there is a screen, and it is not over SSH.
fn has_browser() -> bool {
    let remote = ["SSH_CONNECTION", "SSH_TTY"].iter().any(|name| variable(name).is_some());
    let screen = cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| variable(name).is_some());
    !remote && ((screen && opener().is_some()) || variable("BROWSER").is_some())
}

/// What opens a link.
fn opener() -> Option<std::path::PathBuf> {
    program(if cfg!(target_os = "macos") { "open" } else { "xdg-open" })
}

/// What this machine calls itself, for its owner to know it again in a list.
fn machine() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = named.or_else(|| variable("HOSTNAME")).unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-._".contains(*c);
    let name = named.trim().chars().filter(plain).take(64).collect::<String>();
    if name.is_empty() { "a machine".to_owned() } else { name }
}
