//! Warnings of `tollgate check`: what is right in a configuration and yet hardly meant.

use std::sync::Arc;

use crate::{
    call::ListKind,
    catalog::{self, Ledger, Naming, Part},
    config::{self, Config, Filter, Route},
    snapshot,
    store::StateFolder,
};

use super::offline::idle;

/// Lines about collisions of names that are shown of one route.
const COLLISIONS_MAX: usize = 20;

/// Everything to warn of, a line each. What upstreams list is known from the last time that they
/// were open; nothing is opened, and nothing written.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = config::advice(config);
    // The folder would be made.
    if !config.server.state.is_dir() {
        return warnings;
    }
    let Ok(store) = StateFolder::open(&config.server.state) else { return warnings };
    let context = Arc::new(idle(store.clone()));
    let ledger = Ledger::open(&store, Arc::clone(&context.counters));
    let part = |section| snapshot::offline(section, &context, &store, &config.server.limits);
    let parts: Vec<_> = config.upstreams.iter().map(part).collect();
    for (section, part) in config.upstreams.iter().zip(&parts) {
        of_upstream(section, part, &mut warnings);
    }
    for route in &config.routes {
        let names = route.upstreams.iter();
        let own = names.filter_map(|name| parts.iter().find(|part| part.upstream.name() == name));
        let own: Vec<_> = own.cloned().collect();
        let naming = Naming::of(route, &own, &ledger.book().route(&route.path), true);
        of_route(route, &own, &naming, &mut warnings);
    }
    warnings
}

/// Patterns of an upstream's own section that fit nothing that it lists.
fn of_upstream(section: &config::Upstream, part: &Part, warnings: &mut Vec<String>) {
    let Some(listing) = &part.listing else { return };
    let keys = |kind: ListKind| {
        let more = if kind == ListKind::Tools { &listing.asked_tools[..] } else { &[] };
        listing.items(kind).iter().chain(more).map(|item| item.key.as_str()).collect::<Vec<_>>()
    };
    let [tools, prompts] = [ListKind::Tools, ListKind::Prompts].map(keys);
    let resources = [keys(ListKind::Resources), keys(ListKind::Templates)].concat();
    let place = format!("upstreams.{}", section.name);
    let mut warn = |place: &str, pattern: &str, keys: &[&str]| {
        if !keys.iter().any(|key| catalog::matches(pattern, key)) {
            warnings.push(nothing(place, pattern, &[]));
        }
    };
    for (word, filter, keys) in [
        ("tools", &section.tools, &tools),
        ("prompts", &section.prompts, &prompts),
        ("resources", &section.resources, &resources),
    ] {
        for (key, pattern) in patterns(filter) {
            warn(&format!("{place}.{word}.{key}"), pattern, keys);
        }
    }
    for tool in section.tool_settings.keys() {
        warn(&format!("{place}.tools"), tool, &tools);
    }
    let all = [tools, prompts, resources].concat();
    for (tag, patterns) in &section.tags {
        for pattern in patterns {
            warn(&format!("{place}.tags.{tag}"), pattern, &all);
        }
    }
}

/// Patterns of a route that fit nothing that is known, and names that are others than their own.
fn of_route(route: &Route, parts: &[Part], naming: &Naming, warnings: &mut Vec<String>) {
    let unknown = parts.iter().filter(|part| part.listing.is_none());
    let unknown: Vec<_> = unknown.map(|part| part.upstream.name().as_str()).collect();
    if unknown.len() == parts.len() {
        return;
    }
    for (word, filter, kinds) in [
        ("tools", &route.tools, &[ListKind::Tools][..]),
        ("prompts", &route.prompts, &[ListKind::Prompts]),
        ("resources", &route.resources, &[ListKind::Resources, ListKind::Templates]),
    ] {
        for (key, pattern) in patterns(filter) {
            let fits = |kind: &ListKind| match key {
                "deny" => naming.denies_by(*kind, pattern),
                "rename" => naming.renames(*kind, pattern),
                _ => naming.shows_by(*kind, pattern),
            };
            if !kinds.iter().any(fits) {
                let place = format!("routes.\"{}\".{word}.{key}", route.path);
                warnings.push(nothing(&place, pattern, &unknown));
            }
        }
    }
    let path = &route.path;
    let others = naming.collisions.iter().map(|one| {
        let shown = &one.name;
        let owner = &one.owner;
        let why = &one.why;
        format!("{path}: `{}` of `{}` is shown as `{shown}`: {why}", owner.own, owner.upstream)
    });
    let left_out = naming.left_out.iter().map(|problem| format!("{path}: left out: {problem}"));
    let lines: Vec<_> = left_out.chain(others).collect();
    warnings.extend(lines.iter().take(COLLISIONS_MAX).cloned());
    if COLLISIONS_MAX < lines.len() {
        warnings.push(format!("{path}: so are {} more", lines.len() - COLLISIONS_MAX));
    }
}

/// The patterns of a filter, each with its key.
fn patterns(filter: &Filter) -> impl Iterator<Item = (&'static str, &str)> {
    let allow = filter.allow.iter().map(|pattern| ("allow", pattern.as_str()));
    let deny = filter.deny.iter().map(|pattern| ("deny", pattern.as_str()));
    let hide = filter.hide.iter().map(|pattern| ("hide", pattern.as_str()));
    let rename = filter.rename.keys().map(|name| ("rename", name.as_str()));
    allow.chain(deny).chain(hide).chain(rename)
}

fn nothing(place: &str, pattern: &str, unknown: &[&str]) -> String {
    let line = format!("{place}: `{pattern}` fits nothing that is known");
    if unknown.is_empty() {
        return line;
    }
    format!("{line}; nothing is known yet of {}", unknown.join(", "))
}
