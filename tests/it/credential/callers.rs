//! Callers' tokens on their way to servers: exchanged, or passed on, and never another's.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::{Tokens, secret};
use crate::{
    auth::{Issuer, Signer, changed},
    client::Client,
    fake::{self, Fake, Seen},
    gate::{Gate, Plan, gateway},
};

const CALLERS: [&str; 3] = ["ada", "bob", "eve"];

struct People {
    signer: Signer,
    issuer: Issuer,
}

impl People {
    async fn start() -> Self {
        let signer = Signer::elliptic("e1");
        let issuer = Issuer::start(&[&signer]).await;
        Self { signer, issuer }
    }

    fn token(&self, who: &str) -> String {
        self.signer.sign(&changed(&self.issuer.claims(), "sub", json!(who)))
    }

    /// A gate whose route wants their tokens.
    fn gate(&self, upstreams: &str) -> Plan {
        gateway()
            .server("public_url = \"https://gate.example.com\"")
            .route("/mcp", &format!("upstreams = {upstreams}\nauth = [\"corp\"]"))
            .extra(&self.issuer.section())
    }
}

fn exchange(tokens: &Tokens, secret: &str) -> String {
    let section = tokens.section().replace("file:secret", &format!("file:{secret}"));
    section.replace("client_credentials", "token_exchange")
}

async fn call(client: &Client, who: &str) -> Value {
    let params = json!({ "name": "log", "arguments": { "who": who } });
    client.ask("tools/call", params).await.result()
}

/// Each caller's clients of both eras, all at once, several times.
async fn all_call(gate: &Gate, tokens: &HashMap<&str, String>) {
    let each = CALLERS.map(async |who| {
        let known = gate.with_token(&tokens[who]);
        let legacy = known.legacy("2025-11-25").await;
        let modern = known.modern();
        for _ in 0..3 {
            for client in [&modern, &legacy] {
                let result = call(client, who).await;
                assert_eq!(result["content"][0]["text"], "log ran", "{who}: {result}");
            }
        }
    });
    futures_util::future::join_all(each).await;
}

