//! Changes members of a JSON object and leaves every other byte as it was.
//!
//! Works on texts already known to be valid JSON; nothing is parsed but the outline.

use std::ops::Range;

use super::{
    raw::{Raw, string_end},
    word::{ESCAPE, Word},
};

/// A member of an object: where its key (with quotes) begins, and where its value lies.
struct Member {
    key: Range<usize>,
    value: Range<usize>,
}

/// Sets members to a value, or removes them where there is none. A member not yet there is added at
/// the end. Where nothing changes, the bytes are shared, not copied. `object` must be an object.
pub fn edit(object: &Raw, edits: &[(&str, Option<&[u8]>)]) -> Raw {
    let text = object.bytes();
    let members = members(text);
    let mut out = Vec::with_capacity(text.len() + 128);
    let mut copied = 0;
    let mut kept = 0_usize;
    for member in &members {
        let edit = edits.iter().find(|(key, _)| key_is(text, &member.key, key));
        match edit {
            Some((_, Some(value))) => {
                out.extend_from_slice(slice(text, copied..member.value.start));
                out.extend_from_slice(value);
                copied = member.value.end;
                kept += 1;
            }
            Some((_, None)) => {
                // The comma goes with it: the one before, or, for the first that is kept, the one
                // after.
                let (from, to) = without_comma(text, member, kept == 0);
                out.extend_from_slice(slice(text, copied..from.max(copied)));
                copied = to;
            }
            None => kept += 1,
        }
    }
    let close = text.iter().rposition(|byte| *byte == b'}').unwrap_or(text.len());
    out.extend_from_slice(slice(text, copied..close.max(copied)));
    for (key, value) in edits {
        let Some(value) = value else { continue };
        if members.iter().any(|member| key_is(text, &member.key, key)) {
            continue;
        }
        if kept != 0 {
            out.push(b',');
        }
        kept += 1;
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    }
    out.extend_from_slice(slice(text, close..text.len()));
    if out == text[..] { object.clone() } else { Raw::trusted(out) }
}

/// The value of a member, sharing the object's bytes.
pub fn member(object: &Raw, key: &str) -> Option<Raw> {
    let text = object.bytes();
    let found = members(text).into_iter().find(|member| key_is(text, &member.key, key))?;
    Some(Raw::trusted(text.slice(found.value)))
}

/// The value at a path of members; none where a step is no object.
pub fn at(object: &Raw, path: &[&str]) -> Option<Raw> {
    path.iter().try_fold(object.clone(), |object, key| {
        if object.is_object() { member(&object, key) } else { None }
    })
}

/// Finds a member that few objects have: one is walked only where the name may stand in it.
pub fn rare_member(object: &Raw, key: &Word) -> Option<Raw> {
    key.may_be_in(object.bytes()).then(|| member(object, key.text()))?
}

/// Finds a member as [`rare_member`] does, for a name that is known at run time only.
pub fn rare_member_of(object: &Raw, key: &str) -> Option<Raw> {
    let has = |word: &str| memchr::memmem::find(object.bytes(), word.as_bytes()).is_some();
    // A name may be written with escapes.
    (has(key) || ESCAPE.is_in(object.bytes())).then(|| member(object, key))?
}

/// All members of an object, their values sharing its bytes.
pub fn entries(object: &Raw) -> Vec<(String, Raw)> {
    let text = object.bytes();
    let key = |range: &Range<usize>| serde_json::from_slice(slice(text, range.clone())).ok();
    let members = members(text).into_iter();
    members
        .filter_map(|member| Some((key(&member.key)?, Raw::trusted(text.slice(member.value)))))
        .collect()
}

/// Adds a member under any name; one of that name must not be there yet.
pub fn insert(object: &Raw, key: &str, value: &Raw) -> Raw {
    let text = object.bytes();
    let close = text.iter().rposition(|byte| *byte == b'}').unwrap_or(text.len());
    let comma: &[u8] = if members(text).is_empty() { b"" } else { b"," };
    let key = Raw::encode(&key);
    let parts: [&[u8]; 6] = [
        slice(text, 0..close),
        comma,
        key.bytes(),
        b":",
        value.bytes(),
        slice(text, close..text.len()),
    ];
    Raw::trusted(parts.concat())
}

/// Edits the object that is the member `key` of `object`; made where it is missing and something is
/// set.
pub fn edit_within(object: &Raw, key: &str, edits: &[(&str, Option<&[u8]>)]) -> Raw {
    let inner = match member(object, key) {
        Some(inner) if inner.is_object() => edit(&inner, edits),
        _ if edits.iter().any(|(_, value)| value.is_some()) => edit(&Raw::object(), edits),
        _ => return object.clone(),
    };
    edit(object, &[(key, Some(inner.bytes()))])
}

