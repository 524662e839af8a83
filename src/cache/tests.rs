//! Tests what is served to whom, by the cache alone.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    call::{Caller, Client, Identity, UpstreamName},
    config::{self, Config},
    mcp::{
        method::Method,
        raw::Raw,
        version::{Era, Version},
    },
};

use super::*;

pub(super) const JOBS: &str = r#"
[routes."/mcp"]
upstreams = ["jobs"]

[upstreams.jobs]
url = "http://jobs/mcp"
"#;

pub(super) fn read(toml: &str) -> Config {
    config::parse("routes.toml", toml, &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A cache for the upstream `jobs`, whose tool `get` is kept so.
fn cache(keep: &str) -> Cache<&'static str> {
    let config = read(&format!("{JOBS}[upstreams.jobs.tools.get]\ncache = {{ {keep} }}\n"));
    Cache::new(Arc::default()).next(&config, |_| false)
}

pub(super) struct Asked {
    params: Raw,
    caller: Caller,
    client: Client,
    upstream: UpstreamName,
    method: Method,
    read_only: bool,
    vary: Option<[u8; 32]>,
}

fn from(address: [u8; 4]) -> Caller {
    Caller::Address(IpAddr::from(address))
}

fn asked(arguments: &Value) -> Asked {
    Asked {
        params: Raw::encode(&json!({ "name": "get", "arguments": arguments })),
        caller: from([127, 0, 0, 1]),
        client: Client::gateway(Version::MODERN),
        upstream: "jobs".into(),
        method: Method::ToolsCall,
        read_only: true,
        vary: None,
    }
}

pub(super) fn resource() -> Asked {
    let params = Raw::trusted(r#"{"uri":"mem://one"}"#);
    Asked { method: Method::ResourcesRead, params, ..asked(&json!({})) }
}

impl Asked {
    fn by(self, caller: &Caller) -> Self {
        Self { caller: caller.clone(), ..self }
    }

    fn raw(self, params: &str) -> Self {
        Self { params: Raw::trusted(params.to_owned()), ..self }
    }

    pub(super) fn question(&self) -> CacheQuery<'_> {
        CacheQuery {
            method: self.method,
            upstream: &self.upstream,
            name: if self.method == Method::ToolsCall { "get" } else { "mem://one" },
            definition: 1,
            read_only: self.read_only,
            params: &self.params,
            mirrored: &[],
            caller: &self.caller,
            client: &self.client,
            vary: self.vary,
        }
    }
}

fn get() -> CacheSubject {
    CacheSubject { kind: SubjectKind::Tool, upstream: "jobs".into(), name: "get".into() }
}

fn result(text: &str) -> Raw {
    Raw::encode(&json!({ "content": [{ "type": "text", "text": text }] }))
}

impl Cache<&'static str> {
    /// Answers as an upstream would that says `text`: what is served.
    fn answer(&self, asked: &Asked, text: &str) -> Raw {
        self.answer_with(asked, &result(text))
    }

    fn answer_with(&self, asked: &Asked, result: &Raw) -> Raw {
        match self.lookup(asked.question()) {
            Lookup::Hit(kept) | Lookup::Stale(kept, _) => kept.result,
            Lookup::Join(JoinOutcome::Follower(_), _) => panic!("nobody else asks"),
            Lookup::Bypass => result.clone(),
            Lookup::Join(JoinOutcome::Leader(lead), _) => {
                match self.cacheable(lead.subject(), result, Era::Modern) {
                    Some(kept) => lead.complete(kept),
                    None => lead.complete_private(),
                }
                result.clone()
            }
        }
    }

    fn lead(&self, asked: &Asked) -> FlightLeader<&'static str> {
        match self.lookup(asked.question()) {
            Lookup::Join(JoinOutcome::Leader(lead), _) => lead,
            other @ (Lookup::Bypass | Lookup::Hit(_) | Lookup::Stale(..) | Lookup::Join(..)) => {
                panic!("{other:?}")
            }
        }
    }

    fn wait(&self, asked: &Asked) -> Follower<&'static str> {
        match self.lookup(asked.question()) {
            Lookup::Join(JoinOutcome::Follower(wait), _) => wait,
            other @ (Lookup::Bypass | Lookup::Hit(_) | Lookup::Stale(..) | Lookup::Join(..)) => {
                panic!("{other:?}")
            }
        }
    }

    fn good(&self, text: &str) -> CachedResult {
        let kept = self.cacheable(&get(), &result(text), Era::Modern);
        kept.expect("it may be kept")
    }
}

