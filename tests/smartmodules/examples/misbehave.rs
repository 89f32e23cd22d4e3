//! Does what the record says: `panic`, `loop`, `hog` (memory), `deep` (recursion), `leak`, `fail`. Anything else it maps to
//! the count of records that it has seen.

use std::sync::atomic::{AtomicU32, Ordering};

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, eyre, smartmodule};

static SEEN: AtomicU32 = AtomicU32::new(0);

fn deep(n: u64) -> u64 {
    if std::hint::black_box(n) == 0 { 0 } else { 1 + std::hint::black_box(deep(n - 1)) }
}

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    match record.value.as_ref() {
        b"panic" => panic!("as asked"),
        b"loop" => loop {
            SEEN.fetch_add(1, Ordering::Relaxed);
        },
        b"hog" => {
            let mut all = Vec::new();
            while all.len() < 100_000 {
                all.push(vec![seen as u8; 64 * 1024]);
            }
            Ok((None, all.concat().into()))
        }
        b"deep" => Ok((None, deep(1 << 30).to_string().into())),
        b"leak" => {
            std::mem::forget(vec![1u8; 256 * 1024]);
            Ok((None, seen.to_string().into()))
        }
        b"fail" => Err(eyre!("as asked")),
        _ => Ok((record.key.clone(), seen.to_string().into())),
    }
}
