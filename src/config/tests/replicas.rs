//! Several servers in the place of one.

use std::time::Duration;

use super::{of_upstream, read, told, upstream};

const URLS: &str = "url = [\"http://a/mcp\", \"http://b/mcp\"]\n";

#[test]
fn one_address_is_as_ever_and_several_are_replicas() {
    let one = upstream("url = \"http://a/mcp\"");
    assert_eq!((one.replicas.urls.len(), one.replicas.health), (0, None));
    assert!(upstream("url = [\"http://a/mcp\"]").replicas.urls.is_empty(), "one is one");
    let two = upstream(&format!(
        "{URLS}health = {{}}\nejection = {{ max = 1 }}\nhedge = {{ after = \"300ms\" }}"
    ));
    assert_eq!(two.replicas.urls, ["http://a/mcp", "http://b/mcp"]);
    assert_eq!(
        two.replicas.health.map(|it| (it.every, it.unhealthy)),
        Some((Duration::from_secs(10), 3))
    );
    assert!(
        (two.replicas.ejection.max - 1.0).abs() < 1e-9 && two.replicas.ejection.consecutive == 5
    );
    assert_eq!(two.hedge, Some(Duration::from_millis(300)));
}

#[test]
fn what_is_for_several_means_nothing_for_one() {
    told(
        &of_upstream("url = \"http://a/mcp\"\nhealth = {}\nhedge = { after = \"1s\" }"),
        &["error: `health` means nothing for a single server", "error: `hedge` means nothing"],
    );
    told(
        &of_upstream("url = [\"http://a/mcp\", \"http://a/mcp\"]"),
        &["error: `http://a/mcp` is named twice"],
    );
    told(&of_upstream("url = []"), &["error: there is no address"]);
    told(
        &of_upstream(&format!("{URLS}ejection = {{ max = 2, base = \"10m\" }}\nhedge = {{}}")),
        &["error: `2` is not a share", "error: `base` is 10m", "error: `after` is missing"],
    );
}

#[test]
fn a_successor_is_another_upstream_that_is_not_meant_by_a_star() {
    let file = "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n[upstreams.v2]\nurl = \"http://b/mcp\"\n\
                [upstreams.v1]\nurl = \"http://a/mcp\"\n\
                canary = { upstream = \"v2\", weight = 10, back = { slow = \"2s\" } }\n\
                shadow = { upstream = \"v2\", share = 0.25 }\n";
    let config = read(file);
    assert_eq!(config.routes[0].upstreams, ["v1"]);
    let canary = config.upstreams[1].canary.as_ref().expect("a canary");
    assert_eq!((canary.weight, canary.back.window, canary.back.calls_min), (10, 50, 20));
    let shadow = config.upstreams[1].shadow.as_ref().expect("a shadow");
    assert!((shadow.share - 0.25).abs() < 1e-9);
    let wrong = file.replace("upstream = \"v2\", weight = 10", "upstream = \"v3\"");
    told(&wrong, &["error: `weight` is missing", "error: there is no upstream `v3`"]);
    let wrong = file.replace("upstream = \"v2\", share", "upstream = \"v1\", share");
    told(&wrong, &["error: `v1` is this very upstream"]);
    let wrong = file.replace("slow = \"2s\"", "window = 10");
    told(&wrong, &["error: `window` is 10, but `calls_min` is 20"]);
    let wrong = file.replace("weight = 10", "weight = 101");
    told(&wrong, &["error: this number is not between 0 and 100"]);
}
