//! `x-mcp-header`: arguments of a tool that are mirrored in `Mcp-Param-*` headers (2026-07-28,
//! transports).

use serde_json::{Map, Value, value::RawValue};

use super::raw::Raw;

/// The annotations of one tool's input schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<Mirror>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    /// The name of the header without `Mcp-Param-`.
    header: String,
    /// Names of the properties that lead to the value.
    path: Vec<String>,
    integer: bool,
}

/// The value that one header must have for certain arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredArgument {
    /// The header's whole name in lower case.
    pub header: String,
    /// The decoded text; none where the header must be absent.
    pub text: Option<String>,
    integer: bool,
}

impl MirroredArgument {
    /// Whether a decoded header says what the body says: integers by value, all else to the letter.
    pub fn agrees(&self, header: Option<&str>) -> bool {
        let integral = |text: &str| text.parse::<f64>().ok().filter(|number| number.fract() == 0.0);
        match (header, self.text.as_deref()) {
            (None, None) => true,
            (Some(header), Some(body)) if self.integer && header != body => {
                integral(header).zip(integral(body)).is_some_and(|(a, b)| (a - b).abs() < 0.5)
            }
            (header, body) => header == body,
        }
    }
}

impl Mirrors {
    /// Reads a tool's schema.
    ///
    /// # Errors
    /// Says why the tool must not be offered over HTTP.
    pub fn of(schema: &Value) -> Result<Self, String> {
        let mut found = Self::default();
        if contains_annotation(schema) {
            found.walk(schema, &mut Vec::new(), true)?;
        }
        Ok(found)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every mirrored header with the text it must carry.
    pub fn values(&self, arguments: &Raw) -> Vec<MirroredArgument> {
        let value = |mirror: &Mirror| MirroredArgument {
            header: format!("mcp-param-{}", mirror.header.to_ascii_lowercase()),
            text: value_at(arguments, &mirror.path),
            integer: mirror.integer,
        };
        self.0.iter().map(value).collect()
    }

    /// `reachable`: only through `properties` so far, so that the position is the same in every
    /// document.
    fn walk(
        &mut self,
        schema: &Value,
        path: &mut Vec<String>,
        reachable: bool,
    ) -> Result<(), String> {
        if let Value::Array(items) = schema {
            return items.iter().try_for_each(|item| self.walk(item, path, false));
        }
        let Value::Object(members) = schema else { return Ok(()) };
        if let Some(header) = members.get("x-mcp-header") {
            self.add(header, members, path, reachable)?;
        }
        for (key, inner) in members {
            match (key.as_str(), inner) {
                ("properties", Value::Object(properties)) => {
                    self.walk_properties(properties, path, reachable)?;
                }
                // Data, not schemas.
                ("x-mcp-header" | "default" | "const" | "enum" | "examples", _) => (),
                (_, inner) => self.walk(inner, path, false)?,
            }
        }
        Ok(())
    }

    fn walk_properties(
        &mut self,
        properties: &Map<String, Value>,
        path: &mut Vec<String>,
        reachable: bool,
    ) -> Result<(), String> {
        for (name, property) in properties {
            path.push(name.clone());
            self.walk(property, path, reachable)?;
            path.pop();
        }
        Ok(())
    }

    fn add(
        &mut self,
        header: &Value,
        schema: &Map<String, Value>,
        path: &[String],
        reachable: bool,
    ) -> Result<(), String> {
        let Some(header) = header.as_str().filter(|text| is_token(text)) else {
            return Err(format!("x-mcp-header {header} is not a header name"));
        };
        if !reachable || path.is_empty() {
            return Err(format!("x-mcp-header `{header}` stands where no single argument is"));
        }
        let kind = schema.get("type").and_then(Value::as_str);
        if !matches!(kind, Some("integer" | "string" | "boolean")) {
            return Err(format!("x-mcp-header `{header}` is on no integer, string or boolean"));
        }
        if self.0.iter().any(|other| other.header.eq_ignore_ascii_case(header)) {
            return Err(format!("x-mcp-header `{header}` appears twice"));
        }
        let integer = kind == Some("integer");
        self.0.push(Mirror { header: header.to_owned(), path: path.to_vec(), integer });
        Ok(())
    }
}

fn value_at(arguments: &Raw, path: &[String]) -> Option<String> {
    let (last, way) = path.split_last()?;
    let mut at = arguments.clone();
    for step in way {
        at = super::splice::member(&at, step).filter(Raw::is_object)?;
    }
    let value = super::splice::member(&at, last)?;
    let value: &RawValue = value.read().ok()?;
    match value.get().as_bytes().first()? {
        b'n' | b'{' | b'[' => None,
        b'"' => super::raw::string_of(value).map(std::borrow::Cow::into_owned),
        _ => Some(value.get().to_owned()),
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

fn contains_annotation(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            members.contains_key("x-mcp-header") || members.values().any(contains_annotation)
        }
        Value::Array(items) => items.iter().any(contains_annotation),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_found_by_their_path() {
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "at": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
        }});
        let mirrors = Mirrors::of(&schema).unwrap();
        let got = mirrors.values(&Raw::trusted(r#"{"at":{"n":42},"region":"z\u00fcri"}"#));
        let want = [("mcp-param-region", Some("züri")), ("mcp-param-n", Some("42"))];
        assert_eq!(got.iter().map(|m| (&*m.header, m.text.as_deref())).collect::<Vec<_>>(), want);
        let got = mirrors.values(&Raw::trusted(r#"{"region":null}"#));
        assert!(got.iter().all(|mirrored| mirrored.text.is_none() && mirrored.agrees(None)));
    }

    #[test]
    fn a_wrong_annotation_condemns_the_tool() {
        let string = |header: &str| json!({"type": "string", "x-mcp-header": header});
        let wrong = [
            json!({"properties": {"a": string("")}}),
            json!({"properties": {"a": string("a b")}}),
            json!({"properties": {"a": {"type": "number", "x-mcp-header": "A"}}}),
            json!({"properties": {"a": string("A"), "b": string("a")}}),
            json!({"properties": {"a": {"type": "array", "items": string("A")}}}),
            json!({"anyOf": [{"properties": {"a": string("A")}}]}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": 7}}}),
        ];
        for schema in wrong {
            assert!(Mirrors::of(&schema).is_err(), "{schema}");
        }
        assert!(Mirrors::of(&json!({"properties": {"a": {"type": "string"}}})).unwrap().is_empty());
    }

    #[test]
    fn integers_agree_by_value() {
        let agrees = |integer, header, body: &str| {
            let text = Some(body.to_owned());
            MirroredArgument { header: String::new(), text, integer }.agrees(header)
        };
        assert!(agrees(true, Some("42.0"), "42"));
        assert!(!agrees(true, Some("42.5"), "42"));
        assert!(!agrees(false, Some("42.0"), "42"));
        assert!(!agrees(true, None, "42"));
    }
}
