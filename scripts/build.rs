//! Cargo's build script: how the released binary is linked.
//!
//! A position-independent program has 350 KB of relocations that say little; packed (DT_RELR) they take a few. Their
//! reader, glibc, knows that from 2.36 on, so it is done where the program is built for the machine that builds it and
//! that has it. Nothing else depends on it.
//!
//! The `dist` profile aborts on a panic, so the tables for unwinding are left out: 830 KB, and what they would tell is the
//! addresses of a backtrace whose names are stripped.

fn main() {
    println!("cargo:rerun-if-changed=scripts/build.rs");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let gnu = var("CARGO_CFG_TARGET_ENV") == "gnu" && var("CARGO_CFG_TARGET_OS") == "linux";
    if gnu && var("HOST") == var("TARGET") && var("PROFILE") == "release" && glibc() >= Some((2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    // Cargo tells a script only what a profile inherits from; its name is that of the folder.
    let out = var("OUT_DIR");
    let profile = std::path::Path::new(&out).ancestors().nth(3).and_then(|path| path.file_name());
    if profile.is_some_and(|name| name == "dist") {
        println!("cargo:rustc-link-arg-bins=-T");
        println!("cargo:rustc-link-arg-bins={}/scripts/abort.ld", var("CARGO_MANIFEST_DIR"));
        println!("cargo:rerun-if-changed=scripts/abort.ld");
    }
}

/// `glibc 2.41`, as this machine says.
fn glibc() -> Option<(u32, u32)> {
    let out = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
