//! `regex-map` and `regex-text`, its name since: a list of `replace: { regex, with }`, each run over the whole text that
//! the one before it left. `with` may speak of groups: `$1`, `${name}`. A value that is not UTF-8 fails.
//!
//! The very first `regex-map`, 0.1.0, wanted JSON in the end and wrote it anew; 0.1.1 and this leave the text alone.

use super::spec::With;
use super::{Error, Failure, Pattern, text};

#[derive(Clone, Debug, PartialEq)]
pub struct RegexText {
    replace: Vec<(Pattern, String)>,
}

impl RegexText {
    pub(super) fn from_with(with: &With<'_>) -> Result<Self, Error> {
        let spec = with.json("spec")?;
        let mut replace = Vec::new();
        for item in with.at("spec", &spec).list()? {
            let operation = item.map(&["replace"])?.need("replace")?;
            let fields = operation.map(&["regex", "with"])?;
            let regex = fields.need("regex")?;
            let pattern = Pattern::new(regex.text()?).map_err(|e| regex.bad(e.to_string()))?;
            replace.push((pattern, fields.text("with")?.into()));
        }
        Ok(Self { replace })
    }

    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut text = text(value)?.to_owned();
        for (pattern, with) in &self.replace {
            let mut replaced = String::with_capacity(text.len());
            pattern.replace_all(&text, with, &mut replaced)?;
            text = replaced;
        }
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
