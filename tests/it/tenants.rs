//! Requests of one caller or several that a server tells apart by forwarded headers or by tokens:
//! no answer, no session and no list of one is ever another's.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    auth::{Issuer, Signer, changed},
    client::{Client, Endpoint},
    credential::{Tokens, secret},
    eventually,
    fake::{self, Act, Fake},
    gate::gateway,
};

/// Each method, what is asked with it, and where the text of its answer is.
const METHODS: [(&str, &str, &str); 4] = [
    ("tools/call", r#"{"name":"get","arguments":{}}"#, "/content/0/text"),
    ("resources/read", r#"{"uri":"mem://one"}"#, "/contents/0/text"),
    ("prompts/get", r#"{"name":"p"}"#, "/messages/0/content/text"),
    (
        "completion/complete",
        r#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"topic","value":""}}"#,
        "/completion/values/0",
    ),
];

const KEPT: [&str; 3] = [
    "",
    "tools.get.cache = { ttl = \"10m\" }\n",
    "tools.get.cache = { ttl = \"10m\", stale = \"1m\", on_error = \"1h\", public = true, \
     keys = [] }\n",
];

/// One who is told apart: by the values of `x-tenant`, or by a token.
struct Tenant {
    endpoint: Endpoint,
    values: Vec<&'static str>,
    /// What the server sees.
    who: String,
}

/// A server that answers whom it is shown.
fn echo(server: Fake, scope: &str) -> Fake {
    let tool = json!({
        "name": "get",
        "inputSchema": { "type": "object" },
        "annotations": { "readOnlyHint": true },
    });
    let server = server.completions().tool_with(tool).prompt("p").resource("mem://one");
    for (name, result) in [
        ("get", json!({ "content": [{ "type": "text", "text": "WHO" }] })),
        ("p", {
            let content = json!({ "type": "text", "text": "WHO" });
            json!({ "messages": [{ "role": "user", "content": content }] })
        }),
        ("completion/complete", json!({ "completion": { "values": ["WHO"] } })),
        (
            "mem://one",
            json!({
                "contents": [{ "uri": "mem://one", "text": "WHO" }],
                "ttlMs": 60_000,
                "cacheScope": scope,
            }),
        ),
    ] {
        server.becomes(name, Act::Echo(result.to_string()));
    }
    server
}

async fn answered(client: &Client, tenant: &Tenant, method: (&str, &str, &str)) {
    let (name, params, text) = method;
    let params: Value = serde_json::from_str(params).unwrap();
    let request = client.request(name, params);
    let sent: Vec<_> = tenant.values.iter().map(|value| ("x-tenant", *value)).collect();
    let result = client.post_with(&request, &sent).await.message().await.result();
    let said = result.pointer(text).and_then(Value::as_str);
    assert_eq!(said, Some(&*tenant.who), "{name}: {result}");
}

/// All of them at once, then one after the other: with clients of both eras.
async fn nobody_has_anothers(server: &Fake, tenants: &[Tenant]) {
    each_has_its_own(server, tenants).await;
    // What all are listed was read in nobody's name.
    for list in ["tools/list", "prompts/list", "resources/list"] {
        for seen in server.seen(list) {
            assert!(!seen.headers.contains_key("x-tenant"), "{list}");
            assert!(!seen.headers.contains_key("authorization"), "{list}");
        }
    }
}

async fn each_has_its_own(server: &Fake, tenants: &[Tenant]) {
    let mut clients = Vec::new();
    for tenant in tenants {
        clients.push((tenant, tenant.endpoint.modern()));
        clients.push((tenant, tenant.endpoint.legacy("2025-11-25").await));
    }
    for method in METHODS {
        let twice = clients.iter().chain(&clients);
        join_all(twice.map(|(tenant, client)| answered(client, tenant, method))).await;
        for (tenant, client) in clients.iter().chain(&clients) {
            answered(client, tenant, method).await;
        }
    }
    let mut sessions: HashMap<String, BTreeSet<String>> = HashMap::new();
    let seen = METHODS.iter().flat_map(|(method, ..)| server.seen(method));
    for seen in seen.filter(|seen| seen.headers.contains_key("mcp-session-id")) {
        let id = seen.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let shown = ["x-tenant", "authorization"].map(|name| {
            let values = seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>().join("|")
        });
        sessions.entry(id).or_default().insert(shown.join(" "));
    }
    assert!(sessions.values().all(|whose| whose.len() == 1), "{sessions:?}");
}

fn servers() -> [Fake; 3] {
    [fake::http(), fake::legacy("2025-11-25"), fake::dual()]
}

/// Every combination: three servers, what is kept, and whom the server calls its answers for.
fn table() -> impl Iterator<Item = (Fake, &'static str)> {
    KEPT.into_iter().flat_map(|kept| {
        ["private", "public"].into_iter().flat_map(move |scope| {
            servers().into_iter().map(move |server| (echo(server, scope), kept))
        })
    })
}

#[tokio::test]
async fn tenants_by_a_forwarded_header_are_kept_apart() {
    let rows = table().map(async |(server, kept)| {
        let keys = format!("forward_headers = [\"X-Tenant\"]\n{kept}");
        let gate = gateway().upstream_with("a", &server, &keys).start().await;
        // Present, absent, empty, several, and several that look like one.
        let values: [&[&str]; 7] =
            [&[], &["t1"], &["t2"], &[""], &["t1", "t2"], &["t1, t2"], &["t2", "t1"]];
        let tenants = values.map(|values| Tenant {
            endpoint: (*gate).clone(),
            values: values.to_vec(),
            who: format!("{} ", values.join("|")),
        });
        nobody_has_anothers(&server, &tenants).await;
    });
    join_all(rows).await;
}

#[tokio::test]
async fn tenants_by_token_are_kept_apart_also_under_one_name() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let rows = table().map(async |(server, kept)| {
        let keys = format!("credential = {{ kind = \"pass\" }}\n{kept}");
        let gate = gateway()
            .server("public_url = \"https://gate.example.com\"")
            .route("/mcp", "upstreams = [\"a\"]\nauth = [\"corp\"]")
            .extra(&issuer.section())
            .upstream_with("a", &server, &keys)
            .start()
            .await;
        // One caller for two tenants, one tenant's token renewed, and another caller.
        let claims =
            [("ada", "one", "1"), ("ada", "two", "2"), ("ada", "two", "3"), ("bob", "one", "4")];
        let tenants = claims.map(|(who, tenant, id)| {
            let claims = changed(&issuer.claims(), "sub", json!(who));
            let claims = changed(&claims, "tenant", json!(tenant));
            let token = signer.sign(&changed(&claims, "jti", json!(id)));
            let endpoint = gate.with_token(&token);
            Tenant { endpoint, values: Vec::new(), who: format!(" Bearer {token}") }
        });
        nobody_has_anothers(&server, &tenants).await;
    });
    join_all(rows).await;
}

/// The keys of a credential that these tokens are for.
fn credential(kind: &str, tokens: &Tokens, client: &str, secret: &str) -> String {
    format!(
        "credential = {{ kind = \"{kind}\", token_url = \"{}/token\", client_id = \"{client}\", \
         client_secret = \"file:{secret}\" }}\n",
        tokens.url
    )
}

#[tokio::test]
async fn tenants_by_an_exchanged_token_are_kept_apart_also_under_one_name() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let (_folder, secret) = secret();
    let rows = table().map(async |(server, kept)| {
        let tokens = Tokens::start(3_600).await;
        let keys = credential("token_exchange", &tokens, "gate", &secret) + kept;
        let gate = gateway()
            .server("public_url = \"https://gate.example.com\"")
            .route("/mcp", "upstreams = [\"a\"]\nauth = [\"corp\"]")
            .extra(&issuer.section())
            .upstream_with("a", &server, &keys)
            .start()
            .await;
        let claims =
            [("ada", "one", "1"), ("ada", "two", "2"), ("ada", "two", "3"), ("bob", "one", "4")];
        let held = claims.map(|(who, tenant, id)| {
            let claims = changed(&issuer.claims(), "sub", json!(who));
            let claims = changed(&claims, "tenant", json!(tenant));
            signer.sign(&changed(&claims, "jti", json!(id)))
        });
        // The first call of each has its token exchanged.
        for token in &held {
            let got = gate.with_token(token).modern().call("get").await;
            assert!(got.get("isError").is_none(), "{got}");
        }
        let asked = tokens.asked();
        let tenants = held.map(|token| {
            let is_its = |form: &HashMap<String, String>| form.get("subject_token") == Some(&token);
            let at = asked.iter().position(|one| is_its(&one.form)).unwrap();
            let endpoint = gate.with_token(&token);
            Tenant { endpoint, values: Vec::new(), who: format!(" Bearer t{}", at + 1) }
        });
        each_has_its_own(&server, &tenants).await;
    });
    join_all(rows).await;
}

/// Whatever the server is shown of the gate is another after an edit: what it answered before is
/// nobody's any more. What the edit leaves as it was is kept.
#[tokio::test]
async fn what_was_answered_to_another_credential_is_forgotten() {
    let tokens = [Tokens::start(3_600).await, Tokens::start(3_600).await];
    let ((_one, first), (_two, second)) = (secret(), secret());
    std::fs::write(&second, "another\n").unwrap();
    let with =
        |client: &str, secret: &str| credential("client_credentials", &tokens[0], client, secret);
    let more = |keys: &str| with("gate", &first).replace(" }\n", &format!(", {keys} }}\n"));
    let header = |headers: &str| format!("headers = {{ {headers} }}\n");
    let rows = [
        (header("x-tenant = \"a\""), header("x-tenant = \"b\"")),
        (header("authorization = \"Bearer a\""), header("authorization = \"Bearer b\"")),
        (header("x-key = \"a\""), header("x-key = \"b\"")),
        (header("x-key = \"a\", x-tenant = \"a\""), header("x-key = \"a\"")),
        (String::new(), header("x-tenant = \"a\"")),
        (header("authorization = \"Bearer a\""), String::new()),
        (with("gate", &first), with("another", &first)),
        (with("gate", &first), with("gate", &second)),
        (with("gate", &first), String::new()),
        (String::new(), with("gate", &first)),
        (with("gate", &first), header("authorization = \"Bearer a\"")),
        (more("scopes = [\"a\"]"), more("scopes = [\"a\", \"b\"]")),
        (more("audience = \"a\""), more("audience = \"b\"")),
        (with("gate", &first), credential("client_credentials", &tokens[1], "gate", &first)),
        // Not changed.
        (with("gate", &first), with("gate", &first)),
        (header("x-tenant = \"a\""), header("x-tenant = \"a\"")),
    ];
    let servers: Vec<_> = rows.iter().map(|_| echo(fake::http(), "private")).collect();
    let mark = |at: usize, keys: &str| format!("# keys {at}\n{keys}# end {at}\n");
    let plan =
        servers.iter().zip(&rows).enumerate().fold(gateway(), |plan, (at, (server, row))| {
            let keys = format!("{}{}", mark(at, &row.0), KEPT[1]);
            let plan = plan.upstream_with(&format!("u{at}"), server, &keys);
            plan.route(&format!("/{at}"), &format!("upstreams = [\"u{at}\"]"))
        });
    let gate = plan.start().await;
    let calls = |at: usize| servers[at].seen("tools/call").len();
    let get = async |at: usize| {
        let result = gate.at(&format!("/{at}")).modern().call("get").await;
        result["content"][0]["text"].as_str().unwrap().to_owned()
    };
    let mut before = Vec::new();
    for at in 0..rows.len() {
        before.push(get(at).await);
        assert_eq!(get(at).await, before[at]);
        assert_eq!(calls(at), 1, "row {at}: it is kept");
    }
    let reloads = || gate.app().viewer().report().counters["reloads"];
    let earlier = reloads();
    gate.edit(|toml| {
        let all = rows.iter().enumerate();
        all.fold(toml, |toml, (at, row)| toml.replace(&mark(at, &row.0), &mark(at, &row.1)))
    });
    eventually("the edit is applied", || (earlier < reloads()).then_some(())).await;
    for (at, row) in rows.iter().enumerate() {
        let is_same = row.0 == row.1;
        let now = get(at).await;
        assert_eq!(get(at).await, now);
        assert_eq!(calls(at), if is_same { 1 } else { 2 }, "row {at}: {row:?}");
        // The server says nothing of `x-key`.
        let is_shown = !row.1.contains("x-key = \"b\"");
        assert_eq!(now == before[at], is_same || !is_shown, "row {at}: {now}");
    }
}

#[tokio::test]
async fn callers_are_kept_apart_with_a_header_that_all_share() {
    for (server, kept) in [(fake::http(), KEPT[0]), (fake::http(), KEPT[1])] {
        let server = echo(server, "private");
        let keys = format!("forward_headers = [\"x-tenant\"]\n{kept}");
        let gate = gateway().upstream_with("a", &server, &keys).start().await;
        for last in [1, 2] {
            let endpoint = Endpoint { from: [127, 0, 0, last].into(), ..(*gate).clone() };
            let tenant = Tenant { endpoint, values: vec!["t"], who: "t ".to_owned() };
            let client = tenant.endpoint.modern();
            for method in &METHODS[..2] {
                answered(&client, &tenant, *method).await;
                answered(&client, &tenant, *method).await;
            }
        }
        // Each caller's own is kept: the server was asked once for each.
        assert_eq!(server.seen("resources/read").len(), 2);
    }
}
