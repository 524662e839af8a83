//! Why an upstream is not open, as operators are told: in the server's own words, with the remedy.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    admin, eventually, fake,
    gate::{Gate, gateway},
    log,
};

const ADMIN: &str = "admin = \"127.0.0.1:0\"";

/// A gate with one upstream, which fails.
async fn failing(keys: &str) -> Gate {
    gateway().server(ADMIN).section("git", keys).start().await
}

/// What operators are told of the only upstream, in `/report`; `/readyz` says the same.
async fn told(gate: &Gate) -> Value {
    let (_, report) = admin::get(gate, "/report").await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let one = report["upstreams"][0].clone();
    let (_, ready) = admin::get(gate, "/readyz").await;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["troubled"][0]["name"], "git", "{ready}");
    for key in ["last_error", "last_words"] {
        let shown = &ready["troubled"][0][key];
        // It may have been opened again in between.
        assert_eq!(shown.is_null(), one[key].is_null(), "{key}: {ready} {one}");
    }
    one
}

#[track_caller]
fn has(text: &Value, words: &[&str], what: &str) {
    let text = text.as_str().unwrap_or_default();
    assert!(words.iter().all(|word| text.contains(word)), "{what}: {words:?} is not in `{text}`");
}

#[tokio::test]
async fn last_words_of_a_process_say_why_it_ended() {
    let node = "node:x:1\n  throw err;\n\nError: Cannot find module 'express'\n    at a (b)\n\
                {\n  code: 'MODULE_NOT_FOUND'\n}\n\nNode.js v20.1.0\n";
    let python =
        "Traceback (most recent call last):\n  File \"x.py\", line 1\nImportError: no foo\n";
    for (stderr, want) in [
        (node, "Error: Cannot find module 'express'"),
        (python, "ImportError: no foo"),
        ("panic: no key\n\ngoroutine 1 [running]:\nmain.main()\n", "panic: no key"),
        ("thread 'main' panicked at a.rs:1:1:\nno token\nnote: run with\n", "no token"),
        ("Error: GITHUB_TOKEN is not set\nbye\n", "Error: GITHUB_TOKEN is not set"),
        ("npm error code E404\nnpm error 404 Not Found - GET x\n", "404 Not Found"),
        ("listening\nFATAL: password authentication failed\nbye\n", "FATAL: password"),
        ("usage: server PORT\n", "usage: server PORT"),
        ("error: unexpected argument '--x' found\n\nUsage: y\n", "unexpected argument"),
        ("\u{1b}[31mERROR\u{1b}[0m no database\n", "ERROR no database"),
        ("docker: Error response from daemon: no image.\nSee 'docker run --help'.\n", "no image"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        fs::write(&said, stderr).unwrap();
        let script = format!("cat {} >&2; exit 3", said.display());
        let gate = failing(&format!("command = \"sh\"\nargs = [\"-c\", {script:?}]\n")).await;
        let told = told(&gate).await;
        has(&told["last_error"], &["exit status: 3"], stderr);
        has(&told["last_words"], &[want], stderr);
    }
}

#[tokio::test]
async fn last_words_are_for_operators_only() {
    let script = "echo 'Error: secret of ann' >&2; exit 1";
    let keys = format!("command = \"sh\"\nargs = [\"-c\", {script:?}]\n");
    let plan = gateway().server(ADMIN).section("git", &keys);
    let gate = plan.section("gate", "builtin = \"gate\"\n").start().await;
    has(&told(&gate).await["last_words"], &["secret of ann"], "operators");
    for tool in ["gateway_status", "gateway_upstreams"] {
        let shown = gate.modern().call(tool).await.to_string();
        assert!(shown.contains("exit status") && !shown.contains("ann"), "{tool}: {shown}");
    }
}

#[tokio::test]
async fn noise_in_place_of_an_answer_is_named() {
    for (says, want) in [
        ("Server running on stdio", "Server running on stdio"),
        ("[INFO] ready", "[INFO] ready"),
        ("{\"level\":\"info\"}", "{\"level\":\"info\"}"),
        ("Starting…", "Starting"),
        ("npm warn deprecated x", "npm warn deprecated x"),
    ] {
        let script = format!("echo '{says}'; exec sleep 60");
        let keys =
            format!("command = \"sh\"\nargs = [\"-c\", {script:?}]\ntimeout.open = \"300ms\"\n");
        let gate = failing(&keys).await;
        let told = told(&gate).await;
        has(&told["last_error"], &["did not answer within", "no MCP message"], says);
        has(&told["last_words"], &[want], says);
    }
}

#[tokio::test]
async fn a_server_that_is_ready_has_no_old_error() {
    let folder = tempfile::tempdir().unwrap();
    let flag = folder.path().join("well");
    let fake = fake::stdio("2025-11-25").tool("log");
    let section = fake.section();
    let args = section.split_once("args = [").unwrap().1.trim_end().trim_end_matches(']');
    let script = format!(
        "test -e {} || {{ echo 'Error: not yet' >&2; exit 1; }}; exec python3 \"$@\"",
        flag.display()
    );
    let keys = format!("command = \"sh\"\nargs = [\"-c\", {script:?}, \"sh\", {args}]\n");
    let gate = failing(&keys).await;
    has(&told(&gate).await["last_words"], &["Error: not yet"], "before");
    fs::write(&flag, "").unwrap();
    let row = || json!(gate.app().viewer().report().upstreams[0]);
    eventually("it is ready", || (row()["state"] == "ready").then_some(())).await;
    assert_eq!((&row()["last_error"], row().get("last_words")), (&Value::Null, None));

    // A call that failed is told until the next one.
    let jobs = fake::http().tool("log");
    let gate = gateway().server(ADMIN).upstream("git", &jobs).start().await;
    let row = || json!(gate.app().viewer().report().upstreams[0]);
    jobs.becomes("log", fake::Act::Status(500));
    gate.modern().call("log").await;
    has(&row()["last_error"], &["HTTP status 500"], "a call failed");
    jobs.recovers("log");
    gate.modern().call("log").await;
    assert_eq!(row()["last_error"], Value::Null, "the next one went well");
}

/// Answers every request so.
async fn answering(reply: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let reply = reply.clone();
            tokio::spawn(async move {
                let mut head = [0; 8 << 10];
                while let Ok(1..) = stream.read(&mut head).await {
                    stream.write_all(reply.as_bytes()).await.ok()?;
                }
                Some(())
            });
        }
    });
    port
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_server_over_http_says_why_it_refuses() {
    let expired = "WWW-Authenticate: Bearer error=\"invalid_token\", \
                   error_description=\"The access token expired\"\r\n";
    let scope = "WWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"files:read\"\r\n";
    let page = "<!doctype html><html><head><title>Sign in to Example</title></head></html>";
    for (answer, words) in [
        (reply("401 No", expired, ""), &["401", "The access token expired", "`credential`"][..]),
        (reply("401 No", "", r#"{"message":"Bad credentials"}"#), &["Bad credentials"]),
        (reply("401 No", "", ""), &["401", "`headers`"]),
        (reply("401 No", "", r#"{"error_description":"key hunter2 is off"}"#), &["key … is off"]),
        (reply("403 No", scope, ""), &["insufficient_scope", "files:read"]),
        (reply("403 No", "", "Forbidden: no seat"), &["403", "no seat"]),
        (reply("404 No", "", ""), &["404", "http://127.0.0.1:", "/mcp`", "MCP endpoint"]),
        (reply("502 Bad", "", "<html><title>502 Bad Gateway</title></html>"), &["Bad Gateway"]),
        (reply("500 No", "", r#"{"detail":"no database"}"#), &["500", "no database"]),
        (reply("200 OK", "Content-Type: text/html\r\n", page), &["HTML", "Sign in to Example"]),
        (reply("200 OK", "Content-Type: text/plain\r\n", "It works!"), &["It works!"]),
        (
            reply("302 Found", "Location: https://login.example/x?secret\r\n", ""),
            &["302", "`https://login.example/x`", "not followed"],
        ),
        ("\u{15}\u{3}\u{3}\0\u{2}\u{2}F\r\n\r\n".to_owned(), &["no HTTP", "`https:`"]),
    ] {
        let port = answering(answer.clone()).await;
        let keys = format!(
            "url = \"http://127.0.0.1:{port}/mcp\"\n\
             headers = {{ Authorization = \"Bearer hunter2\" }}\n"
        );
        let gate = failing(&keys).await;
        let told = told(&gate).await;
        has(&told["last_error"], words, &answer);
        let shown = told.to_string();
        assert!(!shown.contains("hunter2") && !shown.contains("?secret"), "{shown}");
    }
}

/// Closes each connection in place of an answer, or resets it.
async fn closing(resets: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut some, pause) = ([0; 8 << 10], Duration::from_millis(50));
            while let Ok(Ok(1..)) = timeout(pause, stream.read(&mut some)).await {}
            if resets {
                stream.set_zero_linger().ok();
            }
        }
    });
    port
}

#[tokio::test]
async fn a_port_that_answers_nothing_may_be_one_of_tls() {
    for resets in [false, true] {
        let port = closing(resets).await;
        let gate = failing(&format!("url = \"http://127.0.0.1:{port}/mcp\"\n")).await;
        let told = told(&gate).await;
        has(&told["last_error"], &["broke off", "`https:`"], &format!("resets: {resets}"));
    }
}

#[tokio::test]
async fn what_an_upstream_lacks_to_be_tried_is_logged() {
    log::is_kept();
    let tried = "url = \"http://127.0.0.1:9/mcp\"\n";
    for (name, keys, words) in [
        ("log-unset", "headers = { X-Key = \"${LOG_NEVER_SET}\" }\n", "LOG_NEVER_SET is not set"),
        ("log-no-file", "headers = { X-Key = \"file:/nowhere/key\" }\n", "/nowhere/key"),
        ("log-no-ca", "ca = \"/nowhere/ca.pem\"\n", "/nowhere/ca.pem"),
    ] {
        let _gate = gateway().section(name, &format!("{tried}{keys}")).start().await;
        let named = format!("upstream=\"{name}\"");
        let line = || (log::lines(&[&named, "not open", words]).len() == 1).then_some(());
        eventually(words, line).await;
    }
}

/// A certificate and its key.
struct Pair(CertificateDer<'static>, Vec<u8>);

/// How a server's certificate is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Name,
    Expired,
    NotYet,
    Purpose,
    ItsOwn,
    AuthoritysOwn,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let (pem, der) = (root.pem(), root.der().clone());
        Self { issuer: Issuer::new(params, key), root: der, pem }
    }

    fn server(&self, wrong: Wrong) -> Pair {
        let name = if wrong == Wrong::Name { "other.example" } else { "localhost" };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        match wrong {
            Wrong::Expired => params.not_after = date_time_ymd(2001, 2, 3),
            Wrong::NotYet => params.not_before = date_time_ymd(2999, 1, 1),
            Wrong::Purpose => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            Wrong::AuthoritysOwn => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            Wrong::Nothing | Wrong::Name | Wrong::ItsOwn => (),
        }
        let key = KeyPair::generate().unwrap();
        let made = match wrong {
            Wrong::ItsOwn | Wrong::AuthoritysOwn => params.self_signed(&key),
            Wrong::Nothing | Wrong::Name | Wrong::Expired | Wrong::NotYet | Wrong::Purpose => {
                params.signed_by(&key, &self.issuer)
            }
        };
        Pair(made.unwrap().der().clone(), key.serialize_der())
    }
}

/// Speaks TLS with this certificate; `mutual` with clients of the authority only.
async fn speaking_tls(authority: &Authority, pair: Pair, mutual: bool) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let config = if mutual {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        config.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        config.with_no_client_auth()
    };
    let key = PrivatePkcs8KeyDer::from(pair.1).into();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![pair.0], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(stream).await.ok()?;
                client.read(&mut [0; 1024]).await.ok()
            });
        }
    });
    port
}

