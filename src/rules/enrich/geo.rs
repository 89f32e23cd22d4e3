//! `enrich` from a MaxMind DB: country, city, coordinates, network operator of an address.
//!
//! | name | where it stands in the databases |
//! |---|---|
//! | `country` `country_name` | `country.iso_code`, `country.names.en` |
//! | `registered_country` | `registered_country.iso_code` |
//! | `continent` | `continent.code` |
//! | `region` `region_name` | `subdivisions.0.iso_code`, `subdivisions.0.names.en` |
//! | `city` `postal_code` | `city.names.en`, `postal.code` |
//! | `latitude` `longitude` | `location.latitude`, `location.longitude`: decimal degrees |
//! | `accuracy_km` `time_zone` | `location.accuracy_radius`, `location.time_zone` |
//! | `asn` `organization` | `autonomous_system_number`, `autonomous_system_organization` |
//!
//! Any other path of a database can be given as it is. Names are in the language that is asked for (`en` unless set).
//! About a text that is no address, and an address that no database has (a private one), nothing is known; of one that
//! is there, fields that the database does not have for it are left out.

use core::net::{IpAddr, SocketAddr};

use super::Missing;
use super::mmdb::{Damaged, Database, Datum};
use crate::json::{self, Path};
use crate::name::nearest;
use crate::record::RecordRef;
use crate::rules::Answer;
use crate::rules::failed::Failed;
use crate::rules::rewrite::{Leaf, Plan, PlanError};
use crate::template::{Context, Template};

/// Names of fields and their paths; the language is put for `?`.
const NAMES: [(&str, &str); 14] = [
    ("country", "country.iso_code"),
    ("country_name", "country.names.?"),
    ("registered_country", "registered_country.iso_code"),
    ("continent", "continent.code"),
    ("region", "subdivisions.0.iso_code"),
    ("region_name", "subdivisions.0.names.?"),
    ("city", "city.names.?"),
    ("postal_code", "postal.code"),
    ("latitude", "location.latitude"),
    ("longitude", "location.longitude"),
    ("accuracy_km", "location.accuracy_radius"),
    ("time_zone", "location.time_zone"),
    ("asn", "autonomous_system_number"),
    ("organization", "autonomous_system_organization"),
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeoError {
    #[error("`fields`: {0}")]
    Fields(#[from] PlanError),
    #[error("`fields`: `{0}` is neither a known name nor a path with a dot{1}")]
    Name(String, String),
}

/// A checked rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Geo {
    by: Template,
    database: Database,
    paths: Vec<Vec<String>>,
    plan: Plan,
    missing: Missing,
}

impl Geo {
    /// `fields` are names or paths of the database, each with the field of the record it goes to.
    pub fn new(
        by: Template,
        database: Database,
        fields: &[(String, Path)],
        language: &str,
        missing: Missing,
    ) -> Result<Self, GeoError> {
        let paths = fields.iter().map(|(name, _)| path(name, language)).collect::<Result<_, _>>()?;
        let leaves = fields.iter().enumerate().map(|(i, (_, to))| (to.clone(), Leaf::Set(i))).collect();
        Ok(Self { by, database, paths, plan: Plan::new(leaves, true)?, missing })
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
        let address = if self.by.render(context, record, text) { address(text) } else { None };
        let damaged = |_: Damaged| Failed::because("the database is damaged where this address leads");
        let data = address.map(|ip| self.database.find(ip)).transpose().map_err(damaged)?.flatten();
        let Some(data) = data else {
            return self.missing.answer("nothing is known about the address");
        };
        let mut fate = Ok(());
        let mut fill = |number: usize, out: &mut Vec<u8>| {
            let path: Vec<&str> = self.paths[number].iter().map(String::as_str).collect();
            match self.database.datum(data, &path) {
                Ok(datum) => datum.is_some_and(|datum| write(datum, out)),
                Err(damage) => {
                    fate = Err(damage);
                    false
                }
            }
        };
        let changed = self.plan.apply(record.value, &mut fill, out)?;
        fate.map_err(damaged)?;
        Ok(Answer::rewritten(changed))
    }
}

fn path(name: &str, language: &str) -> Result<Vec<String>, GeoError> {
    if let Some((_, path)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Ok(path.split('.').map(|step| if step == "?" { language } else { step }.to_owned()).collect());
    }
    match Path::parse(name) {
        Ok(path) if path.names().len() > 1 => Ok(path.names().to_vec()),
        _ => {
            let near = nearest(name, NAMES.iter().map(|(n, _)| *n));
            let hint = near.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            Err(GeoError::Name(name.into(), hint))
        }
    }
}

/// An address, alone or with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    text.parse().ok().or_else(|| text.parse().ok().map(|a: SocketAddr| a.ip()))
}

