//! Clients of older legacy versions: they are shown what their version knows, in its own words, and
//! whoever needs no change gets the server's own bytes.

use serde_json::{Value, json};

use crate::{
    client::Client,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
};

const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// With what came with each version, and what no version knows.
const TOOL: &str = r#"{"title":"Log","name":"log", "annotations":{"readOnlyHint":true},"inputSchema":{"type":"object","properties":{"n":{"maximum":1e400}}},"outputSchema":{"type":"object"},"x":[1.0],"icons":[{"src":"https://example.org/i.png"}]}"#;

/// The only entry of the client's list of tools, to the letter.
async fn listed(client: &Client) -> String {
    let page = client.ask("tools/list", json!({})).await.result.unwrap();
    let entries = page.strip_prefix(r#"{"tools":["#).and_then(|page| page.strip_suffix("]}"));
    entries.unwrap_or_else(|| panic!("more than a list: {page}")).to_owned()
}

/// Upstreams of this era that have the tool, over every transport there is.
fn servers() -> [Fake; 3] {
    [fake::legacy("2025-11-25"), fake::stdio("2025-11-25"), fake::http()]
}

async fn calls(gate: &Gate, version: &str, name: &str) -> Value {
    gate.legacy(version).await.call(name).await
}

#[tokio::test]
async fn a_client_is_shown_of_a_tool_what_its_version_knows() {
    let without =
        |gone: &[&str]| gone.iter().fold(TOOL.to_owned(), |tool, gone| tool.replace(gone, ""));
    let icons = r#","icons":[{"src":"https://example.org/i.png"}]"#;
    let (title, output) = (r#""title":"Log","#, r#","outputSchema":{"type":"object"}"#);
    let hints = r#" "annotations":{"readOnlyHint":true},"#;
    for git in servers() {
        let gate = gateway().upstream("git", &git.tool_raw(TOOL)).start().await;
        for (version, want) in VERSIONS.into_iter().zip([
            without(&[icons, title, output, hints]),
            without(&[icons, title, output]),
            without(&[icons]),
            TOOL.to_owned(),
        ]) {
            let client = gate.legacy(version).await;
            assert_eq!(listed(&client).await, want, "{version}");
            assert_eq!(listed(&client).await, want, "{version}, once more");
        }
    }
}

#[tokio::test]
async fn whoever_needs_no_change_gets_the_servers_own_bytes() {
    let tool = r#"{"title":"Log","name":"log","inputSchema":{"type":"object"},"_meta":{"n":1.50}}"#;
    let result = r#"{"structuredContent":{"n":1e400} ,"content":[{"type":"resource_link","name":"a","uri":"file:///a","_meta":{}}]}"#;
    for git in [fake::legacy("2025-06-18"), fake::stdio("2025-06-18")] {
        let gate = gateway().upstream("git", &git.tool_raw(tool).answer(result)).start().await;
        for version in ["2025-06-18", "2025-11-25"] {
            let client = gate.legacy(version).await;
            assert_eq!(listed(&client).await, tool, "{version}");
            let said = client.ask("tools/call", json!({ "name": "log", "arguments": {} })).await;
            assert_eq!(said.result.as_deref(), Some(result), "{version}");
        }
    }
}

#[tokio::test]
async fn content_of_a_kind_that_came_later_is_told_in_words() {
    let result = json!({ "resultType": "complete", "content": [
        { "type": "text", "text": "first" },
        { "type": "audio", "data": "AAAA", "mimeType": "audio/wav" },
        { "type": "resource_link", "name": "notes", "uri": "file:///notes" },
    ]});
    for git in servers() {
        let git = git.tool("log").answer(&result.to_string());
        let gate = gateway().upstream("git", &git).start().await;
        for version in VERSIONS {
            let content = calls(&gate, version, "log").await["content"].clone();
            let kinds = json!([content[0]["type"], content[1]["type"], content[2]["type"]]);
            let want = match version {
                "2024-11-05" => json!(["text", "text", "text"]),
                "2025-03-26" => json!(["text", "audio", "text"]),
                _ => json!(["text", "audio", "resource_link"]),
            };
            assert_eq!(kinds, want, "{version}");
            if version == "2024-11-05" {
                let audio = content[1]["text"].as_str().unwrap();
                assert!(audio.contains("audio/wav") && !audio.contains("AAAA"), "{audio}");
            }
            if version < "2025-06-18" {
                assert_eq!(content[2]["text"], "notes: file:///notes");
            }
        }
    }
}

/// A modern server may give any JSON; a legacy client knows of objects only.
#[tokio::test]
async fn what_is_structured_is_an_object_or_text() {
    let tool = r#"{"name":"list","inputSchema":{"type":"object"},"outputSchema":{"type":"array"}}"#;
    let result = r#"{"resultType":"complete","content":[],"structuredContent":[1.0]}"#;
    let gate = gateway().upstream("git", &fake::http().tool_raw(tool).answer(result)).start().await;
    for version in VERSIONS {
        let client = gate.legacy(version).await;
        let shown = r#"{"name":"list","inputSchema":{"type":"object"}}"#;
        assert_eq!(listed(&client).await, shown, "{version}: any output is right");
        let said = client.ask("tools/call", json!({ "name": "list", "arguments": {} })).await;
        let want = match version {
            "2024-11-05" | "2025-03-26" => r#"{"content":[{"type":"text","text":"[1.0]"}]}"#,
            _ => r#"{"content":[],"structuredContent":{"result":[1.0]}}"#,
        };
        assert_eq!(said.result.as_deref(), Some(want), "{version}");
    }
    let modern = gate.modern();
    let said = modern.ask("tools/call", json!({ "name": "list", "arguments": {} })).await;
    assert_eq!(said.result.as_deref(), Some(result));
}

#[tokio::test]
async fn an_older_client_is_asked_in_older_words_or_not_at_all() {
    let field = json!({ "type": "string", "oneOf": [{ "const": "x", "title": "X" }] });
    let several = json!({ "type": "array", "items": { "type": "string", "enum": ["x"] } });
    let form = |field: &Value| {
        let schema = json!({ "type": "object", "properties": { "a": field } });
        json!({ "mode": "form", "message": "Which?", "requestedSchema": schema })
    };
    let git = fake::legacy("2025-11-25")
        .tool("one")
        .ask("elicitation/create", &form(&field))
        .tool("some")
        .ask("elicitation/create", &form(&several));
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "elicitation": {} })).await;
    let mut reply = client.start("tools/call", json!({ "name": "one", "arguments": {} })).await;
    let question = reply.until("elicitation/create").await;
    let want = json!({ "type": "string", "enum": ["x"], "enumNames": ["X"] });
    assert_eq!(question.params()["requestedSchema"]["properties"]["a"], want);
    assert_eq!(question.params().get("mode"), None);
    drop(reply);

    client.call("some").await;
    let mut answers = git.all().into_iter().map(|seen| seen.message());
    let refused = answers.rfind(|answer| answer.error.is_some()).unwrap();
    assert_eq!(refused.code(), -32602, "the server learns that this client cannot be asked");
}

