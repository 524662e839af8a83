//! Arguments that do not fit a tool's schema to the letter: which of them pass, whom they reach, and
//! how an operator hears of it.

use serde_json::{Value, json};

use crate::{
    client::Client,
    fake::{self, Fake},
    gate::{Gate, gateway},
};

/// What a tool is that takes an amount, a note and no more.
fn pay() -> Fake {
    let schema = json!({
        "type": "object",
        "properties": {
            "amount": { "type": "integer", "minimum": 1 },
            "note": { "type": "string" },
            "deep": { "type": "object", "properties": { "n": { "type": "integer" } } },
        },
        "required": ["amount"],
        "additionalProperties": false,
    });
    fake::dual().tool_with(json!({ "name": "pay", "inputSchema": schema }))
}

async fn paid(client: &Client, arguments: &Value) -> Value {
    let params = json!({ "name": "pay", "arguments": arguments });
    client.ask("tools/call", params).await.result()
}

/// The words of a refusal for wrong arguments; none where the call was made.
fn refusal(result: &Value) -> Option<String> {
    result.get("isError")?;
    assert_eq!(result["structuredContent"]["error"], "invalid_arguments", "{result}");
    Some(result["structuredContent"]["message"].as_str().unwrap().to_owned())
}

fn counter(gate: &Gate, name: &str) -> u64 {
    gate.app().viewer().report().counters[name]
}

/// Slightly wrong calls, and whether each passes in the modes "lenient", "schema", "count", "off".
fn calls() -> Vec<(Value, [bool; 4])> {
    vec![
        (json!({ "amount": 5 }), [true; 4]),
        (json!({ "amount": 5, "note": null }), [true; 4]),
        (json!({ "amount": "5" }), [true, false, true, true]),
        (json!({ "amount": 5, "note": 7 }), [true, false, true, true]),
        (json!({ "amount": 5, "note": true }), [true, false, true, true]),
        (json!({ "amount": 5, "zz": 1 }), [true, false, true, true]),
        (json!({ "amount": 5, "deep": { "n": "1" } }), [true, false, true, true]),
        (json!({ "amount": 5, "deep": { "n": null } }), [true, false, true, true]),
        (json!({ "amount": 0 }), [false, false, true, true]),
        (json!({ "amount": "0" }), [false, false, true, true]),
        (json!({ "amount": "much" }), [false, false, true, true]),
        (json!({ "amount": null }), [false, false, true, true]),
        (json!({ "note": "x" }), [false, false, true, true]),
        (json!({ "amount": [5] }), [false, false, true, true]),
        (json!({ "amount": 5, "deep": "x" }), [false, false, true, true]),
        (json!({ "amount": 5, "deep": "{\"n\":1}" }), [false, false, true, true]),
    ]
}

#[tokio::test]
async fn each_mode_lets_through_what_it_says_and_the_very_bytes() {
    for (at, mode) in ["lenient", "schema", "count", "off"].into_iter().enumerate() {
        let server = pay();
        let keys = format!("guard.arguments = \"{mode}\"");
        let gate = gateway().upstream_with("docs", &server, &keys).start().await;
        for client in [gate.modern(), gate.legacy("2025-11-25").await] {
            for (arguments, passes) in calls() {
                let before = server.seen("tools/call").len();
                let refusal = refusal(&paid(&client, &arguments).await);
                assert_eq!(refusal.is_none(), passes[at], "{mode} {arguments}: {refusal:?}");
                let seen = server.seen("tools/call");
                assert_eq!(seen.len() - before, usize::from(passes[at]), "{mode} {arguments}");
                if passes[at] {
                    let sent = seen.last().unwrap().message().params.unwrap();
                    let got = crate::message::members(sent.as_bytes())["arguments"].clone();
                    assert_eq!(got, arguments.to_string());
                }
            }
        }
        let by_mode = |lenient, counted| [lenient, counted].map(|count: u64| count);
        let want = [by_mode(12, 0), by_mode(0, 0), by_mode(0, 28), by_mode(0, 0)];
        let counted = ["lenient_arguments", "counted_arguments"].map(|name| counter(&gate, name));
        assert_eq!(counted, want[at], "{mode}");
    }
}

