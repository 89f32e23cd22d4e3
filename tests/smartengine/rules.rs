//! Of the rules only the host.

#[path = "../../src/rules/wasm/mod.rs"]
pub mod wasm;
