//! JSON-RPC messages as tests see them: the envelope parsed, its members the very bytes that came.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Value, value::RawValue};

/// One message; raw members hold the very text that was sent.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub id: Option<String>,
    pub method: Option<String>,
    pub params: Option<String>,
    pub result: Option<String>,
    pub error: Option<String>,
}

/// The text that a model reads of a failure with this structured content: the message, and the
/// request by which operators find it.
#[track_caller]
pub fn told(said: &Value) -> String {
    let id = said["request_id"].as_str().expect("the request is named");
    format!("{} (request {id})", said["message"].as_str().unwrap())
}

/// An answer without what differs from request to request.
pub fn without_request(answer: &str) -> String {
    let id = answer.split("(request ").nth(1).and_then(|rest| rest.get(..16));
    id.map_or_else(|| answer.to_owned(), |id| answer.replace(id, "ID"))
}

impl Message {
    /// What is not a JSON object reads as a message without members.
    pub fn parse(bytes: &[u8]) -> Self {
        let members = members(bytes);
        let take = |name: &str| members.get(name).cloned();
        let method = take("method").and_then(|raw| serde_json::from_str(&raw).ok());
        Self {
            id: take("id"),
            method,
            params: take("params"),
            result: take("result"),
            error: take("error"),
        }
    }

    pub fn params(&self) -> Value {
        value(self.params.as_deref())
    }

    /// The result; panics with the whole message if it is an error.
    pub fn result(&self) -> Value {
        assert!(self.result.is_some(), "expected a result: {self:?}");
        value(self.result.as_deref())
    }

    /// The error; panics with the whole message if it is a result.
    pub fn error(&self) -> Value {
        assert!(self.error.is_some(), "expected an error: {self:?}");
        value(self.error.as_deref())
    }

    pub fn code(&self) -> i64 {
        self.error()["code"].as_i64().unwrap()
    }
}

/// The members of an object with the very bytes of their values.
pub fn members(bytes: &[u8]) -> BTreeMap<String, String> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(bytes).unwrap_or_default();
    members.into_iter().map(|(name, raw)| (name.into_owned(), raw.get().to_owned())).collect()
}

/// What a number or a string cannot say in Rust's types reads as an empty object.
fn value(raw: Option<&str>) -> Value {
    let Some(raw) = raw else { return Value::Null };
    serde_json::from_str(raw).unwrap_or_else(|_| {
        let members = members(raw.as_bytes()).into_iter();
        members.map(|(name, raw)| (name, value(Some(&raw)))).collect()
    })
}
