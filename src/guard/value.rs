//! How much there is to check in a value.

use serde_json::{Map, Value};

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

/// Returns the value without the members that are `null`, but for those that `is_read` names; none
/// where there are none.
pub fn without_nulls(arguments: &Value, is_read: impl Fn(&str) -> bool) -> Option<Value> {
    let said = arguments.as_object()?;
    let is_left = |name: &String, value: &Value| !value.is_null() || is_read(name);
    if said.iter().all(|(name, value)| is_left(name, value)) {
        return None;
    }
    let left = said.iter().filter(|(name, value)| is_left(name, value));
    Some(left.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into())
}
