//! One principal at one target: the guard and what it holds.
