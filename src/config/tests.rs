//! The configuration as a whole: the example, and a table of mistakes.
