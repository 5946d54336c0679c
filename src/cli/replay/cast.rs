//! A recorded terminal as asciinema reads it: asciicast v2
//! (<https://docs.asciinema.org/manual/asciicast/v2/>), JSON lines.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use crate::cli::print::tame;
use crate::cli::replay::line::Line;
use crate::cli::replay::line::Way;
use crate::cli::replay::screen::Screen;

/// Writes the lines of an asciicast.
#[derive(Debug)]
pub(super) struct Cast {
    with_input: bool,
    idle_max: Option<Duration>,
    title: String,
    /// When the terminal began; before that there is nothing to be played.
    begun: Option<Timestamp>,
    screen: Screen,
}

impl Cast {
    /// What was typed is written if `with_input`; `idle_max` asks players to skip longer pauses.
    pub(super) fn new(with_input: bool, idle_max: Option<Duration>) -> Self {
        let (title, begun, screen) = (String::new(), None, Screen::default());
        Self { with_input, idle_max, title, begun, screen }
    }

    /// Whether anything was written.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// What a line of a recording adds.
    pub(super) fn tell(&mut self, line: &Line) -> Vec<Value> {
        match line {
            Line::Event { at, event } => match event["is"].as_str().unwrap_or_default() {
                "opened" => {
                    let word = |value: &Value| value.as_str().map(tame).unwrap_or_default();
                    let who = word(event.pointer("/principal/name").unwrap_or(&Value::Null));
                    self.title = format!("{who} at {}", word(&event["target"]));
                    Vec::new()
                }
                "terminal" => vec![self.size(*at, event)],
                _ => Vec::new(),
            },
            Line::Data { at, way: Way::Output | Way::Error, bytes, .. } => {
                let shown = self.screen.shown(bytes);
                let text = String::from_utf8_lossy(&shown);
                if text.is_empty() { Vec::new() } else { self.at(*at, "o", &text) }
            }
            Line::Data { at, way: Way::Input, bytes, .. } if self.with_input => {
                self.at(*at, "i", &String::from_utf8_lossy(bytes))
            }
            Line::Data { .. } | Line::Head { .. } | Line::End(_) | Line::Other => Vec::new(),
        }
    }

    /// The header, or another size.
    fn size(&mut self, at: Timestamp, event: &Value) -> Value {
        let number = |name: &str| event[name].as_u64().unwrap_or_default();
        let (columns, rows) = (number("columns"), number("rows"));
        if self.begun.is_some() {
            return json!([self.since(at), "r", format!("{columns}x{rows}")]);
        }
        self.begun = Some(at);
        // A terminal without a size is one of the usual size.
        let or = |number: u64, usual: u64| if number == 0 { usual } else { number };
        let mut header = json!({
            "version": 2,
            "width": or(columns, 80),
            "height": or(rows, 24),
            "timestamp": at.as_second(),
            "title": self.title,
        });
        if let (Some(idle_max), Value::Object(header)) = (self.idle_max, &mut header) {
            header.insert("idle_time_limit".to_owned(), json!(idle_max.as_secs_f64()));
        }
        header
    }

    fn at(&self, at: Timestamp, kind: &str, text: &str) -> Vec<Value> {
        if self.begun.is_none() {
            return Vec::new();
        }
        vec![json!([self.since(at), kind, text])]
    }

    /// Seconds since the terminal began, to the microsecond.
    fn since(&self, at: Timestamp) -> f64 {
        let since = self.begun.map_or(Duration::ZERO, |begun| {
            Duration::try_from(at.duration_since(begun)).unwrap_or_default()
        });
        let whole = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(whole).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(with_input: bool) -> Vec<Value> {
        let mut cast = Cast::new(with_input, Some(Duration::from_millis(1_500)));
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        let event = |ms, event| Line::Event { at: at(ms), event };
        let data = |ms, way, bytes: &[u8]| Line::Data {
            at: at(ms),
            command: 1,
            way,
            bytes: bytes.to_vec(),
        };
        let lines = [
            event(
                9_000,
                json!({ "is": "opened", "principal": { "name": "alice" }, "target": "web-1" }),
            ),
            data(9_500, Way::Output, b"before there was a terminal"),
            event(10_000, json!({ "is": "terminal", "number": 1, "columns": 123, "rows": 41 })),
            data(10_250, Way::Output, b"caf\xc3"),
            data(10_500, Way::Output, b"\xa9 \x1b]52;c;x\x07\x1b[1mok"),
            data(10_600, Way::Input, b"ls\r"),
            event(11_000, json!({ "is": "terminal", "number": 1, "columns": 99, "rows": 50 })),
        ];
        lines.iter().flat_map(|line| cast.tell(line)).collect()
    }

    #[test]
    fn a_cast_has_its_header_output_and_sizes() {
        assert_eq!(
            told(false),
            [
                json!({ "version": 2, "width": 123, "height": 41, "timestamp": 10, "title": "alice at web-1",
                    "idle_time_limit": 1.5 }),
                json!([0.25, "o", "caf"]),
                json!([0.5, "o", "é \u{1b}[1mok"]),
                json!([1.0, "r", "99x50"]),
            ]
        );
    }

    #[test]
    fn what_was_typed_is_in_it_only_if_asked_for() {
        assert!(told(true).contains(&json!([0.6, "i", "ls\r"])));
    }
}
