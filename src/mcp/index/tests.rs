//! Holds the index to `serde_json` and to the readers of single members: on generated texts, as
//! they are and damaged.

use bytes::Bytes;
use proptest::{prelude::*, sample::select, test_runner::Config};
use serde_json::value::RawValue;

use crate::mcp::{
    message::{Body, Incoming, Message, MessageBounds, Response},
    meta::Meta,
    method::Method,
    params::Params,
    raw::{Raw, check_depth},
    result::ResultBody,
    splice,
    target::TargetRef,
};

use super::{
    names::{META, PARAMS, RESULT},
    scan::Scan,
    *,
};

const ALL: [Param; PARAMS.len()] = [
    Param::Name,
    Param::Uri,
    Param::TaskId,
    Param::Reference,
    Param::Meta,
    Param::Arguments,
    Param::RequestState,
    Param::InputResponses,
    Param::Argument,
    Param::Context,
    Param::Task,
];

const METAS: [MetaMember; META.len()] = [
    MetaMember::ProtocolVersion,
    MetaMember::ClientCapabilities,
    MetaMember::ClientInfo,
    MetaMember::LogLevel,
    MetaMember::SubscriptionId,
    MetaMember::ProgressToken,
    MetaMember::TraceParent,
];

const RESULTS: [ResultMember; RESULT.len()] = [
    ResultMember::ResultType,
    ResultMember::IsError,
    ResultMember::TaskId,
    ResultMember::CacheScope,
];

/// What results are made of: members that are known, each also as nobody writes it, and others.
const RESULT_MEMBERS: [&str; 20] = [
    "\"resultType\" : \"complete\"",
    "\"resultType\":\"input_required\" ",
    "\"resultType\":\"task\"",
    "\"resultType\":\"t\\u0061sk\"",
    "\"resultType\":null",
    "\"resultType\":\"\\ud800\"",
    "\"result\\u0054ype\":\"task\"",
    "\"ResultType\":\"task\"",
    "\"isError\":true",
    "\"isError\" :\nfalse",
    "\"isError\":\"true\"",
    "\"is\\u0045rror\":true",
    "\"IsError\":true",
    "\"taskId\":\"1\"",
    "\"ta\u{17f}kId\":\"1\"",
    "\"cacheScope\":\"public\"",
    "\"content\":[{\"isError\":true,\"resultType\":\"task\",\"taskId\":\"2\"}]",
    "\"structuredContent\":{\"resultType\":\"input_required\"}",
    "\"_meta\":{\"cacheScope\":[[[{}]]]}",
    "\"größe\":1e400",
];

/// Names of members as nobody writes them: twins, escapes, and no names at all.
const ODD: [&str; 12] = [
    "Name",
    "URI",
    "tas\u{212a}Id",
    "_META",
    "n\\u0061me",
    "\\u005fmeta",
    "\\ud800",
    "m\\u0065thod",
    "Params",
    "größe",
    "progresstoken",
    "",
];

/// Values of every kind, among them those that known members have.
const LEAVES: [&str; 20] = [
    "0",
    "-0",
    "17",
    "-1.5e+3",
    "1E400",
    "123456789012345678901234567890",
    "0.0",
    "true",
    "false",
    "null",
    "\"\"",
    "\"2.0\"",
    "\"tools/call\"",
    "\"2026-07-28\"",
    "\"ref/prompt\"",
    "\"a \\\"b\\\" \\\\ \\/ \\u00e9 \\n and on\"",
    "\"\\ud800\"",
    "\"grüße \u{1f600} \u{fffd} grüße \u{1f600}\"",
    "{}",
    "[]",
];

/// Bytes that tokens are made of.
const TOKENS: &[u8] = b"{}[]:,\"\\ 01-.eEtruefalsn\xc3\xa9";

/// Methods that name their target, each by another member.
const NAMING: [Method; 4] =
    [Method::ToolsCall, Method::ResourcesRead, Method::TasksGet, Method::Complete];

