//! `tollgate key new`: makes an API key, shows it once, and keeps its hash in the configuration.

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};

use crate::{auth::NewKey, call::clock, config};

use super::{say, show};

const DAY_SECONDS: u64 = 24 * 60 * 60;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Make a key: it is printed once, and its hash is added to the configuration
    New(Arguments),
}

#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Whose it is; a caller may have several keys, so that one can take another's place
    #[arg(long)]
    caller: String,
    /// The `[auth.NAME]` that it belongs to; made where there is none
    #[arg(long, default_value = "keys")]
    auth: String,
    /// Words for people
    #[arg(long)]
    label: Option<String>,
    /// A group that the caller is in; several times for several
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A scope that the key has; several times for several
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Days until it expires; without it, it never does
    #[arg(long)]
    days: Option<u64>,
    /// Print the section instead of adding it to the configuration
    #[arg(long)]
    print: bool,
}

pub fn run(path: &Path, command: &Command) -> anyhow::Result<ExitCode> {
    let Command::New(arguments) = command;
    let key = NewKey::make();
    let section = section(&key, arguments);
    if arguments.print {
        show(&section);
        say(&key.key);
        return Ok(ExitCode::SUCCESS);
    }
    let before = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read {}; `--print` prints the section instead", path.display())
    })?;
    let added = addition(&before, &section, &arguments.auth);
    if let Err(problems) =
        config::parse(&path.to_string_lossy(), &format!("{before}{added}"), &config::environment)
    {
        show(&problems.render(false));
        bail!("nothing was added: {} problem(s) in {}", problems.len(), path.display());
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(added.as_bytes())
        .with_context(|| format!("cannot write to {}", path.display()))?;
    show(&format!(
        "added [auth.{0}.keys.{1}] to {2}; the key is shown only now. Routes take it by \
         auth = [\"{0}\"]",
        arguments.auth,
        key.id,
        path.display()
    ));
    say(&key.key);
    Ok(ExitCode::SUCCESS)
}

/// What is to be appended to a configuration.
fn addition(before: &str, section: &str, auth: &str) -> String {
    let newline = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let known = before.lines().any(|line| {
        let line: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        line.starts_with(&format!("[auth.{auth}]")) || line.starts_with(&format!("[auth.{auth}."))
    });
    let head = if known { String::new() } else { format!("\n[auth.{auth}]\nkind = \"keys\"\n") };
    format!("{newline}{head}\n{section}")
}

fn section(key: &NewKey, arguments: &Arguments) -> String {
    let mut text = format!("[auth.{}.keys.{}]\n", arguments.auth, key.id);
    let quoted = |text: &String| toml::Value::from(text.as_str()).to_string();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
    line("hash", format!("\"{}\"", key.hash));
    line("caller", quoted(&arguments.caller));
    arguments.label.iter().for_each(|label| line("label", quoted(label)));
    for (key, words) in [("groups", &arguments.groups), ("scopes", &arguments.scopes)] {
        if !words.is_empty() {
            line(key, format!("[{}]", words.iter().map(quoted).collect::<Vec<_>>().join(", ")));
        }
    }
    if let Some(days) = arguments.days {
        let until = clock::unix_seconds().saturating_add(days.saturating_mul(DAY_SECONDS));
        line("expires", format!("\"{}\"", clock::rfc3339(until)));
    }
    text
}