/// Puts something else in place of the member `key`, where there is one.
pub fn change(object: &Raw, key: &str, change: impl FnOnce(&Raw) -> Raw) -> Raw {
    let is_object = object.bytes().trim_ascii_start().starts_with(b"{");
    let value = if is_object { member(object, key) } else { None };
    let Some(value) = value else { return object.clone() };
    let changed = change(&value);
    if changed == value {
        return object.clone();
    }
    edit(object, &[(key, Some(changed.bytes()))])
}

/// Values in an array or an object, without the keys; each shares its bytes. Anything else holds
/// nothing.
pub fn values(container: &Raw) -> Vec<Raw> {
    let text = container.bytes();
    ranges(text).into_iter().map(|range| Raw::trusted(text.slice(range))).collect()
}

/// Puts something else in place of each value in an array or an object. What stands between them
/// stays, and where nothing changes the bytes are shared.
pub fn map_values(container: &Raw, mut change: impl FnMut(&Raw) -> Raw) -> Raw {
    let text = container.bytes();
    let mut out = Vec::new();
    let mut copied = 0;
    for range in ranges(text) {
        let value = Raw::trusted(text.slice(range.clone()));
        let changed = change(&value);
        if changed != value {
            out.extend_from_slice(slice(text, copied..range.start));
            out.extend_from_slice(changed.bytes());
            copied = range.end;
        }
    }
    if copied == 0 {
        return container.clone();
    }
    out.extend_from_slice(slice(text, copied..text.len()));
    Raw::trusted(out)
}

/// An array of these values.
pub fn array(values: &[Raw]) -> Raw {
    let values: Vec<&[u8]> = values.iter().map(|value| &value.bytes()[..]).collect();
    Raw::trusted([&b"["[..], &values.join(&b','), b"]"].concat())
}

fn members(text: &[u8]) -> Vec<Member> {
    let mut members = Vec::with_capacity(8);
    let mut at = blank(text, 0) + 1; // past the brace
    loop {
        at = blank(text, at);
        if text.get(at) != Some(&b'"') {
            return members;
        }
        let key = at..string_end(text, at);
        at = blank(text, key.end) + 1; // past the colon
        let start = blank(text, at);
        let end = value_end(text, start);
        members.push(Member { key, value: start..end });
        at = blank(text, end);
        if text.get(at) == Some(&b',') {
            at += 1;
        }
    }
}

/// Returns where the values in an array or an object lie.
fn ranges(text: &[u8]) -> Vec<Range<usize>> {
    match text.first() {
        Some(b'{') => members(text).into_iter().map(|member| member.value).collect(),
        Some(b'[') => items(text),
        _ => Vec::new(),
    }
}

fn items(text: &[u8]) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut at = blank(text, 0) + 1; // past the bracket
    loop {
        let start = blank(text, at);
        let end = value_end(text, start);
        if end == start {
            return items;
        }
        items.push(start..end);
        at = blank(text, end);
        if text.get(at) == Some(&b',') {
            at += 1;
        }
    }
}

fn without_comma(text: &[u8], member: &Member, first: bool) -> (usize, usize) {
    let after = blank(text, member.value.end);
    if first {
        let comma = usize::from(text.get(after) == Some(&b','));
        let next = if comma == 1 { blank(text, after + 1) } else { member.value.end };
        return (member.key.start, next);
    }
    let before = slice(text, 0..member.key.start).iter().rposition(|byte| *byte == b',');
    (before.unwrap_or(member.key.start), member.value.end)
}

/// Just past the value that begins at `start`.
pub fn value_end(text: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return at,
            _ => (),
        }
        at += 1;
    }
    text.len()
}

