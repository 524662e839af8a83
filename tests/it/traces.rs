//! Traces: spans that a collector reads, the context that goes to servers, and a collector that is
//! of no use.

use std::{collections::BTreeMap, sync::Arc};

use http_body_util::{BodyExt as _, Full};
use hyper::{Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value as AnyValue,
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    client::Client,
    eventually,
    fake::{self, Fake, Seen},
    gate::{Gate, gateway},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector of OTLP over HTTP.
struct Collector {
    url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    spans: Mutex<Vec<Span>>,
    resources: Mutex<Vec<BTreeMap<String, String>>>,
    keys: Mutex<Vec<String>>,
    /// In place of any answer; nothing is kept.
    fails: Mutex<Option<StatusCode>>,
    asked: Mutex<usize>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<State>::default();
        let collector = Self { url, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let state = Arc::clone(&state);
                    async move {
                        assert_eq!(request.uri().path(), "/v1/traces");
                        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                        let key = request.headers().get("x-key").map(|key| key.to_str().unwrap());
                        state.keys.lock().extend(key.map(str::to_owned));
                        let body = request.into_body().collect().await?.to_bytes();
                        let status = state.take(&body);
                        let mut reply = Response::new(Full::<bytes::Bytes>::default());
                        *reply.status_mut() = status;
                        Ok::<_, hyper::Error>(reply)
                    }
                });
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(served.await) });
            }
        });
        collector
    }

    fn section(&self, keys: &str) -> String {
        format!("[telemetry]\nendpoint = \"{}\"\nstage_min = \"0s\"\n{keys}\n", self.url)
    }

    /// All spans, once those of the client's trace are there.
    async fn spans_with_trace(&self) -> Vec<Span> {
        let all = || {
            let spans = self.state.spans.lock().clone();
            spans.iter().any(|span| hex(&span.trace_id) == TRACE).then_some(spans)
        };
        eventually("its trace", all).await
    }

    fn count(&self) -> usize {
        self.state.spans.lock().len()
    }
}

impl State {
    fn take(&self, body: &[u8]) -> StatusCode {
        *self.asked.lock() += 1;
        if let Some(status) = *self.fails.lock() {
            return status;
        }
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        for of in request.resource_spans {
            self.resources.lock().push(attributes_of(&of.resource.unwrap().attributes));
            self.spans.lock().extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        StatusCode::OK
    }
}

fn attributes_of(
    all: &[opentelemetry_proto::tonic::common::v1::KeyValue],
) -> BTreeMap<String, String> {
    let text = |value: &AnyValue| {
        if let AnyValue::StringValue(text) = value { text.clone() } else { format!("{value:?}") }
    };
    let value = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        text(pair.value.as_ref().unwrap().value.as_ref().unwrap())
    };
    all.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    attributes_of(&span.attributes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind as i32).collect()
}

/// The trace context that a server got: `traceparent` of the header and of `_meta`.
fn context_of(seen: &Seen) -> (String, Value) {
    let params = seen.message().params.unwrap_or_default();
    let params: Value = serde_json::from_str(&params).unwrap_or_default();
    (seen.header("traceparent").to_owned(), params["_meta"].clone())
}

async fn traced(collector: &Collector, server: &Fake, keys: &str) -> Gate {
    gateway().upstream("git", server).extra(&collector.section(keys)).start().await
}

/// Calls a tool within the client's own span, whose context is in a header, or in `_meta`.
async fn calls_within(client: &Client, tool: &str, in_meta: bool, flags: &str) {
    let parent = format!("00-{TRACE}-{PARENT}-{flags}");
    let meta =
        json!({ "traceparent": parent, "tracestate": "rojo=1", "baggage": "tenant=a,user=b" });
    let params = match in_meta {
        true => json!({ "name": tool, "_meta": meta }),
        false => json!({ "name": tool }),
    };
    let text = client.request("tools/call", params);
    let headers: &[(&str, &str)] = match in_meta {
        true => &[],
        false => {
            &[("traceparent", &parent), ("tracestate", "rojo=1"), ("baggage", "tenant=a,user=b")]
        }
    };
    client.post_with(&text, headers).await.text().await;
}

/// The parts of a call are of its trace, within its time, and each stage is one of them.
fn has_stages_within(spans: &[Span], root: &Span) {
    let is_child = |span: &&Span| span.parent_span_id == root.span_id;
    let children: Vec<_> = spans.iter().filter(is_child).collect();
    for stage in
        ["login", "policy", "check arguments", "route limits", "connect", "upstream limits"]
    {
        assert!(children.iter().any(|child| child.name == stage), "{stage}");
    }
    for child in children {
        assert_eq!(child.trace_id, root.trace_id);
        assert!(root.start_time_unix_nano <= child.start_time_unix_nano);
        assert!(child.end_time_unix_nano <= root.end_time_unix_nano);
    }
}

