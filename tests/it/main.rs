//! Integration tests: the built binary with real clients against real servers, and the rules of
//! the source tree. One binary, so that it links once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test that cannot go on says so by panicking, and reads the world as it is"
)]

mod architecture;
mod archive;
mod attacks;
mod browser;
mod browser_login;
mod cli;
mod cli_login;
mod cli_ways;
mod cluster;
mod corpus;
mod crash;
mod daemon;
mod demo;
mod demo_itself;
mod drivers;
mod events;
mod faults;
mod forgery;
mod gateway;
mod holds;
mod http;
mod identity;
mod idp;
mod known_attacks;
mod kubernetes;
mod ledger;
mod listening;
mod logged_in;
mod login;
mod login_machines;
mod login_providers;
mod machine;
mod masking;
mod parts;
mod parts_themselves;
mod postgres;
mod postgres_login;
mod psql18;
mod reconcile;
mod record;
mod replay;
mod residency;
mod sign_in;
mod site;
mod slow;
mod ssh;
mod ssh_device;
mod ssh_login;
mod state;
mod storage;
mod stores;
mod stores_later;
mod visitor;
mod wire;
