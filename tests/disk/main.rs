//! The real binary on real file systems that fill, go and fail: loop-mounted cards, and system calls that the kernel was
//! asked to fail (`strace -e inject`; the node makes raw calls, so nothing else gets between).
//!
//! What needs root, loop devices, f2fs or ptrace says "not available here" where it is not.

mod card;
mod directory;
mod fault;
mod followed;
mod full;
mod hanging;
mod kept;
mod moment;
#[path = "../node/node.rs"]
#[allow(dead_code, reason = "shared: what the node's tests ask of it")]
mod node;
mod power;
mod recorded;
mod short;
mod trouble;