/// At least so many; more where `PROPTEST_CASES` says so.
fn cases() -> Config {
    let config = Config::default();
    Config { cases: config.cases.max(2_000), ..config }
}

fn blank() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "", " ", "\n", "\r\n\t", "                   "])
}

/// The text of an object with these members.
fn object(
    key: impl Strategy<Value = &'static str> + 'static,
    value: impl Strategy<Value = String> + 'static,
) -> impl Strategy<Value = String> {
    let member = (blank(), key, blank(), value, blank())
        .prop_map(|(a, key, b, value, c)| format!("{a}\"{key}\"{b}:{c}{value}{a}"));
    let members = prop::collection::vec(member, 0..6);
    members.prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn names(odd: bool) -> impl Strategy<Value = &'static str> + Clone {
    let known: Vec<_> = PARAMS.into_iter().chain(META).chain(["type", "value", "x"]).collect();
    let odd = if odd { 1 } else { 0 };
    prop_oneof![8 => select(known), odd => select(ODD.to_vec())]
}

fn value() -> impl Strategy<Value = String> + Clone {
    select(LEAVES.to_vec()).prop_map(str::to_owned).prop_recursive(4, 24, 4, |inner| {
        let items = prop::collection::vec((blank(), inner.clone()), 0..4);
        let array = items.prop_map(|items| {
            let items: Vec<_> =
                items.into_iter().map(|(a, item)| format!("{a}{item}{a}")).collect();
            format!("[{}]", items.join(","))
        });
        prop_oneof![array, object(names(true), inner)]
    })
}

/// Params, most of them with a `_meta` that is an object.
fn params() -> impl Strategy<Value = String> {
    let meta = object(names(true), value());
    let value = prop_oneof![2 => value(), 1 => meta];
    object(names(true), value)
}

fn message() -> impl Strategy<Value = String> {
    let given = |key: &'static str, values: &[&str]| {
        let members: Vec<_> = values.iter().map(|value| format!("\"{key}\":{value}")).collect();
        select(members)
    };
    let known = (select(ENVELOPE.to_vec()), value());
    let odd = (select(ODD.to_vec()), value());
    let member = prop_oneof![
        4 => given("jsonrpc", &["\"2.0\"", "\"2.0\"", "\"2.0\"", "2.0"]),
        4 => given("id", &["7", "\"a\"", "null", "7.0"]),
        4 => given("method", &["\"tools/call\"", "\"to\\u006fls/call\"", "null", "1"]),
        4 => params().prop_map(|params| format!("\"params\" : {params} ")),
        2 => value().prop_map(|result| format!("\"result\":{result}")),
        1 => value().prop_map(|error| format!("\n\"error\":{error}")),
        1 => known.prop_map(|(key, value)| format!("\"{key}\":{value}")),
        1 => odd.prop_map(|(key, value)| format!("\"{key}\":{value}")),
    ];
    let members = prop::collection::vec(member, 0..6);
    (members, any::<bool>()).prop_map(|(mut members, right)| {
        if right {
            members.insert(0, "\"jsonrpc\":\"2.0\"".to_owned());
            let mut seen = Vec::new();
            members.retain(|member| {
                let key = member.trim_start().split(':').next().map(str::to_owned);
                let is_new = !seen.contains(&key);
                seen.push(key);
                is_new
            });
        }
        format!("{{{}}}", members.join(","))
    })
}

/// A text with some of its bytes taken out, put in or written over.
fn damaged(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let bytes = b"{}[]:,\"\\ \n\r\t01-+.eEtfnu/bx\x00\x1f\x7f\x80\xc3\xa9\xff".to_vec();
    let damage = (any::<prop::sample::Index>(), 0..3, select(bytes));
    (text, prop::collection::vec(damage, 0..3)).prop_map(|(text, damages)| {
        let mut text = text.into_bytes();
        for (at, kind, byte) in damages {
            let at = at.index(text.len() + 1);
            let end = if kind == 0 { at } else { (at + 1).min(text.len()) };
            let put = if kind == 1 { None } else { Some(byte) };
            drop(text.splice(at..end, put));
        }
        text
    })
}

