//! Secrets in every place of a request and a result, and in every spelling: what detectors look at.

use serde_json::{Value, json};

use crate::{
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
};

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";

fn server() -> Fake {
    let server = fake::dual().tool("weather").prompt("ask").completions();
    server.resource("mem://one").template("mem://{id}")
}

async fn gate(server: &Fake, then: &str) -> Gate {
    let detect = format!(
        "guard.detect = [{{ find = [\"secrets\", \"personal\"], in = [\"arguments\", \"results\"], \
         then = \"{then}\" }}]"
    );
    gateway().upstream_with("docs", server, &detect).start().await
}

/// The same secret as a reader sees it, and as somebody writes it who knows how it is looked for.
fn spellings() -> Vec<String> {
    let wide = |c: char| char::from_u32(u32::from(c) + 0xFEE0).unwrap();
    let bold = |c: char| match c {
        'A'..='Z' => char::from_u32(0x1D400 + u32::from(c) - u32::from('A')).unwrap(),
        c => c,
    };
    let between = |mark: &str| KEY.chars().map(|c| format!("{c}{mark}")).collect::<String>();
    vec![
        KEY.to_owned(),
        format!("é {KEY} é"),
        KEY.chars().map(wide).collect(),
        KEY.chars().map(bold).collect(),
        between("\u{200b}"),
        between("\u{ad}"),
        between("\u{2060}"),
        between("\u{feff}"),
        between("\u{200d}"),
        between("\u{fe0f}"),
        json!({ "key": KEY }).to_string(),
        format!("{{\"key\":\"{}\"}}", KEY.replace('A', "\\u0041")),
        format!("[\"a\\n{}\"]", KEY.replace('K', "\\u004b")),
        format!(" {{\"key\":\"{}\"}}", between("\u{200b}").replace('A', "\\u0041")),
    ]
}

