//! The `routes.toml` that imported servers are written to: a new one, or one that is there.

use std::collections::HashSet;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::{entry::ImportedServer, name};

/// The route that a new file has, and that servers are added to unless another one is named.
const ROUTE: &str = "/mcp";

/// The name of the built-in upstream.
const GATE: &str = "gate";

/// The head of a new file.
const HEAD: &str = "\
# Made by `tollgate import`. `tollgate check` says what is wrong with this file, `tollgate schema`
# what it may say.

[server]
listen = \"127.0.0.1:8080\"

# One endpoint for all: give clients http://127.0.0.1:8080/mcp
[routes.\"/mcp\"]
upstreams = []
";

/// The built-in upstream.
const BUILTIN: &str = "
# Built in: shows agents the gate itself, which upstreams it has and how they are.
[upstreams.gate]
builtin = \"gate\"
";

/// A server and the file that it is from.
#[derive(Debug)]
pub struct ReadServer {
    pub file: String,
    pub entry: ImportedServer,
}

/// The file that servers are written to.
#[derive(Debug, Default)]
pub struct OutputFile<'a> {
    /// The text of the file that is there; none: a new one is made.
    pub before: Option<&'a str>,
    /// The path of the route that has them.
    pub route: Option<&'a str>,
    /// Whether the built-in upstream is added.
    pub gate: bool,
}

/// The whole text of the file with the servers in it, and what to know of how it was made.
///
/// # Errors
/// Why they cannot be added to the file that is there.
pub fn write(
    servers: Vec<ReadServer>,
    target: &OutputFile<'_>,
) -> Result<(String, Vec<String>), String> {
    let before = target.before.unwrap_or(HEAD);
    let mut file: DocumentMut =
        before.parse().map_err(|error| format!("the file to add to is not TOML: {error}"))?;
    opened(&mut file);
    let mut taken = names(&file);
    let mut added = Vec::new();
    let mut sections = String::new();
    let mut notes = Vec::new();
    if target.gate && !has_gate(&file) {
        added.push(name::unused(GATE, &mut taken));
        sections.push_str(&BUILTIN.replace(GATE_HEADER, &header(added.last().map_or(GATE, |n| n))));
    }
    let mut written: Vec<(String, Vec<String>, String)> = Vec::new();
    for ReadServer { file: from, entry } in servers {
        let note = |name: &str, text: &str| format!("{from}: {name}: {text}");
        let there =
            written.iter().find(|(given, lines, _)| *given == entry.given && *lines == entry.lines);
        if entry.off.is_none()
            && let Some(name) = there.map(|(.., name)| name.clone()).or_else(|| same(&file, &entry))
        {
            notes.push(note(&name, "is there already, with the same keys"));
            continue;
        }
        let name = name::unused(&entry.given, &mut taken);
        notes
            .extend((name != entry.given).then(|| {
                note(&name, &format!("was called {}", Value::from(entry.given.as_str())))
            }));
        notes.extend(entry.notes.iter().map(|text| note(&name, text)));
        if let Some(why) = &entry.off {
            notes.push(note(&name, &format!("is only a comment in the file: {why}")));
        }
        sections.push_str(&section(&name, &entry));
        if entry.off.is_none() {
            added.push(name.clone());
            written.push((entry.given, entry.lines, name));
        }
    }
    if target.before.is_none() && added.is_empty() {
        let why = notes.iter().map(|note| format!("\n  {note}")).collect::<String>();
        return Err(format!("none of the servers can be used:{why}"));
    }
    listed(&mut file, target.route, &added)?;
    let mut text = file.to_string();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok((text + &sections, notes))
}

/// The line of [`BUILTIN`] that has its name.
const GATE_HEADER: &str = "[upstreams.gate]";

fn header(name: &str) -> String {
    format!("[upstreams.{name}]")
}

/// The section of one server: one that is off is a comment.
fn section(name: &str, entry: &ImportedServer) -> String {
    let body = format!("{}\n{}", header(name), entry.lines.join("\n"));
    match &entry.off {
        None => format!("\n{}\n", body.trim_end()),
        Some(why) => {
            let why = why.replace(char::is_control, " ");
            let lines = body.trim_end().lines().map(|line| format!("# {line}\n"));
            format!("\n# Off: {why}.\n{}", lines.collect::<String>())
        }
    }
}

/// Makes `upstreams` a table that sections may be added to at the end of the file.
fn opened(file: &mut DocumentMut) {
    if let Some(item) = file.get_mut("upstreams")
        && let Some(inline) = item.as_inline_table()
    {
        *item = Item::Table(inline.clone().into_table());
    }
}