fn blank(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

fn key_is(text: &[u8], key: &Range<usize>, want: &str) -> bool {
    let quoted = slice(text, key.clone());
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if inner.contains(&b'\\') {
        return serde_json::from_slice::<String>(quoted).is_ok_and(|key| key == want);
    }
    inner == want.as_bytes()
}

fn slice(text: &[u8], range: Range<usize>) -> &[u8] {
    text.get(range).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    #[track_caller]
    fn edited(text: &'static str, edits: &[(&str, Option<&[u8]>)], want: &str) {
        assert_eq!(edit(&Raw::trusted(text), edits).as_str(), want);
    }

    #[test]
    fn sets_adds_and_removes() {
        let text = r#"{ "a" : 1e400, "b":{"a":[1,"}"]} , "c":"x\"," }"#;
        edited(text, &[("a", Some(b"2"))], r#"{ "a" : 2, "b":{"a":[1,"}"]} , "c":"x\"," }"#);
        edited(text, &[("b", None)], r#"{ "a" : 1e400 , "c":"x\"," }"#);
        edited(text, &[("a", None)], r#"{ "b":{"a":[1,"}"]} , "c":"x\"," }"#);
        edited(text, &[("c", None)], r#"{ "a" : 1e400, "b":{"a":[1,"}"]}  }"#);
        edited(
            text,
            &[("d", Some(b"[]"))],
            r#"{ "a" : 1e400, "b":{"a":[1,"}"]} , "c":"x\"," ,"d":[]}"#,
        );
        edited("{}", &[("d", Some(b"1")), ("e", Some(b"2"))], r#"{"d":1,"e":2}"#);
        edited(r#"{"a":1,"b":2}"#, &[("a", None), ("b", None)], "{}");
        edited(r#"{"a":1,"b":2}"#, &[("a", None), ("b", None), ("c", Some(b"3"))], r#"{"c":3}"#);
        edited(r#"{"\u0061":1}"#, &[("a", Some(b"2"))], r#"{"\u0061":2}"#);
    }

    #[test]
    fn a_rare_member_is_found_whatever_its_spelling() {
        static STATE: Word = Word::new("state");
        let found = |text: &'static str| {
            let object = Raw::trusted(text);
            let found = rare_member(&object, &STATE);
            assert_eq!(found, rare_member_of(&object, "state"));
            found
        };
        assert_eq!(found(r#"{"a":1,"state":2}"#).unwrap().as_str(), "2");
        assert_eq!(found(r#"{"a":1,"st\u0061te":2}"#).unwrap().as_str(), "2");
        assert!(found(r#"{"a":{"state":2},"b":"\u0061"}"#).is_none());
        assert!(found("{}").is_none());
    }

    #[test]
    fn an_inner_object_is_made_where_missing() {
        let edits: &[(&str, Option<&[u8]>)] = &[("k", Some(b"1"))];
        assert_eq!(edit_within(&Raw::object(), "_meta", edits).as_str(), r#"{"_meta":{"k":1}}"#);
        let object = Raw::trusted(r#"{"x":0,"_meta":{"a":1}}"#);
        let want = r#"{"x":0,"_meta":{"a":1,"k":1}}"#;
        assert_eq!(edit_within(&object, "_meta", edits).as_str(), want);
        assert_eq!(edit_within(&Raw::object(), "_meta", &[("k", None)]).as_str(), "{}");
    }

    #[test]
    fn values_change_where_they_stand() {
        let twice = |value: &Raw| Raw::trusted(format!("{0}{0}", value.as_str()));
        for (text, want) in [
            (r#"[ 1 , "a]" ,[2,{}] ]"#, r#"[ 11 , "a]""a]" ,[2,{}][2,{}] ]"#),
            (r#"{ "x" : 1,"y":{"z":2 }}"#, r#"{ "x" : 11,"y":{"z":2 }{"z":2 }}"#),
            ("[]", "[]"),
            ("[ ]", "[ ]"),
            ("{}", "{}"),
            ("7", "7"),
        ] {
            let raw = Raw::trusted(text);
            assert_eq!(map_values(&raw, twice).as_str(), want);
            let same = map_values(&raw, Raw::clone);
            assert_eq!(same.bytes().as_ptr(), raw.bytes().as_ptr(), "{text}: shared");
        }
        assert_eq!(array(&values(&Raw::trusted("[ 1 , [2] ]"))).as_str(), "[1,[2]]");
        let object = Raw::trusted(r#"{"a":1,"b":2}"#);
        assert_eq!(change(&object, "b", twice).as_str(), r#"{"a":1,"b":22}"#);
        assert_eq!(change(&object, "c", twice), object);
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-e\"\\\\]{1,3}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        });
        prop::collection::vec(("[a-e\"\\\\]{1,3}", value), 0..6)
            .prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(
            map in object(),
            pretty: bool,
            set in "[a-e]{1,2}",
            gone in "[a-e]{1,2}",
        ) {
            prop_assume!(set != gone);
            let write = if pretty { serde_json::to_string_pretty } else { serde_json::to_string };
            let text = write(&map);
            let raw = Raw::trusted(text.unwrap());
            let out = edit(&raw, &[(&set, Some(b"[7]")), (&gone, None)]);
            let mut want = map;
            want.insert(set, serde_json::json!([7]));
            want.remove(&gone);
            prop_assert_eq!(out.read::<Map<String, Value>>().unwrap(), want);
        }
    }
}
