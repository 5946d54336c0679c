//! Whose fault an error is, and how a chain of causes is printed.

use std::error::Error;
use std::fmt;

use serde::Serialize;

/// Whose fault an error is: log level and alerting key on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The client sent something wrong, or went away.
    Client,
    /// The target cannot be reached, or broke its protocol.
    Target,
    /// The identity provider cannot be reached, or answered nonsense.
    Provider,
    /// The gateway itself: disk full, wrong configuration, a bug.
    Gateway,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Target => "target",
            Self::Provider => "provider",
            Self::Gateway => "gateway",
        })
    }
}

/// Prints an error and its causes in one line, each once: `could not dial: refused`.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
