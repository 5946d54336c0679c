//! `weir sessions replay` and `watch`: a session as it was, or as it goes.
//!
//! ```text
//! lines of the gateway ─▶ line ─┬▶ transcript              database, HTTP, commands without a terminal
//!                               ├▶ screen ─▶ stdout        a terminal, watched or piped
//!                               ├▶ timeline ─▶ player      a terminal, played on a terminal
//!                               └▶ cast                    a terminal, for asciinema
//! ```
//!
//! A session is played as a terminal if its first command that runs has one.

mod cast;
mod line;
mod player;
mod screen;
mod timeline;
mod transcript;

use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::cli::args::Gateway;
use crate::cli::args::replay::Replay;
use crate::cli::args::replay::Watch;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::encode;
use crate::cli::lines::Coming;
use crate::cli::lines::Lines;
use crate::cli::lines::cut;
use crate::cli::print;
use crate::model::SessionId;

use cast::Cast;
use line::End;
use line::Line;
use line::Way;
use screen::Screen;
use timeline::Did;
use timeline::HELD_BYTES_MAX;
use timeline::Playing;
use timeline::Timeline;
use transcript::Transcript;

pub(in crate::cli) use timeline::From;
pub(in crate::cli) use timeline::Speed;
pub(in crate::cli) use timeline::seconds;

/// Where an asciicast goes if it goes to stdout.
const STDOUT: &str = "-";
/// The longest pause that is played where nothing else is said.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// What is said where nothing is shown.
const WITHHELD: &str = "what it showed is left out: it may carry a class that you may not see";
/// Most lines that are held while it is not known whether the session has a terminal.
const UNDECIDED_MAX: usize = 10_000;

/// `weir sessions replay`
pub(super) fn replay(args: &Replay, as_json: bool) -> Result<(), CallError> {
    let mut lines = open(&args.gateway, args.session, false, args.purpose.said.as_deref())?;
    let (runtime, coming) = lines.parts();
    if as_json {
        return runtime.block_on(print_json(coming));
    }
    if let Some(path) = &args.asciicast {
        let cast = Cast::new(args.with_input, args.idle_max);
        return runtime.block_on(write_cast(coming, cast, path));
    }
    let plays = io::stdin().is_terminal() && io::stdout().is_terminal();
    let end = runtime.block_on(async {
        let mut shown = Shown::Undecided { held: Vec::new(), plays };
        let end = each(coming, |line| shown.tell(line)).await?;
        shown.rest();
        if let Shown::Player(timeline) = &shown {
            let place = args.from.map_or(0, |from| timeline.place(from));
            let idle_max = args.idle_max.unwrap_or(IDLE_MAX);
            player::play(timeline, Playing::new(place, args.speed, idle_max)).await.map_err(
                |error| CallError::Usage(format!("the terminal cannot be used: {error}")),
            )?;
        }
        Ok::<_, CallError>(end)
    })?;
    if end == Some(End::SoFar) {
        print::progress("the session goes on: `weir sessions watch` shows it as it goes");
    }
    end.map_or(Ok(()), End::outcome)
}

/// `weir sessions watch`
pub(super) fn watch(args: &Watch, as_json: bool) -> Result<(), CallError> {
    let mut lines = open(&args.gateway, args.session, true, args.purpose.said.as_deref())?;
    let (runtime, coming) = lines.parts();
    if as_json {
        return runtime.block_on(print_json(coming));
    }
    let mut shown = Shown::Text { transcript: Transcript::default(), live: true };
    let mut why = String::new();
    let end = runtime.block_on(until_interrupted(each(coming, |line| {
        if let Line::Event { event, .. } = &line
            && event["is"] == "closed"
        {
            why = event["reason"].as_str().map(print::tame).unwrap_or_default();
        }
        shown.tell(line)
    })));
    shown.rest();
    match end {
        Some(end) => {
            let end = end?;
            if end == Some(End::Complete) {
                print::progress(&format!("the session has ended: {why}"));
            }
            end.map_or(Ok(()), End::outcome)
        }
        None => Ok(()),
    }
}

fn open(
    gateway: &Gateway,
    session: SessionId,
    follow: bool,
    purpose: Option<&str>,
) -> Result<Lines, CallError> {
    let mut parameters = vec![("follow", if follow { "true" } else { "false" })];
    parameters.extend(purpose.map(|said| ("purpose", said)));
    let path = format!("/sessions/{session}/stream?{}", encode::form(&parameters));
    Client::new(gateway)?.lines(&path)
}

/// Does something, or nothing any more once somebody presses Ctrl-C or ends this process.
async fn until_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = tokio::signal::ctrl_c() => None,
    }
}

/// Hands every line to `tell` until the end; `None`: whoever reads has gone.
async fn each(
    coming: &mut Coming,
    mut tell: impl FnMut(Line) -> Result<bool, CallError>,
) -> Result<Option<End>, CallError> {
    while let Some(line) = coming.next().await? {
        match Line::of(&line) {
            Line::End(end) => return Ok(Some(end)),
            line @ (Line::Head { .. } | Line::Event { .. } | Line::Data { .. } | Line::Other) => {
                if !tell(line)? {
                    return Ok(None);
                }
            }
        }
    }
    Err(cut())
}

