//! The API of operators: each path is described, and answers as it is described.

use serde_json::{Value, json};

use crate::{
    admin, fake,
    gate::{Gate, gateway, section},
};

const ADMIN: &str = "admin = \"127.0.0.1:0\"";
const SECRET: &str = "a-token-of-the-server";

/// A gate with upstreams that are well, away, and full of odd texts.
async fn start() -> Gate {
    let odd = json!({
        "name": "odd", "description": "<script>alert(1)</script> \u{1b}[31m \u{202e}",
        "inputSchema": { "type": "object", "properties": { "n": { "type": "integer" } } },
    });
    let git = fake::http().tool("log").tool_with(odd).prompt("p").resource("mem://one");
    let keys = format!("headers = {{ Authorization = \"Bearer {SECRET}\" }}\n");
    let down = section("down", "url = \"http://127.0.0.1:9/mcp\"\n");
    let plan = gateway().server(ADMIN).upstream_with("git", &git, &keys).extra(&down);
    let limited = "upstreams = [\"git\"]\nlimits = [{ budget = \"1000/month\" }]";
    let plan = plan.route("/mcp", "upstreams = [\"*\"]").route("/limited", limited);
    let gate = plan.start().await;
    gate.modern().tools().await;
    gate.modern().call("log").await;
    gate
}

/// The status and the body of a path.
async fn read(gate: &Gate, path: &str) -> (u16, Value) {
    let (head, body) = admin::get(gate, path).await;
    assert!(head.contains("application/json") && head.contains("no-store"), "{path}: {head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

/// The schema that the document has for a status of a path, with all that it refers to.
fn schema(document: &Value, path: &str, status: &str) -> Value {
    let answer = &document["paths"][path]["get"]["responses"][status];
    let mut schema = answer["content"]["application/json"]["schema"].clone();
    assert!(schema.is_object(), "{path} {status} is not described");
    schema["components"] = document["components"].clone();
    schema
}

fn fits(schema: &Value, answer: &Value) -> bool {
    jsonschema::meta::validate(schema).expect("a schema");
    jsonschema::validator_for(schema).expect("all that it refers to").is_valid(answer)
}

#[tokio::test]
async fn each_path_is_described_and_answers_as_it_is_described() {
    let gate = start().await;
    let (status, document) = read(&gate, "/api/v1/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let paths = document["paths"].as_object().unwrap();
    assert!(8 <= paths.len(), "{paths:?}");
    for path in paths.keys() {
        for name in ["git", "down"] {
            let (status, answer) = read(&gate, &path.replace("{upstream}", name)).await;
            assert_eq!(status, 200, "{path}: {answer}");
            assert!(fits(&schema(&document, path, "200"), &answer), "{path}: {answer}");
            assert!(!answer.to_string().contains(SECRET), "{path} tells a secret");
            // The schema says something: it takes no other kind of value.
            assert!(!fits(&schema(&document, path, "200"), &json!(7)), "{path}");
            let lacks = match answer.as_object().and_then(|members| members.keys().next()) {
                Some(first) if paths[path]["get"]["parameters"].is_array() => first.clone(),
                _ => continue,
            };
            let mut less = answer.clone();
            less.as_object_mut().unwrap().remove(&lacks);
            let optional = lacks == "last_words";
            assert_eq!(fits(&schema(&document, path, "200"), &less), optional, "{lacks}");
        }
        if path.contains("{upstream}") {
            for name in ["nobody", "%67it", "..", "GIT", "git;"] {
                let (status, answer) = read(&gate, &path.replace("{upstream}", name)).await;
                assert_eq!(status, 404, "{path} {name}");
                assert!(fits(&schema(&document, path, "404"), &answer), "{answer}");
            }
        }
    }
    for path in ["", "route", "routes/", "upstreams/git/", "upstreams//catalog", "Health", "a/b/c"]
    {
        let (status, answer) = read(&gate, &format!("/api/v1/{path}")).await;
        assert_eq!(status, 404, "{path}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains("/api/v1/openapi.json"), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_catalog_has_all_that_an_upstream_lists_as_it_wrote_it() {
    let gate = start().await;
    let (_, catalog) = read(&gate, "/api/v1/upstreams/git/catalog").await;
    let names = |list: &str, key: &str| -> Vec<String> {
        let all = catalog[list].as_array().unwrap().iter();
        all.map(|one| one[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(catalog["known"], true);
    assert_eq!(names("tools", "name"), ["log", "odd"]);
    assert_eq!(names("prompts", "name"), ["p"]);
    assert_eq!(names("resources", "uri"), ["mem://one"]);
    assert_eq!(names("resource_templates", "uriTemplate"), [""; 0]);
    let odd = &catalog["tools"][1];
    assert_eq!(odd["inputSchema"]["properties"]["n"]["type"], "integer");
    assert!(odd["description"].as_str().unwrap().contains("<script>"), "{odd}");

    let (_, away) = read(&gate, "/api/v1/upstreams/down/catalog").await;
    assert_eq!((&away["known"], &away["tools"]), (&json!(false), &json!([])));
    let (_, down) = read(&gate, "/api/v1/upstreams/down").await;
    assert_eq!(down["state"], "failed");
}

#[tokio::test]
async fn a_fault_is_in_the_health_and_was_not_before() {
    let git = fake::http().tool("log");
    let gate = gateway().server(ADMIN).upstream("git", &git).start().await;
    let (status, before) = read(&gate, "/api/v1/health").await;
    assert_eq!((status, &before["status"]), (200, &json!("ready")));
    assert_eq!(before["troubled"], json!([]), "{before}");
    git.goes_down();
    gate.modern().call("log").await;
    let troubled = async || {
        let (_, after) = read(&gate, "/api/v1/health").await;
        after["troubled"][0].clone()
    };
    let mut told = troubled().await;
    for _ in 0..1_000 {
        if told["name"] == "git" && told["last_error"].is_string() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        told = troubled().await;
    }
    assert_eq!(told["name"], "git", "{told}");
    assert!(told["since"].is_string(), "{told}");
}

#[tokio::test]
async fn nothing_is_changed_and_no_page_of_another_origin_is_answered() {
    let gate = gateway().server(ADMIN).upstream("git", &fake::http().tool("log")).start().await;
    for (head, status) in [
        ("POST /api/v1/health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
        ("DELETE /api/v1/upstreams/git HTTP/1.1\r\nHost: localhost", 405),
        ("PUT /api/v1/routes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
        ("GET /api/v1/health HTTP/1.1\r\nHost: evil.example", 403),
        ("GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example", 403),
        ("GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nOrigin: null", 403),
        ("GET /api/v1/openapi.json HTTP/1.1\r\nHost: rebound.example:9090", 403),
    ] {
        let (reply, _) = admin::ask(&gate, head).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {reply}");
    }
}