#[test]
fn the_same_question_is_asked_once() {
    let cache = cache("ttl = \"10m\"");
    let ask = |arguments: Value, text: &str| cache.answer(&asked(&arguments), text);
    assert_eq!(ask(json!({ "id": 1 }), "one"), result("one"));
    assert_eq!(ask(json!({ "id": 1 }), "two"), result("one"));
    assert_eq!(ask(json!({ "id": 2 }), "three"), result("three"));
    let spelt = r#"{"_meta":{"progressToken":7}, "arguments":{"id":1.0},"name":"get"}"#;
    assert_eq!(cache.answer(&asked(&json!({})).raw(spelt), "four"), result("one"));
    let long = |number: &str| format!(r#"{{"name":"get","arguments":{{"id":{number}}}}}"#);
    for (number, text) in [("9007199254740992", "even"), ("9007199254740993", "odd")] {
        assert_eq!(cache.answer(&asked(&json!({})).raw(&long(number)), text), result(text));
    }
    let (entries, bytes) = cache.size();
    assert!(entries == 4 && 4 * 50 < bytes && bytes < 4 * 1024, "{entries} {bytes}");
}

#[test]
fn only_chosen_arguments_count() {
    let cache = cache("ttl = \"10m\", keys = [\"id\"]");
    let ask = |arguments: Value, text: &str| cache.answer(&asked(&arguments), text);
    assert_eq!(ask(json!({ "id": 1, "trace": "a" }), "one"), result("one"));
    assert_eq!(ask(json!({ "trace": "b", "id": 1 }), "two"), result("one"));
    assert_eq!(ask(json!({ "trace": "b" }), "three"), result("three"));
    assert_eq!(ask(json!({ "id": null }), "four"), result("four"), "null is not nothing");
}

#[test]
fn what_is_no_plain_question_is_passed_by() {
    let cache = cache("ttl = \"10m\", public = true");
    let pass = |params: &str| {
        let asked = asked(&json!({})).raw(params);
        matches!(cache.lookup(asked.question()), Lookup::Bypass)
    };
    for params in [
        r#"{"name":"get","arguments":{"id":1,"id":2}}"#,
        r#"{"name":"get","arguments":{"a":{"id":1,"\u0069d":2}}}"#,
        r#"{"name":"get","arguments":{},"arguments":{"id":1}}"#,
        r#"{"name":"get","name":"get"}"#,
        r#"{"name":"get","arguments":{"id":"\ud800"}}"#,
        r#"{"name":"get","inputResponses":{"q1":{}}}"#,
        r#"{"name":"get","requestState":"s"}"#,
        r#"{"name":"get","task":{"ttl":1}}"#,
        r#"{"name":"get","tenant":"a"}"#,
    ] {
        assert!(pass(params), "{params}");
    }
    assert!(pass(&format!(r#"{{"name":"get","arguments":{{"a":"{}"}}}}"#, "x".repeat(64 << 10))));
    assert!(!pass(r#"{"name":"get","arguments":{"id":1}}"#));
    let writes = Asked { read_only: false, ..asked(&json!({})) };
    assert!(matches!(cache.lookup(writes.question()), Lookup::Bypass));
}

#[test]
fn what_the_gate_does_not_know_makes_another_question() {
    let cache = cache("ttl = \"10m\", keys = []");
    let with = |meta: &str| asked(&json!({})).raw(&format!(r#"{{"name":"get","_meta":{meta}}}"#));
    assert_eq!(cache.answer(&with("{}"), "plain"), result("plain"));
    let same = r#"{"progressToken":1,"traceparent":"00-1-2-01"}"#;
    assert_eq!(cache.answer(&with(same), "again"), result("plain"));
    let tenant = r#"{"com.example/tenant":"a"}"#;
    assert_eq!(cache.answer(&with(tenant), "tenant"), result("tenant"));
    let mut can = asked(&json!({}));
    can.client.capabilities = Raw::trusted(r#"{"elicitation":{}}"#);
    assert_eq!(cache.answer(&can, "can be asked"), result("can be asked"));
    let old = Client { version: Version::V2024_11_05, ..can.client.clone() };
    assert_eq!(cache.answer(&Asked { client: old, ..can }, "old"), result("old"));
    let other = asked(&json!({}));
    let changed = CacheQuery { definition: 2, ..other.question() };
    assert!(matches!(cache.lookup(changed), Lookup::Join(JoinOutcome::Leader(_), None)));
}

#[test]
fn what_is_not_whole_is_not_kept() {
    let cache = cache("ttl = \"10m\"");
    for (at, text) in [
        r#"{"content":[],"isError":true}"#,
        r#"{"content":[],"is\u0045rror":true}"#,
        r#"{"resultType":"input_required","inputRequests":{}}"#,
        r#"{"resultType":"task","taskId":"1"}"#,
        r#"{"task":{"taskId":"1"}}"#,
        r#"{"resultType":"partial"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let asked = asked(&json!({ "at": at }));
        let said = Raw::trusted(text);
        assert_eq!(cache.answer_with(&asked, &said), said);
        assert_eq!(cache.answer(&asked, "later"), result("later"), "{text}");
    }
}

#[test]
fn resources_go_by_the_hints_of_their_server() {
    let keeps = |settings: &str, hints: &str, era: Era| {
        let config = read(&format!("{JOBS}[cache]\n{settings}\n"));
        let cache: Cache<&str> = Cache::new(Arc::default()).next(&config, |_| false);
        let result = Raw::trusted(format!(r#"{{"contents":[]{hints}}}"#));
        let subject = CacheSubject {
            kind: SubjectKind::Resource,
            upstream: "jobs".into(),
            name: "mem://one".into(),
        };
        cache
            .cacheable(&subject, &result, era)
            .map(|kept| (kept.retention.as_millis(), kept.public))
    };
    let public = r#","ttlMs":60000,"cacheScope":"public""#;
    let private = r#","ttlMs":60000,"cacheScope":"private""#;
    assert_eq!(keeps("", public, Era::Modern), Some((60_000, true)));
    assert_eq!(keeps("", private, Era::Modern), Some((60_000, false)));
    assert_eq!(keeps("", r#","ttlMs":60000"#, Era::Modern), Some((60_000, false)));
    assert_eq!(keeps("resources = \"caller\"", public, Era::Modern), Some((60_000, false)));
    assert_eq!(keeps("hint_max = \"1s\"", public, Era::Modern), Some((1_000, true)));
    for none in ["", r#","ttlMs":0"#, r#","ttlMs":-1"#, r#","ttlMs":"60000""#] {
        assert_eq!(keeps("", none, Era::Modern), None, "{none}");
    }
    assert_eq!(keeps("", public, Era::Legacy), None, "the words are of 2026-07-28");
}

#[test]
fn what_is_left_of_its_time_is_served_with_it() {
    let at = Instant::now().checked_sub(Duration::from_secs(50)).expect("the machine is older");
    let hint = Some(Duration::from_secs(60));
    let result = Raw::trusted(r#"{"contents":[],"ttlMs":60000}"#);
    let (era, lasts) = (Era::Modern, Duration::from_secs(60));
    let kept = CachedResult {
        result,
        era,
        received_at: at,
        ttl_hint: hint,
        public: false,
        retention: lasts,
    };
    let left: Value = kept.served().read().unwrap();
    let left = left["ttlMs"].as_u64().unwrap();
    assert!((1..=10_000).contains(&left), "{left}");
}

#[test]
fn another_configuration_keeps_what_is_still_right() {
    let keep = |more: &str| {
        read(&format!("{JOBS}{more}\n[upstreams.jobs.tools.get]\ncache = {{ ttl = \"10m\" }}\n"))
    };
    let first: Cache<&str> = Cache::new(Arc::default()).next(&keep(""), |_| false);
    let asked = asked(&json!({ "id": 1 }));
    first.answer(&asked, "one");
    let second = first.next(&keep("refresh = \"1m\""), |_| true);
    assert_eq!(second.answer(&asked, "two"), result("one"));
    let larger = format!("[cache]\nbytes_max = \"128MiB\"\n{JOBS}");
    let larger = read(&format!("{larger}[upstreams.jobs.tools.get]\ncache.ttl = \"5m\"\n"));
    let third = second.next(&larger, |_| true);
    assert_eq!(third.answer(&asked, "three"), result("one"), "moved over");
    assert_eq!(second.forget_one(&get()), 2, "by a call that began before the move, too");
    assert_eq!(third.answer(&asked, "three"), result("three"));
    assert_eq!(third.forget(|subject| &*subject.name == "get"), 1, "and can be forgotten");
    assert_eq!(third.answer(&asked, "four"), result("four"));
    let fourth = third.next(&keep(""), |_| false);
    assert_eq!(fourth.answer(&asked, "five"), result("five"), "another server");
}

#[test]
fn nothing_that_began_before_a_change_is_kept_after_it() {
    let cache = cache("ttl = \"10m\"");
    let asked = asked(&json!({}));
    let early = cache.lead(&asked);
    let subject = get();
    assert_eq!(cache.forget_one(&subject), 0);
    let late = cache.lead(&asked);
    early.complete(cache.good("early"));
    assert!(matches!(cache.lookup(asked.question()), Lookup::Join(JoinOutcome::Follower(_), None)));
    late.complete(cache.good("late"));
    assert_eq!(cache.answer(&asked, "other"), result("late"));
    assert_eq!(cache.forget_one(&subject), 1);
    assert_eq!(cache.size().0, 0);
}

#[test]
fn bytes_are_bounded_and_what_was_put_out_is_out_of_the_index() {
    let toml = format!("[cache]\nbytes_max = \"16KiB\"\nentry_bytes_max = \"2KiB\"\n{JOBS}");
    let config = read(&format!("{toml}[upstreams.jobs.tools.get]\ncache.ttl = \"10m\"\n"));
    let cache: Cache<&str> = Cache::new(Arc::default()).next(&config, |_| false);
    for at in 0..500 {
        cache.answer(&asked(&json!({ "at": at })), &"x".repeat(1_000));
        let (_, bytes) = cache.size();
        assert!(bytes <= 16 << 10, "{bytes}");
    }
    let (entries, _) = cache.size();
    assert!(0 < entries && entries <= 16, "{entries}");
    let large = asked(&json!({ "at": "large" }));
    cache.answer(&large, &"x".repeat(3_000));
    assert_eq!(cache.answer(&large, "again"), result("again"), "too large to be kept");
    let counts = cache.counters.read();
    assert!(450 <= counts["cache_evicted"], "{counts:?}");
    assert_eq!(counts["cache_too_large"], 1);
    assert_eq!(cache.forget(|_| true) as u64, cache.counters.read()["cache_invalidated"]);
    assert_eq!(cache.size(), (0, 0));
}

#[tokio::test]
async fn one_asks_for_all() {
    let cache = cache("ttl = \"10m\"");
    let asked = asked(&json!({}));
    let lead = cache.lead(&asked);
    let (mut first, mut second) = (cache.wait(&asked), cache.wait(&asked));
    lead.complete(cache.good("one"));
    for wait in [&mut first, &mut second] {
        let FlightResult::Cached(kept) = wait.result().await else { panic!("it is here") };
        assert_eq!(kept.result, result("one"));
    }
    let counts = cache.counters.read();
    assert_eq!((counts["cache_misses"], counts["cache_joined"]), (1, 2));
}

#[tokio::test]
async fn a_leader_that_goes_away_leaves_the_lead_to_one() {
    let cache = cache("ttl = \"10m\"");
    let asked = asked(&json!({}));
    let lead = cache.lead(&asked);
    let (mut first, mut second) = (cache.wait(&asked), cache.wait(&asked));
    drop(lead);
    assert!(matches!(first.result().await, FlightResult::Abandoned));
    assert!(matches!(second.result().await, FlightResult::Abandoned));
    let JoinOutcome::Leader(lead) = first.rejoin() else { panic!("nobody else has it") };
    let JoinOutcome::Follower(mut second) = second.rejoin() else { panic!("one leads already") };
    lead.fail("down");
    let FlightResult::Failed(why) = second.result().await else { panic!("it failed") };
    assert_eq!(why, "down");
    assert_eq!(cache.answer(&asked, "up"), result("up"), "a failure is not kept");
}

/// Texts that look like parts of others.
fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "b", "a b", "ab", "known", "\"a\"", "a\0b", "public"])
        .prop_map(str::to_owned)
}

fn caller() -> impl Strategy<Value = Caller> {
    let words = || prop::collection::btree_set(word(), 0..3);
    let claims = prop::sample::select(vec![
        r#"{"sub":"a"}"#,
        r#"{"sub":"a","tenant":"a"}"#,
        r#"{"sub":"a","tenant":"b"}"#,
    ]);
    let known = (word(), word(), word(), words(), words(), claims);
    let known = known.prop_map(|(authority, issuer, subject, groups, scopes, claims)| {
        let claims = Raw::trusted(claims);
        Caller::Known(Arc::new(Identity {
            authority,
            issuer,
            subject,
            groups,
            scopes,
            claims,
            ..Identity::default()
        }))
    });
    prop_oneof![
        6 => known,
        1 => (0u8..3).prop_map(|last| from([10, 0, 0, last])),
        1 => Just(Caller::Parent),
    ]
}

/// A configuration, whether it lets callers share, and the arguments that count.
fn settings() -> impl Strategy<Value = (String, bool, Option<BTreeSet<String>>)> {
    let keys = prop::option::of(prop::collection::btree_set("[ab]", 0..3));
    (any::<bool>(), keys, any::<bool>()).prop_map(|(public, keys, stale)| {
        let listed = keys.as_ref().map(|keys| format!(", keys = {:?}", Vec::from_iter(keys)));
        let ttl = if stale { "1ms" } else { "1h" };
        let keep = format!(
            "ttl = \"{ttl}\", stale = \"1h\", on_error = \"1h\", public = {public}{}",
            listed.unwrap_or_default()
        );
        (keep, public, keys)
    })
}

/// Digests of headers and tokens that the upstream is shown beside the params.
fn vary() -> impl Strategy<Value = Option<[u8; 32]>> {
    prop::option::of((0_u8..3).prop_map(|value| [value; 32]))
}

fn arguments() -> impl Strategy<Value = Value> {
    let value = prop::sample::select(vec![json!(1), json!("1"), json!({ "a": 1 }), json!(null)]);
    prop::collection::btree_map("[abc]", value, 0..3)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    /// Whoever asks whatever, in whatever order: what is served was said to the very same caller
    /// (unless it is everybody's), about the very same arguments (those that count).
    #[test]
    fn two_callers_never_share_a_result_unless_it_is_public(
        (keep, public, keys) in settings(),
        callers in prop::collection::vec(caller(), 1..6),
        asks in prop::collection::vec((any::<prop::sample::Index>(), arguments(), vary()), 1..40),
    ) {
        let cache = cache(&keep);
        for (who, arguments, vary) in asks {
            let caller = who.get(&callers);
            let counted = match (&keys, &arguments) {
                (Some(keys), Value::Object(all)) => {
                    all.iter().filter(|(key, _)| keys.contains(*key)).collect::<Vec<_>>()
                }
                (_, all) => all.as_object().into_iter().flatten().collect(),
            };
            let about = format!("{counted:?}");
            let own = json!({ "who": format!("{caller:?}"), "about": about, "shown": vary });
            let asked = Asked { vary, ..asked(&arguments).by(caller) };
            let served = cache.answer(&asked, &own.to_string());
            let served: Value = served.read().unwrap();
            let said: Value =
                serde_json::from_str(served["content"][0]["text"].as_str().unwrap()).unwrap();
            prop_assert_eq!(&said["about"], &Value::from(about));
            prop_assert_eq!(&said["shown"], &json!(vary), "public or not");
            prop_assert!(public || said["who"] == format!("{caller:?}"), "{}", said);
        }
    }

    /// Resources keep to the same rule; their server says who may have them.
    #[test]
    fn a_private_resource_is_its_callers(
        resources in prop::sample::select(vec!["shared", "caller", "off"]),
        callers in prop::collection::vec(caller(), 1..6),
        asks in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<bool>(), vary()), 1..40,
        ),
    ) {
        let config = read(&format!("{JOBS}[cache]\nresources = \"{resources}\"\n"));
        let cache: Cache<&str> = Cache::new(Arc::default()).next(&config, |_| false);
        for (who, public, vary) in asks {
            let caller = who.get(&callers);
            let scope = if public { "public" } else { "private" };
            let own = Raw::encode(&json!({
                "contents": [format!("{caller:?}"), vary], "ttlMs": 60_000, "cacheScope": scope,
            }));
            let asked = Asked { method: Method::ResourcesRead, vary, ..asked(&json!({})) };
            let served = cache.answer_with(&asked.raw(r#"{"uri":"mem://one"}"#).by(caller), &own);
            let served: Value = served.read().unwrap();
            let is_own = served["contents"][0] == format!("{caller:?}");
            prop_assert_eq!(&served["contents"][1], &json!(vary), "public or not");
            let shared = resources == "shared" && served["cacheScope"] == "public";
            prop_assert!(is_own || shared, "{}", served);
        }
    }
}
