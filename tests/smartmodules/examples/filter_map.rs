//! Halves even numbers, drops odd ones, fails on anything else.

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, smartmodule};

#[smartmodule(filter_map)]
pub fn filter_map(record: &SmartModuleRecord) -> Result<Option<(Option<RecordData>, RecordData)>> {
    let number: i64 = std::str::from_utf8(record.value.as_ref())?.trim().parse()?;
    let half = (number / 2).to_string();
    Ok((number % 2 == 0).then(|| (record.key.clone(), half.into())))
}
