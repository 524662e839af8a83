//! The way of a call in process: nanoseconds and instructions of each stage.
//!
//! `cargo bench --features internals --bench way`; README.md says what the numbers mean.
//! Instructions are counted by valgrind's callgrind, where it is installed: this program runs
//! itself under it once, collecting only inside [`measured`], of which callgrind writes down every
//! call by itself.
#![allow(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::{
    fs,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{ExitCode, Stdio},
    sync::{Arc, LazyLock},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tollgate::internals::{
    Action, Back, Binding, Body, CacheQuery, CallArguments, CallMetrics, Caller, Canary,
    CanaryState, Client, Ejection, Ejections, Entry, Incoming, Limits, ListKind, Listing, Load,
    Message, MessageBounds, Method, Object, ObjectKind, Param, Question, Raw, RecordedCalls,
    Request, RoutePath, Sealer, StateContent, States, ToolSchemas, UpstreamName, Version, View,
    Wanted, Wish, admits, attempts, balance, cached, caller, check_depth, circuit, decode, event,
    guard, judge, message, message_of, meta, request_digest, rules, schemas, sessions, splice,
    view,
};

/// The argument with which it runs itself under callgrind.
const COUNT: &str = "count";
/// Times a stage runs before it is measured, and while its instructions are counted.
const WARM_UPS: u32 = 10;
const COUNTED: u32 = 100;
/// A round takes about this long; the fastest counts, as what disturbs only ever adds.
const ROUND_NANOS: f64 = 20e6;
const ROUNDS: usize = 9;

const BOUNDS: MessageBounds = MessageBounds { depth_max: 64, batch_max: 50 };
const TOOLS: usize = 100;
const SIZES: [(&str, usize); 3] = [("300 B", 300), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10)];
static ROUTE: LazyLock<RoutePath> = LazyLock::new(|| "/mcp".into());
static UPSTREAM: LazyLock<UpstreamName> = LazyLock::new(|| "a".into());
const ROUTES: &str = r#"
[routes."/mcp"]
upstreams = ["a"]
[upstreams.a]
url = "http://127.0.0.1:9"
"#;

/// A rate and a budget that last for the whole bench.
const LIMITS: &str = r#"
limits = [
    { per = ["caller", "tool"], rate = "1000000/s" },
    { per = ["caller"], budget = "4000000000/month" },
]
"#;

/// Some 390 bytes.
const MODERN_CALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1017,"method":"tools/call","params":{"name":"tool_57","#,
    r#""arguments":{"text":"What is the weather in Reykjavik?","days":3,"units":["m","ft"]},"#,
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1.0.0"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}}},"#,
    r#""progressToken":1017}}}"#,
);
/// The same without what only the modern era has, some 190 bytes.
const LEGACY_CALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1017,"method":"tools/call","params":{"name":"tool_57","#,
    r#""arguments":{"text":"What is the weather in Reykjavik?","days":3,"units":["m","ft"]},"#,
    r#""_meta":{"progressToken":1017}}}"#,
);
const TOOL: &str = concat!(
    r#""description":"Tells the weather of a place for some days ahead.","inputSchema":"#,
    r#"{"type":"object","properties":{"text":{"type":"string","description":"The question."},"#,
    r#""days":{"type":"integer","minimum":1}},"required":["text"]}"#,
);

struct Stage {
    name: String,
    run: Box<dyn FnMut()>,
}

