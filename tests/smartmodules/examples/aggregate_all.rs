//! Everything, one after the other: an accumulator that only grows.

use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, smartmodule};

#[smartmodule(aggregate)]
pub fn aggregate(accumulator: RecordData, current: &SmartModuleRecord) -> Result<RecordData> {
    Ok([accumulator.as_ref(), current.value.as_ref()].concat().into())
}
