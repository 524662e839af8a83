//! A question in mid-call as its client sees it: by another request (modern) or on a stream of
//! events (legacy).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

/// What is answered, whatever is asked.
const ANSWER: &str = r#"{"action":"accept","content":{"sure":true}}"#;

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    result: InputRequired<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InputRequired<'a> {
    #[serde(borrow)]
    input_requests: BTreeMap<&'a str, IgnoredAny>,
    #[serde(borrow)]
    request_state: &'a RawValue,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
}

/// The messages of a stream.
#[derive(Default)]
pub struct Events(Vec<u8>);

/// What a modern client adds to the params of its retry.
pub fn retry(asked: &[u8]) -> Result<String> {
    let read = serde_json::from_slice::<Response<'_>>(asked);
    let asked = read.with_context(|| String::from_utf8_lossy(asked).into_owned())?.result;
    let answers = asked.input_requests.keys().map(|key| format!(r#""{key}":{ANSWER}"#));
    let answers = answers.collect::<Vec<_>>().join(",");
    let state = asked.request_state;
    Ok(format!(r#","inputResponses":{{{answers}}},"requestState":{state}"#))
}

/// What a legacy client answers to a message; nothing where that is no question.
pub fn answer(message: &[u8]) -> Result<Option<String>> {
    let Message { id, method } = serde_json::from_slice(message)?;
    let asked = id.filter(|_| method.is_some());
    Ok(asked.map(|id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{ANSWER}}}"#)))
}

impl Events {
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next one that has come whole; events without data are none.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        while let Some(end) = memchr::memmem::find(&self.0, b"\n\n") {
            let event: Vec<_> = self.0.drain(..end + 2).collect();
            let data =
                event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:"));
            let data = data.map(<[u8]>::trim_ascii).filter(|data| !data.is_empty());
            if let Some(data) = data {
                return Some(data.to_vec());
            }
        }
        None
    }
}
