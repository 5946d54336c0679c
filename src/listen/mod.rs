//! The sockets: limits, the PROXY header, what a connection speaks, and draining.
//!
//! Knows addresses and first bytes; knows nobody by name and no target.
