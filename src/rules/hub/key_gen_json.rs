//! `key-gen-json`: adds a field that names the value's contents, for whoever sorts out repeats downstream. The record's
//! key stays.
//!
//! `spec: { lookup, key_name }`: the fields at the JSON pointers of `lookup`, strings without their quotes, anything else
//! as JSON, what is not there as nothing, one after the other; of this the SHA-256, in hexadecimal, is put at
//! `key_name` of the value. A value that is no object stays as it is.
//!
//! The first version took dotted paths, which since then find nothing: an error here.

use ring_crypto::digest::{Context, SHA256};
use serde_json::Value;

use super::spec::With;
use super::{Error, Failure, field_text, parse, write};

#[derive(Clone, Debug, PartialEq)]
pub struct KeyGenJson {
    lookup: Vec<String>,
    key_name: String,
}

impl KeyGenJson {
    pub(super) fn from_with(with: &With<'_>) -> Result<Self, Error> {
        let spec = with.json("spec")?;
        let at = with.at("spec", &spec);
        let fields = at.map(&["lookup", "key_name"])?;
        let mut lookup = Vec::new();
        for pointer in fields.need("lookup")?.list()? {
            let text = pointer.text()?;
            if !text.is_empty() && !text.starts_with('/') {
                return Err(pointer.bad(format!("a JSON pointer begins with a slash: `/{}`", text.replace('.', "/"))));
            }
            lookup.push(text.into());
        }
        Ok(Self { lookup, key_name: fields.text("key_name")?.into() })
    }

    pub fn apply(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut json: Value = parse(value)?;
        if json.is_object() {
            let mut hash = Context::new(&SHA256);
            for field in self.lookup.iter().filter_map(|pointer| json.pointer(pointer)) {
                hash.update(field_text(field).as_bytes());
            }
            let digest: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            json[&self.key_name] = digest.into();
        }
        write(&json, out)
    }
}
