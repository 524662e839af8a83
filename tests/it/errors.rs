//! What everybody reads when a call fails: the table of docs/errors.md, seen here. `UPDATE=1`
//! writes it anew.

use std::{collections::BTreeMap, fs, path::Path};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    audit::{AUDIT, recorded},
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
    message,
};

const BEGIN: &str = "<!-- seen by tests/it/errors.rs -->\n";
const END: &str = "<!-- end -->\n";

/// A resource stands for prompts, too, where both are answered alike.
const METHODS: [(&str, &str); 3] =
    [("tools/call", "log"), ("resources/read", "mem://log"), ("prompts/get", "log")];

/// A situation: how it comes about.
struct Scene {
    title: &'static str,
    /// Keys of the upstream.
    keys: &'static str,
    server: &'static str,
    policy: &'static str,
    /// What the server does with each call.
    act: Option<Act>,
    /// What is called: `log` is there, of every kind.
    name: &'static str,
    /// Of a tool only: what it is called with.
    arguments: &'static str,
    /// A call is made before, unseen.
    before: bool,
    /// The server is gone by then.
    down: bool,
}

const PLAIN: Scene = Scene {
    title: "",
    keys: "",
    server: "",
    policy: "",
    act: None,
    name: "log",
    arguments: "",
    before: false,
    down: false,
};

