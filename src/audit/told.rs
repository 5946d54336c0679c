//! A recording as it is told: events as JSON, each command's end with the beginning of what was shown
//! and sent.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use crate::audit::entry::TrailEvent;
use crate::audit::recording::Entry;
use crate::audit::recording::Stream;
use crate::audit::recording::What;

/// How much of what a command showed, and of what was sent, is told with its end, in bytes.
pub const SAMPLE_BYTES_MAX: usize = 64 * 1024;
/// How many commands whose end is not known yet samples are kept of.
const COMMANDS_MAX: usize = 1_024;

/// Turns entries into JSON, one after another.
#[derive(Debug)]
pub struct Teller {
    /// What was shown and sent is told.
    with_data: bool,
    samples: BTreeMap<u64, Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    result: Sample,
    sent: Sample,
}

#[derive(Debug, Default)]
struct Sample {
    bytes: Vec<u8>,
    cut: bool,
}

impl Sample {
    fn add(&mut self, more: &[u8]) {
        let room = SAMPLE_BYTES_MAX.saturating_sub(self.bytes.len());
        let kept = more.get(..room.min(more.len())).unwrap_or_default();
        self.cut |= kept.len() < more.len();
        self.bytes.extend_from_slice(kept);
    }

    fn told(&self, cut: bool) -> Option<Value> {
        let cut = cut || self.cut;
        if self.bytes.is_empty() && !cut {
            return None;
        }
        Some(json!({ "text": String::from_utf8_lossy(&self.bytes), "cut": cut }))
    }
}

impl Teller {
    /// Tells events alone, or with what was shown and sent.
    pub fn new(with_data: bool) -> Self {
        Self { with_data, samples: BTreeMap::new() }
    }

    /// What `entry` says, as JSON; `None` for data, which is told with the command's end.
    pub fn tell(&mut self, entry: &Entry) -> Option<Value> {
        match &entry.what {
            What::Data { command, stream, bytes } => {
                self.keep(*command, *stream, bytes);
                None
            }
            What::Event(event) => {
                let mut told = json!({ "n": entry.n, "at": entry.at, "event": event });
                if let TrailEvent::Ended { number, result_cut, sent_cut, .. } = &**event {
                    let samples = self.samples.remove(number).unwrap_or_default();
                    if self.with_data
                        && let Some(Value::Object(event)) = told.get_mut("event")
                    {
                        event.extend(
                            [
                                ("result", samples.result.told(*result_cut)),
                                ("sent", samples.sent.told(*sent_cut)),
                            ]
                            .into_iter()
                            .filter_map(|(name, told)| Some((name.to_owned(), told?))),
                        );
                    }
                }
                Some(told)
            }
        }
    }

    fn keep(&mut self, command: u64, stream: Stream, bytes: &[u8]) {
        if !self.with_data
            || (self.samples.len() >= COMMANDS_MAX && !self.samples.contains_key(&command))
        {
            return;
        }
        let samples = self.samples.entry(command).or_default();
        match stream {
            Stream::Output | Stream::Error => samples.result.add(bytes),
            Stream::Input => samples.sent.add(bytes),
        }
    }
}
