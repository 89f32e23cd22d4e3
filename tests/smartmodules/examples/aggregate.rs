//! The sum of numbers, times the parameter `factor` if there is one. Fails on anything else.

use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{RecordData, Result, SmartModuleRecord, smartmodule};

static FACTOR: OnceLock<i64> = OnceLock::new();

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let factor = params.get("factor").map(|text| text.parse()).transpose()?.unwrap_or(1);
    let _ = FACTOR.set(factor);
    Ok(())
}

#[smartmodule(aggregate)]
pub fn aggregate(accumulator: RecordData, current: &SmartModuleRecord) -> Result<RecordData> {
    let sum: i64 = std::str::from_utf8(accumulator.as_ref())?.parse().unwrap_or(0);
    let number: i64 = std::str::from_utf8(current.value.as_ref())?.parse()?;
    Ok((sum + number * FACTOR.get().copied().unwrap_or(0)).to_string().into())
}
