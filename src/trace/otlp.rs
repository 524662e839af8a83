//! Calls as OpenTelemetry has them: spans by the conventions for MCP and generative AI, sent by the
//! gate's own client of HTTP.

use std::{
    fmt,
    pin::Pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Limited};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig as _,
    WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};

use crate::{
    call::spans::{ChildKind, ChildSpan, SentRequest},
    mcp::method::Method,
    net::{Net, SendOptions},
};

use super::{
    facts::{EndedCall, text},
    settings::TraceSettings,
    tracer::is_error,
};

/// Bytes of a collector's answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The gate's client, as the exporter takes one.
struct Client(Net);

/// Makes the exporter to the collector of these settings.
///
/// # Errors
/// Where the address is none, or OpenTelemetry's variables say what cannot be.
pub fn exporter(settings: &TraceSettings, net: Net) -> Result<SpanExporter, ExporterBuildError> {
    let builder = SpanExporter::builder()
        .with_http()
        .with_http_client(Client(net))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&settings.url)
        .with_timeout(settings.timeout)
        .with_headers(settings.headers.iter().cloned().collect())
        .with_retry_policy(RetryPolicy::disabled());
    let mut exporter = builder.build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder_empty()
        .with_service_name(settings.service.clone())
        .with_attribute(version)
        .with_detector(Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()));
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

/// The address as a line of the log has it: without a password, path or query.
pub fn shown(url: &str) -> String {
    let uri = url.parse::<Uri>().unwrap_or_default();
    let host = uri.authority().map(|authority| {
        let text = authority.as_str();
        text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned()
    });
    host.unwrap_or_default()
}

/// The spans of a call: its own, and those of its parts.
pub fn spans(call: &EndedCall) -> Vec<SpanData> {
    let trace = Trace::of(call);
    let mut spans = Vec::with_capacity(1 + call.ended.children.len());
    spans.push(trace.root());
    spans.extend(call.ended.children.iter().map(|child| trace.child(child)));
    spans
}

struct Trace<'a> {
    call: &'a EndedCall,
    begun: SystemTime,
    state: TraceState,
    scope: InstrumentationScope,
}

impl<'a> Trace<'a> {
    fn of(call: &'a EndedCall) -> Self {
        let state = call.spans.state.as_ref().and_then(|state| state.as_str().parse().ok());
        Self {
            call,
            begun: UNIX_EPOCH + Duration::from_micros(call.ended.begun_micros),
            state: state.unwrap_or_default(),
            scope: InstrumentationScope::builder("tollgate")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }

    fn span(&self, id: crate::call::SpanId, parent: Option<crate::call::SpanId>) -> SpanData {
        let spans = &self.call.spans;
        // A span that is exported although its trace is not sampled was kept for its end.
        let flags = TraceFlags::default().with_sampled(spans.is_sampled);
        let trace = TraceId::from(spans.trace.bits());
        let id = SpanId::from(id.bits());
        SpanData {
            span_context: SpanContext::new(trace, id, flags, false, self.state.clone()),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.bits().into()),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "".into(),
            start_time: self.begun,
            end_time: self.begun,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// The span of the whole call.
    fn root(&self) -> SpanData {
        let EndedCall { spans, ended, outcome, facts } = self.call;
        let method = facts.method;
        let mut attributes = vec![
            KeyValue::new("mcp.method.name", method.name()),
            KeyValue::new("mcp.protocol.version", facts.version),
            KeyValue::new("jsonrpc.request.id", facts.id.clone()),
            KeyValue::new("tollgate.request.id", facts.request.to_string()),
            KeyValue::new("tollgate.route", facts.route.as_str().to_owned()),
            KeyValue::new("tollgate.outcome", outcome.name()),
        ];
        let name = facts.name.as_deref();
        attributes.extend(about(method, name));
        if method == Method::ResourcesRead {
            let uri = facts.uri.clone();
            attributes.extend(uri.map(|uri| KeyValue::new("mcp.resource.uri", uri)));
        }
        let upstream = facts.upstream.as_ref();
        attributes.extend(
            upstream.map(|name| KeyValue::new("tollgate.upstream", name.as_str().to_owned())),
        );
        let error = is_error(*outcome).then(|| outcome.name());
        attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
        SpanData {
            parent_span_is_remote: spans.parent.is_some(),
            span_kind: SpanKind::Server,
            name: named(method, name).into(),
            end_time: self.begun + ended.took,
            attributes,
            status: error.map_or(Status::Unset, Status::error),
            ..self.span(spans.id, spans.parent)
        }
    }

    fn child(&self, child: &ChildSpan) -> SpanData {
        let start_time = self.begun + child.begun;
        let (span_kind, name, mut attributes) = match &child.kind {
            ChildKind::Stage(stage) => (SpanKind::Internal, stage.name().to_owned(), Vec::new()),
            ChildKind::Send(sent) => sent_request(sent),
        };
        attributes.extend(child.error.map(|error| KeyValue::new("error.type", error)));
        SpanData {
            span_kind,
            name: name.into(),
            start_time,
            end_time: start_time + child.took,
            attributes,
            status: child.error.map_or(Status::Unset, Status::error),
            ..self.span(child.id, Some(self.call.spans.id))
        }
    }
}

fn sent_request(sent: &SentRequest) -> (SpanKind, String, Vec<KeyValue>) {
    let name = sent.name.as_deref().map(text);
    let mut attributes = vec![
        KeyValue::new("mcp.method.name", sent.method.name()),
        KeyValue::new("mcp.protocol.version", sent.version),
        KeyValue::new("network.transport", sent.transport),
        KeyValue::new("tollgate.upstream", sent.upstream.as_str().to_owned()),
    ];
    attributes.extend(about(sent.method, name.as_deref()));
    (SpanKind::Client, named(sent.method, name.as_deref()), attributes)
}

/// What a call of a tool or a prompt is about, in the words of OpenTelemetry's conventions for
/// generative AI.
fn about(method: Method, name: Option<&str>) -> Vec<KeyValue> {
    let Some(name) = name.map(str::to_owned) else { return Vec::new() };
    #[allow(clippy::wildcard_enum_match_arm, reason = "two methods are about a name")]
    match method {
        Method::ToolsCall => vec![
            KeyValue::new("gen_ai.operation.name", "execute_tool"),
            KeyValue::new("gen_ai.tool.name", name),
        ],
        Method::PromptsGet => vec![KeyValue::new("gen_ai.prompt.name", name)],
        _ => Vec::new(),
    }
}

/// The name of a span: the method, and the tool or prompt.
fn named(method: Method, name: Option<&str>) -> String {
    let name = name.filter(|_| matches!(method, Method::ToolsCall | Method::PromptsGet));
    name.map_or_else(|| method.name().to_owned(), |name| format!("{} {name}", method.name()))
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let answer = self.0.send(request, SendOptions::default()).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
            Ok(Response::from_parts(head, body.to_bytes()))
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}
