//! Passes values that are larger than every one before, those of the past included; fails on what is no number, and traps on
//! `trap`.

use std::sync::atomic::{AtomicI64, Ordering};

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{Result, SmartModuleRecord, eyre, smartmodule};

static LARGEST: AtomicI64 = AtomicI64::new(i64::MIN);
static LAST: AtomicI64 = AtomicI64::new(-1);

fn number(record: &SmartModuleRecord) -> Result<i64> {
    Ok(std::str::from_utf8(record.value.as_ref())?.parse()?)
}

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    LAST.store(params.lookback().map_or(-1, |l| l.last as i64), Ordering::Relaxed);
    Ok(())
}

#[smartmodule(look_back)]
pub fn look_back(record: &SmartModuleRecord) -> Result<()> {
    if LAST.load(Ordering::Relaxed) < 0 {
        return Err(eyre!("nobody said how far to look back"));
    }
    LARGEST.fetch_max(number(record)?, Ordering::Relaxed);
    Ok(())
}

#[smartmodule(filter)]
pub fn filter(record: &SmartModuleRecord) -> Result<bool> {
    assert!(record.value.as_ref() != b"trap", "it was asked to");
    let number = number(record)?;
    Ok(LARGEST.fetch_max(number, Ordering::Relaxed) < number)
}
