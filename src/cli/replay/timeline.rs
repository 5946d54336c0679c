//! A recorded terminal as steps in time, and where in it somebody is.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

/// How much of a terminal is held to be played, in bytes; more is for `--asciicast` or a pipe.
pub(super) const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What happened at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Did {
    /// Something was shown.
    Show(Vec<u8>),
    /// A command began.
    Command(u64),
    /// A line was typed.
    Line,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    at: Timestamp,
    did: Did,
}

/// A recorded terminal.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    steps: Vec<Step>,
    bytes: usize,
}

/// Where to begin: `3` (the third command), `90s`, `2m`, `1h` after the beginning, or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum From {
    /// At a command, by its number in the session.
    Command(u64),
    /// So long after the beginning.
    After(Duration),
    /// At a time.
    At(Timestamp),
}

/// A text that says no place in a recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no place in a recording: use a command's number such as 3, a time after its beginning \
     such as 90s, 2m or 1h, or a time such as 2026-11-29T12:00:00Z"
)]
pub(in crate::cli) struct BadFrom(String);

impl FromStr for From {
    type Err = BadFrom;

    fn from_str(text: &str) -> Result<Self, BadFrom> {
        let bad = || BadFrom(text.to_owned());
        if let Ok(number) = text.parse() {
            return Ok(Self::Command(number));
        }
        for (unit, seconds) in [('s', 1_u64), ('m', 60), ('h', 3_600)] {
            if let Some(number) = text.strip_suffix(unit) {
                let number = number.parse::<u64>().map_err(|_| bad())?;
                return Ok(Self::After(Duration::from_secs(number.saturating_mul(seconds))));
            }
        }
        text.parse().map(Self::At).map_err(|_| bad())
    }
}

/// How fast: so much of the session passes in one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Speed(Duration);

/// A text that is no speed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no speed: use a number from 0.1 to 100")]
pub(in crate::cli) struct BadSpeed(String);

const SLOWEST: Duration = Duration::from_millis(100);
const FASTEST: Duration = Duration::from_secs(100);

impl FromStr for Speed {
    type Err = BadSpeed;

    fn from_str(text: &str) -> Result<Self, BadSpeed> {
        let speed = seconds(text).map(Self);
        speed
            .filter(|Self(speed)| (SLOWEST..=FASTEST).contains(speed))
            .ok_or_else(|| BadSpeed(text.to_owned()))
    }
}

/// So many seconds, such as `2` or `0.5`.
pub(in crate::cli) fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok())
}

impl Speed {
    /// How long `gap` takes.
    fn takes(self, gap: Duration) -> Duration {
        let nanos = gap.as_nanos().saturating_mul(1_000) / self.0.as_millis().max(1);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn faster(self) -> Self {
        Self(self.0.saturating_mul(2).min(FASTEST))
    }

    fn slower(self) -> Self {
        Self((self.0 / 2).max(SLOWEST))
    }
}

impl Timeline {
    /// Adds what happened next. `false`: it is more than is held.
    pub(super) fn push(&mut self, at: Timestamp, did: Did) -> bool {
        if let Did::Show(bytes) = &did {
            self.bytes = self.bytes.saturating_add(bytes.len());
        }
        self.steps.push(Step { at, did });
        self.bytes <= HELD_BYTES_MAX
    }

    /// How many steps there are.
    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// What is shown between two places.
    pub(super) fn shown(&self, from: usize, to: usize) -> impl Iterator<Item = &[u8]> {
        let steps = self.steps.get(from..to.min(self.steps.len())).unwrap_or_default();
        steps.iter().filter_map(|step| match &step.did {
            Did::Show(bytes) => Some(bytes.as_slice()),
            Did::Command(_) | Did::Line => None,
        })
    }

    /// How long step `place` comes after the one before; no longer than `idle_max`.
    fn gap(&self, place: usize, idle_max: Duration) -> Duration {
        let at = |place: usize| self.steps.get(place).map(|step| step.at);
        let before = place.checked_sub(1).and_then(at);
        let (Some(before), Some(now)) = (before, at(place)) else { return Duration::ZERO };
        // A clock may have been set back.
        Duration::try_from(now.duration_since(before)).unwrap_or_default().min(idle_max)
    }

