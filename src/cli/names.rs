//! `tollgate names`: what each name of a route leads to, by the ledger in the state folder.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::{
    app::{
        self,
        names::{self, KnownName},
    },
    call::ListKind,
    catalog::ledger::Owner,
};

use super::{
    output::{say, show, start_failed},
    table,
};

#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArguments,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// List the names that were served, and what each leads to
    List(ListArguments),
    /// Free names, so that entries of other upstreams may have them
    Release(ReleaseArguments),
    /// Give a name to an entry for good, whoever had it
    Pin(PinArguments),
    /// Write a route's names as a file for its key `names_file`, which gives them for good
    Export(ExportArguments),
}

#[derive(Debug, Clone, clap::Args)]
struct ListArguments {
    /// The route of the configuration; all if none is named
    #[arg(long)]
    route: Option<String>,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct ReleaseArguments {
    /// The names
    #[arg(required = true)]
    names: Vec<String>,
    /// The route of the configuration; all if none is named
    #[arg(long)]
    route: Option<String>,
    /// Only names of this kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

#[derive(Debug, Clone, clap::Args)]
struct PinArguments {
    /// The name that clients shall know it by
    name: String,
    /// Its upstream
    upstream: String,
    /// The upstream's own name for it; the same if none is given
    own: Option<String>,
    /// The route of the configuration; its first one if none is named
    #[arg(long)]
    route: Option<String>,
    /// The kind of the entry
    #[arg(long, value_enum, default_value = "tool")]
    kind: Kind,
}

#[derive(Debug, Clone, clap::Args)]
struct ExportArguments {
    /// The route of the configuration; its first one if none is named
    #[arg(long)]
    route: Option<String>,
    /// The file to write; without it the names are printed
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Tool,
    Prompt,
    Resource,
    Template,
}

impl Kind {
    fn list(self) -> ListKind {
        match self {
            Self::Tool => ListKind::Tools,
            Self::Prompt => ListKind::Prompts,
            Self::Resource => ListKind::Resources,
            Self::Template => ListKind::Templates,
        }
    }
}

/// Runs a command on the names of a route.
///
/// # Errors
/// The configuration is wrong, a name is not held, or the ledger cannot be written.
pub fn run(config: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        None => list(config, &arguments.list),
        Some(Command::List(arguments)) => list(config, arguments),
        Some(Command::Release(arguments)) => release(config, arguments),
        Some(Command::Pin(arguments)) => pin(config, arguments),
        Some(Command::Export(arguments)) => export(config, arguments),
    }
}

fn list(config: &Path, arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let known = known(config, arguments.route.as_deref())?;
    if arguments.json {
        let each = known.iter().map(|one| {
            json!({
                "route": one.route,
                "kind": one.kind_word(),
                "name": one.name,
                "upstream": one.holder.owner.upstream,
                "own": one.holder.owner.own,
                "by": one.holder.by,
                "since": one.holder.since,
                "unlisted": one.holder.unlisted,
                "free": one.holder.free,
            })
        });
        say(&serde_json::to_string_pretty(&each.collect::<Vec<_>>())?);
        return Ok(ExitCode::SUCCESS);
    }
    let rows = known.iter().map(|one| {
        let owner = &one.holder.owner;
        let own = if owner.own == one.name { String::new() } else { owner.own.clone() };
        let kind = one.kind_word().to_owned();
        vec![
            one.route.to_string(),
            kind,
            one.name.clone(),
            owner.upstream.to_string(),
            own,
            one.note(),
        ]
    });
    say(&table::table(&["route", "kind", "name", "upstream", "own name", ""], rows));
    Ok(ExitCode::SUCCESS)
}

fn release(config: &Path, arguments: &ReleaseArguments) -> anyhow::Result<ExitCode> {
    let known = known(config, arguments.route.as_deref())?;
    let wanted = |one: &&KnownName| {
        let is_kind = arguments.kind.is_none_or(|kind| kind.list() == one.kind);
        is_kind && arguments.names.contains(&one.name) && !one.holder.free
    };
    let found: Vec<_> = known.iter().filter(wanted).collect();
    let names: BTreeSet<_> = found.iter().map(|one| &one.name).collect();
    if let Some(missing) = arguments.names.iter().find(|name| !names.contains(name)) {
        bail!("`{missing}` is no name that is held: `tollgate names` lists them");
    }
    let ledger = names::ledger(config).map_err(start_failed)?;
    for one in found {
        app::runtime()?.block_on(names::release(&ledger, one)).map_err(start_failed)?;
        say(&format!("{}: `{}` is free", one.route, one.name));
    }
    show("a gate that runs on this state folder takes it over within seconds");
    Ok(ExitCode::SUCCESS)
}

fn pin(config: &Path, arguments: &PinArguments) -> anyhow::Result<ExitCode> {
    let PinArguments { name, upstream, own, route, kind } = arguments;
    let path = names::route(config, route.as_deref(), upstream).map_err(start_failed)?;
    let ledger = names::ledger(config).map_err(start_failed)?;
    let own = own.as_deref().unwrap_or(name);
    let owner = Owner { upstream: upstream.as_str().into(), own: own.to_owned() };
    let pinning = names::pin(&ledger, &path, kind.list(), name, owner);
    let before = app::runtime()?.block_on(pinning).map_err(start_failed)?;
    say(&format!("{path}: `{name}` leads to `{own}` of `{upstream}` for good"));
    if let Some(before) = before {
        show(&format!("it led to `{}` of `{}`", before.own, before.upstream));
    }
    show("a gate that runs on this state folder takes it over within seconds");
    Ok(ExitCode::SUCCESS)
}

fn export(config: &Path, arguments: &ExportArguments) -> anyhow::Result<ExitCode> {
    let text = names::exported(config, arguments.route.as_deref()).map_err(start_failed)?;
    match &arguments.output {
        None => say(text.trim_end()),
        Some(path) => {
            let mut new = std::fs::File::create(path)
                .with_context(|| format!("cannot make {}", path.display()))?;
            new.write_all(text.as_bytes())?;
            let file = path.display();
            show(&format!("the route takes them by its key: names_file = \"{file}\""));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn known(config: &Path, route: Option<&str>) -> anyhow::Result<Vec<KnownName>> {
    let known = names::known(config, route).map_err(start_failed)?;
    if known.is_empty() {
        show("no name was served yet");
    }
    Ok(known)
}