fn bearer(seen: &Seen) -> String {
    let value = seen.headers.get("authorization");
    value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Who a call says it is of.
fn who(seen: &Seen) -> String {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    body["params"]["arguments"]["who"].as_str().unwrap().to_owned()
}

fn servers() -> [Fake; 3] {
    [fake::http(), fake::legacy("2025-11-25"), fake::sse("2024-11-05")].map(|it| it.tool("log"))
}

#[tokio::test]
async fn each_caller_has_a_token_of_its_own_there() {
    let (people, (_kept, secret)) = (People::start().await, secret());
    for git in servers() {
        let tokens = Tokens::start(3_600).await;
        let plan = people.gate("[\"git\"]").upstream("git", &git);
        let gate = plan.extra(&exchange(&tokens, &secret)).start().await;
        let held: HashMap<_, _> = CALLERS.map(|who| (who, people.token(who))).into();
        all_call(&gate, &held).await;
        let asked = tokens.asked();
        let of = |subject: &str| {
            let exchanged = asked.iter().enumerate();
            let found = exchanged.filter(|(_, one)| {
                one.form.get("subject_token").is_some_and(|token| token == subject)
            });
            let found: Vec<_> = found.map(|(at, _)| format!("Bearer t{}", at + 1)).collect();
            assert_eq!(found.len(), 1, "exchanged once");
            found[0].clone()
        };
        let own: HashMap<_, _> = CALLERS.map(|who| (who.to_owned(), of(&held[who]))).into();
        let calls = git.seen("tools/call");
        assert_eq!(calls.len(), 18);
        for seen in &calls {
            assert_eq!(bearer(seen), own[&who(seen)], "in another's name");
        }
        // No session there is two callers', whatever is said in it.
        let mut sessions = HashMap::<_, BTreeSet<String>>::new();
        for seen in git.all().iter().filter(|seen| seen.headers.contains_key("mcp-session-id")) {
            let id = seen.headers["mcp-session-id"].to_str().unwrap().to_owned();
            sessions.entry(id).or_default().insert(bearer(seen));
        }
        assert!(sessions.values().all(|names| names.len() == 1), "{sessions:?}");
        // The gate itself is nobody's.
        let listed = git.seen("tools/list");
        let names: BTreeSet<_> = own.values().cloned().collect();
        assert!(
            listed.iter().any(|seen| !names.contains(&bearer(seen)) && !bearer(seen).is_empty())
        );
        let form = &asked.iter().find(|one| one.form.contains_key("subject_token")).unwrap().form;
        assert_eq!(
            form["grant_type"].replace("%3A", ":"),
            "urn:ietf:params:oauth:grant-type:token-exchange"
        );
        for seen in git.all() {
            let text = format!("{:?} {:?}", seen.headers, seen.body);
            assert!(
                held.values().all(|token| !text.contains(token)),
                "the token itself went there"
            );
        }
    }
}

/// One caller, of whom the server is shown a token for each tenant.
#[tokio::test]
async fn two_tenants_of_one_caller_never_share_a_session() {
    let (people, (_kept, secret)) = (People::start().await, secret());
    let tenants = ["one", "two", "three"].map(|tenant| {
        let claims = changed(&people.issuer.claims(), "sub", json!("ada"));
        people.signer.sign(&changed(&claims, "tenant", json!(tenant)))
    });
    let tokens = Tokens::start(3_600).await;
    let pass = "[upstreams.git.credential]\nkind = \"pass\"\n".to_owned();
    for credential in [exchange(&tokens, &secret), pass] {
        let git = fake::legacy("2025-11-25").tool("log");
        let plan = people.gate("[\"git\"]").upstream("git", &git);
        let gate = plan.extra(&credential).start().await;
        let calls = tenants.iter().chain(&tenants).enumerate().map(async |(at, token)| {
            let client = gate.with_token(token).modern();
            let who = (at % tenants.len()).to_string();
            assert_eq!(call(&client, &who).await["content"][0]["text"], "log ran");
        });
        futures_util::future::join_all(calls).await;
        let mut sessions = HashMap::<_, BTreeSet<_>>::new();
        for seen in git.seen("tools/call") {
            let id = seen.header("mcp-session-id").to_owned();
            sessions.entry(id).or_default().insert((who(&seen), bearer(&seen)));
        }
        assert_eq!(sessions.len(), 3, "calls of one tenant share theirs: {sessions:?}");
        assert!(sessions.values().all(|whose| whose.len() == 1), "{sessions:?}");
    }
}

#[tokio::test]
async fn an_exchanged_token_that_is_refused_is_exchanged_anew() {
    let (people, tokens) = (People::start().await, Tokens::start(3_600).await);
    let (_kept, secret) = secret();
    let git = fake::http().tool("log");
    let plan = people.gate("[\"git\"]").upstream("git", &git);
    let gate = plan.extra(&exchange(&tokens, &secret)).start().await;
    assert_eq!(tokens.asked().len(), 1, "the gate's own");
    git.wants_token("t3");
    let client = gate.with_token(&people.token("ada")).modern();
    assert_eq!(call(&client, "ada").await["content"][0]["text"], "log ran");
    assert_eq!(tokens.asked().len(), 3);
    git.wants_token("none that is given");
    assert_eq!(call(&client, "ada").await["isError"], true);
    assert!(tokens.asked().len() <= 4, "not for ever");
}

#[tokio::test]
async fn without_an_exchange_nothing_is_sent() {
    let (people, tokens) = (People::start().await, Tokens::start(3_600).await);
    let (_kept, secret) = secret();
    let (git, db) = (fake::http().tool("log"), fake::http().tool("query"));
    let plan = people.gate("[\"git\", \"db\"]").upstream("git", &git).upstream("db", &db);
    let gate = plan.extra(&exchange(&tokens, &secret)).start().await;
    *tokens.state.refuses.lock() = true;
    let client = gate.with_token(&people.token("ada")).modern();
    let result = call(&client, "ada").await;
    assert_eq!(result["isError"], true, "{result}");
    assert!(git.seen("tools/call").is_empty());
    assert_eq!(client.call("query").await["content"][0]["text"], "query ran");
}

#[tokio::test]
async fn a_token_is_passed_on_to_the_one_server_that_is_to_have_it() {
    let people = People::start().await;
    for git in servers() {
        let db = fake::http().tool("query");
        let keys = "headers = { Authorization = \"Bearer the gate itself\" }\n\
                    credential = { kind = \"pass\" }";
        let plan = people.gate("[\"git\", \"db\"]").upstream_with("git", &git, keys);
        let gate = plan.upstream("db", &db).start().await;
        let held: HashMap<_, _> = CALLERS.map(|who| (who, people.token(who))).into();
        all_call(&gate, &held).await;
        for who in CALLERS {
            let client = gate.with_token(&held[who]).modern();
            assert_eq!(client.call("query").await["content"][0]["text"], "query ran");
        }
        for seen in git.seen("tools/call") {
            assert_eq!(bearer(&seen), format!("Bearer {}", held[&*who(&seen)]));
        }
        let listed = git.seen("tools/list");
        assert!(listed.iter().any(|seen| bearer(seen) == "Bearer the gate itself"));
        assert!(db.all().iter().all(|seen| bearer(seen).is_empty()), "it is for one server");
    }
}

/// A client's own name for what goes on is of use behind the gate; its cookies are not.
#[tokio::test]
async fn headers_that_are_listed_are_sent_on_and_no_others() {
    for git in [fake::http(), fake::legacy("2025-11-25")] {
        let (git, db) = (git.tool("log"), fake::http().tool("query"));
        let keys = "forward_headers = [\"X-Tenant\", \"x-trace\"]";
        let plan = gateway().upstream_with("git", &git, keys).upstream("db", &db);
        let gate = plan.start().await;
        for client in [gate.modern(), gate.legacy("2025-11-25").await] {
            for tool in ["log", "query"] {
                let request =
                    client.request("tools/call", json!({ "name": tool, "arguments": {} }));
                let more = [("x-tenant", "acme"), ("cookie", "a=b"), ("x-other", "1")];
                assert_eq!(client.post_with(&request, &more).await.status, 200);
            }
        }
        let calls = git.seen("tools/call");
        assert_eq!(calls.len(), 2);
        for seen in calls {
            assert_eq!(seen.headers["x-tenant"], "acme");
            for name in ["cookie", "x-other", "x-trace"] {
                assert!(!seen.headers.contains_key(name), "{name}");
            }
        }
        assert!(db.all().iter().all(|seen| !seen.headers.contains_key("x-tenant")));
    }
}
