//! Reads a message that is strict JSON-RPC but for flaws whose meaning is certain.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::{
    error::{ErrorObject, INTERNAL_ERROR},
    id::{Id, number_of},
    index::ENVELOPE,
    message::{Body, Message, Response},
    raw::{Malformed, Raw, string_end, string_of},
    splice,
    unique_members::{UniqueMembers, read_unique},
};

use super::{Damaged, Received, unmarked};

#[cold]
pub(super) fn mended(text: &Bytes, error: Malformed) -> Received {
    let text = in_json(in_utf8(unmarked(text).unwrap_or_else(|| text.clone())));
    if text.trim_ascii_start().first() != Some(&b'[') {
        return match one(&text, Some(error)) {
            Ok(message) => Received::Message(message),
            Err(damaged) => Received::Damaged(damaged),
        };
    }
    match serde_json::from_slice::<Vec<&RawValue>>(&text) {
        Ok(parts) if parts.len() <= BATCH_MAX => {
            let part = |part| one(Raw::part(&text, part).bytes(), None);
            Received::Batch(parts.into_iter().map(part).collect())
        }
        Ok(_) | Err(_) => Received::Damaged(Damaged { error, answers: None }),
    }
}

/// Reads one message in which the text itself is mended; `error` says what was wrong before that.
fn one(text: &Bytes, error: Option<Malformed>) -> Result<Message, Damaged> {
    let again = match Message::parse(text) {
        Ok(message) => return Ok(strict(message)),
        Err(again) => again,
    };
    if let Some(message) = loosely(text) {
        return Ok(strict(message));
    }
    Err(Damaged { error: error.unwrap_or(again), answers: answered(text) })
}

/// An envelope whose id is not as it should be, and leaves no doubt all the same.
fn loosely(text: &Bytes) -> Option<Message> {
    let [jsonrpc, id, method, _, result, error] =
        read_unique(text, UniqueMembers(&ENVELOPE)).ok()?;
    let id = Raw::part(text, id?);
    if method.is_some() && id.as_str() == "null" {
        let whole = splice::edit(&Raw::trusted(text.clone()), &[("id", None)]);
        return Message::parse(whole.bytes()).ok();
    }
    let id = Id::lenient(id).ok()?;
    // Anything but its id may be wrong, too.
    let whole = splice::edit(&Raw::trusted(text.clone()), &[("id", Some(b"0"))]);
    match Message::parse(whole.bytes()).ok()? {
        Message::Request(request) => {
            Some(Message::Request(crate::mcp::message::Request { id, ..request }))
        }
        Message::Response(_) if jsonrpc.is_some() => {
            let there = |value: &&RawValue| value.get() != "null";
            let body = match (result.filter(there), error.filter(there)) {
                (Some(result), None) => Body::Result(Raw::part(text, result).into()),
                (None, Some(error)) => Body::Error(Raw::part(text, error)),
                _ => return None,
            };
            Some(Message::Response(Response { id: Some(id), body }))
        }
        Message::Response(_) | Message::Notification(_) => None,
    }
}

/// A response whose `error` any strict reader takes: an object with an integer `code` and a text as
/// its `message`.
pub(super) fn strict(message: Message) -> Message {
    let Message::Response(Response { id, body: Body::Error(error) }) = message else {
        return message;
    };
    let body = Body::Error(error_object(error));
    Message::Response(Response { id, body })
}

