//! The shipped example of three services behind one gate, and what its tables promise: which results
//! are kept by what, what each failure reads as, when a breaker opens, whose token goes where.

use serde_json::{Value, json};

use crate::{
    auth::{Issuer, Signer},
    client::{Client, Endpoint},
    credential::Tokens,
    fake::{self, Act, Fake},
    gate::{self, Gate},
};

const EXAMPLE: &str = include_str!("../../docs/examples/careers.toml");
const SERVICES: [(&str, &str); 3] = [
    ("CX_APPLICATIONS_URL", "applications:read"),
    ("JOB_SYNC_URL", "jobs:read"),
    ("TALENT_PROFILE_URL", "profiles:read"),
];

/// All of it, running.
struct Careers {
    gate: Gate,
    /// In the order of [`SERVICES`].
    services: [Fake; 3],
    tokens: Tokens,
    issuer: Issuer,
    signer: Signer,
    _secret: tempfile::TempDir,
}

fn reads(name: &str) -> Value {
    let hints = json!({ "readOnlyHint": true });
    json!({ "name": name, "inputSchema": { "type": "object" }, "annotations": hints })
}

fn service(tools: &[&str]) -> Fake {
    tools.iter().fold(fake::dual(), |fake, tool| fake.tool_with(reads(tool)))
}

impl Careers {
    async fn start() -> Self {
        let signer = Signer::elliptic("e1");
        let (issuer, tokens) = (Issuer::start(&[&signer]).await, Tokens::start(3_600).await);
        let of_applications = [
            "getApplicationStatus",
            "getApplicationTimeline",
            "getApplicationNextSteps",
            "getInterviewFeedback",
        ];
        let of_talent =
            ["getCandidateProfile", "getCandidatePreferences", "getCandidateAssessments"];
        let services = [
            service(&of_applications),
            service(&["getJobDetails"]),
            service(&of_talent).tool("updateCandidateProfile"),
        ];
        let (secret, path) = crate::credential::secret();
        let mut text = EXAMPLE.replace("${AUTH_ISSUER_URI}", &issuer.url);
        text = text.replace("${AUTH_TOKEN_URI}", &format!("{}/token", tokens.url));
        for ((variable, _), service) in SERVICES.iter().zip(&services) {
            let url = format!("http://{}/mcp", service.address());
            text = text.replace(&format!("${{{variable}}}"), &url);
        }
        for name in ["CX_APPS", "JOB_SYNC", "TALENT_PROFILE"] {
            text = text.replace(&format!("${{{name}_CLIENT_ID}}"), name);
            text = text.replace(&format!("env:{name}_CLIENT_SECRET"), &format!("file:{path}"));
        }
        assert!(!text.contains("${"), "{text}");
        // A silence of five seconds is waited for in no test, and two gates take one port each.
        text = text.replace("idle = \"5s\"", "idle = \"1s\"").replace(":9090", ":0");
        let gate = gate::of(&text).await;
        gate.settled().await;
        Self { gate, services, tokens, issuer, signer, _secret: secret }
    }

    /// Where callers with these scopes are served.
    fn endpoint(&self, subject: &str, scope: &str) -> Endpoint {
        let claims = self.issuer.claims();
        let mut claims = crate::auth::changed(&claims, "aud", json!("post-apply-mcp"));
        (claims["sub"], claims["scope"]) = (json!(subject), json!(scope));
        self.gate.with_token(&self.signer.sign(&claims))
    }

    fn client(&self) -> Client {
        self.endpoint("agent", "mcp:read").modern()
    }
}

async fn call(client: &Client, tool: &str, arguments: Value) -> Value {
    client.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await.result()
}

fn calls(service: &Fake) -> usize {
    service.seen("tools/call").len()
}

#[track_caller]
fn failed(result: &Value, error: &str, retriable: bool) {
    let said = &result["structuredContent"];
    assert_eq!((&said["error"], &said["retriable"]), (&json!(error), &json!(retriable)));
}

