//! Clients without a session at a legacy server over HTTP: who can be told apart never shares a
//! session there, so that what the server keeps for a session it keeps for one caller alone.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use crate::{
    client::{Client, Endpoint},
    eventually,
    fake::{self, Fake},
    gate::{Gate, gateway},
};

/// One client, as far as it can be told from others.
#[derive(Clone)]
struct Who {
    address: u8,
    tenant: &'static [&'static str],
    capabilities: Value,
    /// What tells nobody apart.
    trace: &'static str,
}

impl Who {
    fn at(address: u8) -> Self {
        Self { address, tenant: &[], capabilities: json!({}), trace: "00-1" }
    }

    fn of(self, tenant: &'static [&'static str]) -> Self {
        Self { tenant, ..self }
    }

    fn with(self, capabilities: &Value) -> Self {
        Self { capabilities: capabilities.clone(), ..self }
    }

    /// What must not be the same for two that share a session.
    fn identity(&self) -> String {
        format!("{} {:?} {}", self.address, self.tenant, self.capabilities)
    }

    fn client(&self, gate: &Gate) -> Client {
        let endpoint = Endpoint { from: [127, 0, 0, self.address].into(), ..(**gate).clone() };
        endpoint.client(fake::MODERN, self.capabilities.clone())
    }

    async fn call(&self, gate: &Gate, tool: &str) -> Value {
        let client = self.client(gate);
        let arguments = json!({ "who": self.identity() });
        let request = client.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        let mut headers = vec![("traceparent", self.trace)];
        headers.extend(self.tenant.iter().map(|tenant| ("x-tenant", *tenant)));
        client.post_with(&request, &headers).await.message().await.result()
    }

    async fn calls(&self, gate: &Gate) {
        let result = self.call(gate, "log").await;
        assert_eq!(result["content"][0]["text"], "log ran", "{}: {result}", self.identity());
    }
}

/// The sessions in which tools were called, and who called in each.
fn sessions(server: &Fake) -> BTreeMap<String, BTreeSet<String>> {
    let mut sessions = BTreeMap::<_, BTreeSet<String>>::new();
    for seen in server.seen("tools/call") {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let who = body["params"]["arguments"]["who"].as_str().unwrap().to_owned();
        sessions.entry(seen.header("mcp-session-id").to_owned()).or_default().insert(who);
    }
    sessions
}

/// The sessions among those in which tools were called that the server was told to end.
fn ended(server: &Fake) -> BTreeSet<String> {
    let all = server.all();
    let ends = all.iter().filter(|seen| seen.verb == Method::DELETE);
    let ended: BTreeSet<_> = ends.map(|seen| seen.header("mcp-session-id").to_owned()).collect();
    sessions(server).into_keys().filter(|session| ended.contains(session)).collect()
}

fn counter(gate: &Gate, name: &str) -> u64 {
    gate.app().viewer().report().counters[name]
}

/// Every combination of what tells clients apart.
fn everybody() -> Vec<Who> {
    let capabilities =
        [json!({}), json!({ "experimental": { "x": {} } }), json!({ "elicitation": {} })];
    let tenants: [&[&str]; 5] = [&[], &["a"], &["b"], &["a", "b"], &[""]];
    let mut all = Vec::new();
    for address in 1..=2 {
        for tenant in tenants {
            for capabilities in &capabilities {
                for trace in ["00-1", "00-2"] {
                    let who = Who::at(address).of(tenant).with(capabilities);
                    all.push(Who { trace, ..who });
                }
            }
        }
    }
    all
}

