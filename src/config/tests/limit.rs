//! Limits on what clients ask for, and the sections of tools: right and wrong ones.

use std::time::Duration;

use super::{of_upstream, read, told, upstream};
use crate::config::{Bound, Cost, InFlight, Limit, Per, Window};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn limits_stand_on_routes_upstreams_and_tools() {
    let config = read(
        r#"
[server.limits]
limit_keys_max = 1000

[routes."/mcp"]
upstreams = ["jobs"]
limits = [{ per = ["caller"], budget = "10000/day" }, { budget = "7/month" }]

[upstreams.jobs]
url = "http://jobs/mcp"
limits = [{ per = ["tool", "caller", "tool"], rate = "60/min", burst = 100 }]
in_flight = { max = 10, wait = "2s" }
tools.deny = ["drop_*"]

[upstreams.jobs.tools.submit]
cost = 5
in_flight.max = 1

[[upstreams.jobs.tools.submit.limits]]
rate = "10/s"
"#,
    );
    assert_eq!(config.server.limits.limit_keys_max, 1_000);
    let budget = |amount, window| Bound::Budget { amount, window };
    let [daily, monthly] = config.routes[0].limits.as_slice() else { panic!("two") };
    let of_callers = Limit { per: vec![Per::Caller], bound: budget(10_000, Window::Day) };
    assert_eq!((daily, monthly.bound), (&of_callers, budget(7, Window::Month)));
    assert_eq!(config.routes[0].in_flight, None);
    let jobs = &config.upstreams[0];
    let bound = Bound::Rate { count: 60, period: MINUTE, burst: 100 };
    assert_eq!(jobs.limits, [Limit { per: vec![Per::Caller, Per::Tool], bound }]);
    assert_eq!(jobs.in_flight, Some(InFlight { max: 10, wait: Duration::from_secs(2) }));
    assert_eq!(jobs.tools.deny, ["drop_*"], "the filter is there besides");
    let submit = &jobs.tool_settings["submit"];
    let bound = Bound::Rate { count: 10, period: Duration::from_secs(1), burst: 10 };
    assert_eq!(submit.limits, [Limit { per: Vec::new(), bound }], "its burst is its count");
    assert_eq!(submit.in_flight, Some(InFlight { max: 1, wait: Duration::ZERO }));
    assert_eq!(submit.cost, Cost::Flat(5));
}

#[test]
fn a_key_that_is_a_table_is_a_tool_and_any_other_is_unknown() {
    let jobs = upstream("url = \"http://a/\"\ntools = { alow = { cost = 2 }, hide = [\"b\"] }\n");
    assert_eq!(
        (&jobs.tool_settings["alow"].cost, &jobs.tools.hide[..]),
        (&Cost::Flat(2), &["b".to_owned()][..])
    );
    told(
        &of_upstream("url = \"http://a/\"\ntools = { alow = [\"b\"] }\n"),
        &["error: unknown key `alow`", "did you mean `allow`?"],
    );
    told(
        &of_upstream("url = \"http://a/\"\ntools.submit = { lmits = [], cost = 0 }\n"),
        &[
            "error: unknown key `lmits`",
            "did you mean `limits`?",
            "error: this number is not between 1 and 1000000",
        ],
    );
    told(
        "[routes.\"/mcp\"]\nupstreams = [\"*\"]\ntools.submit = { cost = 2 }\n[upstreams.it]\n\
         command = \"a\"\n",
        &["error: unknown key `submit`", "routes.toml:3:7"],
    );
}

#[test]
fn a_rate_and_a_budget_are_written_rightly_or_told() {
    for rate in ["60", "60/m", "0/s", "+1/s", "1.5/s", "1000001/s", "/s", "60/min/s", " 1/s"] {
        let keys = format!("command = \"a\"\nlimits = [{{ rate = \"{rate}\" }}]\n");
        let title = format!("error: `{rate}` is not a rate");
        told(&of_upstream(&keys), &[&title, "such as \"60/min\""]);
    }
    for budget in ["9/d", "9/year", "0/day", "-1/day", "4294967296/day"] {
        let keys = format!("command = \"a\"\nlimits = [{{ budget = \"{budget}\" }}]\n");
        told(&of_upstream(&keys), &[&format!("error: `{budget}` is not a budget")]);
    }
}

