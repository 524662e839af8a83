//! The command `tollgate import`: files in, one `routes.toml` and notes out.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};

use crate::{
    cli::{
        file,
        output::{is_coloured, say, show},
    },
    config,
};

use super::{
    document, entry, places,
    write::{self, OutputFile, ReadServer},
};

/// The name of standard input.
const INPUT: &str = "-";

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  tollgate import ~/.cursor/mcp.json --output routes.toml
  tollgate import ~/.claude.json ~/.codex/config.toml --merge routes.toml
  curl -s https://example.com/server.json | tollgate import -")]
pub struct Arguments {
    /// Clients' files: JSON with or without comments, TOML or YAML; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Write here instead of to standard output; never over a file that exists
    #[arg(long, short, value_name = "FILE", conflicts_with = "merge")]
    pub(super) output: Option<PathBuf>,
    /// Add to this routes.toml: what is in it stays, with its comments and its order
    #[arg(long, value_name = "FILE")]
    pub(super) merge: Option<PathBuf>,
    /// The route that they are added to; without it `/mcp`, or the only one
    #[arg(long, value_name = "PATH")]
    pub(super) route: Option<String>,
    /// Add the built-in server `gate`, by which agents see how the servers are
    #[arg(long)]
    pub(super) gate: bool,
}

/// A client's file.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// The name by which it was given.
    pub(super) name: String,
    pub(super) text: String,
}

/// A `routes.toml`, and what its reader should know of how it was made.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) toml: String,
    pub(super) notes: Vec<String>,
}

/// Imports the files, and writes what they become.
///
/// # Errors
/// A file cannot be read or written, or the result would be no configuration.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let sources: Vec<SourceFile> =
        arguments.files.iter().map(|file| source(file)).collect::<Result<_, _>>()?;
    let before = arguments.merge.as_deref().map(text_of).transpose()?;
    let target = OutputFile {
        before: before.as_deref(),
        route: arguments.route.as_deref(),
        gate: arguments.gate,
    };
    let imported = import(&sources, &target).map_err(anyhow::Error::msg)?;
    let place = arguments.merge.as_deref().or(arguments.output.as_deref());
    let name = place.unwrap_or(Path::new("routes.toml")).to_string_lossy();
    if let Err(problems) = config::parse(&name, &imported.toml, &config::environment) {
        show(&problems.render(is_coloured()));
        bail!("nothing was written: {} problem(s) in what {name} would be", problems.len());
    }
    match (&arguments.merge, &arguments.output) {
        (Some(path), _) => {
            file::replace(path, &imported.toml)?;
            if fs::metadata(path)?.permissions().mode() & 0o044 != 0 {
                show(&format!("note: {name} may be read by others than its owner"));
            }
        }
        (None, Some(path)) => file::make(path, &imported.toml).with_context(|| {
            format!("cannot make {}; `--merge` adds to a file that exists", path.display())
        })?,
        (None, None) => say(imported.toml.trim_end()),
    }
    for note in &imported.notes {
        show(&format!("note: {note}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The servers of all the files in one `routes.toml`.
pub(super) fn import(sources: &[SourceFile], target: &OutputFile<'_>) -> Result<Imported, String> {
    let mut servers = Vec::new();
    let mut notes = Vec::new();
    for SourceFile { name, text } in sources {
        let file = (name != INPUT).then(|| Path::new(name));
        let (root, format) =
            document::read(file, text).map_err(|error| format!("{name}: {error}"))?;
        let places = places::find(&root, format);
        if places.servers.is_empty() {
            notes.push(format!("{name}: has no servers"));
        }
        notes.extend(places.notes.iter().map(|note| format!("{name}: {note}")));
        servers.extend(places.servers.iter().map(|server| ReadServer {
            file: name.clone(),
            entry: entry::read(server, &places.inputs, file),
        }));
    }
    if servers.is_empty() {
        return Err(
            "no server in any file: docs/import.md says where each client keeps them".to_owned()
        );
    }
    let (toml, more) = write::write(servers, target)?;
    notes.extend(more);
    Ok(Imported { toml, notes })
}

fn source(path: &Path) -> anyhow::Result<SourceFile> {
    Ok(SourceFile { name: path.to_string_lossy().into_owned(), text: text_of(path)? })
}

/// The text of a file, or of standard input.
fn text_of(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let most = document::FILE_BYTES_MAX;
    let read = if path == Path::new(INPUT) {
        std::io::stdin().lock().take(most + 1).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text))
    };
    let bytes = read.with_context(|| format!("cannot read {}", path.display()))?;
    if u64::try_from(bytes).is_ok_and(|bytes| most < bytes) {
        bail!("{} has more than {most} bytes", path.display());
    }
    Ok(text)
}
