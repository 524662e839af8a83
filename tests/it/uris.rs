//! Resources by their URIs: no spelling goes around a policy or a filter, and what is on no list is
//! read only by those who were given it.

use serde_json::{Value, json};

use crate::{
    client::{Client, Endpoint},
    fake::{self, Fake},
    gate::{Gate, gateway},
};

/// A secret, and other spellings by which some server reaches it. Beside some of them is what the
/// `fileURLToPath` or the `URL` of Node 20 makes of them.
const SPELLINGS: [(&str, &[&str]); 3] = [
    (
        "file:///srv/private/secret.txt",
        &[
            "file:/srv/private/secret.txt",              // /srv/private/secret.txt
            "file:srv/private/secret.txt",               // /srv/private/secret.txt
            "FILE:///srv/private/secret.txt",            // /srv/private/secret.txt
            "file://localhost/srv/private/secret.txt",   // /srv/private/secret.txt
            "file://LOCALHOST/srv/private/secret.txt",   // /srv/private/secret.txt
            "file://%6cocalhost/srv/private/secret.txt", // /srv/private/secret.txt
            "file://localhost./srv/private/secret.txt",  // refused
            "file://127.0.0.1/srv/private/secret.txt",   // refused; `pathname` is the path
            "file://elsewhere/srv/private/secret.txt",   // refused; `pathname` is the path
            "file:////srv/private/secret.txt",           // //srv/private/secret.txt
            "file://///srv/private/secret.txt",          // ///srv/private/secret.txt
            "file:///srv//private/secret.txt",           // /srv//private/secret.txt
            "file:///srv/private//secret.txt",           // /srv/private//secret.txt
            "file:///srv/private/secret.txt/",           // with a slash at its end
            "file:///srv/private/secret.txt?",           // /srv/private/secret.txt
            "file:///srv/private/secret.txt?x",          // /srv/private/secret.txt
            "file:///srv/private/secret.txt?x#y",        // /srv/private/secret.txt
            "file:///srv/private/secret.txt#y",          // /srv/private/secret.txt
            "file:///srv%2Fprivate%2Fsecret.txt",        // refused
            "file:///srv%2fprivate/secret.txt",          // refused
            "file:///srv%5Cprivate%5Csecret.txt",        // a name with `\` in it
            "file:\\\\\\srv\\private\\secret.txt",       // /srv/private/secret.txt
            "file:///srv/private/%73ecret.txt",          // /srv/private/secret.txt
            "file:///srv/private/%2573ecret.txt",        // a name with `%73` in it
            "file:///srv/private/secret%2Etxt",          // /srv/private/secret.txt
            "file:///srv/./private/secret.txt",          // /srv/private/secret.txt
            "file:///srv/x/../private/secret.txt",       // /srv/private/secret.txt
            "file:///srv/x/%2e%2e/private/secret.txt",   // /srv/private/secret.txt
            "file:///srv/x/.%2E/private/secret.txt",     // /srv/private/secret.txt
            "file:///srv/x//..//private/secret.txt",     // /srv/x//private/secret.txt
            "file:///srv/private/sec\tret.txt",          // /srv/private/secret.txt
            " file:///srv/private/secret.txt",           // /srv/private/secret.txt
            "file:///srv/private/secret.txt%00",         // ends there for programs in C
            "file://@/srv/private/secret.txt",           // refused
        ],
    ),
    (
        "http://h.example/private/secret",
        &[
            "http://h.example:80/private/secret",
            "http://h.example:080/private/secret",
            "http://h.example:/private/secret",
            "http://h.example./private/secret",
            "http://H.EXAMPLE/private/secret",
            "HTTP://h.example/private/secret",
            "http://x@h.example/private/secret",
            "http://x:y@h.example/private/secret",
            "http://@h.example/private/secret",
            "http://h.example//private/secret",
            "http://h.example/private//secret",
            "http://h.example/private/secret/",
            "http://h.example/private/secret?",
            "http://h.example/private/secret?x=1",
            "http://h.example/private%2Fsecret",
            "http://h.example/x/..%2Fprivate/secret",
            "http:/h.example/private/secret",
            "http:h.example/private/secret",
            "http:///h.example/private/secret",
            "http:\\\\h.example\\private\\secret",
            "http://%68.example/private/secret",
            "http://h.example/private/secret#x",
        ],
    ),
    (
        "mem://vault/private/secret",
        &[
            "MEM://vault/private/secret",
            "mem://VAULT/private/secret",
            "mem://vault./private/secret",
            "mem://vault:/private/secret",
            "mem://x@vault/private/secret",
            "mem://@vault/private/secret",
            "mem://vault//private/secret",
            "mem://vault/private/secret/",
            "mem://vault/private/secret?x",
            "mem://vault/private%2fsecret",
            "mem://vault/private%252fsecret",
            "mem://vault%2Fprivate/secret",
            "mem://vault/x/../private/secret",
            "mem://vault/x%2F..%2Fprivate/secret",
            "mem://vault/private/secret%3Fx",
            "mem://vault/private/%73ecret",
        ],
    ),
];

