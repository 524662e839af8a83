//! The JSON-RPC envelope: one pass over a body, its parts kept as slices of it.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    id::Id,
    index::{self, ENVELOPE, MessageIndex},
    lenient,
    params::Params,
    raw::{self, Malformed, Raw},
    result::ResultBody,
    splice,
    unique_members::{UniqueMembers, is_same_name, read_unique},
};

/// A message, of either side.
#[derive(Debug, Clone)]
pub enum Message {
    Request(Request),
    Notification(Notification),
    Response(Response),
}

#[derive(Debug, Clone)]
pub struct Request {
    pub id: Id,
    pub method: Box<str>,
    /// `{}` where there are none.
    pub params: Params,
}

#[derive(Debug, Clone)]
pub struct Notification {
    pub method: Box<str>,
    pub params: Raw,
    /// The message as it came.
    pub whole: Raw,
}

#[derive(Debug, Clone)]
pub struct Response {
    /// None where the peer could not tell which request it answers.
    pub id: Option<Id>,
    pub body: Body,
}

/// Body of a response: the `result`, or the `error` object, each as received.
#[derive(Debug, Clone)]
pub enum Body {
    Result(ResultBody),
    Error(Raw),
}

impl Body {
    /// The `result` or the `error`, as it is written.
    pub fn text(&self) -> &Raw {
        match self {
            Self::Result(result) => result,
            Self::Error(error) => error,
        }
    }
}

/// The messages of one HTTP body.
#[derive(Debug, Clone)]
pub enum Incoming {
    One(Message),
    Batch(Vec<Message>),
}

/// Bounds on what a stranger sends.
#[derive(Debug, Clone, Copy)]
pub struct MessageBounds {
    pub depth_max: usize,
    pub batch_max: usize,
}

impl Incoming {
    /// Reads a client's body: one message or a batch. A byte order mark before it is passed over
    /// (RFC 8259 §8.1). What is nested too deeply is refused for that, whatever else is wrong.
    ///
    /// # Errors
    /// Fails where the body is no JSON, is nested too deeply, is a batch that is empty or too long,
    /// or has a part that is no message.
    pub fn parse(body: &Bytes, bounds: MessageBounds) -> Result<Self, Malformed> {
        let unmarked = lenient::unmarked(body);
        let body = unmarked.as_ref().unwrap_or(body);
        if body.trim_ascii_start().first() != Some(&b'[') {
            return Message::within(body, bounds.depth_max).map(Self::One);
        }
        raw::check_depth(body, bounds.depth_max)?;
        let parts: Vec<&RawValue> = serde_json::from_slice(body)?;
        if parts.is_empty() {
            return Err(Malformed::Shape("an empty batch"));
        }
        if bounds.batch_max < parts.len() {
            return Err(Malformed::Shape("more messages in one batch than `batch_max` allows"));
        }
        let messages = parts.into_iter().map(|part| {
            let part = Raw::part(body, part);
            Message::parse(part.bytes())
        });
        messages.collect::<Result<_, _>>().map(Self::Batch)
    }
}

impl Message {
    /// Reads one message, however deeply it is nested.
    ///
    /// # Errors
    /// [`Malformed::Json`] where the body is no JSON; else what of its envelope is wrong.
    pub fn parse(body: &Bytes) -> Result<Self, Malformed> {
        match MessageIndex::of(body, index::DEPTH_MAX) {
            Some(index) => Self::indexed(body, &index),
            None => Self::parse_carefully(body),
        }
    }

    fn within(body: &Bytes, depth_max: usize) -> Result<Self, Malformed> {
        if let Some(index) = MessageIndex::of(body, depth_max) {
            return Self::indexed(body, &index);
        }
        raw::check_depth(body, depth_max)?;
        Self::parse_carefully(body)
    }

    fn indexed(body: &Bytes, index: &MessageIndex) -> Result<Self, Malformed> {
        let known = |params| Params::indexed(params, &index.params);
        let mut message = Self::of(body, index.values(body), known)?;
        if let Self::Response(Response { body: Body::Result(result), .. }) = &mut message {
            result.know(index.result);
        }
        Ok(message)
    }

    /// Reads what a scan does not vouch for: what is wrong, or deeper than it goes, or has a member
    /// whose name is not plain.
    #[cold]
    pub(super) fn parse_carefully(body: &Bytes) -> Result<Self, Malformed> {
        let values = read_envelope(body)?.map(|value| value.map(|value| value.get().as_bytes()));
        Self::of(body, values, Params::from)
    }