fn main() -> Result<ExitCode> {
    let mut stages = stages()?;
    if std::env::args().nth(1).as_deref() == Some(COUNT) {
        for stage in &mut stages {
            (0..WARM_UPS).for_each(|_| (stage.run)());
            measured(&mut *stage.run, COUNTED);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let counts = instructions(stages.len());
    if let Err(error) = &counts {
        println!("no instructions: {error:#}\n");
    }
    let mut counts = counts.unwrap_or_default().into_iter();
    println!("{:<52} {:>10} {:>13}", "stage", "ns", "instructions");
    for stage in &mut stages {
        let nanos = nanos(&mut *stage.run);
        let count = counts.next().map_or_else(|| "-".to_owned(), |count| count.to_string());
        println!("{:<52} {nanos:>10.0} {count:>13}", stage.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Known to callgrind by its name, so it must stay a function of its own.
#[inline(never)]
fn measured(run: &mut dyn FnMut(), times: u32) {
    (0..times).for_each(|_| run());
}

/// Of one run.
fn nanos(run: &mut dyn FnMut()) -> f64 {
    let mut time = |times: u32| {
        let start = Instant::now();
        measured(run, times);
        start.elapsed().as_secs_f64() * 1e9 / f64::from(times)
    };
    time(WARM_UPS);
    let times = (ROUND_NANOS / time(COUNTED)).clamp(1.0, 1e7) as u32;
    (0..ROUNDS).map(|_| time(times)).fold(f64::INFINITY, f64::min)
}

/// Of one run of each stage, in their order.
fn instructions(stages: usize) -> Result<Vec<u64>> {
    let folder = tempfile::tempdir()?;
    #[allow(clippy::disallowed_methods, reason = "a bench may block")]
    let mut command = std::process::Command::new("valgrind");
    command.args([
        "--tool=callgrind",
        "--toggle-collect=way::measured",
        "--dump-after=way::measured",
    ]);
    command.arg(format!("--callgrind-out-file={}/out", folder.path().display()));
    command.arg(std::env::current_exe()?).arg(COUNT).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().context("valgrind cannot be started")?;
    ensure!(status.success(), "valgrind ended with {status}");
    (1..=stages).map(|stage| total(&folder.path().join(format!("out.{stage}")))).collect()
}

/// What one dump of callgrind says that was collected, a stage's share of it.
fn total(dump: &Path) -> Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| dump.display().to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.context("a dump has no totals")?.trim().parse()?;
    Ok(total / u64::from(COUNTED))
}

fn stages() -> Result<Vec<Stage>> {
    let mut stages = Stages::default();
    requests(&mut stages)?;
    sealing(&mut stages)?;
    targets(&mut stages)?;
    observing(&mut stages)?;
    limits(&mut stages)?;
    breakers(&mut stages)?;
    policies(&mut stages)?;
    guards(&mut stages)?;
    cache(&mut stages)?;
    audit(&mut stages)?;
    crossing(&mut stages)?;
    questions(&mut stages)?;
    for (size, bytes) in SIZES {
        answers(&mut stages, size, bytes)?;
    }
    replicas(&mut stages);
    lists(&mut stages)?;
    Ok(stages.0)
}

#[derive(Default)]
struct Stages(Vec<Stage>);

impl Stages {
    fn add<T>(&mut self, name: impl Into<String>, mut run: impl FnMut() -> T + 'static) {
        let run = Box::new(move || drop(black_box(run())));
        self.0.push(Stage { name: name.into(), run });
    }
}

/// From a client's bytes to a request that is believed.
fn requests(stages: &mut Stages) -> Result<()> {
    let modern = Bytes::from(MODERN_CALL.as_bytes().to_vec());
    let legacy = Bytes::from(LEGACY_CALL.as_bytes().to_vec());
    let body = modern.clone();
    stages.add("depth check, modern call", move || check_depth(&body, BOUNDS.depth_max).is_ok());
    for (name, body) in [("modern", &modern), ("legacy", &legacy)] {
        let body = body.clone();
        stages.add(format!("depth check and envelope, {name} call"), move || {
            Incoming::parse(black_box(&body), BOUNDS).is_ok()
        });
    }
    let params = request(&modern)?.params;
    stages.add("`_meta`, modern call", move || black_box(&params).meta().is_ok());
    let params = request(&legacy)?.params;
    stages.add("`_meta`, legacy call", move || black_box(&params).meta().is_ok());
    let params = request(&legacy)?.params;
    stages
        .add("what it names", move || decode::named(Method::ToolsCall, black_box(&params)).is_ok());
    let (headers, asked) = (headers(), request(&modern)?);
    let decoded = decode::modern(Some(&headers), Caller::Parent, asked.clone());
    anyhow::ensure!(decoded.is_ok(), "the headers fit the body");
    stages.add("headers against the body, `_meta` and name with it", move || {
        decode::modern(Some(black_box(&headers)), Caller::Parent, black_box(&asked).clone()).is_ok()
    });
    Ok(())
}

/// A legacy client with few words about itself.
fn client() -> Client {
    Client {
        version: Version::LEGACY_LATEST,
        capabilities: Raw::trusted(r#"{"elicitation":{},"roots":{"listChanged":true}}"#),
        info: Raw::trusted(r#"{"name":"bench","version":"1.0.0"}"#),
    }
}

fn sealing(stages: &mut Stages) -> Result<()> {
    let sessions = sessions(&[7; 32]);
    let (_, id, _) = sessions.open(&ROUTE, &Caller::Parent, client(), &Limits::default());
    let sealer = Sealer::new(&[7; 32], "session id");
    let record = sealer.open(&id, &ROUTE).context("it is sealed with the same secret")?;
    let (opener, sealed) = (Sealer::new(&[7; 32], "session id"), id.clone());
    stages.add("session id sealed", move || sealer.seal(black_box(&record), &ROUTE));
    stages.add("session id opened", move || opener.open(black_box(&sealed), &ROUTE));
    let limits = Limits::default();
    stages.add("session found by its id", move || {
        sessions.find(&ROUTE, &Caller::Parent, black_box(&id), &limits).is_ok()
    });
    Ok(())
}

/// From a request that is believed to the bytes that an upstream gets.
fn targets(stages: &mut Stages) -> Result<()> {
    let view = list_view()?;
    view.find(ListKind::Tools, "tool_57").context("the view has it")?;
    stages.add(format!("resolve in a view of {TOOLS} tools"), move || {
        view.find(ListKind::Tools, black_box("tool_57")).cloned()
    });
    let params = request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.params;
    let old = params.clone();
    stages.add("rename splice", move || black_box(&params).with(Param::Name, b"\"own_name\""));
    stages.add("params made legacy for a legacy upstream", move || {
        meta::to_legacy(black_box(old.text()))
    });
    let Request { id, params, .. } = request(&Bytes::from_static(LEGACY_CALL.as_bytes()))?;
    let (info, new) = (Raw::trusted(r#"{"name":"bench","version":"1.0.0"}"#), params.clone());
    stages.add("params made modern for a modern upstream", move || {
        meta::to_modern(black_box(new.text()), &Raw::object(), &info, None)
    });
    stages.add("request framed", move || {
        message::request(&id, Method::ToolsCall.name(), black_box(params.text()))
    });
    Ok(())
}

/// How much may be asked for.
fn limits(stages: &mut Stages) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("routes.toml");
    for (name, limits) in [("none", ""), ("two rules, admitted", LIMITS)] {
        fs::write(&file, format!("{ROUTES}{limits}"))?;
        let rules = rules(&file).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let (caller, client) = (Caller::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)), client());
        let params = Raw::object();
        stages.add(format!("limits: {name}"), move || {
            let (method, caller, client) = (Method::ToolsCall, &caller, &client);
            let asked = Wish { method, caller, client, route: &ROUTE, params: &params };
            let let_in =
                admits(&rules, black_box(asked), Wanted { upstream: &UPSTREAM, name: "tool_57" });
            assert!(let_in, "there is enough for the whole bench");
        });
    }
    Ok(())
}

/// Whether calls and results are clean.
fn guards(stages: &mut Stages) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("routes.toml");
    let params = request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.params;
    let all = "[\"secrets\", \"personal\", \"injection\", \"exfiltration\"]";
    let plain = String::new();
    let detects = |place: &str| {
        format!("guard.detect = [{{ find = {all}, in = [\"{place}\"], then = \"redact\" }}]\n")
    };
    let each = [("held to the schema", plain), ("and all detectors", detects("arguments"))];
    for (name, keys) in each {
        fs::write(&file, format!("{ROUTES}{keys}"))?;
        let guard = guard(&file, "tool_57").map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let (tool, schemas) =
            (ToolSchemas::new(&UPSTREAM, Raw::trusted(format!("{{{TOOL}}}"))), schemas());
        let params = params.clone();
        let admitted = move || {
            let arguments = CallArguments::of(black_box(&params));
            guard.admit(params.text(), &arguments, Some(&tool), &schemas).is_ok()
        };
        ensure!(admitted(), "the arguments are right");
        stages.add(format!("guard: arguments, {name}"), admitted);
    }
    fs::write(&file, format!("{ROUTES}{}", detects("results")))?;
    for (size, bytes) in SIZES {
        let guard = guard(&file, "tool_57").map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let line = r#"The weather in \"Reykjavik\": 4 °C, rain.\n"#;
        let text = line.repeat(bytes.div_ceil(line.len()));
        let result = Raw::trusted(format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#));
        stages.add(format!("guard: all detectors, result of {size}"), move || {
            guard.scan(black_box(&result)).is_ok()
        });
    }
    Ok(())
}

/// A call that the breakers let through, and that is answered.
fn breakers(stages: &mut Stages) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("routes.toml");
    let timed = "breaker.window = \"60s\"\ntools.tool_57.breaker = { slow = \"1s\" }\n";
    for (name, keys) in [
        ("none", "breaker.enabled = false\n"),
        ("one, the last 20 calls", ""),
        ("of upstream (60 s) and tool", timed),
    ] {
        fs::write(&file, format!("{ROUTES}{keys}"))?;
        let circuit = circuit(&file).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        stages.add(format!("breakers: {name}"), move || {
            assert!(attempts(&circuit, black_box("tool_57")), "it is closed");
        });
    }
    Ok(())
}

/// Whether a call is permitted: 20 policies are asked, of which one reads an argument, or what was
/// decided before is found. That the tool may be seen is found in both.
fn policies(stages: &mut Stages) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("routes.toml");
    let routes = ROUTES.replace("[upstreams.a]", "policy = [\"base.cedar\"]\n[upstreams.a]");
    fs::write(&file, routes)?;
    let ruled = |last: &str| -> Result<_> {
        let group = |at| format!("permit(principal in Group::\"g{at}\", action, resource);\n");
        let policies: String = (0..19).map(group).collect();
        fs::write(folder.path().join("base.cedar"), policies + last)?;
        judge(&file).map_err(|problems| anyhow::anyhow!("{problems}"))
    };
    let asks = "forbid(principal, action == Action::\"call\", resource)
        when { context.numbers.hasTag(\"days\") && context.numbers.getTag(\"days\") > 7 };";
    let plain = "forbid(principal, action, resource) when { resource.name == \"tool_58\" };";
    let params = request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.params;
    for (name, judge) in [("decided", ruled(asks)?), ("from the cache", ruled(plain)?)] {
        let caller = caller("corp/ann", &["g7".to_owned()], &[], false).context("a caller")?;
        let object = Object::new(ObjectKind::Tool, &UPSTREAM, "tool_57", None, Vec::new());
        let (client, params) = (client(), params.clone());
        let permitted = move || {
            let (client, action) = (&client, Action::Call);
            let arguments = &CallArguments::of(black_box(&params));
            let asked = Question {
                caller: &caller,
                client,
                action,
                object: &object,
                arguments,
                now: 1_000,
            };
            judge.allows(&asked).is_ok()
        };
        ensure!(permitted(), "it is permitted");
        stages.add(format!("policy: 20 policies, {name}"), permitted);
    }
    Ok(())
}

/// What a tool pays whose results are kept, and what it gets. One of which nothing is kept pays two
/// look-ups by name.
fn cache(stages: &mut Stages) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("routes.toml");
    let keep = "[upstreams.a.tools.tool_57]\ncache = { ttl = \"1h\" }\n";
    fs::write(&path, format!("{ROUTES}{keep}"))?;
    let params = Raw::from(request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.params);
    let (client, caller) = (client(), Caller::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let lookup = move |params: &Raw, ask: &dyn Fn(CacheQuery<'_>)| {
        ask(CacheQuery {
            method: Method::ToolsCall,
            upstream: &UPSTREAM,
            name: "tool_57",
            definition: 1,
            read_only: true,
            params,
            mirrored: &[],
            caller: &caller,
            client: &client,
            vary: None,
        });
    };
    let result = Raw::trusted(r#"{"content":[{"type":"text","text":"4 degrees, rain"}]}"#);
    let made = std::cell::OnceCell::new();
    lookup(&params, &|lookup| drop(made.set(cached(&path, lookup, &result))));
    let made = made.into_inner().context("it was looked up")?;
    let kept = made.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    lookup(&params, &|lookup| assert!(kept.hit(lookup).is_some(), "it is there"));
    stages.add("cache: key and hit, modern call", move || {
        lookup(black_box(&params), &|lookup| drop(black_box(kept.hit(lookup))));
    });
    Ok(())
}

/// What a call pays for its record; the thread that writes it is another.
fn audit(stages: &mut Stages) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("routes.toml");
    let log = "[audit]\npath = \"audit.db\"\nwhen_full = \"drop\"\nqueue_max = 100000\n";
    let state = format!("server.state = {:?}\n", folder.path());
    fs::write(&file, format!("{state}{ROUTES}{log}"))?;
    let caller = caller("corp/ann", &["g7".to_owned()], &[], false).context("a caller")?;
    let params = Raw::from(request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.params);
    let calls = RecordedCalls::new(&file, client(), caller, params);
    let calls = calls.map_err(|problems| anyhow::anyhow!("{problems}"))?;
    ensure!(calls.record(&UPSTREAM, &ROUTE), "it is recorded");
    stages.add("audit: a call recorded, a digest of its arguments", move || {
        let _in_use = &folder;
        black_box(calls.record(&UPSTREAM, &ROUTE))
    });
    Ok(())
}

/// What calls pay for the eras: the first two stages are every modern call's, the third is a legacy
/// one's whose server is modern.
fn crossing(stages: &mut Stages) -> Result<()> {
    let params = request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.params;
    let capabilities = params.meta()?.client_capabilities.context("they are in `_meta`")?;
    let modern = Client { version: Version::MODERN, capabilities, ..client() };
    stages.add("look for a `requestState`, modern call", move || {
        black_box(&params).member(Param::RequestState)
    });
    stages.add("whether the client can be asked", move || black_box(&modern).can_be_asked());
    let legacy = client();
    stages.add("capabilities made modern for a modern upstream", move || {
        black_box(&legacy).capabilities_for_modern()
    });
    Ok(())
}

/// What a modern client's call pays for being asked by a legacy server: the digest twice, the rest
/// once.
fn questions(stages: &mut Stages) -> Result<()> {
    let params = Raw::from(request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.params);
    let digest = request_digest(Method::ToolsCall, &params);
    let caller = Caller::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    stages
        .add("digest of a request", move || request_digest(Method::ToolsCall, black_box(&params)));
    let held = StateContent::Call { owner: 7, id: 7 };
    let bearer = Binding { route: &ROUTE, caller: &caller, request: digest };
    let state: String = States::new(&[7; 32]).seal(held.clone(), bearer, 300).read()?;
    let (sealer, own) = (States::new(&[7; 32]), caller.clone());
    stages.add("request state sealed", move || {
        let bearer = Binding { route: &ROUTE, caller: &own, request: digest };
        sealer.seal(black_box(held.clone()), bearer, 300)
    });
    let opener = States::new(&[7; 32]);
    stages.add("request state opened", move || {
        let bearer = Binding { route: &ROUTE, caller: &caller, request: digest };
        opener.open(black_box(&state), bearer).is_ok()
    });
    Ok(())
}

/// From an upstream's bytes to a client's.
fn answers(stages: &mut Stages, size: &str, bytes: usize) -> Result<()> {
    let line = r#"The weather in \"Reykjavik\": 4 °C, rain.\n"#;
    let text = line.repeat(bytes.div_ceil(line.len()));
    let result = Raw::trusted(format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#));
    let id = request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.id;
    let body = Body::Result(result.clone().into());
    let framed = message::response(Some(&id), &body);
    let answer = framed.clone();
    stages
        .add(format!("answer parsed, {size}"), move || Message::parse(black_box(&answer)).is_ok());
    let event_text = event(None, &framed);
    stages.add(format!("answer parsed out of an event, {size}"), move || {
        let data = message_of(black_box(&event_text));
        data.is_some_and(|data| Message::parse(&data).is_ok())
    });
    stages.add(format!("result made modern for a modern client, {size}"), move || {
        splice::edit(black_box(&result), &[("resultType", Some(b"\"complete\""))])
    });
    stages.add(format!("response framed, {size}"), move || {
        message::response(Some(&id), black_box(&body))
    });
    stages.add(format!("response framed as an event, {size}"), move || {
        event(None, black_box(&framed))
    });
    Ok(())
}

/// Which replica gets a call, what is noted of it, and whether a successor gets it.
fn replicas(stages: &mut Stages) {
    let (begin, settings) = (
        Instant::now(),
        Ejection {
            max: 0.5,
            consecutive: 5,
            failure_rate: 0.5,
            calls_min: 20,
            interval: Duration::from_secs(10),
            base: Duration::from_secs(30),
            base_max: Duration::from_secs(300),
        },
    );
    let loads: Vec<_> = (0..3).map(|_| Load::new(begin)).collect();
    for load in &loads {
        load.observe(Duration::from_millis(20), false, begin);
    }
    let ejections = Ejections::new(settings, loads.len(), begin);
    let mut draw = 0_u64;
    stages.add("replica picked of three, its answer noted", move || {
        draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let fit: Vec<_> = (0..3).filter(|at| !ejections.is_ejected(*at, begin)).collect();
        let draws = [draw >> 32, draw & 0xffff];
        let at = balance::pick(&fit, draws, |at| loads.get(at).map_or(0.0, |it| it.cost(begin)));
        if let Some((at, load)) = at.and_then(|at| Some((at, loads.get(at)?))) {
            load.begin();
            load.observe(Duration::from_millis(20), false, begin);
            ejections.record(at, true, begin);
            load.end();
        }
        at
    });
    let back = Back {
        failure_rate: 0.05,
        slow: None,
        slow_rate: 0.5,
        window: 50,
        calls_min: 20,
        tool_errors: false,
    };
    let trial = CanaryState::new(Canary { upstream: "b".into(), weight: 50, back });
    stages.add("successor chosen, its answer noted", move || {
        black_box(trial.selects(black_box(7))) && trial.record(false, Duration::ZERO).is_none()
    });
}

/// What becomes of a call, counted by its route, its upstream and its tool.
fn observing(stages: &mut Stages) -> Result<()> {
    let [route, upstream, tool] = [(); 3].map(|()| Arc::new(CallMetrics::default()));
    let text = Bytes::from_static(br#"{"content":[{"type":"text","text":"dry"}]}"#);
    let answer = Body::Result(Raw::parse(&text)?.into());
    stages.add("call observed: outcome and histograms", move || {
        let entry = Entry::unrecorded(black_box(Method::ToolsCall), &route);
        entry.counted_by(&upstream, Some(&tool));
        entry.sending();
        entry.heard(|| None);
        entry.answered(&answer).is_ok()
    });
    Ok(())
}

fn lists(stages: &mut Stages) -> Result<()> {
    let view = list_view()?;
    let id = request(&Bytes::from_static(MODERN_CALL.as_bytes()))?.id;
    let page =
        view.offer.page(ListKind::Tools, None, Version::MODERN).ok().context("the first page")?;
    let kib = page.bytes().len() / 1024;
    stages.add(format!("page of {TOOLS} tools ({kib} KiB), framed"), move || {
        let page = view.offer.page(ListKind::Tools, black_box(None), Version::MODERN);
        page.ok().map(|page| message::response(Some(&id), &Body::Result(page.into())))
    });
    Ok(())
}

fn request(body: &Bytes) -> Result<Request> {
    match Incoming::parse(body, BOUNDS)? {
        Incoming::One(Message::Request(request)) => Ok(request),
        Incoming::One(_) | Incoming::Batch(_) => anyhow::bail!("not one request"),
    }
}

/// What a modern client's request has besides the usual.
fn headers() -> HeaderMap {
    let all = [
        ("host", "127.0.0.1:8080"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "tool_57"),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

fn list_view() -> Result<View> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("routes.toml");
    fs::write(&file, ROUTES)?;
    view(&file, &listing()?).map_err(|problems| anyhow::anyhow!("{problems}"))
}

fn listing() -> Result<Listing> {
    let tool = |number| {
        let name = format!("tool_{number}");
        format!(r#"{{"key":"{name}","raw":{{"name":"{name}",{TOOL}}}}}"#)
    };
    let tools: Vec<_> = (0..TOOLS).map(tool).collect();
    let rest = r#""prompts":[],"resources":[],"templates":[],"ttl_ms":0,"public":true"#;
    let text = format!(
        r#"{{"version":"2026-07-28","capabilities":{{"tools":{{}}}},"tools":[{}],{rest}}}"#,
        tools.join(",")
    );
    Ok(serde_json::from_str(&text)?)
}
