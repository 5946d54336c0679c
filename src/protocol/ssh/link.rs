//! One command, from the question whether it may run to its end.
//!
//! ```text
//! ask ─► No ──────────────────────────────► stderr, exit 126, close
//!     ├► Held ─► decided | taken back ─► settle ─┐
//!     └► Go ◄────────────────────────────────────┘
//!        open the leg ─► stdin ►  more  ► target   (three futures of one task: none waits
//!                        signal ► plumb ► target    for another, so output flows while
//!                        output ◄ release ◄ target  stdin is stuck, and a signal gets through)
//! ```
//!
//! Whatever ends it early (a kill, a client that left) ends the command on the target too: closing
//! a connection leaves a command without a terminal running there.

use std::sync::Arc;
use std::time::Duration;

use russh::Sig;

use crate::audit::entry::Ending;
use crate::model::Refusal;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::ssh::client::Client;
use crate::protocol::ssh::client::Gone;
use crate::protocol::ssh::client::Output;
use crate::protocol::ssh::client::UNMASKABLE;
use crate::protocol::ssh::command;
use crate::protocol::ssh::inbox::Control;
use crate::protocol::ssh::inbox::Input;
use crate::protocol::ssh::refuse::Words;
use crate::protocol::ssh::upstream::OpenError;
use crate::protocol::ssh::upstream::Plumb;
use crate::protocol::ssh::upstream::Remote;
use crate::protocol::ssh::upstream::Said;
use crate::protocol::ssh::upstream::Start;
use crate::session::Asked;
use crate::session::Cleared;
use crate::session::Decision;
use crate::session::Guard;
use crate::session::Held;
use crate::session::Running;
use crate::session::Settled;
use crate::target::SshTarget;
use crate::target::Target;
use crate::target::ssh::Login;

/// How long a command that was told to end may take to do so, in seconds.
const END_S_MAX: u64 = 2;
/// Beyond what one target lets in at once: sshd's `MaxStartups` turns away every third one from 10
/// on. More wait here.
pub(super) const OPENING_MAX: usize = 8;

/// A session as SSH needs it: its guard, its target, and the login that was asked for.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) guard: Arc<Guard>,
    pub(super) target: Arc<Target>,
    pub(super) ssh: SshTarget,
    pub(super) login: Login,
    /// A place among those that are being opened at this target.
    pub(super) opening: Arc<tokio::sync::Semaphore>,
}

/// Why a session ends although neither side ended it: the word in records, and what is told.
#[derive(Debug)]
pub(super) struct End {
    pub(super) word: String,
    pub(super) refusal: Refusal,
}

impl End {
    /// Waits until `guard`'s session has to end.
    pub(super) async fn of(guard: &Guard) -> Self {
        let reason = guard.ended().await;
        Self { word: reason.word(), refusal: reason.refusal() }
    }

    /// Nothing crossed for too long.
    pub(super) fn idle() -> Self {
        let told = "nothing was asked or said in this session for too long";
        let refusal = Refusal::new(RefusalCode::SessionEnded, told).hint("connect again");
        Self { word: "idle".to_owned(), refusal }
    }

    async fn wait(guard: &Guard, client: &Client) -> Self {
        tokio::select! {
            end = Self::of(guard) => end,
            () = client.activity.over() => Self::idle(),
        }
    }
}

/// Why the exchange between client and target is over.
#[derive(Debug)]
enum Over {
    /// The command ended, with this status.
    Status(u32),
    /// It was ended by a signal.
    Signal(Sig),
    /// The target's side ended without saying how.
    Lost,
    /// The target's side failed.
    Failed(OpenError),
    /// The client is gone.
    ClientGone,
    /// The session ends.
    Ended(End),
    /// It may not go on.
    Refused(Refusal),
}

/// Carries one command from its question to its end.
pub(super) async fn carry(session: &Session, client: &Client, start: Start) {
    let guard = &session.guard;
    let screen = start.terminal.as_ref().map(|terminal| terminal.size);
    let terminal = screen.is_some();
    let classes = &session.target.facts().classes;
    let mut command = command::command(&start, &session.login, classes);
    if command.unsupported.is_none() {
        command.unsupported = unmaskable(guard);
    }
    let settled = match guard.ask(command, start) {
        Asked::Settled(settled) => settled,
        Asked::Held(held) => wait(guard, client, held, terminal).await,
    };
    match settled {
        Settled::No(refusal) => refuse(guard, client, &refusal).await,
        Settled::Go(running, start) => {
            match screen.map_or(Ok(()), |size| running.on_terminal(size.columns, size.rows)) {
                Ok(()) => run(session, client, &running, start, terminal).await,
                Err(refusal) => refuse(guard, client, &refusal).await,
            }
        }
    }
    client.close().await;
}