    /// The message with an envelope of these values, which are slices of the body.
    fn of(
        body: &Bytes,
        values: [Option<&[u8]>; ENVELOPE.len()],
        known: impl FnOnce(Raw) -> Params,
    ) -> Result<Self, Malformed> {
        let [jsonrpc, id, method, params, result, error] = values;
        let raw = |value: &[u8]| Raw::found(body, value);
        if jsonrpc != Some(b"\"2.0\"") {
            return Err(Malformed::Shape("`jsonrpc` must be \"2.0\""));
        }
        let Some(method) = non_null(method) else {
            let id = non_null(id).map(|id| Id::new(raw(id))).transpose()?;
            let body = match (non_null(result), non_null(error)) {
                (Some(result), None) => Body::Result(raw(result).into()),
                (None, Some(error)) => Body::Error(raw(error)),
                _ => {
                    return Err(Malformed::Shape(
                        "neither `method` nor one of `result` and `error`",
                    ));
                }
            };
            return Ok(Self::Response(Response { id, body }));
        };
        let method = std::str::from_utf8(method).ok().and_then(raw::text_of);
        let method = method.ok_or(Malformed::Shape("`method` must be a string"))?.into();
        let params = non_null(params).map_or_else(Params::none, |params| known(raw(params)));
        if !params.text().is_object() {
            return Err(Malformed::Shape("`params` must be an object"));
        }
        // `null` is there, and is no id.
        Ok(match id.map(|id| Id::new(raw(id))).transpose()? {
            Some(id) => Self::Request(Request { id, method, params }),
            None => {
                let whole = Raw::trusted(body.clone());
                let params = params.into();
                Self::Notification(Notification { method, params, whole })
            }
        })
    }
}

/// The id of a text that was meant to be one request, though it is no message: the one `id` of an
/// object that is no response. `None` where there is none, or no one answer to which it is.
pub fn id_of_request(text: &Bytes) -> Option<Id> {
    let unmarked = lenient::unmarked(text);
    let text = unmarked.as_ref().unwrap_or(text);
    let whole: &RawValue = serde_json::from_slice(text).ok()?;
    let whole = Raw::part(text, whole);
    let members = if whole.is_object() { splice::entries(&whole) } else { Vec::new() };
    let named = |name| members.iter().filter(move |(key, _)| is_same_name(key, name));
    if named("result").chain(named("error")).next().is_some() {
        return None;
    }
    let mut ids = named("id");
    let (key, id) = ids.next().filter(|_| ids.next().is_none())?;
    Id::lenient(id.clone()).ok().filter(|_| key == "id")
}

/// Treats `null` as absent.
fn non_null(value: Option<&[u8]>) -> Option<&[u8]> {
    value.filter(|value| *value != b"null")
}

/// Tells a body that is no JSON from JSON that is no message.
fn read_envelope(body: &Bytes) -> Result<[Option<&RawValue>; 6], Malformed> {
    read_unique(body, UniqueMembers(&ENVELOPE)).map_err(|error| {
        if error.is_data() && serde_json::from_slice::<&RawValue>(body).is_ok() {
            Malformed::Shape("not a JSON-RPC message: not an object, or a member appears twice")
        } else {
            Malformed::Json(error)
        }
    })
}

/// The text of a request.
pub fn request(id: &Id, method: &str, params: &Raw) -> Bytes {
    let parts: [&[u8]; 7] = [
        br#"{"jsonrpc":"2.0","id":"#,
        id.raw().bytes(),
        br#","method":""#,
        method.as_bytes(),
        br#"","params":"#,
        params.bytes(),
        b"}",
    ];
    parts.concat().into()
}

/// The text of a notification.
pub fn notification(method: &str, params: &Raw) -> Raw {
    let parts: [&[u8]; 5] = [
        br#"{"jsonrpc":"2.0","method":""#,
        method.as_bytes(),
        br#"","params":"#,
        params.bytes(),
        b"}",
    ];
    Raw::trusted(parts.concat())
}

