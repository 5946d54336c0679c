//! Who is in the midst of signing in: what is kept in memory between one request and the next.

use crate::api::rates::Rates;

/// Most wrong secrets of an address within a minute.
const GUESSES_MAX: u32 = 60;

/// What is kept between the requests of one sign-in; bounded, and lost with the process.
#[derive(Debug)]
pub struct Signing {
    pub(super) guesses: Rates,
}

impl Default for Signing {
    fn default() -> Self {
        Self { guesses: Rates::new(GUESSES_MAX) }
    }
}
