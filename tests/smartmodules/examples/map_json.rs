//! Parses JSON, adds where and when the record was, and gives it the key `json`.

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, eyre, smartmodule};
use serde_json::Value;

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let mut value: Value = serde_json::from_slice(record.value.as_ref())?;
    let fields = value.as_object_mut().ok_or_else(|| eyre!("not an object"))?;
    fields.insert("offset".to_owned(), record.offset().into());
    fields.insert("time".to_owned(), record.timestamp().into());
    Ok((Some("json".into()), serde_json::to_vec(&value)?.into()))
}
