//! Tests what is mended, what is refused, and which call a damaged text answers.

use bytes::Bytes;
use proptest::prelude::*;

use crate::mcp::message::{Message, Response};

use super::{mending::BATCH_MAX, *};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The id and the raw body of the response that a text is read as.
fn response(text: &[u8]) -> Option<(u64, String)> {
    match read(&Bytes::copy_from_slice(text)) {
        Received::Message(Message::Response(Response { id, body })) => {
            let body = body.text();
            Some((id?.as_number()?, body.as_str().to_owned()))
        }
        Received::Message(_) | Received::Batch(_) | Received::Damaged(_) => None,
    }
}

fn damaged(text: &str) -> Option<Option<u64>> {
    match read(&bytes(text)) {
        Received::Damaged(damaged) => Some(damaged.answers),
        Received::Message(_) | Received::Batch(_) => None,
    }
}

#[test]
fn what_leaves_no_doubt_is_mended() {
    let cases: [(&[u8], &str); 15] = [
        (br#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#, r#"{"a":1}"#),
        (b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}", "{}"),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"t\":\"a\xffb\xc3\"}}",
            "{\"t\":\"a\u{fffd}b\u{fffd}\"}",
        ),
        (br#"{"jsonrpc":"2.0","id":7.0,"result":{"n":1.50}}"#, r#"{"n":1.50}"#),
        (br#"{"jsonrpc":"2.0","id":7e0,"result":{}}"#, "{}"),
        (br#"{"jsonrpc":"2.0","id":"7","result":{}}"#, "{}"),
        (br#"{"jsonrpc":"2.0","id":" 7.0 ","result":{}}"#, "{}"),
        (br#"{"jsonrpc":"2.0","id":7,"result":{"n":NaN,"t":"NaN"}}"#, r#"{"n":null,"t":"NaN"}"#),
        (
            br#"{"jsonrpc":"2.0","id":7,"result":{"n":[-Infinity,Infinity]}}"#,
            r#"{"n":[null,null]}"#,
        ),
        (br#"{"jsonrpc":"2.0","id":7,"result":{},"error":null}"#, "{}"),
        (br#"{"jsonrpc":"2.0","id":7,"error":"no"}"#, r#"{"code":-32603,"message":"no"}"#),
        (
            br#"{"jsonrpc":"2.0","id":7,"error":{"message":"no"}}"#,
            r#"{"code":-32603,"message":"no"}"#,
        ),
        (
            br#"{"jsonrpc":"2.0","id":7,"error":{"code":"-32000","message":{"a":1},"data":[1.0]}}"#,
            r#"{"code":-32000,"message":"{\"a\":1}","data":[1.0]}"#,
        ),
        (br#"{"jsonrpc":"2.0","id":7,"error":[1]}"#, r#"{"code":-32603,"message":"[1]"}"#),
        (
            br#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000.0,"message":"as it is","x":1}}"#,
            r#"{"code":-32000.0,"message":"as it is","x":1}"#,
        ),
    ];
    for (text, want) in cases {
        assert_eq!(response(text), Some((7, want.to_owned())), "{}", text.escape_ascii());
    }
}

#[test]
fn a_damaged_answer_names_its_call_and_a_log_line_names_none() {
    for text in [
        r#"{"id":7,"result":{}}"#,
        r#"{"jsonrpc":"1.0","id":7,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":null}"#,
        r#"{"jsonrpc":"2.0","id":"7"}"#,
        r#"{"jsonrpc":"2.0","id":7.0,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{"text":"line 1"#,
        r#"{"jsonrpc": "2.0", "id": "7", "error": {"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{}}{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{},}"#,
        r#"line 2"}]},"jsonrpc":"2.0","id":7}"#,
    ] {
        assert_eq!(damaged(text), Some(Some(7)), "{text}");
    }
    for text in [
        "",
        "null",
        "[1,2",
        "Listening on port 7",
        r#"{"level":"info","id":7,"msg":"done"}"#,
        r#"{"id":7,"method":"tools/call","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":true,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{}"#,
        r#"INFO answered {"jsonrpc":"2.0","id":7,"result":{}} in 5 ms"#,
        r#"DEBUG >> {"result":{},"jsonrpc":"2.0","id":7}"#,
        r#"{"got":{"id":7}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":"#,
        r#""id": 7,"#,
    ] {
        assert_eq!(damaged(text), Some(None), "{text}");
    }
}

#[test]
fn a_batch_is_read_entry_by_entry() {
    let text = r#"[{"jsonrpc":"2.0","id":7.0,"result":{}}, 1, {"id":8,"result":{}},
        {"jsonrpc":"2.0","method":"notifications/progress","params":{}}]"#;
    let Received::Batch(all) = read(&bytes(text)) else { panic!("a batch") };
    assert!(matches!(
        &all[..],
        [
            Ok(Message::Response(_)),
            Err(Damaged { answers: None, .. }),
            Err(Damaged { answers: Some(8), .. }),
            Ok(Message::Notification(_)),
        ]
    ));
    let many = format!("[{}]", vec!["1"; BATCH_MAX + 1].join(","));
    assert_eq!(damaged(&many), Some(None));
}

#[test]
fn a_notification_has_no_id() {
    let text = r#"{"jsonrpc":"2.0","id":null,"method":"notifications/message","params":{"a":1}}"#;
    let Received::Message(Message::Notification(read)) = read(&bytes(text)) else { panic!() };
    assert_eq!(&*read.method, "notifications/message");
    assert!(!read.whole.as_str().contains("id"), "{:?}", read.whole);
}

#[test]
fn a_request_of_the_server_keeps_the_id_that_it_wrote() {
    for id in ["\"a\"", "7", "7.0", "-1e0"] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        let Received::Message(Message::Request(read)) = read(&bytes(&text)) else { panic!("{id}") };
        assert_eq!(read.id.raw().as_str(), id);
    }
}

proptest! {
    /// Whatever stands in a text, only what JSON cannot say is changed.
    #[test]
    fn strings_are_left_alone(text in ".{0,20}(NaN|Infinity|\"|\\\\)?.{0,20}", odd: bool) {
        let value = serde_json::to_string(&text).unwrap();
        let odd = if odd { "NaN" } else { "null" };
        let sent = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"t":{value},"n":{odd}}}}}"#);
        let want = format!(r#"{{"t":{value},"n":null}}"#);
        prop_assert_eq!(response(sent.as_bytes()), Some((7, want)));
    }

    /// Bytes of a text that are no UTF-8 become U+FFFD, and all others stay.
    #[test]
    fn bytes_that_are_no_text_become_replacement_characters(
        text in prop::collection::vec(
            prop_oneof![3 => 0x80_u8..=0xff, 1 => 0x20_u8..0x80, 1 => prop::sample::select(
                vec![0xc3, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xed, 0xa0, 0xf4, 0x90],
            )],
            0..60,
        ),
    ) {
        let text: Vec<u8> = text.into_iter().filter(|byte| !b"\"\\".contains(byte)).collect();
        let whole = [&br#"{"jsonrpc":"2.0","id":7,"result":{"t":""#[..], &text, b"\"}}"].concat();
        let want = format!("{{\"t\":\"{}\"}}", String::from_utf8_lossy(&text));
        prop_assert_eq!(response(&whole), Some((7, want)));
    }

    #[test]
    fn any_bytes_are_judged_without_panic(
        mut text in prop::collection::vec(any::<u8>(), 0..80),
        with: bool,
    ) {
        if with {
            text.splice(0..0, *b"{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":");
        }
        let _read = read(&Bytes::from(text));
    }
}