#[tokio::test]
async fn results_are_kept_by_the_arguments_of_the_table() {
    let careers = Careers::start().await;
    let client = careers.client();
    let asked = |tool: &str| {
        let all = careers.services.iter().flat_map(|service| service.seen("tools/call"));
        all.filter(|seen| seen.message().params()["name"] == tool).count()
    };
    let (both, other) = (json!({ "candidateId": "C1", "applicationId": "A1" }), "A2");
    for (tool, first, same, another) in [
        ("getJobDetails", json!({ "jobId": "J1" }), Some("note"), ("jobId", "J2")),
        (
            "getCandidateProfile",
            json!({ "candidateId": "C1" }),
            Some("note"),
            ("candidateId", "C2"),
        ),
        (
            "getCandidatePreferences",
            json!({ "candidateId": "C1" }),
            Some("note"),
            ("candidateId", "C2"),
        ),
        ("getCandidateAssessments", both.clone(), Some("note"), ("applicationId", other)),
        ("getApplicationStatus", both.clone(), None, ("applicationId", other)),
        ("getApplicationTimeline", both.clone(), None, ("applicationId", other)),
        ("getApplicationNextSteps", both.clone(), None, ("applicationId", other)),
        ("getInterviewFeedback", both.clone(), None, ("applicationId", other)),
    ] {
        call(&client, tool, first.clone()).await;
        call(&client, tool, first.clone()).await;
        let once = if same.is_some() { 1 } else { 2 };
        assert_eq!(asked(tool), once, "{tool}: the same twice");
        let mut more = first.clone();
        if let Some(note) = same {
            more[note] = json!("of no matter");
            call(&client, tool, more).await;
            assert_eq!(asked(tool), once, "{tool}: what is no key");
        }
        let mut differs = first;
        differs[another.0] = json!(another.1);
        call(&client, tool, differs).await;
        assert_eq!(asked(tool), once + 1, "{tool}: another key");
    }
    // Only jobs are everybody's.
    let someone_else = careers.endpoint("other-agent", "mcp:read").modern();
    call(&someone_else, "getJobDetails", json!({ "jobId": "J1" })).await;
    call(&someone_else, "getCandidateProfile", json!({ "candidateId": "C1" })).await;
    assert_eq!((asked("getJobDetails"), asked("getCandidateProfile")), (2, 3));
    call(&client, "updateCandidateProfile", json!({ "candidateId": "C1" })).await;
    call(&client, "getCandidateProfile", json!({ "candidateId": "C1" })).await;
    assert_eq!(asked("getCandidateProfile"), 4, "an update makes it outdated");
}

#[tokio::test]
async fn each_failure_reads_as_the_table_says() {
    let careers = Careers::start().await;
    let (client, [applications, _, talent]) = (careers.client(), &careers.services);
    let arguments = || json!({ "applicationId": "APP-99999" });

    // What is not found is the service's own to say, in its own words.
    let said = r#"{"content":[{"type":"text","text":"Application APP-99999 was not found."}],"structuredContent":{"error":"application_not_found","retriable":false},"isError":true}"#;
    applications.becomes("getApplicationStatus", Act::Result(said.to_owned()));
    let result = call(&client, "getApplicationStatus", arguments()).await;
    failed(&result, "application_not_found", false);

    // A caller without the scope is told by HTTP, before there is a call.
    let stranger = careers.endpoint("agent", "other").modern();
    let reply = stranger.start("tools/call", json!({ "name": "getJobDetails" })).await;
    assert_eq!(reply.status, 403);

    applications.becomes("getApplicationTimeline", Act::Hang);
    let result = call(&client, "getApplicationTimeline", arguments()).await;
    failed(&result, "service_timeout", true);

    // What no server should say. Of the model's words ours is `upstream_error`: it is no fault of
    // the gate's.
    applications.becomes("getInterviewFeedback", Act::Garbage);
    let result = call(&client, "getInterviewFeedback", arguments()).await;
    failed(&result, "upstream_error", false);

    talent.becomes("getCandidateProfile", Act::Status(503));
    for _ in 0..10 {
        let id = json!({ "candidateId": "C9" });
        failed(&call(&client, "getCandidateProfile", id).await, "service_unavailable", true);
    }
    let before = calls(talent);
    let result = call(&client, "getCandidatePreferences", json!({ "candidateId": "C9" })).await;
    failed(&result, "service_unavailable", true);
    let wait = result["structuredContent"]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=30_000).contains(&wait), "{wait}");
    assert_eq!(calls(talent), before, "its breaker is open");
}

