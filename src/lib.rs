#![doc = include_str!("../ARCHITECTURE.md")]

// The way of a connection, in travelling order.
pub mod listen;
pub mod tls;
pub mod identity;
pub mod target;
pub mod policy;
pub mod upstream;
pub mod session;
pub mod mask;
pub mod audit;
pub mod protocol;

// What they all speak, and what surrounds them.
pub mod model;
pub mod store;
pub mod api;
pub mod config;
pub mod daemon;
pub mod cli;
pub mod telemetry;
pub mod demo;
#[doc(hidden)]
pub mod fuzzing;
