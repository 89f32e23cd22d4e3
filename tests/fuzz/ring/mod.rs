//! Rings for the fuzzer: images to begin with, damage that an input asks for, and what must hold of any of them.

pub mod damage;
pub mod image;
pub mod play;
pub mod seal;
