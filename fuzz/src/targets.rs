//! The targets: each reads bytes as the gateway would, and asserts what must hold of any input.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, value::RawValue};
use tollgate::internals::{
    Body, EntryBounds, Incoming, Item, ListKind, Message, MessageBounds, Meta, Method, Param,
    Params, Raw, Received, ResultBody, ResultMember, TargetRef, answer_in_pieces, canonical,
    events_of, header, lenient, splice, take_lines, uri,
};

pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[
    ("message", message),
    ("params", params),
    ("result", result),
    ("lenient", read_leniently),
    ("splice", edit),
    ("sse", events),
    ("lines", lines),
    ("header", header_value),
    ("canonical", canonical_form),
    ("uri", normal_form),
    ("entry", entry),
    ("answer", answer),
];

/// Deeper texts are refused before any of these readers sees them.
const DEPTH_MAX: usize = 64;
const BOUNDS: MessageBounds = MessageBounds { depth_max: DEPTH_MAX, batch_max: 16 };

/// A client's body: whatever is accepted has parts that are JSON by themselves, and is understood
/// of an upstream, too.
fn message(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let Ok(incoming) = Incoming::parse(&body, BOUNDS) else { return };
    let text = lenient::unmarked(&body).unwrap_or_else(|| body.clone());
    assert!(serde_json::from_slice::<&RawValue>(&text).is_ok(), "{}", text.escape_ascii());
    match incoming {
        Incoming::One(message) => {
            assert_whole(&message);
            let unmarked = lenient::unmarked(&body).unwrap_or(body);
            assert!(!matches!(lenient::read(&unmarked), Received::Damaged(_)));
        }
        Incoming::Batch(messages) => messages.iter().for_each(assert_whole),
    }
}

/// A request's params: what their index knows is what is found by walking them.
fn params(data: &[u8]) {
    const NAMES: [(Param, &str); 5] = [
        (Param::Name, "name"),
        (Param::Uri, "uri"),
        (Param::Meta, "_meta"),
        (Param::Arguments, "arguments"),
        (Param::RequestState, "requestState"),
    ];
    let Some(text) = json(data).filter(Raw::is_object) else { return };
    let params = Params::from(text.clone());
    for (member, name) in NAMES {
        assert_eq!(params.member(member), splice::member(&text, name));
        let edited = params.with(member, b"[7]");
        assert_eq!(edited.text(), &splice::edit(&text, &[(name, Some(b"[7]"))]));
        assert_eq!(edited.member(member), splice::member(edited.text(), name));
        assert_eq!(said(edited.meta()), said(Meta::read(edited.text())));
    }
    assert_eq!(said(params.meta()), said(Meta::read(&text)));
    if let Ok(TargetRef::Name(name)) = TargetRef::of(Method::ToolsCall, &params) {
        let members = splice::entries(&text).into_iter();
        let mut named = members.filter(|(key, _)| key.eq_ignore_ascii_case("name"));
        let read = named.next().and_then(|(_, value)| value.try_read::<String>());
        assert_eq!((read, named.next()), (Some(name), None));
    }
}

