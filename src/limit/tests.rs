//! Limits at moments that are said, and the bound that none of them ever passes.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*};

use crate::{
    call::{Caller, Client, Identity, tasks::Tasks},
    config::{self, Bound, Config, Cost, Limit, Per, Window},
    mcp::{method::Method, raw::Raw, version::Version},
};

use super::{
    bucket::{Meter, Now, Shortage},
    request::cost,
    rule::Rule,
    *,
};

const MINUTE: Duration = Duration::from_secs(60);
const EVERYONE: Vec<Per> = Vec::new();

fn at(elapsed: Duration) -> Now {
    // A Friday, 1 January 2027, at noon.
    Now { elapsed, unix: 1_798_804_800 + elapsed.as_secs() }
}

fn rate(per: Vec<Per>, count: u32, period: Duration, burst: u32) -> Limit {
    Limit { per, bound: Bound::Rate { count, period, burst } }
}

fn budget(amount: u32, window: Window) -> Limit {
    Limit { per: EVERYONE, bound: Bound::Budget { amount, window } }
}

fn alone(limit: &Limit) -> Arc<Rule> {
    Arc::new(Rule::new(limit, &[], 0))
}

/// Takes `cost` out of one bucket of each rule, or out of none.
fn take(rules: &[&Arc<Rule>], key: u64, cost: u32, now: Now) -> Result<usize, LimitRefusal> {
    let keys: Vec<_> = rules.iter().map(|&rule| (rule, key)).collect();
    let held = rule::try_take(&keys, NonZeroU32::new(cost).unwrap(), now)?;
    Ok(held.commit(1_600, now))
}

fn client(name: &str) -> Client {
    let info = Raw::encode(&serde_json::json!({ "name": name }));
    Client { version: Version::MODERN, capabilities: Raw::object(), info }
}

fn config(toml: &str) -> Config {
    config::parse("routes.toml", toml, &|_| None).expect("a right file")
}

#[test]
fn a_burst_then_one_by_one_then_a_burst_again() {
    let rule = alone(&rate(EVERYONE, 60, MINUTE, 3));
    let take = |cost, millis| take(&[&rule], 7, cost, at(Duration::from_millis(millis)));
    assert_eq!((take(2, 0), take(1, 0)), (Ok(0), Ok(0)));
    let refusal = |millis| Err(LimitRefusal::Rate(Duration::from_millis(millis)));
    assert_eq!(take(1, 0), refusal(1_000));
    assert_eq!(take(1, 400), refusal(600), "what is refused takes nothing");
    assert_eq!(take(1, 1_000), Ok(0));
    assert_eq!(take(3, 1_000), refusal(3_000));
    assert_eq!(take(3, 4_000), Ok(0));
    assert_eq!(take(1, 4_999), refusal(1));
}

#[test]
fn a_budget_lasts_until_its_day_or_month_ends_in_utc() {
    for (window, ends) in [(Window::Day, 43_200), (Window::Month, 43_200 + 30 * 86_400)] {
        let rule = alone(&budget(3, window));
        let take = |cost, seconds| take(&[&rule], 7, cost, at(Duration::from_secs(seconds)));
        assert_eq!(take(2, 0), Ok(0));
        let wait = Duration::from_secs(ends - 100);
        assert_eq!(take(2, 100), Err(LimitRefusal::Budget(wait)));
        assert_eq!(take(1, 200), Ok(0), "what is left can be taken");
        assert_eq!((take(1, ends - 1).is_err(), take(3, ends)), (true, Ok(0)), "{window:?}");
    }
}

#[test]
fn a_month_has_its_own_days() {
    let rule = alone(&budget(1, Window::Month));
    // 2028-02-29 23:59:59, a leap year.
    let last = Now { elapsed: Duration::ZERO, unix: 1_835_481_599 };
    assert!(take(&[&rule], 1, 1, last).is_ok());
    let refused = take(&[&rule], 1, 1, last).unwrap_err();
    assert_eq!(refused, LimitRefusal::Budget(Duration::from_secs(1)));
}