/// Prints the lines as they come.
async fn print_json(coming: &mut Coming) -> Result<(), CallError> {
    while let Some(line) = coming.next().await? {
        if !line.get("alive").is_none_or(Value::is_null) {
            continue;
        }
        if !print::bytes(format!("{line}\n").as_bytes()) {
            return Ok(());
        }
        if let Line::End(end) = Line::of(&line) {
            return end.outcome();
        }
    }
    Err(cut())
}

/// Writes an asciicast.
async fn write_cast(coming: &mut Coming, mut cast: Cast, path: &Path) -> Result<(), CallError> {
    let failed = |error: io::Error| {
        CallError::Usage(format!("{} cannot be written: {error}", path.display()))
    };
    let mut out: Box<dyn Write> = if path.as_os_str() == STDOUT {
        Box::new(io::stdout())
    } else {
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
        Box::new(io::BufWriter::new(file))
    };
    let end = each(coming, |line| {
        if line == (Line::Head { withheld: true }) {
            return Err(CallError::Refused(WITHHELD.to_owned()));
        }
        cast.tell(&line)
            .iter()
            .try_for_each(|told: &Value| writeln!(out, "{told}"))
            .map_err(failed)?;
        Ok(true)
    })
    .await?;
    out.flush().map_err(failed)?;
    let outcome = end.map_or(Ok(()), End::outcome);
    if outcome.is_ok() && !cast.has_begun() {
        let why = "the session has no terminal: `weir sessions replay` prints its transcript";
        return Err(CallError::Usage(why.to_owned()));
    }
    outcome
}

/// Whether a line is this event.
fn is(line: &Line, name: &str) -> bool {
    matches!(line, Line::Event { event, .. } if event["is"] == name)
}

/// How a session is shown.
enum Shown {
    /// It is not known yet: what came so far, and whether a terminal is played.
    Undecided { held: Vec<Line>, plays: bool },
    /// Lines of text, as they come; of a live session, until a terminal begins.
    Text { transcript: Transcript, live: bool },
    /// What a terminal showed, as it comes.
    Terminal(Screen),
    /// What a terminal showed, to be played.
    Player(Timeline),
}

impl Shown {
    /// Shows a line. `false`: whoever reads has gone.
    fn tell(&mut self, line: Line) -> Result<bool, CallError> {
        match self {
            Self::Undecided { held, plays } => {
                let terminal = is(&line, "terminal");
                let text = matches!(line, Line::Data { .. })
                    || is(&line, "ended")
                    || is(&line, "closed")
                    || held.len() > UNDECIDED_MAX;
                held.push(line);
                if !terminal && !text {
                    return Ok(true);
                }
                let held = std::mem::take(held);
                *self = match (terminal, *plays) {
                    (false, _) => Self::Text { transcript: Transcript::default(), live: false },
                    (true, true) => Self::Player(Timeline::default()),
                    (true, false) => Self::Terminal(Screen::default()),
                };
                for line in held {
                    if !self.tell(line)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Text { transcript, live } => {
                let told = transcript.tell(&line);
                if *live && is(&line, "terminal") {
                    *self = Self::Terminal(Screen::default());
                }
                Ok(told.iter().all(|line| print::bytes(format!("{line}\n").as_bytes())))
            }
            Self::Terminal(screen) => Ok(match line {
                Line::Data { way: Way::Output | Way::Error, bytes, .. } => {
                    print::bytes(&screen.shown(&bytes))
                }
                Line::Head { withheld: true } => {
                    print::progress(WITHHELD);
                    true
                }
                Line::Data { .. }
                | Line::Head { .. }
                | Line::Event { .. }
                | Line::End(_)
                | Line::Other => true,
            }),
            Self::Player(timeline) => {
                let (at, did) = match line {
                    Line::Data { at, way: Way::Output | Way::Error, bytes, .. } => {
                        (at, Did::Show(bytes))
                    }
                    Line::Data { at, way: Way::Input, bytes, .. }
                        if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) =>
                    {
                        (at, Did::Line)
                    }
                    Line::Event { at, event }
                        if event.get("is").is_some_and(|is| is == "command") =>
                    {
                        (
                            at,
                            Did::Command(
                                event.get("number").and_then(Value::as_u64).unwrap_or_default(),
                            ),
                        )
                    }
                    Line::Head { withheld: true } => {
                        print::progress(WITHHELD);
                        return Ok(true);
                    }
                    Line::Data { .. }
                    | Line::Head { .. }
                    | Line::Event { .. }
                    | Line::End(_)
                    | Line::Other => return Ok(true),
                };
                if timeline.push(at, did) {
                    return Ok(true);
                }
                Err(CallError::Usage(format!(
                    "more than {} MiB cannot be played: use --asciicast, or a pipe",
                    HELD_BYTES_MAX / 1_048_576
                )))
            }
        }
    }

    /// Shows what was held back, at the end.
    fn rest(&mut self) {
        match self {
            Self::Undecided { held, .. } => {
                let held = std::mem::take(held);
                let mut transcript = Transcript::default();
                let told = held.iter().flat_map(|line| transcript.tell(line));
                for line in told {
                    print::line(&line);
                }
            }
            Self::Text { transcript, .. } => {
                for line in transcript.rest() {
                    print::line(&line);
                }
            }
            Self::Terminal(screen) => {
                if io::stdout().is_terminal() {
                    print::bytes(&screen.rest());
                }
            }
            Self::Player(_) => {}
        }
    }
}
