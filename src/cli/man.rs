//! Manual pages, of what can be typed.

use std::fmt::Write;
use std::path::Path;

use crate::cli::client::CallError;
use crate::cli::print;

/// Prints the page of `weir`, or writes those of all commands into a folder.
pub(super) fn run(dir: Option<&Path>) -> Result<(), CallError> {
    let mut weir = super::command();
    weir.build();
    let Some(dir) = dir else {
        print::raw(&page(&weir, &["weir".to_owned()]));
        return Ok(());
    };
    let failed = |error: std::io::Error| CallError::Usage(format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut pages = Vec::new();
    collect(&weir, &["weir".to_owned()], &mut pages);
    for (name, text) in &pages {
        std::fs::write(dir.join(format!("{name}.1")), text).map_err(failed)?;
    }
    print::line(&format!("{} pages are in {}", pages.len(), dir.display()));
    Ok(())
}

fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

fn collect(command: &clap::Command, path: &[String], pages: &mut Vec<(String, String)>) {
    pages.push((path.join("-"), page(command, path)));
    for below in shown(command) {
        collect(below, &[path, &[below.get_name().to_owned()]].concat(), pages);
    }
}

/// One page, in the macros of man(7).
fn page(command: &clap::Command, path: &[String]) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _written = write_page(&mut text, command, path);
    text
}

fn write_page(out: &mut String, command: &clap::Command, path: &[String]) -> std::fmt::Result {
    let name = path.join("-");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(
        out,
        ".TH {} 1 \"\" \"weir {}\"",
        escaped(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION")
    )?;
    writeln!(out, ".SH NAME\n{} \\- {}", escaped(&name), escaped(&about))?;
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    writeln!(out, ".SH SYNOPSIS\n.nf\n{}\n.fi", escaped(usage))?;
    if let Some(long) = command.get_long_about() {
        writeln!(out, ".SH DESCRIPTION\n{}", escaped(&long.to_string()))?;
    }
    let shown_arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let mut any = false;
    for argument in shown_arguments {
        if !any {
            writeln!(out, ".SH OPTIONS")?;
        }
        any = true;
        let term = argument.to_string();
        let short = argument.get_short().map(|c| format!("-{c}, ")).unwrap_or_default();
        writeln!(out, ".TP\n\\fB{}\\fR", escaped(&format!("{short}{term}")))?;
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(out, "{}", escaped(&help))?;
        if let Some(variable) = argument.get_env() {
            writeln!(out, "(environment: {})", escaped(&variable.to_string_lossy()))?;
        }
    }
    if shown(command).next().is_some() {
        writeln!(out, ".SH COMMANDS")?;
        for below in shown(command) {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            let page = escaped(&format!("{name}-{}(1)", below.get_name()));
            writeln!(out, ".TP\n\\fB{page}\\fR\n{}", escaped(&about))?;
        }
    }
    if let Some(after) = command.get_after_help() {
        writeln!(out, ".SH NOTES\n{}", escaped(&after.to_string()))?;
    }
    Ok(())
}

/// Text that roff prints as it is: no escapes, no request at the beginning of a line.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_its_options() {
        let mut weir = crate::cli::command();
        weir.build();
        let mut pages = Vec::new();
        collect(&weir, &["weir".to_owned()], &mut pages);
        let page = |name: &str| &pages.iter().find(|(found, _)| found == name).unwrap().1;
        assert!(page("weir").contains("weir\\-login(1)"));
        assert!(page("weir-login").contains("\\-\\-device"));
        assert!(page("weir-sessions-kill").contains(".SH SYNOPSIS"));
        assert!(!pages.iter().any(|(name, _)| name == "weir-proxy-command"));
        assert!(pages.iter().all(|(_, text)| !text.contains("WEIR_TOKEN")));
    }
}
