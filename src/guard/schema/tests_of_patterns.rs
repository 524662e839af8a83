//! Patterns as ECMA-262 reads them, and what is said of schemas and values that are wrong.

use serde_json::json;

use super::tests::{check, compiled, fits, unusable};

#[test]
fn what_is_wrong_with_a_schema_is_said_with_its_place() {
    for (schema, place, why) in [
        (
            json!({ "properties": { "a": { "pattern": "^(?!x)y" } } }),
            "/properties/a/pattern",
            "ahead",
        ),
        (json!({ "items": [{ "pattern": "(?<=x)y" }] }), "/items/0/pattern", "behind"),
        (json!({ "anyOf": [true, { "pattern": "(a)\\1" }] }), "/anyOf/1/pattern", "back-reference"),
        (
            json!({ "$defs": { "a/b": { "pattern": "(?<n>a)\\k<n>" } } }),
            "/$defs/a~1b/pattern",
            "back-",
        ),
        (json!({ "patternProperties": { "(?=a)": true } }), "/patternProperties", "ahead"),
        (json!({ "properties": { "a": { "type": "any" } } }), "/properties/a/type", ""),
        (json!({ "properties": { "a": { "required": true } } }), "/properties/a/required", "array"),
        (json!({ "properties": { "a": { "enum": "x" } } }), "/properties/a/enum", "array"),
        (json!({ "properties": { "a": { "pattern": "(" } } }), "/properties/a/pattern", "regex"),
        (
            json!({ "not": { "$ref": "http://json-schema.org/draft-06/x#" } }),
            "/not/$ref",
            "draft-06/x",
        ),
        (json!({ "allOf": [{ "$ref": "other.json" }] }), "/allOf/0/$ref", "other.json"),
    ] {
        let said = unusable(&schema).to_string();
        assert!(said.starts_with(&format!("at `{place}")), "{schema}: {said}");
        assert!(said.contains(why), "{schema}: {said}");
    }
}

#[test]
fn patterns_are_read_as_ecma_262_reads_them() {
    for (pattern, text, want) in [
        (r"^\<b\>$", "<b>", true),
        (r"^\<b\>$", "b", false),
        (r"\bé", "aé", true),
        (r"\bé\b", "é", false),
        (r"a\b", "aé", true),
        (r"^a\B", "aé", false),
        (r"^\d+$", "123", true),
        (r"^\d+$", "\u{663}", false),
        (r"^\D$", "\u{663}", true),
        (r"^\w$", "é", false),
        (r"^\s$", "\u{feff}", true),
        (r"^[\d]+$", "\u{663}", false),
        (r"^[\w-.]+$", "a-.", true),
        (r"^[.-\w]+$", "a-.", true),
        (r"^[^]$", "\n", true),
        (r"^[]$", "a", false),
        (r"^[\b]$", "\u{8}", true),
        (r"^\0$", "\0", true),
        (r"^\a\z$", "az", true),
        (r"^a{2,3}$", "aaa", true),
        (r"^a{$", "a{", true),
        (r"^{a}$", "{a}", true),
        (r"^\p{Lu}\u0041\cA$", "ÉA\u{1}", true),
        (r"^\/\-\_\é$", "/-_é", true),
    ] {
        let checker = compiled(&json!({ "pattern": pattern }));
        let fits = checker.map(|checker| fits(&checker, &json!(text)));
        assert_eq!(fits, Ok(want), "{pattern} on {text:?}");
    }
}

#[test]
fn of_alternatives_the_types_are_named() {
    let checker = compiled(&json!({
        "type": "object",
        "properties": {
            "n": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
            "deep": { "$ref": "#/$defs/Deep" },
        },
        "$defs": { "Deep": { "type": "object", "additionalProperties": {
            "oneOf": [{ "$ref": "#/$defs/Deep" }, { "type": ["string", "array"] }]
        } } },
    }))
    .unwrap();
    for (value, want) in [
        (json!({ "n": "5" }), r#"`/n` (`anyOf`, of types ["integer", "null"])"#),
        (
            json!({ "deep": { "a": 5 } }),
            r#"`/deep/a` (`oneOf`, of types ["object", "string", "array"])"#,
        ),
    ] {
        let said = check(&checker, &value).unwrap_err();
        assert!(said.contains(want), "{said}");
    }
    let flat = compiled(&json!({ "properties": {
        "n": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
    } }));
    let said = check(&flat.unwrap(), &json!({ "n": "5" })).unwrap_err();
    assert!(said.starts_with(r#"`/n`: it is of none of the types ["integer", "null"]"#), "{said}");
}