/// Whatever can be told of what a text was read as, or of why it was not.
fn said<T: std::fmt::Debug, E: std::fmt::Display>(read: Result<T, E>) -> String {
    match read {
        Ok(read) => format!("{read:?}"),
        Err(error) => error.to_string(),
    }
}

fn without_index(message: Message) -> Message {
    match message {
        Message::Request(mut request) => {
            request.params = Params::unknown(request.params.into());
            Message::Request(request)
        }
        Message::Response(Response { id, body: Body::Result(result) }) => {
            Message::Response(Response { id, body: Body::Result(Raw::from(result).into()) })
        }
        other @ (Message::Notification(_) | Message::Response(_)) => other,
    }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(text).is_ok()
}

#[test]
fn names_are_in_order() {
    for (at, name) in ALL.into_iter().enumerate() {
        assert_eq!((name as usize, name.name()), (at, PARAMS[at]));
    }
    for (at, name) in METAS.into_iter().enumerate() {
        assert_eq!((name as usize, name.name()), (at, META[at]));
    }
    for (at, name) in RESULTS.into_iter().enumerate() {
        assert_eq!((name as usize, name.name()), (at, RESULT[at]));
    }
}

#[test]
fn what_usual_messages_hold_is_known_without_another_walk() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{}}}"#,
        r#" { "params" : { "name" : "grüße" , "x" : [ 1 , { } ] } , "method" : "ping" } "#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\"\\\u00e9"}]}}"#,
    ] {
        let index = MessageIndex::of(text.as_bytes(), DEPTH_MAX);
        assert!(index.is_some_and(|index| index.params.is_regular()), "{text}");
    }
}

