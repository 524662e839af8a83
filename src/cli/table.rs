//! Tables for a terminal, plain enough for a file.

use comfy_table::{ContentArrangement, Table, presets};

use crate::{
    builtin::report::{Report, UpstreamReport},
    telemetry::printable::printable,
};

/// A table with a head; as wide as the terminal, if there is one.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head.iter().map(|title| title.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell).into_owned()));
    }
    if table.width() == Some(0) {
        // A terminal that does not know its width.
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.trim_fmt()
}

/// Shows what a gate serves: its routes, and the upstreams behind them.
pub fn report(report: &Report, base: &str) -> String {
    let number = |count: usize| if count == 0 { "-".to_owned() } else { count.to_string() };
    let routes = report.routes.iter().map(|route| {
        vec![
            format!("{base}{}", route.path),
            number(route.tools),
            number(route.prompts),
            number(route.resources),
            number(route.templates),
        ]
    });
    let upstreams = report.upstreams.iter().map(|upstream| {
        vec![
            upstream.name.clone(),
            word(&upstream.kind),
            word(&upstream.state),
            upstream.era.clone().unwrap_or_else(|| "-".to_owned()),
            number(upstream.tools),
            number(upstream.prompts),
            number(upstream.resources),
            note(upstream),
        ]
    });
    let routes = table(&["route", "tools", "prompts", "resources", "templates"], routes);
    let head = ["upstream", "kind", "state", "speaks", "tools", "prompts", "resources", ""];
    format!("{}\n\n{routes}", table(&head, upstreams))
}

fn note(upstream: &UpstreamReport) -> String {
    let error = upstream.last_error.clone().unwrap_or_default();
    match &upstream.last_words {
        Some(words) if error.is_empty() => format!("its last words: {words}"),
        Some(words) => format!("{error}; its last words: {words}"),
        None => error,
    }
}

/// Writes a value as in JSON, without quotes.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
