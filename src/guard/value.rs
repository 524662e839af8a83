//! How much there is to check in a value.

use serde_json::Value;

/// A pattern that goes over so many bytes takes as long as some other check of a node.
const TEXT_BYTES: usize = 64;

/// The nodes of a value, and a node more for each `TEXT_BYTES` of text.
pub fn size(value: &Value) -> u64 {
    let text = |text: &String| (text.len() / TEXT_BYTES) as u64;
    1 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(said) => text(said),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| text(name) + size(member)).sum()
        }
    }
}

/// Without the members that are `null`; none where there are none. In its place: it may be large.
pub fn without_nulls(arguments: Value) -> Option<Value> {
    let Value::Object(mut said) = arguments else { return None };
    let before = said.len();
    said.retain(|_, value| !value.is_null());
    (said.len() < before).then_some(Value::Object(said))
}
