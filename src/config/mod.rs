//! What was written: one TOML file and a folder of Cedar policies.
