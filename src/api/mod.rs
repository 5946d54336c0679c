//! The HTTP API behind the command line.
