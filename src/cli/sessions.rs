//! Listing, searching, showing and ending sessions. Seeing them again is `replay`.

use serde_json::Value;
use serde_json::json;

use crate::cli::args::ledger::Kept;
use crate::cli::args::records::Sessions;
use crate::cli::args::records::Which;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::encode;
use crate::cli::print;
use crate::cli::replay;
use crate::cli::show;

/// `weir sessions …`
pub(super) fn run(sessions: Sessions, as_json: bool) -> Result<(), CallError> {
    let (answer, shown): (_, fn(&Value)) = match sessions {
        Sessions::Ls { which, gateway } => {
            let path = path("/sessions", &parameters(&which));
            (Client::new(&gateway)?.get(&path)?, show::sessions)
        }
        Sessions::Search { query, purpose, which, gateway } => {
            let query = query.join(" ");
            let mut parameters = parameters(&which);
            parameters.push(("q", query));
            parameters.extend(purpose.said.map(|said| ("purpose", said)));
            let path = path("/sessions/search", &parameters);
            (Client::new(&gateway)?.get(&path)?, show::hits)
        }
        Sessions::Show { session, purpose, gateway } => {
            let purpose = purpose.said.map(|said| ("purpose", said)).into_iter();
            let path = path(&format!("/sessions/{session}"), &purpose.collect::<Vec<_>>());
            (Client::new(&gateway)?.get(&path)?, show::session)
        }
        Sessions::Replay(args) => return replay::replay(&args, as_json),
        Sessions::Watch(args) => return replay::watch(&args, as_json),
        Sessions::Kill { session, gateway } => {
            let path = format!("/sessions/{session}/kill");
            let killed = |answer: &Value| print::line(&format!("{} is ended", show::id(answer)));
            (Client::new(&gateway)?.post(&path, &json!({}))?, killed)
        }
        Sessions::Hold(kept) => {
            let held = |answer: &Value| print::line(&format!("{} is held", show::id(answer)));
            (keep(&kept, "hold")?, held)
        }
        Sessions::Release(kept) => {
            let free =
                |answer: &Value| print::line(&format!("{} is held no more", show::id(answer)));
            (keep(&kept, "release")?, free)
        }
        Sessions::Erase(kept) => (keep(&kept, "erase")?, show::erased),
    };
    if as_json {
        print::json(&answer);
    } else {
        shown(&answer);
    }
    Ok(())
}

/// Holds, releases or erases a recording.
fn keep(kept: &Kept, verb: &str) -> Result<Value, CallError> {
    let path = format!("/sessions/{}/{verb}", kept.session);
    Client::new(&kept.gateway)?.patient().post(&path, &json!({ "reason": kept.reason }))
}

fn path(of: &str, parameters: &[(&str, String)]) -> String {
    if parameters.is_empty() {
        return of.to_owned();
    }
    let pairs = parameters.iter().map(|(name, value)| (*name, value.as_str()));
    format!("{of}?{}", encode::form(&pairs.collect::<Vec<_>>()))
}

fn parameters(which: &Which) -> Vec<(&'static str, String)> {
    let flag = |set: bool| set.then(|| "true".to_owned());
    let all = [
        ("own", flag(which.own)),
        ("user", which.user.clone()),
        ("target", which.target.as_ref().map(ToString::to_string)),
        ("protocol", which.protocol.clone()),
        ("since", which.since.clone()),
        ("until", which.until.clone()),
        ("denied", flag(which.denied)),
        ("held", flag(which.held)),
        ("class", which.class.as_ref().map(ToString::to_string)),
        ("country", which.country.as_ref().map(ToString::to_string)),
        ("live", flag(which.live)),
        ("limit", Some(which.limit.to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
