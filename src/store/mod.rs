//! State in SQLite: the session index and holds.