#[tokio::test]
async fn one_trace_leads_from_client_to_server_in_both_eras_and_over_both_transports() {
    let servers = [fake::http(), fake::legacy("2025-11-25"), fake::stdio("2025-06-18")];
    for (server, is_http) in servers.into_iter().zip([true, true, false]) {
        let server = server.tool("log");
        for in_meta in [false, true] {
            let collector = Collector::start().await;
            let keys = "baggage = [\"tenant\"]\nheaders = { x-key = \"k\" }\nservice = \"edge\"";
            let gate = traced(&collector, &server, keys).await;
            let before = server.seen("tools/call").len();
            for client in [gate.modern(), gate.legacy("2025-06-18").await] {
                calls_within(&client, "log", in_meta, "01").await;
            }
            let count = || (collector.count() != 0).then_some(());
            eventually("spans", count).await;
            let spans = eventually("both calls", || {
                let spans = collector.state.spans.lock().clone();
                (of_kind(&spans, SpanKind::Server).len() == 2).then_some(spans)
            });
            let spans = spans.await;
            let (roots, sent) =
                (of_kind(&spans, SpanKind::Server), of_kind(&spans, SpanKind::Client));
            assert_eq!(sent.len(), 2);
            let seen = server.seen("tools/call");
            for (root, seen) in roots.iter().zip(&seen[before..]) {
                assert_eq!(root.name, "tools/call log");
                assert_eq!(
                    (hex(&root.trace_id), hex(&root.parent_span_id)),
                    (TRACE.into(), PARENT.into())
                );
                assert_eq!(root.trace_state, "rojo=1");
                let said = attributes(root);
                assert_eq!(said["mcp.method.name"], "tools/call");
                assert_eq!(said["gen_ai.operation.name"], "execute_tool");
                assert_eq!(said["gen_ai.tool.name"], "log");
                assert_eq!(said["tollgate.upstream"], "git");
                assert_eq!(said["tollgate.outcome"], "ok");
                has_stages_within(&spans, root);
                let sent = of_kind(&spans, SpanKind::Client);
                let sent = sent.iter().find(|span| span.parent_span_id == root.span_id).unwrap();
                let transport = if is_http { "tcp" } else { "pipe" };
                assert_eq!(attributes(sent)["network.transport"], transport);
                let want = format!("00-{TRACE}-{}-01", hex(&sent.span_id));
                let (header, meta) = context_of(seen);
                assert_eq!(meta["traceparent"], want.as_str());
                assert_eq!(meta["tracestate"], "rojo=1");
                assert_eq!(meta["baggage"], "tenant=a", "nothing that is not listed");
                if is_http {
                    assert_eq!(header, want);
                    assert_eq!(seen.header("tracestate"), "rojo=1");
                    assert_eq!(seen.header("baggage"), "tenant=a");
                }
            }
            assert_eq!(collector.state.resources.lock()[0]["service.name"], "edge");
            assert_eq!(collector.state.keys.lock()[0], "k");
        }
    }
}

/// What is hostile, or no context at all, begins another trace, and reaches no server.
#[tokio::test]
async fn a_context_that_is_none_is_ignored() {
    let server = fake::http().tool("log");
    let collector = Collector::start().await;
    let gate = traced(&collector, &server, "").await;
    let client = gate.modern();
    let long = "x".repeat(3_000);
    let bad = [
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "",
        &long,
    ];
    for parent in bad {
        let meta = json!({ "traceparent": parent, "tracestate": "rojo=1", "baggage": "tenant=a" });
        let params = json!({ "name": "log", "_meta": meta });
        client.ask("tools/call", params).await;
        let headers = [("traceparent", parent), ("tracestate", "rojo=1"), ("baggage", "a=b")];
        let text = client.request("tools/call", json!({ "name": "log" }));
        client.post_with(&text, &headers).await.text().await;
    }
    let roots = eventually("all calls", || {
        let spans = collector.state.spans.lock().clone();
        let roots: Vec<_> = of_kind(&spans, SpanKind::Server).into_iter().cloned().collect();
        (roots.len() == 2 * bad.len()).then_some(roots)
    });
    for root in roots.await {
        assert!(root.parent_span_id.is_empty() && root.trace_state.is_empty());
        assert_ne!(hex(&root.trace_id), TRACE);
    }
    for seen in server.seen("tools/call") {
        let (header, meta) = context_of(&seen);
        assert_eq!(header.len(), 55, "a context of the gate's own: {header}");
        assert_eq!(meta["traceparent"], header.as_str());
        assert_eq!((seen.header("tracestate"), seen.header("baggage")), ("", ""));
        assert!(meta["tracestate"].is_null() && meta["baggage"].is_null(), "{meta}");
    }
}

