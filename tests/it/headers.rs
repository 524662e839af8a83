//! What stands in HTTP headers: mirrored from the body in the modern era, and who may knock at all.

use hyper::Method;
use serde_json::{Value, json};

use crate::{
    client::{Client, Reply},
    fake,
    gate::gateway,
};

const MISMATCH: (u16, i64) = (400, -32020);

async fn refusal(reply: Reply) -> (u16, i64) {
    (reply.status, reply.message().await.code())
}

fn call(client: &Client, arguments: &Value) -> String {
    client.request("tools/call", json!({ "name": "log", "arguments": arguments }))
}

#[tokio::test]
async fn mirrored_headers_equal_the_body() {
    let git = fake::http().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    for change in [
        ("mcp-method", "-"),
        ("mcp-method", "tools/list"),
        ("mcp-method", "TOOLS/CALL"),
        ("mcp-name", "-"),
        ("mcp-name", "Log"),
        ("mcp-name", "=?base64?not base64?="),
        ("mcp-name", "=?base64?YWJj?="),
        ("mcp-protocol-version", "-"),
        ("mcp-protocol-version", "2025-06-18"),
    ] {
        let reply = client.post_with(&call(&client, &json!({})), &[change]).await;
        assert_eq!(refusal(reply).await, MISMATCH, "{change:?}");
    }
    assert!(git.seen("tools/call").is_empty(), "nothing refused may reach the upstream");
    let twice = [("mcp-name", "log"), ("mcp-name", "diff")];
    let reply = client.post_with(&call(&client, &json!({})), &twice).await;
    assert_eq!(refusal(reply).await, MISMATCH, "two values are no value");
    let wrapped = [("mcp-name", "=?base64?bG9n?=")];
    assert_eq!(client.post_with(&call(&client, &json!({})), &wrapped).await.status, 200);
}

#[tokio::test]
async fn a_name_outside_ascii_travels_as_base64() {
    let docs = fake::http().resource("file:///größe");
    let gate = gateway().upstream("docs", &docs).start().await;
    let client = gate.modern();
    let read = client.request("resources/read", json!({ "uri": "file:///größe" }));
    let wrapped = "=?base64?ZmlsZTovLy9ncsO2w59l?=";
    let reply = client.post_with(&read, &[("mcp-name", wrapped)]).await;
    assert_eq!(reply.message().await.result()["contents"][0]["uri"], "file:///größe");
    assert_eq!(docs.receives("resources/read").await.header("mcp-name"), wrapped);
}

fn annotated() -> Value {
    let properties = json!({
        "region": { "type": "string", "x-mcp-header": "Region" },
        "count": { "type": "integer", "x-mcp-header": "Count" },
        "dry": { "type": "boolean", "x-mcp-header": "Dry" },
    });
    json!({ "name": "log", "inputSchema": { "type": "object", "properties": properties } })
}

#[tokio::test]
async fn annotated_arguments_equal_their_headers() {
    let git = fake::http().tool_with(annotated());
    // Its schema takes no null.
    let unchecked = "guard.arguments = \"off\"";
    let gate = gateway().upstream_with("git", &git, unchecked).start().await;
    let client = gate.modern();
    let body = |arguments: Value| call(&client, &arguments);
    let full = json!({ "region": "köln", "count": 42.0, "dry": true });
    let region = ("mcp-param-region", "=?base64?a8O2bG4=?=");
    let (count, dry) = (("mcp-param-count", "42"), ("mcp-param-dry", "true"));

    let good = client.post_with(&body(full.clone()), &[region, count, dry]).await;
    assert_eq!(good.message().await.result()["content"][0]["text"], "log ran");
    let seen = git.receives("tools/call").await;
    assert_eq!(seen.header("mcp-param-region"), region.1);
    assert_eq!(seen.header("mcp-param-dry"), "true");
    let null = client.post_with(&body(json!({ "region": null })), &[]).await;
    assert_eq!(null.status, 200, "null has no header");

    for (missing, headers) in [
        ("count", vec![region, dry]),
        ("region", vec![count, dry]),
        ("dry", vec![region, count, ("mcp-param-dry", "True")]),
        ("region", vec![("mcp-param-region", "köln"), count, dry]),
        ("count", vec![region, ("mcp-param-count", "43"), dry]),
    ] {
        let reply = client.post_with(&body(full.clone()), &headers).await;
        assert_eq!(refusal(reply).await, MISMATCH, "{missing} {headers:?}");
    }
    assert_eq!(git.seen("tools/call").len(), 2);
}

