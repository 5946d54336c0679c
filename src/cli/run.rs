//! What each command does.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use serde_json::json;

use crate::cli::args::Args;
use crate::cli::args::Command;
use crate::cli::args::Gateway;
use crate::cli::args::Policy;
use crate::cli::args::access::SshCertificate;
use crate::cli::args::records::Audit;
use crate::cli::certificate;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::connect;
use crate::cli::import;
use crate::cli::kubectl;
use crate::cli::ledger;
use crate::cli::login;
use crate::cli::man;
use crate::cli::print;
use crate::cli::proxy;
use crate::cli::reading;
use crate::cli::reconcile;
use crate::cli::record;
use crate::cli::sessions;
use crate::cli::show;
use crate::cli::ssh_config;
use crate::cli::tunnel;
use crate::daemon;
use crate::demo;

/// Runs a command to its end.
pub(super) fn command(args: Args) -> ExitCode {
    let as_json = args.json;
    let called = match args.command {
        Command::Serve { config } => return finished(daemon::serve(&config)),
        Command::Demo(demo) => {
            let options = demo::Options {
                state_dir: demo.state_dir,
                port: demo.port,
                office_port: demo.office_port,
                kubeconfig: demo.kubeconfig,
            };
            return finished(demo::run(&options, |ready| {
                if as_json { print::json(&ready.json()) } else { print::line(&ready.lines()) }
            }));
        }
        Command::Check { config, offline, token, gateway } => {
            if let Some(config) = config
                && let Err(code) = check(&config, !offline, as_json)
            {
                return code;
            }
            let Some(token) = token else { return ExitCode::SUCCESS };
            login::check_token(&gateway.into(), &token, as_json)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut super::command(), "weir", &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
        Command::Audit(audit) => return self::audit(audit, as_json),
        Command::Man { dir } => man::run(dir.as_deref()),
        Command::Login(args) => login::login(args, as_json),
        Command::Logout(args) => login::logout(&args, as_json),
        Command::Credentials(args) => login::credentials(args, as_json),
        Command::Profiles(args) => login::profiles(args, as_json),
        Command::Psql(args) => connect::psql(&args, as_json),
        Command::Ssh(args) => connect::ssh(&args),
        Command::SshConfig(args) => ssh_config::run(&args),
        Command::SshCertificate(args) => return ssh_certificate(args),
        Command::ProxyCommand(args) => tunnel::proxy_command(&args),
        Command::Kubeconfig(args) => kubectl::config(&args, as_json),
        Command::KubeCredential(gateway) => kubectl::credential(&gateway),
        Command::Proxy(args) => proxy::run(&args, as_json),
        Command::Import(args) => import::run(&args, as_json),
        Command::Whoami(gateway) => get(&gateway, "/whoami", show::whoami, as_json),
        Command::Targets(gateway) => get(&gateway, "/targets", show::targets, as_json),
        Command::Requests(gateway) => get(&gateway, "/requests", show::requests, as_json),
        Command::Approve { hold, gateway } => {
            answer(&gateway, hold.as_str(), "approve", &json!({}), as_json)
        }
        Command::Deny { hold, reason, gateway } => {
            answer(&gateway, hold.as_str(), "deny", &json!({ "reason": reason }), as_json)
        }
        Command::Sessions(sessions) => sessions::run(sessions, as_json),
        Command::Ledger(ledger) => ledger::run(ledger, as_json),
        Command::Policy(policy) => explain(policy, as_json),
    };
    ended(called)
}

fn audit(audit: Audit, as_json: bool) -> ExitCode {
    ended(match audit {
        Audit::Reconcile(args) => return reconcile::run(&args, as_json),
        Audit::Read { dir, session, wrapping_keys } => {
            return reading::read(&dir, session, &wrapping_keys);
        }
        Audit::Verify { files, known } => return record::verify(&known.of(files), as_json),
        Audit::Prove { id, end, from, output, gateway } => {
            record::prove((&id, end), &from, output.as_deref(), &gateway)
        }
        Audit::Status(gateway) => get(&gateway, "/audit/status", show::record, as_json),
        Audit::Reindex(gateway) => record::reindex(&gateway, as_json),
        Audit::Checkpoint { from, gateway } => record::checkpoint(&from, &gateway, as_json),
        Audit::Keygen { purpose, origin, file } => record::keygen(purpose, origin, &file, as_json),
    })
}

fn ended(called: Result<(), CallError>) -> ExitCode {
    match called {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::complain(&print::tame_lines(&error.to_string()).join("\n"));
            code(&error)
        }
    }
}

