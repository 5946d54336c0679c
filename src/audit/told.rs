//! A recording as it is told: events as JSON, each command's end with the beginning of what was shown
//! and sent.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use crate::audit::entry::TrailEvent;
use crate::audit::recording::Entry;
use crate::audit::recording::Stream;
use crate::audit::recording::What;
use crate::model::Command;

/// How much of what a command showed, and of what was sent, is told with its end, in bytes.
pub const SAMPLE_BYTES_MAX: usize = 64 * 1024;
/// How many commands whose end is not known yet samples are kept of.
const COMMANDS_MAX: usize = 1_024;

/// Turns entries into JSON, one after another.
#[derive(Debug)]
pub struct Teller {
    /// What was shown and sent is told.
    with_data: bool,
    /// What commands say is told, in full.
    with_texts: bool,
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
        Self { with_data, with_texts: true, samples: BTreeMap::new() }
    }

    /// From here on nothing that was shown and sent is told. A viewer of somebody else's session is
    /// not told either what commands say: their texts and bound values may carry the same data. What
    /// they do and touch is told, less the names of what may be called after a person.
    pub fn withhold(&mut self, own: bool) {
        self.with_data = false;
        self.with_texts &= own;
        self.samples.clear();
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
                if let TrailEvent::Command { command, .. } = &**event
                    && !self.with_texts
                    && let Some(told) = told.pointer_mut("/event/command")
                {
                    *told = in_outline(command);
                }
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

/// What a command does and touches, without what it says.
fn in_outline(command: &Command) -> Value {
    let objects = command.objects.iter().map(|object| {
        let name = object.has_plain_name().then_some(&object.name);
        json!({ "kind": object.kind, "name": name, "effect": object.effect })
    });
    json!({
        "verb": command.verb,
        "effects": command.effects,
        "objects": objects.collect::<Vec<_>>(),
        "reads": command.reads,
        "writes": command.writes,
        "withheld": true,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::model::Effect;
    use crate::model::Object;
    use crate::model::Verdict;

    #[test]
    fn whoever_may_not_see_the_data_does_not_read_it_in_commands() {
        let text = "SELECT * FROM people WHERE ssn = '123-45-6789'";
        let mut command = Command::new("query", text);
        command.details.push(("$1".to_owned(), "987-65-4321".to_owned()));
        command.facts.push(("where".to_owned(), "no".to_owned()));
        command.effects.insert(Effect::Read);
        command.objects.push(Object::new("table", "public.people", Effect::Read));
        command.objects.push(Object::new("path", "/patients/123-45-6789", Effect::Read));
        let event = TrailEvent::Command {
            number: 1,
            command: Arc::new(command),
            verdict: Verdict::Allow { rules: Vec::new() },
            observed: false,
            snapshot: None,
        };
        let entry = Entry { n: 2, at: Timestamp::UNIX_EPOCH, what: What::Event(Box::new(event)) };
        let mut teller = Teller::new(true);
        for own in [true, false] {
            teller.withhold(own);
            let told = teller.tell(&entry).unwrap();
            assert_eq!(told.to_string().contains("6789"), own, "{told}");
            assert_eq!(told.to_string().contains("4321"), own, "{told}");
            let command = &told["event"]["command"];
            assert_eq!(
                (&command["verb"], &command["effects"][0]),
                (&"query".into(), &"read".into())
            );
            assert_eq!(command["objects"][0]["name"], "public.people");
            assert_eq!(
                (&command["objects"][1]["kind"], command["withheld"] == true),
                (&"path".into(), !own)
            );
        }
    }
}
