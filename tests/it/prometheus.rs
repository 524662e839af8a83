//! The rules and the dashboard that the documents bring: each name, label and word in them is one
//! that a gate has.

use std::{collections::BTreeSet, path::Path, process::Command};

use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    admin::get,
    exposition::Exposition,
    fake,
    gate::{Gate, gateway},
};

const RULES: &str = include_str!("../../docs/alerts.yaml");
const DASHBOARD: &str = include_str!("../../docs/dashboard.json");

/// All queries of the rules and of the dashboard.
fn queries() -> Vec<String> {
    let rules: Value = serde_saphyr::from_str(RULES).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let of_rules = rules.map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let of_panels = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    of_rules.chain(of_panels).collect()
}

/// A gate that has what there are metrics of: a call, a breaker, a budget, a certificate.
async fn busy() -> (Gate, TempDir) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let own = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, own.pem()).unwrap();
    let far = format!("url = \"https://127.0.0.1:9/mcp\"\nca = {:?}\n", file.display().to_string());
    let git = fake::http().tool("log");
    let plan = gateway().server("admin = \"127.0.0.1:0\"");
    let keys = "limits = [{ budget = \"9/day\" }]\nretry = { attempts = 3, budget = 0.2 }";
    let plan = plan.upstream_with("git", &git, keys);
    let gate = plan.extra(&crate::gate::section("far", &far)).start().await;
    gate.modern().call("log").await;
    (gate, folder)
}

/// A metric, and what is asked of its labels.
struct Selector {
    name: String,
    labels: Vec<Matcher>,
}

/// What a label is to be.
struct Matcher {
    label: String,
    value: String,
}

fn selectors(query: &str) -> Vec<Selector> {
    let metric = Regex::new(r"\b(tollgate|process)_[a-z0-9_]+(\{[^}]*\})?").unwrap();
    let label = Regex::new(r#"(\w+)(?:=~|!~|!=|=)"([^"]*)""#).unwrap();
    let all = metric.find_iter(query).map(|found| {
        let (name, rest) = found.as_str().split_once('{').unwrap_or((found.as_str(), ""));
        let labels = label.captures_iter(rest);
        let labels = labels.map(|it| Matcher { label: it[1].into(), value: it[2].into() });
        Selector { name: name.to_owned(), labels: labels.collect() }
    });
    all.collect()
}

#[tokio::test]
async fn all_that_rules_and_panels_ask_for_is_there() {
    let (gate, _folder) = busy().await;
    let (_, text) = get(&gate, "/metrics").await;
    let read = Exposition::read(&text);
    let names: BTreeSet<&str> = read.samples.keys().map(|(name, _)| name.as_str()).collect();
    let outcomes = read.types.keys().filter_map(|name| name.strip_prefix("tollgate_fault_"));
    let outcomes: Vec<_> =
        outcomes.chain(["ok", "tool_error", "error", "input_required"]).collect();
    let by = Regex::new(r"\bby \(([^)]*)\)").unwrap();
    let queries = queries();
    assert!(35 < queries.len(), "{}", queries.len());
    for query in &queries {
        let selectors = selectors(query);
        assert!(!selectors.is_empty() || query.contains("tollgate:"), "{query}");
        for Selector { name, labels } in selectors {
            assert!(names.contains(&*name), "{name} is none, in {query}");
            for Matcher { label, value } in labels.iter().filter(|one| one.label != "instance") {
                let one_of: Vec<_> = value.split('|').map(|part| format!("^(?:{part})$")).collect();
                let known: Vec<&str> = match label.as_str() {
                    "outcome" => outcomes.clone(),
                    _ => read
                        .of(&name)
                        .filter_map(|(all, _)| all.get(label).map(String::as_str))
                        .collect(),
                };
                for part in one_of {
                    let part = Regex::new(&part).unwrap();
                    let is_known = known.iter().any(|word| part.is_match(word));
                    assert!(is_known, "no {label} of {name} is {part}: {query}");
                }
            }
        }
        let labels = by.captures_iter(query).flat_map(|it| {
            it[1].split(',').map(|label| label.trim().to_owned()).collect::<Vec<_>>()
        });
        for label in labels.filter(|label| label != "instance") {
            let has = read.samples.keys().any(|(_, labels)| labels.contains_key(&label));
            assert!(has, "no metric has a label {label}: {query}");
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|at| panel["gridPos"][at].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} lies over another one", panel["title"]);
        }
        let is_row = panel["type"] == "row";
        assert!(is_row || panel["datasource"]["uid"] == json!("${datasource}"), "{panel}");
    }
}

/// Where Prometheus' own tool is installed (Debian: `prometheus`), it reads the rules and tries
/// them with made-up series.
#[test]
#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a tool that may be missing")]
fn the_rules_fire_when_they_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let promtool = |words: &[&str]| {
        Command::new("promtool").args(words).current_dir(folder).output().map(|done| {
            let said = [done.stdout, done.stderr].concat();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
        })
    };
    let checked = promtool(&["check", "rules", "docs/alerts.yaml"]);
    let tried = promtool(&["test", "rules", "tests/prometheus/alerts.test.yaml"]);
    if checked.and(tried).is_err() {
        println!("promtool is missing: the rules were not tried");
    }
}
