//! Replicas and successors: what of them belongs together.

use std::{collections::HashSet, ops::Range, time::Duration};

use toml::Spanned;

use crate::config::{
    Back, Canary, Ejection, Health, Replicas, Shadow,
    problem::{Problem, nearest},
    reader::Reader,
    schema,
    value::Key,
};

/// What is said of several addresses; of a single one it would mean nothing.
pub fn replicas(section: &schema::Upstream, reader: &mut Reader<'_>) -> Replicas {
    let (span, urls) = (&section.url.span, section.url.value.as_ref());
    let mut known = HashSet::new();
    for url in urls.iter().flat_map(|urls| &urls.0).filter(|url| !known.insert(url.as_str())) {
        let title = format!("`{url}` is named twice");
        reader.problem(Problem::new(span.clone().unwrap_or_default(), title, "remove one"));
    }
    let urls = urls.map(|urls| urls.0.clone()).filter(|urls| 1 < urls.len()).unwrap_or_default();
    let several = [
        ("health", &section.health.span),
        ("ejection", &section.ejection.span),
        ("hedge", &section.hedge.span),
    ];
    for (key, span) in several.into_iter().filter(|_| urls.is_empty()) {
        if let Some(span) = span {
            let title = format!("`{key}` means nothing for a single server");
            let help = "name its replicas: url = [\"http://a/mcp\", \"http://b/mcp\"]";
            reader.problem(Problem::new(span.clone(), title, help));
        }
    }
    let health = section.health.value.as_ref().map(|health| Health {
        every: health.every.value.0,
        timeout: health.timeout.value.0,
        unhealthy: count(health.unhealthy.value.0),
        healthy: count(health.healthy.value.0),
    });
    Replicas { urls, health, ejection: ejection(&section.ejection, reader) }
}

fn ejection(section: &Key<schema::Ejection>, reader: &mut Reader<'_>) -> Ejection {
    let schema::Ejection { base, base_max, .. } = &section.value;
    if let Some(span) = base.span.as_ref().or(base_max.span.as_ref())
        && base_max.value.0 < base.value.0
    {
        let title = format!("`base` is {}, but `base_max` is {}", base.value, base_max.value);
        let help = "make `base` shorter than `base_max`, or `base_max` longer";
        reader.problem(Problem::new(span.clone(), title, help));
    }
    let section = &section.value;
    Ejection {
        max: section.max.value.0,
        consecutive: count(section.consecutive.value.0),
        failure_rate: section.failure_rate.value.0,
        calls_min: count(section.calls_min.value.0),
        interval: section.interval.value.0,
        base: section.base.value.0,
        base_max: section.base_max.value.0,
    }
}

/// How long a safe call waits for one replica before another is asked too.
pub fn hedge(
    section: Option<&Spanned<schema::Hedge>>,
    reader: &mut Reader<'_>,
) -> Option<Duration> {
    let section = section?;
    let after = section.get_ref().after.value.map(|after| after.0);
    if after.is_none() && !reader.faults(&section.span()) {
        let help = "say after how long: hedge = { after = \"300ms\" }";
        reader.problem(Problem::new(section.span(), "`after` is missing", help));
    }
    after
}

/// A successor by weight.
pub fn canary(
    section: Option<Spanned<schema::Canary>>,
    own: &str,
    known: &[String],
    reader: &mut Reader<'_>,
) -> Option<Canary> {
    let section = section?;
    let at = section.span();
    let schema::Canary { upstream, weight, back } = section.into_inner();
    if weight.value.is_none() && weight.span.is_none() && !reader.faults(&at) {
        let help = "say how many percent of callers it gets: weight = 10";
        reader.problem(Problem::new(at.clone(), "`weight` is missing", help));
    }
    let upstream = successor(upstream, &at, own, known, reader)?;
    let (span, back) = (back.span, back.value);
    if back.window.value.0 < back.calls_min.value.0 {
        let span = back.calls_min.span.or(back.window.span).or(span).unwrap_or(at);
        let (most, least) = (back.window.value.0, back.calls_min.value.0);
        let title = format!("`window` is {most}, but `calls_min` is {least}");
        let help = "make `window` as large as `calls_min`, or `calls_min` smaller";
        reader.problem(Problem::new(span, title, help));
    }
    let back = Back {
        failure_rate: back.failure_rate.value.0,
        slow: back.slow.value.map(|slow| slow.0),
        slow_rate: back.slow_rate.value.0,
        window: back.window.value.0,
        calls_min: back.calls_min.value.0,
        tool_errors: back.tool_errors.value,
    };
    Some(Canary { upstream, weight: count(weight.value?.0), back })
}

/// A successor that is only compared.
pub fn shadow(
    section: Option<Spanned<schema::Shadow>>,
    own: &str,
    known: &[String],
    reader: &mut Reader<'_>,
) -> Option<Shadow> {
    let section = section?;
    let at = section.span();
    let schema::Shadow { upstream, share, in_flight_max } = section.into_inner();
    let upstream = successor(upstream, &at, own, known, reader)?;
    let (share, in_flight_max) = (share.value.0, in_flight_max.value.0);
    Some(Shadow { upstream, share, in_flight_max })
}

fn successor(
    name: Key<Option<String>>,
    at: &Range<usize>,
    own: &str,
    known: &[String],
    reader: &mut Reader<'_>,
) -> Option<String> {
    let Some(text) = name.value else {
        if name.span.is_none() && !reader.faults(at) {
            let help = "name the successor's section: upstream = \"…\"";
            reader.problem(Problem::new(at.clone(), "`upstream` is missing", help));
        }
        return None;
    };
    let span = name.span.unwrap_or_else(|| at.clone());
    if text == own {
        let help = "name another upstream: a server does not succeed itself";
        reader.problem(Problem::new(span, format!("`{text}` is this very upstream"), help));
    } else if !known.contains(&text) {
        let help = nearest(&text, known.iter().map(String::as_str));
        reader.problem(Problem::new(span, format!("there is no upstream `{text}`"), help));
    }
    Some(text)
}

/// The bounds of the keys fit in it.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
