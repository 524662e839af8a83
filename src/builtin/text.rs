//! Reports as text, short enough for a model's context.

use std::{collections::HashSet, fmt::Write, fs, sync::LazyLock};

use super::{
    report::{ListSource, RouteReport, UpstreamReport},
    status::{GatewayStatus, TroubledUpstream},
};

/// Folders at the root of Linux (Filesystem Hierarchy Standard 3.0), macOS and usual containers.
const ROOTS: [&str; 36] = [
    "Applications",
    "Library",
    "System",
    "Users",
    "Volumes",
    "app",
    "bin",
    "boot",
    "code",
    "config",
    "data",
    "dev",
    "etc",
    "home",
    "lib",
    "lib64",
    "media",
    "mnt",
    "nix",
    "opt",
    "private",
    "proc",
    "root",
    "run",
    "sbin",
    "snap",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
    "work",
    "workdir",
    "workspace",
    "workspaces",
    "export",
];

/// Names at the root of this machine's file system, which may begin a path of it. Any other text
///  that begins with a slash is likely a part of a URL, such as where a server redirects to.
static ROOT: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let entries = fs::read_dir("/").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.chain(ROOTS.map(str::to_owned)).collect()
});

pub fn status(status: &GatewayStatus) -> String {
    let mut text = format!("Tollgate {}, up {}\n", status.version, duration(status.uptime_seconds));
    let states = status.upstreams.iter().map(|(state, count)| format!("{count} {state}"));
    line(&mut text, "upstreams: ", states);
    for TroubledUpstream { name, state, last_error } in &status.troubled {
        let error = last_error.as_deref().unwrap_or("no error is known");
        put(&mut text, format_args!("- {name} is {}: {error}\n", state.word()));
    }
    for route in &status.routes {
        put(&mut text, format_args!("route {}: {}\n", route.path, offer(route)));
        line(&mut text, "- not ready: ", route.degraded.iter().cloned());
    }
    let counters = status.counters.iter().map(|(name, count)| format!("{name} {count}"));
    line(&mut text, "counters: ", counters);
    text
}

/// A Markdown table, and below it what went wrong.
pub fn table(upstreams: &[UpstreamReport]) -> String {
    if upstreams.is_empty() {
        return "none\n".to_owned();
    }
    let mut text = "|name|kind|state|era|tools|prompts|resources|templates|calls|failures|\n\
                    |-|-|-|-|-|-|-|-|-|-|\n"
        .to_owned();
    for u in upstreams {
        let kind = u.kind.word();
        let state = u.state.word();
        let era = u.era.as_deref().unwrap_or("-");
        put(
            &mut text,
            format_args!(
                "|{}|{kind}|{state}|{era}|{}|{}|{}|{}|{}|{}|\n",
                u.name, u.tools, u.prompts, u.resources, u.templates, u.calls, u.failures
            ),
        );
    }
    for (name, error) in upstreams.iter().filter_map(|u| Some((&u.name, u.last_error.as_ref()?))) {
        put(&mut text, format_args!("last error of {name}: {error}\n"));
    }
    text
}

pub fn upstream(u: &UpstreamReport) -> String {
    let listed = match u.listed_from {
        Some(ListSource::Upstream) => "listed by itself",
        Some(ListSource::Disk) => "as last known, kept from before",
        None => "nothing is known of it",
    };
    let mut text = format!(
        "{} ({}) is {}\nprotocol: {}\nserver: {}\n\
         offers: {} tools, {} prompts, {} resources, {} templates ({listed})\n\
         calls: {}, failures: {}, restarts: {}, processes: {}\n",
        u.name,
        u.kind.word(),
        u.state.word(),
        u.era.as_deref().unwrap_or("not agreed yet"),
        u.server.as_deref().unwrap_or("not known yet"),
        u.tools,
        u.prompts,
        u.resources,
        u.templates,
        u.calls,
        u.failures,
        u.restarts,
        u.processes,
    );
    if let Some(error) = &u.last_error {
        put(&mut text, format_args!("last error: {error}\n"));
    }
    text
}

fn offer(route: &RouteReport) -> String {
    let RouteReport { tools, prompts, resources, templates, .. } = route;
    format!("{tools} tools, {prompts} prompts, {resources} resources, {templates} templates")
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    let minutes = seconds / 60;
    let hours = seconds / 3600;
    let days = seconds / 86400;
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The text with `…` for each path of a file or folder. Addresses of servers stay.
pub fn without_paths(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let within = before.is_alphanumeric() || "/.-_~\\@%+".contains(before);
        let length = if within { 0 } else { path_length(rest, before) };
        let (taken, after) = rest.split_at(length.max(c.len_utf8()));
        clean.push_str(if length == 0 { taken } else { "…" });
        before = taken.chars().last().unwrap_or(c);
        rest = after;
    }
    clean
}

/// Bytes of the path that the text begins with; 0 where it begins with none. One in quotes may have
/// blanks in it.
fn path_length(text: &str, before: char) -> usize {
    let begins = |start: &str| text.starts_with(start).then_some(start.len());
    let is_root = |rest: &str| {
        let end = |c: char| !c.is_alphanumeric() && !"._-".contains(c);
        ROOT.contains(rest.split(end).next().unwrap_or_default())
    };
    let drive = text.chars().next().filter(char::is_ascii_alphabetic);
    let drive = drive.and_then(|_| text.get(1..3)).filter(|mark| *mark == ":\\").map(|_| 3);
    let start = ["file://", "~/", "~\\"].iter().find_map(|start| begins(start)).or(drive);
    let start = start.or_else(|| text.strip_prefix('/').filter(|rest| is_root(rest)).map(|_| 1));
    let Some(start) = start else { return 0 };
    let rest = text.get(start..).unwrap_or_default();
    let quoted = "\"'`".contains(before) && rest.contains(before);
    let ends = |c: char| match quoted {
        true => c == before,
        false => c.is_whitespace() || "\"'`()[]{}<>,;:|".contains(c),
    };
    start + rest.find(ends).unwrap_or(rest.len())
}

/// Nothing at all if there are no `items`.
fn line(text: &mut String, head: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if !items.is_empty() {
        put(text, format_args!("{head}{}\n", items.join(", ")));
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}
