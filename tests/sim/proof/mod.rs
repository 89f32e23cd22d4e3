//! Proofs by exhaustion: of small rings, every place where a machine may stop, every call that may fail, every bit that
//! may flip.
//!
//! - [`cow`]: a disk whose images cost next to nothing.
//! - [`book`]: what a ring was given and acknowledged, and whether an image still says so.
//! - [`work`]: a workload from one seed, call by call.
//! - [`cuts`]: a crash at every call.
//! - [`flips`]: every bit of a slot.
//! - [`faults`]: every call that may fail.

mod book;
mod cow;
mod cuts;
mod faults;
mod flips;
mod work;
