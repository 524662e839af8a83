//! Questions in mid-call across the eras: a legacy server asks a modern client, which answers with a
//! retry, and a modern server asks a legacy client, which answers in its session.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    client::{Client, Endpoint},
    eventually,
    fake::{self, Act, Fake},
    gate::gateway,
    message::Message,
};

const ANSWERS: [(&str, &str); 3] = [
    ("elicitation/create", r#"{"action":"accept","content":{"b":1,"a":"\u00e9"}}"#),
    (
        "sampling/createMessage",
        r#"{"role":"assistant","model":"m","content":{"type":"text","text":"\u00e9"}}"#,
    ),
    ("roots/list", r#"{"roots":[{"uri":"file:///x"}]}"#),
];

fn form() -> Value {
    json!({ "message": "sure?", "requestedSchema": { "type": "object", "properties": {} } })
}

fn all() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} })
}

/// A tool that asks one thing after the other.
fn asking(fake: Fake) -> Fake {
    let sampling = json!({ "messages": [], "maxTokens": 5 });
    let fake = fake.tool("ask").ask("elicitation/create", &form());
    fake.ask("sampling/createMessage", &sampling).ask("roots/list", &json!({}))
}

fn legacy() -> [Fake; 2] {
    [fake::legacy("2025-06-18"), fake::stdio("2025-06-18")]
}

/// The first call of `ask`; what is answered.
async fn ask(client: &Client) -> Value {
    client.call("ask").await
}

/// The retry with one answer for each question.
fn retry(asked: &Value, answer: impl Fn(&str) -> Value) -> Value {
    let requests = asked["inputRequests"].as_object().unwrap();
    let responses = requests
        .iter()
        .map(|(key, request)| (key.clone(), answer(request["method"].as_str().unwrap())));
    json!({
        "name": "ask",
        "arguments": {},
        "requestState": asked["requestState"],
        "inputResponses": responses.collect::<serde_json::Map<_, _>>(),
    })
}

fn answer(method: &str) -> Value {
    let (_, text) = ANSWERS.iter().find(|(known, _)| *known == method).unwrap();
    serde_json::from_str(text).unwrap()
}

async fn retried(client: &Client, asked: &Value) -> Message {
    client.ask("tools/call", retry(asked, answer)).await
}

/// What a server was answered so far.
fn answers(server: &Fake) -> Vec<Message> {
    let heard = server.all().into_iter().map(|seen| seen.message());
    heard.filter(|message| message.result.is_some() || message.error.is_some()).collect()
}

#[tokio::test]
async fn a_legacy_server_asks_a_modern_client_one_thing_after_the_other() {
    for server in legacy() {
        let server = asking(server);
        let gate = gateway().upstream("git", &server).start().await;
        let client = gate.client(fake::MODERN, all());
        let mut asked = ask(&client).await;
        for (method, _) in ANSWERS {
            assert_eq!(asked["resultType"], "input_required", "{asked}");
            let requests = asked["inputRequests"].as_object().unwrap();
            assert_eq!(requests.len(), 1);
            assert_eq!(requests.values().next().unwrap()["method"], method);
            asked = retried(&client, &asked).await.result();
        }
        assert_eq!(asked["resultType"], "complete");
        assert_eq!(asked["content"][0]["text"], "asked");
        assert_eq!(server.seen("tools/call").len(), 1, "the very call was resumed");
        for ((_, text), answer) in ANSWERS.iter().zip(answers(&server)) {
            let given: Value = serde_json::from_str(text).unwrap();
            assert_eq!(answer.result(), given);
        }
    }
}

#[tokio::test]
async fn prompts_and_resources_ask_as_tools_do() {
    let server = fake::legacy("2025-11-25").prompt("p").ask("elicitation/create", &form());
    let server = server.resource("mem://x").ask("elicitation/create", &form());
    let gate = gateway().upstream("git", &server).start().await;
    let client = gate.client(fake::MODERN, all());
    for (method, mut params) in
        [("prompts/get", json!({ "name": "p" })), ("resources/read", json!({ "uri": "mem://x" }))]
    {
        let asked = client.ask(method, params.clone()).await.result();
        assert_eq!(asked["resultType"], "input_required", "{method}: {asked}");
        params["requestState"] = asked["requestState"].clone();
        params["inputResponses"] = retry(&asked, answer)["inputResponses"].clone();
        assert_eq!(client.ask(method, params).await.result()["resultType"], "complete");
    }
}

