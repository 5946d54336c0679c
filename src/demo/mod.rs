//! `weir demo`: a gateway with embedded defaults in front of real servers.