fn upstreams(file: &DocumentMut) -> Option<&dyn TableLike> {
    file.get("upstreams")?.as_table_like()
}

fn names(file: &DocumentMut) -> HashSet<String> {
    let names =
        upstreams(file).map(|table| table.iter().map(|(name, _)| name.to_owned()).collect());
    names.unwrap_or_default()
}

fn has_gate(file: &DocumentMut) -> bool {
    let is_gate = |item: &Item| item.get("builtin").and_then(Item::as_str) == Some(GATE);
    upstreams(file).is_some_and(|table| table.iter().any(|(_, item)| is_gate(item)))
}

/// The server's name, if the file has a section of that name that says the same.
fn same(file: &DocumentMut, entry: &ImportedServer) -> Option<String> {
    let name = name::valid(&entry.given);
    let there = upstreams(file)?.get(&name)?;
    let values = |text: &str| text.parse::<toml::Table>().ok();
    let new = values(&entry.lines.join("\n"))?;
    let mut alone = DocumentMut::new();
    for (key, item) in there.as_table_like()?.iter() {
        alone.insert(key, item.clone());
    }
    (values(&alone.to_string())? == new).then_some(name)
}

/// Adds names to the list of a route.
fn listed(file: &mut DocumentMut, route: Option<&str>, added: &[String]) -> Result<(), String> {
    if added.is_empty() {
        return Ok(());
    }
    let routes = file.entry("routes").or_insert_with(|| {
        let mut routes = Table::new();
        routes.set_implicit(true);
        Item::Table(routes)
    });
    let routes = routes.as_table_like_mut().ok_or("`routes` of the file to add to is no table")?;
    let paths: Vec<String> = routes.iter().map(|(path, _)| path.to_owned()).collect();
    let path = match (route, paths.as_slice()) {
        (Some(route), _) if paths.iter().any(|path| path == route) => route.to_owned(),
        (Some(route), _) if route.starts_with('/') => route.to_owned(),
        (Some(route), _) => return Err(format!("`{route}` is no path of a route: begin with /")),
        (None, paths) if paths.iter().any(|path| path == ROUTE) => ROUTE.to_owned(),
        (None, []) => ROUTE.to_owned(),
        (None, [only]) => only.clone(),
        (None, paths) => {
            return Err(format!("name the route with --route: it has {}", paths.join(", ")));
        }
    };
    let route = routes.entry(&path).or_insert_with(|| Item::Table(Table::new()));
    let route = route.as_table_like_mut().ok_or(format!("`routes.\"{path}\"` is no table"))?;
    let list = route.entry("upstreams").or_insert_with(|| Item::Value(Array::new().into()));
    let list = list.as_array_mut().ok_or(format!("`upstreams` of {path} is no list"))?;
    if !list.iter().any(|one| one.as_str() == Some("*")) {
        added.iter().for_each(|name| append(list, name));
    }
    Ok(())
}

/// Adds a name as the ones before it stand there: in a line of its own, or in theirs. A comment
/// behind the last one stays behind it.
fn append(list: &mut Array, name: &str) {
    let last = list.len().checked_sub(1).and_then(|last| list.get_mut(last));
    let mut before = None;
    let mut after = String::new();
    if let Some(last) = last {
        let part = |part: Option<&toml_edit::RawString>| {
            part.and_then(|part| part.as_str()).unwrap_or_default().to_owned()
        };
        before = Some(part(last.decor().prefix()));
        after = part(last.decor().suffix());
        last.decor_mut().set_suffix("");
    }
    after.push_str(list.trailing().as_str().unwrap_or_default());
    let indent = match before {
        None => Some("    "),
        Some(ref before) => before.rsplit('\n').next().filter(|_| before.contains('\n')),
    };
    let indent = indent.or_else(|| after.contains('\n').then_some("    "));
    let mut value = Value::from(name);
    match indent {
        Some(indent) => {
            let comment = Some(after.trim_end()).filter(|text| text.contains('#'));
            value.decor_mut().set_prefix(format!("{}\n{indent}", comment.unwrap_or_default()));
            let end = after.rsplit_once('\n').map_or("", |(_, end)| end);
            list.set_trailing(format!("\n{end}"));
            list.set_trailing_comma(true);
        }
        None => {
            value.decor_mut().set_prefix(" ");
            list.set_trailing(after);
        }
    }
    value.decor_mut().set_suffix("");
    list.push_formatted(value);
}
