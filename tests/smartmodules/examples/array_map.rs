//! A record for each line; the keys are the line numbers. Fails on `bad`.

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, eyre, smartmodule};

#[smartmodule(array_map)]
pub fn array_map(record: &SmartModuleRecord) -> Result<Vec<(Option<RecordData>, RecordData)>> {
    let text = std::str::from_utf8(record.value.as_ref())?;
    if text == "bad" {
        return Err(eyre!("a bad record"));
    }
    let line = |(i, line): (usize, &str)| ((i > 0).then(|| i.to_string().into()), line.into());
    Ok(text.lines().enumerate().map(line).collect())
}
