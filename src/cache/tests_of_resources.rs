//! For how long resources are kept, and what becomes of them when the configuration changes.

use std::sync::Arc;

use serde_json::Value;

use crate::mcp::{raw::Raw, version::Era};

use super::{
    tests::{JOBS, read, resource},
    *,
};

/// A resource's result, kept by this cache under keys of its own.
fn keep_resource(cache: &Cache<&'static str>, ttl_ms: u64) -> Option<CachedResult> {
    let asked = resource();
    let Lookup::Join(JoinOutcome::Leader(lead), _) = cache.lookup(asked.question()) else {
        return None;
    };
    let result = Raw::trusted(format!(r#"{{"contents":[],"ttlMs":{ttl_ms}}}"#));
    let kept = cache.cacheable(lead.subject(), &result, Era::Modern)?;
    lead.complete(kept.clone());
    Some(kept)
}

#[test]
fn the_first_answer_says_no_longer_than_it_is_kept() {
    for (max, said, want) in [
        ("1s", 60_000, Some(1_000)),
        ("1s", 1_001, Some(1_000)),
        ("1s", 1_000, None),
        ("1s", 1, None),
        ("24h", 60_000, None),
        ("24h", 86_400_001, Some(86_400_000)),
    ] {
        let config = read(&format!("{JOBS}[cache]\nhint_max = \"{max}\"\n"));
        let cache = Cache::new(Arc::default()).next(&config, |_| false);
        let kept = keep_resource(&cache, said).unwrap();
        let first = kept.first_served().map(|raw| raw.read::<Value>().unwrap());
        assert_eq!(first.map(|first| first["ttlMs"].as_u64().unwrap()), want, "{max} {said}");
    }
}

#[test]
fn nothing_old_is_served_after_resources_were_off_or_are_kept_for_less() {
    let with = |keys: &str| read(&format!("{JOBS}[cache]\n{keys}\n"));
    let is_hit =
        |cache: &Cache<&str>| matches!(cache.lookup(resource().question()), Lookup::Hit(_));
    for (edits, want) in [
        (vec![""], true),
        (vec!["bytes_max = \"8MiB\"", ""], true),
        (vec!["resources = \"off\"", ""], false),
        (vec!["resources = \"off\"", "resources = \"caller\""], false),
        (vec!["resources = \"caller\"", "resources = \"shared\""], true),
        (vec!["hint_max = \"1s\""], true),
    ] {
        let mut cache = Cache::new(Arc::default()).next(&with(""), |_| false);
        assert!(keep_resource(&cache, 60_000).is_some());
        for edit in &edits {
            cache = cache.next(&with(edit), |_| true);
        }
        assert_eq!(is_hit(&cache), want, "{edits:?}");
        if let Lookup::Hit(kept) = cache.lookup(resource().question()) {
            let served = kept.served().read::<Value>().unwrap()["ttlMs"].as_u64().unwrap();
            let is_short = edits == ["hint_max = \"1s\""];
            assert_eq!(served <= 1_000, is_short, "{edits:?} {served}");
        }
    }
}
