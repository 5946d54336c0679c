//! TLS configurations: the only place where rustls configurations are made.
//!
//! The server side (certificates by SNI, ALPN) and the client side (`verify-full` always).
