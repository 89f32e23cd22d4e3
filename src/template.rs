//! Templates: text with places for what is known about a record.
//!
//! `{node}`, `{topic}`, `{source}`, `{key}`, `{label.x}` (a label of the node), `{field.x.y}` (a JSON field of the value;
//! strings without their quotes, numbers digit by digit, objects and arrays as they stand) and the record's attributes
//! by name, which all have a dot: `{mqtt.1}`, `{syslog.host}`. `{{` and `}}` are braces.
//!
//! A template never makes something up: where a place has nothing to stand for, [`Template::render`] appends nothing
//! and says so.

use crate::json::{self, Path, Value};
use crate::name::nearest;
use crate::record::RecordRef;

/// A parsed template. Two with the same text are equal.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Template {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Node,
    Topic,
    Source,
    Key,
    Label(String),
    Field(Path),
    Attr(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{{` without `}}` in `{0}` (a brace itself is written `{{{{`)")]
    Unclosed(String),
    #[error("`}}` without `{{` in `{0}` (a brace itself is written `}}}}`)")]
    Unopened(String),
    #[error("unknown placeholder `{{{name}}}` in `{text}`{hint}")]
    Unknown { name: String, text: String, hint: String },
}

/// What a template may speak of beside the record itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub node: &'a str,
    pub topic: &'a str,
    /// Empty where the source is not known: then `{source}` has nothing to stand for.
    pub source: &'a str,
    pub labels: &'a std::collections::BTreeMap<String, String>,
}

/// Prefixes of the attributes that sources set, for the hints only.
const ATTR_PREFIXES: [&str; 6] = ["mqtt", "syslog", "file", "socket", "exec", "host"];

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
            } else if brace == "}" {
                return Err(TemplateError::Unopened(text.into()));
            } else {
                let (name, after) = rest.split_once('}').ok_or_else(|| TemplateError::Unclosed(text.into()))?;
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(placeholder(name, text)?);
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The field that the template is, if it is `{field.x}` and nothing else.
    pub fn as_field(&self) -> Option<&Path> {
        match self.parts.as_slice() {
            [Part::Field(path)] => Some(path),
            _ => None,
        }
    }

    /// Whether the template has `{source}`, which sinks cannot know.
    pub fn has_source(&self) -> bool {
        self.parts.contains(&Part::Source)
    }

    /// Labels that the template speaks of.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| if let Part::Label(name) = p { Some(name.as_str()) } else { None })
    }

    /// What it comes to before there is a record: a word stands for what only that knows, however long it will be. And the
    /// bytes of such words.
    pub fn sketch(&self, context: &Context<'_>) -> (String, usize) {
        let (mut out, mut words) = (Vec::new(), 0);
        for part in &self.parts {
            if !part.render(context, &RecordRef::default(), &mut out) {
                let word = if *part == Part::Key { "key" } else { "value" };
                words += word.len();
                out.extend_from_slice(word.as_bytes());
            }
        }
        (String::from_utf8_lossy(&out).into_owned(), words)
    }

    /// Appends the rendered bytes to `out`; false when a placeholder had nothing to stand for (missing attribute
    /// or field), in which case nothing is appended.
    #[must_use]
    pub fn render(&self, context: &Context<'_>, record: &RecordRef<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let whole = self.parts.iter().all(|part| part.render(context, record, out));
        if !whole {
            out.truncate(start);
        }
        whole
    }
}

impl Part {
    fn render(&self, context: &Context<'_>, record: &RecordRef<'_>, out: &mut Vec<u8>) -> bool {
        let bytes = match self {
            Part::Text(text) => Some(text.as_bytes()),
            Part::Node => Some(context.node.as_bytes()),
            Part::Topic => Some(context.topic.as_bytes()),
            Part::Source => Some(context.source.as_bytes()).filter(|s| !s.is_empty()),
            Part::Key => record.key,
            Part::Label(name) => context.labels.get(name).map(String::as_bytes),
            Part::Attr(name) => record.attrs.get(name),
            Part::Field(path) => return render_field(record.value, path, out),
        };
        bytes.map(|b| out.extend_from_slice(b)).is_some()
    }
}

fn render_field(value: &[u8], path: &Path, out: &mut Vec<u8>) -> bool {
    match json::find(value, path) {
        Ok(Some(Value::Bool(b))) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Ok(Some(Value::Number(digits))) => out.extend_from_slice(digits.as_bytes()),
        Ok(Some(Value::String(raw))) => out.extend_from_slice(&json::unescape(raw)),
        Ok(Some(Value::Nested(raw))) => out.extend_from_slice(raw),
        Ok(Some(Value::Null) | None) | Err(_) => return false,
    }
    true
}

fn placeholder(name: &str, text: &str) -> Result<Part, TemplateError> {
    let unknown = |hint: String| TemplateError::Unknown { name: name.into(), text: text.into(), hint };
    let did_you_mean = |found: String| unknown(format!("; did you mean `{{{found}}}`?"));
    match name.split_once('.') {
        None => Ok(match name {
            "node" => Part::Node,
            "topic" => Part::Topic,
            "source" => Part::Source,
            "key" => Part::Key,
            _ => {
                let known = ["node", "topic", "source", "key", "label.NAME", "field.NAME"];
                return Err(match nearest(name, known) {
                    Some(found) => did_you_mean(found.into()),
                    None => unknown(format!(
                        "; known are {{node}}, {{topic}}, {{source}}, {{key}}, {{label.NAME}}, {{field.{name}}} for a JSON \
                         field, and attributes like {{mqtt.1}}"
                    )),
                });
            }
        }),
        Some((_, "")) => Err(unknown("; a name is missing after the dot".into())),
        Some(("label", label)) => Ok(Part::Label(label.into())),
        Some(("field", path)) => Path::parse(path).map(Part::Field).map_err(|e| unknown(format!("; {e}"))),
        Some((prefix, after)) if !ATTR_PREFIXES.contains(&prefix) => match nearest(prefix, ["label", "field"]) {
            Some(found) => Err(did_you_mean(format!("{found}.{after}"))),
            None => Ok(Part::Attr(name.into())),
        },
        Some(_) => Ok(Part::Attr(name.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::AttrBuf;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn render(text: &str, value: &[u8]) -> Option<String> {
        let labels = BTreeMap::from([("kind".to_owned(), "pump".to_owned())]);
        let context = Context { node: "n1", topic: "t1", source: "s1", labels: &labels };
        let mut attrs = AttrBuf::default();
        assert!(attrs.push("mqtt.1", b"p7"));
        let record = RecordRef { key: Some(b"k1"), attrs: attrs.as_attrs(), ..RecordRef::of(value) };
        let mut out = b"before ".to_vec();
        let whole = Template::parse(text).unwrap().render(&context, &record, &mut out);
        assert!(whole || out == b"before ");
        whole.then(|| String::from_utf8(out).unwrap().split_off(7))
    }

    #[test]
    fn every_placeholder_is_filled() {
        let text = "{node}/{topic}/{source}/{key}/{label.kind}/{mqtt.1}/{field.a.b}";
        assert_eq!(render(text, br#"{"a":{"b":"x\ny"}}"#).as_deref(), Some("n1/t1/s1/k1/pump/p7/x\ny"));
    }

    #[test]
    fn doubled_braces_are_braces() {
        assert_eq!(render("{{{node}}} }}{{", b"").as_deref(), Some("{n1} }{"));
    }

    #[test]
    fn numbers_and_nested_values_stand_as_they_came() {
        let value = br#"{"n":18446744073709551615,"o":{"x": 1},"b":true}"#;
        assert_eq!(
            render("{field.n} {field.o} {field.b}", value).as_deref(),
            Some("18446744073709551615 {\"x\": 1} true")
        );
    }

    #[test]
    fn what_is_missing_leaves_nothing_behind() {
        assert_eq!(render("a{mqtt.2}", b""), None);
        assert_eq!(render("a{label.x}", b""), None);
        assert_eq!(render("a{field.x}", b"not json"), None);
        assert_eq!(render("a{field.x}", b"{\"x\":null}"), None);
    }

    #[test]
    fn unknown_placeholders_name_the_nearest() {
        let error = |text: &str| Template::parse(text).unwrap_err().to_string();
        assert_eq!(error("{nod}"), "unknown placeholder `{nod}` in `{nod}`; did you mean `{node}`?");
        assert_eq!(error("{lable.x}"), "unknown placeholder `{lable.x}` in `{lable.x}`; did you mean `{label.x}`?");
        assert!(error("{speed}").contains("{field.speed} for a JSON field"), "{}", error("{speed}"));
        assert!(error("{field.}").contains("a name is missing"));
        assert_eq!(error("a{b"), "`{` without `}` in `a{b` (a brace itself is written `{{`)");
        assert_eq!(error("a}b"), "`}` without `{` in `a}b` (a brace itself is written `}}`)");
    }

    #[test]
    fn a_sketch_has_words_for_what_only_a_record_knows() {
        let context = Context { node: "n1", topic: "t1", source: "", labels: &BTreeMap::new() };
        let sketch = |text: &str| Template::parse(text).unwrap().sketch(&context);
        assert_eq!(sketch("{node}-{topic}_UP"), ("n1-t1_UP".into(), 0));
        assert_eq!(sketch("{key}.{field.a}-{mqtt.1}"), ("key.value-value".into(), 13));
    }

    proptest! {
        #[test]
        fn text_without_braces_stands_for_itself(text in "[^{}]*") {
            prop_assert_eq!(render(&text, b""), Some(text));
        }

        #[test]
        fn any_text_parses_or_says_why(text in "[a-z{}.]{0,20}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(template.text(), text);
            }
        }
    }
}
