//! What a route shows: lists of many servers as one, names that are stable and routable, changes
//! told, and the last good catalog when nobody is there.

use serde_json::{Value, json};

use crate::{
    client::Client,
    eventually,
    fake::{self, Fake},
    gate::gateway,
};

async fn clients(gate: &crate::gate::Gate) -> [Client; 2] {
    [gate.legacy("2025-11-25").await, gate.modern()]
}

/// Waits until the client sees these tools.
async fn shows(client: &Client, tools: &[&str]) {
    let wait = async {
        while client.tools().await != tools {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    crate::soon(&format!("{tools:?} to be listed"), wait).await;
}

#[tokio::test]
async fn lists_are_merged_in_the_order_of_the_route() {
    let git = fake::http().tool("log").tool("diff").prompt("review").resource("git://head");
    let db = fake::legacy("2025-06-18").tool("query").pages_of(1).tool("alter").prompt("explain");
    let db = db.resource("db://a").resource("db://b").template("db://{table}");
    let gate = gateway().upstream("git", &git).upstream("db", &db).start().await;
    for client in clients(&gate).await {
        assert_eq!(client.tools().await, ["log", "diff", "query", "alter"]);
        let prompts = client.names("prompts/list", "prompts", "name").await;
        assert_eq!(prompts, ["review", "explain"]);
        let resources = client.names("resources/list", "resources", "uri").await;
        assert_eq!(resources, ["git://head", "db://a", "db://b"]);
        let list = "resources/templates/list";
        let templates = client.names(list, "resourceTemplates", "uriTemplate").await;
        assert_eq!(templates, ["db://{table}"]);
    }
    let gate = gateway()
        .upstream("git", &git)
        .upstream("db", &db)
        .route("/mcp", "upstreams = [\"db\", \"git\"]")
        .start()
        .await;
    assert_eq!(gate.modern().tools().await, ["query", "alter", "log", "diff"]);
}

#[tokio::test]
async fn a_name_that_is_taken_gets_its_upstreams_name() {
    let (git, db) = (
        fake::http().tool("log").prompt("log"),
        fake::http().tool("log").tool("query").prompt("log"),
    );
    let gate = gateway().upstream("git", &git).upstream("db", &db).start().await;
    for client in clients(&gate).await {
        assert_eq!(client.tools().await, ["log", "db__log", "query"]);
        let prompts = client.names("prompts/list", "prompts", "name").await;
        assert_eq!(prompts, ["log", "db__log"]);
        let (at_git, at_db) = (git.seen("tools/call").len(), db.seen("tools/call").len());
        client.call("log").await;
        assert_eq!(git.seen("tools/call").len(), at_git + 1);
        client.call("db__log").await;
        let seen = db.seen("tools/call").pop().unwrap();
        assert_eq!(db.seen("tools/call").len(), at_db + 1);
        assert_eq!(seen.message().params()["name"], "log", "upstream it has its own name");
        assert_eq!(seen.header("mcp-name"), "log");
        client.ask("prompts/get", json!({ "name": "db__log" })).await.result();
        assert_eq!(db.seen("prompts/get").pop().unwrap().message().params()["name"], "log");
    }
}

#[tokio::test]
async fn names_can_always_or_never_have_a_prefix() {
    let (git, db) = (fake::http().tool("log"), fake::http().tool("log").tool("query"));
    let plan = gateway().upstream("git", &git).upstream("db", &db);
    let plan = plan.route("/always", "upstreams = [\"*\"]\nnames = \"always\"");
    let gate = plan.route("/never", "upstreams = [\"*\"]\nnames = \"never\"").start().await;
    let always = gate.at("/always").modern();
    assert_eq!(always.tools().await, ["git__log", "db__log", "db__query"]);
    always.call("db__log").await;
    assert_eq!(db.seen("tools/call").len(), 1);
    let refused = always.ask("tools/call", json!({ "name": "log" })).await;
    assert_eq!(refused.code(), -32602, "only the name that is shown can be called");
    assert_eq!(gate.at("/never").modern().tools().await, ["log", "query"]);
}

#[tokio::test]
async fn every_name_is_short_plain_and_stable() {
    let (long, longer) = ("x".repeat(90), "x".repeat(91));
    let names = [long.as_str(), longer.as_str(), "a.b/c ü", "a_b_c__", "ok-Name_1"];
    let git = names.iter().fold(fake::http(), |git, name| git.tool(name));
    let mut gate = gateway().upstream("git", &git).start().await;
    let shown = gate.modern().tools().await;
    assert_eq!(shown.len(), names.len());
    for name in &shown {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        assert!(name.len() <= 64 && !name.is_empty() && name.bytes().all(plain), "{name}");
    }
    let unique: std::collections::BTreeSet<_> = shown.iter().collect();
    assert_eq!(unique.len(), names.len(), "{shown:?}");
    assert_eq!(shown[4], "ok-Name_1");
    for (shown, name) in shown.iter().zip(names) {
        gate.modern().call(shown).await;
        assert_eq!(git.seen("tools/call").pop().unwrap().message().params()["name"], name);
    }
    gate.restarts().await;
    gate.settled().await;
    assert_eq!(gate.modern().tools().await, shown);
}

#[tokio::test]
async fn long_lists_come_in_pages_of_ours() {
    let git = (0..5).fold(fake::http().pages_of(2), |git, at| git.tool(&format!("t{at}")));
    let plan = gateway().upstream("git", &git);
    let gate = plan.route("/mcp", "upstreams = [\"git\"]\npage_size = 3").start().await;
    for client in clients(&gate).await {
        let first = client.ask("tools/list", json!({})).await.result();
        assert_eq!(first["tools"].as_array().unwrap().len(), 3);
        assert_eq!(client.tools().await, ["t0", "t1", "t2", "t3", "t4"]);
        for cursor in ["nonsense", " ", "-1", "99999999999999999999"] {
            let refused = client.ask("tools/list", json!({ "cursor": cursor })).await;
            assert_eq!(refused.code(), -32602, "{cursor}");
        }
    }
}

#[tokio::test]
async fn filters_and_renames_are_what_clients_see() {
    let git = fake::http().tool("log").tool("push").tool("secret").tool("diff");
    let keys =
        "tools = { deny = [\"push\"], hide = [\"secret\"], rename = { diff = \"compare\" } }";
    let plan = gateway().upstream("git", &git);
    let plan = plan.route("/mcp", &format!("upstreams = [\"git\"]\n{keys}"));
    let gate =
        plan.route("/few", "upstreams = [\"git\"]\ntools = { allow = [\"l*\"] }").start().await;
    let client = gate.modern();
    assert_eq!(client.tools().await, ["log", "compare"]);
    client.call("compare").await;
    assert_eq!(git.seen("tools/call")[0].message().params()["name"], "diff");
    client.call("secret").await;
    for name in ["push", "diff", "nobody"] {
        let error = client.ask("tools/call", json!({ "name": name })).await.error();
        assert_eq!(error["code"], -32602);
        let text = error["message"].as_str().unwrap().replace(name, "NAME");
        let unknown = client.ask("tools/call", json!({ "name": "zzz" })).await.error();
        let unknown = unknown["message"].as_str().unwrap().replace("zzz", "NAME");
        assert_eq!(text, unknown, "what is denied reads as what is not there");
    }
    assert_eq!(gate.at("/few").modern().tools().await, ["log"]);
    assert_eq!(git.seen("tools/call").len(), 2);
}

#[tokio::test]
async fn capabilities_are_those_of_the_upstreams() {
    let git = fake::http().tool("log");
    let docs = fake::legacy("2025-06-18").prompt("p").resource("d://x").completions().logging();
    let plan = gateway().upstream("git", &git).upstream("docs", &docs);
    let plan = plan.route("/tools", "upstreams = [\"git\"]");
    let gate = plan.route("/all", "upstreams = [\"*\"]").start().await;
    let capabilities = async |path: &str| {
        let at = gate.at(path);
        let mut old = at.client("2025-06-18", json!({}));
        let new = at.modern().ask("server/discover", json!({})).await.result();
        let keys =
            |of: &Value| -> Vec<String> { of.as_object().unwrap().keys().cloned().collect() };
        let (mut old, mut new) =
            (keys(&old.open().await["capabilities"]), keys(&new["capabilities"]));
        old.sort();
        new.sort();
        (old, new)
    };
    let (old, new) = capabilities("/tools").await;
    assert_eq!((old, new), (vec!["tools".to_owned()], vec!["tools".to_owned()]));
    let (old, new) = capabilities("/all").await;
    assert_eq!(old, ["completions", "logging", "prompts", "resources", "tools"]);
    for name in ["completions", "prompts", "resources", "tools"] {
        assert!(new.contains(&name.to_owned()), "{name} in {new:?}");
    }
}

#[tokio::test]
async fn lists_say_how_long_they_may_be_kept() {
    let (git, db) =
        (fake::http().tool("log").ttl_ms(90_000), fake::http().tool("sql").ttl_ms(60_000));
    let gate = gateway().upstream("git", &git).upstream("db", &db).start().await;
    let list = gate.modern().ask("tools/list", json!({})).await.result();
    assert_eq!((&list["resultType"], &list["cacheScope"]), (&json!("complete"), &json!("public")));
    let ttl = list["ttlMs"].as_u64().unwrap();
    assert!(0 < ttl && ttl <= 60_000, "the smallest of both at most: {ttl}");
    let old = fake::legacy("2025-06-18").tool("old");
    let gate = gateway().upstream("git", &git).upstream("old", &old).start().await;
    let list = gate.modern().ask("tools/list", json!({})).await.result();
    assert_eq!(list["ttlMs"], 0, "a part without a hint may be stale at once");
    assert_eq!(list["cacheScope"], "private");
}

#[tokio::test]
async fn resources_and_completions_find_their_upstream() {
    let git =
        fake::http().completions().resource("git://head").template("git://{file}").prompt("review");
    let db = fake::legacy("2025-06-18").completions().resource("db://a").template("db://{table}");
    let gate = gateway().upstream("git", &git).upstream("db", &db).start().await;
    for client in clients(&gate).await {
        for uri in ["git://head", "git://other", "db://a", "db://other"] {
            let result = client.ask("resources/read", json!({ "uri": uri })).await.result();
            assert_eq!(result["contents"][0]["text"], format!("text of {uri}"));
        }
        let argument = json!({ "name": "topic", "value": "o" });
        for (reference, upstream) in [
            (json!({ "type": "ref/prompt", "name": "review" }), &git),
            (json!({ "type": "ref/resource", "uri": "db://{table}" }), &db),
        ] {
            let before = upstream.seen("completion/complete").len();
            let params = json!({ "ref": reference, "argument": argument });
            let result = client.ask("completion/complete", params).await.result();
            assert_eq!(result["completion"]["values"], json!(["one", "two"]));
            assert_eq!(upstream.seen("completion/complete").len(), before + 1);
        }
    }
}

#[tokio::test]
async fn a_change_upstream_is_told_in_both_eras() {
    let (git, db) = (fake::http().tool("log"), fake::legacy("2025-06-18").tool("query"));
    let gate = gateway().upstream("git", &git).upstream("db", &db).start().await;
    for upstream in [&git, &db] {
        eventually("the gate listens", || (0 < upstream.listeners()).then_some(())).await;
    }
    let mut tools = vec!["log", "query"];
    for (at, added) in [(1, "new"), (3, "newer")] {
        let clients = clients(&gate).await;
        let mut streams = Vec::new();
        for client in &clients {
            streams.push(client.listen().await);
        }
        tools.insert(at, added);
        if added == "new" {
            git.add_tool(added)
        } else {
            db.add_tool(added)
        }
        for (client, stream) in clients.iter().zip(&mut streams) {
            let told = stream.until("notifications/tools/list_changed").await.params();
            let subscription = &told["_meta"]["io.modelcontextprotocol/subscriptionId"];
            assert_eq!(subscription.is_null(), !client.is_modern());
            assert_eq!(client.tools().await, tools);
        }
    }
}

#[tokio::test]
async fn a_list_is_read_anew_when_its_time_is_over() {
    let git = fake::http().tool("log");
    let gate = gateway().upstream_with("git", &git, "refresh = \"1s\"").start().await;
    let client = gate.modern();
    assert_eq!(client.tools().await, ["log"]);
    drop(git.clone().tool("silent"));
    shows(&client, &["log", "silent"]).await;
}

#[tokio::test]
async fn a_subscription_gives_only_what_was_asked() {
    let git = fake::http().tool("log").prompt("ask");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    let wanted = json!({ "notifications": { "promptsListChanged": true } });
    let mut stream = client.start("subscriptions/listen", wanted).await;
    let first = stream.next().await.unwrap();
    assert_eq!(first.method.as_deref(), Some("notifications/subscriptions/acknowledged"));
    assert_eq!(first.params()["notifications"], json!({ "promptsListChanged": true }));
    assert!(!first.params()["_meta"]["io.modelcontextprotocol/subscriptionId"].is_null());
    eventually("the gate listens", || (0 < git.listeners()).then_some(())).await;
    git.add_tool("diff");
    shows(&client, &["log", "diff"]).await;
    drop(git.clone().prompt("more"));
    git.tell("notifications/prompts/list_changed", &json!({}));
    let next = stream.next().await.unwrap();
    assert_eq!(next.method.as_deref(), Some("notifications/prompts/list_changed"));
}

#[tokio::test]
async fn the_last_good_catalog_is_served_when_nobody_is_there() {
    let (git, db) = (fake::http().tool("log"), fake::legacy("2025-06-18").tool("query"));
    let keys = "timeout = { open = \"1s\" }";
    let plan = gateway().upstream_with("git", &git, keys).upstream_with("db", &db, keys);
    let mut gate = plan.start().await;
    assert_eq!(gate.modern().tools().await, ["log", "query"]);
    git.goes_down();
    db.goes_down();
    gate.restarts().await;
    for client in clients(&gate).await {
        assert_eq!(client.tools().await, ["log", "query"], "at once, from disk");
        let result = client.call("log").await;
        assert_eq!(result["isError"], true);
        let content = &result["structuredContent"];
        assert_eq!(
            (&content["error"], &content["retriable"]),
            (&json!("service_unavailable"), &json!(true))
        );
    }
    drop(git.clone().tool("diff"));
    git.comes_back();
    db.comes_back();
    let client = gate.modern();
    shows(&client, &["log", "diff", "query"]).await;
    client.call("query").await;
}

#[tokio::test]
async fn an_upstream_that_comes_later_brings_its_tools() {
    let (git, db) = (fake::http().tool("log"), fake::http().tool("query"));
    db.goes_down();
    let gate = gateway().upstream("git", &git).upstream("db", &db).start().await;
    let client = gate.legacy("2025-06-18").await;
    assert_eq!(client.tools().await, ["log"]);
    let mut stream = client.listen().await;
    db.comes_back();
    stream.until("notifications/tools/list_changed").await;
    assert_eq!(client.tools().await, ["log", "query"]);
}

#[tokio::test]
async fn a_lazy_upstream_is_opened_once_to_be_listed() {
    let git = fake::stdio("2025-06-18").tool("log");
    let keys = "start = \"lazy\"\nisolation = \"shared\"";
    let mut gate = gateway().upstream_with("git", &git, keys).start().await;
    let listed = async {
        while gate.modern().tools().await != ["log"] {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    crate::soon("its tools", listed).await;
    let processes = git.pids().len();
    gate.restarts().await;
    assert_eq!(gate.modern().tools().await, ["log"]);
    assert_eq!(git.pids().len(), processes, "what is known needs no process");
    assert_eq!(gate.modern().call("log").await["content"][0]["text"], "log ran");
}

#[tokio::test]
async fn a_tool_with_another_definition_is_counted_once() {
    let tool = |said: &str| json!({ "name": "log", "description": said, "inputSchema": {} });
    let git = fake::http()
        .tool_with(tool("one"))
        .tool_with(json!({ "name": "other", "inputSchema": {} }));
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    assert_eq!(client.tools().await, ["log", "other"]);
    let changed = || gate.app().viewer().report().counters["tools_changed"];
    assert_eq!(changed(), 0);
    for (said, count) in [("two", 1), ("two", 1), ("three", 2)] {
        git.relists(&[tool(said), json!({ "name": "other", "inputSchema": {} })]);
        let seen = async || {
            let listed = client.ask("tools/list", json!({})).await.result();
            (listed["tools"][0]["description"] == said).then_some(())
        };
        while seen().await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(changed(), count, "{said}");
    }
}

/// Nothing is known of it, so it is opened at once, and waited for as an eager one is.
#[tokio::test]
async fn who_comes_first_waits_for_a_lazy_upstream_that_was_never_listed() {
    let keys = "start = \"lazy\"\nisolation = \"shared\"";
    let plan = |server: &Fake| {
        gateway().server("limits.settle = \"20s\"").upstream_with("git", server, keys)
    };
    for server in [fake::stdio("2025-06-18"), fake::stdio("2025-11-25")] {
        let server = server.tool("log").prompt("ask").starts_after(400);
        let gate = plan(&server).open().await;
        assert_eq!(gate.modern().tools().await, ["log"], "the very first list");
        let gate = plan(&server).open().await;
        assert_eq!(gate.modern().call("log").await["content"][0]["text"], "log ran");
        let gate = plan(&server).open().await;
        let legacy = gate.legacy("2025-06-18").await;
        assert_eq!(legacy.tools().await, ["log"]);
        let prompts = gate.modern().ask("prompts/list", json!({})).await.result();
        assert_eq!(prompts["prompts"][0]["name"], "ask");
    }
}
