//! The whole way with each stage that judges or keeps a call, off and on: modern calls, all gates in
//! turn within each round, so that the machine's other work hits all.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::Full;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    load::{self, Client, Era, Tally, Work},
    process::{Gate, Upstream},
};

const CONNECTIONS: usize = 16;
const ROUNDS: usize = 11;
const TIME: Duration = Duration::from_millis(300);
const WARM_UP: Duration = Duration::from_millis(300);
/// 20 policies, of which one reads an argument: each call is decided anew.
const POLICIES: usize = 20;

/// What a gate is started with, by where it goes in the file.
#[derive(Default)]
struct Stage {
    name: &'static str,
    server: String,
    audit: &'static str,
    route: String,
    upstream: String,
}

/// A gate under load.
struct Side {
    name: &'static str,
    gate: Gate,
    clients: Vec<Client>,
    tally: Tally,
    busy: Duration,
}

/// Prints a line for each stage.
pub async fn measure(upstream: &Upstream, quick: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let policies = folder.path().join("bench.cedar");
    fs::write(&policies, policies_text())?;
    let issuer = Issuer::start().await?;
    let mut sides = Vec::new();
    for stage in stages(&issuer, &policies.display().to_string()) {
        sides.push(Side::start(stage, upstream, &issuer.token).await?);
    }
    let (rounds, time) = if quick { (1, Duration::from_millis(50)) } else { (ROUNDS, TIME) };
    for _ in 0..rounds {
        for side in &mut sides {
            let before = side.gate.cpu()?;
            let one = load::run(&mut side.clients, time).await?;
            side.busy += side.gate.cpu()?.saturating_sub(before);
            side.tally.add(one);
        }
    }
    println!("\nmodern calls on {CONNECTIONS} connections, by what judges or keeps them");
    let plain = sides.first().map(Side::cost).context("there are stages")?;
    for side in sides {
        let (cost, name) = (side.cost(), side.name);
        println!("{name:<44} | {} | {cost:6.1} µs/call | {:.2}", side.tally, cost / plain);
        load::disconnect(side.clients).await?;
        side.gate.stop().await?;
    }
    Ok(())
}

fn stages(issuer: &Issuer, policies: &str) -> Vec<Stage> {
    let off = "breaker.enabled = false\nguard.arguments = \"off\"\n";
    let limits = "limits = [{ per = [\"caller\", \"tool\"], rate = \"1000000/s\" }, { per = \
                  [\"caller\"], budget = \"1000000000/day\" }]\n";
    let guards = "guard.detect = [{ find = [\"secrets\", \"personal\"], in = [\"arguments\", \
                  \"results\"], then = \"redact\" }]\nbreaker.enabled = false\n";
    let retry = "retry = { attempts = 3, backoff = \"200ms\" }\nguard.arguments = \"off\"\n";
    let cache = "tools.echo.cache = { ttl = \"1h\", even_if_writing = true }\n";
    let stage = |name, route: &str, upstream: String| Stage {
        name,
        server: String::new(),
        audit: "",
        route: route.to_owned(),
        upstream,
    };
    let auth = "auth = [\"bench\"]\n";
    let policy = format!("policy = [{policies:?}]\n");
    let judged = format!("{auth}{policy}");
    let held = format!("{limits}retry = {{ attempts = 3, backoff = \"200ms\" }}\n");
    let audited = |stage: Stage| Stage { audit: "[audit]\n", ..stage };
    let with_auth = |stage: Stage| Stage { server: issuer.section(), ..stage };
    vec![
        stage("everything off", "", off.to_owned()),
        with_auth(stage("JWT", auth, off.to_owned())),
        stage("Cedar: 20 policies, decided anew", &policy, off.to_owned()),
        stage("limits: a rate and a budget", "", format!("{off}{limits}")),
        stage("schema of the arguments", "", "breaker.enabled = false\n".to_owned()),
        stage("schema and detectors", "", guards.to_owned()),
        stage("breaker and retries", "", retry.to_owned()),
        stage("cache, each call a hit", "", format!("{off}{cache}")),
        stage("as shipped: breaker and schema", "", String::new()),
        audited(stage("audit, a digest of the arguments", "", off.to_owned())),
        with_auth(stage("JWT, Cedar, limits, schema, breaker, retries", &judged, held.clone())),
        audited(with_auth(stage("the same, and audit", &judged, held))),
    ]
}

pub fn policies_text() -> String {
    let group = |at| format!("permit(principal in Group::\"g{at}\", action, resource);\n");
    let reads = "forbid(principal, action == Action::\"call\", resource)
        when { context.numbers.hasTag(\"days\") && context.numbers.getTag(\"days\") > 7 };";
    let all = "permit(principal, action, resource);\n";
    (2..POLICIES).map(group).collect::<String>() + all + reads
}

impl Side {
    async fn start(stage: Stage, upstream: &Upstream, token: &str) -> Result<Self> {
        let Stage { name, server, audit, route, upstream: keys } = stage;
        let (path, address) = (Era::Modern.path(), upstream.address);
        let config = format!(
            "{server}[routes.\"{path}\"]\nupstreams = [\"a\"]\n{route}[upstreams.a]\nurl = \
             \"http://{address}{path}\"\n{keys}{audit}"
        );
        let gate = Gate::start(&config).await?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = Client::connect(gate.address, path, Era::Modern, Work::Plain).await?;
            clients.push(client.with_token(token)?);
        }
        load::run(&mut clients, WARM_UP).await?;
        let (tally, busy) = (Tally::default(), Duration::ZERO);
        Ok(Self { name, gate, clients, tally, busy })
    }

    /// Processor time of the gate, in µs a call.
    fn cost(&self) -> f64 {
        self.busy.as_secs_f64() * 1e6 / self.tally.count()
    }
}

/// Who makes tokens: its keys are at an address, one token is good for the whole bench.
pub struct Issuer {
    address: SocketAddr,
    pub token: String,
}

impl Issuer {
    pub async fn start() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let public = key.public_key_raw();
        let (x, y) = public.get(1..33).zip(public.get(33..65)).context("an uncompressed point")?;
        let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench",
            "x": encode(x), "y": encode(y),
        });
        let keys = json!({ "keys": [jwk] }).to_string();
        tokio::spawn(show(listener, keys));
        let header = Header { kid: Some("bench".to_owned()), ..Header::new(Algorithm::ES256) };
        let claims = json!({
            "iss": format!("http://{address}"), "aud": "bench", "sub": "ann",
            "exp": 4_000_000_000_u64, "groups": ["g7"],
        });
        let signing = EncodingKey::from_ec_der(&key.serialize_der());
        let token = jsonwebtoken::encode(&header, &claims, &signing)?;
        Ok(Self { address, token })
    }

    pub fn section(&self) -> String {
        let url = format!("http://{}", self.address);
        format!(
            "[auth.bench]\nkind = \"jwt\"\nissuer = \"{url}\"\njwks_url = \"{url}/jwks\"\naudience = \
             [\"bench\"]\n"
        )
    }
}

/// Answers every request with the keys.
async fn show(listener: TcpListener, keys: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let keys = keys.clone();
        let service = service_fn(move |_| {
            let reply = Response::new(Full::<bytes::Bytes>::from(keys.clone()));
            async move { Ok::<_, std::convert::Infallible>(reply) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { connection.await.ok() });
    }
}
