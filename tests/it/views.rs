//! What callers of different grants are offered: made once, shared, bounded, and kept while nothing
//! that it shows changed.

use std::net::IpAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    client::Endpoint,
    eventually,
    fake::{self, Fake},
    gate::{Gate, gateway},
    soon,
};

/// Asks for the address, so that each is a set of grants; `secret` is for the second only.
const BY_ADDRESS: &str = r#"
permit (principal, action, resource);
forbid (principal, action, resource) when { resource.name == "secret" }
unless { principal has address && principal.address == ip("127.0.0.2") };"#;

fn from(gate: &Gate, last: u8) -> Endpoint {
    Endpoint { from: IpAddr::from([127, 0, 0, last]), ..gate.at("/mcp") }
}

fn counted(gate: &Gate, counter: &str) -> u64 {
    gate.app().viewer().report().counters[counter]
}

fn large(count: usize) -> Fake {
    let text = "x".repeat(500);
    (0..count).fold(fake::http(), |all, at| {
        let schema = json!({ "type": "object" });
        let name = format!("t{at}");
        all.tool_with(json!({ "name": name, "description": text, "inputSchema": schema }))
    })
}

/// Many who ask at once have one made for them; the bytes of entries are nobody's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_made_once_for_all_of_its_grants() {
    let git = large(1_000).tool("secret");
    let gate = gateway().upstream("git", &git).policy(BY_ADDRESS).start().await;
    // With the first list all names are recorded, which renames nothing any more.
    assert_eq!(from(&gate, 9).modern().tools().await.len(), 1_000);
    let before = counted(&gate, "views_built");
    let lists = (0..10).flat_map(|_| 1..=4).map(|last| {
        let client = from(&gate, last).modern();
        async move { (last, client.tools().await) }
    });
    for (last, tools) in join_all(lists).await {
        assert_eq!(tools.len(), 1_000 + usize::from(last == 2), "127.0.0.{last}");
    }
    assert_eq!(counted(&gate, "views_built") - before, 4);
    assert_eq!(counted(&gate, "views_evicted"), 0);
    let bytes = counted(&gate, "views_bytes_now");
    assert!(0 < bytes && bytes < 5 * 32 * 1_000, "{bytes} bytes for five sets of 1,000 tools");
}

/// With no room for all of them lists are made again, and are right.
#[tokio::test(flavor = "multi_thread")]
async fn views_are_bounded_in_bytes() {
    let git = large(200).tool("secret");
    let plan = gateway().server("limits.views_bytes_max = \"8KiB\"");
    let gate = plan.upstream("git", &git).policy(BY_ADDRESS).start().await;
    for _ in 0..3 {
        for last in 1..=5 {
            let tools = from(&gate, last).modern().tools().await;
            assert_eq!(tools.len(), 200 + usize::from(last == 2));
            assert!(counted(&gate, "views_bytes_now") <= 8 << 10);
        }
    }
    assert!(5 < counted(&gate, "views_built") && 0 < counted(&gate, "views_evicted"));
}

/// A list that is the same is no news, however often a server says that it changed: nobody is told,
/// and nothing is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn identical_lists_cost_nothing() {
    for upstream in [fake::http(), fake::legacy("2025-06-18")] {
        let git = upstream.tool("log").tool("secret").prompt("ask").resource("mem://one");
        let gate = gateway().upstream("git", &git).policy(BY_ADDRESS).start().await;
        eventually("the gate listens", || (0 < git.listeners()).then_some(())).await;
        let (blind, sees) = (from(&gate, 1).legacy("2025-06-18").await, from(&gate, 2).modern());
        let wanted = json!({ "notifications": { "toolsListChanged": true } });
        let mut modern = sees.start("subscriptions/listen", wanted).await;
        modern.next().await.unwrap();
        let mut legacy = blind.listen().await;
        assert_eq!(blind.tools().await, ["log"]);
        assert_eq!(sees.tools().await, ["log", "secret"]);
        let made = counted(&gate, "views_built");
        assert_eq!(made, 2);
        for kind in ["tools", "prompts", "resources"] {
            let lists = git.seen("tools/list").len();
            git.tell(&format!("notifications/{kind}/list_changed"), &json!({}));
            let read = || (lists < git.seen("tools/list").len()).then_some(());
            eventually("the lists are read", read).await;
        }
        assert_eq!(blind.tools().await, ["log"]);
        assert_eq!(counted(&gate, "views_built"), made, "nothing was made anew");
        // The first that each hears is of a change that it sees.
        git.add_tool("diff");
        for (stream, client, tools) in [
            (&mut legacy, &blind, &["log", "diff"][..]),
            (&mut modern, &sees, &["log", "secret", "diff"][..]),
        ] {
            let first = soon("the change", stream.next()).await.unwrap();
            assert_eq!(first.method.as_deref(), Some("notifications/tools/list_changed"));
            assert_eq!(client.tools().await, tools);
        }
    }
}

