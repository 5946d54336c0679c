//! The four protocols, each with its bytes and its I/O loop; none makes a decision.

pub mod postgres;
pub mod ssh;
pub mod http;
pub mod kubernetes;
