//! What a module built for wasm32-wasip1 brings along: a hash map (random numbers), the clock, text on its outputs, files
//! that are not there. Says all of it in its value.

use std::collections::HashMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, smartmodule};

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let mut counts = HashMap::new();
    for byte in record.value.as_ref() {
        *counts.entry(*byte).or_insert(0) += 1;
    }
    let most = counts.into_iter().max_by_key(|(byte, n)| (*n, *byte)).map(|(byte, _)| byte as char);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let waited = Instant::now().elapsed().as_nanos();
    let file = std::fs::read("/etc/passwd").is_ok();
    let home = std::env::var("HOME").is_ok();
    println!("out {}", record.offset());
    eprintln!("err {}", record.offset());
    if record.value.as_ref() == b"exit" {
        std::process::exit(3);
    }
    Ok((None, format!("{most:?} {now} {waited} {file} {home}").into()))
}
