//! The command line: what it is called, what it prints, what it returns.
//!
//! Three kinds of commands: those that run or check a gateway (`serve`, `check`, `demo`,
//! `audit verify`, `import`), those that talk to a running one over its API, and those that take a
//! client through it to a target (`psql`, `ssh`, `kubeconfig`, `proxy`). Who talks to a gateway is
//! known since `weir login`; a program may say so by `WEIR_TOKEN`.
//!
//! ```text
//! home, files, keyring ─▶ profile (which gateway) ─▶ wallet (which credential) ─▶ client (calls)
//!                                                      └▶ certificate ─▶ connect, ssh_config, kubectl, proxy
//! ```
//!
//! | exit code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | the gateway, or policy, said no; a log and the record do not match |
//! | 2 | the command line, or a file it names, is wrong |
//! | 3 | the gateway cannot be reached |
//! | 4 | a record is damaged |

mod args;
mod certificate;
mod client;
mod connect;
mod encode;
mod files;
mod home;
mod import;
mod keyring;
mod kubectl;
mod kube_merge;
mod lines;
mod ledger;
mod login;
mod man;
mod print;
mod profile;
mod proxy;
mod reading;
mod reconcile;
mod record;
mod replay;
mod run;
mod sessions;
mod show;
mod ssh_config;
mod tunnel;
mod wallet;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::Args;

/// Runs the command that `args` name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Args::try_parse_from(args) {
        Ok(args) => run::command(args),
        Err(error) => {
            // Help and version are no errors; clap knows which stream each goes to.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_closed) => ExitCode::from(2),
            }
        }
    }
}

/// The commands and their options, for completions and tests.
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}
