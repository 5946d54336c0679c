//! The record: trails, the ledger, and their verification.
