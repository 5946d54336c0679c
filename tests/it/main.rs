//! Integration tests: the built binary with real clients against real servers, and the rules of
//! the source tree. One binary, so that it links once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "a test that cannot go on says so by panicking"
)]

mod architecture;
mod cli;
mod daemon;
mod demo;
mod faults;
mod forgery;
mod gateway;
mod identity;
mod listening;
mod parts;
mod record;
mod residency;