#[test]
fn a_limit_is_one_of_two_kinds() {
    let limits = |limit: &str| of_upstream(&format!("command = \"a\"\nlimits = [{limit}]\n"));
    told(&limits("{ per = [\"caller\"] }"), &["error: this limit bounds nothing", "5:11"]);
    told(
        &limits("{ rate = \"1/s\", budget = \"1/day\" }"),
        &["error: `budget` besides `rate`", "make two limits of them"],
    );
    told(
        &limits("{ burst = 5, budget = \"1/day\" }"),
        &["error: `burst` means nothing for a budget"],
    );
    told(
        &limits("{ rate = \"1/d\", burst = 400 }"),
        &["error: this burst takes longer than a year to come back"],
    );
    told(&limits("{ rate = 5 }"), &["error: expected a rate, found an integer"]);
    told(
        &limits("{ per = [\"user\"], rate = \"1/s\" }"),
        &["error: `user` is not a word known here", "known here: `caller`"],
    );
    told(
        &of_upstream("command = \"a\"\nin_flight = { wait = \"1s\" }\n"),
        &["error: `max` is missing"],
    );
}

#[test]
fn a_cost_may_be_what_an_argument_says() {
    let tool = |cost: &str| format!("command = \"a\"\ntools.x.cost = {cost}\n");
    let names = vec!["filter".to_owned(), "a/b~".to_owned()];
    let jobs = upstream(&tool("{ argument = \"/filter/a~1b~0\" }"));
    assert_eq!(jobs.tool_settings["x"].cost, Cost::Argument(names));
    told(&of_upstream(&tool("{}")), &["error: `argument` is missing"]);
    told(&of_upstream(&tool("\"5\"")), &["error: expected a whole number, found a text"]);
    told(
        &of_upstream(&tool("{ argument = \"items\" }")),
        &["error: `items` does not point at an argument", "begin with `/`"],
    );
}

#[test]
fn a_cost_that_could_never_be_paid_is_told_wherever_it_is_met() {
    let text = r#"
[routes."/mcp"]
upstreams = ["*"]
limits = [{ budget = "4/day" }, { rate = "5/s" }]
[routes."/other"]
upstreams = ["other"]
limits = [{ rate = "1/s" }]
[upstreams.other]
command = "a"
[upstreams.jobs]
command = "a"
limits = [{ rate = "100/s", burst = 3 }]
tools.cheap = { cost = 3 }
tools.dear = { cost = 5, limits = [{ rate = "1/s" }] }
"#;
    let costs = "error: tool `dear` costs 5, and this limit never has more than";
    told(
        text,
        &[
            &format!("{costs} 4"),
            "make its `budget` 5 or more",
            &format!("{costs} 3"),
            "make its `burst` 5 or more, or the tool's `cost` smaller",
            &format!("{costs} 1"),
        ],
    );
}

#[test]
fn limits_are_shared_in_a_store_whose_password_is_elsewhere() {
    let gate = "[routes.\"/mcp\"]\nupstreams = [\"gate\"]\n[upstreams.gate]\nbuiltin = \"gate\"\n";
    let with = |keys: &str| format!("[limit]\n{keys}\n{gate}");
    assert_eq!(read(gate).limit_store, None);
    let store = read(&with("store = \"rediss://cache.example.com:6380/2\"")).limit_store.unwrap();
    assert_eq!(store.url.expose(), "rediss://cache.example.com:6380/2");
    assert_eq!((store.timeout.as_millis(), store.in_flight_max), (50, 256));
    assert_eq!((store.prefix.as_str(), store.password), ("tollgate", None));
    let all = "store = \"redis://gate@[::1]\"\nstore_password = \"env:A\"\nstore_timeout = \"1s\"\n\
               store_in_flight_max = 9\nstore_prefix = \"{edge}:1\"";
    told(&with(all), &["error: variable A is not set"]);
    told(
        &with("store = \"redis://:secret@a\""),
        &["error: the store's password must not stand in the file itself", "2:9"],
    );
    told(&with("store = \"http://a\""), &["error: this is not the address of a store"]);
    told(&with("store = \"redis://a/b\""), &["error: this is not the address of a store"]);
    told(&with("stor = \"redis://a\""), &["error: unknown key `stor`", "did you mean `store`?"]);
    told(&with("store_timeout = \"1s\""), &["error: there is no `store`", "2:17"]);
    told(
        &with("store = \"redis://a\"\nstore_prefix = \"a b\""),
        &["error: `a b` is not a prefix of keys"],
    );
    told(
        &with("store = \"redis://a\"\nstore_password = \"b\""),
        &["error: this secret must not stand in the file itself"],
    );
}