/// Appends the JSON of a value; false: JSON has none (not a number, infinite).
fn write(datum: Datum<'_>, out: &mut Vec<u8>) -> bool {
    match datum {
        Datum::Text(text) => json::write_string(text.as_bytes(), out),
        Datum::Unsigned(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Datum::Signed(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Datum::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Datum::Float(n) if n.is_finite() => out.extend_from_slice(n.to_string().as_bytes()),
        Datum::Float(_) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::enrich::mmdb::tests::world;
    use std::collections::BTreeMap;

    fn run(fields: &[(&str, &str)], language: &str, missing: Missing, value: &str) -> Result<(Answer, String), Failed> {
        let labels = BTreeMap::new();
        let context = Context { node: "n1", topic: "t", source: "", labels: &labels };
        let fields: Vec<_> = fields.iter().map(|(n, to)| ((*n).to_owned(), Path::parse(to).unwrap())).collect();
        let database = Database::open(world().into()).unwrap();
        let rule = Geo::new(Template::parse("{field.ip}").unwrap(), database, &fields, language, missing).unwrap();
        let (mut text, mut out) = (b"left".to_vec(), b"over".to_vec());
        let made = rule.rewrite(&context, &RecordRef::of(value.as_bytes()), &mut text, &mut out)?;
        Ok((made, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn what_is_known_of_an_address_is_added() {
        let fields = [
            ("country", "geo.country"),
            ("city", "geo.city"),
            ("latitude", "geo.lat"),
            ("longitude", "geo.lon"),
            ("region", "geo.region"),
            ("location.metro_code", "geo.metro"),
            ("traits.is_anycast", "geo.anycast"),
            ("asn", "geo.asn"),
        ];
        let (made, out) = run(&fields, "de", Missing::Fail, r#"{"ip":"81.2.69.144:443"}"#).unwrap();
        assert_eq!(made, Answer::Value);
        assert_eq!(
            out,
            r#"{"ip":"81.2.69.144:443","geo":{"country":"GB","city":"London (de)","lat":51.5142,"lon":-0.0931,"region":"ENG","anycast":true}}"#
        );
    }

    #[test]
    fn nothing_known_passes_drops_or_fails() {
        let fields = [("country", "c")];
        for value in [r#"{"ip":"10.0.0.1"}"#, r#"{"ip":"no address"}"#, "{}"] {
            assert_eq!(run(&fields, "en", Missing::Pass, value).unwrap().0, Answer::Pass);
            assert_eq!(run(&fields, "en", Missing::Drop, value).unwrap().0, Answer::Drop);
            assert!(run(&fields, "en", Missing::Fail, value).is_err());
        }
        assert_eq!(run(&[("asn", "a")], "en", Missing::Fail, r#"{"ip":"81.2.69.144"}"#).unwrap().0, Answer::Pass);
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_the_nearest() {
        let error = path("contry", "en").unwrap_err().to_string();
        assert_eq!(error, "`fields`: `contry` is neither a known name nor a path with a dot; did you mean `country`?");
    }
}
