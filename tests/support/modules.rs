//! Where the SmartModules of the tests lie; built from source (tests/smartmodules) if they do not.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

pub fn modules() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = std::env::var_os("HEADWATER_SMARTMODULES") {
            return dir.into();
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/smartmodules.sh");
        let output = Command::new(script).output().expect("scripts/smartmodules.sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().lines().last().unwrap().into()
    })
}

pub fn bytes_of(name: &str) -> Vec<u8> {
    let path = modules().join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e} (scripts/smartmodules.sh builds it)", path.display()))
}
