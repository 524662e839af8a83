//! What clients spell in more than one way, and mean all the same: paths, `Accept`, cursors; and
//! whose answer it is that a message could not be read.

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::Endpoint,
    fake::{self, Fake},
    gate::gateway,
};

#[tokio::test]
async fn a_slash_at_the_end_of_a_path_is_no_other_path() {
    let server = fake::http().tool("log");
    let route = "upstreams = [\"docs\"]";
    let plan = gateway().upstream("docs", &server).route("/mcp", route).route("/a/b", route);
    let gate = plan.start().await;
    for (path, tools) in [
        ("/mcp", Some(1)),
        ("/mcp/", Some(1)),
        ("/a/b", Some(1)),
        ("/a/b/", Some(1)),
        ("/mcp?a=b", Some(1)),
        ("/", None),
        ("/a/", None),
        ("/mcp/?a=b/", Some(1)),
        ("/mcp//", None),
        ("//mcp", None),
        ("/MCP/", None),
        ("/mcp/x/", None),
        ("/none/", None),
    ] {
        let endpoint: Endpoint = gate.at(path);
        match tools {
            Some(count) => {
                assert_eq!(endpoint.modern().tools().await.len(), count, "{path}");
                let legacy = endpoint.legacy("2025-06-18").await;
                assert_eq!(legacy.tools().await.len(), count, "{path}");
            }
            None => assert_eq!(endpoint.post(&[], "{}").await.status, 404, "{path}"),
        }
    }
}

#[tokio::test]
async fn several_lines_of_accept_are_one_list_and_a_weight_of_nothing_is_no() {
    let server = fake::http().tool("log");
    let gate = gateway().upstream("docs", &server).start().await;
    let (json, stream) = ("application/json", "text/event-stream");
    let client = gate.modern();
    let text = client.request("tools/call", json!({ "name": "log", "arguments": {} }));
    for (lines, want) in [
        (vec!["application/json", "text/event-stream"], Some(json)),
        (vec!["text/html", "application/json, text/event-stream"], Some(json)),
        (vec!["application/json;q=0", "text/event-stream"], Some(stream)),
        (vec!["*/*", "application/json; q=0.0"], Some(stream)),
        (vec!["text/event-stream;q=0", "application/json"], Some(json)),
        (vec!["text/html", "image/*"], None),
        (vec!["application/json;q=0"], None),
    ] {
        let accept: Vec<_> = lines.iter().map(|line| ("accept", *line)).collect();
        let call = accept.iter().copied().chain([
            ("content-type", "application/json"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "log"),
        ]);
        let call: Vec<_> = call.collect();
        let reply = client.endpoint.send(Method::POST, &call, text.as_bytes()).await;
        let Some(kind) = want else {
            assert_eq!(reply.status, 406, "{lines:?}");
            continue;
        };
        assert!(reply.header("content-type").starts_with(kind), "{lines:?}");
        assert_eq!(reply.message().await.result()["content"][0]["text"], "log ran", "{lines:?}");
        // A session is opened in either form, too.
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": { "name": "a", "version": "1" } });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
        let opened = client.endpoint.post(&accept, &body.to_string()).await;
        assert!(opened.header("content-type").starts_with(kind), "{lines:?}");
        assert!(!opened.header("mcp-session-id").is_empty());
    }
}

/// Requests that are no message, and the id that their answer must have.
const UNREAD: [(&str, &str); 12] = [
    (r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":[]}"#, "7"),
    (r#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":"x"}"#, r#""a""#),
    (r#"{"id":8,"method":"tools/list"}"#, "8"),
    (r#"{"jsonrpc":"1.0","id":9,"method":"tools/list"}"#, "9"),
    (r#"{"jsonrpc":2.0,"id":10,"method":"tools/list"}"#, "10"),
    (r#"{"jsonrpc":"2.0","id":11,"method":12}"#, "11"),
    (r#"{"jsonrpc":"2.0","id":13}"#, "13"),
    (r#"{"jsonrpc":"2.0","id":3.0,"method":"tools/list"}"#, "3.0"),
    (r#"{"jsonrpc":"2.0","id":14,"method":"a","method":"b"}"#, "14"),
    (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}"#, "null"),
    (r#"{"jsonrpc":"2.0","id":null,"method":"tools/list","params":[]}"#, "null"),
    (r#"{"jsonrpc":"2.0","id":15,"method":"#, "null"),
];

#[tokio::test]
async fn an_answer_has_the_id_of_its_request_wherever_that_can_be_read() {
    let gate = gateway().upstream("docs", &fake::http().tool("log")).start().await;
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":21,"method":"a","params":{}1{}}}"#,
        r#"{"a":"#.repeat(2_000),
        "}".repeat(2_000)
    );
    let mut pipe = gate.pipe();
    for (text, id) in UNREAD.into_iter().chain([(deep.as_str(), "21")]) {
        let reply = gate.post(&[], text).await;
        assert_eq!(reply.status, 400, "{text}");
        let body: Value = serde_json::from_str(&reply.text().await).unwrap();
        assert_eq!((body["id"].to_string().as_str(), body["error"].is_object()), (id, true));
        pipe.say(text).await;
        let heard: Value = serde_json::from_str(&pipe.line().await.unwrap()).unwrap();
        assert_eq!(heard["id"].to_string(), id, "{text}");
    }
}

#[tokio::test]
async fn an_empty_cursor_is_the_first_page() {
    let server = fake::dual().tool("log").prompt("ask").resource("mem://one").template("mem://{a}");
    let gate = gateway().upstream("docs", &server).start().await;
    for client in [gate.modern(), gate.legacy("2025-06-18").await] {
        for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
            let first = client.ask(method, json!({})).await.result();
            let also = client.ask(method, json!({ "cursor": "" })).await.result();
            assert_eq!(first, also, "{method}");
            let unknown = client.ask(method, json!({ "cursor": " " })).await.error();
            assert_eq!(unknown["code"], -32602, "{method}");
        }
    }
}

/// A server that is shown as it is has no lists that it does not have.
#[tokio::test]
async fn what_a_server_does_not_have_is_no_empty_list_where_it_is_shown_as_it_is() {
    let only = |server: Fake| async move {
        let route = "upstreams = [\"docs\"]\nnames = \"never\"";
        gateway().upstream("docs", &server).route("/mcp", route).start().await
    };
    let lists = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];
    for (server, has) in [
        (fake::dual().tool("log"), [true, false, false, false]),
        (fake::dual().prompt("ask"), [false, true, false, false]),
        (fake::dual().resource("mem://one"), [false, false, true, true]),
        (fake::dual().tool("log").prompt("ask"), [true, true, false, false]),
    ] {
        let gate = only(server).await;
        for client in [gate.modern(), gate.legacy("2025-06-18").await] {
            for (method, has) in lists.into_iter().zip(has) {
                let answer = client.ask(method, json!({})).await;
                let code = answer
                    .error
                    .map(|error| serde_json::from_str::<Value>(&error).unwrap()["code"].as_i64());
                assert_eq!(code, (!has).then_some(Some(-32601)), "{method}");
            }
        }
    }
    // Behind a route of the gate's own names an empty list is what it has.
    let gate = gateway().upstream("docs", &fake::dual().tool("log")).start().await;
    let prompts = gate.modern().ask("prompts/list", json!({})).await.result();
    assert_eq!(prompts["prompts"], json!([]));
}
