//! Whether a balancer should send calls here, and what is named that works less well.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::{
    admin,
    auth::{Issuer, Signer, calls},
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
};

const ADMIN: &str = "admin = \"127.0.0.1:0\"";

/// The status at both listeners, and what operators are told.
async fn readiness(gate: &Gate) -> (u16, Value) {
    // One may be asked before, and the other after a change.
    for _ in 0..100 {
        let (head, detail) = admin::get(gate, "/readyz").await;
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let outside = gate.at("/readyz").send(hyper::Method::GET, &[], b"").await.status;
        if outside == status {
            return (status, serde_json::from_str(&detail).unwrap());
        }
    }
    panic!("the two listeners never agree");
}

/// What is named as degraded; the gate takes calls all the same.
async fn degraded(gate: &Gate) -> Vec<String> {
    let (status, detail) = readiness(gate).await;
    assert_eq!((status, &detail["status"]), (200, &json!("ready")), "{detail}");
    serde_json::from_value(detail["degraded"].clone()).unwrap()
}

/// Waits until something is named that has all these words, or until nothing is.
async fn named(gate: &Gate, words: &[&str]) -> Vec<String> {
    for _ in 0..3_000 {
        let (status, detail) = readiness(gate).await;
        let found: Vec<String> = serde_json::from_value(detail["degraded"].clone()).unwrap();
        let found = if status == 200 { found } else { vec![detail["status"].to_string()] };
        let has = |line: &String| words.iter().all(|word| line.contains(word));
        if words.is_empty() && found.is_empty() || !words.is_empty() && found.iter().any(has) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{words:?} is not named: {:?}", degraded(gate).await);
}

#[tokio::test]
async fn each_list_that_fails_is_named_and_each_that_is_back_is_not() {
    let everything =
        || fake::http().tool("log").prompt("p").resource("mem://one").template("mem://{x}");
    for (method, act, word) in [
        ("tools/list", Act::Error(r#"{"code":-32603,"message":"down"}"#.into()), "down"),
        ("prompts/list", Act::Error(r#"{"code":-32603,"message":"no db"}"#.into()), "no db"),
        ("resources/list", Act::Error(r#"{"code":-1,"message":"odd"}"#.into()), "odd"),
        ("resources/templates/list", Act::Error(r#"{"code":1,"message":"x"}"#.into()), "x"),
        ("tools/list", Act::Result(r#"{"tools":7}"#.into()), "tools/list"),
        ("prompts/list", Act::Result(r#"{"prompts":{}}"#.into()), "prompts/list"),
        ("resources/list", Act::Result(r#"{}"#.into()), "resources/list"),
    ] {
        let git = everything();
        let gate = gateway().server(ADMIN).upstream("git", &git).start().await;
        assert_eq!(degraded(&gate).await, [""; 0], "{method}: nothing is wrong yet");
        git.becomes(method, act);
        gate.edit(|toml| format!("{toml}\n[routes.\"/more\"]\nupstreams = [\"git\"]\n"));
        git.tell("notifications/tools/list_changed", &json!({}));
        git.tell("notifications/prompts/list_changed", &json!({}));
        git.tell("notifications/resources/list_changed", &json!({}));
        named(&gate, &["upstream `git`", method, word]).await;
        git.recovers(method);
        named(&gate, &[]).await;
    }
}

#[tokio::test]
async fn a_route_is_named_while_none_of_its_upstreams_is_ready() {
    let (one, two) = (fake::http().tool("one"), fake::http().tool("two"));
    let plan = gateway().server(ADMIN).upstream("one", &one).upstream("two", &two);
    let plan = plan.route("/both", "upstreams = [\"one\", \"two\"]");
    let plan = plan.route("/one", "upstreams = [\"one\"]").route("/two", "upstreams = [\"two\"]");
    let gate = plan.start().await;
    assert_eq!(degraded(&gate).await, [""; 0]);
    one.goes_down();
    gate.at("/one").modern().call("one").await;
    let found = named(&gate, &["route `/one`", "none of its upstreams is ready"]).await;
    assert!(!found.iter().any(|line| line.contains("`/both`") || line.contains("`/two`")));
    two.goes_down();
    gate.at("/two").modern().call("two").await;
    named(&gate, &["route `/both`"]).await;
    one.comes_back();
    two.comes_back();
    named(&gate, &[]).await;
}

#[tokio::test]
async fn a_route_whose_only_breaker_is_open_is_named() {
    let ill = fake::http().tool("log").does(Act::Status(500));
    let keys = "breaker = { failure_rate = 0.5, window = 10, open = \"1h\", tools_apart = false }";
    let gate = gateway().server(ADMIN).upstream_with("ill", &ill, keys).start().await;
    for _ in 0..10 {
        gate.modern().call("log").await;
    }
    named(&gate, &["route `/mcp`", "none of its upstreams is ready"]).await;
}

async fn guarded(issuer: &Issuer, keys: &str) -> Gate {
    let pause = "fetch_timeout = \"300ms\"\nfetch_pause = \"0s\"\n";
    gateway()
        .server(&format!("{ADMIN}\npublic_url = \"https://gate.example.com\""))
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\"]")
        .extra(&format!("{}{pause}{keys}", issuer.section()))
        .start()
        .await
}

/// Each is named without a login, and no longer once the issuer is back.
#[tokio::test]
async fn an_issuer_that_is_away_is_named() {
    let signer = Signer::elliptic("e1");
    for (what, keys) in [("down", ""), ("hangs", ""), ("down", "KEYS"), ("hangs", "KEYS")] {
        let issuer = Issuer::start(&[&signer]).await;
        let away = if what == "down" { &issuer.state.down } else { &issuer.state.hangs };
        away.store(true, Ordering::SeqCst);
        let keys = keys.replace("KEYS", &format!("jwks_url = \"{}/keys\"\n", issuer.url));
        let gate = guarded(&issuer, &keys).await;
        named(&gate, &["auth `corp`", "away"]).await;
        away.store(false, Ordering::SeqCst);
        named(&gate, &[]).await;
        assert_eq!(calls(&gate, &signer.sign(&issuer.claims())).await.status, 200);
        // What went well hides nothing that comes after it.
        away.store(true, Ordering::SeqCst);
        let strange = Signer::elliptic("e9");
        assert_eq!(calls(&gate, &strange.sign(&issuer.claims())).await.status, 401);
        named(&gate, &["auth `corp`", "away"]).await;
    }
}

#[tokio::test]
async fn an_issuer_that_cannot_be_asked_about_tokens_is_named() {
    let issuer = Issuer::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let section = format!(
        "[auth.opaque]\nkind = \"introspection\"\nurl = \"{}/introspect\"\nclient_id = \"gate\"\n\
         client_secret = \"file:{}\"\noutage_pause = \"0s\"\n",
        issuer.url,
        secret.display()
    );
    let plan = gateway().server(&format!("{ADMIN}\npublic_url = \"https://gate.example.com\""));
    let plan = plan.upstream("git", &fake::http().tool("log"));
    let plan = plan.route("/mcp", "upstreams = [\"git\"]\nauth = [\"opaque\"]");
    let gate = plan.extra(&section).start().await;
    assert_eq!(calls(&gate, "a.token").await.status, 401);
    assert_eq!(degraded(&gate).await, [""; 0]);
    issuer.state.down.store(true, Ordering::SeqCst);
    assert_eq!(calls(&gate, "another.token").await.status, 503);
    named(&gate, &["auth `opaque`", "away"]).await;
    issuer.state.down.store(false, Ordering::SeqCst);
    assert_eq!(calls(&gate, "another.token").await.status, 401);
    named(&gate, &[]).await;
}

async fn audited(git: &Fake, keys: &str) -> Gate {
    let audit = format!("[audit]\n{keys}");
    gateway().server(ADMIN).upstream("git", git).extra(&audit).start().await
}

fn breaks(gate: &Gate, broken: bool) {
    let file = rusqlite::Connection::open(gate.folder.path().join("state/audit.db")).unwrap();
    let broken = match broken {
        true => {
            "CREATE TRIGGER broken BEFORE INSERT ON records
                BEGIN SELECT RAISE(ABORT, 'broken'); END"
        }
        false => "DROP TRIGGER broken",
    };
    file.execute_batch(broken).unwrap();
}

#[tokio::test]
async fn a_gate_that_refuses_what_it_cannot_record_is_not_ready() {
    let git = fake::http().tool("log");
    let gate = audited(&git, "").await;
    assert_eq!(degraded(&gate).await, [""; 0]);
    breaks(&gate, true);
    gate.modern().call("log").await;
    let failed = || (1 <= gate.app().viewer().report().counters["audit_failed"]).then_some(());
    eventually("a record to fail", failed).await;
    let detail = loop {
        let (status, detail) = readiness(&gate).await;
        if status == 503 {
            break detail;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!(detail["status"], "unrecorded", "{detail}");
    assert!(detail["why"].as_str().unwrap().contains("broken"), "{detail}");
    breaks(&gate, false);
    named(&gate, &[]).await;
}

#[tokio::test]
async fn a_gate_whose_log_is_full_is_not_ready() {
    let git = fake::http().tool("log");
    let gate = audited(&git, "bytes_max = \"64KiB\"\n").await;
    while gate.modern().call("log").await["isError"] != true {}
    let full = async {
        while readiness(&gate).await.0 == 200 {
            gate.modern().call("log").await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), full).await.expect("soon full");
    let (_, detail) = readiness(&gate).await;
    assert!(detail["why"].as_str().unwrap().contains("bytes_max"), "{detail}");
}

#[tokio::test]
async fn a_gate_that_goes_on_unrecorded_is_ready_and_degraded() {
    let git = fake::http().tool("log");
    let gate = audited(&git, "when_full = \"drop\"\n").await;
    breaks(&gate, true);
    gate.modern().call("log").await;
    named(&gate, &["calls cannot be recorded", "broken"]).await;
    breaks(&gate, false);
    named(&gate, &[]).await;
}

#[tokio::test]
async fn a_gate_starts_until_its_upstreams_are_known_and_no_longer_than_settle() {
    let slow = fake::legacy("2025-11-25").tool("log").on("initialize", Act::Hang);
    let settle = format!("{ADMIN}\nlimits.settle = \"2s\"");
    let gate = gateway().server(&settle).upstream("slow", &slow).open().await;
    let (status, detail) = readiness(&gate).await;
    assert_eq!((status, &detail["status"]), (503, &json!("starting")), "{detail}");
    let ready = async {
        while readiness(&gate).await.0 != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), ready)
        .await
        .expect("`settle` is over");
    named(&gate, &["route `/mcp`"]).await;
}

#[allow(clippy::disallowed_methods, reason = "certificates are of this very time")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// A self-signed certificate that was made so many days ago and ends in so many, and its key.
fn certificate(days_ago: i64, days_left: i64) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let day = |days: i64| std::time::Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
    let now = now();
    let moment = |days: i64| if days < 0 { now - day(days) } else { now + day(days) };
    params.not_before = moment(-days_ago).into();
    params.not_after = moment(days_left).into();
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn certificates_that_have_expired_or_soon_will_are_named() {
    let fine = certificate(10, 80);
    for (days_ago, days_left, word) in [
        (90, -1, "has expired"),
        (800, -400, "has expired"),
        (89, 1, "expires soon"),
        (360, 5, "expires soon"),
        (300, 65, ""),
        (1, 6, ""),
    ] {
        let (pem, key) = certificate(days_ago, days_left);
        for place in ["ca", "client_certificate", "both"] {
            let gate = gateway().server(ADMIN).upstream("git", &fake::http().tool("log"));
            let gate = gate.start().await;
            assert_eq!(degraded(&gate).await, [""; 0], "{place}");
            let folder = gate.folder.path();
            std::fs::write(folder.join("fine.pem"), &fine.0).unwrap();
            std::fs::write(folder.join("one.pem"), &pem).unwrap();
            std::fs::write(folder.join("one.key"), &key).unwrap();
            let path = |name: &str| format!("{:?}", folder.join(name));
            let (one, own) = (path("one.pem"), path("one.key"));
            let shown = format!("client_certificate = {one}\nclient_key = {own}");
            let keys = match place {
                "ca" => format!("ca = {one}"),
                "client_certificate" => shown,
                _ => format!("ca = {}\n{shown}", path("fine.pem")),
            };
            let far = format!("url = \"https://127.0.0.1:9/mcp\"\n{keys}\n");
            gate.edit(|toml| format!("{toml}\n[upstreams.far]\n{far}"));
            let known = || 2 <= gate.app().viewer().report().upstreams.len();
            eventually("the edit to be in force", || known().then_some(())).await;
            let (_, detail) = readiness(&gate).await;
            let lines: Vec<String> = serde_json::from_value(detail["degraded"].clone()).unwrap();
            let key = if place == "ca" { "ca" } else { "client_certificate" };
            let report = gate.app().viewer().report();
            let named = format!("upstreams.far.{key}");
            let expires = report.certificates.iter().find(|one| one.key == named).unwrap().expires;
            let now = jiff::Timestamp::now().as_second();
            let left = i64::try_from(expires).unwrap() - now - days_left * 86_400;
            assert!(left.abs() < 86_400, "{place} {days_left}: {left} s");
            let named = |line: &&String| line.contains(&format!("upstreams.far.{key}: its"));
            let line = lines.iter().find(named).map_or("", String::as_str);
            assert_eq!(line.is_empty(), word.is_empty(), "{place} {days_left}: {lines:?}");
            assert!(line.contains(word), "{place} {days_left}: {lines:?}");
            let all = lines.iter().filter(|line| line.contains("certificate has")).count()
                + lines.iter().filter(|line| line.contains("certificate expires")).count();
            assert_eq!(all, usize::from(!word.is_empty()), "{lines:?}");
        }
    }
}

/// The row of `/readyz` about an upstream, or null where it is well.
async fn row(gate: &Gate, name: &str) -> Value {
    let (_, detail) = readiness(gate).await;
    let rows = detail["troubled"].as_array().unwrap().iter();
    rows.clone().find(|row| row["name"] == name).cloned().unwrap_or_default()
}

#[tokio::test]
async fn an_upstream_that_is_away_tells_since_when_and_when_it_is_tried() {
    let git = fake::http().tool("log");
    let gate = gateway().server(ADMIN).upstream("git", &git).unreachable("down").start().await;
    assert_eq!(row(&gate, "git").await, Value::Null);
    let report = gate.app().viewer().report();
    let moment = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let well = json!(report.upstreams.iter().find(|one| one.name == "git"));
    assert!(moment(&well["last_try"]) <= moment(&well["since"]), "{well}");
    assert_eq!(well["next_try"], Value::Null, "it is open");
    assert_eq!(well["last_error"], Value::Null);

    let mut first = None;
    for _ in 0..3 {
        let told = loop {
            let told = row(&gate, "down").await;
            if !told["next_try"].is_null() {
                break told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        let [since, last, next] = ["since", "last_try", "next_try"].map(|key| moment(&told[key]));
        assert!(last < next, "{told}");
        assert_eq!(*first.get_or_insert(since), since, "it was away all the while: {told}");
        assert!(!told["last_error"].is_null(), "{told}");
    }
    assert!(json!(report)["upstreams"][0]["since"].is_string());
}