#[tokio::test]
async fn a_question_outside_of_the_calls_stream_is_the_calls() {
    let server = fake::legacy("2025-06-18").tool("slow").hang();
    let gate = gateway().upstream("git", &server).start().await;
    let client = gate.client(fake::MODERN, all());
    let asks = async {
        server.receives("tools/call").await;
        server.asks_aside("roots/list", &json!({}));
    };
    let call = client.ask("tools/call", json!({ "name": "slow" }));
    let (asked, ()) = tokio::join!(call, asks);
    let asked = asked.result();
    assert_eq!(asked["inputRequests"]["q1"]["method"], "roots/list", "{asked}");
}

#[tokio::test]
async fn what_is_missing_is_asked_again_and_what_is_unknown_is_ignored() {
    let server = asking(fake::legacy("2025-06-18"));
    let gate = gateway().upstream("git", &server).start().await;
    let client = gate.client(fake::MODERN, all());
    let mut asked = ask(&client).await;
    for wrong in [json!({}), json!({ "q1": { "action": "perhaps" } }), json!({ "other": {} })] {
        let mut params = retry(&asked, answer);
        params["inputResponses"] = wrong;
        let again = client.ask("tools/call", params).await.result();
        assert_eq!(again["inputRequests"], asked["inputRequests"]);
        assert_ne!(again["requestState"], asked["requestState"], "each state is for one retry");
        asked = again;
    }
    assert!(answers(&server).is_empty());
    assert_eq!(retried(&client, &asked).await.result()["resultType"], "input_required");
}

#[tokio::test]
async fn a_client_without_the_capability_is_told_which_and_the_server_is_refused() {
    let server = asking(fake::legacy("2025-06-18"));
    let gate = gateway().upstream("git", &server).start().await;
    for capabilities in
        [json!({}), json!({ "sampling": {} }), json!({ "elicitation": { "url": {} } })]
    {
        let client = gate.client(fake::MODERN, capabilities);
        let reply = client.start("tools/call", json!({ "name": "ask" })).await;
        assert_eq!(reply.status, 400);
        let error = reply.message().await.error();
        assert_eq!(error["code"], -32021);
        assert_eq!(error["data"]["requiredCapabilities"], json!({ "elicitation": { "form": {} } }));
    }
    let refused = || (answers(&server).len() == 3).then_some(());
    eventually("the server is told no each time", refused).await;
    assert!(answers(&server).iter().all(|answer| answer.error.is_some()));
}

#[tokio::test]
async fn a_state_is_good_for_one_retry_of_one_request_of_one_caller() {
    let server = asking(fake::legacy("2025-06-18"));
    let gate = gateway().upstream("git", &server);
    let gate = gate.route("/mcp", "upstreams = [\"git\"]").route("/other", "upstreams = [\"git\"]");
    let gate = gate.start().await;
    let client = gate.client(fake::MODERN, all());
    let asked = ask(&client).await;
    let stranger = Endpoint { from: IpAddr::from([127, 0, 0, 2]), ..(*gate).clone() };
    let refused = async |client: &Client, params: Value| {
        let reply = client.start("tools/call", params).await;
        assert_eq!(reply.status, 400);
        let error = reply.message().await.error();
        assert_eq!(error["code"], -32602);
        error["message"].as_str().unwrap().to_owned()
    };
    let good = retry(&asked, answer);
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut params = good.clone();
        change(&mut params);
        params
    };
    let foreign = [
        refused(&stranger.client(fake::MODERN, all()), good.clone()).await,
        refused(&gate.at("/other").client(fake::MODERN, all()), good.clone()).await,
        refused(&client, edited(&|params| params["arguments"] = json!({ "x": 1 }))).await,
        refused(&client, edited(&|params| params["requestState"] = json!("made up"))).await,
        refused(&client, edited(&|params| params["requestState"] = json!(7))).await,
        refused(
            &client,
            edited(&|params| {
                let state = params["requestState"].as_str().unwrap().to_owned();
                let last = if state.ends_with('A') { "B" } else { "A" };
                params["requestState"] = json!(format!("{}{last}", &state[..state.len() - 1]));
            }),
        )
        .await,
    ];
    assert!(foreign.iter().all(|text| *text == foreign[0]), "a thief learns nothing: {foreign:?}");
    assert!(answers(&server).is_empty(), "and the call still waits");
    assert_eq!(retried(&client, &asked).await.result()["resultType"], "input_required");
    assert!(refused(&client, good.clone()).await.contains("used before"), "not twice");
    assert_eq!(answers(&server).len(), 1);
}

