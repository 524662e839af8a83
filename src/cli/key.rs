//! `tollgate key new`: makes an API key, shows it once, and keeps its hash in the configuration.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use toml_edit::{Array, DocumentMut, Item, Table, Value};

use crate::{auth::NewKey, call::clock, config};

use super::output::{say, show};

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

/// Makes or lists API keys.
///
/// # Errors
/// The file of keys cannot be read or written.
pub fn run(path: &Path, command: &Command) -> anyhow::Result<ExitCode> {
    let Command::New(arguments) = command;
    let key = NewKey::make();
    if arguments.print {
        show(&alone(&key, arguments));
        say(&key.key);
        return Ok(ExitCode::SUCCESS);
    }
    let before = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read {}; `--print` prints the section instead", path.display())
    })?;
    let after = with_key(&before, &key, arguments)
        .with_context(|| format!("nothing was added to {}", path.display()))?;
    if let Err(problems) = config::parse(&path.to_string_lossy(), &after, &config::environment) {
        show(&problems.render(false));
        bail!("nothing was added: {} problem(s) in {}", problems.len(), path.display());
    }
    super::file::replace(path, &after)?;
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

/// The configuration with the key in it; all else stays as it is written.
///
/// # Errors
/// The text is not TOML, or has something else in the place of the key.
fn with_key(before: &str, key: &NewKey, arguments: &Arguments) -> anyhow::Result<String> {
    let mut file: DocumentMut = before.parse()?;
    // The text behind the last section stays before a new one.
    let end = match file.contains_key("auth") {
        true => String::new(),
        false => file.trailing().as_str().unwrap_or_default().to_owned(),
    };
    if !end.is_empty() {
        file.set_trailing("");
    }
    let auth = table(file.as_table_mut(), "auth")?;
    auth.set_implicit(true);
    let known = auth.contains_key(&arguments.auth);
    let authority = table(auth, &arguments.auth)?;
    if !known {
        authority.insert("kind", "keys".into());
        authority.decor_mut().set_prefix(format!("{end}\n"));
    }
    let keys = table(authority, "keys")?;
    keys.set_implicit(true);
    let mut section = section(key, arguments);
    section.decor_mut().set_prefix("\n");
    keys.insert(&key.id, Item::Table(section));
    Ok(file.to_string())
}

/// The key's section by itself.
fn alone(key: &NewKey, arguments: &Arguments) -> String {
    let mut item = Item::Table(section(key, arguments));
    for name in [&key.id, "keys", &arguments.auth, "auth"] {
        let mut table = Table::new();
        table.set_implicit(true);
        table.insert(name, item);
        item = Item::Table(table);
    }
    item.into_table().map(|root| DocumentMut::from(root).to_string()).unwrap_or_default()
}

/// The table of a key, made where there is none. One that is written in braces becomes a section.
fn table<'t>(parent: &'t mut Table, key: &str) -> anyhow::Result<&'t mut Table> {
    let item = parent.entry(key).or_insert_with(|| Item::Table(Table::new()));
    if let Item::Value(Value::InlineTable(inline)) = item {
        *item = Item::Table(std::mem::take(inline).into_table());
    }
    item.as_table_mut().with_context(|| format!("`{key}` is no section"))
}

/// The section of a key.
fn section(key: &NewKey, arguments: &Arguments) -> Table {
    let mut section = Table::new();
    section.insert("hash", key.hash.as_str().into());
    section.insert("caller", arguments.caller.as_str().into());
    if let Some(label) = &arguments.label {
        section.insert("label", label.as_str().into());
    }
    for (key, words) in [("groups", &arguments.groups), ("scopes", &arguments.scopes)] {
        if !words.is_empty() {
            section.insert(key, Array::from_iter(words).into());
        }
    }
    if let Some(days) = arguments.days {
        let until = clock::unix_seconds().saturating_add(days.saturating_mul(DAY_SECONDS));
        section.insert("expires", clock::rfc3339(until).into());
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(auth: &str) -> Arguments {
        Arguments {
            caller: "c\"i".to_owned(),
            auth: auth.to_owned(),
            label: Some("nightly".to_owned()),
            groups: vec!["build".to_owned()],
            scopes: Vec::new(),
            days: None,
            print: false,
        }
    }

    #[test]
    fn a_key_is_added_to_a_file_of_any_form() {
        let key = NewKey::make();
        for before in [
            "",
            "# Nothing yet.\n",
            "[routes.\"/\"]\nupstreams = [\"*\"] # all\n\n# The end.",
            "[auth.keys]\nkind = \"keys\"\n\n[auth.keys.keys.old]\nhash = \"h\" # mine\n[server]\n",
            "[server]\n[auth.\"keys\"] # of agents\nkind = \"keys\"\n",
            "auth.keys.kind = \"keys\"\n",
            "auth = { keys = { kind = \"keys\" } }\n",
            "[auth]\nkeys = { kind = \"keys\", keys = { old = { hash = \"h\" } } }\n",
            "[auth.other]\nkind = \"jwt\"\n# The end.\n",
        ] {
            let after = with_key(before, &key, &arguments("keys")).unwrap();
            let file: toml::Table = after.parse().expect(&after);
            let keys = &file["auth"]["keys"];
            assert_eq!(keys["kind"].as_str(), Some("keys"), "{after}");
            assert_eq!(keys["keys"][&key.id]["caller"].as_str(), Some("c\"i"), "{after}");
            assert_eq!(keys["keys"].get("old").is_some(), before.contains("old"), "{after}");
            for comment in before.split('#').skip(1).filter_map(|rest| rest.lines().next()) {
                assert!(after.contains(&format!("#{comment}")), "{comment} in {after}");
            }
        }
        with_key("auth = 7", &key, &arguments("keys")).unwrap_err();
        with_key("[auth", &key, &arguments("keys")).unwrap_err();
    }

    #[test]
    fn a_section_alone_has_the_key_only() {
        let key = NewKey::make();
        let text = alone(&key, &arguments("agents"));
        assert!(text.starts_with(&format!("[auth.agents.keys.{}]\nhash = ", key.id)), "{text}");
        assert!(!text.contains("kind") && text.contains("groups = [\"build\"]"), "{text}");
    }
}
