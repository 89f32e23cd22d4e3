//! Templates: `{node}`, `{topic}`, `{key}`, `{source}`, `{label.x}`, `{mqtt.1}` and any other attribute, `{field.x}` (a JSON
//! field of the value), with `{{` and `}}` for braces.

use crate::record::RecordRef;

/// A parsed template. Two with the same text are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{{` without `}}` in `{0}`")]
    Unclosed(String),
    #[error("unknown placeholder `{{{name}}}` in `{text}`{hint}")]
    Unknown { name: String, text: String, hint: String },
}

/// What a template may speak of beside the record itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub node: &'a str,
    pub topic: &'a str,
    pub source: &'a str,
    pub labels: &'a std::collections::BTreeMap<String, String>,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { text: text.to_owned() })
    }
    pub fn text(&self) -> &str {
        &self.text
    }
    /// Appends the rendered bytes to `out`; false when a placeholder had nothing to stand for (missing attribute
    /// or field), in which case nothing is appended.
    pub fn render(&self, _context: &Context<'_>, _record: &RecordRef<'_>, _out: &mut Vec<u8>) -> bool {
        todo!()
    }
}