/// Why nothing may run here, if its output may hold what the principal may not see.
fn unmaskable(guard: &Guard) -> Option<String> {
    match guard.masks() {
        Ok(masks) => masks.hides_something().then(|| UNMASKABLE.to_owned()),
        // The guard refuses every command from now on, with the better reason.
        Err(_) => None,
    }
}

/// Waits for an approval. The client is told, may take it back, and may go away.
async fn wait(
    guard: &Guard,
    client: &Client,
    mut held: Box<Held<Start>>,
    terminal: bool,
) -> Settled<Start> {
    let notice = guard.say(Words::notice(&held.notice()));
    let withdraw = |reason: String| Decision::Withdrawn { reason };
    let decision = tokio::select! {
        biased;
        reason = client.inbox.withdrawn(terminal) => withdraw(reason.to_owned()),
        end = End::wait(guard, client) => withdraw(end.refusal.reason),
        decision = async {
            client.send_words(guard.session(), notice).await;
            held.decided().await
        } => decision,
    };
    held.settle(&decision)
}

async fn refuse(guard: &Guard, client: &Client, refusal: &Refusal) {
    client.send_words(guard.session(), guard.say(Words::refusal(refusal))).await;
}

/// Runs a command that may run.
async fn run(
    session: &Session,
    client: &Client,
    running: &Running,
    start: Cleared<Start>,
    terminal: bool,
) {
    let guard = &session.guard;
    let opening = async {
        let _place = session.opening.acquire().await;
        let start = (running.number(), start);
        Remote::open(guard, &session.target, &session.ssh, &session.login, start).await
    };
    let opened = tokio::select! {
        biased;
        () = client.inbox.closed() => Err(Over::ClientGone),
        end = End::wait(guard, client) => Err(Over::Ended(end)),
        opened = opening => opened.map_err(Over::Failed),
    };
    let (over, ended) = match opened {
        Err(over) => (over, "it was not begun".to_owned()),
        Ok((remote, mut said)) => {
            let over = exchange(guard, client, running, &remote, &mut said).await;
            let ended = finish(guard, &over, &remote, &mut said, terminal).await;
            remote.close().await;
            (over, ended)
        }
    };
    tell(guard, client, running, &over, &ended).await;
}

/// Carries data until one side is over.
async fn exchange(
    guard: &Guard,
    client: &Client,
    running: &Running,
    remote: &Remote,
    said: &mut Said,
) -> Over {
    tokio::select! {
        biased;
        end = End::wait(guard, client) => Over::Ended(end),
        () = client.inbox.closed() => Over::ClientGone,
        () = client.inbox.overflowed() => Over::Refused(overflow()),
        over = controls(guard, client, running, remote) => over,
        over = replies(guard, client, running, said) => over,
        over = requests(guard, client, running, remote) => over,
    }
}

/// Client to target: stdin.
async fn requests(guard: &Guard, client: &Client, running: &Running, remote: &Remote) -> Over {
    loop {
        let sent = match client.inbox.input().await {
            Input::Data(data) => match running.more(data) {
                Ok(part) => remote.send_input(part).await,
                Err(refusal) => return Over::Refused(refusal),
            },
            Input::End => remote.send_plumbing(guard.plumb(Plumb::End)).await,
        };
        if sent.is_err() {
            // What the target said before it left is still to be read.
            std::future::pending::<()>().await;
        }
    }
}

