//! The accept loop: each connection to its protocol, each in a task of its own.