/// A result in an answer: what was noted while it was read is what is found by walking it.
fn result(data: &[u8]) {
    const NAMES: [(ResultMember, &str); 4] = [
        (ResultMember::ResultType, "resultType"),
        (ResultMember::IsError, "isError"),
        (ResultMember::TaskId, "taskId"),
        (ResultMember::CacheScope, "cacheScope"),
    ];
    let Some(text) = json(data).filter(Raw::is_object) else { return };
    let whole = [br#"{"jsonrpc":"2.0","id":1,"result":"#, text.bytes().as_ref(), b"}"].concat();
    let Ok(Message::Response(answer)) = Message::parse(&whole.into()) else { return };
    let Body::Result(known) = answer.body else { return };
    let unknown = ResultBody::from(text.clone());
    assert_eq!(known.bytes(), text.bytes());
    assert_eq!(known.kind(), unknown.kind());
    assert_eq!(known.is_error(), unknown.is_error());
    for (member, name) in NAMES {
        assert_eq!(known.member(member), splice::member(&text, name));
    }
}

fn said<T: std::fmt::Debug, E: std::fmt::Display>(read: Result<T, E>) -> String {
    read.map_or_else(|error| error.to_string(), |read| format!("{read:?}"))
}

/// An upstream's text: what is mended is as strict as what needed no mending.
fn read_leniently(data: &[u8]) {
    match lenient::read(&Bytes::copy_from_slice(data)) {
        Received::Message(message) => assert_whole(&message),
        Received::Batch(messages) => messages.iter().flatten().for_each(assert_whole),
        Received::Damaged(_) => (),
    }
}

#[track_caller]
fn assert_whole(message: &Message) {
    match message {
        Message::Request(request) => assert_json(request.params.text()),
        Message::Notification(notification) => assert_json(&notification.params),
        Message::Response(response) => assert_json(response.body.text()),
    }
}

#[track_caller]
fn assert_json(raw: &Raw) {
    let read = serde_json::from_slice::<&RawValue>(raw.bytes());
    assert!(read.is_ok(), "{read:?}: {}", raw.bytes().escape_ascii());
}

/// Editing an object sets and removes the one member, and leaves all others as they were.
fn edit(data: &[u8]) {
    const KEYS: [&str; 3] = ["name", "_meta", "a"];
    let Some(object) = json(data).filter(Raw::is_object) else { return };
    let entries = splice::entries(&object);
    for key in KEYS {
        let others = |object: &Raw| {
            let entries = splice::entries(object).into_iter();
            entries.filter(|(name, _)| name != key).collect::<Vec<_>>()
        };
        let set = splice::edit(&object, &[(key, Some(b"[7]"))]);
        assert_json(&set);
        assert_eq!(splice::member(&set, key).as_ref().map(Raw::as_str), Some("[7]"));
        assert_eq!(others(&set), others(&object));
        let removed = splice::edit(&object, &[(key, None)]);
        assert_json(&removed);
        assert!(splice::member(&removed, key).is_none());
        assert_eq!(others(&removed), others(&object));
        if !entries.iter().any(|(name, _)| name == key) {
            assert_eq!(removed.bytes(), object.bytes(), "nothing to remove");
        }
    }
}

/// A stream of events: the same events, however the bytes are cut. The first byte says how.
fn events(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = events_of(stream, stream.len().max(1));
    assert_eq!(events_of(stream, usize::from(*size).max(1)), whole);
}

/// Lines of a process: the same lines, however the bytes are cut. The first byte says how.
fn lines(data: &[u8]) {
    let Some((size, output)) = data.split_first() else { return };
    let (mut buffer, mut taken) = (BytesMut::new(), Vec::new());
    for chunk in output.chunks(usize::from(*size).max(1)) {
        let looked = buffer.len();
        buffer.extend_from_slice(chunk);
        take_lines(&mut buffer, looked, |line| taken.push(line.clone()));
    }
    let mut whole: Vec<_> = output.split(|byte| *byte == b'\n').collect();
    let rest = whole.pop();
    let whole = whole.into_iter().map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    assert_eq!(taken, whole.collect::<Vec<_>>());
    assert_eq!(Some(&buffer[..]), rest);
}

/// Values of headers: what can be read is written so that it is read again.
fn header_value(data: &[u8]) {
    if let Some(text) = header::decode(data) {
        assert_eq!(header::decode(header::encode(&text).as_bytes()), Some(text));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(header::decode(header::encode(text).as_bytes()).as_deref(), Some(text));
    }
}

/// The canonical form says the same, and is its own canonical form.
fn canonical_form(data: &[u8]) {
    let Some(json) = json(data) else { return };
    let Some(form) = canonical(json.bytes(), None) else { return };
    if serde_json::from_slice::<&RawValue>(&form).is_err() {
        // A number whose exponent nobody reckons with is marked, so that it equals no other.
        assert!(form.contains(&b'~'), "{}", form.escape_ascii());
        return;
    }
    assert_eq!(canonical(&form, None).as_ref(), Some(&form), "{}", form.escape_ascii());
    // serde reads no numbers beyond doubles.
    let Ok(said) = serde_json::from_slice::<Value>(json.bytes()) else { return };
    let read = serde_json::from_slice::<Value>(&form).expect("both have the same numbers");
    assert!(is_alike(&said, &read), "{said} {read}");
}

fn is_alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, one)| other.get(key).is_some_and(|other| is_alike(one, other));
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}

/// What a URI is judged as is judged as itself.
fn normal_form(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    uri::loosest(&uri::normal(text));
    if let Some(readings) = uri::Readings::of(text) {
        let again = uri::Readings::of(&readings.normal);
        assert_eq!(again.as_ref(), Some(&readings), "of {text}");
    }
}

/// An entry of a list: what is shown to clients needs no further mending. The first byte says of
/// which list.
fn entry(data: &[u8]) {
    const KINDS: [ListKind; 4] =
        [ListKind::Tools, ListKind::Prompts, ListKind::Resources, ListKind::Templates];
    let Some((kind, text)) = data.split_first() else { return };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    let Ok(entry) = Raw::parse(&Bytes::copy_from_slice(text)) else { return };
    let bounds = EntryBounds { bytes_max: 1 << 16, depth_max: DEPTH_MAX };
    let Ok((item, _)) = Item::of(kind, &entry, bounds, true) else { return };
    assert_json(&item.raw);
    let (again, mended) =
        Item::of(kind, &item.raw, EntryBounds { bytes_max: 1 << 20, ..bounds }, true)
            .expect("what was let through is let through again");
    assert!(mended.is_empty(), "{mended:?}: {}", item.raw.as_str());
    assert_eq!((again.key, again.raw), (item.key, item.raw));
}

/// A JSON text as the gateway has it once it was looked at.
fn json(data: &[u8]) -> Option<Raw> {
    let raw = Raw::parse(&Bytes::copy_from_slice(data.trim_ascii())).ok()?;
    tollgate::internals::check_depth(raw.bytes(), DEPTH_MAX).ok()?;
    Some(raw)
}

/// An upstream's answer over plain HTTP: it is the same however it is cut, and no longer than what
/// came. The first two bytes say how it is cut.
fn answer(data: &[u8]) {
    let Some((sizes, text)) = data.split_at_checked(2) else { return };
    let whole = answer_in_pieces(text, &[]);
    let sizes = sizes.iter().map(|size| usize::from(*size)).collect::<Vec<_>>();
    assert_eq!(whole, answer_in_pieces(text, &sizes));
    if let Ok(read) = whole {
        assert!(read.body.len() <= text.len() && (100..1_000).contains(&read.status));
    }
}
