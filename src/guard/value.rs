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

/// Takes the members of the arguments that are `null` out of them, but for those that `is_read`
/// names: their names.
pub fn take_nulls(arguments: &mut Value, is_read: impl Fn(&str) -> bool) -> Vec<String> {
    let Some(said) = arguments.as_object_mut() else { return Vec::new() };
    let is_taken = |(name, value): &(&String, &Value)| value.is_null() && !is_read(name);
    let names: Vec<String> = said.iter().filter(is_taken).map(|(name, _)| name.clone()).collect();
    names.iter().for_each(|name| drop(said.remove(name)));
    names
}

/// Puts members that were taken out back into the arguments.
pub fn put_nulls(arguments: &mut Value, names: Vec<String>) {
    if let Some(said) = arguments.as_object_mut() {
        said.extend(names.into_iter().map(|name| (name, Value::Null)));
    }
}
