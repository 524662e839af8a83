//! Puts arguments of the configuration into a tool's calls, and shows the tool without them.

use crate::{
    config::Filling,
    mcp::{
        index::Param,
        params::Params,
        raw::{Raw, string_of},
        splice,
    },
};

/// A call's params with defaults where it has nothing, and forced arguments whatever it has.
pub fn filled(params: &Params, filling: &Filling) -> Params {
    let arguments = params.member(Param::Arguments).filter(|raw| raw.as_str() != "null");
    let arguments = arguments.unwrap_or_else(Raw::object);
    if !arguments.is_object() || (filling.default.is_empty() && filling.force.is_empty()) {
        return params.clone();
    }
    let missing = filling.default.iter().filter(|(name, _)| !has(&arguments, name));
    let filled = missing.fold(arguments.clone(), |all, (name, value)| set(&all, name, value));
    let filled = filling.force.iter().fold(filled, |all, (name, value)| set(&all, name, value));
    params.with(Param::Arguments, filled.bytes())
}

fn with_default(property: &Raw, value: &Raw) -> Raw {
    let edit: &[(&str, _)] = &[("default", Some(&value.bytes()[..]))];
    if property.is_object() { splice::edit(property, edit) } else { property.clone() }
}

/// A tool as clients see it: forced arguments are no part of its schema, and what has a default is
/// not required.
pub fn shown(tool: &Raw, filling: &Filling) -> Raw {
    if filling.default.is_empty() && filling.force.is_empty() {
        return tool.clone();
    }
    splice::change(tool, "inputSchema", |schema| {
        if !schema.is_object() {
            return schema.clone();
        }
        let forced: Vec<_> = filling.force.iter().map(|(name, _)| (name.as_str(), None)).collect();
        let known = splice::change(schema, "properties", |properties| {
            let left = splice::edit(properties, &forced);
            filling.default.iter().fold(left, |all, (name, value)| {
                splice::change(&all, name, |property| with_default(property, value))
            })
        });
        splice::change(&known, "required", |required| {
            if !required.bytes().starts_with(b"[") {
                return required.clone();
            }
            let given = filling.force.iter().chain(&filling.default);
            let given: Vec<_> = given.map(|(name, _)| name.as_str()).collect();
            let mut left = splice::values(required);
            left.retain(|name| !text_of(name).is_some_and(|name| given.contains(&name.as_str())));
            splice::array(&left)
        })
    })
}

fn text_of(raw: &Raw) -> Option<String> {
    string_of(raw.try_read()?).map(|text| text.into_owned())
}

fn has(object: &Raw, name: &str) -> bool {
    splice::rare_member_of(object, name).is_some()
}

fn set(object: &Raw, name: &str, value: &Raw) -> Raw {
    // Found by its meaning: a client may have written the name with escapes.
    if splice::member(object, name).is_some() {
        return splice::edit(object, &[(name, Some(value.bytes()))]);
    }
    splice::insert(object, name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filling() -> Filling {
        let raw = |text: &str| Raw::trusted(text.to_owned());
        Filling {
            default: vec![("limit".to_owned(), raw("10"))],
            force: vec![("tenant".to_owned(), raw("\"a\"")), ("q\"q".to_owned(), raw("[1]"))],
        }
    }

    #[track_caller]
    fn told(params: &'static str, want: &str) {
        assert_eq!(filled(&Raw::trusted(params).into(), &filling()).text().as_str(), want);
    }

    #[test]
    fn a_call_is_filled_whatever_it_has() {
        let rest = r#""tenant":"a","q\"q":[1]}}"#;
        told(r#"{"name":"t"}"#, &format!(r#"{{"name":"t","arguments":{{"limit":10,{rest}"#));
        told(r#"{"arguments":null}"#, &format!(r#"{{"arguments":{{"limit":10,{rest}"#));
        told(
            r#"{"arguments":{"tenant":"b","x":1e400, "limit":5,"\u0074enant":"c"}}"#,
            r#"{"arguments":{"tenant":"a","x":1e400, "limit":5,"\u0074enant":"a","q\"q":[1]}}"#,
        );
        told(r#"{"arguments":[1]}"#, r#"{"arguments":[1]}"#);
    }

    #[test]
    fn what_is_forced_is_not_shown() {
        let tool = Raw::trusted(concat!(
            r#"{"name":"t","inputSchema":{"type":"object","properties":{"tenant":{},"#,
            r#""limit":{"type":"integer"},"x":{}},"required":["tenant","x","limit"]}}"#
        ));
        let want = concat!(
            r#"{"name":"t","inputSchema":{"type":"object","properties":{"#,
            r#""limit":{"type":"integer","default":10},"x":{}},"required":["x"]}}"#
        );
        assert_eq!(shown(&tool, &filling()).as_str(), want);
        let odd = Raw::trusted(r#"{"name":"t","inputSchema":{"properties":[],"required":"x"}}"#);
        assert_eq!(shown(&odd, &Filling::default()), odd);
    }
}