/// Client to target: signals and sizes, past a stdin that is stuck.
async fn controls(guard: &Guard, client: &Client, running: &Running, remote: &Remote) -> Over {
    loop {
        let frame = match client.inbox.control().await {
            Control::Signal(signal) => Plumb::Signal(signal),
            Control::Size(size) => {
                if let Err(refusal) = running.on_terminal(size.columns, size.rows) {
                    return Over::Refused(refusal);
                }
                Plumb::Size(size)
            }
        };
        if remote.send_plumbing(guard.plumb(frame)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Target to client.
async fn replies(guard: &Guard, client: &Client, running: &Running, said: &mut Said) -> Over {
    let mut over = Over::Lost;
    while let Some(output) = said.next().await {
        match &output {
            // Told to the client once the end is recorded.
            Output::Status(status) => {
                over = Over::Status(*status);
                continue;
            }
            Output::Signal(signal) => {
                over = Over::Signal(signal.clone());
                continue;
            }
            Output::Stdout(_) | Output::Stderr(_) => {}
        }
        let released = guard
            .masks()
            .map_err(|error| error.refusal())
            .and_then(|masks| running.release(&masks, output).map_err(|error| error.refusal()));
        match released {
            Ok(released) => {
                if let Err(Gone) = client.send_output(guard.session(), released).await {
                    return Over::ClientGone;
                }
            }
            Err(refusal) => return Over::Refused(refusal),
        }
    }
    over
}

fn overflow() -> Refusal {
    Refusal::new(RefusalCode::TooLarge, "the client sent more than its window allows")
}

/// Ends a command on the target that did not end by itself, and says whether it did.
async fn finish(
    guard: &Guard,
    over: &Over,
    remote: &Remote,
    said: &mut Said,
    terminal: bool,
) -> String {
    match over {
        Over::Status(_) | Over::Signal(_) | Over::Lost | Over::Failed(_) => String::new(),
        Over::ClientGone | Over::Ended(_) | Over::Refused(_) => {
            let signal = if terminal { Sig::HUP } else { Sig::TERM };
            let name = format!("{signal:?}");
            let ending = async {
                remote.send_plumbing(guard.plumb(Plumb::Signal(signal))).await.ok()?;
                // What it still says is dropped: nobody may see it, or nobody is there.
                while let Some(output) = said.next().await {
                    if matches!(output, Output::Status(_) | Output::Signal(_)) {
                        return Some(());
                    }
                }
                Some(())
            };
            match tokio::time::timeout(Duration::from_secs(END_S_MAX), ending).await {
                Ok(Some(())) => format!("it ended on the target by {name}"),
                Ok(None) => "the target was gone before it could be told to end it".to_owned(),
                Err(_) => format!("it did not end on the target within {END_S_MAX} s of {name}"),
            }
        }
    }
}

/// Records the end, then tells it to the client.
async fn tell(guard: &Guard, client: &Client, running: &Running, over: &Over, ended: &str) {
    let cut = |reason: &str| {
        let parts = [reason, ended].into_iter().filter(|part| !part.is_empty());
        Ending::Cut { reason: parts.collect::<Vec<_>>().join("; ") }
    };
    let lost = "the target closed the connection before the command ended";
    let (ending, words) = match over {
        Over::Status(0) => (Ending::Done { status: "exit 0".to_owned() }, None),
        Over::Status(status) => (Ending::Failed { status: format!("exit {status}") }, None),
        Over::Signal(signal) => (Ending::Failed { status: format!("signal {signal:?}") }, None),
        Over::Lost => (cut(lost), Some(Refusal::new(RefusalCode::TargetFailed, lost))),
        Over::Failed(error) => (cut(&error.to_string()), Some(error.refusal())),
        Over::ClientGone => (cut("the client went away"), None),
        Over::Ended(end) => (cut(&end.word), Some(end.refusal.clone())),
        Over::Refused(refusal) => {
            let reason = refusal.reason.clone();
            let withheld = refusal.code == RefusalCode::Withheld;
            let ending = if withheld { Ending::Withheld { reason } } else { cut(&reason) };
            (ending, Some(refusal.clone()))
        }
    };
    // An end that cannot be recorded ends the session (`Guard::ended`); the status is told still:
    // the command did end so.
    if let Err(error) = running.end(ending) {
        tracing::error!(fault = "gateway", "{}", crate::model::fault::Chain(&error));
    }
    let output = match over {
        Over::Status(status) => Some(Output::Status(*status)),
        Over::Signal(signal) => Some(Output::Signal(signal.clone())),
        Over::Lost | Over::Failed(_) | Over::ClientGone | Over::Ended(_) | Over::Refused(_) => None,
    };
    if let Some(output) = output
        && let Ok(masks) = guard.masks()
        && let Ok(released) = running.release(&masks, output)
        && let Err(Gone) = client.send_output(guard.session(), released).await
    {
        tracing::debug!("a client was gone before it was told the status");
    }
    if let Some(refusal) = words {
        refuse(guard, client, &refusal).await;
    }
}