/// An intermediary forwards the `Mcp-Param-*` headers that it does not recognise (2026-07-28).
#[tokio::test]
async fn headers_of_arguments_nobody_knows_are_forwarded() {
    let git = fake::http().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    let reply = client.post_with(&call(&client, &json!({})), &[("mcp-param-other", "kept")]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(git.receives("tools/call").await.header("mcp-param-other"), "kept");
}

/// The gateway is the one who must send them when its client is of an era without them.
#[tokio::test]
async fn a_legacy_clients_arguments_are_mirrored_upstream() {
    let git = fake::http().tool_with(annotated());
    // Its schema takes no null.
    let unchecked = "guard.arguments = \"off\"";
    let gate = gateway().upstream_with("git", &git, unchecked).start().await;
    let client = gate.legacy("2025-06-18").await;
    let arguments = json!({ "region": " a", "count": 7, "dry": null });
    client.ask("tools/call", json!({ "name": "log", "arguments": arguments })).await.result();
    let seen = git.receives("tools/call").await;
    assert_eq!(seen.header("mcp-param-region"), "=?base64?IGE=?=");
    assert_eq!(seen.header("mcp-param-count"), "7");
    assert_eq!(seen.header("mcp-param-dry"), "");
}

#[tokio::test]
async fn a_tool_with_an_invalid_annotation_is_left_out() {
    let tool = |name: &str, properties: Value| {
        let schema = json!({ "type": "object", "properties": properties });
        json!({ "name": name, "inputSchema": schema })
    };
    let with = |header: &str, kind: &str| json!({ "type": kind, "x-mcp-header": header });
    let items = json!({ "type": "array", "items": with("X", "string") });
    let git = fake::http()
        .tool_with(tool("empty", json!({ "a": with("", "string") })))
        .tool_with(tool("number", json!({ "a": with("X", "number") })))
        .tool_with(tool("space", json!({ "a": with("X Y", "string") })))
        .tool_with(tool("twice", json!({ "a": with("X", "string"), "b": with("x", "string") })))
        .tool_with(tool("items", json!({ "a": items })))
        .tool_with(tool(
            "nested",
            json!({ "a": { "type": "object", "properties": { "b": with("X", "string") } } }),
        ))
        .tool("plain");
    let gate = gateway().upstream("git", &git).start().await;
    assert_eq!(gate.modern().tools().await, ["nested", "plain"]);
}

#[tokio::test]
async fn an_unknown_version_is_told_the_known_ones() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let client = gate.client("2099-01-01", json!({}));
    let text = gate.modern().request("tools/list", json!({})).replace("2026-07-28", "2099-01-01");
    let headers = [("mcp-protocol-version", "2099-01-01"), ("mcp-method", "tools/list")];
    let reply = client.post_with(&text, &headers).await;
    assert_eq!(reply.status, 400);
    let error = reply.message().await.error();
    assert_eq!(error["code"], -32022);
    assert_eq!(error["data"]["requested"], "2099-01-01");
    assert_eq!(error["data"]["supported"].as_array().unwrap()[0], "2026-07-28");
}

#[tokio::test]
async fn meta_is_not_optional() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let client = gate.modern();
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
    for meta in [
        json!({}),
        json!({ "io.modelcontextprotocol/clientCapabilities": {} }),
        json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" }),
        json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": 1 }),
        json!(7),
    ] {
        let params = json!({ "_meta": meta });
        let text = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params });
        let reply = client.endpoint.post(&headers, &text.to_string()).await;
        assert_eq!(refusal(reply).await, (400, -32602), "{meta}");
    }
    let bare = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let reply = client.endpoint.post(&headers, bare).await;
    assert_eq!(refusal(reply).await, (400, -32602), "no params at all");
}

#[tokio::test]
async fn what_the_era_has_not_is_not_found() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let client = gate.modern();
    let removed = ["initialize", "ping", "logging/setLevel", "resources/subscribe"];
    for method in removed.into_iter().chain(["tools/frobnicate", "sampling/createMessage"]) {
        let reply = client.start(method, json!({})).await;
        assert_eq!(refusal(reply).await, (404, -32601), "{method}");
    }
    for verb in [Method::GET, Method::DELETE] {
        let headers = [("mcp-protocol-version", "2026-07-28"), ("accept", "text/event-stream")];
        let reply = gate.send(verb.clone(), &headers, b"").await;
        assert_eq!((reply.status, reply.header("allow")), (405, "POST"), "{verb}");
    }
}