#[tokio::test]
async fn nothing_said_is_lenient() {
    let server = pay();
    let gate = gateway().upstream("docs", &server).start().await;
    for (arguments, passes) in calls() {
        let refusal = refusal(&paid(&gate.modern(), &arguments).await);
        assert_eq!(refusal.is_none(), passes[0], "{arguments}: {refusal:?}");
    }
}

/// An argument that the gate itself reads is what its server reads, by each of those who read one.
#[tokio::test]
async fn what_the_gate_reads_is_held_to_the_letter_and_the_model_is_told_the_type() {
    let forbid = "permit(principal, action, resource);
        forbid(principal, action == Action::\"call\", resource)
        when { context.numbers.hasTag(\"amount\") && context.numbers.getTag(\"amount\") > 9 };";
    let nested = "permit(principal, action, resource);
        forbid(principal, action == Action::\"call\", resource)
        when { context.numbers.hasTag(\"deep/n\") && context.numbers.getTag(\"deep/n\") > 9 };";
    for (policy, keys, name) in [
        (Some(forbid), "", "amount"),
        (Some(nested), "", "deep"),
        (None, "tools.pay.cost = { argument = \"/amount\" }", "amount"),
        (None, "tools.pay.cost = { argument = \"/deep/n\" }", "deep"),
        (None, "tools.pay.cache = { ttl = \"1m\", keys = [\"amount\"] }", "amount"),
        (None, "tools.pay.arguments = { default = { amount = 3 } }", "amount"),
        (None, "tools.pay.arguments = { default = { note = \"x\" } }", "note"),
    ] {
        let server = pay();
        let plan = gateway().upstream_with("docs", &server, keys);
        let gate = match policy {
            Some(policy) => plan.policy(policy).start().await,
            None => plan.start().await,
        };
        let client = gate.modern();
        let (read, other) = match name {
            "amount" => (json!({ "amount": "5" }), json!({ "amount": 5, "note": 7 })),
            "deep" => {
                let deep = json!({ "amount": 5, "deep": { "n": "1" } });
                (deep, json!({ "amount": "5", "note": 7, "deep": { "n": 1 } }))
            }
            _ => (json!({ "amount": 5, "note": 7 }), json!({ "amount": "5", "note": "x" })),
        };
        let said = refusal(&paid(&client, &read).await).expect(keys);
        let place = if name == "deep" { "`/deep/n`".to_owned() } else { format!("`/{name}`") };
        let wanted = if name == "note" { "string" } else { "integer" };
        assert!(said.contains(&format!("{place}: it is not of type \"{wanted}\"")), "{said}");
        // Nor is another spelling of its name one too many.
        let spelt = json!({ "amount": 5, name.to_uppercase(): 1 });
        assert!(refusal(&paid(&client, &spelt).await).is_some(), "{spelt} {keys}");
        assert!(server.seen("tools/call").is_empty());
        // What it does not read is as lenient as ever.
        assert_eq!(refusal(&paid(&client, &other).await), None, "{other} {keys} {policy:?}");
    }
}

#[tokio::test]
async fn a_denial_stays_one_where_the_arguments_fit() {
    let forbid = "permit(principal, action, resource);
        forbid(principal, action == Action::\"call\", resource)
        when { context.texts.hasTag(\"amount\") && context.texts.getTag(\"amount\") == \"x\" };";
    let server = pay();
    let gate = gateway().upstream("docs", &server).policy(forbid).start().await;
    let result = paid(&gate.modern(), &json!({ "amount": 5 })).await;
    assert_eq!(result["structuredContent"]["error"], "access_denied", "{result}");
}
