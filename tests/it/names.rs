//! A name leads to one place: whose it is, what filters know it by, and what is told of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    client::Client,
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, gateway, section},
    log, soon,
};

/// A kind of entries, and how it is listed and used.
#[derive(Debug, Clone, Copy)]
struct Kind {
    key: &'static str,
    list: &'static str,
    member: &'static str,
    name: &'static str,
    method: &'static str,
}

const TOOLS: Kind =
    Kind { key: "tools", list: "tools/list", member: "tools", name: "name", method: "tools/call" };
const PROMPTS: Kind = Kind {
    key: "prompts",
    list: "prompts/list",
    member: "prompts",
    name: "name",
    method: "prompts/get",
};
const RESOURCES: Kind = Kind {
    key: "resources",
    list: "resources/list",
    member: "resources",
    name: "uri",
    method: "resources/read",
};

impl Kind {
    fn fake(self, names: &[&str]) -> Fake {
        names.iter().fold(fake::http(), |fake, name| match self.key {
            "tools" => fake.tool(name),
            "prompts" => fake.prompt(name),
            _ => fake.resource(name),
        })
    }

    async fn shown(self, client: &Client) -> Vec<String> {
        client.names(self.list, self.member, self.name).await
    }

    async fn uses(self, client: &Client, name: &str) -> bool {
        client.ask(self.method, json!({ self.name: name })).await.error.is_none()
    }

    /// The names that reached an upstream.
    fn reached(self, fake: &Fake) -> Vec<Value> {
        let seen = fake.seen(self.method).into_iter();
        seen.map(|seen| seen.message().params()[self.name].clone()).collect()
    }
}

/// What a filter says of an entry that clients know by another name than its server does.
#[tokio::test]
async fn a_routes_filter_sees_the_names_that_clients_see() {
    // Keys of the route, keys of upstream `b`, and the name to be used; whether it may be.
    let tools = [
        ("rename = { danger = \"wipe\" }, deny = [\"wipe\"]", "", "wipe", false),
        ("rename = { danger = \"wipe\" }, deny = [\"danger\"]", "", "wipe", false),
        ("rename = { danger = \"wipe\" }, deny = [\"w*\"]", "", "wipe", false),
        ("rename = { danger = \"wipe\" }, deny = [\"other\"]", "", "wipe", true),
        ("rename = { danger = \"wipe\" }, allow = [\"wipe\"]", "", "wipe", true),
        ("rename = { danger = \"wipe\" }, allow = [\"danger\"]", "", "wipe", false),
        ("rename = { danger = \"wipe\" }, allow = [\"*\"], deny = [\"wi*\"]", "", "wipe", false),
        ("deny = [\"wipe\"]", "rename = { danger = \"wipe\" }", "wipe", false),
        ("deny = [\"danger\"]", "rename = { danger = \"wipe\" }", "wipe", false),
        ("allow = [\"wipe\"]", "rename = { danger = \"wipe\" }", "wipe", true),
        ("deny = [\"b__log\"]", "", "b__log", false),
        ("deny = [\"b__*\"]", "", "b__log", false),
        ("deny = [\"log\"]", "", "b__log", true),
        ("allow = [\"b__log\"]", "", "b__log", true),
        ("rename = { b__log = \"history\" }, deny = [\"history\"]", "", "history", false),
        ("rename = { b__log = \"history\" }, deny = [\"b__log\"]", "", "history", false),
        ("rename = { b__log = \"history\" }, deny = [\"log\"]", "", "history", false),
    ];
    let rows = tools.iter().map(|row| (TOOLS, *row));
    let rows: Vec<_> = rows.chain(tools.iter().map(|row| (PROMPTS, *row))).collect();
    for (kind, (route, own, name, may)) in rows {
        let (a, b) = (kind.fake(&["log"]), kind.fake(&["log", "danger"]));
        let own = format!("{} = {{ {own} }}", kind.key);
        let plan = gateway().upstream("a", &a).upstream_with("b", &b, &own);
        let keys = format!("upstreams = [\"a\", \"b\"]\n{} = {{ {route} }}", kind.key);
        let gate = plan.route("/mcp", &keys).start().await;
        let client = gate.modern();
        let shown = kind.shown(&client).await;
        assert_eq!(shown.contains(&name.to_owned()), may, "{kind:?} {route} {own}: {shown:?}");
        assert_eq!(kind.uses(&client, name).await, may, "{kind:?} {route} {own}");
        assert_eq!(!kind.reached(&b).is_empty(), may, "{kind:?} {route} {own}");
    }
}

