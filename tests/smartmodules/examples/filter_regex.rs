//! Passes records whose value matches the parameter `regex`.

use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::{SmartModuleExtraParams, SmartModuleInitError};
use fluvio_smartmodule::{Result, SmartModuleRecord, eyre, smartmodule};
use regex::bytes::Regex;

static REGEX: OnceLock<Regex> = OnceLock::new();

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let text = params.get("regex").ok_or_else(|| SmartModuleInitError::MissingParam("regex".to_owned()))?;
    REGEX.set(Regex::new(text)?).map_err(|_| eyre!("init was called twice"))
}

#[smartmodule(filter)]
pub fn filter(record: &SmartModuleRecord) -> Result<bool> {
    Ok(REGEX.get().ok_or_else(|| eyre!("init was not called"))?.is_match(record.value.as_ref()))
}