#[tokio::test]
async fn a_call_does_not_outlive_its_gate_and_its_client_is_told_so() {
    let server = asking(fake::legacy("2025-06-18"));
    let mut gate = gateway().upstream("git", &server).start().await;
    let asked = ask(&gate.client(fake::MODERN, all())).await;
    gate.restarts().await;
    gate.settled().await;
    let ended = server.all().into_iter().filter(|seen| seen.verb == hyper::Method::DELETE);
    assert!(0 < ended.count(), "the server does not wait in vain: its session was ended");
    let error = retried(&gate.client(fake::MODERN, all()), &asked).await.error();
    assert!(error["message"].as_str().unwrap().contains("restarted"), "{error}");
}

#[tokio::test]
async fn who_never_comes_back_leaves_nothing_behind() {
    for server in legacy() {
        let server = asking(server);
        let gate = gateway().server("limits.answer_timeout = \"1s\"").upstream("git", &server);
        let gate = gate.start().await;
        let client = gate.client(fake::MODERN, all());
        let asked = ask(&client).await;
        server.receives("notifications/cancelled").await;
        let answered = || answers(&server).into_iter().next();
        let answer = eventually("the question is answered", answered).await;
        assert_eq!(answer.result(), json!({ "action": "cancel" }));
        let error = retried(&client, &asked).await.error();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("too late") || message.contains("has ended"), "{message}");
    }
}