#[tokio::test]
async fn a_failure_of_tls_is_told_in_words_with_its_remedy() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        fs::write(&path, pem).unwrap();
        path
    };
    let (own, other) = (write("ca.pem", &authority.pem), write("other.pem", &stranger.pem));
    let trusting = |path: &Path| format!("ca = {:?}\n", path.display().to_string());
    for (wrong, mutual, keys, words) in [
        (Wrong::Nothing, false, String::new(), &["private CA", "`ca` of the upstream"][..]),
        (Wrong::Nothing, false, trusting(&other), &["`ca` of the upstream"]),
        (Wrong::ItsOwn, false, String::new(), &["`ca` of the upstream"]),
        (Wrong::AuthoritysOwn, false, String::new(), &["that of a CA", "`ca` of the upstream"]),
        (Wrong::Name, false, trusting(&own), &["`other.example`", "not for `localhost`"]),
        (Wrong::Expired, false, trusting(&own), &["expired", "2001-02-03"]),
        (Wrong::NotYet, false, trusting(&own), &["2999-01-01", "clocks"]),
        (Wrong::Purpose, false, trusting(&own), &["not for servers"]),
        (Wrong::Nothing, true, trusting(&own), &["client certificate", "`client_certificate`"]),
    ] {
        let port = speaking_tls(&authority, authority.server(wrong), mutual).await;
        let gate = failing(&format!("url = \"https://localhost:{port}/mcp\"\n{keys}")).await;
        has(&told(&gate).await["last_error"], words, &format!("{wrong:?} {keys}"));
    }
    let plain = answering(reply("200 OK", "", "")).await;
    let gate = failing(&format!("url = \"https://localhost:{plain}/mcp\"\n")).await;
    has(&told(&gate).await["last_error"], &["no TLS", "`http:`"], "a plain port");
    let port = speaking_tls(&authority, authority.server(Wrong::Nothing), false).await;
    let gate = failing(&format!("url = \"http://localhost:{port}/mcp\"\n")).await;
    has(&told(&gate).await["last_error"], &["`https:`"], "a port of TLS");
}

/// A crash again and again is one line of the log, and the count of its openings goes on.
#[tokio::test]
async fn a_crash_that_says_another_thing_is_shown_with_that() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    fs::write(&said, "Error: no key\n").unwrap();
    let script = format!("cat {} >&2; exit 1", said.display());
    let gate = failing(&format!("command = \"sh\"\nargs = [\"-c\", {script:?}]\n")).await;
    has(&told(&gate).await["last_words"], &["Error: no key"], "first");
    fs::write(&said, "Error: no seat\n").unwrap();
    let changed = || {
        let words = gate.app().viewer().report().upstreams[0].last_words.clone();
        words.is_some_and(|words| words.contains("no seat")).then_some(())
    };
    eventually("the other words", changed).await;
}