    /// The place to begin at.
    pub(super) fn place(&self, from: From) -> usize {
        let begun = self.steps.first().map(|step| step.at);
        let found = self.steps.iter().position(|step| match from {
            From::Command(number) => step.did == Did::Command(number),
            From::At(time) => step.at >= time,
            From::After(after) => begun.is_some_and(|begun| {
                Duration::try_from(step.at.duration_since(begun)).unwrap_or_default() >= after
            }),
        });
        found.unwrap_or(self.steps.len())
    }

    fn is_mark(step: &Step) -> bool {
        matches!(step.did, Did::Command(_) | Did::Line)
    }

    fn next_mark(&self, place: usize) -> usize {
        let mut after = self.steps.iter().enumerate().skip(place.saturating_add(1));
        let found = after.find(|(_, step)| Self::is_mark(step));
        found.map_or(self.steps.len(), |(place, _)| place)
    }

    fn previous_mark(&self, place: usize) -> usize {
        let before = self.steps.iter().enumerate().take(place);
        let found = before.rev().find(|(_, step)| Self::is_mark(step));
        found.map_or(0, |(place, _)| place)
    }
}

/// What somebody presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Stop, or go on.
    Pause,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// One step, and stop.
    Step,
    /// To the command before.
    Previous,
    /// To the next command.
    Next,
    /// End.
    Quit,
}

impl Key {
    /// The key of a byte that was typed.
    pub(super) fn of(byte: u8) -> Option<Self> {
        match byte {
            b' ' => Some(Self::Pause),
            b'+' | b'=' | b'>' => Some(Self::Faster),
            b'-' | b'<' => Some(Self::Slower),
            b'.' => Some(Self::Step),
            b'[' => Some(Self::Previous),
            b']' => Some(Self::Next),
            // Also Ctrl-C and Ctrl-D: the terminal makes no signals of them meanwhile.
            b'q' | b'Q' | 0x03 | 0x04 => Some(Self::Quit),
            _ => None,
        }
    }
}

/// Where somebody is, and how fast they go on.
#[derive(Debug)]
pub(super) struct Playing {
    /// The next step.
    pub(super) place: usize,
    pub(super) paused: bool,
    speed: Speed,
    idle_max: Duration,
}

/// What to do about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing is shown.
    None,
    /// Show what is between two places.
    Show {
        /// From here.
        from: usize,
        /// To here.
        to: usize,
    },
    /// Empty the screen, and show everything up to a place.
    Anew {
        /// The place.
        to: usize,
    },
    /// End.
    Quit,
}

impl Playing {
    pub(super) fn new(place: usize, speed: Speed, idle_max: Duration) -> Self {
        Self { place, paused: false, speed, idle_max }
    }

    /// How long until the next step; `None` at the end, or while it is paused.
    pub(super) fn wait(&self, timeline: &Timeline) -> Option<Duration> {
        let goes = !self.paused && self.place < timeline.len();
        goes.then(|| self.speed.takes(timeline.gap(self.place, self.idle_max)))
    }