#[tokio::test]
async fn parked_calls_are_bounded_by_caller_and_in_all() {
    let server = asking(fake::legacy("2025-06-18"));
    let limits = "limits.parked_max = 3\nlimits.parked_per_caller_max = 2";
    let gate = gateway().server(limits).upstream("git", &server).start().await;
    let from = |last: u8| Endpoint { from: IpAddr::from([127, 0, 0, last]), ..(*gate).clone() };
    let mut refused = Vec::new();
    for last in [1, 1, 1, 2, 3] {
        let client = from(last).client(fake::MODERN, all());
        let answer = client.ask("tools/call", json!({ "name": "ask" })).await;
        let result = answer.result();
        if result["resultType"] == "input_required" {
            continue;
        }
        assert_eq!(result["structuredContent"]["error"], "rate_limited");
        refused.push(result["structuredContent"]["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("parked_per_caller_max") && refused[1].contains("parked_max"));
    let told = || (2 <= server.seen("notifications/cancelled").len()).then_some(());
    eventually("the servers of those refused are told", told).await;
}

#[tokio::test]
async fn a_page_to_be_opened_first_is_put_to_the_client_and_the_call_sent_anew() {
    let error = r#"{"code":-32042,"message":"sign in","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://x.example/","message":"Sign in"}]}}"#;
    let server = fake::legacy("2025-11-25").tool("ask").error(error);
    let gate = gateway().upstream("git", &server).start().await;
    let client = gate.client(fake::MODERN, all());
    let asked = ask(&client).await;
    let page = json!({ "mode": "url", "url": "https://x.example/", "message": "Sign in" });
    let want = json!({ "page1": { "method": "elicitation/create", "params": page } });
    assert_eq!(asked["inputRequests"], want);
    let declined =
        client.ask("tools/call", retry(&asked, |_| json!({ "action": "decline" }))).await;
    assert_eq!(declined.result()["structuredContent"]["error"], "access_denied");
    assert_eq!(server.seen("tools/call").len(), 1);
    server.becomes("ask", Act::Result(r#"{"content":[]}"#.to_owned()));
    let accepted = client.ask("tools/call", retry(&asked, |_| json!({ "action": "accept" }))).await;
    assert_eq!(accepted.result()["resultType"], "complete");
    let without = gate.modern().ask("tools/call", json!({ "name": "ask" })).await;
    assert_eq!(without.result()["resultType"], "complete");
    server.becomes("ask", Act::Error(error.to_owned()));
    let without = gate.modern().ask("tools/call", json!({ "name": "ask" })).await.error();
    assert_eq!(without["data"]["requiredCapabilities"], json!({ "elicitation": { "url": {} } }));
}

#[tokio::test]
async fn a_modern_server_asks_a_legacy_client_in_its_session() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        // The first two versions have no elicitation.
        let first = usize::from(version < "2025-06-18");
        let answers = &ANSWERS[first..];
        let server = answers.iter().fold(fake::http().tool("ask"), |server, (method, _)| {
            let params = if *method == ANSWERS[0].0 { form() } else { json!({ "messages": [] }) };
            server.ask(method, &params)
        });
        let gate = gateway().upstream("git", &server).start().await;
        let client = gate.legacy_with(version, all()).await;
        let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
        let mut asked = Vec::new();
        for _ in answers {
            let question = reply.next().await.unwrap();
            asked.push((question.method.clone().unwrap(), question.id.unwrap()));
        }
        for (method, id) in asked.iter().rev() {
            let (_, text) = ANSWERS.iter().find(|(known, _)| known == method).unwrap();
            assert_eq!(client.respond(id, text).await.status, 202);
        }
        let result = reply.message().await.result();
        assert_eq!(result["content"][0]["text"], "asked", "{version}");
        let calls = server.seen("tools/call");
        assert_eq!(calls.len(), 2);
        let sent = calls[1].message();
        assert_ne!(sent.id, calls[0].message().id, "a retry has an id of its own");
        let params = crate::message::members(sent.params.unwrap().as_bytes());
        assert_eq!(params["requestState"], fake::STATE, "byte for byte");
        for (at, (_, text)) in answers.iter().enumerate() {
            assert!(params["inputResponses"].contains(text), "answer {at}: {params:?}");
        }
    }
}

#[tokio::test]
async fn a_no_is_carried_where_there_is_a_word_for_it() {
    let server = fake::http().tool("ask").ask("elicitation/create", &form());
    let server = server.tool("think").ask("sampling/createMessage", &json!({ "messages": [] }));
    let gate = gateway().upstream("git", &server).start().await;
    let client = gate.legacy_with("2025-11-25", all()).await;
    for (code, action) in [(-1, "decline"), (-32603, "cancel")] {
        let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
        let id = reply.until("elicitation/create").await.id.unwrap();
        refuse(&client, &id, code).await;
        let result = reply.message().await.result();
        assert_eq!(result["structuredContent"]["answers"]["k0"]["action"], action);
    }
    let mut reply = client.start("tools/call", json!({ "name": "think" })).await;
    let id = reply.until("sampling/createMessage").await.id.unwrap();
    refuse(&client, &id, -1).await;
    assert_eq!(reply.message().await.error()["message"], "no");
    let thinks = server.seen("tools/call");
    let thinks = thinks.iter().filter(|seen| seen.message().params()["name"] == "think");
    assert_eq!(thinks.count(), 1, "nothing is sent that has no answer");
}

async fn refuse(client: &Client, id: &str, code: i64) {
    let error = json!({ "code": code, "message": "no" });
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
    assert_eq!(client.post(&text).await.status, 202);
}

#[tokio::test]
async fn a_legacy_client_that_does_not_answer_ends_its_call() {
    let server = asking(fake::http());
    let gate = gateway().server("limits.answer_timeout = \"1s\"").upstream("git", &server);
    let gate = gate.start().await;
    let client = gate.legacy_with("2025-06-18", all()).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    let first = reply.until("elicitation/create").await.id.unwrap();
    let withdrawn = reply.until("notifications/cancelled").await.params();
    assert_eq!(withdrawn["requestId"].to_string(), first);
    let result = reply.message().await.result();
    assert_eq!(result["structuredContent"]["error"], "service_timeout");
}

#[tokio::test]
async fn a_legacy_client_that_cancels_is_not_asked_any_more() {
    let server = asking(fake::http());
    let gate = gateway().upstream("git", &server).start().await;
    let client = gate.legacy_with("2025-06-18", all()).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    reply.until("roots/list").await;
    client.notify("notifications/cancelled", json!({ "requestId": 2 })).await;
    let mut withdrawn = 0;
    while let Some(message) = reply.next().await {
        assert_eq!(message.method.as_deref(), Some("notifications/cancelled"), "{message:?}");
        withdrawn += 1;
    }
    assert_eq!((withdrawn, server.seen("tools/call").len()), (3, 1));
}

/// It asks for what no client of this kind offered, without end, or for nothing at all.
#[tokio::test]
async fn a_modern_server_that_asks_wrongly_ends_the_call() {
    let endless = r#"{"resultType":"input_required","requestState":"again"}"#;
    let nonsense = r#"{"resultType":"input_required","inputRequests":7}"#;
    let server = asking(fake::http()).tool("endless").answer(endless);
    let server = server.tool("nonsense").answer(nonsense);
    let limits = "limits.rounds_max = 2";
    let gate = gateway().server(limits).upstream("git", &server).start().await;
    let client = gate.legacy("2025-06-18").await;
    for (tool, why) in [("ask", "never offered"), ("endless", "rounds_max"), ("nonsense", "read")] {
        let error = client.ask("tools/call", json!({ "name": tool })).await.error();
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
    }
    let retries = server.seen("tools/call").into_iter();
    let states = retries.filter(|seen| seen.message().params()["requestState"] == "again").count();
    assert_eq!(states, 2, "as often as allowed");
}

#[tokio::test]
async fn a_client_that_reads_no_stream_is_shown_as_one_that_cannot_be_asked() {
    let server = asking(fake::http());
    let gate = gateway().upstream("git", &server).start().await;
    let client = gate.legacy_with("2025-06-18", all()).await;
    let call = client.request("tools/call", json!({ "name": "ask" }));
    let reply = client.post_with(&call, &[("accept", "application/json")]).await;
    assert!(reply.message().await.error.is_some());
    let meta = server.receives("tools/call").await.message().params()["_meta"].clone();
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));
}

#[tokio::test]
async fn a_question_that_the_server_withdraws_is_withdrawn_from_the_client() {
    let server = fake::legacy("2025-11-25").tool("ask").ask("elicitation/create", &form());
    let gate = gateway().upstream("git", &server).start().await;
    let client = gate.legacy_with("2025-11-25", all()).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    let shown = reply.until("elicitation/create").await.id.unwrap();
    server.withdraws_questions();
    let withdrawn = reply.until("notifications/cancelled").await.params();
    assert_eq!(withdrawn["requestId"].to_string(), shown);
}

#[tokio::test]
async fn a_legacy_server_does_not_wait_for_ever_for_a_legacy_client() {
    for server in legacy() {
        let server = server.tool("ask").ask("elicitation/create", &form());
        let gate = gateway().server("limits.answer_timeout = \"1s\"").upstream("git", &server);
        let gate = gate.start().await;
        let client = gate.legacy_with("2025-06-18", all()).await;
        let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
        let id = reply.until("elicitation/create").await.id.unwrap();
        let withdrawn = reply.until("notifications/cancelled").await.params();
        assert_eq!(withdrawn["requestId"].to_string(), id);
        assert_eq!(reply.message().await.result()["content"][0]["text"], "asked");
        assert_eq!(answers(&server)[0].result(), json!({ "action": "cancel" }));
    }
}

/// A question whose call is over takes no room in its session.
#[tokio::test]
async fn questions_end_with_their_calls() {
    let server = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &form());
    let gate = gateway().server("limits.questions_max = 1").upstream("git", &server).start().await;
    let client = gate.legacy_with("2025-06-18", all()).await;
    for id in 2..5 {
        let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
        reply.until("elicitation/create").await;
        client.notify("notifications/cancelled", json!({ "requestId": id })).await;
        while reply.next().await.is_some() {}
    }
}

/// A process that was told one client's roots serves no other, whatever address they share.
#[tokio::test]
async fn roots_stay_with_their_client() {
    for version in ["2025-06-18", fake::MODERN] {
        let server = fake::stdio("2025-06-18").tool("ask").ask("roots/list", &json!({}));
        let gate = gateway().upstream("git", &server).start().await;
        for _ in 0..2 {
            let roots = json!({ "roots": {} });
            let result = if version == fake::MODERN {
                let client = gate.client(version, roots);
                let asked = ask(&client).await;
                retried(&client, &asked).await.result()
            } else {
                let client = gate.legacy_with(version, roots).await;
                let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
                let id = reply.until("roots/list").await.id.unwrap();
                client.respond(&id, ANSWERS[2].1).await;
                reply.message().await.result()
            };
            assert_eq!(result["content"][0]["text"], "asked");
        }
        let opened = server.seen("initialize").into_iter();
        let with_roots = opened.filter(|seen| {
            let capabilities = seen.message().params()["capabilities"].clone();
            capabilities == json!({ "roots": {} })
        });
        assert_eq!(with_roots.count(), 2, "{version}: a process for each");
    }
}
