//! Plays a recorded terminal on the terminal of whoever looks.

use std::fs::File;
use std::io;
use std::io::Read;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use crate::cli::print;
use crate::cli::replay::screen::Screen;
use crate::cli::replay::timeline::Act;
use crate::cli::replay::timeline::Key;
use crate::cli::replay::timeline::Playing;
use crate::cli::replay::timeline::Timeline;

/// The terminal of this process, whatever its standard streams are.
const TERMINAL: &str = "/dev/tty";

/// Plays until the end, or until somebody has seen enough.
pub(super) async fn play(timeline: &Timeline, mut playing: Playing) -> io::Result<()> {
    let keyboard = Keyboard::take()?;
    let mut keys = keyboard.keys();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut screen = Screen::default();
    let mut shows = show(timeline, &mut screen, (0, playing.place));
    let mut since = Instant::now();
    // A pause of the recording is not over before it is; a pressed key begins none anew.
    while shows && (playing.paused || playing.place < timeline.len()) {
        let wait = playing.wait(timeline);
        let until = since + wait.unwrap_or(Duration::from_hours(24));
        let act = tokio::select! {
            biased;
            _ = hangup.recv() => Act::Quit,
            _ = terminated.recv() => Act::Quit,
            key = keys.recv() => {
                let was = playing.paused;
                let act = key.map_or(Act::Quit, |key| playing.press(key, timeline));
                if was && !playing.paused {
                    since = Instant::now();
                }
                act
            }
            () = tokio::time::sleep_until(until), if wait.is_some() => playing.step(timeline),
        };
        if act != Act::None {
            since = Instant::now();
        }
        shows = match act {
            Act::None => true,
            Act::Show { from, to } => show(timeline, &mut screen, (from, to)),
            Act::Anew { to } => {
                let emptied = screen.emptied();
                print::bytes(&emptied) && show(timeline, &mut screen, (0, to))
            }
            Act::Quit => false,
        };
    }
    print::bytes(&screen.rest());
    Ok(())
}

fn show(timeline: &Timeline, screen: &mut Screen, (from, to): (usize, usize)) -> bool {
    timeline.shown(from, to).all(|bytes| print::bytes(&screen.shown(bytes)))
}

/// The keyboard, key by key and without an echo, until this is dropped.
struct Keyboard {
    /// How the terminal was, in `stty`'s words.
    before: String,
    over: Arc<AtomicBool>,
}

impl Keyboard {
    fn take() -> io::Result<Self> {
        let before = stty(&["-g"])?.trim().to_owned();
        let keyboard = Self { before, over: Arc::default() };
        // Without signals: Ctrl-C is a key, so that the terminal is put back on every way out. What was
        // recorded is as a terminal gave it out, and is not to be worked on again.
        stty(&["-icanon", "-echo", "-isig", "-opost", "min", "0", "time", "1"])?;
        Ok(keyboard)
    }

    fn keys(&self) -> UnboundedReceiver<Key> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let over = Arc::clone(&self.over);
        std::thread::spawn(move || drop(listen(&sender, &over)));
        receiver
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Err(error) = stty(&[&self.before]) {
            print::complain(&format!("the terminal could not be put back ({error}): use `reset`"));
        }
    }
}

fn listen(keys: &UnboundedSender<Key>, over: &AtomicBool) -> io::Result<()> {
    let mut terminal = File::open(TERMINAL)?;
    let mut typed = [0_u8; 64];
    while !over.load(Ordering::Acquire) {
        // Comes back after a tenth of a second even if nothing was typed.
        let length = terminal.read(&mut typed)?;
        let typed = typed.get(..length).unwrap_or_default();
        // What begins with an escape sign is an arrow or the like, and none of our keys.
        if typed.first() == Some(&0x1b) {
            continue;
        }
        for key in typed.iter().filter_map(|byte| Key::of(*byte)) {
            if keys.send(key).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn stty(args: &[&str]) -> io::Result<String> {
    let terminal = File::open(TERMINAL)?;
    let ran = Command::new("stty").args(args).stdin(terminal).stderr(Stdio::null()).output()?;
    if ran.status.success() {
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    } else {
        Err(io::Error::other("`stty` does not know this terminal"))
    }
}
