//! The catalogue: what may be reached, where it stands, and how the gateway signs in there.
