//! The handles over a ring in memory.
