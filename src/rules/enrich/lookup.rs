//! `enrich` from a table: the row whose key a template gives adds its cells to the record's JSON object, each under the
//! field it is wanted at.
//!
//! A cell that the row has not got leaves its field alone, or sets the default. So does a row that is not there, under
//! [`Missing::Pass`]; a template with nothing to stand for finds no row.

use super::Missing;
use super::table::{Row, Table};
use crate::json::{Path, Scanner};
use crate::record::RecordRef;
use crate::rules::Answer;
use crate::rules::failed::Failed;
use crate::rules::rewrite::{Leaf, Plan, PlanError};
use crate::template::{Context, Template};

/// A field that a row adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub column: String,
    pub to: Path,
    /// A JSON literal.
    pub default: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("`fields`: {0}")]
    Fields(#[from] PlanError),
    #[error("`fields`: the table was not read with a column `{0}`")]
    Column(String),
    #[error("`default` of `{0}` is not JSON")]
    Default(Path),
}

/// A checked rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    by: Template,
    table: Table,
    /// A column's number in the table, and the default.
    cells: Vec<(usize, Option<String>)>,
    plan: Plan,
    missing: Missing,
}

impl Lookup {
    pub fn new(by: Template, table: Table, fields: &[Field], missing: Missing) -> Result<Self, LookupError> {
        let mut cells = Vec::new();
        for field in fields {
            let column = table.columns().iter().position(|c| *c == field.column);
            let column = column.ok_or_else(|| LookupError::Column(field.column.clone()))?;
            if field.default.as_deref().is_some_and(|d| !is_json(d)) {
                return Err(LookupError::Default(field.to.clone()));
            }
            cells.push((column, field.default.clone()));
        }
        let leaves = fields.iter().enumerate().map(|(i, field)| (field.to.clone(), Leaf::Set(i))).collect();
        Ok(Self { by, table, cells, plan: Plan::new(leaves, true)?, missing })
    }

    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        std::iter::once(&self.by)
    }

    /// Writes the new value to `out`. `text` is scratch.
    pub fn rewrite(
        &self,
        context: &Context<'_>,
        record: &RecordRef<'_>,
        text: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Answer, Failed> {
        text.clear();
        let row = if self.by.render(context, record, text) { self.table.find(text) } else { None };
        let defaults = self.missing == Missing::Pass && self.cells.iter().any(|(_, default)| default.is_some());
        if row.is_none() && !defaults {
            return self.missing.answer("the table has no row for it");
        }
        let mut fill = |number: usize, out: &mut Vec<u8>| {
            let (column, default) = &self.cells[number];
            let cell = row.and_then(|row: Row<'_>| row.cell(*column)).or(default.as_deref().map(str::as_bytes));
            cell.map(|cell| out.extend_from_slice(cell)).is_some()
        };
        let changed = self.plan.apply(record.value, &mut fill, out)?;
        Ok(Answer::rewritten(changed))
    }
}

/// One JSON value and nothing else.
fn is_json(text: &str) -> bool {
    let mut scan = Scanner::new(text.as_bytes());
    scan.space();
    scan.value(0).is_ok() && scan.end().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::parse::members::Types;
    use std::collections::BTreeMap;

    fn field(column: &str, to: &str, default: Option<&str>) -> Field {
        Field { column: column.into(), to: Path::parse(to).unwrap(), default: default.map(Into::into) }
    }

    fn table() -> Table {
        let columns = ["name".to_owned(), "floor".to_owned()];
        let types =
            Types { columns: vec![("floor".into(), crate::rules::parse::members::Type::Int)], ..Types::default() };
        Table::csv(b"id,name,floor\na,Pump A,3\nb/1,Fan B,\n", b',', "id", &columns, &types).unwrap()
    }

    fn run(by: &str, fields: &[Field], missing: Missing, value: &str) -> Result<(Answer, String), Failed> {
        let labels = BTreeMap::new();
        let context = Context { node: "n1", topic: "t", source: "", labels: &labels };
        let rule = Lookup::new(Template::parse(by).unwrap(), table(), fields, missing).unwrap();
        let record = RecordRef { key: Some(b"b"), ..RecordRef::of(value.as_bytes()) };
        let (mut text, mut out) = (b"left".to_vec(), b"over".to_vec());
        let made = rule.rewrite(&context, &record, &mut text, &mut out)?;
        Ok((made, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn a_row_adds_its_cells_where_they_are_wanted() {
        let fields = [field("name", "device.name", None), field("floor", "floor", None)];
        let (made, out) = run("{field.dev}", &fields, Missing::Fail, r#"{"dev":"a","floor":"?"}"#).unwrap();
        assert_eq!((made, out.as_str()), (Answer::Value, r#"{"dev":"a","floor":3,"device":{"name":"Pump A"}}"#));
        let (_, out) = run("{key}/{field.n}", &fields, Missing::Fail, r#"{"n":1}"#).unwrap();
        assert_eq!(out, r#"{"n":1,"device":{"name":"Fan B"}}"#);
    }

    #[test]
    fn a_missing_row_passes_drops_or_fails_and_defaults_stand_in_for_cells() {
        let plain = [field("name", "name", None)];
        let with_default = [field("name", "name", Some("\"?\"")), field("floor", "floor", Some("-1"))];
        assert_eq!(run("{field.dev}", &plain, Missing::Pass, "{\"dev\":\"x\"}").unwrap().0, Answer::Pass);
        assert_eq!(run("{field.dev}", &plain, Missing::Drop, "{}").unwrap().0, Answer::Drop);
        assert!(run("{field.dev}", &with_default, Missing::Fail, "{}").is_err());
        assert_eq!(run("{field.dev}", &with_default, Missing::Pass, "{}").unwrap().1, r#"{"name":"?","floor":-1}"#);
        let known = run("{key}/1", &with_default, Missing::Fail, "{}").unwrap();
        assert_eq!(known.1, r#"{"name":"Fan B","floor":-1}"#);
        assert!(run("a", &plain, Missing::Pass, "no object").is_err());
    }

    #[test]
    fn options_that_name_nothing_are_refused() {
        let new = |fields: &[Field]| Lookup::new(Template::parse("x").unwrap(), table(), fields, Missing::Pass);
        assert_eq!(new(&[field("nme", "name", None)]), Err(LookupError::Column("nme".into())));
        assert!(matches!(new(&[]), Err(LookupError::Fields(PlanError::Empty))));
        assert!(matches!(new(&[field("name", "a", Some("x"))]), Err(LookupError::Default(_))));
    }
}
