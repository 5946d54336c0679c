//! The transfer decision: does this flow move personal data across a border, and on what basis?