/// A resource that is denied by one of its names is reached by none.
#[tokio::test]
async fn a_resource_that_is_denied_is_read_under_no_name() {
    for (route, names) in [
        ("rename = { \"mem://a\" = \"doc://a\" }, deny = [\"doc://*\"]", ["mem://a", "doc://a"]),
        ("rename = { \"mem://a\" = \"doc://a\" }, deny = [\"mem://a\"]", ["mem://a", "doc://a"]),
        ("deny = [\"mem://a\"]", ["mem://a", "MEM://a"]),
        ("deny = [\"b+mem://*\"]", ["b+mem://x", "B+mem://x"]),
        ("deny = [\"b+*\"]", ["b+mem://x", "b+mem://z"]),
    ] {
        let a = RESOURCES.fake(&["mem://x", "mem://a"]);
        let b = RESOURCES.fake(&["mem://x"]);
        let plan = gateway().upstream("a", &a).upstream("b", &b);
        let keys = format!("upstreams = [\"a\", \"b\"]\nresources = {{ {route} }}");
        let gate = plan.route("/mcp", &keys).start().await;
        let client = gate.modern();
        for name in names {
            assert!(!RESOURCES.uses(&client, name).await, "{route}: {name} is read");
        }
        assert!(RESOURCES.reached(&a).is_empty() && RESOURCES.reached(&b).is_empty(), "{route}");
    }
}

/// `evil` lists what entries of `b` are called, or would be; every name of `b` leads to `b`, and
/// both can still be used.
#[tokio::test]
async fn nobody_takes_a_name_that_begins_like_anothers() {
    for (kind, own, evils) in [
        (TOOLS, "pay", &["pay", "b__pay"][..]),
        (TOOLS, "pay", &["B__pay", "pay", "b__pay"]),
        (TOOLS, "pay", &["b..pay", "b  pay", "pay"]),
        (TOOLS, "pay", &["evil__b__pay", "b__pay", "pay"]),
        (PROMPTS, "pay", &["pay", "b__pay"]),
        (RESOURCES, "mem://x", &["mem://x", "b+mem://x"]),
        (RESOURCES, "mem://x", &["b+mem://x", "B+mem://x", "mem://x"]),
    ] {
        for names in ["auto", "always", "never"] {
            let (evil, b) = (kind.fake(evils), kind.fake(&[own]));
            let plan = gateway().upstream("evil", &evil).upstream("b", &b);
            let keys = format!("upstreams = [\"evil\", \"b\"]\nnames = \"{names}\"");
            let gate = plan.route("/mcp", &keys).start().await;
            let client = gate.modern();
            let shown = kind.shown(&client).await;
            let whole = evils.len() + usize::from(names != "never" || !evils.contains(&own));
            assert_eq!(shown.len(), whole, "nothing is lost under {names}: {shown:?}");
            let prefix = if kind.key == "resources" { "b+" } else { "b__" };
            for name in &shown {
                let begun = kind.reached(&b).len();
                assert!(kind.uses(&client, name).await, "{name}");
                let is_b = name.to_lowercase().starts_with(prefix);
                let to_b = begun < kind.reached(&b).len();
                assert!(!is_b || to_b, "`{name}` looks like b's and is not, under {names}");
            }
            assert_eq!(kind.reached(&evil).len(), evils.len());
        }
    }
}

#[tokio::test]
async fn of_two_nested_names_of_upstreams_each_has_its_own_tools() {
    for names in ["auto", "always"] {
        let (outer, inner) = (TOOLS.fake(&["y__pay", "pay"]), TOOLS.fake(&["pay", "other"]));
        let plan = gateway().upstream("x", &outer).upstream("x__y", &inner);
        let keys = format!("upstreams = [\"x\", \"x__y\"]\nnames = \"{names}\"");
        let gate = plan.route("/mcp", &keys).start().await;
        let client = gate.modern();
        let shown = client.tools().await;
        assert_eq!(shown.len(), 4, "{shown:?}");
        for name in &shown {
            let begun = TOOLS.reached(&inner).len();
            assert!(TOOLS.uses(&client, name).await, "{name}");
            let is_inner = begun < TOOLS.reached(&inner).len();
            assert!(!name.starts_with("x__y__") || is_inner, "{name} under {names}");
        }
        assert_eq!(TOOLS.reached(&inner).len(), 2);
    }
}

