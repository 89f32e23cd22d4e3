//! `json-sql`: a value's fields as an insert, or upsert, for a table: what Fluvio's SQL sink reads (its `fluvio-model-sql`).
//!
//! ```yaml
//! mapping:
//!   table: topic_message
//!   operation: upsert            # or insert, the default
//!   uniq-idx: device_id          # of an upsert
//!   map-columns:                 # or columns
//!     device_id:
//!       json-key: device.id      # dots; a leading `$.` or `.` says nothing; `$` is the whole value
//!       value: { type: int, default: 0, required: true }
//! ```
//!
//! A field that is not there is its default; else, if it is required, the record fails; else it is empty text.

use std::borrow::Cow;

use serde_json::Value;

use super::spec::{At, With};
use super::{Error, Failure, bounded, field_text, parse, write};

#[derive(Clone, Debug, PartialEq)]
pub struct JsonSql {
    table: String,
    /// What makes a row the same; None: insert.
    upsert: Option<String>,
    columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq)]
struct Column {
    name: String,
    /// As it was written, for messages.
    json_key: String,
    pointer: String,
    kind: &'static str,
    default: Option<String>,
    required: bool,
}

/// The types of a mapping, and their names in the model.
const TYPES: [(&str, &str); 26] = [
    ("bigint", "BigInt"),
    ("int8", "BigInt"),
    ("integer", "Int"),
    ("int4", "Int"),
    ("int", "Int"),
    ("smallint", "SmallInt"),
    ("int2", "SmallInt"),
    ("boolean", "Bool"),
    ("bool", "Bool"),
    ("bytea", "Bytes"),
    ("bytes", "Bytes"),
    ("text", "Text"),
    ("float", "Float"),
    ("float4", "Float"),
    ("real", "Float"),
    ("doubleprecision", "DoublePrecision"),
    ("double precision", "DoublePrecision"),
    ("float8", "DoublePrecision"),
    ("numeric", "Numeric"),
    ("decimal", "Numeric"),
    ("date", "Date"),
    ("time", "Time"),
    ("timestamp", "Timestamp"),
    ("json", "Json"),
    ("jsonb", "Json"),
    ("uuid", "Uuid"),
];

impl JsonSql {
    pub(super) fn from_with(with: &With<'_>) -> Result<Self, Error> {
        let spec = with.json("mapping")?;
        let at = with.at("mapping", &spec);
        let mapping = at.map(&["table", "operation", "uniq-idx", "columns", "map-columns"])?;
        let index = mapping.get("uniq-idx").map(|at| at.text()).transpose()?;
        let upsert = match mapping.get("operation").map(|at| at.text().map(|text| (at, text))).transpose()? {
            None | Some((_, "insert")) => None,
            Some((at, "upsert")) => Some(index.ok_or_else(|| at.bad("an upsert needs `uniq-idx`"))?.to_owned()),
            Some((at, _)) => return Err(at.bad("`insert` or `upsert` is expected")),
        };
        let columns = match (mapping.get("columns"), mapping.get("map-columns")) {
            (Some(_), Some(twice)) => return Err(twice.bad("it is the same as `columns`: one of them")),
            (Some(columns), None) => columns,
            (None, _) => mapping.need("map-columns")?,
        };
        let columns = columns.members()?.iter().map(|(name, at)| Column::read(name, at)).collect::<Result<_, _>>()?;
        Ok(Self { table: mapping.text("table")?.into(), upsert, columns })
    }

    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let json: Value = parse(value)?;
        let head = if self.upsert.is_some() { r#"{"Upsert":{"table":"# } else { r#"{"Insert":{"table":"# };
        out.extend_from_slice(head.as_bytes());
        write(self.table.as_str(), out)?;
        let mut before = r#","values":["#;
        for column in &self.columns {
            let raw = column.raw_value(&json)?;
            for (name, text) in
                [("{\"column\":", column.name.as_str()), (",\"raw_value\":", &raw), (",\"type\":", column.kind)]
            {
                out.extend_from_slice(std::mem::take(&mut before).as_bytes());
                out.extend_from_slice(name.as_bytes());
                write(text, out)?;
            }
            before = "},";
        }
        let tail = if self.columns.is_empty() { r#","values":[]"# } else { "}]" };
        out.extend_from_slice(tail.as_bytes());
        if let Some(index) = &self.upsert {
            out.extend_from_slice(br#","uniq_idx":"#);
            write(index.as_str(), out)?;
        }
        out.extend_from_slice(b"}}");
        bounded(out.len())
    }
}

impl Column {
    fn read(name: &str, at: At<'_>) -> Result<Self, Error> {
        let column = at.map(&["json-key", "json_key", "value"])?;
        let json_key = match (column.get("json_key"), column.get("json-key")) {
            (Some(_), Some(twice)) => return Err(twice.bad("it is the same as `json_key`: one of them")),
            (Some(key), None) => key.text()?,
            (None, _) => column.need("json-key")?.text()?,
        };
        let value = column.need("value")?;
        let value = value.map(&["type", "default", "required"])?;
        let kind = value.need("type")?;
        let Some((_, model)) = TYPES.iter().find(|(text, _)| kind.value() == text) else {
            let known: Vec<&str> = TYPES.iter().map(|(text, _)| *text).collect();
            return Err(kind.bad(format!("one of {} is expected", known.join(", "))));
        };
        let default = match value.get("default").map(|at| (at.value(), at)) {
            None => None,
            Some((Value::String(text), _)) => Some(text.clone()),
            // As `Display` has them, not as JSON: `1e20` is twenty-one digits.
            Some((Value::Number(n), _)) => {
                Some(n.as_f64().filter(|_| n.is_f64()).map_or_else(|| n.to_string(), |f| f.to_string()))
            }
            Some((_, at)) => return Err(at.bad("text or a number is expected")),
        };
        let required = match value.get("required").map(|at| (at.value(), at)) {
            None => false,
            Some((Value::Bool(required), _)) => *required,
            Some((_, at)) => return Err(at.bad("true or false is expected")),
        };
        let pointer = pointer(json_key);
        Ok(Self { name: name.into(), json_key: json_key.into(), pointer, kind: model, default, required })
    }

    fn raw_value<'v>(&'v self, json: &'v Value) -> Result<Cow<'v, str>, Failure> {
        match (json.pointer(&self.pointer), &self.default) {
            (Some(field), _) => Ok(field_text(field)),
            (None, Some(default)) => Ok(default.into()),
            (None, None) if self.required => Err(Failure::Missing(self.json_key.clone())),
            (None, None) => Ok("".into()),
        }
    }
}

/// A dotted path as a JSON pointer.
fn pointer(json_key: &str) -> String {
    if json_key == "$" || json_key.is_empty() {
        return String::new();
    }
    let path = json_key.strip_prefix("$.").unwrap_or(json_key).replace('.', "/");
    if path.starts_with('/') { path } else { format!("/{path}") }
}
