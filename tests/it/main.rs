//! Integration tests: the built binary with real clients against real servers, and the rules of
//! the source tree. One binary, so that it links once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    dead_code,
    reason = "a test that cannot go on says so by panicking"
)]

mod architecture;
mod attacks;
mod cli;
mod demo;
mod forgery;
mod parts;
mod record;
mod residency;
