//! Logs: one line per event on standard error, for people or for machines.
//!
//! Decides nothing and knows no other module. What other crates say below `info` is dropped
//! whatever the filter asks for: some of them write headers and messages, and with them
//! credentials, at their finer levels.

pub mod metrics;

use std::io;
use std::io::IsTerminal;

use tracing::Level;
use tracing::Metadata;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;

/// How logs are written.
#[derive(Debug, Clone)]
pub struct Options {
    /// For people, for machines, or by what standard error is.
    pub format: Format,
    /// What is logged, in the words of `tracing`'s env filter: `info`, `info,weir::listen=debug`.
    pub filter: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { format: Format::Auto, filter: "info".to_owned() }
    }
}

/// The form of a line of log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Human where standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not understood.
    #[error("the log filter `{filter}` is not understood")]
    Filter {
        /// The filter as it was written.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// Somebody set up logs in this process before.
    #[error("logs are set up twice")]
    Twice(#[source] TryInitError),
}

/// Sends the logs of the whole process to standard error. To be called once.
pub fn init(options: &Options) -> Result<(), LogError> {
    let filter = filter(&options.filter)?;
    let json = match options.format {
        Format::Auto => !io::stderr().is_terminal(),
        Format::Human => false,
        Format::Json => true,
    };
    let (human, machine) = if json {
        (None, Some(fmt::layer().json().flatten_event(true).with_writer(io::stderr)))
    } else {
        let colors = io::stderr().is_terminal();
        (Some(fmt::layer().with_ansi(colors).with_writer(io::stderr)), None)
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(is_harmless))
        .with(human)
        .with(machine)
        .try_init()
        .map_err(LogError::Twice)
}

fn filter(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(text)
        .map_err(|source| LogError::Filter { filter: text.to_owned(), source })
}

/// Whether an event may be logged if the filter asks for it: ours always, others' from `info` up.
fn is_harmless(event: &Metadata<'_>) -> bool {
    let ours = event.target() == "weir" || event.target().starts_with("weir::");
    ours || *event.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_filter_that_is_not_understood_is_an_error() {
        assert!(filter("info,weir::listen=debug").is_ok());
        assert!(filter("info,weir=loud").is_err());
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_makes_other_crates_talk_below_info() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::registry()
            .with(filter("trace").unwrap())
            .with(filter_fn(is_harmless))
            .with(fmt::layer().with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "h2::codec", "authorization: planted-secret");
            tracing::debug!(target: "weirdly", "planted-secret");
            tracing::info!(target: "h2::codec", "said at info");
            tracing::debug!(target: "weir::listen", "said at debug");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("planted-secret"), "{text}");
        assert!(text.contains("said at info") && text.contains("said at debug"), "{text}");
    }
}