/// What does not belong to a route, and an edit that says nothing of it, leave its views as they
/// are.
#[tokio::test(flavor = "multi_thread")]
async fn views_are_kept_while_nothing_they_show_changed() {
    let (git, db) = (fake::http().tool("log").tool("secret"), fake::http().tool("query"));
    let plan = gateway().upstream("git", &git).upstream("db", &db).policy(BY_ADDRESS);
    let ruled = "policy = [\"policies/base.cedar\"]";
    let plan = plan.route("/mcp", &format!("upstreams = [\"git\"]\n{ruled}"));
    let gate = plan.route("/db", &format!("upstreams = [\"db\"]\n{ruled}")).start().await;
    let (client, other) = (gate.at("/mcp").modern(), gate.at("/db").modern());
    assert_eq!(client.tools().await, ["log"]);
    assert_eq!(other.tools().await, ["query"]);
    let made = counted(&gate, "views_built");
    db.add_tool("alter");
    let both = async {
        while other.tools().await != ["query", "alter"] {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    soon("the change", both).await;
    assert_eq!(client.tools().await, ["log"]);
    assert_eq!(counted(&gate, "views_built"), made + 1, "of the other route only");
    let reloads = counted(&gate, "reloads");
    gate.edit(|toml| toml.replace("limits.drain = \"2s\"", "limits.drain = \"3s\""));
    let reloaded = || (reloads < counted(&gate, "reloads")).then_some(());
    eventually("the edit is applied", reloaded).await;
    assert_eq!(client.tools().await, ["log"]);
    assert_eq!(other.tools().await, ["query", "alter"]);
    assert_eq!(counted(&gate, "views_built"), made + 1, "an edit of something else");
}

/// The pages of all views, put together anew for each, are those of a route that all may use.
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_the_same_whoever_asks() {
    let git = large(25).tool_raw(r#"{ "name" : "odd","inputSchema":{"type":"object"}, "x":1.0 }"#);
    let git = git.prompt("ask").resource("mem://one").template("mem://{x}");
    let keys = "upstreams = [\"git\"]\npage_size = 10";
    let plan = gateway().upstream("git", &git).policy(BY_ADDRESS);
    let plan = plan.route("/open", keys);
    let ruled = format!("{keys}\npolicy = [\"policies/base.cedar\"]");
    let gate = plan.route("/mcp", &ruled).start().await;
    for version in ["2025-03-26", "2025-06-18", "2025-11-25", fake::MODERN] {
        let mut texts = Vec::new();
        for path in ["/open", "/mcp"] {
            let at = gate.at(path);
            let modern = version == fake::MODERN;
            let client = if modern { at.modern() } else { at.legacy(version).await };
            let mut all = Vec::new();
            for method in
                ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]
            {
                let mut params = json!({});
                loop {
                    let reply = client.ask(method, params.clone()).await;
                    // Only whether others may keep it differs.
                    let text = reply.result.as_ref().unwrap().replace("\"public\"", "\"private\"");
                    all.push(text);
                    let next = reply.result()["nextCursor"].clone();
                    if next == Value::Null {
                        break;
                    }
                    params = json!({ "cursor": next });
                }
            }
            texts.push(all);
        }
        assert_eq!(texts[0].len(), 3 + 3, "{version}");
        assert_eq!(texts[0], texts[1], "{version}");
    }
}

/// Upstreams, and the addresses of those who may see what they have.
const AUDIENCES: [(&str, &[u8]); 5] = [
    ("all", &[1, 2, 3, 4]),
    ("even", &[2, 4]),
    ("high", &[3, 4]),
    ("last", &[4]),
    ("ends", &[1, 4]),
];

/// Thirty changes of what is listed, drawn by lot: each is told to those who see it, once, and to
/// nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_told_to_those_who_see_it() {
    let mut policy = "permit (principal, action, resource);\n".to_owned();
    for (name, addresses) in AUDIENCES {
        let is = |last: &u8| format!("principal.address == ip(\"127.0.0.{last}\")");
        let is: Vec<_> = addresses.iter().map(is).collect();
        policy += &format!(
            "forbid (principal, action, resource in Upstream::\"{name}\") unless {{ principal has \
             address && ({}) }};\n",
            is.join(" || ")
        );
    }
    let fakes = AUDIENCES.map(|(name, _)| fake::http().tool(name));
    let plan = AUDIENCES.iter().zip(&fakes);
    let plan = plan.fold(gateway(), |plan, ((name, _), fake)| plan.upstream(name, fake));
    let gate = plan.policy(&policy).start().await;
    for fake in &fakes {
        eventually("the gate listens", || (0 < fake.listeners()).then_some(())).await;
    }
    let mut callers = Vec::new();
    for last in 1..=4_u8 {
        let client = from(&gate, last).modern();
        let sees = AUDIENCES.iter().filter(|(_, addresses)| addresses.contains(&last)).count();
        assert_eq!(client.tools().await.len(), sees, "127.0.0.{last}");
        let stream = client.listen().await;
        callers.push((last, client, stream));
    }
    let mut numbers = 7_u64;
    for step in 0..=30 {
        numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // The last one is for all, so that nobody has anything to hear of after it.
        let at = if step == 30 { 0 } else { usize::try_from(numbers >> 33).unwrap() % fakes.len() };
        let (name, addresses) = AUDIENCES[at];
        let tool = json!({ "name": format!("{name}-{step}"), "inputSchema": {} });
        fakes[at].relists(&[tool]);
        for (last, client, stream) in &mut callers {
            if !addresses.contains(last) {
                continue;
            }
            let told = soon(&format!("{last} to be told in step {step}"), stream.next()).await;
            let method = told.unwrap().method;
            assert_eq!(method.as_deref(), Some("notifications/tools/list_changed"));
            let tools = client.tools().await;
            assert!(tools.contains(&format!("{name}-{step}")), "{last} in step {step}: {tools:?}");
        }
    }
    // What was told too often came before the last change, and would be here by now.
    for (last, _, stream) in &mut callers {
        let more = tokio::time::timeout(std::time::Duration::from_millis(50), stream.next()).await;
        assert!(more.is_err(), "127.0.0.{last} was told of something else");
    }
}