#[tokio::test]
async fn each_side_declares_what_the_other_knows() {
    let git = fake::legacy("2025-11-25").tool("log").completions();
    let gate = gateway().upstream("git", &git).start().await;
    for version in VERSIONS {
        let all = json!({
            "sampling": { "tools": {} },
            "elicitation": { "form": {}, "url": {} },
            "experimental": { "x": {} },
        });
        let mut client = gate.client(version, all.clone());
        let opened = client.open().await;
        let has = opened["capabilities"].get("completions").is_some();
        assert_eq!(has, version != "2024-11-05", "{version}");
        client.call("log").await;
        let shown =
            git.seen("initialize").pop().unwrap().message().params()["capabilities"].clone();
        let want = match version {
            "2025-11-25" => all,
            "2025-06-18" => {
                json!({ "sampling": {}, "elicitation": {}, "experimental": { "x": {} } })
            }
            _ => json!({ "sampling": {}, "experimental": { "x": {} } }),
        };
        assert_eq!(shown, want, "{version}");
    }
}

#[tokio::test]
async fn an_older_server_is_asked_in_older_words() {
    let git = fake::legacy("2025-03-26").tool("log").prompt("p").completions();
    let gate = gateway().upstream("git", &git).start().await;
    for client in [gate.legacy("2025-11-25").await, gate.modern()] {
        let about = json!({ "type": "ref/prompt", "name": "p" });
        let params = json!({
            "ref": about,
            "argument": { "name": "a", "value": "v" },
            "context": { "arguments": { "b": "w" } },
        });
        client.ask("completion/complete", params).await.result();
        let asked = git.seen("completion/complete").pop().unwrap().message().params();
        assert_eq!(asked.get("context"), None);
        assert_eq!(asked["argument"]["value"], "v");
    }
}

#[tokio::test]
async fn a_page_to_open_first_is_a_plain_error_to_older_clients() {
    let error = r#"{"code":-32042,"message":"Open it first","data":{"elicitations":[]}}"#;
    let git = fake::legacy("2025-11-25").tool("log").does(Act::Error(error.to_owned()));
    let gate = gateway().upstream("git", &git).start().await;
    for version in VERSIONS {
        let client = gate.legacy(version).await;
        let said = client.ask("tools/call", json!({ "name": "log", "arguments": {} })).await;
        let code = if version == "2025-11-25" { -32042 } else { -32602 };
        assert_eq!(said.code(), code, "{version}");
        assert_eq!(said.error()["message"], "Open it first");
    }
}

#[tokio::test]
async fn progress_has_words_since_the_second_version() {
    let progress = json!({
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": { "progressToken": "TOKEN", "progress": 1, "message": "half" },
    });
    let git = fake::legacy("2025-11-25").tool("log").stream(&[progress]);
    let gate = gateway().upstream("git", &git).start().await;
    for version in VERSIONS {
        let client = gate.legacy(version).await;
        let meta = json!({ "progressToken": "p" });
        let params = json!({ "name": "log", "arguments": {}, "_meta": meta });
        let mut reply = client.start("tools/call", params).await;
        let told = reply.until("notifications/progress").await.params();
        assert_eq!(told["progress"], 1);
        assert_eq!(told.get("message").is_some(), version != "2024-11-05", "{version}");
    }
}

#[tokio::test]
async fn a_failure_of_the_gates_own_is_told_in_the_clients_words() {
    let git = fake::legacy("2025-11-25").tool("log").does(Act::Status(500));
    let gate = gateway().upstream("git", &git).start().await;
    for version in VERSIONS {
        let said = calls(&gate, version, "log").await;
        assert_eq!(said["isError"], true, "{version}");
        assert!(said["content"][0]["text"].is_string(), "{version}");
        assert_eq!(said.get("structuredContent").is_some(), "2025-06-18" <= version, "{version}");
    }
}