#[test]
fn a_text_is_as_deep_as_it_may_be() {
    for depth in [1, 2, 7, DEPTH_MAX - 1, DEPTH_MAX] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inner = depth.saturating_sub(1);
            let text = format!("{{\"a\":{}1{}}}", open.repeat(inner), close.repeat(inner));
            assert!(MessageIndex::of(text.as_bytes(), depth).is_some(), "{text}");
            assert!(MessageIndex::of(text.as_bytes(), depth - 1).is_none(), "{text}");
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_scan_takes_what_serde_json_takes(text in damaged(value()), depth_max in 1_usize..6) {
        let taken = |depth_max| {
            let mut scan = Scan::new(&text, depth_max);
            scan.value().is_some() && scan.ends()
        };
        prop_assert_eq!(taken(DEPTH_MAX), is_json(&text), "{}", text.escape_ascii());
        let is_shallow = check_depth(&text, depth_max).is_ok();
        prop_assert_eq!(taken(depth_max), is_json(&text) && is_shallow, "{}", text.escape_ascii());
    }

    #[test]
    fn any_bytes_are_taken_as_serde_json_takes_them(
        text in prop::collection::vec(select(TOKENS.to_vec()), 0..12),
        before in "[a-zé]{0,20}",
    ) {
        let string = [b"\"", before.as_bytes(), &text, b"\""].concat();
        for text in [&text, &string] {
            let mut scan = Scan::new(text, DEPTH_MAX);
            let taken = scan.value().is_some() && scan.ends();
            prop_assert_eq!(taken, is_json(text), "{}", text.escape_ascii());
        }
    }

    /// The same messages, and the same words for what is none.
    #[test]
    fn a_message_is_read_as_without_an_index(text in damaged(message()), depth_max in 2_usize..9) {
        let body = Bytes::from(text);
        let read = Message::parse(&body);
        prop_assert_eq!(
            said(read.map(without_index)),
            said(Message::parse_carefully(&body).map(without_index)),
            "{}", body.escape_ascii()
        );
        let bounds = MessageBounds { depth_max, batch_max: 4 };
        let bounded = Incoming::parse(&body, bounds).map(|read| match read {
            Incoming::One(read) => vec![without_index(read)],
            Incoming::Batch(all) => all,
        });
        if body.trim_ascii_start().first() != Some(&b'[') {
            let careful = check_depth(&body, depth_max)
                .and_then(|()| Ok(vec![without_index(Message::parse_carefully(&body)?)]));
            prop_assert_eq!(said(bounded), said(careful), "{}", body.escape_ascii());
        }
    }

    /// Each member where it stands, and `_meta` and the target as they are read one by one.
    #[test]
    fn members_are_found_as_without_an_index(text in params(), put in value()) {
        let text = Raw::trusted(text);
        let params = Params::from(text.clone());
        let unknown = Params::unknown(text.clone());
        for name in METAS {
            prop_assert_eq!(params.meta_member(name), unknown.meta_member(name));
        }
        for name in ALL {
            prop_assert_eq!(params.member(name), splice::member(&text, name.name()));
            prop_assert_eq!(params.has(name), unknown.has(name));
            let edited = params.with(name, put.as_bytes());
            let want = splice::edit(&text, &[(name.name(), Some(put.as_bytes()))]);
            prop_assert_eq!(edited.text(), &want);
            if params.is_regular() {
                let again = Params::from(want);
                prop_assert_eq!(edited.index(), again.index(), "{:?}", again);
            }
        }
        prop_assert_eq!(said(params.meta()), said(Meta::read(&text)));
        let says_version = Meta::read(&text).is_ok_and(|meta| meta.protocol_version.is_some());
        prop_assert!(params.may_say_version() || !says_version);
        for method in NAMING {
            let found = TargetRef::of(method, &params);
            prop_assert_eq!(said(found), said(TargetRef::of(method, &unknown)));
        }
    }

    /// What a result says of itself is what is read of it without an index, whatever it is made of.
    #[test]
    fn a_result_says_the_same_as_without_an_index(
        members in prop::collection::vec(select(RESULT_MEMBERS.to_vec()), 0..5),
        blank in blank(),
        edit in select(RESULT.to_vec()),
    ) {
        let result = format!("{{{blank}{}{blank}}}", members.join(","));
        let whole = Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{result}}}"));
        let read = |text: &Bytes| match Message::parse(text) {
            Ok(Message::Response(Response { body: Body::Result(result), .. })) => result,
            other => panic!("{other:?}"),
        };
        let said = |result: &ResultBody| {
            let members = RESULTS.map(|name| result.member(name));
            (result.kind(), result.is_error(), result.requires_input(), members)
        };
        let known = read(&whole);
        prop_assert_eq!(known.as_str(), &result);
        prop_assert_eq!(said(&known), said(&Raw::trusted(result.clone()).into()), "{}", result);
        // An edit keeps what is known only where the text is the same, or is said to be complete.
        let changed = splice::edit(&known, &[(edit, Some(b"true"))]);
        let edited = known.clone().with_text(changed.clone());
        prop_assert_eq!(said(&edited), said(&changed.into()), "{}", result);
        let complete = splice::edit(&known, &[("resultType", Some(b"\"complete\""))]);
        let completed = known.completed(complete.clone());
        prop_assert_eq!(said(&completed), said(&complete.into()), "{}", result);
    }

    /// What stands in an envelope with its params is what stands in the params alone.
    #[test]
    fn params_have_one_index(text in params(), before in blank(), behind in blank()) {
        let whole = format!("{{\"a\":[{before}1],\"params\":{before}{text}{behind}}}{behind}");
        let index = MessageIndex::of(whole.as_bytes(), DEPTH_MAX).expect("a regular envelope");
        prop_assert_eq!(Some(index.params), ParamsIndex::of(text.as_bytes()));
    }
}