/// Traces that nobody sampled are exported where the call failed or was slow, and as told.
#[tokio::test]
async fn what_fails_or_is_slow_is_exported_though_it_is_not_sampled() {
    const ILL: &str = r#"{"content":[],"isError":true}"#;
    for (keys, ill, slow) in [
        ("sample = 0", Some(true), false),
        ("sample = 0\nerrors = false", Some(false), false),
        ("sample = 0\nslow = \"1ms\"", Some(true), true),
        // How long that took, nobody knows.
        ("sample = 0\nerrors = false\nslow = \"1ms\"", None, true),
    ] {
        let server = fake::http().tool("log").tool("ill").answer(ILL);
        let server = server.tool("late").does(fake::Act::Echo("{\"content\":[]}".to_owned()));
        let collector = Collector::start().await;
        let gate = traced(&collector, &server, keys).await;
        let client = gate.modern();
        for tool in ["log", "late", "ill"] {
            client.call(tool).await;
        }
        calls_within(&client, "log", true, "01").await;
        // Sampled by its client: the last one, since all go in order.
        let spans = collector.spans_with_trace().await;
        let of_tool = |tool: &str| {
            let name = format!("tools/call {tool}");
            of_kind(&spans, SpanKind::Server).into_iter().find(|span| span.name == name).cloned()
        };
        assert_eq!(of_tool("late").is_some(), slow, "{keys}");
        assert!(ill.is_none_or(|ill| of_tool("ill").is_some() == ill), "{keys}");
        if let Some(ill) = of_tool("ill") {
            assert_eq!(attributes(&ill)["error.type"], "tool_error");
            assert_eq!(ill.status.as_ref().unwrap().code, SpanStatus::Error as i32);
        }
        let first = server.seen("tools/call").into_iter().next().unwrap();
        let (header, meta) = context_of(&first);
        assert!(header.ends_with("-00"), "told that nobody samples it: {header}");
        assert!(meta["traceparent"].is_null());
    }
}

/// Names that lead to nothing are no names of spans, and nothing raw of them goes out.
#[tokio::test]
async fn what_strangers_make_up_is_in_no_name() {
    let server = fake::http().tool("log");
    let collector = Collector::start().await;
    let gate = traced(&collector, &server, "").await;
    let client = gate.legacy("2025-11-25").await;
    for at in 0..20 {
        let params = json!({ "name": format!("made-up-{at}\u{1b}[2J\n") });
        client.ask("tools/call", params).await;
    }
    client.call("log").await;
    let spans = eventually("all calls", || {
        let spans = collector.state.spans.lock().clone();
        (of_kind(&spans, SpanKind::Server).len() == 21).then_some(spans)
    });
    for span in spans.await {
        let texts = attributes(&span).into_values().chain([span.name.clone()]);
        for text in texts {
            assert!(!text.contains("made-up") && !text.contains('\u{1b}'), "{text}");
        }
    }
}

/// A collector that refuses, is away or is full costs traces, and no call anything.
#[tokio::test]
async fn a_collector_that_is_of_no_use_costs_no_call_anything() {
    let server = fake::http().tool("log");
    let collector = Collector::start().await;
    *collector.state.fails.lock() = Some(StatusCode::SERVICE_UNAVAILABLE);
    let gate = traced(&collector, &server, "queue_max = 16").await;
    let client = gate.modern();
    for _ in 0..100 {
        assert!(client.call("log").await["content"].is_array());
    }
    let counters = || gate.app().viewer().report().counters;
    let lost = || {
        let counters = counters();
        (counters["traces_dropped"] + counters["traces_failed"] >= 60).then_some(())
    };
    eventually("what is lost is counted", lost).await;
    assert_eq!(counters()["traces_exported"], 0);
    *collector.state.fails.lock() = None;
    client.call("log").await;
    eventually("it is back", || (0 < collector.count()).then_some(())).await;
}

/// The last calls before the end are exported, too.
#[tokio::test]
async fn a_gate_that_stops_exports_what_is_left() {
    let server = fake::http().tool("log");
    let collector = Collector::start().await;
    let mut gate = traced(&collector, &server, "").await;
    gate.modern().call("log").await;
    gate.stops().await;
    assert!(0 < collector.count());
}

#[tokio::test]
async fn without_a_collector_a_context_passes_as_it_came() {
    let server = fake::http().tool("log");
    let gate = gateway().upstream("git", &server).start().await;
    calls_within(&gate.modern(), "log", true, "01").await;
    let (header, meta) = context_of(&server.seen("tools/call")[0]);
    assert_eq!(header, "");
    assert_eq!(meta["traceparent"], format!("00-{TRACE}-{PARENT}-01").as_str());
    assert_eq!(meta["baggage"], "tenant=a,user=b");
}