#[tokio::test]
async fn no_place_of_a_request_carries_a_secret() {
    let server = server();
    for then in ["block", "redact"] {
        let gate = gate(&server, then).await;
        let client = gate.legacy("2025-11-25").await;
        let reference = json!({ "type": "ref/prompt", "name": "ask" });
        for spelling in spellings() {
            // A URI is no JSON: what is an escape there stands for itself.
            let in_uri = if spelling.contains("\\u") { KEY } else { &spelling };
            for (method, params) in [
                ("tools/call", json!({ "name": "weather", "arguments": { "a": spelling } })),
                ("tools/call", json!({ "name": "weather", "arguments": { "taskId": spelling } })),
                ("tools/call", json!({ "name": "weather", "arguments": { &spelling: 1 } })),
                ("tools/call", json!({ "name": "weather", "_meta": { "a/b": spelling } })),
                ("tools/call", json!({ "name": "weather", "_meta": { &spelling: 1 } })),
                ("tools/call", json!({ "name": "weather", "note": [{ "a": spelling }] })),
                ("tools/call", json!({ "name": "weather", &spelling: 1 })),
                ("prompts/get", json!({ "name": "ask", "arguments": { "topic": spelling } })),
                ("prompts/get", json!({ "name": "ask", "note": spelling })),
                ("resources/read", json!({ "uri": "mem://one", "note": spelling })),
                ("resources/read", json!({ "uri": format!("mem://{in_uri}") })),
                ("resources/subscribe", json!({ "uri": format!("mem://{in_uri}") })),
                (
                    "completion/complete",
                    json!({ "ref": reference, "argument": { "name": "topic", "value": spelling } }),
                ),
                (
                    "completion/complete",
                    json!({ "ref": reference, "argument": { "name": "topic", "value": "" },
                        "context": { "arguments": { "a": spelling } } }),
                ),
            ] {
                let before = server.seen(method).len();
                client.ask(method, params.clone()).await;
                for seen in server.seen(method).split_off(before) {
                    let said = seen.message().params.unwrap_or_default();
                    assert!(!said.contains(&*json!(spelling).to_string()), "{then}: {said}");
                    assert!(!said.contains(KEY), "{then}: {said}");
                    assert!(then == "redact", "{said} was sent although it must not");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_second_argument_of_a_completion_is_refused() {
    let server = server();
    let gate = gateway().upstream("docs", &server).start().await;
    let client = gate.legacy("2025-11-25").await;
    let reference = r#"{"type":"ref/prompt","name":"ask"}"#;
    let one = r#"{"name":"topic","value":"a"}"#;
    for twice in [
        format!(r#"{{"ref":{reference},"argument":{one},"argument":{one}}}"#),
        format!(r#"{{"ref":{reference},"argument":{one},"Argument":{one}}}"#),
        format!(r#"{{"ref":{reference},"argument":{one},"\u0061rgument":{one}}}"#),
        format!(r#"{{"ref":{reference},"argument":{{"name":"topic","value":"a","value":"b"}}}}"#),
        format!(r#"{{"ref":{reference},"argument":{one},"context":{{}},"context":{{}}}}"#),
    ] {
        let text = client.request("completion/complete", json!("HERE"));
        let answer = client.post(&text.replace("\"HERE\"", &twice)).await.text().await;
        assert!(answer.contains("\"error\""), "{twice}: {answer}");
    }
    assert!(server.seen("completion/complete").is_empty());
}

#[tokio::test]
async fn numbers_and_json_in_texts_are_looked_at_in_results() {
    let server = server();
    let gate = gate(&server, "redact").await;
    let client = gate.legacy("2025-11-25").await;
    let answered = async |result: Value| {
        server.becomes("weather", Act::Result(result.to_string()));
        client.ask("tools/call", json!({ "name": "weather", "arguments": {} })).await.result()
    };
    let card = 4_111_111_111_111_111_u64;
    let result = answered(json!({
        "content": [{ "type": "text", "text": "ok", "n": -5 }],
        "structuredContent": { "rows": [{ "card": card, "total": 12_345_678_901_u64 }, card],
            "small": 42, "half": 0.5 },
    }))
    .await;
    let redacted = "[redacted: personal:card]";
    assert_eq!(
        result["structuredContent"],
        json!({ "rows": [{ "card": redacted, "total": 12_345_678_901_u64 }, redacted],
            "small": 42, "half": 0.5 })
    );
    for spelling in spellings() {
        let content = json!([{ "type": "text", "text": format!("{spelling}") }]);
        let result = answered(json!({ "content": content })).await;
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("[redacted: secrets:aws]"), "{spelling}: {text}");
        assert!(!text.contains("EXAMPLE") && !text.contains("IOSF"), "{spelling}: {text}");
    }
    // What is looked at as something else is relayed as it came.
    let odd = "ｈｅｌｌｏ \u{200b} {\"a\":\"\\u0041\"}";
    let result = answered(json!({ "content": [{ "type": "text", "text": odd }] })).await;
    assert_eq!(result["content"][0]["text"], odd);
}

#[tokio::test]
async fn no_prototype_goes_past_a_policy_that_reads_arguments() {
    let server = fake::http().tool("transfer").tool("log");
    let policy = "permit(principal, action, resource);
        forbid(principal, action == Action::\"call\", resource == Tool::\"bank/transfer\")
        when { context.numbers.hasTag(\"amount\") && context.numbers.getTag(\"amount\") > 1000 };";
    let gate = gateway().upstream("bank", &server).policy(policy).start().await;
    let client = gate.modern();
    let call = async |tool: &str, arguments: &str| {
        let text = client.request("tools/call", json!({ "name": tool, "arguments": "HERE" }));
        client.post(&text.replace("\"HERE\"", arguments)).await.text().await
    };
    for hidden in [
        r#"{"__proto__":{"amount":5000}}"#,
        r#"{"amount":1,"__proto__":{"amount":5000}}"#,
        r#"{"__pr\u006fto__":{"amount":5000}}"#,
        r#"{"constructor":{"prototype":{"amount":5000}}}"#,
        r#"{"prototype":{"amount":5000}}"#,
        r#"{"a":{"__proto__":{"amount":5000}}}"#,
        r#"{"a":[[{"constructor":1}]]}"#,
        r#"{"__proto__":null}"#,
        r#"{"a":{"b":{"c":[{"__proto__":[]}]}}}"#,
        r#"{"amount":1,"x":{"prototype":1}}"#,
    ] {
        let answer = call("transfer", hidden).await;
        assert!(answer.contains("\"error\""), "{hidden}: {answer}");
    }
    assert!(server.seen("tools/call").is_empty());
    // Where no policy reads arguments, it is a name like any other.
    assert!(call("log", r#"{"__proto__":{"amount":5000}}"#).await.contains("\"result\""));
    assert!(call("transfer", r#"{"amount":1,"a":"__proto__"}"#).await.contains("\"result\""));
}
