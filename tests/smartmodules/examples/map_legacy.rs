//! Upper case, by the older interface: a `Record` without its offset.

use fluvio_smartmodule::{Record, RecordData, Result, smartmodule};

#[smartmodule(map)]
pub fn map(record: &Record) -> Result<(Option<RecordData>, RecordData)> {
    let text = std::str::from_utf8(record.value.as_ref())?;
    Ok((record.key.clone(), text.to_uppercase().into()))
}