fn error_object(error: Raw) -> Raw {
    #[derive(Deserialize)]
    struct Parts<'a> {
        #[serde(borrow)]
        code: Option<&'a RawValue>,
        #[serde(borrow)]
        message: Option<&'a RawValue>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let Some(Parts { code, message, data }) = error.try_read().filter(|_| error.is_object()) else {
        let text = error.try_read::<&RawValue>().and_then(string_of);
        let text = text.unwrap_or_else(|| Cow::Owned(error.as_str().to_owned()));
        return ErrorObject::new(INTERNAL_ERROR, text).raw();
    };
    let number: Option<f64> = code.and_then(|code| {
        let text = string_of(code).unwrap_or(Cow::Borrowed(code.get()));
        text.trim().parse().ok().filter(|code: &f64| code.abs() < f64::from(i32::MAX))
    });
    let is_integer = number.is_some_and(|code| code.fract() == 0.0)
        && code.is_some_and(|code| !code.get().starts_with('"'));
    let said = message.and_then(string_of);
    if is_integer && said.is_some() {
        return error;
    }
    #[allow(clippy::cast_possible_truncation, reason = "it is within the bounds of i32")]
    let code = number.map_or(INTERNAL_ERROR, |code| code as i64);
    let said =
        said.unwrap_or_else(|| Cow::Owned(message.map_or("no message", RawValue::get).into()));
    let object = ErrorObject::new(code, said);
    match data {
        Some(data) => object.with(&data).raw(),
        None => object.raw(),
    }
}

fn in_utf8(text: Bytes) -> Bytes {
    match String::from_utf8_lossy(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(mended) => mended.into(),
    }
}

/// The text with `null` for the numbers that JSON has no word for, outside of strings.
fn in_json(text: Bytes) -> Bytes {
    if REPLACEMENTS.iter().all(|word| memchr::memmem::find(&text, word).is_none()) {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let word = REPLACEMENTS.iter().find(|word| rest.starts_with(word));
        let (put, step) = match (word, rest.first()) {
            (Some(word), _) => (&b"null"[..], word.len()),
            (None, Some(b'"')) => {
                let end = string_end(&text, at) - at;
                (rest.get(..end).unwrap_or(rest), end)
            }
            (None, _) => (rest.get(..1).unwrap_or(rest), 1),
        };
        out.extend_from_slice(put);
        at += step;
    }
    out.into()
}

/// The request that a text was meant to answer. A log line that holds an id is none: what says
/// neither `jsonrpc` nor `result` nor `error` beside it, or says `method`, answers nothing.
pub(super) fn answered(text: &Bytes) -> Option<u64> {
    if let Ok(members) = serde_json::from_slice::<HashMap<Cow<'_, str>, &RawValue>>(text) {
        let has = |name| members.contains_key(name);
        let answers = !has("method") && (has("jsonrpc") || has("result") || has("error"));
        let id = members.get("id").filter(|_| answers)?;
        return number_of(&Raw::part(text, id));
    }
    let finds = |text: &[u8], word: &[u8]| memchr::memmem::find(text, word).is_some();
    let text = text.trim_ascii();
    let begins = text.starts_with(b"{")
        && !finds(text, b"\"method\"")
        && [&b"\"jsonrpc\""[..], b"\"result\"", b"\"error\""].iter().any(|key| finds(text, key));
    if begins {
        return id_in(text);
    }
    // The end of one that was cut in two: the official TypeScript servers write the id last. A log
    // line that quotes a message closes no more than it opens.
    let braces = |brace| memchr::memchr_iter(brace, text).count();
    let is_end = text.ends_with(b"}") && braces(b'{') < braces(b'}');
    let tail = text.get(text.len().saturating_sub(TAIL)..).filter(|_| is_end)?;
    if finds(tail, b"\"jsonrpc\"") { id_in(tail) } else { None }
}

/// The first number that follows `"id":`.
fn id_in(text: &[u8]) -> Option<u64> {
    let found = memchr::memmem::find_iter(text, b"\"id\"");
    let mut values = found.filter_map(|at| {
        let rest = text.get(at + b"\"id\"".len()..)?.trim_ascii_start().strip_prefix(b":")?;
        let rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| b",}] \t".contains(byte)).unwrap_or(rest.len());
        let value = std::str::from_utf8(rest.get(..end)?).ok()?;
        number_of(&Raw::trusted(value.to_owned()))
    });
    values.next()
}

/// Bytes at the end of a text in which an id is looked for, where the beginning was cut off.
const TAIL: usize = 64;

/// Messages of one array that are read; more are one damaged message.
pub(super) const BATCH_MAX: usize = 1_000;

const REPLACEMENTS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