/// A URI that is on no list and says whose it is, leads there or nowhere.
#[tokio::test]
async fn an_unlisted_uri_with_a_prefix_leads_to_its_upstream() {
    let evil = RESOURCES.fake(&["b+mem://x"]).template("b+mem://{id}").template("{+any}");
    let b = RESOURCES.fake(&["mem://x"]);
    let gate = gateway().upstream("evil", &evil).upstream("b", &b).start().await;
    let client = gate.modern();
    for uri in ["b+mem://x", "b+mem://secret", "B+mem://secret"] {
        RESOURCES.uses(&client, uri).await;
        assert!(RESOURCES.reached(&evil).is_empty(), "{uri} reached the other");
    }
    assert_eq!(
        RESOURCES.reached(&b),
        [json!("mem://x"), json!("mem://secret"), json!("mem://secret")]
    );
}

/// An upstream's answer to every call says who it is.
fn says(name: &str) -> Act {
    Act::Result(format!(r#"{{"content":[{{"type":"text","text":"{name}"}}]}}"#))
}

fn upstream(name: &str, tools: &[&str]) -> Fake {
    let fake = TOOLS.fake(tools);
    for tool in POOL.iter().chain(tools) {
        fake.becomes(tool, says(name));
    }
    fake
}

/// Who answers a call; none where nobody does.
async fn answers(client: &Client, tool: &str) -> Option<String> {
    let message = client.ask("tools/call", json!({ "name": tool, "arguments": {} })).await;
    let result = message.result.is_some().then(|| message.result())?;
    if result["isError"] == true {
        return None;
    }
    result["content"][0]["text"].as_str().map(str::to_owned)
}

async fn lists(client: &Client, tool: &str) {
    let wait = async {
        while !client.tools().await.contains(&tool.to_owned()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(&format!("`{tool}` to be listed"), wait).await;
}

fn is_ready(gate: &Gate, name: &str) -> bool {
    let report = gate.app().viewer().report();
    report.upstreams.iter().any(|one| one.name == name && one.state.word() == "ready")
}

const QUICK: &str = "timeout = { open = \"1s\" }";

#[tokio::test]
async fn who_was_served_first_keeps_the_name() {
    let (a, b) = (upstream("a", &["write_it"]), upstream("b", &["write_it"]));
    a.goes_down();
    let plan = gateway().upstream_with("a", &a, QUICK).upstream_with("b", &b, QUICK);
    let mut gate = plan.start().await;
    let client = gate.modern();
    assert_eq!(client.tools().await, ["write_it"]);
    assert_eq!(answers(&client, "write_it").await.unwrap(), "b");
    a.comes_back();
    lists(&client, "a__write_it").await;
    assert_eq!(client.tools().await, ["a__write_it", "write_it"]);
    for _ in 0..2 {
        let client = gate.modern();
        assert_eq!(answers(&client, "write_it").await.unwrap(), "b");
        assert_eq!(answers(&client, "a__write_it").await.unwrap(), "a");
        b.goes_down();
        assert_eq!(answers(&client, "write_it").await, None, "nobody answers in its place");
        gate.restarts().await;
        let client = gate.modern();
        assert_eq!(answers(&client, "write_it").await, None);
        b.comes_back();
        let back = async { while answers(&client, "write_it").await.is_none() {} };
        soon("b to be back", back).await;
    }
    assert!(TOOLS.reached(&a).len() == 2, "what was for b never reached a");
    let other = gate.app().viewer().report().routes[0].other_names[0].clone();
    assert_eq!((&*other.name, &*other.upstream, &*other.own), ("a__write_it", "a", "write_it"));
}

#[tokio::test]
async fn until_anything_is_served_the_order_of_the_route_counts() {
    let (a, b) = (upstream("a", &["write_it"]), upstream("b", &["write_it"]));
    a.goes_down();
    let plan = gateway().upstream_with("a", &a, QUICK).upstream_with("b", &b, QUICK);
    let gate = plan.start().await;
    a.comes_back();
    eventually("a is ready", || is_ready(&gate, "a").then_some(())).await;
    let client = gate.modern();
    lists(&client, "b__write_it").await;
    assert_eq!(answers(&client, "write_it").await.unwrap(), "a");
}

/// Entries whose names are taken or belong to another are told once, each with its upstream, and
/// counted; so is what the route leaves out.
#[tokio::test]
async fn what_has_another_name_or_none_is_told_once() {
    log::is_kept();
    let server = |more: &[&str]| {
        let tools =
            more.iter().chain(&["log", "diff"]).fold(fake::http(), |it, tool| it.tool(tool));
        let prompts = ["ask", "say"].iter().fold(tools, |it, prompt| it.prompt(prompt));
        prompts.resource("mem://x")
    };
    let (a, b) = (server(&["x_y", "told-b__pay"]), server(&["x.y", "pay", "told-a__log"]));
    let both = "upstreams = [\"told-a\", \"told-b\"]";
    let plan = gateway().upstream("told-a", &a).upstream("told-b", &b);
    let plan = plan.route("/told", both);
    let mut gate = plan.route("/untold", &format!("{both}\nnames = \"never\"")).start().await;
    let client = gate.at("/told").modern();
    let shown = client.tools().await;
    assert_eq!(shown.len(), 9, "{shown:?}");
    let counted = |gate: &Gate, name: &str| gate.app().viewer().report().counters[name];
    let told = |route: &str| log::lines(&[&format!("route=\"{route}\"")]);
    let routes = gate.app().viewer().report().routes;
    let others = &routes.iter().find(|route| route.path == "/told").unwrap().other_names;
    for own in ["log", "diff", "ask", "say", "mem://x", "x.y", "told-b__pay", "told-a__log"] {
        assert!(others.iter().any(|one| &*one.own == own), "{own}: {others:?}");
    }
    let lines = told("/told");
    for one in others {
        let words = [
            format!("upstream=\"{}\"", one.upstream),
            format!("own=\"{}\"", one.own),
            format!("shown=\"{}\"", one.name),
        ];
        let has = |line: &&String| words.iter().all(|word| line.contains(word));
        assert_eq!(lines.iter().filter(has).count(), 1, "{words:?}: {lines:#?}");
    }
    let left_out = told("/untold").into_iter().filter(|line| line.contains("left out"));
    let left_out: Vec<_> = left_out.collect();
    for own in ["log", "diff", "ask", "say"] {
        assert!(left_out.iter().any(|line| line.contains(&format!("`{own}`"))), "{left_out:#?}");
    }
    assert_eq!(counted(&gate, "names_left_out"), left_out.len() as u64);
    let before = lines.len() + left_out.len();
    assert_eq!(lines.len(), others.len());
    let changed = told("/untold").len() - left_out.len() + others.len();
    assert_eq!(counted(&gate, "names_changed"), changed as u64);
    // Neither a list that is read again nor a restart has anything new to say of names.
    a.add_tool("later");
    lists(&client, "later").await;
    gate.restarts().await;
    assert_eq!(gate.at("/told").modern().tools().await.len(), 10);
    let now = told("/told");
    let named = now.iter().filter(|line| line.contains("shown=")).count();
    assert_eq!((named, counted(&gate, "names_changed")), (lines.len(), 0), "{before}: {now:#?}");
}

#[tokio::test]
async fn a_name_that_nobody_listed_for_long_may_go_to_another() {
    log::is_kept();
    let (a, b) = (upstream("a", &["old", "more"]), upstream("b", &["own"]));
    b.becomes("old", says("b"));
    let plan = gateway().server("limits.names_kept = \"1s\"");
    let gate = plan.upstream("a", &a).upstream("b", &b).start().await;
    let client = gate.modern();
    assert_eq!(answers(&client, "old").await.unwrap(), "a");
    for fake in [&a, &b] {
        eventually("the gate listens", || (0 < fake.listeners()).then_some(())).await;
    }
    let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
    a.relists(&[tool("more")]);
    let gone = async { while client.tools().await != ["more", "own"] {} };
    soon("a lists it no more", gone).await;
    b.relists(&[tool("old")]);
    lists(&client, "b__old").await;
    let counted = |name: &str| gate.app().viewer().report().counters[name];
    // Each list that is read is a moment in which it is looked.
    let lapsed = async {
        let mut at = 0;
        while counted("names_lapsed") == 0 {
            at += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut more = tool("more");
            more["description"] = json!(format!("the {at}th"));
            a.relists(&[more]);
        }
    };
    soon("the name lapses", lapsed).await;
    assert_eq!(answers(&client, "b__old").await.unwrap(), "b", "what it had it keeps");
    assert_eq!(answers(&client, "old").await, None);
    b.relists(&[tool("old"), tool("b_new")]);
    lists(&client, "b_new").await;
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let mut stream = client.start("subscriptions/listen", wanted).await;
    let first = stream.next().await.unwrap();
    assert_eq!(first.method.as_deref(), Some("notifications/subscriptions/acknowledged"));
    let c = upstream("c", &["old"]);
    gate.edit(|toml| {
        let toml = toml.replace("[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]");
        toml + &section("c", &c.section())
    });
    lists(&client, "old").await;
    assert_eq!(answers(&client, "old").await.unwrap(), "c");
    assert_eq!(counted("names_moved"), 1);
    let changed = soon("clients to be told", stream.next()).await.unwrap();
    assert_eq!(changed.method.as_deref(), Some("notifications/tools/list_changed"));
    let moved = ["route=\"/mcp\"", "name=\"old\"", "`old` of `a`", "`old` of `c`"];
    assert_eq!(log::lines(&moved).len(), 1);
}

/// The names of tools that the state folder knows of.
fn recorded(gate: &Gate) -> BTreeSet<String> {
    let file = gate.folder.path().join("state/names.jsonl");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["name"].as_str().map(str::to_owned)).collect()
}

/// What tools may be called.
const POOL: [&str; 8] = ["read", "write", "b__read", "x.y", "x_y", "x y", "a__write", "c__x_y"];

/// Upstreams that come, go, fail, list other tools and leave the route, and gates that restart:
/// whatever happens, a name that was once on a list leads to one upstream, or to none.
#[tokio::test]
async fn a_name_leads_to_one_place_whatever_happens() {
    for seed in 1..=5_u64 {
        let mut numbers = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut roll = move |sides: usize| {
            numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(numbers >> 33).unwrap() % sides
        };
        let fakes = ["a", "b", "c"].map(|name| upstream(name, &[]));
        let tools = |roll: &mut dyn FnMut(usize) -> usize| -> Vec<Value> {
            let kept = POOL.iter().filter(|_| roll(2) == 0);
            kept.map(|name| json!({ "name": name, "inputSchema": { "type": "object" } })).collect()
        };
        for fake in &fakes {
            fake.relists(&tools(&mut roll));
            if roll(3) == 0 {
                fake.goes_down();
            }
        }
        let names = ["auto", "always"][roll(4) / 3];
        let plan = ["a", "b", "c"]
            .iter()
            .zip(&fakes)
            .fold(gateway(), |plan, (name, fake)| plan.upstream_with(name, fake, QUICK));
        let route = format!("upstreams = [\"a\", \"b\", \"c\"]\nnames = \"{names}\"");
        let mut gate = plan.route("/mcp", &route).start().await;
        let mut leads = BTreeMap::<String, String>::new();
        for step in 0..12 {
            let fake = &fakes[roll(3)];
            match roll(7) {
                0 => fake.goes_down(),
                1 | 2 => fake.comes_back(),
                3 => gate.restarts().await,
                4 => gate.edit(|toml| match toml.contains("[\"a\", \"b\", \"c\"]") {
                    true => toml.replace("[\"a\", \"b\", \"c\"]", "[\"b\", \"c\"]"),
                    false => toml.replace("[\"b\", \"c\"]", "[\"a\", \"b\", \"c\"]"),
                }),
                _ => fake.relists(&tools(&mut roll)),
            }
            let client = gate.modern();
            let listed = client.tools().await;
            // Recorded first, then served.
            let recorded = recorded(&gate);
            let unknown: Vec<_> = listed.iter().filter(|name| !recorded.contains(*name)).collect();
            assert!(unknown.is_empty(), "{unknown:?} in step {step} of seed {seed}");
            let known: BTreeSet<_> = listed.iter().chain(leads.keys()).cloned().collect();
            for name in known {
                let Some(answered) = answers(&client, &name).await else { continue };
                let first = leads.entry(name.clone()).or_insert_with(|| answered.clone());
                assert_eq!(*first, answered, "`{name}` in step {step} of seed {seed}");
            }
        }
        assert!(3 < leads.len(), "something was served: {leads:?}");
    }
}
