//! Lists of upstreams in trouble: each list stands for itself, one bad entry costs that entry, and
//! all are bounded.

use serde_json::{Value, json};

use crate::{
    admin,
    client::Client,
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
    log, message, soon,
};

/// Method, member of the result, key of an entry.
const LISTS: [(&str, &str, &str); 4] = [
    ("tools/list", "tools", "name"),
    ("prompts/list", "prompts", "name"),
    ("resources/list", "resources", "uri"),
    ("resources/templates/list", "resourceTemplates", "uriTemplate"),
];

/// Ways in which a list fails; the last one gives one entry, `good`, before.
fn ways(member: &str, good: &str) -> Vec<(&'static str, Act)> {
    let error = |raw: &str| Act::Error(raw.to_owned());
    let result = |raw: &str| Act::Result(raw.to_owned());
    let list = |raw: &str| {
        let hints = r#""resultType":"complete","ttlMs":0,"cacheScope":"public""#;
        Act::Result(format!(r#"{{{hints},"{member}":{raw}}}"#))
    };
    let first = format!(r#"{{"{member}":[{good}],"nextCursor":"2"}}"#);
    let middle = vec![result(&first), error(r#"{"code":-32603,"message":"page 2"}"#)];
    vec![
        ("internal", error(r#"{"code":-32603,"message":"connect ECONNREFUSED"}"#)),
        ("params", error(r#"{"code":-32602,"message":"Invalid request parameters"}"#)),
        ("own", error(r#"{"code":-1,"message":"not today"}"#)),
        ("code", error(r#"{"code":"internal","message":7}"#)),
        ("status", Act::Status(500)),
        ("busy", Act::Busy(503, 1)),
        ("garbage", Act::Garbage),
        ("empty", result("{}")),
        ("nothing", list("null")),
        ("object", list("{}")),
        ("text", list("\"none\"")),
        ("midway", Act::ClosesMidway),
        ("hang", Act::Hang),
        ("middle", Act::Turns(middle)),
    ]
}

fn entry(at: usize, name: &str) -> String {
    let entry = match at {
        0 => json!({ "name": name, "inputSchema": { "type": "object" } }),
        1 => json!({ "name": name }),
        2 => json!({ "uri": format!("{name}://one"), "name": name }),
        _ => json!({ "uriTemplate": format!("{name}://{{x}}"), "name": name }),
    };
    entry.to_string()
}

/// A server with one entry in each list, all of this name.
fn server(name: &str) -> Fake {
    let uri = format!("{name}://one");
    fake::http().tool(name).prompt(name).resource(&uri).template(&format!("{name}://{{x}}"))
}

async fn names(client: &Client, at: usize) -> Vec<String> {
    let (method, member, key) = LISTS[at];
    let all = client.names(method, member, key).await;
    all.into_iter().map(|name| name.split(':').next().unwrap().to_owned()).collect()
}

fn report(gate: &Gate, upstream: &str) -> Value {
    let report = gate.app().viewer().report();
    let all = report.upstreams.into_iter().map(|one| json!(one));
    all.into_iter().find(|one| one["name"] == upstream).unwrap()
}

fn counted(gate: &Gate, counter: &str) -> u64 {
    gate.app().viewer().report().counters[counter]
}

/// Waits until a list has exactly these entries.
async fn shows(client: &Client, at: usize, wanted: &[&str]) {
    let wait = async {
        while names(client, at).await != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon(&format!("{wanted:?} in {}", LISTS[at].0), wait).await;
}

/// Ten ways and more in which one of the four lists fails: the others are served, the failed one is
/// named, and is there within seconds once it can be read; afterwards its last good entries stay.
#[tokio::test(flavor = "multi_thread")]
async fn each_list_stands_for_itself() {
    for (at, (method, member, _)) in LISTS.into_iter().enumerate() {
        let mut plan = gateway().server("admin = \"127.0.0.1:0\"");
        let mut servers = Vec::new();
        for (name, way) in ways(member, &entry(at, "middle")) {
            let server = server(name);
            server.becomes(method, way.clone());
            plan = plan.upstream_with(name, &server, "timeout = { open = \"1s\" }");
            servers.push((name, server, way));
        }
        let gate = plan.start().await;
        let client = gate.modern();
        let all: Vec<_> = servers.iter().map(|(name, ..)| *name).collect();
        for other in (0..LISTS.len()).filter(|other| *other != at) {
            assert_eq!(names(&client, other).await, all, "{method} fails");
        }
        for name in &all {
            let named = || report(&gate, name)["lists"].get(method).cloned();
            eventually(&format!("{name}: {method} is named"), named).await;
            assert_eq!(report(&gate, name)["state"], "degraded", "{name}: {method}");
        }
        let (head, detail) = admin::get(&gate, "/readyz").await;
        assert!(head.starts_with("HTTP/1.1 200"), "calls are taken all the same: {head}");
        let detail: Value = serde_json::from_str(&detail).unwrap();
        for name in &all {
            let mut troubled = detail["troubled"].as_array().unwrap().iter();
            let found = troubled.find(|one| one["name"] == **name).unwrap();
            assert_eq!(found["state"], "degraded", "{name}: {method}");
            let lists = found["lists"].as_object().unwrap();
            assert_eq!(lists.keys().collect::<Vec<_>>(), [method], "{name}");
            assert!(lists[method].as_str().is_some_and(|why| !why.is_empty()), "{name}");
        }
        assert!(servers.len() as u64 <= counted(&gate, "lists_failed"), "{method}");
        // What came before the page that failed is better than nothing.
        shows(&client, at, &["middle"]).await;
        for (_, server, _) in &servers {
            server.recovers(method);
        }
        shows(&client, at, &all).await;
        for name in &all {
            let well = || (report(&gate, name)["state"] == "ready").then_some(());
            eventually(&format!("{name} is well"), well).await;
        }
        for (_, server, way) in &servers {
            server.becomes(method, way.clone());
            let kind = method.split('/').next().unwrap();
            server.tell(&format!("notifications/{kind}/list_changed"), &json!({}));
        }
        for name in &all {
            let named = || report(&gate, name)["lists"].get(method).cloned();
            eventually(&format!("{name}: {method} is named again"), named).await;
        }
        assert_eq!(names(&client, at).await, all, "the last good entries of {method}");
    }
}

#[tokio::test]
async fn a_list_that_the_server_does_not_have_is_no_trouble() {
    let git = server("git");
    git.becomes("resources/templates/list", Act::Error(r#"{"code":-32601,"message":"no"}"#.into()));
    let gate = gateway().upstream("git", &git).start().await;
    assert_eq!(gate.modern().tools().await, ["git"]);
    let report = report(&gate, "git");
    assert_eq!((&report["state"], &report["lists"]), (&json!("ready"), &json!({})));
}

/// A name that nobody knows, while a list that could have it cannot be read.
#[tokio::test]
async fn a_model_is_not_told_that_there_is_no_such_tool() {
    let git = server("git");
    let mut plan = gateway().upstream("git", &git);
    let mut servers = Vec::new();
    for (at, (way, _)) in ways("tools", "").into_iter().enumerate() {
        let db = server(way);
        for (list, (method, member, _)) in LISTS.into_iter().enumerate() {
            let (_, act) = ways(member, &entry(list, way)).swap_remove(at);
            db.becomes(method, act);
        }
        let keys = "timeout = { open = \"1s\" }";
        let route = format!("upstreams = [\"git\", \"db-{way}\"]");
        plan = plan.upstream_with(&format!("db-{way}"), &db, keys);
        plan = plan.route(&format!("/{way}"), &route);
        servers.push((way, db));
    }
    let gate = plan.start().await;
    for (way, _) in &servers {
        let endpoint = gate.at(&format!("/{way}"));
        for client in [endpoint.legacy("2025-06-18").await, endpoint.modern()] {
            is_told_to_wait(&client, way).await;
        }
    }
    for (_, db) in &servers {
        for (method, ..) in LISTS {
            db.recovers(method);
        }
        for kind in ["tools", "prompts", "resources"] {
            db.tell(&format!("notifications/{kind}/list_changed"), &json!({}));
        }
    }
    for (way, _) in &servers {
        let client = gate.at(&format!("/{way}")).modern();
        for at in 0..LISTS.len() {
            shows(&client, at, &["git", *way]).await;
        }
        for (method, key) in [("tools/call", "name"), ("prompts/get", "name")] {
            let known = client.ask(method, json!({ key: "query" })).await;
            assert_eq!(known.code(), -32602, "{way}: {method}");
        }
    }
}

/// What a client is told of names that are on no list so far.
async fn is_told_to_wait(client: &Client, way: &str) {
    let failed = client.call("query").await;
    assert_eq!(failed["isError"], true, "{way}");
    let said = &failed["structuredContent"];
    let told = (&said["error"], &said["retriable"]);
    assert_eq!(told, (&json!("service_unavailable"), &true.into()), "{way}");
    // The letters of a request's id mean nothing.
    let text = message::without_request(failed["content"][0]["text"].as_str().unwrap());
    assert!(!text.contains("unknown") && !text.contains("db"), "{way}: {text}");
    for (method, key) in [("prompts/get", "name"), ("resources/read", "uri")] {
        let refused = client.ask(method, json!({ key: "query://one" })).await.error();
        assert_eq!(refused["data"]["error"], "service_unavailable", "{way}: {method}");
    }
    assert_eq!(client.call("git").await["content"][0]["text"], "git ran", "others go on");
}

/// Whether a hidden tool exists is not told by how an unknown name is answered.
#[tokio::test]
async fn hidden_and_unknown_read_alike_whatever_is_in_trouble() {
    for (policy, words) in [
        // It could see what the failed upstream has.
        (r#"permit (principal, action, resource) unless { resource.name == "secret" };"#, "ready"),
        // It could not.
        (
            r#"permit (principal, action, resource in Upstream::"git") unless
               { resource.name == "secret" };"#,
            "unknown",
        ),
    ] {
        let (git, db) = (fake::http().tool("log").tool("secret"), server("db"));
        db.becomes("tools/list", Act::Error(r#"{"code":-32603,"message":"down"}"#.into()));
        let plan = gateway().upstream("git", &git).upstream("db", &db).policy(policy);
        let gate = plan.start().await;
        let client = gate.modern();
        let mut texts = Vec::new();
        for name in ["secret", "nobody"] {
            let reply = client.ask("tools/call", json!({ "name": name })).await;
            let text = reply.result.or(reply.error).unwrap().replace(name, "NAME");
            let text = message::without_request(&text);
            assert!(text.contains(words), "{text}");
            texts.push(text);
        }
        assert_eq!(texts[0], texts[1], "{policy}");
        assert!(git.seen("tools/call").is_empty());
    }
}

/// Entries that strict clients cannot read are mended or left out; all others stay, byte for byte.
#[tokio::test]
async fn one_bad_entry_does_not_spoil_a_list() {
    log::is_kept();
    let good =
        r#"{ "name" : "good" , "inputSchema":{"type":"object"},"x":12345678901234567890123}"#;
    let deep = format!(r#"{{"name":"deep","x":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let bad = fake::http()
        .tool_raw(good)
        .tool_raw(r#"{"name":"noschema"}"#)
        .tool_raw(r#"{"name":"nulls","inputSchema":null,"title":null,"annotations":null}"#)
        .tool_raw(
            r#"{"name":"php","inputSchema":{"type":"object","properties":[],"required":null}}"#,
        )
        .tool_raw(r#"{"name":"","inputSchema":{"type":"object"}}"#)
        .tool_raw(r#"{"name":"text","inputSchema":"none"}"#)
        .tool_raw(&deep)
        .tool_raw(good);
    let other = fake::http().tool("other");
    let gate = gateway().upstream("spoilt", &bad).upstream("other", &other).start().await;
    let client = gate.modern();
    assert_eq!(client.tools().await, ["good", "noschema", "nulls", "php", "other"]);
    let reply = client.ask("tools/list", json!({})).await;
    assert!(reply.result.as_ref().unwrap().contains(good), "bytes of a good one stay");
    let tools = reply.result()["tools"].clone();
    let schema = json!({ "type": "object" });
    assert_eq!(tools[1], json!({ "name": "noschema", "inputSchema": schema }));
    assert_eq!(tools[2], json!({ "name": "nulls", "inputSchema": schema }));
    assert_eq!(tools[3]["inputSchema"], json!({ "type": "object", "properties": {} }));
    for tool in ["noschema", "nulls", "php"] {
        assert_eq!(client.call(tool).await["content"][0]["text"], format!("{tool} ran"));
    }
    let found = report(&gate, "spoilt");
    assert_eq!(found["state"], "ready");
    let (left_out, mended) = (&found["left_out"], &found["mended"]);
    assert_eq!(left_out.as_array().unwrap().len(), 4, "{left_out}");
    assert_eq!(mended.as_array().unwrap().len(), 3, "{mended}");
    assert_eq!(left_out[1], "tool \"text\": its `inputSchema` cannot be read by clients");
    assert_eq!(mended[1], "tool \"nulls\": mended: `title`, `inputSchema`, `annotations`");
    let counts = || (counted(&gate, "list_items_dropped"), counted(&gate, "list_items_mended"));
    assert_eq!(counts(), (4, 3));
    let told =
        || log::lines(&["upstream=\"spoilt\"", "list=\"tools/list\"", "left out of the list"]);
    assert_eq!(told().len(), 4, "{:#?}", told());
    for entry in ["number 5", "text", "number 7", "good"] {
        let named = format!("entry=\"{entry}\"");
        assert_eq!(log::lines(&["upstream=\"spoilt\"", &named]).len(), 1, "{:#?}", told());
    }
    // The same again is not told again, nor what was told of a list that was another meanwhile.
    let lists = bad.seen("tools/list").len();
    bad.add_tool("later");
    shows(&client, 0, &["good", "noschema", "nulls", "php", "later", "other"]).await;
    assert!(lists < bad.seen("tools/list").len());
    assert_eq!(counts(), (4, 3));
    let tool = |name: &str, schema: Value| json!({ "name": name, "inputSchema": schema });
    let plain = || json!({ "type": "object" });
    for _ in 0..2 {
        bad.relists(&[tool("good", plain())]);
        shows(&client, 0, &["good", "other"]).await;
        bad.relists(&[tool("good", plain()), tool("text", json!("none")), tool("more", plain())]);
        shows(&client, 0, &["good", "more", "other"]).await;
    }
    assert_eq!((counts(), told().len()), ((4, 3), 4));
}

/// Each bound on lists costs its own upstream only, and says which key it is.
#[tokio::test]
async fn lists_are_bounded() {
    let tool = |name: &str, bytes: usize| {
        let schema = json!({ "type": "object" });
        json!({ "name": name, "description": "x".repeat(bytes), "inputSchema": schema })
    };
    let many = |count: usize, bytes: usize| {
        let all = (0..count).map(|at| tool(&format!("t{at}"), bytes));
        all.fold(fake::http(), Fake::tool_with)
    };
    for (key, server, kept) in [
        ("list_items_max = 5", many(20, 10), 5),
        ("list_items_max = 5", many(20, 10).pages_of(2), 5),
        ("list_pages_max = 3", many(20, 10).pages_of(2), 6),
        ("list_bytes_max = \"8KiB\"", many(20, 1_000), 7),
        ("list_bytes_max = \"8KiB\"", many(20, 1_000).pages_of(1), 7),
        ("list_bytes_max = \"8KiB\"", many(20, 1_000).pages_of(3), 7),
        ("lists_bytes_max = \"8KiB\"", many(20, 1_000), 7),
        ("lists_bytes_max = \"8KiB\"", many(20, 1_000).pages_of(3), 7),
        ("entry_bytes_max = \"1KiB\"", many(3, 100).tool_with(tool("fat", 2_000)), 3),
        ("entry_bytes_max = \"1KiB\"", many(3, 100).tool_with(tool("fat", 900_000)), 3),
    ] {
        let other = fake::http().tool("other");
        let plan = gateway().server(&format!("limits.{key}"));
        let gate = plan.upstream("big", &server).upstream("other", &other).start().await;
        let tools = gate.modern().tools().await;
        assert_eq!(tools.len(), kept + 1, "{key}: {tools:?}");
        assert_eq!(tools.last().unwrap(), "other");
        assert_eq!(report(&gate, "other")["state"], "ready");
        let found = report(&gate, "big");
        let word = key.split(' ').next().unwrap();
        if word == "entry_bytes_max" {
            assert_eq!(found["state"], "ready", "{key}");
            assert!(found["left_out"][0].as_str().unwrap().contains(word), "{found}");
        } else {
            assert_eq!(found["state"], "degraded", "{key}");
            assert!(found["lists"]["tools/list"].as_str().unwrap().contains(word), "{found}");
        }
        let file = gate.folder.path().join("state/catalog-big.json");
        let file = std::fs::metadata(file).map(|file| file.len());
        assert!(file.is_ok_and(|bytes| bytes < 20_000), "on disk is no more: {key}");
    }
}

/// What one upstream has in all of its lists is bounded together, wherever its bytes are; its
/// neighbour has all of its own.
#[tokio::test]
async fn all_lists_of_an_upstream_are_bounded_together() {
    let of = |at: usize, count: usize, bytes: usize| -> Act {
        let (_, member, key) = LISTS[at];
        let entries = (0..count).map(|number| {
            let mut entry: Value = serde_json::from_str(&entry(at, &format!("e{number}"))).unwrap();
            entry["description"] = json!("x".repeat(bytes));
            assert!(entry[key].is_string());
            entry
        });
        let mut page = json!({ "resultType": "complete", "ttlMs": 0, "cacheScope": "public" });
        page[member] = json!(entries.collect::<Vec<_>>());
        Act::Result(page.to_string())
    };
    // Entries of each list, of 1,000 B, under a bound of 8 KiB for all of them.
    let rows = [
        [20, 0, 0, 0],
        [0, 20, 0, 0],
        [0, 0, 20, 0],
        [0, 0, 0, 20],
        [5, 5, 0, 0],
        [5, 0, 5, 0],
        [0, 5, 0, 5],
        [3, 3, 3, 3],
        [2, 2, 2, 7],
        [6, 6, 6, 6],
        [1, 1, 1, 1],
        [2, 2, 2, 1],
    ];
    let servers: Vec<_> = rows
        .iter()
        .map(|row| {
            let server = server("own");
            for (at, count) in row.iter().enumerate() {
                server.becomes(LISTS[at].0, of(at, *count, 1_000));
            }
            server
        })
        .collect();
    let other = server("other");
    let plan = gateway().server("limits.lists_bytes_max = \"8KiB\"").upstream("other", &other);
    let plan = servers.iter().enumerate().fold(plan, |plan, (row, server)| {
        let name = format!("u{row}");
        let route = format!("upstreams = [\"other\", \"{name}\"]");
        plan.upstream(&name, server).route(&format!("/{row}"), &route)
    });
    let gate = plan.start().await;
    for (row, counts) in rows.iter().enumerate() {
        let client = gate.at(&format!("/{row}")).modern();
        let mut served = 0;
        for at in 0..LISTS.len() {
            let names = names(&client, at).await;
            assert!(names.contains(&"other".to_owned()), "{row}: {names:?}");
            served += names.len() - 1;
        }
        let all: usize = counts.iter().sum();
        let found = report(&gate, &format!("u{row}"));
        let fits = all <= 7;
        assert_eq!(found["state"], if fits { "ready" } else { "degraded" }, "{counts:?}: {found}");
        assert!(if fits { served == all } else { served <= 7 }, "{counts:?}: {served}");
        let named = found["lists"].to_string().contains("lists_bytes_max");
        assert_eq!(named, !fits, "{counts:?}: {found}");
    }
}

/// Words of a page that no client could read, and that say nothing of its entries.
#[tokio::test]
async fn a_page_with_wrong_words_is_read_all_the_same() {
    let tool = r#"{"name":"t","inputSchema":{"type":"object"}}"#;
    for words in [
        r#""nextCursor":null"#,
        r#""nextCursor":false"#,
        r#""nextCursor":{}"#,
        r#""nextCursor":[]"#,
        r#""ttlMs":-1"#,
        r#""ttlMs":1.5"#,
        r#""ttlMs":"soon""#,
        r#""ttlMs":1e300"#,
        r#""cacheScope":7"#,
        r#""cacheScope":null,"_meta":null,"extra":{}"#,
    ] {
        let git = fake::http().tool("t");
        git.becomes("tools/list", Act::Result(format!(r#"{{"tools":[{tool}],{words}}}"#)));
        let gate = gateway().upstream("git", &git).start().await;
        assert_eq!(gate.modern().tools().await, ["t"], "{words}");
        assert_eq!(report(&gate, "git")["state"], "ready", "{words}");
        let list = gate.modern().ask("tools/list", json!({})).await.result();
        assert!(list["ttlMs"].is_u64() && list.get("nextCursor").is_none(), "{list}");
    }
}

/// A cursor goes back as the server wrote it, and one that was given before leads nowhere.
#[tokio::test]
async fn cursors_are_the_servers_own() {
    let page = |name: &str, next: &str| {
        let tool = format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
        Act::Result(format!(r#"{{"tools":[{tool}],"nextCursor":{next}}}"#))
    };
    for cursors in [["7", "8", "7"], ["\"a\"", "\"b\"", "\"a\""], ["\"\"", "0", "\"\""]] {
        let git = fake::http().tool("t");
        let pages = ["a", "b", "c"].into_iter().zip(cursors);
        let pages = pages.map(|(name, next)| page(name, next)).collect();
        git.becomes("tools/list", Act::Turns(pages));
        let gate = gateway().upstream("git", &git).start().await;
        assert_eq!(gate.modern().tools().await, ["a", "b", "c"], "{cursors:?}");
        let seen = git.seen("tools/list");
        assert_eq!(seen.len(), 3, "{cursors:?}");
        let asked = seen[1].message().params()["cursor"].to_string();
        assert_eq!(asked, cursors[0]);
    }
}

/// A client that is greeted by the server's own words does not wait for a list that hangs.
#[tokio::test]
async fn a_greeting_waits_for_no_list() {
    for method in ["tools/list", "prompts/list", "resources/list"] {
        let git = server("git");
        git.becomes(method, Act::Hang);
        let plan = gateway().server("limits.settle = \"1m\"").upstream("git", &git);
        let gate = plan.open().await;
        let mut client = gate.client("2025-06-18", json!({}));
        let capabilities = client.open().await["capabilities"].clone();
        assert!(capabilities["tools"].is_object(), "{method}: {capabilities}");
        for (at, _) in LISTS.iter().enumerate().filter(|(_, list)| list.0 != method) {
            assert_eq!(names(&client, at).await, ["git"], "{method} hangs");
        }
    }
}