fn code(error: &CallError) -> ExitCode {
    ExitCode::from(match error {
        CallError::Refused(_) => 1,
        CallError::Usage(_) => 2,
        CallError::Unreached(_) => 3,
        CallError::Damaged(_) => 4,
    })
}

/// For ssh, before it connects: whose certificate it is, is told by the login alone.
fn ssh_certificate(args: SshCertificate) -> ExitCode {
    let gateway = Gateway { token: None, ..args.gateway };
    match Client::new(&gateway).and_then(|client| certificate::ssh(&client)) {
        Ok(files) => {
            if !args.quiet {
                print::line(&format!(
                    "{} is good until {}",
                    files.certificate.display(),
                    files.expires_at
                ));
            }
            ExitCode::SUCCESS
        }
        Err(error) => ended(Err(error)),
    }
}

fn answer(
    gateway: &Gateway,
    hold: &str,
    verb: &str,
    body: &Value,
    as_json: bool,
) -> Result<(), CallError> {
    let answer = Client::new(gateway)?.post(&format!("/requests/{hold}/{verb}"), body)?;
    output(&answer, show::answered, as_json);
    Ok(())
}

fn explain(policy: Policy, as_json: bool) -> Result<(), CallError> {
    let Policy::Explain { who, roles, entity, from, auth_age, acr, amr, target, command, gateway } =
        policy;
    let mut question = json!({ "target": target });
    let mut set = |name: &str, value: Option<Value>| {
        if let (Some(value), Some(object)) = (value, question.as_object_mut()) {
            object.insert(name.to_owned(), value);
        }
    };
    set("as", who.map(Value::from));
    set("roles", (!roles.is_empty()).then(|| json!(roles)));
    set("entity", entity.map(|entity| json!(entity)));
    set("from", from.map(|from| json!(from)));
    set("auth_age_s", auth_age.map(Value::from));
    set("acr", acr.map(Value::from));
    set("amr", (!amr.is_empty()).then(|| json!(amr)));
    set("command", command.map(Value::from));
    let judged = Client::new(&gateway)?.post("/policy/explain", &question)?;
    output(&judged, show::judgement, as_json);
    Ok(())
}

fn get(
    gateway: &Gateway,
    path: &str,
    shown: impl FnOnce(&Value),
    as_json: bool,
) -> Result<(), CallError> {
    let answer = Client::new(gateway)?.get(path)?;
    output(&answer, shown, as_json);
    Ok(())
}

fn output(answer: &Value, shown: impl FnOnce(&Value), as_json: bool) {
    if as_json { print::json(answer) } else { shown(answer) }
}

fn check(config: &Path, ask: bool, as_json: bool) -> Result<(), ExitCode> {
    let checked = match daemon::check_with_store(config, ask) {
        Ok(checked) => checked,
        Err(error) => {
            print::complain(&error.to_string());
            return Err(ExitCode::from(2));
        }
    };
    if as_json {
        print::json(&json!(checked));
    } else {
        print::line(print::tame_lines(&checked.to_string()).join("\n").trim_end());
    }
    if let Some(finding) = checked.stops() {
        print::complain(&print::tame(&format!("the gateway would not start: {finding}")));
        return Err(ExitCode::from(2));
    }
    if !as_json {
        print::line("ok");
    }
    Ok(())
}

fn finished<E: std::error::Error + 'static>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::complain(&crate::model::fault::Chain(&error).to_string());
            ExitCode::from(2)
        }
    }
}