fn scenes() -> Vec<Scene> {
    let error = r#"{"code":-32050,"message":"no such job"}"#;
    let failed = r#"{"content":[{"type":"text","text":"no such job"}],"isError":true}"#;
    vec![
        Scene { title: "The name is unknown", name: "none", ..PLAIN },
        Scene {
            title: "A policy hides it",
            policy: "permit(principal, action, resource) when { resource.name == \"other\" };",
            ..PLAIN
        },
        Scene {
            title: "A policy denies this use of it",
            policy: "permit(principal, action, resource);
                forbid(principal, action in [Action::\"call\", Action::\"get\", Action::\"read\"],
                    resource) when { 0 < context.time.epoch };",
            ..PLAIN
        },
        Scene {
            title: "The arguments do not fit the tool's schema",
            arguments: r#"{"days":"three"}"#,
            ..PLAIN
        },
        Scene {
            title: "A limit has not enough left",
            keys: "limits = [{ rate = \"1/h\" }]",
            before: true,
            ..PLAIN
        },
        Scene {
            title: "The answer has what must not pass",
            keys: "guard.detect = [{ find = [\"personal:email\"], in = [\"results\"], \
                   then = \"block\" }]",
            act: Some(Act::Error(r#"{"code":-32050,"message":"ask ann@example.com"}"#.to_owned())),
            ..PLAIN
        },
        Scene { title: "The upstream is not available", down: true, ..PLAIN },
        Scene {
            title: "A breaker is open",
            keys: "breaker = { window = 1, calls_min = 1, failure_rate = 1.0, open = \"1h\" }",
            act: Some(Act::Status(500)),
            before: true,
            ..PLAIN
        },
        Scene { title: "The upstream is lost in mid-call", act: Some(Act::ClosesMidway), ..PLAIN },
        Scene {
            title: "The upstream does not answer in time",
            keys: "timeout = { idle = \"1s\" }",
            act: Some(Act::Hang),
            ..PLAIN
        },
        Scene {
            title: "The answer is too large",
            server: "limits.answer_bytes_max = \"1KiB\"",
            act: Some(Act::HugeLine(200_000)),
            ..PLAIN
        },
        Scene { title: "The answer is no message", act: Some(Act::Garbage), ..PLAIN },
        Scene { title: "The upstream answers HTTP 500", act: Some(Act::Status(500)), ..PLAIN },
        Scene { title: "The upstream answers HTTP 503", act: Some(Act::Status(503)), ..PLAIN },
        Scene {
            title: "The upstream answers with an error of its own",
            act: Some(Act::Error(error.to_owned())),
            ..PLAIN
        },
        Scene {
            title: "The tool itself fails",
            act: Some(Act::Result(failed.to_owned())),
            ..PLAIN
        },
    ]
}

impl Scene {
    fn fake(&self) -> Fake {
        let days = json!({ "days": { "type": "integer" } });
        let schema = json!({ "type": "object", "properties": days });
        let tool = json!({ "name": "log", "inputSchema": schema });
        let fake = fake::dual().tool_with(tool).prompt("log").resource("mem://log");
        for name in ["log", "mem://log"] {
            if let Some(act) = &self.act {
                fake.becomes(name, act.clone());
            }
        }
        fake
    }

    /// What is read of it: a line of the table.
    async fn seen(&self) -> String {
        let (mut cells, mut reasons) = (vec![self.title.to_owned()], Vec::new());
        let mut outcomes = Vec::new();
        for (method, name) in METHODS {
            if !self.arguments.is_empty() && method != "tools/call" {
                cells.push("-".to_owned());
                continue;
            }
            let (read, [reason, outcome]) = self.played(true, method, name).await;
            let (read_before, [reason_before, outcome_before]) =
                self.played(false, method, name).await;
            reasons.extend([reason, reason_before]);
            outcomes.extend([outcome, outcome_before]);
            cells.push(match read == read_before {
                true => read,
                false => format!("{read}; older: {read_before}"),
            });
        }
        // An upstream may itself know better what it does not have.
        let (counted, passed) = (reasons.swap_remove(0), "nothing");
        assert!(
            reasons.iter().all(|one| *one == counted || *one == passed),
            "{cells:?} {reasons:?}"
        );
        let audited = outcomes.swap_remove(0);
        let others = ["`error`", "`ok`"];
        assert!(
            outcomes.iter().all(|one| *one == audited || others.contains(&one.as_str())),
            "{cells:?} {outcomes:?}"
        );
        format!("| {} | {counted} | {audited} |\n", cells.join(" | "))
    }

    /// What a client of one era reads of one call, and what it is counted and recorded as.
    async fn played(&self, modern: bool, method: &str, name: &str) -> (String, [String; 2]) {
        let fake = self.fake();
        let plan = gateway().server(self.server).upstream_with("docs", &fake, self.keys);
        let plan = plan.extra(AUDIT);
        let plan = if self.policy.is_empty() { plan } else { plan.policy(self.policy) };
        let gate = plan.start().await;
        let client = match modern {
            true => gate.modern(),
            false => gate.legacy("2025-11-25").await,
        };
        let key = if method == "resources/read" { "uri" } else { "name" };
        let mut params = json!({ key: name.replace("log", self.name) });
        if !self.arguments.is_empty() {
            params["arguments"] = serde_json::from_str(self.arguments).unwrap();
        }
        // What is listed: a server that was slow to say so, on a loaded machine, is asked again.
        let listed = || {
            gate.app().viewer().report().upstreams.pop().filter(|docs| {
                (docs.tools, docs.prompts, docs.resources) == (1, 1, 1) && docs.lists.is_empty()
            })
        };
        eventually("all is listed", listed).await;
        if self.before {
            client.ask(method, params.clone()).await;
        }
        if self.down {
            fake.dies();
            let refused = || std::net::TcpStream::connect(fake.address()).err();
            eventually("nothing listens any more", refused).await;
        }
        let before = faults(&gate);
        let reply = client.start(method, params).await;
        let (status, retry) = (reply.status, reply.headers.contains_key("retry-after"));
        let message = reply.message().await;
        let retry = if retry { ", `Retry-After`" } else { "" };
        let read = match message.error.is_some() {
            true => format!("HTTP {status}, {}{retry}", message.code()),
            false => format!("{}{retry}", said(&message.result())),
        };
        let counted = faults(&gate).into_iter().filter(|(name, count)| before[name] != *count);
        let counted: Vec<_> = counted.map(|(name, _)| format!("`{name}`")).collect();
        let counted = if counted.is_empty() { "nothing".to_owned() } else { counted.join(", ") };
        let records = recorded(&gate, 1 + usize::from(self.before)).await;
        let outcome = format!("`{}`", records.last().unwrap()["outcome"].as_str().unwrap());
        (read, [counted, outcome])
    }
}

fn faults(gate: &Gate) -> BTreeMap<String, u64> {
    let counters = gate.app().viewer().report().counters.into_iter();
    counters.filter(|(name, _)| name.starts_with("fault_")).collect()
}

/// What a model reads.
fn said(result: &Value) -> String {
    assert_eq!(result["isError"], true, "{result}");
    let said = &result["structuredContent"];
    let Some(word) = said["error"].as_str() else { return "its own result, untouched".to_owned() };
    assert_eq!(result["content"][0]["text"], message::told(said));
    let again = if said["retriable"] == true { "retriable" } else { "not retriable" };
    let wait = said.get("retry_after_ms").map_or("", |_| ", `retry_after_ms`");
    format!("`{word}`, {again}{wait}")
}

#[tokio::test]
async fn the_table_of_errors_is_what_is_seen() {
    let mut lines = Vec::new();
    // A few at once: a gate that has to wait for its turn is slow, which is another reason to fail.
    for scenes in scenes().chunks(4) {
        lines.extend(join_all(scenes.iter().map(Scene::seen)).await);
    }
    let head = "| situation | a model reads of `tools/call` | `resources/read` | `prompts/get` | \
                counted as | audited as |\n|---|---|---|---|---|---|\n";
    let seen = format!("{head}{}", lines.concat());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let text = fs::read_to_string(&path).unwrap();
    let (above, rest) = text.split_once(BEGIN).unwrap();
    let (told, below) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(&path, format!("{above}{BEGIN}{seen}{END}{below}")).unwrap();
    }
    assert_eq!(told, seen, "UPDATE=1 writes the table of docs/errors.md anew");
}