#[test]
fn what_one_limit_refuses_counts_in_none() {
    let rules = [
        alone(&rate(EVERYONE, 1, MINUTE, 1)),
        alone(&rate(EVERYONE, 100, MINUTE, 100)),
        alone(&budget(2, Window::Day)),
    ];
    let all: Vec<_> = rules.iter().collect();
    assert!(take(&all, 1, 1, at(Duration::ZERO)).is_ok());
    for _ in 0..50 {
        let refused = take(&all, 1, 1, at(Duration::ZERO)).unwrap_err();
        assert_eq!(refused, LimitRefusal::Rate(MINUTE));
    }
    assert!(take(&all, 1, 1, at(MINUTE)).is_ok(), "the budget has one left");
    let refused = take(&all, 1, 1, at(MINUTE)).unwrap_err();
    assert!(matches!(refused, LimitRefusal::Budget(_)), "the one that takes longest is told");
    assert_eq!(take(&all, 1, 3, at(MINUTE)), Err(LimitRefusal::Cost), "for that no time is enough");
}

#[test]
fn keys_are_bounded_and_who_took_most_is_forgotten_last() {
    let rule = alone(&rate(EVERYONE, 1, MINUTE, 1));
    let abuser = 16;
    let mut forgotten = 0;
    assert!(take(&[&rule], abuser, 1, at(MINUTE)).is_ok());
    for key in 0..20_000 {
        // All of one shard, all before the abuser's time.
        forgotten += take(&[&rule], 16_000 + 16 * key, 1, at(Duration::ZERO)).unwrap();
    }
    assert!(rule.key_count() <= 100, "{}", rule.key_count());
    assert!(19_899 <= forgotten, "{forgotten}");
    assert!(take(&[&rule], abuser, 1, at(MINUTE)).is_err(), "it is remembered");
    rule.sweep(at(MINUTE));
    assert_eq!(rule.key_count(), 1, "all others have their whole bucket again");
    rule.sweep(at(2 * MINUTE));
    assert_eq!(rule.key_count(), 0);
}

#[test]
fn a_bucket_is_shared_by_what_per_does_not_name() {
    let (one, two) = (Caller::Parent, Caller::Address([127, 0, 0, 1].into()));
    let (a, b) = (client("a"), client("b"));
    let (method, params) = (Method::ToolsCall, &Raw::object());
    let base = LimitedRequest { method, caller: &one, client: &a, route: &"/x".into(), params };
    let (log, query) = (
        LimitTarget { upstream: &"git".into(), name: "log" },
        LimitTarget { upstream: &"git".into(), name: "query" },
    );
    let others = [
        (Per::Caller, LimitedRequest { caller: &two, ..base }, Some(log)),
        (Per::Client, LimitedRequest { client: &b, ..base }, Some(log)),
        (Per::Route, LimitedRequest { route: &"/y".into(), ..base }, Some(log)),
        (Per::Tool, base, Some(query)),
        (Per::Upstream, base, Some(LimitTarget { upstream: &"db".into(), ..log })),
    ];
    for (per, other, target) in others {
        let alone = alone(&rate(vec![per], 1, MINUTE, 1));
        let key = alone.key(base, Some(log));
        assert_ne!(alone.key(other, target), key, "{per:?}");
        for (another, other, target) in others {
            let apart = per == another || (per, another) == (Per::Tool, Per::Upstream);
            assert_eq!(alone.key(other, target) != key, apart, "{per:?} {another:?}");
        }
    }
    let per_tool = alone(&rate(vec![Per::Tool], 1, MINUTE, 1));
    let read = LimitedRequest { method: Method::ResourcesRead, ..base };
    let keys = [log, query].map(|target| per_tool.key(read, Some(target)));
    assert_eq!(keys[0], keys[1], "what is no tool counts by its method");
}

