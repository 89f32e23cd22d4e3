//! Configuration: raw TOML in, a checked [`Config`] or every error at once out.

pub mod model;

pub use model::*;
