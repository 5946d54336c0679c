//! The transfer decision: does this flow move personal data across a border, and on what basis?

/// The law data.
#[derive(Debug, Clone)]
pub struct Pack;
/// A registered basis.
#[derive(Debug, Clone)]
pub struct Basis;
/// The transfer decision.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Decision;