/// A caller is all of what makes them one, and nobody can choose words that lead to another's key.
#[test]
fn a_key_in_a_store_is_of_one_limit_and_one_caller_alone() {
    let known = |authority: &str, issuer: &str, subject: &str| {
        let (authority, issuer) = (authority.to_owned(), issuer.to_owned());
        let subject = subject.to_owned();
        let (groups, scopes, claims) = (BTreeSet::new(), BTreeSet::new(), Raw::object());
        Caller::Known(Arc::new(Identity {
            authority,
            issuer,
            subject,
            groups,
            scopes,
            claims,
            ..Identity::default()
        }))
    };
    let callers = [
        Caller::Parent,
        Caller::Address([127, 0, 0, 1].into()),
        known("a", "b", "c"),
        known("a", "bc", ""),
        known("ab", "", "c"),
        known("", "parent", ""),
        known("address", "127.0.0.1", ""),
        known("a", "b", "c\0"),
    ];
    let clients = ["a", "b", "tool"].map(client);
    let targets = [
        None,
        Some(LimitTarget { upstream: &"git".into(), name: "log" }),
        Some(LimitTarget { upstream: &"gitl".into(), name: "og" }),
        Some(LimitTarget { upstream: &"git".into(), name: "tools/call" }),
    ];
    let every = vec![Per::Caller, Per::Client, Per::Route, Per::Upstream, Per::Tool];
    let limit = |per: &[Per], count| rate(per.to_vec(), count, MINUTE, 1);
    let rules = [
        Rule::new(&limit(&every, 1), &["route", "/x"], 0),
        Rule::new(&limit(&every, 1), &["route", "/x"], 1),
        Rule::new(&limit(&every, 1), &["route", "/"], 0),
        Rule::new(&limit(&every, 2), &["route", "/x"], 0),
        Rule::new(&limit(&every[..4], 1), &["route", "/x"], 0),
        Rule::new(&budget(1, Window::Day), &["route", "/x"], 0),
        Rule::new(&budget(1, Window::Month), &["route", "/x"], 0),
    ];
    let (mut keys, mut buckets) = (BTreeSet::new(), 0);
    for (caller, client) in callers.iter().flat_map(|one| clients.iter().map(move |two| (one, two)))
    {
        let request = LimitedRequest {
            method: Method::ToolsCall,
            caller,
            client,
            route: &"/x".into(),
            params: &Raw::object(),
        };
        keys.extend(targets.map(|target| rules[0].shared_key(request, target)));
        buckets += targets.len();
    }
    assert_eq!(keys.len(), buckets);
    let (caller, client, params) = (&Caller::Parent, &clients[0], &Raw::object());
    let request =
        LimitedRequest { method: Method::ToolsCall, caller, client, route: &"/x".into(), params };
    let each: BTreeSet<_> = rules.iter().map(|rule| rule.shared_key(request, None)).collect();
    assert_eq!(each.len(), rules.len(), "each limit has keys of its own");
    let again = Rule::new(&limit(&every, 1), &["route", "/x"], 0);
    assert_eq!(again.shared_key(request, None), rules[0].shared_key(request, None));
}

const GATE: &str = "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n[upstreams.it]\ncommand = \"a\"\n";

async fn admit(limits: &Arc<Limits>, tool: &str) -> Result<Admission, LimitRefusal> {
    let (caller, client) = (Caller::Parent, client("a"));
    let (method, path) = (Method::ToolsCall, "/mcp".into());
    let params = &Raw::object();
    let request = LimitedRequest { method, caller: &caller, client: &client, route: &path, params };
    limits.admit(request, LimitTarget { upstream: &"it".into(), name: tool }).await
}

#[tokio::test]
async fn a_limit_that_is_written_as_before_keeps_its_buckets() {
    let (one, two) = ("{ rate = \"1/d\" }", "{ rate = \"2/d\" }");
    let limits = |list: &str| config(&format!("{GATE}limits = [{list}]\n"));
    let first = Limits::new(Arc::default(), Tasks::default()).next(&limits(one));
    assert!(admit(&first, "x").await.is_ok());
    let second = first.next(&limits(&format!("{two}, {one}")));
    assert!(admit(&second, "x").await.is_err(), "moved down, it is the same");
    let third = second.next(&limits(two));
    assert!(admit(&third, "x").await.is_ok());
    let fourth = third.next(&limits(&format!("{two}, {one}")));
    assert!(admit(&fourth, "x").await.is_ok(), "it was gone, and begins anew");
    assert!(admit(&fourth, "x").await.is_err());
    let tool = config(&format!("{GATE}tools.x.limits = [{one}]\n"));
    let fifth = fourth.next(&tool);
    assert!(admit(&fifth, "x").await.is_ok(), "of another section, it is another");
    assert!(admit(&fifth.next(&tool), "x").await.is_err());
    assert!(admit(&fifth.next(&tool), "y").await.is_ok());
}