/// A server that has the secrets, and something else of each scheme.
fn server() -> Fake {
    let server = SPELLINGS.iter().fold(fake::http(), |fake, (secret, _)| fake.resource(secret));
    let server = server.resource("file:///srv/public.txt").resource("http://h.example/public");
    server.resource("mem://vault/public").tool("find")
}

/// Gates that keep a secret by each kind of rule, with what the rule is.
async fn gates(secret: &str) -> Vec<(&'static str, Fake, Gate)> {
    let folder = format!("{}*", secret.strip_suffix(secret.rsplit('/').next().unwrap()).unwrap());
    let is_it = format!("resource == Resource::\"up/{secret}\"");
    let all = "permit(principal, action, resource)";
    let (mut gates, route) = (Vec::new(), "upstreams = [\"up\"]\nunlisted = \"allow\"");
    let judged = format!("{route}\npolicy = [\"policies/base.cedar\"]");
    for (rule, policy) in [
        ("forbid", format!("{all};\nforbid(principal, action, {is_it});")),
        ("unless", format!("{all} unless {{ {is_it} }};")),
        (
            "like",
            format!(
                "{all};\nforbid(principal, action, resource)
                when {{ resource.name like \"{folder}\" }};"
            ),
        ),
    ] {
        let server = server();
        let plan = gateway().upstream("up", &server).route("/mcp", &judged).policy(&policy);
        gates.push((rule, server, plan.start().await));
    }
    for (rule, pattern) in [("deny", secret), ("deny by pattern", &folder)] {
        let server = server();
        let keys = format!("{route}\nresources = {{ deny = [\"{pattern}\"] }}");
        let gate = gateway().upstream("up", &server).route("/mcp", &keys).start().await;
        gates.push((rule, server, gate));
    }
    let up = server();
    let keys = format!("resources = {{ deny = [\"{secret}\"] }}");
    let plan = gateway().upstream_with("up", &up, &keys).route("/mcp", route);
    gates.push(("deny of the upstream", up, plan.start().await));
    gates
}

async fn read(client: &Client, uri: &str) -> Result<Value, Value> {
    let answer = client.ask("resources/read", json!({ "uri": uri })).await;
    if answer.error.is_some() { Err(answer.error()) } else { Ok(answer.result()) }
}

#[tokio::test]
async fn no_spelling_goes_around_a_policy_or_a_filter() {
    for (secret, spellings) in SPELLINGS {
        for (rule, server, gate) in gates(secret).await {
            let client = gate.legacy("2025-06-18").await;
            for spelling in [&secret].into_iter().chain(spellings) {
                let refused = read(&client, spelling).await;
                let refused = refused.expect_err(&format!("{rule}: {spelling} was read"));
                assert_eq!(refused["message"], "Resource not found", "{rule}: {spelling}");
            }
            assert_eq!(server.seen("resources/read").len(), 0, "{rule}");
            for public in
                ["file:///srv/public.txt", "http://h.example/public", "mem://vault/public"]
            {
                read(&client, public).await.expect(public);
            }
            // On no list, and nobody's secret.
            read(&client, "mem://vault/other").await.unwrap_err();
            assert_eq!(server.seen("resources/read").len(), 4, "{rule}");
        }
    }
}

#[tokio::test]
async fn only_the_normal_form_of_what_is_not_listed_is_sent() {
    let policy = "permit(principal, action, resource);";
    let up = fake::http().template("mem://{+path}").resource("note://a/my note");
    let gate = gateway().upstream("up", &up).policy(policy).start().await;
    for client in [gate.modern(), gate.legacy("2025-06-18").await] {
        for uri in ["mem://a/B%20c", "mem://Alice", "mem://a/x%2Cy", "note://a/my note"] {
            read(&client, uri).await.expect(uri);
        }
        for uri in ["mem://a/%62", "MEM://a", "mem://a/./b", "mem://a#b", "mem://a/b c"] {
            read(&client, uri).await.expect_err(uri);
        }
    }
    assert_eq!(up.seen("resources/read").len(), 8);
}

#[tokio::test]
async fn what_is_listed_in_another_spelling_is_judged_in_its_normal_form_too() {
    let rules = [
        ("forbid(principal, action, resource == Resource::\"up/file:///srv/x\");", false),
        (
            "forbid(principal, action, resource) when { resource.name like \"file:///srv/*\" };",
            false,
        ),
        ("forbid(principal, action, resource == Resource::\"up/file:/srv/x\");", false),
        ("forbid(principal, action, resource == Resource::\"up/file:///srv/y\");", true),
    ];
    for (forbid, seen) in rules {
        let up = fake::http().resource("file:/srv/x").resource("mem://a");
        let policy = format!("permit(principal, action, resource);\n{forbid}");
        let gate = gateway().upstream("up", &up).policy(&policy).start().await;
        let client = gate.modern();
        let listed = client.names("resources/list", "resources", "uri").await;
        assert_eq!(listed.contains(&"file:/srv/x".to_owned()), seen, "{forbid}");
        assert_eq!(read(&client, "file:/srv/x").await.is_ok(), seen, "{forbid}");
    }
    // What a policy writes as the server lists it is permitted by that.
    let up = fake::http().resource("https://h.example");
    let policy = "permit(principal, action, resource == Resource::\"up/https://h.example\");";
    let gate = gateway().upstream("up", &up).policy(policy).start().await;
    read(&gate.modern(), "https://h.example").await.unwrap();
    // Filters, too.
    for (keys, seen) in [
        ("resources = { deny = [\"file:///srv/*\"] }", false),
        ("resources = { deny = [\"file:/srv/*\"] }", false),
        ("resources = { allow = [\"file:///srv/*\"] }", true),
        ("resources = { allow = [\"file:/srv/*\"] }", true),
        ("resources = { allow = [\"file:///other/*\"] }", false),
    ] {
        for listed in ["file:///srv/x", "file:/srv/x", "file://localhost/srv/x"] {
            // Patterns of `allow` are held against both spellings.
            if keys.contains("allow = [\"file:/") && listed.contains("localhost") {
                continue;
            }
            let up = fake::http().resource(listed);
            let route = format!("upstreams = [\"up\"]\n{keys}");
            let gate = gateway().upstream("up", &up).route("/mcp", &route).start().await;
            let denied = keys.contains("deny");
            if denied || listed == "file:///srv/x" {
                let read = read(&gate.modern(), listed).await.is_ok();
                assert_eq!(read, seen, "{keys} on {listed}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_on_no_list_is_read_by_those_who_were_given_it() {
    let answer = json!({ "content": [
        { "type": "resource_link", "uri": "mem://found/1", "name": "one" },
        { "type": "resource", "resource": { "uri": "MEM://found/2", "text": "two" } },
        { "type": "resource_link", "uri": "mem://secret/3", "name": "three" },
    ] });
    let policies = [
        "permit(principal, action, resource);
        forbid(principal, action, resource) when { resource.name like \"mem://secret/*\" };",
        "",
    ];
    for policy in policies {
        for up in [fake::http(), fake::legacy("2025-06-18")] {
            let up = up.resource("mem://listed").tool("find").answer(&answer.to_string());
            let plan = gateway().upstream("up", &up);
            let plan = match policy {
                "" => plan.route(
                    "/mcp",
                    "upstreams = [\"up\"]\nresources = { deny = [\"mem://secret/*\"] }",
                ),
                policy => plan.policy(policy),
            };
            let gate = plan.start().await;
            for client in [gate.modern(), gate.legacy("2025-06-18").await] {
                let sent = up.seen("resources/read").len();
                read(&client, "mem://found/9").await.unwrap_err();
                read(&client, "MEM://found/1").await.unwrap_err();
                assert_eq!(up.seen("resources/read").len(), sent, "what nobody was given");
                client.call("find").await;
                for uri in ["mem://found/1", "MEM://found/2"] {
                    read(&client, uri).await.unwrap_err();
                }
                assert_eq!(up.seen("resources/read").len(), sent + 2, "the server decides");
                for uri in ["mem://secret/3", "MEM://found/1", "mem://found/9"] {
                    read(&client, uri).await.unwrap_err();
                }
                assert_eq!(up.seen("resources/read").len(), sent + 2);
            }
            let elsewhere = Endpoint { from: [127, 0, 0, 2].into(), ..(*gate).clone() };
            let sent = up.seen("resources/read").len();
            read(&elsewhere.modern(), "mem://found/1").await.unwrap_err();
            assert_eq!(up.seen("resources/read").len(), sent, "another caller was given nothing");
        }
    }
}

#[tokio::test]
async fn what_is_on_no_list_is_read_where_nothing_knows_resources_by_name() {
    let in_upstream = "permit(principal, action, resource in Upstream::\"up\");";
    for (policy, keys) in [
        ("", ""),
        ("permit(principal, action, resource);", ""),
        (in_upstream, ""),
        (
            "permit(principal, action, resource is Tool) when { resource.name like \"a*\" };
            permit(principal, action, resource is Resource);",
            "",
        ),
        ("", "resources = { hide = [\"mem://*\"] }"),
        ("", "unlisted = \"allow\"\nresources = { deny = [\"mem://secret\"] }"),
    ] {
        let up = fake::http().resource("mem://listed");
        let judged = if policy.is_empty() { "" } else { "policy = [\"policies/base.cedar\"]" };
        let route = format!("upstreams = [\"up\"]\n{keys}\n{judged}");
        let gate = gateway().upstream("up", &up).route("/mcp", &route).policy(policy).start().await;
        read(&gate.modern(), "mem://other").await.unwrap_err();
        assert_eq!(up.seen("resources/read").len(), 1, "{policy} {keys}");
    }
}

#[tokio::test]
async fn another_spelling_leads_to_the_server_that_lists_it() {
    let (a, b) = (fake::http().resource("mem://a"), fake::http().resource("mem://b"));
    let gate = gateway().upstream("a", &a).upstream("b", &b).start().await;
    for uri in ["mem://b#x", "MEM://b", "mem://%62", "mem://b/", "mem://B"] {
        read(&gate.modern(), uri).await.ok();
    }
    assert_eq!((a.seen("resources/read").len(), b.seen("resources/read").len()), (0, 5));
}
