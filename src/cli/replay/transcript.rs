//! A recording as people read it, like a log: what was asked, what was decided, what came back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::print::tame;
use crate::cli::replay::line::Line;
use crate::cli::replay::line::Way;
use crate::cli::show;

/// Longest line of a result that is held until its end comes, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Turns lines of a recording into lines of text; remembers lines of results that are not whole.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    held: BTreeMap<(u64, Way), Vec<u8>>,
}

impl Transcript {
    /// What `line` says.
    pub(super) fn tell(&mut self, line: &Line) -> Vec<String> {
        match line {
            Line::Event { at, event } => self.event(*at, event),
            Line::Data { command, way, bytes, .. } => self.data(*command, *way, bytes),
            Line::Head { withheld: true } => {
                vec!["results are left out: they may carry a class that you may not see".to_owned()]
            }
            Line::Head { withheld: false } | Line::End(_) | Line::Other => Vec::new(),
        }
    }

    /// What is held of lines that never ended.
    pub(super) fn rest(&mut self) -> Vec<String> {
        let held = std::mem::take(&mut self.held);
        held.iter().map(|((_, way), bytes)| result(*way, bytes)).collect()
    }

    fn event(&mut self, at: Timestamp, event: &Value) -> Vec<String> {
        let mut lines = Vec::new();
        let is = event["is"].as_str().unwrap_or_default();
        if is == "leg" {
            return lines;
        }
        if let (true, Some(number)) = (is == "ended", event["number"].as_u64()) {
            for way in [Way::Output, Way::Input, Way::Error] {
                let held = self.held.remove(&(number, way));
                lines.extend(held.map(|bytes| result(way, &bytes)));
            }
        }
        let headline = if is == "terminal" {
            let number = |name: &str| event[name].as_u64().unwrap_or_default();
            format!("#{} terminal {}x{}", number("number"), number("columns"), number("rows"))
        } else {
            show::headline(event)
        };
        lines.push(format!("{}  {headline}", time(at)));
        lines.extend(show::details(event).into_iter().map(|detail| format!("    {detail}")));
        for (name, what) in [("result_cut", "result"), ("sent_cut", "input")] {
            if event[name] == true {
                lines.push(format!("    the {what} is longer than what is kept of it"));
            }
        }
        lines
    }

    fn data(&mut self, command: u64, way: Way, bytes: &[u8]) -> Vec<String> {
        let held = self.held.entry((command, way)).or_default();
        held.extend_from_slice(bytes);
        let mut lines = Vec::new();
        let mut done = 0_usize;
        for end in memchr::memchr_iter(b'\n', held) {
            lines.push(result(way, held.get(done..end).unwrap_or_default()));
            done = end.saturating_add(1);
        }
        held.drain(..done);
        if held.len() > LINE_BYTES_MAX {
            lines.push(result(way, held));
            held.clear();
        }
        if held.is_empty() {
            self.held.remove(&(command, way));
        }
        lines
    }
}

fn result(way: Way, bytes: &[u8]) -> String {
    let mark = match way {
        Way::Output => '>',
        Way::Input => '<',
        Way::Error => '!',
    };
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    format!("    {mark} {}", tame(&String::from_utf8_lossy(bytes)))
}

/// A time to the millisecond.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn results_are_told_line_by_line_and_tamed() {
        let mut transcript = Transcript::default();
        let data = |bytes: &[u8]| Line::Data {
            at: at(0),
            command: 2,
            way: Way::Output,
            bytes: bytes.to_vec(),
        };
        assert_eq!(transcript.tell(&data(b"one\ntw")), ["    > one"]);
        assert_eq!(
            transcript.tell(&data(b"o \x1b]52;c;x\x07\r\n")),
            ["    > two \\u{1b}]52;c;x\\u{7}"]
        );
        assert_eq!(transcript.tell(&data(b"three")), Vec::<String>::new());
        let ended = json!({
            "is": "ended", "number": 2, "ending": { "how": "done", "status": "SELECT 3" },
            "volume": { "rows": 3, "bytes": 14, "masked": 0 }, "result_cut": true,
        });
        let told = transcript.tell(&Line::Event { at: at(1_500), event: ended });
        assert_eq!(
            told,
            [
                "    > three",
                "1970-01-01T00:00:01.500Z  #2 done SELECT 3, 3 rows, 14 bytes, 0 values masked",
                "    the result is longer than what is kept of it",
            ]
        );
        transcript.tell(&data(b"never ended"));
        assert_eq!(transcript.rest(), ["    > never ended"]);
    }

    #[test]
    fn a_long_line_is_not_held_for_ever() {
        let mut transcript = Transcript::default();
        let bytes = vec![b'x'; LINE_BYTES_MAX + 1];
        let data = Line::Data { at: at(0), command: 1, way: Way::Error, bytes };
        assert_eq!(transcript.tell(&data).len(), 1);
        assert!(transcript.rest().is_empty());
    }
}