#[tokio::test]
async fn a_cost_is_taken_out_of_every_limit_but_places() {
    let toml = format!(
        "{GATE}limits = [{{ rate = \"10/d\" }}]\nin_flight.max = 3\n\
         tools.dear = {{ cost = 5 }}\n"
    );
    let limits = Limits::new(Arc::default(), Tasks::default()).next(&config(&toml));
    let _both = [admit(&limits, "dear").await.unwrap(), admit(&limits, "dear").await.unwrap()];
    let refused = admit(&limits, "cheap").await.unwrap_err();
    assert!(matches!(refused, LimitRefusal::Rate(_)));
}

#[test]
fn an_argument_says_what_a_call_costs() {
    let by = Cost::Argument(vec!["of".to_owned(), "ids".to_owned()]);
    let digits = "9".repeat(400);
    for (ids, wanted) in [
        (&*digits, u32::MAX),
        ("1e400", u32::MAX),
        ("-1e400", 1),
        ("[1,\"2\",{}]", 3),
        ("[]", 1),
        ("2.1", 3),
        ("0", 1),
        ("-7", 1),
        ("1e99", u32::MAX),
        ("\"many\"", 1),
        ("{\"a\":1}", 1),
        ("null", 1),
        ("[1],\"ids\":[2,3],\"\\u0069ds\":[4]", 4),
    ] {
        let params = Raw::trusted(format!("{{\"arguments\":{{\"of\":{{\"ids\":{ids}}}}}}}"));
        assert_eq!(cost(&by, &params).get(), wanted, "{ids}");
    }
    assert_eq!(cost(&by, &Raw::object()).get(), 1);
}

#[tokio::test]
async fn places_are_given_back_and_outlive_a_reload() {
    let toml = format!("{GATE}in_flight.max = 1\n");
    let first = Limits::new(Arc::default(), Tasks::default()).next(&config(&toml));
    let held = admit(&first, "x").await.unwrap();
    let second = first.next(&config(&toml));
    let refused = admit(&second, "x").await.unwrap_err();
    assert_eq!(refused, LimitRefusal::InFlight);
    drop(held);
    assert!(admit(&second, "x").await.is_ok());
}

proptest! {
    /// In whatever window, no more comes through than a burst and the window's share.
    #[test]
    fn no_more_is_admitted_than_the_rate_allows(
        count in 1u32..1_000,
        period in prop::sample::select(vec![1u64, 60, 3_600, 86_400]),
        burst in 1u32..50,
        asks in vec((0u64..5_000_000_000, 1u32..50), 1..100),
    ) {
        let period = Duration::from_secs(period);
        let rules = [rate(EVERYONE, count, period, burst), rate(EVERYONE, 7, MINUTE, 50)];
        let rules = rules.map(|limit| alone(&limit));
        let (mut now, mut admitted) = (Duration::ZERO, Vec::new());
        for (wait, cost) in asks {
            now += Duration::from_nanos(wait);
            let cost = cost.min(burst);
            if take(&[&rules[0], &rules[1]], 1, cost, at(now)).is_ok() {
                admitted.push((now, u128::from(cost)));
            }
        }
        for (from, (begin, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for (end, cost) in &admitted[from..] {
                sum += cost;
                let share = u128::from(count) * (*end - *begin).as_nanos();
                let burst = u128::from(burst) * period.as_nanos();
                prop_assert!(sum * period.as_nanos() <= burst + share);
            }
        }
    }

    /// Whoever waits as long as told is let in, and a nanosecond earlier is not.
    #[test]
    fn a_refusal_says_exactly_when(
        count in 1u32..1_000,
        burst in 1u32..50,
        costs in vec(1u32..50, 1..50),
    ) {
        let meter = Meter::new(Bound::Rate { count, period: MINUTE, burst });
        let (mut bucket, mut now) = (None, Duration::from_secs(1));
        for cost in costs {
            let cost = NonZeroU32::new(cost.min(burst)).unwrap();
            if let Err(short) = meter.take(bucket, at(now), cost) {
                let Shortage::For(wait) = short else { panic!("{cost} is in every bucket") };
                let early = now + wait - Duration::from_nanos(1);
                prop_assert!(meter.take(bucket, at(early), cost).is_err());
                now += wait;
            }
            let taken = meter.take(bucket, at(now), cost);
            prop_assert!(taken.is_ok());
            bucket = taken.ok();
        }
    }
}
