//! One entry point per parser, for fuzzing and for replaying the corpus.
