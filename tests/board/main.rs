//! An emulated board: a stock-like image of Debian for arm64 through `flash.sh`, booted by QEMU. The node on it under a live
//! systemd, without a network and with one, its power pulled at any moment.
//!
//! Run by `scripts/test-board.sh`, which makes the image and says where it is; not part of `cargo test`.

#[path = "../disk/card.rs"]
#[allow(dead_code, reason = "shared: cards of the disk's tests")]
mod card;
mod cuts;
#[path = "../disk/kept.rs"]
#[allow(dead_code, reason = "shared: what the disk's tests ask of it")]
mod kept;
mod kills;
mod life;
mod machine;
#[path = "../disk/moment.rs"]
mod moment;
#[path = "../node/node.rs"]
#[allow(dead_code, reason = "shared: what the node's tests ask of it")]
mod node;
mod overlay;
#[path = "../disk/recorded.rs"]
#[allow(dead_code, reason = "shared: a device that is recorded by another program")]
mod recorded;
#[path = "../node/rings.rs"]
#[allow(dead_code, reason = "shared: what the node's tests ask of it")]
mod rings;
mod service;
mod site;
mod update;
