//! Cargo's build script: how the released binary is linked.
//!
//! A position-independent program has 350 KB of relocations that say little; packed (DT_RELR) they take a few. Their
//! reader, glibc, knows that from 2.36 on, so it is done where the program is built for the machine that builds it and
//! that has it. Nothing else depends on it.

fn main() {
    println!("cargo:rerun-if-changed=scripts/build.rs");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let gnu = var("CARGO_CFG_TARGET_ENV") == "gnu" && var("CARGO_CFG_TARGET_OS") == "linux";
    if gnu && var("HOST") == var("TARGET") && var("PROFILE") == "release" && glibc() >= Some((2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// `glibc 2.41`, as this machine says.
fn glibc() -> Option<(u32, u32)> {
    let out = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