#[tokio::test]
async fn strangers_origins_and_hosts_are_forbidden() {
    let plan = gateway().server("origins = [\"https://app.example\"]\nhosts = [\"gate.example\"]");
    let gate = plan.upstream("git", &fake::http().tool("log")).start().await;
    let client = gate.modern();
    let port = gate.address.port();
    let (loopback, named) = (format!("http://localhost:{port}"), format!("localhost:{port}"));
    for (header, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "http://localhost.evil.example", 403),
        ("origin", "null", 403),
        ("host", "evil.example", 403),
        ("host", "127.0.0.1.evil.example", 403),
        ("origin", "https://app.example", 200),
        ("origin", loopback.as_str(), 200),
        ("host", "gate.example", 200),
        ("host", named.as_str(), 200),
    ] {
        let text = client.request("tools/list", json!({}));
        let reply = client.post_with(&text, &[(header, value)]).await;
        assert_eq!(reply.status, status, "{header}: {value}");
    }
    for verb in [Method::GET, Method::DELETE, Method::OPTIONS] {
        let headers = [("origin", "https://evil.example")];
        assert_eq!(gate.send(verb.clone(), &headers, b"").await.status, 403, "{verb}");
    }
}

#[tokio::test]
async fn what_is_the_clients_own_stays_with_the_gate() {
    let git = fake::http().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    let private = [
        ("authorization", "Bearer secret"),
        ("cookie", "a=b"),
        ("mcp-session-id", "abc"),
        ("x-forwarded-for", "10.0.0.1"),
        ("last-event-id", "7"),
        ("traceparent-of-mine", "1"),
    ];
    let reply = client.post_with(&call(&client, &json!({})), &private).await;
    assert_eq!((reply.status, reply.header("mcp-session-id")), (200, ""));
    let seen = git.receives("tools/call").await;
    for (name, _) in private {
        assert_eq!(seen.header(name), "", "{name}");
    }
    assert_eq!(seen.header("host"), git.address().to_string());
}

/// Whatever a client accepts, and whatever is asked: what is passed on byte by byte comes as it is.
#[tokio::test]
async fn servers_are_asked_for_what_is_not_coded() {
    let servers = [
        fake::http(),
        fake::dual(),
        fake::legacy("2024-11-05"),
        fake::legacy("2025-03-26"),
        fake::legacy("2025-06-18"),
        fake::legacy("2025-11-25"),
        fake::legacy("2025-06-18").stateless(),
        fake::sse("2024-11-05"),
    ];
    let servers: Vec<_> = servers.into_iter().enumerate().collect();
    let plan = servers.iter().fold(gateway(), |plan, (at, server)| {
        let server = server.clone().tool(&format!("log{at}"));
        plan.upstream(&format!("server{at}"), &server)
    });
    let gate = plan.start().await;
    let clients = [gate.modern(), gate.legacy("2025-06-18").await];
    for coding in ["gzip, deflate, br", "*", "-", "identity;q=0, gzip"] {
        for (client, (at, _)) in
            clients.iter().flat_map(|it| servers.iter().map(move |at| (it, at)))
        {
            let arguments = json!({ "name": format!("log{at}"), "arguments": {} });
            let text = client.request("tools/call", arguments);
            let reply = client.post_with(&text, &[("accept-encoding", coding)]).await;
            assert_eq!(reply.status, 200, "log{at} for `{coding}`");
            assert!(reply.message().await.error.is_none(), "log{at} for `{coding}`");
        }
    }
    for (at, server) in &servers {
        assert_eq!(server.seen("tools/call").len(), 8, "server{at}");
        for seen in server.all() {
            let verb = &seen.verb;
            assert_eq!(seen.header("accept-encoding"), "identity", "{verb} at server{at}");
        }
    }
}

#[tokio::test]
async fn media_types_are_checked() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let client = gate.modern();
    let text = client.request("tools/list", json!({}));
    let plain = client.post_with(&text, &[("content-type", "text/plain")]).await;
    assert_eq!(plain.status, 415);
    let picky = client.post_with(&text, &[("accept", "text/html")]).await;
    assert_eq!(picky.status, 406);
    let charset = client.post_with(&text, &[("content-type", "Application/JSON; charset=utf-8")]);
    assert_eq!(charset.await.status, 200);
}