    /// The time for the next step has come.
    pub(super) fn step(&mut self, timeline: &Timeline) -> Act {
        let from = self.place;
        self.place = from.saturating_add(1).min(timeline.len());
        Act::Show { from, to: self.place }
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key, timeline: &Timeline) -> Act {
        match key {
            Key::Pause => self.paused = !self.paused,
            Key::Faster => self.speed = self.speed.faster(),
            Key::Slower => self.speed = self.speed.slower(),
            Key::Quit => return Act::Quit,
            Key::Step => {
                self.paused = true;
                let from = self.place;
                // To the next step that shows something.
                while let Act::Show { from: one, to } = self.step(timeline) {
                    if to == one || timeline.shown(one, to).next().is_some() {
                        break;
                    }
                }
                return Act::Show { from, to: self.place };
            }
            Key::Next => {
                let from = self.place;
                self.place = timeline.next_mark(from);
                return Act::Show { from, to: self.place };
            }
            Key::Previous => {
                self.place = timeline.previous_mark(self.place);
                return Act::Anew { to: self.place };
            }
        }
        Act::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(2);

    /// Command 1 at 0 s, a prompt at 1 s, a line typed at 11 s, its answer at 11.5 s; command 2 at
    /// 20 s, its answer at 20 s.
    fn timeline() -> Timeline {
        let mut timeline = Timeline::default();
        let show = |text: &str| Did::Show(text.as_bytes().to_vec());
        for (ms, did) in [
            (0, Did::Command(1)),
            (1_000, show("$ ")),
            (11_000, Did::Line),
            (11_500, show("one")),
            (20_000, Did::Command(2)),
            (20_000, show("two")),
        ] {
            assert!(timeline.push(Timestamp::from_millisecond(ms).unwrap(), did));
        }
        timeline
    }

    fn speed(text: &str) -> Speed {
        text.parse().unwrap()
    }

    #[test]
    fn time_passes_as_it_did_but_for_idling_and_speed() {
        let timeline = timeline();
        let waits = |speed: Speed, idle_max| {
            let mut playing = Playing::new(0, speed, idle_max);
            let mut all = Vec::new();
            while let Some(wait) = playing.wait(&timeline) {
                all.push(u64::try_from(wait.as_millis()).unwrap());
                playing.step(&timeline);
            }
            all
        };
        assert_eq!(waits(speed("1"), IDLE), [0, 1_000, 2_000, 500, 2_000, 0]);
        assert_eq!(waits(speed("2"), IDLE), [0, 500, 1_000, 250, 1_000, 0]);
        assert_eq!(waits(speed("0.5"), Duration::MAX), [0, 2_000, 20_000, 1_000, 17_000, 0]);
    }

    #[test]
    fn keys_pause_step_and_seek() {
        let timeline = timeline();
        let mut playing = Playing::new(0, speed("1"), IDLE);
        assert_eq!(playing.press(Key::Pause, &timeline), Act::None);
        assert_eq!(playing.wait(&timeline), None);
        assert_eq!(playing.press(Key::Step, &timeline), Act::Show { from: 0, to: 2 });
        assert_eq!(playing.press(Key::Next, &timeline), Act::Show { from: 2, to: 4 });
        assert_eq!(playing.press(Key::Step, &timeline), Act::Show { from: 4, to: 6 });
        assert_eq!(playing.press(Key::Step, &timeline), Act::Show { from: 6, to: 6 });
        assert_eq!(playing.press(Key::Next, &timeline), Act::Show { from: 6, to: 6 });
        for to in [4, 2, 0, 0] {
            assert_eq!(playing.press(Key::Previous, &timeline), Act::Anew { to });
        }
        assert_eq!(playing.press(Key::Pause, &timeline), Act::None);
        assert!(playing.wait(&timeline).is_some());
        assert_eq!(playing.press(Key::Quit, &timeline), Act::Quit);
        for _ in 0..20 {
            playing.press(Key::Faster, &timeline);
        }
        assert_eq!(playing.speed, speed("100"));
        for _ in 0..20 {
            playing.press(Key::Slower, &timeline);
        }
        assert_eq!(playing.speed, speed("0.1"));
    }

    #[test]
    fn it_begins_at_a_command_or_a_time() {
        let timeline = timeline();
        for (from, place) in [
            ("1", 0),
            ("2", 4),
            ("3", 6),
            ("0s", 0),
            ("11s", 2),
            ("1h", 6),
            ("1970-01-01T00:00:12Z", 4),
        ] {
            assert_eq!(timeline.place(from.parse().unwrap()), place, "{from}");
        }
        for bad in ["", "x", "-1", "1d", "1.5s", "yesterday"] {
            bad.parse::<From>().unwrap_err();
        }
        for bad in ["0", "-1", "101", "fast", "NaN", "inf"] {
            bad.parse::<Speed>().unwrap_err();
        }
    }
}