/// The text of a response. An unknown id is written `null`, as JSON-RPC 2.0 §5 has it.
pub fn response(id: Option<&Id>, body: &Body) -> Bytes {
    let id: &[u8] = id.map_or(b"null", |id| id.raw().bytes());
    let (key, value): (&[u8], &Raw) = match body {
        Body::Result(result) => (br#","result":"#, result),
        Body::Error(error) => (br#","error":"#, error),
    };
    let parts: [&[u8]; 5] = [br#"{"jsonrpc":"2.0","id":"#, id, key, value.bytes(), b"}"];
    parts.concat().into()
}

/// The text of a batch's answer (2025-03-26), in this order; none where there is nothing to answer.
pub fn array(answers: &[Bytes]) -> Option<Bytes> {
    (!answers.is_empty()).then(|| [&b"["[..], &answers.join(&b','), b"]"].concat().into())
}

/// The message as one line. Raw ends of lines stand between tokens only, where they mean nothing.
pub fn on_one_line(text: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &text).is_none() {
        return text;
    }
    let flat = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    text.iter().map(flat).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: MessageBounds = MessageBounds { depth_max: 16, batch_max: 3 };

    fn parse(text: &str) -> Result<Incoming, Malformed> {
        Incoming::parse(&Bytes::copy_from_slice(text.as_bytes()), BOUNDS)
    }

    #[test]
    fn a_request_keeps_its_bytes() {
        let params = r#"{"z":12345678901234567890123456789012345678901,"a":1.0e0,"u":"\u0041"}"#;
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":"a\"b","method":"tools\/call","params":{params}}}"#);
        let Ok(Incoming::One(Message::Request(request))) = parse(&text) else {
            panic!("a request")
        };
        assert_eq!(request.id.raw().as_str(), r#""a\"b""#);
        assert_eq!(&*request.method, "tools/call");
        assert_eq!(request.params.text().as_str(), params);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let cases = [
            ("{", "not valid JSON"),
            ("1", "not a JSON-RPC message"),
            (r#"{"id":1,"method":"ping"}"#, "`jsonrpc`"),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, "`id` must"),
            (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, "`id` must"),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, "`id` must"),
            (r#"{"jsonrpc":"2.0","id":1}"#, "neither `method`"),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, "appears twice"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, "`params` must"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}"#, "appears twice"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}"#, "appears twice"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{},"PARAMS":{}}"#, "appears twice"),
            ("[]", "an empty batch"),
            ("[1,2,3,4]", "batch_max"),
        ];
        for (text, want) in cases {
            let error = parse(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn a_mark_before_the_text_is_passed_over_once() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        assert!(parse(&format!("\u{feff}{ping}")).is_ok());
        assert!(parse(&format!("\u{feff}[{ping}]")).is_ok());
        for text in [format!("\u{feff}\u{feff}{ping}"), format!(" \u{feff}{ping}")] {
            assert!(parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_batch_is_split() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let Ok(Incoming::Batch(messages)) = parse(&format!("[{ping}, {ping}]")) else {
            panic!("a batch")
        };
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn the_id_of_what_is_no_message_is_told_where_it_can_be() {
        for (text, want) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}"#, Some("7")),
            (r#"{"id":"a\u0062","method":"ping"}"#, Some(r#""a\u0062""#)),
            (r#"{"jsonrpc":"1.0","id":-3,"method":"ping"}"#, Some("-3")),
            (r#"{"jsonrpc":"2.0","id":3.0,"method":"ping"}"#, Some("3.0")),
            (r#"{"jsonrpc":"2.0","id":4}"#, Some("4")),
            (r#"{"jsonrpc":"2.0","id":5,"method":6}"#, Some("5")),
            (r#"{"jsonrpc":"2.0","id":5,"method":"a","method":"b"}"#, Some("5")),
            (r#"{"jsonrpc":"2.0","i\u0064":8,"method":7}"#, Some("8")),
            ("\u{feff}{\"id\":9}", Some("9")),
            (r#"{"jsonrpc":"2.0","id":5,"id":6,"method":"a"}"#, None),
            (r#"{"jsonrpc":"2.0","id":5,"ID":6,"method":"a"}"#, None),
            (r#"{"jsonrpc":"2.0","ID":6,"method":"a"}"#, None),
            (r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, None),
            (r#"{"jsonrpc":"2.0","id":{"a":1},"method":"a"}"#, None),
            (r#"{"jsonrpc":"2.0","id":true,"method":"a"}"#, None),
            (r#"{"jsonrpc":"1.0","id":5,"result":{}}"#, None),
            (r#"{"jsonrpc":"1.0","id":5,"error":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":5,"method":"#, None),
            (r#"[{"id":5}]"#, None),
            ("5", None),
        ] {
            let id = id_of_request(&Bytes::from(text.to_owned()));
            assert_eq!(id.as_ref().map(|id| id.raw().as_str()), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(id: u64, method in "[a-z/]{1,12}", text in ".{0,20}") {
            let params = Raw::encode(&serde_json::json!({ "text": text }));
            let body = request(&Id::number(id), &method, &params);
            let Ok(Message::Request(read)) = Message::parse(&body) else { panic!("a request") };
            prop_assert_eq!(read.id.as_number(), Some(id));
            prop_assert_eq!(&*read.method, method.as_str());
            prop_assert_eq!(read.params.text(), &params);
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _judged = Incoming::parse(&Bytes::from(bytes), BOUNDS);
        }
    }
}
