//! Who may see and do what: the same in lists, calls and announcements, in both eras.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    client::{Client, Endpoint},
    eventually,
    fake::{self, Act},
    gate::{Gate, gateway},
};

/// What "within a second" is on a machine that also runs the other tests.
const A_SECOND: Duration = Duration::from_secs(3);

const ALL: &str = "permit(principal, action, resource);";
/// What is named so is only for the client at 127.0.0.2.
const SECRETS: &str = "permit(principal, action, resource);
forbid(principal, action, resource) when { resource.name like \"*secret*\" }
unless { principal has address && principal.address == ip(\"127.0.0.2\") };";

fn from(gate: &Gate, last: u8) -> Endpoint {
    Endpoint { from: [127, 0, 0, last].into(), ..(**gate).clone() }
}

/// A client of each era.
async fn clients(endpoint: &Endpoint) -> [Client; 2] {
    [endpoint.modern(), endpoint.legacy("2025-06-18").await]
}

fn docs(fake: fake::Fake) -> fake::Fake {
    let docs = fake.tool("log").tool("secret").prompt("greet").prompt("secret").completions();
    let docs = docs.resource("mem://one").resource("mem://secret");
    docs.template("mem://{id}").template("secret://{id}")
}

#[tokio::test]
async fn what_may_not_be_used_is_on_no_list() {
    for docs in [docs(fake::http()), docs(fake::legacy("2025-06-18"))] {
        let gate = gateway().upstream("docs", &docs).policy(SECRETS).start().await;
        for (last, sees) in [(1, false), (2, true), (3, false)] {
            for client in clients(&from(&gate, last)).await {
                for (method, list, key, plain, secret) in [
                    ("tools/list", "tools", "name", "log", "secret"),
                    ("prompts/list", "prompts", "name", "greet", "secret"),
                    ("resources/list", "resources", "uri", "mem://one", "mem://secret"),
                    (
                        "resources/templates/list",
                        "resourceTemplates",
                        "uriTemplate",
                        "mem://{id}",
                        "secret://{id}",
                    ),
                ] {
                    let names = client.names(method, list, key).await;
                    let want = if sees { vec![plain, secret] } else { vec![plain] };
                    assert_eq!(names, want, "{method} at {last}");
                }
            }
        }
    }
}

/// What a fresh client reads of a request about this name; whatever it is called.
async fn read(gate: &Gate, modern: bool, (method, params, name): (&str, &str, &str)) -> String {
    let client = match modern {
        true => gate.modern(),
        false => gate.legacy("2025-06-18").await,
    };
    let params: Value = serde_json::from_str(&params.replace("NAME", name)).unwrap();
    let reply = client.start(method, params).await;
    let status = reply.status;
    format!("{status} {}", reply.text().await.replace(name, "NAME"))
}

#[tokio::test]
async fn what_may_not_be_seen_reads_as_what_is_not_there() {
    let tool = json!({
        "name": "secret_header",
        "inputSchema": { "type": "object", "properties": {
            "a": { "type": "string", "x-mcp-header": "A" } } },
    });
    // As servers of either era say that there is no such resource.
    let missing = |code| Act::Error(format!(r#"{{"code":{code},"message":"no mem://nothing"}}"#));
    for (docs, code) in [(docs(fake::http()), -32602), (docs(fake::legacy("2025-06-18")), -32002)] {
        let docs = docs.tool_with(tool.clone());
        docs.becomes("mem://nothing", missing(code));
        docs.becomes("nothing://1", missing(code));
        let gate = gateway().upstream("docs", &docs).policy(SECRETS).start().await;
        for (method, params, seen, there, missing) in [
            ("tools/call", r#"{"name":"NAME"}"#, "log", "secret", "nothing"),
            (
                "tools/call",
                r#"{"name":"NAME","arguments":{"a":"b"}}"#,
                "log",
                "secret_header",
                "nothing_header",
            ),
            ("prompts/get", r#"{"name":"NAME"}"#, "greet", "secret", "nothing"),
            ("resources/read", r#"{"uri":"NAME"}"#, "mem://one", "mem://secret", "mem://nothing"),
            // On no list, but of a template; of a template that is not seen.
            ("resources/read", r#"{"uri":"NAME"}"#, "mem://one", "mem://secret2", "mem://nothing"),
            ("resources/read", r#"{"uri":"NAME"}"#, "mem://one", "secret://1", "nothing://1"),
            (
                "completion/complete",
                r#"{"ref":{"type":"ref/prompt","name":"NAME"},
                    "argument":{"name":"a","value":"b"}}"#,
                "greet",
                "secret",
                "nothing",
            ),
            (
                "completion/complete",
                r#"{"ref":{"type":"ref/resource","uri":"NAME"},
                    "argument":{"name":"id","value":"b"}}"#,
                "mem://{id}",
                "secret://{id}",
                "nothing://{id}",
            ),
        ] {
            for modern in [true, false] {
                let denied = read(&gate, modern, (method, params, there)).await;
                let unknown = read(&gate, modern, (method, params, missing)).await;
                assert_eq!(denied, unknown, "{method} {there}");
                assert!(denied.contains("\"error\""), "{denied}");
                let seen = read(&gate, modern, (method, params, seen)).await;
                assert!(seen.contains("\"result\""), "{seen}");
            }
        }
        let reached = docs
            .all()
            .into_iter()
            .filter(|seen| String::from_utf8_lossy(&seen.body).contains("secret"));
        assert_eq!(reached.count(), 0, "no server hears of what is denied");
    }
}

#[tokio::test]
async fn a_call_that_is_denied_for_its_arguments_says_so_and_no_more() {
    let bank = fake::http().tool("transfer");
    let policy = "@id(\"the large ones\") forbid(principal, action == Action::\"call\", resource)
        when { context.numbers.hasTag(\"amount\") && context.numbers.getTag(\"amount\") > 100 };
        permit(principal, action, resource);";
    let gate = gateway().upstream("bank", &bank).policy(policy).start().await;
    for client in clients(&gate).await {
        let call = async |arguments: Value| {
            let params = json!({ "name": "transfer", "arguments": arguments });
            client.ask("tools/call", params).await.result()
        };
        assert_eq!(call(json!({ "amount": 100 })).await.get("isError"), None);
        for denied in [json!({ "amount": 101 }), json!({ "amount": "1" }), json!({ "amount": 1.5 })]
        {
            let before = bank.seen("tools/call").len();
            let result = call(denied.clone()).await;
            assert_eq!(result["isError"], true, "{denied}");
            assert_eq!(result["structuredContent"]["error"], "access_denied");
            assert_eq!(result["structuredContent"]["retriable"], false);
            let text = result.to_string();
            assert!(!text.contains("large") && !text.contains("cedar"), "{text}");
            assert_eq!(bank.seen("tools/call").len(), before);
        }
    }
}

#[tokio::test]
async fn an_upstream_of_which_nothing_is_seen_says_nothing() {
    let git = fake::http().tool("log");
    let policy = "permit(principal, action, resource);
        forbid(principal, action, resource in Upstream::\"gate\")
        unless { principal has address && principal.address == ip(\"127.0.0.2\") };";
    let plan = gateway().upstream("git", &git).section("gate", "builtin = \"gate\"\n");
    let gate = plan.policy(policy).start().await;
    for (last, sees) in [(1, false), (2, true)] {
        let found = from(&gate, last).modern().ask("server/discover", json!({})).await.result();
        assert_eq!(found["instructions"].is_string(), sees, "{found}");
        assert_eq!(found["cacheScope"], "private");
        assert!(found["capabilities"]["tools"].is_object());
        let mut legacy = from(&gate, last).client("2025-06-18", json!({}));
        assert_eq!(legacy.open().await["instructions"].is_string(), sees);
    }
}

#[tokio::test]
async fn an_edit_of_a_policy_is_applied_and_told_to_those_whose_lists_changed() {
    let git = fake::http().tool("log").tool("secret");
    let gate = gateway().upstream("git", &git).policy(ALL).start().await;
    let (first, second) = (from(&gate, 1), from(&gate, 2));
    let (modern, legacy) = (first.modern(), first.legacy("2025-06-18").await);
    let unchanged = second.legacy("2025-06-18").await;
    let changes = json!({ "notifications": { "toolsListChanged": true } });
    let mut listening = modern.start("subscriptions/listen", changes).await;
    listening.next().await.unwrap();
    let (mut told, mut untold) = (legacy.listen().await, unchanged.listen().await);
    assert_eq!(modern.tools().await, ["log", "secret"]);
    gate.edit_policy(SECRETS);
    for stream in [&mut listening, &mut told] {
        let change = stream.until("notifications/tools/list_changed");
        timeout(A_SECOND, change).await.expect("the edit is applied within a second");
    }
    assert_eq!(modern.tools().await, ["log"]);
    assert_eq!(legacy.tools().await, ["log"]);
    assert_eq!(unchanged.tools().await, ["log", "secret"]);
    let refused = modern.ask("tools/call", json!({ "name": "secret" })).await;
    assert_eq!(refused.code(), -32602);
    // What an upstream adds is told to all: it is the first that this one hears.
    git.add_tool("diff");
    let heard = untold.next().await.unwrap();
    assert_eq!(heard.method.as_deref(), Some("notifications/tools/list_changed"));
    assert_eq!(unchanged.tools().await, ["log", "secret", "diff"]);
}

#[tokio::test]
async fn a_change_of_what_is_not_seen_is_not_told() {
    let git = fake::http().tool("log");
    let vault = fake::http().tool("secret");
    let plan = gateway().upstream("git", &git).upstream("vault", &vault);
    let gate = plan.policy(SECRETS).start().await;
    let (blind, sees) = (from(&gate, 1).legacy("2025-06-18").await, from(&gate, 2).modern());
    let mut untold = blind.listen().await;
    let changes = json!({ "notifications": { "toolsListChanged": true } });
    let mut told = sees.start("subscriptions/listen", changes).await;
    told.next().await.unwrap();
    vault.add_tool("secret2");
    told.until("notifications/tools/list_changed").await;
    assert_eq!(sees.tools().await, ["log", "secret", "secret2"]);
    git.add_tool("diff");
    untold.until("notifications/tools/list_changed").await;
    assert_eq!(blind.tools().await, ["log", "diff"], "its first notice is of what it sees");
}

#[tokio::test]
async fn updates_are_told_to_those_who_may_read() {
    for docs in [docs(fake::http()), docs(fake::legacy("2025-06-18"))] {
        let gate = gateway().upstream("docs", &docs).policy(SECRETS).start().await;
        let wanted = ["mem://one", "mem://secret"];
        let wanted = json!({ "notifications": { "resourceSubscriptions": wanted } });
        let mut blind = gate.modern().start("subscriptions/listen", wanted.clone()).await;
        let honoured = blind.next().await.unwrap().params()["notifications"].clone();
        assert_eq!(honoured["resourceSubscriptions"], json!(["mem://one"]));
        let mut sees = from(&gate, 2).modern().start("subscriptions/listen", wanted).await;
        let honoured = sees.next().await.unwrap().params()["notifications"].clone();
        assert_eq!(honoured["resourceSubscriptions"], json!(["mem://one", "mem://secret"]));
        // Of two streams nobody can say which is read first: the one with a successor ends soon.
        eventually("one stream is left", || (docs.listening() < 2).then_some(())).await;
        let update = |uri| docs.tell("notifications/resources/updated", &json!({ "uri": uri }));
        update("mem://secret");
        update("mem://one");
        let heard = sees.until("notifications/resources/updated").await;
        assert_eq!(heard.params()["uri"], "mem://secret");
        let heard = blind.until("notifications/resources/updated").await;
        assert_eq!(heard.params()["uri"], "mem://one", "the first that it hears");
        // Who may no longer read it hears of it no more.
        gate.edit_policy(&SECRETS.replace("127.0.0.2", "127.0.0.3"));
        let told = async {
            loop {
                if from(&gate, 2)
                    .modern()
                    .ask("resources/read", json!({ "uri": "mem://secret" }))
                    .await
                    .error
                    .is_some()
                {
                    return;
                }
            }
        };
        timeout(A_SECOND, told).await.expect("the edit is applied");
        update("mem://secret");
        update("mem://one");
        let mut heard = Vec::new();
        while heard.last().is_none_or(|uri| uri != "mem://one") || heard.len() < 2 {
            let update = sees.until("notifications/resources/updated").await;
            heard.push(update.params()["uri"].as_str().unwrap().to_owned());
        }
        assert_eq!(heard, ["mem://one", "mem://one"]);
    }
}

#[tokio::test]
async fn a_legacy_client_subscribes_only_to_what_it_may_read() {
    let docs = docs(fake::legacy("2025-06-18"));
    let gate = gateway().upstream("docs", &docs).policy(SECRETS).start().await;
    let client = gate.legacy("2025-06-18").await;
    client.ask("resources/subscribe", json!({ "uri": "mem://one" })).await.result();
    let denied = client.ask("resources/subscribe", json!({ "uri": "mem://secret" })).await;
    assert_eq!(denied.error()["message"], "Resource not found");
    assert_eq!(docs.seen("resources/subscribe").len(), 1);
}

#[tokio::test]
async fn a_wrong_policy_or_a_failing_case_changes_nothing() {
    let git = fake::http().tool("log").tool("secret");
    let folder = tempfile::tempdir().unwrap();
    let cases = folder.path().join("cases.toml");
    let case = "[[case]]\ncaller = \"127.0.0.1\"\ntool = \"git/secret\"\nexpect = \"unseen\"\n";
    fs::write(&cases, case).unwrap();
    let route = format!("upstreams = [\"git\"]\npolicy = [\"policies\"]\ncases = [{cases:?}]");
    let plan = gateway().upstream("git", &git).policy(SECRETS).route("/mcp", &route);
    let gate = plan.start().await;
    let client = gate.modern();
    let refused = || gate.app().viewer().report().counters["reloads_refused"];
    for (at, wrong) in ["permit(principal", "permit(principal, action, resource) when { 1 };", ALL]
        .into_iter()
        .enumerate()
    {
        gate.edit_policy(wrong);
        let many = at as u64 + 1;
        eventually("it is refused", || (many <= refused()).then_some(())).await;
        assert_eq!(client.tools().await, ["log"], "{wrong:?}");
    }
    fs::write(&cases, case.replace("unseen", "allow")).unwrap();
    let applied = async {
        while client.tools().await != ["log", "secret"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(A_SECOND, applied).await.expect("the edit is applied within a second");
}

#[tokio::test]
async fn a_tag_is_an_edit_that_opens_nothing_anew() {
    let git = fake::http().tool("log").tool("push");
    let policy =
        "permit(principal, action, resource) unless { resource.tags.contains(\"writes\") };";
    let gate = gateway().upstream("git", &git).policy(policy).start().await;
    let client = gate.modern();
    let mut told = gate.legacy("2025-06-18").await.listen().await;
    assert_eq!(client.tools().await, ["log", "push"]);
    let opened = git.seen("server/discover").len();
    gate.edit(|toml| {
        toml.replace("[upstreams.git]", "[upstreams.git]\ntags = { writes = [\"pu*\"] }")
    });
    let applied = async {
        while client.tools().await != ["log"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(A_SECOND, applied).await.expect("the edit is applied within a second");
    let change = told.until("notifications/tools/list_changed");
    timeout(A_SECOND, change).await.expect("it is told to those whose lists changed");
    assert_eq!(git.seen("server/discover").len(), opened);
}

#[tokio::test]
async fn annotations_of_the_server_can_decide() {
    let read =
        json!({ "name": "read", "inputSchema": {}, "annotations": { "readOnlyHint": true } });
    let git = fake::http().tool_with(read).tool("write");
    let policy = "permit(principal, action, resource is Tool) when { resource.read_only };";
    let gate = gateway().upstream("git", &git).policy(policy).start().await;
    for client in clients(&gate).await {
        assert_eq!(client.tools().await, ["read"]);
        assert_eq!(client.call("read").await["content"][0]["text"], "read ran");
        let refused = client.ask("tools/call", json!({ "name": "write" })).await;
        assert_eq!(refused.code(), -32602);
    }
}

/// Both fakes of [`docs`], each behind a gate with these policies.
async fn gates(policy: &str) -> [(fake::Fake, Gate); 2] {
    let [first, second] = [docs(fake::http()), docs(fake::legacy("2025-06-18"))];
    let start = async |docs: fake::Fake| {
        let gate = gateway().upstream("docs", &docs).policy(policy).start().await;
        (docs, gate)
    };
    [start(first).await, start(second).await]
}

/// Whether a server was told of this.
fn heard(docs: &fake::Fake, text: &str) -> bool {
    docs.all().iter().any(|seen| String::from_utf8_lossy(&seen.body).contains(text))
}

#[tokio::test]
async fn no_other_spelling_reaches_what_is_hidden() {
    for (docs, gate) in gates(SECRETS).await {
        for client in clients(&gate).await {
            for (method, params) in [
                ("tools/call", json!({ "name": "log", "Name": "secret", "arguments": {} })),
                ("prompts/get", json!({ "name": "greet", "NAME": "secret" })),
                ("resources/read", json!({ "uri": "mem://one", "Uri": "mem://secret" })),
                ("resources/read", json!({ "uri": "mem://sec\tret" })),
                ("resources/read", json!({ "uri": "mem://%73ecret" })),
                ("resources/read", json!({ "uri": "mem://two/../../secret" })),
                ("resources/read", json!({ "uri": "MEM://Secret" })),
                ("resources/read", json!({ "uri": "mem://secret#part" })),
            ] {
                let before = docs.all().len();
                let text = client.start(method, params.clone()).await.text().await;
                assert!(text.contains("\"error\""), "{params}: {text}");
                let after = docs.all().split_off(before);
                assert!(after.iter().all(|seen| !seen.body.windows(6).any(|at| at == b"secret")));
            }
            let plain = client.ask("resources/read", json!({ "uri": "mem://other" })).await;
            assert!(plain.error.is_none(), "the normal form of what is permitted");
        }
    }
}

#[tokio::test]
async fn nothing_tells_a_hidden_resource_from_none() {
    for (docs, gate) in gates(SECRETS).await {
        for (at, error) in [
            r#"{"code":0,"message":"Unknown resource"}"#,
            r#"{"code":-32603,"message":"no such thing"}"#,
        ]
        .into_iter()
        .enumerate()
        {
            docs.becomes(&format!("mem://nothing{at}"), Act::Error(error.to_owned()));
        }
        let ask = ("resources/read", r#"{"uri":"NAME"}"#);
        let same = async |name: &str| {
            for modern in [true, false] {
                let hidden = read(&gate, modern, (ask.0, ask.1, "mem://secret")).await;
                assert_eq!(hidden, read(&gate, modern, (ask.0, ask.1, name)).await, "{name}");
            }
        };
        same("mem://nothing0").await;
        same("mem://nothing1").await;
        // What no template leads to, no server is asked to tell of.
        for uri in ["other://secret", "other://nothing"] {
            let client = gate.legacy("2025-06-18").await;
            let refused = client.ask("resources/subscribe", json!({ "uri": uri })).await;
            assert_eq!(refused.error()["message"], "Resource not found");
            let wanted = json!({ "notifications": { "resourceSubscriptions": [uri] } });
            let mut listening = gate.modern().start("subscriptions/listen", wanted).await;
            let honoured = listening.next().await.unwrap().params()["notifications"].clone();
            assert_eq!(honoured, json!({}), "{uri}");
        }
        assert!(!heard(&docs, "other://"));
        docs.goes_down();
        same("mem://nothing2").await;
    }
}

#[tokio::test]
async fn a_hidden_template_leads_nowhere_and_completions_name_nothing_hidden() {
    let policy = "permit(principal, action, resource);
        forbid(principal, action, resource == Resource::\"docs/mem://two\");
        forbid(principal, action, resource == Resource::\"docs/db://{table}\");";
    for fake in [fake::http(), fake::legacy("2025-06-18")] {
        let docs = docs(fake).template("db://{table}");
        let gate = gateway().upstream("docs", &docs).policy(policy).start().await;
        for client in clients(&gate).await {
            let hidden = client.ask("resources/read", json!({ "uri": "db://users" })).await;
            assert_eq!(hidden.error()["message"], "Resource not found");
            client.ask("resources/read", json!({ "uri": "mem://three" })).await.result();
            let completed = client
                .ask(
                    "completion/complete",
                    json!({ "ref": { "type": "ref/resource", "uri": "mem://{id}" },
                        "argument": { "name": "id", "value": "" } }),
                )
                .await
                .result();
            assert_eq!(completed["completion"]["values"], json!(["one"]));
        }
        assert!(!heard(&docs, "db://users"));
    }
}

#[tokio::test]
async fn what_is_answered_to_a_few_is_kept_for_nobody_else() {
    let docs = docs(fake::http());
    let open = r#"{"resultType":"complete","contents":[],"ttlMs":600000,"cacheScope":"public"}"#;
    docs.becomes("mem://one", Act::Result(open.into()));
    for (policy, want) in [(SECRETS, "private"), ("", "public")] {
        let gate = gateway().upstream("docs", &docs).policy(policy).start().await;
        let result = gate.modern().ask("resources/read", json!({ "uri": "mem://one" })).await;
        assert_eq!(result.result()["cacheScope"], want);
    }
}

#[tokio::test]
async fn capabilities_are_of_what_is_seen() {
    let (git, docs) = (fake::http().tool("log"), docs(fake::http()));
    let policy = "permit(principal, action, resource);
        forbid(principal, action, resource in Upstream::\"docs\")
        unless { principal has address && principal.address == ip(\"127.0.0.2\") };";
    let plan = gateway().upstream("git", &git).upstream("docs", &docs);
    let gate = plan.policy(policy).start().await;
    for (last, sees) in [(1, false), (2, true)] {
        let found = from(&gate, last).modern().ask("server/discover", json!({})).await.result();
        assert!(found["capabilities"]["tools"].is_object());
        for section in ["resources", "prompts", "completions"] {
            assert_eq!(found["capabilities"][section].is_object(), sees, "{section} at {last}");
        }
    }
}

#[tokio::test]
async fn a_call_that_waits_is_not_taken_up_under_another_servers_permit() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let a = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &elicit);
    let b = fake::http().tool("ask");
    let gate = gateway().upstream("a", &a).upstream("b", &b).policy(ALL).start().await;
    let client = gate.client("2026-07-28", json!({ "elicitation": { "form": {} } }));
    let asked = client.call("ask").await;
    // A name that was served leads elsewhere only where an operator says so.
    let pin = "[tools]\nask = { upstream = \"b\", name = \"ask\" }\n";
    fs::write(gate.folder.path().join("names.toml"), pin).unwrap();
    let route = "[routes.\"/mcp\"]\n";
    gate.edit(|toml| toml.replace(route, &format!("{route}names_file = \"names.toml\"\n")));
    let reloaded = || (0 < gate.app().viewer().report().counters["reloads"]).then_some(());
    eventually("the edit to be applied", reloaded).await;
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap();
    let retry = json!({ "name": "ask", "arguments": {}, "requestState": asked["requestState"],
        "inputResponses": { key: { "action": "accept", "content": {} } } });
    let refused = client.ask("tools/call", retry).await;
    assert!(refused.error()["message"].as_str().unwrap().contains("requestState"));
    assert_eq!(b.seen("tools/call").len(), 0);
}

#[tokio::test]
async fn a_file_that_is_emptied_lifts_no_forbid() {
    let git = fake::http().tool("log");
    let forbid = "forbid(principal, action == Action::\"call\", resource);";
    let route = "upstreams = [\"git\"]\npolicy = [\"policies\"]";
    let plan = gateway().upstream("git", &git).policy(ALL).route("/mcp", route);
    let gate = plan.start().await;
    let client = gate.modern();
    let file = gate.folder.path().join("policies/b.cedar");
    let reloads = || gate.app().viewer().report().counters["reloads"];
    fs::write(&file, forbid).unwrap();
    eventually("the edit to be applied", || (reloads() == 1).then_some(())).await;
    assert_eq!(client.call("log").await["isError"], true);
    fs::write(&file, "").unwrap();
    let refused = || gate.app().viewer().report().edit_refused;
    let why = eventually("the edit to be refused", refused).await;
    assert!(why.contains("this file has no policy"), "{why}");
    assert_eq!(client.call("log").await["isError"], true);
    assert_eq!(git.seen("tools/call").len(), 0);
}