#[tokio::test]
async fn who_can_be_told_apart_never_shares_a_session() {
    let server = fake::legacy("2025-06-18").tool("log");
    let keys = "forward_headers = [\"x-tenant\", \"traceparent\"]";
    let gate = gateway().upstream_with("a", &server, keys).start().await;
    let everybody = everybody();
    join_all(everybody.iter().map(|who| who.calls(&gate))).await;
    for who in &everybody {
        who.calls(&gate).await;
    }
    let sessions = sessions(&server);
    for (session, who) in &sessions {
        assert_eq!(who.len(), 1, "{session}: {who:?}");
    }
    let gates_own = server.seen("tools/list")[0].header("mcp-session-id").to_owned();
    assert!(!sessions.contains_key(&gates_own), "what the gate asked for itself");
    let identities: BTreeSet<_> = everybody.iter().map(Who::identity).collect();
    for identity in identities {
        let own = sessions.values().filter(|who| who.contains(&identity)).count();
        // A client that can be asked has a session for each call at once.
        let may = if identity.contains("elicitation") { 1..=4 } else { 1..=1 };
        assert!(may.contains(&own), "{identity} has {own} sessions");
    }
}

#[tokio::test]
async fn with_isolation_shared_all_share_but_those_that_the_server_is_shown() {
    let server = fake::legacy("2025-06-18").tool("log");
    let keys = "forward_headers = [\"x-tenant\"]\nisolation = \"shared\"";
    let gate = gateway().upstream_with("a", &server, keys).start().await;
    let who = [Who::at(1), Who::at(2), Who::at(1).of(&["a"]), Who::at(2).of(&["a"])];
    for who in who.iter().chain(&who) {
        who.calls(&gate).await;
    }
    let mut shared: Vec<_> = sessions(&server).into_values().map(|who| who.len()).collect();
    shared.sort_unstable();
    assert_eq!(shared, [1, 1, 2]);
}

#[tokio::test]
async fn a_server_without_sessions_is_opened_once_for_all() {
    let server = fake::legacy("2025-06-18").tool("log").stateless();
    let gate = gateway().upstream_with("a", &server, "forward_headers = [\"x-tenant\"]");
    let gate = gate.start().await;
    let before = server.seen("initialize").len();
    for address in 1..=3 {
        Who::at(address).calls(&gate).await;
    }
    assert_eq!(server.seen("initialize").len(), before);
    // What the server is shown may be what it keeps something for.
    Who::at(1).of(&["a"]).calls(&gate).await;
    assert_eq!(server.seen("initialize").len(), before + 1);
}

#[tokio::test]
async fn the_sixty_fifth_takes_the_place_of_the_one_unused_for_longest() {
    let server = fake::legacy("2025-06-18").tool("log").tool("slow");
    server.becomes("slow", fake::Act::Hang);
    let gate = gateway().upstream("a", &server).start().await;
    let busy = Who::at(200).client(&gate);
    let request = json!({ "name": "slow", "arguments": { "who": "busy" } });
    let slow = tokio::spawn(async move { busy.ask("tools/call", request).await });
    server.receives("tools/call").await;
    let call = async |address: u8| Who::at(address).calls(&gate).await;
    join_all((1..=63).map(call)).await;
    assert_eq!(counter(&gate, "caller_sessions_evicted"), 0);
    // The second is the one unused for longest then, but for the one with a call under way.
    join_all((1..=63).filter(|address| *address != 2).map(call)).await;
    let opened = server.seen("initialize").len();
    call(64).await;
    assert_eq!(counter(&gate, "caller_sessions_evicted"), 1);
    eventually("the server is told", || (ended(&server).len() == 1).then_some(())).await;
    join_all([1, 3, 63, 64].map(call)).await;
    assert_eq!(server.seen("initialize").len(), opened + 1, "theirs are there");
    call(2).await;
    assert_eq!(server.seen("initialize").len(), opened + 2, "its was the one");
    assert_eq!(counter(&gate, "caller_sessions_opened"), 66);
    assert!(sessions(&server).values().all(|who| who.len() == 1));
    let under_way = server
        .seen("tools/call")
        .into_iter()
        .find(|seen| seen.message().params()["name"] == "slow");
    let under_way = under_way.unwrap();
    assert!(!under_way.abandoned());
    assert!(!ended(&server).contains(under_way.header("mcp-session-id")));
    slow.abort();
}