#[tokio::test]
async fn a_breaker_opens_after_twenty_failures_and_the_other_services_go_on() {
    let careers = Careers::start().await;
    let (client, [applications, jobs, _]) = (careers.client(), &careers.services);
    applications.becomes("getApplicationStatus", Act::Status(503));
    for _ in 0..20 {
        call(&client, "getApplicationStatus", json!({})).await;
    }
    // A status is no matter of the network: it was sent once each time.
    assert_eq!(calls(applications), 20);
    let result = call(&client, "getApplicationStatus", json!({})).await;
    failed(&result, "service_unavailable", true);
    assert_eq!(calls(applications), 20, "the next call is refused at once");
    let report = careers.gate.app().viewer().report();
    let states: Vec<_> =
        report.upstreams.iter().map(|one| one.breaker.map(|at| at.word())).collect();
    assert_eq!(states, [Some("open"), Some("closed"), Some("closed")]);
    let result = call(&client, "getJobDetails", json!({ "jobId": "J1" })).await;
    assert_eq!(result["content"][0]["text"], "getJobDetails ran");
    assert_eq!(calls(jobs), 1);
}

#[tokio::test]
async fn what_the_network_loses_is_sent_three_times() {
    let careers = Careers::start().await;
    let (client, [applications, ..]) = (careers.client(), &careers.services);
    applications.becomes("getApplicationStatus", Act::ClosesMidway);
    let result = call(&client, "getApplicationStatus", json!({})).await;
    failed(&result, "service_unavailable", true);
    assert_eq!(calls(applications), 3);
}

#[tokio::test]
async fn each_service_is_sent_a_token_of_its_own() {
    let careers = Careers::start().await;
    let client = careers.client();
    for tool in ["getApplicationStatus", "getJobDetails", "getCandidateProfile"] {
        call(&client, tool, json!({ "jobId": "J1", "candidateId": "C1" })).await;
        call(&client, tool, json!({ "jobId": "J2", "candidateId": "C2" })).await;
    }
    let mut scopes: Vec<_> =
        careers.tokens.asked().into_iter().map(|asked| asked.form["scope"].clone()).collect();
    scopes.sort();
    let mut want: Vec<_> = SERVICES.iter().map(|(_, scope)| (*scope).to_owned()).collect();
    want.sort();
    assert_eq!(scopes, want, "each is fetched once");
    let own = careers.services.iter().map(|service| {
        let sent = service.seen("tools/call");
        assert!(sent.iter().all(|seen| seen.header("authorization").starts_with("Bearer t")));
        sent[0].header("authorization").to_owned()
    });
    let own: std::collections::BTreeSet<_> = own.collect();
    assert_eq!(own.len(), 3, "none of them has another's, nor the caller's");
}

#[test]
fn results_are_kept_for_the_times_of_the_table() {
    let file: toml::Table = EXAMPLE.parse().unwrap();
    for (upstream, tool, ttl) in [
        ("jobs", "getJobDetails", "10m"),
        ("talent", "getCandidateProfile", "5m"),
        ("talent", "getCandidatePreferences", "5m"),
        ("talent", "getCandidateAssessments", "2m"),
    ] {
        assert_eq!(file["upstreams"][upstream]["tools"][tool]["cache"]["ttl"].as_str(), Some(ttl));
    }
    assert!(file["upstreams"]["applications"].get("tools").is_none(), "all of it is live");
}
