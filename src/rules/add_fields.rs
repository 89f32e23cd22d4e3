//! `add-fields`: sets fields of a JSON object, in their place where they exist, at the end where not; objects on the way
//! to a field are made.
//!
//! A value is JSON as it was written in the config, or a template. `{field.x}` alone copies the field as it stands, a
//! number stays a number; every other template gives a string. A template that has nothing to stand for adds nothing.

use super::rewrite::{Leaf, Plan, PlanError, RewriteError};
use crate::json::{self, Path};
use crate::record::RecordRef;
use crate::template::{Context, Template};

#[derive(Clone, Debug, PartialEq)]
pub struct AddFields {
    plan: Plan,
    values: Vec<FieldValue>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// A JSON literal.
    Json(String),
    Template(Template),
}

impl AddFields {
    pub fn new(fields: Vec<(Path, FieldValue)>) -> Result<Self, PlanError> {
        let (paths, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let leaves = paths.into_iter().enumerate().map(|(i, path)| (path, Leaf::Set(i))).collect();
        Ok(Self { plan: Plan::new(leaves, true)?, values })
    }

    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.values.iter().filter_map(|v| if let FieldValue::Template(t) = v { Some(t) } else { None })
    }

    /// `text` is scratch for rendering.
    pub fn rewrite(
        &self,
        context: &Context<'_>,
        record: &RecordRef<'_>,
        text: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, RewriteError> {
        let mut fill = |number: usize, out: &mut Vec<u8>| match &self.values[number] {
            FieldValue::Json(literal) => {
                out.extend_from_slice(literal.as_bytes());
                true
            }
            FieldValue::Template(template) => match template.as_field() {
                Some(path) => match json::find_raw(record.value, path) {
                    Ok(Some(raw)) => {
                        out.extend_from_slice(raw);
                        true
                    }
                    Ok(None) | Err(_) => false,
                },
                None => {
                    text.clear();
                    let whole = template.render(context, record, text);
                    if whole {
                        json::write_string(text, out);
                    }
                    whole
                }
            },
        };
        self.plan.apply(record.value, &mut fill, out)
    }
}