#[tokio::test]
async fn where_all_have_calls_under_way_the_next_waits_and_is_told_the_key() {
    let server = fake::legacy("2025-06-18").tool("log").tool("slow");
    server.becomes("slow", fake::Act::Hang);
    let keys = "caller_sessions_max = 1\ntimeout.open = \"700ms\"";
    let gate = gateway().upstream_with("a", &server, keys).start().await;
    let first = Who::at(1);
    let slow = first.call(&gate, "slow");
    tokio::pin!(slow);
    tokio::select! {
        _ = &mut slow => panic!("it hangs"),
        _ = server.receives("tools/call") => (),
    }
    let refused = async {
        // Its own calls need no other session.
        first.calls(&gate).await;
        let refused = Who::at(2).call(&gate, "log").await;
        assert_eq!(refused["isError"], true, "{refused}");
    };
    tokio::select! {
        _ = &mut slow => panic!("it hangs"),
        () = refused => (),
    }
    assert_eq!(counter(&gate, "caller_sessions_waited"), 1);
    let report = gate.app().viewer().report();
    let upstream = report.upstreams.iter().find(|one| one.name == "a").unwrap();
    let why = upstream.last_error.clone().unwrap();
    assert!(why.contains("`caller_sessions_max`"), "{why}");
}

#[tokio::test]
async fn a_session_that_nobody_uses_is_closed() {
    let server = fake::legacy("2025-06-18").tool("log");
    let keys = "caller_sessions_idle = \"1s\"";
    let gate = gateway().upstream_with("a", &server, keys).start().await;
    Who::at(1).calls(&gate).await;
    let own = server.seen("tools/call")[0].header("mcp-session-id").to_owned();
    eventually("its session is ended", || ended(&server).contains(&own).then_some(())).await;
    Who::at(1).calls(&gate).await;
    assert_eq!(counter(&gate, "caller_sessions_opened"), 2);
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_opened_anew() {
    let server = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("a", &server).start().await;
    for _ in 0..3 {
        join_all([1, 2].map(async |address| Who::at(address).calls(&gate).await)).await;
        server.forgets_sessions();
    }
    assert!(sessions(&server).values().all(|who| who.len() == 1));
}

/// Some servers keep a session for a few calls, or seconds, only. They are well all the same: with
/// a pause between restarts of an hour, the first such end would be the last answer.
#[tokio::test]
async fn sessions_that_end_soon_are_no_trouble_of_their_server() {
    let restart = "restart = { delay = \"1h\", delay_max = \"1h\" }";
    for calls_in_each in [1, 2, 3, 5, 8] {
        for of_legacy in [false, true] {
            let server = fake::legacy("2025-06-18").tool("log");
            let gate = gateway().upstream_with("a", &server, restart).start().await;
            let client = if of_legacy { gate.legacy("2025-06-18").await } else { gate.modern() };
            let case = format!("{calls_in_each} calls a session, legacy client: {of_legacy}");
            for _ in 0..4 {
                for _ in 0..calls_in_each {
                    let result = client.call("log").await;
                    assert_eq!(result["content"][0]["text"], "log ran", "{case}: {result}");
                }
                server.forgets_sessions();
            }
            let upstream = gate.app().viewer().report().upstreams[0].clone();
            assert_eq!(upstream.restarts, 0, "{case}");
            assert_eq!(upstream.last_error, None, "{case}");
        }
    }
}

/// The lists that all see are read on the gate's own session. Each caller's has a stream, too: some
/// servers answer there, or say there that a call changed their lists.
#[tokio::test]
async fn changed_lists_are_heard_and_each_caller_has_a_stream() {
    let server = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("a", &server).start().await;
    let listeners = server.listeners();
    for address in 1..=4 {
        Who::at(address).calls(&gate).await;
    }
    assert_eq!(server.listeners(), listeners + 4, "some servers answer there");
    server.add_tool("new");
    let client = Who::at(1).client(&gate);
    crate::soon("the new tool", async {
        while !client.tools().await.contains(&"new".to_owned()) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}
